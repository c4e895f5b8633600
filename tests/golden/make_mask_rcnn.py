"""Writes mask_rcnn.npz: a small Faster R-CNN and a small Mask R-CNN of ours, ten scenes, and what torchvision's modules
with the same weights find in them, for tests/utils/test_detection_mask_rcnn.py.

In an environment of the course: pip install torchvision && KERAS_BACKEND=torch python tests/golden/make_mask_rcnn.py

torchvision's anchors lie on the corners of the cells and are rounded, its RoIAlign has aligned=False, and its masks are
pasted on boxes of whole pixels. Ours do otherwise, as Detectron2 does, so these three are exchanged here: the anchors
are moved, RoIAlign gets aligned=True, and PyTorch's `grid_sample` pastes.
"""

import functools
import json
from collections import OrderedDict
from pathlib import Path

import keras
import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models import detection
from torchvision.ops import poolers

from utils import data
from utils.detection import faster_rcnn, mask_rcnn

SIDE, CLASSES, KEPT, THRESHOLD = 64, 6, 8, 0.05
SHARED = {"proposals": 64, "candidates": 100, "roi_size": 5, "units": (24, 24), "ratios": (0.5, 1, 2)}
ONE_MAP = SHARED | {"levels": (3,), "channels": None, "sizes": ((16, 30),)}
PYRAMID = SHARED | {"levels": (2, 3), "channels": 12, "sizes": ((10,), (20,), (40,)), "canonical": 16}
MASKS = {"mask_filters": (12, 12), "mask_roi_size": 7}
FILTERS = (8, 12, 16)  # of the backbone's convolutions of stride 2

poolers.roi_align = functools.partial(torchvision.ops.roi_align, aligned=True)


def ours(make, options):
    """A net of ours on a backbone of three convolutions, with random weights that half precision holds exactly."""
    x = image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    for count in FILTERS:
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(count, 3, 2, activation="relu")(x)
    net = make(CLASSES, (SIDE, SIDE, 3), keras.Model(image, x), **options)
    rng = np.random.default_rng(0)
    for weight in net.trainable_weights:
        inputs = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 1
        spread = {"objectness": 4, "logits": 3, "deltas": 1.5}.get(weight.path.split("/")[-2], 1.4)
        values = rng.normal(0, spread / np.sqrt(inputs) if inputs > 1 else 0.1, weight.shape)
        weight.assign(values.astype("float16").astype("float32"))
    if hasattr(net, "mask_head"):  # some pixels more above .5
        net.mask_head.get_layer("logits").bias.assign(np.full(CLASSES, 0.75))
    return net


class Anchors(detection.anchor_utils.AnchorGenerator):
    """torchvision's, not rounded, and moved to the cells' centres."""

    def generate_anchors(self, scales, aspect_ratios, dtype=torch.float32, device="cpu"):
        roots = torch.as_tensor(aspect_ratios, dtype=dtype).sqrt()[:, None]
        scales = torch.as_tensor(scales, dtype=dtype)[None]
        width, height = (scales / roots).reshape(-1), (scales * roots).reshape(-1)
        return torch.stack([-width, -height, width, height], 1) / 2

    def grid_anchors(self, grid_sizes, strides):
        found = super().grid_anchors(grid_sizes, strides)
        return [anchors + stride[0] / 2 for anchors, stride in zip(found, strides)]


class Backbone(nn.Module):
    def __init__(self, pyramid):
        super().__init__()
        pairs = zip((3, *FILTERS), FILTERS)
        self.convolutions = nn.ModuleList(nn.Conv2d(before, after, 3, 2, 1) for before, after in pairs)
        self.pyramid = pyramid
        self.out_channels = FILTERS[-1] if pyramid is None else PYRAMID["channels"]

    def forward(self, x):
        maps = []
        for convolution in self.convolutions:
            x = convolution(x).relu()
            maps.append(x)
        if self.pyramid is None:
            return OrderedDict([("0", maps[-1])])
        return self.pyramid(OrderedDict([("0", maps[1]), ("1", maps[2])]))


