# %% [markdown]
# # 03 Classic architectures: LeNet to GoogLeNet
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/03_classic_architectures.ipynb)
#
# **In 2011 the best program in the world got every fourth photograph wrong. Four years later the best one got one in
# twenty-eight wrong.** Topic 02 showed how to train a network, and left open which network to train. This notebook is
# about that: the *architecture*, that is, how many layers a network has, how wide they are, and in which order they
# stand. Filters, pooling and back-propagation had been known since the 1980s. New in 2012 were a million labelled
# photographs, graphics cards, some aids to training, and larger and better architectures. We build the networks that
# made the difference, and we count each of them. Then we compare the counts with what lectures say.
#
# You will be able to
#
# - read an architecture from a table or a diagram, and derive its sizes, parameters and multiply-accumulates;
# - say what LeNet-5, AlexNet, ZFNet, VGG, Network in Network and GoogLeNet each added, and what it cost;
# - explain the inception module, and why its 1 × 1 convolutions come first;
# - check a statement about architectures by a computation;
# - compare two designs fairly: same images, same time, several seeds.
#
# It takes about ninety minutes to read and five minutes to run. Sentences about which network does better speak of full
# runs with several seeds. The pictures of a shortened run may show something else. Boxes that begin with **What the
# slide says** quote widely used lecture decks. Figures marked [paper] come from the paper that is named, and are not
# computed here.

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
repeats: int = 3  # [1, 10] runs of each training, each with its own initial weights
digits: str = "digits"  # what LeNet-5 reads: at most ten classes, by name or path
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
per_class: int = 100  # [10, 1000] training images of each class for LeNet-5
reading: int = 240  # [2, 5000] steps of 50 images that each LeNet-5 is trained for
pictures: str = "shapes_crops"  # what the newer designs learn, by name or path
examples: int = 600  # [20, 1600] training pictures of each class
picture_size: int = 32  # [32, 48] height and width they are brought to
steps: list[int] = [1400, 260, 260]  # of the three designs: equal CPU time; 0: none
looks: int = 10  # [2, 50] times that a network is validated while it trains
timed: int = 7  # [1, 100] forward passes over which the time of a network is the median

# %%
import gc
import math
import time
from collections import namedtuple

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import skimage
from keras import layers, ops
from matplotlib.colors import ListedColormap

from utils import architectures, arithmetic, data, plots, training, transfer
from utils.architectures import googlenet, lenet
from utils.architectures.blocks import conv_bn_relu as unit
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# ## A competition
#
# **ImageNet** (Deng et al. 2009) is a collection of 14 million photographs. They were gathered from the web under the
# nouns of WordNet, and tens of thousands of people checked them through Amazon Mechanical Turk. Its competition, the
# *Large Scale Visual Recognition Challenge* (ILSVRC), ran from 2010 to 2017 with 1,000 classes and 1.2 million training
# images. A program may name five classes for an image. It makes an error if the true class is not among them: this is
# the **top-5 error**. A program that guesses is wrong for 995 of 1,000 images.
#
# Here are all eight winners, with the figures of the organisers [paper], and three others that we need. Almost all of
# these figures belong to an *average of several networks*. "Layers" is the depth of the deepest of them.

# %%
columns = ["year", "name", "error", "layers", "kind"]  # top-5 error in %; 0: no figure
rows = [
    (2010, "NEC-UIUC", 28.2, 0, "features by hand"),
    (2011, "XRCE", 25.8, 0, "features by hand"),
    (2012, "AlexNet", 15.3, 8, "network"),
    (2012, "ISI, the second", 26.2, 0, "not the winner"),
    (2013, "Clarifai", 11.7, 0, "network"),
    (2013, "ZFNet's paper", 14.8, 8, "not the winner"),
    (2014, "GoogLeNet", 6.67, 22, "network"),
    (2014, "VGG, the second", 7.32, 19, "not the winner"),
    (2015, "ResNet", 3.57, 152, "network"),
    (2016, "Trimps-Soushen", 2.99, 0, "network"),
    (2017, "SENet", 2.25, 154, "network"),
]
entered = pd.DataFrame(rows, columns=columns)

# %% tags=["thumbnail"]
figure, ax = plt.subplots(figsize=(8, 4.2))
shades = [plots.GREY, plots.BLUE, plots.ORANGE]
groups = entered.groupby("kind", sort=False)
for shade, (kind, group) in zip(shades, sorted(groups, key=lambda pair: pair[0])):
    ax.barh(group.index, group["error"], color=shade, height=0.7, label=kind)
for row, (error, depth) in enumerate(zip(entered["error"], entered["layers"])):
    right = max(error, 5.1) + 0.3  # not on the dashed line
    text = f"{error:g}" + (f", {depth} layers" if depth else "")
    ax.text(right, row, text, va="center", fontsize=9)
options = {"color": plots.BLACK, "linestyle": "--", "linewidth": 1, "zorder": 0}
ax.axvline(5.1, label="one trained person, 5.1", **options)
names = entered["year"].astype(str) + "  " + entered["name"]
ax.set_yticks(range(len(entered)), names)
ax.set(xlabel="top-5 error on the test images, %", xlim=(0, 32))
ax.invert_yaxis()
ax.legend(loc="lower right")

# %% [markdown]
# The grey bars are features made by hand with a linear classifier on top. The blue bars are convolutional networks. The
# orange bars did not win. AlexNet won by 10.8 points (26.172 − 15.315 by the organisers' own figures). The best error
# fell by 10.5 points within a year, after 2.4 the year before.
#
# Read such figures with care. AlexNet's 15.3 is an average of seven networks, and two of them had seen more of
# ImageNet. With the competition's images alone the team reached 16.4, and Clarifai's 11.7 should be compared with that.
# The 3.57 of 2015 is an average of six residual networks of several depths. Only two of them have 152 layers.
#
# > **What the slide says.** "2013: ZFNet won with 11.2 %." The winner of 2013 was Matthew Zeiler's company
# > **Clarifai**, with 11.7 % on the competition's images and 11.2 % with outside data. The networks of Zeiler and
# > Fergus's *paper*, ZFNet, reach 14.8 % there, as an average of six.
#
# In 2014 there were two tasks. GoogLeNet won classification with 6.67 %. VGG came second with 7.3 % and won
# *localization*, where the object must also be framed.
#
# The figures of the competition end here. The networks themselves we build, so that we can count what we say about
# them.

# %% [markdown]
# ## Zip codes, 1989
#
# The oldest network of this topic read digits on envelopes of the US mail (LeCun et al. 1989). It got single digits of
# 16 × 16 pixels. It has no pooling. Its two convolutions of 5 × 5 take steps of 2 instead, with a border of background
# around the map: (16 + 4 − 5) / 2 + 1 = 8.5, so 8 × 8, and then 4 × 4. Two dense layers follow, of 30 and 10 units.


# %%
def zip_code():
    """The sizes of the network of 1989; its biases differ, see below."""
    options = {"strides": 2, "padding": "same", "activation": "tanh"}
    image = layers.Input((16, 16, 1), name="image")
    x = layers.Conv2D(12, 5, name="h1", **options)(image)
    x = layers.Conv2D(12, 5, name="h2", **options)(x)
    x = layers.Dense(30, "tanh", name="h3")(layers.Flatten(name="flatten")(x))
    return keras.Model(image, layers.Dense(10, "tanh", name="output")(x))


plots.stage_diagram(architectures.outline(zip_code), title="The network of 1989")

# %% [markdown]
# Two details are unusual today. Every *place* of a map has a bias of its own. And each of the twelve filters of the
# second layer sees only eight of the twelve maps below. All places of a map share the same 25 weights. What does
# sharing save? A *connection* is one weight or bias at one place. We expect for the first layer 12 · 64 · (25 + 1) =
# 19,968 connections, but only 12 · 25 + 12 · 64 = 1,068 parameters.

# %% tags=["nbval-check-output"]
dense = [30 * (192 + 1), 10 * (30 + 1)]  # one connection for each parameter
connections = [12 * 64 * (25 + 1), 12 * 16 * (8 * 25 + 1), *dense]
parameters = [12 * 25 + 12 * 64, 12 * 8 * 25 + 12 * 16, *dense]
for name, many, few in zip(("H1", "H2", "H3", "output"), connections, parameters):
    print(f"{name:6} {many:6,} connections, {few:5,} parameters")
print(f"all    {sum(connections):6,} connections, {sum(parameters):5,} parameters")

# %% [markdown]
# These are the paper's own figures: 64,660 connections and 9,760 parameters. The network made 5.0 % errors on new
# digits [paper]. A year later its authors put *averaging* behind each convolution, in the place of the steps of 2. So
# they came to LeNet.

