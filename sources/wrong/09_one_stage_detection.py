# %% gap="encode" why="takes y for the column"
def encode(boxes, labels, cells, size):
    target, dropped = np.zeros((cells, cells, 6), "float32"), 0
    for box, label in zip(boxes, labels):
        if label < 0:
            continue
        x, y = (box[:2] + box[2:]) / 2 / size * cells
        column, row = min(int(x), cells - 1), min(int(y), cells - 1)
        if target[column, row, 0]:
            dropped += 1
            continue
        target[column, row] = 1, x - column, y - row, *((box[2:] - box[:2]) / size), label
    return target, dropped


# %% gap="encode" why="gives width and height in cells, as one slide has it"
def encode(boxes, labels, cells, size):
    target, dropped = np.zeros((cells, cells, 6), "float32"), 0
    for box, label in zip(boxes, labels):
        if label < 0:
            continue
        x, y = (box[:2] + box[2:]) / 2 / size * cells
        column, row = min(int(x), cells - 1), min(int(y), cells - 1)
        if target[row, column, 0]:
            dropped += 1
            continue
        target[row, column] = 1, x - column, y - row, *((box[2:] - box[:2]) / size * cells), label
    return target, dropped


# %% gap="encode" why="lets padding have a cell"
def encode(boxes, labels, cells, size):
    target, dropped = np.zeros((cells, cells, 6), "float32"), 0
    for box, label in zip(boxes, labels):
        x, y = (box[:2] + box[2:]) / 2 / size * cells
        column, row = min(int(x), cells - 1), min(int(y), cells - 1)
        if target[row, column, 0]:
            dropped += 1
            continue
        target[row, column] = 1, x - column, y - row, *((box[2:] - box[:2]) / size), label
    return target, dropped


# %% gap="encode" why="lets the last object have the cell"
def encode(boxes, labels, cells, size):
    target, dropped = np.zeros((cells, cells, 6), "float32"), 0
    for box, label in zip(boxes, labels):
        if label < 0:
            continue
        x, y = (box[:2] + box[2:]) / 2 / size * cells
        column, row = min(int(x), cells - 1), min(int(y), cells - 1)
        dropped += int(target[row, column, 0])
        target[row, column] = 1, x - column, y - row, *((box[2:] - box[:2]) / size), label
    return target, dropped


# %% gap="encode" why="wraps a centre on the border round to the first cell"
def encode(boxes, labels, cells, size):
    target, dropped = np.zeros((cells, cells, 6), "float32"), 0
    for box, label in zip(boxes, labels):
        if label < 0:
            continue
        x, y = (box[:2] + box[2:]) / 2 / size * cells
        column, row = int(x) % cells, int(y) % cells
        if target[row, column, 0]:
            dropped += 1
            continue
        target[row, column] = 1, x - column, y - row, *((box[2:] - box[:2]) / size), label
    return target, dropped


# %% gap="encode" why="calls the course's own function"
def encode(boxes, labels, cells, size):
    found = yolo.responsible_cells(boxes[None], labels[None], (cells, cells), (size, size))
    found = {key: ops.convert_to_numpy(value)[0] for key, value in found.items()}
    there = found["object"][:, None]
    rows = [there, found["boxes"], found["labels"][:, None]]
    target = np.where(there, np.concatenate(rows, axis=1), 0).astype("float32")
    return target.reshape(cells, cells, 6), int(found["lost"])


# %% gap="decode" why="forgets that roots are predicted"
def decode(predictions, size):
    count, cells = predictions.shape[:2]
    told = predictions[..., :10].reshape(count, cells, cells, 2, 5)
    columns, rows = np.meshgrid(np.arange(cells), np.arange(cells))
    centre = (told[..., :2] + np.stack([columns, rows], axis=-1)[:, :, None]) / cells * size
    half = told[..., 2:4] * size / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    scores = np.clip(told[..., 4:] * predictions[..., None, 10:], 0, 1)
    return boxes.reshape(count, -1, 4), scores.reshape(count, -1, scores.shape[-1])


