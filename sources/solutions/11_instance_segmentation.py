# %% [markdown]
# # 11 Instance segmentation: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/11_instance_segmentation.ipynb)
#
# **A mask for each object, on top of a detector.** Faster R-CNN is given. You will write what Mask R-CNN adds to it:
# features cut out exactly where the box lies, the targets of the mask branch, its loss, and the way from small soft
# masks and heat maps back to the pixels of the image. Then your net learns to cut out shapes.
#
# You will be able to
#
# - sample a feature map in a box without rounding the box;
# - cut the true masks into targets, each RoI with the mask of its own object;
# - say why a mask's loss looks at one class only, and pick the mask of the right class at test;
# - paste a soft mask into the image, and say what is lost if it is cut too soon;
# - read keypoints off heat maps;
# - train a Mask R-CNN to a floor, and tell where its masks fail.
#
# Plan two to three hours for it. There are seven gaps and one question, 21 points. The whole solution takes about
# three minutes on two cores.

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
seed: int = 0  # [0, ] the first weights, and which images are drawn and mirrored
source: str = "shapes"  # a data set with instance masks: its name, or a folder's path
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
image_size: int = 96  # [64, 1024] height and width of its images; a multiple of 32
stretch: bool = False  # whether each image gets the full range of brightness
examples: int = 3000  # [16, ] most training images
tested: int = 200  # [4, ] most test images
network: str = "shapes"  # the backbone: the course's own, or one of keras.applications
level: int = 3  # [2, 4] which of the backbone's maps is read; its stride is 2 ** level
sizes: list[float] = [16, 24, 36, 48]  # sides of the anchors, in pixels
proposals: int = 128  # [16, 4000] of the network in training; at test half as many
most: int = 20  # [1, 300] detections of an image, at most
rate: float = 1.5e-3  # [1e-6, 0.1] highest learning rate
steps: int = 500  # [2, 100000] training steps of 16 images, in tens
floor: float = 0.85  # [0, 1] AP50 of the masks that the test images must show

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from utils import data, plots, results, session, training
from utils.checks import agree
from utils.data import augmentation
from utils.detection import evaluation, faster_rcnn, mask_rcnn, roi

session.start(seed)

# %% [markdown]
# Images with boxes, labels and a mask for each object. Your net learns from the training images. The test images only
# measure how good it is.


# %%
def brightest(images):
    """Each image stretched to the full range, its extreme pixels left out."""
    low, high = np.percentile(images, (1, 99.8), axis=(1, 2, 3), keepdims=True)
    stretched = (images - low) * 255 / np.maximum(high - low, 1)
    return np.clip(stretched, 0, 255).astype("uint8")


def read(split):
    """Images (N, H, W, 3), boxes (N, M, 4), labels (N, M), masks (N, M, H, W)."""
    options = {"channels": 3, "target": "boxes", "on_error": on_error}
    images, truth = data.arrays(source, split, image_size, **options)
    if "masks" not in truth:
        raise ValueError(f"a mask for each object is needed: {source} has boxes alone")
    images = brightest(images) if stretch else images
    kept = ("boxes", "labels", "masks", "ignored")
    return {"image": images} | {key: truth[key] for key in kept if key in truth}


# %%
names = data.chosen(source, "boxes", on_error, classes=1).classes
train_set, test_set = read(f"train[:{examples}]"), read(f"test[:{tested}]")
first = {key: values[:4] for key, values in test_set.items()}
plots.show_objects(first.pop("image"), first, classes=names)


