"""Public sets: what TensorFlow Datasets and Keras give, put into our form. No network: tfds mocks its data, Keras's
files are made here.
"""

import gzip
import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from utils import data
from utils.data import catalogue, public

LABELLED = ("cats_vs_dogs", "tf_flowers")
BOXED = ("voc/2007", "voc/2012", "coco/2017")
ALL = (*LABELLED, "oxford_iiit_pet", *BOXED)


@pytest.fixture
def no_network(monkeypatch):
    """Nothing is reachable, and nothing is tried."""

    def unknown(*_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setattr(public.urllib.request, "getproxies", dict)


@pytest.fixture
def mocked(monkeypatch, tmp_path):
    """Public sets have five random examples, by tfds's own mock."""
    monkeypatch.setattr(public, "reach", lambda urls: None)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    with tfds.testing.mock_data(num_examples=5, data_dir=str(tmp_path / "tfds")):
        yield


@pytest.mark.parametrize("name", ALL)
def test_classes_and_splits_are_those_of_tensorflow_datasets(name):
    source = catalogue.find(name)
    description, parts = source.description, source.public.parts
    features = tfds.builder_cls(source.public.dataset)(data_dir="nowhere", config=source.public.config).info.features
    label = features["label"] if "label" in features else features["objects"].feature["label"]
    assert label.num_classes == len(description.classes) == len(set(description.classes))
    if not name.startswith("coco"):  # COCO's names come with its download
        assert tuple(label.names) == description.classes
    assert list(description.splits) == ["train", "validation", "test"] and "." in description.note
    pieces = sorted(parts.values())
    for (split, start, stop), following in zip(pieces, [*pieces[1:], None]):  # they share no image and leave none out
        assert stop > start and stop <= source.public.counts[split]
        if following and following[0] == split:
            assert following[1] == stop
        else:
            assert stop == source.public.counts[split]
        assert start == 0 or (split, start) in {(other, end) for other, _, end in pieces}


@pytest.mark.parametrize(
    "name", LABELLED
)  # tfds's mock makes boxes that tfds refuses, and masks of any size: those are below
def test_mocked_sets_have_our_form(name, mocked):
    targets = data.describe(name).targets
    for split in ("train", "test"):
        found = list(data.load(name, f"{split}[:5]", image_size=64).as_numpy_iterator())
        assert len(found) == 5
        for example in found:
            assert set(example) == {"image", *targets} and example["image"].shape == (64, 64, 3)
            assert example["image"].dtype == np.uint8
            assert example["label"].dtype == np.int32 and 0 <= example["label"] < len(data.describe(name).classes)


def given(monkeypatch, name, examples):
    """Makes tfds give these examples, as its own features encode them, for every split."""
    source = catalogue.find(name)
    features = tfds.builder_cls(source.public.dataset)(data_dir="nowhere", config=source.public.config).info.features
    skipped = set(source.pictures)

    def as_dataset(self, split=None, decoders=None, **_):
        start, stop = (int(number) for number in split.partition("[")[2].rstrip("]").split(":"))
        parts = isinstance(decoders, tfds.decode.PartialDecoding)

        def generate():
            for example in examples:
                yield {
                    key: tf.io.encode_png(value).numpy() if key in skipped else value for key, value in example.items()
                }

        def kind(path):
            return tf.string if path in skipped else features[path].dtype

        types = {key: kind(key) for key in examples[0]}
        dataset = tf.data.Dataset.from_generator(generate, types).skip(start).take(stop - start)
        return dataset.map(lambda example: {"label": example["label"]}) if parts else dataset

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", as_dataset)
    return source


def test_pet_masks(mocked, monkeypatch):
    trimap = np.array([[1, 2, 3], [3, 1, 2]], np.uint8)[..., None]
    image = np.full((2, 3, 3), 9, np.uint8)
    given(monkeypatch, "oxford_iiit_pet", [{"image": image, "label": 36, "segmentation_mask": trimap}])
    (example,) = data.load("oxford_iiit_pet", "test[:1]").as_numpy_iterator()
    assert example["mask"].tolist() == [[1, 0, 255], [255, 1, 0]] and example["label"] == 36
    assert data.describe("oxford_iiit_pet").mask_classes == ("background", "pet")
    (example,) = data.load("oxford_iiit_pet", "test[:1]", image_size=(4, 6)).as_numpy_iterator()
    assert example["image"].shape == (4, 6, 3)
    assert example["mask"].tolist() == np.kron([[1, 0, 255], [255, 1, 0]], np.ones((2, 2), int)).tolist()


@pytest.mark.parametrize(
    "name, flag, expected",
    [
        ("voc/2007", "is_difficult", [[19, 9, 60, 40], [29, 29, 50, 50], [0, 0, 200, 100]]),  # VOC counts from 1
        ("coco/2017", "is_crowd", [[20, 10, 60, 40], [30, 30, 50, 50], [1, 1, 200, 100]]),
    ],
)
def test_boxes_what_is_ignored_and_what_is_left_out(mocked, monkeypatch, name, flag, expected):
    scale = np.array([100, 200, 100, 200], np.float32)  # the image is 100 high and 200 wide; y, x, y, x
    boxes = [[10, 20, 40, 60], [30, 30, 50, 50], [1, 1, 100, 200], [20, 20, 20, 30]]  # the last has no area
    objects = {
        "bbox": np.array(boxes, np.float32) / scale,
        "label": np.array([3, 4, 5, 6], np.int64),
        flag: np.array([False, True, False, False]),
    }
    if name == "voc/2007":
        objects["bbox"][3] = [0.21, 0.31, 0.2, 0.3]  # with VOC's first pixel, 20 to 20
    features = {"image": np.zeros((100, 200, 3), np.uint8), "objects": objects}
    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", lambda self, **_: one(features))
    (example,) = data.load(name, "test[:1]").as_numpy_iterator()
    np.testing.assert_allclose(example["boxes"][:3], expected, atol=1e-4)
    assert example["labels"][:4].tolist() == [3, 4, 5, -1]
    assert example["ignored"].dtype == bool and example["ignored"][:4].tolist() == [False, True, False, False]
    assert data.describe(name).targets == ("boxes", "labels", "ignored")


def one(features):
    """A dataset of one example whose image is encoded."""
    example = features | {"image": tf.io.encode_png(features["image"])}
    return tf.data.Dataset.from_tensors(example)


def test_arrays_of_a_labelled_set(mocked, monkeypatch):
    shades = np.arange(40, dtype=np.uint8)
    examples = [{"image": np.full((4, 4, 3), shade, np.uint8), "label": int(shade) % 2} for shade in shades]
    source = given(monkeypatch, "cats_vs_dogs", examples)
    parts = {"train": ("train", 0, 30), "validation": ("train", 30, 34), "test": ("train", 34, 40)}
    monkeypatch.setattr(source, "public", public.Public("cats_vs_dogs", None, {"train": 40}, parts, "digits"))
    monkeypatch.setitem(source.description.splits, "train", 30)
    monkeypatch.setitem(source.description.splits, "test", 6)
    images, labels = data.arrays("cats_vs_dogs", "test", image_size=4)
    assert images[:, 0, 0, 0].tolist() == [34, 35, 36, 37, 38, 39] and labels.tolist() == [0, 1] * 3
    images, labels = data.arrays("cats_vs_dogs", "train[10:]", image_size=4, per_class=3)
    assert (images[:, 0, 0, 0] % 2 == labels).all() and images.min() >= 10 and len(images) == 6
    loaded = [image[0, 0, 0] for image, _ in data.load("cats_vs_dogs", "test[2:4]", target="label").as_numpy_iterator()]
    assert loaded == [36, 37]


@pytest.mark.parametrize("name", ALL)
def test_no_network_and_nothing_prepared(name, no_network, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "theirs"))
    with pytest.raises(data.DataUnavailable) as error:
        data.load(name, "train")
    text, instead = str(error.value), catalogue.find(name).public.instead
    assert text.startswith(f"{name} could not be downloaded and prepared") and "\n" not in text
    assert f"the folder {name}/" in text and "COURSE_DATA" in text and f"use the data set {instead!r} instead" in text
    assert instead in data.names()


