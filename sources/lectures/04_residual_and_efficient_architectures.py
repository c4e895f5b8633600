# %% [markdown]
# # 04 Residual and efficient architectures
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/04_residual_and_efficient_architectures.ipynb)
#
# **A network of 56 layers can compute everything that one of 20 layers computes. Why does it fit its own training
# images worse?** In 2015 this question stopped the race to depth. The answer was an addition: the input of a block is
# added to its output. Almost every network since then has this sum in it. The years after asked a second question: if
# we can choose any depth, how cheap can a network be?
#
# You will be able to
#
# - show on networks that you train yourself that depth can slow training down, and tell this from overfitting;
# - build residual blocks, bottlenecks, dense blocks, grouped, depthwise separable and inverted blocks, and count them;
# - say from measured gradients and a drawn loss surface what shortcuts change, and what they do not change;
# - apply six guidelines for cheap networks, each with its number;
# - choose an architecture by four different things: accuracy, parameters, multiply-accumulates (MACs), measured time.
#
# It takes about two hours to read and ten to fifteen minutes to run.

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
pictures: str = "shapes_crops"  # a data set with labels, by name or path
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
examples: int | None = None  # training pictures; None: all that there are
small_size: int = 24  # [16, 48] side of the pictures for the very deep networks
depths: list[int] = [20, 56]  # a shallower and a deeper one of 20, 32, 44, 56, 110
width: float = 0.5  # [0.1, 2] multiplier of their numbers of filters
steps: int = 300  # [4, 100000] steps of their training
repeats: int = 2  # [1, 10] runs of each training, each with its own weights
looks: int = 5  # [2, 50] times that a network is tested while it trains
grid: int = 11  # [3, 51] points on each side of the loss surface
surface_images: int = 128  # [8, 2000] pictures on which that loss is measured
timed: int = 10  # [1, 100] forward passes; a network's time is their median
timed_networks: int = 13  # [1, 13] so many of the networks are timed
family_size: int = 24  # [16, 48] side of the pictures for the comparison of families
family_steps: list[int] = [180, 130, 72, 112, 66, 280, 150, 125]  # 0: not trained
family_rates: list[float] = [0.003, 0.01, 0.03]  # learning rates that each family tries

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
from utils.architectures import mobilenet, mobilenet_v2, resnet, resnext
from utils.architectures.blocks import classifier, conv_bn_relu
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
    """A plain network: 3x3 convolutions with ReLU, a global average, 10 logits."""
    options = {"padding": "same", "activation": "relu"}
    chain = [layers.Conv2D(8, 3, **options) for _ in range(convolutions)]
    head = layers.GlobalAveragePooling2D(), layers.Dense(10)
    return keras.Sequential([keras.Input((16, 16, 3)), *chain, *head])


shallow, deep = stack(2), stack(8)
pass_on = np.zeros((3, 3, 8, 8), "float32")
pass_on[1, 1] = np.eye(8)  # channel c of the output is channel c of the input
copied = [layer.get_weights() for layer in shallow.layers]
given = copied[:2] + [[pass_on, np.zeros(8)]] * 6 + copied[2:]
for layer, weights in zip(deep.layers, given):
    layer.set_weights(weights)
noise = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
difference = float(ops.max(ops.abs(shallow(noise) - deep(noise))))
print(f"2 convolutions against 8: the outputs differ by {difference}")

# %% [markdown]
# So a deeper network has weights that are at least as good on the training images. If training ends with a *larger
# training loss*, then such weights exist, and the search has not found them. He, Zhang, Ren and Sun (2016) saw this on
# CIFAR-10 and on ImageNet, and called it **degradation**. It is not overfitting. A network that overfits has a small
# training error and a large test error. Here the training error itself is large.
#
# ### Seen here
#
# We look for it on small coloured shapes. There are six classes, so guessing gets one sixth right. The course's own
# program draws the shapes. Drawn data may not represent photographs, so the figures below hold for these pictures only.

# %%
classes = data.chosen(pictures, on_error=on_error).classes
chance = 1 / len(classes)


@functools.cache
def loaded(size):
    """Images, about -2 to 2, and labels, for training, validation and test."""
    sets, first = [], f"train[:{examples}]" if examples else "train"
    for split in (first, "validation[:500]", "test[:500]"):
        images, labels = data.arrays(pictures, split, size, on_error=on_error)
        sets.append(((images.astype("float32") - 128) / 64, labels))
    return sets


(x, labels), held_out, _ = loaded(small_size)
shown = (x[:16] * 64 + 128).astype("uint8")
plots.show_images(shown, labels[:16], classes=classes, columns=8)

# %% [markdown]
# The networks are those of the paper's section on CIFAR-10: a 3 × 3 convolution, then three stages of n blocks with two
# 3 × 3 convolutions each, at full, half and quarter size, a global average and one dense layer. That makes 6n + 2
# layers: 20 for n = 3 and 56 for n = 9. `plain20` has no shortcuts. `resnet20` adds each block's input to its output
# and is otherwise the same. It has the same parameters too: where the size changes, the shortcut takes every second
# pixel and fills the new channels with zeros (more on this below).
#
# The paper has 16, 32 and 64 filters, 32 × 32 pixels and 64,000 steps of 128 images. We have half the filters, smaller
# images, and a few hundred steps of 32 images, because this must run in minutes.
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
        rows[f"{kind}{depth}"] = f"{total['params']:,}", f"{total['macs'] / 1e6:.1f} M"
pd.DataFrame(rows, ["parameters", "MACs"]).T

# %% [markdown]
# Training is stochastic gradient descent with momentum .9, as in the paper. Departures: Nesterov's form of it, no
# weight decay, no augmentation, and a learning rate that rises during the first tenth of the steps and falls during the
# last third. Each point of a loss curve is the mean over the steps since the point before. Each network is trained
# `repeats` times, from new weights and in a new order.


# %%
def begin_again(model, make, run):
    """Weights as of a fresh network of this run, an optimizer that has seen nothing."""
    keras.utils.set_random_seed(seed + 1000 * run)
    fresh = make().get_weights()
    # A new seed makes TensorFlow prepare its step again: not in the times.
    model.fit(x[:32], labels[:32], verbose=0)
    model.set_weights(fresh)
    for variable in model.optimizer.variables:
        variable.assign(ops.zeros_like(variable))


def error(model, pictures_and_labels):
    """Share of the pictures that a network gets wrong."""
    guesses = transfer.predict(model, pictures_and_labels[0], batch_size=100)
    return float(np.mean(guesses.argmax(axis=1) != pictures_and_labels[1]))


# %%
def one_run(model, make, run, steps):
    """Training loss, validation error and CPU seconds of a run, each (looks,)."""
    begin_again(model, make, run)
    curve = {name: np.zeros(looks) for name in ("loss", "error", "seconds")}
    for look, part in enumerate(np.array_split(np.arange(steps), looks)):
        order = seed + 1000 * run + look
        batches = transfer.repeat(x, labels, len(part), 32, order)
        begin = time.process_time()
        fitted = model.fit(*batches, batch_size=32, shuffle=False, verbose=0)
        curve["seconds"][look] = time.process_time() - begin
        curve["loss"][look] = fitted.history["loss"][0]
        curve["error"][look] = error(model, held_out)
    return curve | {"seconds": curve["seconds"].cumsum()}


def together(runs):
    """The curves of several runs, each (runs, looks)."""
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


# %% [markdown]
# One choice remains. The last batch normalisation of every residual branch has a scale γ. The paper starts with γ = 1,
# like every other normalisation. Goyal et al. (2017) start with **γ = 0**, so that at first each block is its shortcut
# and nothing else. We train the residual networks with both. Can the plain networks have γ = 0 too? Then every block
# gives 0, nothing of the image gets through, and no gradient comes back. We expect the same logits for all images.


# %%
def very_deep(name, gamma):
    """A plain or residual network for small images, untrained."""
    model = architectures.build(name, x.shape[1:], len(classes), width=width)
    for layer in model.layers:
        if layer.name.endswith("_conv2_bn"):
            layer.gamma.assign(gamma * ops.ones_like(layer.gamma))
    return model


shallow, deep = depths[0], depths[-1]
closed = ops.convert_to_numpy(very_deep(f"plain{shallow}", 0.0)(x[:8]))
opened = ops.convert_to_numpy(very_deep(f"resnet{shallow}", 0.0)(x[:8]))
for name, logits in {"plain": closed, "residual": opened}.items():
    spread = np.ptp(logits, axis=0).max()
    print(f"{name}, γ = 0: logits of 8 images differ by {spread:.2g}")

# %%
variants = {"plain, γ = 1": ("plain", 1.0), "residual, γ = 1": ("resnet", 1.0),
            "residual, γ = 0": ("resnet", 0.0)}  # fmt: skip
