"""Figures of instance segmentation: what they draw, and where."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from utils import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_roi_align_s_points_lie_in_their_bins():
    ax = plots.show_roi_align(np.full((32, 48, 3), 100, "uint8"), [6, 4, 30, 28], stride=8, bins=2, samples=2)
    centres, points = (line.get_xydata() for line in (ax.lines[-1 - 6 - 1], ax.lines[-1]))
    # Bins of 12 pixels, points at a quarter and three quarters of each; a pixel's centre is drawn at a whole number.
    assert sorted(set(points[:, 0])) == [8.5, 14.5, 20.5, 26.5]
    assert sorted(set(points[:, 1])) == [6.5, 12.5, 18.5, 24.5]
    assert sorted(set(centres[:, 0])) == [3.5, 11.5, 19.5, 27.5, 35.5, 43.5]
    (box,) = ax.patches
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (5.5, 3.5, 24, 24)


def test_pasting_has_three_steps():
    enlarged = np.zeros((20, 24))
    enlarged[4:12, 6:18] = 0.8
    figure = plots.pasting_steps(np.zeros((20, 24, 3), "uint8"), [6, 4, 18, 12], np.eye(4), enlarged, enlarged >= 0.5)
    small, large, cut = figure.axes[:3]
    np.testing.assert_array_equal(small.images[0].get_array(), np.eye(4))
    np.testing.assert_array_equal(large.images[0].get_array(), enlarged)
    assert cut.images[1].get_array()[..., 3].astype(bool).sum() == 8 * 12
    assert [ax.get_title() for ax in (small, large, cut)] == ["4 x 4, soft", "in its place, soft", "cut at .5"]
