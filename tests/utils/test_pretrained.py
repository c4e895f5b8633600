"""The shipped weights against their card, the backbone, the script, and ImageNet's weights where a copy is at hand."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from utils import data, pretrained, transfer
from utils.data.errors import DataUnavailable
from utils.pretrained import train


def test_the_backbone_has_288_thousand_parameters():
    """Kernels by hand: 9 (32 + 32 32 + 32 64 + 64 64 + 64 128 + 128 128), and four numbers a filter for batch norm, two
    of them trained.
    """
    model = pretrained.backbone()
    kernels = 9 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    filters = 32 + 32 + 64 + 64 + 128 + 128
    assert sum(np.prod(v.shape) for v in model.trainable_weights) == kernels + 2 * filters == 286_880
    assert model.count_params() == 286_880 + 896
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.name for layer in convolutions] == [f"conv{n}" for n in range(1, 7)]
    assert [layer.filters for layer in convolutions] == [32, 32, 64, 64, 128, 128]
    assert [layer.name for layer in model.layers if "pool" in layer.name] == ["pool2", "pool4"]


def test_the_backbone_takes_any_size_and_rescales_inside():
    model = pretrained.backbone()
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 1)).astype("uint8")
    maps = transfer.predict(model, images, 2)
    assert maps.shape == (2, 8, 12, 128)
    np.testing.assert_allclose(transfer.predict(model, images.astype("float32"), 2), maps, rtol=1e-4, atol=1e-5)
    rescaled = keras.Model(model.input, model.get_layer("rescaling").output)
    ends = rescaled.predict_on_batch(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)).ravel()
    np.testing.assert_allclose(ends, [-1, 1], atol=1e-6)


def test_the_strided_backbone_has_415_thousand_parameters_and_maps_of_four_strides():
    """Kernels by hand: 9 (3 24 + 24 48 + 48 48 + 48 96 + 96 96 + 96 128 + 128 128), and two trained numbers a filter
    for batch norm.
    """
    model = pretrained.backbone((96, 64, 3), network="strided")
    filters = (24, 48, 48, 96, 96, 128, 128)
    kernels = 9 * sum(before * after for before, after in zip((3, *filters), filters))
    assert sum(np.prod(v.shape) for v in model.trainable_weights) == kernels + 2 * sum(filters) == 415_352
    strides = {layer.name: 96 // layer.output.shape[1] for layer in model.layers if layer.name.endswith("_relu")}
    assert [strides[f"conv{n}_relu"] for n in range(1, 8)] == [2, 4, 4, 8, 8, 16, 16]
    assert model.output_shape == (None, 6, 4, 128)


def test_the_top_needs_classes():
    assert pretrained.backbone((32, 32, 1), 52, include_top=True).output_shape == (None, 52)
    for options in ({"include_top": True}, {"classes": 52}):
        with pytest.raises(ValueError, match="go together"):
            pretrained.backbone(**options)
    with pytest.raises(ValueError, match="no network 'deep' \\(known: pooled, strided\\)"):
        pretrained.backbone(network="deep")


@pytest.mark.parametrize("name", pretrained.names())
def test_shipped_files_are_small_and_those_of_the_card(name):
    card, path = pretrained.describe(name), pretrained.FOLDER / f"{name}.npz"
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == card["sha256"] and len(content) == card["bytes"] < 900_000
    assert card["command"] == f"python -m utils.pretrained.train {name} --seed {card['seed']}"
    weights = np.load(path)
    assert all(weights[key].dtype == np.float16 and np.isfinite(weights[key]).all() for key in weights.files)
    assert sum(weights[key].size for key in weights.files) == card["parameters"]


@pytest.mark.parametrize("name", pretrained.names())
def test_shipped_weights_score_what_the_card_says(name):
    """On a slice of the test split, within three standard deviations of a binomial count."""
    card = pretrained.describe(name)
    images, labels = data.arrays(card["training"]["data"], "test")
    chosen = np.random.default_rng(0).permutation(len(images))[:520]
    logits = transfer.predict(pretrained.load(name, include_top=True), images[chosen], 104)
    score, expected = np.mean(logits.argmax(axis=1) == labels[chosen]), card["score"]["accuracy"]
    assert abs(score - expected) < 3 * np.sqrt(expected * (1 - expected) / len(chosen)) + 1e-3
    assert expected > 0.9 and card["score"]["chance"] == pytest.approx(1 / len(card["classes"]), abs=1e-4)


def test_without_the_top_the_maps_are_those_below_it():
    images = data.arrays("glyphs", "test")[0][:4]
    top, bare = pretrained.load("glyphs", include_top=True), pretrained.load("glyphs")
    np.testing.assert_allclose(
        transfer.embed(bare, images, batch_size=4), transfer.embed(top, images, "conv6_relu", 4), rtol=1e-4, atol=1e-5
    )


def test_pretrained_features_beat_random_ones_on_handwritten_digits():
    """Five images a class, the layer before the last, mean over three draws: .90 against .79 when this was measured."""
    images, labels = data.arrays("digits", "train", image_size=32)
    test_images, test_labels = (part[:250] for part in data.arrays("digits", "test", image_size=32))
    model = pretrained.load("glyphs")
    methods = {}
    for name, network in {"letters": model, "random": transfer.reinitialise(model)}.items():
        codes, test_codes = (transfer.embed(network, part, "conv5_relu", 250) for part in (images[:500], test_images))
        methods[name] = (codes, test_codes, lambda x, y, seed: transfer.linear_probe(x, y))
    table = transfer.learning_curve(methods, labels[:500], test_labels, per_class=(5,))
    means = table.groupby("method").accuracy.mean()
    assert means["letters"] > means["random"] + 0.04 and means["letters"] > 0.8


def test_a_changed_file_and_an_unknown_name(tmp_path, monkeypatch):
    for path in (pretrained.FOLDER / "glyphs.npz", pretrained.FOLDER / "glyphs.json"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    content = bytearray((tmp_path / "glyphs.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "glyphs.npz").write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"glyphs\.npz is not the file that glyphs\.json describes"):
        pretrained.load("glyphs")
    (tmp_path / "glyphs.npz").unlink()
    with pytest.raises(ValueError, match=r"glyphs\.npz is not the file"):
        pretrained.load("glyphs")
    with pytest.raises(ValueError, match="no pretrained weights 'digits'; there are: glyphs"):
        pretrained.load("digits")


# The script


def test_the_script_writes_weights_that_load(tmp_path, monkeypatch, capsys):
    """On 208 images for one epoch: the files fit together, and the same seed gives the same bytes."""
    few = {split: tuple(part[:208] for part in data.arrays("glyphs", split)) for split in ("train", "test")}
    monkeypatch.setattr(train.data, "arrays", lambda name, split: few[split])
    contents = []
    for folder in ("a", "b"):
        train.main(["glyphs", "--seed", "3", "--epochs", "1", "--folder", str(tmp_path / folder)])
        contents.append((tmp_path / folder / "glyphs.npz").read_bytes())
    assert contents[0] == contents[1]
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "a")
    card = pretrained.describe("glyphs")
    assert card["command"].endswith("glyphs --seed 3 --epochs 1") and card["score"]["images"] == 208
    logits = transfer.predict(pretrained.load("glyphs", include_top=True), few["test"][0], 104)
    assert np.mean(logits.argmax(axis=1) == few["test"][1]) == pytest.approx(card["score"]["accuracy"], abs=1e-4)
    assert "accuracy" in capsys.readouterr().out.splitlines()[-1]


def test_a_warp_of_zoom_1_moves_a_picture_little_and_one_of_2_doubles_it():
    images = np.zeros((200, 33, 33, 1), np.uint8)
    images[:, 12:21, 12:21] = 255
    area = [float((train.warped(images, (zoom, zoom), np.random.default_rng(0)) > 127).mean()) for zoom in (1.0, 2.0)]
    assert area[0] == pytest.approx(81 / 33**2, rel=0.1) and area[1] == pytest.approx(4 * area[0], rel=0.1)
    again = train.warped(images, (1.0, 1.0), np.random.default_rng(0))
    assert np.array_equal(again, train.warped(images, (1.0, 1.0), np.random.default_rng(0)))
    assert not np.array_equal(again[0], again[1]) and again.dtype == np.uint8


def test_the_script_names_what_it_can_make(capsys):
    with pytest.raises(SystemExit) as exit_:
        train.main(["photos"])
    assert exit_.value.code == 2 and "glyphs" in capsys.readouterr().err


# ImageNet


MODULES = {
    "ConvNeXt": "convnext",
    "DenseNet": "densenet",
    "EfficientNet": "efficientnet",
    "EfficientNetV2": "efficientnet_v2",
    "InceptionResNetV2": "inception_resnet_v2",
    "InceptionV3": "inception_v3",
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3",
    "NASNet": "nasnet",
    "ResNet": "resnet",
    "ResNet101V2": "resnet_v2",
    "ResNet152V2": "resnet_v2",
    "ResNet50V2": "resnet_v2",
    "VGG": "vgg16",
    "Xception": "xception",
}


@pytest.mark.parametrize("family", pretrained._PREPROCESSING)
def test_the_preprocessing_inside_is_that_of_keras(family):
    images = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3))
    inputs = keras.layers.Input((None, None, 3))
    model = keras.Model(inputs, pretrained._preprocess(inputs * 1, pretrained._PREPROCESSING[family]))
    expected = getattr(keras.applications, MODULES[family]).preprocess_input(images.astype("float32"))
    np.testing.assert_allclose(model.predict_on_batch(images.astype("uint8")), expected, rtol=1e-5, atol=2e-5)


def test_every_network_of_keras_has_its_preprocessing():
    """The longest family name that begins the network's: ResNet50V2 is not preprocessed as ResNet50."""
    networks = [
        name for name in dir(keras.applications) if isinstance(getattr(keras.applications, name), type(transfer.embed))
    ]
    assert len(networks) > 35
    for name in networks:
        assert any(name.startswith(family) for family in pretrained._PREPROCESSING), name
    assert pretrained._PREPROCESSING["ResNet50V2"] == "tf" and pretrained._PREPROCESSING["ResNet"] == "caffe"


