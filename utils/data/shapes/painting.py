"""Grounds and fills: everything about a picture that no ground truth speaks of. All of it in integers, or in floats
that are exact.
"""

import functools

import numpy as np

from utils.data.shapes import configs


def luma(colours):
    """Brightness, 0 to 255, of (..., 3) int colours: ITU-R 601 in 8 bits."""
    return (77 * colours[..., 0] + 150 * colours[..., 1] + 29 * colours[..., 2]) >> 8


@functools.lru_cache(maxsize=64)
def spline_weights(length, cells, unit):
    """Weights of a cubic B-spline that spreads `cells` + 3 values over `length` pixels, a cell being `unit` pixels:
    (length, cells + 3) float32 whole numbers, each row with the sum 64."""
    weights = np.zeros((length, cells + 3), np.float32)
    for pixel in range(length):
        cell, t = divmod((pixel + 0.5) / unit, 1)
        s = 1 - t
        four = [s * s * s / 6, (3 * t * t * t - 6 * t * t + 4) / 6, (3 * s * s * s - 6 * s * s + 4) / 6, t * t * t / 6]
        whole = [int(weight * 64 + 0.5) for weight in four]
        whole[1 if t < 0.5 else 2] += 64 - sum(whole)
        weights[pixel, int(cell) : int(cell) + 4] = whole
    return weights


def octave(chance, height, width, across):
    """Smooth noise with `across` cells along the shorter side: (height, width, 3) int32, -128 to 127.

    The two products of matrices hold whole numbers below 2^24, which makes them exact in whatever order they are
    summed.
    """
    unit = min(height, width) / across
    rows, columns = int(height / unit) + 1, int(width / unit) + 1
    values = chance.bytes(rows + 3, columns + 3, 3).astype(np.float32) - 128
    spread = spline_weights(width, columns, unit) @ values  # (rows + 3, width, 3)
    spread = spline_weights(height, rows, unit) @ spread.reshape(rows + 3, width * 3)
    return spread.astype(np.int32).reshape(height, width, 3) >> 12


def base_colour(chance, spread):
    """A dark or a light colour, three int: never a middle grey, so that most of the palette stands out on it."""
    level = chance.integer(32, 64) if chance.below(2) else chance.integer(186, 220)
    return np.array([level + chance.integer(-spread, spread) for _ in range(3)], np.int32)


