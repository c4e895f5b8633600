"""What the families share: convolutions with their normalisation and activation, pools, classifiers.

Every function takes a tensor and the name of its layers, and gives a tensor. Padding is that of the papers, the same number of
zeros on every side, `(kernel - 1) // 2` unless told; Keras's "same" would put the odd one at the end wherever the stride is 2.
"""

from keras import layers


def conv(x, filters, kernel_size, strides=1, padding=None, groups=1, use_bias=True, name=None, **options):
    """Convolution called `name`, with `padding` zeros on every side.

    Args:
        x: (B, H, W, C) tensor.
        filters, kernel_size, strides, groups, use_bias: as in `keras.layers.Conv2D`; kernel_size an int or a pair.
        padding: int or pair: zeros on every side, by a layer `{name}_pad` where "same" would put them elsewhere; None for
            (kernel_size - 1) // 2; or Keras's own "valid" or "same".
        options: further arguments of Conv2D, such as kernel_initializer (he_normal).
    """
    x, padding = pad(x, kernel_size, strides, padding, options.get("dilation_rate", 1), name)
    options = {"kernel_initializer": "he_normal"} | options
    return layers.Conv2D(
        filters, kernel_size, strides, padding=padding, groups=groups, use_bias=use_bias, name=name, **options
    )(x)


def depthwise(x, kernel_size, strides=1, padding=None, use_bias=False, name=None, **options):
    """Depthwise convolution called `name`, one filter per channel; arguments as in `conv`."""
    x, padding = pad(x, kernel_size, strides, padding, options.get("dilation_rate", 1), name)
    options = {"depthwise_initializer": "he_normal"} | options
    return layers.DepthwiseConv2D(kernel_size, strides, padding=padding, use_bias=use_bias, name=name, **options)(x)


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
    x, filters, kernel_size, strides=1, padding=None, groups=1, use_bias=False, name=None, epsilon=1e-5, momentum=0.9, **options
):  # fmt: skip
    """Convolution, `name`, and batch normalisation, `{name}_bn`."""
    x = conv(x, filters, kernel_size, strides, padding, groups, use_bias, name, **options)
    return batch_norm(x, f"{name}_bn", momentum, epsilon)


def conv_bn_relu(x, filters, kernel_size, strides=1, padding=None, groups=1, activation="relu", name=None, **options):
    """Convolution, `name`, batch normalisation, `{name}_bn`, and activation, `{name}_relu` (or the other's name)."""
    x = conv_bn(x, filters, kernel_size, strides, padding, groups, name=name, **options)
    return activate(x, activation, f"{name}_{activation}")


def bn_relu_conv(
    x, filters, kernel_size, strides=1, padding=None, groups=1, use_bias=False, name=None, epsilon=1e-5, momentum=0.9, **options
):  # fmt: skip
    """The pre-activated order: `{name}_bn`, `{name}_relu`, then the convolution `name`."""
    x = layers.ReLU(name=f"{name}_relu")(batch_norm(x, f"{name}_bn", momentum, epsilon))
    return conv(x, filters, kernel_size, strides, padding, groups, use_bias, name, **options)


def max_pool(x, pool_size, strides, padding=0, name=None):
    """Max-pooling with `padding` zeros on every side (an int), by a layer `{name}_pad`: behind a ReLU, zeros never win unduly."""
    if padding and not isinstance(padding, str):
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(pool_size, strides, padding=padding if isinstance(padding, str) else "valid", name=name)(
        x
    )


def classifier(x, classes, dropout=0.0, name="logits"):
    """Global average pooling, `head_pool`, dropout if any, `head_dropout`, and the dense layer that gives logits (B, classes)."""
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="head_dropout")(x)
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


def scaled(filters, width, divisor=1):
    """Number of filters times a width multiplier, rounded to a multiple of `divisor`, at least that."""
    return max(divisor, int(filters * width / divisor + 0.5) * divisor)


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)
