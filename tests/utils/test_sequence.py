"""Captions, convolution along time, sound: against exhaustive search, brute force, a library's values and small
examples by hand.
"""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from utils import sequence
from utils.data import shapes
from utils.sequence import Vocabulary

GOLDEN = Path(__file__).parents[1] / "golden"


def array(x):
    return ops.convert_to_numpy(x)


# Words


def test_texts_become_numbers_and_back():
    vocabulary = Vocabulary(["red", "star", "a"])
    rows = vocabulary.encode(["a red star", "a star"])
    assert rows.tolist() == [[1, 5, 3, 4, 2], [1, 5, 4, 2, 0]] and rows.dtype == np.int32
    assert vocabulary.decode(rows) == ["a red star", "a star"]
    assert vocabulary.encode(["red"], 4, ends=False).tolist() == [[3, 0, 0, 0]]
    assert vocabulary.decode([[3, 4, 2, 5]]) == ["red star"]  # nothing behind the end
    assert len(vocabulary) == 6


def test_every_caption_of_the_scenes_can_be_written():
    vocabulary = Vocabulary(shapes.vocabulary())
    captions = [scene.caption for scene in shapes.scenes(20, image_size=24)]
    assert vocabulary.decode(vocabulary.encode(captions, 12)) == captions


def test_a_text_that_cannot_be_written_is_told():
    vocabulary = Vocabulary(["red", "star"])
    with pytest.raises(ValueError, match="'moon' of 'red moon' is not among the 2 words"):
        vocabulary.encode(["red moon"])
    with pytest.raises(ValueError, match="needs 4 places, and there are 3"):
        vocabulary.encode(["red star"], 3)
    for words in (["a", "a"], ["left of"], [""]):
        with pytest.raises(ValueError, match="single words, each once"):
            Vocabulary(words)


@pytest.fixture(scope="module")
def decoder():
    keras.utils.set_random_seed(0)
    layer = sequence.AttentionDecoder(7, units=6, embedding=4)
    layer.build(((None, 5, 3), (None, 4)))
    for variable in layer.trainable_variables:
        variable.assign(np.random.default_rng(len(variable.shape)).normal(size=variable.shape))
    return layer


CELLS = np.random.default_rng(1).normal(size=(2, 5, 3)).astype("float32")


def test_attention_is_a_softmax_over_the_cells(decoder):
    state = np.random.default_rng(2).normal(size=(2, 6)).astype("float32")
    key, energy = array(decoder.key.kernel), array(decoder.energy.kernel)
    query, bias = array(decoder.query.kernel), array(decoder.query.bias)
    cells = ops.convert_to_tensor(CELLS)
    context, weights = (array(part) for part in decoder.attend(cells, decoder.key(cells), ops.convert_to_tensor(state)))
    for b in range(2):
        energies = [float((np.tanh(cell @ key + state[b] @ query + bias) @ energy)[0]) for cell in CELLS[b]]
        share = np.exp(energies) / np.exp(energies).sum()
        np.testing.assert_allclose(weights[b], share, rtol=1e-4)
        np.testing.assert_allclose(context[b], share @ CELLS[b], rtol=1e-4, atol=1e-5)