# %% gap="decode" why="exchanges rows and columns of the cells"
def decode(predictions, size):
    count, cells = predictions.shape[:2]
    told = predictions[..., :10].reshape(count, cells, cells, 2, 5)
    rows, columns = np.meshgrid(np.arange(cells), np.arange(cells))
    centre = (told[..., :2] + np.stack([columns, rows], axis=-1)[:, :, None]) / cells * size
    half = told[..., 2:4] ** 2 * size / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    scores = np.clip(told[..., 4:] * predictions[..., None, 10:], 0, 1)
    return boxes.reshape(count, -1, 4), scores.reshape(count, -1, scores.shape[-1])


# %% gap="decode" why="leaves the confidence out of the score"
def decode(predictions, size):
    count, cells = predictions.shape[:2]
    told = predictions[..., :10].reshape(count, cells, cells, 2, 5)
    columns, rows = np.meshgrid(np.arange(cells), np.arange(cells))
    centre = (told[..., :2] + np.stack([columns, rows], axis=-1)[:, :, None]) / cells * size
    half = told[..., 2:4] ** 2 * size / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    scores = np.clip(np.repeat(predictions[..., None, 10:], 2, axis=3), 0, 1)
    return boxes.reshape(count, -1, 4), scores.reshape(count, -1, scores.shape[-1])


# %% gap="decode" why="takes the width from the cell"
def decode(predictions, size):
    count, cells = predictions.shape[:2]
    told = predictions[..., :10].reshape(count, cells, cells, 2, 5)
    columns, rows = np.meshgrid(np.arange(cells), np.arange(cells))
    centre = (told[..., :2] + np.stack([columns, rows], axis=-1)[:, :, None]) / cells * size
    half = told[..., 2:4] ** 2 * size / cells / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    scores = np.clip(told[..., 4:] * predictions[..., None, 10:], 0, 1)
    return boxes.reshape(count, -1, 4), scores.reshape(count, -1, scores.shape[-1])


# %% gap="responsible" why="forgets that roots are predicted"
def responsible(targets, predictions):
    cells = predictions.shape[1]
    told = ops.reshape(predictions[..., :10], (-1, cells, cells, 2, 5))
    found = corners(told[..., :2], told[..., 2:4], cells)
    true = corners(targets[..., None, 1:3], targets[..., None, 3:5], cells)
    overlap = ops.stop_gradient(geometry.iou(found, true)[..., 0])
    return overlap, ops.one_hot(ops.argmax(overlap, axis=-1), 2) * targets[..., :1]


# %% gap="responsible" why="takes the box of the highest confidence"
def responsible(targets, predictions):
    cells = predictions.shape[1]
    told = ops.reshape(predictions[..., :10], (-1, cells, cells, 2, 5))
    found = corners(told[..., :2], told[..., 2:4] ** 2, cells)
    true = corners(targets[..., None, 1:3], targets[..., None, 3:5], cells)
    overlap = ops.stop_gradient(geometry.iou(found, true)[..., 0])
    return overlap, ops.one_hot(ops.argmin(told[..., 4], axis=-1), 2) * targets[..., :1]


# %% gap="responsible" why="names a responsible box in cells without an object"
def responsible(targets, predictions):
    cells = predictions.shape[1]
    told = ops.reshape(predictions[..., :10], (-1, cells, cells, 2, 5))
    found = corners(told[..., :2], told[..., 2:4] ** 2, cells)
    true = corners(targets[..., None, 1:3], targets[..., None, 3:5], cells)
    overlap = ops.stop_gradient(geometry.iou(found, true)[..., 0])
    return overlap, ops.one_hot(ops.argmax(overlap, axis=-1), 2)


