"""Boxes: IoU and its kin against torchvision's values and by hand, their properties, and what happens at the edges."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from utils import boxes, introspection

KINDS = ("iou", "giou", "diou", "ciou")
UNIT = np.array([[0, 0, 2, 2]], "float32")


def numpy_of(values):
    return ops.convert_to_numpy(values) if ops.is_tensor(values) else values


def both(function, *arrays, **options):
    """The function of NumPy arrays, and the same of tensors; checks that they agree and what type comes back."""
    plain = function(*arrays, **options)
    tensors = function(*(ops.convert_to_tensor(array) for array in arrays), **options)
    assert isinstance(plain, np.ndarray) and ops.is_tensor(tensors)
    assert keras.backend.standardize_dtype(tensors.dtype) == plain.dtype
    np.testing.assert_allclose(numpy_of(tensors), plain, rtol=1e-5, atol=1e-5)
    return plain


coordinates = st.floats(-500, 500, width=32)
sides = st.floats(0, 300, width=32)
some_boxes = st.lists(st.tuples(coordinates, coordinates, sides, sides), min_size=1, max_size=5).map(
    lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows], "float32")
)


# Values


@pytest.mark.parametrize("kind", KINDS)
def test_overlaps_are_torchvisions(golden, kind):
    values = golden("box_iou.npz")
    found = both(getattr(boxes, kind), values["c0_boxes1"], values["c0_boxes2"])
    np.testing.assert_allclose(found, values[f"c0_{kind}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_overlaps_of_points_and_lines_are_defined(golden, kind):
    values = golden("box_iou.npz")
    found = both(getattr(boxes, kind), values["c0_zero_boxes1"], values["c0_zero_boxes2"])
    theirs = values[f"c0_zero_{kind}"]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[np.isfinite(theirs)], theirs[np.isfinite(theirs)], rtol=1e-5, atol=1e-5)
    if kind == "iou":
        assert (found[np.isnan(theirs)] == 0).all()


def test_overlaps_by_hand():
    others = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [4, 0, 6, 2], [1, 0, 3, 2]], "float32")
    np.testing.assert_allclose(both(boxes.iou, UNIT, others), [[1 / 7, 1, 0, 1 / 3]], rtol=1e-6)
    # The boxes around both have 9, 4, 12 and 6 square pixels, of which 2, 0, 4 and 0 are covered by neither.
    np.testing.assert_allclose(both(boxes.giou, UNIT, others), [[1 / 7 - 2 / 9, 1, -1 / 3, 1 / 3]], rtol=1e-6)
    # Squared distances of the centres 2, 0, 16 and 1; squared diagonals 18, 8, 40 and 13. All are squares: CIoU is the
    # same.
    expected = [[1 / 7 - 2 / 18, 1, -16 / 40, 1 / 3 - 1 / 13]]
    np.testing.assert_allclose(both(boxes.diou, UNIT, others), expected, rtol=1e-6)
    np.testing.assert_allclose(both(boxes.ciou, UNIT, others), expected, rtol=1e-6)


def test_areas():
    given = np.array([[1, 2, 4, 6], [3, 3, 3, 9], [5, 5, 4, 9], [5, 5, 4, 4]], "float32")
    np.testing.assert_array_equal(both(boxes.area, given), [12, 0, 0, 0])


# Properties


@given(some_boxes, some_boxes)
def test_iou_is_symmetric_and_in_0_1(a, b):
    found = boxes.iou(a, b)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, boxes.iou(b, a).T, rtol=1e-6)
    for kind in ("giou", "diou"):
        other = getattr(boxes, kind)(a, b)
        assert ((other >= -1 - 1e-6) & (other <= found + 1e-6)).all()
        np.testing.assert_allclose(other, getattr(boxes, kind)(b, a).T, rtol=1e-4, atol=1e-6)
    assert (boxes.ciou(a, b) <= boxes.diou(a, b) + 1e-6).all()


@given(some_boxes)
def test_iou_with_itself_is_1_where_there_is_area(a):
    np.testing.assert_array_equal(np.diagonal(boxes.iou(a, a)), boxes.area(a) > 0)


@pytest.mark.parametrize("kind", KINDS)
@given(a=some_boxes, b=some_boxes, exponent=st.integers(-20, 20))
def test_overlaps_do_not_depend_on_the_unit(kind, a, b, exponent):
    a, b = np.round(a), np.round(b)  # so that no area underflows
    found = getattr(boxes, kind)(a, b)
    np.testing.assert_allclose(getattr(boxes, kind)(a * 2.0**exponent, b * 2.0**exponent), found, rtol=1e-5, atol=1e-6)


def test_overlaps_of_tiny_boxes():
    tiny = np.array([[0, 0, 1e-6, 1e-6], [0, 0, 5e-7, 1e-6]], "float32")
    np.testing.assert_allclose(both(boxes.iou, tiny, tiny), [[1, 0.5], [0.5, 1]], rtol=1e-5)


# Types and shapes


@pytest.mark.parametrize("kind", KINDS)
def test_no_boxes(kind):
    none = np.zeros((0, 4), "float32")
    assert both(getattr(boxes, kind), none, UNIT).shape == (0, 1)
    assert both(getattr(boxes, kind), UNIT, none).shape == (1, 0)
    assert both(boxes.area, none).shape == (0,)


@pytest.mark.parametrize("kind", ["float16", "int32", "float32"])
def test_measures_are_float32_at_least(kind):
    large = np.array([[0, 0, 300, 300], [0, 0, 300, 150]], kind)  # 90,000 square pixels are beyond float16
    assert both(boxes.area, large).dtype == "float32"
    np.testing.assert_allclose(both(boxes.iou, large, large), [[1, 0.5], [0.5, 1]])
    np.testing.assert_allclose(both(boxes.giou, large, large), [[1, 0.5], [0.5, 1]])


def test_what_moves_corners_keeps_the_type():
    half = np.array([[-1, 2, 30, 40]], "float16")
    for found in (boxes.clip(half, 32, 20), numpy_of(boxes.clip(ops.convert_to_tensor(half), 32, 20))):
        assert found.dtype == "float16"
        np.testing.assert_array_equal(found, [[0, 2, 20, 32]])
    assert boxes.convert(half, "xyxy", "xywh").dtype == "float16"


def test_tensors_and_arrays_together_take_the_tensors_type():
    found = boxes.iou(ops.convert_to_tensor(UNIT), UNIT.astype("float64"))
    assert ops.is_tensor(found) and keras.backend.standardize_dtype(found.dtype) == "float32"


def test_leading_axes_are_broadcast():
    a = np.random.default_rng(0).uniform(0, 50, (3, 1, 4, 4)).astype("float32")
    b = np.random.default_rng(1).uniform(0, 50, (2, 5, 4)).astype("float32")
    a[..., 2:] += a[..., :2]
    b[..., 2:] += b[..., :2]
    found = both(boxes.iou, a, b)
    assert found.shape == (3, 2, 4, 5)
    np.testing.assert_array_equal(found[2, 1], boxes.iou(a[2, 0], b[1]))


def test_padding_overlaps_nothing():
    padded = np.concatenate([UNIT, np.zeros((2, 4), "float32"), np.full((1, 4), -1, "float32")])
    np.testing.assert_array_equal(both(boxes.iou, padded, padded)[1:], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_is_not_hidden(kind):
    bad = np.array([[0, 0, np.nan, 2], [0, 0, 2, 2]], "float32")
    found = getattr(boxes, kind)(bad, UNIT)
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
    found = numpy_of(getattr(boxes, kind)(ops.convert_to_tensor(bad), ops.convert_to_tensor(UNIT)))
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()


def test_nan_is_refused_by_name():
    with pytest.raises(ValueError, match="proposals: 1 of 4 numbers are NaN"):
        boxes.refuse_nan(proposals=ops.convert_to_tensor(np.array([[0, 0, np.nan, 2]], "float32")))
    boxes.refuse_nan(scores=np.array([-np.inf, 1]), empty=np.zeros((0, 4)))


# Gradients


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_differences(kind):
    truth = np.array([[10, 10, 30, 24]], "float32")
    predicted = np.array([[12, 7, 29, 30], [14, 12, 21, 22], [8, 30, 25, 60]], "float32")
    measure = getattr(boxes, kind)
    found = introspection.gradients(lambda x: measure(x, ops.convert_to_tensor(truth)), predicted)
    slopes = np.zeros((3, 4))
    alpha = 0
    if kind == "ciou":  # a constant, as far as the gradient goes
        alpha = _alpha(predicted.astype("float64"), truth.astype("float64"))
    for i, step in np.ndindex(3, 4):
        for sign in (-1, 1):
            moved = predicted.astype("float64")
            moved[i, step] += sign * 1e-4
            value = measure(moved, truth.astype("float64"))[i, 0]
            if kind == "ciou":
                value = boxes.diou(moved, truth.astype("float64"))[i, 0] - alpha[i, 0] * _v(moved, truth)[i, 0]
            slopes[i, step] += sign * value / 2e-4
    np.testing.assert_allclose(found, slopes, atol=1e-4)


def _v(a, b):
    angle_a, angle_b = (np.arctan((x[:, 2] - x[:, 0]) / (x[:, 3] - x[:, 1])) for x in (a, b))
    return 4 / np.pi**2 * (angle_a[:, None] - angle_b[None]) ** 2


def _alpha(a, b):
    v = _v(a, b)
    return v / (1 - boxes.iou(a, b) + v)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_boxes_without_area_are_finite(kind):
    flat = np.array([[0, 0, 0, 0], [5, 5, 5, 5], [0, 0, 2, 2], [3, 3, 3, 9]], "float32")
    found = introspection.gradients(lambda x: getattr(boxes, kind)(x, x[:1] * 0), flat, batch_size=4)
    assert np.isfinite(found).all()


# Formats


@pytest.mark.parametrize("source", boxes.FORMATS)
@pytest.mark.parametrize("target", boxes.FORMATS)
def test_formats_and_back(source, target):
    given = boxes.convert(np.array([[10, 20, 30, 60]], "float32"), "xyxy", source, height=80, width=40)
    there = both(boxes.convert, given, source=source, target=target, height=80, width=40)
    np.testing.assert_allclose(both(boxes.convert, there, source=target, target=source, height=80, width=40), given)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("yxyx", [20, 10, 60, 30]),
        ("xywh", [10, 20, 20, 40]),
        ("center_xywh", [20, 40, 20, 40]),
        ("rel_xyxy", [0.25, 0.25, 0.75, 0.75]),
        ("rel_yxyx", [0.25, 0.25, 0.75, 0.75]),
        ("rel_xywh", [0.25, 0.25, 0.5, 0.5]),
        ("rel_center_xywh", [0.5, 0.5, 0.5, 0.5]),
    ],
)
def test_formats_by_hand(target, expected):
    given = np.array([[10, 20, 30, 60]], "float32")
    np.testing.assert_allclose(boxes.convert(given, "xyxy", target, height=80, width=40), [expected])


def test_bad_formats():
    with pytest.raises(ValueError, match=r"unknown box format 'xyzz' \(known: xyxy"):
        boxes.convert(UNIT, "xyxy", "xyzz")
    with pytest.raises(ValueError, match="give the height and width"):
        boxes.convert(UNIT, "rel_xyxy", "xyxy")


def test_clip():
    given = np.array([[-5, -5, 10, 10], [30, 5, 60, 90], [100, 100, 120, 120]], "float32")
    np.testing.assert_array_equal(
        both(boxes.clip, given, height=80, width=40), [[0, 0, 10, 10], [30, 5, 40, 80], [40, 80, 40, 80]]
    )
