"""Figures of two-stage detection: what they draw, and where."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from utils import plots
from utils.detection import roi

IMAGE = np.full((32, 48, 3), 100, "uint8")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def corners(patch):
    return [patch.get_x(), patch.get_y(), patch.get_x() + patch.get_width(), patch.get_y() + patch.get_height()]


def test_what_runs_for_each_region_is_a_stack():
    ax = plots.pipelines({"a": [("image", False, None), ("crop", True, "red")], "b": [("image", False, None)]})
    assert sum(isinstance(patch, FancyBboxPatch) for patch in ax.patches) == 1 + 3 + 1
    assert sum(isinstance(patch, FancyArrowPatch) for patch in ax.patches) == 1
    assert [text.get_text() for text in ax.texts] == ["a", "image", "crop", "b", "image"]


def test_the_box_its_cells_and_its_bins():
    box = np.array([3, 5, 29, 21])
    ax = plots.show_roi_pool(IMAGE, box, roi.whole_cells(box, 8), 8, 3, title="here")
    cells, own = [corners(patch) for patch in ax.patches if isinstance(patch, Rectangle)]
    # By hand: 3 / 8 and 5 / 8 round to 0 and 1; 29 / 8 and 21 / 8 to 4 and 3, whose far sides are 40 and 32.
    assert cells == [-0.5, 7.5, 39.5, 31.5] and own == [2.5, 4.5, 28.5, 20.5]
    columns, rows = (np.array([[line[0], line[1]] for line in lines.get_segments()]) for lines in ax.collections)
    assert sorted(columns[:, 0, 0]) == [-0.5, 7.5, 23.5, 39.5], "five cells: bins begin at 0, 1 and 3"
    assert sorted(rows[:, 0, 1]) == [7.5, 15.5, 23.5, 31.5]
    assert ax.get_title() == "here"


def test_anchors_by_what_they_are_told():
    anchors = np.array([[0, 0, 8, 8], [8, 8, 16, 16], [16, 0, 24, 8], [24, 0, 32, 8]], float)
    ax = plots.show_anchor_labels(IMAGE, anchors, [0, -1, -2, -1], [[1, 1, 9, 9]])
    assert ax.get_title() == "1 positive, 2 background, 1 left out"
    drawn = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [corners(patch) for patch in drawn] == [[0.5, 0.5, 8.5, 8.5], [-0.5, -0.5, 7.5, 7.5]]
    assert to_hex(drawn[1].get_edgecolor()) == plots.VERMILLION.lower()
    background, aside = ax.lines
    assert background.get_xdata().tolist() == [11.5, 27.5] and aside.get_xdata().tolist() == [19.5]
    with pytest.raises(ValueError, match="4 anchors, but 1 labels"):
        plots.show_anchor_labels(IMAGE, anchors, [0], [])


def test_regions_above_their_features():
    features = np.arange(2 * 3 * 3 * 2, dtype=float).reshape(2, 3, 3, 2)
    figure = plots.show_rois(IMAGE, [[2.4, 3, 10, 9], [0, 0, 48, 32]], features, titles=["a", "b"], title="all")
    first, second, below, _ = figure.axes
    assert first.images[0].get_array().shape[:2] == (6, 8) and second.images[0].get_array().shape[:2] == (32, 48)
    np.testing.assert_allclose(below.images[0].get_array(), features[0].mean(-1))
    assert below.images[0].get_clim() == (0.5, 34.5), "one scale for all"
    assert first.get_title() == "a" and figure.get_suptitle() == "all"
    with pytest.raises(ValueError, match="1 boxes, but features of 2"):
        plots.show_rois(IMAGE, [[0, 0, 1, 1]], features)


def test_times_lie_end_to_end_and_add_up():
    times = {"slow": {"proposals": 30.0, "net": 10.0}, "fast": {"net": 4.0}}
    ax = plots.stacked_times(times, title="t")
    bars = [(patch.get_x(), patch.get_width(), to_hex(patch.get_facecolor())) for patch in ax.patches]
    first, second = (plots.class_colour(index).lower() for index in (0, 1))
    assert bars == [(0, 30, first), (30, 10, second), (0, 4, second)]
    assert [text.get_text().strip() for text in ax.texts] == ["40.0", "4.0"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["proposals", "net"]
    assert ax.get_title() == "t"