# %% [markdown]
# ## LeNet-5, 1998
#
# LeNet-5 read the amounts on cheques. Its image of 32 × 32 pixels is larger than the digits in it, which fill at most
# 20 × 20. So the ends of a stroke can stand in the middle of the windows of the highest units. Two convolutions of 5 ×
# 5 without padding are each followed by *subsampling* (pooling of 2 × 2). A third convolution covers all that is left.
#
# Predict the sizes before you look: 32 − 5 + 1 = 28, halved 14; 14 − 5 + 1 = 10, halved 5; 5 − 5 + 1 = 1.
#
# `architectures.build` gives a network of the course by its name. `architectures.outline` gives a network whose weights
# have shapes and no values. That is all we need to count and to draw. `plots.stage_diagram` draws the maps to scale.

# %%
lenet5 = architectures.outline("lenet5")
plots.stage_diagram(lenet5, title="LeNet-5: heights and thicknesses to scale")

# %% [markdown]
# These are the layers with weights or pools, and what they cost. A convolution has filters · (channels · 5 · 5 + 1)
# parameters, a dense layer has units · (inputs + 1). The MACs (multiply-accumulates) are the same products without the
# bias, times the places of the output.


# %%
def layer_table(model):
    """Output, parameters and MACs of the layers with weights and of the pools."""
    table = arithmetic.layer_table(model)
    keep = (table["params"] > 0) | table["type"].str.contains("Pooling2D")
    shapes = [" × ".join(map(str, shape)) for shape in table["output_shape"]]
    table = table.assign(output=shapes)
    for name, column in (("parameters", "params"), ("MACs", "macs")):
        table[name] = table[column].map("{:,}".format)
    shown = table.loc[keep, ["layer", "output", "parameters", "MACs"]]
    return shown.set_index("layer")


layer_table(lenet5)

# %% [markdown]
# ### How many parameters has LeNet-5?
#
# Look it up, and you find 61,706, 60,806 or "about 60,000". All three are right. They count three different networks.
#
# - **61,706** is LeNet-5 as it is usually rebuilt, the table above.
# - In the paper, the 16 filters of C3 do not see all six maps below: six of them see three maps, nine see four, one
#   sees all. That saves (16 · 6 − 60) · 25 = 900 weights: **60,806**.
# - In the paper, subsampling is trained. The sum of the four values is multiplied by a weight and gets a bias, one pair
#   for each map: 2 · 6 + 2 · 16 = 44 more. And there is no dense layer of ten logits at the end (−850). Each digit has
#   a *fixed* target pattern for the 84 units below, and its score says how near the units come to the pattern:
#   **60,000**.

# %% tags=["nbval-check-output"]
forms = {
    "as rebuilt": {},
    "partial C3": {"c3": "partial"},
    "the paper's": {"c3": "partial", "subsampling": "trainable", "output": "rbf"},
}
for name, options in forms.items():
    total = arithmetic.totals(architectures.outline("lenet5", **options))
    print(f"{name:12} {total['params']:,}")

# %% [markdown]
# Why does C3 see only some of the maps? It saves three eighths of the work of this layer. The authors also write that
# it breaks the symmetry: filters that see different maps must find different features. Below is table I of the paper,
# and beside it the patterns of the ten digits. (The paper's patterns look like printed characters. Ours are
# seven-segment digits of the same 7 × 12 pixels.)

# %%
figure, axes = plt.subplots(1, 11, figsize=(8, 2.2), width_ratios=(7, *[1] * 10))
connected = np.zeros((6, 16))
for column, row in enumerate(lenet.C3):
    connected[list(row), column] = 1
axes[0].imshow(connected, cmap="Blues", vmax=1.4)
axes[0].set(xlabel="map of C3", ylabel="map of S2", xticks=range(0, 16, 3))
axes[0].set_yticks(range(6))
axes[0].set_title(f"{int(connected.sum())} of {connected.size} connections")
axes[0].grid(False)
for digit, (ax, picture) in enumerate(zip(axes[1:], lenet.digits())):
    ax.imshow(-picture)
    ax.set_title(str(digit))
    ax.set_axis_off()

# %% [markdown]
# ### Trained here
#
# LeNet-5 was made for handwritten digits, so it gets some: 1,000 digits of scikit-learn, enlarged from 8 × 8 to 32 × 32
# pixels. We train the rebuilt form and the paper's form, three runs each. A linear classifier on the same pixels is the
# baseline. Departures: our digits fill the whole height of the image. The paper trains on 60,000 digits with a method
# of its own, and its loss compares distances. We take Adam, and cross-entropy on scores that are minus the distances.


# %%
def prepare(name, size, channels, per_class):
    """Images from -1 to 1 with labels: for training, for validation, for the test."""
    options = {"image_size": size, "channels": channels, "on_error": on_error}
    options["seed"] = seed
    images, labels = data.arrays(name, "train", per_class=per_class, **options)
    sets = [(images / np.float32(127.5) - 1, labels)]
    for split in ("validation", "test"):
        images, labels = data.arrays(name, split, per_class=180, **options)
        sets.append((images / np.float32(127.5) - 1, labels))
    return sets


# the form of 1998 has ten patterns, so ten classes at most
classes = data.chosen(digits, on_error=on_error, most=10).classes
sets = prepare(digits, 32, 1, per_class)
(x, labels), _, (x_test, test_labels) = sets
plots.show_images((x[transfer.draw(labels, 1, seed)] + 1) / 2, columns=10, tile=0.8)

# %%
# of one training: CPU seconds and validation accuracy (looks,), losses, test accuracy
Run = namedtuple("Run", "seconds validation losses test")


def restart(model, run):
    """New initial weights, and an optimizer that has seen nothing."""
    model.set_weights(transfer.reinitialise(model, seed + run).get_weights())
    for variable in model.optimizer.variables:
        if "learning_rate" not in variable.path:
            variable.assign(ops.zeros_like(variable))


def accuracy(model, images, labels):
    """Share of the images that a model gets right."""
    return np.mean(transfer.predict(model, images).argmax(axis=1) == labels)


# %%
def train(model, sets, steps, run, batch_size):
    """Train a compiled model from new weights; gives a `Run`."""
    restart(model, run)
    (x, labels), validation, test = sets
    options = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
    seconds, accuracies, losses = [], [], []
    for look, part in enumerate(np.array_split(np.arange(steps), looks)):
        seconds.append(0.0)
        if len(part):
            number = seed + looks * run + look
            batches = transfer.repeat(x, labels, len(part), batch_size, number)
            begin = time.process_time()
            losses += model.fit(*batches, **options).history["loss"]
            seconds[-1] = time.process_time() - begin
        accuracies.append(accuracy(model, *validation))
    test = accuracy(model, *test)
    return Run(np.cumsum(seconds), np.array(accuracies), np.array(losses), test)


# %%
runs, readers = {}, {}
for name in ("as rebuilt", "the paper's"):
    readers[name] = architectures.build("lenet5", **forms[name])
    schedule = training.WarmupHoldDecay(3e-3, reading, reading // 10)
    training.compile_classifier(readers[name], keras.optimizers.Adam(schedule))
    numbers = range(repeats)
    runs[name] = [train(readers[name], sets, reading, run, 50) for run in numbers]
linear = transfer.linear_probe(x.reshape(len(x), -1), labels)
baseline = linear.score(x_test.reshape(len(x_test), -1), test_labels)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3), width_ratios=(3, 2))
lines = {k: np.array([run.validation for run in many]) for k, many in runs.items()}
at = np.linspace(0, reading, looks + 1)[1:]
plots.curves(lines, at, "step", "validation accuracy", ax=axes[0])
ends = {k: [run.test for run in many] for k, many in runs.items()}
plots.dots({"one run": ends}, "test accuracy", {"linear": baseline}, ax=axes[1])
axes[1].legend(loc="center", fontsize=9)
record(
    lenet_accuracy=np.mean([run.test for run in runs["as rebuilt"]]),
    lenet_paper_accuracy=np.mean([run.test for run in runs["the paper's"]]),
    lenet_linear=baseline,
)

# %% [markdown]
# The bands span the runs. The linear classifier is hard to beat on these digits. All of them have one size and stand at
# the same place, so single pixels say much. What does a convolutional network know beyond that? It shows when the
# digits move. We push the test images to the right, pixel by pixel. None of the three classifiers has seen a digit
# there.


# %%
def pushed(images, pixels):
    """Images (N, 32, 32, 1) moved to the right, dark where nothing comes in."""
    room = ((0, 0), (0, 0), (pixels, 0), (0, 0))
    return np.pad(images, room, constant_values=-1)[:, :, : images.shape[2]]


moved = {name: [] for name in (*readers, "linear classifier")}
for pixels in range(9):
    there = pushed(x_test, pixels)
    for name, model in readers.items():
        moved[name].append(accuracy(model, there, test_labels))
    score = linear.score(there.reshape(len(there), -1), test_labels)
    moved["linear classifier"].append(score)
chance = {"chance": 1 / len(classes)}
plots.curves(moved, range(9), "pixels to the right", "accuracy on test digits", chance)
record(lenet_moved=moved["as rebuilt"][3], linear_moved=moved["linear classifier"][3])

