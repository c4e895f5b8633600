# %% [markdown]
# # 02 Layers and training: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/02_layers_and_training.ipynb)
#
# **What does `fit` do that you could not write yourself?** Nothing. In this lab you write the parts of a training
# run: pooling and its backward pass, softmax with cross-entropy, batch normalisation, dropout, max-norm, and the loop
# around them. The loop has to learn a hundred handwritten digits by heart. After that Keras may take over, and you
# train a small network to a floor on digits that it has never seen.
#
# You will be able to
#
# - send numbers forwards and gradients backwards through the layers that networks are made of;
# - check a gradient, and a training loop, before trusting either;
# - say what batch normalisation and dropout do in training and what they do at test time;
# - train a small network with validation, and judge it on images that had no part in it.
#
# Plan two hours for it. There are eight gaps and two questions, 26 points. Use NumPy in the first seven gaps. It runs
# in a minute.

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
seed: int = 0  # [0, ] initial weights and the order of the images
dataset: str = "digits"  # a data set's name, or the path of a folder with one subfolder per class
image_size: int = 8  # [8, 64] height and width that the images are brought to
per_class: int = 100  # [10, 6000] training images of each class
epochs: int = 30  # [1, 200] most passes over them
largest: int = 60_000  # [1000, ] parameters that your network may have
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
floor: float = 0.95  # [0, 1] share of the test images that your network must get right

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops

from utils import data, introspection, plots, training, transfer
from utils.results import reaches, record
from utils.session import start

start(seed)

# %%
classes = data.chosen(dataset, on_error=on_error).classes
judged = dataset in ("digits", "fashion_mnist")  # the floor was measured on these
images, labels = data.arrays(dataset, "train", image_size, 1, per_class=per_class, seed=seed, on_error=on_error)
validation_images, validation_labels = data.arrays(
    dataset, "validation", image_size, 1, per_class=30, on_error=on_error
)
shown = transfer.draw(labels, 2, seed)
plots.show_images(images[shown], labels[shown], classes=classes, columns=10, tile=0.8)

# %% [markdown]
# The checks use one helper. It compares shapes first, then values, and says where the first difference lies.


# %%
def agree(got, expected, hint):
    """True where `got` has the shape and the values of `expected`; otherwise an AssertionError that says what differs."""
    assert got is not None, "the function returned nothing: has it a return?"
    got, expected = np.asarray(got, "float64"), np.asarray(expected, "float64")
    assert got.shape == expected.shape, f"expected the shape {expected.shape}, got {got.shape}: {hint}"
    wrong = np.argwhere(~np.isclose(got, expected, rtol=1e-4, atol=1e-5))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        first = f"expected {expected[place]:g}, got {got[place]:g}" + (f" at {place}" if place else "")
        raise AssertionError(f"{len(wrong)} of {got.size} numbers differ: {first}. {hint}")
    return True


# %% [markdown]
# ## 1. Max pooling (2 points)
#
# Write `max_pool(x, f, s)`: the largest value of each f × f window, the windows `s` apart, each channel on its own. A
# window that would hang over the edge does not count.
#
# In: `x`, an array (H, W, C); H and W may differ. Out: an array (h, w, C), h = (H − f) // s + 1 and w likewise.
#
# The check works the matrices of the lecture, overlapping windows among them, then two channels and negative numbers.


# %% gap="pool" stub="return the maxima, (h, w, C)"
def max_pool(x, f, s):
    ### BEGIN SOLUTION
    height, width, channels = x.shape
    output = np.zeros(((height - f) // s + 1, (width - f) // s + 1, channels))
    for row, column in np.ndindex(*output.shape[:2]):
        output[row, column] = x[row * s : row * s + f, column * s : column * s + f].max(axis=(0, 1))
    return output
    ### END SOLUTION


# %% check="pool" points=1
four = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])[..., None]
five = np.array([[2, 4, 8, 3, 6], [9, 3, 4, 2, 5], [5, 4, 6, 3, 1], [2, 3, 1, 3, 4], [2, 7, 4, 5, 7]])[..., None]
assert agree(max_pool(four, 2, 2)[..., 0], [[6, 8], [3, 4]], "the top left window holds 1, 1, 5, 6")
assert agree(max_pool(five, 3, 2)[..., 0], [[9, 8], [7, 7]], "windows of 3 that are 2 apart share a row and a column")
assert agree(max_pool(five, 3, 1)[..., 0], [[9, 8, 8], [9, 6, 6], [7, 7, 7]], "at stride 1 there are 3 × 3 windows")
assert agree(max_pool(five, 2, 2)[..., 0], [[9, 8], [5, 6]], "the fifth row and column fit no window of 2 at stride 2")

