# %% [markdown]
# # 06 Transfer learning
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/06_transfer_learning.ipynb)
#
# **How do you build an image classifier that trains in a few minutes on a CPU with very little data?** A few
# pictures of each class are all that we shall have. A network trained from scratch on so few makes many
# mistakes. One that was trained on something else, and has never seen a picture of these classes, makes far fewer.
#
# You will be able to
#
# - say what is transferred from where to where, and when to expect that it helps;
# - use a pretrained network as a feature extractor, with a linear classifier on its cached features;
# - fine-tune it layer group by layer group, with rates that fall towards the input, and stop in time;
# - compare it fairly: with raw pixels, with features made by hand, with random features, with training from scratch;
# - recognise the case in which batch normalisation spoils a small training run, and two in which transfer does not
#   help.
#
# It takes about an hour to read and less than five minutes to run.

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
seed: int = 0  # [0, ] where the random numbers of this notebook start
source: str = "glyphs"  # {glyphs, imagenet} what the network was trained on before
target: str = "digits"  # a data set's name, or the path of a folder with one subfolder per class
distant: str = "faces"  # a data set from another domain
unrelated: str = "textures"  # a data set that has nothing to do with letters
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
image_size: int = 32  # [16, 224] height and width that the images are brought to
scratch_size: int = 32  # [16, 224] the same for the small network that is trained from scratch
grid: int = 2  # [1, 8] a feature map is averaged over grid x grid parts of the image
few: int = 2  # [2, 50] images of each class wherever one number is quoted
per_class: list[int] = [1, 2, 5, 10, 20]  # images of each class for the learning curves of linear classifiers
trained: list[int] = [1, 2, 5, 20]  # the same for networks that are trained; contains `few`
draws: int = 3  # [1, 20] small training sets of each size, each drawn with another seed
untrained: int = 3  # [1, 10] networks with random weights beside the pretrained one, on data from far away
steps: int = 60  # [2, 2000] training steps of a network on a small training set
epochs: int = 25  # [2, 200] most epochs of the fine-tuning that is watched
alphabet: int | None = None  # pictures of letters to learn from; None: all that there are
pretraining_steps: int = 100  # [10, 5000] steps of the pretraining that is watched
looks: int = 10  # [2, 10] times that it is looked at
depth_steps: int = 200  # [5, 5000] steps of training for each half of the alphabet
depths: list[int] = [0, 2, 4, 6]  # how many convolutions are copied; begins with 0

# %%
import tempfile
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import layers, ops
from matplotlib.patches import FancyBboxPatch

from utils import data, plots, pretrained, training, transfer
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# ## Too many parameters for too few images
#
# VGG16 is a good classifier of photographs. With two outputs in place of its thousand, how many parameters would we
# have to find? Its thirteen convolutions have 14,714,688. Its dense layers read 7 · 7 · 512 = 25,088 values: 25,088 ·
# 4,096 + 4,096, then 4,096 · 4,096 + 4,096, then 4,096 · 2 + 2. We expect 134,268,738 in all.

# %% tags=["nbval-check-output"]
below = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
counts, inputs = {"13 convolutions": below.count_params()}, int(np.prod(below.output_shape[1:]))
for name, outputs in {"fc1": 4096, "fc2": 4096, "predictions": 2}.items():
    counts[name] = (inputs + 1) * outputs  # each output has a weight for each input, and a bias
    inputs = outputs
print(f"{counts['13 convolutions']:,} in the convolutions, {sum(counts.values()):,} in all")

# %% [markdown]
# > **What the slide says.** "VGG16 with two outputs: 134,268,737 parameters." The count above ends in 8. Each output
# > adds 4,096 weights and a bias, so two of them add an even number to the 134,260,544 below them; an odd total
# > cannot be right.
#
# Three quarters of them stand in one dense layer. A few hundred images cannot determine them: at one hundred images
# there are more than a million parameters for each.

# %%
plots.bars(
    {name: count / 1e6 for name, count in counts.items()}, xlabel="parameters, millions", title="VGG16, two outputs"
)

# %% [markdown]
# ## What is transferred
#
# Traditional learning begins every task from nothing: its own data, its own model. In transfer learning the model of
# one task, learnt from much data, is the beginning of the next.

# %%
boxes = {  # (x, y): text
    (0, 3): "data A", (2, 3): "model A", (0, 2): "data B", (2, 2): "model B",
    (4.6, 3): "much data\n(source)", (6.6, 3): "pretrained\nmodel", (4.6, 2): "few data\n(target)", (6.6, 2): "features +\nnew classifier",
}  # fmt: skip
arrows = [((0, 3), (2, 3)), ((0, 2), (2, 2)), ((4.6, 3), (6.6, 3)), ((4.6, 2), (6.6, 2)), ((6.6, 3), (6.6, 2))]
figure, ax = plt.subplots(figsize=(8, 2.4))
for (x, y), text in boxes.items():
    colour = plots.PALETTE[1] if y == 3 and x > 4 else plots.PALETTE[0]
    ax.add_patch(FancyBboxPatch((x, y), 1.2, 0.5, boxstyle="round,pad=.08", facecolor="white", edgecolor=colour, lw=2))
    ax.text(x + 0.6, y + 0.25, text, ha="center", va="center")
for (x, y), (to_x, to_y) in arrows:
    start_point, end_point = (
        ((x + 0.6, y - 0.08), (to_x + 0.6, to_y + 0.58))
        if x == to_x
        else ((x + 1.28, y + 0.25), (to_x - 0.08, to_y + 0.25))
    )
    ax.annotate("", end_point, start_point, arrowprops={"arrowstyle": "->", "lw": 1.5})
ax.set(xlim=(-0.3, 8.1), ylim=(1.8, 4.0))
ax.text(1.6, 3.8, "traditional: each task alone", ha="center", weight="bold")
ax.text(6.2, 3.8, "transfer: what was learnt goes along", ha="center", weight="bold")
ax.set_axis_off()

