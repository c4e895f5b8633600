# %% [markdown]
# # 04 Residual and efficient architectures
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/04_residual_and_efficient_architectures.ipynb)
#
# **A network of 56 layers can compute everything that one of 20 layers computes. Why does it fit its own training
# images worse?** In 2015 this question stopped the race to depth, and an addition sign answered it: the input of a
# block is added to its output. Almost every network since has that sign in it. The years after asked the second
# question: if depth is free to choose, how little may a network cost?
#
# You will be able to
#
# - show degradation with depth on networks that you train yourself, and tell it from overfitting;
# - build residual blocks, bottlenecks, dense blocks, grouped, depthwise separable, inverted and recalibrated ones,
#   and count each of them;
# - say what shortcuts change, and what not, from measured gradients and a drawn loss surface;
# - apply six guidelines for cheap networks, each with its number;
# - choose an architecture by accuracy, parameters, multiply-accumulates (MACs) and measured time, which are four
#   different things.
#
# It takes about two hours to read and ten to fifteen minutes to run.

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
pictures: str = "shapes_crops"  # what the networks are trained on: a data set with labels, by name or path
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
examples: int | None = None  # training pictures; None: all that there are
small_size: int = 24  # [16, 48] height and width of the pictures for the very deep networks
depths: list[int] = [20, 56]  # a shallower and a deeper network: two of 20, 32, 44, 56, 110
width: float = 0.5  # [0.1, 2] multiplier of their numbers of filters
last_gamma: float = 0.0  # [0, 1] scale with which every residual branch ends before training; the paper has 1
steps: int = 300  # [4, 100000] steps of their training
repeats: int = 2  # [1, 10] runs of each training, each with its own initial weights and order of pictures
looks: int = 5  # [2, 50] times that a network is tested while it trains
grid: int = 11  # [3, 51] points on each side of the loss surface
surface_images: int = 128  # [8, 2000] pictures on which that loss is measured
timed: int = 10  # [1, 100] forward passes over which a network's time is the median
timed_networks: int = 13  # [1, 13] so many of the networks in the table of speeds, the first ones
family_size: int = 24  # [16, 48] height and width of the pictures for the comparison of families
family_steps: list[int] = [285, 210, 115, 180, 105, 400, 185, 200]  # of each: equal CPU time; 0: not trained

# %%
import functools
import math
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import layers, ops

from utils import architectures, arithmetic, data, plots, training, transfer
from utils.architectures import resnet, resnext
from utils.architectures.shufflenet import ChannelShuffle
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# ## Deeper by construction
#
# Take any trained network and put layers into it that pass their input on unchanged. The deeper network computes the
# same function, so its training error is the same. Such layers exist: a 3 × 3 filter with a one in its centre and
# zeros elsewhere, and a ReLU, which does nothing to values that come out of a ReLU. We predict a difference of
# exactly 0 between a network of 2 convolutions and one of 8.


# %% tags=["nbval-check-output"]
def stack(convolutions):
    """A plain network: so many 3x3 convolutions with ReLU, a global average, 10 logits."""
    chain = [layers.Conv2D(8, 3, padding="same", activation="relu") for _ in range(convolutions)]
    return keras.Sequential([keras.Input((16, 16, 3)), *chain, layers.GlobalAveragePooling2D(), layers.Dense(10)])


shallow, deep = stack(2), stack(8)
pass_on = np.zeros((3, 3, 8, 8), "float32")
pass_on[1, 1] = np.eye(8)  # channel c of the output is channel c of the input
copied = [layer.get_weights() for layer in shallow.layers]
for layer, weights in zip(deep.layers, copied[:2] + [[pass_on, np.zeros(8)]] * 6 + copied[2:]):
    layer.set_weights(weights)
noise = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
difference = float(ops.max(ops.abs(shallow(noise) - deep(noise))))
print(f"2 convolutions against 8: the outputs differ by {difference}")

# %% [markdown]
# So a deeper network has a solution that is at least as good on the training images, by construction. If training
# ends with a *larger training error*, then not for lack of a solution: the search has not found it. He, Zhang, Ren
# and Sun (2016) saw just that on CIFAR-10 and on ImageNet, and called it **degradation**. It is not overfitting. A
# network that overfits has a small training error and a large test error; here already the training error is large.
#
# ### Seen here
#
# We look for it on small coloured shapes: six classes, drawn by the course's own program (drawn data may not
# represent photographs; for this question it does not matter). Chance is one sixth.

# %%
classes = data.chosen(pictures, on_error=on_error).classes
chance = 1 / len(classes)


@functools.cache
def loaded(size):
    """Training and test images at a size, centred and scaled to about -2..2, with their labels."""
    sets = []
    for split in (f"train[:{examples}]" if examples else "train", "test[:500]"):
        images, labels = data.arrays(pictures, split, size, on_error=on_error)
        sets += [(images.astype("float32") - 128) / 64, labels]
    return sets


x, labels, x_test, test_labels = loaded(small_size)
plots.show_images((x[:16] * 64 + 128).astype("uint8"), labels[:16], classes=classes, columns=8)

# %% [markdown]
# The networks are those of the paper's section on CIFAR-10: a 3 × 3 convolution, then three stages of n blocks with
# two 3 × 3 convolutions each, at full, half and quarter size, a global average and one dense layer: 6n + 2 layers. We
# expect 20 layers for n = 3 and 56 for n = 9. `plain20` has no shortcuts; `resnet20` adds each block's input to its
# output and is otherwise the same, parameters included (where the size changes, the shortcut takes every second pixel
# and fills the new channels with zeros; more below). The paper has 16, 32 and 64 filters, 32 × 32 pixels and
# 64,000 steps of 128 images. We have half the filters, smaller images and a few hundred steps of 32 images, since
# this must run in minutes.
#
# To count networks, and to draw them, we need their weights' shapes and no values: `architectures.outline` gives such
# a network in an instant. Each is made and counted once.


# %%
@functools.cache
def outline(name, *arguments, **options):
    """The network of a name, its weights without values."""
    return architectures.outline(name, *arguments, **options)


@functools.cache
def counted(name, *arguments, **options):
    """dict of its parameters, statistics, MACs and bytes of maps."""
    return arithmetic.totals(outline(name, *arguments, **options))


rows = {}
for kind in ("plain", "resnet"):
    for depth in depths:
        total = counted(f"{kind}{depth}", x.shape[1:], len(classes), width=width)
        rows[f"{kind}{depth}"] = {"parameters": f"{total['params']:,}", "MACs": f"{total['macs'] / 1e6:.1f} M"}
pd.DataFrame(rows).T

# %% [markdown]
# Training is stochastic gradient descent with momentum .9, as in the paper. Departures: Nesterov's form of it,
# neither weight decay nor augmentation, and a learning rate that rises during the first tenth of the steps and falls
# during the last third. A point of a loss curve is the mean over the steps since the point before. Each network is
# trained `repeats` times, from new weights and in a new order.


# %%
def begin_again(model, make, run):
    """Weights as of a fresh network of this run, an optimizer that has seen nothing; what is compiled stays so."""
    keras.utils.set_random_seed(seed + 1000 * run)
    fresh = make().get_weights()
    model.fit(x[:32], labels[:32], verbose=0)  # a new seed makes TensorFlow prepare its step again: not in the times
    model.set_weights(fresh)
    for variable in model.optimizer.variables:
        variable.assign(ops.zeros_like(variable))


def train(make, images, labels, tests, steps, optimizer):
    """(network of the first run, dict of training loss, test error and CPU seconds, arrays (repeats, looks))."""
    model = training.compile_classifier(make(), optimizer)
    curve = {name: np.zeros((repeats, looks)) for name in ("loss", "test error", "seconds")}
    for run in reversed(range(repeats)):
        begin_again(model, make, run)
        for look, part in enumerate(np.array_split(np.arange(steps), looks)):
            batches = transfer.repeat(images, labels, len(part), 32, seed + 1000 * run + look)
            begin = time.process_time()
            curve["loss"][run, look] = model.fit(*batches, batch_size=32, shuffle=False, verbose=0).history["loss"][0]
            curve["seconds"][run, look] = time.process_time() - begin
            guesses = transfer.predict(model, tests[0], batch_size=100).argmax(axis=1)
            curve["test error"][run, look] = np.mean(guesses != tests[1])
    return model, curve | {"seconds": curve["seconds"].cumsum(axis=1)}


# %% [markdown]
# One departure from the paper: the last batch normalisation of every residual branch starts with a scale γ of 0, so
# that at first each block is its shortcut and nothing else (Goyal et al. 2017). The paper starts with γ = 1, like
# every other normalisation. In a run as short as ours this matters; we come back to it.


# %%
def very_deep(name):
    """A plain or residual network for small images, untrained."""
    model = architectures.build(name, x.shape[1:], len(classes), width=width)
    for layer in model.layers:
        if name.startswith("resnet") and layer.name.endswith("_conv2_bn"):
            layer.gamma.assign(last_gamma * ops.ones_like(layer.gamma))
    return model


