"""Mask R-CNN: He, Gkioxari, Dollar and Girshick (ICCV 2017), on Faster R-CNN.

A third branch beside class and box says for each pixel of a proposal, in a small grid, whether it belongs to the
object. It predicts a mask for each class, and the class branch picks one: the classes do not compete for a pixel
(section 3, "mask representation"). The same branch with other outputs finds keypoints: each is a mask of one pixel
(section 5).
"""

import keras
from keras import layers, ops

from utils import boxes as geometry
from utils.architectures.blocks import conv, conv_relu
from utils.detection import fast_rcnn, faster_rcnn, nms, roi

# The mask branch


def mask_head(input_shape, classes, filters=(256, 256, 256, 256), name="mask_head"):
    """The branch on a feature pyramid (figure 4, right): 3x3 convolutions, one doubling, a mask for each class.

    Args:
        input_shape: (h, w, channels) of a proposal's features; the paper's are 14 x 14 x 256.
        classes: number of classes, without the background.
        filters: of the convolutions, as many as there are; the last number is that of the doubling too.
        name: of the model.

    Returns:
        keras.Model from (N, h, w, channels) to logits (N, 2 h, 2 w, classes).
    """
    x = inputs = layers.Input(input_shape)
    for number, count in enumerate(filters, 1):
        x = conv_relu(x, count, 3, name=f"conv{number}")
    x = layers.Conv2DTranspose(filters[-1], 2, 2, activation="relu", kernel_initializer="he_uniform", name="double")(x)
    return keras.Model(inputs, conv(x, classes, 1, name="logits"), name=name)


def mask_targets(masks, rois, matched, size, samples=2):
    """What the mask of each RoI should be: the true mask of its object, cut out by RoIAlign (section 3.1, "training").

    A bin is the share of its points that lie on the object. Detectron2 rounds it to 0 or 1; as in torchvision it stays
    as it is, and tells where in the bin the edge lies.

    Args:
        masks: (B, M, H, W), 0 or 1, of all objects, at the size of the image.
        rois: (B, K, 4) `xyxy` pixels.
        matched: (B, K) int, the index of each RoI's object.
        size: int, bins along each side.
        samples: int, points in a bin along each axis.

    Returns:
        (B, K, size, size) float32 in [0, 1]. Nothing flows back.
    """
    count, height, width = masks.shape[1:]
    images = ops.arange(ops.shape(masks)[0], dtype="int32")[:, None]
    own = ops.take(ops.reshape(masks, (-1, height, width)), images * count + ops.cast(matched, "int32"), axis=0)
    own = ops.reshape(ops.cast(own, "float32"), (-1, height, width, 1))  # one image with one box for each RoI
    found = roi.roi_align(own, ops.reshape(rois, (-1, 1, 4)), size, 1.0, samples)
    return ops.stop_gradient(ops.reshape(found, (-1, rois.shape[1], size, size)))


def mask_loss(targets, labels, logits):
    """Binary cross-entropy of each RoI's own class's mask: the mean over its pixels, and over the positive RoIs.

    Args:
        targets: (B, K, s, s) in [0, 1].
        labels: (B, K) int: 1 to C the class; RoIs of 0 and below have no mask.
        logits: (B, K, s, s, C).

    Returns:
        scalar float32; 0 without a positive RoI.
    """
    own = masks_of_class(ops.cast(logits, "float32"), labels - 1)
    entropy = ops.mean(ops.binary_crossentropy(targets, own, from_logits=True), axis=(-2, -1))
    positive = ops.cast(labels > 0, "float32")
    return ops.sum(positive * entropy) / ops.maximum(ops.sum(positive), 1.0)


def masks_of_class(masks, labels):
    """Of the masks of all classes, the one of a RoI's class.

    Args:
        masks: (B, K, s, s, C).
        labels: (B, K) int, from 0 to C - 1; -1 gives zeros.

    Returns:
        (B, K, s, s).
    """
    chosen = ops.one_hot(labels, masks.shape[-1], dtype=masks.dtype)
    return ops.einsum("bkhwc,bkc->bkhw", masks, chosen)


