"""The data sets by name."""

import difflib
import functools
import importlib
import os

# name: module of `utils.data` and the function in it that makes the source; a function's argument is what follows the slash in a name
SOURCES = {
    "digits": ("embedded", "digits"),
    "glyphs": ("prepared", "glyphs"),
}


def names():
    """The names that `load`, `arrays` and `describe` know; the path of a folder with one subfolder per class serves as well."""
    return tuple(sorted(SOURCES))


def describe(name):
    """What a data set holds and where it comes from.

    Args:
        name: one of `names()`, a variant of one ("glyphs/greek"), or the path of a folder.

    Returns:
        `Description`.

    Raises:
        ValueError: the name is unknown.
        FileNotFoundError: it is a path, and there is nothing.
    """
    return find(name).description


def find(name):
    """The source of that name or path. Errors as for `describe`."""
    name = os.fspath(name)
    base, _, variant = name.partition("/")
    if base in SOURCES:
        return _source(base, variant)
    if looks_like_path(name):
        raise FileNotFoundError(f"no folder {name!r}; a data set is a folder or one of {', '.join(names())}")
    near = difflib.get_close_matches(name.lower(), names(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"unknown data set {name!r}: {hint}known: {', '.join(names())}, or the path of a folder")


def looks_like_path(name):
    """Whether a name that is not in the catalogue is meant as a path."""
    return os.path.exists(name) or "/" in name or os.sep in name or name.startswith(("~", "."))


@functools.cache
def _source(base, variant):
    module, function = SOURCES[base]
    make = getattr(importlib.import_module("utils.data." + module), function)
    return make(variant) if variant else make()
