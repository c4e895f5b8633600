# %% [markdown]
# # 06 Transfer learning: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/06_transfer_learning.ipynb)
#
# **Ten pictures of each digit, and a network that has never seen a digit.** It was trained on printed letters. You take
# its features, put a classifier of your own on top, and then let its upper layers learn on, gently.
#
# You will be able to
#
# - turn a pretrained network into a feature extractor that reads images in batches of one size;
# - scale features without a leak from the test images, and train a softmax classifier on them by hand;
# - move that classifier into the network, as a dense layer that reads features as they are;
# - freeze a part of a network, batch normalisation included, and say what still learns;
# - give each group of layers its own learning rate, and stop where the validation loss was lowest.
#
# It takes about two hours to solve. There are eight gaps and two questions, 20 points. The lab runs in about a minute.

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
seed: int = 0  # [0, ] which images are drawn, and in which order they are trained on
source: str = "glyphs"  # {glyphs, imagenet} what the network was trained on before
target: str = "digits"  # a data set, or the path of a folder with a subfolder per class
image_size: int = 32  # [16, 224] height and width that the images are brought to
per_class: int = 10  # [2, 200] training images of each class
epochs: int = 30  # [1, 200] most passes over them when fine-tuning
rate: float = 3e-3  # [1e-6, 0.1] learning rate of the top layer in fine-tuning
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
floor: float = 0.1  # [-1, 1] share of the validation loss that fine-tuning takes away

# %%
from functools import partial

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from sklearn.linear_model import LogisticRegression

import utils
from utils import checks, data, plots, pretrained, results, session, training, transfer
from utils.checks import parts

session.start(seed)

# %% [markdown]
# The network is a stack of convolutions without a classifier. Images go in as they are, 0 to 255, and maps of features
# come out. The next cell holds everything that depends on the network: the layer up to which you will freeze it, and
# the first layers of its three groups. The first group is frozen. The second one learns gently. The third one is the
# classifier that you will add; its layer is called `logits`.

# %%
if source == "glyphs":
    backbone, channels = pretrained.load("glyphs"), 1
    frozen_to, groups = "conv4_relu", ["conv1", "conv5", "logits"]
else:
    backbone, channels = pretrained.imagenet("MobileNetV2"), 3
    frozen_to = "block_13_project_BN"
    groups = ["Conv1", "block_14_expand", "logits"]
classes = data.chosen(target, on_error=on_error).classes
judged = target in ("digits", "clothing")  # the floor was measured on these
print(f"{backbone.count_params():,} parameters, trained on {source}")
print(f"{len(classes)} new classes: {', '.join(classes)}")

# %% [markdown]
# There are three sets of images. You learn from the few training images alone. With the validation images you choose
# between settings, as often as you like. The test images are used once, at the end of the lab.

# %%
options = {"image_size": image_size, "channels": channels, "on_error": on_error}
images, labels = data.arrays(target, "train", per_class=per_class, seed=seed, **options)
validation_images, validation_labels = data.arrays(target, "validation", **options)
most = np.bincount(validation_labels).max()
chance = most / len(validation_labels)  # what the most frequent class alone would reach
shown = transfer.draw(labels, 2, seed)
plots.show_images(images[shown], labels[shown], classes=classes, columns=10, tile=0.8)

# %% [markdown]
# The checks use three helpers of `utils.checks`. The first, `agree`, compares an answer with what was expected, and says
# where they differ. The second, `parts`, looks whether an answer has all its parts. The third, `own_work`, notices when
# your function only calls the function of the course that does the same.

# %%
agree = partial(checks.agree, scaled=True)
ready = {"embed", "freeze", "discriminative_rates"}
own_work = partial(checks.own_work, of=utils, names=ready)

# %% [markdown]
# ## 1. Features (2 points)
#
# Write `embed(model, images, batch_size)`. Run the images through the model in their order, and average each feature
# map over its height and width (global average pooling). The model has to run as it does in use, not as it does in
# training: batch normalisation and dropout would else give other values.
#
# In: a model that gives maps (batch, height, width, D); images (N, H, W, C). Out: an array (N, D), one row for each
# image.
#
# Every batch holds exactly `batch_size` images, because TensorFlow compiles a model anew for each new size. Fill up the
# last batch with copies of an image, and leave out their rows.
#
# The check counts your batches. It compares your values with a model that can be worked out by hand: its first map is
# the image, its second map is half of the image.


# %% gap="features" stub="run the images through the model in batches of one size and average the maps over height and width"
def embed(model, images, batch_size=32):
    ### BEGIN SOLUTION
    rows = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        copies = np.repeat(batch[-1:], batch_size - len(batch), axis=0)
        filled = np.concatenate([batch, copies])
        maps = ops.convert_to_numpy(model(filled, training=False))
        rows.append(maps.mean(axis=(1, 2))[: len(batch)])
    return np.concatenate(rows)
    ### END SOLUTION


