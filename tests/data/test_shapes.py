"""Scenes: the same to the bit everywhere, true in everything that they say of themselves, and visible."""

import dataclasses
import hashlib
import os
import signal
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path
from scipy.ndimage import binary_dilation

from utils import data
from utils.data import builders, shapes
from utils.data.shapes import captions, configs, outlines, painting
from utils.data.shapes.chance import Chance
from utils.data.shapes.source import RECIPE

FIELDS = ("image", "boxes", "labels", "masks", "mask", "keypoints", "shares")


def digest(scene):
    """A hash of everything in a scene."""
    content = b"".join(np.ascontiguousarray(getattr(scene, field)).tobytes() for field in FIELDS)
    return hashlib.sha256(content + scene.caption.encode() + repr(scene.colours).encode()).hexdigest()[:16]


# The same everywhere

GOLDEN = {
    ("default", "train", 0, None): "7132fb1a5474f961",
    ("default", "test", 7, (60, 100)): "82571d0d82258a6b",
    ("crowded", "train", 1, None): "30e4ca665cf49ea7",
    ("small", "validation", 2, None): "9caff4893f483841",
    ("shifted", "train", 3, 128): "93a71cae5632817f",
    ("pairs", "train", 4, None): "953941b82722c513",
    ("biased", "test", 5, None): "7c606b27b200addd",
    ("crops", "train", 6, None): "54e1bd2425e3706e",
    ("crops_shifted", "test", 8, None): "e722af63bffff798",
    ("crops_biased", "train", 9, None): "6ff5027fea7e0985",
}


@pytest.mark.parametrize("config, split, index, size", GOLDEN)
def test_scenes_are_those_of_this_version(config, split, index, size):
    """To the bit, on every machine: a change of the pictures needs a new VERSION, since prepared ones are kept."""
    found = digest(shapes.scene(index, split, config=config, image_size=size))
    assert found == GOLDEN[config, split, index, size]


def test_other_processes_threads_and_orders_give_the_same_scenes(python):
    code = """
import sys
from utils.data import shapes
import hashlib
scenes = {index: shapes.scene(index, "validation", seed=3) for index in map(int, sys.argv[1:])}
print(hashlib.sha256(b"".join(scenes[index].image.tobytes() for index in sorted(scenes))).hexdigest())
assert "tensorflow" not in sys.modules
"""
    one = python(code, *range(12), OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OPENBLAS_CORETYPE="Haswell")
    other = python(
        code, *reversed(range(12)), OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2", OPENBLAS_CORETYPE="Nehalem"
    )
    (first, error), (second, other_error) = one.communicate(), other.communicate()
    assert not one.returncode and not other.returncode, error + other_error
    here = b"".join(scene.image.tobytes() for scene in shapes.scenes(12, "validation", seed=3))
    assert first == second == hashlib.sha256(here).hexdigest() + "\n"


def test_splits_seeds_configurations_and_indices_never_share_a_picture():
    keys = [
        (index, split, seed, config)
        for index in range(40)
        for split in shapes.SPLITS
        for seed in (0, 1)
        for config in ("default", "pairs")
    ]
    pictures = {shapes.scene(*key).image.tobytes() for key in keys}
    grounds = {shapes.scene(*key).image[:8, :8].tobytes() for key in keys[:60]}
    assert len(pictures) == len(keys) and len(grounds) == 60


def test_chance_is_that_of_pcg64():
    """Its numbers against those of NumPy's own generator on the same seed, and their ranges."""
    sequence = np.random.SeedSequence([3632233996, 5, 7])  # crc32 of b"test"
    assert (
        Chance("test", 5, 7).bytes(2, 3).tobytes()
        == np.random.PCG64(sequence).random_raw(1).astype("<u8").tobytes()[:6]
    )
    reference = np.random.Generator(np.random.PCG64(sequence))
    chance = Chance("test", 5, 7)
    assert [chance.between(0, 1) for _ in range(5)] == reference.random(5).tolist()
    counts = np.bincount([chance.integer(2, 5) for _ in range(4000)])
    assert counts[:2].sum() == 0 and counts[2:].min() > 900


# True


@pytest.fixture(scope="module")
def many():
    """Scenes of every configuration, of several sizes."""
    return {
        config: shapes.scenes(60, config=config) + shapes.scenes(8, "test", config=config, image_size=(70, 110))
        for config in shapes.CONFIGS
    }


