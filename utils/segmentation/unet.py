"""U-Net: Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation" (MICCAI
2015), figure 1.

A path down that halves and widens, a path up that doubles and narrows, and at each step up the map of the same size
from the path down,
concatenated: what the deep maps know meets where it is. `unet(..., padding="valid")` is the paper's; the default is
what most use today: padded convolutions with batch normalisation, so that the answer is as large as the image. The path
down may be a pretrained backbone.
"""

import keras
from keras import layers

from utils.architectures.blocks import conv_bn_relu, conv_relu
from utils.backbones import backbone as build_backbone
from utils.layers import CropLike, Enlarge, cropped, padded

PAPER = (64, 128, 256, 512, 1024)


def unet(
    input_shape=(None, None, 3),
    classes=2,
    widths=None,
    padding="same",
    batch_norm=None,
    stem_stride=1,
    upsampling="transposed",
    dropout=0.0,
    backbone=None,
    levels=None,
    weights=None,
    name="unet",
    **options,
):
    """U-Net with a path down of its own or with a backbone.

    The stages are called down1, down2, ..., the deepest bottom, and up1 (the last, at the image's size), up2, ...

    Args:
        input_shape: (height, width, channels); height and width None for any size.
        classes: number of classes, background included.
        widths: filters of the stages from the top down, the deepest last. None: the paper's 64, 128, 256, 512, 1024;
            with a backbone, the widths of the path up, one fewer than levels: halved from 256 down, at least 16.
        padding: "same"; or "valid", the paper's: each convolution takes a pixel from every side, and the maps from the
            path down are cropped. An image of n pixels gives logits of `valid_size(n)`; n must be one that halves
            without a rest, see there.
        batch_norm: whether batch normalisation follows each convolution; None: for padding "same" (the paper, of 2015,
            has none).
        stem_stride: 1, or 2: a first convolution (stem) halves the image, and the logits are made twice as large,
            bilinearly: a quarter of the work. Padding "same" only.
        upsampling: "transposed", the paper's 2x2 transposed convolution; or "bilinear" or "nearest", then a 3x3
            convolution.
        dropout: rate at the bottom (the paper has dropout there, and does not say how much).
        backbone: None for a path down of its own; or what `utils.backbones.backbone` takes: "small", "glyphs",
            "MobileNetV2", "resnet18", a keras.Model, ... It becomes one layer of the model, "backbone":
            `model.get_layer("backbone").trainable = False` freezes it.
        levels: levels of the backbone whose maps are used, rising; None: all it has.
        weights, **options: of the backbone, see `utils.backbones.backbone`.
        name: of the model.

    Returns:
        keras.Model on images (B, H, W, C), uint8 or float, 0 to 255; gives logits (B, H, W, classes). Images whose size
        is not a multiple of the stride are padded inside, and the logits cropped.

    Raises:
        ValueError: an unknown option, fewer than two stages, or a size that does not fit padding "valid".
    """
    if padding not in ("same", "valid"):
        raise ValueError(f"padding is 'same' or 'valid', not {padding!r}")
    if upsampling not in ("transposed", "bilinear", "nearest"):
        raise ValueError(f"upsampling is 'transposed', 'bilinear' or 'nearest', not {upsampling!r}")
    if stem_stride not in (1, 2):
        raise ValueError(f"stem_stride is 1 or 2, not {stem_stride!r}")
    if padding == "valid" and (stem_stride == 2 or backbone is not None):
        raise ValueError("padding='valid' is the paper's form, without a backbone and with stem_stride=1")
    if options and backbone is None:
        raise ValueError(f"unknown option {next(iter(options))!r}: only a backbone takes further options")
    batch_norm = padding == "same" if batch_norm is None else batch_norm
    unit = conv_bn_relu if batch_norm else conv_relu
    image = layers.Input(input_shape, name="image")
    if backbone is None:
        widths = tuple(widths or PAPER)
        if len(widths) < 2:
            raise ValueError(f"a U-Net has two stages or more, not {len(widths)}")
        if padding == "valid":
            for n in input_shape[:2]:
                _ = n is None or valid_size(n, len(widths))
        stride = stem_stride * 2 ** (len(widths) - 1)
        x = padded(image, stride) if padding == "same" else image
        x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(x)
        if stem_stride == 2:
            x = unit(x, widths[0], 3, 2, name="stem")
        maps = down_path(x, widths, unit, padding)
        strides = [stem_stride * 2**stage for stage in range(len(widths))]
        widths = widths[:-1]
    else:
        # The channels of the levels must be known before the padding is, hence the backbone first.
        body = build_backbone(
            backbone,
            input_shape if None in input_shape[:2] else (None, None, input_shape[-1]),
            levels,
            weights,
            **options,
        )
        strides = [2**level for level in body.levels]
        maps = body(padded(image, strides[-1]))
        if len(maps) < 2 or strides != [strides[0] * 2**step for step in range(len(maps))]:
            raise ValueError(f"a U-Net takes two levels or more without a gap, not {body.levels}")
        widths = tuple(widths or (max(16, 256 >> step) for step in reversed(range(len(maps) - 1))))
        if len(widths) != len(maps) - 1:
            raise ValueError(f"{len(maps)} levels need {len(maps) - 1} widths, got {len(widths)}")
    x = maps[-1]
    if dropout:
        x = layers.Dropout(dropout, name="bottom_dropout")(x)
    x = up_path(x, maps[:-1], widths, unit, padding, upsampling)
    x = layers.Conv2D(classes, 1, name="logits")(x)
    if strides[0] > 1:
        x = Enlarge(strides[0], name="enlarge")(x)
    if padding == "same":
        x = cropped(x, image)
    return keras.Model(image, x, name=name)


