"""Parameters, multiply-accumulates and memory: published counts, counts by hand, every network of Keras, TensorFlow's
profiler.
"""

import math
import warnings
from functools import cache

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import arithmetic

# One network of each module of Keras: the others of a module differ in depth and width.
APPLICATIONS = [
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
    "Xception",
]
COLUMNS = ["layer", "type", "output_shape", "params", "statistics", "macs", "activation_bytes", "note"]


@cache
def application(name):
    """A network with weights that have shapes and no values, which take time and memory."""
    if name == "NASNetMobile" and keras.backend.backend() == "torch":
        pytest.skip("Keras itself refuses to build it on PyTorch")
    with keras.StatelessScope(initialize_variables=False):
        model = getattr(keras.applications, name)(weights=None)
    keras.utils.clear_session(free_memory=False)  # else the next scope would give them values after all
    return model


def table_of(outputs, inputs, **keywords):
    return arithmetic.layer_table(keras.Model(inputs, outputs), **keywords)


def last(outputs, inputs, column="macs"):
    return table_of(outputs, inputs)[column].iloc[-1]


# Published networks


@pytest.mark.once
def test_every_module_of_keras_has_its_network():
    every = [name for name in dir(keras.applications) if name[0].isupper()]
    modules = [{getattr(keras.applications, name).__module__ for name in names} for names in (every, APPLICATIONS)]
    assert modules[0] == modules[1]


@pytest.mark.once
@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_of_keras(name):
    model = application(name)
    shape = (224, 224, 3) if None in model.input_shape[1:] else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = arithmetic.layer_table(model, shape)
        fields = arithmetic.receptive_fields(model, shape)
    assert table.columns.tolist() == COLUMNS
    assert table["params"].sum() + table["statistics"].sum() == model.count_params()
    assert table["note"].eq("").all()
    assert table["activation_bytes"].iloc[0] == 4 * math.prod(shape or model.input_shape[1:])
    products = table["type"].isin(["Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"])
    assert (table["macs"].gt(0) == products).all()
    assert fields["size"].notna().all() and fields["layer"].tolist() == table["layer"].tolist()


COUNTS = {  # Keras's name: (library, name there)
    "VGG16": ("torchvision", "vgg16"),
    "VGG19": ("torchvision", "vgg19"),
    "MobileNetV2": ("torchvision", "mobilenet_v2"),
    "MobileNetV3Large": ("torchvision", "mobilenet_v3_large"),
    "MobileNetV3Small": ("torchvision", "mobilenet_v3_small"),
    "DenseNet121": ("torchvision", "densenet121"),
    "DenseNet169": ("torchvision", "densenet169"),
    "DenseNet201": ("torchvision", "densenet201"),
    "EfficientNetB0": ("torchvision", "efficientnet_b0"),
    "InceptionV3": ("torchvision", "inception_v3_no_aux"),
    "Xception": ("timm", "legacy_xception"),
    "ResNet50": ("torchvision", "resnet50"),
    "ResNet101": ("torchvision", "resnet101"),
    "ResNet152": ("torchvision", "resnet152"),
}


@pytest.mark.once
@pytest.mark.parametrize("name", COUNTS)
def test_counts_agree_with_other_libraries(golden, name):
    counts = golden("model_counts.json")
    library, theirs = COUNTS[name]
    expected = dict(counts[library][theirs])
    statistics, size = expected["batchnorm_statistics"], expected["input"]
    if name == "EfficientNetB0":
        expected["batchnorm_statistics"] += 7  # Keras's input normalisation: mean and variance of 3 channels, a counter
    if name == "InceptionV3":
        expected["params"] -= statistics // 2  # Keras's batch normalisation has no scale here
    if name.startswith("ResNet"):
        expected["params"] += statistics // 2  # Keras's convolutions have a bias in front of the batch normalisation
        # Keras strides in the first 1x1 of a stage, the others in its 3x3: there the 1x1 works on four times the
        # places, three times its own cost more. timm has the same pair with SE blocks on top.
        saved = sum(3 * places**2 * 2 * inner * inner for inner, places in ((128, 28), (256, 14), (512, 7)))
        assert saved == counts["timm"]["seresnet50"]["macs"] - counts["timm"]["legacy_seresnet50"]["macs"]
        expected["macs"] -= saved
    totals = arithmetic.totals(application(name), (size, size, 3))
    assert totals["params"] == totals["trainable"] == expected["params"]
    assert totals["statistics"] == expected["batchnorm_statistics"]
    assert totals["macs"] == expected["macs"]


