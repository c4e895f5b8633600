"""What a model costs: parameters, multiply-accumulates, activation memory."""

import math
import warnings

import keras
import pandas as pd

from utils.arithmetic import graph, kinds


def layer_table(model, input_shape=None):
    """What every layer of a model costs on one image: parameters, multiply-accumulates, activation memory.

    - Parameters are weights that are trainable by nature (kernels, biases, scales and shifts), frozen or not; what
      layers keep without training it, above all the running mean and variance of batch normalisation, stands under
      `statistics`. Weights of a layer that is called twice are counted at its first call.
    - MACs are multiply-accumulates of convolutions and matrix products, and of nothing else: H' W' kh kw (C / groups) K
      for a convolution; the same with the input's H W for a transposed one; inputs times outputs for a dense layer.
      Attention, recurrent layers, `keras.ops.matmul`, `einsum` and `conv` are matrix products too.
    - Activation memory is the input and every layer's output at 4 bytes a value, for the forward pass. Layers that map
      each value by itself (activations, normalisation, dropout, rescaling) or only rename axes (Reshape, Flatten) work
      in place and take none; zero padding, cropping, pooling, upsampling, Add and Concatenate make a copy and do.

    A layer that holds layers of its own (a subclassed model, a wrapper) is traced: the layers it calls come first, as
    "block/layer", and its own row last. Operations that such a layer does outside of its layers cannot be seen. If it,
    or any layer of your own, has a method `macs(*input_shapes)`, shapes without the batch, that is asked for them; one
    with an attribute `each_place = True` (each place of its output depends on that place of its input) has none.

    Args:
        model: `keras.Model` of any kind, nested too.
        input_shape: shape of one image, (height, width, channels), to use in place of the model's own; for several
            inputs a list or dict of shapes. An unbuilt model is built for it.

    Returns:
        DataFrame, one row per input and per call of a layer: layer, type, output_shape (without the batch; a list of
        shapes where there are several), params, statistics, macs, activation_bytes, note.

    Raises:
        ValueError: the input size is not defined (pass input_shape), or the model does not fit it.

    Warns:
        UserWarning: MACs of some layers are not, or not fully, counted: layers with weights of two or more axes that
            are unknown here, and user-defined ones. It names their types, and `note` marks their rows.
    """
    inputs, calls = graph.trace(model, input_shape, kinds.is_leaf)
    rows = [_row(x.name, "InputLayer", [x], activation_bytes=4 * math.prod(x.shape)) for x in inputs]
    counted, uncounted = set(), set()
    for call in calls:
        macs, note, complete = _count_macs(call)
        if not complete:
            uncounted.add(type(call.layer).__name__)
        trainable, other = graph.natural_variables(call.layer) if isinstance(call.layer, keras.Layer) else ([], [])
        new = [[v for v in variables if id(v) not in counted] for variables in (trainable, other)]
        if trainable and not new[0] and not call.holds_layers:
            note = "; ".join(filter(None, ["weights counted above", note]))
        counted |= {id(v) for variables in new for v in variables}
        written = [] if _in_place(call) else [x for x in call.outputs if not any(x is y for y in call.handed_on)]
        rows.append(
            _row(
                call.path,
                type(call.layer).__name__,
                call.outputs,
                *(sum(math.prod(v.shape) for v in variables) for variables in new),
                macs * call.times,
                4 * sum(math.prod(x.shape) for x in written) * call.times,
                note,
            )
        )
    if uncounted:
        warnings.warn(f"MACs not fully counted, see the column note: {', '.join(sorted(uncounted))}", stacklevel=2)
    return pd.DataFrame(rows)


def totals(model, input_shape=None):
    """Sums of `layer_table`, which says how things are counted.

    Args:
        model, input_shape: as in `layer_table`.

    Returns:
        dict of ints: `params`; `trainable`, those of them that are not frozen; `statistics`; `macs` for one image;
        `activation_bytes` for one image. params + statistics is Keras's `model.count_params()`.

    Raises, warns:
        as `layer_table`.
    """
    table = layer_table(model, input_shape)
    sums = {name: int(table[name].sum()) for name in ("params", "statistics", "macs", "activation_bytes")}
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {"params": sums.pop("params"), "trainable": trainable, **sums}


def _row(layer, kind, outputs, params=0, statistics=0, macs=0, activation_bytes=0, note=""):
    shapes = [tuple(x.shape[1:]) for x in outputs]
    return {
        "layer": layer,
        "type": kind,
        "output_shape": shapes[0] if len(shapes) == 1 else shapes,
        "params": params,
        "statistics": statistics,
        "macs": macs,
        "activation_bytes": activation_bytes,
        "note": note,
    }


def _count_macs(call):
    """(MACs, note, whether that is all)."""
    layer, kind = call.layer, kinds.kind(call.layer)
    if callable(getattr(layer, "macs", None)):
        return int(layer.macs(*(tuple(x.shape[1:]) for x in call.inputs))), "", True
    if kind in _MACS:
        macs = _MACS[kind](call)
        name = type(layer).__name__
        if macs is None:
            return 0, f"MACs of {name} not counted for these shapes", False
        return macs, "" if kind == name else f"counted as {kind}", True
    if getattr(layer, "each_place", False):
        return 0, "", True
    if kind == "" or kind == "Lambda":
        what = "operations outside its layers" if call.holds_layers else "MACs"
        return 0, f"{type(layer).__name__} is unknown here: {what} not counted", False
    if kind in kinds.PRODUCTS or (kind not in kinds.FLAT_WEIGHTS and not call.holds_layers and _has_matrix(layer)):
        return 0, f"{type(layer).__name__} is unknown here: MACs not counted", False
    return 0, "", True


