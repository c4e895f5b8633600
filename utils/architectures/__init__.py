"""Convolutional networks from LeNet to FractalNet, one file per family: a table of configurations, a block, a model.

`build("resnet50")` gives a functional Keras model with logits; `names()` lists all; `describe(name)` says what is known
of one.
"""

from utils.architectures import (  # noqa: F401  each puts its nets on the list
    alexnet,
    darknet,
    densenet,
    fractalnet,
    googlenet,
    inception_resnet,
    lenet,
    mobilenet,
    mobilenet_v2,
    mobilenet_v3,
    pyramidnet,
    resnet,
    resnet_cifar,
    resnext,
    senet,
    shufflenet,
    squeezenet,
    vgg,
    wide_resnet,
    xception,
    zfnet,
)
from utils.architectures.registry import (
    Architecture,
    application,
    build,
    copy_weights,
    describe,
    load_imagenet,
    names,
    outline,
    register,
)

__all__ = [
    "Architecture",
    "application",
    "build",
    "copy_weights",
    "describe",
    "load_imagenet",
    "names",
    "outline",
    "register",
]
