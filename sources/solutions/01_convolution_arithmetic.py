# %% [markdown]
# # 01 Convolution arithmetic: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/01_convolution_arithmetic.ipynb)
#
# **How much of a network can you rebuild with loops and whole numbers?** In this lab you write the arithmetic of
# convolutions yourself: the size of the output, the convolution (with loops, and as a matrix), its transpose, the
# gradient with which a filter is learned, what a unit sees, and what a network costs. Each function is checked against
# numbers worked by hand and against Keras, and then put to work on a photograph. By the end, your own code counts
# VGG16.
#
# You will be able to write each of these from memory, and to find the mistake when two libraries disagree by one
# pixel.
#
# Seven gaps and two questions, 23 points. It takes about two and a half hours to solve and a minute to run. Use NumPy
# and plain Python in the gaps. `utils.arithmetic` has most of these functions: the checks compare yours with them, and
# an answer that calls them does not count.

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
size: int = 128  # [64, 384] side of the photograph in pixels

# %%
from functools import partial
from numbers import Integral

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from skimage import data, transform

from utils import arithmetic, checks, plots
from utils.results import record
from utils.session import start

start(seed)

# %%
picture = getattr(data, image)()
side = min(picture.shape[:2])
top, left = (np.array(picture.shape[:2]) - side) // 2
square = picture[top : top + side, left : left + side]
photo = transform.resize(square, (size, size), anti_aliasing=True)  # (size, size, 3)
grey = photo @ np.array([0.2125, 0.7154, 0.0721])  # (size, size)
figure, axes = plt.subplots(1, 2, figsize=(5, 2.6))
for ax, shown in zip(axes, (photo, grey)):
    ax.imshow(shown)
    ax.set_axis_off()

# %% [markdown]
# The checks use two helpers of `utils.checks`. The first compares shapes, then values, and says where the first
# difference lies. The second looks whether a function calls `utils.arithmetic`.

# %%
agree = partial(checks.agree, rtol=0, atol=1e-4)
own_work = partial(checks.own_work, of=arithmetic)

# %% [markdown]
# ## 1. How large is the output? (2 points)
#
# Write `output_size(n, f, s=1, p=0, d=1)`, all ints: the number of positions along one axis of a filter of size `f`
# on an input of `n` pixels, with stride `s`, `p` zeros on either side and dilation `d`. With dilation, the filter's
# taps stand `d` pixels apart, so the whole filter is `d * (f - 1) + 1` pixels wide. A position where the filter would
# hang over the edge of the padded input does not count. Return an int. If there is no position at all, raise a
# `ValueError` that says why.
#
# The check tries whole and broken divisions, padding, dilation, and a filter that does not fit.


# %% gap="output-size" stub="return the number of positions"
def output_size(n, f, s=1, p=0, d=1):
    ### BEGIN SOLUTION
    room = n + 2 * p - (d * (f - 1) + 1)
    if room < 0:
        raise ValueError(f"{d * (f - 1) + 1} pixels do not fit {n} with padding {p}")
    return room // s + 1
    ### END SOLUTION


# %%
def asked(expected, sizes, hint):
    """Compare one output size; `sizes` are n, f, s, p, d."""
    call = f"output_size{sizes}"
    try:
        got = output_size(*sizes)
    except ValueError as error:
        text = f"{call} is {expected}, yours raised a ValueError ({error}): {hint}"
        raise AssertionError(text) from None
    text = f"{call} must be an int, yours returned {got!r}: sizes are whole numbers"
    assert isinstance(got, Integral), text
    assert got == expected, f"{call} is {expected}, yours returned {got}: {hint}"
    return True


# %% check="output-size" points=1
for expected, sizes, hint in [
    (3, (5, 3), "a filter of 3 fits an input of 5 at positions 0, 1 and 2"),
    (2, (5, 3, 2), "(5 - 3) / 2 + 1: subtract the filter's own size first"),
    (2, (6, 3, 2), "3 / 2 is not whole: a third filter would hang over the edge"),
    (5, (5, 3, 1, 1), "one zero on either side keeps the size for f = 3"),
    (15, (32, 5, 2, 1), "29 / 2 is not whole, so round down"),
    (3, (7, 3, 1, 0, 2), "at dilation 2 a filter of 3 is 5 pixels wide"),
    (2, (2, 3, 1, 1), "with its zeros the input is 4 wide: the filter fits twice"),
]:
    assert asked(expected, sizes, hint)
assert own_work(output_size, 7, 3)
### BEGIN HIDDEN TESTS
cases = [(1, 2, 0, 1), (2, 2, 0, 1), (3, 2, 1, 1), (5, 3, 2, 1)]
cases += [(3, 1, 0, 2), (2, 3, 1, 3), (11, 4, 2, 1)]
for f, s, p, d in cases:
    for n in range(max(1, d * (f - 1) + 1 - 2 * p), 30):
        positions = len(range(0, n + 2 * p - d * (f - 1), s))
        assert asked(positions, (n, f, s, p, d), "count the positions by hand")
### END HIDDEN TESTS
print("passed: whole and broken divisions, padding, dilation")

