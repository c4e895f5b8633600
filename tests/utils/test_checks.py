"""The helpers of the labs' checks: what they let through, and what they say of what they do not."""

import sys

import numpy as np
import pytest
from keras import ops

from utils import arithmetic, checks
from utils.checks import agree, numbers, own_work, parts


def said(function, *arguments, **options):
    with pytest.raises(AssertionError) as told:
        function(*arguments, **options)
    return str(told.value)


@pytest.mark.parametrize(
    "got", [[[1, 2], [3, 4]], ((1, 2), (3, 4.00001)), np.array([[1, 2], [3, 4]], "uint8"), [np.arange(1, 3), (3, 4)]]
)
def test_the_same_numbers_pass_in_any_container(got):
    assert agree(got, [[1, 2], [3, 4]], "")
    assert agree(ops.convert_to_tensor(np.asarray(got, "float32")), [[1, 2], [3, 4]], "")


def test_numbers_without_axes():
    assert agree(3, 3.0, "") and agree(True, 1, "") and agree([], [], "")
    assert said(agree, 2, 3, "count again") == "expected 3, got 2. count again"


def test_the_first_difference_is_told_with_its_place_and_their_number():
    text = said(agree, [[1, 2], [9, 5]], [[1, 2], [3, 4]], "rows come first")
    assert text == "2 of 4 numbers differ: expected 3, got 9 at (1, 0). rows come first"


def test_a_shape_is_told_before_values():
    assert said(agree, [1, 2], [[1, 2]], "one row") == "expected the shape (1, 2), got (2,): one row"
    assert said(agree, [7], 7, "a number") == "expected the shape (), got (1,): a number"


@pytest.mark.parametrize(
    "got, words",
    [
        (None, "returned None: has it a return?"),
        ("a", "expected numbers, got 'a'"),
        ([[1], [1, 2]], "got [[1], [1, 2]]"),
    ],
)
def test_what_is_no_number_is_told_with_the_shape(got, words):
    text = said(agree, got, [1, 2], "two numbers")
    assert words in text and text.endswith("; expected the shape (2,): two numbers")


@pytest.mark.parametrize("got", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_differ_from_numbers_and_agree_with_themselves(got):
    assert "got " in said(agree, [1, got], [1, 2], "")
    assert agree([1, got], [1, got], "")


def test_tolerances():
    assert agree(1000.05, 1000, "") and said(agree, 1000.2, 1000, "")
    assert said(agree, 1000.05, 1000, "", rtol=0, atol=1e-4)
    assert agree(1e-4, 0, "") and said(agree, 1e-4, 0, "", atol=1e-5)
    assert said(agree, [0, 1000.0], [0.05, 1000], "") and agree([0, 1000.0], [0.05, 1000], "", scaled=True)
    assert said(agree, [2e-4, 0], [0, 0], "", scaled=True) and agree([], [], "", scaled=True)


def test_a_known_mistake_is_named_where_it_was_made():
    mistakes = [("transposed", [[1, 3], [2, 4]]), ("another shape", [1]), ("doubled", [[2, 4], [6, 8]])]
    expected = [[1, 2], [3, 4]]
    assert said(agree, np.transpose(expected), expected, "the hint", mistakes).endswith(". transposed")
    assert said(agree, np.multiply(expected, 2), expected, "the hint", mistakes).endswith(". doubled")
    assert said(agree, np.zeros((2, 2)), expected, "the hint", mistakes).endswith(". the hint")


def test_numbers_are_float64():
    assert numbers(ops.convert_to_tensor([1, 2])).dtype == "float64" and numbers([True]).tolist() == [1.0]
    assert "None" in said(numbers, None) and "expected numbers, got {}" in said(numbers, {})


def test_parts():
    assert parts((1, 2), "a", "b") == (1, 2) and parts([1], "a") == [1]
    assert len(parts(np.zeros((2, 3)), "a", "b")) == 2
    uneven = (1.0, np.zeros((2, 3)))
    assert parts(uneven, "the loss", "the gradient") is uneven
    assert said(parts, np.array(2.0), "a", "b").endswith("got ndarray")
    assert said(parts, (1, 2, 3), "a", "b") == "expected 2 things (a, b), got 3 in a list"
    assert said(parts, 5.0, "a", "b").endswith("got float") and said(parts, np.float32(1), "a").endswith("got float32")


def test_work_of_the_course_is_noticed():
    def borrowed(x):
        return arithmetic.conv2d(x, np.ones((1, 1, 1, 1)))

    def calls_nothing(x):
        return x + 1

    x = np.ones((3, 3, 1))
    assert own_work(calls_nothing, x, of=arithmetic)
    text = said(own_work, borrowed, x, of=arithmetic)
    assert text == "your function calls conv2d, output_size of utils.arithmetic: write it yourself"
    assert own_work(borrowed, x, of=arithmetic, names={"another"})


def test_whoever_watched_before_watches_again():
    def fails():
        raise KeyError("x")

    before = sys.getprofile()
    with pytest.raises(KeyError):
        own_work(fails, of=checks, names=())
    assert sys.getprofile() is before