# %%
class Halves(keras.Model):
    """Gives the image and its half, and notes every batch's size and kind of use.

    In training it adds 100, so that the two uses can be told apart.
    """

    def call(self, pixels, training=None):
        self.sizes = [*getattr(self, "sizes", []), pixels.shape[0]]
        pixels = ops.cast(pixels, "float32") + (100.0 if training else 0.0)
        return ops.concatenate([pixels, pixels / 2], axis=-1)


# %% check="features" points=1
by_hand = Halves()
ramp = np.arange(5 * 2 * 2, dtype="float32").reshape(5, 2, 2, 1)
means = np.array([1.5, 5.5, 9.5, 13.5, 17.5])  # of the five images
expected = np.stack([means, means / 2], axis=1)
answer = embed(by_hand, ramp, 2)
hint = "the means of five images with two maps, in order"
assert answer is not None, "the function returned None: has it a return?"
rows = len(answer)
assert rows == 5, f"5 rows for 5 images, got {rows}: leave out the rows of copies"
added = expected + np.array([100, 50])  # what `Halves` adds in training
mistakes = [
    ("that is the maximum of each map", expected + np.array([1.5, 0.75])),
    ("the model ran as in training: call it with training=False", added),
]
assert agree(answer, expected, hint, mistakes)
sizes = sorted(set(by_hand.sizes))
assert sizes == [2], f"every batch has batch_size = 2 images, yours had {sizes}"
print("passed: five means of each map, from batches of two")

# %% check="features" points=1
odd = np.random.default_rng(1).normal(size=(7, 3, 5, 2)).astype("float32")
expected = np.concatenate([odd.mean(axis=(1, 2)), odd.mean(axis=(1, 2)) / 2], axis=1)
for size in (1, 3, 7, 20):
    hint = f"seven images of 3 × 5 pixels and two channels, batch_size = {size}"
    assert agree(embed(Halves(), odd, size), expected, hint)
assert own_work(embed, Halves(), odd, 3)
### BEGIN HIDDEN TESTS
noise = np.random.default_rng(2).integers(0, 255, (9, 16, 16, 1), "uint8")
small = pretrained.load("glyphs", input_shape=(16, 16, 1))
maps = ops.convert_to_numpy(small(noise, training=False))
hint = "uint8 images through the letters' network, batch_size = 4"
assert agree(embed(small, noise, 4), maps.mean(axis=(1, 2)), hint, rtol=1e-3)
### END HIDDEN TESTS
print("passed: batches smaller than, as large as, and larger than the set")

# %% [markdown]
# From here on each image is a row of numbers, its *code*. Do the codes of one class lie together, before any training?
# Each row of the picture is an image, ordered by class. Each column is a feature, divided by its largest value.

# %%
codes = np.asarray(embed(backbone, images))
validation_codes = np.asarray(embed(backbone, validation_images))

figure, ax = plt.subplots(figsize=(8, 3.2))
ordered = codes[np.argsort(labels, kind="stable")][:, :128]
largest = np.maximum(ordered.max(axis=0), 1e-6)
ax.imshow(ordered / largest, aspect="auto", cmap="viridis")
ax.set(xlabel="feature", ylabel="image, by class", title="Bands are classes")
ax.set_yticks(np.cumsum(np.bincount(labels)) - np.bincount(labels) / 2 - 0.5, classes)
ax.grid(False)

# %% [markdown]
# ## 2. Scale without a leak (2 points)
#
# Features differ in size. A classifier that is trained with one learning rate wants them alike. Write
# `standardise(codes, *others)`. Shift and scale each feature so that the *training* codes have the mean 0 and the
# standard deviation 1. Apply the same shift and the same scale to the other arrays. A feature that is constant over the
# training images becomes 0 there, without a division by zero. A feature that hardly varies, say by one billionth, is
# not constant.
#
# In: codes (N, D), and any number of arrays (M, D). Out: a list of arrays, the training codes first. The arrays that
# came in stay as they were.
#
# The check looks whether the other codes had a say in the shift or the scale.


# %% gap="scale" stub="shift and scale all arrays by the mean and the deviation of the first"
def standardise(codes, *others):
    ### BEGIN SOLUTION
    constant = codes.max(axis=0) == codes.min(axis=0)
    mean, scale = codes.mean(axis=0), np.where(constant, 1, codes.std(axis=0))
    return [(array - mean) / scale for array in (codes, *others)]
    ### END SOLUTION


# %% check="scale" points=1
known = np.array([[0.0, 1.0, 7.0, 2e-9], [4.0, 3.0, 7.0, 6e-9]])
unseen = np.array([[2.0, 5.0, 7.0, 8e-9]])
kept = known.copy(), unseen.copy()
with np.errstate(all="ignore"):
    answer = standardise(known, unseen)
