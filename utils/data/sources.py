"""The shape that every data set takes for `load` and `arrays`, and what is common to those that fit into memory.

A source has

- `description`: a `Description`;
- `targets`: the keys of an example besides `image`;
- `labels(split)`: (N,) int32, in the order of the split;
- `images(split, indices)`: an iterable of (H, W, C) uint8, read as it is gone through;
- `records(split, start, stop)`: a `tf.data.Dataset` of dicts that are cheap to shuffle (not yet decoded);
- `decode(record)`: the finished dict of tensors, `image` first among them, made inside `tf.data`.

`labels` and `images` serve `arrays` and import no TensorFlow where they need not; `records` and `decode` serve `load`.
"""

import functools

import numpy as np


class InMemory:
    """A source whose splits are arrays.

    Args:
        description: a `Description`.
        splits: a function of no arguments that returns a dict from split to (images (N, H, W, C) uint8, labels (N,) int32).
    """

    targets = ("label",)

    def __init__(self, description, splits):
        self.description = description
        self._splits = functools.cache(splits)

    def labels(self, split):
        return self._splits()[split][1]

    def images(self, split, indices):
        return self._splits()[split][0][indices]

    def records(self, split, start, stop):
        import tensorflow as tf

        images, labels = self._splits()[split]
        return tf.data.Dataset.from_tensor_slices({"image": images[start:stop], "label": labels[start:stop]})

    def decode(self, record):
        return record


def by_class(labels, order):
    """For each class, its positions in `labels`, those first that come first in `order`.

    Args:
        labels: (N,) int.
        order: (N,) int, a permutation of the positions.

    Returns:
        list of int arrays.
    """
    return [order[labels[order] == label] for label in range(labels.max() + 1)]


def stratified(labels, counts, seed):
    """Splits positions so that every class gives each split its share.

    Args:
        labels: (N,) int.
        counts: dict from split to the number of positions that each class gives it; the split with None takes what is left.
        seed: int.

    Returns:
        dict from split to positions (n,) int, in random order, so that any part of it is a fair sample.
    """
    random = np.random.RandomState(seed)  # NumPy promises that this generator's permutations never change
    parts = {split: [] for split in counts}
    for positions in by_class(labels, random.permutation(len(labels))):
        for split, count in counts.items():
            count = len(positions) if count is None else count
            parts[split].append(positions[:count])
            positions = positions[count:]
    return {split: random.permutation(np.concatenate(part)) for split, part in parts.items()}
