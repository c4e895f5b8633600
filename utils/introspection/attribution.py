"""Which pixels a class's score hangs on: saliency and what grew out of it."""

import numpy as np
from keras import ops

from utils.introspection import inside
from utils.introspection.gradient import Nudge, kept_for
from utils.introspection.relu import rectifying, relus

REDUCTIONS = {
    "max": lambda maps: np.abs(maps).max(axis=-1),
    "mean": lambda maps: np.abs(maps).mean(axis=-1),
    None: lambda maps: maps,
}


def saliency(model, images, class_index=None, reduce="max", of="logit", batch_size=32):
    """The gradient of a class's score with respect to every pixel (Simonyan, Vedaldi and Zisserman, "Deep inside
    convolutional networks", 2014).

    Of the logit, not of the probability: softmax rises also when the scores of other classes fall, so its gradient
    shows their pixels as well; and where the net is sure it is flat, its gradient p (1 - p) times differences of
    logits, next to 0. When a model ends in softmax or sigmoid, as a layer, an activation or an operation, the tensor in
    front of it is taken.

    Args:
        model: keras.Model on images that gives (B, classes).
        images: (N, H, W, C).
        class_index: int, or N of them; None: the winner of each image.
        reduce: over the channels: "max" or "mean" of the absolute value, or None: all of them, with their sign.
        of: "logit", or "probability" to see the difference.
        batch_size: int, images at a time.

    Returns:
        (N, H, W) float32, or (N, H, W, C) for reduce=None.

    Raises:
        ValueError: no such class or reduction, or the model does not give one number a class; or the model gives
            probabilities, `of` is "logit", and the logits are not to be found, as in a subclassed model that calls
            softmax itself.
    """
    if of not in ("logit", "probability"):
        raise ValueError(f"of must be 'logit' or 'probability', got {of!r}")
    images, weights, hidden = _asked(model, images, class_index, reduce, batch_size, of)
    of = "output" if hidden == "probabilities" else of
    return REDUCTIONS[reduce](score_gradients(model, images, weights, batch_size, of))


def guided_backpropagation(model, images, class_index=None, reduce="max", batch_size=32):
    """Saliency in which a ReLU lets back only what is positive and came through it (Springenberg et al., "Striving for
    simplicity", 2015).

    Sharp pictures; but they hardly change when the upper layers are given random weights (Adebayo et al., "Sanity
    checks for saliency maps", 2018), so they show edges more than reasons.

    Arguments, results and errors: as `saliency`; and ValueError for a model without a ReLU.
    """
    images, weights, _ = _asked(model, images, class_index, reduce, batch_size)
    return REDUCTIONS[reduce](score_gradients(model, images, weights, batch_size, rule="guided"))


def smooth_grad(model, images, class_index=None, samples=25, noise=0.15, reduce="max", seed=0, batch_size=32):
    """The mean gradient over copies of an image with noise (Smilkov et al., "SmoothGrad", 2017).

    Args:
        model, images, class_index, reduce, batch_size: as in `saliency`; the class is that of the image without noise.
        samples: int, copies of each image.
        noise: float, the standard deviation, as a share of the image's range of values.
        seed: int.

    Returns:
        As `saliency`. The gradients are averaged with their signs, then reduced.

    Raises:
        ValueError: as `saliency`, or fewer than one sample.
    """
    images, weights, _ = _asked(model, images, class_index, reduce, batch_size)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    random = np.random.default_rng(seed)
    total = np.zeros_like(images)
    spread = noise * np.ptp(images, axis=(1, 2, 3), keepdims=True)
    for start in range(0, samples, 8):  # few copies in memory at a time
        copies = min(8, samples - start)
        noisy = np.repeat(images, copies, axis=0)
        noisy += np.repeat(spread, copies, axis=0) * random.standard_normal(noisy.shape, "float32")
        found = score_gradients(model, noisy, np.repeat(weights, copies, axis=0), batch_size, fixed=True)
        total += found.reshape(len(images), copies, *images.shape[1:]).sum(axis=1)
    return REDUCTIONS[reduce](total / samples)


def integrated_gradients(model, images, class_index=None, baseline=0.0, steps=32, batch_size=32):
    """What each pixel adds to a class's score, on the way from a baseline to the image (Sundararajan, Taly and Yan
    2017).

    The values of an image add up to the score of the image less that of the baseline (but for the error of a sum in
    place of an integral).

    Args:
        model, images, class_index, batch_size: as in `saliency`.
        baseline: number, or array that broadcasts to (N, H, W, C): the image that says nothing.
        steps: int, points on the way.

    Returns:
        (N, H, W, C) float32, with signs.

    Raises:
        ValueError: as `saliency`, or fewer than one step.
    """
    images, weights, _ = _asked(model, images, class_index, None, batch_size)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    baseline = np.broadcast_to(np.asarray(baseline, "float32"), images.shape)
    way = (np.arange(steps, dtype="float32") + 0.5) / steps
    means = [
        score_gradients(
            model,
            start + way[:, None, None, None] * (end - start),
            np.repeat(weight[None], steps, axis=0),
            batch_size,
            fixed=True,
        ).mean(axis=0)
        for start, end, weight in zip(baseline, images, weights)
    ]
    return (images - baseline) * np.stack(means)


def score_gradients(model, images, weights, batch_size, of="logit", rule=None, fixed=False):
    """Gradient of the weighted sum of the scores, weights (N, classes), with respect to images (N, H, W, C).

    `of`: "logit", "probability", or "output", the model's own. `fixed`: batches of exactly `batch_size`, however few
    the images."""
    if rule is not None:
        relus(model)

    def function(x, weights, nudge):
        with rectifying(model, rule):
            scores = inside.class_scores(model, x + nudge)
        scores = inside.class_probabilities(model, scores) if of == "probability" else scores
        return ops.sum(scores * weights, axis=-1)

    size = batch_size if fixed else min(batch_size, len(images))
    shape = (size, *images.shape[1:])
    gradient = kept_for(model, ("scores", of, rule, shape), lambda: Nudge(function, shape, model))
    return gradient.gradients([images, weights])


def _asked(model, images, class_index, reduce, batch_size, of="logit"):
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce must be 'max', 'mean' or None, got {reduce!r}")
    images = inside.as_images(model, images)
    found = inside.predict(model, images, batch_size)
    if of == "logit":
        found.logits_needed(model)
    chosen = inside.which_class(class_index, found.scores)
    return images, inside.one_hot(chosen, found.scores.shape[-1]), found.hidden