def test_imagenet_is_flat_and_can_be_cloned_frozen_and_saved(tmp_path):
    model = pretrained.imagenet("MobileNetV2", weights=None, alpha=0.35)
    head = transfer.freeze(transfer.classifier(model, 3), "block_13_project_BN")
    assert head.get_layer("block_14_expand").trainable and not head.get_layer("block_13_project").trainable
    head.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("uint8")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict_on_batch(images), head.predict_on_batch(images), rtol=1e-4, atol=1e-5)


def test_the_order_of_colours_survives_cloning_and_saving(tmp_path):
    inputs = keras.layers.Input((None, None, 3))
    model = keras.Model(inputs, pretrained._preprocess(inputs, "caffe"))
    images = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype("uint8")
    expected = model.predict_on_batch(images)
    model.save(tmp_path / "model.keras")
    for other in (transfer.clone(model), keras.saving.load_model(tmp_path / "model.keras")):
        np.testing.assert_array_equal(other.predict_on_batch(images), expected)


def test_unknown_networks():
    for name in ("AlexNet", "MobileNetV9", "mobilenet_v2"):
        with pytest.raises(ValueError, match=f"no network '{name}'"):
            pretrained.imagenet(name)


def test_without_network_and_file_one_line_says_what_to_do(monkeypatch):
    address = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/weights_no_top.h5"

    def unreachable(*arguments, **options):
        raise Exception(f"URL fetch failure on {address}: None -- [Errno -3] Temporary failure in name resolution")

    def build(**options):
        unreachable()

    monkeypatch.setattr(keras.applications, "MobileNetV2", build)
    monkeypatch.setenv("KERAS_HOME", "/home/student/keras")
    with pytest.raises(DataUnavailable) as error:
        pretrained.imagenet()
    text = str(error.value)
    assert "\n" not in text and "/home/student/keras/models/weights_no_top.h5" in text
    assert address in text and 'utils.pretrained.load("glyphs")' in text


