"""Fooling a net: a small step in the pixels that changes the class."""

from dataclasses import dataclass

import numpy as np

from utils.introspection import inside
from utils.introspection.attribution import score_gradients


@dataclass(frozen=True)
class Fooled:
    """An image (H, W, C) float32 after the step, and the way there.

    `path` (steps + 1, classes): the probabilities after each step, those of the image as it was first. `before` and
    `after`: the winning classes of its two ends. `largest`: the largest change of a value.
    """

    image: np.ndarray
    path: np.ndarray
    before: int
    after: int
    largest: float

    @property
    def changed(self):
        return self.before != self.after


def fool(model, image, target=None, step=1.0, steps=20, limit=None, limits=(0, 255), random=False, seed=0):
    """Change an image by small steps of equal size in every value, along the sign of the gradient, until the class
    changes (Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", 2015; in several steps:
    Kurakin et al. 2017).

    What climbs is the logit of the target less that of the present winner.

    Args:
        model: keras.Model on images that gives (B, classes).
        image: (H, W, C), or (1, H, W, C).
        target: int, the class to reach; None: whichever of the others is nearest, anew in each step.
        step: float, the change of a value in one step, in units of the input (of 0..255: 1 is invisible).
        steps: int, at most. One step is the fast gradient sign method.
        limit: float, the largest change of a value in all; None: no limit.
        limits: (low, high), the values that a pixel may take.
        random: whether to go the same steps along random signs instead, to compare with.
        seed: int, of the random signs.

    Returns:
        Fooled; it stops when the class has changed (to the target, where there is one).

    Raises:
        ValueError: no such class, the target is the winner already, or a step that is not above 0; the model's logits
            are not to be found.
    """
    image = np.asarray(image, "float32")
    image = inside.as_images(model, image if image.ndim == 4 else image[None])
    if len(image) != 1:
        raise ValueError(f"one image at a time, got {len(image)}")
    if not step > 0 or steps < 1:
        raise ValueError(f"step must be above 0 and steps at least 1, got {step} and {steps}")
    found = inside.predict(model, image)
    found.logits_needed(model)
    scores, probabilities = found.scores[0], found.probabilities[0]
    before = after = int(scores.argmax())
    if target is not None:
        inside.which_class(int(target), scores[None])
        if target == before:
            raise ValueError(f"the image is of class {target} already, as the net sees it")
    signs = np.random.default_rng(seed)
    now, path = image, [probabilities]
    for _ in range(steps):
        others = np.where(np.arange(len(scores)) == before, -np.inf, scores)
        weights = np.zeros((1, len(scores)), "float32")
        weights[0, others.argmax() if target is None else target], weights[0, scores.argmax()] = 1, -1
        if random:
            direction = signs.choice([-1.0, 1.0], size=image.shape)
        else:
            direction = np.sign(score_gradients(model, now, weights, 1))
        now = now + step * direction
        if limit is not None:
            now = np.clip(now, image - limit, image + limit)
        now = np.clip(now, *limits).astype("float32")
        found = inside.predict(model, now)
        scores, probabilities = found.scores[0], found.probabilities[0]
        path.append(probabilities)
        after = int(scores.argmax())
        if after == target or (target is None and after != before):
            break
    return Fooled(now[0], np.stack(path), before, after, float(np.abs(now - image).max()))
