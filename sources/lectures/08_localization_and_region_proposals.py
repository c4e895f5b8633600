# %% [markdown]
# # 08 Localization and region proposals
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/08_localization_and_region_proposals.ipynb)
#
# **A picture holds three shapes. How can a network with a fixed number of outputs answer with three boxes?** Topic 07
# gave every pixel a class, but could not tell two stars apart that touch: it knows no objects. This lecture asks for
# objects. One object is easy: a class and four numbers. The number of objects is the hard part, and the first good
# answers cut the problem in two: first find *places* where an object could be, then ask at each place *what* it is.
#
# You will be able to
#
# - write boxes in every usual format, and say how well two of them agree;
# - train a network that names one object and boxes it, and see what it does with two;
# - slide a window over an image, count what that costs, and pay it once, by convolution;
# - turn a heap of overlapping boxes into a list: suppression, soft suppression, averaging;
# - judge such a list: matching, precision and recall, average precision in three conventions;
# - propose regions by selective search, build an R-CNN on them, time it, and name its errors.
#
# It takes about an hour and a half to read and three to five minutes to run.

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
source: str = "shapes"  # a data set with boxes, or a folder (COCO json or VOC xml)
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
image_size: int = 96  # [64, 512] height and width that its images are brought to
most: int = 3000  # [10, ] training images, at most
tested: int = 300  # [4, ] validation images, at most
one_size: int = 64  # [32, 256] height and width of the images with one object
one_images: int = 4000  # [10, ] of these, for training
one_steps: int = 600  # [8, 20000] steps of the network for one object
looks: int = 8  # [2, 50] how often its progress is measured
scales: list[float] = [1.0, 1.75]  # how many times OverFeat enlarges the image
overfeat_steps: int = 600  # [4, 20000] steps of OverFeat
features: str = "shapes"  # {shapes, MobileNetV2} R-CNN's CNN: from shapes or ImageNet
crop: int = 48  # [32, 224] height and width of its crops
rcnn_images: int = 200  # [10, ] training images of R-CNN
regions: int = 200  # [5, 2000] proposals of an image, at most
segments: list[int] = [50, 100]  # scales of the first segments of selective search
searched: int = 100  # [4, ] validation images on which regions are proposed
timed: int = 20  # [1, 1000] images over which a time is the median

# %%
import json
import pathlib
import tempfile
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import layers, ops
from skimage.feature import hog

from utils import arithmetic, data, plots, pretrained, training, transfer
from utils import boxes as geometry
from utils.architectures.blocks import conv_bn_relu
from utils.data import shapes
from utils.detection import evaluation, losses, nms, overfeat, proposals, rcnn
from utils.detection.coding import decode, encode
from utils.detection.matching import match
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# ## The data: images with boxes
#
# Scenes of one to four shapes, drawn by the course, with a box around what is visible of each shape. They are
# synthesised, and synthesised data may not represent the true distribution; in return, every box is exact. The same
# parameter takes other data: blood cells under the microscope (`bccd`, the profile `real`), street and living-room
# photographs (`voc/2007`), or the path of a folder of your own, with annotations in COCO's form (one json file) or
# VOC's (one xml file for each image). A folder without boxes is refused here, before anything is trained.

# %%
classes = data.chosen(source, "boxes", on_error, classes=1).classes
options = {"channels": 3, "target": "boxes", "on_error": on_error}


def read(name, split, size):
    """Images (N, size, size, 3); a dict of their boxes (N, M, 4) and labels (N, M)."""
    pictures, truth = data.arrays(name, split, size, **options)
    kept = ("boxes", "labels", "ignored")
    return pictures, {key: truth[key] for key in kept if key in truth}


train_images, train_objects = read(source, f"train[:{most}]", image_size)
images, objects = read(source, f"validation[:{tested}]", image_size)
boxes, labels = objects["boxes"], objects["labels"]
plots.show_objects(images[:8], boxes[:8], labels[:8], classes=classes)

# %% [markdown]
# The arrays of all images have one shape, so padding with the label −1 fills up the boxes of each image. We write two
# helpers. The first takes the same rows of every array; the second gives the objects of one image without the
# padding.


# %%
def rows_of(arrays, rows):
    """The same rows of every array of a dict."""
    return {name: values[rows] for name, values in arrays.items()}


def real(truth, index):
    """Boxes (M, 4) and labels (M,) of the objects of one image, without the padding."""
    there = truth["labels"][index] >= 0
    return truth["boxes"][index][there], truth["labels"][index][there]


# %% [markdown]
# ## Boxes
#
# ### Formats
#
# A box is four numbers, but which four? An image of 100 rows and 200 columns, and one box in it:

# %% tags=["nbval-check-output"]
box = np.array([20.0, 30, 60, 80])
for form in ("xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_center_xywh"):
    numbers = geometry.convert(box, "xyxy", form, height=100, width=200)
    print(f"{form:16}", numbers.round(3).tolist())

# %% [markdown]
# Each line is the same box. `xyxy` is left, top, right, bottom; it is the format of this course. COCO's files hold
# `xywh`; YOLO's text files hold `rel_center_xywh`; VOC's xml files hold corners that are counted from 1. A file does
# not say which format it holds, and four numbers in the wrong format still look like a box. So draw the boxes of new
# data before you train on them.
#
# A folder of your own holds the images and one json file in COCO's form. We write six images with their boxes into
# such a folder, as `xywh`, and read it back as `xyxy`. Four of the six become the split `train`; the others are kept
# for validation and test.

# %%
folder = tempfile.TemporaryDirectory()
categories = [{"id": label + 1, "name": name} for label, name in enumerate(classes)]
table = {"images": [], "annotations": [], "categories": categories}
size = {"height": image_size, "width": image_size}
for number in range(6):
    one, name = number % len(images), f"{number}.png"
    keras.utils.save_img(pathlib.Path(folder.name, name), images[one], scale=False)
    table["images"].append({"id": number, "file_name": name} | size)
    boxes, labels = real(objects, one)
    as_coco = geometry.convert(boxes, "xyxy", "xywh")
    for numbers, label in zip(as_coco.tolist(), labels.tolist()):
        entry = {"image_id": number, "category_id": label + 1, "bbox": numbers}
        table["annotations"].append({"id": len(table["annotations"])} | entry)
pathlib.Path(folder.name, "annotations.json").write_text(json.dumps(table))
own_images, own_objects = data.arrays(folder.name, "train", target="boxes")
print(own_images.shape, "images,", (own_objects["labels"] >= 0).sum(), "boxes")

# %% [markdown]
# ### Intersection over union
#
# How well do two boxes agree? **Intersection over union** (IoU): the area that they share, divided by the area that
# they cover together. Two squares of side 10, one shifted by 5 to the right, share 50 and cover 100 + 100 − 50 = 150.
# We expect 1/3.

# %% tags=["nbval-check-output"]
one, shifted = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10]])
print(f"{geometry.iou(one, shifted)[0, 0]:.4f}")
same, far = geometry.iou(one, one), geometry.iou(one, one + 50)
print("the same box:", same[0, 0], " far away:", far[0, 0])

# %% [markdown]
# IoU has no unit: enlarge the image and both boxes, and it stays the same. What does a value look like? We shift a true box along
# its diagonal until IoU is .9, .75, .5 and .25. (If the part 1 − t of each side still overlaps, IoU is
# (1 − t)² / (2 − (1 − t)²), so 1 − t = √(2 IoU / (1 + IoU)).)

# %%
largest = geometry.area(objects["boxes"]).argmax(axis=1)
true_box = objects["boxes"][0, largest[0]]
width, height = true_box[2:] - true_box[:2]
figure, axes = plt.subplots(1, 4, figsize=(8, 2.5))
for ax, wanted in zip(axes, (0.9, 0.75, 0.5, 0.25)):
    shift = 1 - np.sqrt(2 * wanted / (1 + wanted))
    moved = true_box + shift * np.array([width, height, width, height])
    found = geometry.iou(true_box[None], moved[None])[0, 0]
    pair, colours = [true_box, moved], [plots.GREEN, plots.VERMILLION]
    plots.show_boxes(images[0], pair, colours, 2, title=f"IoU {found:.2f}", ax=ax)
    ax.set_axis_off()