scaled, scaled_unseen = parts(answer, "the training codes", "the others")
hint = "column 2 is constant: it becomes 0, and all numbers are finite"
assert np.isfinite(np.asarray(scaled)).all(), f"{hint}, got\n{scaled}"
hint = "the training codes: mean 0 and deviation 1; a constant feature becomes 0"
expected = np.array([[-1, -1, 0, -1], [1, 1, 0, 1]])
added = (known - known.mean(axis=0)) / (known.std(axis=0) + 1e-8)
mistakes = [("the last feature varies: add nothing to its deviation", added)]
assert agree(scaled, expected, hint, mistakes)
hint = "(2 - 2) / 2, (5 - 2) / 1 and (8 - 4) / 2: whose mean and deviation were taken?"
assert agree(np.asarray(scaled_unseen)[:, [0, 1, 3]], [[0, 3, 2]], hint)
for name, array, before in zip(("training", "other"), (known, unseen), kept):
    assert agree(array, before, f"the {name} codes that came in have changed")
print("passed: the deviation of the training codes, also where it is tiny or 0")

# %% check="scale" points=1
noise = np.random.default_rng(2).normal(3, 5, (40, 6))
first, second, third = parts(standardise(noise, noise * 10, noise[:1]), *"abc")
by_hand = (noise - noise.mean(axis=0)) / noise.std(axis=0)
assert agree(first, by_hand, "the first of three arrays")
tenfold = (noise * 10 - noise.mean(axis=0)) / noise.std(axis=0)
leaks = [("scaled by its own mean and deviation", by_hand)]
assert agree(second, tenfold, "the second of three arrays", leaks)
assert agree(third, by_hand[:1], "the third of three arrays, which has one row")
(alone,) = parts(standardise(noise), "the training codes")
assert agree(alone, by_hand, "the training codes without any others")
print("passed: any number of other arrays")

# %% [markdown]
# ## 3. A classifier by hand (3 points)
#
# Softmax regression is a dense layer with one output for each class. Write `softmax_step`: one step of gradient descent
# for it. With the probabilities $p = \mathrm{softmax}(xW + b)$ and the one-hot labels $y$, the mean cross-entropy over
# $N$ images with the penalty $\frac{\lambda}{2}\lVert W \rVert^2$ has the gradients
#
# $$\frac{\partial L}{\partial W} = \frac{1}{N} x^\top (p - y) + \lambda W, \qquad \frac{\partial L}{\partial b} = \frac{1}{N}\sum (p - y).$$
#
# In: codes (N, D), labels (N,) ints, weights (D, C), bias (C,), the learning rate, and `decay`, the $\lambda$. Out: the
# new weights and the new bias. The old ones stay as they were. Large logits must not overflow.
#
# The check compares with a numeric derivative of the loss.


# %% gap="softmax" stub="return the weights and the bias after one step of gradient descent"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    ### BEGIN SOLUTION
    logits = codes @ weights + bias
    shifted = logits - logits.max(axis=1, keepdims=True)  # nothing overflows
    exponentials = np.exp(shifted)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    error = (probabilities - np.eye(weights.shape[1])[labels]) / len(codes)  # (N, C)
    slope = codes.T @ error + decay * weights
    return weights - rate * slope, bias - rate * error.sum(axis=0)
    ### END SOLUTION


# %%
def loss(codes, labels, weights, bias, decay):
    logits = codes @ weights + bias
    of_label = logits[np.arange(len(labels)), labels]
    entropy = np.mean(np.log(np.exp(logits).sum(axis=1)) - of_label)
    return entropy + decay / 2 * np.sum(weights**2)


def numeric_slope(function, at):
    """The gradient of a function of an array, by small steps to either side."""
    slope = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        nudge = np.zeros_like(at)
        nudge[index] = 1e-6
        slope[index] = (function(at + nudge) - function(at - nudge)) / 2e-6
    return slope


rng = np.random.default_rng(3)
x, y = rng.normal(size=(6, 4)), np.array([0, 2, 1, 1, 0, 2])
w, b = rng.normal(size=(4, 3)), rng.normal(size=3)
of_weights = numeric_slope(lambda w: loss(x, y, w, b, 0.1), w)
of_bias = numeric_slope(lambda b: loss(x, y, w, b, 0.1), b)

# %% check="softmax" points=2
answer = softmax_step(x, y, w, b, rate=0.5, decay=0.1)
new_w, new_b = parts(answer, "the weights", "the bias")
hint = "the weights less rate times the numeric gradient"
alone = of_weights - 0.1 * w  # without the penalty
mistakes = [
    ("you go uphill: subtract the gradient", w + 0.5 * of_weights),
    ("divide by the number of images", w - 0.5 * (6 * alone + 0.1 * w)),
    ("the penalty is missing", w - 0.5 * alone),
]
assert agree(new_w, w - 0.5 * of_weights, hint, mistakes)
mistakes = [
    ("the bias has not moved", b),
    ("you go uphill: subtract the gradient", b + 0.5 * of_bias),
    ("divide by the number of images", b - 3 * of_bias),
    ("the penalty is for the weights alone", b - 0.5 * (of_bias + 0.1 * b)),
]
hint = "the bias less rate times the numeric gradient"
assert agree(new_b, b - 0.5 * of_bias, hint, mistakes)
print("passed: the numeric gradient, for the weights and for the bias")