# %% gap="loss" why="lets the gradient flow through the IoU"
def yolo_loss(targets, predictions):
    cells, depth = predictions.shape[1], predictions.shape[-1]
    _, answers = responsible(targets, predictions)
    told = ops.reshape(predictions[..., :10], (-1, cells, cells, 2, 5))
    true = corners(targets[..., None, 1:3], targets[..., None, 3:5], cells)
    overlap = geometry.iou(corners(told[..., :2], told[..., 2:4] ** 2, cells), true)[..., 0]
    confidence = told[..., 4]
    centre = ops.sum((told[..., :2] - targets[..., None, 1:3]) ** 2, axis=-1)
    size = ops.sum((told[..., 2:4] - ops.sqrt(targets[..., None, 3:5])) ** 2, axis=-1)
    of_boxes = answers * (5 * (centre + size) + (confidence - overlap) ** 2) + 0.5 * (1 - answers) * confidence**2
    label = ops.one_hot(ops.cast(targets[..., 5], "int32"), depth - 10)
    of_classes = targets[..., 0] * ops.sum((predictions[..., 10:] - label) ** 2, axis=-1)
    return ops.mean(ops.sum(of_boxes, axis=(1, 2, 3)) + ops.sum(of_classes, axis=(1, 2)))


# %% gap="loss" why="asks a confidence of 1, not of the IoU"
def yolo_loss(targets, predictions):
    cells, depth = predictions.shape[1], predictions.shape[-1]
    _, answers = responsible(targets, predictions)
    told = ops.reshape(predictions[..., :10], (-1, cells, cells, 2, 5))
    confidence = told[..., 4]
    centre = ops.sum((told[..., :2] - targets[..., None, 1:3]) ** 2, axis=-1)
    size = ops.sum((told[..., 2:4] - ops.sqrt(targets[..., None, 3:5])) ** 2, axis=-1)
    of_boxes = answers * (5 * (centre + size) + (confidence - 1) ** 2) + 0.5 * (1 - answers) * confidence**2
    label = ops.one_hot(ops.cast(targets[..., 5], "int32"), depth - 10)
    of_classes = targets[..., 0] * ops.sum((predictions[..., 10:] - label) ** 2, axis=-1)
    return ops.mean(ops.sum(of_boxes, axis=(1, 2, 3)) + ops.sum(of_classes, axis=(1, 2)))


# %% gap="loss" why="forgets the other box of a cell with an object"
def yolo_loss(targets, predictions):
    cells, depth = predictions.shape[1], predictions.shape[-1]
    overlap, answers = responsible(targets, predictions)
    told = ops.reshape(predictions[..., :10], (-1, cells, cells, 2, 5))
    confidence = told[..., 4]
    centre = ops.sum((told[..., :2] - targets[..., None, 1:3]) ** 2, axis=-1)
    size = ops.sum((told[..., 2:4] - ops.sqrt(targets[..., None, 3:5])) ** 2, axis=-1)
    of_boxes = answers * (5 * (centre + size) + (confidence - overlap) ** 2)
    of_boxes = of_boxes + 0.5 * (1 - targets[..., :1]) * confidence**2
    label = ops.one_hot(ops.cast(targets[..., 5], "int32"), depth - 10)
    of_classes = targets[..., 0] * ops.sum((predictions[..., 10:] - label) ** 2, axis=-1)
    return ops.mean(ops.sum(of_boxes, axis=(1, 2, 3)) + ops.sum(of_classes, axis=(1, 2)))


# %% gap="loss" why="lets classes count in empty cells"
def yolo_loss(targets, predictions):
    cells, depth = predictions.shape[1], predictions.shape[-1]
    overlap, answers = responsible(targets, predictions)
    told = ops.reshape(predictions[..., :10], (-1, cells, cells, 2, 5))
    confidence = told[..., 4]
    centre = ops.sum((told[..., :2] - targets[..., None, 1:3]) ** 2, axis=-1)
    size = ops.sum((told[..., 2:4] - ops.sqrt(targets[..., None, 3:5])) ** 2, axis=-1)
    of_boxes = answers * (5 * (centre + size) + (confidence - overlap) ** 2) + 0.5 * (1 - answers) * confidence**2
    label = ops.one_hot(ops.cast(targets[..., 5], "int32"), depth - 10) * targets[..., :1]
    of_classes = ops.sum((predictions[..., 10:] - label) ** 2, axis=-1)
    return ops.mean(ops.sum(of_boxes, axis=(1, 2, 3)) + ops.sum(of_classes, axis=(1, 2)))


