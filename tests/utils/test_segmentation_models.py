"""FCN, SegNet and DeepLab: counts, what their parts compute, images of any size; prediction by windows, tiles and
flips.
"""

import warnings
from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils import architectures, arithmetic
from utils.segmentation import deeplab, fcn8, fcn16, fcn32, inference, segnet, unet
from utils.segmentation.deeplab import dilated
from utils.segmentation.fcn import bilinear_kernel, enlarge

SMALL_VGG = {"backbone": "vgg11", "width": 0.125, "units": 12}


def picture(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def without_weights(build, *arguments, **options):
    """The layers alone: counts and shapes of large nets."""
    with keras.StatelessScope(initialize_variables=False):
        return build(*arguments, **options)


# Counts


@pytest.mark.once
@pytest.mark.parametrize(
    ("build", "extra"),
    [(fcn32, 64 * 64 * 21 * 21), (fcn16, 16 * 21 * 21 + 512 * 21 + 21 + 32 * 32 * 21 * 21), (fcn8, None)],
)
def test_the_papers_fcn_on_vgg16(build, extra):
    model = without_weights(build)
    convolutions = 14_714_688 + (7 * 7 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 21 + 21)
    assert model.count_params() == (134_489_759 if extra is None else convolutions + extra)


@pytest.mark.once
def test_the_papers_segnet():
    """Weights and biases of 26 convolutions with batch normalisation (scale, shift): VGG16's down, their mirror image
    up.
    """
    model = without_weights(segnet, (360, 480, 3), 11)
    down = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    up = down[:0:-1]
    pairs = [*pairwise(down), *pairwise(up)]
    expected = sum(9 * a * b + b + 2 * b for a, b in pairs) + 9 * 64 * 11 + 11
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == expected
    assert len([layer for layer in model.layers if isinstance(layer, layers.Conv2D)]) == 26
    assert model.output_shape == (None, 360, 480, 11)


# Any size, every family


@pytest.mark.parametrize(
    ("build", "options", "multiple"),
    [
        (fcn8, SMALL_VGG, 32),
        (fcn32, {"backbone": "small"}, 4),
        (segnet, {"stages": ((4, 1), (6, 2))}, 4),
        (deeplab, {"backbone": "resnet18", "width": 0.125, "filters": 8, "stem": "7x7"}, 32),
    ],
)
def test_images_of_any_size_are_padded_and_cropped_back(build, options, multiple, tmp_path):
    model = build((None, None, 3), 4, **options)
    for variable in model.weights:  # scores begin at zero, which would hide everything
        if "score" in variable.path:
            variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    image = picture(2, 33, 46, 3)
    logits = model.predict_on_batch(image)
    assert logits.shape == (2, 33, 46, 4) and np.ptp(logits) > 0
    padded = np.pad(image, [(0, 0), (0, -33 % multiple), (0, -46 % multiple), (0, 0)], mode="edge")
    np.testing.assert_allclose(logits, model.predict_on_batch(padded)[:, :33, :46], rtol=1e-4, atol=1e-3)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(copy.predict_on_batch(image), logits, rtol=1e-4, atol=1e-3)


def test_a_step_of_training_reaches_every_weight():
    """All families at once: after a few steps no kernel is where it was."""
    nets = {
        "fcn8": fcn8((32, 32, 3), 3, **SMALL_VGG, dropout=0.0),
        "segnet": segnet((32, 32, 3), 3, ((4, 1), (6, 1))),
        "deeplab": deeplab(
            (32, 32, 3), 3, "resnet18", width=0.125, stem="3x3", low_level=1, output_stride=4, filters=8
        ),
    }
    masks = np.random.default_rng(0).integers(0, 3, (2, 32, 32))
    for name, model in nets.items():
        before = [np.array(ops.convert_to_numpy(variable)) for variable in model.trainable_variables]
        model.compile(
            keras.optimizers.Adam(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
            run_eagerly=keras.backend.backend() == "tensorflow",  # tracing would take longer than two steps
        )
        for _ in range(2):
            model.train_on_batch(picture(2, 32, 32, 3), masks)
        still = [
            v.path for v, old in zip(model.trainable_variables, before) if np.array_equal(ops.convert_to_numpy(v), old)
        ]
        assert not still, f"{name}: {still}"


# FCN


def test_the_bilinear_kernel_by_hand():
    np.testing.assert_allclose(bilinear_kernel(4), np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]))
    np.testing.assert_allclose(bilinear_kernel(3), np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))


@pytest.mark.parametrize("factor", [2, 8])
def test_a_new_transposed_convolution_interpolates(factor):
    image = layers.Input((6, 6, 2))
    model = keras.Model(image, enlarge(image, factor))
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype("float32")
    expected = ops.convert_to_numpy(layers.UpSampling2D(factor, interpolation="bilinear")(x))
    inner = slice(factor, -factor)
    np.testing.assert_allclose(model.predict_on_batch(x)[:, inner, inner], expected[:, inner, inner], atol=1e-5)


