"""Convolutional networks from LeNet to FractalNet, one file per family: a table of configurations, a block, a model.

`build("resnet50")` gives a functional Keras model with logits; `names()` lists all; `describe(name)` says what is known of one;
`features(model, [3, 4, 5])` gives the last feature map of the strides 8, 16 and 32.
"""

from utils.architectures import (  # noqa: F401  each puts its nets on the list
    alexnet,
    googlenet,
    lenet,
    resnet,
    resnet_cifar,
    vgg,
    zfnet,
)
from utils.architectures.registry import (
    Entry,
    application,
    build,
    copy_weights,
    describe,
    features,
    load_imagenet,
    names,
    register,
)

__all__ = [
    "Entry",
    "application",
    "build",
    "copy_weights",
    "describe",
    "features",
    "load_imagenet",
    "names",
    "register",
]
