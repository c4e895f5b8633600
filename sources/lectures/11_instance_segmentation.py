# %% [markdown]
# # 11 Instance segmentation
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/11_instance_segmentation.ipynb)
#
# **Two stars touch. Which pixels belong to which?** A detector draws a box around each, and many pixels of a star's box
# belong to no star. A semantic segmenter names every pixel's class, and the two stars become one region. Instance
# segmentation wants a mask for *each object*. Mask R-CNN adds one small branch to Faster R-CNN, and stops rounding boxes.
#
# You will be able to
#
# - tell instance from semantic segmentation, and measure it by mask AP;
# - say what RoIPool rounds away and RoIAlign keeps, on one box and in the accuracy of a trained net;
# - build the mask branch, its targets and its loss, and say why classes do not compete;
# - say which boxes get a mask at test and when, and measure what another order costs;
# - paste small soft masks into the image;
# - find keypoints with the same kind of branch.
#
# It takes about an hour and a half to read and four to six minutes to run.

# %% tags=["setup"]
# On Colab this installs the course; anywhere else it only looks whether the course is there.
import importlib.util
import pathlib
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("utils") is None:
    address = "git+https://github.com/convnets-for-vision/course@v0.1.0"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", address], check=True)
    importlib.invalidate_caches()
found = importlib.util.find_spec("utils")
if found is None:
    raise ImportError("the course is not installed here: see 'Two commands' in its README")
folders = list(found.submodule_search_locations or [])
if not any(pathlib.Path(folder, "session.py").is_file() for folder in folders):
    hiding = found.origin or folders[0]
    raise ImportError(f"{hiding} hides the course's own utils: rename it and restart the kernel")
_ = importlib.import_module("utils")

# %% tags=["parameters"]
seed: int = 0  # [0, ] where the random numbers of this notebook start
source: str = "shapes"  # a data set with instance masks, by name, or the path of a folder in COCO's form
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
image_size: int = 96  # [64, 1024] height and width that its images are brought to; a multiple of 32
stretch: bool = False  # whether each image is stretched to the full range of brightness, for dim photographs
most: int = 3000  # [16, ] training images, at most
tested: int = 150  # [4, ] test images, at most
network: str = "shapes"  # the backbone: the course's small one, or a network of keras.applications with its weights
sizes: list[float] = [16, 24, 36, 48]  # sides of the anchors, in pixels
kept: int = 20  # [1, 300] detections of an image, at most
rate: float = 1.5e-3  # [1e-6, 0.1] highest learning rate
steps: int = 300  # [2, 100000] steps of the net at stride 8
pair_steps: int = 150  # [2, 100000] steps of each of the two nets at stride 16, with RoIPool and with RoIAlign
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
from utils.data import shapes
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
    for first in range(len(scene.labels)):
        near = ndimage.binary_dilation(scene.masks[first] > 0, iterations=2)
        for second in range(first):
            if scene.labels[first] == scene.labels[second] and (near & (scene.masks[second] > 0)).any():
                return True
    return False


drawn = (shapes.scene(index, "test", config="crowded", image_size=(128, 128)) for index in range(300))
scene = next(one for one in drawn if touching(one))
shape_names = data.describe("shapes").classes

# %% tags=["thumbnail"]
figure, axes = plt.subplots(1, 3, figsize=(8, 3))
plots.draw_objects(scene.image, scene.boxes, scene.labels, classes=shape_names, names=False, ax=axes[0])
axes[1].imshow(coloured(scene.image, scene.mask))
plots.draw_objects(scene.image, None, np.arange(len(scene.labels)), scene.masks, names=False, ax=axes[2])
for ax, title in zip(axes, ["detection", "semantic segmentation", "instance segmentation"]):
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# > **What the slide says.** "Mask R-CNN: semantic segmentation." It is *instance* segmentation: it gives a mask for each
# > object that it detects, and says nothing about the ground, the sky or the road.
#
# There were two roads to instances. The first goes from segments to objects. DeepMask (Pinheiro, Collobert and Dollár,
# 2015) slides a net over the image. For each window the net gives one mask and one score: "is there an object, centred
# and whole?" A Fast R-CNN then names the segments. The mask comes first, before the class is known. The second road goes
# from objects to segments: find the boxes first, then say which pixels of each box belong to the object. **Mask R-CNN**
# (He et al., 2017) takes the second road. It is the Faster R-CNN of topic 10, with a third branch: beside "which class?"
# and "which box?" it asks "which pixels?".
#
# ## The data


