# %% [markdown]
# # 12 Beyond images, beyond labels: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/12_beyond_images_beyond_labels.ipynb)
#
# **The same block, other ends.** You will give a network a code that you can draw new digits from, a filter along time
# that never looks ahead, the step with which a decoder writes its next word, and the target towards which a player
# learns. Each is a few lines, and each of them trains something at once.
#
# You will be able to
#
# - draw from a distribution so that the gradient passes, and compute what a code costs in nats;
# - convolve along time, causally and with dilation, and choose dilations for a field;
# - write the attention and the step of a captioning decoder, and search with it;
# - compute a Q-network's targets, and train a player that beats chance.
#
# Plan two hours for it. There are 19 points. The training takes about two minutes on two cores.

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
seed: int = 0  # [0, ] the first weights, and what is drawn
digits: str = "digits"  # what the variational autoencoder sees: grey images by name; 4 divides their sides
drawn: int = 1000  # [50, 60000] of its training images
code_steps: int = 1200  # [5, 20000] training steps of 50 of them
gain: float = 1.5  # [-1000, 1000] nats an image by which its ELBO must beat that of a code that says nothing
rhythm_steps: int = 300  # [5, 20000] training steps of the network that tells rhythms apart
heard: float = 0.9  # [0, 1] share of the test rhythms that it must name right
caption_steps: int = 700  # [5, 20000] training steps of the decoder
written: float = 0.75  # [0, 1] share of the test captions that it must write exactly
moves: int = 1000  # [5, 20000] training steps of the player
caught: float = 0.6  # [-1, 1] mean reward that the player must reach

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops

from utils import arithmetic, data, generative, plots, reinforcement, results, sequence, session, training, transfer
from utils.data import shapes, sounds

session.start(seed)

# %% [markdown]
# Two helpers for the checks: your answer may be a tensor, a NumPy array or a list.


