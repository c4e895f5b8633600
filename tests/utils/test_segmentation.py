"""Metrics against golden values and scikit-learn, losses against NumPy, and U-Net's counts, sizes and bad input."""

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.metrics import confusion_matrix

from utils.segmentation import losses, metrics, unet
from utils.segmentation.unet import valid_size

CLASSES = 4


def number(value):
    return float(ops.convert_to_numpy(value))


def rule(*shape, classes=CLASSES, seed=0):
    """Labels with a tenth ignored, and logits."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, shape)
    labels[random.random(shape) < 0.1] = 255
    return labels, random.normal(size=(*shape, classes)).astype("float32") * 2


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


# Metrics


@pytest.mark.once
@pytest.mark.parametrize("case", ["c0_m0", "c0_m1", "c0_m2"])
def test_scores_are_the_golden_ones(case, golden):
    values = {key.removeprefix(f"{case}_"): value for key, value in golden("segmentation_metrics.npz").items()}
    classes = int(values["num_classes"])
    matrix = metrics.confusion(values["labels"], values["predictions"], classes)
    np.testing.assert_array_equal(matrix, values["confusion"])
    found = metrics.scores(matrix)
    for key in (
        "pixel_accuracy",
        "mean_accuracy",
        "mean_iou",
        "mean_dice",
        "frequency_weighted_iou",
        "class_accuracy",
        "iou",
        "dice",
    ):
        np.testing.assert_allclose(found[key], values[key], rtol=1e-12, err_msg=key)


@pytest.mark.once
def test_confusion_agrees_with_scikit_learn_and_adds_up_over_batches():
    labels, _ = rule(3, 9, 7)
    predictions = np.random.default_rng(1).integers(0, CLASSES, labels.shape)
    counted = labels != 255
    expected = confusion_matrix(labels[counted], predictions[counted], labels=range(CLASSES))
    np.testing.assert_array_equal(metrics.confusion(labels, predictions, CLASSES), expected)
    total = metrics.Confusion(CLASSES)
    for one, other in zip(labels, predictions):
        total.update(one, other)
    np.testing.assert_array_equal(total.matrix, expected)
    assert total.scores()["mean_iou"] == metrics.scores(expected)["mean_iou"]


@pytest.mark.once
def test_keras_mean_iou_agrees():
    labels, logits = rule(2, 8, 8)
    metric = metrics.mean_iou(CLASSES)
    for label, logit in zip(labels, logits):
        metric.update_state(label[None], logit[None])
    expected = metrics.scores(metrics.confusion(labels, logits.argmax(-1), CLASSES))["mean_iou"]
    assert number(metric.result()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.once
def test_undeclared_classes_are_named():
    labels = np.array([[0, 1], [2, 255]])
    with pytest.raises(ValueError, match=r"the masks hold the label 2.*with 2 classes there are 0 to 1, and 255"):
        metrics.confusion(labels, labels * 0, 2)
    with pytest.raises(ValueError, match="the label 255, which is not declared"):
        metrics.confusion(labels, labels * 0, 3, ignore=None)
    with pytest.raises(ValueError, match="the predictions hold the label 3"):
        metrics.confusion(labels, labels * 0 + 3, 3)
    with pytest.raises(ValueError, match="the label -1"):
        metrics.check_labels(labels - 1, 300)
    with pytest.raises(ValueError, match="nearest neighbour"):
        metrics.check_labels(np.array([0.5]), 2)
    with pytest.raises(ValueError, match="shape"):
        metrics.confusion(labels, labels[:1], 3)


@pytest.mark.once
def test_nothing_counted_and_one_class_only():
    nothing = metrics.scores(metrics.confusion(np.full((4, 4), 255), np.zeros((4, 4), int), 3))
    assert all(np.isnan(nothing[key]) for key in ("pixel_accuracy", "mean_iou", "mean_dice"))
    alone = metrics.scores(metrics.confusion(np.zeros((4, 4), int), np.zeros((4, 4), int), 3))
    assert alone["mean_iou"] == alone["pixel_accuracy"] == 1 and np.isnan(alone["iou"][1:]).all()
    assert metrics.scores(metrics.confusion(np.zeros((4, 4), int), np.zeros((4, 4), int), 1))["mean_dice"] == 1


@pytest.mark.once
def test_boundary_f_of_a_shifted_square_by_hand():
    truth, found = np.zeros((20, 20), int), np.zeros((20, 20), int)
    truth[5:11, 5:11], found[5:11, 8:14] = 1, 1
    # Each square has 20 boundary pixels. The upper and lower sides share the columns 8 to 10: 6 pixels. Within a pixel
    # of the other outline there are 4 more: the next one along these two sides, and the next ones down and up the side
    # that lies in the other square.
    assert metrics.boundary_f(truth, found, 2, tolerance=0)[1] == pytest.approx(6 / 20)
    assert metrics.boundary_f(truth, found, 2, tolerance=1)[1] == pytest.approx(10 / 20)
    np.testing.assert_allclose(metrics.boundary_f(truth, found, 2, tolerance=3), 1)
    np.testing.assert_array_equal(metrics.boundary_f(truth, truth, 3), [1, 1, np.nan])
    np.testing.assert_array_equal(metrics.boundary_f(truth, truth * 0, 2), [0, 0])
    truth[:, 7:] = 255
    assert metrics.boundary_f(truth, truth % 255, 2)[1] == 1


@pytest.mark.once
def test_boundary_f_is_the_mean_over_the_images_that_have_the_class():
    truth = np.zeros((3, 12, 12), int)
    truth[0, 3:6, 3:6] = truth[1, 3:6, 3:6] = 1
    found = truth.copy()
    found[1] = 0
    total = metrics.Confusion(2, tolerance=1).update(truth, found).scores()
    assert total["boundary_f"][1] == 0.5 and total["mean_boundary_f"] == 0.5


def test_evaluate_takes_arrays_and_batches():
    labels, logits = rule(5, 6, 6)
    model = keras.Sequential([keras.layers.Input((6, 6, CLASSES)), keras.layers.Identity()])
    expected = metrics.scores(metrics.confusion(labels, logits.argmax(-1), CLASSES))
    for data in ((logits, labels), [(logits[:3], labels[:3]), (logits[3:], labels[3:])]):
        data = data if isinstance(data, tuple) else iter(data)
        found = metrics.evaluate(model, data, CLASSES, batch_size=2)
        assert found["mean_iou"] == expected["mean_iou"] and found["confusion"].sum() == (labels != 255).sum()
    with pytest.raises(ValueError, match="gives 4 classes, not 3"):
        metrics.evaluate(model, (logits, labels), 3)
    with pytest.raises(ValueError, match="no images"):
        metrics.evaluate(model, (logits[:0], labels[:0]), CLASSES)
    with pytest.raises(ValueError, match="no images"):
        metrics.evaluate(model, iter(()), CLASSES)


# Losses: (function, class, the same by NumPy for one-hot truth (n, C) and probabilities (n, C))


def dice_by_hand(truth, p):
    there = truth.sum(0) > 0
    return 1 - np.mean((2 * (truth * p).sum(0) / (truth.sum(0) + p.sum(0)))[there])


def tversky_by_hand(truth, p, alpha=0.3, beta=0.7):
    there = truth.sum(0) > 0
    tp, fp, fn = (truth * p).sum(0), ((1 - truth) * p).sum(0), (truth * (1 - p)).sum(0)
    return 1 - np.mean((tp / (tp + alpha * fp + beta * fn))[there])


LOSSES = {
    "cross_entropy": (losses.cross_entropy, losses.CrossEntropy(), lambda t, p: -np.log((t * p).sum(1)).mean()),
    "focal": (
        losses.focal,
        losses.Focal(),
        lambda t, p: (-((1 - (t * p).sum(1)) ** 2) * np.log((t * p).sum(1))).mean(),
    ),
    "dice": (losses.dice, losses.Dice(), dice_by_hand),
    "tversky": (losses.tversky, losses.Tversky(), tversky_by_hand),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_formulas(name):
    function, loss, by_hand = LOSSES[name]
    labels, logits = rule(2, 7, 6)
    labels[labels == 3] = 0  # a class that is nowhere
    counted = labels != 255
    expected = by_hand(np.eye(CLASSES)[labels[counted]], softmax(logits[counted].astype("float64")))
    assert number(function(labels, logits)) == pytest.approx(expected, rel=1e-5)
    assert number(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)
    assert number(loss(labels[..., None], logits)) == pytest.approx(expected, rel=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert number(copy(labels, logits)) == pytest.approx(expected, rel=1e-5)


def test_tversky_is_dice_at_one_half_and_alpha_weighs_false_positives():
    labels, logits = rule(2, 5, 5)
    half = number(losses.tversky(labels, logits, 0.5, 0.5))
    assert half == pytest.approx(number(losses.dice(labels, logits)), rel=1e-5)
    truth = np.zeros((1, 2, 2), int)
    truth[0, 0, 0] = 1
    everywhere = np.zeros((1, 2, 2, 2), "float32")
    everywhere[..., 1] = 20  # class 1: one true positive, three false positives
    found = number(losses.tversky(truth, everywhere, alpha=0.1, beta=0.9, background=False))
    assert found == pytest.approx(1 - 1 / (1 + 0.1 * 3), rel=1e-4)


def test_keras_own_tversky_exchanges_alpha_and_beta():
    """Why ours stands beside it; the day Keras changes its mind, this test says so."""
    truth, p = np.array([1.0, 0, 0, 0], "float32"), np.ones(4, "float32")  # three false positives
    assert number(keras.losses.tversky(truth, p, alpha=0.1, beta=0.9)) == pytest.approx(1 - 1 / (1 + 0.9 * 3), rel=1e-4)


def test_cross_entropy_without_weights_is_keras_own():
    labels, logits = rule(2, 5, 5)
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    assert number(losses.cross_entropy(labels, logits)) == pytest.approx(number(keras_loss(labels, logits)), rel=1e-5)


def test_class_weights_and_pixel_weights():
    labels, logits = rule(2, 5, 5)
    weights = np.array([0.5, 1, 2, 0])
    counted = labels != 255
    p = (np.eye(CLASSES)[labels[counted]] * softmax(logits[counted].astype("float64"))).sum(1)
    w = weights[labels[counted]]
    expected = -(w * np.log(p)).sum() / w.sum()
    assert number(losses.cross_entropy(labels, logits, weights)) == pytest.approx(expected, rel=1e-5)
    loss = losses.CrossEntropy(class_weights=weights)
    assert number(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)
    of_pixels = np.full(labels.shape, 3.0)
    assert number(loss(labels, logits, of_pixels)) == pytest.approx(3 * expected, rel=1e-5)
    with pytest.raises(ValueError, match="4 class weights"):
        losses.cross_entropy(labels, logits, [1, 2])


def gradient(loss, labels, logits):
    """Of a loss with respect to logits, by central differences: the same code for every backend."""
    result = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[place] = 1e-2
        result[place] = (number(loss(labels, logits + step)) - number(loss(labels, logits - step))) / 2e-2
    return result


def trained(loss, labels, logits, learning_rate=1.0):
    """Logits after one step of gradient descent by Keras: the backend's own gradient."""
    layer = keras.layers.Dense(logits[0].size, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.layers.Input((1,)), layer, keras.layers.Reshape(logits.shape[1:])])
    layer.kernel.assign(logits.reshape(1, -1))
    model.compile(keras.optimizers.SGD(learning_rate), loss, jit_compile=False)
    value = model.train_on_batch(np.ones((1, 1), "float32"), labels)
    return float(np.asarray(value).ravel()[0]), np.asarray(layer.get_weights()[0]).reshape(logits.shape)


