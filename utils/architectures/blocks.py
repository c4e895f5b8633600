"""What the families share: convolutions with their normalisation and activation, pools, classifiers.

Every function takes a tensor and the name of its layers, and gives a tensor. Padding is that of the papers, the same
number of zeros on every side, `(kernel - 1) // 2` unless told; Keras's "same" would put the odd one at the end wherever
the stride is 2.
"""

import math

import keras
from keras import layers, ops


def conv(x, filters, kernel_size, strides=1, padding=None, groups=1, use_bias=True, name=None, **options):
    """Convolution called `name`, with `padding` zeros on every side.

    Args:
        x: (B, H, W, C) tensor.
        filters, kernel_size, strides, groups, use_bias: as in `keras.layers.Conv2D`; kernel_size an int or a pair.
        padding: int or pair: zeros on every side, by a layer `{name}_pad` where "same" would put them elsewhere; None
            for (kernel_size - 1) // 2; or Keras's own "valid" or "same".
        options: further arguments of Conv2D, such as kernel_initializer (he_uniform).
    """
    x, padding = pad(x, kernel_size, strides, padding, options.get("dilation_rate", 1), name)
    # Of the variance of he_normal, whose truncated draws take five times as long: seconds in a network of 100 million
    # weights.
    options = {"kernel_initializer": "he_uniform"} | options
    return layers.Conv2D(
        filters, kernel_size, strides, padding=padding, groups=groups, use_bias=use_bias, name=name, **options
    )(x)


def depthwise(x, kernel_size, strides=1, padding=None, use_bias=False, name=None, **options):
    """Depthwise convolution called `name`, one filter per channel; arguments as in `conv`."""
    x, padding = pad(x, kernel_size, strides, padding, options.get("dilation_rate", 1), name)
    options = {"depthwise_initializer": he_depthwise(kernel_size)} | options
    return layers.DepthwiseConv2D(kernel_size, strides, padding=padding, use_bias=use_bias, name=name, **options)(x)


def he_depthwise(kernel_size):
    """He's uniform initialiser for one filter per channel, which sees kh kw values: Keras's he_uniform takes all
    channels for its inputs.
    """
    height, width = _pair(kernel_size)
    limit = math.sqrt(6 / (height * width))
    return keras.initializers.RandomUniform(-limit, limit)


def pad(x, kernel_size, strides, padding, dilation, name):
    """(tensor, Keras's word) for a convolution of this size with `padding` zeros on every side; see `conv`."""
    if isinstance(padding, str):
        return x, padding
    kernel = _pair(kernel_size)
    half = tuple((k - 1) * d // 2 for k, d in zip(kernel, _pair(dilation)))
    amounts = half if padding is None else _pair(padding)
    if amounts == (0, 0):
        return x, "valid"
    if amounts == half and _pair(strides) == (1, 1) and all(k % 2 for k in kernel):
        return x, "same"
    return layers.ZeroPadding2D(amounts, name=f"{name}_pad")(x), "valid"


def batch_norm(x, name, momentum=0.9, epsilon=1e-5, **options):
    """Batch normalisation with a running mean that settles in some tens of steps (Keras's .99 needs hundreds)."""
    return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name, **options)(x)


def activate(x, activation, name):
    """A layer of its own for an activation given by name; None for none. ReLU is a ReLU layer."""
    if activation is None:
        return x
    if activation == "relu":
        return layers.ReLU(name=name)(x)
    return layers.Activation(activation, name=name)(x)


def conv_relu(x, filters, kernel_size, strides=1, padding=None, groups=1, activation="relu", name=None, **options):
    """Convolution with bias, `name`, and activation, `{name}_relu` (or the name of the other activation)."""
    x = conv(x, filters, kernel_size, strides, padding, groups, name=name, **options)
    return activate(x, activation, f"{name}_{activation}")


def conv_bn(
    x,
    filters,
    kernel_size,
    strides=1,
    padding=None,
    groups=1,
    use_bias=False,
    name=None,
    epsilon=1e-5,
    momentum=0.9,
    **options,
):
    """Convolution, `name`, and batch normalisation, `{name}_bn`."""
    x = conv(x, filters, kernel_size, strides, padding, groups, use_bias, name, **options)
    return batch_norm(x, f"{name}_bn", momentum, epsilon)


def conv_bn_relu(x, filters, kernel_size, strides=1, padding=None, groups=1, activation="relu", name=None, **options):
    """Convolution, `name`, batch normalisation, `{name}_bn`, and activation, `{name}_relu` (or the other's name)."""
    x = conv_bn(x, filters, kernel_size, strides, padding, groups, name=name, **options)
    return activate(x, activation, f"{name}_{activation}")


def bn_relu_conv(
    x,
    filters,
    kernel_size,
    strides=1,
    padding=None,
    groups=1,
    use_bias=False,
    name=None,
    epsilon=1e-5,
    momentum=0.9,
    **options,
):
    """The pre-activated order: `{name}_bn`, `{name}_relu`, then the convolution `name`."""
    x = layers.ReLU(name=f"{name}_relu")(batch_norm(x, f"{name}_bn", momentum, epsilon))
    return conv(x, filters, kernel_size, strides, padding, groups, use_bias, name, **options)


