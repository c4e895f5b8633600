"""Folders as people and their tools leave them: what is odd is told by name, or read as it was meant, and changes
nothing else.
"""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths
from test_folder_layouts import (
    SIZE,
    SPOTS,
    coco_table,
    everything,
    mask,
    picture,
    refused,
    spot,
    write_coco,
    write_voc,
    xml,
)

from utils import data
from utils.data.folders import coco, common, pairs


def masks_of(root, values, folder="masks"):
    """Twenty pictures with masks; `values(number)` gives each mask's array."""
    for number in range(20):
        picture(root / "images" / f"{number}.png", shade=number)
        mask(root / folder / f"{number}.png", values(number))
    return root


# One odd mask


def test_one_odd_pixel_does_not_turn_the_meaning_of_all_masks(tmp_path):
    def values(number):
        found = spot("a", 255)
        if number == 7:
            found[9, 9] = 128
        return found

    masks_of(tmp_path, values)
    text = refused(tmp_path)
    assert (
        "1 of 40 files cannot be used: masks/7.png: holds value 128, where 19 masks hold nothing but 0 and 255" in text
    )
    with pytest.warns(UserWarning, match=r"masks/7\.png"):
        found = everything(tmp_path, on_error="skip")
    assert len(found) == 19 and all((example["mask"] == spot("a", 1)).all() for example in found.values())
    (tmp_path / "classes.txt").write_text("cell\n")
    assert "masks/7.png" in refused(tmp_path)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (
            spot("a", 255),
            "masks/7.png: holds nothing but 0 and 255, where 19 masks hold others and never 255 (value 1)",
        ),
        (
            spot("a", 1)[..., None] * np.array([9, 0, 0], np.uint8),
            "masks/7.png: is in colours, where 19 masks are grey",
        ),
    ],
    ids=["255 for an object", "one in colours"],
)
def test_one_odd_mask_among_masks_of_numbers(tmp_path, odd, words):
    masks_of(tmp_path, lambda number: odd if number == 7 else spot("a", 1))
    assert "1 of 40 files" in refused(tmp_path) and words in refused(tmp_path)
    with pytest.warns(UserWarning):
        assert data.describe(tmp_path, "skip").mask_classes == ("background", "1")


def test_255_stays_ignored_where_masks_of_numbers_have_it(tmp_path):
    """A border of 255 is common; that some pictures show nothing but background and border is no other language."""

    def values(number):
        found = spot("a", 255 if number < 5 else 3)
        found[9, 0] = 255
        return found

    masks_of(tmp_path, values)
    assert data.describe(tmp_path).mask_classes == ("background", "3")
    assert everything(tmp_path)[0]["mask"].max() == 255


def palette_mask(path, values, colours):
    path.parent.mkdir(parents=True, exist_ok=True)
    indexed = Image.fromarray(np.asarray(values, np.uint8), "P")
    indexed.putpalette(np.ravel(colours).tolist())
    indexed.save(path)


COLOURS = [(0, 0, 0), (9, 9, 9), (128, 0, 0), (0, 128, 0)]


@pytest.mark.parametrize("palettes", ["one", "two"])
def test_a_palette_and_its_colours_are_one_coding(tmp_path, palettes):
    """Indices 2 and 3 in palettes; the colour of index 3 in RGB."""
    other = COLOURS if palettes == "one" else [COLOURS[0], COLOURS[0], COLOURS[3], COLOURS[2]]
    for number, name in enumerate("abc"):
        picture(tmp_path / "images" / f"{name}.png", shade=10 * number)
    palette_mask(tmp_path / "masks" / "a.png", spot("a", 2), COLOURS)
    palette_mask(tmp_path / "masks" / "b.png", spot("b", 3 if palettes == "one" else 2), other)
    mask(tmp_path / "masks" / "c.png", (spot("c", 1)[..., None] * np.array(COLOURS[3])).astype(np.uint8))
    found = everything(tmp_path)
    if palettes == "one":
        assert data.describe(tmp_path).mask_classes == ("background", "2", "3")
        expected = {"a": 1, "b": 2, "c": 2}
    else:  # the same index in two colours: the colours count
        assert data.describe(tmp_path).mask_classes == ("background", "#008000", "#800000")
        expected = {"a": 2, "b": 1, "c": 1}
    for number, (name, value) in enumerate(expected.items()):
        np.testing.assert_array_equal(found[10 * number]["mask"], spot(name, value))


