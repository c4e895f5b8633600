# %% [markdown]
# # 10 Two-stage detection: solution
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/10_two_stage_detection.ipynb)
#
# **Propose, then look again.** You will write what makes Faster R-CNN a detector of two stages: the anchors, the
# label of each anchor, the losses of the proposal network, RoIPool with its two roundings, the level of a pyramid
# that a region belongs to, the loss of the second stage's boxes, and the step from outputs to proposals. Your losses
# then train a detector, and you measure whether its proposals are worth a second look.
#
# You will be able to
#
# - put anchors on a map, and label them so that no object is forgotten;
# - draw a balanced sample of them, and write the two losses of the proposal network;
# - round a box to cells and bins as RoIPool does, and find the level of a pyramid that suits a region;
# - write a loss that asks only the boxes of the right class, and train to a floor in AP50;
# - turn scores and moves into proposals, say what they learn from, and measure their recall.
#
# Plan three hours for it. There are ten gaps and two questions, 26 points. The training takes about a minute
# on two cores.

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
seed: int = 0  # [0, ] the first weights, and what is drawn
source: str = "shapes"  # a data set with boxes: its name, or the path of a folder
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
image_size: int = 96  # [64, 1024] height and width of its images; a multiple of 32
most: int = 3000  # [4, ] training images, at most
tested: int = 300  # [4, ] test images, at most
network: str = "shapes"  # the backbone: the course's own, or one of keras.applications
rate: float = 1.5e-3  # [1e-6, 0.1] highest learning rate
sizes: list[float] = [16, 24, 36, 48]  # sides of the anchors, in pixels
proposals: int = 128  # [16, 4000] of the network in training; at test half as many
steps: int = 500  # [2, 100000] training steps on 16 images each, in tens
floor: float = 0.85  # [0, 1] AP50 that your detector must reach on the test images
recall_floor: float = 0.85  # [0, 1] share of objects that ten proposals must find

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from utils import boxes as geometry
from utils import data, plots, results, session, training
from utils.checks import agree, own_work
from utils.data import augmentation
from utils.detection import anchors as course_anchors
from utils.detection import coding, evaluation, fast_rcnn, faster_rcnn
from utils.detection import matching, roi, rpn
from utils.detection import proposals as search

session.start(seed)

# %% [markdown]
# Images with boxes and labels; padding has the label −1 and a box of zeros. You learn from the training images, and
# measure on the test images once, at the end.


# %%
def examples(split):
    """Images, boxes, labels (and which are ignored) of a split, as a dict of arrays."""
    options = {"channels": 3, "target": "boxes", "on_error": on_error}
    images, truth = data.arrays(source, split, image_size, **options)
    kept = ("boxes", "labels", "ignored")
    return {"image": images} | {key: truth[key] for key in kept if key in truth}


