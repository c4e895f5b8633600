# %% [markdown]
# # 10 Two-stage detection: solution
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/10_two_stage_detection.ipynb)
#
# **Propose, then look again.** You will write what makes Faster R-CNN a detector of two stages: the anchors, what each
# of them is told, the losses of the proposal network, RoIPool with its two roundings, and the step from answers to
# proposals. Your losses then train a detector, and you measure whether its proposals are worth a second look.
#
# You will be able to
#
# - put anchors on a map, and label them so that no object is forgotten;
# - draw a balanced sample of them, and write the two losses of the proposal network;
# - round a box to cells and bins as RoIPool does;
# - mirror images together with their boxes, and train to a floor in AP50;
# - turn scores and moves into proposals, and measure their recall.
#
# Plan two to three hours for it. There are 22 points. The training takes about a minute on two cores.

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
seed: int = 0  # [0, ] the first weights, and what is drawn
source: str = "shapes"  # a data set with boxes, by name, or the path of a folder with boxes
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
image_size: int = 96  # [64, 1024] height and width that its images are brought to; a multiple of 32
most: int = 3000  # [4, ] training images, at most
tested: int = 300  # [4, ] test images, at most
network: str = "shapes"  # the backbone: the course's small one, or a network of keras.applications with its weights
rate: float = 1.5e-3  # [1e-6, 0.1] highest learning rate
sizes: list[float] = [16, 24, 36, 48]  # sides of the anchors, in pixels
proposals: int = 128  # [16, 4000] proposals of the network in training; at test half as many
steps: int = 500  # [2, 100000] training steps on 16 images each
floor: float = 0.85  # [0, 1] AP50 that your detector must reach on the test images
recall_floor: float = 0.85  # [0, 1] share of the test objects that its ten best proposals must find

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from utils import boxes as geometry
from utils import data, plots, results, session, training
from utils.detection import anchors as course_anchors
from utils.detection import coding, evaluation, faster_rcnn, matching, roi, rpn
from utils.detection import proposals as search

session.start(seed)

# %% [markdown]
# Images with boxes and labels; padding has the label −1 and a box of zeros. You learn from the training images, and
# measure on the test images once, at the end.


# %%
def examples(split):
    """Images, boxes, labels (and which are ignored) of a split, as a dict of arrays."""
    images, truth = data.arrays(source, split, image_size, channels=3, target="boxes", on_error=on_error)
    kept = ("boxes", "labels", "ignored")
    return {"image": images} | {key: truth[key] for key in kept if key in truth}