@pytest.mark.parametrize("name", LOSSES)
def test_an_ignored_batch_costs_nothing_and_changes_nothing(name):
    loss = LOSSES[name][1]
    _, logits = rule(1, 3, 2)
    value, after = trained(loss, np.full((1, 3, 2), 255), logits)
    assert value == 0
    np.testing.assert_array_equal(after, logits)


@pytest.mark.parametrize("name", LOSSES)
def test_backends_gradients_and_the_ignored_pixels(name):
    loss = LOSSES[name][1]
    labels, logits = rule(1, 3, 2, seed=3)
    labels[0, 0, 0] = 255
    value, after = trained(loss, labels, logits)
    assert value == pytest.approx(number(loss(labels, logits)), rel=1e-5)
    np.testing.assert_allclose(logits - after, gradient(loss, labels, logits), atol=2e-3)
    np.testing.assert_array_equal(after[0, 0, 0], logits[0, 0, 0])


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite_and_undeclared_labels_do_not_pass_unnoticed(name):
    loss = LOSSES[name][1]
    labels, logits = rule(1, 3, 2)
    value, after = trained(loss, labels, np.sign(logits) * 200)
    assert np.isfinite(value) and np.isfinite(after).all()
    assert np.isnan(number(loss(np.where(labels == 1, CLASSES, labels), logits)))
    assert number(loss(labels * 0, logits[..., :1])) == pytest.approx(0, abs=1e-6)  # a single class: nothing to learn


