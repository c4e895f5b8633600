"""Focal loss, smooth L1 and the losses of whole boxes: values and gradients of torchvision and PyTorch, and by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from utils import boxes, introspection
from utils.detection import losses

FORMS = {"a25g2": (0.25, 2), "nog2": (None, 2), "a25g0": (0.25, 0), "a75g5": (0.75, 5)}
BOX_LOSSES = {"iou": losses.iou_loss, "giou": losses.giou_loss, "diou": losses.diou_loss, "ciou": losses.ciou_loss}


@pytest.mark.parametrize("form", FORMS)
def test_focal_loss_is_torchvisions(golden, form):
    values, (alpha, gamma) = golden("losses.npz"), FORMS[form]
    targets, logits = values["c0_focal_targets"], values["c0_focal_logits"]
    found = losses.sigmoid_focal(targets, logits, alpha, gamma)
    np.testing.assert_allclose(ops.convert_to_numpy(found), values[f"c0_focal_{form}_loss"], rtol=1e-5, atol=1e-5)
    slopes = introspection.gradients(
        lambda x: losses.sigmoid_focal(ops.convert_to_tensor(targets), x, alpha, gamma), logits
    )
    np.testing.assert_allclose(slopes, values[f"c0_focal_{form}_grad"], rtol=1e-5, atol=1e-5)


def test_focal_loss_by_hand():
    # p = .5 on both sides: -log p = log 2, times .5^2, times a quarter for the one and three quarters for the zero.
    found = losses.sigmoid_focal(np.array([1, 0]), np.zeros(2, "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(found), np.log(2) / 4 * np.array([0.25, 0.75]), rtol=1e-6)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_focal_loss_stays_finite_where_probabilities_are_0_and_1(gamma):
    logits = np.array([-1e4, -200, 200, 1e4, 0], "float32")
    for truth in (0.0, 1.0):
        values = ops.convert_to_numpy(losses.sigmoid_focal(np.full(5, truth, "float32"), logits, gamma=gamma))
        slopes = introspection.gradients(
            lambda x, t=truth: losses.sigmoid_focal(ops.full((5,), t), x, gamma=gamma), logits, batch_size=5
        )
        assert np.isfinite(values).all() and np.isfinite(slopes).all()


@pytest.mark.parametrize(("name", "beta"), [("beta1", 1.0), ("beta1_9", 1 / 9)])
def test_smooth_l1_is_pytorchs(golden, name, beta):
    values = golden("losses.npz")
    truth, predicted = values["c0_smooth_l1_target"], values["c0_smooth_l1_prediction"]
    found = losses.smooth_l1(truth, predicted, beta)
    np.testing.assert_allclose(ops.convert_to_numpy(found), values[f"c0_smooth_l1_{name}_loss"], rtol=1e-5, atol=1e-5)
    slopes = introspection.gradients(lambda x: losses.smooth_l1(ops.convert_to_tensor(truth), x, beta), predicted)
    np.testing.assert_allclose(slopes, values[f"c0_smooth_l1_{name}_grad"], rtol=1e-5, atol=1e-5)


def test_smooth_l1_by_hand():
    found = losses.smooth_l1(np.zeros(3, "float32"), np.array([0.5, -1, 3], "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(found), [0.125, 0.5, 2.5])
    np.testing.assert_allclose(ops.convert_to_numpy(losses.smooth_l1(np.zeros(1), np.array([-3.0]), beta=0)), [3])


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_box_losses_are_1_less_the_overlap_of_each_pair(golden, name):
    values = golden("box_iou.npz")
    truth = values["c0_boxes1"]
    found = ops.convert_to_numpy(BOX_LOSSES[name](truth, values["c0_boxes2"][:8]))
    np.testing.assert_allclose(found, 1 - np.diagonal(values[f"c0_{name}"][:, :8]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(BOX_LOSSES[name](truth[None], truth[None])), np.zeros((1, 8)), atol=1e-6
    )


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_box_losses_pull_boxes_together_that_do_not_overlap(name):
    box, truth = np.array([[0, 0, 10, 10]], "float32"), np.array([[30, 0, 40, 10]], "float32")
    slopes = introspection.gradients(lambda x: BOX_LOSSES[name](ops.convert_to_tensor(truth), x), box)
    assert slopes[0, 2] < 0  # moving the right side to the right lowers the loss
    assert not introspection.gradients(lambda x: BOX_LOSSES["iou"](ops.convert_to_tensor(truth), x), box).any()
    closer = BOX_LOSSES[name](truth, box + np.array([10, 0, 10, 0], "float32"))
    assert float(ops.sum(closer)) < float(ops.sum(BOX_LOSSES[name](truth, box)))


def test_losses_are_float32_in_half_precision(mixed_precision):
    truth, predicted = np.array([1.0], "float16"), np.array([60.0], "float16")
    for loss in (losses.sigmoid_focal, losses.smooth_l1):
        found = loss(ops.convert_to_tensor(truth), ops.convert_to_tensor(predicted))
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
    large = ops.convert_to_tensor(np.array([[0, 0, 400, 400]], "float16"))
    np.testing.assert_allclose(ops.convert_to_numpy(losses.giou_loss(large, large)), [0], atol=1e-6)
    assert float(boxes.area(large)[0]) == 160000
