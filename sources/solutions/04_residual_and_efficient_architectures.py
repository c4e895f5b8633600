# %% [markdown]
# # 04 Residual and efficient architectures: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/04_residual_and_efficient_architectures.ipynb)
#
# **Five blocks, a dozen lines each, are most of what the networks of a decade consist of.** You will write them, put
# them into the published networks in place of the course's own, and count: if a single weight is missing, the
# published count will tell. Then you train with your residual block and without its shortcut.
#
# You will be able to
#
# - write a residual block, a bottleneck, a dense block, a depthwise separable block and squeeze-and-excitation;
# - check a block by its count and by its outputs;
# - put blocks together into a network of any depth;
# - train plain and residual networks at two depths, and read the four curves.
#
# Plan two hours for it. There are 18 points. The training takes about two minutes on two cores.

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
seed: int = 0  # [0, ] initial weights, and the order of the images
pictures: str = "shapes_crops"  # what the networks are trained on: a data set with labels, by name or path
image_size: int = 24  # [16, 48] height and width of the images
blocks: list[int] = [2, 6]  # blocks in each of three stages, of the shallower and of the deeper network
steps: int = 400  # [10, 100000] training steps of 32 images
looks: int = 10  # [2, 50] points of a training curve
on_error: str = "raise"  # {raise, skip} what to do about files of a folder that cannot be used
floor: float = 0.55  # [0, 1] share of the test images that the shallower residual network must get right

# %%
import math

import keras
import numpy as np
from keras import layers, ops

from utils import architectures, arithmetic, data, plots, results, session, training, transfer
from utils.architectures import densenet, mobilenet, resnet
from utils.architectures import blocks as bricks

session.start(seed)

# %% [markdown]
# The blocks are made of these bricks, and of Keras's `Add`, `Concatenate`, `Multiply`, `GlobalAveragePooling2D` and
# `Dense`. With the bricks nothing needs a name or a padding: `conv` and `depthwise`
# put (size − 1) / 2 zeros on every side, as the papers do (Keras's "same" would put the odd one at the end where the
# stride is 2), and have no bias, since batch normalisation follows.


# %%
def padded(x, size, stride):
    """What a strided convolution reads, and Keras's word for its padding."""
    return (x, "same") if stride == 1 else (layers.ZeroPadding2D((size - 1) // 2)(x), "valid")


def conv(x, filters, size, stride=1):
    """Convolution without bias: (B, H, W, C) -> (B, H / stride, W / stride, filters)."""
    x, padding = padded(x, size, stride)
    return layers.Conv2D(filters, size, stride, padding, use_bias=False, kernel_initializer="he_normal")(x)


def depthwise(x, size, stride=1):
    """One filter of size x size for each channel, without bias: (B, H, W, C) -> (B, H / stride, W / stride, C)."""
    x, padding = padded(x, size, stride)
    return layers.DepthwiseConv2D(size, stride, padding, use_bias=False)(x)


def norm(x):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def relu(x):
    return layers.ReLU()(x)


# %% [markdown]
# The checks build your block, give it the weights of the course's own block, layer by layer, and compare the outputs
# on random images. In which order you write branches does not matter.


# %%
def parts(model):
    """dict from the shape of a layer's weights (and of the layer before, for a batch norm) to such layers, in order."""
    makers = {id(layer.output): layer for layer in model.layers}
    found = {}
    for layer in (layer for layer in model.layers if layer.weights):
        shape = tuple(size for size in layer.weights[0].shape if size > 1)
        before = makers.get(id(layer.input)) if isinstance(layer, layers.BatchNormalization) else None
        behind = tuple(before.weights[0].shape) if before is not None and before.weights else ()
        found.setdefault((shape, behind, len(layer.weights)), []).append(layer)
    return found


def randomise(model, rng):
    """Give every weight a random value, scales and variances positive ones."""
    for weight in model.weights:
        positive = weight.path.endswith(("gamma", "moving_variance"))
        values = rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.2, weight.shape)
        weight.assign(values.astype("float32"))


# %%
def difference(block, reference, shape):
    """What is wrong with a function of a tensor, beside another one with the same weights; "" where they are the same."""
    image = layers.Input(shape)
    mine, theirs = keras.Model(image, block(image)), keras.Model(image, reference(image))
    counts = [arithmetic.totals(model)["params"] for model in (mine, theirs)]
    if counts[0] != counts[1]:
        return f"your block has {counts[0]:,} parameters on {shape}, it should have {counts[1]:,}"
    if mine.output_shape != theirs.output_shape:
        return f"{shape} becomes {mine.output_shape}, it should become {theirs.output_shape}"
    randomise(theirs, np.random.default_rng(4))
    own = parts(mine)
    for (size, *rest), found in parts(theirs).items():
        same = own.get((size, *rest), [])
        if len(same) != len(found):
            return f"{len(found)} layers with weights of shape {size} are needed, {len(same)} fit"
        for source, target in zip(found, same):
            target.set_weights([w.reshape(v.shape) for w, v in zip(source.get_weights(), target.weights)])
    images = np.random.default_rng(5).normal(size=(2, *shape)).astype("float32")
    outputs = [ops.convert_to_numpy(model(images, training=False)) for model in (mine, theirs)]
    distance = np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[1]).max()
    return f"the parameters fit, the outputs are off by {distance:.0%}: is the order right?" if distance > 0.01 else ""


