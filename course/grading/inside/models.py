"""Keras objects as plain data: a model is its configuration, its weights, what of it can be trained, and its
optimizer's settings.

A configuration from a submission is data that would be run, so every class in it is looked up in a list of what may be
there: Keras's own layers, operations, initialisers and the like, and the layers of `utils`. A Lambda, a layer of the
student's own or a function that is no activation cannot be carried over (`Uncarried`): such an answer is looked at by a
person.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from course.grading.inside.wire import HarnessError

DEEPEST = 200
LOSS = keras.losses.Loss
MOST_WEIGHTS = 400_000_000
LONGEST = 20_000  # steps of a schedule that are told
_MODULE = re.compile(
    r"keras|keras\.(?:src\.)?(?:layers|ops|models|initializers|regularizers|constraints|activations|dtype_policies|optimizers|losses|"
    r"backend|random)(?:\.[a-z_0-9]+)*|utils(?:\.[a-z_0-9]+)+"
)
_DENIED = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "FunctionWrapper"}
_KINDS = (
    keras.Layer,
    keras.Operation,
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.losses.Loss,
    keras.dtype_policies.DTypePolicy,
)


class Uncarried(HarnessError):
    """An answer of a kind that cannot be carried to the judge: for a person to look at."""


def is_model(thing: Any) -> bool:
    """Whether it is a model that its configuration describes: functional or sequential, of Keras's own classes."""
    return isinstance(thing, keras.Model) and type(thing) in (
        keras.Model,
        keras.Sequential,
        keras.src.models.Functional,
    )


def is_symbolic(thing: Any) -> bool:
    return isinstance(thing, keras.KerasTensor)


def is_variable(thing: Any) -> bool:
    return isinstance(thing, keras.Variable)


# ------------------------------------------------------------------------------------------------- configurations


def vet(config: Any, depth: int = 0) -> None:
    """Uncarried unless every class that the configuration names may be there."""
    if depth > DEEPEST:
        raise Uncarried("a model whose configuration is too deep")
    if isinstance(config, list):
        for part in config:
            vet(part, depth + 1)
    elif isinstance(config, dict):
        if "class_name" in config:
            _vet_class(config)
        for part in config.values():
            vet(part, depth + 1)


def _vet_class(config: dict[str, Any]) -> None:
    name, module, registered = config.get("class_name"), config.get("module", "keras"), config.get("registered_name")
    if name in ("__tuple__", "__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__", "__bytes__"):
        return
    if name == "function":
        function = config.get("config")
        if not isinstance(function, str) or getattr(keras.activations, function, None) is None:
            raise Uncarried("a model with a function of its own, which cannot be carried to the judge")
        if module not in (None, "builtins", "keras.activations"):
            raise Uncarried("a model with a function of its own, which cannot be carried to the judge")
        return
    if not isinstance(name, str) or not isinstance(module or "keras", str):
        raise Uncarried("a model with a configuration that Keras does not write")
    module = module or "keras"
    alike = registered in (None, name) or (isinstance(registered, str) and registered.rpartition(">")[2] == name)
    found = None
    if alike and name not in _DENIED and _MODULE.fullmatch(module):
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            found = None
    if not (isinstance(found, type) and issubclass(found, _KINDS)):
        raise Uncarried(f"a model with {name[:60]}, which cannot be carried to the judge")


def describe(model: Any) -> dict[str, Any]:
    """The configuration of a model, without its compilation."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    config.pop("build_config", None)
    config.get("config", {}).pop("compile_config", None)
    return config


def rebuild(config: Any, kind: type = keras.Model) -> Any:
    """The model (or the loss, by `kind`) of a configuration, with fresh weights.

    Raises:
        Uncarried: the configuration names what may not be there, Keras cannot build it, or it is of another kind.
    """
    vet(config)
    try:
        with keras.StatelessScope(initialize_variables=False):
            # Keras takes a configuration to pieces while it reads it.
            counted = keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=True)
            if isinstance(counted, keras.Model) and counted.count_params() > MOST_WEIGHTS:
                raise Uncarried(f"a model of {counted.count_params():,} weights, too many for the judge")
        _forget_waiting()
        if not isinstance(counted, kind):
            raise Uncarried(f"a {type(counted).__name__} where a {kind.__name__} was expected")
        if keras.src.backend.common.stateless_scope.in_stateless_scope():
            return counted
        return keras.saving.deserialize_keras_object(config, safe_mode=True)
    except Exception as error:
        raise Uncarried(f"a model that Keras cannot build from its configuration: {type(error).__name__}") from None


def _forget_waiting() -> None:
    """Variables without values wait for the end of the next scope; these wait for nothing."""
    if not keras.src.backend.common.stateless_scope.in_stateless_scope():
        keras.src.backend.common.global_state.set_global_attribute("uninitialized_variables", [])


# ------------------------------------------------------------------------------------------------- symbolic calls


def inputs(specs: Sequence[Sequence[Any]]) -> list[Any]:
    """An Input for each (shape with the batch, dtype)."""
    return [keras.Input(batch_shape=tuple(shape), dtype=dtype) for shape, dtype in specs]


def between(heads: list[Any], tails: list[Any]) -> dict[str, Any]:
    """The configuration of what leads from some symbolic tensors to others."""
    return describe(keras.Model(heads, tails))


def graft(config: Any, tensors: list[Any]) -> list[Any]:
    """Apply what a configuration describes to one's own symbolic tensors, by fresh layers."""
    with keras.StatelessScope(initialize_variables=False):
        model = rebuild(config)
    _forget_waiting()
    copies: dict[int, Any] = {}

    def fresh(operation: Any) -> Any:
        if not isinstance(operation, keras.Layer) or isinstance(operation, keras.layers.InputLayer):
            return operation
        if id(operation) not in copies:
            settings, automatic = operation.get_config(), _named_by_keras(operation)
            if automatic and not isinstance(operation, keras.Model):
                settings.pop("name", None)
            made = copies[id(operation)] = type(operation).from_config(settings)
            if automatic and isinstance(operation, keras.Model):  # which cannot be made without a name
                made.name = keras.src.utils.naming.auto_name(keras.src.utils.naming.to_snake_case(type(made).__name__))
        return copies[id(operation)]

    try:
        found = model._run_through_graph(tensors, operation_fn=fresh)
    except Exception as error:
        raise Uncarried(f"layers that do not fit the judge's tensors: {type(error).__name__}") from None
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _named_by_keras(layer: Any) -> bool:
    automatic = keras.src.utils.naming.to_snake_case(type(layer).__name__)
    return re.fullmatch(rf"{re.escape(automatic)}(_\d+)?", layer.name) is not None


