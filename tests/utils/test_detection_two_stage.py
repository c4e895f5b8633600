"""Region proposals, sampling, the box head and Faster R-CNN: each stage alone against a slow version, the published
count, and the whole.
"""

import math

import keras
import numpy as np
import pytest
from keras import ops

from utils import architectures, data
from utils import boxes as geometry
from utils.detection import anchors as anchor_boxes
from utils.detection import coding, fast_rcnn, faster_rcnn, roi, rpn, sampling


def arrays(tree):
    return keras.tree.map_structure(ops.convert_to_numpy, tree)


def random_truth(rng, images, objects, classes, side=96.0):
    corner = rng.uniform(0, side * 0.6, (images, objects, 2))
    size = rng.uniform(10, side * 0.4, (images, objects, 2))
    labels = rng.integers(0, classes, (images, objects))
    labels[0, 1:], labels[1] = -1, -1
    boxes = np.concatenate([corner, corner + size], -1) * (labels >= 0)[..., None]
    return boxes.astype("float32"), labels.astype("int32")


@pytest.fixture(scope="module")
def batch():
    examples = next(iter(data.load("shapes", "train", batch_size=8)))
    return {key: np.asarray(examples[key]) for key in ("image", "boxes", "labels")}


# Sampling


def slow_sample(positive, negative, noise, count, share):
    chosen = np.zeros(positive.shape, bool)
    for image in range(len(positive)):
        best = sorted(np.flatnonzero(positive[image]), key=lambda k: -noise[image, k])[: int(count * share)]
        rest = sorted(np.flatnonzero(negative[image]), key=lambda k: -noise[image, k])[: count - len(best)]
        chosen[image, [*best, *rest]] = True
    return chosen


@pytest.mark.parametrize("count, share", [(8, 0.5), (8, 0.25), (40, 0.5), (1, 0.5)])
def test_sampling_is_that_of_a_loop(count, share):
    rng = np.random.default_rng(count)
    kind = rng.choice([-2, -1, 0], (5, 30), p=[0.2, 0.6, 0.2])
    kind[0], kind[1] = -1, 0  # no positive; no negative
    noise = rng.random((5, 30)).astype("float32")
    positive, negative = kind == 0, kind == -1
    expected = slow_sample(positive, negative, noise, count, share)
    np.testing.assert_array_equal(arrays(sampling.sample(positive, negative, noise, count, share)), expected)
    places, chosen = arrays(sampling.sample_indices(positive, negative, noise, count, share))
    assert places.shape == chosen.shape == (5, min(count, 30))
    for image in range(5):
        found = places[image][chosen[image]]
        assert set(found) == set(np.flatnonzero(expected[image]))
        is_positive = positive[image][found]
        assert not (np.diff(is_positive.astype(int)) > 0).any(), "positives come first"


# The proposal network


ANCHORS = anchor_boxes.grid((6, 6), 16, (16, 32), (0.5, 1, 2))


def test_anchors_are_labelled_as_the_paper_says():
    rng = np.random.default_rng(0)
    boxes, labels = random_truth(rng, 4, 3, 5)
    noise = rng.random((4, len(ANCHORS))).astype("float32")
    found = arrays(rpn.anchor_targets(ANCHORS, boxes, labels, noise, count=32))
    for image in range(4):
        real = np.flatnonzero(labels[image] >= 0)
        overlap = geometry.iou(boxes[image][real], ANCHORS)
        best = overlap.max(0) if len(real) else np.zeros(len(ANCHORS))
        positive = best >= 0.7
        for row in overlap:
            positive |= row == row.max()
        negative = ~positive & (best < 0.3)
        sampled = slow_sample(positive[None], negative[None], noise[image][None], 32, 0.5)[0]
        np.testing.assert_array_equal(found["sampled"][image], sampled)
        np.testing.assert_array_equal(found["positive"][image], sampled & positive)
        for anchor in np.flatnonzero(sampled & positive):
            own = boxes[image][real[overlap[:, anchor].argmax()]]
            np.testing.assert_allclose(found["deltas"][image, anchor], coding.encode(own, ANCHORS[anchor]), atol=1e-4)


