"""Models as data: what a configuration may name, and that a model arrives as it was."""

import copy
import json

import keras
import numpy as np
import pytest
from keras import layers

from course.grading.inside import models
from course.grading.inside.models import Uncarried
from course.grading.inside.wire import HarnessError
from utils import training


def network():
    image = keras.Input((6, 6, 2))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same", use_bias=False)(image)))
    x = layers.Concatenate()([x, image])
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def carried(model):
    return json.loads(json.dumps(models.describe(model)))


def test_a_model_arrives_with_its_weights_and_flags():
    sent = network()
    sent.layers[1].trainable = False
    arrived = models.rebuild(carried(sent))
    models.set_state(arrived, models.weights(sent), models.flags(sent))
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 2)).astype("float32")
    np.testing.assert_allclose(arrived(images), sent(images), atol=1e-6)
    assert [w.shape for w in arrived.trainable_variables] == [w.shape for w in sent.trainable_variables]
    assert models.digest(models.weights(arrived), models.flags(arrived)) == models.digest(
        models.weights(sent), models.flags(sent)
    )


def test_the_factors_of_an_optimizer_arrive_and_nothing_that_is_no_number():
    sent, arrived = network(), network()
    starts = {sent.layers[1].name: 0.1, sent.layers[-1].name: 1.0}
    sent.compile(training.layerwise(keras.optimizers.Adam(0.01), sent, starts), "mse")
    told = json.loads(json.dumps(models.optimizer_of(sent)))
    models.show_optimizer(arrived, told, None)
    assert arrived.optimizer.multipliers == sent.optimizer.multipliers
    assert sorted(arrived.optimizer.multipliers.values()) == [0.1] * 5 + [1.0] * 2
    models.show_optimizer(arrived, {"multipliers": {"conv": {"factor": 1}}, "rate": 1.0}, None)
    assert vars(arrived.optimizer) == {"rate": 1.0}
    models.show_optimizer(arrived, {"iterations": 3, "rates": [0.1, "0.2"], "learning_rate": 0.5}, None)
    assert arrived.optimizer.learning_rate == 0.5


def test_the_rate_of_every_step_arrives():
    sent, arrived = network(), network()
    schedule = training.WarmupHoldDecay(0.1, 20, 5)
    sent.compile(keras.optimizers.SGD(schedule, momentum=0.9), "mse")
    sent.optimizer.iterations.assign(20)
    models.show_optimizer(arrived, json.loads(json.dumps(models.optimizer_of(sent))), None)
    assert int(arrived.optimizer.iterations) == 20 and arrived.optimizer.momentum == 0.9
    for step in (0, 3, 5, 19, 20):
        arrived.optimizer.iterations.assign(step)
        assert arrived.optimizer.learning_rate == pytest.approx(float(schedule(step)))
    arrived.optimizer.iterations.assign(21)
    assert np.isnan(arrived.optimizer.learning_rate)
    sent.compile(keras.optimizers.SGD(0.25), "mse")
    models.show_optimizer(arrived, json.loads(json.dumps(models.optimizer_of(sent))), None)
    assert arrived.optimizer.learning_rate == 0.25


def test_layers_are_grafted_onto_ones_own_tensors():
    head = keras.Input((6, 6, 2))
    config = json.loads(json.dumps(models.between([head], [network()(head), layers.ReLU()(head)])))
    mine = keras.Input((6, 6, 2))
    found = models.graft(config, [mine])
    assert [tuple(tensor.shape) for tensor in found] == [(None, 4), (None, 6, 6, 2)]
    assert keras.Model(mine, found).count_params() == network().count_params()


def test_a_layer_that_is_used_twice_stays_one():
    head, shared = keras.Input((3,)), layers.Dense(3)
    config = json.loads(json.dumps(models.between([head], [shared(shared(head))])))
    mine = keras.Input((3,))
    assert keras.Model(mine, models.graft(config, [mine])).count_params() == 12


@pytest.mark.parametrize("wrong", [[], [np.zeros(3)], [np.zeros((3, 3, 2, 4), "float32")] * 9])
def test_weights_that_do_not_fit_are_refused(wrong):
    model = network()
    if wrong:
        with pytest.raises(Uncarried):
            models.set_state(model, wrong, models.flags(model))


def attack(change):
    config = carried(network())
    found = config["config"]["layers"][1]
    change(found)
    return config


ATTACKS = {
    "a Lambda": lambda layer: layer.update(class_name="Lambda", config={"function": "x"}),
    "a saved model": lambda layer: layer.update(class_name="TFSMLayer", config={"filepath": "/"}),
    "a class of Python's": lambda layer: layer.update(module="builtins", class_name="eval"),
    "a module of the system": lambda layer: layer.update(module="os", class_name="system"),
    "a loader of Keras's": lambda layer: layer.update(module="keras.models", class_name="load_model"),
    "a fetcher of Keras's": lambda layer: layer.update(module="keras.utils", class_name="get_file"),
    "a class of the student's": lambda layer: layer.update(
        module="__main__", class_name="Mine", registered_name="Mine"
    ),
    "another registered name": lambda layer: layer.update(registered_name="Custom>Other"),
    "a name that is none": lambda layer: layer.update(class_name=["Conv2D"]),
    "a module that is none": lambda layer: layer.update(module={"a": 1}),
    "a dotted way out": lambda layer: layer.update(module="keras.layers..os"),
    "a function of Python's": lambda layer: layer["config"].update(
        activation={"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"}
    ),
    "a function of the student's": lambda layer: layer["config"].update(
        activation={"module": None, "class_name": "function", "config": "my_relu", "registered_name": "function"}
    ),
    "a pickled lambda": lambda layer: layer["config"].update(
        activation={"class_name": "__lambda__", "config": {"value": "eA=="}}
    ),
    "an initialiser that is none": lambda layer: layer["config"].update(
        kernel_initializer={"module": "subprocess", "class_name": "Popen", "config": {"args": "id"}}
    ),
    "no configuration": lambda layer: layer.update(config=None),
    "a negative size": lambda layer: layer["config"].update(filters=-3),
    "more weights than fit": lambda layer: layer["config"].update(filters=10**8),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_configuration_names_nothing_but_layers(name):
    with pytest.raises(Uncarried):
        models.rebuild(attack(ATTACKS[name]))


def test_a_deep_configuration_is_refused():
    config = carried(network())
    inner = config
    for _ in range(300):
        inner["deeper"] = {}
        inner = inner["deeper"]
    with pytest.raises(Uncarried, match="deep"):
        models.rebuild(config)


@pytest.mark.parametrize("nothing", [None, 3, "x", [], {}, {"class_name": "Functional", "config": {}}])
def test_what_is_no_model_is_refused(nothing):
    with pytest.raises(Uncarried):
        rebuilt = models.rebuild(copy.deepcopy(nothing))
        models.set_state(rebuilt, [], [])


def test_no_check_takes_it_for_an_answer():
    assert issubclass(Uncarried, HarnessError) and not issubclass(Uncarried, Exception)


def test_layers_of_the_course_may_be_there():
    from utils.layers import Enlarge

    image = keras.Input((4, 4, 1))
    assert models.rebuild(carried(keras.Model(image, Enlarge(2)(image)))).output_shape == (None, 8, 8, 1)