# %% check="output-size" points=1
nothing_fits = [(3, 5), (4, 3, 1, 0, 2)]
### BEGIN HIDDEN TESTS
nothing_fits += [(1, 2), (5, 7, 3), (2, 5, 1, 1), (8, 5, 2, 0, 2)]
### END HIDDEN TESTS
for sizes in nothing_fits:
    try:
        answer = output_size(*sizes)
    except ValueError as error:
        answer = error
    text = f"output_size{sizes} returned {answer}, but nothing fits: raise a ValueError"
    assert isinstance(answer, ValueError), text
print("passed: a filter that does not fit")

# %% [markdown]
# One of the cases of the check, drawn with as many windows as you say. The zero on the right stays unread.

# %%
n, f, s, p = 32, 5, 2, 1
figure, ax = plt.subplots(figsize=(8, 2.6))
ax.axvspan(0.5, n + 0.5, color=plots.GREY, alpha=0.2)
for place in range(output_size(n, f, s, p)):
    pixels = np.arange(place * s, place * s + f) - p + 1  # the first pixel is 1
    colour = plots.PALETTE[place % 2]
    ax.plot(pixels, [place + 1] * f, "o-", color=colour, markersize=3)
ax.set(xlabel="pixel; 0 and 33 are padding", ylabel="window", xlim=(-0.5, n + 1.5))
ax.set_title(f"n = {n}, f = {f}, s = {s}, p = {p}: you say {output_size(n, f, s, p)}")
ax.invert_yaxis()

# %% [markdown]
# ## 2. A convolution with loops (3 points)
#
# Write `conv2d(x, kernel, bias, s=1, p=0)`.
#
# - `x`: (H, W, C) array; H and W may differ.
# - `kernel`: (f, f, C, K) array, Keras's layout: row, column, input channel, filter.
# - `bias`: (K,) array, one number for each filter.
# - `s`, `p`: ints, stride and zeros on every side.
# - Returns an (h, w, K) float array, where h and w come from your `output_size`.
#
# For each position and each filter: multiply the window with the filter, number by number over rows, columns *and
# channels*, add it all up, and add the bias. Do not turn the filter round (networks compute correlations). Loops are
# fine; `np.pad` helps with the zeros: `np.pad(x, ((p, p), (p, p), (0, 0)))`.
#
# The check works the example of the lecture (5 × 5 × 3, two filters, padding 1, stride 2), then compares other shapes
# with `utils.arithmetic` and Keras.


# %% gap="conv2d" stub="return the (h, w, K) output"
def conv2d(x, kernel, bias, s=1, p=0):
    ### BEGIN SOLUTION
    height, width, _ = x.shape
    f, _, _, filters = kernel.shape
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    output = np.zeros(
        (output_size(height, f, s, p), output_size(width, f, s, p), filters),
    )
    for row in range(output.shape[0]):
        for column in range(output.shape[1]):
            window = padded[
                row * s : row * s + f,
                column * s : column * s + f,
            ]  # (f, f, C)
            for k in range(filters):
                output[row, column, k] = np.sum(window * kernel[..., k]) + bias[k]
    return output
    ### END SOLUTION


# %% [markdown]
# The numbers of the check, from the lecture: `example_x` (5, 5, 3), `example_kernel` (3, 3, 3, 2), `example_bias`
# (2,), `example_y` (3, 3, 2).


# %%
def matrices(text):
    """Matrices from text: rows parted by /, channels by |; the channel comes last."""
    parted = [part.split("/") for part in text.split("|")]
    channels = [[list(map(int, row.split())) for row in part] for part in parted]
    return np.moveaxis(np.array(channels), 0, -1)


example_x = matrices(
    "1 2 0 0 0 / 2 2 0 0 0 / 2 2 2 1 0 / 1 0 0 2 0 / 1 1 0 1 0 |"
    "1 0 0 1 0 / 1 0 0 0 1 / 0 0 1 2 0 / 0 1 0 1 0 / 1 1 1 1 2 |"
    "0 0 2 2 2 / 1 2 2 2 0 / 1 1 1 1 0 / 1 2 0 0 0 / 2 2 2 1 0"
)
filter_0 = matrices(
    "0 0 -1 / -1 0 0 / -1 -1 -1 | 1 1 -1 / 0 0 0 / -1 1 1 | -1 -1 -1 / 0 1 1 / 0 -1 0",
)
filter_1 = matrices(
    "-1 0 0 / 1 -1 -1 / 0 0 -1 | -1 0 1 / 1 -1 1 / -1 0 1 |-1 -1 -1 / -1 1 -1 / 0 1 -1",
)
example_kernel, example_bias = np.stack([filter_0, filter_1], axis=-1), np.array([1, 0])
example_y = matrices("-3 -1 4 / -2 -7 -4 / 1 -1 1 | -7 3 1 / -7 -11 -1 / -4 -2 -4")

# %%
image_9 = np.arange(9.0).reshape(3, 3, 1)  # 0 1 2 / 3 4 5 / 6 7 8
digits = np.array([[1, 10], [100, 1000]])  # says which pixel met which weight
none, ten = np.zeros(1), np.array([10.0])


def by_digits(kernel):
    """The four outputs of a 2 x 2 filter on `image_9`, by hand."""
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    sums = [np.sum(image_9[i : i + 2, j : j + 2, 0] * kernel) for i, j in corners]
    return np.reshape(sums, (2, 2, 1))