# %% [markdown]
# An IoU of .5 is the usual limit for "found", and a deck calls it "pretty good". In the third picture the box is
# shifted by 18 % of its width and of its height. For an application that grasps or measures, that may be far from
# good: the limit is a choice.
#
# ## One object: a class and four numbers
#
# Take a classifier. Its last map still knows *where* things are: in VGG16 it is 7 × 7 × 512 = 25,088 numbers. The
# class head reads them; let a second head read them too, and give four numbers. What does that add? One dense layer
# from the map to four outputs has 25,088 · 4 + 4 = 100,356 weights. The three dense layers of the class head have 124
# million.

# %% tags=["nbval-check-output"]
image = layers.Input((7, 7, 512))
flat = layers.Flatten()(image)
box_head = keras.Model(image, layers.Dense(4)(flat))
hidden = layers.Dense(4096)(layers.Dense(4096)(flat))
class_head = keras.Model(image, layers.Dense(1000)(hidden))
print(f"four numbers: {box_head.count_params():,} weights")
print(f"a thousand classes: {class_head.count_params():,} weights")

# %% [markdown]
# Ours is smaller: five convolutions, three with stride 2, and two heads on their map of 8 × 8 places. The class head
# takes the maximum over the places: a star is a star wherever it lies. The box head must keep the places, because it
# is asked for the place. It gives the corners in units of the image's side, so that all four lie between 0 and 1.


# %%
def one_object_net():
    """Logits (B, classes) and corners (B, 4), in units of the image's side."""
    image = layers.Input((one_size, one_size, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    widths = ((24, 2), (48, 2), (48, 1), (96, 2), (96, 1))
    for number, (filters, stride) in enumerate(widths, 1):
        x = conv_bn_relu(x, filters, 3, stride, name=f"conv{number}")
    what = layers.Dense(len(classes))(layers.GlobalMaxPooling2D()(x))
    where = layers.Dense(4)(layers.Dense(128, activation="relu")(layers.Flatten()(x)))
    return keras.Model(image, {"label": what, "box": where})


# %%
def one_object(split, count):
    """Images (N, s, s, 3) of one object; boxes (N, 4) in units of s; classes (N,)."""
    if source.startswith("shapes"):
        drawing = {"image_size": one_size, "objects": (1, 1), "radius": (14, 30)}
        drawn = shapes.scenes(count, split, **drawing)
        scenes = zip(*((s.image, s.boxes[0], s.labels[0]) for s in drawn))
        pictures, boxes, labels = (np.stack(part) for part in scenes)
    else:  # the largest object of each image stands for the one
        pictures, truth = read(source, f"{split}[:{count}]", one_size)
        rows = np.flatnonzero((truth["labels"] >= 0).any(axis=1))
        best = geometry.area(truth["boxes"][rows]).argmax(axis=1)
        pictures, boxes = pictures[rows], truth["boxes"][rows, best]
        labels = truth["labels"][rows, best]
    return pictures, boxes.astype("float32") / one_size, labels


one_train = one_object("train", one_images)
one_validation = one_object("validation", min(tested, 300))
print(f"{len(one_train[0]):,} images to train, {len(one_validation[0])} to validate")

# %% [markdown]
# ### The loss: softmax, and what for the box?
#
# Two losses are added: cross-entropy for the class, and a distance for the box. The first choice is the squared
# distance, **L2**. Its slope grows with the error, so a few boxes that are far off rule the step. **Smooth L1**
# (Girshick 2015) is a parabola near 0 and a line further out: every far box pulls with the same force.

# %%
difference = np.linspace(-2, 2, 201).astype("float32")
smooth = losses.smooth_l1(np.zeros_like(difference), difference)
kinds = {"L2": difference**2 / 2, "L1": np.abs(difference)}
kinds["smooth L1"] = ops.convert_to_numpy(smooth)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.9))
for name, values in kinds.items():
    axes[0].plot(difference, values, label=name)
    axes[1].plot(difference[1:], np.diff(values) / np.diff(difference), label=name)
axes[0].set(xlabel="prediction − truth", ylabel="loss")
axes[1].set(xlabel="prediction − truth", ylabel="slope: the pull on the prediction")
axes[0].legend()

# %% [markdown]
# Our corners are shares of the image's side, and an error of 1 never occurs. So smooth L1 bends at .1 here
# (`beta=.1`). The weights of the two parts are a choice too: if the loss of the boxes is 100 times smaller than the
# cross-entropy, the boxes hardly change the weights.
#
# Which score must our network beat? A trivial detector gives the **mean box** of the training images as the answer
# for every image. We draw its mean IoU as a dashed line. We measure our network several times while it trains
# (`looks`), on images that it does not train on.


# %%
def box_loss(kind):
    """The loss of corners (B, 4), one number for each image."""

    def loss(truth, found):
        if kind == "L2":
            return 10 * ops.sum(ops.square(found - truth), axis=-1) / 2
        return ops.sum(losses.smooth_l1(truth, found, beta=0.1), axis=-1)

    return loss


def own_iou(a, b):
    """IoU (N,) of each box of a (N, 4) with its own partner in b (N, 4)."""
    return 1 - ops.convert_to_numpy(losses.iou_loss(a, b))


def answers_of(model, pictures):
    """Logits and boxes for images of any number, in batches of one shape."""
    parts = []
    for (batch,), kept in training.filled_batches([pictures], 100):
        found = model.predict_on_batch(batch)
        parts.append((found["label"][:kept], found["box"][:kept]))
    return [np.concatenate(part) for part in zip(*parts)]


# %%
class Watch(keras.callbacks.Callback):
    """Mean IoU and accuracy on the validation images after each part of training."""

    def on_train_begin(self, logs=None):
        self.iou, self.accuracy = [], []

    def on_epoch_end(self, epoch, logs=None):
        pictures, boxes, labels = one_validation
        logits, found = answers_of(self.model, pictures)
        self.iou.append(own_iou(found, boxes).mean())
        self.accuracy.append(np.mean(logits.argmax(axis=1) == labels))