# %% [markdown]
# In full runs both forms of LeNet-5 still read most of the digits when they are pushed by three pixels of 32. The
# linear classifier reads about half of them or fewer. The maps move along with the digit (topic 01), and each pool
# forgives a small step. From seven pixels on, the networks are hardly better than the linear classifier. Their dense
# layers have never seen a map there, and half of the digits have begun to leave the image. The two forms differ by less
# than two points while the digits stand still. So the parts that the rebuilders left out did not matter much, at least
# for a thousand digits and our short training.
#
# What did the last network of the paper's form get wrong?

# %%
reader = readers["the paper's"]
answers = transfer.predict(reader, x_test).argmax(axis=1)
wrong = np.flatnonzero(answers != test_labels)[:10]
if len(wrong):
    patterns = [f"pattern {number}" for number in range(len(classes), 10)]
    options = {"classes": [*classes, *patterns], "columns": 10, "tile": 0.8}
    shown = (x_test[wrong] + 1) / 2
    plots.show_images(shown, test_labels[wrong], predictions=answers[wrong], **options)

# %% [markdown]
# Its scores are minus the squared distances of the 84 units to the ten patterns. Below is the mean distance of the test
# images of each digit (rows) to each pattern (columns). A code of 84 zeros would have the distance 84 to every pattern.
# The smallest distance of each row should stand on the diagonal. It need not come near 0: our loss only asks that the
# right pattern be nearer than the others.

# %%
distances = -transfer.predict(reader, x_test)  # (test images, 10)
means = [distances[test_labels == digit].mean(axis=0) for digit in range(len(classes))]
table = np.stack(means)
figure, ax = plt.subplots(figsize=(5, 4.2))
ax.imshow(table, cmap="Blues_r", vmin=table.min() - 20)
for (row, column), distance in np.ndenumerate(table):
    ax.text(column, row, f"{distance:.0f}", ha="center", va="center", fontsize=9)
ax.grid(False)
ticks = {"xticks": range(10), "yticks": range(len(classes))}
ax.set(xlabel="pattern", ylabel="digit", **ticks)
on_diagonal = np.sum(table.argmin(axis=1) == np.arange(len(classes)))
print("smallest on the diagonal in", on_diagonal, "of", len(classes), "rows")

# %% [markdown]
# ## AlexNet, 2012
#
# Fourteen years later: larger images, 1,000 classes, a thousand times as many parameters, and two graphics cards.

# %%
alexnet = architectures.outline("alexnet")
plots.stage_diagram(alexnet, title="AlexNet")

# %% [markdown]
# Layer by layer. Predict: a filter of 11 × 11 at stride 4 on 227 pixels gives (227 − 11) / 4 + 1 = 55. A pool of 3 at
# stride 2 gives (55 − 3) / 2 + 1 = 27. Then 5 × 5 with padding 2 keeps 27, and a pool gives 13. Three times 3 × 3 with
# padding 1 keep 13, and a pool gives 6. So 6 · 6 · 256 = 9,216 values enter the first dense layer.

# %%
layer_table(alexnet)

# %% [markdown]
# > **What the slide says**, and the paper itself: "224 × 224". A filter of 11 × 11 at stride 4 would have (224 − 11) /
# > 4 + 1 = 54.25 places. With 227 pixels there are 55, and this is the size in the paper's own figure.

# %% tags=["nbval-check-output"]
for n in (224, 227):
    exact, rest = (n - 11) / 4 + 1, (n - 11) % 4
    size = arithmetic.output_size(n, 11, 4)
    print(f"{n}: {exact:g} places, so {size}, {rest} pixels unread")

# %% [markdown]
# ### More images out of the same ones
#
# Sixty million parameters, 1.2 million photographs: such a network learns the photographs by heart. The first thing
# that AlexNet does about it costs no parameter. Every photograph is brought to 256 × 256 pixels. In each step the
# network sees another crop of it, 224 × 224, mirrored or not. Without this, the authors write, they would have had to
# use much smaller networks. At test time it sees ten crops, the four corners and the centre, each of them also
# mirrored, and its ten answers are averaged.

# %%
photo = skimage.transform.resize(skimage.data.chelsea(), (256, 385), anti_aliasing=True)
photo = photo[:, 90:346]  # (256, 256, 3), from 0 to 1
random = np.random.default_rng(seed)
corners = random.integers(0, 33, (4, 2))
crops = [photo[row : row + 224, column : column + 224] for row, column in corners]
crops = [crop[:, ::-1] if number % 2 else crop for number, crop in enumerate(crops)]
figure, axes = plt.subplots(1, 6, figsize=(8, 1.8))
titles = ["256 × 256", "ten crops at test", *["a crop", "mirrored"] * 2]
for ax, image, title in zip(axes, [photo, photo, *crops], titles):
    ax.imshow(image)
    ax.set_title(title)
    ax.set_axis_off()
tenfold = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
for colour, corner in zip(plots.PALETTE, tenfold):
    frame = plt.Rectangle(corner, 223, 223, fill=False, edgecolor=colour, lw=1.5)
    axes[1].add_patch(frame)

# %% [markdown]
# How many different images is that? A window of 224 in 256 pixels has 256 − 224 + 1 = 33 places along each side, so we
# expect 33 · 33 · 2 = 2,178.
#
# > **What the paper says.** "This increases the size of our training set by a factor of 2048", which is 32 · 32 · 2. It
# > counts one place too few along each side. And with the 227 pixels that the filters need there are 30 places.

# %% tags=["nbval-check-output"]
for n in (224, 227):
    places = arithmetic.output_size(256, n)
    print(f"crops of {n}: {places} places along a side, {2 * places**2:,} images")

# %% [markdown]
# The second kind of augmentation changes the **colour** of the light. Take the colours of all pixels as points in three
# dimensions. Along their first principal direction they differ most, and this is mostly light and dark. For each image,
# three numbers α are drawn from a normal distribution with standard deviation .1. Then α times the spread of the
# colours is added along each of the three directions, to all pixels alike. It brought the top-1 error down by more than
# a point [paper]. Below, α is ten times as large as usual so that it can be seen. Departures: the directions are those
# of one photograph, not of ImageNet. The paper multiplies by the variance along each direction and does not say in
# which units. We multiply by the standard deviation.

# %%
colours = photo.reshape(-1, 3)
variances, directions = np.linalg.eigh(np.cov(colours.T))  # in rising order
variances, directions = variances[::-1], directions[:, ::-1]
directions = directions * np.sign(directions.sum(axis=0))  # α > 0: lighter
lights, titles = [], []
for alpha in ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1)):
    light = directions @ (np.array(alpha) * np.sqrt(variances))
    lights.append(np.clip(photo + light, 0, 1))
    titles.append(f"α = {alpha[0]}, {alpha[1]}, {alpha[2]}")
plots.show_images(lights, titles=titles, columns=6, tile=1.35)
shares = [f"{share:.1%}" for share in variances / variances.sum()]
print("share of the variance along each direction:", *shares)

# %% [markdown]
# Topic 02 measured what augmentation gains with few images, and where it harms.
#
# ### Two graphics cards
#
# The paper's figure shows two networks side by side, which meet in some layers only. The reason is memory: the authors'
# cards had 3 GB each. Half of the channels live on one card, half on the other. The filters of the second, fourth and
# fifth convolution see the channels of their own card only. This is now called a convolution with two *groups*. We draw
# which channels each filter sees: grey where all see all, otherwise one colour for each card.

# %%
convolutions = [alexnet.get_layer(f"conv{number}") for number in range(1, 6)]
shades = ListedColormap(["white", plots.BLUE, plots.ORANGE, "0.75"])
figure, axes = plt.subplots(1, 5, figsize=(8, 2.6))
for ax, layer in zip(axes, convolutions):
    inputs, filters = layer.kernel.shape[2] * layer.groups, layer.filters
    card = np.arange(filters)[:, None] * layer.groups // filters + 1
    seen = card == np.arange(inputs)[None] * layer.groups // inputs + 1
    colour = np.where(seen, card if layer.groups > 1 else 3, 0)
    ax.imshow(colour, cmap=shades, vmin=0, vmax=3, aspect="auto")
    ax.set(title=layer.name, xlabel=f"{inputs} channels", xticks=[], yticks=[])
    ax.set_ylabel(f"{filters} filters")
    ax.grid(False)

# %% [markdown]
# With two groups, a filter sees half of the channels and has half of the weights. This concerns the layers 2, 4 and 5.
# We expect 5 · 5 · 48 · 256 + 3 · 3 · 192 · (384 + 256) = 1,413,120 weights fewer.

# %% tags=["nbval-check-output"]
whole = architectures.outline("alexnet", groups=1)
totals = {"two groups": arithmetic.totals(alexnet)}
totals["no groups"] = arithmetic.totals(whole)
for name, total in totals.items():
    megabytes = 4 * total["params"] / 1e6
    found = f"{total['params']:,} parameters = {megabytes:.1f} MB"
    print(f"{name}: {found}, {total['macs']:,} MACs")
print(f"saved: {totals['no groups']['params'] - totals['two groups']['params']:,}")

