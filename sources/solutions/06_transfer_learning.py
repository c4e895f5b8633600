# %% [markdown]
# # 06 Transfer learning: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/06_transfer_learning.ipynb)
#
# **Ten pictures of each digit, and a network that has never seen one.** It was trained on printed letters. You will
# take its features, put a classifier of your own on top, thaw the upper layers with care, and beat a floor on digits
# that nobody has shown it.
#
# You will be able to
#
# - turn a pretrained network into a feature extractor that reads images in batches of one size;
# - scale features without letting the test images leak in, and train a softmax classifier on them by hand;
# - freeze a part of a network, batch normalisation included, and say what still learns;
# - give each group of layers its own learning rate, and stop where the validation loss was lowest.
#
# Plan an hour and a half for it. There are 17 points. The training itself takes about a minute on two cores.

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
seed: int = 0  # [0, ] which images are drawn, and in which order they are trained on
source: str = "glyphs"  # {glyphs, imagenet} what the network was trained on before
target: str = "digits"  # a data set's name, or the path of a folder with one subfolder per class
image_size: int = 32  # [16, 224] height and width that the images are brought to
per_class: int = 10  # [2, 200] training images of each class
epochs: int = 30  # [1, 200] most passes over them when fine-tuning
rate: float = 3e-3  # [1e-6, 0.1] learning rate of the classifier on top when fine-tuning
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
floor: float = 0.9  # [0, 1] share of the test images that your classifier must get right

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from sklearn.linear_model import LogisticRegression

from utils import data, plots, pretrained, results, session, training, transfer

session.start(seed)

# %% [markdown]
# The network is a stack of convolutions without a classifier: images go in as they are, 0 to 255, a map of features
# comes out. Everything that depends on which network it is stands in the next cell: the layer up to which you will
# freeze it, and the layers with which its three groups begin: the frozen one, the one that you will train gently, and
# `logits`, the classifier that you will add.

# %%
if source == "glyphs":
    backbone, channels = pretrained.load("glyphs"), 1
    frozen_to, groups = "conv4_relu", ["conv1", "conv5", "logits"]
else:
    backbone, channels = pretrained.imagenet("MobileNetV2"), 3
    frozen_to, groups = "block_13_project_BN", ["Conv1", "block_14_expand", "logits"]
classes = data.chosen(target, on_error=on_error).classes
judged = target in ("digits", "clothing", "tf_flowers")  # the floor was measured on these
print(f"{backbone.count_params():,} parameters, trained on {source}; {len(classes)} new classes: {', '.join(classes)}")

# %% [markdown]
# Three sets of images. The few training images are all that you may learn from. The validation images choose between
# settings. The test images stay in their drawer until the last check.

# %%
options = {"image_size": image_size, "channels": channels, "on_error": on_error}
images, labels = data.arrays(target, "train", per_class=per_class, seed=seed, **options)
validation_images, validation_labels = data.arrays(target, "validation", **options)
chance = np.bincount(validation_labels).max() / len(validation_labels)  # what the most frequent class alone would reach
plots.show_images(images[: 2 * len(classes)], labels[: 2 * len(classes)], classes=classes, columns=len(classes))

# %% [markdown]
# ## 1. Features (2 points)
# Write `embed(model, images, batch_size)`. Run the images through the model in their order and average each feature
# map over its height and width (global average pooling).
#
# In: a model that gives maps (batch, height, width, D); images (N, H, W, C). Out: a NumPy array (N, D), one row for
# each image.
#
# Every batch must hold exactly `batch_size` images, since TensorFlow compiles the model anew for each new size: fill
# the last one up with copies of an image, and drop their rows. The check counts your batches, and compares your
# values with a model that can be worked out by hand.


# %% gap="features" stub="run the images through the model in batches of one size and average the maps over height and width"
def embed(model, images, batch_size=32):
    ### BEGIN SOLUTION
    rows = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        missing = batch_size - len(batch)
        filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        maps = ops.convert_to_numpy(model(filled, training=False))
        rows.append(maps.mean(axis=(1, 2))[: len(batch)])
    return np.concatenate(rows)
    ### END SOLUTION