# %%
def read(split):
    """Dict of images, boxes, labels, masks, and of what else the data has for its objects."""
    images, truth = data.arrays(source, split, image_size, channels=3, target="boxes", on_error=on_error)
    if "masks" not in truth:
        raise ValueError(f"this notebook needs a mask for each object: {source} has boxes without outlines")
    if stretch:
        low, high = np.percentile(images, (1, 99.8), axis=(1, 2, 3), keepdims=True)
        images = np.clip((images - low) * 255 / np.maximum(high - low, 1), 0, 255).astype("uint8")
    wanted = ("boxes", "labels", "masks", "ignored", "keypoints")
    return {"image": images} | {key: truth[key] for key in wanted if key in truth}


names = data.chosen(source, "boxes", on_error, classes=1).classes
train_set, test_set = read(f"train[:{most}]"), read(f"test[:{tested}]")
kinds = train_set["keypoints"].shape[2] if "keypoints" in train_set else 0
there = test_set["labels"] >= 0
print(f"{source}: {len(train_set['image']):,} training and {len(there):,} test images, {len(names)} classes")
print(f"{there.sum() / len(there):.1f} objects an image, {kinds} kinds of keypoints")

# %%
first = {key: values[:4] for key, values in test_set.items() if key != "keypoints"}
plots.show_objects(first.pop("image"), first, classes=names)

# %% [markdown]
# How much of its box does an object fill? If we answered with the whole box as its mask, the mask's IoU would be just
# that share.

# %%
sides = test_set["boxes"][..., 2:] - test_set["boxes"][..., :2]
share = test_set["masks"].sum(axis=(2, 3))[there] / np.prod(sides, axis=-1)[there]
by_class = {names[label]: share[test_set["labels"][there] == label] for label in range(len(names))}
plots.bars({name: values.mean() for name, values in by_class.items() if len(values)}, xlabel="share of its box")

# %% [markdown]
# ## RoIAlign
#
# The mask branch looks at the features in the box, so these must be cut out first. Fast R-CNN's **RoIPool** (topic 10)
# rounds twice: the box to whole cells of the map, and the borders of the bins to whole cells again. The class hardly
# suffers: a star moved by three pixels is a star. A mask moved by three pixels is wrong along its whole outline.
#
# How far can rounding move a corner? By half a cell. At a stride of 16 that is 8 pixels of the image. (The authors' code
# moves the right and the lower side by another whole cell: the cell to which they are rounded still belongs to the box.)
#
# **RoIAlign** rounds nothing. It puts 2 × 2 points into each bin, reads the map at each point by bilinear interpolation
# between the four nearest cells' centres, and takes the mean. In the figure, the red box is what was asked for, the blue
# one on the left the cells that RoIPool takes. On the right, white crosses are the cells' centres, blue dots the points.

# %%
one = int(np.argmax(there.sum(axis=1)))
image = test_set["image"][one]
largest = int(np.argmax(np.prod(sides[one], axis=-1)))
box = test_set["boxes"][one, largest] + np.float32([-2.5, -1.5, 2.5, 1.5])
stride = 16
cells = roi.whole_cells(box, stride)
_, axes = plt.subplots(1, 2, figsize=(7.5, 3.8))
plots.show_roi_pool(image, box, cells, stride, 3, "RoIPool: the cells that it takes", axes[0])
plots.show_roi_align(image, box, stride, 3, title="RoIAlign: the points that it reads", ax=axes[1])
for name, by in zip(("left", "top", "right", "bottom"), np.abs(cells - box)):
    print(f"RoIPool moves the {name} side by {by:.1f} pixels")

