"""Boxes, which are `xyxy` in absolute pixels: (left, top, right, bottom), corners, so that a width is right - left and
not one more.

One implementation for NumPy arrays (data, evaluation: NumPy in, NumPy out) and for backend tensors (models: tensors in,
tensors out). What measures (`area`, `iou` and its kin) computes in float32 at least: the area of 300 x 300 pixels is
beyond float16. What moves corners about (`clip`, `convert`) keeps the type that it got. A NaN in a box stays a NaN in
all that is computed from it; `refuse_nan` makes an error of it where values can be looked at.

`keras.utils.bounding_boxes` has some of this for tensors. `convert_format` is right and serves below; `compute_iou`
gives NaN for two boxes without area and no generalised IoU, and clipping takes dicts only.
"""

import math

import keras
import numpy as np
from keras import ops

FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh")


def namespace(*arrays):
    """`keras.ops` where one of the arrays is a tensor of the backend, else NumPy. What is called here has one name in
    both.
    """
    return ops if any(keras.ops.is_tensor(array) or isinstance(array, keras.KerasTensor) for array in arrays) else np


def floats(xp, *arrays, wide=False):
    """The arrays in one float type: whole numbers become float32, and with `wide` half precisions too. Tensors and
    NumPy arrays together take the type of the tensors."""
    if xp is ops:
        kinds = [
            keras.backend.standardize_dtype(array.dtype)
            for array in arrays
            if hasattr(array, "dtype") and not isinstance(array, np.ndarray)
        ]
        kinds = [kind for kind in kinds if "float" in kind]
        common = keras.backend.result_type(*kinds, *(["float32"] if wide or not kinds else []))
        return [ops.cast(ops.convert_to_tensor(array), common) for array in arrays]
    arrays = [np.asarray(array) for array in arrays]
    least = 4 if wide else 2
    return [
        array if array.dtype.kind == "f" and array.dtype.itemsize >= least else array.astype(np.float32)
        for array in arrays
    ]


def constant(xp, values, like):
    """Numbers as an array or tensor of the type of `like`."""
    return (
        ops.cast(ops.convert_to_tensor(np.asarray(values)), like.dtype) if xp is ops else np.asarray(values, like.dtype)
    )


def refuse_nan(**arrays):
    """Raise a ValueError if one of the arrays holds a NaN. In a compiled graph, where no value is there yet, nothing is
    checked.

    Args:
        arrays: NumPy arrays or tensors, by the names that the message gives them.
    """
    for name, array in arrays.items():
        try:
            values = ops.convert_to_numpy(array) if ops.is_tensor(array) else np.asarray(array)
        except Exception:  # each backend has its own error for a tensor that stands for values to come
            continue
        bad = np.count_nonzero(np.isnan(values))
        if bad:
            raise ValueError(f"{name}: {bad} of {values.size} numbers are NaN")


def area(boxes):
    """Areas of boxes.

    Args:
        boxes: (..., 4) `xyxy` pixels, NumPy array or tensor.

    Returns:
        (...,) float32 or float64, square pixels; 0 for a box whose right is not right of its left, or its bottom not
        below its top.
    """
    xp = namespace(boxes)
    (boxes,) = floats(xp, boxes, wide=True)
    sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def iou(a, b):
    """Intersection over union of every box in `a` with every box in `b` (Jaccard's index).

    Args:
        a: (..., N, 4) `xyxy` pixels, NumPy array or tensor.
        b: (..., M, 4) `xyxy` pixels; leading axes as `a`, or broadcast against them.

    Returns:
        (..., N, M) float32 or float64 in [0, 1]. Boxes without area have IoU 0 with everything, themselves too.
    """
    xp = namespace(a, b)
    a, b = floats(xp, a, b, wide=True)
    return _share(xp, *_overlap_and_union(xp, a, b))


def giou(a, b):
    """Generalised IoU of every box in `a` with every box in `b` (Rezatofighi et al., CVPR 2019): IoU less the share of
    the smallest box around both that neither covers. It tells how far apart two boxes are that do not overlap.

    Args:
        a: (..., N, 4) `xyxy` pixels, NumPy array or tensor.
        b: (..., M, 4) `xyxy` pixels.

    Returns:
        (..., N, M) float in [-1, 1]; 0 where even the box around both has no area.
    """
    xp = namespace(a, b)
    a, b = floats(xp, a, b, wide=True)
    overlap, union = _overlap_and_union(xp, a, b)
    sides = _sides_around(xp, a, b)
    around = sides[..., 0] * sides[..., 1]
    return _share(xp, overlap, union) - _share(xp, around - union, around)


def diou(a, b):
    """Distance IoU of every box in `a` with every box in `b` (Zheng et al., AAAI 2020): IoU less the squared distance
    of the two centres, over the squared diagonal of the smallest box around both. As a loss it moves boxes together
    that do not overlap, faster than GIoU.

    Args:
        a: (..., N, 4) `xyxy` pixels, NumPy array or tensor.
        b: (..., M, 4) `xyxy` pixels.

    Returns:
        (..., N, M) float in [-1, 1].
    """
    xp = namespace(a, b)
    a, b = floats(xp, a, b, wide=True)
    return _share(xp, *_overlap_and_union(xp, a, b)) - _distance(xp, a, b)


