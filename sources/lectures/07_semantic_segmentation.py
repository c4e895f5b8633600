# %% [markdown]
# # 07 Semantic segmentation
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/07_semantic_segmentation.ipynb)
#
# **A classifier says "star". Which pixels does it mean?** It cannot tell. Stride by stride, it has given up *where*
# things are, to become sure of *what* they are. Semantic segmentation asks for both: a class for every pixel. This
# lecture shows how networks keep the place, or get it back.
#
# You will be able to
#
# - tell semantic segmentation from its neighbours, and say who wants it, and how fast;
# - compute pixel accuracy, IoU and Dice from one confusion matrix, and say which of them imbalance fools;
# - turn a classifier of patches into a network that labels a whole image at once, and count what that saves;
# - enlarge a map in four ways, and build FCN, SegNet, U-Net and a dilated network, for images of any size;
# - choose a loss for rare classes, and see where each family errs when all train for the same time;
# - deform images and masks together, as U-Net did with its thirty images;
# - start a U-Net from an encoder that has seen image labels only, and measure with a control what that buys.
#
# It takes about an hour and a half to read and ten to fifteen minutes to run.

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
source: str = "shapes"  # a data set with masks: its name, or the path of a folder
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
image_size: int = 64  # [32, 1024] height and width that its images are brought to
most: int = 4000  # [20, ] training images, at most
tested: int = 500  # [10, ] images for validation, at most
tile: int = 64  # [32, 512] images are cut into squares of this side; divides image_size
stretch: bool = False  # whether each image gets the full range of brightness
rare: str = "shapes/small"  # a data set in which most pixels are background
rare_size: int = 96  # [32, 1024] height and width of its images
rare_widths: list[int] = [16, 32, 64]  # filters of its network, stage by stage
rare_tile: int = 48  # [16, 512] the same for the rare classes; divides rare_size
encoder: str = "crops"  # {crops, MobileNetV2} pretrained on our crops, or on ImageNet
patch_steps: int = 500  # [10, 10000] steps of the classifier of patches
loss_steps: int = 500  # [1, 10000] steps with each of the losses
family_steps: list[int] = [500, 500, 220, 270, 390, 380]  # of each family; 0: untrained
family_repeats: int = 2  # [1, 10] trainings of each family
crops_steps: int = 800  # [10, 10000] steps of training on image labels
few: list[int] = [10, 100]  # images with masks for the last comparison
few_steps: int = 200  # [1, 5000] steps on each of these few
draws: int = 2  # [1, 10] choices of the few images
longest: int = 6  # [0, 100] longest training from scratch, times few_steps; 0: none
timed: int = 100  # [1, 1000] answers over which the time of a network is the median

# %%
import tempfile
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from scipy import ndimage
from skimage.filters import threshold_otsu
from sklearn.metrics import f1_score

from utils import architectures, arithmetic, data, plots, training, transfer
from utils.architectures.blocks import conv_bn_relu
from utils.data import augmentation, shapes
from utils.layers import MaxPoolingWithIndices, MaxUnpooling
from utils.plots.scenes import coloured
from utils.results import record
from utils.segmentation import deeplab, fcn8, fcn32, segnet, unet
from utils.segmentation import inference, losses, metrics
from utils.segmentation.deeplab import aspp
from utils.segmentation.fcn import enlarge
from utils.segmentation.unet import valid_size
from utils.session import start

start(seed)

# %% [markdown]
# ## Five questions about one picture
#
# The course draws scenes of one to four shapes on a textured ground. Drawn scenes are simpler than photographs. In
# return we know every pixel's class without an error. We look for a scene that holds two shapes of one class among
# others.

# %%
drawn = (shapes.scene(index, "test", image_size=(192, 192)) for index in range(200))
scene = next(one for one in drawn if len(one.labels) > 3 and len(set(one.labels)) == 3)
shape_names = data.describe("shapes").classes
largest = int(np.argmax(scene.masks.sum(axis=(1, 2))))

# %% tags=["thumbnail"]
figure, axes = plt.subplots(1, 5, figsize=(10, 2.6))
titles = ["classification", "localization", "detection"]
titles += ["semantic\nsegmentation", "instance\nsegmentation"]
axes[0].imshow(scene.image)
names = ", ".join(shape_names[label] for label in sorted(set(scene.labels)))
axes[0].set_xlabel(names, fontsize=9)
named_classes = {"classes": shape_names}
one = slice(largest, largest + 1)
objects = scene.boxes[one], scene.labels[one]
plots.draw_objects(scene.image, *objects, **named_classes, ax=axes[1])
objects = scene.boxes, scene.labels
plots.draw_objects(scene.image, *objects, **named_classes, ax=axes[2])
axes[3].imshow(coloured(scene.image, scene.mask))
numbers = np.arange(len(scene.labels))[:, None, None] + 7  # a colour for each object
axes[4].imshow(coloured(scene.image, (scene.masks * numbers).max(axis=0)))
for ax, title in zip(axes, titles):
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# | task | question | answer |
# |---|---|---|
# | classification | which classes are in it? | one label, or several, for the image |
# | localization | where is *the* object? | a label and one box |
# | detection | where is each object? | a list of labels and boxes, of unknown length |
# | **semantic segmentation** | which class is each pixel? | H × W labels, background included |
# | instance segmentation | which object is each pixel? | a mask for each object |
#
# The fourth picture has one colour for a class, the fifth one for an object. Semantic segmentation knows no objects:
# two shapes of one class that touch are one region. Does that matter? Count the regions of the true masks, and
# compare with the number of shapes.

# %%
_, masks_of_scenes = data.arrays("shapes", "validation[:200]", target="mask")
_, objects = data.arrays("shapes", "validation[:200]", target="boxes")


def count_regions(mask):
    """Connected regions of all shapes; pixels that touch at a corner are connected."""
    kinds = [mask == label for label in range(1, 7)]
    return sum(ndimage.label(kind, np.ones((3, 3)))[1] for kind in kinds)


regions = [count_regions(mask) for mask in masks_of_scenes]
shapes_there = (objects["labels"] >= 0).sum(axis=1)
right = np.mean(np.array(regions) == shapes_there)
print(f"regions = shapes in {right:.0%} of 200 scenes with one to four shapes")

# %%
_, crowded_masks = data.arrays("shapes/crowded", "validation[:200]", target="mask")
_, crowded = data.arrays("shapes/crowded", "validation[:200]", target="boxes")
crowded_regions = [count_regions(mask) for mask in crowded_masks]
crowded_there = (crowded["labels"] >= 0).sum(axis=1)
jitter = np.random.default_rng(seed).uniform(-0.3, 0.3, (4, 200))
figure, ax = plt.subplots(figsize=(5, 3.6))
style = {"marker": "o", "linestyle": "", "ms": 3}
at = crowded_there + jitter[0], crowded_regions + jitter[1]
ax.plot(*at, color=plots.VERMILLION, label="crowded", **style)
at = shapes_there + jitter[2], regions + jitter[3]
ax.plot(*at, color=plots.BLUE, label="one to four shapes", **style)
ax.axline((0, 0), slope=1, color=plots.GREY, linestyle="--")
ax.set(xlabel="shapes in the scene", ylabel="regions of the true mask")
ax.set_title("Counting by regions")
ax.legend(fontsize=9)

# %% [markdown]
# Below the dashed line, shapes have grown together. Above it, one shape lies across another and cuts it in pieces. To
# count in crowded scenes we need instances (topic 11), however good the masks are.
#
# ### Who wants it, and how fast
#
# | field | classes | why pixels, and not boxes | how soon |
# |---|---|---|---|
# | vehicles | road, kerb, people, cars | the free road has no box | many images a second |
# | medicine | organ, tumour, nucleus | volumes and outlines are the finding | during the examination; overnight for slides |
# | counting | cells, people, fruit | what covers what share of the area | seconds |
# | aerial images | buildings, crops, water | areas in square metres | days, but square kilometres |
# | fire | smoke, flames, burnt ground | where it stands and where it moves | minutes |
#
# Why does speed count? At 50 km/h a car moves 50 / 3.6 ≈ 14 m each second. A network that labels one image a second
# answers when the car is 14 m further on.

# %%
rates = np.array([1, 2, 5, 10, 30])
metres = 50 / 3.6 / rates
plots.bars(
    {f"{rate} images/s": metre for rate, metre in zip(rates, metres)},
    xlabel="metres driven between two answers at 50 km/h",
)

# %% [markdown]
# At the end we come back to this picture with the speed of our own networks.
#
# ## The data
#
# Images with a label map each: 0 is background, class c of the list is c + 1, and 255 marks pixels that do not count,
# such as an outline that the annotators were unsure of. Large images are cut into tiles, which gives more and smaller
# examples.


# %%
def examples(name, split, size, side):
    """Tiles (N, side, side, 3) uint8 of size x size images; masks (N, side, side)."""
    options = {"channels": 3, "target": "mask", "on_error": on_error}
    images, masks = data.arrays(name, split, size, **options)
    if stretch:
        low, high = np.percentile(images, (1, 99.8), axis=(1, 2, 3), keepdims=True)
        images = (images - low) * 255 / np.maximum(high - low, 1)
        images = np.clip(images, 0, 255).astype("uint8")

    def cut(array):
        cells, rest = size // side, array.shape[3:]
        parts = array.reshape(len(array), cells, side, cells, side, *rest)
        return np.swapaxes(parts, 2, 3).reshape(-1, side, side, *rest)

    return cut(images), cut(masks)


classes = data.chosen(source, "mask", on_error, classes=1).mask_classes
train_images, train_masks = examples(source, f"train[:{most}]", image_size, tile)
images, masks = examples(source, f"validation[:{tested}]", image_size, tile)
print(f"{source}: {len(train_images):,} training tiles, {len(images):,} for validation")
print(f"{len(classes)} classes")

# %%
with_all = np.argsort([-len(np.unique(mask)) for mask in masks], kind="stable")
shown = with_all[:6]
plots.show_masks(images[shown], masks[shown], classes=classes)

# %% [markdown]
# The same line reads other data: nuclei under the microscope (`nuclei`, the profile `real`), pets
# (`oxford_iiit_pet`), street and living-room photographs (`voc_segmentation`), or a folder of one's own with images
# and masks of the same names. We write such a folder and give its path: of its six pairs four come as `train`, the
# rest is kept for validation and test.

