"""Layers that Keras lacks, against PyTorch's values, against slow versions in NumPy, and by hand."""

import keras
import numpy as np
import pytest
from keras import layers as keras_layers
from keras import ops
from scipy.ndimage import map_coordinates

from utils import arithmetic, introspection, layers


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def slow_pooling(x, size, strides, padding):
    """Max pooling window by window; places are row * W + column of the image without its padding."""
    _, height, width, _ = x.shape
    (f, g), (s, t) = size, strides
    if padding == "same":
        rows, columns = -(-height // s), -(-width // t)
        top = max((rows - 1) * s + f - height, 0) // 2
        left = max((columns - 1) * t + g - width, 0) // 2
    else:
        rows, columns, top, left = (height - f) // s + 1, (width - g) // t + 1, 0, 0
    pooled = np.zeros((len(x), rows, columns, x.shape[-1]), x.dtype)
    places = np.zeros(pooled.shape, int)
    for b, i, j, c in np.ndindex(pooled.shape):
        inside = [
            (row, column)
            for row in range(i * s - top, i * s - top + f)
            for column in range(j * t - left, j * t - left + g)
            if 0 <= row < height and 0 <= column < width
        ]
        row, column = max(inside, key=lambda at: x[b, at[0], at[1], c])
        pooled[b, i, j, c], places[b, i, j, c] = x[b, row, column, c], row * width + column
    return pooled, places


# Local response normalisation


@pytest.mark.parametrize("case", ["c0_lrn5", "c0_lrn3"])
@pytest.mark.parametrize(("form", "average"), [("paper", False), ("torch", True)])
def test_response_normalisation_is_that_of_the_paper_and_of_pytorch(golden, case, form, average):
    values = golden("normalisation.npz")
    size, alpha, beta, k = values[f"{case}_n_alpha_beta_k"]
    layer = layers.LocalResponseNormalization(int(size), alpha, beta, k, average=average)
    found = numpy_of(layer(values[f"{case}_x"]))
    np.testing.assert_allclose(found, values[f"{case}_y_{form}"], rtol=1e-5, atol=1e-5)


def test_response_normalisation_by_hand():
    # Two channels of 3 and 4, a window of 3: both see 9 + 16 = 25, and are divided by the root of 11 + 25.
    found = layers.LocalResponseNormalization(3, alpha=1, beta=0.5, k=11)(np.array([[[[3.0, 4.0]]]], "float32"))
    np.testing.assert_allclose(numpy_of(found), [[[[3 / 6, 4 / 6]]]], rtol=1e-6)
    found = layers.LocalResponseNormalization(3, alpha=3, beta=0.5, k=11, average=True)(np.array([[3.0, 4.0]]))
    np.testing.assert_allclose(numpy_of(found), [[0.5, 4 / 6]], rtol=1e-6)


def test_default_constants_are_those_of_the_paper():
    layer = layers.LocalResponseNormalization()
    assert (layer.size, layer.alpha, layer.beta, layer.k, layer.average) == (5, 1e-4, 0.75, 2.0, False)


def test_the_two_forms_differ_by_the_size():
    x = random(1, 2, 2, 8) * 20
    one = layers.LocalResponseNormalization(5, alpha=5e-4, average=True)(x)
    np.testing.assert_allclose(numpy_of(one), numpy_of(layers.LocalResponseNormalization(5, alpha=1e-4)(x)), rtol=1e-6)


# Max pooling with indices


@pytest.mark.parametrize("case", ["c0_backward", "c0_backward_ties", "c0_backward_constant", "c0_backward_stride2"])
def test_pooling_indices_and_gradient_are_pytorchs(golden, case):
    values = golden("pooling.npz")
    x, dy = values[f"{case}_x"][None, ..., None], values[f"{case}_dy"][None, ..., None]
    size, strides = (2, 2) if case.endswith("stride2") else (3, 1)
    pooled, indices = map(numpy_of, layers.MaxPoolingWithIndices(size, strides)(x))
    assert np.array_equal(pooled[0, ..., 0], values[f"{case}_y"])
    assert np.array_equal(indices[0, ..., 0], values[f"{case}_indices"])
    assert indices.dtype == np.int32
    found = introspection.gradients(lambda x: ops.multiply(layers.MaxPoolingWithIndices(size, strides)(x)[0], dy), x)
    np.testing.assert_allclose(found[0, ..., 0], values[f"{case}_dx"], atol=1e-6)
    back = numpy_of(layers.MaxUnpooling(size, strides, output_size=x.shape[1:3])(dy, indices))
    np.testing.assert_allclose(back[0, ..., 0], values[f"{case}_dx"], atol=1e-6, err_msg="unpooling is the transpose")


@pytest.mark.parametrize("case", ["c0_unpool_even", "c0_unpool_odd"])
def test_unpooling_is_pytorchs(golden, case):
    values = golden("pooling.npz")
    x, indices = values[f"{case}_x"], values[f"{case}_indices"]
    pooled, found = map(numpy_of, layers.MaxPoolingWithIndices(2)(x))
    assert np.array_equal(pooled, values[f"{case}_pooled"]) and np.array_equal(found, indices)
    assert np.array_equal(numpy_of(layers.MaxUnpooling()(pooled, indices, x)), values[f"{case}_unpooled"])
    unpooling = layers.MaxUnpooling(output_size=x.shape[1:3])
    assert np.array_equal(numpy_of(unpooling(values[f"{case}_values"], indices)), values[f"{case}_unpooled_values"])
    if case.endswith("even"):
        assert np.array_equal(numpy_of(layers.MaxUnpooling()(pooled, indices)), values[f"{case}_unpooled"])


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("size", "strides"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((2, 3), (1, 2)), ((3, 2), (4, 3)), ((5, 1), (2, 1))]
)
@pytest.mark.parametrize("shape", [(2, 7, 6, 2), (1, 5, 9, 3)])
def test_pooling_against_a_slow_one(shape, size, strides, padding):
    x = -np.abs(random(*shape))  # below zero, so that zeros in the padding would win
    pooled, indices = map(numpy_of, layers.MaxPoolingWithIndices(size, strides, padding)(x))
    expected, places = slow_pooling(x, size, strides, padding)
    assert np.array_equal(pooled, expected) and np.array_equal(indices, places)
    assert np.array_equal(pooled, numpy_of(keras_layers.MaxPooling2D(size, strides, padding)(x)))


