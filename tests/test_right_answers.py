"""Right answers that are not the solution's own, each of which a lab's checks must let pass.

The cells of a solution run in one plain process, as a student's kernel runs them; at each gap the other answers are
tried before the solution's own, with the checks of that gap.
"""

import contextlib
import io
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from course.authoring.sources import read_source

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.once

ANSWERS = {
    "01_convolution_arithmetic": {
        "output-size": [
            """
def output_size(n, f, s=1, p=0, d=1):
    places = len(range(0, n + 2 * p - d * (f - 1), s))
    if not places:
        raise ValueError("nothing fits")
    return np.int64(places)
"""
        ],
        "conv2d": [
            """
def conv2d(x, kernel, bias, s=1, p=0):
    f, x = kernel.shape[0], np.pad(x, ((p, p), (p, p), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (f, f), axis=(0, 1))[::s, ::s]
    return (np.einsum("hwcab,abck->hwk", windows, kernel) + bias).tolist()
"""
        ],
        "matrix": [
            """
def convolution_matrix(kernel, n, s=1, p=0):
    columns = []
    for pixel in np.eye(n * n).reshape(-1, n, n, 1):
        columns.append(np.ravel(conv2d(pixel, np.asarray(kernel)[..., None, None], np.zeros(1), s, p)))
    return np.transpose(columns).tolist()
"""
        ],
        "transposed": [
            """
def conv2d_transpose(y, kernel, s=1, p=0):
    h, w = ((n - 1) * s + len(kernel) - 2 * p for n in y.shape)
    spread = np.zeros(((y.shape[0] - 1) * s + 1, (y.shape[1] - 1) * s + 1))
    spread[::s, ::s] = y
    spread = np.pad(spread, len(kernel) - 1)
    full = conv2d(spread[..., None], np.asarray(kernel)[::-1, ::-1, None, None], np.zeros(1))
    return np.asarray(full)[p : p + h, p : p + w, 0].tolist()
"""
        ],
        "filter-gradient": [
            """
def filter_gradient(x, above, f, s=1, p=0):
    x, (h, w) = np.pad(x, p), np.shape(above)
    taps = [[x[a : a + h * s : s, b : b + w * s : s][:h, :w] for b in range(f)] for a in range(f)]
    return [[float((tap * above).sum()) for tap in row] for row in taps]
"""
        ],
        "receptive-field": [
            """
def receptive_fields(layers):
    rows, size, jump, first = [], 1, 1, 0.0
    for f, s, p, d in layers:
        first -= p * jump
        size += d * (f - 1) * jump
        jump *= s
        rows.append([size, jump, first + size / 2])
    return rows
"""
        ],
        "count-net": [
            """
def count_net(shape, layers):
    shape, rows = np.array(shape), []
    for kind, *numbers in layers:
        inputs = np.prod(shape)
        if kind == "dense":
            shape = np.array([1, 1, numbers[0]])
            rows.append([inputs * numbers[0] + numbers[0], inputs * numbers[0], numbers[0]])
            continue
        filters, f, s, p = numbers if kind == "conv" else (shape[2], *numbers, 0)
        weights = f * f * shape[2] * filters if kind == "conv" else 0
        shape = np.array([output_size(int(shape[0]), f, s, p), output_size(int(shape[1]), f, s, p), filters])
        rows.append([weights + filters * (kind == "conv"), weights * shape[0] * shape[1], np.prod(shape)])
    return np.array(rows)
"""
        ],
    },
    "02_layers_and_training": {
        "pool": [
            """
def max_pool(x, f, s):
    windows = np.lib.stride_tricks.sliding_window_view(x, (f, f), axis=(0, 1))[::s, ::s]
    return windows.max(axis=(3, 4)).tolist()
"""
        ],
        "pool-backward": [
            """
def max_pool_backward(x, above, f, s):
    gradient = np.zeros(x.shape, "float32")
    for place in np.ndindex(*above.shape):
        rows, columns = (slice(n * s, n * s + f) for n in place[:2])
        window = x[rows, columns, place[2]]
        first = np.argwhere(window == window.max())[0]
        gradient[rows, columns, place[2]][tuple(first)] += above[place]
    return gradient.tolist()
"""
        ],
        "cross-entropy": [
            """
def cross_entropy(logits, labels):
    from scipy.special import logsumexp, softmax

    one_hot = np.eye(logits.shape[1])[labels]
    losses = logsumexp(logits, axis=1) - (logits * one_hot).sum(axis=1)
    return [losses.mean(), ((softmax(logits, axis=1) - one_hot) / len(labels)).tolist()]
"""
        ],
        "batch-norm": [
            """
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    values = x.reshape(-1, x.shape[-1])
    m, v = (values.mean(0), values.var(0)) if training else (mean, variance)
    moved = [momentum * old + (1 - momentum) * new for old, new in ((mean, m), (variance, v))]
    return [(x - m) * (gamma / np.sqrt(v + epsilon)) + beta, *moved]
"""
        ],
        "batch-norm-backward": [
            """
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    from keras import ops

    shape, channels = x.shape, x.shape[-1]
    x, above = x.reshape(-1, channels), above.reshape(-1, channels)
    jacobian_free = []
    for c in range(channels):
        m, centred = len(x), x[:, c] - x[:, c].mean()
        root = np.sqrt((centred**2).mean() + epsilon)
        jacobian = (np.eye(m) - 1 / m) / root - np.outer(centred, centred) / (m * root**3)
        jacobian_free.append(gamma[c] * jacobian @ above[:, c])
    normed = (x - x.mean(0)) / np.sqrt(x.var(0) + epsilon)
    return [np.stack(jacobian_free, -1).reshape(shape), (above * normed).sum(0).tolist(), above.sum(0)]
"""
        ],
        "dropout": [
            """
def dropout(x, p, training, random):
    if not training:
        return x.copy()
    return (x * random.binomial(1, 1 - p, x.shape) / (1 - p)).tolist()
"""
        ],
        "descend": [
            """
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    random = np.random.default_rng(seed)
    now, v, losses = [1.0 * p for p in parameters], [0 * p for p in parameters], []
    for _ in range(epochs):
        order = np.arange(len(x))
        random.shuffle(order)
        for batch in order[: len(x) // batch_size * batch_size].reshape(-1, batch_size):
            loss, gradients = gradients_of(now, x[batch], y[batch])
            losses.append(loss)
            for i, gradient in enumerate(gradients):
                v[i] = momentum * v[i] - rate * gradient
                now[i] = now[i] + v[i]
    return [now, np.array(losses)]
"""
        ],
        "network": [
            """
def train_network():
    inputs = keras.Input(images.shape[1:])
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (24, 48):
        x = layers.SeparableConv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(48, 3, padding="same", activation="relu")(x)
    outputs = layers.Dense(len(classes), activation="softmax")(layers.GlobalMaxPooling2D()(x))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    validation = (validation_images, validation_labels)
    history = model.fit(images, labels, 50, epochs, verbose=0, validation_data=validation)
    return [model, history.history]
"""
        ],
    },
    "10_two_stage_detection": {
        "anchors": [
            """
def make_anchors(rows, columns, stride, sizes, ratios):
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    centres = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4) * stride + stride / 2
    around = [(-s / r**0.5, -s * r**0.5, s / r**0.5, s * r**0.5) for r in ratios for s in sizes]
    return (centres + np.array(around) / 2).reshape(-1, 4).tolist()
"""
        ],
        "labels": [
            """
def label_anchors(iou, high=0.7, low=0.3):
    labels = []
    for anchor in range(iou.shape[1]):
        column = iou[:, anchor]
        is_best = any(row[anchor] > 0 and row[anchor] == max(row) for row in iou)
        if len(iou) and (max(column) >= high or is_best):
            labels.append(int(np.argmax(column)))
        else:
            labels.append(-1 if not len(iou) or max(column) < low else -2)
    return labels
"""
        ],
        "draw": [
            """
def draw(labels, count, share, rng):
    order = np.argsort(rng.random(len(labels)))
    positive = [k for k in order if labels[k] >= 0][: int(count * share)]
    background = [k for k in order if labels[k] == -1][: count - len(positive)]
    return [k in {*positive, *background} for k in range(len(labels))]
"""
        ],
        "roi-pool": [
            """
def roi_pool(features, box, bins, stride):
    height, width, channels = features.shape
    x1, y1, x2, y2 = (int(np.floor(value / stride + 0.5)) for value in box)
    pooled = []
    for row in range(bins):
        pooled.append([])
        for column in range(bins):
            n, m = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
            rows = range(y1 + row * n // bins, y1 + int(np.ceil((row + 1) * n / bins)))
            columns = range(x1 + column * m // bins, x1 + int(np.ceil((column + 1) * m / bins)))
            cells = [features[y, x] for y in rows for x in columns if 0 <= y < height and 0 <= x < width]
            pooled[-1].append(np.max(cells, axis=0) if cells else np.zeros(channels))
    return pooled
"""
        ],
        "level": [
            """
def pyramid_level(boxes, levels, canonical):
    found = []
    for x1, y1, x2, y2 in np.asarray(boxes, float):
        level, side = levels[0], ((x2 - x1) * (y2 - y1)) ** 0.5
        while level < levels[-1] and side >= canonical * 2.0 ** (level + 1 - 4):
            level += 1
        found.append(level)
    return found
"""
        ],
        "objectness": [
            """
def objectness_loss(sampled, positive, logits):
    entropy = ops.where(positive, ops.softplus(-logits), ops.softplus(logits))
    count = ops.maximum(ops.count_nonzero(sampled), 1)
    return ops.sum(ops.where(sampled, entropy, 0.0)) / ops.cast(count, "float32")
"""
        ],
        "proposal": [
            """
def proposal_loss(sampled, positive, true_deltas, deltas):
    beta = 1 / 9
    truth = ops.where(positive[..., None], true_deltas, deltas)
    distance = ops.abs(truth - deltas)
    near = ops.minimum(distance, beta)
    return ops.sum(near**2 / (2 * beta) + distance - near) / ops.maximum(ops.sum(ops.cast(sampled, "float32")), 1)
"""
        ],
        "box-loss": [
            """
def box_loss(labels, true_deltas, deltas):
    labels = ops.cast(labels, "int32")
    own = ops.einsum("bkc,bkcd->bkd", ops.one_hot(labels - 1, deltas.shape[2]), deltas)
    distance = ops.abs(ops.where(labels[..., None] > 0, true_deltas - own, 0.0))
    near = ops.minimum(distance, 1.0)
    count = ops.maximum(ops.sum(ops.cast(labels > -1, "float32")), 1.0)
    return ops.sum(near**2 / 2 + distance - near) / count
"""
        ],
        "propose": [
            """
def propose(logits, deltas, anchors, size, before, after, threshold=0.7):
    boxes, kept = ops.convert_to_numpy(geometry.clip(coding.decode(deltas, anchors), size, size)), []
    for place in sorted(range(len(logits)), key=lambda k: -logits[k])[:before]:
        box = boxes[place]
        fits = box[2] > box[0] and box[3] > box[1]
        if fits and all(geometry.iou(box[None], np.array([other]))[0, 0] <= threshold for other in kept):
            kept.append(box)
    return [box.tolist() for box in kept[:after]]
"""
        ],
        "recall": [
            """
def recall(proposals, boxes, n, iou=0.5):
    hits = []
    for found, truth in zip(proposals, boxes):
        for box in truth:
            hits.append(any(geometry.iou(box[None], other[None])[0, 0] >= iou for other in found[:n]))
    return np.mean(hits)
"""
        ],
    },
    "11_instance_segmentation": {
        "align": [
            """
def roi_align(features, box, size, stride, samples=2):
    height, width, channels = features.shape

    def read(x, y):
        x, y = min(max(x / stride - 0.5, 0), width - 1), min(max(y / stride - 0.5, 0), height - 1)
        left, top = min(int(x), width - 2), min(int(y), height - 2)
        u, v = x - left, y - top
        upper = (1 - u) * features[top, left] + u * features[top, left + 1]
        return (1 - v) * upper + v * ((1 - u) * features[top + 1, left] + u * features[top + 1, left + 1])

    points = [(k + 0.5) / (size * samples) for k in range(size * samples)]
    xs, ys = ([box[k] + at * (box[k + 2] - box[k]) for at in points] for k in (0, 1))
    values = np.array([[read(x, y) for x in xs] for y in ys])
    return values.reshape(size, samples, size, samples, channels).mean((1, 3)).tolist()
"""
        ],
        "targets": [
            """
def mask_targets(masks, rois, matched, size):
    own = ops.einsum("bkm,bmhw->bkhw", ops.one_hot(matched, masks.shape[1]), ops.cast(masks, "float32"))
    cut = [roi.roi_align(own[:, k, ..., None], rois[:, k : k + 1], size, 1.0) for k in range(rois.shape[1])]
    return ops.concatenate(cut, axis=1)[..., 0]
"""
        ],
        "loss": [
            """
def mask_loss(targets, labels, logits):
    at = ops.maximum(labels - 1, 0)[:, :, None, None, None]
    own = ops.take_along_axis(logits, at, axis=-1)[..., 0]
    entropy = ops.softplus(own) - targets * own
    positive = ops.cast(labels > 0, "float32")
    total = ops.sum(entropy * positive[:, :, None, None]) / np.prod(logits.shape[2:4])
    return total / ops.maximum(ops.sum(positive), 1)
"""
        ],
        "paste": [
            """
def paste(soft, box, height, width):
    def axis(start, end, cells, pixels):
        at = (np.arange(pixels) + 0.5 - start) / (end - start) * cells - 0.5
        return [np.interp(at, np.arange(-1, cells + 1), [0, *row, 0], 0, 0) for row in np.eye(cells)]

    rows, columns = axis(box[1], box[3], len(soft), height), axis(box[0], box[2], len(soft[0]), width)
    return (np.einsum("ij,ih,jw->hw", soft, rows, columns) >= 0.5).tolist()
"""
        ],
        "iou": [
            """
def mask_iou(a, b):
    return [[(x & y).sum() / max((x | y).sum(), 1) for y in b] for x in a]
"""
        ],
        "final": [
            """
def final_masks(logits, boxes, labels, height, width):
    masks = []
    for maps, box, label in zip(logits, boxes, labels):
        if label < 0 or box[2] <= box[0] or box[3] <= box[1]:
            masks.append(np.zeros((height, width), bool).tolist())
        else:
            chances = ops.convert_to_numpy(ops.sigmoid(maps))
            masks.append(paste(chances[..., label], box, height, width))
    return masks
"""
        ],
        "keypoints": [
            """
def keypoints_of(logits, box):
    size, found = len(logits), []
    for kind in range(logits.shape[-1]):
        chances = ops.convert_to_numpy(ops.softmax(np.ravel(logits[..., kind])))
        row, column = divmod(int(np.argmax(chances)), size)
        x, y = ((k + 0.5) / size for k in (column, row))
        found.append((box[0] + x * (box[2] - box[0]), box[1] + y * (box[3] - box[1]), chances.max()))
    return found
"""
        ],
    },
}
SMOKE = {
    "02_layers_and_training": {"floor": 0.6},
    "10_two_stage_detection": {"most": 40, "tested": 12, "steps": 2, "floor": 0.0, "recall_floor": 0.0},
    "11_instance_segmentation": {"examples": 40, "tested": 8, "steps": 2, "floor": 0.0},
}


def run(cell, names):
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(cell, "<cell>", "exec"), names)


@pytest.mark.parametrize("topic", ANSWERS)
def test_another_right_answer_passes(topic, monkeypatch):
    plt.switch_backend("agg")
    where = f"sources/solutions/{topic}.py"
    cells = [cell for cell in read_source(ROOT / where, where).cells if cell["cell_type"] == "code"]
    answers, tried = ANSWERS[topic], 0
    assert set(answers) == {cell["metadata"]["gap"] for cell in cells if "gap" in cell["metadata"]}
    names = {"__name__": "__main__"}
    for index, cell in enumerate(cells):
        gap = cell["metadata"].get("gap")
        last = max((n for n, other in enumerate(cells) if gap and other["metadata"].get("check") == gap), default=0)
        for answer in answers.get(gap, []):
            kept = dict(names)
            run(answer, names)
            for other in cells[index + 1 : last + 1]:
                if other["metadata"].get("check", gap) == gap:
                    run(other["source"], names)
            names.clear()
            names.update(kept)
            tried += 1
        run(cell["source"], names)
        if "parameters" in (cell["metadata"].get("tags") or []):
            names.update(SMOKE.get(topic, {}))
        plt.close("all")
    assert tried == sum(map(len, answers.values()))
