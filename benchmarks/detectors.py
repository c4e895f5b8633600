"""Our detectors beside torchvision's of the same design, and our RetinaNet beside KerasHub's: a training step, and
detection, on the CPU.

    python benchmarks/detectors.py --torchvision PYTHON [--rounds 3] [--only ssd retinanet faster_rcnn mask_rcnn]
    python benchmarks/detectors.py --kerashub PYTHON

`--torchvision` names the Python of an environment with PyTorch and torchvision, `--kerashub` that of one with KerasHub
and TensorFlow, which need not be this environment. A peer's process and ours take turns, call by call, on the same
images and the same objects.

Both nets of a pair have the same backbone, pyramid, heads, anchors at a place, and numbers of candidates, proposals and
sampled RoIs; the table gives the parameters of both. They are the same but for the background's boxes and mask, which
torchvision's heads have outputs for (4 * 1,025 and 257 parameters) and ours have not. SSD300 stands on VGG16, the
others on ResNet-18 with batch normalisation that learns. All have random weights: how long a step takes does not depend
on them, but how many boxes enter the suppression does. So both detect with a threshold of 0, and the suppression is
full.

A training step is forward, loss, backward and one step of SGD with momentum, from NumPy's images. Detection is what a
user calls: `detect(images)` here, `model(images)` there, from images to boxes.

One thread, unless OMP_NUM_THREADS says more.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.detection import faster_rcnn, mask_rcnn, retinanet, ssd

CLASSES, OBJECTS = 20, 6
SIDES = {"ssd": 300, "retinanet": 256, "faster_rcnn": 256, "mask_rcnn": 256}
PROPOSALS, CANDIDATES, ROIS, DETECTIONS = 1000, 1000, 128, 100
THRESHOLD = 0.0

# What a peer's process runs, between these two: it builds what it is asked for, reads one line, "name kind", does the
# call once, and answers with its CPU seconds.
HEAD = """
import functools, json, pickle, sys, time
import numpy as np

settings = pickle.load(open(sys.argv[1], "rb"))
classes, detections, threshold = settings["classes"], settings["detections"], settings["threshold"]
ready = {}
"""
TAIL = """
print(json.dumps({"version": version, "parameters": counts}), flush=True)
for line in sys.stdin:
    name, kind = line.split()
    start = time.process_time()
    found = {"train": train, "detect": detect}[kind](name)
    print(json.dumps({"seconds": time.process_time() - start, "found": found}), flush=True)
"""

TORCHVISION = """
import torch, torchvision
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

torch.set_num_threads(settings["threads"])
torch.manual_seed(0)


def body(**options):
    return resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5, **options
    )


def sizes(side):
    return {"min_size": side, "max_size": side}


def build_ssd(side):
    return detection.ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=classes + 1,
        score_thresh=threshold, detections_per_img=detections, topk_candidates=settings["candidates"],
    )


def build_retinanet(side):
    octaves = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    return detection.RetinaNet(
        body(returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(512, 256)), classes,
        anchor_generator=AnchorGenerator(octaves, ((0.5, 1.0, 2.0),) * 5), score_thresh=threshold,
        detections_per_img=detections, topk_candidates=settings["candidates"], **sizes(side),
    )


def build_rcnn(side, make=detection.FasterRCNN):
    return make(
        body(), classes + 1, rpn_pre_nms_top_n_train=settings["candidates"],
        rpn_pre_nms_top_n_test=settings["candidates"], rpn_post_nms_top_n_train=settings["proposals"],
        rpn_post_nms_top_n_test=settings["proposals"] // 2, box_batch_size_per_image=settings["rois"],
        box_score_thresh=threshold, box_detections_per_img=detections, **sizes(side),
    )


BUILDERS = {
    "ssd": build_ssd, "retinanet": build_retinanet, "faster_rcnn": build_rcnn,
    "mask_rcnn": functools.partial(build_rcnn, make=detection.MaskRCNN),
}
for name, batch in settings["batches"].items():
    model = BUILDERS[name](batch["image"].shape[1])
    images = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in batch["image"]]
    first = 0 if name == "retinanet" else 1  # RetinaNet's labels have no background
    targets = [
        {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels).long() + first}
        for boxes, labels in zip(batch["boxes"], batch["labels"])
    ]
    for target, masks in zip(targets, batch.get("masks", ())):
        target["masks"] = torch.from_numpy(masks)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)
    ready[name] = model, images, targets, optimizer


