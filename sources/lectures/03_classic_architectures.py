# %% [markdown]
# # 03 Classic architectures: LeNet to GoogLeNet
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/03_classic_architectures.ipynb)
#
# **In 2011 the best program in the world misread every fourth photograph. Four years later it misread one in
# twenty-eight.** Filters, pooling and back-propagation had been known since the 1980s. New were a million labelled
# photographs, graphics cards, a few aids to training, and what this notebook is about, the *architecture*: how many
# layers, how wide, in which order, and what stands between them. It builds the networks that made the difference,
# counts every one of them, and holds what is said about them in lectures against the count.
#
# You will be able to
#
# - read an architecture from a table or a diagram, and derive its sizes, parameters and multiply-accumulates;
# - say what each of LeNet-5, AlexNet, ZFNet, VGG and GoogLeNet added, and what it cost;
# - explain the inception module, and why its 1 × 1 convolutions come first;
# - tell a claim about architectures that holds from one that is only repeated, by computing it;
# - compare two designs fairly: same images, same time, several seeds.
#
# It takes about ninety minutes to read and five minutes to run.

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
repeats: int = 3  # [1, 10] runs of each training, each with its own initial weights and order of images
digits: str = "digits"  # what LeNet-5 reads: a data set of at most ten classes, by name or the path of its folder
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
per_class: int = 100  # [10, 1000] training images of each class for LeNet-5
reading: int = 240  # [2, 5000] steps of 50 images that each LeNet-5 is trained for
pictures: str = "shapes_crops"  # what the newer designs are compared on: a data set with labels, by name or path
examples: int = 600  # [20, 1600] training pictures of each class
picture_size: int = 32  # [32, 48] height and width they are brought to
steps: list[int] = [1400, 260, 260]  # of LeNet-5, the VGG-like and the inception net: equal CPU time; 0: untrained
looks: int = 10  # [2, 50] times that a network is tested while it trains
timed: int = 7  # [1, 100] forward passes over which the time of a network is the median

# %%
import gc
import math
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
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
# **ImageNet** (Deng et al. 2009) is a collection of 14 million photographs, gathered from the web under the nouns of
# WordNet and checked by tens of thousands of people through Amazon Mechanical Turk. Its competition, the *Large Scale
# Visual Recognition Challenge* (ILSVRC), ran from 2010 to 2017 with 1,000 classes and 1.2 million training images. A
# program may name five classes for an image, and errs if the true one is not among them: the **top-5 error**.
# Guessing errs in 995 of 1,000 images.
#
# All eight winners, as the organisers published them [paper]:

# %%
columns = ["year", "name", "error", "layers", "kind"]  # top-5 error in %; layers: 0 where there is no one network
entered = pd.DataFrame(
    [
        (2010, "NEC-UIUC", 28.2, 0, "features by hand"),
        (2011, "XRCE", 25.8, 0, "features by hand"),
        (2012, "AlexNet", 15.3, 8, "network"),
        (2012, "ISI, the second", 26.2, 0, "not the winner"),
        (2013, "Clarifai", 11.7, 0, "network"),
        (2013, "ZFNet's paper", 14.8, 8, "not the winner"),
        (2014, "GoogLeNet", 6.67, 22, "network"),
        (2014, "VGG, the second", 7.32, 0, "not the winner"),
        (2015, "ResNet", 3.57, 152, "network"),
        (2016, "Trimps-Soushen", 2.99, 0, "network"),
        (2017, "SENet", 2.25, 154, "network"),
    ],
    columns=columns,
)

# %% tags=["thumbnail"]
figure, ax = plt.subplots(figsize=(8, 4.2))
shades = {"features by hand": plots.GREY, "network": plots.BLUE, "not the winner": plots.ORANGE}
for kind, rows in entered.groupby("kind", sort=False):
    ax.barh(rows.index, rows["error"], color=shades[kind], height=0.7, label=kind)
for row, (error, depth) in enumerate(zip(entered["error"], entered["layers"])):
    right = max(error, 5.1) + 0.3  # not on the dashed line
    ax.text(right, row, f"{error:g}" + (f", {depth} layers" if depth else ""), va="center", fontsize=9)
ax.axvline(5.1, color=plots.BLACK, linestyle="--", linewidth=1, zorder=0, label="one trained person, 5.1")
ax.set_yticks(range(len(entered)), entered["year"].astype(str) + "  " + entered["name"])
ax.set(xlabel="top-5 error on the test images, %", xlim=(0, 32))
ax.invert_yaxis()
ax.legend(loc="lower right")

# %% [markdown]
# The grey bars are features made by hand with a linear classifier on top; the blue ones are convolutional networks
# (that of 2016 an ensemble of known ones); the orange ones did not win. AlexNet won by 10.8 points (26.172 − 15.315
# by the organisers' own figures): the best error fell by 10.5 points within a year, after 2.4 the year before. (15.3
# is an average of seven networks, two of them pretrained on more of ImageNet. With the competition's images alone the
# team's figure is 16.4, which is what 11.7 should be compared with.)
#
# > **What the slide says.** "2013: ZFNet won with 11.2 %." The winner of 2013 was Matthew Zeiler's company
# > **Clarifai**, with 11.7 % on the competition's images and 11.2 % with outside data. The network of Zeiler and
# > Fergus's *paper*, ZFNet, reaches 14.8 % there, an average of six networks, one of them with wider layers.
#
# 2014 had two tasks. GoogLeNet won classification with 6.67 %; VGG came second with 7.3 % and won *localization*,
# where the object must also be framed.
#
# The organisers' data end here. What the networks themselves look like, we need not take from anybody: we build them.

# %% [markdown]
# ## LeNet-5, 1998
#
# LeNet-5 read the amounts on cheques. Its input of 32 × 32 pixels is larger than the digits in it, at most 20 × 20,
# so that their ends can stand in the centre of the highest units' windows. Two convolutions of 5 × 5 without padding,
# each followed by *subsampling* (pooling of 2 × 2), then a third convolution, which covers all that is left.
#
# Predict the sizes before you look: 32 − 5 + 1 = 28, halved 14; 14 − 5 + 1 = 10, halved 5; 5 − 5 + 1 = 1.
#
# `architectures.build` gives a network of the course by its name; `architectures.outline` gives it with weights that
# have shapes and no values, which is all we need to count and to draw. `plots.stage_diagram` draws the maps to scale.

# %%
lenet5 = architectures.outline("lenet5")
plots.stage_diagram(lenet5, title="LeNet-5: height and thickness of each box are to scale")

# %% [markdown]
# The layers that matter, with what they cost. A convolution's parameters: filters · (inputs · 5 · 5 + 1); a dense
# layer's: units · (inputs + 1). The MACs (multiply-accumulates): the same without the bias, times the places of the
# output.


# %%
def layer_table(model):
    """The layers of a model that have weights or change the size of the map: output, parameters, MACs."""
    table = arithmetic.layer_table(model)
    keep = (table["params"] > 0) | table["type"].str.contains("Pooling2D")
    shapes = [" × ".join(map(str, shape)) for shape in table["output_shape"]]
    table = table.assign(
        output=shapes, MACs=table["macs"].map("{:,}".format), parameters=table["params"].map("{:,}".format)
    )
    return table.loc[keep, ["layer", "output", "parameters", "MACs"]].set_index("layer")