@pytest.mark.parametrize("config", shapes.CONFIGS)
def test_boxes_masks_and_mask_agree(many, config):
    for scene in many[config]:
        count, (height, width) = len(scene.labels), scene.image.shape[:2]
        assert scene.image.dtype == scene.masks.dtype == scene.mask.dtype == np.uint8
        assert scene.boxes.dtype == scene.keypoints.dtype == np.float32 and scene.labels.dtype == np.int32
        assert scene.masks.shape == (count, height, width) and scene.mask.shape == (height, width)
        assert set(np.unique(scene.masks)) == {0, 1} and scene.masks.sum(axis=0).max() == 1  # no pixel has two objects
        expected = np.zeros((height, width), int)
        for label, mask, box in zip(scene.labels, scene.masks, scene.boxes):
            expected[mask == 1] = label + 1
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(scene.mask, expected)


@pytest.mark.parametrize("config", shapes.CONFIGS)
def test_numbers_sizes_and_visible_shares_keep_to_the_configuration(many, config):
    chosen = shapes.CONFIGS[config]
    scenes = many[config]
    counts = [len(scene.labels) for scene in scenes]
    assert (min(counts), max(counts)) == chosen.objects
    assert min(scene.shares.min() for scene in scenes) >= chosen.visible
    assert max(scene.shares.max() for scene in scenes) == 1
    for scene in scenes:
        scale = min(scene.image.shape[:2]) / 96
        for points in scene.keypoints:
            rim = points[1:][points[1:, 2] > 0, :2]
            radii = np.hypot(*(rim - points[0, :2]).T) / scale
            assert np.ptp(radii) < 1e-3 and chosen.radius[0] * 0.94 <= radii[0] <= chosen.radius[1]
            stands_out = (-points[:, :2][points[:, 2] > 0]).max(), (points[:, :2] - scene.image.shape[1::-1]).max()
            assert max(stands_out) <= chosen.outside * chosen.radius[1] * scale + 1e-3


def test_shares_are_those_of_the_whole_object():
    """Each scene again, every object rasterised alone from its polygon on a larger canvas: the share that its mask has
    of that.
    """
    for scene in shapes.scenes(25, config="crowded"):
        for label, mask, points, share in zip(scene.labels, scene.masks, scene.keypoints, scene.shares):
            if shapes.CLASSES[label] in ("square", "triangle"):
                present = [shapes.KEYPOINTS.index(name) for name in outlines.NAMES[outlines.FOLDS[label]]]
                grid = np.stack(np.meshgrid(np.arange(-30, 126) + 0.5, np.arange(-30, 126) + 0.5), -1).reshape(-1, 2)
                whole = Path(points[present, :2]).contains_points(grid).sum()
                assert share == pytest.approx(mask.sum() / whole, abs=0.02)


def polygon(name, radius):
    """The corners of an upright outline, clockwise from the top, by the textbook."""
    if name in ("square", "triangle"):
        angles = np.arange(4 if name == "square" else 3) / (4 if name == "square" else 3)
        return radius * np.stack([np.sin(2 * np.pi * angles), -np.cos(2 * np.pi * angles)], -1)
    if name == "star":
        angles, radii = np.arange(10) / 10, radius * np.where(np.arange(10) % 2, outlines.NOTCH, 1)
        return radii[:, None] * np.stack([np.sin(2 * np.pi * angles), -np.cos(2 * np.pi * angles)], -1)
    long = radius / np.hypot(1, outlines.ARM)
    w = long * outlines.ARM
    quarter = [(-w, -long), (w, -long), (w, -w)]
    return np.array(
        [
            turned
            for k in range(4)
            for turned in (
                np.array(quarter) @ [[[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]]][k]
            )
        ]
    )


@pytest.mark.parametrize("name", ["square", "triangle", "star", "cross"])
def test_outlines_are_their_polygons(name):
    u, v = np.meshgrid(np.linspace(-14, 14, 113), np.linspace(-14, 14, 113))
    distance = outlines.OUTLINES[shapes.CLASSES.index(name)](u, v, 12.0)
    corners = polygon(name, 12.0)
    inside = Path(corners).contains_points(np.stack([u, v], -1).reshape(-1, 2)).reshape(u.shape)
    clear = np.abs(distance) > 1e-9
    np.testing.assert_array_equal((distance < 0)[clear], inside[clear])
    assert np.hypot(*corners.T).max() == pytest.approx(12)  # the radius is that of the circle around
    middles = (corners + np.roll(corners, -1, axis=0)) / 2
    along = np.roll(corners, -1, axis=0) - corners
    outward = np.stack([along[:, 1], -along[:, 0]], -1) / np.hypot(*along.T)[:, None]
    for step in (-0.4, 0, 0.7):  # beside the middle of an edge it is the distance to it
        found = outlines.OUTLINES[shapes.CLASSES.index(name)](*(middles + step * outward).T, 12.0)
        np.testing.assert_allclose(found, step, atol=1e-9)