def test_a_colour_that_the_palette_does_not_have_is_told(tmp_path):
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png")
    palette_mask(tmp_path / "masks" / "a.png", spot("a", 2), COLOURS)
    mask(tmp_path / "masks" / "b.png", (spot("b", 1)[..., None] * np.array([1, 2, 3])).astype(np.uint8))
    assert "masks/b.png: has colours that the palette of the other masks does not have" in refused(tmp_path)


# Names


@pytest.mark.parametrize("ending", ["_mask", "_label", "_labels", "_segmentation", "-seg", "_GT", "_labelIds"])
def test_masks_are_found_by_the_common_endings(tmp_path, ending):
    for number, name in enumerate(SPOTS):
        picture(tmp_path / "images" / f"{name}.png", shade=number)
        mask(tmp_path / "masks" / f"{name}{ending}.png", spot(name, 1))
    found = everything(tmp_path)
    for number, name in enumerate(SPOTS):
        np.testing.assert_array_equal(found[number]["mask"], spot(name, 1))


def test_names_that_end_so_themselves_and_two_masks_of_one_picture(tmp_path):
    for number, name in enumerate(("x", "x_label")):
        picture(tmp_path / "images" / f"{name}.png", shade=number)
        mask(tmp_path / "masks" / f"{name}.png", spot("a", number + 1))
    assert everything(tmp_path)[1]["mask"].max() == 2
    mask(tmp_path / "masks" / "x_mask.png", spot("a", 1))
    assert "masks/x.png: two files of one name: x.png, x_mask.png" in refused(tmp_path)


def test_the_cause_is_told_and_not_what_follows_from_it(tmp_path):
    picture(tmp_path / "images" / "p.png")
    mask(tmp_path / "masks" / "p_outlined.png", spot("a", 1))
    text = refused(tmp_path)
    assert "images/p.png: no mask of that name in masks" in text and "masks/p_outlined.png: no image" in text
    picture(tmp_path / "images" / "q.png")
    mask(tmp_path / "masks" / "q.png", np.zeros(SIZE))
    text = refused(tmp_path)
    assert "images/p.png: no mask of that name in masks" in text and "background" not in text


@pytest.mark.parametrize("name", ["labels", "annotations", "SegmentationClass", "gt"])
def test_other_names_for_the_folder_of_masks(tmp_path, name):
    masks_of(tmp_path, lambda number: spot("a", 1), name)
    assert data.describe(tmp_path).targets == ("mask",)