trained, curves = {}, {}
for kind in ("plain", "resnet"):
    for depth in depths:
        name = f"{kind}{depth}"
        make = functools.partial(very_deep, name)
        rate = training.WarmupHoldDecay(0.1, steps, max(1, steps // 10), decay=0.35)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
        trained[name], curves[name] = train(make, x, labels, (x_test, test_labels), steps, optimizer)

# %% tags=["thumbnail"]
at = np.linspace(steps / looks, steps, looks)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
for ax, kind in zip(axes, ("plain", "resnet")):
    losses = {f"{depth} layers": curves[f"{kind}{depth}"]["loss"] for depth in depths}
    plots.curves(losses, at, "step", "training loss", {"guessing": math.log(len(classes))}, title=kind, ax=ax)

# %%
last = {name: curve["loss"][:, -1] for name, curve in curves.items()}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True)
plots.bars(last, "training loss at the end", ax=axes[0])
errors = {name: curve["test error"][:, -1] for name, curve in curves.items()}
plots.bars(errors, "test error", {"guessing": 1 - chance}, ax=axes[1])
axes[0].invert_yaxis()  # each of the two turned the common axis round
shallow, deep = depths[0], depths[-1]
record(
    plain_shallow_loss=last[f"plain{shallow}"].mean(),
    plain_deep_loss=last[f"plain{deep}"].mean(),
    resnet_shallow_loss=last[f"resnet{shallow}"].mean(),
    resnet_deep_loss=last[f"resnet{deep}"].mean(),
    degradation=(last[f"plain{deep}"] - last[f"plain{shallow}"]).mean(),
)

# %% [markdown]
# With seeds 0, 1 and 2 (two trainings of each network in each) we measured mean losses of 1.23, 1.35 and 1.42 at 20
# layers and 1.79, 1.79 and 1.75 at 56 without shortcuts; guessing is 1.79, so the deeper network has learnt next to
# nothing about its own *training* images. That is degradation. With shortcuts it was 1.50, 1.37 and 1.26 at 20 layers
# and 1.34, 1.33 and 1.08 at 56: the deeper network is not behind. What such a run shows is how fast networks *learn*,
# not where they end: it is 300 steps against the paper's 64,000, and every one of the four would come down further
# with more of them. That at 20 layers the residual network was behind the plain one with one seed, level with the
# next and ahead with the third is no contradiction. Its blocks have to grow out of γ = 0 first, and at 20 layers
# there is little to mend.
#
# Two other runs, for comparison, of the lab's networks (14 and 38 layers of full width, one seed each). Test images
# right:
#
# | | plain, 14 | plain, 38 | residual, 14 | residual, 38 |
# |---|---|---|---|---|
# | 300 steps, γ = 1 as in the paper | 90 % | 23 % | 70 % | 48 % |
# | 400 steps, γ = 0 (`course run 04 --kind solution`) | 59 % | 26 % | 68 % | 83 % |
#
# The deep plain network hardly learns in either. With γ = 1 the deep residual network is slow too, and the *shallow*
# residual one is behind the shallow plain one: in so few steps the picture may even look reversed. With γ = 0 the
# deeper residual network is the better one. And the same plain network of 14 layers ends at 90 or at 59 %: single
# short runs scatter widely, so look at the large differences alone.
#
# > **What the slide says.** "Residual connections allow deeper networks without increasing the training *time*." It
# > is the training *error* that does not increase. Time does: the deeper network has about three times the MACs, and
# > the CPU seconds follow.

# %%
seconds = {name: curve["seconds"][:, -1] for name, curve in curves.items()}
plots.bars(seconds, "CPU seconds", title=f"{steps} training steps, on this machine")

# %% [markdown]
# ## The residual block
#
# Let a block compute F(x), and give on **x + F(x)**. If the best that the block can do is to change little, then F
# must become small, which weights near zero do. A plain block would have to learn the centre-one filters from above
# instead. "To do nothing" becomes the easy case. The sum costs no parameters and no MACs.
#
# Where the size changes, x and F(x) do not fit together. Then the shortcut is a **projection**: a 1 × 1 convolution
# with stride 2 and the new number of channels (middle). Right, the **bottleneck** of the deeper networks: a 1 × 1
# convolution takes 256 channels down to 64, the 3 × 3 works on 64, a 1 × 1 goes up again.

# %%
resnet34, resnet50 = outline("resnet34"), outline("resnet50")
plots.block_diagrams(
    {
        "identity": (resnet34, "stage2_block1"),
        "projection": (resnet34, "stage3_block1"),
        "bottleneck": (resnet50, "stage2_block2"),
    }
)

# %% [markdown]
# Why a bottleneck? Two 3 × 3 convolutions on 256 channels would have 2 · 9 · 256² = 1,179,648 weights. The bottleneck
# has 256 · 64 + 9 · 64² + 64 · 256 = 69,632, a seventeenth, and less than the 73,728 of a basic block on 64 channels.
# So a block with four times the channels costs the same.

# %%
basic, wide, narrow = 2 * 9 * 64**2, 2 * 9 * 256**2, 256 * 64 + 9 * 64**2 + 64 * 256
table = arithmetic.layer_table(resnet50).set_index("layer")
found = table.loc[[f"stage2_block2_conv{i}" for i in (1, 2, 3)], "params"].sum()
blocks = {"two 3×3, 64 channels": basic, "two 3×3, 256 channels": wide, "bottleneck, 256 channels": narrow}
plots.bars({name: count / 1e6 for name, count in blocks.items()}, "million weights")
assert found == narrow

# %% [markdown]
# > **What the slide says.** "Where the size changes, a projection with stride 2 and *valid padding*." With valid
# > padding the two 3 × 3 convolutions of the other branch would lose their borders, and nothing could be added: 56
# > pixels would become (56 − 3) // 2 + 1 = 27 and then 25, against the shortcut's 28. The 3 × 3 convolutions have one
# > zero on every side. (The 1 × 1 of the shortcut needs none: for it "valid" and "same" are the same.)

# %% tags=["nbval-check-output"]
sizes = {"1x1, stride 2 (shortcut)": arithmetic.output_size(56, 1, s=2)}
for name, zeros in {"valid": 0, "one zero": 1}.items():
    once = arithmetic.output_size(56, 3, s=2, p=zeros)
    sizes[f"3x3, stride 2, then 3x3: {name}"] = arithmetic.output_size(once, 3, p=zeros)
for name, size in sizes.items():
    print(f"{name:35} 56 -> {size}")

# %% [markdown]
# Three **options** for the shortcuts: A takes every second pixel and fills new channels with zeros, without any
# parameter; B projects where the shape changes; C projects everywhere. For 34 layers the paper measures top-1 errors
# of 25.0, 24.5 and 24.2 % [paper], against 28.5 % without shortcuts: having them matters, their kind hardly. B became
# the usual one. Count what they cost:

# %%
options = {option: counted("resnet34", shortcuts=option)["params"] / 1e6 for option in ("A", "B", "C")}
plain = counted("plain34")["params"] / 1e6
plots.bars({"plain": plain} | options, "million parameters", title="34 layers, shortcuts of each kind")

# %% [markdown]
# ## The family
#
# ResNet's five sizes are one table. A 7 × 7 convolution and a pool bring 224 pixels down to 56, then four stages
# follow, with maps of 56, 28, 14 and 7. (In the table, *statistics* are batch normalisation's running means and
# variances, which are not trained.) Layers are counted as convolutions on the main path, plus the dense layer:
# for 152 we expect 3 · (3 + 8 + 36 + 3) + 2 = 152.


# %%
def main_path(model):
    """Number of convolutions and dense layers, projections not counted."""
    weighted = [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.Dense))]
    return sum("shortcut" not in layer.name for layer in weighted)


rows = {}
for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    model, total = outline(name), counted(name)
    ends = [layer.name for layer in model.layers if layer.name.endswith("_add")]
    counts = [sum(end.startswith(f"stage{stage}_") for end in ends) for stage in (2, 3, 4, 5)]
    figures = (main_path(model), total["params"], total["statistics"], total["macs"])
    rows[name] = ["-".join(map(str, counts)), *(f"{value:,}" for value in figures)]