def test_circle_and_ring():
    u = np.array([0.0, 3.0, 9.0, 12.0, 15.0])
    np.testing.assert_allclose(outlines.circle(u, 0 * u, 12.0), [-12, -9, -3, 0, 3])
    inner = 12 * outlines.HOLE
    np.testing.assert_allclose(outlines.ring(u, 0 * u, 12.0), [inner, inner - 3, inner - 9, 0, 3], atol=1e-9)


@given(st.integers(0, 5), st.integers(0, 1023), st.floats(9, 25))
def test_keypoints_stand_on_the_outline_and_top_is_up(label, angle, radius):
    points = outlines.keypoints(label, 50.0, 40.0, radius, angle)
    present = points[:, 2] > 0
    names = [name for name, there in zip(shapes.KEYPOINTS, present) if there]
    assert set(names) == {"centre", *outlines.NAMES[outlines.FOLDS[label]]} and points[0, :2].tolist() == [50, 40]
    dx, dy = (points[present, :2].astype(float) - [50, 40]).T
    if shapes.CLASSES[label] not in ("circle", "ring"):
        cosine, sine = np.cos(2 * np.pi * angle / 1024), np.sin(2 * np.pi * angle / 1024)
        u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
        np.testing.assert_allclose(outlines.OUTLINES[label](u[1:], v[1:], radius), 0, atol=0.01)
    place = dict(zip(names, zip(dx, dy)))
    assert place["top"][1] <= min(y for name, (_, y) in place.items()) + 0.01
    for right, left in (("right", "left"), ("lower right", "lower left")):
        if right in place:
            assert place[right][0] > place[left][0]


@given(st.integers(0, 5), st.integers(0, 1023))
def test_mirrored_keypoints_swap_left_and_right(label, angle):
    folds = outlines.FOLDS[label]
    if 2 * ((angle * folds) % 1024) == 1024:
        return  # two points are equally near to the top
    points = outlines.keypoints(label, 0.0, 0.0, 10.0, angle)
    mirrored = outlines.keypoints(label, 0.0, 0.0, 10.0, -angle % 1024)
    swap = [
        shapes.KEYPOINTS.index(name)
        for name in ("centre", "top", "left", "right", "lower left", "lower right", "bottom")
    ]
    np.testing.assert_allclose(mirrored[swap] * [-1, 1, 1], points, atol=1e-3)


def test_keypoints_are_hidden_by_later_objects_and_by_the_edge_of_the_image():
    seen = {1: 0, 2: 0}
    outside = 0
    for scene in shapes.scenes(40, config="crowded"):
        numbers = (scene.masks * np.arange(1, len(scene.masks) + 1)[:, None, None]).max(axis=0)
        for number, points in enumerate(scene.keypoints, 1):
            for x, y, visibility in points:
                if visibility:
                    inside = 0 <= x < 96 and 0 <= y < 96
                    expected = 2 if inside and numbers[int(np.floor(y)), int(np.floor(x))] <= number else 1
                    assert visibility == expected
                    seen[int(visibility)] += 1
                    outside += not inside
                else:
                    assert x == y == 0
    assert seen[1] > 100 and seen[2] > 500 and outside > 20


def test_pixels_show_what_the_masks_say(many):
    """Inside a mask, away from its edge, the picture has the colour that the scene names, but for fill and noise."""
    for scene in many["default"]:
        for mask, colour in zip(scene.masks, scene.colours):
            inner = ~binary_dilation(mask == 0, iterations=3)
            if inner.sum() > 30:
                expected = configs.STYLES["clouds"].colours[configs.COLOURS.index(colour)]
                assert np.abs(scene.image[inner].mean(axis=0) - expected).max() < 45