# %%
def train_one_object(kind):
    keras.utils.set_random_seed(seed)
    model = one_object_net()
    rate = training.WarmupHoldDecay(2e-3, one_steps, warmup=one_steps // 16)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=5)
    softmax = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    both, weights = {"label": softmax, "box": box_loss(kind)}, {"label": 0.5, "box": 1}
    model.compile(optimizer, both, weights, jit_compile=training.jit_compile())
    pictures, boxes, labels = one_train
    order = np.arange(one_steps * 32) % len(pictures)
    order = np.random.default_rng(seed).permutation(order).reshape(-1, 32)
    parts = np.array_split(order, looks)

    def part(look):
        rows = parts[look].ravel()
        return pictures[rows], {"label": labels[rows], "box": boxes[rows]}

    watch = Watch()
    training.fit(model, part, epochs=looks, batch_size=32, seed=seed, callbacks=[watch])
    return model, watch


# %%
one_nets, watched = {}, {}
for kind in ("smooth L1", "L2"):
    one_nets[kind], watched[kind] = train_one_object(kind)

# %%
pictures, true_boxes, true_labels = one_validation
mean_box = np.tile(one_train[1].mean(axis=0), (len(true_boxes), 1))
mean_box_iou = own_iou(mean_box, true_boxes).mean()
frequent = np.bincount(true_labels).max() / len(true_labels)
baselines = [{"the mean box": mean_box_iou}, {"most frequent class": frequent}]
steps = np.linspace(one_steps / looks, one_steps, looks)
figure, axes = plt.subplots(1, 2, figsize=(8, 3))
for ax, measure, trivial in zip(axes, ("iou", "accuracy"), baselines):
    runs = {kind: getattr(watch, measure) for kind, watch in watched.items()}
    plots.curves(runs, steps, xlabel="step", baselines=trivial, ax=ax)
    ax.set_ylim(0, 1)
axes[0].set_ylabel("mean IoU")
axes[1].set_ylabel("accuracy of the class")

# %%
one_net = one_nets["smooth L1"]
logits, one_boxes = answers_of(one_net, pictures)
ious = own_iou(one_boxes, true_boxes)
record(
    one_iou=ious.mean(),
    one_iou_l2=watched["L2"].iou[-1],
    one_iou_mean_box=mean_box_iou,
    one_found=np.mean(ious >= 0.5),
    one_accuracy=watched["smooth L1"].accuracy[-1],
)

# %% [markdown]
# Both networks end far above the mean box, and both learn the class too. For errors below .1 the two losses are equal
# here, because we multiply L2 by 10. For larger errors L2 grows faster, so boxes that are far off rule its step. In
# our three runs smooth L1 ended ahead with the seeds 0 and 2 (mean IoU .75 against .63), and with seed 1 the two were
# level (.76). Three short runs are no proof: exercise 7 asks for more.
#
# Now we draw boxes: the truth in green, the answer in vermillion, with the class and the IoU. The first image is the
# best of the validation set, the last one is the worst, and the others are spread evenly over the ranks between them.

# %%
ranked = np.argsort(-ious)[np.linspace(0, len(ious) - 1, 8).astype(int)]
figure, axes = plt.subplots(2, 4, figsize=(8, 4.4))
colours = [plots.GREEN, plots.VERMILLION]
for ax, index in zip(axes.flat, ranked):
    pair = np.stack([true_boxes[index], one_boxes[index]]) * one_size
    title = f"{classes[logits[index].argmax()]}, {ious[index]:.2f}"
    plots.show_boxes(pictures[index], pair, colours, 2, title=title, ax=ax)
    ax.set_axis_off()

# %% [markdown]
# ### And with two objects?
#
# The network has one answer. Show it scenes of two shapes, and look at the box.

# %%
pairs_of = "shapes/pairs" if source.startswith("shapes") else source
two_images, two = read(pairs_of, "validation[:60]", one_size)
number = (two["labels"] >= 0).sum(axis=1)
rows = np.flatnonzero(number >= min(2, number.max()))
two_images, two = two_images[rows], rows_of(two, rows)
answers = answers_of(one_net, two_images)[1] * one_size
overlaps = geometry.iou(answers[:, None], two["boxes"])[:, 0].max(axis=-1)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.4))
for ax, index in zip(axes, range(len(rows))):
    there, _ = real(two, index)
    drawn = np.concatenate([there, answers[index][None]])
    colours = [plots.GREEN] * len(there) + [plots.VERMILLION]
    title = f"best IoU {overlaps[index]:.2f}"
    plots.show_boxes(two_images[index], drawn, colours, 2, title=title, ax=ax)
for ax in axes:
    ax.set_axis_off()
record(two_best_iou=overlaps.mean())

# %% [markdown]
# Where does the box lie: between the shapes, around both, or on one of them? The number above the picture is the IoU
# of the box with the shape that it overlaps most. In three runs its mean was .37 to .39; with one shape the network
# reaches .75. The mean of two right answers is a wrong answer. Should the network have eight outputs? Which shape
# comes first then? And what if there are three? A fixed list of numbers does not fit an answer of unknown length.
# (Topic 09 shows how a fixed grid of answers can do it all the same.)
#
# This lecture takes an older way. It asks the same small question at many places: *is there an object exactly here?*

# %% [markdown]
# ## Sliding a window
#
# ### How many windows are there?
#
# An image of 96 × 96 has 97 vertical lines between its pixels, the borders included. A box takes two of them as its
# left and right side, and two of 97 horizontal lines as its top and bottom: there are (97 · 96 / 2)² boxes. Nobody
# tests them all. A **sliding window** has one shape and moves in steps: a window of 48 in steps of 8 fits (96 − 48) /
# 8 + 1 = 7 times in each direction. For smaller objects we keep the window and enlarge the image: at 1.75 times, 168
# × 168 pixels, there are 16 positions a side.

# %% tags=["nbval-check-output"]
sides = [arithmetic.output_size(n, 48, 8) for n in (96, 168)]
print(f"all boxes: {(97 * 96 // 2) ** 2:,}")
print("windows:", " + ".join(f"{n}²" for n in sides), "=", sum(n**2 for n in sides))

# %% [markdown]
# ### What one window costs
#
# The classifier of a window is a small convnet without padding: 48 × 48 pixels become 4 × 4 places of 96 channels,
# and the class head, two dense layers, says what is in the window: one of the classes, or *background*. (OverFeat's
# own nets are larger: the accurate one has nine layers and windows of 221 × 221, the fast one eight layers and
# windows of 231 × 231 [paper].)

# %%
model = overfeat.OverFeat(len(classes), (image_size, image_size, 3), scales)
pixels = layers.Input((48, 48, 3))
logits = model.class_head(model.features(pixels))
window_net = keras.Model(pixels, layers.Flatten()(logits))
per_window = arithmetic.totals(window_net)["macs"]
count = len(model.windows)
in_all = f"{per_window * count / 1e9:.2f} billion MACs an image"
print(f"{per_window:,} MACs a window, {count} windows: {in_all}")

# %% [markdown]
# ### Pay once
#
# Two windows that are 8 pixels apart share 40 of their 48 columns, and the net computes the same convolutions there
# again. Topic 07 had the remedy: a dense layer on a 4 × 4 map *is* a 4 × 4 convolution, so the net can take the whole
# image, and its output at (i, j) is what it says of the window that begins at pixel (8i, 8j). We test this: we cut
# out all windows of one image at scale 1, run the net on each window, and compare the scores with those of one pass
# over the image.

# %%
keras.utils.set_random_seed(seed)
shape = (image_size, image_size, 3)
at_one = overfeat.windows(shape[:2], shape[:2]).astype(int)
cut = np.stack([images[0, y0:y1, x0:x1] for x0, y0, x1, y1 in at_one])
one_pass = keras.Sequential([layers.Input(shape), model.features, model.class_head])
by_window = transfer.predict(window_net, cut, batch_size=len(cut))
by_image = one_pass.predict_on_batch(images[:1]).reshape(by_window.shape)
difference = np.abs(by_window - by_image).max() / np.abs(by_window).max()
print(f"{len(cut)} windows, scores from {by_window.min():.2f} to {by_window.max():.2f}")
print(f"largest difference, as a share of the largest score: {difference:.1e}")

# %% [markdown]
# The scores are the same. What does one pass save? We count the MACs of both ways and time them.


# %%
def milliseconds_of(network, batch):
    """The median time of one answer, after three to warm up."""
    seconds = []
    for _ in range(timed + 3):
        began = time.perf_counter()
        network.predict_on_batch(batch)
        seconds.append(time.perf_counter() - began)
    return 1000 * np.median(seconds[3:])


ways = ("window by window", "in one pass")
macs = [len(cut) * per_window / 1e6, arithmetic.totals(one_pass)["macs"] / 1e6]
times = [milliseconds_of(window_net, cut), milliseconds_of(one_pass, images[:1])]
saved, faster = macs[0] / macs[1], times[0] / times[1]
figure, axes = plt.subplots(2, 1, figsize=(8, 2.8))
what = f"million MACs for the {len(cut)} windows of scale 1"
plots.bars(dict(zip(ways, macs)), xlabel=what, ax=axes[0])
plots.bars(dict(zip(ways, times)), xlabel="milliseconds on this machine", ax=axes[1])
record(windows_agree_error=difference, saved_macs=saved)
print(f"{saved:.1f} times fewer MACs; {faster:.1f} times faster")

# %% [markdown]
# > **What the slide says.** "To evaluate, OverFeat resizes each window to the size of the net's input." No: evaluation
# > is convolutional. The *image* is resized, once for each scale, and no window is ever cut out. That is the point of
# > the paper. (R-CNN, below, does resize each region, and we shall see what that costs.)
#
# ## OverFeat: what, and where in the window
#
# A grid of windows is coarse: the object is rarely in the middle of one. So OverFeat (Sermanet et al. 2014) puts two
# heads on the same features: a **class head**, and a **box head** that says where in its window the object is.
#
# ### Which window answers for which object?
#
# Training needs a target for each window. Its IoU with the objects decides. From .4 on, the window answers for the
# object that it overlaps most. Below .25 it is background. Between the two limits it is left out of the loss. The
# best window of each object answers in any case. This is **matching**, and every detector of the next topics has a
# rule for it. (The limits are ours. The paper trains its box head only where a window and the object's box overlap by
# 50 % or more.)