# %%
folder = tempfile.TemporaryDirectory()
for number in range(6):
    one = number % len(images)  # a folder may hold fewer
    for kind, array in (("images", images[one]), ("masks", masks[one][..., None])):
        path = pathlib.Path(folder.name, kind, f"scene{number}.png")
        path.parent.mkdir(exist_ok=True)
        keras.utils.save_img(path, array, scale=False)
own_images, own_masks = data.arrays(folder.name, "train", target="mask")
print(own_images.shape, own_masks.shape, "labels", np.unique(own_masks))

# %% [markdown]
# ## Measuring: one matrix, every score
#
# Count each pixel once, by its true class (row) and its predicted class (column). Everything else follows from that
# **confusion matrix**. By hand, with two classes on twelve pixels: 2 of 3 pixels of class 1 are found, and 1 pixel of
# background is taken for class 1. We expect the rows 8, 1 and 1, 2.

# %% tags=["nbval-check-output"]
truth = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]])
guess = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]])
by_hand = np.zeros((2, 2), int)
for true, guessed in zip(truth.ravel(), guess.ravel()):
    by_hand[true, guessed] += 1
same = np.array_equal(by_hand, metrics.confusion(truth, guess, 2))
print(by_hand.tolist(), "same as utils:", same)

# %%
plots.confusion_matrix(by_hand, ["background", "class 1"], title="twelve pixels")

# %% [markdown]
# The picture shades each cell by its share of the row. For a class with $t$ true pixels, $p$ predicted ones and $i$
# that are both:
#
# - **pixel accuracy**: the diagonal over everything, $\sum i / \sum t$; 10/12 here;
# - **intersection over union** (IoU, Jaccard's index): $i / (t + p - i)$; for class 1 that is 2 / (3 + 3 − 2) = .5;
# - **Dice**: $2i / (t + p)$, intersection over the *mean* size; 4/6 for class 1. Mean IoU and mean Dice average over
#   classes.

# %% tags=["nbval-check-output"]
scores = metrics.scores(by_hand)
print(f"pixel accuracy {scores['pixel_accuracy']:.3f}")
for label, (iou, dice) in enumerate(zip(scores["iou"], scores["dice"])):
    print(f"class {label}: IoU {iou:.3f}, Dice {dice:.3f}")
f1 = f1_score(truth.ravel(), guess.ravel())
print(f"mean IoU {scores['mean_iou']:.3f}; F1 of class 1 {f1:.3f}")

# %% [markdown]
# The same two scores as a picture, for a true disc and a prediction that lies beside it. IoU divides the pixels of
# both by all coloured pixels. Dice counts the pixels of both twice, above and below: it divides by the sum of the two
# sizes.

# %%
rows, columns = np.mgrid[:40, :60]
true_disc = np.hypot(rows - 20, columns - 24) < 15
predicted_disc = np.hypot(rows - 19, columns - 35) < 13
plots.show_overlap(true_disc, predicted_disc)

# %% [markdown]
# Dice is the F1 score under another name: precision is $i / p$, recall $i / t$, and their harmonic mean is
# $2i / (t + p)$. IoU and Dice use the same three numbers, so each is a function of the other: Dice = 2 IoU / (1 + IoU).
# Dice is the larger number, except at 0 and 1. Before you compare two papers, see which of the two they print.

# %%
iou = np.linspace(0, 1, 101)
figure, ax = plt.subplots(figsize=(4, 3.4))
ax.plot(iou, 2 * iou / (1 + iou), label="Dice")
ax.plot(iou, iou, "--", color=plots.GREY, label="IoU")
style = {"color": plots.VERMILLION, "label": "class 1 above"}
ax.plot(scores["iou"][1], scores["dice"][1], "o", **style)
ax.set(xlabel="IoU", ylabel="score", title="The same prediction, two figures")
ax.legend(fontsize=9)

# %% [markdown]
# > **What the slide says.** "Dice = 2 · overlap / the total number of pixels." Read as the number of pixels of the
# > image, that is wrong: it is the *sum of both regions' sizes*. Test: paste the same two regions into larger images.
# > Nothing has changed about the prediction, so no score should change.

# %% tags=["nbval-check-output"]
for margin in (0, 2, 10):
    t, g = (np.pad(values, margin) for values in (truth, guess))
    overlap = np.sum(t * g)
    dice, slide = 2 * overlap / (t.sum() + g.sum()), 2 * overlap / t.size
    print(f"margin {margin:2}: right {dice:.3f}   by the slide {slide:.3f}")

# %% [markdown]
# ### Imbalance
#
# Scenes of small shapes. Our "network" answers *background* for every pixel. Predict: its pixel accuracy is the share
# of background; its IoU is that same share for background and 0 for every other class.

# %%
rare_classes = data.chosen(rare, "mask", on_error, classes=1).mask_classes
rare_images, rare_masks = examples(rare, "train[:500]", rare_size, rare_tile)
split = f"validation[:{min(tested, 100)}]"
rare_val_images, rare_val_masks = examples(rare, split, rare_size, rare_tile)
nobody = np.zeros_like(rare_val_masks)
nothing = metrics.scores(metrics.confusion(rare_val_masks, nobody, len(rare_classes)))
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6))
names = ["pixel accuracy", "mean accuracy", "mean IoU", "mean Dice"]
bars = {name: nothing[name.replace(" ", "_").lower()] for name in names}
plots.bars(bars, xlabel="score of 'all background'", ax=axes[0])
share = np.bincount(rare_masks.ravel(), minlength=256) / rare_masks.size
share = share[: len(rare_classes)]
axes[1].bar(rare_classes, share, color=plots.BLUE)
axes[1].set(ylabel="share of the pixels", yscale="log")
axes[1].tick_params(axis="x", rotation=60)

# %% [markdown]
# With small shapes the pixel accuracy is more than 95 %, and not one shape is found. Mean accuracy and mean IoU give
# each class one vote. A network that answers background everywhere gets about one over the number of classes. So quote
# a pixel accuracy only together with the share of background.
#
# IoU has a blind spot of its own. Let a disc of radius r be predicted one pixel too large all around: IoU = r² / (r +
# 1)². For r = 25 that is .92, for r = 4 it is .64: the same outline, one pixel off. Small objects are judged harshly,
# outlines of large ones hardly at all. The **boundary F score** is the harmonic mean of two shares: of the
# predicted outline that lies within a tolerance of the true one, and of the true one that lies within it of the
# predicted. One pixel off, with a tolerance of 2: we expect 1 for every radius.

# %%
rows, columns = np.mgrid[:96, :96] - 47.5
distance = np.hypot(rows, columns)
table = {}
for radius in (4, 9, 25):
    disc, bloated = (distance < radius).astype(int), (distance < radius + 1).astype(int)
    found = metrics.scores(metrics.confusion(disc, bloated, 2))["iou"][1]
    outline = metrics.boundary_f(disc, bloated, 2, tolerance=2.0)[1]
    row = radius**2 / (radius + 1) ** 2, found, outline
    for kind, value in zip(("r² / (r + 1)²", "IoU", "boundary F"), row):
        table.setdefault(kind, {})[f"radius {radius}"] = value
plots.dots(table, "score of a disc that is predicted one pixel too large")

# %% [markdown]
# Last, *when* to divide: add up one matrix over the whole data set and divide once. The mean of images' scores is
# another number, and where a class is missing from an image, its score there is 0/0.
#
# ## From a classifier to a label map
#
# ### A patch for every pixel
#
# Early convolutional segmenters, such as that of Ciresan et al. (2012) for membranes in electron micrographs, were
# classifiers: cut out the patch around a pixel, classify it, write the class at the pixel, go to the next one. We
# build such a classifier: 32 × 32 patches, two convolutions, a dense layer, scores.