columns = ["blocks by stage", "layers", "parameters", "statistics", "MACs"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# > **What the slide says.** "ResNet-156." There is none: the largest of the paper has **152** layers. And there could
# > be none of this form: bottlenecks come in threes, and 156 − 2 = 154 is no multiple of 3.
#
# > **What the slide says.** "101 ResNet layers have the same size and speed as 16 VGG layers." They have a third of
# > the parameters and half the MACs: 44.5 against 138.4 million, and 7.6 against 15.5 billion (7.8 with the stride in
# > the 3 × 3, as the released code has it). Time is another matter, and we measure it below.

# %%
large = {name: counted(name) for name in ("vgg16", "resnet101")}
strided = counted("resnet101", stride_in="3x3")
large["resnet101, stride in 3×3"] = strided
figure, axes = plt.subplots(1, 2, figsize=(8, 1.9), sharey=True)
plots.bars({name: total["params"] / 1e6 for name, total in large.items()}, "million parameters", ax=axes[0])
plots.bars({name: total["macs"] / 1e9 for name, total in large.items()}, "billion MACs", ax=axes[1])
axes[0].invert_yaxis()

# %% [markdown]
# ### Five printed counts
#
# > **What the slide says.** "ResNet-18, 34, 50, 101, 152: 11.174, 21.282, 23.521, 42.513, 58.157 million parameters."
# > These are not the ImageNet networks of the table above, 11.69 to 60.19 million. With their classifiers removed
# > they come near, not equal: 11,176,512 is 11.177 million.
#
# Which networks have these counts? A stem of one 3 × 3 convolution instead of 7 × 7 takes away 3 · 64 · (49 − 9) =
# 7,680 weights; a dense layer for ten classes has 5,130 in the small two and 20,490 in the others. So we predict
# 11,176,512 − 7,680 + 5,130 = 11,173,962: networks for **CIFAR-10**.

# %%
rows = {}
for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    whole, classifier = counted(name)["params"], outline(name).get_layer("logits").count_params()
    rows[name] = {
        "3×3 stem, ten classes": counted(name, (32, 32, 3), 10, stem="3x3")["params"],
        "ImageNet without classifier": whole - classifier,
        "ImageNet": whole,
    }
printed = [11.174, 21.282, 23.521, 42.513, 58.157]
counts = pd.DataFrame(rows).T.assign(printed=printed)
counts.style.format("{:,.0f}").format("{:.3f} M", subset=["printed"])

# %% tags=["nbval-check-output"]
matches = [f"{count / 1e6:.3f}" == f"{told:.3f}" for count, told in zip(counts["3×3 stem, ten classes"], printed)]
print(f"{sum(matches)} of {len(matches)} printed figures are the counts of networks with a 3x3 stem and ten classes")

# %% [markdown]
# ## Why do shortcuts help?
#
# One deck says that plain networks fail because **gradients vanish**; another calls it "an optimization issue". He et
# al. write that vanishing is *unlikely* to be the cause, since with batch normalisation "neither forward nor backward
# signals vanish". Their guess: plain deep networks converge very slowly. We need not choose by authority. The norm of
# the gradient of every layer's weights can be measured.
#
# A step of gradient descent at rate r moves the weights by −r times their gradient, so one step with a huge r, undone
# afterwards, gives it without any calculus.


# %%
def gradient_norms(model, x, labels, rate=1e6):
    """Norm of the gradient of every 3x3 kernel, from the image to the logits, on one batch in training mode."""
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, layers.Conv2D)]
    kernels = [kernel for kernel in kernels if kernel.shape[0] == 3]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, run_eagerly=True)
    weights = model.get_weights()
    before = [ops.convert_to_numpy(kernel).copy() for kernel in kernels]
    model.train_on_batch(x, labels)
    after = [ops.convert_to_numpy(kernel) for kernel in kernels]
    model.set_weights(weights)
    return np.array([np.linalg.norm((a - b) / rate) for a, b in zip(after, before)])


# %% [markdown]
# First the untrained network, and five ways to build it. A tower of blocks of two 3 × 3 convolutions, all of one
# size, as deep as the deeper network above: with Glorot's initial weights (made for symmetric activations: each ReLU
# halves the signal's power), with He's (twice the variance, made for ReLU), with batch normalisation; and the latter
# two with shortcuts.


# %%
def tower(depth, shortcuts, normalised, initializer="he_normal", filters=8):
    """`depth` convolutions in blocks of two, with or without shortcuts and batch normalisation."""
    image = layers.Input(x.shape[1:])
    x_in = layers.Conv2D(filters, 3, padding="same", kernel_initializer=initializer)(image)
    for _ in range(depth // 2):
        y = x_in
        for half in (1, 2):
            y = layers.ReLU()(y) if half == 2 else y
            y = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=initializer)(y)
            y = layers.BatchNormalization()(y) if normalised else y
        x_in = layers.ReLU()(layers.Add()([x_in, y]) if shortcuts else y)
    logits = layers.Dense(len(classes))(layers.GlobalAveragePooling2D()(x_in))
    return keras.Model(image, logits)


# %%
untrained = {
    "plain, Glorot": (False, False, "glorot_uniform"),
    "plain, He": (False, False, "he_normal"),
    "plain, batch norm": (False, True, "he_normal"),
    "shortcuts, He": (True, False, "he_normal"),
    "shortcuts, batch norm": (True, True, "he_normal"),
}
norms = {}
for name, choice in untrained.items():
    keras.utils.set_random_seed(seed)
    norms[name] = gradient_norms(tower(deep - 2, *choice), x[:64], labels[:64])

# %%
figure, ax = plt.subplots(figsize=(8, 3.8))
plots.curves(norms, xlabel="convolution, from the image", ylabel="norm of the gradient", log_y=True, ax=ax)
ax.set_title("Before training")
ax.legend(ncols=2, loc=(0.02, 0.2), fontsize=9)

# %%
ends = {name: values[1:4].mean() / values[-3:].mean() for name, values in norms.items()}
record(
    gradient_ratio_glorot=math.log10(ends["plain, Glorot"]),
    gradient_ratio_plain=math.log10(ends["plain, batch norm"]),
    gradient_ratio_residual=math.log10(ends["shortcuts, batch norm"]),
)
text = {name: f"{ratio:.1e}" for name, ratio in ends.items()}
pd.DataFrame({"gradient near the image / near the logits": text})

# %% [markdown]
# What we measured, layer by layer:
#
# - *Plain, Glorot's weights, no normalisation*: every ReLU halves the signal's power, 54 times in a row, and the
#   gradients are tiny in **all** layers, some 10⁻¹¹. This is what "vanishing" means.
# - *Plain, He's weights*: small, but far from nothing in every layer. Good initial weights had mended it before
#   ResNet came.
# - *Plain, batch normalisation*, the kind of network that degrades: the gradients do not vanish. Towards the image
#   they **grow**, to a thousand times what they are near the logits. Normalising each layer's output on the way
#   forward multiplies the gradient by a little more than one in each layer on the way back (Yang et al. 2019 derive
#   the factor).
# - *Shortcuts without normalisation*: each sum doubles the signal's power, so everything is large, 10⁴ and more, in
#   all layers alike.
# - *Shortcuts and batch normalisation*, ResNet: within a factor of ten from the first layer to the last.
#
# So "vanishing gradients" is the wrong reason for the networks at hand, and He et al. were right to doubt it. "An
# optimization issue" is right, and says little. What we can say: at the start of training, in such a tower, one
# learning rate must serve layers whose gradients differ a thousandfold; with shortcuts, the layers are on one scale.
# After training:

# %%
trained_norms = {name: gradient_norms(trained[name], x[:64], labels[:64]) for name in (f"plain{deep}", f"resnet{deep}")}
plots.curves(
    trained_norms,
    xlabel="convolution, from the image",
    ylabel="norm of the gradient",
    log_y=True,
    title="After training",
)

# %% [markdown]
# Now the plain network's gradients are *smaller* near the image, by a factor of ten or so (and 10⁻³ is far from the
# 10⁻¹¹ of gradients that have vanished). The residual network's are larger than the plain one's in most layers, and
# show no trend from first to last. So the thousandfold of the beginning is no property of the layers alone: weights
# and scales adapt to each other, also in a network that does not learn.
#
# ## The loss surface
#
# Another look at the same question. The loss is a function of all weights. Around the point θ that training has
# reached, we look at a plane: loss(θ + a·d₁ + b·d₂) for two random directions. Weights of a network with batch
# normalisation have no natural scale, since each filter may be multiplied by any factor, and a step that is large for
# one network is small for another. Li et al. (2018) therefore make the directions **filter-normalised**: each filter
# of d gets the norm of the same filter of θ. A step of a = 1 then changes every filter by its own length. What is not
# a filter stays where it is.


# %%
def direction(weights, rng):
    """A random direction, each of its filters as long as the filter of the weights; zero for biases and normalisations."""
    parts = []
    for weight in weights:
        part = rng.normal(size=weight.shape) if weight.ndim > 1 else np.zeros(weight.shape)
        axes = tuple(range(weight.ndim - 1))  # a filter is all that leads to one output channel
        if weight.ndim > 1:
            lengths = [np.sqrt((array**2).sum(axis=axes, keepdims=True)) for array in (weight, part)]
            part *= lengths[0] / lengths[1]
        parts.append(part.astype("float32"))
    return parts


