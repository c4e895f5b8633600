"""Anchors (Faster R-CNN), default boxes (SSD), priors (YOLOv2): boxes of fixed sizes at every place of a feature map,
from which a net predicts.

All is NumPy: a net's anchors depend on the size of its maps alone, and stand in the compiled graph as constants.
"""

import numpy as np


def base(sizes, ratios):
    """The anchors of one place, centred on 0: every ratio with every size.

    Args:
        sizes: A floats, pixels: the square root of an anchor's area.
        ratios: R floats: height / width.

    Returns:
        (R * A, 4) float32 `xyxy` pixels, the first ratio with all sizes first.

    Raises:
        ValueError: no size or ratio, or one that is not above 0.
    """
    sizes, ratios = np.asarray(sizes, np.float64).reshape(-1), np.asarray(ratios, np.float64).reshape(-1)
    for name, values in (("sizes", sizes), ("ratios", ratios)):
        if not len(values) or not (values > 0).all():
            raise ValueError(f"{name} must be one or more numbers above 0, got {values.tolist()}")
    roots = np.sqrt(ratios)[:, None]
    width, height = sizes / roots, sizes * roots  # (R, A)
    return (np.stack([-width, -height, width, height], axis=-1) / 2).reshape(-1, 4).astype(np.float32)


def place(base, feature_shape, stride):
    """Boxes that are centred on 0, put on every place of a feature map.

    Place (row, column) of the map is the square of `stride` pixels that begins at (row * stride, column * stride), and
    its centre lies half a stride further.

    Args:
        base: (A, 4) `xyxy` pixels around 0: what `base` gives, or any others, such as sizes found by clustering
            (YOLOv2).
        feature_shape: (H, W) of the map.
        stride: pixels of the image for one step on the map, a number or (vertical, horizontal); it need not be whole.

    Returns:
        (H * W * A, 4) float32 `xyxy` pixels: row by row, in a row place by place, at a place in the order of `base`.
        They are not cut to the image.
    """
    (rows, columns), (down, right) = feature_shape, np.broadcast_to(np.asarray(stride, np.float64), 2)
    y, x = (np.arange(rows) + 0.5) * down, (np.arange(columns) + 0.5) * right
    y, x = np.meshgrid(y, x, indexing="ij")
    centres = np.stack([x, y, x, y], axis=-1)[:, :, None]  # (H, W, 1, 4)
    return (centres + np.asarray(base, np.float64)).reshape(-1, 4).astype(np.float32)


def grid(feature_shape, stride, sizes, ratios):
    """The anchors of a feature map: every ratio with every size at every place.

    Args:
        feature_shape: (H, W) of the map.
        stride: pixels of the image for one step on the map, a number or (vertical, horizontal).
        sizes: floats, pixels: the square root of an anchor's area.
        ratios: floats: height / width.

    Returns:
        (H * W * A, 4) float32 `xyxy` pixels, A = ratios * sizes, in the order row, column, ratio, size, as a
        convolution with A outputs at each place gives them when (H, W, A) is flattened. They are centred on the places
        (`place`); Faster R-CNN's code and torchvision round them to whole pixels and centre them on the places'
        corners.

    Raises:
        ValueError: no size or ratio, or one that is not above 0.
    """
    return place(base(sizes, ratios), feature_shape, stride)


def pyramid(feature_shapes, strides, sizes, ratios):
    """The anchors of several maps, one after the other (SSD, feature pyramids).

    Args:
        feature_shapes: L pairs (H, W).
        strides: L numbers, or pairs of them.
        sizes: L lists of sizes, one a map.
        ratios: a list of ratios for all maps, or L lists.

    Returns:
        (sum of H * W * A, 4) float32 `xyxy` pixels.

    Raises:
        ValueError: the lists differ in length, or as for `grid`.
    """
    if not np.ndim(ratios[0]):
        ratios = [ratios] * len(feature_shapes)
    given = {"feature shapes": feature_shapes, "strides": strides, "lists of sizes": sizes, "lists of ratios": ratios}
    if len({len(values) for values in given.values()}) > 1:
        counts = ", ".join(f"{len(values)} {name}" for name, values in given.items())
        raise ValueError(f"give one of each for every map, got {counts}")
    return np.concatenate([grid(*level) for level in zip(feature_shapes, strides, sizes, ratios)])
