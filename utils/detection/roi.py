"""Features of a region: a map of fixed size for every box, cut out of the feature map of the whole image.

**Where pixels are.** Pixel i of an image covers the interval [i, i + 1), and its centre is at i + .5. A feature map of
stride s is an image of coarser pixels: cell j covers [j s, (j + 1) s) of the image. So x in the image is x / s on the
map, without any rounding, and what stands in cell j of the array is the value at j + .5: the array's own coordinate, in
which cell j is at j, is x / s - .5. In a picture, for s = 4 and a box from 3 to 13:

    image   0   1   2   3 | 4   5   6   7 | 8   9  10  11 |12  13  14  15
    box                 [===================================]
    map     ------ 0 ------ ------ 1 ------ ------ 2 ------ ------ 3 ------
    x / s               .75                                 3.25
    index               .25                                 2.75

The box begins a quarter of the way from the centre of cell 0 to that of cell 1.

RoIPool rounds the box to whole cells and takes maxima; RoIAlign samples the map where the box lies, between the
centres.
"""

import math

import numpy as np
from keras import ops

from utils import boxes as geometry


def roi_align(features, boxes, output_size, scale, samples=2):
    """RoIAlign (He, Gkioxari, Dollar and Girshick, ICCV 2017, section 3): the box is divided into bins, and a bin's
    value is the mean of the map at `samples` x `samples` points spread evenly over the bin, each interpolated
    bilinearly between the four nearest cells. Nothing is rounded.

    The mean over a bin is a weighted sum over rows of weighted sums over columns. So one small matrix for the rows and
    one for the columns of each box do it, by two matrix products. Values and gradients are those of torchvision and
    Detectron2 with aligned=True: a point between the map's edge and the centre of the first or last cell takes the
    cell's value, a point more than a cell's width beyond the edge's centre counts as 0.

    Args:
        features: (B, H, W, C) float.
        boxes: (B, N, 4) float `xyxy`, pixels of the image. Boxes without area are sampled at one point or line; NaN
            gives NaN.
        output_size: int or (h, w), bins.
        scale: float, 1 / stride of the map.
        samples: int, points in a bin along each axis.

    Returns:
        (B, N, h, w, C) of the type of `features`, computed in float32. The gradient flows to the features and not to
        the boxes, as in the paper.

    Raises:
        ValueError: shapes that do not agree, or a size, scale or number of samples that is not above 0.
    """
    height, width = _check(features, boxes, output_size, scale)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    kind = features.dtype
    features, boxes = geometry.floats(ops, features, boxes, wide=True)
    corners = ops.stop_gradient(boxes) * scale - 0.5
    rows, columns, channels = features.shape[1:]
    count = boxes.shape[1]
    vertical = _interpolation(corners[..., 1], corners[..., 3], height, samples, rows)  # (B, N, h, H)
    horizontal = _interpolation(corners[..., 0], corners[..., 2], width, samples, columns)  # (B, N, w, W)
    images = ops.shape(features)[0]  # and not -1, which could be anything where there are no boxes
    vertical = ops.reshape(vertical, (images, count * height, rows))
    in_rows = ops.matmul(vertical, ops.reshape(features, (images, rows, columns * channels)))
    in_rows = ops.reshape(in_rows, (images, count, height, columns, channels))
    return ops.cast(ops.matmul(horizontal[:, :, None], in_rows), kind)


def _interpolation(start, end, bins, samples, cells):
    """Weights (B, N, bins, cells) that average, for each bin between start and end (B, N), the values at its points;
    array coordinates.
    """
    steps = (ops.arange(bins * samples, dtype="float32") + 0.5) / (bins * samples)
    points = start[..., None] + (end - start)[..., None] * steps  # (B, N, bins * samples)
    inside = ops.logical_and(points >= -1, points <= cells)
    at = ops.clip(points, 0, cells - 1)
    # Bilinear interpolation: the weight of a cell falls from 1 at its centre to 0 at its neighbours'.
    weights = ops.maximum(1 - ops.abs(at[..., None] - ops.arange(cells, dtype="float32")), 0)
    weights = ops.where(inside[..., None], weights, 0.0)
    return ops.mean(ops.reshape(weights, (ops.shape(start)[0], start.shape[1], bins, samples, cells)), axis=3)


