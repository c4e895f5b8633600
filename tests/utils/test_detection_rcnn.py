"""R-CNN and OverFeat in small: their parts by hand, and that they learn to find drawn objects."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import boxes as geometry
from utils.detection import evaluation, overfeat
from utils.detection.overfeat import OverFeat, merge
from utils.detection.rcnn import RCNN, warp

# Scenes of a dark or a bright square, which a net tells apart without training.


def squares(count, seed=0, size=64):
    random = np.random.default_rng(seed)
    images = np.full((count, size, size, 3), 120, "uint8") + random.integers(0, 16, (count, size, size, 1), np.uint8)
    boxes, labels = np.zeros((count, 2, 4), "float32"), np.full((count, 2), -1, "int32")
    for image in range(count):
        side, label = random.integers(18, 30), image % 2
        x, y = random.integers(0, size - side, 2)
        images[image, y : y + side, x : x + side] = 250 * label
        boxes[image, 0], labels[image, 0] = (x, y, x + side, y + side), label
    return images, {"boxes": boxes, "labels": labels}


def near(targets, seed=0, count=40, size=64):
    """Proposals: boxes around the objects, and others."""
    random = np.random.default_rng(seed)
    found = []
    for truth in targets["boxes"][:, 0]:
        around = truth + random.normal(0, 3, (count // 2, 4))
        corners = random.uniform(0, size - 20, (count // 2, 2))
        found.append(np.concatenate([around, np.hstack([corners, corners + random.uniform(10, 20, (count // 2, 2))])]))
    return [geometry.clip(boxes.astype("float32"), size, size) for boxes in found]


@pytest.fixture(scope="module")
def crop_features():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(16, 3, 2, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
        ]
    )


def test_rcnn_finds_objects_and_moves_their_boxes(crop_features):
    images, targets = squares(24)
    model = RCNN(crop_features, 2, size=24, context=2).fit(images, targets, near(targets))
    fresh, truth = squares(12, seed=1)
    proposals = near(truth, seed=1)
    found = model.detect(fresh, proposals)
    assert found["boxes"].shape == (12, 100, 4) and found["labels"].dtype == np.int32
    assert evaluation.evaluate(found, truth)["AP50"] > 0.9
    assert found["boxes"].min() >= 0 and found["boxes"].max() <= 64
    # The regression places the boxes better than the proposals were.
    first = found["boxes"][:, 0][:, None]
    moved = geometry.iou(first, truth["boxes"][:, :1])[:, 0, 0]
    before = [geometry.iou(boxes[:20], box[None]).mean() for boxes, box in zip(proposals, truth["boxes"][:, 0])]
    assert moved.mean() > np.mean(before)
    assert (np.diff(found["scores"]) <= 0).all()


def test_rcnn_says_what_it_lacks(crop_features):
    images, targets = squares(4)
    with pytest.raises(ValueError, match="train it first"):
        RCNN(crop_features, 2, size=24).detect(images, near(targets))
    none = targets | {"labels": np.full_like(targets["labels"], -1)}
    with pytest.raises(ValueError, match="there is no object to learn from"):
        RCNN(crop_features, 3, size=24).fit(images, none, near(targets))
    trained = RCNN(crop_features, 2, size=24).fit(images, targets, near(targets))
    before = trained.detect(images, near(targets))
    for labels, said in (
        (none["labels"], "no object"),
        (np.where(targets["labels"] < 0, -1, targets["labels"] + 7), "a label 8, but there are only 2 classes"),
    ):
        with pytest.raises(ValueError, match=said):
            trained.fit(images, targets | {"labels": labels}, near(targets))
    np.testing.assert_array_equal(trained.detect(images, near(targets))["boxes"], before["boxes"])
    with pytest.raises(ValueError, match="4 images, targets of 4 and proposals for 3"):
        RCNN(crop_features, 2, size=24).fit(images, targets, near(targets)[:3])


def test_rcnn_never_finds_a_class_that_it_was_not_shown(crop_features):
    images, targets = squares(8)
    same = RCNN(crop_features, 2, size=24).fit(images, targets, near(targets)).detect(images, near(targets), 0.0)
    more = RCNN(crop_features, 3, size=24).fit(images, targets, near(targets)).detect(images, near(targets), 0.0)
    for name, values in same.items():
        np.testing.assert_array_equal(more[name], values)
    spread = targets | {"labels": np.where(targets["labels"] == 1, 4, targets["labels"])}
    found = RCNN(crop_features, 6, size=24).fit(images, spread, near(targets)).detect(images, near(targets))
    assert set(found["labels"].ravel()) == {-1, 0, 4}
    assert evaluation.evaluate(found, spread)["AP50"] > 0.9


def test_rcnn_learns_nothing_from_ignored_objects(crop_features):
    images, targets = squares(8)
    # In each image a second object, ignored, of the other class, and proposals around it, which are good for nothing.
    with_ignored = {name: values.copy() for name, values in targets.items()}
    corner = np.array([0, 0, 12, 12], "float32")
    kept = geometry.iou(corner[None], targets["boxes"][:, 0])[0] == 0
    with_ignored["boxes"][kept, 1], with_ignored["labels"][kept, 1] = corner, 1 - targets["labels"][kept, 0]
    with_ignored["ignored"] = np.stack([np.zeros(8, bool), kept], axis=1)
    assert kept.sum() >= 4
    far = [b[geometry.iou(b, corner[None])[:, 0] < 0.3] if k else b for b, k in zip(near(targets), kept)]
    around = corner + np.array([[0, 0, 1, 1], [0, 1, 2, 1]], "float32")
    proposals = [np.concatenate([boxes, around]) if k else boxes for boxes, k in zip(far, kept)]
    ours = RCNN(crop_features, 2, size=24).fit(images, with_ignored, proposals)
    same = RCNN(crop_features, 2, size=24).fit(images, targets, far)
    for label in range(2):
        np.testing.assert_allclose(ours.svms[label].coef_, same.svms[label].coef_, rtol=1e-5)
        np.testing.assert_allclose(ours.regressions[label].coef_, same.regressions[label].coef_, rtol=1e-5)
    counted = RCNN(crop_features, 2, size=24).fit(images, with_ignored | {"ignored": np.zeros((8, 2), bool)}, proposals)
    assert not np.allclose(counted.svms[0].coef_, same.svms[0].coef_, rtol=1e-3)


def test_rcnn_without_proposals_finds_nothing(crop_features):
    images, targets = squares(8)
    model = RCNN(crop_features, 2, size=24).fit(images, targets, near(targets))
    found = model.detect(images[:1], [np.zeros((0, 4))], max_detections=5)
    assert (found["labels"] == -1).all() and found["boxes"].shape == (1, 5, 4)


def test_warp_by_hand():
    ramp = np.repeat(np.arange(16, dtype="float32")[None, :, None], 16, axis=0).repeat(3, axis=-1)
    (crop,) = warp(ramp, [[4, 4, 12, 12]], 8)
    np.testing.assert_allclose(crop[:, :, 0], np.tile(np.arange(4, 12), (8, 1)), atol=1e-4)
    # Twice as high as wide: stretched, all the same. With two pixels of context, the box fills the middle four of
    # eight.
    (stretched,) = warp(ramp, [[4, 0, 8, 8]], 8)
    np.testing.assert_allclose(stretched[0, :, 0], 3.75 + 0.5 * np.arange(8), atol=1e-4)
    (context,) = warp(ramp, [[6, 6, 10, 10]], 8, context=2)
    np.testing.assert_allclose(context[0, :, 0], np.arange(4, 12), atol=1e-4)
    (outside,) = warp(ramp, [[100, 100, 110, 110]], 8)
    np.testing.assert_allclose(outside, 7.5, atol=1e-4)


# OverFeat


def test_the_grid_is_what_the_net_sees_of_each_window_alone():
    keras.utils.set_random_seed(0)
    model = OverFeat(2, (64, 64, 3), scales=(1.0,), width=8)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    logits, deltas = (ops.convert_to_numpy(part) for part in model(image))
    assert logits.shape == (1, 9, 3) and deltas.shape == (1, 9, 2, 4)
    single = OverFeat(2, (48, 48, 3), scales=(1.0,), width=8)
    for theirs, ours in ((single.features, model.features), (single.class_head, model.class_head)):
        theirs.set_weights(ours.get_weights())
    for index, box in enumerate(model.windows.astype(int)):
        left, top, right, bottom = box
        assert (right - left, bottom - top) == (48, 48)
        alone, _ = single(image[:, top:bottom, left:right])
        np.testing.assert_allclose(ops.convert_to_numpy(alone)[0, 0], logits[0, index], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("side", [48, 55, 56, 96, 100, 144])
def test_as_many_windows_as_the_net_has_outputs(side):
    maps = overfeat.features(4).compute_output_shape((None, side, side, 3))
    assert len(overfeat.windows((side, side), (side, side))) == (maps[1] - 3) ** 2


def test_windows_of_an_enlarged_image_are_smaller():
    found = overfeat.windows((96, 96), (48, 48))
    np.testing.assert_allclose(found[0], [0, 0, 24, 24])
    np.testing.assert_allclose(found[-1], [24, 24, 48, 48])


class Repeated(keras.utils.PyDataset):
    def __init__(self, data, steps):
        super().__init__()
        self.data, self.steps = data, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        at = slice(8 * (index % 8), 8 * (index % 8) + 8)
        return {name: values[at] for name, values in self.data.items()}


def test_overfeat_learns_and_both_mergers_find_the_objects(tmp_path):
    keras.utils.set_random_seed(0)
    images, targets = squares(64)
    model = OverFeat(2, (64, 64, 3), scales=(1.0, 1.75), width=8)
    model.compile(keras.optimizers.Adam(3e-3))
    history = model.fit(Repeated({"image": images, **targets}, 8), epochs=12, verbose=0).history
    assert set(history) == {"loss", "class_loss", "box_loss"}
    assert history["class_loss"][-1] < history["class_loss"][0] / 2
    fresh, truth = squares(16, seed=1)
    suppressed, averaged = model.detect(fresh, iou_threshold=0.3), model.detect_merged(fresh)
    for found in (suppressed, averaged):
        assert evaluation.evaluate(found, truth)["AP50"] > 0.5
        assert found["boxes"].shape == (16, 100, 4)
    model.save(tmp_path / "overfeat.keras")
    loaded = keras.saving.load_model(tmp_path / "overfeat.keras")
    np.testing.assert_allclose(loaded.detect(fresh)["scores"], model.detect(fresh)["scores"], atol=1e-4)


def test_the_box_loss_leaves_the_features_alone():
    images, targets = squares(8)
    model = OverFeat(2, (64, 64, 3), scales=(1.0,), width=8)
    batch = {"image": images, **targets}

    class BoxLossOnly(OverFeat):
        def losses_of(self, batch, outputs):
            parts = super().losses_of(batch, outputs)
            return {"class_loss": 0 * parts["class_loss"], "box_loss": parts["box_loss"]}

    model = BoxLossOnly(2, (64, 64, 3), scales=(1.0,), width=8)
    model.compile(keras.optimizers.SGD(0.1))
    before = [np.array(value) for value in model.features.get_weights()], model.box_head.get_weights()
    trainable = [np.array(ops.convert_to_numpy(v)) for v in model.features.trainable_variables]
    model.train_on_batch(batch)
    for old, new in zip(trainable, model.features.trainable_variables):
        np.testing.assert_allclose(ops.convert_to_numpy(new), old, atol=1e-7)
    assert any((old != new).any() for old, new in zip(before[1], model.box_head.get_weights()))


def test_merging_by_hand():
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60], [0, 0, 10, 10], [0, 0, 0, 0]], "float32")
    labels, scores = np.array([0, 0, 0, 1, -1]), np.array([0.5, 0.3, 0.6, 0.4, 0.0])
    found, classes, values = merge(boxes, labels, scores)
    np.testing.assert_allclose(found, [[1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10]])
    assert classes.tolist() == [0, 0, 1]
    np.testing.assert_allclose(values, [0.8 / 1.8, 0.6 / 1.6, 0.4 / 1.4], rtol=1e-5)
    nothing = merge(np.zeros((3, 4)), np.full(3, -1), np.zeros(3))
    assert nothing[0].shape == (0, 4) and len(nothing[1]) == len(nothing[2]) == 0


def test_merging_averages_where_suppression_chooses():
    random = np.random.default_rng(0)
    noisy = np.array([10, 10, 40, 40]) + random.normal(0, 3, (30, 4))
    (averaged,), _, _ = merge(noisy, np.zeros(30, int), random.random(30))
    best = noisy[random.random(30).argmax()]
    truth = np.array([[10, 10, 40, 40]])
    assert geometry.iou(averaged[None], truth)[0, 0] > geometry.iou(best[None], truth)[0, 0]


def test_an_image_smaller_than_a_window():
    with pytest.raises(ValueError, match="smaller than a window of 48"):
        OverFeat(2, (64, 64, 3), scales=(0.5,))