# %% [markdown]
# Two words from Pan and Yang (2010). A **domain** is a kind of input: its space and how inputs are distributed in it.
# A **task** is a set of labels and the rule that leads to them. Source and target may differ in either.
#
# | | source | target |
# |---|---|---|
# | default | printed letters drawn by a program; 52 classes | handwritten digits, scanned; 10 classes |
# | profile `real` | photographs of ImageNet; 1,000 classes | photographs of clothing; 10 classes |
#
# In both, domain and task change. A **pretrained model** is the trained network kept as a file: a generic, reusable
# asset, made once with much data and computing time, used many times with little of either.
#
# The letters are synthesised, and synthesised data may not represent the true distribution: no pen, no scanner and no
# hand had a part in them. So the digits are a serious test: they are real. Above, the source of the default setting;
# below, our target.

# %%
letters, letter_labels = data.arrays("glyphs", f"train[:{alphabet}]" if alphabet else "train")
letter_classes = data.describe("glyphs").classes
plots.show_images(letters[:20], letter_labels[:20], classes=letter_classes, columns=10)

# %%
channels = 1 if source == "glyphs" else 3
classes = data.chosen(target, on_error=on_error).classes
for other in (distant, unrelated):
    data.chosen(other, on_error=on_error)
sized = {"image_size": image_size, "channels": channels, "on_error": on_error}
images, labels = data.arrays(target, "train", **sized)
validation_images, validation_labels = data.arrays(target, "validation", **sized)
test_images, test_labels = data.arrays(target, "test", **sized)
chance = float(np.bincount(test_labels).max() / len(test_labels))  # what the most frequent class alone would reach
shown = transfer.draw(labels, 2, seed)
plots.show_images(images[shown], labels[shown], classes=classes, columns=10)

# %% [markdown]
# We keep all training images at hand, but a method may look only at the few that are drawn for it. The test images
# serve for measuring alone.
#
# ### Pretraining, watched
#
# Reading letters is learnt with six convolutions (32, 32, 64, 64, 128, 128 filters), a global average and a dense
# layer with 52 outputs. The first steps of that training can be watched: chance is 1/52, so the loss begins near log
# 52 ≈ 4.

# %%
reader = pretrained.backbone(letters.shape[1:], len(letter_classes), include_top=True)
rate = training.WarmupHoldDecay(2e-3, pretraining_steps, warmup=pretraining_steps // 10)
training.compile_classifier(reader, keras.optimizers.AdamW(rate, weight_decay=1e-3))
x, y = transfer.repeat(letters, letter_labels, pretraining_steps, batch_size=64, seed=seed)
portion = len(x) // looks  # what the curve calls an epoch
held_out = data.arrays("glyphs", "validation[:256]")

# %%
live = training.LiveCurves(["accuracy"], baselines={"accuracy": {"chance": 1 / 52}})
watched = training.fit(
    reader,
    lambda epoch: (x[epoch * portion : (epoch + 1) * portion], y[epoch * portion : (epoch + 1) * portion]),
    epochs=looks,
    batch_size=64,
    seed=seed,
    validation_data=held_out,
    callbacks=[live],
)

# %% [markdown]
# The run has `looks` equal parts, and the curve a point for each. The whole run, ten times as long as the 100 steps of
# the profile `cpu` and with letters that are zoomed and turned, gave the file that this course ships; the card says
# how it was made. ImageNet's weights come from `keras.applications`; they took days on GPUs and nobody repeats that
# for a classifier of ten classes.

# %%
del reader
card = pretrained.describe("glyphs")
print(card["command"], "| seed", card["seed"], "|", f"{card['bytes']:,} bytes", "|", card["score"])

# %%
if source == "glyphs":
    backbone = pretrained.load("glyphs", input_shape=(image_size, image_size, 1))
    upper, group_starts = "conv4_relu", ["conv1", "conv5", "logits"]  # last frozen layer; where the groups begin
else:
    backbone = pretrained.imagenet("MobileNetV2")
    upper, group_starts = "block_13_project_BN", ["Conv1", "block_14_expand", "logits"]
convolved = sum(isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)) for layer in backbone.layers)
print(f"{backbone.name}: {convolved} convolutions, {backbone.count_params():,} parameters, made from {source}")

# %% [markdown]
# ## Features
#
# Cut off the last dense layer, which knows the source's classes. What is left turns an image into feature maps. Some
# of those of one image:

# %%
first = images[:1]
maps = transfer.predict(backbone, first, batch_size=1)[0]  # (height, width, features)
plots.show_feature_maps(maps, count=15, image=first[0])

# %% [markdown]
# The average of each map over the whole image is one number; all of them together are the image's **CNN code**
# (Donahue et al. 2014, Razavian et al. 2014). An average forgets *where* a feature was found. That is welcome for
# photographs, where a shirt may lie anywhere. For digits the place tells a lot, since a 6 and a 9 have the same
# strokes; there we average over the four quarters of the image and write the averages in a row. We predict 4 · 128 =
# 512 numbers.


