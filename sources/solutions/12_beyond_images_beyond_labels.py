# %% [markdown]
# # 12 Beyond images, beyond labels: solution
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/convnets-for-vision/course/blob/v0.1.0/solutions/12_beyond_images_beyond_labels.ipynb)
#
# **The same block, other inputs and outputs.** You will give a network a code from which you can draw new digits, a
# filter along time that never looks ahead, the step with which a decoder writes its next word, and the target towards
# which a player learns. Each takes a few lines, and most of them are used in a training at once.
#
# You will be able to
#
# - draw from a distribution so that the gradient passes, and compute what a code costs in nats;
# - convolve along time, causally and with dilation, and choose dilations for a field;
# - write the attention and the step of a captioning decoder, and search with it;
# - compute a Q-network's targets, and train a player that beats chance.
#
# Plan two hours for it. There are seven gaps and one question, 19 points. The training takes about two minutes on two
# cores.

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
seed: int = 0  # [0, ] the first weights, and what is drawn
digits: str = "digits"  # grey images by name; 4 divides their sides
drawn: int = 1000  # [50, 60000] of its training images
code_steps: int = 1200  # [5, 20000] training steps of 50 of them
gain: float = 1.5  # [-1000, 1000] nats an image less than without a code
rhythm_steps: int = 300  # [5, 20000] training steps of the networks that hear rhythms
heard: float = 0.9  # [0, 1] share of the test rhythms that it must name right
caption_steps: int = 700  # [5, 20000] training steps of the decoder
written: float = 0.6  # [0, 1] share of the test captions that it must write exactly
moves: int = 1000  # [5, 20000] training steps of the player
caught: float = 0.6  # [-1, 1] mean reward that the player must reach

# %%
from functools import partial

import keras
import numpy as np
from keras import layers, ops

from utils import arithmetic, checks, data, generative, plots, reinforcement, results
from utils import sequence, session, training, transfer
from utils.checks import numbers
from utils.data import shapes, sounds

session.start(seed)

# %% [markdown]
# The checks use helpers, some of `utils.checks`. They take lists, NumPy arrays and tensors.

# %%
agree = partial(checks.agree, rtol=1e-3)


# %%
def floats(*values):
    """Tensors of float32."""
    return [ops.convert_to_tensor(np.asarray(value, "float32")) for value in values]


def fits_a_model(function, *shapes):
    """True where a function can stand in a model, whose tensors hold no numbers yet."""
    try:
        function(*[keras.KerasTensor(shape) for shape in shapes])
    except Exception as error:
        text = f"with the tensors of a model it fails ({error!s:.70}): use keras.ops"
        raise AssertionError(text) from None
    return True


# %% [markdown]
# ## 1. A draw that lets the gradient pass (1 point)
# Write `draw(mean, log_variance, noise)`: it turns `noise`, a draw from N(0, 1), into a draw from the normal
# distribution with this mean and the variance exp(log_variance).
#
# In: three tensors (B, D). Out: a tensor (B, D). Use `keras.ops`, since NumPy has no gradients. The check has
# examples worked by hand, looks at the mean and the spread of many draws, and puts your function into a model.


# %% gap="draw" stub="return the draw as a function of mean, log-variance and noise"
def draw(mean, log_variance, noise):
    ### BEGIN SOLUTION
    return mean + ops.exp(log_variance / 2) * noise
    ### END SOLUTION


# %% check="draw" points=1
hint = "mean 1, variance 4, so deviation 2: noise 0 gives 1, noise 1.5 gives 4"
some = floats([[1, 1, -2]], np.log([[4, 4, 1]]), [[0, 1.5, -1]])
assert agree(draw(*some), [[1, 4, -3]], hint)
noise = np.random.default_rng(1).normal(size=(20000, 1))
many = numbers(draw(*floats(3 + 0 * noise, np.log(0.25) + 0 * noise, noise)))
found = many.mean(), many.std()
text = "20,000 draws: expected the mean 3 and the deviation .5, "
text += f"got {found[0]:.2f} and {found[1]:.2f}"
assert np.allclose(found, (3, 0.5), atol=0.02), text
assert fits_a_model(draw, (4, 2), (4, 2), (4, 2))
### BEGIN HIDDEN TESTS
m, v, e = np.random.default_rng(2).normal(size=(3, 4, 5))
hint = "mean + deviation * noise, with the deviation exp(log_variance / 2)"
assert agree(draw(*floats(m, v, e)), m + np.exp(v / 2) * e, hint)
### END HIDDEN TESTS
print("draw: mean and deviation are right")

