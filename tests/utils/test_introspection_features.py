"""Activations, patches, occlusion, Grad-CAM and the deconvnet of nets in which one can see the answer."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import arithmetic, introspection
from utils.layers import LocalResponseNormalization, MaxPoolingWithIndices, MaxUnpooling


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def small_net(pixels=12, seed=0, name="net"):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((pixels, pixels, 2)),
            layers.Conv2D(4, 3, padding="same", name="conv1"),
            layers.BatchNormalization(name="bn1"),
            layers.ReLU(name="relu1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(5, 3, activation="relu", name="conv2"),
            layers.GlobalAveragePooling2D(name="gap"),
            layers.Dense(3, activation="softmax", name="probabilities"),
        ],
        name=name,
    )


def nested_net():
    image = keras.Input((12, 12, 2))
    return keras.Model(image, layers.Dense(4, name="top")(keras.Sequential([small_net()], name="outer")(image)))


# Activations


@pytest.mark.parametrize("batch_size", [3, 32])
def test_activations_are_the_layers_outputs(batch_size):
    net, images = small_net(), random(5, 12, 12, 2)
    found = introspection.activations(net, images, ["relu1", "gap"], batch_size)
    assert list(found) == ["relu1", "gap"]
    expected = keras.Model(net.inputs[0], [net.get_layer("relu1").output, net.get_layer("gap").output])(images)
    for one, other in zip(found.values(), expected):
        np.testing.assert_allclose(one, ops.convert_to_numpy(other), atol=1e-5)
    assert np.array_equal(introspection.activations(net, images, "gap", batch_size), found["gap"])
    everything = introspection.activations(net, images[:2])
    assert list(everything) == [layer.name for layer in net.layers]


def test_activations_inside_a_nested_model():
    net, images = nested_net(), random(2, 12, 12, 2)
    inner = net.layers[1].layers[0]
    expected = ops.convert_to_numpy(keras.Model(inner.inputs[0], inner.get_layer("pool1").output)(images))
    for name in ("pool1", "outer/net/pool1"):
        np.testing.assert_allclose(introspection.activations(net, images, name), expected, atol=1e-5)
    assert list(introspection.activations(net, images))[:2] == ["outer/net/conv1", "outer/net/bn1"]


@pytest.mark.once
def test_a_name_that_is_not_there_gets_the_nearest_and_one_that_is_there_twice_gets_both():
    image = keras.Input((12, 12, 2))
    twice = keras.Model(image, layers.Add(name="sum")([small_net(name="a")(image), small_net(name="b")(image)]))
    with pytest.raises(ValueError, match="has no layer 'conv3'; it has: conv2, conv1"):
        introspection.activations(small_net(), random(1, 12, 12, 2), "conv3")
    with pytest.raises(ValueError, match="several layers 'conv1': a/conv1, b/conv1"):
        introspection.activations(twice, random(1, 12, 12, 2), "conv1")


# Top patches


def spot_net():
    """One channel is a 3x3 sum behind a 2x2 pool of stride 2, the other its negative."""
    net = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.MaxPooling2D(2, name="pool"),
            layers.Conv2D(2, 3, use_bias=False, name="conv"),
        ]
    )
    net.set_weights([np.stack([np.ones((3, 3, 1)), -np.ones((3, 3, 1))], axis=-1)])
    return net


def test_top_patches_are_the_receptive_fields_of_the_best_units():
    images = np.zeros((4, 12, 12, 1), "uint8")
    for number, (row, column, value) in enumerate([(0, 0, 10), (5, 7, 200), (11, 11, 90)]):
        images[number, row, column] = value
    found = introspection.top_patches(spot_net(), images, "conv", 0, k=3)
    assert found.indices.tolist() == [1, 2, 0] and found.values.tolist() == [200, 90, 10]
    assert found.patches.shape == (3, 6, 6, 1) and found.patches.dtype == np.uint8
    for patch, box, index in zip(found.patches, found.boxes, found.indices):
        left, top, right, bottom = box
        assert (right - left, bottom - top) == (6, 6) and np.array_equal(patch, images[index, top:bottom, left:right])
        assert patch.max() == images[index].max(), "the spot lies in what the unit sees"
    one, other = introspection.top_patches(spot_net(), images, "conv", [0, 1], k=2)
    assert np.array_equal(one.patches, found.patches[:2]) and other.values.tolist() == [0, 0]


def test_a_field_that_hangs_over_the_edge_is_filled():
    net = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(1, 3, padding="same", use_bias=False, name="conv")])
    net.set_weights([np.ones((3, 3, 1, 1))])
    image = np.full((1, 8, 8, 1), 7.0)
    image[0, 7, 7] = 500  # seen by four units; the one in the corner misses five pixels
    image[0, 6:, 6:] += 100
    image[0, :6] = image[0, :, :6] = -50
    found = introspection.top_patches(net, image, "conv", 0)
    assert found.places.tolist() == [[7, 7]] and found.boxes.tolist() == [[6, 6, 9, 9]]
    assert found.patches[0, ..., 0].tolist() == [[107, 107, 0], [107, 600, 0], [0, 0, 0]]
    assert found.crop(2 * image)[0, 1, 1, 0] == 1200
    with pytest.raises(ValueError, match="1 patches, but 2 images"):
        found.crop(np.concatenate([image, image]))


def test_patches_of_a_layer_that_sees_everything_are_whole_images():
    images = random(3, 12, 12, 2)
    found = introspection.top_patches(small_net(), images, "probabilities", 1, k=2)
    assert np.array_equal(found.patches, images[found.indices]) and found.boxes.tolist() == [[0, 0, 12, 12]] * 2
    with pytest.raises(ValueError, match="has 3 channels, there is no channel 3"):
        introspection.top_patches(small_net(), images, "probabilities", 3)


# Occlusion


def corner_net():
    """Class 1 is sure where the upper left quarter is bright, class 2 where the lower right is, and more so; class 0
    else.
    """
    net = keras.Sequential([keras.Input((8, 8, 1)), layers.AveragePooling2D(4), layers.Flatten(), layers.Dense(3)])
    net.set_weights(
        [np.array([[0, 10, 0], [0, 0, 0], [0, 0, 0], [0, 0, 4]], "float32"), np.array([2, 0, 0], "float32")]
    )
    return net


@pytest.mark.parametrize("ending", [None, "softmax"])
@pytest.mark.parametrize("batch_size", [4, 64])
def test_the_drop_is_where_the_patch_that_matters_is_hidden(ending, batch_size):
    net = corner_net() if ending is None else keras.Sequential([keras.Input((8, 8, 1)), corner_net(), layers.Softmax()])
    image = np.zeros((1, 8, 8, 1), "float32")
    image[0, :4, :4] = image[0, 4:, 4:] = 1
    found = introspection.occlusion(net, image, size=4, stride=4, value=0, batch_size=batch_size)
    assert found.classes.tolist() == [1] and found.tops.tolist() == found.lefts.tolist() == [0, 4]

    def probability(logits):
        return np.exp(logits)[1] / np.exp(logits).sum()

    np.testing.assert_allclose(found.plain, [probability([2, 10, 4])], rtol=1e-5)
    expected = [[probability([2, 0, 4]), probability([2, 10, 4])], [probability([2, 10, 4]), probability([2, 10, 0])]]
    np.testing.assert_allclose(found.probability[0], expected, rtol=1e-5)
    assert found.winner[0].tolist() == [[2, 1], [1, 1]], "hide the one, and the other class wins"
    per_pixel = found.per_pixel()
    assert per_pixel.shape == (1, 8, 8)
    np.testing.assert_allclose(per_pixel[0, :4, :4], expected[0][0], rtol=1e-5)


def test_positions_reach_the_edge_and_each_image_has_its_own_class_and_colour():
    images = np.zeros((2, 8, 8, 1), "float32")
    images[0, :4, :4] = images[1, 4:, 4:] = 1
    found = introspection.occlusion(corner_net(), images, [1, 2], size=3, stride=2)
    assert found.tops.tolist() == [0, 2, 4, 5] and found.probability.shape == (2, 4, 4)
    assert not np.isnan(found.per_pixel()).any()
    alone = introspection.occlusion(corner_net(), images[1:], 2, size=3, stride=2)
    np.testing.assert_allclose(found.probability[1], alone.probability[0], rtol=1e-5)
    grey = introspection.occlusion(corner_net(), images[1:], 2, size=3, stride=2, value=0.25)
    np.testing.assert_allclose(grey.probability, alone.probability, rtol=1e-5, err_msg="the mean colour is .25")
    with pytest.raises(ValueError, match="a square of 9 at stride 8 does not fit images of 8 x 8"):
        introspection.occlusion(corner_net(), images, size=9)


# Grad-CAM


def channel_net():
    """Class 0 depends on the mean of channel 0 alone, class 1 on that of 1, class 2 on minus that of 0."""
    image = keras.Input((8, 8, 2))
    maps = layers.AveragePooling2D(2, name="maps")(image)
    scores = layers.Dense(3, use_bias=False, name="scores")(layers.GlobalAveragePooling2D(name="mean")(maps))
    net = keras.Model(image, layers.Softmax()(scores))
    net.get_layer("scores").set_weights([np.array([[3, 0, -1], [0, 5, 0]], "float32")])
    return net


@pytest.mark.parametrize("nested", [False, True])
def test_grad_cam_shows_the_channel_that_the_class_depends_on(nested):
    net = channel_net()
    if nested:
        net = keras.Sequential([keras.Input((8, 8, 2)), layers.Rescaling(1.0), net])
    images = np.abs(random(3, 8, 8, 2))
    maps = images.reshape(3, 4, 2, 4, 2, 2).mean(axis=(2, 4))
    found = introspection.grad_cam(net, images, [0, 1, 2], layer="maps", upsample=False, batch_size=2)
    # The gradient of the mean of 16 places is 1 / 16 at each.
    np.testing.assert_allclose(found[0], 3 / 16 * maps[0, ..., 0], rtol=1e-4)
    np.testing.assert_allclose(found[1], 5 / 16 * maps[1, ..., 1], rtol=1e-4)
    assert not found[2].any(), "what speaks against a class is cut off"
    large = introspection.grad_cam(net, images, [0, 1, 2])
    assert large.shape == (3, 8, 8)
    np.testing.assert_allclose(large[0, 0, 0], found[0, 0, 0], rtol=1e-4)
    assert np.corrcoef(large[0].reshape(4, 2, 4, 2).mean(axis=(1, 3)).ravel(), found[0].ravel())[0, 1] > 0.9


def test_grad_cam_wants_maps():
    with pytest.raises(ValueError, match="layer 'mean' has no maps"):
        introspection.grad_cam(channel_net(), random(1, 8, 8, 2), layer="mean")
    flat = keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="no layer with maps"):
        introspection.grad_cam(flat, random(1, 2, 2, 1))


# Deconvnet


def test_the_deconvnet_of_a_linear_net_is_its_transpose():
    kernels = random(3, 3, 2, 4, seed=1), random(3, 3, 4, 3, seed=2)
    net = keras.Sequential(
        [
            keras.Input((9, 9, 2)),
            layers.Conv2D(4, 3, 2, use_bias=True, name="one"),
            layers.Conv2D(3, 3, use_bias=True, name="two"),
        ]
    )
    net.set_weights([kernels[0], random(4), kernels[1], random(3)])
    first = arithmetic.convolution_matrix(kernels[0], (9, 9, 2), s=2)
    second = arithmetic.convolution_matrix(kernels[1], (4, 4, 4))
    images = random(2, 9, 9, 2)
    found = introspection.deconvnet(net, images, "two", 1, place=(1, 0))
    values = introspection.activations(net, images, "two")[:, 1, 0, 1]
    unit = np.zeros((2, 2, 3))
    unit[1, 0, 1] = 1
    pattern = (first.T @ second.T @ unit.ravel()).reshape(9, 9, 2)
    np.testing.assert_allclose(found, values[:, None, None, None] * pattern, atol=1e-4)
    strongest = introspection.activations(net, images, "two")[..., 1].reshape(2, -1).argmax(axis=1)
    best = introspection.deconvnet(net, images, "two", 1)
    for one, image, place in zip(best, images, strongest):
        alone = introspection.deconvnet(net, image[None], "two", 1, place=divmod(int(place), 2))
        np.testing.assert_allclose(one, alone[0], atol=1e-5)


def test_the_way_back_step_by_step():
    """A net of every kind of layer, against the way back written out: unpool by the switches, rectify, transpose."""
    keras.utils.set_random_seed(3)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3, padding="same", name="conv1"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(),
            LocalResponseNormalization(3, alpha=0.5),
            layers.MaxPooling2D(2, name="pool"),
            layers.Dropout(0.5),
            layers.Conv2D(2, 3, activation="relu", name="conv2"),
        ]
    )
    scale, variance = np.array([2, -1, 0.5], "float32"), np.array([1, 4, 9], "float32")
    net.get_layer("bn").set_weights([scale, random(3), random(3, seed=5), variance])
    net.get_layer("conv2").bias.assign([2, 2])  # units that are silent would teach nothing
    images = random(3, 8, 8, 1)
    names = [layer.name for layer in net.layers]
    maps = introspection.activations(net, images, [names[3], "conv2"])
    found = introspection.deconvnet(net, images, "conv2", 1, place=(0, 1))

    seed = np.zeros((3, 2, 2, 2), "float32")
    seed[:, 0, 1, 1] = maps["conv2"][:, 0, 1, 1]
    assert seed.any(axis=(1, 2, 3)).all()
    kernel2, kernel1 = net.get_layer("conv2").get_weights()[0], net.get_layer("conv1").get_weights()[0]
    back = np.einsum("nijk,rsck->nijrsc", np.maximum(seed, 0), kernel2)
    down = np.zeros((3, 4, 4, 3), "float32")
    for i in range(2):
        for j in range(2):
            down[:, i : i + 3, j : j + 3] += back[:, i, j]
    _, switches = MaxPoolingWithIndices()(maps[names[3]])
    up = np.maximum(ops.convert_to_numpy(MaxUnpooling()(down, switches)), 0)
    up = up * scale / np.sqrt(variance + net.get_layer("bn").epsilon)
    matrix = arithmetic.convolution_matrix(kernel1, (8, 8, 1), p="same")
    expected = (up.reshape(3, -1) @ matrix).reshape(3, 8, 8, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_has_no_way_back_is_named_and_what_is_behind_does_not_count():
    image = keras.Input((6, 6, 2))
    one = layers.Conv2D(3, 3, name="one")(image)
    gate = layers.Conv2D(3, 3, activation="sigmoid", name="gate")(image)
    product = layers.Multiply(name="product")([one, gate])
    net = keras.Model(image, layers.Dense(2, activation="softmax", name="top")(layers.Flatten()(product)))
    images = random(1, 6, 6, 2)
    assert introspection.deconvnet(net, images, "one", 0).shape == images.shape
    with pytest.raises(ValueError, match=r"no way back through layer 'gate' \(Conv2D\)"):
        introspection.deconvnet(net, images, "product", 0)
    with pytest.raises(ValueError, match="there is no channel 3"):
        introspection.deconvnet(net, images, "one", 3)
    with pytest.raises(ValueError, match="4 x 4 places, there is no place"):
        introspection.deconvnet(net, images, "one", 0, place=(4, 0))
    flat = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Flatten(), layers.Dense(2, activation="softmax", name="top")]
    )
    found = introspection.deconvnet(flat, images, "top", 1)
    kernel = flat.get_weights()[0][:, 1]
    np.testing.assert_allclose(found.ravel(), kernel * flat.predict(images, verbose=0)[0, 1], atol=1e-5)
