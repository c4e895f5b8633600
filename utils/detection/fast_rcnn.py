"""Fast R-CNN: Girshick (ICCV 2015). The image goes through the net once; each proposal's features are cut out of its
feature map, and two branches say what it is and how it must be moved. Faster R-CNN has the same second stage, and finds
the proposals itself.
"""

import keras
import numpy as np
from keras import layers, ops

from utils import boxes as geometry
from utils.architectures.blocks import conv_relu
from utils.backbones import backbone as build_backbone
from utils.detection import coding, losses, matching, roi, sampling
from utils.detection.detector import Detector, with_room

WEIGHTS = (10, 10, 5, 5)  # of the coded boxes: the paper divides by their spread


def head(input_shape, classes, units=(1024, 1024), convolutions=(), name="box_head"):
    """What stands on a proposal's features: dense layers, then two branches.

    Args:
        input_shape: (h, w, channels) of a proposal's features.
        classes: number of classes, without the background.
        units: of the dense layers.
        convolutions: filters of 3x3 convolutions before them.
        name: of the model.

    Returns:
        keras.Model from (N, h, w, channels) to class logits (N, 1 + classes), background first, and deltas (N, classes
        * 4), a box for each class.
    """
    x = inputs = layers.Input(input_shape)
    for number, filters in enumerate(convolutions, 1):
        x = conv_relu(x, filters, 3, name=f"conv{number}")
    x = layers.Flatten(name="flatten")(x)
    for number, count in enumerate(units, 1):
        x = layers.Dense(count, activation="relu", kernel_initializer="he_uniform", name=f"dense{number}")(x)
    logits = layers.Dense(1 + classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name="logits")
    deltas = layers.Dense(classes * 4, kernel_initializer=keras.initializers.RandomNormal(stddev=0.001), name="deltas")
    return keras.Model(inputs, [logits(x), deltas(x)], name=name)


def roi_targets(proposals, boxes, labels, noise, ignored=None, count=512, share=0.25, threshold=0.5):
    """Which proposals a step learns from, and what they should become (section 2.3, "mini-batch sampling").

    The true boxes join the proposals, so that there are positives from the first step on. A proposal is positive if its
    IoU with an object is at least `threshold`; the rest is background.

    Args:
        proposals: (B, P, 4) `xyxy` pixels; entries without area are padding.
        boxes, labels, ignored: (B, M, 4), (B, M) padded with -1, (B, M) bool or None.
        noise: (B, P + M) in [0, 1): the draw.
        count, share, threshold: numbers; the paper draws 64 of an image, a quarter positive.

    Returns:
        dict of `rois` (B, K, 4), positives first, `labels` (B, K) int32: 0 background, 1 to C the class, -1 for entries
        that only fill up; `matched` (B, K) int32, the index of the object (0 for background), `deltas` (B, K, 4). K is
        the smaller of `count` and P + M.
    """
    boxes, labels = ops.cast(boxes, "float32"), ops.cast(labels, "int32")
    valid = labels >= 0
    rois = ops.stop_gradient(ops.concatenate([proposals, boxes], axis=1))
    there = geometry.area(rois) > 0
    matched = matching.match(geometry.iou(boxes, rois), threshold, threshold, False, valid, ignored)
    positive = ops.logical_and(matched >= 0, there)
    negative = ops.logical_and(matched == matching.BACKGROUND, there)
    places, chosen = sampling.sample_indices(positive, negative, noise, count, share)
    rois = ops.take_along_axis(rois, places[..., None], axis=1)
    matched = ops.take_along_axis(matched, places, axis=1)
    at = ops.maximum(matched, 0)
    of_class = 1 + ops.take_along_axis(labels, at, axis=1)
    return {
        "rois": rois,
        "labels": ops.where(chosen, ops.where(matched >= 0, of_class, 0), -1),
        "matched": at,
        "deltas": coding.encode(ops.take_along_axis(boxes, at[..., None], axis=1), rois, WEIGHTS),
    }


