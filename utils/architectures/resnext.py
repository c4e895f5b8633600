"""ResNeXt: Xie, Girshick, Dollár, Tu and He, "Aggregated residual transformations for deep neural networks" (CVPR
2017), table 1.

The 3x3 convolution of a bottleneck is split into C groups ("cardinality") of d channels in the first stage, twice as
many in each
further one: "32x4d" has about the parameters and the MACs of ResNet-50 with more paths. It is the third of the
equivalent forms of figure 3, a grouped convolution. The stride is in the 3x3, as in the authors' code. The CIFAR nets
are those of section 5.3: three stages of three blocks behind a 3x3 convolution.
"""

import keras
from keras import layers

from utils.architectures.blocks import classifier, conv_bn_relu
from utils.architectures.registry import register
from utils.architectures.resnet import bottleneck, checked_stride, frame

# name: (blocks of each stage, cardinality C, width d of a group in the first stage)
IMAGENET = {
    "resnext50_32x4d": ((3, 4, 6, 3), 32, 4),
    "resnext101_32x4d": ((3, 4, 23, 3), 32, 4),
    "resnext101_32x8d": ((3, 4, 23, 3), 32, 8),
    "resnext101_64x4d": ((3, 4, 23, 3), 64, 4),
}
CIFAR = {"resnext29_8x64d": ((3, 3, 3), 8, 64), "resnext29_16x64d": ((3, 3, 3), 16, 64)}


@register(*IMAGENET, input_shape=(224, 224, 3))
def resnext(
    name, input_shape, classes, include_top, stride_in="3x3", stem="7x7", cardinality=None, group_width=None, width=1.0
):  # fmt: skip
    """ResNeXt for ImageNet, 2017: bottlenecks whose 3x3 convolution is grouped.

    Args:
        name, input_shape, classes, include_top, stride_in, stem: as in `resnet.resnet`.
        cardinality, group_width: C and d; None for the name's own. C = 1 with d = 64 is ResNet.
        width: multiplier of the numbers of filters, those inside the groups too.
    """
    blocks, own_cardinality, own_width = IMAGENET[name]
    block = grouped(cardinality or own_cardinality, group_width or own_width, checked_stride(stride_in, name))
    return frame(name, input_shape, classes, include_top, blocks, block, stem, width)


@register(*CIFAR, input_shape=(32, 32, 3), classes=10)
def resnext_cifar(name, input_shape, classes, include_top, cardinality=None, group_width=None):
    """ResNeXt-29 for CIFAR, 2017: nine bottlenecks whose 3x3 convolution is grouped.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 4x4 pixels.
        cardinality, group_width: C and d; None for the name's own.
    """
    blocks, own_cardinality, own_width = CIFAR[name]
    block = grouped(cardinality or own_cardinality, group_width or own_width)
    image = layers.Input(input_shape, name="image")
    x = conv_bn_relu(image, 64, 3, name="conv1")
    for stage, count in enumerate(blocks, 1):
        for number in range(1, count + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            x = block(x, 32 * 2**stage, strides, f"stage{stage}_block{number}")
    return keras.Model(image, classifier(x, classes) if include_top else x, name=name)


def grouped(cardinality, group_width, stride_in="3x3"):
    """A bottleneck with C groups: its 3x3 convolution has C d channels where the block has 64 filters, twice as many at
    128, ...

    Returns:
        function of (tensor, filters, strides, name), as `resnet.frame` calls it.
    """

    def block(x, filters, strides, name):
        inner = cardinality * max(1, group_width * filters // 64)
        return bottleneck(x, filters, strides, name, stride_in=stride_in, inner=inner, groups=cardinality)

    return block
