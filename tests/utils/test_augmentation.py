"""Augmentation: image, boxes, masks and keypoints move together; against SciPy, Pillow and the masks themselves, on
every backend.
"""

import colorsys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage
from scipy.interpolate import CubicHermiteSpline

from utils.data import augmentation
from utils.data.augmentation import geometry
from utils.data.augmentation.backend import KerasRandom, TensorFlowOps, in_tf_data

HEIGHT, WIDTH = 24, 32
few = settings(max_examples=12)
seeds = st.integers(0, 2**20)


def scenes(seed, count=2, slots=3):
    """A batch of scenes: ellipses that hide one another, on noise; each image has one object fewer than slots, and both
    padding and keypoints.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    batch = {
        "image": random.integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8),
        "mask": np.zeros((count, HEIGHT, WIDTH), np.uint8),
        "boxes": np.zeros((count, slots, 4), np.float32),
        "labels": np.full((count, slots), -1, np.int32),
        "ignored": np.zeros((count, slots), bool),
        "masks": np.zeros((count, slots, HEIGHT, WIDTH), np.uint8),
        "keypoints": np.zeros((count, slots, 2, 3), np.float32),
    }
    for number in range(count):
        for slot in range(slots - 1):
            y, x = random.uniform(4, HEIGHT - 4), random.uniform(4, WIDTH - 4)
            seen = ((rows - y) / random.uniform(2.5, 8)) ** 2 + ((columns - x) / random.uniform(2.5, 8)) ** 2 < 1
            batch["masks"][number, :, seen] = 0
            batch["masks"][number, slot] = seen
            label = batch["labels"][number, slot] = random.integers(0, 4)
            batch["mask"][number][seen] = label + 1
            batch["keypoints"][number, slot] = [x, y, 2], [x + 1, y - 1, slot % 2]
        batch["boxes"][number] = tight(batch["masks"][number])
        batch["labels"][number][~batch["masks"][number].any((1, 2))] = -1
        batch["ignored"][number] = (np.arange(slots) % 2 == 0) & (batch["labels"][number] >= 0)
        batch["keypoints"][number][batch["labels"][number] == -1] = 0
    batch["keypoints"] *= batch["keypoints"][..., 2:] > 0
    return batch


def tight(masks):
    """The boxes around masks (..., H, W), slowly; zeros for an empty one."""
    boxes = np.zeros((*masks.shape[:-2], 4), np.float32)
    for place in np.ndindex(masks.shape[:-2]):
        rows, columns = np.nonzero(masks[place])
        if len(rows):
            boxes[place] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


def numpy(batch):
    return {key: keras.ops.convert_to_numpy(value) for key, value in batch.items()}


def assert_same(found, expected, **tolerance):
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, err_msg=key, **tolerance)


class Fixed:
    """In place of random numbers: each uniform one lies at `place` of its range, a little lower from image to image;
    normal ones are 1.
    """

    def __init__(self, place=0.999999):
        self.place = place

    def uniform(self, shape, low=0.0, high=1.0):
        return keras.ops.convert_to_tensor(self.numbers(shape) * (high - low) + low, "float32")

    def numbers(self, shape):
        shape = [int(side) for side in shape]
        steps = np.arange(shape[0], dtype=np.float32).reshape(-1, *[1] * (len(shape) - 1))
        return np.broadcast_to(np.float32(self.place) - 0.001 * steps, shape)

    def normal(self, shape):
        return keras.ops.convert_to_tensor(np.ones([int(side) for side in shape], np.float32))


def fixed(layer, batch, place=0.999999):
    """A layer with its random numbers fixed; an image alone is given in (H, W, C) float."""
    if not isinstance(batch, dict):
        return numpy(layer.run({"image": batch}, True, keras.ops, Fixed(place)))["image"]
    return numpy(layer.run(batch, True, keras.ops, Fixed(place)))


APPEARANCE = {
    "brightness": lambda amount=0.3: augmentation.Brightness(amount, seed=1),
    "contrast": lambda amount=0.5: augmentation.Contrast(amount, seed=1),
    "saturation": lambda amount=0.5: augmentation.Saturation(amount, seed=1),
    "hue": lambda amount=0.2: augmentation.Hue(amount, seed=1),
    "hsv": lambda amount=0.2: augmentation.HSVJitter(amount, amount, amount, seed=1),
    "noise": lambda amount=0.2: augmentation.Noise(amount, seed=1),
    "salt": lambda amount=0.2: augmentation.SaltAndPepper(amount, seed=1),
    "blur": lambda amount=1.5: augmentation.Blur(amount, seed=1),
    "cutout": lambda amount=0.5: augmentation.Cutout(amount, seed=1),
    "fog": lambda amount=0.7: augmentation.Fog(amount, seed=1),
    "rain": lambda amount=0.7: augmentation.Rain(amount, seed=1),
    "snow": lambda amount=0.7: augmentation.Snow(amount, seed=1),
}
GEOMETRY = {
    "flip": lambda: augmentation.Flip(0.5, 0.5, seed=1),
    "affine": lambda: augmentation.Affine(20, 0.3, 0.2, 10, seed=1),
    "crop": lambda: augmentation.Crop((16, 20), seed=1),
    "mosaic": lambda: augmentation.Mosaic(seed=1),
}


# what all of them keep to


@pytest.mark.parametrize("make", [*APPEARANCE.values(), *GEOMETRY.values()], ids=[*APPEARANCE, *GEOMETRY])
def test_types_stay_and_training_decides(make):
    batch = scenes(0)
    changed = numpy(make()(batch, training=True))
    for key, value in batch.items():
        assert changed[key].dtype == value.dtype, key
    assert changed["image"].shape != batch["image"].shape or (changed["image"] != batch["image"]).any()
    alone = keras.ops.convert_to_numpy(make()(batch["image"], training=True))
    assert alone.dtype == np.uint8 and alone.shape == changed["image"].shape
    if isinstance(make(), (augmentation.Crop, augmentation.Mosaic)):
        return
    assert_same(numpy(make()(batch, training=False)), batch)
    single = numpy(make()({key: value[0] for key, value in batch.items()}, training=True))
    assert {key: value.shape for key, value in single.items()} == {key: value.shape[1:] for key, value in batch.items()}


@pytest.mark.parametrize("make", APPEARANCE.values(), ids=APPEARANCE)
def test_appearance_moves_nothing_and_nothing_at_amount_0(make):
    batch = scenes(1)
    changed = numpy(make()(batch))
    assert_same({**changed, "image": batch["image"]}, batch)
    assert_same(numpy(make(0)(batch)), batch)
    grey = batch["image"][..., :1]
    assert keras.ops.convert_to_numpy(make()(grey)).shape == grey.shape


@pytest.mark.parametrize("make", [*APPEARANCE.values(), *GEOMETRY.values()], ids=[*APPEARANCE, *GEOMETRY])
def test_tensorflows_functions_do_what_those_of_keras_do(make):
    """What runs in `tf.data` under JAX and PyTorch, against what runs in a model."""

    class FixedTensorFlow(Fixed):
        def uniform(self, shape, low=0.0, high=1.0):
            return tf.constant(self.numbers(shape) * (high - low) + low, "float32")

        def normal(self, shape):
            return tf.ones(shape)

    tf = pytest.importorskip("tensorflow")
    batch, layer = scenes(2), make()
    for place in (0.3, 0.999999):
        found = {
            key: value.numpy() for key, value in layer.run(batch, True, TensorFlowOps(), FixedTensorFlow(place)).items()
        }
        expected = fixed(layer, batch, place)
        for key, value in expected.items():
            if key in ("mask", "masks"):  # a pixel in a thousand may lie on an edge, and sums are rounded differently
                assert (found[key] != value).mean() < 0.005, key
            elif key == "boxes" and found["masks"].shape == expected["masks"].shape:
                # A pixel that is the tip of an object moves its box by more than a pixel; the others must agree.
                same = (found["masks"] == expected["masks"]).all((2, 3))
                assert same.mean() > 0.75
                np.testing.assert_allclose(found[key][same], value[same], atol=1.01, err_msg=key)
            else:
                np.testing.assert_allclose(found[key], value, atol=1.01, err_msg=key)


def test_a_seed_decides_and_each_image_has_its_own():
    image = np.repeat(scenes(0)["image"][:1], 8, axis=0)

    def run(seed, times=1):
        layer = augmentation.augment("strong", seed=seed)
        return [keras.ops.convert_to_numpy(layer(image)) for _ in range(times)]

    first, second = run(3, 2)
    np.testing.assert_array_equal(first, run(3)[0])
    assert (first != second).any() and (first != run(4)[0]).any()
    assert len({picture.tobytes() for picture in first}) == 8


def test_probability_is_a_share_of_the_images():
    image = np.full((400, 4, 4, 3), 100, np.uint8)
    for layer in (
        augmentation.Brightness(0.5, probability=0.3, seed=0),
        augmentation.Noise(0.5, probability=0.3, seed=0),
    ):
        changed = (keras.ops.convert_to_numpy(layer(image)) != 100).any((1, 2, 3)).mean()
        assert 0.22 < changed < 0.38
    shifted = augmentation.Affine(translation=1, probability=0.3, seed=0)
    assert 0.22 < (keras.ops.convert_to_numpy(shifted(image)) != 100).any((1, 2, 3)).mean() < 0.38


@pytest.mark.parametrize("preset", augmentation.PRESETS)
def test_presets_on_everything(preset):
    layer, batch = augmentation.augment(preset, seed=0), scenes(3)
    check(numpy(layer(batch)), batch)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert_same(numpy(again(batch)), numpy(augmentation.augment(preset, seed=0)(batch)))


# geometry


def check(found, batch):
    """What holds after any move: padding is empty, boxes lie inside and hug their masks, mask values are old ones."""
    height, width = found["image"].shape[1:3]
    gone = found["labels"] == -1
    assert not found["ignored"][gone].any()
    assert not found["boxes"][gone].any() and not found["masks"][gone].any() and not found["keypoints"][gone].any()
    assert (found["boxes"] >= 0).all() and (found["boxes"] <= [width, height, width, height]).all()
    np.testing.assert_array_equal(found["boxes"], tight(found["masks"]))
    assert found["masks"][~gone].any((1, 2)).all()
    points = found["keypoints"]
    assert (points[..., :2] >= 0).all() and (points[..., 0] <= width).all() and (points[..., 1] <= height).all()
    assert not points[points[..., 2] == 0].any()
    assert set(np.unique(found["mask"])) <= {*np.unique(batch["mask"]), 255} and set(np.unique(found["masks"])) <= {
        0,
        1,
    }


@few
@given(seeds)
def test_flip_twice_is_identity(seed):
    batch = scenes(seed)
    for layer in (
        augmentation.Flip(1.0),
        augmentation.Flip(0, 1.0),
        augmentation.Flip(1.0, 1.0, keypoint_pairs=[(0, 1)]),
    ):
        once = numpy(layer(batch))
        check(once, batch)
        assert (once["image"] != batch["image"]).any()
        assert_same(numpy(layer(once)), batch, atol=1e-5)


def test_flip_by_hand():
    batch = scenes(5)
    found = numpy(augmentation.Flip(1.0)(batch))
    np.testing.assert_array_equal(found["image"], batch["image"][:, :, ::-1])
    np.testing.assert_array_equal(found["masks"], batch["masks"][..., ::-1])
    x1, y1, x2, y2 = batch["boxes"][0, 0]
    np.testing.assert_allclose(found["boxes"][0, 0], [WIDTH - x2, y1, WIDTH - x1, y2])
    paired = numpy(augmentation.Flip(1.0, keypoint_pairs=[(0, 1)])(batch))
    np.testing.assert_array_equal(paired["keypoints"], found["keypoints"][:, :, ::-1])


@few
@given(seeds)
def test_affine_moves_all_together(seed):
    batch = scenes(seed)
    found = numpy(augmentation.Affine(40, 0.5, 0.3, 20, seed=seed)(batch))
    check(found, batch)
    lost = (batch["labels"] >= 0) & (found["labels"] == -1)
    assert (found["labels"][~lost] == batch["labels"][~lost]).all()
    # An object and the class that stands in the semantic mask lie in the same place.
    for number, slot in zip(*np.nonzero(found["labels"] >= 0)):
        classes = found["mask"][number][found["masks"][number, slot] == 1]
        assert (classes == found["labels"][number, slot] + 1).all()


@few
@given(seeds)
def test_boxes_without_masks_are_those_of_the_masks_within_a_pixel(seed):
    batch = scenes(seed)
    for layer in (augmentation.Affine(scale=0.5, translation=0.3, seed=seed), augmentation.Crop((17, 21), seed=seed)):
        with_masks = numpy(layer.__class__.from_config(layer.get_config())(batch))
        batch_without = {key: value for key, value in batch.items() if key != "masks"}
        without = numpy(layer.__class__.from_config(layer.get_config())(batch_without))
        both = (with_masks["labels"] >= 0) & (without["labels"] >= 0)
        assert both.sum() >= (with_masks["labels"] >= 0).sum() - 1
        # An ellipse that is cut off has a box that ends before that of its cut box, so only whole ones are compared.
        height, width = with_masks["image"].shape[1:3]
        whole = both & (without["boxes"][..., :2] > 0).all(-1) & (without["boxes"][..., 2:] < [width, height]).all(-1)
        np.testing.assert_allclose(without["boxes"][whole], with_masks["boxes"][whole], atol=1.01)


@few
@given(seeds)
def test_turned_boxes_contain_their_masks_within_a_pixel(seed):
    batch = scenes(seed)
    layer = augmentation.Affine(60, shear=20, seed=seed)
    found = numpy(layer({key: value for key, value in batch.items() if key != "masks"}))
    tight_boxes = numpy(augmentation.Affine(60, shear=20, seed=seed)(batch))["boxes"]
    both = (found["labels"] >= 0) & tight_boxes.any(-1)
    assert (found["boxes"][both][:, :2] <= tight_boxes[both][:, :2] + 1).all()
    assert (found["boxes"][both][:, 2:] >= tight_boxes[both][:, 2:] - 1).all()


FLIP_AND_TURN = augmentation.Compose([augmentation.Flip(0.5, 0.5), augmentation.Affine(40, 0.3, 0.05, 15)], seed=0)


@few
@given(seeds)
def test_keypoints_move_with_their_pixels(seed):
    random = np.random.default_rng(seed)
    x, y = random.integers(10, 22), random.integers(8, 16)
    image = np.zeros((1, HEIGHT, WIDTH, 3), np.float32)
    image[0, y - 1 : y + 2, x - 1 : x + 2] = 200
    batch = {
        "image": image,
        "boxes": np.array([[[x - 1, y - 1, x + 2, y + 2]]], np.float32),
        "labels": np.zeros((1, 1), np.int32),
        "keypoints": np.array([[[[x + 0.5, y + 0.5, 2]]]], np.float32),
    }
    found = numpy(FLIP_AND_TURN(batch))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    near = np.hypot(columns - found["keypoints"][0, 0, 0, 0], rows - found["keypoints"][0, 0, 0, 1]) < 5
    weight = np.where(near & (found["image"][0, ..., 0] > 120), found["image"][0, ..., 0], 0)
    place = [(weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()]
    np.testing.assert_allclose(found["keypoints"][0, 0, 0, :2], place, atol=0.75)
    assert found["keypoints"][0, 0, 0, 2] == 2


def test_affine_at_strength_0_is_identity():
    batch = scenes(6)
    assert_same(numpy(augmentation.Affine()(batch)), batch)
    image = batch["image"]
    reflected = augmentation.Affine(edges="reflect")(image)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(reflected), image)


@pytest.mark.parametrize("edges, mode", [("grey", "grid-constant"), ("reflect", "reflect")])
def test_pixels_are_those_of_scipy(edges, mode):
    image = scenes(7)["image"].astype(np.float32)
    turn = np.deg2rad(25)
    linear = 1.2 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])  # of (x, y), corners
    offset = np.array([3.0, -4.0])
    maps = np.tile(np.r_[linear[0], offset[0], linear[1], offset[1]].astype(np.float32), (2, 1))
    found = keras.ops.convert_to_numpy(
        geometry.pull(keras.ops, *map(keras.ops.convert_to_tensor, (image, maps)), (20, 30), 114, edges, "bilinear")
    )
    matrix = linear[::-1, ::-1]  # of (row, column), and of centres
    shift = matrix @ [0.5, 0.5] + offset[::-1] - 0.5
    for number, channel in np.ndindex(2, 3):
        expected = ndimage.affine_transform(
            image[number, ..., channel], matrix, shift, (20, 30), order=1, mode=mode, cval=114
        )
        np.testing.assert_allclose(found[number, ..., channel], expected, atol=0.05)


def elastic_reference(image, vectors, order, mode, fill):
    """An image (H, W) bent by vectors (n, n, 2) at the nodes, by SciPy: the field as two cubic Hermite splines whose
    slopes are central differences, which is what Keys's kernel with a = -1/2 is on evenly spaced nodes.
    """
    nodes = np.arange(len(vectors))
    field = vectors.astype(float)
    for axis, side in enumerate(image.shape):
        ends = np.take(field, [0], axis), np.take(field, [-1], axis)
        framed = np.concatenate([ends[0], field, ends[1]], axis)
        slopes = (np.take(framed, nodes + 2, axis) - np.take(framed, nodes, axis)) / 2
        places = (np.arange(side) + 0.5) / side * (len(nodes) - 1)
        field = CubicHermiteSpline(nodes, field, slopes, axis=axis)(places)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    places = rows + field[..., 1], columns + field[..., 0]
    return ndimage.map_coordinates(image.astype(float), places, order=order, mode=mode, cval=fill)


@pytest.mark.parametrize("where", ["in a model", "in tf.data"])
@pytest.mark.parametrize("edges, mode", [("grey", "grid-constant"), ("reflect", "reflect")])
def test_elastic_deformation_is_that_of_scipy(edges, mode, where):
    if where == "in tf.data":
        pytest.importorskip("tensorflow")
    ops = TensorFlowOps() if where == "in tf.data" else keras.ops
    vectors = np.random.default_rng(9).normal(0, 4, (2, 4, 4, 2)).astype("float32")

    class Given:
        def uniform(self, shape, low=0.0, high=1.0):
            return ops.convert_to_tensor(np.full(shape, 0.5, "float32"))

        def normal(self, shape):
            assert tuple(shape) == vectors.shape
            return ops.convert_to_tensor(vectors / 4)

    batch = {"image": scenes(9)["image"].astype("float32"), "mask": scenes(9)["mask"]}
    layer = augmentation.Elastic(4.0, nodes=4, edges=edges)
    found = layer.run(batch, True, ops, Given())
    found = numpy(found) if ops is keras.ops else {key: value.numpy() for key, value in found.items()}
    assert np.abs(found["image"] - batch["image"]).max() > 50
    for number in range(2):
        for channel in range(3):
            expected = elastic_reference(batch["image"][number, ..., channel], vectors[number], 1, mode, 114)
            np.testing.assert_allclose(found["image"][number, ..., channel], expected, atol=0.1)
        expected = elastic_reference(batch["mask"][number], vectors[number], 0, mode, 255)
        assert np.mean(found["mask"][number] != expected) < 0.01  # places half-way between two pixels


def test_elastic_deformation_moves_image_and_mask_by_the_same_field():
    objects = (scenes(10)["mask"] > 0).astype("uint8")
    batch = {"image": np.repeat(255 * objects[..., None], 3, axis=-1), "mask": objects}
    found = numpy(augmentation.Elastic(5.0, seed=3)(batch))
    pixels = found["image"][..., 0]
    pure = (pixels == 0) | (pixels == 255)  # the others lie on an outline, and are mixtures
    np.testing.assert_array_equal(pixels[pure] // 255, found["mask"][pure])
    assert pure.mean() > 0.6
    assert np.mean(found["mask"] != objects) > 0.05
    assert np.mean(found["mask"] != numpy(augmentation.Elastic(5.0, seed=4)(batch))["mask"]) > 0.05
    single = numpy(augmentation.Elastic(5.0, seed=3)({key: value[0] for key, value in batch.items()}))
    assert single["mask"].shape == objects.shape[1:]
    still = numpy(augmentation.Elastic(5.0, seed=3)(batch, training=False))
    np.testing.assert_array_equal(still["image"], batch["image"])


def test_elastic_deformation_of_one_amount_everywhere_is_a_shift():
    batch = {key: scenes(11)[key] for key in ("image", "mask")}
    found = fixed(augmentation.Elastic(3.0), batch)  # all normal numbers are 1
    np.testing.assert_array_equal(found["image"][:, :-3, :-3], batch["image"][:, 3:, 3:])
    np.testing.assert_array_equal(found["mask"][:, :-3, :-3], batch["mask"][:, 3:, 3:])


def test_an_object_that_vanishes_becomes_padding_in_its_place():
    batch = scenes(8)
    batch["labels"][:] = [[1, 2, -1]] * 2
    # All moves right, so that only what lay in the left half stays; min_visible 1 lets nothing be cut.
    maps = np.tile(np.array([1, 0, WIDTH / 2, 0, 1, 0], np.float32), (2, 1))
    tensors = {key: keras.ops.convert_to_tensor(value) for key, value in batch.items()}
    tensors["image"] = keras.ops.cast(tensors["image"], "float32")
    for least in (0.0, 0.5, 1.0):
        found = numpy(
            geometry.move(keras.ops, tensors, keras.ops.convert_to_tensor(maps), (HEIGHT, WIDTH), "grey", least)
        )
        check(found, batch)
        seen = batch["masks"][..., : WIDTH // 2].sum((2, 3)) / np.maximum(batch["masks"].sum((2, 3)), 1)
        np.testing.assert_array_equal(found["labels"] >= 0, (batch["labels"] >= 0) & (seen > 0) & (seen >= least))
    all_gone = np.tile(np.array([1, 0, 2 * WIDTH, 0, 1, 0], np.float32), (2, 1))
    found = numpy(geometry.move(keras.ops, tensors, keras.ops.convert_to_tensor(all_gone), (HEIGHT, WIDTH)))
    assert (found["labels"] == -1).all() and (found["mask"] == 255).all() and (found["image"] == 114).all()
    assert not any(found[key].any() for key in ("boxes", "masks", "keypoints"))


def test_a_box_without_a_mask_keeps_to_its_box():
    batch = scenes(9)
    batch["masks"][:] = 0
    assert_same(numpy(augmentation.Affine()(batch)), batch)


def test_crop_cuts_a_piece_out():
    image = np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(1, HEIGHT, WIDTH, 1) % 251
    starts = set()
    layer = augmentation.Crop((20, 30), seed=0)
    for _ in range(30):
        piece = keras.ops.convert_to_numpy(layer(image))[0, ..., 0]
        (place,) = [(y, x) for y in range(5) for x in range(3) if (image[0, y : y + 20, x : x + 30, 0] == piece).all()]
        starts.add(place)
    assert {y for y, _ in starts} == set(range(5)) and {x for _, x in starts} == set(range(3))
    middle = keras.ops.convert_to_numpy(layer(image, training=False))
    np.testing.assert_array_equal(middle, image[:, 2:22, 1:31])
    larger = keras.ops.convert_to_numpy(augmentation.Crop((28, 32))(image))
    np.testing.assert_array_equal(larger[:, 2:26], image)
    assert (larger[:, :2] == 114).all() and (larger[:, 26:] == 114).all()
    assert layer.compute_output_shape((None, HEIGHT, WIDTH, 1)) == (None, 20, 30, 1)


def test_keras_random_crop_moves_boxes_along_the_wrong_axes():
    """Why `Crop` is our own: the row at which Keras cuts is taken from x, and the column from y."""
    box = np.array([[[10, 20, 14, 26]]], np.float32)
    layer = keras.layers.RandomCrop(16, 16, bounding_box_format="xyxy")
    boxes = {"boxes": keras.ops.convert_to_tensor(box), "labels": keras.ops.zeros((1, 1))}
    found = keras.ops.convert_to_numpy(layer.transform_bounding_boxes(boxes, (7, 2))["boxes"])  # row 7, column 2
    right, swapped = [8, 13, 12, 16], [3, 18, 7, 24]
    if np.allclose(found[0, 0], right):
        pytest.skip("this version of Keras has mended RandomCrop")
    np.testing.assert_allclose(found[0, 0], swapped)
    batch = {"image": np.zeros((1, 32, 32, 3), np.float32), "boxes": box, "labels": np.zeros((1, 1), np.int32)}
    batch = {key: keras.ops.convert_to_tensor(value) for key, value in batch.items()}
    cut = geometry.move(keras.ops, batch, keras.ops.convert_to_tensor([[1.0, 0, -2, 0, 1, -7]]), (16, 16))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(cut["boxes"])[0, 0], right)


# colour and quality against other people's code


def test_colour_as_pillow_has_it():
    image = scenes(10, 1)["image"][0]
    picture = Image.fromarray(image)
    for layer, expected in (
        (augmentation.Saturation(0.6), ImageEnhance.Color(picture).enhance(1.6)),
        (augmentation.Contrast(0.6), ImageEnhance.Contrast(picture).enhance(1.6)),
    ):
        np.testing.assert_allclose(fixed(layer, image).astype(float), np.asarray(expected), atol=2)
    brighter = fixed(augmentation.Brightness(0.2), image).astype(float)
    np.testing.assert_allclose(brighter, np.minimum(image + 51.0, 255), atol=1)


def test_hue_and_value_as_colorsys_has_them():
    image = scenes(11, 1)["image"][0, :4, :4]
    turned = fixed(augmentation.Hue(0.2), image)
    jittered = fixed(augmentation.HSVJitter(0.1, 0.5, 0.3), image)
    for row, column in np.ndindex(4, 4):
        h, s, v = colorsys.rgb_to_hsv(*(image[row, column] / 255))
        expected = np.multiply(colorsys.hsv_to_rgb(h + 0.2, s, v), 255)
        np.testing.assert_allclose(turned[row, column], expected, atol=1)
        expected = np.multiply(colorsys.hsv_to_rgb(h + 0.1, min(1.5 * s, 1), min(1.3 * v, 1)), 255)
        np.testing.assert_allclose(jittered[row, column], expected, atol=1.5)


def test_blur_as_scipy_has_it():
    image = scenes(12, 1)["image"][0].astype(np.float32)
    expected = ndimage.gaussian_filter(image, (2, 2, 0), mode="mirror", radius=(6, 6, 0))
    np.testing.assert_allclose(fixed(augmentation.Blur(2.0), image), expected, atol=0.1)


def test_noise_has_the_deviation_and_the_shares_asked_for():
    image = np.full((4, 40, 40, 3), 128, np.float32)
    assert abs(keras.ops.convert_to_numpy(fixed(augmentation.Noise(0.1), image)).mean() - 128 - 25.5) < 0.1
    random = KerasRandom(keras.random.SeedGenerator(0))
    salted = augmentation.SaltAndPepper(0.2)
    salted.draw = lambda image, t, random, low: 0.2
    found = numpy(salted.run({"image": image}, True, keras.ops, random))["image"]
    assert abs((found == 0).mean() - 0.1) < 0.02 and abs((found == 255).mean() - 0.1) < 0.02
    assert (found == found[..., :1]).all()


def test_cutout_covers_squares():
    image = np.full((50, 40, 60, 3), 9, np.float32)
    covered = keras.ops.convert_to_numpy(augmentation.Cutout(0.5, seed=0)(image))[..., 0] == 114
    boxes = tight(covered)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (covered.sum((1, 2)) == sides.prod(1)).all() and sides.max() == 20
    assert (sides == 20).all(1).mean() > 0.2  # a third lie inside


# several images in one


def test_mosaic_fills_four_corners():
    batch = scenes(13, count=4)
    shades = np.array([10, 70, 130, 190])
    batch["image"][:] = shades[:, None, None, None]
    found = numpy(augmentation.Mosaic(seed=2)(batch))
    check(found, batch)
    assert found["labels"].shape == (4, 12) and found["masks"].shape == (4, 12, HEIGHT, WIDTH)
    for number in range(4):
        picture = found["image"][number, ..., 0]
        assert picture[0, 0] == shades[number] and set(np.unique(picture)) <= {*shades}
        corners = [picture[0, 0], picture[0, -1], picture[-1, 0], picture[-1, -1]]
        for slot in np.nonzero(found["labels"][number] >= 0)[0]:
            assert (picture[found["masks"][number, slot] == 1] == corners[slot // 3]).all()
    assert (found["labels"] >= 0).sum() >= 4
    rest = numpy(augmentation.Mosaic()(batch, training=False))
    np.testing.assert_array_equal(rest["labels"][:, :3], batch["labels"])
    assert (rest["labels"][:, 3:] == -1).all()


@pytest.mark.parametrize("layer", [augmentation.MixUp, augmentation.CutMix])
def test_labels_are_mixed_as_the_pixels_are(layer):
    label = np.array([0, 1, 2, 0, 1, 2, 0, 1], np.int32)
    image = np.repeat(np.repeat(np.eye(3, dtype=np.float32)[label][:, None, None] * 255, 20, 1), 20, 2)
    found = numpy(layer(3, seed=1)({"image": image, "label": label}))
    assert found["label"].shape == (8, 3)
    np.testing.assert_allclose(found["label"], found["image"].mean((1, 2)) / 255, atol=1e-3)
    assert 0.05 < found["label"].max(1).mean() < 0.98
    rest = numpy(layer(3)({"image": image, "label": label}, training=False))
    np.testing.assert_array_equal(rest["label"], np.eye(3)[label])


def test_cutmix_takes_the_mask_along():
    mask = np.repeat(np.arange(4, dtype=np.uint8), 400).reshape(4, 20, 20)
    image = np.repeat(mask[..., None] * 50, 3, axis=-1)
    found = numpy(augmentation.CutMix(seed=0)({"image": image, "mask": mask}))
    np.testing.assert_array_equal(found["image"][..., 0], found["mask"] * 50)


# in a model, and in tf.data


def test_in_a_model():
    image = scenes(14, 8)["image"]
    layer = augmentation.Compose([augmentation.augment("strong"), augmentation.Rain(0.5)], seed=0)
    model = keras.Sequential(
        [keras.Input(image.shape[1:], dtype="uint8"), layer, keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    )
    assert model.layers[0].output.dtype == "uint8" and model.output_shape == (None, HEIGHT * WIDTH * 3)
    np.testing.assert_allclose(model.predict(image, verbose=0), image.reshape(8, -1) / 255, atol=1e-6)
    trained = keras.Sequential([*model.layers, keras.layers.Dense(1)])
    trained.compile("sgd", "mse", jit_compile=False if keras.backend.backend() == "torch" else "auto")
    assert np.isfinite(trained.fit(image, np.zeros((8, 1)), epochs=2, verbose=0).history["loss"]).all()


def test_dicts_in_a_functional_model():
    batch = scenes(15)
    inputs = {key: keras.Input(value.shape[1:], dtype=str(value.dtype), name=key) for key, value in batch.items()}
    layer = augmentation.Compose([augmentation.Crop(16), augmentation.Mosaic(), augmentation.Affine(5)], seed=0)
    outputs = layer(inputs)
    assert outputs["masks"].shape == (None, 12, 16, 16) and outputs["labels"].dtype == "int32"
    found = keras.Model(inputs, outputs).predict(batch, verbose=0)
    np.testing.assert_array_equal(found["image"], batch["image"][:, 4:20, 8:24])
    assert {key: value.shape for key, value in found.items()} == {
        key: (2, *value.shape[1:]) for key, value in outputs.items()
    }


def test_in_tf_data():
    tf = pytest.importorskip("tensorflow")
    batch = scenes(16, 6)
    batch["caption"] = np.array([b"a", b"b", b"c", b"d", b"e", b"f"])
    examples = tf.data.Dataset.from_tensor_slices(batch)
    layer = augmentation.Compose([augmentation.Flip(), augmentation.Affine(10, 0.2)], seed=0)
    for dataset in (examples.map(layer), examples.batch(3).map(layer).unbatch()):
        found = list(dataset.as_numpy_iterator())
        assert [example["caption"] for example in found] == batch["caption"].tolist()
        found = {key: np.stack([example[key] for example in found]) for key in batch}
        check(found, batch)
        assert (found["image"] != batch["image"]).any((1, 2, 3)).all()
    images = list(examples.map(lambda example: example["image"]).map(layer).as_numpy_iterator())
    assert images[0].shape == (HEIGHT, WIDTH, 3) and images[0].dtype == np.uint8
    assert not in_tf_data(tf.zeros(3)) and not in_tf_data(batch["image"])


def test_augmented_datasets_repeat_and_differ_by_epoch():
    tf = pytest.importorskip("tensorflow")
    batch = scenes(17, 6)
    examples = tf.data.Dataset.from_tensor_slices(batch)
    layer = augmentation.Compose([augmentation.Flip(), augmentation.Noise(0.2)])

    def epochs(seed, count=2):
        dataset = augmentation.augmented(examples.batch(3, drop_remainder=True), layer, seed=seed)
        return [np.concatenate([found["image"] for found in dataset.as_numpy_iterator()]) for _ in range(count)]

    first, second = epochs(1)
    again, same = epochs(1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(second, same)
    assert (first != second).any() and (first != epochs(2, 1)[0]).any()
    mosaic = augmentation.augmented(examples.batch(3, drop_remainder=True), augmentation.Mosaic())
    shapes = {key: tuple(spec.shape) for key, spec in mosaic.element_spec.items()}
    assert shapes["masks"] == (3, 12, HEIGHT, WIDTH) and shapes["image"] == (3, HEIGHT, WIDTH, 3)
    pairs = augmentation.augmented(examples, augmentation.Affine(5), target="mask")
    assert [tuple(spec.shape) for spec in pairs.element_spec] == [(HEIGHT, WIDTH, 3), (HEIGHT, WIDTH)]
    assert pairs.cardinality() == 6


# bad input


def test_bad_input_is_told_in_one_line():
    batch = scenes(18)
    image = batch["image"]

    def without(*keys):
        return {key: value for key, value in batch.items() if key not in keys}

    light = augmentation.augment("light")
    cases = [
        (lambda: light(without("image")), "a batch needs the key 'image', got 'mask', 'boxes'"),
        (lambda: light(image[0, 0]), "image must be (B, H, W, C) or (H, W, C), got shape (32, 3)"),
        (lambda: light(image[..., :2]), "image must have 1 or 3 channels, last, got shape (2, 24, 32, 2)"),
        (lambda: light({"image": image[0], "mask": batch["mask"]}), "mask must have 2 axes beside an image of 3"),
        (lambda: light(without("labels")), "boxes need boxes and labels beside them"),
        (lambda: augmentation.Affine(edges="reflect", seed=0)(batch), "edges='reflect' shows objects twice"),
        (lambda: augmentation.Affine(edges="wrap"), "edges must be 'grey' or 'reflect', got 'wrap'"),
        (lambda: augmentation.Affine(scale=(2, 1)), "scale must be a number or (low, high)"),
        (lambda: augmentation.Elastic(seed=0)(batch), "boxes, instance masks and keypoints cannot follow it"),
        (lambda: augmentation.Elastic(nodes=1), "nodes must be a whole number of at least 2, got 1"),
        (lambda: augmentation.Elastic(edges="wrap"), "edges must be 'grey' or 'reflect', got 'wrap'"),
        (lambda: augmentation.Affine(rotation=-3), "rotation must be a number from 0 to 180, got -3"),
        (lambda: augmentation.Brightness(2), "amount must be a number from 0 to 1.0, got 2"),
        (lambda: augmentation.Noise(0.1, probability="often"), "probability must be a number from 0 to 1, got 'often'"),
        (lambda: augmentation.Crop(0), "size must be a number of pixels or (height, width), got 0"),
        (lambda: augmentation.Mosaic()(image[0]), "Mosaic mixes the images of a batch: batch them first"),
        (lambda: augmentation.Mosaic()({"image": image, "label": np.zeros(2, np.int32)}), "Mosaic cannot mix label"),
        (
            lambda: augmentation.MixUp(3)(batch),
            "MixUp cannot mix boxes, ignored, keypoints, labels, mask, masks, only label",
        ),
        (lambda: augmentation.MixUp()({"image": image, "label": np.zeros(2, np.int32)}), "how many classes there are"),
        (lambda: augmentation.Mosaic()({**batch, "caption": np.array(["a", "b"])}), "Mosaic cannot mix caption"),
        (lambda: augmentation.augment("heavy"), "unknown preset 'heavy': known: light, strong, detection"),
        (lambda: augmentation.Compose([keras.layers.RandomFlip()]), "Compose takes layers of utils.data.augmentation"),
    ]
    for action, words in cases:
        with pytest.raises(ValueError) as error:
            action()
        assert words in str(error.value).replace("Exception encountered when calling", ""), words