layer_table(lenet5)

# %% [markdown]
# ### How many parameters has LeNet-5?
#
# Look it up, and you find 61,706, 60,806 or "about 60,000". All three are right: they count three different networks.
#
# - **61,706** is LeNet-5 as it is usually rebuilt, the table above.
# - In the paper, the 16 maps of C3 do not see all six maps below: six of them see three, nine see four, one sees all.
#   That saves (16 · 6 − 60) · 25 = 900 weights: **60,806**.
# - In the paper, subsampling is trained: the sum of the four values is multiplied by a weight and gets a bias, one
#   pair for each map: 2 · 6 + 2 · 16 = 44 more. And there is no dense layer of ten logits at the end (−850). Each
#   digit has a *fixed* target pattern for the 84 units below, and its score is how near they come to it: **60,000**.

# %% tags=["nbval-check-output"]
forms = {
    "as rebuilt": {},
    "partial C3": {"c3": "partial"},
    "the paper's": {"c3": "partial", "subsampling": "trainable", "output": "rbf"},
}
counts = {name: arithmetic.totals(architectures.outline("lenet5", **options)) for name, options in forms.items()}
for name, total in counts.items():
    print(f"{name:12} {total['params']:,}")

# %% [markdown]
# Why partial? It saves three eighths of the layer's work, and, as the authors write, it breaks the symmetry: maps
# that see different inputs must find different features. The table I of the paper, and the patterns that the ten
# digits were given (the paper's are stylised characters in print; ours are seven-segment digits of the same 7 × 12
# pixels):

# %%
figure, axes = plt.subplots(1, 11, figsize=(8, 2.2), width_ratios=(7, *[1] * 10))
connected = np.zeros((6, 16))
for column, row in enumerate(lenet.C3):
    connected[list(row), column] = 1
axes[0].imshow(connected, cmap="Blues", vmax=1.4)
axes[0].set(xlabel="map of C3", ylabel="map of S2", xticks=range(0, 16, 3), yticks=range(6))
axes[0].set_title(f"{int(connected.sum())} of {connected.size} connections")
axes[0].grid(False)
for digit, (ax, picture) in enumerate(zip(axes[1:], lenet.digits())):
    ax.imshow(-picture)
    ax.set_title(str(digit))
    ax.set_axis_off()

# %% [markdown]
# ### Trained here
#
# It was made for handwritten digits, so it gets some: scikit-learn's, 1,000 to train, enlarged from 8 × 8 to 32 × 32.
# The first form and the paper's, three runs each, and a linear classifier on the same pixels as the baseline.
# Departures: our digits fill the whole height of the image; the paper trains on 60,000 digits with a method of its
# own and a loss between the distances; here it is Adam, and cross-entropy on scores that are minus the distances.

# %%
classes = data.chosen(digits, on_error=on_error, most=10).classes  # the form of 1998 has ten patterns
images, labels = data.arrays(digits, "train", 32, 1, per_class=per_class, on_error=on_error)
test_images, test_labels = data.arrays(digits, "test", 32, 1, on_error=on_error)
x, x_test = (array.astype("float32") / 127.5 - 1 for array in (images, test_images))
plots.show_images(images[transfer.draw(labels, 1, seed)], columns=10, tile=0.8)


# %%
def restart(model, run):
    """New initial weights, and an optimizer that has seen nothing; what Keras has compiled stays."""
    model.set_weights(transfer.reinitialise(model, seed + run).get_weights())
    for variable in model.optimizer.variables:
        if "learning_rate" not in variable.path:
            variable.assign(ops.zeros_like(variable))


def train(model, steps, run, batch_size):
    """Arrays (looks,) of CPU seconds spent on training, of accuracy on the test images and of training loss."""
    restart(model, run)
    seconds, accuracies, losses = [], [], []
    for look, part in enumerate(np.array_split(np.arange(steps), looks)):
        seconds.append(0.0)
        if len(part):
            batches = transfer.repeat(x, labels, len(part), batch_size, seed + looks * run + look)
            begin = time.process_time()
            losses += model.fit(*batches, batch_size=batch_size, shuffle=False, verbose=0).history["loss"]
            seconds[-1] = time.process_time() - begin
        accuracies.append(np.mean(transfer.predict(model, x_test).argmax(axis=1) == test_labels))
    return np.cumsum(seconds), np.array(accuracies), np.array(losses)