# %% [markdown]
# ## 2. The loss of a variational autoencoder (3 points)
# Write `negative_elbo(images, logits, mean, log_variance)`: for each image
#
# - the **reconstruction error** in nats: the binary cross-entropy between the pixels (brightness in [0, 1]) and the
#   sigmoid of the logits, *summed* over the pixels of the image;
# - plus the **KL divergence** of N(mean, exp(log_variance)) from N(0, 1), summed over the numbers of the code: half
#   of (mean² + variance − 1 − log variance).
#
# In: images and logits (B, H, W, C), mean and log_variance (B, D). Out: (B,), one number for each image.
# `keras.ops.binary_crossentropy(target, output, from_logits=True)` gives one number for each pixel. The first two
# checks look at each of the two terms alone and put your function into a model. The third is passed when your
# network, trained with this loss, costs at least `gain` nats an image less than a network without a code.


# %% gap="elbo" stub="return reconstruction error plus KL divergence, one number for each image"
def negative_elbo(images, logits, mean, log_variance):
    ### BEGIN SOLUTION
    pixels = ops.binary_crossentropy(images, logits, from_logits=True)
    kl = ops.sum(mean**2 + ops.exp(log_variance) - 1 - log_variance, axis=-1) / 2
    return ops.sum(pixels, axis=(1, 2, 3)) + kl
    ### END SOLUTION


# %% check="elbo" points=1
half, zeros = np.full((2, 3, 4, 1), 0.5), np.zeros((2, 2))
answer = negative_elbo(*floats(half, 0 * half, zeros, zeros))
hint = "one number for each of two images: twelve pixels with probability one half "
hint += "cost 12 log 2 = 8.318 nats, and a code of N(0, 1) costs nothing"
assert agree(answer, 2 * [12 * np.log(2)], hint)
assert fits_a_model(negative_elbo, half.shape, half.shape, (2, 2), (2, 2))
print("elbo: the reconstruction error is right")

# %% check="elbo" points=1
codes = floats([[2, 0], [1, 0]], np.log([[1, 1], [0.25, 1]]))
costs = numbers(negative_elbo(*floats(half, 0 * half), *codes)) - 12 * np.log(2)
hint = "KL divergence 2 for mean 2, variance 1, and .818 for mean 1, variance 1/4"
assert agree(costs, [2, (1 + 0.25 - 1 + np.log(4)) / 2], hint)
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(3)
images, logits = rng.uniform(size=(3, 4, 4, 1)), rng.normal(0, 3, (3, 4, 4, 1))
mean, log_variance = rng.normal(size=(2, 3, 6))
p = 1 / (1 + np.exp(-logits))
pixels = images * np.log(p) + (1 - images) * np.log(1 - p)
kl = (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1) / 2
answer = negative_elbo(*floats(images, logits, mean, log_variance))
hint = "the cost of three random images with codes of six numbers"
assert agree(answer, kl - pixels.sum(axis=(1, 2, 3)), hint)
### END HIDDEN TESTS
print("elbo: the KL divergence is right")

# %% [markdown]
# Now both are in use: a VAE with a code of two numbers calls your functions at every step.


# %%
class Painter(keras.Model):
    """A variational autoencoder with your functions in it."""

    def __init__(self, shape):
        super().__init__()
        self.encoder = generative.encoder(shape, 4)
        self.decoder = generative.decoder(shape, 2)
        self.chance = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        code = self.encoder(images)
        mean, log_variance = code[:, :2], code[:, 2:]
        noise = keras.random.normal(ops.shape(mean), seed=self.chance)
        code = draw(mean, log_variance, noise if training else 0 * noise)
        return self.decoder(code), mean, log_variance

    def compute_loss(self, x=None, y=None, y_pred=None, *rest, **options):
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
# Does the code say anything? A network whose code says nothing can only paint one picture: the mean image. Your
# network must cost at least `gain` nats an image less than that. We judge with one draw for each test image, since
# the bound is a mean over draws.

