"""RoIAlign and RoIPool: torchvision's values and gradients, a slow version, and a picture worked by hand."""

import numpy as np
import pytest
from keras import ops

from utils import introspection
from utils.detection.roi import roi_align, roi_pool, whole_cells

FUNCTIONS = {"align": roi_align, "pool": roi_pool}


def golden_case(golden, stride):
    """Features (2, 12, 16, 4), the boxes of each image (2, 11, 4), and where the file's results are among theirs."""
    values = {
        name.removeprefix(f"c0_stride{stride}_"): array
        for name, array in golden("roi_ops.npz").items()
        if name.startswith(f"c0_stride{stride}_")
    }
    rois = np.repeat(values["rois"][None], 2, axis=0)
    return values, rois, (values["batch_index"], np.arange(len(values["rois"])))


@pytest.mark.parametrize("stride", [1, 4, 16])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("size", [7, 14])
def test_values_are_torchvisions(golden, compiled, name, stride, size):
    values, rois, at = golden_case(golden, stride)
    found = ops.convert_to_numpy(FUNCTIONS[name](values["features"], rois, size, 1 / stride))
    np.testing.assert_allclose(found[at], values[f"{name}{size}"], rtol=1e-4, atol=1e-4)
    in_graph = compiled(lambda f, b: FUNCTIONS[name](f, b, size, 1 / stride), values["features"], rois)
    np.testing.assert_allclose(in_graph, found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 4, 16])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_torchvisions(golden, name, stride):
    values, rois, at = golden_case(golden, stride)
    weights = np.zeros((2, 11, 7, 7, 4), "float32")
    weights[at] = values["grad_output7"]
    found = introspection.gradients(
        lambda x: FUNCTIONS[name](x, ops.convert_to_tensor(rois), 7, 1 / stride) * ops.convert_to_tensor(weights),
        values["features"],
    )
    np.testing.assert_allclose(found, values[f"{name}7_grad_features"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradient_is_that_of_differences(name):
    random = np.random.default_rng(0)
    features = random.normal(size=(1, 5, 6, 2)).astype("float32")
    boxes = np.array([[[3.3, 2.1, 17.9, 16.4], [-3, 5, 9, 30]]], "float32")
    weights = random.normal(size=(1, 2, 2, 3, 2)).astype("float32")

    def total(x):
        return FUNCTIONS[name](x, ops.convert_to_tensor(boxes), (2, 3), 1 / 4) * ops.convert_to_tensor(weights)

    found = introspection.gradients(total, features)
    step = 1e-2  # both are linear in the features as long as no other cell becomes the maximum
    for place in [(0, 0, 0, 0), (0, 1, 2, 1), (0, 2, 3, 0), (0, 3, 1, 1), (0, 4, 5, 0)]:
        nudge = np.zeros_like(features)
        nudge[place] = step
        ahead, behind = (float(ops.sum(total(ops.convert_to_tensor(features + s * nudge)))) for s in (1, -1))
        assert found[place] == pytest.approx((ahead - behind) / (2 * step), abs=2e-3)


def test_align_by_hand():
    # A ramp of 5 x 5 cells of stride 4: cell (i, j) holds 10 i + j, the value at its centre. Bilinear interpolation of
    # a ramp is exact, so a bin holds the ramp at its centre: of a box from 4 to 12, two bins, the centres are at 6 and
    # 10 pixels, 1.0 and 2.0 in the array.
    ramp = (10 * np.arange(5)[:, None] + np.arange(5)).astype("float32")[None, :, :, None]
    found = ops.convert_to_numpy(roi_align(ramp, np.array([[[4, 4, 12, 12]]], "float32"), 2, 1 / 4))
    np.testing.assert_allclose(found[0, 0, :, :, 0], [[11, 12], [21, 22]], rtol=1e-6)
    # The same box, a pixel to the right: a quarter of a cell more.
    found = ops.convert_to_numpy(roi_align(ramp, np.array([[[5, 4, 13, 12]]], "float32"), 2, 1 / 4))
    np.testing.assert_allclose(found[0, 0, :, :, 0], [[11.25, 12.25], [21.25, 22.25]], rtol=1e-6)


def test_the_box_in_the_picture_of_the_docstring():
    ramp = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
    found = ops.convert_to_numpy(roi_align(ramp, np.array([[[3, 0, 13, 4]]], "float32"), (1, 5), 1 / 4))
    np.testing.assert_allclose(found.ravel(), [0.5, 1.0, 1.5, 2.0, 2.5], rtol=1e-6)  # from .25 to 2.75 in five bins


def test_the_whole_image_with_a_bin_a_cell_is_the_map():
    features = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype("float32")
    whole = np.tile(np.array([0, 0, 32, 24], "float32"), (2, 1, 1))
    np.testing.assert_allclose(
        ops.convert_to_numpy(roi_align(features, whole, (6, 8), 1 / 4, samples=1))[:, 0], features, atol=1e-6
    )


def test_pool_by_hand():
    cells = np.arange(30, dtype="float32").reshape(1, 5, 6, 1)
    # x from 1 to 4 and y from 0 to 2, last ones inside: 4 x 3 cells, so that the two rows of bins share the middle row.
    found = ops.convert_to_numpy(roi_pool(cells, np.array([[[1, 0, 4, 2]]], "float32"), 2, 1.0))
    np.testing.assert_array_equal(found[0, 0, :, :, 0], [[8, 10], [14, 16]])


def slow_pool(features, box, bins, scale):
    x1, y1, x2, y2 = np.floor(np.array(box) * scale + 0.5).astype(int)
    height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    result = np.zeros((bins, bins, features.shape[-1]), "float32")
    for i, j in np.ndindex(bins, bins):
        top, bottom = y1 + i * height // bins, y1 - (-(i + 1) * height // bins)
        left, right = x1 + j * width // bins, x1 - (-(j + 1) * width // bins)
        cells = features[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if cells.size:
            result[i, j] = cells.max(axis=(0, 1))
    return result


def test_pool_is_that_of_the_loop():
    random = np.random.default_rng(0)
    features = random.normal(size=(1, 9, 13, 2)).astype("float32")
    corners = random.uniform(-30, 60, (60, 2))
    boxes = np.concatenate([corners, corners + random.uniform(0, 60, (60, 2))], axis=-1).astype("float32")
    found = ops.convert_to_numpy(roi_pool(features, boxes[None], 3, 1 / 4))[0]
    np.testing.assert_array_equal(found, [slow_pool(features[0], box, 3, 1 / 4) for box in boxes])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_image_by_itself(name):
    random = np.random.default_rng(0)
    features = random.normal(size=(3, 6, 6, 2)).astype("float32")
    boxes = np.sort(random.uniform(0, 24, (3, 4, 2, 2)), axis=2).reshape(3, 4, 4).astype("float32")
    found = ops.convert_to_numpy(FUNCTIONS[name](features, boxes, 3, 1 / 4))
    order = [2, 0, 1]
    np.testing.assert_allclose(
        ops.convert_to_numpy(FUNCTIONS[name](features[order], boxes[order], 3, 1 / 4)), found[order], atol=1e-6
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_odd_boxes_give_finite_values_and_gradients(name):
    features = np.random.default_rng(0).normal(size=(1, 4, 4, 1)).astype("float32")
    odd = np.array(
        [[[0, 0, 0, 0], [5, 5, 5, 5], [9, 9, 3, 3], [900, 900, 950, 950], [-1e6, -1e6, 1e6, 1e6]]], "float32"
    )
    found = ops.convert_to_numpy(FUNCTIONS[name](features, odd, 2, 1 / 4))
    assert np.isfinite(found).all() and (found[0, 3] == 0).all()
    slopes = introspection.gradients(lambda x: FUNCTIONS[name](x, ops.convert_to_tensor(odd), 2, 1 / 4), features)
    assert np.isfinite(slopes).all()
    assert tuple(FUNCTIONS[name](features, np.zeros((1, 0, 4), "float32"), 2, 1 / 4).shape) == (1, 0, 2, 2, 1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_half_precision(name, mixed_precision):
    # At x = 1,300 pixels float16 has steps of a whole pixel: coordinates must stay float32.
    ramp = np.tile(np.arange(100, dtype="float16") / 8, (1, 4, 1))[..., None]
    boxes = np.array([[[1300.5, 0, 1332.5, 64]]], "float32")
    found = FUNCTIONS[name](ops.convert_to_tensor(ramp), ops.convert_to_tensor(boxes), 2, 1 / 16)
    assert "float16" in str(found.dtype)
    precise = FUNCTIONS[name](ramp.astype("float32"), boxes, 2, 1 / 16)
    np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(precise), atol=5e-3)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_gradient_reaches_the_boxes(name):
    features = np.random.default_rng(0).normal(size=(1, 4, 4, 1)).astype("float32")
    found = introspection.gradients(
        lambda x: FUNCTIONS[name](ops.convert_to_tensor(features), x, 2, 1 / 4) + 0 * ops.sum(x),
        np.array([[[2, 3, 9, 11]]], "float32"),
    )
    assert not found.any()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_input(name):
    features, boxes = np.zeros((1, 4, 4, 1), "float32"), np.zeros((1, 2, 4), "float32")
    with pytest.raises(ValueError, match=r"expected features \(B, H, W, C\) and boxes \(B, N, 4\)"):
        FUNCTIONS[name](features, boxes[0], 2, 1 / 4)
    with pytest.raises(ValueError, match="must be above 0"):
        FUNCTIONS[name](features, boxes, 0, 1 / 4)
    with pytest.raises(ValueError, match="must be above 0"):
        FUNCTIONS[name](features, boxes, 2, 0)


def test_whole_cells_are_those_that_roi_pool_takes_its_maximum_of():
    """A map whose every cell has another value: with one bin RoIPool gives the last cell, and mirrored the first."""
    rng = np.random.default_rng(8)
    corner = rng.uniform(0, 60, (1, 40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 30, corner.shape)], -1).astype("float32")
    numbers = np.arange(12 * 12, dtype="float32").reshape(1, 12, 12, 1)
    last = ops.convert_to_numpy(roi_pool(numbers, boxes, 1, 1 / 8))[0, :, 0, 0, 0]
    first = -ops.convert_to_numpy(roi_pool(-numbers, boxes, 1, 1 / 8))[0, :, 0, 0, 0]
    cells = whole_cells(boxes[0], 8) / 8
    np.testing.assert_array_equal(last, (cells[:, 3] - 1) * 12 + cells[:, 2] - 1)
    np.testing.assert_array_equal(first, cells[:, 1] * 12 + cells[:, 0])
    assert whole_cells([5.0, 5.0, 5.5, 5.5], 8).tolist() == [8, 8, 16, 16], "a cell at least"
