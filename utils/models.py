"""What functions that take a model ask of it: a copy with all its state, one input, one output, the tensor behind a
layer; and its numbers in single precision.
"""

import functools
import inspect
import tempfile
import textwrap
from pathlib import Path

import keras
import numpy as np
from keras import layers

# Copies


def clone(model):
    """A copy of a model with variables of its own that computes what the model computes.

    `keras.models.clone_model` makes the layers anew, and `set_weights` brings the weights. A layer may hold more than
    that: the mean that an adapted `Normalization` subtracts, the vocabulary of a lookup, the state of a dropout's
    random numbers, what a layer of your own keeps in numbers and arrays. This copy holds all of it, in nested models
    and wrappers too.

    Args:
        model: keras.Model, built.

    Returns:
        keras.Model with layers of the same names; what is frozen stays frozen.

    Raises:
        ValueError: the model is not built, or a layer cannot be copied; the message names it.
    """
    copy = remade(model)
    copy_state(model, copy)
    return copy


def remade(model, clone_function=None):
    """The same architecture with fresh variables.

    Args:
        model: keras.Model, built.
        clone_function: from a layer to the layer that stands for it; None: a new one with the same configuration.

    Returns:
        keras.Model. What a preprocessing layer has learned by `adapt` and what a layer keeps beside its variables are
        no weights of the network's: they are kept.

    Raises:
        ValueError: the model is not built, or a layer cannot be copied; the message names it.
    """
    check_built(model)
    make = clone_function or _again
    if isinstance(model, keras.Sequential) or hasattr(model, "operations"):
        copy = keras.models.clone_model(model, clone_function=_named(make, model), recursive=clone_function is None)
    else:
        copy = _named(make, model)(model)
        copy.build_from_config(model.get_build_config() or {})
    for layer, other in _pairs(model, copy):
        other.trainable = layer.trainable
        if hasattr(layer, "adapt"):
            _copy_own(layer, other)
        if clone_function is None:  # of layers in wrappers, which a configuration made
            _copy_kept(layer, other)
    return copy


def copy_state(source, target):
    """Give a model the state of another one with as many layers of the same shapes: weights, random states, and what
    follows from them.

    Raises:
        ValueError: a layer of the one does not fit its counterpart; the message names it.
    """
    for layer, other in _pairs(source, target):
        _copy_own(layer, other)


def _named(make, model):
    def made(layer):
        try:
            return make(layer)
        except Exception as error:  # whatever a layer's own code raises
            what = "the model" if layer is model else f"layer {layer.name!r} of {model.name}"
            first = error
            while first.__context__ is not None:  # below Keras's account of it, which has many lines
                first = first.__context__
            reason = textwrap.shorten(str(first) or type(first).__name__, 200, placeholder=" ...")
            raise ValueError(f"{what} ({type(layer).__name__}) cannot be copied: {reason}") from error

    return made


def _again(layer):
    """A new layer with the same configuration. Its functions are the very same: a configuration cannot hold all of
    them.
    """
    if isinstance(layer, layers.Lambda):
        return layers.Lambda(
            layer.function,
            output_shape=layer._output_shape,
            mask=layer.mask,
            arguments=dict(layer.arguments),
            name=layer.name,
            trainable=layer.trainable,
            dtype=layer.dtype_policy,
        )
    config = layer.get_config()
    functions = {name: getattr(layer, name, None) for name in config}
    functions = {name: value for name, value in functions.items() if inspect.isroutine(value)}
    new = type(layer).from_config(config | functions)
    new.name = layer.name  # which a layer without a configuration of its own loses
    _copy_kept(layer, new)  # before the new layer is called: it may need it
    return new


def _pairs(source, target):
    """A model's layers beside those of its copy, itself and all that are nested."""
    ours, theirs = (list(model._flatten_layers()) for model in (source, target))
    if len(ours) != len(theirs):
        raise ValueError(f"{source.name} has {len(ours)} layers, {target.name} has {len(theirs)}")
    return list(zip(ours, theirs))


def _copy_own(layer, other):
    """The state of one layer, without that of layers inside it."""
    for one, two in zip(_own_variables(layer), _own_variables(other), strict=True):
        if tuple(one.shape) != tuple(two.shape):
            raise ValueError(f"layer {layer.name!r}: weights of shape {tuple(one.shape)} do not fit {tuple(two.shape)}")
        # Through NumPy: two variables of JAX would share one buffer, which a training step of either gives away.
        two.assign(keras.ops.convert_to_numpy(one).copy())
    if hasattr(layer, "load_assets"):  # a lookup's vocabulary
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            if any(Path(folder).iterdir()):
                other.load_assets(folder)
    if hasattr(other, "finalize_state"):  # what is computed from the variables once, such as Normalization's mean
        other.finalize_state()


def _own_variables(layer):
    return [
        *layer._trainable_variables,
        *layer._non_trainable_variables,
        *(generator.state for generator in layer._seed_generators),
    ]