# %%
_, mean, log_variance = map(np.asarray, painter.predict(x_test, verbose=0))
noise = np.random.default_rng(4).normal(size=mean.shape)
codes = generative.reparameterise(mean, log_variance, noise)
logits = painter.decoder.predict(np.asarray(codes, "float32"), verbose=0)
kl = float(np.mean(generative.kl_divergence(mean, log_variance)))
cost = float(np.mean(generative.reconstruction_error(x_test, logits))) + kl
ink = x.mean(axis=0).clip(1e-3, 1 - 1e-3)
blank = np.broadcast_to(np.log(ink / (1 - ink)), x_test.shape)
silent = float(np.mean(generative.reconstruction_error(x_test, blank)))
costs = {"your network: −ELBO": cost, "of it KL": kl, "without a code": silent}
plots.bars(costs, xlabel="nats an image")
results.record(elbo_gain=silent - cost, code_kl=kl)

# %% check="elbo" points=1
text = f"your network costs {cost:.1f} nats an image, a code that says nothing "
text += f"{silent:.1f}: expected at least {gain} less. "
text += "Is the KL divergence added, and does the draw use the noise?"
assert silent - cost >= gain, text
print(f"elbo: the code saves {silent - cost:.1f} nats an image")

# %% tags=["thumbnail"]
plane = generative.plane(12).astype("float32")
painted = 1 / (1 + np.exp(-painter.decoder.predict(plane, verbose=0)))
plots.show_codes(mean, test_labels, painted)

# %% [markdown]
# ## 3. Along time, never ahead (2 points)
# Write `causal(x, kernel, dilation)` in NumPy:
#
# $$y[t] = \sum_{i=0}^{f-1} x[t - (f - 1 - i)\, d]\; \mathrm{kernel}[i],$$
#
# with zeros before the beginning. The last entry of the kernel is multiplied with the present, the one before it with
# the moment d steps ago.
#
# In: x (T, C), kernel (f, C, F), dilation d ≥ 1. Out: (T, F). Each entry of the kernel is a matrix (C, F). A loop
# over the entries is fine. The check has a small example worked by hand. Then it changes one moment and looks which
# outputs change, and it compares with the course's function.


# %% gap="causal" stub="convolve along time with zeros before the beginning"
def causal(x, kernel, dilation=1):
    ### BEGIN SOLUTION
    x, kernel = np.asarray(x), np.asarray(kernel)
    reach = (len(kernel) - 1) * dilation
    padded = np.concatenate([np.zeros((reach, x.shape[1])), x])
    starts = range(0, reach + 1, dilation)
    parts = [padded[i : i + len(x)] @ entry for i, entry in zip(starts, kernel)]
    return sum(parts)
    ### END SOLUTION


# %% check="causal" points=1
ramp = np.arange(1.0, 7.0)[:, None]  # 1, 2, ..., 6
kernel = np.array([100.0, 10.0, 1.0]).reshape(3, 1, 1)
hint = "at t = 2 the filter (100, 10, 1) lies on 1, 2, 3, which makes 123"
expected = [[1], [12], [123], [234], [345], [456]]
assert agree(causal(ramp, kernel), expected, hint)
hint = "with dilation 2 the filter at t = 4 lies on 1, 3, 5, which makes 135"
expected = [[1], [2], [13], [24], [135], [246]]
assert agree(causal(ramp, kernel, 2), expected, hint)
print("causal: the examples are right")