mistakes = [
    (
        "the filter is turned round by 180 degrees: do not turn it",
        by_digits(digits[::-1, ::-1]),
    ),
    ("rows and columns of the filter are swapped", by_digits(digits.T)),
    ("the filter is upside down", by_digits(digits[::-1])),
    ("the filter is mirrored", by_digits(digits[:, ::-1])),
]

# %% check="conv2d" points=1
kernel, expected = digits[:, :, None, None], by_digits(digits)
hint = "a filter of 2 × 2 stands at 2 × 2 places; pixel times weight, all added up"
assert agree(conv2d(image_9, kernel, none), expected, hint, mistakes)
hint = "the bias of 10 is added once to each output"
assert agree(conv2d(image_9, kernel, ten), expected + 10, hint)
corner = np.array([[1.0, 0], [0, 0]])[:, :, None, None]  # copies the top left pixel
expected = np.pad(image_9, ((1, 0), (1, 0), (0, 0)))
hint = "one zero on each of the four sides; this filter copies the top left pixel"
assert agree(conv2d(image_9, corner, none, p=1), expected, hint)
hint = "at stride 2, one window fits; this filter copies its top left pixel"
assert agree(conv2d(image_9, corner, none, s=2), image_9[:1, :1], hint)
assert own_work(conv2d, image_9, corner, none)
print("passed: one channel, one filter, with bias, padding and stride")

# %% check="conv2d" points=2
hint = "the example of the lecture: three channels summed, one bias for each filter"
got = conv2d(example_x, example_kernel, example_bias, s=2, p=1)
assert agree(got, example_y, hint)
wide = np.arange(6 * 9 * 2.0).reshape(6, 9, 2)
kernel = np.arange(3 * 3 * 2 * 4.0).reshape(3, 3, 2, 4) - 30
hint = "6 rows and 9 columns: 2 and 4 positions"
expected = arithmetic.conv2d(wide, kernel, s=2)
assert agree(conv2d(wide, kernel, np.zeros(4), s=2), expected, hint)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(11)
for shape, f, k, s, p in [
    ((8, 5, 3), 3, 2, 1, 0),
    ((7, 9, 1), 2, 3, 3, 2),
    ((5, 5, 4), 5, 1, 1, 1),
]:
    shapes = shape, (f, f, shape[-1], k), k
    x, kernel, bias = (random.normal(size=sizes) for sizes in shapes)
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    expected = ops.convert_to_numpy(ops.conv(padded[None], kernel, strides=s))[0] + bias
    hint = f"input {shape}, {k} filters of {f}, s {s}, p {p}"
    assert agree(conv2d(x, kernel, bias, s, p), expected, hint)
### END HIDDEN TESTS
print("passed: channels, several filters, images that are not square")

# %% [markdown]
# Your loops on the photograph: three filters over three channels. The first answers to edges from left to right, the
# second to edges from top to bottom. The third stands in no textbook: it answers where there is more red than blue.

# %% tags=["thumbnail"]
sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
colour = np.zeros((3, 3, 3))
colour[1, 1] = [1, 0, -1]
across, down = (np.repeat(edge[..., None], 3, -1) / 3 for edge in (sobel, sobel.T))
trio = np.stack([across, down, colour], axis=-1)
maps = np.asarray(conv2d(photo, trio, np.zeros(3), p=1))  # (size, size, 3)

figure, axes = plt.subplots(1, 4, figsize=(8, 2.3))
axes[0].imshow(photo)
titles = ["left to right", "top to bottom", "red − blue"]
for ax, title, shown in zip(axes[1:], titles, np.moveaxis(maps, -1, 0)):
    ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_title(title)
for ax in axes:
    ax.set_axis_off()

# %% [markdown]
# ### A question about shifts (2 points)
#
# The next cell runs your `conv2d` on two views of the photograph, the second one pixel further to the right. It draws
# how much the shifted response differs from the response to the shifted view: at stride 1, where the maps are moved
# by one place, and at stride 2, where they are compared as they are, since half a place cannot be moved.

# %%
view, moved = photo[8:56, 8:56], photo[8:56, 9:57]
differences = {}
for stride in (1, 2):
    before, after = (
        np.asarray(conv2d(v, trio[..., :1], np.zeros(1), s=stride, p=1))[..., 0]
        for v in (view, moved)  # one after the other
    )
    if stride == 1:
        before, after = before[:, 1:], after[:, :-1]
    differences[stride] = np.abs(before - after)
figure, axes = plt.subplots(1, 2, figsize=(5.4, 2.6))
for ax, (stride, difference) in zip(axes, differences.items()):
    drawn = ax.imshow(difference, cmap="viridis", vmin=0, vmax=1)
    ax.set_title(f"stride {stride}")
    ax.set_axis_off()
scale = figure.colorbar(drawn, ax=axes, label="difference")

# %% [markdown]
# Is the convolution equivariant to this shift? Say for both strides what the picture shows, where it shows it, and
# why. What shift would the convolution of stride 2 follow?

# %% [markdown] question="equivariance" points=2
# ### BEGIN SOLUTION
# At stride 1 it is, away from the border: the difference is zero everywhere except in the first and last columns,
# where the window of one view reads padding zeros and that of the other view reads pixels, because the zeros do not
# move with the image. At stride 2 it is not: there are differences wherever the image has edges, since the windows of
# the second view stand between the windows of the first, and no output of the first view has looked at the same
# pixels. A shift by two pixels (or any multiple of the stride) would move the map of stride 2 by one place, and away
# from the border it would be followed exactly.
# ### END SOLUTION