@pytest.mark.parametrize("config", shapes.CONFIGS)
def test_no_object_is_lost_in_its_ground(many, config):
    """The middle brightness of an object against that of the ground around it; under fill and noise, and with an
    outline of its own.
    """
    for scene in many[config]:
        brightness = painting.luma(scene.image.astype(int))
        for mask in scene.masks:
            near = binary_dilation(mask, iterations=4) & (scene.mask == 0) & ~binary_dilation(mask, iterations=1)
            inner = ~binary_dilation(mask == 0, iterations=2)
            if inner.sum() > 15 and near.sum() > 15:
                assert abs(np.median(brightness[inner]) - np.median(brightness[near])) > 22


def test_colours_stay_apart_by_brightness():
    style = configs.STYLES["clouds"]
    dark, light = np.full(100, 50), np.full(100, 195)
    allowed = [
        {configs.COLOURS[painting.pick_colour(Chance("c", n), style, ground, [])] for n in range(200)}
        for ground in (dark, light)
    ]
    assert allowed == [
        {"red", "orange", "yellow", "green", "blue", "purple", "white"},
        {"red", "green", "blue", "purple", "black", "white"} - {"white"},
    ]
    used = [configs.COLOURS.index(name) for name in ("red", "green", "blue", "purple")]
    assert {configs.COLOURS[painting.pick_colour(Chance("c", n), style, light, used)] for n in range(20)} == {"black"}
    for n in range(20):  # a ground with everything in it: the best there is
        assert painting.pick_colour(Chance("c", n), style, np.arange(256), []) in (6, 7)


def test_classes_are_drawn_evenly():
    labels = np.concatenate([scene.labels for scene in shapes.scenes(300)])
    assert np.bincount(labels, minlength=6).min() > 0.8 * len(labels) / 6
    assert [scene.labels.tolist() for scene in shapes.scenes(range(4, 9), config="crops")] == [[4], [5], [0], [1], [2]]


def ground_colours(split, count=120):
    scenes = shapes.scenes(count, split, config="biased")
    medians = np.array([np.median(scene.image[scene.mask == 0], axis=0) for scene in scenes])
    nearest = np.argmin(np.abs(medians[:, None] - np.array(configs.GROUNDS)).sum(axis=-1), axis=1)
    return nearest, np.array([scene.labels[0] for scene in scenes])


def test_biased_grounds_tell_the_class_except_in_test():
    for split in ("train", "validation"):
        ground, label = ground_colours(split)
        assert (ground == label).mean() > 0.97
    ground, label = ground_colours("test")
    assert 0.05 < (ground == label).mean() < 0.3


# Captions


def test_captions_by_hand():
    star, ring, circle = (shapes.CLASSES.index(name) for name in ("star", "ring", "circle"))
    describe = captions.describe_objects
    left, right, low = (0, 0, 10, 10), (50, 5, 60, 15), (2, 40, 12, 50)
    assert describe([star], ["red"], [left], [9]) == "a red star"
    assert describe([star, ring], ["red", "blue"], [left, right], [9, 9]) == "a red star left of a blue ring"
    assert describe([ring, star], ["blue", "red"], [left, right], [9, 9]) == "a red star right of a blue ring"
    assert describe([star, ring], ["red", "orange"], [left, low], [9, 9]) == "a red star above an orange ring"
    assert describe([star, star], ["red", "orange"], [low, left], [9, 9]) == "a red star below an orange star"
    assert describe([star, star], ["red", "red"], [right, left], [9, 9]) == "a red star left of a red star"
    three = [star, ring, circle], ["red", "blue", "white"], [left, right, low]
    assert describe(*three, [9, 5, 8]) == "a white circle below a red star"  # the two largest; circle comes before star


def test_captions_hold_only_words_of_the_vocabulary_and_are_true(many):
    words = shapes.vocabulary()
    assert len(words) == len(set(words)) == 21
    used = set()
    for config in ("default", "crowded", "pairs"):
        for scene in many[config]:
            used |= set(scene.caption.split())
            _, colour, name, *rest = scene.caption.split()
            first = {(shapes.CLASSES[label], c) for label, c in zip(scene.labels, scene.colours)}
            assert (name, colour) in first and bool(rest) == (len(scene.labels) > 1)
            if rest:
                assert (rest[-1], rest[-2]) in first
    assert used == set(words)


# Options and bad input


