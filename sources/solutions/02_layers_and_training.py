# %% [markdown]
# # 02 Layers and training: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/02_layers_and_training.ipynb)
#
# **What does `fit` do that you could not write yourself?** Nothing. In this lab you write the parts of a training
# run: pooling and its backward pass, softmax with cross-entropy, batch normalisation and its backward pass, dropout,
# and the loop around them. The loop has to learn a hundred handwritten digits by heart. After that Keras takes over.
# You train a small network on digits that stand anywhere in the image, where a linear classifier fails.
#
# You will be able to
#
# - send numbers forwards and gradients backwards through the layers that networks are made of;
# - check a gradient, and a training loop, before trusting either;
# - say what batch normalisation and dropout do in training and what they do at test time;
# - train a small network with validation, and judge it on images that had no part in it.
#
# It takes about two and a half hours to solve. There are eight gaps and two questions, 27 points. Use NumPy in the first seven
# gaps. The lab runs in a minute.

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
seed: int = 0  # [0, ] initial weights and the order of the images
dataset: str = "digits"  # a data set's name, or a folder with a subfolder per class
image_size: int = 8  # [8, 64] height and width that the images are brought to
canvas: int = 16  # [8, 96] height and width of the ground on which they move
per_class: int = 100  # [10, 6000] training images of each class
places: int = 3  # [1, 20] places at which each training image stands
epochs: int = 12  # [1, 200] most passes over them
largest: int = 60_000  # [1000, ] parameters that your network may have
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
floor: float = 0.85  # [0, 1] share of the validation images that must be right

# %%
from functools import partial

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops

from utils import checks, data, introspection, plots, training, transfer
from utils.checks import parts
from utils.results import reaches, record
from utils.session import start

start(seed)

# %%
classes = data.chosen(dataset, on_error=on_error).classes
judged = dataset in ("digits", "fashion_mnist")  # the floor was measured on these
of_data = {"image_size": image_size, "channels": 1, "on_error": on_error}
still, still_labels = data.arrays(
    dataset,
    "train",
    per_class=per_class,
    seed=seed,
    **of_data,
)
shown = transfer.draw(still_labels, 2, seed)
plots.show_images(
    still[shown],
    still_labels[shown],
    classes=classes,
    columns=10,
    tile=0.8,
)

# %% [markdown]
# The checks use two helpers of `utils.checks`. The first, `agree`, compares shapes, then values, and says where the
# first difference lies. The second, `parts`, looks whether an answer has all its parts.

# %%
agree = partial(checks.agree, atol=1e-5)


# %%
def leaf_layers(model):
    """The layers of a model, those of nested models too."""
    if not hasattr(model, "layers"):
        return [model]
    return [leaf for layer in model.layers for leaf in leaf_layers(layer)]


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
        output[row, column] = x[row * s : row * s + f, column * s : column * s + f].max(
            axis=(0, 1),
        )
    return output
    ### END SOLUTION


# %% check="pool" points=1
four = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])[..., None]
five = [[2, 4, 8, 3, 6], [9, 3, 4, 2, 5], [5, 4, 6, 3, 1], [2, 3, 1, 3, 4]]
five = np.array([*five, [2, 7, 4, 5, 7]])[..., None]
answers = [
    (four, 2, 2, [[6, 8], [3, 4]], "the top left window holds 1, 1, 5, 6"),
    (five, 3, 2, [[9, 8], [7, 7]], "windows of 3, 2 apart, share a row and a column"),
    (five, 3, 1, [[9, 8, 8], [9, 6, 6], [7, 7, 7]], "stride 1: 3 × 3 windows"),
    (five, 2, 2, [[9, 8], [5, 6]], "row and column 5 fit no window of 2 at stride 2"),
]
for x, f, s, expected, hint in answers:
    expected = np.array(expected)[..., None]
    assert agree(max_pool(x, f, s), expected, f"f = {f}, s = {s}: {hint}")
print("passed: the matrices of the lecture, overlapping windows among them")

# %% check="pool" points=1
two = np.concatenate([four, -four], axis=-1)
hint = "each channel has its own maximum; the largest of negative numbers is negative"
assert agree(max_pool(two, 2, 2), [[[6, -1], [8, -2]], [[3, -1], [4, 0]]], hint)
hint = "7 rows give 3 windows of 3 at stride 2, 4 columns give 1"
assert agree(max_pool(np.zeros((7, 4, 1)), 3, 2), np.zeros((3, 1, 1)), hint)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(21)
for shape, f, s in [
    ((9, 6, 2), 3, 3),
    ((8, 8, 3), 2, 1),
    ((6, 11, 1), 4, 2),
    ((5, 5, 4), 5, 1),
]:
    x = random.normal(size=shape).astype("float32")
    expected = ops.convert_to_numpy(ops.max_pool(x[None], f, s))[0]
    assert agree(max_pool(x, f, s), expected, f"input {shape}, f {f}, s {s}")
### END HIDDEN TESTS
print("passed: two channels, negative numbers, images that are not square")

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
expected = np.zeros((5, 5, 1))
for place, value in {(0, 2): 4, (1, 0): 2, (2, 2): 6, (4, 1): 8, (4, 4): 1}.items():
    expected[place] = value
