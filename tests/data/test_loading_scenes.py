"""`load` and `arrays` of images with masks, boxes, keypoints and captions: all of it moves together, on scenes drawn
here.
"""

import hashlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from utils import data
from utils.data import catalogue, geometry, loading, sources
from utils.data.description import Description

CLASSES = ("plate", "tile")
TARGETS = ("mask", "boxes", "labels", "masks", "keypoints", "caption")
SIDES = {"even": (24, 32, 3), "mixed": (None, None, 3)}


def scene(kind, index, largest=4):
    """A scene of `index % (largest + 1)` bright rectangles on dark ground, that do not hide each other's edges;
    keypoints: top left and centre.
    """
    random = np.random.default_rng(index)
    height, width = SIDES[kind][:2] if kind == "even" else random.integers(16, 50, 2)
    count = index % (largest + 1)
    image = np.full((height, width, 3), 20, np.uint8)
    masks = np.zeros((count, height, width), np.uint8)
    boxes = np.zeros((count, 4), np.float32)
    labels = random.integers(0, len(CLASSES), count).astype(np.int32)
    keypoints = np.zeros((count, 2, 3), np.float32)
    mask = np.zeros((height, width), np.uint8)
    strips = np.linspace(0, width, count + 1).astype(int)
    for number, (left, right) in enumerate(itertools.pairwise(strips)):
        x1 = random.integers(left, right - 2)
        x2 = random.integers(x1 + 2, right + 1)
        y1 = random.integers(0, height - 4)
        y2 = random.integers(y1 + 2, height + 1)
        image[y1:y2, x1:x2] = 250 - 60 * labels[number]
        masks[number, y1:y2, x1:x2] = 1
        mask[y1:y2, x1:x2] = labels[number] + 1
        boxes[number] = x1, y1, x2, y2
        keypoints[number] = [x1, y1, 2], [(x1 + x2) / 2, (y1 + y2) / 2, number % 2]
    keypoints *= keypoints[..., 2:] > 0
    caption = f"{count} × " + " and ".join(CLASSES[label] for label in labels)
    return {
        "image": image,
        "mask": mask,
        "boxes": boxes,
        "labels": labels,
        "masks": masks,
        "keypoints": keypoints,
        "caption": caption,
    }


class Scenes(sources.OneByOne):
    """A source of scenes; `kind` is "even" or "mixed"."""

    def __init__(self, kind, targets=TARGETS, max_objects=4):
        description = Description(
            name=kind,
            title="scenes of a test",
            classes=CLASSES,
            splits={"train": 20, "test": 7},
            image_shape=SIDES[kind],
            licence="",
            citation="",
            source="",
            targets=targets,
            mask_classes=("background", *CLASSES),
            max_objects=max_objects,
            keypoints=("corner", "centre"),
        )

        def example(split, index):
            found = scene(kind, index + 100 * (split == "test"))
            return found | {"ignored": np.arange(len(found["labels"])) % 2 == 1}

        super().__init__(description, targets, example)


class Decoded(Scenes):
    """The same, for `arrays` to be had through TensorFlow alone."""

    examples = property()


@pytest.fixture(autouse=True)
def scenes(monkeypatch):
    """Names for the catalogue: the two kinds, and the same with another list of targets."""
    made = {kind: Scenes(kind) for kind in SIDES}
    made |= {f"decoded-{kind}": Decoded(kind) for kind in SIDES}
    made["crowds"] = Scenes("even", (*TARGETS, "ignored"))
    made |= {"masks-only": Scenes("even", ("mask",), 0), "uncounted": Scenes("even", max_objects=0)}
    find = catalogue.find
    monkeypatch.setattr(catalogue, "find", lambda name, on_error="raise": made.get(name) or find(name, on_error))
    return made


