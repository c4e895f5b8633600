# %% [markdown]
# # 11 Instance segmentation
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/11_instance_segmentation.ipynb)
#
# **Two stars touch. Which pixels belong to which star?** The detectors of topics 08 to 10 draw a box around each star,
# but many pixels of such a box belong to no star. The networks of topic 07 give every pixel a class, so the two stars
# become one region. Instance segmentation asks for a mask of *each object*. Mask R-CNN adds one small branch to topic
# 10's Faster R-CNN. It also replaces RoIPool, which rounds a box to whole cells of the map, by RoIAlign, which rounds
# nothing.
#
# You will be able to
#
# - tell instance from semantic segmentation, and measure it by mask AP;
# - say what RoIPool rounds away and RoIAlign keeps, on one box and in the accuracy of trained branches;
# - build the mask branch, its targets and its loss, and say why classes do not compete;
# - say which boxes get a mask at test and when, and measure what another order costs;
# - paste small soft masks into the image;
# - find keypoints with the same kind of branch.
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
source: str = "shapes"  # a data set with instance masks: its name, or a folder's path
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
image_size: int = 96  # [64, 1024] height and width of its images; a multiple of 32
stretch: bool = False  # whether each image gets the full range of brightness
most: int = 3000  # [16, ] training images, at most
tested: int = 150  # [4, ] test images, at most
network: str = "shapes"  # the backbone: the course's own, or one of keras.applications
level: int = 3  # [2, 4] which of the backbone's maps is read; its stride is 2 ** level
sizes: list[float] = [16, 24, 36, 48]  # sides of the anchors, in pixels
proposals: int = 128  # [16, 4000] of the network in training; at test half as many
kept: int = 20  # [1, 300] detections of an image, at most
rate: float = 1.5e-3  # [1e-6, 0.1] highest learning rate
steps: int = 300  # [2, 100000] training steps of 16 images each, in tens
paired: int = 800  # [16, ] images for RoIPool against RoIAlign, at most
pair_epochs: int = 6  # [1, 1000] passes over their objects
repeats: int = 3  # [1, 50] runs of each, with a seed of its own
timed: int = 10  # [1, 1000] answers over which a time is the median

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import ops
from scipy import ndimage

from utils import data, plots, training
from utils.backbones import backbone
from utils.data import augmentation, shapes
from utils.detection import evaluation, mask_rcnn, nms, roi
from utils.plots.scenes import coloured
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# ## What is asked
#
# In the scene below, two shapes of one class touch. Detection says that there are two, but not which pixels belong to
# which. Semantic segmentation says which pixels belong to the class, but not that there are two objects.


# %%
def touching(scene):
    """Whether two objects of one class of a scene share an outline."""
    masks, labels = scene.masks > 0, scene.labels
    for first in range(len(labels)):
        near = ndimage.binary_dilation(masks[first], iterations=2)
        for second in range(first):
            if labels[first] == labels[second] and (near & masks[second]).any():
                return True
    return False


options = {"split": "test", "config": "crowded", "image_size": (128, 128)}
drawn = (shapes.scene(index, **options) for index in range(300))
scene = next(one for one in drawn if touching(one))
shape_names = data.describe("shapes").classes

# %% tags=["thumbnail"]
figure, axes = plt.subplots(1, 3, figsize=(8, 3))
given = scene.boxes, scene.labels
plots.draw_objects(scene.image, *given, classes=shape_names, names=False, ax=axes[0])
axes[1].imshow(coloured(scene.image, scene.mask))
numbers = np.arange(len(scene.labels))  # a colour for each object
plots.draw_objects(scene.image, None, numbers, scene.masks, names=False, ax=axes[2])
tasks = ("detection", "semantic segmentation", "instance segmentation")
for ax, kind in zip(axes, tasks):
    ax.set_title(kind, fontsize=10)
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# > **What the slide says.** "Mask R-CNN: semantic segmentation." It is *instance* segmentation: it gives a mask for each
# > object that it detects, and says nothing about the ground, the sky or the road.
#
# Two roads lead to instances. The first goes from segments to objects. DeepMask (Pinheiro, Collobert and Dollár, 2015)
# slides a net over the image. For each window the net gives one mask and one score, which answers "is there an object,
# centred and whole?". A Fast R-CNN then gives the segments their classes. So the mask comes first, before the class is
# known. The second road goes from objects to segments: find the boxes first, then say which pixels of each box belong
# to the object. **Mask R-CNN** (He et al., 2017) takes the second road. It is the Faster R-CNN of topic 10, with a
# third branch: beside "which class?" and "which box?" it asks "which pixels?".
#
# ## The data


# %%
def brightest(images):
    """Each image stretched to the full range, its extreme pixels left out."""
    low, high = np.percentile(images, (1, 99.8), axis=(1, 2, 3), keepdims=True)
    stretched = (images - low) * 255 / np.maximum(high - low, 1)
    return np.clip(stretched, 0, 255).astype("uint8")


