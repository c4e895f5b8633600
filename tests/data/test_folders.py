"""A folder of one's own: every kind of picture, every kind of mistake."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from utils import data
from utils.data.folders import common
from utils.data.folders import pictures as photo


def picture(path, value=128, size=(12, 10), mode="RGB", **options):
    """Writes a picture of one colour; `size` is (width, height) as Pillow has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16", "P", "1") else (value,) * len(mode)).save(path, **options)
    return path


@pytest.fixture
def pictures(tmp_path):
    """Two classes, not split: 20 dark cats, 10 light dogs, all 12 x 10 (width x height)."""
    for number in range(20):
        picture(tmp_path / "cat" / f"{number}.png", 10 + number)
    for number in range(10):
        picture(tmp_path / "dog" / f"{number}.png", 200 + number)
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "notes.txt").write_text("not a class")
    return tmp_path


def test_folder_is_split_class_by_class(pictures):
    description = data.describe(pictures)
    assert description.classes == ("cat", "dog") and description.image_shape == (10, 12, 3)
    assert description.splits == {"train": 20, "validation": 5, "test": 5} and "Split here" in description.note
    assert str(pictures) in str(description)
    seen = []
    for split, (cats, dogs) in {"train": (14, 6), "validation": (3, 2), "test": (3, 2)}.items():
        images, labels = data.arrays(pictures, split)
        assert np.bincount(labels).tolist() == [cats, dogs] and images.dtype == np.uint8 and labels.dtype == np.int32
        assert ((images >= 200).all(axis=(1, 2, 3)) == (labels == 1)).all()
        seen += images[:, 0, 0, 0].tolist()
    assert sorted(seen) == [*range(10, 30), *range(200, 210)]  # every picture once


def test_split_depends_on_names_alone(pictures, tmp_path_factory):
    before = data.arrays(pictures, "test")
    elsewhere = tmp_path_factory.mktemp("moved") / "pictures"
    os.rename(pictures, elsewhere)
    after = data.arrays(elsewhere, "test")
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.parametrize(
    "count, parts", [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (7, (5, 1, 1)), (100, (70, 15, 15))]
)
def test_split_of_few(count, parts):
    tree = common.split_by_hash({"a": [f"a/{number}.png" for number in range(count)]})
    assert tuple(len(tree[split]["a"]) for split in ("train", "validation", "test")) == parts
    assert len({file for split in tree.values() for file in split["a"]}) == count


@pytest.mark.parametrize("options", [{}, {"image_size": (7, 5)}, {"channels": 1, "image_size": 30}])
def test_load_and_arrays_agree(pictures, options):
    images, labels = data.arrays(pictures, "train", **options)
    dataset = data.load(pictures, "train", batch_size=10, target="label", **options)
    assert dataset.element_spec[0].shape == (10, *images.shape[1:])
    batches = list(dataset.as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches]), images)
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), labels)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "valid", "test"), ("train", "validation"), ("Train", "Test")]
)
def test_folder_that_is_split_already(tmp_path, names):
    for count, split in enumerate(names, 1):
        for name in ("a", "b"):
            for number in range(count):
                picture(tmp_path / split / name / f"{number}.jpg")
    description = data.describe(tmp_path)
    counts = dict(zip((common.SPLITS[name.lower()] for name in names), (2, 4, 6)))
    if len(names) == 2:  # the half of the split of four
        counts |= {"validation": 2, "test": 2}
    assert description.splits == counts and list(description.splits) == ["train", "validation", "test"]
    assert description.note.startswith("There is no ") == (len(names) == 2)
    assert data.arrays(tmp_path, "train")[1].tolist() in ([0, 1], [1, 0])


def test_train_may_be_a_class(tmp_path):
    for name in ("bus", "train"):
        for number in range(5):
            picture(tmp_path / name / f"{number}.jpg")
    assert data.describe(tmp_path).classes == ("bus", "train")