def test_the_losses_of_the_proposal_network_by_numpy():
    rng = np.random.default_rng(1)
    boxes, labels = random_truth(rng, 4, 3, 5)
    noise = rng.random((4, len(ANCHORS))).astype("float32")
    targets = arrays(rpn.anchor_targets(ANCHORS, boxes, labels, noise, count=32))
    objectness, deltas = rng.normal(size=(4, len(ANCHORS))), rng.normal(size=(4, len(ANCHORS), 4))
    found = arrays(rpn.rpn_losses(targets, objectness.astype("float32"), deltas.astype("float32")))
    p = 1 / (1 + np.exp(-objectness))
    entropy = -np.log(np.where(targets["positive"], p, 1 - p))
    d = np.abs(targets["deltas"] - deltas)
    smooth = np.where(d < 1 / 9, 4.5 * d**2, d - 1 / 18).sum(-1)
    count = targets["sampled"].sum()
    assert found["objectness_loss"] == pytest.approx(entropy[targets["sampled"]].sum() / count, rel=1e-4)
    assert found["proposal_loss"] == pytest.approx(smooth[targets["positive"]].sum() / count, rel=1e-4)


def test_proposals_are_those_of_a_loop_over_levels():
    rng = np.random.default_rng(2)
    fine, coarse = anchor_boxes.grid((6, 6), 16, (24,), (1,)), anchor_boxes.grid((3, 3), 32, (48,), (1,))
    both, sizes = np.concatenate([fine, coarse]), [36, 9]
    objectness = rng.normal(size=(2, 45)).astype("float32")
    deltas = rng.normal(0, 0.4, (2, 45, 4)).astype("float32")
    boxes, scores = arrays(rpn.proposals(objectness, deltas, both, sizes, (96, 96), before=20, after=8))
    decoded = geometry.clip(coding.decode(deltas, both), 96, 96)
    for image in range(2):
        kept = []
        for start, size in ((0, 36), (36, 9)):
            order = sorted(range(start, start + size), key=lambda k: -objectness[image, k])[:20]
            level = []
            for k in order:
                if all(geometry.iou(decoded[image, k][None], decoded[image, j][None])[0, 0] <= 0.7 for j in level):
                    level.append(k)
            kept += level[:8]
        best = sorted(kept, key=lambda k: -objectness[image, k])[:8]
        np.testing.assert_allclose(scores[image], objectness[image, best], atol=1e-5)
        np.testing.assert_allclose(boxes[image], decoded[image, best], atol=1e-3)


def test_fewer_proposals_than_asked_are_padded():
    anchors = np.array([[0, 0, 20, 20], [0, 0, 21, 20], [200, 200, 220, 220]], "float32")
    boxes, scores = arrays(
        rpn.proposals(np.zeros((1, 3), "float32"), np.zeros((1, 3, 4), "float32"), anchors, [3], (96, 96), 3, 3)
    )
    assert scores[0].tolist() == [0, -math.inf, -math.inf] and boxes[0, 1:].sum() == 0


# The box head


def test_the_targets_of_rois_are_those_of_a_loop():
    rng = np.random.default_rng(3)
    boxes, labels = random_truth(rng, 4, 3, 5)
    proposals = np.concatenate([boxes + rng.normal(0, 4, boxes.shape), random_truth(rng, 4, 9, 5)[0]], 1).astype(
        "float32"
    )
    proposals[:, :, 2:] = np.maximum(proposals[:, :, 2:], proposals[:, :, :2])
    noise = rng.random((4, 15)).astype("float32")
    found = arrays(fast_rcnn.roi_targets(proposals, boxes, labels, noise, count=8, share=0.5))
    for image in range(4):
        rois = np.concatenate([proposals[image], boxes[image]])
        real = np.flatnonzero(labels[image] >= 0)
        overlap = geometry.iou(boxes[image][real], rois) if len(real) else np.zeros((1, 15))
        there = geometry.area(rois) > 0
        positive, negative = (overlap.max(0) >= 0.5) & there, (overlap.max(0) < 0.5) & there
        chosen = np.flatnonzero(slow_sample(positive[None], negative[None], noise[image][None], 8, 0.5)[0])
        counted = found["labels"][image] >= 0
        assert counted.sum() == len(chosen)
        wanted = {
            tuple(np.round(rois[k], 3)): (1 + labels[image][real[overlap[:, k].argmax()]] if positive[k] else 0, k)
            for k in chosen
        }
        for place in np.flatnonzero(counted):
            label, k = wanted[tuple(np.round(found["rois"][image, place], 3))]
            assert found["labels"][image, place] == label
            if label:
                own = boxes[image][real[overlap[:, k].argmax()]]
                expected = coding.encode(own, rois[k], fast_rcnn.WEIGHTS)
                np.testing.assert_allclose(found["deltas"][image, place], expected, atol=1e-3)