# %% check="features" points=2
class Halves(keras.Model):
    """Gives the image and its half, and notes the size of every batch."""

    def call(self, pixels, training=None):
        self.sizes = [*getattr(self, "sizes", []), pixels.shape[0]]
        pixels = ops.cast(pixels, "float32")
        return ops.concatenate([pixels, pixels / 2], axis=-1)


by_hand = Halves()
ramp = np.arange(5 * 2 * 2, dtype="float32").reshape(5, 2, 2, 1)  # the means of the five images are 1.5, 5.5, ..., 17.5
answer = np.asarray(embed(by_hand, ramp, 2))
assert answer.shape == (5, 2), (
    f"five images with two feature maps give (5, 2), got {answer.shape}: are the copies dropped?"
)
assert np.allclose(answer[:, 0], [1.5, 5.5, 9.5, 13.5, 17.5]), (
    f"each row is the mean of one image's map, in order: {answer[:, 0]}"
)
assert set(by_hand.sizes) == {2}, f"every batch has batch_size = 2 images, yours had {by_hand.sizes}"
### BEGIN HIDDEN TESTS
assert np.allclose(answer[:, 1], answer[:, 0] / 2)
odd = np.random.default_rng(1).normal(size=(7, 3, 5, 2)).astype("float32")
assert np.allclose(embed(Halves(), odd, 3)[:, :2], odd.mean(axis=(1, 2)), atol=1e-5)
assert np.allclose(embed(Halves(), odd, 7)[:, :2], odd.mean(axis=(1, 2)), atol=1e-5)
### END HIDDEN TESTS

# %% [markdown]
# From here on each image is a row of numbers, its *CNN code*. Before any training, look whether the codes of one
# class lie together. Each row of the picture is an image, ordered by class; each column is a feature.

# %%
codes = embed(backbone, images)
validation_codes = embed(backbone, validation_images)
assert np.allclose(codes, transfer.embed(backbone, images), atol=1e-3)

figure, ax = plt.subplots(figsize=(8, 3.2))
order = np.argsort(labels, kind="stable")
ax.imshow(codes[order][:, :128], aspect="auto", cmap="viridis")
ax.set(xlabel="feature", ylabel="image, by class", title="The codes of the training images: bands are classes")
ax.set_yticks(np.arange(len(classes)) * per_class + per_class / 2 - 0.5, classes)
plt.show()

# %% [markdown]
# ## 2. Scale without a leak (1 point)
# Features differ in size, and a classifier trained with one learning rate wants them alike. Write `standardise(codes,
# *others)`: shift and scale each feature so that the *training* codes have mean 0 and standard deviation 1, and apply
# the same shift and scale to the others. A feature that is constant over the training images becomes 0 there, without
# a division by zero.
#
# In: codes (N, D), and any number of arrays (M, D). Out: a list of arrays, the training codes first. The check looks
# whether the other codes had a say in the shift or the scale.


# %% gap="scale" stub="shift and scale all arrays by the mean and the deviation of the first"
def standardise(codes, *others):
    ### BEGIN SOLUTION
    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1)
    return [(array - mean) / scale for array in (codes, *others)]
    ### END SOLUTION


# %% check="scale" points=1
known, unseen = np.array([[0.0, 1.0, 7.0], [4.0, 3.0, 7.0]]), np.array([[2.0, 5.0, 8.0]])
scaled, scaled_unseen = standardise(known, unseen)
assert np.allclose(scaled[:, :2], [[-1, -1], [1, 1]]), (
    f"mean 0 and deviation 1 for each column of the training codes:\n{scaled}"
)
assert np.isfinite(scaled).all() and np.allclose(scaled[:, 2], 0), "a constant feature becomes 0, not NaN"
assert np.allclose(scaled_unseen[:, :2], [[0, 3]]), (
    f"(2 - 2) / 2 and (5 - 2) / 1 are 0 and 3, got {scaled_unseen}: whose mean was it?"
)
### BEGIN HIDDEN TESTS
noise = np.random.default_rng(2).normal(3, 5, (40, 6))
first, second = standardise(noise, noise * 10)
assert np.allclose(first.mean(axis=0), 0) and np.allclose(first.std(axis=0), 1)
assert np.allclose(second, (noise * 10 - noise.mean(axis=0)) / noise.std(axis=0))
assert np.array_equal(standardise(noise)[0], first), "the other arrays must not change how the first is scaled"
### END HIDDEN TESTS