# %% [markdown]
# ## 3. The same as a matrix (3 points)
#
# Write `convolution_matrix(kernel, n, s=1, p=0)` for one channel and one filter.
#
# - `kernel`: (f, f) array.
# - `n`: int; the input is n × n pixels, written as a vector row by row, so that pixel (row, column) has index
#   `row * n + column`.
# - Returns the array of shape (m · m, n · n), with m from your `output_size`, that turns the vector of pixels into
#   the vector of outputs (row by row, too).
#
# Each row of the matrix belongs to one output: put the filter's weights where its window lies. A weight that falls on
# the padding meets a zero and has no column: leave it out.
#
# The check looks at the matrix of the lecture, and at products with images, with padding and stride.


# %% gap="matrix" stub="return the (m * m, n * n) matrix"
def convolution_matrix(kernel, n, s=1, p=0):
    ### BEGIN SOLUTION
    f = len(kernel)
    m = output_size(n, f, s, p)
    matrix = np.zeros((m * m, n * n))
    for row in range(m):
        for column in range(m):
            for a in range(f):
                for b in range(f):
                    y, x = row * s + a - p, column * s + b - p
                    if 0 <= y < n and 0 <= x < n:
                        matrix[row * m + column, y * n + x] = kernel[a, b]
    return matrix
    ### END SOLUTION


# %% check="matrix" points=1
kernel = np.array([[1, 4, 1], [1, 4, 3], [3, 3, 1]])
U = [
    [1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1, 0, 0, 0, 0, 0],
    [0, 1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1, 0, 0, 0, 0],
    [0, 0, 0, 0, 1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1, 0],
    [0, 0, 0, 0, 0, 1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1],
]
by_columns = np.reshape(U, (2, 2, 4, 4)).transpose(0, 1, 3, 2).reshape(4, 16)
mistakes = [
    ("the filter is turned round by 180 degrees", np.array(U)[::-1, ::-1]),
    ("the pixels are counted column by column, not row by row", by_columns),
]
hint = "one row for each output, one column for each pixel, both counted row by row"
assert agree(convolution_matrix(kernel, 4), U, hint, mistakes)
assert own_work(convolution_matrix, kernel, 4)
print("passed: the matrix of the lecture")

# %% check="matrix" points=2
for n, s, p in [(5, 1, 1), (5, 2, 1), (6, 2, 0)]:
    hint = f"n = {n}, s = {s}, p = {p}: leave out weights on the padding; move by s"
    expected = arithmetic.convolution_matrix(kernel, (n, n), s, p)
    assert agree(convolution_matrix(kernel, n, s, p), expected, hint)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(12)
for n, f, s, p in [(6, 2, 1, 0), (7, 3, 3, 2), (5, 5, 1, 2), (8, 1, 2, 0)]:
    x, weights = random.normal(size=(n, n)), random.normal(size=(f, f))
    expected = ops.convert_to_numpy(
        ops.conv(np.pad(x, p)[None, ..., None], weights[..., None, None], strides=s),
    )
    matrix, hint = convolution_matrix(weights, n, s, p), f"n {n}, f {f}, s {s}, p {p}"
    assert agree(
        np.shape(matrix),
        (expected.size, n * n),
        f"the shape of the matrix for {hint}",
    )
    assert agree(np.asarray(matrix) @ x.ravel(), expected.ravel(), hint)
### END HIDDEN TESTS
print("passed: padding, stride, and products with images")

# %% [markdown]
# Your matrix, with each of the nine weights in a colour of its own, and what it does when it is multiplied with 32 ×
# 32 pixels.

# %%
numbered = np.asarray(convolution_matrix(np.arange(1, 10).reshape(3, 3), 6, p=1))
tiny = transform.resize(grey, (32, 32), anti_aliasing=True)
as_matrix = np.asarray(convolution_matrix(sobel, 32, p=1))
filtered = (as_matrix @ tiny.ravel()).reshape(32, 32)
figure, axes = plt.subplots(1, 3, figsize=(8, 2.9))
plots.weight_pattern(numbered, "6 × 6 pixels, padding 1", axes[0])
axes[1].imshow(tiny)
axes[2].imshow(filtered, cmap="RdBu_r", vmin=-2, vmax=2)
axes[2].set_title("matrix · pixels")
for ax in axes[1:]:
    ax.set_axis_off()

# %% [markdown]
# ## 4. The transposed convolution (3 points)
#
# Write `conv2d_transpose(y, kernel, s=1, p=0)` for one channel and one filter, without building a matrix.
#
# - `y`: (h, w) array.
# - `kernel`: (f, f) array.
# - Returns an array of ((h − 1) · s + f − 2p, (w − 1) · s + f − 2p) numbers.
#
# Each number of `y` stamps a multiple of the filter onto the result, `s` pixels further on for each step in `y`;
# where stamps overlap, they add up. In the end, `p` rows and columns are cut off on every side. The filter is not
# turned round.
#
# The check does the example of the lecture, (2 1 4 4), then looks for the defining property: the matrix of the
# transposed convolution is the transpose of the convolution's matrix.


