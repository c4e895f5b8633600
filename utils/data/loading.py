"""`load` and `arrays`: any data set, by one call."""

import difflib
import functools
import re

import numpy as np

from utils.data import catalogue


def arrays(name, split, image_size=None, channels=None, per_class=None, seed=0, on_error="raise"):
    """Images and labels of a split as NumPy arrays, in the order of the split.

    Args:
        name: one of `names()`, a variant such as "glyphs/greek", or the path of a folder with one subfolder per class.
        split: "train", "validation", "test", or a part of one: "train[:100]", "test[50%:]".
        image_size: int or (height, width) to resize to (bilinear, antialiased, without regard to the aspect); None leaves images as they are.
        channels: 1 for grey, 3 for RGB, None leaves them as they are.
        per_class: int, that many images of each class, drawn by `seed`. With equal seeds, fewer images are a part of more images: those of
            `per_class=1` are among those of `per_class=2`, and so on.
        seed: int; only for `per_class`.
        on_error: for a folder with pictures that cannot be used: "raise" an error that lists them, or "skip" them with a warning.

    Returns:
        images (N, H, W, C) uint8 and labels (N,) int32.

    Raises:
        ValueError: unknown name or split, images of different sizes without `image_size`, a class with fewer than `per_class` images, a folder
            that cannot be read as classes of pictures.
        FileNotFoundError: a path where nothing is.
        DataUnavailable: the data has to be downloaded and cannot be, or is damaged.
    """
    source = catalogue.find(name, on_error)
    size = checked_size(image_size)
    checked_channels(channels)
    split, start, stop = part(split, source.description)
    labels = source.labels(split)[start:stop]
    indices = np.arange(len(labels))
    if per_class is not None:
        indices = draw_per_class(labels, per_class, seed, source.description)
    shape = shape_after(source.description.image_shape, size, channels)
    if None in shape:
        raise ValueError(mixed_sizes(source.description))
    images = np.empty((len(indices), *shape), np.uint8)
    for row, image in enumerate(source.images(split, start + indices)):
        images[row] = fit(image, size, channels)
    return images, labels[indices]


def load(
    name,
    split,
    image_size=None,
    batch_size=None,
    target=None,
    channels=None,
    shuffle=False,
    seed=0,
    repeat=False,
    drop_remainder=False,
    on_error="raise",
):
    """A split as a `tf.data.Dataset`, with the same images, in the same order, as `arrays`.

    Args:
        name, split, image_size, channels: as for `arrays`.
        batch_size: int, or None for single examples.
        target: None for dicts with the keys `image` (H, W, C) uint8 and `label` () int32; "label" for pairs (image, label), as `fit` takes them.
        shuffle: whether to draw the examples in random order, another one each time the dataset is gone through.
        seed: int, of the order. Together with TensorFlow's global seed, which `session.start` sets, it decides the order: with both equal,
            two runs give identical batches.
        repeat: whether to go on for ever.
        drop_remainder: whether to leave out the last batch if it is not full, so that every batch has the same shape. A dataset that repeats
            has no last batch: its batches are all full.
        on_error: as for `arrays`.

    Returns:
        `tf.data.Dataset`; heights, widths and channels are static wherever they are known.

    Raises:
        ValueError: as for `arrays`; a `target` that the data does not have; a `batch_size` larger than the split with `drop_remainder`.
        FileNotFoundError, DataUnavailable: as for `arrays`.
    """
    source = catalogue.find(name, on_error)
    size = checked_size(image_size)
    checked_channels(channels)
    split, start, stop = part(split, source.description)
    shape = shape_after(source.description.image_shape, size, channels)
    if batch_size is not None and None in shape:
        raise ValueError(mixed_sizes(source.description))
    count = stop - start
    if batch_size is not None and drop_remainder and not repeat and batch_size > count:
        raise ValueError(f"a batch of {batch_size} is more than the {count} images of {name}, {split}")
    if target is not None and target not in source.targets:
        raise ValueError(f"no target {target!r} in {name}: known: {', '.join(source.targets)}")

    import tensorflow as tf

    dataset = source.records(split, start, stop)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    if shuffle:
        dataset = dataset.shuffle(count, seed=seed, reshuffle_each_iteration=True)
    if repeat:
        dataset = dataset.repeat()

    def finish(record):
        example = source.decode(record)
        example["image"] = fit_tensor(example["image"], size, channels, shape)
        return example if target is None else (example["image"], example[target])

    dataset = dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if batch_size is not None:
        dataset = dataset.batch(batch_size, drop_remainder=repeat or drop_remainder or count % batch_size == 0)
    options = tf.data.Options()
    options.deterministic = True
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)


