"""Grad-CAM: where in a layer's maps the evidence for a class lies."""

import numpy as np
from keras import ops

from utils.introspection import inside
from utils.introspection.features import activations, map_of
from utils.introspection.gradient import Nudge, kept_for


def grad_cam(model, images, class_index=None, layer=None, upsample=True, batch_size=32):
    """Gradient-weighted class activation mapping (Selvaraju et al., "Grad-CAM", 2017): relu(sum_k a_k A_k), where a_k
    is the mean over the places of the gradient of the class's logit with respect to map A_k.

    Args:
        model: keras.Model on images that gives (B, classes).
        images: (N, H, W, C).
        class_index: int, or N of them; None: the winner of each image.
        layer: name of a layer with maps (B, h, w, K), nested ones too; None: the last one with maps of more than one
            place.
        upsample: whether the map is brought to the image's size, bilinearly.
        batch_size: int, images at a time.

    Returns:
        (N, H, W) float32 of at least 0, or (N, h, w); not scaled.

    Raises:
        ValueError: no such class or layer, or one without maps; the model's logits are not to be found.
    """
    images = inside.as_images(model, images)
    found = inside.predict(model, images, batch_size)
    found.logits_needed(model)
    scores = found.scores
    path, part = inside.find(model, layer) if layer is not None else _last_maps(model, images)
    maps = map_of(model, images, path, batch_size)
    if maps.ndim != 4:
        raise ValueError(f"layer {path!r} has no maps: it gives {maps.shape[1:]} for an image")
    weights = inside.one_hot(inside.which_class(class_index, scores), scores.shape[-1])

    def function(x, weights, nudge):
        def nudged(original, *args, **kwargs):
            output = original(*args, **kwargs)
            return output + ops.cast(nudge, output.dtype)

        with inside.replaced([(part, nudged)]):
            return ops.sum(inside.class_scores(model, x) * weights, axis=-1)

    shape = (min(batch_size, len(images)), *maps.shape[1:])
    gradient = kept_for(model, ("grad_cam", path, shape, images.shape[1:]), lambda: Nudge(function, shape, model))
    importance = gradient.gradients([images, weights]).mean(axis=(1, 2), keepdims=True)
    found = np.maximum((importance * maps).sum(axis=-1), 0)
    return resized(found, images.shape[1:3]) if upsample else found


def resized(maps, shape):
    """Maps (N, h, w) at another size, bilinearly; (N, H, W) float32."""
    return ops.convert_to_numpy(ops.image.resize(maps[..., None], shape, interpolation="bilinear"))[..., 0]


def _last_maps(model, images):
    found = activations(model, images[:1])
    paths = [path for path, output in found.items() if getattr(output, "ndim", 0) == 4 and min(output.shape[1:3]) > 1]
    if not paths:
        raise ValueError(f"{model.name} has no layer with maps of more than one place")
    return inside.find(model, paths[-1])
