"""The base of all detectors, proved with a small anchor-based one that learns to find squares."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import boxes as geometry
from utils.detection import anchors, coding, losses, matching
from utils.detection.detector import Detector, image_of

SIZE, STRIDE, OBJECTS = 32, 8, 3


@keras.saving.register_keras_serializable("tests")
class Squares(Detector):
    """One square anchor at each of 4 x 4 places; classes are dark and bright squares."""

    loss_names = ("class_loss", "box_loss")

    def __init__(self, classes=2, width=16, **kwargs):
        super().__init__(settings={"classes": classes, "width": width}, **kwargs)
        self.classes = classes
        self.anchors = anchors.grid((SIZE // STRIDE, SIZE // STRIDE), STRIDE, (12,), (1,))
        x = images = keras.Input((SIZE, SIZE, 3))
        x = layers.Rescaling(1 / 127.5, -1)(x)
        for _ in range(3):
            x = layers.Conv2D(width, 3, 2, "same", activation="relu", kernel_regularizer=keras.regularizers.L2(1e-5))(x)
        x = layers.Conv2D(width, 3, 1, "same", activation="relu")(x)
        x = layers.Conv2D(classes + 4, 1)(x)
        self.network = keras.Model(images, layers.Reshape((-1, classes + 4))(x))

    def call(self, inputs, training=False):
        return self.network(image_of(inputs), training=training)

    def losses_of(self, batch, outputs):
        outputs = ops.cast(outputs, "float32")
        valid = batch["labels"] >= 0
        matched = matching.match(geometry.iou(batch["boxes"], self.anchors), 0.4, 0.2, valid=valid)
        at = ops.maximum(matched, 0)
        labels = ops.where(matched >= 0, ops.take_along_axis(ops.cast(batch["labels"], "int32"), at, axis=1), -1)
        truth = ops.take_along_axis(batch["boxes"], at[..., None], axis=1)
        positive = ops.cast(matched >= 0, "float32")
        total = ops.maximum(ops.sum(positive), 1)
        class_loss = losses.sigmoid_focal(ops.one_hot(labels, self.classes), outputs[..., : self.classes])
        counted = ops.cast(matched != matching.IGNORED, "float32")[..., None]
        box_loss = losses.smooth_l1(coding.encode(truth, self.anchors), outputs[..., self.classes :])
        return {
            "class_loss": ops.sum(class_loss * counted) / total,
            "box_loss": ops.sum(box_loss * positive[..., None]) / total,
        }

    def boxes_and_scores(self, outputs):
        outputs = ops.cast(outputs, "float32")
        return coding.decode(outputs[..., self.classes :], self.anchors), ops.sigmoid(outputs[..., : self.classes])


def scenes(count, seed=0):
    random = np.random.default_rng(seed)
    images = np.full((count, SIZE, SIZE, 3), 127, "uint8")
    boxes = np.zeros((count, OBJECTS, 4), "float32")
    labels = np.full((count, OBJECTS), -1, "int32")
    for image in range(count):
        for index, place in enumerate(random.choice(4, random.integers(1, OBJECTS + 1), replace=False)):
            x, y = random.integers(0, 5, 2) + 16 * np.array([place % 2, place // 2])
            side, label = random.integers(9, 13), random.integers(2)
            images[image, y : y + side, x : x + side] = 255 * label
            boxes[image, index], labels[image, index] = (x, y, x + side, y + side), label
    return {"image": images, "boxes": boxes, "labels": labels}


class Batches(keras.utils.PyDataset):
    """Dicts on every backend; the last batch is smaller."""

    def __init__(self, data, size):
        super().__init__()
        self.data, self.size = data, size

    def __len__(self):
        return -(-len(self.data["labels"]) // self.size)

    def __getitem__(self, index):
        return {name: values[index * self.size : (index + 1) * self.size] for name, values in self.data.items()}


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = Squares()
    model.compile(keras.optimizers.Adam(3e-3))
    history = model.fit(Batches(scenes(256), 16), epochs=12, verbose=0)
    return model, history.history


def test_training_lowers_every_loss_and_reports_each(trained):
    _, history = trained
    assert set(history) == {"loss", "class_loss", "box_loss"}
    for values in history.values():
        assert values[-1] < values[0] / 2
    extra = history["loss"][-1] - history["class_loss"][-1] - history["box_loss"][-1]
    assert 0 < extra < 0.05  # what regularises the weights


def test_it_finds_the_squares(trained):
    model, _ = trained
    found = model.evaluate_on(Batches(scenes(40, seed=1), 16))
    untrained = Squares().evaluate_on(Batches(scenes(40, seed=1), 16), classes=2)
    assert found["AP50"] > 0.8 > 0.2 > untrained["AP50"]
    assert found["per_class"].shape == (2,)


def test_evaluate_gives_the_losses(trained):
    model, _ = trained
    found = model.evaluate(Batches(scenes(20, seed=1), 8), verbose=0, return_dict=True)
    assert set(found) == {"loss", "class_loss", "box_loss"}


def test_detections_are_padded_cut_and_sorted(trained):
    model, _ = trained
    images = scenes(5, seed=2)["image"]
    found = model.detect(images, max_detections=7)
    assert found["boxes"].shape == (5, 7, 4) and found["boxes"].dtype == np.float32
    assert found["labels"].shape == found["scores"].shape == (5, 7) and found["labels"].dtype == np.int32
    assert (np.diff(found["scores"]) <= 0).all()
    assert found["boxes"].min() >= 0 and found["boxes"].max() <= SIZE
    padding = found["labels"] < 0
    assert padding.any() and not found["scores"][padding].any() and not found["boxes"][padding].any()
    strict = model.detect(images, score_threshold=0.5, max_detections=7)
    assert (strict["scores"][strict["labels"] >= 0] > 0.5).all()


def test_an_odd_last_batch_is_filled_and_changes_nothing(trained):
    model, _ = trained
    images = scenes(11, seed=3)["image"]
    together, apart = (
        model.detect(images, batch_size=4),
        [model.detect(images[i : i + 1], batch_size=4) for i in range(11)],
    )
    for name, values in together.items():
        np.testing.assert_allclose(values, np.concatenate([part[name] for part in apart]), rtol=1e-4, atol=1e-3)


def test_nothing_is_traced_again(trained, monkeypatch):
    model, _ = trained
    model.detect(scenes(4)["image"], batch_size=4)
    calls = []
    monkeypatch.setattr(Squares, "boxes_and_scores", lambda *inputs: calls.append(1) or 1 / 0)
    if keras.backend.backend() != "torch":  # PyTorch runs it every time
        model.detect(scenes(3)["image"], 0.3, 0.6, batch_size=4)
        assert not calls


def test_saved_and_loaded(trained, tmp_path):
    model, _ = trained
    images = scenes(4, seed=4)["image"]
    model.save(tmp_path / "squares.keras")
    loaded = keras.saving.load_model(tmp_path / "squares.keras")
    assert type(loaded) is Squares and loaded.get_config() == model.get_config()
    for name, values in loaded.detect(images).items():
        np.testing.assert_allclose(values, model.detect(images)[name], rtol=1e-4, atol=1e-3)
    before = loaded.evaluate(Batches(scenes(16), 16), verbose=0, return_dict=True)
    loaded.fit(Batches(scenes(32), 16), epochs=1, verbose=0)  # goes on where it stopped
    assert before["loss"] < 1
    other = Squares()
    model.save_weights(tmp_path / "squares.weights.h5")
    other.load_weights(tmp_path / "squares.weights.h5")
    np.testing.assert_allclose(other.detect(images)["scores"], model.detect(images)["scores"], atol=1e-4)


def test_no_images_and_bad_ones(trained):
    model, _ = trained
    found = model.detect(np.zeros((0, SIZE, SIZE, 3), "uint8"))
    assert found["boxes"].shape == (0, 100, 4) and found["labels"].shape == (0, 100)
    with pytest.raises(ValueError, match=r"takes images \(B, 32, 32, 3\), not"):
        model.detect(np.zeros((SIZE, SIZE, 3), "uint8"))
    with pytest.raises(ValueError, match="there are no images to evaluate"):
        model.evaluate_on([])
    with pytest.raises(ValueError, match="compile without loss"):
        Squares().compile("adam", loss="mse")


def test_a_batch_without_objects_has_finite_losses(trained):
    model, _ = trained
    empty = scenes(8)
    empty["labels"][:] = -1
    empty["boxes"][:] = 0
    found = model.evaluate(Batches(empty, 8), verbose=0, return_dict=True)
    assert all(np.isfinite(value) for value in found.values()) and found["box_loss"] == 0
    assert np.isnan(model.evaluate_on(Batches(empty, 8))["AP"])


def test_mixed_precision(mixed_precision):
    keras.utils.set_random_seed(0)
    model = Squares()
    model.compile(keras.optimizers.Adam(3e-3))
    data = scenes(32)
    data["boxes"] += 0.0
    history = model.fit(Batches(data, 16), epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert model.network.compute_dtype == "float16"
    assert model.detect(data["image"][:2])["boxes"].dtype == np.float32


def test_a_subclass_without_its_methods_says_so():
    class Bare(Detector):
        def call(self, inputs, training=False):
            return inputs

    bare = Bare(settings={})
    with pytest.raises(NotImplementedError, match="Bare has no losses_of"):
        bare.losses_of({}, None)
    with pytest.raises(NotImplementedError, match="Bare has no boxes_and_scores"):
        bare.boxes_and_scores(None)