# %% [markdown]
# A test that needs no net: a map in which the value of each cell *is* the x of its centre. Each bin then says where it
# looks. We push a box of 48 pixels to the right, half a pixel at a time, and ask the left one of its 3 bins. The true
# centre of this bin always lies 8 pixels from the box's left side. So we expect a flat line from RoIAlign, and from
# RoIPool a sawtooth whose teeth are as high as a cell is wide.

# %%
side = 12
centres = (np.arange(side) + 0.5) * stride
ramp = np.broadcast_to(centres[None, None, :, None], (1, side, side, 1)).astype("float32")
shifts = np.arange(0, 48, 0.5)
moved = np.stack([[40 + s, 50, 88 + s, 98] for s in shifts]).astype("float32")[None]
aligned = ops.convert_to_numpy(roi.roi_align(ramp, moved, 3, 1 / stride))[0, :, 1, 0, 0] - moved[0, :, 0]
pooled = ops.convert_to_numpy(roi.roi_pool(ramp, moved, 3, 1 / stride))[0, :, 1, 0, 0] - moved[0, :, 0]
figure, ax = plt.subplots(figsize=(7, 3))
ax.plot(shifts, aligned, label="RoIAlign")
ax.plot(shifts, pooled, label="RoIPool")
ax.axhline(8, color=plots.GREY, linestyle="--", label="the bin's centre")
ax.set(xlabel="the box moves to the right by ... pixels", ylabel="where the bin looks,\npixels from the box's left")
ax.legend(fontsize=9)

# %% tags=["nbval-check-output"]
print(f"RoIAlign is off by {np.abs(aligned - 8).max():.1f} pixels at most")
print(f"RoIPool: from {pooled.min():.1f} to {pooled.max():.1f} pixels from the box's left, and 8.0 would be right")

# %% [markdown]
# RoIPool's line lies too high as well, since the maximum of a bin is here its last cell; but that alone would only shift
# the line. It is the teeth that no net can learn to correct: the features do not say where in its cell the box began.
#
# What is that worth? Below are the paper's own figures for masks on COCO (its table 2c: ResNet-50-C4, one map of stride
# 16). RoIWarp (Dai et al., 2016) interpolates as well, but in a box that was rounded first.

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
print("RoIAlign (max) over RoIPool:", ", ".join(f"{name} +{gain:.0f} %" for name, gain in gains.items()))
paper

# %% [markdown]
# Interpolation alone does not help much: RoIWarp interpolates, and its AP is .3 higher. What helps is not to round. And
# the gain depends on what is asked: it is small where half an overlap is enough (AP50), and a fifth where the mask must
# fit (AP75). Below we train two nets and measure the same.
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
# Why a mask for each class, and not one softmax over the classes for each pixel, as in topic 07? Because the class branch
# already says the class. The mask branch answers 80 yes-or-no questions ("if this is a dog, which pixels are dog?"), and
# the class branch picks one of the answers. The classes do not compete for a pixel, so the mask branch need not find out
# again what the class branch knows. With a softmax instead, the paper (table 2b) has an AP of 24.8 and not 30.3.
#
# In training, a RoI on an object of class k has a loss on mask k alone: binary cross-entropy, the mean over its pixels.
# RoIs on background have no mask loss.
#
# ## Mask targets
#
# What should the 28 × 28 pixels say? The RoI is not the true box, only close to it. So the target is the part of the true
# mask that lies *in the RoI*. RoIAlign cuts it out once more, now from the true mask, which is a map of stride 1. Pixels
# of the object outside the RoI are lost.

