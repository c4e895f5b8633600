"""Losses for label maps: pixel and weighted cross-entropy, focal, Dice, Tversky, and sums of them.

Each loss is a free function of labels (B, H, W) and logits (B, H, W, classes), and a class of the same arguments for
`compile`. Pixels with the label `ignore` count nowhere; if no pixel counts, the loss is 0 and so is its gradient. A
label that is neither a class nor `ignore` makes the loss NaN, for a compiled loss cannot raise an error:
`metrics.check_labels` says beforehand which label it is.

All of it is computed in float32 at least: logits in float16 or bfloat16, as `mixed_float16` gives them, are cast first,
for the sums over the pixels of an image leave the range of float16.

Of Keras's own losses, `SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)` is right, and `CrossEntropy`
without weights equals it; `keras.losses.dice` is right, and used here on one-hot labels. Keras's Tversky loss exchanges
alpha and beta (its alpha weighs false negatives; the paper and Keras's own documentation say false positives), and its
focal loss clips probabilities, so that a pixel that is wrong
by more than 16 nats has no gradient: both are written here anew.
"""

import keras
import numpy as np
from keras import ops
from scipy import ndimage

from utils import models
from utils.labels import IGNORED
from utils.segmentation.metrics import check_labels


def cross_entropy(y_true, y_pred, class_weights=None, ignore=IGNORED):
    """Mean over the pixels of -log p(true class); with weights, sum of w l over sum of w, w the weight of the pixel's
    true class.

    Args:
        y_true: (B, H, W) int labels, or (B, H, W, 1).
        y_pred: (B, H, W, C) logits.
        class_weights: None, or C floats of at least 0, see `class_weights`.
        ignore: the label of pixels that do not count; None: all count.

    Returns:
        Scalar, float32 (float64 for such logits).
    """
    return _mean(*_pixels(y_true, y_pred, 0.0, class_weights, ignore))


def focal(y_true, y_pred, gamma=2.0, class_weights=None, ignore=IGNORED):
    """Cross-entropy times (1 - p(true class)) ** gamma: pixels that are right already count little (Lin et al., ICCV
    2017).

    The paper's loss is that of independent sigmoids and divides by the number of anchors assigned to an object; this
    one is of a softmax and is the mean over pixels, weighted as in `cross_entropy`, which it is with gamma = 0.

    Args:
        y_true, y_pred, class_weights, ignore: as in `cross_entropy`.
        gamma: float of at least 0.

    Returns:
        Scalar.
    """
    return _mean(*_pixels(y_true, y_pred, gamma, class_weights, ignore))


def dice(y_true, y_pred, per_image=False, background=True, ignore=IGNORED):
    """1 - the mean Dice score of the classes, with probabilities p in the place of predictions (Milletari, Navab and
    Ahmadi 2016).

    A class's score is 2 sum(p t) / (sum(p) + sum(t)), sums over pixels. (That paper squares the terms below; most later
    ones do not.) Classes that are nowhere in the truth are left out: their score is 0 whatever the net does, with no
    gradient.

    Args:
        y_true, y_pred, ignore: as in `cross_entropy`.
        per_image: whether the sums run over each image by itself, or over the batch, which is steadier for rare
            classes.
        background: whether class 0 counts.

    Returns:
        Scalar, or (B,) per image; 0 where no class is there.
    """
    truth, probabilities, axes = _overlap(y_true, y_pred, per_image, ignore)
    return _mean_of_classes(keras.losses.dice(truth, probabilities, axis=axes), truth, axes, background)


def tversky(y_true, y_pred, alpha=0.3, beta=0.7, per_image=False, background=True, ignore=IGNORED):
    """1 - the mean Tversky index of the classes: TP / (TP + alpha FP + beta FN), in probabilities (Salehi, Erdogmus and
    Gholipour 2017).

    alpha = beta = .5 is Dice, alpha = beta = 1 the soft IoU. beta above alpha asks for recall: missing a pixel costs
    more than a false one.

    Args:
        y_true, y_pred, per_image, background, ignore: as in `dice`.
        alpha: weight of false positives.
        beta: weight of false negatives.

    Returns:
        Scalar, or (B,) per image; 0 where no class is there.
    """
    truth, probabilities, axes = _overlap(y_true, y_pred, per_image, ignore)
    both = ops.sum(truth * probabilities, axis=axes)
    false_positives = ops.sum(probabilities, axis=axes) - both
    false_negatives = ops.sum(truth, axis=axes) - both
    index = both / (both + alpha * false_positives + beta * false_negatives + keras.config.epsilon())
    return _mean_of_classes(1 - index, truth, axes, background)


