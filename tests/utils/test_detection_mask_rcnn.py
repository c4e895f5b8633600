"""Mask R-CNN: mask targets, pasting, keypoints, each alone against a slow version; the published counts; the whole."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from utils import architectures, data
from utils import boxes as geometry
from utils.detection import faster_rcnn, mask_rcnn

TRUTH = ("boxes", "labels", "masks", "keypoints")


def arrays(tree):
    return keras.tree.map_structure(ops.convert_to_numpy, tree)


@pytest.fixture(scope="module")
def batch():
    examples = next(iter(data.load("shapes", "train", batch_size=8)))
    return {key: np.asarray(examples[key]) for key in ("image", *TRUTH)}


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    return mask_rcnn.small(6, keypoints=7)


# Masks


def blobs(rng, images, objects, height, width):
    noise = ndimage.gaussian_filter(rng.normal(size=(images, objects, height, width)), (0, 0, 4, 4))
    return (noise > 0).astype("uint8")


def test_mask_targets_are_the_true_mask_cut_out():
    """Of 28 x 28 whole pixels, with a point on each, the target is what the slice holds: its pixels, or means of 4."""
    masks = blobs(np.random.default_rng(0), 2, 3, 64, 80)
    rois = np.array([[[10, 5, 38, 33], [40, 30, 68, 58]], [[0, 0, 28, 28], [52, 36, 80, 64]]], "float32")
    matched = np.array([[2, 0], [1, 1]], "int32")
    for size, step in ((28, 1), (14, 2)):
        found = arrays(mask_rcnn.mask_targets(masks, rois, matched, size, samples=step))
        for image in range(2):
            for place in range(2):
                left, top, right, bottom = rois[image, place].astype(int)
                own = masks[image, matched[image, place], top:bottom, left:right].astype("float64")
                expected = own.reshape(size, step, size, step).mean((1, 3))
                np.testing.assert_allclose(found[image, place], expected, atol=1e-5)


def test_mask_targets_between_the_pixels_are_means_of_interpolated_points():
    rng = np.random.default_rng(1)
    masks = blobs(rng, 2, 2, 40, 48)
    corner = rng.uniform(0, 20, (2, 3, 2))
    rois = np.concatenate([corner, corner + rng.uniform(6, 19, (2, 3, 2))], -1).astype("float32")
    matched = rng.integers(0, 2, (2, 3)).astype("int32")
    found = arrays(mask_rcnn.mask_targets(masks, rois, matched, 5, samples=3))
    steps = (np.arange(15) + 0.5) / 15
    for image in range(2):
        for place in range(3):
            left, top, right, bottom = rois[image, place]
            points = np.meshgrid(top + steps * (bottom - top) - 0.5, left + steps * (right - left) - 0.5, indexing="ij")
            own = masks[image, matched[image, place]].astype("float64")
            values = ndimage.map_coordinates(own, points, order=1, mode="nearest")
            np.testing.assert_allclose(found[image, place], values.reshape(5, 3, 5, 3).mean((1, 3)), atol=1e-4)


def test_the_mask_loss_is_that_of_the_true_class_alone():
    rng = np.random.default_rng(2)
    labels = np.array([[1, 3, 0], [2, -1, 0]], "int32")
    targets = rng.random((2, 3, 4, 4)).astype("float32")
    logits = rng.normal(size=(2, 3, 4, 4, 3)).astype("float32")
    expected = []
    for image, place in np.argwhere(labels > 0):
        p = 1 / (1 + np.exp(-logits[image, place, :, :, labels[image, place] - 1].astype("float64")))
        t = targets[image, place]
        expected.append(-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean())
    assert arrays(mask_rcnn.mask_loss(targets, labels, logits)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert arrays(mask_rcnn.mask_loss(targets, 0 * labels, logits)) == 0
    other = logits.copy()
    other[0, 0, :, :, 1:] += 5  # what the others say of this object does not count
    assert arrays(mask_rcnn.mask_loss(targets, labels, other)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_masks_are_enlarged_as_by_interpolation_with_zeros_around():
    rng = np.random.default_rng(3)
    masks = rng.random((2, 3, 7, 5)).astype("float32")
    boxes = np.array(
        [[[3.2, 4.7, 20.1, 30.4], [-5, -3, 12, 9], [0, 0, 40, 36]], [[30, 20, 44, 50], [7, 7, 7, 20], [1, 2, 3, 4]]],
        "float32",
    )
    found = arrays(mask_rcnn.enlarge(masks, boxes, 36, 40))
    assert found.shape == (2, 3, 36, 40)
    for image in range(2):
        for place in range(3):
            left, top, right, bottom = boxes[image, place].astype("float64")
            if right <= left:
                assert not found[image, place].any()
                continue
            rows = (np.arange(36) + 0.5 - top) / (bottom - top) * 7 - 0.5
            columns = (np.arange(40) + 0.5 - left) / (right - left) * 5 - 0.5
            points = np.meshgrid(rows, columns, indexing="ij")
            own = masks[image, place].astype("float64")
            expected = ndimage.map_coordinates(own, points, order=1, mode="grid-constant")
            np.testing.assert_allclose(found[image, place], expected, atol=1e-4)
    pasted = arrays(mask_rcnn.paste(masks, boxes, 36, 40))
    assert pasted.dtype == bool
    np.testing.assert_array_equal(pasted, found >= 0.5)


def test_a_mask_cut_out_and_pasted_is_the_mask(batch):
    """Of all objects of 16 pixels and more, with the mask branch's 28 x 28; boxes that lie a little off too."""
    rng = np.random.default_rng(4)
    boxes, masks = batch["boxes"], batch["masks"].astype(bool)
    shift = rng.uniform(-2, 2, boxes.shape).astype("float32") + np.float32([-3, -3, 3, 3])
    every = np.broadcast_to(np.arange(4, dtype="int32"), (8, 4))
    large = (batch["labels"] >= 0) & ((boxes[..., 2:] - boxes[..., :2]).min(-1) >= 16)
    assert large.sum() > 10
    for own in (boxes, boxes + shift):
        small = mask_rcnn.mask_targets(batch["masks"], own, every, 28)
        pasted = arrays(mask_rcnn.paste(small, own, 96, 96))
        overlap = (pasted & masks).sum((2, 3)) / np.maximum((pasted | masks).sum((2, 3)), 1)
        assert overlap[large].min() > 0.95


