"""Which object an anchor or a proposal answers for."""

import numpy as np
from keras import ops

from utils import boxes as geometry

BACKGROUND = -1
IGNORED = -2


def match(iou, high, low, force=True, valid=None, ignored=None):
    """Match every anchor with the object that it overlaps most (Ren, He, Girshick and Sun, NIPS 2015, section 3.1.2).

    An anchor with an IoU of at least `high` is that object's; one below `low` with all objects is background; one
    between is neither, and is left out of the loss. With `force`, the anchors that overlap an object most, several if
    they tie, answer even if their IoU is below `high`, so that no object is without an anchor. As in the authors' code
    and torchvision's, they answer for the object that *they* overlap most, which may be another one.

    Args:
        iou: (..., M, N) float, of M objects with N anchors, NumPy array or tensor.
        high, low: floats, low <= high.
        force: whether each object gets its best anchors in any case. An object that overlaps no anchor gets none.
        valid: None, or (..., M) bool: False for rows that are padding, which match nothing. Padding without area
            matches nothing anyhow.
        ignored: None, or (..., M) bool: objects that neither count nor punish. Nothing is matched to them, and an
            anchor that would be background is left out if its IoU with one of them is `low` or more.

    Returns:
        (..., N) int32: the index of the object, -1 for background, -2 for anchors that are left out.

    Raises:
        ValueError: low is above high, or the IoUs hold a NaN (where values can be looked at).
    """
    if low > high:
        raise ValueError(f"low, {low}, is above high, {high}")
    xp = geometry.namespace(iou, valid, ignored)
    (iou,) = geometry.floats(xp, iou, wide=True)
    geometry.refuse_nan(iou=iou)
    if 0 in iou.shape[-2:]:  # no objects, or no anchors
        return BACKGROUND + xp.zeros_like(xp.sum(iou, axis=-2), dtype="int32")
    counts = xp.ones_like(iou[..., 0], dtype="bool") if valid is None else xp.not_equal(valid, 0)
    if ignored is not None:
        with_ignored = xp.max(_rows(xp, iou, xp.logical_and(counts, xp.not_equal(ignored, 0))), axis=-2)
        counts = xp.logical_and(counts, xp.equal(ignored, 0))
    iou = _rows(xp, iou, counts)
    best, nearest = xp.max(iou, axis=-2), xp.argmax(iou, axis=-2)
    positive = best >= high
    if force:
        positive = xp.logical_or(positive, _best_of_an_object(xp, iou))
    aside = xp.logical_and(best >= low, best < high)
    if ignored is not None:
        aside = xp.logical_or(aside, with_ignored >= low)
    nearest = ops.cast(nearest, "int32") if xp is ops else nearest.astype(np.int32)
    return xp.where(
        positive, nearest, xp.where(aside, xp.full_like(nearest, IGNORED), xp.full_like(nearest, BACKGROUND))
    )


def _rows(xp, iou, counts):
    """The IoUs with -1 in the rows that do not count."""
    return xp.where(xp.expand_dims(counts, -1), iou, -xp.ones_like(iou))


def _best_of_an_object(xp, iou):
    """(..., N) bool: anchors that overlap some object as much as any anchor does."""
    best = xp.max(iou, axis=-1, keepdims=True)
    # A compiler may compute the IoUs twice, once for the maximum and once here, and round them differently. Then
    # nothing is equal to the maximum, so the index of the maximum counts too.
    first = xp.equal(xp.expand_dims(xp.argmax(iou, axis=-1), -1), xp.arange(iou.shape[-1]))
    tied = xp.logical_or(first, xp.equal(iou, best))
    return xp.any(xp.logical_and(tied, best > 0), axis=-2)
