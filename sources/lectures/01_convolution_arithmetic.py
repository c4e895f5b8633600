# %% [markdown]
# # 01 Convolution arithmetic
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/lectures/01_convolution_arithmetic.ipynb)
#
# **What can nine numbers do with a photograph?** A dense layer that turned a grey picture of 384 × 384 pixels into
# another one of the same size would need 21,743,271,936 weights. The picture that this notebook draws first is made
# from the same pixels with nine. The rest of the notebook is about what such a small filter computes, how large its
# output is, how far it sees, and what it costs.
#
# You will be able to
#
# - work a convolution by hand, over several channels and with several filters, and check it against Keras;
# - say how large the output is for any filter, stride, padding and dilation, and see which pixels are never read;
# - write a convolution as a matrix, and read from its transpose the gradient and the transposed convolution;
# - compute the gradient of a filter, and learn a filter from pairs of images;
# - follow what a unit sees through a network, in theory and in fact;
# - count the parameters, the multiply-accumulates and the memory of a network, and find the errors in printed counts.
#
# It takes about ninety minutes to read and less than two minutes to run.
#
# Boxes that begin with **What the slide says** quote widely used lecture decks, whose figures and sentences are copied
# from course to course. Each box gives the words as they are printed, computes what is right, and says where the
# mistake lies.

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
image: str = "coffee"  # {astronaut, chelsea, coffee, rocket} the photograph
inputs: int = 100  # [1, 1000] random inputs for the effective receptive field

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keras import layers, ops
from skimage import data, transform

from utils import arithmetic, introspection, plots
from utils.results import record
from utils.session import start

start(seed)

# %% [markdown]
# The photograph is cut to a square of 384 × 384 pixels with values from 0 to 1. Its grey version weighs red, green
# and blue as the eye does.

# %%
picture = getattr(data, image)()
side = min(picture.shape[:2])
top, left = (np.array(picture.shape[:2]) - side) // 2
square = picture[top : top + side, left : left + side]
photo = transform.resize(square, (384, 384), anti_aliasing=True).astype(
    "float32",
)  # (384, 384, 3)
grey = photo @ np.array([0.2125, 0.7154, 0.0721], "float32")  # (384, 384)

# %% [markdown]
# Now the nine numbers. We lay the small matrix on every 3 × 3 window of the grey picture, multiply each pixel by the
# number above it, and add the nine products. Red means that the picture gets brighter from left to right, blue that it
# gets darker, white that it does not change.

# %% tags=["thumbnail"]
nine = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
edges = arithmetic.conv2d(grey, nine)

figure, axes = plt.subplots(1, 3, figsize=(8, 3.4), width_ratios=(3, 1.1, 3))
axes[0].imshow(grey, vmin=0, vmax=1)
axes[0].set_title("147,456 pixels")
plots.number_matrix(nine, title="9 numbers", shade="RdBu_r", ax=axes[1])
axes[2].imshow(edges, cmap="RdBu_r", vmin=-2, vmax=2)
axes[2].set_title("what they see")
for ax in axes[::2]:
    ax.set_axis_off()

# %% [markdown]
# ## Where it comes from
#
# Seventy years lie behind that picture. The dates are those of the publications listed at the end.

# %%
plots.timeline(
    {
        1957: "perceptron\n(Rosenblatt)",
        1959: "oriented cells in the\ncat's visual cortex\n(Hubel & Wiesel)",
        1980: "NeoCognitron\n(Fukushima)",
        1986: "back-propagation\n(Le Cun 1985; Rumelhart,\nHinton & Williams)",
        1989: "TDNN (Waibel et al.)\nzip codes (LeCun et al.)",
        1998: "LeNet-5\n(LeCun et al.)",
    }
)

# %% [markdown]
# **1957.** Rosenblatt's perceptron forms one weighted sum and compares it with a threshold. When it errs, the input
# is added to the weights or subtracted from them. Let it tell a vertical bar from a horizontal one in a 3 × 3 window.
# If the bars always cross the centre, it should succeed at once. If they may stand anywhere, it cannot. The reason: the
# three vertical bars add up to a picture of ones, and so do the three horizontal ones. So the three weighted sums of
# the vertical bars have the same total as those of the horizontal bars. They cannot all lie above the threshold while
# the others all lie below it. We expect 0 errors, then at least 1.


# %%
def perceptron(patches, answers, passes=100):
    """Rosenblatt's rule: weights (3, 3), and the errors of the last pass.

    Patches (N, 3, 3) with answers +1 or -1.
    """
    weights, bias = np.zeros((3, 3)), 0
    for _ in range(passes):
        errors = 0
        for patch, answer in zip(patches, answers):
            if answer * ((weights * patch).sum() + bias) <= 0:
                weights, bias, errors = (
                    weights + answer * patch,
                    bias + answer,
                    errors + 1,
                )
    return weights, errors


# %% tags=["nbval-check-output"]
rows = np.eye(3)[:, :, None] * np.ones((1, 1, 3))  # a horizontal bar in row 0, 1, 2
bars = np.concatenate([rows.transpose(0, 2, 1), rows])  # three vertical ones first
answers = np.array([1, 1, 1, -1, -1, -1])

weights, errors = perceptron(bars[[1, 4]], answers[[1, 4]])
print(
    "through the centre:",
    errors,
    "errors in the last pass, weights",
    weights.astype(int).tolist(),
)
print("anywhere:          ", perceptron(bars, answers)[1], "errors in the last pass")

# %%
titles = [f"vertical {i}" for i in range(3)] + [f"horizontal {i}" for i in range(3)]
figure, axes = plt.subplots(1, 7, figsize=(8, 1.6))
for ax, bar, title in zip(axes, bars, titles):
    plots.number_matrix(bar, title=title, shade="RdBu_r", ax=ax)
plots.number_matrix(weights, title="weights found", shade="RdBu_r", ax=axes[6])

# %% [markdown]
# **1959.** Hubel and Wiesel found cells in the cat's visual cortex that answer to a bar of one orientation at one
# place. Such a *simple* cell is a weighted sum again, set to zero where it is negative. **1980.** Fukushima's
# NeoCognitron puts many copies of one simple cell side by side, and each looks at another place. Above them stands a
# *complex* cell, which answers when any of them does. Filter, then pool: this tells the bars apart wherever they stand.
# We expect 6 of 6.


# %% tags=["nbval-check-output"]
def complex_cell(patch, simple):
    """Largest rectified response of a simple cell over all places of a patch."""
    responses = arithmetic.conv2d(patch, simple)
    return np.maximum(responses, 0).max()


vertical = np.array(
    [[1], [1], [1]],
)  # a column of three pixels: the simple cell for vertical bars
decisions = []
for bar in bars:
    difference = complex_cell(bar, vertical) - complex_cell(bar, vertical.T)
    decisions.append(int(np.sign(difference)))
print(decisions, "right:", sum(decisions == answers), "of 6")

# %% [markdown]
# The two kinds of cell on a finer bar. If the bar turns away from the cell's own orientation, the simple cell falls
# silent. If the bar moves sideways, the simple cell falls silent, too. The complex cell takes the largest answer of
# nine shifted copies, so it hardly changes.


# %%
def bar(angle, offset=0.0, size=25):
    """A bright bar (size, size), turned by degrees and moved sideways by pixels."""
    y, x = np.mgrid[:size, :size] - size // 2
    distance = x * np.sin(np.radians(angle)) - y * np.cos(np.radians(angle)) - offset
    return np.exp(-((distance / 1.5) ** 2)) * (np.hypot(x, y) <= size // 2)


cell = bar(90) - bar(90).mean()  # likes a vertical bar, dislikes uniform light
shifted = [np.roll(cell, step, axis=1) for step in range(-4, 5)]
angles, offsets = np.arange(0, 181, 5), np.arange(-4, 4.5, 0.5)
tuning = np.array([max((cell * bar(angle)).sum(), 0) for angle in angles])
simple = np.array([max((cell * bar(90, offset)).sum(), 0) for offset in offsets])
pooled = np.array(
    [max((one * bar(90, offset)).sum() for one in shifted) for offset in offsets],
)

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), width_ratios=(1, 1.4, 1.4))
axes[0].imshow(cell, cmap="RdBu_r", vmin=-1, vmax=1)
axes[0].set_title("the simple cell's weights")
axes[0].set_axis_off()
axes[1].plot(angles, tuning / tuning.max(), color=plots.BLUE)
axes[1].set(
    xlabel="angle of the bar, degrees",
    ylabel="response",
    xticks=[0, 45, 90, 135, 180],
)
axes[2].plot(offsets, simple / simple.max(), color=plots.BLUE, label="simple")
axes[2].plot(offsets, pooled / simple.max(), color=plots.VERMILLION, label="complex")
axes[2].set(xlabel="place of the bar, pixels", ylim=(-0.05, 1.25))
axes[2].legend(loc="upper center", ncols=2, fontsize=9)

# %% [markdown]
# **1985-86.** Back-propagation showed how to *learn* the weights below the top layer. **1989.** Two networks combined
# it with copies of one filter. The time-delay neural network (TDNN) hears 15 frames of 16 spectral values; its first
# layer looks at 3 frames at a time, with the same weights at each of 13 times: 3 · 16 · 8 + 8 = 392 parameters.
#
# The zip code reader looks at 16 × 16 pixels with 5 × 5 filters that move by two pixels: 12 maps of 8 × 8, then 12
# maps of 4 × 4 (each unit connected to 8 maps below), 30 units, 10 units. The weights of a map are shared, the biases
# are not. The paper counts 64,660 connections and 9,760 free parameters. We count them again: for each layer, units ·
# (inputs + bias), and weights + biases.

# %% tags=["nbval-check-output"]
tdnn = keras.Sequential([keras.Input((15, 16)), layers.Conv1D(8, 3)])
print("TDNN, first layer:", tdnn.output_shape[1:], f"{tdnn.count_params()} parameters")