# %% check="softmax" points=1
kept_w, kept_b = w.copy(), b.copy()
softmax_step(x, y, w, b, rate=1.0)
assert agree(w, kept_w, "the weights that came in have changed: make new ones")
assert agree(b, kept_b, "the bias that came in has changed: make a new one")
with np.errstate(all="ignore"):
    steep, two = np.diag([1e4, -1e4]), np.array([1, 0])
    steep_w, steep_b = softmax_step(np.eye(2), two, steep, np.zeros(2), rate=1)
hint = "after logits of 10,000: subtract the largest logit of each row first"
expected = [[1e4 - 0.5, 0.5], [0, -1e4]]
assert agree(steep_w, expected, f"the weights {hint}", rtol=1e-6)
assert agree(steep_b, [-0.5, 0.5], f"the bias {hint}")
print("passed: nothing that came in has changed, and nothing overflows")

# %% [markdown]
# 300 steps train the classifier in less than a second. scikit-learn minimises the same loss by a better method. After
# 300 steps your curve should come close to where scikit-learn ends.

# %%
x_train, x_validation = map(np.asarray, standardise(codes, validation_codes))
weights, bias = np.zeros((codes.shape[1], len(classes))), np.zeros(len(classes))
decay, scores = 0.01, {"training images": [], "validation images": []}
for _ in range(300):
    weights, bias = softmax_step(x_train, labels, weights, bias, rate=0.1, decay=decay)
    weights, bias = np.asarray(weights), np.asarray(bias)
    answers = [(one @ weights + bias).argmax(axis=1) for one in (x_train, x_validation)]
    scores["training images"].append(np.mean(answers[0] == labels))
    scores["validation images"].append(np.mean(answers[1] == validation_labels))
strength = 1 / (decay * len(labels))
reference = LogisticRegression(C=strength, max_iter=2000).fit(x_train, labels)

# %%
theirs = reference.score(x_validation, validation_labels)
baselines = {"scikit-learn, validation": theirs}
baselines["most frequent class"] = chance
title = f"Softmax regression on the codes of {len(labels)} images"
plots.curves(scores, xlabel="step", ylabel="accuracy", baselines=baselines, title=title)

# %% [markdown]
# ## 4. Into the network (2 points)
#
# Your classifier reads *standardised* codes. A network gives codes as they are. Find a dense layer that reads the codes
# as they are and gives the same logits, so that no image has to be standardised any more.
#
# Write `fold(weights, bias, codes)`. In: the weights (D, C) and the bias (C,) of your classifier, and the training
# codes (N, D) with which `standardise` computed its shift and scale. Out: the kernel (D, C) and the bias (C,) of the
# dense layer. Write down what `standardise` does to one code $c$, put it into $xW + b$, and sort the terms: what is
# multiplied by $c$, and what is not? A feature that is constant over the training images needs no division by zero
# here either.
#
# The check compares the logits of the two, for the training codes and for others.


# %% gap="fold" stub="return the kernel and the bias of a dense layer that gives the same logits from codes as they are"
def fold(weights, bias, codes):
    ### BEGIN SOLUTION
    constant = codes.max(axis=0) == codes.min(axis=0)
    mean, scale = codes.mean(axis=0), np.where(constant, 1, codes.std(axis=0))
    kernel = weights / scale[:, None]  # each row of the kernel belongs to one feature
    return kernel, bias - mean @ kernel
    ### END SOLUTION


# %% check="fold" points=2
rng = np.random.default_rng(4)
known, w, b = rng.normal(3, 2, (8, 5)), rng.normal(size=(5, 3)), rng.normal(size=3)
known[:, 3] = 7  # a constant feature
others = known[:3] + np.array([1, -2, 3, 0, 5])
mean, deviation = known.mean(axis=0), known.std(axis=0)
scale = np.where(np.arange(5) == 3, 1, deviation)
with np.errstate(all="ignore"):
    answer = fold(w.copy(), b.copy(), known.copy())
kernel, shift = (np.asarray(part) for part in parts(answer, "the kernel", "the bias"))
assert kernel.shape == (5, 3), f"expected a kernel of shape (5, 3), got {kernel.shape}"
assert shift.shape == (3,), f"expected a bias of shape (3,), got {shift.shape}"
finite = np.isfinite(kernel).all() and np.isfinite(shift).all()
assert finite, f"feature 3 is constant: expected finite numbers, got\n{kernel}\n{shift}"
for name, x in (("training", known), ("other", others)):
    expected, right = (x - mean) / scale @ w + b, w / scale[:, None]
    unmoved = x @ right + b
    mistakes = [
        ("the kernel is right, the bias is that of scaled codes", unmoved),
        ("is the sign of the bias's shift right?", unmoved + mean @ right),
        ("the mean must be scaled like a code", unmoved - mean @ w),
        ("divide the weights by the deviation", (x - mean) * scale @ w + b),
    ]
    hint = f"the logits of the {name} codes"
    assert agree(x @ kernel + shift, expected, hint, mistakes)
