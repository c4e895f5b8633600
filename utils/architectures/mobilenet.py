"""MobileNet: Howard et al., "MobileNets: Efficient convolutional neural networks for mobile vision applications"
(2017), table 1.

A convolution is split in two: a depthwise 3x3 filters each channel by itself, a 1x1 mixes the channels. The last
depthwise row of table 1 says "s2" with an input and an output of 7 x 7: a misprint, its stride is 1 (with 2, the maps
would be 4 x 4). ReLU6 and the epsilon of batch normalisation are those of the released networks and of Keras, whose
weights load; its padding at the end ("same") too. The width multiplier alpha thins every layer; the resolution
multiplier is the `input_shape`.
"""

import keras
from keras import layers

from utils.architectures.blocks import activate, batch_norm, classifier, conv_bn_relu, depthwise, scaled
from utils.architectures.registry import register

# Table 1: (channels, stride of the depthwise convolution) of each pair; behind a 3x3 convolution to 32 channels with
# stride 2.
PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
ALPHAS = {"mobilenet": 1.0, "mobilenet_x0_75": 0.75, "mobilenet_x0_5": 0.5, "mobilenet_x0_25": 0.25}
STYLE = {"activation": "relu6", "epsilon": 1e-3, "padding": "same"}


@register(
    *ALPHAS,
    input_shape=(224, 224, 3),
    application={name: ("MobileNet", {"alpha": alpha}) for name, alpha in ALPHAS.items()},
)
def mobilenet(name, input_shape, classes, include_top, stem_stride=2, alpha=None, momentum=0.9, dropout=0.001):
    """MobileNet, 2017: 27 convolutions, all but the first depthwise or 1x1.

    Args:
        name, input_shape, classes, include_top: as in `build`.
        stem_stride: of the first convolution; 1 for small images, which leaves a 32-pixel image 2x2 in the end.
        alpha: width multiplier; None for the name's own.
        momentum: of the running statistics (Keras: .99).
        dropout: rate before the classifier.
    """
    alpha, style = alpha or ALPHAS[name], STYLE | {"momentum": momentum}
    image = layers.Input(input_shape, name="image")
    x = conv_bn_relu(image, scaled(32, alpha), 3, stem_stride, name="stem_conv", **style)
    stage = block = 1
    for channels, strides in PAIRS:
        if strides == 2:
            stage, block = stage + 1, 1
        x = separable(x, scaled(channels, alpha), strides, f"stage{stage}_block{block}", **style)
        block += 1
    return keras.Model(image, classifier(x, classes, dropout) if include_top else x, name=name)


def separable(x, channels, strides, name, activation="relu", padding=None, epsilon=1e-5, momentum=0.9):
    """Depthwise separable convolution: depthwise 3x3, then 1x1, each with batch normalisation and activation.

    Args:
        x: (B, H, W, C) tensor.
        channels: of the output.
        strides: of the depthwise convolution.
        name: prefix: `{name}_depthwise`, `{name}_pointwise`.
        activation, padding, epsilon, momentum: as in `blocks`.

    Returns:
        (B, H / strides, W / strides, channels) tensor.
    """
    x = depthwise(x, 3, strides, padding, name=f"{name}_depthwise")
    x = activate(batch_norm(x, f"{name}_depthwise_bn", momentum, epsilon), activation, f"{name}_depthwise_{activation}")
    return conv_bn_relu(
        x, channels, 1, activation=activation, name=f"{name}_pointwise", epsilon=epsilon, momentum=momentum
    )
