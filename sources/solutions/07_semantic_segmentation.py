# %% [markdown]
# # 07 Semantic segmentation: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/07_semantic_segmentation.ipynb)
#
# **A class for every pixel, from a network of your own.** You will write the scores that judge it, the half of a
# U-Net that brings the places back, a loss for regions, and the training. Then you will label an image of a size that
# the network has never seen.
#
# You will be able to
#
# - count a confusion matrix and read pixel accuracy, IoU and Dice off it, missing classes included;
# - say which pixels to name if Dice is the score that counts;
# - build a U-Net around its skip connections, and check its parts by counting;
# - write the Dice loss so that it has a gradient and leaves out what does not count;
# - flip images *with* their masks, choose by validation images, and reach a floor on test images;
# - predict images whose sides the stride does not divide.
#
# Plan two and a half hours for it. There are nine gaps and one question, 21 points. The training takes about
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
seed: int = 0  # [0, ] the first weights, and which images are drawn and flipped
source: str = "shapes"  # a data set with masks: its name, or the path of a folder
image_size: int = 96  # [32, 512] height and width that its images are brought to
examples: int = 4000  # [16, ] most training images
tested: int = 500  # [4, ] most validation images, and most test images
stretch: bool = False  # whether each image gets the full range of brightness
steps: int = 1100  # [2, 100000] training steps
batch_size: int = 16  # [8, 64] images in each
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
floor: float = 0.75  # [0, 1] mean IoU that your network must reach on the test images

# %%
from functools import partial

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from scipy import ndimage
from skimage.filters import threshold_otsu

from utils import arithmetic, checks, data, plots, results, segmentation
from utils import session, training
from utils.architectures.blocks import conv_bn_relu
from utils.checks import agree
from utils.data import shapes
from utils.layers import Enlarge
from utils.plots.scenes import coloured
from utils.segmentation import losses, metrics
from utils.segmentation.unet import down_path, up_path

session.start(seed)

# %% [markdown]
# Each image comes with a mask: a class for every pixel, 0 for background, and 255 for pixels that do not count. There
# are three sets of images. Your network learns from the *training* images. The *validation* images tell you how well it
# does: change the network and train again as often as you like. The *test* images are used once, at the end.


# %%
def pairs(split, size=image_size):
    """Images (N, size, size, 3) uint8 and masks (N, size, size) uint8."""
    options = {"channels": 3, "target": "mask", "on_error": on_error}
    images, masks = data.arrays(source, split, size, **options)
    if stretch:
        ends = np.percentile(images, (1, 99.8), axis=(1, 2, 3), keepdims=True)
        images = (images - ends[0]) * 255 / np.maximum(ends[1] - ends[0], 1)
        images = np.clip(images, 0, 255).astype("uint8")
    return images, masks


classes = data.chosen(source, "mask", on_error, classes=1).mask_classes
# The floor was measured on these sets:
on_known_data = source in ("shapes", "nuclei", "oxford_iiit_pet")
train_images, train_masks = pairs(f"train[:{examples}]")
validation_images, validation_masks = pairs(f"validation[:{tested}]")
if len(train_images) < 3 * batch_size:  # few images are repeated, for three batches
    again = np.arange(3 * batch_size) % len(train_images)
    train_images, train_masks = train_images[again], train_masks[again]
plots.show_masks(train_images[:6], train_masks[:6], classes=classes)

# %% [markdown]
# The checks use two helpers of `utils.checks`. The first compares an answer with what was expected, and says where they
# differ. The second notices when your function only calls the function of the course that does the same.

# %%
ready = {"confusion", "scores", "down_path", "up_path", "unet", "dice", "predict"}
own_work = partial(checks.own_work, of=segmentation, names=ready)

# %% [markdown]
# ## 1. The confusion matrix (2 points)
#
# Write `confusion(truth, predicted, classes, ignore=255)`: a matrix with a row for each true class and a column for
# each predicted class. Each pixel is counted once. Pixels whose true label is `ignore` are not counted at all.
#
# In: two integer arrays of one shape, with any number of axes. Out: (classes, classes) integers.
#
# Do not loop over pixels: 500 masks have four and a half million of them. Make one number of each pair (truth,
# prediction), and count these numbers with `np.bincount`. The masks are uint8: widen them first, since 19 · 20 does not
# fit into 8 bits.
#
# The check counts small examples by hand.


# %% gap="confusion" stub="count the pixels by true class (row) and predicted class (column)"
def confusion(truth, predicted, classes, ignore=255):
    ### BEGIN SOLUTION
    counted = truth != ignore
    cells = truth[counted].astype(int) * classes + predicted[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    ### END SOLUTION


# %% check="confusion" points=1
small_truth = np.array([[0, 0, 1], [2, 2, 255]], "uint8")
small_guess = np.array([[0, 1, 1], [2, 0, 1]], "uint8")
expected = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])
with_ignored = expected.copy()
with_ignored[0, 1] += 1
mistakes = [
    ("rows are the truth, columns the prediction: yours are exchanged", expected.T),
    ("the pixel of label 255 was counted as background", with_ignored),
]
hint = "three classes, six pixels, one of them ignored"
answer = confusion(small_truth, small_guess, 3)
assert agree(answer, expected, hint, mistakes)
assert own_work(confusion, small_truth, small_guess, 3)
hint = "a class that is nowhere has a row and a column too: 40 classes"
answer = confusion(small_truth, small_guess, 40)
assert agree(answer, np.pad(expected, (0, 37)), hint)
print("passed: five pixels counted, one ignored")

