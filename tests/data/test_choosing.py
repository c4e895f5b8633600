"""What a notebook says of the data it is given."""

import numpy as np
import pytest
from strangers import folder

from utils import data


def test_a_folder_is_described_and_its_note_is_shown(tmp_path, capsys):
    root = str(folder(tmp_path / "own", "classes", count=4, size=(8, 10)))
    description = data.chosen(root)
    assert description.classes == ("disc", "square") and all(description.splits.values())
    assert "There is no test split" in capsys.readouterr().out
    assert data.chosen("digits").name == "digits" and not capsys.readouterr().out


@pytest.mark.parametrize(
    ("layout", "options", "words"),
    [
        (
            "pairs",
            {},
            "needs one label for each image (a folder with one subfolder per class), and .* has mask: choose",
        ),
        ("voc", {"target": "mask"}, "needs masks .*, and .* has boxes, labels"),
        ("classes", {"target": "boxes"}, "needs boxes .*, and .* has label"),
        ("classes", {"classes": 3}, r"tells at least 3 classes apart, and .* has 2 classes \(disc, square\)"),
        ("classes", {"most": 1}, "tells at most 1 classes apart, and .* has 2"),
    ],
)
def test_what_a_notebook_cannot_use_is_told_in_one_line(tmp_path, layout, options, words):
    root = folder(tmp_path / "own", layout, count=4, size=(12, 14))
    with pytest.raises(
        ValueError, match=f"^this notebook {words.replace('(a folder', '.a folder').replace('class),', 'class.,')}"
    ) as error:
        data.chosen(str(root), **options)
    assert "\n" not in str(error.value)


def test_too_few_images_are_told(tmp_path):
    root = folder(tmp_path / "own", "pairs", "whole", count=1, size=(12, 14))
    with pytest.raises(ValueError, match=r"has none for validation: 2 in all are too few"):
        data.chosen(str(root), "mask")


def test_unusable_files_are_left_out_on_demand(tmp_path):
    root = folder(tmp_path / "own", "classes", count=4, size=(8, 10))
    next((root / "train" / "disc").iterdir()).write_bytes(b"no picture")
    with pytest.raises(ValueError, match="on_error='skip'"):
        data.chosen(str(root))
    with pytest.warns(UserWarning, match="They are left out"):
        assert data.chosen(str(root), on_error="skip").splits["train"] == 7


def test_numbers_of_images_are_at_most(tmp_path):
    root = folder(tmp_path / "own", "classes", count=5, size=(8, 10))
    labels = data.arrays(str(root), "train", per_class=100)[1]
    assert np.bincount(labels).tolist() == [5, 5] and labels[:4].tolist() == [0, 1, 0, 1]
    assert len(data.arrays(str(root), "train[:1000]")[1]) == 10