@pytest.mark.once
def test_mobilenet():
    totals = arithmetic.totals(application("MobileNet"))
    assert (totals["params"], totals["macs"]) == (4_231_976, 568_740_352)


@pytest.mark.once
def test_vgg16():
    table = arithmetic.layer_table(application("VGG16"))
    sums = table[["params", "statistics", "macs", "activation_bytes"]].sum().tolist()
    assert sums == [138_357_544, 0, 15_470_264_320, 4 * 15_237_608]
    table = table.set_index("layer")
    assert table.loc["block1_conv2"].tolist()[:-1] == ["Conv2D", (224, 224, 64), 36_928, 0, 1_849_688_064, 12_845_056]
    dense = table[table["type"] == "Dense"]
    assert dense["params"].tolist() == [102_764_544, 16_781_312, 4_097_000]
    assert round(dense["macs"].sum() / table["macs"].sum(), 3) == 0.008
    first_two = table.loc[["block1_conv1", "block1_conv2"], "activation_bytes"].sum()
    assert round(first_two / table["activation_bytes"].sum(), 2) == 0.42


# By hand


def test_the_net_counted_in_the_lecture():
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 5, 2, "same", activation="relu"),
            layers.Flatten(),
            layers.Dense(512, "relu"),
            layers.Dense(4),
        ]
    )
    table = arithmetic.layer_table(model)
    assert table["params"].tolist() == [0, 224, 3_216, 0, 2_097_664, 2_052]  # dense: 2,099,716
    assert table["macs"].tolist() == [0, 221_184, 819_200, 0, 2_097_152, 2_048]
    assert (table["activation_bytes"] // 4).tolist() == [3_072, 8_192, 4_096, 0, 512, 4]


def test_the_first_layer_of_alexnet():
    inputs = keras.Input((227, 227, 3))
    assert last(layers.Conv2D(96, 11, 4)(inputs), inputs) == 105_415_200


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "params"),
    [
        (layers.Conv2D(8, 3, groups=2), (10, 10, 4), 8 * 8 * 9 * 2 * 8, 9 * 2 * 8 + 8),
        (layers.Conv2D(8, 3, dilation_rate=2), (10, 10, 4), 6 * 6 * 9 * 4 * 8, 9 * 4 * 8 + 8),
        (layers.Conv2D(8, (3, 5), (2, 1), "same"), (9, 10, 4), 5 * 10 * 15 * 4 * 8, 15 * 4 * 8 + 8),
        (layers.Conv1D(8, 3, padding="causal"), (10, 4), 10 * 3 * 4 * 8, 3 * 4 * 8 + 8),
        (layers.Conv3D(8, 3), (5, 6, 7, 4), 3 * 4 * 5 * 27 * 4 * 8, 27 * 4 * 8 + 8),
        (layers.DepthwiseConv2D(3, 2, depth_multiplier=2), (9, 9, 4), 4 * 4 * 9 * 4 * 2, 9 * 4 * 2 + 8),
        (layers.DepthwiseConv1D(3), (10, 4), 8 * 3 * 4, 3 * 4 + 4),
        (layers.SeparableConv2D(8, 3), (10, 10, 4), 64 * (9 * 4 + 4 * 8), 9 * 4 + 4 * 8 + 8),
        (layers.SeparableConv1D(8, 3, 2), (9, 4), 4 * (3 * 4 + 4 * 8), 3 * 4 + 4 * 8 + 8),
        (layers.Conv2DTranspose(8, 3, 2), (5, 5, 4), 25 * 9 * 4 * 8, 9 * 4 * 8 + 8),
        (layers.Conv2DTranspose(8, 4, 2, "same"), (5, 5, 4), 25 * 16 * 4 * 8, 16 * 4 * 8 + 8),
        (layers.Conv1DTranspose(8, 3, 2), (5, 4), 5 * 3 * 4 * 8, 3 * 4 * 8 + 8),
        (layers.Conv3DTranspose(2, 2, 2), (3, 3, 3, 4), 27 * 8 * 4 * 2, 8 * 4 * 2 + 2),
        (layers.Dense(8, use_bias=False), (6, 5, 4), 6 * 5 * 4 * 8, 32),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (5, 4), 5 * 4 * 6, 4 * 6 + 6),
        (layers.EinsumDense("...x,xy->...y", 8), (5, 6, 4), 5 * 6 * 4 * 8, 4 * 8),
        (layers.SimpleRNN(3), (7, 5), 7 * (5 * 3 + 3 * 3), 5 * 3 + 3 * 3 + 3),
        (layers.LSTM(3), (7, 5), 7 * 4 * (5 * 3 + 3 * 3), 4 * (5 * 3 + 3 * 3 + 3)),
        (layers.GRU(3), (7, 5), 7 * 3 * (5 * 3 + 3 * 3), 3 * (5 * 3 + 3 * 3 + 2 * 3)),
        (layers.RNN(layers.LSTMCell(3)), (7, 5), 7 * 4 * (5 * 3 + 3 * 3), 4 * (5 * 3 + 3 * 3 + 3)),
        (layers.BatchNormalization(), (5, 5, 4), 0, 8),
        (layers.LayerNormalization(axis=(1, 2)), (5, 6), 0, 60),
        (layers.PReLU(), (5, 6, 2), 0, 60),
        (layers.AveragePooling2D(2), (4, 4, 2), 0, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_layers_by_hand(layer, shape, macs, params):
    inputs = keras.Input(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = table_of(layer(inputs), inputs).iloc[-1]
    assert (row["macs"], row["params"], row["note"]) == (macs, params, "")


def test_channels_first_counts_the_same():
    for layer in (layers.Conv2D, layers.Conv2DTranspose):
        counts = []
        for shape, data_format in (((7, 9, 4), "channels_last"), ((4, 7, 9), "channels_first")):
            inputs = keras.Input(shape)
            kept = layer(8, 3, 2, "same", data_format=data_format)
            with keras.StatelessScope(initialize_variables=False):  # shapes only: not every backend runs it
                outputs = kept(inputs)
            counts.append(last(outputs, inputs))
        assert counts[0] == counts[1] > 0


def test_attention():
    query, value = keras.Input((5, 8)), keras.Input((7, 6))
    row = table_of(layers.MultiHeadAttention(2, 3, 4)(query, value), [query, value]).iloc[-1]
    projections = 5 * 8 * 6 + 7 * 6 * 6 + 7 * 6 * 8 + 5 * 8 * 8
    assert row["macs"] == projections + 2 * 5 * 7 * (3 + 4)
    assert row["params"] == 8 * 6 + 6 + 6 * 6 + 6 + 6 * 8 + 8 + 8 * 8 + 8
    same = keras.Input((7, 8))
    assert last(layers.Attention()([query, same]), [query, same]) == 5 * 7 * 8 * 2
    assert last(layers.AdditiveAttention()([query, same]), [query, same]) == 5 * 7 * 8
    assert last(layers.Dot((2, 2))([query, same]), [query, same]) == 5 * 7 * 8


def test_operations_of_keras_in_a_functional_model():
    a, b = keras.Input((5, 4)), keras.Input((4, 6))
    assert last(ops.matmul(a, b), [a, b]) == 5 * 4 * 6
    assert last(a @ b, [a, b]) == 5 * 4 * 6
    assert last(ops.einsum("bij,bjk->bik", a, b), [a, b]) == 5 * 4 * 6
    image = keras.Input((8, 8, 3))
    assert last(ops.conv(image, np.zeros((3, 3, 3, 5), "float32"), padding="valid"), image) == 36 * 27 * 5
    assert last(ops.depthwise_conv(image, np.zeros((3, 3, 3, 2), "float32"), padding="valid"), image) == 36 * 27 * 2
    with pytest.warns(UserWarning, match=r"^MACs not fully counted, see the column note: Tensordot$"):
        table = table_of(ops.tensordot(a, b, axes=[[2], [1]]), [a, b])
    assert table["note"].iloc[-1] == "Tensordot is unknown here: MACs not counted"


def test_what_works_in_place_takes_no_memory():
    x = inputs = keras.Input((8, 8, 4))
    in_place = [
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Activation("gelu"),
        layers.LeakyReLU(),
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5),
        layers.LayerNormalization(),
        layers.Rescaling(2.0),
        layers.RandomFlip(),
        layers.Reshape((8, 32)),
        layers.Flatten(),
    ]
    for layer in in_place:
        x = layer(x)
    x = ops.relu(x * 2 + 1)
    assert table_of(x, inputs)["activation_bytes"].tolist() == [4 * 256] + [0] * (len(in_place) + 3)
    copies = [
        layers.ZeroPadding2D(),
        layers.Cropping2D(),
        layers.MaxPooling2D(),
        layers.UpSampling2D(),
        layers.Permute((3, 1, 2)),
    ]
    for layer in copies:
        outputs = layer(inputs)
        assert last(outputs, inputs, "activation_bytes") == 4 * math.prod(outputs.shape[1:]), layer.name
    assert last(layers.Add()([inputs, inputs]), inputs, "activation_bytes") == 4 * 256
    assert last(inputs + inputs, inputs, "activation_bytes") == 4 * 256


# Models


def small(name="block"):
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(3, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="bn"),
        ],
        name=name,
    )


