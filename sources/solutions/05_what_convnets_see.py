# %% [markdown]
# # 05 What convnets see: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/05_what_convnets_see.ipynb)
#
# **A network is right on every validation image, and useless.** You will build the instruments that tell: saliency,
# occlusion, Grad-CAM, a score for maps and a sanity check. Then you will use them on two networks, find the one that
# looks at the wrong thing, and repair it without drawing a single new object.
#
# You will be able to
#
# - take the gradient of a class's logit with respect to the pixels, and step along its sign until the class changes;
# - slide a square over an image and record the probability and the winner;
# - compute Grad-CAM from the two halves of a network;
# - measure whether a map lies on the object, and whether it depends on the network at all;
# - break a bias in the data, and show in numbers that the network now looks at the object.
#
# Plan an hour and a half for it. There are 19 points. The training takes about two minutes on two cores.

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
seed: int = 0  # [0, ] which images are drawn, and in which order they are trained on
drawn: int = 3000  # [60, 20000] images drawn to train on; to validate and to test on, a tenth as many each
steps: int = 930  # [6, 10000] training steps of the sound network and of the repaired one
biased_steps: int = 300  # [6, 5000] training steps of the biased network
measured: int = 120  # [6, 2000] images on which maps are measured
floor: float = 0.55  # [0, 1] share of the test images that your repaired network must get right
on_object: float = 0.18  # [0, 1] share of its Grad-CAM that must lie on the object

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from scipy import ndimage

from utils import introspection, plots, results, session, training
from utils.data import shapes

session.start(seed)

# %% [markdown]
# Images of one shape, of six classes, with the mask of its pixels: the truth is known. In the *studio* each class
# stands on a ground of its own colour; in the *test* images the same six grounds come at random. *Plain* images have
# grounds of any colour.


# %%
def draw(count, split, ground):
    """Images of one shape: (N, 64, 64, 3) uint8, their classes (N,), the masks of the shapes (N, 64, 64) bool."""
    scenes = shapes.scenes(count, split, seed, config="biased", image_size=64, ground=ground)
    labels = np.array([scene.labels[0] for scene in scenes])
    return np.stack([scene.image for scene in scenes]), labels, np.stack([scene.masks[0] for scene in scenes]) > 0