# %%
def numbers(value):
    """A tensor, array or list as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(ops.convert_to_tensor(value)))


def tensors(*values):
    """Tensors: bool stays bool, all else becomes float32."""
    arrays = (np.asarray(value) for value in values)
    kinds = ((a, bool if a.dtype == bool else "float32") for a in arrays)
    return [ops.convert_to_tensor(a.astype(kind)) for a, kind in kinds]


def close(value, expected):
    """Whether two numbers, or all of two arrays, agree to four digits."""
    return np.allclose(numbers(value), expected, atol=1e-4)


# %%
names = data.chosen(source, "boxes", on_error, classes=1).classes
measured_on = ("shapes", "bccd", "voc/2007")  # the floors hold for these
train_set, test_set = examples(f"train[:{most}]"), examples(f"test[:{tested}]")
shown = {key: train_set[key][:4] for key in ("boxes", "labels")}
plots.show_objects(train_set["image"][:4], **shown, classes=names)

# %% [markdown]
# ## 1. Anchors (2 points)
# Write `make_anchors(rows, columns, stride, sizes, ratios)`: at the centre of each cell of a map of rows × columns,
# one box for each ratio and size. A cell (row, column) covers the pixels from (row · stride, column · stride) to one
# stride further. An anchor of size s and ratio r has the area s² and height / width = r.
#
# Out: (rows · columns · A, 4) float, `x1, y1, x2, y2` in pixels, A = ratios · sizes. The order is row by row, in a
# row column by column; at a place ratio by ratio, and for each ratio size by size. Anchors may reach beyond the
# image. The checks compute one place by hand.


# %% gap="anchors" stub="put one box for each ratio and size at the centre of each cell"
def make_anchors(rows, columns, stride, sizes, ratios):
    ### BEGIN SOLUTION
    found = []
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            for ratio in ratios:
                for size in sizes:
                    width, height = size / np.sqrt(ratio), size * np.sqrt(ratio)
                    x1, y1 = x - width / 2, y - height / 2
                    found.append([x1, y1, x1 + width, y1 + height])
    return np.array(found, "float32")
    ### END SOLUTION


# %% check="anchors" points=1
answer = numbers(make_anchors(2, 3, 8, (16,), (1, 4)))
assert answer.shape == (12, 4), f"6 places with 2 anchors: (12, 4), got {answer.shape}"
found = answer.tolist()
assert close(answer[0], [-4, -4, 12, 12]), (
    "cell (0, 0) of stride 8 has its centre at 4: "
    f"a square of 16 reaches from -4 to 12; anchor 0 of yours is {found[0]}"
)
assert close(answer[1], [0, -12, 8, 20]), (
    f"ratio 4 is height / width: 8 wide and 32 high, an area of 16²; got {found[1]}"
)
print("Right: one place has its anchors.")

# %% check="anchors" points=1
assert close(answer[2], [4, -4, 20, 12]), (
    f"the next place is one column to the right: x + 8, the same y; got {found[2]}"
)
two = numbers(make_anchors(1, 1, 8, (8, 16), (1, 4)))
assert close(two[1], [-4, -4, 12, 12]), (
    f"at a place, all sizes of one ratio come before those of the next; got {two[1]}"
)
### BEGIN HIDDEN TESTS
given = (5, 4, 16, (20, 30, 50), (0.5, 1, 2))
answer, expected = make_anchors(*given), course_anchors.grid(given[:2], *given[2:])
hint = "5 × 4 places of stride 16, sizes 20, 30, 50, ratios .5, 1, 2"
assert agree(answer, expected, hint, atol=1e-3)
### END HIDDEN TESTS
print("Right: every place has its anchors, in the order of the network's outputs.")

# %% [markdown]
# On the map of stride 8, with the sizes of this notebook:

# %%
side = image_size // 8
anchors = course_anchors.grid((side, side), 8, sizes, (1,))
one = int(np.argmax((train_set["labels"][:50] >= 0).sum(axis=1)))
there = train_set["labels"][one] >= 0
true_boxes = train_set["boxes"][one][there]
title, example = f"{len(anchors):,} anchors", train_set["image"][one]
plots.show_anchors(example, anchors, len(sizes), 8, title=title)

# %% [markdown]
# ## 2. What each anchor is told (3 points)
# Write `label_anchors(iou, high=.7, low=.3)`. In: the IoU of M objects with N anchors, (M, N). Out: (N,) int:
#
# - the **index of the object** that the anchor overlaps most, if their IoU is `high` or more;
# - the same index if that IoU is lower, but the anchor is the *best of some object*: no other anchor overlaps this
#   object more. If several tie, all of them count. So no object is without an anchor, except an object that overlaps
#   no anchor at all;
# - **−1**, background, if its IoU with every object is below `low`;
# - **−2**, left out of the loss, otherwise.
#
# An anchor that is some object's best answers for the object that *it* overlaps most, as in the authors' code. Think
# of the order in which the rules apply, of ties, and of an image without objects (M = 0).


# %% gap="labels" stub="return for each anchor the index of its object, -1 for background or -2 for neither"
def label_anchors(iou, high=0.7, low=0.3):
    ### BEGIN SOLUTION
    if len(iou) == 0:
        return np.full(iou.shape[1], -1)
    best, nearest = iou.max(axis=0), iou.argmax(axis=0)
    labels = np.where(best < low, -1, -2)
    is_best = (iou == iou.max(axis=1, keepdims=True)) & (iou > 0)
    return np.where((best >= high) | is_best.any(axis=0), nearest, labels)
    ### END SOLUTION


# %% check="labels" points=2
table = np.array([[0.8, 0.7, 0.5, 0.1, 0.0], [0.1, 0.0, 0.2, 0.25, 0.0]])
answer = numbers(label_anchors(table)).tolist()
assert answer[:2] == [0, 0], f"IoUs of .8 and .7 are high enough; got {answer[:2]}"
assert answer[2] == -2, f"an IoU of .5 is neither .7 nor below .3: -2; got {answer[2]}"
assert answer[3] == 1, f"object 1 has no better anchor than .25; got {answer[3]}"
assert answer[4] == -1, f"what overlaps nothing is background; got {answer[4]}"
tied = numbers(label_anchors(np.array([[0.4, 0.4, 0.1]]))).tolist()
assert tied == [0, 0, -1], f"if two anchors tie, both are positive; got {tied}"
answer = numbers(label_anchors(np.zeros((1, 2)))).tolist()
assert answer == [-1, -1], f"an IoU of 0 makes no anchor positive; got {answer}"
answer = numbers(label_anchors(np.zeros((0, 4)))).tolist()
assert answer == [-1] * 4, f"without objects all is background; got {answer}"
print("Right: positive, background, left out, and no object is forgotten.")

# %% check="labels" points=1
shared = numbers(label_anchors(np.array([[0.6, 0.1], [0.5, 0.1]]))).tolist()
assert shared[0] == 0, f"it overlaps object 0 more than 1; got {shared[0]}"
row = np.array([[0.9, 0.6, 0.45, 0.35]])
other = numbers(label_anchors(row, 0.5, 0.4)).tolist()
assert other == [0, 0, -2, -1], (
    "the limits are arguments: with .5 and .4, an IoU of .6 is positive, "
    f".45 is left out, .35 is background; got {other}"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(1)
for _ in range(5):
    corner = rng.uniform(0, 60, (3, 2))
    some = np.concatenate([corner, corner + rng.uniform(8, 50, (3, 2))], axis=1)
    iou = geometry.iou(some.astype("float32"), anchors)
    expected = matching.match(iou, 0.7, 0.3)
    assert agree(label_anchors(iou), expected, "three boxes and the anchors of the lab")
### END HIDDEN TESTS
print("Right: an anchor answers for the object that it overlaps most.")

# %%
told = matching.match(geometry.iou(true_boxes, anchors), 0.7, 0.3)
plots.show_anchor_labels(example, anchors, told, true_boxes)

# %% [markdown]
# ## 3. A balanced draw (1 point)
# Write `draw(labels, count, share, rng)`: which anchors a step learns from. At most `int(count * share)` of the
# positive ones (labels 0 and above), drawn at random; then background (−1), drawn at random, until there are `count`.
# Never draw one with −2. If there are fewer positives, more background fills up. If there are too few of both, take
# all of them.
#
# In: labels (N,), a NumPy Generator. Out: (N,) bool. The check counts, and tests over many draws that every anchor is
# drawn equally often within its kind.


# %% gap="draw" stub="mark the anchors that are drawn: positives up to their share, background to fill up"
def draw(labels, count, share, rng):
    ### BEGIN SOLUTION
    positive = rng.permutation(np.flatnonzero(labels >= 0))[: int(count * share)]
    background = rng.permutation(np.flatnonzero(labels == -1))[: count - len(positive)]
    chosen = np.zeros(len(labels), bool)
    chosen[positive] = chosen[background] = True
    return chosen
    ### END SOLUTION


# %% check="draw" points=1
labels = np.array([0] * 10 + [-1] * 40 + [-2] * 10)
answer = numbers(draw(labels, 16, 0.5, np.random.default_rng(0)))
kind = f"{answer.dtype} {answer.shape}"
assert kind == "bool (60,)", f"expected a bool for each anchor; got {kind}"
counted = [int(part.sum()) for part in np.split(answer, [10, 50])]
assert counted == [8, 8, 0], f"8 positives, 8 backgrounds, none of -2; got {counted}"
few = numbers(draw(labels[7:], 16, 0.5, np.random.default_rng(0)))
counted = int(few[:3].sum()), int(few.sum())
assert counted == (3, 16), f"to 3 positives come 13 backgrounds; got {counted}"
all_20 = numbers(draw(labels[:20], 64, 0.5, np.random.default_rng(0))).sum()
assert all_20 == 20, f"take what is there, 10 and 10; got {all_20}"
draws = [numbers(draw(labels, 16, 0.5, np.random.default_rng(n))) for n in range(300)]
times = np.sum(draws, axis=0)
often, background = times[:10], times[10:50]
assert often.min() > 180 and 30 < background.min() <= background.max() < 100, (
    "at random: in 300 draws each positive comes 240 times, each background 60 times; "
    f"yours from {often.min()} to {often.max()}, "
    f"{background.min()} to {background.max()}"
)
### BEGIN HIDDEN TESTS
none = numbers(draw(np.full(30, -1), 8, 0.5, np.random.default_rng(2)))
assert none.sum() == 8, f"without positives all of 8 are background; got {none.sum()}"
### END HIDDEN TESTS
print("Right: few positives are not drowned, and none of the left-out ones is asked.")

# %% [markdown]
# ## 4. RoIPool (3 points)
# Write `roi_pool(features, box, bins, stride)` for one box on one map, with NumPy:
#
# 1. divide the box by the stride, and round each of the four numbers to the nearest cell (halves upwards);
# 2. the last cell **belongs** to the box: from cell 2 to cell 4 are three cells, n = last − first + 1 (1 at least);
# 3. bin i of `bins` begins at cell first + ⌊i · n / bins⌋ and ends *before* cell first + ⌈(i + 1) · n / bins⌉. Borders
#    are rounded outwards, so bins overlap where n is no multiple of `bins`;
# 4. clip the bins to the map. The value of a bin is the maximum of its cells, in each channel; a bin without cells
#    has the value 0.
#
# In: features (H, W, C), box (4,) `x1, y1, x2, y2` in pixels of the image. Out: (bins, bins, C), rows first. The
# checks compute small maps by hand: think about which axis x is.


# %% gap="roi-pool" stub="round to cells, divide into bins, take the maximum of each bin"
def roi_pool(features, box, bins, stride):
    ### BEGIN SOLUTION
    cells = np.floor(np.asarray(box) / stride + 0.5).astype(int)
    left, top, right, bottom = cells

    def borders(first, last, cells):
        n = max(last - first + 1, 1)
        starts = [first + i * n // bins for i in range(bins)]
        ends = [first - (-(i + 1) * n // bins) for i in range(bins)]
        return np.clip(starts, 0, cells), np.clip(ends, 0, cells)

    rows = list(zip(*borders(top, bottom, features.shape[0])))
    columns = list(zip(*borders(left, right, features.shape[1])))
    pooled = np.zeros((bins, bins, features.shape[-1]), features.dtype)
    for row, (y0, y1) in enumerate(rows):
        for column, (x0, x1) in enumerate(columns):
            if y1 > y0 and x1 > x0:
                pooled[row, column] = features[y0:y1, x0:x1].max(axis=(0, 1))
    return pooled
    ### END SOLUTION


# %% check="roi-pool" points=2
numbered = np.arange(30, dtype="float32").reshape(5, 6, 1)  # row · 6 + column
answer = numbers(roi_pool(numbered, [8, 0, 31, 17], 2, 8))
assert answer.shape == (2, 2, 1), f"2 × 2 bins: (2, 2, 1), got {answer.shape}"
assert answer[1, 1, 0] == 2 * 6 + 4, (
    "31 / 8 = 3.9 is cell 4, and 17 / 8 = 2.1 is row 2; both belong to the box, "
    f"so its last cell has the value 16; got {answer[1, 1, 0]}"
)
assert answer[..., 0].tolist() == [[8, 10], [14, 16]], (
    "rows 0 to 2 are three cells for two bins: the bins share row 1. Columns 1 to 4 "
    f"are two and two. Expected [[8, 10], [14, 16]], got {answer[..., 0].tolist()}"
)
thin = numbers(roi_pool(numbered, [20, 20, 20, 20], 2, 8)).ravel().tolist()
assert thin == [3 * 6 + 3] * 4, f"20 / 8 = 2.5 becomes cell 3, in all bins; got {thin}"
print("Right: cells, bins, maxima.")

# %% check="roi-pool" points=1
over = numbers(roi_pool(numbered - 100, [24, 0, 79, 15], 2, 8))[..., 0].tolist()
assert over[0][1] == over[1][1] == 0, (
    f"columns 3 to 10 on a map of 6: the second bins have no cell and are 0; got {over}"
)
assert over[1][0] == 2 * 6 + 5 - 100, (
    "the first bin is cut to the map, columns 3 to 5, and negative maxima stay: "
    f"-83 in the second row; got {over[1][0]}"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(3)
random_map = rng.normal(size=(9, 11, 4)).astype("float32")
corner = rng.uniform(-10, 60, (12, 2))
some = np.concatenate([corner, corner + rng.uniform(0, 50, (12, 2))], axis=1)
some = some.astype("float32")
expected = numbers(roi.roi_pool(random_map[None], some[None], 3, 1 / 8))[0]
for box, right in zip(some, expected):
    answer = numbers(roi_pool(random_map, box, 3, 8))
    assert agree(answer, right, f"the box {box.round(1)} and 3 × 3 bins")
### END HIDDEN TESTS
print("Right: bins beyond the map too.")

# %% [markdown]
# What the rounding does to the objects of one image, at stride 8:

# %%
_, axes = plt.subplots(1, min(len(true_boxes), 3), figsize=(8, 3), squeeze=False)
for ax, box in zip(axes[0], true_boxes):
    cells = roi.whole_cells(box, 8)
    overlap = geometry.iou(box[None], cells[None].astype("float32"))[0, 0]
    plots.show_roi_pool(example, box, cells, 8, 2, f"IoU {overlap:.2f}", ax)

# %% [markdown]
# ## 5. Which map? (2 points)
# A feature pyramid has a map for each level k, with a stride of $2^k$ pixels. From which one does a region take its
# features? A square of `canonical` pixels a side belongs to level 4. A region whose sides are twice as long belongs
# one level higher, where it covers the same number of cells; a region whose sides are half as long belongs one level
# lower. A region between two such sizes belongs to the lower level, however close the higher one is. Only the area
# counts: a region that is no square belongs where a square of the same *area* belongs.
#
# Write `pyramid_level(boxes, levels, canonical)`. In: boxes (N, 4), the levels that there are (ints, rising), a
# number. Out: (N,) int. A box that would belong above the highest level goes to the highest. A box that would belong
# below the lowest level goes to the lowest, and so does a box without area. Find the formula yourself; the checks ask
# for the levels of a few boxes.


# %% gap="level" stub="return for each box the level of the pyramid that it belongs to"
def pyramid_level(boxes, levels, canonical):
    ### BEGIN SOLUTION
    sides = np.sqrt(geometry.area(np.asarray(boxes, "float32")))
    level = 4 + np.floor(np.log2(np.maximum(sides, 1e-6) / canonical))
    return np.clip(level, levels[0], levels[-1]).astype(int)
    ### END SOLUTION


# %% check="level" points=1
squares = np.array([[3, 5, 3 + s, 5 + s] for s in (224, 448, 112, 223, 100)], "float32")
answer = numbers(pyramid_level(squares, (2, 3, 4, 5), 224)).tolist()
assert answer[0] == 4, f"a square of 224 belongs to level 4; got {answer[0]}"
assert answer[1:3] == [5, 3], f"squares of 448 and of 112: 5 and 3; got {answer[1:3]}"
assert answer[3:] == [3, 2], f"223 is below 224, 100 below 112: 3, 2; got {answer[3:]}"
flat = np.array([[0, 0, 448, 112], [0, 0, 56, 224]], "float32")
answer = numbers(pyramid_level(flat, (2, 3, 4, 5), 224)).tolist()
assert answer == [4, 3], f"the areas of 224² and 112²; got {answer}"
print("Right: twice the side, one level up.")

# %% check="level" points=1
extreme = np.array([[0, 0, 2000, 2000], [0, 0, 9, 9], [7, 7, 7, 7]], "float32")
answer = numbers(pyramid_level(extreme, (3, 4, 5), 224)).tolist()
assert answer == [5, 3, 3], (
    "there are the levels 3 to 5 only: the largest box goes to 5, the small one and "
    f"the one without area to 3; got {answer}"
)
answer = numbers(pyramid_level(squares, (2, 3, 4, 5), 112)).tolist()
assert answer == [5, 5, 4, 4, 3], (
    f"`canonical` is an argument: with 112 expected [5, 5, 4, 4, 3], got {answer}"
)
### BEGIN HIDDEN TESTS
corner = np.random.default_rng(9).uniform(0, 300, (50, 2))
sides = np.random.default_rng(10).uniform(5, 700, (50, 2))
many = np.concatenate([corner, corner + sides], axis=1).astype("float32")
expected = numbers(fast_rcnn.level_of(many, (2, 3, 4), 180))
answer = numbers(pyramid_level(many, (2, 3, 4), 180))
assert agree(answer, expected, "fifty boxes, the levels 2 to 4, canonical 180")
### END HIDDEN TESTS
print("Right: every box has a level that is there.")

# %% [markdown]
# ## 6. Is anything here? (1 point)
# Write `objectness_loss(sampled, positive, logits)`: the binary cross-entropy of the sigmoid of the logits, 1 for
# positive anchors and 0 for the others, summed over the **sampled** anchors and divided by their number (by 1 if there
# are none).
#
# In: three tensors (B, N): bool, bool, float. Out: a scalar tensor. Use `keras.ops`. A logit of 100 or −100 must not
# give infinity: `ops.binary_crossentropy(..., from_logits=True)` is safe.


# %% gap="objectness" stub="return the mean binary cross-entropy of the sampled anchors"
def objectness_loss(sampled, positive, logits):
    ### BEGIN SOLUTION
    asked = ops.cast(sampled, "float32")
    truth = ops.cast(positive, "float32")
    entropy = ops.binary_crossentropy(truth, logits, from_logits=True)
    return ops.sum(asked * entropy) / ops.maximum(ops.sum(asked), 1.0)
    ### END SOLUTION


# %% check="objectness" points=1
sampled, positive = np.array([[[1, 1, 0, 1]], [[1, 0, 0, 0]]], bool)
logits = np.log([[3, 1 / 3, 1e20, 1]])  # probabilities .75, .25, 1, .5
value = float(objectness_loss(*tensors(sampled, positive, logits)))
expected = -(np.log(0.75) + np.log(0.75) + np.log(0.5)) / 3
assert close(value, expected), (
    "minus ln .75 twice and minus ln .5, over 3 sampled anchors, for the third is not "
    f"asked: {expected:.3f}; got {value:.3f}"
)
value = float(objectness_loss(*tensors([[True, True]], [[True, False]], [[-1e2, 1e2]])))
assert np.isclose(value, 100, atol=1), f"surely wrong twice costs 100 each; got {value}"
nobody = tensors([[False]], [[False]], [[2.0]])
assert float(objectness_loss(*nobody)) == 0, "nobody is asked: expected 0"
assert own_work(objectness_loss, *nobody, of=rpn, names={"rpn_losses"})
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(4)
sampled = rng.random((3, 40)) < 0.4
positive = sampled & (rng.random((3, 40)) < 0.3)
logits = rng.normal(0, 3, (3, 40)).astype("float32")
zeros = np.zeros((3, 40, 4), "float32")
targets = {"sampled": sampled, "positive": positive, "deltas": zeros}
expected = float(rpn.rpn_losses(targets, logits, zeros)["objectness_loss"])
value = float(objectness_loss(*tensors(sampled, positive, logits)))
assert close(value, expected), f"other numbers: expected {expected}, got {value}"
### END HIDDEN TESTS
print("Right: only the sampled anchors are asked.")

# %% [markdown]
# ## 7. How must it be moved? (2 points)
# Write `proposal_loss(sampled, positive, true_deltas, deltas)`: the smooth L1 distance of the four numbers, summed
# over the four and over the **positive** anchors, divided by the number of **sampled** ones (1 at least). For a
# difference d, with β = 1/9:
#
# $$\mathrm{smooth}(d) = d^2 / 2β \ \text{ if } |d| < β, \quad \text{else } |d| - β / 2 .$$
#
# In: sampled and positive (B, N) bool, the other two (B, N, 4) float. Out: a scalar tensor with a gradient for
# `deltas`. Anchors that are not positive have no true box. Their rows of `true_deltas` may hold anything, even NaN,
# and must not change the result (`ops.where` picks one of two values; 0 · NaN is NaN).
#
# The checks compute examples by hand. In part 9 this loss, the one before it and the next one train a detector.


# %% gap="proposal" stub="return the smooth L1 distance of the positive anchors, over the number of the sampled"
def proposal_loss(sampled, positive, true_deltas, deltas):
    ### BEGIN SOLUTION
    beta = 1 / 9
    distance = ops.abs(true_deltas - deltas)
    smooth = ops.where(distance < beta, distance**2 / (2 * beta), distance - beta / 2)
    each = ops.where(positive, ops.sum(smooth, axis=-1), 0.0)
    count = ops.sum(ops.cast(sampled, "float32"))
    return ops.sum(each) / ops.maximum(count, 1.0)
    ### END SOLUTION


# %% check="proposal" points=1
sampled = np.array([[True, True, True, False]])
positive = np.array([[True, False, False, False]])
truth, told = np.zeros((1, 4, 4)), np.full((1, 4, 4), 5.0)
told[0, 0] = [1, 0, -0.1, 0]
value = float(proposal_loss(*tensors(sampled, positive, truth, told)))
expected = (1 - 1 / 18 + 4.5 * 0.1**2) / 3
assert close(value, expected), (
    "one positive anchor, off by 1 (1 − 1/18) and by −.1 (4.5 · .1²), over 3 sampled "
    f"ones: {expected:.4f}; got {value:.4f}"
)
print("Right: positive anchors learn to move.")

# %% check="proposal" points=1
truth[0, 1:] = np.nan
value = float(proposal_loss(*tensors(sampled, positive, truth, told)))
assert close(value, expected), f"NaN where nothing is positive counts; got {value}"
nobody = tensors(sampled & False, positive & False, truth, told)
value = float(proposal_loss(*nobody))
assert value == 0, f"no anchor is asked: 0; got {value}"
assert own_work(proposal_loss, *nobody, of=rpn, names={"rpn_losses"})
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(5)
sampled = rng.random((3, 40)) < 0.4
positive = sampled & (rng.random((3, 40)) < 0.3)
truth, told = rng.normal(0, 0.3, (2, 3, 40, 4)).astype("float32")
targets = {"sampled": sampled, "positive": positive, "deltas": truth}
zeros = np.zeros((3, 40), "float32")
expected = float(rpn.rpn_losses(targets, zeros, told)["proposal_loss"])
value = float(proposal_loss(*tensors(sampled, positive, truth, told)))
assert close(value, expected), f"other numbers: expected {expected}, got {value}"
### END HIDDEN TESTS
print("Right: the others are left alone, whatever stands there.")

# %% [markdown]
# ## 8. A box for each class (2 points)
# The second stage moves each RoI a second time, and in a different way for each class: it gives C boxes, and one of
# them is used. Write `box_loss(labels, true_deltas, deltas)`: the same smooth L1, now with β = 1, of the four numbers
# **of the RoI's own class**, summed over the four and over the RoIs that are objects, divided by the number of all
# RoIs that count (1 at least).
#
# In: `labels` (B, K): 0 for background, 1 to C for the classes, −1 for an entry that only fills up and does not
# count; `true_deltas` (B, K, 4); `deltas` (B, K, C, 4). Out: a scalar tensor. Use `keras.ops`. The C boxes of a RoI
# are counted from 0, and background has none. Which index do you look up for background, and how do you keep what you
# find there out of the sum? The `true_deltas` of a RoI that is no object may be NaN, and must not change the result.


# %% gap="box-loss" stub="return the smooth L1 distance of the own class's boxes, over the RoIs that count"
def box_loss(labels, true_deltas, deltas):
    ### BEGIN SOLUTION
    labels = ops.cast(labels, "int32")
    at = ops.maximum(labels - 1, 0)[..., None, None]  # background: dropped below
    own = ops.take_along_axis(deltas, at, axis=2)[:, :, 0]  # (B, K, 4)
    distance = ops.abs(true_deltas - own)
    smooth = ops.where(distance < 1, distance**2 / 2, distance - 0.5)
    each = ops.where(labels > 0, ops.sum(smooth, axis=-1), 0.0)
    count = ops.sum(ops.cast(labels >= 0, "float32"))
    return ops.sum(each) / ops.maximum(count, 1.0)
    ### END SOLUTION


# %% check="box-loss" points=1
labels = np.array([[2, 0, 1, -1]])  # four RoIs, three classes
truth, told = np.zeros((1, 4, 4)), np.full((1, 4, 3, 4), 7.0)
told[0, 0, 1], told[0, 2, 0] = 0.5, [2, 0, 0, 0]
value = float(box_loss(*tensors(labels, truth, told)))
expected = (4 * 0.125 + 1.5) / 3
assert close(value, expected), (
    "RoI 0 is of class 2, the second box (.5 · .5² four times), RoI 2 of class 1, the "
    f"first (2 − .5); the last entry does not count: {expected:.3f}; got {value:.3f}"
)
truth[0, [1, 3]] = np.nan
value = float(box_loss(*tensors(labels, truth, told)))
assert close(value, expected), f"NaN where there is no object counts; got {value}"
value = float(box_loss(*tensors(0 * labels, truth, told)))
assert value == 0, f"backgrounds alone: 0; got {value}"
print("Right: an object learns one box, a background none.")

# %% check="box-loss" points=1
changed = told + 100.0
changed[0, 0, 1], changed[0, 2, 0] = told[0, 0, 1], told[0, 2, 0]
value = float(box_loss(*tensors(labels, truth, changed)))
assert close(value, expected), f"boxes of other classes must not count; got {value}"
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(6)
labels = rng.integers(-1, 4, (2, 30))
truth = rng.normal(size=(2, 30, 4)).astype("float32")
told = rng.normal(size=(2, 30, 3, 4)).astype("float32")
logits = np.zeros((2, 30, 4), "float32")
targets = {"labels": labels.astype("int32"), "deltas": truth}
expected = float(fast_rcnn.head_losses(targets, logits, told)["box_loss"])
value = float(box_loss(*tensors(labels, truth, told)))
assert close(value, expected), f"other numbers: expected {expected}, got {value}"
### END HIDDEN TESTS
print("Right: nothing is asked of the boxes of other classes.")

# %% [markdown]
# ## 9. Train (2 points)
# There is nothing to write here. The detector is the course's small Faster R-CNN on a backbone that knows single
# shapes (`real`: ImageNet's). **Three of its four losses are yours**; the fourth, the cross-entropy of the class, the
# draw and RoIAlign are the course's, since they must run inside a compiled graph. Half of the images are mirrored
# with their boxes. The check asks for an AP50 of `floor` or more on the test images. If your detector does not reach
# it, look at parts 6 to 8 again.


# %%
@keras.saving.register_keras_serializable("lab")
class Detector(faster_rcnn.FasterRCNN):
    """Faster R-CNN with the losses of this notebook."""

    def losses_of(self, batch, outputs):
        anchors, rois = outputs["anchor_targets"], outputs["roi_targets"]
        asked = anchors["sampled"], anchors["positive"]
        told = {"objectness_loss": objectness_loss(*asked, outputs["objectness"])}
        deltas = *asked, anchors["deltas"], outputs["deltas"]
        told["proposal_loss"] = proposal_loss(*deltas)
        boxes = rois["labels"], rois["deltas"], outputs["box_deltas"]
        return super().losses_of(batch, outputs) | told | {"box_loss": box_loss(*boxes)}


# %%
def build():
    """The small Faster R-CNN: one map of stride 8, square anchors."""
    keras.utils.set_random_seed(seed)
    known = hasattr(keras.applications, network)  # then its ImageNet weights are taken
    options = faster_rcnn.SMALL | {"sizes": [sizes], "proposals": proposals}
    options["weights"] = "imagenet" if known else None
    return Detector(len(names), (image_size, image_size, 3), network, **options)


# %%
net = build()
untrained = numbers(net(test_set["image"][: min(50, tested)])["rois"])
ten = min(10, steps)
schedule = training.WarmupHoldDecay(rate, steps, warmup=steps // 10)
net.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0))
options = {"steps_per_epoch": ten, "epochs": steps // ten}
flip = augmentation.Flip(seed=seed)  # half of the images, left to right
batches = training.drawn_batches(train_set, 16, seed, flip)
curves = net.fit(batches, shuffle=False, verbose=0, **options).history

# %%
at = ten * np.arange(1, len(curves["loss"]) + 1)
parts = {name.replace("_", " "): curves[name] for name in net.loss_names}
plots.curves(parts, x=at, xlabel="step", ylabel="loss", log_y=True)

# %% [markdown]
# What would a detector score that answers with the whole image and the most frequent class, always?

# %%
of_train = train_set["labels"]
counts = np.bincount(of_train[of_train >= 0], minlength=len(names))
images = len(test_set["image"])
common = {
    "boxes": np.full((images, 1, 4), [0, 0, image_size, image_size], "float32"),
    "labels": np.full((images, 1), counts.argmax()),
    "scores": np.ones((images, 1), "float32"),
}
trivial = evaluation.evaluate(common, test_set, classes=len(names))["AP50"]
found = net.detect(test_set["image"])
reached = evaluation.evaluate(found, test_set, classes=len(names))
bars = {"your detector": reached["AP50"], "the whole image": trivial}
plots.bars(bars, xlabel="AP50 on the test images")
results.record(test_ap50=reached["AP50"], test_ap=reached["AP"], trivial_ap50=trivial)

# %% check="box-loss" points=2
assert results.reaches(reached["AP50"], floor, source in measured_on), (
    f"AP50 {reached['AP50']:.3f} on the test images, {floor} is asked for "
    f"(trivial: {trivial:.3f}): do your losses divide by the right numbers?"
)
print("Right: your losses have trained a detector.")

# %% tags=["thumbnail"]
sure = {key: values[:8] for key, values in found.items()}
sure["labels"] = np.where(sure["scores"] >= 0.5, sure["labels"], -1)
plots.show_objects(test_set["image"][:8], sure, classes=names)

# %% [markdown]
# ## 10. From answers to proposals (3 points)
# Write `propose(logits, deltas, anchors, size, before, after, threshold=.7)` for one image, with NumPy:
#
# 1. take the `before` anchors with the highest logits, the highest first;
# 2. move them (`coding.decode(deltas, anchors)`), and clip the boxes to the image, size × size pixels;
# 3. drop the boxes that have no area after clipping;
# 4. non-maximum suppression: keep the best box that is left, drop all boxes whose IoU with it is *above* the
#    threshold, and so on, until `after` boxes are kept or none is left.
#
# In: logits (N,), deltas (N, 4), anchors (N, 4). Out: boxes (at most `after`, 4), the best first. `geometry.iou(a, b)`
# gives (len(a), len(b)).


# %% gap="propose" stub="return the best boxes, moved, cut and suppressed"
def propose(logits, deltas, anchors, size, before, after, threshold=0.7):
    ### BEGIN SOLUTION
    order = np.argsort(-logits, kind="stable")[:before]
    boxes = np.clip(coding.decode(deltas[order], anchors[order]), 0, size)
    boxes = boxes[geometry.area(boxes) > 0]
    kept = []
    while len(boxes) and len(kept) < after:
        kept.append(boxes[0])
        boxes = boxes[1:][geometry.iou(boxes[:1], boxes[1:])[0] <= threshold]
    return np.array(kept, "float32").reshape(-1, 4)
    ### END SOLUTION


# %% check="propose" points=1
top = [[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 40, 40], [35, 5, 45, 15]]
places = np.array([*top, [60, 0, 70, 10]], "float32")
still, scored = np.zeros((5, 4), "float32"), np.array([1.0, 2.0, 3.0, 0.0, 9.0])
answer = numbers(propose(scored, still, places, 40, before=5, after=3)).tolist()
assert answer == [[20, 20, 40, 40], [0, 0, 10, 11], [35, 5, 40, 15]], (
    "the box at 60 lies outside the image of 40 and goes, though its score is highest; "
    "then score 3 and score 2; the box of score 1 is suppressed (IoU .91); the last "
    f"box is cut to the image; got {answer}"
)
print("Right: cut, and suppressed.")

# %% check="propose" points=1
count = len(numbers(propose(scored, still, places, 80, before=2, after=5)))
assert count == 2, f"only the `before` best may enter: 2 boxes, got {count}"
count = len(numbers(propose(scored, still, places, 80, before=5, after=2)))
assert count == 2, f"at most `after` come out: 2 boxes, got {count}"
shifted = still.copy()
shifted[2, 0] = -0.5  # half a width to the left
second = numbers(propose(scored, shifted, places, 80, 5, 5))[1].tolist()
assert second == [10, 20, 30, 40], f"anchors move by their own deltas; got {second}"
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(7)
logits = rng.normal(size=len(anchors)).astype("float32")
deltas = rng.normal(0, 0.3, (len(anchors), 4)).astype("float32")
given = logits[None], deltas[None], anchors, [len(anchors)], (image_size, image_size)
boxes, scores = map(numbers, rpn.proposals(*given, 60, 20))
answer = numbers(propose(logits, deltas, anchors, image_size, 60, 20))
expected = boxes[0][np.isfinite(scores[0])]
hint = "the anchors of the lab, 60 enter and 20 come out at most"
assert agree(answer, expected, hint, atol=1e-2)
### END HIDDEN TESTS
print("Right: moved, and no more boxes than asked for.")

# %% [markdown]
# We use it on a test image, with the outputs of your detector: the thirty best boxes as they come, and the thirty
# best after suppression.

# %%
one = int(np.argmax((test_set["labels"][:50] >= 0).sum(axis=1)))
image = test_set["image"][one]
outputs = net.network(image[None])
logits, deltas = (numbers(outputs[key])[0] for key in ("objectness", "deltas"))
_, axes = plt.subplots(1, 2, figsize=(7, 3.5))
for ax, threshold, text in zip(axes, (1.0, 0.7), ("", " after suppression")):
    boxes = propose(logits[:, 0], deltas, anchors, image_size, 256, 30, threshold)
    plots.show_boxes(image, boxes, alpha=0.6, title="the 30 best" + text, ax=ax)

# %% [markdown] question="constants" points=1
# In training, the second stage works on these boxes. Its losses depend on their coordinates: move a proposal, and
# RoIAlign reads other features, and the true deltas change as well. Yet the course's `rpn.proposals` ends with
# `ops.stop_gradient`. What does the proposal network learn from, then? Through which of the steps 1 to 4 above could
# no gradient flow in any case? And why would it be a bad idea to let the head's losses move the proposals through the
# other steps?
#
# ### BEGIN SOLUTION
# The proposal network learns from its own two losses. Their targets come from the fixed anchors and the true boxes, so
# nothing is missing. Steps 1, 3 and 4 choose: which boxes are among the best, have an area and survive is a yes or no,
# which does not change with a small change of the scores. So no gradient flows through them. Step 2, the move, could
# pass one on. But the head's losses would then pull the proposals to where *the head* has an easy answer, and that need
# not be the object: a proposal on background, for one, would move to features that look even less like an object. The
# targets of the box loss would change along with the proposals, too. The paper takes the coordinates as constants, and
# calls its training "approximate" for that reason.
# ### END SOLUTION

# %% [markdown]
# ## 11. Recall (3 points)
# Write `recall(proposals, boxes, n, iou=.5)`: the share of all objects of all images that at least one of the first
# `n` proposals of their image overlaps by `iou` or more.
#
# In: two lists with an array for each image: proposals (P, 4), the best first (P may be 0), and true boxes (M, 4) (M
# may be 0). Out: a float. It is a share of *objects*, not of images or of proposals. The first checks compute three
# images by hand (2 points). The last one asks that the ten best proposals of your detector reach a recall of
# `recall_floor` on the test images (1 point).


# %% gap="recall" stub="return the share of the objects that one of the first n proposals overlaps enough"
def recall(proposals, boxes, n, iou=0.5):
    ### BEGIN SOLUTION
    hits, objects = 0, 0
    for found, truth in zip(proposals, boxes):
        objects += len(truth)
        if len(truth) and len(found):
            hits += int((geometry.iou(truth, found[:n]).max(axis=1) >= iou).sum())
    return hits / objects
    ### END SOLUTION


# %% check="recall" points=1
a, b, c = [0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]
some_proposals = [[c, a, a], [[0, 0, 5, 10]], []]
some_boxes = [[a, b, c], [a], [b]]
arrays = []
for images in (some_proposals, some_boxes):
    arrays.append([np.array(boxes, "float32").reshape(-1, 4) for boxes in images])
first, second, third = (float(recall(*arrays, n)) for n in (1, 2, 3))
assert close(first, 2 / 5), f"c, and a in image 1 by exactly .5: 2 of 5; got {first}"
assert close(second, 3 / 5), f"a second proposal finds a in image 0: 3/5; got {second}"
print("Right: a share of objects.")

# %% check="recall" points=1
assert third == second, f"a third box on the same object is nothing new; got {third}"
value = float(recall(*arrays, 3, 0.6))
assert close(value, 2 / 5), f"at .6 the half box no longer counts: 2/5; got {value}"
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(8)
corner = rng.uniform(0, 50, (4, 30, 2))
sides = rng.uniform(10, 40, corner.shape)
many = np.concatenate([corner, corner + sides], axis=-1).astype("float32")
truth = [boxes[rng.permutation(30)[:3]] for boxes in many]
truth = [boxes + rng.normal(0, 3, (3, 4)).astype("float32") for boxes in truth]
targets = [{"boxes": boxes, "labels": np.zeros(3, int)} for boxes in truth]
for n in (1, 5, 30):
    expected = search.recall_curve(list(many), targets, [n], 0.6)[0]
    value = float(recall(list(many), truth, n, 0.6))
    assert close(value, expected), f"{n} proposals: expected {expected}, got {value}"
### END HIDDEN TESTS
print("Right: the first n proposals, and any threshold.")


# %%
counted = test_set["labels"] >= 0  # without padding and what is ignored
if "ignored" in test_set:
    counted &= ~test_set["ignored"]
truth = [boxes[kept] for boxes, kept in zip(test_set["boxes"], counted)]
of_objects = [labels[kept] for labels, kept in zip(test_set["labels"], counted)]


pixels = test_set["image"]
parts = [net(pixels[first : first + 50])["rois"] for first in range(0, len(truth), 50)]
found_boxes = np.concatenate([numbers(part) for part in parts])
windows = search.sliding_windows(image_size, image_size, sizes)
rng = np.random.default_rng(seed)
ways = {
    "your detector": list(found_boxes),
    "before training": list(untrained),
    "windows at random": [rng.permutation(windows)[:64] for _ in truth],
}

# %%
counts, lines = [1, 2, 5, 10, 20, 50], {}
for name, boxes in ways.items():
    lines[name] = [recall(boxes, truth[: len(boxes)], n) for n in counts]
plots.proposal_recall(counts, lines)
results.record(recall_10=lines["your detector"][3])
results.record(recall_untrained=lines["before training"][3])

# %% check="recall" points=1
(measured,) = search.recall_curve(list(found_boxes), test_set, [10])
own = float(recall(list(found_boxes), truth, 10))
assert close(own, measured), (
    f"of your detector's first ten: expected {measured}, got {own}"
)
assert results.reaches(measured, recall_floor, source in measured_on), (
    f"ten proposals of your detector find {measured:.3f} of the objects, "
    f"{recall_floor} is asked for: have your losses trained it?"
)
print("Right: the first stage leaves the second one something to find.")

# %% [markdown]
# ## 12. Which stage is to blame? (2 points)
# An object is *found* if a detection of its class with a score of .3 or more overlaps it by .5 or more. For the
# others we ask: had the first stage proposed them (IoU .5 or more)?


# %%
def fits(boxes, others):
    """For each box and each of the others, whether their IoU is .5 or more."""
    return geometry.iou(boxes, others) >= 0.5


tally = dict.fromkeys(("found", "proposed, missed by the head", "not proposed"), 0)
for number, boxes in enumerate(truth):
    answer = {key: values[number] for key, values in found.items()}
    good = answer["scores"] >= 0.3
    same = of_objects[number][:, None] == answer["labels"][good]
    hit = (same & fits(boxes, answer["boxes"][good])).any(axis=1)
    proposed = fits(boxes, found_boxes[number]).any(axis=1)
    counts = hit.sum(), (~hit & proposed).sum(), (~hit & ~proposed).sum()
    tally = {key: tally[key] + int(count) for key, count in zip(tally, counts)}
shares = {name: value / sum(tally.values()) for name, value in tally.items()}
plots.bars(shares, xlabel="share of the test objects")

# %% [markdown] question="blame" points=2
# Which of the two stages loses more objects? What would you change first: the anchors, the number of proposals at test,
# the head, or the training? And why can a high recall of the proposals go together with a low AP?
#
# ### BEGIN SOLUTION
# Nearly all objects are proposed: with 64 proposals for one to four objects the recall is close to 1, and what is
# lost is lost by the head, which names a proposal wrongly, places it badly or gives it a low score. More anchors or
# more proposals would therefore change next to nothing. A longer training of the head, or features from a finer map,
# may help. Recall asks only whether *some* proposal overlaps an object by half; it does not count how many others lie
# on background, nor how exactly the boxes fit, nor what they are called. AP punishes each of these: false alarms with
# high scores, places that fit by .5 and not by .75, and wrong names. So recall is the ceiling of the second stage,
# and AP says how close to it the second stage comes. (Where objects are smaller than the anchors, or crowded, as
# cells can be, the first stage loses more: then anchors and the number of proposals come first.)
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - put anchors on a map in the order of a network's outputs, and give each its label;
# - draw a balanced sample of anchors, and write losses that count only the sampled ones;
# - compute RoIPool's roundings, and choose the level of a pyramid for a region;
# - let each region learn the box of its own class alone, and say why proposals are constants;
# - train a detector of two stages to an AP50 far above the trivial one, and say which of its stages errs.
#
# ## Exercises
#
# 1. (easy) Lower `high` to .5 in `label_anchors`. How many anchors of the picture become positive? *Hint: the title of
#    `show_anchor_labels` counts.*
# 2. (medium) Train without the rule of the best anchor (`matching.match(..., force=False)`). Which objects lose their
#    anchors, and what happens to the recall? *Hint: look at objects between two sizes.*
# 3. (medium) Divide `proposal_loss` by the number of positive anchors instead. How large is it now beside the other
#    three, and does AP change? *Hint: there are about ten times as many sampled anchors as positive ones.*
# 4. (hard) Train the head alone on top of proposals that stay as they are: freeze `net.network` (the backbone and the
#    RPN) after half of the steps. That is the fourth step of alternating training. *Hint: compile again after
#    freezing.*
#
# ## Further reading
#
# - R. Girshick, *Fast R-CNN*, ICCV 2015.
# - S. Ren, K. He, R. Girshick and J. Sun, *Faster R-CNN: towards real-time object detection with region proposal
#   networks*, NIPS 2015.
# - J. Hosang, R. Benenson, P. Dollár and B. Schiele, *What makes for effective detection proposals?*, PAMI 2016.
