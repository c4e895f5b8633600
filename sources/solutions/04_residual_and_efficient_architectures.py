# %% [markdown]
# # 04 Residual and efficient architectures: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/04_residual_and_efficient_architectures.ipynb)
#
# **Can a network of 38 layers be worse than one of 14 on the images that it was trained on?** You will train such a
# pair. Then you will turn the better network into one of 38 layers that gives the same answers, and so prove that the
# deeper network had a better solution than the one that its training found.
#
# Before that you write the blocks that the networks of a decade consist of. Each of them is a dozen lines long. The
# checks put your blocks into the published networks in place of the course's own, and count: if one weight is missing,
# the published count tells.
#
# You will be able to
#
# - write a residual block, a bottleneck, a dense block, a depthwise separable block and squeeze-and-excitation;
# - check a block by its count and by its outputs;
# - put blocks together into a network of any depth, and train it with a warm-up;
# - make a trained network deeper without changing what it computes;
# - read training curves at two depths, with and without shortcuts.
#
# It takes about three hours to solve. There are eight gaps and two questions, 22 points. The lab runs in three to four
# minutes on two cores.

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
seed: int = 0  # [0, ] initial weights, and the order of the images
pictures: str = "shapes_crops"  # a data set with labels, by name or path
image_size: int = 24  # [16, 48] height and width of the images
blocks: list[int] = [2, 6]  # blocks in each of three stages, two depths
steps: int = 400  # [10, 100000] training steps of 32 images
looks: int = 10  # [2, 50] points of a training curve
on_error: str = "raise"  # {raise, skip} what to do about files that cannot be used
floor: float = 0.55  # [0, 1] share of the validation images that must be right

# %%
import functools
import math

import keras
import numpy as np
from keras import layers, ops

from utils import architectures, arithmetic, checks, data, plots
from utils import results, session, training, transfer
from utils.architectures import blocks as bricks
from utils.architectures import densenet, mobilenet, resnet

session.start(seed)

# %% [markdown]
# The blocks are made of the functions below and of Keras's `Add`, `Concatenate`, `Multiply`, `GlobalAveragePooling2D`
# and `Dense`. `conv` and `depthwise` put (size − 1) / 2 zeros on every side, as the papers do. (Keras's "same" puts the
# odd zero at the end where the stride is 2, and gives other values.) They have no bias, since a normalisation follows.