def test_focal_still_pulls_where_keras_own_has_no_gradient():
    labels, logits = np.zeros((1, 1, 1), int), np.array([[[[-20.0, 20.0]]]], "float32")
    _, after = trained(losses.Focal(), labels, logits)
    assert after[0, 0, 0, 0] > -19.5


def test_dice_per_image_and_without_background():
    labels, logits = rule(2, 6, 6)
    values = ops.convert_to_numpy(losses.dice(labels, logits, per_image=True))
    assert values.shape == (2,)
    assert values[1] == pytest.approx(number(losses.dice(labels[1:], logits[1:])), rel=1e-5)
    assert number(losses.dice(labels * 0, logits, background=False)) == 0


def test_a_sum_of_losses():
    labels, logits = rule(2, 6, 6)
    both = losses.Sum(losses.CrossEntropy(), losses.Dice(), weights=(1, 0.5))
    expected = number(losses.cross_entropy(labels, logits)) + 0.5 * number(losses.dice(labels, logits))
    assert number(both(labels, logits)) == pytest.approx(expected, rel=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(both))
    assert number(copy(labels, logits)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="1 losses, but 2 weights"):
        losses.Sum(losses.Dice(), weights=(1, 2))


@pytest.mark.once
def test_class_weights_of_masks_by_hand():
    masks = np.array([[[0, 0], [0, 1]], [[0, 0], [0, 255]]])
    # Class 0: 6 of the 7 counted pixels; class 1: 1 of the 4 pixels of its image. Their median: (6/7 + 1/4) / 2.
    median = (6 / 7 + 1 / 4) / 2
    np.testing.assert_allclose(losses.class_weights(masks, 3), [median * 7 / 6, median * 4, 0], rtol=1e-6)
    np.testing.assert_allclose(losses.class_weights(masks, 3, "inverse"), [2 / 7, 12 / 7, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="method"):
        losses.class_weights(masks, 3, "none")
    with pytest.raises(ValueError, match="not declared"):
        losses.class_weights(masks, 1)


@pytest.mark.once
def test_border_weights_are_equation_2():
    instances = np.zeros((3, 1, 7), int)
    instances[0, 0, :2] = instances[1, 0, 4:] = 1  # one empty slot of padding
    weights = losses.border_weights(instances, w0=10, sigma=5)
    between = 1 + 10 * np.exp(-((1 + 2) ** 2) / 50)
    np.testing.assert_allclose(weights[0], [1, 1, between, between, 1, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(losses.border_weights(instances[:1]), np.ones((1, 7)))


# U-Net


@pytest.mark.once
def test_the_papers_unet():
    with keras.StatelessScope(initialize_variables=False):  # the layers alone: 31 million weights take a while
        model = unet((572, 572, 1), 2, padding="valid")
    assert model.count_params() == 31_030_658
    assert model.output_shape == (None, 388, 388, 2)
    assert valid_size(572) == 388
    with pytest.raises(ValueError, match="570 pixels do not halve without a rest: 572 do"):
        unet((570, 570, 1), 2, padding="valid")


def test_the_valid_form_gives_the_logits_of_what_each_pixel_sees():
    """Moving the image by the stride moves the logits along: the crops are centred rightly."""
    model = unet((None, None, 1), 3, (4, 6, 8), padding="valid")
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 68, 1)).astype("float32")
    here, there = model.predict_on_batch(image[:, :60, :60]), model.predict_on_batch(image[:, 4:, 8:])
    assert here.shape[1] == valid_size(60, 3) == 20
    np.testing.assert_allclose(there[:, :-4, :-8], here[:, 4:, 8:], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "to"),
    [({}, (24, 36)), ({"stem_stride": 2}, (24, 40)), ({"upsampling": "bilinear", "dropout": 0.5}, (24, 36))],
)
def test_unet_takes_images_of_any_size_and_equals_its_padded_self(options, to):
    model = unet((None, None, 3), 5, (4, 6, 8), **options)
    image = np.random.default_rng(0).integers(0, 256, (2, 21, 34, 3), np.uint8)
    logits = model.predict_on_batch(image)
    assert logits.shape == (2, 21, 34, 5)
    by_hand = np.pad(image, [(0, 0), (0, to[0] - 21), (0, to[1] - 34), (0, 0)], mode="edge")
    np.testing.assert_allclose(logits, model.predict_on_batch(by_hand)[:, :21, :34], atol=1e-4)


