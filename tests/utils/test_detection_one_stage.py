"""RetinaNet, FCOS, SSD, YOLOv1 and YOLOv3: the papers' counts, the losses against slow versions written from the
formulas, targets and decoding as inverses, and what every detector must stand.
"""

import math
import warnings
from itertools import product

import keras
import numpy as np
import pytest
from keras import ops

from utils import architectures, arithmetic, data
from utils import boxes as geometry
from utils.detection import coding, fcos, fpn, nms, retinanet, ssd, yolo, yolo_v3

SMALL = {
    "fcos": fcos.small,
    "retinanet": retinanet.small,
    "ssd": ssd.small,
    "yolo": yolo.small,
    "yolo_v3": yolo_v3.small,
}


def arrays(tree):
    return keras.tree.map_structure(ops.convert_to_numpy, tree)


@pytest.fixture(scope="module")
def batch():
    """Eight scenes of one to four shapes, and boxes and labels padded to four."""
    examples = next(iter(data.load("shapes", "train", batch_size=8)))
    return {key: np.asarray(examples[key]) for key in ("image", "boxes", "labels")}


@pytest.fixture(scope="module")
def built():
    keras.utils.set_random_seed(0)
    return {name: make(6) for name, make in SMALL.items()}


# The papers' sizes


def count(make):
    model = architectures.outline(make)
    return sum(math.prod(weight.shape) for weight in model.trainable_weights), model


@pytest.mark.once
def test_yolo_v1_has_the_paper_s_parameters_and_output():
    params, model = count(yolo.YOLOv1)
    assert params == 271_703_550
    assert model.network.output_shape == (None, 7, 7, 30)
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.network.layers) == 24


@pytest.mark.once
def test_yolo_v3_has_the_published_parameters_and_10647_anchors():
    params, model = count(yolo_v3.YOLOv3)
    assert params == 61_949_149
    assert model.network.output_shape == (None, 3 * (13**2 + 26**2 + 52**2), 85) and len(model.anchors) == 10_647


@pytest.mark.once
def test_ssd300_has_8732_default_boxes_and_torchvision_s_parameters(golden):
    params, model = count(lambda: ssd.SSD(90))
    assert params == golden("model_counts.json")["torchvision_detection"]["ssd300_vgg16"]["params"]
    assert len(model.anchors) == 4 * 38**2 + 6 * (19**2 + 10**2 + 5**2) + 4 * (3**2 + 1) == 8732


@pytest.mark.once
def test_retinanet_has_torchvision_s_parameters_and_nine_anchors_a_place(golden):
    def make():
        # As torchvision builds it: P6 from P5, the stride of a bottleneck in its 3x3; its 91 classes include a
        # background.
        return retinanet.RetinaNet(91, (256, 256, 3), top="convolutions_of_p", backbone_options={"stride_in": "3x3"})

    params, model = count(make)
    assert params == golden("model_counts.json")["torchvision_detection"]["retinanet_resnet50_fpn"]["params"]
    assert len(model.anchors) == 9 * (32**2 + 16**2 + 8**2 + 4**2 + 2**2)


@pytest.mark.once
def test_fcos_has_torchvision_s_parameters_and_a_factor_for_each_level(golden):
    """torchvision's has 32,269,600 (published) with batch norms that do not learn, and no learnt factors."""
    params, model = count(lambda: fcos.FCOS(91, (256, 256, 3), backbone_options={"stride_in": "3x3"}))
    retina = golden("model_counts.json")["torchvision_detection"]["retinanet_resnet50_fpn"]
    assert params == 32_269_600 + (retina["params"] - retina["params_frozen_batchnorm"]) + 5
    assert len(model.places) == 32**2 + 16**2 + 8**2 + 4**2 + 2**2


# The pyramid


