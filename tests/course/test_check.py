from course.check import check
from course.manifest import load


def test_the_mini_course_has_no_findings(mini):
    findings, summary = check(load(mini))
    assert [str(finding) for finding in findings] == []
    assert summary.startswith("3 notebooks, no findings")
