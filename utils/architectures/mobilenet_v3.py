"""MobileNetV3: Howard et al., "Searching for MobileNetV3" (ICCV 2019), tables 1 (large) and 2 (small).

Inverted residuals found by search, some with 5x5 filters, squeeze-and-excitation (a quarter of the wide channels, hard
sigmoid), and hard swish in the deeper half; the 1x1 convolution before the classifier stands behind
the pooling, where it costs little.
As in the released networks and in Keras, whose weights load: channels rounded to multiples of 8, padding at the end
("same"), an epsilon of .001. Keras rescales pixels 0..255 inside its model; here, as in every family, that is left to
the caller (to -1..1).
"""

import keras
from keras import layers

from utils.architectures.blocks import activate, conv, conv_bn_relu, squeeze_excite
from utils.architectures.mobilenet_v2 import divisible, inverted_residual
from utils.architectures.registry import register

# Tables 1 and 2: (kernel, wide channels, channels out, squeeze-and-excitation, activation, stride), one row a block.
LARGE = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)
SMALL = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1),
    (5, 144, 48, True, "hard_swish", 1),
    (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1),
    (5, 576, 96, True, "hard_swish", 1),
)
# name: (rows, channels behind the pooling, alpha)
CONFIGURATIONS = {
    "mobilenet_v3_large": (LARGE, 1280, 1.0),
    "mobilenet_v3_large_x0_75": (LARGE, 1280, 0.75),
    "mobilenet_v3_small": (SMALL, 1024, 1.0),
    "mobilenet_v3_small_x0_75": (SMALL, 1024, 0.75),
}


@register(
    *CONFIGURATIONS,
    input_shape=(224, 224, 3),
    application={
        name: (f"MobileNetV3{'Large' if rows is LARGE else 'Small'}", {"alpha": alpha, "include_preprocessing": False})
        for name, (rows, pooled, alpha) in CONFIGURATIONS.items()
    },
)
def mobilenet_v3(name, input_shape, classes, include_top, stem_stride=2, alpha=None, momentum=0.9, dropout=0.2):
    """MobileNetV3, 2019: searched inverted residuals with squeeze-and-excitation and hard swish.

    Args:
        name, input_shape, classes, include_top: as in `build`; the name holds the table.
        stem_stride: of the first convolution; 1 for small images, which leaves a 32-pixel image 2x2 in the end.
        alpha: width multiplier; None for the name's own.
        momentum: of the running statistics (Keras: .999, which needs thousands of steps).
        dropout: rate before the classifier.
    """
    rows, pooled, own_alpha = CONFIGURATIONS[name]
    alpha = alpha or own_alpha
    style = {"padding": "same", "epsilon": 1e-3, "momentum": momentum}
    image = layers.Input(input_shape, name="image")
    x = conv_bn_relu(image, 16, 3, stem_stride, activation="hard_swish", name="stem_conv", **style)
    stage, block, channels_in = 1, 1, 16
    for kernel, wide, channels, squeeze, activation, strides in rows:
        if strides == 2:
            stage, block = stage + 1, 1
        # The tables give wide channels at alpha 1: the expansion is a ratio of the channels that come in.
        wide = divisible(x.shape[-1] * wide / channels_in)
        middle = squeeze_quarter if squeeze else None
        x = inverted_residual(
            x,
            wide,
            divisible(channels * alpha),
            strides,
            f"stage{stage}_block{block}",
            kernel,
            middle,
            activation,
            **style,
        )
        block, channels_in = block + 1, channels
    x = conv_bn_relu(x, divisible(6 * x.shape[-1]), 1, activation="hard_swish", name="last_conv", **style)
    if include_top:
        x = layers.GlobalAveragePooling2D(keepdims=True, name="head_pool")(x)
        x = activate(conv(x, divisible(pooled * max(alpha, 1.0)), 1, name="head_conv"), "hard_swish", "head_hard_swish")
        x = layers.Flatten(name="head_flatten")(x)
        x = layers.Dropout(dropout, name="head_dropout")(x)
        x = layers.Dense(classes, name="logits")(x)
    return keras.Model(image, x, name=name)


def squeeze_quarter(x, name):
    """Squeeze-and-excitation to a quarter of the channels, weights from a hard sigmoid."""
    return squeeze_excite(x, divisible(x.shape[-1] / 4), f"{name}_se", activation="hard_sigmoid")