# %% check="confusion" points=1
large, expected = np.full((2, 2), 19, "uint8"), np.zeros((20, 20))
expected[19, 19] = 4
hint = "four pixels of class 19 of 20: 19 · 20 + 19 does not fit into uint8"
assert agree(confusion(large, large, 20), expected, hint)
hint = "ignore=2: the pixels whose true label is 2 do not count, and a 2 that is only "
hint += "predicted does"
some_truth, some_guess = np.array([[0, 2, 1, 1]]), np.array([[2, 2, 1, 0]])
expected = [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
answer = confusion(some_truth, some_guess, 3, ignore=2)
assert agree(answer, expected, hint)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(1)
many_truth, many_guess = rng.integers(0, 20, (2, 3, 40, 30)).astype("uint8")
many_truth[0, :5] = 255
expected = metrics.confusion(many_truth, many_guess, 20)
answer = confusion(many_truth, many_guess, 20)
assert agree(answer, expected, "20 classes on 3 × 40 × 30 pixels, some ignored")
answer = confusion(np.full((2, 2), 255), np.zeros((2, 2), int), 2)
assert agree(answer, np.zeros((2, 2)), "no pixel counts: a matrix of zeros")
### END HIDDEN TESTS
print("passed: many classes, and another label to ignore")

# %% [markdown]
# ## 2. Every score from it (2 points)
#
# Write `scores(matrix)`. With $t$ the true pixels of a class, $p$ the predicted ones and $i$ those that are both,
# return a dict of
#
# - `pixel_accuracy`: the share of all pixels that are right, a float;
# - `iou`: for each class $i / (t + p - i)$, an array;
# - `dice`: for each class $2i / (t + p)$, an array;
# - `mean_iou`: the mean IoU of the classes that occur, in truth or prediction, a float.
#
# A class with $t = p = 0$ has no score: it is NaN in the arrays, and the mean leaves it out.
#
# The check uses matrices that can be worked out in the head.


# %% gap="scores" stub="return pixel_accuracy, iou, dice and mean_iou of a confusion matrix"
def scores(matrix):
    ### BEGIN SOLUTION
    both, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    there = truth + predicted > 0
    sizes = np.where(there, truth + predicted, 1)
    iou = np.where(there, both / np.where(there, sizes - both, 1), np.nan)
    dice = np.where(there, 2 * both / sizes, np.nan)
    return {
        "pixel_accuracy": both.sum() / matrix.sum(),
        "iou": iou,
        "dice": dice,
        "mean_iou": np.nanmean(iou),
    }
    ### END SOLUTION


# %%
def score_of(matrix, key):
    """One score by your function; an AssertionError where it gives no such score."""
    with np.errstate(all="ignore"):
        answer = scores(np.array(matrix))
    keys = list(answer) if isinstance(answer, dict) else type(answer).__name__
    found = isinstance(answer, dict) and key in answer
    assert found, f"expected a dict with the key {key!r}, got {keys}"
    return answer[key]


# %% check="scores" points=1
by_hand = [[6, 2, 0], [0, 4, 0], [0, 0, 0]]  # class 2 is nowhere
hint = "10 of 12 pixels lie on the diagonal"
assert agree(score_of(by_hand, "pixel_accuracy"), 10 / 12, hint)
hint = "IoU: 6 / (8 + 6 − 6), 4 / (4 + 6 − 4), and no score for a class that is nowhere"
expected = [6 / 8, 4 / 6, np.nan]
mistakes = [
    ("divide by the union, t + p − i, not by t + p", [6 / 14, 4 / 10, np.nan]),
    ("a class that is nowhere has no score: NaN, not 0", [6 / 8, 4 / 6, 0]),
    ("a class that is nowhere has no score: NaN, not 1", [6 / 8, 4 / 6, 1]),
]
assert agree(score_of(by_hand, "iou"), expected, hint, mistakes)
hint = "Dice: 12 / (8 + 6), 8 / (4 + 6), and no score for a class that is nowhere"
expected = [12 / 14, 8 / 10, np.nan]
by_all = "divide by the sizes of both regions, not by all pixels"
assert agree(score_of(by_hand, "dice"), expected, hint, [(by_all, [1, 8 / 12, np.nan])])
assert own_work(scores, np.array(by_hand))
print("passed: three classes, one of them nowhere")

# %% check="scores" points=1
third = (6 / 8 + 4 / 6) / 3
mistakes = [("class 2 is nowhere: the mean leaves it out", third)]
hint = "the mean of .75 and .667, the two classes that occur"
assert agree(score_of(by_hand, "mean_iou"), (6 / 8 + 4 / 6) / 2, hint, mistakes)
false_alarm = [[5, 3], [0, 0]]
hint = "class 1 is predicted and never there: its IoU is 0"
assert agree(score_of(false_alarm, "iou"), [5 / 8, 0], hint)
hint = f"{hint}, and it counts in the mean"
assert agree(score_of(false_alarm, "mean_iou"), 5 / 16, hint)
### BEGIN HIDDEN TESTS
for number in range(3):
    matrix = np.random.default_rng(number).integers(0, 50, (6, 6))
    matrix[number], matrix[:, number] = 0, 0
    reference = metrics.scores(matrix)
    for key in ("pixel_accuracy", "mean_iou", "iou", "dice"):
        hint = f"{key} of six classes, of which class {number} is nowhere"
        assert agree(score_of(matrix, key), reference[key], hint)
### END HIDDEN TESTS
print("passed: the mean, with a class that is only predicted")

# %% [markdown]
# What does a network score that answers *background* everywhere? Where there is one class of bright objects, as in
# photographs of nuclei: what does a threshold on the brightness score (Otsu 1979)? These are the scores to beat.

# %%
trivial = {"all background": np.zeros_like(validation_masks)}
if len(classes) == 2:
    greys = validation_images.mean(axis=-1)
    bright = [grey > threshold_otsu(grey) for grey in greys]
    trivial["brightness (Otsu)"] = np.stack(bright).astype("uint8")
bars, best_trivial = {}, 0
for name, found in trivial.items():
    matrix = np.asarray(confusion(validation_masks, found, len(classes)))
    bars[f"pixel accuracy, {name}"] = score_of(matrix, "pixel_accuracy")
    bars[f"mean IoU, {name}"] = score_of(matrix, "mean_iou")
    best_trivial = max(best_trivial, float(score_of(matrix, "mean_iou")))
plots.bars(bars, xlabel="score without learning")

# %% [markdown]
# ## 3. Which pixels to name? (2 points)
#
# A network gives each pixel a probability $p$ that it belongs to an object. You may name any set of pixels "object".
# For the highest pixel accuracy, name the pixels with $p > 1/2$. But which set has the highest Dice score?
#
# You do not know the truth, only the probabilities. So judge a set $S$ by the overlap and the sizes that you may
# expect:
#
# $$D(S) = \frac{2 \sum_{S} p}{|S| + \sum p}.$$
#
# The sum above runs over the named pixels, the sum below over all pixels. Write `best_region(p)`, which returns a set
# with the largest $D$. In: an array of any shape; at least one probability is above 0. Out: an array of that shape,
# True for the pixels of the set.
#
# The course does not print the rule: work it out. Suppose that somebody tells you that the best set has $k$ pixels.
# Which $k$ pixels are they? And how do you find $k$?
#
# The check tries all $2^{10}$ sets of ten pixels and compares. Then it hands in 300 × 300 pixels, where nobody can try
# all sets.


# %% gap="best-region" stub="return the set of pixels with the largest D, as an array of bool"
def best_region(p):
    ### BEGIN SOLUTION
    # Of all sets of k pixels, the k most probable ones have the largest sum.
    order = np.argsort(-p, axis=None)
    likely = np.cumsum(p.ravel()[order])
    dice = 2 * likely / (np.arange(1, p.size + 1) + p.sum())
    named = np.zeros(p.size, bool)
    named[order[: dice.argmax() + 1]] = True
    return named.reshape(p.shape)
    ### END SOLUTION


# %%
def expected_dice(p, named):
    """D of a set of pixels."""
    return 2 * p[named].sum() / (named.sum() + p.sum())


def region_of(p):
    """The set by your function; an AssertionError where it is none."""
    answer = np.asarray(best_region(p.copy()))
    text = f"expected an array of bool of shape {p.shape}, got {answer.dtype} of shape"
    fits = answer.dtype.kind in "biu" and answer.shape == p.shape
    assert fits and set(answer.ravel().tolist()) <= {0, 1}, f"{text} {answer.shape}"
    return answer.astype(bool)


# %% check="best-region" points=1
every_set = (np.arange(1, 2**10)[:, None] >> np.arange(10) & 1).astype(bool)
for number, power in enumerate((3, 1, 0.3)):
    p = np.random.default_rng(number).random(10) ** power
    best = max(expected_dice(p, named) for named in every_set)
    named = region_of(p)
    text = f"your set has D = {expected_dice(p, named):.3f}, the best of all sets has "
    text += f"{best:.3f}; p = {p.round(2).tolist()}"
    halves = ": p > 1/2 is the choice for pixel accuracy"
    text += halves if np.array_equal(named, p > 0.5) else ""
    assert expected_dice(p, named) > best - 1e-9, text
print("passed: no set of ten pixels is better than yours")

# %% check="best-region" points=1
p = np.random.default_rng(3).random((300, 300)) ** 4
named = region_of(p)
sums = np.cumsum(np.sort(p.ravel())[::-1])
best = (2 * sums / (np.arange(1, p.size + 1) + p.sum())).max()
text = f"300 × 300 pixels: your set has D = {expected_dice(p, named):.5f}, "
assert expected_dice(p, named) > best - 1e-7, f"{text}the best one has {best:.5f}"
### BEGIN HIDDEN TESTS
for p in (np.array([0.1, 0, 0]), np.array([[1.0, 1.0], [0.4, 0.0]]), np.full(5, 0.01)):
    total = np.cumsum(np.sort(p.ravel())[::-1])
    best = (2 * total / (np.arange(1, p.size + 1) + p.sum())).max()
    reached = expected_dice(p, region_of(p))
    text = f"p = {p.tolist()}: your set has D = {reached:.4f}, the best has {best:.4f}"
    assert reached > best - 1e-9, text
### END HIDDEN TESTS
print("passed: a whole image")

# %% [markdown]
# A network that is not sure: a disc whose probability falls from .9 in the middle to 0. Look at the smallest
# probability that your set still names, and compare it with half of its Dice score.

# %%
rows, columns = np.mgrid[:64, :64] - 31.5
p = 0.9 * np.clip(1.4 - np.hypot(rows, columns) / 20, 0, 1) ** 1.5
halves, named = p > 0.5, region_of(p)
figure, axes = plt.subplots(1, 3, figsize=(8, 3))
titles = ["probability", f"p > .5: D = {expected_dice(p, halves):.3f}"]
titles += [f"your set: D = {expected_dice(p, named):.3f}"]
for ax, values, title in zip(axes, (p, halves, named), titles):
    ax.imshow(values, vmin=0, vmax=1, cmap="viridis")
    ax.set(title=title, xticks=[], yticks=[])
half = expected_dice(p, named) / 2
print(f"smallest probability named: {p[named].min():.3f}; half of D: {half:.3f}")

# %% [markdown]
# The two agree: name a pixel when its probability is above half of the Dice score that you expect. This is less than
# 1/2. So a network that is judged by Dice names more pixels than one that is judged by pixel accuracy.
#
# ## 4. One step up (2 points)
#
# A U-Net's expanding path repeats one step. Write `expand(x, skip, width)`:
#
# 1. enlarge `x` by a 2 × 2 transposed convolution with stride 2 and `width` filters, without activation;
# 2. **concatenate** along the channels: first `skip`, the map of that size from the contracting path, then the
#    enlarged map;
# 3. apply `double_conv(..., width)` to both together.
#
# In: Keras tensors x (B, h, w, C) and skip (B, 2h, 2w, S). Out: (B, 2h, 2w, width).
#
# The check counts the parameters, and compares the output with the course's own step, which gets your weights.


# %%
def conv(x, width, stride=1):
    """3 x 3 convolution, batch normalisation, ReLU."""
    options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    x = layers.Conv2D(width, 3, stride, **options)(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    return layers.ReLU()(x)


def double_conv(x, width):
    return conv(conv(x, width), width)


# %% gap="expand" stub="enlarge x, concatenate the skip connection, convolve twice"
def expand(x, skip, width):
    ### BEGIN SOLUTION
    x = layers.Conv2DTranspose(width, 2, 2, kernel_initializer="he_normal")(x)
    x = layers.Concatenate()([skip, x])
    return double_conv(x, width)
    ### END SOLUTION


# %%
def with_random_weights(model, seed=0):
    """The model with weights that leave no value at 0 or 1."""
    rng, values = np.random.default_rng(seed), []
    for weight in model.weights:
        value = rng.normal(0, 0.3, weight.shape)
        positive = weight.path.endswith(("gamma", "variance"))
        values.append(0.3 + abs(value) if positive else value)
    model.set_weights(values)
    return model


# %%
def skip_first(values, joined):
    """Weights as if the skip connection came first, where it came second.

    `joined`: the channels of each skip, by (channels in, filters) of the convolution
    that reads both maps.
    """
    turned = []
    for value in values:
        skip = joined.get(value.shape[2:], 0) if value.shape[:2] == (3, 3) else 0
        turned.append(np.roll(value, skip, axis=2) if skip else value)
    return turned


def course_outputs(model, course, image, joined):
    """What the course's model gives with your weights, for either order of the maps."""
    outputs = []
    for order in ({}, joined):
        course.set_weights(skip_first(model.get_weights(), order))
        outputs.append(course.predict_on_batch(image))
    return outputs


def nearest(own, outputs):
    """The output that lies nearest to yours."""
    return min(outputs, key=lambda output: np.abs(output - own).max())


# %% check="expand" points=1
low, high = layers.Input((4, 5, 8)), layers.Input((8, 10, 3))
output = expand(low, high, 6)
assert output is not None, "the function returned None: has it a return?"
hint = "twice as large as x, 6 channels"
assert agree(output.shape[1:], (8, 10, 6), f"the shape of the output: {hint}")
step = with_random_weights(keras.Model([low, high], output))
enlarging = 2 * 2 * 8 * 6 + 6
convolving = (3 * 3 * (3 + 6) * 6 + 4 * 6) + (3 * 3 * 6 * 6 + 4 * 6)
counted = step.count_params()
text = f"expected {enlarging} parameters to enlarge and {convolving} to convolve 3 + 6 "
assert counted == enlarging + convolving, f"{text}joined channels, got {counted} in all"
rng = np.random.default_rng(2)
values = [rng.normal(size=(2, 4, 5, 8)), rng.normal(size=(2, 8, 10, 3))]
values = [value.astype("float32") for value in values]
plain = step.predict_on_batch(values)
for index, name in enumerate(("x", "the skip connection")):
    other = [value * (position != index) for position, value in enumerate(values)]
    moved = not np.allclose(plain, step.predict_on_batch(other))
    assert moved, f"the output does not depend on {name}"
assert own_work(expand, low, high, 6)
print(f"passed: {counted} parameters, and the output depends on both maps")

# %% check="expand" points=1
course = keras.Model([low, high], up_path(low, [high], (6,), conv_bn_relu))
hint = "the course's step with your weights: a transposed convolution without "
hint += "activation, then both maps, then two convolutions"
expected = nearest(plain, course_outputs(step, course, values, {(9, 6): 3}))
assert agree(plain, expected, hint, rtol=1e-3)
print("passed: the course's step gives the same with your weights")

# %% [markdown]
# ## 5. The whole U-Net (2 points)
#
# Write `build_unet(classes, widths=(24, 48, 96, 128))`, a `keras.Model` for images of *any* size (multiples of 16):
#
# 1. `Input((None, None, 3))`, then `Rescaling(1 / 127.5, offset=-1)`;
# 2. a stem, `conv(x, widths[0], stride=2)`: it halves the image, and quarters the work of all that follows;
# 3. for each width but the last: `double_conv`, keep the map, `MaxPooling2D(2)`;
# 4. the bottom: `double_conv` with the last width;
# 5. back up with `expand`, from the smallest kept map to the largest, with the width that the map has;
# 6. a 1 × 1 convolution to `classes` logits, then `Enlarge(2)`, bilinear interpolation back to the image's size; no
#    softmax.
#
# The check counts parameters and compares logits with those of the course's U-Net, which gets your weights.


# %% gap="unet" stub="a contracting path, a bottom, an expanding path, logits of the image's size"
def build_unet(classes, widths=(24, 48, 96, 128)):
    ### BEGIN SOLUTION
    image = layers.Input((None, None, 3))
    x = conv(layers.Rescaling(1 / 127.5, offset=-1)(image), widths[0], stride=2)
    maps = []
    for width in widths[:-1]:
        maps.append(double_conv(x, width))
        x = layers.MaxPooling2D(2)(maps[-1])
    x = double_conv(x, widths[-1])
    for skip, width in zip(maps[::-1], widths[-2::-1]):
        x = expand(x, skip, width)
    x = layers.Conv2D(classes, 1)(x)
    return keras.Model(image, Enlarge(2)(x))
    ### END SOLUTION


# %%
def course_unet(classes, widths):
    """The same network of the two paths that `utils.segmentation` has ready."""
    image = layers.Input((None, None, 3))
    x = conv(layers.Rescaling(1 / 127.5, offset=-1)(image), widths[0], stride=2)
    *maps, x = down_path(x, widths, conv_bn_relu)
    x = up_path(x, maps, widths[:-1], conv_bn_relu)
    return keras.Model(image, Enlarge(2)(layers.Conv2D(classes, 1)(x)))


# %% check="unet" points=1
tiny = build_unet(5, (4, 6, 8))
assert isinstance(tiny, keras.Model), f"expected a keras.Model, got {tiny!r:.70}"
for height, width in ((32, 48), (16, 16)):
    shape = tiny.predict_on_batch(np.zeros((2, height, width, 3), "uint8")).shape
    hint = f"the shape for two images of {height} × {width}: five logits for each pixel"
    assert agree(shape, (2, height, width, 5), hint)
stem, down = [(3, 4)], [(4, 4), (4, 4), (4, 6), (6, 6), (6, 8), (8, 8)]
up = [(12, 6), (6, 6), (8, 4), (4, 4)]
expected = sum(9 * a * b + 4 * b for a, b in stem + down + up)
expected += (4 * 8 * 6 + 6) + (4 * 6 * 4 + 4) + (4 * 5 + 5)  # enlarging, logits
text = f"widths 4, 6, 8 make {expected:,} parameters, got {tiny.count_params():,}"
assert tiny.count_params() == expected, text
assert own_work(build_unet, 5, (4, 6, 8))
print(f"passed: {expected:,} parameters, and any size")

# %% check="unet" points=1
with_random_weights(tiny)
noise = np.random.default_rng(3).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
course = course_unet(5, (4, 6, 8))
text = "the weights have other shapes than those of the layers above, in their order"
mine, theirs = ([w.shape for w in each.get_weights()] for each in (tiny, course))
assert mine == theirs, text
joined = {(12, 6): 6, (8, 4): 4}
logits = tiny.predict_on_batch(noise)
expected = nearest(logits, course_outputs(tiny, course, noise, joined))
mistakes = [("leave the softmax out", ops.softmax(expected))]
for name, values in (("no rescaling", noise), ("images divided by 255", noise / 255)):
    outputs = course_outputs(tiny, course, 127.5 * (values + 1), joined)
    mistakes.append((f"your model sees {name}", nearest(logits, outputs)))
hint = "the course's U-Net with your weights: keep each map after the second "
hint += "convolution and before the pool, and use it at its own size"
assert agree(logits, expected, hint, mistakes, rtol=1e-3)
### BEGIN HIDDEN TESTS
deep = with_random_weights(build_unet(3, (3, 4, 5, 6)), seed=1)
course = course_unet(3, (3, 4, 5, 6))
joined = {(10, 5): 5, (8, 4): 4, (6, 3): 3}
logits = deep.predict_on_batch(noise)
expected = nearest(logits, course_outputs(deep, course, noise, joined))
assert agree(logits, expected, f"widths 3, 4, 5, 6: {hint}", rtol=1e-3)
### END HIDDEN TESTS
print("passed: the course's U-Net gives the same logits with your weights")

# %% [markdown]
# ## 6. A loss for regions (2 points)
#
# Write `dice_loss(labels, logits)`: 1 minus the mean, over the classes that occur in the labels, of
#
# $$\mathrm{dice}_c = \frac{2 \sum p_c\, t_c}{\sum p_c + \sum t_c}.$$
#
# Here $p$ is the softmax of the logits, $t$ the one-hot labels, and the sums run over all pixels of all images of the
# batch. Two cases need care.
#
# - A class that is in no label has dice 0 whatever the network does: leave it out of the mean.
# - A pixel whose label is 255 does not count. It belongs to no class, so its $t$ must be 0; but what about its $p$?
#
# In: labels (B, H, W) int, logits (B, H, W, C). Out: a scalar tensor. Use `keras.ops` (`softmax`, `one_hot`, `sum`,
# `where`), since NumPy has no gradients.
#
# The checks work an example by hand, change the logits of an ignored pixel, and train a small net.


# %% gap="dice" stub="one minus the mean Dice score of the classes in the labels, with probabilities"
def dice_loss(labels, logits):
    ### BEGIN SOLUTION
    counted = ops.not_equal(labels, 255)
    truth = ops.one_hot(ops.where(counted, labels, 0), logits.shape[-1])
    mask = ops.cast(counted, logits.dtype)[..., None]
    truth = truth * mask
    probabilities = ops.softmax(logits, axis=-1) * mask
    sizes = ops.sum(truth, axis=(0, 1, 2))  # (C,)
    both = ops.sum(truth * probabilities, axis=(0, 1, 2))
    dice = 2 * both / (sizes + ops.sum(probabilities, axis=(0, 1, 2)))
    there = ops.cast(sizes > 0, dice.dtype)
    return 1 - ops.sum(dice * there) / ops.sum(there)
    ### END SOLUTION


# %%
def dice_of(labels, logits):
    """The loss by your function as a float; an AssertionError where it is no number."""
    logits = ops.convert_to_tensor(np.asarray(logits, "float32"))
    answer = dice_loss(ops.convert_to_tensor(np.asarray(labels, "int32")), logits)
    assert answer is not None, "the function returned None: has it a return?"
    answer = ops.convert_to_numpy(answer)
    assert answer.ndim == 0, f"expected one number, got an array of {answer.shape}"
    return float(answer)


def learn_dice(images, labels):
    """The loss in thirty steps of gradient descent on a small network."""
    net = keras.Sequential([layers.Input((1, 2, 3)), layers.Conv2D(3, 1)])
    net.set_weights([0.2 * np.eye(3)[None, None], np.zeros(3)])
    options = {"jit_compile": training.jit_compile()}
    descent = keras.optimizers.SGD(1.0)
    net.compile(descent, lambda y, z: dice_loss(ops.cast(y, "int32"), z), **options)
    return [float(net.train_on_batch(images, labels)) for _ in range(30)]


# %% check="dice" points=1
labels = np.array([[[0, 0]], [[1, 1]]])  # two images of 1 x 2 pixels
sure = [[[[0.9, 0.1, 0], [0.9, 0.1, 0]]], [[[0.5, 0.5, 0], [0.1, 0.9, 0]]]]
logits = np.log(np.array(sure) + 1e-9)  # of three classes
first, second = 2 * 1.8 / (2 + 2.4), 2 * 1.4 / (2 + 1.6)
of_images = (2 * 1.8 / (2 + 1.8) + 2 * 1.4 / (2 + 1.4)) / 2
hint = f"dice is {first:.3f} and {second:.3f}; class 2 is not there"
mistakes = [
    (f"{hint}, so it has no vote", 1 - (first + second) / 3),
    ("the sums run over all images of the batch, not over each one", 1 - of_images),
    ("sum each class by itself, then take the mean", 1 - 2 * 3.2 / 8),
]
answer = dice_of(labels, logits)
assert agree(answer, 1 - (first + second) / 2, hint, mistakes, rtol=1e-3)
perfect = np.where(np.eye(3)[labels] > 0, 30, -30)
assert agree(dice_of(labels, perfect), 0, "a perfect answer", rtol=1e-3)
falling = learn_dice(np.array(sure, "float32"), labels)
text = f"thirty steps must lower the loss, yours went from {falling[0]:.3f} to "
text += f"{falling[-1]:.3f}: use probabilities, not the predicted class, and keras.ops"
assert falling[-1] < falling[0] - 0.1, text
assert own_work(dice_of, labels, logits)
print("passed: an example by hand, and a gradient that teaches")

# %% check="dice" points=1
ignored = np.array([[[0, 255]], [[1, 1]]])
first, with_p = 2 * 0.9 / (1 + 1.5), 2 * 0.9 / (1 + 2.4)
second, with_q = 2 * 1.4 / (2 + 1.5), 2 * 1.4 / (2 + 1.6)
hint = "the second pixel is ignored: neither its t nor its p enters a sum"
counted = 1 - (with_p + with_q) / 2
mistakes = [("the p of the ignored pixel is in the sum below", counted)]
answer = dice_of(ignored, logits)
assert agree(answer, 1 - (first + second) / 2, hint, mistakes, rtol=1e-3)
moved = np.array(logits)
moved[0, 0, 1] = [0, 5, 9]
hint = "other logits at the ignored pixel: the loss must stay as it was"
assert agree(dice_of(ignored, moved), answer, hint)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(4)
for _ in range(3):
    y = rng.integers(0, 4, (3, 6, 7)).astype("int32")
    y[rng.random(y.shape) < 0.2] = 255
    z = rng.normal(size=(3, 6, 7, 6)).astype("float32")
    hint = "random logits of six classes, a fifth of the pixels ignored"
    assert agree(dice_of(y, z), float(losses.dice(y, z)), hint)
### END HIDDEN TESTS
print("passed: ignored pixels count nowhere")

# %% [markdown]
# Cross-entropy guides every pixel from the first step, Dice asks for the small classes. You will train with their sum.


# %%
def loss(y_true, logits):
    """Pixel cross-entropy + Dice, for `compile`; label 255 counts in neither."""
    labels = ops.cast(y_true, "int32")  # Keras may hand over floats
    return losses.cross_entropy(labels, logits) + dice_loss(labels, logits)


# %% [markdown]
# ## 7. Flip both (1 point)
#
# Write `flip(images, masks, rng)`. Each pair is mirrored left to right with probability one half. Independently of
# this, it is mirrored upside down with probability one half. Image and mask of a pair always move together; pairs are
# independent of each other.
#
# In: images (N, H, W, 3), masks (N, H, W), a NumPy Generator. Out: new images and new masks. The arrays that come in
# stay as they are.
#
# The check flips 400 pairs and follows where a marked corner goes.


# %% gap="flip" stub="return images and masks, each pair flipped by chance along either axis"
def flip(images, masks, rng):
    ### BEGIN SOLUTION
    images, masks = images.copy(), masks.copy()
    for axis in (1, 2):
        turned = rng.random(len(images)) < 0.5
        images[turned] = np.flip(images[turned], axis)
        masks[turned] = np.flip(masks[turned], axis)
    return images, masks
    ### END SOLUTION


# %%
def flipped(images, masks, seed):
    """Images and masks by your function; an AssertionError where one is missing."""
    answer = flip(images, masks, np.random.default_rng(seed))
    pair = isinstance(answer, (tuple, list)) and len(answer) == 2
    assert pair, f"expected images and masks, got {type(answer).__name__}"
    turned = np.asarray(answer[0]), np.asarray(answer[1])
    for name, before, after in zip(("images", "masks"), (images, masks), turned):
        assert agree(after.shape, before.shape, f"the shape of the {name} stays")
    return turned


marked = np.zeros((400, 4, 6, 3), "uint8")
marked[:, 0, 0] = 9
corner = (marked[..., 0] > 0).astype("uint8")

# %% check="flip" points=1
turned, turned_masks = flipped(marked, corner, 5)
apart = ((turned[..., 0] > 0) != (turned_masks > 0)).any(axis=(1, 2)).sum()
text = f"image and mask of a pair must move together; {apart} of 400 pairs do not"
assert apart == 0, text
kept = marked[:, 0, 0].all() and corner[:, 0, 0].all()
assert kept, "the arrays that come in must stay as they are: flip copies"
ends = [turned_masks[:, row, column].mean() for row in (0, -1) for column in (0, -1)]
shares = ", ".join(f"{share:.2f}" for share in ends)
text = f"each of the four corners should get about .25 of the pairs, got {shares}"
assert np.isclose(sum(ends), 1), f"{text}; the others are in no corner"
assert min(ends) > 0.15 and max(ends) < 0.35, text
same, _ = flipped(marked, corner, 5)
text = "the same generator gave other flips: draw from `rng` alone"
assert np.array_equal(same, turned), text
### BEGIN HIDDEN TESTS
again, _ = flipped(marked, corner, 6)
assert not np.array_equal(again, turned), "another generator gave the same flips"
numbers = np.arange(48).reshape(1, 4, 4, 3).repeat(20, axis=0)
_, turned_masks = flipped(numbers, numbers[..., 0], 7)
text = "masks of numbers: some pixel is not where a flip puts it"
kinds = [numbers[0, ::a, ::b, 0] for a in (1, -1) for b in (1, -1)]
right = [any(np.array_equal(one, kind) for kind in kinds) for one in turned_masks]
assert all(right), text
### END HIDDEN TESTS
print("passed: pairs move together, a quarter of them in each of the four ways")

# %% [markdown]
# ## 8. Train (4 points)
#
# Write `train(model, images, masks, steps)`. Compile the model with `loss`, an optimizer of your choice, and
# `jit_compile=training.jit_compile()`. Then take exactly `steps` steps on batches of `batch_size` pairs. In every pass
# over the images, draw a new order and flip anew. Return the losses, one for each pass or each step.
#
# `training.WarmupHoldDecay(peak, steps, warmup=steps // 10)` is a learning rate that rises, stays and falls. AdamW with
# a peak of 2e-3, `weight_decay=1e-4` and `clipnorm=5.0` is a good start. `model.fit(x, y, batch_size=batch_size,
# shuffle=False, verbose=0)` on arrays whose length is a multiple of `batch_size` takes len(x) / batch_size steps: leave
# the rest of a pass out.
#
# The first check takes a few steps (1 point). The second check trains a network that notes what it is shown: which
# images, and how they are turned (1 point). The third check wants a mean IoU of `floor` on the test images (2 points).


# %% gap="train" stub="compile, and take so many steps on flipped pairs; return the losses"
def train(model, images, masks, steps):
    ### BEGIN SOLUTION
    rate = training.WarmupHoldDecay(2e-3, steps, warmup=steps // 10)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=5.0)
    model.compile(optimizer, loss, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    options = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
    while steps > 0:
        count = min(steps, len(images) // batch_size)  # steps of this pass
        order = rng.permutation(len(images))[: count * batch_size]
        x, y = flip(images[order], masks[order], rng)
        values += model.fit(x, y, **options).history["loss"]
        steps -= count
    return values
    ### END SOLUTION


# %% [markdown]
# How can a network note what it is shown? Each image below has one bright pixel, at a place of its own in the top left
# quarter; a flip moves it to another quarter. Batch normalisation of each pixel keeps a running mean of the batches:
# new = m · old + (1 − m) · batch. With m = 1 / (B + 1) for batches of B images, the counts of three batches are the
# digits of one number in base B + 1.


# %%
def notebook(side, base):
    """A small network whose batch normalisation remembers the last three batches."""
    image = layers.Input((side, side, 3))
    pixels = layers.Reshape((-1,))(image)
    options = {"center": False, "scale": False, "momentum": 1 / base}
    x = layers.BatchNormalization(name="notes", **options)(pixels)
    x = layers.Reshape((side, side, 3))(x)
    return keras.Model(image, layers.Conv2D(len(classes), 1)(x))


# %%
def read_notes(model, side, base):
    """How often each place was bright in each of three batches, (3, side, side); and
    what earlier batches left."""
    mean = np.asarray(model.get_layer("notes").get_weights()[0], "float64")
    number = mean.reshape(side, side, 3)[..., 0] * base**3
    whole = np.rint(number)
    digits = [whole // base**k % base for k in range(3)]
    return np.stack(digits), np.abs(number - whole).max()


def turns(bright):
    """For each image of a batch the quarters in which its pixel was: dict of sets."""
    side, found = len(bright), {}
    for row, column in np.argwhere(bright):
        place = min(row, side - 1 - row), min(column, side - 1 - column)
        quarter = bool(row >= side / 2), bool(column >= side / 2)
        found.setdefault(place, set()).add(quarter)
    return found


# %%
count = 2 * batch_size + 1  # a pass has two steps, and one image stays over
quarter = int(np.ceil(np.sqrt(count)))
places = np.stack(np.unravel_index(np.arange(count), (quarter, quarter)), axis=-1)
bright_images = np.zeros((count, 2 * quarter, 2 * quarter, 3), "uint8")
bright_images[np.arange(count), places[:, 0], places[:, 1]] = 1
bright_masks = bright_images[..., 0].copy()
keras.utils.set_random_seed(seed)
noting = notebook(2 * quarter, batch_size + 1)
short = build_unet(len(classes), (4, 6))
before = [np.array(weight) for weight in short.get_weights()]

# %% check="train" points=1
hint = "the steps that the optimizer took, of five: two passes of two, and one"
values = train(short, train_images[:count], train_masks[:count], 5)
assert agree(int(short.optimizer.iterations), 5, hint)
pairs_of = zip(before, short.get_weights())
moved = any(not np.allclose(a, b) for a, b in pairs_of if a.ndim == 4)
assert moved, "after five steps no kernel has moved: is the learning rate zero?"
text = "expected a list of losses, all of them numbers, got"
values = np.asarray([] if values is None else values, "float64")
assert values.size and np.isfinite(values).all(), f"{text} {values.tolist()}"
probe = np.random.default_rng(7).normal(size=(1, 4, 4, len(classes))).astype("float32")
mask = np.zeros((1, 4, 4), "int32")
hint = "the loss of a probe: the model must be compiled with `loss`, of part 6"
expected = losses.cross_entropy(mask, probe) + losses.dice(mask, probe)
assert agree(float(short.loss(mask, probe)), float(expected), hint)
print("passed: five steps, and the loss of part 6")

# %% check="train" points=1
train(noting, bright_images, bright_masks, 3)
batches, rest = read_notes(noting, 2 * quarter, batch_size + 1)
text = f"three steps were asked for, on batches of {batch_size} = `batch_size`; "
assert rest < 0.01, f"{text}the network has seen more, or other sizes"
assert (batches.sum(axis=(1, 2)) > 0).all(), f"{text}the network has seen fewer batches"
seen = [turns(bright) for bright in batches]
different = [len(found) for found in seen]
text += f"they held {different} different images"
assert min(different) >= batch_size / 2, text
first, second, third = (set(found) for found in seen)
blocks = [set(map(tuple, places[k : k + batch_size])) for k in (0, batch_size)]
text = "the images came in the order of the arrays: draw a new order in every pass"
assert [first, second] != blocks, text
text = "the second pass began with the images of the first one: draw a new order"
assert third != first, text
quarters = set().union(*(kind for found in seen for kind in found.values()))
text = "no image was flipped, neither left to right nor upside down: use `flip`"
assert quarters != {(False, False)}, text
again = [place for place in third if place in first | second]
earlier = {**seen[0], **seen[1]}
text = "the second pass showed each image as the first one did: flip anew in every pass"
assert any(seen[2][place] != earlier[place] for place in again), text
print("passed: full batches, a new order and new flips in every pass")

# %% [markdown]
# Now in earnest. This takes a few minutes. The score on the *validation* images tells you how well it went. If you are
# not content, change the training, or the widths of the network, and run these two cells again.

# %%
keras.utils.set_random_seed(seed)
model = build_unet(len(classes))
count = arithmetic.totals(model, (image_size, image_size, 3))["trainable"]
print(f"{count:,} parameters")
values = np.asarray(train(model, train_images, train_masks, steps))
xlabel = "pass over the training images, or step"
plots.curves({"cross-entropy + Dice": values}, xlabel=xlabel, ylabel="loss")


# %%
def predict_all(model, images):
    """Labels (N, H, W) of images of one size."""
    parts = np.array_split(images, max(len(images) // 20, 1))
    logits = [np.asarray(model.predict_on_batch(part)) for part in parts]
    return np.concatenate([part.argmax(axis=-1) for part in logits])


predicted = predict_all(model, validation_images)
matrix = np.asarray(confusion(validation_masks, predicted, len(classes)))
reached = score_of(matrix, "mean_iou")
title = f"validation images, mean IoU {reached:.2f}; thousands of pixels"
plots.confusion_matrix(matrix / 1000, classes, title=title)

# %% tags=["thumbnail"]
rates = [np.mean(a == b) for a, b in zip(predicted, validation_masks)]
worst = np.argsort(rates)
others = [len(worst) // 2, -len(worst) // 4, -1]
picked = np.concatenate([worst[:3], worst[others]])
title = "Three of the worst validation images, three others"
shown = validation_images[picked], validation_masks[picked], predicted[picked]
plots.show_masks(*shown, classes=classes, title=title)

# %% [markdown]
# Go on when you are content with the validation score. The next cell uses the test images, once. If you changed the
# network after it and looked again, you would choose by the test images, and their score would no longer tell how your
# network does on images that are new.

# %% check="train" points=2
test_images, test_masks = pairs(f"test[:{tested}]")
matrix = metrics.confusion(test_masks, predict_all(model, test_images), len(classes))
test_scores = metrics.scores(matrix)
judged = test_scores["mean_iou"]
text = f"mean IoU on the test images: expected {floor} or more, got {judged:.3f} "
text += f"(without learning: {best_trivial:.3f}). Do the masks move with the images, "
text += "does the rate fall at the end, are the batches drawn from all images?"
assert results.reaches(judged, floor, on_known_data), text
print(f"passed: mean IoU {judged:.2f} on the test images")

# %%
both = {"validation": reached, "test": judged}
plots.bars(both, "mean IoU", {"without learning": best_trivial})
results.record(mean_iou=judged, pixel_accuracy=test_scores["pixel_accuracy"])
results.record(validation_iou=reached, trivial=best_trivial)

# %% [markdown]
# ## 9. Another size (2 points)
#
# The network was trained on squares. It is a chain of convolutions, so it takes any image whose sides its stride, 16,
# divides. Write `predict(model, image, stride=16)` for one image of *any* size:
#
# 1. repeat the last row and the last column until both sides are multiples of the stride (`np.pad` with
#    `mode="edge"`);
# 2. predict, and take the class with the largest logit;
# 3. cut back to the image's size.
#
# In: a model, an image (H, W, 3). Out: labels (H, W), integers. Pad below and to the right, so that the grid of
# strides begins at the image's corner, as in training.
#
# The check uses a model that refuses sides which 16 does not divide.


# %% gap="predict" stub="pad to multiples of the stride, predict, take the class, cut back"
def predict(model, image, stride=16):
    ### BEGIN SOLUTION
    height, width = image.shape[:2]
    missing = (0, -height % stride), (0, -width % stride), (0, 0)
    padded = np.pad(image, missing, mode="edge")
    logits = model.predict_on_batch(padded[None])[0]
    return logits[:height, :width].argmax(axis=-1)
    ### END SOLUTION


# %%
class ByHand:
    """Class 1 wherever the first channel is above 127; notes what it saw."""

    def predict_on_batch(self, batch):
        self.seen = np.asarray(batch)
        shape = self.seen.shape
        fits = len(shape) == 4 and shape[1] % 16 == 0 and shape[2] % 16 == 0
        assert fits, f"expected (1, H, W, 3), 16 divides H and W; the model got {shape}"
        red = self.seen[..., 0].astype("float32")
        return np.stack([127.5 - red, red - 127.5], axis=-1)

    def predict(self, batch, **options):
        return self.predict_on_batch(batch)

    def __call__(self, batch, **options):
        return ops.convert_to_tensor(self.predict_on_batch(batch))


def labels_of(image, stride=16):
    """Labels by your function, and the batch that the model saw."""
    judge = ByHand()
    answer = predict(judge, image, stride)
    assert hasattr(judge, "seen"), "the model was not called"
    return np.asarray(answer), judge.seen


# %% check="predict" points=1
picture = np.random.default_rng(8).integers(0, 256, (37, 50, 3)).astype("uint8")
answer, saw = labels_of(picture)
assert agree(saw.shape, (1, 48, 64, 3), "what the model saw: 37 × 50 needs 48 × 64")
text = "pad below and to the right: the image must begin at the corner"
assert np.array_equal(saw[0, :37, :50], picture), text
expected = np.pad(picture, ((0, 11), (0, 14), (0, 0)), mode="edge")
text = f"repeat the last row, {saw[0, 36, 0]} at the left, and the last column; row "
assert np.array_equal(saw[0], expected), f"{text}47 begins with {saw[0, 47, 0]}"
hint = "labels of the image's own size, each at its own pixel"
assert agree(answer, picture[..., 0] > 127, hint)
print("passed: 37 × 50 pixels")

# %% check="predict" points=1
_, saw = labels_of(picture[:16, :32])
hint = "what the model saw: 16 × 32 fits already and needs no padding"
assert agree(saw.shape, (1, 16, 32, 3), hint)
_, saw = labels_of(picture, 32)
hint = "what the model saw: 37 × 50 at a stride of 32 needs 64 × 64"
assert agree(saw.shape, (1, 64, 64, 3), hint)
### BEGIN HIDDEN TESTS
fitting = np.random.default_rng(9).integers(0, 256, (32, 16, 3)).astype("uint8")
answer, saw = labels_of(fitting)
assert agree(answer, fitting[..., 0] > 127, "labels of 32 × 16 pixels")
assert agree(saw.shape, (1, 32, 16, 3), "what the model saw of 32 × 16 pixels")
answer, _ = labels_of(picture[:1, :1])
assert agree(answer, picture[:1, :1, 0] > 127, "the label of one pixel")
### END HIDDEN TESTS
print("passed: sizes that fit, and another stride")

# %% [markdown]
# A crowd of shapes on a wide image. The network has only ever seen up to four shapes on a square. (With another source:
# a validation image at one and a half times the size it was trained on.)

# %%
if source.startswith("shapes"):
    size = {"image_size": (135, 250), "radius": (8, 17)}
    scene = shapes.scene(3, "validation", config="crowded", **size)
    wide, wide_mask = scene.image, scene.mask
else:
    larger = pairs("validation[:1]", image_size * 3 // 2)
    wide, wide_mask = (array[0] for array in larger)
answer = np.asarray(predict(model, wide))
matrix = np.asarray(confusion(wide_mask, answer, len(classes)))
wide_iou = score_of(matrix, "mean_iou")
results.record(wide_iou=wide_iou)

# %%
figure, axes = plt.subplots(3, 1, figsize=(6, 9))
panels = {
    f"{wide.shape[0]} × {wide.shape[1]} pixels": wide,
    "truth": coloured(wide, wide_mask),
    f"mean IoU {wide_iou:.2f}": coloured(wide, answer),
}
for ax, (title, picture) in zip(axes, panels.items()):
    ax.imshow(picture)
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()

# %% [markdown]
# ## 10. Where does it err? (2 points)
#
# Two pictures of the errors on the validation images: the share of wrong pixels by distance from the nearest outline,
# and all wrong pixels of four images.


# %%
def distance_to_outline(mask):
    """For each pixel of (H, W) the distance to the nearest pixel of another class."""
    distance = np.full(mask.shape, np.inf)
    for label in np.unique(mask):
        inside = mask == label
        if not inside.all():
            distance[inside] = ndimage.distance_transform_edt(inside)[inside]
    return distance


some = slice(0, 200)
distances = np.stack([distance_to_outline(mask) for mask in validation_masks[some]])
counted = validation_masks[some] != 255
wrong = predicted[some] != validation_masks[some]
edges = [0, 1.5, 2.5, 4.5, 8.5, np.inf]
share = {}
for name, low, high in zip(("1", "2", "3-4", "5-8", "more"), edges[:-1], edges[1:]):
    inside = counted & (distances > low) & (distances <= high)
    share[f"{name} px"] = wrong[inside].mean()
title = "By distance from the nearest outline"
plots.bars(share, xlabel="share of wrong pixels", title=title)

# %%
some = picked[[0, 1, -3, -2]]
yours = {"your network": predicted[some]}
shown = validation_images[some], validation_masks[some], yours
plots.show_label_maps(*shown, classes, errors=True, tile=1.8)

# %% [markdown] question="errors" points=2
# Describe the two kinds of errors that you see. For each of them, say what causes it and what would reduce it: a finer
# map, more training, another loss, more images? Which of the two does mean IoU punish more? Which of them would pixel
# accuracy show at all?
#
# ### BEGIN SOLUTION
# The first kind is a rim of wrong pixels along outlines, one or two pixels wide. The network answers on a map of half
# the image's size and enlarges it by interpolation, so it cannot place an outline better than that. The pixels there
# are also mixtures of two colours. A finer map (no stem of stride 2) or a boundary-aware loss would reduce it; more
# training helps only a little. The second kind is a whole region of the wrong class, or a region that was missed. These
# are often small or half covered shapes, or a part of a shape that looks like something else. They are errors of
# recognition: more training, more images and a wider view help, a finer map does not. Mean IoU punishes the second kind
# more. A confused region counts against both classes, and a missed region of a rare class lowers that class's IoU, which
# has as much weight as any other. A rim costs large shapes little and small ones much. Pixel accuracy shows both kinds
# only faintly: most pixels are background, and nearly all of them are right. (With nuclei there is one class on a dark
# ground and nothing to confuse: nearly all errors are of the first kind.)
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - count scores that imbalance does not fool, and say what becomes of a class that is nowhere;
# - choose the pixels to name for the score that counts;
# - build a U-Net whose every parameter you can account for, and train it with a loss of your own to a mean IoU
#   several times that of "all background";
# - move masks along with their images, and label an image of a size that the network was not made for;
# - tell errors of place from errors of recognition.
#
# ## Exercises
#
# 1. (easy) Train with the cross-entropy alone, then with Dice alone. Which classes gain, and how do the curves differ
#    in the first hundred steps? *Hint: change `loss`, and compare validation scores.*
# 2. (medium) Leave the skip connections out (`expand` without `skip`). By how much does mean IoU fall, and the share
#    of wrong pixels at the outlines? *Hint: the bars of part 10.*
# 3. (medium) Average the predictions over the four flipped views of each image. What does it gain? *Hint: flip the
#    probabilities back before you average them; `utils.segmentation.inference.predict(..., flips=...)` compares.*
# 4. (medium) Use your `best_region` on the softmax of your trained network, one class at a time. Does mean Dice rise?
#    Compare a network that was trained with the cross-entropy alone. *Hint: one batch of validation images at once.*
# 5. (hard) Take your own images: a folder with `images` and `masks` of the same names, as `source`. *Hint:
#    `data.describe(folder)` says what was found; twenty pairs are enough if the encoder is pretrained, see the
#    lecture.*
#
# ## Further reading
#
# - O. Ronneberger, P. Fischer, T. Brox, *U-Net: convolutional networks for biomedical image segmentation*, MICCAI
#   2015.
# - F. Milletari, N. Navab, S.-A. Ahmadi, *V-Net: fully convolutional neural networks for volumetric medical image
#   segmentation*, 3DV 2016.
# - J. Long, E. Shelhamer, T. Darrell, *Fully convolutional networks for semantic segmentation*, CVPR 2015.
# - Z. Lipton, C. Elkan, B. Naryanaswamy, *Optimal thresholding of classifiers to maximize F1 measure*, ECML 2014.