def _labels(y_true, y_pred, ignore):
    """Labels (B, H, W) int32 with 0 where nothing counts, what counts (B, H, W) 0 or 1, and 0 or NaN for undeclared
    labels.
    """
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) == len(y_pred.shape):
        y_true = ops.squeeze(y_true, axis=-1)
    y_true = ops.cast(y_true, "int32")
    classes = y_pred.shape[-1]
    declared = ops.logical_and(y_true >= 0, y_true < classes)
    counted = declared if ignore is None else ops.logical_and(declared, ops.not_equal(y_true, ignore))
    allowed = declared if ignore is None else ops.logical_or(declared, ops.equal(y_true, ignore))
    error = ops.where(ops.all(allowed), 0.0, float("nan"))
    return ops.where(counted, y_true, 0), ops.cast(counted, y_pred.dtype), ops.cast(error, y_pred.dtype)


def _pixels(y_true, y_pred, gamma, class_weights, ignore):
    """Losses and weights of all pixels, each (B, H, W)."""
    y_pred = models.single(ops.convert_to_tensor(y_pred))
    labels, weights, error = _labels(y_true, y_pred, ignore)
    values = ops.sparse_categorical_crossentropy(labels, y_pred, from_logits=True)
    if gamma:
        # 1 - p = -expm1(log p); its power has an infinite slope at 0, hence the tiny floor.
        values = ops.power(ops.maximum(-ops.expm1(-values), keras.config.epsilon()), gamma) * values
    if class_weights is not None:
        of_class = np.asarray(class_weights, "float32")
        if of_class.shape != (y_pred.shape[-1],) or (of_class < 0).any():
            raise ValueError(f"expected {y_pred.shape[-1]} class weights of at least 0, got {class_weights}")
        weights = weights * ops.take(ops.cast(of_class, y_pred.dtype), labels, axis=0)
    return values + error, weights


def _mean(values, weights):
    total = ops.sum(weights)
    # The second where: NaN values (of undeclared labels) must stay NaN, but 0 / 0 must not become one.
    return ops.sum(values * weights) / ops.where(total > 0, total, ops.ones_like(total))


def _overlap(y_true, y_pred, per_image, ignore):
    """One-hot truth and probabilities (B, H, W, C), both 0 where nothing counts, and the axes of the sums."""
    y_pred = models.single(ops.convert_to_tensor(y_pred))
    labels, counted, error = _labels(y_true, y_pred, ignore)
    counted = ops.expand_dims(counted, -1)
    truth = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype) * counted
    return truth, ops.softmax(y_pred, axis=-1) * counted + error, (1, 2) if per_image else (0, 1, 2)


def _mean_of_classes(losses, truth, axes, background):
    there = ops.cast(ops.sum(truth, axis=axes) > 0, losses.dtype)
    if not background:
        there, losses = there[..., 1:], losses[..., 1:]
    return ops.sum(losses * there, axis=-1) / ops.maximum(ops.sum(there, axis=-1), 1.0)


# Losses for `compile`


class _Loss(keras.losses.Loss):
    """Computes in float32 where Keras would compute in half precision, by its `floatx` or an argument."""

    def __init__(self, dtype=None, **options):
        policy = keras.dtype_policies.get(dtype or keras.config.floatx())
        super().__init__(dtype="float32" if models.is_half(policy.compute_dtype) else policy, **options)


@keras.saving.register_keras_serializable("convnets")
class CrossEntropy(_Loss):
    """`cross_entropy` for `compile`. Sample weights (B, H, W), such as `border_weights`, multiply each pixel's loss.

    Args:
        class_weights, ignore: as in `cross_entropy`.
    """

    def __init__(self, class_weights=None, ignore=IGNORED, name="cross_entropy", **options):
        super().__init__(name=name, **options)
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
        self.ignore = ignore

    def call(self, y_true, y_pred):
        return _scaled(*_pixels(y_true, y_pred, 0.0, self.class_weights, self.ignore))

    def get_config(self):
        return super().get_config() | {"class_weights": self.class_weights, "ignore": self.ignore}


@keras.saving.register_keras_serializable("convnets")
class Focal(_Loss):
    """`focal` for `compile`; sample weights as for `CrossEntropy`.

    Args:
        gamma, class_weights, ignore: as in `focal`.
    """

    def __init__(self, gamma=2.0, class_weights=None, ignore=IGNORED, name="focal", **options):
        super().__init__(name=name, **options)
        self.gamma, self.ignore = gamma, ignore
        self.class_weights = None if class_weights is None else [float(weight) for weight in class_weights]

    def call(self, y_true, y_pred):
        return _scaled(*_pixels(y_true, y_pred, self.gamma, self.class_weights, self.ignore))

    def get_config(self):
        own = {"gamma": self.gamma, "class_weights": self.class_weights, "ignore": self.ignore}
        return super().get_config() | own


def _scaled(values, weights):
    """Pixel losses whose plain mean, which Keras takes, is the weighted mean."""
    total = ops.sum(weights)
    count = ops.cast(ops.size(weights), weights.dtype)
    return values * weights * (count / ops.where(total > 0, total, ops.ones_like(total)))


