"""Drawing a scene: where objects stand, what is seen of them, how they look."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from utils.data.shapes import captions, configs, outlines, painting
from utils.data.shapes.chance import Chance

ATTEMPTS = 40  # to find room for an object
SMALLEST = 24  # pixels of an image's shorter side


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and everything that is true of it. N objects, in the order in which they were drawn: each covers those
    before it.

    Attributes:
        image: (H, W, 3) uint8.
        boxes: (N, 4) float32, `xyxy` pixels, tight around the visible parts.
        labels: (N,) int32, indices into `CLASSES`.
        masks: (N, H, W) uint8, 1 where the object is visible.
        mask: (H, W) uint8, 0 for ground, c + 1 for class c.
        keypoints: (N, 7, 3) float32: x, y, visibility 0 absent, 1 hidden, 2 visible.
        caption: str.
        colours: N names of `COLOURS`.
        shares: (N,) float32, the visible part of each object.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray
    caption: str
    colours: tuple[str, ...]
    shares: np.ndarray


@dataclass
class Body:
    """An object that has found its place: pixels, in the window [top, bottom) x [left, right) of the image."""

    label: int
    x: float
    y: float
    radius: float
    angle: int  # clockwise, parts of a turn in 1024
    window: tuple[slice, slice]
    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray
    pixels: int  # of the whole object, inside the image or not
    seen: int  # of its pixels


def scene(index, split="train", seed=0, config="default", image_size=None, **options):
    """Draws scene `index` of a split.

    Args:
        index: int from 0; past the split's end follow further scenes of the same kind.
        split: "train", "validation" or "test".
        seed: int from 0; another seed gives another data set.
        config: a key of `CONFIGS`, or a `Config`.
        image_size: int or (height, width), pixels, at least 24; None for the configuration's own. Objects scale with
            the shorter side.
        options: fields of `Config` to change, such as `objects=(2, 2)` or `visible=0.9`.

    Returns:
        `Scene`.

    Raises:
        ValueError: an unknown split, configuration or option, a value out of its range.
    """
    config = find(config, options)
    height, width = (config.size, config.size) if image_size is None else sides(image_size)
    if split not in configs.SPLITS:
        raise ValueError(f"unknown split {split!r}: known: {', '.join(configs.SPLITS)}")
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must be at least 0, got {index} and {seed}")
    chance = Chance(config.name, int(seed), configs.SPLITS.index(split), int(index))
    bodies, instances = place(chance, config, height, width, int(index))
    image, colours = picture(chance, config, split, bodies, height, width)

    masks = (instances == np.arange(1, len(bodies) + 1, dtype=np.uint8)[:, None, None]).view(np.uint8)
    labels = np.array([body.label for body in bodies], np.int32)
    boxes = np.array([tight_box(mask) for mask in masks], np.float32)
    seen = np.array([body.seen for body in bodies])
    return Scene(
        image=image,
        boxes=boxes,
        labels=labels,
        masks=masks,
        mask=np.concatenate([[0], labels + 1]).astype(np.uint8)[instances],
        keypoints=np.stack([keypoints(body, number, instances) for number, body in enumerate(bodies, 1)]),
        caption=captions.describe_objects(labels, colours, boxes, seen),
        colours=colours,
        shares=(seen / [body.pixels for body in bodies]).astype(np.float32),
    )


def scenes(indices, split="train", seed=0, config="default", image_size=None, **options):
    """Draws several scenes: a list of what `scene` gives for each of `indices`, an int n standing for the first n."""
    indices = range(indices) if isinstance(indices, (int, np.integer)) else indices
    config = find(config, options)
    return [scene(int(index), split, seed, config, image_size) for index in indices]


def find(config, options):
    """The `Config` of that name, with `options` in place of its own fields."""
    if not isinstance(config, configs.Config):
        if config not in configs.CONFIGS:
            raise ValueError(f"unknown configuration {config!r}: known: {', '.join(configs.CONFIGS)}")
        config = configs.CONFIGS[config]
    known = [field.name for field in dataclasses.fields(config) if field.name != "name"]
    for option in options:
        if option not in known:
            raise ValueError(f"unknown option {option!r}: known: {', '.join(known)}")
    return dataclasses.replace(config, **options) if options else config


def sides(image_size):
    """`image_size` as (height, width)."""
    size = tuple(image_size) if np.ndim(image_size) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side >= SMALLEST for side in size):
        raise ValueError(f"image_size must be pixels or (height, width), at least {SMALLEST}, got {image_size!r}")
    return int(size[0]), int(size[1])


def place(chance, config, height, width, index):
    """Finds room for the objects: a list of `Body`, and (height, width) uint8, 0 for ground, n for object n from 1."""
    instances = np.zeros((height, width), np.uint8)
    bodies = []
    for number in range(chance.integer(*config.objects)):
        label = chance.below(len(configs.CLASSES))
        if config.balanced and number == 0:
            label = index % len(configs.CLASSES)
        for attempt in range(ATTEMPTS):
            body, inside = candidate(chance, config, height, width, label, attempt)
            covered = np.bincount(instances[body.window][inside], minlength=len(bodies) + 1)[1:]
            if body.seen >= max(config.visible * body.pixels, 4) and all(
                other.seen - lost >= max(config.visible * other.pixels, 4) for other, lost in zip(bodies, covered)
            ):
                for other, lost in zip(bodies, covered):
                    other.seen -= int(lost)
                bodies.append(body)
                instances[body.window][inside] = len(bodies)
                break
    return bodies, instances


def candidate(chance, config, height, width, label, attempt):
    """An object at a random place: a `Body`, and (h, w) bool: which pixels of its window lie inside. Later attempts are
    smaller.
    """
    scale = min(height, width) / configs.REFERENCE
    low, high = config.radius
    radius = chance.between(low, high - (high - low) * attempt / ATTEMPTS) * scale
    margin = radius * (1 - config.outside) + (1 - config.outside) * scale
    x, y = chance.between(margin, width - margin), chance.between(margin, height - margin)
    angle = chance.below(1024)
    left, top, reach = int(x - radius) - 2, int(y - radius) - 2, int(2 * radius) + 5
    cosine, sine = outlines.turn(angle)
    dx = np.arange(left, left + reach, dtype=np.float32)[None, :] + np.float32(0.5 - x)
    dy = np.arange(top, top + reach, dtype=np.float32)[:, None] + np.float32(0.5 - y)
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
    distance = outlines.OUTLINES[label](u, v, radius)
    pixels = int(np.count_nonzero(distance <= 0))
    rows, columns = slice(max(top, 0), min(top + reach, height)), slice(max(left, 0), min(left + reach, width))
    crop = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    u, v, distance = u[crop], v[crop], distance[crop]
    inside = distance <= 0
    body = Body(label, x, y, radius, angle, (rows, columns), u, v, distance, pixels, int(np.count_nonzero(inside)))
    return body, inside


def picture(chance, config, split, bodies, height, width):
    """The picture of objects in their places: (height, width, 3) uint8, and the names of their colours."""
    style = configs.STYLES[config.style]
    base = None
    if config.ground == "biased":
        base = configs.GROUNDS[chance.below(len(configs.GROUNDS)) if split == "test" else bodies[0].label]
    canvas = np.clip(painting.GROUNDS[style.ground](chance, height, width, base), 0, 255)
    brightness = painting.luma(canvas)
    scale = min(height, width) / configs.REFERENCE
    used = []
    for body in bodies:
        used.append(painting.pick_colour(chance, style, brightness[body.window], used))
        painting.paint(canvas[body.window], chance, style, used[-1], body.distance, body.u, body.v, body.radius, scale)
    canvas += painting.noise(chance, height, width, chance.integer(6, 34))
    return np.clip(canvas, 0, 255).astype(np.uint8), tuple(configs.COLOURS[index] for index in used)


def tight_box(mask):
    """`xyxy` of the pixels of an (H, W) mask that are not 0."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def keypoints(body, number, instances):
    """The keypoints of object `number` with their visibility: (7, 3) float32."""
    points = outlines.keypoints(body.label, body.x, body.y, body.radius, body.angle)
    height, width = instances.shape
    for row in np.flatnonzero(points[:, 2]):
        x, y = points[row, 0], points[row, 1]
        free = 0 <= x < width and 0 <= y < height and instances[int(y), int(x)] <= number
        points[row, 2] = 2 if free else 1
    return points
