"""Semantic segmentation: a class for every pixel.

The builders `fcn32`, `fcn16`, `fcn8`, `segnet`, `unet` and `deeplab` give a keras.Model from images as they come
(uint8, any size) to logits (B, H, W, classes). `losses` and `metrics` take label maps (B, H, W) with 255 where a pixel
does not count; `inference` predicts images of any size.
"""

from utils.segmentation import inference, losses, metrics
from utils.segmentation.deeplab import deeplab
from utils.segmentation.fcn import fcn8, fcn16, fcn32
from utils.segmentation.segnet import segnet
from utils.segmentation.unet import unet

__all__ = ["deeplab", "fcn8", "fcn16", "fcn32", "inference", "losses", "metrics", "segnet", "unet"]
