"""Random numbers that are the same on every machine and with every version of NumPy."""

import zlib

import numpy as np


class Chance:
    """Numbers made of the raw words of a PCG64; NumPy promises that these never change, which it does not of
    `Generator`.

    Args:
        name: text that sets streams of equal numbers apart.
        numbers: int, each at least 0.
    """

    def __init__(self, name, *numbers):
        sequence = np.random.SeedSequence([zlib.crc32(name.encode()), *numbers])
        self._raw = np.random.PCG64(sequence).random_raw

    def below(self, count):
        """An int in 0 .. count - 1."""
        return (self._raw() >> 32) * count >> 32

    def between(self, low, high):
        """A float in [low, high), or `low` if they are equal."""
        return low + (self._raw() >> 11) * 2.0**-53 * (high - low)

    def integer(self, low, high):
        """An int in low .. high."""
        return low + self.below(high - low + 1)

    def pick(self, options):
        """One of a sequence."""
        return options[self.below(len(options))]

    def bytes(self, *shape):
        """An array of that shape of uint8."""
        count = int(np.prod(shape))
        words = self._raw(-(-count // 8)).astype("<u8", copy=False)
        return words.view(np.uint8)[:count].reshape(shape)
