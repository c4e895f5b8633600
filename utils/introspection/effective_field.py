"""The effective receptive field: how much each pixel sways a unit."""

import keras
import numpy as np

from utils import models
from utils.introspection.gradient import gradients


def effective_receptive_field(model, layer=None, inputs=100, seed=0, batch_size=8):
    """How much the pixels of the input sway the central unit of a layer: the mean absolute gradient over random inputs.

    The theoretical field says which pixels count at all; this one is a blob in its middle (Luo et al., "Understanding
    the effective receptive field in deep convolutional neural networks", NIPS 2016). The gradient is that of the sum
    over the channels of unit (H // 2, W // 2), and is summed over the channels of the input; the inputs are drawn from
    the normal distribution of mean 0 and variance 1; the model is in inference mode.

    Args:
        model: functional or Sequential `keras.Model` with one input of defined size (height, width, channels).
        layer: name of the layer to look at, "backbone/conv1" for one of a nested model; by default the model's output.
        inputs: int, number of random inputs.
        seed: int, for the inputs.
        batch_size: int, inputs at a time.

    Returns:
        (H, W) float64 array, H and W the input's, that sums to 1.

    Raises:
        ValueError: the model is not built or has several inputs or outputs; the layer has no places (a dense one), the
            input size is not defined, there are no inputs to average over, or the gradient is 0 everywhere.
    """
    output = models.single_output(model) if layer is None else models.output_of(model, layer)
    shape, places = models.single_input(model).shape[1:], output.shape[1:-1]
    if None in shape:
        raise ValueError(f"the input size of {model.name} is {shape}: build it for a fixed size")
    if len(places) != 2:
        raise ValueError(f"layer {layer or model.layers[-1].name} has no places: its output is {output.shape}")
    if inputs < 1:
        raise ValueError(f"inputs must be at least 1, got {inputs}")
    net = keras.Model(model.inputs, output)
    row, column = (n // 2 for n in places)
    images = np.random.default_rng(seed).standard_normal((inputs, *shape), "float32")
    found = gradients(lambda x: net(x, training=False)[:, row, column], images, batch_size)
    field = np.abs(found, dtype="float64").mean(axis=0).sum(axis=-1)
    if not field.any():
        raise ValueError("the gradient is 0 everywhere: no pixel sways the unit")
    return field / field.sum()