def theirs(net, options):
    """torchvision's modules put together at the sizes of the net, with its weights."""
    last_level = torchvision.ops.feature_pyramid_network.LastLevelMaxPool()
    channels = options["channels"]
    pyramid = channels and torchvision.ops.FeaturePyramidNetwork(FILTERS[1:], channels, last_level)
    body = Backbone(pyramid)
    names = [str(index) for index in range(len(options["levels"]))]
    anchors = Anchors(options["sizes"], (options["ratios"],) * len(options["sizes"]))
    pool = functools.partial(
        poolers.MultiScaleRoIAlign, names, sampling_ratio=2, canonical_scale=options.get("canonical", 224)
    )
    roi_size, units = options["roi_size"], options["units"]
    parts = {
        "rpn_anchor_generator": anchors,
        "rpn_head": detection.rpn.RPNHead(body.out_channels, anchors.num_anchors_per_location()[0]),
        "box_roi_pool": pool(output_size=roi_size),
        "box_head": detection.faster_rcnn.TwoMLPHead(body.out_channels * roi_size**2, units[0]),
        "box_predictor": detection.faster_rcnn.FastRCNNPredictor(units[1], CLASSES + 1),
    }
    make = detection.FasterRCNN
    if "mask_filters" in options:
        make, filters = detection.MaskRCNN, options["mask_filters"]
        parts |= {
            "mask_roi_pool": pool(output_size=options["mask_roi_size"]),
            "mask_head": detection.mask_rcnn.MaskRCNNHeads(body.out_channels, filters, 1),
            "mask_predictor": detection.mask_rcnn.MaskRCNNPredictor(filters[-1], filters[-1], CLASSES + 1),
        }
    model = make(
        body,
        min_size=SIDE,
        max_size=SIDE,
        image_mean=[0, 0, 0],
        image_std=[1, 1, 1],
        rpn_pre_nms_top_n_test=options["candidates"],
        rpn_post_nms_top_n_test=options["proposals"] // 2,
        box_score_thresh=THRESHOLD,
        box_detections_per_img=KEPT,
        **parts,
    ).eval()
    copy(net, model, options)
    return model


def copy(net, model, options):
    """Our weights in torchvision's modules. Filters are turned round; the first dense layer reads channels first; what
    torchvision keeps for the background is 0.
    """

    def put(module, layer, first=None, groups=0):
        kernel, bias = (np.asarray(weight.numpy()) for weight in layer.weights)
        if first is not None:  # (h w C, units) to (C h w, units)
            kernel = kernel.reshape(first, first, -1, kernel.shape[-1]).transpose(2, 0, 1, 3).reshape(kernel.shape)
        turned = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        if groups:
            turned = np.concatenate([np.zeros((groups, *turned.shape[1:])), turned])
            bias = np.concatenate([np.zeros(groups), bias])
        module.weight.data, module.bias.data = (torch.tensor(x, dtype=torch.float32) for x in (turned, bias))

    convolutions = [layer for layer in net.network.layers if isinstance(layer, keras.layers.Conv2D)]
    for module, layer in zip(model.backbone.convolutions, convolutions):
        put(module, layer)
    if options["channels"]:
        for place, level in enumerate(options["levels"]):
            put(model.backbone.pyramid.inner_blocks[place][0], net.network.get_layer(f"fpn_lateral{level}"))
            put(model.backbone.pyramid.layer_blocks[place][0], net.network.get_layer(f"fpn_p{level}"))
    rpn = net.network.get_layer("rpn")
    put(model.rpn.head.conv[0][0], rpn.get_layer("conv"))
    put(model.rpn.head.cls_logits, rpn.get_layer("objectness"))
    put(model.rpn.head.bbox_pred, rpn.get_layer("deltas"))
    heads = model.roi_heads
    put(heads.box_head.fc6, net.box_head.get_layer("dense1"), first=options["roi_size"])
    put(heads.box_head.fc7, net.box_head.get_layer("dense2"))
    put(heads.box_predictor.cls_score, net.box_head.get_layer("logits"))
    put(heads.box_predictor.bbox_pred, net.box_head.get_layer("deltas"), groups=4)
    if "mask_filters" in options:
        for number in range(len(options["mask_filters"])):
            put(heads.mask_head[number][0], net.mask_head.get_layer(f"conv{number + 1}"))
        put(heads.mask_predictor.conv5_mask, net.mask_head.get_layer("double"))
        put(heads.mask_predictor.mask_fcn_logits, net.mask_head.get_layer("logits"), groups=1)