def test_a_pyramid_adds_what_the_coarser_level_says():
    """With 1x1 kernels of one and 3x3 kernels that pass the centre: P4 is C4, and P3 is C3 plus C4 doubled, cut where
    C3 is odd.
    """
    fine, coarse = keras.Input((5, 6, 1)), keras.Input((3, 3, 1))
    model = keras.Model([fine, coarse], fpn.fpn([fine, coarse], (3, 4), channels=1, top="pool"))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape, "float32")
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
            layer.kernel.assign(kernel)
    rng = np.random.default_rng(0)
    c3, c4 = rng.normal(size=(1, 5, 6, 1)).astype("float32"), rng.normal(size=(1, 3, 3, 1)).astype("float32")
    found = arrays(model([c3, c4]))
    np.testing.assert_allclose(found[4], c4, atol=1e-6)
    np.testing.assert_allclose(found[3], c3 + c4.repeat(2, 1).repeat(2, 2)[:, :5], atol=1e-6)
    np.testing.assert_allclose(found[5], c4[:, ::2, ::2], atol=1e-6)


@pytest.mark.parametrize("options", [{"levels": (3, 5)}, {"levels": (3,)}, {"levels": (3, 4), "top": "p6"}])
def test_a_pyramid_names_what_is_wrong(options):
    maps = [keras.Input((8, 8, 4)), keras.Input((4, 4, 4))]
    with pytest.raises(ValueError, match=r"levels that rise by 1|top is None"):
        fpn.fpn(maps, **options)


# YOLOv1


def slow_cells(boxes, labels, grid, image_shape):
    rows, columns = grid
    cells, lost = {}, 0
    for place, (box, label) in enumerate(zip(boxes, labels)):
        if label < 0:
            continue
        x, y = (box[0] + box[2]) / 2 / image_shape[1] * columns, (box[1] + box[3]) / 2 / image_shape[0] * rows
        cell = min(int(y), rows - 1), min(int(x), columns - 1)
        if cell in cells:
            lost += 1
            continue
        size = (box[2] - box[0]) / image_shape[1], (box[3] - box[1]) / image_shape[0]
        cells[cell] = (place, x - cell[1], y - cell[0], *size, label)
    return cells, lost


def slow_yolo_loss(boxes, labels, predictions, b, image_shape):
    """Equation 3 for one image, one cell and one box after the other."""
    rows, columns, depth = predictions.shape
    cells, _ = slow_cells(boxes, labels, (rows, columns), image_shape)
    terms = dict.fromkeys(("centre_loss", "size_loss", "object_loss", "no_object_loss", "class_loss"), 0.0)
    for row, column in product(range(rows), range(columns)):
        told = predictions[row, column]
        guesses = told[: 5 * b].reshape(b, 5)
        if (row, column) not in cells:
            terms["no_object_loss"] += 0.5 * sum(guess[4] ** 2 for guess in guesses)
            continue
        _, x, y, w, h, label = cells[row, column]
        true = np.array(
            [
                (column + x) / columns - w / 2,
                (row + y) / rows - h / 2,
                (column + x) / columns + w / 2,
                (row + y) / rows + h / 2,
            ]
        )
        overlaps = []
        for gx, gy, gw, gh, _ in guesses:
            cx, cy, gw, gh = (column + gx) / columns, (row + gy) / rows, gw**2, gh**2
            found = np.array([cx - gw / 2, cy - gh / 2, cx + gw / 2, cy + gh / 2])
            overlaps.append(float(geometry.iou(true[None], found[None])[0, 0]))
        best = int(np.argmax(overlaps))
        for k, guess in enumerate(guesses):
            if k != best:
                terms["no_object_loss"] += 0.5 * guess[4] ** 2
                continue
            terms["centre_loss"] += 5 * ((guess[0] - x) ** 2 + (guess[1] - y) ** 2)
            terms["size_loss"] += 5 * ((guess[2] - math.sqrt(w)) ** 2 + (guess[3] - math.sqrt(h)) ** 2)
            terms["object_loss"] += (guess[4] - overlaps[k]) ** 2
        terms["class_loss"] += sum((told[5 * b + c] - (c == label)) ** 2 for c in range(depth - 5 * b))
    return terms


def random_truth(rng, images, objects, classes, side=96.0):
    corner = rng.uniform(0, side * 0.7, (images, objects, 2))
    size = rng.uniform(8, side * 0.3, (images, objects, 2))
    labels = rng.integers(0, classes, (images, objects))
    labels[0, 1:], labels[1] = -1, -1  # one object, and none
    boxes = np.concatenate([corner, corner + size], -1) * (labels >= 0)[..., None]
    return boxes.astype("float32"), labels.astype("int32")