def test_options_and_sizes():
    scene = shapes.scene(0, objects=(2, 2), visible=1.0, image_size=(48, 150))
    assert scene.image.shape == (48, 150, 3) and len(scene.labels) == 2 and (scene.shares == 1).all()
    few = shapes.scene(0, objects=(40, 40))
    assert 3 < len(few.labels) < 40  # as many as find room
    config = dataclasses.replace(shapes.CONFIGS["default"], name="mine", objects=(3, 3))
    assert len(shapes.scene(0, config=config).labels) == 3
    assert [scene.image.shape[0] for scene in shapes.scenes([5, 7], image_size=24)] == [24, 24]
    large = shapes.scene(1, image_size=384)
    assert large.keypoints.shape[1:] == (7, 3) and len(large.labels) == len(shapes.scene(1).labels)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "dev"}, "unknown split 'dev': known: train, validation, test"),
        ({"index": -1}, "index and seed must be at least 0"),
        ({"config": "hard"}, "unknown configuration 'hard': known: default, crowded"),
        ({"colour": "red"}, "unknown option 'colour': known: title, objects"),
        ({"objects": (0, 3)}, "objects must be"),
        ({"radius": (9, 60)}, "radius must be"),
        ({"visible": 0}, "visible must be"),
        ({"outside": 2}, "outside must be"),
        ({"style": "wood"}, "unknown style 'wood': known: clouds, weave"),
        ({"ground": "red"}, "ground must be"),
        ({"image_size": 20}, "at least 24"),
        ({"image_size": (96, 96, 3)}, "image_size must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        shapes.scene(**{"index": 0, **arguments})
    assert message in str(error.value)


# The source and its builder

COUNTS = (36, 6, 12)
PREPARE = """
import dataclasses, pathlib, sys, time
from utils.data import builders, shapes
from utils.data.shapes import source

shapes.CONFIGS["pairs"] = dataclasses.replace(shapes.CONFIGS["pairs"], counts=(36, 6, 12))
mode, folder = sys.argv[1], pathlib.Path(sys.argv[2])
calls, draw = 0, source.scene

def counted(*arguments, **options):
    global calls
    calls += 1
    if mode == "hang" and calls == 30:
        (folder / "drawing").touch()
        time.sleep(1000)
    return draw(*arguments, **options)

source.scene = counted
(folder / f"ready-{mode}").touch()
while not (folder / "go").exists():
    time.sleep(.01)
print(calls, builders.prepared(builders.builder_class(source.RECIPE), "pairs").info.splits["train"].num_examples, calls)
"""


@pytest.fixture(scope="module")
def small_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture
def small(small_cache, own_cache, monkeypatch):
    """Few scenes of every configuration, in a cache of their own."""
    monkeypatch.setenv("COURSE_CACHE", str(small_cache))
    for name, config in shapes.CONFIGS.items():
        monkeypatch.setitem(shapes.CONFIGS, name, dataclasses.replace(config, counts=COUNTS))


@pytest.mark.parametrize(
    "name, config", [("shapes", "default"), ("shapes/biased", "biased"), ("shapes/crowded", "crowded")]
)
def test_loaded_scenes_are_the_drawn_ones(small, name, config):
    description = data.describe(name)
    loaded = list(data.load(name, "test").as_numpy_iterator())
    images, objects = data.arrays(name, "test", target="boxes")
    assert len(loaded) == 12 and set(loaded[0]) == {"image", *description.targets}
    for index, example in enumerate(loaded):
        scene = shapes.scene(index, "test", config=config)
        count = len(scene.labels)
        for key in ("image", "mask"):
            np.testing.assert_array_equal(example[key], getattr(scene, key))
        for key in ("boxes", "labels", "masks", "keypoints"):
            assert len(example[key]) == description.max_objects
            np.testing.assert_array_equal(example[key][:count], getattr(scene, key))
            np.testing.assert_array_equal(objects[key][index], example[key])
        assert example["caption"].decode() == scene.caption and (example["labels"][count:] == -1).all()
        assert "label" not in example or example["label"] == scene.labels[0]
        np.testing.assert_array_equal(images[index], scene.image)


def test_crops_are_balanced_and_the_drawn_ones(small):
    images, labels = data.arrays("shapes_crops", "train")
    assert labels.tolist() == [0, 1, 2, 3, 4, 5] * 6 and images.shape == (36, 48, 48, 3)
    loaded = list(data.load("shapes_crops", "train", target="label").as_numpy_iterator())
    np.testing.assert_array_equal(np.stack([image for image, _ in loaded]), images)
    np.testing.assert_array_equal([label for _, label in loaded], labels)
    _, masks = data.arrays("shapes_crops", "train", target="mask")
    assert [np.unique(mask).tolist() for mask in masks[:6]] == [[0, label + 1] for label in range(6)]
    few, which = data.arrays("shapes_crops", "train", per_class=2)
    assert np.bincount(which).tolist() == [2] * 6 and any((few[0] == image).all() for image in images)


def test_arrays_prepare_nothing_and_use_no_tensorflow(python, tmp_path):
    code = """
import sys
from utils import data
images, masks = data.arrays("shapes", "train[:4]", target="mask")
images, labels = data.arrays("shapes_crops/biased", "test[:4]")
assert "tensorflow" not in sys.modules
"""
    process = python(code, COURSE_CACHE=str(tmp_path / "cache"))
    assert process.communicate()[1] == "" and process.returncode == 0
    assert not (tmp_path / "cache").exists()


def test_every_variant_is_described_and_has_its_configuration():
    found = set()
    for name in ("shapes", "shapes_crops"):
        for variant in data.describe(name).variants:
            description = data.describe(variant)
            assert description.name == variant and description.mask_classes == ("background", *shapes.CLASSES)
            assert set(description.variants) == set(data.describe(name).variants)
            found.add(data.catalogue.find(variant)._config)
    assert found == set(shapes.CONFIGS)
    assert data.describe("shapes/crowded").max_objects == 12 and data.describe("shapes").keypoints == shapes.KEYPOINTS
    with pytest.raises(ValueError, match="unknown variant shapes/crops"):
        data.describe("shapes/crops")


def test_the_builder_is_one_of_tensorflow_datasets(small):
    assert issubclass(builders.builder_class(RECIPE), tfds.core.GeneratorBasedBuilder)
    assert list(builders.builder_class(RECIPE).builder_configs) == list(shapes.CONFIGS)
    builder = builders.prepared(builders.builder_class(RECIPE), "default")
    assert builder.info.features["labels"].feature.names == list(shapes.CLASSES)
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == dict(zip(shapes.SPLITS, COUNTS))
    example = next(iter(builder.as_dataset(split="train")))
    instances, boxes = example["instances"].numpy()[..., 0], example["boxes"].numpy()
    assert instances.max() == len(boxes)


def wait_for(*paths, process):
    end = time.monotonic() + 120
    while not all(path.exists() for path in paths):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.01)