# %%
def patch_classifier(side=32):
    """Scores of the pixel in the middle of a patch; convolutions without padding."""
    return keras.Sequential(
        [
            layers.Input((side, side, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(16, 5, activation="relu", name="conv1"),  # 28 x 28
            layers.MaxPooling2D(2),  # 14 x 14
            layers.Conv2D(32, 3, activation="relu", name="conv2"),  # 12 x 12
            layers.MaxPooling2D(2),  # 6 x 6
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="fc1"),  # reads 6 * 6 * 32 numbers
            layers.Dense(len(classes), name="fc2"),
        ]
    )


def pad(images):
    """Sixteen mirrored pixels more on every side: every pixel has a patch around it."""
    return np.pad(images, ((0, 0), (16, 16), (16, 16), (0, 0)), mode="reflect")


# %% [markdown]
# Training patches: half of them around background, half around pixels of other classes. Pixel (row, column) of the
# image is the one at the middle of the patch that begins at (row, column) of the padded image.

# %%
rng = np.random.default_rng(seed)
count = patch_steps * 64
chosen = rng.integers(len(train_images), size=4 * count)
where = rng.integers(tile, size=(2, 4 * count))
centre = train_masks[chosen, *where]
background = np.flatnonzero(centre == 0)[: count // 2]
others = np.flatnonzero((centre > 0) & (centre < 255))
kept = np.concatenate([background, others])[:count]
kept = rng.permutation(kept)[: len(kept) // 64 * 64]
framed = pad(train_images)
corners = zip(chosen[kept], *where[:, kept])
patches = np.stack([framed[i, r : r + 32, c : c + 32] for i, r, c in corners])
adamw = keras.optimizers.AdamW(2e-3)
patch_net = training.compile_classifier(patch_classifier(), adamw)
history = patch_net.fit(patches, centre[kept], batch_size=64, shuffle=False, verbose=0)
right = history.history["accuracy"][-1]
print(f"{len(patches):,} patches, half of them background")
print(f"accuracy while training {right:.2f}")
del patches, framed

# %% [markdown]
# ### What it costs
#
# Multiply-accumulates (MACs) of one patch: 28² · 75 · 16 + 12² · 144 · 32 + 1,152 · 64 + 64 · C. There is a patch for
# every pixel, and two neighbouring patches share 31 of their 32 columns, whose convolutions are computed again and
# again.

# %%
per_patch = arithmetic.totals(patch_net)["macs"]
expected = 28**2 * 75 * 16 + 12**2 * 144 * 32 + 1152 * 64 + 64 * len(classes)
print(f"{per_patch:,} MACs a patch (expected {expected:,}),")
print(f"{per_patch * tile**2 / 1e9:.2f} billion for {tile} x {tile} pixels")

# %% [markdown]
# ### There are no dense layers
#
# `fc1` reads a 6 × 6 × 32 map: it *is* a 6 × 6 convolution without padding that happens to fit in one place. `fc2`
# reads 64 channels at one place: a 1 × 1 convolution. So the same weights, reshaped, make a network that takes an
# image of any size and gives a score wherever the patch network would have stood, in one pass (Long et al. 2015;
# OverFeat before it).


# %%
def convolutional(classifier):
    """The same network, with convolutions in the place of dense layers."""
    model = keras.Sequential([layers.Input((None, None, 3)), *classifier.layers[:5]])
    model.add(layers.Conv2D(64, 6, activation="relu", name="fc1_convolution"))
    model.add(layers.Conv2D(len(classes), 1, name="fc2_convolution"))
    for name in ("fc1", "fc2"):
        layer = model.get_layer(f"{name}_convolution")
        kernel, bias = classifier.get_layer(name).get_weights()
        layer.set_weights([kernel.reshape(layer.kernel.shape), bias])
    return model


dense_net = convolutional(patch_net)

# %% [markdown]
# Two poolings: its outputs lie 4 pixels apart. On an image of 96 × 96 we expect (96 − 32) / 4 + 1 = 17 × 17 of them,
# and the output (i, j) to be that of the patch that begins at (4i, 4j).

# %%
framed = pad(images[shown[:1]])  # (1, tile + 32, tile + 32, 3)
at_once = ops.convert_to_numpy(dense_net(framed))[0]
grid = range(0, tile + 1, 4)
every_fourth = [framed[0, r : r + 32, c : c + 32] for r in grid for c in grid]
every_fourth = np.stack(every_fourth)
one_by_one = transfer.predict(patch_net, every_fourth).reshape(at_once.shape)
print(at_once.shape, "agree:", np.allclose(at_once, one_by_one, atol=1e-3))

# %% [markdown]
# How much is saved? The patch network needs 17 · 17 · 1.68 million MACs for these places, the convolutional one has
# computed every shared value once. Count both, and time both, beside a patch for *every* pixel.

# %%
grid = range(tile)
pixels = np.stack([framed[0, r : r + 32, c : c + 32] for r in grid for c in grid])
seconds = {}
for name, work in {
    "a patch for every pixel": lambda: transfer.predict(patch_net, pixels),
    "a patch every 4 pixels": lambda: transfer.predict(patch_net, every_fourth),
    "convolutions, every 4 pixels": lambda: dense_net.predict_on_batch(framed),
}.items():  # fmt: skip
    work()
    began = time.perf_counter()
    labels_of_patches = work().argmax(axis=-1)
    seconds[name] = 1000 * (time.perf_counter() - began)
    if name == "a patch for every pixel":
        sliding = labels_of_patches.reshape(tile, tile)
    elif name == "convolutions, every 4 pixels":
        coarse = labels_of_patches[0][: tile // 4, : tile // 4]

# %%
at_once_macs = arithmetic.totals(dense_net, framed.shape[1:])["macs"]
places = tile**2, (tile // 4 + 1) ** 2
macs = np.array([per_patch * places[0], per_patch * places[1], at_once_macs]) / 1e9
figure, axes = plt.subplots(2, 1, figsize=(8, 3.4))
plots.bars(dict(zip(seconds, macs)), xlabel="billion MACs", ax=axes[0])
plots.bars(seconds, xlabel="milliseconds on this machine", ax=axes[1])
record(saved_macs=macs[1] / macs[2])

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.4))
maps = masks[shown[0]], sliding, coarse.repeat(4, 0).repeat(4, 1)
pictures = [coloured(images[shown[0]], labels_of) for labels_of in maps]
titles = ["image", "truth", "patch by patch", "in one pass, stride 4"]
for ax, picture, title in zip(axes, [images[shown[0]], *pictures], titles):
    ax.imshow(picture)
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()

# %% [markdown]
# Two things to see. The answers are the same at the same places; **dense evaluation** is not an approximation. And
# its map is coarse, since every pooling halves it. (One can run the network on the image shifted by 0 to 3 pixels in
# each direction and interlace the 16 maps, *shift and stitch*: all pixels, still a fraction of the work.) The labels
# themselves are ragged and often wrong: this classifier is small, and has had a short training.
#
# ### The price of stride
#
# The **stride** of a map is the distance, in pixels of the image, between two of its places: 4 above. A classifier of
# photographs pools five times: 224 pixels become 112, 56, 28, 14, and 7, a stride of 32.

# %% tags=["nbval-check-output"]
n, sizes = 224, []
for _ in range(5):
    n = arithmetic.output_size(n, 2, 2)
    sizes.append(n)
print(sizes, "stride", 224 // n)

# %% [markdown]
# > **What the slide says.** "VGG's last map of a 224 × 224 image is 20 × 20." It is 7 × 7: 224 / 32. A map of 20 × 20
# > comes from an image of 640 × 640.
#
# How bad is that? Suppose that a network makes *no* mistake, but answers only once for every s × s pixels, with the
# class that most of them have. Enlarge its answers, and compare with the truth. No answers that are repeated over
# blocks have a higher pixel accuracy. (Mean IoU can be raised somewhat by naming a rare class where it fills a fifth
# of a block; the curve shows the order of magnitude.)


# %%
def coarsest(masks, stride):
    """The most frequent class of each block of this size, repeated over the block."""
    blocks = masks.reshape(len(masks), tile // stride, stride, tile // stride, stride)
    votes = [(blocks == label).sum(axis=(2, 4)) for label in range(len(classes))]
    return np.argmax(votes, axis=0).repeat(stride, axis=1).repeat(stride, axis=2)


strides = [1, 2, 4, 8, 16, 32]
best = {}
for stride in strides:
    matrix = metrics.confusion(masks, coarsest(masks, stride), len(classes))
    best[stride] = metrics.scores(matrix)
figure, ax = plt.subplots(figsize=(8, 3))
kinds = {"pixel accuracy": "pixel_accuracy", "mean IoU": "mean_iou"}
runs = {}
for name, kind in kinds.items():
    runs[name] = [best[stride][kind] for stride in strides]
ylabel = "score of the majority's class"
plots.curves(runs, strides, "stride", ylabel, log_x=True, ax=ax)
ax.set_xticks(strides, strides)
record(best_iou_8=best[8]["mean_iou"], best_iou_32=best[32]["mean_iou"])

# %%
figure, axes = plt.subplots(2, 6, figsize=(8, 3))
for column, stride in enumerate(strides):
    for row, index in enumerate(shown[:2]):
        blocky = coarsest(masks[[index]], stride)[0]
        axes[row, column].imshow(coloured(images[index], blocky))
        axes[row, column].set_axis_off()
    title = f"stride {stride}" if stride > 1 else "truth"
    axes[0, column].set_title(title, fontsize=10)

# %% [markdown]
# At stride 32 the majority's class is useless, and pixel accuracy hides it again. (The FCN paper has the same table
# for photographs of 500 pixels: 86.1 % mean IoU at 32, 96.4 % at 8 [paper]. Their objects are larger.) So two things
# are needed: finer maps, and a better way to enlarge them.
#
# ## Enlarging a map, in four ways
#
# Nearest neighbour repeats. Bilinear interpolation mixes the four nearest centres. Neither has a parameter. On 2 × 2
# numbers:

# %%
small = np.array([[0.0, 4.0], [8.0, 4.0]], "float32")
batch = small[None, :, :, None]  # (1, 2, 2, 1)
enlarged = []
for kind in ("nearest", "bilinear"):
    larger = layers.UpSampling2D(2, interpolation=kind)(batch)
    enlarged.append(ops.convert_to_numpy(larger)[0, :, :, 0])
figure, axes = plt.subplots(1, 3, figsize=(8, 2.9), width_ratios=[1, 2, 2])
titles = ("a map", "nearest", "bilinear")
for ax, values, title in zip(axes, (small, *enlarged), titles):
    plots.number_matrix(values, shade="RdBu", title=title, ax=ax)

# %% [markdown]
# **Unpooling** remembers where each maximum was (the *pooling indices*, or *switches*), and puts the values back
# there, with zeros elsewhere. It needs to know the way down.

# %%
before = np.array([[1, 5, 2, 0], [3, 2, 4, 7], [6, 0, 1, 1], [2, 8, 9, 3]], "float32")
pooled, places = MaxPoolingWithIndices(2)(before[None, :, :, None])
changed = pooled * 10  # whatever the network does in between
back = MaxUnpooling(2)(changed, places)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.6), width_ratios=[2, 1, 1, 2])
panels = {"before pooling": before, "maxima": pooled}
panels |= {"places\n(row · 4 + column)": places, "unpooled, times 10": back}
for ax, (title, values) in zip(axes, panels.items()):
    values = np.squeeze(ops.convert_to_numpy(values))
    plots.number_matrix(values, shade="RdBu", title=title, ax=ax)

# %% [markdown]
# A **transposed convolution** writes its kernel, times the value, around each place, and adds up where the copies
# overlap (topic 01). Its size is (n − 1)s − 2p + f; n = 2, s = 2, p = 1, f = 4 gives 4. Its kernel is learnt, and
# interpolation is one of its possible values: the 4 × 4 kernel below is the outer product of .25 .75 .75 .25. FCN
# starts from it. (The paper keeps the last enlargement at these values and learns the others. Our FCNs learn all of
# them, FCN-32s its only one too.)

# %% tags=["nbval-check-output"]
values = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype("float32")
image = layers.Input((6, 6, 3))
learnable = keras.Model(image, enlarge(image, 2))
ours = ops.convert_to_numpy(learnable(values))
bilinear = layers.UpSampling2D(2, interpolation="bilinear")(values)
inside = np.abs(ours - ops.convert_to_numpy(bilinear))[:, 1:-1, 1:-1].max()
equal = bool(inside < 1e-5)
print(ours.shape, learnable.count_params(), "weights; equal inside:", equal)
kernel = 16 * learnable.get_weights()[0][:, :, 0, 0]
print("kernel of a channel, in sixteenths:", kernel.astype(int).tolist())

# %% [markdown]
# All four on a real map: one channel of pooled brightness, enlarged four times. A transposed convolution with
# *random* weights shows its checkerboard: with f = 3 and s = 2 some places get four copies, others one (topic 01).

# %%
grey = images[shown[1]].mean(axis=-1, dtype="float32")[None, :, :, None]
down1, places1 = MaxPoolingWithIndices(2)(grey)
down2, places2 = MaxPoolingWithIndices(2)(down1)
up = {
    "pooled twice": down2,
    "nearest": layers.UpSampling2D(4)(down2),
    "bilinear": layers.UpSampling2D(4, interpolation="bilinear")(down2),
    "unpooling": MaxUnpooling(2)(MaxUnpooling(2)(down2, places2), places1),
}
uniform = keras.initializers.RandomUniform(0, 0.5, seed=1)
options = {"padding": "same", "kernel_initializer": uniform}
random_kernel = layers.Conv2DTranspose(1, 3, 2, **options)
up["transposed, random"] = random_kernel(random_kernel(down2))
figure, axes = plt.subplots(1, 6, figsize=(8, 1.9))
for ax, (title, values) in zip(axes, {"image": grey, **up}.items()):
    ax.imshow(np.squeeze(ops.convert_to_numpy(values)))
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()

# %% [markdown]
# | | parameters | needs | gives |
# |---|---|---|---|
# | nearest | none | | blocks |
# | bilinear | none | | smooth, no detail |
# | unpooling | none | the indices of the way down | sparse, at the right places; convolutions must fill the gaps |
# | transposed convolution | f · f · channels in · channels out | | whatever it learns; checkerboards if f is no multiple of s |
#
# ## The families
#
# From here on every builder of `utils.segmentation` gives a Keras model from uint8 images to logits (batch, H, W,
# classes), a score for each class at each pixel.
#
# ### FCN: a classifier, made convolutional, with skips
#
# Long, Shelhamer and Darrell (2015) take VGG16, make its dense layers convolutions, score the last map with a 1 × 1
# convolution, and enlarge the scores 32 times: **FCN-32s**. The map of stride 16 before the last pool knows less
# about classes and more about places: **FCN-16s** scores it too, adds the twice enlarged coarser scores, and enlarges
# 16 times. **FCN-8s** adds those of stride 8.

# %%
figure, ax = plt.subplots(figsize=(8, 2.9))
columns = {"image": 0, "pool3\n1/8": 2, "pool4\n1/16": 3.3}
columns["pool5, fc6, fc7\n1/32"] = 4.8
middle = {"ha": "center", "va": "center"}
box = {"boxstyle": "round", "fc": "white", "ec": plots.BLUE}
for name, x in columns.items():
    ax.text(x, 2, name, bbox=box, **middle)
for (_, a), (_, b) in zip(list(columns.items())[:-1], list(columns.items())[1:]):
    ax.annotate("", (b - 0.62, 2), (a + 0.42, 2), arrowprops={"arrowstyle": "->"})
box = box | {"ec": plots.VERMILLION}
arrow = {"arrowstyle": "->", "color": plots.VERMILLION}
steps_down = ((4.8, 1.2, "score"), (3.3, 0.6, "score, + 2×"), (2, 0, "score, + 2×"))
for x, y, name in steps_down:
    ax.text(x, y, name, bbox=box, **middle)
    ax.annotate("", (x, y + 0.15), (x, 1.75), arrowprops=arrow)
for k in (0, 1):
    (x, y, _), (to_x, to_y, _) = steps_down[k : k + 2]
    ax.annotate("", (to_x + 0.5, to_y + 0.1), (x - 0.25, y - 0.05), arrowprops=arrow)
arrow = {"arrowstyle": "->", "color": plots.GREEN}
for x, y, number in ((5.1, 1.2, 32), (3.85, 0.6, 16), (2.55, 0, 8)):
    ax.text(6.5, y, f"{number}× : FCN-{number}s", va="center")
    ax.annotate("", (6.45, y), (x, y), arrowprops=arrow)
ax.set(xlim=(-0.5, 8), ylim=(-0.4, 2.4))
ax.set_axis_off()

# %% [markdown]
# With VGG16 and 21 classes: the convolutions' 14,714,688 parameters, fc6 and fc7 as convolutions 102,764,544 +
# 16,781,312, three scorings (4,097 + 513 + 257) · 21, and the enlarging kernels 4 · 4 · 21² twice and 16 · 16 · 21²
# once. `outline` builds a network whose weights have shapes and no values, to count and to draw.

# %% tags=["nbval-check-output"]
paper = architectures.outline(lambda: fcn8((224, 224, 3), classes=21))
enlarging = (2 * 4 * 4 + 16 * 16) * 21**2
expected = 14_714_688 + 102_764_544 + 16_781_312 + (4097 + 513 + 257) * 21 + enlarging
print(f"FCN-8s: {paper.count_params():,} parameters, expected {expected:,};")
print(f"{enlarging:,} of them enlarge")

# %% [markdown]
# Nothing in it asks for an image of 224 pixels. Images that the stride does not divide are padded inside, and the
# answer is cut back. (The authors' code pads every image by 100 pixels and crops at the end; ours pads the
# convolutions, with the same parameters.) A small one, with the narrow VGG that we shall train below, which has no
# fc6 and fc7:

# %%
# a quarter of VGG13's filters
narrow = {"backbone": "vgg13", "width": 0.25, "batch_norm": True}
any_size = fcn8((None, None, 3), len(classes), units=None, **narrow)
for height, width in ((64, 64), (50, 83), (200, 120)):
    blank = np.zeros((1, height, width, 3), "uint8")
    print(f"{height} x {width} ->", any_size.predict_on_batch(blank).shape)

# %% [markdown]
# ### DeconvNet and SegNet: there and back by the same way
#
# Noh, Hong and Han (2015) turn VGG16 around: behind fc7 stands its mirror image, from 1 × 1 through transposed
# convolutions and *unpooling* back to 224 × 224. The dense layers, with fc6 mirrored by a 7 × 7 transposed
# convolution, make it large:

# %%
fc6, fc7 = 7 * 7 * 512 * 4096 + 4096, 4096 * 4096 + 4096
back_from_fc7 = 7 * 7 * 4096 * 512 + 512
whole = (2 * 14_714_688 + fc6 + fc7 + back_from_fc7) / 1e6
print(f"about {whole:.0f} million parameters (without batch normalisation)")
small_segnet = architectures.outline(lambda: segnet((224, 224, 3), classes=21))
print(f"SegNet: {arithmetic.totals(small_segnet)['trainable'] / 1e6:.1f} million")

# %% [markdown]
# **SegNet** (Badrinarayanan, Kendall and Cipolla 2017) leaves the dense layers out. What is kept from the way down is
# the *places* of the maxima alone, two bits for each 2 × 2 window, where FCN and U-Net keep maps of floats. Unpooling
# puts values back to these places; ordinary convolutions fill the gaps. There is no transposed convolution to learn.

# %%
three = {"stages": ((16, 2), (32, 2), (64, 2))}
small = architectures.outline(lambda: segnet((64, 64, 3), len(classes), **three))
stages = ["image", "conv1_2_relu", "conv2_2_relu", "conv3_2_relu", "pool3"]
stages += ["unpool3", "unpool2", "unpool1", "logits"]
plots.stage_diagram(small, stages, title="A SegNet of three stages")

# %% [markdown]
# ### U-Net: the whole map goes across
#
# Ronneberger, Fischer and Brox (2015) had 30 images of cell membranes. Their network has a **contracting** path (two
# 3 × 3 convolutions, pool, twice the channels) and an **expanding** one: enlarge by a 2 × 2 transposed convolution,
# then **concatenate** the map of the same size from the contracting path, then two 3 × 3 convolutions. FCN adds
# *scores*; U-Net joins *features*, and lets convolutions decide what to make of them.

# %%
figure, ax = plt.subplots(figsize=(8, 3.2))
widths = (64, 128, 256, 512, 1024)
for stage, width in enumerate(widths):
    half = 3 / 2**stage
    for side in (-1, 1) if stage < 4 else (0,):
        x = side * (4.4 - stage)
        corner = x - 0.06 - width / 6000, -stage * 0.9 - half / 8
        bar = plt.Rectangle(corner, 0.12 + width / 3000, 0.25 + half / 4, alpha=0.8)
        bar.set_facecolor({-1: plots.BLUE, 0: plots.GREY, 1: plots.GREEN}[side])
        ax.add_patch(bar)
        ax.text(x, -stage * 0.9 - half / 8 - 0.28, width, ha="center", fontsize=9)
    y, arrow = -stage * 0.9, {"arrowstyle": "->"}
    if stage < 4:
        x = 4.1 - stage
        ax.annotate("", (x, y + 0.1), (-x, y + 0.1), arrowprops=arrow)
        ax.annotate("", (0.45 - x, y - 0.75), (-x - 0.1, y - 0.3), arrowprops=arrow)
        ax.annotate("", (x + 0.1, y - 0.3), (x - 0.45, y - 0.75), arrowprops=arrow)
ax.text(0, 0.2, "concatenate", ha="center", fontsize=9)
ax.text(-4.4, 1, "contracting", ha="center", color=plots.BLUE)
ax.text(-1.2, -4.05, "channels", fontsize=9, color=plots.GREY)
ax.text(4.4, 1, "expanding", ha="center", color=plots.GREEN)
ax.set(xlim=(-5, 5), ylim=(-4.4, 1.3))
ax.set_axis_off()

# %% [markdown]
# The paper convolves without padding, so an image of 572 pixels gives an answer for the 388 in the middle: each of
# the four steps down takes 4 pixels and halves, the bottom takes 4, each step up doubles and takes 4. Large images
# are labelled in tiles whose answers fit together without a seam (*overlap-tile*). With one channel in and two
# classes out:

# %% tags=["nbval-check-output"]
options = {"classes": 2, "padding": "valid"}
original = architectures.outline(lambda: unet((572, 572, 1), **options))
print(f"{original.count_params():,} parameters, 572 -> {original.output_shape[1]}")
print({n: valid_size(n) for n in (188, 284, 572)})

# %% [markdown]
# Today's usual form pads its convolutions and normalises batches. That is the one we train.
#
# ### Thirty images: bend them
#
# How could thirty images be enough? Tissue is soft, so a bent image of cells is again an image of cells. U-Net's
# authors put a grid of 3 × 3 nodes on the image and move each node by a random vector, with a standard deviation of
# 10 pixels. Between the nodes the displacement is interpolated smoothly. This is **elastic deformation** (Simard,
# Steinkraus and Platt 2003). Every pixel of the new image takes the value at its displaced place.
#
# The mask must be bent by *the same* field. It is read at the nearest pixel: between class 2 and class 4 there is no
# class 3. We draw a grid into an image to see the field.

# %%
bend = augmentation.Elastic(deviation=tile / 12, seed=seed)
lined = images[shown[:1]].copy()
lined[:, ::8], lined[:, :, ::8] = 255, 255
four_masks = np.repeat(masks[shown[:1]], 4, axis=0)
pair = {"image": np.repeat(lined, 4, axis=0), "mask": four_masks}
bent = {key: ops.convert_to_numpy(value) for key, value in bend(pair).items()}
bent_images = np.concatenate([lined, bent["image"]])
bent_masks = np.concatenate([pair["mask"][:1], bent["mask"]])
titles = ["as it was", *["bent"] * 4]
plots.show_masks(bent_images, bent_masks, classes=classes, titles=titles, columns=5)

# %% [markdown]
# Does it matter that both move? Bend, turn and flip the image with its mask, and count how many pixels of shapes still
# have a label that belongs to them. Then do the same with the image alone, as a careless pipeline would. (We take an
# image whose colours *are* the labels, so that we can count.)

# %%
steps = [augmentation.Flip(0.5, 0.5), augmentation.Affine(rotation=20), bend]
together = augmentation.Compose(steps, seed=seed)
labelled = {"image": np.repeat(masks[:200, ..., None], 3, axis=-1), "mask": masks[:200]}
moved = {key: ops.convert_to_numpy(value) for key, value in together(labelled).items()}
inside = (moved["mask"] > 0) & (moved["mask"] < 255)
colours = moved["image"][..., 0]
kept = {"both moved": np.mean(colours[inside] == moved["mask"][inside])}
inside = (masks[:200] > 0) & (masks[:200] < 255)
kept["image alone"] = np.mean(colours[inside] == masks[:200][inside])
plots.bars(kept, xlabel="share of the shapes' pixels with a label of their own")

# %% [markdown]
# (The first bar is not 1: along outlines the image is a mixture of two neighbours, the mask is not.) Here are examples
# of the three together, as a network would see them.

# %%
sight = {"image": images[shown], "mask": masks[shown]}
moved = {key: ops.convert_to_numpy(value) for key, value in together(sight).items()}
plots.show_masks(moved["image"], moved["mask"], classes=classes)

# %% [markdown]
# White marks pixels that came from outside the image: their label is 255, and no loss counts them. Whether a
# deformation helps depends on the data. Cells may bend; a square that bends is no square any more. So we train on our
# shapes with flips alone.
#
# ### Dilation: do not lose the places at all
#
# Why pool, if the network has to come back? Because a pixel of a pooled map sees more. A **dilated** (or *atrous*,
# with holes) convolution sees more without pooling: its taps lie d pixels apart. Chen et al. (DeepLab 2015) take the
# stride out of the last stages and dilate what follows by as much. The weights stay the same, and every value of the
# old, coarse map is there in the new, finer one; between them lie new ones. (Yu and Koltun 2016 do the same, and
# stack a *context module* on the map: 3 × 3 convolutions with d = 1, 1, 2, 4, 8, 16, 1.) Each adds 2d to what the
# chain sees: 1, 2, 4, 8 give 31 × 31.

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.9))
for ax, d in zip(axes, (1, 2, 4)):
    reach = np.zeros((17, 17))
    taps = 8 + d * np.arange(-1, 2)
    reach[np.ix_(taps, taps)] = 1
    ax.imshow(reach, cmap="Blues", vmin=0, vmax=1.3)
    ax.set_title(f"d = {d}: 9 weights, sees {2 * d + 1} × {2 * d + 1}")
    ax.set(xticks=[], yticks=[])

# %%
n = 1
for d in (1, 2, 4, 8):
    n += 2 * d
    print(f"3 x 3 at d = {d}: the chain sees {n} x {n}")

# %% [markdown]
# **Atrous spatial pyramid pooling** (ASPP, DeepLabv2 and v3) looks at that map with several dilations side by side,
# from v3 on also at the mean of the whole image, and mixes what they find: the same object may be small or large.
# ("Spread" gives every place the mean of the image.) v3+ adds a small decoder with a map of stride 4, for the
# outlines.
#
# The first two versions of DeepLab sharpen outlines in another way. After the network, a **fully connected conditional
# random field** (CRF, Krähenbühl and Koltun 2011) asks for each pair of pixels: do they lie near each other and look
# alike? Then it costs something to give them different classes. A few steps of mean-field inference lower the total
# cost, so that labels move to where colours change. v3 dropped the CRF: by then the networks' own maps were good
# enough.

# %%
last_map = layers.Input((8, 8, 128))
plots.block_diagram(keras.Model(last_map, aspp(last_map, 64, rates=(1, 2, 4))))

# %% [markdown]
# Removing stride costs no parameter and much work:

# %%
shape = (tile, tile, 3)
pyramid = {"filters": 64, "rates": (1, 2, 4), "decoder": False}
pyramid |= narrow
costs = {"parameters": {}, "MACs": {}, "activations": {}}
for stride in (32, 16, 8, 4):
    options = {"output_stride": stride, "low_level": 1, **pyramid}
    model = architectures.outline(lambda o=options: deeplab(shape, len(classes), **o))
    total = arithmetic.totals(model)
    name = f"stride {stride}: {tile // stride} × {tile // stride}"
    for kind, key in zip(costs, ("trainable", "macs", "activation_bytes")):
        costs[kind][name] = total[key]
for kind, values in costs.items():
    first = next(iter(values.values()))  # that of stride 32
    costs[kind] = {name: value / first for name, value in values.items()}
plots.dots(costs, "times as much as at stride 32")

# %% [markdown]
# ### Side by side
#
# Small networks for tiles. All start from 16 filters, a quarter of VGG13's; FCN and the dilated network have its five
# stages, SegNet and U-Net four, and FCN-32s answers on a map of 2 × 2. (A SegNet of five stages must press all that it
# knows through a map of 2 × 2. In a short training it stayed at a mean IoU of .17.) The sixth network gives up the
# finest maps: "U-Net, half" begins with a convolution of stride 2. It has half as many filters again, paid by what the
# stride saves, and enlarges its logits twice, bilinearly. The dilated network has ASPP and no decoder, as DeepLabv3.

# %%
four = ((16, 2), (32, 2), (64, 2), (128, 2))
half = {"widths": (24, 48, 96, 128), "stem_stride": 2}
builders = {
    "FCN-32s": lambda: fcn32(shape, len(classes), units=None, **narrow),
    "FCN-8s": lambda: fcn8(shape, len(classes), units=None, **narrow),
    "SegNet": lambda: segnet(shape, len(classes), stages=four),
    "U-Net": lambda: unet(shape, len(classes), widths=(16, 32, 64, 128)),
    "U-Net, half": lambda: unet(shape, len(classes), **half),
    "dilated": lambda: deeplab(shape, len(classes), output_stride=8, **pyramid),
}
totals = {}
for name, build in builders.items():
    totals[name] = arithmetic.totals(architectures.outline(build))
figure, axes = plt.subplots(3, 1, figsize=(8, 5.4))
units = {"trainable": "million parameters", "macs": "million MACs"}
units["activation_bytes"] = "activations, MB"
for ax, (key, label) in zip(axes, units.items()):
    bars = {name: total[key] / 1e6 for name, total in totals.items()}
    plots.bars(bars, xlabel=label, ax=ax)

# %% [markdown]
# FCN-32s has more parameters than FCN-8s for one reason: a transposed convolution that enlarges 32 times has kernels
# of 64 × 64, from every class to every class. Full resolution costs much work and memory, and the number of parameters
# tells nothing about either. Before they train, guess: which of them will draw the best outlines, and which will know
# best *what* it sees?
#
# ## Losses
#
# Every pixel is a classification, so the natural loss is the mean **cross-entropy** of the pixels, −log p of the true
# class. Where background fills 97 %, it also fills 97 % of the loss at the start. How far does a network get that
# learns nothing but *how frequent* each class is, and answers that at every pixel? We compare four losses, each with
# the best answer on the line from uniform past the frequencies, as a share of the loss of the uniform answer.

# %%
weights = losses.class_weights(rare_masks, len(rare_classes), "median")
loss_functions = {
    "cross-entropy": losses.CrossEntropy(),
    "weighted": losses.CrossEntropy(class_weights=weights),
    "focal": losses.Focal(gamma=2.0),
    "Dice": losses.Dice(),
}
sample = rare_masks[:64]
left = {}
for name, loss in loss_functions.items():
    values = []
    for scale in np.linspace(0, 1.5, 31):  # from uniform past the frequencies
        logits = np.log(share + 1e-9) * scale
        logits = np.broadcast_to(logits, (*sample.shape, len(share)))
        values.append(float(loss(sample, logits.astype("float32"))))
    left[name] = min(values) / values[0]
plots.bars(left, xlabel="loss that the best such answer leaves (uniform answer: 1)")

# %% [markdown]
# Under cross-entropy, an answer that has found no shape has already got rid of nine tenths of the loss. What is left to
# learn from the shapes is a small part of a small number. Under class weights the same answer keeps about four fifths
# of the loss, under Dice about nine tenths: most of the loss is still there to be learnt from the shapes. Three
# remedies:
#
# - **Weights**: each pixel's loss times a weight of its class; here the median frequency over the class's (Eigen and
#   Fergus 2015).
# - **Focal loss** (Lin et al. 2017): times $(1 - p)^\gamma$, so that pixels which are right already fall silent,
#   whatever their class. It does not ask for rare classes from the start (see the bar); it does so later, once the
#   background is easy.
#   (RetinaNet's is for sigmoids, with a weight α. It adds up the losses of all anchors and divides by the number of
#   *anchors that were assigned to an object*. Ours is for a softmax, the mean over the pixels.)
# - **Dice loss** (Milletari et al. 2016): 1 − the mean of the classes' Dice scores, with probabilities in the place
#   of predictions. A region counts as a whole, so its size cancels. (The paper squares the terms of the denominator;
#   ours, as most later ones, does not. Many add it to the cross-entropy, which has the steadier gradient.)

# %%
p = np.linspace(0.01, 1, 200)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), width_ratios=[1.4, 1])
by_gamma = {"gamma 0 (cross-entropy)": -np.log(p)}
for gamma in (1, 2, 5):
    by_gamma[f"gamma {gamma}"] = -((1 - p) ** gamma) * np.log(p)