# %% gap="transposed" stub="return the stamped and cropped array"
def conv2d_transpose(y, kernel, s=1, p=0):
    ### BEGIN SOLUTION
    height, width = y.shape
    f = len(kernel)
    output = np.zeros(((height - 1) * s + f, (width - 1) * s + f))
    for row in range(height):
        for column in range(width):
            top, left = row * s, column * s
            output[top : top + f, left : left + f] += y[row, column] * kernel
    return output[p : output.shape[0] - p, p : output.shape[1] - p]
    ### END SOLUTION


# %% check="transposed" points=1
kernel = np.array([[1, 4, 1], [1, 4, 3], [3, 3, 1]])
one = np.array([[0, 1], [0, 0]])
expected = np.pad(kernel, ((0, 2), (2, 0)))
turned = np.pad(kernel[::-1, ::-1], ((0, 2), (2, 0)))
hint = "one number of y stamps the filter, s pixels further on, and nothing else"
mistakes = [("the filter is turned round by 180 degrees", turned)]
assert agree(conv2d_transpose(one, kernel, s=2), expected, hint, mistakes)
four = np.array([[2, 1], [4, 4]])
expected = [[2, 9, 6, 1], [6, 29, 30, 7], [10, 29, 33, 13], [12, 24, 16, 4]]
hint = "the example of the lecture: overlapping stamps add up"
assert agree(conv2d_transpose(four, kernel), expected, hint)
assert own_work(conv2d_transpose, four, kernel)
print("passed: stamps, and where they overlap")

# %% check="transposed" points=2
y = np.arange(12.0).reshape(3, 4)
hint = "stride 2, and one row and column cut off on every side"
expected = arithmetic.conv2d_transpose(y, kernel, 2, 1)
assert agree(conv2d_transpose(y, kernel, 2, 1), expected, hint)
for n, s, p in [(5, 1, 1), (5, 2, 0), (7, 2, 1)]:
    matrix = arithmetic.convolution_matrix(kernel, (n, n), s, p)
    m = arithmetic.output_size(n, 3, s, p)
    y = np.arange(m * m).reshape(m, m) % 5 - 1
    hint = f"the transpose of the matrix for n = {n}, s = {s}, p = {p}"
    expected = (matrix.T @ y.ravel()).reshape(n, n)
    assert agree(conv2d_transpose(y, kernel, s, p), expected, hint)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(13)
for shape, f, s in [((3, 5), 4, 2), ((4, 2), 3, 3), ((1, 6), 5, 1)]:
    y, weights = random.normal(size=shape), random.normal(size=(f, f))
    batch, kernels = y[None, ..., None], weights[..., None, None]
    expected = ops.conv_transpose(batch, kernels, strides=s, padding="valid")
    expected = ops.convert_to_numpy(expected)[0, ..., 0]
    hint = f"y {shape}, f {f}, s {s}"
    assert agree(conv2d_transpose(y, weights, s), expected, hint)
### END HIDDEN TESTS
print("passed: padding, and the transpose of the matrix")

# %% [markdown]
# Your function enlarges 32 × 32 pixels: with a tent (bilinear interpolation), and with a 3 × 3 filter at stride 2, which
# leaves a checkerboard.

# %%
tent = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25])
smooth = conv2d_transpose(tiny, tent, s=2, p=1)
chequered = conv2d_transpose(tiny, np.full((3, 3), 1 / 2.25), s=2)
figure, axes = plt.subplots(1, 3, figsize=(7, 2.8), width_ratios=(1, 2, 2))
titles = "32 × 32", "f 4, tent", "f 3, constant"
for ax, shown, title in zip(axes, (tiny, smooth, chequered), titles):
    ax.imshow(shown, vmin=0, vmax=1)
    ax.set_title(title)
    ax.set_axis_off()

# %% [markdown]
# ## 5. The gradient of the filter (3 points)
#
# So far the filters were given. A network learns them, and for that it needs to know how the loss changes with each
# weight. Write `filter_gradient(x, above, f, s=1, p=0)` for one channel and one filter.
#
# - `x`: (H, W) array, the input. The output was y = the convolution of `x` with an f × f filter, stride `s`, `p` zeros
#   on every side.
# - `above`: (h, w) array, the gradient of the loss with respect to each number of y.
# - Returns the gradient of the loss with respect to the filter, an (f, f) array.
#
# The lecture has a formula for stride 1 without padding. Work out what holds for every stride and padding. Take one
# weight, say the one at the top left of the filter. Which pixel does it meet when the filter stands at the first place?
# And at the next one? If this weight grows by a little, by how much does each output grow, and what does that do to the
# loss? A weight is used at every place, so its gradient has a share from every place.
#
# The check works a small example by hand, then moves each weight and compares.


# %% gap="filter-gradient" stub="return the gradient with respect to the filter, (f, f)"
def filter_gradient(x, above, f, s=1, p=0):
    ### BEGIN SOLUTION
    padded = np.pad(x, p)
    gradient = np.zeros((f, f))
    for row, column in np.ndindex(*above.shape):
        window = padded[row * s : row * s + f, column * s : column * s + f]
        gradient += above[row, column] * window
    return gradient
    ### END SOLUTION