# %% [markdown]
# > **What the slide says.** "255 MB." At 4 bytes a parameter the network of the paper has 243.9 MB. Even without groups
# > it has 249.5 MB.
#
# Is one card really too small? We estimate the memory with our way of counting: a batch of 128 images, forward and
# backward, and for each weight also its gradient and its velocity.

# %%
total = totals["two groups"]
maps = 2 * 128 * total["activation_bytes"] / 1e9
weights = 3 * 4 * total["params"] / 1e9
print(f"maps {maps:.2f} + weights {weights:.2f} = {maps + weights:.2f} GB of 3 GB")

# %% [markdown]
# That is tight. What is left must hold the images and the work space of the convolutions. And two cards work at the
# same time: the training took five to six days.
#
# ### Where its weights are
#
# There are eight layers with weights, five convolutions and three dense layers. Where do you expect the parameters, and
# where the work?

# %%
table = arithmetic.layer_table(alexnet).query("params > 0")
dense = table["type"] == "Dense"
colours = [plots.PURPLE if one else plots.BLUE for one in dense]
columns = {"parameters": table["params"], "MACs": table["macs"]}
plots.layer_bars(table["layer"], columns, colours)
for name in ("params", "macs"):
    share = table.loc[dense, name].sum() / table[name].sum()
    print(f"dense layers: {share:.0%} of the {name}")

# %% [markdown]
# The dense layers (purple) hold 96 % of the parameters and do 8 % of the work. Two years later GoogLeNet does without
# most of them.
#
# > **What the slides say.** "A network of seven layers", and elsewhere "twelve". AlexNet has **eight** layers with
# > weights: count the rows of the picture. (As an experiment the paper once removes a layer, and then has seven.)

# %% [markdown]
# ### The order of things
#
# In the paper a stage is: convolution, ReLU, *local response normalisation*, pooling. We draw the first one.

# %%
first = keras.Model(alexnet.input, alexnet.get_layer("pool1").output)
figure, ax = plt.subplots(figsize=(3.4, 3.2))
plots.block_diagram(first, ax=ax)

# %% [markdown]
# **Local response normalisation** (LRN) divides each value by a sum over the neighbouring channels at the same place:
#
# $$b_i = a_i \Big/ \Big(k + \alpha \sum_{j = i - n/2}^{i + n/2} a_j^2\Big)^{\beta}, \qquad k = 2,\ n = 5,\ \alpha = 10^{-4},\ \beta = .75.$$
#
# A channel with a large value makes its two neighbours on either side smaller. The paper compares it with the lateral
# inhibition of nerve cells. As an example we take sixteen channels at one place. All have the value 40, except one.

# %%
lrn = alexnet.get_layer("conv1_norm")
quiet = np.full((1, 1, 1, 16), 40.0, "float32")
quiet[..., 8] = 400
after = ops.convert_to_numpy(lrn(quiet))
figure, axes = plt.subplots(1, 2, figsize=(8, 2.3))
for ax, values, title in zip(axes, (quiet, after), ("before", "after LRN")):
    ax.bar(range(16), values.ravel(), color=plots.BLUE)
    ax.set(title=title, xlabel="channel", xticks=range(0, 16, 3))

# %% [markdown]
# The large channel stays the largest. Its four neighbours are now smaller than the channels far away. LRN lowered the
# top-1 error by 1.4 points [paper]. VGG found no gain two years later, and batch normalisation has replaced it.
#
# One deck pools first and normalises afterwards. This is the order of *CaffeNet*, a later copy that came with the
# program Caffe. It is not the same: the maximum over places is taken of other values. We try both orders on random maps
# whose values are as large as those that pixels from 0 to 255 give.

# %%
random = np.random.default_rng(seed)
maps = np.maximum(random.normal(0, 30, (4, 55, 55, 96)), 0).astype("float32")
pool = layers.MaxPooling2D(3, 2)
ours, caffe = (ops.convert_to_numpy(y) for y in (pool(lrn(maps)), lrn(pool(maps))))
apart = np.abs(ours - caffe)
share, size = np.mean(apart > 1e-3 * ours), apart.mean() / ours.mean()
print(f"{share:.0%} of the values differ, by {size:.0%} on average")

# %% [markdown]
# **Overlapping pooling** has windows of 3 at stride 2. Older networks had windows of 2 at stride 2. The map gets
# equally small, every second pixel of a row is read twice, and of an odd size such as 55 no pixel is left over. It
# lowered the top-1 error by .4 points [paper].

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 1.9))
plots.window_positions(11, 2, 2, title="windows of 2 at stride 2", ax=axes[0])
plots.window_positions(11, 3, 2, title="windows of 3 at stride 2", ax=axes[1])
print("55 ->", *(arithmetic.output_size(55, f, 2) for f in (2, 3)))

# %% [markdown]
# ### The recipe
#
# | what | AlexNet | in Keras |
# |---|---|---|
# | dropout | .5, in the two dense layers of 4,096 | `Dropout(0.5)` |
# | batch | 128 images | `batch_size=128` |
# | optimizer | gradient descent with momentum .9 | `SGD(0.01, momentum=0.9)` |
# | weight decay | 5e-4 | `L2(2.5e-4)` on each kernel, see topic 02 |
# | rate | 1e-2, divided by 10 when the validation error stalls: three times | `ReduceLROnPlateau(factor=0.1)` |
# | length | about 90 passes over 1.2 million images | 843,750 steps |
#
# > **What the slide says.** "Learning rate 1e-1, reduced by 10." The paper starts at **1e-2** and ends, three divisions
# > later, at 1e-5.
#
# Is ten times as much so bad? We try both rates, with momentum .9, on a network that we have at hand: LeNet-5 with
# AlexNet's ReLU.

# %%
losses, log_classes = {}, math.log(len(classes))
for rate in (0.01, 0.1):
    model = architectures.build("lenet5", activation="relu")
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    many = [train(model, sets, 10 * looks, run, 50).losses for run in range(repeats)]
    losses[f"rate {rate:g}"] = np.array(many)
nothing = {f"log {len(classes)}: knows nothing": log_classes}
at = np.arange(1, looks + 1) * 10
ax = plots.curves(losses, at, "step", "loss on training batches", nothing)
for line, many in zip(ax.lines, losses.values()):  # each run: a mean would hide them
    ax.plot(at, many.T, color=line.get_color(), linewidth=0.7)
ends = {name: many[:, -2:].mean(axis=1) for name, many in losses.items()}
for name, end in ends.items():
    print(f"{name}: {np.sum(end > log_classes - 0.1)} of {repeats} runs end at log 10")
low, high = (end.mean() for end in ends.values())
record(loss_at_low_rate=low, loss_at_high_rate=high)

# %% [markdown]
# In full runs at 1e-2 every run needs a few tens of steps, and then learns. At 1e-1 it is a matter of luck. One run
# learns as fast, another one jumps up and down. The lines above say how many ended at log 10: such a run gives each
# class the same probability and stays there. Dead ReLUs are the usual cause. A training of five days should not depend
# on luck.
#
# > **What the slide says.** "The first network with ReLU." Rectified units are older. Fukushima's NeoCognitron has them
# > (1980). Jarrett et al. (2009) found rectification to be the most important part of their networks. Nair and Hinton
# > (2010) named the unit, and Glorot, Bordes and Bengio (2011) trained deep networks with it. The paper shows what it
# > gains: a four-layer network on CIFAR-10 reaches 25 % training error six times sooner than with tanh [paper].

# %% [markdown]
# ## ZFNet, 2013
#
# Zeiler and Fergus looked at what AlexNet's filters see (topic 05 does the same), and found two faults. Some filters of
# the first layer were dead. And the maps of the second layer showed *aliasing*: patterns that are not in the image.
# They arise because conv1 reads the image at every fourth pixel only. So ZFNet's conv1 is 7 × 7 at stride 2.
#
# We show aliasing on an image of rings that get finer outwards. A filter for fine vertical stripes, five pixels a
# period, answers on one ring. If we read its answer at every second pixel, the stripes are still there. At every fourth
# pixel they turn into coarse stripes, which the image does not have.