def ciou(a, b):
    """Complete IoU of every box in `a` with every box in `b` (Zheng et al., AAAI 2020; YOLOv4 and later): `diou` less
    alpha v, where v compares the aspect ratios, v = 4 / pi^2 (atan(w / h) - atan(w' / h'))^2, and alpha = v / (1 - IoU
    + v) counts it more, the better the boxes overlap. No gradient flows through alpha, as in the paper.

    Args:
        a: (..., N, 4) `xyxy` pixels, NumPy array or tensor.
        b: (..., M, 4) `xyxy` pixels.

    Returns:
        (..., N, M) float in [-2, 1]. The angle of a box without height and width counts as 0.
    """
    xp = namespace(a, b)
    a, b = floats(xp, a, b, wide=True)
    inside = _share(xp, *_overlap_and_union(xp, a, b))
    turned = 2 / math.pi * (_angle(xp, a)[..., :, None] - _angle(xp, b)[..., None, :])
    v = turned * turned
    alpha = _share(xp, v, 1 - inside + v)
    alpha = ops.stop_gradient(alpha) if xp is ops else alpha
    return inside - _distance(xp, a, b) - alpha * v


def _share(xp, part, whole):
    """part / whole; 0 where the whole is 0. The divisor is exchanged before the division, so that no gradient becomes
    NaN either.
    """
    nothing = whole == 0
    return xp.where(nothing, 0.0, part / xp.where(nothing, xp.ones_like(whole), whole))


def _overlap_and_union(xp, a, b):
    top_left = xp.maximum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = xp.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    sides = xp.maximum(bottom_right - top_left, 0)
    overlap = sides[..., 0] * sides[..., 1]
    # In this order the union is never less than the overlap, whatever is rounded: an IoU is never above 1.
    return overlap, area(a)[..., :, None] + (area(b)[..., None, :] - overlap)


def _sides_around(xp, a, b):
    top_left = xp.minimum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = xp.maximum(a[..., :, None, 2:], b[..., None, :, 2:])
    return xp.maximum(bottom_right - top_left, 0)


def _distance(xp, a, b):
    """Squared distance of the centres over the squared diagonal of the box around both."""
    apart = (a[..., :, None, :2] + a[..., :, None, 2:] - b[..., None, :, :2] - b[..., None, :, 2:]) / 2
    return _share(xp, xp.sum(apart * apart, axis=-1), xp.sum(_sides_around(xp, a, b) ** 2, axis=-1))


def _angle(xp, boxes):
    """atan(w / h). A box without height and width becomes one of width 0 and height 1 first: atan2(0, 0) has no
    gradient.
    """
    sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    width, height = sides[..., 0], sides[..., 1]
    return xp.arctan2(width, xp.where(width + height == 0, xp.ones_like(height), height))


def clip(boxes, height, width):
    """Boxes cut to the image. What lies outside is left without area, at the border.

    Args:
        boxes: (..., 4) `xyxy` pixels, NumPy array or tensor.
        height, width: of the image, in pixels.

    Returns:
        (..., 4) float.
    """
    xp = namespace(boxes)
    (boxes,) = floats(xp, boxes)
    return xp.minimum(xp.maximum(boxes, 0), constant(xp, [width, height, width, height], boxes))


def convert(boxes, source, target, height=None, width=None):
    """Boxes in another format.

    Args:
        boxes: (..., 4) float, NumPy array or tensor.
        source, target: two of FORMATS: `xyxy` corners; `yxyx` the same with y first; `xywh` left, top, width, height
            (COCO); `center_xywh` centre, width, height; each with `rel_` in units of the image's width and height.
        height, width: of the image in pixels; wanted when one of the two formats is relative.

    Returns:
        (..., 4) float.

    Raises:
        ValueError: an unknown format, or a relative one without the image's size.
    """
    for name in (source, target):
        if name not in FORMATS:
            raise ValueError(f"unknown box format {name!r} (known: {', '.join(FORMATS)})")
    if (source.startswith("rel_") or target.startswith("rel_")) and (height is None or width is None):
        raise ValueError(f"from {source} to {target}: give the height and width of the image")
    xp = namespace(boxes)
    (boxes,) = floats(xp, boxes)
    if xp is ops:
        return keras.utils.bounding_boxes.convert_format(
            boxes, source, target, height=height, width=width, dtype=boxes.dtype
        )
    size = None if height is None else np.array([width, height], boxes.dtype)
    return _from_corners(_to_corners(boxes, source, size), target, size)


def _to_corners(boxes, source, size):
    first, second = boxes[..., :2], boxes[..., 2:]
    plain = source.removeprefix("rel_")
    if plain == "yxyx":
        first, second = first[..., ::-1], second[..., ::-1]
    if plain == "center_xywh":
        first = first - second / 2
    if plain in ("xywh", "center_xywh"):
        second = first + second
    if plain != source:
        first, second = first * size, second * size
    return first, second


def _from_corners(corners, target, size):
    first, second = corners
    plain = target.removeprefix("rel_")
    if plain != target:
        first, second = first / size, second / size
    if plain == "center_xywh":
        first, second = (first + second) / 2, second - first
    elif plain == "xywh":
        second = second - first
    elif plain == "yxyx":
        first, second = first[..., ::-1], second[..., ::-1]
    return np.concatenate([first, second], axis=-1)
