# %% [markdown]
# # 02 Layers and training
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/02_layers_and_training.ipynb)
#
# **Why does a network that is right in every line learn nothing?** Twelve convolutions, a thousand handwritten
# digits, no mistake in the code: and the loss stays at 2.303, the logarithm of ten, step after step. One number is
# wrong, the size of the first random weights. Most of the craft of training is about such numbers: how large the
# weights are at the beginning, how long a step is, how strongly to hold the weights back. This notebook measures what
# each of them does.
#
# You will be able to
#
# - choose an activation and a pooling layer, and send gradients back through both by hand;
# - say what the loss must be before the first step, check a gradient, and find a mistake with 100 images;
# - initialise, choose an optimizer, a rate and a schedule, and read the curves of a run that goes wrong;
# - tell what weight decay, dropout, max-norm, batch normalisation, early stopping, ensembles and augmentation do, and
#   when they gain nothing;
# - name five things that make images hard to recognise.
#
# It takes about two hours to read and less than ten minutes to run. Sentences about which method does better, and by how
# much, speak of full runs with several seeds. The pictures of a shortened run may show something else. Boxes that begin
# with **What the slide says** quote widely used lecture decks, in their own words.

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
dataset: str = "digits"  # a data set's name, or a folder with a subfolder per class
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
image_size: int = 8  # [8, 32] height and width that the images are brought to
per_class: int = 100  # [10, 1000] training images of each class, at most
steps: int = 300  # [6, 5000] training steps of most runs
repeats: int = 5  # [1, 50] runs of each comparison, each with a seed of its own
sizes: list[int] = [
    2,
    5,
    10,
    20,
    50,
    100,
]  # training images of each class for the learning curves
depth: int = 12  # [2, 30] convolutions where batch normalisation is compared
members: int = 7  # [2, 50] networks whose answers are averaged

# %%
from collections import namedtuple

import keras
import matplotlib.pyplot as plt
import numpy as np
import skimage
from keras import layers, ops

from utils import data, introspection, plots, training, transfer
from utils.data import augmentation, shapes
from utils.layers import MaxNorm
from utils.results import record
from utils.session import start

start(seed)

# %%
classes = data.chosen(dataset, on_error=on_error).classes
images, labels = data.arrays(
    dataset,
    "train",
    image_size,
    1,
    per_class=per_class,
    on_error=on_error,
)
validation = data.arrays(
    dataset,
    "validation",
    image_size,
    1,
    per_class=30,
    on_error=on_error,
)
test_images, test_labels = data.arrays(
    dataset,
    "test",
    image_size,
    1,
    on_error=on_error,
)

# %%
count = len(classes)
plots.show_images(images[transfer.draw(labels, 2, seed)], columns=10, tile=0.8)

# %% [markdown]
# These are our images. They are small, so a network trains in a second, and every comparison can be made with several
# seeds. What holds for networks of this size need not hold for large ones. Where that matters, we say so.
#
# There are three kinds of images. The *training* images are all that a network learns from. The *validation* images
# choose: between rates, between methods, between epochs. The *test* images judge what was chosen; nothing is chosen by
# them.
#
# ## Activations
#
# Two linear layers in a row are one linear layer. Between two linear layers there must be a nonlinear function, the
# *activation*. We look at four of them and at their gradients, since training works with the gradients:
#
# - the *sigmoid* 1 / (1 + e^−x), whose gradient is never more than 1/4;
# - *tanh*, a sigmoid stretched to −1 ... 1, with a gradient of at most 1;
# - the *rectified linear unit* (ReLU) max(x, 0), with a gradient of exactly 1 or 0;
# - the *leaky* ReLU, which lets a share of the negative side through, here a tenth.


# %%
def sigmoid(x):
    return 1 / (1 + np.exp(-x))


activations = {  # name: function, its gradient
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "ReLU": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
    "leaky ReLU": (
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda x: np.where(x > 0, 1, 0.1),
    ),
}

# %%
x = np.linspace(-4, 4, 401)
figure, axes = plt.subplots(1, 2, figsize=(8, 3))
for ax, part, title in zip(axes, (0, 1), ("activation", "its gradient")):
    plots.curves(
        {name: pair[part](x) for name, pair in activations.items()},
        x=x,
        xlabel="input",
        title=title,
        ax=ax,
    )
axes[0].set_ylim(-1.6, 2.2)
for ax in axes:
    ax.lines[3].set_linestyle("--")  # where x > 0 the leaky one lies on the ReLU
    ax.legend(fontsize=9)

# %% [markdown]
# Are the formulas right? Keras differentiates its own functions; at 1,000 random inputs we expect the same numbers.
# (The share that a leaky ReLU lets through is .01 in the first papers, .2 in `keras.activations.leaky_relu` and .3 in
# `layers.LeakyReLU`. So always state it.)

# %% tags=["nbval-check-output"]
inputs = np.random.default_rng(1).normal(size=(1000, 1)).astype("float32")
own = [ops.sigmoid, ops.tanh, ops.relu, lambda t: ops.leaky_relu(t, negative_slope=0.1)]
for function, (name, (_, gradient)) in zip(own, activations.items()):
    by_keras = introspection.gradients(function, inputs, batch_size=1000)
    print(
        f"{name:10} as Keras has it:",
        np.allclose(by_keras, gradient(inputs), atol=1e-6),
    )

# %% [markdown]
# Back-propagation multiplies the gradients of all layers. Let us chain one function with itself, weights 1. After ten
# sigmoids at most (1/4)^10 ≈ 10^−6 of the gradient arrives, so the early layers of such a network hardly learn. This is
# the **vanishing gradient**. We draw the average over the random inputs, by depth.

# %%
arrived = {}
for name, (function, gradient) in activations.items():
    values, product = inputs.astype("float64"), np.ones((len(inputs), 1))
    arrived[name] = [1.0]
    for _ in range(10):
        values, product = function(values), product * gradient(values)
        arrived[name].append(np.abs(product).mean())
print(f"ten sigmoids: {arrived['sigmoid'][-1]:.1e}, the bound is {0.25**10:.1e}")
ax = plots.curves(
    arrived,
    range(11),
    "activations in a row",
    "gradient that arrives, on average",
    log_y=True,
)
ax.lines[3].set_linestyle("--")
ax.legend(fontsize=9)

# %% [markdown]
# A ReLU does not shrink the gradient where its input is positive, and it is cheap. Its price: where the input is
# negative, no gradient passes. If a unit's input is negative for *every* image, the unit gets no gradient and never
# changes again. Such a unit is **dead**. One step that is too long can kill it. Below, 128 units after 50 steps of plain
# gradient descent at three rates. We call a unit dead if it answers 0 to all training images. Before training we expect
# a few, and many more at the highest rate.


# %%
hidden = layers.Dense(128, activation="relu")
shape = (image_size, image_size, 1)
stack = [
    keras.Input(shape),
    layers.Rescaling(1 / 255),
    layers.Flatten(),
    hidden,
    layers.Dense(count),
]
network, optimizer = keras.Sequential(stack), keras.optimizers.SGD(0.1)
training.compile_classifier(network, optimizer)
beginning, shares = network.get_weights(), {}
x, y = transfer.repeat(images, labels, 50, 50, seed)
for rate in (0.0, 0.1, 1.0, 5.0):
    network.set_weights(beginning)
    optimizer.learning_rate = rate
    network.fit(x, y, batch_size=50, shuffle=False, verbose=0)
    units = keras.Model(network.inputs, hidden.output)
    answers = transfer.predict(units, images)  # (images, 128)
    shares[f"rate {rate:g}"] = np.mean(answers.max(axis=0) <= 0)
plots.bars(
    shares,
    xlabel="share of dead units",
    title="Steps that are too long kill ReLUs",
)

# %% [markdown]
# So take ReLU by default, with a rate that is not too high, and leaky ReLU where units die. Tanh and sigmoid serve where
# a value must stay within bounds (gates, probabilities), not as hidden layers of deep networks.
#
# ## Pooling
#
# A pooling layer summarises each window of a map by one number, the largest or the mean, each channel on its own. It
# has no parameters. Windows of 2 with stride 2 halve height and width; windows of 3 with stride 2 overlap by one
# pixel.
#
# By hand: in the top left window of the matrix stand 1, 1, 5, 6, so its maximum is 6 and its mean 13 / 4 = 3.25. We
# expect 6 8 / 3 4 for the maxima.


# %%
def windows(x, f, s):
    """All windows of f x f with stride s of a matrix: (rows, columns, f, f)."""
    return np.lib.stride_tricks.sliding_window_view(x, (f, f))[::s, ::s]


def max_pool(x, f, s):
    return windows(x, f, s).max(axis=(2, 3))


def average_pool(x, f, s):
    return windows(x, f, s).mean(axis=(2, 3))


four = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
corners = [(0, 0, 2, 2), (0, 2, 2, 2), (2, 0, 2, 2), (2, 2, 2, 2)]
plots.number_equation(
    [four, "→", max_pool(four, 2, 2), "or", average_pool(four, 2, 2)],
    titles={0: "input", 2: "max, 2/2", 4: "average, 2/2"},
    boxes={
        0: corners,
        2: [(i // 2, i % 2, 1, 1) for i in range(4)],
        4: [(i // 2, i % 2, 1, 1) for i in range(4)],
    },
)

# %% [markdown]
# The overlapping kind, 3/2, on a matrix of 5 × 5 that we shall need again: (5 − 3) / 2 + 1 = 2 windows along each
# side. The middle row and the middle column are read by two windows, the 6 in the middle by four. Keras must agree.

# %% tags=["nbval-check-output"]
five = np.array(
    [
        [2, 4, 8, 3, 6],
        [9, 3, 4, 2, 5],
        [5, 4, 6, 3, 1],
        [2, 3, 1, 3, 4],
        [2, 7, 4, 5, 7],
    ]
)
print("ours, max 3/2:    ", max_pool(five, 3, 2).tolist())
batch = five[None, :, :, None].astype("float32")  # (1, 5, 5, 1)
print(
    "Keras, max 3/2:   ",
    ops.convert_to_numpy(ops.max_pool(batch, 3, 2))[0, :, :, 0].astype(int).tolist(),
)
close = np.allclose(ops.average_pool(batch, 3, 2)[0, :, :, 0], average_pool(five, 3, 2))
print("averages, as Keras:", close)

# %%
plots.number_equation(
    [five, "→", max_pool(five, 3, 2), "or", average_pool(five, 3, 2)],
    titles={0: "input", 2: "max, 3/2", 4: "average, 3/2"},
    boxes={
        0: [(0, 0, 3, 3), (2, 2, 3, 3)],
        2: [(0, 0, 1, 1), (1, 1, 1, 1)],
        4: [(0, 0, 1, 1), (1, 1, 1, 1)],
    },
)

# %% [markdown]
# On a photograph: a filter finds edges, then we pool three times with 2/2. The maximum keeps thin lines bright; the
# mean makes them fainter. Both forget where exactly a line was. This is the use of pooling, and its price.

# %%
grey = skimage.color.rgb2gray(skimage.data.chelsea())[40:296, 110:366]  # (256, 256)
edges = np.abs(skimage.filters.sobel(grey))
maximum = mean = edges
for _ in range(3):
    maximum, mean = max_pool(maximum, 2, 2), average_pool(mean, 2, 2)
shown = [grey, edges / edges.max(), maximum / edges.max(), mean / edges.max()]
titles = ["256 × 256", "edges", "max, 32 × 32", "average, 32 × 32"]
plots.show_images(shown, titles=titles, columns=4, tile=2)

# %% [markdown]
# ### Backward
#
# Gradients arrive from above, one for each output. The maximum depends on one pixel of its window, so that pixel gets
# the whole gradient and the others nothing. Where windows overlap and the same pixel wins several, its gradients
# **add up**.
#
# Take the same matrix with windows of 3 × 3 at stride 1. The maxima are 9 8 8 / 9 6 6 / 7 7 7; from above come 1 3 1
# / 1 4 2 / 6 2 1. The 8 wins two windows, so it gets 3 + 1 = 4; the 9 gets 1 + 1 = 2; the 6 in the middle 4 + 2 = 6.
# The three 7s of the output are two pixels: the left one wins two windows and gets 6 + 2 = 8, the right one gets 1.


# %%
def max_pool_backward(x, above, f, s):
    """Gradient (H, W) of the input: a window's gradient goes to its first maximum."""
    gradient = np.zeros(x.shape)
    for row, column in np.ndindex(*above.shape):
        window = x[row * s : row * s + f, column * s : column * s + f]
        i, j = np.unravel_index(window.argmax(), window.shape)
        gradient[row * s + i, column * s + j] += above[row, column]
    return gradient


above = np.array([[1, 3, 1], [1, 4, 2], [6, 2, 1]])
below = max_pool_backward(five, above, 3, 1)
plots.number_equation(
    [five, "→", max_pool(five, 3, 1), "", above, "→", np.where(below, below, np.nan)],
    titles={0: "input", 2: "max, 3/1", 4: "from above", 6: "gradient of the input"},
    boxes={
        0: [(0, 1, 3, 3), (0, 2, 3, 3)],
        2: [(0, 1, 1, 1), (0, 2, 1, 1)],
        4: [(0, 1, 1, 1), (0, 2, 1, 1)],
        6: [(0, 2, 1, 1)],
    },
)

# %% [markdown]
# Keras sends the same numbers back. The gradients from above and those below have the same sum, 21.

# %% tags=["nbval-check-output"]
weighted = above[None, :, :, None].astype("float32")
by_keras = introspection.gradients(
    lambda t: ops.sum(ops.max_pool(t, 3, 1) * weighted, axis=(1, 2, 3)),
    batch,
)
print("as Keras has it:", np.array_equal(by_keras[0, :, :, 0], below))
print("sums:", above.sum(), int(below.sum()))

# %% [markdown]
# **Ties.** If two pixels share the maximum, the function has a kink and no single gradient there. Any way to share
# the gradient is allowed, as long as the shares add up; most libraries give all to the first pixel of the window.
# Ties are frequent: after a ReLU, whole windows are 0. **Averages** have no winner: each pixel of a window gets 1/f² of
# its gradient.


# %%
def average_pool_backward(shape, above, f, s):
    gradient = np.zeros(shape)
    for row, column in np.ndindex(*above.shape):
        top, left = row * s, column * s
        gradient[top : top + f, left : left + f] += above[row, column] / f**2
    return gradient


# %%
tied = np.array([[3, 3, 0], [1, 3, 0], [0, 0, 0]])
arriving = np.array([[8, 4], [2, 6]])
on_ties = max_pool_backward(tied, arriving, 2, 1)
average = average_pool_backward(tied.shape, arriving, 2, 1)
from_above = arriving[None, :, :, None].astype("float32")
by_keras = introspection.gradients(
    lambda t: ops.sum(ops.max_pool(t, 2, 1) * from_above, axis=(1, 2, 3)),
    tied[None, :, :, None],
)
by_keras = by_keras[0, :, :, 0] + 0.0  # no "−0"
plots.number_equation(
    [tied, "", arriving, "→", on_ties, "", by_keras, "", average],
    titles={
        0: "input",
        2: "from above",
        4: "max: the first",
        6: "max: Keras",
        8: "average",
    },
)

# %% [markdown]
# ### Global average pooling
#
# The last maps of a network can be averaged as a whole: one number for each map, however large the map is. Against
# flattening, this saves parameters and accepts images of any size. For 64 maps of 4 × 4 and ten classes we expect 4 ·
# 4 · 64 · 10 + 10 = 10,250 parameters with `Flatten`, 64 · 10 + 10 = 650 without. What is lost is *where* a feature
# was found.

# %% tags=["nbval-check-output"]
flat = keras.Sequential([keras.Input((4, 4, 64)), layers.Flatten(), layers.Dense(10)])
pooled = keras.Sequential(
    [keras.Input((None, None, 64)), layers.GlobalAveragePooling2D(), layers.Dense(10)],
)
print(
    "flattened:",
    f"{flat.count_params():,} parameters; averaged: {pooled.count_params():,}",
)
for side in (4, 7, 10):
    print(f"maps of {side} x {side} give", pooled(np.zeros((1, side, side, 64))).shape)

# %% [markdown]
# Four Sobel filters find the left, right, upper and lower edges of a digit, and of the same digit moved. The numbers
# are the averages of the maps.

# %%
sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
bank = np.stack([sobel, -sobel, sobel.T, -sobel.T], axis=-1)
bank = bank[:, :, None].astype("float32")  # (3, 3, 1, 4)
still = np.pad(images[0, :, :, 0] / 255, ((2, 6), (2, 6)))
pair = np.stack([still, np.roll(still, (4, 4), (0, 1))])[..., None].astype("float32")
maps = ops.relu(ops.conv(pair, bank, padding="same"))
maps = ops.convert_to_numpy(maps)  # (2, height, width, 4)

figure, axes = plt.subplots(2, 5, figsize=(8, 3.6))
for row, (image, its_maps) in enumerate(zip(pair, maps)):
    axes[row, 0].imshow(image)
    axes[row, 0].set_title(["an image", "the same, moved"][row])
    for ax, one, edge in zip(
        axes[row, 1:],
        np.moveaxis(its_maps, -1, 0),
        ("left", "right", "upper", "lower"),
    ):
        ax.imshow(one, cmap="viridis", vmin=0, vmax=maps.max())
        ax.set_title(f"{edge}: {one.mean():.4f}")
for ax in axes.flat:
    ax.set_axis_off()

# %% [markdown]
# The map moves, and its average stays the same: global average pooling is *invariant* to shifts. This holds as long as
# nothing leaves the image. Behind a layer with stride s it holds for shifts by multiples of s.
#
# ## Softmax and cross-entropy
#
# A classifier's last layer gives one number for each class, a *logit*. Softmax turns logits into probabilities: $p_i
# = e^{z_i} / \sum_j e^{z_j}$. Only differences of logits count. Subtract the largest logit from all of them: the result
# is the same, and nothing overflows. Cross-entropy is $-\log p_y$, with $y$ the true class. It is 0 if the network gives
# the true class the probability 1, and large if it gives it a small one. (In the picture on the right, each dot is the
# loss if that class were the true one.)


# %%
def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


logits = np.array([2.0, 1.0, -1.0, 0.5])
figure, axes = plt.subplots(1, 3, figsize=(8, 2.5))
p = np.linspace(0.005, 1, 200)
axes[0].bar(range(4), logits, color=plots.GREY)
axes[1].bar(range(4), softmax(logits), color=plots.BLUE)
axes[2].plot(p, -np.log(p), color=plots.VERMILLION)
axes[2].plot(softmax(logits), -np.log(softmax(logits)), "o", color=plots.BLUE)
axes[1].set_ylim(0, 1)
axes[2].set_ylabel("loss")
for ax, title in zip(axes, ("logits", "probabilities", "cross-entropy")):
    ax.set_title(title)
    ax.set_xlabel(
        "probability of the true class" if title == "cross-entropy" else "class",
    )
for ax in axes[:2]:
    ax.set_xticks(range(4))

# %% [markdown]
# ### The loss before the first step
#
# A new network has learnt nothing. If its logits are small, every class gets about 1/C, and the loss is −log(1/C) = log
# C: for ten classes 2.303, for a thousand 6.908. **Look at the first loss.** If it is far higher, the logits are too
# large: the last layer's weights are too large, or the images were not scaled. Below: new networks with 2 to 1,000
# outputs and random labels, once as they should be and once with the images left at 0 ... 255.

# %%
outputs = [2, 5, 10, 30, 100, 300, 1000]
first_loss = {"images scaled to 0 ... 1": [], "images left at 0 ... 255": []}
some = images[:200].reshape(len(images[:200]), -1) / 255.0
for classes_ in outputs:
    fresh = keras.Sequential(
        [
            keras.Input(some.shape[1:]),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes_),
        ]
    )
    truth = np.random.default_rng(seed).integers(0, classes_, len(some))
    for name, factor in zip(first_loss, (1, 255)):
        probabilities = softmax(
            ops.convert_to_numpy(fresh(some * factor)).astype("float64"),
        )
        first_loss[name].append(-np.log(probabilities[range(len(some)), truth]).mean())

# %%
title = "loss before the first step"
ax = plots.curves(first_loss, outputs, "classes", title, log_x=True, log_y=True)
ax.plot(outputs, np.log(outputs), "--", color=plots.BLACK, label="log C")
ax.legend(fontsize=9)

# %% [markdown]
# ### A numeric gradient check
#
# The gradient of softmax and cross-entropy together is short: probabilities minus the one-hot truth (1 at the true
# class, 0 elsewhere). If you write a gradient by hand, check it against differences: move one weight by ±h and compare.
# How small should h be? The error of the difference (f(w + h) − f(w − h)) / 2h falls with h², until rounding errors are
# larger. The error of one-sided differences falls with h only. In float32 the smallest error is about 1e-4, in float64
# 1e-10.


# %%
def loss_and_gradient(weights, x, y):
    """Mean cross-entropy of softmax regression, and its gradient for the weights."""
    probabilities = softmax(x @ weights)
    loss = -np.log(probabilities[range(len(y)), y]).mean()
    error = probabilities - np.eye(weights.shape[1], dtype=x.dtype)[y]
    return loss, x.T @ error / len(y)


def check(h, dtype, centred=True):
    """Relative error of the numeric gradient for one weight."""
    random = np.random.default_rng(3)
    x, weights = (
        random.normal(size=(20, 8)).astype(dtype),
        random.normal(size=(8, 5)).astype(dtype),
    )
    y, nudge = random.integers(0, 5, 20), np.zeros((8, 5), dtype)
    nudge[2, 3] = h
    exact = loss_and_gradient(weights, x, y)[1][2, 3]
    behind = weights - nudge if centred else weights
    after, before = (loss_and_gradient(w, x, y)[0] for w in (weights + nudge, behind))
    return abs((after - before) / (h * (1 + centred)) - exact) / abs(exact) + 1e-16


# %%
h = np.logspace(-9, -0.5, 35)
errors = {
    "float64, both sides": [check(one, "float64") for one in h],
    "float64, one side": [check(one, "float64", centred=False) for one in h],
    "float32, both sides": [check(one, "float32") for one in h],
}
plots.curves(errors, h, "nudge h", "relative error", log_x=True, log_y=True)

# %% [markdown]
# So take h near 1e-5 in float64 and near 1e-2 in float32. With these, and differences to both sides, a relative error
# below 1e-7 (float64) tells that the gradient is right, and 1e-2 that it is wrong; between them, look closer. Two
# cautions: a kink (ReLU, max pooling) between w − h and w + h spoils the comparison, and dropout must be off.
#
# ### Overfit 100 images first
#
# Before any long training, take 100 images and train until the loss is 0. A network of this size can learn them by
# heart. If it cannot, there is a mistake in it, and more images would only hide the mistake. We try it on a right
# network and on two wrong ones: one has a ReLU on the logits, the other a softmax too many. For the second we know a
# bound. Its "logits" are probabilities, at best a 1 and nine 0s, so the loss cannot fall below log(e + 9) − 1 = 1.461.
# (On TensorFlow, Keras recognises a softmax that stands directly before such a loss, warns, and takes it out. A factor
# of 1 behind the softmax hides it from Keras. So do not rely on this.)


# %%
def convnet(*top):
    """Two convolutions, a pooling between, and a dense layer of logits; then `top`."""
    shape = (image_size, image_size, 1)
    body = [
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
    ]
    body += [layers.Conv2D(32, 3, padding="same", activation="relu"), layers.Flatten()]
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Rescaling(1 / 255),
            *body,
            layers.Dense(count),
            *top,
        ]
    )


# %%
class StepLosses(keras.callbacks.Callback):
    """Keeps the loss of every step; Keras gives the mean since the epoch began."""

    def on_train_begin(self, logs=None):
        self.sums = [0.0]

    def on_train_batch_end(self, batch, logs=None):
        self.sums.append(float(logs["loss"]) * (batch + 1))


# %% [markdown]
# The function that most comparisons of this notebook use. A network is trained once for each seed. A seed stands for
# other initial weights and another order of the images, and, where a few images are drawn, for another draw. It gives
# the accuracy on the test images and the loss at every step. (A network is compiled once; for the next seed only its
# weights and the optimizer's state begin anew. That saves most of the time.)

# %%
seeds = range(100 * seed, 100 * seed + repeats)


def everything(seed):
    return images, labels


def accuracy(logits, truth):
    """Share of right answers of logits (..., images, classes)."""
    return np.mean(np.argmax(logits, axis=-1) == truth, axis=-1)


def restart(model, optimizer, seed, start=None):
    """Fresh weights (or those of `start`), fresh optimizer; compiles only once."""
    if getattr(model, "optimizer", None) is not optimizer:
        training.compile_classifier(model, optimizer)
        optimizer.build(model.trainable_variables)
    rate = float(optimizer.learning_rate)
    for variable in optimizer.variables:
        variable.assign(ops.zeros_like(variable))
    optimizer.learning_rate = rate
    model.set_weights(transfer.reinitialise(start or model, seed).get_weights())


# %%
# of every seed: accuracy on test and on validation images, losses (steps,), test logits
Runs = namedtuple("Runs", "accuracy validation losses logits")


# %%
def train(
    model,
    optimizer,
    draw=everything,
    steps=steps,
    batch_size=50,
    seeds=seeds,
    augment=None,
    start=None,
):
    """Train a network once for each seed; gives `Runs`."""
    losses, logits, validated, watch = [], [], [], StepLosses()
    options = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
    for one in seeds:
        restart(model, optimizer, one, start)
        x, y = transfer.repeat(*draw(one), steps, batch_size, one, augment)
        model.fit(x, y, callbacks=[watch], **options)
        losses.append(np.diff(watch.sums))
        logits.append(transfer.predict(model, test_images))
        answers = transfer.predict(model, validation[0])
        validated.append(accuracy(answers, validation[1]))
    accuracies = accuracy(np.array(logits), test_labels)
    return Runs(accuracies, np.array(validated), np.array(losses), np.array(logits))


# %%
def smooth(losses, points=20):
    """Losses (..., steps) averaged over stretches of steps: (..., points)."""
    width = max(losses.shape[-1] // points, 1)
    kept = losses.shape[-1] // width * width
    return losses[..., :kept].reshape(*losses.shape[:-1], -1, width).mean(axis=-1)


def step_numbers(losses, steps):
    """Where the points of `smooth` lie on the axis of the steps."""
    return np.linspace(0, steps, losses.shape[-1] + 1)[1:]


# %%
def few(size):
    """A function that draws `size` images of each class, others for each seed."""

    def draw(seed):
        chosen = transfer.draw(labels, min(size, per_class), seed)
        return images[chosen], labels[chosen]

    return draw


# %%
hundred, overfitted = few(10), {}
tops = {"right": [], "ReLU on the logits": [layers.ReLU()]}
tops["softmax twice"] = [
    layers.Softmax(),
    layers.Rescaling(1.0),
]  # the factor 1 hides it from Keras
for name, top in tops.items():
    network = convnet(*top)
    runs = train(network, keras.optimizers.Adam(3e-3), hundred, seeds=seeds[:2])
    overfitted[name] = smooth(runs.losses)
    if name == "right":
        learnt, truth = hundred(seeds[:2][-1])  # what it has just learnt from
        known = accuracy(transfer.predict(network, learnt), truth)

# %%
at_steps = step_numbers(overfitted["right"], steps)
bottom = {
    f"log {count}": np.log(count),
    f"log(e + {count - 1}) − 1": np.log(np.e + count - 1) - 1,
}
ax = plots.curves(
    overfitted,
    at_steps,
    "step",
    "loss on 100 images",
    bottom,
    title="Learning 100 images by heart",
)
ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
record(
    overfit_accuracy=known,
    stuck_loss=overfitted["softmax twice"][:, -1].mean(),
)

# %% [markdown]
# In a full run the right network learns its images by heart, and its loss goes to 0. With a softmax too many the loss
# ends at the bound or a little above it: where the probabilities are near 0 and 1, this network gets hardly any
# gradient, even if they are wrong. Behind the ReLU, a logit that is negative for all images of its class gets no
# gradient. Both wrong networks lower the loss at first. So nothing looks broken, unless you ask for a loss of 0.
#
# ## Initialisation
#
# If all weights of a layer began equal, all its units would stay equal. So weights begin at random. How large? Let a
# unit add n inputs with independent weights of variance v. Then the variance of its sum is n · v times the mean square
# of an input. To keep the variance from layer to layer, take v = 1/n. (Glorot and Bengio 2010 take 2 / (n + m), with m
# the number of outputs, so that the gradient keeps its size on the way back, too.) A ReLU sets half of the inputs to
# zero, so v = 2/n (He et al. 2015).
#
# Ten layers of 256 units. With a deviation of .01 each layer multiplies the signal by √256 · .01 = .16, so after ten
# layers we expect .16^10 ≈ 1e-8. With a deviation of .2, tanh is driven to ±1, where its gradient is 0.


# %%
def through_layers(deviation, function, depth=10, units=256):
    """Activations (depth + 1, images, units) of random layers."""
    random = np.random.default_rng(seed)
    x = [random.normal(size=(300, units))]
    for _ in range(depth):
        x.append(function(x[-1] @ random.normal(0, deviation, (units, units))))
    return np.stack(x)


tanh, relu = activations["tanh"][0], activations["ReLU"][0]
cases = {
    "tanh, deviation .01": (0.01, tanh),
    "tanh, deviation .2": (0.2, tanh),
    "tanh, √(1/n)": (256**-0.5, tanh),
    "ReLU, √(1/n)": (256**-0.5, relu),
    "ReLU, √(2/n)": ((2 / 256) ** 0.5, relu),
}
signals = {name: through_layers(*case) for name, case in cases.items()}

# %% tags=["thumbnail"]
shown_layers = [1, 2, 4, 6, 8, 10]
grid = len(signals), len(shown_layers)
figure, axes = plt.subplots(*grid, figsize=(8, 6.4), sharex="row")
small, corner = {"fontsize": 8}, {"ha": "right", "va": "bottom"}
for row, (name, signal) in zip(axes, signals.items()):
    for ax, layer in zip(row, shown_layers):
        limits = (-1, 1) if "tanh" in name else (0, 3)
        values = np.clip(signal[layer].ravel(), *limits)
        ax.hist(values, bins=25, range=limits, color=plots.BLUE, density=True)
        ax.set_yticks([])
        ax.grid(False)
        spread = f"{signal[layer].std():.1g}"
        ax.text(0.97, 1, spread, transform=ax.transAxes, **corner, **small)
    label = name.replace(", ", "\n")
    row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
for ax, layer in zip(axes[0], shown_layers):
    ax.set_title(f"layer {layer}", loc="left", fontsize=9)

# %% [markdown]
# The number above each panel is the standard deviation. In row 1 it goes to 0. In row 2 all values lie near −1 and 1.
# In row 3 it falls slowly, to about a quarter after ten layers: the rule keeps the spread of the *sums*, and tanh makes
# each of them smaller. In row 4 it loses a factor of about √2 a layer. In row 5 it stays. The next picture shows the
# same as curves, with our predictions for the first and the fourth row.

# %%
spread = {name: signal.std(axis=(1, 2)) for name, signal in signals.items()}
ax = plots.curves(
    spread,
    range(11),
    "layer",
    "standard deviation of the activations",
    log_y=True,
)
for factor, label in ((0.16, "predicted"), (0.5**0.5, None)):
    ax.plot(range(11), factor ** np.arange(11), ":", color=plots.BLACK, label=label)
ax.legend(fontsize=9)
print(
    f"first row after ten layers: {spread['tanh, deviation .01'][-1]:.1e},",
    f"predicted {0.16**10:.1e}",
)

# %% [markdown]
# Keras's default is `glorot_uniform`. With ReLU, `he_normal` is the better choice for deep networks. Biases start at 0.
# (He et al. trained thirty plain layers from their weights, which did not learn from Glorot's. Batch normalisation,
# below, and residual connections, topic 04, make a network less sensitive to this choice.)

# %% [markdown]
# ## Optimizers
#
# Gradient descent on a mini-batch (SGD) moves against the gradient. In a long valley this is a poor direction: the
# gradient points across the valley. *Momentum* adds up the steps, v ← .9 v − rate · g. Parts that change their sign
# cancel; parts that keep it grow, up to ten times. *Adam* (Kingma and Ba 2015) divides the averaged gradient by the root
# of its averaged square. So every weight moves by about the rate per step, whatever the size of its gradient.
#
# The valley f = x²/200 + y² is bent two hundred times as strongly across as along. Gradient descent multiplies y by 1
# − 2 · rate and x by 1 − rate / 100 in each step. With a rate of .9 these are −.8 and .991: the path zigzags to the
# bottom, then moves slowly along it. With 1.05 the first is −1.1, and the path diverges. No rate serves both
# directions. In the same 60 steps momentum and Adam should come far closer. We give the two numbers to Keras's own
# optimizers.


# %%
def path(optimizer, start=(-9.0, 2.0), length=60):
    """Points (length + 1, 2) that an optimizer visits on f = x^2 / 200 + y^2."""
    point = keras.Variable(start)
    optimizer.build([point])
    points = [np.array(start)]
    for _ in range(length):
        x, y = points[-1]
        optimizer.apply([ops.convert_to_tensor([x / 100, 2 * y], "float32")], [point])
        points.append(ops.convert_to_numpy(point).copy())
    return np.array(points)


SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
paths = {
    "SGD, rate .9": path(SGD(0.9)),
    "SGD, rate 1.05": path(SGD(1.05)),
    "momentum .9, rate .3": path(SGD(0.3, momentum=0.9)),
    "Adam, rate .5": path(Adam(0.5)),
}

# %%
x, y = np.meshgrid(np.linspace(-10, 6, 80), np.linspace(-3.2, 3.2, 60))
figure, axes = plt.subplots(2, 2, figsize=(8, 4.2), sharex=True, sharey=True)
for number, (ax, (name, points)) in enumerate(zip(axes.flat, paths.items())):
    ax.contour(
        x,
        y,
        x**2 / 200 + y**2,
        levels=[0.02, 0.1, 0.3, 1, 3, 7],
        colors=plots.GREY,
        linewidths=0.6,
    )
    inside = points[np.abs(points[:, 1]) < 3.2]
    ax.plot(*inside.T, "o-", color=plots.PALETTE[number], markersize=3, linewidth=1)
    ax.plot(0, 0, "+", color=plots.BLACK, markersize=10)
    ax.set(xlabel="x" if number > 1 else "", ylabel="" if number % 2 else "y")
    height = points[-1, 0] ** 2 / 200 + points[-1, 1] ** 2
    ax.set_title(f"{name}: f = {height:.2g} after 60 steps")

# %% [markdown]
# Now the digits. Each optimizer gets three rates: at one common rate we would compare rates, not optimizers. The bars
# are accuracies on *validation* images over three seeds, and they choose the rate of each optimizer. Then the three
# chosen runs, and only these, are judged on the test images.

# %%
choices = {
    "SGD": (SGD, (0.01, 0.1, 1.0), {}),
    "momentum": (SGD, (0.001, 0.01, 0.1), {"momentum": 0.9}),
}
choices["Adam"] = (Adam, (3e-4, 3e-3, 3e-2), {})
nine, courses = {}, {}
short = {"steps": steps * 2 // 3, "seeds": seeds[:3]}
for name, (optimizer, rates, options) in choices.items():
    network, method = convnet(), optimizer(**options)
    for rate in rates:
        run, method.learning_rate = f"{name}, rate {rate:g}", rate
        nine[run] = train(network, method, **short)
        courses[run] = smooth(nine[run].losses)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), width_ratios=(1, 1.1))
scores = {run: runs.validation for run, runs in nine.items()}
chance = {"chance": 1 / count}
plots.bars(scores, "validation accuracy", baselines=chance, ax=axes[0])
for bar, run in zip(axes[0].patches, nine):  # the colours of the curves beside them
    bar.set_facecolor(plots.PALETTE[list(choices).index(run.split(",")[0])])
best = {}
for name in choices:
    its_runs = [run for run in nine if run.startswith(name)]
    best[name] = max(its_runs, key=lambda run: scores[run].mean())
blocks = step_numbers(courses[best["SGD"]], steps * 2 // 3)
plots.curves(
    {run: courses[run] for run in best.values()},
    blocks,
    "step",
    "training loss",
    log_y=True,
    ax=axes[1],
)
axes[1].set_title("each at the best of its rates")
for run in best.values():
    print(f"{run:20} test accuracy {nine[run].accuracy.mean():.3f}")

# %% [markdown]
# In the steps of a full run, momentum and Adam come near a loss of 0 at the best of their rates; plain SGD is still on
# the way. Adam does well over the widest range of rates here. Which optimizer is best in the end depends on the problem.
# For images, SGD with momentum and a schedule is still a strong choice.
#
# ### The rate, read from the curve
#
# Four runs with momentum, and rates from far too low to far too high (losses above 4 are cut off). Look at this curve
# first, in any run.

# %%
family = {}
for rate in (0.001, 0.01, 0.1):
    family[f"rate {rate:g}"] = courses[f"momentum, rate {rate:g}"]
runs = train(convnet(), SGD(1.0, momentum=0.9), **short)
family["rate 1"] = np.minimum(smooth(runs.losses), 4)
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.curves(
    family,
    blocks,
    "step",
    "training loss",
    {f"log {count}": np.log(count)},
    title="momentum .9",
    ax=ax,
)
ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))

