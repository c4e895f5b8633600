"""Nine photographs to try a model on: each is a class of its own."""

import json
import zipfile

from utils.data import archives
from utils.data.catalogue import register
from utils.data.prepared import Prepared, Recipe, from_archive

VERSION = "1.0.0"
CLASSES = (
    "cat",
    "two_dogs",
    "bird",
    "parrot",
    "dragonfly",
    "sunflower",
    "hot_dog",
    "couple_in_snow",
    "traffic",
)
SPLITS = {"test": 9}  # to try a model on, not to train one


def photographs(path):
    """The photographs in the archive, in the order of the classes.

    Args:
        path: of the archive, which holds `photos/<class>.jpg` and `photos/photos.json`.

    Yields:
        (class, bytes of a JPEG, what it shows in words).
    """
    with zipfile.ZipFile(path) as archive:
        shows = {entry["file"]: entry["shows"] for entry in json.loads(archive.read("photos/photos.json"))}
        for name in CLASSES:
            yield name, archive.read(f"photos/{name}.jpg"), shows[f"{name}.jpg"]


def features(tfds):
    """The features of an example, as TensorFlow Datasets keeps it."""
    return {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "caption": tfds.features.Text(),
    }


def examples(split):
    """(key, features) of each photograph."""
    for index, (name, image, words) in enumerate(photographs(archives.locate("photos"))):
        yield index, {"image": image, "label": name, "caption": words}


RECIPE = Recipe(
    "photos", VERSION, __doc__, tuple(SPLITS), features, examples, archives.ARCHIVES["photos"].citation, in_order=True
)


@register("photos")
def photos():
    """Nine photographs, each a class of its own: long side at most 640, RGB."""
    description = from_archive(
        "photos",
        "a part of github.com/google-coral/test_data",
        title="Nine photographs to try a model on",
        classes=CLASSES,
        splits=SPLITS,
        image_shape=(None, None, 3),
        note="The label is the number of the photograph, the caption says what it shows. ImageNet has no class for "
        "sunflower, couple_in_snow and "
        "traffic.",
        targets=("label", "caption"),
    )
    return Prepared(description, RECIPE)
