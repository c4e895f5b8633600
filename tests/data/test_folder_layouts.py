"""Folders with masks and boxes: each layout made on the spot, good and broken."""

import json

import numpy as np
import pytest
from PIL import Image

from utils import data
from utils.data.folders import common, pairs

SIZE = (10, 12)  # height, width
SPOTS = {"a": (0, 0, 3, 2), "b": (4, 5, 12, 10), "c": (2, 1, 6, 9), "d": (1, 1, 2, 3)}  # xyxy


def picture(path, size=SIZE, shade=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(path)
    return path


def mask(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8), mode).save(path)
    return path


def spot(name, value, ground=0):
    x1, y1, x2, y2 = SPOTS[name]
    values = np.full(SIZE, ground, np.uint8)
    values[y1:y2, x1:x2] = value
    return values


def refused(path):
    """The one line that a folder is refused with."""
    with pytest.raises(ValueError) as error:
        data.describe(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def everything(path, on_error="raise"):
    """{shade of the image: its example} over all splits."""
    found = {}
    for split, count in data.describe(path, on_error).splits.items():
        if count:
            for example in data.load(path, split, on_error=on_error).as_numpy_iterator():
                found[int(example["image"][0, 0, 0])] = example
    return found


@pytest.fixture
def masked(tmp_path):
    """Four pictures with masks of 0 and 255."""
    for number, name in enumerate(SPOTS):
        picture(tmp_path / "images" / f"{name}.png", shade=10 * number)
        mask(tmp_path / "masks" / f"{name}{'_mask' if number % 2 else ''}.png", spot(name, 255))
    return tmp_path


def test_masks_of_black_and_white(masked):
    description = data.describe(masked)
    assert description.targets == ("mask",) and description.mask_classes == ("background", "object")
    assert description.classes == ("object",) and description.splits == {"train": 2, "validation": 1, "test": 1}
    assert "255 object" in description.note
    found = everything(masked)
    for number, name in enumerate(SPOTS):
        np.testing.assert_array_equal(found[10 * number]["mask"], spot(name, 1))
    images, masks = data.arrays(masked, "train", target="mask")
    assert images.shape == (2, *SIZE, 3) and masks.shape == (2, *SIZE) and masks.dtype == np.uint8
    (masked / "classes.txt").write_text("cell\n")
    assert data.describe(masked).mask_classes == ("background", "cell")
    np.testing.assert_array_equal(everything(masked)[0]["mask"], spot("a", 1))


@pytest.mark.parametrize("order", ["{split}/{kind}", "{kind}/{split}"])
def test_masks_split_by_folders(tmp_path, order):
    for shade, split in enumerate(("train", "val", "test")):
        picture(tmp_path / order.format(split=split, kind="images") / "x.png", shade=shade)
        mask(tmp_path / order.format(split=split, kind="masks") / "x.png", spot("a", 1 + shade))
    assert data.describe(tmp_path).splits == {"train": 1, "validation": 1, "test": 1}
    assert data.describe(tmp_path).classes == ("1", "2", "3")
    for shade, example in everything(tmp_path).items():
        np.testing.assert_array_equal(example["mask"], spot("a", 1 + shade))
    (tmp_path / order.format(split="train", kind="masks") / "x.png").unlink()
    assert "no mask of that name" in refused(tmp_path)


def test_masks_of_classes(tmp_path):
    for number, (name, value) in enumerate(zip("abc", (7, 26, 7))):
        picture(tmp_path / "images" / f"{name}.jpg", shade=10 * number)
        values = spot(name, value)
        values[9, 0] = 255
        mask(tmp_path / "masks" / f"{name}.png", values)
    description = data.describe(tmp_path)
    assert description.mask_classes == ("background", "7", "26") and "7 -> 1, 26 -> 2" in description.note
    found = everything(tmp_path)
    for number, (name, value) in enumerate(zip("abc", (1, 2, 1))):
        expected = spot(name, value)
        expected[9, 0] = 255
        np.testing.assert_array_equal(found[10 * number]["mask"], expected)
    names = ["ground"] + [f"class {number}" for number in range(1, 27)]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert data.describe(tmp_path).mask_classes == tuple(names)
    np.testing.assert_array_equal(everything(tmp_path)[10]["mask"][5:, 4:], 26)
    (tmp_path / "classes.txt").write_text("\n".join(names[:20]))
    text = refused(tmp_path)
    assert "1 of 6 files cannot be used: masks/b.png: value 26 is not in classes.txt, which names 0 to 19" in text


def test_masks_with_a_palette_hold_indices(tmp_path):
    picture(tmp_path / "images" / "a.png", shade=0)
    indexed = Image.fromarray(spot("a", 2), "P")
    indexed.putpalette([0, 0, 0, 9, 9, 9, 128, 0, 0])
    (tmp_path / "masks").mkdir()
    indexed.save(tmp_path / "masks" / "a.png")
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    np.testing.assert_array_equal(everything(tmp_path)[0]["mask"], spot("a", 2))


def test_masks_in_colours(tmp_path):
    red, grey = (128, 0, 0), (64, 64, 64)
    for number, (name, colour) in enumerate(zip("ab", (red, grey))):
        picture(tmp_path / "images" / f"{name}.png", shade=10 * number)
        mask(tmp_path / "masks" / f"{name}.png", spot(name, 1)[..., None] * np.array(colour))
    assert data.describe(tmp_path).mask_classes == ("background", "#404040", "#800000")
    found = everything(tmp_path)
    np.testing.assert_array_equal(found[0]["mask"], spot("a", 2))
    np.testing.assert_array_equal(found[10]["mask"], spot("b", 1))  # a grey mask among coloured ones is a colour
    (tmp_path / "classes.txt").write_text("ground 0 0 0\nroof, 128, 0, 0\nroad 64 64 64\n")
    assert data.describe(tmp_path).mask_classes == ("ground", "roof", "road")
    np.testing.assert_array_equal(everything(tmp_path)[0]["mask"], spot("a", 1))
    (tmp_path / "classes.txt").write_text("ground 0 0 0\nroof 128 0 0\n")
    assert "masks/b.png: colour (64, 64, 64) is not in classes.txt" in refused(tmp_path)
    (tmp_path / "classes.txt").write_text("ground\nroof\n")
    assert "need a name and three numbers" in refused(tmp_path)


def test_broken_pairs_are_told_by_name_and_left_out_on_demand(masked):
    clean = everything(masked)
    picture(masked / "images" / "lonely.png")
    mask(masked / "masks" / "widow.png", spot("a", 255))
    picture(masked / "images" / "small.png")
    mask(masked / "masks" / "small.png", np.zeros((5, 4)))
    picture(masked / "images" / "torn.png").write_bytes(b"")
    mask(masked / "masks" / "torn.png", spot("a", 255))
    picture(masked / "images" / "smeared.png")
    mask(masked / "masks" / "smeared.jpg", np.linspace(0, 255, 120).reshape(SIZE))
    text = refused(masked)
    for words in (
        "5 of 16 files cannot be used",
        "images/lonely.png: no mask of that name in masks",
        "masks/widow.png: no image of that name in images",
        "masks/small.png: is 5 x 4, its image 10 x 12",
        "images/torn.png: empty",
        "masks/smeared.jpg: a JPEG smears",
        "on_error='skip'",
    ):
        assert words in text
    with pytest.warns(UserWarning, match=r"5 of 16 files .* They are left out"):
        found = everything(masked, on_error="skip")
    assert found.keys() == clean.keys()
    with pytest.warns(UserWarning):
        assert "Left out, because they cannot be used: 5 of 16 files" in data.describe(masked, "skip").note


def test_maps_of_object_numbers_are_no_classes(tmp_path):
    picture(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", np.arange(120).reshape(SIZE))
    assert "119 different values" in refused(tmp_path)
    mask(tmp_path / "masks" / "a.png", np.zeros(SIZE))
    assert "no mask has anything but background" in refused(tmp_path)


def test_black_and_white_jpeg_masks_are_read(tmp_path):
    values = np.zeros((64, 64), np.uint8)
    values[:, 32:] = 255
    Image.fromarray(values).save(tmp_path / "m.jpg", quality=95)
    assert set(np.unique(pairs.read_mask(tmp_path / "m.jpg")[0])) == {0, 255}


CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def coco_table(names=SPOTS, **changes):
    """Annotations of a picture for each name, its spot a cat, and in "b" a dog above it."""
    images = [
        {"id": number, "file_name": f"{name}.png", "height": 10, "width": 12} for number, name in enumerate(names)
    ]
    objects = []
    for number, name in enumerate(names):
        x1, y1, x2, y2 = SPOTS[name]
        outline = [[x1, y1, x2, y1, x2, y2, x1, y2]]
        objects.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 3,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": outline,
            }
        )
    if "b" in names:
        counts = [0, 120]  # in columns, from 0 on: the whole image
        whole = {"size": list(SIZE), "counts": counts}
        number = list(names).index("b")
        objects.append({"id": 50, "image_id": number, "category_id": 7, "bbox": [0, 0, 12, 10], "segmentation": whole})
    return {"images": images, "annotations": objects, "categories": CATEGORIES} | changes