def test_unet_is_saved_and_loaded(tmp_path):
    model = unet((None, None, 3), 3, (4, 6), stem_stride=2)
    image = np.random.default_rng(0).integers(0, 256, (1, 10, 11, 3), np.uint8)
    model.save(tmp_path / "unet.keras")
    copy = keras.models.load_model(tmp_path / "unet.keras")
    np.testing.assert_allclose(copy.predict_on_batch(image), model.predict_on_batch(image), atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "options", "channels"),
    [("small", {}, 3), ("glyphs", {}, 1), ("glyphs", {}, 3), ("resnet18", {"width": 0.125, "stem": "3x3"}, 3)],
)
def test_unet_on_backbones(backbone, options, channels):
    model = unet((None, None, channels), 3, backbone=backbone, **options)
    image = np.random.default_rng(0).integers(0, 256, (1, 30, 21, channels), np.uint8)
    assert model.predict_on_batch(image).shape == (1, 30, 21, 3)
    frozen = model.get_layer("backbone")
    frozen.trainable = False
    assert not {id(w) for w in frozen.weights} & {id(w) for w in model.trainable_weights}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "full"}, "padding is"),
        ({"upsampling": "cubic"}, "upsampling is"),
        ({"stem_stride": 4}, "stem_stride is"),
        ({"widths": (8,)}, "two stages"),
        ({"padding": "valid", "stem_stride": 2}, "the paper's form"),
        ({"alpha": 0.5}, "unknown option 'alpha'"),
        ({"backbone": "vgg99"}, "no backbone 'vgg99'"),
        ({"backbone": "small", "levels": [0, 5]}, "has no map of level 5"),
        ({"backbone": "small", "levels": [0, 2]}, "without a gap"),
        ({"backbone": "small", "widths": (8,)}, "3 levels need 2 widths"),
    ],
)
def test_unet_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        unet((32, 32, 3), 2, **options)