trained, curves = {}, {}
for variant, (kind, gamma) in variants.items():
    for depth in depths:
        make = functools.partial(very_deep, f"{kind}{depth}", gamma)
        rate = training.WarmupHoldDecay(0.1, steps, max(1, steps // 10), decay=0.35)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
        model = training.compile_classifier(make(), optimizer)
        runs = [one_run(model, make, run, steps) for run in reversed(range(repeats))]
        trained[variant, depth], curves[variant, depth] = model, together(runs)

# %% tags=["thumbnail"]
at = np.linspace(steps / looks, steps, looks)
guess = {"guessing": math.log(len(classes))}
figure, axes = plt.subplots(1, 3, figsize=(8, 3.4), sharey=True)
for ax, variant in zip(axes, variants):
    losses = {f"{depth} layers": curves[variant, depth]["loss"] for depth in depths}
    label = "training loss" if ax is axes[0] else ""
    plots.curves(losses, at, "step", label, guess, title=variant, ax=ax)

# %%
last = {key: curve["loss"][:, -1] for key, curve in curves.items()}
rows = {f"{depth} layers": {} for depth in depths}
for (variant, depth), losses in last.items():
    rows[f"{depth} layers"][variant] = losses
plots.dots(rows, "training loss at the end, one dot for each run", guess)

# %%
names = {"plain": "plain, γ = 1", "resnet": "residual, γ = 0",
         "paper": "residual, γ = 1"}  # fmt: skip
means = {}
for name, variant in names.items():
    for size, depth in (("shallow", shallow), ("deep", deep)):
        means[f"{name}_{size}_loss"] = last[variant, depth].mean()
behind = (last["plain, γ = 1", deep] - last["plain, γ = 1", shallow]).mean()
record(**means, degradation=behind)

# %% [markdown]
# Look first at the plain networks. The deeper one has the larger loss on its own *training* images, although it could
# do whatever the shallower one does. Then compare the two residual panels with it, and with each other. When we ran
# this with seed 0, the deep residual network was far ahead of the deep plain one with either γ. With γ = 1 it was
# behind its own shallow version, as the plain one is. With γ = 0 it was level with its shallow version, but both
# learned more slowly than with γ = 1. So γ changes the picture as much as depth does: in a run this short, say which γ
# a network had.
#
# What does such a run show? It shows how fast networks *learn*, and not where they end: a few hundred steps are little
# beside the paper's 64,000. The deep plain network is slow here. This does not mean that it cannot learn. And single
# short runs scatter widely: look at the distance of the dots before you believe a difference.
#
# ### The same networks, longer
#
# Do all four learn in the end? This would take too long here, so we keep the log of one longer run: the same networks,
# 2,500 steps, seed 0, one training each. (`course run 04 --kind lecture -p steps 2500 -p repeats 1 -p looks 10` repeats
# it, in about half an hour on two cores.)

# %%
longer = {  # training loss; ResNet with γ = 0
    "plain 20": [1.703, 0.955, 0.439, 0.22, 0.124, 0.094, 0.05, 0.03, 0.011, 0.005],
    "plain 56": [1.812, 1.776, 1.757, 1.717, 1.733, 1.677, 1.63, 1.427, 1.318, 1.189],
    "ResNet 20": [1.758, 1.37, 0.695, 0.366, 0.233, 0.157, 0.11, 0.06, 0.027, 0.016],
    "ResNet 56": [1.746, 1.495, 0.853, 0.441, 0.249, 0.153, 0.088, 0.041, 0.02, 0.011],
}
wrong = {"plain 20": 0.002, "plain 56": 0.422, "ResNet 20": 0.006, "ResNet 56": 0.004}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), width_ratios=[1.6, 1])
thousands = np.arange(250, 2501, 250)
label = "training loss"
plots.curves(longer, thousands, "step", label, guess, log_y=True, ax=axes[0])
plots.bars(wrong, "validation error at the end", {"guessing": 1 - chance}, ax=axes[1])

# %% [markdown]
# In this run all four learn (the residual ones with γ = 0). Three of them end with almost no loss. The deep plain
# network needs about 1,750 steps before it is clearly better than guessing, and is still far behind at the end. The
# deep residual network is as good as the shallow ones. So with these pictures and these steps degradation is **slow
# optimisation**. Our networks show no more than that. He et al. trained for 64,000 steps, and their plain network of 56
# layers still had the larger training error at the end [paper].
#
# > **What the slide says.** "Residual connections allow deeper networks without increasing the training *time*." It
# > is the training *error* that does not increase. Time does: the deeper network has about three times the MACs, and
# > the CPU seconds follow.

# %%
seconds = {f"{depth} layers": {} for depth in depths}
for (variant, depth), curve in curves.items():
    seconds[f"{depth} layers"][variant] = curve["seconds"][:, -1]
plots.dots(seconds, "CPU seconds", title=f"{steps} training steps, on this machine")

# %% [markdown]
# ## The residual block
#
# A residual block computes F(x) and gives **x + F(x)**. If the best block changes little, then F must be small, and
# small weights make it small. A plain block would have to learn the filters from above, with their one in the centre.
# So with the sum, doing nothing is the easy case. The sum costs no parameters and no MACs.
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
# Why are there bottlenecks? Two 3 × 3 convolutions on 256 channels would have 2 · 9 · 256² = 1,179,648 weights. The
# bottleneck has 256 · 64 + 9 · 64² + 64 · 256 = 69,632, a seventeenth, and less than the 73,728 of a basic block on 64
# channels. So a block with four times the channels costs the same.

# %%
basic, wide, narrow = 2 * 9 * 64**2, 2 * 9 * 256**2, 256 * 64 + 9 * 64**2 + 64 * 256
table = arithmetic.layer_table(resnet50).set_index("layer")
found = table.loc[[f"stage2_block2_conv{i}" for i in (1, 2, 3)], "params"].sum()
blocks = {"two 3×3, 64 channels": basic, "two 3×3, 256 channels": wide,
          "bottleneck, 256 channels": narrow}  # fmt: skip
plots.bars({name: count / 1e6 for name, count in blocks.items()}, "million weights")
assert found == narrow

# %% [markdown]
# > **What the slide says.** "Where the size changes, reduce the size of the features" with *valid* convolutions: a
# > convolution without padding in the shortcut shrinks the map as those of the other branch do.
#
# This can work, if both branches lose the same border. Two valid 3 × 3 convolutions take 56 pixels to 52, and so does
# one valid 5 × 5 in the shortcut: then the two can be added. But ResNet does something else. It halves the map by a
# stride of 2, in both branches, and its 3 × 3 convolutions have one zero on every side. (Its 1 × 1 needs no padding.)
# We expect 52 and 52, then 28 and 28:

# %% tags=["nbval-check-output"]
branch = arithmetic.output_size(arithmetic.output_size(56, 3), 3)
print(f"valid: two 3x3 56 -> {branch}, one 5x5 56 -> {arithmetic.output_size(56, 5)}")
branch = arithmetic.output_size(arithmetic.output_size(56, 3, s=2, p=1), 3, p=1)
side = arithmetic.output_size(56, 1, s=2)
print(f"ResNet: two 3x3 56 -> {branch}, one 1x1 56 -> {side}")

# %% [markdown]
# Three **options** for the shortcuts: A takes every second pixel and fills new channels with zeros, without any
# parameter; B projects where the shape changes; C projects everywhere. For 34 layers the paper measures top-1 errors
# of 25.0, 24.5 and 24.2 % [paper], and 28.5 % without shortcuts. So it matters to have them, and their kind matters
# little. B became the usual one. Count what they cost:

# %%
options = {"plain": counted("plain34")["params"] / 1e6}
for option in ("A", "B", "C"):
    options[option] = counted("resnet34", shortcuts=option)["params"] / 1e6
plots.bars(options, "million parameters", title="34 layers, shortcuts of each kind")

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
    kinds = layers.Conv2D, layers.Dense
    weighted = [layer for layer in model.layers if isinstance(layer, kinds)]
    return sum("shortcut" not in layer.name for layer in weighted)


rows = {}
for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    model, total = outline(name), counted(name)
    ends = [layer.name for layer in model.layers if layer.name.endswith("_add")]
    stages = [f"stage{stage}_" for stage in (2, 3, 4, 5)]
    counts = [sum(end.startswith(stage) for end in ends) for stage in stages]
    figures = (main_path(model), total["params"], total["statistics"], total["macs"])
    rows[name] = ["-".join(map(str, counts)), *(f"{value:,}" for value in figures)]
