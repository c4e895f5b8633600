"""Other ways back through a ReLU: guided back-propagation and the deconvnet."""

import contextlib

import numpy as np
from keras import layers, ops

from utils.introspection import inside


@contextlib.contextmanager
def rectifying(model, rule, only=None):
    """While it lasts, the ReLUs of a model send gradients back by another rule.

    Args:
        model: keras.Model.
        rule: None, back-propagation itself: where the unit was active; "deconvnet": what is positive of that which
            comes from above; "guided": both conditions; "open": everything.
        only: layers to which this is confined; None: all of them.

    Raises:
        ValueError: the rule is "guided", and the model has no ReLU.
    """
    if rule is None:
        yield
        return
    calls, activations = [], []
    for part, how in relus(model):
        if only is not None and not any(part is one for one in only):
            continue
        if how == "is":
            calls.append((part, lambda original, x, *args, **kwargs: backward(original, rule)(x)))
        else:
            activations.append((part, backward(part.activation, rule)))
    if rule == "guided" and not calls and not activations:
        raise ValueError(f"{model.name} has no ReLU that could guide; see saliency")
    with inside.replaced(calls, activations):
        yield


def relus(model):
    """Pairs (part, "is" or "has") of the parts of a model that are ReLUs or end in one.

    They are told by what they compute, so this is asked once, before a backend traces the model: a traced function
    gives no numbers."""

    def found():
        parts = {id(part): part for part in inside.leaves(model).values()}.values()
        return [(part, how) for part in parts for how in ("is", "has") if {"is": is_relu, "has": has_relu}[how](part)]

    return inside.kept_for(model, "relus", found)


def is_relu(part):
    """Whether a layer or operation is a plain ReLU, perhaps with a largest value."""
    if isinstance(part, (layers.ReLU, layers.Lambda)):
        return _rectifies(part)
    return type(part).__name__ in ("Relu", "Relu6")


def has_relu(part):
    """Whether a layer's own activation function is a plain ReLU, perhaps with a largest value."""
    return callable(getattr(part, "activation", None)) and _rectifies(part.activation)


def _rectifies(function):
    values = np.array([[-1e4, -3, -0.5, 0, 0.5, 1, 1e4]], "float32")
    try:
        found = ops.convert_to_numpy(ops.cast(function(ops.convert_to_tensor(values)), "float32"))
    except Exception:  # a function of the user's own, which may want anything
        return False
    largest = found.max()
    return largest >= 1 and found.shape == values.shape and np.array_equal(found, np.clip(values, 0, largest))


def backward(relu, rule):
    """A ReLU with the gradient of a rule; "open" lets everything through."""

    @ops.custom_gradient
    def function(x):
        y = relu(x)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            if rule == "open":
                return upstream
            passes = upstream > 0
            if rule == "guided":
                passes = ops.logical_and(passes, ops.logical_and(y > 0, y == x))
            return ops.where(passes, upstream, ops.zeros_like(upstream))

        return y, gradient

    return function
