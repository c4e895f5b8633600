# %% [markdown]
# # 05 What convnets see: solution
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/05_what_convnets_see.ipynb)
#
# **A network is right on every validation image, and useless.** In this lab you build the instruments that show it:
# saliency, occlusion, Grad-CAM, a score for maps, and a sanity check. You use them on two networks, and you design an
# experiment that says which of the two looks at the wrong thing. Then you repair that network without drawing a single
# new object.
#
# You will be able to
#
# - take the gradient of a class's logit with respect to the pixels, and step along its sign until the class changes;
# - slide a square over an image, and record the probability and the winner;
# - compute Grad-CAM from the two halves of a network;
# - measure whether a map lies on the object, and whether it depends on the network at all;
# - test by an experiment what a network has learned, and repair its training data.
#
# It takes about two and a half hours to solve. There are nine gaps and two questions, 23 points. The lab runs in two
# to three minutes.

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
seed: int = 0  # [0, ] which images are drawn, and in which order they are trained on
drawn: int = 3000  # [60, 20000] images drawn to train on; a tenth as many to validate
steps: int = 930  # [6, 10000] training steps of the sound and of the repaired network
biased_steps: int = 300  # [6, 5000] training steps of the biased network
measured: int = 120  # [6, 2000] images on which maps are measured
floor: float = 0.6  # [0, 1] share of the fair validation images that must be right
on_object: float = 0.18  # [0, 1] share of Grad-CAM that must lie on the object

# %%
from functools import partial

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from scipy import ndimage

from utils import checks, introspection, plots, results, session, training
from utils.checks import parts
from utils.data import shapes

session.start(seed)

# %% [markdown]
# Every image shows one shape of six classes. We draw the images, so we also know which pixels belong to the shape: its
# mask. There are three kinds of grounds.
#
# - *Studio* images: each class stands on a ground of its own colour, in training and in validation.
# - *Test* images: the same six colours of ground, but the ground of each image is drawn at random.
# - *Free* images: grounds of any colour, in training and in validation.


# %%
def draw(count, split, ground):
    """Images of one shape (N, 64, 64, 3) uint8, classes (N,), masks (N, 64, 64)."""
    options = {"config": "biased", "image_size": 64, "ground": ground}
    scenes = shapes.scenes(count, split, seed, **options)
    images = np.stack([scene.image for scene in scenes])
    labels = np.array([scene.labels[0] for scene in scenes])
    return images, labels, np.stack([scene.masks[0] for scene in scenes]) > 0


