"""Convolution arithmetic against PyTorch's values, slow definitions, and what networks of Keras really see."""

import math
import re

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from utils import arithmetic

pytestmark = pytest.mark.once

sizes = st.integers(1, 40)
filters = st.integers(1, 9)
strides = st.integers(1, 5)
paddings = st.integers(0, 6)
dilations = st.integers(1, 4)


def or_none(function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except ValueError:
        return None


def positions(n, f, s, p, d):
    """Every place at which the filter lies on the padded input, found by trying."""
    return [at for at in range(0, n + 2 * p, s) if at + d * (f - 1) < n + 2 * p]


# Sizes


def test_sizes_of_convolutions_agree_with_pytorch(golden):
    rows = golden("conv_arithmetic.json")["conv"]
    assert len(rows) == 800 and any(row[-1] is None for row in rows)
    assert [row for row in rows if or_none(arithmetic.output_size, *row[:5]) != row[5]] == []


def test_sizes_of_pools_agree_with_pytorch(golden):
    rows = golden("conv_arithmetic.json")["pool"]
    assert len(rows) == 480 and any(row[-1] is None for row in rows)
    assert [row for row in rows if or_none(arithmetic.output_size, *row[:4], ceil=bool(row[4])) != row[5]] == []


def test_sizes_of_transposed_convolutions_agree_with_pytorch(golden):
    rows = golden("conv_arithmetic.json")["transposed"]
    assert len(rows) == 1600 and any(row[-1] is None for row in rows)
    assert [row for row in rows if or_none(arithmetic.transposed_output_size, *row[:6]) != row[6]] == []


@given(sizes, filters, strides, paddings, dilations)
def test_output_size_counts_the_positions(n, f, s, p, d):
    assert (or_none(arithmetic.output_size, n, f, s, p, d) or 0) == len(positions(n, f, s, p, d))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((32, 5, 2, 1), 15),  # 29 / 2 is not whole: 15, not the 16 of a formula that rounds up
        ((5, 3, 2, 1), 3),  # here both agree
        ((227, 11, 4), 55),
        ((224, 11, 4), 54),
        ((5, 3, 2), 2),
        ((32, 5), 28),
        ((5, 3, 2, "valid"), 2),
        ((5, 3, 2, "same"), 3),
        ((6, 3, 2, "same"), 3),
        ((2, 7, 1, "same"), 2),
        ((7, 3, 1, 0, 2), 3),
    ],
)
def test_output_sizes_worked_by_hand(arguments, expected):
    assert arithmetic.output_size(*arguments) == expected


def test_a_pool_that_rounds_up_places_one_window_more_but_none_in_the_padding():
    assert arithmetic.output_size(6, 3, 2) == 2
    assert arithmetic.output_size(6, 3, 2, ceil=True) == 3
    assert arithmetic.output_size(5, 2, 2, 1, ceil=True) == 3  # a fourth window would start in the padding
    assert arithmetic.output_size(5, 7, 3, ceil=True) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 12, 1, 1), "kernel 12 does not fit an input of 8 with padding 1"),
        ((8, 4, 1, 0, 3), "kernel 4 with dilation 3 does not fit an input of 8 with padding 0"),
        ((8, 3, 0), "stride must be at least 1, got 0"),
        ((8, 3, 1, -1), "padding must be at least 0, got -1"),
        ((8, 3, 1, "full"), "padding must be a whole number, 'valid' or 'same', got 'full'"),
        ((8.5, 3), "input must be a whole number, got 8.5"),
        ((0, 3, 1, "same"), "input must be at least 1, got 0"),
        ((8, 3, 1, 0, 0), "dilation must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_said(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        arithmetic.output_size(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 3, 2, 0, 1, 2), "output padding 2 must be smaller than the stride 2 or the dilation 1"),
        ((1, 1, 1, 1), "padding 1 leaves nothing of an input of 1 with kernel 1 and stride 1"),
        ((5, 3, 2, "same"), "under padding 'same' the size is n * s; here, pass a whole number or 'valid'"),
    ],
)
def test_transposed_sizes_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        arithmetic.transposed_output_size(*arguments)


