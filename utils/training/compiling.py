"""Compiling a model, a schedule that Keras lacks, and batches of one shape."""

import keras
import numpy as np
from keras import ops


def jit_compile():
    """What to pass as `compile(jit_compile=...)`: False on TensorFlow without a GPU, where XLA costs start-up time and
    memory and gains nothing; "auto" elsewhere."""
    slow = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    return False if slow else "auto"


def compile_classifier(model, optimizer):
    """Compile a model that gives logits for labels that are int: cross-entropy, accuracy.

    Args:
        model: keras.Model giving logits (B, classes).
        optimizer: keras optimizer.

    Returns:
        The model.
    """
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(optimizer, loss, metrics=[accuracy], jit_compile=jit_compile())
    # All variables are made before the first step: where its tracing makes some, TensorFlow traces it a second time,
    # which takes seconds.
    if model.built:
        optimizer.build(model.trainable_variables)
    return model


def filled_batches(arrays, size):
    """Batches of one shape: the last one is filled up by repeating its last row, so that no odd batch is traced anew.

    Args:
        arrays: list of arrays (N, ...) of the same N.
        size: rows of each batch.

    Yields:
        (list of arrays (size, ...), how many of the rows count).
    """
    for start in range(0, len(arrays[0]), size):
        batch = [np.asarray(array[start : start + size]) for array in arrays]
        kept = len(batch[0])
        yield [np.concatenate([part, np.repeat(part[-1:], size - kept, axis=0)]) for part in batch], kept


def drawn_batches(arrays, size, seed=0, augment=None):
    """Batches without end for a model that computes its own losses; each draws its rows anew, with replacement.

    Args:
        arrays: dict of arrays (N, ...) of the same N.
        size: rows of each batch.
        seed: of the draws.
        augment: function of a batch, a dict of arrays (size, ...), that gives the batch to train on; None: none.

    Yields:
        tuple of one dict, which `keras.Model.fit` reads as the inputs alone.
    """
    rng, count = np.random.default_rng(seed), len(next(iter(arrays.values())))
    while True:
        rows = rng.integers(count, size=size)
        batch = {key: values[rows] for key, values in arrays.items()}
        yield (batch if augment is None else augment(batch),)


@keras.saving.register_keras_serializable("convnets")
class WarmupHoldDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly to its peak, stays there, and falls linearly to its end value.

    A function of the step alone, so that a run is budgeted by steps and repeats exactly
    (`keras.optimizers.schedules.CosineDecay` has a warm-up too, but holds no plateau).

    Args:
        peak: learning rate of the plateau.
        steps: steps of the whole run, at least 1; after them the rate stays at `end`.
        warmup: steps of the rise, from peak / warmup at step 0.
        decay: share of the run, 0 to 1, in which the rate falls.
        end: last learning rate.

    Raises:
        ValueError: the rise and the fall do not fit into the run.
    """

    def __init__(self, peak, steps, warmup=100, decay=0.25, end=0.0):
        if steps < 1 or warmup < 0 or not 0 <= decay <= 1 or warmup + decay * steps > steps:
            raise ValueError(
                f"a run of {steps} steps has no room for {warmup} of warm-up and a share of {decay} of decay"
            )
        self.peak, self.steps, self.warmup, self.decay, self.end = peak, steps, warmup, decay, end

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = ops.minimum(1.0, (step + 1) / max(self.warmup, 1))
        remaining = (self.steps - step) / max(self.decay * self.steps, 1e-6)
        return rise * (self.end + (self.peak - self.end) * ops.clip(remaining, 0.0, 1.0))

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup, "decay": self.decay, "end": self.end}
