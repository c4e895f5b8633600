"""Backbones: which map stands for a level, what becomes of the pixels, and that they live on inside other models."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import architectures, backbones, pretrained
from utils.backbones import backbone, maps

once = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="shapes, counted with TensorFlow")


def names_of(model):
    return {level: x._keras_history.operation.name for level, x in maps(model).items()}


def picture(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# Which map stands for a level


# Of LeNet's borders, without padding, see below.
FAMILIES = sorted({architectures.describe(name).family for name in architectures.names()} - {"lenet"})
FIRST = [architectures.names(family)[0] for family in FAMILIES]


@once
@pytest.mark.parametrize("name", FIRST)
def test_every_level_has_a_map_of_its_size(name):
    """About the image's size divided by 2^level, for one net of each family."""
    model = architectures.outline(name, include_top=False)
    size, found = model.input_shape[1], maps(model)
    assert list(found) == sorted(found) and len(found) >= 2
    for level, x in found.items():
        assert x.shape[1] == x.shape[2] and abs(x.shape[1] - size / 2**level) <= max(4, 0.1 * size / 2**level)


@once
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg16", {3: "conv4_3_relu", 4: "conv5_3_relu", 5: "pool5"}),
        # The first block of a stage has its stride in the second convolution: the first one is a map of the old stride,
        # and no level's.
        (
            "resnet50",
            {2: "stage2_block3_relu", 3: "stage3_block4_relu", 4: "stage4_block6_relu", 5: "stage5_block3_relu"},
        ),
        (
            "resnet34",
            {2: "stage2_block3_relu", 3: "stage3_block4_relu", 4: "stage4_block6_relu", 5: "stage5_block3_relu"},
        ),
        ("wrn_16_4", {0: "stage2_block1_relu1", 1: "stage3_block1_relu1"}),
        # SSDLite's: the expansion of layer 15 (here stage 6, block 1) with stride 16.
        ("mobilenet_v2", {4: "stage6_block1_expand_relu6"}),
        # Drop-path's choices are no map, though they lead past all of them.
        ("fractalnet20", {0: "stage1_join4", 4: "stage5_join4"}),
    ],
)
def test_the_last_map_of_a_stride_that_no_branch_goes_around(name, expected):
    found = names_of(architectures.outline(name, include_top=False))
    assert {level: found[level] for level in expected} == expected


@once
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "ResNet50",
            {
                1: "conv1_relu",
                2: "conv2_block3_out",
                3: "conv3_block4_out",
                4: "conv4_block6_out",
                5: "conv5_block3_out",
            },
        ),
        ("MobileNetV2", {1: "block_1_expand_relu", 4: "block_13_expand_relu", 5: "out_relu"}),
        # Keras gives the last block of a stage the stride, and its shortcut a pool: the sum before it is the stage's
        # last map.
        ("ResNet50V2", {2: "conv2_block2_out", 3: "conv3_block3_out", 4: "conv4_block5_out"}),
        # Rescaling, normalisation and padding stand before the first convolution: no level 0.
        ("EfficientNetB0", {1: "block2a_expand_activation", 5: "top_activation"}),
    ],
)
def test_the_same_rule_for_keras_applications(name, expected):
    model = architectures.outline(lambda: pretrained.imagenet(name, weights=None))
    found = names_of(model)
    assert {level: found[level] for level in expected} == expected
    assert list(found) == [1, 2, 3, 4, 5]


def test_borders_without_padding_do_not_count_as_a_stride():
    found = maps(architectures.build("lenet5"))
    assert [found[level].shape[1:] for level in (0, 1, 2, 4)] == [(28, 28, 6), (10, 10, 16), (5, 5, 16), (1, 1, 120)]


def test_a_classifier_keeps_its_head_out_and_several_outputs_count_by_the_last():
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", name="one")(image)
    y = layers.Conv2D(5, 3, 2, padding="same", name="two")(x)
    z = layers.Dense(3)(layers.GlobalAveragePooling2D()(y))
    assert names_of(keras.Model(image, z)) == names_of(keras.Model(image, [x, y])) == {0: "one", 1: "two"}
    assert names_of(keras.Model(image, [y, x])) == {0: "one"}


def test_the_nodes_are_the_models_own_where_a_layer_is_called_twice():
    """A layer that was called elsewhere before gives another tensor there; the map must hang on this model's image."""
    shared = layers.Conv2D(4, 3, 2, padding="same", name="shared")
    shared(layers.Input((None, None, 3)))
    image = layers.Input((8, 8, 3))
    body = backbone(keras.Model(image, layers.ReLU(name="relu")(shared(image))), (8, 8, 3), [1])
    assert body.predict_on_batch(picture(1, 8, 8, 3)).shape == (1, 4, 4, 4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: keras.Sequential([layers.Conv2D(2, 3)]), "is not a functional or built Sequential"),
        (lambda: keras.Model(two := [layers.Input((4, 4, 1)), layers.Input((4, 4, 1))], two[0] + two[1]), "one image"),
        (lambda: keras.Sequential([layers.Input((4,)), layers.Dense(2)]), "gives no map of its image"),
    ],
)
def test_a_model_without_maps_is_told(model, message):
    with pytest.raises(ValueError, match=message):
        maps(model())


# The backbone