def by_hand(example, height, width):
    """A letterboxed example, slowly: each pixel of the canvas looks up where it comes from."""
    old_height, old_width = example["mask"].shape
    scale = min(height / old_height, width / old_width)
    h, w = round(old_height * scale), round(old_width * scale)
    top, left = (height - h) // 2, (width - w) // 2
    mask = np.full((height, width), 255)
    masks = np.zeros((len(example["masks"]), height, width))
    for y, x in itertools.product(range(h), range(w)):
        source = int((y + 0.5) * old_height / h), int((x + 0.5) * old_width / w)
        mask[top + y, left + x] = example["mask"][source]
        masks[:, top + y, left + x] = example["masks"][:, *source]
    boxes = np.array(
        [
            [x1 * w / old_width + left, y1 * h / old_height + top, x2 * w / old_width + left, y2 * h / old_height + top]
            for x1, y1, x2, y2 in example["boxes"]
        ]
    ).reshape(-1, 4)
    border = np.ones((height, width), bool)
    border[top : top + h, left : left + w] = False
    return mask, masks, boxes, border


@pytest.mark.parametrize("size", [(40, 40), (17, 60), (48, 16)])
def test_letterbox_by_hand(size):
    for index, example in enumerate(data.load("mixed", "train", image_size=size).as_numpy_iterator()):
        original = scene("mixed", index)
        mask, masks, boxes, border = by_hand(original, *size)
        count = len(boxes)
        np.testing.assert_array_equal(example["mask"], mask)
        np.testing.assert_array_equal(example["masks"][:count], masks)
        np.testing.assert_allclose(example["boxes"][:count], boxes, rtol=1e-5, atol=1e-4)
        assert (example["image"][border] == 114).all()
        assert (example["labels"][:count] == original["labels"]).all() and (example["labels"][count:] == -1).all()
        for key in ("boxes", "masks", "keypoints"):
            assert not example[key][count:].any()
        seen = example["keypoints"][:count, 0, 2] == 2
        np.testing.assert_allclose(example["keypoints"][:count, 0, :2][seen], boxes[seen, :2], rtol=1e-5, atol=1e-4)
        assert not example["keypoints"][example["keypoints"][..., 2] == 0].any()
        assert example["caption"].decode() == original["caption"]


def test_stretch_moves_boxes_by_each_side():
    example = next(iter(data.load("even", "train[3:4]", image_size=(48, 16), resize="stretch").as_numpy_iterator()))
    original = scene("even", 3)
    np.testing.assert_allclose(example["boxes"][:3], original["boxes"] * [0.5, 2, 0.5, 2])
    np.testing.assert_allclose(example["keypoints"][:3, :, :2], original["keypoints"][..., :2] * [0.5, 2])
    np.testing.assert_array_equal(example["mask"], np.repeat(original["mask"], 2, axis=0)[:, 1::2])
    bright = example["image"][..., 0] > 114  # the image is smoothed, so that it differs at the edges
    assert (bright != example["masks"].any(axis=0)).mean() < 0.03


@pytest.mark.parametrize("name", ["even", "mixed", "decoded-even", "decoded-mixed"])
@pytest.mark.parametrize("options", [{"image_size": (20, 36)}, {"image_size": 24, "resize": "stretch", "channels": 1}])
def test_load_and_arrays_agree_to_the_bit(name, options):
    images, objects = data.arrays(name, "test", target="boxes", **options)
    masks = data.arrays(name, "test", target="mask", **options)[1]
    captions = data.arrays(name, "test", target="caption", **options)[1]
    batch = next(iter(data.load(name, "test", batch_size=7, **options).as_numpy_iterator()))
    assert set(objects) == {"boxes", "labels", "masks", "keypoints"} and set(batch) == {"image", *TARGETS}
    for key, value in {**objects, "image": images, "mask": masks}.items():
        np.testing.assert_array_equal(batch[key], value)
        assert batch[key].dtype == value.dtype == sources.SPECIFICATION[key][0], key
    assert [text.decode() for text in batch["caption"]] == captions.tolist()


@pytest.mark.parametrize("target", [None, *TARGETS])
def test_load_and_arrays_agree_on_what_a_target_is(target):
    expected = data.arrays("crowds", "test", target=target)
    found = next(iter(data.load("crowds", "test", target=target, batch_size=7).as_numpy_iterator()))
    if target is not None:
        np.testing.assert_array_equal(found[0], expected[0])
        found, expected = found[1], expected[1]
    if not isinstance(expected, dict):
        found, expected = {target: found}, {target: expected}
    assert set(found) == set(expected)
    for key, value in expected.items():
        texts = [text.decode() for text in found[key]] if key == "caption" else found[key]
        np.testing.assert_array_equal(texts, value)
    if target in (None, "boxes"):
        assert set(expected) >= {"boxes", "labels", "ignored", "masks", "keypoints"}
        assert expected["ignored"].dtype == bool and expected["ignored"].any()
        assert not expected["ignored"][expected["labels"] < 0].any()