def test_what_lies_beside_pictures_is_no_class(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .1 .1")
    assert "images, labels look like pictures and what belongs to them, not like classes" in refused(tmp_path)
    for split in ("train", "val"):
        picture(tmp_path / "bare" / split / "a.png")
    assert "train, val are splits by name, but without class folders" in refused(tmp_path / "bare")
    for name in ("cats", "dogs"):
        picture(tmp_path / "half" / "train" / name / "a.png")
    picture(tmp_path / "half" / "test" / "b.png")
    assert "test is a split by name, but without class folders" in refused(tmp_path / "half")
    for name in ("mask", "no_mask"):
        picture(tmp_path / "faces" / name / "a.png")
    assert data.describe(tmp_path / "faces").classes == ("mask", "no_mask")


# COCO


def compressed(values):
    return run_lengths.encode(np.asfortranarray(values, np.uint8))


def test_run_lengths_are_read_as_pycocotools_reads_them():
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.random(random.integers(1, 60, 2)) < random.choice([0.02, 0.5, 0.97])
        encoded = compressed(values)
        expected = run_lengths.decode(encoded).ravel("F")
        runs = coco.runs_of(encoded["counts"])
        np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2, runs), expected)
        assert coco.runs_of(encoded["counts"].decode()) == runs


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        (
            {"size": [10, 12], "counts": [64, 20, 20]},
            "its outline has run lengths of 104 pixels in all, its image has 120",
        ),
        ({"size": [10, 12], "counts": [64, 20, 200]}, "run lengths of 284 pixels"),
        ({"size": [10, 12], "counts": [130, -20, 10]}, "a run length is below 0"),
        ({"size": [10, 12], "counts": compressed(np.ones((9, 12)))["counts"].decode()}, "run lengths of 108 pixels"),
        ({"size": [10, 12], "counts": "~~~"}, "cannot be read"),
        ({"size": [10, 12]}, "cannot be read"),
        ({"size": [10], "counts": [120]}, "its outline is for 10, its image 10 x 12"),
        ([[1, 1, 5, 5]], "a polygon of 4 numbers"),
        ([[1, 1, 5, 1, 5, 5, 1]], "a polygon of 7 numbers"),
        ([[1, 1, 5, 1, 5, float("nan")]], "a polygon is a list of numbers"),
        ([1, 1, 5, 1, 5, 5], "a polygon is a list of numbers"),
        ("outline", "cannot be read"),
    ],
)
def test_outlines_are_checked_when_the_folder_is_opened(tmp_path, outline, words):
    table = coco_table()
    table["annotations"][2]["segmentation"] = outline
    write_coco(tmp_path, table)
    text = refused(tmp_path)
    assert "1 of 5 objects cannot be used: annotations.json: object 2 in c.png: " in text and words in text


def test_one_id_or_name_for_two_things_is_told(tmp_path):
    def text(change, where="one"):
        table = coco_table()
        change(table)
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        return refused(write_coco(root, table))

    assert "two images have the id 0: 'a.png' and 'b.png'" in text(lambda t: t["images"][1].update(id=0))
    assert "two images have the id 0" in text(lambda t: t["images"][1].update(id="0"))
    assert "c.png is named twice, in annotations.json" in text(lambda t: t["images"][1].update(file_name="c.png"))
    assert "two categories have the id 3: 'dog' and 'cat'" in text(
        lambda t: t.update(categories=[{"id": 3, "name": "dog"}, {"id": 3, "name": "cat"}])
    )
    table = coco_table()
    table["annotations"][1]["id"] = table["annotations"][0]["id"]  # nothing is looked up by it: both are kept
    write_coco(tmp_path / "both", table)
    assert all((example["labels"] >= 0).any() for example in everything(tmp_path / "both").values())


def test_one_picture_in_two_splits_is_told(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / "annotations", coco_table("ab"), f"{split}.json", tmp_path / "images")
    assert "images/a.png is named twice, in annotations/train.json and annotations/val.json" in refused(tmp_path)


