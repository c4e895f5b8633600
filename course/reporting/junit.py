"""JUnit XML, the format in which CI systems show results: a case for each notebook and for each of its metrics."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

from course.manifest import Profile

# What XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(outcomes: Iterable[Any], title: str, profile: Profile, started: float) -> bytes:
    """One suite with the outcomes of `course.execution.run`; `started` in seconds since 1970."""
    suite = ET.Element("testsuite")
    for outcome in outcomes:
        _notebook(suite, outcome, profile)
    cases = suite.findall("testcase")
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    seconds = sum(float(case.get("time", "0")) for case in cases)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(started))
    suite.attrib = {
        "name": plain(f"{title}, profile {profile.name}"),
        **{name: str(count) for name, count in counts.items()},
        "time": f"{seconds:.3f}",
        "timestamp": stamp,
    }
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"


def _notebook(suite: ET.Element, outcome: Any, profile: Profile) -> None:
    from course.reporting.progress import explain, why

    notebook, result = outcome.notebook, outcome.result
    metrics = {**notebook.bands(profile.name, outcome.parameters), **result.metrics}
    about = [problem for problem in outcome.problems if not problem.startswith("metric ")]
    case = _case(suite, notebook, "execution", result.wall_seconds)
    if result.status == "cancelled":
        ET.SubElement(case, "skipped", message="not run")
        return
    if result.status != "passed":
        error = result.error or {}
        kind = "failure" if result.status == "failed" else "error"
        wrong = ET.SubElement(case, kind, message=plain(why(error)), type=plain(str(error.get("name", result.status))))
        wrong.text = plain("\n".join(explain(outcome, profile)))
        return
    if about:
        ET.SubElement(case, "failure", message=plain("; ".join(about)), type="Budget")
    for name in metrics:
        case = _case(suite, notebook, f"metric {name}", 0.0)
        found = [problem for problem in outcome.problems if problem.startswith(f"metric {name} ")]
        if found:
            ET.SubElement(case, "failure", message=plain("; ".join(found)), type="Metric")


def _case(suite: ET.Element, notebook: Any, name: str, seconds: float) -> ET.Element:
    given = {"classname": plain(notebook.id), "name": plain(name), "file": notebook.relative, "time": f"{seconds:.3f}"}
    return ET.SubElement(suite, "testcase", given)


def plain(text: str) -> str:
    """The text without the characters that XML forbids."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
