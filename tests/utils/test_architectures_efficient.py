"""The wider, split and mobile families: counts from tables and by arithmetic, what each block does, equality with
`keras.applications`.
"""

import math
import os
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy.signal import correlate2d

from utils import architectures, arithmetic
from utils.architectures import densenet, fractalnet, mobilenet, mobilenet_v2, pyramidnet, resnext, shufflenet, xception
from utils.architectures.blocks import he_depthwise, squeeze_excite


def counts(model):
    """(parameters, MACs)"""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = arithmetic.layer_table(model)
    return int(table["params"].sum()), int(table["macs"].sum())


def numpy(x):
    return ops.convert_to_numpy(x)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# Counts


def square(size, inputs, outputs, groups=1):
    """Weights of a convolution and the gamma and beta behind it."""
    return size * size * inputs // groups * outputs + 2 * outputs


def resnext_by_hand(blocks, cardinality, width, classes, stem, reduction=None):
    params, channels = stem, 64
    for stage, count in enumerate(blocks):
        inner, out = cardinality * width * 2**stage, 256 * 2**stage
        for block in range(count):
            params += square(1, channels, inner) + square(3, inner, inner, cardinality) + square(1, inner, out)
            params += square(1, channels, out) if block == 0 else 0
            params += 2 * out * out // reduction + out // reduction + out if reduction else 0
            channels = out
    return params + (channels + 1) * classes


@pytest.mark.once
@pytest.mark.parametrize(
    "name, depth, cardinality, width, reduction, printed",
    [
        ("resnext50_32x4d", (3, 4, 6, 3), 32, 4, None, 25.0),
        ("resnext101_32x4d", (3, 4, 23, 3), 32, 4, None, 44.2),
        ("seresnet50", (3, 4, 6, 3), 1, 64, 16, 28.1),
        ("seresnet101", (3, 4, 23, 3), 1, 64, 16, 49.3),
        ("seresnet152", (3, 8, 36, 3), 1, 64, 16, 66.8),
        ("seresnext50_32x4d", (3, 4, 6, 3), 32, 4, 16, 27.6),
        ("seresnext101_32x4d", (3, 4, 23, 3), 32, 4, 16, 49.0),
    ],
)
def test_resnext_and_senet_by_hand(name, depth, cardinality, width, reduction, printed, counts_of):
    params = counts_of(name).params
    assert params == resnext_by_hand(depth, cardinality, width, 1000, square(7, 3, 64), reduction)
    assert round(params / 1e6, 1) == printed


@pytest.mark.once
def test_resnext_for_cifar(counts_of):
    """Xie et al. 2017, section 5.3: 34.4 M and 68.1 M (68.155 cut off)."""
    for name, cardinality, printed in (("resnext29_8x64d", 8, 34.4), ("resnext29_16x64d", 16, 68.1)):
        params = counts_of(name).params
        assert params == resnext_by_hand((3, 3, 3), cardinality, 64, 10, square(3, 3, 64))
        assert math.floor(params / 1e5) / 10 == printed


@pytest.mark.once
def test_squeeze_and_excitation_with_the_stride_in_the_3x3(golden):
    reference = golden("model_counts.json")["timm"]["seresnet50"]
    assert counts(architectures.outline("seresnet50", stride_in="3x3")) == (reference["params"], reference["macs"])


