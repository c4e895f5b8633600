"""Layers that Keras lacks, and a constraint whose axes fit.

All of them take images as (batch, height, width, channels), run on every backend of Keras, and are saved and loaded
with a model.
"""

from utils.layers.attention import PositionEmbedding
from utils.layers.normalization import LocalResponseNormalization
from utils.layers.pooling import (
    DilatedMaxPooling,
    MaxPoolingWithIndices,
    MaxUnpooling,
    max_pool_with_indices,
    max_unpool,
)
from utils.layers.regularization import MaxNorm, StochasticDepth
from utils.layers.resizing import CropLike, Enlarge, PadToStride, Spread, cropped, padded

__all__ = [
    "CropLike",
    "DilatedMaxPooling",
    "Enlarge",
    "LocalResponseNormalization",
    "MaxNorm",
    "MaxPoolingWithIndices",
    "MaxUnpooling",
    "PadToStride",
    "PositionEmbedding",
    "Spread",
    "StochasticDepth",
    "cropped",
    "max_pool_with_indices",
    "max_unpool",
    "padded",
]
