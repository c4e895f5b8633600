# %% [markdown]
# # 07 Semantic segmentation: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/07_semantic_segmentation.ipynb)
#
# **A class for every pixel, from a network of your own.** You will write the scores that judge it, the half of a
# U-Net that brings the places back, a loss for regions, and the training. Then you will label an image of a size that
# the network has never met.
#
# You will be able to
#
# - count a confusion matrix and read pixel accuracy, IoU and Dice off it, missing classes included;
# - build a U-Net around its skip connections, and check its parts by counting;
# - write the Dice loss so that it has a gradient and survives classes that are not there;
# - flip images *with* their masks, and train to a floor on scenes that nobody has shown the network;
# - predict images whose sides the stride does not divide.
#
# Plan two hours for it. There are 18 points. The training takes about three minutes on two cores.

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
seed: int = 0  # [0, ] the first weights, and which images are drawn and flipped
source: str = "shapes"  # a data set with masks, by name, or the path of a folder of images and masks
image_size: int = 96  # [32, 512] height and width that its images are brought to
examples: int = 4000  # [16, ] most training images
tested: int = 500  # [4, ] most test images
stretch: bool = False  # whether each image is stretched to the full range of brightness, for dim photographs
steps: int = 1100  # [2, 100000] training steps
batch_size: int = 16  # [1, 64] images in each
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
floor: float = 0.75  # [0, 1] mean IoU that your network must reach on the test images

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from scipy import ndimage
from skimage.filters import threshold_otsu

from utils import arithmetic, data, plots, results, session, training
from utils.data import shapes
from utils.layers import Enlarge
from utils.plots.scenes import coloured
from utils.segmentation import losses, metrics

session.start(seed)

# %% [markdown]
# Images with a mask each: a class for every pixel, 0 for background, 255 for pixels that do not count. You learn from
# the training images; the test images are only measured on, never trained on.


# %%
def pairs(split, size=image_size):
    """Images (N, size, size, 3) uint8 and masks (N, size, size) uint8."""
    images, masks = data.arrays(source, split, size, channels=3, target="mask", on_error=on_error)
    if stretch:
        low, high = np.percentile(images, (1, 99.8), axis=(1, 2, 3), keepdims=True)
        images = np.clip((images - low) * 255 / np.maximum(high - low, 1), 0, 255).astype("uint8")
    return images, masks


classes = data.chosen(source, "mask", on_error, classes=1).mask_classes
on_known_data = source in ("shapes", "nuclei", "oxford_iiit_pet")  # the floor was measured on these
train_images, train_masks = pairs(f"train[:{examples}]")
test_images, test_masks = pairs(f"test[:{tested}]")
if len(train_images) < 3 * batch_size:  # few images are shown more often, so that there are three batches
    again = np.arange(3 * batch_size) % len(train_images)
    train_images, train_masks = train_images[again], train_masks[again]
plots.show_masks(train_images[:6], train_masks[:6], classes=classes)

# %% [markdown]
# ## 1. The confusion matrix (2 points)
# Write `confusion(truth, predicted, classes, ignore=255)`: a matrix with a row for each true class and a column for
# each predicted one, each pixel counted once; pixels whose true label is `ignore` not at all.
#
# In: two integer arrays of one shape, any number of axes. Out: (classes, classes) integers. No loop over pixels: 500
# test masks have four and a half million of them. One number for each pair (truth, prediction) and `np.bincount` will
# do (the masks are uint8: widen them first, since 19 · 20 does not fit into 8 bits). The check counts small examples
# by hand.


# %% gap="confusion" stub="count the pixels by true class (row) and predicted class (column)"
def confusion(truth, predicted, classes, ignore=255):
    ### BEGIN SOLUTION
    counted = truth != ignore
    pairs = truth[counted].astype(int) * classes + predicted[counted]  # one number for each cell of the matrix
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    ### END SOLUTION


