"""What a detector's functions cost beside others that do the same: suppression, features of regions, evaluation; and
selective search by itself.

    python benchmarks/detection_ops.py [--rounds 5] [--images 5000] [--torchvision PYTHON]

The peers:

- suppression: `tf.image.combined_non_max_suppression`, compiled, and torchvision's `batched_nms`, image by image. All
  keep the same boxes, which is checked. TensorFlow's is C++ for the CPU, and ours is `keras.ops`, compiled by XLA.
- RoIAlign: torchvision's `roi_align`, whose values are the same (checked), and `tf.image.crop_and_resize`, whose are
  not: it takes one sample for a bin and no mean, and lets the first and the last sample lie on the box's border, so
  that the bins are wider than the box is long.
- evaluation: pycocotools by itself, from COCO's own form, and faster-coco-eval where it is installed. The figures are
  the same (checked). Ours begins with arrays, so their time includes making that form, too.

torchvision's operators load only beside the PyTorch they were built for, which need not be the one of this environment:
`--torchvision` names the Python of another environment that has both, and which is then asked for its times.

One thread, unless OMP_NUM_THREADS says more.
"""

import argparse
import contextlib
import io
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
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false" if os.environ["OMP_NUM_THREADS"] == "1" else "")

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MOST = 100

# What torchvision's own process runs: it has no Keras, and reads arrays and writes times and results.
TORCHVISION = """
import os, pickle, sys, time
import torch, torchvision
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
cases, rounds = pickle.load(open(sys.argv[1], "rb"))
results = {}
for name, (kind, arrays, options) in cases.items():
    tensors = [torch.from_numpy(array) for array in arrays]
    if kind == "nms":
        boxes, scores, labels = tensors
        def run():
            return [torchvision.ops.batched_nms(*image, options["iou"])[:options["most"]] for image in zip(boxes,
            scores, labels)]
    else:
        features, rois = tensors
        features = features.permute(0, 3, 1, 2).contiguous()
        rois = list(rois)
        def run():
            return torchvision.ops.roi_align(features, rois, options["size"], options["scale"], options["samples"],
            aligned=True)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(rounds + 1):
            start = time.process_time()
            for _ in range(options["steps"]):
                found = run()
            best = min(best, (time.process_time() - start) / options["steps"])
    found = [image.numpy() for image in found] if kind == "nms" else found.permute(0, 2, 3, 1).numpy()
    results[name] = (best, found)
pickle.dump((torchvision.__version__, results), open(sys.argv[2], "wb"))
"""