h1, h2 = 12 * 8 * 8, 12 * 4 * 4  # units of the two layers of maps
connections = h1 * (25 + 1) + h2 * (8 * 25 + 1) + 30 * (h2 + 1) + 10 * (30 + 1)
parameters = (12 * 25 + h1) + (12 * 8 * 25 + h2) + 30 * (h2 + 1) + 10 * (30 + 1)
print(f"zip codes: {connections:,} connections, {parameters:,} free parameters")

# %% [markdown]
# Sharing weights removes 85 % of the numbers to be learned. **1998.** LeNet-5, its successor, read cheques; topic 03
# rebuilds it.
#
# ## Filtering an image by hand
#
# Different filters show different things. Here are six 3 × 3 filters of old image processing; a network learns its
# own.

# %%
bank = {
    "blur": np.ones((3, 3)) / 9,
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "vertical edges": nine,
    "horizontal edges": nine.T,
    "diagonal edges": np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]),
    "spots (Laplace)": np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]]),
}
kernels = np.stack(list(bank.values()), axis=-1)[
    :,
    :,
    None,
]  # (3, 3, 1, 6), Keras's layout
maps = arithmetic.conv2d(grey[..., None], kernels)  # (382, 382, 6)

# %%
figure, axes = plt.subplots(2, 6, figsize=(8, 3), height_ratios=(1, 1.6))
for index, name in enumerate(bank):
    plots.number_matrix(bank[name], title=name, shade="RdBu_r", ax=axes[0, index])
    signed = index > 1  # a response that may be negative
    axes[1, index].imshow(
        maps[96:288, 96:288, index],
        cmap="RdBu_r" if signed else "gray",
        vmin=-signed,
        vmax=1,
    )
    axes[1, index].set_axis_off()

# %% [markdown]
# ### Correlation and convolution
#
# What we have computed is called *correlation* in signal processing:
#
# $$y[i, j] = \sum_{a, b} x[i + a, j + b]\, w[a, b].$$
#
# *Convolution* has $x[i - a, j - b]$: the filter is turned by 180 degrees before it is laid on the image. A single
# bright pixel tells them apart: convolution answers with the filter as it is, correlation with the filter turned
# round. Keras's `Conv2D` computes the correlation and calls it convolution, and so do TensorFlow, PyTorch and JAX.
# (Theano, an early library, turned the filter round by default.) A network learns its filters, so for a network the
# difference does not matter. It matters if you copy a filter from a textbook.

# %%
from scipy.signal import convolve2d

letter = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
point = np.zeros((5, 5))
point[2, 2] = 1
correlated = ops.convert_to_numpy(
    ops.conv(point[None, :, :, None], letter[:, :, None, None].astype("float64")),
)[0, ..., 0]
convolved = convolve2d(point, letter, mode="valid")
plots.number_equation(
    [point, "and", letter, ":", correlated, "or", convolved],
    titles={
        0: "one bright pixel",
        2: "filter",
        4: "Keras's conv",
        6: "SciPy's convolve2d",
    },
)

# %% [markdown]
# In a strict convolution the image and the filter may change places; in a correlation they may not. In full size
# (every overlap counts), we expect True, then False.


# %% tags=["nbval-check-output"]
def full_correlation(x, w):
    """Correlation at every position where `w` overlaps `x`."""
    return arithmetic.conv2d(np.pad(x, len(w) - 1), w)


a, b = letter, np.array([[0, 1, 0], [2, 0, 0], [0, 0, 3]])
print("convolution commutes:", np.array_equal(convolve2d(a, b), convolve2d(b, a)))
print(
    "correlation commutes:",
    np.array_equal(full_correlation(a, b), full_correlation(b, a)),
)

# %% [markdown]
# ### Equivariance to shifts
#
# Move the image, and the map of responses moves along. That is *equivariance*: shift, then filter = filter, then
# shift. Two things spoil it. Near the border the window reads zeros that do not move with the image. And with a
# stride of 2, a map cannot move by half a pixel: only shifts by multiples of the stride come through. So we predict,
# away from the border: equal for every shift at stride 1, equal for shifts by 2 and 4 at stride 2, different for 1
# and 3; and different everywhere once the border counts.


# %%
def shift_difference(shift, stride):
    """|filter(shifted image) - shifted filter(image)|, 128 x 128, with zero padding."""
    views = (grey[100:228, column : column + 128] for column in (100, 100 + shift))
    still, moved = (arithmetic.conv2d(view, nine, s=stride, p=1) for view in views)
    steps = shift // stride
    return np.abs(still[:, steps:] - moved[:, : moved.shape[1] - steps])


# %% tags=["nbval-check-output"]
for stride in (1, 2):
    for shift in (1, 2, 3, 4):
        difference = shift_difference(shift, stride)
        inside = "equal" if difference[1:-1, 1:-1].max() == 0 else "different"
        border = "equal" if difference.max() == 0 else "different"
        print(
            f"stride {stride}, shift {shift}:",
            f"inside {inside:9}  with the border {border}",
        )

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.9))
for ax, (stride, shift) in zip(axes, [(1, 3), (2, 2), (2, 1)]):
    drawn = ax.imshow(shift_difference(shift, stride), cmap="viridis", vmin=0, vmax=2)
    ax.set_title(f"stride {stride}, shifted by {shift}")
    ax.set_axis_off()
scale = figure.colorbar(drawn, ax=axes, label="difference", shrink=0.8)

# %% [markdown]
# > **What the slide says.** "Translation invariant." Invariant would mean that the output stays the same when the
# > image moves. It does not: the output moves along, which is *equivariance*. Invariance comes later, from pooling: the
# > mean of the whole map hardly changes with the shift. We compute the change of both, as a share of the map's own
# > size.

# %%
views = (grey[100:228, column : column + 128] for column in (100, 104))
still, moved = (arithmetic.conv2d(view, nine) for view in views)
map_change = np.abs(still - moved).mean() / np.abs(still).mean()
print(
    f"the map changes by       {map_change:.0%}",
)
strength, strength_moved = np.abs(still).mean(), np.abs(moved).mean()
print(f"its mean size changes by {abs(strength - strength_moved) / strength:.1%}")

# %% [markdown]
# ### Locality and weight sharing
#
# A convolution differs from a dense layer in two ways: each output looks at a small window only (*locality*), and all
# outputs of one map use the same weights (*weight sharing*). Take a colour image of 32 × 32 and six maps of 28 × 28,
# made by 5 × 5 windows. Weights without biases: dense, (32 · 32 · 3) · (28 · 28 · 6) = 14,450,688; local but not
# shared, (28 · 28 · 6) · (5 · 5 · 3) = 352,800; local and shared, 6 · (5 · 5 · 3) = 450.

# %%
window, outputs_ = 5 * 5 * 3, 28 * 28 * 6
ways = {
    "dense": 32 * 32 * 3 * outputs_,
    "local": outputs_ * window,
    "local and shared": 6 * window,
}
figure, ax = plt.subplots(figsize=(8, 1.8))
drawn = ax.barh(list(ways), list(ways.values()), color=plots.PALETTE[:3])
ax.bar_label(drawn, [f"{count:,}" for count in ways.values()], padding=4)
ax.set(
    xscale="log",
    xlim=(100, 3e8),
    xlabel="weights, each grid line ten times the one before",
)
ax.set_title("32 × 32 × 3 in, 28 × 28 × 6 out")
ax.invert_yaxis()

# %% [markdown]
# What about a "column" of outputs, all maps at one place? They look at one and the same region of the image, for
# different things. Here is the window where the vertical edge is strongest, and what each of the six filters says
# about it.

# %%
row, column = np.unravel_index(np.argmax(np.abs(edges)), edges.shape)
figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), width_ratios=(1, 0.8, 1.6))
axes[0].imshow(grey, vmin=0, vmax=1)
axes[0].add_patch(
    plt.Rectangle(
        (column - 10, row - 10),
        23,
        23,
        fill=False,
        edgecolor=plots.ORANGE,
        linewidth=2,
    )
)
axes[0].set_title("where")
axes[0].set_axis_off()
plots.number_matrix(
    grey[row : row + 3, column : column + 3],
    title="the 3 × 3 pixels",
    ax=axes[1],
)
axes[2].barh(list(bank), maps[row, column], color=plots.BLUE)
axes[2].invert_yaxis()
axes[2].set(title="one column of outputs", xlabel="response")
axes[2].axvline(0, color=plots.BLACK, linewidth=0.8)

# %% [markdown]
# ## Convolution over channels
#
# A colour image has three channels, and so has the filter: 3 × 3 × 3 numbers. The products are summed over rows,
# columns *and channels*, and one bias is added, so one filter gives one number at each place. In the language of
# tensors, three indices are contracted: $y = \sum_{a, b, c} x[a, b, c]\, w[a, b, c] + \text{bias}$.
#
# Worked by hand, on the top left corner of an image with zero padding: we expect 308 from red, −498 from green, 164
# from blue, and with the bias of 1 the sum −25.

# %%
patch = np.array(
    [
        [[0, 0, 0], [0, 156, 155], [0, 153, 154]],  # red
        [[0, 0, 0], [0, 167, 166], [0, 164, 165]],  # green
        [[0, 0, 0], [0, 163, 162], [0, 160, 161]],  # blue
    ]
)
weights = np.array(
    [
        [[-1, -1, 1], [0, 1, -1], [0, 1, 1]],
        [[1, 0, 0], [1, -1, -1], [1, 0, -1]],
        [[0, 1, 1], [0, 1, 0], [1, -1, 1]],
    ]
)
products = patch * weights  # (channel, 3, 3)