def test_teacher_forcing_is_one_step_after_another(decoder):
    words = np.array([[1, 3, 4, 2], [1, 5, 2, 0]], "int32")
    together = array(decoder([ops.convert_to_tensor(CELLS), ops.convert_to_tensor(words)]))
    state = decoder.start(ops.convert_to_tensor(CELLS))
    for t in range(4):
        logits, state, weights = decoder.step(ops.convert_to_tensor(CELLS), state, ops.convert_to_tensor(words[:, t]))
        np.testing.assert_allclose(array(logits), together[:, t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(array(weights).sum(axis=1), 1, rtol=1e-5)
    assert together.shape == (2, 4, 7)


def test_the_decoder_is_saved_and_loaded(decoder, tmp_path):
    cells, words = keras.Input((5, 3)), keras.Input((4,), dtype="int32")
    model = keras.Model([cells, words], sequence.AttentionDecoder(7, units=6, embedding=4)([cells, words]))
    model.save(tmp_path / "decoder.keras")
    loaded = keras.models.load_model(tmp_path / "decoder.keras")
    given = [CELLS, np.array([[1, 3, 4, 2], [1, 5, 2, 0]], "int32")]
    np.testing.assert_allclose(model.predict_on_batch(given), loaded.predict_on_batch(given), rtol=1e-5)


def test_places_that_are_filled_up_do_not_count():
    y = np.array([[3, 2, 0, 0], [4, 5, 6, 2]])
    logits = np.random.default_rng(3).normal(size=(2, 4, 7)).astype("float32")
    log_softmax = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    counted = [-log_softmax[b, t, y[b, t]] for b in range(2) for t in range(4) if y[b, t]]
    np.testing.assert_allclose(array(sequence.word_loss(y, ops.convert_to_tensor(logits))), np.mean(counted), rtol=1e-5)


# Search


def table_step(table):
    """A step whose probabilities depend on the time and on the last word; the state counts the time."""

    def step(state, words):
        return np.stack([table[int(t), word] for t, word in zip(state[:, 0], words)]), state + 1

    return step


def exhaustive(table, length, start, end):
    """Every sequence with its score, best first."""
    found = {}
    for words in itertools.product(range(table.shape[-1]), repeat=length):
        cut = words[: words.index(end) + 1] if end in words else words
        score, last = 0.0, start
        for t, word in enumerate(cut):
            score, last = score + table[t, last, word], word
        found[tuple(word for word in cut if word != end)] = score
    return sorted(found.items(), key=lambda entry: -entry[1])


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_everything_finds_what_exhaustive_search_finds(seed):
    table = np.log(np.random.default_rng(seed).dirichlet(np.full(4, 0.5), size=(3, 4)))
    expected = exhaustive(table, 3, start=0, end=3)
    found = sequence.beam_search(table_step(table), np.zeros((1, 1)), width=64, length=3, start=0, end=3)
    assert [tuple(words) for words, _ in found[:5]] == [words for words, _ in expected[:5]]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected])


def test_a_beam_of_one_is_greedy_and_a_wider_one_finds_better():
    # After the start A has .6 and B .4; after A all is open, after B the end is nearly certain.
    following = np.log([[1e-9, 0.6, 0.4, 1e-9], [1e-9, 0.3, 0.3, 0.4], [1e-9, 0.05, 0.05, 0.9], [1, 1, 1, 1]])
    step = table_step(np.stack([following] * 3))
    assert sequence.beam_search(step, np.zeros((1, 1)), 1, 3, 0, 3) == [([1], pytest.approx(np.log(0.24)))]
    found = sequence.beam_search(step, np.zeros((1, 1)), 2, 3, 0, 3)
    assert found[0] == ([2], pytest.approx(np.log(0.36)))
    assert len(found) == 2


def test_what_is_not_finished_is_cut():
    table = np.log(np.full((2, 3, 3), 1e-9) + np.eye(3)[1])  # always word 1, never the end
    assert sequence.beam_search(table_step(table), np.zeros((1, 1)), 1, 2, 0, 2)[0][0] == [1, 1]


def test_states_follow_their_beginnings_also_as_a_list():
    def step(state, words):
        first, second = state
        assert (first[:, 0] == second[:, 0]).all()  # both parts are gathered alike
        totals = np.log([[0.5, 0.3, 0.2]] * len(words))
        return totals, [first * 10 + words[:, None], second * 10 + words[:, None]]

    found = sequence.beam_search(step, [np.zeros((1, 1)), np.zeros((1, 1))], 3, 3, start=0, end=2)
    assert len(found) == 3


@pytest.mark.parametrize("width, length", [(0, 3), (1, 0)])
def test_a_beam_without_room_is_told(width, length):
    with pytest.raises(ValueError, match="at least 1"):
        sequence.beam_search(None, np.zeros((1, 1)), width, length)


def test_greedy_captions_are_a_beam_of_one(decoder):
    words, looks = sequence.greedy_captions(decoder, CELLS, 6)
    assert words.shape == (2, 6) and looks.shape == (2, 6, 5)
    for row, cells in zip(words, CELLS):
        ends = np.flatnonzero(row == Vocabulary.END)
        spoken = row[: ends[0]] if len(ends) else row
        assert (row[ends[0] + 1 :] == Vocabulary.PAD).all() if len(ends) else True
        assert sequence.beam_captions(decoder, cells, 1, 6)[0][0] == spoken.tolist()
    best = [sequence.beam_captions(decoder, cells, 50, 3)[0][1] for cells in CELLS]
    narrow = [sequence.beam_captions(decoder, cells, 1, 3)[0][1] for cells in CELLS]
    assert all(wide >= one - 1e-5 for wide, one in zip(best, narrow))