# %% check="pool" points=1
two = np.concatenate([four, -four], axis=-1)
hint = "each channel has its own maximum, and the largest of negative numbers is negative"
assert agree(max_pool(two, 2, 2), [[[6, -1], [8, -2]], [[3, -1], [4, 0]]], hint)
assert max_pool(np.zeros((7, 4, 1)), 3, 2).shape == (3, 1, 1), "7 rows give 3 windows, 4 columns give 1"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(21)
for shape, f, s in [((9, 6, 2), 3, 3), ((8, 8, 3), 2, 1), ((6, 11, 1), 4, 2), ((5, 5, 4), 5, 1)]:
    x = random.normal(size=shape).astype("float32")
    expected = ops.convert_to_numpy(ops.max_pool(x[None], f, s))[0]
    assert agree(max_pool(x, f, s), expected, f"input {shape}, f {f}, s {s}")
### END HIDDEN TESTS

# %% [markdown]
# ## 2. The way back (3 points)
#
# Write `max_pool_backward(x, above, f, s)`. `above` (h, w, C) is the gradient of the loss with respect to the output
# of `max_pool(x, f, s)`. Return the gradient with respect to `x`, an array (H, W, C).
#
# The whole gradient of a window goes to its largest value. If several values of a window are the largest, the first
# one in reading order gets it. Where windows overlap and one value wins several of them, its gradients add up.
#
# The check works the example of the lecture by hand, then compares with Keras. `np.unravel_index(window.argmax(),
# window.shape)` finds the row and column of the first maximum of a matrix.


# %% gap="pool-backward" stub="return the gradient with respect to x, (H, W, C)"
def max_pool_backward(x, above, f, s):
    ### BEGIN SOLUTION
    gradient = np.zeros(x.shape)
    for row, column, channel in np.ndindex(*above.shape):
        window = x[row * s : row * s + f, column * s : column * s + f, channel]
        i, j = np.unravel_index(window.argmax(), window.shape)
        gradient[row * s + i, column * s + j, channel] += above[row, column, channel]
    return gradient
    ### END SOLUTION


# %% check="pool-backward" points=2
above = np.array([[1, 3, 1], [1, 4, 2], [6, 2, 1]])[..., None]
expected = np.zeros((5, 5))
expected[0, 2], expected[1, 0], expected[2, 2], expected[4, 1], expected[4, 4] = 4, 2, 6, 8, 1
hint = "the 8 wins two windows and gets 3 + 1: overlapping windows add up"
assert agree(max_pool_backward(five, above, 3, 1)[..., 0], expected, hint)
tied, from_above = np.full((2, 4, 1), 3.0), np.array([[5, 7]])[..., None]
hint = "all four values of a window are equal: the first one gets everything"
assert agree(max_pool_backward(tied, from_above, 2, 2)[..., 0], [[5, 0, 7, 0], [0, 0, 0, 0]], hint)
corner = np.array([[1.0, 3.0], [3.0, 0.0]])[..., None]
hint = "two 3s: the first one in reading order, row by row, gets everything"
assert agree(max_pool_backward(corner, np.array([[[5.0]]]), 2, 2)[..., 0], [[0, 5], [0, 0]], hint)

# %% check="pool-backward" points=1
random = np.random.default_rng(22)
x, above = random.normal(size=(7, 5, 2)), random.normal(size=(3, 2, 2))
weights = above[None].astype("float32")
by_keras = introspection.gradients(lambda t: ops.sum(ops.max_pool(t, 3, 2) * weights, axis=(1, 2, 3)), x[None])[0]
assert agree(max_pool_backward(x, above, 3, 2), by_keras, "7 × 5 with two channels, windows of 3 at stride 2, as Keras")
### BEGIN HIDDEN TESTS
x, above = random.normal(size=(6, 9, 3)), random.normal(size=(2, 3, 3))
answer = max_pool_backward(x, above, 3, 3)
assert agree(answer.sum(axis=(0, 1)), above.sum(axis=(0, 1)), "what comes in goes out, channel by channel")
assert (answer != 0).sum() == 18, "windows that do not overlap have one winner each"
steep = (max_pool(x + 1e-6 * answer, 3, 3) - max_pool(x, 3, 3)) / 1e-6
assert agree(steep, above, "a nudge along the gradient moves each maximum by what came from above")
### END HIDDEN TESTS

# %% [markdown]
# Your two functions on the first image: what pooling keeps of it, and which pixels would get a gradient. In the black
# corners all four values of a window are 0, and the first one gets it.

# %%
digit = images[0] / 255.0
kept = max_pool(digit, 2, 2)
winners = max_pool_backward(digit, np.ones_like(kept), 2, 2)
pictures = [digit, kept, winners]
plots.show_images(pictures, titles=["image", "pooled", "gets a gradient"], columns=3, tile=1.8)

