"""Instance segmentation, drawn: where RoIAlign reads a map, and how a small mask becomes one of the image's size."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from utils.plots.base import BLUE, GREY, VERMILLION, WIDTH, as_pixels, bare, draw_cells, draw_image
from utils.plots.scenes import draw_mask


def show_roi_align(image, box, stride, bins, samples=2, title=None, ax=None):
    """Draw where RoIAlign reads a map: the cells, their centres, the box, its bins, and the points in each bin.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        box: (4,) `xyxy` pixels.
        stride: pixels of a cell of the map.
        bins: int, along each axis.
        samples: int, points in a bin along each axis.
        title: above the image.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(3.6, 3.6))
    pixels = as_pixels(np.asarray(image))
    draw_image(ax, pixels)
    height, width = pixels.shape[:2]
    draw_cells(ax, pixels.shape, (height / stride, width / stride))
    centres = np.meshgrid(np.arange(stride / 2, width, stride) - 0.5, np.arange(stride / 2, height, stride) - 0.5)
    ax.plot(*(values.ravel() for values in centres), "+", color="white", markersize=4)
    left, top, right, bottom = np.asarray(box, float) - 0.5
    for across, down in zip(np.linspace(left, right, bins + 1), np.linspace(top, bottom, bins + 1)):
        ax.plot([across, across], [top, bottom], color=VERMILLION, linewidth=0.8)
        ax.plot([left, right], [down, down], color=VERMILLION, linewidth=0.8)
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=VERMILLION, linewidth=2))
    steps = (np.arange(bins * samples) + 0.5) / (bins * samples)
    points = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
    ax.plot(*(values.ravel() for values in points), ".", color=BLUE, markersize=3.5)
    if title:
        ax.set_title(title, fontsize=10)
    return ax


def pasting_steps(image, box, small, enlarged, mask, title=None):
    """Draw the way of a mask into the image: the small soft mask, the same enlarged in its place, the cut one.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        box: (4,) `xyxy` pixels.
        small: (h, w) from 0 to 1.
        enlarged: (H, W) from 0 to 1.
        mask: (H, W) bool.
        title: of the whole figure.

    Returns:
        Figure.
    """
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, WIDTH / 3 + 0.3))
    shown = axes[0].imshow(small, cmap="cividis", vmin=0, vmax=1)
    axes[0].set_title(f"{small.shape[0]} x {small.shape[1]}, soft", fontsize=10)
    axes[1].imshow(enlarged, cmap="cividis", vmin=0, vmax=1)
    left, top, right, bottom = np.asarray(box, float) - 0.5
    frame = {"fill": False, "edgecolor": GREY, "linewidth": 1.2}
    axes[1].add_patch(Rectangle((left, top), right - left, bottom - top, **frame))
    axes[1].set_title("in its place, soft", fontsize=10)
    draw_image(axes[2], as_pixels(np.asarray(image)))
    draw_mask(axes[2], mask, VERMILLION)
    axes[2].set_title("cut at .5", fontsize=10)
    for ax in axes:
        bare(ax)
    figure.colorbar(shown, ax=axes[:2], shrink=0.7, label="mask")
    if title:
        figure.suptitle(title)
    return figure
