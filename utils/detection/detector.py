"""What all detectors share: training from batches that are dicts, detection in batches of one size, saving, evaluation.

A detector of its own names the parts of its loss, and writes three methods:

- `call(inputs, training)`: the outputs of its net, in any structure, for a dict with `image`, or for images;
- `losses_of(batch, outputs)`: a dict of scalar losses, which are added up and reported one by one;
- `boxes_and_scores(outputs)`: boxes (B, N, 4) or (B, N, C, 4) and scores (B, N, C), of which `nms.select` takes the
  best. A detector that has more to do than this (masks of the boxes that were found, another suppression) writes
  `detections(...)` instead.

    class MyDetector(Detector):
        loss_names = ("class_loss", "box_loss")

        def __init__(self, classes, input_shape=(96, 96, 3), **kwargs):
            super().__init__(settings={"classes": classes, "input_shape": input_shape}, **kwargs)
            # A keras.Model with an Input: its weights are made here, so that a saved file can be loaded.
            self.network = ...

A detector whose net takes the images and nothing else need not write `call`.
"""

import functools

import keras
import numpy as np
from keras import ops

from utils.detection import evaluation
from utils.detection.nms import select


class Detector(keras.Model):
    """Base of the detectors.

    Batches are dicts as `utils.data.load` gives them: `image` (B, H, W, 3) uint8, `boxes` (B, M, 4) float32 `xyxy`
    pixels, `labels` (B, M) int32 padded with -1, and what a detector needs besides (`ignored` (B, M) bool, `masks`,
    `keypoints`). `compile(optimizer)` takes no loss, and `fit(dataset)` and `evaluate(dataset)` report `loss`, the sum,
    and each of its parts.

    Args:
        settings: dict of the arguments of the subclass's constructor, for `get_config`: plain values. `backbone` may be
            a keras.Model, which is written down whole, and `weights` is not: those of the saved detector follow.
        kwargs: `name`, `dtype` as for `keras.Model`.

    Attributes:
        loss_names: of the class: the keys of what `losses_of` gives.
        detects_from: of the class: the keys of a batch that `detect` takes.
    """

    loss_names = ()
    detects_from = ("image",)

    def __init__(self, settings, **kwargs):
        # Autocasting would turn the boxes of a batch into float16 under mixed_float16: 1,001 pixels would become 1,001
        # or 1,002.
        super().__init__(autocast=False, **kwargs)
        self._settings = _Hidden(dict(settings))
        self._compiled_detections = _Hidden({})
        self.built = True  # the subclass's constructor makes all weights: there is nothing to build from a shape
        self._loss_parts = [keras.metrics.Mean(name=name) for name in self.loss_names]

    # What a detector writes

    def call(self, inputs, training=None):
        """The outputs of `network` for images, or for the images of a batch."""
        return self.network(image_of(inputs), training=training)

    def losses_of(self, batch, outputs):
        """The parts of the loss.

        Args:
            batch: dict of tensors, as in the dataset; each image has room for one object at least.
            outputs: what `call` gave for it.

        Returns:
            dict of scalar float32 tensors, with the keys `loss_names`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no losses_of(batch, outputs)")

    def boxes_and_scores(self, outputs):
        """Candidates, from the outputs of the net.

        Args:
            outputs: what `call` gives, for B images.

        Returns:
            boxes (B, N, 4) or (B, N, C, 4) float32 `xyxy` pixels, and scores (B, N, C) float32 in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} has no boxes_and_scores(outputs)")

    def detections(self, images, score_threshold, iou_threshold, max_detections):
        """Detections of a batch, inside a compiled graph: the net, and the best of its candidates.

        Args:
            images: (B, H, W, 3) tensor; of a detector that detects from more, a dict of tensors.
            score_threshold, iou_threshold: scalar tensors.
            max_detections: int, K.

        Returns:
            dict of tensors with `boxes` (B, K, 4), `labels` (B, K), `scores` (B, K), and more where a detector has
            more.
        """
        boxes, scores = self.boxes_and_scores(self(images, training=False))
        found = select(boxes, scores, score_threshold, iou_threshold, max_detections)
        return {name: found[name] for name in ("boxes", "labels", "scores")}

    # Training

    def compile(self, optimizer="adam", jit_compile=None, **kwargs):
        """As `keras.Model.compile`; the losses are the detector's own.

        Args:
            optimizer: a Keras optimizer, or its name.
            jit_compile: None: compiled by XLA on JAX, which is slow without, and not on TensorFlow, where on a CPU it
                gains nothing and costs seconds and memory.
            kwargs: the rest of `keras.Model.compile`'s arguments.

        Raises:
            ValueError: a loss or metrics are given.
        """
        if kwargs.get("loss") is not None or kwargs.get("metrics") is not None:
            raise ValueError(
                "a detector has its own losses, and evaluate_on measures it: compile without loss and metrics"
            )
        if jit_compile is None:
            jit_compile = keras.backend.backend() == "jax"
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of the parts and of what regularises the weights; Keras calls this."""
        if not isinstance(x, dict) or "labels" not in x:
            raise ValueError("train and evaluate a detector with a dataset of dicts: image, boxes, labels")
        parts = self.losses_of(with_room(x), y_pred)
        if set(parts) != set(self.loss_names):
            raise ValueError(
                f"{type(self).__name__}: losses_of gave {', '.join(parts)}, but loss_names is {self.loss_names}"
            )
        for tracker in self._loss_parts:
            tracker.update_state(parts[tracker.name])
        return functools.reduce(ops.add, [*parts.values(), *self.losses])

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    # Detection

    def detect(self, images, score_threshold=0.05, iou_threshold=0.5, max_detections=100, batch_size=16):
        """Find objects.

        Args:
            images: (B, H, W, 3), uint8 or float from 0 to 255.
            score_threshold: float; detections of this score or less are left out.
            iou_threshold: float, of the suppression within a class.
            max_detections: int, K.
            batch_size: images at a time; the last batch is filled up, so that all have one shape. Another size is
                compiled anew.

        Returns:
            dict of NumPy arrays: `boxes` (B, K, 4) float32 `xyxy` pixels, cut to the image, `labels` (B, K) int32, -1
            in the padding, and `scores` (B, K) float32 by falling score; and what else the detector finds.

        Raises:
            ValueError: images of another shape.
        """
        images = self.checked_images(images)
        return self.detect_in(images, images.shape[1:3], score_threshold, iou_threshold, max_detections, batch_size)

    def checked_images(self, images):
        """Images as a NumPy array; ValueError if they do not fit the net."""
        images = ops.convert_to_numpy(images) if ops.is_tensor(images) else np.asarray(images)
        network = getattr(self, "network", None)  # a detector with a `call` of its own may have none
        expected = (None, None, 3) if network is None else network.input_shape[1:]
        if images.ndim != 4 or any(size not in (None, found) for size, found in zip(expected, images.shape[1:])):
            raise ValueError(f"{self.name} takes images (B, {', '.join(map(str, expected))}), not {images.shape}")
        return images

    def detect_in(self, given, image_size, score_threshold, iou_threshold, max_detections, batch_size):
        """What `detect` does once its images are checked.

        Args:
            given: what `detections` takes as its images: an array, or a dict of arrays with a row for each image.
            image_size: (height, width) that boxes are cut to.
            score_threshold, iou_threshold, max_detections, batch_size: as for `detect`.

        Returns:
            dict as `detect` gives it.
        """
        if max_detections < 1 or batch_size < 1:
            raise ValueError(f"max_detections and batch_size must be at least 1, got {max_detections} and {batch_size}")
        count = len(keras.tree.flatten(given)[0])
        if not count:
            given = keras.tree.map_structure(lambda x: np.zeros((1, *x.shape[1:]), x.dtype), given)
        compiled = self._compiled_detections.value
        if max_detections not in compiled:
            compiled[max_detections] = _Detection(self, max_detections)
        thresholds = np.float32([score_threshold, iou_threshold])
        found = []
        for start in range(0, max(count, 1), batch_size):
            rows = slice(start, start + batch_size)
            filled = keras.tree.map_structure(lambda x, rows=rows: _filled(x[rows], batch_size), given)
            results = compiled[max_detections].predict_on_batch({"images": filled, "thresholds": thresholds})
            found.append({name: np.asarray(values) for name, values in results.items()})
        found = {name: np.concatenate([part[name] for part in found])[:count] for name in found[0]}
        height, width = image_size
        return found | {"boxes": np.clip(found["boxes"], 0, np.float32([width, height, width, height]))}

    def evaluate_on(self, dataset, iou="coco", kind="bbox", classes=None, **options):
        """Detect on every image of a dataset, and evaluate.

        Args:
            dataset: iterable of batches, dicts with `image`, `boxes` (for kind="segm", `masks`) and `labels`.
            iou, kind, classes: as for `evaluation.evaluate`.
            options: of `detect`.

        Returns:
            dict as `evaluation.evaluate` gives it.

        Raises:
            ValueError: the dataset is empty, or as for `evaluation.evaluate`.
        """
        detections, targets = [], []
        keys = ("labels", "ignored", "boxes" if kind == "bbox" else "masks")
        for batch in dataset:
            batch = {name: np.asarray(values) for name, values in batch.items() if name in (*self.detects_from, *keys)}
            found = self.detect(*(batch.pop(name) for name in self.detects_from), **options)
            for images, arrays in ((detections, found), (targets, batch)):
                count = len(arrays["labels"])
                # Without padding: 100 masks of an image, of which 3 say something, are 64 MB at 800 x 800.
                there = [arrays["labels"][index] >= 0 for index in range(count)]
                images.extend(
                    {name: values[index][there[index]] for name, values in arrays.items()} for index in range(count)
                )
        if not targets:
            raise ValueError("there are no images to evaluate")
        return evaluation.evaluate(detections, targets, iou, kind, classes)

    # Saving

    def get_config(self):
        settings = dict(self._settings.value)
        if isinstance(settings.get("backbone"), keras.Model):
            settings["backbone"] = keras.saving.serialize_keras_object(settings["backbone"])
        if "weights" in settings:
            settings["weights"] = None
        return {**settings, "name": self.name, "dtype": keras.dtype_policies.serialize(self.dtype_policy)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if isinstance(config.get("backbone"), dict):
            backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
            config = config | {"backbone": backbone}
        return cls(**config)

    def compile_from_config(self, config):
        """Keras asks for this where `compile` is a class's own; it is Keras's own, all the same."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def image_of(inputs):
    """The images of a batch: the dict's `image`, or what is no dict as it is."""
    return inputs["image"] if isinstance(inputs, dict) else inputs


