"""How good detections are: average precision as COCO and PASCAL VOC define it, precision-recall curves, and an analysis
of the errors.

Detections and targets come in either of two forms: a dict of arrays whose first axis is that of the images, padded with
label -1, as `detect` and `utils.data.load` give them, or a list with a dict for each image, of any number of objects.
Their keys:

| key | shape | |
|---|---|---|
| `boxes` | (I, K, 4) | `xyxy` pixels |
| `labels` | (I, K) | int, -1 is padding |
| `scores` | (I, K) | detections only |
| `ignored` | (I, K) | targets only, may be left out: objects that neither count nor punish |
| `masks` | (I, K, H, W) | for kind="segm": bool, or at least .5 inside |

**Ignored objects** are those that VOC calls difficult: nobody has to find them, and a detection that does is neither
right nor wrong, however many there are on one object. Their overlap is the plain IoU. (COCO's crowds share the first
two rules, but not the last: a box around one person in a crowd would have a small IoU with the crowd, so COCO divides
by the area of the detection alone. Our data sets leave crowds out.)

COCO's matching and averaging are pycocotools', or those of faster-coco-eval where it is installed (`pip install
faster-coco-eval`): the same figures to the last digit, sooner.
"""

import contextlib
import io

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval

from utils import boxes as geometry

try:
    import faster_coco_eval
except ImportError:
    faster_coco_eval = None

KINDS = ("bbox", "segm")
AREAS = {"s": "small", "m": "medium", "l": "large"}


def average_precision(recall, precision, points=None):
    """Area under the precision-recall curve, in one of the ways that are in use.

    Precision is first made to fall: at a recall r it counts as the highest precision that is reached at recall r or
    above. It is 0 above the last recall.

    Args:
        recall: (N,) float, rising, as more and more detections are let in.
        precision: (N,) float.
        points: None for the exact area (VOC from 2010 on), or the number of evenly spaced recalls from 0 to 1 at which
            the precision is averaged: 11 (VOC until 2009), 101 (COCO).

    Returns:
        float in [0, 1]; 0 for an empty curve.

    Raises:
        ValueError: lengths that differ, a recall that falls, or fewer than 2 points.
    """
    recall, precision = np.asarray(recall, np.float64), np.asarray(precision, np.float64)
    if recall.ndim != 1 or recall.shape != precision.shape:
        raise ValueError(f"expected as many recalls as precisions, got {recall.shape} and {precision.shape}")
    if (np.diff(recall) < 0).any():
        raise ValueError("recall must not fall: sort the detections by falling score")
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    if points is None:
        return float(np.sum(np.diff(recall, prepend=0) * highest[:-1]))
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}")
    # 3 of 10 objects are a recall of .3, and so is the fourth of 11 points; as floats they differ by 4e-17.
    return float(highest[np.searchsorted(recall, np.linspace(0, 1, points) - 1e-9)].mean())