# %%
def by_moving(x, above, f, s, p):
    """The gradient, one weight at a time: y is linear in the filter."""
    gradient = np.zeros((f, f))
    for weight in np.ndindex(f, f):
        unit = np.zeros((f, f))
        unit[weight] = 1
        padded, unit = np.pad(x, p)[None, ..., None], unit[..., None, None]
        output = ops.convert_to_numpy(ops.conv(padded, unit, strides=s))[0, ..., 0]
        gradient[weight] = np.sum(above * output)
    return gradient


# %% check="filter-gradient" points=1
x, above = np.arange(9.0).reshape(3, 3), np.array([[1, 10], [100, 1000]])
expected = [[4310, 5421], [7643, 8754]]
hint = "the top left weight meets 0, 1, 3, 4 and gets 1·0 + 10·1 + 100·3 + 1000·4"
mistakes = [
    ("the answer is turned round by 180 degrees", np.array(expected)[::-1, ::-1]),
    (
        "divided by the number of places: the shares are added up",
        np.array(expected) / 4,
    ),
    ("only the last place is left: the shares are added up", 1000 * x[1:, 1:]),
]
assert agree(filter_gradient(x, above, 2), expected, hint, mistakes)
assert own_work(filter_gradient, x, above, 2)
print("passed: the example by hand")

# %% check="filter-gradient" points=2
x = np.arange(42.0).reshape(6, 7) % 5
for f, s, p in [(3, 1, 0), (3, 2, 0), (3, 1, 1), (2, 2, 1)]:
    shape = arithmetic.output_size(6, f, s, p), arithmetic.output_size(7, f, s, p)
    above = np.arange(shape[0] * shape[1]).reshape(shape) % 4 - 1
    hint = f"f = {f}, s = {s}, p = {p}: each weight was moved, and the loss compared"
    expected = by_moving(x, above, f, s, p)
    assert agree(filter_gradient(x, above, f, s, p), expected, hint)
### BEGIN HIDDEN TESTS
random = np.random.default_rng(14)
for shape, f, s, p in [((9, 5), 4, 3, 2), ((5, 8), 1, 2, 0), ((7, 7), 5, 1, 2)]:
    x = random.normal(size=shape)
    above = random.normal(size=[arithmetic.output_size(n, f, s, p) for n in shape])
    expected, hint = by_moving(x, above, f, s, p), f"input {shape}, f {f}, s {s}, p {p}"
    assert agree(filter_gradient(x, above, f, s, p), expected, hint)
### END HIDDEN TESTS
print("passed: stride, padding, and images that are not square")

# %% [markdown]
# Now your `conv2d` and your gradient learn a filter. Somebody has filtered a picture of random pixels with a secret
# filter. Gradient descent gets the two pictures and starts at a filter of zeros. In each step it compares its own output
# with the filtered picture, and moves the filter against the gradient of the mean squared error.

# %%
secret = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2.0]])
noise = np.random.default_rng(seed).normal(size=(16, 16, 1))
target = np.asarray(conv2d(noise, secret[..., None, None], np.zeros(1)))[..., 0]
learned, steps = np.zeros((3, 3)), {0: np.zeros((3, 3))}
for step in range(1, 31):
    output = np.asarray(conv2d(noise, learned[..., None, None], np.zeros(1)))[..., 0]
    error = output - target
    gradient = np.asarray(filter_gradient(noise[..., 0], 2 * error / error.size, 3))
    learned = learned - 0.2 * gradient
    steps[step] = learned
filter_error = np.abs(learned - secret).max()

figure, axes = plt.subplots(1, 5, figsize=(8, 1.9))
drawn = {f"step {step}": steps[step].round(1) + 0.0 for step in (0, 1, 5, 30)}
for ax, (title, shown) in zip(axes, {**drawn, "secret": secret}.items()):
    plots.number_matrix(shown, title=title, shade="RdBu_r", ax=ax)

# %% [markdown]
# ## 6. What a unit sees (2 points)
#
# Write `receptive_fields(layers)` for a chain of layers.
#
# - `layers`: list of (f, s, p, d), from the pixels upward; pooling counts like a convolution.
# - Returns a list with one tuple (size, jump, start) for each layer: the width of the field in pixels, the distance
#   in pixels between the fields of two neighbouring units, and the centre of the first unit's field. The centre of the
#   first pixel lies at 0.5.
#
# The lecture has the rule in a table; find it again by drawing before you look it up. For the pixels themselves size and
# jump are 1 and start is 0.5. A layer's filter, with its dilation, is e = d · (f − 1) + 1 units of the layer below wide.
# How many pixels more does its first unit see than a unit of the layer below? Where is the middle of what it sees, if the
# first p units are padding? How far apart are two neighbours of its own units, in pixels?
#
# The check follows two and three 3 × 3 filters, a strided and a dilated chain, and VGG16 up to its last pooling.


# %% gap="receptive-field" stub="return a list of (size, jump, start)"
def receptive_fields(layers):
    ### BEGIN SOLUTION
    size, jump, start = 1, 1, 0.5
    fields = []
    for f, s, p, d in layers:
        extent = d * (f - 1) + 1
        size += (extent - 1) * jump
        start += ((extent - 1) / 2 - p) * jump
        jump *= s
        fields.append((size, jump, start))
    return fields
    ### END SOLUTION


