"""A box told relative to another one: what the box branch of a detector predicts.

R-CNN (Girshick et al., CVPR 2014, appendix C) and all that came after it predict the shift of the centre in units of
the anchor's (or the proposal's) size, and the logarithm of the ratio of the sizes. The four numbers then do not depend
on where the anchor lies and how large it is, and no prediction is a box of negative width.
"""

import math

from utils import boxes as geometry

# No box grows by more than this in one step: exp of what an untrained net predicts could overflow.
LARGEST_GROWTH = math.log(1000 / 16)


def encode(boxes, anchors, weights=(1, 1, 1, 1)):
    """What a net should predict at `anchors` so that `decode` gives `boxes`: dx, dy, dw, dh times the weights.

    Args:
        boxes: (..., 4) `xyxy` pixels, NumPy array or tensor.
        anchors: (..., 4) `xyxy` pixels, of the same shape or broadcast against it.
        weights: 4 floats that bring the four numbers to a similar spread; Fast R-CNN's are (10, 10, 5, 5).

    Returns:
        (..., 4) float32. A side that is not above 0, as in a box that is padding, counts as 1 pixel: the numbers mean
        nothing then and the caller leaves them out, but they are finite, and so are their gradients.
    """
    xp = geometry.namespace(boxes, anchors)
    boxes, anchors = geometry.floats(xp, boxes, anchors, wide=True)
    centre, size = _centre_and_size(xp, boxes)
    anchor_centre, anchor_size = _centre_and_size(xp, anchors)
    shift = (centre - anchor_centre) / anchor_size
    growth = xp.log(size / anchor_size)
    return xp.concatenate([shift, growth], axis=-1) * geometry.constant(xp, weights, boxes)


def decode(deltas, anchors, weights=(1, 1, 1, 1)):
    """The boxes that deltas tell: the inverse of `encode`.

    Args:
        deltas: (..., 4) float, dx, dy, dw, dh times the weights, NumPy array or tensor.
        anchors: (..., 4) `xyxy` pixels, of the same shape or broadcast against it.
        weights: as in `encode`.

    Returns:
        (..., 4) float32 `xyxy` pixels, not cut to the image. dw and dh count as log(1000 / 16) at most: a side grows
        62.5 times, not more.
    """
    xp = geometry.namespace(deltas, anchors)
    deltas, anchors = geometry.floats(xp, deltas, anchors, wide=True)
    deltas = deltas / geometry.constant(xp, weights, deltas)
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * anchor_size
    size = anchor_size * xp.exp(xp.minimum(deltas[..., 2:], LARGEST_GROWTH))
    return xp.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def _centre_and_size(xp, boxes):
    size = boxes[..., 2:] - boxes[..., :2]
    # Before the logarithm and the division, not after: a `where` after them still passes a NaN on to the gradient.
    size = xp.where(size <= 0, xp.ones_like(size), size)
    return (boxes[..., :2] + boxes[..., 2:]) / 2, size
