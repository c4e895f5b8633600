"""Sliding windows and selective search: by hand, by what their definitions say, and on drawn scenes."""

import numpy as np
import pytest

from utils.data import shapes
from utils.detection import proposals


def quarters():
    """Four squares of 16 pixels: two alike on the left, two others on the right."""
    image = np.zeros((32, 32, 3), "uint8")
    image[:16, :16], image[16:, :16] = (200, 30, 30), (190, 30, 30)
    image[:16, 16:], image[16:, 16:] = (30, 30, 200), (30, 200, 30)
    segments = np.zeros((32, 32), int)
    segments[:16, 16:], segments[16:, :16], segments[16:, 16:] = 1, 2, 3
    return image, segments


def test_sliding_windows_by_hand():
    found = proposals.sliding_windows(8, 12, sizes=(8,), stride=0.5)
    np.testing.assert_array_equal(found, [[0, 0, 8, 8], [4, 0, 12, 8]])
    tall = proposals.sliding_windows(16, 16, sizes=(8,), ratios=(4,), stride=1)
    np.testing.assert_array_equal(tall, [[4 * i, 0, 4 * i + 4, 16] for i in range(4)])
    assert proposals.sliding_windows(8, 8, sizes=(9,)).shape == (0, 4)
    with pytest.raises(ValueError, match="must be above 0"):
        proposals.sliding_windows(8, 8, sizes=(4,), stride=0)


def test_sliding_windows_are_as_many_as_counted_and_inside():
    found = proposals.sliding_windows(96, 96, sizes=(16, 32), ratios=(1,), stride=0.25)
    assert len(found) == ((96 - 16) // 4 + 1) ** 2 + ((96 - 32) // 8 + 1) ** 2
    assert found.min() >= 0 and found.max() <= 96


def test_the_most_alike_neighbours_are_merged_first():
    image, segments = quarters()
    found = proposals.merge_regions(image, segments, ("colour",), "rgb")
    assert found.merges.shape == (3, 2) and found.boxes.shape == (7, 4)
    assert found.merges[0].tolist() == [0, 2]
    np.testing.assert_array_equal(found.boxes[4], [0, 0, 16, 32])
    np.testing.assert_array_equal(found.boxes[-1], [0, 0, 32, 32])
    np.testing.assert_array_equal(found.mask(4), segments % 2 == 0)
    assert found.mask(6).all()


def test_small_regions_are_merged_first_by_size():
    image, _ = quarters()
    segments = np.zeros((32, 32), int)
    segments[:, 20:], segments[:4, 20:24], segments[4:8, 20:24] = 1, 2, 3
    found = proposals.merge_regions(image, segments, ("size",))
    assert found.merges[0].tolist() == [2, 3]


def test_regions_that_fill_their_box_are_merged_first_by_fill():
    image, _ = quarters()
    segments = np.zeros((32, 32), int)
    segments[:16, 16:] = 1  # with 0, an L: beside 2, half of the image
    segments[16:, 16:] = 2
    found = proposals.merge_regions(image, segments, ("fill",))
    assert found.merges[0].tolist() == [1, 2]


def test_texture_tells_stripes_from_plain():
    # Stripes, plain, stripes side by side, and below them a plain region that touches all three.
    image = np.full((64, 96, 3), 128, "uint8")
    striped = np.arange(96) % 8 < 4
    image[:40, striped & ((np.arange(96) < 32) | (np.arange(96) >= 64))] = 255
    segments = np.repeat([0, 1, 2], 32)[None].repeat(64, axis=0)
    segments[40:] = 3
    found = proposals.merge_regions(image, segments, ("texture",))
    assert found.merges[0].tolist() == [1, 3]


def test_histograms_of_merged_regions_are_those_of_their_pixels():
    image, segments = quarters()
    count = 4
    pixels = image / 255
    colour = proposals._colour_histograms(pixels, segments, count, "hsv")
    np.testing.assert_allclose(colour.sum(axis=1), 1)
    both = proposals._colour_histograms(pixels, segments // 2, 2, "hsv")
    np.testing.assert_allclose((colour[0] + colour[1]) / 2, both[0])


def test_every_pixel_is_in_the_end_in_one_region():
    example = shapes.scene(0)
    segments = proposals.initial_segments(example.image)
    found = proposals.merge_regions(example.image, segments)
    count = segments.max() + 1
    assert len(found.merges) == count - 1 and found.mask(len(found.boxes) - 1).all()
    assert len(set(found.merges.ravel().tolist())) == 2 * (count - 1)  # no region is merged twice
    for region in (0, count, len(found.boxes) - 2):
        rows, columns = np.nonzero(found.mask(region))
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(found.boxes[region], expected)


def test_selective_search_finds_the_objects_of_scenes_and_windows_need_more():
    scenes = [shapes.scene(index) for index in range(6)]
    targets = [{"boxes": example.boxes, "labels": example.labels} for example in scenes]
    found = [proposals.selective_search(example.image) for example in scenes]
    windows = [proposals.sliding_windows(96, 96, (24, 36, 48), (0.5, 1, 2), 0.3)] * len(scenes)
    recall = proposals.recall_curve(found, targets, [10, 100, 1000])
    assert (np.diff(recall) >= 0).all() and recall[1] >= 0.95
    assert proposals.recall_curve(windows, targets, [100])[0] < 0.5 < recall[1]
    for boxes in found:
        assert len(np.unique(boxes, axis=0)) == len(boxes)
        assert boxes.min() >= 0 and boxes.max() <= 96 and (boxes[:, 2:] > boxes[:, :2]).all()
    np.testing.assert_array_equal(proposals.selective_search(scenes[0].image), found[0])
    np.testing.assert_array_equal(proposals.selective_search(scenes[0].image, most=7), found[0][:7])


def test_a_plain_image_is_one_region():
    found = proposals.selective_search(np.full((20, 30, 3), 90, "uint8"))
    np.testing.assert_array_equal(found, [[0, 0, 30, 20]])


def test_recall_by_hand():
    targets = {
        "boxes": np.array([[[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]]], float),
        "labels": np.array([[0, 1, -1]]),
    }
    boxes = [np.array([[50, 50, 60, 60], [0, 0, 10, 9], [20, 20, 30, 24]])]
    np.testing.assert_allclose(proposals.recall_curve(boxes, targets, [1, 2, 3]), [0, 0.5, 0.5])
    np.testing.assert_allclose(proposals.recall_curve(boxes, targets, [3], iou=0.4), [1])
    targets["ignored"] = np.array([[False, True, False]])
    np.testing.assert_allclose(proposals.recall_curve(boxes, targets, [1, 2]), [0, 1])
    np.testing.assert_allclose(proposals.recall_curve([np.zeros((0, 4))], targets, [5]), [0])
    targets["labels"][:] = -1
    assert np.isnan(proposals.recall_curve(boxes, targets, [1])[0])


def test_bad_input():
    image, segments = quarters()
    with pytest.raises(ValueError, match="similarities must be some of colour"):
        proposals.merge_regions(image, segments, ("shape",))
    with pytest.raises(ValueError, match="unknown space 'cmyk'"):
        proposals.merge_regions(image, segments, space="cmyk")
    with pytest.raises(ValueError, match="but segments of"):
        proposals.merge_regions(image, segments[:5])
    with pytest.raises(ValueError, match=r"expected an image \(H, W, 3\)"):
        proposals.initial_segments(image[..., 0])
    with pytest.raises(ValueError, match="proposals for 1 images, but targets for 2"):
        proposals.recall_curve([image], [{}, {}], [1])