def write_coco(folder, table, name="annotations.json", images=None):
    for number, image in enumerate(table["images"]):
        picture((images or folder) / image["file_name"], shade=10 * number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(table))
    return folder


def test_coco_boxes_labels_and_masks(tmp_path):
    write_coco(tmp_path, coco_table(), images=tmp_path / "images")
    description = data.describe(tmp_path)
    assert description.classes == ("cat", "dog") and description.mask_classes == ("background", "cat", "dog")
    assert description.targets == ("mask", "boxes", "labels", "masks") and description.max_objects == 2
    found = everything(tmp_path)
    for number, name in enumerate(SPOTS):
        example = found[10 * number]
        np.testing.assert_array_equal(example["boxes"][0], SPOTS[name])
        np.testing.assert_array_equal(example["masks"][0], spot(name, 1))
        if name == "b":  # the smaller object lies above the larger one
            assert example["labels"].tolist() == [0, 1] and example["masks"][1].all()
            np.testing.assert_array_equal(example["mask"], spot(name, 1, ground=2))
        else:
            assert example["labels"].tolist() == [0, -1] and not example["masks"][1].any()
            np.testing.assert_array_equal(example["mask"], spot(name, 1))


@pytest.mark.parametrize(
    "annotations, images",
    [
        ("annotations/instances_{split}2017.json", "{split}2017"),
        ("{split}/_annotations.coco.json", "{split}"),
        ("annotations/{split}.json", "images/{split}"),
    ],
)
def test_coco_split_by_files(tmp_path, annotations, images):
    for split, names in {"train": "ab", "val": "c", "test": "d"}.items():
        file = tmp_path / annotations.format(split=split)
        write_coco(file.parent, coco_table(names), file.name, tmp_path / images.format(split=split))
    (tmp_path / "annotations").mkdir(exist_ok=True)
    if "instances" in annotations:
        (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps(coco_table("ab")))
    assert data.describe(tmp_path).splits == {"train": 2, "validation": 1, "test": 1}
    (example,) = data.load(tmp_path, "test").as_numpy_iterator()
    np.testing.assert_array_equal(example["boxes"][0], SPOTS["d"])


