# %% [markdown]
# # 05 What convnets see
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/05_what_convnets_see.ipynb)
#
# **Topic 04 asked how often a network is right, and at what price. It left open why it is right.** Here two networks
# name shapes. The first is right on almost every validation image, the second errs now and then. Which one do you take?
# The first one has never looked at a shape: it looks at the ground behind it. Its score does not show this, and more
# images of the same kind do not show it either. In this notebook we look where networks look, and we measure how far
# such pictures can be trusted.
#
# You will be able to
#
# - look into a trained network: its filters, its activations, the patches that excite a channel, and the way back from
#   a unit to the pixels (deconvnet);
# - follow from layer to layer how edges become parts and parts become objects;
# - find the pixels that a decision depends on: occlusion, saliency, guided back-propagation, SmoothGrad, CAM, Grad-CAM;
# - measure whether such a map lies on the object, and whether it shows the network at all;
# - draw what a channel answers to by gradient ascent, and fool a network with noise and with a small step;
# - find out why a network errs, and repair its data.
#
# It takes about an hour and a half to read and less than five minutes to run.

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
source: str = "shapes"  # {shapes, imagenet} a net trained here, or MobileNetV2
drawn: int = 3000  # [60, 20000] images to train on; a tenth or a fifth as many to test
steps: int = 930  # [6, 10000] training steps of the network that is looked into
biased_steps: int = 300  # [6, 5000] training steps of the networks that go wrong
few: int = 192  # [32, 2000] images of the network that is trained on too few
measured: int = 120  # [6, 1000] images on which maps of the network are measured
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
# To judge a map we must know the truth. So we draw our images: 64 × 64 pixels, one shape of six classes, at any place,
# of any size and colour, on a ground of any colour. For each image we also know the mask, the pixels of the shape.
#
# These images are synthesised: what holds for them need not hold for photographs. With `source = "imagenet"` (profile
# `real`), most of the notebook up to *Why a network errs* looks into MobileNetV2, which was trained on the photographs
# of ImageNet. The truth is then a box that we drew by hand around each object.


# %%
def draw(count, split, ground):
    """Images of one shape (N, 64, 64, 3) uint8, classes (N,), masks (N, 64, 64)."""
    options = {"config": "biased", "image_size": 64, "ground": ground}
    scenes = shapes.scenes(count, split, seed, **options)
    images = np.stack([scene.image for scene in scenes])
    labels = np.array([scene.labels[0] for scene in scenes])
    return images, labels, np.stack([scene.masks[0] for scene in scenes]) > 0


