"""Mosaic, MixUp and CutMix: images made of several images of a batch."""

import keras

from utils.data.augmentation.base import OBJECTS, PACKAGE, Augmentation, between, spread
from utils.data.augmentation.geometry import inside, inverse, move_objects, pull
from utils.data.geometry import GREY
from utils.labels import IGNORED


class Mixing(Augmentation):
    """An augmentation across a batch. TAKES tells which truth it can mix."""

    TAKES = ()

    def refuse(self, carried):
        if carried:
            raise ValueError(
                f"{type(self).__name__} cannot mix {', '.join(carried)}: leave it out, say with load(..., target=...)"
            )

    def steps(self, batch, training, t, random):
        if wrong := set(batch) - {"image", *self.TAKES}:
            raise ValueError(
                f"{type(self).__name__} cannot mix {', '.join(sorted(wrong))}, only {', '.join(self.TAKES)}"
            )
        return super().steps(batch, training, t, random)

    def run(self, batch, training, t, random):
        if len(batch["image"].shape) == 3:
            raise ValueError(f"{type(self).__name__} mixes the images of a batch: batch them first")
        return super().run(batch, training, t, random)


@keras.saving.register_keras_serializable(PACKAGE)
class Mosaic(Mixing):
    """Four images of the batch in the four corners of one (Bochkovskiy, Wang and Liao 2020), for boxes and masks.

    Each fills its corner, with its aspect kept, so that a part of it may be cut off. Objects from all four stand one
    image after the other: boxes, labels, ignored, masks and keypoints grow to four times their number of slots, and do
    so when it is not training too.

    Args:
        low, high: where the corners meet lies between these shares of the sides.
        min_visible: share of an object that must be seen; what is seen less of becomes padding.
        probability, seed: as for `Augmentation`.
    """

    TAKES = ("mask", *OBJECTS)

    def __init__(self, low=0.3, high=0.7, min_visible=0.1, probability=1.0, seed=None, **kwargs):
        super().__init__(probability=probability, seed=seed, **kwargs)
        self.low, self.high = between(low, 0.05, 0.95, "low"), between(high, low, 0.95, "high")
        self.min_visible = between(min_visible, 0, 1, "min_visible")

    def augment(self, batch, t, random):
        image = batch["image"]
        count, height, width = t.shape(image)[:3]
        size = (height, width)
        h, w = t.cast(height, "float32"), t.cast(width, "float32")
        x, y = (t.round(random.uniform((count,), self.low, self.high) * side) for side in (w, h))
        zero = t.zeros_like(x)
        windows = ((zero, zero, x, y), (x, zero, w + zero, y), (zero, y, x, h + zero), (x, y, w + zero, h + zero))
        pieces = []
        for number, window in enumerate(windows):
            # The first corner has the image itself, each other corner one drawn from the batch.
            partner = t.argsort(random.uniform((count,))) if number else t.arange(count)
            chosen = {key: t.take(value, partner, axis=0) for key, value in batch.items()}
            left, top, right, bottom = window
            scale = t.maximum((right - left) / w, (bottom - top) / h)
            shift_x = right - scale * w if number % 2 == 0 else left
            shift_y = bottom - scale * h if number < 2 else top
            forward = t.stack([scale, zero, shift_x, zero, scale, shift_y], axis=1)
            back = inverse(t, forward)
            seen = inside(t, window, size)
            piece = {"seen": seen, "image": pull(t, chosen["image"], back, size, GREY, "grey", "bilinear")}
            if "mask" in batch:
                piece["mask"] = pull(t, chosen["mask"][..., None], back, size, IGNORED, "grey", "nearest")[..., 0]
            if "boxes" in batch:
                piece |= move_objects(t, chosen, forward, back, size, self.min_visible, window)
            pieces.append(piece)
        mixed = {}
        for key in batch:
            if key in ("image", "mask"):
                mixed[key] = pieces[0][key]
                for piece in pieces[1:]:
                    seen = piece["seen"][..., None] if key == "image" else piece["seen"]
                    mixed[key] = t.where(seen, piece[key], mixed[key])
            else:
                mixed[key] = t.concatenate([piece[key] for piece in pieces], axis=1)
        whole = self.rest(batch, t)
        chosen = self.chosen(batch, t, random)
        return {key: t.where(spread(chosen, value), value, whole[key]) for key, value in mixed.items()}

    def rest(self, batch, t):
        result = dict(batch)
        for key in OBJECTS:
            if key in batch:
                empty = -t.ones_like(batch[key]) if key == "labels" else t.zeros_like(batch[key])
                result[key] = t.concatenate([batch[key], empty, empty, empty], axis=1)
        return result

    def output_shape_of(self, key, shape):
        grows = key in OBJECTS and shape[1] is not None
        return (shape[0], 4 * shape[1], *shape[2:]) if grows else tuple(shape)

    def get_config(self):
        return super().get_config() | {"low": self.low, "high": self.high, "min_visible": self.min_visible}


