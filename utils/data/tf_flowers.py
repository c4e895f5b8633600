"""Photographs of flowers."""

from utils.data.catalogue import register
from utils.data.public import Labelled, Public, described


@register("tf_flowers")
def tf_flowers():
    """Photographs of flowers."""
    public = Public(
        "tf_flowers",
        None,
        counts={"train": 3670},
        parts={"train": ("train", 0, 2570), "validation": ("train", 2570, 3120), "test": ("train", 3120, 3670)},
        instead="shapes_crops",
    )
    description = described(
        public,
        ".2 GB",
        title="Photographs of flowers",
        classes=("dandelion", "daisy", "tulips", "sunflowers", "roses"),
        licence="CC BY 2.0, by many photographers, named in the archive",
        citation="The TensorFlow Team, Flowers, 2019",
        note="Split here, 70 / 15 / 15 %: it comes in one piece.",
    )
    return Labelled(public, description)
