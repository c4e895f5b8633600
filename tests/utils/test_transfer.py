"""Features, freezing, heads, learning curves by data size."""

import random

import keras
import numpy as np
import pytest
from keras import layers

from utils import training, transfer


@pytest.fixture(scope="module")
def digits():
    """Scikit-learn's digits as 16 x 16 images, and a small network with batch norms and nested layers."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.kron(data.images, np.ones((2, 2)))[..., None] * 15.9
    return images.astype("uint8"), data.target.astype("int32")


def net(seed=0, channels=1, momentum=0.99):
    keras.utils.set_random_seed(seed)
    x = inputs = layers.Input((16, 16, channels))
    x = layers.Rescaling(1 / 255)(x)
    for number, filters in enumerate((4, 6, 8), 1):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(inputs, x, name="net")


def values(model):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in model.weights}


# Features


def test_codes_are_a_layers_output_averaged(digits):
    images = digits[0][:11]
    model = net()
    expected = keras.ops.convert_to_numpy(model(images.astype("float32"), training=False)).mean(axis=(1, 2))
    for batch_size in (4, 11, 64):
        np.testing.assert_allclose(transfer.embed(model, images, batch_size=batch_size), expected, rtol=1e-4, atol=1e-6)
    second = keras.Model(model.input, model.get_layer("bn2").output)
    expected = keras.ops.convert_to_numpy(second(images.astype("float32"), training=False)).mean(axis=(1, 2))
    codes = transfer.embed(model, images, "bn2", 4)
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-6)
    assert codes.dtype == np.float32 and codes.shape == (11, 6)


def test_codes_follow_the_weights_and_vectors_pass_through(digits):
    images = digits[0][:3]
    model = net()
    before = transfer.embed(model, images)
    model.set_weights([weights * 1.5 for weights in model.get_weights()])
    assert not np.allclose(transfer.embed(model, images), before)
    head = transfer.classifier(model, 7)
    assert transfer.embed(head, images).shape == (3, 7)
    np.testing.assert_allclose(
        transfer.predict(head, images, 2),
        keras.ops.convert_to_numpy(head(images.astype("float32"))),
        rtol=1e-4,
        atol=1e-5,
    )


def test_every_batch_has_one_shape(digits, monkeypatch):
    model = net()
    features = transfer._features(model, None)
    assert transfer._features(model, None) is features
    shapes = []
    inner = features.predict_on_batch
    monkeypatch.setattr(features, "predict_on_batch", lambda batch: shapes.append(batch.shape) or inner(batch))
    assert len(transfer.embed(model, digits[0][:10], batch_size=4)) == 10
    assert set(shapes) == {(4, 16, 16, 1)} and len(shapes) == 3


def test_cached_codes_are_keyed_by_images_weights_and_layer(digits, tmp_path, monkeypatch):
    images, model = digits[0][:5], net()
    first = transfer.embed(model, images, cache=tmp_path)
    calls = []
    compute = transfer._in_batches
    monkeypatch.setattr(transfer, "_in_batches", lambda *arguments: calls.append(1) or compute(*arguments))
    np.testing.assert_array_equal(transfer.embed(model, images, cache=tmp_path), first)
    assert not calls
    transfer.embed(model, images[::-1], cache=tmp_path)
    transfer.embed(model, images, "relu2", cache=tmp_path)
    transfer.embed(net(seed=1), images, cache=tmp_path)
    assert len(calls) == 3 and len(list(tmp_path.glob("*.npy"))) == 4
    for path in tmp_path.glob("*.npy"):
        path.write_bytes(b"damaged")
    np.testing.assert_array_equal(transfer.embed(model, images, cache=tmp_path), first)


def test_embed_names_the_layers_it_knows(digits):
    with pytest.raises(ValueError, match=r"no layer 'conv9'; it has: .*conv1, bn1, relu1"):
        transfer.embed(net(), digits[0][:1], "conv9")
    with pytest.raises(ValueError, match="no images"):
        transfer.embed(net(), digits[0][:0])


@pytest.mark.once
def test_hog_sees_the_orientation_of_an_edge():
    """A vertical edge has horizontal gradients, bin 0 of 9; a horizontal edge those about 90 degrees, bin 4."""
    image = np.zeros((32, 32, 1), np.uint8)
    image[:, 16:] = 255
    codes = transfer.hog(np.stack([image, image.transpose(1, 0, 2)]))
    assert codes.shape == (2, 7 * 7 * 4 * 9) and codes.dtype == np.float32
    totals = codes.reshape(2, -1, 9).sum(axis=1)
    assert totals.argmax(axis=1).tolist() == [0, 4]
    np.testing.assert_allclose(totals[0, 1:], 0, atol=1e-6)
    colour = np.repeat(np.stack([image, image]), 3, axis=-1)
    np.testing.assert_allclose(transfer.hog(colour)[0], codes[0], rtol=1e-5, atol=1e-6)


@pytest.mark.once
def test_neighbours_are_found_by_angle():
    features = np.array([[1.0, 0], [0, 5], [3, 3.1], [-1, 0]])
    indices, distances = transfer.neighbours(features, [[10.0, 0]], 3)
    assert indices.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(distances, [[0, 1 - 3 / np.hypot(3, 3.1), 1]], atol=1e-6)


@pytest.mark.once
def test_projections_keep_clusters_apart():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(20, 5)), rng.normal(size=(20, 5)) + 20])
    for method in ("pca", "tsne"):
        points = transfer.project(features, method)
        assert points.shape == (40, 2)
        gap = np.linalg.norm(points[:20].mean(axis=0) - points[20:].mean(axis=0))
        assert gap > 2 * np.linalg.norm(points[:20] - points[:20].mean(axis=0), axis=1).mean()
    with pytest.raises(ValueError, match="'tsne' or 'pca'"):
        transfer.project(features, "umap")


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_a_linear_probe_standardises_with_its_own_features(kind, digits):
    features, labels = digits[0].reshape(len(digits[0]), -1) * 1.0, digits[1]
    probe = transfer.linear_probe(features[:300], labels[:300], kind)
    assert probe.score(features[900:], labels[900:]) > 0.85
    np.testing.assert_allclose(probe[0].mean_, features[:300].mean(axis=0))
    with pytest.raises(ValueError, match="'logistic' or 'svm'"):
        transfer.linear_probe(features, labels, "tree")


# Networks


def test_a_classifier_has_weights_of_its_own(digits):
    backbone = net()
    before = values(backbone)
    model = transfer.classifier(backbone, 10)
    assert [layer.name for layer in model.layers][-3:] == ["codes", "codes_dropout", "logits"]
    np.testing.assert_array_equal(
        model.get_layer("conv2").get_weights()[0], backbone.get_layer("conv2").get_weights()[0]
    )
    training.compile_classifier(model, keras.optimizers.SGD(0.1))
    model.fit(digits[0][:32], digits[1][:32], verbose=0)
    assert all(np.array_equal(array, before[path]) for path, array in values(backbone).items())
    assert not np.array_equal(model.get_layer("conv2").get_weights()[0], before["conv2/kernel"])


def test_reinitialise_draws_by_seed_and_leaves_the_global_state_alone():
    backbone = net()
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first, again, other = (values(transfer.reinitialise(backbone, seed)) for seed in (0, 0, 1))
    assert random.random() == expected
    for path, weights in values(backbone).items():
        assert first[path].shape == weights.shape
        np.testing.assert_array_equal(first[path], again[path])
        assert path.endswith("kernel") != np.array_equal(first[path], other[path])
        assert path.endswith("kernel") != np.array_equal(first[path], weights)


def trainable(model):
    """Names of the layers with trainable weights, which must be what training itself will see."""
    assert len(model.trainable_variables) == sum(len(layer.trainable_weights) for layer in training.leaf_layers(model))
    return [layer.name for layer in training.leaf_layers(model) if layer.trainable_weights]


def test_freeze_up_to_a_layer_and_thaw_again():
    model = transfer.classifier(net(), 10)
    assert trainable(transfer.freeze(model, "relu2")) == ["conv3", "bn3", "logits"]
    assert trainable(transfer.freeze(model, "conv1")) == ["bn1", "conv2", "bn2", "conv3", "bn3", "logits"]
    assert trainable(transfer.freeze(model, "conv1", batch_norm=True)) == ["conv2", "conv3", "logits"]
    assert trainable(transfer.freeze(model)) == []
    assert len(trainable(transfer.freeze(model, ""))) == 7
    with pytest.raises(ValueError, match="no layer 'conv9'"):
        transfer.freeze(model, "conv9")


def test_freeze_looks_into_nested_models():
    inner = net()
    inner.trainable = False
    model = keras.Sequential(
        [layers.Input((16, 16, 1)), inner, layers.GlobalAveragePooling2D(), layers.Dense(2, name="top")]
    )
    assert trainable(transfer.freeze(model, "bn3")) == ["top"]
    model.trainable = False
    assert trainable(transfer.freeze(model, "bn2")) == ["conv3", "bn3", "top"]


def test_a_frozen_batch_norm_computes_the_same_in_training_and_keeps_its_statistics(digits):
    images, labels = digits[0][:64], digits[1][:64]
    model = transfer.freeze(transfer.classifier(net(), 10), "relu2")
    before = values(model)
    training.compile_classifier(model, keras.optimizers.SGD(0.1))
    model.fit(images, labels, verbose=0)
    changed = {path for path, array in values(model).items() if not np.array_equal(array, before[path])}
    assert changed == {
        *("conv3/kernel", "bn3/gamma", "bn3/beta", "bn3/moving_mean", "bn3/moving_variance"),
        *("logits/kernel", "logits/bias"),
        *(path for path in changed if path == "conv3/bias"),  # batch norm takes it away: its gradient is rounding
    }
    lower = keras.Model(model.input, model.get_layer("relu2").output)
    x = images[:8].astype("float32")
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(lower(x, training=mode)) for mode in (True, False)))


def test_discriminative_rates():
    assert transfer.discriminative_rates(["conv1", "conv5", "logits"]) == {"conv1": 0.01, "conv5": 0.1, "logits": 1.0}
    assert transfer.discriminative_rates(["a", "b"], 3) == {"a": 1 / 3, "b": 1.0}


def test_copy_layers_copies_the_first_blocks_and_names_where_they_end():
    source, target = net(0), transfer.classifier(net(1), 4)
    source.set_weights([weights + 0.5 for weights in source.get_weights()])
    before = values(target)
    assert transfer.copy_layers(source, target, 2) == "relu2"
    after, wanted = values(target), values(source)
    for path in after:
        copied = path.split("/")[0] in ("conv1", "bn1", "conv2", "bn2")
        np.testing.assert_array_equal(after[path], wanted[path] if copied else before[path])
    assert trainable(transfer.freeze(target, transfer.copy_layers(source, target, 2))) == ["conv3", "bn3", "logits"]
    assert transfer.copy_layers(source, target, 0) == ""
    with pytest.raises(ValueError, match="4 layers asked for, but the model has 3"):
        transfer.copy_layers(source, target, 4)
    with pytest.raises(ValueError, match="'conv1' of the source does not fit"):
        transfer.copy_layers(net(channels=3), target, 1)


def test_recalibrated_statistics_are_those_of_the_images(digits):
    """By hand for the first batch norm, whose input depends on no other statistics: mean and variance of the
    convolution's output.
    """
    images = digits[0][:100]
    model = transfer.recalibrate_batch_norm(net(), images, batch_size=25)
    before = keras.Model(model.input, model.get_layer("conv1").output)
    output = keras.ops.convert_to_numpy(before(images.astype("float32")))
    bn = model.get_layer("bn1")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(bn.moving_mean), output.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    variances = [part.var(axis=(0, 1, 2)) for part in np.array_split(output, 4)]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(bn.moving_variance), np.mean(variances, axis=0), rtol=1e-3)
    assert bn.momentum == 0.99
    frozen = transfer.freeze(net(), "relu1")
    kept = values(frozen)["bn1/moving_mean"]
    transfer.recalibrate_batch_norm(frozen, images)
    np.testing.assert_array_equal(values(frozen)["bn1/moving_mean"], kept)
    assert not np.array_equal(values(frozen)["bn2/moving_mean"], values(net())["bn2/moving_mean"])


def test_recalibration_rescues_a_short_training_from_scratch(digits):
    """With MobileNet's momentum of .999, 40 steps move the running averages by 4 %. The same weights, recalibrated,
    predict well.
    """
    images, labels = digits
    chosen = transfer.draw(labels, 20)
    model = transfer.fine_tune(net(momentum=0.999), images[chosen], labels[chosen], steps=40, learning_rate=3e-2)

    def accuracy():
        return np.mean(transfer.predict(model, images[-400:]).argmax(axis=1) == labels[-400:])

    before = accuracy()
    transfer.recalibrate_batch_norm(model, images[chosen])
    assert accuracy() > before + 0.2


# Few images


@pytest.mark.once
def test_draw_takes_as_many_of_each_class_and_larger_sets_contain_smaller():
    labels = np.array([0, 1, 1, 0, 2, 2, 2, 1, 0, 0])
    small, large = transfer.draw(labels, 1, seed=3), transfer.draw(labels, 3, seed=3)
    assert labels[large].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(set(large)) == 9 and set(small) <= set(large)
    assert np.array_equal(large, transfer.draw(labels, 3, seed=3))
    assert any(not np.array_equal(small, transfer.draw(labels, 1, seed=seed)) for seed in range(4, 9))
    assert np.bincount(labels[transfer.draw(labels, 4)]).tolist() == [4, 3, 3], "what there is, where it is fewer"


@pytest.mark.once
def test_repeat_shows_every_image_equally_often():
    images, labels = np.arange(6), np.arange(6) % 2
    x, y = transfer.repeat(images, labels, steps=5, batch_size=3)
    assert len(x) == 15 and np.array_equal(y, x % 2)
    assert set(np.bincount(x, minlength=6)) == {2, 3}
    assert sorted(x[:6]) == sorted(x[6:12]) == list(range(6)) and not np.array_equal(x[:6], x[6:12])
    shifted, _ = transfer.repeat(images, labels, 5, 3, augment=lambda x, rng: x + 10)
    assert np.array_equal(shifted, x + 10)


def test_fine_tune_top_alone_part_and_groups(digits):
    images, labels = digits[0][:60], digits[1][:60]
    backbone = net()
    before = values(backbone)
    expected = {"top": set(), "part": {"conv3"}, "all": {"conv1", "conv2", "conv3"}}
    options = {
        "top": {"up_to": None},
        "part": {"up_to": "relu2"},
        "all": {"multipliers": {"conv1": 0.01, "conv3": 0.1, "logits": 1}},
    }
    for name, option in options.items():
        model = transfer.fine_tune(backbone, images, labels, steps=3, **option)
        after = values(model)
        moved = {
            path.split("/")[0]
            for path in before
            if path.endswith("kernel") and not np.array_equal(before[path], after[path])
        }
        assert moved == expected[name]
        assert all(np.array_equal(array, before[path]) for path, array in values(backbone).items())


def test_learning_curve_is_a_table_of_runs(digits):
    images, labels = digits
    pixels = images.reshape(len(images), -1) / 255
    train, test = slice(0, 1000), slice(1000, 1400)
    methods = {
        "pixels": (pixels[train], pixels[test], lambda x, y, seed: transfer.linear_probe(x, y)),
        "network": (
            images[train],
            images[test],
            lambda x, y, seed: transfer.fine_tune(net(), x, y, steps=2, seed=seed),
        ),
    }
    table = transfer.learning_curve(methods, labels[train], labels[test], per_class=(1, 10), seeds=(0, 1))
    assert table.columns.tolist() == ["method", "per_class", "seed", "accuracy", "seconds"] and len(table) == 8
    row = table[(table.method == "pixels") & (table.per_class == 10) & (table.seed == 1)].iloc[0]
    chosen = transfer.draw(labels[train], 10, seed=1)
    by_hand = transfer.linear_probe(pixels[chosen], labels[chosen]).score(pixels[test], labels[test])
    assert row.accuracy == pytest.approx(by_hand) and row.seconds > 0
    means = table[table.method == "pixels"].groupby("per_class").accuracy.mean()
    assert means[10] > means[1] + 0.1