# %%
crowd = int((objects["labels"] >= 0).sum(axis=1).argmax())
boxes, labels = real(objects, crowd)
matched = match(geometry.iou(boxes, model.windows), 0.4, 0.25)
middles = (model.windows[:, :2] + model.windows[:, 2:]) / 2 - 0.5
grids = [[arithmetic.output_size(n, 48, 8) for n in size] for size in model.sizes]
borders = np.cumsum([rows * columns for rows, columns in grids])[:-1]
by_scale = zip(scales, np.split(middles, borders), np.split(matched, borders))
figure, axes = plt.subplots(1, len(scales), figsize=(8, 3.9), squeeze=False)
for ax, (scale, points, answer) in zip(axes[0], by_scale):
    plots.draw_objects(images[crowd], boxes, labels, names=False, ax=ax)
    kinds = {plots.GREY: answer == -1, "white": answer == -2, plots.YELLOW: answer >= 0}
    for colour, kind in kinds.items():
        ax.plot(*points[kind].T, "o", color=colour, ms=5, mec="black", mew=0.5)
    ax.set_title(f"scale {scale:g}: windows of {48 / scale:.0f}", fontsize=10)
    ax.set_axis_off()

# %% [markdown]
# Each dot is the middle of a window: yellow for an object, grey for background, white for neither. At a larger scale
# a window covers less of the image, so these windows answer for the small objects.
#
# ### Where the object is: four numbers for each window
#
# The box head does not predict corners. It predicts how the window must move and grow: dx and dy in units of the
# window's size, dw and dh as logarithms. Then the same numbers describe the same picture, wherever the window lies
# and whatever its scale. (OverFeat itself predicts corners. This coding is R-CNN's, and most detectors after it use
# it.) A window of 20 × 20, and an object that is 5 pixels further right and twice as wide: we expect 5/20 = .25, 0,
# log 2 = .69, 0.

# %% tags=["nbval-check-output"]
window, target = np.array([10.0, 10, 30, 30]), np.array([5.0, 10, 45, 30])
deltas = encode(target, window)
print("encoded", deltas.round(2).tolist())
print("decoded", decode(deltas, window).round(3).tolist())

# %% [markdown]
# ### Two heads, trained apart
#
# The paper trains the class head and the features first. Then it fixes the features and trains the box head alone. In
# `utils.detection.overfeat` both train at once, and `stop_gradient` keeps the box head's gradient from the features,
# so the features learn from the classes alone, as in the paper.

# %%
rate = training.WarmupHoldDecay(2e-3, overfeat_steps, warmup=overfeat_steps // 6)
model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=5))
model(images[:1])
train_set = {"image": train_images, **train_objects}
order = np.arange(overfeat_steps * 16) % len(train_images)
order = np.random.default_rng(seed).permutation(order).reshape(-1, 16)
parts = np.array_split(order, min(4, overfeat_steps))


def part(epoch):
    return rows_of(train_set, parts[epoch].ravel())


history = training.fit(model, part, epochs=len(parts), batch_size=16, seed=seed).history
for name in ("class_loss", "box_loss"):
    print(name, "in each quarter of the training:", np.round(history[name], 2).tolist())

# %% [markdown]
# What does the class head say? For each scale we draw a map: the highest probability of a class in each window;
# bright is 1. The maps have as many cells as there are windows.

# %%
number = (objects["labels"] >= 0).sum(axis=1)
shown = int(np.argsort(-number, kind="stable")[1 % len(images)])
image = images[shown]
logits, deltas = (ops.convert_to_numpy(part)[0] for part in model(image[None]))
probability = ops.convert_to_numpy(ops.softmax(logits, axis=-1))[:, :-1]
pieces = np.split(probability.max(axis=1), borders)
figure, axes = plt.subplots(1, len(scales) + 1, figsize=(8, 2.4))
plots.draw_objects(image, *real(objects, shown), names=False, ax=axes[0])
for ax, scale, piece, grid in zip(axes[1:], scales, pieces, grids):
    ax.imshow(piece.reshape(grid), vmin=0, vmax=1)
    ax.set_title(f"scale {scale:g}, {grid[0]} × {grid[1]}", fontsize=10)
for ax in axes:
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# Next come the boxes: all windows with a probability above .9, before the box head moves them and after.

# %%
sure = np.flatnonzero(probability.max(axis=1) > 0.9)
named = probability[sure].argmax(axis=1)
moved = decode(deltas[sure, named], model.windows[sure])
colours = [plots.class_colour(label) for label in named]
stages = {"windows": model.windows[sure], "boxes after the box head": moved}
figure, axes = plt.subplots(1, 2, figsize=(8, 4))
for ax, (title, boxes) in zip(axes, stages.items()):
    plots.show_boxes(image, boxes, colours, 1, title=f"{len(sure)} {title}", ax=ax)
    ax.set_axis_off()

# %% [markdown]
# The box head works: windows that lay around an object in all directions now agree. But the answer is a heap of
# boxes, many on each object, and we want a list with one box for each.
#
# ## From a heap to a list
#
# ### Non-maximum suppression
#
# **NMS** is greedy: take the box with the highest score; drop all boxes of its class whose IoU with it is above a
# threshold; take the best of what is left; and so on. Four boxes by hand: the second overlaps the first by an IoU of
# .68, the fourth overlaps the third by .67. At a threshold of .5, we expect boxes 0 and 2. At .675 box 3 stays too,
# and at .7 all four stay.

# %% tags=["nbval-check-output"]
four = [[0, 0, 10, 10], [1, 1, 11, 11], [30, 0, 40, 10], [32, 0, 42, 10]]
four = np.array(four, "float32")
scores = np.array([0.9, 0.8, 0.7, 0.6], "float32")
overlaps = geometry.iou(four, four)
print(f"IoU of 0 and 1: {overlaps[0, 1]:.2f}, of 2 and 3: {overlaps[2, 3]:.2f}")
for threshold in (0.5, 0.675, 0.7):
    print(f"threshold {threshold}: keep", nms.nms(four, scores, threshold, 4).tolist())

# %% [markdown]
# (Padded with −1, so that the result has a fixed size.) The threshold is a compromise. If it is too low, one of two
# overlapping objects is lost. If it is too high, one object is reported twice.
#
# ### Soft-NMS
#
# **Soft-NMS** (Bodla et al. 2017) drops nothing. If a box overlaps a better one, its score is multiplied by exp(−IoU²
# / σ): the larger the overlap, the lower the score. Then the loop goes on. Suppose that boxes 0 and 1 are two
# objects, one partly behind the other. NMS loses the second one. With σ = .5 its score becomes .8 · exp(−.68² / .5) =
# .32: low, but there.

# %% tags=["nbval-check-output"]
order, soft_scores = nms.soft_nms(four, scores, None, 4, nms.gaussian(0.5))
print("order", order.tolist())
print("scores", ", ".join(f"{score:.2f}" for score in soft_scores))

# %% [markdown]
# ### Greedy averaging
#
# > **What the slide says.** "OverFeat removes double boxes by non-maximum suppression." In the paper it *merges*
# > them: it replaces the two closest boxes of a class by their average, again and again, until no two are close. It
# > adds up the scores of the boxes that it merges, so many windows that agree outweigh a single one.
#
# The paper measures how close two boxes are by the distance of their centres and the area that they share. Our
# measure is made of the same two: 1 − DIoU, where DIoU is the IoU minus a penalty for the distance. Boxes below .5
# are merged. Of our four boxes, 0 and 1 become their mean, and so do 2 and 3.

# %% tags=["nbval-check-output"]
averaged, _, _ = overfeat.merge(four, np.zeros(4, int), scores, closeness=0.5)
print(averaged.tolist())

# %% [markdown]
# We try all three on the heap above. (A merged score is a sum, s; it is shown as s / (1 + s).)

