# %% [markdown]
# # 05 What convnets see
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/05_what_convnets_see.ipynb)
#
# **Two networks name shapes. One is right on every validation image, the other errs now and then. Which one do you
# take?** Before you answer, look where they look: the first one has never looked at a shape. Its score does not tell,
# and neither do more images of the same kind. Maps of what it sees do.
#
# You will be able to
#
# - look into a trained network: its filters, its activations, the patches that excite a channel, and the way back
#   from a unit to the pixels (deconvnet);
# - ask which pixels a decision hangs on: occlusion, saliency, guided back-propagation, SmoothGrad, Grad-CAM;
# - measure whether such a map lies on the object, beside maps that never saw the network, and whether it shows the
#   network at all;
# - draw what a channel looks for by gradient ascent, and change a class by a step too small to see;
# - find out why a network errs, and repair it.
#
# It takes about an hour to read and less than five minutes to run.

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
source: str = (
    "shapes"  # {shapes, imagenet} the network that is looked into: trained here, or MobileNetV2 on photographs
)
drawn: int = 3000  # [60, 20000] images drawn to train on; to test on, a tenth or a fifth as many
steps: int = 930  # [6, 10000] training steps of the network that is looked into
biased_steps: int = 300  # [6, 5000] training steps of the networks that go wrong
few: int = 192  # [32, 2000] images of the network that is trained on too few
measured: int = 120  # [6, 1000] images on which maps of the network trained here are measured
samples: int = 16  # [2, 200] noisy copies of an image for SmoothGrad
climb: int = 48  # [2, 500] steps of gradient ascent

# %%
import itertools

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import layers, ops
from scipy import ndimage

from utils import data, introspection, plots, pretrained, training, transfer
from utils.data import shapes
from utils.layers import max_pool_with_indices, max_unpool
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# ## A network to look into
#
# To judge a map we must know the truth. So we draw it: images of 64 × 64 pixels with one shape of six classes,
# anywhere, of any size and colour, on a ground of any colour, and with it the mask of its pixels. They are
# synthesised: what holds here need not hold for photographs. Set `source` to "imagenet" (profile `real`), and most of
# what follows up to *Why a network errs* looks into MobileNetV2, trained on photographs of ImageNet, with boxes that
# we drew by hand as the truth.


# %%
def draw(count, split, ground):
    """Images of one shape: (N, 64, 64, 3) uint8, their classes (N,), the masks of the shapes (N, 64, 64) bool."""
    scenes = shapes.scenes(count, split, seed, config="biased", image_size=64, ground=ground)
    labels = np.array([scene.labels[0] for scene in scenes])
    return np.stack([scene.image for scene in scenes]), labels, np.stack([scene.masks[0] for scene in scenes]) > 0


