"""What all detectors of the course share: they are trained from batches of `utils.data.load`, and they detect.

A detector is a `keras.Model` that takes such a batch, the dict whole. So the truth reaches the loss by the same way on
all three
backends: `call` looks at the images alone, `compute_loss` reads the boxes and labels from `x`.
"""

import keras
import numpy as np
from keras import ops

from utils import boxes as geometry
from utils.detection import nms
from utils.training import filled_batches, jit_compile


class Detector(keras.Model):
    """Base of the detectors. A detector of its own has `network`, a functional keras.Model from images to whatever its
    head gives, `names_of_losses`, and the two methods `losses_of` and `candidates`.

    Args:
        network: keras.Model on images (B, H, W, C), 0 to 255, preprocessing inside. Height and width are known, so that
            anchors are constants.
        classes: number of classes, C, without a background.
        arguments: dict of what the constructor was called with, for saving and loading. `backbone` may be a
            keras.Model. `weights` are not
            loaded again: those of the saved detector follow.
        name: of the model.

    Raises:
        ValueError: images of any size, or no class.

    Attributes:
        classes: int.
        image_shape: (height, width, channels).
    """

    names_of_losses = ()

    def __init__(self, network, classes, arguments, name):
        super().__init__(name=name)
        if None in network.input_shape[1:]:
            raise ValueError(f"a detector needs images of one size, not {network.input_shape[1:]}")
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        self.network = network
        self.classes = classes
        self.image_shape = tuple(network.input_shape[1:])
        self.trackers = [keras.metrics.Mean(name=name) for name in self.names_of_losses]
        # Neither is tracked: the one holds models with this one inside, the other may hold the backbone, whose layers
        # `network` has.
        object.__setattr__(self, "_detecting", {})
        object.__setattr__(self, "_arguments", dict(arguments))
        self.built = True

    def call(self, inputs, training=None):
        """What the head gives for images (B, H, W, C), or for the images of a batch."""
        return self.network(inputs["image"] if isinstance(inputs, dict) else inputs, training=training)

    def losses_of(self, batch, outputs):
        """The losses of a batch, each a scalar in float32, by the names of `names_of_losses`.

        Args:
            batch: dict of `image` (B, H, W, C), `boxes` (B, M, 4), M at least 1, `xyxy` pixels, `labels` (B, M) padded
                with -1, and perhaps `ignored` (B, M) bool, `masks`, `keypoints`.
            outputs: what `call` gave.
        """
        raise NotImplementedError(f"{type(self).__name__}.losses_of")

    def candidates(self, outputs):
        """What the head says, as boxes and scores, before thresholds and suppression.

        Args:
            outputs: what `call` gave.

        Returns:
            boxes (B, N, 4), or (B, N, C, 4) if each class has its own, float32 `xyxy` pixels; scores (B, N, C) float32
            in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__}.candidates")

    # Saving

    def get_config(self):
        """The arguments of the constructor; a backbone that is a model is written down whole."""
        config = self._arguments | {"name": self.name}
        if isinstance(config.get("backbone"), keras.Model):
            config["backbone"] = keras.saving.serialize_keras_object(config["backbone"])
        if "weights" in config:
            config["weights"] = None
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if isinstance(config.get("backbone"), dict):
            backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
            config = config | {"backbone": backbone}
        return cls(**config)

    # Training

    def compile(self, optimizer, **options):
        """As `keras.Model.compile`; the losses are the detector's own."""
        super().compile(optimizer, **{"jit_compile": jit_compile(), **options})

    def compile_from_config(self, config):
        """Compile a loaded detector as it was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of the losses. Each is reported by its own name too."""
        if x["labels"].shape[1] == 0:  # no image has an object: one row of padding says the same, and has a maximum
            x = x | {
                "boxes": ops.zeros((ops.shape(x["labels"])[0], 1, 4)),
                "labels": -ops.ones((ops.shape(x["labels"])[0], 1), "int32"),
            }
            x.pop("ignored", None)
        found = self.losses_of(x, y_pred)
        for tracker in self.trackers:
            tracker.update_state(found[tracker.name])
        return sum(found[name] for name in self.names_of_losses)

    # Detecting

    def detect(self, images, score_threshold=0.05, iou_threshold=0.5, max_detections=100, batch_size=16):
        """Objects in images.

        Args:
            images: (B, H, W, C) uint8 or float, 0 to 255, of the size that the detector was made for.
            score_threshold: float; what scores less is left out.
            iou_threshold: float: of two boxes of one class whose IoU is above it, the one with the lower score goes.
            max_detections: K, of an image.
            batch_size: images at a time; the last batch is filled up, so that no odd one is compiled anew.

        Returns:
            dict of NumPy arrays, by falling score: `boxes` (B, K, 4) float32 `xyxy` pixels, cut to the image, `labels`
            (B, K) int32 padded with -1, `scores` (B, K) float32, 0 in the padding.

        Raises:
            ValueError: images of another shape.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"{self.name} takes images (B, {', '.join(map(str, self.image_shape))}), not {images.shape}"
            )
        key = (float(score_threshold), float(iou_threshold), int(max_detections))
        if key not in self._detecting:
            self._detecting[key] = _Detecting(self, *key)
            self._detecting[key].compile(jit_compile=jit_compile())
        size = max(1, min(batch_size, len(images)))
        # Of no images, one batch of grey ones tells shapes and types.
        batches = list(filled_batches([images], size)) or [([np.zeros((size, *self.image_shape), images.dtype)], 0)]
        found = [(self._detecting[key].predict_on_batch(batch), kept) for (batch,), kept in batches]
        return {name: np.concatenate([part[name][:kept] for part, kept in found]) for name in found[0][0]}

    def detections(self, outputs, score_threshold, iou_threshold, max_detections):
        """From what `call` gave to what `detect` gives, as tensors."""
        boxes, scores = self.candidates(outputs)
        height, width = self.image_shape[:2]
        found = nms.select(geometry.clip(boxes, height, width), scores, score_threshold, iou_threshold, max_detections)
        return {name: found[name] for name in ("boxes", "labels", "scores")}


class _Detecting(keras.Model):
    """Detector, thresholds and suppression in one compiled graph."""

    def __init__(self, detector, *thresholds):
        super().__init__(name="detecting")
        self.detector, self.thresholds = detector, thresholds
        self.built = True

    def call(self, images, training=None):
        return self.detector.detections(self.detector(images, training=False), *self.thresholds)