# ------------------------------------------------------------------------------------------------- weights and state


def layers_of(model: Any) -> list[Any]:
    return list(model._flatten_layers(include_self=True))


def weights(model: Any) -> list[np.ndarray]:
    """Arrays of the weights; none for a model that has no values yet."""
    if not model.built:
        return []
    try:
        return [np.asarray(ops.convert_to_numpy(weight)) for weight in model.weights]
    except Exception:  # an outline: its weights have shapes and no values
        return []


def digest(arrays: Sequence[np.ndarray], flags: Sequence[bool]) -> str:
    found = hashlib.sha1(repr([(array.shape, array.dtype.str) for array in arrays] + list(flags)).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def flags(model: Any) -> list[bool]:
    return [bool(layer.trainable) for layer in layers_of(model)]


def set_state(model: Any, arrays: Sequence[np.ndarray], trainable: Sequence[Any]) -> None:
    """Uncarried when the weights do not fit the model."""
    if arrays:
        held = model.weights if model.built else []
        if [tuple(weight.shape) for weight in held] != [array.shape for array in arrays]:
            raise Uncarried("a model whose weights do not fit its layers")
        model.set_weights(arrays)
    layers = layers_of(model)
    if len(trainable) != len(layers):
        return
    for layer, flag in reversed(list(zip(layers, trainable))):
        if layer.trainable != bool(flag):
            layer._trainable = bool(flag)
            for variable in layer._trainable_variables:
                variable.trainable = bool(flag)


def optimizer_of(model: Any) -> dict[str, Any] | None:
    """Steps, rate and settings of a compiled model's optimizer; of a schedule, the rate of each step so far."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not hasattr(optimizer, "iterations"):
        return None
    settings = {key: value for key, value in optimizer.get_config().items() if _is_plain(value)}
    taken = int(optimizer.iterations)
    told = {**settings, "iterations": taken, "learning_rate": float(optimizer.learning_rate)}
    schedule = getattr(optimizer, "_learning_rate", None)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        try:
            rates = np.asarray(ops.convert_to_numpy(schedule(np.arange(min(taken, LONGEST) + 1))), "float64")
            told["rates"] = rates.tolist() if rates.ndim == 1 else []
        except Exception:  # one that takes a single step at a time
            told["rates"] = []
    return told


class ShownOptimizer:
    """What a submission says about its optimizer. `iterations` can be assigned; `learning_rate` follows it as the
    submission's schedule does, and is NaN where that was not told.
    """

    def __init__(self, told: dict[str, Any], rates: list[float] | None) -> None:
        vars(self).update(told)
        if type(told.get("iterations")) is int:
            self.iterations = keras.Variable(told["iterations"], dtype="int64", trainable=False)
        if rates is not None:
            vars(self)["rates"] = rates

    @property
    def learning_rate(self) -> Any:
        own = vars(self)
        if "rates" not in own:
            return own.get("learning_rate")
        step = int(self.iterations)
        return own["rates"][step] if 0 <= step < len(own["rates"]) else float("nan")


def _is_plain(value: Any) -> bool:
    """One setting, or a table of numbers by name, such as the factors of `training.layerwise`."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and type(each) in (int, float) for key, each in value.items())
    return type(value) in (bool, int, float, str)


def show_optimizer(model: Any, told: Any, loss: Any) -> None:
    """What a submission says about its optimizer and loss, where a check reads it: `model.optimizer.iterations`,
    `model.loss`.
    """
    if isinstance(told, dict):
        plain = {str(key): value for key, value in told.items() if _is_plain(value)}
        rates = told.get("rates")
        numbers = isinstance(rates, list) and all(type(rate) is float for rate in rates)
        object.__setattr__(model, "optimizer", ShownOptimizer(plain, rates if numbers else None))
    if loss is not None:
        object.__setattr__(model, "loss", loss)
