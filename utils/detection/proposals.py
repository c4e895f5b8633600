"""Region proposals: boxes that may hold an object, whatever it is. Sliding windows, and selective search.

All is NumPy and scikit-image: proposals of this kind are made once for each image, before any network.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage import color, segmentation

from utils import boxes as geometry

COLOUR_BINS, TEXTURE_BINS, ORIENTATIONS = 25, 10, 8
SIMILARITIES = ("colour", "texture", "size", "fill")
SPACES = {
    # Each with the range of its channels, so that histograms have the same borders in all images.
    "rgb": (lambda image: image, ((0, 1), (0, 1), (0, 1))),
    "hsv": (color.rgb2hsv, ((0, 1), (0, 1), (0, 1))),
    "lab": (color.rgb2lab, ((0, 100), (-100, 100), (-100, 100))),
}


def sliding_windows(height, width, sizes, ratios=(1,), stride=0.25):
    """All windows of some shapes, at steps over the image.

    Args:
        height, width: of the image, pixels.
        sizes: floats, pixels: the square root of a window's area.
        ratios: floats: height / width.
        stride: float, the step as a share of the window's shorter side, a whole pixel at least.

    Returns:
        (N, 4) float32 `xyxy` pixels, all inside the image; shape by shape, row by row. Shapes that do not fit give
        none.

    Raises:
        ValueError: a size, a ratio or the stride is not above 0.
    """
    if min(*sizes, *ratios, stride) <= 0:
        raise ValueError(f"sizes, ratios and stride must be above 0, got {sizes}, {ratios} and {stride}")
    windows = [np.zeros((0, 4))]
    for size in sizes:
        for ratio in ratios:
            h, w = size * np.sqrt(ratio), size / np.sqrt(ratio)
            step = max(1, round(stride * min(h, w)))
            # A hair more, so that a window as large as the image is not lost to rounding.
            y, x = (np.arange(0, whole - part + 1e-6, step) for whole, part in ((height, h), (width, w)))
            top, left = (values.ravel() for values in np.meshgrid(y, x, indexing="ij"))
            windows.append(np.stack([left, top, left + w, top + h], axis=-1))
    return np.concatenate(windows).astype(np.float32)


@dataclass(frozen=True)
class Hierarchy:
    """What selective search does to one image: first regions, and which were merged.

    Attributes:
        segments: (H, W) int, the first regions, 0 to count - 1.
        boxes: (2 count - 1, 4) float32 `xyxy` pixels, at most: of the first regions, then of the merged ones in the
            order in which they came about, the last around all that hangs together.
        merges: (count - 1, 2) int, at most: which two regions were merged; row i made region count + i.
    """

    segments: np.ndarray
    boxes: np.ndarray
    merges: np.ndarray

    def mask(self, region):
        """(H, W) bool: the pixels of a region, first or merged."""
        count = len(self.boxes) - len(self.merges)
        leaves, waiting = [], [region]
        while waiting:
            current = waiting.pop()
            if current < count:
                leaves.append(current)
            else:
                waiting.extend(self.merges[current - count].tolist())
        return np.isin(self.segments, leaves)


def merge_regions(image, segments, similarities=SIMILARITIES, space="hsv"):
    """Selective search's grouping (Uijlings, van de Sande, Gevers and Smeulders, IJCV 2013, section 3): the two
    neighbours that are most alike are merged, again and again, until the image is one region. Every region on the way
    is a proposal.

    Two regions are alike by the sum of four numbers, each from 0 to 1: the histograms of their colours overlap; those
    of their texture overlap (here derivatives of a Gaussian in eight directions); both are small, so that no region
    eats up the others one by one; and they fill the box around both, without gaps.

    Args:
        image: (H, W, 3), uint8, or float from 0 to 1.
        segments: (H, W) int, the first regions: `initial_segments` gives them.
        similarities: which of the four count.
        space: "rgb", "hsv" or "lab": the colours that are compared.

    Returns:
        Hierarchy.

    Raises:
        ValueError: an unknown similarity or space, or sizes that differ.
    """
    unknown = [name for name in similarities if name not in SIMILARITIES]
    if unknown or not similarities:
        raise ValueError(f"similarities must be some of {', '.join(SIMILARITIES)}, got {similarities}")
    if space not in SPACES:
        raise ValueError(f"unknown space {space!r} (known: {', '.join(SPACES)})")
    pixels = _pixels(image)
    if np.shape(segments) != pixels.shape[:2]:
        raise ValueError(f"an image of {pixels.shape[:2]}, but segments of {np.shape(segments)}")
    _, flat = np.unique(segments, return_inverse=True)
    segments = flat.reshape(pixels.shape[:2])
    count = int(segments.max()) + 1
    size = np.bincount(segments.ravel(), minlength=count).astype(float).tolist()
    places = ndimage.find_objects(segments + 1)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in places]
    colour = list(_colour_histograms(pixels, segments, count, space))
    texture = list(_texture_histograms(pixels, segments, count))
    neighbours = _neighbours(segments, count)
    area = segments.size

    def alike(a, b):
        total = 0.0
        if "colour" in similarities:
            total += np.minimum(colour[a], colour[b]).sum()
        if "texture" in similarities:
            total += np.minimum(texture[a], texture[b]).sum()
        if "size" in similarities:
            total += 1 - (size[a] + size[b]) / area
        if "fill" in similarities:
            left, top, right, bottom = _around(boxes[a], boxes[b])
            total += 1 - ((right - left) * (bottom - top) - size[a] - size[b]) / area
        return float(total)

    queue = [(-alike(a, b), a, b) for a in range(count) for b in neighbours[a] if a < b]
    heapq.heapify(queue)
    gone, merges = set(), []
    while queue:
        _, a, b = heapq.heappop(queue)
        if a in gone or b in gone:
            continue
        gone |= {a, b}
        new = len(boxes)
        merges.append((a, b))
        boxes.append(_around(boxes[a], boxes[b]))
        size.append(size[a] + size[b])
        for histograms in (colour, texture):
            histograms.append((size[a] * histograms[a] + size[b] * histograms[b]) / size[new])
        around = (neighbours[a] | neighbours[b]) - gone
        neighbours.append(around)
        for other in around:
            neighbours[other].add(new)
            heapq.heappush(queue, (-alike(other, new), other, new))
    return Hierarchy(segments, np.array(boxes, np.float32), np.array(merges, int).reshape(-1, 2))


def initial_segments(image, scale=100, sigma=0.8, min_size=20):
    """The first regions: Felzenszwalb and Huttenlocher's graph-based segmentation (IJCV 2004), by scikit-image.

    Args:
        image: (H, W, 3), uint8, or float from 0 to 1.
        scale: float; larger regions for larger ones.
        sigma: float, pixels, of the smoothing before.
        min_size: int, square pixels.

    Returns:
        (H, W) int, from 0.
    """
    return segmentation.felzenszwalb(_pixels(image), scale=scale, sigma=sigma, min_size=min_size)


def selective_search(image, scales=(50, 100), spaces=("hsv", "lab"), sigma=0.8, min_size=20, most=None, seed=0):
    """Selective search (Uijlings et al., IJCV 2013): regions merged from small to large, in several variants, and the
    boxes around all of them.

    The variants are those of the paper's "fast" mode: two colour spaces, two scales of the first regions, and all four
    similarities or all but colour. No class is asked for, and no window slides.

    Args:
        image: (H, W, 3), uint8, or float from 0 to 1.
        scales: floats, of the first regions.
        spaces: some of "rgb", "hsv", "lab".
        sigma, min_size: as for `initial_segments`.
        most: int, or None for all boxes.
        seed: int, of the order.

    Returns:
        (N, 4) float32 `xyxy` pixels, each once. As in the paper, those from the end of the merging come first, with
        chance mixed in: the rank in its variant times a random number from 0 to 1, the smallest of all variants.
    """
    random = np.random.default_rng(seed)
    ranks = {}
    for scale in scales:
        segments = initial_segments(image, scale, sigma, min_size)
        for space in spaces:
            for similarities in (SIMILARITIES, ("texture", "size", "fill")):
                boxes = merge_regions(image, segments, similarities, space).boxes
                for rank, box in enumerate(boxes[::-1].tolist(), 1):
                    value = rank * random.random()
                    ranks[tuple(box)] = min(value, ranks.get(tuple(box), np.inf))
    ordered = sorted(ranks, key=ranks.get)
    return np.array(ordered[:most], np.float32).reshape(-1, 4)


def recall_curve(proposals, targets, counts, iou=0.5):
    """Share of the objects that one of the first n proposals overlaps enough, for several n.

    Args:
        proposals: list of (N, 4) `xyxy` pixels, one a image, the best first.
        targets: dict of `boxes` (I, M, 4) and `labels` (I, M), -1 for padding, or a list of dicts, as for
            `evaluation.evaluate`; `ignored` objects do not count.
        counts: ints, the n.
        iou: float.

    Returns:
        (len(counts),) float; NaN if there are no objects.

    Raises:
        ValueError: numbers of images that differ.
    """
    if isinstance(targets, dict):
        targets = [{key: values[index] for key, values in targets.items()} for index in range(len(targets["labels"]))]
    if len(proposals) != len(targets):
        raise ValueError(f"proposals for {len(proposals)} images, but targets for {len(targets)}")
    needed = []  # for each object, how many proposals it takes
    for boxes, truth in zip(proposals, targets):
        counted = np.asarray(truth["labels"]) >= 0
        if "ignored" in truth:
            counted &= ~np.asarray(truth["ignored"], bool)
        hits = geometry.iou(np.asarray(truth["boxes"]).reshape(-1, 4)[counted], np.asarray(boxes).reshape(-1, 4)) >= iou
        first = hits.argmax(axis=-1) + 1 if hits.shape[1] else np.zeros(len(hits))
        needed.extend(np.where(hits.any(axis=-1), first, np.inf))
    return np.array([np.mean(np.array(needed) <= n) if needed else np.nan for n in counts])


# What selective search compares


def _pixels(image):
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"expected an image (H, W, 3), got {image.shape}")
    return image.astype(np.float64) / (255 if image.dtype == np.uint8 else 1)


def _histograms(values, segments, count, bins, low, high):
    """(count, bins): for each region the histogram of an (H, W) map."""
    index = np.clip(((values - low) / (high - low) * bins).astype(int), 0, bins - 1)
    return np.bincount((segments * bins + index).ravel(), minlength=count * bins).reshape(count, bins).astype(float)


def _normalised(histograms):
    joined = np.concatenate(histograms, axis=1)
    return joined / joined.sum(axis=1, keepdims=True)


def _colour_histograms(pixels, segments, count, space):
    convert, ranges = SPACES[space]
    channels = np.moveaxis(convert(pixels), -1, 0)
    return _normalised([_histograms(c, segments, count, COLOUR_BINS, *r) for c, r in zip(channels, ranges)])


def _texture_histograms(pixels, segments, count):
    histograms = []
    for channel in np.moveaxis(pixels, -1, 0):
        down, right = (ndimage.gaussian_filter(channel, 1, order=order) for order in ((1, 0), (0, 1)))
        for direction in range(ORIENTATIONS):
            angle = 2 * np.pi * direction / ORIENTATIONS
            slope = np.maximum(np.cos(angle) * right + np.sin(angle) * down, 0)
            # A step from 0 to 1 has a slope of .4 at its steepest.
            histograms.append(_histograms(slope, segments, count, TEXTURE_BINS, 0, 0.4))
    return _normalised(histograms)


def _neighbours(segments, count):
    """For each region, the set of those that touch it along an edge."""
    pairs = [
        np.stack([first[first != second], second[first != second]], axis=-1)
        for first, second in ((segments[1:], segments[:-1]), (segments[:, 1:], segments[:, :-1]))
    ]
    neighbours = [set() for _ in range(count)]
    for a, b in np.unique(np.concatenate(pairs), axis=0).tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    return neighbours


def _around(a, b):
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