hint = "the 8 wins two windows and gets 3 + 1: where windows overlap, gradients add up"
assert agree(max_pool_backward(five, above, 3, 1), expected, hint)
tied, from_above = np.full((2, 4, 1), 3.0), np.array([[5, 7]])[..., None]
expected = np.array([[5, 0, 7, 0], [0, 0, 0, 0]])[..., None]
hint = "all four values of a window are equal: the first one gets everything"
assert agree(max_pool_backward(tied, from_above, 2, 2), expected, hint)
corner, arriving = np.array([[1.0, 3.0], [3.0, 0.0]])[..., None], np.array([[[5.0]]])
expected = np.array([[0, 5], [0, 0]])[..., None]
hint = "two 3s: the first one in reading order, row by row, gets everything"
assert agree(max_pool_backward(corner, arriving, 2, 2), expected, hint)
print("passed: the example of the lecture, and ties")

# %% check="pool-backward" points=1
random = np.random.default_rng(22)
x, above = random.normal(size=(7, 5, 2)), random.normal(size=(3, 2, 2))
weights = above[None].astype("float32")
by_keras = introspection.gradients(
    lambda t: ops.sum(ops.max_pool(t, 3, 2) * weights, axis=(1, 2, 3)),
    x[None],
)
hint = "7 × 5 with two channels, windows of 3 at stride 2, as Keras has it"
assert agree(max_pool_backward(x, above, 3, 2), by_keras[0], hint)
### BEGIN HIDDEN TESTS
x, above = random.normal(size=(6, 9, 3)), random.normal(size=(2, 3, 3))
answer = np.asarray(max_pool_backward(x, above, 3, 3))
hint = "what comes in goes out, channel by channel"
assert agree(answer.sum(axis=(0, 1)), above.sum(axis=(0, 1)), hint)
winners = int((answer != 0).sum())
assert winners == 18, f"18 windows without overlap have 18 winners, got {winners}"
steep = (np.asarray(max_pool(x + 1e-6 * answer, 3, 3)) - max_pool(x, 3, 3)) / 1e-6
hint = "a nudge along the gradient moves each maximum by what came from above"
assert agree(steep, above, hint)
### END HIDDEN TESTS
print("passed: the same gradient as Keras's, with two channels and a stride")

# %% [markdown]
# Your two functions on the first image: what pooling keeps of it, and which pixels get a gradient. In the black corners
# all four values of a window are 0, and the first one gets the gradient.

# %%
digit = still[0] / 255.0
kept = np.asarray(max_pool(digit, 2, 2))
winners = np.asarray(max_pool_backward(digit, np.ones_like(kept), 2, 2))
pictures = [digit, kept, winners]
plots.show_images(
    pictures,
    titles=["image", "pooled", "gets a gradient"],
    columns=3,
    tile=1.8,
)

# %% [markdown]
# ## 3. Softmax and cross-entropy (3 points)
#
# Write `cross_entropy(logits, labels)`. In: `logits`, an array (N, C); `labels`, N ints. Out: a pair of the loss, the
# mean over the N images of −log p of the true class, where p is the softmax of the logits, and its gradient with
# respect to the logits, an array (N, C).
#
# The lecture says what the gradient of one image is. What becomes of it when the loss is a mean? Logits of a thousand
# must not overflow: subtract the largest logit of each row first, and take the logarithm of the sum, not of p. Leave
# the array `logits` as it is.
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
names = "the loss", "the gradient"
loss, _ = parts(cross_entropy(np.zeros((4, 10)), np.array([0, 3, 9, 3])), *names)
assert agree(loss, np.log(10), "ten equal logits: the loss is log 10 = 2.303")
random = np.random.default_rng(23)
logits, truth = random.normal(size=(5, 4)), np.array([1, 0, 3, 3, 2])
kept = logits.copy()
_, gradient = cross_entropy(logits, truth)
assert agree(logits, kept, "your function changed the logits that came in: copy them")
numeric = np.zeros_like(logits)
for place in np.ndindex(*logits.shape):
    nudge = np.zeros_like(logits)
    nudge[place] = 1e-5
    after, before = (cross_entropy(logits + n, truth)[0] for n in (nudge, -nudge))
    numeric[place] = (after - before) / 2e-5
hint = "compared with the numeric gradient of your own loss"
mistakes = [
    (f"{hint}: it is 5 times too large. Divide by the 5 images", 5 * numeric),
    (f"{hint}: its sign is turned", -numeric),
]
assert agree(gradient, numeric, hint, mistakes)
print("passed: log C for equal logits, and a gradient that fits your loss")

# %% check="cross-entropy" points=1
hint = "take the largest logit of the row off first, and the log of the sum"
large = np.array([[1000.0, 0.0], [0.0, 1000.0]])
loss, gradient = parts(cross_entropy(large, np.array([0, 0])), *names)
assert np.isfinite(loss), f"logits of 1,000: got the loss {loss}. {hint}"
message = f"logits of 1,000: got the gradient {gradient}. {hint}"
assert np.isfinite(gradient).all(), message
assert agree(loss, 500, "one image costs 0, the other 1,000: 500 on average")
uneven = np.array([[0.0, 0.0], [1000.0, 1000.0]])
loss, gradient = cross_entropy(uneven, np.array([0, 1]))
hint = "rows of 0 and of 1,000 side by side: each row has a largest logit of its own"
assert agree(loss, np.log(2), hint)
assert agree(gradient, [[-0.25, 0.25], [0.25, -0.25]], hint)
### BEGIN HIDDEN TESTS
logits, truth = random.normal(0, 3, (7, 6)), random.integers(0, 6, 7)
loss, gradient = cross_entropy(logits, truth)
by_keras = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
expected = float(by_keras(truth, logits.astype("float32")))
assert agree(loss, expected, "seven random images of six classes, as Keras has it")
sums = np.sum(gradient, axis=1)
assert agree(sums, np.zeros(7), "the gradient of each image sums up to 0")
twice = cross_entropy(np.tile(logits, (2, 1)), np.tile(truth, 2))[0]
assert agree(twice, loss, "twice the same images: the same mean")
### END HIDDEN TESTS
print("passed: large logits, and rows of different size")

