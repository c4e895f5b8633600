"""Every call of every layer of a model, in the order of the computation, with its shapes.

The one place that looks at how Keras keeps a model's graph. Nothing is computed and no layer is changed: shapes are
worked out symbolically, for one image.
"""

from dataclasses import dataclass, field

import keras


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one layer, or of one operation of `keras.ops` in a functional model.

    `inputs` and `outputs` are `keras.KerasTensor`s of batch size 1; a tensor that one call gives and another takes is
    the same object. Calls that were seen while tracing a layer's own code (`inside`) are not connected in this way.
    """

    path: str  # the layer's name, after the names of the models it is nested in: "backbone/conv1"
    layer: keras.Operation
    arguments: tuple  # (args, kwargs) as in the call, with KerasTensors
    outputs: list
    times: int = 1  # calls that this one stands for: the steps of a TimeDistributed layer
    inside: bool = False
    handed_on: tuple = ()  # those of the outputs of a traced layer that a layer inside it made
    holds_layers: bool = False  # a layer that holds layers and was traced
    inputs: list = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "inputs", _tensors(self.arguments))


def trace(model, input_shape=None, is_leaf=lambda layer: False):
    """Follow one image through a model.

    Args:
        model: `keras.Model` (functional, Sequential, subclassed, nested) or a built `keras.Layer`.
        input_shape: shape of one image, (height, width, channels), to use in place of the model's own; for several
            inputs a list or dict of shapes in the model's structure. An unbuilt model is built for this shape.
        is_leaf: function that says of a layer whether not to look into it, although it holds layers.

    Returns:
        (inputs, calls): list of KerasTensor and list of `Call`. Nested models are unfolded. A layer that holds layers
        and is no leaf is traced: the calls it makes come first, `inside`, and then its own.

    Raises:
        ValueError: the input shape is not defined, or does not go with the model.
    """
    arguments = _inputs(model, input_shape)
    calls = []
    walk = _Walk(calls, is_leaf)
    walk.model(model, "", (arguments,), {})
    return _tensors(arguments), calls


class _Walk:
    def __init__(self, calls, is_leaf, times=1, inside=False):
        self.calls, self.is_leaf, self.times, self.inside = calls, is_leaf, times, inside

    def call(self, layer, prefix, args, kwargs):
        """Visit a layer; return its outputs as KerasTensors, in its own structure."""
        path = prefix + layer.name
        if not isinstance(layer, keras.Layer) or self.is_leaf(layer):
            return self.leaf(layer, path, args, kwargs)
        if isinstance(layer, keras.layers.TimeDistributed):
            return self.steps(layer, path, args, kwargs)
        if isinstance(layer, keras.Model):
            return self.model(layer, path + "/", args, kwargs)
        if _sublayers(layer):
            return self.inner(layer, path, args, kwargs)
        return self.leaf(layer, path, args, kwargs)

    def leaf(self, layer, path, args, kwargs):
        _check_axes(layer, _tensors((args, kwargs)))
        outputs = layer.compute_output_spec(*args, **kwargs)
        if any(None in x.shape for x in _tensors(outputs)):  # an EinsumDense told only a part of its output's shape
            outputs = _Function(layer).compute_output_spec(*args, **kwargs)
        self.add(path, layer, args, kwargs, outputs)
        return outputs

    def add(self, path, layer, args, kwargs, outputs, **how):
        self.calls.append(Call(path, layer, (args, kwargs), _tensors(outputs), self.times, self.inside, **how))

    def model(self, model, prefix, args, kwargs):
        if _is_graph(model):
            return model._run_through_graph(
                args or kwargs, operation_fn=lambda layer: lambda *a, **k: self.call(layer, prefix, a, k)
            )
        if isinstance(model, keras.Sequential) and _has_own_call(model):
            (outputs,) = args or kwargs.values()
            for layer in model.layers:
                outputs = self.call(layer, prefix, (outputs,), {})
            return outputs
        if self.is_leaf(model) or not _sublayers(model):
            return self.leaf(model, prefix.rstrip("/") or model.name, args, kwargs)
        return self.inner(model, prefix.rstrip("/"), args, kwargs)

    def steps(self, layer, path, args, kwargs):
        """A TimeDistributed layer: its inner layer's calls at one step, counted for all of them."""
        outputs = layer.compute_output_spec(*args, **kwargs)
        batch, times, *rest = args[0].shape
        one = keras.KerasTensor((batch, *rest), args[0].dtype)
        _Walk(self.calls, self.is_leaf, self.times * times, True).call(layer.layer, path + "/", (one,), {})
        self.add(path, layer, args, kwargs, outputs, handed_on=tuple(_tensors(outputs)), holds_layers=True)
        return outputs

    def inner(self, layer, path, args, kwargs):
        """A layer whose own code calls layers: run it symbolically and take down the calls."""
        if not layer.built:
            _Function(layer).compute_output_spec(*args, **kwargs)
        made, produced, depth = [], [], 0

        def watch(sublayer):
            original = sublayer.call

            def call(*a, **k):
                nonlocal depth
                depth += 1
                try:
                    outputs = original(*a, **k)
                finally:
                    depth -= 1
                if depth == 0:
                    made.append((sublayer, *_specs((a, k))))
                    produced.extend(keras.tree.flatten(outputs))
                return outputs

            return call

        made_inside = []

        def run(*a, **k):
            outputs = layer(*a, **k)
            made_inside.extend(any(x is y for y in produced) for x in keras.tree.flatten(outputs))
            return outputs

        watched = _sublayers(layer)
        for sublayer in watched:
            object.__setattr__(sublayer, "call", watch(sublayer))
        try:
            outputs = _Function(run).compute_output_spec(*args, **kwargs)
        finally:
            for sublayer in watched:
                object.__delattr__(sublayer, "call")
        walk = _Walk(self.calls, self.is_leaf, self.times, True)
        for sublayer, a, k in made:
            walk.call(sublayer, path + "/" if path else "", a, k)
        handed_on = tuple(x for x, inside in zip(keras.tree.flatten(outputs), made_inside) if inside)
        self.add(path or layer.name, layer, args, kwargs, outputs, handed_on=handed_on, holds_layers=True)
        return outputs