def part(split, description):
    """Reads a split or a part of one, as TensorFlow Datasets writes it: "train", "train[:100]", "train[10%:50%]", "test[-20:]".

    Returns:
        (split, start, stop), start < stop.

    Raises:
        ValueError: no such split, or a part without an image.
    """
    match = re.fullmatch(r"(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", str(split))
    if match is None or match[1] not in description.splits:
        near = difflib.get_close_matches(str(split).partition("[")[0].lower(), description.splits, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(description.splits)
        raise ValueError(
            f"unknown split {split!r} of {description.name}: {hint}known: {known}, and parts such as 'train[:10%]'"
        )
    count = description.splits[match[1]]

    def position(text, default):
        if text is None:
            return default
        value = round(int(text[:-1]) * count / 100) if text.endswith("%") else int(text)
        return min(max(value + count if text.startswith("-") else value, 0), count)

    start, stop = position(match[2], 0), position(match[3], count)
    if stop <= start:
        raise ValueError(f"{split!r} of {description.name} is empty: {match[1]} has {count} images")
    return match[1], start, stop


def draw_per_class(labels, per_class, seed, description):
    """Positions in `labels` of `per_class` examples of each class, class after class in turn: 0, 1, ..., 0, 1, ..."""
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    order = np.random.RandomState(seed).permutation(len(labels))
    chosen = []
    for label, name in enumerate(description.classes):
        positions = order[labels[order] == label]
        if len(positions) < per_class:
            raise ValueError(f"class {name!r} of {description.name} has {len(positions)} images here, not {per_class}")
        chosen.append(positions[:per_class])
    return np.stack(chosen, axis=1).reshape(-1)


def fit(image, size, channels):
    """Resizes one image and gives it the channels asked for.

    Args:
        image: (H, W, 1 or 3) uint8.
        size: (height, width) or None.
        channels: 1, 3 or None.

    Returns:
        (height, width, channels) uint8. Grey is ITU-R 601 luma; resizing is bilinear, with a wider kernel when it makes the image smaller.
    """
    from PIL import Image

    if (size is None or image.shape[:2] == size) and channels in (None, image.shape[2]):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if channels is not None:
        picture = picture.convert("L" if channels == 1 else "RGB")
    if size is not None:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    result = np.asarray(picture)
    return result[..., None] if result.ndim == 2 else result


def fit_tensor(image, size, channels, shape):
    """`fit` inside `tf.data`: the same code, so that `load` and `arrays` give the same pixels."""
    import tensorflow as tf

    if (size is not None and tuple(image.shape[:2]) != size) or channels not in (None, image.shape[2]):
        image = tf.numpy_function(
            functools.partial(fit, size=size, channels=channels), [image], tf.uint8, stateful=False
        )
    return tf.ensure_shape(image, shape)


def shape_after(shape, size, channels):
    """The shape that `fit` gives an image of `shape` (None for unknown sides)."""
    return (*(shape[:2] if size is None else size), channels or shape[2])


def checked_size(image_size):
    """`image_size` as (height, width) or None; ValueError if it is neither an int, nor a pair, nor None."""
    if image_size is None:
        return None
    size = tuple(image_size) if np.ndim(image_size) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size):
        raise ValueError(f"image_size must be a number of pixels or (height, width), got {image_size!r}")
    return tuple(int(side) for side in size)


def checked_channels(channels):
    """ValueError if `channels` is not 1, 3 or None."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (RGB) or None (as they are), got {channels!r}")


def mixed_sizes(description):
    """The message for images that do not stack."""
    return f"the images of {description.name} differ in size: give image_size, say image_size=128, to put them into one array"