def test_a_shared_model_has_its_weights_once_and_works_twice():
    block, inputs = small(), keras.Input((8, 8, 3))
    table = table_of(block(layers.MaxPooling2D(name="pool")(block(inputs))), inputs)
    assert table["layer"].tolist()[1:] == ["block/conv", "block/bn", "pool", "block/conv", "block/bn"]
    assert table["params"].tolist() == [0, 84, 6, 0, 0, 0]
    assert table["statistics"].tolist() == [0, 0, 6, 0, 0, 0]
    assert table["macs"].tolist() == [0, 64 * 81, 0, 0, 16 * 81, 0]
    assert table["note"].tolist() == ["", "", "", "", "weights counted above", "weights counted above"]


def test_nesting_changes_nothing():
    def net():
        return [layers.Conv2D(4, 3, name="a"), layers.ReLU(name="b"), layers.Dense(2, name="c")]

    inputs = keras.Input((9, 9, 3))
    x = inputs
    for layer in net():
        x = layer(x)
    flat = keras.Model(inputs, x)
    nested = keras.Sequential([keras.Input((9, 9, 3)), keras.Sequential(net(), name="inner")])
    deep = keras.Model(inputs, keras.Sequential([keras.models.clone_model(flat)])(inputs))
    expected = arithmetic.layer_table(flat).drop(columns="layer")
    for model in (nested, deep):
        assert arithmetic.layer_table(model).drop(columns="layer").equals(expected)
    assert arithmetic.layer_table(nested)["layer"].tolist()[1:] == ["inner/a", "inner/b", "inner/c"]


