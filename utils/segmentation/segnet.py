"""SegNet: Badrinarayanan, Kendall and Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image
segmentation" (PAMI 2017).

VGG16's thirteen convolutions down, and a mirror image of them up. On the way down, max-pooling notes where each maximum
was; on the way up, unpooling puts values back to those places, with zeros between, and the convolutions fill the gaps.
Nothing has to be learnt to enlarge, and only places, not maps, are kept from the way down.
"""

import keras
from keras import layers

from utils import architectures
from utils.architectures.blocks import conv, conv_bn_relu
from utils.backbones import preprocessed
from utils.layers import MaxPoolingWithIndices, MaxUnpooling, cropped, padded

VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def segnet(input_shape=(None, None, 3), classes=2, stages=VGG16, unpooling=True, weights=None, name="segnet"):
    """SegNet.

    Args:
        input_shape: (height, width, channels); height and width None for any size.
        classes: number of classes, background included.
        stages: (filters, number of convolutions) of each stage; the paper's are VGG16's.
        unpooling: whether values go back to where the maxima were; if not, each is repeated 2x2, which shows what the
            places are worth.
        weights: None, or "imagenet": VGG16's convolutions, with the paper's stages.
        name: of the model.

    Returns:
        keras.Model on images (B, H, W, C), uint8 or float, 0 to 255; gives logits (B, H, W, classes). Images of any
        size: they are padded to multiples of the stride inside, and the logits cropped. Layers conv1_1 ... conv5_3
        down, deconv5_3 ... deconv1_1 up.

    Raises:
        ValueError: no stages, or ImageNet weights for other stages than the paper's.
    """
    stages = tuple(tuple(stage) for stage in stages)
    if not stages or any(count < 1 for _, count in stages):
        raise ValueError(f"stages are pairs of filters and a number of convolutions, got {stages}")
    if weights not in (None, "imagenet"):
        raise ValueError(f"weights is None or 'imagenet', not {weights!r}")
    if weights == "imagenet" and (stages != VGG16 or input_shape[-1] != 3):
        raise ValueError("the ImageNet weights are those of VGG16: for the paper's stages and colour images")
    image = layers.Input(input_shape, name="image")
    x = preprocessed(padded(image, 2 ** len(stages)), "vgg16" if weights else None)
    places = []
    for stage, (filters, count) in enumerate(stages, 1):
        for number in range(1, count + 1):
            x = conv_bn_relu(x, filters, 3, use_bias=True, name=f"conv{stage}_{number}")
        before = x
        x, indices = MaxPoolingWithIndices(2, name=f"pool{stage}")(x)
        places.append((indices, before))
    for stage in range(len(stages), 0, -1):
        filters, count = stages[stage - 1]
        indices, before = places[stage - 1]
        if unpooling:
            x = MaxUnpooling(2, name=f"unpool{stage}")(x, indices, before)
        else:
            x = layers.UpSampling2D(2, name=f"unpool{stage}")(x)
        # The last convolution of a stage leads to the width of the stage above; that of the first stage gives the
        # scores.
        for number in range(count, 0, -1):
            if number > 1 or stage > 1:
                width = filters if number > 1 else stages[stage - 2][0]
                x = conv_bn_relu(x, width, 3, use_bias=True, name=f"deconv{stage}_{number}")
    x = conv(x, classes, 3, name="logits")
    model = keras.Model(image, cropped(x, image), name=name)
    if weights:
        vgg = architectures.build("vgg16", (None, None, 3), include_top=False, weights="imagenet")
        for layer in vgg.layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
    return model