def numbers(value):
    """A tensor, array or list as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(ops.convert_to_tensor(value)))


def tensors(*values):
    """Tensors: bool stays bool, all else becomes float32."""
    arrays = [np.asarray(value) for value in values]
    return [ops.convert_to_tensor(a if a.dtype == bool else a.astype("float32")) for a in arrays]


names = data.chosen(source, "boxes", on_error, classes=1).classes
on_known_data = source in ("shapes", "bccd", "voc/2007")  # the floors were measured on these
train_set, test_set = examples(f"train[:{most}]"), examples(f"test[:{tested}]")
shown = {key: train_set[key][:4] for key in ("boxes", "labels")}
plots.show_objects(train_set["image"][:4], **shown, classes=names)

# %% [markdown]
# ## 1. Anchors (2 points)
# Write `make_anchors(rows, columns, stride, sizes, ratios)`: at the centre of each cell of a map of rows × columns,
# one box for each ratio and size. A cell (row, column) covers the pixels from (row · stride, column · stride) to one
# stride further. An anchor of size s and ratio r has the area s² and height / width = r.
#
# Out: (rows · columns · A, 4) float, `x1, y1, x2, y2` in pixels, A = ratios · sizes. In this order: row by row, in a
# row column by column; at a place ratio by ratio, for each ratio size by size. They may reach beyond the image. The
# check works one place by hand.


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
                    found.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return np.array(found, "float32")
    ### END SOLUTION


# %% check="anchors" points=2
answer = numbers(make_anchors(2, 3, 8, (16,), (1, 4)))
assert answer.shape == (12, 4), f"2 · 3 places with 2 anchors each: (12, 4), got {answer.shape}"
assert np.allclose(answer[0], [-4, -4, 12, 12]), (
    f"cell (0, 0) of stride 8 has its centre at 4: a square of 16 reaches from -4 to 12; got {answer[0].tolist()}"
)
assert np.allclose(answer[1], [0, -12, 8, 20]), (
    f"ratio 4 is height / width: 8 wide and 32 high, of area 16²; got {answer[1].tolist()}"
)
assert np.allclose(answer[2], [4, -4, 20, 12]), (
    f"the next place is one column to the right: x moves by 8, y stays; got {answer[2].tolist()}"
)
two = numbers(make_anchors(1, 1, 8, (8, 16), (1, 4)))
assert np.allclose(two[1], [-4, -4, 12, 12]), (
    f"at a place the first ratio comes with all its sizes before the second; anchor 1 is {two[1].tolist()}"
)
### BEGIN HIDDEN TESTS
given = (5, 4, 16, (20, 30, 50), (0.5, 1, 2))
expected = course_anchors.grid(given[:2], *given[2:])
assert np.allclose(numbers(make_anchors(*given)), expected, atol=1e-3), "another result for 5 × 4 places with 9 anchors"
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
plots.show_anchors(train_set["image"][one], anchors, len(sizes), 8, title=f"{len(anchors):,} anchors")

# %% [markdown]
# ## 2. What each anchor is told (3 points)
# Write `label_anchors(iou, high=.7, low=.3)`. In: the IoU of M objects with N anchors, (M, N). Out: (N,) int:
#
# - the **index of the object** that the anchor overlaps most, if their IoU is `high` or more;
# - also if it is lower, but *no other anchor overlaps some object more than this one* (if several tie, all of them),
#   so that no object is without an anchor. An object that overlaps no anchor at all gets none;
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
    of_an_object = ((iou == iou.max(axis=1, keepdims=True)) & (iou > 0)).any(axis=0)
    return np.where((best >= high) | of_an_object, nearest, labels)
    ### END SOLUTION


# %% check="labels" points=2
table = np.array([[0.8, 0.7, 0.5, 0.1, 0.0], [0.1, 0.0, 0.2, 0.25, 0.0]])
answer = numbers(label_anchors(table)).tolist()
assert answer[:2] == [0, 0], f"IoUs of .8 and .7 with object 0 are high enough; got {answer[:2]}"
assert answer[2] == -2, f"an IoU of .5 is neither .7 nor below .3: -2; got {answer[2]}"
assert answer[3] == 1, f".25 is little, but no anchor overlaps object 1 more: its label is 1; got {answer[3]}"
assert answer[4] == -1, f"an anchor that overlaps nothing is background; got {answer[4]}"
tied = numbers(label_anchors(np.array([[0.4, 0.4, 0.1]]))).tolist()
assert tied == [0, 0, -1], f"two anchors tie for the object: both are positive; got {tied}"
assert numbers(label_anchors(np.array([[0.0, 0.0]]))).tolist() == [-1, -1], (
    "an object that no anchor overlaps has no best anchor: an IoU of 0 makes nothing positive"
)
assert numbers(label_anchors(np.zeros((0, 4)))).tolist() == [-1] * 4, "without objects all is background"
print("Right: positive, background, left out, and no object is forgotten.")

# %% check="labels" points=1
shared = numbers(label_anchors(np.array([[0.6, 0.1], [0.5, 0.1]]))).tolist()
assert shared[0] == 0, (
    f"anchor 0 is the best of both objects, and overlaps object 0 more: it answers for 0; got {shared[0]}"
)
other = numbers(label_anchors(np.array([[0.9, 0.6, 0.45, 0.35]]), 0.5, 0.4)).tolist()
assert other == [0, 0, -2, -1], (
    f"the limits are arguments: with .5 and .4, .6 is positive, .45 left out, .35 background; got {other}"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(1)
for _ in range(5):
    corner = rng.uniform(0, 60, (3, 2))
    some = np.concatenate([corner, corner + rng.uniform(8, 50, (3, 2))], axis=1).astype("float32")
    iou = geometry.iou(some, anchors)
    assert np.array_equal(numbers(label_anchors(iou)), matching.match(iou, 0.7, 0.3)), "another result for three boxes"
### END HIDDEN TESTS
print("Right: an anchor answers for the object that it overlaps most.")

# %%
told = matching.match(geometry.iou(true_boxes, anchors), 0.7, 0.3)
plots.show_anchor_labels(train_set["image"][one], anchors, told, true_boxes)

# %% [markdown]
# ## 3. A balanced draw (1 point)
# Write `draw(labels, count, share, rng)`: which anchors a step learns from. At most `int(count * share)` of the
# positive ones (labels 0 and above), drawn at random; then background (−1), drawn at random, until there are `count`.
# Never one with −2. If there are fewer positives, more background fills up; if there is too little of both, take what
# is there.
#
# In: labels (N,), a NumPy Generator. Out: (N,) bool. The check counts, and looks whether every anchor has its chance.


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
assert answer.shape == (60,) and answer.dtype == bool, f"a bool for each anchor; got {answer.dtype} {answer.shape}"
counted = [int(answer[part].sum()) for part in (slice(0, 10), slice(10, 50), slice(50, 60))]
assert counted == [8, 8, 0], f"of 16, half may be positive, the rest is background, none of -2: 8, 8, 0; got {counted}"
few = numbers(draw(labels[7:], 16, 0.5, np.random.default_rng(0)))
assert (few[:3].sum(), few.sum()) == (3, 16), (
    f"3 positives, so 13 backgrounds fill up; got {few[:3].sum()}, {few.sum()}"
)
assert numbers(draw(labels[:20], 64, 0.5, np.random.default_rng(0))).sum() == 20, "take what there is: 10 and 10"
times = sum(numbers(draw(labels, 16, 0.5, np.random.default_rng(n))).astype(int) for n in range(300))
assert times[:10].min() > 180 and times[10:50].min() > 30 and times[10:50].max() < 100, (
    "draw at random: of 300 draws each positive should be in about 240 and each background in about 60"
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
# 4. cut bins to the map; a bin's value is the maximum of its cells, in each channel; a bin without cells is 0.
#
# In: features (H, W, C), box (4,) `x1, y1, x2, y2` in pixels of the image. Out: (bins, bins, C), rows first. The
# check works small maps by hand: think about which axis x is.


# %% gap="roi-pool" stub="round to cells, divide into bins, take the maximum of each bin"
def roi_pool(features, box, bins, stride):
    ### BEGIN SOLUTION
    left, top, right, bottom = np.floor(np.asarray(box) / stride + 0.5).astype(int)

    def borders(first, last, cells):
        n = max(last - first + 1, 1)
        starts = [first + i * n // bins for i in range(bins)]
        ends = [first - (-(i + 1) * n // bins) for i in range(bins)]
        return np.clip(starts, 0, cells), np.clip(ends, 0, cells)

    pooled = np.zeros((bins, bins, features.shape[-1]), features.dtype)
    for row, (y0, y1) in enumerate(zip(*borders(top, bottom, features.shape[0]))):
        for column, (x0, x1) in enumerate(zip(*borders(left, right, features.shape[1]))):
            if y1 > y0 and x1 > x0:
                pooled[row, column] = features[y0:y1, x0:x1].max(axis=(0, 1))
    return pooled
    ### END SOLUTION


# %% check="roi-pool" points=2
numbered = np.arange(30, dtype="float32").reshape(5, 6, 1)  # row · 6 + column
answer = numbers(roi_pool(numbered, [8, 0, 31, 17], 2, 8))
assert answer.shape == (2, 2, 1), f"2 × 2 bins of one channel: (2, 2, 1), got {answer.shape}"
assert answer[1, 1, 0] == 2 * 6 + 4, (
    f"31 / 8 = 3.9 is cell 4, and 17 / 8 = 2.1 is row 2; both belong to the box, so its last cell is 16; got {answer[1, 1, 0]}"
)
assert answer[..., 0].tolist() == [[8, 10], [14, 16]], (
    "rows 0 to 2 are three cells for two bins: the bins share row 1. Columns 1 to 4 are two and two. Expected "
    f"[[8, 10], [14, 16]], got {answer[..., 0].tolist()}"
)
thin = numbers(roi_pool(numbered, [20, 20, 20, 20], 2, 8))
assert (thin == 3 * 6 + 3).all(), (
    f"20 / 8 = 2.5 is rounded up to cell 3, which fills all bins; got {thin.ravel().tolist()}"
)
print("Right: cells, bins, maxima.")

# %% check="roi-pool" points=1
over = numbers(roi_pool(numbered - 100, [24, 0, 79, 15], 2, 8))[..., 0]
assert over[:, 1].tolist() == [0, 0], (
    f"columns 3 to 10 on a map of 6: the second bin, from 7 on, has no cell and is 0; got {over[:, 1].tolist()}"
)
assert over[1, 0] == 2 * 6 + 5 - 100, f"the first bin is cut to the map, and negative maxima stay; got {over[1, 0]}"
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(3)
random_map = rng.normal(size=(9, 11, 4)).astype("float32")
corner = rng.uniform(-10, 60, (12, 2))
some = np.concatenate([corner, corner + rng.uniform(0, 50, (12, 2))], axis=1).astype("float32")
expected = ops.convert_to_numpy(roi.roi_pool(random_map[None], some[None], 3, 1 / 8))[0]
for box, right in zip(some, expected):
    assert np.allclose(numbers(roi_pool(random_map, box, 3, 8)), right), f"another result for the box {box.round(1)}"
### END HIDDEN TESTS
print("Right: bins beyond the map too.")

# %% [markdown]
# What the rounding does to the objects of one image, at stride 8:

# %%
_, axes = plt.subplots(1, min(len(true_boxes), 3), figsize=(8, 3), squeeze=False)
for ax, box in zip(axes[0], true_boxes):
    cells = roi.whole_cells(box, 8)
    overlap = geometry.iou(box[None], cells[None].astype("float32"))[0, 0]
    plots.show_roi_pool(train_set["image"][one], box, cells, 8, 2, f"IoU {overlap:.2f}", ax)

# %% [markdown]
# ## 5. Is anything here? (1 point)
# Write `objectness_loss(sampled, positive, logits)`: the binary cross-entropy of the sigmoid of the logits, 1 for
# positive anchors and 0 for the others, summed over the **sampled** anchors and divided by their number (by 1 if there
# are none).
#
# In: three tensors (B, N): bool, bool, float. Out: a scalar tensor. Use `keras.ops`. A logit of 100 must not give
# infinity: `ops.binary_crossentropy(..., from_logits=True)` is safe.


# %% gap="objectness" stub="return the mean binary cross-entropy of the sampled anchors"
def objectness_loss(sampled, positive, logits):
    ### BEGIN SOLUTION
    asked = ops.cast(sampled, "float32")
    entropy = ops.binary_crossentropy(ops.cast(positive, "float32"), logits, from_logits=True)
    return ops.sum(asked * entropy) / ops.maximum(ops.sum(asked), 1.0)
    ### END SOLUTION


# %% check="objectness" points=1
sampled, positive = np.array([[True, True, False, True]]), np.array([[True, False, False, False]])
logits = np.array([[np.log(3), np.log(1 / 3), 50.0, 0.0]])  # probabilities .75, .25, 1, .5
value = float(objectness_loss(*tensors(sampled, positive, logits)))
expected = -(np.log(0.75) + np.log(0.75) + np.log(0.5)) / 3
assert np.isclose(value, expected, atol=1e-4), (
    f"two times ln .75 and ln .5, over 3 sampled anchors: {expected:.3f}; the third anchor is not asked; got {value:.3f}"
)
far = float(objectness_loss(*tensors([[True, True]], [[True, False]], [[-100.0, 100.0]])))
assert np.isclose(far, 100, atol=1), f"surely wrong twice costs 100 each, not infinity; got {far}"
nobody = float(objectness_loss(*tensors([[False]], [[False]], [[2.0]])))
assert nobody == 0, f"nobody is asked: 0; got {nobody}"
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(4)
sampled = rng.random((3, 40)) < 0.4
positive, logits = sampled & (rng.random((3, 40)) < 0.3), rng.normal(0, 3, (3, 40))
targets = {"sampled": sampled, "positive": positive, "deltas": np.zeros((3, 40, 4), "float32")}
zeros = np.zeros((3, 40, 4), "float32")
expected = float(rpn.rpn_losses(targets, logits.astype("float32"), zeros)["objectness_loss"])
assert np.isclose(float(objectness_loss(*tensors(sampled, positive, logits))), expected, atol=1e-4), (
    "other numbers fail"
)
### END HIDDEN TESTS
print("Right: only the sampled anchors are asked.")

# %% [markdown]
# ## 6. How must it be moved? (2 points)
# Write `proposal_loss(sampled, positive, true_deltas, deltas)`: the smooth L1 distance of the four numbers, summed
# over the four and over the **positive** anchors, divided by the number of **sampled** ones (1 at least). For a
# difference d, with β = 1/9:
#
# $$\mathrm{smooth}(d) = d^2 / 2β \ \text{ if } |d| < β, \quad \text{else } |d| - β / 2 .$$
#
# In: sampled and positive (B, N) bool, the other two (B, N, 4) float. Out: a scalar tensor with a gradient for
# `deltas`. Anchors that are not positive have no true box: what stands there may be anything, even NaN, and must
# change nothing (`ops.where` picks one of two values; 0 · NaN is NaN).
#
# The check works examples. In part 8 this loss and the last one train a detector.


# %% gap="proposal" stub="return the smooth L1 distance of the positive anchors, over the number of the sampled"
def proposal_loss(sampled, positive, true_deltas, deltas):
    ### BEGIN SOLUTION
    beta = 1 / 9
    distance = ops.abs(true_deltas - deltas)
    smooth = ops.where(distance < beta, distance**2 / (2 * beta), distance - beta / 2)
    each = ops.where(positive, ops.sum(smooth, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(sampled, "float32")), 1.0)
    ### END SOLUTION


# %% check="proposal" points=2
sampled, positive = np.array([[True, True, True, False]]), np.array([[True, False, False, False]])
truth, told = np.zeros((1, 4, 4)), np.full((1, 4, 4), 5.0)
told[0, 0] = [1, 0, -0.1, 0]
value = float(proposal_loss(*tensors(sampled, positive, truth, told)))
expected = (1 - 1 / 18 + 4.5 * 0.1**2) / 3
assert np.isclose(value, expected, atol=1e-4), (
    f"one positive anchor, off by 1 (1 − 1/18) and −.1 (4.5 · .1²), over 3 sampled anchors: {expected:.4f}; got {value:.4f}"
)
truth[0, 1:] = np.nan
value = float(proposal_loss(*tensors(sampled, positive, truth, told)))
assert np.isclose(value, expected, atol=1e-4), f"NaN where nothing is positive must change nothing; got {value}"
nobody = float(proposal_loss(*tensors(sampled & False, positive & False, truth, told)))
assert nobody == 0, f"no anchor is asked: 0; got {nobody}"
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(5)
sampled = rng.random((3, 40)) < 0.4
positive = sampled & (rng.random((3, 40)) < 0.3)
truth, told = rng.normal(0, 0.3, (2, 3, 40, 4)).astype("float32")
targets = {"sampled": sampled, "positive": positive, "deltas": truth}
expected = float(rpn.rpn_losses(targets, np.zeros((3, 40), "float32"), told)["proposal_loss"])
assert np.isclose(float(proposal_loss(*tensors(sampled, positive, truth, told))), expected, atol=1e-4), (
    "other numbers give another result"
)
### END HIDDEN TESTS
print("Right: positive anchors learn to move, the others are left alone.")

# %% [markdown]
# ## 7. Mirror (1 point)
# Before training, one more thing. Write `mirror(images, boxes, rng)`: each image is mirrored left to right with
# probability one half, its boxes with it, each pair by a draw of its own.
#
# In: images (B, H, W, 3), boxes (B, M, 4) `x1, y1, x2, y2`, a NumPy Generator. Out: new images and boxes; what comes
# in stays as it is. A mirrored box still has x1 < x2. Padding (boxes of zeros) may end up anywhere, as long as it has
# no area.


# %% gap="mirror" stub="return images and boxes, each image mirrored by chance together with its boxes"
def mirror(images, boxes, rng):
    ### BEGIN SOLUTION
    images, boxes = images.copy(), boxes.copy()
    turned = rng.random(len(images)) < 0.5
    images[turned] = images[turned][:, :, ::-1]
    boxes[turned] = boxes[turned][..., [2, 1, 0, 3]]
    boxes[turned, :, 0] = images.shape[2] - boxes[turned, :, 0]
    boxes[turned, :, 2] = images.shape[2] - boxes[turned, :, 2]
    return images, boxes
    ### END SOLUTION


# %% check="mirror" points=1
pictures = np.zeros((200, 8, 10, 3), "uint8")
pictures[:, 1:3, 2:5] = 9  # an object from x 2 to 5, y 1 to 3
given = np.zeros((200, 2, 4), "float32")
given[:, 0] = [2, 1, 5, 3]
turned, moved = (numbers(part) for part in mirror(pictures, given, np.random.default_rng(6)))
assert (given[:, 0] == [2, 1, 5, 3]).all() and (pictures[:, 1, 2] == 9).all(), "what comes in must stay as it is"
kinds = {tuple(box) for box in moved[:, 0].tolist()}
assert kinds == {(2, 1, 5, 3), (5, 1, 8, 3)}, f"x from 2 to 5 becomes 10 − 5 to 10 − 2, y stays; got {sorted(kinds)}"
for number, (x1, y1, x2, y2) in enumerate(moved[:, 0].astype(int)):
    assert (turned[number, y1:y2, x1:x2] == 9).all(), "an image and its boxes must move together"
count = (moved[:, 0, 0] == 5).sum()
assert 70 < count < 130, f"about half of 200 should be mirrored, each by a draw of its own; got {count}"
assert (geometry.area(moved[:, 1]) == 0).all(), "padding has no area, mirrored or not"
print("Right: images and boxes move together.")

# %% [markdown]
# ## 8. Train (2 points)
# Nothing to write here. The detector is the course's small Faster R-CNN on a backbone that knows single shapes (`real`:
# ImageNet's); **its proposal network learns from your two losses**, on images that your function mirrors. The draw and
# RoIAlign in it are the course's, since they must run inside a compiled graph. Its AP50 on the test images must reach
# `floor`. If it does not, look at parts 5 to 7 again.


# %%
@keras.saving.register_keras_serializable("lab")
class Detector(faster_rcnn.FasterRCNN):
    """Faster R-CNN with the losses of this notebook."""

    def losses_of(self, batch, outputs):
        told, answers = outputs["anchor_targets"], ops.cast(outputs["objectness"], "float32")
        asked = told["sampled"], told["positive"]
        deltas = ops.cast(outputs["deltas"], "float32")
        return super().losses_of(batch, outputs) | {
            "objectness_loss": objectness_loss(*asked, answers),
            "proposal_loss": proposal_loss(*asked, told["deltas"], deltas),
        }


# %%
def build():
    """The small Faster R-CNN: one map of stride 8, square anchors."""
    keras.utils.set_random_seed(seed)
    known = hasattr(keras.applications, network)  # then its ImageNet weights are taken
    options = {"levels": (3,), "channels": None, "sizes": [sizes], "ratios": (1,)}
    options |= {"proposals": proposals, "candidates": 256, "anchor_samples": 64}
    options |= {"roi_samples": 48, "roi_size": 6, "units": (128,)}
    weights = "imagenet" if known else None
    shape = (image_size, image_size, 3)
    return Detector(len(names), shape, network, weights=weights, **options)


# %%
def train(net, count):
    """So many steps on 16 images; returns the losses, part by part, every 50 steps."""
    schedule = training.WarmupHoldDecay(rate, count, warmup=count // 10)
    net.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0))
    rng, curves = np.random.default_rng(seed), {}
    for first in range(0, count, 50):
        rows = rng.integers(len(train_set["image"]), size=16 * min(50, count - first))
        batch = {key: values[rows] for key, values in train_set.items()}
        batch["image"], batch["boxes"] = mirror(batch["image"], batch["boxes"], rng)
        for name, values in net.fit(batch, batch_size=16, shuffle=False, verbose=0).history.items():
            curves.setdefault(name, []).extend(values)
    return curves


net = build()
untrained = ops.convert_to_numpy(net(test_set["image"][: min(50, tested)])["rois"])
curves = train(net, steps)
at = np.minimum(50 * np.arange(1, len(curves["loss"]) + 1), steps)
parts = {name.replace("_", " "): values for name, values in curves.items() if name != "loss"}
plots.curves(parts, x=at, xlabel="step", ylabel="loss", log_y=True)

# %% [markdown]
# What would a detector score that answers with the whole image and the most frequent class, always?

# %%
counts = np.bincount(train_set["labels"][train_set["labels"] >= 0], minlength=len(names))
images = len(test_set["image"])
common = {
    "boxes": np.full((images, 1, 4), [0, 0, image_size, image_size], "float32"),
    "labels": np.full((images, 1), counts.argmax()),
    "scores": np.ones((images, 1), "float32"),
}
trivial = evaluation.evaluate(common, test_set, classes=len(names))["AP50"]
found = net.detect(test_set["image"])
reached = evaluation.evaluate(found, test_set, classes=len(names))
plots.bars({"your detector": reached["AP50"], "the whole image": trivial}, xlabel="AP50 on the test images")
results.record(test_ap50=reached["AP50"], test_ap=reached["AP"], trivial_ap50=trivial)

# %% check="mirror" points=2
assert results.reaches(reached["AP50"], floor, on_known_data), (
    f"AP50 {reached['AP50']:.3f} on the test images, {floor} is asked for (trivial: {trivial:.3f}): do both losses divide by "
    "the number of sampled anchors, and do the boxes move with their images?"
)
print("Right: your losses have trained a detector.")

# %% tags=["thumbnail"]
shown = slice(0, 8)
sure = found["scores"][shown] >= 0.5
labels = np.where(sure, found["labels"][shown], -1)
plots.show_objects(
    test_set["image"][shown], found["boxes"][shown], labels, scores=found["scores"][shown], classes=names
)

# %% [markdown]
# ## 9. From answers to proposals (2 points)
# Write `propose(logits, deltas, anchors, size, before, after, threshold=.7)` for one image, with NumPy:
#
# 1. take the `before` anchors with the highest logits, the highest first;
# 2. move them (`coding.decode(deltas, anchors)`), and cut the boxes to the image, size × size pixels;
# 3. drop boxes that the cut has left without area;
# 4. non-maximum suppression: take the best box that is left, drop all whose IoU with it is *above* the threshold, and
#    so on, until there are `after` or none is left.
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


# %% check="propose" points=2
places = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 40, 40], [35, 5, 45, 15], [60, 0, 70, 10]], "float32")
still, scored = np.zeros((5, 4), "float32"), np.array([1.0, 2.0, 3.0, 0.0, 9.0])
answer = numbers(propose(scored, still, places, 40, before=5, after=3))
assert answer.tolist() == [[20, 20, 40, 40], [0, 0, 10, 11], [35, 5, 40, 15]], (
    "by hand: the box at 60 lies outside the image of 40 and goes, though its score is highest; then score 3, score 2; the "
    f"box of score 1 is suppressed (IoU .91); the last is cut to the image; got {answer.tolist()}"
)
assert len(numbers(propose(scored, still, places, 80, before=2, after=5))) == 2, "only the `before` best may enter"
assert len(numbers(propose(scored, still, places, 80, before=5, after=2))) == 2, "at most `after` come out"
shifted = still.copy()
shifted[2, 0] = -0.5  # half a width to the left
assert numbers(propose(scored, shifted, places, 80, 5, 5))[1].tolist() == [10, 20, 30, 40], (
    "the anchors must be moved by the deltas that belong to them"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(7)
logits, deltas = rng.normal(size=len(anchors)), rng.normal(0, 0.3, (len(anchors), 4)).astype("float32")
given = logits[None].astype("float32"), deltas[None], anchors, [len(anchors)], (image_size, image_size, 3)
boxes, scores = (ops.convert_to_numpy(part)[0] for part in rpn.proposals(*given, 60, 20))
answer = numbers(propose(logits.astype("float32"), deltas, anchors, image_size, 60, 20))
assert np.allclose(answer, boxes[np.isfinite(scores)], atol=1e-2), "another result for the anchors of this notebook"
### END HIDDEN TESTS
print("Right: moved, cut, suppressed.")

# %% [markdown]
# On a test image, with the answers of your detector: the thirty best as they come, and after suppression.

# %%
one = int(np.argmax((test_set["labels"][:50] >= 0).sum(axis=1)))
image = test_set["image"][one]
outputs = net.network(image[None])
logits, deltas = (ops.convert_to_numpy(outputs[key])[0] for key in ("objectness", "deltas"))
_, axes = plt.subplots(1, 2, figsize=(7, 3.5))
for ax, threshold, text in ((axes[0], 1.0, "the 30 best"), (axes[1], 0.7, "the 30 best after suppression")):
    boxes = propose(logits[:, 0], deltas, anchors, image_size, 256, 30, threshold)
    plots.show_boxes(image, boxes, alpha=0.6, title=text, ax=ax)

# %% [markdown]
# ## 10. Recall (3 points)
# Write `recall(proposals, boxes, n, iou=.5)`: the share of all objects of all images that at least one of the first
# `n` proposals of their image overlaps by `iou` or more.
#
# In: two lists with an array for each image: proposals (P, 4), the best first (P may be 0), and true boxes (M, 4) (M may
# be 0). Out: a float. It is a share of *objects*, not of images or of proposals. The first check works three images by
# hand (2 points), the second wants of your detector's ten best proposals a recall of `recall_floor` (1 point).


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


# %% check="recall" points=2
a, b, c = [0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]
some_proposals = [np.array([c, a, a], "float32"), np.array([[0, 0, 5, 10]], "float32"), np.zeros((0, 4), "float32")]
some_boxes = [np.array([a, b, c], "float32"), np.array([a], "float32"), np.array([b], "float32")]
answers = [float(recall(some_proposals, some_boxes, n)) for n in (1, 2, 3)]
assert np.isclose(answers[0], 2 / 5), (
    f"of five objects the first proposals find c, and a by exactly .5: 2/5; got {answers[0]}"
)
assert np.isclose(answers[1], 3 / 5), f"the second proposal finds a in image 0 as well: 3/5; got {answers[1]}"
assert answers[2] == answers[1], f"a third box on the same object finds nothing new; got {answers[2]}"
assert np.isclose(float(recall(some_proposals, some_boxes, 3, 0.6)), 2 / 5), "at .6 the half box no longer counts"
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(8)
corner = rng.uniform(0, 50, (4, 30, 2))
many = list(np.concatenate([corner, corner + rng.uniform(10, 40, corner.shape)], axis=-1).astype("float32"))
truth = [image[rng.permutation(30)[:3]] + rng.normal(0, 3, (3, 4)).astype("float32") for image in many]
targets = [{"boxes": boxes, "labels": np.zeros(3, int)} for boxes in truth]
for n in (1, 5, 30):
    expected = search.recall_curve(many, targets, [n], 0.6)[0]
    assert np.isclose(float(recall(many, truth, n, 0.6)), expected), f"another result for {n} proposals"
### END HIDDEN TESTS
print("Right: a share of objects.")


# %%
def objects_of(given):
    """True boxes of each image, without padding and what is ignored."""
    counted = given["labels"] >= 0
    if "ignored" in given:
        counted &= ~given["ignored"]
    return [boxes[kept] for boxes, kept in zip(given["boxes"], counted)]


truth = objects_of(test_set)
batches = [test_set["image"][first : first + 50] for first in range(0, len(truth), 50)]
found_boxes = np.concatenate([ops.convert_to_numpy(net(batch)["rois"]) for batch in batches])
windows = search.sliding_windows(image_size, image_size, sizes)
rng = np.random.default_rng(seed)
ways = {
    "your detector": list(found_boxes),
    "before training": list(untrained),
    "windows at random": [windows[rng.permutation(len(windows))[:64]] for _ in truth],
}
counts = [1, 2, 5, 10, 20, 50]
lines = {name: [recall(boxes, truth[: len(boxes)], n) for n in counts] for name, boxes in ways.items()}
plots.proposal_recall(counts, lines)
results.record(recall_10=lines["your detector"][3], recall_untrained=lines["before training"][3])

# %% check="recall" points=1
measured = search.recall_curve(list(found_boxes), test_set, [10])[0]
assert results.reaches(measured, recall_floor, on_known_data), (
    f"ten proposals of your detector find {measured:.3f} of the objects, {recall_floor} is asked for: have both losses trained it?"
)
print("Right: the first stage leaves the second one something to find.")

# %% [markdown]
# ## 11. Which stage is to blame? (2 points)
# For the objects that your detector misses, or finds only under another name: had the first stage proposed them (IoU
# .5 or more)?

# %%
tally = dict.fromkeys(("found", "proposed, missed by the head", "not proposed"), 0)
for number, boxes in enumerate(truth):
    labels = test_set["labels"][number][test_set["labels"][number] >= 0]
    if "ignored" in test_set:
        labels = labels[~test_set["ignored"][number][test_set["labels"][number] >= 0]]
    good = found["scores"][number] >= 0.3
    proposed = geometry.iou(boxes, found_boxes[number]).max(axis=1, initial=0) >= 0.5
    same = labels[:, None] == found["labels"][number][good]
    hit = (same & (geometry.iou(boxes, found["boxes"][number][good]) >= 0.5)).any(axis=1)
    tally["found"] += int(hit.sum())
    tally["proposed, missed by the head"] += int((~hit & proposed).sum())
    tally["not proposed"] += int((~hit & ~proposed).sum())
plots.bars({name: value / sum(tally.values()) for name, value in tally.items()}, xlabel="share of the test objects")

# %% [markdown] question="blame" points=2
# Which of the two stages loses more objects? What would you change first: the anchors, the number of proposals at test,
# the head, or the training? And why can a high recall of the proposals go together with a low AP?
#
# ### BEGIN SOLUTION
# Nearly all objects are proposed: with 64 proposals for one to four objects the recall is close to 1, and what is lost
# is lost by the head, which names a proposal wrongly or gives it a low score (small and half covered shapes, most of
# all). More anchors or more proposals would therefore change next to nothing; a longer training of the head, or
# features from a finer map, would. Recall asks only whether *some* proposal overlaps an object by half; it does not
# count how many others lie on background, nor how exactly the boxes fit, nor what they are called. AP punishes each
# of these: false alarms with high scores, places that fit by .5 and not by .75, and wrong names. So recall is the
# ceiling of the second stage, and AP says how close to it the second stage comes. (Where objects are smaller than the
# anchors, or crowded, as cells can be, the first stage loses more: then anchors and the number of proposals come
# first.)
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - put anchors on a map in the order of a network's outputs, and tell each of them what to learn;
# - keep a handful of positives from drowning, and write losses that ask only those that are sampled;
# - follow RoIPool's roundings, and mirror boxes with their images;
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
# 4. (hard) Train the head alone on top of proposals that stay as they are: freeze `net.network.get_layer("rpn")` after
#    half of the steps. That is the fourth step of alternating training. *Hint: compile again after freezing.*
#
# ## Further reading
#
# - R. Girshick, *Fast R-CNN*, ICCV 2015.
# - S. Ren, K. He, R. Girshick and J. Sun, *Faster R-CNN: towards real-time object detection with region proposal
#   networks*, NIPS 2015.
# - J. Hosang, R. Benenson, P. Dollár and B. Schiele, *What makes for effective detection proposals?*, PAMI 2016.