def evaluate(detections, targets, iou="coco", kind="bbox", classes=None):
    """Average precision of detections, for each class and as the mean over classes.

    Args:
        detections, targets: dicts of arrays, or lists of a dict for each image; see above.
        iou: "coco": as COCO has it, the mean over the IoU thresholds .5, .55, ..., .95, each with 101 points of recall,
            of the 100 detections of the highest scores in a class of an image. A float or a list of them: the same with
            these thresholds. "voc": as PASCAL VOC has it, at a threshold of .5.
        kind: "bbox": IoU of boxes; "segm": of masks.
        classes: number of classes; None: one more than the highest label.

    Returns:
        dict of floats, and of arrays (classes,) for each class. A class without objects is NaN and is left out of
        means; without any object, means are NaN.

        - `AP`, `per_class`: mean over the thresholds
        - `AP50`, `AP75`, `per_class_AP50`, `per_class_AP75`: at .5 and .75, where they are among the thresholds
        - for "coco" too: `APs`, `APm`, `APl` of objects smaller than 32 x 32 pixels, up to 96 x 96, and larger; `AR1`,
          `AR10`, `AR100`, the share of the objects that is found with so many detections a class and image, and `ARs`,
          `ARm`, `ARl`
        - for "voc": `AP` and `per_class`, the exact area under the curve, and `AP11`, `per_class_AP11`, with 11 points

    Raises:
        ValueError: an unknown kind or iou, a missing key, numbers that do not agree, or NaN.
    """
    detections, targets = _read(detections, targets, kind)
    labels = [example["labels"] for example in (*detections, *targets)]
    highest = max((int(found.max()) for found in labels if len(found)), default=-1)
    classes = highest + 1 if classes is None else classes
    if highest >= classes:
        raise ValueError(f"there is a label {highest}, but there are only {classes} classes")
    if iou == "voc":
        curves = [_curve(*_judged(detections, targets, label, 0.5, kind)) for label in range(classes)]
        exact, sampled = (
            np.array([np.nan if curve is None else average_precision(*curve[:2], points) for curve in curves])
            for points in (None, 11)
        )
        return {"AP": _mean(exact), "AP11": _mean(sampled), "per_class": exact, "per_class_AP11": sampled}
    thresholds = np.linspace(0.5, 0.95, 10) if isinstance(iou, str) and iou == "coco" else np.atleast_1d(iou)
    if thresholds.dtype.kind != "f" or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ValueError(f'iou must be "coco", "voc", or one or more thresholds in (0, 1], got {iou!r}')
    precision, recall = _coco(detections, targets, thresholds, kind, classes)
    of_all = precision[..., 0, -1]  # objects of any area, all detections: (thresholds, recalls, classes)
    per_class = {"per_class": _mean(of_all, axis=(0, 1))}
    for name, threshold in (("AP50", 0.5), ("AP75", 0.75)):
        at = np.isclose(thresholds, threshold)
        if at.any():
            per_class[f"per_class_{name}"] = _mean(of_all[at], axis=(0, 1))
    result = {"AP": _mean(per_class["per_class"])}
    result |= {name.removeprefix("per_class_"): _mean(v) for name, v in per_class.items() if name != "per_class"}
    if isinstance(iou, str):
        result |= {f"AP{letter}": _mean(precision[..., place, -1]) for place, letter in enumerate(AREAS, 1)}
        result |= {f"AR{most}": _mean(recall[..., 0, place]) for place, most in enumerate((1, 10, 100))}
        result |= {f"AR{letter}": _mean(recall[..., place, -1]) for place, letter in enumerate(AREAS, 1)}
    return result | per_class


def precision_recall(detections, targets, label=None, iou=0.5, kind="bbox"):
    """The curve that a threshold on the score draws as it slides down: one point for each detection that is let in.

    As in PASCAL VOC, a detection belongs to the object of its class that it overlaps most; it is right if that IoU is
    at least `iou` and no detection of higher score was right on that object. Detections on ignored objects are left
    out.

    Args:
        detections, targets, kind: as for `evaluate`.
        label: int, a class; None: all classes, their detections in one order.
        iou: float.

    Returns:
        recall, precision, scores: three (N,) float, by falling score. They are empty if there are no detections; recall
            is NaN if there are no objects.

    Raises:
        ValueError: as for `evaluate`.
    """
    detections, targets = _read(detections, targets, kind)
    right, scores, objects = _judged(detections, targets, label, iou, kind)
    curve = _curve(right, scores, objects)
    return (np.full(len(right), np.nan), np.zeros(len(right)), scores) if curve is None else curve


def errors(detections, targets, iou=0.5, background=0.1, score_threshold=0.05, kind="bbox"):
    """What goes wrong: each detection is right or has one kind of error, and each object is found or missed (Hoiem,
    Chodpathumwan and Dai, ECCV 2012; Bolya et al., ECCV 2020, who tell doubled and badly placed ones apart as here).

    A detection, taken in the order of falling scores, is

    - right, if it overlaps an object of its class by `iou` at least that nothing better has claimed;
    - doubled, if that object was claimed already;
    - badly placed, if it overlaps an object of its class by `background` at least, but by less than `iou`;
    - confused, if it overlaps an object of another class by `background` at least;
    - on background, else.

    Args:
        detections, targets, kind: as for `evaluate`.
        iou, background: floats.
        score_threshold: float; detections of a lower score are left out.

    Returns:
        dict of counts, int: `right`, `doubled`, `badly placed`, `confused`, `background`, `ignored` (detections on
        ignored objects), which sum to the number of detections; `found` and `missed`, which sum to the number of
        objects that count.

    Raises:
        ValueError: as for `evaluate`.
    """
    detections, targets = _read(detections, targets, kind)
    counts = dict.fromkeys(
        ("right", "doubled", "badly placed", "confused", "background", "ignored", "found", "missed"), 0
    )
    for found, truth in zip(detections, targets):
        claimed = np.zeros(len(truth["labels"]), bool)
        overlaps = _overlaps(found, truth, kind)
        for index in np.argsort(-found["scores"], kind="stable"):
            if found["scores"][index] < score_threshold:
                break
            same = truth["labels"] == found["labels"][index]
            own, other = (np.where(kind, overlaps[index], -1) for kind in (same, ~same))
            nearest = int(own.argmax()) if len(own) else -1
            best = own.max(initial=-1)
            if best >= iou and truth["ignored"][nearest]:
                outcome = "ignored"
            elif best >= iou:
                outcome = "doubled" if claimed[nearest] else "right"
                claimed[nearest] = True
            elif best >= background:
                outcome = "badly placed"
            else:
                outcome = "confused" if other.max(initial=-1) >= background else "background"
            counts[outcome] += 1
        counts["found"] += int((claimed & ~truth["ignored"]).sum())
        counts["missed"] += int((~claimed & ~truth["ignored"]).sum())
    return counts