# %% [markdown]
# ## 3. Softmax and cross-entropy (3 points)
#
# Write `cross_entropy(logits, labels)`. In: `logits`, an array (N, C); `labels`, N ints. Out: a pair of the loss, the
# mean over the N images of −log p of the true class, p = softmax of the logits, and its gradient with respect to the
# logits, an array (N, C).
#
# The gradient of the mean is (p − one-hot labels) / N. Logits of a thousand must not overflow: take the largest logit
# of each row off first, and take the logarithm of the sum rather than of p.
#
# The check knows the loss of equal logits, differentiates numerically, and tries large logits.


# %% gap="cross-entropy" stub="return the mean loss and the gradient, (N, C)"
def cross_entropy(logits, labels):
    ### BEGIN SOLUTION
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    totals = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = np.mean(np.log(totals[:, 0]) - shifted[rows, labels])
    gradient = exponentials / totals
    gradient[rows, labels] -= 1
    return loss, gradient / len(labels)
    ### END SOLUTION


# %% check="cross-entropy" points=2
loss, _ = cross_entropy(np.zeros((4, 10)), np.array([0, 3, 9, 3]))
assert np.isclose(loss, np.log(10)), f"ten equal logits: the loss is log 10 = 2.303, got {loss:.3f}"
random = np.random.default_rng(23)
logits, truth = random.normal(size=(5, 4)), np.array([1, 0, 3, 3, 2])
kept = logits.copy()
_, gradient = cross_entropy(logits, truth)
assert np.array_equal(logits, kept), "the logits that come in stay as they are"
numeric = np.zeros_like(logits)
for place in np.ndindex(*logits.shape):
    nudge = np.zeros_like(logits)
    nudge[place] = 1e-5
    numeric[place] = (cross_entropy(logits + nudge, truth)[0] - cross_entropy(logits - nudge, truth)[0]) / 2e-5
assert agree(gradient, numeric, "the numeric gradient of your own loss: sign, one-hot labels, division by N?")

# %% check="cross-entropy" points=1
loss, gradient = cross_entropy(np.array([[1000.0, 0.0], [0.0, 1000.0]]), np.array([0, 0]))
assert np.isfinite(loss) and np.isfinite(gradient).all(), (
    "logits of 1,000 give inf or nan: take the largest one off first, and the log of the sum, not of a p that became 0"
)
assert np.isclose(loss, 500), (
    f"one image is right and costs 0, the other is wrong by 1,000: 500 on average, got {loss:g}"
)
### BEGIN HIDDEN TESTS
logits, truth = random.normal(0, 3, (7, 6)), random.integers(0, 6, 7)
loss, gradient = cross_entropy(logits, truth)
by_keras = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(truth, logits.astype("float32"))
assert np.isclose(loss, float(by_keras), atol=1e-5) and np.allclose(gradient.sum(axis=1), 0)
assert agree(cross_entropy(np.tile(logits, (2, 1)), np.tile(truth, 2))[0], loss, "twice the same images: the same mean")
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Batch normalisation (3 points)
#
# Write `batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3)`.
#
# In: `x`, a batch of maps (N, H, W, C); `gamma`, `beta` and the running `mean` and `variance`, arrays (C,). Out:
# three arrays, the output (N, H, W, C) and the new running mean and variance (C,).
#
# In training, each channel is normalised with its mean and variance over the batch *and* over all places (N, H and W;
# the variance is the mean of the squared deviations, as `np.var` has it), and the running values move: new = momentum
# · old + (1 − momentum) · batch. At test time, each channel is normalised with the running values, and they stay.
# Normalised means (x − mean) / √(variance + epsilon); times gamma, plus beta. The arrays that come in stay as they
# are.
#
# The check looks at means and variances, at both modes, and compares with Keras's layer.


# %% gap="batch-norm" stub="return the output, the new running mean and the new running variance"
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    ### BEGIN SOLUTION
    used_mean, used_variance = mean, variance
    if training:
        used_mean, used_variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        mean = momentum * mean + (1 - momentum) * used_mean
        variance = momentum * variance + (1 - momentum) * used_variance
    return gamma * (x - used_mean) / np.sqrt(used_variance + epsilon) + beta, mean, variance
    ### END SOLUTION