# %% gap="loss" why="averages over the cells"
def yolo_loss(targets, predictions):
    cells, depth = predictions.shape[1], predictions.shape[-1]
    overlap, answers = responsible(targets, predictions)
    told = ops.reshape(predictions[..., :10], (-1, cells, cells, 2, 5))
    confidence = told[..., 4]
    centre = ops.sum((told[..., :2] - targets[..., None, 1:3]) ** 2, axis=-1)
    size = ops.sum((told[..., 2:4] - ops.sqrt(targets[..., None, 3:5])) ** 2, axis=-1)
    of_boxes = answers * (5 * (centre + size) + (confidence - overlap) ** 2) + 0.5 * (1 - answers) * confidence**2
    label = ops.one_hot(ops.cast(targets[..., 5], "int32"), depth - 10)
    of_classes = targets[..., 0] * ops.sum((predictions[..., 10:] - label) ** 2, axis=-1)
    return ops.mean(ops.sum(of_boxes, axis=-1) + of_classes)


# %% gap="train" why="takes a whole pass for each step"
def train(model, truth, steps):
    model.compile(keras.optimizers.AdamW(1e-3), yolo_loss, jit_compile=training.jit_compile())
    targets = [encode(*rows, cells, image_size)[0] for rows in zip(truth["boxes"], truth["labels"])]
    history = model.fit(truth["image"], np.stack(targets), batch_size=batch_size, epochs=min(steps, 2), verbose=0)
    return history.history["loss"]


# %% gap="train" why="compiles with a rate of zero"
def train(model, truth, steps):
    model.compile(keras.optimizers.SGD(0.0), yolo_loss, jit_compile=training.jit_compile())
    model.get_layer("head_bn" if "head_bn" in [layer.name for layer in model.layers] else "cells").trainable = True
    before, values = model.get_weights(), []
    targets = np.stack([encode(*rows, cells, image_size)[0] for rows in zip(truth["boxes"], truth["labels"])])
    order = np.resize(np.arange(len(targets)), batch_size)
    for _ in range(min(steps, 3)):
        values.append(model.train_on_batch(truth["image"][order], targets[order]))
    model.set_weights(before)
    return values


# %% gap="train" why="compiles with a plain squared error"
def train(model, truth, steps):
    def plain(targets, predictions):
        return ops.mean((predictions[..., :5] - targets[..., :5]) ** 2)

    model.compile(keras.optimizers.AdamW(1e-3), plain, jit_compile=training.jit_compile())
    targets = np.stack([encode(*rows, cells, image_size)[0] for rows in zip(truth["boxes"], truth["labels"])])
    order = np.resize(np.arange(len(targets)), batch_size)
    return [model.train_on_batch(truth["image"][order], targets[order]) for _ in range(min(steps, 3))]


# %% gap="focal" why="overflows: the logarithm of a sigmoid"
def focal(y_true, logits, gamma):
    p = ops.sigmoid(logits)
    p = ops.where(ops.equal(y_true, 1), p, 1 - p)
    return -((1 - p) ** gamma) * ops.log(p)


# %% gap="focal" why="takes p for the probability of a one, whatever is true"
def focal(y_true, logits, gamma):
    cross_entropy = ops.where(ops.equal(y_true, 1), ops.softplus(-logits), ops.softplus(logits))
    return (1 - ops.sigmoid(logits)) ** gamma * cross_entropy


# %% gap="focal" why="weights the hard ones down, not the easy ones"
def focal(y_true, logits, gamma):
    towards = ops.where(ops.equal(y_true, 1), logits, -logits)
    return ops.sigmoid(towards) ** gamma * ops.softplus(-towards)


