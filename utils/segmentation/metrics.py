"""Metrics of label maps, all from one confusion matrix, and one of boundaries.

Accumulate the matrix over a data set and compute the scores once: a mean of batches' scores is another number.
`confusion` counts one batch, `Confusion` adds batches up, `scores` turns the counts into pixel accuracy, IoU and Dice,
`evaluate` does all three with a model.
"""

import keras
import numpy as np
from scipy import ndimage

from utils import models
from utils.labels import IGNORED
from utils.training import filled_batches


def confusion(labels, predictions, classes, ignore=IGNORED):
    """Count pixels by their true and their predicted class.

    Args:
        labels: (...) int, the truth: 0 to classes - 1, or `ignore`.
        predictions: (...) int of the same shape: 0 to classes - 1.
        classes: number of classes, background included.
        ignore: the label of pixels that do not count; None: all count.

    Returns:
        (classes, classes) int64: row = truth, column = prediction.

    Raises:
        ValueError: the shapes differ, a label is neither a class nor `ignore`, or a prediction is no class.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(f"labels of shape {labels.shape}, but predictions of shape {predictions.shape}")
    labels = check_labels(labels, classes, ignore)
    counted = slice(None) if ignore is None else labels != ignore
    labels, predictions = labels[counted].ravel(), predictions[counted].ravel()
    _check_range(predictions, classes, "the predictions")
    # One number for each (truth, prediction): counting them is a histogram.
    pairs = labels.astype(np.int64) * classes + predictions
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def check_labels(labels, classes, ignore=IGNORED):
    """Make sure that masks hold declared classes only; a training cannot say so itself, its loss would be NaN.

    Args:
        labels: (...) int.
        classes: number of classes, background included.
        ignore: the label of pixels that do not count; None: there is none.

    Returns:
        The labels, as an array of whole numbers.

    Raises:
        ValueError: a label is neither 0 to classes - 1 nor `ignore`, or is not a whole number. The message names it.
    """
    labels = np.asarray(labels)
    if classes < 1:
        raise ValueError(f"there must be at least one class, got classes={classes}")
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int64)
        if not np.array_equal(whole, labels):
            raise ValueError("the masks hold numbers that are not whole: masks must be resized by nearest neighbour")
        labels = whole
    if ignore is not None and labels.size and labels.max() >= classes:
        _check_range(labels[labels != ignore], classes, "the masks", f", and {ignore} for pixels that do not count")
    else:
        _check_range(labels, classes, "the masks")
    return labels


def _check_range(values, classes, where, also=""):
    if values.size and (values.min() < 0 or values.max() >= classes):
        odd = values[(values < 0) | (values >= classes)]
        raise ValueError(
            f"{where} hold the label {odd.flat[0]}, which is not declared: with {classes} classes there are 0 to "
            f"{classes - 1}{also}"
        )


def scores(matrix):
    """The usual scores of a confusion matrix.

    With t the pixels of a class, p those predicted as it and i those that are both: accuracy i / t, IoU i / (t + p - i)
    (Jaccard's index) and Dice 2 i / (t + p) (the F1 score; Dice = 2 IoU / (1 + IoU)).

    Args:
        matrix: (C, C) counts, row = truth, column = prediction.

    Returns:
        dict of pixel_accuracy, mean_accuracy, mean_iou, mean_dice, frequency_weighted_iou (floats in [0, 1]; NaN
        without any pixel), and class_accuracy, iou, dice, each (C,): NaN for a class in neither truth nor prediction
        (class_accuracy: not in the truth), which is left out of the mean. A class that is predicted and never there has
        IoU 0 and counts.

    Raises:
        ValueError: the matrix is not square.
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is square, got the shape {matrix.shape}")
    both, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    accuracy = _ratio(both, truth)
    iou = _ratio(both, truth + predicted - both)
    dice = _ratio(2 * both, truth + predicted)
    return {
        "pixel_accuracy": float(_ratio(both.sum(), matrix.sum())),
        "mean_accuracy": _mean(accuracy),
        "mean_iou": _mean(iou),
        "mean_dice": _mean(dice),
        "frequency_weighted_iou": float(_ratio(np.sum(truth * np.nan_to_num(iou)), matrix.sum())),
        "class_accuracy": accuracy,
        "iou": iou,
        "dice": dice,
    }


def _ratio(a, b):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b > 0, np.divide(a, b), np.nan)


def _mean(values):
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


class Confusion:
    """A confusion matrix that is added up batch by batch.

    Args:
        classes, ignore: as for `confusion`.
        tolerance: None; or pixels, for the boundary score, see `boundary_counts`.

    Attributes:
        matrix: (classes, classes) int64.
        boundaries: (classes, 2), sum of the images' boundary scores and the number of images with a score.
    """

    def __init__(self, classes, ignore=IGNORED, tolerance=None):
        self.classes, self.ignore, self.tolerance = classes, ignore, tolerance
        self.matrix = np.zeros((classes, classes), np.int64)
        self.boundaries = np.zeros((classes, 2))

    def update(self, labels, predictions):
        """Add images: (N, H, W) or (H, W) labels and predictions, int. Returns itself."""
        labels, predictions = np.asarray(labels), np.asarray(predictions)
        self.matrix += confusion(labels, predictions, self.classes, self.ignore)
        if self.tolerance is not None:
            shape = (-1, *labels.shape[-2:])
            for truth, found in zip(labels.reshape(shape), predictions.reshape(shape)):
                values = boundary_f(truth, found, self.classes, self.tolerance, self.ignore)
                self.boundaries += np.stack([np.nan_to_num(values), np.isfinite(values)], axis=1)
        return self

    def scores(self):
        """As `scores`; with a tolerance also boundary_f (C,), each class's mean over the images that have it, and
        mean_boundary_f.
        """
        result = scores(self.matrix)
        if self.tolerance is not None:
            values = _ratio(*self.boundaries.T)
            result |= {"boundary_f": values, "mean_boundary_f": _mean(values)}
        return result


