"""Faces and other pieces of press photographs that scikit-image carries."""

import numpy as np

from utils.data.catalogue import register
from utils.data.description import Description
from utils.data.sources import InMemory, stratified


@register("faces")
def faces():
    """Faces and other pieces of press photographs, from scikit-image: 25 x 25 grey."""
    description = Description(
        name="faces",
        title="Faces and other pieces of press photographs",
        classes=("face", "other"),
        splits={"train": 120, "validation": 40, "test": 40},
        image_shape=(25, 25, 1),
        licence="not stated (press photographs of Labeled Faces in the Wild, carried by scikit-image)",
        citation="G. Huang, M. Mattar, H. Lee, E. Learned-Miller, Learning to Align from Scratch, NIPS 2012; "
        "lfw_subset of scikit-image",
        source="skimage.data.lfw_subset",
        note="100 of each class, 60 / 20 / 20. Cropped by a machine: six in ten of the others have more than a tenth "
        "of their pixels black, "
        "where the crop went over the edge, and no face has. A high score is easier than it looks. Some of the others "
        "show part of a face.",
    )
    return InMemory(description, _splits)


def _splits():
    from skimage.data import lfw_subset

    images = np.rint(lfw_subset() * 255).astype(np.uint8)[..., None]
    labels = np.repeat(np.arange(2, dtype=np.int32), 100)
    parts = stratified(labels, {"train": 60, "validation": 20, "test": None}, seed=0)
    return {split: (images[positions], labels[positions]) for split, positions in parts.items()}
