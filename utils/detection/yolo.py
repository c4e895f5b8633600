"""YOLO: detection as regression from the whole image at once.

`YOLOv1`: Redmon, Divvala, Girshick and Farhadi, "You only look once: unified, real-time object detection" (CVPR 2016). `YOLOv3`: Redmon
and Farhadi, "YOLOv3: an incremental improvement" (arXiv 1804.02767, 2018). Where the papers are silent, their authors' Darknet decides.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from utils import boxes as geometry
from utils.architectures.blocks import conv, max_pool
from utils.architectures.darknet import SLOPE, conv_bn_leaky
from utils.backbones import backbone as build_backbone
from utils.detection import anchors as anchor_boxes
from utils.detection.detector import Detector

COORD, NOOBJ = 5.0, 0.5  # weights of the terms, section 2.2

# Figure 3: filters and kernel of each convolution (":2" its stride), M a 2x2 max-pooling; what stands in brackets comes so many times.
DARKNET = "64x7:2 M 192x3 M 128x1 256x3 256x1 512x3 M 4(256x1 512x3) 512x1 1024x3 M 2(512x1 1024x3) 1024x3 1024x3:2 1024x3 1024x3"

# Of 3 levels with 3 anchors each, as (width, height) at 416 pixels, section 2.3: k-means on COCO.
ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)


# YOLOv1


def responsible_cells(boxes, labels, grid, image_shape):
    """For each cell of the grid, the object whose centre lies in it. Of several, the first counts, as in Darknet; the others are lost.

    Args:
        boxes: (B, M, 4) `xyxy` pixels.
        labels: (B, M) int, -1 for padding.
        grid: (rows, columns).
        image_shape: (height, width, ...).

    Returns:
        dict of `object` (B, rows * columns) bool, `index` (B, rows * columns) int32 of the object (0 where there is none), `boxes`
        (B, rows * columns, 4) float32 as YOLOv1 tells them (x, y from 0 to 1 within the cell; width and height from 0 to 1 of the
        image), `labels` (B, rows * columns) int32 (-1 where there is none), `lost` (B,) int32: objects that share a cell with an earlier one.
    """
    rows, columns = grid
    boxes, labels = ops.cast(boxes, "float32"), ops.cast(labels, "int32")
    size = ops.convert_to_tensor([image_shape[1], image_shape[0]], "float32")
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 / size * ops.convert_to_tensor([columns, rows], "float32")
    last = ops.convert_to_tensor([columns - 1, rows - 1], "float32")
    cell = ops.clip(ops.floor(centre), 0.0, last)  # a centre on the far border belongs to the last cell
    place = ops.cast(cell[..., 1] * columns + cell[..., 0], "int32")
    there = labels >= 0
    inside = ops.logical_and(place[..., None] == ops.arange(rows * columns), there[..., None])  # (B, M, cells)
    index = ops.cast(ops.argmax(ops.cast(inside, "int32"), axis=1), "int32")  # the first of equal ones
    has = ops.any(inside, axis=1)
    told = ops.concatenate([centre - cell, (boxes[..., 2:] - boxes[..., :2]) / size], axis=-1)
    return {
        "object": has,
        "index": index,
        "boxes": ops.take_along_axis(told, index[..., None], axis=1) * ops.cast(has[..., None], "float32"),
        "labels": ops.where(has, ops.take_along_axis(labels, index, axis=1), -1),
        "lost": ops.sum(ops.cast(there, "int32"), axis=1) - ops.sum(ops.cast(has, "int32"), axis=1),
    }


def yolo_loss(truth, predictions, boxes_per_cell, coord=COORD, noobj=NOOBJ):
    """The loss of YOLOv1 (equation 3), term by term. All are squared errors.

    In a cell with an object, the predicted box with the highest IoU is responsible for it. Its centre, and the square roots of its width and
    height, are held against the truth; its confidence against that IoU, which counts as a constant. The confidence of every other box should be
    0. The class probabilities belong to the cell, and count only where it has an object.

    Args:
        truth: what `responsible_cells` gives.
        predictions: (B, rows, columns, 5 b + C): b boxes of x, y (within the cell), the roots of width and height (of the image) and a
            confidence, then C class probabilities; the net gives them as they are, without an activation.
        boxes_per_cell: b.
        coord, noobj: weights of the coordinates, and of the confidences where there is no object.

    Returns:
        dict of scalars, sums over cells and means over images: `centre_loss`, `size_loss`, `object_loss`, `no_object_loss`, `class_loss`.
    """
    rows, columns, depth = predictions.shape[1:]
    b, classes = boxes_per_cell, depth - 5 * boxes_per_cell
    flat = ops.reshape(ops.cast(predictions, "float32"), (-1, rows * columns, depth))
    predicted = ops.reshape(flat[..., : 5 * b], (-1, rows * columns, b, 5))
    has = ops.cast(truth["object"], "float32")  # (B, cells)
    target = truth["boxes"][:, :, None]  # (B, cells, 1, 4)
    overlap = ops.stop_gradient(_iou_in_cell(predicted, target, (rows, columns)))  # (B, cells, b)
    responsible = ops.one_hot(ops.argmax(overlap, axis=-1), b) * has[..., None]
    centre = ops.sum(ops.square(predicted[..., :2] - target[..., :2]), axis=-1)
    size = ops.sum(ops.square(predicted[..., 2:4] - ops.sqrt(target[..., 2:])), axis=-1)
    confidence = predicted[..., 4]
    labels = ops.one_hot(truth["labels"], classes)
    of_class = ops.sum(ops.square(flat[..., 5 * b :] - labels), axis=-1)

    def mean(values):
        return ops.mean(ops.sum(ops.reshape(values, (-1, math.prod(values.shape[1:]))), axis=1))

    return {
        "centre_loss": coord * mean(responsible * centre),
        "size_loss": coord * mean(responsible * size),
        "object_loss": mean(responsible * ops.square(confidence - overlap)),
        "no_object_loss": noobj * mean((1 - responsible) * ops.square(confidence)),
        "class_loss": mean(has * of_class),
    }


def _iou_in_cell(predicted, target, grid):
    """IoU (B, cells, b) of predicted boxes, with the roots of their sizes, and true ones of the same cell; lengths in parts of the image."""
    parts = ops.convert_to_tensor([1 / grid[1], 1 / grid[0]], "float32")

    def corners(centre, size):
        return ops.concatenate([centre * parts - size / 2, centre * parts + size / 2], axis=-1)

    found = corners(predicted[..., :2], ops.square(predicted[..., 2:4]))
    return geometry.iou(found, corners(target[..., :2], target[..., 2:]))[..., 0]


@keras.saving.register_keras_serializable("convnets")
class YOLOv1(Detector):
    """YOLOv1. As it stands it is the paper's: 24 convolutions, two dense layers, 448 x 448, 7 x 7 cells of two boxes, 20 classes: 271,703,550
    parameters. With a backbone, its map is the grid, and convolutions stand in the place of the dense layers; `small` makes such a one.

    Args:
        classes: number of classes.
        image_shape: (height, width, channels).
        backbone, weights, backbone_options: None for the paper's own 24 convolutions, else as for `utils.backbones.backbone`.
        level: of the backbone's map that is the grid: level l has cells of 2^l pixels.
        boxes_per_cell: b.
        units: of the first dense layer; with a backbone, filters of the one convolution between map and outputs.
        width: multiplier of the filters of the paper's convolutions.
        name: of the model.
    """

    names_of_losses = ("centre_loss", "size_loss", "object_loss", "no_object_loss", "class_loss")

    def __init__(
        self,
        classes=20,
        image_shape=(448, 448, 3),
        backbone=None,
        weights=None,
        backbone_options=None,
        level=6,
        boxes_per_cell=2,
        units=4096,
        width=1.0,
        name="yolo_v1",
    ):
        arguments = {key: value for key, value in locals().items() if key not in ("self", "__class__", "name")}
        depth = 5 * boxes_per_cell + classes
        if backbone is None:
            image, x = paper_body(image_shape, width)
            cells = x.shape[1:3]
            x = layers.Dense(units, kernel_initializer="he_uniform", name="dense1")(layers.Flatten(name="flatten")(x))
            x = layers.LeakyReLU(SLOPE, name="dense1_leaky")(x)
            x = layers.Dropout(0.5, name="dropout")(x)  # "after the first connected layer", section 2.2
            x = layers.Dense(math.prod(cells) * depth, name="dense2")(x)  # linear
            x = layers.Reshape((*cells, depth), name="cells")(x)
        else:
            body = build_backbone(backbone, image_shape, levels=[level], weights=weights, **(backbone_options or {}))
            image, (x,) = body.input, keras.tree.flatten(body.output)
            x = conv_bn_leaky(x, units, 3, name="head_conv")
            x = conv(x, depth, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name="cells")
        super().__init__(keras.Model(image, x, name="network"), classes, arguments, name)
        self.boxes_per_cell, self.grid = boxes_per_cell, tuple(x.shape[1:3])

    def losses_of(self, batch, outputs):
        """The five terms of `yolo_loss`. Ignored objects are trained as any other: YOLOv1 has no rule for them."""
        truth = responsible_cells(batch["boxes"], batch["labels"], self.grid, self.image_shape)
        return yolo_loss(truth, outputs, self.boxes_per_cell)

    def candidates(self, outputs):
        """Boxes (B, N, 4) and scores (B, N, C), N = cells * b: a confidence times the class probabilities of its cell, section 2."""
        (rows, columns), b = self.grid, self.boxes_per_cell
        flat = ops.reshape(ops.cast(outputs, "float32"), (-1, rows * columns, 5 * b + self.classes))
        told = ops.reshape(flat[..., : 5 * b], (-1, rows * columns, b, 5))
        cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 1, 2)
        size = np.array([self.image_shape[1], self.image_shape[0]], "float32")
        centre = (told[..., :2] + cells.astype("float32")) / np.array([columns, rows], "float32") * size
        half = ops.square(told[..., 2:4]) * size / 2
        boxes = ops.concatenate([centre - half, centre + half], axis=-1)
        scores = ops.clip(told[..., 4:] * flat[:, :, None, 5 * b :], 0.0, 1.0)
        count = rows * columns * b
        return ops.reshape(boxes, (-1, count, 4)), ops.reshape(scores, (-1, count, self.classes))


def paper_body(image_shape, width=1.0):
    """The 24 convolutions of figure 3, with leaky ReLUs and no batch normalisation: (image, map of stride 64)."""
    image = x = layers.Input(image_shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(x)
    number = 0
    for word in spelt_out(DARKNET):
        if word == "M":
            x = max_pool(x, 2, 2, name=f"pool{number}")
            continue
        filters, kernel, stride = (
            int(part) for part in (word if ":" in word else f"{word}:1").replace("x", ":").split(":")
        )
        number += 1
        x = conv(x, max(1, round(filters * width)), kernel, stride, name=f"conv{number}")
        x = layers.LeakyReLU(SLOPE, name=f"conv{number}_leaky")(x)
    return image, x


def spelt_out(text):
    """The words of a configuration, "2(a b)" written out as a b a b."""
    words, times, group = [], 1, None
    for word in text.split():
        if "(" in word:
            times, word = word.split("(")
            group = []
        target = words if group is None else group
        target.append(word.rstrip(")"))
        if word.endswith(")"):
            words.extend(group * int(times))
            group = None
    return words


def small(classes, image_shape=(96, 96, 3), backbone="shapes", **options):
    """A YOLOv1 for two cores: cells of 16 pixels, one convolution of 192 filters in the place of the dense layers.

    Args:
        classes, image_shape, backbone: as in `YOLOv1`.
        options: further arguments of `YOLOv1`.

    Returns:
        YOLOv1.
    """
    return YOLOv1(classes, image_shape, backbone, **{"level": 4, "units": 192} | options)


# YOLOv3


def cluster_anchors(sizes, count, seed=0, rounds=100):
    """Anchors from data: k-means of widths and heights with the distance 1 - IoU of boxes that share a corner (YOLO9000, section 2).

    Args:
        sizes: (N, 2) float, width and height of boxes, pixels.
        count: number of anchors.
        seed: of the boxes that the clusters start from.
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
    centres = different[np.random.default_rng(seed).choice(len(different), count, replace=False)]
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
    """YOLOv3. As it stands it is the paper's on Darknet-53: grids of 13, 26 and 52 cells at 416 pixels, three anchors in each cell. `small_v3` makes
    one for two cores.

    Args:
        classes: number of classes.
        image_shape: (height, width, channels), multiples of the coarsest stride.
        backbone, weights, backbone_options: for `utils.backbones.backbone`.
        levels: of its maps, rising by 1; the grids.
        anchors: for each level, the finest first, pairs (width, height) in pixels; None: the paper's, scaled from 416 to this image.
        width: filters of the neck's 1x1 convolutions at the finest level; they double from level to level.
        ignore: a prediction with no object is not punished if its IoU with some object is above this.
        name: of the model.
    """

    names_of_losses = ("box_loss", "object_loss", "class_loss")

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
        name="yolo_v3",
    ):
        arguments = {key: value for key, value in locals().items() if key not in ("self", "__class__", "name")}
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
                name=f"head{level}",
            )
            outputs[level] = layers.Reshape((-1, 5 + classes), name=f"cells{level}")(x)
        x = layers.Concatenate(1, name="cells")([outputs[level] for level in levels])
        super().__init__(keras.Model(body.input, x, name="network"), classes, arguments, name)
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
        """Which anchor answers for which object: for each object the one of all shapes that is most like it, in the cell of its centre.

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
        """Binary cross-entropy of objectness and of each class, squared errors of the four box numbers; sums, divided by the number of images.

        Anchors of ignored objects, and anchors without an object whose predicted box overlaps any object by more than `ignore`, have no
        objectness loss. Box errors are weighted by 2 - the box's share of the image, as Darknet does, so that small objects count.
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
        found = zip(self.names_of_losses, (of_boxes, of_objects, of_classes))
        return {name: ops.mean(ops.sum(values, axis=1)) for name, values in found}

    def candidates(self, outputs):
        """Boxes (B, N, 4) and scores (B, N, C): objectness times each class, which exclude one another no more than labels of COCO do."""
        outputs = ops.cast(outputs, "float32")
        return self._boxes(outputs), ops.sigmoid(outputs[..., 4:5]) * ops.sigmoid(outputs[..., 5:])

    def _boxes(self, outputs):
        """b_x = sigmoid(t_x) + c_x, b_w = p_w exp(t_w) and so on, figure 2; in pixels."""
        corner, size, step = self._cells()
        centre = (ops.sigmoid(outputs[..., :2]) + corner) * step
        half = size * ops.exp(ops.minimum(outputs[..., 2:4], math.log(1000 / 16))) / 2
        return ops.concatenate([centre - half, centre + half], axis=-1)

    def _encode(self, boxes):
        """What the net should say at every anchor for the box (B, N, 4) given to it; anything finite where there is none."""
        corner, size, step = self._cells()
        place = (boxes[..., :2] + boxes[..., 2:]) / 2 / step - corner
        sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)
        return ops.concatenate([ops.clip(place, 0.0, 1.0), ops.log(sides / size)], axis=-1)

    def _cells(self):
        """Of each anchor: column and row of its cell, its width and height, and the stride; (N, 2), (N, 2), (N, 1) float32."""
        step = self.strides[:, None]
        centre = (self.anchors[:, :2] + self.anchors[:, 2:]) / 2
        return centre / step - 0.5, self.anchors[:, 2:] - self.anchors[:, :2], step


def small_v3(
    classes, image_shape=(96, 96, 3), backbone="shapes", anchors=(((16, 16), (24, 24)), ((34, 34), (46, 46))), **options
):
    """A YOLOv3 for two cores: grids of cells of 8 and 16 pixels with two anchors each.

    Args:
        classes, image_shape, backbone, anchors: as in `YOLOv3`; `cluster_anchors` finds anchors that fit the data.
        options: further arguments of `YOLOv3`.

    Returns:
        YOLOv3.
    """
    return YOLOv3(classes, image_shape, backbone, **{"levels": (3, 4), "anchors": anchors, "width": 48} | options)
