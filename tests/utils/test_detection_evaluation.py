"""Average precision against COCO's and VOC's own figures, by hand, and by its properties; the analysis of errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.detection import evaluation
from utils.detection.evaluation import average_precision, errors, evaluate, precision_recall


@pytest.fixture(params=["pycocotools", "faster-coco-eval"])
def library(request, monkeypatch):
    """Each of the libraries that may stand below."""
    if request.param == "pycocotools":
        monkeypatch.setattr(evaluation, "faster_coco_eval", None)
    elif evaluation.faster_coco_eval is None:
        pytest.skip("faster-coco-eval is not installed")


def decoded(segmentation):
    """The mask of uncompressed run lengths, which run down the columns and begin with zeros."""
    height, width = segmentation["size"]
    values = np.arange(len(segmentation["counts"])) % 2
    return np.repeat(values, segmentation["counts"]).reshape(width, height).T.astype(bool)


def in_our_form(problem, kind, rows, name):
    examples = []
    for image in problem["images"]:
        own = [row for row in problem[rows] if row["image_id"] == image["id"]]
        example = {"labels": np.array([row["category_id"] - 1 for row in own], int)}
        if kind == "bbox":
            boxes = np.array([row["bbox"] for row in own]).reshape(-1, 4)
            example["boxes"] = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        else:
            masks = [decoded(row["segmentation"]) for row in own]
            example["masks"] = np.array(masks, bool).reshape(-1, image["height"], image["width"])
        example[name] = np.array([row.get("score" if name == "scores" else "difficult", 0) for row in own])
        examples.append(example)
    return examples


@pytest.mark.parametrize(("file", "kind"), [("coco_bbox.json", "bbox"), ("coco_segm.json", "segm")])
def test_figures_are_cocos(golden, library, file, kind):
    for problem in golden(file)["problems"]:
        detections = in_our_form(problem, kind, "detections", "scores")
        targets = in_our_form(problem, kind, "annotations", "difficult")
        found = evaluate(detections, targets, kind=kind, classes=len(problem["categories"]))
        expected = problem["expected"]["coco"]
        assert expected["summary"].keys() <= found.keys()
        for name, value in expected["summary"].items():
            assert found[name] == pytest.approx(value, abs=1e-9)
        for index, category in enumerate(problem["categories"]):
            own = expected["per_class"][str(category["id"])]
            for name, key in (("AP", "per_class"), ("AP50", "per_class_AP50"), ("AP75", "per_class_AP75")):
                value = np.nan if own[name] is None else own[name]
                assert found[key][index] == pytest.approx(value, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("form", ["plain", "with_difficult"])
def test_figures_are_vocs(golden, form):
    for problem in golden("coco_bbox.json")["problems"]:
        detections = in_our_form(problem, "bbox", "detections", "scores")
        targets = in_our_form(problem, "bbox", "annotations", "difficult")
        for target in targets:
            difficult = target.pop("difficult")
            if form == "with_difficult":
                target["ignored"] = difficult
        classes = len(problem["categories"])
        found, expected = evaluate(detections, targets, "voc", classes=classes), problem["expected"]["voc"][form]
        for key, theirs in (("per_class", "ap_all_points"), ("per_class_AP11", "ap_11point")):
            values = [expected[theirs][str(category["id"])] for category in problem["categories"]]
            np.testing.assert_allclose(found[key], [np.nan if v is None else v for v in values], atol=1e-9)
        assert found["AP"] == pytest.approx(expected["map_all_points"]) and found["AP11"] == pytest.approx(
            expected["map_11point"]
        )


def test_average_precision_by_hand():
    # Right, wrong, right of two objects: precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
    recall, precision = [0.5, 0.5, 1.0], [1, 1 / 2, 2 / 3]
    assert average_precision(recall, precision) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(recall, precision, 11) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert average_precision(recall, precision, 101) == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert average_precision([], []) == average_precision([], [], 11) == 0
    # 3 of 10 objects are a recall of .3, the fourth of eleven points.
    assert average_precision([0.1, 0.2, 0.3], [1, 1, 1], 11) == pytest.approx(4 / 11)
    with pytest.raises(ValueError, match="recall must not fall"):
        average_precision([0.5, 0.4], [1, 1])
    with pytest.raises(ValueError, match="as many recalls as precisions"):
        average_precision([0.5], [1, 1])


# Properties


def scene(seed, images=3, objects=4, classes=3):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 80, (images, objects, 2))
    boxes = np.concatenate([corners, corners + random.uniform(8, 40, (images, objects, 2))], axis=-1)
    labels = random.integers(-1, classes, (images, objects))
    targets = {"boxes": boxes.astype("float32"), "labels": labels}
    noisy = (boxes + random.normal(0, 4, boxes.shape)).astype("float32")
    detections = {
        "boxes": noisy,
        "labels": np.where(random.random(labels.shape) < 0.8, labels, 0),
        "scores": random.random(labels.shape),
    }
    return detections, targets


@pytest.mark.parametrize("iou", ["coco", "voc", 0.5])
def test_perfect_detections_score_1_and_none_score_0(library, iou):
    _, targets = scene(0)
    perfect = {**targets, "scores": np.ones(targets["labels"].shape)}
    assert evaluate(perfect, targets, iou)["AP"] == pytest.approx(1)
    none = {**perfect, "labels": np.full_like(targets["labels"], -1)}
    assert evaluate(none, targets, iou)["AP"] == 0
    empty = {"boxes": np.zeros((3, 0, 4)), "labels": np.zeros((3, 0), int), "scores": np.zeros((3, 0))}
    assert evaluate(empty, targets, iou)["AP"] == 0
    nothing = evaluate(empty, {"boxes": np.zeros((3, 0, 4)), "labels": np.zeros((3, 0), int)}, iou)
    assert np.isnan(nothing["AP"])


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_the_order_of_images_and_objects_changes_nothing(seed):
    detections, targets = scene(seed)
    random = np.random.default_rng(seed)
    images, objects = random.permutation(3), random.permutation(4)
    for iou in ("coco", "voc"):
        first = evaluate(detections, targets, iou, classes=3)
        moved = evaluate(
            {key: values[images][:, objects[::-1]] for key, values in detections.items()},
            {key: values[images][:, objects] for key, values in targets.items()},
            iou,
            classes=3,
        )
        for name, value in first.items():
            np.testing.assert_allclose(moved[name], value, atol=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_a_true_positive_on_top_never_lowers_it(seed):
    detections, targets = scene(seed)
    empty = np.argwhere((targets["labels"] >= 0) & (np.arange(4) == 3))
    for image, place in empty[:1]:
        # The object is new, of its own class, and found with the highest score.
        more = {key: np.concatenate([values, values[:, -1:]], axis=1) for key, values in targets.items()}
        found = {key: np.concatenate([values, values[:, -1:]], axis=1) for key, values in detections.items()}
        more["labels"][:, 4], found["labels"][:, 4] = -1, -1
        more["boxes"][image, 4], found["boxes"][image, 4] = (200, 200, 220, 220), (200, 200, 220, 220)
        more["labels"][image, 4] = found["labels"][image, 4] = targets["labels"][image, place]
        missed = evaluate(detections, more, 0.5, classes=3)["per_class"]
        found["scores"][image, 4] = 2
        hit = evaluate(found, more, 0.5, classes=3)["per_class"]
        assert (hit[~np.isnan(hit)] >= missed[~np.isnan(missed)] - 1e-9).all()
        assert np.nansum(hit) > np.nansum(missed)


def test_dicts_and_lists_are_the_same():
    detections, targets = scene(3)
    lists = [[{k: v[i] for k, v in side.items()} for i in range(3)] for side in (detections, targets)]
    assert evaluate(*lists)["AP"] == evaluate(detections, targets)["AP"]


# Ignored objects

BOX = [0, 0, 20, 20]


def one_image(boxes, labels, scores=None, ignored=None):
    example = {"boxes": np.array([boxes], float).reshape(1, -1, 4), "labels": np.array([labels])}
    example |= {} if scores is None else {"scores": np.array([scores], float)}
    return example | ({} if ignored is None else {"ignored": np.array([ignored])})


@pytest.mark.parametrize("iou", ["coco", "voc", 0.5])
def test_ignored_objects_neither_count_nor_punish(library, iou):
    other = [50, 50, 90, 90]
    targets = one_image([BOX, other], [0, 0], ignored=[False, True])
    # Both are found, the ignored one three times, and before the other.
    detections = one_image([other, other, other, BOX], [0] * 4, [0.9, 0.8, 0.7, 0.6])
    assert evaluate(detections, targets, iou)["AP"] == pytest.approx(1)
    assert evaluate(one_image([BOX], [0], [0.6]), targets, iou)["AP"] == pytest.approx(1)
    assert evaluate(one_image([other], [0], [0.6]), targets, iou)["AP"] == 0
    # A part of an ignored object overlaps it little, and is wrong: no crowd's rule.
    part = one_image([[50, 50, 60, 60], BOX], [0, 0], [0.9, 0.6])
    assert evaluate(part, targets, iou)["AP"] == pytest.approx(0.5)
    assert np.isnan(evaluate(detections, one_image([BOX, other], [0, 0], ignored=[True, True]), iou)["AP"])


# Curves


def test_the_curve_by_hand():
    targets = one_image([BOX, [50, 50, 70, 70]], [0, 0])
    detections = one_image([[50, 50, 70, 70], BOX, BOX], [0, 0, 0], [0.3, 0.9, 0.8])
    recall, precision, scores = precision_recall(detections, targets)
    np.testing.assert_allclose(recall, [0.5, 0.5, 1])
    np.testing.assert_allclose(precision, [1, 0.5, 2 / 3])
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.3])
    assert len(precision_recall(detections, targets, label=1)[0]) == 0
    alone = precision_recall(detections, one_image([], []), label=0)
    assert np.isnan(alone[0]).all() and (alone[1] == 0).all()


def test_the_curve_of_one_class_is_the_one_voc_measures():
    detections, targets = scene(5, images=6)
    of_class = evaluate(detections, targets, "voc", classes=3)["per_class"]
    for label in range(3):
        recall, precision, _ = precision_recall(detections, targets, label)
        assert average_precision(recall, precision) == pytest.approx(of_class[label])


def test_masks_are_compared_by_their_own_overlap():
    left, right = np.zeros((2, 8, 8), bool)
    left[:, :4], right[:, 4:] = True, True
    targets = [{"masks": left[None], "labels": np.array([0])}]
    same = [{"masks": (left * 0.7)[None], "labels": np.array([0]), "scores": np.array([0.9])}]
    other = [{"masks": right[None], "labels": np.array([0]), "scores": np.array([0.9])}]
    assert evaluate(same, targets, kind="segm")["AP"] == pytest.approx(1)
    assert evaluate(other, targets, kind="segm")["AP"] == 0
    assert evaluate(same, targets, "voc", kind="segm")["AP"] == 1


# Errors


def test_errors_by_hand():
    targets = one_image(
        [BOX, [50, 50, 70, 70], [100, 0, 120, 20], [0, 100, 20, 120]], [0, 0, 1, 0], ignored=[0, 0, 0, 1]
    )
    detections = one_image(
        [
            BOX,  # right
            [1, 0, 21, 20],  # doubled
            [50, 50, 60, 70],  # right, at exactly half
            [60, 60, 80, 80],  # badly placed
            [100, 0, 120, 20],  # confused: class 0 on an object of class 1
            [200, 200, 220, 220],  # background
            [0, 100, 20, 120],  # ignored
            [300, 300, 320, 320],  # below the threshold
        ],
        [0] * 8,
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.01],
    )
    assert errors(detections, targets) == {
        "right": 2,
        "doubled": 1,
        "badly placed": 1,
        "confused": 1,
        "background": 1,
        "ignored": 1,
        "found": 2,
        "missed": 1,
    }


def test_errors_add_up():
    detections, targets = scene(1, images=10)
    found = errors(detections, targets, score_threshold=0)
    kinds = ("right", "doubled", "badly placed", "confused", "background", "ignored")
    assert sum(found[kind] for kind in kinds) == (detections["labels"] >= 0).sum()
    assert found["found"] + found["missed"] == (targets["labels"] >= 0).sum() and found["found"] == found["right"]
    assert (
        found["right"] == precision_recall(detections, targets)[1].size * precision_recall(detections, targets)[1][-1]
    )


# Edges


def test_two_hundred_objects_in_an_image():
    corners = np.stack(np.meshgrid(np.arange(20), np.arange(10)), axis=-1).reshape(-1, 2) * 10.0
    targets = one_image(np.concatenate([corners, corners + 8], axis=1), [0] * 200)
    detections = {**targets, "scores": np.linspace(1, 0.1, 200)[None]}
    assert evaluate(detections, targets, "voc")["AP"] == pytest.approx(1)
    # COCO looks at a hundred detections: half of the objects.
    assert evaluate(detections, targets)["AR100"] == pytest.approx(0.5)


def test_equal_scores_are_taken_in_their_order():
    targets = one_image([BOX], [0])
    first, last = (one_image([BOX, [60, 60, 70, 70]][::step], [0, 0], [0.5, 0.5]) for step in (1, -1))
    assert evaluate(first, targets, "voc")["AP"] == 1 and evaluate(last, targets, "voc")["AP"] == 0.5


def test_boxes_without_area_and_outside_the_image_match_nothing():
    targets = one_image([[5, 5, 5, 5], [-50, -50, -40, -40]], [0, 0])
    detections = {**targets, "scores": np.array([[0.9, 0.8]])}
    assert evaluate(detections, targets, 0.5)["AP"] < 1
    assert evaluate(detections, targets, "voc")["AP"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, t: (d | {"scores": d["scores"] * np.nan}, t), "detections of image 0: there are NaNs in scores"),
        (lambda d, t: (d, t | {"boxes": t["boxes"] * np.nan}), "targets of image 0: there are NaNs in boxes"),
        (lambda d, t: ({"boxes": d["boxes"], "labels": d["labels"]}, t), "detections: there is no 'scores'"),
        (lambda d, t: (d, [{"labels": [0]}] * 3), "targets of image 0: there is no 'boxes'"),
        (lambda d, t: (d, {k: v[:2] for k, v in t.items()}), "detections of 3 images, but targets of 2"),
        (lambda d, t: (d | {"scores": d["scores"][:2]}, t), "detections: the numbers of images differ"),
        (lambda d, t: (d | {"scores": d["scores"][:, :2]}, t), "detections of image 0: 4 labels, but 2 scores"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*change(*scene(0)))


def test_bad_options():
    detections, targets = scene(0)
    with pytest.raises(ValueError, match="unknown kind 'box'"):
        evaluate(detections, targets, kind="box")
    with pytest.raises(ValueError, match="iou must be"):
        evaluate(detections, targets, iou=50)
    with pytest.raises(ValueError, match="there is a label 2, but there are only 2 classes"):
        evaluate(detections, targets, classes=2)
    assert evaluation.evaluate(detections, targets, iou=[0.3, 0.6]).keys() == {"AP", "per_class"}


def test_masks_of_an_image_without_objects_or_detections_are_evaluated():
    masks = np.zeros((1, 4, 4), bool)
    masks[0, 1:3, 1:3] = True
    one = {"boxes": np.float32([[1, 1, 3, 3]]), "labels": np.int32([0]), "masks": masks}
    none = {"boxes": np.zeros((0, 4), "float32"), "labels": np.zeros(0, "int32"), "masks": np.zeros((0, 0, 0), bool)}
    scored = [example | {"scores": np.ones(len(example["labels"]), "float32")} for example in (one, none, one)]
    assert evaluation.evaluate(scored, [one, one, none], classes=1, kind="segm")["AP50"] > 0
