"""RetinaNet: Lin, Goyal, Girshick, He and Dollar, "Focal loss for dense object detection" (ICCV 2017).

One net looks at every place of a feature pyramid, at nine anchors each, and says for each anchor what it is and how it
must be moved. Of some hundred thousand anchors a handful lies on objects; the focal loss keeps the many easy ones on
the background from drowning them."""

import math

import keras
from keras import layers, ops

from utils import boxes as geometry
from utils.architectures.blocks import conv, conv_relu
from utils.backbones import backbone as build_backbone
from utils.detection import anchors, coding, losses, matching
from utils.detection.detector import Detector
from utils.detection.fpn import fpn

OCTAVES = (1, 2 ** (1 / 3), 2 ** (2 / 3))  # three sizes from one level to the next, section 4
RATIOS = (0.5, 1, 2)
PRIOR = 0.01  # the probability of every class at every anchor that the untrained net says, section 3.3


@keras.saving.register_keras_serializable("convnets")
class RetinaNet(Detector):
    """RetinaNet on any backbone. As it stands it is the paper's, on ResNet-50 with P3 to P7; `small` makes one for two
    cores.

    Args:
        classes: number of classes, without a background.
        image_shape: (height, width, channels), known.
        backbone, weights, backbone_options: for `utils.backbones.backbone`; the last one a dict, or None.
        levels: of the backbone's maps, rising by 1.
        channels: of the pyramid and the heads.
        depth: convolutions of a head before its last one.
        top: as in `fpn`: what comes above the coarsest map.
        scale: side of the smallest anchor in strides of its level; the paper's is 4.
        octaves, ratios: of the anchors.
        alpha, gamma: of the focal loss.
        box_loss: "smooth_l1" (as the paper, with beta 1 / 9, of the authors' code) or "giou".
        name, kwargs: as for `keras.Model`.
    """

    loss_names = ("class_loss", "box_loss")

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
        top="convolutions",
        scale=4.0,
        octaves=OCTAVES,
        ratios=RATIOS,
        alpha=0.25,
        gamma=2.0,
        box_loss="smooth_l1",
        name="retinanet",
        **kwargs,
    ):
        if box_loss not in ("smooth_l1", "giou"):
            raise ValueError(f"box_loss is 'smooth_l1' or 'giou', not {box_loss!r}")
        arguments = {
            key: value for key, value in locals().items() if key not in ("self", "__class__", "name", "kwargs")
        }
        body = build_backbone(backbone, image_shape, levels=levels, weights=weights, **(backbone_options or {}))
        pyramid = fpn(keras.tree.flatten(body.output), levels, channels, top)
        per_place = len(octaves) * len(ratios)
        of_classes = subnet(channels, depth, per_place * classes, "class_head", bias=-math.log((1 - PRIOR) / PRIOR))
        of_boxes = subnet(channels, depth, per_place * 4, "box_head")
        logits = [layers.Reshape((-1, classes), name=f"logits{level}")(of_classes(x)) for level, x in pyramid.items()]
        deltas = [layers.Reshape((-1, 4), name=f"deltas{level}")(of_boxes(x)) for level, x in pyramid.items()]
        outputs = {
            "logits": layers.Concatenate(1, name="logits")(logits),
            "deltas": layers.Concatenate(1, name="deltas")(deltas),
        }
        super().__init__(arguments, name=name, **kwargs)
        self.network = keras.Model(body.input, outputs, name="network")
        self.classes, self.image_shape = classes, tuple(image_shape)
        self.alpha, self.gamma, self.box_loss = alpha, gamma, box_loss
        strides = [2**level for level in pyramid]
        sizes = [[scale * stride * octave for octave in octaves] for stride in strides]
        self.anchors = anchors.pyramid([x.shape[1:3] for x in pyramid.values()], strides, sizes, ratios)  # (N, 4)

    def losses_of(self, batch, outputs):
        """Focal loss of all anchors that are not left out, box loss of those matched; both divided by the number of the
        matched.
        """
        overlaps = geometry.iou(batch["boxes"], self.anchors)  # (B, M, N)
        valid, ignored = batch["labels"] >= 0, batch.get("ignored")
        matched = matching.match(overlaps, high=0.5, low=0.4, valid=valid, ignored=ignored)  # (B, N)
        positive, counted = matched >= 0, matched != matching.IGNORED
        at = ops.maximum(matched, 0)
        labels = ops.take_along_axis(ops.cast(batch["labels"], "int32"), at, axis=1)
        targets = ops.one_hot(ops.where(positive, labels, -1), self.classes)  # (B, N, C), zeros for background
        focal = losses.sigmoid_focal(targets, outputs["logits"], self.alpha, self.gamma)
        boxes = ops.take_along_axis(ops.cast(batch["boxes"], "float32"), at[..., None], axis=1)
        count = ops.maximum(ops.sum(ops.cast(positive, "float32")), 1.0)
        return {
            "class_loss": ops.sum(ops.where(counted[..., None], focal, 0.0)) / count,
            "box_loss": ops.sum(ops.where(positive, self._of_boxes(boxes, outputs["deltas"]), 0.0)) / count,
        }

    def _of_boxes(self, boxes, deltas):
        if self.box_loss == "giou":
            return losses.giou_loss(boxes, coding.decode(deltas, self.anchors))
        return ops.sum(losses.smooth_l1(coding.encode(boxes, self.anchors), deltas, beta=1 / 9), axis=-1)

    def boxes_and_scores(self, outputs):
        """Boxes (B, N, 4) and scores (B, N, C): one box for all classes of an anchor."""
        return coding.decode(outputs["deltas"], self.anchors), ops.sigmoid(ops.cast(outputs["logits"], "float32"))


def subnet(channels, depth, outputs, name, bias=0.0):
    """A head, the same for all levels: 3x3 convolutions with ReLU, then one to the outputs (section 4, and figure 3).

    The convolutions start from He's uniform weights, with which a short training gets somewhere; the paper draws all
    from N(0, .01).

    Args:
        channels: of its input and its convolutions.
        depth: convolutions before the last.
        outputs: channels of the last.
        name: of the model.
        bias: what the last one gives at first.

    Returns:
        keras.Model from (B, H, W, channels) to (B, H, W, outputs).
    """
    x = inputs = layers.Input((None, None, channels))
    for number in range(1, depth + 1):
        x = conv_relu(x, channels, 3, name=f"conv{number}")
    spread = keras.initializers.RandomNormal(stddev=0.01)
    x = conv(
        x, outputs, 3, kernel_initializer=spread, bias_initializer=keras.initializers.Constant(bias), name="outputs"
    )
    return keras.Model(inputs, x, name=name)


def small(classes, image_shape=(96, 96, 3), backbone="shapes", **options):
    """A RetinaNet for two cores and objects of 14 to 50 pixels: two levels, of strides 8 and 16, heads of two
    convolutions.

    Args:
        classes, image_shape, backbone: as in `RetinaNet`.
        options: further arguments of `RetinaNet`.

    Returns:
        RetinaNet.
    """
    given = {"levels": (3, 4), "channels": 64, "depth": 2, "top": None, "scale": 2.0} | options
    return RetinaNet(classes, image_shape, backbone, **given)
