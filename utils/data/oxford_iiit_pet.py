"""Photographs of cats and dogs by breed, with a mask."""

from utils.data.catalogue import register
from utils.data.public import Labelled, Public, described, names

BREEDS = names(
    "Abyssinian american_bulldog american_pit_bull_terrier basset_hound beagle Bengal Birman Bombay boxer "
    "British_Shorthair chihuahua "
    "Egyptian_Mau english_cocker_spaniel english_setter german_shorthaired great_pyrenees havanese japanese_chin "
    "keeshond leonberger "
    "Maine_Coon miniature_pinscher newfoundland Persian pomeranian pug Ragdoll Russian_Blue saint_bernard samoyed "
    "scottish_terrier "
    "shiba_inu Siamese Sphynx staffordshire_bull_terrier wheaten_terrier yorkshire_terrier"
)


class Pets(Labelled):
    """The trimap says pet, background or border; the border, where people could not tell, is ignored."""

    pictures = ("image", "segmentation_mask")

    def decode(self, record):
        import tensorflow as tf

        trimap = self.picture(record, "segmentation_mask")[..., 0]
        return {
            "image": self.picture(record),
            "label": tf.cast(record["label"], tf.int32),
            "mask": tf.gather(tf.constant([255, 1, 0, 255], tf.uint8), tf.minimum(tf.cast(trimap, tf.int32), 3)),
        }


@register("oxford_iiit_pet")
def oxford_iiit_pet():
    """Photographs of cats and dogs by breed, with a mask."""
    public = Public(
        "oxford_iiit_pet",
        None,
        counts={"train": 3680, "test": 3669},
        parts={"train": ("train", 0, 3128), "validation": ("train", 3128, 3680), "test": ("test", 0, 3669)},
        instead="shapes",
    )
    description = described(
        public,
        ".8 GB",
        title="Cats and dogs of 37 breeds, with a mask of the animal",
        classes=BREEDS,
        licence="CC BY-SA 4.0",
        citation="O. Parkhi, A. Vedaldi, A. Zisserman, C. Jawahar, Cats and Dogs, CVPR 2012",
        note="The mask has two classes whatever the breed: 1 is the animal, 0 the background; the border between them, "
        "which the authors' trimap "
        "marks as such, is ignored (255). Validation is the last 15 % of the authors' training images.",
        targets=("label", "mask"),
        mask_classes=("background", "pet"),
    )
    return Pets(public, description)