held_out = max(drawn // 10, measured)
studio_images, studio_labels, studio_masks = draw(drawn, "train", "biased")
validation = draw(held_out, "validation", "biased")
validation_images, validation_labels, validation_masks = validation
free_images, free_labels, _ = draw(drawn, "train", "random")
other_images, other_labels, _ = draw(held_out, "validation", "random")
test_images, test_labels, _ = draw(held_out, "test", "biased")
kinds = studio_images, test_images, free_images
shown = np.concatenate([images[:12] for images in kinds])
plots.show_images(shown, columns=12, tile=0.66, title="Studio, test, free")

# %% [markdown]
# The networks are small. Four convolutions, each with batch normalisation and ReLU, are followed by the average of each
# of the last 96 maps and by a dense layer that gives the logits. A max pool follows the second and the third
# convolution.


# %%
def network():
    inputs = keras.Input((64, 64, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(inputs)
    kinds = [(16, 7, 2), (32, 3, 1), (64, 3, 1), (96, 3, 1)]  # filters, size, stride
    for number, (filters, size, stride) in enumerate(kinds, 1):
        small = keras.initializers.RandomNormal(stddev=0.01)
        options = {"padding": "same", "use_bias": False, "name": f"conv{number}"}
        options["kernel_initializer"] = small if number == 1 else "he_normal"
        x = layers.Conv2D(filters, size, stride, **options)(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        if number in (2, 3):
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)  # (batch, 96)
    return keras.Model(inputs, layers.Dense(len(shapes.CLASSES), name="logits")(x))


# %%
def trained(images, labels, steps, epochs=6):
    """A network after `steps` steps of 32 images each."""
    model, random = network(), np.random.default_rng(seed)
    rate = training.WarmupHoldDecay(3e-3, steps, warmup=max(1, steps // 10))
    adamw = keras.optimizers.AdamW(rate, weight_decay=1e-3)
    training.compile_classifier(model, adamw)
    passes = -(-steps * 32 // len(images))
    order = np.concatenate([random.permutation(len(images)) for _ in range(passes)])
    portions = np.array_split(order[: steps // epochs * epochs * 32], epochs)

    def portion(epoch):
        return images[portions[epoch]], labels[portions[epoch]]

    training.fit(model, portion, epochs, batch_size=32, seed=seed)
    return model


def named(model, images):
    """The class that the model names for each image: (N,) ints."""
    return model.predict(images, batch_size=100, verbose=0).argmax(axis=1)


def accuracy(model, images, labels):
    return float((named(model, images) == labels).mean())


# %%
sound = trained(free_images, free_labels, steps)
biased = trained(studio_images, studio_labels, biased_steps)
in_studio = {}
for name, model in (("sound", sound), ("biased", biased)):
    in_studio[name] = accuracy(model, validation_images, validation_labels)
xlabel = "accuracy on validation images of the studio"
plots.bars(in_studio, xlabel=xlabel, baselines={"one class for all": 1 / 6})

# %% [markdown]
# By this figure the biased network is the better one. Forget for a while that you know its name, and build the
# instruments.
#
# The checks use three helpers of `utils.checks`. The first, `agree`, compares an answer with what was expected, and says
# where they differ. The second, `parts`, looks whether an answer has all its parts. The third, `own_work`, notices when
# your function only calls the function of the course that does the same.

# %%
agree = partial(checks.agree, scaled=True)
ready = set(introspection.__all__) - {"gradients"}
own_work = partial(checks.own_work, of=introspection, names=ready)

# %% [markdown]
# ## 1. Saliency (2 points)
#
# Write `saliency(model, images, class_index)`: the gradient of the *logit* of one class with respect to every pixel,
# and of it the largest absolute value over the channels.
#
# In: a model that gives logits (B, classes); images (N, H, W, C); one class, an int, for all of them. Out: an array
# (N, H, W).
#
# Keras has no gradient function of its own. Use `introspection.gradients(function, images)`: it gives the gradient of
# the sum of `function(x)` with respect to x, an array in the shape of `images`. Your function takes a batch x and
# returns one number for each image. Call the model in it with `training=False`.
#
# The check uses a linear model, for which the gradient is its weights. This model is so sure of class 0 that the
# gradient of a softmax would be 0. The hidden check compares with the course's function on the sound network.


# %% gap="saliency" stub="return the largest absolute gradient of the class's logit over the channels"
def saliency(model, images, class_index):
    ### BEGIN SOLUTION
    def logit(x):
        return model(x, training=False)[:, class_index]

    gradient = introspection.gradients(logit, images)  # (N, H, W, C)
    return np.abs(gradient).max(axis=-1)
    ### END SOLUTION


# %% check="saliency" points=1
flat = [keras.Input((3, 4, 2)), layers.Flatten(), layers.Dense(3)]
linear, random = keras.Sequential(flat), np.random.default_rng(1)
kernel = random.normal(size=(3, 4, 2, 3)).astype("float32")
linear.set_weights([kernel.reshape(24, 3), np.array([200, 0, 0], "float32")])
noise = random.normal(size=(2, 3, 4, 2)).astype("float32")
of_class_1 = np.tile(kernel[..., 1], (2, 1, 1, 1))  # the gradient, (2, 3, 4, 2)
hint = "of a linear model: the largest absolute weight of class 1 at each pixel"
mistakes = [
    ("0 everywhere: that is the softmax of a net that is sure", np.zeros((2, 3, 4))),
    ("take absolute values before the maximum, not after", of_class_1.max(axis=-1)),
    ("take absolute values before the maximum", np.abs(of_class_1.max(axis=-1))),
    ("that is the mean over the channels", np.abs(of_class_1).mean(axis=-1)),
]
expected = np.abs(of_class_1).max(axis=-1)
assert agree(saliency(linear, noise, 1), expected, hint, mistakes)
assert own_work(saliency, linear, noise, 1)
print("passed: class 1 of a linear model")

# %% check="saliency" points=1
for k in (0, 2):
    expected, hint = (
        np.abs(kernel[..., k]).max(axis=-1),
        f"class {k} of the linear model",
    )
    assert agree(saliency(linear, noise, k), np.stack([expected, expected]), hint)
### BEGIN HIDDEN TESTS
expected = introspection.saliency(sound, other_images[:3], 2)
twin = keras.models.clone_model(sound)
twin.set_weights(sound.get_weights())
in_training = introspection.gradients(
    lambda x: twin(x, training=True)[:, 2],
    other_images[:3],
)
twin.set_weights(sound.get_weights())  # its running statistics have moved
text = "the model ran in training mode: call it with training=False"
mistakes = [(text, np.abs(in_training).max(axis=-1))]
hint = "class 2 of the sound network, as the course has it"
assert agree(saliency(twin, other_images[:3], 2), expected, hint, mistakes, rtol=1e-2)
### END HIDDEN TESTS
print("passed: the other classes too")

# %% [markdown]
# On three images: which pixels raise or lower the logit of two classes?

# %%
by_class = {}
for k in (0, 3):
    by_class[f"slope of {shapes.CLASSES[k]}"] = saliency(sound, other_images[:3], k)
titles = [shapes.CLASSES[label] for label in other_labels[:3]]
plots.show_maps(other_images[:3], by_class, titles=titles)

# %% [markdown]
# ## 2. Occlusion (2 points)
#
# Write `occlusion(model, image, class_index, size, stride, value)`. Paint a square of `size` × `size` pixels with
# `value`. Its top left corner stands at the rows 0, `stride`, 2 · `stride`, ... and at the same columns, as long as the
# whole square fits into the image. For every position, let the model classify the whole image with its square.
#
# In: a model that gives logits; one image (H, W, C); the value, a number or one number for each channel. Out: two
# arrays (rows, columns): the probability of `class_index` with the square at that position, and the class that wins
# there.
#
# The image that came in must stay as it is. Paint on float32 copies: in a uint8 image a colour of 101.7 becomes 101.
# `ops.softmax` makes probabilities of logits.
#
# The check uses a model with two classes, each of which depends on one pixel.


# %% gap="occlusion" stub="return the probability of the class and the winning class for every position of the square"
def occlusion(model, image, class_index, size, stride, value):
    ### BEGIN SOLUTION
    height, width = image.shape[:2]
    tops = range(0, height - size + 1, stride)
    lefts = range(0, width - size + 1, stride)
    positions = [(top, left) for top in tops for left in lefts]
    copies = np.repeat(image[None].astype("float32"), len(positions), axis=0)
    for copy, (top, left) in zip(copies, positions):
        copy[top : top + size, left : left + size] = value
    logits = model.predict(copies, batch_size=64, verbose=0)
    probability = ops.convert_to_numpy(ops.softmax(logits))[:, class_index]
    grid = len(tops), len(lefts)
    return probability.reshape(grid), logits.argmax(axis=1).reshape(grid)
    ### END SOLUTION


# %%
def two_pixels():
    """Logits of two classes: 3 times pixel (1, 5), and 2 times pixel (4, 0)."""
    stack = [keras.Input((6, 8, 1)), layers.Flatten(), layers.Dense(2)]
    model, weights = keras.Sequential(stack), np.zeros((6, 8, 2), "float32")
    weights[1, 5, 0], weights[4, 0, 1] = 3, 2
    model.set_weights([weights.reshape(48, 2), np.zeros(2, "float32")])
    return model


def of_two(first, second):
    """The softmax of two logits, the share of the first."""
    return 1 / (1 + np.exp(second - first))


# %% check="occlusion" points=1
white = np.ones((6, 8, 1), "float32")
names = "the probability", "the winner"
answer = parts(occlusion(two_pixels(), white, 0, size=2, stride=2, value=0), *names)
expected = np.full((3, 4), of_two(3, 2))
expected[0, 2], expected[2, 0] = of_two(0, 2), of_two(3, 0)
hint = "the probability of class 0: with (1, 5) hidden the logits are 0 and 2"
mistakes = [
    ("that is the probability of class 1", 1 - expected),
    ("that is the probability of the winner", np.maximum(expected, 1 - expected)),
]
assert agree(answer[0], expected, hint, mistakes)
hint = "the winner: class 1 wins where (1, 5) is hidden, and nowhere else"
assert agree(answer[1], expected < 0.5, hint)
hint = "the image that came in has changed: paint on copies"
assert agree(white, np.ones((6, 8, 1)), hint)
assert own_work(occlusion, two_pixels(), white, 0, 2, 2, 0)
print("passed: each class depends on its pixel, and the image stays as it was")

# %% check="occlusion" points=1
narrow = occlusion(two_pixels(), white, 1, size=3, stride=2, value=1)[0]
hint = "squares of 3 at stride 2 in 6 × 8: 2 rows, 3 columns; white hides nothing"
assert agree(narrow, np.full((2, 3), of_two(2, 3)), hint)
grey = occlusion(two_pixels(), white.astype("uint8"), 0, size=2, stride=2, value=0.5)[0]
hint = "a uint8 image, painted with .5: the logits are 1.5 and 2 where (1, 5) is hidden"
mistakes = [(".5 became 0: paint on float32 copies, not on uint8", of_two(0, 2))]
assert agree(grey[0][2], of_two(1.5, 2), hint, mistakes)
### BEGIN HIDDEN TESTS
photo, colour = other_images[5], other_images[5].mean(axis=(0, 1))
answer = occlusion(sound, photo, 4, 16, 16, colour)
expected = introspection.occlusion(sound, photo[None], 4, 16, 16, colour)
hint = "one colour for each channel, on the sound network, as the course has it"
assert agree(answer[0], expected.probability[0], f"the probability: {hint}", rtol=1e-3)
assert agree(answer[1], expected.winner[0], f"the winner: {hint}")
### END HIDDEN TESTS
print("passed: squares that do not fit, and colours that are not whole numbers")

# %% [markdown]
# On an image of the studio, for both networks. Each of them is asked about the class that it names.

# %%
right = named(sound, validation_images) == validation_labels
image, grid = validation_images[int(np.argmax(right))], np.arange(0, 49, 4)
for name, model in (("sound", sound), ("biased", biased)):
    k = int(named(model, image[None])[0])
    probability, winner = occlusion(model, image, k, 16, 4, image.mean(axis=(0, 1)))
    found = np.asarray(probability), np.asarray(winner), 16, grid, grid, k
    plots.show_occlusion(image, *found, shapes.CLASSES, title=f"The {name} network")

# %% [markdown]
# ## 3. Grad-CAM (2 points)
#
# Cut a network in two: `lower` turns images into maps $A$ (N, h, w, K), `upper` turns maps into logits. Write
# `grad_cam(lower, upper, images, class_index)`, where $z_c$ is the logit of the class:
#
# $$\alpha_k = \text{mean over the places of } \frac{\partial z_c}{\partial A_k}, \qquad \text{map} = \mathrm{relu}\Big(\sum_k \alpha_k A_k\Big).$$
#
# Out: an array (N, h, w), not scaled. Every image has weights $\alpha_k$ of its own. `introspection.gradients` takes
# maps as well as images.
#
# The check has two images with two maps each, and an upper half whose gradients you can work out by hand. It has two
# hidden units. The first one multiplies the top left place of map 0 by 4. The second one adds up map 1 and subtracts 9;
# it is on for the first image and off for the second. The logit of class 0 is the first unit minus the second one.


# %% gap="grad-cam" stub="weight the maps by the mean of their gradients, add them up, keep what is positive"
def grad_cam(lower, upper, images, class_index):
    ### BEGIN SOLUTION
    def logit(maps):
        return upper(maps, training=False)[:, class_index]

    maps = lower.predict(images, verbose=0)  # (N, h, w, K)
    gradient = introspection.gradients(logit, maps)
    importance = gradient.mean(axis=(1, 2), keepdims=True)  # (N, 1, 1, K)
    return np.maximum((importance * maps).sum(axis=-1), 0)
    ### END SOLUTION


# %%
doubling = keras.Sequential([keras.Input((2, 2, 2)), layers.Rescaling(2.0)])
hidden = [layers.Flatten(), layers.Dense(2, "relu"), layers.Dense(2)]
two_units = keras.Sequential([keras.Input((2, 2, 2)), *hidden])
first, second = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))  # (row, column, map)
first[0, 0, 0], second[:, :, 1] = 4, 1
below = np.stack([first.ravel(), second.ravel()], axis=1), np.array([0, -9])
two_units.set_weights([*below, np.array([[1, -1], [-1, 1]]), np.zeros(2)])
two_maps = np.array(
    [
        [[[3, 1], [1, 3]], [[2, 2], [5, 0]]],
        [[[1, 1], [0, 1]], [[2, 1], [1, 0]]],
    ],
    "float32",
)  # (2, 2, 2, 2)

# %% [markdown]
# What we expect, and what comes out of some mistakes. Image 0 has the weights 1 and −1 and the maps 6 2 / 4 10 and
# 2 6 / 4 0. Image 1 has the weights 1 and 0, since the second unit is off.

# %%
expected = [[[4, 0], [0, 10]], [[2, 0], [4, 2]]]
slopes, maps = np.stack([first, first]), 2 * two_maps
slopes[0] -= second
weights = slopes.mean(axis=(1, 2), keepdims=True)
averaged = np.maximum((weights.mean(axis=0) * maps).sum(axis=-1), 0)
by_place = np.maximum((slopes * maps).sum(axis=-1), 0)
kept_early = np.maximum(weights * maps, 0).sum(axis=-1)
summed = 4 * np.array(expected)

# %% check="grad-cam" points=2
mistakes = [
    ("the ReLU at the end is missing", (weights * maps).sum(axis=-1)),
    ("take the mean of the gradient over the places, not the sum", summed),
    ("that is gradient times map, place by place", by_place),
    ("your weights are averaged over the images: each image has its own", averaged),
    ("add up the maps first, then take what is positive", kept_early),
]
hint = "class 0 of the two images, worked by hand above"
assert agree(grad_cam(doubling, two_units, two_maps, 0), expected, hint, mistakes)
assert own_work(grad_cam, doubling, two_units, two_maps, 0)
### BEGIN HIDDEN TESTS
hint = "class 1, whose logit is the second unit minus the first"
expected = [[[0, 4], [0, 0]], [[0, 0], [0, 0]]]
assert agree(grad_cam(doubling, two_units, two_maps, 1), expected, hint)
half = sound.get_layer("relu4").output
lower, upper = keras.Model(sound.input, half), keras.Model(half, sound.output)
answer = grad_cam(lower, upper, other_images[:3], 5)
expected = introspection.grad_cam(sound, other_images[:3], 5, "relu4", upsample=False)
hint = "class 5 of the sound network, as the course has it"
assert agree(answer, expected, hint, rtol=1e-2)
### END HIDDEN TESTS
print("passed: two images with weights of their own")


# %% [markdown]
# Your Grad-CAM on both networks, from the last maps of 8 × 8 places, for the class that each network names.


# %%
def cam_maps(model, images):
    """Your Grad-CAM of each image's winner, in the images' size: (N, 64, 64)."""
    half = model.get_layer("relu4").output
    lower, upper = keras.Model(model.input, half), keras.Model(half, model.output)
    winners, found = named(model, images), np.zeros((len(images), 8, 8, 1), "float32")
    for k in np.unique(winners):
        of_class = grad_cam(lower, upper, images[winners == k], int(k))
        found[winners == k, ..., 0] = of_class
    return ops.convert_to_numpy(ops.image.resize(found, (64, 64)))[..., 0]


four = validation_images[:4]
both = {"sound": cam_maps(sound, four), "biased": cam_maps(biased, four)}
titles = [shapes.CLASSES[label] for label in validation_labels[:4]]
plots.show_maps(four, both, titles=titles, overlay=list(both))

# %% [markdown]
# ## 4. A score for maps (2 points)
#
# A picture convinces too easily. Measure instead. Write two functions of maps (N, H, W) and masks (N, H, W) bool, both
# arrays:
#
# - `energy(maps, masks)`: for each image, the share of the map's positive part that lies on the mask, (N,). Values
#   below 0 count as 0. A map without any positive value gets 0, not NaN.
# - `hits(maps, masks)`: the pointing game. For each image, whether the highest place of the map lies on the mask: (N,)
#   bool.
#
# A map that is the same everywhere has the mask's share of the area as its energy. This is the baseline.


# %% gap="score" stub="write the share of the energy on the mask, and the pointing game"
def energy(maps, masks):
    ### BEGIN SOLUTION
    positive = np.maximum(maps, 0)
    total = positive.sum(axis=(1, 2))
    on_mask = (positive * masks).sum(axis=(1, 2))
    return on_mask / np.where(total > 0, total, 1)
    ### END SOLUTION


def hits(maps, masks):
    ### BEGIN SOLUTION
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(masks)), highest]
    ### END SOLUTION


# %%
# Four maps: mostly on the mask, the same everywhere, empty, with a negative value
maps = [[1, 2, 0, 0, 0, 5], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [2, -6, 0, 0, 0, 2]]
masks = [[0, 1, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]]
maps = np.array(maps, "float64").reshape(4, 2, 3)
masks = np.array(masks, bool).reshape(4, 2, 3)

# %% check="score" points=1
hint = "7 of 8 lie on the mask; 2 of 6 places; empty: 0; 2 of 4, without the -6"
with np.errstate(all="ignore"):
    answer = energy(maps, masks)
assert agree(answer, [7 / 8, 1 / 3, 0, 1 / 2], hint)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(4)
many, on = random.normal(size=(20, 5, 7)), random.random((20, 5, 7)) < 0.4
expected = [a[m & (a > 0)].sum() / a[a > 0].sum() for a, m in zip(many, on)]
assert agree(energy(many, on), expected, "twenty random maps of 5 × 7 places")
### END HIDDEN TESTS
print("passed: shares of the positive part, one for each map")

# %% check="score" points=1
hint = "the highest values are 5, on its mask, and 2, first at (0, 0); -6 is not high"
assert agree(np.asarray(hits(maps, masks))[[0, 3]], [True, True], hint)
hint = "with the masks turned round, the highest value 5 lies off the mask"
assert agree(np.asarray(hits(maps, ~masks))[0], False, hint)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(5)
many, on = random.normal(size=(20, 5, 7)), random.random((20, 5, 7)) < 0.4
expected = [m[np.unravel_index(a.argmax(), a.shape)] for a, m in zip(many, on)]
assert agree(hits(many, on), expected, "twenty random maps of 5 × 7 places")
### END HIDDEN TESTS
print("passed: the highest place of each map")

# %% [markdown]
# Now both networks on validation images of the studio, where both seem fine. Each box shows the quartiles over the
# images.

# %%
some, their_masks = validation_images[:measured], validation_masks[:measured]
scores = {}
for name, model in (("biased", biased), ("sound", sound)):
    scores[name] = np.asarray(energy(cam_maps(model, some), their_masks))
figure, ax = plt.subplots(figsize=(8, 1.9))
options = {"orientation": "horizontal", "showfliers": False, "whis": (5, 95)}
ax.boxplot(list(scores.values()), widths=0.6, **options)
ax.set_yticks([1, 2], list(scores))
ax.axvline(their_masks.mean(), color=plots.GREY, ls="--", label="share of the area")
ax.set(xlabel="share of Grad-CAM on the object", xlim=(0, None))
ax.legend()

# %% [markdown]
# ## 5. Forget (2 points)
#
# A map that explains a network must change when the network forgets. Write `forgetful(model, names, seed)`: a copy of
# the model in which the *kernel* of each named layer is shuffled. All values of a kernel change their places at random,
# each by itself, and not rows or blocks as a whole. Everything else stays, biases and batch normalisation included. The
# model that came in does not change. The same seed gives the same copy, another seed another one.
#
# Use `keras.models.clone_model(model)`, which copies the architecture with fresh weights, `set_weights`, and
# `np.random.default_rng(seed)`. The kernel of a convolution or a dense layer is the first entry of
# `layer.get_weights()`.
#
# The check gives every value of a kernel a number and looks where it went.


# %% gap="forget" stub="return a copy of the model with the kernels of the named layers shuffled"
def forgetful(model, names, seed=0):
    ### BEGIN SOLUTION
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    random = np.random.default_rng(seed)
    for name in names:
        kernel, *others = copy.get_layer(name).get_weights()
        shuffled = random.permutation(kernel.ravel()).reshape(kernel.shape)
        copy.get_layer(name).set_weights([shuffled, *others])
    return copy
    ### END SOLUTION


# %%
def numbered():
    """A small model whose kernels hold 1, 2, 3, ... in random places."""
    stack = [keras.Input((4, 4, 2)), layers.Conv2D(6, 3, name="first")]
    stack += [layers.BatchNormalization(name="norm")]
    stack += [layers.Conv2D(7, 1, name="second"), layers.Flatten()]
    model = keras.Sequential([*stack, layers.Dense(5, name="last")])
    random = np.random.default_rng(6)
    for layer in model.layers:
        shapes_of = [values.shape for values in layer.get_weights()]
        fresh = [random.permutation(np.prod(shape, dtype=int)) for shape in shapes_of]
        pairs = zip(fresh, shapes_of)
        layer.set_weights([1.0 + values.reshape(shape) for values, shape in pairs])
    return model


def in_step(old, new):
    """The largest share of neighbours in a kernel that keep the same distance."""
    places = np.argsort(new.ravel())[np.argsort(np.argsort(old.ravel()))]
    return np.unique(np.diff(places), return_counts=True)[1].max() / places.size


# %% check="forget" points=1
given = numbered()
before = given.get_weights()
copy = forgetful(given, ["last", "first"], seed=1)
assert isinstance(copy, keras.Model), f"expected a model, got {type(copy).__name__}"
for old, now in zip(before, given.get_weights()):
    assert agree(now, old, "the model that came in has changed: work on a copy")
for name in ("last", "first"):
    old, new = given.get_layer(name).get_weights(), copy.get_layer(name).get_weights()
    hint = f"the kernel of {name} must hold its own values, in other places"
    assert agree(np.sort(new[0].ravel()), np.sort(old[0].ravel()), hint)
    stayed = np.mean(old[0] == new[0])
    assert stayed < 0.2, f"{stayed:.0%} of the kernel of {name} stayed in its place"
    assert agree(new[1], old[1], f"the bias of {name} stays")
for name in ("norm", "second"):
    pairs = zip(given.get_layer(name).get_weights(), copy.get_layer(name).get_weights())
    for old, new in pairs:
        assert agree(new, old, f"{name} was not named: it keeps its weights")
print("passed: the named kernels have changed, and nothing else")

# %% check="forget" points=1
first, last = (copy.get_layer(name).get_weights()[0] for name in ("first", "last"))
for name, new in (("first", first), ("last", last)):
    old = given.get_layer(name).get_weights()[0]
    together = in_step(old, new)
    assert together < 0.1, (
        f"{together:.0%} of the values of {name} moved by the same distance: "
        "the kernel was rolled, turned or moved as a whole. Mix its values"
    )
    for axis in range(old.ndim):
        kept = np.mean(np.sort(old, axis=axis) == np.sort(new, axis=axis))
        text = f"{kept:.0%} of the values of {name} stayed in their row, axis {axis}"
        assert kept < 0.5, f"{text}: flatten the kernel, mix, reshape"
again = forgetful(given, ["last", "first"], seed=1).get_layer("first").get_weights()[0]
assert agree(again, first, "the same seed must give the same copy")
other = forgetful(given, ["last", "first"], seed=2).get_layer("first").get_weights()[0]
assert not np.array_equal(other, first), "seeds 1 and 2 gave the same copy"
### BEGIN HIDDEN TESTS
untouched = forgetful(given, [])
assert untouched is not given, "without names: expected a copy, got the model itself"
hint = "without names nothing is shuffled: the copy has the weights of the model"
for old, new in zip(before, untouched.get_weights()):
    assert agree(new, old, hint)
### END HIDDEN TESTS
print("passed: the values are mixed at random, by the seed")

# %% [markdown]
# Let the sound network forget, from the output downwards, one layer more at a time. We compare three maps with those of
# the trained network by rank correlation: 1 means the same order of the pixels, 0 an unrelated one. The third method,
# **guided back-propagation**, is a gradient for which a ReLU lets only positive slopes through on the way back. All
# maps are asked for one class, on images that the trained network assigns to it.

# %%
layers_down = ["logits", "conv4", "conv3", "conv2", "conv1"]
winners = named(sound, other_images)
asked = int(np.bincount(winners).argmax())
some = other_images[winners == asked][:30]


def through_halves(model, images, k):
    half = model.get_layer("relu4").output
    lower, upper = keras.Model(model.input, half), keras.Model(half, model.output)
    return grad_cam(lower, upper, images, k)


methods = {
    "saliency": saliency,
    "guided back-propagation": introspection.guided_backpropagation,
    "Grad-CAM": through_halves,
}

# %%
maps = []  # of each method, for each number of layers forgotten
for count in range(len(layers_down) + 1):
    model, found = forgetful(sound, layers_down[:count], seed), {}
    for name, method in methods.items():
        found[name] = np.asarray(method(model, some, asked))
    maps.append(found)
alike = {}
for name in methods:
    pairs = [introspection.rank_correlation(maps[0][name], now[name]) for now in maps]
    alike[name] = [np.nan_to_num(pair).mean() for pair in pairs]  # an empty map: 0

# %% tags=["thumbnail"]
plots.curves(
    alike,
    x=range(len(layers_down) + 1),
    xlabel="layers forgotten, from the output down",
    ylabel="rank correlation with the map before",
    baselines={"unrelated": 0},
    title="Which map depends on the network?",
)

# %% [markdown]
# Guided back-propagation of the trained network, with the last layer forgotten, and with all layers forgotten.

# %%
drawings = {}
for name, count in (("trained", 0), ("last layer forgotten", 1), ("all forgotten", -1)):
    drawings[name] = maps[count]["guided back-propagation"][:3]
plots.show_maps(some[:3], drawings, titles=[f"image {i}" for i in range(len(some[:3]))])

# %% [markdown]
# ## 6. A step that changes the class (2 points)
#
# Write `fooling_step(model, image, label, size)`: one step against the class `label`. Every value of the image moves by
# `size` grey levels, up or down, so that the logit of `label` falls: along minus the *sign* of its gradient. Where the
# gradient is 0, nothing moves. The result stays between 0 and 255.
#
# In: an image (H, W, C) with values from 0 to 255. Out: a float array of the same shape. The image that came in stays
# as it is.
#
# The check predicts by how much the logit of a linear model falls.


# %% gap="fooling" stub="move every value by size against the class, and stay in 0 to 255"
def fooling_step(model, image, label, size):
    ### BEGIN SOLUTION
    def logit(x):
        return model(x, training=False)[:, label]

    pixels = image.astype("float32")
    gradient = introspection.gradients(logit, pixels[None])[0]
    return np.clip(pixels - size * np.sign(gradient), 0, 255)
    ### END SOLUTION


# %%
weights = np.array(kernel)
weights[0, 0, 0, :] = 0  # this value has no influence on any class
linear.set_weights([weights.reshape(24, 3), np.zeros(3, "float32")])
grey, signs = np.full((3, 4, 2), 100, "uint8"), np.sign(weights[..., 1])
up, down = np.where(signs == 0, -1, signs), np.where(signs == 0, 1, signs)
mistakes = [
    ("the logit rises: go against the gradient, not along it", 100 + 2 * signs),
    ("take the sign of the gradient, not the gradient", 100 - 2 * weights[..., 1]),
    ("where the gradient is 0, nothing moves", 100 - 2 * up),
    ("where the gradient is 0, nothing moves", 100 - 2 * down),
]

# %% check="fooling" points=2
answer = fooling_step(linear, grey, 1, 2.0)
hint = "every value moves by 2 against the sign of the weight, and one value not at all"
assert agree(answer, 100 - 2 * signs, hint, mistakes)
pair = np.stack([grey, np.asarray(answer)]).astype("float32")
fall = np.diff(linear.predict(pair, verbose=0)[::-1, 1])[0]
hint = "the logit falls by 2 times the sum of the absolute weights"
assert agree(fall, 2 * np.abs(weights[..., 1]).sum(), hint)
assert agree(grey, np.full((3, 4, 2), 100), "the image that came in has changed")
assert own_work(fooling_step, linear, grey, 1, 2.0)
### BEGIN HIDDEN TESTS
for level in (0, 4, 251, 255):
    flat_image = np.full((3, 4, 2), level, "uint8")
    expected = np.clip(level - 9 * np.sign(weights[..., 2]), 0, 255)
    hint = f"an image of {level}, a step of 9: stay in 0 to 255, and compute in floats"
    assert agree(fooling_step(linear, flat_image, 2, 9.0), expected, hint)
### END HIDDEN TESTS
print("passed: the logit falls as predicted")

# %% [markdown]
# A step of four grey levels, beside four levels with random signs. Which share of the images that were right is still
# right? Above each image stands its class, and what the network names now.

# %%
right = np.flatnonzero(named(sound, other_images) == other_labels)[:60]
fooled = other_images[right].astype("float32")
for image, label in zip(fooled, other_labels[right]):
    image[:] = fooling_step(sound, image.copy(), int(label), 4)
signs = np.random.default_rng(seed).choice([-4.0, 4.0], fooled.shape)
shaken = np.clip(other_images[right] + signs, 0, 255).astype("float32")
still = {
    "against the gradient": accuracy(sound, fooled, other_labels[right]),
    "random signs": accuracy(sound, shaken, other_labels[right]),
}
said = named(sound, fooled)[:8], shapes.CLASSES
plots.show_images(fooled[:8], other_labels[right][:8], *said, columns=4, tile=1.7)

# %%
plots.bars(still, xlabel=f"share of {len(right)} images that are still right")

# %% [markdown]
# ## 7. Another ground (2 points)
#
# The maps suggest that the biased network looks at the ground. To test it, and later to repair it, move each object to
# another ground. `emptied` below removes the object from its ground. Write `transplant(images, masks, grounds, seed)`:
# image i keeps the pixels of its own object and gets all other pixels from one of the grounds. A random permutation
# says which ground goes where; now and then an image gets its own, which does no harm.
#
# In: images (N, H, W, C) uint8, masks (N, H, W) bool, grounds like the images. Out: new images, uint8. The arrays that
# came in stay as they are. Every ground is used once. The same seed gives the same images, another seed other ones.
#
# The check counts how often the ground still tells the class.


# %%
def emptied(images, masks):
    """The grounds of images: the mean colour of the ground where the object was."""
    grounds = images.astype("float32")
    for ground, mask in zip(grounds, masks):
        grown = ndimage.binary_dilation(mask, iterations=2)
        ground[grown] = ground[~grown].mean(axis=0)
    return grounds.astype("uint8")


# %% gap="transplant" stub="give every object a ground drawn at random"
def transplant(images, masks, grounds, seed):
    ### BEGIN SOLUTION
    order = np.random.default_rng(seed).permutation(len(images))
    return np.where(masks[..., None], images, grounds[order])
    ### END SOLUTION


# %%
# Image i has the value 100 + i and ground i the value i; the object is the first column
plain_grounds = np.zeros((60, 4, 4, 3), "uint8")
plain_grounds += np.arange(60, dtype="uint8").reshape(60, 1, 1, 1)
plain_objects, first_column = plain_grounds + 100, np.zeros((60, 4, 4), bool)
first_column[:, :, 0] = True


def grounds_taken(seed):
    """Which ground `transplant` gives to each image, and the images."""
    answer = transplant(plain_objects, first_column, plain_grounds, seed)
    assert answer is not None, "the function returned None: has it a return?"
    answer = np.asarray(answer)
    shape = f"expected images of shape {plain_objects.shape}, got {answer.shape}"
    assert answer.shape == plain_objects.shape, shape
    assert answer.dtype == np.uint8, f"expected uint8 images, got {answer.dtype}"
    return answer[:, 0, 1, 0].astype(int), answer


# %% check="transplant" points=2
taken, answer = grounds_taken(3)
hint = "each image keeps the pixels of its own object"
assert agree(answer[:, :, 0], plain_objects[:, :, 0], hint)
hint = "all pixels beside the object come from one ground"
one_ground = np.ones((1, 4, 3, 3)) * taken.reshape(60, 1, 1, 1)
assert agree(answer[:, :, 1:], one_ground, hint)
used = len(np.unique(taken))
assert used == 60, f"60 grounds, each used once: {used} of them are used"
same = np.mean(taken % 6 == np.arange(60) % 6)
text = f"six classes in turn, and {same:.0%} of the grounds are of the object's class"
assert same < 0.5, f"{text}: the ground still tells. Mix over all images"
for k in range(6):
    sources = np.unique(taken[k::6] % 6)
    text = f"all objects of class {k} stand on grounds of class {sources[0]}"
    assert len(sources) > 1, f"{text}: they still tell. Draw the order at random"
### BEGIN HIDDEN TESTS
assert agree(grounds_taken(3)[0], taken, "the same seed must give the same images")
assert not np.array_equal(grounds_taken(4)[0], taken), "seeds 3 and 4: the same images"
matches = np.mean([grounds_taken(s)[0] % 6 == np.arange(60) % 6 for s in range(40)])
text = f"at random, 1 in 6 grounds is of the object's class; in 40 draws {matches:.2f}"
assert 0.08 < matches < 0.26, text
assert agree(plain_objects[:, 0, 1, 0], np.arange(60) + 100, "the given images changed")
assert agree(plain_grounds[:, 0, 1, 0], np.arange(60), "the given grounds changed")
### END HIDDEN TESTS
print("passed: own objects on random grounds")

# %%
validation_grounds = emptied(validation_images, validation_masks)
fair_images = transplant(validation_images, validation_masks, validation_grounds, seed)
both = np.concatenate([validation_images[:8], fair_images[:8]])
title = "Validation images of the studio, before and after"
plots.show_images(both, columns=8, tile=0.8, title=title)

# %% [markdown]
# ## 8. Shape or ground? (3 points)
#
# Maps suggest; an experiment proves. Write `follows(model, images, labels, masks, grounds, seed)`. It transplants the
# objects, asks the model, and returns two numbers: the share of the answers that name the class of the *shape*, and the
# share of the answers that name the class to which the *ground* belonged. Count only images in which these two classes
# differ: where they agree, the answer tells nothing.
#
# In: the images as above, their classes `labels` (N,), the masks, and the emptied grounds, ground i from image i. Out:
# two numbers in [0, 1].
#
# You need the class of the ground that each object got, and `transplant` does not return it. How can you find it out?
# There are several ways; any of them is right.
#
# The check uses three models whose answers are known: one reads a pixel of the object, one reads a pixel of the ground,
# one reads nothing. `named(model, images)` gives the classes that a model names.


# %% gap="follows" stub="return the shares of answers that follow the shape, and the ground"
def follows(model, images, labels, masks, grounds, seed):
    ### BEGIN SOLUTION
    moved = transplant(images, masks, grounds, seed)
    numbers = np.zeros_like(grounds)  # pictures of the labels, moved in the same way
    numbers[:] = labels.reshape(-1, 1, 1, 1)
    marked = transplant(np.full_like(grounds, 255), masks, numbers, seed)
    of_ground = marked.min(axis=(1, 2, 3))
    differ, said = of_ground != labels, named(model, moved)
    on_shape, on_ground = said == labels, said == of_ground
    return on_shape[differ].mean(), on_ground[differ].mean()
    ### END SOLUTION


# %%
def reader(pixel, classes=6):
    """A model that names k where a pixel has the value 40 k; always 2 without one."""
    weights, wanted = np.zeros((4, 4, 3, classes), "float32"), 40.0 * np.arange(classes)
    if pixel is not None:
        weights[(*pixel, 0)] = 2 * wanted
    stack = [keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(classes)]
    bias = 1.0 * (np.arange(classes) == 2) if pixel is None else -(wanted**2)
    model = keras.Sequential(stack)
    model.set_weights([weights.reshape(48, -1), bias])
    return model


def known_answers(pixel, classes=6, count=120, seed=7):
    """What `follows` says of a reader, on flat images of the value 40 k for class k."""
    labels = np.arange(count) % classes
    images = np.ones((count, 4, 4, 3), "uint8") * (40 * labels).reshape(-1, 1, 1, 1)
    images, masks = images.astype("uint8"), np.zeros((count, 4, 4), bool)
    masks[:, 1:3, 1:3] = True
    answer = follows(reader(pixel, classes), images, labels, masks, images, seed)
    return parts(answer, "the share of the shape", "the share of the ground")


# %% check="follows" points=2
hint = "this model reads a pixel of the object: it follows the shape in all images"
answer = np.asarray(known_answers((1, 1)), "float64")
if answer[0] == 1 and 0 < answer[1] < 0.4:
    hint = "images were counted in which shape and ground are of the same class"
mistakes = [("the two shares have changed places", [0, 1])]
assert agree(answer, [1, 0], hint, mistakes)
hint = "this model reads a pixel of the ground: it follows the ground in all images"
assert agree(known_answers((0, 3)), [0, 1], hint)
hint = "a model that reads the object, with other seeds and with two classes"
assert agree(known_answers((2, 2), classes=2, seed=8), [1, 0], hint)
assert agree(known_answers((2, 2), seed=9), [1, 0], hint)
print("passed: a model that follows the shape, and one that follows the ground")

# %% check="follows" points=1
shares = np.asarray(known_answers(None), "float64")
text = "a model that always names class 2 is right by chance, on shapes and on grounds"
text += f": expected two shares of .1 to .25, got {shares.round(3).tolist()}"
assert shares.min() > 0.1 and shares.max() < 0.25, text
### BEGIN HIDDEN TESTS
for seed_ in (11, 12, 13):
    hint = f"a model that reads the ground, 30 images of three classes, seed {seed_}"
    assert agree(known_answers((3, 0), classes=3, count=30, seed=seed_), [0, 1], hint)
    hint = f"a model that reads the object, 30 images of three classes, seed {seed_}"
    assert agree(known_answers((1, 2), classes=3, count=30, seed=seed_), [1, 0], hint)
### END HIDDEN TESTS
print("passed: a model that reads nothing")

# %% [markdown]
# Your experiment on both networks, with validation images of the studio.

# %%
studio = validation_images, validation_labels, validation_masks, validation_grounds
follow = {}
for name, model in (("sound", sound), ("biased", biased)):
    on_shape, on_ground = follows(model, *studio, seed)
    follow[f"{name}: names the shape"] = float(on_shape)
    follow[f"{name}: names the ground"] = float(on_ground)
baselines = {"one class for all": 1 / 6}
plots.bars(follow, xlabel="share of the answers", baselines=baselines)

# %% [markdown]
# ## 9. Repair (4 points)
#
# Write `repair(images, labels, masks)`: train a network on transplanted studio images with `trained(images, labels,
# steps)`, and return it. Transplant twice or more with different seeds and join the copies, so that the network sees
# each object on several grounds. Empty the grounds first (`emptied`). Use only the images that came in: no free image,
# and none drawn anew. You may also mirror, turn or shift images together with their masks; leave their colours as they
# are.
#
# Out: the trained network. The first check looks at the images that you train on. The others judge the network on the
# *fair* validation images: the validation images that you transplanted in step 7. They ask for an accuracy of `floor`,
# and for a share `on_object` of Grad-CAM on the object, since a network can be right for a wrong reason. If you try
# several repairs, choose by these images. The test images come once, at the end.


# %% gap="repair" stub="train a network on transplanted images and return it"
def repair(images, labels, masks):
    ### BEGIN SOLUTION
    grounds, copies = emptied(images, masks), []
    for number in range(2):
        copies.append(transplant(images, masks, grounds, seed + number))
    return trained(np.concatenate(copies), np.concatenate([labels, labels]), steps)
    ### END SOLUTION


# %%
def coloured(count=60):
    """Images for the check: object i has the red i + 1, the ground of class k 40 k."""
    labels, random = np.arange(count) % 6, np.random.default_rng(10)
    images = np.zeros((count, 64, 64, 3), "uint8")
    masks = np.zeros((count, 64, 64), bool)
    images[..., 1:] = 50, 90
    images[..., 0] = 40 * labels[:, None, None]
    for i, (row, column) in enumerate(random.integers(4, 44, (count, 2))):
        masks[i, row : row + 14, column : column + 14] = True
        images[i][masks[i]] = i + 1, 200, 10
    return images, labels, masks


def recognised(image):
    """Which objects an image of `coloured` shows, and the class of its ground."""
    red, green, blue = np.moveaxis(np.round(np.asarray(image, "float64")), -1, 0)
    objects = np.unique(red[(green == 200) & (blue == 10)]).astype(int) - 1
    ground = np.unique(red[(green == 50) & (blue == 90)], return_counts=True)
    return objects, int(ground[0][ground[1].argmax()]) // 40 if len(ground[0]) else -1


# %%
def trained_on(images, labels, masks):
    """The images and labels on which `repair` wants to train, without the training."""
    global trained
    seen, in_earnest = [], trained

    def listen(images, labels, *rest, **more):
        seen.append((np.asarray(images), np.asarray(labels)))
        return sound

    trained = listen
    try:
        repair(images, labels, masks)
    finally:
        trained = in_earnest
    count = f"repair calls trained(images, labels, steps) once, not {len(seen)} times"
    assert len(seen) == 1, count
    return seen[0]


# %% check="repair" points=1
made = coloured()
pixels, names = trained_on(*made)
text = "60 objects, each on two grounds or more, give at least 120 images and labels"
counts = len(pixels), len(names)
assert counts[0] == counts[1] >= 120, f"{text}: got {counts[0]} and {counts[1]}"
found = [recognised(image) for image in pixels]
none = np.mean([len(objects) == 0 for objects, _ in found])
text = f"{none:.0%} of the images show none of the objects that came in"
assert none == 0, f"{text}: use only these images, and leave their colours"
several = np.mean([len(objects) > 1 for objects, _ in found])
text = f"{several:.0%} of the images show two objects"
assert several < 0.2, f"{text}: the grounds are not empty, use emptied(images, masks)"
objects = np.array([objects[0] for objects, _ in found])
fit = np.mean(made[1][objects] == names)
text = f"{fit:.0%} of the labels fit the objects"
assert fit == 1 or several > 0, f"{text}: in which order are the copies joined?"
tells = np.mean([ground == label for (_, ground), label in zip(found, names)])
text = f"in {tells:.0%} of the images the ground still tells the class"
assert tells < 0.5, f"{text}, at random in 17 %: transplant the objects"
print(f"passed: {len(pixels)} images, and the ground tells the class in {tells:.0%}")

# %% check="repair" points=2
repaired = repair(studio_images, studio_labels, studio_masks)
text = f"expected the trained network, got {type(repaired).__name__}"
assert isinstance(repaired, keras.Model), text
for name, model in (("sound", sound), ("biased", biased)):
    same = np.array_equal(repaired.get_weights()[0], model.get_weights()[0])
    assert not same, f"expected a new network, got the {name} one"
reached = accuracy(repaired, fair_images, validation_labels)
before = accuracy(biased, fair_images, validation_labels)
text = f"{reached:.1%} of the fair validation images are right (biased: {before:.1%})"
assert reached >= floor, f"{text}, {floor:.1%} are asked for"
print(f"passed: {reached:.1%} of the fair validation images, before {before:.1%}")

# %% check="repair" points=1
judged = fair_images[:measured], validation_masks[:measured]
share = float(np.mean(energy(cam_maps(repaired, judged[0]), judged[1])))
text = f"{share:.1%} of Grad-CAM lies on the object, {on_object:.1%} is asked for"
assert share >= on_object, text
print(f"passed: {share:.1%} of Grad-CAM lies on the object")

# %% [markdown]
# Now the test images, once. Whatever they say, do not go back to change the repair: if you choose by them, they no
# longer tell how the network does on new images.

# %%
everyone = {"biased": biased, "repaired": repaired, "sound": sound}
on_test, on_fair, both = {}, {}, {}
for name, model in everyone.items():
    on_fair[name] = accuracy(model, fair_images, validation_labels)
    on_test[name] = accuracy(model, test_images, test_labels)
    both[f"{name}, fair validation"] = on_fair[name]
    both[f"{name}, test"] = on_test[name]
plots.bars(both, xlabel="accuracy", baselines=baselines)

# %% [markdown]
# The repair goes a good part of the way, not all of it. The repaired network does better on the fair validation images
# than on the test images. A likely reason: the fair images were made in the same way as its training images. In both,
# each object carries a rim of its old ground, and a flat patch shows where another object was. The test images have
# neither. So even fair validation images are only as good as the way in which they were made. The sound network has
# seen as many steps, on images that never had a bias.

# %%
pictures = {name: cam_maps(model, test_images[:4]) for name, model in everyone.items()}
titles = [shapes.CLASSES[k] for k in test_labels[:4]]
plots.show_maps(test_images[:4], pictures, titles=titles, overlay=list(pictures))

# %%
results.record(
    accuracy_biased=on_test["biased"],
    accuracy_sound=on_test["sound"],
    accuracy_repaired=on_test["repaired"],
    fair_sound=on_fair["sound"],
    fair_repaired=on_fair["repaired"],
    validation_biased=in_studio["biased"],
    follows_ground=follow["biased: names the ground"],
    sound_follows_shape=follow["sound: names the shape"],
    on_object_biased=scores["biased"].mean(),
    on_object_sound=scores["sound"].mean(),
    on_object_repaired=share,
    kept_guided_one=alike["guided back-propagation"][1],
    still_right_after_step=still["against the gradient"],
)

# %% [markdown]
# ## 10. Read the biased network (1 point)
#
# Look at the maps of the biased network: its occlusion (step 2), its Grad-CAM (step 3), its score (step 4), and at your
# experiment (step 8). What does it look at, how do you know, and why could the accuracy on the studio's validation
# images not tell? Answer in three to five sentences.

# %% [markdown] question="biased" points=1
# ### BEGIN SOLUTION
# It looks at the colour of the ground. Its Grad-CAM is spread over the ground and leaves the object out, so that less
# of it lies on the object than the object's share of the area, and hiding the object hardly changes the probability.
# The experiment proves it: with the object on another ground the network names the class of the ground in almost every
# image. The validation images come from the same studio as the training images. On them the ground tells the class just
# as well, so a network that reads the ground is right on all of them. Only images in which ground and class are
# independent can tell by accuracy.
# ### END SOLUTION

# %% [markdown]
# ## 11. Sharp and wrong (1 point)
#
# Guided back-propagation is praised for clear pictures. What do the curve and the pictures of step 5 say about them
# when only the last layer has forgotten, and what follows for their use? Answer in two to four sentences.

# %% [markdown] question="sharp" points=1
# ### BEGIN SOLUTION
# With the last dense layer shuffled, the weights of the class are no longer those that the network learned, and yet the
# map of guided back-propagation keeps most of its order, more than that of saliency and of Grad-CAM. So most of the
# picture does not come from the class but from the edges that pass through the earlier layers, whatever the class is.
# The picture can show what early units respond to. It is no evidence for why the network named this class.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - compute saliency, occlusion and Grad-CAM yourself, and test each on a model whose answer is known;
# - put a number on "the map lies on the object", with the share of the area as its baseline;
# - tell a map of the network from a map of the image: let the network forget, and compare;
# - change a class by a step of a few grey levels;
# - design an experiment that separates two explanations, and repair a network through its training data;
# - make fair validation images when the given ones share the fault of the training images.
#
# ## Exercises
#
# 1. (easy) Play the pointing game with your `hits` for both networks. What does a map score that is highest at the
#    centre? *Hint: a map of zeros with a 1 in the middle.*
# 2. (easy) Draw saliency with the mean over the channels in place of the maximum. Does the energy on the object change?
#    *Hint: one word.*
# 3. (medium) Repeat the fooling step ten times with size 1. How much farther does that go than one step of 10? *Hint:
#    compute the gradient anew in each step.*
# 4. (medium) Transplant once, twice, four times, with three seeds each. Where does the accuracy on the fair validation
#    images stop rising, and is the rise larger than the spread? *Hint: `range(2)` in `repair`.*
# 5. (hard) Repair without masks: change the colour of whole training images at random (hue, brightness). How near does
#    it come? *Hint: `utils.data.augmentation`.*
#
# ## Further reading
#
# - M. D. Zeiler and R. Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014.
# - K. Simonyan, A. Vedaldi and A. Zisserman, *Deep inside convolutional networks: visualising image classification
#   models and saliency maps*, ICLR workshops 2014.
# - I. Goodfellow, J. Shlens and C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015.
# - R. R. Selvaraju et al., *Grad-CAM: visual explanations from deep networks via gradient-based localization*, ICCV
#   2017.
# - J. Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018.
# - R. Geirhos et al., *Shortcut learning in deep neural networks*, Nature Machine Intelligence 2, 2020.
