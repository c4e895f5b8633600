"""Scenes, drawn: six classes of shapes on textured ground, with exact ground truth and without a file.

    from utils.data import shapes
    scene = shapes.scene(7)                                   # image 7 of the train split
    scene = shapes.scene(7, "test", config="crowded", image_size=(120, 160))
    scene = shapes.scene(7, objects=(2, 2), visible=0.9)      # any field of a `Config` can be given

An outline is a signed distance field: at each pixel's centre the distance to the edge, negative inside. It is evaluated
at the image's own resolution, so that edges are exact at any size: a pixel belongs to an object if its centre lies
inside, and is mixed with what is behind by the share of it that lies inside. Objects are drawn one after another; a
later one covers the earlier.

Ground truth (corners of boxes and points in pixels, pixel i covers [i, i + 1)):

- `masks`: the visible part of each object. No pixel belongs to two objects, and every object keeps at least the share
  `visible` of its pixels, those outside the image counted as not visible.
- `boxes`: the tight box around that mask, so that its corners are whole numbers.
- `mask`: 0 for ground, c + 1 for class c.
- `keypoints`: the seven of `KEYPOINTS`. Every class has its centre and the points of its outline that stand out, each
  under one name: triangle: the corners "top", "lower right", "lower left"; star: the tips "top", "right", "left",
  "lower right", "lower left"; square: the corners "top", "right", "left", "bottom"; cross: the middles of the ends of
  its arms, the same names; circle and ring: the outermost points of the rim, the same names. "top" is the point nearest
  to straight up, the others follow clockwise. In a mirrored image "left" and "right" therefore change places, in the
  names and in nothing else. Visibility is 0 for a name that the class does not have, 1 if another object covers the
  point or it lies outside the image, otherwise 2. A ring's centre lies in its hole and is visible unless covered.
- `caption`: see `utils.data.shapes.captions`.

A scene depends on (config, seed, split, index, image size) and on nothing else: not on the machine, the number of
processes, or which other scenes are drawn. All chance comes from NumPy's PCG64 as raw integers; what is computed from
it uses only sums, products, quotients and roots of single numbers, which IEEE 754 fixes to the bit, sines that are
rounded to 16 bits, and sums of integers. The splits never share a scene: each has its own seed, and the pixel noise
alone makes equal pictures impossible in practice.
"""

from utils.data.shapes.captions import describe_objects, vocabulary
from utils.data.shapes.configs import CLASSES, COLOURS, CONFIGS, KEYPOINTS, SPLITS, VERSION, Config
from utils.data.shapes.scenes import Scene, scene, scenes

__all__ = [
    "CLASSES",
    "COLOURS",
    "CONFIGS",
    "KEYPOINTS",
    "SPLITS",
    "VERSION",
    "Config",
    "Scene",
    "describe_objects",
    "scene",
    "scenes",
    "vocabulary",
]