# %%
figure, axes = plt.subplots(3, 3, figsize=(7, 5.4))
for channel, name in enumerate(["red", "green", "blue"]):
    plots.number_matrix(patch[channel], title=f"{name}: pixels", ax=axes[channel, 0])
    plots.number_matrix(
        weights[channel],
        title="weights",
        shade="RdBu_r",
        ax=axes[channel, 1],
    )
    total = products[channel].sum()
    plots.number_matrix(
        products[channel],
        title=f"products, sum {total}".replace("-", "−"),
        shade="RdBu_r",
        ax=axes[channel, 2],
    )

# %% [markdown]
# The sum over all three, written as a contraction, and once more by Keras, which wants the channels last:

# %% tags=["nbval-check-output"]
print(
    "by channel:",
    products.sum(axis=(1, 2)).tolist(),
    " with the bias:",
    products.sum() + 1,
)
print("contracted:", np.einsum("cab,cab->", patch, weights) + 1)

x = np.moveaxis(patch, 0, -1)[None].astype(
    "float32",
)  # (1, 3, 3, 3): batch, row, column, channel
w = np.moveaxis(weights, 0, -1)[..., None].astype(
    "float32",
)  # (3, 3, 3, 1): row, column, channel, filter
print("Keras:     ", int(ops.conv(x, w)[0, 0, 0, 0]) + 1)

# %% [markdown]
# ## Several filters
#
# Each filter makes one map; K filters make a volume of depth K. Six filters of 5 × 5 × 3 on an image of 32 × 32 × 3:
# a 5 × 5 window fits at 32 − 5 + 1 = 28 places along each side, so we expect 28 × 28 × 6, from 6 · (5 · 5 · 3 + 1) =
# 456 parameters.

# %%
small = transform.resize(photo, (32, 32), anti_aliasing=True)
six = layers.Conv2D(6, 5, kernel_initializer=keras.initializers.RandomNormal(seed=seed))
volume = ops.convert_to_numpy(six(small[None]))[0]
assert volume.shape == (28, 28, 6) and six.count_params() == 456
plots.show_feature_maps(volume, image=small, columns=7)

# %% [markdown]
# ### A convolution in full
#
# The input has three channels of 5 × 5, padded by one ring of zeros; two filters of 3 × 3 × 3 move by two pixels at a
# time; their biases are 1 and 0. With padding the input is 7 wide, so the window stands at 0, 2 and 4: the output is
# 3 × 3 × 2.


# %%
def matrices(text):
    """Matrices from text: rows parted by /, channels by |; the channel comes last."""
    parted = [part.split("/") for part in text.split("|")]
    channels = [[list(map(int, row.split())) for row in part] for part in parted]
    return np.moveaxis(np.array(channels), 0, -1)


x = matrices(
    "1 2 0 0 0 / 2 2 0 0 0 / 2 2 2 1 0 / 1 0 0 2 0 / 1 1 0 1 0 |"
    "1 0 0 1 0 / 1 0 0 0 1 / 0 0 1 2 0 / 0 1 0 1 0 / 1 1 1 1 2 |"
    "0 0 2 2 2 / 1 2 2 2 0 / 1 1 1 1 0 / 1 2 0 0 0 / 2 2 2 1 0"
)  # (5, 5, 3)
w0 = matrices(
    "0 0 -1 / -1 0 0 / -1 -1 -1 | 1 1 -1 / 0 0 0 / -1 1 1 | -1 -1 -1 / 0 1 1 / 0 -1 0",
)
w1 = matrices(
    "-1 0 0 / 1 -1 -1 / 0 0 -1 | -1 0 1 / 1 -1 1 / -1 0 1 |-1 -1 -1 / -1 1 -1 / 0 1 -1",
)
w, biases = np.stack([w0, w1], axis=-1), np.array([1, 0])  # (3, 3, 3, 2), (2,)

# %% tags=["nbval-check-output"]
output = arithmetic.conv2d(x, w, s=2, p=1) + biases  # (3, 3, 2)
print("filter 0:", output[..., 0].tolist())
print("filter 1:", output[..., 1].tolist())

layer = layers.Conv2D(2, 3, strides=2)
padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))[None].astype("float32")
layer.build(padded.shape)
layer.set_weights([w, biases])
print("Keras agrees:", np.array_equal(layer(padded)[0], output))

# %% [markdown]
# We follow the window. First all nine positions of filter 0 side by side: above, the three channels of the input (zeros
# are white); below, the output that fills step by step.

# %%
plots.window_strip(x, output[..., 0], f=3, s=2, p=1)

# %% [markdown]
# The same in numbers and in motion, with both filters. Stop at one position and work it out: products of the three
# windows with the three slices of a filter, 27 in all, plus the bias.

# %%
plots.moving_window(x, w, biases, s=2, p=1)

# %% [markdown]
# ## How large is the output?
#
# Count positions. A filter of $f$ on a padded input of $n + 2p$ starts at 0, at $s$, at $2s$, ..., as long as it ends
# inside:
#
# $$\left\lfloor \frac{n + 2p - f}{s} \right\rfloor + 1.$$
#
# If the division leaves a remainder, one says that the filter "does not fit". Nothing breaks: the last position is
# left out, and as many pixels as the remainder are never read (with a stride above f, also those between the
# windows). For n 6, f 3, s 2 the fraction gives 2.5, for n 7, f 3, s 3 it gives 2.33, and n 5, f 3, s 2 fits with 2.

# %% tags=["nbval-check-output"]
for n, f, s in [(6, 3, 2), (7, 3, 3), (5, 3, 2)]:
    starts = list(range(0, n - f + 1, s))
    print(
        f"n {n}, f {f}, s {s}: {(n - f) / s + 1:.2f} ->",
        f"{arithmetic.output_size(n, f, s)} outputs, starting at {starts}",
    )

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 1.5), width_ratios=(8.5, 9.5, 7.5))
for ax, (n, f, s) in zip(axes, [(6, 3, 2), (7, 3, 3), (5, 3, 2)]):
    plots.window_positions(n, f, s, title=f"n = {n}, f = {f}, s = {s}", ax=ax)

# %% [markdown]
# > **What the slide says.** For n 5, f 3, s 2 one deck writes "5/2 + 1". It has dropped the filter's size:
# > (5 − 3)/2 + 1 = 2. The printed expression is 3.5 and would be rounded to 3, one position too many, as the third
# > picture shows.
#
# ### "valid" and "same" in Keras
#
# Keras knows two kinds of padding by name. *valid*: none. *same*: as many zeros as make the output $\lceil n / s
# \rceil$ long. At stride 1 and odd f that is (f − 1)/2 on both sides. At stride 2 the number of zeros may be odd, and
# the odd one goes to the end: a 3-filter on 6 pixels gets none before and one after. Most papers and some libraries pad
# by 1 on both sides instead. This gives the same number of outputs, at other places.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2), width_ratios=(9.5, 10.5))
plots.window_positions(
    6,
    3,
    2,
    arithmetic.same_padding(6, 3, 2),
    title='Keras, "same": 0 before, 1 after',
    ax=axes[0],
)
plots.window_positions(6, 3, 2, 1, title="padding 1: 1 before, 1 after", ax=axes[1])

# %% [markdown]
# Does it matter? A filter of three ones on the pixels 1 to 6 must give 1 + 2 + 3 = 6 first under "same", and 0 + 1 +
# 2 = 3 first under padding 1. Weights trained under one convention and run under the other see everything moved by a
# pixel.

# %% tags=["nbval-check-output"]
pixels, ones = np.arange(1.0, 7).reshape(1, 6, 1), np.ones((3, 1, 1))
for name, array, padding in [
    ("valid", pixels, "valid"),
    ("same", pixels, "same"),
    ("padding 1", np.pad(pixels, ((0, 0), (1, 1), (0, 0))), "valid"),
]:
    values = ops.convert_to_numpy(
        ops.conv(array, ones, strides=2, padding=padding),
    ).ravel()
    print(f"{name:10}", values.astype(int).tolist())

# %% [markdown]
# ### Down, not up
#
# One deck's text rounds the fraction *up*. Its example, 5 × 5 with k 3, p 1, s 2, hides the mistake: (5 + 2 − 3)/2 =
# 2 is whole. With 32 × 32, k 5, p 1, s 2 the fraction is 14.5, and the two rules give 15 and 16. We let Keras decide; it
# should say 3 and 15.


# %% tags=["nbval-check-output"]
def keras_size(n, f, s, p, filters=1):
    """Shape that Keras gives for an n x n x 3 input with p zeros on every side."""
    model = keras.Sequential(
        [
            keras.Input((n, n, 3)),
            layers.ZeroPadding2D(p),
            layers.Conv2D(filters, f, strides=s),
        ]
    )
    return model.output_shape[1:]


for n, f, s, p in [(5, 3, 2, 1), (32, 5, 2, 1)]:
    fraction = (n + 2 * p - f) / s
    up, down = int(np.ceil(fraction)) + 1, int(np.floor(fraction)) + 1
    print(
        f"{n} x {n}, k {f}, p {p}, s {s}:",
        f"rounded up {up}, down {down}, Keras {keras_size(n, f, s, p)[0]}",
    )

# %%
plots.window_positions(32, 5, 2, 1)

# %% [markdown]
# Only the zero on the right is left over. A sixteenth window would need one pixel more.
#
# > **What the slide says.** "32 × 32 × 3, 12 filters of 5 × 5, padding 1, stride 2: output 12 × 12 × 12." Putting the
# > *number* of filters where the formula wants their *size* gives it: (32 + 2 − 12)/2 + 1 = 12. With f = 5 it is 15 ×
# > 15 × 12. The number of filters is the depth of the output and nothing else.

# %% tags=["nbval-check-output"]
print("the filters' number for their size:", arithmetic.output_size(32, 12, 2, 1))
print("the filters' size:                 ", keras_size(32, 5, 2, 1, filters=12))

