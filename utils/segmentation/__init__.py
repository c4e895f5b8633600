"""Semantic segmentation: a class for every pixel.

Builders give a keras.Model from images as they come (uint8, any size) to logits (B, H, W, classes): `unet`. `losses` and `metrics` take
label maps (B, H, W) with 255 where a pixel does not count.
"""

from utils.segmentation import losses, metrics
from utils.segmentation.unet import unet

__all__ = ["losses", "metrics", "unet"]
