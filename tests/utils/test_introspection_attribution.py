"""Maps of models whose answer is known: linear ones, a net worked by hand, nets in every form that Keras allows."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import introspection
from utils.introspection import inside


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


IMAGES = random(5, 4, 5, 2)


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


class Soft(layers.Layer):
    def call(self, z):
        return ops.softmax(z)


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
    yield "function of keras.ops", linear(ops.softmax)[0]
    yield "function of one's own", linear(lambda z: ops.sigmoid(z))[0]
    yield "lambda layer", keras.Model(image, layers.Lambda(ops.softmax)(model(image)))
    yield "lambda of a lambda", keras.Model(image, layers.Lambda(lambda z: ops.softmax(z, axis=-1))(model(image)))
    yield "activation layer of a function", keras.Model(image, layers.Activation(ops.sigmoid)(model(image)))
    yield "layer of one's own", keras.Sequential([keras.Input((4, 5, 2)), model, Soft()])
    yield "in float32 at the end", keras.Model(image, layers.Activation("linear", dtype="float32")(soft(image)))
    yield "cast, dropped out", keras.Model(image, layers.Dropout(0.5)(ops.cast(soft(image), "float32")))
    yield "log-probabilities", keras.Model(image, ops.log_softmax(model(image)))
    maps = layers.Softmax()(layers.Reshape((1, 1, 3))(model(image)))
    yield "on maps", keras.Model(image, layers.Flatten()(maps))


@pytest.mark.parametrize(("form", "model"), list(forms()), ids=[form for form, _ in forms()])
def test_saliency_of_a_linear_model_is_its_weights(form, model):
    _, weights = linear()
    images, classes = random(5, 4, 5, 2), [0, 1, 2, 1, 0]
    found = introspection.saliency(model, images, classes, reduce=None, batch_size=2)
    np.testing.assert_allclose(found, np.moveaxis(weights, -1, 0)[classes], atol=1e-5)


@pytest.mark.parametrize(("form", "model"), list(forms()), ids=[form for form, _ in forms()])
def test_the_probability_is_the_models_own(form, model):
    outputs = model.predict(IMAGES, verbose=0)
    expected = {"logits": softmax(outputs), "log-probabilities": np.exp(outputs)}.get(form, outputs)
    found = introspection.occlusion(model, IMAGES, [0, 1, 2, 1, 0], size=2, stride=2)
    np.testing.assert_allclose(found.plain, expected[range(5), [0, 1, 2, 1, 0]], atol=1e-6)


class Hidden(keras.Model):
    """Whose end no layer shows."""

    def __init__(self, function, classes=3):
        super().__init__(name="hidden")
        self.body, self.function = linear(classes=classes)[0], function
        self(np.zeros((1, 4, 5, 2), "float32"))

    def call(self, x):
        return self.function(self.body(x))


def by_hand(model):
    image = keras.Input((4, 5, 2))
    powers = ops.exp(model(image))
    return keras.Model(image, powers / ops.sum(powers, axis=-1, keepdims=True), name="hidden")


HIDDEN = {
    "softmax": lambda: Hidden(ops.softmax),
    "log-softmax": lambda: Hidden(ops.log_softmax),
    "sigmoid": lambda: Hidden(ops.sigmoid),
    "one sigmoid": lambda: Hidden(ops.sigmoid, 1),
    "temperature": lambda: Hidden(lambda z: ops.softmax(z / 2)),
    "by hand": lambda: by_hand(linear()[0]),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_where_the_logits_cannot_be_found_the_probability_is_the_models_own_and_the_rest_is_told(form):
    model = HIDDEN[form]()
    outputs = model.predict(IMAGES, verbose=0)
    outputs = np.exp(outputs) if form == "log-softmax" else outputs
    classes = np.zeros(5, int) if outputs.shape[1] > 1 else np.ones(5, int)
    found = introspection.occlusion(model, IMAGES, classes, size=2, stride=2)
    np.testing.assert_allclose(found.plain, outputs[:, 0], atol=1e-6)
    gradient = introspection.saliency(model, IMAGES, classes, reduce=None, of="probability")
    step = 1e-2 * gradient[:1] / np.abs(gradient[:1]).max()
    ends = [model.predict(IMAGES[:1] + sign * step, verbose=0)[0, 0] for sign in (1, -1)]
    ends = np.exp(ends) if form == "log-softmax" else ends
    np.testing.assert_allclose((gradient[0] * step).sum(), (ends[0] - ends[1]) / 2, rtol=2e-2)
    for call in (
        introspection.saliency,
        introspection.guided_backpropagation,
        introspection.smooth_grad,
        introspection.integrated_gradients,
        lambda model, images: introspection.grad_cam(model, images, layer=next(iter(inside.parts(model)))),
        lambda model, images: introspection.fool(model, images[0]),
        lambda model, images: introspection.maximise(model, 0, shape=(4, 5, 2), steps=1, limits=(0, 1)),
    ):
        with pytest.raises(
            ValueError, match=r"hidden gives (log-)?probabilities, and the logits in front of them were not found"
        ):
            call(model, IMAGES)


@pytest.mark.parametrize("classes", [1, 3])
def test_logits_between_0_and_1_are_logits(classes):
    model, weights = linear(classes=classes)
    weights, last = np.abs(weights) * 1e-2, classes - 1
    for factor in (1, 0):
        model.set_weights([factor * weights.reshape(40, classes), np.zeros(classes, "float32")])
        outputs = model.predict(np.abs(IMAGES), verbose=0)
        assert outputs.min() >= 0 and outputs.max() <= 1
        found = introspection.saliency(model, np.abs(IMAGES), max(1, last), reduce=None)
        np.testing.assert_allclose(found[0], factor * weights[..., last], atol=1e-6)


def test_a_softmax_in_two_places_is_taken_from_neither():
    soft, image = layers.Softmax(), keras.Input((4, 5, 2))
    body, _ = linear()
    gate = soft(body(image))
    model = keras.Model(image, soft(body(image) * gate))
    found = introspection.occlusion(model, IMAGES, 0, size=2, stride=2)
    np.testing.assert_allclose(found.plain, model.predict(IMAGES, verbose=0)[:, 0], atol=1e-6)


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


FUNCTIONS = {
    "activation of a function": lambda: layers.Activation(ops.relu),
    "lambda layer": lambda: layers.Lambda(ops.relu),
    "lambda of a lambda": lambda: layers.Lambda(lambda x: ops.maximum(x, 0)),
    "function of a convolution": lambda: layers.Conv2D(1, 1, activation=ops.relu, kernel_initializer="ones"),
}


def hand_worked(form):
    """Score relu(x) . (1, -1, 2, -2), then times 3: the pixels are 1, 1, -1, -1."""
    image = keras.Input((1, 4, 1))
    if form == "relu layer":
        x = layers.ReLU()(image)
    elif form == "activation layer":
        x = layers.Activation("relu")(image)
    elif form == "operation":
        x = ops.relu(image)
    elif form in FUNCTIONS:
        x = FUNCTIONS[form]()(image)
    else:
        x = layers.Conv2D(1, 1, activation="relu", kernel_initializer="ones")(image)
    scores = layers.Dense(2, use_bias=False)(layers.Flatten()(x))
    model = keras.Model(image, scores)
    model.layers[-1].set_weights([np.array([[1, 0], [-1, 0], [2, 0], [-2, 0]], "float32") * 3])
    return model, np.array([1, 1, -1, -1], "float32").reshape(1, 1, 4, 1)


@pytest.mark.parametrize("form", [*("relu layer", "activation layer", "operation", "convolution"), *FUNCTIONS])
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


# Half precision


def small_net():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    x = layers.ReLU(name="relu")(x)
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def everything(model, images):
    yield "saliency", introspection.saliency(model, images, 0, reduce=None)
    yield "probability", introspection.saliency(model, images, 0, reduce=None, of="probability")
    yield "guided", introspection.guided_backpropagation(model, images, 0, reduce=None)
    yield "smooth", introspection.smooth_grad(model, images, 0, samples=2, reduce=None)
    yield "integrated", introspection.integrated_gradients(model, images, 0, steps=4)
    yield "grad_cam", introspection.grad_cam(model, images, 0, layer="relu")
    yield "occlusion", introspection.occlusion(model, images, 0, size=4, stride=4).probability
    yield "deconvnet", introspection.deconvnet(model, images, "relu", 1, place=(4, 4))
    yield "activations", introspection.activations(model, images, "conv")
    yield "patches", introspection.top_patches(model, images, "conv", 0, 2).values
    yield "maximise", introspection.maximise(model, 0, "relu", steps=2, jitter=0).scores
    yield "fool", introspection.fool(model, images[0], step=0.5, steps=2).path
    yield "field", introspection.effective_receptive_field(model, "relu", inputs=2)
    yield "gradients", introspection.gradients(lambda x: ops.sum(x**2, axis=(1, 2, 3)), images)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_half_precision_changes_the_last_digits_only(policy):
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    expected = dict(everything(net := small_net(), images))
    keras.config.set_dtype_policy(policy)
    try:
        half = small_net()
        half.set_weights(net.get_weights())
        found = dict(everything(half, images))
    finally:
        keras.config.set_dtype_policy("float32")
    assert half.compute_dtype in ("float16", "bfloat16")
    for name, values in found.items():
        assert values.dtype in (np.float32, np.float64), name
        close = np.abs(values - expected[name]) <= 0.03 * np.abs(expected[name]).max()
        # A value next to 0 may come to the other side of a ReLU.
        assert close.mean() > 0.9, f"{name}: {close.mean():.0%} of the values agree"