def crowded(images, count, seed=0):
    """Boxes as a detector gives them before suppression: about fifteen around each object; scores and labels."""
    random = np.random.default_rng(seed)
    objects = max(count // 15, 1)
    centres, sizes = random.uniform(30, 480, (images, objects, 2)), random.uniform(20, 100, (images, objects, 2))
    of = random.integers(0, objects, (images, count, 1))
    centres = np.take_along_axis(centres, of, 1) + random.normal(0, 6, (images, count, 2))
    sizes = np.take_along_axis(sizes, of, 1) * random.uniform(0.8, 1.2, (images, count, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=-1).astype("float32")
    # No two scores are the same, so that all have the same order.
    scores = random.permuted(np.tile(np.linspace(0.1, 1, count, dtype="float32"), (images, 1)), axis=1)
    return boxes, scores, random.integers(0, 4, (images, count))


def cpu_seconds(runs, rounds, steps):
    """dict of name -> CPU seconds of one call, the best of the rounds after the first; they run in turns."""
    best = dict.fromkeys(runs, float("inf"))
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            for _ in range(steps):
                run()
            if number:
                best[name] = min(best[name], (time.process_time() - start) / steps)
    return best


def table(title, found, note=""):
    print(f"\n{title}", flush=True)
    ours = found["ours"]
    for name, seconds in found.items():
        ratio = "" if name == "ours" else f"   ours takes {ours / seconds:.2f} times as long"
        print(f"  {name:<34}{1e3 * seconds:>10.2f} ms{ratio}")
    if note:
        print(f"  {note}")


def torchvision_times(python, cases, rounds):
    """(version, name -> (CPU seconds, results)) from another environment; None without one."""
    if python is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder, "cases"), Path(folder, "results")
        given.write_bytes(pickle.dumps((cases, rounds)))
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([python, "-c", TORCHVISION, str(given), str(taken)], check=True, env=variables)
        return pickle.loads(taken.read_bytes())


def suppression(arguments):
    import tensorflow as tf

    from utils.detection.nms import batched_nms, nms

    cases, prepared = {}, {}
    for images, count in ((8, 300), (1, 2000)):
        boxes, scores, labels = crowded(images, count)
        for kind, classes in (("one class", np.zeros_like(labels)), ("four classes", labels)):
            name = f"{images} x {count:,} boxes, {kind}"
            prepared[name] = boxes, scores, classes
            cases[name] = ("nms", prepared[name], {"iou": 0.5, "most": MOST, "steps": 5})
    theirs = torchvision_times(arguments.torchvision, cases, arguments.rounds)
    for name, (boxes, scores, labels) in prepared.items():
        classes = int(labels.max()) + 1
        # TensorFlow's takes the scores of all classes: -1 where a box is of another one.
        of_class = np.where(labels[..., None] == np.arange(classes), scores[..., None], -1).astype("float32")
        inputs = [tf.constant(array) for array in (boxes, scores, labels.astype("int32"), of_class)]

        @tf.function(jit_compile=True)
        def ours(boxes, scores, labels, classes=classes):
            if classes == 1:
                return nms(boxes, scores, 0.5, MOST)
            return batched_nms(boxes, scores, labels, 0.5, MOST)

        @tf.function
        def peer(boxes, of_class):
            return tf.image.combined_non_max_suppression(
                boxes[:, :, None], of_class, MOST, MOST, 0.5, 0.0, clip_boxes=False
            )

        indices = ours(*inputs[:3]).numpy()
        kept = np.where(indices >= 0, np.take_along_axis(scores, np.maximum(indices, 0), 1), 0)
        np.testing.assert_allclose(kept, peer(inputs[0], inputs[3]).nmsed_scores.numpy())
        runs = {
            "ours": lambda ours=ours, inputs=inputs: ours(*inputs[:3]),
            "TensorFlow's": lambda peer=peer, inputs=inputs: peer(inputs[0], inputs[3]),
        }
        found = cpu_seconds(runs, arguments.rounds, 10)
        if theirs:
            seconds, results = theirs[1][name]
            for own, other in zip(indices, results):
                np.testing.assert_array_equal(own[own >= 0], other)
            found[f"torchvision's ({theirs[0]})"] = seconds
        table(f"Suppression, {name}, {MOST} kept at most", found)


def regions(arguments):
    import tensorflow as tf

    from utils.detection.roi import roi_align

    random = np.random.default_rng(0)
    for side in (24, 48):
        features = random.normal(size=(8, side, side, 64)).astype("float32")
        stride = 192 // side
        corners = random.uniform(0, 140, (8, 64, 2))
        boxes = np.concatenate([corners, corners + random.uniform(10, 80, (8, 64, 2))], axis=-1).astype("float32")
        name = f"8 x 64 regions, 7 x 7 bins, map {side} x {side} x 64"
        options = {"size": 7, "scale": 1 / stride, "samples": 2, "steps": 3}
        theirs = torchvision_times(arguments.torchvision, {name: ("roi", (features, boxes), options)}, arguments.rounds)
        maps, rois = tf.constant(features), tf.constant(boxes)
        ours = tf.function(lambda f, b, stride=stride: roi_align(f, b, 7, 1 / stride))
        jitted = tf.function(lambda f, b, stride=stride: roi_align(f, b, 7, 1 / stride), jit_compile=True)
        whole = tf.constant([side - 1.0] * 4)
        places = tf.repeat(tf.range(8), 64)

        @tf.function
        def crops(maps, rois, stride=stride, whole=whole, places=places):
            relative = (tf.reshape(rois, (-1, 4)) / stride - 0.5) / whole
            return tf.image.crop_and_resize(maps, tf.gather(relative, [1, 0, 3, 2], axis=1), places, (7, 7))

        runs = {
            "ours": lambda ours=ours, maps=maps, rois=rois: ours(maps, rois),
            "ours, compiled by XLA": lambda jitted=jitted, maps=maps, rois=rois: jitted(maps, rois),
            "TensorFlow's crop_and_resize": lambda crops=crops, maps=maps, rois=rois: crops(maps, rois),
        }
        found = cpu_seconds(runs, arguments.rounds, 3)
        if theirs:
            seconds, values = theirs[1][name]
            np.testing.assert_allclose(ours(maps, rois).numpy().reshape(values.shape), values, rtol=1e-3, atol=1e-4)
            found[f"torchvision's ({theirs[0]})"] = seconds
        table(f"RoIAlign, {name}", found, "crop_and_resize takes a quarter of the samples and no mean")


def detections_of(images, objects=5, found=20, classes=6):
    random = np.random.default_rng(0)
    corners = random.uniform(0, 400, (images, objects, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 200, (images, objects, 2))], axis=-1)
    labels = random.integers(0, classes, (images, objects))
    of = random.integers(0, objects, (images, found))
    noisy = np.take_along_axis(boxes, of[..., None], 1) + random.normal(0, 8, (images, found, 4))
    noisy[..., 2:] = np.maximum(noisy[..., 2:], noisy[..., :2] + 1)  # to pycocotools, a box of negative width overlaps
    right = random.random(of.shape) < 0.8
    detected = np.where(right, np.take_along_axis(labels, of, 1), random.integers(0, classes, of.shape))
    targets = {"boxes": boxes.astype("float32"), "labels": labels}
    return {"boxes": noisy.astype("float32"), "labels": detected, "scores": random.random(of.shape)}, targets


