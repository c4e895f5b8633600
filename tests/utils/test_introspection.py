"""Gradients by one step of ascent, against gradients known by hand; the effective receptive field of chains that can be
counted.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import arithmetic, introspection


def linear_chain(pixels=9, seed=1):
    kernels = np.random.default_rng(seed).normal(size=(2, 3, 3, 1, 1))
    model = keras.Sequential(
        [keras.Input((pixels, pixels, 1)), *(layers.Conv2D(1, 3, use_bias=False) for _ in range(2))]
    )
    model.set_weights(list(kernels))
    return model, kernels[..., 0, 0]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_gradient_of_a_linear_chain_is_its_kernel(batch_size):
    model, (first, second) = linear_chain()
    images = np.random.default_rng(0).normal(size=(5, 9, 9, 1))
    found = introspection.gradients(lambda x: model(x)[:, 2, 2], images, batch_size)
    expected = np.zeros((9, 9))
    expected[2:7, 2:7] = arithmetic.conv2d_transpose(second, first)
    assert found.shape == images.shape
    np.testing.assert_allclose(found[..., 0], np.broadcast_to(expected, (5, 9, 9)), atol=1e-5)


def test_each_image_has_the_gradient_at_its_own_pixels():
    images = np.arange(12.0).reshape(3, 4)
    found = introspection.gradients(lambda x: ops.sum(x**2, axis=-1), images, batch_size=2)
    np.testing.assert_allclose(found, 2 * images, rtol=1e-6)


def test_weights_and_running_statistics_stay():
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.BatchNormalization(), layers.ReLU()])
    before = model.get_weights()
    introspection.effective_receptive_field(model, inputs=4)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert [layer.trainable for layer in model.layers] == [True] * 3


def test_no_images_no_gradients():
    assert introspection.gradients(lambda x: x, np.zeros((0, 4))).shape == (0, 4)


def test_field_of_a_linear_chain_is_the_size_of_its_kernel():
    model, (first, second) = linear_chain()
    field = introspection.effective_receptive_field(model, inputs=2)
    expected = np.zeros((9, 9))
    expected[2:7, 2:7] = np.abs(arithmetic.conv2d_transpose(second, first))
    np.testing.assert_allclose(field, expected / expected.sum(), atol=1e-6)


def test_field_of_an_inner_layer_is_its_own():
    model, (first, _) = linear_chain()
    field = introspection.effective_receptive_field(model, layer=model.layers[0].name, inputs=1)
    np.testing.assert_allclose(field[3:6, 3:6], np.abs(first) / np.abs(first).sum(), atol=1e-6)
    assert (field > 0).sum() == 9


def test_field_depends_on_the_seed_alone():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(1, 3)])
    first, again, other = (introspection.effective_receptive_field(model, inputs=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_allclose(first, again, rtol=1e-5)
    assert np.abs(first - other).max() > 1e-6


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (keras.Sequential([keras.Input((None, 8, 1)), layers.Conv2D(1, 3)]), {}, "build it for a fixed size"),
        (keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)]), {}, "has no places"),
        (keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(1, 3)]), {"inputs": 0}, "at least 1, got 0"),
        (
            keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(1, 3, kernel_initializer="zeros")]),
            {},
            "0 everywhere",
        ),
    ],
)
def test_what_has_no_field(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        introspection.effective_receptive_field(model, **arguments)