# %%
boxes, labels = moved.astype("float32"), named.astype("int32")
values = probability[sure].max(axis=1)
kept = nms.batched_nms(boxes, values, labels, 0.5, 100)
kept = kept[kept >= 0]
soft, soft_values = nms.soft_nms(boxes, values, labels, 100, score_threshold=0.6)
soft = soft[soft >= 0]
lists = {
    "NMS at .5": (boxes[kept], labels[kept], values[kept]),
    "soft-NMS, above .6": (boxes[soft], labels[soft], soft_values[: len(soft)]),
    "greedy averaging": overfeat.merge(boxes, labels, values, 0.5),
}
figure, axes = plt.subplots(1, 3, figsize=(8, 3.1))
for ax, (title, (boxes, labels, values)) in zip(axes, lists.items()):
    plots.draw_objects(image, boxes, labels, scores=values, names=False, ax=ax)
    ax.set_title(f"{title}: {len(boxes)} boxes", fontsize=10)
    ax.set_axis_off()

# %% [markdown]
# Which list is best? One picture cannot tell. We need a measure for lists.
#
# ## How good is a list of boxes?
#
# ### Matching: which detection is right?
#
# Sort the detections of a class by falling score. Each one looks for the object of its class that it overlaps most.
# It is **right** if that IoU is at least .5 and no detection with a higher score has claimed the object. So each
# object has one match, and a second box on it is a mistake. By hand: three objects, five detections.


# %% tags=["nbval-check-output"]
def box_at(x, y=0):
    """A box of 10 x 10 pixels."""
    return [x, y, x + 10, y + 10]


true = np.array([box_at(0), box_at(20), box_at(40)])
told = np.array([box_at(0), box_at(1), box_at(21), box_at(60), box_at(40, 1)])
truth = [{"boxes": true, "labels": np.zeros(3, int)}]  # of one image
guesses = [{"boxes": told, "labels": np.zeros(5, int)}]
guesses[0]["scores"] = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
recall, precision, thresholds = evaluation.precision_recall(guesses, truth, label=0)
print("score  right  precision  recall")
for k, right in enumerate(np.diff(recall, prepend=0) > 0):
    print(f"{thresholds[k]:.1f}    {right!s:6} {precision[k]:.3f}      {recall[k]:.3f}")

# %% [markdown]
# The second detection is a double of the first, and the fourth lies on nothing. Now slide a threshold down over the
# scores, and keep the detections above it. At each position,
#
# - **precision** is the share of the kept detections that are right: after three of them 2/3;
# - **recall** is the share of the objects that are found: after three of them 2/3 too.
#
# ### Average precision
#
# The points make a curve. **Average precision** (AP) is the area under it, after one correction: at each recall we
# take the highest precision at that recall or a higher one, so the curve never rises. Three conventions are in use:
#
# - VOC until 2009: the mean of the precision at 11 recalls, 0, .1, ..., 1;
# - VOC since: the exact area, all points;
# - COCO: the mean at 101 recalls, and then the mean over ten IoU limits .5, .55, ..., .95 (the same detections must
#   be right more and more strictly), and over COCO's 80 categories.
#
# By hand: up to recall 1/3 precision is 1; up to 2/3 it is 2/3; up to 1 it is 3/5. The exact area is
# (1 + 2/3 + 3/5) / 3 = .756. At 11 points: 4 · 1 + 3 · 2/3 + 4 · 3/5 = 8.4, divided by 11 = .764.

# %% tags=["nbval-check-output"]
for name, points in (("11 points", 11), ("all points", None), ("101 points", 101)):
    print(f"{name:10} {evaluation.average_precision(recall, precision, points):.3f}")

# %%
marked = [0.9, 0.7, 0.5]
ax = plots.precision_recall_curve(recall, precision, thresholds, thresholds=marked)
ax.set_title("by hand: three objects, five detections", fontsize=10)

# %% [markdown]
# A class without objects has no AP. **Mean average precision** (mAP) is the mean over the classes; COCO calls that AP
# too. So always say which convention a figure follows. AP at an IoU of .5 (AP50) is the highest of the ten that COCO
# averages, and may be twice as high as COCO's AP of the same boxes.
#
# ### The curve, as the threshold slides
#
# We take the detections of our OverFeat on all validation images, with NMS. Move the slider: the boxes on one image
# appear as the threshold falls, and the point on the curve moves to the right. (Where nobody can move a slider, three
# of its positions are drawn.) All classes are in one curve here.

# %% tags=["thumbnail"]
found = model.detect(images, score_threshold=0.02)
curve = evaluation.precision_recall(found, objects)
of_image, positions = rows_of(found, shown), (0.98, 0.9, 0.6)
plots.explore_threshold(image, of_image, curve, thresholds=positions, classes=classes)

# %% [markdown]
# A high threshold keeps few boxes: nearly all of them are right, but many objects are missed. A low threshold finds
# most objects, but keeps many wrong boxes. AP sums over all thresholds, so it does not depend on which one an
# application chooses.
#
# ### Suppress, soften, or average?
#
# Now we can compare the three ways to make a list, on the same net and the same images.

# %%
heaps = model.detect(images, 0.02, iou_threshold=1.0, max_detections=300)


def softened(heap):
    """Soft-NMS of the heap of one image: a list of the same form."""
    boxes, labels = heap["boxes"], heap["labels"]
    values = np.where(labels >= 0, heap["scores"], -np.inf).astype("float32")
    order, scores = nms.soft_nms(boxes, values, labels, 100, score_threshold=0.02)
    labels = np.where(order >= 0, labels[order], -1)
    return {"boxes": boxes[order], "labels": labels, "scores": scores}


lists = {
    "NMS, threshold .5": found,
    "NMS, threshold .3": model.detect(images, 0.02, iou_threshold=0.3),
    "soft-NMS": [softened(rows_of(heaps, index)) for index in range(len(images))],
    "greedy averaging": model.detect_merged(images, score_threshold=0.3),
    "no suppression": heaps,
}

# %%
judged = {name: evaluation.evaluate(made, objects) for name, made in lists.items()}
table = pd.DataFrame(judged).T[["AP50", "AP75", "AP"]].astype(float)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), width_ratios=[1.2, 1])
plots.bars(table["AP50"].to_dict(), xlabel="AP50", ax=axes[0])
limits, strict = np.linspace(0.5, 0.95, 10), {}
for name in ("NMS, threshold .5", "greedy averaging"):
    results = [evaluation.evaluate(lists[name], objects, float(at)) for at in limits]
    strict[name] = np.array([result["AP"] for result in results])
    axes[1].plot(limits, strict[name], marker="o", ms=4, label=name)
axes[1].set(xlabel="IoU that counts as right", ylabel="AP", ylim=(0, 1))
axes[1].legend(fontsize=9)
table.round(3)

# %%
gain = strict["greedy averaging"] - strict["NMS, threshold .5"]
by_nms = table.loc["NMS, threshold .5"]
record(overfeat_ap50=by_nms["AP50"], overfeat_ap=by_nms["AP"])
record(soft_ap50=table.loc["soft-NMS", "AP50"], merged_gain_80=gain[6])
record(merged_ap50=table.loc["greedy averaging", "AP50"])
record(heap_ap50=table.loc["no suppression", "AP50"])
steps = [f"{x:+.2f} at {at:.2f}" for x, at in zip(gain, limits)]
print("AP by averaging minus AP by NMS:", ", ".join(steps))