def train(name):
    model, images, targets, optimizer = ready[name]
    model.train()
    optimizer.zero_grad(set_to_none=True)
    sum(model(images, targets).values()).backward()
    optimizer.step()


@torch.inference_mode()
def detect(name):
    model, images, *_ = ready[name]
    model.eval()
    return sum(len(found["labels"]) for found in model(images))


counts = {name: sum(p.numel() for p in model.parameters()) for name, (model, *_) in ready.items()}
version = "torchvision " + torchvision.__version__
"""

KERASHUB = """
import keras, keras_hub, tensorflow as tf

keras.utils.set_random_seed(0)
for name, batch in settings["batches"].items():
    shape = batch["image"].shape[1:]
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2], stackwise_num_strides=[1, 2, 2, 2], block_type="basic_block",
        image_shape=shape,
    )
    pyramid = keras_hub.models.RetinaNetBackbone(encoder, 3, 7, use_p5=True, image_shape=shape)
    decoder = keras_hub.layers.NonMaxSuppression(
        "xyxy", from_logits=True, confidence_threshold=threshold, max_detections=detections
    )
    model = keras_hub.models.RetinaNetObjectDetector(
        pyramid, classes, "xyxy", prediction_decoder=decoder, preprocessor=None
    )
    model.compile(
        keras.optimizers.SGD(1e-4, momentum=0.9), box_loss=keras.losses.Huber(reduction="sum"),
        classification_loss=keras.losses.BinaryFocalCrossentropy(from_logits=True, reduction="sum"),
        jit_compile=False,
    )
    images = (batch["image"] / 255).astype("float32")
    truth = {"boxes": batch["boxes"], "labels": batch["labels"]}
    model.make_train_function()  # `train_on_batch` takes no truth of several parts, `predict_on_batch` no images alone
    model.make_predict_function()
    examples = iter(tf.data.Dataset.from_tensors((images, truth)).repeat())
    ready[name] = model, examples, [tf.constant(images)]


def train(name):
    model, examples, _ = ready[name]
    model.train_function(examples)


def detect(name):
    model, _, alone = ready[name]
    return int((np.asarray(model.predict_function(alone)["labels"]) >= 0).sum())


counts = {
    name: sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) for name, (model, *_) in ready.items()
}
version = "KerasHub " + keras_hub.__version__
"""
FAMILIES = {"torchvision": tuple(SIDES), "kerashub": ("retinanet",)}
PROGRAMS = {"torchvision": TORCHVISION, "kerashub": KERASHUB}


class Peer:
    """Another library's process, which does one call when it is asked to."""

    def __init__(self, library, python, batches):
        self.library, self._folder = library, tempfile.TemporaryDirectory()
        settings = Path(self._folder.name, "settings")
        given = {"batches": batches, "classes": CLASSES, "detections": DETECTIONS, "threshold": THRESHOLD}
        given |= {"candidates": CANDIDATES, "proposals": PROPOSALS, "rois": ROIS}
        settings.write_bytes(pickle.dumps(given | {"threads": int(os.environ["OMP_NUM_THREADS"])}))
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, "-c", HEAD + PROGRAMS[library] + TAIL, str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )
        about = self._answer()
        self.version, self.parameters = about["version"], about["parameters"]

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.library}'s process ended: see its message above")
        return json.loads(line)

    def call(self, name, kind):
        """CPU seconds of one call, and the number of detections."""
        print(name, kind, file=self._process.stdin, flush=True)
        answer = self._answer()
        return answer["seconds"], answer["found"]

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