shape_images, shape_labels, _ = draw(drawn, "train", "random")
held_images, held_labels, held_masks = draw(max(drawn // 50, 6), "validation", "random")
tested = max(drawn // 10, measured)
test_images, test_labels, test_masks = draw(tested, "test", "random")
twenty = shape_images[:20], shape_labels[:20]
plots.show_images(*twenty, classes=shapes.CLASSES, columns=10, tile=0.9)

# %% [markdown]
# The network has four convolutions, each with batch normalisation and ReLU. A max pool follows the second and the third
# of them. The average of each of the last 96 maps goes into one dense layer. The first kernels have 7 × 7 pixels and
# start small (a standard deviation of .01, as AlexNet's did). So what we shall see in them was learned and is not left
# over from the random start.


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
        x = layers.ReLU(name=f"relu{number}")(x)  # 32 x 32, 32 x 32, 16 x 16, 8 x 8
        if number in (2, 3):
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)  # (batch, 96)
    return keras.Model(inputs, layers.Dense(len(shapes.CLASSES), name="logits")(x))


# %%
def trained(images, labels, steps, epochs=6):
    """A network after `steps` steps of 32 images, and the history of the training."""
    model, random = network(), np.random.default_rng(seed)
    rate = training.WarmupHoldDecay(3e-3, steps, warmup=max(1, steps // 10))
    adamw = keras.optimizers.AdamW(rate, weight_decay=1e-3)
    training.compile_classifier(model, adamw)
    passes = -(-steps * 32 // len(images))
    order = np.concatenate([random.permutation(len(images)) for _ in range(passes)])
    portions = np.array_split(order[: steps // epochs * epochs * 32], epochs)

    def portion(epoch):
        return images[portions[epoch]], labels[portions[epoch]]

    history = training.fit(model, portion, epochs, batch_size=32, seed=seed)
    return model, history.history


def accuracy(model, images, labels):
    return float((transfer.predict(model, images).argmax(axis=1) == labels).mean())


# %% [markdown]
# It trains in about a minute. A network that always names one class is right on one image in six.

# %%
sound, watched = trained(shape_images, shape_labels, steps)
reached = accuracy(sound, test_images, test_labels)
plots.curves(
    {"in training": watched["accuracy"]},
    xlabel="sixth of the run",
    ylabel="accuracy",
    baselines={"one class for all": 1 / 6, "on test images, at the end": reached},
)

# %%
record(accuracy=reached)

# %% [markdown]
# Now the images that we ask about. With shapes these are test images and their masks; with photographs, eight images
# and their boxes.

# %%
BOXES = {  # by hand, in pixels of 224 x 224: (left, top, right, bottom)
    "chelsea": [(11, 0, 188, 224)],
    "cat": [(22, 24, 157, 224)],
    "bird": [(18, 51, 213, 202)],
    "parrot": [(43, 26, 209, 218)],
    "coffee": [(28, 10, 182, 213)],
    "rocket": [(105, 68, 127, 223)],
    "two_dogs": [(46, 4, 116, 154), (153, 86, 221, 190)],
    "traffic": [(46, 131, 107, 172), (188, 125, 224, 165), (208, 162, 224, 191)],
}


def photographs():
    """Photographs (N, 224, 224, 3), those with boxes first; masks (8, 224, 224)."""
    pictures = {}
    for name, split in (("skimage_photos", "all"), ("photos", "test")):
        found, labels = data.arrays(name, split, 224, 3)
        names = data.describe(name).classes
        pictures |= {names[label]: image for image, label in zip(found, labels)}
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
    shown_layers = ["relu1", "relu2", "relu3", "relu4"]
    patch_layer, cam_layer = "relu3", "relu4"
else:
    net = pretrained.imagenet("MobileNetV2", include_top=True)
    decode = keras.applications.imagenet_utils.decode_predictions
    classes = [name.replace("_", " ") for [(_, name, _)] in decode(np.eye(1000), top=1)]
    pool, masks = photographs()
    images = pool[: len(masks)]
    pool = np.concatenate([pool, data.arrays("clothing", "validation", 224, 3)[0]])
    blocks = ["block_2_expand_relu", "block_6_expand_relu"]
    shown_layers = ["Conv1_relu", *blocks, "out_relu"]
    patch_layer, cam_layer = "block_6_expand_relu", "out_relu"
side = images.shape[1]

# %% [markdown]
# What does the network say? Above each image stand its winner, the class with the highest probability, and this
# probability. (The photographs are Chelsea, scikit-image's cat, and a cat, a bird, a parrot, a coffee, a rocket, two
# dogs and a road.)


# %%
def probabilities(model, images):
    """(N, classes): of a model that gives logits, or probabilities already."""
    found = transfer.predict(model, images, min(64, len(images)))
    already = np.allclose(found.sum(axis=1), 1, atol=1e-3)
    return found if already else ops.convert_to_numpy(ops.softmax(found))


answers = probabilities(net, images)
winners, sureness = answers.argmax(axis=1), answers.max(axis=1)
example = 0  # our first example: with shapes, an image that is right and sure
if source == "shapes":
    right = winners == test_labels[:measured]
    example = int(np.argmax(right & (sureness > 0.9)))
titles = [f"{classes[k]}\n{p:.2f}" for k, p in zip(winners[:8], sureness)]
plots.show_images(images[:8], titles=titles, columns=8)

# %% [markdown]
# ## Looking at weights: the filters of the first layer
#
# The first layer reads pixels, so its kernels can be drawn as small images. Grey is 0. Kernels that are trained on
# photographs become oriented edges and spots of colour, in AlexNet and in MobileNetV2. (Hubel and Wiesel found cells
# for oriented edges in the cat in 1962.) What will our network need? Its objects stand on coloured clouds, so we expect
# edges at every angle and in every colour.

# %%
first = net.get_layer("conv1" if source == "shapes" else "Conv1")
kernels = first.get_weights()[0][..., :32]  # (height, width, 3, filters)
columns = 8 if source == "shapes" else 16
plots.show_filters(kernels, columns=columns, title="The kernels of the first layer")

# %% [markdown]
# Above the first layer this no longer works. A kernel of the second layer reads 16 channels or more instead of three
# colours, and its picture says little. From here on we look at what a unit *answers to*.
#
# ## Activations, layer by layer
#
# One image goes through the network. Each row of the next figure is a layer, with the eight channels that answer most.
# We predict that the maps get smaller after each pool, and that about half of their values or more are 0, because of
# the ReLU.

# %%
found = introspection.activations(net, images[example : example + 1], shown_layers)
rows = []
for name, maps in found.items():
    _, height, width, channels = maps.shape
    places, zeros = f"{height} x {width}", (maps == 0).mean()
    rows.append({"layer": name, "maps": channels, "places": places, "zeros": zeros})
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
# Early maps are pictures of edges. Late maps are coarse: large spots on the object. A late channel says *that* it has
# found something, and roughly where. It does not say what it looks like.
#
# ## Top-9 patches
#
# To what does a channel answer? Zeiler and Fergus (2014) run many images through the network. For each channel they
# keep the nine images that excite it most, and cut out of each the patch of pixels that the strongest unit can see: its
# receptive field (topic 01). How large will our patches be? The first layer has stride 2 and sees 7 pixels. The second
# sees 7 + 2 · 2 = 11. The pool adds 2 pixels, and behind it the places lie 4 pixels apart, so the third layer sees 13 +
# 2 · 4 = 21.

# %%
one = introspection.activations(net, images[example : example + 1], patch_layer)[0]
inside = one[2:-2, 2:-2].max(axis=(0, 1))  # away from the border
channels = np.argsort(-inside)[:4].tolist()
patches = introspection.top_patches(net, pool, patch_layer, channels)
height, width = patches[0].patches.shape[1:3]
print(f"{patch_layer} sees {height} x {width} pixels of {side} x {side}")

# %%
titles = [f"channel {channel}" for channel in channels]
plots.show_patches([patch.patches for patch in patches], titles=titles, groups=4)

# %% [markdown]
# These are the four channels of `patch_layer` that answer most to our example. In some channels the nine patches
# plainly resemble each other, though they come from nine images: an edge of one orientation, a corner, the rim of
# something round. In others you have to search. The patches of a channel may differ in colour and filling if the
# channel does not depend on them. (Black lies outside the image.)
#
# ### From edges to objects
#
# Zeiler and Fergus looked at such patches in five layers of their network. Layer 2 answers to corners and to edges that
# meet, layer 3 to textures, layer 4 to parts of objects such as the face of a dog, layer 5 to whole objects in any pose
# [paper]. Here are two channels from each of four layers. What do the nine patches share, from left to right?

# %%
grids, titles = [], []
for place in (0, 1):
    for number, name in enumerate(shown_layers, 1):
        answer = introspection.activations(net, images[example : example + 1], name)[0]
        strongest = int(np.argsort(-answer.max(axis=(0, 1)))[place])
        grids.append(introspection.top_patches(net, pool, name, strongest).patches)
        titles.append(f"layer {number}, channel {strongest}")
plots.show_patches(grids, titles=titles, groups=4, title="Two channels of each layer")

# %% [markdown]
# From left to right a patch shows more of the object: an edge, then a corner or a rim, then the whole shape. But a
# larger patch *must* show more. Does the channel also *select* more? For drawn shapes we can measure it, since we know
# the class of the image that each patch comes from. If a channel stands for a class, its nine patches come from images
# of that class. If it stands for an edge, they come from any class.
#
# So for each channel of our network we count the largest share of one class among its nine patches, and take the mean
# over the channels of a layer. The fifth layer are the logits. There are two baselines: nine images drawn at random,
# and the same network with shuffled kernels, which has the same receptive fields and has learned nothing.


# %%
def selectivity(model, layer):
    """The largest share of one class among nine patches, the mean over the channels."""
    count = model.get_layer(layer).output.shape[-1]
    shares = []
    channels = list(range(count))
    for patch in introspection.top_patches(model, test_images, layer, channels):
        if patch.values[0] > 0:  # a channel that answers to some image
            found = np.bincount(test_labels[patch.indices])
            shares.append(found.max() / len(patch.indices))
    return float(np.mean(shares)) if shares else np.nan


five = ["relu1", "relu2", "relu3", "relu4", "logits"]
shuffled = introspection.randomise(sound, seed=seed)
random, by_chance = np.random.default_rng(seed), []
for _ in range(1000):
    nine = random.choice(test_labels, 9, replace=False)
    by_chance.append(np.bincount(nine).max() / 9)
select = {}
for name, model in (("trained", sound), ("kernels shuffled", shuffled)):
    select[name] = [selectivity(model, layer) for layer in five]

# %%
ax = plots.curves(
    select,
    x=range(1, 6),
    xlabel="layer",
    ylabel="largest share of one class\namong the nine patches",
    baselines={"nine images at random": np.mean(by_chance)},
)
ax.set_xticks(range(1, 6), [*map(str, range(1, 5)), "logits"])
ax.set_ylim(0, 1.05)

# %%
record(
    select_first=select["trained"][0],
    select_third=select["trained"][2],
    select_fourth=select["trained"][3],
    select_shuffled=select["kernels shuffled"][3],
)

# %% [markdown]
# In the trained network the share rises with every layer: its first layer hardly tells one class from another, its
# fourth layer mostly does. With shuffled kernels the share stays near that of random images in every convolution,
# although the patches are as large. So the hierarchy comes from training and not from the larger patches. Keep in mind
# that the early layers know edges and no classes: topic 06 makes use of it.
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
# The first step in numbers. Pooling keeps 9, 8, 7 and 6, and forgets where they were. The switches remember the places.
# (Here the maxima themselves come down again.)

# %%
rows = [[1, 9, 2, 3], [4, 5, 8, 1], [7, 1, 0, 2], [3, 2, 6, 4]]
above = np.array(rows, "float32")
pooled, switches = max_pool_with_indices(above[None, ..., None])
unpooled = ops.convert_to_numpy(max_unpool(pooled, switches, (4, 4)))[0, ..., 0]
parts = [above, "→", ops.convert_to_numpy(pooled)[0, ..., 0], "→", unpooled]
titles = {0: "maps", 2: "max pool 2 x 2", 4: "unpooled with switches"}
plots.number_equation(parts, titles=titles)

# %% [markdown]
# The last step in numbers. In a network of one convolution, one unit comes back as its activation times its own kernel,
# at the place where the unit looks. We confirm it.

# %% tags=["nbval-check-output"]
convolution = layers.Conv2D(1, 3, use_bias=False, name="conv")
single = keras.Sequential([keras.Input((9, 9, 1)), convolution])
noise = np.random.default_rng(0).normal(size=(1, 9, 9, 1)).astype("float32")
down = introspection.deconvnet(single, noise, "conv", 0, place=(2, 4))[0, ..., 0]
kernel = convolution.get_weights()[0][..., 0, 0]
unit = introspection.activations(single, noise, "conv")[0, 2, 4, 0]
there = np.allclose(down[2:5, 4:7], unit * kernel, atol=1e-6)
print("activation times kernel, at its place:", there)
print("zero everywhere else:", np.count_nonzero(down) == 9)

# %% [markdown]
# Now through the whole network below `patch_layer`, for two of its channels. On the right stand the patches, on the
# left what the deconvnet brings back for each.


# %%
def brought_back(patch):
    """The deconvnet's projections for the nine patches of a channel."""
    chosen = pool[patch.indices]
    return patch.crop(introspection.deconvnet(net, chosen, patch.layer, patch.channel))


projections = [brought_back(patch) for patch in patches[:2]]
titles = [f"deconvnet, channel {channel}" for channel in channels[:2]]
plots.show_patches([patch.patches for patch in patches[:2]], projections, titles=titles)

# %% [markdown]
# A unit uses much less than it could see. If the projections show what the nine patches of a channel have in common,
# they should resemble each other more than the patches do. We take sixteen channels, and the mean correlation between
# two of the nine.


# %%
def likeness(pictures):
    """The mean correlation between two of the pictures (k, h, w, C), pixel by pixel."""
    pairs = np.triu_indices(len(pictures), 1)
    flat = pictures.reshape(len(pictures), -1).astype("float64")
    return np.corrcoef(flat)[pairs].mean()


many = introspection.top_patches(net, pool, patch_layer, list(range(16)))
alike = {
    "patches": [likeness(patch.patches) for patch in many],
    "deconvnet": [likeness(brought_back(patch)) for patch in many],
}

# %%
means = {name: float(np.nanmean(values)) for name, values in alike.items()}
plots.bars(means, xlabel="mean correlation between two of the nine")

# %%
record(likeness_patches=means["patches"], likeness_deconvnet=means["deconvnet"])

# %% [markdown]
# On average the projections are more alike. By how much depends on the channel and on the seed of the training. Part of
# this likeness is built in, since the way back uses the same kernels for all nine. With MobileNetV2 a chequered pattern
# lies over the projections. Strided layers that run backwards leave such a pattern (topic 01).
#
# ## Occlusion
#
# The most direct question about a decision: hide a part of the image and look whether the answer changes. A square in
# the image's mean colour slides over the image. At each position we record two things: the probability of the class
# that won, and *which class wins now*.
#
# Zeiler and Fergus show a dog with a tennis ball. When the square hides its face, "tennis ball" wins [paper]. The same
# experiment with shapes needs an image with two of them, although our network was only trained on images with one. As
# our example we take an image of which the network is sure, and among these the one with the smallest winner: the
# square can hide it almost or altogether.

# %%
options = {"config": "biased", "image_size": 64, "ground": "random"}
options |= {"objects": (2, 2), "visible": 1.0}
two = shapes.scenes(100, "test", seed, **options)
two = [scene for scene in two if len(set(scene.labels)) == 2]
pair_images = np.stack([scene.image for scene in two])
pair_labels = np.stack([scene.labels for scene in two])  # (N, 2)
pair_masks = np.stack([scene.masks for scene in two]) > 0  # (N, 2, 64, 64)
pair_boxes = np.stack([scene.boxes for scene in two])  # (N, 2, 4)

# %%
pair_answers = probabilities(sound, pair_images)
pair_winners = pair_answers.argmax(axis=1)
is_winner = pair_labels == pair_winners[:, None]  # (N, 2)
named, which = is_winner.any(axis=1), is_winner.argmax(axis=1)
every = np.arange(len(two))
share = f"{named.mean():.0%} of {len(two)}"
print(f"the winner is one of the two shapes in {share} images")

# %%
left, top, right_, bottom = pair_boxes[every, which].T
longer = np.maximum(right_ - left, bottom - top)
sure = named & (pair_answers.max(axis=1) > 0.9)
smallest = int(np.argmin(np.where(sure, longer, np.inf)))
asked = pair_images[smallest] if source == "shapes" else images[example]
hiding = introspection.occlusion(net, asked[None], size=side // 4, stride=side // 16)

# %% tags=["thumbnail"]
where = hiding.size, hiding.tops, hiding.lefts, hiding.classes[0]
shown = hiding.probability[0], hiding.winner[0], *where
plots.show_occlusion(asked, *shown, classes=classes, plain=hiding.plain[0])

# %% [markdown]
# Where the map is dark, the square hides what the answer depends on. The right picture says which class takes over.
# With our shapes it is often the other object's class where the winner is hidden altogether. Where a part of the winner
# still shows, a third class often wins, for which the network takes the rest. The probability alone does not show this.
#
# One image proves nothing. For the drawn pairs we know both boxes, so we can hide exactly the object that won. Does the
# other object's class win now? As a control we hide the other object. Does the winner stay?


# %%
def hide(images, boxes, slack=2):
    """Copies with one box, and `slack` pixels around it, in the image's mean colour."""
    copies = images.astype("float32")
    for copy, (left, top, right, bottom) in zip(copies, boxes.astype(int)):
        rows = slice(max(top - slack, 0), bottom + slack)
        columns = slice(max(left - slack, 0), right + slack)
        copy[rows, columns] = copy.mean(axis=(0, 1))
    return copies


own_box, other_box = pair_boxes[every, which], pair_boxes[every, 1 - which]
without_winner = transfer.predict(sound, hide(pair_images, own_box)).argmax(axis=1)
without_other = transfer.predict(sound, hide(pair_images, other_box)).argmax(axis=1)
other_wins = (without_winner == pair_labels[every, 1 - which])[named].mean()
stays = (without_other == pair_winners)[named].mean()

# %%
shares = {
    "winner hidden: the other's class wins": other_wins,
    "other hidden: the winner stays": stays,
}
xlabel = f"share of {named.sum()} images"
plots.bars(shares, xlabel=xlabel, baselines={"1 class of 6": 1 / 6})

# %%
record(other_wins=other_wins, winner_stays=stays)

# %% [markdown]
# So the answer depends on the winning object. The network sees the other object as well: its class comes second.
#
# Occlusion asks the network directly, and that makes it slow: every position needs a forward pass. It has one more
# weakness. A square of one colour is something new, which the network has never seen in training.

# %% [markdown]
# ## Saliency
#
# Occlusion hides one region at a time. The gradient looks at all pixels at once: how does the class's score change if
# we change a pixel a little? One backward pass gives this *slope* for every pixel (Simonyan, Vedaldi and Zisserman
# 2014). For a linear score w · x the gradient is w itself, for every image.
#
# Is it really the slope? We change single pixels of an image by a little and compare. The network has 16 smooth units,
# so that finite differences can be trusted.

# %% tags=["nbval-check-output"]
keras.utils.set_random_seed(3)
stack = [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(16, "tanh")]
smooth = keras.Sequential([*stack, layers.Dense(3, name="logits")])
image = np.random.default_rng(1).normal(size=(1, 6, 6, 1)).astype("float32")
gradient = introspection.saliency(smooth, image, 1, reduce=None).ravel()
nudges = 0.01 * np.eye(36, dtype="float32").reshape(36, 6, 6, 1)
up, down = (transfer.predict(smooth, image + sign * nudges)[:, 1] for sign in (1, -1))
slopes = (up - down) / 0.02
close = np.allclose(gradient, slopes, atol=1e-3)
print("gradient = slope found by changing each pixel:", close)

# %% [markdown]
# A gradient has three channels, and signs. To draw it, we take the largest absolute value over the channels, as the
# paper does, or their mean, or all three as a colour picture in which grey is 0.

# %%
chosen = list(range(example, min(example + 3, len(images))))
titles = [classes[winner] for winner in winners[chosen]]
kinds = {"max of channels": "max", "mean of channels": "mean", "all three": None}
views = {}
for name, reduce in kinds.items():
    views[name] = introspection.saliency(net, images[chosen], reduce=reduce)
plots.show_maps(images[chosen], views, titles=titles)

# %% [markdown]
# Maximum and mean hardly differ. The colours show more: the signs alternate within a few pixels. The score does not
# rise with more light at a place. It rises with more contrast.
#
# ### Of the logit, not of the softmax
#
# Which score? We write $z$ for the logits and $p$ for their softmax. Then
#
# $$\frac{\partial p_c}{\partial x} = p_c \Big(\frac{\partial z_c}{\partial x} - \sum_k p_k \frac{\partial z_k}{\partial x}\Big).$$
#
# Two things follow. First, the gradients of other classes are mixed in: the probability of "star" also rises when the
# logit of "circle" falls. Second, if $p_c$ is near 1, the bracket is near 0: where the network is sure, the gradient of
# the probability vanishes. We confirm the formula for the class that comes second on an image.

# %% tags=["nbval-check-output"]
one, by_class = test_images[:1], []
for k in range(6):
    by_class.append(introspection.saliency(sound, one, k, reduce=None)[0])
by_class = np.stack(by_class)  # (6, 64, 64, 3)
p = probabilities(sound, one)[0]
second = int(p.argsort()[-2])
predicted = p[second] * (by_class[second] - np.tensordot(p, by_class, 1))
found = introspection.saliency(sound, one, second, reduce=None, of="probability")[0]
close = np.allclose(predicted, found, atol=0.01 * np.abs(predicted).max())
print("the formula holds:", close)

# %% [markdown]
# Now over all images: the mean absolute gradient against 1 − p of the winner. The formula predicts that the gradient of
# the probability falls with 1 − p. The gradient of the logit should not depend on 1 − p.

# %%
doubt, slope_of = np.maximum(1 - sureness, 1e-7), {}
for name in ("logit", "probability"):
    gradient = introspection.saliency(net, images, of=name, reduce=None)
    slope_of[name] = np.abs(gradient).mean(axis=(1, 2, 3))
figure, ax = plt.subplots(figsize=(8, 3))
for name, marker in (("logit", "o"), ("probability", "^")):
    label = f"of the {name}"
    ax.loglog(doubt, slope_of[name], marker, ms=5, alpha=0.7, label=label)
ax.set(xlabel="1 − p of the winner (surer to the left)")
ax.set_ylabel("mean absolute gradient")
ax.legend()

# %%
spread = {}
for name, slopes in slope_of.items():
    spread[f"of the {name}"] = np.quantile(slopes, 0.9) / np.quantile(slopes, 0.1)
plots.bars(spread, xlabel="ratio of the 90 % to the 10 % quantile")

# %%
record(spread_logit=spread["of the logit"])
record(spread_probability=spread["of the probability"])

# %% [markdown]
# The gradients of the probability differ far more from image to image than those of the logit, and they are smallest
# where the network is sure. The map of a single image, drawn at its own scale, often looks much the same. But maps of
# different images can no longer be compared, and if p is 1 in float32, only rounding is left. So take the logit.
#
# ## Sharper maps
#
# Saliency maps are noisy. Three methods make them cleaner, and a fourth one looks at other pixels altogether:
#
# - **SmoothGrad** (Smilkov et al. 2017): the mean gradient over copies of the image with noise.
# - **Guided back-propagation** (Springenberg et al. 2015): on the way back, a ReLU lets through only what is positive
#   *and* came from an active unit. Back-propagation asks for the second condition alone, the deconvnet for the first.
# - **Integrated gradients** (Sundararajan, Taly and Yan 2017): the mean gradient on the straight way from a plain image
#   to this one, times the difference of the two images. These values add up to the difference of the two scores.
# - **Grad-CAM** (Selvaraju et al. 2017): look at the last maps $A_k$ instead of the pixels. Each map gets a weight
#   $\alpha_k$, the mean over its places of the logit's gradient. Add up the weighted maps and keep what is positive:
#   $\mathrm{relu}(\sum_k \alpha_k A_k)$. The result is coarse, but it depends on the class.
#
# The three rules for a ReLU, in numbers.

# %%
up, from_above = np.array([[1, -1, 2, -3, 4]]), np.array([[2, 3, -1, -2, 5]])
rules = {
    "went in": up,
    "comes from above": from_above,
    "back-propagation lets through": np.where(up > 0, from_above, 0),
    "deconvnet": np.maximum(from_above, 0),
    "guided": np.where(up > 0, np.maximum(from_above, 0), 0),
}
rows = {name: rule[0] for name, rule in rules.items()}
pd.DataFrame.from_dict(rows, orient="index").style.hide(axis="columns")

# %% [markdown]
# How much noise does SmoothGrad need? We choose it on *validation* images, where we know the objects: we take the
# amount with which the largest share of the map lies on the object. (A section below says what this measure is worth.
# Here it compares a method with itself. With photographs we take .15, as the paper does for photographs, and only
# look.)

# %%
amounts, shares = [0.0, 0.02, 0.05, 0.1, 0.2], {}
of_choice = (held_images, held_masks) if source == "shapes" else (images, masks)
for amount in amounts:
    copies = samples if amount else 1
    options = {"samples": copies, "noise": amount, "batch_size": 8}
    maps = introspection.smooth_grad(net, of_choice[0], **options)
    on_masks = (maps * of_choice[1]).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    shares[f"noise {amount:g}"] = on_masks.mean()
best = amounts[1:][int(np.argmax(list(shares.values())[1:]))]
noise = best if source == "shapes" else 0.15
plots.bars(shares, xlabel="share of the map on the object", title=f"We take {noise:g}")

# %% [markdown]
# On our drawn images a little noise changes next to nothing and more does harm: these images carry noise of their own,
# and their small shapes drown in more. The paper chose its .1 to .2 on photographs, by eye. The default of a method was
# chosen for somebody else's data.


# %%
def integrated(model, images, class_index=None):
    """Absolute integrated gradients from the image's mean colour, max over channels."""
    plain = images.astype("float32").mean(axis=(1, 2), keepdims=True)
    arguments = class_index, plain
    found = introspection.integrated_gradients(model, images, *arguments, steps=samples)
    return np.abs(found).max(axis=-1)  # (N, H, W)


def smoothed(model, images, class_index=None):
    options = {"samples": samples, "noise": noise, "batch_size": 8}
    return introspection.smooth_grad(model, images, class_index, **options)


def cam(model, images, class_index=None):
    return introspection.grad_cam(model, images, class_index, cam_layer)


methods = {  # name: a function of model, images and classes
    "saliency": introspection.saliency,
    "SmoothGrad": smoothed,
    "guided": introspection.guided_backpropagation,
    "integrated": integrated,
    "Grad-CAM": cam,
}

# %%
found = {name: method(net, images[chosen]) for name, method in methods.items()}
plots.show_maps(images[chosen], found, titles=titles, overlay=["Grad-CAM"])

# %% [markdown]
# ### Grad-CAM and CAM
#
# Grad-CAM has a forerunner, the class activation map (CAM; Zhou et al. 2016). It needs a network like ours: the last
# maps $A_k$ of h × w places, their averages, one dense layer with weights $w_{kc}$ and biases $b_c$. There
#
# $$z_c = b_c + \sum_k w_{kc}\, \underset{\text{places}}{\text{mean}}\, A_k = b_c + \underset{\text{places}}{\text{mean}} \underbrace{\sum_k w_{kc} A_k}_{\text{CAM}}.$$
#
# So the CAM says how much each place adds to the logit. What are Grad-CAM's weights in such a network? The derivative
# of $z_c$ with respect to $A_k$ is $w_{kc} / (h w)$ at every place, so $\alpha_k = w_{kc} / (h w)$. With average
# pooling and one dense layer, Grad-CAM *is* CAM: its positive part, divided by the number of places. We predict both,
# and confirm.

# %% tags=["nbval-check-output"]
half = keras.Model(sound.input, sound.get_layer("relu4").output)
test_maps = transfer.predict(half, test_images[:8])
weights, biases = sound.get_layer("logits").get_weights()  # (96, 6), (6,)
class_maps = test_maps @ weights  # (8, 8, 8, 6): the CAM of each class
from_maps = biases + class_maps.mean(axis=(1, 2))
logits = transfer.predict(sound, test_images[:8])
by_gradient = introspection.grad_cam(sound, test_images[:8], 3, "relu4", upsample=False)
positive = np.maximum(class_maps[..., 3], 0) / 64
same = np.allclose(by_gradient, positive, atol=1e-3 * positive.max())
print("logit = bias + mean of the CAM:", np.allclose(logits, from_maps, atol=1e-2))
print("Grad-CAM = positive part of the CAM / 64:", same)

# %% [markdown]
# MobileNetV2 ends in average pooling and one dense layer, too. Grad-CAM goes further than CAM if a network has another
# head. To see the difference we put two other heads on the same maps of our network, and train the heads alone:
#
# - a head with a *hidden layer*: average, dense with ReLU, dense. Different images switch on different hidden units, so
#   no map has one fixed weight, and there is no CAM. Grad-CAM finds weights for each image.
# - a head with *max pooling*: the largest value of each map, dense. Only the place of the maximum gets a gradient.
#
# For both we compare Grad-CAM with *gradient × map*: the same sum, but with the gradient of each place instead of its
# mean over the places. For the head with the average the two are equal.

# %%
hidden = [layers.GlobalAveragePooling2D(), layers.Dense(32, "relu")]
bodies = {
    "average": [layers.GlobalAveragePooling2D()],
    "hidden layer": hidden,
    "max pooling": [layers.GlobalMaxPooling2D()],
}
of_training = transfer.predict(half, shape_images[: drawn // 2])  # (N, 8, 8, 96)
heads = {}
for name, body in bodies.items():
    head = keras.Sequential([keras.Input((8, 8, 96)), *body, layers.Dense(6)])
    if name == "average":
        head.set_weights([weights, biases])
    else:
        training.compile_classifier(head, keras.optimizers.AdamW(3e-3))
        pairs = of_training, shape_labels[: drawn // 2]
        training.fit(head, pairs, epochs=8, batch_size=32, seed=seed)
    heads[name] = head


# %%
def both_maps(head, maps):
    """Grad-CAM and gradient × map of the winner, (N, 64, 64) each, and the weights."""

    def winning(maps):
        return ops.max(head(maps, training=False), axis=-1)

    gradient = introspection.gradients(winning, maps)
    alpha = gradient.mean(axis=(1, 2), keepdims=True)  # (N, 1, 1, K)
    drawn_maps = []
    for weight in (alpha, gradient):
        one = np.maximum((weight * maps).sum(axis=-1, keepdims=True), 0)
        larger = ops.image.resize(one.astype("float32"), (64, 64))
        drawn_maps.append(ops.convert_to_numpy(larger)[..., 0])
    return *drawn_maps, alpha[:, 0, 0]


def between_images(alpha, winners):
    """How much weights differ between images of one winner, relative to their size."""
    groups = [alpha[winners == k] for k in np.unique(winners)]
    return float(np.mean([g.std(axis=0).mean() / np.abs(g).mean() for g in groups]))


# %%
test_maps, head_maps, rows = transfer.predict(half, test_images), {}, {}
for name, head in heads.items():
    said = transfer.predict(head, test_maps).argmax(axis=1)
    grad_cam, by_place, alpha = both_maps(head, test_maps)
    head_maps[name] = grad_cam, by_place
    on_masks = []
    for maps in head_maps[name]:
        total = np.maximum(maps.sum(axis=(1, 2)), 1e-12)
        on_masks.append(((maps * test_masks).sum(axis=(1, 2)) / total).mean())
    right = (said == test_labels).mean()
    rows[name] = [right, between_images(alpha, said), *on_masks]
columns = ["accuracy", "weights differ by"]
columns += ["Grad-CAM on object", "gradient × map on object"]
table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
table.style.format("{:.2f}")

# %%
drawings = {}
for name in ("hidden layer", "max pooling"):
    for kind, maps in zip(("Grad-CAM", "gradient × map"), head_maps[name]):
        drawings[f"{name}:\n{kind}"] = maps[:3]
named_three = [shapes.CLASSES[label] for label in test_labels[:3]]
plots.show_maps(test_images[:3], drawings, named_three, overlay=list(drawings))

# %%
record(
    weights_differ_hidden=rows["hidden layer"][1],
    energy_cam_max=rows["max pooling"][2],
    energy_place_max=rows["max pooling"][3],
)

# %% [markdown]
# With the hidden layer the weights of one and the same class differ between images. CAM has no such weights; Grad-CAM
# finds them. With max pooling the weights are the dense layer's again, divided by 64, and Grad-CAM looks as it does
# with the average. But this head reads a single place of each map. Gradient × map knows that place and lies on the
# object far more. Grad-CAM's mean over the places throws this knowledge away. It is a good summary where the head
# averages, and a rough one where it does not.
#
# ## Does the map lie on the object?
#
# Guided back-propagation looks cleaner than saliency, and integrated gradients stay on the object. Which map is
# *right*? A map that looks like the object convinces us, but this is no evidence. We have two measures.
#
# - **Energy**: the share of the map's sum that lies on the object's mask. A map that is the same everywhere gives the
#   object's share of the area.
# - **Pointing game** (Zhang et al. 2018): does the highest point of the map lie on the object, or within two pixels of
#   it?
#
# Three maps that know nothing of the network serve as baselines: a Gaussian around the image's centre, since
# photographers put objects there; the edges of the image; and its contrast, the distance of each pixel from the mean
# colour.


# %%
def energy(maps, masks):
    """The share of each map's sum that lies on its mask: (N,); 0 of an empty map."""
    return (maps * masks).sum(axis=(1, 2)) / np.maximum(maps.sum(axis=(1, 2)), 1e-12)


def hits(maps, masks, slack=2):
    """Whether each map is highest at most `slack` pixels from its mask: (N,) bool."""
    grow = ndimage.binary_dilation
    grown = np.stack([grow(mask, iterations=slack) for mask in masks])
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    return grown.reshape(len(maps), -1)[np.arange(len(maps)), highest]


def edges(images):
    """Length of the Sobel gradient of the brightness, (N, H, W)."""
    grey = images.astype("float32").mean(axis=-1)
    return np.hypot(ndimage.sobel(grey, axis=1), ndimage.sobel(grey, axis=2))


def contrast(images):
    """Largest distance of a pixel's three values from the image's mean, (N, H, W)."""
    pixels = images.astype("float32")
    return np.abs(pixels - pixels.mean(axis=(1, 2), keepdims=True)).max(axis=-1)


# %%
def occluded(model, images):
    """The loss of probability when a pixel is hidden: (N, H, W)."""
    sizes = {"size": side // 4, "stride": side // 8}
    found = introspection.occlusion(model, images, **sizes)
    loss = np.maximum(found.plain[:, None, None] - found.per_pixel(), 0)
    # the same all over a block: smoothed, it is highest in the middle of the block
    return ndimage.gaussian_filter(loss, (0, side / 16, side / 16))


rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
centre = np.exp(-(rows**2 + columns**2) / (2 * (side / 4) ** 2))
found = {name: method(net, images) for name, method in methods.items()}
found["occlusion"] = occluded(net, images)
found["[centre]"] = np.repeat(centre[None], len(images), 0)
found |= {"[edges]": edges(images), "[contrast]": contrast(images)}
on_object = {name: energy(maps, masks) for name, maps in found.items()}
pointed = {name: hits(maps, masks).mean() for name, maps in found.items()}

# %%
area, places = masks.mean(), range(1, len(found) + 1)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, width_ratios=(1.3, 1))
options = {"orientation": "horizontal", "showfliers": False, "whis": (5, 95)}
axes[0].boxplot(list(on_object.values())[::-1], **options)
axes[0].set_yticks(places, list(found)[::-1])
axes[0].axvline(area, color=plots.GREY, ls="--")
title = "each box: the images' quartiles"
axes[0].set(xlabel="share of the energy on the object", title=title, xlim=(0, 1))
axes[1].barh(places, list(pointed.values())[::-1], color=plots.BLUE, height=0.6)
title = "highest point on the object"
axes[1].set(xlabel="share of images", title=title, xlim=(0, 1))
near = {"xytext": (3, 0), "textcoords": "offset points", "color": plots.GREY}
axes[0].annotate("area", (area, 0.55), fontsize=9, **near)

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
# On the shapes, every map of the network lies on the object far more than its area would give, and the images differ
# widely. But look at the baselines in brackets. The image's *edges* do about as well as saliency, and its *contrast*
# points to the object most of the time. (Integrated gradients multiply by it.) If there is only one object, a map lies
# on it easily: a map that never saw the network passes. A better question needs two objects in one image.
#
# ### Whose object?
#
# In the pairs we can ask for the class of either object. Does the map of a class lie on *its* object or on the other
# one? A map that does not know the class lies on each of them with the same chance; one that is random has the area of
# one object (with the two pixels around it), the dashed line.

# %%
sides = {}
for name in ("saliency", "guided", "Grad-CAM"):
    own, other = [], []
    for position in (0, 1):
        asked_for = pair_labels[:, position]
        if name == "Grad-CAM":
            maps = introspection.grad_cam(sound, pair_images, asked_for, "relu4")
        else:
            maps = methods[name](sound, pair_images, asked_for)
        own.append(hits(maps, pair_masks[:, position]))
        other.append(hits(maps, pair_masks[:, 1 - position]))
    sides[name] = np.mean(own), np.mean(other)

# %%
grow, each = ndimage.binary_dilation, np.concatenate(pair_masks)
grown = [grow(mask, iterations=2) for mask in each]
parts = ["on the object of the class asked for", "on the other object"]
figure, ax = plt.subplots(figsize=(8, 2.6))
for number, label in enumerate(parts):
    heights = np.arange(len(sides)) + 0.36 * number
    values, colour = [pair[number] for pair in sides.values()], plots.PALETTE[number]
    ax.barh(heights, values, height=0.34, color=colour, label=label)
ax.axvline(np.mean(grown), color=plots.GREY, ls="--", label="area of one object")
ax.set_yticks(np.arange(len(sides)) + 0.18, list(sides))
ax.invert_yaxis()
xlabel = "share of maps whose highest point lies there"
ax.set(xlabel=xlabel, xlim=(0, 1.5), xticks=np.linspace(0, 1, 6))
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
# Saliency does not tell which class we asked for: its highest point lies on either object about equally often. This is
# no error. A pixel of the other object can lower the class's score, and that is a slope, too. Grad-CAM keeps only what
# speaks *for* the class, and it points to its own object several times as often as to the other. Guided
# back-propagation also has its highest point mostly on its own object, though it draws both, as the next figure shows.

# %%
three, maps = np.flatnonzero(named)[:3], {}
guided = introspection.guided_backpropagation
for position, order in enumerate(("first", "second")):
    labels = pair_labels[three, position]
    maps[f"guided, {order}"] = guided(sound, pair_images[three], labels)
for position, order in enumerate(("first", "second")):
    labels = pair_labels[three, position]
    found = introspection.grad_cam(sound, pair_images[three], labels, "relu4")
    maps[f"Grad-CAM, {order}"] = found
titles = [" / ".join(shapes.CLASSES[k] for k in pair) for pair in pair_labels[three]]
overlay = [name for name in maps if name.startswith("Grad")]
plots.show_maps(pair_images[three], maps, titles, overlay=overlay)

# %% [markdown]
# ## A sanity check
#
# A map that explains the network must change when the network forgets what it learned. Adebayo et al. (2018) give the
# layers random weights, one after another from the output downwards, and compare the maps with the original ones by
# rank correlation: 1 means the same order of the pixels, 0 an unrelated one. We shuffle the values of each kernel
# instead, so that their mean and spread stay. Batch normalisation stays as it is. We predict that the correlation is
# near 0 when all layers are random.


# %%
def forgetting(model, images, methods, counts):
    """Mean rank correlation with the maps before, as the last kernels are shuffled."""
    asked = probabilities(model, images).argmax(axis=1)
    before = {name: method(model, images, asked) for name, method in methods.items()}
    kept = {name: [] for name in methods}
    for count in counts:
        forgetful = introspection.randomise(model, count, seed)
        for name, method in methods.items():
            now = method(forgetful, images, asked)
            alike = introspection.rank_correlation(before[name], now)
            kept[name].append(float(np.nan_to_num(alike).mean()))  # an empty map: 0
    return kept


counts = [0, 1, 2, 3, 4, 5] if source == "shapes" else [0, 1, 10, 30, None]
checked = {name: methods[name] for name in ("saliency", "guided", "Grad-CAM")}
kept = forgetting(net, images[:40], checked, counts)

# %%
pair = methods["guided"](net, images[:40]), edges(images[:40])
outline = float(np.nanmean(introspection.rank_correlation(*pair)))
ax = plots.curves(
    kept,
    x=range(len(counts)),
    xlabel="layers shuffled, from the output down",
    ylabel="rank correlation\nwith the trained net's map",
    baselines={"guided against the image's edges": outline, "unrelated": 0},
)
names = ["all" if count is None else str(count) for count in counts]
ax.set_xticks(range(len(counts)), names)
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
# With the dense layer alone shuffled, guided back-propagation keeps most of its order. So *where* it draws depends
# little on the class, although its highest point does, as we saw. (In MobileNetV2 it keeps most of its order even when
# the last ten layers are shuffled.) Grad-CAM keeps little or nothing, already with one layer shuffled. When *all* layers are random, saliency and guided
# back-propagation do not quite reach 0. What is left comes from the image alone: borders, edges, contrast.
#
# ## What does a channel look for?
#
# Now the other way round. Instead of asking which pixels of an image matter, we ask which image a channel likes best.
# We start from noise and climb along the gradient of its mean activation (Erhan et al. 2009). Plain ascent finds noise
# that happens to excite the channel. Three things help (Yosinski et al. 2015, Mordvintsev et al. 2015): a small shift
# at each step, a pull towards grey, a little blur.

# %%
wanted = list(range(6)) if source == "shapes" else winners[[0, 2, 3, 4]].tolist()
starts = 4 if source == "shapes" else 1
unhelped = {"jitter": 0, "decay": 0, "blur": 0}
plain, ascents = [], []
for k in wanted:
    bare = introspection.maximise(net, k, steps=climb, seed=seed, **unhelped)
    plain.append(bare.images[0])
    ascents.append(introspection.maximise(net, k, steps=climb, count=starts, seed=seed))
climbed = np.stack(plain + [ascent.images[0] for ascent in ascents])
titles = [classes[k] for k in wanted] * 2
title = "Plain; with shifts, decay and blur"
plots.show_images(climbed, titles=titles, columns=len(wanted), title=title)

# %% [markdown]
# What the network looks for in a class is no picture of the class: we see waves, bands, and dots of some size and
# direction. The average over the last maps counts *how much* of a pattern there is and not where. So the ascent repeats
# the pattern all over the image. The logit goes far beyond that of any image:

# %%
levels = {f"start: {classes[wanted[0]]}": ascents[0].scores[0, 0]}
if source == "shapes":
    levels["highest of any test image"] = transfer.predict(net, images).max()
for k, ascent in zip(wanted, ascents):
    levels[f"ascent: {classes[k]}"] = ascent.scores[-1, 0]
figure, ax = plt.subplots(figsize=(8, 0.6 + 0.36 * len(levels)))
ax.barh(list(levels), list(levels.values()), color=plots.BLUE, height=0.65)
for row, value in enumerate(levels.values()):
    ax.text(max(value, 0), row, f"  {value:.3g}", va="center", fontsize=10)
ax.invert_yaxis()
ax.set(xlabel="logit")
ax.margins(x=0.1)

# %% [markdown]
# The same for channels inside: the four channels of the patches above. From each ascent we show a piece as large as a
# patch. It should fit the patches that excite the channel.

# %%
inner = []
for channel in channels:
    ascent = introspection.maximise(net, channel, patch_layer, steps=climb, seed=seed)
    inner.append(ascent.images[0])
best = [patch.patches[0] for patch in patches]
size = best[0].shape[0]
middle = slice((side - size) // 2, (side + size) // 2)
pieces = [image[middle, middle].astype("uint8") for image in inner]
titles = [f"channel {channel}" for channel in channels] + ["best patch"] * 4
plots.show_images(pieces + best, titles=titles, columns=4, tile=1.4)

# %% [markdown]
# Direction and width of the stripes fit the edges in some of the patches. The objects themselves do not appear.
#
# ## Fooling
#
# ### Images of nothing
#
# Nguyen, Yosinski and Clune (2015) ask: what does the network *say* of such images? A person sees no object in them.
# Below, the probability that the network gives to the class climbed for, beside the probability of the winner on the
# images that we ask about.

# %%
found = [probabilities(net, ascent.images)[:, k] for k, ascent in zip(wanted, ascents)]
of_nothing = np.concatenate(found)  # starts for each class
figure, ax = plt.subplots(figsize=(8, 1.9))
for height, values in enumerate([sureness, of_nothing]):
    shift = np.random.default_rng(0).uniform(-0.22, 0.22, len(values))
    ax.plot(values, height + shift, "o", ms=4, alpha=0.6, color=plots.PALETTE[height])
ax.set_yticks([0, 1], ["images: the winner", "ascents: their class"])
ax.set(xlabel="probability", xlim=(-0.02, 1.02), ylim=(-0.5, 1.5))
surer = {"images": (sureness > 0.99).mean(), "ascents": (of_nothing > 0.99).mean()}
print(", ".join(f"{name}: {share:.0%} above .99" for name, share in surer.items()))

# %%
record(sure_of_nothing=surer["ascents"], sure_of_images=surer["images"])

# %% [markdown]
# Of many of these images the network is as good as certain: of a larger share than of the real ones. (The ascent
# climbs one logit and does not look at the others. Where another one rises faster, another class wins.) So a high
# probability does not say that the network has seen something like this before. It says only that one logit is much
# larger than the others, and far away from the training images nothing holds the logits back.
#
# ### A step that nobody sees
#
# Now we start from an image and stop as soon as the class changes (Szegedy et al. 2014). Each step changes every value
# by the same small amount, up or down as the sign of the gradient says. One such step on the loss is the *fast gradient
# sign* method of Goodfellow, Shlens and Szegedy (2015); several steps: Kurakin, Goodfellow and Bengio (2017). Here we
# climb the logit of the runner-up minus that of the winner. How many of the 255 grey levels does it take?

# %%
fooled = introspection.fool(net, images[example], step=0.5, steps=40)
plots.show_fooling(images[example], fooled.image, fooled.path, classes)

# %% [markdown]
# The two images look the same. The change, drawn much stronger, is no picture of the new class either. It consists of
# stripes and spots like those of the ascent. Is its direction special? We take one step along the sign of the gradient
# for all images, beside a step of the *same size* with random signs.


# %%
def stepped(model, images, labels, size, random=False):
    """Images after one step of `size` grey levels against the class, or at random."""
    pixels = images.astype("float32")
    if random:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], pixels.shape)
    else:
        signs = -np.sign(introspection.saliency(model, pixels, labels, reduce=None))
    return np.clip(pixels + size * signs, 0, 255).astype("float32")


sizes, survived = [0, 0.5, 1, 2, 4, 8, 16], {}
for name in ("gradient signs", "random signs"):
    survived[name] = []
    for size in sizes:
        moved = stepped(net, images, winners, size, name == "random signs")
        after = probabilities(net, moved).argmax(axis=1)
        survived[name].append((after == winners).mean())
xlabel, ylabel = "size of the step, grey levels of 255", "share that keeps its class"
plots.curves(survived, x=sizes, xlabel=xlabel, ylabel=ylabel)

# %%
at_four = sizes.index(4)
record(kept_after_gradient=survived["gradient signs"][at_four])
record(kept_after_noise=survived["random signs"][at_four])

# %% [markdown]
# A step of four levels, 1.6 % of the range, turns many images, while the same step with random signs turns next to
# none. In thousands of dimensions almost every direction is harmless. The gradient finds one that is not, in which
# thousands of values each add a little to one score.
#
# ## Why a network errs
#
# Now the two networks of the beginning. (From here on we use shapes in every profile, since only there we know the
# truth.) Suppose that the images of each class were taken in a studio of its own: each class stands on a ground of its
# own colour. The validation images come from the same studios. In the test images, the same six grounds come at random.

# %%
biased_images, biased_labels, _ = draw(drawn, "train", "biased")
studio_images, studio_labels, studio_masks = draw(drawn // 10, "validation", "biased")
wild_images, wild_labels, _ = draw(drawn // 5, "test", "biased")
both = np.concatenate([biased_images[:12], wild_images[:12]])
both_labels = np.concatenate([biased_labels[:12], wild_labels[:12]])
titles = [shapes.CLASSES[label] for label in both_labels]
title = "Studio: the ground tells the class; test: it does not"
plots.show_images(both, titles=titles, columns=12, tile=0.66, title=title)

# %%
biased, _ = trained(biased_images, biased_labels, biased_steps)
scores = {
    "biased": accuracy(biased, studio_images, studio_labels),
    "sound": accuracy(sound, studio_images, studio_labels),
}
xlabel, baselines = "accuracy, validation in the studio", {"one class for all": 1 / 6}
plots.bars(scores, xlabel=xlabel, baselines=baselines)

# %% [markdown]
# By these validation images we would take the biased network. Before we ask about the test images, we look at the maps
# of both networks on the *same validation images*.


# %%
def compare(models, images, labels):
    """Guided back-propagation and Grad-CAM of several networks, an image a row."""
    pictures, guided = {}, introspection.guided_backpropagation
    for name, model in models.items():
        pictures[f"{name}: guided"] = guided(model, images)
        found = introspection.grad_cam(model, images, layer="relu4")
        pictures[f"{name}: Grad-CAM"] = found
    titles = [shapes.CLASSES[label] for label in labels]
    overlay = [name for name in pictures if name.endswith("CAM")]
    return plots.show_maps(images, pictures, titles=titles, overlay=overlay)


two_networks = {"sound": sound, "biased": biased}
compare(two_networks, studio_images[:4], studio_labels[:4])

# %% [markdown]
# The maps of the sound network lie on the shapes. Those of the biased network lie on the ground and leave out the
# shape. In numbers, over the validation images: a map that is the same everywhere would have the share of the area.

# %%
cam_share = {}
for name, model in (("biased", biased), ("sound", sound)):
    maps = introspection.grad_cam(model, studio_images, layer="relu4")
    cam_share[name] = energy(maps, studio_masks)
figure, ax = plt.subplots(figsize=(8, 1.9))
options = {"orientation": "horizontal", "showfliers": False, "whis": (5, 95)}
ax.boxplot(list(cam_share.values()), widths=0.6, **options)
ax.set_yticks([1, 2], list(cam_share))
share_of_area = studio_masks.mean()
ax.axvline(share_of_area, color=plots.GREY, ls="--", label="share of the area")
ax.set(xlabel="share of Grad-CAM's energy on the object, validation images")
ax.legend()

# %% [markdown]
# Maps make us suspect the network; an experiment proves it. We put the same shape on another ground and see whether the
# answer follows the shape or the ground. We cut the shapes out of validation images and lay each on the ground of the
# next image, which is of another class. The next image has an object of its own: we paint it over with pixels drawn
# from its ground. Its outline may still show. So, as a control, we also lay the shapes on the flat mean colour of the
# same grounds.


# %%
def emptied(images, masks):
    """The grounds of images: pixels drawn from the ground where the object was."""
    grounds, random = images.copy(), np.random.default_rng(seed)
    for ground, mask in zip(grounds, masks):
        grown = ndimage.binary_dilation(mask, iterations=2)
        ground[grown] = random.choice(ground[~grown], grown.sum())
    return grounds


next_grounds = np.roll(emptied(studio_images, studio_masks), -1, axis=0)
flat = next_grounds.mean(axis=(1, 2), keepdims=True)
moved = {}
for place, grounds in (("ground", next_grounds), ("flat ground", flat)):
    laid = np.where(studio_masks[..., None], studio_images, grounds)
    moved[place] = laid.astype("uint8")
shown = np.concatenate([studio_images[:8], *(images[:8] for images in moved.values())])
title = "As it was; on the next image's ground; on its mean colour"
plots.show_images(shown, columns=8, tile=0.8, title=title)

# %%
ground_labels, follows = np.roll(studio_labels, -1), {}
for name, model in (("biased", biased), ("sound", sound)):
    for place, pictures in moved.items():
        said = transfer.predict(model, pictures).argmax(axis=1)
        shape_share = (said == studio_labels).mean()
        follows[f"{name}, {place}"] = shape_share, (said == ground_labels).mean()

# %%
figure, ax = plt.subplots(figsize=(8, 2.9))
for number, label in enumerate(("names the shape", "names the ground's class")):
    heights = np.arange(4) + 0.36 * number
    values, colour = [pair[number] for pair in follows.values()], plots.PALETTE[number]
    ax.barh(heights, values, height=0.34, color=colour, label=label)
ax.axvline(1 / 6, color=plots.GREY, ls="--", label="one class for all")
ax.set_yticks(np.arange(4) + 0.18, list(follows))
ax.invert_yaxis()
xlabel = "share of the transplanted images"
ax.set(xlabel=xlabel, xlim=(0, 1.5), xticks=np.linspace(0, 1, 6))
ax.legend(loc="lower right")

# %% [markdown]
# The biased network names the ground in nearly every image, whatever shape lies on it, and as often on a flat ground:
# it follows the colour. The sound network names fewer shapes here than in test images. This is also so on flat grounds,
# so the remains of the other objects are not the reason. A likely reason: some objects now lie on a ground that is much
# nearer to their own colour.
#
# ### The repair
#
# The cause lies in the data, so we repair the data: we need images in which the ground tells nothing. Must all of them
# be new? We replace every second image and train three times as long. (The sound network was trained on unbiased images
# alone, with as many steps.)

# %%
count = len(biased_images) // 2
mixed_images = np.concatenate([biased_images[count:], shape_images[:count]])
mixed_labels = np.concatenate([biased_labels[count:], shape_labels[:count]])
mixed, _ = trained(mixed_images, mixed_labels, steps)
wild = {}
three_networks = {"biased": biased, "half unbiased": mixed, "all unbiased": sound}
for name, model in three_networks.items():
    wild[name] = accuracy(model, wild_images, wild_labels)
plots.bars(wild, xlabel="accuracy on test images", baselines=baselines)

# %% [markdown]
# What has the network in the middle learned? We look at its training images, each half by itself, and at what it names
# in the transplanted images.

# %%
said = transfer.predict(mixed, moved["ground"]).argmax(axis=1)
of_studio, of_free = slice(0, min(600, count)), slice(-min(600, count), None)
learned = {
    "trained on, from the studio: right": of_studio,
    "trained on, unbiased: right": of_free,
}
for name, part in learned.items():
    learned[name] = accuracy(mixed, mixed_images[part], mixed_labels[part])
learned["transplanted: names the ground's class"] = (said == ground_labels).mean()
plots.bars(learned, xlabel="share of the images", baselines=baselines)

# %% [markdown]
# The biased network is at chance on test images, as its maps had suggested. And half of the images is not half of the
# repair. On unbiased images the network is right far more often than by chance, so it has learned something about
# shapes, though less than the sound network in as many steps. (A likely reason: an image that the colour of the ground
# explains has hardly any gradient left.) But on a ground that looks like a studio it names the ground's class far more
# often than by chance, and all test images have such grounds.
#
# A feature that tells the class in the training images and not in the world has a name in the literature: a *shortcut*
# (Geirhos et al. 2020). It has nothing to do with the shortcut connections of topic 04, so we speak of a bias. In the
# lab you repair the biased network without a single new object.

# %%
studio_right, free_right, mixed_ground = learned.values()
record(
    biased_validation=scores["biased"],
    biased_test=wild["biased"],
    mixed_test=wild["half unbiased"],
    sound_test=wild["all unbiased"],
    cam_on_object_biased=cam_share["biased"].mean(),
    cam_on_object_sound=cam_share["sound"].mean(),
    follows_ground=follows["biased, ground"][1],
    follows_flat=follows["biased, flat ground"][1],
    sound_moved=follows["sound, ground"][0],
    mixed_studio=studio_right,
    mixed_unbiased=free_right,
    mixed_follows_ground=mixed_ground,
)

# %% [markdown]
# ### Too few images, no regularisation
#
# The other common cause of errors. We train on few unbiased images and see each of them fifty times. Do maps reveal
# this, too? If the network has learned the single images rather than the shapes, its maps should lie less on the
# objects.
#
# We compare with two other networks after as many steps. One sees the same few images, but regularised: a shape that is
# turned, mirrored or has other colours (red, green and blue exchanged) is still the same shape. So each image gives 8 ·
# 6 = 48 images, and hardly any of them is seen twice. The other network sees all images.


# %%
def varied(images):
    """4 turns, plain and mirrored, 6 orders of the colours: (48 N, H, W, 3)."""
    turned = []
    for view in (images, images[:, :, ::-1]):
        turned += [np.rot90(view, turns, (1, 2)) for turns in range(4)]
    orders = [list(order) for order in itertools.permutations(range(3))]
    return np.concatenate([found[..., order] for order in orders for found in turned])


few_images, few_labels = shape_images[:few], shape_labels[:few]
one_varied = varied(few_images[1:2])[:16]
plots.show_images(one_varied, columns=8, tile=0.8, title="One image, varied: 16 of 48")

# %%
memorised, _ = trained(few_images, few_labels, biased_steps)
regularised, _ = trained(varied(few_images), np.tile(few_labels, 48), biased_steps)
short, _ = trained(shape_images, shape_labels, biased_steps)

# %%
networks = {
    f"{few} images, no regularisation": memorised,
    f"{few} images, varied": regularised,
    f"{drawn:,} images, as many steps": short,
    f"{drawn:,} images, {steps} steps (sound)": sound,
}
rows = {}
for name, model in networks.items():
    maps = introspection.grad_cam(model, test_images, layer="relu4")
    shares = energy(maps, test_masks)
    seen, unseen = (few_images, few_labels), (test_images, test_labels)
    pair = accuracy(model, *seen), accuracy(model, *unseen)
    rows[name] = [*pair, shares.mean(), shares.std()]
columns = [f"accuracy, first {few}", "accuracy, test"]
columns += ["Grad-CAM on object", "its deviation"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns).style.format("{:.2f}")

# %%
compare({"sound": sound, "few": memorised}, test_images[:4], test_labels[:4])

# %% [markdown]
# Without regularisation the network is right far more often on the images that it has seen than on new ones. With
# varied images this gap is smaller, and with all images it closes. Do the maps show it? A smaller share of them lies on
# the objects than with the sound network. But of the maps of the network that saw all images in as many steps, about as
# little lies there. So the short training matters more here than the few images, and all these differences are small
# beside the spread over the images. Here the accuracy on test images is the better instrument. Maps are needed where
# the test images share the fault of the training images.

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
# ## Where this leads
#
# We have seen what a trained network knows. Its early layers know edges, which serve any class; only its late layers
# know our six classes. And with few images it learns the images rather than the classes. Both together suggest a way
# out: take the early layers of a network that was trained on many images of something else, and train only the rest.
# Topic 06 does this, and measures when it helps.
#
# ## Summary
#
# You can now
#
# - read a first layer's filters, find what a channel answers to by its top-9 patches, and follow how the channels
#   become selective from layer to layer;
# - go back from a unit to the pixels with the deconvnet: switches, rectify, transpose;
# - hide parts of an image, and record the probability *and* the new winner;
# - take the gradient of the logit, and say why not that of the softmax;
# - say when Grad-CAM is CAM, and what it loses where it is not;
# - test a map that looks good: measure it beside the image's own edges, ask for the other class, shuffle the weights;
# - make images of nothing of which a network is certain, and change a class by a step that random noise does not match;
# - find a network that is right for a wrong reason on its own validation images, prove it by an experiment, and repair
#   the data.
#
# ## Exercises
#
# 1. (easy) Repeat the occlusion figure with squares of 8 and of 24 pixels. What does a small square miss, and what a
#    large one? *Hint: `size` in `introspection.occlusion`.*
# 2. (easy) Hide with black and with white instead of the mean colour. Which classes win now where no object is hidden?
#    *Hint: `value=0`.*
# 3. (medium) Take Grad-CAM in an earlier layer. How do energy and pointing change, and why? *Hint: `layer="relu3"`.*
# 4. (medium) Show on paper that with max pooling and one dense layer Grad-CAM's weights are $w_{kc} / (h w)$, too. What
#    are they for a head that flattens the maps? *Hint: how many places of a map get a gradient?*
# 5. (medium) What share of unbiased images does the repair need, and does longer training help? Draw the accuracy
#    against this share, for two numbers of steps. *Hint: the cell that makes `mixed_images`. Choose on transplanted
#    validation images.*
# 6. (hard) Fool the network with a target: make every image a "star". Which classes take the largest steps, and do the
#    steps for different images resemble each other? *Hint: `introspection.fool(..., target=3)`. It refuses images that
#    are named "star" already: leave those out.*
# 7. (hard) Train on images to which a gradient step of 2 levels was added (adversarial training), and draw the curve of
#    the steps again. What does it cost on clean images, and what do the saliency maps look like now? *Hint: `stepped`
#    inside the function that gives an epoch's images.*
#
# ## Further reading
#
# - D. H. Hubel and T. N. Wiesel, *Receptive fields, binocular interaction and functional architecture in the cat's
#   visual cortex*, Journal of Physiology 160, 1962.
# - D. Erhan, Y. Bengio, A. Courville and P. Vincent, *Visualizing higher-layer features of a deep network*, University
#   of Montreal, 2009.
# - M. D. Zeiler and R. Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014.
# - K. Simonyan, A. Vedaldi and A. Zisserman, *Deep inside convolutional networks: visualising image classification
#   models and saliency maps*, ICLR workshops 2014.
# - C. Szegedy et al., *Intriguing properties of neural networks*, ICLR 2014.
# - J. T. Springenberg, A. Dosovitskiy, T. Brox and M. Riedmiller, *Striving for simplicity: the all convolutional net*,
#   ICLR workshops 2015.
# - I. Goodfellow, J. Shlens and C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015.
# - A. Nguyen, J. Yosinski and J. Clune, *Deep neural networks are easily fooled: high confidence predictions for
#   unrecognizable images*, CVPR 2015.
# - J. Yosinski, J. Clune, A. Nguyen, T. Fuchs and H. Lipson, *Understanding neural networks through deep
#   visualization*, ICML workshops 2015.
# - A. Mordvintsev, C. Olah and M. Tyka, *Inceptionism: going deeper into neural networks*, Google Research blog, 2015.
# - B. Zhou, A. Khosla, A. Lapedriza, A. Oliva and A. Torralba, *Learning deep features for discriminative
#   localization*, CVPR 2016.
# - A. Kurakin, I. Goodfellow and S. Bengio, *Adversarial examples in the physical world*, ICLR workshops 2017.
# - M. Sundararajan, A. Taly and Q. Yan, *Axiomatic attribution for deep networks*, ICML 2017.
# - R. R. Selvaraju et al., *Grad-CAM: visual explanations from deep networks via gradient-based localization*, ICCV
#   2017.
# - D. Smilkov et al., *SmoothGrad: removing noise by adding noise*, arXiv 1706.03825, 2017.
# - J. Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018.
# - J. Zhang et al., *Top-down neural attention by excitation backprop*, International Journal of Computer Vision 126,
#   2018.
# - R. Geirhos et al., *Shortcut learning in deep neural networks*, Nature Machine Intelligence 2, 2020.