# %%
true_box = test_set["boxes"][one, largest]
width, height = true_box[2:] - true_box[:2]
rois = true_box + np.float32([[0, 0, 0, 0], [-5, -4, 6, 3], [0.3 * width, 0.2 * height, 6, 3]])
matched = np.full((1, 3), largest)
targets = ops.convert_to_numpy(mask_rcnn.mask_targets(test_set["masks"][one][None], rois[None], matched, 28))[0]
_, axes = plt.subplots(1, 4, figsize=(8, 2.4))
plots.show_boxes(image, rois, [plots.BLUE, plots.VERMILLION, plots.GREEN], title="three RoIs", ax=axes[0])
for ax, target, text in zip(axes[1:], targets, ["blue: the true box", "orange: larger", "green: cuts it off"]):
    ax.imshow(target, cmap="cividis", vmin=0, vmax=1)
    ax.set_title(text, fontsize=10)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)

# %% [markdown]
# ## Pasting
#
# At test we go the other way: the 28 × 28 mask is enlarged to the size of its box and laid on the image. The order
# matters: **enlarge the soft mask, then cut at .5**. The soft values say where in a small pixel the outline runs. If we
# cut first, the outline gets steps as large as the small pixels.
#
# The arithmetic is RoIAlign's, in the other direction. The centre of the image's column x lies at
# (x + .5 − left) / width · 28 − .5 in small pixels, and takes its value from the two small pixels around it. One matrix
# does this for the columns and one for the rows: the enlarged mask is rows · mask · columnsᵀ.

# %%
small = targets[:1]
enlarged = ops.convert_to_numpy(mask_rcnn.enlarge(small[None], true_box[None, None], *shape[:2]))[0, 0]
plots.pasting_steps(image, true_box, small[0], enlarged, enlarged >= 0.5)

# %% [markdown]
# How good would the masks be if the branch made no error? We cut the true masks out of their own boxes at several sizes,
# paste them back in four ways, and compare them with the true masks. What is missing to 1 is the price of the small size.


# %%
def pasted(masks, boxes, way):
    """Masks (N, s, s) of boxes (N, 4), pasted: "bilinear", "bicubic", "hard" (cut first) or "nearest"."""
    if way == "bicubic":  # enlarged eight times by bicubic interpolation, then laid on the image
        large = 8 * masks.shape[-1]
        masks = ops.image.resize(masks[..., None], (large, large), interpolation="bicubic")
        masks = ops.convert_to_numpy(masks)[..., 0]
    elif way == "hard":
        masks = (masks >= 0.5).astype("float32")
    elif way == "nearest":
        masks = masks.repeat(8, axis=1).repeat(8, axis=2)
    return ops.convert_to_numpy(mask_rcnn.paste(masks[:, None], boxes[:, None], *shape[:2]))[:, 0]


def iou_of(a, b):
    """IoU of each mask with its partner (N,)."""
    return (a & b).sum(axis=(1, 2)) / np.maximum((a | b).sum(axis=(1, 2)), 1)


# %%
few = slice(0, min(60, len(there)))
every = np.broadcast_to(np.arange(there.shape[1], dtype="int32"), there[few].shape)
truth, true_boxes = test_set["masks"][few][there[few]] > 0, test_set["boxes"][few][there[few]]
ways, ceiling = ("bilinear", "bicubic", "hard", "nearest"), {}
for size in (7, 14, 28, 56):
    cut = mask_rcnn.mask_targets(test_set["masks"][few], test_set["boxes"][few], every, size)
    cut = ops.convert_to_numpy(cut)[there[few]]
    ceiling[size] = {way: iou_of(pasted(cut, true_boxes, way), truth).mean() for way in ways}

# %%
table = pd.DataFrame(ceiling).T
figure, ax = plt.subplots(figsize=(6, 3.2))
for way, colour in zip(ways, plots.PALETTE):
    ax.plot(table.index, table[way], "o-", color=colour, label=way)