# %% [markdown]
# ## 1. The residual block (2 points)
# Write `residual_block(x, filters, stride)`: 3 × 3 convolution with the stride, normalisation, ReLU, 3 × 3
# convolution, normalisation; add the shortcut; ReLU.
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


# %% check="residual" points=1
assert not (
    wrong := difference(lambda x: residual_block(x, 64), lambda x: resnet.basic(x, 64, 1, "block"), (8, 8, 64))
), wrong
assert not (
    wrong := difference(lambda x: residual_block(x, 128, 2), lambda x: resnet.basic(x, 128, 2, "block"), (8, 8, 64))
), wrong


# %% check="residual" points=1
def resnet_of(name, block):
    """A network of ResNet's table made of these blocks, with weights that have shapes and no values: enough to count."""
    return architectures.outline(
        lambda: resnet.frame(
            name,
            (224, 224, 3),
            1000,
            True,
            resnet.CONFIGURATIONS[name],
            lambda x, filters, stride, _: block(x, filters, stride),
        )
    )


found = arithmetic.totals(resnet_of("resnet34", residual_block))
assert found["params"] == 21_797_672, f"21,797,672 parameters; built of your blocks it has {found['params']:,}"
assert found["macs"] == 3_663_761_408, f"3,663,761,408 MACs; built of your blocks it has {found['macs']:,}"
### BEGIN HIDDEN TESTS
assert not (
    wrong := difference(lambda x: residual_block(x, 24), lambda x: resnet.basic(x, 24, 1, "block"), (6, 6, 16))
), wrong
assert not (
    wrong := difference(lambda x: residual_block(x, 16, 2), lambda x: resnet.basic(x, 16, 2, "block"), (7, 7, 16))
), wrong
### END HIDDEN TESTS

# %%
image = layers.Input((56, 56, 64), name="image")
drawn = keras.Model(image, residual_block(image, 128, 2))
plots.block_diagram(drawn, title="your residual block, stride 2")

# %% [markdown]
# ## 2. The bottleneck (2 points)
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


# %% check="bottleneck" points=1
assert not (
    wrong := difference(lambda x: bottleneck(x, 16), lambda x: resnet.bottleneck(x, 16, 1, "block"), (8, 8, 64))
), wrong
assert not (
    wrong := difference(lambda x: bottleneck(x, 16, 2), lambda x: resnet.bottleneck(x, 16, 2, "block"), (8, 8, 32))
), wrong

# %% check="bottleneck" points=1
found = arithmetic.totals(resnet_of("resnet50", bottleneck))
assert found["params"] == 25_557_032, (
    f"ResNet-50 has 25,557,032 parameters; built of your blocks it has {found['params']:,}"
)
assert found["macs"] == 3_857_973_248, f"{found['macs']:,} MACs, not 3,857,973,248: which convolution has the stride?"
### BEGIN HIDDEN TESTS
assert arithmetic.totals(resnet_of("resnet101", bottleneck))["params"] == 44_549_160
assert not (
    wrong := difference(lambda x: bottleneck(x, 4), lambda x: resnet.bottleneck(x, 4, 1, "block"), (5, 5, 7))
), wrong
### END HIDDEN TESTS

# %% [markdown]
# ## 3. The dense block (2 points)
# Write `dense_block(x, count, growth)`. It has `count` layers. Each reads all that is there so far and puts `growth`
# new maps *behind* it: normalisation, ReLU, 1 × 1 convolution to 4 · growth; normalisation, ReLU, 3 × 3 convolution
# to growth; concatenation of what was there with the new maps.
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