# %%
def numbers(value):
    """A tensor, array or list as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(ops.convert_to_tensor(value)), "float64")


def floats(*values):
    """Tensors of float32."""
    return [ops.convert_to_tensor(np.asarray(value, "float32")) for value in values]


# %% [markdown]
# ## 1. A draw that lets the gradient pass (1 point)
# Write `draw(mean, log_variance, noise)`: the point of a normal distribution with this mean and the variance
# exp(log_variance) that belongs to `noise`, a draw from N(0, 1).
#
# In: three tensors (B, D). Out: a tensor (B, D). Use `keras.ops`, since NumPy has no gradients. The check works
# examples by hand and compares the spread of many draws.


# %% gap="draw" stub="return the draw as a function of mean, log-variance and noise"
def draw(mean, log_variance, noise):
    ### BEGIN SOLUTION
    return mean + ops.exp(log_variance / 2) * noise
    ### END SOLUTION


# %% check="draw" points=1
answer = numbers(draw(*floats([[1, 1, -2]], np.log([[4, 4, 1]]), [[0, 1.5, -1]])))
assert answer.shape == (1, 3), f"one draw for each mean: (1, 3), got {answer.shape}"
assert np.allclose(answer, [[1, 4, -3]], atol=1e-4), (
    f"mean 1, variance 4, so deviation 2: noise 0 gives 1 and noise 1.5 gives 4; got {answer.round(2).tolist()}"
)
noise = np.random.default_rng(1).normal(size=(20000, 1))
many = numbers(draw(*floats(np.full((20000, 1), 3), np.full((20000, 1), np.log(0.25)), noise)))
assert np.isclose(many.std(), 0.5, atol=0.02) and np.isclose(many.mean(), 3, atol=0.02), (
    f"mean 3 and deviation .5 were asked for; 20,000 draws have {many.mean():.2f} and {many.std():.2f}"
)
### BEGIN HIDDEN TESTS
m, v, e = np.random.default_rng(2).normal(size=(3, 4, 5))
expected = m + np.exp(v / 2) * e
assert np.allclose(numbers(draw(*floats(m, v, e))), expected, atol=1e-4), (
    "mean + deviation * noise, with the deviation exp(log_variance / 2): other numbers give another result"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. The loss of a variational autoencoder (3 points)
# Write `negative_elbo(images, logits, mean, log_variance)`: for each image
#
# - the **reconstruction error** in nats: the binary cross-entropy between the pixels (brightness in [0, 1]) and the
#   sigmoid of the logits, *summed* over the pixels of the image;
# - plus the **KL divergence** of N(mean, exp(log_variance)) from N(0, 1), summed over the numbers of the code: half of
#   mean² + variance − 1 − log variance.
#
# In: images and logits (B, H, W, C), mean and log_variance (B, D). Out: (B,), one number for each image.
# `keras.ops.binary_crossentropy(target, output, from_logits=True)` gives one number for each pixel. The check takes
# the two terms apart.


# %% gap="elbo" stub="return reconstruction error plus KL divergence, one number for each image"
def negative_elbo(images, logits, mean, log_variance):
    ### BEGIN SOLUTION
    error = ops.sum(ops.binary_crossentropy(images, logits, from_logits=True), axis=(1, 2, 3))
    kl = ops.sum(mean**2 + ops.exp(log_variance) - 1 - log_variance, axis=-1) / 2
    return error + kl
    ### END SOLUTION


# %% check="elbo" points=1
half = np.full((2, 3, 4, 1), 0.5)
zeros = np.zeros((2, 2))
answer = numbers(negative_elbo(*floats(half, 0 * half, zeros, zeros)))
assert answer.shape == (2,), f"one number for each of two images, (2,); got the shape {answer.shape}"
assert np.allclose(answer, 12 * np.log(2), atol=1e-3), (
    f"twelve pixels with probability one half cost 12 log 2 = 8.318 nats, and a code of N(0, 1) nothing; got {answer}"
)

# %% check="elbo" points=1
costs = numbers(negative_elbo(*floats(half, 0 * half, [[2, 0], [1, 0]], np.log([[1, 1], [0.25, 1]])))) - answer
by_hand = [2, (1 + 0.25 - 1 + np.log(4)) / 2]
assert np.allclose(costs, by_hand, atol=1e-3), (
    f"the KL divergences are 2 (mean 2, variance 1) and .818 (mean 1, variance 1/4); got {costs.round(3)}"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(3)
images, logits = rng.uniform(size=(3, 4, 4, 1)), rng.normal(0, 3, (3, 4, 4, 1))
mean, log_variance = rng.normal(size=(2, 3, 6))
p = 1 / (1 + np.exp(-logits))
expected = -(images * np.log(p) + (1 - images) * np.log(1 - p)).sum(axis=(1, 2, 3))
expected += (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1) / 2
answer = numbers(negative_elbo(*floats(images, logits, mean, log_variance)))
assert np.allclose(answer, expected, rtol=1e-3), f"three random images cost {expected.round(2)}, got {answer.round(2)}"
### END HIDDEN TESTS

# %% [markdown]
# Both in use: a VAE with a code of two numbers, whose every step calls your functions.


# %%
class Painter(keras.Model):
    """A variational autoencoder with your functions in it."""

    def __init__(self, shape):
        super().__init__()
        self.encoder, self.decoder = generative.encoder(shape, 4), generative.decoder(shape, 2)
        self.chance = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        code = self.encoder(images)
        mean, log_variance = code[:, :2], code[:, 2:]
        noise = keras.random.normal(ops.shape(mean), seed=self.chance)
        return self.decoder(draw(mean, log_variance, noise if training else 0 * noise)), mean, log_variance

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(negative_elbo(x, *y_pred))


# %%
train_images, _ = data.arrays(digits, f"train[:{drawn}]", channels=1)
test_images, test_labels = data.arrays(digits, "test[:1000]", channels=1)
x, x_test = ((array / 255).astype("float32") for array in (train_images, test_images))
keras.utils.set_random_seed(seed)
painter = Painter(x.shape[1:])
rate = training.WarmupHoldDecay(3e-3, code_steps, code_steps // 20)
painter.compile(keras.optimizers.Adam(rate), jit_compile=training.jit_compile())
order = np.random.default_rng(seed).integers(len(x), size=50 * code_steps)
history = painter.fit(x[order], batch_size=50, shuffle=False, verbose=0)

# %% [markdown]
# Does the code say anything? A network whose code says nothing can only paint one picture: the mean one. Its cost is
# the figure to beat. We judge with a draw for each test image, as the bound wants it.

# %%
_, mean, log_variance = (np.asarray(part) for part in painter.predict(x_test, verbose=0))
codes = generative.reparameterise(mean, log_variance, np.random.default_rng(4).normal(size=mean.shape))
logits = painter.decoder.predict(np.asarray(codes, "float32"), verbose=0)
kl = float(np.mean(generative.kl_divergence(mean, log_variance)))
cost = float(np.mean(generative.reconstruction_error(x_test, logits))) + kl
ink = x.mean(axis=0).clip(1e-3, 1 - 1e-3)
blank = np.broadcast_to(np.log(ink / (1 - ink)), x_test.shape)
silent = float(np.mean(generative.reconstruction_error(x_test, blank)))
plots.bars({"your network: −ELBO": cost, "of it KL": kl, "a code that says nothing": silent}, xlabel="nats an image")
results.record(elbo_gain=silent - cost, code_kl=kl)

# %% check="elbo" points=1
assert silent - cost >= gain, (
    f"your network costs {cost:.1f} nats an image, a code that says nothing {silent:.1f}: {gain} less is asked for. Is "
    "the KL divergence added, not multiplied, and does the draw use the noise?"
)

# %% tags=["thumbnail"]
side = 12
pixels = painter.decoder.predict(generative.plane(side).astype("float32"), verbose=0)
painted = (1 / (1 + np.exp(-pixels))).reshape(side, side, *x.shape[1:3])
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
for label in range(10):
    left.scatter(*mean[test_labels == label].T, s=8, color=plots.class_colour(label), label=str(label))
left.legend(fontsize=7, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.16))
left.set(xlabel="first number", ylabel="second number", aspect="equal", title="where the test images lie")
right.imshow(painted.transpose(0, 2, 1, 3).reshape(side * x.shape[1], -1), cmap="gray_r", vmin=0, vmax=1)
right.set(xticks=[], yticks=[], title="painted from the plane")
right.grid(False)

# %% [markdown]
# ## 3. Along time, never ahead (2 points)
# Write `causal(x, kernel, dilation)` in NumPy:
#
# $$y[t] = \sum_{i=0}^{f-1} x[t - (f - 1 - i)\, d]\; \mathrm{kernel}[i],$$
#
# with zeros before the beginning. The last entry of the kernel meets the present, the one before it the moment d steps
# ago.
#
# In: x (T, C), kernel (f, C, F), dilation d ≥ 1. Out: (T, F). Each entry of the kernel is a matrix (C, F). A loop over
# the entries is fine. The check works a small example by hand, touches the future, and compares with Keras.


# %% gap="causal" stub="convolve along time with zeros before the beginning"
def causal(x, kernel, dilation=1):
    ### BEGIN SOLUTION
    x, kernel = np.asarray(x), np.asarray(kernel)
    reach = (len(kernel) - 1) * dilation
    padded = np.concatenate([np.zeros((reach, x.shape[1])), x])
    return sum(padded[i * dilation : i * dilation + len(x)] @ entry for i, entry in enumerate(kernel))
    ### END SOLUTION


# %% check="causal" points=1
ramp = np.arange(1.0, 7.0)[:, None]  # 1, 2, ..., 6
kernel = np.array([100.0, 10.0, 1.0]).reshape(3, 1, 1)
answer = numbers(causal(ramp, kernel))
assert answer.shape == (6, 1), f"as many moments as went in, (6, 1); got {answer.shape}"
assert answer[:, 0].tolist() == [1, 12, 123, 234, 345, 456], (
    f"at t = 2 the filter (100, 10, 1) lies on 1, 2, 3, which makes 123; expected 1, 12, 123, 234, 345, 456, got {answer[:, 0]}"
)
answer = numbers(causal(ramp, kernel, 2))
assert answer[:, 0].tolist() == [1, 2, 13, 24, 135, 246], (
    f"with dilation 2 the filter at t = 4 lies on 1, 3, 5; expected 1, 2, 13, 24, 135, 246, got {answer[:, 0]}"
)

# %% check="causal" points=1
rng = np.random.default_rng(5)
sound, several = rng.normal(size=(30, 3)), rng.normal(size=(2, 3, 4))
before = numbers(causal(sound, several, 4))
touched = sound.copy()
touched[17] += 1
moved = np.flatnonzero(np.abs(numbers(causal(touched, several, 4)) - before).max(axis=1) > 1e-9)
assert moved.tolist() == [17, 21], f"touching moment 17 may change moments 17 and 21 only, it changed {moved.tolist()}"
### BEGIN HIDDEN TESTS
for size, dilation in ((1, 1), (3, 1), (2, 8), (3, 5), (4, 20)):
    filters = rng.normal(size=(size, 3, 2))
    expected = numbers(sequence.causal_convolution(*floats(sound[None], filters), dilation))[0]
    answer = numbers(causal(sound, filters, dilation))
    assert answer.shape == (30, 2) and np.allclose(answer, expected, atol=1e-3), (
        f"a filter of {size} with dilation {dilation} gives other values than Keras's: shape {answer.shape}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Choose the dilations (3 points)
# Three rhythms have the same gaps in different orders. To tell them apart a network must see two gaps in a row. A
# frame is 50 ms, and the field that is needed depends on the slowest tempo. Write `dilations_for(frames, size=3)`: the
# list of dilations of a stack of layers with filters of `size`,
#
# - the first dilation is 1;
# - each next dilation is as large as it can be such that **no frame is skipped**: the layer's filter entries may lie
#   no further apart than one output of the layers below sees;
# - as few layers as possible, such that one output of the last sees at least `frames` frames.
#
# In: int ≥ 1, int ≥ 2. Out: a list of int; for `frames=1` it is empty. A layer with dilation d widens the field by
# (size − 1) · d. Think it out for size 3: the first layer sees 3; how far apart may the three entries of the second
# lie, and how many frames are seen then?


# %% gap="dilations" stub="return the dilations, from the first layer to the last"
def dilations_for(frames, size=3):
    ### BEGIN SOLUTION
    dilations, field = [], 1
    while field < frames:
        dilations.append(field)  # entries one field apart: the fields below meet and do not overlap
        field += (size - 1) * field
    return dilations
    ### END SOLUTION


# %%
def seen(dilations, size):
    """Frames that one output depends on, found by touching them one at a time."""
    field = {0}
    for dilation in dilations:
        field = {place - i * dilation for place in field for i in range(size)}
    return field


# %% check="dilations" points=2
assert list(dilations_for(1)) == [], f"one frame needs no layer, got {dilations_for(1)}"
assert list(dilations_for(3)) == [1], f"one layer sees three frames, got {dilations_for(3)}"
answer = list(dilations_for(9))
assert answer == [1, 3], (
    f"entries 3 apart, on fields of 3 frames each, see 9 with no gap: expected [1, 3], got {answer}, which sees "
    f"{len(seen(answer, 3))} frames"
)
answer = list(dilations_for(10))
assert answer == [1, 3, 9], f"10 frames need a third layer: expected [1, 3, 9], got {answer}"
answer = list(dilations_for(16, 2))
assert answer == [1, 2, 4, 8], f"filters of 2 double the field: expected [1, 2, 4, 8] for 16 frames, got {answer}"
### BEGIN HIDDEN TESTS
for frames in (2, 5, 27, 28, 100):
    for size in (2, 3, 5):
        answer = list(dilations_for(frames, size))
        field = seen(answer, size)
        assert len(field) >= frames and len(field) == max(field) - min(field) + 1, (
            f"{answer} with filters of {size} sees {len(field)} frames with gaps or fewer than {frames}"
        )
        assert len(seen(answer[:-1], size)) < frames, f"{answer} has a layer more than {frames} frames need"
### END HIDDEN TESTS

# %% [markdown]
# Two networks with your dilations and equal layers hear the rhythms: one sees 7 frames, one all that is needed. The
# slowest bar lasts 1 / .9 s, two gaps are at most 10 of its 16 parts, which is .69 s: 14 frames, and one for the first
# stroke.

# %%
learn, learn_kind = sounds.rhythms(600, 2 * seed)
test, test_kind = sounds.rhythms(400, 2 * seed + 1)
spectra = [sequence.log_mel(part, sounds.RATE, bands=8, window=400, hop=400) for part in (learn, test)]
spectra = [(part - spectra[0].mean()) / spectra[0].std() for part in spectra]


def hear(dilations):
    """Share of the test rhythms that a network with these dilations names right."""
    keras.utils.set_random_seed(seed)
    widths = [32] * len(dilations)
    model = sequence.tdnn(spectra[0].shape[1:], 4, widths, dilations=dilations)
    schedule = training.WarmupHoldDecay(3e-3, rhythm_steps, rhythm_steps // 10)
    training.compile_classifier(model, keras.optimizers.Adam(schedule))
    x, y = transfer.repeat(spectra[0], learn_kind, rhythm_steps, 32, seed)
    model.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    return np.mean(transfer.predict(model, spectra[1]).argmax(axis=1) == test_kind)


enough = list(dilations_for(15))
field = arithmetic.receptive_field_chain([(3, 1, 0, d) for d in enough])["size"].iloc[-1]
rights = {"dilations 1, 1, 1: 7 frames": hear([1, 1, 1]), f"your dilations: {field} frames": hear(enough)}
plots.bars(rights, xlabel="right rhythms", baselines={"chance": 0.25, "even, and a guess": 0.5})
short, long = rights.values()
results.record(rhythm_short=short, rhythm_long=long)

# %% check="dilations" points=1
assert long >= heard, (
    f"{long:.2f} of the rhythms are right with your dilations {enough}, {heard} is asked for: the field must hold 15 frames"
)

# %% [markdown]
# ## 5. One step of a decoder (2 points)
# A decoder writes a caption. Before each word it looks at a map of N cells. Write `attend(cells, energies)`: the
# softmax of the energies over the cells as weights, and the context, the weighted sum of the cells.
#
# In: cells (B, N, C), energies (B, N), tensors. Out: context (B, C), weights (B, N). Use `keras.ops`. The check works
# an example by hand, and takes energies so large that exp overflows: subtract the largest first, or use `ops.softmax`.


# %% gap="attend" stub="return the context and the weights"
def attend(cells, energies):
    ### BEGIN SOLUTION
    weights = ops.softmax(energies, axis=-1)
    return ops.sum(weights[..., None] * cells, axis=1), weights
    ### END SOLUTION


# %% check="attend" points=2
cells = np.array([[[1, 0], [0, 1], [1, 1]], [[2, 0], [0, 0], [0, 4]]])
answer = attend(*floats(cells, np.log([[1, 3, 1], [1, 1, 2]])))
assert len(answer) == 2, "return two things: the context and the weights"
context, weights = map(numbers, answer)
assert weights.shape == (2, 3) and context.shape == (2, 2), (
    f"weights (2, 3) and context (2, 2) for two maps of three cells; got {weights.shape} and {context.shape}: context first"
)
assert np.allclose(weights, [[0.2, 0.6, 0.2], [0.25, 0.25, 0.5]], atol=1e-4), (
    f"energies log 1, log 3, log 1 make weights 1/5, 3/5, 1/5, for each map on its own; got {weights.round(2).tolist()}"
)
assert np.allclose(context, [[0.4, 0.8], [0.5, 2]], atol=1e-4), (
    f"1/5 (1, 0) + 3/5 (0, 1) + 1/5 (1, 1) = (.4, .8); got {context.round(2).tolist()}"
)
_, weights = attend(*floats(cells[:1], [[500, 500, 0]]))
assert np.allclose(numbers(weights), [[0.5, 0.5, 0]], atol=1e-4), (
    f"energies 500, 500, 0 make weights 1/2, 1/2, 0; got {numbers(weights)}: exp(500) overflows"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(6)
cells, energies = rng.normal(size=(3, 7, 4)), rng.normal(size=(3, 7))
share = np.exp(energies) / np.exp(energies).sum(axis=1, keepdims=True)
context, weights = map(numbers, attend(*floats(cells, energies)))
assert np.allclose(weights, share, atol=1e-4), f"seven cells: expected {share[0].round(3)}, got {weights[0].round(3)}"
assert np.allclose(context, (share[..., None] * cells).sum(axis=1), atol=1e-4), "the context is the weighted sum"
### END HIDDEN TESTS

# %% [markdown]
# ## 6. The search (3 points)
# A decoder has `start(cells)`, which gives the first state, and `step(cells, state, word)`, which gives the logits of
# the next word, the next state and the weights. Write `greedy(decoder, cells, length)`: begin with the word START (1);
# at each step take the most probable word; a sentence that has written END (2) gets PAD (0) from then on.
#
# In: a decoder, cells (B, N, C), the number of steps. Out: int array (B, length). The check uses a decoder that knows
# its sentences by heart, and two sentences of unequal length.


# %% gap="greedy" stub="write word by word, with PAD behind the END"
def greedy(decoder, cells, length):
    ### BEGIN SOLUTION
    state, word = decoder.start(cells), np.full(len(cells), 1, "int32")
    words, finished = [], np.zeros(len(cells), bool)
    for _ in range(length):
        logits, state, _ = decoder.step(cells, state, ops.convert_to_tensor(word))
        word = np.where(finished, 0, ops.convert_to_numpy(logits).argmax(axis=-1)).astype("int32")
        finished = finished | (word == 2)
        words.append(word)
    return np.stack(words, axis=1)
    ### END SOLUTION


# %%
class ByHeart:
    """Sentence b is 4 + b, then 5 + b, ... for `lengths[b]` words, then END; answers nonsense behind it."""

    lengths = np.array([2, 4, 1])

    def start(self, cells):
        self.last = []
        return ops.zeros((len(cells), 1))

    def step(self, cells, state, word, keys=None):
        self.last.append(numbers(word).astype(int).reshape(-1).tolist())
        time = int(numbers(state)[0, 0])
        answer = np.where(time < self.lengths, 4 + time + np.arange(3), np.where(time == self.lengths, 2, 9))
        logits = np.full((3, 12), -5.0, "float32")
        logits[np.arange(3), answer] = 5
        return ops.convert_to_tensor(logits), ops.convert_to_tensor(state) + 1, None


# %% check="greedy" points=2
reader = ByHeart()
answer = numbers(greedy(reader, np.zeros((3, 4, 2), "float32"), 6)).astype(int)
assert answer.shape == (3, 6), f"three sentences of six places, (3, 6); got {answer.shape}"
assert reader.last[0] == [1, 1, 1], f"the first word that the decoder reads is START, 1; it read {reader.last[0]}"
assert reader.last[1] == [4, 5, 6], f"then it reads what it wrote, 4, 5, 6; it read {reader.last[1]}"
assert answer.tolist() == [[4, 5, 2, 0, 0, 0], [5, 6, 7, 8, 2, 0], [6, 2, 0, 0, 0, 0]], (
    f"expected 4 5 END, 5 6 7 8 END and 6 END with PAD (0) behind, got {answer.tolist()}"
)
### BEGIN HIDDEN TESTS
reader.lengths = np.array([0, 1, 7])
answer = numbers(greedy(reader, np.zeros((3, 4, 2), "float32"), 3)).astype(int)
assert answer.tolist() == [[2, 0, 0], [5, 2, 0], [6, 7, 8]], (
    f"a sentence may be empty, and one may not be finished by the last step; got {answer.tolist()}"
)
### END HIDDEN TESTS

# %% [markdown]
# Both in use. To train fast we give the decoder an **ideal encoder**: its map is computed from the truth. Each of 6 ×
# 6 cells says which part of it each class covers, which colour lies there, and where the cell stands. What remains to
# be learnt is language: which words, in which order, and where to look for each.


# %%
class Decoder(sequence.AttentionDecoder):
    """The course's decoder, looking through your `attend`."""

    def attend(self, cells, keys, state):
        energies = self.energy(ops.tanh(keys + self.query(state)[:, None]))[..., 0]
        return attend(cells, energies)


