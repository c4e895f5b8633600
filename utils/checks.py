"""What the checks of the labs compare answers with. A check that fails says what was returned and what was expected."""

import sys
from pathlib import Path

import numpy as np
from keras import ops


def numbers(value):
    """A tensor, an array or (nested) lists as a float64 NumPy array.

    Raises:
        AssertionError: None, or what is not made of numbers.
    """
    assert value is not None, "the function returned None: has it a return?"
    try:
        return np.asarray(ops.convert_to_numpy(value), "float64")
    except (TypeError, ValueError):
        raise AssertionError(f"expected numbers, got {value!r:.70}") from None


def agree(got, expected, hint, mistakes=(), rtol=1e-4, atol=None, scaled=False):
    """Whether an answer has the shape and the values that are expected.

    Args:
        got: the answer: a tensor, an array, a number or nested lists.
        expected: array or nested lists of numbers.
        hint: text, what was tried or what to think of; it ends the message.
        mistakes: pairs of a known mistake, in words, and the values that it gives: the words take the hint's place
            where they are the values returned.
        rtol, atol: values may differ by atol + rtol * |expected|, as for `numpy.isclose`; atol None: as large as rtol.
        scaled: whether atol counts in the largest absolute expected value.

    Returns:
        True, so that `assert agree(...)` reads as a check.

    Raises:
        AssertionError: what differs, first the shapes, then how many values, with the first of them and its place.
    """
    expected = numbers(expected)
    try:
        got = numbers(got)
    except AssertionError as error:
        raise AssertionError(f"{error}; expected the shape {expected.shape}: {hint}") from None
    assert got.shape == expected.shape, f"expected the shape {expected.shape}, got {got.shape}: {hint}"
    atol = rtol if atol is None else atol
    if scaled and expected.size:
        atol *= np.abs(expected).max() or 1
    near = {"rtol": rtol, "atol": atol, "equal_nan": True}
    wrong = np.argwhere(~np.isclose(got, expected, **near))
    if len(wrong):
        for name, values in mistakes:
            values = numbers(values)
            hint = name if values.shape == got.shape and np.allclose(got, values, **near) else hint
        place = tuple(wrong[0].tolist())
        first = f"expected {expected[place]:g}, got {got[place]:g}"
        if place:
            first = f"{len(wrong)} of {got.size} numbers differ: {first} at {place}"
        raise AssertionError(f"{first}. {hint}")
    return True


def parts(answer, *names):
    """The parts of an answer of several things: a tuple, a list, or an array that is stacked of them.

    Args:
        answer: what was returned.
        names: of the things that were asked for, for the message.

    Returns:
        `answer`.

    Raises:
        AssertionError: there are more or fewer.
    """
    listed = isinstance(answer, (tuple, list)) or (isinstance(answer, np.ndarray) and answer.ndim > 0)
    returned = f"{len(answer)} in a list" if listed else type(answer).__name__
    asked = f"expected {len(names)} things ({', '.join(names)}), got {returned}"
    assert listed and len(answer) == len(names), asked
    return answer


def own_work(function, *arguments, of, names=None):
    """Whether a function does its work without what the course has ready.

    Args:
        function: called once with the arguments.
        arguments: of the call.
        of: package of the course, such as `utils.arithmetic`.
        names: names of its functions that may not be called; None: all that it offers (`__all__`).

    Returns:
        True.

    Raises:
        AssertionError: the functions that the call ran through.
    """
    folder, ready, used = str(Path(of.__file__).parent), set(of.__all__ if names is None else names), set()

    def watch(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(folder):
            used.update({frame.f_code.co_name} & ready)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        function(*arguments)
    finally:
        sys.setprofile(before)
    assert not used, f"your function calls {', '.join(sorted(used))} of {of.__name__}: write it yourself"
    return True