# %% [markdown]
# ## 4. Batch normalisation (3 points)
#
# Write `batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3)`.
#
# In: `x`, a batch of maps (N, H, W, C); `gamma`, `beta` and the running `mean` and `variance`, arrays (C,). Out:
# three arrays, the output (N, H, W, C) and the new running mean and variance (C,).
#
# Each channel becomes (x − mean) / √(variance + epsilon), times gamma, plus beta. In training, mean and variance are those
# of the channel over the batch *and* over all places (N, H and W; `np.var` is right). The running values move then: new =
# momentum · old + (1 − momentum) · batch. At test time, mean and variance are the running values, which do not change.
# Leave the arrays that come in as they are.
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
    return (
        gamma * (x - used_mean) / np.sqrt(used_variance + epsilon) + beta,
        mean,
        variance,
    )
    ### END SOLUTION


# %% check="batch-norm" points=2
random = np.random.default_rng(24)
maps = random.normal([3.0, -1.0], [2.0, 0.5], (6, 4, 4, 2))  # (6, 4, 4, 2)
unit, zero, one = np.ones(2), np.zeros(2), np.ones(2)
names = "the output", "the running mean", "the running variance"
answer = batch_norm(maps, unit, 0 * unit, zero, one, training=True, epsilon=0)
output, mean, variance = map(np.asarray, parts(answer, *names))
hint = "the output has the shape of x"
assert output.shape == maps.shape, f"{hint}, {maps.shape}; got {output.shape}"
hint = "over images, rows and columns, each channel has"
assert agree(output.mean(axis=(0, 1, 2)), [0, 0], f"{hint} mean 0")
assert agree(output.var(axis=(0, 1, 2)), [1, 1], f"{hint} variance 1")
moved = 0.01 * maps.mean(axis=(0, 1, 2)), 0.99 + 0.01 * maps.var(axis=(0, 1, 2))
hint = "moves by a hundredth of its distance to that of the batch"
assert agree(mean, moved[0], f"the running mean, from 0, {hint}")
assert agree(variance, moved[1], f"the running variance, from 1, {hint}")
answer = batch_norm(maps, 2 * unit, unit, unit, 4 * unit, training=False, epsilon=0)
output, mean, variance = parts(answer, *names)
assert agree(output, (maps - 1) + 1, "test time: (x − 1) / √4 · 2 + 1, for any batch")
assert agree([mean, variance], [unit, 4 * unit], "test time: the running values stay")
print("passed: means, variances, and both modes")

# %% check="batch-norm" points=1
layer = layers.BatchNormalization(momentum=0.9, epsilon=0.1)
layer.build(maps.shape)
start_values = [[1.5, 0.5], [0.2, -0.3], [1.0, 2.0], [3.0, 0.2]]
start_values = [np.array(values) for values in start_values]
layer.set_weights(start_values)
kept = [value.copy() for value in (maps, *start_values)]
answer = batch_norm(maps, *start_values, training=True, momentum=0.9, epsilon=0.1)
output, mean, variance = parts(answer, *names)
hint = "as Keras in training, with an epsilon of .1, which belongs under the root"
assert agree(output, layer(maps, training=True), hint)
assert agree(mean, layer.moving_mean, "the running mean, with momentum .9")
assert agree(variance, layer.moving_variance, "the running variance, momentum .9")
for before, after in zip(kept, (maps, *start_values)):
    assert agree(after, before, "your function changed an array that came in")
### BEGIN HIDDEN TESTS
given = maps[:1], *start_values[:2], *answer[1:]
still_ = batch_norm(*given, training=False, momentum=0.9, epsilon=0.1)
hint = "as Keras at test time, one image alone"
assert agree(still_[0], layer(maps[:1], training=False), hint)
given = np.ones(1), np.ones(1), np.zeros(1), np.ones(1)
constant = batch_norm(np.full((2, 3, 3, 1), 5.0), *given, training=True)
hint = "a constant channel becomes beta: no division by zero"
assert agree(constant[0], np.ones((2, 3, 3, 1)), hint)
### END HIDDEN TESTS
print("passed: the numbers of Keras's layer")

# %% [markdown]
# ### A question about neighbours (2 points)
#
# The next cell sends one image through your `batch_norm` in three batches: with dark neighbours, with bright ones,
# and at test time. It draws the three outputs on one scale.

# %%
subject, dark = still[:1] / 255.0, np.zeros((7, image_size, image_size, 1))
unit, zero = np.ones(1), np.zeros(1)
running = [np.full(1, still.mean() / 255), np.full(1, (still / 255).var())]
batches = {
    "dark neighbours": (np.concatenate([subject, dark]), True),
    "bright neighbours": (np.concatenate([subject, dark + 1]), True),
    "test time": (subject, False),
}
figure, axes = plt.subplots(1, 3, figsize=(7, 2.4))
for ax, (name, (batch, mode)) in zip(axes, batches.items()):
    output = np.asarray(batch_norm(batch, unit, zero, *running, training=mode)[0])[0]
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
# the network sees each image slightly changed. This works like noise, and noise regularises. At test time the answer for
# an image must not depend on the other images of the batch; the running statistics are the same for all. In a test set
# sorted by class, a batch holds one class only. Its mean removes what the images of the class have in common, and this
# is what the network needs.
# ### END SOLUTION