def read(split):
    """Images, boxes, labels, masks of a split, and what else its objects have."""
    options = {"channels": 3, "target": "boxes", "on_error": on_error}
    images, truth = data.arrays(source, split, image_size, **options)
    if "masks" not in truth:
        raise ValueError(f"a mask for each object is needed: {source} has boxes alone")
    images = brightest(images) if stretch else images
    wanted = ("boxes", "labels", "masks", "ignored", "keypoints")
    return {"image": images} | {key: truth[key] for key in wanted if key in truth}


# %%
description = data.chosen(source, "boxes", on_error, classes=1)
names = description.classes
train_set, test_set = read(f"train[:{most}]"), read(f"test[:{tested}]")
kinds = train_set["keypoints"].shape[2] if "keypoints" in train_set else 0
there = test_set["labels"] >= 0
print(f"{source}: {len(train_set['image']):,} training and {len(there):,} test images")
print(f"{len(names)} classes, {kinds} kinds of keypoints")
print(f"{there.sum() / len(there):.1f} objects an image")

# %%
first = {key: values[:4] for key, values in test_set.items() if key != "keypoints"}
plots.show_objects(first.pop("image"), first, classes=names)

# %% [markdown]
# How much of its box does an object fill? If we answered with the whole box as the mask, the IoU of this mask would be
# that share.

# %%
sides = test_set["boxes"][..., 2:] - test_set["boxes"][..., :2]
areas, labels = np.prod(sides, axis=-1)[there], test_set["labels"][there]
share = test_set["masks"].sum(axis=(2, 3))[there] / areas
by_class = {names[k]: share[labels == k].mean() for k in np.unique(labels)}
plots.bars(by_class, xlabel="share of its box")

# %% [markdown]
# ## RoIAlign
#
# The mask branch looks at the features in the box, so these must be cut out first. Fast R-CNN's **RoIPool** (topic 10)
# rounds twice: it rounds the box to whole cells of the map, and then the borders of the bins to whole cells again. The
# class hardly suffers: a star that is moved by three pixels is still a star. But a mask that is moved by three pixels
# is wrong along its whole outline.
#
# How far can rounding move a side of the box? By half a cell at most. At a stride of 16 that is 8 pixels of the image.
# (In the code of Fast R-CNN's author, and in `utils`, the right and the lower side then move outwards by one whole
# cell more: the cell to which such a side is rounded still belongs to the box.)
#
# **RoIAlign** rounds nothing. It puts 2 × 2 points into each bin, reads the map at each point by bilinear
# interpolation between the four nearest cells' centres, and takes the mean. In the figure, the red box is the box that
# was asked for. On the left, the blue area shows the cells that RoIPool takes. On the right, white crosses mark the
# centres of the cells, and blue dots mark the points that RoIAlign reads.

# %%
one = int(np.argmax(there.sum(axis=1)))
image = test_set["image"][one]
largest = int(np.argmax(np.prod(sides[one], axis=-1)))
box = test_set["boxes"][one, largest] + np.float32([-2.5, -1.5, 2.5, 1.5])
stride = 16
cells = roi.whole_cells(box, stride)
_, axes = plt.subplots(1, 2, figsize=(7.5, 3.8))
title = "RoIPool: the cells that it takes"
plots.show_roi_pool(image, box, cells, stride, 3, title, axes[0])
title = "RoIAlign: the points that it reads"
plots.show_roi_align(image, box, stride, 3, title=title, ax=axes[1])
for name, by in zip(("left", "top", "right", "bottom"), np.abs(cells - box)):
    print(f"RoIPool moves the {name} side by {by:.1f} pixels")

# %% [markdown]
# Here is a test that needs no net. We take a map in which the value of each cell *is* the x of its centre. So the
# value of a bin says where this bin looks. We push a box of 48 pixels to the right, half a pixel at a time, and read
# the left one of its 3 bins. The true centre of this bin always lies 8 pixels from the box's left side. So we expect a
# flat line from RoIAlign, and from RoIPool a sawtooth whose teeth are as high as a cell is wide.

# %%
side = 12
centres = (np.arange(side) + 0.5) * stride
ramp = np.tile(centres.astype("float32"), (side, 1))[None, ..., None]  # (1, 12, 12, 1)
shifts = np.arange(0, 48, 0.5)
moved = np.stack([[40 + s, 50, 88 + s, 98] for s in shifts]).astype("float32")
looks = {}
for name, layer in (("RoIAlign", roi.roi_align), ("RoIPool", roi.roi_pool)):
    bins = ops.convert_to_numpy(layer(ramp, moved[None], 3, 1 / stride))[0]
    looks[name] = bins[:, 1, 0, 0] - moved[:, 0]  # the left bin of the middle row

# %%
figure, ax = plt.subplots(figsize=(7, 3))
plots.curves(looks, x=shifts, baselines={"the bin's centre": 8}, ax=ax)
ax.set_xlabel("the box moves to the right by ... pixels")
ax.set_ylabel("where the bin looks,\npixels from the box's left")

