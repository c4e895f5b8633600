# %% [markdown]
# # 10 Two-stage detection
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/10_two_stage_detection.ipynb)
#
# **First where, then what.** A one-stage detector (topic 09) answers at every place of its map at once, in one look,
# and nearly all of its answers are "nothing". R-CNN (topic 08) looks at up to two thousand promising regions one by
# one. Each takes a whole pass of the network, so R-CNN is slow. Is there a way between the two? Look once at the
# whole image, look again only where it pays, and compute nothing twice.
#
# You will be able to
#
# - say what R-CNN computes again and again, and count it;
# - project a box onto a feature map, pool its features, and say what RoIPool's rounding costs;
# - tell apart the four losses of Faster R-CNN, and say how its two classification losses differ;
# - follow one image through every stage: anchors, their labels, proposals, features of regions, final boxes;
# - judge proposals by their recall, and detectors by accuracy and time together;
# - say what a feature pyramid changes, and where two-stage detection went since.
#
# It takes about an hour and a half to read and four to six minutes to run.

# %% tags=["setup"]
# On Colab this installs the course; elsewhere it only looks whether it is there.
import importlib.util
import pathlib
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("utils") is None:
    address = "git+https://github.com/convnets-for-vision/course@v0.1.0"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", address], check=True
    )
    importlib.invalidate_caches()
found = importlib.util.find_spec("utils")
if found is None:
    raise ImportError(
        "the course is not installed here: see 'Two commands' in its README"
    )
folders = list(found.submodule_search_locations or [])
if not any(pathlib.Path(folder, "session.py").is_file() for folder in folders):
    hiding = found.origin or folders[0]
    raise ImportError(
        f"{hiding} hides the course's own utils: rename it and restart the kernel"
    )
_ = importlib.import_module("utils")

# %% tags=["parameters"]
seed: int = 0  # [0, ] where the random numbers of this notebook start
source: str = "shapes"  # a data set with boxes: its name, or the path of a folder
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
image_size: int = 96  # [64, 1024] height and width of its images; a multiple of 32
most: int = 3000  # [16, ] training images, at most
searched: int = 600  # [4, ] of them get proposals by selective search, at most
tested: int = 150  # [4, ] test images, at most
network: str = "shapes"  # the backbone: the course's own, or one of keras.applications
rate: float = 1.5e-3  # [1e-6, 0.1] highest learning rate
sizes: list[float] = [16, 24, 36, 48]  # sides of the anchors, in pixels
regions: int = 100  # [10, 2000] proposals of selective search for an image, at most
proposals: int = 128  # [16, 4000] of the network in training; at test half as many
steps: list[int] = [260, 330, 140, 330, 520]  # [0, 100000] of each detector, in tens
cropped: int = 40  # [4, 10000] training images for R-CNN, at most
timed: int = 30  # [1, 1000] answers over which the time of a detector is the median

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import layers, ops

from utils import arithmetic, data, plots, training
from utils import boxes as geometry
from utils.backbones import backbone
from utils.data import augmentation
from utils.detection import anchors as anchor_boxes
from utils.detection import evaluation, fast_rcnn, faster_rcnn, matching, nms, rcnn
from utils.detection import retinanet, roi, rpn, yolo
from utils.detection import proposals as search
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# ## The data
#
# We need images with a box and a label for each object. By default these are the course's drawn scenes. They are
# synthesised: their boxes are exact, but they may not represent what photographs show. (Profile `real`: blood cells
# under the microscope. Any set with boxes can be named, and any folder in the form of COCO or VOC.)


# %%
def examples(split):
    """Images, boxes, labels (and which are ignored) of a split, as a dict of arrays."""
    options = {"channels": 3, "target": "boxes", "on_error": on_error}
    images, truth = data.arrays(source, split, image_size, **options)
    kept = ("boxes", "labels", "ignored")
    return {"image": images} | {key: truth[key] for key in kept if key in truth}


names = data.chosen(source, "boxes", on_error, classes=1).classes
train_set, test_set = examples(f"train[:{most}]"), examples(f"test[:{tested}]")
objects = (test_set["labels"] >= 0).sum(axis=1)
counts = f"{len(train_set['image']):,} training and {len(objects):,} test images"
print(f"{source}: {counts}")
print(f"{len(names)} classes, {objects.mean():.1f} objects an image")

# %% [markdown]
# We follow one image through all stages: the test image with the most objects among the first fifty.

# %%
one = int(np.argmax(objects[:50]))
image = test_set["image"][one]
there = test_set["labels"][one] >= 0
true_boxes, true_labels = test_set["boxes"][one][there], test_set["labels"][one][there]
plots.draw_objects(image, true_boxes, true_labels, classes=names)

# %% [markdown]
# ## What R-CNN computes twice
#
# Selective search (topic 08) merges regions of similar colour and texture step by step, and proposes the box around
# each. R-CNN warps each of them to a fixed size and sends it through the network. Proposals overlap. How many of them
# look at the same pixel?


# %%
def searched_boxes(images):
    """Proposals of selective search for each image: a list of arrays (N, 4)."""
    options = {"scales": (50,), "spaces": ("hsv",), "most": regions, "seed": seed}
    return [search.selective_search(pixels, **options) for pixels in images]


(found,) = searched_boxes([image])
coverage = np.zeros(image.shape[:2])
for left, top, right, bottom in found.astype(int):
    coverage[top:bottom, left:right] += 1
_, axes = plt.subplots(1, 2, figsize=(8, 3.4))
plots.show_boxes(image, found, alpha=0.5, title=f"{len(found)} proposals", ax=axes[0])
title = "proposals that cover a pixel"
plots.heat_map(image, coverage, ax=axes[1], title=title, bar=True)

# %% [markdown]
# For each of these proposals the network starts from pixels and computes edges, corners and textures anew. We count
# the work of both ways: the network on one crop for each proposal, and the network once on the whole image.

# %%
weights = "imagenet" if hasattr(keras.applications, network) else None
shape = (image_size, image_size, 3)
crop = image_size // 2  # the side to which R-CNN warps a proposal


def body(size, levels):
    """The backbone on squares of this size: maps of the levels, stride 2^level."""
    return backbone(network, (size, size, 3), levels=levels, weights=weights)


