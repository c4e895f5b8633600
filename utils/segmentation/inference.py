"""Prediction: in batches, averaged over flips, by windows over images that do not fit into memory, and with U-Net's
overlapping tiles.
"""

import keras
import numpy as np

from utils import models
from utils.training import filled_batches


def predict(model, images, batch_size=16, flips=()):
    """Label maps of images.

    Args:
        model: keras.Model from images (B, H, W, C) to logits (B, H, W, classes).
        images: (N, H, W, C) of at least one; or one image (H, W, C).
        batch_size: images at a time; the last batch is filled up, so that all have one shape.
        flips: as in `probabilities`.

    Returns:
        (N, H, W) uint8, or (H, W) for one image; int32 from 256 classes on.

    Raises:
        ValueError: there are no images; the model is not built, or has several inputs or outputs.
    """
    models.check_single(model)
    single = np.ndim(images) == 3
    images = np.asarray(images)[None] if single else images
    if len(images) == 0:
        raise ValueError("there are no images")
    found = []
    for (batch,), kept in filled_batches([images], min(batch_size, len(images))):
        values = probabilities(model, batch, flips)[:kept]
        found.append(values.argmax(axis=-1).astype(_label_type(values.shape[-1])))
    found = np.concatenate(found)
    return found[0] if single else found


def _label_type(classes):
    return np.uint8 if classes <= 256 else np.int32


def probabilities(model, images, flips=()):
    """Class probabilities of one batch, averaged over flipped views of it (test-time augmentation).

    Args:
        model: as in `predict`.
        images: (B, H, W, C).
        flips: further views beside the image itself: any of "horizontal", "vertical", "both". With all three, the
            answer moves with the image under every flip. (Where H or W is not a multiple of the model's stride, the
            padding lies on other sides in a flipped view.)

    Returns:
        (B, H, W, classes) float32 that add up to 1.

    Raises:
        ValueError: an unknown flip; the model is not built, or has several inputs or outputs.
    """
    models.check_single(model)
    axes = {"horizontal": (2,), "vertical": (1,), "both": (1, 2)}
    total = _softmax(model, np.asarray(images))
    for flip in flips:
        if flip not in axes:
            raise ValueError(f"a flip is one of {', '.join(axes)}, not {flip!r}")
        total = total + np.flip(_softmax(model, np.flip(images, axes[flip])), axes[flip])
    return total / (1 + len(flips))


def _softmax(model, images):
    logits = keras.ops.convert_to_numpy(model.predict_on_batch(np.ascontiguousarray(images))).astype("float32")
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sliding_window(
    model, image, window=256, overlap=0.5, blend="hann", stride=32, batch_size=8, flips=(), out=None, scores=False
):
    """Predict an image of any size by overlapping windows.

    One band of windows is in memory at a time: `image` may be a `np.memmap`, or anything that gives arrays when sliced
    by rows and columns, and `out` may be a memmap too.

    A window's answer is worst at its edge, where the net sees padding in the place of the image. "hann" and "linear"
    give more weight to a window's middle. "crop" takes from each window only what is at least half the overlap away
    from its inner edges; if the net sees no farther than that to any side, the result *equals* that of the whole image.
    No window makes up for a net that looks at the whole image, as ASPP's image pooling does.

    Args:
        model: as in `predict`; gives logits as large as its input.
        image: (H, W, C).
        window: int or (height, width), pixels; rounded up to multiples of `stride`. An image smaller than it is
            predicted whole.
        overlap: share of a window that the next one covers, 0 to below 1; or pixels, an int of at least 1. It grows to
            where windows begin at multiples of `stride`.
        blend: "hann", "linear" (the tent), "uniform" (the mean), or "crop".
        stride: the model's, so that a window halves as the whole image does.
        batch_size: windows at a time.
        flips: as in `probabilities`.
        out: (H, W) array for the labels, or (H, W, classes) with `scores`; None: a new one.
        scores: whether to give probabilities in the place of labels.

    Returns:
        `out`: labels (H, W), uint8, or probabilities (H, W, classes), float32.

    Raises:
        ValueError: an unknown blend, an overlap that is none, or an `out` of another shape; a model as in `predict`.
    """
    if blend not in ("hann", "linear", "uniform", "crop"):
        raise ValueError(f"blend is 'hann', 'linear', 'uniform' or 'crop', not {blend!r}")
    height, width = image.shape[:2]
    windows = (window, window) if isinstance(window, int) else window
    (tall, rows), (wide, columns) = (_windows(n, size, overlap, stride) for n, size in zip((height, width), windows))
    weigh_rows, weigh_columns = (
        [_weights(start, size, starts, blend) for start in starts] for starts, size in ((rows, tall), (columns, wide))
    )
    band = weights = None
    for index, top in enumerate(rows):
        for first in range(0, len(columns), batch_size):
            lefts = columns[first : first + batch_size]
            views = np.stack([_view(image, top, left, tall, wide) for left in lefts])
            filling = np.repeat(views[-1:], min(batch_size, len(columns)) - len(lefts), axis=0)
            found = probabilities(model, np.concatenate([views, filling]), flips)
            if band is None:
                out = _out(out, (height, width), found.shape[-1], scores)
                band = np.zeros((tall, columns[-1] + wide, found.shape[-1]), "float32")
                weights = np.zeros((*band.shape[:2], 1), "float32")
            for left, weigh, values in zip(lefts, weigh_columns[first:], found):
                weight = (weigh_rows[index][:, None] * weigh)[..., None]
                band[:, left : left + wide] += weight * values
                weights[:, left : left + wide] += weight
        # The rows that the next band of windows does not touch are finished.
        end = rows[index + 1] if index + 1 < len(rows) else height
        finished = band[: end - top, :width] / weights[: end - top, :width]
        out[top:end] = finished if scores else finished.argmax(axis=-1)
        band, weights = (np.concatenate([a[end - top :], np.zeros_like(a[: end - top])]) for a in (band, weights))
    return out


