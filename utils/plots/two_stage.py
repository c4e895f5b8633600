"""Two-stage detection, drawn: pipelines, RoIPool's rounding, what each anchor is asked, features of regions, where the
time goes, accuracy against speed."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from utils.plots.base import (
    BLUE,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    WIDTH,
    as_pixels,
    bare,
    class_colour,
    draw_cells,
    draw_image,
)
from utils.plots.detection import show_boxes


def pipelines(rows, title=None):
    """Draw detectors as chains of steps, one a row; a step that runs once for each region is drawn as a stack.

    Args:
        rows: dict of name -> list of (text, each, colour): what stands in a step, whether it runs for each region, and
            its colour (None: white). A text may have line breaks.
        title: of the figure.

    Returns:
        Axes.
    """
    longest = max(len(steps) for steps in rows.values())
    _, ax = plt.subplots(figsize=(WIDTH, 1.15 * len(rows) + 0.2))
    for row, (name, steps) in enumerate(rows.items()):
        y = -row * 1.5
        ax.text(-0.15, y, name, ha="right", va="center", fontweight="bold")
        for column, (text, each, colour) in enumerate(steps):
            x = column * 1.5
            for back in (2, 1, 0) if each else (0,):
                ax.add_patch(
                    FancyBboxPatch(
                        (x + 0.07 * back, y - 0.42 + 0.07 * back),
                        1.1,
                        0.84,
                        boxstyle="round,pad=0.03",
                        facecolor=colour or "white",
                        edgecolor=GREY,
                    )
                )
            ax.text(x + 0.55, y, text, ha="center", va="center", fontsize=9)
            if column:
                ends = (x - 0.4 + (0.14 if steps[column - 1][1] else 0) + 0.05, y), (x - 0.03, y)
                ax.add_patch(FancyArrowPatch(*ends, arrowstyle="->", mutation_scale=11, color=GREY))
    ax.set(xlim=(-1.5, longest * 1.5), ylim=(-1.5 * (len(rows) - 1) - 0.6, 0.75))
    bare(ax)
    if title:
        ax.set_title(title)
    return ax


def show_roi_pool(image, box, rounded, stride, bins, title=None, ax=None):
    """Draw what RoIPool makes of a box: the box as it is, the whole cells that it is rounded to, and the bins.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        box: (4,) `xyxy` pixels.
        rounded: (4,) `xyxy` pixels: the whole cells, as `utils.detection.roi.whole_cells` gives them.
        stride: pixels of a cell of the map.
        bins: int, along each axis. Where the cells do not divide evenly, neighbouring bins share a row or column of
            cells; their borders are drawn where each begins.
        title: above the image.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(3.6, 3.6))
    pixels = as_pixels(image)
    draw_image(ax, pixels)
    height, width = pixels.shape[:2]
    draw_cells(ax, pixels.shape, (height / stride, width / stride))
    left, top, right, bottom = np.asarray(rounded, float) - 0.5
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, facecolor=SKY, alpha=0.35, linewidth=0))
    for first, last, draw, along in (
        (left, right, ax.vlines, (top, bottom)),
        (top, bottom, ax.hlines, (left, right)),
    ):
        cells = round((last - first) / stride)
        starts = first + stride * (np.arange(1, bins) * cells // bins)
        draw(np.append(starts, [first, last]), *along, color=BLUE, linewidth=1.4)
    left, top, right, bottom = np.asarray(box, float) - 0.5
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=VERMILLION, linewidth=2))
    ax.set_xlim(-0.5, max(width, rounded[2]) - 0.5)
    ax.set_ylim(max(height, rounded[3]) - 0.5, -0.5)
    if title:
        ax.set_title(title, fontsize=10)
    return ax