# %%
def with_codes(network, side, grid):
    """A network for images of `side` pixels that gives the averages over grid x grid parts of each of its maps."""
    if grid == 1:
        return network  # utils.transfer averages whole maps by itself
    _, height, _, features = network.compute_output_shape((1, side, side, network.input.shape[-1]))
    parts = layers.AveragePooling2D(height // grid, name="parts")(network.output)
    return keras.Model(network.input, layers.Reshape((grid * grid * features,), name="row")(parts))


trunk = backbone
backbone = with_codes(trunk, image_size, grid)

# %% [markdown]
# A code is computed once and used many times, since the network below it does not change. `transfer.embed` can keep
# the codes in a folder, by the content of images and weights. The first call runs the network, the second reads a
# file: we expect it to take a hundredth of the time, or less.

# %%
folder = tempfile.TemporaryDirectory()
everything = np.concatenate([images, validation_images, test_images])
seconds = {}
for attempt in ("computed", "read from the cache"):
    began = time.perf_counter()
    codes = transfer.embed(backbone, everything, cache=folder.name)
    seconds[attempt] = time.perf_counter() - began
cuts = np.cumsum([len(images), len(validation_images)])
codes, validation_codes, test_codes = np.split(codes, cuts)
plots.bars(seconds, xlabel="seconds", title=f"Codes of {len(everything):,} images, {codes.shape[1]:,} numbers each")

# %% [markdown]
# Do the codes know something about classes that the network never saw? Before any training, look at where they lie.
# Principal components show the two directions of largest spread; t-SNE (van der Maaten and Hinton 2008) places images
# so that neighbours stay neighbours. Each point is an image of the target, coloured by a label that had no part in
# it.

# %%
picked = transfer.draw(labels, min(40, np.bincount(labels).min()), seed)
figure, axes = plt.subplots(1, 2, figsize=(8, 4))
for ax, method in zip(axes, ("pca", "tsne")):
    points = transfer.project(codes[picked], method, seed)
    plots.embedding(points, labels[picked], classes, title={"pca": "PCA", "tsne": "t-SNE"}[method], ax=ax)

# %% [markdown]
# Where classes form islands, a simple classifier will do; where they mix (shirts and T-shirts, say), it will err. The
# same question for single images: which training images are nearest, by the angle between the codes? The first column
# is the query, from the test images; a class in brackets is not the query's.

# %%
queries = transfer.draw(test_labels, 1, seed)[:5]
indices, _ = transfer.neighbours(codes, test_codes[queries], k=5)
rows = np.concatenate([np.stack([test_images[q], *images[found]]) for q, found in zip(queries, indices)])
wanted = np.repeat(test_labels[queries], 6)
nearby = np.concatenate([[test_labels[q], *labels[found]] for q, found in zip(queries, indices)])
titles = [classes[one] if one == other else f"({classes[one]})" for one, other in zip(nearby, wanted)]
plots.show_images(rows, titles=titles, columns=6, tile=1.0)

# %% [markdown]
# ## A linear classifier on top
#
# Everything below the last dense layer stays fixed; a new softmax layer is trained on the codes. That is softmax
# regression (the codes standardised with the mean and deviation of the training codes), solved in a fraction of a
# second. A linear support vector machine (SVM) is the other usual choice.
#
# To judge it we need rivals with equally few images:
#
# - **raw pixels**, no features at all;
# - **HOG**, histograms of oriented gradients: the best of the features made by hand (Dalal and Triggs 2005);
# - **random features**: the same network with random weights, whose batch norms were set on unlabelled images. It
#   tells how much the architecture gives, and how much the pretraining.
#
# Each method gets the same small training sets, drawn with several seeds.

# %%
hog, test_hog = transfer.hog(images), transfer.hog(test_images)
pixels, test_pixels = (array.reshape(len(array), -1) / 255.0 for array in (images, test_images))
if image_size > 32:  # raw pixels of large photographs: every fourth one, so that the rival is not slow as well
    pixels, test_pixels = (array[:, ::4, ::4].reshape(len(array), -1) / 255.0 for array in (images, test_images))


def random_codes(network, net_seed, settle, *arrays):
    """Codes of arrays of images by the same architecture with random weights, its batch norms settled on some images."""
    network = transfer.recalibrate_batch_norm(transfer.reinitialise(network, net_seed), settle, batch_size=32)
    return [transfer.embed(network, array) for array in arrays]


random_features, test_random = random_codes(backbone, seed, images[:128], images, test_images)


# %%
def logistic(features, labels, seed):
    return transfer.linear_probe(features, labels)


def svm(features, labels, seed):
    return transfer.linear_probe(features, labels, "svm")


seeds = range(seed, seed + draws)
methods = {
    "raw pixels": (pixels, test_pixels, logistic),
    "HOG": (hog, test_hog, logistic),
    "random features": (random_features, test_random, logistic),
    "features": (codes, test_codes, logistic),
    "features, SVM": (codes, test_codes, svm),
}
if grid > 1:  # the averages over whole maps are the averages of those over the parts
    whole = [array.reshape(len(array), grid**2, -1).mean(axis=1) for array in (codes, test_codes)]
    methods["features, no place"] = (*whole, logistic)
cheap = transfer.learning_curve(methods, labels, test_labels, per_class, seeds)


# %%
def at(table, method, count, column="accuracy"):
    """What a method reached with `count` images a class, one value for each draw."""
    return table.query("method == @method and per_class == @count")[column].to_numpy()


plots.bars(
    {name: at(cheap, name, few) for name in cheap["method"].unique()},
    baselines={"chance": chance},
    title=f"{few} images of each class; bar: mean, line: lowest to highest of {draws} draws",
)

# %% [markdown]
# What the source taught is the distance between *random features* and *features*. In the default setting random
# features are no straw man: filters that nobody chose, with pooling behind them, already describe an image. Fifty
# layers of them, as in MobileNetV2 (profile `real`), leave nothing of it; there HOG is the rival to beat. The two
# linear classifiers hardly differ. Where a code without places is shown, its distance to *features* is what the
# quarters are worth.
#
# ## From scratch, and a pitfall
#
# The honest rival of transfer is a network trained on the few images alone. With few images it falls into a trap that
# has nothing to do with learning. Batch normalisation trains with the statistics of the batch and predicts with
# running averages, which begin at mean 0 and variance 1. At Keras's default momentum of .99 a step moves them by a
# hundredth of the way: after 20 steps, .99^20 = 82 % of the beginning is still in them. We expect a network that
# knows its training images by heart and still predicts them badly.


# %%
def small(array):
    """Images at the size that the network trained from scratch reads."""
    if scratch_size == image_size:
        return array
    return ops.convert_to_numpy(ops.image.resize(array, (scratch_size, scratch_size), antialias=True)).astype("uint8")


small_images, small_test = small(images), small(test_images)
drawn = transfer.draw(labels, few, seed)
few_images, few_labels = small_images[drawn], labels[drawn]
slow = with_codes(pretrained.backbone(few_images.shape[1:], momentum=0.99), scratch_size, grid)
network = transfer.fine_tune(slow, few_images, few_labels, steps=20, dropout=0, learning_rate=3e-3, seed=seed)


# %%
def accuracy(network, images, labels, batch_statistics=False):
    """Share of images that a network gets right, with running averages or with the statistics of the batch."""
    if batch_statistics:
        return float(np.mean(ops.convert_to_numpy(network(images, training=True)).argmax(axis=1) == labels))
    return float(np.mean(transfer.predict(network, images).argmax(axis=1) == labels))


pitfall = {
    "training images, running averages": accuracy(network, few_images, few_labels),
    "training images, batch statistics": accuracy(transfer.clone(network), few_images, few_labels, True),
    "test images, running averages": accuracy(network, small_test, test_labels),
}
transfer.recalibrate_batch_norm(network, few_images)
pitfall["training images, recalibrated"] = accuracy(network, few_images, few_labels)
pitfall["test images, recalibrated"] = accuracy(network, small_test, test_labels)
plots.bars(pitfall, baselines={"chance": chance}, title="One network, two kinds of statistics")

# %% [markdown]
# The weights are the same in all five bars. Recalibrated, the network knows its training images in inference mode
# too. What it knows about *other* images shows in the last bar: a good deal for digits, next to nothing for
# photographs, and no statistics can mend that. Ways out of the trap, in the order of preference:
#
# 1. **Recalibrate**: after training, one pass over the training images measures mean and variance anew.
# 2. **A smaller momentum** or more steps; .9 needs some tens of steps.
# 3. **Freeze batch normalisation** of a pretrained network. In Keras `trainable = False` on a batch norm means
#    *inference mode*: it uses its running statistics and leaves them alone, even in `fit`. Its statistics are those
#    of the source, which is the point: they come from many images.
#
# In fine-tuning the trap has a second door. If batch norms of the pretrained network train on with small batches, the
# statistics of the source are forgotten within a few steps. The rule that a frozen batch norm predicts as it trains
# can be checked: a frozen network must not move at all.

# %% tags=["nbval-check-output"]
probe = pretrained.backbone((16, 16, 1))
noise = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 1)).astype("float32")
for frozen in (False, True):
    probe.trainable = not frozen
    before = probe.get_layer("conv1_bn").get_weights()[2]  # the running mean
    probe(noise, training=True)
    moved = not np.array_equal(before, probe.get_layer("conv1_bn").get_weights()[2])
    print(f"frozen: {frozen!s:5}  trainable weights: {len(probe.trainable_variables):2}  running mean moved: {moved}")