# %% check="causal" points=1
rng = np.random.default_rng(5)
sound, several = rng.normal(size=(30, 3)), rng.normal(size=(2, 3, 4))
touched = sound.copy()
touched[17] += 1
change = numbers(causal(touched, several, 4)) - numbers(causal(sound, several, 4))
moved = np.flatnonzero(np.abs(change).max(axis=1) > 1e-4).tolist()
text = f"moment 17 was touched, dilation 4: expected a change at 17 and 21, got {moved}"
assert moved == [17, 21], text
### BEGIN HIDDEN TESTS
for size, dilation in ((1, 1), (3, 1), (2, 8), (3, 5), (4, 20)):
    filters = rng.normal(size=(size, 3, 2))
    expected = sequence.causal_convolution(*floats(sound[None], filters), dilation)
    hint = f"a filter of {size} with dilation {dilation} on 30 moments of 3 channels"
    assert agree(causal(sound, filters, dilation), numbers(expected)[0], hint)
### END HIDDEN TESTS
print("causal: several channels and dilations are right")

# %% [markdown]
# ## 4. Choose the dilations (3 points)
# Three rhythms have the same gaps in different orders. To tell them apart a network must see two gaps in a row. How
# many frames of 50 ms this takes depends on the slowest tempo. Write `dilations_for(frames, size=3)`, which returns
# the dilations of a stack of layers with filters of `size` frames. They follow three rules:
#
# - the first dilation is 1;
# - each next dilation is as large as possible, but **no frame is skipped**: two neighbouring entries of the filter
#   may lie at most as many frames apart as one output of the layers below sees;
# - there are as few layers as possible, and one output of the last layer sees at least `frames` frames.
#
# In: int ≥ 1, int ≥ 2. Out: a list of int; for `frames=1` it is empty. A layer with dilation d widens the field by
# (size − 1) · d. Begin with size 3: the first layer sees 3 frames. How far apart may the three entries of the second
# layer lie, and how many frames does it see then? The last check trains a network with your dilations: it must name
# at least `heard` of the test rhythms right.


# %% gap="dilations" stub="return the dilations, from the first layer to the last"
def dilations_for(frames, size=3):
    ### BEGIN SOLUTION
    dilations, field = [], 1
    while field < frames:
        dilations.append(field)  # one field apart, the fields below just meet
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


def stack_for(frames, size=3):
    """Your dilations as a list of int."""
    return numbers(dilations_for(frames, size)).astype(int).tolist()


# %% check="dilations" points=2
cases = {
    (1, 3): ([], "one frame needs no layer"),
    (3, 3): ([1], "one layer sees three frames"),
    (9, 3): ([1, 3], "entries 3 apart, on fields of 3 frames, see 9 without a gap"),
    (10, 3): ([1, 3, 9], "10 frames need a third layer"),
    (16, 2): ([1, 2, 4, 8], "filters of 2 double the field"),
}
for (frames, size), (expected, hint) in cases.items():
    answer = stack_for(frames, size)
    text = f"{frames} frames, filters of {size}: expected {expected}, got {answer}, "
    text += f"which sees {len(seen(answer, size))} frames: {hint}"
    assert answer == expected, text
### BEGIN HIDDEN TESTS
for frames, size in ((n, f) for n in (2, 5, 27, 28, 100) for f in (2, 3, 5)):
    answer = stack_for(frames, size)
    text = f"{frames} frames, filters of {size}: got {answer}"
    field = seen(answer, size)
    assert len(field) >= frames, f"{text}, which sees only {len(field)} frames"
    assert len(field) == max(field) - min(field) + 1, f"{text}, which skips frames"
    assert len(seen(answer[:-1], size)) < frames, f"{text}: fewer layers are enough"
### END HIDDEN TESTS
print("dilations: no gap, and no layer too many")

# %% [markdown]
# Two networks hear the rhythms. One has three layers without dilation and sees 7 frames. The other has your dilations
# and sees all that is needed: the slowest bar lasts 1 / .9 s, and two gaps in a row are at most 10 of its 16 parts.
# That is .69 s or 14 frames, and one more for the first stroke, 15 in all.

# %%
learn, learn_kind = sounds.rhythms(600, 2 * seed)
test, test_kind = sounds.rhythms(400, 2 * seed + 1)
options = {"bands": 8, "window": 400, "hop": 400}
spectra = [sequence.log_mel(part, sounds.RATE, **options) for part in (learn, test)]
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