def cocos_form(detections, targets):
    """The same as annotations of COCO, ground truth and results."""

    def rows(given):
        result = []
        for image in range(len(given["labels"])):
            for index, label in enumerate(given["labels"][image].tolist()):
                left, top, right, bottom = map(float, given["boxes"][image, index])
                box = [left, top, right - left, bottom - top]
                row = {"image_id": image + 1, "category_id": label, "bbox": box, "area": box[2] * box[3]}
                row |= {"id": len(result) + 1, "iscrowd": 0}
                if "scores" in given:
                    row["score"] = float(given["scores"][image, index])
                result.append(row)
        return result

    size = {"height": 640, "width": 640}
    images = [{"id": number, **size} for number in range(1, len(targets["labels"]) + 1)]
    categories = [{"id": label, "name": str(label)} for label in range(int(targets["labels"].max()) + 1)]
    return {"images": images, "categories": categories, "annotations": rows(targets)}, rows(detections)


def evaluations(arguments):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from utils.detection import evaluation as our_own
    from utils.detection.evaluation import evaluate

    detections, targets = detections_of(arguments.images)
    results = {}

    def ours():
        results["ours"] = evaluate(detections, targets)["AP"]

    def plain():
        with contextlib.redirect_stdout(io.StringIO()):
            truth, found = cocos_form(detections, targets)
            library_set = COCO()
            library_set.dataset = truth
            library_set.createIndex()
            evaluation = COCOeval(library_set, library_set.loadRes(found), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        results["pycocotools"] = evaluation.stats[0]

    runs = {"ours": ours, "pycocotools": plain}
    library = our_own.faster_coco_eval
    if library is None:
        print("\nfaster-coco-eval is not installed: ours stands on pycocotools.")
    else:

        def ours_on_pycocotools():
            our_own.faster_coco_eval = None
            results["ours on pycocotools"] = evaluate(detections, targets)["AP"]
            our_own.faster_coco_eval = library

        def faster():
            truth, found = cocos_form(detections, targets)
            library_set = library.COCO(truth)
            evaluation = library.COCOeval_faster(
                library_set, library_set.loadRes(found), "bbox", print_function=lambda *given: None
            )
            evaluation.run()
            results["faster-coco-eval"] = evaluation.stats[0]

        runs |= {"ours on pycocotools": ours_on_pycocotools, "faster-coco-eval": faster}
    found = cpu_seconds(runs, 1, 1)
    for name, value in results.items():
        np.testing.assert_allclose(value, results["ours"], atol=1e-9, err_msg=name)
    table(f"Evaluation of {arguments.images:,} images with 20 detections each", found)


def searches(arguments):
    from skimage import data

    from utils.data import shapes
    from utils.detection.proposals import selective_search

    scenes = [shapes.scene(index).image for index in range(20)]
    photograph = data.astronaut()[::2, ::2]
    for name, images in (("scenes of 96 x 96", scenes), ("a photograph of 256 x 256", [photograph])):
        boxes = [selective_search(image) for image in images]
        seconds = cpu_seconds({"it": lambda images=images: [selective_search(image) for image in images]}, 1, 1)["it"]
        print(
            f"\nSelective search, {name}: {seconds / len(images):.3f} CPU s an image, "
            f"{np.mean([len(found) for found in boxes]):.0f} proposals"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000, help="images that are evaluated")
    parser.add_argument("--torchvision", metavar="PYTHON", help="the Python of an environment with torchvision")
    parts = {"suppression": suppression, "regions": regions, "evaluation": evaluations, "search": searches}
    parser.add_argument("--only", choices=parts, nargs="+", default=list(parts), help="parts to measure")
    arguments = parser.parse_args()
    for name in arguments.only:
        parts[name](arguments)


if __name__ == "__main__":
    main()