@given(sizes, filters, strides, paddings, dilations)
def test_a_transposed_convolution_leads_back(n, f, s, p, d):
    m = or_none(arithmetic.output_size, n, f, s, p, d)
    assume(m is not None)
    left_over = n + 2 * p - d * (f - 1) - 1 - (m - 1) * s  # pixels that the last position does not reach
    assert arithmetic.transposed_output_size(m, f, s, p, d, left_over) == n
    assert 0 <= left_over < s


@given(sizes, filters, strides, paddings, dilations, st.integers(0, 3))
def test_a_convolution_leads_back_from_a_transposed_one(n, f, s, p, d, extra):
    size = or_none(arithmetic.transposed_output_size, n, f, s, p, d, extra)
    assume(size is not None and extra < s)
    assert arithmetic.output_size(size, f, s, p, d) == n


@given(sizes, filters, strides, dilations)
def test_same_padding_gives_n_over_s_positions_and_no_zero_too_many(n, f, s, d):
    before, after = arithmetic.same_padding(n, f, s, d)
    reached = (
        (math.ceil(n / s) - 1) * s + d * (f - 1) + 1
    )  # pixels from the first position's start to the last one's end
    assert 0 <= after - before <= 1
    assert before + after == max(reached - n, 0)
    assert arithmetic.output_size(n, f, s, "same", d) == math.ceil(n / s)


# Values


