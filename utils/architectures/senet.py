"""SENet: Hu, Shen and Sun, "Squeeze-and-excitation networks" (CVPR 2018), figures 2 and 3, table 1.

Before the sum of every bottleneck its channels are weighed: global average pooling ("squeeze"), two dense layers with a
16th of the channels between them and a sigmoid ("excitation"). The dense layers stand here as 1x1 convolutions on a 1x1
map, with biases, the same numbers. SE-ResNet has its stride in the first 1x1 convolution, as the paper's ResNet;
`stride_in="3x3"` is timm's `seresnet50`. SE-ResNeXt has it in the 3x3.
"""

from functools import partial

from utils.architectures.blocks import squeeze_excite
from utils.architectures.registry import register
from utils.architectures.resnet import bottleneck, checked_stride, frame

# name: (bottlenecks of each stage, cardinality, width of a group, the convolution with the stride)
CONFIGURATIONS = {
    "seresnet50": ((3, 4, 6, 3), 1, 64, "1x1"),
    "seresnet101": ((3, 4, 23, 3), 1, 64, "1x1"),
    "seresnet152": ((3, 8, 36, 3), 1, 64, "1x1"),
    "seresnext50_32x4d": ((3, 4, 6, 3), 32, 4, "3x3"),
    "seresnext101_32x4d": ((3, 4, 23, 3), 32, 4, "3x3"),
}


@register(*CONFIGURATIONS, input_shape=(224, 224, 3))
def senet(name, input_shape, classes, include_top, stride_in=None, stem="7x7", reduction=16, blocks=None, width=1.0):
    """SE-ResNet and SE-ResNeXt, 2018: each bottleneck weighs its channels by their means.

    Args:
        name, input_shape, classes, include_top, stem, width: as in `resnet.resnet`.
        stride_in: "1x1" or "3x3"; None for the name's own.
        reduction: r, channels of a block over those between the two dense layers.
        blocks: number of bottlenecks in each of the four stages; None for the name's own.
    """
    own_blocks, cardinality, group_width, own_stride = CONFIGURATIONS[name]
    strided = partial(bottleneck, stride_in=checked_stride(stride_in or own_stride, name), groups=cardinality)

    def recalibrate(y, name):
        return squeeze_excite(y, max(1, y.shape[-1] // reduction), name)

    def block(x, filters, strides, name):
        inner = cardinality * max(1, group_width * filters // 64)
        return strided(x, filters, strides, name, inner=inner, recalibrate=recalibrate)

    return frame(name, input_shape, classes, include_top, blocks or own_blocks, block, stem, width)