# %% [markdown]
# In a full run, the curves look like this. If the rate is too low, the loss falls slowly, almost on a straight line. If
# the rate is right, it falls quickly and ends low. If the rate is too high, the loss stays at log C or jumps above it.
# Search on a logarithmic scale: first coarse (factors of ten, a few steps each), then fine (factors of two or three,
# longer).
#
# ### Standardise the inputs
#
# The rules for the first weights took inputs whose mean square is about 1. Pixels from 0 to 255 are far larger: the first
# sums are a hundred times too large, and so are the gradients of the first weights. So bring the inputs to a common
# scale. Divide by 255, or subtract the mean and divide by the standard deviation. Take mean and deviation from the
# *training* images alone, and use the same two numbers for validation and test. We compare the three on a network with
# one hidden layer of 64 units and plain SGD at rate .1, and expect that pixels up to 255 spoil the training.

# %%
mean, deviation = images.mean(), images.std()  # of the training images alone
scalings = {
    "0 ... 255": layers.Rescaling(1.0),
    "0 ... 1": layers.Rescaling(1 / 255),
    "mean 0, variance 1": layers.Rescaling(1 / deviation, offset=-mean / deviation),
}
by_scaling = {}
for name, scaling in scalings.items():
    stack = [keras.Input(shape), scaling, layers.Flatten()]
    stack += [layers.Dense(64, activation="relu"), layers.Dense(count)]
    by_scaling[name] = train(keras.Sequential(stack), SGD(0.1), **short)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), width_ratios=(1.4, 1))