# %% check="dense" points=1
def dense_reference(x, count, growth):
    for layer in range(count):
        x = densenet.dense_layer(x, growth, True, 0.0, f"layer{layer}")
    return x


assert not (wrong := difference(lambda x: dense_block(x, 1, 4), lambda x: dense_reference(x, 1, 4), (6, 6, 10))), wrong
assert not (wrong := difference(lambda x: dense_block(x, 3, 4), lambda x: dense_reference(x, 3, 4), (6, 6, 10))), wrong


# %% check="dense" points=1
def densenet121():
    image = layers.Input((224, 224, 3))
    x = layers.MaxPooling2D(3, 2, "same")(relu(norm(conv(image, 64, 7, 2))))
    for stage, count in enumerate((6, 12, 24, 16)):
        x = densenet.transition(x, 0.5, f"transition{stage}") if stage else x
        x = dense_block(x, count, 32)
    return keras.Model(image, bricks.classifier(relu(norm(x)), 1000))


found = arithmetic.totals(architectures.outline(densenet121))
assert found["params"] == 7_978_856, (
    f"DenseNet-121 has 7,978,856 parameters; built of your blocks it has {found['params']:,}"
)
### BEGIN HIDDEN TESTS
image = layers.Input((4, 4, 5))
probe = keras.Model(image, dense_block(image, 2, 3))
pixels = np.random.default_rng(1).normal(size=(1, 4, 4, 5)).astype("float32")
assert np.array_equal(ops.convert_to_numpy(probe(pixels))[..., :5], pixels), "x comes first, unchanged"
assert not (wrong := difference(lambda x: dense_block(x, 2, 6), lambda x: dense_reference(x, 2, 6), (5, 5, 3))), wrong
### END HIDDEN TESTS

# %% [markdown]
# ## 4. What a separable convolution costs (1 point)
# Write `separable_macs(size, kernel, channels, filters)`: the MACs of a standard convolution and of a depthwise
# separable one with the same output of size × size positions, kernel × kernel filters, and so many channels in and
# filters out.
#
# Out: the pair (standard, separable). The check has the numbers of the lecture: 1,228,800 and 53,952 for an 8 × 8
# output, 5 × 5 filters, 3 channels, 256 filters.


# %% gap="macs" stub="return the MACs of the standard and of the separable convolution"
def separable_macs(size, kernel, channels, filters):
    ### BEGIN SOLUTION
    positions = size**2
    return positions * kernel**2 * channels * filters, positions * (kernel**2 * channels + channels * filters)
    ### END SOLUTION


# %% check="macs" points=1
standard, separable = separable_macs(8, 5, 3, 256)
assert standard == 1_228_800, f"8 · 8 positions, 25 · 3 values for each of 256 filters: 1,228,800, not {standard:,}"
assert separable == 53_952, f"4,800 depthwise and 49,152 pointwise MACs are 53,952, not {separable:,}"
### BEGIN HIDDEN TESTS
assert separable_macs(12, 5, 3, 256) == (2_764_800, 121_392)
assert separable_macs(1, 3, 7, 11) == (693, 140)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. The depthwise separable block (2 points)
# Write `separable_block(x, filters, stride)`: depthwise 3 × 3 with the stride, normalisation, ReLU, 1 × 1
# convolution, normalisation, ReLU.
#
# In: (B, H, W, C). Out: (B, H / stride, W / stride, filters), H / stride and W / stride rounded up. The checks
# compare outputs and build MobileNet of it: 4,231,976 parameters, 568,740,352 MACs.


# %% gap="separable" stub="depthwise 3x3 with the stride, then 1x1, each with normalisation and ReLU"
def separable_block(x, filters, stride=1):
    ### BEGIN SOLUTION
    x = relu(norm(depthwise(x, 3, stride)))
    return relu(norm(conv(x, filters, 1)))
    ### END SOLUTION


# %% check="separable" points=1
assert not (
    wrong := difference(lambda x: separable_block(x, 12), lambda x: mobilenet.separable(x, 12, 1, "block"), (8, 8, 6))
), wrong
assert not (
    wrong := difference(
        lambda x: separable_block(x, 12, 2), lambda x: mobilenet.separable(x, 12, 2, "block"), (8, 8, 6)
    )
), wrong


