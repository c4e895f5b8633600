"""Sequences: captions word by word with attention and beam search, convolution along time, sound as spectrograms and
MFCC.

A sequence is (B, T) words, numbers of a `Vocabulary`, or (B, T, C) features in time. Time runs along the second axis.
"""

import keras
import numpy as np
from keras import layers, ops
from scipy.fft import dct

# Words


class Vocabulary:
    """Words as numbers: 0 fills up, 1 starts a text, 2 ends it, the words follow in the order that is given.

    Args:
        words: sequence of str, each once.

    Raises:
        ValueError: a word comes twice or is empty, or holds a space.
    """

    PAD, START, END = 0, 1, 2

    def __init__(self, words):
        words = [str(word) for word in words]
        wrong = [word for word in words if not word or " " in word or words.count(word) > 1]
        if wrong:
            raise ValueError(
                f"a vocabulary holds single words, each once: {wrong[0]!r} is empty, twice there or several"
            )
        self.words = ("<pad>", "<start>", "<end>", *words)
        self.numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self):
        return len(self.words)

    def encode(self, texts, length=None, ends=True):
        """Texts as rows of numbers.

        Args:
            texts: N str, words with a space between them.
            length: numbers in a row, the start and the end among them; None: as many as the longest text needs.
            ends: whether a row begins with START and closes with END; False: words alone.

        Returns:
            (N, length) int32, filled up with PAD.

        Raises:
            ValueError: a word is not in the vocabulary, or a text does not fit into `length`.
        """
        rows = []
        for text in texts:
            unknown = [word for word in text.split() if word not in self.numbers]
            if unknown:
                raise ValueError(f"{unknown[0]!r} of {text!r} is not among the {len(self) - 3} words")
            row = [self.numbers[word] for word in text.split()]
            rows.append([self.START, *row, self.END] if ends else row)
        longest = max(map(len, rows), default=0)
        length = longest if length is None else length
        if longest > length:
            raise ValueError(f"a text needs {longest} places, and there are {length}")
        table = np.full((len(rows), length), self.PAD, "int32")
        for number, row in enumerate(rows):
            table[number, : len(row)] = row
        return table

    def decode(self, rows):
        """Rows of numbers as texts, each up to its first END; START and PAD are left out.

        Args:
            rows: (N, T) int.

        Returns:
            list of N str.
        """
        texts = []
        for row in np.asarray(rows):
            ends = np.flatnonzero(row == self.END)
            row = row[: ends[0]] if len(ends) else row
            texts.append(" ".join(self.words[number] for number in row if number > self.END))
        return texts