# %%
def surface(model, images, labels, reach=1.0):
    """Loss (grid, grid) on the plane through the model's weights, from -reach to reach along two directions."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(jit_compile=training.jit_compile())
    centre, rng = model.get_weights(), np.random.default_rng(seed)
    first, second = direction(centre, rng), direction(centre, rng)
    values, steps_ = np.zeros((grid, grid)), np.linspace(-reach, reach, grid)
    for (row, column), _ in np.ndenumerate(values):
        a, b = steps_[column], steps_[row]
        model.set_weights([w + a * d + b * e for w, d, e in zip(centre, first, second)])
        values[row, column] = loss(labels, model.predict_on_batch(images))
    model.set_weights(centre)
    return values


# %%
surfaces = {}
for name in (f"plain{deep}", f"resnet{deep}"):
    surfaces[name] = surface(trained[name], x[:surface_images], labels[:surface_images])

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True)
levels = np.geomspace(0.02, 100, 25)
for ax, (name, values) in zip(axes, surfaces.items()):
    steps_ = np.linspace(-1, 1, grid)
    shown = np.clip(values, levels[0], levels[-1])
    drawn = ax.contourf(steps_, steps_, shown, levels, norm="log", cmap="viridis")
    ax.contour(steps_, steps_, values, [math.log(len(classes))], colors="white", linewidths=1)
    ax.plot(0, 0, "o", color=plots.VERMILLION)
    ax.set(title=name, xlabel="a", aspect="equal")
    ax.grid(False)
axes[0].set_ylabel("b")
_ = figure.colorbar(drawn, ax=axes, label="training loss", shrink=0.8, ticks=[0.1, 1, 10, 100], format="%g")

# %% [markdown]
# Both pictures are slices through spaces of many thousand dimensions, in two directions of chance, so they prove
# nothing. Li et al. trained 56 layers to the end, and found smooth, almost convex surroundings with shortcuts, and
# rough ones with steep walls without them. The white line is the loss of guessing, log 6 = 1.8. Is the red point
# inside it, and how far away is it? (A network that has learnt nothing has no inside.) With seeds 0 and 1 our
# plain network sat on a plain at the height of guessing, with steep walls around it; with seed 2 in a wide hollow, a
# little below that height. The residual one lay in a hollow with gentle slopes with seeds 0 and 2; with seed 1 this
# training had only just begun to learn, and its picture was like the plain one's. A surface tells where training has
# arrived, as much as what the network is.
#
# ## Two relatives
#
# **Highway networks** (Srivastava, Greff and Schmidhuber 2015) came half a year earlier. They carry x by a gate: y =
# T(x) · H(x) + (1 − T(x)) · x, with T learnt and between 0 and 1. A ResNet gives both terms the factor 1, always:
# nothing can close its shortcut, and no weights are needed to steer it. **Pre-activation** (He et al. 2016, the
# second paper) moves batch normalisation and ReLU in front of the convolutions: nothing stands on the path from sum
# to sum any more, and networks of 1,000 layers train.

# %%
highway, preactivated = outline("highway20"), outline("resnet20_v2")
plots.block_diagrams(
    {
        "highway": (highway, "stage1_block2"),
        "residual": (outline("resnet20"), "stage1_block2"),
        "pre-activated": (preactivated, "stage1_block2"),
    }
)

# %% [markdown]
# What do the gates cost? Each of the nine blocks gets a third 3 × 3 convolution, with biases: we expect about one and
# a half times the weights. Pre-activation costs nothing: 269,722 in both.

# %% tags=["nbval-check-output"]
for name in ("plain20", "resnet20", "resnet20_v2", "highway20"):
    total = counted(name)
    print(f"{name:12} {total['params']:>9,} parameters {total['macs']:>12,} MACs")

# %% [markdown]
# ## Split, transform, add: ResNeXt
#
# From here on each family gets its block drawn and counted, and the small version of seven of them is trained at the
# end.
#
# Xie et al. (2017) divide the 3 × 3 convolution of the bottleneck into **groups**. Each of 32 groups reads only its
# own 4 channels (32 × 4d). The number of groups is called *cardinality*. All 32 groups together have a 32nd of the
# weights of a full convolution of that width, so the 3 × 3 can be twice as wide, 128 channels in place of 64, and the
# block still costs the same.

# %%
recalibrated = outline("seresnet50")
plots.block_diagrams(
    {
        "ResNet": (resnet50, "stage2_block2"),
        "ResNeXt": (outline("resnext50_32x4d"), "stage2_block2"),
        "SE-ResNet": (recalibrated, "stage2_block2"),
    }
)

# %% [markdown]
# The paper's table of cardinalities at equal cost: C groups of d channels, C · (256 d + 9 d² + 256 d) weights. For 32
# groups of 4 we predict 32 · (1,024 + 144 + 1,024) = 70,144, for one of 64 the bottleneck's 69,632. Top-1 errors are
# the paper's, for 50 layers [paper].

# %%
rows = []
for groups, group_width, error in ((1, 64, 23.9), (2, 40, 23.0), (4, 24, 22.6), (8, 14, 22.3), (32, 4, 22.2)):
    model = outline("resnext50_32x4d", cardinality=groups, group_width=group_width)
    block = arithmetic.layer_table(model).set_index("layer")
    weights = block.loc[[f"stage2_block2_conv{i}" for i in (1, 2, 3)], "params"].sum()
    rows.append((f"{groups} × {group_width}d", groups * group_width, f"{weights:,}", error))
pd.DataFrame(rows, columns=["C × d", "width of the 3×3", "weights of a block", "top-1 error, % [paper]"])

# %% [markdown]
# A grouped convolution is the sum form in disguise: 32 narrow bottlenecks side by side, each with its own way up to
# 256 channels, added together. Check it with four paths: cut the filters apart, run each path alone, add.

# %% tags=["nbval-check-output"]
rng = np.random.default_rng(0)
signal = rng.normal(size=(1, 6, 6, 8)).astype("float32")
middle, up = rng.normal(size=(3, 3, 2, 8)).astype("float32"), rng.normal(size=(1, 1, 8, 16)).astype("float32")
grouped = np.concatenate(
    [ops.conv(signal[..., 2 * g : 2 * g + 2], middle[..., 2 * g : 2 * g + 2], padding="same") for g in range(4)],
    axis=-1,
)
whole = ops.convert_to_numpy(ops.conv(grouped, up))  # groups side by side, then one 1x1
paths = sum(
    ops.convert_to_numpy(ops.conv(grouped[..., 2 * g : 2 * g + 2], up[:, :, 2 * g : 2 * g + 2])) for g in range(4)
)
print(f"four groups and one 1x1 equal a sum of four paths: {np.allclose(whole, paths, atol=1e-3)}")

# %% [markdown]
# ## Weighing channels: SENet
#
# **Squeeze and excitation** (Hu, Shen and Sun 2018), right in the picture above, asks the whole image which channels
# matter. Squeeze: the average of each channel, C numbers. Excitation: two small dense layers, C → C/16 → C (drawn as
# 1 × 1 convolutions on a 1 × 1 map, the same numbers), and a sigmoid, which gives each channel a weight between 0 and
# 1. Scale: multiply. The authors call this *recalibrating* the channels. For 256 channels we predict 256 · 16 +
# 16 + 16 · 256 + 256 = 8,464 parameters.

# %%
added = arithmetic.layer_table(recalibrated).set_index("layer")
assert added.loc[["stage2_block2_se_reduce", "stage2_block2_se_expand"], "params"].sum() == 8464
keys = ("params", "macs", "activation_bytes")
extra = {key: counted("seresnet50")[key] / counted("resnet50")[key] - 1 for key in keys}
plots.bars(
    {
        "parameters": 100 * extra["params"],
        "MACs": 100 * extra["macs"],
        "bytes of maps": 100 * extra["activation_bytes"],
    },
    "% more than ResNet-50",
)

# %% [markdown]
# A tenth more parameters and next to no MACs: the dense layers work on one pixel. But a third more memory for feature
# maps, since the weighed maps stand beside the unweighed ones. For it, the top-1 error falls from
# 24.8 to 23.3 % [paper], nearly that of 101 layers.
#
# ## Keep everything: DenseNet
#
# Huang et al. (2017) do not add, they **concatenate**. Each layer sees the maps of all layers before it in its block
# and adds k new ones; k is the *growth rate*. With k₀ channels at the start, layer l reads k₀ + k(l − 1). With k₀ =
# 64 and k = 32 the sixth and last layer of the first block reads 224, and the block ends with 256.

# %%
densenet = outline("densenet121")
plots.block_diagrams({"two layers of a dense block": (densenet, ["stage1_layer1", "stage1_layer2"])}, width=4)

# %%
figure, ax = plt.subplots(figsize=(8, 2.8))
position, ticks = 0, {}
for stage, count in enumerate((6, 12, 24, 16), 1):
    ends = [densenet.get_layer(f"stage{stage}_layer{layer}_concat").output.shape[-1] for layer in range(1, count + 1)]
    start_channels = ends[0] - 32
    at = np.arange(count) + position
    ax.bar(at, [start_channels] * count, color=plots.GREY, width=1, label="came in" if stage == 1 else None)
    ax.bar(at, np.array(ends) - start_channels, bottom=start_channels, color=plots.BLUE, width=1,
           label="made in this block" if stage == 1 else None)  # fmt: skip
    ticks[position + count / 2] = f"block {stage}\n{start_channels} to {ends[-1]}"
    position += count + 1.5
ax.set_xticks(list(ticks), list(ticks.values()))
ax.set(ylabel="channels", title="DenseNet-121: each layer adds 32 channels; between blocks half of them go")
ax.legend()

# %% [markdown]
# Before each 3 × 3, a 1 × 1 bottleneck brings whatever came in down to 4k = 128 channels; between blocks a 1 × 1
# keeps half. Counted, trainable weights alone (Keras prints 83,648 more for 121 layers, since it adds the running
# statistics):

# %%
rows = {}
for name in ("densenet121", "densenet169", "densenet201", "resnet50"):
    total = counted(name)
    megabytes = total["activation_bytes"] / 1e6
    rows[name] = [
        f"{total['params']:,}",
        f"{total['statistics']:,}",
        f"{total['macs'] / 1e9:.2f} G",
        f"{megabytes:.0f} MB",
    ]
pd.DataFrame.from_dict(rows, orient="index", columns=["parameters", "statistics", "MACs", "maps of one image"])

# %% [markdown]
# A third of the parameters of ResNet-50 for about the same accuracy [paper]: features are used again, not computed
# again. Memory is not saved with the parameters: 74 MB of maps against ResNet-50's 70, since every concatenation is a
# copy; in training it is more, since each layer normalises anew all that came in.
#
# ## One filter for each channel
#
# A standard convolution does two things at once: it filters in space, and it mixes channels. A **depthwise
# separable** convolution does one after the other. *Depthwise*: one k × k filter for each channel, without mixing.
# *Pointwise*: a 1 × 1 convolution that mixes, without looking around. The price falls from k² · C · K to k² · C + C ·
# K for each position, that is to 1/K + 1/k² of it.
#
# Worked: a 12 × 12 image with 3 channels, 5 × 5 filters, 256 channels out. Without padding, 8 × 8 positions:
#
# - standard: 8 · 8 · 25 · 3 · 256 = 1,228,800 MACs;
# - separable: 8 · 8 · 25 · 3 + 8 · 8 · 3 · 256 = 4,800 + 49,152 = 53,952 MACs.
#
# With padding "same", 12 × 12 positions: 2,764,800 against 121,392. The ratio is 1 / (1/256 + 1/25) = 22.8 in both.

# %%
rows = {}
for padding in ("valid", "same"):
    image = layers.Input((12, 12, 3))
    options = {"padding": padding, "use_bias": False}
    pairs = {
        "standard": layers.Conv2D(256, 5, **options)(image),
        "separable": layers.Conv2D(256, 1, use_bias=False)(layers.DepthwiseConv2D(5, **options)(image)),
    }
    rows[padding] = {kind: arithmetic.totals(keras.Model(image, y))["macs"] for kind, y in pairs.items()}
    rows[padding]["times"] = rows[padding]["standard"] / rows[padding]["separable"]
separable = pd.DataFrame(rows).T
record(separable_gain_valid=separable.loc["valid", "times"], separable_gain_same=separable.loc["same", "times"])
separable.style.format("{:,.0f}").format("{:.1f}", subset=["times"])

# %% [markdown]
# > **What the slide says.** It compares a standard convolution with a 12 × 12 output to a separable one with an 8 × 8
# > output (or the other way round). Then the saving seems to be 51 times (2,764,800 / 53,952) or 10 times (1,228,800
# > / 121,392). With equal outputs it is 22.8 times, whatever the padding.
#
# With 5 × 5 filters the saving can approach 25 times. With 3 × 3 filters the limit is 9, however many channels there
# are:

# %%
channels = np.array([8, 16, 32, 64, 128, 256, 512])
gains = {f"{k} × {k}": 1 / (1 / channels + 1 / k**2) for k in (3, 5, 7)}
limits = {"9": 9, "25": 25, "49": 49}
ax = plots.curves(gains, channels, "channels out", "times cheaper", limits, log_x=True)
ax.set_ylim(0, 60)
ax.legend(ncols=6, fontsize=9)
ax.set_xticks(channels, [str(count) for count in channels])
ax.minorticks_off()

# %% [markdown]
# ### MobileNet
#
# Howard et al. (2017) build a whole network of them: a 3 × 3 convolution, then 13 pairs of depthwise and pointwise,
# an average and a dense layer. Their Table 1, made from our model. A width multiplier α ≤ 1 thins every layer; it
# multiplies the MACs by about α². (The released networks use ReLU6(x) = min(max(x, 0), 6), as the drawing shows; the
# paper writes ReLU.)

# %%
mobilenet = outline("mobilenet")
plots.block_diagrams(
    {
        "MobileNet": (mobilenet, "stage2_block2"),
        "MobileNet v2": (outline("mobilenet_v2"), "stage2_block2"),
        "ShuffleNet": (outline("shufflenet_v1_g3"), "stage2_block2"),
    }
)

# %%
rows = []
for layer in mobilenet.layers:
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
        kind = {"DepthwiseConv2D": "Conv dw", "Conv2D": "Conv", "Dense": "FC"}[type(layer).__name__]
        stride = f" / s{layer.strides[0]}" if kind != "FC" else ""
        filters = " × ".join(str(size) for size in layer.kernel.shape)
        sizes = [" × ".join(map(str, tensor.shape[1:])) for tensor in (layer.input, layer.output)]
        rows.append((kind + stride, filters, *sizes))
pd.DataFrame(rows, columns=["type / stride", "filter", "input", "output"])

# %% [markdown]
# > **What the slide says.** The last depthwise row has "s2", as in the paper's Table 1, with an input of 7 × 7 × 1024
# > and the same size behind it. It is a misprint of the paper: with stride 2, 7 × 7 would become 4 × 4. Its stride is
# > 1.
#
# What does the work? The paper counts 95 % of the MACs and 75 % of the parameters in the 1 × 1 convolutions. Ours:

# %%
table = arithmetic.layer_table(mobilenet)
kinds = {"depthwise": "depthwise", "pointwise": "1 × 1", "stem": "3 × 3", "logits": "dense"}
table["kind"] = [next((kind for word, kind in kinds.items() if word in name), "") for name in table["layer"]]
table = table[~table["layer"].str.contains("bn")]
shares = 100 * table.groupby("kind")[["macs", "params"]].sum().loc[list(kinds.values())]
shares = shares / [counted("mobilenet")[key] for key in ("macs", "params")]
figure, axes = plt.subplots(1, 2, figsize=(8, 2.1), sharey=True)
for ax, column, name in zip(axes, ("macs", "params"), ("MACs", "parameters")):
    plots.bars(shares[column].to_dict(), f"% of the {name}", ax=ax)
axes[0].invert_yaxis()

# %% [markdown]
# ### MobileNet v2: wide inside, linear outside
#
# MobileNet v2 (Sandler et al. 2018) turns the bottleneck round. Its shortcut joins *narrow* maps; between them the
# block is six times wider, and there the cheap depthwise convolution works: an **inverted residual**. And the last 1
# × 1 has *no activation*, since ReLU loses what a narrow layer holds. The paper's argument as a picture: a curve in
# two dimensions is embedded into n by a random matrix, sent through ReLU, and brought back by the matrix's
# pseudo-inverse. What of it survives?

# %%
turns = np.linspace(0, 3 * np.pi, 300)
curve = np.stack([turns * np.cos(turns), turns * np.sin(turns)], axis=1) / turns.max()
figure, axes = plt.subplots(1, 5, figsize=(8, 1.9))
rng = np.random.default_rng(seed)
for ax, n in zip(axes, (None, 2, 3, 10, 30)):
    matrix = rng.normal(size=(2, n)) if n else np.eye(2)
    back = np.maximum(curve @ matrix, 0) @ np.linalg.pinv(matrix) if n else curve
    ax.scatter(*back.T, c=turns, cmap="viridis", s=4)
    ax.set(title=f"n = {n}" if n else "the curve", xticks=[], yticks=[])
    ax.grid(False)

# %% [markdown]
# In two or three channels whole stretches collapse; in thirty the curve is nearly all there. So: ReLU in the wide
# part, none where it is narrow. The same thought lies behind the first guideline below, *avoid tight bottlenecks*.
#
# ### ShuffleNet
#
# With depthwise filters the 1 × 1 convolutions cost most. ShuffleNet (Zhang et al. 2018) splits those into groups as
# well. Stacked groups would never exchange anything: group 1 of the output knows only group 1 of the input. So the
# channels are **shuffled** between two grouped convolutions: written as a table of groups × channels, transposed,
# read again.

# %%
before = np.arange(12, dtype="float32").reshape(1, 1, 1, 12)
after = ops.convert_to_numpy(ChannelShuffle(3)(before)).reshape(-1).astype(int)
figure, ax = plt.subplots(figsize=(8, 1.6))
for row, order in enumerate((np.arange(12), after)):
    for place, channel in enumerate(order):
        ax.add_patch(plt.Rectangle((place, -1.6 * row), 0.9, 0.8, color=plots.PALETTE[channel // 4], alpha=0.8))
        ax.text(place + 0.45, 0.4 - 1.6 * row, channel, ha="center", va="center", color="white", weight="bold")
for place, channel in enumerate(after):
    ax.plot([channel + 0.45, place + 0.45], [0, -0.8], color=plots.PALETTE[channel // 4], linewidth=1)
for cut in (3.95, 7.95):
    ax.plot([cut, cut], [-1.7, 0.9], color=plots.BLACK, linestyle=":")
ax.set(xlim=(-0.2, 12.2), ylim=(-1.8, 1), title="12 channels in 3 groups, before and after the shuffle")
ax.set_axis_off()

# %%
rows = {}
for name in (
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "shufflenet_v1_g3",
    "shufflenet_v2_x1_0",
):
    total = counted(name)
    rows[name] = [f"{total['params']:,}", f"{total['macs']:,}"]
pd.DataFrame.from_dict(rows, orient="index", columns=["parameters", "MACs"])

# %% [markdown]
# ## More relatives, drawn and counted
#
# **Wide ResNet** (Zagoruyko and Komodakis 2016): fewer blocks, each k times wider; 16 wide layers train faster than
# 1,000 thin ones and are as accurate. **PyramidNet** (Han, Kim and Kim 2017): every block is a little wider than the
# last, in place of a doubling at each halving of the map. **Xception** (Chollet 2017): an inception module driven to
# one filter for each channel, with shortcuts.

# %%
plots.block_diagrams(
    {
        "Wide ResNet": (outline("wrn_28_10"), "stage1_block2"),
        "PyramidNet": (outline("pyramidnet110_a48"), "stage1_block2"),
        "Xception": (outline("xception"), "middle_block1"),
    }
)

# %% [markdown]
# **Inception-ResNet** (Szegedy et al. 2017): the branches of an inception module, concatenated, brought back to the
# input's channels, scaled down and added. **SqueezeNet** (Iandola et al. 2016): a *fire module* squeezes to few
# channels, then expands by 1 × 1 and 3 × 3 side by side.

# %%
plots.block_diagrams(
    {
        "Inception-ResNet-v2": (outline("inception_resnet_v2"), "stage1_block1"),
        "SqueezeNet": (outline("squeezenet1_0"), "fire2"),
    }
)

# %% [markdown]
# **FractalNet** (Larsson, Maire and Shakhnarovich 2017) has no shortcut at all: columns of different depth side by
# side, joined by averaging. In training whole paths are dropped at random. It shows that what helps is a *short
# path*, more than an identity.

# %%
plots.block_diagrams({"FractalNet, one block of three columns": (outline("fractalnet20"), "stage1")})

# %% [markdown]
# **MobileNet v3** (Howard et al. 2019): inverted residuals found by a search, some with squeeze and excitation, and a
# cheap activation in the deeper half: h-swish(x) = x · ReLU6(x + 3) / 6. **ShuffleNet v2** (Ma et al. 2018): half of
# the channels pass by untouched, which serves as a shortcut and halves the work; at stride 2 there is no split: both
# branches read the whole map, and concatenation doubles the channels.

# %%
shuffled = outline("shufflenet_v2_x1_0")
plots.block_diagrams(
    {
        "MobileNet v3": (outline("mobilenet_v3_large"), "stage3_block2"),
        "ShuffleNet v2": (shuffled, "stage2_block2"),
        "ShuffleNet v2, stride 2": (shuffled, "stage2_block1"),
    }
)

# %% [markdown]
# How near is h-swish to swish, x · sigmoid(x)? We expect 0 below −3 and x above 3, as swish nearly has it, with no
# exponential to compute.

# %%
points = np.linspace(-6, 6, 121)
shapes = {
    "ReLU": np.maximum(points, 0),
    "swish": points / (1 + np.exp(-points)),
    "h-swish": ops.convert_to_numpy(keras.activations.hard_swish(points)),
}
plots.curves(shapes, points, "x", "activation")

# %%
rows = {}
for name in ("wrn_28_10", "wide_resnet50_2", "pyramidnet110_a48", "fractalnet20", "xception", "inception_resnet_v1",
             "inception_resnet_v2", "squeezenet1_0"):  # fmt: skip
    entry, total = architectures.describe(name), counted(name)
    side = f"{entry.input_shape[0]} × {entry.input_shape[1]}"
    rows[name] = [side, entry.classes, f"{total['params']:,}", f"{total['macs'] / 1e9:.2f} G"]
pd.DataFrame.from_dict(rows, orient="index", columns=["image", "classes", "parameters", "MACs"])

# %% [markdown]
# ## Six guidelines
#
# What the families have in common can be put into six rules. Each with its numbers.
#
# **1. Avoid tight bottlenecks.** The data volume H · W · C should fall slowly from image to answer; where it is
# squeezed early, information is lost for good. (ResNet's *bottleneck* blocks are no such place: the shortcut carries
# the wide map past them.)

# %%
figure, ax = plt.subplots(figsize=(8, 3.4))
for index, name in enumerate(("vgg16", "resnet50", "densenet121", "mobilenet_v2", "squeezenet1_0")):
    table = arithmetic.layer_table(outline(name))
    kept = table["type"].isin(["Add", "Concatenate", "MaxPooling2D", "AveragePooling2D"])
    kept |= table["layer"].str.fullmatch(r"stage\d_block1_project_bn")  # MobileNet v2's blocks without a sum
    maps = table[kept | (table["type"].eq("Conv2D") if name in ("vgg16",) else False)]
    volumes = [math.prod(shape) for shape in maps["output_shape"] if len(shape) == 3]
    ax.plot(np.linspace(0, 1, len(volumes)), volumes, color=plots.PALETTE[index], label=name, drawstyle="steps-post")
ax.axhline(224 * 224 * 3, color=plots.GREY, linestyle="--", label="the image")
ax.set(yscale="log", xlabel="way through the network", ylabel="values H · W · C", title="Data volume behind each block")
ax.legend(fontsize=9, ncols=2)

# %% [markdown]
# VGG, ResNet and SqueezeNet stay above the image's 150,528 values, or near them, for most of the way. MobileNet v2
# goes far below: the ends of its blocks are narrow on purpose. It keeps what it has by leaving the ReLU out there,
# and by a shortcut wherever the shape allows one.
#
# **2. Chains of small filters.** Two 3 × 3 see 5 × 5, three see 7 × 7, with fewer weights and more ReLUs between. For
# C channels in and out we expect 18 C² against 25 C², and 27 C² against 49 C².
#
# **3. Keep channels at bay.** Costs grow with the product of the channels in and out. A 1 × 1 that reduces them first
# pays for itself: the bottleneck above, 69,632 weights in place of 1,179,648.
#
# **4. Groups.** G groups divide the cost by G; in the extreme, G = C, one filter for each channel.
#
# **5. Low rank.** A k × k filter that is a column times a row costs 2k in place of k². The same holds for channels:
# depthwise and pointwise are a factorisation. What is split must be *mixed again*: by a 1 × 1, or by a shuffle.
#
# **6. Dilation.** Spread the taps of a 3 × 3 filter by d = 2 and it sees 5 × 5 for the price of 9 weights.

# %%
c = 256


def weights(kernel, groups=1, inside=c, outside=c):
    """Weights of one convolution, by the network's own count."""
    layer = layers.Conv2D(outside, kernel, padding="same", groups=groups, use_bias=False)
    layer.build((None, 14, 14, inside))
    return math.prod(layer.kernel.shape)