# %% check="separable" points=1
def mobilenet_of():
    image = layers.Input((224, 224, 3))
    x = relu(norm(conv(image, 32, 3, 2)))
    for filters, stride in mobilenet.PAIRS:
        x = separable_block(x, filters, stride)
    return keras.Model(image, bricks.classifier(x, 1000))


found = arithmetic.totals(architectures.outline(mobilenet_of))
assert found["params"] == 4_231_976, (
    f"MobileNet has 4,231,976 parameters; built of your blocks it has {found['params']:,}"
)
assert found["macs"] == 568_740_352, f"{found['macs']:,} MACs, not 568,740,352: which convolution has the stride?"
### BEGIN HIDDEN TESTS
assert not (
    wrong := difference(lambda x: separable_block(x, 5, 2), lambda x: mobilenet.separable(x, 5, 2, "block"), (7, 7, 9))
), wrong
### END HIDDEN TESTS

# %% [markdown]
# ## 6. Squeeze and excitation (2 points)
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


# %% check="squeeze" points=1
assert not (
    wrong := difference(lambda x: squeeze_excite(x, 2), lambda x: bricks.squeeze_excite(x, 8, "block"), (6, 6, 16))
), wrong

# %% check="squeeze" points=1
image = layers.Input((7, 7, 256))
found = keras.Model(image, squeeze_excite(image)).count_params()
assert found == 8_464, f"256 · 16 + 16 and 16 · 256 + 256 are 8,464 parameters, yours are {found:,}"
everywhere = 0  # the sum over the bottlenecks of SE-ResNet-50
for count, channels in ((3, 256), (4, 512), (6, 1024), (3, 2048)):
    image = layers.Input((7, 7, channels))
    everywhere += count * keras.Model(image, squeeze_excite(image)).count_params()
assert 25_557_032 + everywhere == 28_088_024, f"SE-ResNet-50 has 28,088,024 parameters, not {25_557_032 + everywhere:,}"
### BEGIN HIDDEN TESTS
assert not (
    wrong := difference(lambda x: squeeze_excite(x, 2), lambda x: bricks.squeeze_excite(x, 5, "block"), (3, 4, 10))
), wrong
### END HIDDEN TESTS

# %% [markdown]
# ## 7. A network of any depth (2 points)
# Write `network(block, count, shape, classes)`, the paper's network for small images: a 3 × 3 convolution with 16
# filters, normalisation and ReLU; three stages of `count` blocks with 16, 32 and 64 filters, the first block of
# stages two and three with stride 2; a global average; a dense layer that gives logits.
#
# `block` is a function (x, filters, stride), such as your `residual_block`, or `plain_block` below, which is the same
# without a shortcut. The checks count: 20 layers (count 3) for 32 × 32 × 3 and ten classes have 269,722 parameters
# with plain blocks, 272,474 with yours. (A departure: the paper's shortcuts have no parameters here, option A; your
# block projects, option B.)


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


# %% check="network" points=2
for block, count in ((plain_block, 269_722), (residual_block, 272_474)):
    made = arithmetic.totals(architectures.outline(lambda block=block: network(block, 3, (32, 32, 3), 10)))
    assert made["params"] == count, f"{block.__name__}: {count:,} parameters expected, got {made['params']:,}"
calls = []
network(
    lambda x, filters, stride=1: calls.append((filters, stride)) or plain_block(x, filters, stride), 2, (16, 16, 1), 4
)
wanted = [(16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)]
assert calls == wanted, f"the blocks should be (filters, stride) {wanted}, yours are {calls}"
### BEGIN HIDDEN TESTS
tiny = network(plain_block, 1, (16, 16, 3), 7)
assert tiny.output_shape == (None, 7)
random_images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
logits = ops.convert_to_numpy(tiny(random_images))
assert not np.allclose(logits.sum(axis=1), 1, atol=1e-3), "logits, not probabilities: no softmax"
### END HIDDEN TESTS

# %% [markdown]
# ## 8. Train it (3 points)
# Write `train(model, images, labels, steps, peak)`: `steps` steps of 32 images, and return the training loss of each
# of the `looks` parts of the run. The pieces:
#
# 1. `training.WarmupHoldDecay(peak, steps, warmup=steps // 10)`: a learning rate that rises, holds and falls to 0;
# 2. `keras.optimizers.SGD(rate, momentum=0.9)`, and `training.compile_classifier(model, optimizer)`, whose loss
#    expects logits;
# 3. `x, y = transfer.repeat(images, labels, steps, 32, seed)`: the images of all steps in a row;
# 4. `training.fit(model, lambda epoch: (x[...], y[...]), looks, batch_size=32, seed=seed)` with a `looks`-th of them
#    each time; its `.history["loss"]` is the answer.
#
# The first check trains a toy of one layer and looks at its optimizer. The second trains your shallower residual
# network and lets it classify the test images.