columns = ["blocks by stage", "layers", "parameters", "statistics", "MACs"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# The paper's figure 3 shows three networks side by side: VGG-19, a plain network of 34 layers, and ResNet-34. The plain
# one is made after VGG's rules: 3 × 3 convolutions, and twice the filters where the map has half the size. It has less
# than a fifth of VGG-19's MACs: few filters stand where the map is large. ResNet-34 is the plain one with shortcuts.

# %%
trio = {"VGG-19": "vgg19", "plain, 34 layers": "plain34", "ResNet-34": "resnet34"}
figure, axes = plt.subplots(3, 1, figsize=(8, 7.2), layout="constrained")
for ax, (title, name) in zip(axes, trio.items()):
    total = counted(name)
    cost = f"{total['macs'] / 1e9:.2f} G MACs, {total['params'] / 1e6:.1f} M parameters"
    plots.stage_diagram(outline(name), title=f"{title}: {cost}", ax=ax)


# %%
def per_stage(name):
    """MACs of the convolutions, by the size of their output."""
    table = arithmetic.layer_table(outline(name))
    table = table[table["type"].eq("Conv2D") & ~table["layer"].str.contains("shortcut")]
    sides = table["output_shape"].map(lambda shape: f"{shape[0]} × {shape[1]}")
    return table.groupby(sides, sort=False)["macs"].sum()


macs = {title: (per_stage(name) / 1e9).to_dict() for title, name in trio.items()}
plots.dots(macs, "billion MACs of the convolutions whose maps have this size")

# %% [markdown]
# VGG-19 spends most where the maps have 56 and 28 pixels. In the other two no stage costs much more than another: with
# half the side and twice the filters a convolution keeps its MACs. (You do not see the shortcuts in the drawing of
# ResNet-34. They cost nothing but three projections.)

# %% [markdown]
# > **What the slide says.** "ResNet-156." There is none: the largest of the paper has **152** layers. And no network of
# > this form can have 156: a bottleneck has three layers, and 156 − 2 = 154 is no multiple of 3.
#
# > **What the slide says.** "101 ResNet layers have the same size and speed as 16 VGG layers." They have a third of
# > the parameters and half the MACs: 44.5 against 138.4 million, and 7.6 against 15.5 billion (7.8 with the stride in
# > the 3 × 3, as the released code has it). Time is another matter, and we measure it below.

# %%
large = {name: counted(name) for name in ("vgg16", "resnet101")}
strided = counted("resnet101", stride_in="3x3")
large["resnet101, stride in 3×3"] = strided
figure, axes = plt.subplots(1, 2, figsize=(8, 1.9), sharey=True)
sides = ("params", 1e6, "million parameters"), ("macs", 1e9, "billion MACs")
for ax, (key, unit, label) in zip(axes, sides):
    plots.bars({name: total[key] / unit for name, total in large.items()}, label, ax=ax)
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
    whole, head = counted(name)["params"], outline(name).get_layer("logits")
    rows[name] = {
        "3×3 stem, ten classes": counted(name, (32, 32, 3), 10, stem="3x3")["params"],
        "ImageNet without classifier": whole - head.count_params(),
        "ImageNet": whole,
    }
printed = [11.174, 21.282, 23.521, 42.513, 58.157]
counts = pd.DataFrame(rows).T.assign(printed=printed)
counts.style.format("{:,.0f}").format("{:.3f} M", subset=["printed"])

# %% tags=["nbval-check-output"]
small = [f"{count / 1e6:.3f}" for count in counts["3×3 stem, ten classes"]]
matches = [count == f"{told:.3f}" for count, told in zip(small, printed)]
print(f"{sum(matches)} of {len(matches)} printed figures: a 3x3 stem and ten classes")

# %% [markdown]
# ## Why do shortcuts help?
#
# One deck says that plain networks fail because **gradients vanish**; another calls it "an optimization issue". He et
# al. write that vanishing is *unlikely* to be the cause, since with batch normalisation "neither forward nor backward
# signals vanish". Their guess: plain deep networks converge very slowly. We need not believe one or the other, because
# we can measure the norm of the gradient of every layer's weights.
#
# A step of gradient descent at rate r moves the weights by −r times their gradient. So we take one step with a huge r,
# read the gradient off, and put the weights back.


# %%
def gradient_norms(model, x, labels, rate=1e6):
    """Norm of the gradient of every 3x3 kernel, from the image on, on one batch."""
    found = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    kernels = [layer.kernel for layer in found if layer.kernel.shape[0] == 3]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, run_eagerly=True)
    weights = model.get_weights()
    before = [ops.convert_to_numpy(kernel).copy() for kernel in kernels]
    model.train_on_batch(x, labels)
    after = [ops.convert_to_numpy(kernel) for kernel in kernels]
    model.set_weights(weights)
    return np.array([np.linalg.norm((a - b) / rate) for a, b in zip(after, before)])


# %% [markdown]
# We begin with untrained networks, built in five ways. Each is a tower of blocks of two 3 × 3 convolutions, all of one
# size, as deep as the deeper network above. The plain ones have Glorot's initial weights (made for symmetric
# activations: each ReLU halves the signal's power), He's (twice the variance, made for ReLU), or He's and batch
# normalisation. The last two of these also come with shortcuts.