# %% [markdown]
# ## 5. Back through the batch norm (3 points)
#
# Write `batch_norm_backward(x, above, gamma, epsilon=1e-3)`. `above` (N, H, W, C) is the gradient of the loss with
# respect to the output of your `batch_norm` in training. Return three arrays: the gradients with respect to `x` (N, H,
# W, C), `gamma` (C,) and `beta` (C,).
#
# You will find no formula in this course: work it out.
#
# - Begin with `beta` and `gamma`. Which outputs does each of them touch, and how strongly?
# - One value of `x` acts on the loss in three ways. It moves its own output. It moves the mean of its channel, and so
#   all outputs of the channel. It moves the variance, and so all outputs again.
# - Two properties help you to find mistakes. If you add the same number to all values of a channel, no output changes.
#   So the gradient sums up to 0 over the channel. And if epsilon is 0 and you double all distances to the mean, no
#   output changes either. What does that say about the gradient?
#
# The check compares with numeric gradients of your own `batch_norm`, and looks at the two properties.


# %% gap="batch-norm-backward" stub="return the gradients with respect to x, gamma and beta"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    ### BEGIN SOLUTION
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed = (x - x.mean(axis=axes)) / root
    for_gamma, for_beta = (above * normed).sum(axis=axes), above.sum(axis=axes)
    arriving = above * gamma  # the gradient with respect to the normalised values
    by_mean = arriving.mean(axis=axes)
    by_variance = normed * (arriving * normed).mean(axis=axes)
    return (arriving - by_mean - by_variance) / root, for_gamma, for_beta
    ### END SOLUTION


# %%
def numeric_gradient(loss, values, step=1e-5):
    """The gradient of a function of one array, by differences to both sides."""
    gradient = np.zeros(values.shape)
    for place in np.ndindex(*values.shape):
        nudge = np.zeros(values.shape)
        nudge[place] = step
        gradient[place] = (loss(values + nudge) - loss(values - nudge)) / (2 * step)
    return gradient


def loss_behind(x, gamma, beta, above, epsilon):
    """A loss; its gradient for the output of your batch_norm is `above`."""
    start = np.zeros(len(gamma)), np.ones(len(gamma))
    output = batch_norm(x, gamma, beta, *start, training=True, epsilon=epsilon)[0]
    return np.sum(above * np.asarray(output))


# %% check="batch-norm-backward" points=1
random = np.random.default_rng(34)
x, above = random.normal(2, 3, (3, 2, 2, 2)), random.normal(size=(3, 2, 2, 2))
gamma, beta, epsilon = np.array([1.5, -0.5]), np.array([0.2, 0.3]), 0.1
names = "for x", "for gamma", "for beta"
answer = parts(batch_norm_backward(x, above, gamma, epsilon), *names)
expected = numeric_gradient(lambda g: loss_behind(x, g, beta, above, epsilon), gamma)
hint = "gamma multiplies the normalised values; compared with differences"
assert agree(answer[1], expected, hint)
expected = numeric_gradient(lambda b: loss_behind(x, gamma, b, above, epsilon), beta)
hint = "beta is added to every output of its channel; compared with differences"
assert agree(answer[2], expected, hint)
print("passed: gamma and beta")


# %%
def known_mistakes(x, above, gamma, epsilon):
    """What comes out if a way is forgotten, for the check's messages."""
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed, direct = (x - x.mean(axis=axes)) / root, above * gamma
    by_mean = direct.mean(axis=axes)
    by_variance = normed * (direct * normed).mean(axis=axes)
    return [
        ("mean and variance move with x: both ways are missing", direct / root),
        ("the variance moves with x: its way is missing", (direct - by_mean) / root),
        ("the mean moves with x: its way is missing", (direct - by_variance) / root),
        ("gamma is missing", (direct - by_mean - by_variance) / root / gamma),
    ]


# %% check="batch-norm-backward" points=2
answer = parts(batch_norm_backward(x, above, gamma, epsilon), *names)
expected = numeric_gradient(lambda x: loss_behind(x, gamma, beta, above, epsilon), x)
mistakes = known_mistakes(x, above, gamma, epsilon)
hint = "compared with numeric differences of your batch_norm"
assert agree(answer[0], expected, hint, mistakes)
sums = np.sum(answer[0], axis=(0, 1, 2))
assert agree(sums, [0, 0], "the gradient sums up to 0 over each channel")
### BEGIN HIDDEN TESTS
x, above = random.normal(1, 2, (4, 3, 5, 3)), random.normal(size=(4, 3, 5, 3))
gamma = random.normal(size=3)
kept = x.copy(), above.copy(), gamma.copy()
exact = np.asarray(batch_norm_backward(x, above, gamma, 0.0)[0])
normed = (x - x.mean(axis=(0, 1, 2))) / x.std(axis=(0, 1, 2))
sums = (exact * normed).sum(axis=(0, 1, 2))
assert agree(sums, np.zeros(3), "epsilon 0: stretching x changes nothing")
answer = batch_norm_backward(x, above, gamma)
expected = numeric_gradient(lambda x: loss_behind(x, gamma, gamma, above, 1e-3), x)
hint = "4 × 3 × 5 × 3 values and the usual epsilon, compared with differences"
assert agree(answer[0], expected, hint)
for before, after in zip(kept, (x, above, gamma)):
    assert agree(after, before, "your function changed an array that came in")
