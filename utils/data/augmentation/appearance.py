"""Colour, noise, blur and cutout: what changes the pixels and moves nothing."""

import keras

from utils.data.augmentation.base import PACKAGE, Augmentation, between, spread
from utils.data.geometry import GREY


class Appearance(Augmentation):
    """An augmentation of the image alone. Subclasses write `change`; `amount` is how strong it is at most, 0 changes
    nothing.
    """

    HIGHEST = 1.0

    def __init__(self, amount, probability=1.0, seed=None, **kwargs):
        super().__init__(probability=probability, seed=seed, **kwargs)
        self.amount = between(amount, 0, self.HIGHEST, "amount")

    def augment(self, batch, t, random):
        image = batch["image"]
        changed = t.clip(self.change(image, t, random), 0.0, 255.0)
        batch["image"] = t.where(spread(self.chosen(batch, t, random), image), changed, image) if self.amount else image
        return batch

    def change(self, image, t, random):
        """(B, H, W, C) float32 in 0..255 to the same; what leaves the range is clipped."""
        raise NotImplementedError

    def draw(self, image, t, random, low=-1.0):
        """(B, 1, 1, 1) numbers from `low * amount` to `amount`."""
        return random.uniform((t.shape(image)[0], 1, 1, 1), low * self.amount, self.amount)

    def get_config(self):
        return super().get_config() | {"amount": self.amount}


@keras.saving.register_keras_serializable(PACKAGE)
class Brightness(Appearance):
    """Adds up to `amount` of full scale (255), or takes it away."""

    def change(self, image, t, random):
        return image + 255.0 * self.draw(image, t, random)


@keras.saving.register_keras_serializable(PACKAGE)
class Contrast(Appearance):
    """Multiplies the distance from the image's mean grey by 1 - `amount` to 1 + `amount`."""

    def change(self, image, t, random):
        mean = t.mean(luma(image), axis=(1, 2, 3), keepdims=True)
        return mean + (image - mean) * (1 + self.draw(image, t, random))


@keras.saving.register_keras_serializable(PACKAGE)
class Saturation(Appearance):
    """Multiplies each pixel's distance from its own grey by 1 - `amount` to 1 + `amount`. Grey images stay."""

    def change(self, image, t, random):
        grey = luma(image)
        return grey + (image - grey) * (1 + self.draw(image, t, random))


@keras.saving.register_keras_serializable(PACKAGE)
class Hue(Appearance):
    """Turns the hue by up to `amount` of the colour circle, to either side; at most .5. Grey images stay."""

    HIGHEST = 0.5

    def change(self, image, t, random):
        return through_hsv(image, t, self.draw(image, t, random), 1.0, 1.0)


@keras.saving.register_keras_serializable(PACKAGE)
class HSVJitter(Augmentation):
    """Hue, saturation and value at once, as YOLO's training does: hue is turned, the other two are multiplied.

    Args:
        hue: share of the colour circle, at most.
        saturation, value: the factors lie from 1 - this to 1 + this.
        probability, seed: as for `Augmentation`.
    """

    def __init__(self, hue=0.015, saturation=0.7, value=0.4, probability=1.0, seed=None, **kwargs):
        super().__init__(probability=probability, seed=seed, **kwargs)
        self.hue = between(hue, 0, 0.5, "hue")
        self.saturation = between(saturation, 0, 1, "saturation")
        self.value = between(value, 0, 1, "value")

    def augment(self, batch, t, random):
        image = batch["image"]
        shape = (t.shape(image)[0], 1, 1, 1)
        chosen = spread(t.cast(self.chosen(batch, t, random), "float32"), image)
        turn, *gains = (chosen * random.uniform(shape, -most, most) for most in (self.hue, self.saturation, self.value))
        if self.hue or self.saturation or self.value:
            batch["image"] = t.clip(through_hsv(image, t, turn, 1 + gains[0], 1 + gains[1]), 0.0, 255.0)
        return batch

    def get_config(self):
        return super().get_config() | {"hue": self.hue, "saturation": self.saturation, "value": self.value}


@keras.saving.register_keras_serializable(PACKAGE)
class Noise(Appearance):
    """Gaussian noise, each channel by itself, with a standard deviation of up to `amount` of full scale."""

    def change(self, image, t, random):
        return image + 255.0 * self.draw(image, t, random, low=0.0) * random.normal(t.shape(image))


