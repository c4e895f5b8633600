"""The builders of TensorFlow Datasets: the same data as `arrays`, one preparation for two processes, and none lost to a
kill.
"""

import dataclasses
import os
import resource
import signal
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from utils import data
from utils.data import archives, builders, clothing, glyphs

COUNTS = (30, 10, 10)  # a class

PREPARE = """
import dataclasses, pathlib, sys, time
from utils.data import builders, glyphs

glyphs.ALPHABETS["numerals"] = dataclasses.replace(glyphs.ALPHABETS["numerals"], per_class=(30, 10, 10))

mode, folder = sys.argv[1], pathlib.Path(sys.argv[2])
calls, draw = 0, glyphs.draw

def counted(*arguments):
    global calls
    calls += 1
    if mode == "hang" and calls == 100:
        (folder / "drawing").touch()
        time.sleep(1000)
    return draw(*arguments)

glyphs.draw = counted
(folder / f"ready-{mode}").touch()
while not (folder / "go").exists():
    time.sleep(.01)
builder = builders.prepared(builders.builder_class(glyphs.RECIPE), "numerals")
print(calls, builder.info.splits["train"].num_examples)
"""


@pytest.fixture(scope="module")
def few_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("few")


@pytest.fixture(autouse=True)
def few_numerals(own_cache, few_cache, monkeypatch):
    """The alphabet `numerals` has few images, and a cache for this file alone."""
    monkeypatch.setenv("COURSE_CACHE", str(few_cache))
    monkeypatch.setitem(
        glyphs.ALPHABETS, "numerals", dataclasses.replace(glyphs.ALPHABETS["numerals"], per_class=COUNTS)
    )


def wait_for(*paths, process, seconds=120):
    end = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.01)


def left_over(cache):
    """Everything below a cache that a finished preparation does not leave."""
    return [path.name for path in cache.rglob("*incomplete*")]


@pytest.mark.parametrize("split", glyphs.SPLITS)
def test_prepared_glyphs_are_the_drawn_ones_in_their_order(split):
    images, labels = data.arrays("glyphs/numerals", split)
    batches = list(data.load("glyphs/numerals", split, batch_size=100, target="label").as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches]), images)
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), labels)
    resized = next(data.load("glyphs/numerals", split, batch_size=10, image_size=48, channels=3).as_numpy_iterator())
    np.testing.assert_array_equal(
        resized["image"], data.arrays("glyphs/numerals", f"{split}[:10]", image_size=48, channels=3)[0]
    )


def test_parts_and_order_of_prepared_sets():
    part = data.load("glyphs/numerals", "test[90:]", target="label")
    expected = data.arrays("glyphs/numerals", "test[90:]")[0]
    np.testing.assert_array_equal(np.stack([image for image, _ in part.as_numpy_iterator()]), expected)

    def first(seed):
        return next(iter(data.load("glyphs/numerals", "test", batch_size=50, shuffle=True, seed=seed)))["image"].numpy()

    np.testing.assert_array_equal(first(5), first(5))
    assert (first(5) != first(6)).any()


def test_builders_are_those_of_tensorflow_datasets():
    assert issubclass(builders.builder_class(glyphs.RECIPE), tfds.core.GeneratorBasedBuilder) and issubclass(
        builders.builder_class(clothing.RECIPE), tfds.core.GeneratorBasedBuilder
    )
    assert list(builders.builder_class(glyphs.RECIPE).builder_configs) == list(glyphs.ALPHABETS)
    builder = builders.prepared(builders.builder_class(glyphs.RECIPE), "numerals")
    assert builder.info.features["label"].names == list("0123456789")
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == glyphs.ALPHABETS[
        "numerals"
    ].counts
    assert str(builder.data_dir).startswith(str(archives.cache_folder()))


def test_preparing_prints_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    data.load("glyphs/numerals", "train")
    out, err = capfd.readouterr()
    assert out == "" and "Downloading" not in err and "examples" not in err


def test_killed_in_the_middle_and_prepared_by_two_at_once(tmp_path, python):
    cache, place = tmp_path / "cache", tmp_path / "cache" / "tfds" / "glyphs" / "numerals"
    (tmp_path / "go").touch()
    killed = python(PREPARE, "hang", tmp_path, COURSE_CACHE=str(cache))
    wait_for(tmp_path / "drawing", process=killed)
    assert left_over(cache) and not (place / glyphs.VERSION).exists()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert left_over(cache)  # this is what makes the clearing necessary

    (tmp_path / "go").unlink()
    both = [python(PREPARE, name, tmp_path, COURSE_CACHE=str(cache)) for name in ("first", "second")]
    wait_for(tmp_path / "ready-first", tmp_path / "ready-second", process=both[0])
    (tmp_path / "go").touch()
    results = [(*process.communicate(timeout=200), process.returncode) for process in both]
    assert [code for _, _, code in results] == [0, 0], results
    total = sum(glyphs.ALPHABETS["numerals"].counts.values())
    assert sorted(out.split()[0] for out, _, _ in results) == sorted(["0", str(total)])  # one drew, one waited
    assert all(out.split()[1] == "300" for out, _, _ in results)
    assert left_over(cache) == [] and os.listdir(place / glyphs.VERSION)


def test_what_an_exception_leaves_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    original = glyphs.draw

    def broken(alphabet, split, indices, seed=0):
        if split == "validation":
            raise ZeroDivisionError
        return original(alphabet, split, indices, seed)

    monkeypatch.setattr(glyphs, "draw", broken)
    with pytest.raises(ZeroDivisionError):
        builders.prepared(builders.builder_class(glyphs.RECIPE), "numerals")
    assert left_over(tmp_path) == []
    monkeypatch.setattr(glyphs, "draw", original)
    assert builders.is_prepared(
        type(tmp_path)(builders.prepared(builders.builder_class(glyphs.RECIPE), "numerals").data_dir)
    )


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("dataset_info.json", empty),
        ("dataset_info.json", type(archives.cache_folder()).unlink),
        ("features.json", cut),
        ("label.labels.txt", flip),
        ("glyphs-train.tfrecord-00000-of-00001", flip),
        ("glyphs-test.tfrecord-00000-of-00001", cut),
        ("glyphs-validation.tfrecord-00000-of-00001", type(archives.cache_folder()).unlink),
        ("sha256.json", cut),
    ],
)
def test_what_was_damaged_later_is_prepared_again(file, damage, recwarn):
    place = type(archives.cache_folder())(builders.prepared(builders.builder_class(glyphs.RECIPE), "numerals").data_dir)
    expected = builders.hashes(place)
    damage(place / file)
    assert not builders.is_whole(place)
    recwarn.clear()
    builder = builders.prepared(builders.builder_class(glyphs.RECIPE), "numerals")
    assert builders.is_whole(place) and builders.hashes(place).keys() == expected.keys()
    assert sum(1 for _ in builder.as_dataset(split="train")) == 300
    if file != "sha256.json":
        assert f"{place} was damaged: glyphs is prepared again" in [str(warning.message) for warning in recwarn]


def test_a_file_that_something_else_left_there_is_no_damage():
    place = type(archives.cache_folder())(builders.prepared(builders.builder_class(glyphs.RECIPE), "numerals").data_dir)
    (place / "desktop.ini").touch()
    assert builders.is_whole(place)


def test_disk_that_is_full(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))  # no file may grow larger, as if the disk were full
    try:
        with pytest.raises(data.DataUnavailable) as error:
            data.load("glyphs/numerals", "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value).startswith("glyphs cannot be prepared in") and "set COURSE_CACHE" in str(error.value)
    assert "\n" not in str(error.value) and left_over(tmp_path) == []
