"""`load` and `arrays`: any data set, by one call.

Resizing moves everything that lies in the image with it. The same NumPy code does it for both, so that both give the
same pixels.
"""

import difflib
import functools
import itertools
import re

import numpy as np

from utils.data import catalogue, sources
from utils.data.geometry import checked_resize, checked_size, place
from utils.labels import IGNORED

OBJECTS = ("boxes", "labels", "ignored", "masks", "keypoints")  # one entry for each object, padded together
IN_SPACE = ("mask", "boxes", "masks", "keypoints")  # what has a place in the image


def arrays(
    name,
    split,
    image_size=None,
    channels=None,
    per_class=None,
    seed=0,
    on_error="raise",
    target="label",
    resize=None,
    max_objects=None,
):
    """Images and truth of a split as NumPy arrays, in the order of the split.

    Args:
        name: one of `names()`, a variant such as "glyphs/greek", or the path of a folder with one subfolder per class.
        split: "train", "validation", "test", or a part of one: "train[:100]", "test[50%:]".
        image_size: int or (height, width) to resize to (bilinear, antialiased); None leaves images as they are.
        channels: 1 for grey, 3 for RGB, None leaves them as they are.
        per_class: int, at most that many images of each class, drawn by `seed`; a class that has fewer gives all of
            them. With equal seeds,
            fewer images are a part of more images: those of `per_class=1` are among those of `per_class=2`, and so on.
        seed: int; only for `per_class`.
        on_error: for a folder with pictures that cannot be used: "raise" an error that lists them, or "skip" them with
            a warning.
        target: "label"; "mask"; "boxes" for all that belongs to the objects; another key that the data has; or None for
            everything.
        resize: "stretch" gives an image its new size without regard to the aspect; "letterbox" keeps the aspect and
            fills what is left, in the image with grey (114), in `mask` with 255 (ignored). None: "letterbox" if the
            data has masks or boxes, else "stretch". Boxes, masks and keypoints move with the image; masks take the
            value of the nearest pixel and are never interpolated.
        max_objects: int, to which boxes, labels, masks and keypoints are padded; None for the data's own `max_objects`.

    Returns:
        images (N, H, W, C) uint8, and

        - for "label": labels (N,) int32;
        - for "mask": semantic masks (N, H, W) uint8, 0 background, class c is c + 1, 255 ignored;
        - for "boxes": a dict of `boxes` (N, M, 4) float32 `xyxy` pixels and `labels` (N, M) int32, and where the data
          has them `ignored` (N, M) bool (crowds and difficult objects), `masks` (N, M, H, W) uint8 and `keypoints`
          (N, M, K, 3) float32; M is `max_objects`, padding has label -1 and zeros elsewhere (False in `ignored`);
        - for another key: its array; captions are str.

        For None, one dict of `image` and all of these by their keys, as `training.fit` and a detector take it.

    Raises:
        ValueError: unknown name, split or target, images of different sizes without `image_size`, an image with more
            than `max_objects` objects, a folder that cannot be read.
        FileNotFoundError: a path where nothing is.
        DataUnavailable: the data has to be downloaded and cannot be, or is damaged.
    """
    source = catalogue.find(name, on_error)
    description = source.description
    size = checked_size(image_size)
    checked_channels(channels)
    if target is not None:
        checked_target(target, source)
    resize = resize_for(resize, source)
    split, start, stop = part(split, description)
    shape = shape_after(description.image_shape, size, channels)
    if per_class is not None and "label" not in source.targets:
        raise ValueError(f"per_class needs one label an image, and {description.name} has none")
    if None in shape:
        raise ValueError(mixed_sizes(description))
    indices = np.arange(stop - start)
    labels = source.labels(split)[start:stop] if "label" in source.targets else None
    if per_class is not None:
        indices = draw_per_class(labels, per_class, seed, description)
    images = np.empty((len(indices), *shape), np.uint8)
    if target == "label":
        for row, image in enumerate(source.images(split, start + indices)):
            images[row] = fit(image, size, channels, resize)
        return images, labels[indices]

    keys = keys_of(target, source)
    objects = objects_for(max_objects, keys, description)
    truth = {key: [] for key in keys}
    for row, example in enumerate(examples(source, split, start + indices, ("image", *keys))):
        example = fit_example(example, size, channels, resize)
        images[row] = example["image"]
        for key in keys:
            value = example[key]
            truth[key].append(pad(value, key, objects, description) if key in OBJECTS else value)
    truth = {key: np.stack(values) for key, values in truth.items()}
    if target is None:
        return {"image": images, **truth}
    return images, truth if target == "boxes" else truth[target]


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
    resize=None,
    max_objects=None,
):
    """A split as a `tf.data.Dataset`, with the same images, in the same order, as `arrays`.

    Args:
        name, split, image_size, channels, resize, max_objects: as for `arrays`.
        batch_size: int, or None for single examples.
        target: None for dicts with the key `image` (H, W, C) uint8 and, as the data has them
            (`describe(name).targets`), `label` () int32, `mask` (H, W) uint8, `boxes` (M, 4) float32, `labels` (M,)
            int32, `ignored` (M,) bool, `masks` (M, H, W) uint8, `keypoints` (M, K, 3) float32, `caption` () string. The
            name of one key for pairs (image, target), as `fit` takes them; the target is what `arrays` gives for it:
            for "boxes" a dict of all that belongs to the objects.
        shuffle: whether to draw the examples in random order, another one each time the dataset is gone through.
        seed: int, of the order. Together with TensorFlow's global seed, which `session.start` sets, it decides the
            order: with both equal, two runs give identical batches.
        repeat: whether to go on for ever.
        drop_remainder: whether to leave out the last batch if it is not full, so that every batch has the same shape. A
            dataset that repeats has no last batch: its batches are all full.
        on_error: as for `arrays`.

    Returns:
        `tf.data.Dataset`; heights, widths, channels and numbers of objects are static wherever they are known.

    Raises:
        ValueError: as for `arrays`; a `batch_size` larger than the split with `drop_remainder`.
        FileNotFoundError, DataUnavailable: as for `arrays`.
        tf.errors.InvalidArgumentError: while going through it, at an image with more than `max_objects` objects.
    """
    source = catalogue.find(name, on_error)
    description = source.description
    size = checked_size(image_size)
    checked_channels(channels)
    split, start, stop = part(split, description)
    shape = shape_after(description.image_shape, size, channels)
    if batch_size is not None and None in shape:
        raise ValueError(mixed_sizes(description))
    count = stop - start
    if batch_size is not None and drop_remainder and not repeat and batch_size > count:
        raise ValueError(f"a batch of {batch_size} is more than the {count} images of {name}, {split}")
    if target is not None:
        checked_target(target, source)
    resize = resize_for(resize, source)
    keys = ("image", *keys_of(target, source))
    objects = objects_for(max_objects, keys, description)

    import tensorflow as tf

    dataset = source.records(split, start, stop)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    if shuffle:
        dataset = dataset.shuffle(count, seed=seed, reshuffle_each_iteration=True)
    if repeat:
        dataset = dataset.repeat()

    def finish(record):
        example = source.decode(record)
        example = fit_tensors({key: example[key] for key in keys}, size, channels, resize, shape)
        for key in OBJECTS:
            if key in example:
                example[key] = pad_tensor(example[key], key, objects, description)
        if target is None:
            return example
        image = example.pop("image")
        return image, example if target == "boxes" else example[target]

    dataset = dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if batch_size is not None:
        dataset = dataset.batch(batch_size, drop_remainder=repeat or drop_remainder or count % batch_size == 0)
    options = tf.data.Options()
    options.deterministic = True
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)


