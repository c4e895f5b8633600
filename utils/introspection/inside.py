"""The layers of a model, wherever they are nested, and runs in which some of them do something else."""

import contextlib
import difflib
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from utils import models
from utils.introspection.gradient import Run, kept_for


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
    """The outputs of layers (a dict of name -> layer) in one run of a model on x, half precision as float32, and the
    model's own output.
    """
    seen = {}

    def record(name):
        def call(original, *args, **kwargs):
            output = original(*args, **kwargs)
            seen[name] = keras.tree.map_structure(models.single, output)
            return output

        return call

    with replaced([(layer, record(name)) for name, layer in layers.items()]):
        output = model(x, training=False)
    return seen, output


def as_images(model, images):
    """Images as float32 (N, H, W, C).

    Raises:
        ValueError: they are not, or there are none, or the model is not built or takes more than images.
    """
    models.check_single(model, outputs=False)
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
    """What a classifier ends in: ("softmax" or "sigmoid" or "logits", the layer or operation that does it).

    It is recognised by what it computes, not by its name: the last steps of the model are run on a few numbers, from
    the output backwards, and those that hand their input on (a cast, a reshape, a dropout in inference) are passed
    over. "logits" stands for everything that is neither softmax, its logarithm, nor sigmoid."""
    return kept_for(model, "ending", lambda: _ending(model))


def _ending(model):
    last = model
    for part in _backwards(model):
        last = part
        kind = _kind(part)
        if kind != "identity":
            return ("logits" if kind == "other" or _is_shared(part) else kind), part
    return "logits", last


def _backwards(model):
    """The parts of a model from its output on, as far as each takes one tensor from the one before."""
    if isinstance(model, keras.Sequential):
        for layer in reversed(model.layers):
            yield from _backwards(layer) if isinstance(layer, keras.Model) else [layer]
    elif hasattr(model, "operations"):
        tensor = model.outputs[0]
        while True:
            operation, index, _ = tensor._keras_history
            if isinstance(operation, keras.layers.InputLayer):
                return
            yield from _backwards(operation) if isinstance(operation, keras.Model) else [operation]
            inputs = operation._inbound_nodes[index].input_tensors
            if len(inputs) != 1:
                return
            tensor = inputs[0]
    else:
        yield from list(leaves(model).values())[-1:]


def _is_shared(part):
    """Whether a part is called in several places: to take it away from the end would take it from all of them."""
    return len(getattr(part, "_inbound_nodes", ())) > 1


def _kind(part):
    """What a part computes: "softmax", "sigmoid", "identity" or "other"."""
    activation = getattr(part, "activation", None)
    if callable(activation) and not isinstance(part, keras.layers.Activation):
        kind = _computes(activation, (_width(part),))
        return "other" if kind == "identity" else kind  # a linear activation, but the layer has weights
    if isinstance(part, keras.Layer) and (part.weights or isinstance(part, keras.Model)):
        return "other"
    shapes = [tuple(tensor.shape[1:]) for tensor in _inputs_of(part)]
    if len(shapes) > 1:
        return "other"
    shape = shapes[0] if shapes and None not in shapes[0] else (_width(part),)
    return _computes(part if isinstance(part, keras.Layer) else part.call, shape)


def _inputs_of(part):
    nodes = getattr(part, "_inbound_nodes", ())
    return nodes[0].input_tensors if nodes else []


def _width(part):
    nodes = getattr(part, "_inbound_nodes", ())
    shape = nodes[0].outputs[0].shape if nodes and len(nodes[0].outputs) == 1 else ()
    return shape[-1] if len(shape) > 1 and shape[-1] else 4


def _computes(function, shape):
    values = np.random.default_rng(0).normal(0, 2, (3, *shape)).astype("float32")
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    softmax = powers / powers.sum(axis=-1, keepdims=True)
    known = {"identity": values, "sigmoid": 1 / (1 + np.exp(-values))}
    if shape[-1] > 1:
        known |= {"softmax": softmax, "log softmax": np.log(softmax)}
    try:
        found = ops.convert_to_numpy(ops.cast(function(ops.convert_to_tensor(values)), "float32"))
    except Exception:  # a layer of the user's own, which may want anything
        return "other"
    if found.size == values.size:
        for name, expected in known.items():
            if np.allclose(found.ravel(), expected.ravel(), rtol=1e-2, atol=4e-3):
                return name.removeprefix("log ")
    return "other"