@torch.no_grad()
def found_by(model, images):
    """Proposals, detections, and masks before and after pasting: arrays with the axis of the images first."""
    batch = torch.tensor(images.transpose(0, 3, 1, 2) / 255, dtype=torch.float32)
    batch, _ = model.transform(list(batch))
    maps = model.backbone(batch.tensors)
    proposals, _ = model.rpn(batch, maps)
    results, _ = model.roi_heads(maps, proposals, batch.image_sizes)
    assert {len(found) for found in proposals} == {model.rpn.post_nms_top_n()}
    assert {len(result["labels"]) for result in results} == {KEPT}
    found = {key: torch.stack([result[key] for result in results]) for key in results[0]}
    found["labels"] = found["labels"].to(torch.int32) - 1
    found["proposals"] = torch.stack(proposals)
    if "masks" in found:
        found["soft"] = found.pop("masks")[:, :, 0]
        found["masks"] = pasted(found["soft"], found["boxes"])
    return {key: values.numpy() for key, values in found.items()}


def pasted(masks, boxes):
    """As Detectron2's `_do_paste_mask`: the image's pixels looked up in the small masks by `grid_sample`."""
    small, boxes = masks.reshape(-1, 1, *masks.shape[2:]), boxes.reshape(-1, 4)
    at = torch.arange(SIDE) + 0.5
    x = (at - boxes[:, 0:1]) / (boxes[:, 2:3] - boxes[:, 0:1]) * 2 - 1
    y = (at - boxes[:, 1:2]) / (boxes[:, 3:4] - boxes[:, 1:2]) * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, SIDE, -1), y[:, :, None].expand(-1, -1, SIDE)], dim=-1)
    return (
        nn.functional.grid_sample(small, grid, align_corners=False)[:, 0].reshape(*masks.shape[:2], SIDE, SIDE) >= 0.5
    )


scenes = next(iter(data.load("shapes", "test", image_size=(SIDE, SIDE), batch_size=10)))["image"].numpy()
stored = {"images": scenes}
for name, make, options in (
    ("faster", faster_rcnn.FasterRCNN, ONE_MAP),
    ("mask", mask_rcnn.MaskRCNN, PYRAMID | MASKS),
):
    net = ours(make, options)
    expected = found_by(theirs(net, options), scenes)
    outputs = net(scenes)
    mine = net.detect(scenes, THRESHOLD, max_detections=KEPT) | {"proposals": outputs["rois"].detach().numpy()}
    for key, values in mine.items():
        away = np.abs(values.astype("float64") - expected[key])
        print(name, key, values.shape, f"{away.max():.2e} apart at most, {(away > 1e-3).mean():.2e} of them above .001")
    stored[f"{name}_net"] = json.dumps(keras.saving.serialize_keras_object(net))
    for number, weight in enumerate(net.trainable_weights):
        stored[f"{name}_weight{number}"] = weight.numpy().astype("float16")
    stored |= {f"{name}_{key}": values for key, values in expected.items()}
np.savez_compressed(Path(__file__).with_name("mask_rcnn.npz"), **stored)