def test_the_losses_of_the_box_head_by_numpy():
    rng = np.random.default_rng(4)
    labels = np.array([[1, 3, 0, 0, -1], [0, 0, -1, -1, -1]], "int32")
    targets = {"labels": labels, "deltas": rng.normal(size=(2, 5, 4)).astype("float32")}
    logits = rng.normal(size=(2, 5, 4)).astype("float32")
    deltas = rng.normal(size=(2, 5, 3, 4)).astype("float32")
    found = arrays(fast_rcnn.head_losses(targets, logits, deltas))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    places = [(i, k) for i in range(2) for k in range(5) if labels[i, k] >= 0]
    d = [np.abs(targets["deltas"][i, k] - deltas[i, k, labels[i, k] - 1]) for i, k in places if labels[i, k] > 0]
    smooth = sum(np.where(x < 1, x**2 / 2, x - 0.5).sum() for x in d)
    assert found["class_loss"] == pytest.approx(
        -sum(log_p[i, k, labels[i, k]] for i, k in places) / len(places), rel=1e-5
    )
    assert found["box_loss"] == pytest.approx(smooth / len(places), rel=1e-5)


def test_a_roi_takes_its_level_by_its_size():
    """The FPN paper's example: 224 pixels belong to level 4, 112 to 3; below and above there is nothing, so the ends
    take it.
    """
    sides = np.array([224, 223, 112, 448, 10, 5000], "float32")
    rois = np.stack([0 * sides, 0 * sides, sides, sides], -1)
    assert arrays(fast_rcnn.level_of(rois, (2, 3, 4, 5))).tolist() == [4, 3, 3, 5, 2, 5]


@pytest.mark.parametrize("pool", ["align", "pool"])
def test_features_come_from_the_roi_s_own_level(pool):
    rng = np.random.default_rng(5)
    maps = {level: rng.normal(size=(2, 96 >> level, 96 >> level, 3)).astype("float32") for level in (3, 4)}
    rois = np.array([[[8, 8, 40, 40], [0, 0, 90, 90]], [[4, 4, 80, 90], [30, 30, 50, 60]]], "float32")
    found = arrays(fast_rcnn.roi_features(maps, rois, 4, pool, canonical=64))
    cut = roi.roi_align if pool == "align" else roi.roi_pool
    for image, place, level in ((0, 0, 3), (0, 1, 4), (1, 0, 4), (1, 1, 3)):
        one = arrays(cut(maps[level][image : image + 1], rois[image : image + 1, place : place + 1], 4, 1 / 2**level))
        np.testing.assert_allclose(found[image, place], one[0, 0], atol=1e-5)
    with pytest.raises(ValueError, match="'align' or 'pool', not 'warp'"):
        fast_rcnn.roi_features(maps, rois, 4, "warp")


# Fast R-CNN


def proposed(batch, count=24, seed=6):
    """Proposals around the objects and anywhere, padded with two boxes of zeros."""
    rng = np.random.default_rng(seed)
    images, objects = batch["labels"].shape
    near = batch["boxes"] + rng.normal(0, 3, batch["boxes"].shape)
    corner = rng.uniform(0, 60, (images, count - objects, 2))
    far = np.concatenate([corner, corner + rng.uniform(10, 36, corner.shape)], -1)
    rois = np.where((batch["labels"] >= 0)[..., None], near, far[:, :objects])
    return fast_rcnn.padded_proposals(list(np.clip(np.concatenate([rois, far], 1), 0, 96)), count + 2)


def test_proposals_are_padded_and_cut():
    padded = fast_rcnn.padded_proposals([np.ones((3, 4)), np.zeros((0, 4)), [[1, 2, 3, 4]]], 2)
    assert padded.dtype == np.float32
    assert padded.tolist() == [[[1] * 4] * 2, [[0] * 4] * 2, [[1, 2, 3, 4], [0] * 4]]


@pytest.mark.once
def test_the_paper_s_net_has_vgg16_s_layers():
    """13 convolutions, two dense layers of 4,096 on 7 x 7 x 512, and 21 + 80 outputs."""
    model = architectures.outline(lambda: fast_rcnn.FastRCNN(20, (224, 224, 3)))
    assert tuple(model.network.output.shape[1:]) == (14, 14, 512)
    params = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    convolutions, dense = 14_714_688, 25088 * 4096 + 4096 + 4096 * 4096 + 4096
    assert params == convolutions + dense + 4097 * (21 + 80)