# %% tags=["nbval-check-output"]
aligned, pooled = looks["RoIAlign"], looks["RoIPool"]
print(f"RoIAlign is off by {np.abs(aligned - 8).max():.1f} pixels at most")
between = f"from {pooled.min():.1f} to {pooled.max():.1f}"
print(f"RoIPool: {between} pixels from the box's left; right would be 8.0")

# %% [markdown]
# RoIPool's line has the teeth, and it also lies too high: on this map the maximum of a bin is the value of its last
# cell. A net can learn to correct a constant shift like this one. No net can learn to correct the teeth: the features
# do not say where in its cell the box began.
#
# How much accuracy does the rounding cost? Below are the paper's own figures for masks on COCO (its table 2c:
# ResNet-50-C4, one map of stride 16). RoIWarp (Dai et al., 2016) interpolates as well, but in a box that was rounded
# first.

# %%
paper = pd.DataFrame(
    [
        ("RoIPool", "max", 26.9, 48.8, 26.4),
        ("RoIWarp", "max", 27.2, 49.2, 27.1),
        ("RoIWarp", "average", 27.1, 48.9, 27.1),
        ("RoIAlign", "max", 30.2, 51.0, 31.8),
        ("RoIAlign", "average", 30.3, 51.2, 31.5),
    ],
    columns=["layer", "bins are", "AP", "AP50", "AP75"],
).set_index(["layer", "bins are"])
gains = 100 * (paper.loc[("RoIAlign", "max")] / paper.loc[("RoIPool", "max")] - 1)
gained = ", ".join(f"{name} +{gain:.0f} %" for name, gain in gains.items())
print("RoIAlign (max) over RoIPool:", gained)
paper

# %% [markdown]
# Interpolation alone does not help much: RoIWarp interpolates, and its AP is only .2 or .3 points above that of
# RoIPool. What helps is not to round. The gain depends on the IoU that a mask must reach. It is small where an IoU of
# .5 is enough (AP50), and it is a fifth where the mask must fit better (AP75). Below we train mask branches and
# measure the same.
#
# ## The mask branch
#
# The branch sees features of 14 × 14 bins. A few 3 × 3 convolutions follow, then one transposed convolution that doubles
# the size, and a 1 × 1 convolution. It gives 28 × 28 logits, **one mask for each class**. The paper's branch has four
# convolutions of 256 filters; ours has two of 64.

# %%
shape = (image_size, image_size, 3)
published = mask_rcnn.mask_head((14, 14, 256), 80)
plots.block_diagram(published, title="The paper's branch for COCO's 80 classes")
print(f"{published.count_params():,} parameters")

# %% [markdown]
# Why a mask for each class, and not one softmax over the classes for each pixel, as in topic 07? Because the class
# branch already says the class. The mask branch answers 80 yes-or-no questions ("if this is a dog, which pixels are
# dog?"), and the class branch picks one of the answers. The classes do not compete for a pixel, so the mask branch
# need not find out again what the class branch knows. With a softmax over the classes the paper's AP falls from 30.3
# to 24.8 (its table 2b).
#
# In training, a RoI on an object of class k has a loss on mask k alone: binary cross-entropy, the mean over its pixels.
# RoIs on background have no mask loss.
#
# ## Mask targets
#
# What should the 28 × 28 pixels say? The RoI is not the true box, only close to it. So the target is the part of the
# true mask that lies *in the RoI*. RoIAlign cuts this part out. Its input is now the true mask, which is a map of
# stride 1. Pixels of the object outside the RoI are lost.

# %%
true_box, true_mask = test_set["boxes"][one, largest], test_set["masks"][one, largest]
width, height = true_box[2:] - true_box[:2]
changes = [[0, 0, 0, 0], [-5, -4, 6, 3], [0.3 * width, 0.2 * height, 6, 3]]
rois = true_box + np.float32(changes)
given = true_mask[None, None], rois[None], np.zeros((1, 3), "int32")  # all of object 0
targets = ops.convert_to_numpy(mask_rcnn.mask_targets(*given, 28))[0]

# %%
_, axes = plt.subplots(1, 4, figsize=(8, 2.4))
colours = [plots.BLUE, plots.VERMILLION, plots.GREEN]
plots.show_boxes(image, rois, colours, title="three RoIs", ax=axes[0])
texts = ("blue: the true box", "orange: larger", "green: cuts it off")
for ax, target, text in zip(axes[1:], targets, texts):
    ax.imshow(target, cmap="cividis", vmin=0, vmax=1)
    ax.set_title(text, fontsize=10)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)

# %% [markdown]
# ## Pasting
#
# At test we go the other way: the 28 × 28 mask is enlarged to the size of its box and laid on the image. The order
# matters: **enlarge the soft mask, then cut at .5**. The soft values say where in a small pixel the outline runs. If
# we cut first, we throw this away.
#
# The arithmetic is RoIAlign's, in the other direction. The centre of the image's column x lies at
# (x + .5 − left) / width · 28 − .5 in small pixels, and takes its value from the two small pixels around it. One matrix
# does this for the columns and one for the rows: the enlarged mask is rows · mask · columnsᵀ.