# %% [markdown]
# ### The five numbers: depth, stride, padding, dilation, and the way back
#
# | symbol | what it does |
# |---|---|
# | $K$, number of filters | the depth of the output |
# | $s$, stride | the step between positions: the output is about $s$ times smaller |
# | $p$, padding | zeros on either side: keeps the size, lets the border be read |
# | $d$, dilation | the filter's taps stand $d$ pixels apart, so it is $d(f - 1) + 1$ wide |
# | $n' = (n - 1)s - 2p + d(f - 1) + 1 + \text{output padding}$ | the size after a *transposed* convolution, which undoes the sizes of a convolution |
#
# With dilation the size is $\lfloor (n + 2p - d(f - 1) - 1)/s \rfloor + 1$. A filter of 3 at d 2 is 5 wide, so on 7
# pixels it has 3 places:

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.1), width_ratios=(9.5, 11.5))
plots.window_positions(7, 3, 1, 0, 2, ax=axes[0])
plots.window_positions(7, 3, 2, 1, ax=axes[1])

# %% [markdown]
# A formula is a claim about every case, so we count positions in a thousand cases and compare. We also go forth and
# back. With a stride of $s$, $s$ different input sizes give the same output size. On the way back, the output padding
# 0, 1, ..., $s - 1$ chooses between them.

# %% tags=["nbval-check-output"]
from itertools import product

checked = returned = 0
for n, f, s, p, d in product(range(5, 21), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (1, 2)):
    places = len(range(0, n + 2 * p - d * (f - 1), s))
    if places == 0:
        continue
    size = arithmetic.output_size(n, f, s, p, d)
    assert size == places
    checked += 1
    back = arithmetic.transposed_output_size
    returned += n in [back(size, f, s, p, d, extra) for extra in range(s)]
print(f"{checked} cases agree; {returned} of them are found again on the way back")

# %% tags=["nbval-check-output"]
up = keras.Sequential([keras.Input((7, 7, 1)), layers.Conv2DTranspose(1, 4, strides=2)])
print(
    "7 -> f 4, s 2, p 0:",
    arithmetic.transposed_output_size(7, 4, 2),
    " Keras:",
    up.output_shape[1],
)
print("7 -> f 4, s 2, p 1:", arithmetic.transposed_output_size(7, 4, 2, 1))
print(
    "13 and 14 both give",
    [arithmetic.output_size(n, 3, 2, 1) for n in (13, 14)],
    "with f 3, s 2, p 1;",
)
print(
    "back to",
    [back(7, 3, 2, 1, output_padding=extra) for extra in (0, 1)],
)

# %% [markdown]
# **Typical sizes.** Filters are 3, 5 or 7 wide: odd, so that there is a centre and the padding (f − 1)/2 is whole.
# Strides are 1 (keep the size) or 2 (halve it, rounded up). A stride larger than the filter skips pixels. Larger
# filters are better built from small ones, as we shall see.

# %%
sizes = [
    {
        "f": f,
        "p": (f - 1) // 2,
        **{
            f"n {n}, s {s}": arithmetic.output_size(n, f, s, (f - 1) // 2)
            for n, s in product((224, 55), (1, 2))  # size, stride
        },
    }
    for f in (1, 3, 5, 7)
]
pd.DataFrame(sizes).set_index("f")

# %% [markdown]
# ### Explore
#
# Change n, f, s, p, d and watch the path of the filter (orange, through the centres of its windows), the first window
# (blue), the last one (framed), the pixels that no window reads (hatched), and the output. Without a running kernel,
# this is a still picture.

# %%
plots.explore(
    plots.window_sizes,
    n=(8, 1, 16),
    f=(3, 1, 7),
    s=(2, 1, 4),
    p=(1, 0, 3),
    d=(1, 1, 3),
)

# %% [markdown]
# And what it looks like when nothing fits: a filter of 3 at dilation 4 reaches over 9 pixels.

# %%
plots.window_sizes(n=6, f=3, s=1, p=1, d=4)

# %% [markdown]
# ## A convolution is a matrix
#
# Every output is a weighted sum of pixels, so a convolution is a linear map, and linear maps are matrices. Write the
# image as one long vector, row after row. A 3 × 3 filter on 4 × 4 pixels has 2 × 2 outputs: a matrix $U$ of 4 rows
# and 16 columns, each row holding the nine weights where the window lies and zeros elsewhere.

# %%
kernel = np.array([[1, 4, 1], [1, 4, 3], [3, 3, 1]])
U = arithmetic.convolution_matrix(kernel, (4, 4))  # (4 outputs, 16 inputs)
figure, axes = plt.subplots(1, 2, figsize=(8, 1.7), width_ratios=(3, 16))
plots.number_matrix(kernel, title="filter", shade="RdBu_r", ax=axes[0])
plots.number_matrix(
    U,
    title="U: one row for each output, one column for each pixel",
    shade="RdBu_r",
    ax=axes[1],
)

# %% [markdown]
# Multiplying by $U$ must be the same as moving the window:

# %% tags=["nbval-check-output"]
image_ = np.arange(16).reshape(4, 4)
print("U x:   ", (U @ image_.ravel()).tolist())
print("window:", arithmetic.conv2d(image_, kernel).ravel().tolist())

# %% [markdown]
# On a larger image the structure shows: the same nine weights, each a colour of its own, lie on diagonals. The matrix
# is *banded*, and all but nine numbers of each row are zero. Padding cuts diagonals short where the window hangs over
# the edge; a stride leaves out rows.

# %%
numbered = np.arange(1, 10).reshape(3, 3)
figure, axes = plt.subplots(3, 1, figsize=(8, 9.6), height_ratios=(16, 36, 9))
for ax, (s, p) in zip(axes, [(1, 0), (1, 1), (2, 1)]):
    pattern = arithmetic.convolution_matrix(numbered, (6, 6), s, p)
    plots.weight_pattern(
        pattern,
        title=f"6 × 6 pixels, stride {s}, padding {p}: {pattern.shape}",
        ax=ax,
    )

# %% [markdown]
# Nobody stores this matrix: for one 224 × 224 map it would have 2.5 billion entries, of which 9 in 50,176 are not
# zero. It is a way to think. Two things follow from it at once.
#
# ### The transpose
#
# $U$ takes 16 numbers to 4; $U^T$ takes 4 to 16. It does not undo $U$, it undoes the *shape*. Row by row: each of the
# 4 numbers is multiplied by the filter, laid down where its window was, and what overlaps is added. That is the
# *transposed convolution* (some call it deconvolution, which it is not). For (2, 1, 4, 4) we expect 2 9 6 1 / 6 29 30
# 7 / 10 29 33 13 / 12 24 16 4.

# %% tags=["nbval-check-output"]
four = np.array([[2, 1], [4, 4]])
print("U^T y:   ", (U.T @ four.ravel()).tolist())
print("stamping:", arithmetic.conv2d_transpose(four, kernel).ravel().tolist())
upward = ops.conv_transpose(
    four[None, ..., None].astype("float32"),
    kernel[..., None, None].astype("float32"),
    strides=1,
)
print("Keras:   ", ops.convert_to_numpy(upward).astype(int).ravel().tolist())

# %%
stamps = []
for row, column in np.ndindex(2, 2):
    stamp = np.full((4, 4), np.nan)
    stamp[row : row + 3, column : column + 3] = four[row, column] * kernel
    stamps.append(stamp)
total = np.nansum(stamps, axis=0)
frames = {2 * i: [(*divmod(i, 2), 3, 3)] for i in range(4)}
titles = {2 * i: f"{value} × filter" for i, value in enumerate(four.ravel())} | {
    8: "sum",
}
plots.number_equation(
    [stamps[0], "+", stamps[1], "+", stamps[2], "+", stamps[3], "=", total],
    titles,
    frames,
)

# %% [markdown]
# ### The gradient
#
# If $y = Ux$ and the loss sends back $g = \partial L / \partial y$, then $\partial L / \partial x = U^T g$. So the
# backward pass of a convolution is a transposed convolution with the same filter, and the forward pass of a
# transposed convolution is the backward pass of a convolution. We check by moving each pixel a little. For $L = \sum
# g \cdot y$, the loss is linear, and finite differences are exact up to rounding.


# %% tags=["nbval-check-output"]
def loss(pixels):
    return (four * arithmetic.conv2d(pixels, kernel)).sum()


here = image_.astype(float)
numeric = [loss(here + step.reshape(4, 4)) - loss(here) for step in np.eye(16)]
print("numeric gradient:", np.round(numeric).astype(int).tolist())
print("U^T g:           ", (U.T @ four.ravel()).tolist())

# %% [markdown]
# ### The gradient of the filter
#
# How does the loss change with a weight of the filter? The weight $w[a, b]$ is used at every place: in the output $y[i,
# j]$ it is multiplied by the pixel $x[i + a, j + b]$. So every place has a share in its gradient:
#
# $$\frac{\partial L}{\partial w[a, b]} = \sum_{i, j} g[i, j]\, x[i + a, j + b].$$
#
# This is a correlation again: the input is the image, and the output's gradient $g$ is the filter. On the pixels 0 to
# 15 with $g$ = 2 1 / 4 4, the top left weight meets the pixels 0, 1, 4 and 5, and we expect 2 · 0 + 1 · 1 + 4 · 4 +
# 4 · 5 = 37. We check by moving each weight.


# %% tags=["nbval-check-output"]
def filter_gradient(x, g, f=3):
    """Gradient (f, f) of a filter: input x (H, W), gradient g (h, w) of the output."""
    h, w = g.shape
    taps = [[x[a : a + h, b : b + w] for b in range(f)] for a in range(f)]
    return np.array([[(tap * g).sum() for tap in row] for row in taps])


print("the sum:    ", filter_gradient(image_, four).ravel().tolist())
print("correlation:", arithmetic.conv2d(image_, four).ravel().tolist())
units = np.eye(9).reshape(9, 3, 3)
moved = [(four * arithmetic.conv2d(image_, unit)).sum() for unit in units]
print("moving each:", np.array(moved).astype(int).tolist())

# %% [markdown]
# ### A filter that is learned
#
# Nobody has to know Sobel's nine numbers. Give a computer two pictures, the one before the filter and the one after it,
# and let it find the filter. This is the first learning in this course, and all later ones work like it: compute the
# output, compare it with what was wanted, move each weight against its gradient. The error is the mean of the squared
# differences, so its gradient with respect to an output is 2 · difference / number of outputs.
#
# We learn twice: from a picture of random pixels, and from a piece of the photograph, both with mean 0 and variance 1.
# Which one do you expect to teach the filter sooner?


# %%
def learn(x, y, steps, rate=0.1):
    """A filter (3, 3) that makes y from x, by gradient descent; and the errors."""
    w, errors = np.random.default_rng(seed).normal(0, 0.1, (3, 3)), []
    for _ in range(steps):
        difference = arithmetic.conv2d(x, w) - y
        errors.append((difference**2).mean())
        w = w - rate * filter_gradient(x, 2 * difference / difference.size)
    return w, errors


piece = grey[128:256, 128:256].astype("float64")
before = {
    "random pixels": np.random.default_rng(seed).normal(size=(64, 64)),
    "photograph": (piece - piece.mean()) / piece.std(),
}
learned = {}
for name, pixels in before.items():
    learned[name] = learn(pixels, arithmetic.conv2d(pixels, nine), 100)

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.3), width_ratios=(1, 1, 1, 2.2))
plots.number_matrix(nine, title="wanted", shade="RdBu_r", ax=axes[0])
for ax, (name, (w, errors)) in zip(axes[1:], learned.items()):
    plots.number_matrix(w.round(1) + 0.0, title=f"from {name}", shade="RdBu_r", ax=ax)
    axes[3].plot(np.array(errors) / errors[0], label=name)