shape_images, shape_labels, _ = draw(drawn, "train", "random")
test_images, test_labels, test_masks = draw(max(drawn // 10, measured), "test", "random")
plots.show_images(shape_images[:20], shape_labels[:20], classes=shapes.CLASSES, columns=10, tile=0.9)

# %% [markdown]
# Four convolutions, each with batch normalisation and ReLU, and a max pool after the second and the third; the
# average of each of the last 96 maps; one dense layer. The first kernels have 7 × 7 pixels and start small (deviation
# .01, as AlexNet's did), so that what we shall see in them was learnt and is not left over from the start.


# %%
def network():
    inputs = keras.Input((64, 64, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(inputs)
    for number, (filters, size, stride) in enumerate([(16, 7, 2), (32, 3, 1), (64, 3, 1), (96, 3, 1)], 1):
        start_from = keras.initializers.RandomNormal(stddev=0.01) if number == 1 else "he_normal"
        convolution = layers.Conv2D(
            filters, size, stride, "same", use_bias=False, kernel_initializer=start_from, name=f"conv{number}"
        )
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(convolution(x))
        x = layers.ReLU(name=f"relu{number}")(x)  # 32 x 32, 32 x 32, 16 x 16, 8 x 8
        if number in (2, 3):
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)  # (batch, 96)
    return keras.Model(inputs, layers.Dense(len(shapes.CLASSES), name="logits")(x))


# %%
def trained(images, labels, steps, epochs=6):
    """A network trained for `steps` steps of 32 images, and the history of its `epochs` portions."""
    model = network()
    rate = training.WarmupHoldDecay(3e-3, steps, warmup=max(1, steps // 10))
    training.compile_classifier(model, keras.optimizers.AdamW(rate, weight_decay=1e-3))
    order = np.random.default_rng(seed).permuted(
        np.tile(np.arange(len(images)), (-(-steps * 32 // len(images)), 1)), axis=1
    )
    parts = np.array_split(order.ravel()[: steps // epochs * epochs * 32], epochs)
    history = training.fit(
        model, lambda epoch: (images[parts[epoch]], labels[parts[epoch]]), epochs, batch_size=32, seed=seed
    )
    return model, history.history


def accuracy(model, images, labels):
    return float((transfer.predict(model, images).argmax(axis=1) == labels).mean())


# %% [markdown]
# It trains in about a minute. Always naming one class would be right on one in six.

# %%
sound, watched = trained(shape_images, shape_labels, steps)
reached = accuracy(sound, test_images, test_labels)
baselines = {"one class for all": 1 / 6, "on test images, at the end": reached}
plots.curves({"in training": watched["accuracy"]}, xlabel="sixth of the run", ylabel="accuracy", baselines=baselines)

# %%
record(accuracy=reached)

# %% [markdown]
# Now the images that we ask about: with shapes, test images with their masks; with photographs, eight of them with
# boxes.


# %%
BOXES = {  # by hand, in pixels of 224 x 224: (left, top, right, bottom)
    "chelsea": [(11, 0, 188, 224)], "cat": [(22, 24, 157, 224)], "bird": [(18, 51, 213, 202)],
    "parrot": [(43, 26, 209, 218)], "coffee": [(28, 10, 182, 213)], "rocket": [(105, 68, 127, 223)],
    "two_dogs": [(46, 4, 116, 154), (153, 86, 221, 190)],
    "traffic": [(46, 131, 107, 172), (188, 125, 224, 165), (208, 162, 224, 191)],
}  # fmt: skip


def photographs():
    """Photographs (N, 224, 224, 3), those with boxes first, and the masks (8, 224, 224) that the boxes make."""
    pictures = {}
    for name, split in (("skimage_photos", "all"), ("photos", "test")):
        found, labels = data.arrays(name, split, 224, 3)
        pictures |= {data.describe(name).classes[label]: image for image, label in zip(found, labels)}
    masks = np.zeros((len(BOXES), 224, 224), bool)
    for mask, boxes in zip(masks, BOXES.values()):
        for left, top, right, bottom in boxes:
            mask[top:bottom, left:right] = True
    names = [*BOXES, *(name for name in pictures if name not in BOXES)]
    return np.stack([pictures[name] for name in names]), masks


# %%
if source == "shapes":
    net, pool, classes = sound, test_images, shapes.CLASSES
    images, masks = test_images[:measured], test_masks[:measured]
    shown_layers, patch_layer, cam_layer = ["relu1", "relu2", "relu3", "relu4"], "relu3", "relu4"
else:
    net, (pool, masks) = pretrained.imagenet("MobileNetV2", include_top=True), photographs()
    names = keras.applications.imagenet_utils.decode_predictions(np.eye(1000), top=1)
    classes, images = [name.replace("_", " ") for [(_, name, _)] in names], pool[: len(masks)]
    pool = np.concatenate([pool, data.arrays("clothing", "validation", 224, 3)[0]])
    shown_layers = ["Conv1_relu", "block_2_expand_relu", "block_6_expand_relu", "out_relu"]
    patch_layer, cam_layer = "block_6_expand_relu", "out_relu"
side = images.shape[1]

# %% [markdown]
# What does the network say of them? Above each image its winner and the winner's probability. (With photographs the
# first is Chelsea, scikit-image's cat; the others are a cat, a bird, a parrot, a coffee, a rocket, two dogs, a road.)


# %%
def probabilities(model, images):
    """(N, classes): of a model that gives logits, or probabilities already."""
    found = transfer.predict(model, images, min(64, len(images)))
    already = np.allclose(found.sum(axis=1), 1, atol=1e-3)
    return found if already else ops.convert_to_numpy(ops.softmax(found))


answers = probabilities(net, images)
winners = answers.argmax(axis=1)
right = winners == test_labels[:measured] if source == "shapes" else np.ones(len(images), bool)
example = int(np.argmax(right & (answers.max(axis=1) > 0.9))) if source == "shapes" else 0  # our first example
titles = [f"{classes[winner]}\n{answer.max():.2f}" for winner, answer in zip(winners, answers)]
plots.show_images(images[:8], titles=titles[:8], columns=8)

# %% [markdown]
# ## Looking at weights: the filters of the first layer
#
# The first layer reads pixels, so its kernels can be drawn as small images: grey is 0. Trained on photographs, they
# come out as oriented edges and spots of colour, AlexNet's too; Hubel and Wiesel (1962) found cells for oriented
# edges in the cat. What do shapes on coloured clouds need? Edges between object and ground, at every angle, in every
# colour.

# %%
kernels = net.get_layer("conv1" if source == "shapes" else "Conv1").get_weights()[0]  # (height, width, 3, filters)
plots.show_filters(kernels[..., :32], columns=8 if source == "shapes" else 16, title="The kernels of the first layer")

# %% [markdown]
# Above the first layer this ends: a kernel of the second layer reads 16 channels (or more), not colours, and its
# picture says little. From there on we look at what a unit *answers to*.
#
# ## Activations, layer by layer
#
# One image goes through the network. A row of the next figure is a layer, with the eight channels that answer most.
# Two predictions: the maps get smaller after each pool, and with ReLU about half of their values or more are 0.

# %%
found = introspection.activations(net, images[example : example + 1], shown_layers)
rows = [
    {"layer": name, "maps": maps.shape[3], "places": f"{maps.shape[1]} x {maps.shape[2]}", "zeros": (maps == 0).mean()}
    for name, maps in found.items()
]
pd.DataFrame(rows).style.format({"zeros": "{:.0%}"}).hide()

# %%
figure, axes = plt.subplots(len(found), 9, figsize=(8, 0.95 * len(found)))
for row, (name, maps) in zip(axes, found.items()):
    strongest = np.argsort(-maps[0].max(axis=(0, 1)))[:8]
    row[0].imshow(images[example])
    row[0].set_ylabel(name.replace("_expand", ""), fontsize=8)
    for ax, channel in zip(row[1:], strongest):
        ax.imshow(maps[0, ..., channel], cmap="viridis")
    for ax in row:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
figure.suptitle("The eight channels that answer most, early layer to late")

# %% [markdown]
# Early maps are pictures of edges. Late maps are coarse: large spots on the object, and a channel that fires says
# "here is something of my kind".
#
# ## Top-9 patches
#
# Of what kind? Zeiler and Fergus (2014) run many images through the network and keep, for each channel, the nine
# places where it is most active, with the patch of pixels that the unit could see there: its receptive field. Here
# are four channels that answer most to our example, from the layer `patch_layer`. How large will the patches be? In
# our network 7 pixels for the first layer, whose stride is 2; 7 + 2 · 2 = 11 for the second; 13 after the pool, whose
# places lie 4 pixels apart; 13 + 2 · 4 = 21 for the third.

# %%
maps = introspection.activations(net, images[example : example + 1], patch_layer)[0]
channels = np.argsort(-maps[2:-2, 2:-2].max(axis=(0, 1)))[:4].tolist()  # away from the border
patches = introspection.top_patches(net, pool, patch_layer, channels)
print(f"{patch_layer} sees {patches[0].patches.shape[1]} x {patches[0].patches.shape[2]} pixels of {side} x {side}")

# %%
plots.show_patches(
    [patch.patches for patch in patches], titles=[f"channel {channel}" for channel in channels], groups=4
)

# %% [markdown]
# In some channels the nine plainly resemble each other, though they come from nine images: an edge of one
# orientation, a corner, the rim of something round. In others it takes a search. They differ in colour and fill where
# the channel does not care. (Black is outside the image.)
#
# ## The deconvnet
#
# A patch shows what the unit *could* see. Which of its pixels did it use? Zeiler and Fergus go back from the unit to
# the pixels, through the layers in reverse order:
#
# - **unpool with switches**: each value that comes down goes to the place where the maximum was, and all other places
#   get 0;
# - **rectify**: a ReLU on what comes down, since the features above are positive;
# - **transpose**: filter with the transposed convolution of the layer (topic 01).
#
# The first of them in numbers. Pooling keeps 9, 8, 7, 6 and forgets where they were; the switches remember. (Here the
# maxima themselves come down.)

# %%
above = np.array([[1, 9, 2, 3], [4, 5, 8, 1], [7, 1, 0, 2], [3, 2, 6, 4]], "float32")
pooled, switches = max_pool_with_indices(above[None, ..., None])
unpooled = ops.convert_to_numpy(max_unpool(pooled, switches, (4, 4)))[0, ..., 0]
parts = [above, "→", ops.convert_to_numpy(pooled)[0, ..., 0], "→", unpooled]
plots.number_equation(parts, titles={0: "maps", 2: "max pool 2 x 2", 4: "unpooled with switches"})

# %% [markdown]
# The last of them: of a single convolution, what comes back from one unit is its activation times its own kernel,
# laid where the unit looks. We set up such a network and confirm it.

# %% tags=["nbval-check-output"]
single = keras.Sequential([keras.Input((9, 9, 1)), layers.Conv2D(1, 3, use_bias=False, name="conv")])
noise = np.random.default_rng(0).normal(size=(1, 9, 9, 1)).astype("float32")
down = introspection.deconvnet(single, noise, "conv", channel=0, place=(2, 4))[0, ..., 0]
kernel = single.get_layer("conv").get_weights()[0][..., 0, 0]
unit = introspection.activations(single, noise, "conv")[0, 2, 4, 0]
print("activation times kernel, at its place:", np.allclose(down[2:5, 4:7], unit * kernel, atol=1e-6))
print("zero everywhere else:", np.count_nonzero(down) == 9)

# %% [markdown]
# Now through the whole network below `patch_layer`, for two of the channels: on the right the patches, on the left
# what the deconvnet brings back for each.

# %%
projections = [
    patch.crop(introspection.deconvnet(net, pool[patch.indices], patch_layer, patch.channel)) for patch in patches[:2]
]
titles = [f"deconvnet, channel {channel}" for channel in channels[:2]]
plots.show_patches([patch.patches for patch in patches[:2]], projections, titles=titles)

# %% [markdown]
# What a channel answers to is much narrower than what it could see. If the projections show what the nine patches of
# a channel have in common, they should resemble each other more than the patches do. Over sixteen channels, the mean
# correlation between two of the nine:


# %%
def likeness(pictures):
    """The mean correlation between two of the pictures (k, h, w, C), pixel by pixel."""
    pairs = np.triu_indices(len(pictures), 1)
    return np.corrcoef(pictures.reshape(len(pictures), -1).astype("float64"))[pairs].mean()


many = introspection.top_patches(net, pool, patch_layer, list(range(16)))
alike = {"patches": [likeness(patch.patches) for patch in many], "deconvnet": []}
for patch in many:
    back = introspection.deconvnet(net, pool[patch.indices], patch_layer, patch.channel)
    alike["deconvnet"].append(likeness(patch.crop(back)))

# %%
means = {name: float(np.nanmean(values)) for name, values in alike.items()}
plots.bars(means, xlabel="mean correlation between two of the nine")

# %%
record(likeness_patches=means["patches"], likeness_deconvnet=means["deconvnet"])

# %% [markdown]
# On average they do, by much or by little: it depends on the channels (in `alike` each has its number) and on the
# seed of the training. (Part of this is built in: the way back uses the same kernels for all nine. Projections from
# units chosen at random would tell how much.) With MobileNetV2 a chequered pattern lies over the projections, the
# mark of strided layers run backwards (topic 01).
#
# ## Occlusion
#
# The most direct question about a decision: hide a part of the image and look whether the answer changes. A square in
# the image's mean colour slides over it. We record two things at each position: the probability of the class that
# won, and *which class wins now*.
#
# Zeiler and Fergus show a dog with a tennis ball: hide its face, and "tennis ball" wins [paper]. For shapes the same
# experiment is an image with two of them, although the network was only ever trained on one. Our example is, of those
# in which it is sure, the one with the smallest winner, which the square can hide almost or altogether.

# %%
two = shapes.scenes(100, "test", seed, config="biased", image_size=64, ground="random", objects=(2, 2), visible=1.0)
two = [scene for scene in two if len(set(scene.labels)) == 2]
pair_images, pair_labels = np.stack([scene.image for scene in two]), np.stack([scene.labels for scene in two])
pair_masks, pair_boxes = np.stack([scene.masks for scene in two]) > 0, np.stack([scene.boxes for scene in two])
pair_answers = probabilities(sound, pair_images)
pair_winners = pair_answers.argmax(axis=1)
named = (pair_labels == pair_winners[:, None]).any(axis=1)  # the winner is one of the two
every, which = np.arange(len(two)), (pair_labels == pair_winners[:, None]).argmax(axis=1)  # which of the two won
print(f"of {len(two)} images with two shapes the winner is one of the two in {named.mean():.0%}")

# %%
corners = pair_boxes[every, which]  # left, top, right, bottom of the winner
sure = named & (pair_answers.max(axis=1) > 0.9)
smallest = int(np.argmin(np.where(sure, (corners[:, 2:] - corners[:, :2]).max(axis=1), np.inf)))
asked = pair_images[smallest] if source == "shapes" else images[example]
hiding = introspection.occlusion(net, asked[None], size=side // 4, stride=side // 16)

# %% tags=["thumbnail"]
arguments = (hiding.probability[0], hiding.winner[0], hiding.size, hiding.tops, hiding.lefts, hiding.classes[0])
plots.show_occlusion(asked, *arguments, classes=classes, plain=hiding.plain[0])

# %% [markdown]
# Where the map is dark, the square hides what the answer rests on. The right picture says what takes over: of our
# shapes often the other object's class where the winner is hidden altogether, and where part of it shows, often a
# third class, for which the rest is taken. That hint is lost when only the probability is drawn.
#
# One image proves nothing, and for the drawn pairs we know both boxes. Hide exactly the object that won: does the
# other's class win now? And as the control, hide the other one: does the winner stay?


# %%
def hide(images, boxes, slack=2):
    """Copies of images, each with one box (and `slack` pixels around it) in the image's mean colour."""
    copies = images.astype("float32")
    for copy, (left, top, right, bottom) in zip(copies, boxes.astype(int)):
        colour = copy.mean(axis=(0, 1))
        copy[max(top - slack, 0) : bottom + slack, max(left - slack, 0) : right + slack] = colour
    return copies


without_winner = transfer.predict(sound, hide(pair_images, pair_boxes[every, which])).argmax(axis=1)
without_other = transfer.predict(sound, hide(pair_images, pair_boxes[every, 1 - which])).argmax(axis=1)
other_wins = (without_winner == pair_labels[every, 1 - which])[named]
stays = (without_other == pair_winners)[named]

# %%
shares = {"winner hidden: the other's class wins": other_wins.mean(), "other hidden: the winner stays": stays.mean()}
plots.bars(shares, xlabel=f"share of {named.sum()} images", baselines={"1 class of 6": 1 / 6})

# %%
record(other_wins=other_wins.mean(), winner_stays=stays.mean())

# %% [markdown]
# So the answer hangs on the object, and the other object is seen too: it waits behind the winner. Occlusion is
# honest, and it is slow: one forward pass for each position. And a square of one colour is itself something new that
# the network has never seen.
#
# ## Saliency
#
# Instead of hiding pixels one region at a time, ask for the *slope* of the class's score at every pixel at once: its
# gradient with respect to the image, one backward pass (Simonyan, Vedaldi and Zisserman 2014). A large value says:
# change this pixel a little, and the score changes. For a linear score w · x the gradient is w itself, at every
# image.
#
# Is it the slope? Let us change single pixels of an image by a little and compare, with a network of 16 smooth units
# where finite differences can be trusted.

# %% tags=["nbval-check-output"]
keras.utils.set_random_seed(3)
smooth = keras.Sequential(
    [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(16, "tanh"), layers.Dense(3, name="logits")]
)
image, class_index, step = np.random.default_rng(1).normal(size=(1, 6, 6, 1)).astype("float32"), 1, 0.01
gradient = introspection.saliency(smooth, image, class_index, reduce=None).ravel()
nudges = step * np.eye(36, dtype="float32").reshape(36, 6, 6, 1)
scores = [transfer.predict(smooth, image + sign * nudges)[:, class_index] for sign in (1, -1)]
slopes = (scores[0] - scores[1]) / (2 * step)
print("gradient = slope found by changing each pixel:", np.allclose(gradient, slopes, atol=1e-3))

# %% [markdown]
# A gradient has three channels, and signs. To draw it, take the largest absolute value over the channels (as the
# paper does), or their mean, or all three as a colour picture with grey at 0.

# %%
chosen = list(range(example, min(example + 3, len(images))))
views = {f"{name} of channels": introspection.saliency(net, images[chosen], reduce=name) for name in ("max", "mean")}
views["all three"] = introspection.saliency(net, images[chosen], reduce=None)
plots.show_maps(images[chosen], views, titles=[classes[winner] for winner in winners[chosen]])

# %% [markdown]
# Maximum and mean hardly differ. In colour we see more: the signs alternate within a few pixels. What raises the
# score is not "more light here" but more contrast.
#
# ### Of the logit, not of the softmax
#
# Which score? Writing $z$ for the logits and $p$ for their softmax,
#
# $$\frac{\partial p_c}{\partial x} = p_c \Big(\frac{\partial z_c}{\partial x} - \sum_k p_k \frac{\partial z_k}{\partial x}\Big).$$
#
# Two things follow. Other classes' gradients are mixed in: the probability of "star" also rises when "circle" falls.
# And with $p_c$ near 1 the bracket goes to 0: where the network is sure, the map of the probability is flat. First
# the formula, confirmed for the class that comes second on an image:

# %% tags=["nbval-check-output"]
one = test_images[:1]
logit_gradients = np.stack([introspection.saliency(sound, one, k, reduce=None)[0] for k in range(6)])  # (6, 64, 64, 3)
p = probabilities(sound, one)[0]
second = int(p.argsort()[-2])
predicted = p[second] * (logit_gradients[second] - np.tensordot(p, logit_gradients, 1))
by_backward_pass = introspection.saliency(sound, one, second, reduce=None, of="probability")[0]
print("the formula holds:", np.allclose(predicted, by_backward_pass, atol=0.01 * np.abs(predicted).max()))

# %% [markdown]
# Then the flatness, over all images: the mean absolute gradient against 1 − p of the winner. From the formula we
# expect that of the probability to fall with 1 − p, and that of the logit not to care.

# %%
doubt = np.maximum(1 - answers.max(axis=1), 1e-7)
slope_of = {
    name: np.abs(introspection.saliency(net, images, of=name, reduce=None)).mean(axis=(1, 2, 3))
    for name in ("logit", "probability")
}
figure, ax = plt.subplots(figsize=(8, 3))
for name, marker in (("logit", "o"), ("probability", "^")):
    ax.loglog(doubt, slope_of[name], marker, ms=5, alpha=0.7, label=f"of the {name}")
ax.set(xlabel="1 − p of the winner (surer to the left)", ylabel="mean absolute gradient")
ax.legend()

# %%
spread = {name: np.quantile(slopes, 0.9) / np.quantile(slopes, 0.1) for name, slopes in slope_of.items()}
plots.bars({f"of the {name}": value for name, value in spread.items()}, xlabel="ratio of the 90 % to the 10 % quantile")

# %%
record(spread_logit=spread["logit"], spread_probability=spread["probability"])

# %% [markdown]
# Where the network is sure, the probability's gradient is smaller by orders of magnitude. Drawn at its own scale, the
# map of one image often looks much the same; but maps cannot be compared between images any more, and at $p = 1$ in
# float32 nothing is left but rounding. So: the logit.
#
# ## Sharper maps
#
# Saliency maps are noisy. Four answers:
#
# - **SmoothGrad** (Smilkov et al. 2017): the mean gradient over copies of the image with noise. The amount matters:
#   here .05 of the range of values; the paper's .1 to .2 is for photographs, which have less noise of their own than
#   our images.
# - **Guided back-propagation** (Springenberg et al. 2015): on the way back, a ReLU lets through only what is positive
#   *and* came from an active unit. Back-propagation asks for the second, the deconvnet for the first.
# - **Integrated gradients** (Sundararajan, Taly and Yan 2017): the mean gradient on the straight way from a plain
#   image to this one, times their difference. The values add up to the difference of the two scores.
# - **Grad-CAM** (Selvaraju et al. 2017): stay in the last maps $A_k$. Weight each by $\alpha_k$, the mean over its
#   places of the logit's gradient, add, keep what is positive: $\mathrm{relu}(\sum_k \alpha_k A_k)$. Coarse, but
#   about the class.
#
# The three rules for a ReLU, in numbers: what came in on the way up, what comes from above, what is let through.

# %%
up, from_above = np.array([[1, -1, 2, -3, 4]]), np.array([[2, 3, -1, -2, 5]])
rules = {
    "back-propagation": np.where(up > 0, from_above, 0),
    "deconvnet": np.maximum(from_above, 0),
    "guided": np.where(up > 0, np.maximum(from_above, 0), 0),
}
table = {"went in": up[0], "comes from above": from_above[0], **{name: rule[0] for name, rule in rules.items()}}
pd.DataFrame.from_dict(table, orient="index").style.hide(axis="columns")


# %%
def integrated(model, images, class_index=None):
    """Absolute integrated gradients from the image's mean colour, the largest over the channels: (N, H, W)."""
    plain = images.astype("float32").mean(axis=(1, 2), keepdims=True)
    return np.abs(introspection.integrated_gradients(model, images, class_index, plain, steps=samples)).max(axis=-1)


def occluded(model, images):
    """The loss of probability when a pixel is hidden: (N, H, W)."""
    found = introspection.occlusion(model, images, size=side // 4, stride=side // 8)
    loss = np.maximum(found.plain[:, None, None] - found.per_pixel(), 0)
    # the same all over a block of one stride: smoothed, it is highest in the middle of a block, not at its corner
    return ndimage.gaussian_filter(loss, (0, side / 16, side / 16))


noise = 0.05 if source == "shapes" else 0.15
methods = {  # name: a function of model, images and classes
    "saliency": introspection.saliency,
    "SmoothGrad": lambda model, x, c=None: introspection.smooth_grad(model, x, c, samples, noise, batch_size=8),
    "guided": introspection.guided_backpropagation,
    "integrated": integrated,
    "Grad-CAM": lambda model, x, c=None: introspection.grad_cam(model, x, c, cam_layer),
}

# %%
found = {name: method(net, images[chosen]) for name, method in methods.items()}
plots.show_maps(images[chosen], found, titles=[classes[winner] for winner in winners[chosen]], overlay=["Grad-CAM"])

# %% [markdown]
# Does SmoothGrad's noise help? That can be measured, since we know where the object is. The next section says how
# much there is to such a measure; here it compares one method with itself. Share of the map on the object, by the
# amount of noise:

# %%
sizes = [0.0, 0.05, 0.1, 0.2]
shares = {}
for size in sizes:
    maps = introspection.smooth_grad(net, images[:30], samples=samples if size else 1, noise=size, batch_size=8)
    shares[f"noise {size:g}"] = (maps * masks[:30]).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
plots.bars({name: values.mean() for name, values in shares.items()}, xlabel="share of the map on the object")

# %% [markdown]
# On our drawn images a little noise changes next to nothing, and more does harm: they carry noise of their own
# already, and small shapes drown in it. On photographs (profile `real`) it helps. A method's default is made for
# somebody's data.
#
# Guided back-propagation is cleaner than saliency: less lies outside the object. Integrated gradients are confined to
# it. Which map is *right*? A map that looks like the object looks convincing; that is not evidence. We have two
# measurements.
#
# ## Does the map lie on the object?
#
# - **Energy**: what share of the map's sum lies on the object's mask? A map that is the same everywhere gives the
#   object's share of the area.
# - **Pointing game** (Zhang et al. 2018): does the highest point of the map lie on the object (or within two pixels
#   of it)?
#
# And three maps that know nothing of the network, to compare with: a Gaussian about the image's centre (photographers
# centre), the edges of the image, and its contrast, the distance of each pixel from the mean colour.


# %%
def energy(maps, masks):
    """The share of each map's sum that lies on its mask: (N,). An empty map has none there."""
    return (maps * masks).sum(axis=(1, 2)) / np.maximum(maps.sum(axis=(1, 2)), 1e-12)


def hits(maps, masks, slack=2):
    """Whether each map is highest on its mask, or at most `slack` pixels from it: (N,) bool."""
    grown = np.stack([ndimage.binary_dilation(mask, iterations=slack) for mask in masks])
    return grown.reshape(len(maps), -1)[np.arange(len(maps)), maps.reshape(len(maps), -1).argmax(axis=1)]


def edges(images):
    """The image's own edges: length of the Sobel gradient of its brightness, (N, H, W)."""
    grey = images.astype("float32").mean(axis=-1)
    return np.hypot(ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=2))


def contrast(images):
    """The largest distance of a pixel's three values from the image's mean colour, (N, H, W)."""
    pixels = images.astype("float32")
    return np.abs(pixels - pixels.mean(axis=(1, 2), keepdims=True)).max(axis=-1)


# %%
rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
centre = np.exp(-(rows**2 + columns**2) / (2 * (side / 4) ** 2))
found = {name: method(net, images) for name, method in methods.items()}
found["occlusion"] = occluded(net, images)
found |= {"[centre]": np.repeat(centre[None], len(images), 0), "[edges]": edges(images), "[contrast]": contrast(images)}
on_object = {name: energy(maps, masks) for name, maps in found.items()}
pointed = {name: hits(maps, masks).mean() for name, maps in found.items()}

# %%
area = masks.mean()
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, width_ratios=(1.3, 1))
axes[0].boxplot(list(on_object.values())[::-1], orientation="horizontal", showfliers=False, whis=(5, 95))
axes[0].set_yticks(range(1, len(found) + 1), list(found)[::-1])
axes[0].axvline(area, color=plots.GREY, ls="--")
axes[0].set(xlabel="share of the energy on the object", title="each box: the images' quartiles", xlim=(0, 1))
axes[1].barh(range(1, len(found) + 1), list(pointed.values())[::-1], color=plots.BLUE, height=0.6)
axes[1].set(xlabel="share of images", title="highest point on the object", xlim=(0, 1))
axes[0].annotate("area", (area, 0.55), xytext=(3, 0), textcoords="offset points", color=plots.GREY, fontsize=9)

# %%
record(
    area=area,
    energy_saliency=on_object["saliency"].mean(),
    energy_guided=on_object["guided"].mean(),
    energy_cam=on_object["Grad-CAM"].mean(),
    energy_edges=on_object["[edges]"].mean(),
    pointing_saliency=pointed["saliency"],
    pointing_cam=pointed["Grad-CAM"],
    pointing_edges=pointed["[edges]"],
)

# %% [markdown]
# On the shapes, every map of the network lies on the object far more than its area would give, with a wide spread
# over images. But look at the names in brackets. The image's *edges* do nearly as well as saliency, and its
# *contrast* points to the object as often as integrated gradients, which multiply by it. On images with one object,
# "lies on the object" is a low bar: a map that never saw the network passes it. A better question has two answers in
# one image.
#
# ### Whose object?
#
# In the pairs each object's class can be asked for. Does the map of a class lie on *its* object or on the other? A
# map that does not know scores one object's area (with the two pixels around it), the dashed line.

# %%
sides = {}
pair_methods = {**methods, "Grad-CAM": lambda model, x, c: introspection.grad_cam(model, x, c, "relu4")}
for name in ("saliency", "guided", "Grad-CAM"):
    own, other = [], []
    for position in (0, 1):
        maps = pair_methods[name](sound, pair_images, pair_labels[:, position])
        own.append(hits(maps, pair_masks[:, position]))
        other.append(hits(maps, pair_masks[:, 1 - position]))
    sides[name] = np.mean(own), np.mean(other)

# %%
figure, ax = plt.subplots(figsize=(8, 2.6))
for shift, (part, label) in enumerate([(0, "on the object of the class asked for"), (1, "on the other object")]):
    positions = np.arange(len(sides)) + 0.36 * shift
    ax.barh(positions, [pair[part] for pair in sides.values()], height=0.34, color=plots.PALETTE[shift], label=label)
ignorance = np.mean([ndimage.binary_dilation(mask, iterations=2).mean() for pair in pair_masks for mask in pair])
ax.axvline(ignorance, color=plots.GREY, ls="--", label="area of one object")
ax.set_yticks(np.arange(len(sides)) + 0.18, list(sides))
ax.invert_yaxis()
ax.set(xlabel="share of maps whose highest point lies there", xlim=(0, 1.5), xticks=np.linspace(0, 1, 6))
ax.legend(loc="center right")

# %%
record(
    saliency_own=sides["saliency"][0],
    saliency_other=sides["saliency"][1],
    guided_own=sides["guided"][0],
    guided_other=sides["guided"][1],
    cam_own=sides["Grad-CAM"][0],
    cam_other=sides["Grad-CAM"][1],
)

# %% [markdown]
# Saliency does not know which class was asked for: its highest point lies on either object about equally often. That
# is no error: a pixel of the other object lowers the class's score, and a slope is a slope. Grad-CAM, which keeps
# what speaks *for* the class, goes to its own object several times as often as to the other. Guided back-propagation
# too has its highest point mostly on its own object, though it draws both.

# %%
three = np.flatnonzero(named)[:3]
maps = {
    f"{name}, {order}": pair_methods[name](sound, pair_images[three], pair_labels[three, position])
    for name in ("guided", "Grad-CAM")
    for position, order in enumerate(("first", "second"))
}
titles = [" / ".join(shapes.CLASSES[label] for label in pair) for pair in pair_labels[three]]
plots.show_maps(pair_images[three], maps, titles, overlay=[name for name in maps if name.startswith("Grad")])

# %% [markdown]
# ## A sanity check
#
# A map that explains the network must change when the network forgets what it learnt. Adebayo et al. (2018) give the
# layers random weights, one after another from the output downwards, and compare the maps with the original by rank
# correlation: 1 is the same order of pixels, 0 an unrelated one. We shuffle each kernel's values instead, so that
# their mean and spread stay; batch normalisation is left as it is. Prediction: with all layers random, the
# correlation should be near 0.


# %%
def forgetting(model, images, methods, counts):
    """Mean rank correlation of maps with those of the trained model, once the last `count` kernels are shuffled: name -> list."""
    asked = probabilities(model, images).argmax(axis=1)
    before = {name: method(model, images, asked) for name, method in methods.items()}
    kept = {name: [] for name in methods}
    for count in counts:
        forgetful = introspection.randomise(model, count, seed)
        for name, method in methods.items():
            alike = introspection.rank_correlation(before[name], method(forgetful, images, asked))
            kept[name].append(float(np.nan_to_num(alike).mean()))  # a map that is 0 everywhere resembles nothing
    return kept


counts = [0, 1, 2, 3, 4, 5] if source == "shapes" else [0, 1, 10, 30, None]
checked = {name: methods[name] for name in ("saliency", "guided", "Grad-CAM")}
kept = forgetting(net, images[:40], checked, counts)

# %%
outline = float(np.nanmean(introspection.rank_correlation(methods["guided"](net, images[:40]), edges(images[:40]))))
ax = plots.curves(
    kept,
    x=range(len(counts)),
    xlabel="layers shuffled, from the output down",
    ylabel="rank correlation\nwith the trained net's map",
    baselines={"guided against the image's edges": outline, "unrelated": 0},
)
ax.set_xticks(range(len(counts)), ["all" if count is None else str(count) for count in counts])
ax.set_title("How much of a map is left when the network forgets")

# %%
record(
    kept_saliency=kept["saliency"][-1],
    kept_guided=kept["guided"][-1],
    kept_cam=kept["Grad-CAM"][-1],
    kept_guided_one=kept["guided"][1],
    kept_guided_two=kept["guided"][2],
    kept_cam_one=kept["Grad-CAM"][1],
    kept_cam_two=kept["Grad-CAM"][2],
)

# %% [markdown]
# With the dense layer alone shuffled, guided back-propagation keeps most of its order: *where* it draws depends
# little on the class, although its highest point, as we saw, does. (In MobileNetV2, with the last ten layers
# shuffled, it keeps about nine tenths.) Grad-CAM loses more: with three seeds −.11, .55 and .15 was left,
# by the luck of the shuffled weights, and .2 to .4 with one layer more. When
# *everything* is random, saliency and guided back-propagation do not quite reach 0: what is left is what the image
# alone gives: borders, edges, contrast.
#
# ## What does a channel look for?
#
# Turn the question round. Do not ask which pixels of an image matter, but which image a channel likes best: start
# from noise and climb along the gradient of its mean activation (Erhan et al. 2009). Plain ascent finds noise that
# happens to excite the channel. What helps (Yosinski et al. 2015, Mordvintsev et al. 2015): small shifts at each
# step, a pull towards grey, a little blur.

# %%
wanted = list(range(6)) if source == "shapes" else winners[[0, 2, 3, 4]].tolist()
plain = [introspection.maximise(net, c, steps=climb, jitter=0, decay=0, blur=0, seed=seed).images[0] for c in wanted]
ascents = [introspection.maximise(net, c, steps=climb, seed=seed) for c in wanted]
climbed = np.stack(plain + [ascent.images[0] for ascent in ascents])
plots.show_images(
    climbed, titles=[classes[c] for c in wanted] * 2, columns=len(wanted), title="Plain; with shifts, decay and blur"
)

# %% [markdown]
# The net's idea of a class is no picture of one: waves, bands, dots of some size and direction. The average over the
# last maps asks *how much* of a pattern there is, not where, so the ascent repeats it all over the image. And the
# logit goes far beyond what any image gives:

# %%
on_images = introspection.activations(net, images, net.layers[-1].name) if source == "shapes" else None
heights = {f"ascent: {classes[c]}": ascent.scores[-1, 0] for c, ascent in zip(wanted, ascents)}
start_level = {f"start: {classes[c]}": ascent.scores[0, 0] for c, ascent in zip(wanted[:1], ascents)}
highest = {"highest of any test image": on_images.max()} if source == "shapes" else {}
levels = {**start_level, **highest, **heights}
figure, ax = plt.subplots(figsize=(8, 0.6 + 0.36 * len(levels)))
ax.barh(list(levels), list(levels.values()), color=plots.BLUE, height=0.65)
for row, value in enumerate(levels.values()):
    ax.text(max(value, 0), row, f"  {value:.3g}", va="center", fontsize=10)
ax.invert_yaxis()
ax.set(xlabel="logit")
ax.margins(x=0.1)

# %% [markdown]
# The same for channels inside: the four of the patches above, from each ascent a piece as large as a patch. What they
# look for should fit the patches that excite them.

# %%
inner = [introspection.maximise(net, c, patch_layer, steps=climb, seed=seed).images[0] for c in channels]
best = [patch.patches[0] for patch in patches]
size = best[0].shape[0]
middle = slice((side - size) // 2, (side + size) // 2)
titles = [f"channel {channel}" for channel in channels] + ["best patch"] * 4
plots.show_images([image[middle, middle].astype("uint8") for image in inner] + best, titles=titles, columns=4, tile=1.4)

# %% [markdown]
# Direction and width of the stripes fit the edges in some patches; the objects themselves do not appear.
#
# ## Fooling
#
# Ascent started from noise; start it from an image, and stop as soon as the class changes (Szegedy et al. 2014). Each
# step changes every value by the same small amount, up or down as the sign of the gradient says: with one step, on
# the loss, that is the *fast gradient sign* of Goodfellow, Shlens and Szegedy (2015); in several steps: Kurakin,
# Goodfellow and Bengio (2017). Here the logit of the runner-up less that of the winner climbs. Of 255 grey levels,
# how many does it take?

# %%
fooled = introspection.fool(net, images[example], step=0.5, steps=40)
plots.show_fooling(images[example], fooled.image, fooled.path, classes)

# %% [markdown]
# The two images look the same. The change, drawn much stronger, is no picture of the new class either, but stripes
# and spots like those of the ascent. Is the direction special? One step of size ε along the sign of the gradient, for
# all images, beside a step of the *same size* with random signs:


# %%
def stepped(model, images, labels, size, random=False):
    """Images after one step of `size` grey levels against the class, or with random signs."""
    pixels = images.astype("float32")
    if random:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], pixels.shape)
    else:
        signs = -np.sign(introspection.saliency(model, pixels, labels, reduce=None))
    return np.clip(pixels + size * signs, 0, 255).astype("float32")


sizes = [0, 0.5, 1, 2, 4, 8, 16]
survived = {
    name: [(probabilities(net, stepped(net, images, winners, size, name == "random signs")).argmax(axis=1) == winners).mean() for size in sizes]
    for name in ("gradient signs", "random signs")
}  # fmt: skip
plots.curves(survived, x=sizes, xlabel="size of the step, grey levels of 255", ylabel="share that keeps its class")

# %%
at_four = sizes.index(4)
record(kept_after_gradient=survived["gradient signs"][at_four], kept_after_noise=survived["random signs"][at_four])

# %% [markdown]
# A step of four levels, 1.6 % of the range, turns most images; the same step with random signs turns next to none. In
# thousands of dimensions almost every direction is harmless, and the gradient finds the one that is not: thousands of
# values each add a little to one score.
#
# ## Why a network errs
#
# Now the two networks of the beginning. (From here on shapes, in every profile: only there do we know the truth.)
# Suppose the photographs of each class were taken in one studio: each class comes on a ground of its own colour.
# Validation images come from the same studios.

# %%
biased_images, biased_labels, _ = draw(drawn, "train", "biased")
studio_images, studio_labels, studio_masks = draw(drawn // 10, "validation", "biased")
wild_images, wild_labels, wild_masks = draw(drawn // 5, "test", "biased")  # the same six grounds, at random
both = np.concatenate([biased_images[:12], wild_images[:12]])
named_both = [shapes.CLASSES[label] for label in np.concatenate([biased_labels[:12], wild_labels[:12]])]
plots.show_images(
    both, titles=named_both, columns=12, tile=0.66, title="Studio: the ground tells the class; test: it does not"
)

# %%
biased, _ = trained(biased_images, biased_labels, biased_steps)
scores = {
    "biased, validation in the studio": accuracy(biased, studio_images, studio_labels),
    "sound, validation in the studio": accuracy(sound, studio_images, studio_labels),
}
plots.bars(scores, baselines={"one class for all": 1 / 6})

# %% [markdown]
# By validation we would take the first. Before we ask about the test images, look at the maps of both on the *same
# validation images*.

# %%
four = studio_images[:4]
pictures = {
    f"{name}: {method}": methods_of(model, four)
    for name, model in (("sound", sound), ("biased", biased))
    for method, methods_of in (
        ("guided", introspection.guided_backpropagation),
        ("Grad-CAM", lambda model, x: introspection.grad_cam(model, x, layer="relu4")),
    )
}
plots.show_maps(four, pictures, titles=[shapes.CLASSES[label] for label in studio_labels[:4]],
                overlay=[name for name in pictures if name.endswith("CAM")])  # fmt: skip

# %% [markdown]
# The maps of the sound network lie on the shapes; those of the other lie on the ground, and keep off the shape as if
# it were in the way. In numbers, over the validation images, with the share of the area as the level of a map that
# does not care:

# %%
cam = {
    name: energy(introspection.grad_cam(model, studio_images, layer="relu4"), studio_masks)
    for name, model in (("sound", sound), ("biased", biased))
}
figure, ax = plt.subplots(figsize=(8, 1.9))
ax.boxplot([cam["biased"], cam["sound"]], orientation="horizontal", showfliers=False, whis=(5, 95), widths=0.6)
ax.set_yticks([1, 2], ["biased", "sound"])
ax.axvline(studio_masks.mean(), color=plots.GREY, ls="--", label="share of the area")
ax.set(xlabel="share of Grad-CAM's energy on the object, validation images")
ax.legend()

# %% [markdown]
# That is an accusation; an experiment proves it. Put the same shape on another ground, and see whether the answer
# follows the shape or the ground. We cut shapes out of validation images and lay them on the ground of the next
# image, which is of another class. Where that has its own object, we paint it over with pixels drawn from its ground;
# its outline may still show. So, as a control, we lay the shapes on the flat mean colour of the same grounds as well.


# %%
def emptied(images, masks):
    """The grounds of images: where the object was, pixels drawn at random from the rest."""
    grounds, random = images.copy(), np.random.default_rng(seed)
    for ground, mask in zip(grounds, masks):
        grown = ndimage.binary_dilation(mask, iterations=2)
        ground[grown] = random.choice(ground[~grown], grown.sum())
    return grounds


next_grounds = np.roll(emptied(studio_images, studio_masks), -1, axis=0)
flat = next_grounds.mean(axis=(1, 2), keepdims=True)
moved = {
    name: np.where(studio_masks[..., None], studio_images, grounds).astype("uint8")
    for name, grounds in (("ground", next_grounds), ("flat ground", flat))
}
shown = np.concatenate([studio_images[:8], *(images[:8] for images in moved.values())])
plots.show_images(shown, columns=8, tile=0.8, title="As it was; on the next image's ground; on its mean colour")

# %%
ground_labels, follows = np.roll(studio_labels, -1), {}
for name, model in (("biased", biased), ("sound", sound)):
    for place, pictures in moved.items():
        said = transfer.predict(model, pictures).argmax(axis=1)
        follows[f"{name}, {place}"] = (said == studio_labels).mean(), (said == ground_labels).mean()

# %%
figure, ax = plt.subplots(figsize=(8, 2.9))
for shift, (part, label) in enumerate([(0, "names the shape"), (1, "names the ground's class")]):
    ax.barh(np.arange(4) + 0.36 * shift, [pair[part] for pair in follows.values()], height=0.34,
            color=plots.PALETTE[shift], label=label)  # fmt: skip
ax.axvline(1 / 6, color=plots.GREY, ls="--", label="one class for all")
ax.set_yticks(np.arange(4) + 0.18, list(follows))
ax.invert_yaxis()
ax.set(xlabel="share of the transplanted images", xlim=(0, 1.5), xticks=np.linspace(0, 1, 6))
ax.legend(loc="lower right")

# %% [markdown]
# The biased network names the ground in nearly every image, whatever shape lies on it, and as often on a flat ground:
# it follows the colour. (The sound one names fewer shapes here than in test images, on flat grounds as well, so what
# is left of the other objects is not what misleads it. Some objects now lie on a ground much nearer to their own
# colour than the one they came from.)
#
# ### The repair
#
# The cause lies in the data, so the repair does: images in which the ground tells nothing. Must all of them be new?
# We replace every second one and train three times as long. (The `sound` network was trained on unbiased images
# alone, with as many steps.)

# %%
half = len(biased_images) // 2
mixed_images = np.concatenate([biased_images[half:], shape_images[:half]])
mixed_labels = np.concatenate([biased_labels[half:], shape_labels[:half]])
mixed, _ = trained(mixed_images, mixed_labels, steps)
wild = {
    "biased": accuracy(biased, wild_images, wild_labels),
    "half of them unbiased": accuracy(mixed, wild_images, wild_labels),
    "all unbiased": accuracy(sound, wild_images, wild_labels),
}
plots.bars(wild, xlabel="accuracy on test images", baselines={"one class for all": 1 / 6})

# %% [markdown]
# What has the one in the middle learnt? Look at the images that it was trained on, each half by itself, and at what
# it names in the transplanted ones.

# %%
said = transfer.predict(mixed, moved["ground"]).argmax(axis=1)
learnt = {
    "trained on, from the studio: right": accuracy(mixed, mixed_images[:600], mixed_labels[:600]),
    "trained on, unbiased: right": accuracy(mixed, mixed_images[-600:], mixed_labels[-600:]),
    "transplanted: names the ground's class": (said == ground_labels).mean(),
}
plots.bars(learnt, xlabel="share of the images", baselines={"one class for all": 1 / 6})

# %% [markdown]
# The biased network is at chance, as its maps had told us. And half is not half the way. Of unbiased images the
# network names far more than chance, so it has learnt something of shapes, though less than the sound one in as many
# steps (probably because an image that the shortcut explains hardly has a gradient any more). But on a ground that
# looks like a studio the shortcut (Geirhos et al. 2020) still wins, and there all the test images stand. In the lab
# you repair the network without a single new object: by moving objects to other grounds.

# %%
record(
    biased_validation=scores["biased, validation in the studio"],
    biased_test=wild["biased"],
    mixed_test=wild["half of them unbiased"],
    sound_test=wild["all unbiased"],
    cam_on_object_biased=cam["biased"].mean(),
    cam_on_object_sound=cam["sound"].mean(),
    follows_ground=follows["biased, ground"][1],
    follows_flat=follows["biased, flat ground"][1],
    sound_moved=follows["sound, ground"][0],
    mixed_studio=learnt["trained on, from the studio: right"],
    mixed_unbiased=learnt["trained on, unbiased: right"],
    mixed_follows_ground=learnt["transplanted: names the ground's class"],
)

# %% [markdown]
# ### Too few images, no regularisation
#
# The other common cause. We train on few unbiased images and see each of them fifty times. Do maps reveal this too?
# They should be less on the object, where the network has learnt the single images rather than the shapes.
#
# Two networks to compare with, after as many steps. One sees the same few images, regularised: a shape turned,
# mirrored or in other colours (red, green and blue swapped) is still the same shape, so each image gives 8 · 6 = 48,
# and none comes twice or hardly. The other sees all images.


# %%
def varied(images):
    """The images in 4 turns, each plain and mirrored, each in 6 orders of the colour channels: (48 N, H, W, 3)."""
    turned = [np.rot90(view, turns, (1, 2)) for view in (images, images[:, :, ::-1]) for turns in range(4)]
    return np.concatenate([found[..., list(order)] for order in itertools.permutations(range(3)) for found in turned])


few_images, few_labels = shape_images[:few], shape_labels[:few]
plots.show_images(varied(few_images[1:2])[:16], columns=8, tile=0.8, title="One image, varied: 16 of 48")

# %%
memorised, _ = trained(few_images, few_labels, biased_steps)
regularised, _ = trained(varied(few_images), np.tile(few_labels, 48), biased_steps)
short, _ = trained(shape_images, shape_labels, biased_steps)

# %%
rows = {}
for name, model in {
    f"{few} images, no regularisation": memorised,
    f"{few} images, varied": regularised,
    f"{drawn:,} images, as many steps": short,
    f"{drawn:,} images, {steps} steps (sound)": sound,
}.items():
    shares = energy(introspection.grad_cam(model, test_images, layer="relu4"), test_masks)
    named_right = accuracy(model, few_images, few_labels), accuracy(model, test_images, test_labels)
    rows[name] = [*named_right, shares.mean(), shares.std()]
columns = [f"accuracy, first {few}", "accuracy, test", "Grad-CAM on object", "its deviation"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns).style.format("{:.2f}")

# %%
four = test_images[:4]
pictures = {
    f"{name}: {method}": methods_of(model, four)
    for name, model in (("sound", sound), ("few", memorised))
    for method, methods_of in (
        ("guided", introspection.guided_backpropagation),
        ("Grad-CAM", lambda model, x: introspection.grad_cam(model, x, layer="relu4")),
    )
}
plots.show_maps(four, pictures, titles=[shapes.CLASSES[label] for label in test_labels[:4]],
                overlay=[name for name in pictures if name.endswith("CAM")])  # fmt: skip

# %% [markdown]
# Without regularisation, far more of the images that it has seen are right than of new ones. Varied images close most
# of that gap; with new images they helped by .06, .12 and .01 in three seeds; among all images there is none to
# close. Do the maps tell? A smaller share of them lies on the objects than with the sound network, but with all
# images and as many steps the share is hardly larger: that is the short training more than the few images. And the
# differences are small beside the spread over images. Accuracy says it louder. Maps are needed where the test images
# share the fault of the training images.

# %%
unregularised, with_varied, with_all, _ = rows.values()
record(
    few_train=unregularised[0],
    few_test=unregularised[1],
    cam_on_object_few=unregularised[2],
    varied_train=with_varied[0],
    varied_test=with_varied[1],
    short_train=with_all[0],
    short_test=with_all[1],
)

# %% [markdown]
# ## Summary
#
# You can now
#
# - read a first layer's filters, find what a channel answers to by its top-9 patches, and go back to the pixels with
#   the deconvnet: switches, rectify, transpose;
# - hide parts of an image and record the probability *and* the new winner;
# - take the gradient of the logit, and say why not that of the softmax;
# - distrust a map that looks good: measure it on the object beside the image's own edges, ask for the other class,
#   randomise the weights;
# - change a class with a step that random noise of the same size does not match;
# - catch a network that is right for a wrong reason before the test images do, prove it by an experiment, and repair
#   the data.
#
# ## Exercises
#
# 1. (easy) Repeat the occlusion figure with squares of 8 and of 24 pixels. What does a small square miss, and what a
#    large one? *Hint: `size` in `introspection.occlusion`.*
# 2. (easy) Hide with black and with white instead of the mean colour. Which classes win now where no object is
#    hidden? *Hint: `value=0`.*
# 3. (medium) Take Grad-CAM in an earlier layer. How do energy and pointing change, and why? *Hint: `layer="relu3"`.*
# 4. (medium) What share of unbiased images does the repair need, and does training longer help? Draw test accuracy
#    against their share, for two numbers of steps. *Hint: the cell that makes `mixed_images`.*
# 5. (hard) Fool the network with a target: make every image a "star". Which classes take the largest steps, and do
#    the steps for different images resemble each other? *Hint: `introspection.fool(..., target=3)`; it refuses images
#    that are named "star" already: leave those out.*
# 6. (hard) Train on images to which a gradient step of 2 levels was added (adversarial training), and draw the curve
#    of the steps again. What does it cost on clean images, and what do the saliency maps look like now? *Hint:
#    `stepped` inside the function that gives an epoch's images.*
#
# ## Further reading
#
# - D. H. Hubel and T. N. Wiesel, *Receptive fields, binocular interaction and functional architecture in the cat's
#   visual cortex*, Journal of Physiology 160, 1962.
# - D. Erhan, Y. Bengio, A. Courville and P. Vincent, *Visualizing higher-layer features of a deep network*,
#   University of Montreal, 2009.
# - M. D. Zeiler and R. Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014.
# - K. Simonyan, A. Vedaldi and A. Zisserman, *Deep inside convolutional networks: visualising image classification
#   models and saliency maps*, ICLR workshops 2014.
# - C. Szegedy et al., *Intriguing properties of neural networks*, ICLR 2014.
# - J. T. Springenberg, A. Dosovitskiy, T. Brox and M. Riedmiller, *Striving for simplicity: the all convolutional
#   net*, ICLR workshops 2015.
# - I. Goodfellow, J. Shlens and C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015.
# - J. Yosinski, J. Clune, A. Nguyen, T. Fuchs and H. Lipson, *Understanding neural networks through deep
#   visualization*, ICML workshops 2015.
# - A. Mordvintsev, C. Olah and M. Tyka, *Inceptionism: going deeper into neural networks*, Google Research blog,
#   2015.
# - A. Kurakin, I. Goodfellow and S. Bengio, *Adversarial examples in the physical world*, ICLR workshops 2017.
# - M. Sundararajan, A. Taly and Q. Yan, *Axiomatic attribution for deep networks*, ICML 2017.
# - R. R. Selvaraju et al., *Grad-CAM: visual explanations from deep networks via gradient-based localization*, ICCV
#   2017.
# - D. Smilkov et al., *SmoothGrad: removing noise by adding noise*, arXiv 1706.03825, 2017.
# - J. Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018.
# - J. Zhang et al., *Top-down neural attention by excitation backprop*, International Journal of Computer Vision 126,
#   2018.
# - R. Geirhos et al., *Shortcut learning in deep neural networks*, Nature Machine Intelligence 2, 2020.