# %% [markdown]
# ## 3. A classifier by hand (3 points)
# Softmax regression is a dense layer with one output for each class. Write one step of gradient descent for it,
# `softmax_step`. With the probabilities $p = \mathrm{softmax}(xW + b)$ and the one-hot labels $y$, the mean
# cross-entropy over $N$ images with the penalty $\frac{\lambda}{2}\lVert W \rVert^2$ has the gradients
#
# $$\frac{\partial L}{\partial W} = \frac{1}{N} x^\top (p - y) + \lambda W, \qquad \frac{\partial L}{\partial b} = \frac{1}{N}\sum (p - y).$$
#
# In: codes (N, D), labels (N,) ints, weights (D, C), bias (C,), the learning rate, and `decay`, the $\lambda$. Out:
# new weights and new bias; the old ones stay as they were. Take care that large logits do not overflow. The check
# differentiates the loss numerically.


# %% gap="softmax" stub="return the weights and the bias after one step of gradient descent"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    ### BEGIN SOLUTION
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))  # the shift cancels, and nothing overflows
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    error = (probabilities - np.eye(weights.shape[1])[labels]) / len(codes)  # (N, C)
    return weights - rate * (codes.T @ error + decay * weights), bias - rate * error.sum(axis=0)
    ### END SOLUTION


# %% check="softmax" points=2
def loss(codes, labels, weights, bias, decay):
    logits = codes @ weights + bias
    log_sum = np.log(np.exp(logits).sum(axis=1))
    return np.mean(log_sum - logits[np.arange(len(labels)), labels]) + decay / 2 * np.sum(weights**2)


rng = np.random.default_rng(3)
x, y, w, b = rng.normal(size=(6, 4)), np.array([0, 2, 1, 1, 0, 2]), rng.normal(size=(4, 3)), rng.normal(size=3)
new_w, new_b = softmax_step(x, y, w.copy(), b.copy(), rate=0.5, decay=0.1)
assert np.shape(new_w) == (4, 3) and np.shape(new_b) == (3,), (
    f"(4, 3) and (3,), got {np.shape(new_w)}, {np.shape(new_b)}"
)
slope = np.zeros_like(w)
for index in np.ndindex(*w.shape):
    nudge = np.zeros_like(w)
    nudge[index] = 1e-6
    slope[index] = (loss(x, y, w + nudge, b, 0.1) - loss(x, y, w - nudge, b, 0.1)) / 2e-6
assert np.allclose(w - new_w, 0.5 * slope, atol=1e-5), "not rate times the numeric gradient: mean, penalty, or sign?"

# %% check="softmax" points=1
assert np.allclose(np.sum(new_b), b.sum()), "the gradients of the bias add up to 0 over the classes"
steep = softmax_step(x * 1e4, y, w, b, rate=0.1)
assert np.isfinite(steep[0]).all(), "logits of some thousands must not overflow: shift them, softmax does not mind"
### BEGIN HIDDEN TESTS
for k in range(3):
    nudge = np.eye(3)[k] * 1e-6
    slope_b = (loss(x, y, w, b + nudge, 0.1) - loss(x, y, w, b - nudge, 0.1)) / 2e-6
    assert np.allclose((b - new_b)[k], 0.5 * slope_b, atol=1e-5)
kept = w.copy()
softmax_step(x, y, w, b, rate=1.0)
assert np.array_equal(w, kept), "the weights that come in stay as they were"
### END HIDDEN TESTS

# %% [markdown]
# 300 steps train it, in less than a second. scikit-learn minimises the same loss with a better method: at 300 steps
# your curve should have come close to where scikit-learn ends.

