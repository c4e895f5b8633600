"""Which answers are nearly the same: a list for a person to look at, and no verdict.

Answers are compared as Python, without comments, docstrings and names (whoever renames variables changes nothing): the
sequence of tokens is cut into overlapping pieces, and two answers are as alike as the share of pieces that they have in
common (Broder 1997, "On the resemblance and containment of documents"; Schleimer, Wilkerson and Aiken 2003,
"Winnowing"). Pieces of the release's own stub and solution, and those that many answers have, are what everybody
writes, and are taken out first.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from course.grading.release import Release, plan_answer

PIECE = 6  # tokens
ALIKE = 0.8
FEWEST = 12  # pieces that must be left, or there is too little to say
COMMON = 0.25  # of the answers


@dataclass(frozen=True)
class Pair:
    gap: str
    first: str
    second: str
    alike: float


def similar(release: Release, answers: Mapping[str, Mapping[str, str]]) -> list[Pair]:
    """Pairs of submissions with nearly the same answer to a gap, the most alike first.

    Args:
        answers: for each submission its answers by gap.
    """
    found: list[Pair] = []
    for gap in release.gaps:
        own = pieces(gap.answer) | pieces(gap.stub)
        sets = {name: pieces(given[gap.name]) - own for name, given in answers.items() if gap.name in given}
        counts = Counter(piece for kept in sets.values() for piece in kept)
        most = max(3, COMMON * len(sets))
        sets = {name: {piece for piece in kept if counts[piece] <= most} for name, kept in sets.items()}
        sets = {name: kept for name, kept in sets.items() if len(kept) >= FEWEST}
        holders: dict[int, list[str]] = {}
        for name, kept in sets.items():
            for piece in kept:
                holders.setdefault(piece, []).append(name)
        shared = Counter(
            (first, second)
            for names in holders.values()
            for place, first in enumerate(names)
            for second in names[place + 1 :]
        )
        for (first, second), common in shared.items():
            alike = common / (len(sets[first]) + len(sets[second]) - common)
            if alike >= ALIKE:
                found.append(Pair(gap.name, first, second, alike))
    return sorted(found, key=lambda pair: (-pair.alike, pair.gap, pair.first, pair.second))


def pieces(source: str) -> set[int]:
    """Hashes of all runs of PIECE tokens; none for what is no Python."""
    try:
        tree = ast.parse(plan_answer(source))
        for node in ast.walk(tree):
            if (
                isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module))
                and ast.get_docstring(node, clean=False) is not None
            ):
                node.body = node.body[1:] or [ast.Pass()]
        text = ast.unparse(tree)
        tokens = [_kind(token) for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return set()
    return {hash(tuple(tokens[place : place + PIECE])) for place in range(len(tokens) - PIECE + 1)}


def _kind(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
        return "name"
    if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
        return tokenize.tok_name[token.type]
    return token.string