def test_as_it_is_nothing_moves():
    for index, example in enumerate(data.load("even", "train").as_numpy_iterator()):
        for key, value in scene("even", index).items():
            if key != "caption":
                np.testing.assert_array_equal(example[key][: len(value)], value)


@pytest.mark.parametrize("options", [{}, {"image_size": (10, 12)}, {"image_size": 9, "resize": "stretch"}])
def test_shapes_are_static(options):
    height, width = {(): (24, 32), (10, 12): (10, 12), 9: (9, 9)}[options.get("image_size", ())]
    found = data.load("even", "train", batch_size=5, **options).element_spec
    expected = {
        "image": (5, height, width, 3),
        "mask": (5, height, width),
        "boxes": (5, 4, 4),
        "labels": (5, 4),
        "masks": (5, 4, height, width),
        "keypoints": (5, 4, 2, 3),
        "caption": (5,),
    }
    assert {key: tuple(spec.shape) for key, spec in found.items()} == expected
    assert found["boxes"].dtype == tf.float32 and found["masks"].dtype == tf.uint8 and found["labels"].dtype == tf.int32


def test_pairs_of_one_target():
    image, mask = next(iter(data.load("even", "train", batch_size=4, target="mask")))
    assert image.shape == (4, 24, 32, 3) and mask.shape == (4, 24, 32)
    image, objects = next(iter(data.load("even", "train", batch_size=4, target="boxes", max_objects=6)))
    assert objects["boxes"].shape == (4, 6, 4) and objects["masks"].shape == (4, 6, 24, 32)
    assert data.arrays("even", "test", target="keypoints")[1].shape == (7, 4, 2, 3)


def test_masks_are_never_interpolated():
    for resize, size in itertools.product(geometry.RESIZES, [(7, 11), (64, 50)]):
        options = {"image_size": size, "resize": resize}
        masks = data.arrays("mixed", "train", target="mask", **options)[1]
        instances = data.arrays("mixed", "train", target="masks", **options)[1]
        assert set(np.unique(masks)) <= {0, 1, 2, 255} and set(np.unique(instances)) <= {0, 1}
        if resize == "stretch":
            assert (masks < 255).all()


def test_letterbox_unless_only_labels_are_there():
    masks = data.arrays("masks-only", "train", image_size=32, target="mask")[1]
    assert (masks[:, :4] == 255).all() and (masks[:, 4:28] < 255).all()  # 24 x 32 in the middle of 32 x 32
    boxed = data.arrays("faces", "test", image_size=(30, 40), resize="letterbox")[0]
    stretched = data.arrays("faces", "test", image_size=(30, 40))[0]
    assert (boxed[:, :, :5] == 114).all() and not (stretched[:, :, :5] == 114).all()
    loaded = next(iter(data.load("faces", "test", image_size=(30, 40), resize="letterbox", batch_size=40)))
    np.testing.assert_array_equal(loaded["image"], boxed)


def test_more_objects_than_room_is_an_error_in_words():
    words = "an image of even has more than max_objects=3 objects, and none is left out silently"
    with pytest.raises(ValueError, match=f"{words}: one has 4"):
        data.arrays("even", "train", target="boxes", max_objects=3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        list(data.load("even", "train", max_objects=3))
    with pytest.raises(
        ValueError, match="nobody knows how many objects an image of even has: give max_objects, say 50"
    ):
        data.load("uncounted", "train")
    assert data.load("uncounted", "train", max_objects=5).element_spec["labels"].shape == (5,)
    assert data.load("uncounted", "train", target="mask").element_spec[1].shape == (24, 32)


@pytest.mark.parametrize("function", [data.arrays, data.load])
def test_bad_calls(function):
    for options, words in [
        ({"target": "label"}, "no target 'label' in even: known: mask, boxes, labels, masks, keypoints, caption"),
        ({"target": "boxes", "resize": "crop"}, "resize must be 'stretch' or 'letterbox', got 'crop'"),
        ({"target": "boxes", "max_objects": 0}, "max_objects must be an int of at least 1, got 0"),
        ({"target": "boxes", "max_objects": 2.5}, "max_objects must be an int of at least 1, got 2.5"),
    ]:
        with pytest.raises(ValueError) as error:
            function("even", "train", **options)
        assert words in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match="the images of mixed differ in size"):
        function("mixed", "train", target="boxes", **({"batch_size": 2} if function is data.load else {}))