def test_branches_and_several_inputs():
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 1), name="right")
    both = layers.Concatenate()([layers.Conv2D(2, 1)(left), right])
    model = keras.Model({"left": left, "right": right}, [layers.Conv2D(4, 3)(both), layers.GlobalMaxPooling2D()(both)])
    table = arithmetic.layer_table(model)
    assert table["layer"].tolist()[:2] == ["left", "right"]
    assert table["macs"].sum() == 64 * 6 + 36 * 27 * 4
    larger = arithmetic.totals(model, {"right": (10, 10, 1), "left": (10, 10, 3)})
    assert larger["macs"] == 100 * 6 + 64 * 27 * 4


def test_freezing_changes_what_is_trained_and_not_what_is_counted():
    model = small()
    free = arithmetic.totals(model, (8, 8, 3))
    assert free == {"params": 90, "trainable": 90, "statistics": 6, "macs": 5184, "activation_bytes": 4 * 384}
    model.get_layer("conv").trainable = False
    assert arithmetic.totals(model, (8, 8, 3)) == free | {"trainable": 6}
    model.trainable = False
    assert arithmetic.totals(model, (8, 8, 3)) == free | {"trainable": 0}


def test_counting_leaves_the_model_as_it_was():
    inner = small()
    model = keras.Sequential([keras.Input((8, 8, 3)), inner, Residual(name="residual")])
    nodes = [len(layer._inbound_nodes) for layer in (inner, *inner.layers)]
    before = [ops.convert_to_numpy(v) for v in model.weights]
    with pytest.warns(UserWarning):
        arithmetic.layer_table(model)
    with pytest.warns(UserWarning):
        arithmetic.receptive_fields(model)
    assert nodes == [len(layer._inbound_nodes) for layer in (inner, *inner.layers)]
    for old, new in zip(before, model.weights):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
    assert "call" not in vars(model.get_layer("residual").conv)