### END HIDDEN TESTS
print("passed: the gradient of x, by all three ways")

# %% [markdown]
# Your gradient on one channel of ten values. Suppose that the loss asks for a larger output of one value, drawn in
# orange. Each bar shows by how much a step of gradient descent moves a value.

# %%
line = np.sort(np.random.default_rng(seed + 35).normal(0, 1, 10))
asked = np.where(np.arange(10) == 6, -1.0, 0.0)
column = (10, 1, 1, 1)
moves = batch_norm_backward(line.reshape(column), asked.reshape(column), np.ones(1))[0]
moves = -np.asarray(moves).ravel()
figure, ax = plt.subplots(figsize=(8, 2.4))
colours = [plots.ORANGE if value else plots.BLUE for value in asked]
ax.bar(range(10), moves, color=colours)
ax.axhline(0, color=plots.BLACK, linewidth=0.8)
ax.set_xticks(range(10), [f"{value:.2f}" for value in line])
ax.set(xlabel="the ten values of x", ylabel="step", title="The others move against it")

# %% [markdown]
# ## 6. Dropout (2 points)
#
# Write `dropout(x, p, training, random)`. In training, set each value of `x` to zero with probability `p`,
# independently of the others, and divide those that stay by 1 − p. At test time return `x` as it is. `random` is a
# NumPy generator: `random.random(x.shape)` gives numbers between 0 and 1. `x` is an array of any shape, and `p` lies
# in [0, 1).
#
# The first check counts zeros and looks at what became of the other values. The second draws many masks and looks whether
# each value is dropped on its own.


# %% gap="dropout" stub="return x with some values set to zero and the others scaled, or x itself at test time"
def dropout(x, p, training, random):
    ### BEGIN SOLUTION
    if not training:
        return x
    return np.where(random.random(x.shape) < p, 0, x / (1 - p))
    ### END SOLUTION


# %% check="dropout" points=1
ones = np.ones((400, 500))
answer = dropout(ones, 0.2, training=True, random=np.random.default_rng(25))
text = f"expected the shape of x, {ones.shape}, got {np.shape(answer)}"
assert np.shape(answer) == ones.shape, text
dropped = np.asarray(answer)
share = np.mean(dropped == 0)
hint = ": is p the share that stays?" if abs(share - 0.8) < 0.01 else ""
text = f"p = .2 of the values are dropped, yours drops {share:.2f}{hint}"
assert abs(share - 0.2) < 0.01, text
hint = "what stays is divided by 1 − p = .8, so that the mean stays 1"
assert agree(np.unique(dropped), [0, 1.25], hint)
assert agree(ones, np.ones((400, 500)), "your function changed the array that came in")
answer = dropout(ones, 0.2, training=False, random=np.random.default_rng(25))
assert agree(answer, ones, "at test time nothing happens")
### BEGIN HIDDEN TESTS
x = np.random.default_rng(26).normal(size=(50, 40, 3))
whole = dropout(x, 0.0, training=True, random=np.random.default_rng(27))
assert agree(whole, x, "p = 0 drops nothing")
half = np.asarray(dropout(x, 0.5, training=True, random=np.random.default_rng(27)))
assert agree(half[half != 0], 2 * x[half != 0], "with p = .5 what stays is doubled")
share = np.mean(half == 0)
assert 0.45 < share < 0.55, f"p = .5 drops half of the values, yours drops {share:.2f}"
### END HIDDEN TESTS
print("passed: the share, the scale, and test time")

# %% check="dropout" points=1
maps = np.ones((30, 20, 10, 8))
zeros = np.asarray(dropout(maps, 0.5, True, np.random.default_rng(26))) == 0
for axis, name in enumerate(("images", "rows", "columns", "channels")):
    same = np.mean(zeros.all(axis=axis) | ~zeros.any(axis=axis))
    assert same < 0.5, f"all {name} share one mask: each value is dropped on its own"
counts = set()
for number in range(20):
    answer = dropout(maps, 0.2, True, np.random.default_rng(number))
    counts.add(int((np.asarray(answer) == 0).sum()))
text = f"of 48,000 values always {counts} are dropped: independent draws vary"
assert len(counts) > 1, text
### BEGIN HIDDEN TESTS
generators = [np.random.default_rng(n) for n in (27, 27, 28)]
masks = [np.asarray(dropout(maps, 0.5, True, each)) == 0 for each in generators]
text = "the same generator gave another mask: draw from `random` alone"
assert np.array_equal(masks[0], masks[1]), text
text = "another generator gave the same mask: draw from `random`"
assert not np.array_equal(masks[0], masks[2]), text
### END HIDDEN TESTS
print("passed: independent draws")

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
def descend(
    parameters,
    gradients_of,
    x,
    y,
    rate=0.1,
    momentum=0.9,
    epochs=60,
    batch_size=20,
    seed=0,
):
    ### BEGIN SOLUTION
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order = random.permutation(len(x))
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, grads = gradients_of(parameters, x[batch], y[batch])
            losses.append(loss)
            velocities = [momentum * v - rate * g for v, g in zip(velocities, grads)]
            parameters = [p + v for p, v in zip(parameters, velocities)]
    return parameters, losses
    ### END SOLUTION


# %%
def bowl(parameters, x, y):
    """The loss w^2 / 2, whose gradient is w."""
    return float((parameters[0] ** 2).sum() / 2), [parameters[0].copy()]


visited = []


