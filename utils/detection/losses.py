"""Losses of detectors, element by element, in Keras's order of arguments: truth, prediction. The caller masks, sums and
divides.

All compute in float32 at least, also under `mixed_float16`.
"""

from keras import ops

from utils import boxes as geometry


def sigmoid_focal(y_true, logits, alpha=0.25, gamma=2.0):
    """Focal loss of independent sigmoids (Lin et al., ICCV 2017): cross-entropy times (1 - p)^gamma, p the probability
    of what is true.

    RetinaNet sums it over all anchors and classes, and divides by the number of anchors that are matched with an
    object.

    Args:
        y_true: (...) 0 or 1.
        logits: (...) float.
        alpha: weight of the ones; 1 - alpha is that of the zeros. None: both 1.
        gamma: float of at least 0; 0 is cross-entropy.

    Returns:
        (...) float32.
    """
    y_true, logits = geometry.floats(ops, y_true, logits, wide=True)
    # -log p = softplus(-logit), and (1 - p)^gamma = exp(gamma log(1 - p)): nothing overflows, and the slope is finite
    # everywhere.
    against, towards = ops.softplus(-logits), ops.softplus(logits)
    of_ones = against * ops.exp(-gamma * towards)
    of_zeros = towards * ops.exp(-gamma * against)
    if alpha is not None:
        of_ones, of_zeros = alpha * of_ones, (1 - alpha) * of_zeros
    return y_true * of_ones + (1 - y_true) * of_zeros


def smooth_l1(y_true, y_pred, beta=1.0):
    """Smooth L1 loss (Girshick, ICCV 2015): d^2 / (2 beta) for a difference d below beta, |d| - beta / 2 above.

    `keras.losses.Huber(beta)` is beta times this, and averages.

    Args:
        y_true, y_pred: (...) float.
        beta: where the parabola meets the line; 0 is L1.

    Returns:
        (...) float32.
    """
    y_true, y_pred = geometry.floats(ops, y_true, y_pred, wide=True)
    difference = ops.abs(y_true - y_pred)
    if beta == 0:
        return difference
    return ops.where(difference < beta, difference * difference / (2 * beta), difference - beta / 2)


def iou_loss(y_true, y_pred):
    """1 - IoU of each box with its own truth (Yu et al., ACM Multimedia 2016). Where they do not overlap it has no
    gradient.

    Args:
        y_true, y_pred: (..., 4) `xyxy` pixels.

    Returns:
        (...) float32.
    """
    return 1 - _pairwise(geometry.iou, y_true, y_pred)


def giou_loss(y_true, y_pred):
    """1 - generalised IoU of each box with its truth (Rezatofighi et al., CVPR 2019); arguments as for `iou_loss`."""
    return 1 - _pairwise(geometry.giou, y_true, y_pred)


def diou_loss(y_true, y_pred):
    """1 - distance IoU of each box with its own truth (Zheng et al., AAAI 2020); arguments as for `iou_loss`."""
    return 1 - _pairwise(geometry.diou, y_true, y_pred)


def ciou_loss(y_true, y_pred):
    """1 - complete IoU of each box with its own truth (Zheng et al., AAAI 2020); arguments as for `iou_loss`."""
    return 1 - _pairwise(geometry.ciou, y_true, y_pred)


def _pairwise(measure, y_true, y_pred):
    y_true, y_pred = geometry.floats(ops, y_true, y_pred, wide=True)
    return measure(y_pred[..., None, :], y_true[..., None, :])[..., 0, 0]
