"""Occlusion sensitivity: what the net says when a part of the image is hidden."""

from dataclasses import dataclass

import numpy as np

from utils.introspection import inside


@dataclass(frozen=True)
class Occlusion:
    """What a classifier says with a square hidden, for every position of the square.

    `probability` (N, rows, columns) of the class `classes` (N,); `winner` (N, rows, columns) the class that wins there;
    `plain` (N,) the probability with nothing hidden. `tops` (rows,) and `lefts` (columns,) are the square's first
    pixels, `size` its side, `shape` the image's.
    """

    classes: np.ndarray
    probability: np.ndarray
    winner: np.ndarray
    plain: np.ndarray
    tops: np.ndarray
    lefts: np.ndarray
    size: int
    shape: tuple

    def per_pixel(self):
        """(N, H, W): for each pixel, the mean probability over the squares that hide it; NaN where none does."""
        total = np.zeros((len(self.plain), *self.shape))
        count = np.zeros(self.shape)
        for row, top in enumerate(self.tops):
            for column, left in enumerate(self.lefts):
                hidden = (slice(top, top + self.size), slice(left, left + self.size))
                total[(slice(None), *hidden)] += self.probability[:, row, column, None, None]
                count[hidden] += 1
        with np.errstate(invalid="ignore"):
            return (total / np.where(count, count, np.nan)).astype("float32")


def occlusion(model, images, class_index=None, size=16, stride=8, value=None, batch_size=64):
    """Hide a square of the image, at every position in turn, and look at the probability of the class and at the class
    that wins (Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014, figure 7).

    Args:
        model: keras.Model on images that gives (B, classes), logits or probabilities.
        images: (N, H, W, C).
        class_index: int, or N of them; None: the winner of each image with nothing hidden.
        size: int, side of the square in pixels.
        stride: int, pixels from one position to the next; the last row and column of squares touch the edge, so that
            every pixel is hidden somewhere (as long as stride <= size).
        value: number, or one for each channel, to hide with; None: the image's mean colour.
        batch_size: int, squares at a time.

    Returns:
        Occlusion.

    Raises:
        ValueError: no such class, or a square that does not fit.
    """
    images = inside.as_images(model, images)
    count, height, width, channels = images.shape
    if not 1 <= size <= min(height, width) or stride < 1:
        raise ValueError(f"a square of {size} at stride {stride} does not fit images of {height} x {width}")
    scores, plain, _ = inside.predict(model, images, batch_size)
    classes = inside.which_class(class_index, scores)
    colours = (
        images.mean(axis=(1, 2)) if value is None else np.broadcast_to(np.asarray(value, "float32"), (count, channels))
    )
    tops, lefts = _starts(height, size, stride), _starts(width, size, stride)
    probability = np.empty((count, len(tops) * len(lefts)), "float32")
    winner = np.empty(probability.shape, int)
    squares = [(top, left) for top in tops for left in lefts]
    for number, (image, colour) in enumerate(zip(images, colours)):
        for start in range(0, len(squares), batch_size):
            part = squares[start : start + batch_size]
            hidden = np.repeat(image[None], batch_size, axis=0)  # as many rows in each batch, so that all have one size
            for copy, (top, left) in zip(hidden, part):
                copy[top : top + size, left : left + size] = colour
            found = inside.predict(model, hidden, batch_size)
            probability[number, start : start + len(part)] = found.probabilities[: len(part), classes[number]]
            winner[number, start : start + len(part)] = found.scores[: len(part)].argmax(axis=-1)
    shape = (count, len(tops), len(lefts))
    return Occlusion(
        classes,
        probability.reshape(shape),
        winner.reshape(shape),
        plain[np.arange(count), classes],
        tops,
        lefts,
        size,
        (height, width),
    )


def _starts(n, size, stride):
    starts = np.arange(0, n - size + 1, stride)
    return starts if starts[-1] == n - size else np.append(starts, n - size)