@keras.saving.register_keras_serializable("convnets")
class Dice(_Loss):
    """`dice` for `compile`.

    Args:
        per_image, background, ignore: as in `dice`.
    """

    def __init__(self, per_image=False, background=True, ignore=IGNORED, name="dice", **options):
        super().__init__(name=name, **options)
        self.per_image, self.background, self.ignore = per_image, background, ignore

    def call(self, y_true, y_pred):
        return dice(y_true, y_pred, self.per_image, self.background, self.ignore)

    def get_config(self):
        own = {"per_image": self.per_image, "background": self.background, "ignore": self.ignore}
        return super().get_config() | own


@keras.saving.register_keras_serializable("convnets")
class Tversky(_Loss):
    """`tversky` for `compile`.

    Args:
        alpha, beta, per_image, background, ignore: as in `tversky`.
    """

    def __init__(
        self, alpha=0.3, beta=0.7, per_image=False, background=True, ignore=IGNORED, name="tversky", **options
    ):
        super().__init__(name=name, **options)
        self.alpha, self.beta = alpha, beta
        self.per_image, self.background, self.ignore = per_image, background, ignore

    def call(self, y_true, y_pred):
        return tversky(y_true, y_pred, self.alpha, self.beta, self.per_image, self.background, self.ignore)

    def get_config(self):
        own = {name: getattr(self, name) for name in ("alpha", "beta", "per_image", "background", "ignore")}
        return super().get_config() | own


@keras.saving.register_keras_serializable("convnets")
class Sum(_Loss):
    """A weighted sum of losses: `Sum(CrossEntropy(), Dice())`. Cross-entropy guides every pixel, Dice asks for the
    small classes.

    Args:
        losses: keras.losses.Loss, each of one number.
        weights: a float for each; None: 1.

    Raises:
        ValueError: there is no loss, or not a weight for each.
    """

    def __init__(self, *losses, weights=None, name="sum", **options):
        super().__init__(name=name, **options)
        weights = [1.0] * len(losses) if weights is None else [float(weight) for weight in weights]
        if not losses or len(weights) != len(losses):
            raise ValueError(f"{len(losses)} losses, but {len(weights)} weights")
        self.losses, self.weights = list(losses), weights

    def call(self, y_true, y_pred):
        return sum(weight * loss(y_true, y_pred) for weight, loss in zip(self.weights, self.losses))

    def get_config(self):
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return super().get_config() | {"losses": losses, "weights": self.weights}

    @classmethod
    def from_config(cls, config):
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config.pop("losses")]
        return cls(*losses, **config)


# Weights


def class_weights(masks, classes, method="median", ignore=IGNORED):
    """Weights that make rare classes count more.

    Args:
        masks: (N, H, W) int labels of the training images.
        classes: number of classes, background included.
        method: "median": median frequency balancing (Eigen and Fergus 2015, used by SegNet): the median of the classes'
            frequencies divided by the class's, a frequency being the class's pixels over all pixels of the images in
            which it is. "inverse": 1 / share of all pixels, divided by the mean of these.
        ignore: the label of pixels that do not count.

    Returns:
        (classes,) float32; 0 for a class that is nowhere.

    Raises:
        ValueError: an unknown method, or undeclared labels.
    """
    masks = check_labels(masks, classes, ignore)
    counts = np.stack([np.bincount(m[m != ignore].ravel(), minlength=classes)[:classes] for m in masks]).astype(float)
    pixels = counts.sum(axis=0)
    there = pixels > 0
    if method == "median":
        images = np.where(counts > 0, counts.sum(axis=1, keepdims=True), 0).sum(axis=0)
        frequency = pixels / np.maximum(images, 1)
        weights = np.median(frequency[there]) / np.where(there, frequency, 1) if there.any() else pixels
    elif method == "inverse":
        weights = 1 / np.where(there, pixels, 1)
        weights = weights / weights[there].mean() if there.any() else pixels
    else:
        raise ValueError(f"method is 'median' or 'inverse', not {method!r}")
    return np.where(there, weights, 0).astype("float32")


def border_weights(instances, w0=10.0, sigma=5.0):
    """U-Net's weight map, which makes the net learn the narrow ground between touching objects (Ronneberger et al.
    2015, equation 2).

    1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) on the background, d1 and d2 the distances to the nearest and second nearest
    object; 1 inside objects. (The paper also balances the classes: multiply by a map of class weights.)

    Args:
        instances: (N, H, W) 0/1, one mask for each object, as in `masks` of the data; empty ones are padding.
        w0, sigma: as in the formula, sigma in pixels.

    Returns:
        (H, W) float32.
    """
    instances = np.asarray(instances).astype(bool)
    weights = np.ones(instances.shape[1:], "float32")
    instances = instances[instances.any(axis=(1, 2))]
    if len(instances) > 1:
        distances = np.sort([ndimage.distance_transform_edt(~inside) for inside in instances], axis=0)
        near = w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
        weights += np.where(instances.any(axis=0), 0, near).astype("float32")
    return weights
