"""Handwritten digits that scikit-learn carries."""

import numpy as np

from utils.data.catalogue import register
from utils.data.description import Description
from utils.data.sources import InMemory, stratified


@register("digits")
def digits():
    """Handwritten digits of scikit-learn: 8 x 8 grey, 0 is paper and 255 is ink."""
    description = Description(
        name="digits",
        title="Handwritten digits",
        classes=tuple("0123456789"),
        splits={"train": 1000, "validation": 300, "test": 497},
        image_shape=(8, 8, 1),
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning "
        "Repository, 1998",
        source="sklearn.datasets.load_digits",
        note="Each class gives 100 images to train, 30 to validation and the rest (44 to 53) to test. Thirteen people "
        "wrote all of it and "
        "nobody recorded who wrote what, so a score on test says nothing about a hand that was not seen in training.",
    )
    return InMemory(description, _splits)


def _splits():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int32)
    parts = stratified(labels, {"train": 100, "validation": 30, "test": None}, seed=0)
    return {split: (images[positions], labels[positions]) for split, positions in parts.items()}
