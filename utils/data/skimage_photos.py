"""The photographs that scikit-image carries."""

import numpy as np

from utils.data.catalogue import register
from utils.data.description import Description
from utils.data.sources import OneByOne

PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass"),
    *("gravel", "hubble_deep_field", "immunohistochemistry", "microaneurysms", "moon"),
    *("page", "retina", "rocket", "text"),
)


@register("skimage_photos")
def skimage_photos():
    """The photographs that scikit-image carries, each a class of its own: RGB, of different sizes."""
    description = Description(
        name="skimage_photos",
        title="Eighteen photographs to try things on",
        classes=PHOTOGRAPHS,
        splits={"all": len(PHOTOGRAPHS)},
        image_shape=(None, None, 3),
        licence="CC0 1.0 or public domain, or without known copyright restrictions: see each function's page in "
        "scikit-image",
        citation="S. van der Walt et al., scikit-image: image processing in Python, PeerJ 2:e453, 2014",
        source="skimage.data",
        note="The label is the number of the photograph. The sides are 102 to 1,411 pixels. Eleven are grey and come "
        "with three equal channels.",
    )
    return OneByOne(description, ("label",), _photograph, lambda split: np.arange(len(PHOTOGRAPHS), dtype=np.int32))


def _photograph(split, index):
    import skimage.data

    image = getattr(skimage.data, PHOTOGRAPHS[index])()
    image = np.stack([image] * 3, axis=-1) if image.ndim == 2 else image
    return {"image": image, "label": np.int32(index)}