@pytest.mark.once
@pytest.mark.parametrize(
    "name, depth, widening, printed",
    [
        ("wrn_16_4", 16, 4, 2.7),
        ("wrn_16_8", 16, 8, 11.0),
        ("wrn_22_8", 22, 8, 17.2),
        ("wrn_28_10", 28, 10, 36.5),
        ("wrn_40_4", 40, 4, 8.9),
    ],
)
def test_wide_resnet_by_hand(name, depth, widening, printed, counts_of):
    params, channels = 27 * 16, 16
    for filters in (16 * widening, 32 * widening, 64 * widening):
        for _ in range((depth - 4) // 6):
            params += 2 * channels + 9 * channels * filters + 2 * filters + 9 * filters**2
            params += channels * filters if channels != filters else 0
            channels = filters
    params += 2 * channels + 10 * channels + 10
    assert counts_of(name).params == params and round(params / 1e6, 1) == printed


@pytest.mark.once
@pytest.mark.parametrize("name, layers_, growth, bottleneck", [
    ("densenet40_12", 40, 12, False), ("densenet100_12", 100, 12, False),
    ("densenet_bc100_12", 100, 12, True), ("densenet_bc250_24", 250, 24, True),
])  # fmt: skip
def test_densenet_for_cifar_by_hand(name, layers_, growth, bottleneck, counts_of):
    k, channels = growth, 2 * growth if bottleneck else 16
    params = 27 * channels
    for block in (1, 2, 3):
        for _ in range((layers_ - 4) // (6 if bottleneck else 3)):
            inner = 4 * k if bottleneck else channels
            params += (2 * channels + channels * inner if bottleneck else 0) + 2 * inner + 9 * inner * k
            channels += k
        if block < 3:
            out = channels // 2 if bottleneck else channels
            params += 2 * channels + channels * out
            channels = out
    assert counts_of(name).params == params + 2 * channels + 10 * channels + 10


@pytest.mark.once
@pytest.mark.parametrize(
    "name, printed",
    [
        ("pyramidnet110_a48", 1.7), ("pyramidnet110_a84", 3.9), ("pyramidnet110_a270", 28.5),
        ("pyramidnet164_a270", 27.2), ("pyramidnet200_a240", 26.6),
    ],
)  # fmt: skip
def test_pyramidnet_by_hand(name, printed, counts_of):
    """The second, third and fourth are printed as 3.8, 28.3 and 27.0 M: see the file's docstring."""
    depth, alpha, bottleneck = pyramidnet.CONFIGURATIONS[name]
    params, channels = 27 * 16 + 32, 16
    blocks = (depth - 2) // (9 if bottleneck else 6) * 3
    for k in range(1, blocks + 1):
        c = 16 + math.floor(alpha * k / blocks + 1e-9)
        params += 2 * channels
        if bottleneck:
            params += channels * c + 2 * c + 9 * c * c + 2 * c + 4 * c * c + 8 * c
            channels = 4 * c
        else:
            params += 9 * channels * c + 2 * c + 9 * c * c + 2 * c
            channels = c
    params += 12 * channels + 10
    assert counts_of(name).params == params and round(params / 1e6, 1) == printed


def test_a_pyramid_grows_evenly_to_its_alpha():
    widths = pyramidnet.channels(110, 48)
    assert len(widths) == 54 and widths[-1] == 64 and set(np.diff([16, *widths])) == {0, 1}
    assert pyramidnet.channels(20, 9) == [17, 18, 19, 20, 21, 22, 23, 24, 25]


@pytest.mark.once
@pytest.mark.parametrize(
    "name, columns, printed",
    [
        ("fractalnet5_thin", 1, 0.3),
        ("fractalnet10_thin", 2, 0.8),
        ("fractalnet20_thin", 3, 2.1),
        ("fractalnet40_thin", 4, 4.8),
    ],
)  # fmt: skip
def test_fractalnet_by_hand(name, columns, printed):
    """Larsson et al. 2017, the study of depth, 100 classes."""
    filters = (16, 32, 64, 128, 128)
    first = sum(square(3, a, b) for a, b in zip((3, *filters), filters))
    further = sum(square(3, b, b) for b in filters)
    params = columns * first + (2**columns - 1 - columns) * further + 129 * 100
    assert counts(architectures.outline(name, classes=100))[0] == params and round(params / 1e6, 1) == printed


@pytest.mark.once
def test_inception_resnet_v1_by_hand(counts_of):
    """Figures 10 to 15; batch normalisation has beta only."""

    def chain(channels, *convolutions):
        total = 0
        for filters, area in convolutions:
            total += area * channels * filters + filters
            channels = filters
        return total

    params = chain(3, (32, 9), (32, 9), (64, 9), (80, 1), (192, 9), (256, 9))
    a = chain(256, (32, 1)) + chain(256, (32, 1), (32, 9)) + chain(256, (32, 1), (32, 9), (32, 9)) + 97 * 256
    params += 5 * a + chain(256, (384, 9)) + chain(256, (192, 1), (192, 9), (256, 9))  # 256 + 384 + 256 = 896
    b = chain(896, (128, 1)) + chain(896, (128, 1), (128, 7), (128, 7)) + 257 * 896
    params += 10 * b + chain(896, (256, 1), (384, 9)) + chain(896, (256, 1), (256, 9))
    params += chain(896, (256, 1), (256, 9), (256, 9))  # 896 + 384 + 256 + 256 = 1792
    params += 5 * (chain(1792, (192, 1)) + chain(1792, (192, 1), (192, 3), (192, 3)) + 385 * 1792)
    assert counts_of("inception_resnet_v1").params == params + 1793 * 1000
    model = architectures.outline("inception_resnet_v1")
    maps = {name: model.get_layer(name).output.shape[1:] for name in ("stage1_block5_relu", "stage2_block10_relu")}
    assert maps == {"stage1_block5_relu": (35, 35, 256), "stage2_block10_relu": (17, 17, 896)}
    assert model.get_layer("stage3_block5_add").output.shape[1:] == (8, 8, 1792)


@pytest.mark.once
@pytest.mark.parametrize("groups, printed", [(1, 143), (2, 140), (3, 137), (4, 133), (8, 137)])
def test_shufflenet_has_the_macs_of_its_table(groups, printed):
    """Zhang et al. 2018, table 1, in millions: without the classifier."""
    model = architectures.outline(f"shufflenet_v1_g{groups}", include_top=False)
    assert round(counts(model)[1] / 1e6) == printed
    assert model.output_shape[1:] == (7, 7, {1: 576, 2: 800, 3: 960, 4: 1088, 8: 1536}[groups])


# MobileNet

# Howard et al. 2017, table 1: (type, stride, channels out, size of the input); the last depthwise row with its true
# stride.
TABLE_1 = [("Conv2D", 2, 32, 224)]
for size, channels, stride, out in (
    (112, 32, 1, 64), (112, 64, 2, 128), (56, 128, 1, 128), (56, 128, 2, 256), (28, 256, 1, 256), (28, 256, 2, 512),
    *[(14, 512, 1, 512)] * 5, (14, 512, 2, 1024), (7, 1024, 1, 1024),
):  # fmt: skip
    TABLE_1 += [("DepthwiseConv2D", stride, channels, size), ("Conv2D", 1, out, size // stride)]


@pytest.mark.once
def test_mobilenet_is_table_1_row_by_row():
    model = architectures.outline("mobilenet")
    rows = [
        (type(layer).__name__, layer.strides[0], layer.output.shape[-1], layer.input.shape[1])
        for layer in model.layers
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)
    ]
    assert rows == TABLE_1
    # Table 2: where the cost is.
    table = arithmetic.layer_table(model)
    share = table.groupby("type")["macs"].sum() / table["macs"].sum()
    assert round(100 * share["DepthwiseConv2D"], 2) == 3.06
    pointwise = table[table["layer"].str.endswith("_pointwise")]
    assert round(100 * pointwise["macs"].sum() / table["macs"].sum(), 2) == 94.86
    kernels = {layer.name: math.prod(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel")}
    assert (
        round(100 * sum(v for k, v in kernels.items() if k.endswith("_pointwise")) / sum(kernels.values()), 2) == 74.59
    )


@pytest.mark.once
def test_the_misprinted_stride_would_leave_maps_of_four_pixels(monkeypatch):
    monkeypatch.setattr(mobilenet, "PAIRS", (*mobilenet.PAIRS[:-1], (1024, 2)))
    assert architectures.outline("mobilenet", include_top=False).output_shape[1:] == (4, 4, 1024)


def test_a_separable_convolution_is_a_convolution_of_rank_one_per_channel():
    """5x5x3 to 256 on 12x12, "same": 22.8 times fewer MACs."""
    x = layers.Input((12, 12, 3))
    standard = layers.Conv2D(256, 5, padding="same", use_bias=False)(x)
    y = layers.Conv2D(256, 1, use_bias=False)(layers.DepthwiseConv2D(5, padding="same", use_bias=False)(x))
    macs = [counts(keras.Model(x, out))[1] for out in (standard, y)]
    assert macs == [2_764_800, 121_392]
    net = keras.Model(x, mobilenet.separable(x, 4, 1, "block", activation=None))
    depthwise, pointwise = (net.get_layer(f"block_{name}") for name in ("depthwise", "pointwise"))
    data = random(1, 12, 12, 3)
    middle = np.stack(
        [correlate2d(data[0, :, :, c], numpy(depthwise.kernel)[:, :, c, 0], mode="same") for c in range(3)], axis=-1
    )
    scale = 1 / np.sqrt(1 + 1e-5)  # untrained batch normalisation
    expected = middle * scale @ numpy(pointwise.kernel)[0, 0] * scale
    np.testing.assert_allclose(numpy(net(data))[0], expected, rtol=1e-4, atol=1e-5)


def test_depthwise_filters_keep_the_variance():
    kernel = numpy(he_depthwise(3)((3, 3, 4096, 1)))
    assert abs(kernel.var() / (2 / 9) - 1) < 0.02
    x = np.maximum(random(1, 16, 16, 512), 0)
    net = keras.Sequential([layers.DepthwiseConv2D(3, depthwise_initializer=he_depthwise(3)), layers.ReLU()])
    assert 0.6 < float((numpy(net(x)) ** 2).mean() / (x**2).mean()) < 1.6


@pytest.mark.parametrize("strides, channels, shortcut", [(1, 8, True), (2, 8, False), (1, 16, False)])
def test_an_inverted_residual_is_wide_inside_and_linear_at_its_end(strides, channels, shortcut):
    x = layers.Input((8, 8, 8))
    net = keras.Model(x, mobilenet_v2.inverted_residual(x, 48, channels, strides, "block", activation="relu6"))
    assert net.output_shape[1:] == (8 // strides, 8 // strides, channels)
    assert net.get_layer("block_depthwise").output.shape[-1] == 48
    assert ("block_add" in [layer.name for layer in net.layers]) == shortcut
    data = random(2, 8, 8, 8)
    assert numpy(net(data)).min() < 0  # no activation behind the projection
    net.get_layer("block_project").set_weights([np.zeros((1, 1, 48, channels))])
    np.testing.assert_array_equal(numpy(net(data)), data if shortcut else 0)


def test_channels_are_rounded_to_eight_but_not_far_down():
    assert [mobilenet_v2.divisible(v) for v in (3, 8, 11, 12, 16.8, 33.6, 1280)] == [8, 8, 16, 16, 16, 32, 1280]
    # 8 would be more than a tenth below 11: hence 16.


def test_squeeze_and_excitation_scales_whole_channels():
    x = layers.Input((4, 4, 6))
    net = keras.Model(x, squeeze_excite(x, 2, "se"))
    data = random(3, 4, 4, 6)
    weights = numpy(net(data)) / data
    np.testing.assert_allclose(weights, np.broadcast_to(weights[:, :1, :1], weights.shape), rtol=1e-4)
    w1, b1, w2, b2 = (numpy(w) for w in net.weights)
    hidden = np.maximum(data.mean(axis=(1, 2)) @ w1[0, 0] + b1, 0)
    np.testing.assert_allclose(weights[:, 0, 0], 1 / (1 + np.exp(-(hidden @ w2[0, 0] + b2))), rtol=1e-4)
    assert (weights > 0).all() and (weights < 1).all()


# ShuffleNet


def test_a_channel_shuffle_is_the_permutation_of_the_paper():
    x = np.broadcast_to(np.arange(12, dtype="float32"), (2, 3, 3, 12))
    y = numpy(shufflenet.ChannelShuffle(3)(x))
    assert y[1, 2, 0].tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    np.testing.assert_array_equal(numpy(shufflenet.ChannelShuffle(4)(y)), x)  # n groups undo g groups of n
    with pytest.raises(ValueError, match="12 channels do not divide into 5 groups"):
        shufflenet.ChannelShuffle(5)(x)


def test_without_the_shuffle_a_group_would_not_see_the_others():
    """Changing the first group of the input changes all groups of the second grouped convolution."""
    x = layers.Input((4, 4, 6))
    y = layers.Conv2D(6, 1, groups=3, use_bias=False)(x)
    apart = keras.Model(x, layers.Conv2D(6, 1, groups=3, use_bias=False)(y))
    mixed = keras.Model(x, layers.Conv2D(6, 1, groups=3, use_bias=False)(shufflenet.ChannelShuffle(3)(y)))
    data, other = random(1, 4, 4, 6), random(1, 4, 4, 6)
    other[..., :2] += 1
    for net, reached in ((apart, 2), (mixed, 4)):
        changed = np.abs(numpy(net(data)) - numpy(net(other))).max(axis=(0, 1, 2)) > 1e-6
        # Two channels a group: the shuffle carries the first group's two channels into groups 0 and 1.
        assert changed.sum() == reached


def test_half_of_the_channels_of_shufflenet_v2_pass_by():
    x = layers.Input((4, 4, 8))
    net = keras.Model(x, shufflenet.unit_v2(x, 8, 1, "block"))
    data = random(2, 4, 4, 8)
    np.testing.assert_array_equal(numpy(net(data))[..., ::2], data[..., :4])


# DenseNet, Xception, ResNeXt


def test_a_dense_layer_adds_k_maps_to_all_it_got():
    x = layers.Input((4, 4, 5))
    y = x
    for number in range(1, 4):
        assert y.shape[-1] == 5 + 3 * (number - 1)  # k0 + k (l - 1)
        y = densenet.dense_layer(y, 3, True, 0.0, f"layer{number}")
    net = keras.Model(x, y)
    data = random(2, 4, 4, 5)
    assert net.output_shape[-1] == 14
    np.testing.assert_array_equal(numpy(net(data))[..., :5], data)
    assert net.get_layer("layer2_conv1").output.shape[-1] == 12  # the bottleneck, 4k


@pytest.mark.once
def test_densenet_121_has_the_channels_of_its_table(outline_of):
    model = outline_of("densenet121")
    ends = [f"stage{stage}_layer{count}_concat" for stage, count in enumerate((6, 12, 24, 16), 1)]
    shapes = [model.get_layer(name).output.shape[1:] for name in ends]
    assert shapes == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 1024)]


def test_a_grouped_bottleneck_is_the_sum_of_its_paths():
    """Figure 3, a and c: C paths of d channels, each with its own three convolutions."""
    x = layers.Input((6, 6, 16))
    net = keras.Model(x, resnext.grouped(4, 8)(x, 32, 1, "block"))
    assert net.get_layer("block_conv2").kernel.shape == (3, 3, 4, 16)
    first, second, third = (numpy(net.get_layer(f"block_conv{i}").kernel) for i in (1, 2, 3))
    data, scale = random(1, 6, 6, 16), 1 / np.sqrt(1 + 1e-5)
    total = 0
    for path in range(4):
        own = slice(4 * path, 4 * path + 4)
        y = np.maximum(data[0] @ first[0, 0][:, own] * scale, 0)
        z = np.stack([sum(correlate2d(y[..., i], second[:, :, i, o], "same") for i in range(4))
                      for o in range(4 * path, 4 * path + 4)], axis=-1)  # fmt: skip
        total = total + np.maximum(z * scale, 0) @ third[0, 0][own] * scale
    branch = keras.Model(x, net.get_layer("block_conv3_bn").output)
    np.testing.assert_allclose(numpy(branch(data))[0], total, rtol=1e-3, atol=1e-4)


def test_xception_has_34_separable_of_36_convolutions(outline_of):
    kinds = [type(layer).__name__ for layer in outline_of("xception").layers]
    assert kinds.count("SeparableConv2D") == 34
    x = layers.Input((8, 8, 4))
    net = keras.Model(x, xception.module(x, (4, 4, 4), 1, "block"))
    net.get_layer("block_conv3_bn").set_weights([np.zeros(4), np.zeros(4), np.zeros(4), np.ones(4)])
    np.testing.assert_array_equal(numpy(net(random(1, 8, 8, 4))), random(1, 8, 8, 4))


# SqueezeNet


def test_fire_modules_and_bypass():
    model = architectures.outline("squeezenet1_0", bypass=True)
    adds = [layer.name for layer in model.layers if isinstance(layer, layers.Add)]
    assert adds == ["fire3_bypass", "fire5_bypass", "fire7_bypass", "fire9_bypass"]
    assert model.count_params() == architectures.outline("squeezenet1_0").count_params()
    at_227 = architectures.outline("squeezenet1_0", input_shape=(227, 227, 3))
    sizes = [at_227.get_layer(name).output.shape[1] for name in ("conv1", "pool1", "pool4", "pool8")]
    assert sizes == [111, 55, 27, 13]  # table 1, at the size that it needs


# FractalNet


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_a_fractal_is_two_fractals_beside_a_convolution(columns):
    x = layers.Input((4, 4, 2))
    net = keras.Model(x, fractalnet.fractal(x, 3, columns, "block"))
    convolutions = [layer for layer in net.layers if isinstance(layer, layers.Conv2D)]
    assert len(convolutions) == 2**columns - 1
    joins = [layer for layer in net.layers if isinstance(layer, layers.Average)]
    assert len(joins) == (2 ** (columns - 1)) // 2 and (columns == 1 or len(joins[-1].input) == columns)
    depth = {x._keras_history.operation: 0}
    for layer in net.layers[1:]:
        before = layer.input if isinstance(layer.input, list) else [layer.input]
        depth[layer] = max(depth[y._keras_history.operation] for y in before) + isinstance(layer, layers.Conv2D)
    assert depth[net.layers[-1]] == 2 ** (columns - 1)


def test_drop_path_keeps_one_input_at_least():
    join, paths = fractalnet.Join(0.9, seed=1), np.zeros((2000, 3), "float32")
    kept = numpy(join.draw(paths, 3))
    assert set(np.unique(kept)) == {0, 1} and (kept.sum(axis=1) >= 1).all()
    # One alone: all three dropped (.9^3) and one brought back, or two dropped (3 * .1 * .81).
    assert abs((kept.sum(axis=1) == 1).mean() - (0.729 + 0.243)) < 0.02
    assert np.abs(kept.mean(axis=0) - kept.mean()).max() < 0.03
    half = numpy(fractalnet.Join(0.5, seed=1).draw(paths, 3))
    assert abs(half.mean() - (0.5 + 0.125 / 3)) < 0.03


def test_a_join_takes_the_mean_of_what_is_left():
    tensors = [np.full((3, 2, 2, 1), value, "float32") for value in (1, 2, 6)]
    paths = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1]], "float32")
    join = fractalnet.Join(0.0)
    np.testing.assert_allclose(numpy(join([paths, *tensors], training=True))[:, 0, 0, 0], [3, 2, 6])
    np.testing.assert_allclose(numpy(join([paths, *tensors], training=False)), 3)
    # The global path of the shortest column does not come through a join of the others.
    shortest = np.array([[1, 0, 0]] * 3, "float32")
    np.testing.assert_allclose(numpy(join([shortest, *tensors[1:]], training=True)), 4)


def test_global_drop_path_keeps_one_column_for_half_of_the_images():
    layer = fractalnet.GlobalPath(4, seed=0)
    drawn = numpy(layer(np.zeros((2000, 1, 1, 1), "float32"), training=True))
    assert set(drawn.sum(axis=1)) == {0, 1} and abs(drawn.sum(axis=1).mean() - 0.5) < 0.05
    assert np.abs(drawn.mean(axis=0) - 0.125).max() < 0.03
    assert not numpy(layer(np.zeros((5, 1, 1, 1), "float32"), training=False)).any()


def test_a_column_by_itself_is_what_global_drop_path_trains():
    options = {"classes": 3, "width": 0.25}
    whole = architectures.build("fractalnet10_thin", **options)
    data = random(4, 32, 32, 3)
    for column, depth in ((0, 5), (1, 10)):
        alone = architectures.build("fractalnet10_thin", column=column, **options)
        assert sum(isinstance(layer, layers.Conv2D) for layer in alone.layers) == depth
        for layer in alone.layers:
            layer.set_weights(whole.get_layer(layer.name).get_weights())
        chosen = np.eye(2, dtype="float32")[[column] * 4]
        joined = through(whole, data, chosen)
        np.testing.assert_allclose(joined, numpy(alone(data)), rtol=1e-4, atol=1e-5)


def through(model, data, paths):
    """The net's logits with these paths in its joins, everything else as in inference."""
    values = {}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            values[layer.name] = ops.convert_to_tensor(data)
        elif isinstance(layer, fractalnet.GlobalPath):
            values[layer.name] = ops.convert_to_tensor(paths)
        else:
            before = layer.input if isinstance(layer.input, list) else [layer.input]
            given = [values[x._keras_history.operation.name] for x in before]
            if isinstance(layer, fractalnet.Join):
                values[layer.name] = layer(given, training=True)
            else:
                values[layer.name] = layer(given[0] if len(given) == 1 else given)
    return numpy(values[model.layers[-1].name])


# Small images and bad input


@pytest.mark.once
@pytest.mark.parametrize(
    "name, options",
    [
        *((name, {"stem_stride": 1}) for name in (
            "densenet121", "mobilenet", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
            "shufflenet_v1_g3", "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "xception")),
        *((name, {"stem": "3x3"}) for name in ("wide_resnet50_2", "resnext50_32x4d", "seresnet50")),
        *((name, {}) for name in ("mobilenet", "mobilenet_v2", "mobilenet_v3_large", "densenet121", "seresnet50")),
    ],
)  # fmt: skip
def test_small_images_of_ten_classes(name, options):
    model = architectures.outline(name, input_shape=(32, 32, 3), classes=10, **options)
    assert model.output_shape == (None, 10)
    last = architectures.outline(name, input_shape=(32, 32, 3), include_top=False, **options).output_shape
    assert last[1] == last[2] and last[1] >= (2 if options else 1)


@pytest.mark.once
@pytest.mark.parametrize(
    "name, options, message",
    [
        ("densenet121", {"input_shape": (16, 16, 3)}, "densenet121 needs an image of 32x32 or more, not 16x16"),
        ("inception_resnet_v2", {"input_shape": (64, 64, 3)}, "needs an image of 75x75 or more, not 64x64"),
        ("xception", {"input_shape": (64, 64, 3)}, "needs an image of 71x71 or more, not 64x64"),
        ("squeezenet1_0", {"input_shape": (16, 16, 3)}, "needs an image of 23x23 or more"),
        ("fractalnet20", {"input_shape": (16, 16, 3)}, "needs an image of 32x32 or more"),
        ("fractalnet20", {"column": 3}, "has the columns 0 to 2, not 3"),
        ("pyramidnet110_a48", {"depth": 21}, "depth is 6n \\+ 2, not 21"),
        ("wrn_28_10", {"depth": 30}, "depth is 6n \\+ 4, not 30"),
        ("resnext50_32x4d", {"stride_in": "5x5"}, "stride_in is '1x1' or '3x3', not '5x5'"),
    ],
)
def test_bad_input_is_told_in_one_line(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        architectures.outline(name, **options)
    assert "\n" not in str(caught.value)


# keras.applications


def shallow(name, monkeypatch):
    """Makes Keras's network of this name shallow where it repeats a block many times; gives our options for the same.

    What its full depth holds is compared by counts and shapes, in test_architectures.py.
    """
    module = sys.modules[getattr(keras.applications, architectures.describe(name).application).__module__]
    if name == "densenet121":
        whole = module.DenseNet
        monkeypatch.setattr(module, "DenseNet", lambda blocks, *rest, **options: whole([2, 2, 2, 2], *rest, **options))
        return {"blocks": (2, 2, 2, 2)}
    if name == "inception_resnet_v2":
        block = module.inception_resnet_block

        def first_or_last(x, scale, block_type, block_idx, activation="relu"):
            kept = block_idx == 1 or activation is None
            return block(x, scale, block_type, block_idx, activation) if kept else x

        monkeypatch.setattr(module, "inception_resnet_block", first_or_last)
        return {"blocks": (1, 1, 2)}
    return {}


@pytest.mark.parametrize(
    "name, size",
    [
        ("mobilenet_x0_25", 64),
        ("mobilenet_v2_x0_35", 64),
        ("mobilenet_v3_small_x0_75", 64),
        pytest.param("densenet121", 64, marks=pytest.mark.once),
        pytest.param("xception", 71, marks=pytest.mark.once),
        pytest.param("inception_resnet_v2", 75, marks=pytest.mark.once),
    ],
)
def test_weights_of_keras_give_the_outputs_of_keras(name, size, monkeypatch):
    entry, options = architectures.describe(name), shallow(name, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(keras.applications, entry.application)(
            include_top=True, weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None,
            **entry.application_arguments,
        )  # fmt: skip
    draw = np.random.default_rng(0)
    for layer in theirs.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([draw.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    ours = architectures.build(name, (size, size, 3), classes=10, **options)
    assert ours.count_params() == theirs.count_params()
    architectures.copy_weights(theirs, ours)
    x = random(1, size, size, 3)
    expected = numpy(theirs(x, training=False))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(numpy(ours(x, training=False)), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


WEIGHTS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
HOME = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / WEIGHTS


@pytest.mark.skipif(not HOME.exists(), reason=f"no ImageNet weights of MobileNetV2 at {HOME}")
def test_imagenet_weights_of_mobilenet_v2_on_a_photograph():
    from skimage import data
    from skimage.transform import resize

    photograph = resize(data.chelsea(), (224, 224)).astype("float32")[None] * 2 - 1
    ours = architectures.build("mobilenet_v2", weights="imagenet")
    theirs = keras.applications.MobileNetV2(weights="imagenet", classifier_activation=None)
    scores, expected = (numpy(model(photograph, training=False)) for model in (ours, theirs))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)
    assert scores.argmax() in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
