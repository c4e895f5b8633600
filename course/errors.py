"""The one exception that a user sees as a line, and how names are told in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class CourseError(Exception):
    """A mistake of the user's, told in one line. `code` is the exit status: 2 for misuse, 1 for a failed course."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(" ".join(message.split("\n")))
        self.code = code


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one, if any does; a part of a name counts as its whole."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return close[0]
    words = {word: whole for whole in known for word in re.split(r"[_\W]+", whole) if len(word) > 2}
    close = difflib.get_close_matches(name, list(words), n=1, cutoff=0.6)
    return words[close[0]] if close else None


def known_names(name: str, known: Iterable[str]) -> str:
    """`known: a, b; did you mean b?`"""
    known = list(known)
    close = nearest(name, known)
    return f"known: {', '.join(known) or 'none'}" + (f"; did you mean {close}?" if close else "")


def shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
