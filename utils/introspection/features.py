"""What the units of a layer answer to: their activations, and the patches of images that excite a channel most."""

import math
import warnings
from dataclasses import dataclass

import keras
import numpy as np

from utils.arithmetic import receptive_fields
from utils.introspection import inside
from utils.introspection.gradient import Run, kept_for


def activations(model, images, layers=None, batch_size=32):
    """The outputs of layers.

    Args:
        model: keras.Model on images.
        images: (N, H, W, C).
        layers: names; a nested layer as "backbone/conv1", or "conv1" where no other is called so. One name, a list of
            them, or None: all layers (of a nested model, those inside it).
        batch_size: int, images at a time.

    Returns:
        dict of name -> (N, ...) array, in the order asked for; for one name, the array. Of a layer that is called
        several times, the last output.

    Raises:
        ValueError: there is no such layer, or no run passes through it.
    """
    if isinstance(layers, str):
        return activations(model, images, [layers], batch_size)[layers]
    images = inside.as_images(model, images)
    if layers is None:
        layers = list(inside.leaves(model))
    chosen = {name: inside.find(model, name)[1] for name in layers}
    run = kept_for(
        model, ("activations", tuple(chosen)), lambda: Run(lambda x: inside.recorded(model, x, chosen)[0], model)
    )
    found = run.outputs_of([images], batch_size)
    for name in layers:
        if name not in found:
            raise ValueError(f"layer {name!r} of {model.name} is not reached by a run of the model")
    return {name: found[name] for name in layers}


def map_of(model, images, layer, batch_size=32):
    """The output of one layer, an array (N, ...); ValueError where it gives several."""
    found = activations(model, images, layer, batch_size)
    if not isinstance(found, np.ndarray):
        count = len(keras.tree.flatten(found))
        raise ValueError(f"layer {layer!r} of {model.name} gives {count} outputs: name one of the layers inside it")
    return found


@dataclass(frozen=True)
class Patches:
    """The patches of images that excite a channel of a layer most, strongest first.

    `patches` (k, h, w, C), of the images' type: what the unit could see; 0 where that hangs over the edge. `values`
    (k,) its activations; `indices` (k,) of the images; `places` (k, 2) row and column of the unit; `boxes` (k, 4) xyxy
    pixels, not cut at the edge.
    """

    layer: str
    channel: int
    patches: np.ndarray
    values: np.ndarray
    indices: np.ndarray
    places: np.ndarray
    boxes: np.ndarray

    def crop(self, images):
        """The same boxes cut out of other images (k, H, W, C), one for each patch, such as the deconvnet's of
        `images[patches.indices]`.
        """
        if len(images) != len(self.boxes):
            raise ValueError(f"{len(self.boxes)} patches, but {len(images)} images to cut them out of")
        return np.stack([_crop(image, box) for image, box in zip(np.asarray(images), self.boxes)])


def top_patches(model, images, layer, channel, k=9, batch_size=32):
    """Where a channel of a layer is excited most: its k best images, each with the receptive field of its best unit
    (Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014, figure 2).

    Args:
        model: keras.Model on images, functional or Sequential (nested too), so that receptive fields can be counted.
        images: (N, H, W, C).
        layer: name.
        channel: int; or a list of them, which costs one run.
        k: int, patches; at most one of each image.
        batch_size: int, images at a time.

    Returns:
        Patches; for a list of channels, a list of them. A field as wide as the image gives the image's whole width.

    Raises:
        ValueError: no such layer or channel, or its receptive field is unknown.
    """
    pixels, images = np.asarray(images), inside.as_images(model, images)
    path, _ = inside.find(model, layer)
    size, jump, start = _field(model, path, images.shape[1:])
    outputs = map_of(model, images, layer, batch_size)
    maps = outputs.reshape(len(images), *(outputs.shape[1:3] if outputs.ndim == 4 else (1, 1)), outputs.shape[-1])
    found = []
    for one in np.atleast_1d(channel).tolist():
        if not 0 <= one < maps.shape[-1]:
            raise ValueError(f"layer {layer!r} has {maps.shape[-1]} channels, there is no channel {one}")
        strength = maps[..., one].reshape(len(maps), -1)
        best = strength.max(axis=1)
        indices = np.argsort(-best, kind="stable")[:k]
        units = strength[indices].argmax(axis=1)
        places = np.stack(np.divmod(units, maps.shape[2]), axis=-1)
        boxes = np.stack([_box(place, size, jump, start, images.shape[1:3]) for place in places])
        crops = np.stack([_crop(pixels[index], box) for index, box in zip(indices, boxes)])
        found.append(Patches(layer, one, crops, best[indices], indices, places, boxes))
    return found if np.ndim(channel) else found[0]


def _field(model, path, shape):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "receptive fields end at")
        table = receptive_fields(model, shape)
    rows = table[table["layer"] == path]
    if not len(rows):
        raise ValueError(f"the receptive field of layer {path!r} is not known")
    row = rows.iloc[-1]
    if row["size"] is None or (np.ndim(row["size"]) == 0 and math.isnan(row["size"])):
        raise ValueError(f"the receptive field of layer {path!r} is not known: {row['note']}")
    return tuple(np.broadcast_to(row[what], 2).tolist() for what in ("size", "jump", "start"))


def _box(place, size, jump, start, shape):
    ends = []
    for axis in range(2):
        if jump[axis] == 0 or size[axis] >= shape[axis]:
            ends.append((0, shape[axis]))
        else:
            first = math.floor(start[axis] + place[axis] * jump[axis] - size[axis] / 2 + 1e-6)
            ends.append((first, first + int(size[axis])))
    (top, bottom), (left, right) = ends
    return np.array([left, top, right, bottom])


def _crop(image, box):
    left, top, right, bottom = box
    height, width = image.shape[:2]
    crop = np.zeros((bottom - top, right - left, image.shape[2]), image.dtype)
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[rows, columns]
    return crop
