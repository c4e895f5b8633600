"""The deconvnet: from a unit back to the pixels that excited it."""

import keras
import numpy as np
from keras import layers, ops

from utils import models
from utils.introspection import inside
from utils.introspection.features import map_of
from utils.introspection.gradient import Nudge, kept_for
from utils.introspection.relu import has_relu, is_relu, rectifying, relus
from utils.layers import LocalResponseNormalization, MaxPoolingWithIndices, max_pool_with_indices

# Whose way back is their transpose, which is also how gradients go.
_LINEAR = (
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.Conv2DTranspose,
    layers.Dense,
    layers.BatchNormalization,
    layers.Rescaling,
    layers.Normalization,
    layers.AveragePooling2D,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.UpSampling2D,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.Add,
    layers.Average,
    layers.Subtract,
    layers.Concatenate,
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    MaxPoolingWithIndices,
)
_LINEAR_OPERATIONS = [
    "Add",
    "Subtract",
    "Concatenate",
    "Reshape",
    "Transpose",
    "Flip",
    "Mean",
    "Sum",
    "Cast",
    "Squeeze",
]
_PRODUCTS = ["Multiply", "Divide", "TrueDivide"]  # linear when it is by a number


def deconvnet(model, images, layer, channel, place=None, batch_size=32):
    """The pattern in the pixels that excited a unit, by a way back through the net (Zeiler and Fergus, "Visualizing and
    understanding convolutional networks", 2014).

    All units of the layer but one are set to zero, and its activation goes down: through a max pool to where the
    maximum was (the switches, recorded on the way up), through a ReLU as ReLU of what comes from above, through a
    convolution as the transposed convolution, without biases. Batch normalisation is a scale per channel, as in
    inference; local response normalisation and dropout let everything pass; a final softmax is left out. Apart from the
    ReLU this is how gradients go (Simonyan et al. 2014, section 4), and it is computed as such.

    Args:
        model: keras.Model on images.
        images: (N, H, W, C).
        layer: name of the layer.
        channel: int.
        place: (row, column) of the unit; None: where the channel is strongest, image by image. Without meaning for a
            dense layer.
        batch_size: int, images at a time.

    Returns:
        (N, H, W, C) float32: in the units of the input, times the activation; with signs.

    Raises:
        ValueError: no such layer, channel or place; or a layer on the way whose way back is not known.
    """
    images = inside.as_images(model, images)
    path, part = inside.find(model, layer)
    others = _ways_back(model, path, part)
    outputs = map_of(model, images, path, batch_size)
    relus(model)
    seeds = _seeds(outputs, layer, channel, place)

    def function(x, seeds, nudge):
        with rectifying(model, "deconvnet"), inside.replaced(**others):
            found, _ = inside.recorded(model, x + nudge, {path: part})
        return ops.sum(ops.reshape(found[path] * seeds, (ops.shape(seeds)[0], -1)), axis=-1)

    shape = (min(batch_size, len(images)), *images.shape[1:])
    gradient = kept_for(model, ("deconvnet", path, shape), lambda: Nudge(function, shape, model))
    return gradient.gradients([images, seeds])


def _seeds(outputs, layer, channel, place):
    """The outputs of a layer with all but one unit of each image set to zero."""
    maps = outputs if outputs.ndim == 4 else outputs.reshape(len(outputs), 1, 1, -1)
    rows, columns, channels = maps.shape[1:]
    if not 0 <= channel < channels:
        raise ValueError(f"layer {layer!r} has {channels} channels, there is no channel {channel}")
    if place is None:
        units = maps[..., channel].reshape(len(maps), -1).argmax(axis=1)
    elif 0 <= place[0] < rows and 0 <= place[1] < columns:
        units = np.full(len(maps), place[0] * columns + place[1])
    else:
        raise ValueError(f"layer {layer!r} has {rows} x {columns} places, there is no place {tuple(place)}")
    seeds = np.zeros_like(maps)
    at = (np.arange(len(maps)), *np.divmod(units, columns), channel)
    seeds[at] = maps[at]
    return seeds.reshape(outputs.shape)


def _ways_back(model, path, target):
    """What max pools and the like do instead, as arguments for `inside.replaced`.

    Raises:
        ValueError: a layer on the way to the target has no way back.
    """
    calls, ending = [], inside.without_ending(model)
    ends = [part for part, _ in ending.get("calls", []) + ending.get("activations", [])]
    for name, part in _on_the_way(model, path, target).items():
        if isinstance(part, layers.MaxPooling2D):
            calls.append((part, _switching(part)))
        elif isinstance(part, LocalResponseNormalization):
            calls.append((part, lambda original, x: x + ops.stop_gradient(original(x) - x)))
        elif not _is_known(part) and not any(part is end for end in ends):
            raise ValueError(f"the deconvnet knows no way back through layer {name!r} ({type(part).__name__})")
    return {"calls": calls + ending.get("calls", []), "activations": ending.get("activations", [])}


def _switching(pool):
    def call(original, x):
        return max_pool_with_indices(x, pool.pool_size, pool.strides, pool.padding)[0]

    return call


def _is_known(part):
    if is_relu(part):
        return True
    kind = type(part).__name__
    if not isinstance(part, keras.Layer):
        return kind in _LINEAR_OPERATIONS or (kind in _PRODUCTS and not isinstance(part.input, (list, tuple)))
    if type(part) not in (*_LINEAR, layers.Activation):
        return False
    activation = getattr(part, "activation", None)
    return activation in (None, keras.activations.linear) or has_relu(part)


def _on_the_way(model, path, target):
    """The leaves that lead to a part: of a functional model those that it depends on, otherwise all up to it."""
    if not isinstance(model, keras.Sequential) and target in getattr(model, "operations", []):
        return inside.leaves(keras.Model(model.inputs, models.last_call(model, target).outputs))
    found = inside.leaves(model)
    last = max(number for number, other in enumerate(found) if f"{other}/".startswith(f"{path}/"))
    return dict(list(found.items())[: last + 1])
