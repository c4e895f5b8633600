# %% [markdown]
# # 06 Transfer learning
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/06_transfer_learning.ipynb)
#
# **How do you build an image classifier that trains in a few minutes on a CPU with very little data?** We shall have a
# few pictures of each class, and no more. A network trained from scratch on so few pictures makes many mistakes. A
# network that was trained on something else, and has never seen a picture of these classes, makes fewer.
#
# You will be able to
#
# - say what is transferred from where to where, and when to expect that it helps;
# - use a pretrained network as a feature extractor, with a linear classifier on its cached features;
# - fine-tune it, with the right layers frozen and the right rates, and stop in time;
# - compare it fairly: with raw pixels, with features made by hand, with random features, with training from scratch;
# - recognise the case in which batch normalisation spoils a small training run, and two in which transfer does not
#   help.
#
# It takes about an hour to read and six minutes to run. Sentences about which method does better speak of full runs
# with several draws and several seeds. The pictures of a shortened run may show something else. Boxes that begin with
# **What the slide says** quote widely used lecture decks. Figures marked [paper] come from the paper that is named, and
# are not computed here.

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
source: str = "glyphs"  # {glyphs, imagenet} what the network was trained on before
target: str = "digits"  # a data set, or the path of a folder with a subfolder per class
distant: str = "faces"  # a data set from another domain
unrelated: str = "textures"  # a data set that has nothing to do with letters
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
image_size: int = 32  # [16, 224] height and width that the images are brought to
scratch_size: int = 32  # [16, 224] the same for the network trained from scratch
grid: int = 2  # [1, 8] a feature map is averaged over grid x grid parts
few: int = 2  # [2, 50] images of each class wherever one number is quoted
per_class: list[int] = [1, 2, 5, 10, 20]  # images of each class, linear classifiers
trained: list[int] = [1, 2, 5, 20]  # the same for trained networks; contains `few`
draws: int = 3  # [1, 20] small training sets of each size, each drawn anew
untrained: int = 3  # [1, 10] random networks beside the pretrained one, far away
steps: int = 60  # [2, 2000] training steps of a network on a small training set
top_rates: list[float] = [1e-4, 1e-3]  # learning rates of the top, all layers thawed
factors: list[int] = [1, 3, 10]  # from one group of layers to the next; begins with 1
momenta: list[float] = [0.9, 0.999]  # of batch norms that learn in fine-tuning
epochs: int = 25  # [2, 200] most epochs of the fine-tuning that is watched
alphabet: int | None = None  # pictures of letters to learn from; None: all
pretraining_steps: int = 100  # [10, 5000] steps of the pretraining that is watched
looks: int = 10  # [2, 10] times that it is looked at
depth_steps: int = 200  # [5, 5000] training steps for each half of the alphabet
depths: list[int] = [0, 2, 4, 6]  # how many convolutions are copied; begins with 0

# %%
import tempfile
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import layers, ops

from utils import data, plots, pretrained, training, transfer
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# ## Too many parameters for too few images
#
# VGG16 is a good classifier of photographs. With two outputs in place of its thousand, how many parameters would we
# have to find? Its thirteen convolutions have 14,714,688. Its dense layers read 7 · 7 · 512 = 25,088 values, so they
# have 25,088 · 4,096 + 4,096, then 4,096 · 4,096 + 4,096, then 4,096 · 2 + 2 parameters. We expect 134,268,738 in all.

# %% tags=["nbval-check-output"]
shape = (224, 224, 3)
below = keras.applications.VGG16(weights=None, include_top=False, input_shape=shape)
counts = {"13 convolutions": below.count_params()}
inputs = int(np.prod(below.output_shape[1:]))
for name, outputs in {"fc1": 4096, "fc2": 4096, "predictions": 2}.items():
    counts[name] = (inputs + 1) * outputs  # a weight for each input, and a bias
    inputs = outputs
convolutions, total = counts["13 convolutions"], sum(counts.values())
print(f"{convolutions:,} in the convolutions, {total:,} in all")

# %% [markdown]
# > **What the slide says.** "VGG16 with two outputs: 134,268,737 parameters." The count above ends in 8. Each output
# > adds 4,096 weights and a bias. Two outputs therefore add an even number to the 134,260,544 below them, and an odd
# > total cannot be right.
#
# Three quarters of the parameters stand in one dense layer. A few hundred images cannot determine them: with one
# hundred images there are more than a million parameters for each image.

# %%
millions = {name: count / 1e6 for name, count in counts.items()}
plots.bars(millions, xlabel="parameters, millions", title="VGG16, two outputs")

# %% [markdown]
# ## What is transferred
#
# Traditional learning begins every task from nothing: it has its own data and its own model. In transfer learning the
# model of one task, learned from many data, is the beginning of the next one.

# %%
alone = [("data A", False, None), ("model A", False, None)]
other = [("data B", False, None), ("model B", False, None)]
moved = [
    ("many data\n(source)", False, plots.SKY),
    ("pretrained\nnetwork", False, plots.SKY),
    ("its features", False, plots.SKY),
    ("new classifier,\nfrom few data\n(target)", False, plots.ORANGE),
]
rows = {"task A alone": alone, "task B alone": other, "transfer": moved}
plots.pipelines(rows, title="What goes along from one task to the next")

# %% [markdown]
# Two words from Pan and Yang (2010). A **domain** is a kind of input: the space of the inputs, and how they are
# distributed in it. A **task** is a set of labels, and the rule that gives an input its label. Source and target may
# differ in either.
#
# | | source | target |
# |---|---|---|
# | default | printed letters drawn by a program; 52 classes | handwritten digits, scanned; 10 classes |
# | profile `real` | photographs of ImageNet; 1,000 classes | photographs of clothing; 10 classes |
#
# Here domain and task change in both rows. A **pretrained model** is the trained network kept as a file. It is a
# generic, reusable asset: it is made once, with many data and much computing time, and it is used many times with
# little of either.
#
# A program drew the letters. Synthesised data may not represent the true distribution: no pen, no scanner and no hand
# had a part in them. So the digits are a serious test, because they are real. The first picture shows letters of the
# source. The second one shows images of our target.

# %%
split = f"train[:{alphabet}]" if alphabet else "train"
letters, letter_labels = data.arrays("glyphs", split)
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
most = np.bincount(test_labels).max()
chance = float(most / len(test_labels))  # what the most frequent class alone reaches
shown = transfer.draw(labels, 2, seed)
plots.show_images(images[shown], labels[shown], classes=classes, columns=10)

