"""PyramidNet: Han, Kim and Kim, "Deep pyramidal residual networks" (CVPR 2017), table 1 and equation 2, the additive
networks for CIFAR.

Every block widens: behind block k of N stand floor(16 + k alpha / N) channels, instead of twice as many at each halving
of the map. The shortcut has no weights (average pooling, zeros for the new channels), the block no ReLU before its
first convolution and one more batch normalisation at its end (figure 6, d).

Equation 2 floors what it has floored, which would stay at 16 for alpha = 48; floored here is the running sum. That
gives the paper's 1.7 M (110 layers, alpha 48), 26.6 M (200, 240), 26.8 M (236, 220) and 26.0 M (272, 200); for 110 with
84 and 270, and 164 with 270, it gives 3.86, 28.5 and 27.2 M where the paper prints 3.8, 28.3 and 27.0. (Rounding
instead of flooring, as some code does: 1,772,706 for the first.)
"""

import keras
from keras import layers

from utils.architectures.blocks import ChannelPadding, batch_norm, bn_relu_conv, classifier, conv
from utils.architectures.registry import register

# name: (layers, alpha, whether the blocks are bottlenecks)
CONFIGURATIONS = {
    "pyramidnet110_a48": (110, 48, False),
    "pyramidnet110_a84": (110, 84, False),
    "pyramidnet110_a270": (110, 270, False),
    "pyramidnet164_a270": (164, 270, True),
    "pyramidnet200_a240": (200, 240, True),
}


@register(*CONFIGURATIONS, input_shape=(32, 32, 3), classes=10)
def pyramidnet(name, input_shape, classes, include_top, depth=None, alpha=None):
    """PyramidNet, 2017: pre-activated residual blocks, each a little wider than the last.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 4x4 pixels.
        depth: 6n + 2 layers, or 9n + 2 with bottlenecks; None for the name's own.
        alpha: channels that all blocks together add; None for the name's own.
    """
    own_depth, own_alpha, bottlenecks = CONFIGURATIONS[name]
    depth, alpha = depth or own_depth, own_alpha if alpha is None else alpha
    per_block = 9 if bottlenecks else 6
    if depth < per_block + 2 or (depth - 2) % per_block:
        raise ValueError(f"{name}: depth is {per_block}n + 2, not {depth}")
    widths = channels(depth, alpha, per_block)
    image = layers.Input(input_shape, name="image")
    x = batch_norm(conv(image, 16, 3, use_bias=False, name="stem_conv"), "stem_bn")
    for number, width in enumerate(widths):
        stage, block = divmod(number, len(widths) // 3)
        strides = 2 if stage and not block else 1
        x = pyramid_block(x, width, strides, bottlenecks, f"stage{stage + 1}_block{block + 1}")
    x = layers.ReLU(name="stage3_relu")(batch_norm(x, "stage3_bn"))
    return keras.Model(image, classifier(x, classes) if include_top else x, name=name)


def channels(depth, alpha, per_block=6):
    """Channels behind every block (of the 3x3 convolution, where it is a bottleneck): floor(16 + k alpha / N), k = 1
    ... N.
    """
    blocks = (depth - 2) // per_block * 3
    return [16 + int(k * alpha // blocks) for k in range(1, blocks + 1)]


def pyramid_block(x, width, strides, bottleneck, name):
    """A block of two 3x3 convolutions, or of 1x1, 3x3 and 1x1 to 4 width; no ReLU before the first, batch normalisation
    at the end.

    Args:
        x: (B, H, W, C) tensor, C at most the number of channels that come out.
        width: channels of the convolutions.
        strides: 1 or 2.
        bottleneck: which kind.
        name: prefix.
    """
    out = 4 * width if bottleneck else width
    y = batch_norm(x, f"{name}_bn")
    if bottleneck:
        y = conv(y, width, 1, use_bias=False, name=f"{name}_conv1")
        y = bn_relu_conv(y, width, 3, strides, name=f"{name}_conv2")
        y = bn_relu_conv(y, out, 1, name=f"{name}_conv3")
    else:
        y = conv(y, width, 3, strides, use_bias=False, name=f"{name}_conv1")
        y = bn_relu_conv(y, out, 3, name=f"{name}_conv2")
    y = batch_norm(y, f"{name}_last_bn")
    if strides > 1:
        x = layers.AveragePooling2D(strides, padding="same", name=f"{name}_pool")(x)
    if x.shape[-1] != out:
        x = ChannelPadding(out, name=f"{name}_zeros")(x)
    return layers.Add(name=f"{name}_add")([x, y])
