"""Receptive fields: of a chain of layers by the recurrence, and of every layer of a model."""

import math
import warnings
from dataclasses import dataclass, replace
from functools import reduce

import keras
import numpy as np
import pandas as pd

from utils.arithmetic import graph, kinds
from utils.arithmetic.convolution import output_size, padding_amounts, same_padding, whole_number, whole_padding
from utils.arithmetic.fields import Field, resizing, sliding, spreading


def receptive_field_chain(layers, n=None):
    """Receptive field after each layer of a chain, by the recurrence.

    With effective width e = d(f - 1) + 1: size += (e - 1) * jump, start += ((e - 1) / 2 - p) * jump, jump *= s, from
    size 1, jump 1 and start .5, the first pixel's centre (Araujo, Norris and Sim, "Computing receptive fields of
    convolutional neural networks", Distill 2019, with their first pixel at 0).

    Args:
        layers: sequence of (kernel,), (kernel, stride), (kernel, stride, padding) or (kernel, stride, padding,
            dilation); stride 1, padding 0 and dilation 1 where left out; padding an int, "valid" or "same".
        n: int, input size in pixels. Only needed where "same" meets a stride above 1, since its zeros then depend on
            it; when given, a filter that does not fit is an error.

    Returns:
        DataFrame, one row per layer: kernel, stride, padding, dilation, size, jump, start (pixels of the input; unit u
        sees the `size` pixels around start + u * jump), and `output`, the number of units, when `n` is given.

    Raises:
        ValueError: "same" at a stride above 1 without `n`, a filter that does not fit, or a malformed layer.
    """
    size, jump, start = 1, 1, 0.5
    rows = []
    for layer in layers:
        if not 1 <= len(layer) <= 4:
            raise ValueError(f"expected (kernel, stride, padding, dilation), got {layer!r}")
        f, s, p, d = (*layer, *(None, 1, 0, 1)[len(layer) :])
        f, s, d = whole_number("kernel", f), whole_number("stride", s), whole_number("dilation", d)
        width = d * (f - 1) + 1
        if p != "same":
            before = whole_padding(p)
        elif n is not None:
            before, _ = same_padding(n, f, s, d)
        elif s == 1:
            before = (width - 1) // 2
        else:
            raise ValueError(f"padding 'same' at stride {s} depends on the input size: pass n")
        row = {"kernel": f, "stride": s, "padding": p, "dilation": d}
        size += (width - 1) * jump
        start += ((width - 1) / 2 - before) * jump
        jump *= s
        row |= {"size": size, "jump": jump, "start": start}
        if n is not None:
            n = row["output"] = output_size(n, f, s, p, d)
        rows.append(row)
    return pd.DataFrame(rows)