ax.set(xscale="log", xticks=table.index, xticklabels=table.index, xlabel="side of the small mask", ylabel="mean IoU")
ax.minorticks_off()
ax.legend(fontsize=9)
record(ceiling_14=table.loc[14, "bilinear"], ceiling_28=table.loc[28, "bilinear"], hard_14=table.loc[14, "hard"])
soft_gain = table.loc[14, "bilinear"] - table.loc[14, "hard"]
print(f"14 x 14: cutting last instead of first is worth {soft_gain:.3f}")
print(f"14 x 14: bicubic instead of bilinear is worth {table.loc[14, 'bicubic'] - table.loc[14, 'bilinear']:.3f}")

# %% [markdown]
# Cutting last matters more than the kind of interpolation: bilinear is enough, and bicubic gains nothing here.
#
# The objects here are twenty to fifty pixels large, so masks of 28 × 28 lose little. In an object of 400 pixels, one pixel
# of the small mask covers 14 × 14 pixels of the image, and fine parts of the outline are lost. PointRend (Kirillov et
# al., 2020) asks the net again at points where the soft mask is near .5, and only there.
#
# ## Training
#
# The loss is a sum of up to six: the four of Faster R-CNN, that of the masks, and that of the keypoints if the data has
# them. The box branch learns from 48 RoIs of an image. At most 12 of them lie on objects, and the two new branches learn
# from those only.


# %%
def mirrored(batch, rng):
    """The batch, half of its images mirrored, with their boxes and masks. (Not for keypoints: left would be right.)"""
    turned = rng.random(len(batch["image"])) < 0.5
    batch = batch | {key: batch[key].copy() for key in ("image", "boxes", "masks")}
    batch["image"][turned] = batch["image"][turned][:, :, ::-1]
    batch["masks"][turned] = batch["masks"][turned][..., ::-1]
    left, top, right, bottom = np.moveaxis(batch["boxes"][turned], -1, 0)
    batch["boxes"][turned] = np.stack([image_size - right, top, image_size - left, bottom], axis=-1)
    return batch


def train(net, count):
    """So many steps on 16 images each; returns the losses, part by part, every 50 steps."""
    schedule = training.WarmupHoldDecay(rate, count, warmup=count // 10)
    net.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0))
    rng, curves = np.random.default_rng(seed), {}
    for first_step in range(0, count, 50):
        rows = rng.integers(len(train_set["image"]), size=16 * min(50, count - first_step))
        batch = {key: values[rows] for key, values in train_set.items()}
        batch = batch if kinds else mirrored(batch, rng)
        for name, values in net.fit(batch, batch_size=16, shuffle=False, verbose=0).history.items():
            curves.setdefault(name, []).extend(values)
    return curves


# %%
known = hasattr(keras.applications, network)  # then its ImageNet weights are taken
options = {"weights": "imagenet" if known else None, "sizes": [sizes]}
keras.utils.set_random_seed(seed)
net = mask_rcnn.small(len(names), shape, network, keypoints=kinds, **options)
print(f"{net.count_params():,} parameters, of them {net.mask_head.count_params():,} for the masks")
curves = train(net, steps)
at = np.minimum(50 * np.arange(1, len(curves["loss"]) + 1), steps)
parts = {name.replace("_", " "): values for name, values in curves.items() if name != "loss"}
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


found = net.detect(test_set["image"], max_detections=kept)
figures = {
    "boxes": judged(found, "bbox"),
    "masks": judged(found, "segm"),
    "filled boxes": judged(filled(found), "segm"),
}
pd.DataFrame({name: {key: row[key] for key in ("AP", "AP50", "AP75")} for name, row in figures.items()}).T.round(3)

# %%
record(box_ap=figures["boxes"]["AP"], mask_ap=figures["masks"]["AP"], mask_ap50=figures["masks"]["AP50"])
record(filled_ap=figures["filled boxes"]["AP"])
shown = {key: values[:8] for key, values in found.items() if key != "keypoints"}
shown["labels"] = np.where(shown["scores"] > 0.5, shown["labels"], -1)
plots.show_objects(test_set["image"][:8], shown, classes=names)