def part(split, description):
    """Reads a split or a part of one, as TensorFlow Datasets writes it: "train", "train[:100]", "train[10%:50%]",
    "test[-20:]".

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
    """Positions in `labels` of at most `per_class` examples of each class, class after class in turn: 0, 1, ..., 0, 1,
    ...
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    order = np.random.RandomState(seed).permutation(len(labels))
    of_class = [order[labels[order] == label][:per_class] for label in range(len(description.classes))]
    turns = itertools.zip_longest(*of_class)  # a class that has fewer leaves out the later turns
    return np.array([position for turn in turns for position in turn if position is not None], order.dtype)


def fit(image, size, channels, resize="stretch"):
    """Resizes one image and gives it the channels asked for.

    Args:
        image: (H, W, 1 or 3) uint8.
        size: (height, width) or None.
        channels: 1, 3 or None.
        resize: "stretch" or "letterbox".

    Returns:
        (height, width, channels) uint8. Grey is ITU-R 601 luma; resizing is bilinear, with a wider kernel when it makes
        the image smaller.
    """
    if channels not in (None, image.shape[2]):
        from PIL import Image

        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        picture = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
        image = picture[..., None] if picture.ndim == 2 else picture
    if size is None or image.shape[:2] == size:
        return image
    return place(image.shape[:2], size, resize).image(image)


def fit_example(example, size, channels, resize):
    """`fit` for an example: its image, and with it all that has a place in the image; what else it holds stays.

    Args:
        example: dict of NumPy arrays without padding; `utils.data.sources` tells their shapes.
        size, channels, resize: as for `fit`.

    Returns:
        dict with the same keys.
    """
    result = dict(example, image=fit(example["image"], size, channels, resize))
    old = example["image"].shape[:2]
    if size is None or size == old:
        return result
    placement = place(old, size, resize)
    moves = {
        "mask": functools.partial(placement.mask, border=IGNORED),
        "masks": placement.mask,
        "boxes": placement.boxes,
        "keypoints": placement.keypoints,
    }
    return {key: moves[key](value) if key in moves else value for key, value in result.items()}


