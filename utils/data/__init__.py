"""Data for the notebooks: `load` for `tf.data`, `arrays` for NumPy, `names` and `describe` for what there is.

Everything heavy is imported when it is needed; TensorFlow only by `load` and by `arrays` of downloaded data.
"""

from utils.data import (  # noqa: F401  each file registers its data set
    bccd,
    cats_vs_dogs,
    cifar10,
    clothing,
    coco,
    digits,
    faces,
    fashion_mnist,
    glyphs,
    mnist,
    nuclei,
    oxford_iiit_pet,
    photos,
    skimage_photos,
    textures,
    tf_flowers,
    voc,
    voc_segmentation,
)
from utils.data.catalogue import describe, names
from utils.data.choosing import chosen
from utils.data.description import Description
from utils.data.errors import DataUnavailable
from utils.data.geometry import boxes_back, letterbox
from utils.data.loading import arrays, load
from utils.data.shapes import source  # noqa: F401  likewise

__all__ = ["DataUnavailable", "Description", "arrays", "boxes_back", "chosen", "describe", "letterbox", "load", "names"]