cheaper = {
    "2: 3×3, 3×3 for 5×5": weights(5) / (2 * weights(3)),
    "2: three 3×3 for 7×7": weights(7) / (3 * weights(3)),
    "3: 1×1 to 64, 3×3, 1×1 for two 3×3": 2 * weights(3) / (2 * weights(1, 1, c, 64) + weights(3, 1, 64, 64)),
    "4: 32 groups": weights(3) / weights(3, 32),
    "5: 7×1, 1×7 for 7×7": weights(7) / (weights((7, 1)) + weights((1, 7))),
    "5: depthwise, 1×1 for 3×3": weights(3) / (weights(3, c) + weights(1)),
    "6: 3×3, d = 2, for 5×5": weights(5) / weights(3),
}
plots.bars(cheaper, "times fewer weights", {"same": 1}, f"{c} channels in and out")

# %% [markdown]
# What is given up? A chain or a dilated filter sees as far, which the recurrence of topic 01 confirms; groups do not
# mix, low-rank filters are fewer functions. How far does each input channel reach? Count the output channels that
# depend on it, after two grouped convolutions of 16 channels in 4 groups: a quarter without the shuffle, all with it.

# %%
chains = {
    "5×5": [(5,)], "3×3, 3×3": [(3,), (3,)], "3×3, d = 2": [(3, 1, 0, 2)],
    "7×7": [(7,)], "three 3×3": [(3,)] * 3, "3×3, then 3×3 at d = 2": [(3,), (3, 1, 0, 2)],
}  # fmt: skip
sees = {name: int(arithmetic.receptive_field_chain(chain)["size"].iloc[-1]) for name, chain in chains.items()}
block = np.kron(np.eye(4), np.ones((4, 4)))  # which of 16 channels lead to which, in 4 groups
mixing = np.eye(16)[ops.convert_to_numpy(ChannelShuffle(4)(np.arange(16.0).reshape(1, 1, 1, 16))).ravel().astype(int)]
figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), width_ratios=[1.6, 1, 1])
plots.bars(sees, "pixels seen", ax=axes[0])
for ax, (name, reach) in zip(axes[1:], {"no shuffle": block @ block, "shuffle": block @ mixing @ block}.items()):
    ax.imshow(reach > 0, cmap="Blues", vmin=0, vmax=1.5)
    ax.set(title=f"{name}: {(reach > 0).mean():.0%}", xlabel="channel out", ylabel="channel in")
    ax.grid(False)