# %%
enough = stack_for(15)
field = arithmetic.receptive_field_chain([(3, 1, 0, d) for d in enough])["size"]
short, long = hear([1, 1, 1]), hear(enough)
rights = {"dilations 1, 1, 1: 7 frames": short}
rights[f"your dilations: {field.iloc[-1]} frames"] = long
baselines = {"chance": 0.25, "even, and a guess": 0.5}
plots.bars(rights, xlabel="right rhythms", baselines=baselines)
results.record(rhythm_short=short, rhythm_long=long)

# %% check="dilations" points=1
text = f"dilations {enough}: expected at least {heard} of the rhythms right, "
text += f"got {long:.2f}: does the field hold 15 frames?"
assert long >= heard, text
print(f"dilations: {long:.2f} of the rhythms are right")

# %% [markdown]
# ## 5. One step of a decoder (2 points)
# A decoder writes a caption. Before each word it looks at a map of N cells. Write `attend(cells, energies)`. The
# weights are the softmax of the energies over the cells, and the context is the weighted sum of the cells.
#
# In: cells (B, N, C), energies (B, N), tensors. Out: two tensors in this order, context (B, C) and weights (B, N).
# Use `keras.ops`. The check has an example worked by hand, puts your function into a model, and takes energies so
# large that exp overflows: subtract the largest energy first, or use `ops.softmax`.


# %% gap="attend" stub="return the context and the weights"
def attend(cells, energies):
    ### BEGIN SOLUTION
    weights = ops.softmax(energies, axis=-1)
    return ops.sum(weights[..., None] * cells, axis=1), weights
    ### END SOLUTION


# %% check="attend" points=2
cells = np.array([[[1, 0], [0, 1], [1, 1]], [[2, 0], [0, 0], [0, 4]]])
answer = attend(*floats(cells, np.log([[1, 3, 1], [1, 1, 2]])))
pair = isinstance(answer, (tuple, list)) and len(answer) == 2
assert pair, f"expected two things, context and weights, got {answer!r:.70}"
context, weights = answer
hint = "the weights, for each map: energies log 1, log 3, log 1 make 1/5, 3/5, 1/5; "
hint += "the context comes first"
assert agree(weights, [[0.2, 0.6, 0.2], [0.25, 0.25, 0.5]], hint)
hint = "the context: 1/5 (1, 0) + 3/5 (0, 1) + 1/5 (1, 1) = (.4, .8)"
assert agree(context, [[0.4, 0.8], [0.5, 2]], hint)
weights = attend(*floats(cells[:1], [[500, 500, 0]]))[1]
hint = "energies 500, 500, 0 make the weights 1/2, 1/2, 0: exp(500) overflows"
assert agree(weights, [[0.5, 0.5, 0]], hint)
assert fits_a_model(attend, (2, 3, 2), (2, 3))
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(6)
cells, energies = rng.normal(size=(3, 7, 4)), rng.normal(size=(3, 7))
share = np.exp(energies) / np.exp(energies).sum(axis=1, keepdims=True)
context, weights = attend(*floats(cells, energies))
assert agree(weights, share, "the weights of seven cells")
expected = (share[..., None] * cells).sum(axis=1)
assert agree(context, expected, "the context of seven cells")
### END HIDDEN TESTS
print("attend: weights and context are right")

# %% [markdown]
# ## 6. The search (3 points)
# A decoder has `start(cells)`, which gives the first state, and `step(cells, state, word)`, which gives three things:
# the logits of the next word (B, words), the next state, and the weights. Here `word` is a tensor (B,) of int32, the
# last word of each sentence. Write `greedy(decoder, cells, length)`. Begin with the word START (1). At each step take
# the most probable word, and read it at the next step. After END (2) a sentence gets only PAD (0).
#
# In: a decoder, cells (B, N, C), a tensor, and the number of steps. Out: int array (B, length), without START and
# with END. The check uses a decoder that knows its sentences by heart; they have unequal lengths. A last check trains
# a decoder with your `attend` and lets your `greedy` write: at least `written` of the test captions must be exactly
# right.