def loops(x, kernel, s, p, d, groups):
    """The definition: for every position and every filter, a sum of products."""
    x = np.pad(x, ((p, p), (p, p), (0, 0)))
    kh, kw, depth, number = kernel.shape
    h, w = ((n - d * (k - 1) - 1) // s + 1 for n, k in zip(x.shape, (kh, kw)))
    y = np.zeros((h, w, number), x.dtype)
    for i, j, k in np.ndindex(h, w, number):
        group = k // (number // groups)
        for a, b, c in np.ndindex(kh, kw, depth):
            y[i, j, k] += x[i * s + a * d, j * s + b * d, group * depth + c] * kernel[a, b, c, k]
    return y


def test_values_of_convolutions_agree_with_pytorch(golden):
    arrays = golden("conv_values.npz")
    names = [name[:-1] for name in arrays if re.fullmatch(r"c\d+_conv\d+_x", name)]
    assert len(names) == 10
    for name in names:
        s, p, d, groups = arrays[name + "stride_padding_dilation_groups"]
        y = arithmetic.conv2d(arrays[name + "x"], arrays[name + "kernel"], s, p, d, groups)
        np.testing.assert_array_equal(y, arrays[name + "y"], name)


def test_values_of_transposed_convolutions_agree_with_pytorch(golden):
    arrays = golden("conv_values.npz")
    names = [name[:-1] for name in arrays if re.fullmatch(r"c\d+_tconv\d+_x", name)]
    assert len(names) == 8
    for name in names:
        s, p, d, extra = arrays[name + "stride_padding_dilation_outputpadding"]
        y = arithmetic.conv2d_transpose(arrays[name + "x"], arrays[name + "kernel"], s, p, d, extra)
        np.testing.assert_array_equal(y, arrays[name + "y"], name)


@st.composite
def convolutions(draw, groups=(1, 2, 3)):
    """(x, kernel, s, p, d, groups) that fit, of small whole numbers."""
    h, w, kh, kw = (draw(st.integers(1, 7)) for _ in range(4))
    s, p, d, parts = (
        draw(st.integers(1, 3)),
        draw(st.integers(0, 3)),
        draw(st.integers(1, 2)),
        draw(st.sampled_from(groups)),
    )
    assume(or_none(arithmetic.output_size, h, kh, s, p, d) and or_none(arithmetic.output_size, w, kw, s, p, d))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    depth, number = rng.integers(1, 3, 2)
    x = rng.integers(-4, 5, (h, w, depth * parts))
    return x, rng.integers(-4, 5, (kh, kw, depth, number * parts)), s, p, d, parts


@given(convolutions())
def test_conv2d_is_the_sum_of_products(case):
    np.testing.assert_array_equal(arithmetic.conv2d(*case), loops(*case))


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize(("f", "s", "d"), [(3, 1, 1), (3, 2, 1), (2, 2, 1), (5, 3, 1), (4, 1, 2)])
def test_same_padding_is_that_of_keras(n, f, s, d):
    rng = np.random.default_rng(n)
    x, kernel = rng.integers(-3, 4, (1, n, n, 2)), rng.integers(-3, 4, (f, f, 2, 3))
    y = ops.conv(x.astype("float32"), kernel.astype("float32"), s, "same", "channels_last", d)
    np.testing.assert_allclose(arithmetic.conv2d(x, kernel, s, "same", d), ops.convert_to_numpy(y), atol=1e-4)


def test_transposed_convolution_is_that_of_keras():
    rng = np.random.default_rng(0)
    x, kernel = rng.integers(-3, 4, (1, 4, 5, 2)), rng.integers(-3, 4, (3, 4, 6, 2))
    y = ops.conv_transpose(x.astype("float32"), kernel.astype("float32"), 2, "valid", data_format="channels_last")
    np.testing.assert_allclose(arithmetic.conv2d_transpose(x, kernel, 2), ops.convert_to_numpy(y), atol=1e-4)


def test_a_grey_image_and_batches():
    rng = np.random.default_rng(0)
    image, kernel = rng.integers(0, 9, (6, 5)), rng.integers(0, 9, (3, 2))
    np.testing.assert_array_equal(
        arithmetic.conv2d(image, kernel), loops(image[..., None], kernel[..., None, None], 1, 0, 1, 1)[..., 0]
    )
    batch = rng.integers(0, 9, (2, 3, 6, 5, 4))
    kernel = rng.integers(0, 9, (3, 2, 4, 7))
    y = arithmetic.conv2d(batch, kernel, 2, 1)
    assert y.shape == (2, 3, 3, 3, 7) and y.dtype == batch.dtype
    np.testing.assert_array_equal(y[1, 2], arithmetic.conv2d(batch[1, 2], kernel, 2, 1))


@pytest.mark.parametrize(
    ("x", "kernel", "groups", "message"),
    [
        ((5, 5, 3), (3, 3, 2, 4), 1, "a kernel of shape (3, 3, 2, 4) in 1 groups does not go with 3 channels"),
        ((5, 5, 4), (3, 3, 2, 3), 2, "a kernel of shape (3, 3, 2, 3) in 2 groups does not go with 4 channels"),
        ((5, 5, 3), (3, 3), 1, "expected (..., H, W, C) and (kh, kw, C / groups, K), got (5, 5, 3) and (3, 3)"),
        ((5, 5, 3), (6, 3, 3, 1), 1, "kernel 6 does not fit an input of 5 with padding 0"),
    ],
)
def test_shapes_that_do_not_go_together(x, kernel, groups, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        arithmetic.conv2d(np.zeros(x), np.zeros(kernel), groups=groups)


def test_transposed_shapes_that_do_not_go_together():
    with pytest.raises(ValueError, match=r"^expected \(\.\.\., H, W, C\) and \(kh, kw, K, C\), got"):
        arithmetic.conv2d_transpose(np.zeros((5, 5, 3)), np.zeros((3, 3, 3, 4)))


# The matrix


@given(convolutions(groups=(1,)))
def test_the_matrix_convolves_and_its_transpose_is_the_transposed_convolution(case):
    x, kernel, s, p, d, _ = case
    matrix = arithmetic.convolution_matrix(kernel, x.shape, s, p, d)
    y = arithmetic.conv2d(x, kernel, s, p, d)
    np.testing.assert_array_equal(matrix @ x.ravel(), y.ravel())
    # Back from y: what the last position did not reach gets rows of zeros, the output padding, one size for each axis.
    back = arithmetic.conv2d_transpose(y, kernel, s, 0, d)
    full = np.zeros([n + 2 * p for n in x.shape[:2]] + [x.shape[2]], int)
    full[: back.shape[0], : back.shape[1]] = back
    np.testing.assert_array_equal(matrix.T @ y.ravel(), full[p : p + x.shape[0], p : p + x.shape[1]].ravel())


def test_the_matrix_written_out():
    matrix = arithmetic.convolution_matrix(np.array([[1, 2]]), (2, 3))
    np.testing.assert_array_equal(
        matrix, [[1, 2, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [0, 0, 0, 1, 2, 0], [0, 0, 0, 0, 1, 2]]
    )
    padded_after = arithmetic.convolution_matrix(np.array([[5, 6, 7]]), (1, 4), 2, "same")
    np.testing.assert_array_equal(padded_after, [[5, 6, 7, 0], [0, 0, 5, 6]])


def test_the_worked_example_of_the_lecture():
    kernel = np.array([[1, 4, 1], [1, 4, 3], [3, 3, 1]])
    matrix = arithmetic.convolution_matrix(kernel, (4, 4))
    assert matrix.shape == (4, 16) and matrix.dtype == kernel.dtype
    back = matrix.T @ [2, 1, 4, 4]
    assert back.tolist() == [2, 9, 6, 1, 6, 29, 30, 7, 10, 29, 33, 13, 12, 24, 16, 4]
    np.testing.assert_array_equal(back.reshape(4, 4), arithmetic.conv2d_transpose(np.array([[2, 1], [4, 4]]), kernel))


@pytest.mark.parametrize(("kernel", "shape"), [((3, 3), (4, 4, 1)), ((3, 3, 1, 1), (4, 4)), ((3,), (4,))])
def test_a_kernel_of_other_rank_than_the_input_is_refused(kernel, shape):
    with pytest.raises(ValueError, match="does not go with an input of shape"):
        arithmetic.convolution_matrix(np.zeros(kernel), shape)


# Receptive fields of chains


NETS = ["alexnet_paper", "alexnet_torchvision", "vgg16", "resnet50_v1", "resnet50_v1.5"]
FIELD = ["size", "jump", "start"]


@pytest.mark.parametrize("name", NETS)
def test_chains_agree_with_the_golden_nets(golden, name):
    net = golden("receptive_field.json")[name]
    table = arithmetic.receptive_field_chain(
        [(layer["kernel"], layer["stride"], layer["padding"]) for layer in net["layers"]], net["input"]
    )
    expected = [[layer["receptive_field"], layer["jump"], layer["start"]] for layer in net["layers"]]
    assert table[FIELD].to_numpy().tolist() == expected
    # Pixels that a unit of the last layer was seen to depend on.
    size, jump, start = table[FIELD].iloc[-1]
    for seen in net["measured"].values():
        left = start + seen["unit"] * jump - size / 2
        assert (seen["first"], seen["last"] + 1) == (left, left + size)


def test_small_chains():
    def sizes_of(chain):
        return arithmetic.receptive_field_chain(chain)["size"].tolist()

    assert sizes_of([(3,)] * 3) == [3, 5, 7]
    assert sizes_of([(3, 1, 0, d) for d in (1, 2, 4, 8)]) == [3, 7, 15, 31]
    assert sizes_of([(3, 2), (3, 2), (1,)]) == [3, 7, 7]


def test_same_padding_in_a_chain():
    # 8 pixels at stride 2: no zero before, one after; 7: one before, one after.
    assert arithmetic.receptive_field_chain([(3, 2, "same")], 8)["start"].tolist() == [1.5]
    assert arithmetic.receptive_field_chain([(3, 2, "same")], 7)["start"].tolist() == [0.5]
    assert arithmetic.receptive_field_chain([(3, 1, "same"), (5, 1, "same", 2)])["start"].tolist() == [0.5, 0.5]
    assert arithmetic.receptive_field_chain([(3, 2, "same"), (3, 2, "same")], 8)["output"].tolist() == [4, 2]
    with pytest.raises(ValueError, match=r"^padding 'same' at stride 2 depends on the input size: pass n$"):
        arithmetic.receptive_field_chain([(3, 2, "same")])


def test_chains_that_cannot_be():
    with pytest.raises(ValueError, match=r"^kernel 3 does not fit an input of 2 with padding 0$"):
        arithmetic.receptive_field_chain([(3, 2), (3,)], 5)
    with pytest.raises(ValueError, match=r"^expected \(kernel, stride, padding, dilation\)"):
        arithmetic.receptive_field_chain([(3, 1, 0, 1, 1)])


# Receptive fields of models


def ones(kind, *arguments, **keywords):
    return kind(*arguments, kernel_initializer="ones", use_bias=False, **keywords)


def support(model):
    """first[u], last[u] for every unit of a linear one-dimensional model with positive weights: the pixels it depends
    on.
    """
    n = model.input_shape[1]
    y = ops.convert_to_numpy(
        model(np.eye(n, dtype="float32")[..., None])
    )  # (n, units, channels), one pixel set in each
    touched = np.abs(y).sum(axis=-1).T > 1e-6  # (units, n)
    first = [int(np.flatnonzero(row)[0]) if row.any() else None for row in touched]
    last = [int(np.flatnonzero(row)[-1]) if row.any() else None for row in touched]
    return first, last


LAYERS = {
    "conv": lambda f, s, p, d: ones(layers.Conv1D, 1, f, s if d == 1 else 1, p, dilation_rate=d),
    "pool": lambda f, s, p, d: layers.AveragePooling1D(f, s, p),
    "pad": lambda f, s, p, d: layers.ZeroPadding1D((f - 1, s)),
    "crop": lambda f, s, p, d: layers.Cropping1D((s - 1, d)),
    "separable": lambda f, s, p, d: layers.SeparableConv1D(
        1, f, s, p, depthwise_initializer="ones", pointwise_initializer="ones", use_bias=False
    ),
    "causal": lambda f, s, p, d: ones(layers.Conv1D, 1, f, 1, "causal", dilation_rate=d),
}
UP = {
    "up": lambda f, s, p, d: layers.UpSampling1D(s),
    "transposed": lambda f, s, p, d: ones(layers.Conv1DTranspose, 1, f + s - 1, s, p),
}


@st.composite
def chains(draw, kinds):
    """A chain of layers on 64 pixels, as (kind, f, s, padding, d)."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(sorted(kinds)),
                st.integers(1, 4),
                st.integers(1, 3),
                st.sampled_from(["valid", "same"]),
                st.integers(1, 2),
            ),
            min_size=1,
            max_size=4,
        )
    )


def build(chain, n=64):
    x = inputs = keras.Input((n, 1))
    for kind, f, s, p, d in chain:
        try:
            x = (LAYERS | UP)[kind](f, s, p, d)(x)
        except ValueError:  # nothing is left
            assume(False)
        assume(0 < x.shape[1] < 800)
    return keras.Model(inputs, x)


def inner(first, last, start, jump, size, units, n, margin):
    """Units whose theoretical field lies inside the image."""
    return [
        u for u in range(units) if margin <= start + u * jump - size / 2 and start + u * jump + size / 2 <= n - margin
    ]


@settings(max_examples=60)
@given(chains(LAYERS))
def test_fields_are_the_pixels_that_a_net_depends_on(chain):
    model = build(chain)
    size, jump, start = arithmetic.receptive_fields(model)[FIELD].iloc[-1]
    first, last = support(model)
    for u, (a, b) in enumerate(zip(first, last)):
        left = start + u * jump - size / 2
        # Near the border less may be seen: the zeros of the padding stand for nothing.
        assert a is None or (left <= a and b + 1 <= left + size)
    margin = 2 * 4 * jump if any(kind == "crop" for kind, *_ in chain) else 0
    for u in inner(first, last, start, jump, size, len(first), 64, margin):
        left = start + u * jump - size / 2
        assert (first[u], last[u] + 1) == (left, left + size)


@settings(max_examples=60)
@given(chains(LAYERS | UP))
def test_fields_behind_upsampling_are_the_largest_and_step_by_the_jump(chain):
    model = build(chain)
    size, jump, start = arithmetic.receptive_fields(model)[FIELD].iloc[-1]
    first, last = support(model)
    seen = [  # units that see something, far from the borders
        u for u, a in enumerate(first) if a is not None and a > 12 * max(jump, 1) and last[u] < 63 - 12 * max(jump, 1)
    ]
    assume(len(seen) > 8)
    widths = {last[u] - first[u] + 1 for u in seen}
    assert max(widths) <= size
    period = math.prod(s for kind, _, s, _, _ in chain if kind in UP)
    if len(seen) >= 2 * period:
        assert max(widths) == size
    for u in seen:
        if u + period in seen:
            assert first[u + period] - first[u] == last[u + period] - last[u] == round(jump * period)
        if u % period == 0:  # these see what unit 0 sees, further on
            assert (first[u] + last[u] + 1) / 2 == pytest.approx(start + u * jump)


def test_a_model_gives_what_the_recurrence_gives():
    chain = [(3, 2, "same", 1), (3, 1, "same", 2), (5, 2, "valid", 1), (2, 2, "same", 1)]
    x = inputs = keras.Input((37, 37, 1))
    for f, s, p, d in chain:
        x = layers.Conv2D(2, f, s, p, dilation_rate=d)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    table = arithmetic.receptive_fields(keras.Model(inputs, x))
    expected = arithmetic.receptive_field_chain(chain, 37)
    for kind in ("Conv2D", "BatchNormalization", "ReLU"):
        assert table[table["type"] == kind][FIELD].to_numpy().tolist() == expected[FIELD].to_numpy().tolist()
    assert table[FIELD].iloc[0].tolist() == [1, 1, 0.5]


@pytest.mark.parametrize("name", NETS)
def test_models_agree_with_the_golden_nets(golden, name):
    net = golden("receptive_field.json")[name]
    x = inputs = keras.Input((net["input"], net["input"], 1))
    for layer in net["layers"]:
        x = layers.ZeroPadding2D(layer["padding"])(x)
        slides = layers.MaxPooling2D if layer["layer"].startswith("pool") else lambda *a, **k: layers.Conv2D(1, *a, **k)
        x = slides(layer["kernel"], strides=layer["stride"], name=layer["layer"])(x)
    table = arithmetic.receptive_fields(keras.Model(inputs, x)).set_index("layer")
    for layer in net["layers"]:
        expected = [layer["receptive_field"], layer["jump"], layer["start"]]
        assert table.loc[layer["layer"], FIELD].tolist() == expected, layer["layer"]


@pytest.mark.parametrize(
    ("build", "layer", "expected"),
    [
        (
            lambda: keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3)),
            "block5_pool",
            "vgg16",
        ),
        (
            lambda: keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3)),
            "conv5_block3_out",
            "resnet50_v1",
        ),
    ],
    ids=["VGG16", "ResNet50"],
)
def test_networks_of_keras_applications(golden, build, layer, expected):
    net = golden("receptive_field.json")[expected]
    table = arithmetic.receptive_fields(build()).set_index("layer")
    assert table.loc[layer, FIELD].tolist() == [net["receptive_field"], net["jump"], net["start"]]


def last_field(x, inputs, **keywords):
    return arithmetic.receptive_fields(keras.Model(inputs, x), **keywords)[FIELD].iloc[-1].tolist()


def test_branches_see_the_smallest_window_that_holds_them_all():
    inputs = keras.Input((20, 20, 3))
    one, five = layers.Conv2D(2, 1)(inputs), layers.Conv2D(2, 5, padding="same")(inputs)
    assert last_field(layers.Concatenate()([one, five]), inputs) == [5, 1, 0.5]
    # Not centred: a 3x3 at pixels 0-2 beside the pixel 0, and beside pixel 4.
    three = layers.Conv2D(2, 3)(inputs)
    assert last_field(three + layers.Cropping2D(((0, 2), (0, 2)))(one), inputs) == [3, 1, 1.5]
    four = layers.Cropping2D(((4, 0), (4, 0)))(one)
    assert last_field(layers.Cropping2D(((0, 2), (0, 2)))(three) + four, inputs) == [5, 1, 2.5]


def test_branches_that_step_differently_see_no_window():
    inputs = keras.Input((8, 8, 1))
    half = layers.Conv2D(1, 1, strides=2)(inputs)
    crop = layers.Cropping2D(2)(inputs)
    table = arithmetic.receptive_fields(keras.Model(inputs, half + crop))
    assert table[FIELD].iloc[-1].tolist() == [7, 0, 3.5]  # all that the two see: pixels 0 to 6
    assert table["note"].iloc[-1] == "branches of jumps [(1, 1), (2, 2)]: no fixed size, so the whole image"


def test_a_squeeze_and_excitation_block_sees_the_whole_image():
    inputs = keras.Input((20, 20, 3))
    x = layers.Conv2D(8, 3, padding="same")(inputs)
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Reshape((1, 1, 8))(layers.Dense(8, "sigmoid")(layers.Dense(2, "relu")(gate)))
    assert last_field(layers.Multiply()([x, gate]), inputs) == [20, 0, 10]
    assert last_field(layers.Conv2D(1, 3)(x * gate), inputs) == [20, 0, 10]


def test_dense_layers_see_all_of_what_their_inputs_see():
    inputs = keras.Input((10, 10, 1))
    x = layers.Flatten()(layers.Conv2D(2, 3, 4)(inputs))  # two places of 3 pixels, 4 apart: pixels 0-2 and 4-6
    table = arithmetic.receptive_fields(keras.Model(inputs, layers.Dense(5)(x)))
    assert table[FIELD].iloc[-2].tolist() == [3, 4, 1.5]
    assert table[FIELD].iloc[-1].tolist() == [7, 0, 3.5]
    assert last_field(layers.Dense(5)(layers.Conv2D(2, 3)(inputs)), inputs) == [3, 1, 1.5]  # on maps: a 1x1 convolution


def test_reshaping_keeps_what_stays_apart():
    inputs = keras.Input((12, 12, 1))
    maps = layers.Conv2D(8, 3, 2, "same")(inputs)  # (6, 6, 8)
    shuffled = layers.Reshape((6, 6, 2, 4))(maps)
    shuffled = layers.Reshape((6, 6, 8))(layers.Permute((1, 2, 4, 3))(shuffled))
    assert last_field(layers.Conv2D(1, 3)(shuffled), inputs) == [7, 2, 3.5]
    vectors = layers.Dense(4)(layers.Reshape((72, 4))(maps))  # two vectors of each place
    assert last_field(vectors, inputs) == [3, 2, 1.5]
    mixed = layers.Dense(4)(layers.Reshape((6, 48))(maps))  # a row of places in one vector
    assert last_field(mixed, inputs)[0] == 12
    turned = layers.Dense(4)(layers.Permute((3, 1, 2))(maps))
    assert last_field(turned, inputs)[0] == 12


def test_a_decoder_behind_a_bottleneck_sees_the_whole_image():
    inputs = keras.Input((8, 8, 1))
    x = layers.Reshape((4, 4, 2))(layers.Dense(32)(layers.Flatten()(layers.Conv2D(2, 3, padding="same")(inputs))))
    assert last_field(layers.Conv2DTranspose(1, 3, 2, "same")(x), inputs) == [8, 0, 4]


def test_upsampling_divides_the_jump():
    inputs = keras.Input((16, 16, 1))
    x = layers.UpSampling2D(2)(inputs)
    assert last_field(x, inputs) == [1, 0.5, 0.5]
    assert last_field(layers.Conv2D(1, 3, padding="same")(x), inputs) == [2, 0.5, 0]  # unit 0 reads pixels -1, 0, 0
    assert last_field(layers.UpSampling2D(2, interpolation="bilinear")(inputs), inputs) == [2, 0.5, 0]
    assert last_field(layers.Resizing(32, 32)(inputs), inputs) == [2, 0.5, 0]
    assert last_field(layers.Resizing(8, 8, interpolation="nearest")(inputs), inputs) == [1, 2, 1.5]
    # f 4, s 2, "same": every output lies under two positions of the filter.
    assert last_field(layers.Conv2DTranspose(1, 4, 2, "same")(inputs), inputs) == [2, 0.5, 0]
    assert last_field(layers.Conv2D(1, 2, 2)(x), inputs) == [1, 1, 0.5]


def test_a_skip_connection_joins_units_of_unlike_windows():
    inputs = keras.Input((16, 16, 1))
    deep = layers.UpSampling2D(2)(layers.MaxPooling2D(2)(inputs))  # units 0 and 1 see pixels 0 and 1
    for joined in (inputs + deep, deep + inputs):
        assert last_field(joined, inputs) == [2, 1, 1]
        assert last_field(layers.Conv2D(1, 2)(joined), inputs) == [4, 1, 1]  # unit 0 sees two pixels, unit 1 four


def test_axes_that_differ_are_given_apart():
    inputs = keras.Input((20, 30, 1))
    x = layers.Conv2D(1, (3, 5), (1, 2))(inputs)
    table = arithmetic.receptive_fields(keras.Model(inputs, layers.GlobalMaxPooling2D()(x)))
    assert table["size"].tolist() == [(1, 1), (3, 5), (20, 29)]
    assert table["jump"].tolist() == [(1, 1), (1, 2), (0, 0)]
    assert table["start"].tolist() == [(0.5, 0.5), (1.5, 2.5), (10, 14.5)]


def test_nested_and_shared_models():
    block = keras.Sequential(
        [keras.Input((None, None, 4)), layers.Conv2D(4, 3, padding="same", name="conv")], name="block"
    )
    inputs = keras.Input((16, 16, 4))
    table = arithmetic.receptive_fields(keras.Model(inputs, block(layers.MaxPooling2D()(block(inputs)))))
    assert table["layer"].tolist()[1::2] == ["block/conv", "block/conv"]
    assert table[FIELD].to_numpy().tolist() == [[1, 1, 0.5], [3, 1, 0.5], [4, 2, 1], [8, 2, 1]]


def test_operations_of_keras():
    inputs = keras.Input((16, 16, 3))
    x = ops.relu(ops.conv(inputs, np.ones((3, 3, 3, 2), "float32"), padding="valid") * 2 + 1)
    assert last_field(ops.max_pool(x, 2), inputs) == [4, 2, 2]
    assert last_field(ops.mean(x, axis=-1, keepdims=True), inputs) == [3, 1, 1.5]
    assert last_field(ops.mean(x, axis=(1, 2)), inputs) == [16, 0, 8]
    assert last_field(ops.transpose(x, (0, 1, 2, 3)), inputs) == [3, 1, 1.5]


def test_words_count_as_pixels():
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Conv1D(4, 3)(layers.Conv1D(4, 3)(layers.Embedding(50, 8)(inputs)))
    assert last_field(x, inputs) == [5, 1, 2.5]


class Halved(keras.Layer):
    def call(self, x):
        return x[:, ::2, ::2]


class Inner(keras.Layer):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.conv = layers.Conv2D(2, 3)

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return self.conv(x)


def test_what_lies_behind_an_unknown_layer_is_not_guessed():
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(2, 3, name="after")(Halved(name="halved")(layers.Conv2D(2, 3)(inputs)))
    with pytest.warns(UserWarning, match=r"^receptive fields end at layers unknown here: Halved$"):
        table = arithmetic.receptive_fields(keras.Model(inputs, x))
    assert table["size"].tolist()[:2] == [1, 3] and table["size"].isna().tolist()[2:] == [True, True]
    assert table["note"].tolist() == ["", "", "Halved is unknown here", "behind halved, which is unknown here"]


def test_a_layer_that_holds_layers_is_one_row_and_unknown():
    inputs = keras.Input((16, 16, 3))
    with pytest.warns(UserWarning, match="Inner$"):
        table = arithmetic.receptive_fields(keras.Model(inputs, Inner(name="inner")(inputs)))
    assert table["layer"].tolist()[1:] == ["inner"] and math.isnan(table["size"].iloc[-1])


def test_an_input_that_is_no_image():
    image, number = keras.Input((8, 8, 1)), keras.Input((3,), name="number")
    x = layers.Concatenate()([layers.GlobalMaxPooling2D()(image), layers.Dense(2, name="dense")(number)])
    table = arithmetic.receptive_fields(keras.Model([image, number], x)).set_index("layer")
    assert table.loc[["number", "dense"], "note"].tolist() == ["depends on no image"] * 2
    assert table[FIELD].iloc[-1].tolist() == [8, 0, 4]
    with pytest.raises(ValueError, match=r"has no input with height, width and channels$"):
        arithmetic.receptive_fields(keras.Model(number, layers.Dense(1)(number)))


def test_input_sizes_of_models():
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, layers.Conv2D(1, 3, 2, "same")(inputs))
    with pytest.raises(ValueError, match=r"pass input_shape=\(height, width, channels\)$"):
        arithmetic.receptive_fields(model)
    assert arithmetic.receptive_fields(model, (8, 8, 1))["start"].tolist() == [0.5, 1.5]
    assert arithmetic.receptive_fields(model, (7, 7, 1))["start"].tolist() == [0.5, 0.5]


def test_width_holding():
    field = np.zeros((9, 11))
    field[3:6, 4:7] = 1
    assert [arithmetic.width_holding(field, share) for share in (1 / 9, 0.4, 0.5, 1)] == [1, 2, 3, 3]
    assert arithmetic.width_holding(np.ones((4, 6)), 1) == 6
    field[0, 0] = 0.4  # a corner with less than 5 %
    assert (arithmetic.width_holding(field), arithmetic.width_holding(field, 1)) == (3, 7)
    for bad in [(field * 0, 0.5), (field, 0), (field, 1.5)]:
        with pytest.raises(ValueError, match=r"^no window holds a share"):
            arithmetic.width_holding(*bad)