# %%
x_train, x_validation = standardise(codes, validation_codes)
weights, bias = np.zeros((codes.shape[1], len(classes))), np.zeros(len(classes))
decay, scores = 0.01, {"training images": [], "validation images": []}
for _ in range(300):
    weights, bias = softmax_step(x_train, labels, weights, bias, rate=0.1, decay=decay)
    scores["training images"].append(np.mean((x_train @ weights + bias).argmax(axis=1) == labels))
    scores["validation images"].append(np.mean((x_validation @ weights + bias).argmax(axis=1) == validation_labels))
reference = LogisticRegression(C=1 / (decay * len(labels)), max_iter=2000).fit(x_train, labels)

# %%
plots.curves(
    scores,
    xlabel="step",
    ylabel="accuracy",
    baselines={
        "scikit-learn, validation": reference.score(x_validation, validation_labels),
        "most frequent class": chance,
    },
    title=f"Softmax regression on the codes of {len(labels)} images",
)

# %% [markdown]
# ## 4. Freeze (2 points)
# Now the network itself may learn, but not all of it: with so few images the early layers could only get worse. Write
# `freeze(model, up_to)`: no weight of any layer up to and including the layer named `up_to` may be trained. Behind it
# every weight may, except those of the batch normalisations. Return the number of trainable parameters.
#
# Why not those? In Keras a `BatchNormalization` with `trainable = False` also runs in inference mode: it uses its
# running statistics, those of the large source, and leaves them alone. A few images would give it worse ones. The
# check runs the network in training mode and looks whether any statistic moved. Raise a `ValueError` if no layer is
# called `up_to`.


# %% gap="freeze" stub="set trainable of every layer, and return the number of parameters that can still be trained"
def freeze(model, up_to):
    ### BEGIN SOLUTION
    names = [layer.name for layer in model.layers]
    if up_to not in names:
        raise ValueError(f"no layer {up_to!r} in the model")
    border = names.index(up_to)
    for position, layer in enumerate(model.layers):
        layer.trainable = position > border and not isinstance(layer, layers.BatchNormalization)
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    ### END SOLUTION


# %% check="freeze" points=2
toy = pretrained.backbone((16, 16, 1))
before = {variable.path: ops.convert_to_numpy(variable) for variable in toy.variables}
counted = freeze(toy, "conv4_relu")
assert counted == 221_184, (
    f"behind conv4_relu lie the 73,728 + 147,456 weights of conv5 and conv6, together 221,184, not {counted}"
)
assert {v.path.split("/")[-2] for v in toy.trainable_variables} == {"conv5", "conv6"}, "conv5 and conv6 alone may learn"
toy(np.random.default_rng(4).integers(0, 255, (8, 16, 16, 1)), training=True)  # what a training step does first
moved = {v.path.split("/")[-2] for v in toy.variables if not np.array_equal(ops.convert_to_numpy(v), before[v.path])}
assert not moved, f"the statistics of these layers moved: {sorted(moved)}"
try:
    freeze(toy, "conv7")
except ValueError:
    pass
else:
    raise AssertionError("a layer that does not exist is a ValueError")
### BEGIN HIDDEN TESTS
assert freeze(toy, "image") == 285_984, "with the border at the input every convolution can be trained again"
assert freeze(toy, "conv6_relu") == 0 and not toy.trainable_variables
assert freeze(toy, "conv1") == 285_984 - 288, "the layer up_to itself is frozen, what follows is not"
### END HIDDEN TESTS

# %% [markdown]
# ## 5. A rate for each group (2 points)
# The deeper a layer lies below the classifier, the more general it is and the less it should change. Write
# `rates(groups, top, factor)`: the last group learns with `top`, each earlier group with the rate of the one above it
# divided by `factor`.
#
# In: names of the groups' first layers from input to output, the top rate, the factor. Out: a dict from name to rate,
# in the same order.


# %% gap="rates" stub="return a dict of learning rates that fall from the last group to the first"
def rates(groups, top, factor=10):
    ### BEGIN SOLUTION
    return {name: top / factor**depth for depth, name in zip(range(len(groups) - 1, -1, -1), groups)}
    ### END SOLUTION


