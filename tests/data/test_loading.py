"""`load` and `arrays`: one set of pictures by two ways, in an order that a seed decides."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from utils import data
from utils.data import loading

SMALL = ("digits", "faces", "textures")


def collect(dataset):
    """All examples of a batched or unbatched dataset of pairs."""
    images, labels = zip(*dataset.as_numpy_iterator())
    together = np.concatenate if np.ndim(labels[0]) else np.stack
    return together(images), together(labels)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("options", [{}, {"image_size": (20, 30)}, {"channels": 3}, {"image_size": 40, "channels": 3}])
def test_load_and_arrays_agree_to_the_bit(name, options):
    images, labels = data.arrays(name, "test", **options)
    loaded, loaded_labels = collect(data.load(name, "test", batch_size=16, target="label", **options))
    np.testing.assert_array_equal(loaded, images)
    np.testing.assert_array_equal(loaded_labels, labels)
    assert loaded.dtype == images.dtype == np.uint8 and loaded_labels.dtype == labels.dtype == np.int32


def test_examples_are_dicts_unless_a_target_is_named():
    example = next(iter(data.load("digits", "train")))
    assert set(example) == {"image", "label"} and example["image"].shape == (8, 8, 1) and example["label"].shape == ()
    image, label = next(iter(data.load("digits", "train", target="label")))
    assert (image.numpy() == example["image"].numpy()).all() and label == example["label"]


def test_shapes_are_static_where_they_can_be():
    def spec(*arguments, **options):
        return data.load("digits", *arguments, **options).element_spec["image"].shape.as_list()

    assert spec("train") == [8, 8, 1]
    assert spec("train", image_size=(5, 6), channels=3) == [5, 6, 3]
    assert spec("train", batch_size=100) == [100, 8, 8, 1]  # divides the split
    assert spec("train", batch_size=64) == [None, 8, 8, 1]
    assert spec("train", batch_size=64, drop_remainder=True) == [64, 8, 8, 1]
    assert spec("train", batch_size=64, repeat=True) == [64, 8, 8, 1]


def test_counts():
    assert data.load("digits", "test").cardinality() == 497
    assert data.load("digits", "test", batch_size=100).cardinality() == 5
    assert data.load("digits", "test", batch_size=100, drop_remainder=True).cardinality() == 4
    assert data.load("digits", "test", repeat=True).cardinality() == tf.data.INFINITE_CARDINALITY


def test_one_seed_gives_identical_batches_and_another_does_not():
    def order(**options):
        return np.concatenate(
            [b["image"] for b in data.load("digits", "validation", batch_size=32, shuffle=True, **options)]
        )

    np.testing.assert_array_equal(order(seed=1), order(seed=1))
    assert (order(seed=1) != order(seed=2)).any()


def test_shuffling_draws_every_example_once_and_anew_each_time():
    dataset = data.load("digits", "validation", target="label", batch_size=50, shuffle=True)
    first, second = collect(dataset)[0], collect(dataset)[0]
    assert (first != second).any()
    images = data.arrays("digits", "validation")[0]
    expected = sorted(image.tobytes() for image in images)
    assert sorted(image.tobytes() for image in first) == expected == sorted(image.tobytes() for image in second)


def test_repeating_goes_round_without_a_short_batch():
    batches = list(data.load("faces", "test", batch_size=16, repeat=True, target="label").take(5).as_numpy_iterator())
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels, np.tile(data.arrays("faces", "test")[1], 2))


PARTS = ("[:10]", "[10:]", "[-7:]", "[:-7]", "[3:9]", "[:10%]", "[37%:]", "[33%:66%]", "[-10%:]", "[0:100%]")


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_those_of_tensorflow_datasets(part):
    description = data.describe("digits")
    for split, count in description.splits.items():
        infos = {split: tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=0)}
        (expected,) = tfds.core.ReadInstruction.from_spec(split + part).to_absolute(infos)
        stop = count if expected.to is None else expected.to
        assert loading.part(split + part, description) == (split, expected.from_ or 0, stop)


def test_part_of_a_split_by_both_ways():
    images, labels = data.arrays("digits", "test[5%:30]")
    loaded, loaded_labels = collect(data.load("digits", "test[5%:30]", target="label"))
    np.testing.assert_array_equal(images, data.arrays("digits", "test")[0][25:30])
    np.testing.assert_array_equal(loaded, images)
    np.testing.assert_array_equal(loaded_labels, labels)


def test_draws_of_few_examples_are_nested():
    drawn = {count: data.arrays("digits", "train", per_class=count, seed=3) for count in (1, 2, 5, 100)}
    for count, (images, labels) in drawn.items():
        assert (np.bincount(labels) == count).all() and len(images) == 10 * count
    for few, more in ((1, 2), (2, 5), (5, 100)):
        np.testing.assert_array_equal(drawn[few][0], drawn[more][0][: 10 * few])
    again = data.arrays("digits", "train", per_class=2, seed=3)
    np.testing.assert_array_equal(again[0], drawn[2][0])
    assert (data.arrays("digits", "train", per_class=2, seed=4)[0] != drawn[2][0]).any()


def test_drawn_examples_keep_their_labels():
    images, labels = data.arrays("digits", "train")
    truth = {image.tobytes(): label for image, label in zip(images, labels)}
    for image, label in zip(*data.arrays("digits", "train", per_class=7)):
        assert truth[image.tobytes()] == label


def test_arrays_belong_to_the_caller():
    images, labels = data.arrays("digits", "test")
    images[:], labels[:] = 7, 7
    assert data.arrays("digits", "test")[0].max() == 255 and data.arrays("digits", "test")[1].min() == 0


def test_resizing_by_hand():
    image = np.zeros((4, 6, 1), np.uint8)
    image[:2] = 200
    small = loading.fit(image, (2, 3), None)
    assert small.shape == (2, 3, 1)
    # Halving weighs four rows with 1, 3, 3, 1 (the triangle of twice the width); at the edge, without the row outside,
    # with 3, 3, 1.
    assert small[:, 0, 0].tolist() == [round(200 * 6 / 7), round(200 * 1 / 7)]
    large = loading.fit(image, (8, 6), None)
    assert large[:, 0, 0].tolist() == [200, 200, 200, 150, 50, 0, 0, 0]
    assert (loading.fit(np.full((5, 7, 3), 93, np.uint8), (3, 11), None) == 93).all()


def test_grey_is_luma():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [50, 50, 50]]], np.uint8)
    assert loading.fit(colours, None, 1)[0, :, 0].tolist() == [76, 150, 29, 50]
    assert (loading.fit(colours[..., :1], None, 3) == colours[..., :1]).all()


@pytest.mark.parametrize(
    "arguments, options, words",
    [
        (("digit", "train"), {}, "unknown data set 'digit': did you mean digits? known: bccd, cats_vs_dogs"),
        (("xyz", "train"), {}, "unknown data set 'xyz': known: bccd"),
        (("glyphs/klingon", "train"), {}, "unknown variant glyphs/klingon: known: glyphs/latin"),
        (("digits/3", "train"), {}, "digits has no variants"),
        (("digits", "tset"), {}, "unknown split 'tset' of digits: did you mean test? known: train, validation, test"),
        (("digits", "train[1:2:3]"), {}, "unknown split"),
        (("digits", "train[9:3]"), {}, "'train[9:3]' of digits is empty: train has 1000 images"),
        (("digits", "train[1000:]"), {}, "is empty"),
        (("digits", "train"), {"image_size": (3,)}, "image_size must be"),
        (("digits", "train"), {"image_size": 0}, "image_size must be"),
        (("digits", "train"), {"image_size": 2.5}, "image_size must be"),
        (("digits", "train"), {"channels": 4}, "channels must be"),
    ],
)
def test_bad_calls(arguments, options, words):
    for function in (data.arrays, data.load):
        with pytest.raises(ValueError) as error:
            function(*arguments, **options)
        assert words in str(error.value) and "\n" not in str(error.value)


def test_bad_calls_of_one():
    assert np.bincount(data.arrays("digits", "train", per_class=101)[1]).tolist() == [100] * 10, "at most"
    with pytest.raises(ValueError, match="per_class must be at least 1"):
        data.arrays("digits", "train", per_class=0)
    with pytest.raises(ValueError, match="no target 'mask' in digits: known: label"):
        data.load("digits", "train", target="mask")
    with pytest.raises(ValueError, match="a batch of 500 is more than the 497 images"):
        data.load("digits", "test", batch_size=500, drop_remainder=True)
    with pytest.raises(FileNotFoundError, match=r"there is no folder \./nowhere"):
        data.load("./nowhere", "train")


def test_numpy_needs_no_tensorflow(python):
    code = """
import sys
import utils.data
heavy = {"numpy.random._examples", "sklearn", "skimage", "PIL", "scipy"}
assert not heavy & set(sys.modules), "the import alone is light"
for name in ("digits", "faces", "textures", "glyphs"):
    utils.data.describe(name)
    utils.data.arrays(name, "test", image_size=16, per_class=1)
utils.data.describe("clothing")
print(sorted({name.partition(".")[0] for name in sys.modules} & {"tensorflow", "tensorflow_datasets", "keras"}))
"""
    out, err = python(code).communicate()
    assert out.strip() == "[]", err