class _Function(keras.Operation):
    """A function as an operation, for its `compute_output_spec`."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, *args, **kwargs):
        return self.function(*args, **kwargs)


def _inputs(model, input_shape):
    own = getattr(model, "inputs", None) if model.built else None
    if input_shape is not None and not own:
        if not model.built and isinstance(model, keras.Sequential):
            model.build(keras.tree.map_shape_structure(lambda shape: (None, *shape), input_shape))
        return keras.tree.map_shape_structure(lambda shape: keras.KerasTensor((1, *shape)), input_shape)
    if not own:
        raise ValueError(f"the input size of {model.name} is not defined: pass input_shape=(height, width, channels)")
    shapes = [tensor.shape[1:] for tensor in own]
    if input_shape is not None:
        if isinstance(input_shape, dict) and all(_input_name(x) in input_shape for x in own):
            input_shape = [input_shape[_input_name(x)] for x in own]
        given = []
        keras.tree.map_shape_structure(given.append, input_shape)
        if len(given) != len(own):
            raise ValueError(f"{model.name} has {len(own)} inputs, and input_shape gives {len(given)}")
        for old, new in zip(shapes, given):
            if len(old) != len(new) or any(a not in (None, b) for a, b in zip(old[-1:], new[-1:])):
                raise ValueError(f"an input of shape {tuple(new)} does not go with {model.name}, built for {old}")
        shapes = given
    for shape in shapes:
        if None in shape:
            raise ValueError(f"the input size of {model.name} is {shape}: pass input_shape=(height, width, channels)")
    tensors = [keras.KerasTensor((1, *shape), x.dtype, name=_input_name(x)) for shape, x in zip(shapes, own)]
    return tensors if len(tensors) > 1 else tensors[0]


# What Keras keeps to itself, all of it here: the graph of a functional model and the layers that a layer holds.


def trunk(model):
    """The maps that no branch goes around: each lies on every path of maps from the image to the model's last map.

    A map inside a residual block is none of them, for the shortcut goes around it; the block's sum is one.

    Args:
        model: functional `keras.Model` on images; of several outputs, the last one counts. Nested models are not looked
            into.

    Returns:
        list of pairs from the image (included) to the last map: `keras.KerasTensor` (B, H, W, C) of the model itself,
        and the list of layers and operations that lead to it from the one before.

    Raises:
        ValueError: the model is not functional, or no map leads from its image to its output.
    """
    if not getattr(model, "outputs", None) or len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(
            f"{model.name} is not a functional or built Sequential keras.Model with one image as its input"
        )
    nodes, waiting, done = [], [(_node(model.outputs[-1]), False)], set()
    while waiting:  # depth first: a node comes after all that it depends on
        node, ready = waiting.pop()
        if ready:
            nodes.append(node)
        elif id(node) not in done:
            done.add(id(node))
            waiting += [(node, True), *((_node(x), False) for x in node.input_tensors)]
    maps = [node for node in nodes if len(node.output_tensors) == 1 and len(node.output_tensors[0].shape) == 4]
    if not maps or maps[0].operation is not _node(model.inputs[0]).operation:
        raise ValueError(f"{model.name} gives no map of its image")
    place = {id(node): index for index, node in enumerate(nodes)}
    last_use = {}
    for index in range(place[id(maps[-1])] + 1):
        for x in nodes[index].input_tensors:
            if len(x.shape) == 4:
                last_use[place[id(_node(x))]] = index
    found, between, furthest = [], [], 0
    for index in range(place[id(maps[-1])] + 1):
        between.append(nodes[index].operation)
        if furthest <= index and nodes[index] in maps:
            found.append((nodes[index].output_tensors[0], between))
            between = []
        furthest = max(furthest, last_use.get(index, 0))
    return found


def _node(tensor):
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _is_graph(model):
    """Whether the model is what its graph says: functional, and with Keras's own `call`."""
    return hasattr(model, "_run_through_graph") and _has_own_call(model)