# %% [markdown]
# We keep all training images at hand, but a method may look only at the few that are drawn for it. The test images
# serve for measuring alone.
#
# ### Pretraining, watched
#
# A network with six convolutions (32, 32, 64, 64, 128, 128 filters), a global average and a dense layer with 52 outputs
# learns to read letters. We watch the first steps of that training. Guessing is right once in 52 times, so the loss
# begins near log 52 ≈ 4.

# %%
shape, count = letters.shape[1:], len(letter_classes)
reader = pretrained.backbone(shape, count, include_top=True)
warmup = pretraining_steps // 10
rate = training.WarmupHoldDecay(2e-3, pretraining_steps, warmup=warmup)
training.compile_classifier(reader, keras.optimizers.AdamW(rate, weight_decay=1e-3))
x, y = transfer.repeat(letters, letter_labels, pretraining_steps, 64, seed)
portion = len(x) // looks  # what the curve calls an epoch
held_out = data.arrays("glyphs", "validation[:256]")


def part(epoch):
    """The images and labels of one part of the run."""
    own = slice(epoch * portion, (epoch + 1) * portion)
    return x[own], y[own]


# %%
baselines = {"accuracy": {"chance": 1 / len(letter_classes)}}
live = training.LiveCurves(["accuracy"], baselines=baselines)
options = {"validation_data": held_out, "callbacks": [live], "seed": seed}
watched = training.fit(reader, part, looks, batch_size=64, **options)

# %% [markdown]
# The curve has one point for each of `looks` equal parts of the run. The file that this course ships comes from a
# longer run: ten times the 100 steps of the profile `cpu`, with letters that are zoomed and turned. Its card says how
# it was made. ImageNet's weights come from `keras.applications`. They took days on GPUs, and nobody repeats that for a
# classifier of ten classes.

# %%
del reader
card = pretrained.describe("glyphs")
print(f"{card['command']} | seed {card['seed']} | {card['bytes']:,} bytes")
print(card["score"])

# %%
if source == "glyphs":
    backbone = pretrained.load("glyphs", input_shape=(image_size, image_size, 1))
    upper = "conv4_relu"  # the last frozen layer where the upper layers learn
    group_starts = ["conv1", "conv5", "logits"]  # where the groups of layers begin
else:
    backbone = pretrained.imagenet("MobileNetV2")
    upper = "block_13_project_BN"
    group_starts = ["Conv1", "block_14_expand", "logits"]
kinds = (layers.Conv2D, layers.DepthwiseConv2D)
convolved = sum(isinstance(layer, kinds) for layer in backbone.layers)
parameters = backbone.count_params()
print(f"{backbone.name}: {convolved} convolutions, {parameters:,} parameters")

# %% [markdown]
# ## Features
#
# Cut off the last dense layer, which knows the classes of the source. The rest turns an image into feature maps. Here
# are some of the maps of one image.

# %%
first = images[:1]
maps = transfer.predict(backbone, first, batch_size=1)[0]  # (height, width, features)
plots.show_feature_maps(maps, count=15, image=first[0])

# %% [markdown]
# From the maps we want a row of numbers, the image's **code**. Donahue et al. (2014) and Razavian et al. (2014), who
# made such codes popular, took the outputs of a *fully connected* layer: 4,096 numbers for each image [paper]. Today's
# networks have no such layer. They end in **global average pooling** (Lin et al. 2014): the average of each map over
# the whole image is one number, and all averages together are the code.
#
# An average forgets *where* a feature was found. That is welcome for photographs, where a shirt may lie anywhere. For
# digits the place tells a lot: a 6 and a 9 have the same strokes. For them we average over the four quarters of the
# image, and write the averages in a row. We predict 4 · 128 = 512 numbers.