def down_path(x, widths, unit, padding="same"):
    """The contracting path: two 3x3 convolutions a stage, 2x2 max-pooling between the stages.

    Args:
        x: (B, H, W, C) tensor.
        widths: filters of the stages.
        unit: function like `blocks.conv_bn_relu`.
        padding: "same" or "valid".

    Returns:
        list of the stages' maps, from the largest to the smallest.
    """
    maps = []
    for stage, width in enumerate(widths, 1):
        where = "bottom" if stage == len(widths) else f"down{stage}"
        if stage > 1:
            x = layers.MaxPooling2D(2, name=f"{where}_pool")(x)
        x = double_conv(x, width, where, unit, padding)
        maps.append(x)
    return maps


def up_path(x, maps, widths, unit, padding="same", upsampling="transposed"):
    """The expanding path: twice as large, half as wide, joined with the map of the path down, two 3x3 convolutions.

    Args:
        x: (B, h, w, C) tensor, the smallest map.
        maps: the maps to join, from the largest to the smallest.
        widths: filters of each.
        unit, padding: as in `down_path`.
        upsampling: "transposed", "bilinear" or "nearest".

    Returns:
        (B, H, W, widths[0]) tensor.
    """
    for stage in range(len(maps), 0, -1):
        where, width, skip = f"up{stage}", widths[stage - 1], maps[stage - 1]
        if upsampling == "transposed":
            x = layers.Conv2DTranspose(width, 2, 2, kernel_initializer="he_normal", name=f"{where}_upsample")(x)
        else:
            x = (Enlarge if upsampling == "bilinear" else layers.UpSampling2D)(2, name=f"{where}_upsample")(x)
            x = unit(x, width, 3, name=f"{where}_narrow")
        if padding == "valid":
            skip = CropLike(centred=True, name=f"{where}_crop")(skip, x)
        x = layers.Concatenate(name=f"{where}_join")([skip, x])
        x = double_conv(x, width, where, unit, padding)
    return x


def double_conv(x, width, name, unit=conv_bn_relu, padding="same"):
    """Two 3x3 convolutions, `{name}_conv1` and `{name}_conv2`."""
    for number in (1, 2):
        x = unit(x, width, 3, padding="valid" if padding == "valid" else None, name=f"{name}_conv{number}")
    return x


def valid_size(n, stages=5):
    """Side of the logits of the paper's U-Net for an image of side n: 572 gives 388.

    Args:
        n: pixels.
        stages: number of widths.

    Returns:
        int.

    Raises:
        ValueError: a stage is left with an odd number of pixels, or none; the message names the next larger side that
            fits.
    """
    size = _valid_size(n, stages)
    if size is None:
        fits = next(m for m in range(n + 1, n + 2**stages * 8) if _valid_size(m, stages))
        raise ValueError(f"with padding='valid' and {stages} stages, {n} pixels do not halve without a rest: {fits} do")
    return size


def _valid_size(n, stages):
    for _ in range(stages - 1):
        n -= 4
        if n <= 0 or n % 2:
            return None
        n //= 2
    for _ in range(stages - 1):
        n = 2 * (n - 4)
    return n - 4 if n > 4 else None