plain_images, plain_labels, _ = draw(drawn, "train", "random")
studio_images, studio_labels, studio_masks = draw(drawn, "train", "biased")
validation_images, validation_labels, validation_masks = draw(max(drawn // 10, measured), "validation", "biased")
test_images, test_labels, test_masks = draw(max(drawn // 10, measured), "test", "biased")
shown = np.concatenate([studio_images[:12], test_images[:12]])
plots.show_images(shown, columns=12, tile=0.66, title="In the studio, and in the test")

# %% [markdown]
# The networks are small: four convolutions, each with batch normalisation and ReLU, a max pool after the second and
# the third, the average of each of the last 96 maps, a dense layer of logits.


# %%
def network():
    inputs = keras.Input((64, 64, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(inputs)
    for number, (filters, size, stride) in enumerate([(16, 7, 2), (32, 3, 1), (64, 3, 1), (96, 3, 1)], 1):
        start = keras.initializers.RandomNormal(stddev=0.01) if number == 1 else "he_normal"
        x = layers.Conv2D(
            filters, size, stride, "same", use_bias=False, kernel_initializer=start, name=f"conv{number}"
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        if number in (2, 3):
            x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)  # (batch, 96)
    return keras.Model(inputs, layers.Dense(len(shapes.CLASSES), name="logits")(x))


# %%
def trained(images, labels, steps, epochs=6):
    """A network after `steps` steps of 32 images each."""
    model = network()
    rate = training.WarmupHoldDecay(3e-3, steps, warmup=max(1, steps // 10))
    training.compile_classifier(model, keras.optimizers.AdamW(rate, weight_decay=1e-3))
    order = np.random.default_rng(seed).permuted(
        np.tile(np.arange(len(images)), (-(-steps * 32 // len(images)), 1)), axis=1
    )
    parts = np.array_split(order.ravel()[: steps // epochs * epochs * 32], epochs)
    training.fit(model, lambda epoch: (images[parts[epoch]], labels[parts[epoch]]), epochs, batch_size=32, seed=seed)
    return model


def accuracy(model, images, labels):
    return float((model.predict(images, batch_size=100, verbose=0).argmax(axis=1) == labels).mean())


sound = trained(plain_images, plain_labels, steps)
biased = trained(studio_images, studio_labels, biased_steps)

# %%
on_validation = {
    "sound": accuracy(sound, validation_images, validation_labels),
    "biased": accuracy(biased, validation_images, validation_labels),
}
plots.bars(on_validation, xlabel="accuracy on validation images (studio)", baselines={"one class for all": 1 / 6})

# %% [markdown]
# By this figure the biased network is the better one. Forget that you know its name, and build the instruments.
#
# ## 1. Saliency (2 points)
# Write `saliency(model, images, class_index)`: the gradient of the *logit* of one class with respect to every pixel,
# then the largest absolute value over the channels.
#
# In: a model that gives logits (B, classes); images (N, H, W, C); one class for all of them. Out: a NumPy array (N,
# H, W).
#
# Keras has no gradient function of its own; use `introspection.gradients(function, images)`, which gives the gradient
# of the sum of `function(x)` with respect to x, in the shape of `images`. Your function takes a batch x and returns
# one number for each image; call the model in it with `training=False`. The check uses a model that is linear, so
# that the answer is its weights, and one that is so sure that the gradient of a softmax would be 0.


# %% gap="saliency" stub="return the largest absolute gradient of the class's logit over the channels"
def saliency(model, images, class_index):
    ### BEGIN SOLUTION
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, class_index], images)  # (N, H, W, C)
    return np.abs(gradient).max(axis=-1)
    ### END SOLUTION


# %% check="saliency" points=2
linear = keras.Sequential([keras.Input((3, 4, 2)), layers.Flatten(), layers.Dense(3)])
rng = np.random.default_rng(1)
kernel = rng.normal(size=(3, 4, 2, 3)).astype("float32")
linear.layers[-1].set_weights([kernel.reshape(24, 3), np.array([200, 0, 0], "float32")])
noise = rng.normal(size=(2, 3, 4, 2)).astype("float32")
answer = np.asarray(saliency(linear, noise, 1))
assert answer.shape == (2, 3, 4), f"two images of 3 x 4 give (2, 3, 4), got {answer.shape}: reduce the channels"
assert (answer >= 0).all(), "the size of a slope counts, not its sign: take absolute values before the maximum"
assert answer.max() > 1e-6, "0 everywhere: that is the gradient of the softmax of a net that is sure; take the logit's"
assert np.allclose(answer[0], np.abs(kernel[..., 1]).max(axis=-1), atol=1e-4), (
    "of a linear model the map of class 1 is the largest absolute weight of class 1 at each pixel"
)
### BEGIN HIDDEN TESTS
for k in (0, 2):
    assert np.allclose(saliency(linear, noise, k)[1], np.abs(kernel[..., k]).max(axis=-1), atol=1e-4)
few = test_images[:3]
assert np.allclose(saliency(sound, few, 2), introspection.saliency(sound, few, 2), rtol=1e-2, atol=1e-6)
### END HIDDEN TESTS

# %%
by_class = {
    f"slope of {shapes.CLASSES[k]}": np.concatenate([saliency(sound, test_images[i : i + 1], k) for i in range(3)])
    for k in (0, 3)
}
plots.show_maps(test_images[:3], by_class, titles=[shapes.CLASSES[label] for label in test_labels[:3]])

# %% [markdown]
# ## 2. Occlusion (2 points)
# Write `occlusion(model, image, class_index, size, stride, value)`. A square of `size` x `size` pixels is painted
# with `value` at the rows 0, `stride`, 2 `stride`, ... and the same columns, as long as it fits into the image; each
# time the whole image is classified.
#
# In: a model that gives logits; one image (H, W, C), which must stay as it is; the value, a number or one for each
# channel. Out: two arrays (rows, columns): the probability of `class_index` with the square at that position, and the
# class that wins there. Paint on float32 copies: in a uint8 image a colour of 101.7 becomes 101.
#
# The check looks at a model with two classes, each of which hangs on one pixel.


# %% gap="occlusion" stub="return the probability of the class and the winning class for every position of the square"
def occlusion(model, image, class_index, size, stride, value):
    ### BEGIN SOLUTION
    height, width = image.shape[:2]
    tops, lefts = range(0, height - size + 1, stride), range(0, width - size + 1, stride)
    copies = np.repeat(image[None].astype("float32"), len(tops) * len(lefts), axis=0)
    positions = [(top, left) for top in tops for left in lefts]
    for copy, (top, left) in zip(copies, positions):
        copy[top : top + size, left : left + size] = value
    logits = model.predict(copies, batch_size=64, verbose=0)
    probability = ops.convert_to_numpy(ops.softmax(logits))[:, class_index]
    grid = len(tops), len(lefts)
    return probability.reshape(grid), logits.argmax(axis=1).reshape(grid)
    ### END SOLUTION


# %% check="occlusion" points=1
two_pixels = keras.Sequential([keras.Input((6, 8, 1)), layers.Flatten(), layers.Dense(2)])
weights = np.zeros((6, 8, 2), "float32")
weights[1, 5, 0], weights[4, 0, 1] = 3, 2  # class 0 hangs on the pixel (1, 5), class 1 on (4, 0)
two_pixels.layers[-1].set_weights([weights.reshape(48, 2), np.zeros(2, "float32")])
white = np.ones((6, 8, 1), "float32")
probability, winner = map(np.asarray, occlusion(two_pixels, white, 0, size=2, stride=2, value=0))
assert probability.shape == winner.shape == (3, 4), f"3 rows and 4 columns of squares, got {probability.shape}"
assert winner[0, 2] == 1 and np.count_nonzero(winner) == 1, (
    f"hide pixel (1, 5), and class 1 wins there alone:\n{winner}"
)
assert np.isclose(probability[0, 2], 1 / (1 + np.exp(2))), "with that pixel hidden, class 0 has softmax(0, 2)[0]"
assert np.isclose(probability[1, 1], 1 / (1 + np.exp(-1))), "where nothing that counts is hidden: softmax(3, 2)[0]"

# %% check="occlusion" points=1
assert np.array_equal(white, np.ones((6, 8, 1))), "the image that came in must stay as it was: paint on copies"
assert np.isclose(probability[2, 0], 1 / (1 + np.exp(-3))), (
    "with (4, 0) hidden class 1 has lost its pixel: softmax(3, 0)[0]"
)
narrow = occlusion(two_pixels, white, 1, size=3, stride=2, value=1)
assert np.shape(narrow[0]) == (2, 3), f"squares of 3 at stride 2 in 6 x 8: 2 rows, 3 columns, got {np.shape(narrow[0])}"
assert np.allclose(narrow[0], 1 / (1 + np.exp(1))), "a white square on a white image hides nothing: softmax(3, 2)[1]"
half = occlusion(two_pixels, white.astype("uint8"), 0, size=2, stride=2, value=0.5)[0]
assert np.isclose(half[0, 2], 1 / (1 + np.exp(0.5))), (
    f"(1, 5) is .5 now: softmax(1.5, 2)[0] = .378, got {half[0, 2]:.3f}: were the copies uint8, which makes 0 of .5?"
)
### BEGIN HIDDEN TESTS
photo, colour = test_images[5], test_images[5].mean(axis=(0, 1))
mine = occlusion(sound, photo, 4, 16, 16, colour)
theirs = introspection.occlusion(sound, photo[None], 4, 16, 16, colour)
assert np.allclose(mine[0], theirs.probability[0], atol=1e-3) and np.array_equal(mine[1], theirs.winner[0])
### END HIDDEN TESTS

# %% [markdown]
# On a test image, for both networks. Ask each of them about the class that it names.

# %%
image = test_images[int(np.argmax(sound.predict(test_images, verbose=0).argmax(axis=1) == test_labels))]
for name, model in (("sound", sound), ("biased", biased)):
    named = int(model.predict(image[None], verbose=0).argmax())
    probability, winner = occlusion(model, image, named, 16, 4, image.mean(axis=(0, 1)))
    grid = np.arange(0, 49, 4)
    plots.show_occlusion(image, probability, winner, 16, grid, grid, named, shapes.CLASSES, title=f"The {name} network")

# %% [markdown]
# ## 3. Grad-CAM (2 points)
# Cut a network in two: `lower` turns images into maps $A$ (N, h, w, K), `upper` turns maps into logits. Write
# `grad_cam(lower, upper, images, class_index)`, where $z_c$ is the logit of the class:
#
# $$\alpha_k = \text{mean over the places of } \frac{\partial z_c}{\partial A_k}, \qquad \text{map} = \mathrm{relu}\Big(\sum_k \alpha_k A_k\Big).$$
#
# Out: a NumPy array (N, h, w), not scaled. `introspection.gradients` takes maps as well as images. The check has maps
# and slopes that can be worked out by hand.


# %% gap="grad-cam" stub="weight the maps by the mean of their gradients, add them up, keep what is positive"
def grad_cam(lower, upper, images, class_index):
    ### BEGIN SOLUTION
    maps = lower.predict(images, verbose=0)  # (N, h, w, K)
    slopes = introspection.gradients(lambda a: upper(a, training=False)[:, class_index], maps)
    importance = slopes.mean(axis=(1, 2), keepdims=True)  # (N, 1, 1, K)
    return np.maximum((importance * maps).sum(axis=-1), 0)
    ### END SOLUTION


# %% check="grad-cam" points=2
lower = keras.Sequential([keras.Input((2, 2, 2)), layers.Rescaling(2.0)])  # two maps: twice the two channels
upper = keras.Sequential([keras.Input((2, 2, 2)), layers.Flatten(), layers.Dense(2)])
slopes = np.array([[[4, -1], [0, -1]], [[0, -1], [0, -1]]], "float32")  # (places, maps): means 1 and -1
upper.layers[-1].set_weights([np.stack([slopes.ravel(), -slopes.ravel()], axis=1), np.zeros(2, "float32")])
two_maps = np.array([[[[3, 1], [1, 3]], [[2, 2], [5, 0]]]], "float32")  # (1, 2, 2, 2)
answer = np.asarray(grad_cam(lower, upper, two_maps, 0))
assert answer.shape == (1, 2, 2), f"one map of 2 x 2 places for the image, got {answer.shape}"
assert (answer >= 0).all(), "only what speaks for the class: a ReLU at the end"
assert np.allclose(answer[0], [[4, 0], [0, 10]], atol=1e-3), (
    f"the weights are 1 and -1, the maps 6 2 / 4 10 and 2 6 / 4 0: relu of 4 -4 / 0 10, got\n{answer[0]}"
)
### BEGIN HIDDEN TESTS
assert np.allclose(grad_cam(lower, upper, two_maps, 1)[0], [[0, 4], [0, 0]], atol=1e-3)
half = sound.get_layer("relu4").output
mine = grad_cam(keras.Model(sound.input, half), keras.Model(half, sound.output), test_images[:3], 5)
assert np.allclose(
    mine, introspection.grad_cam(sound, test_images[:3], 5, "relu4", upsample=False), rtol=1e-2, atol=1e-4
)
### END HIDDEN TESTS


# %%
def cam_maps(model, images):
    """Your Grad-CAM of each image's winner, from the last maps of 8 x 8 places, brought to the images' size: (N, 64, 64)."""
    half = model.get_layer("relu4").output
    lower, upper = keras.Model(model.input, half), keras.Model(half, model.output)
    winners, found = model.predict(images, verbose=0).argmax(axis=1), np.zeros((len(images), 8, 8))
    for k in np.unique(winners):
        found[winners == k] = grad_cam(lower, upper, images[winners == k], int(k))
    return ops.convert_to_numpy(ops.image.resize(found[..., None].astype("float32"), (64, 64)))[..., 0]


both = {name: cam_maps(model, validation_images[:4]) for name, model in (("sound", sound), ("biased", biased))}
plots.show_maps(validation_images[:4], both, overlay=list(both))

# %% [markdown]
# ## 4. A score for maps (2 points)
# A picture convinces too easily, so measure. Write two functions of maps (N, H, W) and masks (N, H, W) bool:
#
# - `energy(maps, masks)`: what share of the map's positive part lies on the mask, for each image: (N,). Values below
#   0 count as 0. A map without any positive value gets 0, not NaN.
# - `hits(maps, masks)`: the pointing game. Whether the highest place of each map lies on its mask: (N,) bool.
#
# A map that is the same everywhere has the mask's share of the area as its energy: that is the baseline.


# %% gap="score" stub="write the share of the energy on the mask, and the pointing game"
def energy(maps, masks):
    ### BEGIN SOLUTION
    positive = np.maximum(maps, 0)
    total = positive.sum(axis=(1, 2))
    return (positive * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)
    ### END SOLUTION


def hits(maps, masks):
    ### BEGIN SOLUTION
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(masks)), highest]
    ### END SOLUTION


# %% check="score" points=1
maps = np.array([[[1.0, 2, 0], [0, 0, 5]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]], [[2, -6, 0], [0, 0, 2]]])
masks = np.array([[[0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]], [[1, 0, 0], [0, 0, 0]]]) > 0
answer = np.asarray(energy(maps, masks))
assert answer.shape == (4,), f"one number for each map, got {answer.shape}"
assert np.isclose(answer[0], 7 / 8), f"7 of 8 lie on the mask of the first map, got {answer[0]}"
assert np.isclose(answer[1], 1 / 3), "a map that is the same everywhere gives the share of the area"
assert answer[2] == 0, "an empty map gives 0, not NaN"
assert np.isclose(answer[3], 1 / 2), f"what is negative counts as 0: 2 of 4, got {answer[3]}"

# %% check="score" points=1
pointed = np.asarray(hits(maps, masks))
assert pointed.shape == (4,) and pointed[0], "the highest value of the first map, 5, lies on its mask"
assert pointed[3], "the highest value is 2, first at (0, 0); -6 is the largest only in absolute value"
assert not hits(maps[:1], ~masks[:1])[0], "off the mask it is no hit"
### BEGIN HIDDEN TESTS
random = np.random.default_rng(4)
maps, masks = random.normal(size=(20, 5, 7)), random.random((20, 5, 7)) < 0.4
for a, m, e, h in zip(maps, masks, energy(maps, masks), hits(maps, masks)):
    assert np.isclose(e, a[m & (a > 0)].sum() / a[a > 0].sum())
    assert h == m[np.unravel_index(a.argmax(), a.shape)]
### END HIDDEN TESTS

# %% [markdown]
# Now both networks on the *validation* images, where both seem fine. Each box shows the quartiles over the images.

# %%
some, their_masks = validation_images[:measured], validation_masks[:measured]
scores = {name: energy(cam_maps(model, some), their_masks) for name, model in (("sound", sound), ("biased", biased))}
figure, ax = plt.subplots(figsize=(8, 1.9))
ax.boxplot(list(scores.values())[::-1], orientation="horizontal", showfliers=False, whis=(5, 95), widths=0.6)
ax.set_yticks([1, 2], list(scores)[::-1])
ax.axvline(their_masks.mean(), color=plots.GREY, ls="--", label="share of the area")
ax.set(xlabel="share of Grad-CAM on the object", xlim=(0, None))
ax.legend()

# %% [markdown]
# ## 5. Forget (2 points)
# A map that explains a network must change when the network forgets. Write `forgetful(model, names, seed)`: a copy of
# the model in which the *kernel* of each named layer is shuffled: all its values mixed, across all axes, not whole
# rows. Everything else, biases and batch normalisation included, stays, and the model that came in is not changed.
#
# Use `keras.models.clone_model(model)`, which copies the architecture with fresh weights; `set_weights`; the first
# entry of `layer.get_weights()` of a convolution or dense layer is its kernel; and `np.random.default_rng(seed)`.


# %% gap="forget" stub="return a copy of the model with the kernels of the named layers shuffled"
def forgetful(model, names, seed=0):
    ### BEGIN SOLUTION
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    random = np.random.default_rng(seed)
    for name in names:
        kernel, *others = copy.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([random.permutation(kernel.ravel()).reshape(kernel.shape), *others])
    return copy
    ### END SOLUTION


# %% check="forget" points=2
before = [weight.copy() for weight in sound.get_weights()]
copy = forgetful(sound, ["logits", "conv3"], seed=1)
assert all(np.array_equal(a, b) for a, b in zip(before, sound.get_weights())), "the model that came in has changed"
for name in ("logits", "conv3"):
    old, new = sound.get_layer(name).get_weights()[0], copy.get_layer(name).get_weights()[0]
    assert not np.array_equal(old, new), f"the kernel of {name} is not shuffled"
    assert np.array_equal(np.sort(old.ravel()), np.sort(new.ravel())), f"{name}: the same values in another order"
    assert not any(np.array_equal(np.sort(old, axis=axis), np.sort(new, axis=axis)) for axis in range(old.ndim)), (
        f"{name}: values stay in their rows along one axis: flatten, mix, reshape"
    )
for name in ("conv1", "norm3", "conv4"):
    for old, new in zip(sound.get_layer(name).get_weights(), copy.get_layer(name).get_weights()):
        assert np.array_equal(old, new), f"{name} was not named and must stay: did the copy get the weights?"
assert np.array_equal(copy.get_layer("logits").get_weights()[1], sound.get_layer("logits").get_weights()[1]), (
    "biases stay"
)
### BEGIN HIDDEN TESTS
again, other = forgetful(sound, ["conv2"], seed=1), forgetful(sound, ["conv2"], seed=2)
assert not np.array_equal(again.get_layer("conv2").get_weights()[0], other.get_layer("conv2").get_weights()[0])
untouched = forgetful(sound, [])
assert untouched is not sound and all(np.array_equal(a, b) for a, b in zip(untouched.get_weights(), before))
### END HIDDEN TESTS

# %% [markdown]
# From the output downwards, one layer more at a time; rank correlation with the map of the trained network: 1 is the
# same order of pixels, 0 an unrelated one.

# %%
layers_down = ["logits", "conv4", "conv3", "conv2", "conv1"]
some, winners = test_images[:30], sound.predict(test_images[:30], verbose=0).argmax(axis=1)
methods = {
    "saliency": introspection.saliency,
    "guided back-propagation": introspection.guided_backpropagation,
    "Grad-CAM": lambda model, x, c: introspection.grad_cam(model, x, c, "relu4"),
}
maps = []  # of each method, for each number of layers forgotten
for count in range(len(layers_down) + 1):
    model = forgetful(sound, layers_down[:count], seed)
    maps.append({name: method(model, some, winners) for name, method in methods.items()})
alike = {
    name: [np.nan_to_num(introspection.rank_correlation(maps[0][name], found[name])).mean() for found in maps]
    for name in methods
}

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
# **Guided back-propagation** (back-propagation that lets only positive slopes through a ReLU), for the same class: of
# the trained network, with the last layer forgotten, and with all layers forgotten.

# %%
drawings = {
    name: maps[count]["guided back-propagation"][:3]
    for name, count in (("trained", 0), ("last layer forgotten", 1), ("all forgotten", -1))
}
plots.show_maps(some[:3], drawings, titles=[shapes.CLASSES[k] for k in winners[:3]])

# %% [markdown]
# ## 6. A step that changes the class (2 points)
# Write `fooling_step(model, image, label, size)`: one step against the class `label`. Every value of the image moves
# by `size` grey levels, up or down, so that the logit of `label` falls to first order: along minus the *sign* of its
# gradient. Where the gradient is 0 nothing moves, and the result stays between 0 and 255.
#
# In: an image (H, W, C), 0 to 255. Out: a float32 array of the same shape. The check predicts by how much the logit
# of a linear model falls.


# %% gap="fooling" stub="move every value by size against the class, and stay in 0 to 255"
def fooling_step(model, image, label, size):
    ### BEGIN SOLUTION
    pixels = image.astype("float32")
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, label], pixels[None])[0]
    return np.clip(pixels - size * np.sign(gradient), 0, 255).astype("float32")
    ### END SOLUTION


# %% check="fooling" points=2
kernel[0, 0, 0, :] = 0  # this value has no say in any class
linear.layers[-1].set_weights([kernel.reshape(24, 3), np.zeros(3, "float32")])
grey = np.full((3, 4, 2), 100, "uint8")
answer = np.asarray(fooling_step(linear, grey, 1, 2.0))
assert answer.shape == grey.shape, f"an image of the same shape, got {answer.shape}"
change = answer - grey.astype("float32")
assert change[0, 0, 0] == 0, "where the gradient is 0 nothing moves"
assert np.allclose(np.abs(np.delete(change.ravel(), 0)), 2), (
    "every other value moves by exactly 2: the sign, not the gradient"
)
fall = (linear.predict(grey[None], verbose=0) - linear.predict(answer[None], verbose=0))[0, 1]
assert fall > 0, f"the logit must fall, it rose by {-fall:.2f}: against the gradient, not along it"
assert np.isclose(fall, 2 * np.abs(kernel[..., 1]).sum(), rtol=1e-3), (
    "it falls by size times the sum of the absolute weights"
)
### BEGIN HIDDEN TESTS
for level in (0, 255):
    edge = fooling_step(linear, np.full((3, 4, 2), level, "uint8"), 2, 9.0)
    assert edge.min() >= 0 and edge.max() <= 255, "the step must stay between 0 and 255"
assert np.array_equal(grey, np.full((3, 4, 2), 100)), "the image that came in has changed"
### END HIDDEN TESTS

# %% [markdown]
# A step of four levels, beside four levels of random signs: what share of the images that were right is still right?

# %%
right = np.flatnonzero(sound.predict(test_images, verbose=0).argmax(axis=1) == test_labels)[:60]
fooled = np.stack([fooling_step(sound, test_images[i], int(test_labels[i]), 4) for i in right])
signs = np.random.default_rng(seed).choice([-4.0, 4.0], fooled.shape)
shaken = np.clip(test_images[right] + signs, 0, 255)
still = {
    name: accuracy(sound, pixels.astype("float32"), test_labels[right])
    for name, pixels in (("against the gradient", fooled), ("random signs", shaken))
}
said = sound.predict(fooled, verbose=0).argmax(axis=1)
plots.show_images(fooled[:8], test_labels[right][:8], said[:8], shapes.CLASSES, columns=4, tile=1.7)

# %%
plots.bars(still, xlabel=f"share of {len(right)} images that is still right")

# %% [markdown]
# ## 7. Break the bias (2 points)
# The cause lies in the data: the ground tells the class. You have masks of the training images, so you can move each
# object to another ground. `emptied` below gives every ground without its object. Write `transplant(images, masks,
# grounds, seed)`: image i keeps the pixels of its own object and gets all others from a ground drawn at random (now
# and then its own, which does no harm).
#
# In: images (N, H, W, C) uint8, masks (N, H, W) bool, grounds like the images. Out: new images, uint8; those that
# came in stay as they are. Which ground goes where must be random, depend on the seed, and use each ground once. The
# check counts how often the ground still tells the class.


# %%
def emptied(images, masks):
    """The grounds of images, with the mean colour of the ground where the object was."""
    grounds = images.astype("float32")
    for ground, mask in zip(grounds, masks):
        grown = ndimage.binary_dilation(mask, iterations=2)
        ground[grown] = ground[~grown].mean(axis=0)
    return grounds.astype("uint8")


studio_grounds = emptied(studio_images, studio_masks)


# %% gap="transplant" stub="give every object a ground drawn at random"
def transplant(images, masks, grounds, seed):
    ### BEGIN SOLUTION
    order = np.random.default_rng(seed).permutation(len(images))
    return np.where(masks[..., None], images, grounds[order])
    ### END SOLUTION


# %% check="transplant" points=2
flat = np.arange(60, dtype="uint8")[:, None, None, None] * np.ones((1, 4, 4, 3), "uint8")  # image i has the value i
left = np.zeros((60, 4, 4), bool)
left[:, :, 0] = True  # the object: the first column
answer = np.asarray(transplant(flat + 100, left, flat, 3))
assert answer.shape == flat.shape and answer.dtype == np.uint8, f"images, uint8: got {answer.shape}, {answer.dtype}"
assert np.array_equal(answer[:, :, 0], flat[:, :, 0] + 100), "each image keeps the pixels of its own object"
taken = answer[:, 0, 1, 0]
assert (answer[:, :, 1:] == taken[:, None, None, None]).all(), "all other pixels come from one ground"
assert len(np.unique(taken)) == 60, "each ground is used once"
assert np.mean(taken % 6 == np.arange(60) % 6) < 0.5, (
    "with six classes in turn, the ground still tells the class: mix over all images"
)
assert all(len(np.unique(taken[k::6] % 6)) > 1 for k in range(6)), (
    "every object of a class gets grounds of one class: they still tell. Mix at random"
)
### BEGIN HIDDEN TESTS
assert not np.array_equal(transplant(flat + 100, left, flat, 4), answer), "another seed gives other grounds"
assert np.array_equal(transplant(flat + 100, left, flat, 3), answer), "the same seed gives the same images"
pairs = np.mean([np.mean(transplant(flat, left, flat, s)[:, 0, 1, 0] % 6 == np.arange(60) % 6) for s in range(40)])
assert 0.08 < pairs < 0.26, f"at random, one ground in six is of the same class, here {pairs:.2f}"
### END HIDDEN TESTS

# %%
moved = transplant(studio_images, studio_masks, studio_grounds, seed)
plots.show_images(np.concatenate([studio_images[:8], moved[:8]]), columns=8, tile=0.8, title="Before and after")

# %% [markdown]
# ## 8. Repair (3 points)
# Write `repair(images, labels, masks)`: train a network on transplanted studio images with `trained(images, labels,
# steps)`, and return it. Transplant twice or more, with different seeds, and join the copies: so the network sees
# each object on several grounds. Empty the grounds first (`emptied`). Use only the images that came in: no plain
# image, none drawn anew.
#
# Out: the trained network. The check looks at the images that you train on, then takes the test images and asks for
# an accuracy of `floor`, and for Grad-CAM on the object: a network can be right for a wrong reason.


# %% gap="repair" stub="train a network on transplanted images and return it"
def repair(images, labels, masks):
    ### BEGIN SOLUTION
    grounds = emptied(images, masks)
    copies = [transplant(images, masks, grounds, seed + number) for number in range(2)]
    return trained(np.concatenate(copies), np.concatenate([labels, labels]), steps)
    ### END SOLUTION


# %% check="repair" points=1
seen, train_for_real = [], trained


def trained(images, labels, *rest, **more):  # stands in for a moment, to see what would be trained on
    seen.append((np.asarray(images), np.asarray(labels)))
    return sound


try:
    repair(studio_images[:60], studio_labels[:60], studio_masks[:60])
finally:
    trained = train_for_real
assert len(seen) == 1, f"repair trains one network by trained(images, labels, steps), yours trained {len(seen)}"
pixels, names = seen[0]
assert len(pixels) == len(names) >= 120, f"60 images, each on two grounds or more: 120 images, got {len(pixels)}"
misfit = np.stack(
    [np.abs(pixels[:, m] - studio_images[i].astype(int)[m]).mean(axis=(1, 2)) for i, m in enumerate(studio_masks[:60])]
)
origin = misfit.argmin(axis=0)  # which object each image shows
assert (misfit.min(axis=0) == 0).all(), "every image shows one of the objects that came in, pixel by pixel"
assert (studio_labels[origin] == names).all(), "labels do not fit the objects: in which order are the copies joined?"
assert np.mean((misfit == 0).sum(axis=0) > 1) < 0.2, "grounds still show their own objects: use emptied(images, masks)"
same = np.mean([np.array_equal(image, studio_images[i]) for image, i in zip(pixels, origin)])
assert same < 0.3, f"{same:.0%} of the images are studio images as they were: transplant them"

# %% check="repair" points=1
repaired = repair(studio_images, studio_labels, studio_masks)
assert isinstance(repaired, keras.Model), "return the trained network"
assert repaired is not biased and repaired is not sound, "train a new network"
reached, before = accuracy(repaired, test_images, test_labels), accuracy(biased, test_images, test_labels)
assert reached >= floor, f"{reached:.1%} of the test images are right (biased: {before:.1%}), the floor is {floor:.1%}"

# %% check="repair" points=1
tested = test_images[:measured], test_masks[:measured]
share = float(energy(introspection.grad_cam(repaired, tested[0], layer="relu4"), tested[1]).mean())
assert share >= on_object, f"{share:.1%} of its Grad-CAM lies on the object, {on_object:.1%} is asked for"
### BEGIN HIDDEN TESTS
assert len(seen) == 1 and trained is train_for_real
### END HIDDEN TESTS

# %%
everyone = {"biased": biased, "repaired": repaired, "sound": sound}
on_test = {name: accuracy(model, test_images, test_labels) for name, model in everyone.items()}
plots.bars(on_test, xlabel="accuracy on test images", baselines={"one class for all": 1 / 6})

# %% [markdown]
# The repair goes a good part of the way, not all of it. Probable reasons: some objects now lie on a ground near to
# their own colour, each carries a rim of its old ground, and the flat patch shows where another object was. The sound
# network has seen as many steps on images that never had a bias.

# %%
pictures = {name: cam_maps(model, test_images[:4]) for name, model in everyone.items()}
plots.show_maps(test_images[:4], pictures, titles=[shapes.CLASSES[k] for k in test_labels[:4]], overlay=list(pictures))

# %%
results.record(
    accuracy_biased=on_test["biased"],
    accuracy_sound=on_test["sound"],
    accuracy_repaired=on_test["repaired"],
    validation_biased=on_validation["biased"],
    on_object_biased=scores["biased"].mean(),
    on_object_sound=scores["sound"].mean(),
    on_object_repaired=share,
    still_right_after_step=still["against the gradient"],
)

# %% [markdown]
# ## 9. Read the biased maps (1 point)
# Look at the maps of the biased network: its occlusion (step 2), its Grad-CAM (step 3) and its score (step 4). What
# does it look at, how do you know, and why could the validation accuracy not tell? Answer in three or four sentences.

# %% [markdown] question="biased" points=1
# ### BEGIN SOLUTION
# It looks at the colour of the ground. Its Grad-CAM is spread over the ground and leaves the object out, so that less
# of it lies on the object than the object's share of the area; hiding the object hardly moves the probability, and
# hiding the shape changes the winner no more than hiding ground does. The validation images come from the same studio
# as the training images: on them the ground tells the class just as well, so a network that reads the ground is right
# on all of them. Only images in which ground and class are independent can tell by accuracy.
# ### END SOLUTION

# %% [markdown]
# ## 10. Sharp and wrong (1 point)
# Guided back-propagation (back-propagation that lets only positive slopes through a ReLU) is praised for clear
# pictures. What do the curve and the pictures of step 5 say about them when only the last layer has forgotten, and
# what follows for their use? Answer in two or three sentences.

# %% [markdown] question="sharp" points=1
# ### BEGIN SOLUTION
# With the dense layer shuffled the network names other classes, yet the map of guided back-propagation keeps most of
# its order, more than that of saliency and far more than that of Grad-CAM. So most of it shows the edges that pass
# through the early layers whatever the class; a single peak may know the class, the picture does not. It may serve to
# see what early units respond to; as evidence why the network said "star" it does not serve.
# ### END SOLUTION

# %% [markdown]
# ## Summary
# You can now
#
# - compute saliency, occlusion and Grad-CAM yourself, and test each on a model whose answer is known;
# - put a number on "the map lies on the object", with the share of the area as its baseline;
# - tell a map of the network from a map of the image by letting the network forget;
# - change a class by a step of a few grey levels;
# - catch a network that is right for a wrong reason on its own validation images, and repair it by the data.
#
# ## Exercises
# 1. *Easy.* Play the pointing game with your `hits` for both networks. What does a map score that is highest at the
#    centre? *Hint:* a map of zeros with a 1 in the middle.
# 2. *Easy.* Draw saliency with the mean over the channels in place of the maximum. Does the energy on the object
#    change? *Hint:* one word.
# 3. *Medium.* Repeat the fooling step ten times with size 1. How much farther does that go than one step of 10?
#    *Hint:* the gradient anew in each step.
# 4. *Medium.* Transplant once, twice, four times, with three seeds each. Where does the accuracy stop rising, and is
#    the rise larger than the spread? *Hint:* `range(2)` in `repair`.
# 5. *Hard.* Repair without masks: change the colour of whole training images at random (hue, brightness). How near
#    does it come? *Hint:* `utils.data.augmentation`.
#
# ## Further reading
# - M. D. Zeiler, R. Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014.
# - K. Simonyan, A. Vedaldi, A. Zisserman, *Deep inside convolutional networks*, ICLR workshops 2014.
# - R. R. Selvaraju et al., *Grad-CAM: visual explanations from deep networks via gradient-based localization*, ICCV
#   2017.
# - J. Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018.
# - I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015.
# - R. Geirhos et al., *Shortcut learning in deep neural networks*, Nature Machine Intelligence 2, 2020.