# What the functions share


def _read(detections, targets, kind):
    """Two lists of a dict for each image, arrays without padding."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r} (known: {', '.join(KINDS)})")
    shape = "boxes" if kind == "bbox" else "masks"
    detections = _images("detections", detections, (shape, "labels", "scores"))
    targets = _images("targets", targets, (shape, "labels"), ("ignored",))
    if len(detections) != len(targets):
        raise ValueError(f"detections of {len(detections)} images, but targets of {len(targets)}")
    for number, (found, truth) in enumerate(zip(detections, targets)):
        truth.setdefault("ignored", np.zeros(len(truth["labels"]), bool))
        truth["ignored"] = truth["ignored"].astype(bool)
        if kind == "segm" and len(found["masks"]) and len(truth["masks"]):
            sizes = found["masks"].shape[1:], truth["masks"].shape[1:]
            if sizes[0] != sizes[1]:
                raise ValueError(f"image {number}: masks of {sizes[0]} were detected, but the targets' are {sizes[1]}")
    return detections, targets


def _images(name, given, needed, optional=()):
    if isinstance(given, dict):
        missing = [key for key in needed if key not in given]
        if missing:
            raise ValueError(f"{name}: there is no {missing[0]!r} (there are: {', '.join(given)})")
        keys = [*needed, *(key for key in optional if key in given)]
        arrays = {key: np.asarray(given[key]) for key in keys}
        counts = {key: len(array) for key, array in arrays.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"{name}: the numbers of images differ: {counts}")
        given = [{key: arrays[key][index] for key in keys} for index in range(counts["labels"])]
    return [_objects(f"{name} of image {number}", example, needed, optional) for number, example in enumerate(given)]


def _objects(name, example, needed, optional):
    missing = [key for key in needed if key not in example]
    if missing:
        raise ValueError(f"{name}: there is no {missing[0]!r} (there are: {', '.join(example)})")
    arrays = {key: np.asarray(example[key]) for key in (*needed, *optional) if key in example}
    count = len(arrays["labels"])
    for key, array in arrays.items():
        if len(array) != count:
            raise ValueError(f"{name}: {count} labels, but {len(array)} {key}")
    kept = arrays["labels"] >= 0
    arrays = {key: array[kept] for key, array in arrays.items()}
    if "boxes" in arrays:
        arrays["boxes"] = arrays["boxes"].reshape(-1, 4).astype(np.float64)
    if "masks" in arrays:
        arrays["masks"] = arrays["masks"] >= 0.5
    for key in ("boxes", "scores"):
        if key in arrays and np.isnan(arrays[key]).any():
            raise ValueError(f"{name}: there are NaNs in {key}")
    arrays["labels"] = arrays["labels"].astype(np.int64)
    return arrays


def _overlaps(found, truth, kind):
    """(detections, objects) float64: the plain IoU."""
    if kind == "bbox":
        return geometry.iou(found["boxes"], truth["boxes"])
    sizes = tuple(len(example["masks"]) for example in (found, truth))
    if not all(sizes):
        return np.zeros(sizes)
    a, b = (example["masks"].reshape(len(example["masks"]), -1).astype(np.float32) for example in (found, truth))
    both = (a @ b.T).astype(np.float64)  # whole numbers below 2^24: exact
    union = a.sum(axis=1, dtype=np.float64)[:, None] + b.sum(axis=1, dtype=np.float64) - both
    return both / np.maximum(union, 1)


def _judged(detections, targets, label, iou, kind):
    """Which detections are right (N,) bool, and their scores (N,), by falling score, those on ignored objects left out;
    and the number of objects that count. The rules are VOC's."""
    right, scores, objects = [], [], 0
    for found, truth in zip(detections, targets):
        counts = ~truth["ignored"] if label is None else ~truth["ignored"] & (truth["labels"] == label)
        objects += int(counts.sum())
        chosen = np.flatnonzero(np.ones(len(found["labels"]), bool) if label is None else found["labels"] == label)
        chosen = chosen[np.argsort(-found["scores"][chosen], kind="stable")]
        claimed = np.zeros(len(truth["labels"]), bool)
        overlaps = _overlaps({key: array[chosen] for key, array in found.items()}, truth, kind)
        overlaps = np.where(found["labels"][chosen][:, None] == truth["labels"], overlaps, -1)
        for index, row in zip(chosen, overlaps):
            nearest = int(row.argmax()) if len(row) else -1
            hit = nearest >= 0 and row[nearest] >= iou
            if hit and truth["ignored"][nearest]:
                continue
            right.append(hit and not claimed[nearest])
            scores.append(found["scores"][index])
            if hit:
                claimed[nearest] = True
    order = np.argsort(-np.array(scores, np.float64), kind="stable")
    return np.array(right, bool)[order], np.array(scores, np.float64)[order], objects


