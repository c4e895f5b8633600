"""OverFeat (Sermanet et al., ICLR 2014) in small: one convolutional net looks at every window of an image at once, at
several scales.

A convolution over the whole image computes what a net for one window would compute in each of them, and shares what
they have in common. The class head says what is in a window; the box head says where in the window it is. The box head
learns on features that the class head alone forms, as in the paper, where it is trained after it: here both train at
once, and no gradient goes from the box head to the features.

Detections are merged by greedy averaging (`merge`), which is the paper's, or left to the suppression of `detect`.
"""

import keras
import numpy as np
from keras import layers, ops

from utils import boxes as geometry
from utils.detection import anchors, coding, losses, matching
from utils.detection.detector import Detector, image_of

WINDOW, STRIDE = 48, 8  # pixels: what one output sees, and how far apart two outputs look


@keras.saving.register_keras_serializable("convnets")
class OverFeat(Detector):
    """A class head and a box head on a coarse grid of windows of 48 pixels, at steps of 8, on the image at several
    scales.

    The windows on an image of 96 pixels are 7 x 7 at scale 1; at scale 2, 19 x 19, each of 24 pixels of the image. A
    window is trained as an object's, if their IoU is at least .4, and as background below .25.

    Departures from the paper: six thin convolutions in the place of its eight wide layers (nine in the accurate
    network); windows that hold no object are a class of their own from the beginning; the grids are not shifted
    against each other ("resolution augmentation").

    Args:
        classes: int.
        input_shape: (H, W, 3) of the images.
        scales: floats; the image is enlarged so many times.
        width: int, channels of the first convolution; later ones have up to four times as many.
        kwargs: `name`, `dtype`.

    Raises:
        ValueError: an image that is smaller than a window at one of the scales.
    """

    loss_names = ("class_loss", "box_loss")

    def __init__(self, classes, input_shape=(96, 96, 3), scales=(1.0, 1.5, 2.0), width=24, **kwargs):
        settings = {"classes": classes, "input_shape": list(input_shape), "scales": list(scales), "width": width}
        super().__init__(settings=settings, **kwargs)
        self.classes = classes
        self.sizes = [tuple(round(scale * side) for side in input_shape[:2]) for scale in scales]
        if min(map(min, self.sizes)) < WINDOW:
            raise ValueError(
                f"an image of {input_shape[:2]} at the scales {scales} is smaller than a window of {WINDOW}"
            )
        self.windows = np.concatenate([windows(size, input_shape[:2]) for size in self.sizes])
        self.features = features(width)
        self.class_head = head("class_head", 4 * width, classes + 1)
        self.box_head = head("box_head", 4 * width, classes * 4)
        for part in (self.class_head, self.box_head):
            part.build((None, None, None, 4 * width))

    def call(self, inputs, training=False):
        """Logits (B, N, classes + 1), background last, and deltas (B, N, classes, 4) of all N windows of all scales."""
        images = ops.cast(image_of(inputs), "float32")
        logits, deltas = [], []
        for size in self.sizes:
            scaled = images if size == tuple(images.shape[1:3]) else ops.image.resize(images, size)
            maps = self.features(scaled, training=training)
            logits.append(_rows(self.class_head(maps), self.classes + 1))
            deltas.append(_rows(self.box_head(ops.stop_gradient(maps)), self.classes, 4))
        return ops.cast(ops.concatenate(logits, axis=1), "float32"), ops.cast(
            ops.concatenate(deltas, axis=1), "float32"
        )

    def losses_of(self, batch, outputs):
        logits, deltas = outputs
        ignored = batch.get("ignored")
        iou = geometry.iou(batch["boxes"], self.windows)
        matched = matching.match(iou, 0.4, 0.25, valid=batch["labels"] >= 0, ignored=ignored)
        at = ops.maximum(matched, 0)
        there, counted = matched >= 0, ops.cast(matched != matching.IGNORED, "float32")
        labels = ops.take_along_axis(ops.cast(batch["labels"], "int32"), at, axis=1)
        labels = ops.where(there, labels, self.classes)
        class_loss = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        # Windows with objects are few: they weigh as much as the background does, taken together.
        positive = ops.cast(there, "float32")
        negative = counted * (1 - positive)
        parts = [ops.sum(class_loss * part) / ops.maximum(ops.sum(part), 1) for part in (positive, negative)]
        own = ops.take_along_axis(deltas, ops.minimum(labels, self.classes - 1)[..., None, None], axis=2)[:, :, 0]
        truth = coding.encode(ops.take_along_axis(batch["boxes"], at[..., None], axis=1), self.windows)
        box_loss = ops.sum(losses.smooth_l1(truth, own), axis=-1)
        return {
            "class_loss": (parts[0] + parts[1]) / 2,
            "box_loss": ops.sum(box_loss * positive) / ops.maximum(ops.sum(positive), 1),
        }

    def boxes_and_scores(self, outputs):
        logits, deltas = outputs
        return coding.decode(deltas, self.windows[:, None]), ops.softmax(logits, axis=-1)[..., : self.classes]

    def detect_merged(self, images, score_threshold=0.3, closeness=0.5, max_detections=100, batch_size=16):
        """As `detect`, but what overlaps is merged by greedy averaging and not suppressed.

        Args:
            images, score_threshold, max_detections, batch_size: as for `detect`.
            closeness: as for `merge`.

        Returns:
            dict as `detect` gives it; scores are those of `merge`.
        """
        # At a threshold of 1, nothing is suppressed.
        found = self.detect(images, score_threshold, 1.0, max_detections=300, batch_size=batch_size)
        count = len(found["labels"])
        result = {
            "boxes": np.zeros((count, max_detections, 4), np.float32),
            "labels": np.full((count, max_detections), -1, np.int32),
            "scores": np.zeros((count, max_detections), np.float32),
        }
        for image in range(count):
            merged = merge(*(found[name][image] for name in ("boxes", "labels", "scores")), closeness)
            for name, values in zip(("boxes", "labels", "scores"), merged):
                kept = values[:max_detections]
                result[name][image, : len(kept)] = kept
        return result


