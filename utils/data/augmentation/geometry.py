"""Flips, affine maps, elastic deformation and crops: the image and what belongs to it move together.

Coordinates are those of corners: pixel i covers [i, i + 1), so that its centre is at i + 1/2. A map is a (B, 6) tensor
(a, b, c, d, e, f): x' = a x + b y + c, y' = d x + e y + f, from where something was to where it goes; images are drawn
by its inverse.
"""

import math

import keras

from utils.data.augmentation.base import PACKAGE, Augmentation, between, spread
from utils.data.geometry import GREY
from utils.labels import IGNORED

EDGES = ("grey", "reflect")
MOVING = ("boxes", "masks", "keypoints")


@keras.saving.register_keras_serializable(PACKAGE)
class Flip(Augmentation):
    """Mirrors, without interpolation.

    Args:
        horizontal: share of the images of which left and right change places.
        vertical: share of the images of which top and bottom change places.
        keypoint_pairs: pairs of indices of keypoints that change their names in a mirror, such as a left and a right
            eye.
        seed: as for `Augmentation`.
    """

    def __init__(self, horizontal=0.5, vertical=0.0, keypoint_pairs=(), seed=None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.horizontal = between(horizontal, 0, 1, "horizontal")
        self.vertical = between(vertical, 0, 1, "vertical")
        self.keypoint_pairs = tuple((int(a), int(b)) for a, b in keypoint_pairs)

    def augment(self, batch, t, random):
        count = t.shape(batch["image"])[0]
        for share, axis in ((self.horizontal, 2), (self.vertical, 1)):
            if share:
                batch = self._flip(batch, axis, random.uniform((count,)) < share * self.probability, t)
        return batch

    def _flip(self, batch, axis, chosen, t):
        side = t.cast(t.shape(batch["image"])[axis], "float32")
        result = dict(batch)
        for key, place in (("image", axis), ("mask", axis), ("masks", axis + 1)):
            if key in batch:
                result[key] = t.where(spread(chosen, batch[key]), t.flip(batch[key], axis=place), batch[key])
        if "boxes" in batch:
            x1, y1, x2, y2 = (batch["boxes"][..., k] for k in range(4))
            flipped = (side - x2, y1, side - x1, y2) if axis == 2 else (x1, side - y2, x2, side - y1)
            flipped = t.where(batch["labels"][..., None] >= 0, t.stack(flipped, axis=-1), batch["boxes"])
            result["boxes"] = t.where(spread(chosen, flipped), flipped, batch["boxes"])
        if "keypoints" in batch:
            x, y, seen = (batch["keypoints"][..., k] for k in range(3))
            x, y = (t.where(seen > 0, side - x, x), y) if axis == 2 else (x, t.where(seen > 0, side - y, y))
            flipped = t.stack([x, y, seen], axis=-1)
            if self.keypoint_pairs:
                order = list(range(flipped.shape[2]))
                for a, b in self.keypoint_pairs:
                    order[a], order[b] = b, a
                flipped = t.take(flipped, order, axis=2)
            result["keypoints"] = t.where(spread(chosen, flipped), flipped, batch["keypoints"])
        return result

    def get_config(self):
        return super().get_config() | {
            "horizontal": self.horizontal,
            "vertical": self.vertical,
            "keypoint_pairs": self.keypoint_pairs,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class Affine(Augmentation):
    """Turns, scales, shears and shifts about the centre, in one interpolation.

    With `masks`, boxes are drawn anew around what is seen of each mask; without, around the moved corners of the old
    box, which is more than the object needs when it turns. An object of which less than `min_visible` stays in the
    image becomes padding, in its place: label -1, everything else zero. A keypoint that leaves the image becomes
    absent.

    Args:
        rotation: degrees, at most, to either side.
        scale: at most; images grow or shrink by up to 1 + scale. Or a pair (low, high) of factors.
        translation: at most, as a share of the image's sides.
        shear: degrees, at most, to either side.
        edges: "grey" puts 114 around the image, and 255 around `mask`; "reflect" mirrors both, which objects do not
            allow.
        min_visible: share.
        probability, seed: as for `Augmentation`.
    """

    def __init__(
        self,
        rotation=0.0,
        scale=0.0,
        translation=0.0,
        shear=0.0,
        edges="grey",
        min_visible=0.1,
        probability=1.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(probability=probability, seed=seed, **kwargs)
        self.rotation = between(rotation, 0, 180, "rotation")
        self.translation = between(translation, 0, 1, "translation")
        self.shear = between(shear, 0, 80, "shear")
        pair = scale if isinstance(scale, (tuple, list)) else (1 / (1 + between(scale, 0, 10, "scale")), 1 + scale)
        if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
            raise ValueError(f"scale must be a number or (low, high) with 0 < low <= high, got {scale!r}")
        self.scale = (float(pair[0]), float(pair[1]))
        if edges not in EDGES:
            raise ValueError(f"edges must be {' or '.join(map(repr, EDGES))}, got {edges!r}")
        self.edges = edges
        self.min_visible = between(min_visible, 0, 1, "min_visible")

    def augment(self, batch, t, random):
        if self.edges == "reflect" and set(MOVING) & set(batch):
            raise ValueError(
                "edges='reflect' shows objects twice, which boxes, masks and keypoints cannot follow: use 'grey'"
            )
        count, height, width = t.shape(batch["image"])[:3]
        height, width = t.cast(height, "float32"), t.cast(width, "float32")
        chosen = t.cast(self.chosen(batch, t, random), "float32")

        def draw(most):
            return chosen * random.uniform((count,), -most, most)

        angle, shear = draw(math.radians(self.rotation)), t.tan(draw(math.radians(self.shear)))
        shift_x, shift_y = draw(self.translation) * width, draw(self.translation) * height
        low, high = (math.log(factor) for factor in self.scale)
        scale = t.exp(chosen * random.uniform((count,), low, high))
        cos, sin = t.cos(angle), t.sin(angle)
        # rotation times shear along x times scale, about the centre of the image
        a, b, d, e = scale * cos, scale * (shear * cos - sin), scale * sin, scale * (shear * sin + cos)
        x, y = width / 2, height / 2
        forward = t.stack([a, b, x - a * x - b * y + shift_x, d, e, y - d * x - e * y + shift_y], axis=1)
        return move(t, batch, forward, batch["image"].shape[1:3], self.edges, self.min_visible)

    def get_config(self):
        return super().get_config() | {
            "rotation": self.rotation,
            "scale": self.scale,
            "translation": self.translation,
            "shear": self.shear,
            "edges": self.edges,
            "min_visible": self.min_visible,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class Elastic(Augmentation):
    """Bends an image and its mask by one smooth random field: the elastic deformation by which U-Net learns from thirty
    images (Ronneberger, Fischer and Brox 2015, section 3.1; after Simard, Steinkraus and Platt 2003).

    Each node of a coarse grid over the image, whose outer nodes lie on its edges, is moved by a Gaussian random vector.
    Between the nodes the displacement is interpolated by bicubic convolution (Keys 1981, a = -1/2), beyond the edges
    the outer nodes repeat. Pixel (x, y) of the result is what lay at (x, y) plus the displacement there; the image is
    read bilinearly, the mask at the nearest pixel, both by the same field.

    Args:
        deviation: standard deviation of the nodes' displacements in pixels, along each axis; 10 in the paper, on images
            of 512.
        nodes: nodes along each side, 2 or more; 3 in the paper.
        edges: "grey" puts 114 around the image, and 255 around `mask`; "reflect" mirrors both.
        probability, seed: as for `Augmentation`.

    Raises:
        ValueError: on a batch with boxes, instance masks or keypoints, which would need the field's inverse.
    """

    def __init__(self, deviation=10.0, nodes=3, edges="reflect", probability=1.0, seed=None, **kwargs):
        super().__init__(probability=probability, seed=seed, **kwargs)
        self.deviation = between(deviation, 0, 1000, "deviation")
        if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 2:
            raise ValueError(f"nodes must be a whole number of at least 2, got {nodes!r}")
        if edges not in EDGES:
            raise ValueError(f"edges must be {' or '.join(map(repr, EDGES))}, got {edges!r}")
        self.nodes, self.edges = nodes, edges

    def augment(self, batch, t, random):
        if set(MOVING) & set(batch):
            raise ValueError("Elastic bends images and masks; boxes, instance masks and keypoints cannot follow it")
        count, height, width = t.shape(batch["image"])[:3]
        vectors = self.deviation * random.normal((count, self.nodes, self.nodes, 2))  # x, y
        vectors = vectors * spread(t.cast(self.chosen(batch, t, random), "float32"), vectors)
        shift = smooth_field(t, vectors, (height, width))
        x, y = centres(t, (height, width))
        x, y = x + shift[..., 0], y + shift[..., 1]
        result = dict(batch, image=sample(t, batch["image"], x, y, GREY, self.edges, "bilinear"))
        if "mask" in batch:
            mask = sample(t, batch["mask"][..., None], x, y, IGNORED, self.edges, "nearest")
            result["mask"] = mask[..., 0]
        return result

    def get_config(self):
        return super().get_config() | {"deviation": self.deviation, "nodes": self.nodes, "edges": self.edges}


@keras.saving.register_keras_serializable(PACKAGE)
class Crop(Augmentation):
    """Cuts a piece out at random; out of the middle when it is not training. Smaller images come to stand in the middle
    of grey.

    Args:
        size: int or (height, width) of the piece.
        min_visible: as for `Affine`.
        seed: as for `Augmentation`.
    """

    def __init__(self, size, min_visible=0.1, seed=None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.size = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        if len(self.size) != 2 or not all(isinstance(side, int) and side > 0 for side in self.size):
            raise ValueError(f"size must be a number of pixels or (height, width), got {size!r}")
        self.min_visible = between(min_visible, 0, 1, "min_visible")

    def augment(self, batch, t, random):
        count = t.shape(batch["image"])[0]
        return self._cut(batch, t, random.uniform((count,)), random.uniform((count,)))

    def rest(self, batch, t):
        middle = t.zeros((t.shape(batch["image"])[0],)) + 0.5
        return self._cut(batch, t, middle, middle)

    def _cut(self, batch, t, down, right):
        starts = []
        for share, old, new in zip((down, right), t.shape(batch["image"])[1:3], self.size, strict=True):
            room = t.cast(old - new, "float32")
            inside = t.minimum(t.floor(share * (room + 1)), room)
            starts.append(t.where(room + 0 * share >= 0, inside, t.floor(room / 2) + 0 * share))
        top, left = starts
        one, zero = t.ones_like(top), t.zeros_like(top)
        forward = t.stack([one, zero, -left, zero, one, -top], axis=1)
        return move(t, batch, forward, self.size, "grey", self.min_visible)

    def output_shape_of(self, key, shape):
        height, width = self.size
        if key == "image":
            return (*shape[:-3], height, width, shape[-1])
        return (*shape[:-2], height, width) if key in ("mask", "masks") else tuple(shape)

    def get_config(self):
        config = super().get_config() | {"size": self.size, "min_visible": self.min_visible}
        config.pop("probability")
        return config


def move(t, batch, forward, size, edges="grey", min_visible=0.1):
    """A batch under affine maps.

    Args:
        t: `keras.ops` or `TensorFlowOps`.
        batch: dict of batched tensors, the image float32.
        forward: (B, 6) maps.
        size: (height, width) of what comes out.
        edges: "grey" or "reflect".
        min_visible: share of an object that must stay.

    Returns:
        dict with the same keys.
    """
    back = inverse(t, forward)
    result = dict(batch, image=pull(t, batch["image"], back, size, GREY, edges, "bilinear"))
    if "mask" in batch:
        result["mask"] = pull(t, batch["mask"][..., None], back, size, IGNORED, edges, "nearest")[..., 0]
    if "boxes" in batch:
        result |= move_objects(t, batch, forward, back, size, min_visible)
    return result


def move_objects(t, batch, forward, back, size, min_visible, window=None):
    """What belongs to the objects of a batch, under affine maps.

    Args:
        window: None, or (left, top, right, bottom), each (B,): the part of the image in which the objects are to be
            seen.
        t, batch, forward, back, size, min_visible: as for `move`; `back` is the inverse of `forward`.

    Returns:
        dict of boxes, labels, ignored, masks, keypoints, as far as the batch has them.
    """
    height, width = (t.cast(side, "float32") for side in size)
    count = t.shape(forward)[0]
    zero = t.zeros((count,))
    window = (zero, zero, zero + width, zero + height) if window is None else window
    low, high = t.stack([window[0], window[1]], -1)[:, None], t.stack([window[2], window[3]], -1)[:, None]

    x1, y1, x2, y2 = (batch["boxes"][..., k] for k in range(4))
    corners = t.stack([transform(t, forward, x, y) for x, y in ((x1, y1), (x2, y1), (x1, y2), (x2, y2))])
    first, last = t.min(corners, axis=0), t.max(corners, axis=0)  # (B, N, 2)
    cut_first, cut_last = (t.minimum(t.maximum(place, low), high) for place in (first, last))
    whole, left = area(first, last), area(cut_first, cut_last)
    boxes = t.concatenate([cut_first, cut_last], axis=-1)
    alive = (left > 0) & (left >= min_visible * whole)

    moved = {}
    if "masks" in batch:
        masks = t.transpose(
            pull(t, t.transpose(batch["masks"], (0, 2, 3, 1)), back, size, 0, "grey", "nearest"), (0, 3, 1, 2)
        )
        masks = masks * t.cast(inside(t, window, size)[:, None], masks.dtype)
        before, after = (t.sum(t.cast(m, "float32"), axis=(2, 3)) for m in (batch["masks"], masks))
        growth = t.abs(forward[:, 0] * forward[:, 4] - forward[:, 1] * forward[:, 3])[:, None]
        drawn = before > 0  # an object without a mask keeps to its box
        boxes = t.where(drawn[..., None], tight(t, masks), boxes)
        alive = t.where(drawn, (after > 0) & (after >= min_visible * before * growth), alive)
        moved["masks"] = masks
    alive = alive & (batch["labels"] >= 0)
    moved["boxes"] = t.where(alive[..., None], boxes, t.zeros_like(boxes))
    moved["labels"] = t.where(alive, batch["labels"], -t.ones_like(batch["labels"]))
    if "ignored" in batch:
        moved["ignored"] = alive & batch["ignored"]
    if "masks" in moved:
        moved["masks"] = moved["masks"] * t.cast(alive[..., None, None], moved["masks"].dtype)
    if "keypoints" in batch:
        x, y, seen = (batch["keypoints"][..., k] for k in range(3))
        places = transform(t, forward[:, :, None], x, y)
        within = (places >= low[:, None]) & (places <= high[:, None])
        kept = within[..., 0] & within[..., 1] & (seen > 0) & alive[..., None]
        keypoints = t.concatenate([places, seen[..., None]], axis=-1)
        moved["keypoints"] = t.where(kept[..., None], keypoints, t.zeros_like(keypoints))
    return moved


def transform(t, maps, x, y):
    """Points under maps: x and y (B, N) or (B, N, K), maps (B, 6) or (B, 6, 1), to (B, N, 2) or (B, N, K, 2)."""
    a, b, c, d, e, f = (maps[:, k][:, None] for k in range(6))
    return t.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)


def inverse(t, maps):
    """The inverses of maps, (B, 6)."""
    a, b, c, d, e, f = (maps[:, k] for k in range(6))
    determinant = a * e - b * d
    a, b, d, e = e / determinant, -b / determinant, -d / determinant, a / determinant
    return t.stack([a, b, -(a * c + b * f), d, e, -(d * c + e * f)], axis=1)


def area(first, last):
    """Areas of boxes given by two corners (..., 2). `utils.boxes` knows the backend's tensors, and `t` may be
    TensorFlow's under any backend.
    """
    return (last[..., 0] - first[..., 0]) * (last[..., 1] - first[..., 1])


def tight(t, masks):
    """The boxes around masks: (B, N, H, W) to (B, N, 4) float32; an empty mask has a box of zeros."""
    filled = t.cast(masks, "bool")
    ends = []
    for axis in (2, 3):  # over rows: which columns are filled; over columns: which rows
        line = t.cast(t.any(filled, axis=axis), "float32")
        places = t.cast(t.arange(line.shape[-1]), "float32")
        last = t.max(line * (places + 1), axis=-1)
        first = line.shape[-1] - t.max(line * (line.shape[-1] - places), axis=-1)
        ends.append((t.where(last > 0, first, t.zeros_like(first)), last))
    (x1, x2), (y1, y2) = ends
    return t.stack([x1, y1, x2, y2], axis=-1)


def inside(t, window, size):
    """(B, H, W) bool: pixels whose centres lie in the window."""
    x, y = centres(t, size)
    left, top, right, bottom = (side[:, None, None] for side in window)
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)


def smooth_field(t, vectors, size):
    """Vectors at the nodes of a grid, interpolated at the centres of pixels.

    Args:
        vectors: (B, n, n, C) float, along y and x; the outer nodes lie on the edges of the image.
        size: (height, width).

    Returns:
        (B, height, width, C).
    """
    rows, columns = (_cubic_weights(t, side, vectors.shape[1]) for side in size)
    down = t.sum(rows[None, :, :, None, None] * vectors[:, None], axis=2)  # (B, height, n, C)
    return t.sum(columns[None, None, :, :, None] * down[:, :, None], axis=3)


def _cubic_weights(t, side, nodes):
    """(side, nodes): by how much each node counts at the centre of each pixel."""
    place = (t.cast(t.arange(side), "float32") + 0.5) * (nodes - 1) / t.cast(side, "float32")
    away = t.abs(place[:, None] - t.cast(t.arange(nodes + 2) - 1, "float32"))  # one node more on either side
    near = (1.5 * away - 2.5) * away * away + 1
    far = ((2.5 - 0.5 * away) * away - 4) * away + 2
    weights = t.where(away < 1, near, t.where(away < 2, far, t.zeros_like(away)))
    first, last = weights[:, :1] + weights[:, 1:2], weights[:, -2:-1] + weights[:, -1:]
    return t.concatenate([first, weights[:, 2:-2], last], axis=1)


def centres(t, size):
    """x (1, 1, W) and y (1, H, 1) of the centres of pixels."""
    x, y = (t.cast(t.arange(side), "float32") + 0.5 for side in (size[1], size[0]))
    return x[None, None, :], y[None, :, None]


def pull(t, image, back, size, fill, edges, interpolation):
    """Draws images under affine maps: each pixel takes what lies where it comes from.

    Keras has `keras.ops.image.affine_transform`. It gives an image of the size that went in, is several times slower on
    JAX (it takes each channel for a third dimension of space), and on PyTorch it writes into the map it is given.

    Args:
        image: (B, H, W, C) of any type.
        back: (B, 6) maps from what comes out to what went in.
        size: (height, width) of what comes out.
        fill, edges, interpolation: as for `sample`.

    Returns:
        (B, height, width, C) of the same type.
    """
    a, b, c, d, e, f = (back[:, k][:, None, None] for k in range(6))
    x, y = centres(t, size)
    return sample(t, image, a * x + b * y + c, d * x + e * y + f, fill, edges, interpolation)


def sample(t, image, x, y, fill, edges, interpolation):
    """Reads images at given places.

    Args:
        image: (B, H, W, C) of any type.
        x, y: (B, height, width) float, coordinates of corners: the centre of the first pixel is at 1/2.
        fill: value outside.
        edges: "grey" for `fill`, "reflect" for the mirrored image.
        interpolation: "bilinear" or "nearest".

    Returns:
        (B, height, width, C) of the same type.
    """
    count, height, width = t.shape(image)[:3]
    h, w = t.cast(height, "float32"), t.cast(width, "float32")
    if edges == "reflect":
        x, y = (v - t.floor(v / (2 * side)) * 2 * side for v, side in ((x, w), (y, h)))
        x, y = (t.minimum(t.maximum(side - t.abs(v - side), 0.5), side - 0.5) for v, side in ((x, w), (y, h)))
    number = t.arange(count)[:, None, None]
    if interpolation == "nearest":
        column, row = t.floor(x), t.floor(y)
        outside = (column < 0) | (column >= w) | (row < 0) | (row >= h)
        column, row = t.minimum(t.maximum(column, 0.0), w - 1), t.minimum(t.maximum(row, 0.0), h - 1)
        index = (number * height + t.cast(row, "int32")) * width + t.cast(column, "int32")
        values = t.take(t.reshape(image, (-1, image.shape[-1])), index, axis=0)
        border = t.cast(t.zeros_like(values), values.dtype) + t.cast(fill, values.dtype)
        return t.where(outside[..., None], border, values)
    # The four neighbours of each pixel lie side by side as channels, so that one look gives them all; around them a
    # frame of what is outside.
    framed = t.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    quads = t.concatenate([framed[:, :-1, :-1], framed[:, :-1, 1:], framed[:, 1:, :-1], framed[:, 1:, 1:]], axis=-1)
    x, y = t.minimum(t.maximum(x + 0.5, 0.0), w + 1), t.minimum(t.maximum(y + 0.5, 0.0), h + 1)
    column, row = t.minimum(t.floor(x), w), t.minimum(t.floor(y), h)
    right, down = (x - column)[..., None], (y - row)[..., None]
    index = (number * (height + 1) + t.cast(row, "int32")) * (width + 1) + t.cast(column, "int32")
    corners = t.take(t.reshape(quads, (-1, 4 * image.shape[-1])), index, axis=0)
    top_left, top_right, bottom_left, bottom_right = t.split(corners, 4, axis=-1)
    top = top_left + right * (top_right - top_left)
    bottom = bottom_left + right * (bottom_right - bottom_left)
    return top + down * (bottom - top)