# %%
small = targets[:1]
enlarged = mask_rcnn.enlarge(small[None], true_box[None, None], *shape[:2])
enlarged = ops.convert_to_numpy(enlarged)[0, 0]
plots.pasting_steps(image, true_box, small[0], enlarged, enlarged >= 0.5)

# %% [markdown]
# How good would the masks be if the branch made no error? We cut the true masks out of their own boxes at several
# sizes, paste them back, and compare them with the true masks. If the mean IoU is below 1, this is the price of the
# small size. We paste in four ways: *bilinear* and *bicubic* interpolation of the soft mask; *hard*, which cuts at .5
# before it interpolates; and *nearest*, which does not interpolate.


# %%
def pasted(masks, boxes, way):
    """Masks (N, s, s) laid on images, changed before in one of four ways."""
    large = 8 * masks.shape[-1]
    if way == "bicubic":  # enlarged eight times
        masks = ops.image.resize(masks[..., None], (large, large), interpolation=way)
        masks = ops.convert_to_numpy(masks)[..., 0]
    elif way == "hard":  # cut first
        masks = (masks >= 0.5).astype("float32")
    elif way == "nearest":
        masks = masks.repeat(8, axis=1).repeat(8, axis=2)
    laid = mask_rcnn.paste(masks[:, None], boxes[:, None], *shape[:2])
    return ops.convert_to_numpy(laid)[:, 0]


def iou_of(a, b):
    """IoU of each mask with its partner (N,)."""
    either = (a | b).sum(axis=(1, 2))
    return (a & b).sum(axis=(1, 2)) / np.maximum(either, 1)


# %%
masks, boxes = (test_set[key][there][:150] for key in ("masks", "boxes"))
first = np.zeros((len(masks), 1), "int32")  # each mask stands alone
ways, ceiling = ("bilinear", "bicubic", "hard", "nearest"), {}
for size in (7, 14, 28, 56):
    cut = mask_rcnn.mask_targets(masks[:, None], boxes[:, None], first, size)
    cut = ops.convert_to_numpy(cut)[:, 0]
    for way in ways:
        overlap = iou_of(pasted(cut, boxes, way), masks > 0).mean()
        ceiling.setdefault(way, []).append(overlap)

# %%
figure, ax = plt.subplots(figsize=(6, 3.2))
plots.curves(ceiling, x=(7, 14, 28, 56), log_x=True, ax=ax)
ax.set(xticks=(7, 14, 28, 56), xticklabels=("7", "14", "28", "56"))
ax.set(xlabel="side of the small mask", ylabel="mean IoU")
ax.minorticks_off()
of_14 = {way: values[1] for way, values in ceiling.items()}
record(ceiling_14=of_14["bilinear"], hard_14=of_14["hard"], bicubic_14=of_14["bicubic"])
record(ceiling_28=ceiling["bilinear"][2])

# %% [markdown]
# At small sizes both steps matter: to interpolate, and to cut last. *Nearest* and *hard* leave one of them out and
# fall behind. The kind of interpolation matters less. On the drawn shapes bicubic interpolation is worse than bilinear
# with 7 × 7 and 14 × 14, and better by less than .001 with 28 × 28.
#
# The drawn objects are at most 50 pixels large, so masks of 28 × 28 lose little. In an object of 400 pixels, one pixel
# of the small mask covers 14 × 14 pixels of the image, and fine parts of the outline are lost. PointRend (Kirillov et
# al., 2020) asks the net again at points where the soft mask is near .5, and only there.
#
# ## Training
#
# The loss is a sum of up to six terms: the four of Faster R-CNN, that of the masks, and, if the data has keypoints,
# that of the keypoints. The box branch learns from 48 RoIs of each image. At most 12 of them lie on objects, and the
# two new branches learn from those only.


# %%
points = description.keypoints  # in a mirror, right and left change their names
twins = {name: name.replace("right", "left") for name in points if "right" in name}
pairs = [(points.index(a), points.index(b)) for a, b in twins.items() if b in points]
flip = augmentation.Flip(keypoint_pairs=pairs, seed=seed)
batches = training.drawn_batches(train_set, 16, seed, flip)  # half the images mirrored

# %%
weights = "imagenet" if hasattr(keras.applications, network) else None
options = {"levels": (level,), "sizes": [sizes]}
options |= {"proposals": proposals, "candidates": 2 * proposals}
keras.utils.set_random_seed(seed)
options |= {"weights": weights, "keypoints": kinds}
net = mask_rcnn.small(len(names), shape, network, **options)
of_masks = net.mask_head.count_params()
print(f"{net.count_params():,} parameters, of them {of_masks:,} for the masks")

