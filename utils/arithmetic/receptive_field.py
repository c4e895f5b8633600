"""Receptive fields: of a chain by the recurrence, of every layer of a model, and the effective one."""

import math
import warnings
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce

import keras
import numpy as np
import pandas as pd

from utils.arithmetic import graph, kinds
from utils.arithmetic.convolution import output_size, padding_amounts, same_padding, whole_number, whole_padding


def receptive_field_chain(layers, n=None):
    """Receptive field after each layer of a chain, by the recurrence.

    With effective width e = d(f - 1) + 1: size += (e - 1) * jump, start += ((e - 1) / 2 - p) * jump, jump *= s, from size 1,
    jump 1 and start .5, the first pixel's centre (Araujo, Norris and Sim, "Computing receptive fields of convolutional
    neural networks", Distill 2019, with their first pixel at 0).

    Args:
        layers: sequence of (kernel,), (kernel, stride), (kernel, stride, padding) or (kernel, stride, padding, dilation);
            stride 1, padding 0 and dilation 1 where left out; padding an int, "valid" or "same".
        n: int, input size in pixels. Only needed where "same" meets a stride above 1, since its zeros then depend on it;
            when given, a filter that does not fit is an error.

    Returns:
        DataFrame, one row per layer: kernel, stride, padding, dilation, size, jump, start (pixels of the input; unit u sees
        the `size` pixels around start + u * jump), and `output`, the number of units, when `n` is given.

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


@dataclass(frozen=True)
class _Field:
    """What the units along one axis see: unit u sees the pixels first[u] to last[u].

    Kept for one period of P units; unit u + P sees what u sees, `shift` pixels further on. P is 1 but for what lies behind
    an upsampling, and shift 0 when every unit sees the same.
    """

    first: tuple
    last: tuple
    shift: int

    def at(self, unit):
        turn, phase = divmod(unit, len(self.first))
        return self.first[phase] + turn * self.shift, self.last[phase] + turn * self.shift

    @property
    def size(self):
        return max(last - first + 1 for first, last in zip(self.first, self.last))

    @property
    def jump(self):
        whole, rest = divmod(self.shift, len(self.first))
        return whole if rest == 0 else self.shift / len(self.first)

    @property
    def start(self):
        return (self.first[0] + self.last[0] + 1) / 2

    def through(self, window):
        """The field of the units of a layer that looks at these through a `_Window`."""
        turns = len(self.first) // math.gcd(len(self.first), window.step)
        seen = []
        for unit in range(turns * len(window.taps)):
            turn, phase = divmod(unit, len(window.taps))
            ends = [self.at(turn * window.step + tap) for tap in window.taps[phase]]
            # A unit that no tap reaches (a transposed convolution with f < s) sees nothing.
            seen.append((min((a for a, _ in ends), default=math.inf), max((b for _, b in ends), default=-math.inf)))
        return _Field(*zip(*seen), turns * window.step // len(self.first) * self.shift)

    def whole(self, units, pixels):
        """What `units` of these see together, inside an image of `pixels`."""
        ends = [self.at(unit) for unit in range(units)]
        return _Field((max(min(a for a, _ in ends), 0),), (min(max(b for _, b in ends), pixels - 1),), 0)

    def hull(self, other):
        """The smallest field that holds both, of equal jump."""
        units = math.lcm(len(self.first), len(other.first))
        ends = [(*self.at(unit), *other.at(unit)) for unit in range(units)]
        first, last = zip(*((min(a, c), max(b, d)) for a, b, c, d in ends))
        return _Field(first, last, units // len(self.first) * self.shift)


@dataclass(frozen=True)
class _Window:
    """Output unit j reads the input units taps[j]; len(taps) outputs further on, `step` inputs further on."""

    taps: tuple
    step: int


def _sliding(f, s, before, d=1):
    return _Window((tuple(range(-before, d * (f - 1) + 1 - before, d)),), s)


def _spreading(f, s, before, d=1):
    """A transposed convolution: output j gets from input i when j = i s + t d - before for a tap t of the filter."""
    taps = (((j + before - t * d) for t in range(f)) for j in range(s))
    return _Window(tuple(tuple(at // s for at in phase if at % s == 0) for phase in taps), 1)


def _resizing(n, size, method):
    """Interpolation with pixel centres at half integers."""
    common = math.gcd(n, size)
    taps = []
    for j in range(size // common):
        centre = Fraction(2 * j + 1, 2) * Fraction(n, size)
        if method == "nearest":
            taps.append((math.floor(centre),))
        else:
            left = centre - Fraction(1, 2)
            taps.append(tuple({math.floor(left), math.ceil(left)}))
    return _Window(tuple(taps), n // common)


@dataclass(frozen=True)
class _Seen:
    """What a tensor's units see, an axis of the image at a time; `places` while axes 1, 2, ... of the tensor are the image's."""

    fields: tuple
    units: tuple
    places: bool = True
    note: str = ""

    def whole(self, pixels, **changes):
        fields = tuple(map(_Field.whole, self.fields, self.units, pixels))
        return replace(self, fields=fields, units=(1,) * len(fields), **changes)


def receptive_fields(model, input_shape=None):
    """Receptive field of every layer of a model: which pixels of the input one of its units can depend on.

    Unit u of a layer sees the `size` pixels around start + u * jump (the first pixel's centre is .5), the borders of the
    image left aside: the size may exceed the image. The rules:

    - Convolutions and pools widen the field by the recurrence of `receptive_field_chain`, with the zeros that "same"
      really puts before the image (they depend on the input size at strides above 1); padding and cropping move it.
    - Where branches meet (Add, Concatenate, ...), a unit sees the smallest window that holds what it sees through each of
      them; with like centres, that is the largest of the branches. `start` is the centre of that window.
    - Dilation leaves gaps: the size is counted from the first pixel to the last.
    - Upsampling and transposed convolution divide the jump. Neighbouring units then see windows that differ in size; the
      largest is given, and `start` is that of unit 0.
    - Global pooling, a dense layer behind Flatten, attention, group normalisation and recurrent layers see all that their
      inputs see together, inside the image: jump 0. So does all that a squeeze-and-excitation block multiplies.
      Flatten itself changes nothing.
    - Batch normalisation is taken as in inference, where it maps each value by itself.

    Args:
        model: built functional or Sequential `keras.Model`, nested too, with data format channels_last.
        input_shape: shape of one image, (height, width, channels), to use in place of the model's own; for several inputs
            a list or dict of shapes. Several images are taken to lie on the same pixels.

    Returns:
        DataFrame, one row per call of a layer: layer (nested ones as "model/layer"), type, size, jump, start, note. Sizes
        are in pixels of the input; where the axes of the image differ, all three are tuples, (vertical, horizontal). A
        layer that depends on no image, or that stands behind one unknown here, has NaN, and `note` says why.

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
    seen = {id(x): _Seen((_Field((0,), (0,), 1),) * (len(x.shape) - 2), x.shape[1:-1]) for x in images}
    rows = [(x.name, "InputLayer", seen.get(id(x))) for x in inputs]
    unknown = set()
    for call in calls:
        if call.inside:
            continue
        if getattr(call.layer, "data_format", None) == "channels_first":
            raise ValueError(f"layer {call.path} has data format channels_first; receptive fields want channels_last")
        result = _look(call, [seen.get(id(x)) for x in call.inputs], pixels)
        if result == _UNKNOWN:
            unknown.add(type(call.layer).__name__)
            result = replace(result, note=f"{type(call.layer).__name__} is unknown here")
        for tensor in call.outputs:
            seen[id(tensor)] = result and replace(result, note=result.note if result.fields is None else "")
        rows.append((call.path, type(call.layer).__name__, result))
    if unknown:
        warnings.warn(f"receptive fields end at layers unknown here: {', '.join(sorted(unknown))}", stacklevel=2)
    return _field_table(rows)


_UNKNOWN = _Seen(None, ())


def _look(call, seen, pixels):
    """What the output of a call sees: `_Seen`, None where there is no image, or `_UNKNOWN`."""
    seen = [x for x in seen if x is not None]
    if not seen:
        if isinstance(call.layer, keras.layers.Embedding):  # words take the place of pixels
            return _Seen((_Field((0,), (0,), 1),), call.inputs[0].shape[1:])
        return None
    for x in seen:
        if x.fields is None:
            return replace(x, note=x.note or "behind an unknown layer")
    kind, first = kinds.kind(call.layer), seen[0]
    if kind in kinds.MERGES:
        return _merged(call, seen, pixels)
    if kind in kinds.EACH_VALUE or kind in kinds.FLAT_WEIGHTS:
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
    windows = _windows(call, first)
    if windows is None:
        return _UNKNOWN
    fields = tuple(map(_Field.through, first.fields, windows))
    return replace(first, fields=fields, units=call.outputs[0].shape[1 : 1 + len(fields)])


def _windows(call, seen):
    """One `_Window` for each axis of the image, or None where the layer is not one that slides over it."""
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
            return tuple(map(_spreading, f, s, cropped, d))
        if layer.padding == "causal":
            before = [d * (f - 1) for f, d in zip(f, d)]
        else:
            before = [padding_amounts(n, f, s, layer.padding, d)[0] for n, f, s, d in zip(n, f, s, d)]
        return tuple(map(_sliding, f, s, before, d))
    if kind.startswith("ZeroPadding"):
        return tuple(_sliding(1, 1, before) for before, _ in np.reshape(layer.padding, (axes, 2)).tolist())
    if kind.startswith("Cropping"):
        return tuple(_sliding(1, 1, -before) for before, _ in np.reshape(layer.cropping, (axes, 2)).tolist())
    if kind.startswith("UpSampling") or (kind == "Resizing" and _stretches(layer)):
        method = getattr(layer, "interpolation", "nearest")
        if method in ("nearest", "bilinear"):
            return tuple(_resizing(a, b, method) for a, b in zip(n, size))
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
            fields = tuple(reduce(_Field.hull, axis) for axis in zip(*(x.fields for x in seen)))
            return _Seen(fields, units)
        wholes = [x.whole(pixels) for x in seen]
        fields = tuple(reduce(_Field.hull, axis) for axis in zip(*(x.fields for x in wholes)))
        sliding = [jump for jump in jumps if any(jump)]
        note = f"branches of jumps {sliding}: no fixed size, so the whole image" if len(sliding) > 1 else ""
        return _Seen(fields, units, note=note)
    largest = max(seen, key=lambda x: [field.size for field in x.fields])
    note = "the largest of its parts" if len({x.fields for x in seen}) > 1 else ""
    return replace(largest, places=False, note=note)


def _reshaped(call, seen):
    before, after, axes = call.inputs[0].shape, call.outputs[0].shape, len(seen.fields)
    order = getattr(call.layer, "dims", None) or getattr(call.layer, "axes", None)
    if kinds.kind(call.layer) in ("Permute", "Transpose"):
        order = [0, *call.layer.dims] if kinds.kind(call.layer) == "Permute" else order or range(len(before))[::-1]
        kept = list(order[1 : 1 + axes]) == list(range(1, 1 + axes))
    else:
        kept = before[1 : 1 + axes] == after[1 : 1 + axes] and len(after) > 1 + axes
    if all(field.shift == 0 for field in seen.fields):
        return replace(seen, places=_keeps_rank(call, seen))
    return replace(seen, places=seen.places and kept)


def _keeps_rank(call, seen):
    return len(call.outputs[0].shape) == len(seen.fields) + 2


def _works_on_channels(call, seen):
    """Whether a layer mixes the channels of a place only, as a 1x1 convolution does."""
    if not seen.places:
        return False
    axes, layer = len(seen.fields), call.layer
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, outputs = layer.equation.replace("->", ",").split(",")
        places = inputs[1 : 1 + axes]
        return "." not in inputs and outputs[1 : 1 + axes] == places and not set(places) & set(kernel)
    if isinstance(layer, keras.layers.Dense):
        return True
    rank = len(call.inputs[0].shape)
    return min(axis % rank for axis in np.atleast_1d(layer.axis)) > axes


def _field_table(rows):
    square = all(len({*zip(x.fields, x.units)}) == 1 for _, _, x in rows if x and x.fields)
    table = []
    for layer, kind, seen in rows:
        if seen is None or seen.fields is None:
            values = [math.nan] * 3
            note = seen.note if seen else "depends on no image"
        else:
            values = [tuple(getattr(field, what) for field in seen.fields) for what in ("size", "jump", "start")]
            values, note = [value[0] for value in values] if square else values, seen.note
        table.append((layer, kind, *values, note))
    return pd.DataFrame(table, columns=["layer", "type", "size", "jump", "start", "note"])
