"""Gathers the pages of the site into build/site/source, for Sphinx: `make site` calls it after `course run`.

    python docs/gather.py --profile cpu

Lectures and solutions come with the outputs of their last run in that profile, labs as they are handed out. The pages
between them are made here: the first page and one for each topic, the index of figures, what the lectures found wrong
in slides, and the reference of `utils`. The others lie beside this file.
"""

import argparse
import ast
import base64
import json
import pkgutil
import re
import shutil
from pathlib import Path

from course import manifest as course_manifest
from course.errors import CourseError
from course.notebook import pictures, python_nodes, read_notebook, tags
from course.reporting import report

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "site" / "source"
SLIDES = ROOT / "build" / "slides"
EXTRA = "_extra"  # what Sphinx copies as it is
BADGE = re.compile(r"\n?\[!\[Open In Colab\][^\n]*\n")
CLAIM = re.compile(r"^> \*\*What the slides? says?(?:, judged)?\.\*\*.*(?:\n>.*)*", re.MULTILINE)
# Outputs that need a script from elsewhere; the still picture or the table beside them stays.
SCRIPTED = ("application/vnd.jupyter.widget-view+json", "application/vnd.course.results+json")
SMALL = 360, 240  # pixels of a picture in an index


def slug(heading):
    """The anchor that MyST gives a heading: GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def plain(heading):
    """A heading's words without marks."""
    return re.sub(r"[*_`$]|\\(?=\W)", "", heading).strip()


class Page:
    """A notebook as a page: its cells, and for each cell the heading above it."""

    def __init__(self, notebook, path):
        self.notebook, self.kind = notebook, notebook.kind
        self.content = read_notebook(path, str(path.relative_to(ROOT)))
        self.name = f"{notebook.kind}s/{notebook.stem}"
        self.headings, heading = [], ""
        for cell in self.content["cells"]:
            if cell["cell_type"] == "markdown":
                found = re.findall(r"^#{1,4} (.+)$", re.sub(r"```.*?```", "", cell["source"], flags=re.DOTALL), re.M)
                heading = found[-1] if found else heading
            self.headings.append(heading)

    def cells(self):
        return zip(self.content["cells"], self.headings)

    def link(self, heading):
        return f"/{self.name}.ipynb#{slug(heading)}"

    def pictures(self):
        """(heading, PNG bytes, whether it is the thumbnail) of every picture that a cell shows."""
        for cell, heading in self.cells():
            for encoded in pictures(cell):
                yield heading, base64.b64decode(encoded), "thumbnail" in tags(cell)

    def claims(self):
        """(heading, text) of every box that says what a slide says."""
        for cell, heading in self.cells():
            if cell["cell_type"] == "markdown":
                for box in CLAIM.findall(cell["source"]):
                    yield heading, box

    def write(self, around):
        """The notebook for MyST-NB, with a line of links below its title."""
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        self.content["metadata"] = kernel | {"language_info": {"name": "python"}}
        for number, (cell, heading) in enumerate(self.cells()):
            labels = tags(cell)
            if cell["cell_type"] == "markdown":
                cell["source"] = BADGE.sub("\n", cell["source"])
                if number == 0:
                    title, _, rest = cell["source"].partition("\n")
                    cell["source"] = f"{title}\n\n{around}\n\n{rest.strip()}"
            cell["metadata"] = {"mystnb": {"image": {"alt": plain(heading)}}}
            if {"setup", "parameters"} & set(labels):
                cell["metadata"]["tags"] = ["hide-input"]
            for output in cell.get("outputs", ()):
                for kind in SCRIPTED:
                    output.get("data", {}).pop(kind, None)
        path = SOURCE / f"{self.name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.content, ensure_ascii=False), encoding="utf-8")


def written(path, content):
    path = SOURCE / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def around(topic, kind, topics, used):
    """Links to the topic's other notebooks, to the topics before and after, and to the modules that this one uses."""
    place = topics.index(topic)
    others = [f"[{other}](/{other}s/{topic.name}.ipynb)" for other in ("lecture", "lab", "solution") if other != kind]
    beside = [("before: ", place - 1), ("next: ", place + 1)]
    others += [
        f"{word}[{topics[at].number:02d}](/{kind}s/{topics[at].name}.ipynb)"
        for word, at in beside
        if 0 <= at < len(topics)
    ]
    modules = " · ".join(f"[`{name}`](/reference/{name}.md)" for name in used)
    reference = f"\n\nUses {modules}" if used else ""
    return f"[Topic {topic.number:02d}](/topics/{topic.name}.md) · " + " · ".join(others) + reference


def card(topic, picture):
    return f""":::{{container}} card
[![{topic.title}]({picture})](/topics/{topic.name}.md)

**{topic.number:02d} [{topic.title}](/topics/{topic.name}.md)**

{topic.about}
:::
"""


def shows(topic):
    """A line of links to the lecture's slide show and its PDF file, copied into the site if `make slides` made them."""
    links = []
    for kind, words in (("html", "Slides"), ("pdf", "as a PDF file")):
        made = SLIDES / f"{topic.name}.{kind}"
        if made.is_file():
            written(f"{EXTRA}/shows/{made.name}", made.read_bytes())
            links.append(f'<a href="../shows/{made.name}">{words}</a>')  # no page of Sphinx's, so no link of MyST's
    return f"\n- {', '.join(links)}." if links else ""


