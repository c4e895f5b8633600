"""Layers of networks whose cells attend to one another."""

import keras


@keras.saving.register_keras_serializable("convnets")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learnt vector to each place of a row: attention alone would not know where its cells stand (Dosovitskiy et
    al. 2021).

    Input and output: (B, N, C) float, N fixed. The vectors begin at N(0, .02^2).
    """

    each_place = True  # for `utils.arithmetic`: no products, and no place sees another

    def build(self, input_shape):
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.vectors = self.add_weight(shape=tuple(input_shape[1:]), initializer=initializer, name="vectors")

    def call(self, inputs):
        return inputs + self.vectors

    def compute_output_shape(self, input_shape):
        return input_shape