def ideal(split, count):
    """Cells (count, 36, 26), captions and pictures."""
    scenes = shapes.scenes(count, split, config="pairs", image_size=48, radius=(15, 25), visible=0.9)
    maps = np.zeros((count, 6, 6, 26), "float32")
    maps[..., 14:20], maps[..., 20:26] = np.eye(6)[:, None], np.eye(6)  # row and column
    for number, scene in enumerate(scenes):
        shares = scene.masks.reshape(-1, 6, 8, 6, 8).mean(axis=(2, 4))
        for label, colour, share in zip(scene.labels, scene.colours, shares):
            maps[number, ..., label] += share
            maps[number, ..., 6 + shapes.COLOURS.index(colour)] += share
    return maps.reshape(count, 36, 26), [scene.caption for scene in scenes], [scene.image for scene in scenes]


vocabulary = sequence.Vocabulary(shapes.vocabulary())
cells, captions, _ = ideal("train", 2000)
test_cells, test_captions, test_pictures = ideal("test", 300)
rows = vocabulary.encode(captions, 10)

# %%
keras.utils.set_random_seed(seed)
decoder = Decoder(len(vocabulary), units=96)
places, before = layers.Input(cells.shape[1:]), layers.Input((9,), dtype="int32")
teller = keras.Model([places, before], decoder([places, before]))
rate = training.WarmupHoldDecay(5e-3, caption_steps, caption_steps // 20)
optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=1.0)
teller.compile(optimizer, sequence.word_loss, jit_compile=training.jit_compile())
order = np.random.default_rng(seed).integers(len(cells), size=32 * caption_steps)
teller.fit([cells[order], rows[order, :-1]], rows[order, 1:], batch_size=32, shuffle=False, verbose=0)
answers = vocabulary.decode(greedy(decoder, ops.convert_to_tensor(test_cells), 10))
exact = np.mean([a == b for a, b in zip(answers, test_captions)])
common = max(set(captions), key=captions.count)
trivial = np.mean([common == truth for truth in test_captions])
plots.bars({"your decoder": exact, "always the most frequent caption": trivial}, xlabel="captions exactly right")
results.record(captions_exact=exact, captions_trivial=trivial)