def test_download_that_fails_later(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(public, "reach", lambda urls: None)

    def fail(*_, **__):
        raise ConnectionError("connection\nreset")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(data.DataUnavailable, match=r"tf_flowers could not .*connection reset.*'shapes_crops'"):
        data.load("tf_flowers", "train")


def test_a_prepared_set_in_course_data_needs_no_network(no_network, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    builder = tfds.builder_cls("tf_flowers")(data_dir=tmp_path)
    place = Path(builder.data_dir)
    place.mkdir(parents=True)
    split = {
        "name": "train",
        "shardLengths": ["7"],
        "numBytes": "9",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    (place / "dataset_info.json").write_text(
        json.dumps({"name": "tf_flowers", "version": "3.0.1", "fileFormat": "tfrecord", "splits": [split]})
    )
    builder.info.features.save_metadata(str(place))
    (place / "features.json").write_text(json.dumps(builder.info.features.to_json()))
    with pytest.raises(
        data.DataUnavailable, match=r"tf_flowers-train\.tfrecord-00000-of-00001 is not there\): delete it"
    ):
        data.load("tf_flowers", "train")
    (place / "tf_flowers-train.tfrecord-00000-of-00001").touch()
    with pytest.raises(data.DataUnavailable, match=r"holds \{'train': 7\}, not \{'train': 3670\}: delete it"):
        data.load("tf_flowers", "train")


@pytest.mark.parametrize("content", ["", "{", '{"name": 3}', '{"splits": [{"name": "train", "shardLengths": "x"}]}'])
def test_a_damaged_description_of_a_prepared_set_is_told_with_its_place(no_network, tmp_path, monkeypatch, content):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    place = Path(tfds.builder_cls("tf_flowers")(data_dir=tmp_path).data_dir)
    place.mkdir(parents=True)
    (place / "dataset_info.json").write_text(content)
    with pytest.raises(data.DataUnavailable) as error:
        public.builder_of(catalogue.find("tf_flowers").public)
    text = str(error.value)
    assert text.startswith(f"{place} is damaged (") and text.endswith("delete it and run again") and "\n" not in text


def test_years_of_voc():
    assert data.describe("voc").name == "voc/2007" and data.describe("coco").name == "coco/2017"
    assert {"voc", "coco", "mnist", "fashion_mnist", "cifar10", *LABELLED, "oxford_iiit_pet"} <= set(data.names())
    with pytest.raises(ValueError, match="unknown variant voc/2010: known: voc/2007, voc/2012"):
        data.describe("voc/2010")


def fake(shape, total):
    """Arrays as `keras.datasets` gives them, of few images: class c has shade 20 c + (0 to 9)."""
    random = np.random.RandomState(0)

    def part(count):
        labels = np.arange(count) % 10
        shades = (20 * labels + random.randint(0, 10, count)).astype(np.uint8)
        images = np.broadcast_to(shades.reshape(-1, *[1] * len(shape)), (count, *shape))
        return images.copy(), labels.astype(np.uint8).reshape(-1, *[1] * (len(shape) - 2))

    return part(total), part(20)


@pytest.mark.parametrize("name, shape", [("mnist", (28, 28)), ("fashion_mnist", (28, 28)), ("cifar10", (32, 32, 3))])
def test_keras_sets_are_split_once_and_for_all(name, shape, monkeypatch):
    source = catalogue.find(name)
    monkeypatch.setattr(source, "read", lambda: fake(shape, 6000))
    splits = source.read_splits()
    assert {split: len(labels) for split, (_, labels) in splits.items()} == {
        "train": 1000,
        "validation": 5000,
        "test": 20,
    }
    assert np.bincount(splits["validation"][1]).tolist() == [500] * 10
    for images, labels in splits.values():
        assert images.shape[1:] == (*shape, 3)[:2] + ((3,) if len(shape) == 3 else (1,)) and images.dtype == np.uint8
        assert labels.dtype == np.int32 and (images[:, 0, 0, 0] // 20 == labels).all()
    description = data.describe(name)
    assert sum(description.splits.values()) == (60_000 if name == "cifar10" else 70_000)
    assert description.image_shape == splits["train"][0].shape[1:]


FAIL = """
import sys
from utils import data
for name in sys.argv[1:]:
    try:
        data.arrays(name, "train")
    except data.DataUnavailable as error:
        print("told:", error)
"""


def test_keras_sets_without_a_network(tmp_path, python):
    (tmp_path / "datasets" / "fashion-mnist").mkdir(parents=True)
    for name in ("train-labels-idx1", "train-images-idx3", "t10k-labels-idx1", "t10k-images-idx3"):
        (tmp_path / "datasets" / "fashion-mnist" / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"x" * 99)[:-9])
    proxy = "http://127.0.0.1:9"
    out, err = python(
        FAIL, "mnist", "fashion_mnist", "cifar10", KERAS_HOME=str(tmp_path), https_proxy=proxy, HTTPS_PROXY=proxy
    ).communicate()
    told = [line for line in out.splitlines() if line.startswith("told:")]
    assert len(told) == 3, out + err
    home = tmp_path / "datasets"
    assert (
        "mnist could not be downloaded" in told[0] and f"put mnist.npz into {home}" in told[0] and "'digits'" in told[0]
    )
    assert f"fashion_mnist cannot be read from {home}" in told[1] and "delete" in told[1] and "'digits'" in told[1]
    assert "cifar10 could not be downloaded" in told[2] and "'shapes_crops'" in told[2]
    assert {catalogue.find(name).instead for name in ("mnist", "fashion_mnist", "cifar10")} <= set(data.names())


GIVEN = Path(os.environ.get("KERAS_HOME", "")) / "datasets" / "fashion-mnist"
REAL = """
from utils import data
import numpy as np
images, labels = data.arrays("fashion_mnist", "validation")
test = data.arrays("fashion_mnist", "test")
print(images.shape, np.bincount(labels).tolist(), len(data.arrays("fashion_mnist", "train[-7:]")[1]))
print(test[1][:5].tolist(), len(np.unique(test[0].reshape(10000, -1), axis=0)))
"""


@pytest.mark.skipif(
    not os.environ.get("KERAS_HOME") or not GIVEN.is_dir(),
    reason="Fashion-MNIST is not here: KERAS_HOME names no folder that holds it",
)
def test_the_real_fashion_mnist(tmp_path, python):
    shutil.copytree(GIVEN, tmp_path / "datasets" / "fashion-mnist")  # Keras needs a folder that it can write to
    (tmp_path / "datasets").chmod(0o755)
    out, err = python(REAL, KERAS_HOME=str(tmp_path)).communicate()
    lines = out.splitlines()
    assert lines[0] == f"(5000, 28, 28, 1) {[500] * 10} 7", out + err
    assert lines[1].startswith("[9, 2, 1, 1, 6]")  # the first test labels, as published