# Time


@pytest.mark.parametrize("size, dilation", [(1, 1), (2, 1), (3, 2), (2, 4), (3, 30)])
def test_causal_convolution_against_brute_force(size, dilation):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, 20, 3)).astype("float32"), rng.normal(size=(size, 3, 4)).astype("float32")
    expected = np.zeros((2, 20, 4))
    for b, t, i in itertools.product(range(2), range(20), range(size)):
        past = t - (size - 1 - i) * dilation
        if past >= 0:
            expected[b, t] += x[b, past] @ kernel[i]
    answer = array(sequence.causal_convolution(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel), dilation))
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_causal_convolution_is_that_of_keras():
    layer = keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2, use_bias=False)
    x = np.random.default_rng(5).normal(size=(2, 12, 3)).astype("float32")
    expected = array(layer(x))
    np.testing.assert_allclose(
        array(sequence.causal_convolution(ops.convert_to_tensor(x), layer.kernel, 2)), expected, rtol=1e-4, atol=1e-5
    )


def test_causal_convolution_tells_what_does_not_fit():
    with pytest.raises(ValueError, match="a kernel for 2 channels on 3, dilation 1"):
        sequence.causal_convolution(np.zeros((1, 4, 3)), np.zeros((2, 2, 1)))
    with pytest.raises(ValueError, match="dilation 0"):
        sequence.causal_convolution(np.zeros((1, 4, 3)), np.zeros((2, 3, 1)), 0)


def test_a_causal_time_delay_network_never_looks_ahead():
    keras.utils.set_random_seed(0)
    model = sequence.tdnn((16, 2), 3, (4, 4), dilations=(1, 2), padding="causal")
    scores = keras.Model(model.input, model.get_layer("scores").output)
    x = np.random.default_rng(6).normal(size=(1, 16, 2)).astype("float32")
    touched = x.copy()
    touched[0, 9] += 1
    moved = np.abs(scores.predict_on_batch(touched) - scores.predict_on_batch(x)).max(axis=(0, 2)) > 1e-6
    assert not moved[:9].any() and not moved[9 + 7 :].any() and moved[9]
    np.testing.assert_allclose(model.predict_on_batch(x)[0], scores.predict_on_batch(x)[0].mean(axis=0), rtol=1e-4)


def test_a_time_delay_network_wants_a_dilation_for_each_layer():
    with pytest.raises(ValueError, match="2 widths and 3 dilations"):
        sequence.tdnn((16, 2), 3, (4, 4), dilations=(1, 2, 4))


# Sound


def test_log_mel_and_mfcc_against_librosa():
    # tests/golden/make_mfcc.py: librosa 0.11, HTK mel scale, no normalisation, no padding, periodic Hann window
    golden = np.load(GOLDEN / "mfcc.npz")
    spectra = sequence.log_mel(golden["signals"], int(golden["rate"]), bands=24, window=256, hop=128, low=60.0)
    np.testing.assert_allclose(spectra, golden["log_mel"], atol=2e-4)
    np.testing.assert_allclose(sequence.mfcc(spectra), golden["mfcc"], atol=2e-4)


def test_a_tone_stands_in_the_band_that_holds_it():
    rate, time = 8000, np.arange(4000) / 8000
    centres = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([60, 4000]) / 700)), 26)[1:-1] / 2595) - 1)
    for frequency in (300, 1000, 2500):
        spectrum = sequence.log_mel(np.sin(2 * np.pi * frequency * time)[None], rate)[0]
        assert spectrum.shape == ((4000 - 256) // 128 + 1, 24)
        assert abs(spectrum.mean(axis=0).argmax() - np.abs(centres - frequency).argmin()) <= 1


def test_silence_has_a_logarithm():
    assert np.allclose(sequence.log_mel(np.zeros((1, 300)), 8000), np.log(1e-6))


def test_sound_that_cannot_be_cut_is_told():
    with pytest.raises(ValueError, match="at least 256 samples are needed"):
        sequence.log_mel(np.zeros((2, 100)), 8000)
    with pytest.raises(ValueError, match="between 0 and 4000 Hz, got 60 to 5000"):
        sequence.log_mel(np.zeros((2, 300)), 8000, high=5000)
