# %% gap="iou" why="lets two negative sides have a positive product"
def iou(a, b):
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (bottom_right - top_left).prod(axis=-1)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=-1) for boxes in (a, b))
    union = area_a[:, None] + area_b[None, :] - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)


# %% gap="iou" why="counts corners as pixels, one more in each direction"
def iou(a, b):
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(bottom_right - top_left + 1, 0, None).prod(axis=-1)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=-1) for boxes in (a, b))
    return shared / (area_a[:, None] + area_b[None, :] - shared)


# %% gap="iou" why="divides by both areas, the shared part counted twice"
def iou(a, b):
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=-1)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (a, b))
    both = area_a[:, None] + area_b[None, :]
    return np.where(both > 0, 2 * shared / np.where(both > 0, both, 1), 0.0)


# %% gap="iou" why="divides 0 by 0 for boxes without area"
def iou(a, b):
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(axis=-1)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (a, b))
    with np.errstate(invalid="ignore"):
        return shared / (area_a[:, None] + area_b[None, :] - shared)


# %% gap="encode" why="shifts corners, not centres"
def encode(boxes, anchors):
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    return np.concatenate([(boxes[:, :2] - anchors[:, :2]) / anchor_size, np.log(size / anchor_size)], axis=1)


# %% gap="encode" why="measures the shift in sizes of the box, not of the anchor"
def encode(boxes, anchors):
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    return np.concatenate([shift / size, np.log(size / anchor_size)], axis=1)


# %% gap="encode" why="forgets the logarithm"
def encode(boxes, anchors):
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    return np.concatenate([shift / anchor_size, size / anchor_size], axis=1)


# %% gap="decode" why="takes the new centre for the new corner"
def decode(deltas, anchors):
    anchor_size = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + deltas[:, :2] * anchor_size
    return np.concatenate([centre, centre + anchor_size * np.exp(deltas[:, 2:])], axis=1)


# %% gap="decode" why="multiplies the size by the logarithm itself"
def decode(deltas, anchors):
    anchor_size = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + deltas[:, :2] * anchor_size
    size = anchor_size * (1 + deltas[:, 2:])
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


# %% gap="decode" why="takes the shift for pixels, not for parts of the anchor"
def decode(deltas, anchors):
    anchor_size = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + deltas[:, :2]
    half = anchor_size * np.exp(deltas[:, 2:]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


# %% gap="nms" why="lets a box that was dropped drop others"
def nms(boxes, scores, threshold):
    order = np.argsort(-scores, kind="stable")
    overlaps = iou(boxes[order], boxes[order])
    return [int(i) for place, i in enumerate(order) if not (overlaps[place, :place] > threshold).any()]


# %% gap="nms" why="does not sort by score"
def nms(boxes, scores, threshold):
    kept = []
    for index in range(len(boxes)):
        if not kept or (iou(boxes[[index]], boxes[kept])[0] <= threshold).all():
            kept.append(index)
    return kept


# %% gap="nms" why="drops at the threshold too"
def nms(boxes, scores, threshold):
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[iou(boxes[[best]], boxes[left])[0] < threshold]
    return kept


# %% gap="nms" why="sorts by rising score"
def nms(boxes, scores, threshold):
    left, kept = np.argsort(scores, kind="stable"), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[iou(boxes[[best]], boxes[left])[0] <= threshold]
    return kept


# %% gap="judge" why="lets two detections be right on one object"
def judge(boxes, scores, truth, limit=0.5):
    if not len(truth):
        return np.zeros(len(boxes), bool)
    return iou(boxes, truth).max(axis=1) >= limit


# %% gap="judge" why="goes in the order given, not by score"
def judge(boxes, scores, truth, limit=0.5):
    right, claimed = np.zeros(len(boxes), bool), set()
    overlaps = iou(boxes, truth)
    for index in range(len(boxes)):
        nearest = int(overlaps[index].argmax()) if len(truth) else -1
        if nearest >= 0 and overlaps[index, nearest] >= limit and nearest not in claimed:
            right[index] = True
            claimed.add(nearest)
    return right


# %% gap="judge" why="gives the answers in the order of the scores"
def judge(boxes, scores, truth, limit=0.5):
    right, claimed = [], set()
    overlaps = iou(boxes, truth)
    for index in np.argsort(-scores, kind="stable"):
        nearest = int(overlaps[index].argmax()) if len(truth) else -1
        right.append(nearest >= 0 and overlaps[index, nearest] >= limit and nearest not in claimed)
        if right[-1]:
            claimed.add(nearest)
    return np.array(right, bool)


# %% gap="judge" why="falls back on the next object where the nearest is claimed"
def judge(boxes, scores, truth, limit=0.5):
    right, overlaps = np.zeros(len(boxes), bool), iou(boxes, truth)
    for index in np.argsort(-scores, kind="stable"):
        if len(truth) and overlaps[index].max() >= limit:
            right[index] = True
            overlaps[:, overlaps[index].argmax()] = -1
    return right


# %% gap="average-precision" why="does not let precision count as the highest to the right"
def average_precision(right, scores, objects):
    right = np.asarray(right, bool)[np.argsort(-np.asarray(scores), kind="stable")]
    hits = np.cumsum(right)
    precision, recall = hits / np.arange(1, len(right) + 1), hits / objects
    return float(np.sum(np.diff(recall, prepend=0) * precision))


# %% gap="average-precision" why="does not sort"
def average_precision(right, scores, objects):
    hits = np.cumsum(np.asarray(right, bool))
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / objects
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * highest))