# %% gap="greedy" stub="write word by word, with PAD behind the END"
def greedy(decoder, cells, length):
    ### BEGIN SOLUTION
    state, word = decoder.start(cells), np.full(len(cells), 1, "int32")
    words, finished = [], np.zeros(len(cells), bool)
    for _ in range(length):
        logits, state, _ = decoder.step(cells, state, ops.convert_to_tensor(word))
        best = ops.convert_to_numpy(logits).argmax(axis=-1)
        word = np.where(finished, 0, best).astype("int32")
        finished = finished | (word == 2)
        words.append(word)
    return np.stack(words, axis=1)
    ### END SOLUTION


# %%
class ByHeart:
    """Sentence b: 4 + b, 5 + b, ..., `lengths[b]` words, then END, then nonsense."""

    def __init__(self, *lengths):
        self.lengths, self.read = np.array(lengths), [[] for _ in lengths]
        number = np.arange(len(lengths), dtype="float32")
        self.cells = np.tile(number[:, None, None], (1, 4, 2))  # a map tells which b

    def state(self, which, time):
        return ops.convert_to_tensor(np.stack([which, time], 1).astype("float32"))

    def start(self, cells):
        which = numbers(cells)[:, 0, 0]
        return self.state(which, 0 * which)

    def step(self, cells, state, word):
        which, time = numbers(state).astype(int).T
        for b, number in zip(which, numbers(word).ravel()):
            self.read[b].append(int(number))
        behind = np.where(time == self.lengths[which], 2, 9)
        best = np.where(time < self.lengths[which], 4 + which + time, behind)
        logits, looks = floats(np.eye(30)[best], np.full((len(which), 4), 0.25))
        return logits, self.state(which, time + 1), looks


# %% check="greedy" points=2
reader = ByHeart(2, 4, 1)
answer = numbers(greedy(reader, ops.convert_to_tensor(reader.cells), 6))
text = f"three sentences of six places: expected the shape (3, 6), got {answer.shape}"
assert answer.shape == (3, 6), text
first, second = ([words[i : i + 1] for words in reader.read] for i in (0, 1))
text = f"the first word that the decoder reads: expected START, 1, got {first}"
assert first == [[1], [1], [1]], text
text = f"then it reads the words that were written: expected 4, 5, 6, got {second}"
assert second == [[4], [5], [6]], text
expected = [[4, 5, 2, 0, 0, 0], [5, 6, 7, 8, 2, 0], [6, 2, 0, 0, 0, 0]]
text = "4 5 END, 5 6 7 8 END and 6 END, each with PAD (0) behind: "
text += f"expected {expected}, got {answer.astype(int).tolist()}"
assert answer.tolist() == expected, text
### BEGIN HIDDEN TESTS
reader = ByHeart(0, 1, 7)
answer = numbers(greedy(reader, ops.convert_to_tensor(reader.cells), 3))
hint = "an empty sentence, one word, and one that three places cut"
assert agree(answer, [[2, 0, 0], [5, 2, 0], [6, 7, 8]], hint)
### END HIDDEN TESTS
print("greedy: the sentences are right")

# %% [markdown]
# Now `attend` and `greedy` are in use. The training is fast because an **ideal encoder** takes the place of a
# convnet: its map is computed from the truth. Each of the 6 × 6 cells says which share of it each class and each
# colour covers, and where the cell lies. The decoder has to learn the language: which words, in which order, and
# where to look for each.


# %%
class Decoder(sequence.AttentionDecoder):
    """The course's decoder, looking through your `attend`."""

    def attend(self, cells, keys, state):
        energies = self.energy(ops.tanh(keys + self.query(state)[:, None]))[..., 0]
        return attend(cells, energies)


