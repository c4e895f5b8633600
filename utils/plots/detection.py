"""What a detector does, drawn: anchors, proposals and merged regions, the precision-recall curve as its threshold
slides."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from utils.plots.base import BLUE, GREY, VERMILLION, WIDTH, as_pixels, bare, class_colour, draw_image, tiles
from utils.plots.explorer import explore
from utils.plots.scenes import draw_objects


def show_boxes(image, boxes, colours=None, linewidth=1.2, alpha=1.0, title=None, ax=None):
    """Draw plain boxes, of no class, on an image: anchors, windows, proposals.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        boxes: (N, 4) `xyxy` pixels. What lies outside the image is drawn too, on the white around it.
        colours: a colour for all, or N of them; None: blue.
        linewidth, alpha: of the lines.
        title: above the image.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.

    Raises:
        ValueError: boxes of another shape, or as many colours as there are not boxes.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4) if np.size(boxes) == 0 else np.asarray(boxes, float)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected boxes (N, 4), got {boxes.shape}")
    if colours is None or isinstance(colours, str):
        colours = [colours or BLUE] * len(boxes)
    if len(colours) != len(boxes):
        raise ValueError(f"{len(boxes)} boxes, but {len(colours)} colours")
    if ax is None:
        _, ax = plt.subplots(figsize=(4, 4))
    pixels = as_pixels(image)
    draw_image(ax, pixels)
    for (left, top, right, bottom), colour in zip(boxes - 0.5, colours):
        ax.add_patch(
            Rectangle(
                (left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=linewidth, alpha=alpha
            )
        )
    height, width = pixels.shape[:2]
    low = np.minimum(boxes[:, :2].min(axis=0, initial=0), 0) - 1
    ax.set_xlim(low[0], max(boxes[:, 2].max(initial=width), width))
    ax.set_ylim(max(boxes[:, 3].max(initial=height), height), low[1])
    if title:
        ax.set_title(title)
    return ax


def show_anchors(image, anchors, per_place, stride, place=None, title=None, ax=None):
    """Draw the centres of all anchors as dots, and the anchors of one place as boxes.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        anchors: (h * w * A, 4) `xyxy` pixels, as `anchors.grid` gives them.
        per_place: int, A.
        stride: pixels between places.
        place: (row, column) on the map; None: the middle.
        title: above the image.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.

    Raises:
        ValueError: the number of anchors is no multiple of A, or there is no such place.
    """
    anchors = np.asarray(anchors)
    if len(anchors) % per_place or not len(anchors):
        raise ValueError(f"{len(anchors)} anchors are not {per_place} at each place")
    centres = (anchors[::per_place, :2] + anchors[::per_place, 2:]) / 2
    columns = int((np.abs(centres[:, 1] - centres[0, 1]) < stride / 2).sum())
    rows = len(centres) // columns
    row, column = (rows // 2, columns // 2) if place is None else place
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(f"there is no place {(row, column)} on a map of {rows} x {columns}")
    first = (row * columns + column) * per_place
    chosen = anchors[first : first + per_place]
    colours = [class_colour(index) for index in range(per_place)]
    ax = show_boxes(image, chosen, colours, linewidth=2, title=title, ax=ax)
    ax.plot(*(centres.T - 0.5), ".", color="white", markersize=5, markeredgecolor=GREY, markeredgewidth=0.6)
    return ax


def precision_recall_curve(recall, precision, scores=None, thresholds=(), area=True, title=None, ax=None):
    """Draw precision over recall, with the points that some thresholds on the score give.

    Args:
        recall, precision, scores: (N,) each by falling score, as `evaluation.precision_recall` gives them.
        thresholds: floats; the curve is drawn fully up to the lowest of them and faintly beyond, and each gets a point.
            They need scores.
        area: whether to fill the area that average precision measures, under the highest precision at that recall or
            above.
        title: of the axes.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.

    Raises:
        ValueError: thresholds without scores.
    """
    recall, precision = np.asarray(recall, float), np.asarray(precision, float)
    if len(thresholds) and scores is None:
        raise ValueError("thresholds need the scores of the detections")
    if ax is None:
        _, ax = plt.subplots(figsize=(4.4, 3.4))
    counts = [int((np.asarray(scores) >= threshold).sum()) for threshold in thresholds]
    drawn = max(counts, default=len(recall))
    if area and len(recall):
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        x, y = np.append(0, recall), np.append(highest[:1], highest)
        ax.fill_between(x[: drawn + 1], y[: drawn + 1], step="pre", color=BLUE, alpha=0.15, linewidth=0)
    ax.plot(recall, precision, color=BLUE, alpha=0.25)
    ax.plot(recall[:drawn], precision[:drawn], color=BLUE)
    for threshold, count in zip(thresholds, counts):
        if not count:
            continue
        x, y = recall[count - 1], precision[count - 1]
        ax.plot(x, y, "o", color=VERMILLION, markersize=6, zorder=3)
        ax.annotate(
            f"{threshold:.2f}",
            (x, y),
            xytext=(5, -12 if y > 0.92 else 6),  # right of a falling curve and above it is room
            textcoords="offset points",
            fontsize=9,
            color=VERMILLION,
        )
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.04))
    if title:
        ax.set_title(title)
    return ax


