"""Images that are made step by step: feature visualisation and fooling; and the sanity check."""

import keras
import numpy as np
import pytest
from keras import layers

from utils import introspection


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def linear(weights, bias=None, activation=None):
    """Scores W x of images of the shape of weights (H, W, C, classes)."""
    *shape, classes = weights.shape
    net = keras.Sequential([keras.Input(tuple(shape)), layers.Flatten(), layers.Dense(classes, activation=activation)])
    net.set_weights([weights.reshape(-1, classes), np.zeros(classes) if bias is None else np.asarray(bias)])
    return net


# Activation maximisation


def test_the_image_that_excites_a_linear_unit_is_its_weights():
    weights = random(6, 6, 2, 3, seed=1)
    net = linear(weights, activation="softmax")
    found = introspection.maximise(net, 1, steps=120, rate=0.02, jitter=0, decay=0, blur=0, limits=(-1, 1))
    assert np.array_equal(np.sign(found.images[0]), np.sign(weights[..., 1])), "every value goes to its own limit"
    np.testing.assert_allclose(found.scores[-1], np.abs(weights[..., 1]).sum(), rtol=0.02)
    assert found.scores.shape == (121, 1) and (np.diff(found.scores[:40, 0]) > 0).all()


def test_a_step_moves_a_value_by_the_rate_in_the_mean():
    weights = random(6, 6, 2, 3, seed=1)
    start = np.full((2, 6, 6, 2), 100.0)
    found = introspection.maximise(linear(weights), 0, start=start, steps=1, rate=0.01, jitter=0, decay=0, blur=0)
    expected = 2.55 * weights[..., 0] / np.abs(weights[..., 0]).mean()
    np.testing.assert_allclose(found.images - 100, np.broadcast_to(expected, start.shape), rtol=1e-3, atol=1e-3)
    grey = introspection.maximise(linear(weights), 0, start=start, steps=1, rate=0, jitter=0, decay=0.1, blur=0)
    np.testing.assert_allclose(grey.images, 127.5 - 0.9 * 27.5, rtol=1e-5)


def test_a_channel_of_a_layer_is_found_by_its_filter():
    net = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(2, 3, activation="relu", name="edges"),
            layers.GlobalMaxPooling2D(),
        ]
    )
    vertical = np.array([[-1, 0, 1]] * 3, "float32")
    net.set_weights([np.stack([vertical, vertical.T], axis=-1)[:, :, None], np.zeros(2)])
    found = introspection.maximise(net, 0, "edges", shape=(10, 10, 1), count=2, steps=30, seed=4)
    assert found.images.shape == (2, 10, 10, 1) and found.images.min() >= 0 and found.images.max() <= 255
    assert (found.scores[-1] > found.scores[0] + 20).all()
    again = introspection.maximise(net, 0, "edges", shape=(10, 10, 1), count=2, steps=30, seed=4)
    np.testing.assert_allclose(found.images, again.images, atol=1)
    with pytest.raises(ValueError, match=r"pass shape=\(height, width, channels\)"):
        introspection.maximise(net, 0, "edges")
    with pytest.raises(ValueError, match="layer 'edges' has 2 channels, there is no channel 2"):
        introspection.maximise(net, 2, "edges", shape=(10, 10, 1))


@pytest.mark.parametrize("fused", [True, False])
def test_a_channel_that_is_silent_at_first_wakes(fused):
    kernel, bias = np.ones((3, 3, 1, 1)), np.array([-9 * 140.0])
    net = [keras.Input((6, 6, 1)), layers.Conv2D(1, 3, activation="relu" if fused else None, name="unit")]
    net = keras.Sequential(net if fused else [*net, layers.ReLU(name="relu")])
    net.set_weights([kernel, bias])
    start = np.full((1, 6, 6, 1), 100.0)
    found = introspection.maximise(net, 0, "unit" if fused else "relu", start=start, steps=20, rate=0.05, jitter=0)
    assert found.scores[0] == 0 and found.scores[-1] > 100


# Fooling