def listen(parameters, x, y):
    """Stands for a network, and notes which images and labels it is shown."""
    visited.append((np.array(x), np.array(y)))
    return float(len(visited)), [np.zeros(1)]


def shown_by(seed):
    """What your loop shows in three epochs of 11 images in batches of 5."""
    visited.clear()
    numbers = np.arange(11)
    options = {"epochs": 3, "batch_size": 5, "seed": seed}
    answer = descend([np.zeros(1)], listen, numbers, 10 * numbers, **options)
    return visited.copy(), answer


# %% check="descend" points=1
beginning, four_images = [np.array([1.0, -2.0])], np.zeros(4)
options = {"rate": 0.1, "momentum": 0.5, "epochs": 2, "batch_size": 4}
answer = descend(beginning, bowl, four_images, four_images, **options)
names = "the parameters", "the losses"
parameters, losses = parts(answer, *names)
hint = "w = 1: v = −.1, w = .9; then v = .5 · (−.1) − .1 · .9 = −.14, w = .76"
mistakes = [("plain gradient descent: the velocity is missing", [0.81, -1.62])]
assert agree(parameters[0], [0.76, -1.52], hint, mistakes)
hint = "one loss for each step, taken before the step"
assert agree(losses, [2.5, 2.025], hint)
hint = "your loop changed the parameters that came in: work on copies"
assert agree(beginning[0], [1.0, -2.0], hint)
### BEGIN HIDDEN TESTS
two, pair = [np.ones(2), np.full((3, 1), 2.0)], np.zeros(2)
rest = 0.1, 0.0, 1, 2  # rate, momentum, epochs, batch_size
after, _ = descend(two, lambda p, x, y: (0.0, [p[0], 3 * p[1]]), pair, pair, *rest)
assert agree(after[0], np.full(2, 0.9), "each parameter moves by its own gradient")
assert agree(after[1], np.full((3, 1), 1.4), "each parameter moves by its own gradient")
### END HIDDEN TESTS
print("passed: two steps by hand")

# %% check="descend" points=1
heard, answer = shown_by(30)
text = f"11 images in batches of 5 are 6 steps in 3 epochs, not {len(heard)}"
assert len(heard) == 6, text
hint = "one loss for each of the 6 steps, in their order"
assert agree(parts(answer, *names)[1], [1, 2, 3, 4, 5, 6], hint)
sizes = [len(batch) for batch, _ in heard]
assert sizes == [5] * 6, f"every batch has batch_size = 5 images, yours have {sizes}"
for batch, its_labels in heard:
    assert np.array_equal(10 * batch, its_labels), (
        f"image and label must stay together: images {batch} came with {its_labels}"
    )
orders = [np.concatenate([heard[2 * e][0], heard[2 * e + 1][0]]) for e in range(3)]
for order in orders:
    assert len(set(order.tolist())) == 10, f"an epoch showed images twice: {order}"
first, second = orders[:2]
assert not np.array_equal(first, np.sort(first)), f"no random order: {first}"
assert not np.array_equal(first, second), f"two epochs had the same order: {first}"
### BEGIN HIDDEN TESTS
again, other = shown_by(30)[0], shown_by(31)[0]
same = [np.array_equal(a[0], b[0]) for a, b in zip(heard, again)]
assert all(same), "the same seed gave another order"
same = [np.array_equal(a[0], b[0]) for a, b in zip(heard, other)]
assert not all(same), "another seed gave the same order"
### END HIDDEN TESTS
print("passed: whole batches, each image once an epoch, in a new order")

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
    return loss, [
        x.T @ at_hidden,
        at_hidden.sum(axis=0),
        hidden.T @ at_logits,
        at_logits.sum(axis=0),
    ]


def he(inputs, units=64, seed=31):
    """Weights of two layers, of He's size below and small on top; biases 0."""
    random = np.random.default_rng(seed)
    below, top = (
        random.normal(0, np.sqrt(2 / inputs), (inputs, units)),
        random.normal(0, 0.01, (units, 10)),
    )
    return [below, np.zeros(units), top, np.zeros(10)]


# %%
digits, numbers = data.arrays("digits", "train", 8, 1, per_class=100, seed=seed)
hundred = transfer.draw(numbers, 10, 0)
x, y = digits[hundred].reshape(100, -1) / 255.0, numbers[hundred]

# %% check="descend" points=1
options = {"rate": 0.05, "momentum": 0.9, "epochs": 60, "batch_size": 20}
answer = descend(he(x.shape[1]), two_layers, x, y, seed=32, **options)
weights, losses = parts(answer, "the parameters", "the losses")
first, last = losses[0], np.mean(losses[-5:])
message = f"the first loss of small logits is log 10 = 2.303, yours is {first:.3f}"
assert abs(first - np.log(10)) < 0.1, message
hidden = np.maximum(x @ weights[0] + weights[1], 0)
by_heart = np.mean((hidden @ weights[2] + weights[3]).argmax(axis=1) == y)
message = f"after 60 epochs your loop knows {by_heart:.0%} of 100 images, not all of "
message += "them"
assert by_heart == 1, message
assert last < 0.05, f"the loss must go to 0, the mean of your last five is {last:.3f}"
print(f"passed: 100 images by heart, the loss falls from {first:.2f} to {last:.4f}")

# %% [markdown]
# ### A question about rates (2 points)
#
# Your loop with four rates. Each curve is the loss of 100 images, averaged over an epoch.

