"""The layers of a model, wherever they are nested, and runs in which some of them do something else."""

import contextlib
import difflib

import keras
import numpy as np
from keras import ops

from utils.introspection.gradient import Run, kept_for

RELUS = (keras.activations.relu, keras.activations.relu6)


def parts(model):
    """Every layer and operation of a model by its path, "conv1" or "backbone/conv1", in the order of the model; inputs
    are left out.

    A nested model, or a layer that holds layers, comes after its parts.
    """
    found = {}
    _collect(model, "", found)
    return found


def _collect(model, prefix, found):
    if isinstance(model, keras.Sequential):
        inner = model.layers
    elif hasattr(model, "operations"):
        inner = model.operations
    else:
        inner = model._flatten_layers(include_self=False, recursive=False)
    for part in inner:
        if not isinstance(part, keras.layers.InputLayer):
            path = prefix + part.name
            if isinstance(part, keras.Layer):
                _collect(part, path + "/", found)
            found.setdefault(path, part)


def leaves(model):
    """The parts that hold no others."""
    found = parts(model)
    return {path: part for path, part in found.items() if not any(other.startswith(path + "/") for other in found)}


def find(model, name):
    """Path and layer of a name: a whole path, or its end where only one path ends so.

    Raises:
        ValueError: there is no such layer, or there are several.
    """
    found = parts(model)
    if name in found:
        return name, found[name]
    ends = [path for path in found if path.endswith(f"/{name}")]
    if len(ends) == 1:
        return ends[0], found[ends[0]]
    if ends:
        raise ValueError(f"{model.name} has several layers {name!r}: {', '.join(ends)}")
    near = difflib.get_close_matches(name, found, n=3) or list(found)[:20]
    raise ValueError(
        f"{model.name} has no layer {name!r}; it has: {', '.join(near)}{', ...' if len(near) < len(found) else ''}"
    )


@contextlib.contextmanager
def replaced(calls=(), activations=()):
    """While it lasts, layers do something else.

    Args:
        calls: pairs (layer, function); the function gets the layer's own `call` and then the arguments.
        activations: pairs (layer, function) for its attribute `activation`.
    """
    with contextlib.ExitStack() as stack:
        for layer, function in calls:
            stack.enter_context(_attribute(layer, "call", _bound(function, layer.call)))
        for layer, function in activations:
            stack.enter_context(_attribute(layer, "activation", function))
        yield


def _bound(function, original):
    return lambda *args, **kwargs: function(original, *args, **kwargs)


@contextlib.contextmanager
def _attribute(layer, name, value):
    # Past Keras, which forbids changes to a built layer, and past PyTorch's modules.
    own = vars(layer)
    before = [own[name]] if name in own else []
    object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        if before:
            object.__setattr__(layer, name, before[0])
        else:
            object.__delattr__(layer, name)


def recorded(model, x, layers):
    """The outputs of layers (a dict of name -> layer) in one run of a model on x, and the model's own output."""
    seen = {}

    def record(name):
        def call(original, *args, **kwargs):
            seen[name] = original(*args, **kwargs)
            return seen[name]

        return call

    with replaced([(layer, record(name)) for name, layer in layers.items()]):
        output = model(x, training=False)
    return seen, output


def as_images(model, images):
    """Images as float32 (N, H, W, C).

    Raises:
        ValueError: they are not, or there are none, or the model takes more than images.
    """
    if len(getattr(model, "inputs", None) or [0]) != 1:
        raise ValueError(
            f"{model.name} has {len(model.inputs)} inputs; only models of one batch of images are looked into"
        )
    images = np.asarray(images, "float32")
    if images.ndim != 4:
        raise ValueError(
            f"images must be (N, height, width, channels), got the shape {images.shape}; of one image, pass image[None]"
        )
    if not len(images):
        raise ValueError("there are no images")
    return images


# The end of a classifier


def ending(model):
    """What a classifier ends in: ("softmax" or "sigmoid" or "logits", the last layer or operation)."""
    last = model
    while isinstance(last, keras.Model):
        if isinstance(last, keras.Sequential):
            last = last.layers[-1]
        elif hasattr(last, "operations"):
            last = last.outputs[0]._keras_history.operation
        else:
            found = list(leaves(last).values())
            if not found:
                return "logits", last
            last = found[-1]
    kind = type(last).__name__
    activation = getattr(last, "activation", None)
    if activation is keras.activations.softmax or kind == "Softmax":
        return "softmax", last
    if activation is keras.activations.sigmoid or kind == "Sigmoid":
        return "sigmoid", last
    return "logits", last


def without_ending(model):
    """Arguments for `replaced` that take the final softmax or sigmoid away."""
    kind, last = ending(model)
    if kind == "logits":
        return {}
    if hasattr(last, "activation"):
        return {"activations": [(last, keras.activations.linear)]}
    return {"calls": [(last, lambda original, x, *args, **kwargs: x)]}


def class_scores(model, x):
    """Logits (B, classes) of a batch, in front of the final softmax or sigmoid. A single output z counts as two classes
    of -z and z.
    """
    with replaced(**without_ending(model)):
        z = model(x, training=False)
    if len(z.shape) != 2:
        raise ValueError(f"{model.name} gives {tuple(z.shape[1:])} for an image; expected one number for each class")
    return ops.concatenate([-z, z], axis=-1) if z.shape[-1] == 1 else z


def class_probabilities(model, scores):
    """Probabilities (B, classes) from `class_scores`: softmax; for one output or a final sigmoid, each score's own
    sigmoid.
    """
    if ending(model)[0] == "sigmoid" or len(scores.shape) != 2:
        return ops.sigmoid(scores)
    single = getattr(model, "outputs", None) and model.outputs[0].shape[-1] == 1
    return ops.sigmoid(scores) if single else ops.softmax(scores)


def predict(model, images, batch_size=64):
    """(scores, probabilities) of images, two NumPy arrays (N, classes)."""

    def function(x):
        scores = class_scores(model, x)
        return [scores, class_probabilities(model, scores)]

    run = kept_for(model, "predict", lambda: Run(function, model))
    return run.outputs_of([as_images(model, images)], batch_size)


def which_class(class_index, scores):
    """(N,) classes: those asked for, or the winners.

    Raises:
        ValueError: there is no such class, or not one for each image.
    """
    count, classes = scores.shape
    if class_index is None:
        return scores.argmax(axis=-1)
    chosen = np.asarray(class_index)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (count,)):
        raise ValueError(f"class_index must be a whole number or {count} of them, got {class_index!r}")
    if chosen.min() < 0 or chosen.max() >= classes:
        raise ValueError(f"class_index must be in 0 to {classes - 1}, got {class_index!r}")
    return np.broadcast_to(chosen, (count,))


def one_hot(chosen, classes):
    return np.eye(classes, dtype="float32")[chosen]
