"""Photographs of cats and dogs."""

from utils.data.catalogue import register
from utils.data.public import Labelled, Public, described


@register("cats_vs_dogs")
def cats_vs_dogs():
    """Photographs of cats and dogs."""
    public = Public(
        "cats_vs_dogs",
        None,
        counts={"train": 23262},
        parts={"train": ("train", 0, 18610), "validation": ("train", 18610, 20936), "test": ("train", 20936, 23262)},
        instead="shapes_crops",
    )
    description = described(
        public,
        ".8 GB",
        title="Photographs of cats and dogs",
        classes=("cat", "dog"),
        licence="not stated (Microsoft Research and Petfinder)",
        citation="J. Elson et al., Asirra: A CAPTCHA that Exploits Interest-Aligned Manual Image Categorization, CCS "
        "2007",
        note="Split here, 80 / 10 / 10 %: it comes in one piece.",
    )
    return Labelled(public, description)