print("passed: the same logits, without standardising")

# %% [markdown]
# From now on the classifier is the last layer of a network. `head` puts it there. This network is where fine-tuning
# starts. Its accuracy on the validation images is what fine-tuning has to beat.


# %%
def head(backbone, kernel, bias):
    """A copy of the backbone with pooled features and a dense layer of logits."""
    copy = keras.models.clone_model(backbone)
    copy.set_weights(backbone.get_weights())
    pooled = layers.GlobalAveragePooling2D(name="pooled")(copy.output)
    classifier = keras.Model(copy.input, layers.Dense(len(bias), name="logits")(pooled))
    classifier.get_layer("logits").set_weights([kernel, bias])
    return classifier


def score(classifier, images, labels):
    """The accuracy and the mean cross-entropy of a network that gives logits."""
    logits = classifier.predict(images, batch_size=64, verbose=0).astype("float64")
    logits -= logits.max(axis=1, keepdims=True)
    of_label = logits[np.arange(len(labels)), labels]
    entropy = np.log(np.exp(logits).sum(axis=1)) - of_label
    return float(np.mean(logits.argmax(axis=1) == labels)), float(np.mean(entropy))


kernel, shift = (np.asarray(part) for part in fold(weights, bias, codes))
linear = head(backbone, kernel, shift)
linear_score, linear_loss = score(linear, validation_images, validation_labels)
print(f"before fine-tuning: {linear_score:.1%} right, cross-entropy {linear_loss:.3f}")

# %% [markdown]
# ## 5. Freeze (2 points)
#
# Now the network itself may learn, but not all of it: the early layers hold what serves every task, and so few images
# can only spoil it. Write `freeze(model, up_to)`. No weight of any layer up to and including the layer named `up_to`
# may be trained. Behind it every weight may, except those of the batch normalisations. This holds whatever was frozen
# before. Return the number of parameters that can be trained. Raise a `ValueError` if no layer is called `up_to`.
#
# Why not the batch normalisations? In Keras a `BatchNormalization` with `trainable = False` also runs in inference
# mode: it uses its running statistics, which come from the many images of the source, and leaves them alone.
#
# The check runs the network in training mode and looks whether any statistic moved.


# %% gap="freeze" stub="set trainable of every layer, and return the number of parameters that can still be trained"
def freeze(model, up_to):
    ### BEGIN SOLUTION
    names = [layer.name for layer in model.layers]
    if up_to not in names:
        raise ValueError(f"no layer {up_to!r} in the model")
    border = names.index(up_to)
    for position, layer in enumerate(model.layers):
        norm = isinstance(layer, layers.BatchNormalization)
        layer.trainable = position > border and not norm
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    ### END SOLUTION


# %% check="freeze" points=1
toy = pretrained.backbone((16, 16, 1))
before = {v.path: ops.convert_to_numpy(v) for v in toy.variables}
counted = freeze(toy, "conv4_relu")
learning = sorted({v.path.split("/")[-2] for v in toy.trainable_variables})
text = f"behind conv4_relu only conv5 and conv6 may learn, got {learning}"
assert learning == ["conv5", "conv6"], text
text = f"conv5 and conv6 have 73,728 + 147,456 = 221,184 weights, got {counted}"
assert counted == 221_184, text
noise = np.random.default_rng(4).integers(0, 255, (8, 16, 16, 1))
toy(noise, training=True)  # what a training step does first
after = {v.path: ops.convert_to_numpy(v) for v in toy.variables}
moved = sorted(path for path in after if not np.array_equal(after[path], before[path]))
assert not moved, f"in training mode these statistics moved: {moved[:3]}"
print("passed: conv5 and conv6 learn, and no statistic moves")

# %% check="freeze" points=1
cases = {"image": 285_984, "conv1": 285_696, "conv6_relu": 0, "conv4_relu": 221_184}
for border, expected in cases.items():
    counted = freeze(toy, border)
    text = f"frozen up to {border}: {expected:,} parameters can learn, got {counted}"
    assert counted == expected, text
try:
    counted = freeze(toy, "conv7")
except ValueError:
    pass
else:
    text = "there is no layer conv7: expected a ValueError"
    raise AssertionError(f"{text}, got {counted}")
assert own_work(freeze, toy, "conv4_relu")
print("passed: other borders, one after the other, and a layer that is not there")

# %% [markdown]
# ## 6. A rate for each group (1 point)
#
# The deeper a layer lies below the classifier, the more general it is, and the less it should change. Write
# `rates(groups, top, factor)`. The last group learns with the rate `top`. Each earlier group learns with the rate of
# the group above it, divided by `factor`.
#
# In: the names of the groups' first layers, from input to output; the top rate; the factor. Out: a dict of name and
# rate, in the same order.


# %% gap="rates" stub="return a dict of learning rates that fall from the last group to the first"
def rates(groups, top, factor=10):
    ### BEGIN SOLUTION
    last = len(groups) - 1
    return {name: top / factor ** (last - index) for index, name in enumerate(groups)}
    ### END SOLUTION