def test_fcn8_adds_what_the_finer_maps_say():
    """With scores of stride 8 alone, the answer is their enlargement; a new net says nothing at all."""
    model = fcn8((64, 64, 3), 2, **SMALL_VGG)
    image = picture(1, 64, 64, 3)
    np.testing.assert_array_equal(model.predict_on_batch(image), np.zeros((1, 64, 64, 2)))
    model.get_layer("score3").bias.assign([1.0, -2.0])
    middle = model.predict_on_batch(image)[0, 16:48, 16:48]
    np.testing.assert_allclose(middle, np.broadcast_to([1.0, -2.0], middle.shape), atol=1e-5)


def test_fcn_refuses_a_backbone_without_its_levels():
    with pytest.raises(ValueError, match="has no map of level"):
        fcn8((32, 32, 3), 2, "small", levels=[3, 4, 5])
    with pytest.raises(ValueError, match="fcn16 takes 2 levels of the backbone without a gap"):
        fcn16((32, 32, 3), 2, "small", levels=[0, 2])


# SegNet


def test_segnet_puts_values_back_where_they_were():
    model = segnet((8, 8, 3), 2, stages=((3, 1),))
    parts = keras.Model(model.input, [model.get_layer("unpool1").output, model.get_layer("conv1_1_relu").output])
    unpooled, before = parts.predict_on_batch(picture(1, 8, 8, 3))
    kept = unpooled != 0
    np.testing.assert_array_equal(unpooled[kept], before[kept])
    assert 0 < kept.sum() <= 4 * 4 * 3
    repeated = segnet((8, 8, 3), 2, stages=((3, 1),), unpooling=False)
    assert repeated.count_params() == model.count_params()


def test_segnet_refuses():
    with pytest.raises(ValueError, match="stages are pairs"):
        segnet(stages=())
    with pytest.raises(ValueError, match="weights is None or 'imagenet'"):
        segnet(weights="none")
    with pytest.raises(ValueError, match="the paper's stages"):
        segnet(stages=((4, 1),), weights="imagenet")


# DeepLab


@pytest.mark.parametrize(
    ("name", "options", "stride"),
    [
        ("resnet18", {"width": 0.125, "stem": "3x3"}, 2),
        ("mobilenet_v2", {"alpha": 0.35}, 8),
        ("vgg11", {"width": 0.06}, 8),
    ],
)
def test_dilation_keeps_the_values_at_the_old_places(name, options, stride):
    """Far from the borders the dilated net, read at the old stride, is the old net."""
    model = architectures.build(name, (None, None, 3), include_top=False, **options)
    for variable in model.weights:  # running statistics other than 0 and 1, biases other than 0
        if variable.shape == () or len(variable.shape) == 1:
            variable.assign(np.random.default_rng(0).uniform(0.5, 1.5, variable.shape))
    side = 512 if name == "vgg11" else 256
    image = (picture(1, side, side, 3) / 127.5 - 1).astype("float32")
    # A net that ends before its borders have come near: the last stages only add width to the borders.
    old = model.predict_on_batch(image)
    fine = dilated(model, stride)
    new = fine.predict_on_batch(image)
    step = new.shape[1] // old.shape[1]
    assert step > 1 and new.shape[1] == side // stride
    centre = old.shape[1] // 2
    offset = np.abs(new[0, :, :, None] - old[0, centre, centre]).reshape(new.shape[1], new.shape[2], -1).max(-1)
    y, x = np.unravel_index(offset.argmin(), offset.shape)
    assert offset.min() <= 1e-4 * np.abs(old).max()
    assert abs(y - centre * step) < step and abs(x - centre * step) < step


def test_deeplab_on_both_forms():
    shape, options = (64, 64, 3), {"backbone": "resnet18", "width": 0.125, "filters": 8}
    plain = without_weights(deeplab, shape, 5, decoder=False, **options)
    full = without_weights(deeplab, shape, 5, output_stride=8, separable=True, **options)
    assert plain.output_shape == full.output_shape == (None, 64, 64, 5)
    assert [x.shape[1] for x in full.get_layer("backbone").outputs] == [None, None]
    rates = [full.get_layer(f"aspp_rate{rate}_depthwise").dilation_rate for rate in (12, 24, 36)]
    assert rates == [(12, 12), (24, 24), (36, 36)]
    assert {layer.name for layer in plain.layers} >= {"aspp_conv1x1", "aspp_rate6", "aspp_rate18", "aspp_spread"}
    with pytest.raises(ValueError, match="has a stride of 32: output_stride is a power of two"):
        deeplab(shape, 5, output_stride=64, **options)