def test_coco_without_outlines_and_with_crowds(tmp_path):
    table = coco_table()
    del table["annotations"][1]["segmentation"]
    table["annotations"][4]["iscrowd"] = 1
    write_coco(tmp_path, table)
    description = data.describe(tmp_path)
    assert description.targets == ("boxes", "labels", "ignored") and description.max_objects == 2
    assert "1 crowds are marked as ignored" in description.note
    assert "1 of 4 objects have no outline" in description.note


@pytest.mark.parametrize("outlined", [True, False])
def test_crowds_are_carried_and_their_pixels_are_neither_object_nor_background(tmp_path, outlined):
    """The crowd covers all of image b, or its box, and lies under the object there, though it is larger or smaller than
    that.
    """
    table = coco_table()
    crowd = table["annotations"][4]
    crowd["iscrowd"] = 1
    if not outlined:
        del crowd["segmentation"]
        crowd["bbox"] = [0, 0, 12, 4]
    write_coco(tmp_path, table)
    description = data.describe(tmp_path)
    assert description.targets == ("mask", "boxes", "labels", "ignored", "masks") and description.max_objects == 2
    for number, name in enumerate(SPOTS):
        example = everything(tmp_path)[10 * number]
        assert example["ignored"].dtype == bool
        if name != "b":  # padding is False
            assert example["labels"].tolist() == [0, -1] and example["ignored"].tolist() == [False, False]
            continue
        assert example["labels"].tolist() == [0, 1] and example["ignored"].tolist() == [False, True]
        np.testing.assert_array_equal(example["boxes"][1], [0, 0, 12, 10] if outlined else [0, 0, 12, 4])
        ground = np.full(SIZE, 255) if outlined else np.where(np.arange(SIZE[0])[:, None] < 4, 255, 0)
        np.testing.assert_array_equal(example["mask"], np.where(spot(name, 1) == 1, 1, ground))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"bbox": [5, 5, 20, 2]}, "object 2 in c.png: box [5, 5, 25, 7] reaches outside the image, 10 x 12"),
        ({"bbox": [-3, 5, 5, 2]}, "box [-3, 5, 2, 7] reaches outside"),
        ({"bbox": [5, 5, 0, 2]}, "box [5, 5, 5, 7] has no area"),
        ({"bbox": [5, 5, -2, 2]}, "has no area"),
        ({"bbox": [12, 5, 0.5, 2]}, "has no area inside the image"),
        ({"bbox": [float("nan"), 5, 1, 2]}, "is not made of numbers"),
        ({"bbox": [1, 2, 3]}, "bbox is [1, 2, 3], not four numbers"),
        ({"category_id": 4}, "object 2 in c.png: unknown class 4"),
        ({"image_id": 99}, "object 2: there is no image 99"),
        ({"segmentation": [[1, 1, 1, 1, 1, 1]]}, "its outline covers no pixel"),
        ({"segmentation": [["x"] * 6]}, "its outline cannot be read"),
        ({"segmentation": {"size": [3, 3], "counts": [0, 9]}}, "its outline is for 3 x 3, its image 10 x 12"),
    ],
)
def test_broken_coco_objects(tmp_path, change, words):
    table = coco_table()
    table["annotations"][2] |= change
    write_coco(tmp_path, table)
    text = refused(tmp_path)
    assert "1 of 5 objects cannot be used: annotations.json: " in text and words in text
    with pytest.warns(UserWarning, match="1 of 5 objects"):
        found = everything(tmp_path, on_error="skip")
    assert len(found) == 4 and (found[20]["labels"] == -1).all()  # the picture stays, without the object
    np.testing.assert_array_equal(found[30]["boxes"][0], SPOTS["d"])


