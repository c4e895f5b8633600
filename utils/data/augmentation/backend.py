"""Tensors and random numbers for the augmentations, in a model and in `tf.data`.

An augmentation is written once, over the functions of `keras.ops` that it needs. In a model they are those of Keras, on
any backend. Inside `tf.data` tensors are TensorFlow's whatever the backend, and `keras.ops` fails on JAX and PyTorch;
Keras's own layers change to another backend there, by means that are not public. `TensorFlowOps` does it in the open:
the same functions, by the same names, for what is used here.
"""

import sys

import keras


def in_tf_data(tensor):
    """Whether a tensor is a symbolic one of TensorFlow, as in the function that `tf.data` maps."""
    tf = sys.modules.get("tensorflow")
    return tf is not None and tf.is_tensor(tensor) and not tf.executing_eagerly()


class KerasRandom:
    """Random numbers that follow a `keras.random.SeedGenerator`."""

    def __init__(self, generator):
        self.generator = generator

    def uniform(self, shape, low=0.0, high=1.0):
        return keras.random.uniform(shape, seed=self.generator) * (high - low) + low

    def normal(self, shape):
        return keras.random.normal(shape, seed=self.generator)


class TensorFlowRandom:
    """Random numbers that depend on a seed and on how many draws came before, so that parallel calls do not disturb
    each other.

    Args:
        seed: (2,) int32 or int64 tensor of TensorFlow.
    """

    def __init__(self, seed):
        self.seed, self.draws = seed, 0

    def _next(self):
        import tensorflow as tf

        self.draws += 1
        return tf.random.experimental.stateless_fold_in(self.seed, self.draws)

    def uniform(self, shape, low=0.0, high=1.0):
        import tensorflow as tf

        return tf.random.stateless_uniform(shape, self._next()) * (high - low) + low

    def normal(self, shape):
        import tensorflow as tf

        return tf.random.stateless_normal(shape, self._next())


class TensorFlowOps:
    """Functions of `keras.ops` by those of TensorFlow."""

    def __init__(self):
        import tensorflow as tf

        self.tf = tf
        self.image = TensorFlowImage()
        for name in (
            "abs",
            "cast",
            "cos",
            "exp",
            "floor",
            "maximum",
            "minimum",
            "reshape",
            "round",
            "sin",
            "sqrt",
            "tan",
        ):
            setattr(self, name, getattr(tf, name))
        for name in ("expand_dims", "ones_like", "squeeze", "stack", "transpose", "where", "zeros_like", "zeros"):
            setattr(self, name, getattr(tf, name))
        self.arange, self.concatenate, self.clip = tf.range, tf.concat, tf.clip_by_value
        self.max, self.min, self.mean, self.sum = tf.reduce_max, tf.reduce_min, tf.reduce_mean, tf.reduce_sum
        self.any, self.argsort, self.log = tf.reduce_any, tf.argsort, tf.math.log

    def convert_to_tensor(self, value, dtype=None):
        return self.tf.convert_to_tensor(value, dtype)

    def flip(self, x, axis):
        return self.tf.reverse(x, [axis])

    def pad(self, x, width, mode="constant", constant_values=0):
        return self.tf.pad(x, width, mode.upper(), constant_values)

    def shape(self, x):
        dynamic = self.tf.shape(x)
        return tuple(dynamic[axis] if side is None else side for axis, side in enumerate(x.shape))

    def split(self, x, count, axis):
        return self.tf.split(x, count, axis)

    def take(self, x, indices, axis):
        return self.tf.gather(x, indices, axis=axis)

    def one_hot(self, x, count):
        return self.tf.one_hot(x, count)


class TensorFlowImage:
    """Functions of `keras.ops.image` by those of TensorFlow."""

    def resize(self, image, size, interpolation="bilinear"):
        import tensorflow as tf

        return tf.image.resize(image, size, interpolation)

    def rgb_to_hsv(self, image):
        import tensorflow as tf

        return tf.image.rgb_to_hsv(image)

    def hsv_to_rgb(self, image):
        import tensorflow as tf

        return tf.image.hsv_to_rgb(image)