def test_a_project_above_all_categories_is_no_class(tmp_path):
    names = [{"id": 0, "name": "pets", "supercategory": "none"}]
    names += [{"id": number, "name": name, "supercategory": "pets"} for number, name in ((3, "cat"), (7, "dog"))]
    write_coco(tmp_path, coco_table(categories=names))
    description = data.describe(tmp_path)
    assert description.classes == ("cat", "dog")
    assert "The category pets has no objects and stands for no class" in description.note
    assert everything(tmp_path)[0]["labels"][0] == 0
    table = coco_table(categories=names)
    table["annotations"][0]["category_id"] = 0  # with an object it is a class
    write_coco(tmp_path / "used", table)
    assert data.describe(tmp_path / "used").classes == ("pets", "cat", "dog")
    names = [{"id": 0, "name": "_background_"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    write_coco(tmp_path / "background", coco_table(categories=names))
    assert data.describe(tmp_path / "background").classes == ("cat", "dog")


def test_numbers_that_are_text_are_read(tmp_path):
    table = coco_table()
    clean = coco_table()
    for image in table["images"]:
        image |= {"width": str(image["width"]), "height": float(image["height"]), "id": str(image["id"])}
    for annotation in table["annotations"]:
        annotation |= {"category_id": str(annotation["category_id"]), "iscrowd": "0"}
        annotation["bbox"] = [str(value) for value in annotation["bbox"]]
    write_coco(tmp_path / "text", table)
    write_coco(tmp_path / "clean", clean)
    one, other = everything(tmp_path / "text"), everything(tmp_path / "clean")
    assert one.keys() == other.keys()
    for shade, example in one.items():
        assert "ignored" not in example
        for key, value in example.items():
            np.testing.assert_array_equal(value, other[shade][key])


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("images", {"width": "wide"}, 'image 0: width is "wide", not a whole number of pixels'),
        ("images", {"width": 12.5}, "image 0: width is 12.5, not a whole number of pixels"),
        ("images", {"height": [10]}, "image 0: height is [10], not a whole number of pixels"),
        ("images", {"height": True}, "image 0: height is true, not a whole number"),
        ("images", {"height": -3}, "image 0: height is -3, not a whole number"),
        ("images", {"id": None}, "image None: id is null, not a number or a text"),
        ("images", {"file_name": None}, "image 0: file_name is null, not a text"),
        ("images", {"file_name": ["a.png"]}, 'image 0: file_name is ["a.png"], not a text'),
        ("annotations", {"image_id": [1]}, "object 0: image_id is [1], not a number or a text"),
        ("annotations", {"category_id": {}}, "object 0: category_id is {}, not a number or a text"),
        ("annotations", {"iscrowd": "maybe"}, 'object 0: iscrowd is "maybe", not 0 or 1'),
        ("categories", {"name": None}, "category 7: name is null, not a text"),
    ],
)
def test_a_value_of_a_wrong_type_is_told_with_file_and_object(tmp_path, kind, change, words):
    table = coco_table()
    write_coco(tmp_path, table)
    table = json.loads(json.dumps(table))
    table[kind][0] |= change
    (tmp_path / "annotations.json").write_text(json.dumps(table))
    assert f"annotations.json: {words}" in refused(tmp_path)


@pytest.mark.parametrize("kind", ["images", "annotations", "categories"])
def test_a_list_that_is_none_is_told(tmp_path, kind):
    write_coco(tmp_path, table := coco_table())
    for value, words in (({"a": 1}, "annotations.json has no "), ([1], "0 is 1, not an object with keys and values")):
        (tmp_path / "annotations.json").write_text(json.dumps(table | {kind: value}))
        assert words in refused(tmp_path)


# VOC


def lists(root, **names):
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in names.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def test_names_with_blanks_in_lists(tmp_path):
    names = {"my photo 1": "a", "my photo": "b", "third": "c"}
    for number, name in enumerate(names):
        picture(tmp_path / "JPEGImages" / f"{name}.png", shade=number)
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(xml(name, [("cat", SPOTS[names[name]], False)]))
    lists(tmp_path, train=["my photo 1"], val=["my photo -1"], test=["third.png"])
    assert data.describe(tmp_path).splits == {"train": 1, "validation": 1, "test": 1}
    (example,) = data.load(tmp_path, "train").as_numpy_iterator()
    np.testing.assert_array_equal(example["boxes"][0], SPOTS["a"])
    lists(tmp_path, train=["my other photo"])
    assert "train.txt: 1 names without a picture and xml: my other photo" in refused(tmp_path)