def max_pool(x, pool_size, strides, padding=0, name=None):
    """Max-pooling with `padding` zeros on every side (an int), by a layer `{name}_pad`: behind a ReLU, zeros never win
    unduly.
    """
    if padding and not isinstance(padding, str):
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(pool_size, strides, padding=padding if isinstance(padding, str) else "valid", name=name)(
        x
    )


def classifier(x, classes, dropout=0.0, name="logits"):
    """Global average pooling, `head_pool`, dropout if any, `head_dropout`, and the dense layer that gives logits (B,
    classes).
    """
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="head_dropout")(x)
    return layers.Dense(classes, name=name)(x)


def dense_head(x, classes, head="dense", units=4096, dropout=0.5, name="logits"):
    """The classifier of the nets before 2014, dense layers fc6 and fc7 of `units`, dropout behind each, then logits.

    Args:
        x: (B, H, W, C) tensor; "dense" needs H and W to be known, and has H W C weights per unit.
        head: "dense"; or "pool": global average pooling in place of fc6 and fc7, for images of any size and small
            trainings.
        units, dropout: of fc6 and fc7; dropout also before the logits of head="pool".
    """
    if head == "pool":
        return classifier(x, classes, dropout, name)
    if head != "dense":
        raise ValueError(f"head is 'dense' or 'pool', not {head!r}")
    if None in x.shape[1:]:
        raise ValueError(f"the dense head needs an image of known size, not maps of {x.shape[1:]}; or use head='pool'")
    x = layers.Flatten(name="head_flatten")(x)
    for layer in ("fc6", "fc7"):
        x = layers.Dense(units, activation="relu", kernel_initializer="he_uniform", name=layer)(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"{layer}_dropout")(x)
    return layers.Dense(classes, name=name)(x)


def squeeze_excite(x, units, name, activation="sigmoid", inner="relu"):
    """Weigh the channels by what they hold in the mean (Hu, Shen and Sun 2018): pool, two 1x1 convolutions, multiply.

    Args:
        x: (B, H, W, C) tensor.
        units: of the narrow layer, C / r.
        name: prefix: `{name}_pool`, `{name}_reduce`, `{name}_expand`, `{name}_scale`.
        activation: of the weights.
        inner: of the narrow layer.
    """
    channels = x.shape[-1]
    w = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    w = conv_relu(w, units, 1, activation=inner, name=f"{name}_reduce")
    w = conv_relu(w, channels, 1, activation=activation, name=f"{name}_expand")
    return layers.Multiply(name=f"{name}_scale")([x, w])


def shortcut(x, filters, strides=1, option="B", use_bias=False, name=None, **options):
    """The shortcut of a residual block (He, Zhang, Ren and Sun 2016, section 4.1): x itself wherever its shape fits.

    Args:
        x: (B, H, W, C) tensor.
        filters, strides: of the block.
        option: where the shape changes, "A": every strides-th pixel, zeros for the new channels, no parameters; "B": a
            1x1 convolution, `{name}`, with batch normalisation, `{name}_bn`. "C": that convolution in every block.
        use_bias: of the convolution.
        options: further arguments of `conv_bn`.
    """
    if option not in ("A", "B", "C"):
        raise ValueError(f"shortcut is 'A', 'B' or 'C', not {option!r}")
    if option != "C" and strides == 1 and x.shape[-1] == filters:
        return x
    if option != "A":
        return conv_bn(x, filters, 1, strides, use_bias=use_bias, name=name, **options)
    if strides != 1:
        x = layers.MaxPooling2D(1, strides, name=f"{name}_pool")(x)
    return x if x.shape[-1] == filters else ChannelPadding(filters, name=name)(x)


@keras.saving.register_keras_serializable("convnets")
class ChannelPadding(layers.Layer):
    """Zero channels behind those of the input: (B, H, W, C) -> (B, H, W, channels)."""

    each_place = True  # no place looks at another, and nothing is multiplied by weights

    def __init__(self, channels, **options):
        super().__init__(**options)
        self.channels = channels

    def call(self, x):
        return ops.pad(x, [(0, 0)] * (len(x.shape) - 1) + [(0, self.channels - x.shape[-1])])

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)

    def get_config(self):
        return super().get_config() | {"channels": self.channels}


def small_stem(stem, name, large, image_shape, smallest):
    """Whether the stem is the small one; an error where the option is unknown or the image too small.

    Args:
        stem: the option: `large`, as "7x7", or "3x3".
        name: of the network.
        large: the paper's.
        image_shape: (height, width, channels).
        smallest: (side of the smallest image that goes through with the large stem, with the small one).
    """
    if stem not in (large, "3x3"):
        raise ValueError(f"{name}: stem is {large!r} or '3x3', not {stem!r}")
    least = smallest[stem != large]
    if min(side or least for side in image_shape[:2]) < least:
        hint = "" if stem == "3x3" or large == "3x3" else "; stem='3x3' is for small images"
        raise ValueError(
            f"{name} needs an image of {least}x{least} or more, not {image_shape[0]}x{image_shape[1]}{hint}"
        )
    return stem != large


def scaled(filters, width, divisor=1):
    """Number of filters times a width multiplier, rounded to a multiple of `divisor`, at least that."""
    return max(divisor, int(filters * width / divisor + 0.5) * divisor)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)
