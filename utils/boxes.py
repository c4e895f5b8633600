"""Boxes, which are `xyxy` in absolute pixels: (left, top, right, bottom), corners, so that a width is right - left and not one more.

One implementation for NumPy arrays (data, evaluation: NumPy in, NumPy out) and for backend tensors (models: tensors in, tensors out).

`keras.utils.bounding_boxes` has some of this for tensors. `convert_format` is right and serves below; `compute_iou` gives NaN for two
boxes without area and no generalised IoU, and clipping takes dicts only.
"""

import keras
import numpy as np
from keras import ops

EPSILON = 1e-7
FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh")


def _namespace(*arrays):
    """`keras.ops` where one of the arrays is a tensor of the backend, else NumPy. What is called here has one name in both."""
    return ops if any(keras.ops.is_tensor(array) or isinstance(array, keras.KerasTensor) for array in arrays) else np


def _floats(xp, *arrays):
    """The arrays in a float type: what is float already keeps its type, whole numbers become float32."""
    if xp is ops:
        arrays = [ops.convert_to_tensor(array) for array in arrays]
        return [
            array if "float" in keras.backend.standardize_dtype(array.dtype) else ops.cast(array, "float32")
            for array in arrays
        ]
    arrays = [np.asarray(array) for array in arrays]
    return [array if array.dtype.kind == "f" else array.astype(np.float32) for array in arrays]


def area(boxes):
    """Areas of boxes.

    Args:
        boxes: (..., 4) `xyxy` pixels, NumPy array or tensor.

    Returns:
        (...,) float, square pixels; 0 for a box whose right is not right of its left, or its bottom not below its top.
    """
    xp = _namespace(boxes)
    (boxes,) = _floats(xp, boxes)
    sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def iou(a, b):
    """Intersection over union of every box in `a` with every box in `b` (Jaccard's index).

    Args:
        a: (..., N, 4) `xyxy` pixels, NumPy array or tensor.
        b: (..., M, 4) `xyxy` pixels.

    Returns:
        (..., N, M) float in [0, 1]. Boxes without area have IoU 0 with everything.
    """
    xp = _namespace(a, b)
    a, b = _floats(xp, a, b)
    overlap, union = _overlap_and_union(xp, a, b)
    return xp.where(union > 0, overlap / xp.maximum(union, EPSILON), 0)


def giou(a, b):
    """Generalised IoU of every box in `a` with every box in `b` (Rezatofighi et al., CVPR 2019): IoU less the share of the smallest box
    around both that neither covers. It tells how far apart two boxes are that do not overlap.

    Args:
        a: (..., N, 4) `xyxy` pixels, NumPy array or tensor.
        b: (..., M, 4) `xyxy` pixels.

    Returns:
        (..., N, M) float in [-1, 1]; 0 where even the box around both has no area.
    """
    xp = _namespace(a, b)
    a, b = _floats(xp, a, b)
    overlap, union = _overlap_and_union(xp, a, b)
    top_left = xp.minimum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = xp.maximum(a[..., :, None, 2:], b[..., None, :, 2:])
    sides = xp.maximum(bottom_right - top_left, 0)
    around = sides[..., 0] * sides[..., 1]
    inside = xp.where(union > 0, overlap / xp.maximum(union, EPSILON), 0)
    return inside - xp.where(around > 0, (around - union) / xp.maximum(around, EPSILON), 0)


def _overlap_and_union(xp, a, b):
    top_left = xp.maximum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = xp.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    sides = xp.maximum(bottom_right - top_left, 0)
    overlap = sides[..., 0] * sides[..., 1]
    return overlap, area(a)[..., :, None] + area(b)[..., None, :] - overlap


def clip(boxes, height, width):
    """Boxes cut to the image. What lies outside is left without area, at the border.

    Args:
        boxes: (..., 4) `xyxy` pixels, NumPy array or tensor.
        height, width: of the image, in pixels.

    Returns:
        (..., 4) float.
    """
    xp = _namespace(boxes)
    (boxes,) = _floats(xp, boxes)
    most = np.array([width, height, width, height], "float32")
    most = ops.cast(most, boxes.dtype) if xp is ops else most.astype(boxes.dtype)
    return xp.minimum(xp.maximum(boxes, 0), most)


def convert(boxes, source, target, height=None, width=None):
    """Boxes in another format.

    Args:
        boxes: (..., 4) float, NumPy array or tensor.
        source, target: two of FORMATS: `xyxy` corners; `yxyx` the same with y first; `xywh` left, top, width, height (COCO);
            `center_xywh` centre, width, height; each with `rel_` in units of the image's width and height.
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
    xp = _namespace(boxes)
    (boxes,) = _floats(xp, boxes)
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
