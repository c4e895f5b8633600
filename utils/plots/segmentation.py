"""Label maps of several models side by side, and where each of them errs."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from utils.labels import IGNORED
from utils.plots.base import BLACK, BLUE, GREY, ORANGE, VERMILLION, WIDTH, as_pixels, bare, draw_image
from utils.plots.scenes import class_handles, coloured, legend


def show_label_maps(images, truth, predictions=None, classes=None, errors=False, row_titles=None, title=None, tile=1.5):
    """Draw an image a row: the image, its true label map, and the label map of each model.

    Args:
        images: (N, H, W, C), or one image (H, W, C).
        truth: (N, H, W) int, 0 for background, 255 for what does not count; without the N for one image.
        predictions: dict of a model's name -> (N, H, W) int; without the N for one image. None: no model.
        classes: names of the classes, with "background" in front or without.
        errors: whether models' maps show only where they err: right pixels faded, wrong ones in the colour of the
            predicted class, and black where an object was taken for background. Each gets its share of wrong pixels as
            a title.
        row_titles: N texts beside the rows.
        title: of the whole figure.
        tile: width of a picture in inches, at most.

    Returns:
        Figure.

    Raises:
        ValueError: no images, or label maps that do not fit them.
    """
    single = np.ndim(images) == 3
    images, truth = (np.asarray(values)[None] if single else np.asarray(values) for values in (images, truth))
    predictions = {
        name: np.asarray(values)[None] if single else np.asarray(values) for name, values in (predictions or {}).items()
    }
    if len(images) == 0:
        raise ValueError("there are no images to show")
    for name, values in {"truth": truth, **predictions}.items():
        if values.shape != images.shape[:3]:
            raise ValueError(f"images are {images.shape[:3]}, but {name} is {values.shape}")
    columns = 2 + len(predictions)
    tile = min(tile, (WIDTH - 0.2) / columns)
    shape = images.shape[1] / images.shape[2]
    figure, axes = plt.subplots(
        len(images),
        columns,
        figsize=(tile * columns + 0.2, (tile * shape + (0.18 if errors else 0)) * len(images) + 0.7),
        squeeze=False,
        layout="constrained",
    )
    seen = set()
    for row, image in enumerate(as_pixels(images)):
        draw_image(axes[row, 0], image)
        if row_titles is not None:
            axes[row, 0].set_ylabel(str(row_titles[row]), fontsize=9)
        maps = {"truth": truth[row], **{name: values[row] for name, values in predictions.items()}}
        for ax, (name, labels) in zip(axes[row, 1:], maps.items()):
            if errors and name != "truth":
                counted = truth[row] != IGNORED
                wrong = counted & (labels != truth[row])
                ax.imshow(_errors(image, labels, wrong))
                ax.set_title(f"{100 * wrong.sum() / max(counted.sum(), 1):.1f} % wrong", fontsize=8, pad=2)
                seen |= set(np.unique(labels[wrong]).tolist())
            else:
                ax.imshow(coloured(image, labels))
                seen |= set(np.unique(labels).tolist())
            bare(ax)
            for spine in ax.spines.values():
                spine.set(visible=True, color=GREY, linewidth=0.6)
    for ax, name in zip(axes[0], ["image", "truth", *predictions]):
        below = ax.get_title()
        ax.set_title(f"{name}\n{below}" if below else name, fontsize=9 if not below else 8, pad=3)
    classes = classes[1:] if classes is not None and len(classes) and classes[0] == "background" else classes
    handles = class_handles(sorted(int(value) - 1 for value in seen - {0, IGNORED}), classes)
    if errors and 0 in seen and predictions:
        handles.append(Patch(facecolor=BLACK, label="missed: taken for background"))
    if IGNORED in seen:
        handles.append(Patch(facecolor="white", edgecolor=GREY, linewidth=0.6, label="ignored"))
    legend(figure, handles)
    if title:
        figure.suptitle(title)
    return figure


def show_overlap(truth, predicted, title=None):
    """Draw what IoU and Dice count: two regions, and each score as a bar of which the filled part is the share.

    Args:
        truth: (H, W) bool, the true region.
        predicted: (H, W) bool, the predicted one.
        title: of the whole figure.

    Returns:
        Figure.

    Raises:
        ValueError: shapes that differ, or two empty regions.
    """
    truth, predicted = np.asarray(truth).astype(bool), np.asarray(predicted).astype(bool)
    if truth.ndim != 2 or truth.shape != predicted.shape:
        raise ValueError(f"expected two regions of one shape (H, W), got {truth.shape} and {predicted.shape}")
    both, missed, false = truth & predicted, truth & ~predicted, predicted & ~truth
    i, t, p = (int(region.sum()) for region in (both, truth, predicted))
    if t + p == 0:
        raise ValueError("both regions are empty: there is no overlap to draw")
    kinds = {"both: i": (both, BLUE), "missed: t - i": (missed, ORANGE), "false alarm: p - i": (false, VERMILLION)}
    picture = np.ones((*truth.shape, 3))
    for region, colour in kinds.values():
        picture[region] = to_rgb(colour)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.4), width_ratios=[1, 2], layout="constrained")
    axes[0].imshow(picture)
    bare(axes[0])
    for spine in axes[0].spines.values():
        spine.set(visible=True, color=GREY, linewidth=0.6)
    scores = {"IoU": [i, t - i, p - i], "Dice": [2 * i, t - i, p - i]}
    colours = [colour for _, colour in kinds.values()]
    for row, (name, parts) in enumerate(scores.items()):
        lefts = np.cumsum([0, *parts[:-1]])
        axes[1].barh(row, parts, left=lefts, color=colours, height=0.55, edgecolor="white")
        text = f"{name} = {parts[0]} / {sum(parts)} = {parts[0] / sum(parts):.2f}"
        axes[1].text(0, row - 0.42, text, fontsize=9, va="center")
    axes[1].set(xlabel="pixels", yticks=[], ylim=(1.45, -0.7))
    axes[1].grid(axis="y", visible=False)
    legend(figure, [Patch(facecolor=colour, label=name) for name, (_, colour) in kinds.items()])
    if title:
        figure.suptitle(title)
    return figure


def _errors(image, labels, wrong):
    """The faded image with the wrong pixels in the colour of what they were taken for: (H, W, 3) float."""
    result = coloured(image, np.where(wrong, labels, 0))
    result[wrong & (labels == 0)] = 0
    return result