# %%
courses = {}
for rate in (0.0002, 0.005, 0.1, 3.0):
    with np.errstate(
        all="ignore",
    ):  # a rate that is too high may overflow; the picture shows it
        losses_ = descend(
            he(x.shape[1]),
            two_layers,
            x,
            y,
            rate=rate,
            epochs=40,
            batch_size=20,
        )[1]
    losses_ = np.minimum(np.nan_to_num(losses_, nan=10), 10)
    courses[f"rate {rate:g}"] = losses_.reshape(40, -1).mean(axis=1)
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.curves(courses, ylabel="loss", baselines={"log 10": np.log(10)}, ax=ax)

# %% [markdown]
# What does each curve say about its rate, and which one would you take? What would you try next, and in which steps?

# %% [markdown] question="rates" points=2
# ### BEGIN SOLUTION
# At .0002 the loss falls slowly, almost on a straight line: the rate is far too low. After 40 epochs it is still 2.23,
# although more than half of the images are right already. So the loss shows sooner than the accuracy that a rate is too
# low. At .005 the loss falls steadily and is still falling at the end. At .1 it falls within a few epochs and goes to 0:
# I would take this rate. At 3 the loss is at once larger than log 10, jumps, and ends at or above log 10, where the
# outputs no longer depend on the image: the steps are far too long. Next I would search between .01 and 1 in factors of
# two or three, since so far the rates were twenty to thirty times apart. Then I would let the rate fall towards the end.
# ### END SOLUTION

# %% [markdown]
# ## 8. A network for images that it has not seen (4 points)
#
# So far every digit filled its image. Now it stands anywhere on a larger ground. To a linear classifier the same digit
# at two places is two different pictures, and a dense layer needs weights for each place. We draw what a linear
# classifier reaches.


# %%
def moved(images, seed):
    """Each image at a random place of a dark ground: (N, side, side, 1)."""
    height, width = images.shape[1:3]
    side = max(canvas, height)
    ground = np.zeros((len(images), side, side, 1), images.dtype)
    corners = np.random.default_rng(seed).integers(
        0,
        side - height + 1,
        (len(images), 2),
    )
    for picture, image, (row, column) in zip(ground, images, corners):
        picture[row : row + height, column : column + width] = image
    return ground


# %%
images, labels = (
    moved(np.concatenate([still] * places), [seed, 1]),
    np.tile(still_labels, places),
)
validation_images, validation_labels = data.arrays(
    dataset,
    "validation",
    per_class=30,
    **of_data,
)
validation_images = moved(validation_images, 2)
chosen = transfer.draw(labels, 2, seed)
plots.show_images(images[chosen], labels[chosen], classes=classes, columns=10, tile=0.8)

# %%
stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255), layers.Flatten()]
linear = keras.Sequential([*stack, layers.Dense(len(classes))])
training.compile_classifier(linear, keras.optimizers.Adam(3e-3))
training.fit(
    linear,
    (images, labels),
    epochs,
    batch_size=min(50, len(images)),
    seed=seed,
)
answers = transfer.predict(linear, validation_images).argmax(axis=1)
linear_accuracy = float(np.mean(answers == validation_labels))
frequent = float(np.bincount(validation_labels).max() / len(validation_labels))
bars = {
    "the most frequent class": frequent,
    "linear classifier": linear_accuracy,
    "asked of you": floor,
}
plots.bars(bars, "accuracy on validation images")

# %% [markdown]
# With Keras, write `train_network()`: build a small **convolutional** network, train it on `images` and `labels`, watch
# it on `validation_images` and `validation_labels`, and return two things: the trained model and its history (a dict of
# lists, one value for each epoch).
#
# - The model takes the images as they are, with values from 0 to 255: put `layers.Rescaling(1 / 255)` first.
#   `images.shape[1:]` is the shape of one image.
# - It gives one number for each class (logits or probabilities).
# - It has at most `largest` parameters.
# - `training.compile_classifier(model, optimizer)` compiles a model that gives logits. `training.fit(model, (images,
#   labels), epochs, batch_size=..., seed=seed, validation_data=(...), callbacks=[...])` trains it and returns a
#   `History`, whose attribute `.history` is the dict to return; use at most `epochs` epochs.
# - Two convolutions with pooling, one of the regularisers of this topic, and a rate that falls
#   (`keras.optimizers.schedules.CosineDecay`, or `keras.callbacks.ReduceLROnPlateau`) are enough.
#
# Choose filters, rate and regulariser by the accuracy on the validation images: that is what they are for. The check
# expects the share `floor` of them to be right. Nobody looks at the test images until you have chosen.