# Inference: a net that sees few pixels, on a grid of stride 4


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    return unet((None, None, 3), 3, (4, 4, 6))


@pytest.mark.parametrize("size", [(96, 128), (90, 101), (20, 150), (16, 12)])
def test_windows_equal_the_whole_image_where_they_must(net, size):
    """The net sees 22 pixels to each side, and 64 pixels of overlap keep 32 away from every edge."""
    image = picture(*size, 3)
    whole = inference.probabilities(net, image[None])[0]
    found = inference.sliding_window(net, image, 80, 64, "crop", stride=4, batch_size=3, scores=True)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    labels = inference.sliding_window(net, image, 80, 64, "crop", stride=4)
    np.testing.assert_array_equal(labels, found.argmax(-1))
    assert labels.dtype == np.uint8


@pytest.mark.parametrize("blend", ["hann", "linear", "uniform"])
def test_blended_windows_are_near_the_whole_image_and_add_up_to_one(net, blend):
    image = picture(64, 90, 3)
    whole = inference.probabilities(net, image[None])[0]
    found = inference.sliding_window(net, image, 32, 0.5, blend, stride=4, scores=True)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    hard = inference.sliding_window(net, image, 32, 0, "uniform", stride=4, scores=True)
    assert np.abs(found - whole).mean() < np.abs(hard - whole).mean()


def test_windows_read_and_write_files(net, tmp_path):
    image = picture(70, 40, 3)
    stored = np.memmap(tmp_path / "image", np.uint8, "w+", shape=image.shape)
    stored[:] = image
    out = np.memmap(tmp_path / "labels", np.uint8, "w+", shape=image.shape[:2])
    assert inference.sliding_window(net, stored, 32, out=out, stride=4) is out
    np.testing.assert_array_equal(out, inference.sliding_window(net, image, 32, stride=4))
    with pytest.raises(ValueError, match="out must have the shape"):
        inference.sliding_window(net, image, 32, out=out[:5], stride=4)
    with pytest.raises(ValueError, match="blend is"):
        inference.sliding_window(net, image, 32, blend="none")
    for overlap in (1.0, -0.5, -3):
        with pytest.raises(ValueError, match="overlap is a share"):
            inference.sliding_window(net, image, 32, overlap)


def test_flips_move_along(net):
    image = picture(1, 32, 32, 3)
    flips = ("horizontal", "vertical", "both")
    found = inference.probabilities(net, image, flips)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(inference.probabilities(net, image[:, :, ::-1], flips)[:, :, ::-1], found, atol=1e-5)
    alone = [inference.probabilities(net, image), inference.probabilities(net, image[:, :, ::-1])[:, :, ::-1]]
    np.testing.assert_allclose(inference.probabilities(net, image, ("horizontal",)), np.mean(alone, axis=0), atol=1e-6)
    with pytest.raises(ValueError, match="a flip is one of"):
        inference.probabilities(net, image, ("diagonal",))


def test_predict_one_image_and_many(net):
    images = picture(5, 16, 16, 3)
    found = inference.predict(net, images, batch_size=2)
    assert found.shape == (5, 16, 16) and found.dtype == np.uint8
    np.testing.assert_array_equal(inference.predict(net, images[4]), found[4])
    np.testing.assert_array_equal(found, inference.probabilities(net, images).argmax(-1))
    with pytest.raises(ValueError, match="no images"):
        inference.predict(net, images[:0])


def test_overlapping_tiles_equal_the_whole_mirrored_image():
    model = unet((None, None, 3), 3, (4, 5), padding="valid")  # 16 pixels fewer; 36 -> 20, a multiple of 2
    image = picture(30, 47, 3)
    found = inference.overlap_tile(model, image, tile=36, batch_size=4, scores=True)
    whole = inference.probabilities(model, np.pad(image, [(8, 8), (8, 9), (0, 0)], mode="symmetric")[None])[0]
    np.testing.assert_allclose(found, whole[:, :47], atol=1e-5)
    with pytest.raises(ValueError, match="nothing to mirror"):
        inference.overlap_tile(unet((None, None, 3), 3, (4, 5)), image, tile=32)


@pytest.mark.parametrize("output_stride", [32, 8])
def test_what_only_interpolates_pads_and_cuts_has_no_macs(output_stride):
    """No warning that something is not counted, and the sum is that of the convolutions."""
    model = deeplab((40, 40, 1), 2, "vgg11", filters=8, output_stride=output_stride, decoder=False, width=1 / 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = arithmetic.layer_table(model)
    assert set(table["type"][table["macs"] > 0]) == {"Conv2D"}
    assert {"Enlarge", "PadToStride", "CropLike", "Spread"} <= set(table["type"])