# %%
def ideal(split, count):
    """Cells (count, 36, 26), captions and pictures."""
    options = {"config": "pairs", "radius": (15, 25), "visible": 0.9}
    scenes = shapes.scenes(count, split, image_size=48, **options)
    maps = np.zeros((count, 6, 6, 26), "float32")
    maps[..., 14:20], maps[..., 20:26] = np.eye(6)[:, None], np.eye(6)  # row and column
    for number, scene in enumerate(scenes):
        shares = scene.masks.reshape(-1, 6, 8, 6, 8).mean(axis=(2, 4))
        for label, colour, share in zip(scene.labels, scene.colours, shares):
            maps[number, ..., label] += share
            maps[number, ..., 6 + shapes.COLOURS.index(colour)] += share
    images = [scene.image for scene in scenes]
    return maps.reshape(count, 36, 26), [scene.caption for scene in scenes], images


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
read, goals = [cells[order], rows[order, :-1]], rows[order, 1:]
teller.fit(read, goals, batch_size=32, shuffle=False, verbose=0)

# %%
found = numbers(greedy(decoder, ops.convert_to_tensor(test_cells), 10))
answers = vocabulary.decode(found.astype(int))
exact = np.mean([a == b for a, b in zip(answers, test_captions)])
common = max(set(captions), key=captions.count)
trivial = np.mean([common == truth for truth in test_captions])
rights = {"your decoder": exact, "always the most frequent caption": trivial}
plots.bars(rights, xlabel="captions exactly right")
results.record(captions_exact=exact, captions_trivial=trivial)

# %% check="greedy" points=1
text = f"expected at least {written} of the test captions exactly right, "
text += f"got {exact:.2f}: "
text += "does the decoder read the word that it wrote?"
assert exact >= written, text
print(f"greedy: {exact:.2f} of the captions are exactly right")

# %%
_, looks = sequence.greedy_captions(decoder, test_cells[:40], 10)
right = [i for i in range(40) if answers[i] == test_captions[i]]
one = next((i for i in right if len(answers[i].split()) > 6), 0)
spoken = [*answers[one].split(), "<end>"][:10]
plots.show_attention(test_pictures[one], spoken, looks[one])

# %% [markdown]
# ## 7. What a player learns towards (3 points)
# Write `targets(rewards, following, ended, discount)`: for each remembered move, the target is the reward plus
# `discount` times the largest value of the state that followed. Where the move ended the game, the target is the
# reward alone.
#
# In: rewards (B,) float, following (B, A) values of the target network, ended (B,) bool, discount in [0, 1]. Out:
# (B,) floats. NumPy will do, since no gradient goes through a target. The check has four moves worked by hand. A last
# check trains a player with your targets: its mean reward must be at least `caught`.


# %% gap="targets" stub="return the reward plus the discounted best value of what follows"
def targets(rewards, following, ended, discount=0.97):
    ### BEGIN SOLUTION
    best = np.asarray(following).max(axis=1)
    return np.where(ended, rewards, rewards + discount * best)
    ### END SOLUTION


# %% check="targets" points=2
rewards, ended = np.array([0.0, 1.0, -1.0, 0.5]), np.array([False, False, True, True])
following = [[0.5, 1.0, -1.0], [-2.0, -1.0, -3.0], [4.0, 5.0, 6.0], [-1.0, -1.0, -1.0]]
answer = numbers(targets(rewards, np.array(following), ended, 0.9))
text = f"one target for each of four moves: expected the shape (4,), got {answer.shape}"
assert answer.shape == (4,), text
assert agree(answer[0], 0.9, "reward 0 and .9 times the best value, 1")
hint = "reward 1 and .9 times the best value, −1, although it is negative"
assert agree(answer[1], 0.1, hint)
assert agree(answer[2:], [-1, 0.5], "the game has ended: the reward alone")
### BEGIN HIDDEN TESTS
rng = np.random.default_rng(7)
rewards, ended = rng.normal(size=20), rng.random(20) < 0.5
following = rng.normal(size=(20, 5))
for discount in (0, 0.5, 1):
    expected = reinforcement.q_targets(rewards, following, ended, discount)
    answer = targets(rewards, following, ended, discount)
    assert agree(answer, expected, f"twenty moves with a discount of {discount}")
### END HIDDEN TESTS
print("targets: the values are right")

# %% [markdown]
# The course's loop now plays, remembers and learns. It calls your function for the targets.