# %% gap="train" stub="schedule, optimizer, compile, fit in parts; return the loss of each part"
def train(model, images, labels, steps, peak=0.1):
    ### BEGIN SOLUTION
    rate = training.WarmupHoldDecay(peak, steps, warmup=steps // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks

    def portion(epoch):
        here = slice(epoch * part, (epoch + 1) * part)
        return x[here], y[here]

    return training.fit(model, portion, looks, batch_size=32, seed=seed).history["loss"]
    ### END SOLUTION


# %% check="train" points=1
toy_labels = np.arange(64) % 2
toy_images = (toy_labels[:, None, None, None] * np.ones((64, 4, 4, 1)) - 0.5).astype("float32")
toy = keras.Sequential([layers.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2, kernel_initializer="zeros")])
losses = train(toy, toy_images, toy_labels, 10 * looks, 0.1)
assert len(losses) == looks, f"one loss for each of {looks} parts, got {len(losses)}"
assert int(toy.optimizer.iterations) == 10 * looks, f"{10 * looks} steps, got {int(toy.optimizer.iterations)}"
assert losses[0] < math.log(2), f"the loss of the first part lies below log 2 = .69, not at {losses[0]:.2f}: logits?"
assert losses[-1] < losses[0], "the loss of the toy falls"
assert float(toy.optimizer.learning_rate) < 0.02, "at the end the rate has fallen to almost 0: pass the schedule"
### BEGIN HIDDEN TESTS
assert np.isclose(toy.optimizer.momentum, 0.9)
assert toy.loss.get_config()["from_logits"]
### END HIDDEN TESTS

# %%
classes = data.chosen(pictures, on_error=on_error).classes
judged = pictures in ("shapes_crops", "fashion_mnist", "cifar10")  # the floor was measured on these
sets = {split: data.arrays(pictures, split, image_size, on_error=on_error) for split in ("train", "test")}
(images, labels), (test_images, test_labels) = (
    ((pixels.astype("float32") - 128) / 64, numbers) for pixels, numbers in sets.values()
)
test_images, test_labels = test_images[:1000], test_labels[:1000]
shown = transfer.draw(labels, 3, seed)
plots.show_images(sets["train"][0][shown], labels[shown], classes=classes, columns=9)


# %% [markdown]
# One thing that the paper did not do, and that helps a short run (Goyal et al. 2017): the last normalisation of each
# residual branch starts with a scale γ of 0. At first every block is its shortcut and nothing else. `fresh` makes a
# network so; plain blocks have no sum, and stay as they are.


# %%
def fresh(block, count):
    """A network of these blocks for the pictures; where there are sums, with branches that start at zero."""
    keras.utils.set_random_seed(seed)
    model = network(block, count, images.shape[1:], len(classes))
    makers = {id(layer.output): layer for layer in model.layers}
    for total in (operation for operation in model.operations if type(operation).__name__ == "Add"):
        for normalisation in (makers.get(id(tensor)) for tensor in total.input):
            before = makers.get(id(getattr(normalisation, "input", None)))
            if isinstance(normalisation, layers.BatchNormalization) and before.kernel_size[0] == 3:
                normalisation.gamma.assign(ops.zeros_like(normalisation.gamma))
    return model


# %% check="train" points=2
def accuracy(model):
    return float(np.mean(model.predict(test_images, batch_size=100, verbose=0).argmax(axis=1) == test_labels))


shallow = fresh(residual_block, blocks[0])
curves = {f"residual, {6 * blocks[0] + 2} layers": train(shallow, images, labels, steps)}
reached = accuracy(shallow)
assert results.reaches(reached, floor, judged), f"{reached:.1%} of the test images are right, the floor is {floor:.1%}"

# %% [markdown]
# Now the other three: the deeper residual network, and both depths without shortcuts.

# %%
scores = {f"residual, {6 * blocks[0] + 2} layers": reached}
for name, block in (("residual", residual_block), ("plain", plain_block)):
    for count in blocks:
        label = f"{name}, {6 * count + 2} layers"
        if label not in curves:
            model = fresh(block, count)
            curves[label] = train(model, images, labels, steps)
            scores[label] = accuracy(model)

