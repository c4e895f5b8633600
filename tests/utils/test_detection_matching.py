"""Matching of anchors with objects, against torchvision's Matcher and by hand."""

import numpy as np
import pytest
from keras import ops

from utils import boxes
from utils.detection import matching
from utils.detection.matching import match

RULES = {
    "rpn": (0.7, 0.3, True),
    "rpn_strict": (0.7, 0.3, False),
    "retinanet": (0.5, 0.4, True),
    "roi_heads": (0.5, 0.5, False),
}
CASES = ["c0_m0", "c0_m1", "c0_m2", "c0_m3", "low_quality", "low_quality_taken"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rule", RULES)
def test_matches_are_torchvisions(golden, compiled, case, rule):
    values = golden("matcher.npz")
    iou, expected = values[f"{case}_iou"], values[f"{case}_{rule}"]
    np.testing.assert_array_equal(match(iou, *RULES[rule]), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(match(ops.convert_to_tensor(iou), *RULES[rule])), expected)
    np.testing.assert_array_equal(compiled(lambda x: match(x, *RULES[rule]), iou[None])[0], expected)


def test_matches_in_a_compiled_graph_that_computes_the_overlaps(compiled):
    random = np.random.default_rng(0)
    corners = random.uniform(0, 60, (2, 40, 2))
    anchors = np.concatenate([corners, corners + random.uniform(5, 30, (2, 40, 2))], axis=-1).astype("float32")
    objects = anchors[:, :7] + 1.3
    for jit in (False, True):
        found = compiled(lambda a, b: match(boxes.iou(a, b), 0.9, 0.3), objects, anchors, jit_compile=jit)
        for image in range(2):
            assert (found[image] >= 0).sum() >= len(set(boxes.iou(objects, anchors)[image].argmax(axis=-1)))


def test_an_object_that_overlaps_nothing_gets_nothing(golden):
    iou = golden("matcher.npz")["quirk_zero_row_iou"]
    np.testing.assert_array_equal(match(iou, 0.7, 0.3), [0, -1, -2, -1])


def test_by_hand():
    iou = np.array([[0.6, 0.45, 0.1, 0.2], [0.5, 0.2, 0.1, 0.35]], "float32")
    np.testing.assert_array_equal(match(iou, 0.5, 0.4, force=False), [0, -2, -1, -1])
    # The best anchor of the second object is the first one, too, which answers for the object that it overlaps most.
    np.testing.assert_array_equal(match(iou, 0.5, 0.4), [0, -2, -1, -1])
    iou[1, 0] = 0.3
    np.testing.assert_array_equal(match(iou, 0.5, 0.4), [0, -2, -1, 1])


def test_ties_are_all_matched():
    np.testing.assert_array_equal(match(np.array([[0.3, 0.3, 0.2]], "float32"), 0.5, 0.4), [0, 0, -1])


@pytest.mark.parametrize("form", [np.asarray, ops.convert_to_tensor])
def test_padding_and_ignored_objects(form):
    iou = np.array([[0.9, 0.0, 0.1, 0.0], [0.0, 0.8, 0.45, 0.1], [0.6, 0.7, 0.1, 0.9]], "float32")
    valid, ignored = np.array([True, True, False]), np.array([False, True, False])
    np.testing.assert_array_equal(ops.convert_to_numpy(match(form(iou), 0.5, 0.4)), [0, 1, -2, 2])
    np.testing.assert_array_equal(ops.convert_to_numpy(match(form(iou), 0.5, 0.4, valid=form(valid))), [0, 1, -2, -1])
    found = match(form(iou), 0.5, 0.4, valid=form(valid), ignored=form(ignored))
    np.testing.assert_array_equal(ops.convert_to_numpy(found), [0, -2, -2, -1])


def test_images_are_matched_each_by_itself():
    iou = np.random.default_rng(0).random((3, 5, 20)).astype("float32")
    found = match(iou, 0.7, 0.3)
    for image in range(3):
        np.testing.assert_array_equal(found[image], match(iou[image], 0.7, 0.3))
    order = np.array([2, 0, 1])
    np.testing.assert_array_equal(match(iou[order], 0.7, 0.3), found[order])


@pytest.mark.parametrize("form", [np.asarray, ops.convert_to_tensor])
def test_edges(form):
    background = np.full((2, 6), matching.BACKGROUND)
    assert ops.convert_to_numpy(match(form(np.zeros((2, 3, 6), "float32")), 0.5, 0.4)).tolist() == background.tolist()
    assert ops.convert_to_numpy(match(form(np.zeros((2, 0, 6), "float32")), 0.5, 0.4)).tolist() == background.tolist()
    assert tuple(match(form(np.zeros((2, 3, 0), "float32")), 0.5, 0.4).shape) == (2, 0)
    all_padding = match(form(np.ones((1, 3, 6), "float32")), 0.5, 0.4, valid=form(np.zeros((1, 3), bool)))
    assert (ops.convert_to_numpy(all_padding) == matching.BACKGROUND).all()
    with pytest.raises(ValueError, match="iou: 1 of 2 numbers are NaN"):
        match(form(np.array([[np.nan, 0.5]], "float32")), 0.5, 0.4)
    with pytest.raises(ValueError, match=r"low, 0\.6, is above high, 0\.5"):
        match(form(np.ones((1, 1), "float32")), 0.5, 0.6)


def test_two_hundred_objects():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 500, (200, 2))
    objects = np.concatenate([corners, corners + 20], axis=-1).astype("float32")
    found = match(boxes.iou(objects, objects), 0.7, 0.3)
    np.testing.assert_array_equal(found, np.arange(200))