def receptive_fields(model, input_shape=None):
    """Receptive field of every layer of a model: which pixels of the input one of its units can depend on.

    Unit u of a layer sees the `size` pixels around start + u * jump (the first pixel's centre is .5), the borders of
    the image left aside: the size may exceed the image. The rules:

    - Convolutions and pools widen the field by the recurrence of `receptive_field_chain`, with the zeros that "same"
      really puts before the image (they depend on the input size at strides above 1); padding and cropping move it.
    - Where branches meet (Add, Concatenate, ...), a unit sees the smallest window that holds what it sees through each
      of them; with like centres, that is the largest of the branches. `start` is the centre of that window.
    - Dilation leaves gaps: the size is counted from the first pixel to the last.
    - Upsampling and transposed convolution divide the jump. Neighbouring units then see windows that differ in size;
      the largest is given, and `start` is that of unit 0.
    - Global pooling, a dense layer behind Flatten, attention, group normalisation and recurrent layers see all that
      their inputs see together, inside the image: jump 0. So does all that a squeeze-and-excitation block multiplies.
      Flatten itself changes nothing.
    - Batch normalisation is taken as in inference, where it maps each value by itself.
    - A layer of your own with an attribute `each_place = True` changes nothing: each place of its output depends on
      that place of its input.

    Args:
        model: built functional or Sequential `keras.Model`, nested too, with data format channels_last.
        input_shape: shape of one image, (height, width, channels), to use in place of the model's own; for several
            inputs a list or dict of shapes. Several images are taken to lie on the same pixels.

    Returns:
        DataFrame, one row per call of a layer: layer (nested ones as "model/layer"), type, size, jump, start, note.
        Sizes are in pixels of the input; where the axes of the image differ anywhere, all three are tuples (vertical,
        horizontal). A layer that depends on no image, or is or stands behind one unknown here, has NaN, and `note` says
        why.

    Raises:
        ValueError: the input size is not defined, no input is an image, or a layer's data format is channels_first.

    Warns:
        UserWarning: layers are unknown here; it names their types.
    """
    inputs, calls = graph.trace(model, input_shape, kinds.is_leaf)
    images = [tensor for tensor in inputs if len(tensor.shape) > 2]
    words = [call.inputs[0] for call in calls if isinstance(call.layer, keras.layers.Embedding)]
    if not images and not words:
        raise ValueError(f"{model.name} has no input with height, width and channels")
    pixels = images[0].shape[1:-1] if images else words[0].shape[1:]
    seen = {id(x): _Seen((Field((0,), (0,), 1),) * (len(x.shape) - 2), x.shape[1:-1]) for x in images}
    rows = [(x.name, "InputLayer", seen.get(id(x))) for x in inputs]
    unknown = set()
    for call in calls:
        if call.inside:
            continue
        if getattr(call.layer, "data_format", None) == "channels_first":
            raise ValueError(f"layer {call.path} has data format channels_first; receptive fields want channels_last")
        result = _look(call, [seen.get(id(x)) for x in call.inputs], pixels)
        kind = type(call.layer).__name__
        if result == _UNKNOWN:
            unknown.add(kind)
            result = replace(result, note=f"{kind} is unknown here")
            handed_on = replace(result, note=f"behind {call.path}, which is unknown here")
        elif result and result.fields:
            handed_on = replace(result, note="")
        else:
            handed_on = result
        seen.update((id(tensor), handed_on) for tensor in call.outputs)
        rows.append((call.path, kind, result))
    if unknown:
        warnings.warn(f"receptive fields end at layers unknown here: {', '.join(sorted(unknown))}", stacklevel=2)
    return _field_table(rows)


def width_holding(field, share=0.95):
    """Side of the smallest square window, wherever it lies, that holds a share of a field's sum.

    Args:
        field: (H, W) array of values of at least 0, such as an effective receptive field.
        share: float in (0, 1].

    Returns:
        int, pixels, at most max(H, W); a window may hang over an edge.

    Raises:
        ValueError: share is out of range, or the field is empty.
    """
    field = np.asarray(field, "float64")
    if not 0 < share <= 1 or not field.any():
        raise ValueError(f"no window holds a share of {share} of a field that sums to {field.sum()}")
    largest = max(field.shape)
    for side in range(1, largest + 1):
        sums = np.pad(np.cumsum(np.cumsum(np.pad(field, side - 1), axis=0), axis=1), ((1, 0), (1, 0)))
        held = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        if held.max() >= share * field.sum() * (1 - 1e-9):
            return side
    return largest


@dataclass(frozen=True)
class _Seen:
    """What a tensor's units see."""

    fields: tuple | None  # a Field for each axis of the image; None behind a layer that is unknown here
    units: tuple  # number of units along each
    places: bool = True  # whether axes 1, 2, ... of the tensor are the image's
    vectors: bool = True  # whether what lies along its last axis belongs to one place
    note: str = ""

    def whole(self, pixels, **changes):
        fields = tuple(map(Field.whole, self.fields, self.units, pixels))
        return replace(self, fields=fields, units=(1,) * len(fields), **changes)


_UNKNOWN = _Seen(None, ())