# %% check="rates" points=2
answer = rates(["conv1", "conv5", "logits"], 0.1)
assert list(answer) == ["conv1", "conv5", "logits"], f"a dict in the order of the groups, got {answer}"
assert np.isclose(answer["logits"], 0.1), f"the last group learns with the top rate, got {answer['logits']}"
assert np.allclose(list(answer.values()), [0.001, 0.01, 0.1]), f"1/100 and 1/10 of the top rate below it, got {answer}"
### BEGIN HIDDEN TESTS
assert np.allclose(list(rates(list("abcd"), 0.81, 3).values()), [0.03, 0.09, 0.27, 0.81])
assert rates(["only"], 0.5, 7) == {"only": 0.5}
### END HIDDEN TESTS

# %% [markdown]
# One step of plain gradient descent shows what the rates do. All weights of a small model see a gradient of 1; how
# far each one moved is its rate.

# %%
tower = keras.Sequential(
    [keras.Input((1,)), *(layers.Dense(1, use_bias=False, name=name) for name in ("low", "middle", "top"))]
)
wanted = rates(["low", "middle", "top"], 0.1)
optimizer = training.layerwise(keras.optimizers.SGD(0.1), tower, {name: value / 0.1 for name, value in wanted.items()})
before = [ops.convert_to_numpy(variable) for variable in tower.trainable_variables]
optimizer.apply([ops.ones_like(variable) for variable in tower.trainable_variables], tower.trainable_variables)
steps = [float(np.squeeze(b - ops.convert_to_numpy(v))) for b, v in zip(before, tower.trainable_variables)]
plots.bars(dict(zip(wanted, steps)), xlabel="length of the step", title="Three layers, one gradient, three rates")

# %% [markdown]
# ## 6. A few epochs back (2 points)
# Fine-tune until the network overfits, then go a few epochs back. Write `best_epoch(losses, patience)`: read the
# validation losses as they come in, epoch 0 first. Training ends after the first epoch that lies `patience` epochs
# behind the lowest loss so far, or with the last one.
#
# Out: the pair (epoch with the lowest loss among those seen, epoch after which training ended). Of equal losses the
# earlier one counts.


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
assert best_epoch([3, 2, 1, 2, 3, 4], 2) == (2, 4), (
    "lowest at epoch 2; epochs 3 and 4 bring nothing better, so 4 is the last"
)
assert best_epoch([3, 2, 1], 5) == (2, 2), "nobody has to wait: training ends with the last epoch"
assert best_epoch([3, 1, 2, 2, 0], 2) == (1, 3), "epoch 4 is never seen, however low its loss"
### BEGIN HIDDEN TESTS
assert best_epoch([1, 1, 1, 1], 3) == (0, 3)
assert best_epoch([5, 4, 4.5, 3, 3.5, 3.2, 3.1], 3) == (3, 6)
assert best_epoch([2.0], 1) == (0, 0)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. All together (3 points)
# Write `fine_tune(backbone, weights, bias)`, which puts a dense layer of logits on the pooled features, starts it
# from a linear classifier, freezes, sets rates, trains with early stopping on the validation loss and returns the
# trained classifier. The pieces:
#
# 1. `classifier = head(backbone, weights, bias)` below gives the model; its last layer is called `logits`.
# 2. freeze it up to `frozen_to`;
# 3. make the optimizer: `training.layerwise(keras.optimizers.Adam(top), classifier, multipliers)` takes a dict like
#    that of `rates(groups, ...)`, but in multiples of the top rate. The top rate `rate` and a factor of 3 work;
# 4. `training.compile_classifier(classifier, optimizer)`, then `training.fit(classifier, (images, labels), epochs,
#    batch_size=..., seed=seed, validation_data=(...), callbacks=[keras.callbacks.EarlyStopping(...)])`, which
#    restores the weights of the best epoch.
#
# Out: the trained model and its history (`fit(...).history`). The check takes the test images out of their drawer.