def test_steps_along_the_signs_change_the_class_of_a_linear_net():
    weights, image = random(4, 4, 1, 2, seed=2), np.full((4, 4, 1), 100.0)
    net = linear(weights, activation="softmax")
    scores = np.einsum("ijc,ijck->k", image, weights)
    before, target = int(scores.argmax()), int(scores.argmin())
    found = introspection.fool(net, image, target=target, step=0.5, steps=400)
    assert (found.before, found.after, found.changed) == (before, target, True)
    difference = weights[..., target] - weights[..., before]
    taken = len(found.path) - 1
    np.testing.assert_allclose(found.image - image, 0.5 * taken * np.sign(difference), atol=1e-3)
    assert taken == np.ceil((scores[before] - scores[target]) / np.abs(difference).sum() / 0.5), (
        "as few steps as it takes"
    )
    assert abs(found.largest - 0.5 * taken) < 1e-4
    np.testing.assert_allclose(found.path.sum(axis=1), 1, rtol=1e-5)
    assert found.path[-1].argmax() == target and found.path[0].argmax() == before


def test_a_target_is_reached_past_other_classes_and_without_one_the_nearest_is_taken():
    # One pixel x, scores 10, x + 5 and 3 x - 20: the second class wins from 5 on, the third from 12.5 on.
    net = linear(np.array([0, 1, 3], "float32").reshape(1, 1, 1, 3), bias=[10, 5, -20])
    found = introspection.fool(net, np.zeros((1, 1, 1)), target=2)
    assert found.path.argmax(axis=1).tolist() in ([0] * 6 + [1] * 7 + [2], [0] * 5 + [1] * 8 + [2])
    nearest = introspection.fool(net, np.zeros((1, 1, 1)))
    assert nearest.after == 1 and nearest.largest in (5, 6)


def test_limits_hold_and_random_signs_do_far_less():
    weights, image = random(8, 8, 1, 2, seed=3), np.zeros((1, 8, 8, 1)) + 3
    weights[..., 0] += 0.1
    net = linear(weights, bias=[40, 0])
    one = introspection.fool(net, image, step=2, steps=3, limit=1.5)
    assert one.largest <= 1.5 and one.image.min() >= 1.5
    low = introspection.fool(net, image, step=50, steps=1)
    assert low.image.min() >= 0 and low.largest <= 50
    aimed = introspection.fool(net, image, step=1, steps=3)
    chance = introspection.fool(net, image, step=1, steps=3, random=True)
    assert aimed.changed and not chance.changed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 3}, "class_index must be in 0 to 1, got 3"),
        ({"target": 0}, "of class 0 already"),
        ({"step": 0}, "step must be above 0"),
        ({"steps": 0}, "steps at least 1"),
    ],
)
def test_what_is_refused(arguments, message):
    net = linear(random(4, 4, 1, 2), bias=[100, 0])
    with pytest.raises(ValueError, match=message):
        introspection.fool(net, np.zeros((4, 4, 1)), **arguments)
    with pytest.raises(ValueError, match="one image at a time, got 2"):
        introspection.fool(net, np.zeros((2, 4, 4, 1)))


# Sanity check


def test_random_weights_change_the_map_and_the_model_keeps_its_own():
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(3, name="logits"),
        ]
    )
    before = [weight.copy() for weight in net.get_weights()]
    top, everything = introspection.randomise(net, last=1), introspection.randomise(net)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights()))
    changed = [[not np.array_equal(a, b) for a, b in zip(before, copy.get_weights())] for copy in (top, everything)]
    assert changed == [[False, False, False, False, True, False], [True, False] * 3]
    assert np.array_equal(np.sort(before[2].ravel()), np.sort(everything.get_weights()[2].ravel()))
    images = random(4, 8, 8, 1)
    maps = [introspection.saliency(one, images, 0) for one in (net, top, everything)]
    same = introspection.rank_correlation(maps[0], 3 * maps[0] + 1)
    np.testing.assert_allclose(same, 1)
    assert introspection.rank_correlation(maps[0], maps[2]).mean() < 0.6
    assert not np.allclose(maps[0], maps[1])
    with pytest.raises(ValueError, match="has 3 layers with kernels, got last=4"):
        introspection.randomise(net, last=4)


@pytest.mark.once
def test_rank_correlation_map_by_map():
    maps = np.array([[[1, 2], [3, 4]], [[1, 2], [3, 4]], [[1, 1], [1, 1]]])
    others = np.array([[[1, 4], [9, 16]], [[4, 3], [2, 1]], [[1, 2], [3, 4]]])
    found = introspection.rank_correlation(maps, others)
    np.testing.assert_allclose(found[:2], [1, -1])
    assert np.isnan(found[2])
    with pytest.raises(ValueError, match="cannot be compared"):
        introspection.rank_correlation(maps, others[:2])