# %% check="confusion" points=2
small_truth = np.array([[0, 0, 1], [2, 2, 255]], "uint8")
small_guess = np.array([[0, 1, 1], [2, 0, 1]], "uint8")
answer = np.asarray(confusion(small_truth, small_guess, 3))
assert answer.shape == (3, 3), f"three classes give (3, 3), even if one is missing somewhere; got {answer.shape}"
assert answer.sum() == 5, f"five of the six pixels count, the sixth is 255; you counted {answer.sum()}"
assert answer.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]], (
    f"rows are the truth, columns the prediction; got {answer.tolist()}"
)
assert np.asarray(confusion(small_truth, small_guess, 40)).shape == (40, 40), "classes that are nowhere have rows too"
large = np.full((2, 2), 19, "uint8")
assert np.asarray(confusion(large, large, 20))[19, 19] == 4, (
    "four pixels of class 19 of 20: 19 · 20 + 19 does not fit into uint8, use astype(int) first"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(1)
many_truth, many_guess = rng.integers(0, 20, (2, 3, 40, 30)).astype("uint8")
many_truth[0, :5] = 255
assert np.array_equal(confusion(many_truth, many_guess, 20), metrics.confusion(many_truth, many_guess, 20))
assert confusion(np.full((2, 2), 255), np.zeros((2, 2), int), 2).tolist() == [[0, 0], [0, 0]]
### END HIDDEN TESTS

# %% [markdown]
# ## 2. Every score from it (2 points)
# Write `scores(matrix)`. With $t$ the true pixels of a class, $p$ the predicted ones and $i$ those that are both,
# return a dict of
#
# - `pixel_accuracy`: the share of all pixels that are right, a float;
# - `iou`: for each class $i / (t + p - i)$, an array;
# - `dice`: for each class $2i / (t + p)$, an array;
# - `mean_iou`: the mean IoU of the classes that occur, in truth or prediction, a float.
#
# A class with $t = p = 0$ has no score: NaN in the arrays, and left out of the mean. The check uses a matrix that can
# be worked out in the head.


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


# %% check="scores" points=2
by_hand = np.array([[6, 2, 0], [0, 4, 0], [0, 0, 0]])  # class 2 is nowhere
answer = scores(by_hand)
assert np.isclose(answer["pixel_accuracy"], 10 / 12), "10 of 12 pixels lie on the diagonal"
assert np.allclose(answer["iou"][:2], [6 / 8, 4 / 6]), f"6 / (8 + 6 - 6) and 4 / (4 + 6 - 4); got {answer['iou'][:2]}"
assert np.allclose(answer["dice"][:2], [12 / 14, 8 / 10]), f"12 / (8 + 6) and 8 / (4 + 6); got {answer['dice'][:2]}"
assert np.isnan(answer["iou"][2]) and np.isnan(answer["dice"][2]), (
    "a class that is nowhere has no score, not 0 and not 1"
)
assert np.isclose(answer["mean_iou"], (6 / 8 + 4 / 6) / 2), "the mean is over the two classes that occur"
false_alarm = scores(np.array([[5, 3], [0, 0]]))
assert np.isclose(false_alarm["iou"][1], 0) and np.isclose(false_alarm["mean_iou"], 5 / 16), (
    "class 1 is predicted and never there: its IoU is 0, and it counts"
)
### BEGIN HIDDEN TESTS
for number in range(3):
    matrix = np.random.default_rng(number).integers(0, 50, (6, 6))
    matrix[number], matrix[:, number] = 0, 0
    answer, reference = scores(matrix), metrics.scores(matrix)
    for key in ("pixel_accuracy", "mean_iou", "iou", "dice"):
        assert np.allclose(answer[key], reference[key], equal_nan=True), key
### END HIDDEN TESTS

# %% [markdown]
# What does a network score that has learnt nothing, and answers *background* everywhere? And where there is one class
# of bright objects, as in photographs of nuclei: what does a threshold on the brightness score (Otsu 1979)? These are
# the figures to beat.

# %%
trivial = {"all background": np.zeros_like(test_masks)}
if len(classes) == 2:
    brightness = test_images.mean(axis=-1)
    trivial["brightness (Otsu)"] = np.stack([grey > threshold_otsu(grey) for grey in brightness]).astype("uint8")
trivial = {name: scores(confusion(test_masks, found, len(classes))) for name, found in trivial.items()}
best_trivial = max(result["mean_iou"] for result in trivial.values())
bars = {
    f"{key.replace('_', ' ')}, {name}": result[key]
    for name, result in trivial.items()
    for key in ("pixel_accuracy", "mean_iou")
}
plots.bars(bars, xlabel="score without learning")

# %% [markdown]
# ## 3. One step up (2 points)
# A U-Net's expanding path is the same step again and again. Write `expand(x, skip, width)`:
#
# 1. enlarge `x` by a 2 × 2 transposed convolution with stride 2 and `width` filters (without activation);
# 2. **concatenate** `skip`, the map of that size from the contracting path, and the enlarged map along the channels;
# 3. `double_conv(..., width)` on both together.
#
# In: Keras tensors x (B, h, w, C) and skip (B, 2h, 2w, S). Out: (B, 2h, 2w, width). The check counts the parameters,
# which tell whether the maps were joined or added, and looks whether the answer listens to both.


# %%
def conv(x, width, stride=1):
    """3 x 3 convolution, batch normalisation, ReLU."""
    x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def double_conv(x, width):
    return conv(conv(x, width), width)


# %% gap="expand" stub="enlarge x, concatenate the skip connection, convolve twice"
def expand(x, skip, width):
    ### BEGIN SOLUTION
    x = layers.Conv2DTranspose(width, 2, 2, kernel_initializer="he_normal")(x)
    x = layers.Concatenate()([skip, x])
    return double_conv(x, width)
    ### END SOLUTION


# %% check="expand" points=2
low, high = layers.Input((4, 5, 8)), layers.Input((8, 10, 3))
step = keras.Model([low, high], expand(low, high, 6))
assert step.output.shape == (None, 8, 10, 6), f"twice as large, 6 channels: (None, 8, 10, 6), got {step.output.shape}"
enlarging, joined = 2 * 2 * 8 * 6 + 6, (3 * 3 * (3 + 6) * 6 + 4 * 6) + (3 * 3 * 6 * 6 + 4 * 6)
assert step.count_params() == enlarging + joined, (
    f"expected {enlarging} parameters to enlarge and {joined} to convolve 3 + 6 joined channels, got {step.count_params()} in all"
)
rng = np.random.default_rng(2)
values = [rng.normal(size=(2, 4, 5, 8)).astype("float32"), rng.normal(size=(2, 8, 10, 3)).astype("float32")]
plain = step.predict_on_batch(values)
for index, name in enumerate(("x", "the skip connection")):
    other = [value * (0 if position == index else 1) for position, value in enumerate(values)]
    assert not np.allclose(plain, step.predict_on_batch(other)), f"the answer does not depend on {name}"
### BEGIN HIDDEN TESTS
wide = keras.Model([low, high], expand(low, high, 10))
assert wide.count_params() == 2 * 2 * 8 * 10 + 10 + (9 * 13 * 10 + 40) + (9 * 100 + 40)
assert sum(isinstance(layer, layers.Conv2DTranspose) for layer in wide.layers) == 1
### END HIDDEN TESTS

# %% [markdown]
# ## 4. The whole U-Net (2 points)
# Write `build_unet(classes, widths=(24, 48, 96, 128))`, a `keras.Model` for images of *any* size (multiples of 16):
#
# 1. `Input((None, None, 3))`, then `Rescaling(1 / 127.5, offset=-1)`;
# 2. a stem, `conv(x, widths[0], stride=2)`: it halves the image, and quarters the work of all that follows;
# 3. for each width but the last: `double_conv`, keep the map, `MaxPooling2D(2)`;
# 4. the bottom: `double_conv` with the last width;
# 5. back up with `expand`, from the smallest kept map to the largest, with the width that the map has;
# 6. a 1 × 1 convolution to `classes` logits, and `Enlarge(2)`, bilinear interpolation that takes maps of any size,
#    back to the image's size; no softmax.
#
# The check counts parameters and sizes, and looks whether one pixel of the image reaches a logit far away *and* near.


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


# %% check="unet" points=2
tiny = build_unet(5, (4, 6, 8))
answer = tiny.predict_on_batch(np.zeros((2, 32, 48, 3), "uint8"))
assert answer.shape == (2, 32, 48, 5), f"five logits for each pixel of 32 x 48: (2, 32, 48, 5), got {answer.shape}"
assert tiny.predict_on_batch(np.zeros((1, 16, 16, 3))).shape == (1, 16, 16, 5), "another size must do as well"
convolutions = [(3, 4), (4, 4), (4, 4), (4, 6), (6, 6), (6, 8), (8, 8), (12, 6), (6, 6), (8, 4), (4, 4)]
expected = sum(9 * a * b + 4 * b for a, b in convolutions) + (4 * 8 * 6 + 6) + (4 * 6 * 4 + 4) + (4 * 5 + 5)
assert tiny.count_params() == expected, f"widths 4, 6, 8 make {expected:,} parameters, got {tiny.count_params():,}"
noise = np.random.default_rng(3).uniform(0, 255, (1, 32, 32, 3))
touched = noise.copy()
touched[0, 3, 3] = 255 - touched[0, 3, 3]
moved = np.abs(tiny.predict_on_batch(touched) - tiny.predict_on_batch(noise)).max(axis=(0, 3))
assert moved[3, 3] > 0 and moved[14, 14] > 0, "pixel (3, 3) must be felt at (3, 3) and, through the bottom, at (14, 14)"
assert tiny.predict_on_batch(noise).min() < 0, "logits are not probabilities: leave the softmax out"
### BEGIN HIDDEN TESTS
names = [type(layer).__name__ for layer in tiny.layers]
assert names.count("MaxPooling2D") == 2 and names.count("Conv2DTranspose") == 2 and names.count("Concatenate") == 2
assert build_unet(3, (4, 6)).predict_on_batch(np.zeros((1, 16, 16, 3))).shape == (1, 16, 16, 3)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. A loss for regions (2 points)
# Write `dice_loss(labels, logits)`: 1 minus the mean, over the classes that occur in the labels, of
#
# $$\mathrm{dice}_c = \frac{2 \sum p_c\, t_c}{\sum p_c + \sum t_c},$$
#
# with $p$ the softmax of the logits, $t$ the one-hot labels, and sums over all pixels of all images of the batch.
#
# In: labels (B, H, W) int, logits (B, H, W, C). Out: a scalar tensor. A class that is in no label has dice 0 whatever
# the network does: leave it out of the mean. Use `keras.ops` (`softmax`, `one_hot`, `sum`), since NumPy has no
# gradients. The checks work an example by hand, and train a small net with it.


# %% gap="dice" stub="one minus the mean Dice score of the classes in the labels, with probabilities"
def dice_loss(labels, logits):
    ### BEGIN SOLUTION
    truth = ops.one_hot(labels, logits.shape[-1])
    probabilities = ops.softmax(logits, axis=-1)
    sizes = ops.sum(truth, axis=(0, 1, 2))  # (C,)
    dice = 2 * ops.sum(truth * probabilities, axis=(0, 1, 2)) / (sizes + ops.sum(probabilities, axis=(0, 1, 2)))
    there = ops.cast(sizes > 0, dice.dtype)
    return 1 - ops.sum(dice * there) / ops.sum(there)
    ### END SOLUTION


# %% check="dice" points=1
labels = np.array([[[0, 0]], [[1, 1]]], "int32")  # two images of 1 x 2 pixels
sure = np.array([[[[0.9, 0.1, 0], [0.9, 0.1, 0]]], [[[0.5, 0.5, 0], [0.1, 0.9, 0]]]])  # probabilities of three classes
value = float(dice_loss(ops.convert_to_tensor(labels), ops.convert_to_tensor(np.log(sure + 1e-9).astype("float32"))))
first, second = 2 * 1.8 / (2 + 2.4), 2 * 1.4 / (2 + 1.6)
assert np.isclose(value, 1 - (first + second) / 2, atol=1e-3), (
    f"dice is {first:.3f} for class 0 and {second:.3f} for class 1, class 2 is not there: expected "
    f"{1 - (first + second) / 2:.3f}, got {value:.3f}"
)
perfect = np.where(np.eye(3)[labels] > 0, 30, -30).astype("float32")
assert np.isclose(float(dice_loss(ops.convert_to_tensor(labels), ops.convert_to_tensor(perfect))), 0, atol=1e-3), (
    "a perfect answer has loss 0"
)

# %% check="dice" points=1
keras.utils.set_random_seed(0)
net = keras.Sequential([layers.Input((1, 2, 3)), layers.Conv2D(3, 1)])
net.compile(
    keras.optimizers.SGD(1.0), lambda y, z: dice_loss(ops.cast(y, "int32"), z), jit_compile=training.jit_compile()
)
falling = [float(net.train_on_batch(sure.astype("float32"), labels)) for _ in range(30)]
assert falling[-1] < falling[0] - 0.1, (
    f"thirty steps down the gradient lower the loss, yours went from {falling[0]:.3f} to {falling[-1]:.3f}: "
    "take probabilities, not the largest logit, and keras.ops"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(4)
for _ in range(3):
    y = rng.integers(0, 4, (3, 6, 7)).astype("int32")
    z = rng.normal(size=(3, 6, 7, 6)).astype("float32")
    assert np.isclose(
        float(dice_loss(ops.convert_to_tensor(y), ops.convert_to_tensor(z))), float(losses.dice(y, z)), atol=1e-5
    )
### END HIDDEN TESTS

# %% [markdown]
# Cross-entropy guides every pixel from the first step, Dice asks for the small classes. You will train with their
# sum.


# %%
def loss(y_true, logits):
    """Pixel cross-entropy + Dice, for `compile`; Keras hands over labels as floats. 255 does not count in the first, and is no class in the second."""
    labels = ops.cast(y_true, "int32")
    return losses.cross_entropy(labels, logits) + dice_loss(labels, logits)


# %% [markdown]
# ## 6. Flip both (1 point)
# Write `flip(images, masks, rng)`: each pair is mirrored left to right with probability one half and, independently,
# upside down with probability one half. Image and mask of a pair always move together; pairs are independent of each
# other.
#
# In: images (N, H, W, 3), masks (N, H, W), a NumPy Generator. Out: new images and masks; the ones that come in stay
# as they are. The check flips 400 pairs and follows where a marked corner goes.


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


# %% check="flip" points=1
marked = np.zeros((400, 4, 6, 3), "uint8")
marked[:, 0, 0] = 9
corner = (marked[..., 0] > 0).astype("uint8")
turned, turned_masks = flip(marked, corner, np.random.default_rng(5))
assert turned.shape == marked.shape and turned_masks.shape == corner.shape, "a flip changes no shape"
assert np.array_equal(turned[..., 0] > 0, turned_masks > 0), "image and mask of a pair must move together"
assert marked[:, 0, 0].all() and corner[:, 0, 0].all(), "the arrays that come in stay as they are"
ends = [turned_masks[:, row, column].mean() for row in (0, -1) for column in (0, -1)]
assert np.isclose(sum(ends), 1), "the marked corner must end in a corner: flips only"
assert min(ends) > 0.15 and max(ends) < 0.35, (
    f"each of the four corners should get about a quarter of the pairs, got {ends}"
)
same, _ = flip(marked, corner, np.random.default_rng(5))
assert np.array_equal(same, turned), "the same generator gives the same flips: draw from `rng` alone"
### BEGIN HIDDEN TESTS
again, _ = flip(marked, corner, np.random.default_rng(6))
assert not np.array_equal(again, turned), "another generator gives other flips"
### END HIDDEN TESTS

# %% [markdown]
# ## 7. Train (3 points)
# Write `train(model, images, masks, steps)`. Compile the model with `loss`, an optimizer of your choice, and
# `jit_compile=training.jit_compile()`; then take exactly `steps` steps on batches of `batch_size` pairs, drawn anew
# and flipped anew in every pass. Return the list of losses, an entry for each pass or part of one.
#
# `training.WarmupHoldDecay(peak, steps, warmup=steps // 10)` is a rate that rises, stays and falls (the warm-up a
# share of the steps, since the check takes a few only), and AdamW with a peak of 2e-3, `weight_decay=1e-4` and
# `clipnorm=5.0` a good start. `model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)` on arrays whose
# length is a multiple of `batch_size` takes len(x) / batch_size steps: leave the remainder of a pass out.
#
# The first check trains a tiny net and counts its steps (1 point). The second wants a mean IoU of `floor` on the test
# images (2 points).


# %% gap="train" stub="compile, and take so many steps on flipped pairs; return the losses"
def train(model, images, masks, steps):
    ### BEGIN SOLUTION
    rate = training.WarmupHoldDecay(2e-3, steps, warmup=steps // 10)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=5.0)
    model.compile(optimizer, loss, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    while steps > 0:
        count = min(steps, len(images) // batch_size)  # steps of this pass
        order = rng.permutation(len(images))[: count * batch_size]
        x, y = flip(images[order], masks[order], rng)
        values += model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0).history["loss"]
        steps -= count
    return values
    ### END SOLUTION


# %% check="train" points=1
keras.utils.set_random_seed(seed)
tiny = build_unet(len(classes), (4, 6))
few = slice(0, 2 * batch_size + 1)  # two batches and one image
before = tiny.get_weights()
values = train(tiny, train_images[few], train_masks[few], 5)
assert int(tiny.optimizer.iterations) == 5, (
    f"five steps were asked for, two passes of two and one of one; the optimizer took {int(tiny.optimizer.iterations)}"
)
assert not np.allclose(before[0], tiny.get_weights()[0]), "no weight has moved"
assert len(values) >= 1 and np.isfinite(values).all(), f"the losses must be numbers: {values}"
probe = np.random.default_rng(7).normal(size=(1, 4, 4, len(classes))).astype("float32")
mask = np.zeros((1, 4, 4), "int32")
assert np.isclose(float(tiny.loss(mask, probe)), float(loss(mask, probe)), atol=1e-4), (
    "the model was compiled with another loss"
)
### BEGIN HIDDEN TESTS
tiny = build_unet(len(classes), (4, 6))
train(tiny, train_images[: 3 * batch_size], train_masks[: 3 * batch_size], 4)
assert int(tiny.optimizer.iterations) == 4
### END HIDDEN TESTS

# %% [markdown]
# Now in earnest. This takes a few minutes.

# %%
keras.utils.set_random_seed(seed)
model = build_unet(len(classes))
print(f"{arithmetic.totals(model, (image_size, image_size, 3))['trainable']:,} parameters")
values = train(model, train_images, train_masks, steps)
plots.curves({"cross-entropy + Dice": values}, xlabel="pass over the training images", ylabel="loss")

# %%
predicted = np.concatenate(
    [
        model.predict_on_batch(part).argmax(axis=-1)
        for part in np.array_split(test_images, max(len(test_images) // 20, 1))
    ]
)
matrix = confusion(test_masks, predicted, len(classes))
reached = scores(matrix)
plots.confusion_matrix(matrix / 1000, classes, title="thousands of pixels")
results.record(mean_iou=reached["mean_iou"], pixel_accuracy=reached["pixel_accuracy"], trivial=best_trivial)

# %% check="train" points=2
logits = [model.predict_on_batch(test_images[start : start + 20]) for start in range(0, len(test_images), 20)]
answers = np.concatenate(logits).argmax(axis=-1)
judged = metrics.scores(metrics.confusion(test_masks, answers, len(classes)))["mean_iou"]
assert results.reaches(judged, floor, on_known_data), (
    f"mean IoU {judged:.3f} on the test images, {floor} is asked for (without learning, {best_trivial:.3f}): do the flips move the masks "
    "along, does the rate fall at the end, and are the batches drawn from all images?"
)

# %% tags=["thumbnail"]
worst = np.argsort([np.mean(a == b) for a, b in zip(predicted, test_masks)])
picked = np.concatenate([worst[:3], worst[[len(worst) // 2, -len(worst) // 4, -1]]])
plots.show_masks(
    test_images[picked],
    test_masks[picked],
    predicted[picked],
    classes=classes,
    title="Three of the worst, three others",
)

# %% [markdown]
# ## 8. Another size (2 points)
# The network was trained on squares. It is a chain of convolutions, so it takes any image whose sides its stride, 16,
# divides. Write `predict(model, image, stride=16)` for one image of *any* size: repeat the last row and the last
# column until both sides are multiples of the stride (`np.pad` with `mode="edge"`), predict, take the class with the
# largest logit, and cut back to the image's size.
#
# In: a model, an image (H, W, 3). Out: labels (H, W), integers. Padding goes below and to the right, so that the grid
# of strides begins at the image's corner, as in training. The check uses a model that refuses sides which 16 does not
# divide.


# %% gap="predict" stub="pad to multiples of the stride, predict, take the class, cut back"
def predict(model, image, stride=16):
    ### BEGIN SOLUTION
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    logits = model.predict_on_batch(padded[None])[0]
    return logits[:height, :width].argmax(axis=-1)
    ### END SOLUTION


# %% check="predict" points=1
class ByHand:
    """Class 1 wherever the first channel is above 127; wants sides that are multiples of 16, and notes what it saw."""

    def predict_on_batch(self, batch):
        self.seen = np.asarray(batch)
        assert self.seen.shape[1] % 16 == 0 and self.seen.shape[2] % 16 == 0, (
            f"16 does not divide {self.seen.shape[1:3]}"
        )
        red = self.seen[..., 0].astype("float32")
        return np.stack([127.5 - red, red - 127.5], axis=-1)

    __call__ = predict = lambda self, batch, **options: self.predict_on_batch(batch)


judge = ByHand()
picture = np.random.default_rng(8).integers(0, 256, (37, 50, 3)).astype("uint8")
answer = np.asarray(predict(judge, picture))
assert answer.shape == (37, 50), f"labels of the image's own size, (37, 50), got {answer.shape}"
assert np.array_equal(answer, picture[..., 0] > 127), (
    "each label must stand at its own pixel: pad below and right, do not resize"
)
assert judge.seen.shape == (1, 48, 64, 3), f"37 x 50 needs 48 x 64 and no more, got {judge.seen.shape}"
assert np.array_equal(judge.seen[0, 36], judge.seen[0, 47]), (
    "the last row is repeated, not zeros: black is a colour too"
)

# %% check="predict" points=1
assert predict(judge, picture[:16, :32]).shape == (16, 32) and judge.seen.shape == (1, 16, 32, 3), (
    f"16 x 32 fits already and needs no padding, got {judge.seen.shape}"
)
predict(judge, picture, stride=32)
assert judge.seen.shape == (1, 64, 64, 3), f"37 x 50 at a stride of 32 needs 64 x 64, got {judge.seen.shape}"
### BEGIN HIDDEN TESTS
fitting = np.random.default_rng(9).integers(0, 256, (32, 16, 3)).astype("uint8")
assert np.array_equal(predict(judge, fitting), fitting[..., 0] > 127) and judge.seen.shape == (1, 32, 16, 3)
assert predict(judge, picture[:1, :1]).shape == (1, 1)
### END HIDDEN TESTS

# %% [markdown]
# A crowd of shapes on a wide image, where the network has only ever seen up to four on a square. (With another
# source: a test image at one and a half times the size it was trained on.)

# %%
if source.startswith("shapes"):
    scene = shapes.scene(3, "test", config="crowded", image_size=(135, 250), radius=(8, 17))
    wide, wide_mask = scene.image, scene.mask
else:
    wide, wide_mask = (array[0] for array in pairs("test[:1]", image_size * 3 // 2))
answer = predict(model, wide)
wide_iou = scores(confusion(wide_mask, answer, len(classes)))["mean_iou"]
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
results.record(wide_iou=wide_iou)

# %% [markdown]
# ## 9. Where does it err? (2 points)
# Two pictures of the errors on the test images: the share of wrong pixels by distance from the nearest outline, and
# all wrong pixels of four images.


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
distances = np.stack([distance_to_outline(mask) for mask in test_masks[some]])
wrong = predicted[some] != test_masks[some]
edges = [0, 1.5, 2.5, 4.5, 8.5, np.inf]
share = {
    f"{name} px": wrong[(distances > low) & (distances <= high)].mean()
    for name, low, high in zip(("1", "2", "3-4", "5-8", "more"), edges[:-1], edges[1:])
}
plots.bars(share, xlabel="share of wrong pixels", title="By distance from the nearest outline")

# %%
some = picked[[0, 1, -3, -2]]
plots.show_label_maps(
    test_images[some], test_masks[some], {"your network": predicted[some]}, classes, errors=True, tile=1.8
)

# %% [markdown] question="errors" points=2
# Describe the two kinds of errors that you see, and say for each what causes it and what would reduce it: a finer
# map, more training, another loss, more images? Which of the two does mean IoU punish more, and which
# would pixel accuracy show at all?
#
# ### BEGIN SOLUTION
# First, a rim of wrong pixels along outlines, one or two pixels wide. The network answers on a map of half the
# image's size and enlarges it by interpolation, so that it cannot place an outline better than that; and the pixels
# there are mixtures of two colours. A finer map (no stem of stride 2) or a boundary-aware loss would reduce it, more
# training only a little. Second, whole regions of the wrong class, or missed: often small or half covered shapes, or
# the part of one that looks like something else. These are errors of recognition; more training, more images and a
# wider view help, a finer map does not. Mean IoU punishes the second kind more, since a confused region counts
# against both classes and a missed small class pulls its whole vote down; a rim costs large shapes little, small ones
# much. Pixel accuracy shows both only faintly: five pixels of six are background, and nearly all of them are right.
# (With nuclei, one class on a dark ground, there is nothing to confuse: nearly all errors are of the first kind.)
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - count scores that imbalance does not fool, and say what becomes of a class that is nowhere;
# - build a U-Net whose every parameter you can account for, and train it with a loss of your own to a mean IoU
#   several times that of "all background";
# - move masks along with their images, and label an image of a size that the network was not made for;
# - tell errors of place from errors of recognition.
#
# ## Exercises
#
# 1. (easy) Train with the cross-entropy alone, then with Dice alone. Which classes gain, and how do the curves differ
#    in the first hundred steps? *Hint: change `loss`.*
# 2. (medium) Leave the skip connections out (`expand` without `skip`). By how much does mean IoU fall, and the share
#    of wrong pixels at the outlines? *Hint: the bars of part 9.*
# 3. (medium) Average the predictions over the four flipped views of each image. What does it gain? *Hint: average
#    probabilities, and flip them back first; `utils.segmentation.inference.predict(..., flips=...)` compares.*
# 4. (hard) Take your own images: a folder with `images` and `masks` of the same names, as `source`. *Hint:
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