# %% [markdown]
# With seed 0 the masks have an AP of .54, the filled boxes .12. The difference depends on what is asked: a filled box
# still passes for half of AP50 (.46 against .85), and hardly ever for AP75 (.06 against .59). The boxes themselves are
# ahead of the masks (.65): a mask has to be right along its whole outline.
#
# ## Which boxes get a mask, and when
#
# In training the mask branch runs beside the box branch, on the same RoIs. At test it runs **after** it. First the box
# branch moves the proposals and names them; then suppression leaves the best 100 at most; only these boxes get a mask.
# That is faster, since there are fewer boxes. It should also be better, since the moved boxes lie better. We measure
# both with the same net. For comparison, a detection gets the mask of the *proposal* that it came from, pasted into that
# proposal.


# %%
def in_parallel(images):
    """Detections whose masks were made of the proposals, before the boxes moved."""
    outputs = net(images, training=False)
    boxes, scores = net.boxes_and_scores(outputs)
    found = nms.select(boxes, scores, 0.05, 0.5, kept)
    logits = net.mask_logits(outputs["maps"], outputs["rois"])  # of every proposal
    at = ops.maximum(found["indices"], 0)
    rois = ops.take_along_axis(outputs["rois"], at[..., None], axis=1)
    own = ops.take_along_axis(ops.sigmoid(logits), at[..., None, None, None], axis=1)
    soft = mask_rcnn.masks_of_class(own, found["labels"])
    return found | {"masks": mask_rcnn.paste(soft, rois, *shape[:2])}


batches = [test_set["image"][begin : begin + 10] for begin in range(0, len(there), 10)]
answers = [keras.tree.map_structure(ops.convert_to_numpy, in_parallel(batch)) for batch in batches]
parallel = {key: np.concatenate([answer[key] for answer in answers]) for key in answers[0]}
parallel_ap = judged(parallel, "segm")["AP"]


# %%
def seconds(function, inputs):
    """CPU seconds of a call, the median over several; the first one is not counted."""
    times = []
    for _ in range(timed + 1):
        began = time.process_time()
        keras.tree.map_structure(ops.convert_to_numpy, function(*inputs))
        times.append(time.process_time() - began)
    return float(np.median(times[1:]))


maps = net.network(test_set["image"][:1], training=False)["maps"]
proposals = net(test_set["image"][:1], training=False)["rois"]
ten = ops.convert_to_tensor(found["boxes"][:1, :10])
cost = {f"{proposals.shape[1]} proposals": seconds(net.mask_logits, (maps, proposals))}
cost["10 detections"] = seconds(net.mask_logits, (maps, ten))
_, axes = plt.subplots(1, 2, figsize=(8, 1.8), layout="constrained", width_ratios=(4, 3))
plots.bars(
    {name: 1000 * value for name, value in cost.items()}, xlabel="CPU milliseconds of the mask branch", ax=axes[0]
)
both = {"detections' masks": figures["masks"]["AP"], "proposals' masks": parallel_ap}
plots.bars(both, xlabel="mask AP", ax=axes[1])
record(parallel_ap=parallel_ap, order_gain=figures["masks"]["AP"] - parallel_ap)

# %% [markdown]
# With seed 0 the masks of the detections have an AP of .54, those of the proposals .49. The paper's order is better, and
# it costs less than half of the time, since ten detections need fewer masks than all proposals.
#
# ## RoIAlign against RoIPool, trained
#
# Now we train two nets that differ only in the layer that cuts features out. Both look at one map of stride 16, as in the
# paper's table, and start from the same weights with the same images in the same order. Shapes of twenty to fifty pixels
# are one to three cells large there, so rounding must hurt. From the paper we expect that it costs a larger share of
# AP75 than of AP50.

# %%
pair = {}
for pool in ("pool", "align"):
    keras.utils.set_random_seed(seed)
    rival = mask_rcnn.small(len(names), shape, network, levels=(4,), pool=pool, **options)
    train(rival, pair_steps)
    pair[pool] = judged(rival.detect(test_set["image"], max_detections=kept), "segm")
    del rival