# %%
def numbers(value):
    """A tensor, array or list as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(ops.convert_to_tensor(value)))


def tensors(*values):
    """Arrays as tensors, their types kept."""
    return [ops.convert_to_tensor(value) for value in values]


def close(value, expected):
    """Whether two numbers, or all of two arrays, agree to four digits."""
    value = numbers(value)
    return value.shape == np.shape(expected) and np.allclose(value, expected, atol=1e-4)


# %% [markdown]
# ## 1. RoIAlign (4 points)
# Write `roi_align(features, box, size, stride, samples=2)` for one map and one box.
#
# In: `features` (H, W, C), a NumPy array; `box`, four numbers `xyxy` in pixels of the image; `size`, the number of
# bins along each side; `stride`, the pixels of the image that a cell of the map covers along each axis; `samples`, the
# number of points along each side of a bin. Out: (size, size, C), an array of floats.
#
# Cell i of the map covers the pixels from i · stride to (i + 1) · stride, so its *centre* lies at (i + .5) · stride: an
# x in pixels is x / stride − .5 in cells. Divide the box into size × size bins; put samples × samples points into each
# bin, evenly (for 2 points along an axis: at a quarter and at three quarters of the bin); read the map at each point by
# bilinear interpolation between the four cells around it; average the points of a bin. Nothing is rounded. A point
# outside the first or last centre takes the value of that cell.
#
# A hint: bilinear interpolation along one axis is a weighted sum over cells, with the weight max(0, 1 − |point − cell|).
# Build a matrix (size · samples, H) for the rows and one for the columns, and two products do the rest.
#
# The first check uses a map whose two channels hold the x and the y of each cell's centre: each bin must then give its
# own centre. The second one compares your bins with the course's `roi.roi_align`, also for boxes in the corners of the
# image and for other values of `size` and `samples`.


# %% gap="align" stub="average the interpolated points of each bin"
def roi_align(features, box, size, stride, samples=2):
    ### BEGIN SOLUTION
    def weights(start, end, cells):
        at = (np.arange(size * samples) + 0.5) / (size * samples)
        points = (start + at * (end - start)) / stride - 0.5
        points = np.clip(points, 0, cells - 1)
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows = weights(box[1], box[3], features.shape[0])
    columns = weights(box[0], box[2], features.shape[1])
    values = np.einsum("ph,hwc,qw->pqc", rows, features, columns)
    return values.reshape(size, samples, size, samples, -1).mean(axis=(1, 3))
    ### END SOLUTION


# %% check="align" points=2
stride, cells = 8, 12
centres = (np.arange(cells) + 0.5) * stride
ramp = np.stack(np.meshgrid(centres, centres), axis=-1)  # (12, 12, 2): x, y of a cell
answer = numbers(roi_align(ramp, [21.0, 30.0, 61.0, 50.0], 4, stride))
assert answer.shape == (4, 4, 2), f"4 × 4 bins of 2 channels, got {answer.shape}"
x, y = answer[0, :, 0], answer[:, 0, 1]
assert close(x, [26, 36, 46, 56]), (
    "bins of 10 pixels from 21 on have their centres at x = 26, 36, 46, 56; "
    f"got {x.round(2)}: is half a cell taken off, and is nothing rounded?"
)
assert close(y, [32.5, 37.5, 42.5, 47.5]), (
    "bins of 5 pixels from 30 on have their centres at y = 32.5, 37.5, 42.5, 47.5; "
    f"got {y.round(2)}: a box is x, y, x, y, and rows of the map belong to y"
)
print("Right: on a map of places, each bin gives its own place.")

# %% check="align" points=2
rng = np.random.default_rng(0)
features = rng.normal(size=(7, 9, 3)).astype("float32")
some = [[3.0, 5.0, 50.0, 41.0], [0.0, 0.0, 72.0, 56.0], [10.2, 20.4, 17.9, 26.1]]
some += [[0.0, 0.0, 12.0, 10.0], [58.0, 47.0, 72.0, 56.0]]  # in corners of the image
expected = numbers(roi.roi_align(features[None], np.float32(some)[None], 3, 1 / 8))[0]
for box, right in zip(some, expected):
    off = np.abs(numbers(roi_align(features, box, 3, 8)) - right).max()
    assert off < 1e-4, (
        f"box {box}: your bins are off by up to {off:.3f}; are there 2 × 2 points in "
        "each bin, at a quarter and three quarters of its side, and their mean? "
        "A point outside the first or last centre takes the value of that cell"
    )
### BEGIN HIDDEN TESTS
box = np.float32([4.0, 6.0, 60.0, 47.0])
for size, samples in ((5, 2), (2, 3), (7, 1)):
    answer = roi_align(features, box, size, 8, samples)
    expected = roi.roi_align(features[None], box[None, None], size, 1 / 8, samples)
    hint = f"the box {box}, {size} × {size} bins, {samples} × {samples} points in each"
    assert agree(answer, numbers(expected)[0, 0], hint)
### END HIDDEN TESTS
print("Right: your RoIAlign and the course's agree.")

# %% [markdown]
# How far is RoIPool from this? It rounds x / stride to the nearest whole number. So it moves a corner by up to half a
# stride. We shift a box to the right, half a pixel at a time, and read the place that its first bin gives.

# %%
shifts = np.arange(0, 17, 0.5)
moved = np.stack([[20 + s, 24, 52 + s, 56] for s in shifts]).astype("float32")
pooled = numbers(roi.roi_pool(ramp[None].astype("float32"), moved[None], 4, 1 / stride))
aligned = np.stack([numbers(roi_align(ramp, box, 4, stride)) for box in moved])
looks = {
    "RoIAlign": aligned[:, 0, 0, 0] - moved[:, 0],
    "RoIPool": pooled[0, :, 0, 0, 0] - moved[:, 0],
}

# %%
figure, ax = plt.subplots(figsize=(7, 3))
plots.curves(looks, x=shifts, baselines={"the bin's centre": 4}, ax=ax)
ax.set_xlabel("the box moves to the right by ... pixels")
ax.set_ylabel("where the first bin\nlooks, in the box (pixels)")

# %% [markdown]
# ## 2. Mask targets (3 points)
# Write `mask_targets(masks, rois, matched, size)` with `keras.ops`.
#
# In: `masks` (B, M, H, W), 0 or 1, of all objects of each image; `rois` (B, K, 4) in pixels; `matched` (B, K) int, the
# number of the object, 0 to M − 1, that each RoI belongs to; `size`, bins along each side. Out: a tensor (B, K, size,
# size) of float32: the mask of the RoI's *own* object, cut out by RoIAlign with the course's default of 2 × 2 points
# in a bin.
#
# The course's `roi.roi_align(features, boxes, size, scale)` takes maps (B, H, W, C) and boxes (B, N, 4), and gives (B,
# N, size, size, C); `scale` is 1 / stride. A mask is a map of one channel and of stride 1, and each RoI needs the mask
# of its own object. What is the batch of `roi_align` then, and how many boxes has each of its images?
# `ops.take_along_axis` picks the masks. The net calls your function in its graph, where B is not known: reshape with
# −1 in its place.
#
# The check cuts out boxes of whole pixels, two pixels to a bin: there the target is a slice of the mask, averaged over
# 2 × 2 pixels.


# %% gap="targets" stub="cut each RoI's own mask out"
def mask_targets(masks, rois, matched, size):
    ### BEGIN SOLUTION
    height, width = masks.shape[2:]
    at = ops.cast(matched, "int32")[..., None, None]
    own = ops.take_along_axis(ops.cast(masks, "float32"), at, axis=1)
    maps = ops.reshape(own, (-1, height, width, 1))  # each RoI has an image to itself
    cut = roi.roi_align(maps, ops.reshape(rois, (-1, 1, 4)), size, 1.0)
    return ops.reshape(cut, (-1, rois.shape[1], size, size))
    ### END SOLUTION


# %%
rng = np.random.default_rng(1)
blocks = rng.integers(0, 2, (2, 3, 10, 12), "uint8")
blobs = blocks.repeat(4, axis=2).repeat(4, axis=3)  # (2, 3, 40, 48)
rois = [[[8, 4, 32, 28], [0, 0, 24, 24]], [[24, 12, 48, 36], [8, 8, 32, 32]]]
rois, own = np.array(rois, "float32"), np.array([[2, 0], [1, 2]], "int32")

# %% check="targets" points=3
answer = mask_targets(*tensors(blobs, rois, own), 12)
assert ops.is_tensor(answer), "use keras.ops: the net calls it inside its graph"
answer = numbers(answer)
assert answer.shape == (2, 2, 12, 12), f"expected (2, 2, 12, 12), got {answer.shape}"
for image, place in np.ndindex(2, 2):
    left, top, right, bottom = rois[image, place].astype(int)
    cut = blobs[image, own[image, place], top:bottom, left:right]
    expected = cut.reshape(12, 2, 12, 2).mean((1, 3))  # bins of 2 × 2 pixels
    off = np.abs(answer[image, place] - expected).max()
    assert off < 1e-4, (
        f"image {image}, RoI {place}: the target is mask {own[image, place]} of it, in "
        f"rows {top} to {bottom}, columns {left} to {right}; yours is off by {off:.2f}"
    )
### BEGIN HIDDEN TESTS
corner = rng.uniform(0, 15, (2, 4, 2))
odd = np.concatenate([corner, corner + rng.uniform(5, 20, (2, 4, 2))], -1)
given = blobs, odd.astype("float32"), rng.integers(0, 3, (2, 4)).astype("int32")
expected = numbers(mask_rcnn.mask_targets(*given, 7))
assert agree(mask_targets(*tensors(*given), 7), expected, "eight RoIs, 7 × 7 cells")
### END HIDDEN TESTS
print("Right: each RoI has the mask of its own object.")

# %% [markdown]
# ## 3. The loss of the masks (2 points)
# Write `mask_loss(targets, labels, logits)` with `keras.ops`.
#
# In: `targets` (B, K, s, s) from 0 to 1; `labels` (B, K) int, 1 to C for a RoI on an object of class label − 1, 0 and
# below for all others; `logits` (B, K, s, s, C), a mask for each class. Out: a scalar. Take the logits of the RoI's
# own class and their binary cross-entropy with the targets (`ops.binary_crossentropy(..., from_logits=True)`). Average
# it over the s × s pixels, and then over the RoIs of the whole batch that lie on an object. If there is none, the loss
# is 0. All other classes and all other RoIs must not change the loss. The check compares with a loop over the RoIs, in
# NumPy.


# %% gap="loss" stub="cross-entropy of the own class's mask, averaged over the RoIs on objects"
def mask_loss(targets, labels, logits):
    ### BEGIN SOLUTION
    logits = ops.cast(logits, "float32")
    chosen = ops.one_hot(labels - 1, logits.shape[-1])[:, :, None, None]
    own = ops.sum(logits * chosen, axis=-1)  # (B, K, s, s)
    entropy = ops.binary_crossentropy(targets, own, from_logits=True)
    entropy = ops.mean(entropy, axis=(2, 3))
    positive = ops.cast(labels > 0, "float32")
    return ops.sum(entropy * positive) / ops.maximum(ops.sum(positive), 1)
    ### END SOLUTION


# %%
def by_hand(targets, labels, logits):
    """One RoI after the other."""
    values = []
    for image, place in np.argwhere(labels > 0):
        p = 1 / (1 + np.exp(-logits[image, place, :, :, labels[image, place] - 1]))
        t = targets[image, place]
        values.append(-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean())
    return np.mean(values) if values else 0.0


def answer_of(*given):
    """Your loss of these arrays, as a number."""
    return float(ops.convert_to_numpy(mask_loss(*tensors(*given))))


# %% check="loss" points=2
targets = rng.random((2, 3, 4, 4)).astype("float32")
logits = rng.normal(size=(2, 3, 4, 4, 5)).astype("float32")
labels = np.array([[1, 5, 0], [3, -1, 0]], "int32")
value, expected = answer_of(targets, labels, logits), by_hand(targets, labels, logits)
assert close(value, expected), (
    "three of the six RoIs lie on objects, of the classes 0, 4 and 2: "
    f"expected {expected:.4f}, the mean over these three, got {value:.4f}"
)
other = logits.copy()
other[0, 0, :, :, 1:] += 4
value = answer_of(targets, labels, other)
assert close(value, expected), (
    f"masks of other classes must not count: still {expected:.4f}; got {value:.4f}"
)
value = answer_of(targets, 0 * labels, logits)
assert value == 0, f"without a RoI on an object the loss is 0; got {value}"
### BEGIN HIDDEN TESTS
for number in range(3):
    hidden = np.random.default_rng(10 + number)
    t = hidden.random((3, 4, 5, 5)).astype("float32")
    z = hidden.normal(size=(3, 4, 5, 5, 2)).astype("float32")
    y = hidden.integers(-1, 3, (3, 4)).astype("int32")
    assert agree(answer_of(t, y, z), by_hand(t, y, z), "twelve other RoIs")
### END HIDDEN TESTS
print("Right: one class's mask, of the RoIs on objects.")

# %% [markdown]
# ## 4. Paste (3 points)
# Write `paste(soft, box, height, width)` for one mask, with NumPy. In: `soft` (h, w) from 0 to 1, often but not always
# square; `box`, four numbers `xyxy` in pixels, which may lie partly outside the image; the size of the image. Out:
# (height, width) bool.
#
# This is RoIAlign the other way round. The centre of the image's column x lies at x + .5, which is (x + .5 − left) /
# (right − left) · w − .5 in cells of the small mask; rows go the same way. Interpolate bilinearly between the cells,
# and take 0 for everything beyond them: the weight max(0, 1 − |point − cell|) does both. Only then ask which pixels
# have a value of .5 or more.


# %% gap="paste" stub="enlarge the soft mask to its place in the image, then cut at .5"
def paste(soft, box, height, width):
    ### BEGIN SOLUTION
    def weights(start, end, cells, pixels):
        points = (np.arange(pixels) + 0.5 - start) / (end - start) * cells - 0.5
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows = weights(box[1], box[3], soft.shape[0], height)
    columns = weights(box[0], box[2], soft.shape[1], width)
    return rows @ soft @ columns.T >= 0.5
    ### END SOLUTION


# %% check="paste" points=2
full = numbers(paste(np.ones((14, 14)), [10.0, 4.0, 38.0, 32.0], 40, 50))
kind = f"{full.dtype} {full.shape}"
assert kind == "bool (40, 50)", f"expected bool (40, 50), got {kind}"
inside = np.zeros((40, 50), bool)
inside[4:32, 10:38] = True
assert np.array_equal(full, inside), (
    "a mask of ones fills its box, 28 × 28 = 784 pixels from row 4 and column 10; "
    f"{(full != inside).sum()} pixels of yours are wrong, and {full.sum()} are set"
)
half = np.array([[1.0, 0.0], [1.0, 0.0]])  # .5 halfway between the cells' centres
row = numbers(paste(half, [0.0, 0.0, 40.0, 40.0], 40, 40))[20].sum()
assert 18 <= row <= 21, f"the soft edge crosses .5 at x = 20; row 20 has {row} pixels"
print("Right: the mask lies in its box.")

# %% check="paste" points=1
soft = rng.random((7, 5))
for box in ([3.2, 4.7, 30.1, 20.4], [-5.0, -3.0, 12.0, 9.0]):
    right = mask_rcnn.enlarge(soft[None, None], np.array([[box]]), 24, 36)
    right = numbers(right)[0, 0]
    clear = np.abs(right - 0.5) > 1e-3
    wrong = (numbers(paste(soft, box, 24, 36)) != (right >= 0.5)) & clear
    assert not wrong.any(), f"box {box}: {wrong.sum()} wrong; interpolate, cut then"
### BEGIN HIDDEN TESTS
for number in range(4):
    hidden = np.random.default_rng(20 + number)
    small, left = hidden.random((14, 14)), hidden.uniform(-4, 20, 2)
    box = np.concatenate([left, left + hidden.uniform(6, 40, 2)])
    right = numbers(mask_rcnn.enlarge(small[None, None], box[None, None], 48, 48))
    clear = np.abs(right[0, 0] - 0.5) > 1e-3
    wrong = (numbers(paste(small, box, 48, 48)) != (right[0, 0] >= 0.5)) & clear
    assert not wrong.any(), (
        f"box {box.round(1)}: {wrong.sum()} wrong; interpolate, cut then"
    )
### END HIDDEN TESTS
print("Right: soft until it has its final size.")

# %% [markdown]
# ## 5. Is a mask right? (1 point)
# Write `mask_iou(a, b)`: the IoU of every mask in `a` (N, H, W) with every one in `b` (M, H, W), boolean arrays. Out:
# (N, M); 0 where both masks are empty. Mask AP is box AP with this in the place of the boxes' IoU.


# %% gap="iou" stub="pixels in both, over pixels in either"
def mask_iou(a, b):
    ### BEGIN SOLUTION
    a, b = (x.reshape(len(x), -1).astype(float) for x in (a, b))
    both = a @ b.T
    either = a.sum(axis=1)[:, None] + b.sum(axis=1) - both
    return both / np.maximum(either, 1)
    ### END SOLUTION


# %% check="iou" points=1
a, b = np.zeros((2, 4, 5), bool), np.zeros((3, 4, 5), bool)
a[0, :2, :2], b[0, :2, :3], b[1, 2:, :], a[1, 2:, 1:] = True, True, True, True
answer = numbers(mask_iou(a, b))
expected = [[4 / 6, 0, 0], [0, 8 / 10, 0]]
assert close(answer, expected), f"expected {np.round(expected, 3)}, got {answer}"
empty = numbers(mask_iou(np.zeros_like(a), np.zeros_like(b)))
assert close(empty, np.zeros((2, 3))), f"two empty masks have IoU 0; got {empty}"
### BEGIN HIDDEN TESTS
for number in range(3):
    hidden = np.random.default_rng(30 + number)
    a, b = hidden.random((4, 9, 8)) < 0.4, hidden.random((5, 9, 8)) < 0.6
    expected = [[(x & y).sum() / max((x | y).sum(), 1) for y in b] for x in a]
    assert agree(mask_iou(a, b), expected, "four random masks against five")
### END HIDDEN TESTS
print("Right: mask AP can be computed.")

# %% [markdown]
# How good can a mask of 28 × 28 be at best? We cut 120 objects of the test images out of their own boxes, with your
# targets, and paste them back. No training can win back what is lost here.

# %%
at = np.argwhere(test_set["labels"] >= 0)[:120]  # (image, place) of some objects
masks, boxes = (test_set[key][at[:, 0], at[:, 1]] for key in ("masks", "boxes"))
first = np.zeros((len(at), 1), "int32")  # each stands alone
best = {}
for size in (7, 14, 28):
    cut = numbers(mask_targets(*tensors(masks[:, None], boxes[:, None], first), size))
    overlaps = []
    for small, box, mask in zip(cut[:, 0], boxes, masks):
        pasted = numbers(paste(small, box, image_size, image_size))
        overlaps.append(mask_iou(pasted[None], mask[None] > 0)[0][0])
    best[f"{size} × {size}"] = np.mean(overlaps)
plots.bars(best, xlabel="mean IoU of the true mask, cut out and pasted back")

# %% [markdown]
# ## 6. Which mask, and where? (2 points)
# At test the net has found K boxes in an image, with their classes, and the mask branch gives for *each* box a mask of
# *each* class. Write `final_masks(logits, boxes, labels, height, width)` with NumPy and your `paste`.
#
# In: `logits` (K, s, s, C), `boxes` (K, 4) in pixels, `labels` (K,) int, 0 to C − 1, or −1 where nothing was found; the
# size of the image. Out: (K, height, width) bool, for each detection the mask of its own class in its own box. Where
# nothing was found, or where a box has no area, there is no pixel.
#
# `paste` wants values from 0 to 1, and the branch gives logits: p = 1 / (1 + exp(−logit)). Since p ≥ .5 where the logit
# is ≥ 0, you could lay the logits on the image and cut at 0. Think about the pixels beyond the box before you do so.


# %% gap="final" stub="give each detection the mask of its own class, pasted into its box"
def final_masks(logits, boxes, labels, height, width):
    ### BEGIN SOLUTION
    masks = np.zeros((len(labels), height, width), bool)
    for place in np.flatnonzero(np.asarray(labels) >= 0):
        box = boxes[place]
        if box[2] > box[0] and box[3] > box[1]:
            soft = 1 / (1 + np.exp(-logits[place, :, :, labels[place]]))
            masks[place] = paste(soft, box, height, width)
    return masks
    ### END SOLUTION


# %% check="final" points=2
logits = np.full((4, 6, 6, 3), -9.0)
logits[0, :, :3, 2], logits[0, :, :, 0] = 9, 9  # of class 2 the left half, of 0 all
logits[1, :3, :, 0], logits[2:] = 9, 9  # of class 0 the upper half
boxes = np.array([[4.0, 6, 28, 30], [20, 0, 44, 12], [0, 0, 20, 20], [9, 9, 9, 20]])
labels = np.array([2, 0, -1, 1])
answer = numbers(final_masks(logits, boxes, labels, 40, 50))
assert answer.shape == (4, 40, 50), f"expected (4, 40, 50), got {answer.shape}"
areas = answer.sum(axis=(1, 2))
assert answer[0, 8:28, 6:15].all() and areas[0] < 24 * 14, (
    "the mask of class 2 fills the left half of box 0, about 12 × 24 = 288 pixels, "
    f"and that of class 0 all 576; yours has {areas[0]}"
)
assert answer[1, 2:5, 22:42].all() and areas[1] < 24 * 8, (
    "detection 1 is of class 0, whose mask fills the upper half of its own box, about "
    f"6 × 24 = 144 pixels from column 20 on; yours has {areas[1]}"
)
assert not areas[2:].any(), f"nothing found, and no area: no pixel; got {areas[2:]}"
print("Right: the mask of its class, in its box.")

# %% [markdown]
# ## 7. Where is the tip? (2 points)
# For keypoints, a branch like that of the masks gives a heat map for each kind of point: s × s logits, of which
# exactly *one* place is right. Write `keypoints_of(logits, box)` for one object. In: `logits` (s, s, N), box `xyxy` in
# pixels. Out: (N, 3): x and y in pixels, and a score. The point lies in the **centre** of the bin with the highest
# logit; rows of the map belong to y. Its score is the probability of this bin. In training, all s · s places of one
# map compete in one softmax. Over what does the sum in the softmax go, then? Logits of 1,000 must not overflow.


# %% gap="keypoints" stub="return the centre of the best bin, and its probability among all places"
def keypoints_of(logits, box):
    ### BEGIN SOLUTION
    size, count = logits.shape[1:]
    maps = np.reshape(logits, (size * size, count))
    best = maps.argmax(axis=0)
    score = 1 / np.exp(maps - maps.max(axis=0)).sum(axis=0)
    x = box[0] + (best % size + 0.5) / size * (box[2] - box[0])
    y = box[1] + (best // size + 0.5) / size * (box[3] - box[1])
    return np.stack([x, y, score], axis=-1)
    ### END SOLUTION


# %% check="keypoints" points=2
maps = np.zeros((4, 4, 2))
maps[1, 3, 0], maps[2, 0, 1] = np.log(15), 1000
answer = numbers(keypoints_of(maps, [10.0, 20.0, 18.0, 60.0]))
assert answer.shape == (2, 3), f"two points of x, y, score: (2, 3), got {answer.shape}"
assert close(answer[0, :2], [17, 35]), (
    "row 1, column 3 of bins 2 wide and 10 high: the centre of this bin lies "
    f"at x = 10 + 3.5 · 2 = 17 and y = 20 + 1.5 · 10 = 35; got {answer[0, :2]}"
)
assert close(answer[0, 2], 0.5), f"15 for it, 15 for the others; got {answer[0, 2]}"
assert close(answer[1], [11, 45, 1]), f"point 1: 11, 45, surely; got {answer[1]}"
### BEGIN HIDDEN TESTS
hidden = np.random.default_rng(40)
maps, box = hidden.normal(0, 3, (9, 9, 5)), np.array([3.0, 7.0, 40.0, 29.0])
expected = mask_rcnn.decode_keypoints(maps[None, None], box[None, None])
assert agree(keypoints_of(maps, box), numbers(expected)[0, 0], "five random maps")
### END HIDDEN TESTS
print("Right: a place, and how sure it is among all places.")

# %% [markdown]
# How exact can a heat map be? We put each true point of a drawn scene into its bin, and read it back with your
# function.

# %%
images, truth = data.arrays("shapes", "test[:6]", target="boxes")
example = int(np.argmax((truth["labels"] >= 0).sum(axis=1)))
here = truth["labels"][example] >= 0
boxes, points = (truth[key][example][here] for key in ("boxes", "keypoints"))
own = np.arange(len(boxes), dtype="int32")[None]
_, axes = plt.subplots(1, 3, figsize=(8, 3))
for ax, size in zip(axes, (5, 14, 56)):
    bins, _ = mask_rcnn.keypoint_targets(points[None], boxes[None], own, size)
    maps = numbers(ops.one_hot(bins[0], size * size))  # (objects, points, places)
    maps = maps.swapaxes(1, 2).reshape(len(boxes), size, size, -1)
    read_back = np.stack([keypoints_of(one, box) for one, box in zip(maps, boxes)])
    read_back[..., 2] = points[..., 2]  # which points there are
    given = {"keypoints": read_back, "names": False, "ax": ax}
    plots.draw_objects(images[example], None, truth["labels"][example][here], **given)
    ax.set_title(f"{size} × {size} bins", fontsize=10)

# %% [markdown]
# ## 8. Train (2 points)
# `Net` is the course's small Mask R-CNN with *your* targets and *your* loss in it, and `masks_found` uses your
# `final_masks`. The detector below the mask branch is given. Half of the images are mirrored, with their boxes and
# masks. There is nothing to write: what you wrote above is trained here. Run the cells. The check asks for an AP50 of
# the masks of at least `floor` on the test images.


# %%
@keras.saving.register_keras_serializable("lab")
class Net(mask_rcnn.MaskRCNN):
    """Mask R-CNN with the mask targets and the mask loss of this notebook."""

    def losses_of(self, batch, outputs):
        targets, logits = outputs["roi_targets"], outputs["mask_logits"]
        told = {name: values[:, : self.positives] for name, values in targets.items()}
        wanted = batch["masks"], told["rois"], told["matched"], logits.shape[2]
        loss = mask_loss(mask_targets(*wanted), told["labels"], logits)
        return super().losses_of(batch, outputs) | {"mask_loss": loss}


# %%
def build():
    """One map, square anchors, 14 × 14 features and 28 × 28 masks."""
    keras.utils.set_random_seed(seed)
    known = hasattr(keras.applications, network)  # then its ImageNet weights are taken
    options = faster_rcnn.SMALL | {"levels": (level,), "sizes": [sizes]}
    options |= {"proposals": proposals, "candidates": 2 * proposals}
    options["mask_filters"] = (64, 64)
    options["weights"] = "imagenet" if known else None
    return Net(len(names), (image_size, image_size, 3), network, **options)


# %%
net, ten = build(), min(10, steps)
schedule = training.WarmupHoldDecay(rate, steps, warmup=steps // 10)
net.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0))
options = {"steps_per_epoch": ten, "epochs": steps // ten}
flip = augmentation.Flip(seed=seed)  # half of the images, left to right
batches = training.drawn_batches(train_set, 16, seed, flip)
curves = net.fit(batches, shuffle=False, verbose=0, **options).history

# %%
at = ten * np.arange(1, len(curves["loss"]) + 1)
parts = {name.replace("_", " "): curves[name] for name in net.loss_names}
ax = plots.curves(parts, x=at, xlabel="step", ylabel="loss", log_y=True)
_ = ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))


# %%
def masks_found(images):
    """Detections with masks: the boxes first, then a mask for each box that is kept."""
    found, masks = net.detect(images, max_detections=most), []
    for start in range(0, len(images), 16):
        rows = slice(start, start + 16)
        maps = net.network(images[rows], training=False)["maps"]
        boxes, labels = found["boxes"][rows], found["labels"][rows]
        for given in zip(numbers(net.mask_logits(maps, boxes)), boxes, labels):
            masks.append(final_masks(*given, image_size, image_size))
    return found | {"masks": np.stack(masks)}


# %%
found = masks_found(test_set["image"])
whole = np.zeros_like(found["masks"])
for image, place in np.argwhere(found["labels"] >= 0):
    left, top, right, bottom = found["boxes"][image, place].round().astype(int)
    whole[image, place, top:bottom, left:right] = True
options = {"kind": "segm", "classes": len(names)}
reached = evaluation.evaluate(found, test_set, **options)
filled = evaluation.evaluate(found | {"masks": whole}, test_set, **options)
both = {"your masks": reached["AP"], "the boxes, filled": filled["AP"]}
plots.bars(both, xlabel="mask AP on the test images")
results.record(mask_ap50=reached["AP50"], mask_ap=reached["AP"])
results.record(filled_boxes_ap=filled["AP"])

# %% check="final" points=2
known_data = source in ("shapes", "nuclei")  # the floor holds for these
assert results.reaches(reached["AP50"], floor, known_data), (
    f"mask AP50 {reached['AP50']:.3f} on the test images, {floor} is asked for: "
    "do RoIs, targets, labels and boxes belong together everywhere?"
)
print("Right: your masks find their objects.")

# %% tags=["thumbnail"]
kept = {key: values[:4] for key, values in found.items()}
kept["labels"] = np.where(kept["scores"] > 0.5, kept["labels"], -1)
plots.show_objects(test_set["image"][:4], kept, classes=names)

# %% [markdown]
# ## 9. Where do masks fail? (2 points)
# The figure shows, for each class, the mean IoU of the masks of the objects that were found.

# %%
overlaps = {name: [] for name in names}
for image, truth in enumerate(test_set["labels"]):
    true_masks, guess = test_set["masks"][image] > 0, found["labels"][image]
    iou = numbers(mask_iou(found["masks"][image], true_masks))
    best_of = np.max(iou * (guess[:, None] == truth), axis=0)  # each object's best mask
    for place in np.flatnonzero((truth >= 0) & (best_of > 0)):
        overlaps[names[truth[place]]].append(best_of[place])
means = {name: np.mean(values) for name, values in overlaps.items() if values}
plots.bars(means, xlabel="mean IoU of the masks")

# %% [markdown] question="failures" points=2
# Which classes have the worst masks, and why? Compare with the bars above section 6: what would you change first, the
# size of the masks, the stride of the map, or the length of the training?
#
# ### BEGIN SOLUTION
# Classes with thin parts and sharp corners have the worst masks: star and cross. The points of a star and the arms of
# a cross are a few pixels wide, less than a cell of the map of stride 8, and masks round them off. The circle has the
# best masks: it has no corner anywhere. The bars above section 6 show that masks of 28 × 28 pixels allow an IoU near
# 1, so their size is not the limit. The limit is what the features know and how long the branch has learnt. So a finer
# map (stride 4, or a pyramid) and a longer training come first, larger masks last.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - sample a map in a box to a fraction of a cell, and say what rounding would have cost;
# - give each RoI the mask that it should learn, and a loss that leaves the choice of the class to the class branch;
# - bring a small soft mask to the pixels of the image;
# - train Mask R-CNN on top of a detector, and measure masks by their own AP.
#
# ## Exercises
#
# 1. (easy) Cut at .5 first, and enlarge the result. How much mask AP does this cost? *Hint: `paste(soft >= .5, ...)`.*
# 2. (medium) Train with `pool="pool"` in `build`. By how much do AP50 and AP75 of the masks fall? *Hint: the lecture
#    trains mask branches alone, on frozen features.*
# 3. (medium) Give all classes one mask (`mask_filters` as before, one output). How much accuracy does it cost? The
#    paper reports 29.7 mask AP, and 30.3 with a mask for each class. *Hint: in `Net`, use the mean of the logits over
#    the classes in the loss and at test.*
# 4. (hard) Cut out your own objects: a folder in COCO's form as `source`. *Hint: `data.describe(folder)` says what was
#    found.*
#
# ## Further reading
#
# - K. He, G. Gkioxari, P. Dollár, R. Girshick, *Mask R-CNN*, ICCV 2017.
# - S. Ren, K. He, R. Girshick, J. Sun, *Faster R-CNN: towards real-time object detection with region proposal
#   networks*, NIPS 2015.
# - A. Kirillov, Y. Wu, K. He, R. Girshick, *PointRend: image segmentation as rendering*, CVPR 2020.