# %%
courses, readers = {}, {}
for name in ("as rebuilt", "the paper's"):
    readers[name] = architectures.build("lenet5", **forms[name])
    schedule = training.WarmupHoldDecay(3e-3, reading, reading // 10)
    training.compile_classifier(readers[name], keras.optimizers.Adam(schedule))
    courses[name] = np.array([train(readers[name], reading, run, 50)[1] for run in range(repeats)])
linear = transfer.linear_probe(x.reshape(len(x), -1), labels)
baseline = linear.score(x_test.reshape(len(x_test), -1), test_labels)

# %%
at = np.linspace(0, reading, looks + 1)[1:]
plots.curves(courses, at, "step", "accuracy on test digits", baselines={"linear classifier on pixels": baseline})
record(
    lenet_accuracy=courses["as rebuilt"][:, -1].mean(),
    lenet_paper_accuracy=courses["the paper's"][:, -1].mean(),
    lenet_linear=baseline,
)

# %% [markdown]
# The bands span the runs. The linear classifier is hard to beat here: all digits are of one size and stand in the
# same place, so single pixels say much. What a convolutional network knows beyond that shows when the digits move. We
# push the test images to the right, pixel by pixel. None of the three has ever seen a digit there.


# %%
def pushed(images, pixels):
    """Images (N, 32, 32, 1) moved to the right, dark where nothing comes in."""
    return np.pad(images, ((0, 0), (0, 0), (pixels, 0), (0, 0)), constant_values=-1)[:, :, : images.shape[2]]


moved = {name: [] for name in (*readers, "linear classifier")}
for pixels in range(9):
    there = pushed(x_test, pixels)
    for name, model in readers.items():
        moved[name].append(np.mean(transfer.predict(model, there).argmax(axis=1) == test_labels))
    moved["linear classifier"].append(linear.score(there.reshape(len(there), -1), test_labels))
plots.curves(moved, range(9), "pixels to the right", "accuracy on test digits", {"chance": 1 / len(classes)})
record(lenet_moved=moved["as rebuilt"][3], linear_moved=moved["linear classifier"][3])

# %% [markdown]
# Pushed by three pixels of 32, both forms of LeNet-5 still read most of the digits, the linear classifier less than
# half of them. The maps move along with the digit (topic 01), and each pool forgives a step. From seven pixels on
# they are no better than the linear classifier: the dense layers have never seen a map there, and half of the digits
# have begun to leave the image. Between the two forms there is a point in favour of the rebuilt one while the digits
# stand still, and, for one run of each, hardly anything once they move: the parts that the rebuilders left out did
# not matter much, at least not for a thousand digits and our short training.
#
# What did the last network, one in the paper's form, get wrong?

# %%
reader = readers["the paper's"]
answers = transfer.predict(reader, x_test).argmax(axis=1)
wrong = np.flatnonzero(answers != test_labels)[:10]
if len(wrong):
    names = [*classes, *(f"pattern {number}" for number in range(len(classes), 10))]
    options = {"predictions": answers[wrong], "classes": names, "columns": 10, "tile": 0.8}
    plots.show_images(test_images[wrong], test_labels[wrong], **options)

# %% [markdown]
# Its scores are minus the squared distances of the 84 units to the ten patterns. The mean distance of the test images
# of each digit (rows) to each pattern (columns), where 84 is what a code of zeros would have: the smallest of each
# row should stand on the diagonal. It need not come near 0, since our loss asks only that the right pattern be nearer
# than the others.

# %%
distances = -transfer.predict(reader, x_test)  # (test images, 10)
table = np.stack([distances[test_labels == digit].mean(axis=0) for digit in range(len(classes))])
figure, ax = plt.subplots(figsize=(5, 4.2))
ax.imshow(table, cmap="Blues_r", vmin=table.min() - 20)
for (row, column), distance in np.ndenumerate(table):
    ax.text(column, row, f"{distance:.0f}", ha="center", va="center", fontsize=9)
ax.grid(False)
ax.set(xlabel="pattern", ylabel="digit", xticks=range(10), yticks=range(len(classes)))
print(
    "smallest on the diagonal in", np.sum(table.argmin(axis=1) == np.arange(len(classes))), "of", len(classes), "rows"
)

# %% [markdown]
# ## AlexNet, 2012
#
# Fourteen years later: larger images, 1,000 classes, a thousand times as many parameters, and two graphics cards.

# %%
alexnet = architectures.outline("alexnet")
plots.stage_diagram(alexnet, title="AlexNet")

# %% [markdown]
# Layer by layer. Predict: 227 pixels, 11 × 11 at stride 4: (227 − 11) / 4 + 1 = 55. A pool of 3 at stride 2: (55 − 3)
# / 2 + 1 = 27. Then 5 × 5 with padding 2 keeps 27, a pool gives 13, three times 3 × 3 with padding 1 keep 13, a pool
# gives 6. So 6 · 6 · 256 = 9,216 values enter the first dense layer.

# %%
layer_table(alexnet)

# %% [markdown]
# > **What the slide says**, and the paper itself: "224 × 224". An 11 × 11 filter at stride 4 would stand at
# > (224 − 11) / 4 + 1 = 54.25 places. With 227 it is 55, the size that the paper's own figure gives.

# %% tags=["nbval-check-output"]
for n in (224, 227):
    exact = (n - 11) / 4 + 1
    print(f"{n}: {exact:g} places, so {arithmetic.output_size(n, 11, 4)}, {(n - 11) % 4} pixels unread")

# %% [markdown]
# ### Why it is drawn split
#
# The paper's figure shows two networks side by side which meet in some layers only. The reason is memory: the
# authors' cards had 3 GB each. Half of the channels live on one card, half on the other; the second, fourth and fifth
# convolution see the channels of their own card alone, which is now called a convolution with two *groups*. We draw
# which channels each filter sees: grey where all see all, otherwise one colour for each card.

# %%
convolutions = [alexnet.get_layer(f"conv{number}") for number in range(1, 6)]
figure, axes = plt.subplots(1, 5, figsize=(8, 2.6))
for ax, layer in zip(axes, convolutions):
    inputs, filters = layer.kernel.shape[2] * layer.groups, layer.filters
    card = np.arange(filters)[:, None] * layer.groups // filters + 1
    seen = card == np.arange(inputs)[None] * layer.groups // inputs + 1
    colour = np.where(seen, card if layer.groups > 1 else 3, 0)
    ax.imshow(colour, cmap=ListedColormap(["white", plots.BLUE, plots.ORANGE, "0.75"]), vmin=0, vmax=3, aspect="auto")
    ax.set(title=layer.name, xlabel=f"{inputs} channels", xticks=[], yticks=[])
    ax.set_ylabel(f"{filters} filters")
    ax.grid(False)

# %% [markdown]
# A filter with two groups sees half of the channels and has half of the weights. Layers 2, 4 and 5 are halved: with
# groups we expect 5 · 5 · 48 · 256 + 3 · 3 · 192 · (384 + 256) = 1,413,120 weights fewer.

# %% tags=["nbval-check-output"]
whole = architectures.outline("alexnet", groups=1)
for name, model in {"two groups": alexnet, "no groups": whole}.items():
    total = arithmetic.totals(model)
    megabytes = 4 * total["params"] / 1e6
    print(f"{name}: {total['params']:,} parameters = {megabytes:.1f} MB, {total['macs']:,} MACs")

# %% [markdown]
# > **What the slide says.** "255 MB." At 4 bytes a parameter the network of the paper has 243.9 MB, and even without
# > groups it has 249.5.
#
# Does one card really not suffice? An estimate by our way of counting: a batch of 128 images, forward and backward,
# and for each weight its gradient and its velocity.

# %%
total = arithmetic.totals(alexnet)
maps = 2 * 128 * total["activation_bytes"] / 1e9
weights = 3 * 4 * total["params"] / 1e9
print(f"maps {maps:.2f} GB + weights {weights:.2f} GB = {maps + weights:.2f} GB of 3 GB")

# %% [markdown]
# Tight: this leaves .8 GB for the images, the work space of the convolutions and whatever of the maps the program of
# 2012 did not compute in place. And two cards work at the same time: the training took five to six days.
#
# ### Where its weights are
#
# Eight layers, five convolutions and three dense ones. Where do you expect the parameters, and where the work?

# %%
table = arithmetic.layer_table(alexnet).query("params > 0")
colours = [plots.PURPLE if kind == "Dense" else plots.BLUE for kind in table["type"]]
plots.layer_bars(table["layer"], {"parameters": table["params"], "MACs": table["macs"]}, colours)

# %%
dense = table["type"] == "Dense"
for name in ("params", "macs"):
    print(f"dense layers: {table.loc[dense, name].sum() / table[name].sum():.0%} of the {name}")

# %% [markdown]
# The dense layers (purple) hold 96 % of the parameters and do 8 % of the work. Keep it in mind: two years later
# GoogLeNet is going to do without most of them.
#
# > **What the slides say.** "A network of seven layers", and elsewhere "twelve". AlexNet has **eight** layers with
# > weights: count the rows of the picture. (The paper removes a layer once, as an experiment, and then has seven.)

# %% [markdown]
# ### The order of things
#
# In the paper a stage is: convolution, ReLU, *local response normalisation*, pooling. We draw the first one.

# %%
first = keras.Model(alexnet.input, alexnet.get_layer("pool1").output)
figure, ax = plt.subplots(figsize=(3.4, 3.2))
plots.block_diagram(first, ax=ax)

# %% [markdown]
# **Local response normalisation** (LRN) divides each value by what the channels beside it say at the same place:
#
# $$b_i = a_i \Big/ \Big(k + \alpha \sum_{j = i - n/2}^{i + n/2} a_j^2\Big)^{\beta}, \qquad k = 2,\ n = 5,\ \alpha = 10^{-4},\ \beta = .75.$$
#
# A loud channel quiets its four neighbours: the paper calls it lateral inhibition. Sixteen channels at one place, all
# of size 40 but one:

# %%
lrn = alexnet.get_layer("conv1_norm")
quiet = np.full((1, 1, 1, 16), 40.0, "float32")
quiet[..., 8] = 400
figure, axes = plt.subplots(1, 2, figsize=(8, 2.3))
for ax, values, title in zip(axes, (quiet, ops.convert_to_numpy(lrn(quiet))), ("before", "after LRN")):
    ax.bar(range(16), values.ravel(), color=plots.BLUE)
    ax.set(title=title, xlabel="channel", xticks=range(0, 16, 3))

# %% [markdown]
# The loud channel stays the loudest, the four neighbours fall below those far away. LRN gained 1.4 points of top-1
# error in the paper; VGG found no gain two years later, and batch normalisation has replaced it.
#
# One deck pools first and normalises afterwards. That is the order of Caffe's later copy, *CaffeNet*, and it is not
# the same: the maximum over places is taken of other values. We try both orders on random maps with values of some
# tens, as large as those that pixels from 0 to 255 give.

# %%
maps = np.maximum(np.random.default_rng(seed).normal(0, 30, (4, 55, 55, 96)), 0).astype("float32")
pool = layers.MaxPooling2D(3, 2)
ours, caffe = (ops.convert_to_numpy(y) for y in (pool(lrn(maps)), lrn(pool(maps))))
apart = np.abs(ours - caffe)
print(f"{np.mean(apart > 1e-3 * ours):.0%} of the values differ, by {apart.mean() / ours.mean():.0%} on average")

# %% [markdown]
# **Overlapping pooling**: windows of 3 at stride 2, where older networks had windows of 2 at stride 2. The map comes
# out as small either way, along a row every second pixel is read twice, and of an odd size such as AlexNet's 55
# nothing is left over. The paper's error falls by .4 points (top-1) [paper].

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 1.9))
plots.window_positions(11, 2, 2, title="windows of 2 at stride 2", ax=axes[0])
plots.window_positions(11, 3, 2, title="windows of 3 at stride 2", ax=axes[1])
print("55 ->", arithmetic.output_size(55, 2, 2), "and", arithmetic.output_size(55, 3, 2))

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
# > **What the slide says.** "Learning rate 1e-1, reduced by 10." The paper starts at **1e-2** and ends, three
# > divisions later, at 1e-5. Is ten times as much so bad? We try both, with momentum .9, on the network that we have
# > at hand: LeNet-5, with AlexNet's ReLU.