def test_values_of_one_place_add_up():
    x = np.zeros((1, 3, 3, 1), "float32")
    x[0, 1, 1] = 5  # the maximum of all four windows
    pooled, indices = layers.MaxPoolingWithIndices(2, 1)(x)
    assert np.unique(numpy_of(indices)).tolist() == [4]
    assert np.array_equal(numpy_of(layers.MaxUnpooling(2, 1)(pooled, indices)), 4 * x)


def test_gradient_of_unpooling_reads_the_places():
    x = random(2, 4, 4, 3)
    _, indices = layers.MaxPoolingWithIndices()(x)
    weights = random(2, 4, 4, 3, seed=1)
    found = introspection.gradients(
        lambda values: ops.multiply(layers.MaxUnpooling()(values, indices), weights), random(2, 2, 2, 3), batch_size=2
    )
    flat = weights.transpose(0, 3, 1, 2).reshape(2, 3, 16)
    expected = np.take_along_axis(flat, numpy_of(indices).transpose(0, 3, 1, 2).reshape(2, 3, 4), 2)
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2).reshape(2, 3, 4), expected, atol=1e-6)


def there_and_back(padding="valid", size=None):
    image = keras.Input((size, size, 2))
    pooled, indices = layers.MaxPoolingWithIndices(2, padding=padding)(image)
    return keras.Model(image, [pooled, layers.MaxUnpooling(2, padding=padding)(pooled, indices, image)])


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_model_of_no_fixed_size_takes_images_of_any(padding):
    model = there_and_back(padding)
    for height, width in [(6, 8), (5, 7)]:
        x = random(3, height, width, 2)
        pooled, unpooled = model.predict(x, verbose=0)
        expected, places = slow_pooling(x, (2, 2), (2, 2), padding)
        assert np.array_equal(pooled, expected)
        hand = np.zeros((3, height * width, 2), "float32")
        np.put_along_axis(hand, places.reshape(3, -1, 2), expected.reshape(3, -1, 2), 1)
        assert np.array_equal(unpooled, hand.reshape(x.shape))


@pytest.mark.parametrize(
    ("size", "strides", "padding", "shape", "expected"),
    [
        (2, None, "valid", (3, 4), (6, 8)),
        (3, 2, "valid", (3, 4), (7, 9)),
        (3, 2, "same", (3, 4), (6, 8)),
        (2, (2, 3), "same", (None, 4), (None, 12)),
        (2, None, "valid", (None, 4), (None, 8)),
    ],
)
def test_size_that_is_inferred(size, strides, padding, shape, expected):
    values, indices = keras.Input((*shape, 5)), keras.Input((*shape, 5), dtype="int32")
    assert layers.MaxUnpooling(size, strides, padding)(values, indices).shape == (None, *expected, 5)