# %% check="greedy" points=1
assert exact >= written, (
    f"{exact:.2f} of the test captions are exactly right, {written} is asked for: does the decoder read the word that it wrote?"
)

# %%
_, looks = sequence.greedy_captions(decoder, test_cells[:40], 10)
one = next((i for i in range(40) if answers[i] == test_captions[i] and len(answers[i].split()) > 6), 0)
figure, axes = plt.subplots(2, 5, figsize=(8, 3.8))
for ax in axes.ravel():
    ax.set_axis_off()
for ax, word, look in zip(axes.ravel(), [*answers[one].split()[:9], "<end>"], looks[one]):
    large = np.kron(look.reshape(6, 6), np.ones((8, 8)))
    plots.heat_map(test_pictures[one], large, ax=ax, title=word)

# %% [markdown]
# ## 7. What a player learns towards (3 points)
# Write `targets(rewards, following, ended, discount)`: for each remembered move the reward plus `discount` times the
# largest value of the state that followed; where the game ended with the move, the reward alone.
#
# In: rewards (B,) float, following (B, A) values of the target network, ended (B,) bool, discount in [0, 1]. Out: (B,)
# floats. NumPy will do, since no gradient goes through a target. The check works four moves by hand.


# %% gap="targets" stub="return the reward plus the discounted best value of what follows"
def targets(rewards, following, ended, discount=0.97):
    ### BEGIN SOLUTION
    best = np.asarray(following).max(axis=1)
    return np.where(ended, rewards, rewards + discount * best)
    ### END SOLUTION