# %% check="rates" points=1
cases = {
    ("conv1", "conv5", "logits"): (0.1, 10, [0.001, 0.01, 0.1]),
    ("a", "b", "c", "d"): (0.81, 3, [0.03, 0.09, 0.27, 0.81]),
    ("only",): (0.5, 7, [0.5]),
}
for names, (top, factor, expected) in cases.items():
    answer = rates(list(names), top, factor)
    kind = type(answer).__name__
    assert isinstance(answer, dict), f"expected a dict of name and rate, got {kind}"
    text = f"expected the groups {list(names)} in this order, got {list(answer)}"
    assert list(answer) == list(names), text
    hint = f"the rates of {', '.join(names)}: top rate {top}, factor {factor}"
    mistakes = [("the last group has the top rate, not the first", expected[::-1])]
    assert agree(list(answer.values()), expected, hint, mistakes)
assert own_work(rates, list(names), 0.1)
print("passed: the top rate for the last group, and less for each one below")

# %% [markdown]
# One step of plain gradient descent shows what the rates do. All weights of a small model get the gradient 1, so each
# one moves as far as its rate says.

# %%
names = ["low", "middle", "top"]
stack = [layers.Dense(1, use_bias=False, name=name) for name in names]
tower = keras.Sequential([keras.Input((1,)), *stack])
optimizer = training.layerwise(keras.optimizers.SGD(0.1), tower, rates(names, 1))
before = tower.get_weights()
optimizer.apply([ops.ones((1, 1)) for _ in names], tower.trainable_variables)
moved = [(old - new).item() for old, new in zip(before, tower.get_weights())]
title = "Three layers, one gradient, three rates"
plots.bars(dict(zip(names, moved)), xlabel="length of the step", title=title)

# %% [markdown]
# ## 7. A few epochs back (2 points)
#
# Fine-tune until the network overfits, then go a few epochs back. Write `best_epoch(losses, patience)`. Read the
# validation losses one after the other, epoch 0 first. Training ends after the first epoch that lies `patience` epochs
# behind the lowest loss so far. If there is no such epoch, it ends with the last one.
#
# Out: two epochs. The first is the one with the lowest loss among those that were reached; of equal losses the earlier
# one counts. The second is the one after which training ended.


# %% gap="best-epoch" stub="return the best epoch and the one after which training ended"
def best_epoch(losses, patience):
    ### BEGIN SOLUTION
    best = 0
    for epoch, value in enumerate(losses):
        if value < losses[best]:
            best = epoch
        if epoch - best >= patience:
            return best, epoch
    return best, len(losses) - 1
    ### END SOLUTION


# %% check="best-epoch" points=2
cases = [
    ([3, 2, 1, 2, 3, 4], 2, (2, 4), "epochs 3 and 4 are no better, so 4 is the last"),
    ([3, 2, 1], 5, (2, 2), "the loss falls to the end, so training goes on to the end"),
    ([3, 1, 2, 2, 0], 2, (1, 3), "it ends after epoch 3, epoch 4 is never reached"),
]
### BEGIN HIDDEN TESTS
cases += [
    ([1, 1, 1, 1], 3, (0, 3), "of equal losses the earlier one counts"),
    ([5, 4, 4.5, 3, 3.5, 3.2, 3.1], 3, (3, 6), "a lower loss starts a new count"),
    ([2.0], 1, (0, 0), "one epoch"),
]
### END HIDDEN TESTS
for losses, patience, expected, why in cases:
    answer = best_epoch(losses, patience)
    answer = tuple(parts(answer, "the best epoch", "the last epoch"))
    text = f"losses {losses}, patience {patience}: expected {expected}, got {answer}"
    assert answer == expected, f"{text}: {why}"
print("passed: the best epoch, and the one after which training ends")

# %% [markdown]
# ## 8. All together (4 points)
#
# Write `fine_tune(backbone, kernel, bias)`. It starts from your linear classifier and returns a network that is better
# than it.
#
# 1. `classifier = head(backbone, kernel, bias)` gives the network to train.
# 2. Freeze it up to `frozen_to`.
# 3. Make the optimizer: `training.layerwise(keras.optimizers.Adam(rate), classifier, multipliers)`. `multipliers` is a
#    dict like that of `rates(groups, ...)`, in multiples of the top rate. A factor of 3 works.
# 4. Compile with `training.compile_classifier(classifier, optimizer)`. What is frozen is read at this moment.
# 5. Train with `training.fit(classifier, (images, labels), epochs, batch_size=..., seed=seed, validation_data=...,
#    callbacks=[...])`. Let `keras.callbacks.EarlyStopping` watch the validation loss and restore the best weights.
#
# Out: the trained network and its history (`training.fit(...).history`).
#
# The check looks at the network: the frozen layers are as they were, the layers behind them have moved, each group has
# its own rate, and the weights are those of the best epoch. It also looks at what was gained over the linear classifier:
# of the loss that the latter has on the *validation* images, fine-tuning must take away the share `floor` at least.
# Change your settings as often as you like, but leave the test images alone.