# Keypoints


def test_keypoint_targets_are_those_of_a_loop_and_are_decoded_within_half_a_bin():
    rng = np.random.default_rng(5)
    points = rng.uniform(8, 42, (2, 3, 7, 3)).astype("float32")
    points[..., 2] = rng.integers(0, 3, (2, 3, 7))
    corner = rng.uniform(0, 20, (2, 4, 2))
    rois = np.concatenate([corner, corner + rng.uniform(20, 40, (2, 4, 2))], -1).astype("float32")
    matched = rng.integers(0, 3, (2, 4)).astype("int32")
    points[0, matched[0, 0], 0] = [rois[0, 0, 2], rois[0, 0, 3], 2]  # on the corner: the last bin
    bins, there = arrays(mask_rcnn.keypoint_targets(points, rois, matched, 14))
    logits = np.zeros((2, 4, 14, 14, 7), "float32")
    for image in range(2):
        for place in range(4):
            left, top, right, bottom = rois[image, place]
            for kind, (x, y, visible) in enumerate(points[image, matched[image, place]]):
                inside = visible > 0 and left <= x <= right and top <= y <= bottom
                assert there[image, place, kind] == inside
                if inside:
                    row = min(int((y - top) / (bottom - top) * 14), 13)
                    column = min(int((x - left) / (right - left) * 14), 13)
                    assert bins[image, place, kind] == row * 14 + column
                    logits[image, place, row, column, kind] = 20
    assert there.sum() > 10 and not there.all()
    found = arrays(mask_rcnn.decode_keypoints(logits, rois))
    true = np.take_along_axis(points, matched[:, :, None, None], axis=1)
    bin_size = (rois[..., 2:] - rois[..., :2])[:, :, None] / 14
    assert (np.abs(found[..., :2] - true[..., :2]) / bin_size)[there].max() <= 0.5 + 1e-4
    assert found[there][:, 2].min() > 0.99  # 1 / (1 + 195 exp(-20))
    np.testing.assert_allclose(found[~there][:, 2], 1 / 196, rtol=1e-4)