# %% check="targets" points=2
rewards, ended = np.array([0.0, 1.0, -1.0, 0.5]), np.array([False, False, True, True])
following = np.array([[0.5, 1.0, -1.0], [-2.0, -1.0, -3.0], [4.0, 5.0, 6.0], [-1.0, -1.0, -1.0]])
answer = numbers(targets(rewards, following, ended, 0.9))
assert answer.shape == (4,), f"one target for each move, (4,); got {answer.shape}"
assert np.isclose(answer[0], 0.9), f"reward 0 and .9 times the best value 1: .9; got {answer[0]:.3f}"
assert np.isclose(answer[1], 0.1), (
    f"reward 1 and .9 times the best value −1, though it is negative: .1; got {answer[1]:.3f}"
)
assert np.allclose(answer[2:], [-1, 0.5]), (
    f"the game has ended: nothing follows, and the target is the reward, −1 and .5; got {answer[2:].round(3)}"
)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(7)
rewards, following, ended = rng.normal(size=20), rng.normal(size=(20, 5)), rng.random(20) < 0.5
for discount in (0, 0.5, 1):
    answer = numbers(targets(rewards, following, ended, discount))
    expected = reinforcement.q_targets(rewards, following, ended, discount)
    assert np.allclose(answer, expected, atol=1e-5), f"another result for twenty moves with a discount of {discount}"
