"""What the heads of detectors say, drawn: the cells of a grid, all boxes before suppression, kinds of errors, and
accuracy against speed."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from utils.plots.base import GREY, WIDTH, as_pixels, class_colour, draw_cells, draw_image
from utils.plots.scenes import class_handles, draw_objects


def show_grid(image, grid, boxes, labels, title=None, ax=None):
    """Draw the cells of a grid, and shade the cell in which each object has its centre.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        grid: (rows, columns).
        boxes: (N, 4) `xyxy` pixels.
        labels: (N,) int; objects with -1 are padding and not drawn.
        title: above the image.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.

    Raises:
        ValueError: as many labels as there are not boxes.
    """
    boxes, labels = np.asarray(boxes, float).reshape(-1, 4), np.asarray(labels)
    ax = draw_objects(image, boxes, labels, names=False, ax=ax)
    steps = draw_cells(ax, np.shape(image), grid)
    last = np.array([grid[1] - 1, grid[0] - 1])
    for box, label in zip(boxes, labels):
        if label < 0:
            continue
        centre = (box[:2] + box[2:]) / 2
        x, y = np.clip(np.floor(centre / steps), 0, last) * steps - 0.5
        ax.add_patch(Rectangle((x, y), *steps, facecolor=class_colour(label), alpha=0.35, linewidth=0))
        ax.plot(*(centre - 0.5), "o", color=class_colour(label), markersize=6, markeredgecolor="white")
    if title:
        ax.set_title(title)
    return ax


def show_cells(image, labels, strengths, title=None, ax=None):
    """Draw what each cell of a grid believes: the colour of its class, the fuller, the surer it is.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        labels: (rows, columns) int.
        strengths: (rows, columns) float in [0, 1].
        title: above the image.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.

    Raises:
        ValueError: labels and strengths of different shapes.
    """
    labels, strengths = np.asarray(labels), np.asarray(strengths, float)
    if labels.shape != strengths.shape or labels.ndim != 2:
        raise ValueError(f"expected labels and strengths (rows, columns), got {labels.shape} and {strengths.shape}")
    if ax is None:
        _, ax = plt.subplots(figsize=(4, 4))
    draw_image(ax, as_pixels(image))
    width, height = draw_cells(ax, np.shape(image), labels.shape)
    for (row, column), label in np.ndenumerate(labels):
        strength = float(np.clip(strengths[row, column], 0, 1))
        corner = column * width - 0.5, row * height - 0.5
        ax.add_patch(Rectangle(corner, width, height, facecolor=class_colour(label), alpha=0.75 * strength, lw=0))
    if title:
        ax.set_title(title)
    return ax


def show_candidates(image, boxes, scores, classes=None, title=None, ax=None):
    """Draw every box that a detector gives for an image, before any is suppressed: in the colour of its best class, the
    stronger, the higher its score.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        boxes: (N, 4) `xyxy` pixels.
        scores: (N, C) float in [0, 1].
        classes: None, or names for a legend of the classes that have a score above .2.
        title: above the image.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.

    Raises:
        ValueError: as many rows of scores as there are not boxes.
    """
    boxes, scores = np.asarray(boxes, float), np.asarray(scores, float)
    if scores.ndim != 2 or boxes.shape != (len(scores), 4):
        raise ValueError(f"expected boxes (N, 4) and scores (N, C), got {boxes.shape} and {scores.shape}")
    if ax is None:
        _, ax = plt.subplots(figsize=(4, 4))
    draw_image(ax, as_pixels(image))
    best, labels = np.clip(scores.max(axis=1), 0, 1), scores.argmax(axis=1)
    for index in np.argsort(best, kind="stable"):
        x0, y0, x1, y1 = boxes[index] - 0.5
        strength = best[index]
        edge = class_colour(labels[index]) if strength > 0.1 else GREY
        style = {"edgecolor": edge, "alpha": 0.15 + 0.85 * strength, "linewidth": 0.4 + 2.6 * strength}
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **style))
    height, width = np.shape(image)[:2]
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if classes is not None:
        seen = sorted(set(labels[best > 0.2].tolist()))
        if seen:
            ax.legend(handles=class_handles(seen, classes), fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    if title:
        ax.set_title(title)
    return ax


def error_bars(counts, kinds=("right", "doubled", "badly placed", "confused", "background"), xlabel=None, ax=None):
    """Draw a bar for each detector, cut into the kinds of its detections, and what it missed beside it.

    Args:
        counts: dict of name -> dict of kind -> count, as `evaluation.errors` gives it.
        kinds: of detections, from left to right.
        xlabel: of the bars; None: "detections".
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(WIDTH, 0.6 + 0.45 * len(counts)))
    names = list(counts)
    left = np.zeros(len(names))
    for place, kind in enumerate(kinds):
        width = np.array([counts[name][kind] for name in names], float)
        ax.barh(names, width, left=left, color=class_colour((2, 5, 4, 1, 7)[place % 5]), label=kind)
        left += width
    missed = np.array([counts[name]["missed"] for name in names], float)
    ax.barh(names, -missed, color=GREY, label="missed objects")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.invert_yaxis()
    ax.set_xlabel(xlabel or "detections")
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    ax.legend(ncols=len(kinds) + 1, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9, columnspacing=1)
    return ax


def speed_accuracy(points, groups=None, xlabel="images a second", ylabel="AP", legend=True, ax=None):
    """Draw accuracy against speed, a point for each detector.

    Args:
        points: dict of name -> (speed, accuracy).
        groups: dict of name -> group, told by a marker for each and in the legend; None: a marker for each name.
        xlabel, ylabel: of the axes; the speed's, which may be a time too, is logarithmic.
        legend: whether the names stand beside the axes: inside they would cover one another where points are near.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 3.6))
    kinds = list(dict.fromkeys((groups or {name: name for name in points})[name] for name in points))
    for place, (name, (speed, accuracy)) in enumerate(points.items()):
        kind = groups[name] if groups else name
        marker, label = "os^vDPX*"[kinds.index(kind) % 8], f"{name} ({kind})" if groups else name
        ax.plot(speed, accuracy, marker, color=class_colour(place), markersize=9, label=label)
    speeds = [speed for speed, _ in points.values()]
    ax.set_xscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(min(speeds) / 1.5, max(speeds) * 1.5), ylim=(0, 1.02))
    ticks = [step * 10**power for power in range(-1, 5) for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if min(speeds) / 1.5 < tick < max(speeds) * 1.5]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    if legend:
        ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return ax
