"""SSD: Liu, Anguelov, Erhan, Szegedy, Reed, Fu and Berg, "SSD: single shot multibox detector" (ECCV 2016).

Maps of several sizes each answer for objects of one range of sizes, with default boxes of several shapes at every
place. Most places show background; of those, only the ones that the net is most wrong about are learnt from."""

import keras
import numpy as np
from keras import layers, ops

from utils import boxes as geometry
from utils.architectures.blocks import conv, conv_relu, max_pool
from utils.backbones import backbone as build_backbone
from utils.backbones import preprocessed
from utils.detection import anchors, coding, losses, matching
from utils.detection.detector import Detector

WEIGHTS = (10, 10, 5, 5)  # of the coded boxes: 1 / the "variances" of the authors' code
NEGATIVES = 3  # for each positive, section 2.2

# SSD300: ratios beyond 1 and the extra square, of each map, and the sides of the default boxes in pixels of 300: the
# authors' own for VOC.
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SIDES = (30, 60, 111, 162, 213, 264, 315)


def default_boxes(feature_shapes, image_shape, sides, ratios):
    """The default boxes of several maps (section 2.2), centred on equal parts of the image.

    At every place of map k: a square of side s_k, one of side sqrt(s_k s_(k+1)), and for each ratio r boxes of s_k
    sqrt(r) x s_k / sqrt(r) and the reverse.

    Args:
        feature_shapes: L pairs (H, W).
        image_shape: (height, width, ...).
        sides: L + 1 numbers, pixels, rising.
        ratios: L lists of numbers above 1.

    Returns:
        (N, 4) float32 `xyxy` pixels, map by map, row by row.

    Raises:
        ValueError: the lists do not fit together.
    """
    if not len(feature_shapes) == len(ratios) == len(sides) - 1:
        raise ValueError(
            f"{len(feature_shapes)} maps want as many lists of ratios and one side more, got {len(ratios)} and "
            f"{len(sides)}"
        )
    found = []
    for (rows, columns), side, larger, more in zip(feature_shapes, sides, sides[1:], ratios):
        shapes = [(side, side), (np.sqrt(side * larger),) * 2]
        for ratio in more:
            shapes += [(side * np.sqrt(ratio), side / np.sqrt(ratio)), (side / np.sqrt(ratio), side * np.sqrt(ratio))]
        half = np.array(shapes) / 2
        stride = image_shape[0] / rows, image_shape[1] / columns
        found.append(anchors.place(np.concatenate([-half, half], axis=-1), (rows, columns), stride))
    return np.concatenate(found)


def multibox_loss(labels, deltas, targets, logits, negatives=NEGATIVES):
    """Cross-entropy and box loss with hard negative mining (equation 1).

    Of the default boxes on background, only those with the highest loss count, `negatives` for each positive one of the
    same image.

    Args:
        labels: (B, N) int: 0 background, 1 to C the class, -1 not counted.
        deltas: (B, N, 4) predicted; targets: (B, N, 4), coded boxes, finite everywhere.
        logits: (B, N, 1 + C), background first.

    Returns:
        dict of scalars `class_loss` and `box_loss`: sums over the batch divided by its number of positives, or by 1 if
        there are none.
    """
    positive, background = labels > 0, labels == 0
    logits = ops.cast(logits, "float32")
    entropy = (
        ops.logsumexp(logits, axis=-1) - ops.take_along_axis(logits, ops.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    )
    difficulty = ops.where(background, ops.stop_gradient(entropy), -1.0)
    rank = ops.argsort(ops.argsort(-difficulty, axis=1), axis=1)
    per_image = ops.sum(ops.cast(positive, rank.dtype), axis=1, keepdims=True)
    chosen = ops.logical_or(positive, ops.logical_and(background, rank < negatives * per_image))
    of_boxes = ops.sum(losses.smooth_l1(targets, deltas), axis=-1)
    count = ops.maximum(ops.sum(ops.cast(positive, "float32")), 1.0)
    return {
        "class_loss": ops.sum(ops.where(chosen, entropy, 0.0)) / count,
        "box_loss": ops.sum(ops.where(positive, of_boxes, 0.0)) / count,
    }


@keras.saving.register_keras_serializable("convnets")
class L2Scale(layers.Layer):
    """Each place's channels divided by their L2 norm, times a learnt factor for each channel (ParseNet, Liu et al.
    2015): (B, H, W, C) -> same.

    Args:
        scale: the factors at first.
    """

    each_place = True  # across channels only: the receptive field stays as it is

    def __init__(self, scale=20.0, **options):
        super().__init__(**options)
        self.scale = scale

    def build(self, input_shape):
        self.factors = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.scale), name="factors"
        )

    def call(self, x):
        norm = ops.sqrt(ops.sum(ops.square(ops.cast(x, "float32")), axis=-1, keepdims=True) + 1e-10)
        return ops.cast(ops.cast(x, "float32") / norm * ops.cast(self.factors, "float32"), x.dtype)

    def get_config(self):
        return super().get_config() | {"scale": self.scale}


