"""Copies with all their state, the tensor behind a layer, and models that are not what a function needs."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import introspection, models, transfer
from utils.segmentation import inference, metrics

IMAGES = np.random.default_rng(0).uniform(100, 150, (8, 6, 6, 3)).astype("float32")


def array(tensor):
    return ops.convert_to_numpy(tensor)


def output(model, images=IMAGES):
    return array(model(images, training=False))


class Centred(layers.Layer):
    """A layer of the user's own that learns a mean and keeps it beside its variables."""

    def __init__(self, **options):
        super().__init__(**options)
        self.mean, self.scale = None, 1.0

    def adapt(self, images):
        self.mean = images.mean(axis=(0, 1, 2))

    def call(self, x):
        return (x - self.mean) * self.scale


def normalised(nested=False, layer=layers.Normalization):
    image = layers.Input((6, 6, 3))
    norm = layer(name="norm")
    norm.adapt(IMAGES)
    x = norm(image)
    x = layers.Conv2D(4, 3, activation=ops.tanh, name="conv")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    model = keras.Model(image, x, name="inner")
    model.get_layer("bn").moving_mean.assign([1.0, 2, 3, 4])
    if not nested:
        return model
    outer = layers.Input((6, 6, 3))
    return keras.Model(outer, layers.Lambda(lambda x: x * 2)(model(layers.Identity()(outer))), name="outer")


