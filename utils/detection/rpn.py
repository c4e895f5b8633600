"""Region proposal network: Ren, He, Girshick and Sun, "Faster R-CNN: towards real-time object detection with region
proposal networks" (NIPS 2015), section 3.

A 3x3 convolution slides over the feature map; at every place it says for each anchor whether an object is there, of
whatever class, and how the anchor must be moved. The best, after non-maximum suppression, are the proposals.
"""

import math

import keras
from keras import layers, ops

from utils import boxes as geometry
from utils.architectures.blocks import conv, conv_relu
from utils.detection import coding, losses, matching, nms, sampling


def head(channels, per_place, filters=None, name="rpn"):
    """The network of section 3.1, the same for every level of a pyramid.

    Args:
        channels: of the map.
        per_place: anchors at a place.
        filters: of the 3x3 convolution; None: as many as channels.
        name: of the model.

    Returns:
        keras.Model from a map (B, H, W, channels) to objectness logits (B, H * W * per_place, 1) and deltas (B, H * W *
        per_place, 4).
    """
    x = inputs = layers.Input((None, None, channels))
    x = conv_relu(x, filters or channels, 3, name="conv")
    spread = keras.initializers.RandomNormal(stddev=0.01)
    objectness = conv(x, per_place, 1, kernel_initializer=spread, name="objectness")
    deltas = conv(x, per_place * 4, 1, kernel_initializer=spread, name="deltas")
    outputs = [layers.Reshape((-1, 1), name="anchors")(objectness), layers.Reshape((-1, 4), name="boxes")(deltas)]
    return keras.Model(inputs, outputs, name=name)


def anchor_targets(anchors, boxes, labels, noise, ignored=None, count=256, share=0.5, high=0.7, low=0.3):
    """What the network should say at each anchor, and at which of them it is asked (sections 3.1.2 and 3.1.3).

    An anchor is positive if its IoU with an object is at least `high`, or the highest of all anchors for that object;
    negative if its IoU with all objects is below `low`. Of these, `count` are drawn, at most `share` positive. Anchors
    across the border of the image count as any other, as in Detectron2 and torchvision; the paper leaves them out.

    Args:
        anchors: (N, 4) `xyxy` pixels.
        boxes, labels, ignored: (B, M, 4), (B, M) padded with -1, (B, M) bool or None.
        noise: (B, N) in [0, 1): the draw.
        count, share, high, low: the paper's.

    Returns:
        dict of `sampled` (B, N) bool, `positive` (B, N) bool, those of the sampled that are positive, `deltas` (B, N,
        4).
    """
    overlaps = geometry.iou(boxes, anchors)
    matched = matching.match(overlaps, high, low, valid=ops.cast(labels, "int32") >= 0, ignored=ignored)
    positive = matched >= 0
    sampled = sampling.sample(positive, matched == matching.BACKGROUND, noise, count, share)
    own = ops.take_along_axis(ops.cast(boxes, "float32"), ops.maximum(matched, 0)[..., None], axis=1)
    deltas = coding.encode(own, anchors)
    return {"sampled": sampled, "positive": ops.logical_and(positive, sampled), "deltas": deltas}


def rpn_losses(targets, objectness, deltas):
    """Equation 1: binary cross-entropy of the sampled anchors, smooth L1 of the positive ones; both divided by the
    number of the sampled.

    The two terms are then of one size, and the paper's weight of 10 (which makes up for dividing by some 2,400 places)
    is not needed.

    Args:
        targets: what `anchor_targets` gives.
        objectness: (B, N) logits.
        deltas: (B, N, 4).

    Returns:
        dict of scalars, `objectness_loss` and `proposal_loss`.
    """
    sampled = ops.cast(targets["sampled"], "float32")
    count = ops.maximum(ops.sum(sampled), 1.0)
    truth = ops.cast(targets["positive"], "float32")
    entropy = ops.binary_crossentropy(truth, ops.cast(objectness, "float32"), from_logits=True)
    of_boxes = ops.sum(losses.smooth_l1(targets["deltas"], deltas, beta=1 / 9), axis=-1)
    return {
        "objectness_loss": ops.sum(sampled * entropy) / count,
        "proposal_loss": ops.sum(ops.where(targets["positive"], of_boxes, 0.0)) / count,
    }


def proposals(objectness, deltas, anchors, sizes, image_shape, before, after, iou_threshold=0.7):
    """The best boxes of the network (section 3.3, "RoIs"): on each level the `before` best, moved and cut to the image,
    of those what non-maximum suppression leaves, and of all levels the `after` best. Nothing flows back through them.

    Args:
        objectness: (B, N) logits, level by level.
        deltas: (B, N, 4).
        anchors: (N, 4) `xyxy` pixels.
        sizes: numbers of anchors of the levels; their sum is N.
        image_shape: (height, width, ...).
        before: int, at most so many of a level enter the suppression.
        after: int.
        iou_threshold: of the suppression.

    Returns:
        boxes (B, after, 4) float32 `xyxy` pixels and scores (B, after) float32, logits by falling score; -inf, and
        boxes of zeros, where there are fewer.
    """
    objectness, deltas = (ops.stop_gradient(ops.cast(x, "float32")) for x in (objectness, deltas))
    found_boxes, found_scores, start = [], [], 0
    for size in sizes:
        scores, places = ops.top_k(objectness[:, start : start + size], min(before, size))
        places = ops.cast(places, "int32")
        moves = ops.take_along_axis(deltas[:, start : start + size], places[..., None], axis=1)
        boxes = coding.decode(moves, ops.take(ops.convert_to_tensor(anchors[start : start + size]), places, axis=0))
        boxes = geometry.clip(boxes, *image_shape[:2])
        sides = boxes[..., 2:] - boxes[..., :2]
        # A box that the cut has left without area is no proposal.
        scores = ops.where(ops.min(sides, axis=-1) > 1e-3, scores, -math.inf)
        kept = nms.nms(boxes, scores, iou_threshold, min(after, min(before, size)))
        there, at = kept >= 0, ops.maximum(kept, 0)
        found_boxes.append(ops.where(there[..., None], ops.take_along_axis(boxes, at[..., None], axis=1), 0.0))
        found_scores.append(ops.where(there, ops.take_along_axis(scores, at, axis=1), -math.inf))
        start += size
    boxes, scores = ops.concatenate(found_boxes, axis=1), ops.concatenate(found_scores, axis=1)
    scores, places = ops.top_k(scores, min(after, scores.shape[1]))
    boxes = ops.take_along_axis(boxes, ops.cast(places, "int32")[..., None], axis=1)
    return ops.stop_gradient(boxes), ops.stop_gradient(scores)