@keras.saving.register_keras_serializable("convnets")
class SSD(Detector):
    """SSD. As it stands it is the paper's SSD300 on VGG16: six maps of 38, 19, 10, 5, 3 and 1 cells, 8,732 default
    boxes. `small` makes one for two cores, on a backbone's maps.

    Args:
        classes: number of classes, without a background.
        image_shape: (height, width, channels).
        backbone, weights, backbone_options: None for VGG16 as the paper cuts it, else for `utils.backbones.backbone`.
        levels: of the backbone's maps.
        extra: filters of the maps that stride-2 convolutions add above the coarsest one, such as (128,).
        sides: of the default boxes, one for each map and one more, in pixels of an image of 300; they are scaled to
            this image.
        ratios: for each map a list of numbers above 1.
        name, kwargs: as for `keras.Model`.
    """

    loss_names = ("class_loss", "box_loss")

    def __init__(
        self,
        classes=20,
        image_shape=(300, 300, 3),
        backbone=None,
        weights=None,
        backbone_options=None,
        levels=(3, 4, 5),
        extra=(),
        sides=SIDES,
        ratios=RATIOS,
        name="ssd",
        **kwargs,
    ):
        arguments = {
            key: value for key, value in locals().items() if key not in ("self", "__class__", "name", "kwargs")
        }
        if backbone is None:
            image, maps = paper_body(image_shape)
        else:
            body = build_backbone(backbone, image_shape, levels=levels, weights=weights, **(backbone_options or {}))
            image, maps = body.input, keras.tree.flatten(body.output)
            for number, filters in enumerate(extra, 1):
                x = conv_relu(maps[-1], filters // 2, 1, name=f"extra{number}_conv1")
                maps.append(conv_relu(x, filters, 3, 2, name=f"extra{number}_conv2"))
        scaled = [side * min(image_shape[:2]) / 300 for side in sides]
        boxes = default_boxes([x.shape[1:3] for x in maps], image_shape, scaled, ratios)
        logits, deltas = [], []
        for number, (x, more) in enumerate(zip(maps, ratios), 1):
            shapes = 2 + 2 * len(more)
            spread = keras.initializers.RandomNormal(stddev=0.01)
            of_classes = conv(x, shapes * (classes + 1), 3, kernel_initializer=spread, name=f"classes{number}")
            of_boxes = conv(x, shapes * 4, 3, kernel_initializer=spread, name=f"boxes{number}")
            logits.append(layers.Reshape((-1, classes + 1), name=f"logits{number}")(of_classes))
            deltas.append(layers.Reshape((-1, 4), name=f"deltas{number}")(of_boxes))
        outputs = {
            "logits": layers.Concatenate(1, name="logits")(logits),
            "deltas": layers.Concatenate(1, name="deltas")(deltas),
        }
        super().__init__(arguments, name=name, **kwargs)
        self.network = keras.Model(image, outputs, name="network")
        self.classes, self.image_shape = classes, tuple(image_shape)
        self.anchors = boxes  # (N, 4)

    def losses_of(self, batch, outputs):
        """`multibox_loss` with the default boxes matched at IoU .5, and the best one of each object in any case."""
        overlaps = geometry.iou(batch["boxes"], self.anchors)
        valid = batch["labels"] >= 0
        matched = matching.match(overlaps, high=0.5, low=0.5, valid=valid, ignored=batch.get("ignored"))
        at = ops.maximum(matched, 0)
        labels = 1 + ops.take_along_axis(ops.cast(batch["labels"], "int32"), at, axis=1)
        labels = ops.where(matched >= 0, labels, ops.where(matched == matching.IGNORED, -1, 0))
        boxes = ops.take_along_axis(ops.cast(batch["boxes"], "float32"), at[..., None], axis=1)
        targets = coding.encode(boxes, self.anchors, WEIGHTS)
        return multibox_loss(labels, outputs["deltas"], targets, outputs["logits"])

    def boxes_and_scores(self, outputs):
        """Boxes (B, N, 4) and scores (B, N, C), softmax with a background, which is left out."""
        scores = ops.softmax(ops.cast(outputs["logits"], "float32"), axis=-1)[..., 1:]
        return coding.decode(outputs["deltas"], self.anchors, WEIGHTS), scores


def paper_body(image_shape):
    """VGG16 as section 3 has it, and the layers above it: (image, six maps). The third pool rounds up (75 to 38), the
    fifth keeps the size, and fc6 and fc7 are convolutions, the first one dilated.
    """
    image = layers.Input(image_shape, name="image")
    x = preprocessed(image, "vgg16")
    for stage, (filters, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for number in range(1, count + 1):
            x = conv_relu(x, filters, 3, name=f"conv{stage}_{number}")
        if stage == 4:
            first = L2Scale(name="conv4_3_norm")(x)
        if stage < 5:
            x = max_pool(x, 2, 2, padding="same", name=f"pool{stage}")
    x = layers.MaxPooling2D(3, 1, padding="same", name="pool5")(x)
    x = conv_relu(x, 1024, 3, padding=6, dilation_rate=6, name="fc6")
    maps = [first, conv_relu(x, 1024, 1, name="fc7")]
    for number, (half, filters, stride) in enumerate(((256, 512, 2), (128, 256, 2), (128, 256, 1), (128, 256, 1)), 8):
        x = conv_relu(maps[-1], half, 1, name=f"conv{number}_1")
        maps.append(conv_relu(x, filters, 3, stride, padding=stride - 1, name=f"conv{number}_2"))
    return image, maps


def small(classes, image_shape=(96, 96, 3), backbone="shapes", **options):
    """An SSD for two cores and objects of 14 to 50 pixels: maps of 12 and 6 cells.

    Args:
        classes, image_shape, backbone: as in `SSD`.
        options: further arguments of `SSD`.

    Returns:
        SSD.
    """
    given = {"levels": (3, 4), "sides": (50, 88, 156), "ratios": ((2,), (2,))} | options
    return SSD(classes, image_shape, backbone, **given)