axes[3].set(yscale="log", ylim=(1e-6, 2), xlabel="step")
axes[3].set_title("error, share of the first")
axes[3].legend(fontsize=8)
distances = {name: np.abs(w - nine).max() for name, (w, _) in learned.items()}
for name, (_, errors) in learned.items():
    print(
        f"{name:13} error {errors[-1] / errors[0]:.1e} of the first,",
        f"weights off by at most {distances[name]:.1g}",
    )
record(learned_filter_error=distances["random pixels"])

# %% [markdown]
# The random pixels teach the nine numbers in 100 steps. From the photograph the error falls too, more slowly, and the
# weights are still far from Sobel's. In a photograph neighbouring pixels are almost equal. So two filters may differ
# and still give nearly the same picture, and the error hardly says which of them is meant. Here as everywhere, a network
# learns what its data can tell apart.
#
# ### Checkerboards
#
# With a stride, the stamps of a transposed convolution lie $s$ pixels apart. If $s$ does not divide $f$, some pixels
# get more stamps than their neighbours, and the output has a checkerboard in it even when input and filter are
# constant. If we stamp ones, each pixel counts its stamps. At stride 2 we expect one number everywhere inside for f 2 and
# f 4, and a pattern of 1, 2 and 4 for f 3.

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.4))
for ax, f in zip(axes, (2, 3, 4, 5)):
    stamps_a_pixel = arithmetic.conv2d_transpose(np.ones((6, 6)), np.ones((f, f)), s=2)
    inside = stamps_a_pixel[f:-f, f:-f]
    drawn = ax.imshow(stamps_a_pixel, cmap="viridis", vmin=1, vmax=9)
    ax.set_title(f"f {f}: inside {', '.join(str(int(v)) for v in np.unique(inside))}")
    ax.set_axis_off()
scale = figure.colorbar(drawn, ax=axes, label="stamps", ticks=[1, 2, 4, 6, 9])

# %% [markdown]
# ### Filters that enlarge
#
# A transposed convolution with the right fixed filter is ordinary enlargement. At stride 2: a 2 × 2 filter of ones
# repeats each pixel (nearest neighbour); the tent ¼ ¾ ¾ ¼ in both directions, with p 1, interpolates linearly. A 3 ×
# 3 filter of ones leaves its checkerboard in the picture.

# %%
tent = np.array([0.25, 0.75, 0.75, 0.25])
crop = grey[::8, ::8]  # (48, 48)
enlarged = {
    "f 2, ones": arithmetic.conv2d_transpose(crop, np.ones((2, 2)), s=2),
    "f 4, tent: bilinear": arithmetic.conv2d_transpose(
        crop,
        np.outer(tent, tent),
        s=2,
        p=1,
    ),
    "f 3, ones / 2.25": arithmetic.conv2d_transpose(crop, np.ones((3, 3)) / 2.25, s=2),
}
figure, axes = plt.subplots(1, 4, figsize=(8, 2.4), width_ratios=(1, 2, 2, 2))
for ax, name, values in zip(axes, ["48 × 48", *enlarged], [crop, *enlarged.values()]):
    ax.imshow(values, vmin=0, vmax=1)
    ax.set_title(name)
    ax.set_axis_off()

# %% [markdown]
# Keras has both as `UpSampling2D`. Away from the border they must agree with our filters.

# %% tags=["nbval-check-output"]
for interpolation, name in [
    ("nearest", "f 2, ones"),
    ("bilinear", "f 4, tent: bilinear"),
]:
    layer = layers.UpSampling2D(2, interpolation=interpolation)
    by_keras = ops.convert_to_numpy(layer(crop[None, ..., None]))[0, ..., 0]
    difference = np.abs(by_keras - enlarged[name])[2:-2, 2:-2]
    print(
        f"{interpolation:9} agrees inside: {difference.max() < 1e-5}",
    )

# %% [markdown]
# ## What does one unit see?
#
# The *receptive field* of a unit is the part of the image that can change it. One 3 × 3 filter sees 3 × 3 pixels. A
# second one above it sees 3 × 3 units, each of which sees 3 × 3 pixels: together 5 × 5. A third makes it 7 × 7. In
# general, layer by layer, with $e = d(f - 1) + 1$ for the filter's width,
#
# | | from the pixels | through a layer |
# |---|---|---|
# | size | 1 | size + (e − 1) · jump |
# | jump: pixels between two neighbouring units | 1 | jump · s |
# | start: centre of the first unit's field | 0.5 | start + ((e − 1)/2 − p) · jump |
#
# The first pixel's centre lies at 0.5. Unit $u$ sees the pixels around start + $u$ · jump. (The jump on the right is
# always the one below the layer.)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.4))
plots.field_cone([(3, 1), (3, 1), (3, 1)], "three 3 × 3 filters: 7 pixels", ax=axes[0])
plots.field_cone(
    [(3, 1), (2, 2), (3, 1)],
    "with a pooling of 2 between them: 8 pixels",
    ax=axes[1],
)

# %% tags=["nbval-check-output"]
for count in (1, 2, 3):
    chain = arithmetic.receptive_field_chain([(3, 1, 1)] * count)
    print(f"{count} filters of 3 x 3 see", chain["size"].iloc[-1])

# %% [markdown]
# VGG16 (Simonyan and Zisserman, 2015) is nothing but 3 × 3 filters and 2 × 2 poolings, followed by three dense
# layers, so it is a good net to practise on. We build it once, with random weights: arithmetic needs no training. By
# the recurrence, its five poolings see 6, 16, 44, 100 and 212 pixels.

# %%
vgg16 = keras.applications.VGG16(weights=None, classifier_activation=None)
fields = arithmetic.receptive_fields(vgg16)
fields[["layer", "size", "jump", "start"]]

# %%
pools = fields[fields["layer"].str.endswith("_pool")]
figure, axes = plt.subplots(1, 6, figsize=(8, 1.9))
axes[0].imshow(photo)
axes[0].set_title("one unit each")
for (_, pool), ax, colour in zip(pools.iterrows(), axes[1:], plots.PALETTE):
    unit = (192 - pool["start"]) // pool["jump"]
    corner = int(pool["start"] + unit * pool["jump"] - pool["size"] / 2)
    field = slice(corner, corner + int(pool["size"]))
    axes[0].add_patch(
        plt.Rectangle(
            (corner, corner),
            *[pool["size"]] * 2,
            fill=False,
            edgecolor=colour,
            linewidth=1.8,
        )
    )
    ax.imshow(photo[field, field])
    ax.set_title(f"{pool['layer'][:6]}: {pool['size']}", color=colour)
for ax in axes:
    ax.set_axis_off()

# %% [markdown]
# ### Local or global: which one serves for labelling pixels?
#
# Suppose that every pixel needs a label: cup, table, spoon. In the pictures above, 6 or 16 pixels do not show what they
# belong to, so the field must be large. A dense layer sees everything at once. But it has one weight for each pair of a
# pixel and an output. These are too many to learn, and what the layer learns in one corner does not help in another. We
# shift the input of both kinds of layer by 4 pixels and compare with the shifted output, on 16 × 16 pixels.

# %%
rng = np.random.default_rng(seed)
dense = rng.normal(size=(256, 256)) / 16  # every output sees every pixel
view, view_moved = grey[200:216, 200:216], grey[200:216, 204:220]
out, out_moved = (dense @ v.ravel() for v in (view, view_moved))
out, out_moved = out.reshape(16, 16), out_moved.reshape(16, 16)
miss = np.abs(out[:, 4:] - out_moved[:, :-4]).mean() / np.abs(out).mean()
local, local_moved = (arithmetic.conv2d(v, nine, p=1) for v in (view, view_moved))
local_miss = np.abs(local[:, 5:-1] - local_moved[:, 1:-5]).max()
print(f"dense: {dense.size:,} weights, off by {miss:.0%} after a shift")
print(f"local: {nine.size} weights, off by {local_miss:.0%} inside")
print(f"dense, 384 x 384 to 3 labels a pixel: {384**2 * 384**2 * 3:,} weights")