# %% tags=["thumbnail"]
at = {name: np.linspace(steps / looks, steps, looks) for name in curves}
plots.curves(curves, at, "step", "training loss", {"guessing": math.log(len(classes))}, title="Your blocks, two depths")

# %%
plots.bars(scores, "share of test images right", {"chance": 1 / len(classes)})
names = [f"{name}, {6 * count + 2} layers" for name in ("residual", "plain") for count in blocks]
results.record(
    residual_shallow=scores[names[0]],
    residual_deep=scores[names[1]],
    plain_shallow=scores[names[2]],
    plain_deep=scores[names[3]],
    deep_loss_gap=curves[names[3]][-1] - curves[names[1]][-1],
)

# %% [markdown]
# ## 9. Read the curves (1 point)
# Compare the plain networks at both depths, then the residual ones, by their *training* loss. Which pair shows
# degradation, why is it not overfitting, and what can you *not* conclude from a run of this length?

# %% [markdown] question="degradation" points=1
# ### BEGIN SOLUTION
# The plain pair shows it: the deeper network ends with a far larger *training* loss than the shallower one, although
# it could be the shallower one with layers that pass their input on. Overfitting would look the other way round: a
# small training loss beside a large test error. In the residual pair the deeper network does not stay behind. A run
# of some hundred steps tells how fast a network learns, not where it ends: it does not show that the deep plain
# network stays behind for ever (the paper trained for 64,000 steps). And with one seed, a small difference is none.
# ### END SOLUTION

# %% [markdown]
# ## 10. For a phone (1 point)
# A friend wants to classify photographs on a phone, with a file of at most 10 MB and as little arithmetic as
# possible. Which of your blocks would you build from, what would you give up, and what would you measure before you
# decide?

# %% [markdown] question="phone" points=1
# ### BEGIN SOLUTION
# Depthwise separable blocks: at 3 × 3 they cost eight to nine times less than standard convolutions, in weights and
# in MACs, and MobileNet's 4.2 million parameters fit when kept in 16 bits (8.5 MB). Squeeze and excitation could be
# added, since it costs nearly no MACs, but a tenth more parameters. What is given up is some accuracy against a large
# residual network. Before deciding, measure the time of one image on that phone, since depthwise convolutions move
# much memory for little arithmetic, and MACs alone do not tell the time; and the accuracy on the friend's own
# photographs.
# ### END SOLUTION

# %% [markdown]
# ## Summary
# You can now
#
# - write the five blocks, and know that a block is right when both its count and its outputs are;
# - build the published networks from them, from ResNet-34 to MobileNet;
# - tell from training losses whether depth hurts, and what a short run leaves open.
#
# ## Exercises
# 1. *Easy.* Build ResNet-18 and ResNet-152 of your blocks and predict their counts first. *Hint:*
#    `resnet.CONFIGURATIONS`.
# 2. *Easy.* Which ratio makes squeeze-and-excitation cost 5 % of ResNet-50's parameters? *Hint:* twice the ratio,
#    half the weights.
# 3. *Medium.* Write the inverted residual of MobileNet v2: 1 × 1 to six times the channels, depthwise, 1 × 1 back
#    without activation, a shortcut where shapes allow. *Hint:* `mobilenet_v2.inverted_residual` is the reference for
#    `difference`.
# 4. *Medium.* Start with γ = 1, as the paper does: leave the loop of `fresh` out. What changes in the curves of both
#    residual networks, and what with four times the steps? *Hint:* `steps` is a parameter.
# 5. *Hard.* Train `network(separable_block, ...)` for the same CPU time as the residual network. Who wins, and by how
#    much over three seeds?
#
# ## Further reading
# - K. He, X. Zhang, S. Ren, J. Sun, *Deep residual learning for image recognition*, CVPR 2016.
# - P. Goyal et al., *Accurate, large minibatch SGD: training ImageNet in 1 hour*, arXiv 2017 (γ = 0).
# - G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, *Densely connected convolutional networks*, CVPR 2017.
# - A. Howard et al., *MobileNets: efficient convolutional neural networks for mobile vision applications*, arXiv
#   2017.
# - J. Hu, L. Shen, G. Sun, *Squeeze-and-excitation networks*, CVPR 2018.
