"""Figures of what the heads of detectors say: where cells, boxes and bars lie, and how strong they are."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from utils import plots

IMAGE = np.full((32, 48, 3), 100, "uint8")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def filled(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_fill()]


def test_the_cell_of_each_centre_is_shaded():
    boxes = [[0, 0, 10, 10], [30, 10, 46, 30], [40, 24, 56, 40], [0, 0, 0, 0]]  # the third's centre lies on the corner
    ax = plots.show_grid(IMAGE, (2, 3), boxes, [0, 2, 1, -1])
    cells = filled(ax)
    assert [patch.get_xy() for patch in cells] == [(-0.5, -0.5), (31.5, 15.5), (31.5, 15.5)]
    assert {(patch.get_width(), patch.get_height()) for patch in cells} == {(16, 16)}
    assert to_hex(cells[1].get_facecolor()) == plots.class_colour(2).lower()
    assert len([line for line in ax.lines if line.get_linestyle() == "-"]) >= 3  # two upright, one across
    with pytest.raises(ValueError, match="4 objects, but 2 labels"):
        plots.show_grid(IMAGE, (2, 3), boxes, [0, 2])


def test_a_cell_has_the_colour_of_its_class_and_the_strength_of_its_belief():
    ax = plots.show_cells(IMAGE, [[0, 1, 2], [3, 4, 5]], [[0, 0.2, 0.4], [0.6, 0.8, 2]])
    cells = filled(ax)
    assert [patch.get_alpha() for patch in cells] == pytest.approx([0, 0.15, 0.3, 0.45, 0.6, 0.75])
    assert cells[5].get_xy() == (31.5, 15.5) and to_hex(cells[3].get_facecolor()) == plots.class_colour(3).lower()
    with pytest.raises(ValueError, match="expected labels and strengths"):
        plots.show_cells(IMAGE, [[0, 1]], [[1.0]])


def test_candidates_are_drawn_from_the_weakest_to_the_strongest():
    boxes = np.array([[2, 2, 20, 20], [10, 4, 40, 30], [5, 5, 9, 9]], float)
    scores = np.array([[0.9, 0.1], [0.2, 0.5], [0.01, 0.02]])
    ax = plots.show_candidates(IMAGE, boxes, scores, classes=("a", "b"), title="all")
    assert [patch.get_x() + 0.5 for patch in ax.patches] == [5, 10, 2]
    widths = [patch.get_linewidth() for patch in ax.patches]
    assert widths == sorted(widths) and to_hex(ax.patches[2].get_edgecolor()) == plots.class_colour(0).lower()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"] and ax.get_title() == "all"
    with pytest.raises(ValueError, match=r"expected boxes \(N, 4\) and scores \(N, C\)"):
        plots.show_candidates(IMAGE, boxes, scores[:2])


def test_kinds_of_errors_are_stacked_and_what_was_missed_stands_on_the_other_side():
    counts = {
        "one": {"right": 5, "doubled": 1, "badly placed": 2, "confused": 3, "background": 4, "missed": 6},
        "two": {"right": 8, "doubled": 0, "badly placed": 1, "confused": 0, "background": 2, "missed": 3},
    }
    ax = plots.error_bars(counts)
    starts = [[bar.get_x() for bar in container] for container in ax.containers]
    assert starts == [[0, 0], [5, 8], [6, 8], [8, 9], [11, 9], [0, 0]]
    assert [bar.get_width() for bar in ax.containers[-1]] == [-6, -3]
    assert ax.get_yaxis().get_inverted()


def test_each_detector_is_a_point_of_speed_and_accuracy():
    ax = plots.speed_accuracy({"one": (20, 0.5), "two": (150, 0.3)})
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines] == [(20, 0.5), (150, 0.3)]
    assert ax.get_xscale() == "log" and [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["20", "50", "100", "200"]
    points = {"a": (2.0, 0.5), "b": (20.0, 0.7), "c": (10.0, 0.6)}
    ax = plots.speed_accuracy(points, {"a": "one", "b": "two", "c": "two"})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a (one)", "b (two)", "c (two)"]
    one, *two = [line.get_marker() for line in ax.lines]
    assert two == [two[0]] * 2 and one != two[0] and len({line.get_color() for line in ax.lines}) == 3
    assert plots.speed_accuracy(points, legend=False).get_legend() is None