# %% check="receptive-field" points=2
hint = "three 3 × 3 filters see 3, 5 and 7 pixels"
expected = [(3, 1, 0.5), (5, 1, 0.5), (7, 1, 0.5)]
assert agree(receptive_fields([(3, 1, 1, 1)] * 3), expected, hint)
hint = "a stride widens the steps of the layers above it, not of its own"
got = receptive_fields([(3, 2, 0, 1), (3, 1, 0, 1)])
assert agree(got, [(3, 2, 1.5), (7, 2, 3.5)], hint)
dilated = [(3, 1, 0, d) for d in (1, 2, 4, 8)]
hint = "dilations 1, 2, 4, 8 see 31 pixels"
assert agree(receptive_fields(dilated)[-1], (31, 1, 15.5), hint)
vgg16_chain = []
for convolutions in (2, 2, 3, 3, 3):
    vgg16_chain += [(3, 1, 1, 1)] * convolutions + [(2, 2, 0, 1)]
hint = "VGG16's last pooling: 212 pixels, 32 apart, the first around 16"
assert agree(receptive_fields(vgg16_chain)[-1], (212, 32, 16), hint)
assert own_work(receptive_fields, dilated)
### BEGIN HIDDEN TESTS
alexnet = [(11, 4, 0, 1), (3, 2, 0, 1), (5, 1, 2, 1), (3, 2, 0, 1), (3, 1, 1, 1)]
chains = [[(7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 2, 2)], alexnet]
chains += [[(1, 1, 0, 1)], [(3, 2, 0, 3), (2, 1, 0, 2)]]
for chain in chains:
    expected = arithmetic.receptive_field_chain(chain)
    expected = expected[["size", "jump", "start"]].to_numpy()
    assert agree(receptive_fields(chain), expected, f"the chain {chain}")
### END HIDDEN TESTS
print("passed: chains with stride, padding and dilation, and VGG16")

# %% [markdown]
# The fields of one unit behind each of VGG16's first four poolings, placed by your sizes, jumps and starts.