# %% check="batch-norm" points=2
random = np.random.default_rng(24)
maps = random.normal([3.0, -1.0], [2.0, 0.5], (6, 4, 4, 2))  # (6, 4, 4, 2)
unit, zero, one = np.ones(2), np.zeros(2), np.ones(2)
output, mean, variance = batch_norm(maps, unit, zero, zero, one, training=True, epsilon=0)
assert agree(output.mean(axis=(0, 1, 2)), [0, 0], "each channel has mean 0 over images, rows and columns")
assert agree(output.var(axis=(0, 1, 2)), [1, 1], "each channel has variance 1 over images, rows and columns")
assert agree(mean, 0.01 * maps.mean(axis=(0, 1, 2)), "the running mean moves a hundredth of the way to the batch's")
assert agree(variance, 0.99 + 0.01 * maps.var(axis=(0, 1, 2)), "so does the running variance, from 1")
output, mean, variance = batch_norm(maps, 2 * unit, unit, unit, 4 * unit, training=False, epsilon=0)
assert agree(output, (maps - 1) + 1, "at test time: (x − 1) / √4 · 2 + 1, whatever is in the batch")
assert agree([mean, variance], [unit, 4 * unit], "at test time the running values stay")

# %% check="batch-norm" points=1
layer = layers.BatchNormalization(momentum=0.9, epsilon=0.1)
layer.build(maps.shape)
start_values = [np.array([1.5, 0.5]), np.array([0.2, -0.3]), np.array([1.0, 2.0]), np.array([3.0, 0.2])]
layer.set_weights(start_values)
kept = [value.copy() for value in (maps, *start_values)]
answer = batch_norm(maps, *start_values, training=True, momentum=0.9, epsilon=0.1)
assert agree(
    answer[0], layer(maps, training=True), "as Keras in training, with an epsilon of .1: it belongs under the root"
)
assert agree(answer[1], layer.moving_mean, "the running mean, as Keras, with momentum .9")
assert agree(answer[2], layer.moving_variance, "the running variance, as Keras, with momentum .9")
assert all(np.array_equal(*pair) for pair in zip(kept, (maps, *start_values))), (
    "the arrays that come in stay as they are"
)
### BEGIN HIDDEN TESTS
still = batch_norm(maps[:1], *start_values[:2], *answer[1:], training=False, momentum=0.9, epsilon=0.1)
assert agree(still[0], layer(maps[:1], training=False), "as Keras at test time, one image alone")
constant = batch_norm(np.full((2, 3, 3, 1), 5.0), np.ones(1), np.ones(1), np.zeros(1), np.ones(1), training=True)
assert agree(constant[0], np.ones((2, 3, 3, 1)), "a constant channel becomes beta, without a division by zero")
### END HIDDEN TESTS

# %% [markdown]
# ### A question about neighbours (2 points)
#
# The next cell sends one image through your `batch_norm` in three batches: with dark neighbours, with bright ones,
# and at test time. It draws the three outputs on one scale.

# %%
subject, dark = images[:1] / 255.0, np.zeros((7, image_size, image_size, 1))
running = [np.full(1, images.mean() / 255), np.full(1, (images / 255).var())]
batches = {"dark neighbours": np.concatenate([subject, dark]), "bright neighbours": np.concatenate([subject, dark + 1])}
outputs = {
    name: batch_norm(batch, np.ones(1), np.zeros(1), *running, training=True)[0][0] for name, batch in batches.items()
}
outputs["test time"] = batch_norm(subject, np.ones(1), np.zeros(1), *running, training=False)[0][0]
figure, axes = plt.subplots(1, 3, figsize=(7, 2.4))
for ax, (name, output) in zip(axes, outputs.items()):
    drawn = ax.imshow(output[..., 0], cmap="RdBu_r", vmin=-4, vmax=4)
    ax.set_title(name)
    ax.set_axis_off()
scale = figure.colorbar(drawn, ax=axes, label="output")

# %% [markdown]
# It is three times the same image. Why do the outputs differ, and why is that welcome in training and unwanted at
# test time? A colleague evaluates a network in training mode, on a test set that is sorted by class. What goes wrong?

# %% [markdown] question="neighbours" points=2
# ### BEGIN SOLUTION
# In training the mean and the variance are those of the batch, so every image is seen relative to its neighbours:
# beside dark images it comes out bright, beside bright ones dark. In training the neighbours change in each step, so
# the network sees each image in slightly different lights, which acts as a noise that regularises, and all gradients
# know about the normalisation. At test time an answer must not depend on which other images happen to be asked about;
# the running statistics are the same for all. In a test set sorted by class, a batch holds one class only. Its mean
# takes away what the images of the class have in common, which is just what the network needs to know.
# ### END SOLUTION

# %% [markdown]
# ## 5. Dropout (2 points)
#
# Write `dropout(x, p, training, random)`. In training, set each value of `x` to zero with probability `p`,
# independently of the others, and divide those that stay by 1 − p. At test time return `x` as it is. `random` is a
# NumPy generator: `random.random(x.shape)` gives numbers between 0 and 1. `x` is an array of any shape, and `p` lies
# in [0, 1).
#
# The check counts zeros, looks at what became of the others, and at the mean.


