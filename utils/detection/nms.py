"""Non-maximum suppression: of many boxes on one object, the one with the highest score stays.

All functions take a batch of images at once, have outputs of a fixed size, and run inside a compiled graph as well as
outside. What they give are indices, which have no gradient. Entries that are not there (padding, scores below a
threshold) have the score -inf: they are never kept.

The suppression is the greedy one, step by step: the highest score that is left is kept, and what overlaps it too much
goes. A step looks at all N boxes of all images together, and there are at most `max_outputs` steps, so that the matrix
of all N x N overlaps is never made.

As in `utils.boxes`, NumPy arrays go in and come out, and are never made tensors of: outside a compiled graph a step on
tensors takes hundreds of times as long.
"""

import math

import numpy as np
from keras import ops

from utils import boxes as geometry


def nms(boxes, scores, iou_threshold, max_outputs):
    """Greedy non-maximum suppression: a box goes if its IoU with a kept one of higher score is *above* the threshold.

    Args:
        boxes: (..., N, 4) float `xyxy` pixels.
        scores: (..., N) float; -inf (and, in a compiled graph, NaN) for entries that are not there. Of equal scores the
            first counts as higher.
        iou_threshold: float.
        max_outputs: int, K.

    Returns:
        (..., K) int32, NumPy array or tensor: indices of the kept boxes by falling score, padded with -1.

    Raises:
        ValueError: shapes that do not agree, max_outputs below 1, or NaN (where values can be looked at).
    """
    return batched_nms(boxes, scores, None, iou_threshold, max_outputs)


def batched_nms(boxes, scores, labels, iou_threshold, max_outputs):
    """Greedy non-maximum suppression within each class: boxes of different classes do not suppress one another.

    Labels are compared. (torchvision moves the classes apart by adding multiples of the largest coordinate to the
    boxes, which costs digits.)

    Args:
        boxes, scores, iou_threshold, max_outputs: as for `nms`.
        labels: (..., N) int; None: all of one class.

    Returns:
        (..., K) int32: indices of the kept boxes of all classes together by falling score, padded with -1.

    Raises:
        ValueError: as for `nms`.
    """

    def suppress(xp, scores, iou, same_class):
        gone = iou > iou_threshold
        return xp.where(gone if same_class is None else xp.logical_and(gone, same_class), -math.inf, scores)

    return _select(boxes, scores, labels, suppress, max_outputs)[0]


def select(boxes, scores, score_threshold, iou_threshold, max_detections, candidates=1000):
    """From the boxes of a net and their scores for each class to detections: what is above the score threshold, of that
    the best, of those what `batched_nms` keeps.

    Args:
        boxes: (B, N, 4) float `xyxy` pixels, or (B, N, C, 4): a box for each class.
        scores: (B, N, C) float in [0, 1]; without a background.
        score_threshold: float; scores must be above it.
        iou_threshold: float, of the suppression within a class.
        max_detections: int, K.
        candidates: int: how many pairs of a box and a class, at most, enter the suppression.

    Returns:
        dict of `boxes` (B, K, 4) float32, `labels` (B, K) int32, `scores` (B, K) float32, by falling score, and
        `indices` (B, K) int32, which of the N boxes each was. Padding is label -1, index -1, score 0 and a box of
        zeros.

    Raises:
        ValueError: as for `nms`.
    """
    boxes, scores = geometry.floats(ops, boxes, scores, wide=True)
    count, classes = scores.shape[1:]
    flat = ops.reshape(scores, (-1, count * classes))
    flat = ops.where(flat > score_threshold, flat, -math.inf)
    values, places = ops.top_k(flat, min(candidates, count * classes))
    places = ops.cast(places, "int32")
    rows, labels = places // classes, places % classes
    per_class = ops.reshape(boxes, (-1, count * (classes if len(boxes.shape) == 4 else 1), 4))
    found = ops.take_along_axis(per_class, (places if len(boxes.shape) == 4 else rows)[..., None], axis=1)
    kept = batched_nms(found, values, labels, iou_threshold, max_detections)
    there, at = kept >= 0, ops.maximum(kept, 0)
    gathered = {
        "boxes": ops.where(there[..., None], ops.take_along_axis(found, at[..., None], axis=1), 0.0),
        "labels": ops.where(there, ops.take_along_axis(labels, at, axis=1), -1),
        "scores": ops.where(there, ops.take_along_axis(values, at, axis=1), 0.0),
        "indices": ops.where(there, ops.take_along_axis(rows, at, axis=1), -1),
    }
    return {name: ops.stop_gradient(values) for name, values in gathered.items()}


