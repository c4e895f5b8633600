"""DeepLabv3 and v3+: Chen, Papandreou, Schroff and Adam 2017 ("Rethinking atrous convolution"); Chen et al. (ECCV 2018,
"Encoder-decoder").

A classifier's last stages lose places for stride. Here their strides become 1, and the convolutions behind them get
holes (are dilated), so that each sees what it saw before, at every place: `dilated`. On that map, atrous spatial
pyramid pooling (ASPP) looks with several dilations at once, and at the whole image. The v3+ decoder adds a map of
stride 4 for the outlines.
"""

import keras
from keras import layers

from utils import architectures, models
from utils.architectures.blocks import conv_bn_relu, depthwise
from utils.backbones import maps, preprocessed
from utils.layers import DilatedMaxPooling, Enlarge, Spread, cropped, padded


def deeplab(
    input_shape=(None, None, 3),
    classes=21,
    backbone="resnet50",
    weights=None,
    output_stride=16,
    rates=None,
    filters=256,
    decoder=True,
    low_level=2,
    separable=False,
    image_pooling=True,
    dropout=0.1,
    name="deeplab",
    **options,
):
    """DeepLabv3+ (or v3, without the decoder) on a network of `utils.architectures`.

    Args:
        input_shape: (height, width, channels); height and width None for any size.
        classes: number of classes, background included.
        backbone: a name of `utils.architectures.names()` whose convolutions are a chain of strides: ResNets,
            MobileNets, VGG. It becomes one layer of the model, "backbone".
        weights: None or "imagenet"; dilation changes no weight.
        output_stride: stride of the last map: a power of two up to the backbone's own; 16 or 8 in the papers. Half of
            it is four times the work in the stages that are dilated.
        rates: dilations of ASPP's 3x3 convolutions; None: the papers' 6, 12, 18 for stride 16, in proportion for others
            (12, 24, 36 for 8). On small images choose smaller ones: dilated beyond the map, a 3x3 convolution is a 1x1
            one.
        filters: of ASPP and decoder.
        decoder: whether the decoder of v3+ stands behind; without it, the scores are enlarged at once, as in v3.
        low_level: level of the map that the decoder takes up (stride 4).
        separable: whether the 3x3 convolutions of ASPP and decoder are depthwise separable, as in v3+.
        image_pooling: whether ASPP looks at the whole image too. Without it, a pixel's answer depends on its
            surroundings alone.
        dropout: rate before the scores.
        name: of the model.
        **options: of the backbone, such as `width` or `alpha`.

    Returns:
        keras.Model on images (B, H, W, C), uint8 or float, 0 to 255; gives logits (B, H, W, classes). Images of any
        size: they are padded to multiples of 32 (or of the backbone's stride) inside, and the logits cropped.

    Raises:
        ValueError: an unknown backbone, or an output stride or a level that it does not have.
    """
    body = architectures.build(backbone, (None, None, input_shape[-1]), include_top=False, weights=weights, **options)
    own = _strides(body)[body.layers[-1].name][1]
    if output_stride not in [2**level for level in range(low_level + 1, own.bit_length())]:
        raise ValueError(
            f"{backbone} has a stride of {own}: output_stride is a power of two up to it, above {2**low_level}"
        )
    found = maps(body)
    if low_level not in found:
        raise ValueError(f"{backbone} has no map of level {low_level} (levels: {', '.join(map(str, found))})")
    body = dilated(keras.Model(body.input, [found[low_level], body.output], name="backbone"), output_stride)
    image = layers.Input(input_shape, name="image")
    x = preprocessed(padded(image, own), backbone if weights == "imagenet" else None)
    low, x = body(x)
    rates = tuple(rates or [max(1, rate * 16 // output_stride) for rate in (6, 12, 18)])
    x = aspp(x, filters, rates, separable, image_pooling)
    x = layers.Dropout(dropout, name="aspp_dropout")(x) if dropout else x
    stride = output_stride
    if decoder:
        x = Enlarge(stride // 2**low_level, name="decoder_enlarge")(x)
        low = conv_bn_relu(low, max(16, filters * 48 // 256), 1, name="decoder_narrow")
        x = layers.Concatenate(name="decoder_join")([x, low])
        for number in (1, 2):
            x = _conv3(x, filters, 1, separable, f"decoder_conv{number}")
        stride = 2**low_level
    x = layers.Conv2D(classes, 1, name="logits")(x)
    x = Enlarge(stride, name="enlarge")(x)
    return keras.Model(image, cropped(x, image), name=name)


def aspp(x, filters=256, rates=(6, 12, 18), separable=False, image_pooling=True, name="aspp"):
    """Atrous spatial pyramid pooling: a 1x1 convolution, a dilated 3x3 one for each rate and the mean of the image,
    joined and mixed.

    Args:
        x: (B, H, W, C) tensor.
        filters: of each branch and of the result.
        rates: dilations, pixels of the map.
        separable, image_pooling: as in `deeplab`.
        name: prefix.

    Returns:
        (B, H, W, filters) tensor.
    """
    branches = [conv_bn_relu(x, filters, 1, name=f"{name}_conv1x1")]
    branches += [_conv3(x, filters, rate, separable, f"{name}_rate{rate}") for rate in rates]
    if image_pooling:
        y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
        y = conv_bn_relu(y, filters, 1, name=f"{name}_image")
        branches.append(Spread(name=f"{name}_spread")(y, x))
    return conv_bn_relu(layers.Concatenate(name=f"{name}_join")(branches), filters, 1, name=f"{name}_mix")


def _conv3(x, filters, rate, separable, name):
    if not separable:
        return conv_bn_relu(x, filters, 3, name=name, dilation_rate=rate)
    x = depthwise(x, 3, name=f"{name}_depthwise", dilation_rate=rate)
    return conv_bn_relu(x, filters, 1, name=name)


def dilated(model, output_stride):
    """The same network with the same weights and a smaller stride: where a stride would go beyond `output_stride` it
    becomes 1, and what comes behind is dilated by as much.

    At the places that the old maps had, the new ones have the same values, borders apart; between them lie new ones.
    (Where a strided layer pads by Keras's "same", the old places are one further to the right and below.)

    Args:
        model: functional keras.Model whose strides are in convolutions, depthwise convolutions and max-pooling.
        output_stride: int, a power of two.

    Returns:
        keras.Model with layers of the same names; the weights are copies.

    Raises:
        ValueError: another layer has a stride that would have to become 1.
    """
    strides = _strides(model)

    def changed(layer):
        before, after = strides[layer.name]
        dilation = max(1, before // output_stride)
        config = layer.get_config()
        if isinstance(layer, layers.ZeroPadding2D) and dilation > 1:
            # For the window behind it, whose reach grows.
            config["padding"] = [[dilation * n for n in pair] for pair in config["padding"]]
        elif isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            if max(before, after) > output_stride:
                config |= {"strides": [1, 1], "dilation_rate": [dilation, dilation]}
        elif isinstance(layer, layers.MaxPooling2D) and max(before, after) > output_stride:
            return _dilated_pool(layer, dilation)
        elif after > max(before, output_stride):
            raise ValueError(f"no rule to take the stride from {layer.name}, a {type(layer).__name__}")
        return layer.__class__.from_config(config)

    copy = models.remade(model, clone_function=changed)
    models.copy_state(model, copy)
    return copy


def _dilated_pool(layer, dilation):
    sizes, steps = layer.pool_size, layer.strides
    # Windows that just cover their stride need as much padding as "same": there is one for every pixel now.
    padded_pool = layer.padding == "same" or tuple(sizes) == tuple(steps)
    before = [max(size - step, 0) // 2 * dilation for size, step in zip(sizes, steps)] if padded_pool else None
    return DilatedMaxPooling(sizes, dilation, before, name=layer.name)


def _strides(model):
    """dict of layer name -> (stride of its input, stride of its output), pixels of the image."""
    found = {}
    for layer in model.layers:
        before = max(
            (found[parent.operation.name][1] for node in layer._inbound_nodes[:1] for parent in node.parent_nodes),
            default=1,
        )
        step = getattr(layer, "strides", 1)
        step = step if isinstance(step, int) else step[0]
        found[layer.name] = (before, before * step)
    return found
