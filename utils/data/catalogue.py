"""The data sets by name."""

import difflib
import functools
import os

_SOURCES = {}


def register(name):
    """Puts a data set on the list: its file holds the function that makes its source, and everything else that belongs
    to it.

    The function takes the variant, what follows the slash in "glyphs/greek", or nothing where there are no variants; it
    returns a source, as `utils.data.sources` has it.

    Raises:
        ValueError: the name is taken.
    """

    def decorate(make):
        if name in _SOURCES:
            raise ValueError(f"the data set {name} is registered twice")
        _SOURCES[name] = make
        return make

    return decorate


def names():
    """The names that `load`, `arrays` and `describe` know; the path of a folder of pictures serves as well
    (`utils.data.folders`).
    """
    return tuple(sorted(_SOURCES))


def describe(name, on_error="raise"):
    """What a data set holds and where it comes from.

    Args:
        name: one of `names()`, a variant of one ("glyphs/greek"), or the path of a folder.
        on_error: for a folder with pictures that cannot be used: "raise" an error that lists them, or "skip" them with
            a warning.

    Returns:
        `Description`.

    Raises:
        ValueError: the name is unknown, or the folder cannot be read as pictures with their truth.
        FileNotFoundError: it is a path, and there is nothing.
    """
    return find(name, on_error).description


def find(name, on_error="raise"):
    """The source of that name or path. Arguments and errors as for `describe`."""
    name = os.fspath(name)
    base, _, variant = name.partition("/")
    if base in _SOURCES:
        return _source(base, variant)
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        from utils.data.folders import folder

        return folder(name, on_error)
    near = difflib.get_close_matches(base.lower(), names(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    known = f"known: {', '.join(names())}, or the path of a folder of pictures"
    if os.path.exists(path):
        raise ValueError(f"{name} is a file: a data set is a folder of pictures (unpack an archive first)")
    if os.sep in name or "/" in name or name.startswith(("~", ".")):
        raise FileNotFoundError(f"there is no folder {name}: {hint}{known}")
    raise ValueError(f"unknown data set {name!r}: {hint}{known}")


@functools.cache
def _source(base, variant):
    make = _SOURCES[base]
    if variant and not (variants := make().description.variants):
        raise ValueError(f"{base} has no variants, so no {variant!r}")
    elif variant and f"{base}/{variant}" not in variants:
        raise ValueError(f"unknown variant {base}/{variant}: known: {', '.join(variants)}")
    return make(variant) if variant else make()