def roi_pool(features, boxes, output_size, scale):
    """RoIPool (Girshick, ICCV 2015, section 2.1): the box is rounded to whole cells, divided into bins whose borders
    are rounded outwards, and a bin's value is the maximum of its cells.

    As in the author's code, the last cell that the rounding gives belongs to the box: from cell 2 to cell 4 are three
    cells. Every box has a cell at least; bins overlap where the cells do not divide evenly; a bin outside the map is 0.

    A bin is the union of four overlapping windows whose sides are powers of two. The maxima of all such windows of the
    map are computed once, and a bin looks up its four.

    Args:
        features: (B, H, W, C) float.
        boxes: (B, N, 4) float `xyxy`, pixels of the image.
        output_size: int or (h, w), bins.
        scale: float, 1 / stride of the map.

    Returns:
        (B, N, h, w, C) of the type of `features`. The gradient flows to the cells that are maxima, and not to the
        boxes.

    Raises:
        ValueError: shapes that do not agree, or a size or scale that is not above 0.
    """
    height, width = _check(features, boxes, output_size, scale)
    features = ops.convert_to_tensor(features)
    (boxes,) = geometry.floats(ops, boxes, wide=True)
    rows, columns = features.shape[1:3]
    corners = ops.cast(ops.floor(ops.stop_gradient(boxes) * scale + 0.5), "int32")
    tops, bottoms = _bins(corners[..., 1], corners[..., 3], height, rows)  # (B, N, h)
    lefts, rights = _bins(corners[..., 0], corners[..., 2], width, columns)  # (B, N, w)
    table, (levels_down, levels_right) = _window_maxima(features)

    def look_up(down, right, top, left):
        """Maxima (B, N, h, w, C) of the windows of 2^down x 2^right cells at (top, left); rows' indices (B, N, h),
        columns' (B, N, w).
        """
        row = (down * levels_right * rows + top)[..., :, None]
        place = (row + (right * rows)[..., None, :]) * columns + left[..., None, :]
        image = ops.reshape(ops.arange(ops.shape(features)[0], dtype="int32"), (-1, 1, 1, 1))
        return ops.take(table, image * (levels_down * levels_right * rows * columns) + place, axis=0)

    down, last_top = _largest_window(tops, bottoms)
    right, last_left = _largest_window(lefts, rights)
    upper = ops.maximum(look_up(down, right, tops, lefts), look_up(down, right, tops, last_left))
    lower = ops.maximum(look_up(down, right, last_top, lefts), look_up(down, right, last_top, last_left))
    empty = ops.logical_or((bottoms <= tops)[..., :, None], (rights <= lefts)[..., None, :])[..., None]
    return ops.where(empty, ops.zeros_like(upper), ops.maximum(upper, lower))


def whole_cells(boxes, stride):
    """What RoIPool takes for a box: the whole cells that it is rounded to.

    Args:
        boxes: (..., 4) `xyxy` pixels, NumPy array.
        stride: pixels of a cell of the map.

    Returns:
        (..., 4) float `xyxy` pixels: from the near side of the first cell to the far side of the last one, a cell at
        least. Not cut to the map.
    """
    cells = np.floor(np.asarray(boxes, np.float64) / stride + 0.5)
    first, last = cells[..., :2], np.maximum(cells[..., 2:], cells[..., :2])
    return np.concatenate([first, last + 1], axis=-1) * stride


def _bins(first, last, bins, cells):
    """The first cell of each bin, and the first cell after it: two (B, N, bins) int32, cut to the map."""
    size = ops.maximum(last - first + 1, 1)[..., None]
    number = ops.arange(bins, dtype="int32")
    # Whole numbers throughout: floor and ceiling of a quotient of floats would depend on how it is rounded.
    start = first[..., None] + number * size // bins
    end = first[..., None] + ((number + 1) * size + bins - 1) // bins
    return ops.clip(start, 0, cells), ops.clip(end, 0, cells)


def _window_maxima(features):
    """Maxima of all windows of 2^k x 2^l cells, as rows of a table, (B * K * L * H * W, C), and (K, L). The window at
    the cell (i, j) begins there; beyond the map is nothing."""
    rows, columns, channels = features.shape[1:]
    levels = math.floor(math.log2(rows)) + 1, math.floor(math.log2(columns)) + 1
    tables = []
    tall = features
    for down in range(levels[0]):
        wide = tall
        for right in range(levels[1]):
            tables.append(wide)
            wide = ops.maximum(wide, _shifted(wide, 2**right, axis=2)) if right + 1 < levels[1] else wide
        tall = ops.maximum(tall, _shifted(tall, 2**down, axis=1)) if down + 1 < levels[0] else tall
    return ops.reshape(ops.stack(tables, axis=1), (-1, channels)), levels


def _shifted(maps, cells, axis):
    """The maps moved towards 0 along an axis; the last value repeated where nothing moves in: it is no new maximum."""
    rest = maps[:, cells:] if axis == 1 else maps[:, :, cells:]
    edge = maps[:, -1:] if axis == 1 else maps[:, :, -1:]
    return ops.concatenate([rest, ops.repeat(edge, cells, axis=axis)], axis=axis)


def _largest_window(start, end):
    """The exponent of the largest power of two that fits between start and end, and where such a window begins that
    ends at the end.
    """
    size = ops.maximum(end - start, 1)
    powers = ops.convert_to_tensor(2 ** np.arange(31), dtype="int32")
    level = ops.sum(ops.cast(size[..., None] >= powers[1:], "int32"), axis=-1)
    largest = ops.take(powers, level, axis=0)
    # An empty bin is looked up at a place that is there, and its value is thrown away.
    return level, ops.maximum(end - largest, 0)


def _check(features, boxes, output_size, scale):
    if len(features.shape) != 4 or len(boxes.shape) != 3 or boxes.shape[-1] != 4:
        raise ValueError(
            f"expected features (B, H, W, C) and boxes (B, N, 4), got {tuple(features.shape)} and {tuple(boxes.shape)}"
        )
    height, width = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if min(height, width) < 1 or not scale > 0:
        raise ValueError(f"output_size and scale must be above 0, got {output_size} and {scale}")
    return int(height), int(width)