def head_losses(targets, logits, deltas):
    """Equation 1: cross-entropy of the class, and smooth L1 of the true class's box for positives; both divided by the
    number of RoIs.

    Args:
        targets: what `roi_targets` gives.
        logits: (B, K, 1 + C).
        deltas: (B, K, C, 4).

    Returns:
        dict of scalars, `class_loss` and `box_loss`.
    """
    labels = targets["labels"]
    counted, positive = ops.cast(labels >= 0, "float32"), labels > 0
    count = ops.maximum(ops.sum(counted), 1.0)
    logits = ops.cast(logits, "float32")
    own = ops.take_along_axis(logits, ops.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    entropy = ops.logsumexp(logits, axis=-1) - own
    told = ops.take_along_axis(deltas, ops.maximum(labels - 1, 0)[..., None, None], axis=2)[:, :, 0]
    of_boxes = ops.sum(losses.smooth_l1(targets["deltas"], told), axis=-1)
    return {
        "class_loss": ops.sum(counted * entropy) / count,
        "box_loss": ops.sum(ops.where(positive, of_boxes, 0.0)) / count,
    }


def class_boxes(logits, deltas, rois):
    """From the two branches to boxes and scores.

    Args:
        logits: (B, K, 1 + C); deltas: (B, K, C, 4); rois: (B, K, 4) `xyxy` pixels, without area where there is none.

    Returns:
        boxes (B, K, C, 4) float32, one for each class, and scores (B, K, C) float32, the softmax without the
        background, 0 for padding.
    """
    boxes = coding.decode(deltas, rois[:, :, None], WEIGHTS)
    scores = ops.softmax(ops.cast(logits, "float32"), axis=-1)[..., 1:]
    return boxes, ops.where(geometry.area(rois)[..., None] > 0, scores, 0.0)


def level_of(rois, levels, canonical=224.0, canonical_level=4):
    """The level of the pyramid from which a RoI takes its features: k = 4 + log2(sqrt(w h) / 224), rounded down (FPN,
    equation 1).

    Args:
        rois: (..., 4) `xyxy` pixels.
        levels: the levels there are, rising.
        canonical, canonical_level: the side of a RoI, in pixels, that belongs to that level.

    Returns:
        (...) int32, one of the levels.
    """
    side = ops.sqrt(ops.maximum(geometry.area(rois), 1e-6))
    level = ops.floor(canonical_level + ops.log(side / canonical) / ops.log(2.0) + 1e-6)
    return ops.cast(ops.clip(level, levels[0], levels[-1]), "int32")


def roi_features(maps, rois, output_size, pool="align", samples=2, **level_options):
    """Features of RoIs, each from the map of its level.

    All RoIs are cut out of all maps, and each keeps what comes from its own level: shapes are then fixed.

    Args:
        maps: dict of level -> (B, H, W, C).
        rois: (B, K, 4) `xyxy` pixels.
        output_size: int.
        pool: "align" for RoIAlign, "pool" for RoIPool.
        samples: of RoIAlign.
        level_options: for `level_of`.

    Returns:
        (B, K, output_size, output_size, C).
    """
    if pool not in ("align", "pool"):
        raise ValueError(f"pool is 'align' or 'pool', not {pool!r}")
    levels = sorted(maps)
    own = level_of(rois, levels, **level_options) if len(levels) > 1 else None
    total = 0.0
    for level in levels:
        if pool == "align":
            found = roi.roi_align(maps[level], rois, output_size, 1 / 2**level, samples)
        else:
            found = roi.roi_pool(maps[level], rois, output_size, 1 / 2**level)
        if own is None:
            return found
        total = total + ops.where((own == level)[..., None, None, None], found, ops.zeros_like(found))
    return total


def on_rois(head, features, training=False):
    """A head on the features of all RoIs of a batch.

    Args:
        head: keras.Model from (N, h, w, C) to one output (N, ...) or several.
        features: (B, K, h, w, C).
        training: bool.

    Returns:
        The head's outputs, (B, K, ...) each.
    """
    outputs = head(ops.reshape(features, (-1, *features.shape[2:])), training=training)
    count = features.shape[1]
    return keras.tree.map_structure(lambda x: ops.reshape(x, (-1, count, *x.shape[1:])), outputs)


def class_outputs(box_head, features, training=False):
    """What the box head says of all RoIs of a batch: arguments as for `on_rois`, with what `head` gives.

    Returns:
        logits (B, K, 1 + classes) and deltas (B, K, classes, 4).
    """
    logits, deltas = on_rois(box_head, features, training)
    return logits, ops.reshape(deltas, (-1, *deltas.shape[1:-1], deltas.shape[-1] // 4, 4))


@keras.saving.register_keras_serializable("convnets")
class FastRCNN(Detector):
    """Fast R-CNN on proposals that are given, such as those of selective search. As it stands it is the paper's largest
    one, on VGG16 without its last pool; `small` makes one for two cores.

    A batch has `proposals` (B, P, 4) `xyxy` pixels besides images and truth, padded with boxes of zeros
    (`padded_proposals`); `detect(images, proposals)` takes them as its second argument. On a batch with labels a call
    gives what the losses need, on one without what detection needs.

    A step samples RoIs as `roi_targets` says. The paper takes background from proposals with an IoU of .1 to .5 with an
    object; here, as in Detectron2 and torchvision, all below .5 are background, and the true boxes join the proposals.

    Args:
        classes: number of classes, without the background.
        image_shape: (height, width, channels), known.
        backbone, weights, backbone_options: for `utils.backbones.backbone`; the last one a dict, or None.
        level: of the backbone's map.
        roi_samples: RoIs of an image that a step learns from; the paper's batches are 128 of two images.
        roi_share: at most this share of them is positive.
        roi_size: bins of a RoI's features, along each axis.
        pool: "pool" for RoIPool, "align" for RoIAlign.
        units: of the head's dense layers.
        seed: of the draws.
        name, kwargs: as for `keras.Model`.
    """

    loss_names = ("class_loss", "box_loss")
    detects_from = ("image", "proposals")

    def __init__(
        self,
        classes,
        image_shape=(608, 800, 3),
        backbone="vgg16",
        weights=None,
        backbone_options=None,
        level=4,
        roi_samples=64,
        roi_share=0.25,
        roi_size=7,
        pool="pool",
        units=(4096, 4096),
        seed=0,
        name="fast_rcnn",
        **kwargs,
    ):
        arguments = {
            key: value for key, value in locals().items() if key not in ("self", "__class__", "name", "kwargs")
        }
        body = build_backbone(backbone, image_shape, levels=[level], weights=weights, **(backbone_options or {}))
        (features,) = keras.tree.flatten(body.output)
        super().__init__(arguments, name=name, **kwargs)
        self.network = keras.Model(body.input, features, name="network")
        self.classes, self.image_shape = classes, tuple(image_shape)
        self.level, self.roi_size, self.pool = level, roi_size, pool
        self.roi_samples, self.roi_share = roi_samples, roi_share
        self.box_head = head((roi_size, roi_size, features.shape[-1]), classes, units)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=None):
        """The image once, the head on each RoI; see the class."""
        if not isinstance(inputs, dict) or "proposals" not in inputs:
            raise ValueError(f"{self.name} takes a dict with image and proposals: it finds none itself")
        if "labels" not in inputs:
            features = self.network(inputs["image"], training=False)
            rois = ops.cast(inputs["proposals"], "float32")
            logits, deltas = self.second_stage(features, rois)
            return {"rois": rois, "logits": logits, "box_deltas": deltas}
        batch = with_room(inputs)
        features = self.network(batch["image"], training=training)
        proposals, boxes = (ops.cast(batch[key], "float32") for key in ("proposals", "boxes"))
        noise = ops.concatenate([proposals, boxes], axis=1)[..., 0]
        noise = keras.random.uniform(ops.shape(noise), seed=self.generator)
        truth = boxes, batch["labels"], noise, batch.get("ignored")
        targets = roi_targets(proposals, *truth, count=self.roi_samples, share=self.roi_share)
        logits, deltas = self.second_stage(features, targets["rois"], training)
        return {"roi_targets": targets, "logits": logits, "box_deltas": deltas}

    def second_stage(self, features, rois, training=False):
        """Class logits (B, K, 1 + C) and deltas (B, K, C, 4) of RoIs (B, K, 4)."""
        cut = roi_features({self.level: features}, rois, self.roi_size, self.pool)
        return class_outputs(self.box_head, cut, training)

    def losses_of(self, batch, outputs):
        """The multi-task loss, its two terms apart."""
        return head_losses(outputs["roi_targets"], outputs["logits"], outputs["box_deltas"])

    def boxes_and_scores(self, outputs):
        """Boxes (B, P, C, 4) and scores (B, P, C): each proposal, moved for each class."""
        return class_boxes(outputs["logits"], outputs["box_deltas"], outputs["rois"])

    def detect(self, images, proposals, score_threshold=0.05, iou_threshold=0.5, max_detections=100, batch_size=16):
        """Find objects among proposals.

        Args:
            images: (B, H, W, 3), uint8 or float from 0 to 255.
            proposals: (B, P, 4) `xyxy` pixels, boxes of zeros where an image has fewer. Another P is compiled anew.
            score_threshold, iou_threshold, max_detections, batch_size: as for `Detector.detect`.

        Returns:
            dict as `Detector.detect` gives it.

        Raises:
            ValueError: images of another shape, or proposals of another shape or number of images.
        """
        images = self.checked_images(images)
        proposals = np.asarray(ops.convert_to_numpy(proposals), np.float32)
        if proposals.ndim != 3 or proposals.shape[::2] != (len(images), 4):
            raise ValueError(f"{self.name} takes proposals ({len(images)}, P, 4), not {proposals.shape}")
        given = {"image": images, "proposals": proposals}
        return self.detect_in(given, images.shape[1:3], score_threshold, iou_threshold, max_detections, batch_size)


def padded_proposals(proposals, count):
    """Lists of proposals as one array.

    Args:
        proposals: list of (N, 4) `xyxy` pixels, one an image, the best first.
        count: int: further ones are left out, and missing ones are boxes of zeros.

    Returns:
        (B, count, 4) float32.
    """
    padded = np.zeros((len(proposals), count, 4), np.float32)
    for row, boxes in zip(padded, proposals):
        kept = np.asarray(boxes, np.float32).reshape(-1, 4)[:count]
        row[: len(kept)] = kept
    return padded


def small(classes, image_shape=(96, 96, 3), backbone="shapes", **options):
    """A Fast R-CNN for two cores and objects of 14 to 50 pixels: a map of stride 8.

    Args:
        classes, image_shape, backbone: as in `FastRCNN`.
        options: further arguments of `FastRCNN`.

    Returns:
        FastRCNN.
    """
    given = {"level": 3, "roi_samples": 48, "roi_size": 6, "units": (128,)} | options
    return FastRCNN(classes, image_shape, backbone, **given)