def test_the_keypoint_loss_by_numpy():
    rng = np.random.default_rng(6)
    labels = np.array([[2, 0, 1]], "int32")
    bins, there = rng.integers(0, 16, (1, 3, 5)).astype("int32"), rng.random((1, 3, 5)) < 0.6
    logits = rng.normal(size=(1, 3, 4, 4, 5)).astype("float32")
    expected = []
    for place, kind in [(p, k) for p in (0, 2) for k in range(5) if there[0, p, k]]:
        own = logits[0, place, :, :, kind].astype("float64").reshape(-1)
        expected.append(np.log(np.exp(own).sum()) - own[bins[0, place, kind]])
    found = arrays(mask_rcnn.keypoint_loss(bins, there, labels, logits))
    assert found == pytest.approx(np.mean(expected), rel=1e-5)
    assert arrays(mask_rcnn.keypoint_loss(bins, ~there & there, labels, logits)) == 0


# The whole


@pytest.mark.once
@pytest.mark.parametrize(
    "name, options",
    [
        ("maskrcnn_resnet50_fpn", {"classes": 90}),
        ("keypointrcnn_resnet50_fpn", {"classes": 1, "mask_filters": None, "keypoints": 17}),
    ],
)
def test_the_published_counts(golden, name, options):
    """What torchvision has for the background and we have not: 4 numbers of a box from 1,024 features and a bias each;
    a mask from 256 and a bias.
    """
    model = architectures.outline(lambda: mask_rcnn.MaskRCNN(image_shape=(256, 256, 3), **options))
    params = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    of_background = 4 * 1025 + (257 if model.mask_head is not None else 0)
    assert params + of_background == golden("model_counts.json")["torchvision_detection"][name]["params"]
    if model.mask_head is not None:
        assert model.mask_head.output_shape == (None, 28, 28, 90)
    else:
        assert model.keypoint_head.output_shape == (None, 56, 56, 17)


def test_the_branches_learn_from_the_positive_rois_and_their_objects(net, batch):
    outputs = net(batch)
    targets = outputs["roi_targets"]
    labels = arrays(targets["labels"])
    assert net.positives == 12 and not (labels[:, 12:] > 0).any()
    assert outputs["mask_logits"].shape[1:] == (12, 28, 28, 6)
    assert outputs["keypoint_logits"].shape[1:] == (12, 56, 56, 7)
    found = arrays(net.losses_of({key: ops.convert_to_tensor(batch[key]) for key in TRUTH}, outputs))
    assert set(found) == set(net.loss_names)
    matched, rois = (arrays(targets[key])[:, :12] for key in ("matched", "rois"))
    wanted = mask_rcnn.mask_targets(batch["masks"], rois, matched, 28)
    expected = arrays(mask_rcnn.mask_loss(wanted, labels[:, :12], outputs["mask_logits"]))
    assert found["mask_loss"] == pytest.approx(float(expected), rel=1e-4)
    # Each positive RoI overlaps the object whose mask it learns by half at least.
    own = np.take_along_axis(batch["boxes"], matched[..., None], axis=1)
    overlap = geometry.iou(rois[..., None, :], own[..., None, :])[..., 0, 0]
    assert overlap[labels[:, :12] > 0].min() >= 0.5