### END HIDDEN TESTS

# %% [markdown]
# In use: the course's loop plays, remembers and learns, and asks *you* for the targets.

# %%
keras.utils.set_random_seed(seed)
player = reinforcement.q_network((10, 10, 2), 3)
games = [reinforcement.Catch(seed=[seed, number]) for number in range(16)]
tests = [reinforcement.Catch(seed=[seed, number, 1]) for number in range(100)]
losses = reinforcement.learn_to_play(player, games, moves, seed=seed, targets=targets)
chance = np.random.default_rng(seed)
rewards = {
    "random": reinforcement.play(tests, lambda s, games: chance.integers(3, size=len(games)), 1000),
    "your player": reinforcement.play(tests, reinforcement.greedy(player), 1000),
    "oracle": reinforcement.play(tests, lambda s, games: [game.oracle() for game in games], 1000),
}
plots.bars(rewards, xlabel="mean reward of 1,000 games")
results.record(game_reward=rewards["your player"], game_random=rewards["random"])

# %% check="targets" points=1
reached = rewards["your player"]
assert reached >= caught, (
    f"your player has a mean reward of {reached:.2f}, {caught} is asked for (random: {rewards['random']:.2f}): is nothing "
    "added after the end of a game?"
)

# %%
game = reinforcement.Catch(seed=[seed, 5])
state, done = game.reset()[0], False
strip, values = [game.render()], []
while not done:
    values.append(np.asarray(player.predict_on_batch(state[None]))[0])
    state, reward, done, _, _ = game.step(int(values[-1].argmax()))
    strip.append(game.render())