def enlarge(masks, boxes, height, width):
    """Small masks laid on the image, each where its box lies: bilinear interpolation between the centres of the small
    mask's pixels, and 0 outside of it, as Detectron2 does it.

    A pixel's value is a weighted sum over the rows of the small mask of weighted sums over its columns: two matrices
    for each box.

    Args:
        masks: (B, K, h, w) float, from 0 to 1.
        boxes: (B, K, 4) `xyxy` pixels. On a box without area nothing is laid.
        height, width: of the image.

    Returns:
        (B, K, height, width) float32.
    """
    masks, boxes = geometry.floats(ops, masks, boxes, wide=True)
    rows = _resampling(boxes[..., 1], boxes[..., 3], masks.shape[2], height)  # (B, K, height, h)
    columns = _resampling(boxes[..., 0], boxes[..., 2], masks.shape[3], width)  # (B, K, width, w)
    return ops.matmul(ops.matmul(rows, masks), ops.transpose(columns, (0, 1, 3, 2)))


def _resampling(start, end, cells, pixels):
    """Weights (B, K, pixels, cells) of the cells between start and end (B, K) at the centres of an image's pixels."""
    side = end - start
    there = side > 0
    at = (ops.arange(pixels, dtype="float32") + 0.5 - start[..., None]) / ops.where(there, side, 1.0)[..., None]
    weights = ops.maximum(1 - ops.abs(at[..., None] * cells - 0.5 - ops.arange(cells, dtype="float32")), 0)
    return ops.where(there[..., None, None], weights, 0.0)


def paste(masks, boxes, height, width, threshold=0.5):
    """Masks of the image's size (section 3.1, "inference"): enlarged while soft, then cut at the threshold.

    Args:
        masks, boxes, height, width: as for `enlarge`.
        threshold: float; a pixel of this value belongs to the object.

    Returns:
        (B, K, height, width) bool.
    """
    return enlarge(masks, boxes, height, width) >= threshold


# The keypoint branch


def keypoint_head(input_shape, keypoints, filters=(512,) * 8, name="keypoint_head"):
    """The branch of section 5: 3x3 convolutions, one doubling by a transposed convolution and one by interpolation.

    Args:
        input_shape: (h, w, channels) of a proposal's features; the paper's are 14 x 14 x 256.
        keypoints: number of kinds of keypoints.
        filters: of the convolutions, as many as there are.
        name: of the model.

    Returns:
        keras.Model from (N, h, w, channels) to logits (N, 4 h, 4 w, keypoints).
    """
    x = inputs = layers.Input(input_shape)
    for number, count in enumerate(filters, 1):
        x = conv_relu(x, count, 3, name=f"conv{number}")
    x = layers.Conv2DTranspose(keypoints, 4, 2, "same", kernel_initializer="he_uniform", name="double")(x)
    return keras.Model(inputs, layers.UpSampling2D(2, interpolation="bilinear", name="logits")(x), name=name)


def keypoint_targets(keypoints, rois, matched, size):
    """The one bin of size x size in which each keypoint of a RoI's object lies.

    Args:
        keypoints: (B, M, N, 3): x, y in pixels and visibility, 0 for a keypoint that is not there.
        rois: (B, K, 4) `xyxy` pixels.
        matched: (B, K) int, the index of each RoI's object.
        size: int, bins along each side.

    Returns:
        bins (B, K, N) int32, row * size + column, and (B, K, N) bool: whether the keypoint is there, in the RoI. Hidden
        keypoints (visibility 1) count as the others, as in torchvision and Detectron2.
    """
    own = ops.take_along_axis(ops.cast(keypoints, "float32"), ops.cast(matched, "int32")[..., None, None], axis=1)
    start, sides = rois[:, :, None, :2], ops.maximum(rois[:, :, None, 2:] - rois[:, :, None, :2], 1e-6)
    inside = (own[..., :2] - start) / sides  # 0 to 1 in the RoI
    there = ops.logical_and(own[..., 2] > 0, ops.all(ops.logical_and(inside >= 0, inside <= 1), axis=-1))
    bins = ops.cast(ops.clip(ops.floor(inside * size), 0, size - 1), "int32")
    return bins[..., 1] * size + bins[..., 0], there


def keypoint_loss(bins, there, labels, logits):
    """Cross-entropy of a softmax over all places of a keypoint's map: the mean over the keypoints of positive RoIs.

    Args:
        bins, there: what `keypoint_targets` gives.
        labels: (B, K) int; RoIs of 0 and below do not count.
        logits: (B, K, s, s, N).

    Returns:
        scalar float32; 0 without a keypoint.
    """
    size, count = logits.shape[-2:]
    maps = ops.transpose(
        ops.reshape(ops.cast(logits, "float32"), (-1, bins.shape[1], size * size, count)), (0, 1, 3, 2)
    )
    entropy = ops.logsumexp(maps, axis=-1) - ops.take_along_axis(maps, bins[..., None], axis=-1)[..., 0]
    counted = ops.cast(ops.logical_and(there, labels[..., None] > 0), "float32")
    return ops.sum(counted * entropy) / ops.maximum(ops.sum(counted), 1.0)


