"""The list of all architectures by name: `register` puts a builder on it, `build` calls it."""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np

_ENTRIES = {}


@dataclass(frozen=True)
class Architecture:
    """What is known of an architecture before it is built."""

    name: str
    builder: Callable
    input_shape: tuple  # the paper's
    classes: int  # the paper's
    application: str | None = None  # class in keras.applications with the same layers in the same order
    application_options: dict = field(default_factory=dict)  # our options under which it is the same
    application_arguments: dict = field(default_factory=dict)  # further arguments of that class, as alpha

    @property
    def family(self):
        """Name of the file it is in."""
        return self.builder.__module__.rpartition(".")[2]

    @property
    def options(self):
        """dict of the options that `build` passes on, with their defaults."""
        parameters = list(inspect.signature(self.builder).parameters.values())[4:]
        return {parameter.name: parameter.default for parameter in parameters}

    @property
    def about(self):
        """First line of the builder's docstring."""
        return inspect.getdoc(self.builder).partition("\n")[0]


def register(*names, input_shape, classes=1000, application=None, application_options=None):
    """Put a builder on the list under one or several names. Stack it to register names with other shapes.

    The builder is a function `f(name, input_shape, classes, include_top, **options)` with its options spelt out as
    keyword parameters; it gives a functional `keras.Model` called `name`, with logits from a layer "logits" or, without
    the top, the last feature map. Its layers' names begin with their stage and "_": "stage3_block2_conv1".

    Args:
        names: names for `build`.
        input_shape: the paper's (height, width, channels).
        classes: the paper's number of classes.
        application: class in `keras.applications`, or a dict from name to class, that has the same layers in the same
            order, so that its weights load. In place of a class, a pair of it and a dict of its arguments, as alpha.
        application_options: dict of the options under which it is that network, where they are not the defaults.
    """

    def decorate(builder):
        for name in names:
            if name in _ENTRIES:
                raise ValueError(f"{name} is registered twice")
            same = application.get(name) if isinstance(application, dict) else application
            same, arguments = same if isinstance(same, tuple) else (same, {})
            _ENTRIES[name] = Architecture(
                name, builder, input_shape, classes, same, application_options or {}, arguments
            )
        return builder

    return decorate


def names(family=None):
    """Names of all architectures, sorted; or those of one family (name of its file, as "vgg")."""
    found = sorted((e for e in _ENTRIES.values() if family in (None, e.family)), key=lambda e: _natural(e.name))
    return [entry.name for entry in found]


def describe(name):
    """`Architecture` of that name: name, family, input_shape, classes, options, about.

    Raises:
        ValueError: there is none of this name; the message suggests the nearest.
    """
    if name not in _ENTRIES:
        raise ValueError(
            f"no architecture {name!r}{_suggestion(name, _ENTRIES)}; utils.architectures.names() lists all"
        )
    return _ENTRIES[name]


def build(name, input_shape=None, classes=None, include_top=True, weights=None, **options):
    """Build an architecture.

    Args:
        name: one of `names()`.
        input_shape: (height, width, channels); None for the paper's.
        classes: number of classes; None for the paper's: 1000 of ImageNet, 10 of CIFAR and of digits.
        include_top: whether to keep the classifier. Without it the model gives the last feature map.
        weights: None (random); "imagenet", those of `keras.applications` (see `load_imagenet`); or the path of a file
            that `model.save_weights` wrote.
        **options: of the family; `describe(name).options` lists them, the family's function describes them.

    Returns:
        keras.Model on (B, height, width, channels) float, functional, called `name`; gives logits (B, classes), float.

    Raises:
        ValueError: unknown name or option, an input too small, or weights that do not fit.
    """
    entry = describe(name)
    known = entry.options
    for option in options:
        if option not in known:
            raise ValueError(
                f"{name} has no option {option!r}{_suggestion(option, known)} (known: {', '.join(known) or 'none'})"
            )
    shape = tuple(input_shape or entry.input_shape)
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(f"{name}: expected input_shape=(height, width, channels), got {input_shape!r}")
    model = entry.builder(name, shape, entry.classes if classes is None else classes, include_top, **options)
    if weights == "imagenet":
        for option, value in entry.application_options.items():
            if options.get(option, known[option]) != value:
                raise ValueError(f"{name}: the ImageNet weights are for {option}={value!r}")
        load_imagenet(model)
    elif weights is not None:
        model.load_weights(weights)
    return model