def _windows(n, size, overlap, stride):
    """Size of the windows, and their first pixels: all multiples of the stride. The last window may reach beyond the
    image by less than that.
    """
    if not overlap >= 0 or (isinstance(overlap, float) and overlap >= 1):
        raise ValueError(f"overlap is a share from 0 to below 1, or a number of pixels, not {overlap!r}")
    whole = -(-n // stride) * stride
    size = min(-(-size // stride) * stride, whole)
    shared = overlap if overlap >= 1 else overlap * size
    step = max(stride, int(size - shared) // stride * stride)
    return size, [*range(0, whole - size, step), whole - size]


def _view(image, top, left, tall, wide):
    """A window; beyond the image, the last row and column go on."""
    view = np.asarray(image[top : top + tall, left : left + wide])
    surplus = tall - view.shape[0], wide - view.shape[1]
    return np.pad(view, [(0, surplus[0]), (0, surplus[1]), (0, 0)], mode="edge") if any(surplus) else view


def _weights(start, size, starts, blend):
    """(size,) float32: how much a window's pixels count. At the image's own edges they keep their full weight."""
    if blend == "uniform" or len(starts) == 1:
        return np.ones(size, "float32")
    shared = size - (starts[1] - starts[0])
    places = np.arange(size) + 0.5
    near = np.minimum(
        np.inf if start == starts[0] else places,
        np.inf if start == starts[-1] else size - places,
    )
    if blend == "crop":
        return (near >= shared / 2).astype("float32")
    rise = np.clip(near / max(shared, 1), 0, 1)
    return (rise if blend == "linear" else np.sin(np.pi / 2 * rise) ** 2).astype("float32")


def _out(out, size, classes, scores):
    shape = (*size, classes) if scores else size
    if out is None:
        return np.empty(shape, "float32" if scores else _label_type(classes))
    if out.shape != shape:
        raise ValueError(f"out must have the shape {shape}, not {out.shape}")
    return out


def overlap_tile(model, image, tile=188, batch_size=8, scores=False):
    """Predict an image with a model whose logits are smaller than its input: U-Net's overlap-tile strategy (Ronneberger
    et al. 2015, figure 2).

    The image is continued beyond its edges by mirroring, and each tile is computed from all that the net sees of it, so
    that tiles fit together without a seam.

    Args:
        model: as in `predict`, such as `unet(padding="valid")`.
        image: (H, W, C).
        tile: pixels of the model's square input: one that fits it, see `unet.valid_size`. If the logits' side is a
            multiple of the model's stride, the result equals that of the whole mirrored image.
        batch_size: tiles at a time.
        scores: whether to give probabilities in the place of labels.

    Returns:
        labels (H, W), uint8, or probabilities (H, W, classes), float32.

    Raises:
        ValueError: the model is not built, or has several inputs or outputs; its logits are not smaller than the tile
            on all sides alike.
    """
    models.check_single(model)
    inner = model.compute_output_shape((1, tile, tile, image.shape[-1]))[1]
    if inner is None or not 0 < inner < tile or (tile - inner) % 2:
        raise ValueError(
            f"the model gives logits of {inner} for a tile of {tile}: nothing to mirror; see sliding_window"
        )
    margin = (tile - inner) // 2
    height, width = image.shape[:2]
    surplus = [-n % inner for n in (height, width)]
    around = [(margin, margin + extra) for extra in surplus] + [(0, 0)]
    mirrored = np.pad(image, around, mode="symmetric")
    places = [(top, left) for top in range(0, height, inner) for left in range(0, width, inner)]
    result = None
    for first in range(0, len(places), batch_size):
        part = places[first : first + batch_size]
        views = np.stack([mirrored[top : top + tile, left : left + tile] for top, left in part])
        filling = np.repeat(views[-1:], min(batch_size, len(places)) - len(part), axis=0)
        found = probabilities(model, np.concatenate([views, filling]))
        if result is None:
            result = np.empty((height + surplus[0], width + surplus[1], found.shape[-1]), "float32")
        for (top, left), values in zip(part, found):
            result[top : top + inner, left : left + inner] = values
    result = result[:height, :width]
    return result if scores else result.argmax(axis=-1).astype(_label_type(result.shape[-1]))