def _has_matrix(layer):
    return isinstance(layer, keras.Layer) and any(len(v.shape) > 1 for v in graph.natural_variables(layer)[0])


def _in_place(call):
    kind = kinds.kind(call.layer)
    if kind in kinds.MERGES:  # an operation on one tensor, as x + 3
        return len(call.inputs) == 1 and not isinstance(call.layer, keras.Layer)
    if kind in kinds.COPYING_RESHAPES:
        return False
    return kind in kinds.EACH_VALUE | kinds.FLAT_WEIGHTS | kinds.RESHAPES


def _places(call, x):
    """Number of places of a tensor: all but the channels (and the batch, which is 1)."""
    shape = x.shape[1:]
    return math.prod(shape[1:] if getattr(call.layer, "data_format", None) == "channels_first" else shape[:-1])


def _convolution_macs(call):
    return math.prod(_kernel(call).shape) * _places(call, call.outputs[0])


def _transposed_macs(call):
    return math.prod(_kernel(call).shape) * _places(call, call.inputs[0])


def _separable_macs(call):
    if isinstance(call.layer, keras.Layer):
        kernels = call.layer.depthwise_kernel, call.layer.pointwise_kernel
    else:
        kernels = call.arguments[0][1:3]
    return sum(math.prod(kernel.shape) for kernel in kernels) * _places(call, call.outputs[0])


def _kernel(call):
    return call.layer.kernel if isinstance(call.layer, keras.Layer) else call.arguments[0][1]


def _dense_macs(call):
    return call.inputs[0].shape[-1] * math.prod(call.outputs[0].shape)


def _einsum_dense_macs(call):
    return _einsum_macs(call.layer.equation, call.inputs[0].shape, call.layer.kernel.shape)


def _einsum_operation_macs(call):
    shapes = [x.shape for x in call.arguments[0] if hasattr(x, "shape")]
    return _einsum_macs(call.layer.subscripts, *shapes) if len(shapes) == 2 else None


def _einsum_macs(equation, *shapes):
    """Product of the sizes of all indices; those that "..." stands for are counted once."""
    if "->" not in equation:
        return None
    sizes, more = {}, 1
    for letters, shape in zip(equation.split("->")[0].replace(" ", "").split(","), shapes):
        front, dots, back = letters.partition("...")
        if dots:
            more = max(more, math.prod(shape[len(front) : len(shape) - len(back)]))
        sizes |= dict(zip(front, shape)) | dict(zip(reversed(back), reversed(shape)))
    return math.prod(sizes.values()) * more


def _matmul_macs(call):
    left = call.arguments[0][0]
    return math.prod(call.outputs[0].shape) * left.shape[-1]


def _dot_layer_macs(call):
    axes = call.layer.axes
    return math.prod(call.outputs[0].shape) * call.inputs[0].shape[axes if isinstance(axes, int) else axes[0]]


def _attention_macs(call):
    query, value = (x.shape for x in call.inputs[:2])
    scores = query[-1] if kinds.kind(call.layer) == "Attention" else 0  # additive scores are no matrix product
    return query[-2] * value[-2] * (scores + value[-1])


def _multi_head_attention_macs(call):
    layer = call.layer
    query, value, *key = (x.shape for x in call.inputs[:3])
    if len(query) != 3 or len(call.inputs) > 3:
        return None
    key = key[0] if key else value
    heads, dims, values = layer.num_heads, layer.key_dim, layer.value_dim
    projections = query[1] * query[2] * dims + key[1] * key[2] * dims + value[1] * value[2] * values
    products = query[1] * key[1] * (dims + values)
    output = query[1] * values * call.outputs[0].shape[-1]
    return heads * (projections + products + output)


def _recurrent_macs(call):
    """Each step multiplies by every matrix of the cell once."""
    weights = graph.natural_variables(call.layer)[0]
    if any(len(v.shape) > 2 for v in weights) or kinds.kind(call.layer.cell) == "":
        return None
    matrices = [v for v in weights if "bias" not in v.name]
    return call.inputs[0].shape[1] * sum(math.prod(v.shape) for v in matrices)


_MACS = (
    dict.fromkeys(
        kinds.names("Conv", "1D 2D 3D") | kinds.names("DepthwiseConv", "1D 2D") | kinds.names("Conv DepthwiseConv"),
        _convolution_macs,
    )
    | dict.fromkeys(kinds.names("SeparableConv1D SeparableConv2D SeparableConv"), _separable_macs)
    | dict.fromkeys(kinds.TRANSPOSED, _transposed_macs)
    | dict.fromkeys(kinds.RECURRENT, _recurrent_macs)
    | {
        "Dense": _dense_macs,
        "EinsumDense": _einsum_dense_macs,
        "Embedding": lambda call: 0,
        "MultiHeadAttention": _multi_head_attention_macs,
        "Attention": _attention_macs,
        "AdditiveAttention": _attention_macs,
        "Matmul": _matmul_macs,
        "Einsum": _einsum_operation_macs,
        "Dot": lambda call: _dot_layer_macs(call) if isinstance(call.layer, keras.Layer) else _matmul_macs(call),
    }
)