def without_ending(model):
    """Arguments for `replaced` that take the final softmax or sigmoid away."""
    kind, last = ending(model)
    if kind == "logits":
        return {}
    if callable(getattr(last, "activation", None)):
        return {"activations": [(last, keras.activations.linear)]}
    return {"calls": [(last, lambda original, x, *args, **kwargs: x)]}


def class_scores(model, x):
    """Logits (B, classes) of a batch, float32, in front of the final softmax or sigmoid. A single output z counts as
    two classes of -z and z.
    """
    with replaced(**without_ending(model)):
        z = model(x, training=False)
    if len(z.shape) != 2:
        raise ValueError(f"{model.name} gives {tuple(z.shape[1:])} for an image; expected one number for each class")
    z = ops.cast(z, "float32")
    return ops.concatenate([-z, z], axis=-1) if z.shape[-1] == 1 else z


def class_probabilities(model, scores):
    """Probabilities (B, classes) from `class_scores`: softmax; for one output or a final sigmoid, each score's own
    sigmoid.
    """
    if ending(model)[0] == "sigmoid" or len(scores.shape) != 2:
        return ops.sigmoid(scores)
    single = getattr(model, "outputs", None) and model.outputs[0].shape[-1] == 1
    return ops.sigmoid(scores) if single else ops.softmax(scores)


class Answers(NamedTuple):
    """What a classifier says of images: `scores` and `probabilities` (N, classes) float32.

    `hidden`: None; or "probabilities" or "log-probabilities", which the model gives without that the logits in front of
    them were found. The scores are log-probabilities then."""

    scores: np.ndarray
    probabilities: np.ndarray
    hidden: str | None = None

    def logits_needed(self, model):
        """Raises ValueError where the logits are hidden."""
        if self.hidden:
            raise ValueError(
                f"{model.name} gives {self.hidden}, and the logits in front of them were not found: end the model in a "
                "layer or operation that is a softmax or sigmoid and nothing else"
            )


def predict(model, images, batch_size=64):
    """`Answers` for images."""
    images = as_images(model, images)
    models.check_single(model)
    kind = ending(model)[0]

    def function(x):
        scores = class_scores(model, x)
        return [scores, class_probabilities(model, scores)]

    run = kept_for(model, "predict", lambda: Run(function, model))
    scores, probabilities = run.outputs_of([images], batch_size)
    if kind != "logits":
        return Answers(scores, probabilities)
    single = (scores[:, :1] == -scores[:, 1:]).all() and scores.shape[1] == 2
    outputs = scores[:, 1:] if single else scores
    hidden = _hidden(outputs)
    if hidden:
        # Logits may lie between 0 and 1 by chance. Those of images a hundred times as strong, and of their negatives,
        # do not.
        extreme = np.concatenate([images[:4] * factor for factor in (100, -100)])
        strong = run.outputs_of([extreme], batch_size)[0]
        strong = strong[np.isfinite(strong).all(axis=-1)]
        seen = np.concatenate([outputs, strong[:, 1:] if single else strong])
        hidden = _hidden(seen) if seen.any() else None  # zeros everywhere: logits of a layer that begins with zeros
    if hidden != "probabilities":  # of log-probabilities, softmax gives the probabilities
        return Answers(scores, probabilities, hidden)
    own = np.concatenate([1 - outputs, outputs], axis=-1) if single else outputs
    return Answers(np.log(np.maximum(own, np.finfo("float32").tiny)), own, hidden)


def _hidden(outputs):
    """What outputs (N, classes) look like: "log-probabilities", "probabilities", or None for neither."""
    if outputs.shape[-1] > 1 and (outputs <= 1e-3).all() and np.allclose(np.exp(outputs).sum(axis=-1), 1, atol=1e-2):
        return "log-probabilities"
    return "probabilities" if ((outputs >= 0) & (outputs <= 1.001)).all() else None


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
