"""Transfer learning: features of a pretrained network, linear classifiers on them, freezing, fine-tuning, learning
curves by data size.

The rule of Keras that decides most of it: `layer.trainable = False` takes a layer's weights out of training, and puts a
BatchNormalization into inference mode as well, so that it uses and keeps its running mean and variance even in `fit`. A
frozen part therefore computes the same in training and in use. What is frozen is read when the model is compiled:
compile again after every change.
"""

import contextlib
import hashlib
import os
import random
import time
import weakref
from pathlib import Path

import keras
import numpy as np
from keras import layers

from utils import models, training
from utils.training.resuming import model_digest

# Features

_FEATURES = weakref.WeakKeyDictionary()  # model -> {layer: model of the features}: a new one would be traced anew


def embed(model, images, layer=None, batch_size=128, cache=None):
    """The features of images, their codes: a layer's output, maps averaged over height and width.

    Such codes from a pretrained network serve new tasks (Donahue et al. 2014 and Razavian et al. 2014, who took the
    outputs of fully connected layers); global average pooling is that of Lin et al. (2014).

    Args:
        model: keras.Model on images; the batch norms use their running statistics.
        images: (N, H, W, C) as the model takes them.
        layer: name of the layer, "backbone/conv1" for one of a nested model; None: the model's output.
        batch_size: images at a time. The last batch is filled up, so that every batch has one shape and the network is
            traced once.
        cache: folder in which features are kept, by the content of images and weights; the second call reads them.
            None: nothing is kept.

    Returns:
        (N, D) float32.

    Raises:
        ValueError: there are no images; the model has no such layer, is not built, or has several inputs or outputs.
    """
    if len(images) == 0:
        raise ValueError("there are no images to embed")
    features = _features(model, layer)
    if cache is None:
        return _in_batches(features, images, batch_size)
    path = Path(cache).expanduser() / f"features-{_key(features, images)}.npy"
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError):  # not there, or damaged
        codes = _in_batches(features, images, batch_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(temporary, codes)
    os.replace(temporary, path)
    return codes


def predict(model, images, batch_size=128):
    """A model's outputs in batches of one shape: `model.predict` without the odd batch at the end, which would be
    traced anew.

    Args:
        model: keras.Model.
        images: (N, ...) of at least one.
        batch_size: images at a time.

    Returns:
        (N, ...) float32.

    Raises:
        ValueError: there are no images; the model is not built, or has several inputs or outputs.
    """
    models.check_single(model)
    if len(images) == 0:
        raise ValueError("there are no images to predict")
    return _in_batches(model, images, batch_size)


def _features(model, layer):
    kept = _FEATURES.setdefault(model, {})
    if layer not in kept:
        output = models.single_output(model) if layer is None else models.output_of(model, layer)
        kept[layer] = keras.Model(models.single_input(model), _pooled(output))
    return kept[layer]


def _pooled(output):
    # In float32 whatever the model computes in: in float16 the sum over a large map overflows.
    pool = layers.GlobalAveragePooling2D(dtype="float32", name="codes")
    return pool(output) if len(output.shape) == 4 else output


def _in_batches(model, images, batch_size):
    outputs = [model.predict_on_batch(batch)[:kept] for (batch,), kept in training.filled_batches([images], batch_size)]
    return np.concatenate(outputs).astype("float32")


def _key(features, images):
    total = hashlib.sha256(model_digest(features).encode())
    for array in (images, *(keras.ops.convert_to_numpy(variable) for variable in features.weights)):
        array = np.ascontiguousarray(array)
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(array.data)
    return total.hexdigest()[:20]


def hog(images, cell=None, orientations=9):
    """Histograms of oriented gradients, the best features made by hand (Dalal and Triggs 2005), by scikit-image.

    Args:
        images: (N, H, W, 1) or (N, H, W, 3), uint8 or float.
        cell: side of a cell in pixels; None: an eighth of the image's shorter side, at least 2. Blocks are 2 x 2 cells.
        orientations: bins from 0 to 180 degrees.

    Returns:
        (N, D) float32.
    """
    from skimage.feature import hog as one

    images = np.asarray(images)
    cell = cell or max(2, min(images.shape[1:3]) // 8)
    options = {"orientations": orientations, "pixels_per_cell": (cell, cell), "cells_per_block": (2, 2)}
    grey = images.shape[-1] == 1
    return np.stack(
        [one(image[..., 0] if grey else image, channel_axis=None if grey else -1, **options) for image in images]
    ).astype("float32")


def project(features, method="tsne", seed=0):
    """Features brought down to two dimensions, for `plots.embedding`.

    Args:
        features: (N, D).
        method: "pca", or "tsne" (van der Maaten and Hinton 2008), which keeps neighbours together and gives distances
            no meaning.
        seed: of t-SNE.

    Returns:
        (N, 2) float32.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method == "pca":
        return PCA(2).fit_transform(features).astype("float32")
    if method != "tsne":
        raise ValueError(f"method must be 'tsne' or 'pca', got {method!r}")
    codes = PCA(min(50, *np.shape(features)), random_state=seed).fit_transform(features)
    perplexity = min(30, (len(codes) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes).astype("float32")


def neighbours(features, queries, k=5):
    """The nearest neighbours of queries among features, by the angle between them.

    Args:
        features: (N, D) to search in.
        queries: (Q, D).
        k: neighbours of each query, at most N.

    Returns:
        indices (Q, k) int, nearest first, and cosine distances (Q, k) in [0, 2].
    """
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=k, metric="cosine").fit(features).kneighbors(queries)
    return indices, distances


def linear_probe(features, labels, kind="logistic", C=None):
    """A linear classifier on features, standardised with the mean and deviation of these features alone.

    Args:
        features: (N, D) of the training images.
        labels: (N,) int.
        kind: "logistic" (softmax regression) or "svm" (linear, one against one).
        C: inverse strength of the penalty; None: 1 for "logistic", .1 for "svm", which a hundred to a thousand
            standardised features suit.

    Returns:
        Fitted scikit-learn pipeline: `predict(features)`, `score(features, labels)`.

    Raises:
        ValueError: unknown kind.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    kinds = {
        "logistic": lambda: LogisticRegression(C=C or 1.0, max_iter=2000),
        "svm": lambda: SVC(kernel="linear", C=C or 0.1),
    }
    if kind not in kinds:
        raise ValueError(f"kind must be 'logistic' or 'svm', got {kind!r}")
    return make_pipeline(StandardScaler(), kinds[kind]()).fit(features, labels)


# Networks


def clone(model):
    """A copy of a model with weights of its own, equal to the model's: fine-tuning it leaves the model as it is.

    With the weights goes all that a layer keeps beside them, such as the mean and variance of an adapted
    `Normalization`.

    Raises:
        ValueError: the model is not built, or a layer cannot be copied; the message names it.
    """
    return models.clone(model)


def reinitialise(model, seed=0):
    """The same architecture with fresh random weights: for random features, and for training from scratch.

    Args:
        model: keras.Model.
        seed: of the weights; the global random state is left alone.

    Returns:
        keras.Model. What a preprocessing layer knows from `adapt` is kept.

    Raises:
        ValueError: the model is not built, or a layer cannot be copied; the message names it.
    """
    with _seeds_of_initialisers(seed):
        return models.remade(model)


@contextlib.contextmanager
def _seeds_of_initialisers(seed):
    """Keras's initialisers and dropout layers without a seed of their own draw it from Python's generator, which is put
    back after.
    """
    state = random.getstate()
    random.seed(f"new layers, {seed}")  # not what `session.start(seed)` begins with
    try:
        yield
    finally:
        random.setstate(state)


def classifier(backbone, classes, dropout=0.2, name="classifier"):
    """A copy of a backbone with global average pooling, dropout and a new dense layer "logits" on top.

    Args:
        backbone: keras.Model giving feature maps (B, h, w, D) or features (B, D). Its layers keep their names and lie
            flat in the result; its weights are copied, so training the classifier does not change it. Frozen layers
            stay frozen.
        classes: number of classes.
        dropout: rate before the dense layer.
        name: of the model.

    Returns:
        keras.Model giving logits (B, classes).

    Raises:
        ValueError: the backbone is not built, is a subclassed model, or has several inputs or outputs.
    """
    models.single_input(backbone)
    models.single_output(backbone)
    base = clone(backbone)
    x = layers.GlobalAveragePooling2D(name="codes")(base.output) if len(base.output.shape) == 4 else base.output
    x = layers.Dropout(dropout, name="codes_dropout")(x)
    return keras.Model(base.inputs[0], layers.Dense(classes, name="logits")(x), name=name)


def freeze(model, up_to=None, batch_norm=False):
    """Freeze a model's layers from the input up to a named one; those behind it become trainable.

    A frozen BatchNormalization is in inference mode: it uses its running statistics and does not change them. Compile
    the model afterwards.

    Args:
        model: keras.Model; nested models are looked into.
        up_to: name of the last frozen layer; None: all layers are frozen. "" freezes none.
        batch_norm: whether the batch norms behind it are frozen too, which is what to do with few images or small
            batches.

    Returns:
        The model.

    Raises:
        ValueError: the model has no such layer.
    """
    leaves = training.leaf_layers(model)
    names = [layer.name for layer in leaves]
    if up_to and up_to not in names:
        raise ValueError(f"the model has no layer {up_to!r}; it has: {', '.join(names)}")
    frozen = len(names) if up_to is None else names.index(up_to) + 1 if up_to else 0
    model.trainable = True  # also what an earlier call froze
    for index, layer in enumerate(leaves):
        layer.trainable = index >= frozen and not (batch_norm and isinstance(layer, layers.BatchNormalization))
    return model


def discriminative_rates(starts, factor=10):
    """Multipliers for `training.layerwise`: the last group's is 1, each earlier one's is smaller by `factor`.

    `discriminative_rates(["conv1", "conv5", "logits"])` is {"conv1": 1 / 100, "conv5": 1 / 10, "logits": 1}.

    Args:
        starts: names of the layers with which the groups begin, from input to output.
        factor: from group to group; 3 to 10 is usual.

    Returns:
        dict of layer name -> multiplier.
    """
    starts = list(starts)
    return {name: 1 / factor ** (len(starts) - 1 - index) for index, name in enumerate(starts)}


def copy_layers(source, target, n):
    """Copy the weights of the first n convolutions or dense layers, each with the batch norm behind it, into another
    network.

    For "how transferable are features by depth" (Yosinski et al. 2014): copy n layers, freeze them or not, train the
    rest.

    Args:
        source, target: keras.Models of the same architecture in those layers.
        n: how many; 0 copies nothing.

    Returns:
        Name of the last layer of that part in the target, for `freeze(target, up_to=...)`; "" for n = 0.

    Raises:
        ValueError: one of them has fewer such layers or is not built, or they differ.
    """
    models.check_built(source)
    models.check_built(target)
    pairs = list(zip(_first(source, n), _first(target, n)))
    for one, other in pairs:
        if [v.shape for v in one.weights] != [v.shape for v in other.weights]:
            raise ValueError(f"layer {one.name!r} of the source does not fit layer {other.name!r} of the target")
    for one, other in pairs:
        other.set_weights(one.get_weights())
    return pairs[-1][1].name if pairs else ""


def _first(model, n):
    """The layers up to the one before the (n + 1)-th with a kernel."""
    found, kept = 0, []
    for layer in training.leaf_layers(model):
        if hasattr(layer, "kernel") or hasattr(layer, "depthwise_kernel"):
            found += 1
            if found > n:
                break
        kept.append(layer)
    if found < n:
        raise ValueError(f"{n} layers asked for, but the model has {found} with kernels")
    return kept if n else []


def recalibrate_batch_norm(model, images, batch_size=128):
    """Set the running mean and variance of the trainable batch norms to those of these images.

    After a short training, or with few images, running averages are still on their way from 0 and 1, and a network that
    fits its training images predicts at chance. One pass over the training images puts that right: the average over the
    batches replaces the running one.

    Args:
        model: keras.Model, trained.
        images: (N, H, W, C), the training images, as the model takes them.
        batch_size: images at a time, at most; batches of (nearly) equal size.

    Returns:
        The model.

    Raises:
        ValueError: there are no images; the model is not built or has several inputs.
    """
    models.check_single(model, outputs=False)
    if len(images) == 0:
        raise ValueError("there are no images to take statistics of")
    norms = [layer for layer in training.leaf_layers(model) if isinstance(layer, layers.BatchNormalization)]
    norms = [layer for layer in norms if layer.trainable]
    momenta = [layer.momentum for layer in norms]
    try:
        for number, batch in enumerate(np.array_split(images, -(-len(images) // batch_size))):
            for layer in norms:
                layer.momentum = number / (number + 1)  # a plain average of all batches so far
            model(batch, training=True)
    finally:
        for layer, momentum in zip(norms, momenta):
            layer.momentum = momentum
    return model


# Few images


def draw(labels, per_class, seed=0):
    """Which images to take for a small training set: the same number of each class.

    Args:
        labels: (N,) int.
        per_class: images of each class, at most: a class that has fewer gives all of them.
        seed: of the choice. For one seed, the choice for a larger number contains that for a smaller one.

    Returns:
        (at most classes * per_class,) indices, class after class.
    """
    labels = np.asarray(labels)
    chosen = []
    for label in np.unique(labels):
        own = np.random.default_rng([seed, int(label)]).permutation(np.flatnonzero(labels == label))
        chosen.append(own[:per_class])
    return np.concatenate(chosen)


def repeat(images, labels, steps, batch_size=32, seed=0, augment=None):
    """A small training set written out as so many batches: pass after pass, each in a new order.

    One `model.fit(x, y, batch_size=batch_size, shuffle=False)` on them is `steps` steps of one shape, whatever the
    number of images; an epoch of ten images would be one odd batch.

    Args:
        images: (N, H, W, C).
        labels: (N,).
        steps: number of batches.
        batch_size: images in each.
        seed: of the order and of the augmentation.
        augment: function (images, numpy Generator) -> images, applied to all of them; None: none.

    Returns:
        images (steps * batch_size, H, W, C) and labels (steps * batch_size,).
    """
    rng = np.random.default_rng([seed, len(images)])
    count = steps * batch_size
    order = np.concatenate([rng.permutation(len(images)) for _ in range(-(-count // len(images)))])[:count]
    x = images[order]
    return (x if augment is None else augment(x, rng)), labels[order]


def fine_tune(
    backbone,
    images,
    labels,
    steps=150,
    batch_size=32,
    learning_rate=1e-3,
    multipliers=None,
    up_to="",
    batch_norm=False,
    dropout=0.2,
    augment=None,
    seed=0,
    recalibrate=False,
):
    """Train a classifier on a copy of a backbone for a number of steps: AdamW, a tenth of warm-up, the last half
    falling to 0.

    The same function trains from scratch (`fine_tune(reinitialise(backbone), ...)`), the top alone (`up_to=None`), the
    upper layers (`up_to="conv4_relu"`), or everything with a rate for each group (`multipliers`).

    Args:
        backbone: keras.Model giving feature maps.
        images: (N, H, W, C).
        labels: (N,) int, 0 to classes - 1, every class at least once.
        steps: of training.
        batch_size: images a step, drawn again and again from all of them.
        learning_rate: at its peak.
        multipliers: dict of layer name -> factor, as for `training.layerwise`.
        up_to, batch_norm: what is frozen, as for `freeze`.
        dropout: before the dense layer.
        augment: function (images, numpy Generator) -> images.
        seed: of the order, and of the new layer's weights.
        recalibrate: whether the batch norms' statistics are taken anew from the images at the end.

    Returns:
        keras.Model giving logits (B, classes).
    """
    with _seeds_of_initialisers(seed):
        model = classifier(backbone, int(np.max(labels)) + 1, dropout)
    freeze(model, "codes_dropout" if up_to is None else up_to, batch_norm)
    rate = training.WarmupHoldDecay(learning_rate, steps, warmup=steps // 10, decay=0.5)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4)
    training.compile_classifier(model, training.layerwise(optimizer, model, multipliers) if multipliers else optimizer)
    x, y = repeat(images, labels, steps, batch_size, seed, augment)
    model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
    return recalibrate_batch_norm(model, images) if recalibrate else model


def learning_curve(methods, labels, test_labels, per_class=(1, 2, 5, 10, 20), seeds=(0, 1, 2)):
    """Accuracy by the number of training images, for several methods on the same small training sets.

    Args:
        methods: dict of name -> (inputs, test inputs, fit). The inputs are what the method learns from, images or
            features, (N, ...) and (M, ...); `fit(inputs, labels, seed)` gives something whose `predict(inputs)` gives
            labels (M,) or scores (M, classes).
        labels: (N,) int.
        test_labels: (M,) int.
        per_class: numbers of training images a class.
        seeds: of the choice of images (`draw`), and handed to `fit`.

    Returns:
        pandas.DataFrame with a row for each run: method, per_class, seed, accuracy, seconds (fit and predict, by the
        clock). For `plots.learning_curve`.
    """
    import pandas as pd

    labels, rows = np.asarray(labels), []
    for name, (inputs, test_inputs, fit) in methods.items():
        for count in per_class:
            for seed in seeds:
                chosen = draw(labels, count, seed)
                started = time.perf_counter()
                model = fit(inputs[chosen], labels[chosen], seed)
                if isinstance(model, keras.Model):
                    outputs = predict(model, test_inputs)
                else:
                    outputs = np.asarray(model.predict(test_inputs))
                seconds = time.perf_counter() - started
                predicted = outputs.argmax(axis=1) if outputs.ndim == 2 else outputs
                rows.append((name, count, seed, float(np.mean(predicted == test_labels)), seconds))
    return pd.DataFrame(rows, columns=["method", "per_class", "seed", "accuracy", "seconds"])