# %% gap="fine-tune" stub="freeze, set rates, compile, fit with early stopping; return the classifier and its history"
def fine_tune(backbone, kernel, bias):
    ### BEGIN SOLUTION
    classifier = head(backbone, kernel, bias)
    freeze(classifier, frozen_to)
    multipliers = rates(groups, 1, factor=3)
    adam = keras.optimizers.Adam(rate)
    optimizer = training.layerwise(adam, classifier, multipliers)
    training.compile_classifier(classifier, optimizer)
    back = {"patience": 5, "restore_best_weights": True}
    stop = keras.callbacks.EarlyStopping("val_loss", **back)
    history = training.fit(
        classifier,
        (images, labels),
        epochs,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
        callbacks=[stop],
    ).history
    return classifier, history
    ### END SOLUTION


# %%
def by_layer():
    """The names of the layers that must stay, and of those that must learn."""
    behind, frozen, free = False, [], []
    for layer in backbone.layers:
        norm = isinstance(layer, layers.BatchNormalization)
        if layer.weights:
            (free if behind and not norm else frozen).append(layer.name)
        behind = behind or layer.name == frozen_to
    return frozen, [*free, "logits"]


def travelled(classifier, name):
    """How far the weights of a layer moved, as a share of their own length."""
    old, new = (net.get_layer(name).get_weights() for net in (linear, classifier))
    assert len(old) == len(new), f"{name}: expected {len(old)} arrays, got {len(new)}"
    apart = sum(np.square(b - a).sum() for a, b in zip(old, new))
    return float(np.sqrt(apart / sum(np.square(a).sum() for a in old)))


# %% check="fine-tune" points=2
answer = fine_tune(backbone, kernel, shift)
classifier, history = parts(answer, "the network", "its history")
kind = type(classifier).__name__
assert isinstance(classifier, keras.Model), f"expected a network, got {kind}"
shape = tuple(classifier.output_shape)
assert shape == (None, len(classes)), f"expected logits for {len(classes)}, got {shape}"
frozen, free = by_layer()
for name in frozen:
    share = travelled(classifier, name)
    text = f"{name} must stay as it was, and moved by {share:.2%}: freeze up to "
    assert share == 0, f"{text}{frozen_to} before you compile"
for name in free:
    share = travelled(classifier, name)
    text = f"{name} may learn, and moved by {share:.3%} only: is its rate 0?"
    assert share > 1e-4, text
print(f"passed: {len(frozen)} layers with weights stayed, {len(free)} have moved")

# %% check="fine-tune" points=1
factors = getattr(classifier.optimizer, "multipliers", None)
assert factors, "the network was not compiled with an optimizer of training.layerwise"
of_layer = {path.split("/")[-2]: factor for path, factor in factors.items()}
below, top = of_layer[free[0]], of_layer["logits"]
text = f"{free[0]} must learn more slowly than logits, got factors {below} and {top}"
assert 0 < below < top, text
assert hasattr(history, "get"), f"expected the history as a dict, got {history!r:.50}"
for name in ("loss", "val_loss"):
    text = f"expected {name} in the history, got {list(history)}"
    assert len(history.get(name, ())), text
tuned_score, tuned_loss = score(classifier, validation_images, validation_labels)
lowest = float(np.min(history["val_loss"]))
text = f"the best epoch has the validation loss {lowest:.3f}, yours {tuned_loss:.3f}"
restored = np.isclose(tuned_loss, lowest, rtol=0.05, atol=0.01)
assert restored, f"{text}: restore the weights of the best epoch"
print("passed: a rate for each group, and the weights of the best epoch")

# %% check="fine-tune" points=1
taken = 1 - tuned_loss / linear_loss
text = f"the validation loss went from {linear_loss:.3f} to {tuned_loss:.3f}, that is "
text += f"{taken:.0%} less than before fine-tuning; expected {floor:.0%} less at least"
assert results.reaches(taken, floor, judged), text
print(f"passed: {tuned_score:.1%} right, {linear_score:.1%} before")

# %% [markdown]
# The history shows where the validation loss was lowest. Your `best_epoch` finds the same place. Behind it the training
# loss goes on falling: that is the overfitting that you went back from.

# %%
best, last = best_epoch(history["val_loss"], patience=5)
sides = {"training": history["loss"], "validation": history["val_loss"]}
title = f"Ended after epoch {last + 1}, back to epoch {best + 1}"
figure, ax = plt.subplots(figsize=(8, 3.2))
start_loss = {"validation, before fine-tuning": linear_loss}
plots.curves(sides, ylabel="cross-entropy", baselines=start_loss, title=title, ax=ax)
ax.axvline(best + 1, color="0.4", linestyle=":")  # the axis counts from 1

# %% [markdown]
# Now the test images, once. Whatever they say, do not go back to change your settings: if you choose by them, they no
# longer tell how the network does on new images.

