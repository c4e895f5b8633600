# %% [markdown]
# # 03 Classic architectures: LeNet to GoogLeNet: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/03_classic_architectures.ipynb)
#
# **Can you rebuild the networks of 2012 and 2014 from what their papers print?** A table of numbers, a line of text,
# a diagram with four branches: that is all they give. You will write the few functions that turn them into networks,
# and know that you got them right when your counts are the published ones, to the last of 138,357,544 parameters.
# Then you design two small networks of the same kinds and train both until they tell shapes apart.
#
# You will be able to
#
# - follow sizes, parameters and multiply-accumulates (MACs) through any list of layers, groups included;
# - say where LeNet-5's 60,000 parameters are;
# - build VGG from a line of text, and the inception module in both of its forms;
# - design a network within a budget of MACs, train it over several seeds, and compare it fairly with another.
#
# Plan two hours for it. There are 21 points. The training takes about two minutes on two cores.

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
seed: int = 0  # [0, ] where the random numbers of the trainings start
dataset: str = "shapes_crops"  # what your networks learn to tell apart: a data set with labels, by name or path
image_size: int = 32  # [32, 48] height and width that they are brought to
per_class: int = 600  # [20, 1600] training images of each class
steps: int = 350  # [10, 5000] steps of each training
repeats: int = 3  # [1, 10] trainings of each network, each with its own initial weights and order of images
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
floor: float = 0.9  # [0, 1] share of the test images that each network must get right, on average over its trainings

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops

from utils import architectures, arithmetic, data, plots, results, session, training, transfer

session.start(seed)

# %% [markdown]
# ## 1. What a convolution costs (2 points)
#
# Write `convolution(n, channels, filters, f, s=1, p=0, groups=1)` for an input of n × n × `channels` and `filters`
# filters of f × f with stride s, p zeros on every side, and one bias each. With g groups each filter sees 1/g of the
# channels.
#
# Out: a triple of ints, the output's size (height = width), the number of parameters, biases included, and the number
# of MACs: the number of multiplications, biases left out.
#
# The check compares with Keras's own layers.