def _rows(maps, *shape):
    """A map (B, h, w, C) as (B, h w, *shape)."""
    return ops.reshape(maps, (-1, maps.shape[1] * maps.shape[2], *shape))


def features(width):
    """The convolutions below both heads, for images of 0 to 255 of any size: a window of 48 pixels becomes 4 x 4
    places, without padding."""
    images = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, -1)(images)
    for channels, size, stride in ((width, 6, 2), (width, 3, 1), (2 * width, 3, 1), (4 * width, 1, 1)):
        x = layers.Conv2D(channels, size, stride, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))
        if size == 3:
            x = layers.MaxPooling2D(2)(x)
    return keras.Model(images, x, name="features")


def head(name, hidden, outputs):
    """Two dense layers on the 4 x 4 places of a window, as convolutions, so that they slide over maps of any size."""
    return keras.Sequential(
        [layers.Conv2D(hidden, 4, activation="relu"), layers.Conv2D(outputs, 1, dtype="float32")], name=name
    )


def windows(size, image_size):
    """(N, 4) float32 `xyxy`: the windows that the net sees on an image enlarged to `size`, in pixels of the image, row
    by row."""
    counts = [(side - WINDOW) // STRIDE + 1 for side in size]
    # `place` centres boxes on squares of 8 pixels; the first window begins where the first square does.
    shift = (WINDOW - STRIDE) / 2
    around = np.array([[-WINDOW / 2, -WINDOW / 2, WINDOW / 2, WINDOW / 2]]) + shift
    scale = np.array([image_size[1] / size[1], image_size[0] / size[0]] * 2)
    return (anchors.place(around, counts, STRIDE) * scale).astype(np.float32)


def merge(boxes, labels, scores, closeness=0.5):
    """Greedy averaging (section 4.3 of the paper): the two closest boxes of a class become their mean, until no two are
    close.

    The paper measures how close two boxes are by the distance of their centres and the area they share, without saying
    in which units; here it is 1 - DIoU, which is made of the same. As in the paper the score of a merged box is the sum
    of the scores that went into it, s, so that many windows that agree outweigh a single one; it is given as s / (1 +
    s), which keeps the order and stays below 1.

    Args:
        boxes: (N, 4) `xyxy` pixels.
        labels: (N,) int; -1 is padding and left out.
        scores: (N,) float.
        closeness: float; boxes with 1 - DIoU below it are merged.

    Returns:
        boxes (n, 4), labels (n,), scores (n,) by falling score.
    """
    merged = []
    for label in np.unique(labels[labels >= 0]):
        own = [np.asarray(array, np.float64)[labels == label] for array in (boxes, scores)]
        merged += [(label, box, score) for box, score in zip(*_merge_class(*own, closeness))]
    merged.sort(key=lambda item: -item[2])
    return (
        np.array([box for _, box, _ in merged], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in merged], np.int32),
        np.array([score / (1 + score) for *_, score in merged], np.float32),
    )


def _merge_class(boxes, scores, closeness):
    distance = 1 - geometry.diou(boxes, boxes)
    np.fill_diagonal(distance, np.inf)
    while len(boxes) > 1:
        a, b = np.unravel_index(distance.argmin(), distance.shape)
        if distance[a, b] >= closeness:
            break
        # The mean of all that went into both would be the other choice; the paper takes that of the two.
        boxes[a], scores[a] = (boxes[a] + boxes[b]) / 2, scores[a] + scores[b]
        boxes, scores = np.delete(boxes, b, axis=0), np.delete(scores, b)
        distance = np.delete(np.delete(distance, b, axis=0), b, axis=1)
        a -= a > b
        distance[a] = distance[:, a] = 1 - geometry.diou(boxes[a : a + 1], boxes)[0]
        distance[a, a] = np.inf
    return boxes, scores