def imagenet_weights():
    """A folder that serves as KERAS_HOME: the caller's own, or the mirror beside the repository."""
    mirror = Path(__file__).parents[3] / "shared" / "mirror" / "keras_home"
    for home in (os.environ.get("KERAS_HOME"), mirror):
        if home and list(Path(home).glob("models/mobilenet_v2*no_top.h5")):
            return Path(home)
    return None


@pytest.mark.skipif(
    imagenet_weights() is None, reason="no ImageNet weights: neither KERAS_HOME nor a mirror beside the repository"
)
def test_imagenet_recognises_a_cat_and_a_cup(tmp_path):
    shutil.copytree(imagenet_weights() / "models", tmp_path / "models")
    script = """
import json, keras, numpy as np
from skimage import data
from skimage.transform import resize
from utils import pretrained
photographs = data.chelsea(), data.coffee()
images = np.stack([resize(image, (224, 224), preserve_range=True) for image in photographs]).astype("uint8")
model = pretrained.imagenet(include_top=True)
names = [best[0][1] for best in keras.applications.mobilenet_v2.decode_predictions(model.predict_on_batch(images), 1)]
shape = pretrained.imagenet().predict_on_batch(images[:, :128, :128]).shape
print(json.dumps([names, shape]))
"""
    environment = {
        **os.environ,
        "KERAS_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "error::UserWarning",
    }
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    names, shape = json.loads(done.stdout.splitlines()[-1])
    assert names[0] in ("Egyptian_cat", "tabby", "tiger_cat") and names[1] in ("espresso", "cup", "coffee_mug")
    assert shape == [2, 4, 4, 1280]
