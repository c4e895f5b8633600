"""Every architecture on the list: published counts, equality with `keras.applications`, training, saving."""

import math
import warnings
from functools import cache

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import architectures, arithmetic
from utils.architectures import blocks, googlenet, lenet, registry, resnet_cifar

BACKEND = keras.backend.backend()

# Trainable parameters and MACs (None: not published or not comparable) at the paper's input and classes.
PUBLISHED = {
    "lenet5": (61_706, None),  # 156 + 2,416 + 48,120 + 10,164 + 850
    "alexnet": (60_965_224, 724_406_816),
    "zfnet": (62_357_608, None),
    "vgg13": (133_047_848, None),  # torchvision
    "vgg16_c": (138_357_544 - 8 * 256**2 - 2 * 8 * 512**2, None),  # D with three 1x1 in place of 3x3
    "vgg11_lrn": (132_863_336, 7_609_090_048),  # normalisation has no weights: as A
    "googlenet": (6_998_552, None),
    "plain18": (
        11_689_512 - sum(c * c // 2 + 2 * c for c in (128, 256, 512)),
        None,
    ),  # resnet18 without its projections
    "plain34": (21_797_672 - sum(c * c // 2 + 2 * c for c in (128, 256, 512)), None),
    "resnet50": (25_557_032, None),
    "resnet101": (44_549_160, None),
    "resnet152": (60_192_808, None),
    "resnet20": (269_722, None),
    "resnet32": (464_154, None),
    "resnet44": (658_586, None),
    "resnet56": (853_018, None),
    "resnet110": (1_727_962, None),
    "resnet164_v2": (1_703_258, None),  # He et al. 2016: "1.7M"; pytorchcv's preresnet164_cifar10
    "wrn_28_10": (36_479_194, None),  # Zagoruyko and Komodakis 2016: "36.5M"
    "inception_resnet_v2": (55_813_192, None),  # keras.applications
    "densenet161": (28_681_000, None),  # torchvision
    "densenet40_12": (1_019_722, None),  # Huang et al. 2017, table 2: "1.0M"
    "densenet100_12": (6_979_642, None),  # "7.0M"
    "densenet_bc100_12": (769_162, None),  # "0.8M"
    "densenet_bc250_24": (15_324_406, None),  # "15.3M"
    "mobilenet": (4_231_976, 568_740_352),
    "xception": (22_855_952, None),
    "squeezenet1_1": (1_235_496, None),  # torchvision
}
# The same parameters as another: a shortcut without weights, or another order of the layers.
EQUAL = {f"plain{n}": f"resnet{n}" for n in resnet_cifar.DEPTHS} | {
    f"resnet{n}_v2": f"resnet{n}" for n in resnet_cifar.DEPTHS
}
# Our name: what the golden file calls it, and the options under which the two are one.
GOLDEN = {
    **{name: ("torchvision", name, {}) for name in ("vgg11", "vgg16", "vgg19", "resnet18", "resnet34")},
    **{name: ("torchvision", name, {"stride_in": "3x3"}) for name in ("resnet50", "resnet101", "resnet152")},
    **{name: ("torchvision", name, {}) for name in ("densenet121", "densenet169", "densenet201", "squeezenet1_0")},
    **{name: ("torchvision", name, {}) for name in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")},
    **{name: ("torchvision", name, {}) for name in ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0")},
    **{name: ("torchvision", name, {}) for name in ("wide_resnet50_2", "resnext50_32x4d", "resnext101_32x8d")},
    "seresnet50": ("timm", "legacy_seresnet50", {}),  # stride in the 1x1, as its paper's code
    "xception": ("timm", "legacy_xception", {}),
}
# Entries of the golden file that are other nets than the paper's of the same name, or of no family here.
OTHERS = {
    "alexnet": "the one-column variant of 2014",
    "googlenet_with_aux": "with batch normalisation, and 3x3 filters for the 5x5",
    "googlenet_no_aux": "with batch normalisation, and 3x3 filters for the 5x5",
    "inception_v3_with_aux": "not in the course",
    "inception_v3_no_aux": "not in the course",
    "efficientnet_b0": "not in the course",
    "seresnet50": "a variant, with the stride in the 3x3: counted below",
}

# One small member of each family that trains in a second: name, input shape, options.
SMALL = {
    "alexnet": ("alexnet", (32, 32, 3), {"stem": "3x3", "width": 0.125, "units": 16}),
    "googlenet": ("googlenet", (32, 32, 3), {"stem": "3x3", "width": 0.125}),
    "lenet": ("lenet5", (32, 32, 1), {"c3": "partial", "subsampling": "trainable"}),
    "resnet": ("resnet18", (32, 32, 3), {"stem": "3x3", "width": 0.0625, "shortcuts": "B"}),
    "resnet_cifar": ("resnet20", (16, 16, 3), {"width": 0.5}),
    "vgg": ("vgg11", (64, 64, 3), {"width": 0.125, "units": 16, "batch_norm": True}),
    "zfnet": ("zfnet", (32, 32, 3), {"stem": "3x3", "width": 0.125, "units": 16}),
    "darknet": ("darknet53", (32, 32, 3), {"width": 0.125}),
    "densenet": ("densenet40_12", (16, 16, 3), {"blocks": (2, 2, 2)}),
    "fractalnet": ("fractalnet5_thin", (64, 64, 3), {"drop_path": 0.0, "width": 0.5}),
    "inception_resnet": ("inception_resnet_v1", (107, 107, 3), {"blocks": (1, 1, 1), "width": 0.125}),
    "mobilenet": ("mobilenet_x0_25", (64, 64, 3), {}),
    "mobilenet_v2": ("mobilenet_v2_x0_35", (64, 64, 3), {}),
    "mobilenet_v3": ("mobilenet_v3_small", (64, 64, 3), {"alpha": 0.25}),
    "pyramidnet": ("pyramidnet110_a48", (16, 16, 3), {"depth": 20}),
    "resnext": ("resnext29_8x64d", (16, 16, 3), {"cardinality": 2, "group_width": 4}),
    "senet": ("seresnet50", (32, 32, 3), {"stem": "3x3", "width": 0.125, "blocks": (1, 1, 2, 1)}),
    "shufflenet": ("shufflenet_v2_x0_5", (64, 64, 3), {"repeats": (2, 2, 2)}),
    "squeezenet": ("squeezenet1_1", (64, 64, 3), {}),
    "wide_resnet": ("wrn_28_10", (16, 16, 3), {"depth": 10, "widening": 1}),
    "xception": ("xception", (71, 71, 3), {"middle": 1, "width": 0.125}),
}


def counts(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = arithmetic.layer_table(model)
    return tuple(int(table[column].sum()) for column in ("params", "statistics", "macs"))


@cache
def small(family):
    keras.utils.set_random_seed(0)
    name, shape, options = SMALL[family]
    return architectures.build(name, shape, classes=4 if name != "lenet5" else 10, **options)


# On the other backends those with layers of their own, which are what could differ there; JAX compiles every layer for
# minutes.
PORTABLE = [family for family in SMALL if BACKEND == "tensorflow" or family in ("lenet", "resnet_cifar", "shufflenet")]


def images(model, count=4):
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


def run(model, x):
    return ops.convert_to_numpy(model(x, training=False))


# The list


@pytest.mark.once
def test_every_family_has_its_small_member():
    assert {architectures.describe(name).family for name in architectures.names()} == set(SMALL)


@pytest.mark.once
def test_fifty_names_and_more_sorted_and_by_family():
    names = architectures.names()
    assert len(names) >= 50 and len(set(names)) == len(names)
    assert names.index("resnet18") < names.index("resnet101")
    assert architectures.names("vgg") == ["vgg11", "vgg13", "vgg16", "vgg19", "vgg16_c", "vgg11_lrn"]
    assert architectures.names("nothing") == []


@pytest.mark.once
def test_what_is_known_before_building():
    entry = architectures.describe("alexnet")
    assert (entry.family, entry.input_shape, entry.classes) == ("alexnet", (227, 227, 3), 1000)
    assert entry.options["groups"] == 2 and "AlexNet" in entry.about
    assert architectures.describe("resnet20").classes == 10


@pytest.mark.once
@pytest.mark.parametrize("asked, meant", [("resnet-50", "resnet50"), ("VGG16", "vgg16"), ("lenet", "lenet5")])
def test_an_unknown_name_gets_the_nearest(asked, meant):
    with pytest.raises(ValueError, match=f"no architecture '{asked}'; did you mean '{meant}'"):
        architectures.build(asked)
    with pytest.raises(ValueError, match=r"no architecture 'qqq'; utils\.architectures\.names"):
        architectures.build("qqq")


@pytest.mark.once
def test_an_unknown_option_gets_those_that_are_known():
    with pytest.raises(
        ValueError, match=r"resnet50 has no option 'stridein'; did you mean 'stride_in'\? \(known: stride_in, conv"
    ):
        architectures.build("resnet50", stridein="3x3")


@pytest.mark.once
@pytest.mark.parametrize(
    "name, options, message",
    [
        ("lenet5", {"c3": "half"}, "lenet5: c3 is 'full' or 'partial', not 'half'"),
        ("lenet5", {"input_shape": (28, 28, 1)}, "lenet5 needs an image of 32x32 or more, not 28x28"),
        ("lenet5", {"output": "rbf", "classes": 4}, "ten digits, not of 4 classes"),
        ("alexnet", {"input_shape": (32, 32, 3)}, "alexnet needs an image of 67x67 or more, not 32x32; stem='3x3'"),
        ("alexnet", {"stem": "5x5"}, "alexnet: stem is '11x11' or '3x3', not '5x5'"),
        ("vgg11", {"input_shape": (16, 16, 3)}, "vgg11 needs an image of 32x32 or more"),
        ("vgg11", {"input_shape": (None, None, 3)}, "dense head needs an image of known size"),
        ("vgg11", {"head": "fc"}, "head is 'dense' or 'pool', not 'fc'"),
        ("vgg11", {"input_shape": (32, 32)}, r"expected input_shape=\(height, width, channels\)"),
        (
            "googlenet",
            {"input_shape": (32, 32, 3), "auxiliary": True},
            "auxiliary heads need maps of 5x5 or more, not 2x2",
        ),
        ("resnet50", {"stride_in": "2x2"}, "resnet50: stride_in is '1x1' or '3x3', not '2x2'"),
        ("resnet18", {"shortcuts": "D"}, "shortcut is 'A', 'B' or 'C', not 'D'"),
        ("resnet18", {"weights": "imagenet"}, "keras.applications has no such network"),
        ("resnet50", {"weights": "imagenet", "classes": 10}, "has no|1000 classes, not 10"),
    ],
)
def test_bad_input_is_told_in_one_line(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        architectures.outline(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.once
def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="lenet5 is registered twice"):
        architectures.register("lenet5", input_shape=(32, 32, 1))(lambda: None)


# Counts


@pytest.mark.once
@pytest.mark.parametrize("name", architectures.names())
def test_published_counts(name, golden, counts_of):
    library, theirs, options = GOLDEN.get(name, (None, None, {}))
    published = [PUBLISHED[name]] if name in PUBLISHED else []
    published += [(PUBLISHED[EQUAL[name]][0], None)] if name in EQUAL else []
    published += [(row["params"], row["macs"]) for row in golden("architectures.json") if row["name"] == name]
    in_full = (library and not options) or any(macs for _, macs in published)
    found, entry = counts_of(name, macs=bool(in_full)), architectures.describe(name)
    assert (found.name, found.input_shape) == (name, (None, *entry.input_shape))
    assert found.output_shape == (None, entry.classes)
    for params, macs in published:
        assert found.params == params and (macs is None or macs == found.macs)
    if library:
        reference = golden("model_counts.json")[library][theirs]
        triple = (
            counts(architectures.outline(name, **options)) if options else (found.params, found.statistics, found.macs)
        )
        assert triple == tuple(reference[key] for key in ("params", "batchnorm_statistics", "macs"))
    by_hand = (
        "fractalnet",
        "highway",
        "inception_resnet_v1",
        "pyramidnet",
        "resnext",
        "seresne",
        "shufflenet_v1",
        "wrn_",
    )
    assert library or published or name.startswith(by_hand)  # below, and in test_architectures_efficient.py


@pytest.mark.once
def test_every_golden_net_is_compared_or_explained(golden):
    compared = {theirs for _, theirs, _ in GOLDEN.values()}
    assert set(GOLDEN) <= set(architectures.names())
    entries = golden("model_counts.json")
    assert {*entries["torchvision"], *entries["timm"]} == compared | set(OTHERS)


@pytest.mark.once
@pytest.mark.parametrize(
    "name, options, params, macs",
    [
        ("lenet5", {"c3": "partial"}, 60_806, None),
        ("lenet5", {"c3": "partial", "subsampling": "trainable", "output": "rbf"}, 60_000, None),
        ("alexnet", {"groups": 1}, 62_378_344, 1_135_256_096),
        ("googlenet", {"auxiliary": True}, 13_378_280, None),
        ("resnet50", {"conv_bias": True}, 25_583_592, None),  # and 101 and 152, beside Keras's, below
        *(
            (name, {"include_top": False}, params, None)
            for name, params in (
                ("resnet34", 21_284_672),
                ("resnet50", 23_508_032),
            )
        ),
        *(
            (name, {"stem": "3x3", "classes": 10, "input_shape": (32, 32, 3)}, params, None)
            for name, params in (
                ("resnet18", 11_173_962),
                ("resnet50", 23_520_842),
            )
        ),
        ("vgg16", {"classes": 2}, 134_268_738, None),
        ("seresnet50", {"stride_in": "3x3"}, 28_088_024, 4_091_699_200),  # timm's seresnet50
    ],
)
def test_published_counts_of_variants(name, options, params, macs):
    found = counts(architectures.outline(name, **options))
    assert found[0] == params and macs in (None, found[2])


@pytest.mark.once
@pytest.mark.parametrize("name", [name for name in architectures.names("resnet_cifar") if name.startswith("highway")])
def test_a_highway_net_is_a_residual_net_with_gates(name, counts_of):
    depth = int(name.removeprefix("highway"))
    gates, before = 0, 16
    for filters in (16, 32, 64):
        gates += 9 * before * filters + filters + ((depth - 2) // 6 - 1) * (9 * filters**2 + filters)
        before = filters
    assert counts_of(name).params == PUBLISHED[f"resnet{depth}"][0] + gates


@pytest.mark.once
def test_inception_modules_of_both_forms():
    x = layers.Input((28, 28, 256))
    reduced = googlenet.inception(x, googlenet.MODULES["3b"], "m")
    naive = googlenet.inception_naive(x, (128, 192, 96), "n")
    assert reduced.shape[-1] == 480 and naive.shape[-1] == 672
    macs = [counts(keras.Model(x, y))[2] for y in (reduced, naive)]
    branches = (256 * 128, 256 * 128 + 128 * 192 * 9, 256 * 32 + 32 * 96 * 25, 256 * 64)
    assert macs == [784 * sum(branches), 784 * 256 * (128 + 9 * 192 + 25 * 96)]
    assert [round(m / 1e6) for m in macs] == [304, 854]


@pytest.mark.once
def test_maps_of_a_googlenet_are_those_of_its_table(outline_of):
    model = outline_of("googlenet")
    table = {"conv1": (112, 64), "pool2": (28, 192), "inception3a_concat": (28, 256), "inception3b_concat": (28, 480)}
    table |= {"inception4a_concat": (14, 512), "inception4d_concat": (14, 528), "inception5b_concat": (7, 1024)}
    for layer, (size, channels) in table.items():
        assert model.get_layer(layer).output.shape == (None, size, size, channels)


@pytest.mark.once
@pytest.mark.parametrize(
    "name, sizes",
    [
        ("alexnet", {"conv1": 55, "pool1": 27, "conv2": 27, "pool2": 13, "conv5": 13, "pool5": 6}),
        ("zfnet", {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv5": 13, "pool5": 6}),
        ("resnet50", {"conv1": 112, "pool1": 56, "stage3_block4_relu": 28, "stage5_block3_relu": 7}),
    ],
)
def test_maps_have_the_sizes_of_the_paper(name, sizes, outline_of):
    model = outline_of(name)
    assert {layer: model.get_layer(layer).output.shape[1] for layer in sizes} == sizes


@pytest.mark.parametrize("family", ["lenet", "resnet_cifar", "shufflenet"])
def test_an_outline_is_the_network_without_values(family):
    model, (name, shape, options) = small(family), SMALL[family]
    outline = architectures.outline(name, shape, classes=model.output_shape[-1], **options)
    assert [w.shape for w in outline.weights] == [w.shape for w in model.weights]
    assert arithmetic.totals(outline) == arithmetic.totals(model)


def test_an_outline_never_gets_values():
    outline = architectures.outline("vgg16")
    own = architectures.outline(lambda: keras.Sequential([layers.Input((10**6,)), layers.Dense(10**5)]))
    before = layers.Dense(1).name
    keras.Sequential(
        [layers.Input((4,)), layers.Dense(2)]
    )  # ends a scope, in which Keras gives waiting weights their values
    assert all(weight._value is None for weight in (*outline.weights, *own.weights))
    assert own.count_params() == 10**11 + 10**5
    assert before != layers.Dense(1).name  # names go on where they were


# Running


@pytest.mark.parametrize("family", PORTABLE)
def test_a_small_net_runs_and_every_weight_moves(family):
    model = small(family)
    x = images(model, 8)
    classes = model.output_shape[-1]
    logits = run(model, x)
    assert logits.shape == (8, classes) and np.isfinite(logits).all() and np.ptp(logits) > 0
    before = [ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.compile(
        keras.optimizers.Adam(0.01),  # moves a weight by about .01 however small its gradient, and only if there is one
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    model.train_on_batch(x, np.arange(8) % classes)
    still = [
        weight.path
        for weight, old in zip(model.trainable_weights, before)
        if np.array_equal(ops.convert_to_numpy(weight), old)
    ]
    assert still == []


@pytest.mark.parametrize("family", PORTABLE)
def test_a_net_is_saved_and_loaded(family, tmp_path):
    model = small(family)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = images(model, 2)
    np.testing.assert_allclose(run(loaded, x), run(model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["lenet", "resnet_cifar"])
def test_weights_from_a_file(family, tmp_path):
    model, (name, shape, options) = small(family), SMALL[family]
    path, classes = tmp_path / "model.weights.h5", model.output_shape[-1]
    model.save_weights(path)
    again = architectures.build(name, shape, classes=classes, weights=path, **options)
    np.testing.assert_array_equal(run(again, images(model, 2)), run(model, images(model, 2)))


@pytest.mark.once
@pytest.mark.parametrize("family", SMALL)
def test_without_the_top_the_last_map_comes(family):
    name, shape, options = SMALL[family]
    model = architectures.outline(name, shape, include_top=False, **options)
    assert len(model.output_shape) == 4
    assert not any("logits" in layer.name for layer in model.layers)


@pytest.mark.once
def test_names_of_layers_begin_with_their_stage():
    model = architectures.outline("resnet50", include_top=False)
    found = list(dict.fromkeys(layer.name.partition("_")[0] for layer in model.layers))
    assert found == ["image", "conv1", "pool1", "stage2", "stage3", "stage4", "stage5"]


# Parts


def test_partial_connections_against_loops():
    layer = lenet.PartialConv2D(lenet.C3, 5)
    x = np.random.default_rng(1).normal(size=(1, 7, 7, 6)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    kernels = ops.convert_to_numpy(layer.weights[0])
    assert kernels.shape == (5, 5, 60) and layer.count_params() == 1516
    index = 0
    for k, row in enumerate(lenet.C3):
        expected = np.zeros((3, 3))
        for channel in row:
            for i in range(3):
                for j in range(3):
                    expected[i, j] += (x[0, i : i + 5, j : j + 5, channel] * kernels[:, :, index]).sum()
            index += 1
        np.testing.assert_allclose(y[0, :, :, k], expected, rtol=1e-4, atol=1e-5)
    assert [len(row) for row in lenet.C3] == [3] * 6 + [4] * 9 + [6]


@pytest.mark.once
def test_digits_are_told_apart_by_their_distance():
    pictures = lenet.digits()
    assert pictures.shape == (10, 12, 7) and set(np.unique(pictures)) == {-1, 1}
    scores = ops.convert_to_numpy(lenet.DigitDistance()(pictures.reshape(10, 84)))
    assert (
        (scores.diagonal() == 0).all()
        and (scores + 1e3 * np.eye(10) < 1e3 + 1).all()
        and (scores.argmax(1) == np.arange(10)).all()
    )
    np.testing.assert_allclose(scores, -((pictures[:, None] - pictures[None]) ** 2).sum(axis=(2, 3)))


def test_shortcuts():
    x = np.arange(2 * 4 * 4 * 3, dtype="float32").reshape(2, 4, 4, 3)
    assert blocks.shortcut(x, 3, 1, "A") is x and blocks.shortcut(x, 3, 1, "B") is x
    a = ops.convert_to_numpy(blocks.shortcut(x, 5, 2, "A", name="a"))
    np.testing.assert_array_equal(a[..., :3], x[:, ::2, ::2])
    assert a.shape == (2, 2, 2, 5) and not a[..., 3:].any()
    assert blocks.shortcut(x, 3, 1, "C", name="c").shape == x.shape
    assert blocks.shortcut(x, 6, 2, "B", name="b").shape == (2, 2, 2, 6)


def test_zeros_stand_on_every_side_at_stride_2():
    x = np.zeros((1, 6, 6, 1), "float32")
    x[0, 0, 0] = 1
    y = blocks.conv(ops.convert_to_tensor(x), 1, 3, 2, use_bias=False, kernel_initializer="ones", name="c")
    assert ops.convert_to_numpy(y)[0, :, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    y = blocks.conv(
        ops.convert_to_tensor(x[:, ::-1, ::-1]), 1, 3, 2, use_bias=False, kernel_initializer="ones", name="c"
    )
    assert ops.convert_to_numpy(y)[0, :, :, 0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_an_untrained_highway_mostly_carries():
    x = layers.Input((8, 8, 4))
    model = keras.Model(x, resnet_cifar.highway(x, 4, 1, "block"))
    data = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    model.get_layer("block_gate").set_weights([np.zeros((3, 3, 4, 4)), np.full(4, -30.0)])
    np.testing.assert_allclose(run(model, data), data, atol=1e-6)
    model.get_layer("block_gate").set_weights([np.zeros((3, 3, 4, 4)), np.full(4, 30.0)])
    transformed = keras.Model(x, model.get_layer("block_relu").output)
    np.testing.assert_allclose(run(model, data), run(transformed, data), atol=1e-6)


@pytest.mark.once
def test_receptive_fields_pass_all_layers_of_our_own():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("alexnet", "resnet20", "lenet5"):
            options = {"c3": "partial", "subsampling": "trainable"} if name == "lenet5" else {}
            table = arithmetic.receptive_fields(architectures.outline(name, **options)).set_index("layer")
            assert table["size"].notna().all()
            if name == "alexnet":
                assert table.loc["pool5", ["size", "jump"]].tolist() == [195, 32]


# keras.applications


def twin(name, size, top=False):
    """A network of `keras.applications` with random weights, batch normalisation's included."""
    entry = architectures.describe(name)
    options = {"classifier_activation": None, "classes": 10} if top else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(keras.applications, entry.application)(
            include_top=top, weights=None, input_shape=(size, size, 3), **options, **entry.application_arguments
        )
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


# One per class of networks: the others differ in depth only, and are compared by their shapes below.
@pytest.mark.parametrize(
    "name, size, options",
    [
        ("vgg16", 32, {"classes": 10}),
        pytest.param("resnet50", 64, {"classes": 10}, marks=pytest.mark.once),
    ],
)
def test_weights_of_keras_give_the_outputs_of_keras(name, size, options):
    theirs = twin(name, size, options.get("include_top", True))
    ours = architectures.build(name, (size, size, 3), **options)
    architectures.copy_weights(theirs, ours)
    x = images(ours, 2)
    expected = run(theirs, x)
    np.testing.assert_allclose(run(ours, x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


SAME = [name for name in architectures.names() if architectures.describe(name).application]
# Held to Keras's outputs, with their weights, above and in test_architectures_efficient.py.
WITH_OUTPUTS = {"vgg16", "xception"}
# Another width than that of a net that is compared; their golden counts come from Keras.
OTHER_WIDTHS = {name for name in SAME if name.startswith("mobilenet") and "_x" in name}


@pytest.mark.once
@pytest.mark.parametrize("name", sorted({*SAME} - WITH_OUTPUTS - OTHER_WIDTHS))
def test_layers_of_keras_have_the_shapes_of_ours(name, outline_of):
    entry = architectures.describe(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = architectures.outline(lambda: architectures.application(name, weights=None))
    options = {"conv_bias": True} if "conv_bias" in entry.options else {}
    options |= entry.application_options
    ours = architectures.outline(name, **options) if options else outline_of(name)
    # MobileNet's classifier is a 1x1 convolution there, and depthwise kernels may have their axes in another order.
    shapes = [
        [[math.prod(w.shape) for w in layer.weights] for layer in model.layers if layer.weights]
        for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


def test_weights_that_do_not_fit_are_refused():
    a = architectures.build("lenet5")
    with pytest.raises(ValueError, match="of lenet5 do not fit resnet20: it has 5 layers with weights"):
        architectures.copy_weights(a, small("resnet_cifar"))
    with pytest.raises(ValueError, match=r"do not fit lenet5: logits has \[\(84, 10\), \(10,\)\], logits \[\(84, 4\)"):
        architectures.copy_weights(a, architectures.build("lenet5", classes=4))


def test_imagenet_weights_come_from_keras(monkeypatch):
    asked = []

    def application(name, include_top):
        asked.append((name, include_top))
        return twin("vgg16", 32)

    monkeypatch.setattr(registry, "application", application)
    model = architectures.build("vgg16", (32, 32, 3), include_top=False, weights="imagenet")
    assert asked == [("vgg16", False)]
    theirs = twin("vgg16", 32)
    architectures.copy_weights(theirs, theirs)
    assert [w.shape for w in model.get_weights()] == [w.shape for w in theirs.get_weights()]
