"""Made sounds: repeatable, balanced, and what they are said to be."""

import numpy as np
import pytest
from scipy.signal import find_peaks

from utils.data import sounds

KINDS = [(sounds.tones, sounds.TONES), (sounds.rhythms, sounds.RHYTHMS), (sounds.words, sounds.WORDS)]


@pytest.mark.parametrize("make, classes", KINDS)
def test_sounds_are_repeatable_balanced_and_in_range(make, classes):
    signals, labels = make(17, seed=3)
    again, _ = make(17, seed=3)
    other, _ = make(17, seed=4)
    np.testing.assert_array_equal(signals, again)
    assert not np.array_equal(signals, other)
    assert signals.dtype == np.float32 and np.abs(signals).max() <= 1 and labels.dtype == np.int32
    np.testing.assert_array_equal(labels, np.arange(17) % len(classes))
    assert make(0)[0].shape[0] == 0


def strongest(signal):
    """Hz of the strongest frequency in each sixth of a signal."""
    parts = np.array_split(signal, 6)
    return (
        np.array([np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() / len(part) for part in parts])
        * sounds.RATE
    )


def test_tones_do_what_their_names_say():
    signals, labels = sounds.tones(40, seed=1, noise=0)
    for signal, label in zip(signals, labels):
        heard = strongest(signal)[1:-1]
        steps = np.diff(np.log2(heard))
        if sounds.TONES[label] == "steady":
            assert np.abs(steps).max() < 0.05
        if sounds.TONES[label] == "rising":
            assert (steps > 0).all()
        if sounds.TONES[label] == "falling":
            assert (steps < 0).all()


def test_rhythms_have_the_same_gaps_in_other_orders():
    bars = {name: sounds.BARS[name] for name in sounds.RHYTHMS}
    assert all(sum(gaps) == 16 for gaps in bars.values())
    assert len({tuple(sorted(gaps)) for name, gaps in bars.items() if name != "even"}) == 1
    turns = {name: {gaps[i:] + gaps[:i] for i in range(4)} for name, gaps in bars.items()}
    names = list(turns)
    assert all(not turns[a] & turns[b] for a in names for b in names if a < b)  # no one is another one begun later


def test_strokes_stand_where_the_bar_says():
    signals, labels = sounds.rhythms(8, seed=2, noise=0)
    for signal, label in zip(signals, labels):
        loud = np.convolve(np.abs(signal), np.ones(80) / 80, "same")
        peaks, _ = find_peaks(loud, height=0.02, distance=500)
        gaps = np.diff(peaks) / sounds.RATE
        if sounds.RHYTHMS[label] == "even":
            assert gaps.max() / gaps.min() < 1.4
        else:
            assert gaps.max() / gaps.min() > 1.8


def test_words_come_in_pairs_of_the_same_sounds():
    for word in sounds.WORDS:
        assert word[::-1] in sounds.WORDS
        assert all(letter in {**sounds.VOWELS, **sounds.HISSES, "d": 0} for letter in word)


def test_an_i_is_brighter_than_an_o():
    rng = np.random.default_rng(0)
    spectra = {}
    for vowel in "io":
        sound = sounds._sound(vowel, 120, 1.0, rng)
        power = np.abs(np.fft.rfft(sound)) ** 2
        frequencies = np.fft.rfftfreq(len(sound), 1 / sounds.RATE)
        spectra[vowel] = power[frequencies > 1500].sum() / power.sum()
    assert spectra["i"] > 3 * spectra["o"]