# %%
ten = min(10, steps)
schedule = training.WarmupHoldDecay(rate, steps, warmup=steps // 10)
net.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0))
options = {"steps_per_epoch": ten, "epochs": steps // ten}
curves = net.fit(batches, shuffle=False, verbose=0, **options).history

# %%
at = ten * np.arange(1, len(curves["loss"]) + 1)
parts = {name.replace("_", " "): curves[name] for name in net.loss_names}
ax = plots.curves(parts, x=at, xlabel="step", ylabel="loss", log_y=True)
_ = ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))

# %% [markdown]
# ### Mask AP
#
# Average precision is that of topic 08 with one change: the IoU is now that of two *masks*, pixels in both over pixels in
# either. The baseline is the filled box: the mask that every detector gives without a mask branch.


# %%
def judged(found, kind):
    """COCO's figures on the test images."""
    return evaluation.evaluate(found, test_set, kind=kind, classes=len(names))


def filled(found):
    """The detections, with their boxes for masks."""
    masks = np.zeros((*found["labels"].shape, *shape[:2]), bool)
    for image, place in np.argwhere(found["labels"] >= 0):
        left, top, right, bottom = found["boxes"][image, place].round().astype(int)
        masks[image, place, top:bottom, left:right] = True
    return found | {"masks": masks}


# %%
found = net.detect(test_set["image"], max_detections=kept)
figures = {
    "boxes": judged(found, "bbox"),
    "masks": judged(found, "segm"),
    "filled boxes": judged(filled(found), "segm"),
}
table = pd.DataFrame(figures, index=["AP", "AP50", "AP75"]).T.astype(float)
record(box_ap=table.AP["boxes"], mask_ap=table.AP["masks"])
record(mask_ap50=table.AP50["masks"], mask_ap75=table.AP75["masks"])
record(filled_ap=table.AP["filled boxes"], filled_ap50=table.AP50["filled boxes"])
record(filled_ap75=table.AP75["filled boxes"])
table.round(3)

# %%
shown = {key: values[:8] for key, values in found.items() if key != "keypoints"}
shown["labels"] = np.where(shown["scores"] > 0.5, shown["labels"], -1)
plots.show_objects(test_set["image"][:8], shown, classes=names)

# %% [markdown]
# How much the mask branch is worth depends on the IoU that is asked for. Where .5 is enough (AP50), a filled box still
# passes as the mask of many objects; where .75 is asked for (AP75), it rarely does. On the drawn shapes the AP of the
# boxes is higher than that of the masks: a mask has to be right along its whole outline.
#
# ## Which boxes get a mask, and when
#
# In training the mask branch runs beside the box branch, on the same RoIs. At test it runs **after** it. First the box
# branch moves the proposals and gives them classes. Then suppression leaves the best 100 at most. Only these boxes get
# a mask. That is faster, since there are fewer boxes. It should also be better, since the moved boxes fit their
# objects better. We measure both with the same net. In the other order, each detection gets the mask of the *proposal*
# that it came from, pasted into that proposal.


# %%
def in_parallel(images):
    """Detections whose masks were made of the proposals, before the boxes moved."""
    outputs = net(images, training=False)
    found = nms.select(*net.boxes_and_scores(outputs), 0.05, 0.5, kept)
    logits = net.mask_logits(outputs["maps"], outputs["rois"])  # of every proposal
    at = ops.maximum(found["indices"], 0)[..., None]
    rois = ops.take_along_axis(outputs["rois"], at, axis=1)
    own = ops.take_along_axis(ops.sigmoid(logits), at[..., None, None], axis=1)
    soft = mask_rcnn.masks_of_class(own, found["labels"])
    found["masks"] = mask_rcnn.paste(soft, rois, *shape[:2])
    return keras.tree.map_structure(ops.convert_to_numpy, found)


pixels = test_set["image"]
answers = [in_parallel(pixels[begin : begin + 5]) for begin in range(0, len(there), 5)]
parallel = {key: np.concatenate([part[key] for part in answers]) for key in answers[0]}
parallel_ap = judged(parallel, "segm")["AP"]


# %%
def milliseconds(boxes):
    """Median CPU milliseconds of the masks of these boxes, after a first answer."""
    times = []
    for _ in range(timed + 1):
        began = time.process_time()
        ops.convert_to_numpy(net.mask_logits(maps, boxes))
        times.append(1000 * (time.process_time() - began))
    return float(np.median(times[1:]))


outputs = net(pixels[:1], training=False)
maps, rois = outputs["maps"], outputs["rois"]
ten_boxes = ops.convert_to_tensor(found["boxes"][:1, :10])
cost = {
    f"{rois.shape[1]} proposals": milliseconds(rois),
    "10 detections": milliseconds(ten_boxes),
}

# %%
own_ap = table.AP["masks"]
figure, axes = plt.subplots(1, 2, figsize=(8, 1.8), width_ratios=(4, 3))
figure.set_layout_engine("constrained")
plots.bars(cost, xlabel="CPU milliseconds of the mask branch", ax=axes[0])
both = {"detections' masks": own_ap, "proposals' masks": parallel_ap}
plots.bars(both, xlabel="mask AP", ax=axes[1])
record(parallel_ap=parallel_ap, order_gain=own_ap - parallel_ap)
record(order_time=cost["10 detections"] / max(cost.values()))

