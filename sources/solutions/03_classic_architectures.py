# %% [markdown]
# # 03 Classic architectures: LeNet to GoogLeNet: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/03_classic_architectures.ipynb)
#
# **Can you rebuild the networks of 1998 to 2014 from what their papers print?** A table with crosses, a line of text, a
# diagram with four branches: that is all they give. You will write the functions that turn them into networks. Your
# counts tell you whether they are right: they must be the published ones, to the last of 138,357,544 parameters. On the
# way you find out what two small filters in a row can do and what they cannot, and how a network that reads one digit
# reads a whole row of them. At the end you design two small networks of your own and train them until they tell shapes
# apart.
#
# You will be able to
#
# - write a convolution whose filters see only some of the channels as an ordinary convolution;
# - say why two filters of 3 × 3 need a ReLU between them;
# - build VGG from a line of text, and the inception module in both of its forms;
# - turn dense layers into convolutions, and run a network over images that are larger than those it was trained on;
# - design networks within a budget, choose between them on validation images, and compare them fairly.
#
# It takes about three hours to solve. There are seven gaps and four questions, 31 points. The lab runs in a minute or
# two.

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
seed: int = 0  # [0, ] where the random numbers of the trainings start
reading: int = 240  # [2, 5000] steps of 50 images of the reader of digits
dataset: str = "shapes_crops"  # what your networks learn to tell apart, by name or path
image_size: int = 32  # [32, 48] height and width that the images are brought to
per_class: int = 600  # [20, 1600] training images of each class
steps: int = 350  # [10, 5000] steps of each training of your networks
repeats: int = 3  # [1, 10] trainings of each network, each with its own initial weights
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
floor: float = 0.9  # [0, 1] share of the validation images that must be right

# %%
from functools import partial

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops

from utils import architectures, arithmetic, checks, data, plots, session
from utils import training, transfer
from utils.results import reaches, record

session.start(seed)

# %% [markdown]
# The checks use a helper of `utils.checks`. It compares shapes, then values, and says where the first difference lies.

# %%
agree = partial(checks.agree, rtol=1e-3, atol=1e-4)

# %% [markdown]
# ## 1. Which filter sees which map (3 points)
#
# In LeNet-5 the sixteen filters of the layer C3 do not see all six maps below. Table I of the paper says which ones
# each of them sees. In AlexNet the filters of three layers see only the channels that lie on their own graphics card.
# Both can be written as an ordinary convolution, whose filters see everything. How?
#
# Write two functions.
#
# - `group_table(channels, filters, groups)` returns a list with one entry for each filter: the numbers of the channels
#   that it sees. Channels and filters are dealt out in blocks. With two groups, the first half of the filters sees the
#   first half of the channels.
# - `whole_kernel(weights, table, channels)` returns the kernel of the ordinary convolution, an array (f, f, channels,
#   filters). `table[k]` lists the channels that filter k sees, and `weights[k]` is an array (f, f, m) with its weights
#   for these m channels, in the order of the list.
#
# The check works a small example by hand. Then it compares outputs, for LeNet's table and for two groups.

# %%
TABLE = [(k, (k + 1) % 6, (k + 2) % 6) for k in range(6)]  # table I of the paper
TABLE += [tuple((k + step) % 6 for step in range(4)) for k in range(6)]
TABLE += [(0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)]