# %%
def tower(depth, shortcuts, normalised, initializer="he_normal", filters=8):
    """`depth` convolutions in blocks of two, all of one size."""
    image = layers.Input(x.shape[1:])
    options = {"padding": "same", "kernel_initializer": initializer}
    x_in = layers.Conv2D(filters, 3, **options)(image)
    for _ in range(depth // 2):
        y = x_in
        for half in (1, 2):
            y = layers.ReLU()(y) if half == 2 else y
            y = layers.Conv2D(filters, 3, use_bias=False, **options)(y)
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
along = {"xlabel": "convolution, from the image", "ylabel": "norm of the gradient"}
plots.curves(norms, **along, log_y=True, ax=ax)
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
# Read the curves one by one:
#
# - *Plain, Glorot's weights, no normalisation*: every ReLU halves the signal's power, layer after layer, and the
#   gradients are tiny in **all** layers, around 10⁻¹¹ at 54 convolutions. This is what "vanishing" means.
# - *Plain, He's weights*: small, but far from nothing in every layer. Good initial weights solved this problem before
#   ResNet came.
# - *Plain, batch normalisation*, the kind of network that degrades: the gradients do not vanish. They **grow** from the
#   logits towards the image, by a factor of a hundred or more. Normalising each layer's output multiplies the gradient
#   on its way back by a little more than one in each layer (Yang et al. 2019 derive the factor).
# - *Shortcuts without normalisation*: each sum doubles the signal's power, so the gradients are large in all layers.
# - *Shortcuts and batch normalisation*, ResNet: the gradients differ much less from layer to layer (the table has the
#   ratio).
#
# So "vanishing gradients" is the wrong reason for these networks, and He et al. were right to doubt it. "An
# optimization issue" is right, and says little. What we can say is this. At the start of training, in such a tower, one
# learning rate must serve layers whose gradients differ by a factor of a hundred or more. With shortcuts and batch
# normalisation the layers are much nearer to one scale.
#
# And after training?

# %%
trained_norms = {}
for variant in variants:
    title = f"{variant}, {deep} layers"
    trained_norms[title] = gradient_norms(trained[variant, deep], x[:64], labels[:64])
plots.curves(trained_norms, **along, log_y=True, title="After training")

# %% [markdown]
# After training the picture is another one. Compare the plain network's slope with that of "plain, batch norm" above:
# it is not that of the beginning. The weights and scales adapt to each other, also in a network that learns little. So
# the large factor at the beginning describes the start of training, and is no fixed property of plain networks.
#
# ## The loss surface
#
# The loss is a function of all weights. Training has reached the point θ in the space of weights. We look at a plane
# through it: loss(θ + a·d₁ + b·d₂) for two random directions. Weights of a network with batch normalisation have no
# natural scale, because each filter may be multiplied by any factor without effect. A step that is large for one
# network is then small for another. Li et al. (2018) therefore make the directions **filter-normalised**: each filter
# of d gets the norm of the same filter of θ. A step of a = 1 then changes every filter by its own length. Biases and
# normalisations stay as they are.
#
# A network that has learnt nothing tells nothing about the surroundings of a solution. So we take the depth at which
# both kinds have learnt something, the shallower one, and compare γ = 0 and γ = 1 as well.


# %%
def direction(weights, rng):
    """A random direction, each filter as long as the weights' own; else zero."""
    parts = []
    for weight in weights:
        part = np.zeros(weight.shape)
        if weight.ndim > 1:
            part = rng.normal(size=weight.shape)
            axes = tuple(range(weight.ndim - 1))  # all that leads to one output channel
            own, drawn = ((a**2).sum(axis=axes, keepdims=True) for a in (weight, part))
            part *= np.sqrt(own / drawn)
        parts.append(part.astype("float32"))
    return parts


# %%
def surface(model, images, labels, reach=1.0):
    """Loss (grid, grid) on a plane through the weights, from -reach to reach."""
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
for variant in variants:
    network = trained[variant, shallow]
    surfaces[variant] = surface(network, x[:surface_images], labels[:surface_images])

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), sharey=True)
levels = np.geomspace(0.02, 100, 25)
for ax, (name, values) in zip(axes, surfaces.items()):
    steps_ = np.linspace(-1, 1, grid)
    shown = np.clip(values, levels[0], levels[-1])
    drawn = ax.contourf(steps_, steps_, shown, levels, norm="log", cmap="viridis")
    guessing = [math.log(len(classes))]
    ax.contour(steps_, steps_, values, guessing, colors="white", linewidths=1)
    ax.plot(0, 0, "o", color=plots.VERMILLION)
    centre = values[grid // 2, grid // 2]
    ax.set(title=f"{name}\nat the point: {centre:.2f}", xlabel="a", aspect="equal")
    ax.grid(False)
axes[0].set_ylabel("b")
options = {"label": "training loss", "shrink": 0.8, "format": "%g"}
_ = figure.colorbar(drawn, ax=axes, ticks=[0.1, 1, 10, 100], **options)

# %% [markdown]
# The red point is the trained network, and the white line is the loss of guessing. How far can you go from the point
# before the network is no better than guessing, and how steep is the way?
#
# All three pictures are slices through spaces of many thousand dimensions, in two random directions, through the end of
# one short training each. They prove nothing about the networks, and another seed gives other pictures. Li et al.
# trained networks of 56 layers to the end. They found smooth surroundings with shortcuts, and rough ones with steep
# walls without them [paper]. With seed 0, at 20 layers,
# all three points lay in a hollow of their own.
#
# ## Two relatives
#
# **Highway networks** (Srivastava, Greff and Schmidhuber 2015) came half a year earlier. They carry x by a gate: y =
# T(x) · H(x) + (1 − T(x)) · x. The gate T is learnt and lies between 0 and 1. A ResNet always gives both terms the
# factor 1: nothing can close its shortcut, and it needs no weights for a gate. **Pre-activation** (He et al. 2016, the
# second paper) moves batch normalisation and ReLU in front of the convolutions. Then nothing stands on the path from
# sum to sum, and networks of 1,000 layers train [paper].

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
# From here on we draw and count the block of each family. At the end we train a small network of eight of them.
#
# Xie et al. (2017) divide the 3 × 3 convolution of the bottleneck into **groups**. Each of 32 groups reads only its own
# 4 channels (32 × 4d). The number of groups is called *cardinality*. All 32 groups together have a 32nd of the weights
# of a full convolution of that width. So the 3 × 3 can be twice as wide, 128 channels and not 64, and the block still
# costs the same.

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
table = (1, 64, 23.9), (2, 40, 23.0), (4, 24, 22.6), (8, 14, 22.3), (32, 4, 22.2)
for groups, group_width, top1 in table:
    model = outline("resnext50_32x4d", cardinality=groups, group_width=group_width)
    block = arithmetic.layer_table(model).set_index("layer")
    weights = block.loc[[f"stage2_block2_conv{i}" for i in (1, 2, 3)], "params"].sum()
    name = f"{groups} × {group_width}d"
    rows.append((name, groups * group_width, f"{weights:,}", top1))
columns = ["C × d", "width of the 3×3", "weights of a block", "top-1 error, % [paper]"]
pd.DataFrame(rows, columns=columns)

# %% [markdown]
# Run one. A grouped convolution of Keras with 8 channels in 4 groups: if we change channel 0 of the input, which of the
# 16 channels of the output change? Channel 0 belongs to the first of four groups, so we expect the first four.

# %% tags=["nbval-check-output"]
rng = np.random.default_rng(0)
signal = rng.normal(size=(1, 6, 6, 8)).astype("float32")
grouped = layers.Conv2D(16, 3, padding="same", groups=4, use_bias=False)
before = ops.convert_to_numpy(grouped(signal))
changed = signal.copy()
changed[..., 0] += 1
moved = np.abs(ops.convert_to_numpy(grouped(changed)) - before).max(axis=(0, 1, 2))
print(f"kernel {tuple(grouped.kernel.shape)}: 3 x 3, 2 channels in, 16 filters")
print("output channels that change:", np.flatnonzero(moved > 1e-5).tolist())

# %% [markdown]
# A grouped convolution is four small convolutions side by side. And with a 1 × 1 behind it, it is a *sum* of narrow
# bottlenecks, each with its own way up: the sum in the paper's name, "aggregated transformations". Cut the filters
# apart, run each path alone, and add. We expect the same outputs.

# %% tags=["nbval-check-output"]
middle = ops.convert_to_numpy(grouped.kernel)  # (3, 3, 2, 16)
up = rng.normal(size=(1, 1, 16, 32)).astype("float32")
whole = ops.convert_to_numpy(ops.conv(before, up))
paths = 0
for g in range(4):
    inside, between = slice(2 * g, 2 * g + 2), slice(4 * g, 4 * g + 4)
    path = ops.conv(signal[..., inside], middle[..., between], padding="same")
    paths += ops.convert_to_numpy(ops.conv(path, up[:, :, between]))
same = np.allclose(whole, paths, atol=1e-3)
print(f"four groups and one 1x1 equal a sum of four paths: {same}")

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
dense = ["stage2_block2_se_reduce", "stage2_block2_se_expand"]
assert added.loc[dense, "params"].sum() == 8464
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
# It costs a tenth more parameters, and next to no MACs, since the dense layers work on one pixel. It needs a third more
# memory for feature maps, since the weighed maps stand beside the unweighed ones. The top-1 error falls from 24.8 to
# 23.3 % [paper], nearly to that of 101 layers.
#
# ## Keep everything: DenseNet
#
# Huang et al. (2017) do not add, they **concatenate**. Each layer sees the maps of all layers before it in its block
# and adds k new ones; k is the *growth rate*. With k₀ channels at the start, layer l reads k₀ + k(l − 1). With k₀ =
# 64 and k = 32 the sixth and last layer of the first block reads 224, and the block ends with 256.

# %%
densenet = outline("densenet121")
pair = densenet, ["stage1_layer1", "stage1_layer2"]
plots.block_diagrams({"two layers of a dense block": pair}, width=4)

# %%
figure, ax = plt.subplots(figsize=(8, 2.8))
position, ticks = 0, {}
for stage, count in enumerate((6, 12, 24, 16), 1):
    names = [f"stage{stage}_layer{layer}_concat" for layer in range(1, count + 1)]
    ends = np.array([densenet.get_layer(name).output.shape[-1] for name in names])
    came, at = ends[0] - 32, np.arange(count) + position
    labels_ = ("came in", "made in this block") if stage == 1 else (None, None)
    ax.bar(at, came, color=plots.GREY, width=1, label=labels_[0])
    ax.bar(at, ends - came, bottom=came, color=plots.BLUE, width=1, label=labels_[1])
    ticks[position + count / 2] = f"block {stage}\n{came} to {ends[-1]}"
    position += count + 1.5
ax.set_xticks(list(ticks), list(ticks.values()))
ax.set_title("DenseNet-121: each layer adds 32 channels; then half of them go")
ax.set_ylabel("channels")
ax.legend()

# %% [markdown]
# Before each 3 × 3, a 1 × 1 bottleneck brings all channels that come in down to 4k = 128. Between blocks a 1 × 1 keeps
# half of the channels. We count trainable weights alone. (Keras prints 83,648 more for 121 layers, since it adds the
# running statistics.)

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
columns = ["parameters", "statistics", "MACs", "maps of one image"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# DenseNet-121 has a third of the parameters of ResNet-50 and about the same accuracy [paper]: it uses features again
# and does not compute them again. It does not save memory, because every concatenation is a copy. In training it needs
# still more, since each layer normalises anew all that came in.
#
# ## One filter for each channel
#
# A standard convolution does two things at once: it filters in space, and it mixes channels. A **depthwise
# separable** convolution does one after the other. *Depthwise*: one k × k filter for each channel, without mixing.
# *Pointwise*: a 1 × 1 convolution that mixes, without looking around. The price falls from k² · C · K to k² · C + C ·
# K for each position, that is to 1/K + 1/k² of it.
#
# The three as volumes, for an image of 12 × 12 × 3 and 5 × 5 filters without padding:

# %%
plots.convolution_volumes({
    "standard": ((12, 12, 3), (5, 5, 3), 256, (8, 8, 256)),
    "depthwise": ((12, 12, 3), (5, 5, 1), 3, (8, 8, 3)),
    "pointwise": ((8, 8, 3), (1, 1, 3), 256, (8, 8, 256)),
})  # fmt: skip

# %% [markdown]
# Count them, for 8 × 8 positions:
#
# - standard: 8 · 8 · 25 · 3 · 256 = 1,228,800 MACs;
# - separable: 8 · 8 · 25 · 3 + 8 · 8 · 3 · 256 = 4,800 + 49,152 = 53,952 MACs.
#
# With padding "same" there are 12 × 12 positions: 2,764,800 against 121,392. The ratio is 1 / (1/256 + 1/25) = 22.8 in
# both cases.

# %%
rows, sizes = {}, {}
for padding in ("valid", "same"):
    image = layers.Input((12, 12, 3))
    once = layers.DepthwiseConv2D(5, padding=padding)(image)
    pairs = {
        "standard": layers.Conv2D(256, 5, padding=padding)(image),
        "separable": layers.Conv2D(256, 1)(once),
    }
    models = {kind: keras.Model(image, y) for kind, y in pairs.items()}
    total = {kind: arithmetic.totals(model) for kind, model in models.items()}
    rows[padding] = {kind: one["macs"] for kind, one in total.items()}
    rows[padding]["times"] = rows[padding]["standard"] / rows[padding]["separable"]
    sizes = {kind: one["params"] for kind, one in total.items()}
separable = pd.DataFrame(rows).T
record(separable_gain_valid=separable.loc["valid", "times"])
record(separable_gain_same=separable.loc["same", "times"])
separable.style.format("{:,.0f}").format("{:.1f}", subset=["times"])

# %% [markdown]
# > **What the slide says.** "Standard: 25 · 3 · 256 · 144, about 2.8 M operations. Separable: 25 · 3 · 144 + 3 · 256 ·
# > 64 = 59,952, about 60 K." The separable sum mixes two sizes: its depthwise half has a map of 12 × 12 = 144
# > positions, its pointwise half one of 8 × 8 = 64. The standard one has 144. By these figures the saving would be 46
# > times.
#
# Recompute the slide's numbers and ours. With equal outputs the saving is 22.8 times, whatever the padding. The slide's
# parameters, 19,456 against 1,102 with biases, are right:

# %% tags=["nbval-check-output"]
standard, mixed = 25 * 3 * 256 * 144, 25 * 3 * 144 + 3 * 256 * 64
print(f"slide: {standard:,} / {mixed:,} = {standard / mixed:.1f} times")
for name, positions in {"valid, 8 x 8": 64, "same, 12 x 12": 144}.items():
    first, second = positions * 25 * 3 * 256, positions * (25 * 3 + 3 * 256)
    print(f"{name}: {first:,} / {second:,} = {first / second:.1f} times")
print(f"parameters: {sizes['standard']:,} and {sizes['separable']:,}")

# %% [markdown]
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
# Howard et al. (2017) build a whole network of them: a 3 × 3 convolution, then 13 pairs of depthwise and pointwise, an
# average and a dense layer. A width multiplier α ≤ 1 thins every layer; it multiplies the MACs by about α². (The
# released networks use ReLU6(x) = min(max(x, 0), 6), as the drawing shows; the paper writes ReLU.)

# %%
mobile = outline("mobilenet")
plots.block_diagrams(
    {
        "MobileNet": (mobile, "stage2_block2"),
        "MobileNet v2": (outline("mobilenet_v2"), "stage2_block2"),
        "ShuffleNet": (outline("shufflenet_v1_g3"), "stage2_block2"),
    }
)

# The paper's Table 1 has 28 rows. Here they are as a picture, made from our model:
# the MACs of each pair.

# %%
table = arithmetic.layer_table(mobile)
table = table[table["macs"] > 0].set_index("layer")
pairs = {"depthwise": {}, "1 × 1": {}}
for layer in mobile.layers:
    for kind, word in zip(pairs, ("depthwise", "pointwise")):
        if layer.name.endswith(word):
            side, _, channels = layer.output.shape[1:]
            row = f"{len(pairs[kind]) + 1}: to {side} × {side}"
            pairs[kind][row] = table.loc[layer.name, "macs"] / 1e6
plots.dots(pairs, "million MACs", log_x=True, title="MobileNet's 13 pairs")

# %% [markdown]
# > **What the slide says.** The last depthwise row has "s2", as in the paper's Table 1, with an input of 7 × 7 × 1024
# > and the same size behind it. It is a misprint of the paper: with stride 2, 7 × 7 would become 4 × 4. Its stride is
# > 1.

# %% tags=["nbval-check-output"]
row = [layer for layer in mobile.layers if layer.name.endswith("depthwise")][-1]
sizes = [tuple(tensor.shape[1:]) for tensor in (row.input, row.output)]
print(f"last depthwise layer: stride {row.strides[0]}, {sizes[0]} -> {sizes[1]}")

# %% [markdown]
# What does the work? The paper counts 95 % of the MACs and 75 % of the parameters in the 1 × 1 convolutions [paper].
# Ours:

# %%
table = arithmetic.layer_table(mobile)
kinds = {"depthwise": "depthwise", "pointwise": "1 × 1", "stem": "3 × 3"}
kinds["logits"] = "dense"
names = table["layer"]
found = [[kind for word, kind in kinds.items() if word in name] for name in names]
table["kind"] = [kind[0] if kind else "" for kind in found]
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
# MobileNet v2 (Sandler et al. 2018) turns the bottleneck round. Its shortcut joins *narrow* maps. Between them the
# block is six times wider, and there the cheap depthwise convolution works. This is an **inverted residual**. And the
# last 1 × 1 has *no activation*, since a ReLU loses what a narrow layer holds. The paper's argument as a picture: a
# random matrix puts a curve from two dimensions into n dimensions, a ReLU follows, and the matrix's pseudo-inverse
# brings the curve back. How much of it is left?

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
# In two or three channels whole stretches collapse. In thirty the curve is nearly all there. So the block has ReLUs in
# its wide part and none where it is narrow. The first guideline below, *avoid tight bottlenecks*, says the same.
#
# ### ShuffleNet
#
# With depthwise filters the 1 × 1 convolutions cost most. ShuffleNet (Zhang et al. 2018) splits those into groups as
# well. But then nothing passes from one group to another: group 1 of the output knows only group 1 of the input. So the
# network **shuffles** the channels between two grouped convolutions: it writes them as a table of groups × channels,
# transposes it, and reads it again.

# %%
before = np.arange(12, dtype="float32").reshape(1, 1, 1, 12)
after = ops.convert_to_numpy(ChannelShuffle(3)(before)).reshape(-1).astype(int)
figure, ax = plt.subplots(figsize=(8, 1.6))
for row, order in enumerate((np.arange(12), after)):
    for place, channel in enumerate(order):
        box, colour = (place, -1.6 * row), plots.PALETTE[channel // 4]
        ax.add_patch(plt.Rectangle(box, 0.9, 0.8, color=colour, alpha=0.8))
        style = {"ha": "center", "va": "center", "color": "white", "weight": "bold"}
        ax.text(place + 0.45, 0.4 - 1.6 * row, channel, **style)
for place, channel in enumerate(after):
    ends, colour = [channel + 0.45, place + 0.45], plots.PALETTE[channel // 4]
    ax.plot(ends, [0, -0.8], color=colour, linewidth=1)
for cut in (3.95, 7.95):
    ax.plot([cut, cut], [-1.7, 0.9], color=plots.BLACK, linestyle=":")
ax.set(xlim=(-0.2, 12.2), ylim=(-1.8, 1))
ax.set_title("12 channels in 3 groups, before and after the shuffle")
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
# 1,000 thin ones and are as accurate [paper]. **PyramidNet** (Han, Kim and Kim 2017): every block is a little wider
# than the last, in place of a doubling at each halving of the map. **Xception** (Chollet 2017): an inception module
# driven to one filter for each channel, with shortcuts.

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
# side, joined by averaging. In training whole paths are dropped at random. Its authors conclude that a *short path*
# through the network helps, and that it need not be an identity.

# %%
fractal = outline("fractalnet20"), "stage1"
plots.block_diagrams({"FractalNet, one block of three columns": fractal})

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
for name in ("wrn_28_10", "wide_resnet50_2", "pyramidnet110_a48", "fractalnet20",
             "xception", "inception_resnet_v1", "inception_resnet_v2",
             "squeezenet1_0"):  # fmt: skip
    entry, total = architectures.describe(name), counted(name)
    side = f"{entry.input_shape[0]} × {entry.input_shape[1]}"
    cost = f"{total['params']:,}", f"{total['macs'] / 1e9:.2f} G"
    rows[name] = [side, entry.classes, *cost]
columns = ["image", "classes", "parameters", "MACs"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns)

# %% [markdown]
# ## Six guidelines
#
# Six rules say what the families have in common. Each comes with its numbers.
#
# **1. Avoid tight bottlenecks.** The data volume H · W · C should fall slowly from the image to the answer. Where a
# layer squeezes it early, information is lost for good. (ResNet's *bottleneck* blocks are no such place: the shortcut
# carries the wide map past them.)

# %%
figure, ax = plt.subplots(figsize=(8, 3.4))
sums = ["Add", "Concatenate", "MaxPooling2D", "AveragePooling2D"]
# MobileNet v2's blocks without a sum end with their normalisation.
without = r"stage\d_block1_project_bn"
names = ("vgg16", "resnet50", "densenet121", "mobilenet_v2", "squeezenet1_0")
for index, name in enumerate(names):
    table = arithmetic.layer_table(outline(name))
    kept = table["type"].isin([*sums, "Conv2D"] if name == "vgg16" else sums)
    maps = table[kept | table["layer"].str.fullmatch(without)]
    shapes = [shape for shape in maps["output_shape"] if len(shape) == 3]
    way = np.linspace(0, 1, len(shapes))
    style = {"color": plots.PALETTE[index], "drawstyle": "steps-post"}
    ax.plot(way, [math.prod(shape) for shape in shapes], label=name, **style)
ax.axhline(224 * 224 * 3, color=plots.GREY, linestyle="--", label="the image")
ax.set(yscale="log", xlabel="way through the network", ylabel="values H · W · C")
ax.set_title("Data volume behind each block")
ax.legend(fontsize=9, ncols=2)

# %% [markdown]
# VGG, ResNet and SqueezeNet stay above the image's 150,528 values, or near them, for most of the way. MobileNet v2 goes
# far below: the ends of its blocks are narrow on purpose. There it has no ReLU, so that less is lost, and a shortcut
# wherever the shape allows one.
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
# depthwise and pointwise are a factorisation. After a split something must *mix again*: a 1 × 1, or a shuffle.
#
# **6. Dilation.** Spread the taps of a 3 × 3 filter by d = 2 and it sees 5 × 5 for the price of 9 weights.

# %%
c = 256


def weights(kernel, groups=1, inside=c, outside=c):
    """Weights of one convolution, by the network's own count."""
    options = {"padding": "same", "groups": groups, "use_bias": False}
    layer = layers.Conv2D(outside, kernel, **options)
    layer.build((None, 14, 14, inside))
    return math.prod(layer.kernel.shape)


narrow = 2 * weights(1, 1, c, 64) + weights(3, 1, 64, 64)
cheaper = {
    "2: 3×3, 3×3 for 5×5": weights(5) / (2 * weights(3)),
    "2: three 3×3 for 7×7": weights(7) / (3 * weights(3)),
    "3: 1×1 to 64, 3×3, 1×1 for two 3×3": 2 * weights(3) / narrow,
    "4: 32 groups": weights(3) / weights(3, 32),
    "5: 7×1, 1×7 for 7×7": weights(7) / (weights((7, 1)) + weights((1, 7))),
    "5: depthwise, 1×1 for 3×3": weights(3) / (weights(3, c) + weights(1)),
    "6: 3×3, d = 2, for 5×5": weights(5) / weights(3),
}
plots.bars(cheaper, "times fewer weights", {"same": 1}, f"{c} channels in and out")

# %% [markdown]
# What do we give up? A chain or a dilated filter sees as far as the large one: the recurrence of topic 01 confirms it.
# But groups do not mix, and low-rank filters can compute fewer functions. How far does each input channel reach? Count
# the output channels that depend on it, after two grouped convolutions of 16 channels in 4 groups. We expect a quarter
# without the shuffle, and all with it.

# %%
chains = {
    "5×5": [(5,)], "3×3, 3×3": [(3,), (3,)], "3×3, d = 2": [(3, 1, 0, 2)],
    "7×7": [(7,)], "three 3×3": [(3,)] * 3,
    "3×3, then 3×3 at d = 2": [(3,), (3, 1, 0, 2)],
}  # fmt: skip
fields = {name: arithmetic.receptive_field_chain(one) for name, one in chains.items()}
sees = {name: int(field["size"].iloc[-1]) for name, field in fields.items()}
block = np.kron(np.eye(4), np.ones((4, 4)))  # which of 16 channels lead to which
order = ChannelShuffle(4)(np.arange(16.0).reshape(1, 1, 1, 16))
mixing = np.eye(16)[ops.convert_to_numpy(order).ravel().astype(int)]
reaches = {"no shuffle": block @ block, "shuffle": block @ mixing @ block}

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), width_ratios=[1.6, 1, 1])
plots.bars(sees, "pixels seen", ax=axes[0])
for ax, (name, reach) in zip(axes[1:], reaches.items()):
    ax.imshow(reach > 0, cmap="Blues", vmin=0, vmax=1.5)
    ax.set(title=f"{name}: {(reach > 0).mean():.0%}")
    ax.set(xlabel="channel out", ylabel="channel in")
    ax.grid(False)

# %% [markdown]
# We can compute the *rank* of any filter. A blur is a column times a row: its rank is 1, and it splits without loss. A
# random 7 × 7 filter has rank 7, so a column times a row only approximates it: it holds a part of the filter's power.
# The same is to be expected of a trained filter. Architectures therefore do not split trained filters. They train split
# ones.

# %% tags=["nbval-check-output"]
binomial = np.array([1, 6, 15, 20, 15, 6, 1]) / 64
rng = np.random.default_rng(0)
filters = {"blur": np.outer(binomial, binomial), "random": rng.normal(size=(7, 7))}
for name, kernel in filters.items():
    _, values, _ = np.linalg.svd(kernel)
    kept, rank = values[0] ** 2 / (values**2).sum(), np.linalg.matrix_rank(kernel)
    print(f"{name:7} rank {rank}; its best column times row holds {kept:.0%}")

# %% [markdown]
# ## MACs are not time
#
# How many images a second does each network classify, *on this machine*? We pass one image at a time, after two warm-up
# passes, and take the median. (The course's rule is the median of 100; a quick look takes fewer, see `timed`.) If time
# followed the MACs, all points would lie on a falling straight line.


# %%
def images_per_second(name):
    """By the median time of a `predict_on_batch` with one image."""
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
names = ("resnet18", "vgg16", "resnet50", "mobilenet", "mobilenet_v2", "resnet101",
         "resnext50_32x4d", "seresnet50", "densenet121", "squeezenet1_0",
         "mobilenet_v3_large", "shufflenet_v1_g3", "shufflenet_v2_x1_0")  # fmt: skip
for name in names[:timed_networks]:
    speeds[name] = images_per_second(name)


# %%
def numbered(ax, x, y, number, colour=plots.BLUE):
    """A point with a number in it: names would lie on each other."""
    ax.plot(x, y, "o", color=colour, markersize=11, alpha=0.85)
    style = {"ha": "center", "va": "center_baseline", "annotation_clip": True}
    ax.annotate(number, (x, y), color="white", fontsize=7, **style)


def name_columns(figure, names, rows):
    """The names with their numbers, below the figure."""
    lines = [f"{number} {name}" for number, name in enumerate(names, 1)]
    for place in range(0, len(lines), rows):
        text = "\n".join(lines[place : place + rows])
        figure.text(0.06 + 0.24 * place / rows, -0.02, text, va="top", fontsize=9)


# %%
macs = {name: counted(name)["macs"] for name in speeds}
figure, ax = plt.subplots(figsize=(8, 4.2))
standard = [name for name in names[:3] if name in speeds]
rate = np.median([speeds[name] * macs[name] / 1e9 for name in standard])
line = np.array([0.1, 20])
label = f"{rate:.0f} billion MACs a second"
ax.plot(line, rate / line, color=plots.GREY, linestyle="--", label=label)
ranked = sorted(speeds, key=macs.get)
for number, name in enumerate(ranked, 1):
    numbered(ax, macs[name] / 1e9, speeds[name], number)
ax.set(xscale="log", yscale="log", xlabel="billion MACs")
ax.set_ylabel("images a second, batch 1")
ax.legend()
name_columns(figure, ranked, 5)

# %% [markdown]
# Time does not follow MACs alone. Networks of standard convolutions lie near the line. Most of those that save
# arithmetic lie below it: per MAC they are slower. Depthwise and grouped convolutions read and write as many values as
# before and compute little with each. And every layer has an overhead, however little it computes. Such networks are
# still fast, but most are less fast than their MACs promise. How fast is each, per MAC?

# %%
rows = {name: speeds[name] * macs[name] / 1e9 for name in reversed(ranked)}
ax = plots.dots({"here": rows}, "billion MACs a second", log_x=True)
if {"vgg16", "resnet101"} <= set(speeds):
    faster = speeds["resnet101"] / speeds["vgg16"]
    print(f"ResNet-101 classifies {faster:.1f} times as many images as VGG-16 here")

# %% [markdown]
# ## The families, the same minutes
#
# The families were made for ImageNet. On small pictures, with little training, the order may be another one. We take a
# small relative of each family and train all of them for about the same CPU time: the number of steps of each is fixed
# from the measured time of a step, so that a run can be repeated exactly. All have a 3 × 3 stem of stride 1, and each
# is narrower or shorter than its original. This matters for the MobileNets: the whole MobileNet has 27 convolutions in
# a chain without shortcuts. We tried a quarter-width copy of it, seed 0, 250 steps, at three rates: at the best of them
# it got 38 % of the validation images right. Ours keeps the first five of its thirteen pairs.

# %%
small = {
    "plain": ("plain18", {"stem": "3x3", "width": 0.25}),
    "ResNet": ("resnet18", {"stem": "3x3", "width": 0.25}),
    "ResNeXt": None,
    "SENet": ("seresnet50", {"stem": "3x3", "blocks": (1, 1, 1, 1), "width": 0.25}),
    "DenseNet": ("densenet_bc100_12", {"blocks": (4, 4, 4)}),
    "MobileNet": None,
    "MobileNet v2": None,
    "ShuffleNet": ("shufflenet_v1_g3", {"stem_stride": 1, "width": 0.5,
                                        "repeats": (2, 3, 2)}),
}  # fmt: skip
(x, labels), held_out, test = loaded(family_size)


# %%
def small_resnext():
    """Four bottlenecks, of 8 groups."""
    counts, block = (1, 1, 1, 1), resnext.grouped(8, 8)
    frame = ("resnext", x.shape[1:], len(classes), True, counts, block)
    return resnet.frame(*frame, stem="3x3", width=0.25)


def small_mobilenet():
    """Stem and the first five pairs, at half width."""
    image = layers.Input(x.shape[1:])
    y = conv_bn_relu(image, 16, 3, name="stem")
    for number, (channels, stride) in enumerate(mobilenet.PAIRS[:5]):
        y = mobilenet.separable(y, channels // 2, stride, f"pair{number}")
    return keras.Model(image, classifier(y, len(classes)))


# %%
def small_mobilenet_v2():
    """Stem, five inverted residuals of 16, 24 and 32 channels, a 1x1."""
    image = layers.Input(x.shape[1:])
    y = conv_bn_relu(image, 16, 3, name="stem")
    plan = ((1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1))
    for number, (wider, channels, stride) in enumerate(plan):
        wide = wider * y.shape[-1]
        name = f"block{number}"
        y = mobilenet_v2.inverted_residual(y, wide, channels, stride, name)
    y = conv_bn_relu(y, 128, 1, name="last")
    return keras.Model(image, classifier(y, len(classes)))


# %% [markdown]
# One thing first. On a CPU, TensorFlow's *gradient* of a grouped convolution is very slow. The families with groups
# would then be slow because of this program, and not because of their design. We know a remedy from above: groups are
# paths side by side. Here is the same layer with the same weights, computed path by path:


# %%
class Paths(layers.Conv2D):
    """A grouped convolution as so many small ones."""

    def macs(self, input_shape):
        """Each weight works once at each place of the output."""
        places = self.compute_output_shape((1, *input_shape))[1:3]
        return math.prod(places) * math.prod(self.kernel.shape)

    def call(self, x):
        pair = (ops.split(one, self.groups, axis=-1) for one in (x, self.kernel))
        options = self.strides, self.padding
        y = [ops.conv(part, kernel, *options) for part, kernel in zip(*pair)]
        y = ops.concatenate(y, axis=-1)
        return y + self.bias if self.use_bias else y


def by_paths(layer):
    """A copy of a layer; of a grouped convolution, its form in paths."""
    grouped = isinstance(layer, layers.Conv2D) and layer.groups > 1
    kind = Paths if grouped else type(layer)
    return kind.from_config(layer.get_config())


# %%
def step_time(convolution):
    """Milliseconds of a training step on 32 maps of 12 x 12 x 64: a median."""
    maps = layers.Input((12, 12, 64))
    model, clock = keras.Model(maps, convolution(maps)), []
    model.compile("sgd", "mse", jit_compile=training.jit_compile())
    for _ in range(6):
        begin = time.perf_counter()
        model.train_on_batch(np.zeros((32, 12, 12, 64)), np.zeros((32, 12, 12, 64)))
        clock.append(time.perf_counter() - begin)
    return 1e3 * np.median(clock[1:])


same = {"padding": "same", "use_bias": False}
kinds = {"full": layers.Conv2D(64, 3, **same)}
kinds["8 groups"] = layers.Conv2D(64, 3, groups=8, **same)
kinds["8 paths"] = Paths(64, 3, groups=8, **same)
clock = {name: step_time(layer) for name, layer in kinds.items()}
plots.bars(clock, "milliseconds for a training step, here")


# %%
made = {"ResNeXt": small_resnext, "MobileNet": small_mobilenet,
        "MobileNet v2": small_mobilenet_v2}  # fmt: skip


def relative(family):
    """The small network of a family, untrained."""
    if family in made:
        model = made[family]()
    else:
        name, options = small[family]
        model = architectures.build(name, x.shape[1:], len(classes), **options)
    return keras.models.clone_model(model, clone_function=by_paths)


rows = []
for family, count in zip(small, family_steps):
    total = architectures.outline(functools.partial(relative, family))
    total = arithmetic.totals(total)
    rows.append([f"{total['params']:,}", f"{total['macs'] / 1e6:.1f} M", count])
pd.DataFrame(rows, list(small), ["parameters", "MACs", "steps"])

# %% [markdown]
# One learning rate for all would be unfair: what suits a plain network may be too small for a MobileNet. So each family
# tries the same rates, one training each, and the *validation* images choose. The test images come at the end, and
# nothing is chosen by them. Adam trains here, because it needs the least care; the schedule is as above.


# %%
def trained_relative(family, count, rate, run):
    """(network, its curves) after a training of `count` steps."""
    make = functools.partial(relative, family)
    schedule = training.WarmupHoldDecay(rate, count, max(1, count // 10), decay=0.5)
    model = training.compile_classifier(make(), keras.optimizers.Adam(schedule))
    return model, one_run(model, make, run, count)


tried, families, tested = {}, {}, {}
for family, count in zip(small, family_steps):
    if not count:
        continue
    runs = {rate: trained_relative(family, count, rate, 0) for rate in family_rates}
    tried[family] = {rate: 1 - curve["error"][-1] for rate, (_, curve) in runs.items()}
    best = max(tried[family], key=tried[family].get)
    more = [trained_relative(family, count, best, run) for run in range(1, repeats)]
    models, curves_ = zip(runs[best], *more)
    families[family] = together(curves_)
    tested[family] = [1 - error(model, test) for model in models]
    keras.utils.clear_session()

# %%
rates = {f"rate {rate:g}": {} for rate in family_rates}
for family, accuracies in tried.items():
    for rate, accuracy in accuracies.items():
        rates[f"rate {rate:g}"][family] = accuracy
plots.dots(rates, "accuracy on validation images, one training", {"chance": chance})

# %% [markdown]
# With the rate that was best for it, each family is trained once more. How does accuracy grow with CPU time?

# %%
reached = {family: 1 - curve["error"] for family, curve in families.items()}
spent = {family: curve["seconds"].mean(axis=0) for family, curve in families.items()}
figure, ax = plt.subplots(figsize=(8, 4))
label = "accuracy on validation images"
plots.curves(reached, spent, "CPU seconds", label, {"chance": chance}, ax=ax)

# %%
final = {family: tested.get(family, [chance]) for family in small}
label = "accuracy on test images, one dot for each training"
plots.dots({"at its best rate": final}, label, {"chance": chance})

# %%
names = {family: f"small_{family.lower().replace(' ', '_')}" for family in small}
record(**{names[family]: float(np.mean(values)) for family, values in final.items()})

# %% [markdown]
# How to read this? First look at the dots of the rates: one and the same family ends at different accuracies. With one
# rate for all, this comparison would have judged the rate and not the families. Then look at the small MobileNets. They
# have less than a quarter of the plain network's MACs and less than a tenth of its parameters, and yet they learn. So
# an efficient network can succeed on small pictures, if it is short enough for the number of steps and has its own
# rate.
#
# Families that save MACs gain fewer steps on this machine than their MACs promise, because depthwise convolutions and
# many small layers take time without much arithmetic: compare the numbers of steps in the table. The order of the
# families is not ImageNet's, and with other pictures or more steps it may be another one again. What you can take along
# is the method: the same pictures, the same time, a rate chosen for each on validation images, several runs, and no
# conclusion from a difference that is smaller than the distance of the dots.
#
# ## Which architecture?
#
# Published top-1 accuracies on ImageNet's validation images, one crop of the network's input size unless said
# otherwise, as the papers give them [paper]. We compute parameters and MACs ourselves.
#
# **Be careful with this comparison.** The papers appeared between 2014 and 2019, and each trained its networks in its
# own way: with other augmentation, for another number of epochs, with other schedules. Most networks see images of 224
# × 224, Inception-ResNet-v2 and Xception 299 × 299. So a difference of a point or two may come from the training and
# not from the architecture. How much training alone can gain stands at the end of this section.
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
    "alexnet": 57.2, "squeezenet1_0": 57.5, "googlenet": 69.8, "vgg16": 71.5,
    "mobilenet": 70.6, "resnet50": 75.2, "resnet101": 76.83, "resnet152": 77.58,
    "resnext50_32x4d": 77.89, "seresnet50": 76.71, "inception_resnet_v2": 79.63,
    "densenet121": 74.98, "densenet169": 76.2, "densenet201": 77.42,
    "mobilenet_v2": 72.0, "mobilenet_v3_large": 75.2, "mobilenet_v3_small": 67.4,
    "shufflenet_v1_g3": 67.4, "shufflenet_v2_x1_0": 69.4, "xception": 79.0,
    "wide_resnet50_2": 78.1,
}  # fmt: skip
rows = {}
for name, accuracy in published.items():
    total = counted(name)
    rows[name] = accuracy, total["params"] / 1e6, total["macs"] / 1e9
choice = pd.DataFrame(rows, ["top-1", "million parameters", "billion MACs"]).T


# %%
def border(table, column):
    """The networks that no other one beats in accuracy at no higher cost."""
    ordered = table.sort_values([column, "top-1"], ascending=[True, False])
    return ordered[ordered["top-1"] > ordered["top-1"].cummax().shift(fill_value=0)]


ranked = choice.sort_values("top-1", ascending=False)
figure, axes = plt.subplots(1, 2, figsize=(8, 5.6), sharey=True)
for ax, column in zip(axes, ("million parameters", "billion MACs")):
    best = border(choice, column)
    style = {"color": plots.GREY, "linestyle": "--", "linewidth": 1, "zorder": 0}
    ax.plot(best[column], best["top-1"], **style)
    for number, (name, row) in enumerate(ranked.iterrows(), 1):
        colour = plots.VERMILLION if name in best.index else plots.BLUE
        numbered(ax, row[column], row["top-1"], number, colour)
    ax.set(xscale="log", xlabel=column, ylim=(66.5, 80.5))
axes[0].set_ylabel("published top-1 accuracy, %")
name_columns(figure, ranked.index, 6)
title = "Orange: nothing is both cheaper and better"
figure.suptitle(f"{title} (AlexNet and SqueezeNet, at 57 %, lie below)")

# %% [markdown]
# We can also give each network one number: points of accuracy for each million parameters, or for each billion MACs.
# Small networks win both, because the first seventy points are cheap and the last five are not. So the picture above,
# with its border of the best, tells more than a ratio.

# %%
density = pd.DataFrame({
    "points per million parameters": choice["top-1"] / choice["million parameters"],
    "points per billion MACs": choice["top-1"] / choice["billion MACs"],
})  # fmt: skip
density = density.sort_values("points per million parameters")
figure, axes = plt.subplots(1, 2, figsize=(8, 5), sharey=True)
for ax, column in zip(axes, density):
    style = {"color": plots.GREY, "linewidth": 1}
    ax.hlines(density.index, density[column].min() / 2, density[column], **style)
    ax.plot(density[column], density.index, "o", color=plots.BLUE)
    ax.set(xscale="log", xlabel=column)
    ax.grid(axis="y", visible=False)

# %% [markdown]
# ### Where it went since
#
# The story did not end in 2019.
#
# - **EfficientNet** (Tan and Le 2019) scales depth, width and image size *together*. Its smallest network B0, of
#   MobileNet v2's blocks with squeeze and excitation, was found by a search. B1 to B7 multiply depth, width and side by
#   fixed factors.
# - **RegNet** (Radosavovic et al. 2020) looks at thousands of trained networks and keeps simple rules: the widths of
#   the stages follow a straight line, the blocks are ResNeXt's, with squeeze and excitation in the Y variants.
# - **ConvNeXt** (Liu et al. 2022) starts from ResNet-50 and changes it step by step towards what transformers do:
#   depthwise 7 × 7 filters, inverted bottlenecks, layer normalisation, fewer activations, a longer training.
#
# We count two of them with Keras's own networks. The other figures are the papers' [paper].

# %%
applications = keras.applications
later = {"EfficientNet-B0": applications.EfficientNetB0}
later["ConvNeXt-T"] = applications.ConvNeXtTiny
counts = {"ResNet-50": counted("resnet50")}
for name, make in later.items():
    model = architectures.outline(functools.partial(make, weights=None))
    counts[name] = arithmetic.totals(model)
for name, total in counts.items():
    millions, billions = total["params"] / 1e6, total["macs"] / 1e9
    print(f"{name:16} {millions:5.1f} M parameters {billions:6.2f} G MACs")

# %% [markdown]
# | network | year | image | parameters [paper] | MACs [paper] | top-1 [paper] |
# |---|---|---|---|---|---|
# | EfficientNet-B0 | 2019 | 224 | 5.3 M | 0.39 G | 77.1 % |
# | RegNetY-4.0GF | 2020 | 224 | 20.6 M | 4.0 G | 79.4 % |
# | ConvNeXt-T | 2022 | 224 | 29 M | 4.5 G | 82.1 % |
#
# How much of this is training? The ConvNeXt paper trains ResNet-50, unchanged, with its modern recipe: from 76.1 to
# 78.8 %. Wightman, Touvron and Jégou (2021) reach 80.4 % with the same network and a still longer training. So *recipes
# alone* gain two to four points, more than lies between many of the networks in the picture above.
#
# | you need | look at |
# |---|---|
# | the best accuracy, whatever it costs | ConvNeXt, and a long modern recipe |
# | a good default, weights everywhere | ResNet-50, with newer weights |
# | a small file | SqueezeNet, MobileNet v3, EfficientNet-B0; DenseNet at equal accuracy |
# | little arithmetic (battery, phone) | MobileNet v3, ShuffleNet v2 |
# | speed on *your* machine | measure: MACs are only a hint |
# | pictures of 32 pixels, minutes of training | the comparison above, with your own pictures |
#
# ## Summary
#
# You can now
#
# - tell slow training of deep networks from overfitting, and say why it cannot be a lack of solutions;
# - build and count residual blocks, bottlenecks and projections, and recognise which ResNet a printed count belongs
#   to;
# - hold "vanishing gradients" against measured gradients, and draw a loss surface with filter-normalised directions;
# - say how ResNeXt, SENet, DenseNet, MobileNet and ShuffleNet save weights or MACs, and name their relatives from a
#   drawing;
# - compare architectures at equal CPU time with a rate chosen for each, and know that MACs, parameters, time and
#   accuracy rank them differently.
#
# ## Exercises
#
# 1. (easy) How many layers has a ResNet with bottlenecks in stages of 3, 13, 30 and 3 blocks? And which n gives the
#    CIFAR network of 110 layers? *Hint: 3 · blocks + 2; 6n + 2.*
# 2. (easy) Which α makes MobileNet cost a tenth of its MACs? *Hint: `architectures.outline("mobilenet", alpha=...)`;
#    the depthwise layers fall with α, the pointwise ones with α².*
# 3. (medium) Start the residual branches with γ = 0.2. Do the curves lie between those of γ = 0 and γ = 1? Run three
#    seeds before you answer. *Hint: `variants`.*
# 4. (medium) Draw the loss surface of an untrained network, and with directions that are not filter-normalised.
#    *Hint: one line of `direction`.*
# 5. (hard) Train `highway20`, `resnet20` and `resnet20_v2` for the same CPU time over five seeds. Is any difference
#    larger than the spread? *Hint: `one_run`, with steps from the measured time of a step, and a rate chosen for each.*
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
# - M. Tan, Q. Le, *EfficientNet: rethinking model scaling for convolutional neural networks*, ICML 2019; I. Radosavovic
#   et al., *Designing network design spaces*, CVPR 2020; Z. Liu et al., *A ConvNet for the 2020s*, CVPR 2022; R.
#   Wightman, H. Touvron, H. Jégou, *ResNet strikes back: an improved training procedure in timm*, arXiv 2021.
# - A. Canziani, A. Paszke, E. Culurciello, *An analysis of deep neural network models for practical applications*,
#   arXiv 2016.