# Half precision

FREE = {
    "cross_entropy": losses.cross_entropy,
    "weighted": lambda y, z: losses.cross_entropy(y, z, class_weights=[1, 2, 3, 4]),
    "focal": losses.focal,
    "dice": losses.dice,
    "dice of each image": lambda y, z: losses.dice(y, z, per_image=True),
    "tversky": losses.tversky,
}
COMPILED = [
    losses.CrossEntropy,
    losses.Focal,
    losses.Dice,
    losses.Tversky,
    lambda **o: losses.Sum(losses.Dice(**o), **o),
]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("loss", FREE)
def test_losses_of_half_precision_are_those_of_the_same_numbers_in_float32(loss, dtype):
    """256 x 256 pixels: more than float16 can count."""
    labels, logits = rule(2, 256, 256)
    logits = ops.cast(ops.cast(logits, dtype), "float32")  # what the half precision holds
    expected = ops.convert_to_numpy(FREE[loss](labels, logits))
    assert np.isfinite(expected).all() and (expected > 0.1).all()
    found = ops.convert_to_numpy(FREE[loss](labels, ops.cast(logits, dtype)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("make", COMPILED)
def test_compiled_losses_compute_in_float32_at_least(make):
    labels, logits = rule(2, 256, 256)
    expected = number(make()(labels, logits))
    assert number(make(dtype="float16")(labels, logits)) == pytest.approx(expected, rel=1e-5)
    keras.config.set_floatx("float16")
    try:
        assert number(make()(labels, logits)) == pytest.approx(expected, rel=1e-5)
        metric = metrics.mean_iou(CLASSES)
        metric.update_state(labels, logits)
    finally:
        keras.config.set_floatx("float32")
    truth = metrics.scores(metrics.confusion(labels, logits.argmax(-1), CLASSES))["mean_iou"]
    assert number(metric.result()) == pytest.approx(truth, abs=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_half_precision_is_trained_and_scored_by_the_right_numbers(policy):
    labels, images = rule(2, 64, 64)
    keras.config.set_dtype_policy(policy)
    try:
        model = keras.Sequential([keras.layers.Input((64, 64, CLASSES)), keras.layers.Identity()])
        model.compile("sgd", losses.Sum(losses.CrossEntropy(), losses.Dice()), metrics=[metrics.mean_iou(CLASSES)])
        loss, mean_iou = model.evaluate(images, labels, verbose=0)
        found = metrics.evaluate(model, (images, labels), CLASSES)
    finally:
        keras.config.set_dtype_policy("float32")
    expected = number(losses.cross_entropy(labels, images)) + number(losses.dice(labels, images))
    assert loss == pytest.approx(expected, rel=2e-2)
    assert found["mean_iou"] == pytest.approx(mean_iou, abs=1e-2)