def outline(name, input_shape=None, classes=None, include_top=True, **options):
    """An architecture whose weights have shapes and no values: to count and to draw, without the time and memory they
    take.

    Args:
        name, input_shape, classes, include_top, options: as in `build`. In place of the name, a function of no
        arguments that
            builds a model of your own.

    Returns:
        keras.Model with all layers and shapes. It cannot run, and its weights cannot be set.
    """
    from keras.src.backend.common import global_state  # no public way leads to this list

    with keras.StatelessScope(initialize_variables=False):
        model = name() if callable(name) else build(name, input_shape, classes, include_top, **options)
    # The weights wait on it for their values, which the next scope that ends would give them.
    global_state.set_global_attribute("uninitialized_variables", [])
    return model


def load_imagenet(model):
    """Load the ImageNet weights of `keras.applications` into a model of ours, with or without the top.

    They expect images as that module's `preprocess_input` makes them: `keras.applications.vgg16.preprocess_input` and
    so on. Keras looks in KERAS_HOME (else ~/.keras) before it asks the network.

    Args:
        model: from `build`, with its name unchanged.

    Raises:
        ValueError: `keras.applications` has no such network, or its layers do not fit.
    """
    entry = describe(model.name)
    if entry.application is None:
        raise ValueError(f"{entry.name}: keras.applications has no such network, hence no ImageNet weights")
    top = any(layer.name == "logits" for layer in model.layers)
    if top and model.output_shape[-1] != 1000:
        raise ValueError(
            f"{entry.name}: the ImageNet weights are for 1000 classes, not {model.output_shape[-1]}: build with "
            "include_top=False and add a classifier"
        )
    copy_weights(application(entry.name, include_top=top), model)


def application(name, include_top=True, weights="imagenet"):
    """The network of `keras.applications` that an architecture of ours equals, giving logits as ours does."""
    entry = describe(name)
    options = {"classifier_activation": None} if include_top else {"input_shape": (None, None, 3)}
    options |= entry.application_arguments
    return getattr(keras.applications, entry.application)(include_top=include_top, weights=weights, **options)


def copy_weights(source, target):
    """Copy all weights from one model to another, layer by layer in the order of `model.layers`.

    A convolution may have a bias in the source and none in the target where batch normalisation follows, which takes it
    away again: the running mean is shifted by it, and the outputs stay the same.

    Args:
        source, target: `keras.Model`s with the same layers that have weights, in the same order; names do not matter.

    Raises:
        ValueError: they differ; the message names the first pair of layers that does. The target may be half changed.
    """
    pairs = [[layer for layer in model.layers if layer.weights] for model in (source, target)]
    if len(pairs[0]) != len(pairs[1]):
        counts = f"{len(pairs[0])} layers with weights, {target.name} has {len(pairs[1])}"
        raise ValueError(f"the weights of {source.name} do not fit {target.name}: it has {counts}")
    biases = {}  # by the tensor that they were added to
    for old, new in zip(*pairs):
        values = old.get_weights()
        if isinstance(old, keras.layers.BatchNormalization) and id(old.input) in biases:
            values[-2] = values[-2] - biases.pop(id(old.input))
        if getattr(old, "use_bias", False) and not getattr(new, "use_bias", True):
            biases[id(old.output)] = values.pop()
        shapes = [[tuple(w.shape) for w in weights] for weights in (values, new.weights)]
        sizes = [[int(np.prod(shape)) for shape in group] for group in shapes]
        if sizes[0] != sizes[1] or [s[-1:] for s in shapes[0]] != [s[-1:] for s in shapes[1]]:
            raise ValueError(
                f"the weights of {source.name} do not fit {target.name}: {old.name} has {shapes[0]}, {new.name} "
                f"{shapes[1]}"
            )
        new.set_weights([value.reshape(shape) for value, shape in zip(values, shapes[1])])
    if biases:
        raise ValueError(f"a bias of {source.name} has no place in {target.name}: no batch normalisation follows it")


def _suggestion(word, known):
    near = difflib.get_close_matches(str(word).lower(), list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _natural(name):
    """Sorts resnet18 before resnet101."""
    digits = "".join(c if c.isdigit() else " " for c in name).split()
    return "".join(c for c in name if not c.isdigit()), [int(d) for d in digits], name