def test_input_sizes():
    model = small()
    with pytest.raises(ValueError, match=r"^the input size of block is \(None, None, 3\): pass input_shape=\(height"):
        arithmetic.layer_table(model)
    assert arithmetic.totals(model, (8, 4, 3))["macs"] == 32 * 81
    with pytest.raises(
        ValueError, match=r"^an input of shape \(8, 8, 1\) does not go with block, built for \(None, None, 3\)$"
    ):
        arithmetic.totals(model, (8, 8, 1))
    with pytest.raises(ValueError, match=r"^block has 1 inputs, and input_shape gives 2$"):
        arithmetic.totals(model, [(8, 8, 3), (8, 8, 3)])

    unbuilt = keras.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(1)], name="unbuilt")
    with pytest.raises(ValueError, match=r"^the input size of unbuilt is not defined: pass input_shape"):
        arithmetic.layer_table(unbuilt)
    assert arithmetic.totals(unbuilt, (5, 5, 1))["macs"] == 9 * 9 * 2 + 18
    with pytest.raises(ValueError, match=r"takes 18 values along axis -1 and gets 32: the model does not fit an input"):
        arithmetic.layer_table(unbuilt, (6, 6, 1))


def test_another_input_size():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, 2, "same")(inputs)))
    assert arithmetic.totals(model, (224, 224, 3))["macs"] == 112 * 112 * 27 * 4
    assert arithmetic.totals(model, (225, 160, 3))["macs"] == 113 * 80 * 27 * 4


# Layers that hold layers, and layers unknown