def _look(call, seen, pixels):
    """What the output of a call sees: `_Seen`, None where there is no image, or `_UNKNOWN`."""
    seen = [x for x in seen if x is not None]
    if not seen:
        if isinstance(call.layer, keras.layers.Embedding):  # words take the place of pixels
            return _Seen((Field((0,), (0,), 1),), call.inputs[0].shape[1:])
        return None
    for x in seen:
        if x.fields is None:
            return x
    kind, first = kinds.kind(call.layer), seen[0]
    if kind in kinds.MERGES:
        return _merged(call, seen, pixels)
    if kind in kinds.EACH_VALUE or kind == "PReLU" or getattr(call.layer, "each_place", False):
        return first
    if kind in kinds.RESHAPES:
        return _reshaped(call, first)
    if kind in kinds.EVERYTHING:
        return first.whole(pixels, places=_keeps_rank(call, first))
    if kind in kinds.REDUCTIONS:
        rank = len(call.inputs[0].shape)
        axes = range(rank) if call.layer.axis is None else [axis % rank for axis in np.atleast_1d(call.layer.axis)]
        if first.places and min(axes) > len(first.fields):
            return first
        return first.whole(pixels, places=_keeps_rank(call, first))
    if kind in ("Dense", "EinsumDense", "LayerNormalization", "RMSNormalization"):
        return first if _works_on_channels(call, first) else first.whole(pixels)
    if kind in kinds.CONVOLUTIONS | kinds.TRANSPOSED | kinds.POOLS and all(field.shift == 0 for field in first.fields):
        return replace(first, places=_keeps_rank(call, first))
    windows = _windows(call, first)
    if windows is None:
        return _UNKNOWN
    fields = tuple(map(Field.through, first.fields, windows))
    return replace(first, fields=fields, units=call.outputs[0].shape[1 : 1 + len(fields)])