def soft_nms(boxes, scores, labels, max_outputs, decay=None, score_threshold=0.001):
    """Soft-NMS (Bodla et al., ICCV 2017): a box that overlaps a kept one is not dropped; its score decays, and it may
    still be kept later on.

    Args:
        boxes, scores, labels, max_outputs: as for `batched_nms`.
        decay: function from IoUs to factors in [0, 1]; None: `gaussian(.5)`, as in the paper. `linear(.3)` is its other
            one.
        score_threshold: what has decayed to less is not kept.

    Returns:
        indices (..., K) int32 by falling score, padded with -1, and the scores (..., K) float32 they have been kept
        with, 0 in the padding.

    Raises:
        ValueError: as for `nms`.
    """
    decay = gaussian(0.5) if decay is None else decay

    def suppress(xp, scores, iou, same_class):
        factor = decay(iou) if xp is ops else np.asarray(decay(iou))
        factor = factor if same_class is None else xp.where(same_class, factor, xp.ones_like(factor))
        there = scores > -math.inf
        scores = xp.where(there, scores, 0.0) * factor
        return xp.where(xp.logical_and(there, scores >= score_threshold), scores, -math.inf)

    xp = geometry.namespace(boxes, scores, labels)
    (scores,) = geometry.floats(xp, scores, wide=True)
    scores = xp.where(scores < score_threshold, -math.inf, scores)
    return _select(boxes, scores, labels, suppress, max_outputs)


def gaussian(sigma):
    """The decay exp(-IoU^2 / sigma) of soft-NMS."""
    return lambda iou: geometry.namespace(iou).exp(-iou * iou / sigma)


def linear(iou_threshold):
    """The decay of soft-NMS that is 1 - IoU above a threshold, and 1 below."""
    return lambda iou: geometry.namespace(iou).where(iou > iou_threshold, 1 - iou, 1.0)


def _select(boxes, scores, labels, suppress, max_outputs):
    """Indices (..., K) and scores (..., K) of what is chosen. `suppress` turns the scores that are left, the IoUs with
    the box just chosen and whether the class is that box's into new scores, all (..., N); in front of them it gets the
    namespace that they belong to."""
    _check(boxes, scores, labels, max_outputs)
    xp = geometry.namespace(boxes, scores, labels)
    cast = ops.cast if xp is ops else np.asarray
    boxes, scores = geometry.floats(xp, boxes, scores, wide=True)
    if xp is ops:
        boxes, scores = ops.stop_gradient(boxes), ops.stop_gradient(scores)
    labels = None if labels is None else cast(labels, "int32")
    count = boxes.shape[-2]
    places, columns = xp.arange(count, dtype="int32"), xp.arange(max_outputs, dtype="int32")
    none = xp.sum(xp.zeros_like(scores, dtype="int32"), axis=-1, keepdims=True)  # (..., 1) of zeros
    chosen = cast(none - xp.ones((max_outputs,), dtype="int32"), "int32")
    chosen_scores = cast(none, "float32") + xp.zeros((max_outputs,), dtype="float32")
    if count == 0:
        return chosen, chosen_scores

    def some_left(step, left, chosen, chosen_scores):
        return xp.logical_and(step < max_outputs, xp.any(left > -math.inf))

    def choose(step, left, chosen, chosen_scores):
        best = xp.max(left, axis=-1, keepdims=True)
        index = xp.min(xp.where(left == best, places, count - 1), axis=-1, keepdims=True)
        iou = geometry.iou(xp.take_along_axis(boxes, index[..., None], axis=-2), boxes)[..., 0, :]
        same_class = None if labels is None else labels == xp.take_along_axis(labels, index, axis=-1)
        left = xp.where(places == index, -math.inf, suppress(xp, left, iou, same_class))
        now = xp.logical_and(columns == step, best > -math.inf)  # an image may have none left while others have
        return step + 1, left, xp.where(now, cast(index, "int32"), chosen), xp.where(now, best, chosen_scores)

    scores = xp.where(xp.isnan(scores), -math.inf, cast(scores, "float32"))
    if xp is ops:
        state = (ops.convert_to_tensor(0, dtype="int32"), scores, chosen, chosen_scores)
        _, _, chosen, chosen_scores = ops.while_loop(some_left, choose, state, maximum_iterations=max_outputs)
        return chosen, chosen_scores
    state = (0, scores, chosen, chosen_scores)
    while some_left(*state):
        state = choose(*state)
    return state[2], state[3].astype("float32")


def _check(boxes, scores, labels, max_outputs):
    given = {"boxes": boxes, "scores": scores} | ({} if labels is None else {"labels": labels})
    shapes = {name: tuple(getattr(array, "shape", ops.shape(array))) for name, array in given.items()}
    if shapes["boxes"][-1:] != (4,) or {shape[-1:] for name, shape in shapes.items() if name != "boxes"} != {
        shapes["boxes"][-2:-1]
    }:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"expected boxes (..., N, 4) and for each of the N a score (and a label), got {found}")
    if max_outputs < 1:
        raise ValueError(f"max_outputs must be at least 1, got {max_outputs}")
    geometry.refuse_nan(boxes=boxes, scores=scores)
