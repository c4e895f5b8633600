"""Non-maximum suppression against torchvision's values, a slow greedy loop, and by hand."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from utils import boxes as geometry
from utils.detection.nms import batched_nms, gaussian, linear, nms, select, soft_nms


def kept(indices):
    indices = ops.convert_to_numpy(indices)
    assert indices.dtype == np.int32
    return indices[indices >= 0].tolist()


def slow(boxes, scores, threshold, labels=None):
    """The greedy loop, as one says it."""
    left, chosen = sorted(range(len(boxes)), key=lambda i: -scores[i]), []
    while left:
        best, left = left[0], left[1:]
        chosen.append(best)
        overlaps = geometry.iou(boxes[best : best + 1], boxes[left])[0] if left else []
        left = [
            i
            for i, overlap in zip(left, overlaps)
            if overlap <= threshold or (labels is not None and labels[i] != labels[best])
        ]
    return chosen


def crowd(count, seed=0, size=200):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, size, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 60, (count, 2))], axis=-1).astype("float32")
    return boxes, random.permutation(count).astype("float32") / count, random.integers(0, 3, count).astype("int32")


def chain(count):
    """Each box overlaps its neighbours above a threshold of .3, and the scores fall along the chain: every second one
    stays."""
    left = np.arange(count, dtype="float32") * 5
    return np.stack([left, left * 0, left + 10, left * 0 + 10], axis=-1), np.linspace(1, 0.1, count, dtype="float32")


FORMS = {"arrays": np.asarray, "tensors": ops.convert_to_tensor}


# Values


@pytest.mark.parametrize("count", [0, 1, 5, 50, 300])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("form", FORMS)
def test_kept_are_torchvisions(golden, count, threshold, form):
    if form == "tensors" and (count, threshold) not in ((0, 0.5), (1, 0.5), (50, 0.3)):
        pytest.skip("a loop over tensors outside a graph is slow: some cases will do")
    values = golden("nms.npz")
    boxes, scores, classes = (FORMS[form](values[f"c0_n{count}_{name}"]) for name in ("boxes", "scores", "classes"))
    outputs = count + 3
    assert kept(nms(boxes, scores, threshold, outputs)) == values[f"c0_n{count}_keep_{threshold}"].tolist()
    per_class = batched_nms(boxes, scores, classes, threshold, outputs)
    assert kept(per_class) == values[f"c0_n{count}_batched_keep_{threshold}"].tolist()
    assert tuple(per_class.shape) == (outputs,) and (ops.convert_to_numpy(per_class)[-3:] == -1).all()


@pytest.mark.parametrize("case", ["quarter", "half", "threequarters"])
def test_an_overlap_that_equals_the_threshold_does_not_suppress(golden, case):
    boxes, scores, threshold, expected = (
        golden("nms.npz")[f"c0_equal_{case}_{name}"] for name in ("boxes", "scores", "threshold", "keep")
    )
    assert kept(nms(boxes, scores, float(threshold), 3)) == expected.tolist()


@pytest.mark.parametrize("jit", [False, True])
def test_chains_of_300_are_those_of_the_greedy_loop(compiled, jit):
    boxes, scores = chain(300)
    expected = list(range(0, 300, 2))
    assert slow(boxes, scores, 0.3) == expected
    assert kept(nms(boxes, scores, 0.3, 300)) == expected
    batch = np.stack([boxes, boxes[::-1]]), np.stack([scores, scores])
    found = compiled(lambda b, s: nms(b, s, 0.3, 300), *batch, jit_compile=jit)
    assert kept(found[0]) == kept(found[1]) == expected


def test_arrays_stay_arrays_and_tensors_tensors(monkeypatch):
    boxes, scores, labels = crowd(20)
    whole = [nms(boxes, scores, 0.3, 30), batched_nms(boxes, scores, labels, 0.3, 30)]
    soft = [soft_nms(boxes, scores, labels, 30, decay)[place] for decay in (None, linear(0.3)) for place in (0, 1)]
    as_tensors = [ops.convert_to_tensor(array) for array in (boxes, scores, labels)]
    assert ops.is_tensor(batched_nms(*as_tensors, 0.3, 30))
    for ours, theirs in zip(soft[:2], soft_nms(*as_tensors, 30)):
        np.testing.assert_allclose(ours, ops.convert_to_numpy(theirs), rtol=1e-5)
    # Not one tensor is made on the way: a step of a loop over tensors takes hundreds of times as long as one on arrays.
    monkeypatch.setattr(ops, "convert_to_tensor", None)
    monkeypatch.setattr(ops, "where", None)
    again = [nms(boxes, scores, 0.3, 30), batched_nms(boxes, scores, labels, 0.3, 30)]
    again += [soft_nms(boxes, scores, labels, 30, decay)[place] for decay in (None, linear(0.3)) for place in (0, 1)]
    for first, second in zip(whole + soft, again):
        assert type(first) is np.ndarray and first.dtype in (np.int32, np.float32)
        np.testing.assert_array_equal(first, second)


@settings(max_examples=30)
@given(st.integers(1, 24), st.integers(0, 10**6), st.sampled_from([0.2, 0.5, 0.8]))
def test_greedy_idempotent_and_independent_of_order(count, seed, threshold):
    boxes, scores, labels = crowd(count, seed)
    padded = 24 - count
    scores_padded = np.pad(scores, (0, padded), constant_values=-np.inf)  # one shape for all examples
    boxes_padded, labels_padded = np.pad(boxes, ((0, padded), (0, 0))), np.pad(labels, (0, padded))
    first = kept(batched_nms(boxes_padded, scores_padded, labels_padded, threshold, 24))
    assert first == slow(boxes, scores, threshold, labels)
    again = np.full(24, -np.inf, "float32")
    again[first] = scores[first]
    assert kept(batched_nms(boxes_padded, again, labels_padded, threshold, 24)) == first
    order = np.random.default_rng(seed).permutation(24)
    moved = kept(batched_nms(boxes_padded[order], scores_padded[order], labels_padded[order], threshold, 24))
    assert order[moved].tolist() == first


def test_fewer_outputs_are_the_best_ones():
    boxes, scores, _ = crowd(200)
    assert kept(nms(boxes, scores, 0.5, 7)) == slow(boxes, scores, 0.5)[:7]


def test_a_batch_of_images_at_once():
    batch = [crowd(30, seed) for seed in range(3)]
    boxes, scores, labels = (np.stack(arrays) for arrays in zip(*batch))
    scores[1] = -np.inf  # an image with nothing in it
    found = ops.convert_to_numpy(batched_nms(boxes, scores, labels, 0.4, 30))
    assert kept(found[0]) == slow(*batch[0][:2], 0.4, batch[0][2])
    assert kept(found[1]) == []
    assert kept(found[2]) == slow(*batch[2][:2], 0.4, batch[2][2])


def test_far_classes_are_compared_and_not_moved():
    # 100 classes of boxes at 10,000 pixels: moved apart by multiples of that, float32 has no digits left for the
    # difference of 1/16 pixel.
    boxes = np.array([[9990, 9990, 9991, 9991], [9990.0625, 9990, 9991.0625, 9991]] * 2, "float32")
    found = batched_nms(boxes, np.array([0.9, 0.8, 0.7, 0.6], "float32"), np.array([0, 0, 99, 99]), 0.885, 4)
    assert kept(found) == slow(boxes, [0.9, 0.8, 0.7, 0.6], 0.885, [0, 0, 99, 99])


# Edges


def test_equal_scores_keep_the_first():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], "float32")
    assert kept(nms(boxes, np.full(3, 0.5, "float32"), 0.5, 3)) == [0, 2]


def test_nothing_there():
    assert kept(nms(np.zeros((2, 0, 4), "float32"), np.zeros((2, 0), "float32"), 0.5, 3)) == []
    assert tuple(nms(np.zeros((2, 0, 4), "float32"), np.zeros((2, 0), "float32"), 0.5, 3).shape) == (2, 3)
    assert kept(nms(np.zeros((5, 4), "float32"), np.full(5, -np.inf, "float32"), 0.5, 3)) == []


def test_boxes_without_area_do_not_suppress():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]], "float32")
    assert kept(nms(boxes, np.array([0.9, 0.8, 0.7], "float32"), 0.5, 3)) == [0, 1, 2]


def test_half_precision_is_computed_in_float32():
    boxes = np.array([[0, 0, 400, 400], [0, 0, 400, 390], [0, 0, 400, 100]], "float16")  # areas beyond float16
    scores = np.array([0.9, 0.8, 0.7], "float16")
    assert kept(nms(ops.convert_to_tensor(boxes), ops.convert_to_tensor(scores), 0.5, 3)) == [0, 2]


def test_bad_input(compiled):
    boxes, scores, _ = crowd(4)
    with pytest.raises(ValueError, match=r"boxes \(4, 4\), scores \(3,\)"):
        nms(boxes, scores[:3], 0.5, 2)
    with pytest.raises(ValueError, match="max_outputs must be at least 1"):
        nms(boxes, scores, 0.5, 0)
    with pytest.raises(ValueError, match="scores: 1 of 4 numbers are NaN"):
        nms(boxes, np.array([1, np.nan, 0.5, 0.2], "float32"), 0.5, 2)
    with pytest.raises(ValueError, match="boxes: 1 of 16 numbers are NaN"):
        nms(np.where(np.arange(16).reshape(4, 4) == 5, np.nan, boxes), scores, 0.5, 2)
    # In a compiled graph nothing can be raised: a NaN score is not kept. PyTorch compiles nothing here, and raises.
    bad = np.array([[1, np.nan, 0.5, 0.2]], "float32")
    if keras.backend.backend() == "torch":
        with pytest.raises(ValueError, match="scores: 1 of 4 numbers are NaN"):
            compiled(lambda b, s: nms(b, s, 0.5, 4), boxes[None], bad)
    else:
        assert 1 not in kept(compiled(lambda b, s: nms(b, s, 0.5, 4), boxes[None], bad))


# Soft-NMS


def slow_soft(boxes, scores, decay, threshold):
    scores, chosen, values = scores.astype("float64"), [], []
    while len(scores) and scores.max() >= threshold:
        best = int(scores.argmax())
        chosen.append(best)
        values.append(scores[best])
        scores = scores * decay(geometry.iou(boxes[best : best + 1], boxes)[0])
        scores[chosen] = -1
    return chosen, values


@pytest.mark.parametrize(
    ("decay", "plain"),
    [
        (None, lambda iou: np.exp(-(iou**2) / 0.5)),
        (gaussian(0.3), lambda iou: np.exp(-(iou**2) / 0.3)),
        (linear(0.3), lambda iou: np.where(iou > 0.3, 1 - iou, 1)),
    ],
)
def test_soft_suppression_is_that_of_the_loop(compiled, decay, plain):
    boxes, scores, _ = crowd(40, size=80)
    expected = slow_soft(boxes, scores, plain, 0.05)
    indices, values = soft_nms(boxes, scores, None, 60, decay, score_threshold=0.05)
    assert kept(indices) == expected[0]
    np.testing.assert_allclose(ops.convert_to_numpy(values)[: len(expected[1])], expected[1], rtol=1e-4)
    assert (ops.convert_to_numpy(values)[len(expected[1]) :] == 0).all()
    in_graph = compiled(
        lambda b, s: soft_nms(b, s, None, 60, decay, score_threshold=0.05)[0], boxes[None], scores[None]
    )
    assert kept(in_graph) == expected[0]


def test_soft_suppression_with_a_step_is_greedy():
    boxes, scores, labels = crowd(60, size=80)
    indices, _ = soft_nms(boxes, scores + 0.1, labels, 60, lambda iou: ops.where(iou > 0.4, 0.0, 1.0))
    assert kept(indices) == slow(boxes, scores, 0.4, labels)


# From a net's outputs to detections


@pytest.mark.parametrize("per_class", [False, True])
def test_selected_detections(compiled, per_class):
    random = np.random.default_rng(0)
    boxes = np.stack([crowd(20, seed)[0] for seed in range(2)])
    scores = random.permutation(2 * 20 * 3).reshape(2, 20, 3).astype("float32") / 120
    given = np.repeat(boxes[:, :, None], 3, axis=2) + np.arange(3)[:, None] if per_class else boxes
    given = given.astype("float32")
    found = compiled(lambda b, s: select(b, s, 0.4, 0.5, 50), given, scores)
    for image in range(2):
        row, label = np.nonzero(scores[image] > 0.4)
        values = scores[image][row, label]
        candidates = given[image][row, label] if per_class else given[image][row]
        expected = slow(candidates, values, 0.5, label)
        count = len(expected)
        assert found["labels"][image, count:].tolist() == [-1] * (50 - count)
        assert not found["boxes"][image, count:].any() and not found["scores"][image, count:].any()
        np.testing.assert_array_equal(found["labels"][image, :count], label[expected])
        np.testing.assert_array_equal(found["indices"][image, :count], row[expected])
        np.testing.assert_allclose(found["scores"][image, :count], values[expected])
        np.testing.assert_allclose(found["boxes"][image, :count], candidates[expected])


def test_only_the_best_candidates_are_looked_at():
    boxes, scores, _ = crowd(20)
    found = select(boxes[None], scores[None, :, None], 0.0, 0.99, 20, candidates=5)
    np.testing.assert_array_equal(ops.convert_to_numpy(found["indices"])[0, :5], np.argsort(-scores)[:5])
    assert (ops.convert_to_numpy(found["labels"])[0, 5:] == -1).all()