# %%
fields = zip(receptive_fields(vgg16_chain), vgg16_chain)
fields = [field for field, layer in fields if layer[1] == 2][:4]
figure, ax = plt.subplots(figsize=(3.6, 3.6))
ax.imshow(photo)
for (width, jump, first), colour in zip(fields, plots.PALETTE):
    centre = first + (size // 2 - first) // jump * jump
    corner = centre - width / 2 - 0.5  # imshow puts the first pixel's centre at 0
    frame = {"fill": False, "edgecolor": colour, "linewidth": 2.5}
    square = plt.Rectangle(
        (corner, corner),
        width,
        width,
        label=f"{width} pixels",
        **frame,
    )
    ax.add_patch(square)
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
ax.set_axis_off()

# %% [markdown]
# ## 7. Count a network (3 points)
#
# Write `count_net(shape, layers)`.
#
# - `shape`: (height, width, channels) of the input image.
# - `layers`: list of tuples: `("conv", filters, f, s, p)`, `("pool", f, s)` (no padding), or `("dense", units)`. The
#   first dense layer takes the whole volume as one long vector.
# - Returns a list with one tuple of three ints for each layer: parameters, multiply-accumulates (MACs), and *values*:
#   how many numbers the layer puts out.
#
# Each filter and each unit has one bias. A MAC is one product of a weight with a number that is added up; biases are
# not counted. How often is each weight of a convolution used, and how often each weight of a dense layer? Pooling has
# neither parameters nor MACs.
#
# Use your `output_size`. The check counts a small net, AlexNet's first layer, then VGG16: 138,357,544 parameters and
# 15,470,264,320 MACs.


# %% gap="count-net" stub="return a list of (parameters, macs, values)"
def count_net(shape, layers):
    ### BEGIN SOLUTION
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        if kind == "conv":
            filters, f, s, p = numbers
            weights = f * f * channels * filters
            height, width = output_size(height, f, s, p), output_size(width, f, s, p)
            parameters, macs = weights + filters, height * width * weights
            channels = filters
        elif kind == "pool":
            f, s = numbers
            parameters, macs = 0, 0
            height, width = output_size(height, f, s), output_size(width, f, s)
        else:
            (units,) = numbers
            inputs = height * width * channels
            parameters, macs = (inputs + 1) * units, inputs * units
            height, width, channels = 1, 1, units
        rows.append((parameters, macs, height * width * channels))
    return rows
    ### END SOLUTION


# %% [markdown]
# The nets of the check: a small one, and VGG16 with its 21 layers.

# %%
small_net = [
    ("conv", 8, 3, 1, 1),
    ("pool", 2, 2),
    ("conv", 16, 5, 2, 0),
    ("dense", 512),
    ("dense", 4),
]
vgg16 = []
for convolutions, filters in [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]:
    vgg16 += [("conv", filters, 3, 1, 1)] * convolutions + [("pool", 2, 2)]
vgg16 += [("dense", 4096), ("dense", 4096), ("dense", 1000)]

# %% check="count-net" points=1
expected = [
    (224, 221_184, 8192),
    (0, 0, 2048),
    (3216, 115_200, 576),
    (295_424, 294_912, 512),
    (2052, 2048, 4),
]
hint = "rows: conv, pool, conv, dense, dense; columns: parameters, MACs, values"
assert agree(count_net((32, 32, 3), small_net), expected, hint)
hint = "AlexNet's first layer: 96 filters of 11 × 11 × 3, each at 55 × 55 places"
got = count_net((227, 227, 3), [("conv", 96, 11, 4, 0)])
assert agree(got, [(34_944, 105_415_200, 290_400)], hint)
print("passed: a small net, and AlexNet's first layer")

# %% check="count-net" points=2
rows = count_net((224, 224, 3), vgg16)
assert np.shape(rows) == (21, 3), f"21 layers, three numbers each; got {np.shape(rows)}"
sums = np.sum(rows, axis=0)
for name, counted, printed in [
    ("parameters", sums[0], 138_357_544),
    ("MACs", sums[1], 15_470_264_320),
    ("values, the image included", sums[2] + 224 * 224 * 3, 15_237_608),
]:
    assert counted == printed, f"VGG16 has {printed:,} {name}, you count {counted:,}"
assert own_work(count_net, (32, 32, 3), small_net)
### BEGIN HIDDEN TESTS
kl = keras.layers
stack = [kl.Conv2D(6, 5, strides=3), kl.MaxPooling2D(3, 2), kl.Conv2D(5, 1)]
stack += [kl.Flatten(), kl.Dense(7)]
table = arithmetic.layer_table(keras.Sequential([keras.Input((45, 38, 2)), *stack]))
table = table[~table["type"].isin(["InputLayer", "Flatten"])]
expected = np.stack(
    [table["params"], table["macs"], table["activation_bytes"] // 4],
    axis=1,
)
net = [("conv", 6, 5, 3, 0), ("pool", 3, 2), ("conv", 5, 1, 1, 0), ("dense", 7)]
hint = "a net on an image that is not square"
assert agree(count_net((45, 38, 2), net), expected, hint)
### END HIDDEN TESTS
print("passed: VGG16, to the last parameter")

# %% [markdown]
# VGG16, counted by you. Blue: convolutions, light blue: poolings, orange: dense layers.

# %%
names, block, place = [], 1, 0
for kind, *_ in vgg16:
    place += 1
    words = {"conv": f"conv{block}_{place}", "pool": f"pool{block}"}
    names.append(words.get(kind, f"fc{5 + place}"))
    if kind == "pool":
        block, place = block + 1, 0
palette = {"conv": plots.BLUE, "pool": plots.SKY, "dense": plots.VERMILLION}
colours = [palette[kind] for kind, *_ in vgg16]
parameters, macs, values = np.array(rows).T
columns = {"parameters": parameters, "MACs": macs, "values": values}
plots.layer_bars(names, columns, colours)

# %%
record(
    vgg16_parameters=parameters.sum(),
    vgg16_macs=macs.sum(),
    filter_error=filter_error,
)

# %% [markdown]
# ### A question about costs (2 points)
#
# Three people want a smaller VGG16: one must fit its *weights* into a small file, one wants it to run in less *time*
# (take the MACs for it), one runs out of *memory for activations*. Read the picture: in which layers should each of
# them look first, roughly which share of the total lies there, and why do the three kinds of cost lie in different
# places?

# %% [markdown] question="costs" points=2
# ### BEGIN SOLUTION
# The weights lie in the dense layers, 89 % of them, and most of these in fc6 alone (102.8 of 138.4 million), because
# it has one weight for each pair of 25,088 inputs and 4,096 outputs; removing or replacing fc6 makes the file small.
# The time lies in the convolutions, more than 99 % of the MACs, spread over the blocks with no single culprit: each
# weight of a convolution is used at every position, up to 50,176 times, while a weight of a dense layer is used once.
# The activations lie in the first layers, two fifths of them in the first two convolutions, because there the maps
# are still 224 × 224 with 64 channels; each pooling divides the positions by four while the channels at most double.
# So parameters grow with the channels, activations with the positions, and MACs with both.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - count positions: floor, dilation, and what happens when nothing fits;
# - write a convolution with loops and as a matrix, and its transpose by stamping;
# - find the gradient of a filter, and learn a filter with it;
# - follow size, jump and start of a receptive field through a network;
# - count parameters, MACs and activations of a network, and say where each of them lies.
#
# ## Exercises
#
# 1. (easy) Let `output_size` take `p="same"` and give what Keras gives. *Hint: the size is ⌈n / s⌉; the zeros need
#    not be known.*
# 2. (medium) Give `conv2d` a dilation and compare with `utils.arithmetic.conv2d`. *Hint: a slice with a step,
#    `padded[a : a + e : d]`.*
# 3. (medium) Let `conv2d` do without loops over positions. *Hint: loop over the f · f taps of the filter; each tap
#    multiplies a strided slice of the whole image.* How much faster is it on the photograph?
# 4. (hard) Let `count_net` count depthwise separable convolutions, and count MobileNet. *Hint: 568,740,352 MACs at
#    224; `keras.applications.MobileNet` and `utils.arithmetic.layer_table` show every layer.*
#
# ## Further reading
#
# - V. Dumoulin and F. Visin, *A guide to convolution arithmetic for deep learning*, arXiv:1603.07285, 2016.
# - A. Araujo, W. Norris and J. Sim, *Computing receptive fields of convolutional neural networks*, Distill 2019.
# - K. Simonyan and A. Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015.
# - A. Krizhevsky, I. Sutskever and G. E. Hinton, *ImageNet classification with deep convolutional neural networks*,
#   NIPS 2012.