def test_broken_coco_files(tmp_path):
    table = coco_table("abc")
    table["images"][2] |= {"height": 20, "width": 24}
    write_coco(tmp_path, table)
    table["images"].append({"id": 9, "file_name": "gone.png"})
    (tmp_path / "annotations.json").write_text(json.dumps(table))
    picture(tmp_path / "extra.png")
    (tmp_path / "a.png").write_bytes(b"no picture")
    text = refused(tmp_path)
    for words in (
        "4 of 5 files cannot be used",
        "gone.png: named by annotations.json, but not there",
        "c.png: is 10 x 12, but 20 x 24 by annotations.json",
        "extra.png: stands in no annotation file",
        "a.png: not a picture",
    ):
        assert words in text
    with pytest.warns(UserWarning):
        assert list(everything(tmp_path, on_error="skip")) == [10]
    table["categories"] = []
    (tmp_path / "annotations.json").write_text(json.dumps(table))
    assert "has no categories" in refused(tmp_path)
    (tmp_path / "annotations.json").write_text("{half")
    assert "annotations.json is not JSON" in refused(tmp_path)
    (tmp_path / "annotations.json").write_text(json.dumps(coco_table("abc")))
    (tmp_path / "more.json").write_text(json.dumps(coco_table("abc")))
    assert "two annotation files for the whole folder: annotations.json, more.json" in refused(tmp_path)


def xml(name, objects, size=SIZE, **more):
    """Objects: (class, box as we have it, whether it is difficult)."""
    parts = [f"<filename>{name}.png</filename><size><height>{size[0]}</height><width>{size[1]}</width></size>"]
    for label, (x1, y1, x2, y2), difficult in objects:
        box = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        parts.append(
            f"<object><name>{label}</name><difficult>{int(difficult)}</difficult><bndbox>{box}</bndbox></object>"
        )
    return f"<annotation>{''.join(parts)}</annotation>"


def write_voc(root, annotations="Annotations", images="JPEGImages", names=SPOTS):
    for number, name in enumerate(names):
        picture(root / images / f"{name}.png", shade=10 * number)
        objects = [("dog" if name == "b" else "cat", SPOTS[name], False)]
        objects += [("cat", (0, 0, 12, 10), True)] if name == "c" else []
        (root / annotations).mkdir(parents=True, exist_ok=True)
        (root / annotations / f"{name}.xml").write_text(xml(name, objects))
    return root


@pytest.mark.parametrize(
    "places", [("Annotations", "JPEGImages"), (".", "."), ("annotations", "images"), (".", "images")]
)
def test_voc_boxes(tmp_path, places):
    write_voc(tmp_path, *places)
    description = data.describe(tmp_path)
    assert description.classes == ("cat", "dog") and description.max_objects == 2
    assert description.targets == ("boxes", "labels", "ignored")
    assert "1 objects marked as difficult are ignored" in description.note
    assert description.splits == {"train": 2, "validation": 1, "test": 1}
    found = everything(tmp_path)
    for number, name in enumerate(SPOTS):
        difficult = name == "c"
        second = [0, 0, 12, 10] if difficult else [0] * 4
        np.testing.assert_array_equal(found[10 * number]["boxes"], [SPOTS[name], second])
        assert found[10 * number]["labels"].tolist() == [int(name == "b"), 0 if difficult else -1]
        assert found[10 * number]["ignored"].tolist() == [False, difficult]