# %%
def padded(x, size, stride):
    """What a convolution reads, and Keras's word for its padding."""
    if stride == 1:
        return x, "same"
    return layers.ZeroPadding2D((size - 1) // 2)(x), "valid"


def conv(x, filters, size, stride=1):
    """Convolution, no bias: (B, H, W, C) -> (B, H / stride, W / stride, filters)."""
    x, padding = padded(x, size, stride)
    options = {"use_bias": False, "kernel_initializer": "he_normal"}
    return layers.Conv2D(filters, size, stride, padding, **options)(x)


def depthwise(x, size, stride=1):
    """One filter for each channel: (B, H, W, C) -> (B, H / stride, W / stride, C)."""
    x, padding = padded(x, size, stride)
    return layers.DepthwiseConv2D(size, stride, padding, use_bias=False)(x)


# %%
def norm(x):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def relu(x):
    return layers.ReLU()(x)


# %% [markdown]
# The checks build your block, give it the weights of the course's own block, layer by layer, and compare the outputs on
# random images. In which order you write the branches does not matter. The next four cells are these checks' helpers;
# you need not read them.


# %%
def built(name, block, shape):
    """The model of a function of a tensor; AssertionError where it gives no tensor."""
    image = layers.Input(shape)
    y = block(image)
    assert y is not None, f"{name} returned None: has it a return?"
    kind = type(y).__name__
    is_tensor = isinstance(y, keras.KerasTensor)
    assert is_tensor, f"{name} must return one tensor, got {kind}"
    assert y is not image, f"{name} returned its input unchanged"
    return keras.Model(image, y)


# %%
def parts(model):
    """dict from the shapes of a layer and of the one before a norm to such layers."""
    makers = {id(layer.output): layer for layer in model.layers}
    found = {}
    for layer in (layer for layer in model.layers if layer.weights):
        shape = tuple(size for size in layer.weights[0].shape if size > 1)
        is_norm = isinstance(layer, layers.BatchNormalization)
        before = makers.get(id(layer.input)) if is_norm else None
        behind = before is not None and before.weights
        behind = before.weights[0].shape if behind else ()
        behind = tuple(size for size in behind if size > 1)
        found.setdefault((shape, behind, len(layer.weights)), []).append(layer)
    return found


def randomise(model, rng):
    """Give every weight a random value, scales and variances positive ones."""
    for weight in model.weights:
        values = rng.normal(0, 0.2, weight.shape)
        if weight.path.endswith(("gamma", "moving_variance")):
            values = rng.uniform(0.5, 1.5, weight.shape)
        weight.assign(values.astype("float32"))


# %%
def copy_weights(name, mine, theirs):
    """Give a model the weights of a reference; AssertionError where they do not fit."""
    own, expected = parts(mine), parts(theirs)
    for (size, *rest), sources in expected.items():
        same = own.get((size, *rest), [])
        text = f"{name}: {len(sources)} layers with weights of shape {size} are needed"
        hint = "" if same else ": is each norm behind its own convolution?"
        assert len(same) == len(sources), f"{text}, {len(same)} of yours fit{hint}"
        for source, target in zip(sources, same):
            values = zip(source.get_weights(), target.weights)
            target.set_weights([w.reshape(v.shape) for w, v in values])


def padding_hint(model):
    """What to say of a strided convolution with Keras's padding; else a question."""
    for layer in model.layers:
        size, stride = (getattr(layer, key, (1,)) for key in ("kernel_size", "strides"))
        if max(size) > 1 and max(stride) > 1 and layer.padding == "same":
            text = "with stride 2, Keras's padding 'same' puts its odd zero at the "
            text += "end; the papers put one on every side: "
            return text + "use `conv` and `depthwise`"
    return "is the order right, and is there a ReLU at each place, and nowhere else?"


# %%
def same_outputs(name, mine, theirs, shape):
    """True where two models agree with the same weights; else an AssertionError."""
    counts = [arithmetic.totals(model)["params"] for model in (mine, theirs)]
    text = f"{name} on {shape} has {counts[1]:,} parameters, yours has {counts[0]:,}"
    assert counts[0] == counts[1], text
    shapes = [tuple(model.output_shape) for model in (mine, theirs)]
    text = f"{name}: {shape} becomes {shapes[1]}, got {shapes[0]}"
    assert shapes[0] == shapes[1], text
    randomise(theirs, np.random.default_rng(4))
    copy_weights(name, mine, theirs)
    images = np.random.default_rng(5).normal(size=(2, *shape)).astype("float32")
    yours = ops.convert_to_numpy(mine(images, training=False))
    expected = ops.convert_to_numpy(theirs(images, training=False))
    off = np.abs(yours - expected)
    place = tuple(int(i) for i in np.unravel_index(off.argmax(), off.shape))
    text = f"{name}: with the same weights, expected {expected[place]:.3g} at {place}, "
    text += f"got {yours[place]:.3g}; {padding_hint(mine)}"
    assert off.max() < 1e-3 * np.abs(expected).max(), text
    return True


# %%
ready = {"basic", "bottleneck", "dense_layer", "separable", "squeeze_excite"}
own_work = functools.partial(checks.own_work, of=architectures, names=ready)


def agrees(name, block, reference, shape):
    """`same_outputs` for two functions of a tensor, the first without the course's."""
    models = [built(name, function, shape) for function in (block, reference)]
    assert own_work(block, layers.Input(shape))
    return same_outputs(name, *models, shape)


# %% [markdown]
# ## 1. The residual block (2 points)
#
# Write `residual_block(x, filters, stride)`: 3 × 3 convolution with the stride, normalisation, ReLU, 3 × 3 convolution,
# normalisation; add the shortcut; ReLU.
#
# The shortcut is x itself where its shape fits. Where the stride or the number of channels changes, it is a 1 × 1
# convolution with that stride, and a normalisation.
#
# In: a tensor (B, H, W, C). Out: a tensor (B, H / stride, W / stride, filters), H / stride and W / stride rounded up.
# The checks count: 73,984 parameters with an identity at 64 channels, 230,144 from 64 to 128 with stride 2. They
# compare outputs, and build ResNet-34 of your blocks.


# %% gap="residual" stub="two convolutions, the shortcut, their sum, and a ReLU"
def residual_block(x, filters, stride=1):
    ### BEGIN SOLUTION
    side = x
    if stride != 1 or x.shape[-1] != filters:
        side = norm(conv(x, filters, 1, stride))
    y = relu(norm(conv(x, filters, 3, stride)))
    y = norm(conv(y, filters, 3))
    return relu(layers.Add()([side, y]))
    ### END SOLUTION


# %%
def residual_agrees(filters, stride, shape):
    """Your block beside the course's own, with its weights."""
    return agrees(
        f"residual_block(x, {filters}, {stride})",
        lambda x: residual_block(x, filters, stride),
        lambda x: resnet.basic(x, filters, stride, "block"),
        shape,
    )


# %% check="residual" points=1
assert residual_agrees(64, 1, (8, 8, 64)), "as above"
assert residual_agrees(128, 2, (8, 8, 64)), "as above"
print("passed: the outputs of the reference, with and without a projection")


# %% check="residual" points=1
def resnet_of(name, block):
    """A network of ResNet's table of these blocks; its weights have no values."""
    counts = resnet.CONFIGURATIONS[name]

    def named(x, filters, stride, _):
        return block(x, filters, stride)

    frame = (name, (224, 224, 3), 1000, True, counts, named)
    return arithmetic.totals(architectures.outline(lambda: resnet.frame(*frame)))


found = resnet_of("resnet34", residual_block)
for key, expected in {"params": 21_797_672, "macs": 3_663_761_408}.items():
    text = f"ResNet-34 has {expected:,} {key}, built of your blocks {found[key]:,}"
    assert found[key] == expected, text
### BEGIN HIDDEN TESTS
assert residual_agrees(24, 1, (6, 6, 16)), "more channels at stride 1"
assert residual_agrees(16, 2, (7, 7, 16)), "as many channels at stride 2"
### END HIDDEN TESTS
print("passed: ResNet-34 built of your blocks, to the last parameter")

# %%
image = layers.Input((56, 56, 64), name="image")
drawn = keras.Model(image, residual_block(image, 128, 2))
plots.block_diagram(drawn, title="your residual block, stride 2")

# %% [markdown]
# ## 2. The bottleneck (2 points)
#
# Write `bottleneck(x, filters, stride)`: a 1 × 1 convolution to `filters` channels, *with the stride* (as in the
# paper), a 3 × 3, and a 1 × 1 to four times `filters`. Each is followed by a normalisation, the first two also by a
# ReLU. Then the sum with the shortcut, as above but with four times the filters, and a ReLU.
#
# In: (B, H, W, C). Out: (B, H / stride, W / stride, 4 · filters), H / stride and W / stride rounded up. 70,400
# parameters at 256 channels with 64 filters; the checks build ResNet-50 and ResNet-101 of it.


# %% gap="bottleneck" stub="1x1 with the stride, 3x3, 1x1 to four times the filters, the sum with the shortcut"
def bottleneck(x, filters, stride=1):
    ### BEGIN SOLUTION
    side = x
    if stride != 1 or x.shape[-1] != 4 * filters:
        side = norm(conv(x, 4 * filters, 1, stride))
    y = relu(norm(conv(x, filters, 1, stride)))
    y = relu(norm(conv(y, filters, 3)))
    y = norm(conv(y, 4 * filters, 1))
    return relu(layers.Add()([side, y]))
    ### END SOLUTION


# %%
def bottleneck_agrees(filters, stride, shape):
    """Your block beside the course's own, with its weights."""
    return agrees(
        f"bottleneck(x, {filters}, {stride})",
        lambda x: bottleneck(x, filters, stride),
        lambda x: resnet.bottleneck(x, filters, stride, "block"),
        shape,
    )


# %% check="bottleneck" points=1
assert bottleneck_agrees(16, 1, (8, 8, 64)), "as above"
assert bottleneck_agrees(16, 2, (8, 8, 32)), "as above"
print("passed: the outputs of the reference, with and without a projection")

# %% check="bottleneck" points=1
found = resnet_of("resnet50", bottleneck)
text = f"ResNet-50 has 25,557,032 parameters, built of your blocks {found['params']:,}"
assert found["params"] == 25_557_032, text
text = f"ResNet-50 costs 3,857,973,248 MACs, built of your blocks {found['macs']:,}"
assert found["macs"] == 3_857_973_248, f"{text}: which convolution has the stride?"
### BEGIN HIDDEN TESTS
deeper = resnet_of("resnet101", bottleneck)["params"]
text = f"ResNet-101 has 44,549,160 parameters, built of your blocks {deeper:,}"
assert deeper == 44_549_160, text
assert bottleneck_agrees(4, 1, (5, 5, 7)), "a projection at stride 1"
### END HIDDEN TESTS
print("passed: ResNet-50 built of your blocks, to the last parameter")

# %% [markdown]
# ## 3. The dense block (2 points)
#
# Write `dense_block(x, count, growth)`. It has `count` layers. Each reads all that is there so far and puts `growth`
# new maps *behind* it: normalisation, ReLU, 1 × 1 convolution to 4 · growth; normalisation, ReLU, 3 × 3 convolution to
# growth; concatenation of what was there with the new maps.
#
# In: (B, H, W, C). Out: (B, H, W, C + count · growth), the first C channels being x. The checks build DenseNet-121 of
# it: 7,978,856 parameters.


# %% gap="dense" stub="count times: two pre-activated convolutions, concatenated behind what they read"
def dense_block(x, count, growth):
    ### BEGIN SOLUTION
    for _ in range(count):
        y = conv(relu(norm(x)), 4 * growth, 1)
        y = conv(relu(norm(y)), growth, 3)
        x = layers.Concatenate()([x, y])
    return x
    ### END SOLUTION


# %%
def dense_agrees(count, growth, shape):
    """Your block beside the course's own, with its weights."""

    def reference(x):
        for layer in range(count):
            x = densenet.dense_layer(x, growth, True, 0.0, f"layer{layer}")
        return x

    name = f"dense_block(x, {count}, {growth})"
    return agrees(name, lambda x: dense_block(x, count, growth), reference, shape)


# %% check="dense" points=1
assert dense_agrees(1, 4, (6, 6, 10)), "as above"
assert dense_agrees(3, 4, (6, 6, 10)), "as above"
print("passed: the outputs of the reference, with one layer and with three")


# %% check="dense" points=1
def densenet121():
    image = layers.Input((224, 224, 3))
    x = layers.MaxPooling2D(3, 2, "same")(relu(norm(conv(image, 64, 7, 2))))
    for stage, count in enumerate((6, 12, 24, 16)):
        x = densenet.transition(x, 0.5, f"transition{stage}") if stage else x
        x = dense_block(x, count, 32)
    return keras.Model(image, bricks.classifier(relu(norm(x)), 1000))


found = architectures.outline(densenet121)
found = arithmetic.totals(found)["params"]
text = f"DenseNet-121 has 7,978,856 parameters, built of your blocks {found:,}"
assert found == 7_978_856, text
### BEGIN HIDDEN TESTS
probe = built("dense_block(x, 2, 3)", lambda x: dense_block(x, 2, 3), (4, 4, 5))
pixels = np.random.default_rng(1).normal(size=(1, 4, 4, 5)).astype("float32")
first = ops.convert_to_numpy(probe(pixels))[..., :5]
off = np.abs(first - pixels).max()
assert off == 0, f"the first channels must be x, unchanged; they differ by {off:.2g}"
assert dense_agrees(2, 6, (5, 5, 3)), "two layers that grow by 6"
### END HIDDEN TESTS
print("passed: DenseNet-121 built of your blocks, to the last parameter")

# %% [markdown]
# ## 4. The depthwise separable block (2 points)
#
# Write `separable_block(x, filters, stride)`: depthwise 3 × 3 with the stride, normalisation, ReLU, 1 × 1 convolution,
# normalisation, ReLU.
#
# In: (B, H, W, C). Out: (B, H / stride, W / stride, filters), H / stride and W / stride rounded up. The checks compare
# outputs and build MobileNet of it: 4,231,976 parameters, 568,740,352 MACs. With standard 3 × 3 convolutions it would
# cost eight to nine times as many MACs.


# %% gap="separable" stub="depthwise 3x3 with the stride, then 1x1, each with normalisation and ReLU"
def separable_block(x, filters, stride=1):
    ### BEGIN SOLUTION
    x = relu(norm(depthwise(x, 3, stride)))
    return relu(norm(conv(x, filters, 1)))
    ### END SOLUTION


# %%
def separable_agrees(filters, stride, shape):
    """Your block beside the course's own, with its weights."""
    return agrees(
        f"separable_block(x, {filters}, {stride})",
        lambda x: separable_block(x, filters, stride),
        lambda x: mobilenet.separable(x, filters, stride, "block"),
        shape,
    )


# %% check="separable" points=1
assert separable_agrees(12, 1, (8, 8, 6)), "as above"
assert separable_agrees(12, 2, (8, 8, 6)), "as above"
print("passed: the outputs of the reference, with stride 1 and 2")


# %% check="separable" points=1
def mobilenet_of():
    image = layers.Input((224, 224, 3))
    x = relu(norm(conv(image, 32, 3, 2)))
    for filters, stride in mobilenet.PAIRS:
        x = separable_block(x, filters, stride)
    return keras.Model(image, bricks.classifier(x, 1000))


found = arithmetic.totals(architectures.outline(mobilenet_of))
text = f"MobileNet has 4,231,976 parameters, built of your blocks {found['params']:,}"
assert found["params"] == 4_231_976, text
text = f"MobileNet costs 568,740,352 MACs, built of your blocks {found['macs']:,}"
assert found["macs"] == 568_740_352, f"{text}: which convolution has the stride?"
### BEGIN HIDDEN TESTS
assert separable_agrees(5, 2, (7, 7, 9)), "an odd size, and fewer channels out"
### END HIDDEN TESTS
print("passed: MobileNet built of your blocks, to the last parameter")

# %% [markdown]
# ## 5. Squeeze and excitation (2 points)
#
# Write `squeeze_excite(x, ratio)`: the average of each channel; a dense layer with C // ratio units and ReLU; a dense
# layer with C units and a sigmoid; x times these weights, channel by channel. Both dense layers have biases.
#
# In: (B, H, W, C). Out: the same shape. 8,464 parameters for 256 channels and a ratio of 16. The checks compare
# outputs, and add what it costs in the 16 bottlenecks to ResNet-50's 25,557,032: SE-ResNet-50 has 28,088,024.


# %% gap="squeeze" stub="average, two dense layers, a weight for each channel"
def squeeze_excite(x, ratio=16):
    ### BEGIN SOLUTION
    channels = x.shape[-1]
    w = layers.GlobalAveragePooling2D(keepdims=True)(x)  # (B, 1, 1, C)
    w = layers.Dense(channels // ratio, activation="relu")(w)
    w = layers.Dense(channels, activation="sigmoid")(w)
    return layers.Multiply()([x, w])
    ### END SOLUTION


# %%
def squeeze_agrees(units, shape):
    """Your function at ratio 2 beside the course's own, with its weights."""
    return agrees(
        "squeeze_excite(x, 2)",
        lambda x: squeeze_excite(x, 2),
        lambda x: bricks.squeeze_excite(x, units, "block"),
        shape,
    )


# %% check="squeeze" points=1
assert squeeze_agrees(8, (6, 6, 16)), "as above"
print("passed: the outputs of the reference")


# %% check="squeeze" points=1
def squeeze_count(channels):
    """Parameters of your function on so many channels."""
    return built("squeeze_excite", squeeze_excite, (7, 7, channels)).count_params()


found = squeeze_count(256)
text = f"256 · 16 + 16 and 16 · 256 + 256 are 8,464 parameters, yours are {found:,}"
assert found == 8_464, text
stages = ((3, 256), (4, 512), (6, 1024), (3, 2048))  # SE-ResNet-50's bottlenecks
found = 25_557_032 + sum(count * squeeze_count(channels) for count, channels in stages)
text = f"SE-ResNet-50 has 28,088,024 parameters, with yours {found:,}"
assert found == 28_088_024, text
### BEGIN HIDDEN TESTS
assert squeeze_agrees(5, (3, 4, 10)), "a map that is not square"
### END HIDDEN TESTS
print("passed: SE-ResNet-50, to the last parameter")

# %% [markdown]
# ## 6. A network of any depth (3 points)
#
# Write `network(block, count, shape, classes)`, the paper's network for small images: a 3 × 3 convolution with 16
# filters, normalisation and ReLU; three stages of `count` blocks with 16, 32 and 64 filters, the first block of stages
# two and three with stride 2; a global average; a dense layer that gives logits. Out: a `keras.Model`.
#
# `block` is a function (x, filters, stride), such as your `residual_block`, or `plain_block` below, which is the same
# without a shortcut. The checks count, and compare the logits with those of the course's own networks. Twenty layers
# (count 3) for 32 × 32 × 3 and ten classes have 269,722 parameters and 40,551,040 MACs with plain blocks. With your
# residual blocks they have 272,474 parameters. (A departure: the shortcuts of the paper's small networks have no
# parameters, option A; your block projects, option B.)


# %%
def plain_block(x, filters, stride=1):
    """Two convolutions, no shortcut."""
    return relu(norm(conv(relu(norm(conv(x, filters, 3, stride))), filters, 3)))


# %% gap="network" stub="stem, three stages of blocks, global average, logits"
def network(block, count, shape, classes):
    ### BEGIN SOLUTION
    image = layers.Input(shape)
    x = relu(norm(conv(image, 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes)(x))
    ### END SOLUTION


# %%
def network_model(block, count, shape, classes):
    """What `network` gives; an AssertionError where it is no model."""
    model = network(block, count, shape, classes)
    text = f"network must return a keras.Model, got {type(model).__name__}"
    assert isinstance(model, keras.Model), text
    return model


# %% check="network" points=1
asked = []


def spy(x, filters, stride=1):
    """A plain block that writes down what it was asked for."""
    asked.append((int(filters), int(stride)))
    return plain_block(x, filters, stride)


network_model(spy, 2, (16, 16, 1), 4)
wanted = [(16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)]
assert asked == wanted, f"the blocks' (filters, stride) are {wanted}, got {asked}"
counts = {plain_block: (269_722, 40_551_040), residual_block: (272_474, 40_813_184)}
for block, numbers in counts.items():
    options = block, 3, (32, 32, 3), 10
    model = architectures.outline(functools.partial(network_model, *options))
    found = arithmetic.totals(model)
    for key, expected in zip(("params", "macs"), numbers):
        text = f"20 layers with {block.__name__} have {expected:,} {key}"
        hint = "is the stem at stride 1, with nothing but norm and ReLU behind it?"
        assert found[key] == expected, f"{text}, yours have {found[key]:,}: {hint}"
print("passed: parameters and MACs of 20 layers, plain and residual")

# %% check="network" points=2
shape = (12, 12, 3)
for name, block in {"plain20": plain_block, "resnet20": residual_block}.items():
    options = {"shortcuts": "B"} if name == "resnet20" else {}
    reference = architectures.build(name, shape, 7, **options)
    mine = network_model(block, 3, shape, 7)
    assert same_outputs(f"network with {block.__name__}", mine, reference, shape), name
### BEGIN HIDDEN TESTS
tiny = network_model(plain_block, 1, (16, 16, 3), 7)
shape = tuple(tiny.output_shape)
assert shape == (None, 7), f"one block a stage: logits of shape (None, 7), got {shape}"
noise = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
sums = ops.convert_to_numpy(tiny(noise)).sum(axis=1)
text = "logits were asked for; these outputs sum to 1: is there a softmax?"
assert not np.allclose(sums, 1, atol=1e-3), text
### END HIDDEN TESTS
print("passed: the logits of the course's own networks, with the same weights")

# %% [markdown]
# ## 7. Train it (3 points)
#
# Write `train(model, images, labels, steps, peak)`: train for `steps` steps of 32 images, and return the training loss
# of each of the `looks` parts of the run, in order. The pieces:
#
# 1. `training.WarmupHoldDecay(peak, steps, warmup=steps // 10)`: a learning rate that rises, holds and falls to 0;
# 2. `keras.optimizers.SGD(rate, momentum=0.9)`, and `training.compile_classifier(model, optimizer)`, whose loss expects
#    logits;
# 3. `x, y = transfer.repeat(images, labels, steps, 32, seed)`: the images of *all* steps in a row, `steps · 32` of
#    them;
# 4. `training.fit(model, lambda part: (x[...], y[...]), looks, batch_size=32, seed=seed)` calls your function for part
#    0, 1, ... and trains on what it gives. Which images belong to which part? `.history["loss"]` of its result is the
#    answer.
#
# The first check trains toys of one layer, and looks at their optimizer, their losses and at which images have been
# used. The second trains your shallower residual network and lets it classify the validation images.


# %% gap="train" stub="schedule, optimizer, compile, fit in parts; return the loss of each part"
def train(model, images, labels, steps, peak=0.1):
    ### BEGIN SOLUTION
    rate = training.WarmupHoldDecay(peak, steps, warmup=steps // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    size = len(x) // looks

    def portion(part):
        here = slice(part * size, (part + 1) * size)
        return x[here], y[here]

    fitted = training.fit(model, portion, looks, batch_size=32, seed=seed)
    return fitted.history["loss"]
    ### END SOLUTION


# %%
def toy(pixels):
    """One dense layer on images (pixels, 1, 1), all weights 0."""
    flat = [layers.Input((pixels, 1, 1)), layers.Flatten()]
    return keras.Sequential([*flat, layers.Dense(2, kernel_initializer="zeros")])


def trained_toy(model, images, labels, steps, peak):
    """The losses of `train` on a toy; an AssertionError where they are no list."""
    losses = train(model, images.astype("float32"), labels, steps, peak)
    text = f"train must return the loss of each of {looks} parts, got {losses!r:.60}"
    assert losses is not None and np.shape(losses) == (looks,), text
    done = int(model.optimizer.iterations)
    text = f"expected {steps} steps in all, the optimizer has taken {done}"
    text += f": is each part one of {looks} equal pieces of x and y?"
    assert done == steps, text
    return np.asarray(losses, "float64")


def rates(optimizer, steps):
    """The learning rate of an optimizer at every step."""
    found = []
    for step in range(steps):
        optimizer.iterations.assign(step)
        found.append(float(ops.convert_to_numpy(optimizer.learning_rate)))
    return np.array(found)


# %% check="train" points=1
signs = np.arange(64) % 2
coloured = (signs[:, None, None, None] - 0.5) * np.ones((64, 4, 1, 1))
model, total = toy(4), 10 * looks
losses = trained_toy(model, coloured, signs, total, 0.05)
first, last = losses[0], losses[-1]
text = f"guessing has a loss of log 2 = 0.69, the first part's is {first:.2f}"
assert first < math.log(2), f"{text}: does the loss expect logits?"
assert last < first, f"the toy's loss must fall, it went from {first:.3f} to {last:.3f}"
found = rates(model.optimizer, total)
expected = training.WarmupHoldDecay(0.05, total, warmup=total // 10)
expected = np.array([float(expected(step)) for step in range(total)])
step = int(np.abs(found - expected).argmax())
hint = "look at the peak, at warmup=steps // 10, and at the steps of the whole run"
text = f"step {step} of {total}, peak 0.05: the rate is {expected[step]:.4f}"
assert np.allclose(found, expected, rtol=0.01), f"{text}, got {found[step]:.4f}: {hint}"
print("passed: losses of all parts, and the learning rate of every step")

# %% check="train" points=1
total = 2 * looks  # 32 · total images, each with a pixel of its own
single = np.eye(32 * total)[:, :, None, None]
model = toy(32 * total)
trained_toy(model, single, np.arange(32 * total) % 2, total, 0.1)
kernel = ops.convert_to_numpy(model.layers[-1].kernel)
used = np.abs(kernel).max(axis=1) > 0  # a weight moves when its image is used
text = f"{total} steps of 32 images use {len(used)} images, yours used {used.sum()}"
assert used.mean() > 0.6, f"{text}: does each part get its own piece of x?"
### BEGIN HIDDEN TESTS
momentum = float(model.optimizer.momentum)
assert np.isclose(momentum, 0.9), f"expected a momentum of 0.9, got {momentum:g}"
settings = model.loss.get_config() if hasattr(model.loss, "get_config") else {}
text = "the loss must expect logits: use training.compile_classifier"
assert settings.get("from_logits"), f"{text}; its settings are {settings}"
### END HIDDEN TESTS
print("passed: every part has its own images")

# %%
described = data.chosen(pictures, on_error=on_error)
classes = described.classes
judged = pictures in ("shapes_crops", "fashion_mnist", "cifar10")  # the floor's data


def prepared(split):
    """Images of a split, about -2 to 2, and their labels."""
    pixels, numbers = data.arrays(pictures, split, image_size, on_error=on_error)
    return (pixels.astype("float32") - 128) / 64, numbers


images, labels = prepared("train")
held_out, held_out_labels = prepared("validation[:1000]")
shown = transfer.draw(labels, 3, seed)
looked_at = (images[shown] * 64 + 128).astype("uint8")
plots.show_images(looked_at, labels[shown], classes=classes, columns=9)


# %% [markdown]
# One thing that the paper did not do (Goyal et al. 2017): the last normalisation of each
# residual branch starts with a scale γ of 0. At first every block is its shortcut and nothing else. `fresh` makes such
# a network. Plain blocks have no sum, so they keep γ = 1: with γ = 0 nothing at all would get through them. Each block
# is a model of its own inside the network, so that we can take it out again later.


# %%
def nested(block):
    """The same block as a `keras.Model` of its own."""

    def one(x, filters, stride=1):
        inside = layers.Input(x.shape[1:])
        return keras.Model(inside, block(inside, filters, stride))(x)

    return one


def blocks_of(model):
    """The nested blocks of a network, in order."""
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def ends_of(model):
    """The other layers of such a network: stem and classifier."""
    return [layer for layer in model.layers if not isinstance(layer, keras.Model)]


# %%
def branch_ends(block):
    """The norms that a sum adds to its shortcut; none in a plain block."""
    makers = {id(layer.output): layer for layer in block.layers}
    for total in (one for one in block.operations if type(one).__name__ == "Add"):
        for tensor in total.input:
            end = makers.get(id(tensor))
            before = makers.get(id(end.input)) if hasattr(end, "gamma") else None
            if before is not None and before.kernel_size[0] == 3:
                yield end


def fresh(block, count):
    """An untrained network for the pictures; residual branches start at zero."""
    keras.utils.set_random_seed(seed)
    model = network(nested(block), count, images.shape[1:], len(classes))
    for end in (end for part in blocks_of(model) for end in branch_ends(part)):
        end.gamma.assign(ops.zeros_like(end.gamma))
    return model


# %% check="train" points=1
def accuracy(model, pixels, numbers):
    """Share of the images that a model gets right."""
    answers = transfer.predict(model, pixels, batch_size=100).argmax(axis=1)
    return float(np.mean(answers == numbers))


shallow = fresh(residual_block, blocks[0])
shallow_losses = train(shallow, images, labels, steps)
reached = accuracy(shallow, held_out, held_out_labels)
text = f"{reached:.1%} of the validation images are right, the floor is {floor:.0%}"
assert results.reaches(reached, floor, judged), text
print(f"passed: {reached:.1%} of the validation images are right")

# %% [markdown]
# Now the other three: the deeper residual network, and both depths without shortcuts.

# %%
kinds = {"residual": residual_block, "plain": plain_block}
trained, curves = {}, {}
for kind, block in kinds.items():
    for count in blocks:
        name = f"{kind}, {6 * count + 2} layers"
        if block is residual_block and count == blocks[0]:
            trained[name], curves[name] = shallow, shallow_losses
        else:
            trained[name] = fresh(block, count)
            curves[name] = train(trained[name], images, labels, steps)

# %% tags=["thumbnail"]
at = np.linspace(steps / looks, steps, looks)
guess = {"guessing": math.log(len(classes))}
title = "Your blocks, two depths"
plots.curves(curves, at, "step", "training loss", guess, title=title)

# %% [markdown]
# ## 8. The same network, deeper (3 points)
#
# The shallow plain network learns more than the deep one. Yet the deep one *can* do whatever the shallow one does: put
# more blocks into the trained shallow network, blocks that give on what they get. Find the weights of such blocks.
#
# Write two functions. Each gets a `keras.Model` of one block, with stride 1 and as many channels out as in, and sets
# its weights. Nothing is returned.
#
# - `identity_residual(block)` for a `residual_block`;
# - `identity_plain(block)` for a `plain_block`.
#
# Afterwards `block(x, training=False)` must be x, to a thousandth, for every x without negative values: what enters a
# block comes out of a ReLU. The course does not print these weights: work them out. What must a filter of 3 × 3 × C
# look like that copies one channel? What does a normalisation do, and with which four vectors does it do nothing?
#
# - `block.layers` holds the layers in order. A convolution has a `kernel`, (3, 3, C, C): row, column, channel in,
#   channel out. `layer.kernel.assign(array)` sets it.
# - A normalisation has `gamma`, `beta`, `moving_mean` and `moving_variance`. With `training=False` it gives γ · (x −
#   mean) / √(variance + 0.00001) + β.
#
# The checks compare the outputs of single blocks, and then of your trained networks with blocks put in.


# %% gap="identity" stub="set the weights of the block so that it gives on what it gets"
def identity_residual(block):
    ### BEGIN SOLUTION
    last = [layer for layer in block.layers if hasattr(layer, "moving_mean")][-1]
    last.gamma.assign(np.zeros(last.gamma.shape))
    last.beta.assign(np.zeros(last.beta.shape))
    ### END SOLUTION


def identity_plain(block):
    ### BEGIN SOLUTION
    for layer in block.layers:
        if hasattr(layer, "kernel"):
            kernel = np.zeros(layer.kernel.shape)
            kernel[1, 1] = np.eye(kernel.shape[-1])
            layer.kernel.assign(kernel)
        elif hasattr(layer, "moving_mean"):
            ones = np.ones(layer.gamma.shape)
            layer.gamma.assign(ones)
            layer.beta.assign(0 * ones)
            layer.moving_mean.assign(0 * ones)
            layer.moving_variance.assign(ones)
    ### END SOLUTION


# %%
def passes_on(name, function, block, channels):
    """True where a function turns a block into an identity; else an AssertionError."""
    one = built(block.__name__, lambda x: block(x, channels), (6, 5, channels))
    randomise(one, np.random.default_rng(channels))
    function(one)
    x = np.random.default_rng(7).gamma(1, size=(2, 6, 5, channels)).astype("float32")
    y = ops.convert_to_numpy(one(x, training=False))
    off = np.abs(y - x)
    place = tuple(int(i) for i in np.unravel_index(off.argmax(), off.shape))
    text = f"{name}: {x[place]:.3f} went into the block at {place}, "
    text += f"{y[place]:.3f} came out"
    if np.allclose(y, 0):
        text += "; it gives 0 everywhere"
    elif np.allclose(y[:, 1:-1, 1:-1], x[:, 1:-1, 1:-1], atol=1e-3):
        text += "; only the border is wrong"
    assert np.all(off < 1e-3 * (1 + x)), text
    return True


# %% check="identity" points=1
for channels in (4, 3):
    function = identity_residual
    assert passes_on("identity_residual", function, residual_block, channels), channels
print("passed: the residual block gives on what it gets")

# %% check="identity" points=1
for channels in (4, 3):
    function = identity_plain
    assert passes_on("identity_plain", function, plain_block, channels), channels
print("passed: the plain block gives on what it gets")


# %%
def deepened(kind, identity):
    """A trained shallow network with as many blocks as the deep one."""
    small = trained[f"{kind}, {6 * blocks[0] + 2} layers"]
    large = network(nested(kinds[kind]), blocks[1], images.shape[1:], len(classes))
    for source, target in zip(ends_of(small), ends_of(large)):
        target.set_weights(source.get_weights())
    for stage in range(3):
        few = blocks_of(small)[stage * blocks[0] :][: blocks[0]]
        many = blocks_of(large)[stage * blocks[1] :][: blocks[1]]
        for source, target in zip(few, many):
            target.set_weights(source.get_weights())
        for target in many[len(few) :]:
            identity(target)
    return small, large


# %% check="identity" points=1
identities = {"residual": identity_residual, "plain": identity_plain}
deeper = {}
for kind, identity in identities.items():
    small, large = deepened(kind, identity)
    expected = transfer.predict(small, held_out[:100], batch_size=100)
    logits = transfer.predict(large, held_out[:100], batch_size=100)
    off = np.abs(logits - expected).max() / np.abs(expected).max()
    more = 6 * (blocks[1] - blocks[0])
    text = f"the {kind} network, {more} layers deeper, gives other logits: "
    assert off < 0.01, f"{text}they are off by {off:.1%} of the largest"
    deeper[kind] = large
print(f"passed: {more} layers more, and the logits are the same")

# %% [markdown]
# What does your construction say about the deep networks that were *trained*? Here is the loss of each network on 1,000
# of its training images, all with the running statistics (so the values differ from the curves above).


# %%
def loss_of(model):
    """Mean cross-entropy on a thousand training images, with running statistics."""
    logits = transfer.predict(model, images[:1000], batch_size=100)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return float(loss(labels[:1000], logits))


deep = 6 * blocks[1] + 2
sides = {"trained": {}, "shallow one, deepened": {}}
for kind in kinds:
    row = f"{kind}, {deep} layers"
    sides["trained"][row] = loss_of(trained[row])
    sides["shallow one, deepened"][row] = loss_of(deeper[kind])
plots.dots(sides, "training loss", guess, title="The same layers, other weights")

# %% [markdown]
# The test images come now, once: nothing is chosen by them.

# %%
test_images, test_labels = prepared("test[:1000]")
scores = {"validation": {}, "test": {}}
for name, model in trained.items():
    scores["validation"][name] = accuracy(model, held_out, held_out_labels)
    scores["test"][name] = accuracy(model, test_images, test_labels)
plots.dots(scores, "share of images right", {"chance": 1 / len(classes)})

# %%
names = [f"{kind}, {6 * count + 2} layers" for kind in kinds for count in blocks]
keys = ("residual_shallow", "residual_deep", "plain_shallow", "plain_deep")
results.record(**{key: scores["test"][name] for key, name in zip(keys, names)})
row = f"plain, {deep} layers"
results.record(
    deep_loss_gap=curves[names[3]][-1] - curves[names[1]][-1],
    missed_by_search=sides["trained"][row] - sides["shallow one, deepened"][row],
)

# %% [markdown]
# ## 9. Read the curves (2 points)
#
# Compare the plain networks at both depths, then the residual ones, by their *training* loss. Is what you see
# overfitting? What does your construction of gap 8 prove about the deep plain network, and what does it not prove? What
# can you not conclude from one run of this length?

# %% [markdown] question="degradation" points=2
# ### BEGIN SOLUTION
# In the plain pair the deeper network ends with a larger *training* loss. That is not overfitting, which would show a
# small training loss beside a large error on new images. In the residual pair the deeper network does not stay behind.
# The construction proves that weights exist for the deep plain network with the loss of the shallow one: the layers put
# in give on what they get. So the deep network does not lack a solution; in these steps training has not found one. It
# does not prove that training could never find it, nor why it has not. It also works with the running statistics only:
# in training, batch normalisation divides by the statistics of the batch, so the plain blocks would not stay
# identities. A run of some hundred steps shows how fast a network learns, not where it ends (the paper trained for
# 64,000 steps). And with one seed, a small difference means nothing.
# ### END SOLUTION

# %% [markdown]
# ## 10. For a phone (1 point)
#
# A friend wants to classify photographs on a phone, with a file of at most 10 MB and as little arithmetic as possible.
# Which of your blocks would you build from, what would you give up, and what would you measure before you decide?

# %% [markdown] question="phone" points=1
# ### BEGIN SOLUTION
# Depthwise separable blocks: at 3 × 3 they cost eight to nine times less than standard convolutions, in weights and in
# MACs, and MobileNet's 4.2 million parameters fit when kept in 16 bits (8.5 MB). Squeeze and excitation could be added:
# it costs nearly no MACs, but a tenth more parameters. What is given up is some accuracy against a large residual
# network. Before deciding, measure the time of one image on that phone, since depthwise convolutions move much memory
# for little arithmetic, and MACs alone do not tell the time. Measure also the accuracy on the friend's own photographs.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - write the five blocks, and know that a block is right when both its count and its outputs are;
# - build the published networks from them, from ResNet-34 to MobileNet;
# - put layers into a trained network that change nothing, and say what this proves about deeper networks;
# - tell from training losses whether depth hurts, and what a short run leaves open.
#
# ## Exercises
#
# 1. *Easy.* Build ResNet-18 and ResNet-152 of your blocks and predict their counts first. *Hint:*
#    `resnet.CONFIGURATIONS`.
# 2. *Easy.* Which ratio makes squeeze-and-excitation cost 5 % of ResNet-50's parameters? *Hint:* twice the ratio, half
#    the weights.
# 3. *Medium.* Write the inverted residual of MobileNet v2: 1 × 1 to six times the channels, depthwise, 1 × 1 back
#    without activation, a shortcut where shapes allow. *Hint:* `mobilenet_v2.inverted_residual` is the reference for
#    `agrees`.
# 4. *Medium.* Start with γ = 1, as the paper does: leave the loop of `fresh` out. What changes in the curves of both
#    residual networks, and what with four times the steps? *Hint:* `steps` is a parameter.
# 5. *Medium.* Train the deepened plain network of gap 8 on. Does it stay as good as it was? Try it with the deepened
#    residual one too. *Hint:* `train(deeper["plain"], ...)`, and think of batch statistics.
# 6. *Hard.* Train `network(separable_block, ...)` for the same CPU time as the residual network. Who wins, and by how
#    much over three seeds? *Hint:* choose the learning rate of each on validation images first.
#
# ## Further reading
#
# - K. He, X. Zhang, S. Ren, J. Sun, *Deep residual learning for image recognition*, CVPR 2016.
# - P. Goyal et al., *Accurate, large minibatch SGD: training ImageNet in 1 hour*, arXiv 2017 (γ = 0).
# - T. Chen, I. Goodfellow, J. Shlens, *Net2Net: accelerating learning via knowledge transfer*, ICLR 2016 (layers put
#   into trained networks).
# - G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, *Densely connected convolutional networks*, CVPR 2017.
# - A. Howard et al., *MobileNets: efficient convolutional neural networks for mobile vision applications*, arXiv 2017.
# - J. Hu, L. Shen, G. Sun, *Squeeze-and-excitation networks*, CVPR 2018.