# %% [markdown]
# A *rank* can be computed for any filter. A blur is a column times a row, rank 1, and splits without loss. A random 7
# × 7 filter has rank 7, and a trained one will as a rule: split, it is only approximated. Architectures therefore do
# not split trained filters; they train split ones.

# %% tags=["nbval-check-output"]
binomial = np.array([1, 6, 15, 20, 15, 6, 1]) / 64
filters = {"blur": np.outer(binomial, binomial), "random": np.random.default_rng(0).normal(size=(7, 7))}
for name, kernel in filters.items():
    _, values, _ = np.linalg.svd(kernel)
    kept = values[0] ** 2 / (values**2).sum()
    print(f"{name:7} rank {np.linalg.matrix_rank(kernel)}; the best column times row holds {kept:.0%} of its power")

# %% [markdown]
# ## MACs are not time
#
# How many images a second does each network classify, *here*? One image at a time, after two warm-up passes, and the
# median counts. (The course's rule is the median of 100; a quick look takes fewer, see `timed`.) If time followed the
# MACs, all points would lie on a falling straight line.


# %%
def images_per_second(name):
    """By the median time of a forward pass with one image, through the compiled `predict_on_batch`."""
    model = architectures.build(name)
    model.compile(jit_compile=training.jit_compile())
    image = np.zeros((1, *model.input_shape[1:]), "float32")
    clock = []
    for _ in range(timed + 2):
        begin = time.perf_counter()
        model.predict_on_batch(image)
        clock.append(time.perf_counter() - begin)
    keras.utils.clear_session()
    return 1 / np.median(clock[2:])


