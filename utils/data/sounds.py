"""Sounds, made: tones, rhythms and spoken-like words, each from a few numbers drawn at random and without a file.

    signals, labels = sounds.words(200, seed=3)          # 200 words of four sounds, other speakers for every seed

All are (N, samples) float32 in [-1, 1] at `RATE` samples a second, with noise behind them and a beginning that is
drawn, and balanced: sound i has the class i modulo the number of classes. Made sounds are no recordings: they show what
a network can tell apart, not how well it hears people.
"""

import numpy as np
from scipy.signal import lfilter

RATE = 8000
TONES = ("steady", "rising", "falling", "wavering")
RHYTHMS = ("even", "gallop", "limp", "sway")

# Formants in Hz of five vowels: roughly the men's averages of Peterson and Barney (1952), rounded; a speaker scales all
# of them.
VOWELS = {"a": (730, 1090), "e": (530, 1840), "i": (270, 2290), "o": (570, 840), "u": (300, 870)}
HISSES = {"s": 3200, "f": 1500}  # Hz, the middle of a band of noise
# Each word has a partner with the same sounds in another order.
WORDS = ("asi", "isa", "ufo", "ofu", "eda", "ade", "isu", "usi")

# The gaps between a bar's four strokes, in sixteenths. The last three have the same gaps in different orders.
BARS = {"even": (4, 4, 4, 4), "gallop": (2, 4, 4, 6), "limp": (2, 6, 4, 4), "sway": (2, 4, 6, 4)}


def tones(count, seed=0, seconds=0.8, noise=0.1):
    """Tones that stay, rise, fall or waver, at any pitch from 250 to 1,200 Hz.

    Args:
        count: number of sounds.
        seed: int, of all that is drawn.
        seconds: length of each.
        noise: standard deviation of the noise behind them.

    Returns:
        signals (count, samples) float32, labels (count,) int32, indices into `TONES`.
    """
    rng = np.random.default_rng([seed, 0])
    time = np.arange(round(seconds * RATE)) / RATE
    signals = []
    for index in range(count):
        kind, low = TONES[index % len(TONES)], rng.uniform(250, 1200)
        octaves = rng.uniform(0.4, 0.8)
        sweep = np.linspace(0, octaves, len(time))
        wave = octaves / 4 * np.sin(2 * np.pi * rng.uniform(4, 7) * time)
        bend = {"steady": 0 * time, "rising": sweep, "falling": octaves - sweep, "wavering": wave}[kind]
        phase = 2 * np.pi * np.cumsum(low * 2**bend) / RATE
        signals.append(0.4 * np.sin(phase) * _envelope(len(time), rng))
    return _finished(signals, noise, rng), np.arange(count, dtype=np.int32) % len(TONES)


def rhythms(count, seed=0, seconds=2.0, noise=0.02):
    """Strokes of a stick in one of four rhythms, at any tempo of .9 to 1.1 bars a second, begun anywhere in the bar.

    Args, returns: as for `tones`; labels are indices into `RHYTHMS`.
    """
    rng = np.random.default_rng([seed, 1])
    samples = round(seconds * RATE)
    stroke = np.exp(-np.arange(600) / 90)
    signals = []
    for index in range(count):
        bar = RATE / rng.uniform(0.9, 1.1)
        onsets = np.cumsum(BARS[RHYTHMS[index % len(RHYTHMS)]]) / 16
        starts = (np.arange(-1, 4)[:, None] + onsets + rng.uniform(0, 1)) * bar
        pulses = np.zeros(samples + 700)
        for start in starts.ravel() + rng.normal(0, 20, starts.size):
            if 0 <= start < samples:
                pulses[int(start) : int(start) + 600] += stroke * rng.normal(0, 0.3, 600)
        signals.append(pulses[:samples])
    return _finished(signals, noise, rng), np.arange(count, dtype=np.int32) % len(RHYTHMS)


def words(count, seed=0, seconds=1.2, noise=0.02):
    """Words of three speech sounds: vowels from a buzz through two resonances, s and f from filtered noise, d from a
    pause and a click.

    Every word comes from another speaker (pitch 90 to 250 Hz, length of the throat), with other lengths, another
    loudness, another beginning. Klatt (1980) is the full form of such a synthesiser.

    Args, returns: as for `tones`; labels are indices into `WORDS`.
    """
    rng = np.random.default_rng([seed, 2])
    samples = round(seconds * RATE)
    signals = []
    for index in range(count):
        pitch, throat = rng.uniform(90, 250), rng.uniform(0.9, 1.15)
        parts = [_sound(letter, pitch, throat, rng) for letter in WORDS[index % len(WORDS)]]
        word = np.concatenate(parts)[:samples]
        begin = int(rng.integers(samples - len(word) + 1))
        signal = np.zeros(samples)
        signal[begin : begin + len(word)] = word * rng.uniform(0.5, 1)
        signals.append(signal)
    return _finished(signals, noise, rng), np.arange(count, dtype=np.int32) % len(WORDS)


def _sound(letter, pitch, throat, rng):
    length = round(rng.uniform(0.13, 0.22) * RATE)
    if letter in VOWELS:
        glide = pitch * np.linspace(1.05, 0.92, length)
        buzz = np.diff(np.floor(np.cumsum(glide) / RATE), prepend=0) - pitch / RATE  # one pulse a period
        for formant in VOWELS[letter]:
            buzz = _resonate(buzz, formant * throat, 90)
        sound = buzz
    elif letter in HISSES:
        sound = 0.4 * _normal(_resonate(rng.normal(size=length), HISSES[letter] * throat, 500))
        return sound * _envelope(length, rng)
    else:
        length = round(0.09 * RATE)
        sound = np.zeros(length)
        sound[-120:] = rng.normal(0, 0.3, 120) * np.exp(-np.arange(120) / 40)
        return sound
    return _normal(sound) * _envelope(length, rng)


def _resonate(signal, frequency, bandwidth):
    # Two poles: the resonance of a tube at that frequency.
    radius, angle = np.exp(-np.pi * bandwidth / RATE), 2 * np.pi * frequency / RATE
    return lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], signal)


def _normal(signal):
    return signal / (np.abs(signal).max() + 1e-9)


def _envelope(length, rng):
    """Rise and fall over a tenth of the length, so that nothing clicks."""
    edge = np.minimum(np.arange(length), np.arange(length)[::-1]) / (length * rng.uniform(0.08, 0.12))
    return np.clip(edge, 0, 1)


def _finished(signals, noise, rng):
    signals = np.stack(signals) if signals else np.zeros((0, 1))
    return np.clip(signals + rng.normal(0, noise, signals.shape), -1, 1).astype("float32")