# %%
grid = np.arange(192) - 95.5
rings = np.cos((grid[:, None] ** 2 + grid[None] ** 2) * np.pi / 420)
taps = np.arange(11) - 5
stripes = np.exp(-(taps[:, None] ** 2 + taps[None] ** 2) / 12)
stripes *= np.cos(2 * np.pi * taps[None] / 5)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.3))
axes[0].imshow(rings)
axes[0].set_title("image")
for ax, stride in zip(axes[1:], (1, 2, 4)):
    answer = arithmetic.conv2d(rings, stripes, s=stride)
    rows = slice(56 // stride, 126 // stride)  # the right side of the ring
    columns = slice(112 // stride, 182 // stride)
    ax.imshow(answer[rows, columns], cmap="RdBu_r", vmin=-8, vmax=8)
    ax.set_title(f"stride {stride}")
for ax in axes:
    ax.set_axis_off()

# %% [markdown]
# The network: (224 + 2 − 7) / 2 + 1 = 110, rounded down. A pool of 3 at stride 2 with padding 1 gives 55. conv2, 5 × 5
# at stride 2 without padding, gives 26. A pool, padded alike, gives 13. (The paper does not state the paddings. These
# give its sizes.) From there on the sizes are AlexNet's. It has no groups: it ran on a single card, for twelve days.
#
# Beside AlexNet, layer by layer: how many pixels a unit sees along a side (its receptive field), how many pixels two
# neighbouring units stand apart, and how large the map is.

# %%
zfnet = architectures.outline("zfnet")
pair = {"AlexNet": alexnet, "ZFNet": zfnet}
rows = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"]
sides = {"pixels that a unit sees": {}, "pixels between units": {}, "map size": {}}
for name, model in pair.items():
    fields = arithmetic.receptive_fields(model).set_index("layer").loc[rows]
    sizes = arithmetic.layer_table(model).set_index("layer").loc[rows, "output_shape"]
    columns = fields["size"], fields["jump"], sizes.str[0]
    for side, column in zip(sides.values(), columns):
        side[name] = column.to_dict()
figure, axes = plt.subplots(1, 3, figsize=(8, 2.8), sharey=True)
for ax, (title, side) in zip(axes, sides.items()):
    plots.dots(side, title, log_x=True, ax=ax)
    ax.get_legend().remove()
for ax, ticks in zip(axes, ([10, 30, 100], [2, 4, 8, 16, 32], [6, 13, 27, 55, 110])):
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
handles = axes[0].get_legend_handles_labels()
figure.legend(*handles, loc="outside upper center", ncols=2)

# %% [markdown]
# ZFNet's first layer reads the image at every second pixel, AlexNet's at every fourth. ZFNet takes the next step in its
# second layer. From there on both stand at 8 pixels, and then at 16. ZFNet has 62,357,608 parameters, almost as many as
# AlexNet without groups.

# %% [markdown]
# ## VGG, 2014
#
# Simonyan and Zisserman asked one question: what does depth alone gain? They kept everything else as plain as it can
# be. All convolutions are of 3 × 3 with padding 1, all pools of 2 × 2. Whenever a pool halves the map, the number of
# channels doubles, up to 512. So a network is a line of text. These are the six configurations of the paper's table 1,
# as `utils.architectures.vgg` has them. A number is a convolution with so many filters, M is a pool, and `256:1` is a
# convolution of 1 × 1.

# %%
from utils.architectures.vgg import CONFIGURATIONS

letters = dict(zip(CONFIGURATIONS, ["A", "A-LRN", "B", "C", "D", "E"]))
vggs = {name: architectures.outline(name) for name in CONFIGURATIONS}
depths, rows = {}, []
for name, model in vggs.items():
    total = arithmetic.totals(model)
    depths[letters[name]] = sum(bool(layer.weights) for layer in model.layers)
    row = {"": letters[name], "name": name, "layers": depths[letters[name]]}
    row |= {"parameters": f"{total['params']:,}", "GMACs": f"{total['macs'] / 1e9:.2f}"}
    rows.append(row | {"configuration": CONFIGURATIONS[name]})
left = {"text-align": "left"}
pd.DataFrame(rows).set_index("").style.set_properties(["configuration"], **left)

# %%
vgg16 = vggs["vgg16"]
plots.stage_diagram(vgg16, title="VGG-16")

# %% [markdown]
# > **What the slides say.** "3 × 3 filters *exclusively*": configuration C has three convolutions of 1 × 1. "The number
# > of channels doubles *with each convolutional layer*": it doubles with each *stage*, and stops at 512. With each
# > layer the thirteenth would have 262,144 channels. Counted from the networks:

# %% tags=["nbval-check-output"]
for name, model in vggs.items():
    convolutions = [one for one in model.layers if isinstance(one, layers.Conv2D)]
    kernels = [layer.kernel_size[0] for layer in convolutions]
    widths = dict.fromkeys(str(layer.filters) for layer in convolutions)
    found = f"3x3: {kernels.count(3):2}  1x1: {kernels.count(1)}"
    print(f"{letters[name]:6} {found}  channels {' '.join(widths)}")
print("doubled with each of 13 layers:", 64 * 2**12)

# %% [markdown]
# **Why two 3 × 3 for one 5 × 5?** Both see 5 × 5 pixels. With C channels in and out, one 5 × 5 has 25 C² weights. Two 3
# × 3 have 18 C², and there is a ReLU between them. Three of them see 7 × 7: 27 C² against 49 C².

# %%
weights = {"one filter": {}, "a chain of 3 × 3": {}}
for large, chain in ((5, 2), (7, 3), (11, 5)):
    field = arithmetic.receptive_field_chain([(3,)] * chain)["size"].iloc[-1]
    assert field == large
    weights["one filter"][f"{large} × {large}"] = large**2
    weights["a chain of 3 × 3"][f"{large} × {large}"] = 9 * chain
    saved = 1 - 9 * chain / large**2
    print(f"{large} × {large}: a chain of {chain} saves {saved:.0%}")
plots.dots(weights, "weights / C²")

# %% [markdown]
# Does depth help? Here are the figures of the paper's table 3 [paper], one network each, at one scale: the top-5 error
# on the validation images against the number of layers. A-LRN costs time and gains nothing. C and D have the same
# depth, but three of C's layers see no neighbours. From 16 to 19 layers nothing is gained any more. What deeper
# networks need is the story of topic 04.

# %%
errors = {"A": 10.4, "A-LRN": 10.5, "B": 9.9, "C": 9.4, "D": 8.8, "E": 9.0}
figure, ax = plt.subplots(figsize=(6, 3))
ax.set(xlabel="layers with weights", ylabel="top-5 error, % [paper]")
ax.set(xlim=(10, 20.5), ylim=(8, 11))
for name, error in errors.items():
    ax.plot(depths[name], error, "o", color=plots.BLUE)
    beside = (8, 4 if name == "A-LRN" else -6)
    options = {"xytext": beside, "textcoords": "offset points"}
    ax.annotate(name, (depths[name], error), **options)

# %% [markdown]
# Every layer of VGG-16, what it holds and what it costs. Topic 01 worked through this table. The bars below show how
# unevenly parameters, work and maps are spread. The image and the pools hold values, too: with them the total is topic
# 01's 60.95 MB.

# %%
layer_table(vgg16)

# %%
table = arithmetic.layer_table(vgg16).query("params > 0 or activation_bytes > 0")
shades = {"Dense": plots.PURPLE, "MaxPooling2D": plots.SKY, "InputLayer": plots.GREY}
colours = [shades.get(kind, plots.BLUE) for kind in table["type"]]
columns = {"parameters": table["params"], "MACs": table["macs"]}
columns["bytes of maps"] = table["activation_bytes"]
plots.layer_bars(table["layer"], columns, colours)
print(f"maps: {table['activation_bytes'].sum() / 1e6:.2f} MB")

# %% [markdown]
# The memory for maps lies in the first layers, the work in the middle, the parameters at the end. 102.8 of 138.4
# million parameters belong to a single layer, fc6, which sees the last map of 7 × 7 × 512 as one vector of 25,088.
#
# ## Network in Network, 2013
#
# Two ideas against such costs come from a small paper by Lin, Chen and Yan. GoogLeNet uses both of them, and so does
# almost every network since.
#
# **Convolutions of 1 × 1.** A filter is a linear function of its window. The authors wanted a better function: behind
# each filter bank they put a small dense network, which sees the channels at one place and is the same at every place.
# That is the "network in the network". Written as layers it is nothing but two convolutions of 1 × 1 with ReLU. We try
# it: a dense network on the channels, place by place, against two convolutions of 1 × 1 with the same weights.

# %% tags=["nbval-check-output"]
random = np.random.default_rng(0)
maps = random.normal(size=(1, 6, 6, 8)).astype("float32")
first, second = random.normal(size=(8, 16)), random.normal(size=(16, 4))
hidden = np.maximum(maps @ first, 0)  # (1, 6, 6, 16)
by_dense = np.maximum(hidden @ second, 0)
hidden = ops.relu(ops.conv(maps, first[None, None].astype("float32")))
by_filters = ops.relu(ops.conv(hidden, second[None, None].astype("float32")))
same = np.allclose(ops.convert_to_numpy(by_filters), by_dense, atol=1e-4)
print("a dense network at every place = two convolutions of 1 x 1:", same)

# %% [markdown]
# **Global average pooling in the place of dense layers.** The last convolution has one filter for each class. The
# average of its map is the score of the class. So there is no dense layer at all, and nothing in the head that can
# overfit. On CIFAR-10, with everything else equal, the authors found 11.6 % errors with a dense layer, 10.9 % with a
# dense layer and dropout, and 10.4 % with the average [paper].
#
# This is the network of the authors' program for CIFAR-10. Predict the parameters of the last layer: 192 · 10 + 10 =
# 1,930. A dense layer on the same map of 8 × 8 × 192 would have 122,890.


# %%
def network_in_network():
    """The network for CIFAR-10: three filter banks, two 1 x 1 behind each."""
    image = x = layers.Input((32, 32, 3), name="image")
    banks = ((5, 192, 160, 96), (5, 192, 192, 192), (3, 192, 192, 10))
    for number, (f, *widths) in enumerate(banks, 1):
        for part, (size, filters) in enumerate(zip((f, 1, 1), widths), 1):
            options = {"padding": "same", "activation": "relu"}
            options["name"] = f"conv{number}_{part}"
            x = layers.Conv2D(filters, size, **options)(x)
        if number < 3:
            x = layers.MaxPooling2D(3, 2, padding="same", name=f"pool{number}")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="mean")(x))