@keras.saving.register_keras_serializable("convnets")
class AttentionDecoder(layers.Layer):
    """A recurrent decoder that looks at a map before each word: a GRU with additive attention.

    At each step every cell k of the map gets the energy v . tanh(W k + U s) from the state s, a softmax over the cells
    makes weights of the energies, and the weighted sum of the cells, the context, enters the GRU with the last word
    (Bahdanau, Cho and Bengio 2015; for images Xu et al. 2015, "Show, attend and tell", soft attention).

    `decoder([cells, words])` is teacher forcing: the logits of every next word, given the true words before it. `start`
    and `step` are the same, one word at a time.

    Args:
        words: int, size of the vocabulary.
        units: of the state and of the attention.
        embedding: numbers for each word.
    """

    def __init__(self, words, units=128, embedding=32, **kwargs):
        super().__init__(**kwargs)
        self.words, self.units, self.embedding = words, units, embedding
        self.embed = layers.Embedding(words, embedding, name="embed")
        self.key = layers.Dense(units, use_bias=False, name="key")
        self.query = layers.Dense(units, name="query")
        self.energy = layers.Dense(1, use_bias=False, name="energy")
        self.first = layers.Dense(units, activation="tanh", name="first")
        self.cell = layers.GRUCell(units, name="cell")
        self.logits = layers.Dense(words, name="logits")

    def build(self, input_shape):
        cells, _ = input_shape
        features = cells[-1]
        self.embed.build((None,))
        self.key.build((None, None, features))
        self.query.build((None, self.units))
        self.energy.build((None, None, self.units))
        self.first.build((None, features))
        self.cell.build((None, self.embedding + features))
        self.logits.build((None, self.units + features))

    def start(self, cells):
        """The first state (B, units), made from the mean of the cells (B, N, C)."""
        return self.first(ops.mean(cells, axis=1))

    def attend(self, cells, keys, state):
        """Context (B, C) and weights (B, N), which are positive and sum to 1; `keys` is `self.key(cells)`."""
        energies = self.energy(ops.tanh(keys + self.query(state)[:, None]))[..., 0]
        weights = ops.softmax(energies, axis=-1)
        return ops.sum(weights[..., None] * cells, axis=1), weights

    def step(self, cells, state, word, keys=None):
        """One word on.

        Args:
            cells: (B, N, C) float, the map with its cells in a row.
            state: (B, units) float.
            word: (B,) int, the last word.
            keys: `self.key(cells)` if it is known already.

        Returns:
            logits (B, words) of the next word, the next state (B, units), the attention's weights (B, N).
        """
        keys = self.key(cells) if keys is None else keys
        context, weights = self.attend(cells, keys, state)
        _, (state,) = self.cell(ops.concatenate([self.embed(word), context], axis=-1), [state])
        return self.logits(ops.concatenate([state, context], axis=-1)), state, weights

    def call(self, inputs):
        """Logits (B, T, words) for cells (B, N, C) and words (B, T): entry t is that of the word after words[:, t]."""
        cells, words = inputs
        state, keys, logits = self.start(cells), self.key(cells), []
        for t in range(words.shape[1]):
            entry, state, _ = self.step(cells, state, words[:, t], keys)
            logits.append(entry)
        return ops.stack(logits, axis=1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[1], self.words)

    def get_config(self):
        return {**super().get_config(), "words": self.words, "units": self.units, "embedding": self.embedding}


@keras.saving.register_keras_serializable("convnets")
def word_loss(y_true, logits):
    """Cross-entropy of the words, averaged over all that are not PAD.

    Args:
        y_true: (B, T) int, the true next words.
        logits: (B, T, words) float.

    Returns:
        scalar.
    """
    y_true = ops.cast(y_true, "int32")
    losses = keras.losses.sparse_categorical_crossentropy(y_true, logits, from_logits=True)
    counted = ops.cast(y_true != Vocabulary.PAD, losses.dtype)
    return ops.sum(losses * counted) / ops.maximum(ops.sum(counted), 1)


def beam_search(step, state, width=3, length=20, start=Vocabulary.START, end=Vocabulary.END):
    """The most probable sequence that a beam finds: at every step the `width` best beginnings are kept.

    With a width of 1 this is greedy search; with a width of all sequences of that length, exhaustive search. A
    sequence's score is the sum of the log-probabilities of its words, END among them. A finished sequence keeps its
    place in the beam as long as its score does.

    Args:
        step: function (state, words) -> (log-probabilities (k, V), state) for k beginnings: `words` (k,) int, their
            last words.
        state: array (1, ...), or list of arrays, of the one beginning at the start; rows are gathered as beginnings are
            kept.
        width: beginnings kept.
        length: words of a sequence, END among them, at most; what is not finished by then is cut.
        start, end: the words that open and close a sequence.

    Returns:
        list of (words, score), best first: `width` of them or as many as there are; words are lists of int without
        `start` and `end`.

    Raises:
        ValueError: the width or the length is less than 1.
    """
    if width < 1 or length < 1:
        raise ValueError(f"a beam has a width and a length of at least 1, got {width} and {length}")
    done, kept = [], [(0.0, [start])]  # (score, words)
    for _ in range(length):
        last = np.array([words[-1] for _, words in kept], "int32")
        log_probabilities, state = step(state, last)
        totals = np.array([[score] for score, _ in kept]) + np.asarray(log_probabilities, "float64")  # (k, V)
        candidates = [(score, words, None) for score, words in done]
        for place in np.argsort(-totals, axis=None, kind="stable")[:width]:
            row, word = divmod(int(place), totals.shape[1])
            candidates.append((totals[row, word], [*kept[row][1], word], row))
        best = sorted(candidates, key=lambda candidate: -candidate[0])[:width]
        done = [(score, words) for score, words, row in best if row is None or words[-1] == end]
        rows = [row for _, words, row in best if row is not None and words[-1] != end]
        kept = [(score, words) for score, words, row in best if row is not None and words[-1] != end]
        if not kept:
            break
        state = [part[rows] for part in state] if isinstance(state, (list, tuple)) else state[rows]
    found = sorted([*done, *kept], key=lambda entry: -entry[0])
    return [([word for word in words[1:] if word != end], float(score)) for score, words in found]