def test_only_the_detected_boxes_get_a_mask(net, batch):
    """One box after the other: its features, its class's mask, pasted."""
    found = net.detect(batch["image"][:2], score_threshold=0.0, max_detections=5)
    maps = net.network(batch["image"][:2], training=False)["maps"]
    assert found["masks"].shape == (2, 5, 96, 96) and found["masks"].dtype == bool
    assert found["keypoints"].shape == (2, 5, 7, 3) and found["keypoints"].dtype == np.float32
    for image in range(2):
        for place in range(5):
            own = {level: x[image : image + 1] for level, x in maps.items()}
            box = found["boxes"][image : image + 1, place : place + 1]
            logits = arrays(net.mask_logits(own, box))[..., found["labels"][image, place]]
            soft = 1 / (1 + np.exp(-logits))
            whole = arrays(mask_rcnn.enlarge(soft, box, 96, 96))[0, 0]
            clear = np.abs(whole - 0.5) > 1e-3
            np.testing.assert_array_equal(found["masks"][image, place][clear], (whole >= 0.5)[clear])
            points = arrays(mask_rcnn.decode_keypoints(net.keypoint_logits(own, box), box))[0, 0]
            np.testing.assert_allclose(found["keypoints"][image, place, :, 2], points[:, 2], rtol=1e-3)
    none = net.detect(batch["image"][:2], score_threshold=1.0, max_detections=5)
    assert (none["labels"] == -1).all() and not none["masks"].any() and not none["keypoints"].any()


@pytest.mark.once
def test_eight_scenes_are_learnt_by_heart_and_the_net_is_saved(batch, tmp_path):
    keras.utils.set_random_seed(0)
    net = mask_rcnn.small(6, keypoints=7)
    net.compile(keras.optimizers.Adam(1e-3, clipnorm=5.0))
    for _ in range(100):
        logs = net.train_on_batch(batch, return_dict=True)
    assert set(net.loss_names) < set(logs)
    net.compile(keras.optimizers.SGD(0.0))  # batch norm's running statistics catch up
    for _ in range(30):
        net.train_on_batch(batch)
    for kind in ("bbox", "segm"):
        assert net.evaluate_on([batch], kind=kind, max_detections=20)["AP50"] == 1, kind
    found = net.detect(batch["image"], score_threshold=0.3, max_detections=8)
    apart = []
    for image in range(8):
        for box, label, points in zip(*(batch[key][image] for key in ("boxes", "labels", "keypoints"))):
            same = np.where(found["labels"][image] == label, geometry.iou(box[None], found["boxes"][image])[0], 0)
            if label >= 0:
                away = found["keypoints"][image, same.argmax(), :, :2] - points[:, :2]
                apart.extend(np.linalg.norm(away, axis=-1)[points[:, 2] > 0])
    assert np.median(apart) < 1.5  # pixels
    net.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert loaded.loss_names == net.loss_names
    again = loaded.detect(batch["image"], score_threshold=0.3, max_detections=8)
    np.testing.assert_array_equal(again["labels"], found["labels"])
    np.testing.assert_allclose(again["boxes"], found["boxes"], atol=1e-3)
    assert (again["masks"] == found["masks"]).mean() > 0.9999


@pytest.mark.parametrize("objects", [4, 0])
def test_no_objects_give_finite_losses(net, batch, objects):
    empty = {key: np.zeros_like(batch[key][:, :objects]) for key in TRUTH} | {"image": batch["image"]}
    empty["labels"] -= 1
    assert np.isfinite(arrays(net.compute_loss(empty, y_pred=net(empty))))
    parts = {tracker.name: float(arrays(tracker.result())) for tracker in net._loss_parts}
    assert parts["mask_loss"] == parts["keypoint_loss"] == parts["box_loss"] == 0