# %%
losses = {}
for rate in (0.01, 0.1):
    model = architectures.build("lenet5", activation="relu")
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    losses[f"rate {rate:g}"] = np.array([train(model, 10 * looks, run, 50)[2] for run in range(repeats)])

# %%
nothing = {f"log {len(classes)}: knows nothing": math.log(len(classes))}
ax = plots.curves(losses, np.arange(1, looks + 1) * 10, "step", "loss on training batches", nothing)
for line, runs in zip(ax.lines, losses.values()):  # the runs one by one: a mean would hide what each does
    ax.plot(line.get_xdata(), runs.T, color=line.get_color(), linewidth=0.7)
record(loss_at_low_rate=losses["rate 0.01"][:, -2:].mean(), loss_at_high_rate=losses["rate 0.1"][:, -2:].mean())

# %% [markdown]
# At 1e-2 every run waits a little and then learns. At 1e-1 it is a matter of luck, as the width of the band shows: a
# run may be as fast, may jump up and down, or (one of three with our seed) is thrown back to log 10 and does not
# return within these steps; dead ReLUs are the usual cause. Nobody wants to find out after five days.
#
# > **What the slide says.** "The first network with ReLU." Rectified units are older: Fukushima's NeoCognitron has
# > them (1980), Jarrett et al. (2009) found rectification to be the most important part of their networks, Nair and
# > Hinton (2010) named the unit, and Glorot, Bordes and Bengio (2011) trained deep networks with it. The paper shows
# > what it brings: a four-layer network on CIFAR-10 reaches 25 % training error six times sooner than with tanh
# > [paper].

# %% [markdown]
# ## ZFNet, 2013
#
# Zeiler and Fergus looked at what AlexNet's filters see (topic 05 does the same) and changed what they did not like.
# Some filters of the first layer were dead, and the maps of the second layer showed *aliasing*: patterns that are not
# in the image, from reading it at every fourth pixel only. So conv1 became 7 × 7 at stride 2.
#
# What aliasing is, on a pattern of rings that get finer outwards. A filter tuned to fine vertical stripes, five
# pixels a period, answers along one ring. Read at every second pixel the stripes of its answer are still there; at
# every fourth they turn into coarse ones, which the image does not have.