# %%
def head(backbone, weights, bias):
    """The backbone with pooled features and a dense layer of logits that starts from the softmax regression on raw codes."""
    copy = keras.models.clone_model(backbone)
    copy.set_weights(backbone.get_weights())
    pooled = layers.GlobalAveragePooling2D(name="pooled")(copy.output)
    classifier = keras.Model(copy.input, layers.Dense(len(bias), name="logits")(pooled))
    classifier.get_layer("logits").set_weights([weights, bias])
    return classifier


# Scaling the codes and then multiplying by the weights is multiplying the codes by scaled weights.
deviation = np.where(codes.std(axis=0) > 0, codes.std(axis=0), 1)
raw_weights = weights / deviation[:, None]
raw_bias = bias - (codes.mean(axis=0) / deviation) @ weights


# %% gap="fine-tune" stub="freeze, set rates, compile, fit with early stopping; return the classifier and its history"
def fine_tune(backbone, weights, bias):
    ### BEGIN SOLUTION
    classifier = head(backbone, weights, bias)
    freeze(classifier, frozen_to)
    multipliers = rates(groups, 1, factor=3)
    optimizer = training.layerwise(keras.optimizers.Adam(rate), classifier, multipliers)
    training.compile_classifier(classifier, optimizer)
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=5, restore_best_weights=True)
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


# %% check="fine-tune" points=2
classifier, history = fine_tune(backbone, raw_weights, raw_bias)
test_images, test_labels = data.arrays(target, "test", **options)
predictions = classifier.predict(test_images, batch_size=64, verbose=0)
assert predictions.shape == (len(test_labels), len(classes)), f"logits are (images, classes), got {predictions.shape}"
accuracy = float(np.mean(predictions.argmax(axis=1) == test_labels))
assert results.reaches(accuracy, floor, judged), (
    f"{accuracy:.1%} of the test images are right, the floor is {floor:.1%}"
)

# %% check="fine-tune" points=1
for name in ("loss", "val_loss"):
    assert len(history[name]) >= 1, f"the history holds {name} for each epoch"
kept = [
    layer
    for layer in backbone.layers[: 1 + [layer.name for layer in backbone.layers].index(frozen_to)]
    if layer.weights
]
for layer in kept:
    for old, new in zip(layer.get_weights(), classifier.get_layer(layer.name).get_weights()):
        assert np.array_equal(old, new), (
            f"{layer.name} lies at or before {frozen_to} and must stay as it was: freeze before you compile"
        )
shift = {v.path.split("/")[-2]: v for v in classifier.trainable_variables}
assert shift, "nothing behind the border can be trained: look at freeze"
### BEGIN HIDDEN TESTS
lowest = float(np.min(history["val_loss"]))
logits = classifier.predict(validation_images, batch_size=64, verbose=0).astype("float64")
spread = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)) + logits.max(axis=1)
reached = float(np.mean(spread - logits[np.arange(len(logits)), validation_labels]))
assert np.isclose(reached, lowest, rtol=0.05, atol=0.01), (
    f"the weights of the best epoch have loss {lowest:.3f}, yours {reached:.3f}"
)
### END HIDDEN TESTS

# %% [markdown]
# The history shows where the validation loss was lowest; `best_epoch` finds the same place. The training loss goes on
# falling behind it: that is the overfitting you went back from.

# %%
best, last = best_epoch(history["val_loss"], patience=5)
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.curves({"training": history["loss"], "validation": history["val_loss"]}, ylabel="cross-entropy", ax=ax)
ax.axvline(best + 1, color="0.4", linestyle=":", label="best epoch")  # the axis counts from 1
ax.set_title(f"Fine-tuning ended after epoch {last + 1} and went back to epoch {best + 1}")
ax.legend()
# %% tags=["thumbnail"]
confused = np.zeros((len(classes), len(classes)), int)
np.add.at(confused, (test_labels, predictions.argmax(axis=1)), 1)
plots.confusion_matrix(
    confused,
    classes=classes,
    title=f"{accuracy:.1%} of {len(test_labels)} test images right, learnt from {len(labels)}",
)
# %%
wrong = np.flatnonzero(predictions.argmax(axis=1) != test_labels)[:16]
if len(wrong):
    plots.show_images(
        test_images[wrong], test_labels[wrong], predictions=predictions[wrong].argmax(axis=1), classes=classes
    )