def greedy_captions(decoder, cells, length=20):
    """The most probable word at each step, for several maps at once.

    Args:
        decoder: built `AttentionDecoder`.
        cells: (B, N, C) float.
        length: words, END among them, at most.

    Returns:
        words (B, length) int32, PAD after the END; the attention's weights before each of them (B, length, N) float32.
    """
    cells = ops.convert_to_tensor(cells)
    state, keys = decoder.start(cells), decoder.key(cells)
    word = np.full(cells.shape[0], Vocabulary.START, "int32")
    words, looks, open_ = [], [], np.ones(cells.shape[0], bool)
    for _ in range(length):
        logits, state, weights = decoder.step(cells, state, ops.convert_to_tensor(word), keys)
        word = np.where(open_, ops.convert_to_numpy(logits).argmax(axis=-1), Vocabulary.PAD).astype("int32")
        open_ = open_ & (word != Vocabulary.END)
        words.append(word)
        looks.append(ops.convert_to_numpy(weights))
    return np.stack(words, axis=1), np.stack(looks, axis=1)


def beam_captions(decoder, cells, width=3, length=20):
    """`beam_search` over the texts of one map.

    Args:
        decoder: built `AttentionDecoder`.
        cells: (N, C) float.
        width, length: as for `beam_search`.

    Returns:
        list of (words, log-probability), best first.
    """
    cells = ops.convert_to_tensor(cells)[None]
    keys = decoder.key(cells)

    def step(state, words):
        shape = (len(words), *cells.shape[1:])
        parts = ops.broadcast_to(cells, shape), ops.convert_to_tensor(state), ops.convert_to_tensor(words)
        logits, state, _ = decoder.step(*parts, keys)
        return ops.convert_to_numpy(ops.log_softmax(logits)), ops.convert_to_numpy(state)

    return beam_search(step, ops.convert_to_numpy(decoder.start(cells)), width, length)


# Convolution along time


def causal_convolution(x, kernel, dilation=1):
    """Convolution along time that never looks ahead: y[t] = sum over i of x[t - (f - 1 - i) d] kernel[i].

    As in WaveNet (van den Oord et al. 2016); before the beginning there are zeros. The field of one output is 1 + (f -
    1) d steps.

    Args:
        x: (B, T, C) float.
        kernel: (f, C, F) float; its last entry meets the present.
        dilation: d, steps from one entry of the filter to the next.

    Returns:
        (B, T, F) tensor.

    Raises:
        ValueError: the channels differ, or the dilation is less than 1.
    """
    size, channels = kernel.shape[:2]
    if x.shape[-1] != channels or dilation < 1:
        raise ValueError(
            f"a kernel for {channels} channels on {x.shape[-1]}, dilation {dilation}: channels must agree, and the "
            "dilation be 1 or more"
        )
    length, reach = x.shape[1], (size - 1) * dilation
    padded = ops.pad(x, ((0, 0), (reach, 0), (0, 0)))
    parts = [ops.matmul(padded[:, i * dilation : i * dilation + length], kernel[i]) for i in range(size)]
    return sum(parts[1:], parts[0])