# %%
def with_codes(network, side, grid):
    """A network for images of `side` pixels that averages parts of its maps.

    It gives the averages over grid x grid parts of each map, in a row.
    """
    if grid == 1:
        return network  # utils.transfer averages whole maps by itself
    shape = (1, side, side, network.input.shape[-1])
    _, height, _, features = network.compute_output_shape(shape)
    parts = layers.AveragePooling2D(height // grid, name="parts")(network.output)
    row = layers.Reshape((grid * grid * features,), name="row")(parts)
    return keras.Model(network.input, row)


trunk = backbone
backbone = with_codes(trunk, image_size, grid)

# %% [markdown]
# A code is computed once and used many times, because the network below it does not change. `transfer.embed` can keep
# codes in a folder, under a name that depends on the content of images and weights. The first call runs the network.
# The second call reads a file, and we expect it to take a small part of the time.

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
title = f"Codes of {len(everything):,} images, {codes.shape[1]:,} numbers each"
plots.bars(seconds, xlabel="seconds", title=title)

# %% [markdown]
# Do the codes know something about classes that the network never saw? We look at where they lie, before any training.
# Principal components show the two directions of largest spread. t-SNE (van der Maaten and Hinton 2008) places images
# so that neighbours stay neighbours. Each point is an image of the target. Its colour is its label, which had no part
# in placing it.

# %%
picked = transfer.draw(labels, min(40, np.bincount(labels).min()), seed)
figure, axes = plt.subplots(1, 2, figsize=(8, 4))
for ax, (method, title) in zip(axes, (("pca", "PCA"), ("tsne", "t-SNE"))):
    points = transfer.project(codes[picked], method, seed)
    plots.embedding(points, labels[picked], classes, title=title, ax=ax)

# %% [markdown]
# Where classes form islands, a simple classifier will do. Where they mix (shirts and T-shirts, say), it will make
# mistakes. We ask the same for single images: which training images are nearest, by the angle between the codes? The
# first image of each row is the query, a test image. A class in brackets is not the class of the query.

# %%
queries = transfer.draw(test_labels, 1, seed)[:5]
indices, _ = transfer.neighbours(codes, test_codes[queries], k=5)
pairs = list(zip(queries, indices))
rows = np.concatenate([[test_images[query], *images[near]] for query, near in pairs])
nearby = np.concatenate([[test_labels[query], *labels[near]] for query, near in pairs])
wanted = np.repeat(test_labels[queries], 6)
names = [classes[k] for k in nearby]
titles = [n if k == own else f"({n})" for n, k, own in zip(names, nearby, wanted)]
plots.show_images(rows, titles=titles, columns=6, tile=1.0)

# %% [markdown]
# ## A linear classifier on top
#
# Everything below the last dense layer stays as it is. A new softmax layer is trained on the codes. That is softmax
# regression (on codes standardised with the mean and the deviation of the training codes), and it is solved in a
# fraction of a second. A linear support vector machine (SVM) is the other usual choice.
#
# To judge it we need rivals that get equally few images:
#
# - **raw pixels**, no features at all;
# - **HOG**, histograms of oriented gradients, a strong feature made by hand (Dalal and Triggs 2005);
# - **random features**: the same network with random weights, whose batch norms were set on unlabelled images. They
#   tell how much the architecture gives by itself, and how much the pretraining adds.
#
# All methods get the same small training sets, drawn with several seeds.

# %%
hog, test_hog = transfer.hog(images), transfer.hog(test_images)
apart = 4 if image_size > 32 else 1  # of large photographs every fourth pixel
thinned = [array[:, ::apart, ::apart] / 255.0 for array in (images, test_images)]
pixels, test_pixels = (array.reshape(len(array), -1) for array in thinned)


def random_codes(network, net_seed, settle, *arrays):
    """Codes of arrays of images by the same architecture with random weights.

    Its batch norms are settled on the images `settle`.
    """
    fresh = transfer.reinitialise(network, net_seed)
    transfer.recalibrate_batch_norm(fresh, settle, batch_size=32)
    return [transfer.embed(fresh, array) for array in arrays]


both = images, test_images
random_features, test_random = random_codes(backbone, seed, images[:128], *both)


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
if grid > 1:  # the mean over the parts is the mean over the whole map
    shape = (-1, grid**2, codes.shape[1] // grid**2)
    whole = [array.reshape(shape).mean(axis=1) for array in (codes, test_codes)]
    methods["features, no place"] = (*whole, logistic)
cheap = transfer.learning_curve(methods, labels, test_labels, per_class, seeds)


# %%
def at(table, method, count, column="accuracy"):
    """What a method reached with `count` images a class, one value for each draw."""
    return table.query("method == @method and per_class == @count")[column].to_numpy()


reached = {name: at(cheap, name, few) for name in methods}
title = f"{few} images of each class; a dot for each draw"
plots.dots({"draws": reached}, "test accuracy", {"chance": chance}, title=title)

# %% [markdown]
# What the source taught is the distance between *random features* and *features*. In the default setting random
# features are a strong rival: nobody chose these filters, and with pooling behind them they already describe an image.
# MobileNetV2 (profile `real`) has fifty layers, and fifty random layers leave nothing of an image; there HOG is the
# rival to beat. The two linear classifiers hardly differ. *Features, no place* are averages over whole maps. Their
# distance to *features* is what the quarters are worth.

# %% [markdown]
# ## From scratch, and a pitfall
#
# The rival that matters is a network trained on the few images alone. With few images it falls into a trap that has
# nothing to do with learning. Batch normalisation trains with the statistics of the batch, and predicts with running
# averages, which begin at mean 0 and variance 1. At Keras's default momentum of .99 each step moves them by a hundredth
# of the way. After 20 steps .99^20 = 82 % of the beginning is still in them. We expect a network that knows its
# training images by heart and still predicts them badly.


# %%
def small(array):
    """Images at the size that the network trained from scratch reads."""
    if scratch_size == image_size:
        return array
    resized = ops.image.resize(array, (scratch_size, scratch_size), antialias=True)
    return ops.convert_to_numpy(resized).astype("uint8")


small_images, small_test = small(images), small(test_images)
drawn = transfer.draw(labels, few, seed)
few_images, few_labels = small_images[drawn], labels[drawn]
plain = pretrained.backbone(few_images.shape[1:], momentum=0.99)
slow = with_codes(plain, scratch_size, grid)
options = {"steps": 20, "dropout": 0, "learning_rate": 3e-3, "seed": seed}
network = transfer.fine_tune(slow, few_images, few_labels, **options)


# %%
def accuracy(network, images, labels):
    """Share of images that a network gets right in use, with its running averages."""
    return float(np.mean(transfer.predict(network, images).argmax(axis=1) == labels))


def in_training_mode(network, images, labels, size):
    """The same in batches of `size`, each normalised with its own statistics."""
    copy = transfer.clone(network)  # whose running averages may move
    batches = [images[k : k + size] for k in range(0, len(images), size)]
    logits = [ops.convert_to_numpy(copy(batch, training=True)) for batch in batches]
    return float(np.mean(np.concatenate(logits).argmax(axis=1) == labels))


known, count = (few_images, few_labels), len(few_images)
pitfall = {
    "training images, running averages": accuracy(network, *known),
    "training images, batch statistics": in_training_mode(network, *known, count),
    "test images, running averages": accuracy(network, small_test, test_labels),
}
transfer.recalibrate_batch_norm(network, few_images)
pitfall["training images, recalibrated"] = accuracy(network, *known)
pitfall["test images, recalibrated"] = accuracy(network, small_test, test_labels)
title = "One network, two kinds of statistics"
plots.bars(pitfall, baselines={"chance": chance}, title=title)

# %% [markdown]
# The weights are the same in all five bars. Recalibrated, the network knows its training images in use too. The last
# bar tells what it knows about *other* images: a good deal with digits, next to nothing with photographs, and no
# statistics can mend that. These are ways out of the trap, in the order of preference:
#
# 1. **Recalibrate.** After training, one pass over the training images measures mean and variance anew.
# 2. **A smaller momentum**, or more steps. With .9 some tens of steps are enough.
# 3. **Freeze batch normalisation** of a pretrained network. In Keras `trainable = False` on a batch norm means
#    *inference mode*: it uses its running statistics and leaves them alone, even in `fit`. They are the statistics of
#    the source, and they come from many images.
#
# A frozen batch norm computes the same in training and in use. We check that it does not move.

# %% tags=["nbval-check-output"]
probe = pretrained.backbone((16, 16, 1))
noise = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 1)).astype("float32")
norm = probe.get_layer("conv1_bn")
for frozen in (False, True):
    probe.trainable = not frozen
    before = norm.get_weights()[2]  # the running mean
    probe(noise, training=True)
    moved = not np.array_equal(before, norm.get_weights()[2])
    learning = len(probe.trainable_variables)
    print(f"frozen: {frozen!s:5}  arrays that learn: {learning:2}  mean moved: {moved}")

# %% [markdown]
# ### Augmentation
#
# A small set can be stretched: each time an image is used, it is moved, turned and zoomed a little. (Photographs are
# mirrored too. A mirrored digit is no digit.) Here is one image, sixteen times.

