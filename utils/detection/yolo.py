"""YOLOv1, detection as regression from the whole image at once: Redmon, Divvala, Girshick and Farhadi, "You only look
once: unified, real-time object detection" (CVPR 2016). Where the paper is silent, the authors' Darknet decides.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from utils import boxes as geometry
from utils.architectures.blocks import conv, max_pool
from utils.architectures.darknet import SLOPE, conv_bn_leaky
from utils.backbones import backbone as build_backbone
from utils.detection.detector import Detector

COORD, NOOBJ = 5.0, 0.5  # weights of the terms, section 2.2

# Figure 3: filters and kernel of each convolution (":2" its stride), M a 2x2 max-pooling; what stands in brackets comes
# so many times.
DARKNET = (
    "64x7:2 M 192x3 M 128x1 256x3 256x1 512x3 M 4(256x1 512x3) 512x1 1024x3 M "
    "2(512x1 1024x3) 1024x3 1024x3:2 1024x3 1024x3"
)


def responsible_cells(boxes, labels, grid, image_shape):
    """For each cell of the grid, the object whose centre lies in it. Of several, the first counts, as in Darknet; the
    others are lost.

    Args:
        boxes: (B, M, 4) `xyxy` pixels.
        labels: (B, M) int, -1 for padding.
        grid: (rows, columns).
        image_shape: (height, width, ...).

    Returns:
        dict of `object` (B, rows * columns) bool, `index` (B, rows * columns) int32 of the object (0 where there is
        none), `boxes` (B, rows * columns, 4) float32 as YOLOv1 tells them (x, y from 0 to 1 within the cell; width and
        height from 0 to 1 of the image), `labels` (B, rows * columns) int32 (-1 where there is none), `lost` (B,)
        int32: objects that share a cell with an earlier one.
    """
    rows, columns = grid
    boxes, labels = ops.cast(boxes, "float32"), ops.cast(labels, "int32")
    size = ops.convert_to_tensor([image_shape[1], image_shape[0]], "float32")
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 / size * ops.convert_to_tensor([columns, rows], "float32")
    last = ops.convert_to_tensor([columns - 1, rows - 1], "float32")
    cell = ops.clip(ops.floor(centre), 0.0, last)  # a centre on the far border belongs to the last cell
    place = ops.cast(cell[..., 1] * columns + cell[..., 0], "int32")
    there = labels >= 0
    inside = ops.logical_and(
        place[..., None] == ops.arange(rows * columns, dtype="int32"), there[..., None]
    )  # (B, M, cells)
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

    In a cell with an object, the predicted box with the highest IoU is responsible for it. Its centre, and the square
    roots of its width and height, are held against the truth; its confidence against that IoU, which counts as a
    constant. The confidence of every other box should be
    0. The class probabilities belong to the cell, and count only where it has an object.

    Args:
        truth: what `responsible_cells` gives.
        predictions: (B, rows, columns, 5 b + C): b boxes of x, y (within the cell), the roots of width and height (of
            the image) and a confidence, then C class probabilities; the net gives them as they are, without an
            activation.
        boxes_per_cell: b.
        coord, noobj: weights of the coordinates, and of the confidences where there is no object.

    Returns:
        dict of scalars, sums over cells and means over images: `centre_loss`, `size_loss`, `object_loss`,
        `no_object_loss`, `class_loss`.
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
    """IoU (B, cells, b) of predicted boxes, with the roots of their sizes, and true ones of the same cell; lengths in
    parts of the image.
    """
    parts = ops.convert_to_tensor([1 / grid[1], 1 / grid[0]], "float32")

    def corners(centre, size):
        return ops.concatenate([centre * parts - size / 2, centre * parts + size / 2], axis=-1)

    found = corners(predicted[..., :2], ops.square(predicted[..., 2:4]))
    return geometry.iou(found, corners(target[..., :2], target[..., 2:]))[..., 0]


@keras.saving.register_keras_serializable("convnets")
class YOLOv1(Detector):
    """YOLOv1. As it stands it is the paper's: 24 convolutions, two dense layers, 448 x 448, 7 x 7 cells of two boxes,
    20 classes: 271,703,550 parameters. With a backbone, its map is the grid, and convolutions stand in the place of the
    dense layers; `small` makes such a one.

    Args:
        classes: number of classes.
        image_shape: (height, width, channels).
        backbone, weights, backbone_options: None for the paper's own 24 convolutions, else as for
            `utils.backbones.backbone`.
        level: of the backbone's map that is the grid: level l has cells of 2^l pixels.
        boxes_per_cell: b.
        units: of the first dense layer; with a backbone, filters of the one convolution between map and outputs.
        width: multiplier of the filters of the paper's convolutions.
        name, kwargs: as for `keras.Model`.
    """

    loss_names = ("centre_loss", "size_loss", "object_loss", "no_object_loss", "class_loss")

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
        **kwargs,
    ):
        arguments = {
            key: value for key, value in locals().items() if key not in ("self", "__class__", "name", "kwargs")
        }
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
        super().__init__(arguments, name=name, **kwargs)
        self.network = keras.Model(image, x, name="network")
        self.classes, self.image_shape = classes, tuple(image_shape)
        self.boxes_per_cell, self.grid = boxes_per_cell, tuple(x.shape[1:3])

    def losses_of(self, batch, outputs):
        """The five terms of `yolo_loss`. Ignored objects are trained as any other: YOLOv1 has no rule for them."""
        truth = responsible_cells(batch["boxes"], batch["labels"], self.grid, self.image_shape)
        return yolo_loss(truth, outputs, self.boxes_per_cell)

    def boxes_and_scores(self, outputs):
        """Boxes (B, N, 4) and scores (B, N, C), N = cells * b: a confidence times the class probabilities of its cell,
        section 2.
        """
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
