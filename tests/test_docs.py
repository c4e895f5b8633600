"""The pages in Markdown say what is there: links lead to files and headings, commands and make targets exist."""

import re
from pathlib import Path

import pytest
import yaml

from course.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").glob("*.md")])
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands}
# The site makes these from the notebooks.
MADE = {"docs/figures.md", "docs/reference/index.md"}


def anchors(text):
    """The headings of a page as GitHub addresses them."""
    without_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#{1,4} (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for address in re.findall(r"\]\((?!https?:)([^)]*)\)", text):
        path, _, anchor = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.is_relative_to(ROOT) and target.relative_to(ROOT).as_posix() in MADE:
            continue
        assert target.exists(), f"{page.name}: {address} leads nowhere"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name}: no heading for {address}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```(?:sh)?\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text))
    assert {*re.findall(r"(?<![\w/.-])make ([a-z]+)", code)} <= TARGETS
    named = {*re.findall(r"(?<![\w.-])course ([a-z]+)", code)}
    assert named <= COMMANDS, f"{page.name}: no command {', '.join(named - COMMANDS)}"


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_workflows_and_forms_are_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