def test_lists_that_overlap_are_told(tmp_path):
    write_voc(tmp_path)
    lists(tmp_path, train=["a", "b", "a"], val=["c"])
    assert sum(data.describe(tmp_path).splits.values()) == 3  # twice in one list is once
    lists(tmp_path, val=["b", "c"])
    assert "b stands in train.txt and in val.txt" in refused(tmp_path)
    lists(tmp_path, val=["c"], valid=["d"])
    assert "two lists for the split validation: val.txt, valid.txt" in refused(tmp_path)


def test_two_pictures_of_one_name_and_two_xml_files_of_one_picture(tmp_path):
    write_voc(tmp_path)
    picture(tmp_path / "JPEGImages" / "a.jpg")
    assert "1 of 9 files cannot be used: JPEGImages/a.jpg: no xml" in refused(tmp_path)  # the xml says which
    (tmp_path / "Annotations" / "a.xml").write_text(xml("elsewhere", [("cat", SPOTS["a"], False)]))
    text = refused(tmp_path)
    assert "JPEGImages/a.jpg: two pictures of one name: a.jpg, a.png" in text
    assert "Annotations/a.xml: two pictures of that name: a.jpg, a.png" in text
    (tmp_path / "Annotations" / "a.xml").write_text(xml("a", [("cat", SPOTS["a"], False)]))
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    (tmp_path / "Annotations" / "z.xml").write_text(xml("b", [("cat", SPOTS["a"], False)]))
    assert "Annotations/z.xml: b.png belongs to b.xml already" in refused(tmp_path)


def exif(tag):
    found = Image.Exif()
    found[0x0112] = tag
    return found


def turned_picture(path, tag, marked, shape):
    stored = np.zeros((*shape, 3), np.uint8)
    x1, y1, x2, y2 = marked
    stored[y1:y2, x1:x2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored).save(path, exif=exif(tag))


STORED, BOX = (48, 60), (48, 28, 60, 40)  # height and width as stored, and where the object is in the stored pixels


