"""The six outlines: signed distances to their edges, and their keypoints.

Outlines stand upright in a frame of their own: u to the right, v down, the origin in the middle, the first tip straight
up. `radius` is that of the circle around them. Distances are exact beside edges; beyond a corner they are those to the
edges' continuations, which keeps corners sharp. Quilez, "2D distance functions" (2018), has the idea of folding the
plane onto one edge.
"""

import math

import numpy as np

from utils.data.shapes.configs import CLASSES, KEYPOINTS

HALF_ROOT = math.sqrt(0.5)
ARM = 0.36  # half the width of the cross's arms, by half its length
ARM_LENGTH = 1 / math.sqrt(1 + ARM * ARM)  # half the length, by the radius
HOLE = 0.55  # radius of the ring's hole, by the radius
NOTCH = 0.46  # radius of the star's inner corners, by the radius
COS36, SIN36 = 0.8090169943749475, 0.5877852522924731


def circle(u, v, radius):
    return np.sqrt(u * u + v * v) - radius


def square(u, v, radius):
    return (abs(u) + abs(v)) * HALF_ROOT - radius * HALF_ROOT


def triangle(u, v, radius):
    return np.maximum(v, abs(u) * (math.sqrt(3) / 2) - v * 0.5) - radius / 2


def star(u, v, radius):
    x, y = abs(u), -v
    for sign in (1, -1):  # fold the four lower tips onto the upper one
        beyond = np.maximum(x * (sign * COS36) - y * SIN36, 0) * 2
        x, y = x - beyond * (sign * COS36), y + beyond * SIN36
    edge_x, edge_y = NOTCH * SIN36, NOTCH * COS36 - 1
    length = math.sqrt(edge_x * edge_x + edge_y * edge_y)
    return abs(x) * (-edge_y / length) + (y - radius) * (edge_x / length)


def cross(u, v, radius):
    along, across = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
    length = radius * ARM_LENGTH
    return np.maximum(along - length, across - length * ARM)


def ring(u, v, radius):
    middle, half = radius * (1 + HOLE) / 2, radius * (1 - HOLE) / 2
    return abs(np.sqrt(u * u + v * v) - middle) - half


OUTLINES = (circle, square, triangle, star, cross, ring)
FOLDS = (4, 4, 3, 5, 4, 4)  # keypoints on the outline
REACH = (1, 1, 1, 1, ARM_LENGTH, 1)  # how far out they lie, by the radius
NAMES = {  # clockwise from the top
    3: ("top", "lower right", "lower left"),
    4: ("top", "right", "bottom", "left"),
    5: ("top", "right", "lower right", "lower left", "left"),
}


def turn(steps, count=1024):
    """(cosine, sine) of `steps` parts of a turn in `count`; rounded to 16 bits, so that they are the same on every
    machine.
    """
    angle = 2 * math.pi * steps / count
    return round(math.cos(angle) * 65536) / 65536, round(math.sin(angle) * 65536) / 65536


def keypoints(label, x, y, radius, angle):
    """Where the keypoints of an object lie.

    Args:
        label: class, an index into `CLASSES`.
        x, y: the middle, pixels.
        radius: pixels.
        angle: clockwise, parts of a turn in 1024; circles and rings have none.

    Returns:
        (7, 3) float32: x, y, and 1 where the class has that keypoint; otherwise zeros.
    """
    points = np.zeros((len(KEYPOINTS), 3), np.float32)
    points[0] = x, y, 1
    folds, distance = FOLDS[label], radius * REACH[label]
    if CLASSES[label] in ("circle", "ring"):
        angle = 0
    whole = (
        1024 * folds
    )  # parts of a turn in which both the angle and the distance between two points are whole numbers
    first = (angle * folds) % 1024  # the point in the first sector, right of straight up
    first = first if 2 * first <= 1024 else first - 1024
    for number, name in enumerate(NAMES[folds]):
        cosine, sine = turn(first + number * 1024, whole)
        points[KEYPOINTS.index(name)] = x + distance * sine, y - distance * cosine, 1
    return points