lines = {name: np.minimum(smooth(run.losses), 4) for name, run in by_scaling.items()}
plots.curves(lines, blocks, "step", "training loss (cut off at 4)", ax=axes[0])
bars = {name: run.validation for name, run in by_scaling.items()}
plots.bars(bars, "validation accuracy", baselines=chance, ax=axes[1])
record(
    scaled_accuracy=bars["0 ... 1"].mean(),
    standardised_gain=(bars["mean 0, variance 1"] - bars["0 ... 1"]).mean(),
    unscaled_accuracy=bars["0 ... 255"].mean(),
)

# %% [markdown]
# In full runs the network learns nothing from pixels between 0 and 255: the loss ends at log 10. A likely reason: the first
# steps are so long that the hidden units die. Standardised inputs gain about one point over inputs from 0 to 1 in these
# steps, and their loss is less than half as high.
#
# ### Mini-batches
#
# The gradient of a batch is an estimate of the gradient of all images. The error of an average over B images falls with
# 1/√B: four times the images give half the error. So small batches are efficient, as long as they are large enough to
# keep the hardware busy. We measure the error on softmax regression with random weights.

# %%
random = np.random.default_rng(seed)
flat = images.reshape(len(images), -1) / 255.0
weights = random.normal(0, 0.1, (flat.shape[1], count))
whole = loss_and_gradient(weights, flat, labels)[1]
batch_sizes = [2, 4, 8, 16, 32, 64, 128, 256]
noise = []
for size in batch_sizes:
    drawn = random.integers(0, len(flat), (100, size))
    estimates = [loss_and_gradient(weights, flat[one], labels[one])[1] for one in drawn]
    away = [np.linalg.norm(estimate - whole) for estimate in estimates]
    noise.append(np.mean(away) / np.linalg.norm(whole))