small = architectures.outline(network_in_network)
plots.stage_diagram(small, title="Network in Network")

# %%
layer_table(small)

# %% [markdown]
# It has less than a million parameters. (Departures: in the authors' program the second pool averages, and dropout
# follows each pool.)
#
# ## GoogLeNet, 2014
#
# VGG asked what depth gains, whatever it costs. Szegedy and his colleagues fixed the cost first: 1.5 billion
# multiply-accumulates, a tenth of VGG's. How much can a network do with that?
#
# ### The inception module
#
# Which filter size should a layer have? *All of them*: 1 × 1, 3 × 3, 5 × 5 and a pool stand side by side, and their
# outputs are stacked. This is the **naive** module. We build the module that the paper calls 3b in this form. 256
# channels of 28 × 28 come in.

# %%
entry = layers.Input((28, 28, 256))
one, reduce3, three, reduce5, five, projection = googlenet.MODULES["3b"]
tensor = googlenet.inception_naive(entry, (one, three, five), "naive")
naive = keras.Model(entry, tensor)
tensor = googlenet.inception(entry, googlenet.MODULES["3b"], "reduced")
reduced = keras.Model(entry, tensor)
figure, ax = plt.subplots(figsize=(8, 2.6))
plots.block_diagram(naive, title="3b, naive", ax=ax)

# %% [markdown]
# Two things go wrong. The filters of 3 × 3 and 5 × 5 see all 256 channels and cost 28 · 28 · 256 · (9 · 192 + 25 · 96)
# = 829 million MACs. And the pool hands its 256 channels on as they are, so the output has 128 + 192 + 96 + 256 = 672.
# Each module would make the next one more expensive. The remedy is to *reduce* the number of channels by 1 × 1
# convolutions, before the large filters and behind the pool:

# %%
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.block_diagram(reduced, title="3b, with reductions", ax=ax)

# %% tags=["nbval-check-output"]
for name, module in {"naive": naive, "reduced": reduced}.items():
    total, channels = arithmetic.totals(module), module.output_shape[-1]
    found = f"{total['macs'] / 1e6:.0f} M MACs, {total['params']:,} parameters"
    print(f"{name:8} {found}, {channels} channels out")

# %% [markdown]
# That is a third of the work. The reductions may lose something: 256 channels pass through 32 before the 5 × 5. The
# authors assume that many channels carry similar information, so that little is lost. What if all nine modules were
# naive, with the same numbers of 1 × 1, 3 × 3 and 5 × 5 filters? Then the number of channels never falls:

# %%
widths, costs = {"naive": [], "reduced": []}, {"naive": [], "reduced": []}
wide = narrow = 192
for name, filters in googlenet.MODULES.items():
    one, reduce3, three, reduce5, five, projection = filters
    places = {"3": 28, "4": 14, "5": 7}[name[0]] ** 2
    costs["naive"].append(places * wide * (one + 9 * three + 25 * five) / 1e6)
    inner = narrow * (one + reduce3 + reduce5 + projection)
    inner += 9 * reduce3 * three + 25 * reduce5 * five
    costs["reduced"].append(places * inner / 1e6)
    wide, narrow = one + three + five + wide, one + three + five + projection
    widths["naive"].append(wide)
    widths["reduced"].append(narrow)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3))
plots.curves(widths, range(9), "module", "channels out", ax=axes[0])
plots.curves(costs, range(9), "module", "million MACs", ax=axes[1])
for ax in axes:
    ax.set_xticks(range(9), list(googlenet.MODULES))
together = {name: sum(parts) / 1e3 for name, parts in costs.items()}
ratio = together["naive"] / together["reduced"]
text = f"{together['naive']:.2f} against {together['reduced']:.2f} GMACs"
print(f"all nine modules: {text}, {ratio:.0f} times")

# %% [markdown]
# The channels that the pools hand on pile up to 4,944, and every filter of the next module would have to look at all of
# them.
#
# ### Module by module
#
# Before the modules there is a stem: 7 × 7 with 64 filters at stride 2 (map 112), a pool of 3 at stride 2 (56), LRN, 1
# × 1 with 64, 3 × 3 with 192, LRN, and a pool (28). The pools round up, as Caffe's do. Two more pools stand before 4a
# and 5a. Behind 5b follow a global average, dropout of .4 and a dense layer. The modules have six numbers each, from
# the paper's table 1:

# %%
inception = architectures.outline("googlenet")
columns = ["1 × 1", "3 × 3 reduce", "3 × 3", "5 × 5 reduce", "5 × 5", "pool proj"]
modules = pd.DataFrame.from_dict(googlenet.MODULES, "index", columns=columns)
outputs = []
for name in modules.index:
    shape = inception.get_layer(f"inception{name}_concat").output.shape[1:]
    outputs.append(" × ".join(map(str, shape)))
modules["output"] = outputs
modules

# %%
plots.stage_diagram(inception, title="GoogLeNet")

# %% [markdown]
# The same table prints parameters and operations for each row. Are they those of this network? We add up our counts by
# the stage with which a layer's name begins. (The print's K is 1,024: with 1,000 hardly anything agrees.) Each dot is a
# printed figure divided by ours. If the print is right, the dots lie on the dashed line, or as near to it as rounding
# allows. (For conv1 both dots lie far to the left, outside the picture.)

# %%
printed_k = {"conv1": 2.7, "conv2": 112, "3a": 159, "3b": 380, "4a": 364, "4b": 437}
printed_k |= {"4c": 463, "4d": 580, "4e": 840, "5a": 1072, "5b": 1388, "logits": 1000}
printed_m = {"conv1": 34, "conv2": 360, "3a": 128, "3b": 304, "4a": 73, "4b": 88}
printed_m |= {"4c": 100, "4d": 119, "4e": 170, "5a": 54, "5b": 71, "logits": 1}
table = arithmetic.layer_table(inception)
stage = table["layer"].str.partition("_")[0].str.removeprefix("inception")
ours = table.groupby(stage, sort=False)[["params", "macs"]].sum().loc[list(printed_k)]
ratios = {"parameters": pd.Series(printed_k) * 1024 / ours["params"]}
ratios["operations"] = pd.Series(printed_m) * 1e6 / ours["macs"]
ratios = {name: column.to_dict() for name, column in ratios.items()}
ax = plots.dots(ratios, "printed / ours", {"equal": 1})
ax.set_xlim(0.89, 1.09)
outside = " and ".join(f"{column['conv1']:.2f}" for column in ratios.values())
note = ax.text(0.892, 0, f"← {outside}", va="center", fontsize=9)

# %% tags=["nbval-check-output"]
for name, row in ours.iterrows():
    kilo, million = row["params"] / 1024, row["macs"] / 1e6
    if abs(kilo / printed_k[name] - 1) > 0.01:
        found = f"{row['params']:9,} parameters = {kilo:6.1f} K"
        print(f"{name:6} {found}, printed {printed_k[name]:g} K")
    if abs(million - printed_m[name]) > 1:
        found = f"{million:.1f} million MACs, printed {printed_m[name]} M"
        print(f"{name:6} {found}")
weights = 2 * 7 * 3 * 64
print(f"7x1 and 1x7 on three channels: {weights:,}, {weights * 112**2 / 1e6:.0f} M")

# %% [markdown]
# > **What the slide says**, and the paper: conv1 2.7 K and 34 M, 4c 463 K, 4d 580 K, 5a 1,072 K and 54 M, 5b 1,388 K.
# > The network of the same table has 9,472 parameters and 118.0 M MACs in conv1, 510,104 in 4c, 605,376 in 4d,
# > 1,043,456 in 5a (51 M) and 1,444,080 in 5b. The printed figures of conv1 fit a filter of 7 × 1 and one of 1 × 7.
# > Perhaps the authors had such a version. The other rows agree within 1 % (4a, 367 for 364, and 4e, 848 for 840, only
# > just), or within the rounding of a million.
#
# ### How deep, how large
#
# We count the layers with weights on the longest way through: three convolutions at the start, two in each of nine
# modules, one dense layer: 3 + 9 · 2 + 1 = 22.

# %% tags=["nbval-check-output"]
weighted = [layer.name for layer in inception.layers if layer.weights]
before = sum(name.startswith("conv") for name in weighted)
in_a_row = before + 2 * len(googlenet.MODULES) + 1
total, alex = arithmetic.totals(inception), arithmetic.totals(alexnet)
found = f"{in_a_row} in a row; {total['params']:,} parameters"
print(f"{len(weighted)} layers with weights, {found}")
ratio = alex["params"] / total["params"]
print(f"AlexNet / GoogLeNet: {ratio:.1f} times the parameters")
print(f"GoogLeNet / AlexNet: {total['macs'] / alex['macs']:.1f} times the MACs")
last = inception.get_layer("logits").count_params()
print(f"the dense layer at the end: {last:,} parameters")