# %% [markdown]
# The paper's order is better: in three runs its mask AP was .03 to .05 higher, since the moved boxes fit their objects
# better than the proposals did. It is also cheaper: ten detections need fewer masks than all proposals.
#
# ## RoIAlign against RoIPool, trained
#
# What does rounding cost a *trained* mask branch? The paper trains whole nets. We keep everything but the mask branch
# the same, so that several seeds are affordable:
#
# - **Features**: the pretrained backbone, frozen. It was never trained with either layer. Its map of stride 8 is
#   averaged over 2 × 2 cells for a stride of 16, and over 4 × 4 for 32. So the three maps come from the same features,
#   in larger and larger cells.
# - **Training**: we move each side of the true boxes by up to a twentieth of the box's width or height, and cut
#   features of 7 × 7 bins out, once by RoIPool and once by RoIAlign. A small branch learns masks of 14 × 14, one for
#   all classes. The seed draws its first weights, the moves and the order of the examples.
# - **Test**: every branch gets the detections of the net above, with their boxes, classes and scores. So if AP differs,
#   the masks differ.
#
# We expect that RoIAlign is ahead at every stride. Does its lead grow with the stride? Larger cells move a corner
# farther. But the features of larger cells know less about places, so there is less that rounding could destroy.

# %%
frozen = backbone(network, shape, levels=[3], weights=weights)
taught = {key: values[:paired] for key, values in train_set.items()}
finest = frozen.predict(taught["image"], batch_size=16, verbose=0)
test_finest = frozen.predict(pixels, batch_size=16, verbose=0)


def regions(maps, boxes, stride, layer):
    """Features (B, N, 7, 7, C) of boxes (B, N, 4), of maps averaged to this stride."""
    parts, cells = [], stride // 8
    for begin in range(0, len(boxes), 16):
        rows = slice(begin, begin + 16)
        coarse = ops.average_pool(maps[rows], cells, cells)
        cut = layer(coarse, boxes[rows], 7, 1 / stride)
        parts.append(ops.convert_to_numpy(cut))
    return np.concatenate(parts)


# %%
def examples(stride, layer, rng):
    """Features of true boxes, a little moved, and the masks (N, 14, 14, 1) to learn."""
    boxes, real = taught["boxes"], taught["labels"] >= 0
    moves = rng.uniform(-0.05, 0.05, boxes.shape)
    moves *= np.tile(boxes[..., 2:] - boxes[..., :2], 2)
    rois = (boxes + moves).astype("float32")
    masks = taught["masks"][real][:, None]  # each stands alone: (N, 1, H, W)
    first = np.zeros((len(masks), 1), "int32")
    targets = mask_rcnn.mask_targets(masks, rois[real][:, None], first, 14)
    features = regions(finest, rois, stride, layer)[real]
    return features, ops.convert_to_numpy(targets)[:, 0, ..., None]