def show_anchor_labels(image, anchors, labels, boxes, title=None, ax=None):
    """Draw which anchors a proposal network is told to call objects, which background, and which it is not asked about.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        anchors: (N, 4) `xyxy` pixels.
        labels: (N,) int: 0 and above positive, -1 background, -2 left out, as `matching.match` gives them. Positive
            anchors are drawn as boxes, the others as dots in their centres, which cover each other where several
            anchors share a place.
        boxes: (M, 4) `xyxy` pixels, the objects.
        title: above the image; None: how many there are of each kind.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.

    Raises:
        ValueError: numbers of anchors and labels differ.
    """
    anchors, labels = np.asarray(anchors, float), np.asarray(labels)
    if len(anchors) != len(labels):
        raise ValueError(f"{len(anchors)} anchors, but {len(labels)} labels")
    positive = labels >= 0
    inside = np.concatenate([np.asarray(boxes, float).reshape(-1, 4), anchors[positive]])
    colours = ["white"] * (len(inside) - positive.sum()) + [VERMILLION] * int(positive.sum())
    ax = show_boxes(image, inside, colours, linewidth=1.8, ax=ax)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2 - 0.5
    for kind, colour, size, name in ((-1, BLUE, 2.5, "background"), (-2, ORANGE, 5, "left out")):
        ax.plot(*centres[labels == kind].T, "o", color=colour, markersize=size, alpha=0.8, label=name)
    counts = positive.sum(), (labels == -1).sum(), (labels == -2).sum()
    ax.set_title(title or "{} positive, {} background, {} left out".format(*counts), fontsize=10)
    return ax


def show_rois(image, boxes, features, titles=None, title=None):
    """Draw regions of an image, and below each the features that were cut out for it, as the mean over channels.

    Args:
        image: (H, W, 3).
        boxes: (N, 4) `xyxy` pixels, inside the image.
        features: (N, h, w, C). All are drawn with one scale.
        titles: N texts above the regions.
        title: of the whole figure.

    Returns:
        Figure.

    Raises:
        ValueError: numbers of boxes and features differ.
    """
    if len(boxes) != len(features):
        raise ValueError(f"{len(boxes)} boxes, but features of {len(features)}")
    pixels, means = as_pixels(image), np.asarray(features, float).mean(axis=-1)
    height, width = pixels.shape[:2]
    tile = min(1.5, WIDTH / len(boxes))
    figure, axes = plt.subplots(
        2, len(boxes), figsize=(tile * len(boxes), 2 * tile + 0.5), squeeze=False, layout="constrained"
    )
    for column, (box, cut) in enumerate(zip(np.asarray(boxes, float), means)):
        above, below = axes[:, column]
        left, top = np.clip(np.floor(box[:2]).astype(int), 0, [width - 1, height - 1])
        right, bottom = np.maximum(np.ceil(box[2:]).astype(int), [left + 1, top + 1])
        draw_image(above, pixels[top:bottom, left:right])
        below.imshow(cut, cmap="viridis", vmin=means.min(), vmax=means.max())
        bare(below)
        if titles is not None:
            above.set_title(titles[column], fontsize=9)
    if title:
        figure.suptitle(title)
    return figure


def stacked_times(times, xlabel="milliseconds an image", title=None, ax=None):
    """Draw how long each detector takes for an image, its parts one after the other.

    Args:
        times: dict of detector -> dict of part -> milliseconds; the parts' colours follow the order of their first
            appearance.
        xlabel: of the axis.
        title: of the axes.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.
    """
    parts = list(dict.fromkeys(part for row in times.values() for part in row))
    if ax is None:
        _, ax = plt.subplots(figsize=(WIDTH, 0.5 * len(times) + 1.1))
    names = list(times)
    for row, name in enumerate(names):
        start, whole = 0.0, sum(times[name].values())
        for part, value in times[name].items():
            ax.barh(row, value, left=start, color=class_colour(parts.index(part)), height=0.6)
            start += value
        ax.text(whole, row, f" {whole:,.1f}", va="center", fontsize=9)
    handles = [Rectangle((0, 0), 1, 1, color=class_colour(index)) for index in range(len(parts))]
    ax.legend(handles, parts, fontsize=9, loc="best")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set(xlabel=xlabel)
    ax.grid(axis="y", visible=False)
    if title:
        ax.set_title(title)
    return ax