figure, axes = plt.subplots(2, len(values), figsize=(8, 2.4), sharey="row")
for column, (picture, value) in enumerate(zip(strip, values)):
    axes[0, column].imshow(picture)
    axes[0, column].set_axis_off()
    axes[1, column].bar(range(3), value, color=plots.PALETTE[:3])
    axes[1, column].set_xticks(range(3), ["0", "←", "→"], fontsize=8)

# %% [markdown] question="codes" points=2
# ## 8. Read the plane (2 points)
# Look at the plane of the variational autoencoder's codes, left, and at what it paints, right. Why do some digits
# overlap in the code and others not? Where does the painter draw something that is no digit, and why can it not avoid
# this? What would change with a code of ten numbers, in the reconstruction error, in the KL divergence and in this
# picture?
#
# ### BEGIN SOLUTION
# Digits that share most of their ink, as 4 and 9 or 3, 5 and 8, overlap: for the decoder their images cost little more
# when they are painted alike, so that it does not pay to spend nats on keeping them apart. Digits that share little, as
# 0 and 1, lie far from each other. Between two regions the painter draws mixtures: the decoder is a continuous function
# of the code, and on the way from one digit to another it must pass through pictures that are neither; since N(0, 1)
# fills the whole plane, there is no empty space to hide these in. With ten numbers the reconstruction error falls,
# since more about an image can be told, and the KL divergence rises, because telling costs; numbers that do not pay for
# themselves fall back to N(0, 1) and cost nothing. The picture would be lost: a plane shows two numbers, and the other
# eight would have to be fixed or projected away.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - draw through a reparameterisation, and say in nats what a code costs and what it saves;
# - convolve along time without looking ahead, and choose dilations for the field that a question needs;
# - write a decoder's attention and its search, and read from the weights where it looked;
# - compute the targets of a Q-network, and tell a player that has learnt from one that is lucky.
#
# ## Exercises
#
# 1. (easy) Forget the KL divergence in `negative_elbo` and paint the plane again. What is lost? *Hint: where do the
#    codes lie now?*
# 2. (medium) Write beam search around `decoder.step`. In how many captions does a beam of three differ from greedy?
#    *Hint: compare with `sequence.beam_captions`.*
# 3. (medium) Leave the `ended` out of the targets and watch the losses. Why does the player learn nevertheless, and
#    what are its values now? *Hint: which state does the loop remember after the end?*
# 4. (hard) Double Q-learning: let the network choose the best next move and the target network value it. *Hint: H. van
#    Hasselt, A. Guez and D. Silver, AAAI 2016; are the values smaller?*
#
# ## Further reading
#
# - D. Kingma and M. Welling, *Auto-encoding variational Bayes*, ICLR 2014.
# - A. van den Oord et al., *WaveNet: a generative model for raw audio*, 2016.
# - K. Xu et al., *Show, attend and tell: neural image caption generation with visual attention*, ICML 2015.
# - V. Mnih et al., *Human-level control through deep reinforcement learning*, Nature 2015.
