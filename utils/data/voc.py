"""Pascal VOC: photographs with boxes."""

from utils.data.catalogue import register
from utils.data.public import Boxed, Public, described
from utils.data.voc_segmentation import CLASSES

NOTE = (
    "It has boxes; masks are in voc_segmentation. Objects that VOC marks as difficult are `ignored`: VOC's own "
    "evaluation counts them neither as "
    "found nor as missed. VOC counts pixels from 1; "
    "here a box begins at the edge of its first pixel. "
)


@register("voc")
def voc(year="2007"):
    """Pascal VOC: photographs with boxes."""
    public = {
        "2007": Public(
            "voc",
            "2007",
            counts={"train": 2501, "validation": 2510, "test": 4952},
            parts={"train": ("train", 0, 2501), "validation": ("validation", 0, 2510), "test": ("test", 0, 4952)},
            instead="shapes",
        ),
        "2012": Public(
            "voc",
            "2012",
            counts={"train": 5717, "validation": 5823},
            parts={"train": ("train", 0, 5145), "validation": ("train", 5145, 5717), "test": ("validation", 0, 5823)},
            instead="shapes",
        ),
    }[year]
    description = described(
        public,
        {"2007": ".9 GB", "2012": "3.6 GB"}[year],
        title=f"Pascal VOC {year}: photographs with boxes",
        classes=CLASSES,
        licence="Flickr's terms of use",
        citation=f"M. Everingham et al., The PASCAL Visual Object Classes Challenge {year}",
        note=NOTE
        + {
            "2007": "Split as the challenge did.",
            "2012": "Nobody has the truth of the challenge's test images: test is its validation split, validation the "
            "last tenth of its train.",
        }[year],
        targets=("boxes", "labels", "ignored"),
        max_objects=100,
        variants=("voc/2007", "voc/2012"),
    )
    return Boxed(public, description, flag="is_difficult", first=1)
