"""Pretrained weights: small ones of our own, made by `python -m utils.pretrained.train` and shipped, and ImageNet's.

`load("glyphs")` is a backbone of those below, trained to read 52 printed letters, `load("shapes")` one trained to tell
six shapes; `describe` says how each was made. `imagenet` is `keras.applications` with the preprocessing inside the
model. All of them take images as they come, 0 to 255.
"""

import hashlib
import io
import json
import os
import re
import socket
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from utils.data.errors import DataUnavailable

FOLDER = Path(__file__).parent

# The networks that are trained here: filters of each 3x3 convolution, and how the map is halved, by a pooling of its
# own or by the stride of a convolution (filters, stride).
NETWORKS = {
    "pooled": (32, 32, "pool", 64, 64, "pool", 128, 128),
    "strided": ((24, 2), (48, 2), 48, (96, 2), 96, (128, 2), 128),
}


def backbone(
    input_shape=(None, None, 1),
    classes=None,
    include_top=False,
    momentum=0.9,
    dropout=0.0,
    network="pooled",
    name="backbone",
):
    """The untrained network whose trained weights `load` gives: for random features and for training from scratch.

    3x3 convolutions without bias, each with batch normalisation and ReLU (Simonyan and Zisserman 2015 in small). The
    layers are called conv1, conv1_bn, conv1_relu, conv2, ... in order; a pooling has the number of the convolution
    before it.

    "pooled", for small pictures: 32-32, 64-64, 128-128, max-pooling 2x2 between the pairs (pool2, pool4); 286,880
    trainable parameters and 896 running statistics on grey images; the last map has a quarter of the image's height and
    width.

    "strided", for detection on two cores: 24, 48-48, 96-96, 128-128, the first of each group with stride 2, so that the
    finest map already has half the image's size; 415,352 trainable parameters and 1,136 running statistics on colour
    images; maps of strides 2, 4, 8 and 16 (conv1, conv3, conv5, conv7).

    Args:
        input_shape: (height, width, channels); None for any size of at least 4 (16 if strided).
        classes: number of classes of the top.
        include_top: whether global average pooling, dropout and a dense layer "logits" follow, which give logits (B,
            classes).
        momentum: of batch normalisation's running statistics. Keras's default, .99, needs several hundred steps to
            settle.
        dropout: rate, before the dense layer.
        network: a key of `NETWORKS`.
        name: of the model.

    Returns:
        keras.Model on (B, H, W, channels), uint8 or float, 0 to 255; gives the last map, (B, H / 4, W / 4, 128) or
        (B, H / 16, W / 16, 128), or logits.

    Raises:
        ValueError: `include_top` without `classes`, or `classes` without `include_top`; an unknown network.
    """
    if include_top != (classes is not None):
        raise ValueError("include_top=True and classes=N go together")
    if network not in NETWORKS:
        raise ValueError(f"no network {network!r} (known: {', '.join(NETWORKS)})")
    inputs = layers.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    number = 0
    for step in NETWORKS[network]:
        if step == "pool":
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
            continue
        number += 1
        filters, stride = step if isinstance(step, tuple) else (step, 1)
        x = layers.Conv2D(
            filters, 3, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"conv{number}"
        )(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"conv{number}_bn")(x)
        x = layers.ReLU(name=f"conv{number}_relu")(x)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dropout(dropout, name="dropout")(x)
        x = layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, x, name=name)