# %% [markdown]
# > **What the slides say.**
# >
# > | printed | counted |
# > |---|---|
# > | "19 layers" | 22, as the paper says |
# > | "only 5 million parameters" | 6,998,552 |
# > | "12 times fewer than AlexNet" | 8.7 times fewer |
# > | "removes the FC layers completely" | two of the three: one dense layer of 1,025,000 parameters remains, behind a global average |
# > | "twice the compute of AlexNet" | holds for AlexNet with its groups: 2.2 times |
#
# ### The heads on the side
#
# A network of 22 layers was hard to train in 2014: batch normalisation came a year later. So GoogLeNet has two more
# classifiers, behind 4a and 4d. Their losses are multiplied by .3 and added to the loss at the end. The idea was to
# bring the gradient close to the early layers. **These heads are used in training only.** Afterwards they are cut off.

# %%
helped = architectures.outline("googlenet", auxiliary=True)
figure, ax = plt.subplots(figsize=(3.2, 4.2))
plots.block_diagram(helped, within="aux1", title="the first auxiliary head", ax=ax)

# %% tags=["nbval-check-output"]
without = keras.Model(helped.input, helped.outputs[0])
for name, model in {"in training": helped, "afterwards": without}.items():
    found = arithmetic.totals(model)["params"]
    print(f"{name:12} {found:,} parameters, {len(model.outputs)} outputs")

# %% [markdown]
# The two heads nearly double the network: each has a dense layer of 1,024 units on a map of 4 × 4 × 128.
#
# Do they do what they are for? Later experiments of the same group say no. In the GoogLeNet paper itself the gain is
# about half a point, and one head gives as much as two [paper]. Szegedy et al. (2016) trained the next Inception with
# and without heads. *Early* in training there is no difference, so the heads do not help the gradient much. Only near
# the *end* the network with heads is a little better. And it is better still if the heads have batch normalisation or
# dropout. The authors conclude that the heads act as **regularisers** [paper]: the middle layers must hold features
# from which the class can be read, and this leaves less freedom to overfit.
#
# ## Side by side
#
# Now all of them in one table, with the winner of 2015, which topic 04 takes apart. The last column is the time of one
# image *here*: the median over some passes with a batch of one, after two passes that do not count. (VGG-16 with its
# weights takes 553 MB. Each network is dropped before the next one is built.)


# %%
def milliseconds(name):
    """Median time of a forward pass with one image."""
    model = architectures.build(name)
    image = np.zeros((1, *model.input_shape[1:]), "float32")
    times = []
    for _ in range(timed + 2):
        begin = time.perf_counter()
        model.predict_on_batch(image)
        times.append(time.perf_counter() - begin)
    del model
    gc.collect()  # before the next one comes
    return 1e3 * np.median(times[2:])


entries = {"alexnet": 2012, "zfnet": 2013, "vgg16": 2014, "googlenet": 2014}
entries["resnet152"] = 2015
rows = {}
for name, year in entries.items():
    total = arithmetic.totals(architectures.outline(name))
    row = {"year": year, "parameters, M": total["params"] / 1e6}
    row |= {"GMACs": total["macs"] / 1e9, "maps, MB": total["activation_bytes"] / 1e6}
    rows[name] = row | {"ms here": milliseconds(name)}
measured = pd.DataFrame.from_dict(rows, "index")
measured.style.format("{:.3g}").format("{:.0f}", subset=["year"])

# %% [markdown]
# Three statements are repeated from deck to deck about these years. "Three times more accurate in three years." "Five
# times slower." "The number of parameters stayed about the same." We draw the error against the year, the depth, the
# parameters and the MACs. The costs are those of *one* network. So we take errors of one network as well, on the
# validation images, as their papers give them [paper]. (Each paper averages over many crops of an image, and each in
# its own way.)

# %%
shown = dict(zip(entries, ("AlexNet", "ZFNet", "VGG-16", "GoogLeNet", "ResNet-152")))
errors = dict(zip(entries, (18.2, 16.5, 7.2, 7.89, 4.49)))
depths = dict(zip(entries, (8, 8, 16, 22, 152)))
panels = {"year": entries, "layers": depths}
for column in ("parameters, M", "GMACs"):
    panels[column] = measured[column].to_dict()
figure, axes = plt.subplots(1, 4, figsize=(8, 3), sharey=True)
for ax, (title, values) in zip(axes, panels.items()):
    scale = "linear" if title == "year" else "log"
    ax.set(xlabel=title, xscale=scale, ylim=(0, 20))
    for colour, (name, label) in zip(plots.PALETTE, shown.items()):
        ax.plot(values[name], errors[name], "o", color=colour, label=label)
    ax.minorticks_off()
years = range(2012, 2016)
axes[0].set_xticks(years, [f"'{year - 2000}" for year in years])
axes[0].set_ylabel("top-5 error, %")
for ax, ticks in zip(axes[1:], ([8, 16, 32, 64, 128], [7, 20, 60, 140], [1, 3, 10])):
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
handles = axes[0].get_legend_handles_labels()
legend = figure.legend(*handles, loc="outside upper center", ncols=5, fontsize=9)

# %% [markdown]
# From year to year the error falls. With the depth it falls on the whole, but not always: AlexNet and ZFNet have
# equally many layers, and VGG with 16 layers is a little better than GoogLeNet with 22. With the parameters it does
# nothing of the kind. With the MACs VGG breaks the rule: ResNet-152 makes fewer errors with fewer MACs. Now the
# statements, as ratios:

# %%
columns = {"parameters": "parameters, M", "MACs": "GMACs", "time here": "ms here"}
ratios = {
    "error, 2012 to 2015": errors["alexnet"] / errors["resnet152"],
    "error, 2012 to 2014": errors["alexnet"] / errors["googlenet"],
}
right = {name: 100 - error for name, error in errors.items()}
ratios["share of right answers, 2012 to 2015"] = right["resnet152"] / right["alexnet"]
for title, column in columns.items():
    for name in ("resnet152", "googlenet"):
        ratio = measured.loc[name, column] / measured.loc["alexnet", column]
        ratios[f"{title}, {shown[name]} to AlexNet"] = ratio
plots.bars(ratios, "times", baselines={"same": 1}, title="Three statements, as ratios")

# %% [markdown]
# > **What the slides say.**
# >
# > - *"Three times more accurate in three years."* The error fell to a quarter from 2012 to 2015. (The competition's
# >   own figures, 15.3 and 3.57, give the same quarter.) The accuracy did not triple: the share of right answers rose
# >   by a sixth. Say "a quarter of the errors".
# > - *"The number of parameters stayed about the same."* ResNet-152 and AlexNet have 60.2 and 61.0 million, so for
# >   these two it is true. But GoogLeNet has a ninth of that, and VGG more than twice as many. Parameters tell little
# >   about accuracy.
# > - *"Five times slower."* Which network is meant, and counted how? In MACs ResNet-152 costs 15.6 times AlexNet,
# >   VGG-16 21 times, ResNet-50 5.3 times, GoogLeNet 2.2 times. In seconds it depends on the machine, and even on the
# >   run: when other programs worked beside this page, the ratio of ResNet-152 to AlexNet changed several-fold from run
# >   to run. One such run cannot decide it. MACs can at least be repeated.
# >   AlexNet is slow for its MACs: it reads 244 MB of weights, and one image uses most of them only once.

# %% [markdown]
# ### Weeks of training
#
# How long did it take? AlexNet five to six days on two GTX 580, ZFNet twelve days on one, VGG two to three weeks on
# four Titan Black [paper]. Is that plausible? A training step costs about three forward passes: forward, gradient of
# the maps, gradient of the weights. So the whole training costs 3 · MACs · images · passes. The makers of the cards
# state 1.58 and 5.1 · 10¹² operations a second, and a MAC is two operations. Which share of this did the programs
# reach?

# %%
trainings = {  # network: images, passes, days, cards, operations a second of one card
    "alexnet": (1.2e6, 90, 5.5, 2, 1.58e12),
    "zfnet": (1.3e6, 70, 12, 1, 1.58e12),
    "vgg16": (1.3e6, 74, 17.5, 4, 5.1e12),
}
rows = {}
for name, (number, passes, days, cards, speed) in trainings.items():
    operations = 2 * 3 * measured.loc[name, "GMACs"] * 1e9 * number * passes
    share = operations / (days * 86400 * cards * speed)
    row = {"days": f"{days:g}", "cards": cards, "operations": f"{operations:.1e}"}
    rows[shown[name]] = row | {"share of the cards' peak": f"{share:.0%}"}
pd.DataFrame.from_dict(rows, "index")

