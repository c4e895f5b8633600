"""R-CNN (Girshick, Donahue, Darrell and Malik, CVPR 2014): region proposals, each warped to one size and put through a
convnet by itself; a linear SVM for each class on its features; a linear regression that moves the box.

It is no `keras.Model`: the convnet is given, trained already, and the rest is scikit-learn's. What it costs is its
lesson: hundreds of proposals an image, and every one a forward pass.
"""

import numpy as np
from keras import ops
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from utils import boxes as geometry
from utils.detection import coding
from utils.detection.nms import batched_nms
from utils.detection.roi import roi_align
from utils.training import filled_batches

CHUNK = 64  # boxes at a time: a fixed number, so that nothing is compiled twice


class RCNN:
    """Detector of the objects that proposals hold.

    Args:
        features: keras.Model from crops (B, size, size, 3), 0 to 255, to vectors (B, D), such as a classifier without
            its last layer.
        classes: int.
        size: int, pixels, of a crop.
        context: float: how many pixels of the surroundings, of those `size`, are on each side of a box (16 of 227 in
            the paper).
        penalty: float, the SVMs' C. The paper's .001 is for features of norm 20, which they are brought to here too.
        seed: int.

    Attributes:
        learnt: (L,) int, the classes whose objects the training showed; None before `fit`.
        svms, regressions: dicts from each of these to its `LinearSVC` and its `Ridge`.
        norm: float that features are multiplied by.
    """

    def __init__(self, features, classes, size=48, context=3.0, penalty=0.001, seed=0):
        self.features, self.classes, self.size, self.context = features, classes, size, context
        self.penalty, self.seed = penalty, seed
        self.learnt, self.svms, self.regressions, self.norm = None, None, None, None

    def fit(self, images, targets, proposals):
        """Train an SVM and a box regression for each class that the images show; no other class is ever found.

        An SVM's positives are the objects themselves; its negatives are the proposals whose IoU with every object of
        the class is below .3. First some of them at random, then also all that this first SVM takes for objects ("hard
        negatives"). A regression learns from proposals that overlap an object by .6 or more.

        Args:
            images: (I, H, W, 3), 0 to 255.
            targets: dict of `boxes` (I, M, 4), `labels` (I, M), -1 for padding, and `ignored` (I, M) bool where there
                are such: nothing is learnt from these objects, nor from proposals that overlap one by .3 or more.
            proposals: list of (N, 4) `xyxy` pixels, one an image.

        Returns:
            self.

        Raises:
            ValueError: numbers of images that differ, a label of `classes` or more, or no object at all.
        """
        if not len(images) == len(targets["labels"]) == len(proposals):
            raise ValueError(
                f"{len(images)} images, targets of {len(targets['labels'])} and proposals for {len(proposals)}"
            )
        vectors, boxes, overlaps, nearest, own = [], [], [], [], []
        ignored = targets.get("ignored", np.zeros(np.shape(targets["labels"]), bool))
        for image, truth, labels, aside, found in zip(images, targets["boxes"], targets["labels"], ignored, proposals):
            truth, labels = np.asarray(truth), np.asarray(labels)
            aside = (labels >= 0) & np.asarray(aside, bool)
            found = np.asarray(found).reshape(-1, 4)
            found = found[geometry.iou(found, truth[aside]).max(axis=1, initial=0) < 0.3]
            counts = (labels >= 0) & ~aside
            truth, labels = truth[counts], labels[counts]
            candidates = np.concatenate([truth, found]).astype(np.float32)
            vectors.append(self.vectors(image, candidates))
            boxes.append(candidates)
            iou = geometry.iou(candidates, truth)
            # For each class the highest IoU with one of its objects, and that object.
            of_class = [np.where(labels == label, iou, -1) for label in range(self.classes)]
            overlaps.append(np.stack([part.max(axis=1, initial=-1) for part in of_class], axis=1))
            index = np.stack([part.argmax(axis=1) if len(truth) else np.zeros(len(part), int) for part in of_class], 1)
            nearest.append(truth[index] if len(truth) else np.zeros((len(candidates), self.classes, 4), np.float32))
            own.append(np.concatenate([labels, np.full(len(candidates) - len(truth), -1)]))
        vectors, boxes, overlaps, nearest, own = map(np.concatenate, (vectors, boxes, overlaps, nearest, own))
        learnt = np.unique(own[own >= 0])
        if not len(learnt):
            raise ValueError("there is no object to learn from")
        if learnt[-1] >= self.classes:
            raise ValueError(f"there is a label {learnt[-1]}, but there are only {self.classes} classes")
        self.learnt, self.norm = learnt, 20 / max(np.linalg.norm(vectors, axis=1).mean(), 1e-12)
        vectors = vectors * self.norm
        self.svms, self.regressions = {}, {}
        for label in learnt:
            self.svms[label] = self._svm(vectors[own == label], vectors[overlaps[:, label] < 0.3], label)
            good = overlaps[:, label] >= 0.6
            moves = coding.encode(nearest[good, label], boxes[good])
            self.regressions[label] = Ridge(alpha=1000).fit(vectors[good], moves)
        return self

    def _svm(self, positives, negatives, label):
        random = np.random.default_rng([self.seed, label])
        first = random.permutation(len(negatives))[: 10 * len(positives)]
        svm = self._fitted(positives, negatives[first])
        hard = np.flatnonzero(svm.decision_function(negatives) > -1)  # inside the margin, or on the wrong side
        return self._fitted(positives, negatives[np.union1d(first, hard)])

    def _fitted(self, positives, negatives):
        x = np.concatenate([positives, negatives])
        y = np.repeat([1, 0], [len(positives), len(negatives)])
        return LinearSVC(C=self.penalty, class_weight="balanced", random_state=self.seed).fit(x, y)

    def detect(self, images, proposals, score_threshold=0.5, iou_threshold=0.3, max_detections=100):
        """Find objects among proposals.

        Args:
            images: (I, H, W, 3), 0 to 255.
            proposals: list of (N, 4) `xyxy` pixels, one an image.
            score_threshold: float; a score is the sigmoid of the SVM's margin, so that .5 is its border.
            iou_threshold: float, of the suppression within a class. It comes before the boxes are moved, so that only
                what is left is moved; the authors' code moves all of them first.
            max_detections: int, K.

        Returns:
            dict of `boxes` (I, K, 4) float32 `xyxy` pixels, cut to the image, `labels` (I, K) int32, -1 in the padding,
            `scores` (I, K) float32.

        Raises:
            ValueError: it is not trained yet, or numbers of images differ.
        """
        if self.svms is None:
            raise ValueError("train it first: fit(images, targets, proposals)")
        if len(images) != len(proposals):
            raise ValueError(f"{len(images)} images, but proposals for {len(proposals)}")
        result = {
            "boxes": np.zeros((len(images), max_detections, 4), np.float32),
            "labels": np.full((len(images), max_detections), -1, np.int32),
            "scores": np.zeros((len(images), max_detections), np.float32),
        }
        for number, (image, boxes) in enumerate(zip(images, proposals)):
            boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
            if not len(boxes):
                continue
            vectors = self.vectors(image, boxes) * self.norm
            margins = np.stack([self.svms[label].decision_function(vectors) for label in self.learnt], axis=1)
            scores = 1 / (1 + np.exp(-np.clip(margins, -30, 30)))
            rows, columns = np.nonzero(scores > score_threshold)
            if not len(rows):
                continue
            labels, values = self.learnt[columns], scores[rows, columns].astype(np.float32)
            kept = ops.convert_to_numpy(batched_nms(boxes[rows], values, labels, iou_threshold, max_detections))
            kept = kept[kept >= 0]
            deltas = np.stack([self.regressions[labels[i]].predict(vectors[rows[i] : rows[i] + 1])[0] for i in kept])
            moved = geometry.clip(coding.decode(deltas, boxes[rows[kept]]), *image.shape[:2])
            for name, array in (("boxes", moved), ("labels", labels[kept]), ("scores", values[kept])):
                result[name][number, : len(kept)] = array
        return result

    def vectors(self, image, boxes):
        """Features (N, D) of the warped boxes (N, 4) of an image (H, W, 3)."""
        if not len(boxes):
            return np.zeros((0, self.features.output_shape[-1]), np.float32)
        found = []
        for batch, kept in filled_batches([np.asarray(boxes, np.float32)], CHUNK):
            crops = warp(image, batch[0], self.size, self.context)
            found.append(ops.convert_to_numpy(self.features.predict_on_batch(crops))[:kept])
        return np.concatenate(found)


def warp(image, boxes, size, context=0.0):
    """Boxes cut out and stretched to one size, whatever their shape (section 2.1 of the paper, and its appendix A).

    Args:
        image: (H, W, 3), 0 to 255.
        boxes: (N, 4) `xyxy` pixels.
        size: int, pixels, height and width of the crops.
        context: float: so many pixels of the crop, on each side, show what is around the box. What lies outside the
            image has its mean colour.

    Returns:
        (N, size, size, 3) float32.
    """
    pixels = np.asarray(image, np.float32)
    boxes = np.asarray(boxes, np.float32)
    mean = pixels.mean(axis=(0, 1))
    margin = (boxes[:, 2:] - boxes[:, :2]) * context / (size - 2 * context)
    around = np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=-1)
    return ops.convert_to_numpy(roi_align((pixels - mean)[None], around[None], size, 1.0))[0] + mean