def topic_page(topic, gallery, used):
    modules = "\n".join(f"- [`{name}`](/reference/{name}.md)" for name in used)
    return f"""# {topic.number:02d} {topic.title}

{topic.about}

- [Lecture](/lectures/{topic.name}.ipynb): to read, and to run.{shows(topic)}
- [Lab](/labs/{topic.name}.ipynb): gaps to fill, and checks that say what is wrong.
- [Solution](/solutions/{topic.name}.ipynb): every gap filled, every question answered.

## Its figures

{gallery}

## What it uses of `utils`

{modules}

```{{toctree}}
:hidden:

Lecture </lectures/{topic.name}>
Lab </labs/{topic.name}>
Solution </solutions/{topic.name}>
```
"""


def imported(page, modules):
    """The modules of `utils` that a notebook imports."""
    names = set()
    for cell, _ in page.cells():
        if cell["cell_type"] == "code":
            for node in python_nodes(cell["source"]):
                if isinstance(node, ast.ImportFrom) and node.module:
                    names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return sorted(names & set(modules) - {"utils"})


def utils_modules():
    """Names of all public modules of `utils`, found without importing them."""
    found = ["utils"]
    for module in pkgutil.walk_packages([str(ROOT / "utils")], "utils.", onerror=lambda name: None):
        if not any(part.startswith("_") for part in module.name.split(".")):
            found.append(module.name)
    return sorted(set(found))


def reference(modules):
    for name in modules:
        written(
            f"reference/{name}.md",
            f"# `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :ignore-module-all:\n```\n",
        )
    listed = "\n".join(modules)
    written(
        "reference/index.md",
        "# Reference of `utils`\n\nWhat the notebooks import. Arrays are NHWC; boxes are `xyxy` in pixels, corners; "
        "every function runs on the TensorFlow, JAX and PyTorch backends of Keras, if its page says nothing else.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="cpu")
    arguments = parser.parse_args()
    course = course_manifest.load(ROOT)
    profile = course.profile(arguments.profile)
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE, ignore=shutil.ignore_patterns("*.py", "__pycache__", "cover.*"))
    shutil.copy(ROOT / "docs" / "conf.py", SOURCE)
    (SOURCE / EXTRA).mkdir()
    facts = {"root": str(ROOT), "title": course.title, "repository": course.repository, "tag": course.tag}
    written("about.json", json.dumps(facts))

    modules = utils_modules()
    reference(modules)
    cards, figures, claims, listed = [], [], [], []
    for topic in course.topics:
        lecture, lab, solution = (
            Page(notebook, notebook.path if notebook.kind == "lab" else report.passed(course, notebook, profile.name))
            for kind in ("lecture", "lab", "solution")
            for notebook in course.notebooks([kind])
            if notebook.topic == topic
        )
        gallery, thumbnail = [], ""
        for number, (heading, png, chosen) in enumerate(lecture.pictures(), 1):
            name = f"/_figures/{topic.number:02d}-{number:02d}.webp"
            written(name[1:], report.shrunk(png, SMALL))
            thumbnail = name if chosen or not thumbnail else thumbnail
            gallery.append(f"[![{plain(heading)}]({name})]({lecture.link(heading)})")
        shown = ":::{container} gallery\n" + "\n".join(gallery) + "\n:::\n"
        used = sorted({*imported(lecture, modules), *imported(solution, modules)})
        written(f"topics/{topic.name}.md", topic_page(topic, shown, used))
        cards.append(card(topic, thumbnail))
        figures.append(f"## {topic.number:02d} {topic.title}\n\n{shown}")
        boxes = [f"From [{plain(heading)}]({lecture.link(heading)}):\n\n{box}" for heading, box in lecture.claims()]
        if boxes:
            claims.append(f"## {topic.number:02d} {topic.title}\n\n" + "\n\n".join(boxes))
        listed.append(f"topics/{topic.name}")
        for page in (lecture, lab, solution):
            page.write(around(topic, page.kind, course.topics, imported(page, modules)))

    notice = f":::{{important}}\n{profile.notice}\n:::\n" if profile.notice else ""
    first = (SOURCE / "index.md").read_text(encoding="utf-8")
    first = first.replace("<!-- notice -->", notice).replace("<!-- topics -->", "\n".join(cards))
    written("index.md", first.replace("<!-- list -->", "\n".join(listed)))
    written("figures.md", "# Index of figures\n\nEach picture leads to its place.\n\n" + "\n".join(figures))
    about = (SOURCE / "slides.md").read_text(encoding="utf-8")
    written("slides.md", about + "\n" + "\n\n".join(claims) + "\n")
    print(f"{SOURCE.relative_to(ROOT)}: {len(course.topics)} topics, {len(modules)} modules, profile {profile.name}")


if __name__ == "__main__":
    try:
        main()
    except CourseError as error:
        raise SystemExit(f"docs/gather.py: {error}") from None