cropped_body, whole_body = body(crop, [4]), body(image_size, [4])
vector = layers.GlobalAveragePooling2D()(keras.tree.flatten(cropped_body.output)[0])
crop_net = keras.Model(cropped_body.input, vector)
each, whole = (arithmetic.totals(net)["macs"] for net in (crop_net, whole_body))

# %%
work = {f"{len(found)} crops": len(found) * each / 1e6, "the image once": whole / 1e6}
plots.bars(work, xlabel="million multiply-accumulates for one image")
record(saved_work=len(found) * each / whole)

# %% [markdown]
# The crops have half the side of the image, so each costs about a quarter of it, whatever it shows. The next picture
# shows the remedy: compute the map **once**, and cut the *features* of a proposal out of the map, not its pixels out
# of the image.

# %%
image_step, pool = ("image", False, None), ("RoIPool", True, None)
searching_step = ("selective\nsearch", False, plots.ORANGE)
network_step, each_crop = (("network", each, plots.YELLOW) for each in (False, True))
proposing_step = ("proposal\nnetwork", False, plots.YELLOW)
warp, svms = ("warp", True, None), ("SVMs,\nregression", True, plots.SKY)
heads = ("class, box", True, plots.SKY)
plots.pipelines(
    {
        "R-CNN": [image_step, searching_step, warp, each_crop, svms],
        "Fast R-CNN": [image_step, searching_step, network_step, pool, heads],
        "Faster R-CNN": [image_step, network_step, proposing_step, pool, heads],
    },
    title="What runs once, and what runs for each region (stacks)",
)

# %% [markdown]
# ## Fast R-CNN
#
# Girshick (ICCV 2015) puts the image through the convolutions once. For each proposal, a *region of interest* (RoI),
# a layer cuts a small map of fixed size out of the feature map. Two dense layers follow, then two branches: which
# class (or background), and how the box must be moved.
#
# > **What the slide says.** "The proposals are taken from the last feature map." No: in Fast R-CNN they come from
# > selective search, which sees the image and no network. They are *projected onto* the map: divided by its stride.
#
# ### RoIPool
#
# A corner that is divided by the stride falls between cells. RoIPool **rounds** it to whole cells. It divides the
# cells of the box into 7 × 7 bins (here fewer), rounds the borders of the bins once more, and takes the maximum of
# each bin. Work one out: a box from 3 to 29 on a map of stride 8. 3 / 8 = .375 is rounded to cell 0, and 29 / 8 =
# 3.625 to cell 4, which still belongs to the box. These are five cells, from pixel 0 to 40: we expect a box of 26
# pixels to become one of 40.

# %% tags=["nbval-check-output"]
cells = roi.whole_cells([3, 3, 29, 29], stride=8)
print(f"x from 3 to 29 becomes {cells[0]:g} to {cells[2]:g}")