def boundary_f(labels, predictions, classes, tolerance=2.0, ignore=IGNORED):
    """How well the outlines agree: the boundary F1 score of one image (Csurka, Larlus and Perronnin, BMVC 2013).

    A boundary pixel of a class has a neighbour, beside it or above or below, of another class. Precision is the share
    of the predicted boundary within `tolerance` of the true one, recall the share of the true within `tolerance` of the
    predicted, F1 their harmonic mean. IoU hardly sees outlines of large objects; this sees nothing else. Where a pixel
    is ignored, nothing is a boundary.

    Args:
        labels, predictions: (H, W) int.
        classes: number of classes, background included.
        tolerance: pixels, Euclidean. (The paper: .75 % of the image's diagonal.)
        ignore: the label of pixels that do not count; None: all count.

    Returns:
        (classes,) float64 in [0, 1]; 0 where only one of the two has a boundary of the class, NaN where neither has.

    Raises:
        ValueError: the shapes differ or are not (H, W), or there is an undeclared label.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 2:
        raise ValueError(
            f"expected labels and predictions (H, W) of one shape, got {labels.shape} and {predictions.shape}"
        )
    labels = check_labels(labels, classes, ignore)
    counted = np.ones(labels.shape, bool) if ignore is None else labels != ignore
    result = np.full(classes, np.nan)
    for index in range(classes):
        truth, found = (_boundary(values, index, counted) for values in (labels, predictions))
        if truth.any() and found.any():
            precision = np.mean(ndimage.distance_transform_edt(~truth)[found] <= tolerance)
            recall = np.mean(ndimage.distance_transform_edt(~found)[truth] <= tolerance)
            result[index] = 2 * precision * recall / max(precision + recall, 1e-12)
        elif truth.any() or found.any():
            result[index] = 0.0
    return result


def _boundary(values, index, counted):
    inside = values == index
    edge = np.zeros(inside.shape, bool)
    for axis in (0, 1):
        one, two = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        differ = (inside[one] != inside[two]) & counted[one] & counted[two]
        edge[one] |= differ
        edge[two] |= differ
    return edge & inside


def mean_iou(classes, ignore=IGNORED, name="mean_iou"):
    """Keras's mean IoU, to be watched during `fit`: `model.compile(..., metrics=[mean_iou(7)])`.

    Keras accumulates a matrix too, and agrees with `scores`, but leaves out undeclared labels without a word:
    `check_labels` first.

    Args:
        classes, ignore: as for `confusion`.
        name: of the metric.

    Returns:
        keras.metrics.MeanIoU on labels (B, H, W) and logits (B, H, W, classes).
    """
    # Its matrix counts pixels: in float16 it would end at 65,504.
    return keras.metrics.MeanIoU(classes, name=name, ignore_class=ignore, sparse_y_pred=False, dtype="float32")


def evaluate(model, data, classes, batch_size=32, ignore=IGNORED, tolerance=None):
    """The scores of a model on a data set, of which one batch at a time is in memory.

    Args:
        model: keras.Model from images (B, H, W, C) to logits (B, H, W, classes).
        data: a pair of arrays, images (N, H, W, C) and masks (N, H, W); or an iterable of such pairs, as a
            `tf.data.Dataset` of batches.
        classes, ignore: as for `confusion`.
        batch_size: images at a time, when the data are arrays; the last batch is filled up, so that all have one shape.
        tolerance: pixels, for the boundary score; None: without.

    Returns:
        dict as `Confusion.scores` gives it, and `confusion`, the matrix.

    Raises:
        ValueError: there are no images, the model gives another number of classes, or a mask holds an undeclared label;
            the model is not built, or has several inputs or outputs.
    """
    models.check_single(model)
    total = Confusion(classes, ignore, tolerance)
    seen = 0
    batches = _batches(*data, batch_size) if isinstance(data, (tuple, list)) else ((x, y, len(x)) for x, y in data)
    for images, masks, count in batches:
        logits = keras.ops.convert_to_numpy(model.predict_on_batch(np.asarray(images)))[:count]
        if logits.shape[-1] != classes:
            raise ValueError(f"the model gives {logits.shape[-1]} classes, not {classes}")
        masks, seen = np.asarray(masks), seen + count
        total.update(masks.reshape(masks.shape[:3]), logits.argmax(axis=-1))
    if not seen:
        raise ValueError("there are no images to evaluate")
    return total.scores() | {"confusion": total.matrix}


def _batches(images, masks, batch_size):
    if len(images) != len(masks):
        raise ValueError(f"{len(images)} images, but {len(masks)} masks")
    if len(images) == 0:
        raise ValueError("there are no images to evaluate")
    for batch, kept in filled_batches([images, masks], min(batch_size, len(images))):
        yield batch[0], batch[1][:kept], kept