def test_killed_in_the_middle_and_prepared_by_two_at_once(tmp_path, python):
    cache, place = tmp_path / "cache", tmp_path / "cache" / "tfds" / "shapes" / "pairs"
    (tmp_path / "go").touch()
    killed = python(PREPARE, "hang", tmp_path, COURSE_CACHE=str(cache))
    wait_for(tmp_path / "drawing", process=killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert list(cache.rglob("*incomplete*")) and not (place / shapes.VERSION).exists()

    (tmp_path / "go").unlink()
    both = [python(PREPARE, name, tmp_path, COURSE_CACHE=str(cache)) for name in ("first", "second")]
    wait_for(tmp_path / "ready-first", tmp_path / "ready-second", process=both[0])
    (tmp_path / "go").touch()
    results = [(*process.communicate(timeout=200), process.returncode) for process in both]
    assert [code for _, _, code in results] == [0, 0], results
    assert sorted(out.split()[2] for out, _, _ in results) == sorted(["0", str(sum(COUNTS))])  # one drew, one waited
    assert not list(cache.rglob("*incomplete*")) and os.listdir(place / shapes.VERSION)


# scikit-image's photographs


def test_photographs_of_scikit_image():
    import skimage.data

    description = data.describe("skimage_photos")
    assert description.splits == {"all": 18} == {"all": len(description.classes)}
    loaded = list(data.load("skimage_photos", "all").as_numpy_iterator())
    assert [example["label"] for example in loaded] == list(range(18))
    for name, example in zip(description.classes, loaded):
        original = getattr(skimage.data, name)()
        original = original if original.ndim == 3 else original[..., None]
        assert (example["image"] == original).all() and example["image"].shape[2] == 3
    images, labels = data.arrays("skimage_photos", "all", image_size=64)
    assert images.shape == (18, 64, 64, 3) and labels.tolist() == list(range(18))
    assert (
        data.arrays("skimage_photos", "all[4:5]", image_size=(300, 451))[0][0].tolist()
        == skimage.data.chelsea().tolist()
    )
