"""Maps over images: saliency and its kin, patches in grids, occlusion, and what fooled a net."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch, Rectangle

from utils.plots.base import BLACK, GREY, VERMILLION, WIDTH, as_pixels, bare, class_colour, class_name, draw_image

HEAT = "inferno"
SIGNED = "RdBu_r"


def heat_map(image, values, ax=None, alpha=0.6, limits=None, title=None, bar=False):
    """Draw a map over an image, which is shown in grey: dark = lowest, yellow = highest.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        values: (h, w) of any size, spread over the image; NaN leaves the image alone.
        ax: Axes, or None for a new figure.
        alpha: how much of the image the map hides, 0 to 1.
        limits: (low, high) of the colours; None: the map's own.
        title: text.
        bar: whether the colours are explained beside the picture.

    Returns:
        Axes.
    """
    values = np.asarray(values, "float32")
    if values.ndim != 2:
        raise ValueError(f"a map is (H, W), got the shape {values.shape}")
    if ax is None:
        _, ax = plt.subplots(figsize=(3.6 if bar else 3.0, 3.0))
    pixels = _grey(image)
    height, width = pixels.shape
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    low, high = limits or (np.nanmin(values), np.nanmax(values))
    drawn = ax.imshow(
        values, cmap=HEAT, vmin=low, vmax=high, alpha=alpha, extent=(0, width, height, 0), interpolation="nearest"
    )
    bare(ax)
    if title:
        ax.set_title(title)
    if bar:
        ax.figure.colorbar(drawn, ax=ax, shrink=0.8).outline.set_visible(False)
    return ax


def show_maps(images, maps, titles=None, overlay=(), title=None, tile=1.6):
    """Draw images and the maps of several methods, an image a row, a method a column.

    Each map uses the whole range of its colours, up to its 99.5 % quantile. Maps of at least 0 go from black to yellow;
    maps with values below 0 are blue below, white at and red above zero; maps of three channels are drawn as colours,
    grey at zero.

    Args:
        images: (N, H, W, C), or one image (H, W, C).
        maps: dict of the method's name -> (N, H, W) or (N, H, W, C); without the N for one image.
        titles: N texts, one beside each row.
        overlay: names of methods whose map is laid over the image.
        title: of the whole figure.
        tile: width of a picture in inches, at most.

    Returns:
        Figure.

    Raises:
        ValueError: a method has not as many maps as there are images.
    """
    single = np.ndim(images) == 3
    images = np.asarray(images)[None] if single else np.asarray(images)
    maps = {name: np.asarray(values)[None] if single else np.asarray(values) for name, values in maps.items()}
    for name, values in maps.items():
        if len(values) != len(images):
            raise ValueError(f"{len(images)} images, but {len(values)} maps of {name}")
    columns = 1 + len(maps)
    tile = min(tile, WIDTH / columns)
    figure, axes = plt.subplots(
        len(images), columns, figsize=(tile * columns, tile * len(images) + 0.3), squeeze=False, layout="constrained"
    )
    pixels = as_pixels(images)
    for row, image in enumerate(pixels):
        draw_image(axes[row, 0], image)
        if titles is not None:
            axes[row, 0].set_ylabel(str(titles[row]), fontsize=10)
        for ax, (name, values) in zip(axes[row, 1:], maps.items()):
            if name in overlay:
                heat_map(image, values[row], ax)
            else:
                _draw_map(ax, values[row])
    for ax, name in zip(axes[0], ["image", *maps]):
        ax.set_title(name, fontsize=10, pad=3)
    if title:
        figure.suptitle(title)
    return figure


def show_patches(patches, projections=None, titles=None, groups=None, title=None, tile=2.0):
    """Draw patches of images in square grids, one for each channel; beside each, if there are any, the projections back
    to the pixels.

    Args:
        patches: list of (k, h, w, C) arrays, one for each channel, strongest first.
        projections: None, or as many arrays of the same form, such as the deconvnet's; each is drawn grey at zero, on
            one scale for a channel.
        titles: texts, one for each channel.
        groups: grids in a row of the figure; None: as many as fit.
        title: of the whole figure.
        tile: width of a grid in inches, at most.

    Returns:
        Figure.

    Raises:
        ValueError: there are no patches, or not as many titles or projections.
    """
    patches = [np.asarray(part) for part in patches]
    if not patches:
        raise ValueError("there are no patches to show")
    for name, values in [("titles", titles), ("projections", projections)]:
        if values is not None and len(values) != len(patches):
            raise ValueError(f"{len(patches)} channels, but {len(values)} {name}")
    each = 1 if projections is None else 2
    groups = min(len(patches), groups or max(1, int(WIDTH / (tile * each))))
    rows = -(-len(patches) // groups)
    tile = min(tile, WIDTH / (groups * each))
    figure, axes = plt.subplots(
        rows,
        groups * each,
        figsize=(tile * groups * each, (tile + 0.25) * rows),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(patches) * each :]:
        ax.set_visible(False)
    for number, part in enumerate(patches):
        first = axes.flat[number * each]
        if projections is not None:
            draw_image(first, _mosaic(_centred(np.asarray(projections[number])), 0.5))
            first = axes.flat[number * each + 1]
        draw_image(first, _mosaic(as_pixels(part), 1.0))
        if titles is not None:
            axes.flat[number * each].set_title(str(titles[number]), fontsize=10, pad=3)
    if title:
        figure.suptitle(title)
    return figure


def show_occlusion(image, probability, winner, size, tops, lefts, class_index, classes=None, plain=None, title=None):
    """Draw an occlusion experiment: the image with one hidden square, the probability of the class, and the winning
    class, by position.

    Args:
        image: (H, W, C).
        probability, winner: (rows, columns), by the position of the square, as `introspection.occlusion` gives for one
            image.
        size: int, side of the square in pixels.
        tops, lefts: first pixels of the squares, by row and by column.
        class_index: int, the class whose probability it is.
        classes: names of the classes.
        plain: probability with nothing hidden, written into the title.
        title: of the whole figure.

    Returns:
        Figure.
    """
    probability, winner = np.asarray(probability), np.asarray(winner)
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.9), layout="constrained")
    draw_image(axes[0], as_pixels(image))
    row, column = np.unravel_index(probability.argmin(), probability.shape)
    axes[0].add_patch(
        Rectangle((lefts[column] - 0.5, tops[row] - 0.5), size, size, facecolor="none", edgecolor=VERMILLION, lw=2)
    )
    axes[0].set_title("hidden where the\nprobability is lowest", fontsize=10)
    name = class_name(class_index, classes)
    drawn = axes[1].imshow(probability, cmap=HEAT, vmin=0, vmax=1)
    axes[1].set_title(
        f"probability of {name}\n" + ("" if plain is None else f"({plain:.2f} with nothing hidden)"), fontsize=10
    )
    figure.colorbar(drawn, ax=axes[1], shrink=0.8).outline.set_visible(False)
    found, counts = np.unique(winner, return_counts=True)
    found = found[np.argsort(-counts, kind="stable")]
    numbers = np.searchsorted(np.sort(found), winner)
    colours = (
        [class_colour(index) for index in np.sort(found)] if len(set(map(class_colour, found))) == len(found) else None
    )
    colours = colours or [class_colour(number) for number in range(len(found))]
    axes[2].imshow(numbers, cmap=ListedColormap(colours), vmin=-0.5, vmax=len(found) - 0.5)
    axes[2].set_title("winning class\n", fontsize=10)
    legend = dict(zip(np.sort(found), colours))
    axes[2].legend(
        handles=[Patch(color=legend[index], label=class_name(index, classes)) for index in found[:6]],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=9,
        handlelength=1,
    )
    for ax in axes[1:]:
        bare(ax)
    if title:
        figure.suptitle(title)
    return figure


def show_fooling(image, fooled, path, classes=None, shown=3, title=None):
    """Draw how a net was fooled: the image, the change, the image after it, and the probabilities on the way.

    Args:
        image: (H, W, C), before.
        fooled: (H, W, C), after.
        path: (steps + 1, classes) probabilities.
        classes: names of the classes.
        shown: int, classes drawn: the winners at both ends, then those that are highest at some step.
        title: of the whole figure.

    Returns:
        Figure.
    """
    image, fooled, path = np.asarray(image, "float32"), np.asarray(fooled, "float32"), np.asarray(path)
    change = fooled - image
    figure, axes = plt.subplots(1, 4, figsize=(WIDTH, 2.4), width_ratios=(1, 1, 1, 1.5), layout="constrained")
    both = as_pixels(np.stack([image, fooled]))
    draw_image(axes[0], both[0])
    axes[0].set_title(f"{class_name(path[0].argmax(), classes)}, {path[0].max():.2f}", fontsize=10)
    draw_image(axes[1], _centred(change[None])[0])
    axes[1].set_title(f"change, at most {np.abs(change).max():.3g}", fontsize=10)
    draw_image(axes[2], both[1])
    axes[2].set_title(f"{class_name(path[-1].argmax(), classes)}, {path[-1].max():.2f}", fontsize=10)
    ends = dict.fromkeys([int(path[0].argmax()), int(path[-1].argmax())])
    highest = list(ends | dict.fromkeys(np.argsort(-path.max(axis=0), kind="stable").tolist()))[:shown]
    for number, index in enumerate(highest):
        axes[3].plot(path[:, index], color=class_colour(number), marker="o", ms=3, label=class_name(index, classes))
    axes[3].set(xlabel="step", title="probability", ylim=(-0.03, 1.03))
    axes[3].legend(fontsize=9, labelcolor=BLACK)
    axes[3].axhline(1 / path.shape[1], color=GREY, ls="--", lw=1)
    if title:
        figure.suptitle(title)
    return figure


def _grey(image):
    pixels = as_pixels(image)
    pixels = pixels / 255 if pixels.dtype == np.uint8 else pixels
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels @ [0.299, 0.587, 0.114] if pixels.shape[-1] == 3 else pixels[..., 0]


def _draw_map(ax, values):
    values = np.asarray(values, "float32")
    if values.ndim == 3 and values.shape[-1] == 3:
        draw_image(ax, _centred(values[None])[0])
        return
    values = values[..., 0] if values.ndim == 3 else values
    scale = max(float(np.quantile(np.abs(values), 0.995)), 1e-12)
    signed = values.min() < 0
    ax.imshow(values, cmap=SIGNED if signed else HEAT, vmin=-scale if signed else 0, vmax=scale)
    bare(ax)


def _centred(values):
    """Values with signs as pixels: grey at zero, on one scale."""
    values = np.asarray(values, "float32")
    scale = max(float(np.quantile(np.abs(values), 0.995)), 1e-12)
    return np.clip(0.5 + values / (2 * scale), 0, 1)


def _mosaic(images, ground):
    """Images (k, h, w, C) in a square of rows, with a line between them."""
    images = images.astype("float32") / 255 if images.dtype == np.uint8 else images
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    line = max(1, round(0.04 * width))
    canvas = np.full((rows * (height + line) - line, columns * (width + line) - line, channels), ground, "float32")
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = row * (height + line), column * (width + line)
        canvas[top : top + height, left : left + width] = image
    return canvas