def plain(side=96):
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            keras.layers.Rescaling(1 / 255),
            *(keras.layers.Conv2D(8, 3, 2, "same", activation="relu") for _ in range(4)),
        ]
    )


def test_half_precision_trains(batch, mixed_precision):
    net = mask_rcnn.small(6, backbone=plain(), keypoints=7)
    assert net.mask_head.compute_dtype == "float16"
    losses = arrays(net.losses_of(batch, net(batch)))
    assert all(value.dtype == np.float32 and np.isfinite(value) for value in losses.values())
    net.compile(keras.optimizers.SGD(1e-4))
    assert all(np.isfinite(value) for value in net.train_on_batch(batch, return_dict=True).values())


def test_a_pyramid_and_keypoints_alone(batch, tmp_path):
    """Two levels, RoIs of 32 pixels and more from the coarser one; without masks none are learnt and none are given."""
    options = {"levels": (3, 4), "channels": 16, "sizes": ((20,), (40,)), "canonical": 32}
    net = mask_rcnn.small(6, backbone=plain(), mask_filters=None, keypoints=7, **options)
    assert net.loss_names == (*faster_rcnn.FasterRCNN.loss_names, "keypoint_loss")
    net.compile(keras.optimizers.SGD(1e-3))
    without = {key: values for key, values in batch.items() if key != "masks"}
    assert all(np.isfinite(value) for value in net.train_on_batch(without, return_dict=True).values())
    found = net.detect(batch["image"], max_detections=3)
    assert set(found) == {"boxes", "labels", "scores", "keypoints"}
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras").detect(batch["image"], max_detections=3)
    np.testing.assert_allclose(again["keypoints"], found["keypoints"], atol=1e-2)


@pytest.mark.once
@pytest.mark.parametrize("backbone", ["mobilenet_v2", "MobileNetV3Small"])
def test_any_backbone_by_name(backbone, batch):
    net = mask_rcnn.small(6, backbone=backbone, levels=(4,))
    assert net.detect(batch["image"][:1], max_detections=2)["masks"].shape == (1, 2, 96, 96)


def test_what_is_missing_is_named(net, batch):
    with pytest.raises(ValueError, match="give mask_filters or keypoints"):
        mask_rcnn.small(6, mask_filters=None)
    for key in ("masks", "keypoints"):
        without = {name: values for name, values in batch.items() if name != key}
        with pytest.raises(ValueError, match=f"learns {key}, but the batch has none"):
            net.losses_of(without, net(without))


# Beside torchvision


@pytest.mark.parametrize("name", ["faster", "mask"])
def test_torchvision_with_the_same_weights_finds_the_same(golden, name):
    """Proposals, boxes, scores and soft masks within .001 on ten scenes: Faster R-CNN on one map, Mask R-CNN on a
    pyramid; see tests/golden/make_mask_rcnn.py.
    """
    values = golden("mask_rcnn.npz")
    expected = {key.removeprefix(f"{name}_"): array for key, array in values.items() if key.startswith(f"{name}_")}
    net = keras.saving.deserialize_keras_object(json.loads(str(expected["net"])))
    for number, weight in enumerate(net.trainable_weights):
        weight.assign(expected[f"weight{number}"].astype("float32"))
    outputs = net(values["images"])
    np.testing.assert_allclose(arrays(outputs["rois"]), expected["proposals"], atol=1e-3)
    found = net.detect(values["images"], 0.05, max_detections=expected["labels"].shape[1])
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    for key in ("boxes", "scores"):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-3)
    if name == "mask":
        soft = arrays(net.soft_masks(outputs["maps"], found["boxes"], found["labels"]))
        np.testing.assert_allclose(soft, expected["soft"], atol=1e-3)
        # The soft masks that are pasted differ in the sixth digit, so a pixel may lie on the other side of .5.
        assert (found["masks"] != expected["masks"]).mean() < 1e-4 and expected["masks"].mean() > 0.01
