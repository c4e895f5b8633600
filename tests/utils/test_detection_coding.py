"""Box coding and anchors, against torchvision's values, by hand, and by their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from utils import introspection
from utils.detection import anchors, coding

# Coding


@pytest.mark.parametrize("case", ["w1", "w10"])
@pytest.mark.parametrize("form", [np.asarray, ops.convert_to_tensor])
def test_coding_is_torchvisions(golden, case, form):
    values = golden("box_deltas.npz")
    weights, there = values[f"c0_{case}_weights"], form(values["c0_anchors"])
    encoded = coding.encode(form(values["c0_gts"]), there, weights)
    np.testing.assert_allclose(ops.convert_to_numpy(encoded), values[f"c0_{case}_encoded"], rtol=1e-5, atol=1e-5)
    decoded = coding.decode(form(values[f"c0_{case}_deltas"]), there, weights)
    np.testing.assert_allclose(ops.convert_to_numpy(decoded), values[f"c0_{case}_decoded"], rtol=1e-4, atol=1e-4)
    of_classes = coding.decode(form(values[f"c0_{case}_class_deltas"].reshape(-1, 3, 4)), there[:, None], weights)
    np.testing.assert_allclose(
        ops.convert_to_numpy(of_classes), values[f"c0_{case}_class_decoded"], rtol=1e-4, atol=1e-4
    )


def test_coding_by_hand():
    anchor, box = np.array([[0, 0, 10, 20]], "float32"), np.array([[5, 5, 25, 25]], "float32")
    # The centre moves from (5, 10) to (15, 15): once the width and a quarter of the height; the width doubles, the
    # height stays.
    np.testing.assert_allclose(coding.encode(box, anchor), [[1, 0.25, np.log(2), 0]], rtol=1e-6)
    np.testing.assert_allclose(
        coding.decode(np.array([[10, 2.5, 5 * np.log(2), 0]]), anchor, (10, 10, 5, 5)), box, rtol=1e-6
    )


corner = st.floats(-100, 100, width=32)
side = st.floats(1, 60, width=32)
a_box = st.tuples(corner, corner, side, side).map(lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]], "float32"))


@given(a_box, a_box, st.sampled_from([(1, 1, 1, 1), (10, 10, 5, 5)]))
def test_decoding_undoes_encoding(box, anchor, weights):
    np.testing.assert_allclose(
        coding.decode(coding.encode(box, anchor, weights), anchor, weights), box, rtol=1e-3, atol=1e-2
    )


def test_no_side_grows_more_than_62_times():
    found = coding.decode(np.array([[0, 0, 100, -100]], "float32"), np.array([[0, 0, 16, 16]], "float32"))
    np.testing.assert_allclose(found[0, 2] - found[0, 0], 1000, rtol=1e-5)
    np.testing.assert_allclose(found[0, 3] - found[0, 1], 0, atol=1e-6)


def test_padding_is_encoded_to_finite_numbers_with_finite_gradients():
    boxes = np.array([[0, 0, 0, 0], [3, 3, 1, 1], [4, 4, 9, 9]], "float32")
    for other in ([[0, 0, 0, 0]], [[2, 2, 8, 8]]):
        other = np.array(other, "float32")
        assert np.isfinite(coding.encode(boxes, other)).all()
        other = ops.convert_to_tensor(other)
        for function in (lambda x, o=other: coding.encode(x, o), lambda x, o=other: coding.encode(x * 0 + o, x)):
            assert np.isfinite(introspection.gradients(function, boxes)).all()


@pytest.mark.parametrize("form", [np.asarray, ops.convert_to_tensor])
def test_half_precision_is_coded_in_float32(form):
    anchor, box = form(np.array([[0, 0, 512, 512]], "float16")), form(np.array([[3, 3, 510, 500]], "float16"))
    encoded = coding.encode(box, anchor)
    np.testing.assert_allclose(ops.convert_to_numpy(coding.decode(encoded, anchor)), [[3, 3, 510, 500]], atol=1e-3)


def test_no_boxes_are_coded_to_none():
    none = np.zeros((0, 4), "float32")
    assert coding.encode(none, none).shape == coding.decode(none, none).shape == (0, 4)


# Anchors


@pytest.mark.parametrize("config", ["a0", "a1", "a2", "a3"])
def test_anchors_are_torchvisions_before_they_round_and_shift(golden, config):
    values = golden("anchors.npz")
    sizes, ratios = values[f"{config}_sizes"], values[f"{config}_ratios"]
    np.testing.assert_array_equal(np.round(anchors.base(sizes, ratios)), values[f"{config}_base"])
    for shape in ((4, 5), (7, 7)):
        found = anchors.grid(shape, 16, sizes, ratios)
        theirs = values[f"{config}_grid{shape[0]}x{shape[1]}"]
        # Theirs are rounded, and centred on the corners of the cells: half a stride less.
        np.testing.assert_allclose(found - 8, theirs, atol=0.5 + 1e-4)
        assert found.dtype == np.float32


def test_anchors_of_the_released_code_of_faster_rcnn(golden):
    theirs = golden("anchors.npz")["faster_rcnn_base16"]
    ours = anchors.base((128, 256, 512), (0.5, 1, 2))
    # Theirs begin with a square of 16 and round its sides for each ratio before they enlarge it; the last pixel is
    # inside.
    np.testing.assert_allclose(theirs[:, 2:] - theirs[:, :2] + 1, ours[:, 2:] - ours[:, :2], rtol=0.07)


def test_anchors_by_hand():
    found = anchors.grid((1, 2), (8, 4), sizes=(2, 4), ratios=(1, 4))
    # Centres (2, 4) and (6, 4). A ratio of 4 halves the width and doubles the height.
    first = [[1, 3, 3, 5], [0, 2, 4, 6], [1.5, 2, 2.5, 6], [1, 0, 3, 8]]
    np.testing.assert_allclose(found, first + [[x0 + 4, y0, x1 + 4, y1] for x0, y0, x1, y1 in first])


def test_several_maps():
    found = anchors.pyramid([(4, 4), (2, 2)], [8, 16], [(16,), (32,)], (0.5, 1))
    assert found.shape == (16 * 2 + 4 * 2, 4)
    np.testing.assert_array_equal(found[32:], anchors.grid((2, 2), 16, (32,), (0.5, 1)))
    each = anchors.pyramid([(4, 4), (2, 2)], [8, 16], [(16,), (32, 40)], [(1,), (0.5, 1, 2)])
    assert each.shape == (16 + 4 * 6, 4)


def test_bad_anchors():
    with pytest.raises(ValueError, match="sizes must be one or more numbers above 0"):
        anchors.grid((2, 2), 8, (), (1,))
    with pytest.raises(ValueError, match="ratios must be"):
        anchors.grid((2, 2), 8, (8,), (0,))
    with pytest.raises(ValueError, match="1 strides"):
        anchors.pyramid([(4, 4), (2, 2)], [8], [(16,), (32,)], (1,))