# %% [markdown]
# ### Augmentation
#
# Little data can be stretched: each time an image is used it is moved, turned and zoomed a little (photographs are
# also mirrored; a mirrored digit is no digit). One image, sixteen times:

# %%
stretch = [
    layers.RandomTranslation(0.08, 0.08, fill_mode="nearest", seed=seed),
    layers.RandomRotation(0.03, fill_mode="nearest", seed=seed),
    layers.RandomZoom(0.1, fill_mode="nearest", seed=seed),
]
augmentation = keras.Sequential(stretch + ([layers.RandomFlip("horizontal", seed=seed)] if channels == 3 else []))


def augment(images, rng):
    """Each image moved, turned and zoomed at random; uint8 in, uint8 out."""
    batches = np.array_split(images, -(-len(images) // 64))
    return np.concatenate(
        [
            ops.convert_to_numpy(augmentation(batch.astype("float32"), training=True)).round().astype("uint8")
            for batch in batches
        ]
    )


plots.show_images(augment(np.repeat(few_images[:1], 16, axis=0), None), columns=8, tile=1.0)


# %% [markdown]
# Now the rival gets its fair chance: enough steps, momentum .9, statistics recalibrated, with augmentation and
# without.


# %%
def scratch(images, labels, seed, augment=None):
    """The small network trained on few images alone, as well as we can."""
    fresh = transfer.reinitialise(with_codes(pretrained.backbone(images.shape[1:]), scratch_size, grid), seed)
    return transfer.fine_tune(
        fresh, images, labels, steps=steps, learning_rate=3e-3, augment=augment, seed=seed, recalibrate=True
    )


def scratch_augmented(images, labels, seed):
    return scratch(images, labels, seed, augment)


arrays = (small_images, small_test)
alone = transfer.learning_curve({"scratch": (*arrays, scratch)}, labels, test_labels, trained, seeds)
augmented = {"scratch, augmented": (*arrays, scratch_augmented)}
scarce = [count for count in trained if count <= few]  # where augmentation has most to give
stretched = transfer.learning_curve(augmented, labels, test_labels, scarce, seeds)

# %%
plots.learning_curve(
    pd.concat([alone, stretched, cheap[cheap["method"] == "features"]]),
    baselines={"chance": chance},
    title="From scratch, with and without augmentation, and frozen features",
)


# %% [markdown]
# ## Fine-tuning
#
# So far the network below the classifier stayed as the source made it. Now its upper layers learn as well. The
# recipe:
#
# 1. Train the new top alone, below it everything frozen. (Random top weights send large, useless gradients down,
#    which would destroy what was transferred.) Our softmax regression is that top.
# 2. Thaw the upper layers and train on with a small rate, the batch norms still in inference mode.
# 3. Thaw everything, with **discriminative rates**: each earlier group of layers learns 3 to 10 times more slowly,
#    say 1/10 and 1/100 of the top's rate. Early layers hold edges and strokes that serve every task.
# 4. Go on **until it overfits, then a few epochs back**: stop when the validation loss no longer falls, and restore
#    the weights of its best epoch.
#
# Step 1 in code. Scaling codes before a linear layer equals scaling its weights, so the regression moves into the
# network without loss.


# %%
def with_top(images, labels, codes):
    """The pretrained network with the softmax regression on these codes as its last layer."""
    scaler, regression = (step for _, step in transfer.linear_probe(codes, labels).steps)
    weights, bias = regression.coef_, regression.intercept_
    if len(classes) == 2:  # scikit-learn keeps one row: how far the second class is ahead of the first
        weights, bias = (np.concatenate([0 * row, row]) for row in (weights, bias))
    kernel = weights.T / scaler.scale_[:, None]  # (features, classes)
    model = transfer.classifier(backbone, len(classes), dropout=0)
    model.get_layer("logits").set_weights([kernel, bias - scaler.mean_ @ kernel])
    return model


some = max(trained)
drawn = transfer.draw(labels, some, seed)
model = with_top(images[drawn], labels[drawn], codes[drawn])
regression = transfer.linear_probe(codes[drawn], labels[drawn])
start_accuracy = accuracy(model, test_images, test_labels)
print(f"{start_accuracy:.3f} in one network, {regression.score(test_codes, test_labels):.3f} as regression on codes")

# %% [markdown]
# How many parameters may then move? With the letters' backbone and ten classes we expect 512 · 10 + 10 = 5,130 for
# the top alone; conv5 and conv6 add 9 · 64 · 128 + 9 · 128 · 128 = 221,184 with their batch norms frozen.

# %% tags=["nbval-check-output"]
counted = transfer.classifier(with_codes(pretrained.backbone((32, 32, 1)), 32, 2), 10)
for text, border in {"top": "codes_dropout", "from conv5 on": "conv4_relu", "all": ""}.items():
    transfer.freeze(counted, border, batch_norm=True)
    print(f"{text:14} {sum(int(np.prod(v.shape)) for v in counted.trainable_variables):>9,} parameters learn")

# %% [markdown]
# A rate for each group. `training.layerwise` multiplies the optimizer's *step*, not the gradient: Adam divides by the
# gradient's size and would undo the latter. We predict steps of .001, .01 and .1 for three layers that see the same
# gradient.

# %% tags=["nbval-check-output"]
names = ["low", "middle", "top"]
tower = keras.Sequential([keras.Input((1,)), *(layers.Dense(1, use_bias=False, name=name) for name in names)])
optimizer = training.layerwise(keras.optimizers.Adam(0.1), tower, transfer.discriminative_rates(names))
before = tower.get_weights()
optimizer.apply([ops.ones_like(variable) for variable in tower.trainable_variables], tower.trainable_variables)
for name, old, new in zip(names, before, tower.get_weights()):
    print(f"{name:7} {abs((new - old).item()):.4f}")

# %% [markdown]
# Steps 2 and 4, watched: the layers above the border learn, their rate a third of the top's. `EarlyStopping` waits
# five epochs for a lower validation loss, then goes back.


# %%
def thaw(model, border, factor, rate=1e-3):
    """Make the layers behind `border` learn, each group `factor` times more slowly than the one above it."""
    transfer.freeze(model, border, batch_norm=True)
    multipliers = transfer.discriminative_rates(group_starts, factor)
    optimizer = training.layerwise(keras.optimizers.Adam(rate), model, multipliers)
    return training.compile_classifier(model, optimizer)


def train_until_it_overfits(model, images, labels):
    """Fit with a live curve; stop five epochs behind the lowest validation loss, and go back to it."""
    back = keras.callbacks.EarlyStopping(monitor="val_loss", patience=5, restore_best_weights=True)
    validation = (validation_images, validation_labels)
    options = {"epochs": epochs, "batch_size": min(25, len(images)), "seed": seed, "validation_data": validation}
    return training.fit(model, (images, labels), callbacks=[back], **options).history


stages = {"top alone": start_accuracy}
histories = {}
for name, border, factor in (("upper layers", upper, 3), ("all layers", "", 10)):
    thaw(model, border, factor)
    histories[name] = train_until_it_overfits(model, images[drawn], labels[drawn])
    stages[name] = accuracy(model, test_images, test_labels)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for ax, (name, history) in zip(axes, histories.items()):
    plots.curves({"training": history["loss"], "validation": history["val_loss"]}, ylabel="cross-entropy", ax=ax)
    best = int(np.argmin(history["val_loss"])) + 1
    ax.axvline(best, color="0.4", linestyle=":")
    ax.set_title(f"{name}: back to epoch {best}")

# %%
plots.bars(
    stages, title=f"Test accuracy after each stage, {some} images of each class, one draw", baselines={"chance": chance}
)

# %% [markdown]
# The validation images are more than the training images here: comfortable, and not what a small project has. Without
# them one fixes the number of steps on another data set, or cross-validates. For the comparison over draws we
# therefore fine-tune for a fixed number of steps, without a look at the validation images.


# %%
positions = np.arange(len(images))[:, None]  # stand for the images, whose codes are at hand


class Tuned:
    """The upper layers fine-tuned for a fixed number of steps, on the training images with these positions."""

    def __init__(self, positions, labels, seed):
        chosen = positions[:, 0]
        model = with_top(images[chosen], labels, codes[chosen])
        rate = training.WarmupHoldDecay(1e-3, steps, warmup=steps // 10, decay=0.5)
        thaw(model, upper, 3, rate)
        x, y = transfer.repeat(images[chosen], labels, steps, 32, seed)
        model.fit(x, y, batch_size=32, shuffle=False, verbose=0)
        self.model = model

    def predict(self, _):
        return transfer.predict(self.model, test_images)


test_positions = np.arange(len(test_images))[:, None]
tuned = transfer.learning_curve({"fine-tuned": (positions, test_positions, Tuned)}, labels, test_labels, trained, seeds)

# %% [markdown]
# ## All methods, by the number of images
#
# The figure that stands for this lecture. The bands reach from the worst to the best draw.

# %% tags=["thumbnail"]
chosen = ["raw pixels", "HOG", "features"]
table = pd.concat([cheap[cheap["method"].isin(chosen)], tuned, alone])
ax = plots.learning_curve(table, baselines={"chance": chance}, title=f"{target}, with what {source} taught")


# %%
def from_scratch(count):
    """The accuracies of the network from scratch, in its better form: with augmentation or without."""
    forms = [at(alone, "scratch", count)]
    forms += [at(stretched, "scratch, augmented", count)] if count in scarce else []
    return max(forms, key=np.mean)


record(
    accuracy_raw_few=at(cheap, "raw pixels", few).mean(),
    accuracy_hog_few=at(cheap, "HOG", few).mean(),
    accuracy_random_few=at(cheap, "random features", few).mean(),
    accuracy_features_few=at(cheap, "features", few).mean(),
    accuracy_scratch_few=from_scratch(few).mean(),
    accuracy_finetuned_few=at(tuned, "fine-tuned", few).mean(),
    gain_over_scratch=(at(cheap, "features", few) - from_scratch(few)).mean(),
    gain_at_fewest=(at(cheap, "features", trained[0]) - from_scratch(trained[0])).mean(),
)

# %% [markdown]
# Read it from left to right. With digits, the fewer the images, the further are the pretrained features ahead of the
# network from scratch; with more the distance shrinks until it lies within the bands: **a large labelled target set
# makes transfer worth less** in accuracy; it still saves time. How many images are "many" depends on the target.
# Upright digits of one size are easy, and a network with recalibrated statistics learns them from a handful.
# Photographs of clothing are not: up to 20 a class, a network from scratch hardly beats raw pixels, and the distance
# still grows.
#
# How far ahead, exactly? The luck of a draw is common to all methods that are given it, so we subtract draw by draw.
# The black lines span the draws; a bar whose line crosses zero has shown nothing. Above, frozen features minus the
# network from scratch in its better form: with digits the lead is largest at one image a class and gone at twenty.
# Below, fine-tuning minus frozen features, and nothing to see: in both settings up to 20 images a class are too few
# to improve on a good code. The lab fine-tunes a network that averages whole maps, where there is more to gain.

# %%
frozen = {count: at(cheap, "features", count) for count in trained}
lead = {f"{count} a class": frozen[count] - from_scratch(count) for count in trained}
tuning = {f"{count} a class": at(tuned, "fine-tuned", count) - frozen[count] for count in trained}
figure, axes = plt.subplots(2, 1, figsize=(8, 4.2), sharex=True)
plots.bars(lead, xlabel="", title="Frozen features minus training from scratch", ax=axes[0])
plots.bars(tuning, xlabel="accuracy, on the same draws", title="Fine-tuned minus frozen features", ax=axes[1])

# %% [markdown]
# ### What it costs
#
# Seconds by the clock for one small training set of the largest size, prediction of the test images included. The
# features' time counts the network run over those training and test images once.

# %%
share = (some * len(classes) + len(test_images)) / len(everything)  # of the images whose codes were timed
embedding_seconds = seconds["computed"] * share
clock = {
    "features": embedding_seconds + at(cheap, "features", some, "seconds").mean()
    if some in per_class
    else embedding_seconds,
    "fine-tuned": embedding_seconds + at(tuned, "fine-tuned", some, "seconds").mean(),
    "scratch": at(alone, "scratch", some, "seconds").mean(),
}
plots.bars(clock, xlabel="seconds", title=f"One run with {some} images of each class, on this machine")

# %% [markdown]
# ### A recipe by the size of the data
#
# | images of each class | what learns | rates | mind |
# |---|---|---|---|
# | few (up to about 10) | a new top on frozen features | solved, no rate | draw several sets: luck is large |
# | some (tens to hundreds) | the top, then the upper layers | top 1, below 1/3 to 1/10 | augmentation, early stopping, frozen batch norms |
# | many (thousands) | all layers, the source's weights as a start | 1, 1/10, 1/100, or one rate | training from scratch is a rival now |
#
# And if the target lies far from the source, cut earlier: late features are the most specific ones, as we shall see.
# The same as a picture: blue is frozen, orange learns slowly, red learns at the full rate.

# %%
recipe = {"few": (0, 0, 0, 2), "some": (0, 0, 1, 2), "many": (1, 1, 1, 2)}
figure, ax = plt.subplots(figsize=(8, 2.2))
colours = [plots.PALETTE[5], plots.PALETTE[4], plots.PALETTE[1]]
for row, (name, parts) in enumerate(recipe.items()):
    for column, part in enumerate(parts):
        ax.add_patch(
            FancyBboxPatch(
                (column, -row), 0.8, 0.5, boxstyle="round,pad=.05", facecolor=colours[part], edgecolor="none"
            )
        )
        words = ["frozen", "slow", "full rate"][part]
        ax.text(column + 0.4, 0.25 - row, words, ha="center", va="center", color="black")
    ax.text(-0.2, 0.25 - row, f"{name} images", ha="right", va="center")
for column, name in enumerate(["early layers", "middle layers", "upper layers", "new top"]):
    ax.text(column + 0.4, 0.75, name, ha="center")
ax.set(xlim=(-1.2, 4), ylim=(-2.2, 1))
ax.set_axis_off()

# %% [markdown]
# ## How far does it reach?
#
# Transfer is used far from its source: networks trained on photographs read X-rays, satellite images and paintings.
# How would it look if it *failed*? A failing network is not one at chance: it is one whose features are no better
# than **random** features of the same architecture. So we always measure both, here with `untrained` random networks.
#
# Three targets: faces against other pieces of press photographs (a distant domain); crops of brick, grass and gravel;
# and four types of noise, of equal mean and strength, that differ in the distribution of the pixels alone.


# %%
def noise_types(count, seed):
    """Images (count, 32, 32, 1) of normal, uniform, Laplace and two-valued noise, deviation 40 about 128, and their types."""
    rng = np.random.default_rng(seed)
    shape, root = (count // 4, 32, 32, 1), 3**0.5
    kinds = [rng.normal(size=shape), rng.uniform(-root, root, shape), rng.laplace(scale=0.5**0.5, size=shape)]
    kinds.append(rng.choice([-1.0, 1.0], shape))
    noise = np.clip(128 + 40 * np.concatenate(kinds), 0, 255).astype("uint8")
    return noise, np.repeat(np.arange(4), count // 4)


def prepared(noise):
    """Noise at the size and with the channels that the backbone reads; each pixel is repeated."""
    times = max(image_size // 32, 1)
    return np.repeat(noise.repeat(times, axis=1).repeat(times, axis=2), channels, axis=3)


targets = {}
for name in (distant, unrelated):
    training_set = data.arrays(name, "train", per_class=30, seed=seed, **sized)
    targets[name] = (*training_set, *data.arrays(name, "test", per_class=20, **sized))
(noise, kinds), (test_noise, test_kinds) = noise_types(120, seed), noise_types(80, seed + 1)
targets["noise"] = (prepared(noise), kinds, prepared(test_noise), test_kinds)

# %%
rows = np.concatenate(
    [
        target_images[transfer.draw(target_labels, max(12 // (target_labels.max() + 1), 1), seed)][:12]
        for target_images, target_labels, _, _ in targets.values()
    ]
).astype("uint8")
plots.show_images(rows, columns=12, tile=0.7, title=f"{', '.join(targets)}: what the network is to tell apart now")

# %%
reach = {}
for name, (known, known_labels, new, new_labels) in targets.items():
    methods = {"pretrained": (transfer.embed(trunk, known), transfer.embed(trunk, new), logistic)}
    for number in range(untrained):
        methods[f"random {number}"] = (*random_codes(trunk, number, known, known, new), logistic)
    reach[name] = transfer.learning_curve(methods, known_labels, new_labels, (2, 5, 20), range(seed, seed + 5))
    reach[name]["method"] = reach[name]["method"].str.split().str[0]

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), sharey=True)
for ax, (name, table) in zip(axes, reach.items()):
    guess = 1 / (targets[name][1].max() + 1)
    plots.learning_curve(table, baselines={"chance": guess}, title=name, ax=ax)
    ax.set_xlabel("images per class")

# %%
scores = {
    (name, method): at(table, method, 5).mean() for name, table in reach.items() for method in ("pretrained", "random")
}
for name in targets:
    difference = scores[name, "pretrained"] - scores[name, "random"]
    print(
        f"{name:10} pretrained {scores[name, 'pretrained']:.3f}  random {scores[name, 'random']:.3f}  {difference:+.3f}"
    )
record(
    distant_gain=scores[distant, "pretrained"] - scores[distant, "random"],
    unrelated_gain=scores[unrelated, "pretrained"] - scores[unrelated, "random"],
    noise_gain=scores["noise", "pretrained"] - scores["noise", "random"],
)

# %% [markdown]
# Codes are averages over whole maps here, since place says nothing about a surface. What we found with the letters'
# network: on faces it is ahead of random features where images are scarcest, although no letter has a nose. On brick,
# grass and gravel the two lie within each other's spread: a random filter answers to the grain of a surface as
# well as one that looks for strokes. On noise the letters' network is behind: to read letters on noisy ground, it has
# learnt to ignore exactly what would tell one noise from another. What a source teaches to overlook is lost for the
# target; that is *negative transfer*.
#
# With ImageNet's network (profile `real`) neither textures nor noise are unrelated: photographs are full of grass,
# walls and grain, and it is ahead on all three. Whether two tasks are related is a property of both, not of one. One
# caution on faces: the "other" crops often have black borders, so a high score is easier than it looks.
#
# ## How transferable are features, by depth?
#
# Yosinski et al. (2014) split ImageNet's classes into two halves A and B, train a network on each, and move the first
# n layers of A into a new network for B: *frozen*, or *tuned* along. Early layers should serve any task, late ones
# their own. They also split by kind: 551 man-made and 449 natural classes [from the paper].
#
# > **What the slide says.** "551 natural and 449 man-made classes." The paper has it the other way round: 551
# > man-made, 449 natural.
#
# Our halves: letters a to m against n to z, small and capital, 26 classes each, at 16 × 16 pixels. (In the profile
# `real` too: this part is about letters.) First a network for A and one for B, from all their training images.


# %%
def halved(images):
    """Images at half the height and width, each pixel the mean of four."""
    count, height, width, _ = images.shape
    return images.reshape(count, height // 2, 2, width // 2, 2, 1).mean(axis=(2, 4)).round().astype("uint8")


test_letters, test_letter_labels = data.arrays("glyphs", "test")
reduced = {"train": (halved(letters), letter_labels), "test": (halved(test_letters), test_letter_labels)}


def half(split, which):
    """Images and labels 0 to 25 of the letters a to m (which 0) or n to z (which 1), small and capital."""
    pictures, numbers = reduced[split]
    letter, capital = numbers % 26, numbers // 26
    mine = letter // 13 == which
    return pictures[mine], (letter % 13 + 13 * capital)[mine]


def fresh(net_seed):
    return transfer.reinitialise(pretrained.backbone((16, 16, 1)), net_seed)


bases = [transfer.fine_tune(fresh(seed), *half("train", which), depth_steps, 64, 3e-3, seed=seed) for which in (0, 1)]
for base, which, name in zip(bases, (0, 1), "AB"):
    print(f"base {name}: {accuracy(base, *half('test', which)):.3f} of the test images of {name}")

# %% [markdown]
# Now networks for B with the first n of six convolutions from A, and the rest fresh, trained on few images of B.
# Before the curve, predict: frozen and n small is like training from scratch; frozen and n = 6 is a linear classifier
# on A's features. If A's late features were of no use for B, the frozen curve would fall at the end.

# %%
b_images, b_labels = half("train", 1)
b_test = half("test", 1)


def first_layers(n, frozen):
    """A fit function: n convolutions from A's network, frozen or tuned, the others fresh."""

    def fit(images, labels, seed):
        network = fresh(seed)
        border = transfer.copy_layers(bases[0], network, n)
        options = {"steps": steps, "learning_rate": 3e-3, "seed": seed, "recalibrate": True}
        return transfer.fine_tune(network, images, labels, up_to=border if frozen else "", **options)

    return fit


rows = []
for n in depths:
    for name, frozen in (("frozen", True), ("tuned", False)):
        if n or not frozen:
            run = {name: (b_images, b_test[0], first_layers(n, frozen))}
            table = transfer.learning_curve(run, b_labels, b_test[1], (5,), range(seed, seed + min(draws, 2)))
            rows.append(table.assign(layers=n))

# %%
depth = pd.concat(rows)
depth = pd.concat([depth[depth["layers"] == 0].assign(method="frozen"), depth])  # nothing copied: nothing to freeze
runs = {
    name: np.stack([rows["accuracy"] for _, rows in group.groupby("layers")], axis=1)
    for name, group in depth.groupby("method")
}
figure, ax = plt.subplots(figsize=(8, 3.6))
plots.curves(
    runs,
    x=depths,
    xlabel="convolutions copied from A",
    ylabel="test accuracy on B",
    baselines={"network B, with all its images": accuracy(bases[1], *b_test)},
    title="From a-m to n-z: 5 images of each class, by depth",
    ax=ax,
)

# %%
record(
    depth_scratch=runs["tuned"][:, 0].mean(),
    depth_frozen=runs["frozen"][:, -1].mean(),
    depth_tuned=runs["tuned"][:, -1].mean(),
)

# %% [markdown]
# With few images of B, copying helps a great deal: the first four convolutions carry most of it. Past them the frozen
# curve gains nothing or falls, since the last layers of A were made for the letters of A; tuned, they lose less.
# Yosinski et al. have as many images for B as for A. With those, copying cannot help much, and their frozen curve
# falls with depth, for two reasons that they tell apart: late features are specific to A, and neighbouring layers
# that grew up together are separated (*fragile co-adaptation*). Tuned copies lose nothing, and even generalise a
# little better than a network that never saw A [from the paper].
#
# ## Summary
#
# You can now
#
# - say why VGG16 cannot be trained on a few hundred images, and what is transferred instead: features, as weights;
# - compute CNN codes once, look at them (t-SNE, neighbours) and put a softmax or an SVM on them;
# - fine-tune from the top downwards with a rate for each group of layers, batch norms frozen, a few epochs back;
# - choose by the number of images: frozen features for few, the upper layers for some, everything for many;
# - tell transfer from architecture by measuring random features, and know targets where transfer does not help.
#
# ## Exercises
#
# 1. (easy) Which letters' features read digits best? Replace `backbone` by one that ends earlier and draw the
#    accuracy of `logistic` by layer. *Hint: `transfer.embed(backbone, images, layer="conv4_relu")`.*
# 2. (easy) Standardise the codes with mean and deviation of *all* images, test images included. What changes, and why
#    is the result no longer honest? *Hint: `sklearn.preprocessing.StandardScaler` outside the pipeline.*
# 3. (medium) Fine-tune all layers with one rate and the batch norms in training mode. Compare test accuracy and the
#    distance between the weights of conv1 before and after. *Hint: `transfer.fine_tune(backbone, ...,
#    batch_norm=False)`.*
# 4. (medium) Put pictures of your own into one folder for each class and give its path as `target`. Ten a class
#    are enough. *Hint: profile `real` if they are photographs; `course doctor` tells whether its files are there.*
# 5. (hard) Repeat the curve by depth with 200 images of each class and more steps. From which number of images on
#    does copying stop to help, and does the frozen curve fall at n = 6? *Hint: the fifth argument of
#    `learning_curve`.*
# 6. (hard) Make the letters' network tell noises apart: at which of its layers are the codes better than random ones?
#    *Hint: exercise 1 on `targets["noise"]`, and `random_codes` with the same layer.*
#
# ## Further reading
#
# - N. Dalal and B. Triggs, *Histograms of oriented gradients for human detection*, CVPR 2005.
# - L. van der Maaten and G. Hinton, *Visualizing data using t-SNE*, Journal of Machine Learning Research 9, 2008.
# - S. J. Pan and Q. Yang, *A survey on transfer learning*, IEEE Transactions on Knowledge and Data Engineering 22,
#   2010.
# - J. Donahue et al., *DeCAF: a deep convolutional activation feature for generic visual recognition*, ICML 2014.
# - A. S. Razavian, H. Azizpour, J. Sullivan and S. Carlsson, *CNN features off-the-shelf: an astounding baseline for
#   recognition*, CVPR workshops 2014.
# - J. Yosinski, J. Clune, Y. Bengio and H. Lipson, *How transferable are features in deep neural networks?*, NIPS
#   2014.
# - M. Sandler et al., *MobileNetV2: inverted residuals and linear bottlenecks*, CVPR 2018.
# - J. Howard and S. Ruder, *Universal language model fine-tuning for text classification*, ACL 2018 (discriminative
#   rates).