def _has_own_call(model):
    return type(model).call.__module__.startswith("keras.")


def _sublayers(layer):
    return list({id(part): part for part in layer._flatten_layers(include_self=False)}.values())


def _input_name(tensor):
    return tensor._keras_history.operation.name


def _check_axes(layer, tensors):
    specs = keras.tree.flatten(getattr(layer, "input_spec", None))
    for spec, tensor in zip(specs, tensors):
        for axis, size in (getattr(spec, "axes", None) or {}).items():
            if tensor.shape[axis] not in (size, None):
                raise ValueError(
                    f"layer {layer.name} takes {size} values along axis {axis} and gets {tensor.shape[axis]}: "
                    "the model does not fit an input of this size"
                )


def natural_variables(layer):
    """(trainable, other) weights of a layer and of all layers in it, by what they are: freezing changes nothing.

    Trainable are kernels, biases, scales and shifts; the others are statistics that a layer keeps (batch
    normalisation's running mean and variance, the mean and variance that Normalization was adapted to). Two lists of
    `keras.Variable`.
    """
    weights = {id(weight): weight for weight in layer.weights}
    trainable = {id(v) for part in layer._flatten_layers() for v in part._trainable_variables}
    return (
        [weight for key, weight in weights.items() if key in trainable],
        [weight for key, weight in weights.items() if key not in trainable],
    )


def _tensors(structure):
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


def _specs(structure):
    """The same structure with KerasTensors in place of a backend's tensors."""
    return keras.tree.map_structure(
        lambda x: (
            keras.KerasTensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) if keras.ops.is_tensor(x) else x
        ),
        structure,
    )