# %%
keras.utils.set_random_seed(seed)
player = reinforcement.q_network((10, 10, 2), 3)
games = [reinforcement.Catch(seed=[seed, number]) for number in range(16)]
tests = [reinforcement.Catch(seed=[seed, number, 1]) for number in range(100)]
losses = reinforcement.learn_to_play(player, games, moves, seed=seed, targets=targets)
chance = np.random.default_rng(seed)
rules = {
    "random": lambda states, games: chance.integers(3, size=len(games)),
    "your player": reinforcement.greedy(player),
    "oracle": lambda states, games: [game.oracle() for game in games],
}
rewards = {who: reinforcement.play(tests, rule, 1000) for who, rule in rules.items()}
plots.bars(rewards, xlabel="mean reward of 1,000 games")
results.record(game_reward=rewards["your player"], game_random=rewards["random"])

# %% check="targets" points=1
reached = rewards["your player"]
text = f"expected a mean reward of at least {caught}, got {reached:.2f} "
text += f"(random: {rewards['random']:.2f}): is nothing added after the end of a game?"
assert reached >= caught, text
print(f"targets: your player has a mean reward of {reached:.2f}")

# %%
game = reinforcement.Catch(seed=[seed, 5])
strip, values, reward = reinforcement.episode(player, game)
plots.show_episode(strip, values, ["0", "←", "→"], f"reward {reward:g}")

# %% [markdown] question="codes" points=2
# ## 8. Read the plane (2 points)
# Look at the plane of the variational autoencoder's codes, left, and at what it paints, right. Why do some digits
# overlap in the code and others not? Where does the decoder paint something that is no digit, and why can it not
# avoid this? What would change with a code of ten numbers, in the reconstruction error, in the KL divergence and in
# this picture?
#
# ### BEGIN SOLUTION
# Digits that share most of their ink, as 4 and 9 or 3, 5 and 8, overlap: if the decoder paints them alike, their
# images cost only little more. So it is not worth the nats to keep them apart. Digits that share little, as 0 and 1,
# lie far from each other. Between two regions the decoder paints mixtures. It is a continuous function of the code,
# so on the way from one digit to another it must pass through pictures that are neither. N(0, 1) fills the whole
# plane, so these pictures cannot lie outside it. With ten numbers the reconstruction error falls, since more about an
# image can be told, and the KL divergence rises, because this information has its price. A number that does not save
# more than it costs falls back to N(0, 1) and costs nothing. This picture could not be drawn: a plane shows two
# numbers, and the other eight would have to be fixed or left out.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You can now
#
# - draw through a reparameterisation, and say in nats what a code costs and what it saves;
# - convolve along time without looking ahead, and choose dilations for the field that a question needs;
# - write a decoder's attention and its search, and read from the weights where it looked;
# - compute the targets of a Q-network, and judge a player beside chance and an oracle.
#
# ## Exercises
#
# 1. (easy) Leave the KL divergence out of `negative_elbo` and paint the plane again. What is lost? *Hint: where do
#    the codes lie now?*
# 2. (medium) Write beam search around `decoder.step`. In how many captions does a beam of three differ from greedy?
#    *Hint: compare with `sequence.beam_captions`.*
# 3. (medium) Ignore `ended` in the targets and watch the losses and the mean reward. Which values does the player
#    give now, and why are they wrong? *Hint: the loop remembers the last picture of a game as the state that follows
#    its last move, and no move from there is ever learnt.*
# 4. (hard) Double Q-learning: let the network choose the best next move and the target network value it. *Hint: H. van
#    Hasselt, A. Guez and D. Silver, AAAI 2016; are the values smaller?*
#
# ## Further reading
#
# - D. Kingma and M. Welling, *Auto-encoding variational Bayes*, ICLR 2014.
# - A. van den Oord et al., *WaveNet: a generative model for raw audio*, 2016.
# - K. Xu et al., *Show, attend and tell: neural image caption generation with visual attention*, ICML 2015.
# - V. Mnih et al., *Human-level control through deep reinforcement learning*, Nature 2015.
