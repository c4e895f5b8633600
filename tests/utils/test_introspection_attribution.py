"""Maps of models whose answer is known: linear ones, a net worked by hand, nets in every form that Keras allows."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import introspection


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def linear(activation=None, classes=3):
    """Logits W x of images of 4 x 5 pixels and 2 channels; the model and W (4, 5, 2, classes)."""
    model = keras.Sequential([keras.Input((4, 5, 2)), layers.Flatten(), layers.Dense(classes, activation=activation)])
    weights = random(4, 5, 2, classes, seed=7)
    model.set_weights([weights.reshape(40, classes), np.arange(classes, dtype="float32")])
    return model, weights


class Subclassed(keras.Model):
    def __init__(self, weights):
        super().__init__()
        self.flatten, self.dense = layers.Flatten(), layers.Dense(weights.shape[-1], activation="softmax")
        self(np.zeros((1, 4, 5, 2), "float32"))
        self.dense.set_weights([weights.reshape(40, -1), np.arange(weights.shape[-1], dtype="float32")])

    def call(self, inputs):
        return self.dense(self.flatten(inputs))


def forms():
    """The linear model in every form, with and without softmax."""
    model, weights = linear()
    soft, _ = linear("softmax")
    image = keras.Input((4, 5, 2))
    yield "logits", model
    yield "softmax", soft
    yield "softmax layer", keras.Sequential([keras.Input((4, 5, 2)), model, layers.Softmax()])
    yield "activation layer", keras.Model(image, layers.Activation("softmax")(model(image)))
    yield "operation", keras.Model(image, ops.softmax(model(image)))
    yield "nested", keras.Model(image, soft(image))
    yield "nested twice", keras.Sequential([keras.Input((4, 5, 2)), keras.Model(image, soft(image))])
    yield "sigmoid", linear("sigmoid")[0]
    yield "subclassed", Subclassed(weights)


@pytest.mark.parametrize(("form", "model"), list(forms()), ids=[form for form, _ in forms()])
def test_saliency_of_a_linear_model_is_its_weights(form, model):
    _, weights = linear()
    images, classes = random(5, 4, 5, 2), [0, 1, 2, 1, 0]
    found = introspection.saliency(model, images, classes, reduce=None, batch_size=2)
    np.testing.assert_allclose(found, np.moveaxis(weights, -1, 0)[classes], atol=1e-5)


def test_reductions_over_the_channels():
    model, weights = linear()
    images = random(2, 4, 5, 2)
    found = [introspection.saliency(model, images, 1, reduce=reduce) for reduce in ("max", "mean")]
    np.testing.assert_allclose(found[0][1], np.abs(weights[..., 1]).max(-1), atol=1e-5)
    np.testing.assert_allclose(found[1][0], np.abs(weights[..., 1]).mean(-1), atol=1e-5)


def test_the_class_by_default_is_the_winner():
    model, weights = linear("softmax")
    images = random(6, 4, 5, 2, seed=3)
    winners = (np.einsum("nijc,ijck->nk", images, weights) + np.arange(3)).argmax(-1)
    assert len(set(winners)) > 1
    found = introspection.saliency(model, images, reduce=None)
    np.testing.assert_allclose(found, np.moveaxis(weights, -1, 0)[winners], atol=1e-5)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_saliency_of_the_probability_holds_the_other_classes_and_fades(activation):
    model, weights = linear(activation)
    image = random(1, 4, 5, 2)
    logits = np.einsum("ijc,ijck->k", image[0], weights) + np.arange(3)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    found = introspection.saliency(model, image, 0, reduce=None, of="probability")[0]
    expected = p[0] * (weights[..., 0] - (weights * p).sum(-1))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_output_stands_for_two_classes():
    model, weights = linear("sigmoid", classes=1)
    image = random(1, 4, 5, 2)
    for index, sign in [(0, -1), (1, 1)]:
        found = introspection.saliency(model, image, index, reduce=None)
        np.testing.assert_allclose(found[0], sign * weights[..., 0], atol=1e-5)


def test_the_model_stays_as_it_was_and_new_weights_count():
    model, weights = linear("softmax")
    images = random(2, 4, 5, 2)
    before, dense = model.get_weights(), model.layers[-1]
    probabilities = model.predict(images, verbose=0)
    introspection.saliency(model, images, 0)
    np.testing.assert_allclose(model.predict(images, verbose=0), probabilities)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert dense.activation is keras.activations.softmax and "call" not in vars(dense)
    assert [layer.trainable for layer in model.layers] == [True, True]
    model.set_weights([2 * before[0], before[1]])
    found = introspection.saliency(model, images, 0, reduce=None)
    np.testing.assert_allclose(found[0], 2 * weights[..., 0], atol=1e-5)


def test_a_second_call_traces_nothing_and_a_saved_model_holds_nothing_of_it(tmp_path):
    runs = []

    class Counting(layers.Layer):
        def call(self, inputs):
            runs.append(1)
            return inputs

    model = keras.Sequential([keras.Input((4, 5, 2)), Counting(), layers.Flatten(), layers.Dense(3)])
    introspection.saliency(model, random(3, 4, 5, 2), 0)
    first = len(runs)
    introspection.saliency(model, random(3, 4, 5, 2), [2, 1, 0])
    if keras.backend.backend() != "torch":  # which runs every layer every time
        assert len(runs) == first
    plain, _ = linear()
    introspection.saliency(plain, random(3, 4, 5, 2), 0)
    plain.save(tmp_path / "model.keras")
    assert len(keras.models.load_model(tmp_path / "model.keras").variables) == 2


def test_smooth_grad_of_a_linear_model_is_its_saliency():
    model, weights = linear("softmax")
    images = random(3, 4, 5, 2)
    found = introspection.smooth_grad(model, images, [0, 2, 1], samples=11, reduce=None, batch_size=7)
    np.testing.assert_allclose(found, np.moveaxis(weights, -1, 0)[[0, 2, 1]], atol=1e-5)


def test_smooth_grad_averages_over_noise_of_the_stated_width():
    # Score x ** 2 and -x ** 2 of one pixel: the gradient at x + noise is 2 (x + noise); each image has its own range of
    # values.
    image = keras.Input((2, 1, 1))
    squares = ops.sum(ops.square(image), axis=(1, 2))
    model = keras.Model(image, ops.concatenate([squares, -squares], axis=-1))
    images = np.array([[[[0.0]], [[1.0]]], [[[0.0]], [[100.0]]]], "float32")
    draws = np.stack([introspection.smooth_grad(model, images, 0, 1, 0.2, None, seed)[..., 0, 0] for seed in range(60)])
    np.testing.assert_allclose(draws.std(axis=0).mean(axis=-1) / 2, [0.2, 20], rtol=0.3)
    found = introspection.smooth_grad(model, images, 0, samples=200, noise=0.2, reduce=None)
    np.testing.assert_allclose(found[..., 0, 0], 2 * images[..., 0, 0], atol=10)


def test_integrated_gradients_add_up_to_the_change_of_the_score():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(), layers.Dense(2)]
    )
    images, baseline = random(2, 6, 6, 1), 0.25
    found = introspection.integrated_gradients(model, images, [0, 1], baseline, steps=64)
    scores, start = model.predict(images, verbose=0), model.predict(np.full_like(images, baseline), verbose=0)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), (scores - start)[[0, 1], [0, 1]], atol=1e-3)


def test_integrated_gradients_of_a_linear_model_are_weights_times_values():
    model, weights = linear()
    images = random(2, 4, 5, 2)
    found = introspection.integrated_gradients(model, images, 2, steps=3)
    np.testing.assert_allclose(found, images * weights[..., 2], atol=1e-5)


def hand_worked(form):
    """Score relu(x) . (1, -1, 2, -2), then times 3: the pixels are 1, 1, -1, -1."""
    image = keras.Input((1, 4, 1))
    if form == "relu layer":
        x = layers.ReLU()(image)
    elif form == "activation layer":
        x = layers.Activation("relu")(image)
    elif form == "operation":
        x = ops.relu(image)
    else:
        x = layers.Conv2D(1, 1, activation="relu", kernel_initializer="ones")(image)
    scores = layers.Dense(2, use_bias=False)(layers.Flatten()(x))
    model = keras.Model(image, scores)
    model.layers[-1].set_weights([np.array([[1, 0], [-1, 0], [2, 0], [-2, 0]], "float32") * 3])
    return model, np.array([1, 1, -1, -1], "float32").reshape(1, 1, 4, 1)


@pytest.mark.parametrize("form", ["relu layer", "activation layer", "operation", "convolution"])
def test_guided_backpropagation_by_hand(form):
    model, image = hand_worked(form)
    plain = introspection.saliency(model, image, 0, reduce=None).ravel()
    guided = introspection.guided_backpropagation(model, image, 0, reduce=None).ravel()
    assert plain.tolist() == [3, -3, 0, 0], "what came through"
    assert guided.tolist() == [3, 0, 0, 0], "what came through and is wanted"
    assert introspection.saliency(model, image, 0, reduce=None).ravel().tolist() == [3, -3, 0, 0], "the ReLU is back"


def test_a_relu_with_a_ceiling_passes_nothing_above_it():
    model = keras.Sequential([keras.Input((1, 3, 1)), layers.ReLU(6.0), layers.Flatten(), layers.Dense(2)])
    model.set_weights([np.ones((3, 2), "float32"), np.zeros(2, "float32")])
    image = np.array([3, 7, -1], "float32").reshape(1, 1, 3, 1)
    assert introspection.guided_backpropagation(model, image, 0, reduce=None).ravel().tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: introspection.saliency(m, x, 3), "class_index must be in 0 to 2, got 3"),
        (lambda m, x: introspection.saliency(m, x, [0, 1]), "a whole number or 3 of them"),
        (lambda m, x: introspection.saliency(m, x, 0.5), "a whole number"),
        (lambda m, x: introspection.saliency(m, x, reduce="sum"), "reduce must be"),
        (lambda m, x: introspection.saliency(m, x, of="softmax"), "of must be 'logit' or 'probability'"),
        (lambda m, x: introspection.saliency(m, x[0]), r"pass image\[None\]"),
        (lambda m, x: introspection.saliency(m, x[:0]), "there are no images"),
        (lambda m, x: introspection.guided_backpropagation(m, x), "has no ReLU"),
        (lambda m, x: introspection.smooth_grad(m, x, samples=0), "samples must be at least 1"),
        (lambda m, x: introspection.integrated_gradients(m, x, steps=0), "steps must be at least 1"),
        (
            lambda m, x: introspection.saliency(keras.Sequential([keras.Input((4, 5, 2)), layers.Conv2D(1, 1)]), x),
            "expected one number for each class",
        ),
    ],
)
def test_what_is_refused(call, message):
    model, _ = linear()
    with pytest.raises(ValueError, match=message):
        call(model, random(3, 4, 5, 2))
