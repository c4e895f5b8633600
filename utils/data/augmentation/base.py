"""What all augmentations share: what goes in, what comes out, and composition."""

import keras

from utils.data.augmentation.backend import KerasRandom, TensorFlowOps, TensorFlowRandom, in_tf_data

# Axes of a batch, by key.
RANKS = {"image": 4, "label": None, "mask": 3, "boxes": 3, "labels": 2, "ignored": 2, "masks": 4, "keypoints": 4}
OBJECTS = ("boxes", "labels", "ignored", "masks", "keypoints")  # one entry for each object
PACKAGE = "course"


class Augmentation(keras.layers.Layer):
    """A layer that changes images at random, each in its own way, and moves with them what lies in them.

    Takes and returns the dicts of `utils.data.load`: `image` (B, H, W, C) uint8 or float in 0..255, with any of `mask`,
    `boxes` + `labels`, `ignored`, `masks`, `keypoints`, `label`; or a batch of images alone; or a single example or
    image, without the axis B. Types stay: what comes in as uint8 goes out as uint8. What else a dict holds (a caption)
    passes through. As with Keras's own layers `training` is True unless something says otherwise, and `predict` and
    `evaluate` do: then what comes in goes out.

    In a model it runs on every backend. In `tf.data` too, by `dataset.map(layer)`, or better by `augmented(dataset,
    layer, seed)`, which is parallel and gives the same batches in every run, on every backend.

    Args:
        probability: share of the images that are changed.
        seed: int, or None for another one in each process.

    Raises:
        ValueError: on a dict without an image, or a tensor of another rank than its key has.
    """

    def __init__(self, probability=1.0, seed=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.probability = between(probability, 0, 1, "probability")
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)
        self._state = None

    def __call__(self, batch, **kwargs):
        known, carried = separate(batch)
        self.refuse(carried)
        if in_tf_data(next(iter(known.values()))) and keras.backend.backend() != "tensorflow":
            result = self.run(known, kwargs.get("training", True), TensorFlowOps(), TensorFlowRandom(self._next_seed()))
        else:
            result = super().__call__(known if isinstance(batch, dict) else batch, **kwargs)
            result = result if isinstance(batch, dict) else {"image": result}
        return result | carried if isinstance(batch, dict) else result["image"]

    def build(self, _shapes):
        """There is nothing to make; Keras asks."""
        self.built = True

    def call(self, batch, training=True):
        plain = not isinstance(batch, dict)
        result = self.run({"image": batch} if plain else batch, training, keras.ops, KerasRandom(self.generator))
        return result["image"] if plain else result

    def compute_output_spec(self, batch, training=True):
        """Shapes and types stay."""
        known, _ = separate(batch)
        result = {
            key: keras.KerasTensor(self.output_shape_of(key, value.shape), value.dtype) for key, value in known.items()
        }
        return result if isinstance(batch, dict) else result["image"]

    def compute_output_shape(self, shapes):
        if isinstance(shapes, dict):
            return {key: self.output_shape_of(key, shape) for key, shape in shapes.items()}
        return self.output_shape_of("image", shapes)

    def output_shape_of(self, key, shape):
        """The shape that the tensor of a key has afterwards."""
        return tuple(shape)

    def refuse(self, carried):
        """Raises ValueError if it cannot keep what else a dict holds true."""

    def run(self, batch, training, t, random):
        """The layer on a dict, with the tensors and random numbers of where it runs.

        Args:
            batch: dict, of the keys of RANKS, batched or not.
            training: bool.
            t: `keras.ops` or `TensorFlowOps`.
            random: `KerasRandom` or `TensorFlowRandom`.

        Returns:
            dict.
        """
        batch = {key: t.convert_to_tensor(value) for key, value in batch.items()}
        single = check(batch)
        if single:
            batch = {key: t.expand_dims(value, 0) for key, value in batch.items()}
        dtype = keras.backend.standardize_dtype(batch["image"].dtype)
        result = self.steps(batch | {"image": t.cast(batch["image"], "float32")}, training, t, random)
        if "float" not in dtype:
            result["image"] = t.clip(t.round(result["image"]), 0.0, 255.0)
        result["image"] = t.cast(result["image"], dtype)
        return {key: t.squeeze(value, 0) for key, value in result.items()} if single else result

    def steps(self, batch, training, t, random):
        """`augment` while training, `rest` else."""
        return self.augment(dict(batch), t, random) if training else self.rest(dict(batch), t)

    def augment(self, batch, t, random):
        """Changes a batch whose image is float32."""
        raise NotImplementedError

    def rest(self, batch, t):
        """What happens to a batch when it is not training: nothing."""
        return batch

    def chosen(self, batch, t, random):
        """(B,) bool: which images are changed."""
        return random.uniform((t.shape(batch["image"])[0],)) < self.probability

    def _next_seed(self):
        """The next seed in `tf.data`, where the backend is not TensorFlow."""
        import tensorflow as tf

        if self._state is None:
            with tf.init_scope():
                seed = int(keras.ops.convert_to_numpy(self.generator.state)[0])
                self._state = Counter(tf.Variable(0, dtype="int64"), seed)
        return tf.stack([self._state.seed, self._state.variable.assign_add(1)])

    def get_config(self):
        return super().get_config() | {"probability": self.probability, "seed": self.seed}