# %% gap="dropout" stub="return x with some values set to zero and the others scaled, or x itself at test time"
def dropout(x, p, training, random):
    ### BEGIN SOLUTION
    if not training:
        return x
    return np.where(random.random(x.shape) < p, 0, x / (1 - p))
    ### END SOLUTION


# %% check="dropout" points=2
ones = np.ones((400, 500))
dropped = dropout(ones, 0.2, training=True, random=np.random.default_rng(25))
share = np.mean(dropped == 0)
assert abs(share - 0.2) < 0.01, f"p = .2 of the values are dropped, here it is {share:.2f}: is p the share that stays?"
assert agree(np.unique(dropped), [0, 1.25], "what stays is divided by 1 − p = .8, so that the mean stays 1")
assert np.std(dropped.mean(axis=1)) < 0.1 and np.std(dropped.mean(axis=0)) < 0.1, "each value is dropped on its own"
assert np.all(ones == 1), "the array that comes in stays as it is"
assert agree(dropout(ones, 0.2, training=False, random=np.random.default_rng(25)), ones, "at test time nothing happens")
### BEGIN HIDDEN TESTS
x = np.random.default_rng(26).normal(size=(50, 40, 3))
assert agree(dropout(x, 0.0, training=True, random=np.random.default_rng(27)), x, "p = 0 drops nothing")
half = dropout(x, 0.5, training=True, random=np.random.default_rng(27))
assert np.allclose(half[half != 0], 2 * x[half != 0]) and 0.45 < np.mean(half == 0) < 0.55
again = dropout(x, 0.5, training=True, random=np.random.default_rng(28))
assert not np.array_equal(half == 0, again == 0), "another generator gives another mask"
same = dropout(x, 0.5, training=True, random=np.random.default_rng(27))
assert np.array_equal(half, same), "the same generator gives the same mask: draw from `random` alone"
### END HIDDEN TESTS

# %% [markdown]
# ## 6. Max-norm (2 points)
#
# Write `max_norm(w, c)`: the weights that lead to one unit are shortened to the length `c` if they are longer, and
# left alone if not.
#
# In: `w`, the kernel of a dense layer (inputs, units) or of a convolution (height, width, channels, filters): the
# units are the last axis in both. Out: an array of the same shape. The length is √(sum of squares) over all axes but
# the last. A unit whose weights are all 0 stays 0.
#
# The check works two dense units by hand, and a convolution, where Keras's default axis is wrong.


# %% gap="max-norm" stub="return the kernel with no unit longer than c"
def max_norm(w, c):
    ### BEGIN SOLUTION
    lengths = np.sqrt((w**2).sum(axis=tuple(range(w.ndim - 1)), keepdims=True))
    return w * (c / np.maximum(lengths, c))
    ### END SOLUTION


# %% check="max-norm" points=2
two_units = np.array([[3.0, 0.3], [4.0, 0.4]])  # lengths 5 and .5
assert agree(
    max_norm(two_units, 2), [[1.2, 0.3], [1.6, 0.4]], "the first unit's length falls from 5 to 2, the second stays"
)
filters = np.ones((3, 3, 4, 2)) * np.array([1.0, 0.1])  # lengths 6 and .6
projected = max_norm(filters, 3)
lengths = np.sqrt((projected**2).sum(axis=(0, 1, 2)))
assert agree(lengths, [3, 0.6], "a filter's length is taken over height, width and channels together")
assert np.isfinite(max_norm(np.zeros((3, 2)), 1)).all(), "weights that are all 0 have length 0: mind the division"
### BEGIN HIDDEN TESTS
kernel = np.random.default_rng(29).normal(size=(5, 5, 3, 8))
assert agree(max_norm(kernel, 4), keras.constraints.MaxNorm(4, axis=(0, 1, 2))(kernel.astype("float32")), "as Keras")
assert agree(max_norm(kernel, 1e3), kernel, "nothing is longer than 1,000, so nothing changes")
assert agree(np.sqrt((max_norm(kernel, 4) ** 2).sum(axis=(0, 1, 2))), np.full(8, 4.0), "all filters end on the ball")
### END HIDDEN TESTS

# %%
kernel = np.random.default_rng(seed).normal(0, np.linspace(0.05, 1.5, 24), (3, 3, 8, 24))
default = np.asarray(keras.constraints.MaxNorm(2)(kernel))
norms = {
    name: np.sqrt((w**2).sum(axis=(0, 1, 2)))
    for name, w in {"before": kernel, "yours, c = 2": max_norm(kernel, 2), "Keras, axis 0": default}.items()
}
figure, ax = plt.subplots(figsize=(8, 2.8))
plots.curves(norms, range(24), "filter", "length", {"c": 2}, ax=ax)