speeds = {}
names = ("resnet18", "vgg16", "resnet50", "mobilenet", "mobilenet_v2", "resnet101", "resnext50_32x4d", "seresnet50",
         "densenet121", "squeezenet1_0", "mobilenet_v3_large", "shufflenet_v1_g3", "shufflenet_v2_x1_0")  # fmt: skip
for name in names[:timed_networks]:
    speeds[name] = images_per_second(name)


# %%
def numbered(ax, x, y, number, colour=plots.BLUE):
    """A point with a number in it: names would lie on each other."""
    ax.plot(x, y, "o", color=colour, markersize=11, alpha=0.85)
    ax.annotate(number, (x, y), color="white", fontsize=7, ha="center", va="center_baseline", annotation_clip=True)


def name_columns(figure, names, rows):
    """The names with their numbers, below the figure."""
    lines = [f"{number} {name}" for number, name in enumerate(names, 1)]
    for place in range(0, len(lines), rows):
        figure.text(0.06 + 0.24 * place / rows, -0.02, "\n".join(lines[place : place + rows]), va="top", fontsize=9)


# %%
macs = {name: counted(name)["macs"] for name in speeds}
figure, ax = plt.subplots(figsize=(8, 4.2))
rate = np.median([speeds[name] * macs[name] / 1e9 for name in names[:3] if name in speeds])
line = np.array([0.1, 20])
ax.plot(line, rate / line, color=plots.GREY, linestyle="--", label=f"{rate:.0f} billion MACs a second")
ranked = sorted(speeds, key=macs.get)
for number, name in enumerate(ranked, 1):
    numbered(ax, macs[name] / 1e9, speeds[name], number)
ax.set(xscale="log", yscale="log", xlabel="billion MACs", ylabel="images a second, batch 1")
ax.legend()
name_columns(figure, ranked, 5)

# %% [markdown]
# Time does not follow MACs alone. Networks of standard convolutions lie near one line. Those that save arithmetic lie
# below it: per MAC they are slower, since depthwise and grouped convolutions read and write as many values as before
# and compute little with each, and many small layers cost their overhead, however little they compute. They are still
# fast, only less so than their MACs promise: five networks between .14 and .6 billion MACs need similar times
# here. And 101 layers of ResNet are not of "the same speed" as 16 of VGG: where we measured, they were two to three
# times as fast.

# %%
rows = {name: [macs[name] / 1e9, speeds[name], speeds[name] * macs[name] / 1e9] for name in speeds}
columns = ["billion MACs", "images a second", "billion MACs a second"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns).sort_values("images a second").style.format("{:.3g}")

# %% [markdown]
# ## The families, the same minutes
#
# The families were made for ImageNet. On small pictures with a few minutes of training the order may be another. We
# take a small relative of each, all with a 3 × 3 stem of stride 1, and train all of them for about the same CPU time:
# the number of steps of each is fixed from the measured time of a step, so that a run can be repeated exactly.

# %%
small = {
    "plain": ("plain18", {"stem": "3x3", "width": 0.25}),
    "ResNet": ("resnet18", {"stem": "3x3", "width": 0.25}),
    "ResNeXt": None,
    "SENet": ("seresnet50", {"stem": "3x3", "blocks": (1, 1, 1, 1), "width": 0.25}),
    "DenseNet": ("densenet_bc100_12", {"blocks": (4, 4, 4)}),
    "MobileNet": ("mobilenet_x0_25", {"stem_stride": 1}),
    "MobileNet v2": ("mobilenet_v2_x0_35", {"stem_stride": 1}),
    "ShuffleNet": ("shufflenet_v1_g3", {"stem_stride": 1, "width": 0.5, "repeats": (2, 3, 2)}),
}
x, labels, x_test, test_labels = loaded(family_size)


# %% [markdown]
# One thing first. On a CPU, TensorFlow's *gradient* of a grouped convolution is very slow, and the families with
# groups would pay for a program, not for their design. We know the remedy from above: groups are paths side by side.
# The same layer, the same weights, computed path by path:


# %%
class Paths(layers.Conv2D):
    """A grouped convolution as so many small ones."""

    def macs(self, input_shape):
        """Each weight works once at each place of the output: as in the grouped convolution."""
        return math.prod(self.compute_output_shape((1, *input_shape))[1:3]) * math.prod(self.kernel.shape)

    def call(self, x):
        parts = zip(ops.split(x, self.groups, axis=-1), ops.split(self.kernel, self.groups, axis=-1))
        y = ops.concatenate([ops.conv(part, kernel, self.strides, self.padding) for part, kernel in parts], axis=-1)
        return y + self.bias if self.use_bias else y


def by_paths(layer):
    """A copy of a layer; of a grouped convolution, its form in paths."""
    kind = Paths if isinstance(layer, layers.Conv2D) and layer.groups > 1 else type(layer)
    return kind.from_config(layer.get_config())


# %%
def step_time(convolution):
    """Milliseconds of a training step on 32 maps of 12 x 12 x 64: the median of five."""
    maps = layers.Input((12, 12, 64))
    model, clock = keras.Model(maps, convolution(maps)), []
    model.compile("sgd", "mse", jit_compile=training.jit_compile())
    for _ in range(6):
        begin = time.perf_counter()
        model.train_on_batch(np.zeros((32, 12, 12, 64)), np.zeros((32, 12, 12, 64)))
        clock.append(time.perf_counter() - begin)
    return 1e3 * np.median(clock[1:])


same = {"padding": "same", "use_bias": False}
kinds = {"full": layers.Conv2D(64, 3, **same), "8 groups": layers.Conv2D(64, 3, groups=8, **same),
         "8 paths": Paths(64, 3, groups=8, **same)}  # fmt: skip
plots.bars({name: step_time(layer) for name, layer in kinds.items()}, "milliseconds for a training step, here")


# %%
def relative(family):
    """The small network of a family, untrained."""
    if family == "ResNeXt":  # four bottlenecks, of 8 groups
        block = resnext.grouped(8, 8)
        model = resnet.frame("resnext", x.shape[1:], len(classes), True, (1, 1, 1, 1), block, "3x3", 0.25)
    else:
        name, options = small[family]
        model = architectures.build(name, x.shape[1:], len(classes), **options)
    return keras.models.clone_model(model, clone_function=by_paths)


rows = []
for family, count in zip(small, family_steps):
    total = arithmetic.totals(architectures.outline(lambda family=family: relative(family)))
    rows.append([f"{total['params']:,}", f"{total['macs'] / 1e6:.1f} M", count])
pd.DataFrame(rows, list(small), ["parameters", "MACs", "steps"])

