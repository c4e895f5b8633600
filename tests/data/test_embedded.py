"""Digits, faces and textures are what the packages carry, and no picture is in two splits."""

import numpy as np
import pytest
import skimage.data
from sklearn.datasets import load_digits

from utils import data

SPLITS = ("train", "validation", "test")
EMBEDDED = ("digits", "faces", "textures", "textures/64")


@pytest.mark.parametrize("name", EMBEDDED)
def test_description_agrees_with_the_arrays(name):
    description = data.describe(name)
    assert tuple(description.splits) == SPLITS
    for split, count in description.splits.items():
        images, labels = data.arrays(name, split)
        assert images.shape == (count, *description.image_shape) and images.dtype == np.uint8
        assert labels.shape == (count,) and labels.dtype == np.int32
        assert set(labels) == set(range(len(description.classes)))


@pytest.mark.parametrize("name", ["digits", "faces", "textures"])
def test_splits_share_no_picture(name):
    seen = [{image.tobytes() for image in data.arrays(name, split)[0]} for split in SPLITS]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def rows(images, labels):
    return sorted((*image.reshape(-1).tolist(), int(label)) for image, label in zip(images, labels))


def test_digits_are_those_of_scikit_learn():
    bunch = load_digits()
    parts = [data.arrays("digits", split) for split in SPLITS]
    images, labels = (np.concatenate(part) for part in zip(*parts))
    assert images.min() == 0 and images.max() == 255
    sixteenths = np.rint(images * 16.0 / 255).astype(int)
    assert rows(sixteenths, labels) == rows(bunch.images.astype(int), bunch.target)
    assert np.abs(sixteenths * 255 / 16 - images).max() <= 0.5


def test_digits_are_split_class_by_class():
    totals = np.bincount(load_digits().target)
    counts = {split: np.bincount(data.arrays("digits", split)[1]) for split in SPLITS}
    assert (counts["train"] == 100).all() and (counts["validation"] == 30).all()
    assert (counts["test"] == totals - 130).all() and counts["test"].min() == 44 and counts["test"].max() == 53


def test_the_split_of_the_digits_is_fixed():
    """Weights and bands rest on it: it may change only on purpose."""
    assert data.arrays("digits", "train[:20]")[1].tolist() == [
        1,
        1,
        9,
        7,
        9,
        4,
        1,
        1,
        1,
        6,
        5,
        9,
        0,
        7,
        5,
        9,
        3,
        7,
        6,
        2,
    ]


def test_faces_are_the_first_hundred():
    carried = np.rint(skimage.data.lfw_subset() * 255).astype(np.uint8)
    faces, others = ({image.tobytes() for image in half} for half in (carried[:100], carried[100:]))
    for split in SPLITS:
        for image, label in zip(*data.arrays("faces", split)):
            assert image.tobytes() in (faces, others)[label]
            assert image.tobytes() not in (others, faces)[label]


def test_the_note_on_faces_tells_the_truth():
    black = [(image <= 2).mean() > 0.1 for image in np.rint(skimage.data.lfw_subset() * 255)]
    assert sum(black[:100]) == 0 and sum(black[100:]) == 60


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("split, columns", [("train", (0, 320)), ("validation", (320, 416)), ("test", (416, 512))])
def test_textures_are_crops_of_their_region(side, split, columns):
    name = "textures" if side == 32 else f"textures/{side}"
    images, labels = data.arrays(name, split)
    photographs = [skimage.data.brick(), skimage.data.grass(), skimage.data.gravel()]
    for image, label in list(zip(images[..., 0], labels))[:9]:
        region = photographs[label][:, columns[0] : columns[1]]
        windows = np.lib.stride_tricks.sliding_window_view(region, (side, side))
        row = (windows[:, :, 0] == image[0]).all(axis=-1)  # where the first row fits
        assert any((windows[y, x] == image).all() for y, x in np.argwhere(row))


def test_descriptions_print_well():
    for name in data.names():
        description = data.describe(name)
        text, page = str(description), description._repr_html_()
        assert description.name.split("/")[0] == name  # voc and coco say which year they are
        assert text.startswith(f"{description.name}: {description.title}\n")
        assert max(map(len, text.splitlines())) <= 120
        count = len(description.classes)
        told = f"{count} class{'es' if count > 1 else ''}"
        assert told in text and told in page
        assert (
            description.licence
            and description.citation
            and description.source
            and page.count("<tr>") == len(description.rows())
        )
        with pytest.raises(AttributeError):
            description.name = "other"


def test_html_is_escaped():
    description = data.Description("a<b", "t", ("<i>",), {"train": 1}, (1, 1, 1), "l", "c", "s")
    assert "<i>" not in description._repr_html_() and "a&lt;b" in description._repr_html_()