# %%
grid = np.arange(192) - 95.5
rings = np.cos((grid[:, None] ** 2 + grid[None] ** 2) * np.pi / 420)
taps = np.arange(11) - 5
stripes = np.exp(-(taps[:, None] ** 2 + taps[None] ** 2) / 12) * np.cos(2 * np.pi * taps[None] / 5)
figure, axes = plt.subplots(1, 4, figsize=(8, 2.3))
axes[0].imshow(rings)
axes[0].set_title("image")
for ax, stride in zip(axes[1:], (1, 2, 4)):
    answer = arithmetic.conv2d(rings, stripes, s=stride)
    part = slice(56 // stride, 126 // stride), slice(112 // stride, 182 // stride)  # the right side of the ring
    ax.imshow(answer[part], cmap="RdBu_r", vmin=-8, vmax=8)
    ax.set_title(f"stride {stride}")
for ax in axes:
    ax.set_axis_off()

# %% [markdown]
# The network, beside AlexNet: (224 + 2 − 7) / 2 + 1 = 110, rounded down; pool of 3 at stride 2 with 1 of padding, 55;
# conv2, 5 × 5 at stride 2 without padding, 26; pool, padded likewise, 13 (the paper does not state the paddings;
# these give its sizes); from there on the sizes are AlexNet's. No groups: it ran on a single card, for twelve days.

# %%
zfnet = architectures.outline("zfnet")
pair = {"AlexNet": alexnet, "ZFNet": zfnet}
sizes = {name: arithmetic.layer_table(model).set_index("layer")["output_shape"] for name, model in pair.items()}
fields = {name: arithmetic.receptive_fields(model).set_index("layer") for name, model in pair.items()}
rows = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"]
beside = {}
for name in pair:
    beside[name, "output"] = [" × ".join(map(str, sizes[name][row])) for row in rows]
    beside[name, "sees"] = [f"{fields[name].loc[row, 'size']:g}" for row in rows]
    beside[name, "step"] = [f"{fields[name].loc[row, 'jump']:g}" for row in rows]
pd.DataFrame(beside, index=rows)

# %% [markdown]
# *sees* is the receptive field in pixels, *step* the distance of two neighbouring units. ZFNet looks twice as closely
# in its first layer, and takes the step in its second: after it both stand at 8 pixels. The parameters are
# 62,357,608, almost AlexNet's without groups.
#
# ## VGG, 2014
#
# Simonyan and Zisserman asked one question, what depth alone gains, and kept everything else as plain as it can be:
# convolutions of 3 × 3 with padding 1, pools of 2 × 2, and whenever a pool halves the map the number of channels
# doubles, up to 512. A network is then a line of text. These are the six configurations of the paper's table 1, as
# `utils.architectures.vgg` has them: a number is a convolution with so many filters, M a pool, `256:1` a convolution
# of 1 × 1.

# %%
from utils.architectures.vgg import CONFIGURATIONS

letters = dict(zip(CONFIGURATIONS, ["A", "A-LRN", "B", "C", "D", "E"]))
vggs = {name: architectures.outline(name) for name in CONFIGURATIONS}
rows = []
for name, model in vggs.items():
    total = arithmetic.totals(model)
    weighted = sum(bool(layer.weights) for layer in model.layers)
    rows.append(
        (letters[name], name, weighted, f"{total['params']:,}", f"{total['macs'] / 1e9:.2f}", CONFIGURATIONS[name])
    )
columns = ["", "name", "layers", "parameters", "GMACs", "configuration"]
pd.DataFrame(rows, columns=columns).set_index("").style.set_properties(["configuration"], **{"text-align": "left"})

# %%
vgg16 = vggs["vgg16"]
plots.stage_diagram(vgg16, title="VGG-16")

# %% [markdown]
# > **What the slides say.** "3 × 3 filters *exclusively*": configuration C has three convolutions of 1 × 1. "The
# > number of channels doubles *with each convolutional layer*": it doubles with each *stage*, and stops at 512. With
# > each layer it would be, at the thirteenth, 262,144 channels. Counted from the networks:

# %% tags=["nbval-check-output"]
for name, model in vggs.items():
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    kernels = [layer.kernel_size[0] for layer in convolutions]
    print(f"{letters[name]:6} 3x3: {kernels.count(3):2}  1x1: {kernels.count(1)}", end="  channels ")
    print(" ".join(dict.fromkeys(str(layer.filters) for layer in convolutions)))
print("doubled with each of 13 layers:", 64 * 2**12)

# %% [markdown]
# **Why two 3 × 3 for one 5 × 5?** Both see 5 × 5 pixels. With C channels in and out, one 5 × 5 has 25 C² weights, two
# 3 × 3 have 18 C², and a ReLU more in between. Three of them for one 7 × 7: 27 C² against 49 C².

# %%
rows = []
for large, chain in ((5, 2), (7, 3), (11, 5)):
    field = arithmetic.receptive_field_chain([(3,)] * chain)["size"].iloc[-1]
    assert field == large
    rows.append((f"{large} × {large}", large**2, f"{chain} of 3 × 3", 9 * chain, f"{1 - 9 * chain / large**2:.0%}"))
pd.DataFrame(rows, columns=["one filter", "weights / C²", "a chain", "weights / C² ", "saved"])

# %% [markdown]
# Does depth help? The paper's table 3 [paper], one network each, one scale: top-5 error on the validation images
# against the number of layers. A-LRN costs time and gains nothing. C and D have the same depth: the difference is
# that three of C's layers see no neighbours. At 19 layers the curve is flat: to go deeper needs another idea (topic
# 04).

# %%
errors = {"A": 10.4, "A-LRN": 10.5, "B": 9.9, "C": 9.4, "D": 8.8, "E": 9.0}
depth = {letters[name]: sum(bool(layer.weights) for layer in model.layers) for name, model in vggs.items()}
figure, ax = plt.subplots(figsize=(6, 3))
for name, error in errors.items():
    ax.plot(depth[name], error, "o", color=plots.BLUE)
    ax.annotate(name, (depth[name], error), xytext=(8, 4 if name == "A-LRN" else -6), textcoords="offset points")
ax.set(xlabel="layers with weights", ylabel="top-5 error, % [paper]", xlim=(10, 20.5), ylim=(8, 11))

# %% [markdown]
# Every layer of VGG-16 that has weights, what it holds and what it costs. Topic 01 worked through this table; look
# once more at how unevenly the three quantities are spread.

# %%
table = arithmetic.layer_table(vgg16).query("params > 0")
shown = table.set_index("layer")[["output_shape", "params", "macs", "activation_bytes"]]
shown.style.format("{:,}", subset=["params", "macs", "activation_bytes"])

# %%
colours = [plots.PURPLE if kind == "Dense" else plots.BLUE for kind in table["type"]]
columns = {"parameters": table["params"], "MACs": table["macs"], "maps, bytes": table["activation_bytes"]}
plots.layer_bars(table["layer"], columns, colours)

# %% [markdown]
# Memory for maps lies in the first layers, work in the middle, parameters at the end. 102.8 of 138.4 million
# parameters belong to a single layer, fc6, which sees the last map of 7 × 7 × 512 as one vector of 25,088.
#
# ## GoogLeNet, 2014
#
# Szegedy and his colleagues asked the opposite question: not what depth gains at any price, but how much a network
# can do within a fixed one. The budget was 1.5 billion multiply-accumulates, a tenth of VGG's.
#
# ### The inception module
#
# Which filter size should a layer have? *All of them*: 1 × 1, 3 × 3, 5 × 5 and a pool side by side, their outputs
# stacked. That is the **naive** module. We build the module called 3b of the paper in this form: 256 channels of 28 ×
# 28 come in.

# %%
entry = layers.Input((28, 28, 256))
one, reduce3, three, reduce5, five, projection = googlenet.MODULES["3b"]
naive = keras.Model(entry, googlenet.inception_naive(entry, (one, three, five), "naive"))
reduced = keras.Model(entry, googlenet.inception(entry, googlenet.MODULES["3b"], "reduced"))
figure, ax = plt.subplots(figsize=(8, 2.6))
plots.block_diagram(naive, title="3b, naive", ax=ax)

# %% [markdown]
# Two things go wrong. The 3 × 3 and 5 × 5 filters see all 256 channels and cost 28 · 28 · 256 · (9 · 192 + 25 · 96) =
# 829 million MACs. And the pool hands its 256 channels on as they are, so the output has 128 + 192 + 96 + 256 = 672:
# each module would make the next one more expensive. The remedy is to *reduce* the channels by 1 × 1 convolutions
# before the large filters, and behind the pool:

# %%
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.block_diagram(reduced, title="3b, with reductions", ax=ax)

# %% tags=["nbval-check-output"]
for name, module in {"naive": naive, "reduced": reduced}.items():
    total = arithmetic.totals(module)
    print(
        f"{name:8} {total['macs'] / 1e6:.0f} M MACs, {total['params']:,} parameters, {module.output_shape[-1]} channels out"
    )

# %% [markdown]
# A third of the work. The reductions lose something, in principle: 256 channels pass through 32 before the 5 × 5. The
# bet is that what the channels say is redundant. What if all nine modules were naive, with the same numbers of 1 × 1,
# 3 × 3 and 5 × 5 filters? The channels never shrink:

# %%
widths, costs = {"naive": [], "reduced": []}, {"naive": [], "reduced": []}
wide = narrow = 192
for name, (one, reduce3, three, reduce5, five, projection) in googlenet.MODULES.items():
    places = {"3": 28, "4": 14, "5": 7}[name[0]] ** 2
    costs["naive"].append(places * wide * (one + 9 * three + 25 * five) / 1e6)
    inner = one + reduce3 + reduce5 + projection
    costs["reduced"].append(places * (narrow * inner + 9 * reduce3 * three + 25 * reduce5 * five) / 1e6)
    wide, narrow = one + three + five + wide, one + three + five + projection
    widths["naive"].append(wide)
    widths["reduced"].append(narrow)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3))