@keras.saving.register_keras_serializable(PACKAGE)
class SaltAndPepper(Appearance):
    """Turns up to `amount` of the pixels white or black, as many of each."""

    def change(self, image, t, random):
        count, height, width = t.shape(image)[:3]
        number = random.uniform((count, height, width, 1))
        share = self.draw(image, t, random, low=0.0)
        salted = t.where(number < share / 2, 255.0 * t.ones_like(image), image)
        return t.where((number >= share / 2) & (number < share), t.zeros_like(image), salted)


@keras.saving.register_keras_serializable(PACKAGE)
class Blur(Appearance):
    """Gaussian blur with a standard deviation of up to `amount` pixels."""

    HIGHEST = 10.0

    def change(self, image, t, random):
        return gaussian(image, t, self.draw(image, t, random, low=0.0), self.amount)


@keras.saving.register_keras_serializable(PACKAGE)
class Cutout(Appearance):
    """Covers squares with grey (114). Truth stays: a covered object is still there (DeVries and Taylor 2017).

    Args:
        amount: side of the squares, as a share of the image's shorter side; centres lie anywhere, so that squares hang
            over the edge.
        count: number of squares.
        probability, seed: as for `Augmentation`.
    """

    def __init__(self, amount=0.3, count=1, probability=1.0, seed=None, **kwargs):
        super().__init__(amount, probability=probability, seed=seed, **kwargs)
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"count must be an int of at least 1, got {count!r}")
        self.count = count

    def change(self, image, t, random):
        number, height, width = t.shape(image)[:3]
        down = t.cast(t.arange(height), "float32")[None, :, None] + 0.5
        right = t.cast(t.arange(width), "float32")[None, None, :] + 0.5
        h, w = t.cast(height, "float32"), t.cast(width, "float32")
        half = self.amount * t.minimum(h, w) / 2
        for _ in range(self.count):
            y, x = random.uniform((number, 1, 1)) * h, random.uniform((number, 1, 1)) * w
            covered = (t.abs(down - y) < half) & (t.abs(right - x) < half)
            image = t.where(covered[..., None], GREY * t.ones_like(image), image)
        return image

    def get_config(self):
        return super().get_config() | {"count": self.count}


def luma(image):
    """ITU-R 601 luma (B, H, W, 1) of an image (B, H, W, 1 or 3)."""
    if image.shape[-1] == 1:
        return image
    return 0.299 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]


def through_hsv(image, t, turn, saturation, value):
    """Turns the hue and multiplies saturation and value. Of a grey image only the value is left."""
    if image.shape[-1] == 1:
        return image * value
    hsv = t.image.rgb_to_hsv(image / 255.0)
    hue = hsv[..., :1] + turn
    hue = hue - t.floor(hue)
    rest = [t.clip(hsv[..., 1:2] * saturation, 0.0, 1.0), t.clip(hsv[..., 2:] * value, 0.0, 1.0)]
    return 255.0 * t.image.hsv_to_rgb(t.concatenate([hue, *rest], axis=-1))


def gaussian(image, t, deviation, largest):
    """Gaussian blur, mirrored at the edges.

    Args:
        image: (B, H, W, C) float32.
        deviation: pixels, (B, 1, 1, 1), or a float.
        largest: float, what `deviation` is at most: decides how far it reaches (3 of it, less than the sides).

    Returns:
        the same shape.
    """
    deviation = t.maximum(t.convert_to_tensor(deviation, "float32"), 1e-3)
    for axis in (1, 2):
        side = image.shape[axis]
        reach = max(round(3 * largest + 0.5), 1) if side is None else min(max(round(3 * largest + 0.5), 1), side - 1)
        if not reach:
            continue
        steps = range(-reach, reach + 1)
        weights = [t.exp(-0.5 * (step / deviation) ** 2) for step in steps]
        total = sum(weights)
        framed = t.pad(image, [[reach, reach] if place == axis else [0, 0] for place in range(4)], mode="reflect")
        shifted = shifts(framed, axis, 2 * reach + 1, t.shape(image)[axis])
        image = sum(weight / total * part for weight, part in zip(weights, shifted, strict=True))
    return image


def shifts(framed, axis, count, side):
    """The `count` windows of `side` pixels along an axis (1 or 2) of a batch of images."""
    for start in range(count):
        yield framed[:, start : start + side] if axis == 1 else framed[:, :, start : start + side]