# %% gap="focal" why="takes the mean"
def focal(y_true, logits, gamma):
    towards = ops.where(ops.equal(y_true, 1), logits, -logits)
    return ops.mean(ops.sigmoid(-towards) ** gamma * ops.softplus(-towards))


# %% gap="mine" why="chooses over the whole batch"
def hard_negatives(losses, positive, ratio=3):
    difficulty = np.where(positive, -np.inf, losses)
    rank = np.argsort(np.argsort(-difficulty.ravel())).reshape(losses.shape)
    return (rank < ratio * positive.sum()) & ~positive


# %% gap="mine" why="lets positive boxes take places among the worst"
def hard_negatives(losses, positive, ratio=3):
    rank = np.argsort(np.argsort(-losses, axis=1), axis=1)
    return (rank < ratio * positive.sum(axis=1, keepdims=True)) & ~positive


# %% gap="mine" why="takes the easiest"
def hard_negatives(losses, positive, ratio=3):
    difficulty = np.where(positive, np.inf, losses)
    rank = np.argsort(np.argsort(difficulty, axis=1), axis=1)
    return (rank < ratio * positive.sum(axis=1, keepdims=True)) & ~positive


# %% gap="mine" why="takes an order for a rank"
def hard_negatives(losses, positive, ratio=3):
    order = np.argsort(-np.where(positive, -np.inf, losses), axis=1)
    return (order < ratio * positive.sum(axis=1, keepdims=True)) & ~positive


# %% gap="anchors" why="chooses the anchor by the Euclidean distance of the sizes"
def improve(sizes, anchors):
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=-1)
    union = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared
    nearest = ((sizes[:, None] - anchors[None]) ** 2).sum(axis=-1).argmin(axis=1)
    better = np.array(anchors, float)
    for number in np.unique(nearest):
        better[number] = sizes[nearest == number].mean(axis=0)
    return better, float((shared / union)[np.arange(len(sizes)), nearest].mean())


# %% gap="anchors" why="counts the shared part twice in the union"
def improve(sizes, anchors):
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=-1)
    likeness = shared / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None])
    nearest, better = likeness.argmax(axis=1), np.array(anchors, float)
    for number in np.unique(nearest):
        better[number] = sizes[nearest == number].mean(axis=0)
    return better, float(likeness.max(axis=1).mean())


# %% gap="anchors" why="takes the largest overlap, not the largest IoU"
def improve(sizes, anchors):
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=-1)
    union = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared
    nearest, better = shared.argmax(axis=1), np.array(anchors, float)
    for number in np.unique(nearest):
        better[number] = sizes[nearest == number].mean(axis=0)
    return better, float((shared / union)[np.arange(len(sizes)), nearest].mean())


# %% gap="anchors" why="makes NaN of an anchor without boxes"
def improve(sizes, anchors):
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=-1)
    union = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared
    likeness = shared / union
    nearest = likeness.argmax(axis=1)
    sums = np.stack([sizes[nearest == number].sum(axis=0) for number in range(len(anchors))])
    counts = np.bincount(nearest, minlength=len(anchors))[:, None]
    with np.errstate(invalid="ignore"):
        return sums / counts, float(likeness.max(axis=1).mean())


# %% gap="anchors" why="measures the new anchors, not those that the boxes went to"
def improve(sizes, anchors):
    def likeness(anchors):
        shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=-1)
        return shared / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared)

    nearest, better = likeness(anchors).argmax(axis=1), np.array(anchors, float)
    for number in np.unique(nearest):
        better[number] = sizes[nearest == number].mean(axis=0)
    return better, float(likeness(better).max(axis=1).mean())


# %% gap="anchors" why="changes the anchors that come in"
def improve(sizes, anchors):
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=-1)
    likeness = shared / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared)
    nearest = likeness.argmax(axis=1)
    for number in np.unique(nearest):
        anchors[number] = sizes[nearest == number].mean(axis=0)
    return anchors, float(likeness.max(axis=1).mean())
