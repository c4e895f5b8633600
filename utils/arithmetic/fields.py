"""What the units along one axis see of the image, and how a layer that slides along it changes that."""

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Field:
    """What the units along one axis see: unit u sees the pixels first[u] to last[u].

    Kept for one period of P units; unit u + P sees what u sees, `shift` pixels further on. P is 1 but for what lies
    behind an upsampling, and shift 0 when every unit sees the same.
    """

    first: tuple
    last: tuple
    shift: int

    def at(self, unit):
        turn, phase = divmod(unit, len(self.first))
        return self.first[phase] + turn * self.shift, self.last[phase] + turn * self.shift

    @property
    def size(self):
        return max(last - first + 1 for first, last in zip(self.first, self.last))

    @property
    def jump(self):
        whole, rest = divmod(self.shift, len(self.first))
        return whole if rest == 0 else self.shift / len(self.first)

    @property
    def start(self):
        return (self.first[0] + self.last[0] + 1) / 2

    def through(self, window):
        """The field of the units of a layer that looks at these through a `Window`."""
        turns = len(self.first) // math.gcd(len(self.first), window.step)
        seen = []
        for unit in range(turns * len(window.taps)):
            turn, phase = divmod(unit, len(window.taps))
            ends = [self.at(turn * window.step + tap) for tap in window.taps[phase]]
            # A unit that no tap reaches (a transposed convolution with f < s) sees nothing.
            seen.append((min((a for a, _ in ends), default=math.inf), max((b for _, b in ends), default=-math.inf)))
        return Field(*zip(*seen), turns * window.step // len(self.first) * self.shift)

    def whole(self, units, pixels):
        """What `units` of these see together, inside an image of `pixels`."""
        ends = [self.at(unit) for unit in range(units)]
        return Field((max(min(a for a, _ in ends), 0),), (min(max(b for _, b in ends), pixels - 1),), 0)

    def hull(self, other):
        """The smallest field that holds both, of equal jump."""
        units = math.lcm(len(self.first), len(other.first))
        ends = [(*self.at(unit), *other.at(unit)) for unit in range(units)]
        first, last = zip(*((min(a, c), max(b, d)) for a, b, c, d in ends))
        return Field(first, last, units // len(self.first) * self.shift)


@dataclass(frozen=True)
class Window:
    """Output unit j reads the input units taps[j]; len(taps) outputs further on, `step` inputs further on."""

    taps: tuple
    step: int


def sliding(f, s, before, d=1):
    return Window((tuple(range(-before, d * (f - 1) + 1 - before, d)),), s)


def spreading(f, s, before, d=1):
    """A transposed convolution: output j gets from input i when j = i s + t d - before for a tap t of the filter."""
    taps = (((j + before - t * d) for t in range(f)) for j in range(s))
    return Window(tuple(tuple(at // s for at in phase if at % s == 0) for phase in taps), 1)


def resizing(n, size, method):
    """Interpolation with pixel centres at half integers."""
    common = math.gcd(n, size)
    taps = []
    for j in range(size // common):
        centre = Fraction(2 * j + 1, 2) * Fraction(n, size)
        if method == "nearest":
            taps.append((math.floor(centre),))
        else:
            left = centre - Fraction(1, 2)
            taps.append(tuple({math.floor(left), math.ceil(left)}))
    return Window(tuple(taps), n // common)