# %% [markdown]
# We made three runs (seeds 0, 1 and 2). Without suppression AP50 was less than half of that with NMS in each: objects
# are found again and again, and each double counts as a mistake. Soft-NMS was ahead of NMS (threshold .5) in AP50 in
# each run, by .05 to .07. Averaging was ahead of it twice and level once at an IoU of .5, and behind it in each run
# at .8. The mean of boxes that disagree overlaps the object, but fits it badly. NMS keeps one box as it is.
#
# The right picture shows what COCO's AP is the mean of: the ten points of such a curve. It falls steeply: many boxes
# are good enough for IoU .5 and not for .8.
#
# ### What OverFeat cannot do
#
# - Its two heads are trained apart, the second on features that were not made for boxes.
# - It is trained to name and place what is in *one* window: it optimises localization. Detection also asks for
#   exactly one box on each object. OverFeat leaves this to a rule that is applied afterwards and learns nothing.
# - A window sees its 48 pixels and nothing else: no context, no image as a whole. (Topic 09 begins here: one network
#   that looks at the whole image and is trained for all boxes at once.)
# - The windows are squares of a few sizes. A long object fits none of them, and more shapes of windows cost more.
#
# ## Region proposals: let the image say where
#
# The windows know nothing about the image: most of them show ground. Could the image itself say where objects may
# be? An object is a region with an outline, of a colour or texture of its own.
#
# ### Selective search
#
# **Selective search** (Uijlings et al. 2013) begins with small regions of even colour, found by the graph-based
# segmentation of Felzenszwalb and Huttenlocher (2004). Then it merges the two neighbours that are most alike, again
# and again, until the whole image is one region. The box around every region on the way is a proposal. How alike two
# regions are is the sum of four numbers from 0 to 1:
#
# - **colour** and **texture**: the overlap of the two regions' histograms;
# - **size**: small regions first, so that no large one swallows its neighbours one by one;
# - **fill**: regions that fit into each other leave no gap in the box around both.
#
# The pictures show the regions that are left after some of the merges, each in its mean colour and with its box:

# %%
first_segments = proposals.initial_segments(image, scale=segments[0])
hierarchy = proposals.merge_regions(image, first_segments)
plots.show_regions(image, hierarchy, steps=4)
first, merges = len(np.unique(first_segments)), len(hierarchy.merges)
print(f"{first} first regions, {merges} merges, {len(hierarchy.boxes)} boxes")

# %% [markdown]
# An object is found at the moment when its pieces are one region and the ground is not yet part of it. This moment
# differs from object to object, so the regions of all sizes are kept. No single set of rules is right for all images:
# the method runs several variants (two colour spaces, two scales, with and without colour) and joins their boxes.
#
# > **What the slide says.** "Selective search slides windows over the image." It slides none, and knows no classes:
# > it merges segments. So a few boxes are enough where sliding needs very many.

# %%
pool, pool_objects = images[:searched], rows_of(objects, slice(searched))
search = {"scales": segments, "seed": seed}
began = time.process_time()
proposed = [proposals.selective_search(image, **search) for image in pool]
milliseconds = 1000 * (time.process_time() - began) / len(pool)
sides, ratios = (12, 18, 27, 40, 60), (0.5, 1, 2)
every = proposals.sliding_windows(image_size, image_size, sides, ratios)
rng = np.random.default_rng(seed)
slid = [every[rng.permutation(len(every))] for _ in pool]
mean_count = np.mean([len(boxes) for boxes in proposed])
print(f"{mean_count:.0f} proposals an image, in {milliseconds:.0f} ms of CPU time")
print(f"{len(every):,} windows")

# %%
counts, recalls = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000], {}
for limit in (0.5, 0.7):
    for name, boxes in (("selective search", proposed), ("random windows", slid)):
        recall = proposals.recall_curve(boxes, pool_objects, counts, limit)
        recalls[f"{name}, IoU {limit:g}"] = recall
ax = plots.proposal_recall(counts, recalls)
ax.set_ylabel("share of the objects found")
ax.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
by_search, at_fifty = recalls["selective search, IoU 0.5"], counts.index(50)
record(search_recall=by_search[-1], search_recall_50=by_search[at_fifty])
record(windows_recall_50=recalls["random windows, IoU 0.5"][at_fifty])

# %%
number = (pool_objects["labels"] >= 0).sum(axis=1)
figure, axes = plt.subplots(1, 3, figsize=(8, 2.8))
for ax, row in zip(axes, np.argsort(-number, kind="stable")):
    overlaps = geometry.iou(real(pool_objects, row)[0], proposed[row])
    best = proposed[row][overlaps.argmax(axis=1)]
    colours = [plots.GREY] * len(proposed[row]) + [plots.YELLOW] * len(best)
    boxes, mean = np.concatenate([proposed[row], best]), overlaps.max(axis=1).mean()
    plots.show_boxes(pool[row], boxes, colours, 1, ax=ax)
    title = f"{len(proposed[row])} boxes; best IoU {mean:.2f} on average"
    ax.set_title(title, fontsize=9)
for ax in axes:
    ax.set_axis_off()

# %% [markdown]
# Yellow is the best proposal for each object. In three runs, fifty proposals an image reached .97 to .98 of the
# objects, and fifty windows at random reached about .11. At an IoU of .7 fifty such windows reach next to nothing.
#
# ## R-CNN: regions with CNN features
#
# Girshick et al. (2014) put the pieces together:
#
# 1. about 2,000 **proposals** an image, by selective search;
# 2. each one is **warped** to one size, whatever its shape, with a little context around it (227 × 227 pixels for
#    AlexNet, 224 × 224 for VGG16);
# 3. a **CNN**, trained on ImageNet and fine-tuned on warped proposals, gives 4,096 features for each;
# 4. a linear **SVM** for each class scores the features; NMS within the class;
# 5. a linear **regression** for each class moves the box: dx, dy, dw, dh.
#
# Ours: at most 200 proposals, crops of 48 × 48, and a network of seven convolutions that was trained to name single
# drawn shapes; it is not fine-tuned. (Profile `real`: MobileNetV2 from ImageNet, larger crops.) We suppress before
# the regression, in the order of this list; the authors' code moves the boxes first.

# %%
if features == "shapes":
    body = pretrained.load("shapes", input_shape=(crop, crop, 3))
    cnn = keras.Model(body.input, layers.Flatten()(body.output))
else:
    body = pretrained.imagenet("MobileNetV2")
    pixels = layers.Input((crop, crop, 3))
    cnn = keras.Model(pixels, layers.GlobalAveragePooling2D()(body(pixels)))

# %%
shown_in = [train_objects["labels"] == label for label in range(len(classes))]
first_of_class = [int(there.any(axis=1).argmax()) for there in shown_in]
chosen = np.unique([*first_of_class, *range(min(rcnn_images, len(train_images)))])
search["most"] = regions
rcnn_train, targets = train_images[chosen], rows_of(train_objects, chosen)
train_proposals = [proposals.selective_search(image, **search) for image in rcnn_train]
number, length = sum(map(len, train_proposals)), cnn.output_shape[-1]
print(f"{len(chosen)} images, {number:,} proposals, {length:,} features each")

# %% [markdown]
# ### Warping
#
# Here are some proposals of one image, and below them what the CNN sees:

# %%
boxes = proposed[0][:regions]
boxes = boxes[:: max(1, len(boxes) // 8)][:8]
warped = rcnn.warp(pool[0], boxes, crop, context=3.0)
plots.show_boxes(pool[0], boxes, [plots.class_colour(i) for i in range(len(boxes))], 2)
sizes = [f"{w:.0f} × {h:.0f}" for w, h in boxes[:, 2:] - boxes[:, :2]]
plots.show_images(warped.clip(0, 255).astype("uint8"), titles=sizes, columns=8)

# %% [markdown]
# Long boxes are squeezed. Pixels outside the image get the mean colour of the image.
#
# ### Training
#
# Which proposals are positive? The paper's answers differ from step to step, and were found by trial. For the SVM
# the positives are the true boxes alone, and the negatives are proposals with an IoU below .3 with all objects of the
# class; what lies between is left out. Most negatives are easy. So the SVM is trained on a few at random first; then
# the negatives that it still takes for objects (**hard negatives**) are added, and it is trained again. The box
# regression learns from proposals with an IoU of .6 or more.
#
# (Why SVMs at all? The network's own softmax gave 50.9 % mAP on VOC 2007, where the SVMs gave 54.2 % [paper]; the
# authors name two likely reasons: the positives of fine-tuning do not ask for an exact place, and the softmax saw
# random negatives, not hard ones. Fast R-CNN, in topic 10, goes back to softmax.)

# %%
detector = rcnn.RCNN(cnn, len(classes), size=crop, seed=seed)
detector.fit(rcnn_train, targets, train_proposals)
pool_proposals = [boxes[:regions] for boxes in proposed]
detections = detector.detect(pool, pool_proposals, score_threshold=0.1)
of_pool = rows_of(found, slice(searched))
rcnn_scores = evaluation.evaluate(detections, pool_objects, classes=len(classes))
overfeat_scores = evaluation.evaluate(of_pool, pool_objects, classes=len(classes))
record(rcnn_ap50=rcnn_scores["AP50"], rcnn_ap=rcnn_scores["AP"])

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4))
reached = {"OverFeat": overfeat_scores, "R-CNN": rcnn_scores}
bars = {name: result["AP50"] for name, result in reached.items()}
plots.bars(bars, xlabel="AP50", ax=axes[0])
for row, (name, result) in enumerate(reached.items()):
    place = np.arange(len(classes)) + 0.4 * row - 0.2
    heights = result["per_class_AP50"]  # NaN, no bar: a class without objects
    axes[1].bar(place, heights, 0.38, color=plots.class_colour(row), label=name)
