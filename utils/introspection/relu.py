"""Other ways back through a ReLU: guided back-propagation and the deconvnet."""

import contextlib

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
    parts = inside.leaves(model).values() if only is None else only
    for part in {id(part): part for part in parts}.values():
        if is_relu(part):
            calls.append((part, lambda original, x, *args, **kwargs: backward(original, rule)(x)))
        elif has_relu(part):
            activations.append((part, backward(part.activation, rule)))
    if rule == "guided" and not calls and not activations:
        raise ValueError(f"{model.name} has no ReLU that could guide; see saliency")
    with inside.replaced(calls, activations):
        yield


def is_relu(part):
    """Whether a layer or operation is a plain ReLU, perhaps with a largest value."""
    if isinstance(part, layers.ReLU):
        return not part.negative_slope and not part.threshold
    return type(part).__name__ in ("Relu", "Relu6")


def has_relu(part):
    return getattr(part, "activation", None) in inside.RELUS


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