def fit_tensors(example, size, channels, resize, shape):
    """`fit_example` inside `tf.data`: the same code, so that `load` and `arrays` give the same values.

    Args:
        example: dict of tensors.
        size, channels, resize: as for `fit`.
        shape: the static shape of the image that comes out.

    Returns:
        dict of tensors with static shapes; numbers of objects are still open.
    """
    import tensorflow as tf

    image = example["image"]
    resized = size is not None and tuple(image.shape[:2]) != size
    moved = [key for key in IN_SPACE if key in example] if resized else []
    if resized or channels not in (None, image.shape[2]):
        keys = ("image", *moved)

        def move(*values):
            fitted = fit_example(dict(zip(keys, values, strict=True)), size, channels, resize)
            return [np.ascontiguousarray(fitted[key]) for key in keys]

        types = [example[key].dtype for key in keys]
        shapes = {key: example[key].shape for key in keys}
        values = tf.numpy_function(move, [example[key] for key in keys], types, stateful=False)
        example = example | dict(zip(keys, values, strict=True))
        for key in moved:
            whole = (*shapes[key][:-2], *size) if key in ("mask", "masks") else shapes[key]
            example[key] = tf.ensure_shape(example[key], whole)
    return example | {"image": tf.ensure_shape(example["image"], shape)}


def pad(value, key, objects, description):
    """One of `OBJECTS`, (N, ...), padded to (objects, ...): labels with -1, the others with zeros; ValueError if N is
    more than `objects`.
    """
    if len(value) > objects:
        raise ValueError(f"{too_many(objects, description)}: one has {len(value)}")
    result = np.full((objects, *value.shape[1:]), -1 if key == "labels" else 0, value.dtype)
    result[: len(value)] = value
    return result


def pad_tensor(value, key, objects, description):
    """`pad` inside `tf.data`."""
    import tensorflow as tf

    count = tf.shape(value)[0]
    message = f"{too_many(objects, description)}: one has"
    with tf.control_dependencies([tf.debugging.Assert(count <= objects, [message, count])]):
        padding = [[0, objects - count]] + [[0, 0]] * (value.shape.rank - 1)
        padded = tf.pad(value, padding, constant_values=-1 if key == "labels" else 0)
    return tf.ensure_shape(padded, (objects, *value.shape[1:]))


def examples(source, split, indices, keys):
    """The examples of a source as dicts in NumPy, without padding; captions are str."""
    if hasattr(source, "examples"):
        for example in source.examples(split, indices):
            yield {key: example[key] for key in keys}
        return

    import tensorflow as tf

    start, stop = int(indices.min()), int(indices.max()) + 1
    dataset = source.records(split, start, stop).map(
        lambda record: {key: value for key, value in source.decode(record).items() if key in keys},
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    decoded = (
        {key: value.decode() if sources.SPECIFICATION[key][0] == "string" else value for key, value in example.items()}
        for example in dataset.as_numpy_iterator()
    )
    if len(indices) == stop - start and (np.diff(indices) == 1).all():
        yield from decoded
        return
    wanted = set(indices.tolist())
    found = {index: example for index, example in enumerate(decoded, start) if index in wanted}
    yield from (found[index] for index in indices.tolist())


def keys_of(target, source):
    """The keys of an example besides `image` that a target stands for."""
    if target is None:
        return tuple(source.targets)
    return tuple(key for key in OBJECTS if key in source.targets) if target == "boxes" else (target,)


def shape_after(shape, size, channels):
    """The shape that `fit` gives an image of `shape` (None for unknown sides)."""
    return (*(shape[:2] if size is None else size), channels or shape[2])


def checked_target(target, source):
    """ValueError if the source has no such target."""
    if target not in source.targets:
        raise ValueError(f"no target {target!r} in {source.description.name}: known: {', '.join(source.targets)}")


def resize_for(resize, source):
    """How to resize the images of a source: as asked for, else by what lies in them."""
    if resize is None:
        return "letterbox" if set(source.targets) & set(IN_SPACE) else "stretch"
    return checked_resize(resize)


def objects_for(max_objects, keys, description):
    """Number of objects to pad to; None where there is nothing to pad."""
    if not set(keys) & set(OBJECTS):
        return None
    objects = description.max_objects if max_objects is None else max_objects
    if not isinstance(objects, (int, np.integer)) or objects < (max_objects is not None):
        raise ValueError(f"max_objects must be an int of at least 1, got {max_objects!r}")
    if objects < 1:
        raise ValueError(f"nobody knows how many objects an image of {description.name} has: give max_objects, say 50")
    return int(objects)


def too_many(objects, description):
    """The beginning of the message for an image with more objects than there is room for."""
    return f"an image of {description.name} has more than max_objects={objects} objects, and none is left out silently"


def checked_channels(channels):
    """ValueError if `channels` is not 1, 3 or None."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (RGB) or None (as they are), got {channels!r}")


def mixed_sizes(description):
    """The message for images that do not stack."""
    return (
        f"the images of {description.name} differ in size: give image_size, say image_size=128, to put them into one "
        "array"
    )