axes[1].legend(fontsize=9, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
axes[1].set_xticks(range(len(classes)), classes, rotation=45, ha="right")
axes[1].set(ylabel="AP50 of the class", ylim=(0, 1))

# %%
best = rows_of(detections, slice(6))
best["labels"] = np.where(best["scores"] > 0.5, best["labels"], -1)
plots.show_objects(pool[:6], **best, classes=classes, columns=3)

# %% [markdown]
# The two are trained differently (R-CNN's features have seen thousands of single shapes before, OverFeat learnt all
# by itself from scenes), so the bars do not say which *idea* is better. They say what each pipeline reaches here.
#
# ### What the regression gains
#
# Take the proposals of the validation images that overlap an object by .5 or more. Each dot is one of them: its IoU
# before the regression, and after it. Dots above the line have gained; in our runs these were four in five. A
# proposal that was nearly exact has little to gain and much to lose.

# %%
before, after = [], []
for index, (image, boxes) in enumerate(zip(pool, pool_proposals)):
    truth, labels = real(pool_objects, index)
    learnt = np.isin(labels, detector.learnt)  # a small set may lack a class
    truth, labels = truth[learnt], labels[learnt]
    if not len(boxes) or not len(truth):
        continue
    overlaps = geometry.iou(boxes, truth)
    rows = np.flatnonzero(overlaps.max(axis=1) >= 0.5)
    nearest = overlaps[rows].argmax(axis=1)
    vectors = detector.vectors(image, boxes[rows]) * detector.norm
    for row, owner, vector in zip(rows, nearest, vectors):
        shift = detector.regressions[labels[owner]].predict(vector[None])
        before.append(overlaps[row, owner])
        after.append(own_iou(decode(shift, boxes[[row]]), truth[[owner]])[0])

# %%
figure, ax = plt.subplots(figsize=(4.2, 3.8))
ax.plot(before, after, ".", ms=3, alpha=0.5)
ax.axline((0.5, 0.5), slope=1, color=plots.GREY, linestyle="--")
ax.set(xlabel="IoU of the proposal", ylabel="IoU after the regression")
ax.set(xlim=(0.5, 1), ylim=(0.3, 1))
helped = np.mean(np.greater(after, before))
record(iou_before=np.mean(before), iou_after=np.mean(after), regression_helps=helped)
print(f"{helped:.0%} of the proposals gain")

# %% [markdown]
# ### What an image costs
#
# We time one image at a time and take the median over some images: for the steps of the pipeline, and for OverFeat,
# which does everything in one pass.

# %%
parts_of = ("proposals", "warp", "CNN", "SVMs")
seconds = {name: [] for name in (*parts_of, "warp to list", "OverFeat")}


def clock(name, work, *arguments, **settings):
    began = time.perf_counter()
    result = work(*arguments, **settings)
    seconds[name].append(time.perf_counter() - began)
    return result


def through_svms(vectors):
    vectors = vectors * detector.norm
    return np.stack(
        [svm.decision_function(vectors) for svm in detector.svms.values()],
        axis=1,
    )


# %%
for image in pool[: timed + 1]:
    boxes = clock("proposals", proposals.selective_search, image, **search)
    crops = clock("warp", rcnn.warp, image, boxes, crop, 3.0)
    vectors = clock("CNN", transfer.predict, cnn, crops, batch_size=rcnn.CHUNK)
    clock("SVMs", through_svms, vectors)
    clock("warp to list", detector.detect, image[None], [boxes])
    clock("OverFeat", model.detect, image[None], batch_size=1)
median = {name: 1000 * np.median(values[1:]) for name, values in seconds.items()}

# %%
by_step = {name: median[name] for name in parts_of}
in_all = {"R-CNN": median["proposals"] + median["warp to list"]}
in_all["OverFeat"] = median["OverFeat"]
figure, axes = plt.subplots(2, 1, figsize=(8, 3.6), height_ratios=[4, 2])
plots.bars(by_step, xlabel="milliseconds an image, R-CNN step by step", ax=axes[0])
plots.bars(in_all, xlabel="milliseconds an image, in all", ax=axes[1])
slower = in_all["R-CNN"] / in_all["OverFeat"]
print(f"R-CNN takes {slower:.1f} times as long as OverFeat")

# %% [markdown]
# With VGG16 and about 2,000 regions, an image took 47 seconds on a GPU of that time [paper: Fast R-CNN]. Nearly all
# of it is the CNN, which runs once for *each* region. (Our CNN and our crops are small: compare the bar of the
# proposals with that of the CNN.) The crops overlap, and the same pixels are convolved again and again. OverFeat
# avoids this. How much work is it? We count the MACs of the CNN on all crops, and of the same convolutions once on
# the whole image.

# %%
on_crops = mean_count * arithmetic.totals(cnn)["macs"]
on_image = arithmetic.totals(body, (image_size, image_size, 3))["macs"]
by_work = {"once for each region": on_crops / 1e9, "once for the image": on_image / 1e9}
plots.bars(by_work, xlabel="billion MACs of the CNN")
record(rcnn_shared_ratio=on_crops / on_image)
print(f"{on_crops / on_image:.0f} times the work ({mean_count:.0f} regions an image)")

# %% [markdown]
# With the paper's 2,000 regions the factor is larger still. Topic 10 takes the features of all regions from *one* map
# of the whole image (Fast R-CNN), and then even the regions themselves (Faster R-CNN).
#
# ## What goes wrong?
#
# AP is one number. For the next idea we need to know *which* mistakes cost it. Each detection is right, or has one
# kind of error (after Hoiem et al. 2012); each object is found or missed. From each detector we keep the detections
# with the highest scores, as many as there are objects. So both have the same number of chances to err.


# %%
def cut_off(detections):
    """The score above which lie as many detections as there are objects."""
    values = np.sort(detections["scores"][detections["labels"] >= 0])
    number = min((pool_objects["labels"] >= 0).sum(), len(values))
    return values[-number] if number else 1.0


mistakes = ("doubled", "badly placed", "confused", "background", "missed")
shares, cuts = {}, {}
figure, ax = plt.subplots(figsize=(8, 3))
for row, (name, made) in enumerate((("OverFeat", of_pool), ("R-CNN", detections))):
    cuts[name] = cut_off(made)
    counted = evaluation.errors(made, pool_objects, score_threshold=cuts[name])
    there = max(counted["found"] + counted["missed"], 1)
    shares[name] = {kind: counted[kind] / there for kind in mistakes}
    place, heights = np.arange(5) + 0.4 * row - 0.2, list(shares[name].values())
    ax.bar(place, heights, 0.38, label=f"{name}, score from {cuts[name]:.2f}")
ax.set_xticks(range(5), mistakes)
ax.set_ylabel("share of the number of objects")
ax.legend(fontsize=9)

# %%
by_overfeat, by_rcnn = shares["OverFeat"], shares["R-CNN"]
record(overfeat_missed=by_overfeat["missed"], rcnn_missed=by_rcnn["missed"])
record(overfeat_confused=by_overfeat["confused"], rcnn_confused=by_rcnn["confused"])
record(overfeat_placed=by_overfeat["badly placed"], rcnn_placed=by_rcnn["badly placed"])
record(overfeat_doubled=by_overfeat["doubled"], rcnn_doubled=by_rcnn["doubled"])
pd.DataFrame(shares).T.round(2)

# %% [markdown]
# We show one example of R-CNN for each kind of error that occurs: the image in which this kind is most frequent, with
# the detections that the bars count. The true boxes are dashed.

# %%
limit, each = cuts["R-CNN"], []
for index in range(len(pool)):
    parts = (rows_of(part, [index]) for part in (detections, pool_objects))
    each.append(evaluation.errors(*parts, score_threshold=limit))
by_kind = {kind: [counted[kind] for counted in each] for kind in mistakes}
occurring = [kind for kind in mistakes if any(by_kind[kind])] or ["missed"]
figure, axes = plt.subplots(1, len(occurring), figsize=(8, 2.4), squeeze=False)
for ax, kind in zip(axes[0], occurring):
    index = int(np.argmax(by_kind[kind]))
    made = rows_of(detections, index)
    labels = np.where(made["scores"] >= limit, made["labels"], -1)
    plots.draw_objects(pool[index], made["boxes"], labels, classes=classes, ax=ax)
    for x0, y0, x1, y1 in real(pool_objects, index)[0]:
        around = [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]
        ax.plot(*around, "--", color="white", lw=1.2)
    ax.set_title(f"{kind}: {each[index][kind]}", fontsize=9)
    ax.set_axis_off()

# %% [markdown]
# In each of three runs the two detectors failed in different ways. OverFeat missed more objects, and more of its
# boxes were badly placed or doubled. Its windows are coarse, and its box head reads features that were not trained
# for boxes. R-CNN had few badly placed boxes and no doubled ones, but it confused classes more often. Part of a
# shape, cut out and warped, may look like another shape, and R-CNN's CNN was trained on single, mostly whole shapes.
#
# Read the bars for what a remedy must do. *Missed*: proposals or scores were lacking. *Badly placed*: the box needs a
# better regression, or features that see more of it. *Confused*: the classifier is at fault, not the box. *Doubled*:
# suppression. *Background*: the classifier has seen too few hard negatives. An R-CNN has a separate part for each of
# these, trained by itself; no part learns from the mistakes of the next.
#
# ## Before all this: parts on springs
#
# From 2008 to 2012 the best detectors were **deformable part models** (DPM; Felzenszwalb et al. 2010). They slide a
# window too, over **histograms of oriented gradients** (HOG) in the place of learnt features: in each cell of 8 × 8
# pixels, how strong are the edges of each direction? A linear filter for the whole object is scored at each place.
# Smaller filters for parts (a wheel, a head) are scored near their usual places, and pay for their distance from
# there, as if they hung on springs:
#
# score = root filter + Σ over the parts, max over places (part filter − cost of the distance).
#
# A linear SVM with hard negatives learns the filters (a *latent* SVM: training also has to choose the places of the
# parts). The maximum is computed for all places at once, and NMS suppresses double boxes. R-CNN kept the SVMs, the
# hard negatives and the NMS, and exchanged the features: 33.7 % mAP on VOC 2007 for DPM, 58.5 % for R-CNN [paper].

# %%
example = shapes.scene(3, "test", config="crops", image_size=96)
cells = {"orientations": 9, "pixels_per_cell": (8, 8), "channel_axis": -1}
_, drawing = hog(example.image, visualize=True, **cells)
figure, axes = plt.subplots(1, 3, figsize=(8, 2.8))
axes[0].imshow(example.image)
axes[1].imshow(drawing)
axes[2].imshow(example.image, alpha=0.35)
corner, size = example.boxes[0, :2] - 0.5, example.boxes[0, 2:] - example.boxes[0, :2]
tips = np.array([[0.6, 0.15], [0.85, 0.5], [0.6, 0.85], [0.15, 0.75], [0.15, 0.2]])
root, parts = {"fill": False, "ec": plots.BLUE, "lw": 2}, {"fill": False, "lw": 1.5}
axes[2].add_patch(plt.Rectangle(corner, *size, **root))
for tip in corner + tips * size:
    axes[2].add_patch(plt.Rectangle(tip - 7, 14, 14, ec=plots.VERMILLION, **parts))
    spring = {"arrowstyle": "-", "ls": ":"}
    axes[2].annotate("", tip, corner + size / 2, arrowprops=spring)
titles = ("an image", "HOG: edges by direction", "root, and parts on springs")
for ax, title in zip(axes, titles):
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()

# %% [markdown]
# ## Where this leaves us
#
# Two roads lead on. OverFeat looks at the whole image once, on a fixed grid, but its heads are trained apart and its
# windows are few: topic 09 builds one network that is trained for detection as a whole (YOLO, SSD, RetinaNet). R-CNN
# has good regions and a classifier for each, and pays for every region: topic 10 shares the computation (Fast and
# Faster R-CNN). Both use all that stands here: boxes and their coding, matching, NMS, average precision.
#
# ## Summary
#
# You can now
#
# - convert boxes between formats, compute IoU, and know what .5 looks like;
# - train a classifier that also boxes its object, hold it against the mean box, and say why it fails with two;
# - count windows and their cost, and get all of their scores from one pass of convolutions;
# - tell NMS, soft-NMS and greedy averaging apart, and say which of them OverFeat uses;
# - match detections with objects, draw precision over recall, and compute AP by 11 points, all points, and COCO's way;
# - follow selective search from segments to boxes, and measure proposals by recall;
# - build an R-CNN from a CNN, SVMs and a regression, say where its time goes, and name the kinds of its errors.
#
# ## Exercises
#
# 1. (easy) Two boxes of equal size have an IoU of .5, and one is shifted to the right only. By which part of their
#    width? And if it is shifted along the diagonal? *Hint: (1 − t) / (1 + t) = .5; the other formula stands under
#    "Intersection over union".*
# 2. (easy) How many windows of 48 pixels, in steps of 8, fit into an image of 500 × 375 at scale 1? And in steps of
#    1? *Hint: `arithmetic.output_size`.*
# 3. (medium) AP does not change if every score is squared. Why? And what changes in the slider's picture? *Hint: does
#    AP use the scores themselves, or only their order?*
# 4. (medium) Draw AP50 of OverFeat against the threshold of its NMS, from .1 to .9, on `shapes/crowded` too. Where is
#    the best threshold, and why does it move? *Hint: `model.detect(..., iou_threshold=...)`, and
#    `read("shapes/crowded", "validation[:300]", image_size)`.*
# 5. (medium) Leave one of selective search's four similarities out. Which one costs most recall at 50 boxes? *Hint:
#    `proposals.initial_segments`, then `proposals.merge_regions(image, segments, similarities=...)`; its boxes in
#    reverse order are the ranking for `proposals.recall_curve`.*
# 6. (hard) Fine-tune R-CNN's CNN on warped proposals, with the classes and background, before the SVMs are trained.
#    Which kind of error falls? *Hint: `rcnn.warp` makes the crops; the paper's limit for a positive is .5.*
# 7. (hard) Train the network for one object with both losses and five seeds each. Is smooth L1 ahead in all of them? And
#    with twice the steps? *Hint: `train_one_object` takes its first weights and the order of the images from `seed`.*
#
# ## Further reading
#
# - P. Felzenszwalb and D. Huttenlocher, *Efficient graph-based image segmentation*, IJCV 2004.
# - P. Felzenszwalb, R. Girshick, D. McAllester and D. Ramanan, *Object detection with discriminatively trained
#   part-based models*, PAMI 2010.
# - M. Everingham et al., *The PASCAL visual object classes (VOC) challenge*, IJCV 2010.
# - D. Hoiem, Y. Chodpathumwan and Q. Dai, *Diagnosing error in object detectors*, ECCV 2012.
# - J. Uijlings, K. van de Sande, T. Gevers and A. Smeulders, *Selective search for object recognition*, IJCV 2013.
# - P. Sermanet et al., *OverFeat: integrated recognition, localization and detection using convolutional networks*,
#   ICLR 2014.
# - R. Girshick, J. Donahue, T. Darrell and J. Malik, *Rich feature hierarchies for accurate object detection and
#   semantic segmentation*, CVPR 2014.
# - T.-Y. Lin et al., *Microsoft COCO: common objects in context*, ECCV 2014.
# - R. Girshick, *Fast R-CNN*, ICCV 2015 (smooth L1).
# - N. Bodla, B. Singh, R. Chellappa and L. Davis, *Soft-NMS: improving object detection with one line of code*, ICCV
#   2017.