# %% [markdown]
# So to label pixels we need local layers, stacked until each output sees enough. How to see far *and* keep the resolution
# is the question of the section after next, and of topic 07.
#
# ### The effective receptive field
#
# Not every pixel of the field counts the same. The centre pixel reaches the unit along many paths, a corner pixel
# along one. Count the paths in one dimension, for a chain of filters of three ones: 1 1 1, then 1 2 3 2 1, and soon a
# bell. The field grows in proportion to the number of layers $L$, the bell's width only as $\sqrt L$.

# %%
paths = {1: np.ones(3)}
for depth in range(2, 41):
    paths[depth] = np.convolve(paths[depth - 1], np.ones(3))
widths = {}
for depth, weights in paths.items():
    widths[depth] = arithmetic.width_holding(weights[None])

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8))
for depth, colour in zip((2, 5, 10, 20, 40), plots.PALETTE):
    weights = paths[depth] / paths[depth].max()
    axes[0].plot(
        np.arange(len(weights)) - depth,
        weights,
        color=colour,
        label=f"{depth} layers",
    )
axes[0].set(xlabel="pixels from the centre", ylabel="paths, relative", xlim=(-40, 40))
axes[0].legend(fontsize=8)
axes[1].plot(
    list(paths),
    [2 * depth + 1 for depth in paths],
    color=plots.ORANGE,
    label="theoretical",
)
axes[1].plot(
    list(widths),
    list(widths.values()),
    color=plots.BLUE,
    label="holds 95 % of the paths",
)
axes[1].set(xlabel="layers of 3 × 3", ylabel="pixels")
axes[1].legend(fontsize=8)

# %% [markdown]
# The *effective* receptive field (Luo, Li, Urtasun and Zemel, 2016) is measured: the gradient of the central unit
# with respect to the pixels, in absolute value, averaged over random inputs. We do it for the units behind VGG16's
# second, third and fourth pooling, each on an image just large enough that the unit lies in its centre and its whole
# theoretical field (16, 44, 100 pixels) inside. We expect blobs in the middle of the fields.

# %%
blobs = {}
for pool, pixels in [("block2_pool", 28), ("block3_pool", 56), ("block4_pool", 112)]:
    x = cut = keras.Input((pixels, pixels, 3))
    for layer in vgg16.layers[1 : vgg16.layers.index(vgg16.get_layer(pool)) + 1]:
        x = layer(x)
    blobs[pool] = introspection.effective_receptive_field(
        keras.Model(cut, x),
        inputs=inputs,
        seed=seed,
    )

# %%
theory = dict(zip(fields["layer"], fields["size"]))
held = {pool: arithmetic.width_holding(blob) for pool, blob in blobs.items()}
figure, axes = plt.subplots(1, 3, figsize=(8, 3.1))
for ax, (pool, blob) in zip(axes, blobs.items()):
    title = f"{pool}\ntheoretical {theory[pool]}, holds 95 %: {held[pool]}"
    plots.field_map(blob, theory[pool], held[pool], title, ax)

# %% [markdown]
# Orange: the theoretical field. White: the narrowest square that holds 95 % of the sum. By area the difference is
# larger than by width.

# %%
effective_share = held["block4_pool"] / theory["block4_pool"]
record(effective_width_share=effective_share, effective_area_share=effective_share**2)

# %% [markdown]
# > **What the slide says.** Several decks call the 7 × 7 of three 3 × 3 filters their "effective receptive field".
# > That is the theoretical field. The effective one is what we have just measured, and it is smaller.

# %% [markdown]
# ## Seeing farther
#
# Three ways lead to a larger field: larger filters, chains of small ones, and dilation. Take a field of 31 × 31
# without any loss of resolution (jump 1), and count the coefficients of one map to one map: one filter of 31, fifteen
# filters of 3 in a chain, or four filters of 3 with dilations 1, 2, 4 and 8.

# %% tags=["nbval-check-output"]
ways = {
    "one 31 x 31": [(31, 1)],
    "fifteen 3 x 3": [(3, 1)] * 15,
    "3 x 3 at d 1, 2, 4, 8": [(3, 1, 0, d) for d in (1, 2, 4, 8)],
}
for name, chain in ways.items():
    sees = arithmetic.receptive_field_chain(chain)
    coefficients = sum(layer[0] ** 2 for layer in chain)
    print(
        f"{name:22} sees {sees['size'].iloc[-1]}, jump {sees['jump'].iloc[-1]},",
        f"{coefficients:4} coefficients",
    )
print("after each dilated layer:", sees["size"].tolist())

# %%
plots.field_cone(
    [(3, 1, 1), (3, 1, 2), (3, 1, 4), (3, 1, 8)],
    title="four layers see 31 pixels: 3, 7, 15, 31",
)

# %% [markdown]
# 3, 7, 15, 31: the field grows exponentially with the number of layers, where a chain of plain filters grows by 2 a
# layer, and no resolution is lost (Yu and Koltun, 2016). And no pixel is left out, as long as each dilation is at
# most the field before it; exercise 4 breaks this rule.
#
# ### How many of the coefficients are free?
#
# A 3 × 3 filter at d 2 is a 5 × 5 filter of 25 coefficients, of which 9 are free and 16 are zero. A chain of two
# linear layers is one linear layer. A 3 × 3 at d 1 followed by a 3 × 3 at d 2 is one 7 × 7 filter: 49 coefficients
# made from 18 parameters. It is built like a transposed convolution: for each weight of the second filter a copy of
# the first, two pixels apart.


# %%
def chain_kernel(first, second):
    """The 7 x 7 filter that does what `first`, then `second` at dilation 2, do."""
    return arithmetic.conv2d_transpose(second, first, s=2)


first, second = (
    np.array([[0, 1, 0], [1, 2, 1], [0, 1, 0]]),
    np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]),
)
apart = np.zeros((5, 5), int)
apart[::2, ::2] = second
plots.number_equation(
    [first, "then", apart, "=", chain_kernel(first, second)],
    titles={0: "9 free", 2: "25, 9 of them free", 4: "49 from 18 parameters"},
    shade="RdBu_r",
)

# %% [markdown]
# Does it do the same? And are the 18 parameters really free? If we double the first filter and halve the second, the 7 ×
# 7 filter stays the same. So one direction is lost, and we expect 17. We count with the Jacobian: its rank is the number
# of free directions. Column by column, it says how the 49 coefficients change with one parameter. The kernel is linear in
# each filter, so we get a column if we replace that filter by a unit filter (a single 1).

# %% tags=["nbval-check-output"]
rng = np.random.default_rng(7)
pixels = rng.integers(0, 10, (12, 12))
two_steps = arithmetic.conv2d(arithmetic.conv2d(pixels, first), second, d=2)
print(
    "one filter of 7 does the same:",
    np.array_equal(two_steps, arithmetic.conv2d(pixels, chain_kernel(first, second))),
)

a, b = rng.normal(size=(2, 3, 3))
units = np.eye(9).reshape(9, 3, 3)
jacobian = [chain_kernel(unit, b).ravel() for unit in units]
jacobian += [chain_kernel(a, unit).ravel() for unit in units]
print(
    "rank of the Jacobian:",
    np.linalg.matrix_rank(np.array(jacobian).T),
    "of",
    len(jacobian),
    "parameters",
)

# %% [markdown]
# So a chain of small filters has fewer numbers to learn than one large filter. In a network an activation stands between
# the two layers, and then the chain computes something that no linear filter can.
#
# ## 1 × 1 convolutions
#
# A filter of 1 × 1 sees one pixel, but all its channels. It mixes channels, at every place alike: it is a dense layer
# that is applied to each pixel by itself. The grey picture was made by one: weights 0.21, 0.72 and 0.07 on red, green
# and blue. It costs C · K weights, so it is the cheap way to reduce or enlarge the number of channels between
# expensive layers. (VGG's configuration C and GoogLeNet's modules use it; topics 03 and 04.)

# %%
mix = np.array(
    [[0.2125, 0.5, 1.0], [0.7154, -0.5, 0.0], [0.0721, 0.0, -1.0]],
    "float32",
)  # (channels, filters)
one_by_one = ops.convert_to_numpy(ops.conv(photo[None], mix[None, None]))[0]
figure, axes = plt.subplots(1, 4, figsize=(8, 2.2))
for ax, shown, title in zip(
    axes,
    [photo, *np.moveaxis(one_by_one, -1, 0)],
    ["photograph", "grey", "red − green", "red − blue"],
):
    ax.imshow(shown)
    ax.set_title(title)
    ax.set_axis_off()

# %% tags=["nbval-check-output"]
by_dense = photo @ mix  # the same dense layer at every pixel
print(
    "1 x 1 convolution = dense layer on the channels:",
    np.abs(by_dense - one_by_one).max() < 1e-5,
)

# %% [markdown]
# ### There is no fully connected layer
#
# LeCun remarked in 2015 that convolutional nets have no fully connected layers, only 1 × 1 convolutions with a full
# table of connections. Take VGG16. Its last pooling gives 7 × 7 × 512. The first dense layer, fc6 (`fc1` in Keras), has
# one weight for each of these 25,088 numbers and each of its 4,096 outputs. A valid convolution with 4,096 filters of 7 ×
# 7 × 512 has the same weights, and on 7 × 7 it has one position. Its output is 1 × 1 × 4096, so fc7 and fc8 become 1 × 1
# convolutions. A 1 × 1 convolution cannot replace fc6: it would give 7 × 7 outputs, and none of them would see the
# other 48 places.