def branch(features, targets):
    """A mask branch, trained on frozen features."""
    head = mask_rcnn.mask_head(features.shape[1:], 1, (32, 32))
    count = pair_epochs * -(-len(features) // 32)
    schedule = training.WarmupHoldDecay(2e-3, count, warmup=count // 10)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    head.compile(keras.optimizers.AdamW(schedule), loss, jit_compile=False)
    head.fit(features, targets, batch_size=32, epochs=pair_epochs, verbose=0)
    return head


# %%
def mask_ap75(stride, layer, number):
    """AP75 on the test images, of a branch with the seed `number`."""
    keras.utils.set_random_seed(number)
    head = branch(*examples(stride, layer, np.random.default_rng(number)))
    cut = regions(test_finest, found["boxes"], stride, layer)  # (B, K, 7, 7, C)
    logits = head.predict(cut.reshape(-1, *cut.shape[2:]), batch_size=256, verbose=0)
    soft = ops.sigmoid(logits.reshape(*cut.shape[:2], 14, 14))
    masks = mask_rcnn.paste(soft, found["boxes"], *shape[:2])
    return judged(found | {"masks": ops.convert_to_numpy(masks)}, "segm")["AP75"]


strides, measured = (8, 16, 32), {"RoIPool": [], "RoIAlign": []}
for number in range(10 * seed, 10 * seed + repeats):
    for name, layer in (("RoIPool", roi.roi_pool), ("RoIAlign", roi.roi_align)):
        measured[name].append([mask_ap75(stride, layer, number) for stride in strides])

# %%
figure, ax = plt.subplots(figsize=(6, 3.2))
for shift, (name, rows), colour in zip((-0.08, 0.08), measured.items(), plots.PALETTE):
    at = np.arange(len(strides)) + shift
    ax.plot(np.tile(at, (len(rows), 1)), rows, "o", color=colour, alpha=0.6)
    ax.plot(at, np.mean(rows, axis=0), "_", color=colour, markersize=20, label=name)
ax.set_xticks(range(len(strides)), [f"stride {stride}" for stride in strides])
ax.set(ylabel="AP75 of masks", ylim=(0, None))
ax.legend(fontsize=9, title="a dot for each seed, a line for the mean")

# %%
pooled, aligned = (np.array(measured[name]) for name in ("RoIPool", "RoIAlign"))
for column, stride in enumerate(strides):
    before, after = pooled[:, column], aligned[:, column]
    print(f"stride {stride}: {before.mean():.3f} pooled, {after.mean():.3f} aligned")
gains = aligned.mean(axis=0) - pooled.mean(axis=0)
record(pool_ap75_8=pooled[:, 0].mean(), align_ap75_8=aligned[:, 0].mean())
record(align_gain_8=gains[0], align_gain_16=gains[1], align_gain_32=gains[2])
record(align_gain_least=(aligned.min(axis=0) - pooled.max(axis=0)).min())
# %% [markdown]
# We ran this lecture with three seeds. In each run RoIAlign was ahead at every stride: its worst branch had a higher
# AP75 than RoIPool's best one. The lead did not grow with the stride. It was .16 to .19 at stride 8, .10 to .11 at
# stride 16, and .07 to .09 at stride 32. A likely reason: rounding can destroy only what the features know about
# places, and averaged features know less. In the paper's whole nets the lead does grow. RoIAlign raises AP75 from 26.4
# to 31.8 at stride 16, and from 21.6 to 32.1 at stride 32 (its tables 2c and 2d) [paper]. There the whole net was
# trained, so its deep map could learn to keep places.
#
# ## Keypoints
#
# A keypoint is a mask with a single pixel. The branch gives one map for each kind of keypoint. In the paper, eight
# convolutions work on 14 × 14 features, a transposed convolution doubles the size to 28 × 28, and bilinear interpolation
# doubles it again to 56 × 56. Exactly one place of a map is right, so the softmax runs over all *places*: a classifier
# with 56 · 56 = 3,136 classes for each of 17 points.
#
# > **What the slide says.** "The keypoint head gives 28 × 28 × 17." That is the size before the last step. The paper
# > enlarges to 56 × 56, since keypoints need a higher resolution than masks.
#
# The drawn shapes have keypoints: a centre, and the corners, tips or outermost points of the outline, each with a name
# such as "top" or "lower left". The target is the bin in which the point lies, and the answer is the centre of a bin.
# So even a branch without errors is off by up to half a bin along each axis. In a box of 40 pixels with 56 bins this
# is up to 40 / 56 / 2 = .36 pixels.

# %%
points_of = data.arrays("shapes", "test[:40]", target="boxes")[1]
real = points_of["labels"] >= 0
boxes, true = points_of["boxes"], points_of["keypoints"]
own = np.broadcast_to(np.arange(real.shape[1], dtype="int32"), real.shape)
off = {}
for size in (14, 28, 56):
    bins, inside = mask_rcnn.keypoint_targets(true, boxes, own, size)
    logits = 30 * ops.one_hot(bins, size * size)  # a branch without errors
    logits = ops.reshape(ops.swapaxes(logits, 2, 3), (*real.shape, size, size, -1))
    decoded = ops.convert_to_numpy(mask_rcnn.decode_keypoints(logits, boxes))
    error = np.linalg.norm((decoded - true)[..., :2], axis=-1)
    visible = ops.convert_to_numpy(inside) & real[..., None]
    off[f"{size} x {size}"] = error[visible].mean()
plots.bars(off, xlabel="mean distance in pixels: the error of the bins alone")

# %%
if kinds:
    labels = np.where(found["scores"] > 0.5, found["labels"], -1)[:4]
    points = found["keypoints"][:4].copy()
    points[..., 2] = np.where(points[..., 2] > 0.05, 2, 0)
    given = {"labels": labels, "keypoints": points}
    plots.show_objects(pixels[:4], **given, classes=names)
else:
    print(f"{source} has no keypoints: this net has learnt none")

# %% [markdown]
# Each map has a highest place, even for a point that the object does not have: a square has no "lower left" point, only
# a top, a right, a left and a bottom one. There the softmax should spread, so that the score, which is the probability
# of the best place, is small. The picture leaves out scores below .05.
#
# How far off is the branch on visible points? We give it the true boxes, so that only its own error counts.


# %%
def distances(rows):
    """How far the branch is off, for each visible keypoint of some test images."""
    boxes, true = test_set["boxes"][rows], test_set["keypoints"][rows]
    maps = net.network(pixels[rows], training=False)["maps"]
    told = mask_rcnn.decode_keypoints(net.keypoint_logits(maps, boxes), boxes)
    error = np.linalg.norm((ops.convert_to_numpy(told) - true)[..., :2], axis=-1)
    return error[true[..., 2] > 1]


off = np.zeros(1)
if kinds:
    starts = range(0, len(there), 10)
    off = np.concatenate([distances(slice(start, start + 10)) for start in starts])
    figure, ax = plt.subplots(figsize=(6, 2.6))
    ax.hist(np.clip(off, 0, 15), bins=30, color=plots.BLUE)
    ax.set(xlabel="pixels from the true keypoint (15 and more at the end)")
    ax.set(ylabel="keypoints")
    print(f"half of the points lie within {np.median(off):.1f} pixels")
record(keypoint_error=np.median(off), keypoint_far=(off > 5).mean())

# %% [markdown]
# In three runs half of the points lay within a pixel of the truth, and about a tenth were off by more than five. The
# bar at the right end holds points that are wrong by 15 pixels or more. A likely cause: "top" is the corner nearest to
# straight up, and in a square with nearly level sides two corners are almost equally near. Then the branch may choose
# the wrong one.
#
# ## What came after
#
# *Things* can be counted (cars, people), *stuff* cannot (sky, road). **Panoptic segmentation** (Kirillov et al., 2019)
# asks for both at once: every pixel has a class, a pixel of a thing has the number of its object too, and no two masks
# overlap. Its measure, panoptic quality, is the mean IoU of the matched segments times the F1 score of the matching.
#
# **Mask2Former** (Cheng et al., 2022) has no anchors, no boxes and no suppression. A hundred learnt queries look at
# the pixels' features through attention, each only inside the mask that it gave one layer before. Each query answers
# with a class and a mask. When it appeared, this one architecture, trained anew for each task, was the best in
# semantic, instance and panoptic segmentation [paper].
#
# **Segment Anything** (SAM; Kirillov et al., 2023) is asked with points or boxes and answers with masks, without a
# class. Its encoder sees the image once, and its small decoder then answers each prompt in about 50 milliseconds
# [paper]. It was trained on 1.1 billion masks; earlier versions of the model had drawn 99 % of them [paper].
#
# | | year | from what | gives | classes compete? |
# |---|---|---|---|---|
# | DeepMask | 2015 | windows | a mask and a score for each window | no class |
# | Mask R-CNN | 2017 | boxes of a detector | a mask for each box and class | no |
# | Panoptic FPN | 2019 | boxes, and a semantic branch on the same pyramid | things and stuff | for stuff |
# | Mask2Former | 2022 | learnt queries | a class and a mask for each query | between queries |
# | SAM | 2023 | prompts: points, boxes | masks | no class |
#
# ## Summary
#
# You can now
#
# - measure masks by AP, and know what a filled box scores;
# - explain with a ramp of numbers what RoIPool rounds away, and where RoIAlign reads the map;
# - give each RoI the part of the true mask that it can see, and paste a small soft mask back into the image;
# - say why the mask branch runs after the box branch at test, and show what that gains;
# - use the same kind of branch for keypoints, with a softmax over places.
#
# So far every network took an image and gave classes, boxes or masks. The block of convolutions itself does not ask
# for this. Topic 12 gives it other inputs and other outputs.
#
# ## Exercises
#
# 1. (easy) Set `kept` to 3. What happens to mask AP, and to the time? *Hint: how many objects has an image at most?*
# 2. (medium) In the test with the ramp, read one point in each bin (`samples=1` in `roi.roi_align`), then 3 × 3
#    points. What changes? Repeat it with random numbers as the map. *Hint: on a ramp, bilinear interpolation gives the
#    exact value at every point between the centres.*
# 3. (medium) Train the mask branch with a softmax over classes in the place of the sigmoids. *Hint: a subclass of
#    `MaskRCNN` with its own `losses_of` for training and its own `soft_masks` for the test.*
# 4. (hard) What does a feature pyramid gain on small objects (`source="shapes/small"`)? *Hint: give `mask_rcnn.small`
#    the options `levels=(2, 3, 4), channels=64, canonical=40` and, for `sizes`, a list of anchor sizes for each of the
#    three maps, all of one length.*
#
# ## Further reading
#
# - K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN*, ICCV 2017.
# - P. Pinheiro, R. Collobert, P. Dollár, *Learning to segment object candidates*, NIPS 2015.
# - J. Dai, K. He, J. Sun, *Instance-aware semantic segmentation via multi-task network cascades*, CVPR 2016.
# - A. Kirillov, K. He, R. Girshick, C. Rother, P. Dollár, *Panoptic segmentation*, CVPR 2019.
# - A. Kirillov, R. Girshick, K. He, P. Dollár, *Panoptic feature pyramid networks*, CVPR 2019.
# - A. Kirillov, Y. Wu, K. He, R. Girshick, *PointRend: image segmentation as rendering*, CVPR 2020.
# - B. Cheng, I. Misra, A. Schwing, A. Kirillov, R. Girdhar, *Masked-attention mask transformer for universal image
#   segmentation*, CVPR 2022.
# - A. Kirillov et al., *Segment anything*, ICCV 2023.