# %% [markdown]
# ## 7. The loop (3 points)
#
# Write `descend(parameters, gradients_of, x, y, rate, momentum, epochs, batch_size, seed)`, mini-batch gradient
# descent with momentum.
#
# - `parameters`: a list of arrays, the beginning. They stay as they are; work on copies.
# - `gradients_of(parameters, x, y)` gives the loss on a batch and a list of gradients, one for each parameter.
# - `x`, `y`: all images and labels, arrays of the same length N.
# - In every epoch, visit the images in a new random order, drawn from one generator `np.random.default_rng(seed)`, in
#   batches of `batch_size`; what is left over at the end of an epoch is left out. Image and label must stay together.
# - In every step, for each parameter: v ← momentum · v − rate · gradient, then parameter ← parameter + v; v starts at
#   0.
# - Out: a pair of the list of new parameters and the list of losses, one for each step, each taken before its update.
#
# The check works two steps by hand, listens to which images your loop visits, and then lets it learn 100 images by
# heart.


# %% gap="descend" stub="return the trained parameters and the loss of every step"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    ### BEGIN SOLUTION
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order = random.permutation(len(x))
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, gradients = gradients_of(parameters, x[batch], y[batch])
            losses.append(loss)
            velocities = [momentum * v - rate * gradient for v, gradient in zip(velocities, gradients)]
            parameters = [parameter + v for parameter, v in zip(parameters, velocities)]
    return parameters, losses
    ### END SOLUTION


# %% check="descend" points=1
def bowl(parameters, x, y):
    """The loss w^2 / 2, whose gradient is w."""
    return float((parameters[0] ** 2).sum() / 2), [parameters[0].copy()]


beginning = [np.array([1.0, -2.0])]
answer = descend(beginning, bowl, np.zeros(4), np.zeros(4), rate=0.1, momentum=0.5, epochs=2, batch_size=4)
assert answer is not None and len(answer) == 2, "a pair: the parameters and the losses"
hint = "w = 1: v = −.1, w = .9; then v = .5 · (−.1) − .1 · .9 = −.14, w = .76"
assert agree(answer[0][0], [0.76, -1.52], hint)
assert agree(answer[1], [2.5, 2.025], "the losses before the first and before the second step")
assert agree(beginning[0], [1.0, -2.0], "the parameters that come in stay as they are: work on copies")

# %%
visited = []


def listen(parameters, x, y):
    """Stands for a network, and notes which images and labels it is shown."""
    visited.append((np.array(x), np.array(y)))
    return 0.0, [np.zeros(1)]


# %% check="descend" points=1
visited.clear()
descend([np.zeros(1)], listen, np.arange(11), 10 * np.arange(11), epochs=3, batch_size=5, seed=30)
assert len(visited) == 6, f"11 images in batches of 5 are 2 steps an epoch, so 6 in 3 epochs, not {len(visited)}"
assert all(len(batch) == 5 for batch, _ in visited), "every batch has batch_size images"
assert all(np.array_equal(10 * batch, its_labels) for batch, its_labels in visited), (
    "image and label must stay together"
)
orders = [np.concatenate([visited[2 * epoch][0], visited[2 * epoch + 1][0]]) for epoch in range(3)]
assert all(len(set(order.tolist())) == 10 for order in orders), "within an epoch no image comes twice"
assert not np.array_equal(orders[0], np.sort(orders[0])), "the images come in a random order"
assert not np.array_equal(orders[0], orders[1]), "each epoch has an order of its own"
### BEGIN HIDDEN TESTS
heard = visited.copy()
visited.clear()
descend([np.zeros(1)], listen, np.arange(11), 10 * np.arange(11), epochs=3, batch_size=5, seed=30)
assert all(np.array_equal(a[0], b[0]) for a, b in zip(heard, visited)), "the same seed gives the same order"
visited.clear()
descend([np.zeros(1)], listen, np.arange(11), 10 * np.arange(11), epochs=3, batch_size=5, seed=31)
assert any(not np.array_equal(a[0], b[0]) for a, b in zip(heard, visited)), "another seed gives another order"
two = [np.ones(2), np.full((3, 1), 2.0)]
moved, _ = descend(two, lambda p, x, y: (0.0, [p[0], 3 * p[1]]), np.zeros(2), np.zeros(2), 0.1, 0.0, 1, 2)
assert agree(moved[0], np.full(2, 0.9), "each parameter by its own gradient") and agree(
    moved[1], np.full((3, 1), 1.4), ""
)
### END HIDDEN TESTS

# %% [markdown]
# A network for your loop: two dense layers with a ReLU between. Its loss and the first gradient on the way back are
# your `cross_entropy`; the rest is the chain rule.