def threshold_strip(image, detections, curve, thresholds=(0.8, 0.5, 0.2), classes=None, title=None):
    """Draw one image's detections at several thresholds, and below each the curve so far: average precision as a
    threshold slides down.

    Args:
        image: (H, W, 3).
        detections: dict of this image's `boxes` (K, 4), `labels` (K,), `scores` (K,).
        curve: recall, precision, scores of the whole set, as `evaluation.precision_recall` gives them.
        thresholds: floats.
        classes: names of the classes.
        title: of the whole figure.

    Returns:
        Figure.
    """
    tile = min(2.7, WIDTH / len(thresholds))
    figure, axes = plt.subplots(
        2, len(thresholds), figsize=(tile * len(thresholds), 2 * tile + 0.2), squeeze=False, layout="constrained"
    )
    for threshold, above, below in zip(thresholds, *axes):
        _draw_threshold(image, detections, curve, threshold, classes, above, below)
        if below is not axes[1, 0]:
            below.set_ylabel("")
    if title:
        figure.suptitle(title)
    return figure


def explore_threshold(image, detections, curve, thresholds=(0.8, 0.5, 0.2), classes=None):
    """A slider for the threshold, in percent: one image's boxes, precision and recall follow. Without a reader,
    `threshold_strip`.

    Args:
        image, detections, curve, thresholds, classes: as for `threshold_strip`; the slider starts at the middle
            threshold.
    """

    def draw(threshold):
        _, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), layout="constrained")
        _draw_threshold(image, detections, curve, threshold / 100, classes, left, right)

    start = round(100 * sorted(thresholds)[len(thresholds) // 2])
    explore(draw, lambda: threshold_strip(image, detections, curve, thresholds, classes), threshold=(start, 1, 99))


def _draw_threshold(image, detections, curve, threshold, classes, left, right):
    kept = np.asarray(detections["scores"]) >= threshold
    kept &= np.asarray(detections["labels"]) >= 0
    few = kept.sum() <= 6  # the names of more boxes would cover one another; the colours tell the classes too
    shown = ("boxes", "labels", "scores") if few else ("boxes", "labels")
    objects = {key: np.asarray(detections[key])[kept] for key in shown}
    draw_objects(image, **objects, classes=classes, names=few, ax=left)
    left.set_title(f"score at least {threshold:.2f}", fontsize=10)
    recall, precision, scores = curve
    precision_recall_curve(recall, precision, scores, [threshold], ax=right)
    count = int((np.asarray(scores) >= threshold).sum())
    if count:
        right.set_title(f"precision {precision[count - 1]:.2f}, recall {recall[count - 1]:.2f}", fontsize=10)


def proposal_recall(counts, recalls, iou=0.5, title=None, ax=None):
    """Draw the share of objects that are found by the first n proposals, over n, on a logarithmic axis.

    Args:
        counts: ints, the n.
        recalls: dict of name -> (len(counts),) float, one line each, as `proposals.recall_curve` gives them.
        iou: float that counted as found, for the label.
        title: of the axes.
        ax: Axes to draw on; None for a new figure.

    Returns:
        Axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 3.4))
    for index, (name, values) in enumerate(recalls.items()):
        ax.plot(counts, values, marker="os^vDPX*"[index % 8], markersize=4, color=class_colour(index), label=name)
    ax.set_xscale("log")
    ax.set(xlabel="proposals an image", ylabel=f"objects found (IoU at least {iou:g})", ylim=(0, 1.04))
    ax.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)  # inside, a curve runs through it
    if title:
        ax.set_title(title)
    return ax


def show_regions(image, hierarchy, steps=4, title=None):
    """Draw what selective search does to an image: the regions after some of its merges, each in its mean colour, with
    the boxes around them.

    Args:
        image: (H, W, 3), uint8 or float in [0, 1].
        hierarchy: `proposals.Hierarchy`.
        steps: int, pictures, from the first regions to a few large ones.
        title: of the whole figure.

    Returns:
        Figure.
    """
    pixels = as_pixels(image)
    pixels = pixels.astype(float) / (255 if pixels.dtype == np.uint8 else 1)
    first = len(hierarchy.boxes) - len(hierarchy.merges)
    least = min(4, first)
    left = np.unique(np.geomspace(first, least, steps).round().astype(int))[::-1]  # regions that are left
    figure, axes = tiles(len(left), len(left), 2.4, True)
    for ax, count in zip(axes, left):
        alive = _alive(hierarchy, first, int(first - count))
        shown = np.zeros_like(pixels)
        for region in alive:
            inside = hierarchy.mask(region)
            shown[inside] = pixels[inside].mean(axis=0)
        show_boxes(shown, hierarchy.boxes[alive], VERMILLION, linewidth=1, ax=ax)
        ax.set_title(f"{count} regions", fontsize=10)
        bare(ax)
    if title:
        figure.suptitle(title)
    return figure


def _alive(hierarchy, first, merges):
    """The regions that are left after so many merges."""
    merged = set(hierarchy.merges[:merges].ravel().tolist())
    return [region for region in range(first + merges) if region not in merged]