def test_sizes_that_differ(pictures):
    picture(pictures / "cat" / "large.png", size=(40, 30))
    assert data.describe(pictures).image_shape == (None, None, 3)
    for function, options in ((data.arrays, {}), (data.load, {"batch_size": 2})):
        with pytest.raises(ValueError, match="differ in size: give image_size"):
            function(pictures, "train", **options)
    assert data.arrays(pictures, "train", image_size=8)[0].shape[1:] == (8, 8, 3)
    assert {example["image"].shape for example in data.load(pictures, "train").as_numpy_iterator()} >= {(10, 12, 3)}


KINDS = {
    "grey.png": ("L", {}, 90),
    "colour.bmp": ("RGB", {}, 90),
    "colour.webp": ("RGB", {"lossless": True}, 90),
    "grey.jpg": ("L", {}, 90),
    "colour.gif": ("P", {}, 90),
    "cmyk.jpg": ("CMYK", {"quality": 100}, 165**2 / 255),  # (255 - c)(255 - k) / 255 with c = k = 90
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_pictures(tmp_path, name):
    mode, options, expected = KINDS[name]
    path = tmp_path / name
    if mode == "P":
        image = Image.new("P", (12, 10), 3)
        image.putpalette([0, 0, 0] * 3 + [90, 90, 90])
        image.save(path)
    else:
        picture(path, 90, mode=mode, **options)
    for channels in (1, 3):
        array = photo.read(path, channels)
        assert array.shape == (10, 12, channels) and array.dtype == np.uint8
        assert np.abs(array - expected).max() <= 3
    assert photo.inspect(path) == (10, 12, 1 if mode == "L" else 3)


def test_sixteen_bits_become_eight(tmp_path):
    values = np.array([[0, 257 * 50 + 100, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert photo.read(tmp_path / "deep.png", 1)[..., 0].tolist() == [[0, 50, 255]]
    assert photo.inspect(tmp_path / "deep.png") == (1, 3, 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    image = Image.new("RGBA", (2, 1), (40, 40, 40, 255))
    image.putpixel((1, 0), (40, 40, 40, 0))
    image.convert(mode).save(tmp_path / "hole.png")
    values = photo.read(tmp_path / "hole.png", 1)[0, :, 0].tolist()
    assert abs(values[0] - 40) <= 3 and values[1] == 255


def test_pictures_are_turned_upright(tmp_path):
    image = Image.new("L", (3, 2), 0)
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[photo.ORIENTATION] = 6  # the camera's right is up: turn by a quarter clockwise
    image.save(tmp_path / "side.png", exif=exif)
    array = photo.read(tmp_path / "side.png", 1)
    assert array.shape == (3, 2, 1) == photo.inspect(tmp_path / "side.png")
    assert np.argwhere(array[..., 0] == 255).tolist() == [[0, 1]]


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert (photo.read(tmp_path / "film.gif", 1) == 10).all()


def test_grey_folders_have_one_channel(tmp_path):
    for name in ("a", "b"):
        for number in range(3):
            picture(tmp_path / name / f"{number}.png", mode="L")
    assert data.describe(tmp_path).image_shape == (10, 12, 1)
    assert data.arrays(tmp_path, "train", channels=3)[0].shape[1:] == (10, 12, 3)
    picture(tmp_path / "a" / "colour.png")
    assert data.describe(tmp_path).image_shape == (10, 12, 3)


def test_names_in_other_scripts(tmp_path):
    for name in ("кошка", "chien qui dort"):
        for number in range(3):
            picture(tmp_path / name / f"Ä {number}.PNG")
    assert data.describe(tmp_path).classes == ("chien qui dort", "кошка")
    assert len(list(data.load(tmp_path, "train"))) == 2


def spoil(root):
    """Puts four unusable files among the pictures."""
    (root / "cat" / "empty.jpg").write_bytes(b"")
    (root / "cat" / "text.png").write_text("this is no picture")
    (root / "dog" / "readme.txt").write_text("hello")
    whole = picture(root / "dog" / "half.jpg", size=(200, 200))
    whole.write_bytes(whole.read_bytes()[:700])
    return {
        "cat/empty.jpg: empty",
        "cat/text.png: not a picture",
        "dog/readme.txt: not a picture",
        "dog/half.jpg: image file is truncated",
    }


def test_unusable_pictures_are_told_by_name_and_count(pictures):
    expected = spoil(pictures)
    for action in (data.describe, lambda path: data.load(path, "train"), lambda path: data.arrays(path, "test")):
        with pytest.raises(ValueError) as error:
            action(pictures)
        text = str(error.value)
        assert "4 of 34 files cannot be used" in text and "on_error='skip'" in text and "\n" not in text
        assert not [part for part in expected if part not in text]


def test_unusable_pictures_are_skipped_on_demand_with_a_warning(pictures):
    clean = data.arrays(pictures, "train")
    spoil(pictures)
    with pytest.warns(UserWarning, match="4 of 34 files cannot be used: cat/empty.jpg: empty; .* They are left out"):
        images, labels = data.arrays(pictures, "train", on_error="skip")
    np.testing.assert_array_equal(images, clean[0])
    np.testing.assert_array_equal(labels, clean[1])
    with pytest.warns(UserWarning):
        assert data.load(pictures, "train", on_error="skip").cardinality() == 20
    with pytest.raises(ValueError, match="on_error must be"):
        data.arrays(pictures, "train", on_error="ignore")


def test_only_the_first_few_are_listed(pictures):
    for number in range(30):
        (pictures / "cat" / f"x{number:02}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"30 of 60 files cannot be used: cat/x00\.jpg: empty; .*; and 25 more"):
        data.describe(pictures)


def test_picture_that_is_mended_is_read_again(pictures):
    path = pictures / "cat" / "new.png"
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"cat/new\.png"):
        data.describe(pictures)
    picture(path)
    assert sum(data.describe(pictures).splits.values()) == 31


def build(root, text):
    for name in text.split():
        if name.endswith("/"):
            (root / name).mkdir(parents=True)
        else:
            picture(root / name)


@pytest.mark.parametrize(
    "layout, words",
    [
        ("", "0 class folders found"),
        ("1.jpg 2.jpg", "2 pictures lie outside the class folders: 1.jpg, 2.jpg"),
        ("a/1.jpg b/1.jpg 3.jpg", "1 pictures lie outside the class folders: 3.jpg"),
        ("a/1.jpg", "1 class folders found"),
        ("a/1.jpg b/", "class 'b' has no pictures"),
        ("train/a/1.jpg train/b/1.jpg test/a/1.jpg test/b/", "class 'b' has no pictures in test"),
        ("train/a/1.jpg train/b/1.jpg test/a/1.jpg test/c/1.jpg", "test has a class that train does not have: c"),
        (
            "train/a/1.jpg train/b/1.jpg val/a/1.jpg val/b/1.jpg valid/a/1.jpg valid/b/1.jpg",
            "two folders for the split validation",
        ),
        ("flowers/rose/1.jpg flowers/tulip/1.jpg", "did you mean"),
        ("a/1.jpg b/more/1.jpg", "there is a folder inside the class 'b': more"),
        ("train/1.jpg test/1.jpg train/a/1.jpg test/a/1.jpg", "1 pictures lie outside the class folders"),
    ],
)
def test_folders_that_are_no_classes(tmp_path, layout, words):
    build(tmp_path, layout)
    with pytest.raises(ValueError) as error:
        data.describe(tmp_path)
    assert words in str(error.value) and str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_class_of_nothing_but_unusable_files(tmp_path):
    build(tmp_path, "a/1.jpg a/2.jpg")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.jpg").write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="class 'b' has no pictures"):
        data.describe(tmp_path, on_error="skip")


def test_paths_where_no_folder_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        data.describe(tmp_path / "nothing")
    archive = tmp_path / "pictures.zip"
    archive.write_bytes(b"")
    with pytest.raises(ValueError, match=r"is a file: .*unpack"):
        data.describe(archive)


def test_home_and_relative_paths(pictures, monkeypatch):
    monkeypatch.setenv("HOME", str(pictures.parent))
    monkeypatch.chdir(pictures.parent)
    for path in (f"~/{pictures.name}", f"./{pictures.name}", pictures.name):
        assert data.describe(path).splits["train"] == 20


def test_no_warning_for_a_good_folder(pictures):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.arrays(pictures, "train", per_class=3)