plots.curves(widths, range(9), "module", "channels out", ax=axes[0])
plots.curves(costs, range(9), "module", "million MACs", ax=axes[1])
for ax in axes:
    ax.set_xticks(range(9), list(googlenet.MODULES))
print(f"all nine modules: {sum(costs['naive']) / 1e3:.2f} against {sum(costs['reduced']) / 1e3:.2f} GMACs")

# %% [markdown]
# Eleven times the work. The channels that the pools keep handing on pile up to 4,944, and every filter of the next
# module would have to look at all of them.
#
# ### Module by module
#
# Before the modules stands a stem: 7 × 7 with 64 filters at stride 2 (112), pool of 3 at stride 2 (56), LRN, 1 × 1
# with 64, 3 × 3 with 192, LRN, pool (28). The pools round up, as Caffe's do; two more stand before 4a and 5a. Behind
# 5b follow a global average, dropout of .4 and the dense layer. Between them the modules, six numbers each, from the
# paper's table 1:

# %%
inception = architectures.outline("googlenet")
columns = ["1 × 1", "3 × 3 reduce", "3 × 3", "5 × 5 reduce", "5 × 5", "pool proj"]
modules = pd.DataFrame.from_dict(googlenet.MODULES, "index", columns=columns)
outputs = [inception.get_layer(f"inception{name}_concat").output.shape[1:] for name in modules.index]
modules["output"] = [" × ".join(map(str, shape)) for shape in outputs]
modules

# %%
plots.stage_diagram(inception, title="GoogLeNet")

# %% [markdown]
# The same table prints parameters and operations for each row. Are they those of this network? We add up ours by the
# stage with which a layer's name begins. (The print's K is 1,024: with 1,000 hardly anything agrees.) A cross marks
# what is off by more than 1 %, or by more than the rounding of a million.

# %%
printed = {"conv1": (2.7, 34), "conv2": (112, 360), "3a": (159, 128), "3b": (380, 304), "4a": (364, 73), "4b": (437, 88),
           "4c": (463, 100), "4d": (580, 119), "4e": (840, 170), "5a": (1072, 54), "5b": (1388, 71), "logits": (1000, 1)}  # fmt: skip
table = arithmetic.layer_table(inception)
stage = table["layer"].str.partition("_")[0].str.removeprefix("inception")
ours = table.groupby(stage, sort=False)[["params", "macs"]].sum().loc[list(printed)]
ours["printed K"], ours["printed M"] = zip(*printed.values())
ours["K off"] = np.where(abs(ours["params"] / 1024 / ours["printed K"] - 1) > 0.01, "✗", "")
ours["M off"] = np.where(abs(ours["macs"] / 1e6 - ours["printed M"]) > 1, "✗", "")
ours[["params", "printed K", "K off", "macs", "printed M", "M off"]].style.format(
    {"params": "{:,}", "macs": "{:,}", "printed K": "{:g}"}
)

# %% tags=["nbval-check-output"]
for name in ours.index[ours["K off"] == "✗"]:
    row = ours.loc[name]
    print(f"{name:6} {row['params']:9,} parameters = {row['params'] / 1024:6.1f} K, printed {row['printed K']:g} K")
print(f"conv1 as 7x1 and 1x7 on three channels: {2 * 7 * 3 * 64:,}, {2 * 7 * 3 * 64 * 112**2 / 1e6:.0f} M")

# %% [markdown]
# > **What the slide says**, and the paper: conv1 2.7 K and 34 M, 4c 463 K, 4d 580 K, 5a 1,072 K and 54 M, 5b 1,388 K.
# > The network of the same table has 9,472 parameters and 118.0 M MACs in conv1, 510,104 in 4c, 605,376 in 4d,
# > 1,043,456 in 5a (51 M) and 1,444,080 in 5b. The print of conv1 is that of a 7 × 1 and a 1 × 7 filter; perhaps the
# > authors had such a version. The other rows agree within 1 % (4a, 367 for 364, and 4e, 848 for 840, only just).
#
# ### How deep, how large
#
# Count layers with weights on the longest way through: three convolutions at the start, two in each of nine modules,
# one dense layer: 3 + 9 · 2 + 1 = 22.

# %% tags=["nbval-check-output"]
weighted = [layer.name for layer in inception.layers if layer.weights]
before = sum(name.startswith("conv") for name in weighted)
in_a_row = before + 2 * len(googlenet.MODULES) + 1
total, alex = arithmetic.totals(inception), arithmetic.totals(alexnet)
print(f"{len(weighted)} layers with weights, {in_a_row} in a row; {total['params']:,} parameters")
print(f"AlexNet / GoogLeNet: {alex['params'] / total['params']:.1f} times the parameters")
print(f"GoogLeNet / AlexNet: {total['macs'] / alex['macs']:.1f} times the MACs")
print(f"the dense layer at the end: {inception.get_layer('logits').count_params():,} parameters")

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
# classifiers, behind 4a and 4d, whose losses are added with a weight of .3. They bring the gradient close to the
# early layers. **They are used in training only**: afterwards they are cut off.

# %%
helped = architectures.outline("googlenet", auxiliary=True)
figure, ax = plt.subplots(figsize=(3.2, 4.2))
plots.block_diagram(helped, within="aux1", title="the first auxiliary head", ax=ax)

# %% tags=["nbval-check-output"]
without = keras.Model(helped.input, helped.outputs[0])
for name, model in {"in training": helped, "afterwards": without}.items():
    print(f"{name:12} {arithmetic.totals(model)['params']:,} parameters, {len(model.outputs)} outputs")

# %% [markdown]
# The two heads nearly double the network: each has a dense layer of 1,024 units on a map of 4 × 4 × 128.
#
# ## Side by side
#
# Now all of them in one table, with the winner of 2015, which topic 04 takes apart. And the time that one image takes
# *here*: the median over some passes with a batch of one, after two that do not count. (VGG-16 with its weights takes
# 553 MB; each network is dropped before the next one is built.)


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


entries = {"alexnet": 2012, "zfnet": 2013, "vgg16": 2014, "googlenet": 2014, "resnet152": 2015}
rows = []
for name, year in entries.items():
    total = arithmetic.totals(architectures.outline(name))
    rows.append(
        (name, year, total["params"] / 1e6, total["macs"] / 1e9, total["activation_bytes"] / 1e6, milliseconds(name))
    )
columns = ["network", "year", "parameters, M", "GMACs", "maps, MB", "ms here"]
measured = pd.DataFrame(rows, columns=columns).set_index("network")
measured.style.format("{:.3g}").format("{:.0f}", subset=["year"])