# %% gap="convolution" stub="return the output's size, the parameters and the MACs"
def convolution(n, channels, filters, f, s=1, p=0, groups=1):
    ### BEGIN SOLUTION
    size = (n + 2 * p - f) // s + 1
    weights = f * f * (channels // groups) * filters
    return size, weights + filters, size * size * weights
    ### END SOLUTION


# %% check="convolution" points=2
def by_keras(n, channels, filters, f, s=1, p=0, groups=1):
    """The same triple, counted in a Keras model."""
    stack = [keras.Input((n, n, channels)), layers.ZeroPadding2D(p), layers.Conv2D(filters, f, s, groups=groups)]
    model = architectures.outline(lambda: keras.Sequential(stack))
    total = arithmetic.totals(model)
    return model.output_shape[1], total["params"], total["macs"]


size, parameters, macs = convolution(227, 3, 96, 11, s=4)
assert size == 55, f"AlexNet's first layer: (227 − 11) / 4 + 1 = 55, got {size}"
assert parameters == 34_944, f"96 filters of 11 · 11 · 3 weights and a bias: 34,944, got {parameters:,}"
assert macs == 105_415_200, f"55 · 55 places, 34,848 weights each, and biases are no multiplications: got {macs:,}"
assert convolution(32, 3, 12, 5, s=2, p=1)[0] == 15, (
    "(32 + 2 − 5) / 2 = 14.5: the last place would hang over, round down"
)
assert convolution(28, 192, 64, 1) == by_keras(28, 192, 64, 1), "64 filters of 1 × 1, as Keras counts them"
_, parameters, _ = convolution(27, 96, 256, 5, p=2, groups=2)
assert parameters == 307_456, f"with two groups each filter sees 48 of the 96 channels: 307,456, got {parameters:,}"
### BEGIN HIDDEN TESTS
for case in [(13, 384, 256, 3, 1, 1, 2), (28, 192, 64, 1), (9, 8, 16, 4, 3, 2, 4), (224, 3, 64, 7, 2, 3)]:
    assert convolution(*case) == by_keras(*case), f"differs from Keras for {case}"
### END HIDDEN TESTS

# %% [markdown]
# ## 2. AlexNet, layer by layer (3 points)
#
# A network is written as a list of tuples:
#
# - `("conv", filters, f, s, p, groups)`, a convolution as above;
# - `("pool", f, s)`, a max-pooling without padding; positions that would hang over the edge do not count;
# - `("dense", units)`, a dense layer with biases; the first one sees the whole map as one vector.
#
# Write `follow(network, n, channels)`, which goes through the list from an input of n × n × `channels`. Out: a list
# with one tuple `(shape, parameters, macs)` for each layer, shape being `(height, width, channels)`, or `(units,)`
# behind a dense layer.
#
# The check follows AlexNet with and without its two groups, where every number is known.

# %%
alexnet = [
    ("conv", 96, 11, 4, 0, 1),
    ("pool", 3, 2),
    ("conv", 256, 5, 1, 2, 2),
    ("pool", 3, 2),
    ("conv", 384, 3, 1, 1, 1),
    ("conv", 384, 3, 1, 1, 2),
    ("conv", 256, 3, 1, 1, 2),
    ("pool", 3, 2),
    ("dense", 4096),
    ("dense", 4096),
    ("dense", 1000),
]
lenet5 = [("conv", 6, 5, 1, 0, 1), ("pool", 2, 2), ("conv", 16, 5, 1, 0, 1), ("pool", 2, 2), ("conv", 120, 5, 1, 0, 1)]
lenet5 += [("dense", 84), ("dense", 10)]


# %% gap="follow" stub="return a tuple (shape, parameters, macs) for each layer"
def follow(network, n, channels):
    ### BEGIN SOLUTION
    rows, shape = [], (n, n, channels)
    for kind, *numbers in network:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p, groups = numbers
            size, parameters, macs = convolution(shape[0], shape[2], filters, f, s, p, groups)
            shape = (size, size, filters)
        elif kind == "pool":
            f, s = numbers
            size = (shape[0] - f) // s + 1
            shape = (size, size, shape[2])
        else:
            (units,) = numbers
            macs = int(np.prod(shape)) * units
            parameters = macs + units
            shape = (units,)
        rows.append((shape, parameters, macs))
    return rows
    ### END SOLUTION


# %% check="follow" points=2
rows = follow(alexnet, 227, 3)
assert len(rows) == len(alexnet), f"one tuple for each of {len(alexnet)} layers, got {len(rows)}"
sizes = [shape[0] for shape, _, _ in rows[:8]]
assert sizes == [55, 27, 27, 13, 13, 13, 13, 6], f"the maps are 55 27 27 13 13 13 13 6, got {sizes}"
assert tuple(rows[7][0]) == (6, 6, 256), f"the last pool gives 6 × 6 × 256, got {rows[7][0]}"
assert tuple(rows[10][0]) == (1000,), f"the shape behind a dense layer is (units,), got {rows[10][0]}"
assert rows[7][1:] == (0, 0), "a pool has no parameters and no MACs"
assert rows[8][1] == 37_752_832, f"fc6: 6 · 6 · 256 inputs, 4,096 units, and their biases; got {rows[8][1]:,}"

# %% check="follow" points=1
parameters, macs = (sum(row[column] for row in rows) for column in (1, 2))
assert parameters == 60_965_224, f"AlexNet has 60,965,224 parameters, got {parameters:,}"
assert macs == 724_406_816, f"AlexNet costs 724,406,816 MACs, got {macs:,}"
### BEGIN HIDDEN TESTS
together = [(*layer[:5], 1) if layer[0] == "conv" else layer for layer in alexnet]
rows = follow(together, 227, 3)
assert [sum(row[column] for row in rows) for column in (1, 2)] == [62_378_344, 1_135_256_096], "without groups"
assert sum(row[1] for row in follow(lenet5, 32, 1)) == 61_706, "LeNet-5 as usually rebuilt"
assert follow([("dense", 5), ("dense", 3)], 2, 4) == [((5,), 85, 80), ((3,), 18, 15)], "dense layers alone"
assert follow([("pool", 3, 2)], 8, 5) == [((3, 3, 5), 0, 0)], "a pool of 3 at stride 2 fits an input of 8 three times"
### END HIDDEN TESTS

# %% [markdown]
# Your numbers, drawn: where are AlexNet's parameters, and where its work?

# %%
names = [f"{index + 1} {layer[0]}" for index, layer in enumerate(alexnet)]
rows = follow(alexnet, 227, 3)
colours = [plots.PURPLE if "dense" in name else plots.BLUE for name in names]
plots.layer_bars(names, {"parameters": [row[1] for row in rows], "MACs": [row[2] for row in rows]}, colours)

# %% [markdown]
# And beside the networks before and after it. VGG-16 has little more than twice AlexNet's parameters, and its filters
# are small: how many times AlexNet's work do you expect?

# %%
vgg16 = []
for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
    vgg16 += [("conv", filters, 3, 1, 1, 1)] * count + [("pool", 2, 2)]
vgg16 += alexnet[-3:]
followed = {"LeNet-5": follow(lenet5, 32, 1), "AlexNet": rows, "VGG-16": follow(vgg16, 224, 3)}
figure, axes = plt.subplots(1, 2, figsize=(8, 1.8), sharey=True)
for ax, column, label, unit_ in zip(axes, (1, 2), ("million parameters", "billion MACs"), (1e6, 1e9)):
    plots.bars({name: sum(row[column] for row in table) / unit_ for name, table in followed.items()}, label, ax=ax)
axes[0].invert_yaxis()  # each of the two turned the common axis round

# %% [markdown]
# ## 3. LeNet-5 and its C3 (2 points)
#
# In LeNet-5 the sixteen filters of the layer C3 do not see all six maps of S2. Table I of the paper says which ones
# each of them sees. Write `partial(table, f)`: the number of parameters of a convolution with f × f windows in which
# filter k sees the maps `table[k]` and has one bias.
#
# The check takes the paper's table, and others.

# %%
TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5),
    (0, 1, 4, 5), (0, 1, 2, 5), (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


# %% gap="partial" stub="return the number of parameters of a convolution whose filters see some of the maps"
def partial(table, f):
    ### BEGIN SOLUTION
    return sum(f * f * len(seen) + 1 for seen in table)
    ### END SOLUTION


# %% check="partial" points=2
everything = partial([range(6)] * 16, 5)
assert everything == 2_416, f"if all 16 filters saw all six maps: 16 · (6 · 25 + 1) = 2,416, got {everything:,}"
found = partial(TABLE, 5)
assert found == 1_516, f"60 connections of 25 weights, and 16 biases: 1,516, got {found:,}"
whole = 156 + 12 + found + 32 + 48_120 + 10_164  # C1, S2, C3, S4, C5, F6: the paper's network has no further weights
assert whole == 60_000, f"the whole network has 60,000 parameters, with your C3 it has {whole:,}"
### BEGIN HIDDEN TESTS
assert partial([(0,), (1, 2)], 3) == 29 and partial([(2,)] * 4, 1) == 8
### END HIDDEN TESTS

# %% [markdown]
# ## 4. VGG from a line of text (3 points)
#
# The paper's table 1 becomes one line for each network. A number is a convolution of 3 × 3 with so many filters,
# `256:1` one of 1 × 1 with 256 filters, `M` a max-pooling of 2 × 2 with stride 2. Both kinds of convolution keep
# height and width ("same") and are followed by ReLU.
#
# Write `convolutions(x, text, unit=conv)`, which applies the layers of the text to the tensor x and returns the last
# tensor. `unit(x, filters, f)` applies one convolution of f × f with its ReLU: `conv` below, or `conv_bn` with batch
# normalisation.
#
# The check builds the networks of the paper with it, counts, and compares outputs.


# %%
def conv(x, filters, f):
    """Convolution of f x f with bias, then ReLU; height and width stay."""
    return layers.ReLU()(layers.Conv2D(filters, f, padding="same", kernel_initializer="he_normal")(x))


def conv_bn(x, filters, f):
    """Convolution without bias, batch normalisation, ReLU."""
    x = layers.Conv2D(filters, f, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
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


# %% check="vgg" points=2
def vgg(text, side, units, classes):
    """A VGG network: the convolutions of the text, two dense layers, logits."""
    image = keras.Input((side, side, 3))
    x = layers.Flatten()(convolutions(image, text))
    for _ in range(2):
        x = layers.Dense(units, "relu")(x)
    return keras.Model(image, layers.Dense(classes)(x))


sixteen = architectures.outline(lambda: vgg(VGG_16, 224, 4096, 1000))
maps = [tuple(layer.output.shape[1:]) for layer in sixteen.layers if "pool" in layer.name]
assert maps[-1:] == [(7, 7, 512)], f"five pools bring 224 to 7 × 7 × 512, got {maps}"
counted = arithmetic.totals(sixteen)
assert counted["params"] == 138_357_544, f"VGG-16 has 138,357,544 parameters, got {counted['params']:,}"
assert counted["macs"] == 15_470_264_320, f"VGG-16 costs 15,470,264,320 MACs, got {counted['macs']:,}"
third = architectures.outline(lambda: vgg(VGG_C, 224, 4096, 1000)).count_params()
assert third == 133_638_952, f"configuration C, with three 1 × 1, has 133,638,952 parameters, got {third:,}"

# %% check="vgg" points=1
text = "4 6 M 5:1 8 M"
reference = architectures.build("vgg11", (16, 16, 3), 7, units=9, configuration=text, dropout=0)
yours = vgg(text, 16, 9, 7)
assert [w.shape for w in yours.weights] == [w.shape for w in reference.weights], (
    "weights of other shapes than those of the text"
)
yours.set_weights(reference.get_weights())
picture = np.random.default_rng(41).normal(size=(2, 16, 16, 3)).astype("float32")
expected = ops.convert_to_numpy(reference(picture))
assert np.allclose(ops.convert_to_numpy(yours(picture)), expected, atol=1e-4), (
    "the outputs differ from the reference's with the same weights: is every convolution followed by ReLU, and the pool a maximum?"
)
### BEGIN HIDDEN TESTS
nineteen = architectures.outline(lambda: vgg(VGG_19, 224, 4096, 1000))
assert nineteen.count_params() == 143_667_240, "VGG-19 has 143,667,240 parameters"
image = keras.Input((8, 8, 3))
normalised = keras.Model(image, convolutions(image, "4 M 8:1", conv_bn))
assert normalised.count_params() == 3 * 9 * 4 + 4 * 4 + 4 * 8 + 4 * 8, "the unit that is given must be used"
### END HIDDEN TESTS

# %% [markdown]
# ## 5. The inception module, both forms (4 points)
#
# Write two functions that apply an inception module to a tensor x of shape (batch, H, W, C).
#
# - `naive(x, one, three, five, unit=conv)`: side by side `one` filters of 1 × 1, `three` of 3 × 3, `five` of 5 × 5,
#   and a max-pooling of 3 × 3 with stride 1 that keeps H and W. Out: (batch, H, W, one + three + five + C), stacked
#   in this order.
# - `inception(x, one, reduce3, three, reduce5, five, projection, unit=conv)`: 1 × 1 convolutions reduce the channels
#   to `reduce3` before the 3 × 3, to `reduce5` before the 5 × 5, and to `projection` *behind* the pooling. Out:
#   (batch, H, W, one + three + five + projection).
#
# Each convolution is one `unit(x, filters, f)`. The check counts module 3b of the paper in both forms, and compares
# outputs.


# %% gap="inception" stub="stack the outputs of four branches, in both forms"
def naive(x, one, three, five, unit=conv):
    ### BEGIN SOLUTION
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    return layers.Concatenate()([unit(x, one, 1), unit(x, three, 3), unit(x, five, 5), pooled])
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


# %% check="inception" points=2
def module(function, channels, *filters, side=28):
    """A model of one module."""
    image = keras.Input((side, side, channels))
    return keras.Model(image, function(image, *filters))


wide, narrow = module(naive, 256, 128, 192, 96), module(inception, 256, 128, 128, 192, 32, 96, 64)
assert wide.output_shape[1:] == (28, 28, 672), (
    f"naive: 128 + 192 + 96 + 256 = 672 channels, got {wide.output_shape[1:]}"
)
assert narrow.output_shape[1:] == (28, 28, 480), f"128 + 192 + 96 + 64 = 480 channels, got {narrow.output_shape[1:]}"
for model, form, million in ((wide, "naive", 854), (narrow, "with reductions", 304)):
    found = arithmetic.totals(model)["macs"] / 1e6
    assert round(found) == million, (
        f"3b, {form}: {million} million MACs, got {found:.1f}: which branch sees how many channels?"
    )
assert narrow.count_params() == 388_736, f"3b has 388,736 parameters, got {narrow.count_params():,}"
### BEGIN HIDDEN TESTS
image = keras.Input((8, 8, 4))
for form, filters, parameters in ((inception, (2, 3, 4, 5, 6, 7), 1034), (naive, (2, 3, 4), 552)):
    found = keras.Model(image, form(image, *filters, conv_bn)).count_params()
    assert found == parameters, f"{form.__name__}: the unit that is given must be used"
### END HIDDEN TESTS

# %% check="inception" points=2
from utils.architectures import googlenet

image, filters = keras.Input((9, 9, 4)), (3, 5, 7, 6, 8, 2)
picture = np.random.default_rng(42).normal(size=(2, 9, 9, 4)).astype("float32")
for yours, theirs in (
    (module(inception, 4, *filters, side=9), keras.Model(image, googlenet.inception(image, filters, "a"))),
    (module(naive, 4, 3, 7, 8, side=9), keras.Model(image, googlenet.inception_naive(image, (3, 7, 8), "b"))),
):
    by_shape = {tuple(weight.shape): weight for weight in theirs.weights}  # no two have the same shape
    assert sorted(by_shape) == sorted(tuple(w.shape) for w in yours.weights), (
        "weights of other shapes than the reference's"
    )
    for weight in yours.weights:
        weight.assign(by_shape[tuple(weight.shape)])
    answer, expected = (ops.convert_to_numpy(model(picture)) for model in (yours, theirs))
    assert np.allclose(answer, expected, atol=1e-4), (
        "other values than the reference with the same weights: the order of the branches, a ReLU, or the pool's stride?"
    )
### BEGIN HIDDEN TESTS
modules = {"4c": (512, 510_104), "5a": (832, 1_043_456), "5b": (832, 1_444_080)}
for name, (channels, parameters) in modules.items():
    assert module(inception, channels, *googlenet.MODULES[name], side=7).count_params() == parameters, f"module {name}"
### END HIDDEN TESTS

# %%
figure, ax = plt.subplots(figsize=(8, 3.2))
plots.block_diagram(narrow, title="Module 3b, as you built it", ax=ax)

# %% [markdown]
# ### A question about the counts (1 point)
#
# The paper's table prints 463 K parameters for module 4c and 1,072 K for 5a; you (and the hidden checks) count
# 510,104 and 1,043,456. A fellow student says: "K means 1,024, so there is no contradiction." Is that right? Give the
# numbers.

# %% [markdown] question="printed" points=1
# ### BEGIN SOLUTION
# K does mean 1,024 in that table: 3b has 388,736 parameters, which is 379.6 · 1,024 and is printed as 380 K. But it
# does not explain these two rows. 510,104 / 1,024 = 498.1, not 463, and 1,043,456 / 1,024 = 1,019.0, not 1,072. One
# is printed too small by 7 %, the other too large by 5 %, so no unit can explain both: the printed values belong to
# another version of the network, or are misprints.
# ### END SOLUTION

# %% [markdown]
# ## 6. Two networks of your own (4 points)
#
# Now design two small networks for these pictures, one of each kind. They are drawn: one shape on a textured ground.

# %%
described = data.chosen(dataset, on_error=on_error)
channels, classes = described.image_shape[-1], described.classes
judged = dataset in ("shapes_crops", "fashion_mnist", "cifar10")  # the floor was measured on these
drawn = {"per_class": per_class, "seed": seed, "on_error": on_error}
images, labels = data.arrays(dataset, "train", image_size, channels, **drawn)
test_images, test_labels = data.arrays(dataset, "test[:1200]", image_size, channels, on_error=on_error)
x, x_test = (array.astype("float32") / 127.5 - 1 for array in (images, test_images))
shown = transfer.draw(labels, 2, seed)[:12]
plots.show_images(images[shown], labels[shown], classes=classes, columns=6, tile=1.2)

# %% [markdown]
# Write `vgg_like(image, classes)` and `inception_like(image, classes)`. In: the input tensor (batch, 32, 32, 3) and
# the number of classes. Out: a tensor of logits (batch, classes). The first is made of your `convolutions`; the
# second has at least three of your `inception` modules, and may begin with `convolutions`. The rules:
#
# - at most 12 million MACs for an image of 32 × 32 × 3, and at most 400,000 parameters;
# - a global average (`layers.GlobalAveragePooling2D`) and one dense layer at the end;
# - `conv_bn` as the unit.
#
# Each is trained `repeats` times, for `steps` steps of 32 images. Its accuracy on the test images, averaged over the
# trainings, must reach `floor`. *Hint:* few channels while the map is large, more where it is small; pools in
# between.


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


# %% check="designs" points=1
designs = {"VGG-like": vgg_like, "inception": inception_like}


def network(design):
    """An untrained network of a design."""
    image = keras.Input((image_size, image_size, channels))
    return keras.Model(image, design(image, len(classes)))


for name, design in designs.items():
    image = keras.Input((32, 32, 3))
    sized = keras.Model(image, design(image, 6))
    assert sized.output_shape == (None, 6), f"{name}: logits of shape (batch, 6), got {sized.output_shape}"
    total = arithmetic.totals(sized)
    assert total["macs"] <= 12e6, f"{name}: {total['macs'] / 1e6:.1f} million MACs, allowed are 12"
    assert total["params"] <= 400_000, f"{name}: {total['params']:,} parameters, allowed are 400,000"
    kinds = [type(layer).__name__ for layer in sized.layers]
    assert kinds.count("Dense") == 1 and "GlobalAveragePooling2D" in kinds, f"{name}: a global average, one dense layer"
    found, norms = kinds.count("Conv2D"), kinds.count("BatchNormalization")
    assert found == norms, f"{name}: `conv_bn` is the unit, but {found} convolutions have {norms} normalisations"
    last = sized.layers[-1]
    assert getattr(last, "activation", None) is keras.activations.linear, f"{name}: a dense layer of logits, no softmax"
joins = [type(layer).__name__ for layer in network(inception_like).layers].count("Concatenate")
assert joins >= 3, f"at least three inception modules, found {joins}"
assert not any(type(layer).__name__ == "Concatenate" for layer in network(vgg_like).layers), "VGG-like: one chain"


# %%
def train(design):
    """Accuracies on the test images after `steps` steps, one for each of `repeats` trainings."""
    model = network(design)
    rate = training.WarmupHoldDecay(3e-3, steps, steps // 10, 0.5)
    training.compile_classifier(model, keras.optimizers.Adam(rate))
    accuracies = []
    for run in range(repeats):
        model.set_weights(transfer.reinitialise(model, seed + run).get_weights())
        for variable in model.optimizer.variables:  # and an optimizer that has seen nothing
            variable.assign(ops.zeros_like(variable))
        batches = transfer.repeat(x, labels, steps, 32, seed + run)
        model.fit(*batches, batch_size=32, shuffle=False, verbose=0)
        answers = transfer.predict(model, x_test).argmax(axis=1)
        accuracies.append(float(np.mean(answers == test_labels)))
    return accuracies


# %% check="designs" points=3
reached = {}
for name, design in designs.items():
    reached[name] = train(design)
    mean = np.mean(reached[name])
    assert results.reaches(mean, floor, judged), (
        f"{name}: {mean:.1%} of the test images on average over {repeats} trainings, the floor is {floor:.0%}"
    )

# %% tags=["thumbnail"]
chance = np.bincount(test_labels).max() / len(test_labels)
plots.bars(
    reached, "accuracy on test images", {"chance": chance, "floor": floor}, f"{repeats} trainings of {steps} steps each"
)

# %%
results.record(
    vgg_accuracy=np.mean(reached["VGG-like"]),
    inception_accuracy=np.mean(reached["inception"]),
    vgg_macs=arithmetic.totals(network(vgg_like))["macs"],
    inception_macs=arithmetic.totals(network(inception_like))["macs"],
)

# %% [markdown]
# ### A question about the result (2 points)
#
# Look at the figure above and at the MACs of your two networks. A fellow student concludes from such a figure, made
# with one training of each: "Inception is better than VGG" (or the other way round). What would you need to know
# before you agree? Name two things that the figure shows, and two that it does not hold equal or does not show.

# %% [markdown] question="verdict" points=2
# ### BEGIN SOLUTION
# The figure shows the mean of each design and the range over its trainings: if the ranges overlap, the difference of
# the means may come from the initial weights and the order of the images alone, and one training of each could have
# shown the opposite. It also shows that both are far above chance, so both designs work. It does not hold the cost
# equal: the number of steps is the same, but the two networks differ in MACs, and the inception network has more,
# smaller layers, so that its step takes more time than its MACs suggest. It says nothing about other pictures, other
# sizes or longer training: a difference on 32 × 32 drawn shapes need not hold on photographs, and the two were tuned
# by hand to a different degree.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - follow sizes, parameters and MACs through a list of layers, with groups, down to the published numbers;
# - build VGG and GoogLeNet's modules from what their papers print, and prove it by counts and by equal outputs;
# - design networks within a budget, and compare two designs over several trainings.
#
# ## Exercises
#
# 1. *Easy.* How many parameters has VGG-16 for two classes? *Hint:* 134,268,738; which layer changes?
# 2. *Easy.* Give `follow` a pool with padding, and follow GoogLeNet's stem with it. *Hint:* Caffe's pools round up;
#    the stem is in the lecture.
# 3. *Medium.* Replace the 5 × 5 of your inception modules by two 3 × 3. How do the MACs change if the first of the
#    two keeps the reduced width, and if it has the full one? Does the accuracy change by more than its spread?
#    *Hint:* `repeats=5`.
# 4. *Medium.* Train both designs with `conv` in place of `conv_bn`. Which one suffers more? *Hint:* count the layers
#    in a row.
# 5. *Hard.* Find the smallest network, in MACs, that still reaches the floor. *Hint:* start with the first layers,
#    where the map is large.
#
# ## Further reading
#
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, *Gradient-based learning applied to document recognition*, Proceedings
#   of the IEEE, 1998.
# - A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet classification with deep convolutional neural networks*, NIPS
#   2012.
# - K. Simonyan, A. Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015.
# - C. Szegedy et al., *Going deeper with convolutions*, CVPR 2015.