def test_per_class_needs_labels():
    with pytest.raises(ValueError, match="per_class needs one label an image, and even has none"):
        data.arrays("even", "train", target="mask", per_class=1)


shapes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(shapes, shapes, st.sampled_from(geometry.RESIZES), st.integers(0, 2**31))
def test_boxes_come_back(shape, canvas, resize, seed):
    height, width = shape
    corners = np.sort(np.random.default_rng(seed).uniform(0, [[[width], [height]]], (5, 2, 2)), axis=-1)
    boxes = corners.transpose(0, 2, 1).reshape(5, 4).astype(np.float32)
    placement = geometry.place(shape, canvas, resize)
    moved = placement.boxes(boxes)
    assert (moved >= -1e-3).all() and (moved <= np.array([*canvas[::-1], *canvas[::-1]]) + 1e-3).all()
    np.testing.assert_allclose(geometry.boxes_back(moved, shape, canvas, resize), boxes, atol=1e-2)


@given(shapes, shapes)
def test_letterbox_keeps_the_aspect_and_touches_two_sides(shape, canvas):
    placement = geometry.place(shape, canvas, "letterbox")
    (h, w), (top, left) = placement.size, placement.offset
    assert h == canvas[0] or w == canvas[1]
    scale = min(canvas[0] / shape[0], canvas[1] / shape[1])
    assert all(abs(new - max(scale * old, 1)) <= 0.5 + 1e-9 for new, old in zip((h, w), shape, strict=True))
    assert abs(canvas[0] - h - 2 * top) <= 1 and abs(canvas[1] - w - 2 * left) <= 1


def test_boxes_of_a_photograph_of_ones_own():
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:60, 50:150] = 255
    small = geometry.letterbox(image, 64)
    rows, columns = np.nonzero(small[..., 0] > 200)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert (small[:16] == 114).all() and (small[48:] == 114).all()
    np.testing.assert_allclose(data.boxes_back([found], image.shape, 64), [[50, 20, 150, 60]], atol=3.2)
    np.testing.assert_array_equal(data.boxes_back([[-9, -9, 99, 99]], image.shape, 64), [[0, 0, 200, 100]])


def digest(seed):
    """Of six shuffled batches of scenes, from one state of the process: earlier tests have seeded TensorFlow."""
    keras.utils.set_random_seed(0)
    total = hashlib.sha256()
    dataset = data.load("mixed", "train", image_size=24, batch_size=8, shuffle=True, seed=seed, repeat=True)
    for batch in dataset.take(6).as_numpy_iterator():
        for key in sorted(batch):
            total.update(b"".join(batch[key].tolist()) if batch[key].dtype == object else batch[key].tobytes())
    return total.hexdigest()


ELSEWHERE = """
import sys
from tests.data import test_loading_scenes as tests
tests.catalogue.find = lambda name, on_error="raise": tests.Scenes(name)
print(tests.digest(int(sys.argv[1])))
"""


def test_another_process_with_the_same_seed_gives_identical_batches(python):
    process = python(ELSEWHERE, 3)
    here, other = digest(3), digest(4)
    out, error = process.communicate()
    assert out.split()[-1:] == [here], error
    assert other != here


def test_padding():
    value = np.ones((2, 4), np.float32)
    description = data.describe("digits")
    assert loading.pad(value, "boxes", 3, description).tolist() == [[1] * 4, [1] * 4, [0] * 4]
    assert loading.pad(np.array([5], np.int32), "labels", 3, description).tolist() == [5, -1, -1]


def test_a_mask_of_another_size_than_its_image_is_told():
    with pytest.raises(ValueError, match=r"a mask of \(5, 4\) pixels \(height, width\) for an image of \(4, 5\)"):
        geometry.place((4, 5), (8, 10), "stretch").mask(np.zeros((5, 4), np.uint8))