def test_the_loss_of_yolo_v1_is_that_of_the_formula_term_by_term():
    rng = np.random.default_rng(0)
    boxes, labels = random_truth(rng, 4, 7, 3)
    predictions = rng.normal(0.4, 0.3, (4, 4, 5, 13)).astype("float32")
    truth = yolo.responsible_cells(boxes, labels, (4, 5), (96, 96, 3))
    found = arrays(yolo.yolo_loss(truth, ops.convert_to_tensor(predictions), 2))
    expected = [slow_yolo_loss(b, c, p, 2, (96, 96)) for b, c, p in zip(boxes, labels, predictions)]
    for name, value in found.items():
        assert value == pytest.approx(np.mean([terms[name] for terms in expected]), rel=1e-4), name


def test_a_second_centre_in_a_cell_is_lost_and_counted():
    rng = np.random.default_rng(1)
    boxes, labels = random_truth(rng, 6, 12, 3)
    # A grid counted by NumPy, as a shape is, gives the same as one of plain ints.
    found = arrays(yolo.responsible_cells(boxes, labels, tuple(np.int64([3, 3])), (96, 96, 3)))
    for image in range(6):
        cells, lost = slow_cells(boxes[image], labels[image], (3, 3), (96, 96))
        assert found["lost"][image] == lost and found["object"][image].sum() == len(cells)
        for (row, column), (place, *told, label) in cells.items():
            at = 3 * row + column
            assert found["index"][image, at] == place and found["labels"][image, at] == label
            np.testing.assert_allclose(found["boxes"][image, at], told, atol=1e-5)
    assert found["lost"].sum() > 0


def test_no_gradient_flows_through_the_iou_that_the_confidence_should_be():
    """Moving a predicted box changes the target of its confidence, but not the loss's slope: only centre and size have
    one.
    """
    boxes, labels = np.array([[[20.0, 20, 60, 60]]], "float32"), np.array([[0]], "int32")
    truth = yolo.responsible_cells(boxes, labels, (1, 1), (96, 96, 3))
    inside = np.array([0.5, 0.5, 0.6, 0.6, 0.3, 1.0], "float32").reshape(1, 1, 1, 6)
    layer = keras.layers.Layer()
    told = layer.add_weight(shape=inside.shape, initializer=keras.initializers.Constant(inside), name="told")
    before = arrays(yolo.yolo_loss(truth, ops.convert_to_tensor(told), 1))
    overlap = float(geometry.iou(boxes[0] / 96, np.array([[0.32, 0.32, 0.68, 0.68]], "float32"))[0, 0])
    assert before["object_loss"] == pytest.approx((0.3 - overlap) ** 2, rel=1e-4)


def test_boxes_told_as_cells_come_back(built):
    net = built["yolo"]
    boxes, labels = np.array([[[10.0, 20, 40, 44], [50, 50, 90, 94]]], "float32"), np.array([[2, 5]], "int32")
    truth = arrays(yolo.responsible_cells(boxes, labels, net.grid, net.image_shape))
    outputs = np.zeros((1, *net.grid, 5 * 2 + 6), "float32")
    flat = outputs.reshape(1, -1, 16)
    has = truth["object"]
    flat[has, :2], flat[has, 2:4], flat[has, 4] = truth["boxes"][has, :2], np.sqrt(truth["boxes"][has, 2:]), 1
    flat[has, 10 + truth["labels"][has]] = 1
    found = arrays(nms.select(*net.boxes_and_scores(ops.convert_to_tensor(outputs)), 0.5, 0.5, 4))
    assert found["labels"][0].tolist() == [2, 5, -1, -1] or found["labels"][0].tolist() == [5, 2, -1, -1]
    order = np.argsort(found["labels"][0, :2])
    np.testing.assert_allclose(found["boxes"][0, :2][order], boxes[0], atol=1e-3)


# YOLOv3


def test_clusters_that_are_apart_are_found():
    rng = np.random.default_rng(0)
    centres = np.array([[10, 12], [40, 20], [30, 60]])
    sizes = np.concatenate([centre + rng.uniform(-1, 1, (50, 2)) for centre in centres])
    found, mean_iou = yolo_v3.cluster_anchors(sizes, 3)
    np.testing.assert_allclose(found, centres, atol=0.5)
    assert 0.9 < mean_iou < 1
    with pytest.raises(ValueError, match="9 anchors from 2 different sizes"):
        yolo_v3.cluster_anchors([[1, 2], [1, 2], [3, 4]], 9)