@pytest.mark.parametrize("layout", ["voc", "coco", "pairs"])
def test_what_one_picture_shows_of_its_orientation_holds_for_all(tmp_path, layout):
    """`quarter` is turned by a quarter, and its annotation fits the stored pixels; `half` is turned by half, and fits
    both ways.
    """
    tags = {"quarter": 6, "half": 3}
    for name, tag in tags.items():
        turned_picture(tmp_path / "images" / f"{name}.png", tag, BOX, STORED)
    if layout == "voc":
        for name in tags:
            (tmp_path / "images" / f"{name}.xml").write_text(xml(name, [("cat", BOX, False)], size=STORED))
    elif layout == "coco":
        x1, y1, x2, y2 = BOX
        table = {
            "images": [
                {"id": number, "file_name": f"{name}.png", "height": STORED[0], "width": STORED[1]}
                for number, name in enumerate(tags)
            ],
            "annotations": [
                {"id": number, "image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                for number in range(2)
            ],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "annotations.json").write_text(json.dumps(table))
    else:
        for name in tags:
            values = np.zeros(STORED, np.uint8)
            values[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
            mask(tmp_path / "masks" / f"{name}.png", values)
    found = [
        example
        for split, count in data.describe(tmp_path).splits.items()
        if count
        for example in data.load(tmp_path, split).as_numpy_iterator()
    ]
    assert len(found) == 2 and "EXIF" not in data.describe(tmp_path).note
    for example in found:
        truth = np.zeros(example["image"].shape[:2], bool)
        if layout == "pairs":
            truth = example["mask"] == 1
        else:
            x1, y1, x2, y2 = example["boxes"][0].astype(int)
            truth[y1:y2, x1:x2] = True
        np.testing.assert_array_equal(example["image"][..., 0] == 255, truth)


def test_pictures_that_may_be_meant_either_way_are_named(tmp_path):
    turned_picture(tmp_path / "a.png", 3, BOX, STORED)
    (tmp_path / "a.xml").write_text(xml("a", [("cat", BOX, False)], size=STORED))
    note = data.describe(tmp_path).note
    assert "The EXIF data of a.png turn the picture" in note and "nothing shows which" in note
    for name, size in (("up", (60, 48)), ("stored", (48, 60))):
        turned_picture(tmp_path / f"{name}.png", 6, BOX, STORED)
        (tmp_path / f"{name}.xml").write_text(xml(name, [("cat", (0, 0, 9, 9), False)], size=size))
    assert "a.png" in data.describe(tmp_path).note and "the others show both" in data.describe(tmp_path).note


# Three splits from any folder


def test_every_split_is_there_and_none_overlap():
    classes = {"a": [f"a/{number}" for number in range(9)], "b": [f"b/{number}" for number in range(40)]}
    for part, rest, rule in (("test", "validation", common.halves), ("validation", "train", common.share)):
        tree = rule(classes, part, rest)
        for name, files in classes.items():
            assert sorted(tree[part][name] + tree[rest][name]) == sorted(files)
            expected = len(files) // 2 if rule is common.halves else max(round(0.15 * len(files)), 1)
            assert len(tree[part][name]) == expected


@pytest.mark.parametrize(
    ("given", "expected", "words"),
    [
        (
            {"train": 12, "val": 6},
            {"train": 24, "validation": 6, "test": 6},
            "no test split: it is cut here from the validation split",
        ),
        (
            {"train": 12, "val": 1},
            {"train": 20, "validation": 2, "test": 4},
            "no test split: it is cut here from the train split",
        ),
        (
            {"train": 12, "test": 3},
            {"train": 20, "validation": 4, "test": 6},
            "no validation split: it is cut here from the train split",
        ),
        (
            {"train": 1, "test": 4},
            {"train": 2, "validation": 4, "test": 4},
            "no validation split: it is cut here from the test split",
        ),
        (
            {"val": 8, "test": 3},
            {"train": 14, "validation": 2, "test": 6},
            "no train split: it is cut here from the validation split",
        ),
        (
            {"train": 12},
            {"train": 16, "validation": 4, "test": 4},
            "All pictures are of the split train. Split here: of each class 70 %",
        ),
        ({"test": 12}, {"train": 16, "validation": 4, "test": 4}, "All pictures are of the split test."),
    ],
)
def test_what_is_missing_is_cut_from_the_others_class_by_class(tmp_path, given, expected, words):
    shade = 0
    for split, count in given.items():
        for name in ("a", "b"):
            for number in range(count):
                picture(tmp_path / split / name / f"{number}.png", shade=(shade := shade + 1))
    description = data.describe(tmp_path)
    assert description.splits == expected and words in description.note
    shades = []
    for split in expected:
        images, labels = data.arrays(tmp_path, split)
        assert len(set(np.bincount(labels))) == 1
        shades += images[:, 0, 0, 0].tolist()
    assert sorted(shades) == list(range(1, shade + 1)), "every picture once"


@pytest.mark.parametrize("layout", ["pairs", "coco", "voc"])
def test_other_layouts_have_three_splits_too(tmp_path, layout):
    for split, names in {"train": "ab", "val": "cd"}.items():
        if layout == "coco":
            write_coco(tmp_path / split, coco_table(names))
        elif layout == "voc":
            write_voc(tmp_path / split, ".", ".", names)
        else:
            for name in names:
                picture(tmp_path / split / "images" / f"{name}.png")
                mask(tmp_path / split / "masks" / f"{name}.png", spot(name, 1))
    description = data.describe(tmp_path)
    assert description.splits == {"train": 2, "validation": 1, "test": 1}
    assert "There is no test split: it is cut here from the validation split" in description.note


def test_a_mask_is_read_as_it_was_inspected(tmp_path):
    palette_mask(tmp_path / "p.png", spot("a", 2), COLOURS)
    values, kind, palette = pairs.read_mask(tmp_path / "p.png")
    assert kind == "palette" and palette[2] == 128 << 16
    np.testing.assert_array_equal(values, spot("a", 2))