class SoftLabels(Mixing):
    """Mixing of images with one label each: `label` (B,) int becomes (B, classes) float32, when it is not training too.

    Args:
        classes: int.
        alpha: of the Beta(alpha, alpha) distribution of the first image's share; 1 is uniform.
        probability, seed: as for `Augmentation`.
    """

    def __init__(self, classes=None, alpha=1.0, probability=1.0, seed=None, **kwargs):
        super().__init__(probability=probability, seed=seed, **kwargs)
        if classes is not None and (not isinstance(classes, int) or classes < 2):
            raise ValueError(f"classes must be an int of at least 2, got {classes!r}")
        self.classes = classes
        self.alpha = between(alpha, 0.01, 100, "alpha")

    def share(self, batch, t, random):
        """(B,) shares of the first image, and (B,) partners."""
        count = t.shape(batch["image"])[0]
        share = beta(self.alpha, count, t, random)
        share = t.where(self.chosen(batch, t, random), share, t.ones_like(share))
        return share, t.argsort(random.uniform((count,)))

    def labels(self, batch, t, partner=None, share=None):
        """The labels, mixed."""
        if "label" not in batch:
            return {}
        if self.classes is None:
            raise ValueError(
                f"{type(self).__name__} of images with labels needs to know how many classes there are: classes=..."
            )
        one_hot = t.cast(t.one_hot(batch["label"], self.classes), "float32")
        if partner is not None:
            one_hot = share[:, None] * one_hot + (1 - share)[:, None] * t.take(one_hot, partner, axis=0)
        return {"label": one_hot}

    def rest(self, batch, t):
        return batch | self.labels(batch, t)

    def output_shape_of(self, key, shape):
        return (*shape, self.classes) if key == "label" else tuple(shape)

    def compute_output_spec(self, batch, training=True):
        result = super().compute_output_spec(batch, training)
        if isinstance(result, dict) and "label" in result:
            result["label"] = keras.KerasTensor(result["label"].shape, "float32")
        return result

    def get_config(self):
        return super().get_config() | {"classes": self.classes, "alpha": self.alpha}


@keras.saving.register_keras_serializable(PACKAGE)
class MixUp(SoftLabels):
    """A weighted sum of two images, and of their labels (Zhang, Cisse, Dauphin and Lopez-Paz 2018)."""

    TAKES = ("label",)

    def augment(self, batch, t, random):
        share, partner = self.share(batch, t, random)
        image = batch["image"]
        weight = spread(share, image)
        mixed = weight * image + (1 - weight) * t.take(image, partner, axis=0)
        return batch | {"image": mixed} | self.labels(batch, t, partner, share)


@keras.saving.register_keras_serializable(PACKAGE)
class CutMix(SoftLabels):
    """A rectangle of one image in another, labels mixed by area (Yun and others 2019); a semantic mask goes along."""

    TAKES = ("label", "mask")

    def augment(self, batch, t, random):
        share, partner = self.share(batch, t, random)
        image = batch["image"]
        count, height, width = t.shape(image)[:3]
        h, w = t.cast(height, "float32"), t.cast(width, "float32")
        side = t.sqrt(t.maximum(1 - share, 0.0))
        x, y = random.uniform((count,)) * w, random.uniform((count,)) * h
        window = [
            t.round(t.minimum(t.maximum(place, 0.0), most))
            for place, most in (
                (x - side * w / 2, w),
                (y - side * h / 2, h),
                (x + side * w / 2, w),
                (y + side * h / 2, h),
            )
        ]
        seen = inside(t, window, (height, width))
        left, top, right, bottom = window
        share = 1 - (right - left) * (bottom - top) / (h * w)  # as it came out after rounding and clipping
        result = batch | {"image": t.where(seen[..., None], t.take(image, partner, axis=0), image)}
        if "mask" in batch:
            result["mask"] = t.where(seen, t.take(batch["mask"], partner, axis=0), batch["mask"])
        return result | self.labels(batch, t, partner, share)


def beta(alpha, count, t, random):
    """(count,) numbers from Beta(alpha, alpha), by its quantile function on a fine grid: one uniform number each, on
    every backend.
    """
    import numpy as np
    from scipy import stats

    grid = np.clip(stats.beta.ppf(np.linspace(0, 1, 1025), alpha, alpha), 0, 1).astype("float32")
    place = random.uniform((count,)) * 1024
    low = t.cast(t.minimum(t.floor(place), 1023.0), "int32")
    grid = t.convert_to_tensor(grid)
    below, above = t.take(grid, low, axis=0), t.take(grid, low + 1, axis=0)
    return below + (above - below) * (place - t.cast(low, "float32"))