def _copy_kept(layer, other):
    """What a layer of the user's own keeps beside its variables: attributes that are numbers, text, arrays, constant
    tensors, or lists of them.
    """
    if type(layer).__module__.startswith("keras."):
        return
    common = _names_of_keras(isinstance(layer, keras.Model))
    own = {name: value for name, value in vars(layer).items() if name not in common and not name.startswith("_self_")}
    for name, value in own.items():
        if _is_plain(value):
            setattr(other, name, _plain_copy(value))


@functools.cache
def _names_of_keras(of_model):
    if not of_model:
        return frozenset(vars(layers.Layer()))
    model = keras.Model()
    model.compile()
    return frozenset(vars(model))


def _is_plain(value):
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, keras.Variable):
        return False
    return value is None or isinstance(value, (bool, int, float, str, np.generic, np.ndarray)) or _is_tensor(value)


def _is_tensor(value):
    return keras.ops.is_tensor(value) and not isinstance(value, keras.KerasTensor)


def _plain_copy(value):
    if isinstance(value, dict):
        return {name: _plain_copy(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain_copy, value)) if type(value) in (list, tuple) else list(map(_plain_copy, value))
    return value.copy() if isinstance(value, np.ndarray) else value


# Precision


def is_half(dtype):
    """Whether a dtype is float16 or bfloat16: a sum over an image overflows the one and loses the other's last
    digits."""
    return keras.backend.standardize_dtype(dtype) in ("float16", "bfloat16")


def single(tensor):
    """A tensor in half precision as float32, other tensors as they are."""
    return keras.ops.cast(tensor, "float32") if is_half(tensor.dtype) else tensor


# What a model is asked for


def check_built(model):
    """Raises ValueError in one line for what is no model, or a model that has no weights yet."""
    if not isinstance(model, keras.Layer):
        raise ValueError(f"expected a keras.Model, got {type(model).__name__}")
    if not model.built:
        raise ValueError(f"{model.name} is not built: give it an Input, or call it once on images")


def check_single(model, inputs=True, outputs=True):
    """Raises ValueError in one line for a model that is not built, or has several inputs or outputs where one is
    needed.

    Args:
        model: keras.Model.
        inputs, outputs: which of the two are looked at.
    """
    check_built(model)
    for what, counted in (("inputs", inputs), ("outputs", outputs)):
        tensors = getattr(model, what, None) or []
        if counted and len(tensors) > 1:
            names = [tensor._keras_history.operation.name for tensor in tensors]
            raise ValueError(f"{model.name} has {len(tensors)} {what} ({', '.join(names)}); expected one")


def check_graph(model):
    """Raises ValueError in one line for a model without a graph of layers: one that is not built, or a subclassed
    one."""
    check_built(model)
    if not getattr(model, "inputs", None):
        raise ValueError(f"{model.name} is a subclassed model: expected a functional or Sequential one")


def single_input(model):
    """The KerasTensor that a model of one input takes."""
    check_graph(model)
    check_single(model, outputs=False)
    return model.inputs[0]


def single_output(model):
    """The KerasTensor that a model of one output gives."""
    check_graph(model)
    check_single(model, inputs=False)
    return model.outputs[0]


def output_of(model, name):
    """The tensor behind a layer, in this model's graph.

    Args:
        model: keras.Model, functional or Sequential.
        name: of the layer; "backbone/conv1" for a layer of a nested model.

    Returns:
        KerasTensor. Of a layer that the model calls several times, that of the last call.

    Raises:
        ValueError: the model has no such layer, or the layer gives several tensors.
    """
    check_graph(model)
    head, _, rest = name.partition("/")
    layer = next((layer for layer in model.layers if layer.name == head), None)
    if layer is None or (rest and not isinstance(layer, keras.Model)):
        names = ", ".join(layer.name for layer in model.layers)
        raise ValueError(f"{model.name} has no layer {name!r}; it has: {names}")
    node = last_call(model, layer)
    if rest:
        inner = keras.Model(layer.inputs, output_of(layer, rest), name=name.replace("/", "_"))
        return inner(*node.arguments.args, **node.arguments.kwargs)
    if len(node.outputs) > 1:
        inside = f"; name one of its own, such as {_example(layer)!r}" if isinstance(layer, keras.Model) else ""
        raise ValueError(f"layer {name!r} of {model.name} gives {len(node.outputs)} outputs{inside}")
    return node.outputs[0]


def _example(model):
    return f"{model.name}/{model.layers[-1].name}"


def last_call(model, layer):
    """Keras's node of the last call of a layer or operation in a model's graph: a layer may have been called in other
    models' too.

    Raises:
        ValueError: the model's output does not depend on the layer.
    """
    pending, seen, found = [tensor._keras_history for tensor in model.outputs], set(), []
    while pending:
        operation, index, _ = pending.pop()
        if (id(operation), index) in seen:
            continue
        seen.add((id(operation), index))
        node = operation._inbound_nodes[index]
        if operation is layer:
            found.append((index, node))
        pending.extend(tensor._keras_history for tensor in node.input_tensors)
    if not found:
        raise ValueError(f"layer {layer.name!r} of {model.name} does not lead to its output")
    return max(found, key=lambda one: one[0])[1]
