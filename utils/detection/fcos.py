"""FCOS: Tian, Shen, Chen and He, "FCOS: fully convolutional one-stage object detection" (ICCV 2019).

No anchors: every place of a feature pyramid that lies inside an object says how far it is to the object's four sides.
A place far from the middle says it badly, so a third output, the centre-ness, learns how central a place is, and lowers
the score of those that are not."""

import math

import keras
import numpy as np
from keras import layers, ops

from utils.architectures.blocks import conv
from utils.backbones import backbone as build_backbone
from utils.detection import losses
from utils.detection.coding import LARGEST_GROWTH
from utils.detection.detector import Detector
from utils.detection.fpn import fpn
from utils.detection.retinanet import PRIOR

BACKGROUND, LEFT_OUT = -1, -2  # as in `matching`


def places(feature_shapes, strides):
    """The middles of all places of several maps, level by level, row by row: (N, 2) float32, x and y in pixels."""
    found = []
    for (rows, columns), stride in zip(feature_shapes, strides):
        y, x = np.meshgrid((np.arange(rows) + 0.5) * stride, (np.arange(columns) + 0.5) * stride, indexing="ij")
        found.append(np.stack([x, y], axis=-1).reshape(-1, 2))
    return np.concatenate(found).astype(np.float32)


def distances(boxes, points):
    """From each place to the sides of each box (section 3.1).

    Args:
        boxes: (..., M, 4) `xyxy` pixels, tensor.
        points: (N, 2) x and y in pixels.

    Returns:
        (..., M, N, 4) left, top, right, bottom; all above 0 where the place lies inside the box.
    """
    points = ops.convert_to_tensor(points, "float32")
    boxes = boxes[..., None, :]
    return ops.concatenate([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)


def assign(boxes, labels, points, strides, ranges, radius=1.5, ignored=None):
    """Which object each place answers for (section 3.2).

    A place answers for an object if it lies inside its box, no further than `radius` strides from the box's middle in x
    and in y (the authors' "centre sampling"), and if the largest of its four distances is in the range of its level. Of
    several such objects the one of the smallest area is taken.

    Args:
        boxes: (B, M, 4) `xyxy` pixels.
        labels: (B, M) int, -1 for padding.
        points: (N, 2) from `places`.
        strides: (N,) pixels.
        ranges: (N, 2) pixels: above the first, up to the second.
        radius: in strides; None: the whole box, as in the paper's first version.
        ignored: None or (B, M) bool: nothing answers for these, and places inside them are left out.

    Returns:
        (B, N) int32: the index of the object, -1 for background, -2 for places that are left out.
    """
    boxes = ops.cast(boxes, "float32")
    valid = ops.cast(labels, "int32") >= 0
    sides = distances(boxes, points)  # (B, M, N, 4)
    inside = ops.logical_and(ops.min(sides, axis=-1) > 0, valid[..., None])
    furthest, ranges = ops.max(sides, axis=-1), ops.convert_to_tensor(ranges, "float32")
    wanted = ops.logical_and(inside, ops.logical_and(furthest > ranges[:, 0], furthest <= ranges[:, 1]))
    if radius is not None:
        off = ops.abs(sides[..., :2] - sides[..., 2:]) / 2  # from the middle, in x and in y
        near = ops.max(off, axis=-1) < radius * ops.convert_to_tensor(strides, "float32")
        wanted = ops.logical_and(wanted, near)
    aside = None
    if ignored is not None:
        ignored = ops.cast(ignored, "bool")[..., None]
        aside = ops.any(ops.logical_and(inside, ignored), axis=1)
        wanted = ops.logical_and(wanted, ops.logical_not(ignored))
    size = boxes[..., 2:] - boxes[..., :2]
    area = ops.where(wanted, (size[..., 0] * size[..., 1])[..., None], math.inf)
    index = ops.cast(ops.argmin(area, axis=1), "int32")
    nothing = BACKGROUND if aside is None else ops.where(aside, LEFT_OUT, BACKGROUND)
    return ops.where(ops.any(wanted, axis=1), index, nothing)


def centreness(sides):
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), equation 3: 1 in the middle of a box, 0 at its border.

    Args:
        sides: (..., 4) left, top, right, bottom; counts as 0 where one is not above 0.

    Returns:
        (...) float32.
    """
    sides = ops.maximum(ops.cast(sides, "float32"), 1e-6)
    first, second = sides[..., :2], sides[..., 2:]
    share = ops.minimum(first, second) / ops.maximum(first, second)
    return ops.sqrt(share[..., 0] * share[..., 1])


@keras.saving.register_keras_serializable("convnets")
class Scale(layers.Layer):
    """One learnt factor, 1 at first: the heads are the same at all levels, and this is what tells the levels apart."""

    each_place = True  # no sum over places: the receptive field stays as it is, and there is no MAC to count

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, x):
        return x * ops.cast(self.factor, x.dtype)


@keras.saving.register_keras_serializable("convnets")
class FCOS(Detector):
    """FCOS on any backbone. As it stands it is the paper's, on ResNet-50 with P3 to P7; `small` makes one for two
    cores.

    The distances are exp(s_l x) strides of the level, with a learnt s_l for each (the paper's are pixels, and learn
    the stride too; the authors' later code has it as here). Boxes are learnt by GIoU, and places are sampled near the
    middles of objects: the paper's "improvements", table 3.

    Args:
        classes: number of classes, without a background.
        image_shape: (height, width, channels), known.
        backbone, weights, backbone_options: for `utils.backbones.backbone`; the last one a dict, or None.
        levels: of the backbone's maps, rising by 1.
        channels: of the pyramid and the heads.
        depth: convolutions of a head before its outputs.
        groups: of the heads' group normalisation; None: no normalisation.
        top: as in `fpn`: what comes above the coarsest map.
        limits: pixels, one fewer than the levels of the pyramid: objects whose places are further than this from one of
            their sides go to the next level.
        radius: of centre sampling, in strides; None: none.
        alpha, gamma: of the focal loss.
        name, kwargs: as for `keras.Model`.

    Raises:
        ValueError: not one limit between each two levels, or limits that do not rise.
    """

    loss_names = ("class_loss", "box_loss", "centre_loss")

    def __init__(
        self,
        classes,
        image_shape=(512, 512, 3),
        backbone="resnet50",
        weights=None,
        backbone_options=None,
        levels=(3, 4, 5),
        channels=256,
        depth=4,
        groups=32,
        top="convolutions_of_p",
        limits=(64, 128, 256, 512),
        radius=1.5,
        alpha=0.25,
        gamma=2.0,
        name="fcos",
        **kwargs,
    ):
        arguments = {
            key: value for key, value in locals().items() if key not in ("self", "__class__", "name", "kwargs")
        }
        body = build_backbone(backbone, image_shape, levels=levels, weights=weights, **(backbone_options or {}))
        pyramid = fpn(keras.tree.flatten(body.output), levels, channels, top)
        if len(limits) != len(pyramid) - 1 or list(limits) != sorted(limits):
            raise ValueError(f"{len(pyramid)} levels want {len(pyramid) - 1} rising limits between them, got {limits}")
        prior = -math.log((1 - PRIOR) / PRIOR)
        of_classes = head(channels, depth, groups, {"logits": (classes, prior)}, "class_head")
        of_boxes = head(channels, depth, groups, {"sides": (4, 0.0), "centre": (1, 0.0)}, "box_head")
        found = {"logits": [], "sides": [], "centre": []}
        for level, x in pyramid.items():
            outputs = of_classes(x) | of_boxes(x)
            outputs["sides"] = Scale(name=f"scale{level}")(outputs["sides"])
            for key, values in outputs.items():
                found[key].append(layers.Reshape((-1, values.shape[-1]), name=f"{key}{level}")(values))
        outputs = {key: layers.Concatenate(1, name=key)(values) for key, values in found.items()}
        super().__init__(arguments, name=name, **kwargs)
        self.network = keras.Model(body.input, outputs, name="network")
        self.classes, self.image_shape = classes, tuple(image_shape)
        self.alpha, self.gamma, self.radius = alpha, gamma, radius
        shapes, strides = [x.shape[1:3] for x in pyramid.values()], [2**level for level in pyramid]
        counts = [rows * columns for rows, columns in shapes]
        self.places = places(shapes, strides)  # (N, 2)
        self.strides = np.repeat(np.float32(strides), counts)  # (N,)
        bounds = np.float32([0, *limits, np.inf])
        self.ranges = np.repeat(np.stack([bounds[:-1], bounds[1:]], axis=1), counts, axis=0)  # (N, 2)

    def losses_of(self, batch, outputs):
        """Focal loss of all places that are not left out, GIoU loss and cross-entropy of the centre-ness of those that
        answer for an object; all divided by the number of the latter.
        """
        boxes = ops.cast(batch["boxes"], "float32")
        at = assign(
            boxes, batch["labels"], self.places, self.strides, self.ranges, self.radius, batch.get("ignored")
        )  # (B, N)
        positive, counted, index = at >= 0, at != LEFT_OUT, ops.maximum(at, 0)
        labels = ops.take_along_axis(ops.cast(batch["labels"], "int32"), index, axis=1)
        targets = ops.one_hot(ops.where(positive, labels, -1), self.classes)
        focal = losses.sigmoid_focal(targets, outputs["logits"], self.alpha, self.gamma)
        boxes = ops.take_along_axis(boxes, index[..., None], axis=1)  # (B, N, 4)
        points = ops.convert_to_tensor(self.places)
        central = centreness(ops.concatenate([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1))
        off_centre = ops.binary_crossentropy(central, ops.cast(outputs["centre"], "float32")[..., 0], from_logits=True)
        count = ops.maximum(ops.sum(ops.cast(positive, "float32")), 1.0)
        parts = zip(self.loss_names[1:], (losses.giou_loss(boxes, self._boxes(outputs)), off_centre))
        return {"class_loss": ops.sum(ops.where(counted[..., None], focal, 0.0)) / count} | {
            name: ops.sum(ops.where(positive, values, 0.0)) / count for name, values in parts
        }

    def boxes_and_scores(self, outputs):
        """Boxes (B, N, 4) and scores (B, N, C): the root of class times centre-ness, which orders as their product."""
        of_classes, of_centre = (ops.sigmoid(ops.cast(outputs[key], "float32")) for key in ("logits", "centre"))
        return self._boxes(outputs), ops.sqrt(of_classes * of_centre)

    def _boxes(self, outputs):
        sides = ops.exp(ops.minimum(ops.cast(outputs["sides"], "float32"), LARGEST_GROWTH))
        sides = sides * ops.convert_to_tensor(self.strides[:, None])
        points = ops.convert_to_tensor(self.places)
        return ops.concatenate([points - sides[..., :2], points + sides[..., 2:]], axis=-1)


def head(channels, depth, groups, outputs, name):
    """A head, the same for all levels: 3x3 convolutions with group normalisation and ReLU, then one for each output.

    Args:
        channels: of its input and its convolutions.
        depth: convolutions before the outputs.
        groups: of the normalisation; None: none.
        outputs: dict of name -> (channels, what it gives at first).
        name: of the model.

    Returns:
        keras.Model from (B, H, W, channels) to a dict of (B, H, W, channels of the output).
    """
    x = inputs = layers.Input((None, None, channels))
    for number in range(1, depth + 1):
        x = conv(x, channels, 3, name=f"conv{number}")
        if groups is not None:
            x = layers.GroupNormalization(groups, epsilon=1e-5, name=f"conv{number}_gn")(x)
        x = layers.ReLU(name=f"conv{number}_relu")(x)
    spread, constant = keras.initializers.RandomNormal(stddev=0.01), keras.initializers.Constant
    found = {
        key: conv(x, count, 3, kernel_initializer=spread, bias_initializer=constant(bias), name=key)
        for key, (count, bias) in outputs.items()
    }
    return keras.Model(inputs, found, name=name)


def small(classes, image_shape=(96, 96, 3), backbone="shapes", **options):
    """An FCOS for two cores and objects of 14 to 50 pixels: two levels, of strides 8 and 16, heads of two convolutions,
    as `retinanet.small` has them.

    Args:
        classes, image_shape, backbone: as in `FCOS`.
        options: further arguments of `FCOS`.

    Returns:
        FCOS.
    """
    given = {"levels": (3, 4), "channels": 64, "depth": 2, "groups": None, "top": None, "limits": (24,)} | options
    return FCOS(classes, image_shape, backbone, **given)