xlabel, ylabel = "probability of the true class", "focal loss of the pixel"
plots.curves(by_gamma, p, xlabel, ylabel, ax=axes[0])
axes[0].set_ylim(0, 3)
axes[1].bar(rare_classes, weights, color=plots.BLUE)
axes[1].set(ylabel="weight", title="median frequency", yscale="log")
axes[1].tick_params(axis="x", rotation=60)

# %% [markdown]
# Dice by hand, on one class: the truth has 4 pixels, the network gives them .9 and six background pixels .5.
# Intersection 3.6, sizes 4 and 3.6 + 3 = 6.6: we expect 1 − 7.2 / 10.6 = .321. A hundred times as much background
# that is predicted right changes nothing in it, while cross-entropy falls to a fiftieth.

# %% tags=["nbval-check-output"]
for background in (10, 1000):
    t = np.array([1] * 4 + [0] * (6 + background))[None, None]
    foreground = np.array([0.9] * 4 + [0.5] * 6 + [1e-6] * background)[None, None]
    logits = np.log(np.stack([1 - foreground, foreground], axis=-1)).astype("float32")
    dice_value = float(losses.dice(t, logits, background=False))
    entropy = float(losses.cross_entropy(t, logits))
    values = f"Dice loss {dice_value:.3f}, cross-entropy {entropy:.3f}"
    print(f"{background:4} easy pixels: {values}")