expected = noise[0] * (2 / np.array(batch_sizes)) ** 0.5
lines = {"measured": noise, "expected: 1/√B": expected}
plots.curves(
    lines,
    batch_sizes,
    "images in a batch",
    "error of the gradient, relative",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# The same number of *images* in batches of three sizes, one rate: many rough steps against few exact ones.

# %%
seen, network, method = {}, convnet(), SGD(0.05, momentum=0.9)
for size in (10, 50, 250):
    number = max(steps * 25 // size, 2)
    runs = train(network, method, steps=number, batch_size=size, seeds=seeds[:2])
    seen[f"{size} a batch"] = smooth(runs.losses)
at_images = {name: step_numbers(line, steps * 25) for name, line in seen.items()}
plots.curves(seen, at_images, "images seen", "training loss", log_y=True)

# %% [markdown]
# Small batches lower the loss first, and then the loss jumps. With 250 a batch a full run has only 30 steps.
#
# ### Schedules
#
# Long steps behave like small batches: they come near the minimum, then jump about it. Short steps come nearer, but
# later. So begin with long steps. The classic rule: **drop the rate by ten when the validation loss no longer falls**.
# Other schedules fix all rates beforehand.

# %%
horizon = np.arange(300)
cosine, steady = (
    keras.optimizers.schedules.CosineDecay(1.0, 300),
    training.WarmupHoldDecay(1.0, 300, warmup=30),
)
forms = {
    "drop by 10 (at fixed steps)": np.where(
        horizon < 150,
        1,
        np.where(horizon < 240, 0.1, 0.01),
    ),
    "cosine": [float(cosine(step)) for step in horizon],
    "warm-up, hold, decay": [float(steady(step)) for step in horizon],
}
figure, ax = plt.subplots(figsize=(8, 2.6))
plots.curves(forms, horizon, "step", "rate, share of the highest", ax=ax)

# %% [markdown]
# We compare a drop on plateau (Keras's `ReduceLROnPlateau`) with one rate throughout. The jumps show best where the
# batches contradict one another: a linear classifier with batches of 10 and **noisy** labels, a fifth of them replaced
# by random ones. We expect that the training loss falls at once where the rate drops. (The validation labels are clean,
# so the validation loss is lower. We draw one run of each: the drops come at different epochs, and an average over
# several runs would blur them.)


# %%
def by_epochs(model, subset, epochs, batch_size=50, callbacks=()):
    """Train a compiled network, validated after every epoch; the history as arrays."""
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "validation_batch_size": 100,
        "verbose": 0,
    }
    history = model.fit(
        *subset,
        validation_data=validation,
        callbacks=list(callbacks),
        **options,
    ).history
    return {name: np.array(values) for name, values in history.items()}


def noisy(seed):
    """All training images; a fifth of the labels is random, others for each seed."""
    random = np.random.default_rng([seed, 1])
    wrong = random.random(len(labels)) < 0.2
    return images, np.where(wrong, random.integers(0, count, len(labels)), labels)


epochs = max(steps // 15, 3)

# %%
stack = [
    keras.Input((image_size, image_size, 1)),
    layers.Rescaling(1 / 255),
    layers.Flatten(),
    layers.Dense(count),
]
plateaus, network, method = {}, keras.Sequential(stack), SGD(1.0)
for name in ("one rate", "drop by 10 on plateau"):
    drop = []
    if "drop" in name:
        drop.append(keras.callbacks.ReduceLROnPlateau(factor=0.1, patience=2))
    method.learning_rate = 1.0
    restart(network, method, seeds[0])
    keras.utils.set_random_seed(seed)  # both see the images in the same order
    plateaus[name] = by_epochs(network, noisy(seeds[0]), epochs, 10, drop)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
for ax, key in zip(axes, ("loss", "val_loss")):
    plots.curves({name: run[key] for name, run in plateaus.items()}, ax=ax)
    ax.set_title({"loss": "training loss", "val_loss": "validation loss"}[key])

# %% [markdown]
# ## Babysitting a run
#
# Look at the curves of training and validation together. If they are far apart, the network **overfits**: get more
# data, augment, regularise. If they are close together and both are bad, it **underfits**: take a larger network, a
# longer run, a better rate. We provoke both, with a network of two and four filters on all images, and with the larger
# one on 20 images. Every "epoch" has the same number of steps, so the three runs can be compared.

# %%
body = [
    layers.Conv2D(2, 3, activation="relu"),
    layers.Conv2D(4, 3, activation="relu"),
    layers.GlobalAveragePooling2D(),
]
tiny = [
    keras.Input((image_size, image_size, 1)),
    layers.Rescaling(1 / 255),
    *body,
    layers.Dense(count),
]
diagnoses = {
    "underfitting": (keras.Sequential(tiny), everything),
    "overfitting": (convnet(), few(2)),
    "neither": (convnet(), everything),
}

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.8), sharey=True)
for ax, (name, (network, draw)) in zip(axes, diagnoses.items()):
    restart(network, Adam(3e-3), seed)
    subset = transfer.repeat(*draw(seed), max(len(images) // 50, 1), 50, seed)
    run = by_epochs(network, subset, epochs)
    lines = {"training": run["accuracy"], "validation": run["val_accuracy"]}
    plots.curves(lines, title=name, ax=ax)
axes[0].set_ylabel("accuracy")
for ax in axes[1:]:
    ax.get_legend().remove()

# %% [markdown]
# The curve of the first network still rises. Let such a run go on until its curve is flat before you call the network
# too small.
#
# **Learning curves by data size** tell whether more data would help. Train on growing parts of the data, and draw
# training and test accuracy. If the gap between them still closes, more data would help. If both lines are flat and
# close together, you need another model. We draw ours, with the band of the seeds for the test images.

# %%
by_data = {"training images": [], "test images": []}
network, method = convnet(), Adam(3e-3)
for size in sizes:
    accuracies = train(network, method, few(size)).accuracy
    known_images, known_labels = few(size)(seeds[-1])  # what it has just learnt from
    known = accuracy(transfer.predict(network, known_images), known_labels)
    by_data["training images"].append(known)
    by_data["test images"].append(accuracies)
by_data["test images"] = np.stack(by_data["test images"], axis=1)  # (seeds, sizes)

# %%
ax = plots.curves(
    by_data,
    sizes,
    "training images per class",
    "accuracy",
    {"chance": 1 / count},
    log_x=True,
)
ax.set_xticks(sizes, [str(size) for size in sizes])
ax.minorticks_off()
record(
    accuracy_few=by_data["test images"][:, 0].mean(),
    accuracy_all=by_data["test images"][:, -1].mean(),
)

# %% [markdown]
# In a full run the network learns its training images by heart, and nearly so at the largest size. Each doubling of the
# data closes a part of the gap to the test images. For this task more data is the best regulariser. Compare the gains of
# the next section with it.
#
# ## Regularisation
#
# A method that makes a network better on new images, but not on the training images, is called regularisation. We
# measure each method three times, on the same network with two dense layers of 256 units: with 20 **clean** images of
# each class; with all images and the **noisy** labels of above, since labels of real collections have errors; and with
# 20 clean images and a **large start**, first weights eight times as large as Keras draws them. Regularisers show what
# they do where the network overfits or starts badly.
#
# ### L2 and weight decay
#
# A function with large weights bends sharply. L2 adds the penalty λ‖w‖² to the loss; the gradient of the penalty is 2λw.
# **Weight decay** shrinks the weights directly: in each step w ← w − rate · decay · w. Under plain SGD the two are the
# same if decay = 2λ. The weight decay 5e-4 of the classic networks is therefore `L2(2.5e-4)` in Keras, whose penalty is
# λw² (not half of it). We expect equal weights for `L2(2.5e-4)`, and unequal ones for `L2(5e-4)`. (The layer has no
# bias. `weight_decay` shrinks biases, too, unless they are excluded; `kernel_regularizer` does not.)


# %%
def weights_after(optimizer, penalty=None, steps=30):
    """Weights of a dense layer after some steps, from the same random weights."""
    start = keras.initializers.RandomNormal(stddev=0.5, seed=1)
    layer = layers.Dense(
        count,
        use_bias=False,
        kernel_initializer=start,
        kernel_regularizer=penalty,
    )
    model = keras.Sequential([keras.Input(flat.shape[1:]), layer])
    training.compile_classifier(model, optimizer)
    x, y = transfer.repeat(flat, labels, steps, 50, seed)
    model.fit(x, y, batch_size=50, shuffle=False, verbose=0)
    return layer.get_weights()[0]


L2 = keras.regularizers.L2
decayed = weights_after(SGD(0.5, weight_decay=5e-4))
differences = {
    "none": weights_after(SGD(0.5)),
    "L2(2.5e-4)": weights_after(SGD(0.5), L2(2.5e-4)),
}
differences["L2(5e-4)"] = weights_after(SGD(0.5), L2(5e-4))
differences = {name: np.abs(w - decayed).max() for name, w in differences.items()}

# %% tags=["nbval-check-output"]
for name, difference in differences.items():
    print(
        f"{name:10} the same weights as SGD(weight_decay=5e-4):",
        bool(difference < 2e-5),
    )

# %% [markdown]
# With momentum it matters where the decay enters. The update of the classic papers puts it into the velocity, v ← .9
# v − rate · decay · w − rate · g, and this equals L2. Keras's argument `weight_decay` does not go through the velocity.
# Momentum multiplies what goes through it by 1 / (1 − .9) = 10, so the same number decays ten times less than L2 would.
#
# Under Adam the two methods differ for another reason. Adam divides the gradient of the penalty by the size of the other
# gradients, so a weight with large gradients hardly decays. **AdamW** (Loshchilov and Hutter 2019) *decouples* the
# decay: all weights shrink alike. Below, two weights start at 1 and see random gradients of mean zero, one of them
# small ones, the other large ones.


# %%
def shrink(optimizer, penalty, scales=(0.01, 1.0), steps=4 * steps // 3):
    """Weights (steps + 1, weights) under random gradients and penalty * w²."""
    random, w = (
        np.random.default_rng(seed),
        keras.Variable(np.ones(len(scales), "float32")),
    )
    optimizer.build([w])
    course = [np.ones(len(scales))]
    for _ in range(steps):
        gradient = random.choice([-1, 1], len(scales)) * scales
        gradient = gradient + 2 * penalty * course[-1]
        optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [w])
        course.append(ops.convert_to_numpy(w).copy())
    return np.array(course)


coupled, decoupled = (
    shrink(Adam(1e-3), 0.05),
    shrink(keras.optimizers.AdamW(1e-3, weight_decay=2.0), 0),
)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
for ax, course, title in zip(axes, (coupled, decoupled), ("Adam with L2", "AdamW")):
    lines = {"small gradients": course[:, 0], "large gradients": course[:, 1]}
    plots.curves(lines, range(len(course)), "step", "weight", title=title, ax=ax)

# %% [markdown]
# ### Dropout
#
# In each training step, and for each image anew, dropout switches every unit off with probability p (Srivastava et al.
# 2014). No unit can rely on a certain other one, and the network is an average of many thinned ones. **At test time
# nothing is switched off.** The next layer must see the same total as before, so the units that stay are divided by 1 −
# p in training. (This is "inverted" dropout, as Keras has it. The paper multiplies by 1 − p at test time instead.) With
# p = .5 we expect 0s and 2s in training, 1s at test time, and 1 on average over many masks. Below, four images (rows)
# and six units.

# %%
drop = layers.Dropout(0.5, seed=seed)
ones = np.ones((4, 6), "float32")
masks = np.stack([ops.convert_to_numpy(drop(ones, training=True)) for _ in range(400)])
plots.number_equation(
    [
        masks[0],
        "",
        masks[1],
        "",
        ops.convert_to_numpy(drop(ones, training=False)),
        "",
        masks.mean(axis=0),
    ],
    titles={
        0: "training, step 1",
        2: "training, step 2",
        4: "test",
        6: "mean of 400 steps",
    },
)


# %% [markdown]
# ### Max-norm
#
# After each step, max-norm looks at the weights that lead to one unit. If their length ‖w‖ is larger than c, they are
# shortened to c; otherwise they stay (used with dropout by Srivastava et al. 2014). The weights that lead to one unit lie
# along axis 0 of a dense kernel (inputs, units), and along axes 0, 1 *and* 2 of the kernel of a convolution (height,
# width, channels, filters). The default of `keras.constraints.MaxNorm` is axis 0. This is right for dense layers and
# wrong for convolutions, where it bounds each column of three numbers by itself. We draw the lengths of 16 filters of 3 ×
# 3 × 8 after a projection with c = 2. With the wrong axis a filter may be as long as 2 · √(3 · 8) = 9.8.

# %%
kernel = np.random.default_rng(seed).normal(0, 0.6, (3, 3, 8, 16)).astype("float32")
kernel *= np.linspace(0.2, 2, 16)
projections = {"before": kernel}
projections["Keras's default, axis 0"] = keras.constraints.MaxNorm(2)(kernel)
projections["axes 0, 1, 2"] = keras.constraints.MaxNorm(2, axis=(0, 1, 2))(kernel)
norms = {}
for name, w in projections.items():
    norms[name] = np.sqrt((np.asarray(w) ** 2).sum(axis=(0, 1, 2)))
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.curves(norms, range(16), "filter", "‖w‖", {"c = 2": 2}, ax=ax)

# %% [markdown]
# `utils.layers.MaxNorm` takes every axis but the last, which is right for both. For two layers, does the length stay
# below c?

# %% tags=["nbval-check-output"]
dense_kernel = np.random.default_rng(0).normal(size=(50, 7)).astype("float32")
for name, w in {"dense": dense_kernel, "convolution": kernel}.items():
    for constraint in (keras.constraints.MaxNorm(2), MaxNorm(2)):
        longest = np.sqrt(
            (np.asarray(constraint(w)) ** 2).sum(axis=tuple(range(w.ndim - 1))),
        ).max()
        ours = isinstance(constraint, MaxNorm)
        whose = "utils.layers" if ours else "Keras's default"
        print(f"{name:12} {whose:16} within the ball: {bool(longest <= 2.0001)}")

# %% [markdown]
# ### What they gain
#
# Each method gets the same draws, labels and initial weights. We draw the difference to the plain network, mean and
# range over the seeds. If the range crosses zero, nothing is shown. Each method has one strength, chosen beforehand;
# another strength might do better.


# %%
def dense_net(penalty=None, dropout=0.0, constraint=None, batch_norm=False, scale=1.0):
    """Two dense layers of 256 units, and logits; start at `scale` times Keras's."""
    start = keras.initializers.VarianceScaling(scale**2, "fan_avg", "uniform")
    options = {
        "kernel_initializer": start,
        "kernel_regularizer": penalty,
        "kernel_constraint": constraint,
    }
    stack = [
        keras.Input((image_size, image_size, 1)),
        layers.Rescaling(1 / 255),
        layers.Flatten(),
    ]
    for _ in range(2):
        stack.append(layers.Dense(256, use_bias=not batch_norm, **options))
        stack += [layers.BatchNormalization(momentum=0.9)] if batch_norm else []
        stack.append(layers.ReLU())
        stack += [layers.Dropout(dropout, seed=seed)] if dropout else []
    return keras.Sequential([*stack, layers.Dense(count)])


# %%
methods = {
    "plain": {},
    "L2(1e-2)": {"penalty": L2(1e-2)},
    "dropout .5": {"dropout": 0.5},
    "max-norm 1": {"constraint": MaxNorm(1.0)},
}
settings = {  # data, size of the first weights
    "clean": (few(20), 1.0),
    "noisy": (noisy, 1.0),
    "large start": (few(20), 8.0),
}

# %%
accuracies = {}
for name, options in methods.items():
    network, method = dense_net(**options), Adam(3e-3)
    for setting, (draw, scale) in settings.items():
        runs = train(network, method, draw, start=dense_net(scale=scale))
        accuracies[setting, name] = runs.accuracy
gains = {}
for (setting, name), values in accuracies.items():
    gains[setting, name] = values - accuracies[setting, "plain"]

# %%
figure, axes = plt.subplots(3, 1, figsize=(8, 5.2), sharex=True)
for ax, setting in zip(axes, settings):
    plots.bars({name: gains[setting, name] for name in list(methods)[1:]}, "", ax=ax)
    ax.set_title(
        f"{setting}; plain network: {accuracies[setting, 'plain'].mean():.3f}",
    )
    ax.axvline(0, color=plots.BLACK, linewidth=0.8)
axes[-1].set_xlabel("gain in test accuracy over the plain network")
record(
    dropout_gain_clean=gains["clean", "dropout .5"].mean(),
    dropout_gain_noisy=gains["noisy", "dropout .5"].mean(),
    l2_gain_noisy=gains["noisy", "L2(1e-2)"].mean(),
    max_norm_gain_noisy=gains["noisy", "max-norm 1"].mean(),
    max_norm_gain_large=gains["large start", "max-norm 1"].mean(),
)

# %% [markdown]
# The following was seen in full runs with three seeds. With clean labels and a good start the three methods change the
# accuracy by less than the draws do: **no gain that we can show**. Of the noisy labels 18 % are wrong (a fifth are
# random, and a tenth of those are right by chance), and the plain network begins to learn them by heart. There dropout
# gains about three points; L2 and max-norm gain about one point or less on average. Max-norm keeps weights within
# bounds. Where the weights start out of bounds, it gains three to four points, about what the bad start had cost. The
# other two gain nearly as much, and the differences between the three methods are smaller than those between the runs.

# %% [markdown]
# ## Batch normalisation
#
# Batch normalisation (Ioffe and Szegedy 2015) works on each channel by itself, over all images of the batch and all
# places of their maps. It subtracts the mean and divides by the standard deviation. Then the network may choose another
# scale γ and another shift β:
#
# $$\hat x = \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \varepsilon}}, \qquad y = \gamma \hat x + \beta.$$
#
# The ε (.001 in Keras) avoids a division by zero in a constant channel. Each channel has four numbers: γ and β are
# trained; the running mean and variance are not. For 16 channels we expect 32 trainable numbers and 32 others. On the
# way back, the gradient goes through mean and variance, too. The lab asks you to find it.

# %% tags=["nbval-check-output"]
norm = layers.BatchNormalization()
norm.build((None, 4, 4, 16))
print(
    "trained:",
    sum(np.prod(v.shape) for v in norm.trainable_variables).item(),
    "others:",
    end=" ",
)
print(sum(np.prod(v.shape) for v in norm.non_trainable_variables).item())

# %% [markdown]
# > **What the slide says.** "Unit gaussian" activations. Batch normalisation gives them mean 0 and variance 1 and leaves
# > the *form* of their distribution as it was: a shift and a scale cannot make a bell out of two humps.

# %%
random = np.random.default_rng(seed)
humps = np.concatenate(
    [random.normal(2, 0.4, 3000), random.normal(6, 0.8, 2000)],
).astype("float32")
normed = ops.convert_to_numpy(
    layers.BatchNormalization()(humps[:, None], training=True),
)[:, 0]
figure, axes = plt.subplots(1, 2, figsize=(8, 2.4))
for ax, values, name in zip(axes, (humps, normed), ("before", "after")):
    ax.hist(values, bins=80, color=plots.BLUE, density=True)
    ax.set(
        title=f"{name}: mean {abs(values.mean()):.2f}, variance {values.var():.2f}",
        yticks=[],
    )
grid = np.linspace(-3, 3, 200)
axes[1].plot(
    grid,
    np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi),
    color=plots.VERMILLION,
    label="a unit Gaussian",
)
axes[1].legend(fontsize=9)

# %% [markdown]
# ### Training and inference
#
# In training the mean and the variance are those of the batch, so the answer for an image depends on the other images
# of its batch. At test time it must not. So running averages are used then, and each training step moves them by a share
# of 1 − momentum towards the batch. Keras starts them at mean 0 and variance 1 with momentum .99: after 20 steps, .99^20 =
# 82 % of the start is left. We send one image through in two batches.

# %%
norm = layers.BatchNormalization(momentum=0.9)
one, dark, bright = (np.full((1, 1), value, "float32") for value in (1, 0, 9))
answers = {}
for training_ in (True, False):
    for name, neighbour in (("dark", dark), ("bright", bright)):
        answer = norm(np.concatenate([one, neighbour]), training=training_)
        mode = "training" if training_ else "inference"
        answers[f"{mode}, {name} neighbour"] = float(answer[0, 0])
plots.bars(answers, xlabel="output for one and the same input")

# %%
courses = {}
for momentum in (0.9, 0.99):
    norm, courses[f"momentum {momentum}"] = (
        layers.BatchNormalization(momentum=momentum),
        [],
    )
    for _ in range(100):
        courses[f"momentum {momentum}"].append(
            float(ops.convert_to_numpy(norm.moving_mean)[0]) if norm.built else 0.0,
        )
        norm(humps[random.integers(0, len(humps), 64), None], training=True)
figure, ax = plt.subplots(figsize=(8, 2.8))
plots.curves(
    courses,
    range(100),
    "step",
    "running mean",
    {"true mean": humps.mean()},
    ax=ax,
)

# %% [markdown]
# **Freezing.** A batch norm with `trainable = False` keeps γ and β. In Keras it also runs in inference mode, even within
# `fit`: it uses the running statistics and does not change them. This is useful for fine-tuning with few images (topic
# 06).

# %%
for frozen in (False, True):
    norm = layers.BatchNormalization(momentum=0.9)
    norm.build((None, 1))
    norm.trainable = not frozen
    answer = norm(humps[:64, None], training=True)
    moved = bool(ops.convert_to_numpy(norm.moving_mean)[0] != 0)
    print(
        f"frozen {frozen!s:5}  running mean moved: {moved!s:5} ",
        f"output normalised: {abs(float(ops.mean(answer))) < 1e-3}",
    )

# %% [markdown]
# ### What it changes: gradients, rates, initial weights
#
# We compare twelve convolutions with ReLU, with batch norm before each ReLU and without. First the **gradients** before
# training, layer by layer, for initial weights of three sizes (the He deviation times 1/2, 1 and 2). One step of SGD
# with rate 1 moves every weight by its gradient, so we read the gradients from the weights before and after it. Without
# batch norm, each of the twelve layers multiplies the signal by 1/2 or by 2, and the gradient on its way back likewise.


# %%
def deep(batch_norm, scale=1.0):
    """`depth` convolutions of 16 filters and ReLUs; start at `scale` times He."""
    stack = [keras.Input((image_size, image_size, 1)), layers.Rescaling(1 / 255)]
    for number in range(depth):
        start = keras.initializers.VarianceScaling(2.0 * scale**2)
        options = {
            "padding": "same",
            "use_bias": not batch_norm,
            "kernel_initializer": start,
        }
        stack.append(layers.Conv2D(16, 3, **options))
        stack += [layers.BatchNormalization(momentum=0.9)] if batch_norm else []
        stack.append(layers.ReLU())
        stack += [layers.MaxPooling2D()] if number == depth // 2 else []
    return keras.Sequential([*stack, layers.Flatten(), layers.Dense(count)])


# %%
def gradient_sizes(model, optimizer, start):
    """|gradient| / |kernel| of each convolution, on 100 images."""
    restart(model, optimizer, seed, start)
    found = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    kernels = [layer.kernel for layer in found]
    before = [ops.convert_to_numpy(kernel).copy() for kernel in kernels]
    model.train_on_batch(*hundred(seed))
    moves = [old - ops.convert_to_numpy(kernel) for old, kernel in zip(before, kernels)]
    norm = np.linalg.norm
    return [norm(move) / norm(old) for move, old in zip(moves, before)]


# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for ax, batch_norm in zip(axes, (False, True)):
    network, once = deep(batch_norm), SGD(1.0)
    found = {}
    for k in (0.5, 1, 2):
        sizes_ = gradient_sizes(network, once, deep(batch_norm, k))
        found[f"weights × {k:g}"] = sizes_
    plots.curves(found, xlabel="convolution", log_y=True, ax=ax)
    ax.set_title("with batch norm" if batch_norm else "without")
axes[0].set_ylabel("gradient / weights")
axes[0].get_legend().remove()

# %% [markdown]
# Without batch norm each curve is flat. The gradient of a layer is a product of the signal, which the layers before it
# have scaled, and of the gradient from above, which the layers behind it have scaled. Together these are all layers, so
# the product is the same everywhere. But its height depends on the scale by orders of magnitude. With batch norm the
# scale of the weights does not change the output of a layer, so the gradient is proportional to 1 / scale. Relative to
# the weights we expect 1 / scale², four times as much from curve to curve, and see it. Now we **train** them, with
# momentum, at four rates that are ten times apart, and from four initial sizes at a fixed rate. The accuracies are on
# validation images, since we compare rates.

# %%
rates, scales = [1e-3, 1e-2, 1e-1, 1.0], [0.5, 1.0, 2.0, 4.0]
options = {"steps": steps // 3, "seeds": seeds[:3]}
by_rate, by_scale, starts = {}, {}, {}
for batch_norm, name in ((False, "without batch norm"), (True, "with batch norm")):
    network, method = deep(batch_norm), SGD(momentum=0.9)
    by_rate[name], by_scale[name] = [], []
    for rate in rates:
        method.learning_rate = rate
        by_rate[name].append(train(network, method, **options).validation)
    method.learning_rate = 0.01
    for scale in scales:
        runs = train(network, method, start=deep(batch_norm, scale), **options)
        by_scale[name].append(runs.validation)
        starts[f"{name}, weights × {scale:g}"] = smooth(runs.losses, 12)
for both in (by_rate, by_scale):
    both.update({name: np.stack(runs, axis=1) for name, runs in both.items()})

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
sides = (
    (axes[0], by_rate, rates, "rate", "by rate, He weights"),
    (axes[1], by_scale, scales, "initial weights, times He", "by weights, rate .01"),
)
for ax, lines, x, label, title in sides:
    plots.curves(lines, x, label, "", chance, log_x=True, title=title, ax=ax)
axes[0].set_ylabel("validation accuracy")
axes[1].set_xticks(scales, [f"{scale:g}" for scale in scales])
axes[1].minorticks_off()
figure.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=3,
    fontsize=9,
)
for ax in axes:
    ax.get_legend().remove()

# %%
record(
    batch_norm_best=by_rate["with batch norm"].mean(axis=0).max(),
    plain_best=by_rate["without batch norm"].mean(axis=0).max(),
    batch_norm_worst_start=by_scale["with batch norm"].mean(axis=0).min(),
    plain_worst_start=by_scale["without batch norm"].mean(axis=0).min(),
)

# %% [markdown]
# In full runs this is the largest effect of the notebook. Without batch norm the twelve layers learn at one or two of
# the rates, and at the rate .01 only from weights of the right size. With batch norm they learn at rates a hundred
# times apart, and from weights of every size that we tried. At a rate that is far too high, batch norm does not help.
#
# Here is the network of the first page again: twelve convolutions without a mistake, whose first weights are half as
# large as they should be. With weights of the right size the same code learns, though slowly. With batch norm the size
# hardly matters.

# %%
shown = [
    "without batch norm, weights × 0.5",
    "without batch norm, weights × 1",
    "with batch norm, weights × 0.5",
]
lines = {name: starts[name] for name in shown}
figure, ax = plt.subplots(figsize=(8, 3))
at_steps = step_numbers(lines[shown[0]], steps // 3)
plots.curves(
    lines,
    at_steps,
    "step",
    "training loss",
    {f"log {count}": np.log(count)},
    ax=ax,
)

# %% [markdown]
# ### Does batch norm regularise?
#
# In training the statistics of a batch are noisy, and noise may regularise: Ioffe and Szegedy (2015) could leave dropout
# out. We measure it. The network with two dense layers of 256 units gets a batch norm before each ReLU. It sees the 20
# clean images of each class, and all images with noisy labels, in as many steps as before. Beside it stands dropout.

# %%
network, method, against = dense_net(batch_norm=True), Adam(3e-3), {}
for setting in ("clean", "noisy"):
    runs = train(network, method, settings[setting][0])
    gained = runs.accuracy - accuracies[setting, "plain"]
    against[f"{setting}: batch norm"] = gained
    against[f"{setting}: dropout .5"] = gains[setting, "dropout .5"]
figure, ax = plt.subplots(figsize=(8, 2.6))
plots.bars(against, "gain in test accuracy over the plain network", ax=ax)
ax.axvline(0, color=plots.BLACK, linewidth=0.8)
record(
    batch_norm_gain_clean=against["clean: batch norm"].mean(),
    batch_norm_gain_noisy=against["noisy: batch norm"].mean(),
)

# %% [markdown]
# In full runs batch norm gains about one point with few clean images, more than dropout. With noisy labels it loses about
# seven points. A likely reason: batch norm makes training faster, so in the same number of steps the network learns more
# of the wrong labels by heart. So batch norm is no general remedy against overfitting. It may help a little, and it may
# need a regulariser beside it, or an earlier stop.
#
# ## Early stopping
#
# The validation loss falls, then rises, while the training loss goes on falling. `EarlyStopping(patience=5,
# restore_best_weights=True)` waits five epochs for a lower validation loss, then goes back to the best weights. It costs
# only the validation images. We try it on the noisy labels, and let the training run on to see what stopping would have
# saved.


# %%
def stopped(losses, patience=5):
    """The epoch to which early stopping goes back."""
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best


# %%
watched, network, method = [], dense_net(), Adam(3e-3)
for one in seeds:
    restart(network, method, one)
    watched.append(by_epochs(network, noisy(one), max(steps // 12, 3)))
best_epochs = [stopped(run["val_loss"]) for run in watched]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
runs = {"training": np.stack([run["loss"] for run in watched])}
runs["validation"] = np.stack([run["val_loss"] for run in watched])
plots.curves(runs, ylabel="loss", title=f"{repeats} runs on noisy labels", ax=axes[0])
ends = {"last epoch": [run["val_accuracy"][-1] for run in watched]}
ends["early stopping"] = [
    run["val_accuracy"][best]
    for run, best in zip(watched, best_epochs)  # one for each seed
]
plots.bars(ends, "validation accuracy", ax=axes[1])
record(
    early_stopping_gain=np.mean(ends["early stopping"]) - np.mean(ends["last epoch"]),
)

# %% [markdown]
# The validation labels are clean, so at first the validation loss is the lower one. (The validation images chose the
# epoch, so their accuracy is a little too high for it; a report would use the test images.)
#
# ## Ensembles
#
# Train several networks from different initial weights and average their probabilities. They make different mistakes,
# and the average makes fewer. Krizhevsky et al. (2012) report 18.2 % top-5 errors with one network and 15.4 % with seven
# [from the paper; two of the seven had seen more data; a top-5 error: the true class is not among the five most
# probable]. We try two settings, which differ in more than the labels: convolutional networks on the same 100 clean
# images, and dense ones on all images with the same noisy labels, `members` of each. We draw the error of the average of
# one, of two, of three networks, and so on.


# %%
def errors_by_size(logits):
    """Errors (orders, members) of the mean of 1, 2, ... members, in 20 orders."""
    members, rows = softmax(logits), []
    for order in range(20):
        mixed = members[np.random.default_rng(order).permutation(len(members))]
        joined_by = np.arange(1, len(members) + 1)[:, None, None]
        averages = np.cumsum(mixed, axis=0) / joined_by
        rows.append((averages.argmax(axis=2) != test_labels).mean(axis=1))
    return np.array(rows)


# %%
joined = range(100 * seed, 100 * seed + members)
ensembles = {}
for name, network, draw in (
    ("10 images of each class", convnet(), hundred),
    ("noisy labels", dense_net(), noisy),
):
    drawn = draw(seed)  # the same images for all members
    runs = train(network, Adam(3e-3), lambda _, drawn=drawn: drawn, seeds=joined)
    ensembles[name] = errors_by_size(runs.logits)
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.curves(ensembles, xlabel="networks in the average", ylabel="test error", ax=ax)
saved = {}
for name, errors_ in ensembles.items():
    alone, together = errors_.mean(axis=0)[[0, -1]]
    saved[name] = alone - together
record(
    ensemble_gain_clean=saved["10 images of each class"],
    ensemble_gain_noisy=saved["noisy labels"],
)

# %% [markdown]
# The band spans the orders in which the members join. In full runs with noisy labels, seven networks make three to four
# errors less in a hundred images, with clean labels one less or none. An ensemble seldom does worse than its average
# member (the best member alone may do better). It costs more than all other methods: seven times the training and seven
# times the prediction.

# %% [markdown]
# ## Why vision is hard
#
# A label names what a picture shows; the computer gets numbers. Five difficulties lie between them.
#
# **The semantic gap.** A cat, and what is stored of the framed part. Nothing in the numbers says "eye".

# %%
cat = skimage.data.chelsea()[:, 80:380]  # (300, 300, 3)
grey_cat = skimage.color.rgb2gray(cat) * 255
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8))
axes[0].imshow(cat)
axes[0].add_patch(
    plt.Rectangle((55, 95), 30, 30, fill=False, edgecolor=plots.ORANGE, linewidth=2),
)
axes[0].set_axis_off()
plots.number_matrix(
    grey_cat[95:125, 55:85][::3, ::3].round().astype(int),
    title="every third pixel",
    ax=axes[1],
)

# %% [markdown]
# **Illumination.** The same cat under other lights. Every number changes; the cat is the same.

# %%
ramp = np.linspace(0.1, 1.6, 300)[None, :, None]
lights = {
    "daylight": cat,
    "dusk": cat * 0.25,
    "from the right": cat * ramp,
    "lamp": cat * [1.25, 0.9, 0.5],
    "against the light": 40 + cat * 0.3 + 150 * (ramp - 0.1) / 1.5,
}
for name, light in lights.items():
    lights[name] = np.clip(light, 0, 255).astype("uint8")
plots.show_images(list(lights.values()), titles=list(lights), columns=5, tile=1.6)

# %% [markdown]
# **Occlusion.** Objects hide one another. Often a third of an object must be enough. In these drawn scenes the framed
# object is the one that is hidden most.

# %%
crowd = shapes.scenes(24, config="crowded", seed=seed)
crowd = sorted(crowd, key=lambda scene: scene.shares.min())[:4]
hidden = [int(scene.shares.argmin()) for scene in crowd]
plots.show_objects(
    [scene.image for scene in crowd],
    [scene.boxes[i : i + 1] for scene, i in zip(crowd, hidden)],
    [scene.labels[i : i + 1] for scene, i in zip(crowd, hidden)],
    classes=shapes.CLASSES,
    titles=[f"{scene.shares[i]:.0%} visible" for scene, i in zip(crowd, hidden)],
    tile=2,
)

# %% [markdown]
# **Variation within a class.** Ten times the small letter a, in different typefaces and at different angles, and ten
# handwritten digits 4.

# %%
letters, letter_labels = data.arrays("glyphs", "train", per_class=10, seed=seed)
written, written_labels = data.arrays("digits", "train", 32)
variety = np.concatenate(
    [letters[letter_labels == 0][:10], written[written_labels == 4][:10]],
)
plots.show_images(variety, columns=10, tile=0.8)

# %% [markdown]
# **Background.** A plain disc on grass, and a disc of other grass on grass. Both have the same sharp outline, but the
# second is hard to see.

# %%
grass = skimage.data.grass()
y, x = np.mgrid[:200, :200]
disc = np.hypot(y - 110, x - 90) < 45
ground = grass[:200, :200]
other_grass = np.rot90(grass[300:500, 300:500])
camouflage = [np.where(disc, cloth, ground) for cloth in (170, other_grass)]
plots.show_images(
    [*camouflage, disc],
    titles=["grey on grass", "grass on grass", "where the disc is"],
    columns=3,
    tile=2.2,
)

# %% [markdown]
# What if we compare pixels? Below, the mean difference per pixel to the cat in daylight. By this measure a cup of coffee
# is more like the cat than the cat at dusk is.

# %%
cup = skimage.data.coffee()[50:350, 150:450]
covered = cat.copy()
covered[75:225, 75:225] = 114
others = {"moved by 20 pixels": np.roll(cat, 20, axis=1), "a quarter covered": covered}
others |= {f"light: {name}": lights[name] for name in list(lights)[1:]}
others["a cup of coffee"] = cup
distances = {}
for name, other in others.items():
    distances[name] = np.abs(other.astype(float) - cat).mean()
plots.bars(distances, xlabel="mean difference to the cat, grey values")

# %% [markdown]
# ## Augmentation
#
# Some changes of an image do not change its label. Teach them by example: change the training images at random, each
# time anew, as the world changes them. There are four kinds: **geometry** (mirror, turn, scale, shift, shear; crop
# follows below), **colour**, **noise, blur and occlusion** (cutout: DeVries and Taylor 2017), and **weather**. Here are
# most layers of `utils.data.augmentation` on one image. Of six draws we show the one that changes the middle of the
# image most.

# %%
astronaut = skimage.transform.resize(
    skimage.data.astronaut()[:400, 30:430],
    (160, 160),
    anti_aliasing=True,
)
astronaut = (astronaut * 255).astype("uint8")
zoo = {
    "mirror": augmentation.Flip(1.0, seed=seed),
    "turn": augmentation.Affine(rotation=25, seed=seed),
    "scale": augmentation.Affine(scale=0.5, seed=seed),
    "shift": augmentation.Affine(translation=0.2, seed=seed),
    "shear": augmentation.Affine(shear=20, seed=seed),
    "brightness": augmentation.Brightness(0.4, seed=seed),
    "contrast": augmentation.Contrast(0.7, seed=seed),
    "saturation": augmentation.Saturation(0.9, seed=seed),
    "hue": augmentation.Hue(0.3, seed=seed),
    "noise": augmentation.Noise(0.2, seed=seed),
    "salt and pepper": augmentation.SaltAndPepper(0.1, seed=seed),
    "blur": augmentation.Blur(3.0, seed=seed),
    "cutout": augmentation.Cutout(0.4, seed=seed),
    "fog": augmentation.Fog(0.9, seed=seed),
    "rain": augmentation.Rain(0.9, seed=seed),
    "snow": augmentation.Snow(0.9, seed=seed),
}


# %%
def strongest(layer, image, draws=6):
    """Of some draws the one that changes the middle of the image most."""
    changed = ops.convert_to_numpy(layer(np.repeat(image[None], draws, axis=0)))
    size = image.shape[0]
    middle = np.s_[size // 4 : -size // 4, size // 4 : -size // 4]
    before = image[middle].astype(float)
    moved = [np.abs(one[middle] - before).mean() for one in changed]
    return changed[np.argmax(moved)]


gallery = {"original": astronaut}
gallery |= {name: strongest(layer, astronaut) for name, layer in zoo.items()}
plots.show_images(list(gallery.values()), titles=list(gallery), columns=6, tile=1.35)

# %% [markdown]
# **Geometry moves boxes and masks, too.** Colour and weather leave them where they are, and so does cutout: the object
# is still there, only hidden. We draw one scene with its boxes and masks after each change.

# %%
scene = shapes.scene(3, seed=seed, objects=(3, 3))
example = {key: getattr(scene, key) for key in ("image", "boxes", "labels", "masks")}
moves = {
    "mirror": zoo["mirror"],
    "turn": zoo["turn"],
    "scale": zoo["scale"],
    "shear": zoo["shear"],
}
moves |= {
    "cutout": zoo["cutout"],
    "snow": zoo["snow"],
    "crop": augmentation.Crop((64, 64), seed=seed),
}

# %%
moved, on = [example], example["masks"].any(axis=0)  # where the objects are
for name, layer in moves.items():
    draws = []
    for _ in range(8 if name == "cutout" else 1):
        draws.append({key: np.asarray(part) for key, part in layer(example).items()})
    if name == "cutout":  # the draw that hides most of the objects
        draws.sort(key=lambda one: (one["image"][on] != example["image"][on]).sum())
    moved.append(draws[-1])
parts = [[one[key] for one in moved] for key in ("image", "boxes", "labels", "masks")]
plots.show_objects(
    *parts,
    classes=shapes.CLASSES,
    names=False,
    titles=["original", *moves],
    columns=4,
    tile=2,
)

# %% [markdown]
# A box must be tight around what is left of its mask. For the mirrored, turned, scaled and sheared scene we compute
# the boxes of the moved masks anew, and expect the boxes that came out, up to a pixel.

# %% tags=["nbval-check-output"]
fixed = shapes.scene(3, objects=(3, 3))
example = {key: getattr(fixed, key) for key in ("image", "boxes", "labels", "masks")}
amounts = {"turn": {"rotation": 25}, "scale": {"scale": 0.5}, "shear": {"shear": 20}}
for name in ("mirror", "turn", "scale", "shear"):
    layer = augmentation.Flip(1.0)
    if name != "mirror":
        layer = augmentation.Affine(**amounts[name], seed=0)
    after = {key: np.asarray(part) for key, part in layer(example).items()}
    apart = []
    for mask, box in zip(after["masks"], after["boxes"]):
        rows, columns = (
            np.flatnonzero(mask.any(axis=1)),
            np.flatnonzero(mask.any(axis=0)),
        )
        tight = [0, 0, 0, 0]
        if len(rows):
            tight = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        apart.append(np.abs(box - tight).max())
    print(
        f"{name:7} {len(apart)} boxes, each within a pixel of its mask's:",
        bool(max(apart) <= 1),
    )

# %% [markdown]
# ### What it gains
#
# Augmentation helps with few images, and only if the task allows the change. We take five images of each class, and each
# kind of augmentation by itself. We expect a gain from small turns and shifts, since people write that way, and a loss
# from mirroring, since a mirrored digit is no digit.


# %%
def augmented(layer):
    """A function (images, generator) -> images for `train`."""
    return layer and (lambda batch, generator: ops.convert_to_numpy(layer(batch)))


geometry = augmentation.Affine(
    rotation=12,
    scale=0.12,
    translation=0.08,
    edges="reflect",
    seed=seed,
)
kinds = {
    "none": None,
    "turn, scale, shift": geometry,
    "brightness, contrast": augmentation.augment(
        [augmentation.Brightness(0.2), augmentation.Contrast(0.3)],
        seed=seed,
    ),
    "noise": augmentation.Noise(0.15, seed=seed),
    "cutout": augmentation.Cutout(0.3, seed=seed),
    "mirror": augmentation.Flip(0.5, seed=seed),
}

# %%
network, method = convnet(), Adam(3e-3)
by_kind = {}
for name, layer in kinds.items():
    by_kind[name] = train(network, method, few(5), augment=augmented(layer)).accuracy

# %%
by_size = {
    "none": {5: by_kind["none"]},
    "turn, scale, shift": {5: by_kind["turn, scale, shift"]},
}
for name, runs in by_size.items():
    for size in sorted({2, 20, per_class}):
        augment = augmented(kinds[name])
        runs[size] = train(network, method, few(size), augment=augment).accuracy
counts = sorted(by_size["none"])
lines = {}
for name, runs in by_size.items():
    lines[name] = np.stack([runs[size] for size in counts], axis=1)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
gains = {name: by_kind[name] - by_kind["none"] for name in list(kinds)[1:]}
plots.bars(
    gains,
    xlabel="gain in test accuracy",
    title="5 images of each class",
    ax=axes[0],
)
axes[0].axvline(0, color=plots.BLACK, linewidth=0.8)
plots.curves(
    lines,
    counts,
    "training images per class",
    "test accuracy",
    log_x=True,
    ax=axes[1],
)
axes[1].set_xticks(counts, [str(size) for size in counts])
axes[1].minorticks_off()
record(
    augmentation_gain_few=gains["turn, scale, shift"].mean(),
    augmentation_gain_all=(lines["turn, scale, shift"] - lines["none"])[:, -1].mean(),
    mirror_gain_few=gains["mirror"].mean(),
)

# %% [markdown]
# In full runs with five images of each class, turns and shifts gain most: some three points on average. The runs differ
# by as much, since the result depends on which fifty images were drawn. Cutout gains less. For brightness and noise we
# can show no gain: these digits hardly differ in either. Mirroring harms. The gain shrinks with the number of images,
# and with 100 of each class there is none, or a small loss. A likely reason: the images show the variations already, and
# a small network also has to learn images that nobody would write. And in so few steps the augmented runs may not have
# finished. An augmentation states what you know about the task. If it is wrong, the accuracy falls.
#
# ## Summary
#
# You can now
#
# - explain why little gradient arrives below many sigmoids, and how a ReLU dies;
# - pool forwards and backwards by hand: the largest value gets the gradient, overlapping windows add up, averages
#   share;
# - check a network before you train it: first loss log C, numeric gradients, 100 images by heart;
# - standardise inputs, choose the size of the first weights, an optimizer, a rate and a schedule, and read a curve;
# - use weight decay, dropout, max-norm, batch normalisation, early stopping, ensembles and augmentation, and measure
#   over several seeds whether they gain anything.
#
# ## Exercises
#
# 1. (easy) Pool the 5 × 5 matrix with 2 × 2 windows at stride 1, forwards and, with a 1 arriving at each of the 16
#    outputs, backwards, by hand; then check with `max_pool_backward`. *Hint: no window has a tie, but many numbers
#    win several windows, and all gradients sum up to 16.*
# 2. (easy) What is the first loss of a network with 1,000 classes whose logits are all 0? And of one that gives the
#    true class a logit of 10? *Hint: log(1 + 999 e^−10).*
# 3. (medium) Replace `Adam(3e-3)` in the comparison of regularisers by SGD with momentum at two rates. Does the order
#    of the methods stay? *Hint: the argument `optimizer` of `train`.*
# 4. (medium) Raise the share of random labels from 0 to .6. From where on does dropout gain more than the seeds
#    differ? *Hint: `noisy`.*
# 5. (medium) Give the deep network without batch norm the residual connections of topic 04, or a warm-up of the rate.
#    Which of the two rescues it at more rates? *Hint: `training.WarmupHoldDecay` as the rate.*
# 6. (hard) Fold a trained batch norm into the convolution before it: new weights and a bias that give the same output
#    in inference. *Hint: multiply each filter by γ / √(σ² + ε).*
#
# ## Further reading
#
# - X. Glorot and Y. Bengio, *Understanding the difficulty of training deep feedforward neural networks*, AISTATS
#   2010.
# - A. Krizhevsky, I. Sutskever and G. Hinton, *ImageNet classification with deep convolutional neural networks*, NIPS
#   2012.
# - N. Srivastava et al., *Dropout: a simple way to prevent neural networks from overfitting*, JMLR 15, 2014.
# - S. Ioffe and C. Szegedy, *Batch normalization*, ICML 2015.
# - K. He et al., *Delving deep into rectifiers*, ICCV 2015.
# - D. Kingma and J. Ba, *Adam: a method for stochastic optimization*, ICLR 2015.
# - T. DeVries and G. Taylor, *Improved regularization of convolutional neural networks with cutout*, 2017.
# - I. Loshchilov and F. Hutter, *Decoupled weight decay regularization*, ICLR 2019.