def test_fast_rcnn_is_its_parts(batch):
    """Each image's map, each of its proposals cut out of it and judged alone, decoded for each class."""
    keras.utils.set_random_seed(0)
    net = fast_rcnn.small(6)
    rois = proposed(batch)
    outputs = net({"image": batch["image"], "proposals": rois})
    boxes, scores = arrays(net.boxes_and_scores(outputs))
    maps = arrays(net.network(batch["image"]))
    for image, place in ((0, 0), (3, 7), (7, 23)):
        cut = roi.roi_pool(maps[image : image + 1], rois[image : image + 1, place : place + 1], 6, 1 / 8)
        logits, deltas = arrays(net.box_head(cut[0]))
        p = np.exp(logits[0] - logits[0].max())
        np.testing.assert_allclose(scores[image, place], (p / p.sum())[1:], atol=1e-4)
        expected = coding.decode(deltas.reshape(6, 4), rois[image, place], fast_rcnn.WEIGHTS)
        np.testing.assert_allclose(boxes[image, place], expected, atol=1e-2)
    assert (scores[:, 24:] == 0).all(), "padding is no candidate"


def test_detection_follows_the_proposals(batch):
    keras.utils.set_random_seed(0)
    net = fast_rcnn.small(6)
    rois = proposed(batch)
    whole = net.detect(batch["image"], rois, score_threshold=0.0, max_detections=20)
    parts = [net.detect(batch["image"][k : k + 3], rois[k : k + 3], 0.0, 0.5, 20, batch_size=3) for k in (0, 3, 6)]
    for key in ("boxes", "labels", "scores"):
        np.testing.assert_allclose(whole[key], np.concatenate([part[key] for part in parts]), atol=1e-3)
    nothing = net.detect(batch["image"], np.zeros_like(rois), score_threshold=0.0)
    assert (nothing["labels"] == -1).all(), "without proposals nothing is found"
    assert net.detect(batch["image"][:0], rois[:0])["boxes"].shape == (0, 100, 4)
    with pytest.raises(ValueError, match=r"takes proposals \(8, P, 4\), not \(7, 26, 4\)"):
        net.detect(batch["image"], rois[:7])
    with pytest.raises(ValueError, match=r"takes images \(B, 96, 96, 3\)"):
        net.detect(batch["image"][:, :64], rois)
    with pytest.raises(ValueError, match="image and proposals: it finds none itself"):
        net(batch["image"])


@pytest.mark.once
def test_fast_rcnn_learns_eight_scenes_by_heart_and_is_saved(batch, tmp_path):
    keras.utils.set_random_seed(0)
    net = fast_rcnn.small(6)
    given = batch | {"proposals": proposed(batch)}
    net.compile(keras.optimizers.Adam(1e-3, clipnorm=5.0))
    for _ in range(80):
        logs = net.train_on_batch(given, return_dict=True)
    assert set(net.loss_names) < set(logs)
    net.compile(keras.optimizers.SGD(0.0))  # batch norm's running statistics catch up
    for _ in range(30):
        net.train_on_batch(given)
    assert net.evaluate_on([given])["AP50"] == 1
    found = net.detect(batch["image"], given["proposals"], score_threshold=0.3)
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    found_again = again.detect(batch["image"], given["proposals"], score_threshold=0.3)
    np.testing.assert_array_equal(found_again["labels"], found["labels"])
    np.testing.assert_allclose(found_again["boxes"], found["boxes"], atol=1e-3)


def test_fast_rcnn_without_objects_and_in_half_precision(batch, mixed_precision):
    net = fast_rcnn.small(6)
    empty = {"boxes": np.zeros((8, 4, 4), "float32"), "labels": np.full((8, 4), -1, "int32")}
    given = batch | empty | {"proposals": proposed(batch)}
    assert np.isfinite(arrays(net.compute_loss(given, y_pred=net(given))))
    no_room = given | {"boxes": np.zeros((8, 0, 4), "float32"), "labels": np.zeros((8, 0), "int32")}
    assert np.isfinite(arrays(net.compute_loss(no_room, y_pred=net(no_room))))
    assert net.detect(batch["image"], given["proposals"])["scores"].dtype == np.float32