# %% [markdown]
# Between 29 and 39 % of the peak: this is what good programs reach, so the reports agree with the counts. VGG's
# training cost 19 times AlexNet's. (Images and passes are from the papers. ZFNet stopped after 70 passes.)
#
# ## Two designs, the same minutes
#
# VGG stacks one kind of layer, GoogLeNet puts four side by side. Which one learns more in the same time? We take a
# small relative of each, both with a global average at the end, and train them on small pictures for about the same CPU
# time. The third network is LeNet-5 with ReLU. Departure: the two newer ones have batch normalisation behind each
# convolution, which 2014 did not have. Without it they learn much more slowly (exercise 4).
#
# The course draws the pictures: one shape on a textured ground, six classes, in colour, 32 × 32 pixels. Drawn pictures
# are no photographs, and the order of networks may be another one on photographs. But they allow a fair comparison in
# minutes.

# %%
described = data.chosen(pictures, on_error=on_error)
channels, classes = described.image_shape[-1], described.classes
sets = prepare(pictures, picture_size, channels, examples)
(x, labels), _, (x_test, test_labels) = sets
shown = x[transfer.draw(labels, 2, seed)][:12]
plots.show_images((shown + 1) / 2, columns=12, tile=0.7)


# %%
def vgg_like(image):
    """Seven convolutions of 3 x 3 in the manner of VGG."""
    y = image
    widths = (16, 16, "M", 32, 32, "M", 64, 64, "M", 128)
    for number, filters in enumerate(widths, 1):
        pool, name = filters == "M", f"conv{number}"
        y = layers.MaxPooling2D(2)(y) if pool else unit(y, filters, 3, name=name)
    return y


def inception_like(image):
    """Two convolutions and three inception modules, nine layers in a row."""
    y = layers.MaxPooling2D(2)(unit(image, 16, 3, name="conv1"))
    y = layers.MaxPooling2D(2)(unit(y, 48, 3, name="conv2"))
    y = googlenet.inception(y, (24, 24, 48, 8, 16, 16), "a", unit)
    y = googlenet.inception(y, (32, 32, 64, 8, 24, 24), "b", unit)
    y = layers.MaxPooling2D(2)(y)
    return googlenet.inception(y, (64, 48, 96, 12, 32, 32), "c", unit)


# %%
def designs(name):
    """One of the three networks, untrained."""
    image, count = layers.Input((picture_size, picture_size, channels)), len(classes)
    if name == "LeNet-5":
        return architectures.build("lenet5", image.shape[1:], count, activation="relu")
    y = vgg_like(image) if name == "VGG-like" else inception_like(image)
    return keras.Model(image, layers.Dense(count)(layers.GlobalAveragePooling2D()(y)))


names = ["LeNet-5", "VGG-like", "inception"]
costs = {name: arithmetic.totals(designs(name)) for name in names}
for name, cost in costs.items():
    million = cost["macs"] / 1e6
    print(f"{name:10} {cost['params']:7,} parameters, {million:4.1f} million MACs")

# %% [markdown]
# A run must not end by the clock, or nobody could repeat it. So we fixed the numbers of steps such that the three spend
# about the same time. We draw the accuracy on validation images against the CPU seconds that were spent on training.
# All three have the same rate and schedule. Nothing is chosen here, so the test images are used once, at the end of
# each run.

# %%
spent, watched, reached = {}, {}, {}
for name, count in zip(names, steps):
    model = designs(name)
    schedule = training.WarmupHoldDecay(2e-3, max(count, 1), count // 10)
    training.compile_classifier(model, keras.optimizers.Adam(schedule))
    many = [train(model, sets, count, run, 32) for run in range(repeats)]
    later = many[1:] or many  # the first run also compiles
    spent[name] = np.mean([run.seconds for run in later], axis=0)
    watched[name] = np.array([run.validation for run in many])
    reached[name] = np.array([run.test for run in many])

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(3, 2))
chance = {"chance": 1 / len(classes)}
label = "CPU seconds of training"
plots.curves(watched, spent, label, "validation accuracy", chance, ax=axes[0])
plots.dots({"test": reached}, "test accuracy, each run", ax=axes[1])
ahead = reached["VGG-like"] - reached["inception"]
text = ", ".join(f"{100 * points:+.1f}" for points in ahead)
print(f"VGG-like before inception, points in each run: {text}")
record(
    small_lenet_accuracy=reached["LeNet-5"].mean(),
    small_vgg_accuracy=reached["VGG-like"].mean(),
    small_inception_accuracy=reached["inception"].mean(),
    inception_minus_vgg=-ahead.mean(),
)

# %% [markdown]
# In full runs LeNet-5 leads at first. It has a tenth of the others' MACs or less, so it takes five steps while they
# take one. Then its curve flattens. In the last quarter of the steps the rate falls, and the VGG-like net passes it. At
# the end the VGG-like net is ahead of the inception net in the mean of the runs. But their bands overlap on the way:
# with one run of each, stopped a little earlier, either order could have come out.
#
# The VGG-like net costs nearly twice the MACs of the inception net, and a step of it takes no more time. Twenty small
# convolutions keep a processor less busy than seven larger ones. **MACs are not seconds.**
#
# All this holds for drawn shapes of 32 × 32, for a few seconds of training, and for the sizes, rate and steps that we
# chose. In the competition seven GoogLeNets (6.67 %) came out ahead of seven VGGs (7.32 %), with a tenth of their MACs.
# Of single networks VGG's authors report 7.0 % on the test images, against GoogLeNet's 7.9 % [paper].
#
# ## Summary
#
# You can now
#
# - derive the maps, parameters and MACs of LeNet-5, AlexNet, ZFNet, VGG and GoogLeNet from their tables, and find the
#   places where the printed figures are wrong;
# - say what each added: AlexNet augmentation, size, ReLU and dropout, on two cards; ZFNet a first layer that reads the
#   image closely; VGG depth from one small filter; Network in Network 1 × 1 convolutions and the global average;
#   GoogLeNet several filter sizes side by side within a fixed budget;
# - explain why 1 × 1 convolutions make the inception module three times cheaper;
# - compare designs at equal time, over several seeds, and say when the difference is smaller than their spread.
#
# Two questions stay open. VGG gained nothing from 16 to 19 layers, and GoogLeNet needed help to train 22. In 2015 a
# network with 152 layers won. What did it do differently? And it costs 11 billion MACs an image, too many for a
# telephone: how small can a good network be? Topic 04 answers both.
#
# ## Exercises
#
# 1. *Easy.* From which input size on is LeNet-5's C5 more than a dense layer, and what is its output for 40 × 40?
#    *Hint:* `architectures.outline("lenet5", (40, 40, 1), include_top=False)`.
# 2. *Easy.* Replace VGG-16's three dense layers by a global average and one dense layer (`head="pool"`). How many
#    parameters and MACs remain? *Hint:* compare with GoogLeNet's.
# 3. *Medium.* In 3b replace the 5 × 5 by two 3 × 3. Count the MACs with 32 → 96 → 96 channels and with 32 → 32 → 96.
#    When does the argument of the VGG section hold? *Hint:* the next version of Inception made this exchange.
# 4. *Medium.* Train the two small designs without batch normalisation (`from utils.architectures.blocks import
#    conv_relu as unit`). How many steps does each need for the accuracy that it had? *Hint:* begin with four times as
#    many.
# 5. *Hard.* Measure what the auxiliary heads do to the gradient: the norm of the gradient in `conv1` of an untrained
#    small GoogLeNet with and without them, over ten seeds. *Hint:* `auxiliary=True` needs images of 80 pixels or more,
#    and the model then has three outputs, so three losses.
# 6. *Hard.* Estimate from its MACs how long AlexNet would train on your machine. *Hint:* measure the time of a step
#    with a batch of 32 first.
#
# ## Further reading
#
# - Y. LeCun et al., *Backpropagation applied to handwritten zip code recognition*, Neural Computation, 1989.
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, *Gradient-based learning applied to document recognition*, Proceedings
#   of the IEEE, 1998.
# - A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet classification with deep convolutional neural networks*, NIPS
#   2012.
# - M. Lin, Q. Chen, S. Yan, *Network in network*, ICLR 2014.
# - M. Zeiler, R. Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014.
# - K. Simonyan, A. Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015.
# - C. Szegedy et al., *Going deeper with convolutions*, CVPR 2015.
# - C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, *Rethinking the inception architecture for computer
#   vision*, CVPR 2016.
# - O. Russakovsky et al., *ImageNet large scale visual recognition challenge*, IJCV 2015.
# - J. Deng et al., *ImageNet: A large-scale hierarchical image database*, CVPR 2009.
# - K. Fukushima, *Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition
#   unaffected by shift in position*, Biological Cybernetics, 1980.
# - K. Jarrett, K. Kavukcuoglu, M. Ranzato, Y. LeCun, *What is the best multi-stage architecture for object
#   recognition?*, ICCV 2009; V. Nair, G. Hinton, *Rectified linear units improve restricted Boltzmann machines*, ICML
#   2010; X. Glorot, A. Bordes, Y. Bengio, *Deep sparse rectifier neural networks*, AISTATS 2011.