# %% gap="average-precision" why="averages over what was found, and forgets what was missed"
def average_precision(right, scores, objects):
    right = np.asarray(right, bool)[np.argsort(-np.asarray(scores), kind="stable")]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(highest[right].mean()) if right.any() else 0.0


# %% gap="average-precision" why="takes eleven points"
def average_precision(right, scores, objects):
    right = np.asarray(right, bool)[np.argsort(-np.asarray(scores), kind="stable")]
    hits = np.cumsum(right)
    precision, recall = hits / np.arange(1, len(right) + 1), hits / objects
    return float(np.mean([max(precision[recall >= r], default=0) for r in np.linspace(0, 1, 11)]))


# %% gap="localizer" why="averages the places away for the box too"
def build_localizer(classes, widths=(24, 48, 96)):
    image = layers.Input((one_size, one_size, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for width in widths:
        x = conv(conv(x, width, stride=2), width)
    x = layers.GlobalAveragePooling2D()(x)
    where = layers.Dense(4)(layers.Dense(128, activation="relu")(x))
    return keras.Model(image, {"label": layers.Dense(classes)(x), "box": where})


# %% gap="localizer" why="bounds the box by a sigmoid"
def build_localizer(classes, widths=(24, 48, 96)):
    image = layers.Input((one_size, one_size, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for width in widths:
        x = conv(conv(x, width, stride=2), width)
    what = layers.Dense(classes)(layers.GlobalMaxPooling2D()(x))
    where = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, {"label": what, "box": layers.Dense(4, activation="sigmoid")(where)})


# %% gap="localizer" why="lets the class head read the flattened map"
def build_localizer(classes, widths=(24, 48, 96)):
    image = layers.Input((one_size, one_size, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for width in widths:
        x = conv(conv(x, width, stride=2), width)
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, {"label": layers.Dense(classes)(x), "box": layers.Dense(4)(x)})


# %% gap="mirror" why="leaves the boxes where they are"
def mirror(images, boxes, rng):
    images = images.copy()
    chosen = rng.uniform(size=len(images)) < 0.5
    images[chosen] = images[chosen][:, :, ::-1]
    return images, boxes.copy()


# %% gap="mirror" why="mirrors both corners and leaves left on the right"
def mirror(images, boxes, rng):
    images, boxes = images.copy(), boxes.copy()
    chosen = rng.uniform(size=len(images)) < 0.5
    images[chosen] = images[chosen][:, :, ::-1]
    boxes[np.ix_(chosen, [0, 2])] = 1 - boxes[np.ix_(chosen, [0, 2])]
    return images, boxes


# %% gap="mirror" why="changes the arrays that come in"
def mirror(images, boxes, rng):
    chosen = rng.uniform(size=len(images)) < 0.5
    images[chosen] = images[chosen][:, :, ::-1]
    left = boxes[chosen, 0].copy()
    boxes[chosen, 0], boxes[chosen, 2] = 1 - boxes[chosen, 2], 1 - left
    return images, boxes


# %% gap="train" why="counts passes, not steps"
def train(model, images, boxes, labels, steps):
    parts = {"label": softmax, "box": box_loss}
    model.compile(keras.optimizers.AdamW(2e-3), loss=parts, jit_compile=training.jit_compile())
    count = len(images) // batch_size * batch_size
    model.fit(
        images[:count],
        {"label": labels[:count], "box": boxes[:count]},
        batch_size=batch_size,
        epochs=steps,
        verbose=0,
    )


# %% gap="train" why="stops at the end of the first pass"
def train(model, images, boxes, labels, steps):
    parts = {"label": softmax, "box": box_loss}
    model.compile(keras.optimizers.AdamW(2e-3), loss=parts, jit_compile=training.jit_compile())
    count = min(steps, len(images) // batch_size) * batch_size
    truth = {"label": labels[:count], "box": boxes[:count]}
    model.fit(images[:count], truth, batch_size=batch_size, verbose=0)


# %% gap="train" why="forgets to let the optimizer move anything"
def train(model, images, boxes, labels, steps):
    parts = {"label": softmax, "box": box_loss}
    model.compile(keras.optimizers.SGD(0.0), loss=parts, jit_compile=training.jit_compile())
    for step in range(steps):
        rows = np.arange(step * batch_size, (step + 1) * batch_size) % len(images)
        model.train_on_batch(images[rows], {"label": labels[rows], "box": boxes[rows]})


# %% gap="label-proposals" why="takes background up to .5 and leaves nothing out"
def label_proposals(boxes, truth, labels, background):
    if not len(truth):
        return np.full(len(boxes), background), np.zeros(len(boxes), int)
    overlaps = iou(boxes, truth)
    nearest = overlaps.argmax(axis=1)
    return np.where(overlaps.max(axis=1) >= 0.5, labels[nearest], background), nearest


# %% gap="label-proposals" why="wants more than .5"
def label_proposals(boxes, truth, labels, background):
    if not len(truth):
        return np.full(len(boxes), background), np.zeros(len(boxes), int)
    overlaps = iou(boxes, truth)
    nearest, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
    return np.where(best > 0.5, labels[nearest], np.where(best < 0.3, background, -1)), nearest


# %% gap="label-proposals" why="gives the index of the object in the place of its class"
def label_proposals(boxes, truth, labels, background):
    if not len(truth):
        return np.full(len(boxes), background), np.zeros(len(boxes), int)
    overlaps = iou(boxes, truth)
    nearest, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
    return np.where(best >= 0.5, nearest, np.where(best < 0.3, background, -1)), nearest


# %% gap="label-proposals" why="leaves everything out in an image without objects"
def label_proposals(boxes, truth, labels, background):
    if not len(truth):
        return np.full(len(boxes), -1), np.zeros(len(boxes), int)
    overlaps = iou(boxes, truth)
    nearest, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
    return np.where(best >= 0.5, labels[nearest], np.where(best < 0.3, background, -1)), nearest


# %% gap="detections" why="suppresses across the classes"
def detections(boxes, probabilities, deltas, size, threshold=0.05, overlap=0.3):
    height, width = size
    rows, labels = np.nonzero(probabilities > threshold)
    moved = decode(deltas[rows, labels], boxes[rows]).clip(0, [width, height, width, height])
    scores = probabilities[rows, labels]
    kept = nms(moved, scores, overlap)
    return moved[kept], labels[kept], scores[kept]


# %% gap="detections" why="gives each proposal to its best class alone"
def detections(boxes, probabilities, deltas, size, threshold=0.05, overlap=0.3):
    height, width = size
    found = [(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))]
    best = probabilities.argmax(axis=1)
    for label in range(probabilities.shape[1]):
        chosen = np.flatnonzero((probabilities[:, label] > threshold) & (best == label))
        moved = decode(deltas[chosen, label], boxes[chosen]).clip(0, [width, height, width, height])
        kept = nms(moved, probabilities[chosen, label], overlap)
        found.append((moved[kept], np.full(len(kept), label), probabilities[chosen, label][kept]))
    return tuple(np.concatenate(parts) for parts in zip(*found))


# %% gap="detections" why="suppresses before the regression"
def detections(boxes, probabilities, deltas, size, threshold=0.05, overlap=0.3):
    height, width = size
    found = [(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))]
    for label in range(probabilities.shape[1]):
        chosen = np.flatnonzero(probabilities[:, label] > threshold)
        chosen = chosen[nms(boxes[chosen], probabilities[chosen, label], overlap)]
        moved = decode(deltas[chosen, label], boxes[chosen]).clip(0, [width, height, width, height])
        found.append((moved, np.full(len(chosen), label), probabilities[chosen, label]))
    return tuple(np.concatenate(parts) for parts in zip(*found))


# %% gap="detections" why="does not cut the boxes to the image"
def detections(boxes, probabilities, deltas, size, threshold=0.05, overlap=0.3):
    found = [(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))]
    for label in range(probabilities.shape[1]):
        chosen = np.flatnonzero(probabilities[:, label] > threshold)
        moved = decode(deltas[chosen, label], boxes[chosen])
        kept = nms(moved, probabilities[chosen, label], overlap)
        found.append((moved[kept], np.full(len(kept), label), probabilities[chosen, label][kept]))
    return tuple(np.concatenate(parts) for parts in zip(*found))