# %%
pixels = keras.Input((None, None, 3))
x = pixels
for layer in vgg16.layers[1:-4]:  # convolutions and poolings, shared with vgg16
    x = layer(x)
for name, size in [("fc1", 7), ("fc2", 1), ("predictions", 1)]:
    dense = vgg16.get_layer(name)
    x = layers.Conv2D(
        dense.units,
        size,
        activation=dense.activation,
        kernel_initializer="zeros",
        name=name,
    )(x)
convolutional = keras.Model(pixels, x)

for name in ("fc1", "fc2", "predictions"):
    kernel, bias = vgg16.get_layer(name).weights
    convolution = convolutional.get_layer(name)
    convolution.kernel.assign(
        ops.reshape(kernel, convolution.kernel.shape),
    )  # fc1: (25088, 4096) -> (7, 7, 512, 4096)
    convolution.bias.assign(bias)

# %% [markdown]
# The reshape keeps the order of the numbers because `Flatten` reads row, column, channel, as the kernel does. At 224
# both nets must give the same thousand scores. At 384 the dense net cannot run at all; in the other one the last
# pooling gives 12 × 12, so the 7 × 7 filter has 6 × 6 positions, and we expect 6 × 6 × 1000 scores.

# %%
crop = photo[None, :224, :224]
dense_scores = ops.convert_to_numpy(vgg16(crop))  # (1, 1000)
convolution_scores = ops.convert_to_numpy(convolutional(crop))  # (1, 1, 1, 1000)
score_map = ops.convert_to_numpy(convolutional(photo[None]))  # (1, 6, 6, 1000)
difference = np.abs(dense_scores - convolution_scores[:, 0, 0]).max()
conversion_error = difference / np.abs(dense_scores).max()
assert score_map.shape == (1, 6, 6, 1000)
print(
    f"at 224: {dense_scores.shape} and {convolution_scores.shape},",
    f"largest difference {conversion_error:.0e} of the largest score",
)
print(f"at 384: {score_map.shape}")

# %%
strongest = score_map[0].std(axis=(0, 1)).argmax()  # the score that changes most
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
axes[0].imshow(photo)
for (row, column), colour in zip([(0, 0), (0, 5), (3, 2)], plots.PALETTE):
    frame = {"fill": False, "edgecolor": colour, "linewidth": 2.5}
    axes[0].add_patch(plt.Rectangle((32 * column, 32 * row), 224, 224, **frame))
    axes[1].add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, **frame))
axes[0].set_title("three of 36 windows of 224 × 224, 32 apart")
axes[1].imshow(score_map[0, :, :, strongest], cmap="viridis")
axes[1].set_title(f"score of class {strongest} (random weights) in each")
for ax in axes:
    ax.set_axis_off()

# %% [markdown]
# So the net has been slid over the picture in steps of 32 pixels, in one pass. Cutting out the 36 windows and running
# the dense net on each would cost many times as much. It would not give quite the same scores. At the edge of a cut
# window the padded layers read zeros; inside the picture they read the pixels beyond the window. The units of the last
# pooling see 212 pixels, and of its 7 × 7 units only the one in the middle stays within the 224 pixels of the window.
# So we expect that 48 of 49 units change. We compare one window, and count multiply-accumulates.

# %%
alone = vgg16(photo[None, 32:256, 32:256])  # window (1, 1), cut out
alone = ops.convert_to_numpy(alone)[0]  # (1000,)
alike = np.corrcoef(alone, score_map[0, 1, 1])[0, 1]
centres = 16 + 32 * np.arange(7)  # of the fields of block5_pool; size 212
inside = ((centres - 106 >= 0) & (centres + 106 <= 224)).sum() ** 2
print(f"{49 - inside} of 49 fields reach over the edge of the window")
print(f"window (1, 1) cut out and in place: correlation of the 1000 scores {alike:.3f}")

one_pass = arithmetic.totals(convolutional, (384, 384, 3))["macs"]
one_window = arithmetic.totals(vgg16, (224, 224, 3))["macs"]
print(
    f"one pass {one_pass / 1e9:.1f} G, 36 windows {36 * one_window / 1e9:.1f} G:",
    f"{36 * one_window / one_pass:.1f} times as much",
)

# %%
del convolutional, convolution, score_map, convolution_scores, x  # half a gigabyte

# %% [markdown]
# ## Cheaper convolutions
#
# A layer from C to K channels with f × f filters has f · f · C · K weights. Three ways to have fewer:
#
# - **Groups.** Cut input and output channels into G parts, each part fed by its own: f · f · C K / G. With G = C,
#   each channel has a filter of its own: *depthwise*.
# - **Depthwise separable.** A depthwise f × f, then a 1 × 1 that mixes the channels again: f · f · C + C · K.
# - **Low rank.** A k × 1 filter, then a 1 × k: 2 k in place of k · k.

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.6))
for ax, (title, stages) in zip(
    axes,
    {
        "every channel": [(8, 8, 1)],
        "2 groups": [(8, 8, 2)],
        "depthwise": [(8, 8, 8)],
        "depthwise, then 1 × 1": [(8, 8, 8), (8, 8, 1)],
    }.items(),
):
    plots.wiring(stages, title, ax)

# %% [markdown]
# For 3 × 3 filters from 64 to 128 channels we expect 9 · 64 · 128 = 73,728 weights; a quarter with 4 groups; 9 · 64 +
# 64 · 128 = 8,768 when separable; 3 · 64 · 128 + 3 · 128 · 128 = 73,728 for 3 × 1 then 1 × 3 through 128 channels in
# between. So splitting a 3 × 3 gains nothing here: the second layer reads 128 channels, the plain one only 64.
# Splitting a 7 × 7 does gain.

# %% tags=["nbval-check-output"]
kinds = {
    "plain": [layers.Conv2D(128, 3, use_bias=False)],
    "4 groups": [layers.Conv2D(128, 3, groups=4, use_bias=False)],
    "separable": [layers.SeparableConv2D(128, 3, use_bias=False)],
    "3 x 1, 1 x 3": [
        layers.Conv2D(128, (3, 1), use_bias=False),
        layers.Conv2D(128, (1, 3), use_bias=False),
    ],
    "7 x 7": [layers.Conv2D(128, 7, use_bias=False)],
    "7 x 1, 1 x 7": [
        layers.Conv2D(128, (7, 1), use_bias=False),
        layers.Conv2D(128, (1, 7), use_bias=False),
    ],
}
for name, stack in kinds.items():
    model = keras.Sequential([keras.Input((28, 28, 64)), *stack])
    print(f"{name:13} {model.count_params():8,} weights")

# %% [markdown]
# Which filters can be split into a column and a row? Those of rank 1: the matrix is the product of a column and a
# row. The blur and the edge filter are; the diagonal edge filter and the Laplace filter are not. The singular value
# decomposition gives the best rank-1 approximation of any filter, and the singular values tell how good it is.

# %%
figure, axes = plt.subplots(2, 4, figsize=(8, 3.8))
for (above, below), name in zip(
    axes.T,
    ["blur", "vertical edges", "diagonal edges", "spots (Laplace)"],
):
    columns, values, rows = np.linalg.svd(bank[name])
    rank_one = values[0] * np.outer(columns[:, 0], rows[0])
    plots.number_matrix(
        bank[name],
        title=f"{name}: rank {np.linalg.matrix_rank(bank[name])}",
        shade="RdBu_r",
        ax=above,
    )
    plots.number_matrix(
        rank_one.round(2) + 0.0,
        title=f"rank 1 keeps {values[0] ** 2 / (values**2).sum():.0%}",
        shade="RdBu_r",
        ax=below,
    )

# %% tags=["nbval-check-output"]
column, row = np.array([[1], [2], [1]]), np.array([[-1, 0, 1]])
pixels = np.random.default_rng(0).integers(0, 256, (20, 20))
twice = arithmetic.conv2d(arithmetic.conv2d(pixels, column), row)
print(
    "column, then row = 3 x 3 filter:",
    np.array_equal(twice, arithmetic.conv2d(pixels, nine)),
)

# %% [markdown]
# ## Counting
#
# **Parameters** of a convolution: filters · (filter volume + 1), the 1 being the bias. One 3 × 3 × 3 filter: 28.
# Sixteen of them: 448. The size of the image does not matter.
#
# **Multiply-accumulates (MACs)**: every output number costs one filter volume:
# $H_{out} W_{out} \cdot H_f W_f \cdot (C / G) \cdot K$. Here the size of the image matters, and the bias is not
# counted.
#
# A whole net: 32 × 32 × 3, eight filters of 3 × 3 ("same"), sixteen of 5 × 5 at stride 2 ("same"), dense 512, dense
# 4. We predict 8 · 28 = 224; 16 · (5 · 5 · 8 + 1) = 3,216; the volume is now 16 × 16 × 16 = 4,096, so (4,096 + 1) ·
# 512 = 2,097,664, and 513 · 4 = 2,052: together 2,099,716 in the dense layers.

# %% tags=["nbval-check-output"]
net = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        layers.Conv2D(8, 3, padding="same", name="conv1"),
        layers.Conv2D(16, 5, strides=2, padding="same", name="conv2"),
        layers.Flatten(),
        layers.Dense(512, name="dense1"),
        layers.Dense(4, name="dense2"),
    ]
)
for filters in (1, 16):
    print(
        filters,
        "of 3 x 3 x 3:",
        keras.Sequential(
            [keras.Input((9, 9, 3)), layers.Conv2D(filters, 3)],
        ).count_params(),
    )
parts = {layer.name: layer.count_params() for layer in net.layers}
parts = {name: count for name, count in parts.items() if count}
print(parts, " dense together:", parts["dense1"] + parts["dense2"])

# %% [markdown]
# `utils.arithmetic.layer_table` counts MACs and memory as well. Conv2 by hand: 16 · 16 · 5 · 5 · 8 · 16 = 819,200.