# %%
def two_layers(parameters, x, y):
    """Loss and gradients of logits = relu(x A + a) B + b; x (N, D)."""
    A, a, B, b = parameters
    hidden = np.maximum(x @ A + a, 0)  # (N, units)
    loss, at_logits = cross_entropy(hidden @ B + b, y)
    at_hidden = (at_logits @ B.T) * (hidden > 0)
    return loss, [x.T @ at_hidden, at_hidden.sum(axis=0), hidden.T @ at_logits, at_logits.sum(axis=0)]


def he(inputs, units=64, seed=31):
    """Weights of two layers, of He's size below and small on top; biases 0."""
    random = np.random.default_rng(seed)
    below, top = random.normal(0, np.sqrt(2 / inputs), (inputs, units)), random.normal(0, 0.01, (units, 10))
    return [below, np.zeros(units), top, np.zeros(10)]


digits, numbers = data.arrays("digits", "train", 8, 1, per_class=100, seed=seed)
hundred = transfer.draw(numbers, 10, 0)
x, y = digits[hundred].reshape(100, -1) / 255.0, numbers[hundred]

# %% check="descend" points=1
weights, losses = descend(he(x.shape[1]), two_layers, x, y, rate=0.05, momentum=0.9, epochs=60, batch_size=20, seed=32)
first = losses[0]
assert abs(first - np.log(10)) < 0.1, f"the first loss of small logits is log C, yours is {first:.3f}"
hidden = np.maximum(x @ weights[0] + weights[1], 0)
by_heart = np.mean((hidden @ weights[2] + weights[3]).argmax(axis=1) == y)
assert by_heart == 1, f"after 60 epochs your loop knows {by_heart:.0%} of 100 images; it must know them all"
assert np.mean(losses[-5:]) < 0.05, f"the loss must go to 0, it is {np.mean(losses[-5:]):.3f}"

# %% [markdown]
# ### A question about rates (2 points)
#
# Your loop with four rates. Each curve is the loss of 100 images, averaged over an epoch.

# %%
courses = {}
for rate in (0.0002, 0.005, 0.1, 3.0):
    with np.errstate(all="ignore"):  # a rate that is too high may overflow; the picture shows it
        losses_ = descend(he(x.shape[1]), two_layers, x, y, rate=rate, epochs=40, batch_size=20)[1]
    courses[f"rate {rate:g}"] = np.minimum(np.nan_to_num(losses_, nan=10), 10).reshape(40, -1).mean(axis=1)
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.curves(courses, ylabel="loss", baselines={"log 10": np.log(10)}, ax=ax)

# %% [markdown]
# What does each curve say about its rate, and which one would you take? What would you try next, and in which steps?

# %% [markdown] question="rates" points=2
# ### BEGIN SOLUTION
# At .0002 the loss falls in an almost straight, slow line: the rate is far too low. After 40 epochs it is still 2.23,
# although more than half of the images are right already: that a rate is too low, the loss tells sooner than the
# accuracy. At .005 it falls steadily and has not arrived. At .1 it falls within a few epochs and goes to 0: this is
# the one to take. At 3 it is at once larger than log 10, jumps and ends at or above it, where the outputs no longer
# depend on the image: the steps are far too long. Next I would search between .01 and 1 in factors of two or three,
# since the right size was bracketed in factors of twenty to thirty, and then let the rate fall towards the end.
# ### END SOLUTION

# %% [markdown]
# ## 8. A network for images it has not seen (4 points)
#
# Now with Keras. Write `train_network()`: build a small convolutional network, train it on `images` and `labels`,
# watch it on `validation_images` and `validation_labels`, and return the trained model and its history (a dict of
# lists, one value for each epoch).
#
# - The model takes the images as they are, (N, image_size, image_size, 1) with values from 0 to 255: put
#   `layers.Rescaling(1 / 255)` first.
# - It gives one number for each class (logits or probabilities).
# - It has at most `largest` parameters.
# - `training.compile_classifier(model, optimizer)` compiles a model that gives logits. `training.fit(model, (images,
#   labels), epochs, batch_size=..., seed=seed, validation_data=(...), callbacks=[...])` trains it and returns a
#   `History`, whose attribute `.history` is the dict to return; use at most `epochs` epochs.
# - Two convolutions with pooling, one of the regularisers of this topic, and a rate that falls
#   (`keras.optimizers.schedules.CosineDecay`, or `keras.callbacks.ReduceLROnPlateau`) are enough.
#
# The check takes the test images, of which it shows you nothing before, and expects the share `floor` of them to be
# right.


