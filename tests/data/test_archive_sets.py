"""Blood cells, nuclei, photographs and VOC's masks: from small archives laid out as the real ones, and from the real
ones where COURSE_DATA has them.
"""

import dataclasses
import hashlib
import importlib
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from utils import data
from utils.data import archives, bccd, builders, nuclei, photos, voc_segmentation

FOLDERS = {"train": "train", "validation": "val", "test": "test"}


def encoded(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes an archive of a dict from name to bytes and puts it where COURSE_DATA points; the cache is empty."""

    def make(name, module, files, splits):
        file = io.BytesIO()
        if archives.ARCHIVES[name].file.endswith(".tar"):
            with tarfile.open(fileobj=file, mode="w") as archive:
                for path, content in files.items():
                    member = tarfile.TarInfo(path)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        else:
            with zipfile.ZipFile(file, "w") as archive:
                for path, content in files.items():
                    archive.writestr(path, content)
        content = file.getvalue()
        entry = dataclasses.replace(
            archives.ARCHIVES[name], bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
        )
        monkeypatch.setitem(archives.ARCHIVES, name, entry)
        monkeypatch.setattr(module, "SPLITS", splits)
        monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("COURSE_DATA", str(tmp_path))
        (tmp_path / entry.file).write_bytes(content)

    return make


def examples(name, split):
    return list(data.load(name, split).as_numpy_iterator())


def test_blood_cells_by_hand(install):
    files = {}
    for folder in FOLDERS.values():
        table = {
            "categories": [{"id": 1, "name": "RBC"}, {"id": 2, "name": "WBC"}, {"id": 3, "name": "Platelets"}],
            "images": [{"id": 5, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
            "annotations": [
                {"image_id": 5, "category_id": 3, "bbox": [10.5, 20, 30, 40.5]},
                {"image_id": 5, "category_id": 1, "bbox": [300, 200, 20, 40]},
            ],
        }
        files[f"bccd/annotations/{folder}.json"] = json.dumps(table)
        for name, shade in (("a", 50), ("b", 200)):
            files[f"bccd/images/{folder}/{name}.jpg"] = encoded(np.full(bccd.SHAPE, shade, np.uint8), "JPEG")
    install("bccd", bccd, files, {"train": 2, "validation": 2, "test": 2})
    for split in FOLDERS:
        found = {int(example["image"].mean()): example for example in examples("bccd", split)}
        assert sorted(found) == [50, 200] and found[50]["image"].shape == bccd.SHAPE
        np.testing.assert_array_equal(found[50]["boxes"][:2], [[10.5, 20, 40.5, 60.5], [300, 200, 320, 240]])
        assert found[50]["labels"][:2].tolist() == [2, 0]  # in the order of CLASSES: Platelets, RBC
        for example, count in ((found[50], 2), (found[200], 0)):
            assert example["boxes"].shape == (bccd.MOST, 4) and example["boxes"].dtype == np.float32
            assert example["labels"].dtype == np.int32 and (example["labels"][count:] == -1).all()
            assert not example["boxes"][count:].any()
    images, truth = data.arrays("bccd", "train", target="boxes")
    assert images.shape == (2, *bccd.SHAPE) and sorted((truth["labels"] >= 0).sum(axis=1)) == [0, 2]


def test_nuclei_by_hand(install):
    instances = np.zeros((256, 256), np.uint16)
    instances[10:20, 30:60] = 2
    instances[15:25, 50:70] = 1  # over the second, as the archive's maps decide
    instances[255, 255] = 300
    instances = np.searchsorted(np.unique(instances), instances).astype(np.uint16)
    files = {}
    for folder in FOLDERS.values():
        files[f"nuclei/images/{folder}/x.png"] = encoded(np.full(nuclei.SHAPE, 7, np.uint8))
        files[f"nuclei/masks/{folder}/x.png"] = encoded(instances)
    install("nuclei", nuclei, files, {"train": 1, "validation": 1, "test": 1})
    (example,) = examples("nuclei", "validation")
    np.testing.assert_array_equal(
        example["boxes"][:4], [[50, 15, 70, 25], [30, 10, 60, 20], [255, 255, 256, 256], [0, 0, 0, 0]]
    )
    assert example["labels"][:4].tolist() == [0, 0, 0, -1]
    assert example["masks"].shape == (nuclei.MOST, 256, 256)
    for row in range(3):
        np.testing.assert_array_equal(example["masks"][row], instances == row + 1)
    np.testing.assert_array_equal(example["mask"], instances > 0)
    assert data.describe("nuclei").mask_classes == ("background", "nucleus")
    masks = data.arrays("nuclei", "test", target="mask")[1]
    np.testing.assert_array_equal(masks, (instances > 0)[None])


def test_a_number_above_255_is_one_nucleus(tmp_path):
    instances = np.arange(1, 301, dtype=np.uint16).repeat(4).reshape(1, -1)
    boxes = nuclei.boxes_of(instances)
    assert boxes.shape == (300, 4) and boxes[299].tolist() == [1196, 0, 1200, 1]
    assert nuclei.boxes_of(np.zeros((3, 3), np.uint16)).shape == (0, 4)


def test_photographs_by_hand(install):
    shows = [{"file": f"{name}.jpg", "shows": f"this is {name}"} for name in photos.CLASSES]
    files = {"photos/photos.json": json.dumps(shows)}
    for number, name in enumerate(photos.CLASSES):
        files[f"photos/{name}.jpg"] = encoded(np.full((20 + number, 30, 3), 20 * number, np.uint8), "JPEG")
    install("photos", photos, files, photos.SPLITS)
    found = examples("photos", "test")
    assert [example["label"] for example in found] == list(range(9))  # in the order of the classes
    assert [example["caption"].decode() for example in found] == [f"this is {name}" for name in photos.CLASSES]
    assert [example["image"].shape for example in found] == [(20 + number, 30, 3) for number in range(9)]
    images, labels = data.arrays("photos", "test", image_size=16)
    assert images.shape == (9, 16, 16, 3) and labels.tolist() == list(range(9))


def with_palette(mask):
    """A PNG whose pixels are numbers of a palette, as VOC's masks are."""
    picture = Image.fromarray(mask, "P")
    picture.putpalette([number * 7 % 256 for number in range(768)])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_voc_masks_by_hand(install):
    names = {"train": [f"2007_{number:06}" for number in range(20)], "val": ["2008_000001", "2008_000007"]}
    files = {}
    for part, listed in names.items():
        files[f"VOCdevkit/VOC2012/ImageSets/Segmentation/{part}.txt"] = ("\n".join(listed) + "\n").encode()
        for number, name in enumerate(listed):
            mask = np.zeros((6, 8 + number), np.uint8)
            mask[1:3, 2:5], mask[3, 2:5] = number + 1, 255
            files[f"VOCdevkit/VOC2012/SegmentationClass/{name}.png"] = with_palette(mask)
            files[f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg"] = encoded(np.full((*mask.shape, 3), 99, np.uint8), "JPEG")
    without_mask = encoded(np.zeros((5, 5, 3), np.uint8), "JPEG")
    files["VOCdevkit/VOC2012/JPEGImages/2007_999999.jpg"] = without_mask
    install("voc_segmentation", voc_segmentation, files, {"train": 18, "validation": 2, "test": 2})
    found = {split: {int(e["mask"][1, 2]): e for e in examples("voc_segmentation", split)} for split in FOLDERS}
    assert sorted(found["validation"]) == [10, 20]  # every tenth of the challenge's train
    assert sorted([*found["train"], *found["validation"]]) == list(range(1, 21)) and sorted(found["test"]) == [1, 2]
    example = found["train"][19]
    assert example["image"].shape == (6, 26, 3) and example["mask"].shape == (6, 26)
    expected = np.zeros((6, 26), np.uint8)
    expected[1:3, 2:5], expected[3, 2:5] = 19, 255
    np.testing.assert_array_equal(example["mask"], expected)
    images, masks = data.arrays("voc_segmentation", "test", 16, target="mask")
    assert images.shape == (2, 16, 16, 3) and set(np.unique(masks)) == {0, 1, 2, 255}  # 255 beside the image as well


def test_voc_masks_and_boxes_name_the_same_classes():
    described = data.describe("voc_segmentation")
    assert described.classes == data.describe("voc/2012").classes and len(described.classes) == 20
    assert described.mask_classes == ("background", *described.classes)
    assert sum(described.splits.values()) == 2913  # the challenge: 1,464 train, 1,449 val
    with pytest.raises(ValueError, match="mask"):
        data.arrays("voc/2012", "train", 64, target="mask")
    assert "voc_segmentation" in data.describe("voc/2012").note


@pytest.mark.parametrize("name", ["bccd", "nuclei", "photos", "voc_segmentation"])
def test_no_network_and_no_copy(name, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    nobody = "http://127.0.0.1:9"  # the port "discard": nobody listens
    monkeypatch.setattr(archives, "RELEASE", nobody)
    if archives.ARCHIVES[name].host:
        monkeypatch.setitem(archives.ARCHIVES, name, dataclasses.replace(archives.ARCHIVES[name], host=nobody))
    with pytest.raises(data.DataUnavailable) as error:
        data.load(name, "test")
    text = str(error.value)
    assert f"{archives.ARCHIVES[name].file} could not be downloaded from {nobody}/" in text
    assert "COURSE_DATA" in text and "\n" not in text
    assert f"use the data set {archives.ARCHIVES[name].instead!r} instead" in text
    assert archives.ARCHIVES[name].instead in data.names()


@pytest.mark.parametrize("name", ["bccd", "nuclei", "photos", "clothing", "voc_segmentation"])
def test_builders_and_descriptions(name):
    recipe = importlib.import_module(f"utils.data.{name}").RECIPE
    builder = builders.builder_class(recipe)
    assert issubclass(builder, tfds.core.GeneratorBasedBuilder) and builder.name == name
    description = data.describe(name)
    archive = archives.ARCHIVES[name]
    assert description.licence == archive.licence and description.citation == archive.citation
    assert archive.file in description.source and archive.url in description.source


GIVEN = Path(os.environ["COURSE_DATA"]) if os.environ.get("COURSE_DATA") else None
FOUND = GIVEN is not None and all((GIVEN / f"{name}.zip").is_file() for name in ("bccd", "nuclei", "photos"))
real = pytest.mark.skipif(not FOUND, reason="the archives are not here: COURSE_DATA names no folder that holds them")


@real
def test_the_real_archives(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(GIVEN))
    counts = {
        "train": (2381, 214, 209),
        "validation": (967, 87, 83),
        "test": (805, 71, 69),
    }  # from the archive's README
    most = 0
    for split, expected in counts.items():
        _, truth = data.arrays("bccd", split, target="boxes")
        real = truth["labels"] >= 0
        assert np.bincount(truth["labels"][real]).tolist() == list(expected)
        boxes = truth["boxes"][real]
        assert (boxes >= 0).all() and (boxes <= [320, 240, 320, 240]).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        most = max(most, real.sum(axis=1).max())
    assert most == bccd.MOST == data.describe("bccd").max_objects
    most = 0
    for split, expected in {"train": 2917, "validation": 509, "test": 845}.items():
        total = 0
        for example in data.load("nuclei", split).as_numpy_iterator():
            count = (example["labels"] >= 0).sum()
            total, most = total + count, max(most, count)
            masks = example["masks"][:count]
            assert (masks.sum(axis=0) == example["mask"]).all()  # no pixel belongs to two
            rows, columns = masks.any(axis=2), masks.any(axis=1)
            ends = np.stack(
                [columns.argmax(1), rows.argmax(1), 256 - columns[:, ::-1].argmax(1), 256 - rows[:, ::-1].argmax(1)], 1
            )
            np.testing.assert_array_equal(example["boxes"][:count], ends)
        assert total == expected
    assert most == nuclei.MOST
    captions = data.arrays("photos", "test", image_size=32, target="caption")[1]
    assert captions[0] == "tabby cat on a red rug" and len(set(captions)) == 9
