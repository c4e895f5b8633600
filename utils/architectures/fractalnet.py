"""FractalNet: Larsson, Maire and Shakhnarovich, "FractalNet: Ultra-deep neural networks without residuals" (ICLR 2017),
figure 1.

A fractal of one column is a convolution; one of C + 1 columns is a convolution beside two fractals of C columns in a
row, joined by the mean. Five such blocks, each followed by a pool, are 5 * 2^(C - 1) layers deep along the longest path
and 5 along the shortest. Drop-path (section 3): for half of the images each join drops inputs at random, one always
stays ("local"); for the other half one column is kept in the whole network ("global"). `fractalnet20` has the 64 to 512
filters of section 4, the `_thin` ones a quarter, with which the parameters of the paper's study of depth come out: .3,
.8, 2.1, 4.8, 10.2, 21.1 M with 1 to 6 columns and 100 classes.

Departures: draws are made image by image, not batch by batch; a pool stands behind the last join, not merged with it.
For `fractalnet20` the description gives 33.7 M parameters, where the paper prints 38.6 M: not explained.
"""

import keras
from keras import layers, ops

from utils.architectures.blocks import batch_norm, classifier, conv, max_pool, scaled
from utils.architectures.registry import register

WIDE, THIN = (64, 128, 256, 512, 512), (16, 32, 64, 128, 128)
# name: (columns, filters of the five blocks)
CONFIGURATIONS = {
    "fractalnet20": (3, WIDE),
    "fractalnet5_thin": (1, THIN),
    "fractalnet10_thin": (2, THIN),
    "fractalnet20_thin": (3, THIN),
    "fractalnet40_thin": (4, THIN),
}


@register(*CONFIGURATIONS, input_shape=(32, 32, 3), classes=10)
def fractalnet(name, input_shape, classes, include_top, width=1.0, drop_path=0.15, dropout=0.0, column=None):
    """FractalNet, 2017: columns of different depth side by side, joined by means, without shortcuts.

    Args:
        name, input_shape, classes, include_top: as in `build`; from 32x32 pixels, where the last map is 1x1.
        width: multiplier of the filters.
        drop_path: rate at which joins drop inputs in training; 0 leaves out global drop-path too.
        dropout: rate in the last block (the paper: .4); it rises from 0 in the first.
        column: None; or the index of one column, 0 the shortest: the plain network that it is by itself, its layers
            with the names that they have in the whole.
    """
    columns, filters = CONFIGURATIONS[name]
    if column is not None and not 0 <= column < columns:
        raise ValueError(f"{name} has the columns 0 to {columns - 1}, not {column}")
    if min(size or 32 for size in input_shape[:2]) < 32:
        raise ValueError(f"{name} needs an image of 32x32 or more, not {input_shape[0]}x{input_shape[1]}")
    image = x = layers.Input(input_shape, name="image")
    paths = GlobalPath(columns, name="paths")(image) if drop_path and columns > 1 and column is None else None
    for block, number in enumerate(filters, 1):
        rate = dropout * (block - 1) / (len(filters) - 1)
        x = fractal(x, scaled(number, width), columns, f"stage{block}", paths, drop_path, rate, column)
        x = max_pool(x, 2, 2, name=f"pool{block}")
    return keras.Model(image, classifier(x, classes) if include_top else x, name=name)


def fractal(x, filters, columns, name, paths=None, drop_path=0.0, dropout=0.0, column=None):
    """A fractal block: column c (0 the shortest) has 2^c convolutions; where columns end at the same row, they are
    joined.

    Args:
        x: (B, H, W, C) tensor.
        filters: of every convolution.
        columns: int.
        name: prefix: `{name}_column{c}_conv{i}`, `{name}_join{row}`.
        paths: what `GlobalPath` gives, or None for joins without drop-path.
        drop_path, dropout: rates.
        column: None, or the only column to build.

    Returns:
        (B, H, W, filters) tensor.
    """
    rows = 2 ** (columns - 1)
    starts = [x] * columns
    for row in range(1, rows + 1):
        ending = [c for c in range(columns) if row % (rows >> c) == 0 and column in (None, c)]
        outputs = []
        for c in ending:
            label = f"{name}_column{c}_conv{row // (rows >> c)}"
            y = conv(starts[c], filters, 3, use_bias=False, name=label)
            if dropout:
                y = layers.Dropout(dropout, name=f"{label}_dropout")(y)
            outputs.append(layers.ReLU(name=f"{label}_relu")(batch_norm(y, f"{label}_bn")))
        if len(outputs) > 1 and paths is not None:
            joined = Join(drop_path, name=f"{name}_join{row}")([paths, *outputs])
        elif len(outputs) > 1:
            joined = layers.Average(name=f"{name}_join{row}")(outputs)
        elif outputs:
            joined = outputs[0]
        for c in ending:
            starts[c] = joined
    return joined


@keras.saving.register_keras_serializable("convnets")
class GlobalPath(layers.Layer):
    """In training, draws for each image whether drop-path is global, and then which column stays.

    Args:
        columns: int.
        share: of the images with global drop-path.

    Input (B, ...), output (B, columns): one at the column that stays, or all zeros: local drop-path.
    """

    def __init__(self, columns, share=0.5, seed=None, **options):
        super().__init__(**options)
        self.columns, self.share, self.seed = columns, share, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, image, training=False):
        batch = ops.shape(image)[0]
        if not training:
            return ops.zeros((batch, self.columns))
        one = ops.one_hot(keras.random.randint((batch,), 0, self.columns, seed=self.seed_generator), self.columns)
        globally = keras.random.uniform((batch, 1), seed=self.seed_generator) < self.share
        return ops.where(globally, one, ops.zeros_like(one))

    def compute_output_spec(self, image, training=False):
        return keras.KerasTensor((image.shape[0], self.columns))

    def macs(self, *shapes):
        return 0

    def get_config(self):
        return super().get_config() | {"columns": self.columns, "share": self.share, "seed": self.seed}


@keras.saving.register_keras_serializable("convnets")
class Join(layers.Layer):
    """Mean of the inputs that drop-path leaves: [paths (B, columns), n tensors (B, H, W, C) of the last n columns] ->
    (B, H, W, C).

    Args:
        rate: of the local drops.
    """

    def __init__(self, rate, seed=None, **options):
        super().__init__(**options)
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        paths, *tensors = inputs
        if not training:
            return sum(tensors[1:], tensors[0]) / len(tensors)
        kept = self.draw(paths, len(tensors))
        weights = ops.cast(kept / ops.sum(kept, axis=-1, keepdims=True), tensors[0].dtype)
        return sum(weights[:, i, None, None, None] * x for i, x in enumerate(tensors))

    def draw(self, paths, count):
        """(B, count) of 0 and 1, at least one 1 in a row."""
        shape = (ops.shape(paths)[0], count)
        draws = keras.random.uniform(shape, seed=self.seed_generator)
        # The largest draw stays whatever the rate is: which one that is, is even chance.
        local = (draws >= self.rate) | (draws >= ops.max(draws, axis=-1, keepdims=True))
        mine = paths[:, -count:]
        # A column that does not come through here is not kept: then what this join gives is not used.
        here = ops.max(mine, axis=-1, keepdims=True) > 0
        return ops.where(here, mine, ops.cast(local, mine.dtype))

    def compute_output_shape(self, input_shapes):
        return input_shapes[1]

    def macs(self, *shapes):
        return 0

    def get_config(self):
        return super().get_config() | {"rate": self.rate, "seed": self.seed}