def _curve(right, scores, objects):
    """Recall, precision and scores; None without objects."""
    if not objects:
        return None
    hits = np.cumsum(right)
    return hits / objects, hits / np.arange(1, len(right) + 1), scores


def _mean(values, axis=None):
    """The mean over what is there: not NaN."""
    counts = (~np.isnan(values)).sum(axis=axis)
    total = np.nansum(values, axis=axis) / np.maximum(counts, 1)
    mean = np.where(counts > 0, total, np.nan)
    return mean if mean.ndim else float(mean)


# COCO's library


def _coco(detections, targets, thresholds, kind, classes):
    """Precision (thresholds, recalls, classes, areas, most detections) and recall (thresholds, classes, areas, most),
    NaN where there are no objects."""
    if not classes:
        return np.full((len(thresholds), 101, 1, 4, 3), np.nan), np.full((len(thresholds), 1, 4, 3), np.nan)
    with contextlib.redirect_stdout(io.StringIO()):  # the library talks
        truth, found = (_library_set(examples, kind, classes) for examples in (targets, detections))
        evaluation = _evaluation_class()(truth, found, "bbox")
        evaluation.examples = [(f, t, _overlaps(f, t, kind)) for f, t in zip(detections, targets)]
        evaluation.params.iouThrs = thresholds
        evaluation.evaluate()
        evaluation.accumulate()
    results = (np.asarray(evaluation.eval[name], np.float64) for name in ("precision", "recall"))
    return tuple(np.where(values < 0, np.nan, values) for values in results)


def _library_set(examples, kind, classes):
    """The examples in COCO's form: areas, scores and classes. Boxes and masks are left out, for the overlaps are
    ours."""
    annotations = []
    for image, example in enumerate(examples, 1):
        areas = geometry.area(example["boxes"]) if kind == "bbox" else example["masks"].sum(axis=(1, 2))
        columns = {"category_id": example["labels"], "area": areas, "score": example.get("scores", areas)}
        ignored = example.get("ignored", np.zeros(len(areas), bool)).astype(int).tolist()
        for row in zip(*(values.tolist() for values in columns.values()), ignored):
            # Numbered from 1: to the library, 0 means that nothing matched.
            given = dict(zip((*columns, "iscrowd"), row), id=len(annotations) + 1, image_id=image, bbox=[0, 0, 0, 0])
            annotations.append(given)
    library_set = pycocotools.coco.COCO() if faster_coco_eval is None else faster_coco_eval.COCO()
    library_set.dataset = {
        "images": [{"id": number} for number in range(1, len(examples) + 1)],
        "annotations": annotations,
        "categories": [{"id": label, "name": str(label)} for label in range(classes)],
    }
    library_set.createIndex()
    return library_set


def _evaluation_class():
    base = pycocotools.cocoeval.COCOeval if faster_coco_eval is None else faster_coco_eval.COCOeval_faster
    return type("Evaluation", (_OurOverlaps, base), {})


class _OurOverlaps:
    """COCO's evaluation with our overlaps: ignored objects go in as crowds, which may be found more than once, but with
    their plain IoU."""

    def computeIoU(self, imgId, catId):
        found, truth, overlaps = self.examples[imgId - 1]
        chosen, objects = np.flatnonzero(found["labels"] == catId), np.flatnonzero(truth["labels"] == catId)
        if not len(chosen) or not len(objects):
            return []
        order = np.argsort(-found["scores"][chosen], kind="stable")[: self.params.maxDets[-1]]
        return overlaps[np.ix_(chosen[order], objects)]
