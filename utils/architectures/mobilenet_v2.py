"""MobileNetV2: Sandler, Howard, Zhu, Zhmoginov and Chen, "Inverted residuals and linear bottlenecks" (CVPR 2018), table
2.

The shortcut joins the narrow maps; between them the block is t times wider, filters depthwise, and comes back without
an activation, which would lose information in few channels. Channels times alpha are rounded to multiples of 8, never
down by more than a tenth; the last convolution keeps its 1280 for alpha below 1. As in the released networks and in
Keras, whose weights load: padding at the end ("same"), an epsilon of .001, and no expansion in the first block (t = 1).
"""

import keras
from keras import layers

from utils.architectures.blocks import activate, batch_norm, classifier, conv_bn, conv_bn_relu, depthwise
from utils.architectures.registry import register

# Table 2: (expansion t, channels c, blocks n, stride s of the first), one row a stage.
TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
ALPHAS = {
    "mobilenet_v2": 1.0,
    "mobilenet_v2_x0_35": 0.35,
    "mobilenet_v2_x0_5": 0.5,
    "mobilenet_v2_x0_75": 0.75,
    "mobilenet_v2_x1_3": 1.3,
    "mobilenet_v2_x1_4": 1.4,
}


@register(
    *ALPHAS,
    input_shape=(224, 224, 3),
    application={name: ("MobileNetV2", {"alpha": alpha}) for name, alpha in ALPHAS.items()},
)
def mobilenet_v2(name, input_shape, classes, include_top, stem_stride=2, alpha=None, momentum=0.9, dropout=0.0):
    """MobileNetV2, 2018: inverted residuals with linear bottlenecks.

    Args:
        name, input_shape, classes, include_top: as in `build`.
        stem_stride: of the first convolution; 1 for small images, which leaves a 32-pixel image 2x2 in the end.
        alpha: width multiplier; None for the name's own.
        momentum: of the running statistics (Keras: .999, which needs thousands of steps).
        dropout: rate before the classifier (.2 in later trainings).
    """
    alpha = alpha or ALPHAS[name]
    style = {"padding": "same", "activation": "relu6", "epsilon": 1e-3, "momentum": momentum}
    image = layers.Input(input_shape, name="image")
    x = conv_bn_relu(image, divisible(32 * alpha), 3, stem_stride, name="stem_conv", **style)
    for stage, (expansion, channels, blocks, strides) in enumerate(TABLE, 1):
        for block in range(1, blocks + 1):
            wide = x.shape[-1] * expansion
            # Keras cuts c alpha to an integer before it rounds to a multiple of 8.
            channels_out = divisible(int(channels * alpha))
            x = inverted_residual(
                x, wide, channels_out, strides if block == 1 else 1, f"stage{stage}_block{block}", **style
            )
    x = conv_bn_relu(x, divisible(1280 * max(alpha, 1.0)), 1, name="last_conv", **style)
    return keras.Model(image, classifier(x, classes, dropout) if include_top else x, name=name)


def inverted_residual(
    x,
    wide,
    channels,
    strides,
    name,
    kernel_size=3,
    middle=None,
    activation="relu",
    padding=None,
    epsilon=1e-5,
    momentum=0.9,
):
    """Narrow, wide, narrow: 1x1 expansion, depthwise convolution, 1x1 projection without activation; shortcut where
    shapes allow.

    Args:
        x: (B, H, W, C) tensor.
        wide: channels between; if they are C, there is no expansion.
        channels: of the output.
        strides, kernel_size: of the depthwise convolution.
        name: prefix: `{name}_expand`, `{name}_depthwise`, `{name}_project`, `{name}_add`.
        middle: function of (tensor, prefix) to a tensor, applied before the projection: squeeze-and-excitation.
        activation, padding, epsilon, momentum: as in `blocks`.

    Returns:
        (B, H / strides, W / strides, channels) tensor.
    """
    style = {"epsilon": epsilon, "momentum": momentum}
    shortcut = x
    if wide != x.shape[-1]:
        x = conv_bn_relu(x, wide, 1, activation=activation, name=f"{name}_expand", **style)
    x = depthwise(x, kernel_size, strides, padding, name=f"{name}_depthwise")
    x = activate(batch_norm(x, f"{name}_depthwise_bn", **style), activation, f"{name}_depthwise_{activation}")
    if middle is not None:
        x = middle(x, name)
    x = conv_bn(x, channels, 1, name=f"{name}_project", **style)
    if strides == 1 and shortcut.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def divisible(channels, divisor=8):
    """The multiple of `divisor` nearest to `channels`, at least one and not more than a tenth below."""
    near = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * channels else near