def clouds(chance, height, width, base=None):
    """Colour noise of two octaves: (height, width, 3) int32."""
    base = base_colour(chance, 26) if base is None else np.array(base, np.int32)
    coarse, fine = octave(chance, height, width, 4), octave(chance, height, width, 13)
    strength = chance.integer(30, 62)
    grey = coarse[..., :1] * (strength // 2) >> 7  # shared by the colours, so that brightness varies more than hue
    return base + grey + (coarse * (strength // 2) + fine * strength >> 7)


def weave(chance, height, width, base=None):
    """Crossing threads over a gradient: (height, width, 3) int32."""
    base = base_colour(chance, 36) if base is None else np.array(base, np.int32)
    scale = min(height, width) / configs.REFERENCE
    x = np.arange(width, dtype=np.float32)[None, :] + 0.5
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    slope = chance.between(-0.6, 0.6)
    periods = chance.between(5, 11) * scale, chance.between(5, 11) * scale
    warp, weft = triangle_wave((x + slope * y) / periods[0]), triangle_wave((y - slope * x) / periods[1])
    depth = chance.integer(10, 22)
    threads = np.floor((np.maximum(warp, weft) - 0.25) * depth).astype(np.int32)
    tilt = chance.between(-24, 24), chance.between(-24, 24)
    light = np.floor(x * (tilt[0] / width) + y * (tilt[1] / height)).astype(np.int32)
    return base + (threads + light)[..., None]


GROUNDS = {"clouds": clouds, "weave": weave}


def noise(chance, height, width, strength):
    """Independent noise of every channel of every pixel, triangular between plus and minus `strength` levels: (height,
    width, 3) int32.
    """
    first, second = chance.bytes(2, height, width, 3).astype(np.int16)
    return (first + second - np.int16(255)).astype(np.int32) * strength >> 8


def triangle_wave(phase):
    """1 at whole numbers, -1 half-way between, straight in between."""
    return np.abs((phase - np.floor(phase)) * 4 - 2) - 1


def plain(chance, u, v, radius):
    return 0


def stripes(chance, u, v, radius):
    period = radius * chance.between(0.4, 0.7)
    return triangle_wave(u / period) * (period / 4)


def checks(chance, u, v, radius):
    period = radius * chance.between(0.6, 0.9)
    return np.clip(triangle_wave(u / period) * (period / 4), -1, 1) * np.clip(
        triangle_wave(v / period) * (period / 4), -1, 1
    )


def dots(chance, u, v, radius):
    period = radius * chance.between(0.45, 0.65)
    x, y = triangle_wave(u / period) - 1, triangle_wave(v / period) - 1
    return (1.1 - np.sqrt(x * x + y * y)) * (period / 2)


def shading(chance, u, v, radius):
    lean = chance.between(-1, 1)
    return (u * lean + v) * (1.2 / radius)


def hatching(chance, u, v, radius):
    period = radius * chance.between(0.22, 0.34)
    return np.minimum(triangle_wave((u + v) / period), triangle_wave((u - v) / period)) * 1.5 + 0.7


def ripples(chance, u, v, radius):
    period = radius * chance.between(0.3, 0.45)
    return triangle_wave(np.sqrt(u * u + v * v) / period) * 1.5


FILLS = {fill.__name__: fill for fill in (plain, stripes, checks, dots, shading, hatching, ripples)}


def pick_colour(chance, style, around, used, least=48):
    """The index of a colour that stands out by brightness; if there is none that is not used yet, one that stands out a
    little less.

    Args:
        chance: a `Chance`.
        style: a `Style`.
        around: (n,) int, the brightness, 0 to 255, of the ground behind the object and around it.
        used: indices of the colours of other objects.
        least: how much brighter than nine tenths of the ground, or darker, a colour must be.
    """
    ordered = np.sort(around, axis=None)
    low, high = int(ordered[ordered.size // 10]), int(ordered[-1 - ordered.size // 10])
    differences = [max(brightness - high, low - brightness) for brightness in luma(np.array(style.colours)).tolist()]
    for enough in (least, least * 2 // 3):
        allowed = [index for index, difference in enumerate(differences) if difference >= enough and index not in used]
        if allowed:
            return chance.pick(allowed)
    allowed = [index for index, difference in enumerate(differences) if difference >= least]
    return chance.pick(allowed or [differences.index(max(differences))])


def paint(canvas, chance, style, colour, distance, u, v, radius, scale):
    """Draws one object onto a window of the picture.

    Args:
        canvas: (h, w, 3) int32, changed in place.
        chance: a `Chance`.
        style: a `Style`.
        colour: index into its colours.
        distance: (h, w) float32, signed, pixels.
        u, v: (h, w) float32, the coordinates in the object's own frame, pixels.
        radius: pixels.
        scale: shorter side of the image by 96.
    """
    fill = FILLS[chance.pick(style.fills)]
    depth = chance.integer(12, 25)
    shift = np.array([chance.integer(-7, 7) for _ in range(3)], np.int32)
    middle = np.clip(np.array(style.colours[colour], np.int32) + shift, depth // 2, 255 - depth // 2)
    texture = np.asarray(fill(chance, u, v, radius))
    body = middle + np.floor(np.clip(texture, -1, 1) * depth).astype(np.int32)[..., None]
    if style.outlined:
        line = middle * 9 >> 4 if luma(middle) > 80 else middle + ((255 - middle) * 6 >> 4)
        width = 0.6 * scale + 0.05 * radius
        share = np.floor(np.clip(distance + (width + 0.5), 0, 1) * 256).astype(np.int32)[..., None]
        body = body + ((line - body) * share >> 8)
    softness = max(style.softness * scale, 1)
    share = np.floor(np.clip(0.5 - distance / softness, 0, 1) * 256).astype(np.int32)[..., None]
    canvas += (body - canvas) * share >> 8