class Residual(keras.Layer):
    """x + relu(conv(x)), as a layer of its own."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.conv = layers.Conv2D(3, 3, padding="same", name="conv")
        self.unused = layers.Dense(2, name="unused")

    def build(self, shape):
        self.conv.build(shape)
        self.unused.build(shape)

    def call(self, x):
        return x + ops.relu(self.conv(x))


class Matrix(keras.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5), name="kernel")

    def call(self, x):
        return ops.matmul(x, self.kernel)


class CountedMatrix(Matrix):
    def macs(self, shape):
        return math.prod(shape) * 5


class Detector(keras.Model):
    """A subclassed model, with a functional one inside."""

    def __init__(self):
        super().__init__(name="detector")
        inputs = keras.Input((None, None, 3))
        self.backbone = keras.Model(inputs, layers.Conv2D(4, 3, name="conv")(inputs), name="backbone")
        self.heads = [layers.Conv2D(2, 1, name="boxes"), layers.Conv2D(1, 1, name="scores")]

    def call(self, x):
        maps = self.backbone(x)
        return {"boxes": self.heads[0](maps), "scores": self.heads[1](maps)}


def test_a_layer_that_holds_layers_is_looked_into():
    inputs = keras.Input((8, 8, 3))
    with pytest.warns(UserWarning, match=r"^MACs not fully counted, see the column note: Residual$"):
        table = table_of(Residual(name="block")(inputs), inputs)
    assert table["layer"].tolist()[1:] == ["block/conv", "block"]
    assert table["params"].tolist() == [0, 84, 8]  # the dense layer that is not called stands with the block
    assert table["macs"].tolist() == [0, 64 * 81, 0]
    assert table["activation_bytes"].tolist() == [4 * 192] * 3
    assert table["note"].tolist()[1:] == ["", "Residual is unknown here: operations outside its layers not counted"]


def test_a_subclassed_model():
    model = Detector()
    with pytest.raises(ValueError, match=r"^the input size of detector is not defined"):
        arithmetic.layer_table(model)
    with pytest.warns(UserWarning, match=r"Detector$"):
        table = arithmetic.layer_table(model, (10, 10, 3))
    assert table["layer"].tolist()[1:] == ["backbone/conv", "boxes", "scores", "detector"]
    assert table["macs"].tolist() == [0, 64 * 27 * 4, 64 * 8, 64 * 4, 0]
    assert table["activation_bytes"].iloc[-1] == 0  # it hands on what its heads give
    assert table["output_shape"].iloc[-1] == [(8, 8, 2), (8, 8, 1)]
    with pytest.warns(UserWarning):
        assert arithmetic.totals(model, (10, 10, 3))["params"] == model.count_params()


def test_a_layer_that_hands_on_one_output_and_makes_another():
    class Both(Residual):
        def call(self, x):
            maps = self.conv(x)
            return maps, x + maps

    inputs = keras.Input((8, 8, 3))
    with pytest.warns(UserWarning, match=r"Both$"):
        assert table_of(Both()(inputs), inputs)["activation_bytes"].tolist() == [4 * 192] * 3


def test_wrappers_of_keras():
    inputs = keras.Input((7, 5))
    table = table_of(layers.Bidirectional(layers.LSTM(3), name="both")(inputs), inputs)
    assert table["macs"].tolist() == [0, 7 * 4 * 24, 7 * 4 * 24, 0]
    assert table["params"].sum() == 2 * 4 * 27 and table["note"].eq("").all()
    frames = keras.Input((6, 8, 8, 3))
    steps = layers.TimeDistributed(
        keras.Sequential([layers.Conv2D(2, 3, name="conv"), layers.Flatten(name="flatten")], name="net"), name="steps"
    )
    table = table_of(steps(frames), frames)
    assert table["layer"].tolist()[1:] == ["steps/net/conv", "steps/net/flatten", "steps"]
    assert table["macs"].tolist() == [0, 6 * 36 * 27 * 2, 0, 0]
    assert table["activation_bytes"].tolist() == [4 * 6 * 192, 4 * 6 * 72, 0, 0]


def test_a_layer_that_is_unknown_is_named():
    inputs = keras.Input((8, 4))
    with pytest.warns(UserWarning, match=r"^MACs not fully counted, see the column note: Lambda, Matrix$") as record:
        table = table_of(layers.Lambda(lambda x: x + 1)(Matrix()(Matrix()(inputs))), inputs)
    assert len(record) == 1
    assert table["macs"].sum() == 0 and table["params"].tolist() == [0, 20, 25, 0]
    assert table["note"].tolist()[1:] == ["Matrix is unknown here: MACs not counted"] * 2 + [
        "Lambda is unknown here: MACs not counted"
    ]
    frames = keras.Input((3, 8, 8, 2))
    with pytest.warns(UserWarning, match=r"ConvLSTM2D$"):
        table_of(layers.ConvLSTM2D(2, 3)(frames), frames)


def test_a_layer_can_say_its_own_macs():
    inputs = keras.Input((8, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = table_of(CountedMatrix()(inputs), inputs).iloc[-1]
    assert (row["macs"], row["note"]) == (160, "")


class Padded(layers.Conv2D):
    """Keras's layer under another name."""


def test_a_layer_derived_from_a_known_one_counts_as_that():
    inputs = keras.Input((8, 8, 3))
    row = table_of(Padded(2, 3)(inputs), inputs).iloc[-1]
    assert (row["type"], row["macs"], row["note"]) == ("Padded", 36 * 54, "counted as Conv2D")


# TensorFlow's own count


def profiled(model, shape):
    """Half the floating-point operations of convolutions and matrix products that TensorFlow's profiler finds in the
    graph.
    """
    import tensorflow as tf

    concrete = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, *shape)))
    kinds = {operation.name: operation.type for operation in concrete.graph.get_operations()}
    for function in concrete.graph.as_graph_def().library.function:
        assert not function.node_def, "the graph calls functions, whose operations the profiler does not see"
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    root = tf.compat.v1.profiler.profile(concrete.graph, cmd="scope", options=options)
    total, nodes = 0, list(root.children)
    while nodes:
        node = nodes.pop()
        nodes.extend(node.children)
        if kinds.get(node.name) in ("Conv2D", "DepthwiseConv2dNative", "MatMul", "Conv2DBackpropInput"):
            total += node.float_ops
    return total // 2


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's profiler counts TensorFlow's graphs")
@pytest.mark.parametrize("name", ["MobileNet", "ResNet50V2", "EfficientNetV2B0"])
def test_macs_agree_with_tensorflows_profiler(name):
    model = getattr(keras.applications, name)(weights=None)
    assert arithmetic.totals(model)["macs"] == profiled(model, model.input_shape[1:])