def test_an_object_goes_to_the_anchor_of_its_shape_in_the_cell_of_its_centre(built):
    """Slowly: for each object the best of all shapes, then the place of that shape in the flattened grids."""
    net = built["yolo_v3"]
    rng = np.random.default_rng(2)
    boxes, labels = random_truth(rng, 5, 4, 6)
    found = arrays(net.assignment(boxes, labels))
    shapes = net.sizes.reshape(-1, 2)
    for image in range(5):
        expected = np.full(len(net.anchors), -1)
        for place, (box, label) in enumerate(zip(boxes[image], labels[image])):
            if label < 0:
                continue
            best = int(yolo_v3.shape_iou([box[2:] - box[:2]], shapes)[0].argmax())
            level, kind = divmod(best, net.sizes.shape[1])
            rows, columns = net.grids[level]
            stride = 96 // rows
            row, column = int((box[1] + box[3]) / 2 // stride), int((box[0] + box[2]) / 2 // stride)
            start = sum(r * c for r, c in net.grids[:level]) * net.sizes.shape[1]
            at = start + (row * columns + column) * net.sizes.shape[1] + kind
            if expected[at] < 0:
                expected[at] = place
        np.testing.assert_array_equal(found[image], expected)


def test_yolo_v3_s_boxes_are_the_inverse_of_its_targets(built):
    net = built["yolo_v3"]
    boxes, labels = np.array([[[10.0, 20, 40, 44], [50, 50, 90, 94]]], "float32"), np.array([[2, 5]], "int32")
    assigned = arrays(net.assignment(boxes, labels))[0]
    places = np.flatnonzero(assigned >= 0)
    targets = arrays(net._encode(ops.convert_to_tensor(boxes[:, np.maximum(assigned, 0)])))[0]
    outputs = np.full((1, len(net.anchors), 11), -20.0, "float32")
    inside = np.clip(targets[places, :2], 1e-6, 1 - 1e-6)
    outputs[0, places, :2], outputs[0, places, 2:4] = np.log(inside / (1 - inside)), targets[places, 2:]
    outputs[0, places, 4] = outputs[0, places, 5 + labels[0, assigned[places]]] = 20
    found = arrays(nms.select(*net.boxes_and_scores(ops.convert_to_tensor(outputs)), 0.5, 0.5, 4))
    order = np.argsort(found["labels"][0, :2])
    np.testing.assert_allclose(found["boxes"][0, :2][order], boxes[0], atol=1e-2)
    losses = arrays(
        net.losses_of(
            {"boxes": ops.convert_to_tensor(boxes), "labels": ops.convert_to_tensor(labels)},
            ops.convert_to_tensor(outputs),
        )
    )
    assert all(value == pytest.approx(0, abs=1e-4) for value in losses.values())


# SSD


def test_the_default_boxes_of_the_first_map_by_hand():
    found = ssd.default_boxes([(38, 38)], (300, 300), (30, 60), [(2,)])
    centre = 300 / 38 / 2
    root, wide = math.sqrt(30 * 60), 30 * math.sqrt(2)
    sizes = [(30, 30), (root, root), (wide, wide / 2), (wide / 2, wide)]
    expected = [[centre - w / 2, centre - h / 2, centre + w / 2, centre + h / 2] for w, h in sizes]
    np.testing.assert_allclose(found[:4], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="one side more"):
        ssd.default_boxes([(38, 38)], (300, 300), (30,), [(2,)])


def test_hard_negatives_are_mined_as_the_paper_says():
    """Slowly: the loss of every positive, and of the three worst negatives for each of them, image by image."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 0, 0, 0, 0, 0, 0, 1, 2, -1], (3, 40)).astype("int32")
    labels[2] = np.minimum(labels[2], 0)  # no positive: nothing is learnt from this image
    logits = rng.normal(size=(3, 40, 3)).astype("float32")
    deltas, targets = rng.normal(size=(2, 3, 40, 4)).astype("float32")
    found = arrays(ssd.multibox_loss(labels, deltas, targets, logits))
    entropy = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.maximum(labels, 0)[..., None], -1)[..., 0]
    difference = np.abs(targets - deltas)
    smooth = np.where(difference < 1, difference**2 / 2, difference - 0.5).sum(-1)
    total_class = total_box = positives = 0
    for image in range(3):
        positive = labels[image] > 0
        worst = np.sort(entropy[image][labels[image] == 0])[::-1][: 3 * positive.sum()]
        total_class += entropy[image][positive].sum() + worst.sum()
        total_box += smooth[image][positive].sum()
        positives += positive.sum()
    assert found["class_loss"] == pytest.approx(total_class / positives, rel=1e-4)
    assert found["box_loss"] == pytest.approx(total_box / positives, rel=1e-4)


def test_l2_scale_gives_every_place_the_same_norm():
    layer = ssd.L2Scale(7.0)
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 5)).astype("float32")
    np.testing.assert_allclose(np.linalg.norm(arrays(layer(x)), axis=-1), 7, rtol=1e-4)


# RetinaNet


def test_retinanet_s_loss_is_that_of_the_anchors_one_by_one(built):
    net = built["retinanet"]
    rng = np.random.default_rng(3)
    boxes, labels = random_truth(rng, 3, 3, 6)
    ignored = np.zeros(labels.shape, bool)
    ignored[2, 0] = True
    outputs = {
        "logits": rng.normal(-2, 1, (3, len(net.anchors), 6)).astype("float32"),
        "deltas": rng.normal(0, 0.3, (3, len(net.anchors), 4)).astype("float32"),
    }
    found = arrays(net.losses_of({"boxes": boxes, "labels": labels, "ignored": ignored}, outputs))
    focal = smooth = positives = 0.0
    for image in range(3):
        real = [k for k in range(3) if labels[image, k] >= 0 and not ignored[image, k]]
        overlap = geometry.iou(boxes[image], net.anchors)
        forced = {a for k in real for a in np.flatnonzero(overlap[k] == overlap[k].max()) if overlap[k].max() > 0}
        left_out = np.max(overlap[ignored[image]], axis=0, initial=0)
        for a in range(len(net.anchors)):
            best = max(real, key=lambda k: overlap[k, a]) if real else None
            value = overlap[best, a] if real else 0.0
            target = np.zeros(6)
            if real and (value >= 0.5 or a in forced):
                target[labels[image, best]] = 1
                positives += 1
                wanted = coding.encode(boxes[image, best], net.anchors[a])
                d = np.abs(wanted - outputs["deltas"][image, a])
                smooth += np.where(d < 1 / 9, d**2 * 4.5, d - 1 / 18).sum()
            elif value >= 0.4 or left_out[a] >= 0.4:
                continue
            p = 1 / (1 + np.exp(-outputs["logits"][image, a].astype("float64")))
            focal += np.where(target == 1, -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p)).sum()
    assert found["class_loss"] == pytest.approx(focal / positives, rel=1e-4)
    assert found["box_loss"] == pytest.approx(smooth / positives, rel=1e-4)


def test_the_untrained_retinanet_believes_in_nothing(built, batch):
    """Its prior is .01, so that the first loss is small (section 3.3)."""
    scores = arrays(built["retinanet"].boxes_and_scores(built["retinanet"](batch["image"]))[1])
    assert 0.002 < np.median(scores) < 0.05


# FCOS


def slow_places(net):
    """(x, y, stride, level) of each place."""
    return [
        ((column + 0.5) * stride, (row + 0.5) * stride, stride, level)
        for level, stride in enumerate((8, 16))
        for row, column in product(range(96 // stride), range(96 // stride))
    ]


def slow_assignment(net, boxes, labels, ignored, radius):
    """For each place the smallest object that wants it, or -1, or -2 inside an ignored one."""
    found = []
    for x, y, stride, level in slow_places(net):
        best, smallest, aside = -1, np.inf, False
        for k, (x0, y0, x1, y1) in enumerate(boxes):
            sides = x - x0, y - y0, x1 - x, y1 - y
            if labels[k] < 0 or min(sides) <= 0:
                continue
            aside |= bool(ignored[k])
            near = radius is None or max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < radius * stride
            of_level = max(sides) <= 24 if level == 0 else max(sides) > 24
            if near and of_level and not ignored[k] and (x1 - x0) * (y1 - y0) < smallest:
                best, smallest = k, (x1 - x0) * (y1 - y0)
        found.append(-2 if best < 0 and aside else best)
    return np.array(found)


@pytest.mark.parametrize("radius", [1.5, None])
def test_a_place_answers_for_the_smallest_object_of_its_level_around_it(radius, built):
    net, rng = built["fcos"], np.random.default_rng(4)
    boxes, labels = random_truth(rng, 6, 6, 6)
    ignored = rng.random(labels.shape) < 0.2
    found = arrays(fcos.assign(boxes, labels, net.places, net.strides, net.ranges, radius, ignored))
    expected = [slow_assignment(net, *rows, radius) for rows in zip(boxes, labels, ignored)]
    np.testing.assert_array_equal(found, expected)
    assert {-2, -1} < set(np.unique(found))
    without = arrays(fcos.assign(boxes, labels, net.places, net.strides, net.ranges, radius))
    none = np.zeros(6, bool)
    np.testing.assert_array_equal(without[3], slow_assignment(net, boxes[3], labels[3], none, radius))


def test_centreness_is_one_in_the_middle_and_nothing_at_the_border():
    sides = np.array([[5, 9, 5, 9], [2, 3, 8, 3], [2, 2, 8, 8], [0, 4, 8, 4], [-1, 4, 8, 4]], "float32")
    np.testing.assert_allclose(arrays(fcos.centreness(sides)), [1, 0.5, 0.25, 0, 0], atol=1e-3)


def test_fcos_s_loss_is_that_of_the_places_one_by_one(built):
    net, rng = built["fcos"], np.random.default_rng(5)
    boxes, labels = random_truth(rng, 3, 3, 6)
    ignored = np.zeros(labels.shape, bool)
    ignored[2, 0] = True
    count = len(net.places)
    outputs = {
        "logits": rng.normal(-2, 1, (3, count, 6)).astype("float32"),
        "sides": rng.normal(0, 0.4, (3, count, 4)).astype("float32"),
        "centre": rng.normal(0, 1, (3, count, 1)).astype("float32"),
    }
    found = arrays(net.losses_of({"boxes": boxes, "labels": labels, "ignored": ignored}, outputs))
    focal = apart = central = positives = 0.0
    for image in range(3):
        answers = slow_assignment(net, boxes[image], labels[image], ignored[image], 1.5)
        for a, ((x, y, stride, _), k) in enumerate(zip(slow_places(net), answers)):
            target = np.zeros(6)
            if k >= 0:
                positives += 1
                target[labels[image, k]] = 1
                x0, y0, x1, y1 = boxes[image, k]
                left, top, right, bottom = np.exp(outputs["sides"][image, a]) * stride
                told = np.array([x - left, y - top, x + right, y + bottom], "float32")
                apart += 1 - geometry.giou(boxes[image, k][None], told[None])[0, 0]
                wide, high = sorted((x - x0, x1 - x)), sorted((y - y0, y1 - y))
                wanted = math.sqrt(wide[0] / wide[1] * high[0] / high[1])
                p = 1 / (1 + math.exp(-outputs["centre"][image, a, 0]))
                central -= wanted * math.log(p) + (1 - wanted) * math.log(1 - p)
            if k == -2:
                continue
            p = 1 / (1 + np.exp(-outputs["logits"][image, a].astype("float64")))
            focal += np.where(target == 1, -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p)).sum()
    expected = {"class_loss": focal, "box_loss": apart, "centre_loss": central}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value / positives, rel=1e-4), name


def test_the_distances_of_fcos_are_strides_and_its_scores_a_geometric_mean(built):
    net = built["fcos"]
    outputs = {
        "logits": np.full((1, len(net.places), 6), math.log(4), "float32"),  # a probability of .8
        "sides": np.log(np.tile(np.float32([1, 2, 3, 4]), (1, len(net.places), 1))),
        "centre": np.full((1, len(net.places), 1), -math.log(4), "float32"),  # .2
    }
    boxes, scores = arrays(net.boxes_and_scores({key: ops.convert_to_tensor(value) for key, value in outputs.items()}))
    np.testing.assert_allclose(boxes[0, 0], [4 - 8, 4 - 16, 4 + 24, 4 + 32], atol=1e-3)
    np.testing.assert_allclose(boxes[0, -1], [88 - 16, 88 - 32, 88 + 48, 88 + 64], atol=1e-3)
    np.testing.assert_allclose(scores, 0.4, atol=1e-4)


def test_fcos_wants_a_rising_limit_between_each_two_levels():
    for limits in ((), (24, 48), (48,) * 3):
        with pytest.raises(ValueError, match="2 levels want 1 rising limits"):
            fcos.small(6, limits=limits)
    with pytest.raises(ValueError, match="3 levels want 2 rising limits"):
        fcos.small(6, levels=(2, 3, 4), limits=(48, 24))


# Every detector


@pytest.mark.once
def test_every_layer_of_the_nets_can_be_counted(built):
    image = keras.Input((8, 8, 4))
    scaled = keras.Model(image, ssd.L2Scale()(image))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "MACs not fully counted"
        assert all(arithmetic.totals(net.network)["macs"] > 10**7 for net in built.values())
        assert arithmetic.totals(scaled)["params"] == 4


@pytest.mark.parametrize("name", SMALL)
def test_no_objects_give_finite_losses(name, built, batch):
    net = built[name]
    empty = {"boxes": np.zeros((8, 4, 4), "float32"), "labels": np.full((8, 4), -1, "int32")}
    for truth in (empty, {key: value[:, :0] for key, value in empty.items()}):
        assert np.isfinite(arrays(net.compute_loss(truth, y_pred=net(batch["image"]))))
        assert all(np.isfinite(arrays(tracker.result())) for tracker in net._loss_parts)


@pytest.mark.once
@pytest.mark.parametrize("name", SMALL)
def test_eight_scenes_can_be_learnt_by_heart_and_the_detector_saved(name, batch, tmp_path):
    """Sixty steps on one batch; then every object is found, once, and a loaded copy says the same."""
    keras.utils.set_random_seed(0)
    net = SMALL[name](6)
    net.compile(keras.optimizers.Adam(1e-3, clipnorm=5.0))
    for _ in range(60):
        logs = net.train_on_batch(batch, return_dict=True)
    assert set(net.loss_names) < set(logs)
    # Batch norm's running statistics lag behind 60 steps: they are brought up to date before the detector is judged.
    net.compile(keras.optimizers.SGD(0.0))
    for _ in range(40):
        net.train_on_batch(batch)
    found = net.detect(batch["image"], score_threshold=0.3)
    for image in range(8):
        real = batch["labels"][image] >= 0
        overlap = geometry.iou(batch["boxes"][image][real], found["boxes"][image])
        right = (overlap > 0.5) & (batch["labels"][image][real][:, None] == found["labels"][image])
        assert right.any(axis=1).all(), f"image {image}: an object was not found"
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras").detect(batch["image"], score_threshold=0.3)
    np.testing.assert_array_equal(again["labels"], found["labels"])
    np.testing.assert_allclose(again["boxes"], found["boxes"], atol=1e-3)


def test_detect_takes_images_of_its_size_in_any_number(built, batch):
    net = built["ssd"]
    whole = net.detect(batch["image"], max_detections=7)
    parts = net.detect(batch["image"], max_detections=7, batch_size=3)
    assert whole["boxes"].shape == (8, 7, 4) and whole["labels"].dtype == np.int32
    np.testing.assert_allclose(parts["boxes"], whole["boxes"], atol=1e-3)
    assert net.detect(batch["image"][:0], max_detections=7)["scores"].shape == (0, 7)
    with pytest.raises(ValueError, match=r"takes images \(B, 96, 96, 3\), not \(1, 64, 64, 3\)"):
        net.detect(np.zeros((1, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("name", SMALL)
def test_half_precision_trains(name, batch):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        net = SMALL[name](
            6,
            backbone=keras.Sequential(
                [
                    keras.Input((96, 96, 3)),
                    keras.layers.Rescaling(1 / 255),
                    *(keras.layers.Conv2D(8, 3, 2, "same", activation="relu") for _ in range(4)),
                ]
            ),
        )
        net.compile(keras.optimizers.SGD(1e-4))
        losses = arrays(net.losses_of(batch, net(batch["image"])))
        assert all(value.dtype == np.float32 and np.isfinite(value) for value in losses.values())
    finally:
        keras.config.set_dtype_policy(before)