# %%
sides = np.sqrt(geometry.area(true_boxes))
box = true_boxes[np.argsort(sides)[len(sides) // 2]]  # an object of medium size
_, axes = plt.subplots(1, 3, figsize=(8, 3))
for ax, stride in zip(axes, (8, 16, 32)):
    cells = roi.whole_cells(box, stride)
    overlap = geometry.iou(box[None], cells[None].astype("float32"))[0, 0]
    title = f"stride {stride}: IoU {overlap:.2f}"
    plots.show_roi_pool(image, box, cells, stride, 2, title, ax)

# %% [markdown]
# The red box is what was asked for; the features come from the blue one. How well do the two agree for all objects of
# the test set, at the strides of common networks?

# %%
every = test_set["boxes"][test_set["labels"] >= 0]
overlaps = {}
for stride in (4, 8, 16, 32):
    cells = roi.whole_cells(every, stride).astype("float32")
    pairs = zip(every[:, None], cells[:, None])
    overlaps[stride] = np.array([geometry.iou(a, b)[0, 0] for a, b in pairs])

# %%
_, ax = plt.subplots(figsize=(6, 3.2))
bins = np.linspace(0, 1, 31)
for stride, values in overlaps.items():
    ax.hist(values, bins, histtype="step", linewidth=2, label=f"stride {stride}")
ax.axvline(0.5, color=plots.GREY, linestyle="--")
ax.set(xlabel="IoU of a true box with its whole cells", ylabel="objects")
ax.legend(fontsize=9)
record(rounding_8=overlaps[8].mean(), rounding_16=overlaps[16].mean())

# %% [markdown]
# Small objects lose much. On the drawn scenes a *perfect* box and its whole cells have an IoU of .54 on average at
# stride 8, and .34 at stride 16: less than evaluation asks for (the dashed line). Such features may still tell the
# class, but hardly the exact place. Fast R-CNN and Faster R-CNN accept this for boxes. For masks it is too coarse:
# topic 11 removes the rounding (RoIAlign).
#
# ### One loss for two questions
#
# R-CNN trained in three separate runs: network, SVMs, box regressions. Fast R-CNN trains all in one, by the sum of
#
# - the cross-entropy of the class $u$, with background as class 0: $-\log p_u$;
# - for RoIs that are objects, the smooth L1 distance between the box numbers that are predicted *for class u* and the
#   true ones.
#
# An example by hand has three RoIs and two classes. One RoI is an object of class 1: it gets the probability .5 for
# its class, and its box numbers are all off by .5 (smooth L1: .5 · .5² each). The other two are background, with
# probability .8. We expect (ln 2 + 2 · ln 1.25) / 3 = .380 and 4 · .125 / 3 = .167.

# %% tags=["nbval-check-output"]
chances = np.array([[[0.25, 0.5, 0.25], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1]]], "float32")
truth = {"labels": np.array([[1, 0, 0]]), "deltas": np.zeros((1, 3, 4), "float32")}
told = np.full((1, 3, 2, 4), 9, "float32")  # (images, RoIs, classes, 4)
told[0, 0, 0] = 0.5
parts = fast_rcnn.head_losses(truth, np.log(chances), told)
print({name: f"{float(value):.3f}" for name, value in parts.items()})

# %% [markdown]
# The nines did not matter: a background has no box, and an object has no box of another class. Why smooth L1 and not
# the squared error, as in R-CNN? A proposal may be far off. The gradient of the square grows with the distance; that
# of smooth L1 never exceeds 1.

# %%
distance = np.linspace(-3, 3, 121)
smooth = np.where(abs(distance) < 1, distance**2 / 2, abs(distance) - 0.5)
_, ax = plt.subplots(figsize=(4.6, 3))
both = {"smooth L1": smooth, "half the square": distance**2 / 2}
plots.curves(both, x=distance, ax=ax)
ax.set(xlabel="predicted − true", ylabel="loss")

# %% [markdown]
# ### Which RoIs a step learns from
#
# Most proposals are background. The paper takes 64 RoIs from each of two images, a quarter of them with an IoU of .5
# or more with an object. (It takes the others between .1 and .5; here all below .5 may be drawn, as libraries do, and
# the true boxes join the proposals.) All RoIs of an image share one pass of the network: this makes training faster.
# The next picture shows one draw on our image.

# %%
padded = fast_rcnn.padded_proposals([found], regions)
noise = np.random.default_rng(seed).random((1, regions + len(true_boxes)))
truth = true_boxes[None], true_labels[None], noise.astype("float32")
drawn = fast_rcnn.roi_targets(padded, *truth, count=48)
drawn = {name: ops.convert_to_numpy(values)[0] for name, values in drawn.items()}

# %%
_, axes = plt.subplots(1, 2, figsize=(7, 3.5))
for ax, chosen, colour, text in (
    (axes[0], drawn["labels"] > 0, plots.VERMILLION, "positive"),
    (axes[1], drawn["labels"] == 0, plots.BLUE, "background"),
):
    title = f"{chosen.sum()} {text} RoIs"
    plots.show_boxes(image, drawn["rois"][chosen], colour, title=title, ax=ax)

# %% [markdown]
# ### Training it
#
# The backbone is the course's small one, seven convolutions that have learnt to name single shapes (profile `real`:
# MobileNetV2 from ImageNet). We cut 6 × 6 bins out of its map of stride 8. One dense layer of 128 units replaces the
# paper's two of 4,096. Before anything is trained, selective search has to run over the training images.


# %%
flip = augmentation.Flip(seed=seed)  # half of the images, left to right


def mirrored(batch):
    """The batch, some of its images mirrored; proposals move as boxes do."""
    if "proposals" not in batch:
        return flip(batch)
    boxes = np.concatenate([batch["boxes"], batch["proposals"]], axis=1)
    labels = np.pad(batch["labels"], ((0, 0), (0, regions)))
    moved = flip({"image": batch["image"], "boxes": boxes, "labels": labels})
    boxes, proposed = ops.split(moved["boxes"], [boxes.shape[1] - regions], axis=1)
    return batch | {"image": moved["image"], "boxes": boxes, "proposals": proposed}


# %%
used = {}


def train(name, net, given, count):
    """`count` steps, their CPU seconds into `used`; the losses, as means of ten."""
    began, ten = time.process_time(), min(10, count)
    schedule = training.WarmupHoldDecay(rate, count, warmup=count // 10)
    net.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0))
    options = {"steps_per_epoch": ten, "epochs": count // ten}
    batches = training.drawn_batches(given, 16, seed, mirrored)
    told = net.fit(batches, shuffle=False, verbose=0, **options)
    used[name] = time.process_time() - began
    return told.history


# %%
began = time.process_time()
searched_set = {key: values[:searched] for key, values in train_set.items()}
train_found = searched_boxes(searched_set["image"])
test_found = searched_boxes(test_set["image"])
searched_set["proposals"] = fast_rcnn.padded_proposals(train_found, regions)
test_set["proposals"] = fast_rcnn.padded_proposals(test_found, regions)
print(f"selective search: {time.process_time() - began:.0f} CPU seconds")

# %%
keras.utils.set_random_seed(seed)
fast = fast_rcnn.small(len(names), shape, network, weights=weights)
train("Fast R-CNN", fast, searched_set, steps[0])
print(f"training Fast R-CNN: {used['Fast R-CNN']:.0f} CPU seconds")


# %%
def detect(net, given, **options):
    """Detections of a network on a set: it is handed what it detects from."""
    return net.detect(*(given[key] for key in net.detects_from), **options)


def score(net):
    """AP and its companions on the test set."""
    return evaluation.evaluate(detect(net, test_set), test_set, classes=len(names))


scores = {"Fast R-CNN": score(fast)}
record(ap_fast=scores["Fast R-CNN"]["AP"], ap50_fast=scores["Fast R-CNN"]["AP50"])
answer = detect(fast, {key: values[one : one + 1] for key, values in test_set.items()})
sure = answer["scores"][0] > 0.5
parts = {key: values[0][sure] for key, values in answer.items()}
_, axes = plt.subplots(1, 2, figsize=(7, 3.5))
plots.draw_objects(image, true_boxes, true_labels, classes=names, ax=axes[0])
plots.draw_objects(image, **parts, classes=names, ax=axes[1])
axes[0].set_title("truth")
axes[1].set_title("Fast R-CNN, scores above .5")

# %% [markdown]
# ### How much faster?
#
# The paper's own figures, with VGG16 on VOC 2007 on one GPU [paper]: training took 9.5 hours instead of 84, and an
# image .32 s instead of 47, *proposals not counted*. Selective search takes about 2 s for an image. We compute three
# ratios: the two that are printed most, and the one that is often left out.

# %% tags=["nbval-check-output"]
print(f"training: {84 / 9.5:.1f} times faster")
print(f"test, without proposals: {47 / 0.32:.0f} times")
print(f"test, with 2 s of selective search: {(47 + 2) / (0.32 + 2):.0f} times")

# %% [markdown]
# 147 and 21 describe the same detector. The second ratio counts the whole time for which a user waits. Now we time
# our own: R-CNN on the same backbone, its SVMs trained on a few images, all timed on the same images, one image at a
# time. We count *CPU* milliseconds, the work of all threads together, because other programs that run at the same
# time change them little.

# %%
few = {key: values[:cropped] for key, values in searched_set.items()}
slow = rcnn.RCNN(crop_net, len(names), size=crop, seed=seed)
slow.fit(few["image"], few, train_found[:cropped])


# %%
def milliseconds(answer, times):
    """Median CPU time of answer(number), all threads together, after a first answer."""
    answer(0)
    took = []
    for number in range(times):
        began = time.process_time()
        answer(number % len(test_set["image"]))
        took.append(1000 * (time.process_time() - began))
    return np.median(took)


def time_of(net):
    """Milliseconds for one image; proposals are given where the net needs them."""
    given = [test_set[key] for key in net.detects_from]

    def answer(n):
        return net.detect(*(values[[n]] for values in given), batch_size=1)

    return milliseconds(answer, timed)


# %%
pixels = test_set["image"]
searching = milliseconds(lambda n: searched_boxes(pixels[n : n + 1]), timed)
few_times = max(1, timed // 5)
cropping = milliseconds(lambda n: slow.detect(pixels[[n]], [test_found[n]]), few_times)
pooling = time_of(fast)
first, rest = "selective search", "network, classes, boxes"
spent = {
    "R-CNN": {first: searching, rest: cropping},
    "Fast R-CNN": {first: searching, rest: pooling},
}
plots.stacked_times(spent, xlabel="CPU milliseconds an image")
both = (cropping + searching) / (pooling + searching)
record(speedup_alone=cropping / pooling, speedup_with_search=both)

# %% [markdown]
# We measured the same two ratios: in three runs (seeds 0, 1 and 2, drawn scenes) 7.4 to 8.0 without the proposals,
# and 3.0 with them. The lesson is the same too: once the network runs only once, the proposals are a large part of
# the time. However fast the network becomes, that part stays. Selective search has to go.
#
# ## Faster R-CNN: the network proposes
#
# Ren, He, Girshick and Sun (NIPS 2015). The map that Fast R-CNN computes in any case also tells where objects are. A
# **region proposal network** (RPN) reads it from there. A 3 × 3 window slides over the map. At each place several
# **anchors** are centred. For each anchor one output says whether it holds an object, of *whatever* class, and
# another says how the anchor must be moved to fit the object. It is a one-stage detector with a single class.
#
# ### Anchors
#
# The paper's anchors have three sizes (128, 256, 512 pixels) and three ratios, nine at a place, on a map
# of stride 16. An image of 600 × 1,000 has a map of 38 × 63, so we expect 38 · 63 · 9 = 21,546 anchors.

# %% tags=["nbval-check-output"]
paper_anchors = anchor_boxes.grid((38, 63), 16, (128, 256, 512), (0.5, 1, 2))
print(f"{len(paper_anchors):,} anchors of {paper_anchors.shape[1]} numbers")

# %% [markdown]
# Ours are squares of four sizes, on the map of stride 8.

# %%
keras.utils.set_random_seed(seed)
options = {"weights": weights, "proposals": proposals}
faster = faster_rcnn.small(len(names), shape, network, sizes=[sizes], **options)
side = image_size // 8

# %%
_, axes = plt.subplots(1, 2, figsize=(8, 3.6))
ground = np.full((600, 1000, 3), 225, "uint8")
title = "the paper's, at one place of many"
plots.show_anchors(ground, paper_anchors, 9, 16, title=title, ax=axes[0])
title = f"ours: {side} × {side} × {len(sizes)} = {len(faster.anchors):,}"
plots.show_anchors(image, faster.anchors, len(sizes), 8, title=title, ax=axes[1])

# %% [markdown]
# ### A sliding window is a convolution
#
# "Slides a small network" sounds like a loop. It is a 3 × 3 convolution, followed by two 1 × 1 convolutions. Check: cut
# one 3 × 3 window out of the map, give it to the network alone, and compare its middle with what the whole map gave
# there.

# %% tags=["nbval-check-output"]
head = rpn.head(8, per_place=9)
window_map = np.random.default_rng(0).normal(size=(1, 10, 12, 8)).astype("float32")
everywhere = ops.convert_to_numpy(head(window_map)[0]).reshape(10, 12, 9)
alone = ops.convert_to_numpy(head(window_map[:, 3:6, 4:7])[0]).reshape(3, 3, 9)
same = np.allclose(everywhere[4, 5], alone[1, 1], atol=1e-5)
print("the same at row 4, column 5:", same)

# %% [markdown]
# ### What each anchor is told
#
# - **positive**: its IoU with some object is .7 or more, or it is the *best* anchor of an object. Without the second
#   rule an object that no anchor fits well would teach nothing;
# - **background**: its IoU with every object is below .3;
# - **left out**: all others. Such an anchor is neither an object nor clearly background, so it does not enter the
#   loss.
#
# There are far more background anchors than positive ones. So each step draws 256 anchors of an image (here 64): at
# most half of them are positive, and background fills up the rest.

# %%
overlaps = geometry.iou(true_boxes, faster.anchors)
told = matching.match(overlaps, high=0.7, low=0.3)
forced = (told >= 0) & (overlaps.max(axis=0) < 0.7)
print(f"{(told >= 0).sum()} positive anchors, {forced.sum()} of them only as the best")

# %%
noise = np.random.default_rng(seed).random((1, len(faster.anchors)))
truth = true_boxes[None], true_labels[None], noise.astype("float32")
asked = rpn.anchor_targets(faster.anchors, *truth, count=64)["sampled"]
asked = ops.convert_to_numpy(asked)[0]
labels, some = told[asked], faster.anchors[asked]

# %%
_, axes = plt.subplots(1, 2, figsize=(8, 3.9))
plots.show_anchor_labels(image, faster.anchors, told, true_boxes, ax=axes[0])
axes[0].legend(fontsize=8, loc="lower right", frameon=True)
text = f"drawn: {(labels >= 0).sum()} positive, {(labels < 0).sum()} background"
plots.show_anchor_labels(image, some, labels, true_boxes, text, axes[1])

# %% [markdown]
# White boxes are the objects, red ones positive anchors, dots the centres of the others. Without the draw, only about
# one in a hundred answers would be about an object.
#
# ### Four losses
#
# | | asked of | question | loss |
# |---|---|---|---|
# | RPN, class | 256 anchors of an image | **is anything here?** yes or no | binary cross-entropy |
# | RPN, box | its positive anchors | how is the *anchor* to be moved? | smooth L1 |
# | head, class | 128 RoIs of a step (here 48 of an image) | **which class?** C classes and background | cross-entropy over C + 1 |
# | head, box | its positive RoIs | how is the *proposal* to be moved, for its class? | smooth L1 |
#
# The two classification losses differ in three ways. The first asks about anchors, which are the same in all images;
# the second asks about proposals, which the first stage has moved and which change as it learns. The first knows no
# classes; the second tells C classes and background apart. And an anchor counts as positive from an IoU of .7, a RoI
# from .5.
#
# The paper trains in four steps, **alternating**: (1) the RPN alone, from ImageNet weights; (2) a Fast R-CNN, from
# ImageNet weights too, on the proposals of (1), so that now there are two networks; (3) the RPN again, on the
# convolutions of (2), which are frozen: from here on they are shared; (4) the head of Fast R-CNN again, convolutions
# frozen. Today all four losses are added and trained at once ("approximate joint training"; approximate, since the
# head's loss depends on the coordinates of the proposals too, and no gradient is sent that way). So do we.

# %%
losses = train("Faster R-CNN", faster, train_set, steps[1])
titles = {
    "objectness_loss": "RPN, class",
    "proposal_loss": "RPN, box",
    "class_loss": "head, class",
    "box_loss": "head, box",
}
parts = {text: losses[name] for name, text in titles.items()}
at = min(10, steps[1]) * np.arange(1, len(losses["loss"]) + 1)
plots.curves(parts, x=at, xlabel="step", ylabel="loss", log_y=True)

# %%
scores["Faster R-CNN"] = score(faster)
found = scores["Faster R-CNN"]
record(ap_faster=found["AP"], ap50_faster=found["AP50"])
labels = train_set["labels"][train_set["labels"] >= 0]
common = {
    "boxes": np.full((len(objects), 1, 4), [0, 0, image_size, image_size], "float32"),
    "labels": np.full((len(objects), 1), np.bincount(labels).argmax()),
    "scores": np.ones((len(objects), 1), "float32"),
}
trivial = evaluation.evaluate(common, test_set, classes=len(names))["AP50"]

# %%
bars = {name: values["AP50"] for name, values in scores.items()}
bars["the whole image, most frequent class"] = trivial
plots.bars(bars, xlabel="AP50 on the test set")

# %% [markdown]
# ## One image through every stage
#
# **The map.** These are the channels with the largest spread of the map that the backbone gives for our image.

# %%
answers = faster.network(image[None])
objectness, deltas = answers["objectness"][..., 0], answers["deltas"]
feature_map = ops.convert_to_numpy(answers["maps"]["3"])[0]
busiest = np.argsort(feature_map.std(axis=(0, 1)))[::-1][:8]
plots.show_feature_maps(feature_map[..., busiest], image=image, columns=9)

# %% [markdown]
# **Objectness.** At each place the probability that one of its anchors holds an object, for each size of anchor.
# Small anchors should respond to small objects, large anchors to large objects.

# %%
chance = ops.convert_to_numpy(ops.sigmoid(objectness)).reshape(side, side, len(sizes))
_, axes = plt.subplots(1, len(sizes), figsize=(8, 2.3))
for number, (ax, size) in enumerate(zip(np.atleast_1d(axes), sizes)):
    title = f"anchors of {size:g}"
    plots.heat_map(image, chance[..., number], ax=ax, limits=(0, 1), title=title)

# %% [markdown]
# **Proposals.** The best anchors are moved as the network says and cut to the image. They lie in heaps, many on each
# object: non-maximum suppression at an IoU of .7 leaves one of each heap and a few around.


# %%
def proposed(iou_threshold, count):
    """Proposals of our image (N, 4), with this threshold of the suppression."""
    of_net = faster.anchors, faster.level_sizes, shape, faster.nms_candidates
    boxes, scores = rpn.proposals(objectness, deltas, *of_net, count, iou_threshold)
    there = np.isfinite(ops.convert_to_numpy(scores)[0])
    return ops.convert_to_numpy(boxes)[0][there]


before, after = proposed(1.0, 60), proposed(0.7, 60)
_, axes = plt.subplots(1, 3, figsize=(9, 3.2))
plots.show_boxes(image, before, title="the 60 best at first", alpha=0.5, ax=axes[0])
plots.show_boxes(image, after[:20], title="the 20 best after suppression", ax=axes[1])
title = f"{len(after)} after suppression"
plots.show_boxes(image, after, title=title, alpha=0.5, ax=axes[2])

# %% [markdown]
# **Features of RoIs.** The upper row shows the proposals, the lower row what the head sees of each: its 6 × 6 bins,
# averaged over channels. (Faster R-CNN pooled by rounding. Ours takes RoIAlign, which does not round; topic 11
# explains it.)

# %%
rois = after[:7]
cut = faster.features_of({"3": feature_map[None]}, rois[None], 6)
titles = [f"proposal {number}" for number in range(1, len(rois) + 1)]
plots.show_rois(image, rois, ops.convert_to_numpy(cut)[0], titles=titles)

# %% [markdown]
# **Second look.** The head names each proposal and moves it, and a suppression within each class leaves the answer.

# %%
outputs = faster(image[None])
rois = ops.convert_to_numpy(outputs["rois"])[0]
boxes, chances = map(ops.convert_to_numpy, faster.boxes_and_scores(outputs))
boxes, chances = boxes[0], chances[0]  # (RoIs, classes, 4) and (RoIs, classes)
label = chances.argmax(axis=-1)
moved = boxes[np.arange(len(label)), label]
surest = np.argsort(-chances.max(axis=-1))[:8]
answer = {key: part[0] for key, part in faster.detect(image[None]).items()}
final = {key: values[answer["scores"] > 0.5] for key, values in answer.items()}

# %%
_, axes = plt.subplots(1, 3, figsize=(9, 3.4))
plots.show_boxes(image, rois[surest], title="8 proposals", ax=axes[0])
colours = [plots.class_colour(k) for k in label[surest]]
plots.show_boxes(image, moved[surest], colours, title="named and moved", ax=axes[1])
plots.draw_objects(image, **final, classes=names, ax=axes[2])
axes[2].set_title("after suppression, scores above .5")

# %% [markdown]
# ## How good are the proposals?
#
# A second stage cannot find what the first did not propose: its **recall** is a ceiling. For each number of proposals
# we draw the share of the test objects that one of them overlaps by .5 or more (left), and by .7 (right). For
# comparison we draw selective search, and windows of the anchors' sizes in random order, which know nothing about the
# image.

# %%
pixels, count = test_set["image"], len(objects)
outputs = [faster(pixels[first : first + 50]) for first in range(0, count, 50)]
rois = np.concatenate([ops.convert_to_numpy(part["rois"]) for part in outputs])
windows = search.sliding_windows(image_size, image_size, sizes)
rng = np.random.default_rng(seed)
ways = {
    "RPN": [boxes[boxes.any(axis=1)] for boxes in rois],
    "selective search": test_found,
    "windows at random": [rng.permutation(windows) for _ in range(count)],
}


# %%
def recalls(counts, overlap):
    """Of each way to propose, the recall of so many proposals of an image."""
    given = test_set, counts, overlap
    return {name: search.recall_curve(boxes, *given) for name, boxes in ways.items()}


counts = [1, 2, 5, 10, 20, 50, 100]
_, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for ax, overlap in zip(axes, (0.5, 0.7)):
    plots.proposal_recall(counts, recalls(counts, overlap), overlap, ax=ax)
of_network, of_search, at_random = (values[0] for values in recalls([10], 0.5).values())
record(recall_rpn_10=of_network, recall_search_10=of_search, recall_random_10=at_random)

# %% [markdown]
# The RPN has learnt what an object looks like. Selective search knows only what a region looks like, so it needs more
# proposals. In three runs, ten proposals of the RPN found .96 to .98 of the objects, ten of selective search .55 to
# .64, and ten windows at random about a tenth. On these scenes, with their clear outlines, selective search reaches
# nearly all objects in the end.
#
# **Fewer at test.** In training the paper hands 2,000 proposals to the second stage, at test only the 300 best. Why is
# that enough? Keep the n best of our proposals, and measure what the detector still finds.


# %%
def with_best(count):
    """AP and AP50 when the second stage sees the `count` best proposals alone."""
    found = []
    for part in outputs:
        boxes, values = faster.boxes_and_scores(part)
        chosen = nms.select(boxes[:, :count], values[:, :count], 0.05, 0.5, 50)
        found.append({key: ops.convert_to_numpy(chosen[key]) for key in answer})
    found = {key: np.concatenate([part[key] for part in found]) for key in answer}
    result = evaluation.evaluate(found, test_set, classes=len(names))
    return result["AP"], result["AP50"]


# %%
kept_counts = [n for n in (2, 4, 8, 16, 32, 64) if n <= proposals // 2]
ap, ap50 = np.transpose([with_best(count) for count in kept_counts])
both = {"AP": ap, "AP50": ap50}
ax = plots.curves(both, x=kept_counts, xlabel="proposals an image", log_x=True)
ax.set_xticks(kept_counts, kept_counts)
ax.minorticks_off()
record(kept_16=ap[-1] - ap[min(3, len(ap) - 1)])

# %% [markdown]
# In three runs AP with 16 proposals and with 64 differed by .003 at most. Beyond a few times the number of objects,
# further proposals are worse boxes on objects that are found already, or background. In *training* we want many,
# since the head has to see bad ones too. At *test* each one costs time.
#
# ## The bar chart of all decks, measured
#
# We time R-CNN, Fast R-CNN and Faster R-CNN on the same images, with the same backbone.

# %% tags=["thumbnail"]
proposing = time_of(faster)
spent["Faster R-CNN"] = {"network, classes, boxes": proposing}
title = "One image at a time, from pixels to boxes"
plots.stacked_times(spent, xlabel="CPU milliseconds an image", title=title)
record(speedup_faster=(cropping + searching) / proposing)

# %% [markdown]
# For VGG16 on a GPU the Faster R-CNN paper states, in milliseconds: Fast R-CNN with selective search 146 + 1,510 +
# 174 = 1,830 (convolutions, proposals, the rest), Faster R-CNN 141 + 10 + 47 = 198 [paper]. There, too, the proposals
# were most of it. The step from R-CNN to Fast R-CNN is larger there than here. There 2,000 crops of 224 × 224 have
# 170 times the pixels of one image of 600 × 1,000. Here at most a hundred crops have half the side of our image, so
# together at most 25 times its pixels.
#
# ## Which map?
#
# > **What the slide says.** "The RPN stands on conv5 of a ResNet, a map of H/16 × W/16 with 512 channels." conv5 of a
# > ResNet has a stride of 32. In ResNet-34 it has 512 channels; the map of stride 16, conv4, has 256. Ask the network:

# %% tags=["nbval-check-output"]
resnet = backbone("resnet34", (224, 224, 3), levels=[2, 3, 4, 5])
for level, x in zip(resnet.levels, resnet.output):
    print(f"conv{level}: 224 / {2**level} = {x.shape[1]} rows, {x.shape[-1]} channels")

# %% [markdown]
# The confusion may come from VGG16. Its conv5_3 *is* a map of stride 16 with 512 channels, because the last pool
# comes after it and is left out. Faster R-CNN on a ResNet took conv4 for the map, and conv5 as the head that runs on
# each RoI (He et al., CVPR 2016).
#
# Every choice of one map is a compromise. A deep map knows *what*, but its cells are larger than small objects. A
# shallow map knows *where*, but little about what. A **feature pyramid network** (FPN; Lin et al., CVPR 2017) uses
# all of them. From the top down, each map is enlarged to twice its size and added to the next finer one, so every
# level knows both. Each level has anchors of one size. And a RoI takes its features from the level of its size,
#
# $$k = \lfloor 4 + \log_2(\sqrt{wh} / 224) \rfloor .$$
#
# A RoI of 224 × 224, the size of ImageNet's images, belongs to level 4, one of half the side to level 3. For squares
# of 60, 112, 224 and 500 pixels we expect the levels 2, 3, 4 and 5:

# %% tags=["nbval-check-output"]
rois = np.array([[0, 0, s, s] for s in (60, 112, 224, 500)], "float32")
print(ops.convert_to_numpy(fast_rcnn.level_of(rois, (2, 3, 4, 5))).tolist())

# %% [markdown]
# We build a pyramid on our backbone, with strides 4, 8 and 16 and two sizes of anchors on each. Our images are small,
# so we let objects of half the image's side belong to level 4.

# %%
cuts = np.array_split(np.repeat(sizes, 3), 3)  # each level gets its third of the sizes
per_level = [[float(part.min()), float(part.max())] for part in cuts]
print(f"sizes of anchors on strides 4, 8, 16: {per_level}")
keras.utils.set_random_seed(seed)
options |= {"levels": (2, 3, 4), "channels": 64, "canonical": image_size / 2}
pyramid = faster_rcnn.small(len(names), shape, network, sizes=per_level, **options)
name = "Faster R-CNN, pyramid"
if steps[2]:
    train(name, pyramid, train_set, steps[2])
    scores[name] = score(pyramid)

# %%
where = fast_rcnn.level_of(true_boxes, (2, 3, 4), image_size / 2)
colours = [plots.class_colour(level) for level in ops.convert_to_numpy(where)]
_, axes = plt.subplots(1, 4, figsize=(9, 2.6))
title = "objects by level"
plots.show_boxes(image, true_boxes, colours, linewidth=2, title=title, ax=axes[0])
levels = pyramid.network(image[None])["maps"]
for ax, level in zip(axes[1:], (2, 3, 4)):
    energy = ops.convert_to_numpy(levels[str(level)])[0].std(axis=-1)
    plots.heat_map(image, energy, ax=ax, title=f"P{level}, stride {2**level}")
    for spine in ax.spines.values():
        spine.set(visible=True, color=plots.class_colour(level), linewidth=3)

# %% [markdown]
# ## Do we need two stages?
#
# Topic 09 left this question open. The rules of a fair answer: the same backbone, the same images, and the same CPU
# time of training. From topic 09 we take RetinaNet (focal loss, a pyramid of strides 8 and 16) and YOLOv1 (one grid),
# both in this course's small versions.

# %%
setting = len(names), shape, network
one_stage = {
    "RetinaNet": lambda: retinanet.small(*setting, weights=weights, scale=sizes[0] / 8),
    "YOLOv1": lambda: yolo.small(*setting, weights=weights),
}
nets = {"Fast R-CNN": fast, "Faster R-CNN": faster, "Faster R-CNN, pyramid": pyramid}
nets = {name: net for name, net in nets.items() if name in scores}
for (name, make), count in zip(one_stage.items(), steps[3:]):
    if count:
        keras.utils.set_random_seed(seed)
        nets[name] = make()
        train(name, nets[name], train_set, count)
        scores[name] = score(nets[name])
plots.bars(used, xlabel="CPU seconds of training")

# %%
milli = {name: time_of(net) for name, net in nets.items()}
milli["Fast R-CNN"] += searching
stages = {name: "one stage" if name in one_stage else "two stages" for name in nets}
_, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for ax, key in zip(axes, ("AP50", "AP")):
    points = {name: (milli[name], scores[name][key]) for name in nets}
    time_axis, last = "CPU milliseconds an image", key == "AP"
    plots.speed_accuracy(points, stages, time_axis, key, legend=last, ax=ax)


# %%
def reached(name, key="AP"):
    """A detector's score on the test set; 0 if it was left out."""
    return scores[name][key] if name in scores else 0.0


gain = {}
for key in ("AP", "AP50"):
    better = max(reached(name, key) for name in one_stage)
    gain[key] = reached("Faster R-CNN", key) - better
record(ap_pyramid=reached("Faster R-CNN, pyramid"))
record(gain_ap=gain["AP"], gain_ap50=gain["AP50"])
record(ap_retinanet=reached("RetinaNet"), ap50_retinanet=reached("RetinaNet", "AP50"))
record(ap_yolo=reached("YOLOv1"), ap50_yolo=reached("YOLOv1", "AP50"))
own = milli["Faster R-CNN"]
record(cost_over_retinanet=own / milli.get("RetinaNet", own))
record(cost_over_yolo=own / milli.get("YOLOv1", own))

# %% [markdown]
# Fast R-CNN's time includes selective search. On *equal time* the pyramid was behind the single map, by .09 to .12 AP
# in three runs. Its finest map has four times as many places. So a step of it takes more than twice as long, and it
# took less than half as many steps. And most of our objects differ in size by a factor of three at most, so one
# stride may be enough. A pyramid is made for sizes that go from 16 to 500 pixels, as in COCO.
#
# Where do the detectors differ: in finding, in naming, or in placing? We count the errors of all detections with a
# score of .3 or more, as in topic 09. (There each family had its own threshold. Here one threshold serves all, and
# scores of different detectors mean different things: a detector that gives many scores above .3 has more errors of
# each kind and fewer missed objects.)

# %%
kinds = ("doubled", "badly placed", "confused", "background", "missed")
wrong = {}
for name, net in nets.items():
    found = detect(net, test_set)
    errors = evaluation.errors(found, test_set, score_threshold=0.3)
    wrong[name] = [errors[kind] / objects.sum() for kind in kinds]

# %%
table = pd.DataFrame(wrong, index=kinds)
colours = [plots.class_colour(number) for number in range(len(wrong))]
ax = table.plot.bar(rot=0, width=0.8, figsize=(8, 3), color=colours)
ax.set(ylabel="for each object")
ax.legend(fontsize=9)

# %%
best = {key: max(nets, key=lambda name: scores[name][key]) for key in ("AP50", "AP")}
quickest = min(milli, key=milli.get)
print(f"highest AP50: {best['AP50']}; highest AP: {best['AP']}")
print(f"Faster R-CNN is {gain['AP']:+.2f} AP from the better one-stage detector")
print(f"quickest: {quickest}, {own / milli[quickest]:.1f} × as fast as Faster R-CNN")

# %% [markdown]
# In three runs the second look gained .11 to .13 in AP and .04 to .05 in AP50 over the better one-stage detector. It
# sees features that are cut out for the box that it judges, and it moves the box a second time. So it gains more in
# exact places, which AP asks for, than in finding objects. The price is a suppression of proposals and a second
# stage, whose time grows with the number of proposals. With 64 proposals and a head with one hidden dense layer this
# price is small: Faster R-CNN took about .8 of the CPU time of RetinaNet, which runs two heads of several
# convolutions at every place of two maps. YOLOv1, with one coarse grid, took less than half of the time of Faster
# R-CNN.
#
# So both answers to topic 09's question are right. Where places must be exact, two stages; where every millisecond
# counts, one stage on one coarse grid. And this comparison is of small networks, trained for a short time, on drawn
# scenes. RetinaNet's authors trained for much longer on COCO, and there RetinaNet has more AP than all two-stage
# detectors in their table [paper].
#
# ## Making the second stage cheaper
#
# With 300 proposals the head runs 300 times, and on a ResNet the head is all of conv5. There are two remedies:
#
# - **R-FCN** (Dai, Li, He and Sun, NIPS 2016) puts *all* convolutions before the pooling of RoIs. The last one gives
#   k² · (C + 1) maps: one for each of k × k relative positions ("upper left of a cat", ...). A RoI's bin at the upper
#   left averages only the map of the upper left, and the k² bins vote. Nothing with weights runs on a RoI.
# - **Light-Head R-CNN** (Li et al., 2017) says that k² · (C + 1) maps (3,969 for COCO with k = 7) are too many. A
#   large separable convolution gives only 10 · k² = 490 maps, and one dense layer works on each RoI.
#
# ## Where it went since
#
# | year | what | the idea, in a line [paper] |
# |---|---|---|
# | 2017 | Deformable convolutions (Dai et al.) | convolution and RoI pooling learn where to sample |
# | 2017 | Mask R-CNN (He et al.) | RoIAlign in the place of rounding; a mask for each RoI: topic 11 |
# | 2018 | Cascade R-CNN (Cai and Vasconcelos) | three heads in a row, for IoUs of .5, .6, .7; each works on the boxes of the last |
# | 2019 | Libra R-CNN (Pang et al.) | balances samples by their IoU, the levels of the pyramid, and the losses |
# | 2019 | Hybrid task cascade (Chen et al.) | boxes and masks refine each other, stage by stage |
# | 2020 | DETR (Carion et al.) | no anchors, no suppression: a transformer gives a set of boxes, matched one to one |
# | 2021 | Sparse R-CNN (Sun et al.) | a hundred *learnt* proposals in the place of an RPN, refined six times |
# | 2022 | ViTDet (Li et al.) | a plain vision transformer as backbone, a pyramid from its last map alone |
#
# The idea of two stages, propose and then refine, is in most of these rows, also in those without an RPN.
#
# ## Summary
#
# You can now
#
# - say why R-CNN is slow (one pass for each region), and what Fast R-CNN shares (one pass for all of them);
# - compute RoIPool's two roundings by hand, and say what they do to small objects at large strides;
# - label anchors, draw from them, and name the four losses with what each is asked of;
# - measure proposals by recall, and choose how many to keep at test;
# - tell 147 times from 21 times, and compare detectors by accuracy *and* whole time, on equal training.
#
# Still open: a box says where an object is, but not which of its pixels belong to it. RoIPool's rounding, which costs a
# box little, would move every pixel. Topic 11 takes it out, and gives each object its mask.
#
# ## Exercises
#
# 1. (easy) An object of 10 × 40 pixels on our square anchors: compute its highest possible IoU with each size. Which
#    rule makes it a positive anchor all the same? *Hint: for s up to 40 the IoU is at most 10 · s / (400 + s² − 10 ·
#    s); the anchor of 48 can hold the whole object.*
# 2. (easy) Draw `show_roi_pool` at stride 8 for a box of 20 × 20, shifted by 0, 2, 4 and 6 pixels in x and in y: 16
#    boxes. How far apart are the best and the worst IoU? *Hint: `roi.whole_cells` takes all boxes at once.*
# 3. (medium) Train Faster R-CNN with `pool="pool"`. What does it lose in AP50, and what in AP75? *Hint: the figures of
#    the rounding; topic 11 measures the same for masks.*
# 4. (medium) Train the four steps of alternating training. *Hint: a subclass like the lab's `Detector`, whose
#    `losses_of` multiplies the other stage's two losses by 0; `net.network.trainable`,
#    `net.network.get_layer("rpn").trainable`, and compile again after each change.*
# 5. (medium) Add ratios .5 and 2 to the anchors. Does the recall of the proposals rise on these shapes? What does it
#    cost? *Hint: `faster_rcnn.small(..., ratios=(.5, 1, 2))`.*
# 6. (hard) Build a cascade: take the boxes of the second stage as RoIs of a second head that counts as positive from
#    an IoU of .6. *Hint: `fast_rcnn.roi_targets(..., threshold=.6)` and a subclass with two more losses.*
#
# ## Further reading
#
# - R. Girshick, *Fast R-CNN*, ICCV 2015.
# - S. Ren, K. He, R. Girshick and J. Sun, *Faster R-CNN: towards real-time object detection with region proposal
#   networks*, NIPS 2015.
# - K. He, X. Zhang, S. Ren and J. Sun, *Spatial pyramid pooling in deep convolutional networks for visual
#   recognition*, ECCV 2014 (one map for all regions, before Fast R-CNN).
# - K. He, X. Zhang, S. Ren and J. Sun, *Deep residual learning for image recognition*, CVPR 2016 (conv5 as the head).
# - J. Dai, Y. Li, K. He and J. Sun, *R-FCN: object detection via region-based fully convolutional networks*, NIPS 2016.
# - T.-Y. Lin, P. Dollár, R. Girshick, K. He, B. Hariharan and S. Belongie, *Feature pyramid networks for object
#   detection*, CVPR 2017.
# - J. Dai et al., *Deformable convolutional networks*, ICCV 2017.
# - Z. Li et al., *Light-head R-CNN: in defense of two-stage object detector*, arXiv 2017.
# - Z. Cai and N. Vasconcelos, *Cascade R-CNN: delving into high quality object detection*, CVPR 2018.
# - J. Pang et al., *Libra R-CNN: towards balanced learning for object detection*, CVPR 2019.
# - K. Chen et al., *Hybrid task cascade for instance segmentation*, CVPR 2019.
# - N. Carion et al., *End-to-end object detection with transformers*, ECCV 2020.
# - P. Sun et al., *Sparse R-CNN: end-to-end object detection with learnable proposals*, CVPR 2021.
# - Y. Li, H. Mao, R. Girshick and K. He, *Exploring plain vision transformer backbones for object detection*, ECCV
#   2022.