# %%
test_images, test_labels = data.arrays(target, "test", **options)
accuracy, _ = score(classifier, test_images, test_labels)
linear_accuracy, _ = score(linear, test_images, test_labels)
predictions = classifier.predict(test_images, batch_size=64, verbose=0).argmax(axis=1)

# %% tags=["thumbnail"]
confused = np.zeros((len(classes), len(classes)), int)
np.add.at(confused, (test_labels, predictions), 1)
title = f"{accuracy:.1%} of {len(test_labels)} test images right, from {len(labels)}"
plots.confusion_matrix(confused, classes=classes, title=title)

# %%
wrong = np.flatnonzero(predictions != test_labels)[:16]
if len(wrong):
    named = {"predictions": predictions[wrong], "classes": classes}
    plots.show_images(test_images[wrong], test_labels[wrong], **named)

# %%
results.record(
    test_accuracy=accuracy,
    linear_accuracy=linear_accuracy,
    validation_accuracy=tuned_score,
    validation_linear=linear_score,
    loss_taken=taken,
    chance=chance,
)

# %% [markdown]
# ## 9. Which pairs, and why (1 point)
#
# Look at the confusion matrix and at the images that went wrong. Which two classes does your network confuse most, and
# what do the images have in common? Answer in two or three sentences.

# %% [markdown] question="confusions" points=1
# ### BEGIN SOLUTION
# The largest numbers off the diagonal stand where two classes share most of their strokes. With the digits these are
# pairs such as 3 and 9, or 8 and 9; which pair comes first depends on the ten examples that were drawn. The images
# were scanned at 8 × 8 pixels, so that one more stroke or a closed gap is one or two pixels, and no letter taught the
# network that these pixels matter. With photographs of clothing the pairs are shirts, T-shirts and long sleeves: they
# have the same shape and the same cloth, and differ in the length of a sleeve.
# ### END SOLUTION

# %% [markdown]
# ## 10. The pitfall in the statistics (1 point)
#
# Suppose that the same network is trained from scratch on these few images. It is right on all training batches, yet in
# inference mode it does no better than chance, on the very same images. Which part of the network explains it? Name two
# ways out.

# %% [markdown] question="statistics" points=1
# ### BEGIN SOLUTION
# Batch normalisation uses the statistics of the batch during training, and its running averages in inference. The
# averages start from mean 0 and variance 1 and move a small step with each batch. A run over few images has few
# batches, and the weights change fast, so the averages are still far from what the trained layers give. Ways out are a
# smaller momentum or more steps, one more pass over the training images that measures the statistics anew, or frozen
# batch normalisation with the statistics of a pretrained network, as in this lab.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - extract features from a pretrained network and train a linear classifier on them, with nothing leaking from the
#   test images;
# - move a scaling of the inputs into the weights of the layer that reads them;
# - freeze layers so that weights and running statistics stay where they were;
# - give lower layers lower rates, and go back to the epoch with the lowest validation loss;
# - report an accuracy on images that had no part in any choice, beside what the linear classifier and chance give.
#
# ## Exercises
#
# 1. *Easy.* Draw `per_class` = 2, 5, 10, 20 with three seeds each, and plot the accuracy of step 3 with its spread.
#    *Hint:* `data.arrays(..., per_class=..., seed=...)` and `plots.learning_curve`.
# 2. *Easy.* Replace the average over each map by its maximum. Which of the two serves digits better? *Hint:* one word
#    in `embed` changes.
# 3. *Medium.* Replace the pretrained weights by random ones (`pretrained.backbone`) and repeat steps 1 to 3. How much
#    of the accuracy came from the letters? *Hint:* random filters with pooling behind them are a fair baseline, not a
#    weak one.
# 4. *Medium.* Take the features of an earlier layer. Where does the accuracy peak? *Hint:*
#    `keras.Model(backbone.input, backbone.get_layer("conv4_relu").output)`.
# 5. *Medium.* Fine-tune with one rate for all groups, over five seeds. Is it better or worse than with a rate for each
#    group, and by more than the seeds differ? *Hint:* a factor of 1; the lecture asks the same of another network.
# 6. *Hard.* Fine-tune all layers with the rates of 1/100, 1/10 and 1, starting from your solution. Does it gain on
#    three seeds, or does the gain lie within their spread? *Hint:* thaw first, compile again afterwards.
#
# ## Further reading
#
# - J. Yosinski, J. Clune, Y. Bengio, H. Lipson, *How transferable are features in deep neural networks?*, NIPS 2014.
# - J. Donahue et al., *DeCAF: A deep convolutional activation feature for generic visual recognition*, ICML 2014.
# - A. S. Razavian, H. Azizpour, J. Sullivan, S. Carlsson, *CNN features off-the-shelf: an astounding baseline for
#   recognition*, CVPR workshops 2014.
# - J. Howard, S. Ruder, *Universal language model fine-tuning for text classification*, ACL 2018 (discriminative
#   rates).
