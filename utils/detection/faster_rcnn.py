"""Faster R-CNN: Ren, He, Girshick and Sun (NIPS 2015), on one map of a backbone or on a feature pyramid (Lin et al.,
CVPR 2017).

Two stages share one net: the region proposal network says where something is, Fast R-CNN's head says what. Both are
trained at once, with four losses ("approximate joint training", section 3.2: the proposals' coordinates count as
constants).
"""

import keras
from keras import layers, ops

from utils import boxes as geometry
from utils.backbones import backbone as build_backbone
from utils.detection import anchors, fast_rcnn, rpn
from utils.detection.detector import Detector, with_room
from utils.detection.fpn import fpn


@keras.saving.register_keras_serializable("convnets")
class FasterRCNN(Detector):
    """Faster R-CNN. As it stands it is the one with a feature pyramid on ResNet-50 that libraries ship; `small` makes
    one for two cores.

    On a batch (a dict with boxes and labels) a call gives what the losses need: proposals are drawn with the truth at
    hand. On images it gives what detection needs.

    Args:
        classes: number of classes, without a background.
        image_shape: (height, width, channels), known.
        backbone, weights, backbone_options: for `utils.backbones.backbone`; the last one a dict, or None.
        levels: of the backbone's maps.
        channels: of the pyramid; None: no pyramid, and one level.
        sizes: list of anchor sizes (pixels) for each level, the pool's on top of the pyramid included.
        ratios: of the anchors, height / width.
        rpn_filters: of the proposal network's convolution; None: as many as its input has channels.
        proposals: number of proposals that the second stage sees, in training; half as many at test, as in the paper
            (2,000 and 300) and in libraries (2,000 and 1,000).
        candidates: at most so many anchors of a level enter the suppression.
        anchor_samples, roi_samples: of an image, that a step learns from.
        roi_share: at most this share of them is positive.
        roi_size: bins of a RoI's features.
        pool: "align" or "pool".
        canonical: side of a RoI, in pixels, that takes its features from level 4 of the pyramid.
        units: of the box head's dense layers.
        seed: of the draws.
        name, kwargs: as for `keras.Model`.
    """

    loss_names = ("objectness_loss", "proposal_loss", "class_loss", "box_loss")

    def __init__(
        self,
        classes,
        image_shape=(800, 800, 3),
        backbone="resnet50",
        weights=None,
        backbone_options=None,
        levels=(2, 3, 4, 5),
        channels=256,
        sizes=((32,), (64,), (128,), (256,), (512,)),
        ratios=(0.5, 1, 2),
        rpn_filters=None,
        proposals=2000,
        candidates=2000,
        anchor_samples=256,
        roi_samples=512,
        roi_share=0.25,
        roi_size=7,
        pool="align",
        canonical=224,
        units=(1024, 1024),
        seed=0,
        name="faster_rcnn",
        **kwargs,
    ):
        arguments = {
            key: value for key, value in locals().items() if key not in ("self", "__class__", "name", "kwargs")
        }
        body = build_backbone(backbone, image_shape, levels=levels, weights=weights, **(backbone_options or {}))
        maps = keras.tree.flatten(body.output)
        if channels is not None:
            maps = fpn(maps, levels, channels, "pool" if len(sizes) > len(levels) else None)
        else:
            maps = dict(zip(levels, maps))
        if len(maps) != len(sizes) or (channels is None and len(levels) > 1):
            raise ValueError(
                f"give a list of anchor sizes for each map ({len(maps)}), and several maps only with a pyramid"
            )
        depth = next(iter(maps.values())).shape[-1]
        per_place = len(sizes[0]) * len(ratios)
        proposal_head = rpn.head(depth, per_place, rpn_filters)
        objectness, deltas = zip(*(proposal_head(x) for x in maps.values()))
        outputs = {
            "maps": {str(level): maps[level] for level in levels},
            "objectness": layers.Concatenate(1, name="objectness")(list(objectness))
            if len(maps) > 1
            else objectness[0],
            "deltas": layers.Concatenate(1, name="deltas")(list(deltas)) if len(maps) > 1 else deltas[0],
        }
        super().__init__(arguments, name=name, **kwargs)
        self.network = keras.Model(body.input, outputs, name="network")
        self.classes, self.image_shape = classes, tuple(image_shape)
        self.box_head = fast_rcnn.head((roi_size, roi_size, depth), classes, units)
        shapes = [tuple(x.shape[1:3]) for x in maps.values()]
        self.anchors = anchors.pyramid(shapes, [2**level for level in maps], [list(s) for s in sizes], list(ratios))
        self.level_sizes = [rows * columns * per_place for rows, columns in shapes]
        self.levels, self.roi_size, self.pool, self.canonical = tuple(levels), roi_size, pool, canonical
        self.proposals, self.nms_candidates = proposals, candidates
        self.anchor_samples, self.roi_samples, self.roi_share = anchor_samples, roi_samples, roi_share
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=None):
        """The outputs of both stages; see the class."""
        if isinstance(inputs, dict):
            return self.outputs_for_losses(inputs, training)
        return self.outputs_for_images(inputs)

    def outputs_for_images(self, images):
        """First stage, the best proposals, second stage on each."""
        found = self.network(images, training=False)
        rois, scores = self.propose(found, max(1, self.proposals // 2))
        logits, deltas = self.second_stage(found["maps"], rois)
        return {"maps": found["maps"], "rois": rois, "objectness": scores, "logits": logits, "box_deltas": deltas}

    def outputs_for_losses(self, batch, training):
        """First stage with the targets of the sampled anchors, second stage on the sampled proposals with theirs."""
        batch = with_room(batch)
        found = self.network(batch["image"], training=training)
        truth = batch["boxes"], batch["labels"]
        ignored = batch.get("ignored")
        objectness = found["objectness"][..., 0]
        noise = self._draw(objectness)
        of_anchors = rpn.anchor_targets(self.anchors, *truth, noise, ignored, self.anchor_samples)
        proposed, _ = self.propose(found, self.proposals)
        noise = self._draw(ops.concatenate([proposed[..., 0], ops.cast(batch["boxes"], "float32")[..., 0]], axis=1))
        of_rois = fast_rcnn.roi_targets(proposed, *truth, noise, ignored, self.roi_samples, self.roi_share)
        logits, deltas = self.second_stage(found["maps"], of_rois["rois"], training)
        outputs = {"objectness": objectness, "deltas": found["deltas"], "logits": logits, "box_deltas": deltas}
        return outputs | {"maps": found["maps"], "anchor_targets": of_anchors, "roi_targets": of_rois}

    def propose(self, found, count):
        """Proposals (B, count, 4) and their objectness (B, count), from what the network gave."""
        return rpn.proposals(
            found["objectness"][..., 0],
            found["deltas"],
            self.anchors,
            self.level_sizes,
            self.image_shape,
            self.nms_candidates,
            count,
        )

    def second_stage(self, maps, rois, training=False):
        """Class logits (B, K, 1 + C) and deltas (B, K, C, 4) of RoIs (B, K, 4)."""
        return fast_rcnn.class_outputs(self.box_head, self.features_of(maps, rois, self.roi_size), training)

    def features_of(self, maps, rois, size):
        """Features (B, K, size, size, C) of RoIs."""
        by_level = {level: maps[str(level)] for level in self.levels}
        return fast_rcnn.roi_features(by_level, rois, size, self.pool, canonical=self.canonical)

    def _draw(self, like):
        """Noise in [0, 1) of this shape."""
        return keras.random.uniform(ops.shape(like), seed=self.generator)

    def losses_of(self, batch, outputs):
        """The four losses: of the proposal network, and of the box head."""
        first = rpn.rpn_losses(outputs["anchor_targets"], outputs["objectness"], outputs["deltas"])
        return first | fast_rcnn.head_losses(outputs["roi_targets"], outputs["logits"], outputs["box_deltas"])

    def boxes_and_scores(self, outputs):
        """Boxes (B, K, C, 4), cut to the image, and scores (B, K, C) of the second stage."""
        boxes, scores = fast_rcnn.class_boxes(outputs["logits"], outputs["box_deltas"], outputs["rois"])
        return geometry.clip(boxes, *self.image_shape[:2]), scores


# Of `small`, and of what is built on it.
SMALL = {
    "levels": (3,),
    "channels": None,
    "sizes": ((16, 24, 36, 48),),
    "ratios": (1,),
    "proposals": 128,
    "candidates": 256,
    "anchor_samples": 64,
    "roi_samples": 48,
    "roi_size": 6,
    "units": (128,),
}


def small(classes, image_shape=(96, 96, 3), backbone="shapes", **options):
    """A Faster R-CNN for two cores and objects of 14 to 50 pixels: one map of stride 8, 128 proposals in training and
    64 at test.

    Args:
        classes, image_shape, backbone: as in `FasterRCNN`.
        options: further arguments of `FasterRCNN`.

    Returns:
        FasterRCNN.
    """
    return FasterRCNN(classes, image_shape, backbone, **(SMALL | options))