# %% [markdown]
# ### Which one helps?
#
# A small U-Net, the same first weights, the same tiles in the same order; only the loss differs. Each training step
# draws tiles and flips some of them, masks along with images. The rate rises for a tenth of the steps, stays, and
# falls to 0.


# %%
def batches(images, masks, count):
    """A function of the epoch: `count` pairs drawn from these, flipped by chance."""

    def one(epoch):
        rng = np.random.default_rng([seed, epoch])
        rounds = -(-count // len(images))
        orders = [rng.permutation(len(images)) for _ in range(rounds)]
        chosen = np.concatenate(orders)[:count]
        x, y = images[chosen], masks[chosen]
        for axis in (1, 2):
            turned = rng.random(count) < 0.5
            x[turned], y[turned] = np.flip(x[turned], axis), np.flip(y[turned], axis)
        return x, y

    return one


# %%
def train(model, images, masks, steps, loss, rate=2e-3, batch_size=8):
    """Train for so many steps; gives the history, an entry for each 25 steps."""
    schedule = training.WarmupHoldDecay(rate, steps, warmup=steps // 10)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0)
    model.compile(optimizer, loss, jit_compile=training.jit_compile())
    each = min(steps, 25)
    drawn = batches(images, masks, each * batch_size)
    options = {"batch_size": batch_size, "seed": seed}
    return training.fit(model, drawn, steps // each, **options).history


# %%
loss_scores, loss_labels = {}, {}
for name, loss in loss_functions.items():
    keras.utils.set_random_seed(seed)
    model = unet((rare_tile, rare_tile, 3), len(rare_classes), widths=rare_widths)
    train(model, rare_images, rare_masks, loss_steps, loss)
    rare_pairs = rare_val_images, rare_val_masks
    loss_scores[name] = metrics.evaluate(model, rare_pairs, len(rare_classes))
    loss_labels[name] = inference.predict(model, rare_val_images[:400], batch_size=32)

# %%
foreground = {}
for name, result in loss_scores.items():
    matrix = result["confusion"]
    hit = matrix[1:, 1:].sum()  # any class but background, where there is one
    precision = hit / max(matrix[:, 1:].sum(), 1)
    foreground[name] = {"precision": precision, "recall": hit / matrix[1:].sum()}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6))
plots.bars(
    {name: result["mean_iou"] for name, result in loss_scores.items()},
    xlabel="mean IoU",
    baselines={"all background": nothing["mean_iou"]},
    ax=axes[0],
)
for index, (name, values) in enumerate(foreground.items()):
    style = {"color": plots.class_colour(index), "label": name, "ms": 8}
    axes[1].plot(values["recall"], values["precision"], "o", **style)
axes[1].set(xlabel="recall of 'some object'", ylabel="precision")
axes[1].set(xlim=(0, 1.05), ylim=(0, 1.05))
axes[1].legend(fontsize=9)

# %%
covered = [-np.sum(mask > 0) for mask in rare_val_masks[:400]]
busy = np.argsort(covered, kind="stable")[:4]
found = {name: values[busy] for name, values in loss_labels.items()}
plots.show_label_maps(rare_val_images[busy], rare_val_masks[busy], found, rare_classes)
record(
    iou_cross_entropy=loss_scores["cross-entropy"]["mean_iou"],
    iou_weighted=loss_scores["weighted"]["mean_iou"],
    iou_focal=loss_scores["focal"]["mean_iou"],
    iou_dice=loss_scores["Dice"]["mean_iou"],
)

# %%
for name, values in foreground.items():
    alarms = 1 - values["precision"]
    recall = values["recall"]
    print(f"{name:13}: {recall:4.0%} of pixels found, {alarms:4.0%} of alarms false")

# %% [markdown]
# Read the two charts together. Under plain cross-entropy a missed object pixel costs as much as a false alarm. So a
# network says "object" only where an object is the likelier answer. The same holds for the focal loss. With the
# weights above, a miss costs as much as some thirty false alarms: the network finds nearly all pixels of objects, and
# it paints a rim of false alarms around them. Dice weighs a miss against a false alarm within each class, whatever the
# class's size, and lies between. (The lab finds out why a network that is judged by Dice names more pixels.)
#
# The mean IoU of all four is low: in so few steps the networks find objects better than they name them. It also changes
# from seed to seed by as much as the losses differ, so this chart names no winner. Which loss to take depends on the
# price of a miss and of a false alarm, and on the score to be reported: class weights raise mean *accuracy*, Dice loss
# raises mean Dice.
#
# ## The families on equal time
#
# Now these networks, on the scenes. A fair comparison fixes what is scarce. With equal *steps* the slow networks would
# get more time. We give each the same CPU seconds. They are counted in steps whose time was measured beforehand, since
# a run of so many steps can be repeated exactly and a run of so many seconds cannot. Most of the papers train for days
# on photographs and start from ImageNet's weights (U-Net: ten hours, from random weights). Here each network trains
# for less than a minute, from random weights, twice. All have the sum of cross-entropy and Dice loss.

# %%
combined = losses.Sum(losses.CrossEntropy(), losses.Dice())
models, seconds, curves = {}, {}, {}
measures = {"pixel_accuracy": "pixel accuracy", "mean_iou": "mean IoU"}
measures |= {"mean_dice": "mean Dice", "mean_boundary_f": "mean boundary F"}
results = {measure: {name: [] for name in builders} for measure in measures}
last_results = {}
for (name, build), steps in zip(builders.items(), family_steps):
    began = time.process_time()
    for repeat in range(family_repeats):
        keras.utils.set_random_seed(seed + 1000 * repeat)
        models[name] = model = build()
        if steps:
            history = train(model, train_images, train_masks, steps, combined)
            curves[name] = history["loss"]
        pairs = images, masks
        found = metrics.evaluate(model, pairs, len(classes), tolerance=1.5)
        for measure in measures:
            results[measure][name].append(found[measure])
    last_results[name] = found
    seconds[name] = time.process_time() - began
labels = {name: inference.predict(model, images) for name, model in models.items()}
mean_iou = {name: np.mean(values) for name, values in results["mean_iou"].items()}
plots.bars(seconds, xlabel="CPU seconds of training and judging, on this machine")

# %%
figure, ax = plt.subplots(figsize=(8, 3))
at = {name: (np.arange(len(c)) + 1) / len(c) for name, c in curves.items()}
plots.curves(curves, at, "share of the time, last training of each", "loss", ax=ax)

# %% [markdown]
# Four scores of each training, a dot each. The dashed lines are the scores of a network that answers background
# everywhere.

# %%
matrix = metrics.confusion(masks, np.zeros_like(masks), len(classes))
background = metrics.scores(matrix)
figure, axes = plt.subplots(2, 2, figsize=(8, 4.6), sharey=True, layout="constrained")
for ax, (measure, name) in zip(axes.flat, measures.items()):
    known = measure in background  # there is no outline to judge
    baseline = {"all background": background[measure]} if known else None
    plots.dots({"": results[measure]}, name, baseline, ax=ax)

# %%
ious = {name: result["iou"] for name, result in last_results.items()}
figure, ax = plt.subplots(figsize=(8, 3))
for index, (name, values) in enumerate(ious.items()):
    at = np.arange(len(classes)) + 0.14 * (index - 2.5)
    ax.bar(at, values, 0.13, color=plots.class_colour(index), label=name)
ax.set_xticks(range(len(classes)), classes)
ax.set(ylabel="IoU", title="By class")
ax.legend(fontsize=9, ncols=6, loc="lower center", bbox_to_anchor=(0.5, -0.35))
record(
    iou_fcn32=mean_iou["FCN-32s"],
    iou_fcn8=mean_iou["FCN-8s"],
    iou_segnet=mean_iou["SegNet"],
    iou_unet=mean_iou["U-Net"],
    iou_unet_half=mean_iou["U-Net, half"],
    iou_dilated=mean_iou["dilated"],
)

# %% [markdown]
# Which classes does the best of them confuse? Its **confusion matrix**, in thousands of pixels.

# %%
best_name = max(mean_iou, key=mean_iou.get)
confused = last_results[best_name]["confusion"] / 1000
plots.confusion_matrix(confused, classes, title=f"{best_name}: thousands of pixels")
pairs = ", ".join(f"{name} {value:.2f}" for name, value in mean_iou.items())
print(f"mean IoU, mean of {family_repeats}: {pairs}")

# %% [markdown]
# Two things act together: how many steps a family can afford in the time, and how fine its answers are.
#
# - FCN-32s and FCN-8s cost nearly the same and have the same encoder. They differ in the finer maps that FCN-8s adds.
#   In runs of twice the length, with three seeds, FCN-32s reached a mean IoU of .38 to .45 and FCN-8s .68. (FCN-32s is
#   far above the majority's class at stride 32: its kernels of 64 × 64 do not repeat a score, they have learnt to draw
#   shapes.)
# - The dilated network also has a map of stride 8. It enlarges its answers by interpolation alone.
# - SegNet and U-Net work at full resolution. This is expensive, so they get about half as many steps.
# - "U-Net, half" gives up the finest maps and gets more steps. Compare it with U-Net: in so short a time the steps are
#   worth more than the finest maps. The lab trains "U-Net, half" for longer.
#
# This ranking is one of networks that have hardly begun to learn. With more time it may change (exercise 6).
#
# ### What they draw

# %%
found_maps = {name: found[shown] for name, found in labels.items()}
plots.show_label_maps(images[shown], masks[shown], found_maps, classes)

# %% [markdown]
# ### Where they err: outlines
#
# For each pixel we know how far it is from the nearest pixel of another class. A network whose map is coarse should
# err near outlines, and one that does not understand what it sees should err everywhere.


# %%
def distance_to_outline(mask):
    """For each pixel of (H, W) the distance to the nearest pixel of another class."""
    distance = np.full(mask.shape, np.inf)
    for label in np.unique(mask):
        inside = mask == label
        if not inside.all():
            distance[inside] = ndimage.distance_transform_edt(inside)[inside]
    return distance


edges = [1.5, 2.5, 4.5, 8.5]
bins = np.digitize(np.stack([distance_to_outline(mask) for mask in masks]), edges)
bin_names = ["1", "2", "3-4", "5-8", "9 and more"]
counted = masks != 255
error = {}
for name, found in labels.items():
    inside = [(bins == b) & counted for b in range(5)]
    error[name] = [np.mean(found[some] != masks[some]) for some in inside]
figure, ax = plt.subplots(figsize=(8, 3))
xlabel, ylabel = "pixels from the nearest outline", "share of wrong pixels"
plots.curves(error, range(5), xlabel, ylabel, ax=ax)
ax.set_xticks(range(5), bin_names)

# %%
some = shown[:3]
errors = {name: found[some] for name, found in labels.items()}
plots.show_label_maps(images[some], masks[some], errors, classes, errors=True)

# %% [markdown]
# ### Where they err: small objects
#
# Take each region of the true mask by itself. What share of its pixels gets the right class? Regions by size,
# measured by the diameter of a disc of that area.

# %%
diameters, recalls = [], {name: [] for name in labels}
for index, mask in enumerate(masks):
    for label in np.setdiff1d(np.unique(mask), (0, 255)):
        parts, number = ndimage.label(mask == label, np.ones((3, 3)))
        for part in range(1, number + 1):
            inside = parts == part
            diameters.append(2 * np.sqrt(inside.sum() / np.pi))
            for name, found in labels.items():
                recalls[name].append(np.mean(found[index][inside] == label))
limits = np.quantile(diameters, [0.2, 0.4, 0.6, 0.8])
size_bins = np.digitize(diameters, limits)
by_size = {}
for name, values in recalls.items():
    by_size[name] = [np.mean(np.array(values)[size_bins == b]) for b in range(5)]

# %%
figure, ax = plt.subplots(figsize=(8, 3))
xlabel = "diameter of the region, pixels (fifths of all regions)"
plots.curves(by_size, range(5), xlabel, "share of its pixels found", ax=ax)
bounds = [min(diameters), *limits, max(diameters)]
ax.set_xticks(range(5), [f"{bounds[b]:.0f}-{bounds[b + 1]:.0f}" for b in range(5)])
record(
    unet_small=by_size["U-Net"][0],
    fcn32_small=by_size["FCN-32s"][0],
    unet_outline_error=error["U-Net"][0],
    fcn8_outline_error=error["FCN-8s"][0],
)

# %% [markdown]
# How to read such lines: a line that falls steeply belongs to a network that knows what it sees and cannot place it
# exactly. A line that stays high belongs to a network that takes whole regions for something else. All networks err
# most at outlines, and all find more of large regions than of small ones. The regions of the smallest fifth are
# narrower than a stride of 8, or little wider.
#
# ### How fast they are
#
# One tile at a time, after warm-up, the median of 100, on this machine.

# %%
speed = {}
for name, model in models.items():
    times = []
    for _ in range(timed + 5):
        began = time.perf_counter()
        model.predict_on_batch(images[:1]).argmax(axis=-1)
        times.append(time.perf_counter() - began)
    speed[name] = 1 / np.median(times[5:])
xlabel = f"images of {tile} × {tile} pixels a second"
plots.bars(speed, xlabel=xlabel, baselines={"a camera: 25": 25})

# %% [markdown]
# Tiles of this size are no street scenes: an image of 1,280 × 960 has 300 times as many pixels as one of 64 × 64, and
# takes up to 300 times as long (for a tile part of the time is the call itself). Back to the car of the beginning:

# %%
times = 1280 * 960 / tile**2
metres = {name: times / rate * 50 / 3.6 for name, rate in speed.items()}
xlabel = "metres driven at 50 km/h for one image of 1,280 × 960, at most"
plots.bars(metres, xlabel=xlabel)

# %% [markdown]
# This is why vehicles have accelerators, and why much work goes into networks that do this at 30 images a second.
#
# ### Where it went since
#
# **SegFormer** (Xie et al. 2021) replaces the convolutional encoder by a transformer, in which every place can look at
# every other one. It gives maps of the strides 4, 8, 16 and 32, as a convnet does. The decoder is only a few 1 × 1
# convolutions that mix the four maps. **SAM**, "segment anything" (Kirillov et al. 2023), answers another question:
# given a point or a box, which region is meant? It was trained on a billion masks, most of which an earlier version of
# the model drew. It finds outlines of nearly anything, and it knows no class names: a classifier must still say what a
# region is. What this lecture measures (scores, strides, outlines, few masks) is measured for them too.
#
# ## Few masks: an encoder that has seen image labels only
#
# A mask costs minutes of somebody's work, an image label seconds. Can a network learn *what things look like* from
# labels, and only *where they end* from masks? The contracting path of a U-Net may be any classifier without its top.
# Ours has seven convolutions, four of them with stride 2. It is trained to name single shapes in crops, and never sees
# a scene or a mask. (Profile `real`: MobileNetV2, trained on ImageNet's 1,000 classes of photographs, put to work on
# nuclei under the microscope.)


# %%
def trunk(classes=None):
    """Seven convolutions, maps of strides 2 to 16; with `classes`, a classifier."""
    image = layers.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    kinds = (24, 2), (48, 2), (48, 1), (96, 2), (96, 1), (160, 2), (160, 1)
    for number, (filters, stride) in enumerate(kinds, 1):
        x = conv_bn_relu(x, filters, 3, stride, name=f"conv{number}")
    if classes:
        x = layers.Dense(classes, name="logits")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="trunk")