# %%
families = {}
for family, count in zip(small, family_steps):
    if count:
        rate = training.WarmupHoldDecay(2e-3, count, max(1, count // 10), decay=0.5)
        make = functools.partial(relative, family)
        _, families[family] = train(make, x, labels, (x_test, test_labels), count, keras.optimizers.Adam(rate))

# %%
reached = {family: 1 - curve["test error"] for family, curve in families.items()}
spent = {family: curve["seconds"].mean(axis=0) for family, curve in families.items()}
figure, ax = plt.subplots(figsize=(8, 4))
plots.curves(reached, spent, "CPU seconds of training", "accuracy on test images", {"chance": chance}, ax=ax)

# %%
final = dict.fromkeys(small, np.full(repeats, chance))  # what is not trained can but guess
final |= {family: accuracies[:, -1] for family, accuracies in reached.items()}
plots.bars(final, "accuracy on test images at the end; the line spans the runs", {"chance": chance})
record(**{f"small_{family.lower().replace(' ', '_')}": values.mean() for family, values in final.items()})

# %% [markdown]
# Not ImageNet's order. With seeds 0, 1 and 2 the plain network of 18 layers reached .73, .77 and .66 and ResNet .66,
# .75 and .78: which of the two is ahead depends on the seed. SENet, DenseNet and ShuffleNet got about half right, ResNeXt
# .44 to .47, the two MobileNets .24 or .25, hardly more than chance. In
# a short run on small pictures a network gains from many cheap steps, and families that save MACs gain little of it
# on this machine: MobileNet needs a tenth of the plain network's MACs, and takes only one and a half times as many
# steps in the time, since depthwise convolutions and many small layers cost time without much arithmetic. (Why the
# narrow MobileNets learn so slowly in these steps we have not found out.) What carries over is the method: same
# pictures, same time, several runs, and no conclusion from a difference that is smaller than the lines are long.
#
# ## Which architecture?
#
# Published top-1 accuracies on ImageNet's validation images, one crop of the network's input size unless said
# otherwise, as the papers give them [paper]. We compute parameters and MACs ourselves.
#
# | from | networks |
# |---|---|
# | Howard et al. 2017, tables 8 and 9 | AlexNet, SqueezeNet, GoogLeNet, VGG-16, MobileNet |
# | Hu et al. 2018, table 2 (their own trainings) | ResNet-50, 101, 152, ResNeXt-50, SE-ResNet-50, Inception-ResNet-v2 |
# | Huang et al. 2017, table 3 | DenseNet-121, 169, 201 |
# | Sandler et al. 2018, table 4 | MobileNet v2 |
# | Howard et al. 2019, table 3 | MobileNet v3, large and small |
# | Zhang et al. 2018, table 2; Ma et al. 2018, table 8 | ShuffleNet v1 (g = 3), v2 |
# | Chollet 2017, table 1 | Xception |
# | Zagoruyko and Komodakis 2016, table 8 | Wide ResNet-50-2 |

# %%
published = {
    "alexnet": 57.2, "squeezenet1_0": 57.5, "googlenet": 69.8, "vgg16": 71.5, "mobilenet": 70.6,
    "resnet50": 75.2, "resnet101": 76.83, "resnet152": 77.58, "resnext50_32x4d": 77.89, "seresnet50": 76.71,
    "inception_resnet_v2": 79.63, "densenet121": 74.98, "densenet169": 76.2, "densenet201": 77.42, "mobilenet_v2": 72.0,
    "mobilenet_v3_large": 75.2, "mobilenet_v3_small": 67.4, "shufflenet_v1_g3": 67.4, "shufflenet_v2_x1_0": 69.4,
    "xception": 79.0, "wide_resnet50_2": 78.1,
}  # fmt: skip
rows = {}
for name, accuracy in published.items():
    total = counted(name)
    rows[name] = {"top-1": accuracy, "million parameters": total["params"] / 1e6, "billion MACs": total["macs"] / 1e9}
choice = pd.DataFrame(rows).T


# %%
def border(table, column):
    """The rows of the networks that no other one beats in accuracy at the same or a lower cost."""
    ordered = table.sort_values([column, "top-1"], ascending=[True, False])
    return ordered[ordered["top-1"] > ordered["top-1"].cummax().shift(fill_value=0)]


ranked = choice.sort_values("top-1", ascending=False)
figure, axes = plt.subplots(1, 2, figsize=(8, 5.6), sharey=True)
for ax, column in zip(axes, ("million parameters", "billion MACs")):
    best = border(choice, column)
    ax.plot(best[column], best["top-1"], color=plots.GREY, linestyle="--", linewidth=1, zorder=0)
    for number, (name, row) in enumerate(ranked.iterrows(), 1):
        numbered(ax, row[column], row["top-1"], number, plots.VERMILLION if name in best.index else plots.BLUE)
    ax.set(xscale="log", xlabel=column, ylim=(66.5, 80.5))
axes[0].set_ylabel("published top-1 accuracy, %")
name_columns(figure, ranked.index, 6)
figure.suptitle("Orange: nothing is both cheaper and better (AlexNet and SqueezeNet, at 57 %, lie below)")

# %% [markdown]
# And as one number each: points of accuracy for each million parameters, and for each billion MACs. Small networks
# win both, since the first seventy points are cheap and the last five are not. That is why the picture above, with
# its border of the best, tells more than a ratio.

# %%
density = pd.DataFrame({
    "points per million parameters": choice["top-1"] / choice["million parameters"],
    "points per billion MACs": choice["top-1"] / choice["billion MACs"],
})  # fmt: skip
density = density.sort_values("points per million parameters")
figure, axes = plt.subplots(1, 2, figsize=(8, 5), sharey=True)
for ax, column in zip(axes, density):
    ax.hlines(density.index, density[column].min() / 2, density[column], color=plots.GREY, linewidth=1)
    ax.plot(density[column], density.index, "o", color=plots.BLUE)
    ax.set(xscale="log", xlabel=column)
    ax.grid(axis="y", visible=False)

# %% [markdown]
# | you need | look at |
# |---|---|
# | the best accuracy, cost no matter | Inception-ResNet-v2, ResNeXt, SE variants of deep residual networks |
# | a solid default, weights everywhere | ResNet-50 |
# | a small file | SqueezeNet, MobileNet v3, DenseNet at equal accuracy |
# | little arithmetic (battery, phone) | MobileNet v3, ShuffleNet v2 |
# | speed on *your* machine | measure: MACs are a hint and no more |
# | pictures of 32 pixels, minutes of training | the comparison above, with your own pictures |
#
# ## Summary
#
# You can now
#
# - tell degradation from overfitting by the training error, and say why it cannot be a lack of solutions;
# - build and count residual blocks, bottlenecks and projections, and recognise which ResNet a printed count belongs
#   to;
# - hold "vanishing gradients" against measured gradients, and draw a loss surface with filter-normalised directions;
# - say how ResNeXt, SENet, DenseNet, MobileNet and ShuffleNet save weights or MACs, and name their relatives from a
#   drawing;
# - compare architectures at equal CPU time, and know that MACs, parameters, time and accuracy rank them differently.
#
# ## Exercises
#
# 1. (easy) How many layers has a ResNet with bottlenecks in stages of 3, 13, 30 and 3 blocks? And which n gives the
#    CIFAR network of 110 layers? *Hint: 3 · blocks + 2; 6n + 2.*
# 2. (easy) Which α makes MobileNet cost a tenth of its MACs? *Hint: `architectures.outline("mobilenet", alpha=...)`;
#    the depthwise layers fall with α, the pointwise ones with α².*
# 3. (medium) Start every block with γ = 1, as the paper does (`last_gamma = 1.0` in the parameters), and draw the
#    four curves again. From how many steps on does the deep residual network catch up with the shallow one? *Hint:
#    `steps` may be some thousands; the plain networks do not depend on `last_gamma`.*
# 4. (medium) Draw the loss surface of an untrained network, and with directions that are not filter-normalised.
#    *Hint: one line of `direction`.*
# 5. (hard) Train `highway20`, `resnet20` and `resnet20_v2` for the same CPU time over five seeds. Is any difference
#    larger than the spread? *Hint: `train`, with steps from the measured time of a step.*
# 6. (hard) Measure images per second with batches of 1, 8 and 32. Which networks gain most, and why? *Hint: what is
#    read once for each batch?*
#
# ## Further reading
#
# - K. He, X. Zhang, S. Ren, J. Sun, *Deep residual learning for image recognition*, CVPR 2016; *Identity mappings in
#   deep residual networks*, ECCV 2016.
# - R. Srivastava, K. Greff, J. Schmidhuber, *Training very deep networks*, NIPS 2015.
# - H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, *Visualizing the loss landscape of neural nets*, NeurIPS 2018.
# - P. Goyal et al., *Accurate, large minibatch SGD: training ImageNet in 1 hour*, arXiv 2017 (γ = 0).
# - G. Yang, J. Pennington, V. Rao, J. Sohl-Dickstein, S. Schoenholz, *A mean field theory of batch normalization*,
#   ICLR 2019.
# - D. Balduzzi et al., *The shattered gradients problem: if resnets are the answer, then what is the question?*, ICML
#   2017.
# - S. Xie, R. Girshick, P. Dollár, Z. Tu, K. He, *Aggregated residual transformations for deep neural networks*, CVPR
#   2017.
# - J. Hu, L. Shen, G. Sun, *Squeeze-and-excitation networks*, CVPR 2018.
# - G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, *Densely connected convolutional networks*, CVPR 2017.
# - A. Howard et al., *MobileNets: efficient convolutional neural networks for mobile vision applications*, arXiv
#   2017; *Searching for MobileNetV3*, ICCV 2019; M. Sandler et al., *MobileNetV2: inverted residuals and linear
#   bottlenecks*, CVPR 2018.
# - X. Zhang, X. Zhou, M. Lin, J. Sun, *ShuffleNet*, CVPR 2018; N. Ma et al., *ShuffleNet V2: practical guidelines for
#   efficient CNN architecture design*, ECCV 2018.
# - S. Zagoruyko, N. Komodakis, *Wide residual networks*, BMVC 2016; D. Han, J. Kim, J. Kim, *Deep pyramidal residual
#   networks*, CVPR 2017; G. Larsson, M. Maire, G. Shakhnarovich, *FractalNet*, ICLR 2017; F. Chollet, *Xception*,
#   CVPR 2017; C. Szegedy et al., *Inception-v4, Inception-ResNet and the impact of residual connections on learning*,
#   AAAI 2017; F. Iandola et al., *SqueezeNet*, arXiv 2016.
# - A. Canziani, A. Paszke, E. Culurciello, *An analysis of deep neural network models for practical applications*,
#   arXiv 2016.