# %% gap="whole-kernel" stub="return the channels of each filter; return the kernel (f, f, channels, filters)"
def group_table(channels, filters, groups):
    ### BEGIN SOLUTION
    seen, own = channels // groups, filters // groups
    return [list(range(k // own * seen, (k // own + 1) * seen)) for k in range(filters)]
    ### END SOLUTION


def whole_kernel(weights, table, channels):
    ### BEGIN SOLUTION
    f = len(weights[0])
    kernel = np.zeros((f, f, channels, len(table)))
    for k, seen in enumerate(table):
        kernel[:, :, list(seen), k] = weights[k]
    return kernel
    ### END SOLUTION


# %%
def as_lists(table):
    """A table as lists of ints; an AssertionError where it is none."""
    try:
        return [[int(channel) for channel in row] for row in table]
    except TypeError:
        text = f"expected a list with the channels of each filter, got {table!r:.70}"
        raise AssertionError(text) from None


# %% check="whole-kernel" points=1
table = as_lists(group_table(4, 6, 2))
expected = [[0, 1]] * 3 + [[2, 3]] * 3
hint = "4 channels, 6 filters, 2 groups: the first three filters see channels 0 and 1"
assert table == expected, f"{hint}, the others 2 and 3; got {table}"
table = as_lists(group_table(6, 3, 3))
assert table == [[0, 1], [2, 3], [4, 5]], f"three groups of two channels, got {table}"
table = as_lists(group_table(3, 2, 1))
assert table == [[0, 1, 2]] * 2, f"with one group all filters see all, got {table}"
small = [np.array([[[5.0, 7.0]]]), np.array([[[9.0]]])]  # two filters of 1 × 1
hint = "filter 0 sees channels 2 and 0, in this order: its 5 is for channel 2"
expected = [[[[7, 0], [0, 9], [5, 0]]]]  # (1, 1, 3, 2)
assert agree(whole_kernel(small, [(2, 0), (1,)], 3), expected, hint)
print("passed: blocks of channels, and a kernel that was worked by hand")

# %% check="whole-kernel" points=2
random = np.random.default_rng(51)
maps = random.normal(size=(2, 14, 14, 6)).astype("float32")
weights = [random.normal(size=(5, 5, len(seen))).astype("float32") for seen in TABLE]
kernel = whole_kernel(weights, TABLE, 6)
pairs = zip(TABLE, weights)
one_by_one = [ops.conv(maps[..., list(seen)], w[..., None]) for seen, w in pairs]
expected = np.concatenate(one_by_one, axis=-1)  # (2, 10, 10, 16)
answer = ops.conv(maps, np.asarray(kernel, "float32"))
assert agree(answer, expected, "C3: each filter on the maps that it sees, one by one")
count = int(np.count_nonzero(kernel)) + 16
assert count == 1_516, f"C3: 60 times 25 weights and 16 biases are 1,516, got {count:,}"
whole = 156 + 12 + count + 32 + 48_120 + 10_164  # C1, S2, C3, S4, C5, F6
assert whole == 60_000, f"LeNet-5 has 60,000 parameters, with your C3 {whole:,}"
### BEGIN HIDDEN TESTS
grouped = layers.Conv2D(8, 3, groups=4, use_bias=False)
maps = random.normal(size=(2, 6, 6, 12)).astype("float32")
expected = ops.convert_to_numpy(grouped(maps))
weights = list(np.moveaxis(ops.convert_to_numpy(grouped.kernel), -1, 0))
answer = np.asarray(whole_kernel(weights, group_table(12, 8, 4), 12), "float32")
hint = "a layer of Keras with four groups, its weights in your kernel"
assert agree(ops.conv(maps, answer), expected, hint)
### END HIDDEN TESTS
print("passed: LeNet's table, 1,516 parameters in C3 and 60,000 in the network")

# %% [markdown]
# Your kernels, drawn: a dark square is a pair of a filter and a channel that have weights. How many weights does
# AlexNet save by its groups?

# %%
split = {"conv2": (96, 256, 5), "conv4": (384, 384, 3), "conv5": (384, 256, 3)}
tables = {"C3 of LeNet-5": (TABLE, 6, 5)}
for name, (channels, filters, f) in split.items():
    tables[name] = group_table(channels, filters, 2), channels, f
figure, axes = plt.subplots(1, 4, figsize=(8, 2.3))
saved = 0
for ax, (name, (table, channels, f)) in zip(axes, tables.items()):
    ones = [np.ones((1, 1, len(row))) for row in table]
    connected = np.asarray(whole_kernel(ones, table, channels))[0, 0].T
    ax.imshow(connected, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    ax.set(title=name, xlabel="channels", ylabel="filters")
    ax.grid(False)
    saved += f * f * int((connected == 0).sum()) if name in split else 0
print(f"AlexNet saves {saved:,} weights by its two groups")

# %% [markdown]
# ## 2. Two filters in a row (3 points)
#
# VGG replaces one filter of 5 × 5 by two of 3 × 3, with a ReLU between them. Suppose that somebody forgets the ReLU.
# Then there is *one* convolution that gives the same output as the two. Find it.
#
# Write `merge(first, second)`. In: two kernels, (f, f, A, B) and (g, g, B, C). `first` is applied first, then `second`,
# both at stride 1, without padding, biases or activation. Out: the kernel of the one convolution, an array (f + g − 1,
# f + g − 1, A, C).
#
# The course does not print the formula: work it out. Begin with one channel and one dimension. The first filter gives
# h[i] = Σ first[j] · x[i + j], the second gives y[i] = Σ second[k] · h[i + k]. Put the first line into the second.
# Which products multiply x[i + m]? Then think about channels: on how many ways does channel a reach channel c?
#
# The check compares the outputs of the two with the output of the one.


# %% gap="merge" stub="return the kernel of the one convolution, (f + g - 1, f + g - 1, A, C)"
def merge(first, second):
    ### BEGIN SOLUTION
    f, g = len(first), len(second)
    size = f + g - 1
    merged = np.zeros((size, size, first.shape[2], second.shape[3]))
    for row, column in np.ndindex(g, g):
        part = first @ second[row, column]  # (f, f, A, C)
        merged[row : row + f, column : column + f] += part
    return merged
    ### END SOLUTION


# %% check="merge" points=1
first = np.arange(1.0, 10).reshape(3, 3, 1, 1)
second = np.array([[1.0, 0, 0], [0, 0, 2], [0, 0, 0]])[..., None, None]
expected = np.zeros((5, 5, 1, 1))
expected[0:3, 0:3] += first  # the 1 of the second filter reads h at its own place
expected[1:4, 2:5] += 2 * first  # the 2 reads h one row below and two columns right
hint = "one channel: y = h(i, j) + 2 · h(i + 1, j + 2), so two shifted copies of first"
turned = np.zeros((5, 5, 1, 1))
turned[2:5, 2:5] += first
turned[1:4, 0:3] += 2 * first
mistakes = [("the second filter is turned round: h[i + k] reads forwards", turned)]
assert agree(merge(first, second), expected, hint, mistakes)
print("passed: one channel")

# %% check="merge" points=2
random = np.random.default_rng(52)
first, second = random.normal(size=(3, 3, 4, 5)), random.normal(size=(3, 3, 5, 2))
image = random.normal(size=(2, 9, 8, 4))
expected = ops.convert_to_numpy(ops.conv(ops.conv(image, first), second))
merged = np.asarray(merge(first, second), "float64")
hint = "4 channels in, 5 between, 2 out: add up the ways over all 5 channels between"
text = f"{hint}; expected the shape (5, 5, 4, 2), got {merged.shape}"
assert merged.shape == (5, 5, 4, 2), text
assert agree(ops.conv(image, merged), expected, hint)
### BEGIN HIDDEN TESTS
for f, g in ((5, 3), (1, 3), (3, 1), (2, 4)):
    first, second = random.normal(size=(f, f, 2, 3)), random.normal(size=(g, g, 3, 4))
    expected = ops.convert_to_numpy(ops.conv(ops.conv(image[..., :2], first), second))
    merged = np.asarray(merge(first, second), "float64")
    hint = f"filters of {f} × {f}, then {g} × {g}"
    assert agree(ops.conv(image[..., :2], merged), expected, hint)
### END HIDDEN TESTS
print("passed: several channels; two linear layers are one linear layer")

# %% [markdown]
# A filter that finds an edge, on the output of one that blurs: your merged filter finds edges of blurred things.

# %%
blur = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
edge = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
both = np.asarray(merge(blur[..., None, None], edge[..., None, None]))[..., 0, 0]
titles = {0: "first", 2: "second", 4: "both in one"}
plots.number_equation([blur, "then", edge, "=", both.astype(int)], titles=titles)

# %% [markdown]
# ### A question about the ReLU (2 points)
#
# Take 64 channels everywhere. How many weights have the two filters of 3 × 3 together, and how many has the one of 5 ×
# 5? Can the two, without a ReLU, do anything that the one cannot? Can the one do anything that the two cannot? What
# does the ReLU change?

# %% [markdown] question="relu" points=2
# ### BEGIN SOLUTION
# The two have 2 · 9 · 64 · 64 = 73,728 weights, the one has 25 · 64 · 64 = 102,400. Without a ReLU the two can do
# nothing that the one cannot: `merge` finds a filter of 5 × 5 for any two of 3 × 3. The reverse does not hold. The two
# have fewer weights, so they cannot reach every filter of 5 × 5; they are a 5 × 5 under a constraint. With a ReLU
# between them the two are no longer linear, and no filter of 5 × 5 gives the same output. So the stack sees the same 5
# × 5 pixels, costs less, and computes something that one linear filter cannot. All of this holds inside the image; with
# padding the borders differ as well.
# ### END SOLUTION

# %% [markdown]
# ## 3. VGG from a line of text (3 points)
#
# The paper's table 1 becomes one line for each network. A number is a convolution of 3 × 3 with so many filters,
# `256:1` is one of 1 × 1 with 256 filters, and `M` is a max-pooling of 2 × 2 with stride 2. Both kinds of convolution
# keep height and width ("same") and are followed by ReLU.
#
# Write `convolutions(x, text, unit=conv)`, which applies the layers of the text to the tensor x and returns the last
# tensor. `unit(x, filters, f)` applies one convolution of f × f with its ReLU: `conv` below, or `conv_bn` with batch
# normalisation.
#
# The check builds the networks of the paper with it, counts, and compares outputs.


# %%
def conv(x, filters, f):
    """Convolution of f x f with bias, then ReLU; height and width stay."""
    options = {"padding": "same", "kernel_initializer": "he_normal"}
    return layers.ReLU()(layers.Conv2D(filters, f, **options)(x))


def conv_bn(x, filters, f):
    """Convolution without bias, batch normalisation, ReLU."""
    options = {"padding": "same", "kernel_initializer": "he_normal"}
    x = layers.Conv2D(filters, f, use_bias=False, **options)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


VGG_C = "64 64 M 128 128 M 256 256 256:1 M 512 512 512:1 M 512 512 512:1 M"
VGG_16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"
VGG_19 = "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M"


# %% gap="vgg" stub="apply the layers of the text to x"
def convolutions(x, text, unit=conv):
    ### BEGIN SOLUTION
    for word in text.split():
        if word == "M":
            x = layers.MaxPooling2D(2, 2)(x)
        else:
            filters, _, f = word.partition(":")
            x = unit(x, int(filters), int(f or 3))
    return x
    ### END SOLUTION


# %%
def vgg(text, side, units, classes):
    """A VGG network: the convolutions of the text, two dense layers, logits."""
    image = keras.Input((side, side, 3))
    x = layers.Flatten()(convolutions(image, text))
    for _ in range(2):
        x = layers.Dense(units, "relu")(x)
    return keras.Model(image, layers.Dense(classes)(x))


def kinds(model):
    """The kinds of the layers of a model, operations of `keras.ops` included."""
    return [type(layer).__name__ for layer in model.operations]


# %% check="vgg" points=2
last = convolutions(keras.Input((224, 224, 3)), "4 M 4 M 4 M 4 M 6 M")
assert last is not None, "convolutions returned None: has it a return?"
hint = "five pools bring 224 to 7 × 7, and the last convolution has 6 filters"
assert tuple(last.shape[1:]) == (7, 7, 6), f"{hint}; got {tuple(last.shape[1:])}"
sixteen = architectures.outline(lambda: vgg(VGG_16, 224, 4096, 1000))
counted = arithmetic.totals(sixteen)
found = counted["params"]
assert found == 138_357_544, f"VGG-16 has 138,357,544 parameters, got {found:,}"
found = counted["macs"]
assert found == 15_470_264_320, f"VGG-16 costs 15,470,264,320 MACs, got {found:,}"
third = architectures.outline(lambda: vgg(VGG_C, 224, 4096, 1000)).count_params()
hint = "configuration C, with three convolutions of 1 × 1, has 133,638,952 parameters"
assert third == 133_638_952, f"{hint}, got {third:,}"
print("passed: VGG-16 and configuration C, to the last parameter")

# %% check="vgg" points=1
text = "4 6 M 5:1 8 M"
options = {"units": 9, "configuration": text, "dropout": 0}
reference = architectures.build("vgg11", (16, 16, 3), 7, **options)
yours = vgg(text, 16, 9, 7)
shapes = [[tuple(w.shape) for w in model.weights] for model in (yours, reference)]
hint = f"the weights of {text!r} are {shapes[1]}"
assert shapes[0] == shapes[1], f"{hint}, got {shapes[0]}"
yours.set_weights(reference.get_weights())
picture = np.random.default_rng(41).normal(size=(2, 16, 16, 3)).astype("float32")
expected = ops.convert_to_numpy(reference(picture))
hint = "the same weights in the reference: a ReLU behind every convolution, M a maximum"
assert agree(yours(picture), expected, hint)
### BEGIN HIDDEN TESTS
found = architectures.outline(lambda: vgg(VGG_19, 224, 4096, 1000)).count_params()
assert found == 143_667_240, f"VGG-19 has 143,667,240 parameters, got {found:,}"
image = keras.Input((8, 8, 3))
found = keras.Model(image, convolutions(image, "4 M 8:1", conv_bn)).count_params()
expected = 3 * 9 * 4 + 4 * 4 + 4 * 8 + 4 * 8
hint = "'4 M 8:1' with conv_bn as the unit"
assert found == expected, f"{hint} has {expected} parameters, got {found}"
### END HIDDEN TESTS
print("passed: the outputs of the reference")

# %% [markdown]
# Your VGG-16 beside the networks before it. VGG-16 has little more than twice AlexNet's parameters. How many times its
# work do you expect?

# %%
followed = {"LeNet-5": "lenet5", "AlexNet": "alexnet"}
followed = {key: architectures.outline(name) for key, name in followed.items()}
followed = {key: arithmetic.totals(model) for key, model in followed.items()}
followed["VGG-16"] = counted
figure, axes = plt.subplots(1, 2, figsize=(8, 1.8), sharey=True)
sides = ("params", "million parameters", 1e6), ("macs", "billion MACs", 1e9)
for ax, (key, label, size) in zip(axes, sides):
    plots.bars({name: one[key] / size for name, one in followed.items()}, label, ax=ax)
axes[0].invert_yaxis()  # each of the two turned the common axis round

# %% [markdown]
# ## 4. A network with a wide view (2 points)
#
# The receptive field of a unit is the part of the image that it sees. Find a text for your `convolutions` whose last
# map sees much and costs little:
#
# - it has exactly two pools, `M`, each behind at least one convolution and before at least one;
# - all convolutions are of 3 × 3 or 1 × 1, and the last map has at least 64 channels;
# - a unit of the last map sees at least 60 × 60 pixels;
# - it has at most 20,000 parameters, and costs at most 15 million MACs for an image of 96 × 96 × 3.
#
# Write `wide_view()`, which returns the text. *Hint:* by how many pixels does a filter of 3 × 3 widen the field before
# the first pool, between the two, and behind the second? And what does a filter of 1 × 1 cost?
#
# The check counts with `utils.arithmetic`.


# %% gap="wide-view" stub="return a text of numbers, numbers with :1, and two M"
def wide_view():
    ### BEGIN SOLUTION
    return "8 M 8 M 16 16 16 16 16 16 16 64:1"
    ### END SOLUTION


# %% check="wide-view" points=2
text = wide_view()
assert isinstance(text, str), f"expected a text, got {type(text).__name__}"
words = text.split()
plain = [word.removesuffix(":1").removesuffix(":3") for word in words if word != "M"]
hint = "words are numbers, numbers with :1 or :3, and M"
assert plain and all(word.isdigit() for word in plain), f"{hint}; got {text!r}"
pools = words.count("M")
assert pools == 2, f"exactly two pools were asked for, got {pools}"
between = [part.split() for part in text.split("M")]
hint = "each pool stands behind a convolution and before one"
assert all(between), f"{hint}; got {text!r}"
image = keras.Input((96, 96, 3))
model = keras.Model(image, convolutions(image, text))
cost, sees = arithmetic.totals(model), arithmetic.receptive_fields(model)["size"].max()
shape = tuple(model.output_shape[1:])
assert shape[-1] >= 64, f"at least 64 channels at the end, got {shape[-1]}"
assert sees >= 60, f"at least 60 × 60 pixels, a unit of yours sees {sees} × {sees}"
found = cost["params"]
assert found <= 20_000, f"at most 20,000 parameters, got {found:,}"
million = cost["macs"] / 1e6
assert million <= 15, f"at most 15 million MACs, got {million:.1f} million"
print(f"passed: sees {sees} × {sees}, {found:,} parameters, {million:.1f} M MACs")

# %% [markdown]
# The field of your network, layer by layer. The steps are wider where the map is smaller.

# %%
fields = arithmetic.receptive_fields(model)
fields = fields[fields["type"].isin(["Conv2D", "MaxPooling2D", "MaxPool"])]
shown = dict(zip([f"{i + 1} {word}" for i, word in enumerate(words)], fields["size"]))
plots.dots({"your network": shown}, "pixels that a unit sees", {"asked for": 60})

# %% [markdown]
# ## 5. From one digit to a row of them (4 points)
#
# A network with dense layers takes images of one size only. The convolutions would run on a larger image, but the first
# dense layer wants a vector of one length. VGG's authors tested on larger images all the same, and LeNet-5's authors
# read whole numbers with it. Both wrote the dense layers as convolutions. A dense layer on a flattened map of 5 × 5 ×
# 16 has one weight for each of the 400 values. A filter of 5 × 5 on these 16 channels has one weight for each of them,
# too.
#
# Write `slide(reader)`. In: a trained `keras.Sequential` of convolutions and poolings without padding, then one
# `Flatten`, then dense layers. Out: a `keras.Model` with the input shape (None, None, channels), which gives a map of
# logits (batch, rows, columns, classes). At each place of this map stands what the reader would say of one window of
# the image. Windows have the size of the reader's images.
#
# - `reader.layers` are the layers in order, without the input. Convolutions and poolings can be called on a new tensor
#   as they are, with their weights.
# - A dense layer becomes a `layers.Conv2D`. Which size has the filter of the first dense layer, and which that of the
#   others? `layer.get_weights()` gives the kernel, (inputs, units), and the bias. `layer.activation` is the activation.
# - `Flatten` writes a map (H, W, C) out row by row, each row place by place, each place channel by channel.
#   `layer.input.shape` and `layer.output.shape` say what goes in and what comes out.
#
# The check compares with the reader itself, window by window.


# %% gap="slide" stub="return a model that gives a map of logits for an image of any size"
def slide(reader):
    ### BEGIN SOLUTION
    image = x = keras.Input((None, None, reader.input_shape[-1]))
    size = (1, 1)
    for layer in reader.layers:
        if isinstance(layer, layers.Flatten):
            size = tuple(layer.input.shape[1:3])
        elif isinstance(layer, layers.Dense):
            kernel, bias = layer.get_weights()
            filters = layers.Conv2D(layer.units, size, activation=layer.activation)
            channels = x.shape[-1]
            x = filters(x)
            filters.set_weights([kernel.reshape(*size, channels, layer.units), bias])
            size = (1, 1)  # each of the following layers sees one place
        else:
            x = layer(x)
    return keras.Model(image, x)
    ### END SOLUTION


# %%
def a_reader(shape, convolutions, units, classes):
    """Convolutions without padding, each with a pool; dense layers; logits."""
    stack = [keras.Input(shape)]
    for filters, f in convolutions:
        stack += [layers.Conv2D(filters, f, activation="relu")]
        stack += [layers.AveragePooling2D(2)]
    stack += [layers.Flatten()]
    stack += [layers.Dense(number, activation="relu") for number in units]
    return keras.Sequential([*stack, layers.Dense(classes)])


def windows(images, size, step):
    """The windows of images, (rows, columns, N, height, width, channels)."""
    views = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))
    return np.moveaxis(views[:, ::step, ::step], (0, 3), (2, 5))


# %% check="slide" points=2
random = np.random.default_rng(53)
tiny = a_reader((14, 18, 2), [(4, 3), (3, 3)], (7, 6), 5)
draws = [random.normal(0, 0.5, w.shape) for w in tiny.get_weights()]
tiny.set_weights(draws)  # biases are not 0
kept = [value.copy() for value in tiny.get_weights()]
sliding = slide(tiny)
assert isinstance(sliding, keras.Model), f"expected a keras.Model, got {sliding!r:.60}"
shape = tuple(sliding.input_shape)
hint = "the model must take images of any size"
assert shape == (None, None, None, 2), f"{hint}; its input shape is {shape}"
image = random.normal(size=(3, 14, 18, 2)).astype("float32")
answer = ops.convert_to_numpy(sliding(image))
places = tuple(answer.shape[1:3])
hint = "an image of the reader's own size has one window, so one place"
assert places == (1, 1), f"{hint}; got {places}: is a filter too small, or padded?"
expected = ops.convert_to_numpy(tiny(image))[:, None, None]
hint = "images of the reader's own size must give the reader's logits: "
hint += "look at the order of the weights, the biases and the activations"
assert agree(answer, expected, hint)
print("passed: on an image of its own size it says what the reader says")

# %% check="slide" points=2
wide = random.normal(size=(2, 22, 34, 2)).astype("float32")
seen = windows(wide, (14, 18), 4)  # two pools, so windows are 4 pixels apart
expected = [[ops.convert_to_numpy(tiny(one)) for one in row] for row in seen]
expected = np.moveaxis(expected, 2, 0)  # (2, 3, 5, classes)
hint = "two images of 22 × 34: each place of the map holds the logits of its window"
assert agree(sliding(wide), expected, hint)
### BEGIN HIDDEN TESTS
for before, after in zip(kept, tiny.get_weights()):
    assert agree(after, before, "slide changed the weights of the reader")
found, whole = sliding.count_params(), tiny.count_params()
assert found == whole, f"the reader has {whole} parameters, your model {found}"
flat = keras.Sequential([keras.Input((3, 2, 2)), layers.Flatten(), layers.Dense(4)])
image = random.normal(size=(1, 4, 4, 2)).astype("float32")
seen = windows(image, (3, 2), 1)
expected = [[ops.convert_to_numpy(flat(one)) for one in row] for row in seen]
hint = "a reader of one dense layer and no convolution"
assert agree(slide(flat)(image), np.moveaxis(expected, 2, 0), hint)
### END HIDDEN TESTS
print("passed: on a larger image it says at each place what the reader says there")

# %% [markdown]
# Now a LeNet-5 that reads handwritten digits. We train it on single digits of 32 × 32, and slide it over a row of five.

# %%
digits, numbers = data.arrays("digits", "train", 32, 1, per_class=100, seed=seed)
reader = a_reader((32, 32, 1), [(6, 5), (16, 5)], (120, 84), 10)
rate = training.WarmupHoldDecay(3e-3, reading, reading // 10)
training.compile_classifier(reader, keras.optimizers.Adam(rate))
batches = transfer.repeat(digits / np.float32(127.5) - 1, numbers, reading, 50, seed)
reader.fit(*batches, batch_size=50, shuffle=False, verbose=0)
row, truth = data.arrays("digits", "validation[:5]", 32, 1)
strip = np.concatenate(list(row), axis=1)[None] / np.float32(127.5) - 1
logits = ops.convert_to_numpy(slide(reader)(strip))[0, 0]  # (33, 10)

# %% tags=["thumbnail"]
probabilities = ops.convert_to_numpy(ops.softmax(logits))
figure, axes = plt.subplots(2, 1, figsize=(8, 4.4), sharex=True)
axes[0].imshow(strip[0, :, :, 0], cmap="gray", extent=(0, 160, 32, 0))
extent = (14, 14 + 4 * len(logits), 9.5, -0.5)  # windows have their centres 4 apart
axes[1].imshow(probabilities.T, cmap="Blues", vmax=1, extent=extent, aspect="auto")
axes[1].plot(16 + 32 * np.arange(5), truth, "o", mfc="none", color=plots.ORANGE, ms=12)
axes[1].set(xlabel="centre of the window, pixels", ylabel="class", yticks=range(10))
axes[1].set_title("what it says of each window; circles: the true digits")
axes[0].set_yticks([])
for ax in axes:
    ax.grid(False)

# %%
once = arithmetic.totals(slide(reader), strip.shape[1:])["macs"]
alone = arithmetic.totals(reader)["macs"]
print(f"{len(logits)} windows: {once / 1e6:.1f} million MACs in one pass,")
print(f"{len(logits) * alone / 1e6:.1f} million, if the reader looks at each by itself")

# %% [markdown]
# ### A question about the places between (2 points)
#
# Why does one pass cost only a third of a pass for each window? And look at the places half-way between two digits:
# what does the network say there, how sure is it, and why? How would you train a network that is to read whole numbers?

# %% [markdown] question="between" points=2
# ### BEGIN SOLUTION
# Neighbouring windows overlap in seven eighths of their width. In one pass the convolutions compute each place of their
# maps once, and all windows that contain it use the result. Window by window they would compute it again for each.
# Half-way between two digits the window holds the right half of one and the left half of the next. The network names
# some class there, often with a probability near 1, because its ten classes are all that it can say: the softmax shares
# out the probability among them, and no training image showed a gap. To read numbers it needs examples of such windows,
# with an eleventh class "between two digits", or a loss on the whole row, as LeNet-5's authors trained it.
# ### END SOLUTION

# %% [markdown]
# ## 6. The inception module, both forms (4 points)
#
# Write two functions that apply an inception module to a tensor x of shape (batch, H, W, C).
#
# - `naive(x, one, three, five, unit=conv)`: side by side `one` filters of 1 × 1, `three` of 3 × 3, `five` of 5 × 5, and
#   a max-pooling of 3 × 3 with stride 1 that keeps H and W. Out: (batch, H, W, one + three + five + C), stacked in this
#   order.
# - `inception(x, one, reduce3, three, reduce5, five, projection, unit=conv)`: 1 × 1 convolutions reduce the channels to
#   `reduce3` before the 3 × 3, to `reduce5` before the 5 × 5, and to `projection` *behind* the pooling. Out: (batch, H,
#   W, one + three + five + projection).
#
# Each convolution is one `unit(x, filters, f)`. `layers.Concatenate()([...])` and `ops.concatenate([...], axis=-1)`
# both stack tensors. The check counts module 3b of the paper in both forms, and compares outputs.


# %% gap="inception" stub="stack the outputs of four branches, in both forms"
def naive(x, one, three, five, unit=conv):
    ### BEGIN SOLUTION
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    branches = [unit(x, one, 1), unit(x, three, 3), unit(x, five, 5), pooled]
    return layers.Concatenate()(branches)
    ### END SOLUTION


def inception(x, one, reduce3, three, reduce5, five, projection, unit=conv):
    ### BEGIN SOLUTION
    branches = [
        unit(x, one, 1),
        unit(unit(x, reduce3, 1), three, 3),
        unit(unit(x, reduce5, 1), five, 5),
        unit(layers.MaxPooling2D(3, 1, padding="same")(x), projection, 1),
    ]
    return layers.Concatenate()(branches)
    ### END SOLUTION


# %%
def module(function, channels, *filters, side=28):
    """A model of one module."""
    image = keras.Input((side, side, channels))
    answer = function(image, *filters)
    assert answer is not None, f"{function.__name__} returned None: has it a return?"
    return keras.Model(image, answer)


# %% check="inception" points=2
wide = module(naive, 256, 128, 192, 96)
narrow = module(inception, 256, 128, 128, 192, 32, 96, 64)
shape = tuple(wide.output_shape[1:])
hint = "naive: 128 + 192 + 96 + 256 = 672 channels on a map of 28 × 28"
assert shape == (28, 28, 672), f"{hint}, got {shape}"
shape = tuple(narrow.output_shape[1:])
hint = "with reductions: 128 + 192 + 96 + 64 = 480 channels on a map of 28 × 28"
assert shape == (28, 28, 480), f"{hint}, got {shape}"
for model, form, million in ((wide, "naive", 854), (narrow, "with reductions", 304)):
    found = arithmetic.totals(model)["macs"] / 1e6
    text = f"3b, {form}: {million} million MACs, got {found:.1f}"
    assert round(found) == million, f"{text}: which branch sees how many channels?"
found = narrow.count_params()
assert found == 388_736, f"3b has 388,736 parameters, got {found:,}"
### BEGIN HIDDEN TESTS
image = keras.Input((8, 8, 4))
cases = ((inception, (2, 3, 4, 5, 6, 7), 1034), (naive, (2, 3, 4), 552))
for form, filters, parameters in cases:
    found = keras.Model(image, form(image, *filters, conv_bn)).count_params()
    text = f"{form.__name__} with conv_bn as the unit: {parameters} parameters"
    assert found == parameters, f"{text}, got {found}"
### END HIDDEN TESTS
print("passed: channels, MACs and parameters of module 3b, in both forms")

# %%
from utils.architectures import googlenet


def with_weights_of(model, reference, name):
    """Give a model the weights of a reference: no two of them have the same shape."""
    by_shape = {tuple(weight.shape): weight for weight in reference.weights}
    shapes, expected = sorted(tuple(w.shape) for w in model.weights), sorted(by_shape)
    assert shapes == expected, f"{name}: the weights are {expected}, got {shapes}"
    for weight in model.weights:
        weight.assign(by_shape[tuple(weight.shape)])


# %% check="inception" points=2
picture = np.random.default_rng(42).normal(size=(2, 9, 9, 4)).astype("float32")
image, filters = keras.Input((9, 9, 4)), (3, 5, 7, 6, 8, 2)
pairs = {
    "inception": (inception, filters, googlenet.inception(image, filters, "a")),
    "naive": (naive, (3, 7, 8), googlenet.inception_naive(image, (3, 7, 8), "b")),
}
for name, (function, filters, tensor) in pairs.items():
    yours, theirs = module(function, 4, *filters, side=9), keras.Model(image, tensor)
    with_weights_of(yours, theirs, name)
    expected = ops.convert_to_numpy(theirs(picture))
    hint = f"{name}, with the weights of the reference: look at the order of the "
    hint += "branches, the ReLUs, and the pool (a maximum over 3 × 3, stride 1)"
    assert agree(yours(picture), expected, hint)
### BEGIN HIDDEN TESTS
modules = {"4c": (512, 510_104), "5a": (832, 1_043_456), "5b": (832, 1_444_080)}
for name, (channels, parameters) in modules.items():
    filters = googlenet.MODULES[name]
    found = module(inception, channels, *filters, side=7).count_params()
    text = f"module {name} has {parameters:,} parameters"
    assert found == parameters, f"{text}, got {found:,}"
### END HIDDEN TESTS
print("passed: the outputs of the reference, in both forms")

# %%
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.block_diagram(narrow, title="Module 3b, as you built it", ax=ax)

# %% [markdown]
# ### A question about the counts (1 point)
#
# The paper's table prints 463 K parameters for module 4c and 1,072 K for 5a. You (and the hidden checks) count 510,104
# and 1,043,456. A fellow student says: "K means 1,024, so there is no contradiction." Is that right? Give the numbers.

# %% [markdown] question="printed" points=1
# ### BEGIN SOLUTION
# K does mean 1,024 in that table: 3b has 388,736 parameters, which is 379.6 · 1,024 and is printed as 380 K. But it
# does not explain these two rows. 510,104 / 1,024 = 498.1, not 463, and 1,043,456 / 1,024 = 1,019.0, not 1,072. One is
# printed too small by 7 %, the other too large by 5 %, so no unit can explain both: the printed values belong to
# another version of the network, or are misprints.
# ### END SOLUTION

# %% [markdown]
# ## 7. Two networks of your own (5 points)
#
# Now design two small networks for the pictures below, one of each kind. They are drawn: one shape on a textured
# ground.

# %%
described = data.chosen(dataset, on_error=on_error)
channels, classes = described.image_shape[-1], described.classes
judged = dataset in ("shapes_crops", "fashion_mnist", "cifar10")  # the floor's data
options = {"image_size": image_size, "channels": channels, "on_error": on_error}
drawn = options | {"per_class": per_class, "seed": seed}
images, labels = data.arrays(dataset, "train", **drawn)
held_out, held_out_labels = data.arrays(dataset, "validation[:1000]", **options)
x, x_held_out = (a / np.float32(127.5) - 1 for a in (images, held_out))
shown = transfer.draw(labels, 2, seed)[:12]
named = {"classes": classes, "columns": 6, "tile": 1.2}
plots.show_images(images[shown], labels[shown], **named)

# %% [markdown]
# Write `vgg_like(image, classes)` and `inception_like(image, classes)`. In: the input tensor (batch, 32, 32, 3) and the
# number of classes. Out: a tensor of logits (batch, classes). The first is made of your `convolutions`. The second has
# at least three of your `inception` modules, and may begin with `convolutions`. The rules:
#
# - at most 12 million MACs for an image of 32 × 32 × 3, and at most 400,000 parameters;
# - a global average (`layers.GlobalAveragePooling2D`) and one dense layer at the end;
# - `conv_bn` as the unit.
#
# Each is trained `repeats` times, for `steps` steps of 32 images. Its accuracy on the *validation* images, averaged
# over the trainings, must reach `floor`. Change your designs as often as you like: the validation images are there for
# that. The test images come once, at the end. *Hint:* few channels while the map is large, more where it is small, and
# pools in between.


# %% gap="designs" stub="return logits, one function for each of the two designs"
def vgg_like(image, classes):
    ### BEGIN SOLUTION
    x = convolutions(image, "16 16 M 32 32 M 64 64 M 128", conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
    ### END SOLUTION


def inception_like(image, classes):
    ### BEGIN SOLUTION
    x = convolutions(image, "16 M 48 M", conv_bn)
    x = inception(x, 24, 24, 48, 8, 16, 16, conv_bn)
    x = inception(x, 32, 32, 64, 8, 24, 24, conv_bn)
    x = layers.MaxPooling2D(2)(x)
    x = inception(x, 64, 48, 96, 12, 32, 32, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
    ### END SOLUTION


# %%
designs = {"VGG-like": vgg_like, "inception": inception_like}


def network(design, side=image_size, channels=channels, classes=classes):
    """An untrained network of a design."""
    image = keras.Input((side, side, channels))
    logits = design(image, len(classes))
    assert logits is not None, f"{design.__name__} returned None: has it a return?"
    return keras.Model(image, logits)


# %% check="designs" points=1
sized = {name: network(one, 32, 3, range(6)) for name, one in designs.items()}
for name, model in sized.items():
    shape = tuple(model.output_shape)
    assert shape == (None, 6), f"{name}: logits of shape (batch, 6), got {shape}"
    total = arithmetic.totals(model)
    million = total["macs"] / 1e6
    assert million <= 12, f"{name}: {million:.1f} million MACs, allowed are 12"
    found = total["params"]
    assert found <= 400_000, f"{name}: {found:,} parameters, allowed are 400,000"
print("passed: both designs keep within the budget")

# %% check="designs" points=1
for name, model in sized.items():
    layers_ = kinds(model)
    averages = layers_.count("GlobalAveragePooling2D") + layers_.count("Mean")
    dense, norms = layers_.count("Dense"), layers_.count("BatchNormalization")
    hint = f"{name}: a global average and one dense layer were asked for"
    found = f"{averages} averages and {dense} dense layers"
    assert (averages, dense) == (1, 1), f"{hint}, got {found}"
    found = layers_.count("Conv2D")
    hint = f"{name}: `conv_bn` is the unit"
    assert found == norms, f"{hint}, but {found} convolutions have {norms} norms"
    noise = np.random.default_rng(54).normal(size=(64, 32, 32, 3))
    logits = ops.convert_to_numpy(model(noise.astype("float32")))
    hint = f"{name}: logits were asked for, these outputs are never negative"
    assert logits.min() < 0, f"{hint}: is there a softmax or a ReLU behind them?"
joins = [kinds(model).count("Concatenate") for model in sized.values()]
assert joins[0] == 0, f"VGG-like: one chain was asked for, got {joins[0]} joins"
assert joins[1] >= 3, f"at least three inception modules, got {joins[1]}"
print("passed: both designs keep the other rules")


# %%
def fit_once(model, run):
    """New weights, an optimizer that has seen nothing, and one training."""
    model.set_weights(transfer.reinitialise(model, seed + run).get_weights())
    for variable in model.optimizer.variables:
        variable.assign(ops.zeros_like(variable))
    batches = transfer.repeat(x, labels, steps, 32, seed + run)
    model.fit(*batches, batch_size=32, shuffle=False, verbose=0)


def accuracy(model, images, labels):
    """Share of the images that a model gets right."""
    answers = transfer.predict(model, images).argmax(axis=1)
    return float(np.mean(answers == labels))


def train(design):
    """The model, the weights of each training, and their validation accuracies."""
    model, weights, reached = network(design), [], []
    rate = training.WarmupHoldDecay(3e-3, steps, steps // 10, 0.5)
    training.compile_classifier(model, keras.optimizers.Adam(rate))
    for run in range(repeats):
        fit_once(model, run)
        weights.append(model.get_weights())
        reached.append(accuracy(model, x_held_out, held_out_labels))
    return model, weights, reached


# %% [markdown]
# What would a linear classifier reach on the same images, in the same steps? A floor that it reaches would prove
# nothing.


# %%
def linear(image, classes):
    """A linear classifier on the pixels."""
    return layers.Dense(classes)(layers.Flatten()(image))


linear_accuracy = np.mean(train(linear)[2])
print(f"linear classifier: {linear_accuracy:.1%} of the validation images are right")

# %% check="designs" points=3
trained = {name: train(design) for name, design in designs.items()}
reached = {name: accuracies for name, (_, _, accuracies) in trained.items()}
for name, accuracies in reached.items():
    mean = np.mean(accuracies)
    hint = f"{name}: {mean:.1%} of the validation images on average over {repeats} "
    hint += f"trainings, the floor is {floor:.0%}; a linear classifier gets "
    assert reaches(mean, floor, judged), f"{hint}{linear_accuracy:.1%}"
print("passed: " + ", ".join(f"{k} {np.mean(v):.1%}" for k, v in reached.items()))

# %% [markdown]
# Now the test images, once. Whatever they say, do not go back to change your designs: if you choose by them, they no
# longer tell how a network does on new images.

# %%
test_images, test_labels = data.arrays(dataset, "test[:1200]", **options)
x_test = test_images / np.float32(127.5) - 1
tested = {}
for name, (model, weights, _) in trained.items():
    tested[name] = []
    for one in weights:
        model.set_weights(one)
        tested[name].append(accuracy(model, x_test, test_labels))

# %%
baselines = {"linear classifier": linear_accuracy}
sides = {"validation": reached, "test": tested}
title = f"{repeats} trainings of {steps} steps"
ax = plots.dots(sides, "accuracy", baselines, title=title)

# %%
record(
    vgg_accuracy=np.mean(tested["VGG-like"]),
    inception_accuracy=np.mean(tested["inception"]),
    vgg_validation=np.mean(reached["VGG-like"]),
    inception_validation=np.mean(reached["inception"]),
    linear_accuracy=linear_accuracy,
    vgg_macs=arithmetic.totals(network(vgg_like))["macs"],
    inception_macs=arithmetic.totals(network(inception_like))["macs"],
)

# %% [markdown]
# ### A question about the result (2 points)
#
# Look at the figure above and at the MACs of your two networks. A fellow student concludes from such a figure, made
# with one training of each: "Inception is better than VGG" (or the other way round). What would you need to know before
# you agree? Name two things that the figure shows, and two that it does not hold equal or does not show.

# %% [markdown] question="verdict" points=2
# ### BEGIN SOLUTION
# The figure shows each training of each design. If the dots of the two designs overlap, the difference of the means may
# come from the initial weights and the order of the images alone, and one training of each could have shown the
# opposite. It also shows that both are far above a linear classifier, so both designs work. It does not hold the cost
# equal: the number of steps is the same, but the two networks differ in MACs, and the inception network has more and
# smaller layers, so that its step takes more time than its MACs suggest. It says nothing about other pictures, other
# sizes or longer training: a difference on drawn shapes of 32 × 32 need not hold on photographs, and the two were tuned
# by hand to a different degree.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - write partial and grouped convolutions as ordinary ones, and say how many weights they save;
# - merge linear filters, and say what a ReLU between them is good for;
# - build VGG and GoogLeNet's modules from what their papers print, and prove it by counts and by equal outputs;
# - plan a receptive field, and turn a network for one size into a network for any size;
# - design networks within a budget, choose on validation images, and compare two designs over several trainings.
#
# ## Exercises
#
# 1. *Easy.* How many parameters has VGG-16 for two classes? *Hint:* 134,268,738; which layer changes?
# 2. *Easy.* How many MACs does your `wide_view` save if the two pools stand further in front, and what is lost? *Hint:*
#    the check prints both numbers.
# 3. *Medium.* Replace the 5 × 5 of your inception modules by two 3 × 3. How do the MACs change if the first of the two
#    keeps the reduced width, and if it has the full one? Does the accuracy change by more than its spread? *Hint:*
#    `repeats=5`.
# 4. *Medium.* The three convolutions of 1 × 1 that read x in an inception module can be one. Write it with one
#    convolution and slices of its output, copy the weights, and compare the time of 100 calls. *Hint:* `ops.split`.
# 5. *Medium.* Give the reader of digits an eleventh class for windows between two digits. *Hint:* put halves of two
#    training images side by side.
# 6. *Hard.* Find the smallest network, in MACs, that still reaches the floor. *Hint:* start with the first layers,
#    where the map is large.
#
# ## Further reading
#
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, *Gradient-based learning applied to document recognition*, Proceedings
#   of the IEEE, 1998 (section VII reads rows of digits).
# - A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet classification with deep convolutional neural networks*, NIPS
#   2012.
# - K. Simonyan, A. Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015.
# - C. Szegedy et al., *Going deeper with convolutions*, CVPR 2015.
