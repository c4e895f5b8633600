"""Figures of detection: what they draw, and where."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from utils import plots
from utils.detection import anchors, proposals

IMAGE = np.full((32, 48, 3), 100, "uint8")
CURVE = np.array([0.25, 0.5, 0.5, 0.75]), np.array([1, 1, 2 / 3, 0.75]), np.array([0.9, 0.7, 0.5, 0.3])
FOUND = {
    "boxes": np.array([[2, 2, 20, 20], [10, 4, 40, 30], [0, 0, 0, 0]], "float32"),
    "labels": np.array([0, 2, -1]),
    "scores": np.array([0.9, 0.4, 0.0]),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def rectangles(ax):
    found = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    return np.array([[p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()] for p in found])


def test_boxes_lie_on_their_pixels_and_outside_the_image_too():
    ax = plots.show_boxes(IMAGE, [[0, 0, 10, 10], [-8, 5, 60, 20]], [plots.BLUE, plots.GREEN])
    np.testing.assert_allclose(rectangles(ax), [[-0.5, -0.5, 9.5, 9.5], [-8.5, 4.5, 59.5, 19.5]])
    assert ax.get_xlim()[0] <= -8.5 and ax.get_xlim()[1] >= 59.5
    assert [to_hex(patch.get_edgecolor()) for patch in ax.patches] == [plots.BLUE.lower(), plots.GREEN.lower()]
    assert not plots.show_boxes(IMAGE, np.zeros((0, 4))).patches
    with pytest.raises(ValueError, match=r"expected boxes \(N, 4\)"):
        plots.show_boxes(IMAGE, [1, 2, 3, 4])
    with pytest.raises(ValueError, match="1 boxes, but 2 colours"):
        plots.show_boxes(IMAGE, [[0, 0, 1, 1]], ["red", "blue"])


def test_anchors_of_one_place_and_the_centres_of_all():
    given = anchors.grid((4, 6), 8, (10, 20), (1,))
    ax = plots.show_anchors(IMAGE, given, 2, 8, place=(1, 2))
    np.testing.assert_allclose(rectangles(ax) + 0.5, given[2 * (6 + 2) :][:2])
    (dots,) = ax.lines
    assert len(dots.get_xdata()) == 24 and dots.get_xdata()[0] == 3.5
    middle = plots.show_anchors(IMAGE, given, 2, 8)
    np.testing.assert_allclose(rectangles(middle) + 0.5, given[2 * (2 * 6 + 3) :][:2])
    with pytest.raises(ValueError, match="48 anchors are not 5 at each place"):
        plots.show_anchors(IMAGE, given, 5, 8)
    with pytest.raises(ValueError, match=r"there is no place \(4, 0\) on a map of 4 x 6"):
        plots.show_anchors(IMAGE, given, 2, 8, place=(4, 0))


def test_the_curve_is_drawn_as_far_as_the_threshold_lets_in():
    ax = plots.precision_recall_curve(*CURVE, thresholds=[0.6])
    _, solid, point = ax.lines
    np.testing.assert_allclose(solid.get_xdata(), [0.25, 0.5])
    np.testing.assert_allclose([point.get_xdata()[0], point.get_ydata()[0]], [0.5, 1])
    assert [text.get_text() for text in ax.texts] == ["0.60"]
    assert not plots.precision_recall_curve(*CURVE, thresholds=[0.95]).texts  # nothing is let in
    whole = plots.precision_recall_curve(*CURVE[:2])
    assert len(whole.lines[1].get_xdata()) == 4
    with pytest.raises(ValueError, match="thresholds need the scores"):
        plots.precision_recall_curve(*CURVE[:2], thresholds=[0.5])


def test_an_empty_curve():
    assert plots.precision_recall_curve([], [], []).get_xlabel() == "recall"


def test_a_strip_of_thresholds():
    figure = plots.threshold_strip(IMAGE, FOUND, CURVE, (0.8, 0.35), classes=["disk", "square", "star"])
    first, second, below, _ = figure.axes
    assert len(first.patches) == 2 and len(second.patches) == 4  # each box has a rim
    assert [text.get_text() for text in second.texts] == ["disk 0.90", "star 0.40"]
    assert first.get_title() == "score at least 0.80" and below.get_title() == "precision 1.00, recall 0.25"


def test_explored_without_a_reader_it_is_the_strip(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    plots.explore_threshold(IMAGE, FOUND, CURVE)
    (number,) = plt.get_fignums()
    assert len(plt.figure(number).axes) == 6


def test_explored_with_a_reader_the_boxes_follow_the_slider(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/student/08.ipynb")
    shown, drawn = [], []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    plots.explore_threshold(IMAGE, FOUND, CURVE)
    (slider,) = shown[0].children[0].children
    assert (slider.value, slider.min, slider.max) == (50, 1, 99)
    slider.value = 20
    assert drawn[-1].axes[0].get_title() == "score at least 0.20" and len(drawn[-1].axes[0].patches) == 4


def test_recall_of_proposals():
    ax = plots.proposal_recall([1, 10, 100], {"selective search": [0.1, 0.8, 1], "windows": [0, 0.2, 0.6]}, iou=0.5)
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "objects found (IoU at least 0.5)"
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0, 0.2, 0.6])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["selective search", "windows"]


def test_regions_from_small_to_large():
    image = np.zeros((20, 20, 3), "uint8")
    segments = np.arange(400).reshape(20, 20) // 20 // 2  # ten bands
    image[:] = (segments * 20)[..., None]
    hierarchy = proposals.merge_regions(image, segments)
    figure = plots.show_regions(image, hierarchy, steps=3)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0] == "10 regions" and titles[-1] == "4 regions"
    assert [len(ax.patches) for ax in figure.axes] == [10, int(titles[1].split()[0]), 4]
    colours = np.unique(figure.axes[-1].images[0].get_array().reshape(-1, 3), axis=0)
    assert len(colours) <= 4