def decode_keypoints(logits, boxes):
    """The place of each keypoint: the centre of the bin with the highest logit.

    Args:
        logits: (B, K, s, s, N).
        boxes: (B, K, 4) `xyxy` pixels.

    Returns:
        (B, K, N, 3) float32: x and y in pixels, and the bin's probability under the softmax over all places.
    """
    size, count = logits.shape[-2:]
    logits, boxes = geometry.floats(ops, logits, boxes, wide=True)
    maps = ops.reshape(logits, (-1, boxes.shape[1], size * size, count))
    best = ops.cast(ops.argmax(maps, axis=2), "int32")  # (B, K, N)
    score = ops.exp(ops.max(maps, axis=2) - ops.logsumexp(maps, axis=2))
    row, column = (ops.cast(place, "float32") for place in (best // size, best % size))
    x = boxes[..., 0:1] + (column + 0.5) / size * (boxes[..., 2:3] - boxes[..., 0:1])
    y = boxes[..., 1:2] + (row + 0.5) / size * (boxes[..., 3:4] - boxes[..., 1:2])
    return ops.stack([x, y, score], axis=-1)


# The whole


@keras.saving.register_keras_serializable("convnets")
class MaskRCNN(faster_rcnn.FasterRCNN):
    """Mask R-CNN. As it stands it is the one with a feature pyramid on ResNet-50 that libraries ship; with
    `mask_filters=None, keypoints=17` and one class it is their Keypoint R-CNN. `small` makes one for two cores.

    Batches have `masks` (B, M, H, W), 0 or 1, if the net learns masks, and `keypoints` (B, M, N, 3) if it learns
    keypoints; both with the objects in the order of `boxes`. The branches learn from the positive RoIs among the
    sampled ones.

    `detect` gives, besides boxes, labels and scores, `masks` (B, K, H, W) bool, or `keypoints` (B, K, N, 3) float32, x
    and y in pixels and a score in [0, 1], or both; zeros in the padding. These branches see only the boxes that are
    detected, moved by the box branch and after the suppression (section 3.1, "inference"): there are fewer of them than
    proposals, and they lie better. While K masks are pasted they take 4 K H W bytes for each image of the batch: for
    large images give `detect` a small `batch_size`.

    Args:
        classes, image_shape, backbone: as for `FasterRCNN`.
        mask_filters: of the mask branch's convolutions; None: no masks.
        mask_roi_size: bins of the features that it sees; its masks have twice as many.
        keypoints: number of kinds of keypoints; 0: none.
        keypoint_filters: of the keypoint branch's convolutions.
        keypoint_roi_size: bins of the features that it sees; its maps have four times as many.
        options: further arguments of `FasterRCNN`.

    Raises:
        ValueError: neither masks nor keypoints.
    """

    def __init__(
        self,
        classes,
        image_shape=(800, 800, 3),
        backbone="resnet50",
        mask_filters=(256, 256, 256, 256),
        mask_roi_size=14,
        keypoints=0,
        keypoint_filters=(512,) * 8,
        keypoint_roi_size=14,
        name="mask_rcnn",
        **options,
    ):
        if mask_filters is None and not keypoints:
            raise ValueError(
                "a Mask R-CNN without masks and keypoints is a Faster R-CNN: give mask_filters or keypoints"
            )
        super().__init__(classes, image_shape, backbone, name=name, **options)
        self._settings.value.update(
            mask_filters=mask_filters,
            mask_roi_size=mask_roi_size,
            keypoints=keypoints,
            keypoint_filters=keypoint_filters,
            keypoint_roi_size=keypoint_roi_size,
        )
        depth = self.box_head.input_shape[-1]
        self.mask_roi_size, self.keypoint_roi_size = mask_roi_size, keypoint_roi_size
        self.mask_head = self.keypoint_head = None
        self.positives = max(1, int(self.roi_samples * self.roi_share))
        heads = []
        if mask_filters is not None:
            self.mask_head = mask_head((mask_roi_size, mask_roi_size, depth), classes, mask_filters)
            heads.append("mask_loss")
        if keypoints:
            shape = (keypoint_roi_size, keypoint_roi_size, depth)
            self.keypoint_head = keypoint_head(shape, keypoints, keypoint_filters)
            heads.append("keypoint_loss")
        self.loss_names = (*self.loss_names, *heads)
        self._loss_parts.extend(keras.metrics.Mean(name=name) for name in heads)

    def mask_logits(self, maps, rois, training=False):
        """Mask logits (B, K, s, s, C) of RoIs (B, K, 4)."""
        return fast_rcnn.on_rois(self.mask_head, self.features_of(maps, rois, self.mask_roi_size), training)

    def keypoint_logits(self, maps, rois, training=False):
        """Keypoint logits (B, K, s, s, N) of RoIs (B, K, 4)."""
        return fast_rcnn.on_rois(self.keypoint_head, self.features_of(maps, rois, self.keypoint_roi_size), training)

    def outputs_for_losses(self, batch, training):
        """Those of Faster R-CNN, and the branches' logits of the RoIs that may be positive, which come first."""
        outputs = super().outputs_for_losses(batch, training)
        maps, rois = outputs["maps"], outputs["roi_targets"]["rois"][:, : self.positives]
        if self.mask_head is not None:
            outputs["mask_logits"] = self.mask_logits(maps, rois, training)
        if self.keypoint_head is not None:
            outputs["keypoint_logits"] = self.keypoint_logits(maps, rois, training)
        return outputs

    def losses_of(self, batch, outputs):
        """The four losses of Faster R-CNN, and those of the branches."""
        found = super().losses_of(batch, outputs)
        targets = {name: values[:, : self.positives] for name, values in outputs["roi_targets"].items()}
        rois, matched, labels = targets["rois"], targets["matched"], targets["labels"]
        for name, head in (("masks", self.mask_head), ("keypoints", self.keypoint_head)):
            if head is not None and name not in batch:
                raise ValueError(f"{self.name} learns {name}, but the batch has none (it has: {', '.join(batch)})")
        if self.mask_head is not None:
            logits = outputs["mask_logits"]
            wanted = mask_targets(batch["masks"], rois, matched, logits.shape[2])
            found["mask_loss"] = mask_loss(wanted, labels, logits)
        if self.keypoint_head is not None:
            logits = outputs["keypoint_logits"]
            bins, there = keypoint_targets(batch["keypoints"], rois, matched, logits.shape[2])
            found["keypoint_loss"] = keypoint_loss(bins, there, labels, logits)
        return found

    def detections(self, images, score_threshold, iou_threshold, max_detections):
        """Boxes, and then the branches on what is kept of them; see `Detector`."""
        outputs = self(images, training=False)
        boxes, scores = self.boxes_and_scores(outputs)
        found = nms.select(boxes, scores, score_threshold, iou_threshold, max_detections)
        del found["indices"]
        return found | self.details(outputs["maps"], found["boxes"], found["labels"])

    def details(self, maps, boxes, labels):
        """What the branches say of boxes.

        Args:
            maps: of the backbone, as `call` gives them.
            boxes: (B, K, 4) `xyxy` pixels.
            labels: (B, K) int, -1 in the padding.

        Returns:
            dict of `masks` (B, K, H, W) bool and `keypoints` (B, K, N, 3) float32, as the net has them.
        """
        found = {}
        if self.mask_head is not None:
            found["masks"] = paste(self.soft_masks(maps, boxes, labels), boxes, *self.image_shape[:2])
        if self.keypoint_head is not None:
            points = decode_keypoints(self.keypoint_logits(maps, boxes), boxes)
            found["keypoints"] = ops.where((labels >= 0)[..., None, None], points, 0.0)
        return found

    def soft_masks(self, maps, boxes, labels):
        """Masks (B, K, s, s) float32 in [0, 1] of the boxes' own classes, before they are pasted; 0 in the padding."""
        probabilities = ops.sigmoid(ops.cast(self.mask_logits(maps, boxes), "float32"))
        return masks_of_class(probabilities, labels)


def small(classes, image_shape=(96, 96, 3), backbone="shapes", **options):
    """A Mask R-CNN for two cores and objects of 14 to 50 pixels: `faster_rcnn.small`, and 12 RoIs of an image for the
    branches.

    Args:
        classes, image_shape, backbone: as in `FasterRCNN`.
        options: further arguments of `MaskRCNN`.

    Returns:
        MaskRCNN.
    """
    given = {"mask_filters": (64, 64), "keypoint_filters": (64, 64)}
    return MaskRCNN(classes, image_shape, backbone, **(faster_rcnn.SMALL | given | options))