COPIES = {
    "clone": transfer.clone,
    "classifier": lambda model: keras.Model(
        (copy := transfer.classifier(model, 2)).input, copy.get_layer("codes").input
    ),
    "randomise nothing": lambda model: introspection.randomise(model, last=0),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("layer", [layers.Normalization, Centred])
@pytest.mark.parametrize("nested", [False, True])
def test_a_copy_computes_what_the_model_computes(copied, layer, nested):
    model = normalised(nested, layer)
    np.testing.assert_array_equal(output(copied(model)), output(model))


def test_an_adapted_layer_keeps_what_it_knows_when_the_weights_are_drawn_anew():
    model = normalised()
    fresh = transfer.reinitialise(model)
    assert not np.array_equal(output(fresh), output(model))
    for net in (model, fresh):
        found = array(net.get_layer("norm")(IMAGES))
        np.testing.assert_allclose(found.mean(axis=(0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_array_equal(array(fresh.get_layer("bn").moving_mean), 0)


def test_a_copy_shares_nothing_with_the_model():
    model = normalised(True, Centred)
    before = output(model)
    copy = transfer.clone(model)
    inner = copy.get_layer("inner")
    inner.get_layer("conv").set_weights([weights + 1 for weights in inner.get_layer("conv").get_weights()])
    inner.get_layer("norm").mean += 5
    np.testing.assert_array_equal(output(model), before)
    assert not np.array_equal(output(copy), before)


@pytest.mark.parametrize("trained", ["model", "copy"])
def test_a_copy_and_its_model_are_trained_apart(trained):
    """JAX gives the buffers of what it trains away: a copy that shares them would lose its weights."""
    model = normalised()
    before = output(model)
    copy = transfer.clone(model)
    one, other = (model, copy) if trained == "model" else (copy, model)
    one.compile("sgd", "mse")
    one.fit(IMAGES, np.zeros((8, 4, 4, 4)), verbose=0)
    np.testing.assert_array_equal(output(other), before)
    assert not np.array_equal(output(one), before)


def test_random_states_go_with_a_copy():
    model = normalised()
    model(IMAGES, training=True)  # the state moves on
    copy = transfer.clone(model)
    states = [
        [array(v) for v in net.non_trainable_variables if v.name == "seed_generator_state"] for net in (model, copy)
    ]
    assert len(states[0]) == 1
    np.testing.assert_array_equal(*states)


def test_frozen_layers_stay_frozen_wherever_they_are():
    model = normalised(True)
    model.get_layer("inner").get_layer("conv").trainable = False
    copy = transfer.clone(model)
    assert [v.path for v in copy.trainable_variables] == [v.path for v in model.trainable_variables]
    model.trainable = False
    assert not transfer.clone(model).trainable_variables


def test_quantised_weights_and_wrapped_layers_are_copied():
    model = keras.Sequential(
        [layers.Input((5, 4)), layers.TimeDistributed(layers.Dense(3)), layers.Dense(3), layers.Flatten()]
    )
    model.layers[1].quantize("int8")
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    np.testing.assert_array_equal(output(transfer.clone(model), x), output(model, x))


class Own(keras.Model):
    def __init__(self, width, **options):
        super().__init__(**options)
        self.width = width
        self.flatten, self.norm, self.dense = layers.Flatten(), layers.Normalization(), layers.Dense(width)

    def call(self, x):
        return self.dense(self.norm(self.flatten(x)))

    def get_config(self):
        return {"width": self.width}


def test_a_subclassed_model_is_copied_by_its_configuration():
    model = Own(3)
    model.norm.adapt(IMAGES.reshape(8, -1))
    model(IMAGES)
    np.testing.assert_array_equal(output(transfer.clone(model)), output(model))


class Stubborn(layers.Layer):
    def __init__(self, table, name):
        super().__init__(name=name)
        self.table = table

    def call(self, x):
        return x

    def get_config(self):
        return {"name": self.name}


def test_a_layer_that_cannot_be_copied_is_named():
    image = layers.Input((6, 6, 3))
    model = keras.Model(image, Stubborn(object(), "stubborn")(image), name="net")
    outer = keras.Sequential([layers.Input((6, 6, 3)), model])
    for net in (model, outer):
        with pytest.raises(ValueError, match=r"layer 'stubborn' of \w+ \(Stubborn\) cannot be copied: .*'table'"):
            transfer.clone(net)


# One input, one output, built


def test_a_nested_model_is_a_layer_like_others():
    model = normalised(True)
    inner = model.get_layer("inner")
    expected = output(inner).mean(axis=(1, 2))
    second = keras.Sequential([layers.Input((6, 6, 3)), layers.Rescaling(0.5), inner])  # another call of the same layer
    np.testing.assert_allclose(transfer.embed(model, IMAGES, "inner"), expected, rtol=1e-5, atol=1e-6)
    half = output(inner, IMAGES / 2).mean(axis=(1, 2))
    np.testing.assert_allclose(transfer.embed(second, IMAGES, "inner"), half, rtol=1e-5, atol=1e-6)
    conv = keras.Model(inner.input, inner.get_layer("conv").output)
    expected = output(conv, IMAGES / 2).mean(axis=(1, 2))
    np.testing.assert_allclose(transfer.embed(second, IMAGES, "inner/conv"), expected, rtol=1e-4, atol=1e-5)
    field = introspection.effective_receptive_field(model, "inner", inputs=1)
    assert (field > 0).sum() == 9 and field[2:5, 2:5].all(), "unit (2, 2) of a 3 x 3 convolution sees 2 to 4"


def two_inputs():
    ends = [layers.Input((6, 6, 3), name=name) for name in ("left", "right")]
    return keras.Model(ends, layers.Conv2D(2, 1)(layers.Add()(ends)), name="twofold")


def two_outputs():
    image = layers.Input((6, 6, 3))
    return keras.Model(
        image, [layers.Conv2D(2, 1, name="one")(image), layers.Conv2D(2, 1, name="two")(image)], name="forked"
    )


TAKES_A_MODEL = {
    "embed": lambda model: transfer.embed(model, IMAGES),
    "predict": lambda model: transfer.predict(model, IMAGES),
    "classifier": lambda model: transfer.classifier(model, 2),
    "fine_tune": lambda model: transfer.fine_tune(model, IMAGES, np.arange(8) % 2, steps=1),
    "saliency": lambda model: introspection.saliency(model, IMAGES),
    "occlusion": lambda model: introspection.occlusion(model, IMAGES, size=2),
    "grad_cam": lambda model: introspection.grad_cam(model, IMAGES),
    "field": lambda model: introspection.effective_receptive_field(model),
    "segmentation predict": lambda model: inference.predict(model, IMAGES),
    "sliding window": lambda model: inference.sliding_window(model, IMAGES[0]),
    "overlap tile": lambda model: inference.overlap_tile(model, IMAGES[0], 6),
    "evaluate": lambda model: metrics.evaluate(model, (IMAGES, np.zeros((8, 6, 6), int)), 2),
}
TAKES_SEVERAL_OUTPUTS = {
    "clone": transfer.clone,
    "reinitialise": transfer.reinitialise,
    "randomise": introspection.randomise,
    "copy_layers": lambda model: transfer.copy_layers(model, model, 1),
    "activations": lambda model: introspection.activations(model, IMAGES),
    "recalibrate": lambda model: transfer.recalibrate_batch_norm(model, IMAGES),
}


def told(call, model):
    with pytest.raises(ValueError) as caught:
        call(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("call", TAKES_A_MODEL.values(), ids=TAKES_A_MODEL)
def test_what_a_function_needs_of_a_model_is_said_in_one_line(call):
    assert told(call, two_inputs()) == "twofold has 2 inputs (left, right); expected one"
    assert told(call, two_outputs()) == "forked has 2 outputs (one, two); expected one"
    bare = keras.Sequential([layers.Conv2D(2, 1)], name="bare")
    assert told(call, bare) == "bare is not built: give it an Input, or call it once on images"


@pytest.mark.parametrize("call", TAKES_SEVERAL_OUTPUTS.values(), ids=TAKES_SEVERAL_OUTPUTS)
def test_an_unbuilt_model_is_refused(call):
    bare = keras.Sequential([layers.Conv2D(2, 1)], name="bare")
    assert told(call, bare) == "bare is not built: give it an Input, or call it once on images"
    call(two_outputs())


def test_a_layer_of_several_outputs_is_told_and_what_serves_instead():
    forked = two_outputs()
    image = layers.Input((6, 6, 3))
    model = keras.Model(image, layers.Add(name="sum")(forked(image)), name="net")
    assert told(lambda m: transfer.embed(m, IMAGES, "forked"), model) == (
        "layer 'forked' of net gives 2 outputs; name one of its own, such as 'forked/two'"
    )
    assert "gives 2 outputs" in told(lambda m: introspection.deconvnet(m, IMAGES, "forked", 0), model)
    assert transfer.embed(model, IMAGES, "forked/two").shape == (8, 2)
    assert "no layer 'sum/x'; it has: " in told(lambda m: transfer.embed(m, IMAGES, "sum/x"), model)
    assert told(models.check_built, "net") == "expected a keras.Model, got str"