def test_maps_come_from_the_networks_own_weights_behind_the_preprocessing():
    keras.utils.set_random_seed(0)
    body = backbone("resnet18", (None, None, 3), [2, 3], width=0.125)
    assert body.name == "backbone" and body.levels == [2, 3]
    image = picture(2, 32, 64, 3)
    found = body.predict_on_batch(image)
    assert [x.shape for x in found] == [(2, 8, 16, 8), (2, 4, 8, 16)]
    inner = body.get_layer("resnet18")
    # Cut by name, without the rule, and pixels by hand.
    stage = keras.Model(inner.inputs[0], inner.get_layer("stage3_block2_relu").output)
    np.testing.assert_allclose(found[1], stage.predict_on_batch(image / 127.5 - 1), rtol=1e-5, atol=1e-5)


def test_all_levels_are_given_when_none_are_named():
    assert backbone("small", (None, None, 3)).levels == [0, 1, 2]
    assert backbone("resnet18", (64, 64, 3), width=0.125).levels == [1, 2, 3, 4, 5]


@once
def test_networks_of_keras_applications():
    mobile = architectures.outline(lambda: backbone("MobileNetV2", (96, 96, 3), alpha=0.35))
    assert mobile.levels == [1, 2, 3, 4, 5]
    assert [x.shape[1] for x in mobile.outputs] == [48, 24, 12, 6, 3]


@pytest.mark.parametrize(
    ("name", "module"), [("resnet50", "resnet50"), ("mobilenet_v2", "mobilenet_v2"), ("densenet121", "densenet")]
)
def test_pixels_for_imagenet_weights_are_those_of_keras(name, module):
    image = layers.Input((4, 4, 3))
    model = keras.Model(image, backbones.preprocessed(image * 1, name))
    pixels = picture(1, 4, 4, 3).astype("float32")
    expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    np.testing.assert_allclose(model.predict_on_batch(pixels), expected, atol=1e-3)


@pytest.mark.parametrize("name", [None, "mobilenet_v3_small", "resnet18"])
def test_without_imagenet_weights_of_its_own_pixels_reach_from_minus_one_to_one(name):
    image = layers.Input((1, 2, 1 if name is None else 3))
    model = keras.Model(image, backbones.preprocessed(image, name))
    pixels = np.broadcast_to(np.array([0, 255], "float32")[None, None, :, None], (1, 1, 2, image.shape[-1]))
    np.testing.assert_allclose(model.predict_on_batch(pixels)[0, 0, :, 0], [-1, 1], atol=1e-6)


def test_the_glyphs_weights_are_trained_and_see_colour_as_grey():
    grey = picture(1, 16, 16, 1)
    expected = pretrained.load("glyphs").predict_on_batch(grey)
    body = backbone("glyphs", (None, None, 3), [2])
    np.testing.assert_allclose(body.predict_on_batch(np.repeat(grey, 3, axis=-1)), expected, atol=1e-3)


# A model of one's own


def own(kind):
    image = layers.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="one")(x)
    y = layers.Conv2D(5, 3, 2, padding="same", activation="relu", name="two")(x)
    if kind == "sequential":
        return keras.Sequential([layers.Input((None, None, 3)), *keras.Model(image, y).layers[1:]])
    if kind == "with a head":
        return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(y)))
    return keras.Model(image, y)


@pytest.mark.parametrize("kind", ["functional", "sequential", "with a head"])
def test_a_model_of_ones_own_is_saved_and_loaded_inside_another(kind, tmp_path):
    given = own(kind)
    body = backbone(given, (None, None, 3), levels=[1, 2])
    assert body.get_layer("one") is given.get_layer("one")
    image = layers.Input((None, None, 3), name="image")
    low, high = body(image)
    outer = keras.Model(image, [layers.Conv2D(2, 1, name="head")(high), low])
    x = picture(1, 12, 8, 3)
    expected = outer.predict_on_batch(x)
    np.testing.assert_allclose(expected[1], body.predict_on_batch(x)[0], atol=1e-5)
    outer.save(tmp_path / "outer.keras")
    copy = keras.models.load_model(tmp_path / "outer.keras")
    for a, b in zip(copy.predict_on_batch(x), expected):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((7, (32, 32, 1)), {}, "no backbone 7"),
        (("vgg99", (32, 32, 3)), {}, "no backbone 'vgg99'"),
        (("MobileNetV2", (32, 32, 1)), {}, "colour images"),
        (("small", (32, 32, 3), [0, 5]), {}, "has no map of level 5"),
        (("small", (32, 32, 3), []), {}, "at least one level of 0, 1, 2"),
        (("small", (32, 32, 3)), {"weights": "imagenet"}, "has its weights"),
        (("glyphs", (32, 32, 3)), {"width": 2}, "has no option 'width'"),
        (("glyphs", (32, 32, 4)), {}, "takes images of 1 channels, not 4"),
    ],
)
def test_backbone_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        backbone(*arguments, **options)


def test_a_model_for_other_channels_is_refused():
    with pytest.raises(ValueError, match="takes images of 3 channels, not 1"):
        backbone(own("functional"), (8, 8, 1))


def test_gradients_reach_every_weight_of_the_levels_in_use():
    body = backbone("resnet18", (32, 32, 3), [3, 4], width=0.125)
    image = layers.Input((32, 32, 3))
    maps = body(image)
    model = keras.Model(image, ops.sum(maps[0]) + layers.Dense(1)(layers.GlobalAveragePooling2D()(maps[1])))
    assert {id(w) for w in model.trainable_weights} > {id(w) for w in body.trainable_weights}
