"""Feature visualisation: an image that excites a unit, by gradient ascent."""

from dataclasses import dataclass

import numpy as np
from keras import ops
from scipy.ndimage import gaussian_filter

from utils.introspection import inside
from utils.introspection.features import map_of
from utils.introspection.gradient import Nudge, kept_for
from utils.introspection.relu import rectifying, relus


@dataclass(frozen=True)
class Maximised:
    """Images (N, H, W, C) float32 that excite a unit, and their activations on the way, `scores` (steps + 1, N)."""

    images: np.ndarray
    scores: np.ndarray


def maximise(
    model,
    channel,
    layer=None,
    start=None,
    shape=None,
    count=1,
    steps=64,
    rate=0.02,
    jitter=4,
    decay=0.002,
    blur=0.5,
    blur_every=4,
    limits=(0, 255),
    seed=0,
):
    """Activation maximisation (Erhan et al. 2009; of a class: Simonyan et al. 2014): climb from noise to an image that
    excites a channel.

    Left alone, the ascent finds noise that the net takes for the feature; what is here against that was put together by
    Yosinski et al., "Understanding neural networks through deep visualization" (2015), and Mordvintsev et al. (2015):
    each step looks at a shifted image (jitter), pulls it towards grey (L2 decay), and every few steps it is blurred.
    With `jitter=0, decay=0, blur=0` the ascent is plain.

    Args:
        model: keras.Model on images.
        channel: int, of the layer; of the model's output the class, before the softmax.
        layer: name; None: the output. The mean over the places of its channel is climbed; where the channel is silent
            and has no gradient, that in front of the layer's own ReLU, until it wakes.
        start: (N, H, W, C), where to begin; None: grey with a little noise.
        shape: (height, width, channels) of the image where start is None; None: the model's own.
        count: int, images, of different noise.
        steps: int.
        rate: float, the mean change of a pixel in a step, as a share of the range of values.
        jitter: int, pixels of shift at most.
        decay: float in [0, 1), share of the way back to grey in each step.
        blur: float, pixels, the standard deviation of a Gaussian.
        blur_every: int, steps.
        limits: (low, high), the values that a pixel may take.
        seed: int, of noise and shifts.

    Returns:
        Maximised.

    Raises:
        ValueError: no such layer or channel, or the size of the image is not known; of a class, the logits are not to
            be found.
    """
    low, high = map(float, limits)
    random = np.random.default_rng(seed)
    grey = (low + high) / 2
    if start is None:
        shape = tuple(shape or _own_shape(model))
        images = grey + 0.04 * (high - low) * random.standard_normal((count, *shape), "float32")
    else:
        images = inside.as_images(model, start).copy()
    path, part = inside.find(model, layer) if layer is not None else (None, None)
    relus(model)

    def climbing(rule):
        def function(x, chosen, nudge):
            if part is None:
                return ops.sum(inside.class_scores(model, x + nudge) * chosen, axis=-1)
            with rectifying(model, rule, [part]):
                output = inside.recorded(model, x + nudge, {path: part})[0][path]
            return ops.sum(_mean_places(output) * chosen, axis=-1)

        key = ("maximise", path, images.shape, rule)
        return kept_for(model, key, lambda: Nudge(function, images.shape, model)).gradients

    channels = _channels(model, images, path, part)
    if not 0 <= channel < channels:
        raise ValueError(
            f"{'layer ' + repr(layer) if layer else model.name} has {channels} channels, there is no channel {channel}"
        )
    chosen = inside.one_hot(np.full(len(images), channel), channels)

    def score(images):
        return (_outputs(model, images, path, part) * chosen).sum(axis=-1)

    scores = [score(images)]
    for step in range(1, steps + 1):
        shift = random.integers(-jitter, jitter + 1, size=2) if jitter else (0, 0)
        inputs = [np.roll(images, shift, (1, 2)), chosen]
        found = climbing(None)(inputs)
        silent = ~found.any(axis=(1, 2, 3))
        if silent.any() and part is not None:
            found[silent] = climbing("open")(inputs)[silent]
        found = np.roll(found, np.negative(shift), (1, 2))
        size = np.abs(found).mean(axis=(1, 2, 3), keepdims=True)
        images = images + rate * (high - low) * found / np.maximum(size, 1e-12)
        images = grey + (1 - decay) * (images - grey)
        if blur and step % blur_every == 0:
            images = gaussian_filter(images, (0, blur, blur, 0))
        images = np.clip(images, low, high).astype("float32")
        scores.append(score(images))
    return Maximised(images, np.stack(scores))


def _own_shape(model):
    inputs = getattr(model, "inputs", None)
    shape = tuple(inputs[0].shape[1:]) if inputs else (None,)
    if None in shape:
        raise ValueError(f"the image size of {model.name} is not fixed: pass shape=(height, width, channels)")
    return shape


def _mean_places(output):
    return ops.mean(output, axis=tuple(range(1, len(output.shape) - 1))) if len(output.shape) > 2 else output


def _outputs(model, images, path, part):
    if part is None:
        found = inside.predict(model, images)
        found.logits_needed(model)
        return found.scores
    output = map_of(model, images, path)
    return output.mean(axis=tuple(range(1, output.ndim - 1))) if output.ndim > 2 else output


def _channels(model, images, path, part):
    return _outputs(model, images, path, part).shape[-1]