def check(classes, image_shape):
    """ValueError if a detector cannot be made for these: anchors are constants, so that it needs the size of the
    images.
    """
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    if len(image_shape) != 3 or None in image_shape:
        raise ValueError(f"a detector needs images of one size, (height, width, channels), not {tuple(image_shape)}")


def with_room(batch):
    """The batch, with one row of padding where no image has room for an object: of an empty row there is no maximum."""
    if batch["labels"].shape[1]:
        return batch
    count = ops.shape(batch["labels"])[0]
    padding = {"boxes": ops.zeros((count, 1, 4)), "labels": -ops.ones((count, 1), "int32")}
    for name in batch.keys() & {"masks", "keypoints"}:
        padding[name] = ops.zeros((count, 1, *batch[name].shape[2:]), batch[name].dtype)
    return {name: values for name, values in batch.items() if name != "ignored"} | padding


def _filled(rows, count):
    """The rows, the last one repeated until there are so many."""
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])


class _Hidden:
    """A value that Keras does not look into: no layer of the detector's, and nothing to save."""

    def __init__(self, value):
        self.value = value


class _Detection(keras.Model):
    """The way from images to detections as a model, so that each backend compiles it. The thresholds are inputs:
    another one costs nothing.
    """

    def __init__(self, detector, max_detections):
        super().__init__(name="detection", dtype="float32", autocast=False)
        self.detector, self.max_detections = detector, max_detections
        self.compile(jit_compile=keras.backend.backend() == "jax")
        self.built = True  # there is no weight to make, and JAX would call it once uncompiled

    def call(self, inputs):
        score_threshold, iou_threshold = ops.unstack(inputs["thresholds"])
        return self.detector.detections(inputs["images"], score_threshold, iou_threshold, self.max_detections)