# %% [markdown]
# Three claims travel from deck to deck about these years. "Three times more accurate in three years." "Five times
# slower." "The number of parameters stayed about the same." We draw the error of the competition's networks against
# the year, the depth, the parameters and the MACs. (For 2013 ZFNet stands in with its own error, since Clarifai's
# network was never published. The errors are those of averages of several networks and of several crops [paper], the
# costs those of one.)

# %%
shown = {"alexnet": "AlexNet", "zfnet": "ZFNet", "vgg16": "VGG", "googlenet": "GoogLeNet", "resnet152": "ResNet"}
errors = dict(zip(shown, (15.3, 14.8, 7.32, 6.67, 3.57)))
depths = dict(zip(shown, (8, 8, 16, 22, 152)))
panels = {"year": entries, "layers": depths}
panels |= {column: measured[column].to_dict() for column in ("parameters, M", "GMACs")}
figure, axes = plt.subplots(1, 4, figsize=(8, 3), sharey=True)
for ax, (title, values) in zip(axes, panels.items()):
    ax.set(xlabel=title, xscale="linear" if title == "year" else "log", ylim=(0, 18))
    ax.plot(
        [values[n] for n in shown if n != "vgg16"], [errors[n] for n in shown if n != "vgg16"], color=plots.GREY, lw=1
    )
    for index, (name, label) in enumerate(shown.items()):
        ax.plot(values[name], errors[name], "o", color=plots.PALETTE[index], label=label)
    ax.minorticks_off()
axes[0].set(ylabel="top-5 error, %", xticks=[2012, 2013, 2014, 2015], xticklabels=["'12", "'13", "'14", "'15"])
for ax, ticks in zip(axes[1:], ([8, 16, 32, 64, 128], [5, 10, 20, 50, 100], [1, 2, 5, 10, 20])):
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
legend = figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=9)

# %% [markdown]
# Against the year and the depth the error falls without exception. Against the parameters it does nothing of the
# kind, and against the MACs VGG breaks the rule: GoogLeNet and ResNet both lie left of it and below it. (The grey
# line joins one network for each year, and leaves VGG, the second of 2014, out.) Now the claims, as ratios:

# %%
ratios = {
    "error, 2012 to 2015": errors["alexnet"] / errors["resnet152"],
    "error, 2012 to 2014": errors["alexnet"] / errors["googlenet"],
    "share of right answers, 2012 to 2015": (100 - errors["resnet152"]) / (100 - errors["alexnet"]),
    "parameters, ResNet-152 to AlexNet": measured.loc["resnet152", "parameters, M"]
    / measured.loc["alexnet", "parameters, M"],
    "MACs, ResNet-152 to AlexNet": measured.loc["resnet152", "GMACs"] / measured.loc["alexnet", "GMACs"],
    "time here, ResNet-152 to AlexNet": measured.loc["resnet152", "ms here"] / measured.loc["alexnet", "ms here"],
    "time here, GoogLeNet to AlexNet": measured.loc["googlenet", "ms here"] / measured.loc["alexnet", "ms here"],
}
plots.bars(ratios, "times", baselines={"same": 1}, title="Three claims, judged")

# %% [markdown]
# > **What the slides say, judged.**
# >
# > - *"Three times more accurate in three years."* Of the error it is true and even modest: it fell to a quarter from
# >   2012 to 2015, and to less than a half from 2012 to 2014. Of the accuracy it is not: the share of right answers
# >   rose from 84.7 to 96.4 %, 1.14 times. Say "a quarter of the errors".
# > - *"The number of parameters stayed about the same."* For ResNet-152 against AlexNet, yes: 60.2 against 61.0
# >   million. On the way there it fell to a ninth (GoogLeNet), and in VGG it more than doubled. Parameters tell
# >   little about accuracy.
# > - *"Five times slower."* Which network, and counted how? In MACs ResNet-152 costs 15.6 times AlexNet, VGG-16 21
# >   times, ResNet-50 5.3 times, GoogLeNet 2.2 times. In seconds it depends on the machine, and even on the run: in
# >   four runs of this page ResNet-152 took 4.5 to 14 times as long as AlexNet for one image, GoogLeNet 1.0 to 2.1
# >   times, depending on what else the machine did. One such run cannot judge the claim; MACs can at least be
# >   repeated. AlexNet is slow for its MACs beside VGG: it reads 244 MB of weights, most of which one image uses once.

# %% [markdown]
# ### Weeks of training
#
# How long did it take? AlexNet five to six days on two GTX 580, ZFNet twelve days on one, VGG two to three weeks on
# four Titan Black [paper]. Is that plausible? A training step costs about three forward passes (forward, gradient of
# the maps, gradient of the weights), so the whole training costs 3 · MACs · images · passes; the cards' makers state
# 1.58 and 5.1 · 10¹² operations a second, a MAC being two. What share of it did the programs reach?

# %%
trainings = {  # network: images, passes, days, cards, operations a second of one card
    "alexnet": (1.2e6, 90, 5.5, 2, 1.58e12),
    "zfnet": (1.3e6, 70, 12, 1, 1.58e12),
    "vgg16": (1.3e6, 74, 17.5, 4, 5.1e12),
}
rows = []
for name, (number, passes, days, cards, speed) in trainings.items():
    operations = 2 * 3 * measured.loc[name, "GMACs"] * 1e9 * number * passes
    share = operations / (days * 86400 * cards * speed)
    rows.append((name, f"{days:g}", cards, f"{operations:.1e}", f"{share:.0%}"))
pd.DataFrame(rows, columns=["network", "days", "cards", "operations", "share of the cards' peak"]).set_index("network")

# %% [markdown]
# Between 29 and 39 % of what the cards could do at best, which is what good programs reach: the reports agree with
# the counts. VGG's training cost 19 times AlexNet's. (Images and passes from the papers; ZFNet stopped after 70
# passes.)
#
# ## Two designs, the same minutes
#
# VGG stacks one kind of layer, GoogLeNet puts four side by side. Which one learns more in the same time? We take a
# small relative of each, both ending in a global average, and train them on the small pictures for about the same CPU
# time. And LeNet-5, with ReLU, as the old hand. (Departure: batch normalisation behind each convolution of the two
# newer ones, which 2014 did not have. Without it they learn much more slowly: exercise 4.)
#
# The pictures are drawn by the course: one shape on a textured ground, six classes, in colour, 32 × 32 pixels. Drawn
# images are no photographs, and a ranking of networks on them need not be the ranking on photographs. What they allow
# is a fair comparison in minutes.

# %%
described = data.chosen(pictures, on_error=on_error)
channels, classes = described.image_shape[-1], described.classes
options = {"image_size": picture_size, "channels": channels, "on_error": on_error}
images, labels = data.arrays(pictures, "train", per_class=examples, seed=seed, **options)
test_images, test_labels = data.arrays(pictures, "test[:1800]", **options)
x, x_test = (array.astype("float32") / 127.5 - 1 for array in (images, test_images))
plots.show_images(images[transfer.draw(labels, 2, seed)][:12], columns=12, tile=0.7)