# Stochastic depth


def test_a_branch_is_left_out_image_by_image():
    layer = layers.StochasticDepth(0.25, seed=3)
    x = np.abs(random(400, 2, 3)) + 0.1
    found = numpy_of(layer(x, training=True)) / x
    np.testing.assert_allclose(np.unique(found.round(4)), [0, 4 / 3], atol=1e-4)
    assert (found.std(axis=(1, 2)) < 1e-5).all(), "an image's branch is left out as a whole"
    assert 0.15 < (found[:, 0, 0] == 0).mean() < 0.35
    assert not np.array_equal(found, numpy_of(layer(x, training=True)) / x), "drawn anew each time"
    assert np.array_equal(numpy_of(layer(x)), x)
    again = numpy_of(layers.StochasticDepth(0.25, seed=3)(x, training=True)) / x
    assert np.array_equal(again, found)


# Max-norm


def test_max_norm_bounds_each_filter_and_each_unit():
    kernel = random(3, 3, 4, 6) * np.linspace(0.01, 2, 6, dtype="float32")
    norms = np.sqrt((kernel**2).sum(axis=(0, 1, 2)))
    assert norms.min() < 2 < norms.max()
    found = numpy_of(layers.MaxNorm(2.0)(kernel))
    np.testing.assert_allclose(np.sqrt((found**2).sum(axis=(0, 1, 2))), np.minimum(norms, 2), rtol=1e-5)
    assert np.array_equal(found[..., norms < 2], kernel[..., norms < 2]), "inside the ball nothing changes"
    np.testing.assert_allclose(
        numpy_of(layers.MaxNorm(1)(np.array([[3.0, 0.3], [4.0, 0.4]]))), [[0.6, 0.3], [0.8, 0.4]]
    )
    assert np.array_equal(numpy_of(layers.MaxNorm(1)(np.zeros((2, 2), "float32"))), np.zeros((2, 2)))


def test_max_norm_along_other_axes():
    kernel = np.ones((2, 2, 3, 1), "float32")
    assert np.allclose(numpy_of(layers.MaxNorm(1, axis=(0, 1))(kernel)), 0.5)


def test_the_default_axis_of_keras_bounds_something_else():
    kernel = np.ones((3, 3, 4, 2), "float32")
    theirs = numpy_of(keras.constraints.MaxNorm(2)(kernel))
    assert np.sqrt((theirs**2).sum(axis=(0, 1, 2))).min() > 5
    assert np.sqrt((numpy_of(layers.MaxNorm(2)(kernel)) ** 2).sum(axis=(0, 1, 2))).max() < 2.001


# Saving; bad input


def test_all_of_them_are_saved_and_loaded(tmp_path):
    image = keras.Input((7, 7, 3))
    x = keras_layers.Conv2D(8, 3, padding="same", kernel_constraint=layers.MaxNorm(2.5))(image)
    x = layers.LocalResponseNormalization(3, 0.1, 0.5, 1.0, average=True)(x)
    pooled, indices = layers.MaxPoolingWithIndices((3, 2), 2, "same")(x)
    unpooled = layers.MaxUnpooling((3, 2), 2, "same", output_size=(7, 7))(
        layers.StochasticDepth(0.2, 5)(pooled), indices
    )
    like = layers.MaxUnpooling((3, 2), 2, "same")(pooled, indices, x)
    model = keras.Model(image, [unpooled, like])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = random(2, 7, 7, 3)
    for found, expected in zip(loaded.predict(images, verbose=0), model.predict(images, verbose=0)):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for one, other in zip(model.layers, loaded.layers):
        assert one.get_config() == other.get_config()
    assert loaded.layers[1].kernel_constraint.get_config() == {"max_value": 2.5, "axis": None}


