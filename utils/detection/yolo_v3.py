"""YOLOv3, three grids with anchors: Redmon and Farhadi, "YOLOv3: an incremental improvement" (arXiv 1804.02767, 2018).
Where the paper is silent, the authors' Darknet decides.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from utils import boxes as geometry
from utils.architectures.blocks import conv
from utils.architectures.darknet import conv_bn_leaky
from utils.backbones import backbone as build_backbone
from utils.detection import anchors as anchor_boxes
from utils.detection.detector import Detector

# Of 3 levels with 3 anchors each, as (width, height) at 416 pixels, section 2.3: k-means on COCO.
ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)


def cluster_anchors(sizes, count, seed=0, rounds=100):
    """Anchors from data: k-means of widths and heights with the distance 1 - IoU of boxes that share a corner
    (YOLO9000, section 2).

    Args:
        sizes: (N, 2) float, width and height of boxes, pixels.
        count: number of anchors.
        seed: of the first box that a cluster starts from.
        rounds: at most; it ends when no box changes its cluster.

    Returns:
        (count, 2) float32, by area, and the mean IoU of the boxes with their anchors.

    Raises:
        ValueError: fewer different boxes than anchors.
    """
    sizes = np.asarray(sizes, np.float64)
    different = np.unique(sizes, axis=0)
    if len(different) < count:
        raise ValueError(f"{count} anchors from {len(different)} different sizes of boxes")
    centres = different[np.random.default_rng(seed).integers(len(different), size=1)]
    while len(centres) < count:  # each start is the box least like those chosen before: no two in one cluster
        centres = np.concatenate([centres, different[[shape_iou(different, centres).max(axis=1).argmin()]]])
    nearest = None
    for _ in range(rounds):
        overlap = shape_iou(sizes, centres)
        before, nearest = nearest, overlap.argmax(axis=1)
        if before is not None and np.array_equal(before, nearest):
            break
        centres = np.stack(
            [sizes[nearest == k].mean(axis=0) if (nearest == k).any() else centres[k] for k in range(count)]
        )
    centres = centres[np.argsort(centres.prod(axis=1))]
    return centres.astype(np.float32), float(shape_iou(sizes, centres).max(axis=1).mean())


def shape_iou(a, b):
    """IoU (N, M) of boxes that share a corner: of sizes a (N, 2) and b (M, 2)."""
    corners = [np.concatenate([np.zeros_like(sizes), sizes], axis=-1) for sizes in map(np.asarray, (a, b))]
    return geometry.iou(*corners)


@keras.saving.register_keras_serializable("convnets")
class YOLOv3(Detector):
    """YOLOv3. As it stands it is the paper's on Darknet-53: grids of 13, 26 and 52 cells at 416 pixels, three anchors
    in each cell. `small` makes one for two cores.

    Args:
        classes: number of classes.
        image_shape: (height, width, channels), multiples of the coarsest stride.
        backbone, weights, backbone_options: for `utils.backbones.backbone`.
        levels: of its maps, rising by 1; the grids.
        anchors: for each level, the finest first, pairs (width, height) in pixels; None: the paper's, scaled from 416
            to this image.
        width: filters of the neck's 1x1 convolutions at the finest level; they double from level to level.
        ignore: a prediction with no object is not punished if its IoU with some object is above this.
        prior: the probability of an object that the untrained net says everywhere; the paper's is .5. A short training
            wants RetinaNet's .01.
        name, kwargs: as for `keras.Model`.
    """

    loss_names = ("box_loss", "object_loss", "class_loss")

    def __init__(
        self,
        classes=80,
        image_shape=(416, 416, 3),
        backbone="darknet53",
        weights=None,
        backbone_options=None,
        levels=(3, 4, 5),
        anchors=None,
        width=128,
        ignore=0.5,
        prior=0.5,
        name="yolo_v3",
        **kwargs,
    ):
        arguments = {
            key: value for key, value in locals().items() if key not in ("self", "__class__", "name", "kwargs")
        }
        body = build_backbone(backbone, image_shape, levels=levels, weights=weights, **(backbone_options or {}))
        maps = keras.tree.flatten(body.output)
        if any(side % 2 ** levels[-1] for side in image_shape[:2]):
            raise ValueError(
                f"{name} takes images whose sides are multiples of {2 ** levels[-1]}, not {image_shape[:2]}"
            )
        if anchors is None:
            scale = min(image_shape[:2]) / 416
            anchors = [[(w * scale, h * scale) for w, h in level] for level in ANCHORS]
        if len(anchors) != len(levels) or len({len(level) for level in anchors}) != 1:
            raise ValueError(
                f"give as many anchors for each of the {len(levels)} levels, got {[len(a) for a in anchors]}"
            )
        sizes_of_levels = np.asarray(anchors, np.float32)  # (levels, A, 2)
        per_cell, outputs, above = sizes_of_levels.shape[1], {}, None
        bias = [0.0] * 4 + [math.log(prior / (1 - prior))] + [0.0] * classes
        for position in reversed(range(len(levels))):
            level, filters = levels[position], width * 2**position
            x = maps[position]
            if above is not None:
                above = layers.UpSampling2D(2, name=f"up{level}")(
                    conv_bn_leaky(above, filters, 1, name=f"reduce{level}")
                )
                x = layers.Concatenate(name=f"concat{level}")([above, x])
            for number in range(5):  # the "convolutional set"
                x = conv_bn_leaky(
                    x, filters * (1 + number % 2), 1 + 2 * (number % 2), name=f"neck{level}_conv{number + 1}"
                )
            above = x
            x = conv_bn_leaky(x, 2 * filters, 3, name=f"head{level}_conv")
            x = conv(
                x,
                per_cell * (5 + classes),
                1,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                bias_initializer=keras.initializers.Constant(np.tile(bias, per_cell)),
                name=f"head{level}",
            )
            outputs[level] = layers.Reshape((-1, 5 + classes), name=f"cells{level}")(x)
        x = layers.Concatenate(1, name="cells")([outputs[level] for level in levels])
        super().__init__(arguments, name=name, **kwargs)
        self.network = keras.Model(body.input, x, name="network")
        self.classes, self.image_shape = classes, tuple(image_shape)
        self.ignore = ignore
        strides = [2**level for level in levels]
        grids = [(image_shape[0] // stride, image_shape[1] // stride) for stride in strides]
        halves = [np.concatenate([-sizes, sizes], axis=-1) / 2 for sizes in sizes_of_levels]
        placed = [anchor_boxes.place(half, grid, stride) for half, grid, stride in zip(halves, grids, strides)]
        self.anchors = np.concatenate(placed)  # (N, 4)
        self.strides = np.concatenate(
            [np.full(len(boxes), stride, np.float32) for boxes, stride in zip(placed, strides)]
        )
        self.sizes, self.grids = sizes_of_levels, grids

    def assignment(self, boxes, labels):
        """Which anchor answers for which object: for each object the one of all shapes that is most like it, in the
        cell of its centre.

        Args:
            boxes: (B, M, 4) `xyxy` pixels.
            labels: (B, M) int, -1 for padding.

        Returns:
            (B, N) int32: the index of the object, or -1. Of two objects that want one anchor, the first gets it.
        """
        boxes = ops.cast(boxes, "float32")
        size = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
        shapes = self.sizes.reshape(-1, 2)
        overlap = geometry.iou(
            ops.concatenate([ops.zeros_like(size), size], -1), np.concatenate([np.zeros_like(shapes), shapes], -1)
        )
        best = ops.cast(ops.argmax(overlap, axis=-1), "int32")  # (B, M), of all shapes of all levels
        per_cell = self.sizes.shape[1]
        level = best // per_cell
        offsets = np.cumsum([0, *(rows * columns * per_cell for rows, columns in self.grids)])[:-1].astype("int32")
        rows, columns = (ops.take(np.array([grid[axis] for grid in self.grids], "int32"), level) for axis in (0, 1))
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2 / np.array([self.image_shape[1], self.image_shape[0]], "float32")
        column = ops.clip(ops.cast(ops.floor(centre[..., 0] * ops.cast(columns, "float32")), "int32"), 0, columns - 1)
        row = ops.clip(ops.cast(ops.floor(centre[..., 1] * ops.cast(rows, "float32")), "int32"), 0, rows - 1)
        place = ops.take(offsets, level) + (row * columns + column) * per_cell + best % per_cell
        wanted = ops.logical_and(
            place[..., None] == ops.arange(len(self.anchors), dtype="int32"),
            (ops.cast(labels, "int32") >= 0)[..., None],
        )
        first = ops.cast(ops.argmax(ops.cast(wanted, "int32"), axis=1), "int32")
        return ops.where(ops.any(wanted, axis=1), first, -1)

    def losses_of(self, batch, outputs):
        """Binary cross-entropy of objectness and of each class, squared errors of the four box numbers; sums, divided
        by the number of images.

        Anchors of ignored objects, and anchors without an object whose predicted box overlaps any object by more than
        `ignore`, have no objectness loss. Box errors are weighted by 2 - the box's share of the image, as Darknet does,
        so that small objects count.
        """
        outputs = ops.cast(outputs, "float32")
        truth, labels = ops.cast(batch["boxes"], "float32"), ops.cast(batch["labels"], "int32")
        counted = labels if batch.get("ignored") is None else ops.where(batch["ignored"], -1, labels)
        assigned = self.assignment(truth, counted)  # (B, N)
        has, at = ops.cast(assigned >= 0, "float32"), ops.maximum(assigned, 0)
        boxes = ops.take_along_axis(truth, at[..., None], axis=1)
        targets = self._encode(boxes)
        share = geometry.area(boxes) / (self.image_shape[0] * self.image_shape[1])
        told = ops.concatenate([ops.sigmoid(outputs[..., :2]), outputs[..., 2:4]], axis=-1)
        of_boxes = has * (2 - share) * ops.sum(ops.square(told - targets), axis=-1)
        overlap = geometry.iou(ops.stop_gradient(self._boxes(outputs)), truth)  # (B, N, M)
        overlap = ops.max(ops.where((labels >= 0)[:, None], overlap, 0.0), axis=-1)
        matters = ops.maximum(has, ops.cast(overlap <= self.ignore, "float32"))
        of_objects = matters * ops.binary_crossentropy(has, outputs[..., 4], from_logits=True)
        classes = ops.one_hot(ops.take_along_axis(labels, at, axis=1), self.classes)
        of_classes = has * ops.sum(ops.binary_crossentropy(classes, outputs[..., 5:], from_logits=True), axis=-1)
        found = zip(self.loss_names, (of_boxes, of_objects, of_classes))
        return {name: ops.mean(ops.sum(values, axis=1)) for name, values in found}

    def boxes_and_scores(self, outputs):
        """Boxes (B, N, 4) and scores (B, N, C): objectness times each class, which exclude one another no more than
        labels of COCO do.
        """
        outputs = ops.cast(outputs, "float32")
        return self._boxes(outputs), ops.sigmoid(outputs[..., 4:5]) * ops.sigmoid(outputs[..., 5:])

    def _boxes(self, outputs):
        """b_x = sigmoid(t_x) + c_x, b_w = p_w exp(t_w) and so on, figure 2; in pixels."""
        corner, size, step = self._cells()
        centre = (ops.sigmoid(outputs[..., :2]) + corner) * step
        half = size * ops.exp(ops.minimum(outputs[..., 2:4], math.log(1000 / 16))) / 2
        return ops.concatenate([centre - half, centre + half], axis=-1)

    def _encode(self, boxes):
        """What the net should say at every anchor for the box (B, N, 4) given to it; anything finite where there is
        none.
        """
        corner, size, step = self._cells()
        place = (boxes[..., :2] + boxes[..., 2:]) / 2 / step - corner
        sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)
        return ops.concatenate([ops.clip(place, 0.0, 1.0), ops.log(sides / size)], axis=-1)

    def _cells(self):
        """Of each anchor: column and row of its cell, its width and height, and the stride; (N, 2), (N, 2), (N, 1)
        float32.
        """
        step = self.strides[:, None]
        centre = (self.anchors[:, :2] + self.anchors[:, 2:]) / 2
        return centre / step - 0.5, self.anchors[:, 2:] - self.anchors[:, :2], step


def small(
    classes, image_shape=(96, 96, 3), backbone="shapes", anchors=(((16, 16), (24, 24)), ((34, 34), (46, 46))), **options
):
    """A YOLOv3 for two cores: grids of cells of 8 and 16 pixels with two anchors each.

    Args:
        classes, image_shape, backbone, anchors: as in `YOLOv3`; `cluster_anchors` finds anchors that fit the data.
        options: further arguments of `YOLOv3`.

    Returns:
        YOLOv3.
    """
    return YOLOv3(
        classes, image_shape, backbone, **{"levels": (3, 4), "anchors": anchors, "width": 48, "prior": 0.01} | options
    )