def test_voc_split_by_lists_and_by_folders(tmp_path):
    root = write_voc(tmp_path / "lists")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("c 1\n")
    # One validation picture has no half: the test is cut from the training split.
    assert data.describe(root).splits == {"train": 1, "validation": 1, "test": 1}
    assert "There is no test split: it is cut here from the train split" in data.describe(root).note
    assert "1 pictures are in no list" in data.describe(root).note
    (root / "ImageSets" / "Main" / "test.txt").write_text("zebra\n")
    assert "ImageSets/Main/test.txt: 1 names without a picture and xml: zebra" in refused(root)
    root = tmp_path / "folders"
    for split, names in {"train": "ab", "valid": "c", "test": "d"}.items():
        write_voc(root / split, ".", ".", names)
    assert data.describe(root).splits == {"train": 2, "validation": 1, "test": 1}
    (root / "test" / "d.xml").write_text(xml("d", [("zebra", SPOTS["d"], False)]))
    assert "1 of 5 objects cannot be used: test/d.xml: object 1, zebra: unknown class: train has cat, dog" in refused(
        root
    )


def test_broken_voc(tmp_path):
    write_voc(tmp_path)
    xmls = tmp_path / "Annotations"
    (xmls / "a.xml").write_text(
        xml("a", [("cat", (-5, 0, 4, 4), False), ("cat", (3, 3, 3, 5), False), ("cat", (0, 0, 4, 13), False)])
    )
    (xmls / "b.xml").write_text(xml("b", [("dog", SPOTS["b"], False)], size=(99, 12)))
    (xmls / "c.xml").write_text("<annotation><object>")
    (xmls / "gone.xml").write_text(xml("gone", []))
    picture(tmp_path / "JPEGImages" / "extra.png")
    text = refused(tmp_path)
    for words in (
        "4 of 10 files cannot be used",
        "Annotations/c.xml: not XML",
        "Annotations/gone.xml: no picture of that name in JPEGImages",
        "JPEGImages/extra.png: no xml of that name in Annotations",
        "JPEGImages/b.png: is 10 x 12, but 99 x 12 by Annotations/b.xml",
        "3 of 4 objects cannot be used",
        "Annotations/a.xml: object 1, cat: box [-5, 0, 4, 4] reaches outside the image",
        "object 2, cat: box [3, 3, 3, 5] has no area",
        "object 3, cat: box [0, 0, 4, 13] reaches outside",
    ):
        assert words in text
    with pytest.warns(UserWarning):
        found = everything(tmp_path, on_error="skip")
    assert sorted(found) == [0, 30] and found[0]["labels"].tolist() == [-1]
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.warns(UserWarning, match="unknown class: classes.txt has dog"):
        assert data.describe(tmp_path, "skip").classes == ("dog",)


def test_boxes_over_the_edge_by_a_pixel_are_cut():
    box, reason = common.checked_box((-1, -0.5, 13, 10.2), 10, 12)
    assert box.tolist() == [0, 0, 12, 10] and box.dtype == np.float32 and not reason


def test_ambiguous_folders_say_what_was_found(masked):
    write_voc(masked, ".", "images")
    text = refused(masked)
    assert "can be read in 2 ways" in text and "pictures with masks (images, masks)" in text
    assert "annotations in Pascal VOC's form (xml files in .)" in text
    (masked / "annotations.json").write_text(json.dumps(coco_table()))
    text = refused(masked)
    assert "can be read in 3 ways" in text and "annotations in COCO's form (annotations.json)" in text


def test_pictures_that_lie_on_their_side(tmp_path):
    """Annotations may have been made for the picture upright, or as it is stored: their size tells."""
    stored = np.zeros((12, 10, 3), np.uint8)
    stored[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: upright it is 10 x 12
    for size, corner in ((SIZE, (0, 11)), ((12, 10), (0, 0))):
        root = tmp_path / str(size[0])
        root.mkdir()
        Image.fromarray(stored).save(root / "a.png", exif=exif)
        (root / "a.xml").write_text(xml("a", [("cat", (0, 0, 4, 4), False)], size=size))
        (example,) = data.load(root, "train").as_numpy_iterator()
        assert example["image"].shape == (*size, 3) and example["image"][corner].tolist() == [255] * 3