# %%
arithmetic.layer_table(net)

# %% [markdown]
# > **What the slide says.** "A convolution costs $H H_f / s \cdot W W_f / s \cdot C K$." This takes the output to be
# > $H / s$ by $W / s$. It is right for "same" padding where $s$ divides $H$, and wrong otherwise. AlexNet's first
# > layer has 96 filters of 11 × 11 × 3 at stride 4 on 227 × 227 without padding: 55 × 55 outputs and 105,415,200
# > MACs, not 112.2 million.

# %% tags=["nbval-check-output"]
alexnet1 = keras.Sequential(
    [keras.Input((227, 227, 3)), layers.Conv2D(96, 11, strides=4)],
)
out = alexnet1.output_shape[1]
print(
    f"counted:     {out} * {out} * 11 * 11 * 3 * 96 = {out * out * 11 * 11 * 3 * 96:,}",
)
print(f"utils:       {arithmetic.totals(alexnet1)['macs']:,}")
print(f"the formula: {(227 * 11 / 4) ** 2 * 3 * 96:,.0f}")

# %% [markdown]
# > **What the slide says.** Pooling "reduces parameters". A pooling has no parameters and leaves those
# > of the convolutions as they are. It reduces the *activations*, and thereby the parameters of a later dense layer,
# > if there is one that flattens them.


# %% tags=["nbval-check-output"]
def parameters_with(pooling, top):
    """Parameters of each layer of a small net, with or without pooling."""
    middle = [layers.MaxPooling2D(2)] if pooling else []
    stack = [
        layers.Conv2D(8, 3, padding="same"),
        *middle,
        layers.Conv2D(16, 3, padding="same"),
        *top(),
    ]
    small_net = keras.Sequential([keras.Input((32, 32, 3)), *stack])
    return [layer.count_params() for layer in small_net.layers]


for name, top in {
    "flattened": lambda: [layers.Flatten(), layers.Dense(10)],
    "averaged": lambda: [layers.GlobalAveragePooling2D(), layers.Dense(10)],
}.items():
    print(
        f"{name}: without pooling {parameters_with(False, top)},",
        f"with pooling {parameters_with(True, top)}",
    )

# %% [markdown]
# ## VGG16, every layer
#
# One table for the whole net. Activation memory is counted as everywhere in this course: the input and the output of
# every layer, for one image, 4 bytes a number, forward only (training needs about twice that); activations and
# reshapes work in place; 1 MB is 10⁶ bytes.

# %%
table = arithmetic.layer_table(vgg16)
table[["layer", "output_shape", "params", "macs", "activation_bytes"]]

# %% tags=["nbval-check-output"]
total = arithmetic.totals(vgg16)
values = total["activation_bytes"] // 4
print(f"parameters  {total['params']:,}, {total['params'] * 4 / 1e6:.0f} MB")
print(f"MACs        {total['macs']:,}")
print(f"activations {values:,} values, {total['activation_bytes'] / 1e6:.2f} MB")

# %%
heavy = table[(table["activation_bytes"] > 0)]
palette = {"Dense": plots.VERMILLION, "MaxPooling2D": plots.SKY}
colours = [palette.get(kind, plots.BLUE) for kind in heavy["type"]]
plots.layer_bars(
    ["input", *heavy["layer"][1:]],
    {
        "parameters": heavy["params"],
        "MACs": heavy["macs"],
        "activation bytes": heavy["activation_bytes"],
    },
    colours,
)

# %% [markdown]
# Most parameters lie in the last layers, most of the computation and of the memory in the first ones. In numbers:

# %% tags=["nbval-check-output"]
is_dense = table["type"] == "Dense"
dense_params, dense_macs = (
    table.loc[is_dense, "params"].sum(),
    table.loc[is_dense, "macs"].sum(),
)
first_two = table["layer"].isin(["block1_conv1", "block1_conv2"])
early = table.loc[first_two, "activation_bytes"].sum() / total["activation_bytes"]
mega, mebi = total["params"] * 4 / 1e6, total["params"] * 4 / 2**20
print(
    f"dense layers: {dense_params / 1e6:.1f} M parameters,",
    f"{dense_params / total['params']:.0%} of all",
)
print(
    f"              {dense_macs / 1e6:.1f} M MACs,",
    f"{dense_macs / total['macs']:.1%} of all",
)
print(
    f"first two convolutions: {early:.0%} of the activations",
)
print(
    f"weights: {mega:.1f} MB = {mebi:.1f} MiB",
)

# %% [markdown]
# > **What the slides say.** Five printed figures for VGG16, beside the table:
# >
# > | printed | counted |
# > |---|---|
# > | "24 M" activations | 15,237,608 values, the input included |
# > | "93 MB" and "96 MB an image" for them | 60.95 MB; 96 is 4 · 24 M, and 93 is 24 M in neither unit |
# > | "122 M" parameters in the dense layers | 123.6 M |
# > | the dense layers are "immensely computationally expensive" | 0.8 % of the MACs. They are expensive in *parameters*: 89 % |
# > | weights take "522 MB" | 553 MB; in MiB it is 528, so 522 is roughly that |

# %% tags=["nbval-check-output"]
print(f"24 M values of 4 bytes: {24e6 * 4 / 1e6:.0f} MB or {24e6 * 4 / 2**20:.1f} MiB")
print(
    f"15.2 M values of 4 bytes: {values * 4 / 1e6:.2f} MB",
    f"or {values * 4 / 2**20:.1f} MiB",
)

# %%
record(
    vgg16_parameters=total["params"],
    vgg16_macs=total["macs"],
    vgg16_activations=values,
    vgg16_last_pool_sees=theory["block5_pool"],
    conversion_error=conversion_error,
)

# %% [markdown]
# ## Summary
#
# You can now
#
# - compute a convolution over channels and filters by hand, and know that libraries correlate;
# - get an output size by counting positions: floor, never ceil, and the remainder is the number of pixels left
#   unread;
# - read a convolution as a banded matrix whose transpose is both the gradient and the transposed convolution;
# - compute the gradient of a filter, and learn a filter from an image and its filtered form;
# - tell what a unit can see (size, jump, start) from what it does see, and widen it by depth or dilation;
# - turn dense layers into convolutions, and split convolutions into cheaper ones;
# - count parameters, MACs and activations, and know that in VGG16 they lie in different layers.
#
# ## Exercises
#
# 1. (easy) An image of 227 × 227 × 3 meets 96 filters of 11 × 11 at stride 4. How large is the output without
#    padding, and what changes at 224? *Hint: is (224 − 11)/4 whole? Draw it with `plots.window_positions`.*
# 2. (easy) How many parameters and MACs has a 3 × 3 convolution from 256 to 256 channels on 14 × 14 ("same"), and how
#    many its depthwise separable form? *Hint: build both in Keras and call `arithmetic.layer_table`.*
# 3. (medium) Find all (f, s, p) for a transposed convolution that turns 7 into 14 without a checkerboard, with f up to 6
#    and p smaller than f. There are four. *Hint: s must divide f; use `arithmetic.transposed_output_size` in a loop.*
# 4. (medium) Draw `plots.field_cone` for three 3 × 3 filters all at dilation 2, then for dilations 1, 2, 5. Which
#    pixels are never read? State a rule for dilations without holes. *Hint: compare each dilation with the field of
#    the layers below it.*
# 5. (hard) Show that the zeros of "same" padding let a network know where in the image it is: build a chain of
#    convolutions that gives a different answer to the same bright pixel in the centre and near the border. How many
#    layers does it need to tell the centre of a 17 × 17 image from its neighbours? *Hint: filters of ones on an image
#    of ones.*
# 6. (hard) Repeat the effective field with a chain of fifteen 3 × 3 filters and with 3 × 3 at dilations 1, 2, 4, 8,
#    both of theoretical size 31. Which one sees more of its field, and what do the blobs look like? *Hint:
#    `introspection.effective_receptive_field` takes any Keras model; use several channels.*
#
# ## Further reading
#
# - F. Rosenblatt, *The perceptron: a perceiving and recognizing automaton*, Report 85-460-1, Cornell Aeronautical
#   Laboratory, 1957.
# - D. H. Hubel and T. N. Wiesel, *Receptive fields of single neurones in the cat's striate cortex*, Journal of
#   Physiology 148, 1959.
# - K. Fukushima, *Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition
#   unaffected by shift in position*, Biological Cybernetics 36, 1980.
# - Y. Le Cun, *Une procédure d'apprentissage pour réseau à seuil asymétrique*, Cognitiva 85, 1985; D. E. Rumelhart,
#   G. E. Hinton and R. J. Williams, *Learning representations by back-propagating errors*, Nature 323, 1986.
# - A. Waibel, T. Hanazawa, G. Hinton, K. Shikano and K. Lang, *Phoneme recognition using time-delay neural networks*,
#   IEEE Transactions on Acoustics, Speech and Signal Processing 37, 1989.
# - Y. LeCun et al., *Backpropagation applied to handwritten zip code recognition*, Neural Computation 1, 1989.
# - Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, *Gradient-based learning applied to document recognition*,
#   Proceedings of the IEEE 86, 1998.
# - K. Simonyan and A. Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015.
# - V. Dumoulin and F. Visin, *A guide to convolution arithmetic for deep learning*, arXiv:1603.07285, 2016.
# - F. Yu and V. Koltun, *Multi-scale context aggregation by dilated convolutions*, ICLR 2016.
# - W. Luo, Y. Li, R. Urtasun and R. Zemel, *Understanding the effective receptive field in deep convolutional neural
#   networks*, NIPS 2016.
# - A. Odena, V. Dumoulin and C. Olah, *Deconvolution and checkerboard artifacts*, Distill 2016.
# - A. Araujo, W. Norris and J. Sim, *Computing receptive fields of convolutional neural networks*, Distill 2019.