class Counter:
    """A variable of TensorFlow, out of sight of Keras, which would take it for a weight."""

    def __init__(self, variable, seed):
        import tensorflow as tf

        self.variable, self.seed = variable, tf.constant(seed, "int64")


@keras.saving.register_keras_serializable(PACKAGE)
class Compose(Augmentation):
    """Augmentations one after another, as one layer with one stream of random numbers.

    Args:
        layers: list of `Augmentation`.
        seed: int, or None for another one in each process. The layers' own seeds are not used.
    """

    def __init__(self, layers, seed=None, **kwargs):
        kwargs.pop("probability", None)
        super().__init__(seed=seed, **kwargs)
        wrong = [layer for layer in layers if not isinstance(layer, Augmentation)]
        if wrong:
            raise ValueError(f"Compose takes layers of utils.data.augmentation, got {wrong[0]!r}")
        self.layers = list(layers)

    def build(self, shapes):
        for layer in self.layers:
            layer.build(shapes)
        super().build(shapes)

    def steps(self, batch, training, t, random):
        for layer in self.layers:
            batch = layer.steps(batch, training, t, random)
        return batch

    def output_shape_of(self, key, shape):
        for layer in self.layers:
            shape = layer.output_shape_of(key, shape)
        return tuple(shape)

    def refuse(self, carried):
        for layer in self.layers:
            layer.refuse(carried)

    def get_config(self):
        return super().get_config() | {"layers": [keras.saving.serialize_keras_object(layer) for layer in self.layers]}

    @classmethod
    def from_config(cls, config):
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config.pop("layers")]
        return cls(layers, **config)


def augmented(dataset, layer, seed=0, target=None):
    """A dataset with its examples or batches augmented, in parallel and reproducibly.

    Each element gets a seed of its own from a stream that `seed` begins, another one each time the dataset is gone
    through; so the order in which parallel calls finish does not matter, and two runs agree, on all backends.

    Args:
        dataset: `tf.data.Dataset` of the dicts of `utils.data.load`, or of images.
        layer: `Augmentation`.
        seed: int.
        target: None for dicts (or images), or the name of a key for pairs (image, target), as `fit` takes them.

    Returns:
        `tf.data.Dataset`.
    """
    import tensorflow as tf

    ops = TensorFlowOps()
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2, drop_remainder=True)

    def change(batch, drawn):
        known, carried = separate(batch)
        layer.refuse(carried)
        result = layer.run(known, True, ops, TensorFlowRandom(drawn)) | carried
        if target is not None:
            return result["image"], result[target]
        return result if isinstance(batch, dict) else result["image"]

    spec = dataset.element_spec
    if isinstance(spec, tuple):
        raise ValueError(
            "augmented takes dicts, so that masks and boxes move with the image: load without target, and give target "
            "here"
        )
    if target is not None and (not isinstance(spec, dict) or target not in spec):
        raise ValueError(
            f"no target {target!r} in the dataset: known: {', '.join(spec) if isinstance(spec, dict) else 'none'}"
        )
    pairs = tf.data.Dataset.zip((dataset, seeds))
    return pairs.map(change, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def separate(batch):
    """What an augmentation knows of a dict (or of images alone), and what it carries along."""
    if not isinstance(batch, dict):
        return {"image": batch}, {}
    if "image" not in batch:
        raise ValueError(f"a batch needs the key 'image', got {', '.join(map(repr, batch)) or 'none'}")
    known = {key: value for key, value in batch.items() if key in RANKS}
    return known, {key: value for key, value in batch.items() if key not in RANKS}


def check(batch):
    """Whether a dict of tensors is a single example; ValueError if its tensors do not belong together."""
    rank = len(batch["image"].shape)
    if rank not in (3, 4):
        raise ValueError(f"image must be (B, H, W, C) or (H, W, C), got shape {tuple(batch['image'].shape)}")
    channels = batch["image"].shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"image must have 1 or 3 channels, last, got shape {tuple(batch['image'].shape)}")
    for key, value in batch.items():
        if RANKS[key] is not None and len(value.shape) != RANKS[key] - (rank == 3):
            raise ValueError(
                f"{key} must have {RANKS[key] - (rank == 3)} axes beside an image of {rank}, got shape "
                f"{tuple(value.shape)}"
            )
    for key in ("boxes", "ignored", "masks", "keypoints"):
        if key in batch and ("boxes" not in batch or "labels" not in batch):
            raise ValueError(f"{key} need boxes and labels beside them, which say what is padding")
    return rank == 3


def between(value, low, high, name):
    """`value` as a float; ValueError if it is not a number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low} to {high}, got {value!r}")
    return float(value)


def spread(values, like):
    """(B,) values with axes of length 1 appended, to meet a tensor of the rank of `like`."""
    return values[(slice(None),) + (None,) * (len(like.shape) - 1)]