# %%
measured = pd.DataFrame([pair["pool"], pair["align"]], ["RoIPool", "RoIAlign"], ["AP", "AP50", "AP75"])
measured.plot.bar(rot=0, figsize=(6, 3), color=plots.PALETTE[:3], ylabel="of masks, stride 16")
for key in ("AP", "AP50", "AP75"):
    before, after = pair["pool"][key], pair["align"][key]
    print(f"{key}: {before:.3f} with RoIPool, {after:.3f} with RoIAlign")
record(pool_ap75=pair["pool"]["AP75"], align_ap75=pair["align"]["AP75"], align_ap50=pair["align"]["AP50"])
record(pool_ap50=pair["pool"]["AP50"], align_gain_ap75=pair["align"]["AP75"] - pair["pool"]["AP75"])

# %% [markdown]
# With seed 0, RoIPool reaches half of RoIAlign's AP50 (.32 against .65) and a tenth of its AP75 (.02 against .16). As in
# the paper, rounding costs more where the mask must fit. It costs more here than in the paper; our objects are only one to
# three cells large. This is one run of each net, with one seed and few steps: it does not say how much the gain varies.
#
# ## Keypoints
#
# A keypoint is a mask with a single pixel. The branch gives one map for each kind of keypoint. In the paper, eight
# convolutions work on 14 × 14 features, a transposed convolution doubles the size to 28 × 28, and bilinear interpolation
# doubles it again to 56 × 56. Exactly one place of a map is right, so the softmax runs over all *places*: a classifier
# with 56 · 56 = 3,136 classes for each of 17 points.
#
# > **What the slide says.** "The keypoint head gives 28 × 28 × 17." That is before the last step: the paper enlarges to 56
# > × 56, and says why: keypoints need a finer place than masks.
#
# The drawn shapes have keypoints: a centre, and the corners, tips or outermost points of the outline, each with a name
# such as "top" or "lower left". The target is the bin in which the point lies, the
# answer the centre of a bin. So a branch without errors is still off by up to half a bin along each axis: in a box of 40
# pixels with 56 bins, by up to 40 / 56 / 2 = .36 pixels.

# %%
points_of = data.arrays("shapes", "test[:40]", target="boxes")[1]
real = points_of["labels"] >= 0
own = np.broadcast_to(np.arange(real.shape[1], dtype="int32"), real.shape)
off = {}
for size in (14, 28, 56):
    bins, inside = mask_rcnn.keypoint_targets(points_of["keypoints"], points_of["boxes"], own, size)
    logits = 30 * ops.one_hot(bins, size * size)  # (B, K, N, places): a branch without errors
    logits = ops.reshape(ops.transpose(logits, (0, 1, 3, 2)), (*real.shape, size, size, -1))
    decoded = ops.convert_to_numpy(mask_rcnn.decode_keypoints(logits, points_of["boxes"]))
    error = np.linalg.norm(decoded[..., :2] - points_of["keypoints"][..., :2], axis=-1)
    off[f"{size} x {size}"] = error[ops.convert_to_numpy(inside) & real[..., None]].mean()
plots.bars(off, xlabel="mean distance in pixels: the error of the bins alone")

# %%
if kinds:
    labels = np.where(found["scores"] > 0.5, found["labels"], -1)[:4]
    points = found["keypoints"][:4].copy()
    sure = points[..., 2] > 0.05
    points[..., 2] = np.where(sure, 2, 0)
    plots.show_objects(test_set["image"][:4], labels=labels, keypoints=points, classes=names)
else:
    print(f"{source} has no keypoints: this net has learnt none")

# %% [markdown]
# Each map has a highest place, even for a point that the object does not have: a square has no "lower left" point, only
# a top, a right, a left and a bottom one. There the softmax should spread, so that the score, which is the probability
# of the best place, is small. The picture leaves out scores below .05.
#
# How far off is the branch on visible points? We give it the true boxes, so that only its own error counts.