# %%
stretch = [
    layers.RandomTranslation(0.08, 0.08, fill_mode="nearest", seed=seed),
    layers.RandomRotation(0.03, fill_mode="nearest", seed=seed),
    layers.RandomZoom(0.1, fill_mode="nearest", seed=seed),
]
if channels == 3:
    stretch.append(layers.RandomFlip("horizontal", seed=seed))
augmentation = keras.Sequential(stretch)


def augment(images, rng):
    """Each image moved, turned and zoomed at random; uint8 in, uint8 out."""
    changed = []
    for batch in np.array_split(images.astype("float32"), -(-len(images) // 64)):
        changed.append(ops.convert_to_numpy(augmentation(batch, training=True)))
    return np.concatenate(changed).round().astype("uint8")


copies = np.repeat(few_images[:1], 16, axis=0)
plots.show_images(augment(copies, None), columns=8, tile=1.0)

# %% [markdown]
# Now the rival gets a fair chance: enough steps, the momentum .9, recalibrated statistics. We train it with
# augmentation and without.


# %%
def scratch(images, labels, seed, augment=None):
    """The small network trained on few images alone, as well as we can."""
    plain = pretrained.backbone(images.shape[1:])
    fresh = transfer.reinitialise(with_codes(plain, scratch_size, grid), seed)
    options = {"steps": steps, "learning_rate": 3e-3, "augment": augment, "seed": seed}
    return transfer.fine_tune(fresh, images, labels, recalibrate=True, **options)


def scratch_augmented(images, labels, seed):
    return scratch(images, labels, seed, augment)


arrays = (small_images, small_test)
plain_run = {"scratch": (*arrays, scratch)}
alone = transfer.learning_curve(plain_run, labels, test_labels, trained, seeds)
stretched_run = {"scratch, augmented": (*arrays, scratch_augmented)}
scarce = [count for count in trained if count <= few]  # where it has most to give
stretched = transfer.learning_curve(stretched_run, labels, test_labels, scarce, seeds)

# %%
features = cheap[cheap["method"] == "features"]
title = "From scratch, with and without augmentation, and frozen features"
table = pd.concat([alone, stretched, features])
plots.learning_curve(table, baselines={"chance": chance}, title=title)

# %% [markdown]
# ## Fine-tuning
#
# So far the network below the classifier stayed as the source had made it. Now layers of it learn as well. The usual
# recipe has four steps.
#
# 1. Train the new top alone, with everything below it frozen. (Random weights on top would send large and useless
#    gradients down, and these would destroy what was transferred.) Our softmax regression is that top.
# 2. Thaw the upper layers and train on with a small rate. The batch norms stay in inference mode.
# 3. Thaw everything, with **discriminative rates**: each earlier group of layers learns 3 to 10 times more slowly, for
#    example with 1/10 and 1/100 of the top's rate. Early layers find edges and strokes, which serve every task.
# 4. Go on **until it overfits, then a few epochs back**: stop when the validation loss no longer falls, and restore the
#    weights of the best epoch.
#
# First step 1 in code. Dividing the codes by their deviation and then multiplying by weights is the same as multiplying
# the codes by other weights. So the regression moves into the network without loss.


# %%
def with_top(images, labels, codes):
    """The pretrained network with the softmax regression on these codes on top."""
    probe = transfer.linear_probe(codes, labels)
    scaler, regression = (step for _, step in probe.steps)
    weights, bias = regression.coef_, regression.intercept_
    if len(classes) == 2:  # scikit-learn keeps one row: the lead of the second class
        weights, bias = (np.concatenate([0 * row, row]) for row in (weights, bias))
    kernel = weights.T / scaler.scale_[:, None]  # (features, classes)
    model = transfer.classifier(backbone, len(classes), dropout=0)
    top = model.get_layer("logits")
    top.set_weights([kernel, bias - scaler.mean_ @ kernel])
    return model


# %%
some = max(trained)
drawn = transfer.draw(labels, some, seed)
model = with_top(images[drawn], labels[drawn], codes[drawn])
regression = transfer.linear_probe(codes[drawn], labels[drawn])
start_accuracy = accuracy(model, test_images, test_labels)
on_codes = regression.score(test_codes, test_labels)
print(f"{start_accuracy:.3f} in one network, {on_codes:.3f} as regression on codes")

# %% [markdown]
# How many parameters may then learn? With the letters' backbone and ten classes we expect 512 · 10 + 10 = 5,130 for the
# top alone. conv5 and conv6 add 9 · 64 · 128 + 9 · 128 · 128 = 221,184, with their batch norms frozen.

# %% tags=["nbval-check-output"]
plain = with_codes(pretrained.backbone((32, 32, 1)), 32, 2)
counted = transfer.classifier(plain, 10)
borders = {"top": "codes_dropout", "from conv5 on": "conv4_relu", "all": ""}
for text, border in borders.items():
    transfer.freeze(counted, border, batch_norm=True)
    count = sum(int(np.prod(v.shape)) for v in counted.trainable_variables)
    print(f"{text:14} {count:>9,} parameters learn")

# %% [markdown]
# Now a rate for each group. `training.layerwise` multiplies the optimizer's *step*, not the gradient. Adam divides by
# the size of the gradient, so that a factor on the gradient would have no effect. We predict steps of .001, .01 and .1
# for three layers that get the same gradient.

# %% tags=["nbval-check-output"]
names = ["low", "middle", "top"]
stack = [layers.Dense(1, use_bias=False, name=name) for name in names]
tower = keras.Sequential([keras.Input((1,)), *stack])
multipliers = transfer.discriminative_rates(names)
optimizer = training.layerwise(keras.optimizers.Adam(0.1), tower, multipliers)
before = tower.get_weights()
optimizer.apply([ops.ones((1, 1)) for _ in names], tower.trainable_variables)
for name, old, new in zip(names, before, tower.get_weights()):
    print(f"{name:7} {abs((new - old).item()):.4f}")

# %% [markdown]
# We watch steps 2 to 4. `EarlyStopping` waits five epochs for a lower validation loss, then it goes back.


# %%
def thaw(model, border, factor, rate=1e-3, momentum=None):
    """Let the layers behind `border` learn, each group `factor` times more slowly.

    With a `momentum` the batch norms learn too, and their averages move with it.
    """
    transfer.freeze(model, border, batch_norm=momentum is None)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization) and momentum is not None:
            layer.momentum = momentum
    multipliers = transfer.discriminative_rates(group_starts, factor)
    optimizer = training.layerwise(keras.optimizers.Adam(rate), model, multipliers)
    return training.compile_classifier(model, optimizer)


# %%
def train_until_it_overfits(model, images, labels):
    """Stop five epochs behind the lowest validation loss, and go back to it."""
    back = {"patience": 5, "restore_best_weights": True}
    stop = keras.callbacks.EarlyStopping("val_loss", **back)
    options = {"batch_size": min(25, len(images)), "seed": seed, "callbacks": [stop]}
    options["validation_data"] = validation_images, validation_labels
    return training.fit(model, (images, labels), epochs, **options).history


# %%
stages, histories = {"top alone": start_accuracy}, {}
for name, border, factor in (("upper layers", upper, 3), ("all layers", "", 10)):
    thaw(model, border, factor)
    histories[name] = train_until_it_overfits(model, images[drawn], labels[drawn])
    stages[name] = accuracy(model, test_images, test_labels)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for ax, (name, history) in zip(axes, histories.items()):
    sides = {"training": history["loss"], "validation": history["val_loss"]}
    best = int(np.argmin(history["val_loss"])) + 1
    title = f"{name}: back to epoch {best}"
    plots.curves(sides, ylabel="cross-entropy", title=title, ax=ax)
    ax.axvline(best, color="0.4", linestyle=":")

# %%
title = f"Test accuracy after each stage, {some} images of each class, one draw"
plots.bars(stages, baselines={"chance": chance}, title=title)

# %% [markdown]
# There are more validation images than training images here. That is comfortable, and a small project does not have
# it. Without validation images one fixes the number of steps on another data set, or uses cross-validation. For the
# comparisons over several draws we therefore fine-tune for a fixed number of steps, without a look at the validation
# images.


# %%
def tuner(border, factor, top_rate=1e-3, momentum=None):
    """A function that fine-tunes for `steps` steps on the images of some positions."""
    kept = []  # one network for all draws: it is compiled once

    def fit(positions, labels, seed):
        chosen = positions[:, 0]
        model = with_top(images[chosen], labels, codes[chosen])
        if not kept:
            rate = training.WarmupHoldDecay(top_rate, steps, steps // 10, 0.5)
            kept.append(thaw(model, border, factor, rate, momentum))
        kept[0].set_weights(model.get_weights())
        for variable in kept[0].optimizer.variables:
            variable.assign(ops.zeros_like(variable))
        x, y = transfer.repeat(images[chosen], labels, steps, 32, seed)
        kept[0].fit(x, y, batch_size=32, shuffle=False, verbose=0)
        return kept[0]

    return fit


# %%
def fine_tuned(tuners, counts):
    """The learning curves of some tuners, by name."""
    positions = np.arange(len(images))[:, None]  # for images, whose codes are at hand
    methods = {name: (positions, test_images, fit) for name, fit in tuners.items()}
    return transfer.learning_curve(methods, labels, test_labels, counts, seeds)


tuned = fine_tuned({"fine-tuned": tuner(upper, 3)}, trained)

# %% [markdown]
# ### Does each group need its own rate?
#
# Discriminative rates are said to protect what was transferred. Do they also give a better network? We thaw all layers
# and compare one rate for all groups (a factor of 1) with factors of 3 and 10. We do this at two top rates, because a
# factor also makes training slower as a whole: a comparison at a single rate would mix up the two effects.

# %%
middle = trained[len(trained) // 2]  # images of each class
forms = {f"1, 1/{factor}, 1/{factor**2}": factor for factor in factors[1:]}
forms = {"one rate": 1} | forms
tuners = {}
for top_rate in top_rates:
    for form, factor in forms.items():
        tuners[f"{form} at {top_rate:g}"] = tuner("", factor, top_rate)
by_rates = fine_tuned(tuners, [middle])
linear = {"top alone": (codes, test_codes, logistic)}
untouched = transfer.learning_curve(linear, labels, test_labels, [middle], seeds)
before = at(untouched, "top alone", middle)

# %%
gains = {}
for top_rate in top_rates:
    names = {form: f"{form} at {top_rate:g}" for form in forms}
    runs = {form: at(by_rates, name, middle) - before for form, name in names.items()}
    gains[f"top rate {top_rate:g}"] = runs
xlabel = "gain in accuracy over the top alone"
title = f"All layers learn, {middle} images of each class"
plots.dots(gains, xlabel, {"no gain": 0}, title=title)

# %%
difference = {}
for name, runs in gains.items():
    difference[name] = runs[form] - runs["one rate"]  # the last form, draw by draw
names = list(gains)
low, high = names[0], names[-1]
record(
    gain_one_rate_low=gains[low]["one rate"].mean(),
    gain_one_rate_high=gains[high]["one rate"].mean(),
    gain_groups_high=gains[high][form].mean(),
    groups_gain_low=difference[low].mean(),
    groups_gain_high=difference[high].mean(),
)

# %% [markdown]
# With digits, at the lower top rate all forms give the same: none of them gains over the top alone, and a rate for each
# group gains nothing over one rate. The tenfold rate tells them apart. With one rate the network falls behind the top
# alone in every draw: the few digits change the lower layers, which many letters had taught. With 1/10 and 1/100 of
# that rate in the lower groups it stays where it was. So discriminative rates did not give a better network than one
# rate that is low enough. They protect what lies below when the rate on top is high, and that is worth something where
# there are too few images to choose the rate with.
#
# ### The second door of the trap
#
# What happens if the batch norms of the pretrained network learn on? First, without any training: we take the network
# with its new top as it is, and let it read test images in training mode. Each batch is then normalised with its own
# mean and variance, and not with those of the source. The weights are the same.

# %%
drawn = transfer.draw(labels, some, seed)
unchanged = with_top(images[drawn], labels[drawn], codes[drawn])
of_size, read = {}, min(256, len(test_images))
for size in (2, 4, 8, 32, 128):
    of_size[f"batches of {size}"] = []
    for draw in seeds:
        order = np.random.default_rng(draw).permutation(len(test_images))[:read]
        batch = test_images[order], test_labels[order]
        of_size[f"batches of {size}"].append(in_training_mode(unchanged, *batch, size))
usual = accuracy(unchanged, test_images, test_labels)
title = "The same weights, normalised with the statistics of the batch"
baselines = {"running averages": usual, "chance": chance}
plots.dots({"draws": of_size}, "test accuracy", baselines, title=title)

# %% [markdown]
# Nothing was trained, and yet the accuracy drops. The smaller the batch, the less its mean and variance say about the
# data, and the more an image's code depends on the other images of its batch. Large batches do not close the distance
# either, because the top was fitted to codes that were made with other statistics. This is what hurts first when batch
# norms learn on: the loss of the first step is that of a network in this state.
#
# Then the running averages move away from the source. How much of the source is left in them after n steps is the
# momentum to the power of n. Our network was trained with a momentum of .9; MobileNetV2 has .999 in Keras. We fine-tune
# with both.

# %%
names = {momentum: f"norms learn, momentum {momentum:g}" for momentum in momenta}
tuners = {name: tuner(upper, 3, momentum=m) for m, name in names.items()}
by_norms = fine_tuned(tuners, [middle])
after = {"top alone": before, "norms frozen": at(tuned, "fine-tuned", middle)}
after |= {name: at(by_norms, name, middle) for name in tuners}
title = f"Upper layers learn for {steps} steps, {middle} images of each class"
plots.dots({"draws": after}, "test accuracy", title=title)

# %%
for momentum in momenta:
    share = momentum**steps
    print(f"momentum {momentum}: {share:.1%} of the source left after {steps} steps")
fast, slow = after[names[momenta[0]]], after[names[momenta[-1]]]
record(
    small_batch_drop=usual - np.mean(of_size["batches of 4"]),
    fast_norms_gain=(fast - after["norms frozen"]).mean(),
    slow_norms_gain=(slow - after["norms frozen"]).mean(),
)

# %% [markdown]
# With .9 the statistics of the source are gone after these steps. The network has got used to those of the batches, and
# with batches of 32 it ends about as well as with frozen norms. With .999 nearly all of the source's statistics are
# still in use, but the weights were trained with the statistics of the batches. The network that is used is not the
# network that was trained, and it ends far below the top alone. So what goes wrong depends on the momentum: the source
# is forgotten, or the averages do not fit the weights. Frozen norms avoid both.
#
# ## All methods, by the number of images
#
# This figure stands for the lecture. The bands reach from the worst draw to the best one.

# %% tags=["thumbnail"]
chosen = ["raw pixels", "HOG", "features"]
table = pd.concat([cheap[cheap["method"].isin(chosen)], tuned, alone])
title = f"{target}, with what {source} taught"
ax = plots.learning_curve(table, baselines={"chance": chance}, title=title)


# %%
def from_scratch(count):
    """The accuracies of the network from scratch, in its better form."""
    forms = [at(alone, "scratch", count)]
    forms += [at(stretched, "scratch, augmented", count)] if count in scarce else []
    return max(forms, key=np.mean)


frozen = {count: at(cheap, "features", count) for count in trained}
lead = {count: frozen[count] - from_scratch(count) for count in trained}
record(
    accuracy_raw_few=at(cheap, "raw pixels", few).mean(),
    accuracy_hog_few=at(cheap, "HOG", few).mean(),
    accuracy_random_few=at(cheap, "random features", few).mean(),
    accuracy_features_few=frozen[few].mean(),
    accuracy_scratch_few=from_scratch(few).mean(),
    accuracy_finetuned_few=at(tuned, "fine-tuned", few).mean(),
    gain_over_scratch=lead[few].mean(),
    gain_at_fewest=lead[trained[0]].mean(),
    gain_at_most=lead[some].mean(),
)

# %% [markdown]
# Read the figure from left to right. With digits, the pretrained features are ahead of the network from scratch where
# images are few. With more images the distance shrinks, until it lies within the bands: **a large labelled target set
# makes transfer worth less** in accuracy. It still saves time. How many images are "many" depends on the target.
# Upright digits of one size are easy, and a network with recalibrated statistics learns them from a handful.
# Photographs of clothing are not easy: up to 20 a class, a network from scratch hardly beats raw pixels, and the
# distance still grows.
#
# How far ahead, exactly? All methods get the same draw, with its good or bad luck. So we subtract draw by draw. If the
# dots of a row lie on both sides of zero, that row has shown nothing. In the left picture the frozen features are
# compared with the network from scratch in its better form: with digits the lead is largest where images are fewest,
# and gone at twenty a class. In the right picture fine-tuning is compared with frozen features. In both settings up to
# 20 images a class are too few for fine-tuning to improve much on a good code. (The lab fine-tunes a network that
# averages whole maps. Its code is worse, and there is more to gain.)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True)
tuning = {n: at(tuned, "fine-tuned", n) - frozen[n] for n in trained}
sides = {"features minus scratch": lead, "fine-tuned minus features": tuning}
for ax, (title, values) in zip(axes, sides.items()):
    rows = {f"{count} a class": runs for count, runs in values.items()}
    xlabel = "accuracy, on the same draws"
    plots.dots({"draws": rows}, xlabel, title=title, ax=ax)
    ax.axvline(0, color=plots.GREY, linestyle="--")

# %% [markdown]
# ### What it costs
#
# Seconds by the clock for one small training set of the largest size, with the prediction of the test images. For the
# features we count one pass of the network over these images. The first draw of fine-tuning also pays for compiling the
# network; from scratch every draw does.

# %%
share = (some * len(classes) + len(test_images)) / len(everything)
embedding = seconds["computed"] * share  # for the images of one draw
clock = {
    "fine-tuned": embedding + at(tuned, "fine-tuned", some, "seconds"),
    "scratch": at(alone, "scratch", some, "seconds"),
}
if some in per_class:
    clock["features"] = embedding + at(cheap, "features", some, "seconds")
title = f"One run with {some} images of each class, on this machine"
plots.dots({"draws": clock}, "seconds", title=title)

# %% [markdown]
# ### A recipe by the size of the data
#
# | images of each class | what learns | rates | mind |
# |---|---|---|---|
# | few (up to about 10) | a new top on frozen features | solved, no rate | draw several sets: luck is large |
# | some (tens to hundreds) | the top, then the upper layers | a small one; 1/3 to 1/10 of it below the top | augmentation, early stopping, frozen batch norms |
# | many (thousands) | all layers; the source's weights are a start | 1, 1/10, 1/100, or one small rate | training from scratch is a rival now |
#
# If the target lies far from the source, cut the network earlier: late features are the most specific ones, as we shall
# see. The picture shows the recipe. Blue layers are frozen, yellow ones learn slowly, red ones learn at the full rate.

# %%
colours = {"frozen": plots.SKY, "slow": plots.YELLOW, "full rate": plots.VERMILLION}
recipe = {
    "few images": ("frozen", "frozen", "frozen", "full rate"),
    "some": ("frozen", "frozen", "slow", "full rate"),
    "many": ("slow", "slow", "slow", "full rate"),
}
depth = ["early layers", "middle layers", "upper layers", "new top"]
rows = {}
for name, states in recipe.items():
    pairs = zip(depth, states)
    rows[name] = [(f"{part}\n{state}", False, colours[state]) for part, state in pairs]
plots.pipelines(rows)

# %% [markdown]
# ## How far does it reach?
#
# Transfer is used far from its source: networks trained on photographs read X-rays, satellite images and paintings.
# What would a *failure* look like? A network that fails need not be at chance: it is one whose features are no better
# than **random** features of the same architecture. So we always measure both, here with `untrained` random networks.
#
# There are three targets: faces against other pieces of press photographs (a distant domain); crops of brick, grass and
# gravel; and four types of noise. The noises have equal mean and strength, and differ in the distribution of the pixels
# alone.


# %%
def noise_types(count, seed):
    """Images (count, 32, 32, 1) and types: normal, uniform, Laplace, two-valued noise.

    All have the mean 128 and the deviation 40.
    """
    rng, root = np.random.default_rng(seed), 3**0.5
    shape = (count // 4, 32, 32, 1)
    noises = [rng.normal(size=shape), rng.uniform(-root, root, shape)]
    noises += [rng.laplace(scale=0.5**0.5, size=shape), rng.choice([-1.0, 1.0], shape)]
    noise = np.clip(128 + 40 * np.concatenate(noises), 0, 255).astype("uint8")
    return noise, np.repeat(np.arange(4), count // 4)


def prepared(noise):
    """Noise in the size and the channels of the backbone; each pixel is repeated."""
    times = max(image_size // 32, 1)
    larger = noise.repeat(times, axis=1).repeat(times, axis=2)
    return np.repeat(larger, channels, axis=3)


# %%
targets = {}
for name in (distant, unrelated):
    training_set = data.arrays(name, "train", per_class=30, seed=seed, **sized)
    targets[name] = (*training_set, *data.arrays(name, "test", per_class=20, **sized))
(noise, types), (new, new_types) = noise_types(120, seed), noise_types(80, seed + 1)
targets["noise"] = (prepared(noise), types, prepared(new), new_types)

# %%
rows = []
for known, known_labels, _, _ in targets.values():
    each = max(12 // (known_labels.max() + 1), 1)
    rows.append(known[transfer.draw(known_labels, each, seed)][:12])
title = f"{', '.join(targets)}: what the network is to tell apart now"
rows = np.concatenate(rows).astype("uint8")
plots.show_images(rows, columns=12, tile=0.7, title=title)

# %%
reach = {}
for name, (known, known_labels, new, new_labels) in targets.items():
    own = transfer.embed(trunk, known), transfer.embed(trunk, new)
    methods = {"pretrained": (*own, logistic)}
    for number in range(untrained):
        random = random_codes(trunk, number, known, known, new)
        methods[f"random {number}"] = (*random, logistic)
    sets = known_labels, new_labels, (2, 5, 20), range(seed, seed + 5)
    reach[name] = transfer.learning_curve(methods, *sets)
    reach[name]["method"] = reach[name]["method"].str.split().str[0]

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), sharey=True)
for ax, (name, table) in zip(axes, reach.items()):
    guess = {"chance": 1 / (targets[name][1].max() + 1)}
    plots.learning_curve(table, baselines=guess, title=name, ax=ax)
    ax.set_xlabel("images per class")

# %% [markdown]
# With five images a class, draw by draw: the pretrained network minus the mean of the random ones.

# %%
ahead = {}
for name, table in reach.items():
    random = at(table, "random", 5).reshape(untrained, -1).mean(axis=0)
    ahead[name] = at(table, "pretrained", 5) - random
title = "Pretrained minus random features, 5 images of each class"
plots.dots({"draws": ahead}, "accuracy, on the same draws", {"no gain": 0}, title=title)
record(
    distant_gain=ahead[distant].mean(),
    unrelated_gain=ahead[unrelated].mean(),
    noise_gain=ahead["noise"].mean(),
)

# %% [markdown]
# Codes are averages over whole maps here, because place says nothing about a surface. What we found with the letters'
# network: on faces it is ahead of random features, although no letter has a nose. On brick, grass and gravel the draws
# lie on both sides of zero: a random filter answers to the grain of a surface as well as a filter that looks for
# strokes. On noise the letters' network gains nothing either, and mostly loses. It has learned to read letters on noisy
# ground, and therefore to ignore what would tell one noise from another. What a source teaches a network to ignore is
# lost for the target. If the network does worse for it than without any pretraining, this is called *negative
# transfer*.
#
# With ImageNet's network (profile `real`) neither textures nor noise are unrelated: photographs are full of grass,
# walls and grain, and it is ahead on all three. So whether two tasks are related depends on both, not on one of them.
# One caution on faces: the crops of the class "other" often have black borders, and these make the task easier than it
# looks.
#
# ## How transferable are features, by depth?
#
# Yosinski et al. (2014) split ImageNet's classes into two halves A and B, and train a network on each. They move the
# first n layers of A into a new network for B. These layers are either *frozen*, or they learn on (*tuned*). Early
# layers should serve any task, and late layers their own. They also split the classes by kind: 551 man-made and 449
# natural classes [paper].
#
# > **What the slide says.** "551 natural and 449 man-made classes." The paper has it the other way round: 551
# > man-made, 449 natural.
#
# The result of that experiment [paper]: between the man-made and the natural half, frozen layers lose more accuracy
# than between two halves drawn at random, and the loss grows with the number of copied layers. So the further the tasks
# lie apart, the less the late layers can be used. Yet layers copied from the distant half still do better than random
# filters.
#
# Our halves are the letters a to m and n to z, small and capital, 26 classes each, at 16 × 16 pixels. (In the profile
# `real` too: this part is about letters.) First we train a network for A and one for B, on all their training images.


# %%
def halved(images):
    """Images at half the height and width, each pixel the mean of four."""
    count, height, width, _ = images.shape
    fours = images.reshape(count, height // 2, 2, width // 2, 2, 1)
    return fours.mean(axis=(2, 4)).round().astype("uint8")


test_letters, test_letter_labels = data.arrays("glyphs", "test")
reduced = {"train": (halved(letters), letter_labels)}
reduced["test"] = (halved(test_letters), test_letter_labels)


def half(split, which):
    """Images and labels 0 to 25 of the letters a to m (which 0) or n to z (1)."""
    pictures, numbers = reduced[split]
    letter, capital = numbers % 26, numbers // 26
    mine = letter // 13 == which
    return pictures[mine], (letter % 13 + 13 * capital)[mine]


def fresh(net_seed):
    return transfer.reinitialise(pretrained.backbone((16, 16, 1)), net_seed)


# %%
bases = []
for which, name in enumerate("AB"):
    mine, of = half("train", which), (depth_steps, 64, 3e-3)
    bases.append(transfer.fine_tune(fresh(seed), *mine, *of, seed=seed))
    right = accuracy(bases[which], *half("test", which))
    print(f"base {name}: {right:.3f} of the test images of {name}")

# %% [markdown]
# Now networks for B. They have the first n of six convolutions from A, and the rest is fresh. We train them on few
# images of B. Predict the curve: with n = 0 it is training from scratch, and frozen with n = 6 it is a linear
# classifier on A's features. If A's late features were of no use for B, the frozen curve would fall at the end.

# %%
b_images, b_labels = half("train", 1)
b_test = half("test", 1)


def first_layers(n, frozen):
    """A fit function: n convolutions from A, frozen or tuned, the others fresh."""

    def fit(images, labels, seed):
        network = fresh(seed)
        border = transfer.copy_layers(bases[0], network, n)
        options = {"steps": steps, "learning_rate": 3e-3, "seed": seed}
        options |= {"recalibrate": True, "up_to": border if frozen else ""}
        return transfer.fine_tune(network, images, labels, **options)

    return fit


rows = []
for n in depths:
    for name, frozen in (("frozen", True), ("tuned", False)):
        if n or not frozen:
            run = {name: (b_images, b_test[0], first_layers(n, frozen))}
            some_seeds = range(seed, seed + min(draws, 2))
            table = transfer.learning_curve(run, b_labels, b_test[1], (5,), some_seeds)
            rows.append(table.assign(layers=n))

# %%
depth = pd.concat(rows)
nothing = depth[depth["layers"] == 0].assign(method="frozen")  # there is none to freeze
depth = pd.concat([nothing, depth])
runs = {}
for name, group in depth.groupby("method"):
    accuracies = [rows["accuracy"] for _, rows in group.groupby("layers")]
    runs[name] = np.stack(accuracies, axis=1)
figure, ax = plt.subplots(figsize=(8, 3.6))
baselines = {"network B, with all its images": accuracy(bases[1], *b_test)}
title = "From a-m to n-z: 5 images of each class, by depth"
axes_ = {"xlabel": "convolutions copied from A", "ylabel": "test accuracy on B"}
plots.curves(runs, depths, baselines=baselines, title=title, ax=ax, **axes_)

# %%
record(
    depth_scratch=runs["tuned"][:, 0].mean(),
    depth_frozen=runs["frozen"][:, -1].mean(),
    depth_tuned=runs["tuned"][:, -1].mean(),
)

# %% [markdown]
# With few images of B, copying helps a great deal: the first four convolutions carry most of it. Past them the frozen
# curve gains nothing or falls, because the last layers of A were made for the letters of A. Tuned, they lose less.
#
# Yosinski et al. have as many images for B as for A. With so many images copying cannot help much, and their frozen
# curve falls with depth. They find two reasons [paper]: late features are specific to A, and neighbouring layers that
# grew up together are separated (*fragile co-adaptation*). Tuned copies lose nothing; they even generalise a little
# better than a network that never saw A.
#
# ## Summary
#
# You can now
#
# - say why VGG16 cannot be trained on a few hundred images, and what is transferred instead: features, as weights;
# - compute codes once, look at them (t-SNE, neighbours) and put a softmax or an SVM on them;
# - fine-tune from the top downwards, with batch norms frozen, and go back to the best epoch;
# - say what a rate for each group of layers is good for, and what it is not good for;
# - choose by the number of images: frozen features for few, the upper layers for some, everything for many;
# - tell transfer from architecture by measuring random features, and name targets where transfer does not help.
#
# ## Exercises
#
# 1. (easy) Which layer's features read digits best? Replace `backbone` by a network that ends earlier, and draw the
#    accuracy of `logistic` by layer. *Hint: `transfer.embed(backbone, images, layer="conv4_relu")`.*
# 2. (easy) Standardise the codes with mean and deviation of *all* images, test images included. What changes, and why
#    is the result no longer honest? *Hint: `sklearn.preprocessing.StandardScaler` outside the pipeline.*
# 3. (medium) By how much does each layer move when all layers learn, with one rate and with a rate for each group?
#    Draw the distance between the weights before and after. *Hint: `get_layer(name).get_weights()`.*
# 4. (medium) Put pictures of your own into one folder for each class and give its path as `target`. Ten pictures a
#    class are enough. *Hint: use the profile `real` if they are photographs; `course doctor` tells whether its files
#    are there.*
# 5. (hard) Repeat the curve by depth with 200 images of each class and more steps. From which number of images on does
#    copying stop to help, and does the frozen curve fall at n = 6? *Hint: the fifth argument of `learning_curve`.*
# 6. (hard) Make the letters' network tell noises apart. At which of its layers are the codes better than random ones?
#    *Hint: exercise 1 on `targets["noise"]`, and `random_codes` with the same layer.*
#
# ## Further reading
#
# - N. Dalal and B. Triggs, *Histograms of oriented gradients for human detection*, CVPR 2005.
# - L. van der Maaten and G. Hinton, *Visualizing data using t-SNE*, Journal of Machine Learning Research 9, 2008.
# - S. J. Pan and Q. Yang, *A survey on transfer learning*, IEEE Transactions on Knowledge and Data Engineering 22,
#   2010.
# - M. Lin, Q. Chen and S. Yan, *Network in network*, ICLR 2014 (global average pooling).
# - J. Donahue et al., *DeCAF: a deep convolutional activation feature for generic visual recognition*, ICML 2014.
# - A. S. Razavian, H. Azizpour, J. Sullivan and S. Carlsson, *CNN features off-the-shelf: an astounding baseline for
#   recognition*, CVPR workshops 2014.
# - J. Yosinski, J. Clune, Y. Bengio and H. Lipson, *How transferable are features in deep neural networks?*, NIPS
#   2014.
# - S. Ioffe and C. Szegedy, *Batch normalization: accelerating deep network training by reducing internal covariate
#   shift*, ICML 2015.
# - M. Sandler et al., *MobileNetV2: inverted residuals and linear bottlenecks*, CVPR 2018.
# - J. Howard and S. Ruder, *Universal language model fine-tuning for text classification*, ACL 2018 (discriminative
#   rates).