# Faster R-CNN


@pytest.mark.once
def test_the_published_count(golden):
    """torchvision's boxes of the background, 4 numbers from 1,024 features and a bias each, are not ours: nobody reads
    them.
    """
    model = architectures.outline(lambda: faster_rcnn.FasterRCNN(90, (256, 256, 3)))
    params = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    reference = golden("model_counts.json")["torchvision_detection"]["fasterrcnn_resnet50_fpn"]
    assert params + 4 * 1025 == reference["params"]
    assert len(model.anchors) == 3 * (64**2 + 32**2 + 16**2 + 8**2 + 4**2)


def test_a_small_pyramid_takes_each_roi_from_the_level_of_its_size(batch):
    """With 48 pixels for level 4, a RoI of 30 pixels belongs to level 3, and changes with that map alone."""
    net = faster_rcnn.small(6, levels=(3, 4), channels=8, sizes=((16, 24), (36, 48)), canonical=48)
    maps = arrays(net.network(batch["image"][:1])["maps"])
    rois = np.array([[[10, 10, 40, 40], [5, 5, 60, 60]]], "float32")
    before = arrays(net.features_of(maps, rois, 6))
    after = arrays(net.features_of(maps | {"3": maps["3"] + 1}, rois, 6))
    np.testing.assert_allclose(after[0, 0], before[0, 0] + 1, atol=1e-5)
    np.testing.assert_array_equal(after[0, 1], before[0, 1])


class SecondStageAlone(faster_rcnn.FasterRCNN):
    """Learns from the box head's losses alone."""

    def losses_of(self, batch, outputs):
        found = super().losses_of(batch, outputs)
        return found | {"objectness_loss": 0 * found["class_loss"], "proposal_loss": 0 * found["class_loss"]}


def test_nothing_flows_back_through_the_proposals(batch, monkeypatch):
    """A step on the second stage's losses moves its own head and the shared map, and leaves the proposal network as it
    was.
    """
    monkeypatch.setattr(faster_rcnn, "FasterRCNN", SecondStageAlone)
    net = faster_rcnn.small(6)
    proposal_head = net.network.get_layer("rpn")
    before = [arrays(part.trainable_weights) for part in (proposal_head, net.box_head, net.network)]
    net.compile(keras.optimizers.SGD(0.1))
    net.train_on_batch(batch)
    after = [arrays(part.trainable_weights) for part in (proposal_head, net.box_head, net.network)]
    same = [all(np.array_equal(*pair) for pair in zip(*weights)) for weights in zip(before, after)]
    assert same == [True, False, False]


@pytest.mark.once
def test_faster_rcnn_learns_eight_scenes_by_heart_and_is_saved(batch, tmp_path):
    keras.utils.set_random_seed(0)
    net = faster_rcnn.small(6)
    net.compile(keras.optimizers.Adam(1e-3, clipnorm=5.0))
    for _ in range(100):
        logs = net.train_on_batch(batch, return_dict=True)
    assert set(net.loss_names) < set(logs)
    net.compile(keras.optimizers.SGD(0.0))  # batch norm's running statistics catch up
    for _ in range(30):
        net.train_on_batch(batch)
    found = net.detect(batch["image"], score_threshold=0.3)
    truth = {key: batch[key] for key in ("boxes", "labels")}
    measured = net.evaluate_on([batch | truth], score_threshold=0.05)
    assert measured["AP50"] == 1
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras").detect(batch["image"], score_threshold=0.3)
    np.testing.assert_array_equal(again["labels"], found["labels"])
    np.testing.assert_allclose(again["boxes"], found["boxes"], atol=1e-3)


def test_no_objects_and_none_at_all(batch):
    net = faster_rcnn.small(6)
    empty = {"boxes": np.zeros((8, 4, 4), "float32"), "labels": np.full((8, 4), -1, "int32")}
    truth = batch | empty
    assert np.isfinite(arrays(net.compute_loss(truth, y_pred=net(truth))))


def test_the_draw_repeats_with_its_seed(batch):
    def rois(seed):
        keras.utils.set_random_seed(0)
        net = faster_rcnn.small(6, seed=seed)
        return arrays(net(batch)["roi_targets"]["rois"])

    np.testing.assert_array_equal(rois(1), rois(1))
    assert not np.array_equal(rois(1), rois(2))