# %%
if encoder == "crops":
    split = f"train[:{min(64 * crops_steps, 8000)}]"
    crops, crop_labels = data.arrays("shapes_crops", split)
    named = trunk(6)
    rate = training.WarmupHoldDecay(2e-3, crops_steps, warmup=crops_steps // 10)
    training.compile_classifier(named, keras.optimizers.AdamW(rate, weight_decay=1e-3))
    x, y = transfer.repeat(crops, crop_labels, crops_steps, batch_size=64, seed=seed)
    named.fit(x, y, batch_size=64, shuffle=False, verbose=0)
    held_out, held_out_labels = data.arrays("shapes_crops", "validation")
    answers = transfer.predict(named, held_out).argmax(axis=1)
    right = np.mean(answers == held_out_labels)
    print(f"{right:.3f} of {len(held_out)} held-out crops named right (chance .17)")
    ten = held_out[:10], held_out_labels[:10]
    plots.show_images(*ten, classes=shape_names, columns=10)
    del x, y

# %% [markdown]
# Then we take few images *with masks*, and train the same U-Net on them in three ways:
#
# - on the encoder as it is now, frozen: only the path up learns;
# - on an encoder with *random* weights, frozen. This is the control: random filters give features too. What the first
#   network has beyond this one comes from the image labels;
# - from scratch: random weights, and all of them learn.
#
# All take the same number of steps, with the same schedule of the rate. In all of them the batch norms that learn get
# their statistics from the training images at the end. (A pitfall of topic 06: with ten images, running statistics do
# not settle by themselves.)


# %%
def with_encoder(pretrained):
    """A U-Net on the trunk or on MobileNetV2."""
    options = {"levels": [1, 2, 3, 4], "widths": (24, 32, 64)}
    if encoder == "MobileNetV2":
        weights = "imagenet" if pretrained else None
        options |= {"backbone": "MobileNetV2", "weights": weights}
    else:
        options["backbone"] = body = trunk()
        if pretrained:
            transfer.copy_layers(named, body, 7)
    return unet((image_size, image_size, 3), len(classes), **options)


def start_from(pretrained, frozen):
    keras.utils.set_random_seed(seed)
    model = with_encoder(pretrained)
    model.get_layer("backbone").trainable = not frozen
    return model


# %%
whole_images, whole_masks = examples(source, "train[:400]", image_size, image_size)
judging = f"test[:{min(tested, 300)}]"
test_images, test_masks = examples(source, judging, image_size, image_size)


def judged(model, pictures):
    """Mean IoU on the test images, with batch norms that fit the training images."""
    transfer.recalibrate_batch_norm(model, pictures, batch_size=32)
    return metrics.evaluate(model, (test_images, test_masks), len(classes))["mean_iou"]


# %%
ways = {
    "encoder from image labels": (True, True),  # pretrained, frozen
    "random encoder, frozen": (False, True),
    "all from scratch": (False, False),
}
reached, last = {name: {} for name in ways}, {}
for draw in range(draws):
    order = np.random.default_rng([seed, draw]).permutation(len(whole_images))
    for count in few:
        pictures, truths = whole_images[order[:count]], whole_masks[order[:count]]
        for name, way in ways.items():
            model = start_from(*way)
            train(model, pictures, truths, few_steps, combined)
            score = judged(model, pictures)
            reached[name].setdefault(f"{count} masks", []).append(score)
            last[name, count] = inference.predict(model, test_images[:4], batch_size=4)

# %% [markdown]
# Is it fair to stop the third network so early? It has the most to learn. So we also let it train until it stops
# gaining. Every `few_steps` steps we look at its score on validation images. It has stopped when two looks in a row
# bring less than .01. (Here the rate is constant, since the end is not known beforehand. It may look `longest` times at
# most.)


# %%
def until_it_stops(pictures, truths):
    """A network from scratch that trains until it stops gaining; validation scores."""
    model, scores = start_from(False, False), []
    options = {"jit_compile": training.jit_compile()}
    model.compile(keras.optimizers.AdamW(1e-3, clipnorm=5.0), combined, **options)
    drawn = batches(pictures, truths, few_steps * 8)
    while len(scores) < longest:
        x, y = drawn(len(scores))
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        transfer.recalibrate_batch_norm(model, pictures, batch_size=32)
        found = metrics.evaluate(model, held_out_pairs, len(classes))
        scores.append(found["mean_iou"])
        if len(scores) > 2 and max(scores[-2:]) < max(scores[:-2]) + 0.01:
            break
    return model, scores


held_out_pairs = examples(source, "validation[:100]", image_size, image_size)

# %%
order = np.random.default_rng([seed, 0]).permutation(len(whole_images))
plateau, path = {}, {}
for count in few if longest else []:
    pictures = whole_images[order[:count]]
    model, scores = until_it_stops(pictures, whole_masks[order[:count]])
    plateau[f"{count} masks"] = judged(model, pictures)
    path[f"{count} masks"] = scores
if path:
    at = {name: few_steps * (1 + np.arange(len(path[name]))) for name in path}
    figure, ax = plt.subplots(figsize=(6, 3))
    plots.curves(path, at, "steps from scratch", "mean IoU, validation", ax=ax)

# %%
trivial = {"all background": np.zeros_like(test_masks)}
if len(classes) == 2:  # bright objects on dark ground: what does a threshold find?
    greys = test_images.mean(axis=-1)
    bright = [grey > threshold_otsu(grey) for grey in greys]
    trivial["brightness (Otsu)"] = np.stack(bright).astype("uint8")
for name, found in trivial.items():
    matrix = metrics.confusion(test_masks, found, len(classes))
    trivial[name] = metrics.scores(matrix)["mean_iou"]
if plateau:
    reached["from scratch, until it stops"] = plateau
figure, ax = plt.subplots(figsize=(8, 2.4), layout="constrained")
plots.dots(reached, "mean IoU on test images", trivial, ax=ax)

# %%
means = {}
for name, by_count in reached.items():
    means[name] = [float(np.mean(runs)) for runs in by_count.values()]
for k, count in enumerate(few):
    print(f"{count} masks, mean IoU after {few_steps} steps:")
    for name, values in means.items():
        print(f"    {name:28} {values[k]:.2f}")
for name, scores in path.items():
    print(f"{name}: until it stops means {few_steps * len(scores):,} steps")

# %%
labelled, at_random, scratch = (means[name] for name in ways)
stopped = means.get("from scratch, until it stops", scratch)  # if it was tried
record(
    gain_fewest=labelled[0] - scratch[0],
    gain_most=labelled[-1] - scratch[-1],
    gain_control_fewest=labelled[0] - at_random[0],
    gain_control_most=labelled[-1] - at_random[-1],
    gain_stopped_fewest=labelled[0] - stopped[0],
    gain_stopped_most=labelled[-1] - stopped[-1],
    few_pretrained=labelled[-1],
)

# %%
titles = ("labels' encoder", "random encoder", "from scratch")
found = {short: last[name, few[0]] for short, name in zip(titles, ways)}
title = f"{few[0]} images with masks"
plots.show_label_maps(test_images[:4], test_masks[:4], found, classes, title=title)

# %% [markdown]
# Three comparisons answer three questions.
#
# - *Encoder from labels against random encoder.* Both train the same path up, for the same steps, on the same masks.
#   Their difference is what the image labels taught.
# - *Encoder from labels against scratch, at equal steps.* This is what you gain when the time to train is short. Part
#   of it is time and not knowledge: with a frozen encoder there is less to learn.
# - *Encoder from labels against scratch, after it stopped gaining.* This is what you gain when masks are few and time
#   does not matter. The network from scratch has trained for longer here. If the difference is near zero or below,
#   the masks alone were enough to learn what the image labels would have taught.
#
# How many masks are the image labels worth? Look for two dots at one height along the axis, one of each method, and
# compare their numbers of masks. Such a figure holds for one budget of steps only. With a short budget a network from
# scratch stays low however many masks it gets, and the image labels seem to be worth more than they are.
#
# An encoder need not bring anything. On nuclei (the profile `real`, MobileNetV2 from ImageNet) one run showed a
# difference of less than .01 to the network from scratch, with 10 as with 100 images: ten images with masks gave .87
# without the encoder. Nuclei are bright spots on a dark ground, of which a threshold on the brightness gets .83.
# Photographs have little to teach about them.
#
# ## Images of any size
#
# All families are convolutions from end to end. Train on tiles, and label an image of another size in one pass,
# or, if it does not fit into memory, window by window, with overlaps that are blended: `inference.sliding_window`.
# Our U-Net has seen squares of one size only.

# %%
if source.startswith("shapes"):
    size = {"image_size": (tile * 2, tile * 3), "radius": (6, 13)}
    wide = shapes.scene(3, "test", config="crowded", **size)
    big, big_mask = wide.image, wide.mask
else:
    one = examples(source, "test[:1]", image_size, image_size)
    big, big_mask = (array[0] for array in one)
in_one = inference.predict(models["U-Net"], big)
in_windows = inference.sliding_window(models["U-Net"], big, window=tile, overlap=0.5)
agree = np.mean(in_one == in_windows)
figure, axes = plt.subplots(2, 2, figsize=(8, 5.6))
panels = {
    "image": big,
    "truth": coloured(big, big_mask),
    "in one pass": coloured(big, in_one),
    f"in windows of {tile}": coloured(big, in_windows),
}
for ax, (title, picture) in zip(axes.flat, panels.items()):
    ax.imshow(picture)
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()
record(windows_agree=agree)

# %% [markdown]
# The two agree in all but a few pixels. Where they differ, a window saw padding in the place of the image. This
# matters most near the window's edges, to which the blend gives little weight. Two changes make the answer exactly that
# of the whole image: windows that overlap by twice what the network sees to one side, and `blend="crop"`, which keeps
# only their middles.
#
# ## Summary
#
# You can now
#
# - say what semantic segmentation answers, what it does not (how many?), and who needs it how fast;
# - compute every score from one confusion matrix, and distrust a pixel accuracy that comes without the share of
#   background;
# - turn a patch classifier into a fully convolutional network, and count what is saved; name the price of stride;
# - enlarge by repetition, interpolation, unpooling, transposed convolution; build FCN, SegNet, U-Net and a dilated
#   net;
# - choose between cross-entropy, weights, focal and Dice loss by the share of the rarest class;
# - compare on equal time, and look for errors by distance from outlines and by size of objects;
# - bend images and masks by one field;
# - start from an encoder that knows image labels when masks are few, and show by a control what it brought.
#
# ## Exercises
#
# 1. (easy) Draw IoU of a square of side a that is predicted one pixel shifted to the right, against a. From which
#    size on is it above .9? *Hint: intersection (a − 1) a, union (a + 1) a.*
# 2. (easy) Replace `unpooling=True` by `False` in SegNet and train it again. What do the pooling indices buy, and
#    where: in mean IoU or in the boundary score? *Hint: `segnet(..., unpooling=False)`.*
# 3. (medium) Shift and stitch: run `dense_net` on the padded image shifted by 0 to 3 pixels in both directions,
#    interlace the 16 maps, and compare with `sliding`. *Hint: `framed[:, r:, c:]`, the first 16 × 16 of each map, and
#    `out[r::4, c::4] = ...`.*
# 4. (medium) U-Net's weight map makes the ground between touching objects count more. Draw `losses.border_weights`
#    for a crowded scene, and train with it. *Hint: instance masks are in `target="boxes"`; pass the maps as sample
#    weights.*
# 5. (medium) Let the pretrained encoder learn too, at 10 and at 100 images: at the full learning rate, and at a tenth
#    of it. Which of the three is best? *Hint: `training.layerwise(optimizer, model, {...})`, and topic 06.*
# 6. (hard) Give each family four times the steps. Does the order change? *Hint: which of the limits that we saw is
#    one of resolution, and which one of training?*
#
# ## Further reading
#
# - D. Ciresan, A. Giusti, L. Gambardella and J. Schmidhuber, *Deep neural networks segment neuronal membranes in
#   electron microscopy images*, NIPS 2012.
# - P. Sermanet et al., *OverFeat: integrated recognition, localization and detection using convolutional networks*,
#   ICLR 2014.
# - J. Long, E. Shelhamer and T. Darrell, *Fully convolutional networks for semantic segmentation*, CVPR 2015.
# - H. Noh, S. Hong and B. Han, *Learning deconvolution network for semantic segmentation*, ICCV 2015.
# - O. Ronneberger, P. Fischer and T. Brox, *U-Net: convolutional networks for biomedical image segmentation*, MICCAI
#   2015.
# - V. Badrinarayanan, A. Kendall and R. Cipolla, *SegNet: a deep convolutional encoder-decoder architecture for image
#   segmentation*, PAMI 2017.
# - P. Simard, D. Steinkraus and J. Platt, *Best practices for convolutional neural networks applied to visual document
#   analysis*, ICDAR 2003 (elastic deformation).
# - P. Krähenbühl and V. Koltun, *Efficient inference in fully connected CRFs with Gaussian edge potentials*, NIPS 2011.
# - E. Xie et al., *SegFormer: simple and efficient design for semantic segmentation with transformers*, NeurIPS 2021.
# - A. Kirillov et al., *Segment anything*, ICCV 2023.
# - L.-C. Chen et al., *Semantic image segmentation with deep convolutional nets and fully connected CRFs*, ICLR 2015
#   (DeepLab).
# - F. Yu and V. Koltun, *Multi-scale context aggregation by dilated convolutions*, ICLR 2016.
# - L.-C. Chen et al., *Encoder-decoder with atrous separable convolution for semantic image segmentation*, ECCV 2018
#   (DeepLabv3+).
# - D. Eigen and R. Fergus, *Predicting depth, surface normals and semantic labels with a common multi-scale
#   convolutional architecture*, ICCV 2015 (median frequency).
# - F. Milletari, N. Navab and S.-A. Ahmadi, *V-Net: fully convolutional neural networks for volumetric medical image
#   segmentation*, 3DV 2016 (Dice loss).
# - T.-Y. Lin et al., *Focal loss for dense object detection*, ICCV 2017.
# - G. Csurka, D. Larlus and F. Perronnin, *What is a good evaluation measure for semantic segmentation?*, BMVC 2013
#   (boundaries).