def names():
    """Names of the shipped weights, as a list."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def describe(name):
    """How shipped weights were made and how good they are.

    Args:
        name: one of `names()`.

    Returns:
        dict with network (key of `NETWORKS`), sha256 (of the file), command, seed, score (dict: held-out accuracy, on
        how many images, chance), classes (list), parameters, bytes, training (dict), versions (dict).

    Raises:
        ValueError: there are no such weights.
    """
    if name not in names():
        raise ValueError(f"no pretrained weights {name!r}; there are: {', '.join(names())}")
    return json.loads((FOLDER / f"{name}.json").read_text())


def load(name, include_top=False, input_shape=None):
    """The backbone with its pretrained weights.

    Args:
        name: one of `names()`.
        include_top: whether to keep the top that it was trained with, which gives logits (B, classes).
        input_shape: as in `backbone`; the channels must be those of the training. None: images of any size.

    Returns:
        keras.Model on images (B, H, W, channels), 0 to 255; gives the last feature map as `backbone` does, or logits.

    Raises:
        ValueError: there are no such weights, they are for another number of channels, or the file differs from the one
            that its card describes.
    """
    card = describe(name)
    path = FOLDER / f"{name}.npz"
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise ValueError(
            f"{path} is not the file that {name}.json describes (SHA-256 differs): install the course again"
        )
    weights = np.load(io.BytesIO(content))
    channels = weights["conv1/kernel"].shape[2]
    input_shape = (None, None, channels) if input_shape is None else tuple(input_shape)
    if input_shape[-1] != channels:
        raise ValueError(f"{name} takes images of {channels} channels, not {input_shape[-1]}")
    classes = len(card["classes"]) if include_top else None
    model = backbone(input_shape, classes, include_top, network=card["network"], name=name)
    for variable in model.weights:
        variable.assign(weights[variable.path.removeprefix(f"{name}/")].astype("float32"))
    return model


# ImageNet

# What each family of keras.applications wants: -1 to 1 ("tf"), centred BGR ("caffe"), ImageNet's mean and deviation
# ("torch"), or pixels as they are, because the model rescales them itself (None).
_PREPROCESSING = {
    "ConvNeXt": None,
    "DenseNet": "torch",
    "EfficientNetV2": None,
    "EfficientNet": None,
    "InceptionResNetV2": "tf",
    "InceptionV3": "tf",
    "MobileNetV2": "tf",
    "MobileNetV3": None,
    "MobileNet": "tf",
    "NASNet": "tf",
    "ResNet50V2": "tf",
    "ResNet101V2": "tf",
    "ResNet152V2": "tf",
    "ResNet": "caffe",
    "VGG": "caffe",
    "Xception": "tf",
}


def imagenet(name="MobileNetV2", include_top=False, weights="imagenet", **options):
    """A network of `keras.applications` that takes photographs as they are: the preprocessing is inside the model.

    The layers keep their names and lie flat in the model, so that `transfer.freeze(model, up_to="block_13_project_BN")`
    finds them.

    Args:
        name: class in `keras.applications`, such as "MobileNetV2", "ResNet50", "VGG16".
        include_top: whether to keep the classifier, which gives probabilities (B, 1000).
        weights: "imagenet" or None (untrained).
        **options: further arguments of that class. Leave `input_shape` out with include_top=False: any size of image
            goes through, and one file of weights serves them all.

    Returns:
        keras.Model on RGB images (B, H, W, 3), uint8 or float, 0 to 255.

    Raises:
        ValueError: `keras.applications` has no such network.
        DataUnavailable: the weights are neither in Keras's folder (KERAS_HOME, else ~/.keras) nor to be had from the
            network.
    """
    family = _family(name)
    build = getattr(keras.applications, name, None)
    if family is None or not isinstance(build, type(keras.applications.MobileNetV2)):
        raise ValueError(f"keras.applications has no network {name!r} that is known here")
    shape = options.pop("input_shape", None) or ((224, 224, 3) if include_top else (None, None, 3))
    if include_top and name in ("InceptionV3", "InceptionResNetV2", "Xception") and "input_shape" not in options:
        shape = (299, 299, 3)
    inputs = layers.Input(shape, name="image")
    pixels = _preprocess(inputs, _PREPROCESSING[family])
    seconds = socket.getdefaulttimeout()
    socket.setdefaulttimeout(
        seconds or 20
    )  # a network that swallows packets would otherwise hold the notebook for minutes
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")
            model = build(include_top=include_top, weights=weights, input_tensor=pixels, **options)
        # keras.applications holds the input in a list, and Keras would warn at every call with an array.
        return keras.Model(inputs, model.output, name=model.name)
    except Exception as error:
        # keras.utils.get_file raises a plain Exception with this text.
        failure = re.search(r"URL fetch failure on (\S+?): ", str(error))
        if failure is None:
            raise
        raise DataUnavailable(_unavailable(name, failure[1])) from None
    finally:
        socket.setdefaulttimeout(seconds)


def _unavailable(name, address):
    home = Path(os.environ.get("KERAS_HOME", "~/.keras"))
    return (
        f"ImageNet weights of {name}: no network, and no {home / 'models' / address.rsplit('/', 1)[-1]}. Put the file "
        "there "
        f"(from {address}), or set KERAS_HOME to a folder that holds models/; without it, "
        'utils.pretrained.load("glyphs") serves as the pretrained network.'
    )


def preprocess(pixels, name):
    """Pixels from 0 to 255 as the ImageNet weights of a network of `keras.applications` want them, by layers of the
    model.

    Args:
        pixels: (B, H, W, 3) tensor, RGB.
        name: class in `keras.applications`. Where the class has a preprocessing of its own inside, nothing is done.

    Returns:
        Tensor of the same shape.
    """
    return _preprocess(pixels, _PREPROCESSING[_family(name)])


def _family(name):
    return max((key for key in _PREPROCESSING if name.startswith(key)), key=len, default=None)


def _preprocess(pixels, kind):
    if kind == "tf":
        return layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(pixels)
    if kind == "torch":
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        scale, offset = 1 / (255 * deviation), -mean / deviation
        return layers.Rescaling(scale.tolist(), offset=offset.tolist(), name="rescaling")(pixels)
    if kind == "caffe":
        return layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68], name="centring")(ops.flip(pixels, axis=-1))
    return pixels