# %%
if kinds:
    distances = []
    for begin in range(0, len(there), 10):
        boxes, true = (test_set[key][begin : begin + 10] for key in ("boxes", "keypoints"))
        maps = net.network(test_set["image"][begin : begin + 10], training=False)["maps"]
        told = ops.convert_to_numpy(mask_rcnn.decode_keypoints(net.keypoint_logits(maps, boxes), boxes))
        distances.extend(np.linalg.norm((told - true)[..., :2], axis=-1)[true[..., 2] > 1])
    figure, ax = plt.subplots(figsize=(6, 2.6))
    ax.hist(np.clip(distances, 0, 15), bins=30, color=plots.BLUE)
    ax.set(xlabel="pixels from the true keypoint (15 and more at the end)", ylabel="keypoints")
    print(f"half of the points lie within {np.median(distances):.1f} pixels")

# %% [markdown]
# With seed 0, half of the points lie within .9 pixels of the truth. The bar at the right end holds points that lie
# somewhere else altogether. A likely cause: "top" is the corner nearest to straight up, and in a square turned by nearly
# 45 degrees two corners are almost equally near.
#
# ## What came after
#
# *Things* can be counted (cars, people), *stuff* cannot (sky, road). **Panoptic segmentation** (Kirillov et al., 2019)
# asks for both at once: every pixel has a class, a pixel of a thing has the number of its object too, and no two masks
# overlap. Its measure, panoptic quality, is the mean IoU of the matched segments times the F1 score of the matching.
#
# **Mask2Former** (Cheng et al., 2022) has no anchors, no boxes and no suppression. A hundred learnt queries look at the
# pixels' features through attention, each only inside the mask that it gave one layer before. Each query answers with a
# class and a mask. One architecture, trained anew for each task, led in semantic, instance and panoptic segmentation
# when it appeared.
#
# **Segment Anything** (SAM; Kirillov et al., 2023) is asked with points or boxes and answers with masks, without a class.
# Its encoder sees the image once, and its small decoder answers each prompt in milliseconds. It was trained on 1.1 billion
# masks, most of which an earlier version of it had drawn.
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
# - give each RoI the part of the true mask that it can see, and paste a small mask back without steps;
# - say why the mask branch runs after the box branch at test, and show what that gains;
# - use the same kind of branch for keypoints, with a softmax over places.
#
# ## Exercises
#
# 1. (easy) Set `kept` to 3. What happens to mask AP, and to the time? *Hint: how many objects has an image at most?*
# 2. (medium) In the test with the ramp, read one point in each bin (`samples=1` in `roi.roi_align`), then 3 × 3 points.
#    What changes? Repeat it with random numbers as the map. *Hint: between the cells of a ramp, interpolation is exact.*
# 3. (medium) Train the mask branch with a softmax over classes in the place of the sigmoids. *Hint: a subclass of
#    `MaskRCNN` with its own `losses_of`.*
# 4. (hard) Find the test-time gain of a pyramid on scenes of mixed sizes: `channels=64, levels=(2, 3, 4), canonical=40`
#    and a list of anchor sizes for each level.
#
# ## Further reading
#
# - K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN*, ICCV 2017.
# - P. Pinheiro, R. Collobert, P. Dollár, *Learning to segment object candidates*, NIPS 2015.
# - J. Dai, K. He, J. Sun, *Instance-aware semantic segmentation via multi-task network cascades*, CVPR 2016.
# - A. Kirillov, K. He, R. Girshick, C. Rother, P. Dollár, *Panoptic segmentation*, CVPR 2019.
# - A. Kirillov, Y. Wu, K. He, R. Girshick, *PointRend: image segmentation as rendering*, CVPR 2020.
# - B. Cheng, I. Misra, A. Schwing, A. Kirillov, R. Girdhar, *Masked-attention mask transformer for universal image
#   segmentation*, CVPR 2022.
# - A. Kirillov et al., *Segment anything*, ICCV 2023.