# %% gap="network" stub="build, compile and fit a small network; return it and its history"
def train_network():
    ### BEGIN SOLUTION
    stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255)]
    for filters in (16, 32, 32):
        stack.append(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        stack += [layers.BatchNormalization(momentum=0.9), layers.ReLU()]
        stack.append(layers.MaxPooling2D())
    stack += [layers.Flatten(), layers.Dropout(0.3, seed=seed)]
    model = keras.Sequential([*stack, layers.Dense(len(classes))])
    batch = min(50, len(images))
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * (len(images) // batch))
    training.compile_classifier(model, keras.optimizers.Adam(rate))
    validation = (validation_images, validation_labels)
    options = {"batch_size": batch, "seed": seed, "validation_data": validation}
    history = training.fit(model, (images, labels), epochs, **options).history
    return model, history
    ### END SOLUTION


# %% check="network" points=3
history = None
model, history = parts(train_network(), "the model", "the history")
parameters = model.count_params()
assert parameters <= largest, (
    f"{parameters:,} parameters, at most {largest:,} are allowed: take fewer filters, "
    "or pool more before the dense layer"
)
kinds = [type(layer).__name__ for layer in leaf_layers(model)]
message = f"a convolutional network was asked for, the layers of yours are {kinds}"
assert any("Conv" in kind for kind in kinds), message
answers = np.asarray(transfer.predict(model, validation_images))
expected = len(validation_labels), len(classes)
message = f"one number for each class: expected the shape {expected}, got "
message += f"{answers.shape}"
assert answers.shape == expected, message
accuracy = float(np.mean(answers.argmax(axis=1) == validation_labels))
assert reaches(accuracy, floor, judged), (
    f"{accuracy:.1%} of the validation images are right, {floor:.1%} are asked for; "
    f"a linear classifier gets {linear_accuracy:.1%}"
)
print(f"passed: {accuracy:.1%} of the validation images, {parameters:,} parameters")

# %% check="network" points=1
message = f"the history is a dict, fit(...).history; got {type(history).__name__}"
assert isinstance(history, dict), message
for name in ("loss", "val_loss"):
    message = f"the history holds {list(history)} and no {name}: did you give "
    message += "validation_data?"
    assert name in history, message
    length = len(history[name])
    assert 1 <= length <= epochs, f"expected 1 to {epochs} epochs, got {length}"
first_epoch, last_epoch = history["loss"][0], history["loss"][-1]
message = f"the training loss must fall, it goes from {first_epoch:.3f} to "
message += f"{last_epoch:.3f}"
assert last_epoch < first_epoch, message
### BEGIN HIDDEN TESTS
unseen, truth = data.arrays(dataset, "test", **of_data)
unseen = moved(unseen, 3)
tested = float(np.mean(transfer.predict(model, unseen).argmax(axis=1) == truth))
watched = transfer.predict(model, validation_images).argmax(axis=1)
watched = float(np.mean(watched == validation_labels))
text = f"right: {watched:.1%} of the validation, {tested:.1%} of the test images"
assert tested > watched - 0.1 or not judged, f"{text}: were the former trained on?"
twice = [np.asarray(transfer.predict(model, unseen[:64])) for _ in range(2)]
text = "two predictions of the same images differ: nothing may be random at test time"
assert np.array_equal(*twice), text
### END HIDDEN TESTS
print("passed: the history of a training that was watched")

# %% [markdown]
# Now the test images, once. Whatever they say, do not go back to change the network: if you choose by them, they no
# longer tell how it does on new images.

# %%
test_images, test_labels = data.arrays(dataset, "test", **of_data)
test_images = moved(test_images, 3)
predictions = transfer.predict(model, test_images).argmax(axis=1)
test_accuracy = float(np.mean(predictions == test_labels))
print(f"validation {accuracy:.1%}, test {test_accuracy:.1%}")

# %%
chance = float(np.bincount(test_labels).max() / len(test_labels))
names = "loss", "val_loss", "accuracy", "val_accuracy"
drawn = {name: history[name] for name in names if name in history}
plots.history(drawn, baselines={"accuracy": {"chance": chance}})

# %% tags=["thumbnail"]
confused = np.zeros((len(classes), len(classes)), int)
np.add.at(confused, (test_labels, predictions), 1)
plots.confusion_matrix(
    confused,
    classes=classes,
    title=f"{test_accuracy:.1%} of {len(test_labels):,} test images right",
)

# %%
wrong = np.flatnonzero(predictions != test_labels)[:8]
if len(wrong):
    plots.show_images(
        test_images[wrong],
        test_labels[wrong],
        predictions[wrong],
        classes=classes,
        columns=4,
        tile=2,
    )
record(
    test_accuracy=test_accuracy,
    validation_accuracy=accuracy,
    linear_accuracy=linear_accuracy,
    first_loss=first,
    last_loss=last,
    parameters=parameters,
)

# %% [markdown]
# ## Summary
#
# You can now
#
# - pool, and send gradients back to the winners, overlapping windows and ties included;
# - compute a stable cross-entropy with its gradient, and check it by numeric differences;
# - normalise a batch in training and at test time, find the gradient of a normalisation by yourself, and drop units
#   without a change of the mean;
# - write the loop around them, and trust it because it learns 100 images by heart;
# - choose a network on validation images, and judge it once on test images.
#
# ## Exercises
#
# 1. (easy) Write `average_pool_backward`. Which of the checks of step 2 still hold for it? *Hint: each pixel of a
#    window gets 1/f².*
# 2. (easy) Leave the ReLU out of `two_layers`. Does the network still learn the 100 images? Why? *Hint: 100 points in
#    64 dimensions.*
# 3. (medium) Write `max_norm(w, c)`: weights that lead to one unit are shortened to the length c if they are longer.
#    Compare with `utils.layers.MaxNorm`. *Hint: the units are the last axis, of dense and of convolutional kernels.*
# 4. (medium) Put your `dropout` into `two_layers`, and train on all images. Does it gain over five seeds, or do the
#    seeds differ by more? *Hint: the lecture says in which setting to look.*
# 5. (hard) How few parameters reach the floor? Six thousand are enough. *Hint: global max pooling in the place of
#    `Flatten`.*
#
# ## Further reading
#
# - S. Ioffe and C. Szegedy, *Batch normalization: accelerating deep network training by reducing internal covariate
#   shift*, ICML 2015.
# - N. Srivastava et al., *Dropout: a simple way to prevent neural networks from overfitting*, JMLR 15, 2014.
# - H. Xiao, K. Rasul and R. Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine learning
#   algorithms*, 2017.