def tdnn(input_shape, classes, widths=(32, 32, 32), kernel=3, dilations=(1, 2, 4), padding="same", name="tdnn"):
    """A time-delay network: 1-D convolutions with ReLU, an average over time, logits.

    Waibel, Hanazawa, Hinton, Shikano and Lang (1989) with dilation in place of their wider second window; one score for
    each class at every moment, and their mean over time, so that the answer does not depend on when a sound begins.

    Args:
        input_shape: (T, C); T may be None.
        classes: number of logits.
        widths: filters of each layer.
        kernel: frames under each filter.
        dilations: of each layer.
        padding: "same" or "causal".
        name: of the model.

    Returns:
        keras.Model: (B, T, C) -> (B, classes).
    """
    if len(widths) != len(dilations):
        raise ValueError(f"{len(widths)} widths and {len(dilations)} dilations: one of each is needed for every layer")
    frames = layers.Input(input_shape)
    x = frames
    for number, (width, dilation) in enumerate(zip(widths, dilations), 1):
        x = layers.Conv1D(
            *(width, kernel),
            dilation_rate=dilation,
            padding=padding,
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv{number}",
        )(x)
    scores = layers.Conv1D(classes, 1, name="scores")(x)
    return keras.Model(frames, layers.GlobalAveragePooling1D(name="logits")(scores), name=name)


# Sound


def log_mel(signals, rate, bands=24, window=256, hop=128, low=60.0, high=None, floor=1e-6):
    """Log-mel spectrograms: the energy in bands that are as wide as the ear's, frame by frame.

    Frames of `window` samples under a periodic Hann window, the squared magnitude of their Fourier transform, summed
    under triangles that are equally spaced on the mel scale 2595 log10(1 + f / 700) (O'Shaughnessy 1987; the HTK form),
    and the natural logarithm.

    Args:
        signals: (B, samples) float.
        rate: samples a second.
        bands: triangles.
        window, hop: samples of a frame, and from one frame to the next. The last frame is the last that fits.
        low, high: Hz, where the triangles begin and end; None: half the rate.
        floor: energy added before the logarithm, so that silence has one.

    Returns:
        (B, frames, bands) float32.

    Raises:
        ValueError: the signals are shorter than a frame, or the frequencies do not lie between 0 and half the rate in
            that order.
    """
    signals = np.asarray(signals, "float32")
    if signals.ndim != 2 or signals.shape[1] < window:
        raise ValueError(f"signals (B, samples) of at least {window} samples are needed, got the shape {signals.shape}")
    starts = np.arange(0, signals.shape[1] - window + 1, hop)
    frames = signals[:, starts[:, None] + np.arange(window)]  # (B, frames, window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(frames * hann.astype("float32"), axis=-1)) ** 2
    return np.log(power @ mel_triangles(rate, bands, window, low, high) + floor).astype("float32")


def mel_triangles(rate, bands=24, window=256, low=60.0, high=None):
    """The triangles of `log_mel` as a matrix (window // 2 + 1, bands) float64, each with a peak of 1. Arguments and
    errors as there.
    """
    high = rate / 2 if high is None else high
    if not 0 <= low < high <= rate / 2:
        raise ValueError(f"the bands must lie between 0 and {rate / 2:g} Hz, got {low:g} to {high:g}")
    ends = 2595 * np.log10(1 + np.array([low, high]) / 700)
    corners = 700 * (10 ** (np.linspace(*ends, bands + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(window, 1 / rate)[:, None]
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def mfcc(spectrograms, coefficients=13):
    """Mel-frequency cepstral coefficients: the discrete cosine transform of a log-mel spectrogram along its bands.

    Davis and Mermelstein (1980). The first coefficients hold the outline of the spectrum, which the mouth makes; the
    fine structure, which comes from the pitch of the voice, is left out with the rest.

    Args:
        spectrograms: (B, frames, bands) float, as `log_mel` gives them.
        coefficients: how many to keep.

    Returns:
        (B, frames, coefficients) float32; DCT-II, orthonormal.
    """
    return dct(spectrograms, type=2, norm="ortho", axis=-1)[..., :coefficients].astype("float32")