# %%
test_codes = embed(backbone, test_images)
linear = float(np.mean((test_codes @ raw_weights + raw_bias).argmax(axis=1) == test_labels))
results.record(test_accuracy=accuracy, linear_accuracy=linear, chance=chance)

# %% [markdown]
# ## 8. Which pairs, and why (1 point)
# Look at the confusion matrix and at the images that went wrong. Which two classes does your classifier confuse most,
# and what do the images have in common? Answer in two or three sentences.

# %% [markdown] question="confusions" points=1
# ### BEGIN SOLUTION
# The largest numbers off the diagonal stand where two classes share most of their strokes: with the default digits
# these are pairs such as 3 and 9, or 8 and 9, depending on which ten examples were drawn. At 8 × 8 pixels one stroke
# more or less, or a gap that closes, is one or two pixels, and letters did not teach the network that this pixel
# matters. With photographs of clothing it is shirts, T-shirts and long sleeves: the same shape and the same cloth,
# and the only difference is the length of a sleeve.
# ### END SOLUTION

# %% [markdown]
# ## 9. The pitfall in the statistics (1 point)
# Suppose the same network is trained from scratch on these few images. It reaches 100 % on the training batches, yet
# in inference mode it does no better than chance, on the very same images. Which part of the network explains it, and
# name two ways out.

# %% [markdown] question="statistics" points=1
# ### BEGIN SOLUTION
# Batch normalisation uses the statistics of the batch during training and its running averages in inference. The
# averages start from mean 0 and variance 1 and move a small step with each batch; a run over few images has few
# batches, while the weights change fast, so the averages are still far from what the trained layers produce. Ways
# out: a smaller momentum or more steps, measuring the statistics again with one pass over the training images after
# training, or freezing batch normalisation with the statistics of a pretrained network, which is what freezing did
# above.
# ### END SOLUTION

# %% [markdown]
# ## Summary
# You can now
#
# - extract features from a pretrained network and train a linear classifier on them, with nothing leaking from the
#   test images;
# - freeze layers so that weights and running statistics stay where they were;
# - give lower layers lower rates, and stop where the validation loss turns;
# - report an accuracy on images that had no part in any choice, beside what chance would give.
#
# ## Exercises
# 1. *Easy.* Draw `per_class` = 2, 5, 10, 20 with three seeds each, and plot the accuracy of step 3 with its spread.
#    *Hint:* `data.arrays(..., per_class=..., seed=...)` and `plots.learning_curve`.
# 2. *Easy.* Replace the average over each map by its maximum. Which one serves digits better? *Hint:* one word in
#    `embed` changes.
# 3. *Medium.* Replace the pretrained weights by random ones (`pretrained.backbone`) and repeat steps 1 to 3. How much
#    of the accuracy came from the letters? *Hint:* random features are no straw man.
# 4. *Medium.* Take the features of an earlier layer. Where does the accuracy peak? *Hint:*
#    `keras.Model(backbone.input, backbone.get_layer("conv4_relu").output)`.
# 5. *Hard.* Fine-tune all layers with the rates of 1/100, 1/10 and 1, starting from your frozen solution. Does it
#    gain on three seeds, or does the gain lie within their spread? *Hint:* thaw first, compile again afterwards.
#
# ## Further reading
# - J. Yosinski, J. Clune, Y. Bengio, H. Lipson, *How transferable are features in deep neural networks?*, NeurIPS
#   2014.
# - J. Donahue et al., *DeCAF: A deep convolutional activation feature for generic visual recognition*, ICML 2014.
# - A. S. Razavian, H. Azizpour, J. Sullivan, S. Carlsson, *CNN features off-the-shelf*, CVPR workshops 2014.
# - J. Howard, S. Ruder, *Universal language model fine-tuning for text classification*, ACL 2018 (discriminative
#   rates).