# %% gap="network" stub="build, compile and fit a small network; return it and its history"
def train_network():
    ### BEGIN SOLUTION
    stack = [keras.Input((image_size, image_size, 1)), layers.Rescaling(1 / 255)]
    for filters in (16, 32):
        stack.append(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        stack += [layers.BatchNormalization(momentum=0.9), layers.ReLU(), layers.MaxPooling2D()]
    stack += [layers.Flatten(), layers.Dropout(0.3, seed=seed), layers.Dense(len(classes))]
    model = keras.Sequential(stack)
    batch = min(50, len(images))
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * (len(images) // batch))
    training.compile_classifier(model, keras.optimizers.Adam(rate))
    validation = (validation_images, validation_labels)
    options = {"batch_size": batch, "seed": seed, "validation_data": validation}
    history = training.fit(model, (images, labels), epochs, **options).history
    return model, history
    ### END SOLUTION


# %% check="network" points=3
model, history = train_network()
parameters = model.count_params()
assert parameters <= largest, (
    f"{parameters:,} parameters, at most {largest:,}: fewer filters, or more pooling before the dense layer"
)
test_images, test_labels = data.arrays(dataset, "test", image_size, 1, on_error=on_error)
answers = transfer.predict(model, test_images)
assert answers.shape == (len(test_labels), len(classes)), f"one number for each class, got the shape {answers.shape}"
predictions = answers.argmax(axis=1)
accuracy = float(np.mean(predictions == test_labels))
assert reaches(accuracy, floor, judged), f"{accuracy:.1%} of the test images are right, the floor is {floor:.1%}"

# %% check="network" points=1
assert isinstance(history, dict), f"the second value is a dict, fit(...).history; got {type(history).__name__}"
for name in ("loss", "val_loss"):
    assert name in history, f"the history holds {name} for each epoch: did you give validation_data?"
    assert 1 <= len(history[name]) <= epochs, f"at most {epochs} epochs, got {len(history[name])}"
assert history["loss"][-1] < history["loss"][0], "the training loss fell"
### BEGIN HIDDEN TESTS
evaluated = transfer.predict(model, validation_images).argmax(axis=1)
assert reaches(np.mean(evaluated == validation_labels), floor - 0.1, judged)
assert np.array_equal(transfer.predict(model, test_images[:64]), transfer.predict(model, test_images[:64])), (
    "no chance at test time"
)
### END HIDDEN TESTS

# %%
chance = float(np.bincount(test_labels).max() / len(test_labels))
drawn = {name: history[name] for name in ("loss", "val_loss", "accuracy", "val_accuracy") if name in history}
plots.history(drawn, baselines={"accuracy": {"chance": chance}})

# %% tags=["thumbnail"]
confused = np.zeros((len(classes), len(classes)), int)
np.add.at(confused, (test_labels, predictions), 1)
plots.confusion_matrix(confused, classes=classes, title=f"{accuracy:.1%} of {len(test_labels):,} test images right")

# %%
wrong = np.flatnonzero(predictions != test_labels)[:8]
if len(wrong):
    plots.show_images(test_images[wrong], test_labels[wrong], predictions[wrong], classes=classes, columns=4, tile=2)
record(test_accuracy=accuracy, first_loss=first, last_loss=np.mean(losses[-5:]), parameters=parameters)

# %% [markdown]
# ## Summary
#
# You can now
#
# - pool, and send gradients back to the winners, overlapping windows and ties included;
# - compute a stable cross-entropy with its gradient, and prove it with numeric differences;
# - normalise a batch in training and at test time, drop units without changing the mean, and project weights per
#   unit;
# - write the loop around them, and trust it because it learns 100 images by heart;
# - train a small network with validation and judge it once, on images that had no part in it.
#
# ## Exercises
#
# 1. (easy) Write `average_pool_backward`. Which of the checks of step 2 still hold for it? *Hint: each pixel of a
#    window gets 1/f².*
# 2. (easy) Leave the ReLU out of `two_layers`. Does the network still learn the 100 images? Why? *Hint: 100 points in
#    64 dimensions.*
# 3. (medium) Write the backward pass of your batch normalisation, and check it numerically. *Hint: the mean and the
#    variance depend on every value of the batch.*
# 4. (medium) Add your `dropout` and `max_norm` to the loop and train on all images. Do they gain over five seeds, or
#    do the seeds differ by more? *Hint: the lecture says in which setting to look.*
# 5. (hard) Reach the floor with less than 2,000 parameters. *Hint: global average pooling, and more steps.*
#
# ## Further reading
#
# - S. Ioffe and C. Szegedy, *Batch normalization: accelerating deep network training by reducing internal covariate
#   shift*, ICML 2015.
# - N. Srivastava et al., *Dropout: a simple way to prevent neural networks from overfitting*, JMLR 15, 2014.
# - H. Xiao, K. Rasul and R. Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning
#   algorithms*, 2017.
