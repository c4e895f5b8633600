"""Pictures of label maps: what is drawn where, and what is refused."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

from matplotlib.colors import to_rgb

from utils.plots import class_colour, show_label_maps, show_overlap

pytestmark = pytest.mark.once


def scene():
    images = np.full((2, 8, 10, 3), 128, np.uint8)
    truth = np.zeros((2, 8, 10), np.uint8)
    truth[:, 2:5, 2:5], truth[1, 0] = 1, 255
    found = np.zeros_like(truth)
    found[:, 3:6, 2:5] = 2
    return images, truth, found


def pixels(ax):
    return np.asarray(ax.get_images()[0].get_array())


def test_errors_are_in_the_colour_of_what_was_predicted_and_misses_are_black():
    images, truth, found = scene()
    figure = show_label_maps(images, truth, {"net": found}, ["background", "a", "b"], errors=True, row_titles="xy")
    axes = np.reshape(figure.axes, (2, 3))
    drawn = pixels(axes[0, 2])
    np.testing.assert_array_equal(drawn[2, 2], 0)  # an object taken for background
    assert np.abs(drawn[5, 3] - to_rgb(class_colour(1))).max() < 0.15  # background taken for b
    assert np.ptp(drawn[0, 0]) == 0  # right: faded grey
    assert axes[0, 2].get_title() == "net\n15.0 % wrong"  # 3 missed, 6 of the wrong class, 3 beside: 12 of 80
    assert axes[1, 2].get_title() == "17.1 % wrong"  # of 70, the first row does not count
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "a",
        "b",
        "missed: taken for background",
        "ignored",
    ]


def test_label_maps_are_coloured_alike_in_truth_and_prediction():
    images, truth, found = scene()
    figure = show_label_maps(images[0], truth[0], {"one": truth[0], "two": found[0]})
    np.testing.assert_array_equal(pixels(figure.axes[1]), pixels(figure.axes[2]))
    assert np.abs(pixels(figure.axes[1]) - pixels(figure.axes[3])).max() > 0.1


def test_maps_that_do_not_fit_are_refused():
    images, truth, found = scene()
    with pytest.raises(ValueError, match="but net is"):
        show_label_maps(images, truth, {"net": found[:, 1:]})
    with pytest.raises(ValueError, match="no images"):
        show_label_maps(images[:0], truth[:0])


def test_overlap_draws_the_parts_that_the_scores_count():
    truth, predicted = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
    truth[1:5, 1:5], predicted[1:5, 3:8] = True, True  # 16 and 20 pixels, 8 of both
    figure = show_overlap(truth, predicted)
    picture, bars = figure.axes
    _, counts = np.unique(picture.images[0].get_array().reshape(-1, 3), axis=0, return_counts=True)
    assert sorted(counts) == [8, 8, 12, 48 - 28]  # both, missed, false alarms, neither
    widths = [[patch.get_width() for patch in bars.containers[row]] for row in range(2)]
    assert widths == [[8, 8, 12], [16, 8, 12]]
    assert [text.get_text() for text in bars.texts] == ["IoU = 8 / 28 = 0.29", "Dice = 16 / 36 = 0.44"]
    with pytest.raises(ValueError, match="one shape"):
        show_overlap(truth, predicted[:5])
    with pytest.raises(ValueError, match="both regions are empty"):
        show_overlap(truth * 0, truth * 0)