# %%
def vgg_like(image):
    """Seven convolutions of 3 x 3 in the manner of VGG."""
    y = image
    for number, filters in enumerate((16, 16, "M", 32, 32, "M", 64, 64, "M", 128), 1):
        y = layers.MaxPooling2D(2)(y) if filters == "M" else unit(y, filters, 3, name=f"conv{number}")
    return y


def inception_like(image):
    """Two convolutions and three inception modules in the manner of GoogLeNet, nine layers in a row."""
    y = layers.MaxPooling2D(2)(unit(image, 16, 3, name="conv1"))
    y = layers.MaxPooling2D(2)(unit(y, 48, 3, name="conv2"))
    y = googlenet.inception(y, (24, 24, 48, 8, 16, 16), "a", unit)
    y = googlenet.inception(y, (32, 32, 64, 8, 24, 24), "b", unit)
    y = layers.MaxPooling2D(2)(y)
    return googlenet.inception(y, (64, 48, 96, 12, 32, 32), "c", unit)


# %%
def designs(name):
    """One of the three networks, untrained."""
    image = layers.Input((picture_size, picture_size, channels))
    if name == "LeNet-5":
        return architectures.build("lenet5", image.shape[1:], len(classes), activation="relu")
    y = vgg_like(image) if name == "VGG-like" else inception_like(image)
    return keras.Model(image, layers.Dense(len(classes))(layers.GlobalAveragePooling2D()(y)))


names = ["LeNet-5", "VGG-like", "inception"]
total = {name: arithmetic.totals(designs(name)) for name in names}
rows = [(name, f"{cost['params']:,}", f"{cost['macs'] / 1e6:.1f} M") for name, cost in total.items()]
pd.DataFrame(rows, columns=["network", "parameters", "MACs"]).set_index("network")

# %% [markdown]
# "The same time" must not mean that a run ends by the clock, or nobody could repeat it. We fixed the number of steps
# so that the three spend about the same, and draw the accuracy against the CPU seconds that were really spent,
# without testing and without the compilation, which comes once. All three with the same rate and schedule.

# %%
spent, reached = {}, {}
for name, count in zip(names, steps):
    model = designs(name)
    schedule = training.WarmupHoldDecay(2e-3, max(count, 1), count // 10)
    training.compile_classifier(model, keras.optimizers.Adam(schedule))
    runs = [train(model, count, run, 32) for run in range(repeats)]
    spent[name] = np.mean([seconds for seconds, _, _ in runs[1:] or runs], axis=0)  # the first run also compiles
    reached[name] = np.array([accuracies for _, accuracies, _ in runs])

# %%
plots.curves(reached, spent, "CPU seconds of training", "accuracy on test images", {"chance": 1 / len(classes)})
record(
    small_lenet_accuracy=reached["LeNet-5"][:, -1].mean(),
    small_vgg_accuracy=reached["VGG-like"][:, -1].mean(),
    small_inception_accuracy=reached["inception"][:, -1].mean(),
    inception_minus_vgg=(reached["inception"][:, -1] - reached["VGG-like"][:, -1]).mean(),
)

# %% [markdown]
# For ten seconds LeNet-5 leads: with a tenth of their MACs or less it takes five steps for one of theirs. Then it
# flattens, and as the rate falls in the last quarter of the steps the VGG-like net passes it; the inception net comes
# level with LeNet-5 or passes it, depending on the seed. At the end the VGG-like net is ahead of
# the inception net, by 3 to 9 points in runs with several seeds; on the way their bands overlap, and with one run of
# each, stopped a little earlier, either order could have come out. The VGG-like net costs nearly twice the MACs, yet
# takes no more time for a step: twenty small convolutions keep a processor less busy than seven larger ones. **MACs
# are not seconds.** All this holds for drawn shapes of 32 × 32, a dozen CPU seconds, and the sizes, rate and stopping
# point that we chose: with 350 steps at a rate of 3e-3 (the lab) the same two reach about 98 and 94 %. In
# the competition seven GoogLeNets (6.67 %) came out ahead of seven VGGs (7.32 %), with a tenth of their MACs; of
# single networks VGG's authors report 7.0 % against GoogLeNet's 7.9 % [paper].
#
# ## Summary
#
# You can now
#
# - derive the maps, parameters and MACs of LeNet-5, AlexNet, ZFNet, VGG and GoogLeNet from their tables, and find the
#   places where the printed figures are wrong;
# - say what each added: AlexNet size, ReLU and dropout, on two cards; ZFNet a first layer that reads the image
#   closely; VGG depth from one small filter; GoogLeNet several sizes side by side within a fixed budget, and no large
#   dense layers;
# - explain why 1 × 1 convolutions make the inception module three times cheaper;
# - compare designs at equal time, over several seeds, and say when the difference is smaller than their spread.
#
# ## Exercises
#
# 1. *Easy.* At which input size would LeNet-5's C5 no longer be a dense layer in disguise, and what would its output
#    be for 40 × 40? *Hint:* `architectures.outline("lenet5", (40, 40, 1), include_top=False)`.
# 2. *Easy.* Replace VGG-16's three dense layers by a global average and one dense layer (`head="pool"`). How many
#    parameters and MACs remain? *Hint:* compare with GoogLeNet's.
# 3. *Medium.* In 3b replace the 5 × 5 by two 3 × 3. Count the MACs with 32 → 96 → 96 channels and with 32 → 32 → 96:
#    when does the argument of the VGG section hold? *Hint:* the next version of Inception made this exchange.
# 4. *Medium.* Train the two small designs without batch normalisation (`from utils.architectures.blocks import
#    conv_relu as unit`). How many steps does each need for the accuracy that it had? *Hint:* begin with four times as
#    many.
# 5. *Hard.* Measure what the auxiliary heads do: the norm of the gradient in `conv1` of an untrained small GoogLeNet
#    with and without them, over ten seeds. *Hint:* `auxiliary=True` needs images of 80 pixels or more, and the model
#    then has three outputs, so three losses.
# 6. *Hard.* Estimate from its MACs how long AlexNet would train on your machine. *Hint:* measure the time of a step
#    with a batch of 32 first.
#
# ## Further reading
#
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, *Gradient-based learning applied to document recognition*, Proceedings
#   of the IEEE, 1998.
# - A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet classification with deep convolutional neural networks*, NIPS
#   2012.
# - M. Zeiler, R. Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014.
# - K. Simonyan, A. Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015.
# - C. Szegedy et al., *Going deeper with convolutions*, CVPR 2015.
# - O. Russakovsky et al., *ImageNet large scale visual recognition challenge*, IJCV 2015.
# - J. Deng et al., *ImageNet: A large-scale hierarchical image database*, CVPR 2009.
# - K. Fukushima, *Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition
#   unaffected by shift in position*, Biological Cybernetics, 1980.
# - K. Jarrett, K. Kavukcuoglu, M. Ranzato, Y. LeCun, *What is the best multi-stage architecture for object
#   recognition?*, ICCV 2009; V. Nair, G. Hinton, *Rectified linear units improve restricted Boltzmann machines*, ICML
#   2010; X. Glorot, A. Bordes, Y. Bengio, *Deep sparse rectifier neural networks*, AISTATS 2011.