def test_training_through_pooling_and_unpooling_reaches_the_weights():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    pooled, indices = layers.MaxPoolingWithIndices()(keras_layers.Conv2D(4, 3, padding="same")(image))
    x = layers.MaxUnpooling()(pooled, indices)
    model = keras.Model(image, keras_layers.Conv2D(1, 3, padding="same")(x))
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
    x = random(8, 8, 8, 1)
    losses = model.fit(x, x, epochs=8, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.LocalResponseNormalization(4), "odd number of channels, got 4"),
        (lambda: layers.LocalResponseNormalization(2.5), "odd number of channels, got 2.5"),
        (lambda: layers.MaxPoolingWithIndices(0), "pool_size must be a positive whole number"),
        (lambda: layers.MaxPoolingWithIndices((2, 2, 2)), "pool_size must be"),
        (lambda: layers.MaxPoolingWithIndices(2, 1.5), "strides must be"),
        (lambda: layers.MaxPoolingWithIndices(2, padding=1), "padding must be 'valid' or 'same', got 1"),
        (lambda: layers.MaxPoolingWithIndices(5)(keras.Input((4, 8, 1))), "window of 5 does not fit an input of 4"),
        (lambda: layers.MaxUnpooling(output_size=(3, -1)), "output_size must be"),
        (
            lambda: layers.MaxUnpooling()(keras.Input((4, 4, 2)), keras.Input((4, 4, 3), dtype="int32")),
            "do not belong together",
        ),
        (
            lambda: layers.MaxUnpooling(output_size=3)(keras.Input((4, 4, 2)), keras.Input((4, 4, 2), dtype="int32")),
            "smaller than the pooled values",
        ),
        (lambda: layers.StochasticDepth(1.0), r"rate must be in \[0, 1\), got 1.0"),
        (lambda: layers.MaxNorm(0), "max_value must be above 0, got 0"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_receptive_fields_and_tables_know_them():
    image = keras.Input((27, 27, 8))
    x = layers.LocalResponseNormalization(name="lrn")(image)
    pooled, indices = layers.MaxPoolingWithIndices(3, 2, name="pool")(x)
    x = layers.StochasticDepth(0.1, name="depth")(keras_layers.Conv2D(4, 3, name="conv")(pooled))
    fields = arithmetic.receptive_fields(keras.Model(image, [x, indices])).set_index("layer")
    assert fields.loc[["lrn", "pool", "conv", "depth"], "size"].tolist() == [1, 3, 7, 7]
    assert fields.loc[["lrn", "pool", "conv", "depth"], "jump"].tolist() == [1, 2, 2, 2]
    totals = arithmetic.totals(keras.Model(image, x))
    assert totals["macs"] == 11 * 11 * 4 * 9 * 8


def test_position_vectors_are_added_place_by_place_and_learnt(tmp_path):
    cells = keras.Input((5, 3))
    model = keras.Model(cells, layers.PositionEmbedding(name="places")(cells))
    vectors = model.get_layer("places").vectors
    assert len(model.trainable_weights) == 1 and 0 < np.std(numpy_of(vectors)) < 0.1
    vectors.assign(np.arange(15).reshape(5, 3))
    x = random(2, 5, 3)
    np.testing.assert_allclose(model.predict_on_batch(x), x + np.arange(15).reshape(5, 3), rtol=1e-6)
    model.save(tmp_path / "places.keras")
    loaded = keras.models.load_model(tmp_path / "places.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-6)
    assert arithmetic.totals(model)["params"] == 15 and arithmetic.totals(model)["macs"] == 0


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
@pytest.mark.parametrize("known", [True, False])
def test_enlarge_is_bilinear_interpolation(factor, known):
    image = keras.Input((3, 5, 2) if known else (None, None, 2))
    model = keras.Model(image, layers.Enlarge(factor)(image))
    # On TensorFlow a model that has seen two sizes is traced for any: only then are they unknown inside.
    for height, width in [(3, 5)] if known else [(4, 2), (1, 6), (3, 5)]:
        x = np.random.default_rng(0).normal(size=(2, height, width, 2)).astype("float32")
        # Pixel j of the enlarged map lies at (j + 1/2) / f - 1/2 of the map; beyond its rim the rim's value counts.
        places = [(np.arange(n * factor) + 0.5) / factor - 0.5 for n in (height, width)]
        places = np.meshgrid(*places, indexing="ij")
        expected = [[map_coordinates(x[b, :, :, c], places, order=1, mode="nearest") for c in (0, 1)] for b in (0, 1)]
        np.testing.assert_allclose(model.predict_on_batch(x), np.moveaxis(expected, 1, -1), atol=1e-5)


def test_response_normalisation_of_large_values_in_half_precision():
    x = np.array([[[[300.0, 400.0]]]], "float32")
    layer = {"alpha": 1e-4, "beta": 0.5, "k": 2.0}
    expected = numpy_of(layers.LocalResponseNormalization(3, **layer)(x))
    found = numpy_of(layers.LocalResponseNormalization(3, dtype="float16", **layer)(x.astype("float16")))
    np.testing.assert_allclose(found.astype("float32"), expected, rtol=2e-3)