def _windows(call, seen):
    """One `Window` for each axis of the image, or None where the layer is not one that slides over it."""
    kind, layer, axes = kinds.kind(call.layer), call.layer, len(seen.fields)
    n, size = call.inputs[0].shape[1 : 1 + axes], call.outputs[0].shape[1 : 1 + axes]
    if not seen.places or len(call.outputs[0].shape) != axes + 2:
        return None

    def each(value):
        return (value,) * axes if isinstance(value, int) else tuple(value)

    if kind in kinds.CONVOLUTIONS | kinds.TRANSPOSED | kinds.POOLS:
        if kind in kinds.POOLS:
            f, s, d = each(layer.pool_size), each(layer.strides or layer.pool_size), each(1)
        elif isinstance(layer, keras.Layer):
            f, s, d = each(layer.kernel_size), each(layer.strides), each(layer.dilation_rate)
        else:
            f, s, d = call.arguments[0][1].shape[:axes], each(layer.strides), each(layer.dilation_rate)
        if kind in kinds.TRANSPOSED:
            full = [(n - 1) * s + d * (f - 1) + 1 for n, f, s, d in zip(n, f, s, d)]
            cropped = [max(a - b, 0) // 2 if layer.padding == "same" else 0 for a, b in zip(full, size)]
            return tuple(map(spreading, f, s, cropped, d))
        if layer.padding == "causal":
            before = [d * (f - 1) for f, d in zip(f, d)]
        else:
            before = [padding_amounts(n, f, s, layer.padding, d)[0] for n, f, s, d in zip(n, f, s, d)]
        return tuple(map(sliding, f, s, before, d))
    if kind.startswith("ZeroPadding"):
        return tuple(sliding(1, 1, before) for before, _ in np.reshape(layer.padding, (axes, 2)).tolist())
    if kind.startswith("Cropping"):
        return tuple(sliding(1, 1, -before) for before, _ in np.reshape(layer.cropping, (axes, 2)).tolist())
    if kind.startswith("UpSampling") or (kind == "Resizing" and _stretches(layer)):
        method = getattr(layer, "interpolation", "nearest")
        if method in ("nearest", "bilinear"):
            return tuple(resizing(a, b, method) for a, b in zip(n, size))
    return None


def _stretches(resizing):
    return not (resizing.crop_to_aspect_ratio or resizing.pad_to_aspect_ratio or resizing.antialias)


def _merged(call, seen, pixels):
    """Where branches meet: the smallest window that holds them all."""
    axis = getattr(call.layer, "axis", -1) if kinds.kind(call.layer) == "Concatenate" else -1
    along_channels = axis % len(call.outputs[0].shape) > len(seen[0].fields)
    jumps = sorted({tuple(field.jump for field in x.fields) for x in seen})
    if all(x.places for x in seen) and along_channels:
        units = call.outputs[0].shape[1 : 1 + len(seen[0].fields)]
        if len(jumps) == 1:
            fields = tuple(reduce(Field.hull, axis) for axis in zip(*(x.fields for x in seen)))
            return _Seen(fields, units)
        wholes = [x.whole(pixels) for x in seen]
        fields = tuple(reduce(Field.hull, axis) for axis in zip(*(x.fields for x in wholes)))
        sliding = [jump for jump in jumps if any(jump)]
        note = f"branches of jumps {sliding}: no fixed size, so the whole image" if len(sliding) > 1 else ""
        return _Seen(fields, units, note=note)
    largest = max(seen, key=lambda x: [field.size for field in x.fields])
    note = "the largest of its parts" if len({x.fields for x in seen}) > 1 else ""
    return replace(largest, places=False, vectors=all(x.vectors for x in seen), note=note)


def _reshaped(call, seen):
    kind, before, after, axes = kinds.kind(call.layer), call.inputs[0].shape, call.outputs[0].shape, len(seen.fields)
    if all(field.shift == 0 for field in seen.fields):
        return replace(seen, places=_keeps_rank(call, seen))
    if kind in ("Permute", "Transpose"):
        order = [0, *call.layer.dims] if kind == "Permute" else call.layer.axes or range(len(before))[::-1]
        kept = list(order[: 1 + axes]) == list(range(1 + axes))
        return replace(seen, places=seen.places and kept, vectors=seen.vectors and kept)
    kept = before[1 : 1 + axes] == after[1 : 1 + axes] and len(after) > 1 + axes
    # Row by row, a vector as long as a divisor of the channels stays inside one place: (7, 7, 36) -> (441, 4).
    vectors = kept or (len(after) > 2 and before[-1] % after[-1] == 0)
    return replace(seen, places=seen.places and kept, vectors=seen.vectors and vectors)


def _keeps_rank(call, seen):
    return len(call.outputs[0].shape) == len(seen.fields) + 2


def _works_on_channels(call, seen):
    """Whether a layer mixes the channels of a place only, as a 1x1 convolution does."""
    axes, layer, rank = len(seen.fields), call.layer, len(call.inputs[0].shape)
    if isinstance(layer, keras.layers.EinsumDense):
        if not seen.places:
            return False
        inputs, kernel, outputs = layer.equation.replace("->", ",").split(",")
        places = inputs[1 : 1 + axes]
        return "." not in inputs and outputs[1 : 1 + axes] == places and not set(places) & set(kernel)
    if isinstance(layer, keras.layers.Dense):
        return seen.vectors
    first_axis = min(axis % rank for axis in np.atleast_1d(layer.axis))
    return seen.vectors and first_axis > (axes if seen.places else rank - 2)


def _field_table(rows):
    table = []
    for layer, kind, seen in rows:
        if seen and seen.fields:
            values = [tuple(getattr(field, what) for field in seen.fields) for what in ("size", "jump", "start")]
            table.append((layer, kind, *values, seen.note))
        else:
            table.append((layer, kind, math.nan, math.nan, math.nan, seen.note if seen else "depends on no image"))
    table = pd.DataFrame(table, columns=["layer", "type", "size", "jump", "start", "note"])
    numbers = table[["size", "jump", "start"]].map(lambda value: value if isinstance(value, tuple) else (value,))
    if numbers.map(lambda value: len(set(value)) == 1).all(axis=None):
        for name in numbers:
            table[name] = [value[0] for value in numbers[name]]
    return table
