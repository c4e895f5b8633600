"""Sanity checks for maps: does a map change when the net forgets what it learned?"""

import keras
import numpy as np
from scipy.stats import spearmanr

from utils import models
from utils.introspection import inside


def randomise(model, last=None, seed=0):
    """A copy of a model in which the kernels of its last layers are shuffled (Adebayo et al., "Sanity checks for
    saliency maps", 2018, who draw them anew; shuffled, they keep their mean and spread).

    A map that explains the net must change; a map that stays shows the image, not the reasons.

    Args:
        model: keras.Model that `models.clone` can copy.
        last: int, number of layers with kernels, counted from the output; None: all of them.
        seed: int.

    Returns:
        keras.Model with weights of its own.

    Raises:
        ValueError: the model has fewer such layers, is not built, or has a layer that cannot be copied.
    """
    copy = models.clone(model)
    kernels = [part for part in inside.leaves(copy).values() if isinstance(part, keras.Layer) and _kernels(part)]
    kernels = list({id(part): part for part in kernels}.values())
    if last is not None and not 0 <= last <= len(kernels):
        raise ValueError(f"{model.name} has {len(kernels)} layers with kernels, got last={last}")
    random = np.random.default_rng(seed)
    for part in kernels[::-1][:last]:
        for variable in _kernels(part):
            values = keras.ops.convert_to_numpy(variable)
            variable.assign(random.permutation(values.ravel()).reshape(values.shape))
    return copy


def rank_correlation(maps, others):
    """How alike maps are, whatever their scale: Spearman's rank correlation, map by map.

    Args:
        maps, others: (N, H, W) arrays.

    Returns:
        (N,) float64 in [-1, 1]: 1 for the same order of pixels, about 0 for unrelated maps; NaN where a map is
        constant.

    Raises:
        ValueError: the shapes differ.
    """
    maps, others = np.asarray(maps), np.asarray(others)
    if maps.shape != others.shape:
        raise ValueError(f"maps of shapes {maps.shape} and {others.shape} cannot be compared")
    pairs = zip(maps.reshape(len(maps), -1), others.reshape(len(others), -1))
    return np.array([np.nan if np.ptp(a) == 0 or np.ptp(b) == 0 else spearmanr(a, b).statistic for a, b in pairs])


def _kernels(part):
    return [variable for variable in part.weights if len(variable.shape) >= 2]
