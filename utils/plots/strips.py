"""Pictures in strips: images of several methods, words and where the decoder looked, a game, codes, spectrograms."""

import matplotlib.pyplot as plt
import numpy as np

from utils.plots.base import PALETTE, WIDTH, as_pixels, bare, class_colour, draw_image, tiles
from utils.plots.maps import heat_map


def image_rows(rows, title=None):
    """Draw images in ink on paper, one row for each method, its name on the left: the same images stand in a column.

    Args:
        rows: dict of name -> (N, H, W) or (N, H, W, 1) float; 0 is drawn white, 1 black, the rest is cut off. N is the
            same in every row.
        title: of the whole figure.

    Returns:
        Figure.

    Raises:
        ValueError: no rows, or rows of unequal length.
    """
    lengths = {name: len(images) for name, images in rows.items()}
    if not rows or len(set(lengths.values())) > 1:
        raise ValueError(f"every row must have the same number of images, at least one row: got {lengths}")
    columns = next(iter(lengths.values()))
    size = (WIDTH, 0.1 + 0.9 * (WIDTH - 1) / columns * len(rows))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False, layout="constrained")
    for line, (name, images) in zip(axes, rows.items()):
        for ax, pixels in zip(line, np.clip(images, 0, 1)):
            draw_image(ax, pixels, "gray_r")
            for spine in ax.spines.values():  # white paper on a white page needs a frame
                spine.set(visible=True, linewidth=0.5)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    if title:
        figure.suptitle(title)
    return figure


def show_attention(image, words, weights, columns=5):
    """Draw where a decoder looked before each word: its weights over the image, the word above.

    Args:
        image: (H, W, C).
        words: T str.
        weights: (T or more, N) float, N cells in rows of a square map; what lies beyond the words is left out.
        columns: pictures in a row.

    Returns:
        Figure.

    Raises:
        ValueError: N is not a square number, or there are fewer rows of weights than words.
    """
    weights = np.asarray(weights, "float32")
    side = round(weights.shape[1] ** 0.5)
    if side**2 != weights.shape[1] or len(weights) < len(words):
        raise ValueError(f"{len(words)} words need weights ({len(words)}, side * side), got the shape {weights.shape}")
    figure, axes = tiles(len(words), columns, 1.6, True)
    for ax, word, look in zip(axes, words, weights):
        heat_map(image, look.reshape(side, side), ax=ax)
        ax.set_title(word, fontsize=10, pad=3)
    return figure


def show_episode(pictures, values, moves, title=None):
    """Draw a game as a strip: each picture, and below it the values of the moves by which the player chose.

    Args:
        pictures: T or T + 1 images; the last of T + 1 shows how the game ended and has no values.
        values: (T, A) float.
        moves: A names.
        title: of the whole figure.

    Returns:
        Figure.

    Raises:
        ValueError: the pictures are neither as many as the rows of values nor one more.
    """
    values = np.asarray(values, "float32")
    if len(pictures) - len(values) not in (0, 1):
        raise ValueError(f"{len(values)} moves have as many pictures or one more, got {len(pictures)}")
    size = (WIDTH, 2.4 + (0.3 if title else 0))
    figure, axes = plt.subplots(2, len(pictures), figsize=size, sharey="row", squeeze=False, layout="constrained")
    for ax, picture in zip(axes[0], pictures):
        draw_image(ax, as_pixels(picture))
    for ax, value in zip(axes[1], values):
        ax.bar(range(len(moves)), value, color=PALETTE[: len(moves)])
        ax.set_xticks(range(len(moves)), moves, fontsize=8)
    for ax in axes[1, len(values) :]:
        ax.set_visible(False)
    axes[1, 0].set_ylabel("value", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def show_codes(codes, labels, painted):
    """Draw codes of two numbers in the colours of their classes, and beside them what a decoder paints on a grid.

    Args:
        codes: (N, 2) float.
        labels: (N,) int.
        painted: (side * side, H, W) or (side * side, H, W, 1) in [0, 1], row by row, in ink on paper.

    Returns:
        Figure.

    Raises:
        ValueError: the painted images are no square number.
    """
    painted = np.asarray(painted)
    side, (height, width) = round(len(painted) ** 0.5), painted.shape[1:3]
    if side**2 != len(painted):
        raise ValueError(f"the grid must be a square, got {len(painted)} images")
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, WIDTH / 2), layout="constrained")
    for label in np.unique(labels):
        left.scatter(*codes[labels == label].T, s=8, color=class_colour(label), label=str(label))
    left.legend(fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    left.set(xlabel="first number", ylabel="second number", aspect="equal", title="where the test images lie")
    mosaic = painted.reshape(side, side, height, width).transpose(0, 2, 1, 3)
    draw_image(right, mosaic.reshape(side * height, side * width), "gray_r")
    right.set_title("painted from the plane")
    return figure


def spectrogram(values, ax=None, limit=None, title=None):
    """Draw one spectrogram, or the filters and answers over one: time to the right, bands upwards.

    Args:
        values: (frames, bands) float.
        ax: Axes, or None for a new figure.
        limit: None: black = lowest, yellow = highest. A number: values of both signs, blue below zero, white at
            zero, red above, full colour at this size.
        title: text.

    Returns:
        Axes.
    """
    values = np.asarray(values, "float32")
    if values.ndim != 2:
        raise ValueError(f"a spectrogram is (frames, bands), got the shape {values.shape}")
    ax = ax or plt.subplots(figsize=(3.0, 2.0), layout="constrained")[1]
    colours = {"cmap": "magma"} if limit is None else {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    ax.imshow(values.T, origin="lower", aspect="auto", **colours)
    bare(ax)
    if title:
        ax.set_title(title, fontsize=10)
    return ax