class Ours:
    """The same calls of our detectors."""

    def __init__(self, batches):
        self.batches, self.models = batches, {}
        for name, batch in batches.items():
            keras.utils.set_random_seed(0)
            model = build(name, batch["image"].shape[1:])
            model.compile(keras.optimizers.SGD(1e-4, momentum=0.9))
            self.models[name] = model
        self.parameters = {
            name: sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
            for name, model in self.models.items()
        }

    def call(self, name, kind):
        model, batch = self.models[name], self.batches[name]
        start = time.process_time()
        found = None
        if kind == "train":
            model.train_on_batch(batch)
        else:
            images = batch["image"]
            results = model.detect(images, THRESHOLD, max_detections=DETECTIONS, batch_size=len(images))
            found = int((results["labels"] >= 0).sum())
        return time.process_time() - start, found


def build(name, image_shape):
    rcnn = {"proposals": PROPOSALS, "candidates": CANDIDATES, "roi_samples": ROIS}
    makers = {
        "ssd": lambda: ssd.SSD(CLASSES, image_shape),
        "retinanet": lambda: retinanet.RetinaNet(CLASSES, image_shape, "resnet18"),
        "faster_rcnn": lambda: faster_rcnn.FasterRCNN(CLASSES, image_shape, "resnet18", **rcnn),
        "mask_rcnn": lambda: mask_rcnn.MaskRCNN(CLASSES, image_shape, "resnet18", **rcnn),
    }
    return makers[name]()


def batch_of(count, side, masks):
    """Random images with boxes of 30 to 150 pixels, and ellipses in them as masks."""
    random = np.random.default_rng(0)
    sizes = random.uniform(30, 150, (count, OBJECTS, 2))
    corners = random.uniform(0, side - sizes)
    boxes = np.concatenate([corners, corners + sizes], axis=-1).astype("float32")
    batch = {
        "image": random.integers(0, 256, (count, side, side, 3), np.uint8),
        "boxes": boxes,
        "labels": random.integers(0, CLASSES, (count, OBJECTS)).astype("int32"),
    }
    if masks:
        y, x = np.mgrid[:side, :side] + 0.5
        low, high = boxes[..., None, None, :2], boxes[..., None, None, 2:]
        away = (np.stack([x, y], -1) - (low + high) / 2) / (high - low)
        batch["masks"] = ((away**2).sum(-1) <= 0.25).astype("uint8")
    return batch


def measured(ours, peer, name, kind, rounds):
    """CPU seconds of ours and theirs, the best of the rounds after the first, in turns; and detections of each."""
    best, found = {}, {}
    for number in range(rounds + 1):
        for who, party in (("ours", ours), ("theirs", peer)):
            seconds, found[who] = party.call(name, kind)
            if number:
                best[who] = min(best.get(who, seconds), seconds)
    return best, found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torchvision", metavar="PYTHON", help="of an environment with torchvision")
    parser.add_argument("--kerashub", metavar="PYTHON", help="of an environment with KerasHub; RetinaNet alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2, help="images of a call")
    parser.add_argument("--only", choices=SIDES, nargs="+", default=list(SIDES), help="families to measure")
    arguments = parser.parse_args()
    peers = {library: vars(arguments)[library] for library in PROGRAMS if vars(arguments)[library]}
    if not peers:
        parser.error("expected --torchvision PYTHON or --kerashub PYTHON")
    pairs = [(name, library) for library in peers for name in arguments.only if name in FAMILIES[library]]
    print("family          parameters, ours / theirs      a training step, CPU s        detection, CPU s", flush=True)
    for name, library in pairs:  # one at a time, for the memory's sake
        batches = {name: batch_of(arguments.batch, SIDES[name], name == "mask_rcnn")}
        ours, peer = Ours(batches), Peer(library, peers[library], batches)
        cells = [f"{name:<14}", f"{ours.parameters[name]:>13,} / {peer.parameters[name]:<13,}"]
        for kind in ("train", "detect"):
            best, found = measured(ours, peer, name, kind, arguments.rounds)
            cells.append(f"{best['ours']:.2f} / {best['theirs']:.2f} = {best['ours'] / best['theirs']:.2f}")
        print("   ".join(cells), f"  boxes found {found['ours']} / {found['theirs']}, {peer.version}", flush=True)
        peer.close()
    print(f"Keras {keras.__version__} on {keras.backend.backend()}; batches of {arguments.batch}")


if __name__ == "__main__":
    main()
