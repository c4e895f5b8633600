# %% gap="align" why="forgets that a cell's centre lies half a cell from its corner"
def roi_align(features, box, size, stride, samples=2):
    def weights(start, end, cells):
        steps = (np.arange(size * samples) + 0.5) / (size * samples)
        points = np.clip((start + steps * (end - start)) / stride, 0, cells - 1)
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[1], box[3], features.shape[0]), weights(box[0], box[2], features.shape[1])
    values = np.einsum("ph,hwc,qw->pqc", rows, features, columns)
    return values.reshape(size, samples, size, samples, -1).mean(axis=(1, 3))


# %% gap="align" why="does not stop at the first and the last centre, so that values at the border get lost"
def roi_align(features, box, size, stride, samples=2):
    def weights(start, end, cells):
        steps = (np.arange(size * samples) + 0.5) / (size * samples)
        points = (start + steps * (end - start)) / stride - 0.5
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[1], box[3], features.shape[0]), weights(box[0], box[2], features.shape[1])
    values = np.einsum("ph,hwc,qw->pqc", rows, features, columns)
    return values.reshape(size, samples, size, samples, -1).mean(axis=(1, 3))


# %% gap="align" why="always takes 2 × 2 points"
def roi_align(features, box, size, stride, samples=2):
    def weights(start, end, cells):
        steps = (np.arange(2 * size) + 0.5) / (2 * size)
        points = np.clip((start + steps * (end - start)) / stride - 0.5, 0, cells - 1)
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[1], box[3], features.shape[0]), weights(box[0], box[2], features.shape[1])
    values = np.einsum("ph,hwc,qw->pqc", rows, features, columns)
    return values.reshape(size, 2, size, 2, -1).mean(axis=(1, 3))


# %% gap="align" why="rounds the box to whole cells first"
def roi_align(features, box, size, stride, samples=2):
    box = np.round(np.array(box) / stride) * stride

    def weights(start, end, cells):
        steps = (np.arange(size * samples) + 0.5) / (size * samples)
        points = np.clip((start + steps * (end - start)) / stride - 0.5, 0, cells - 1)
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[1], box[3], features.shape[0]), weights(box[0], box[2], features.shape[1])
    values = np.einsum("ph,hwc,qw->pqc", rows, features, columns)
    return values.reshape(size, samples, size, samples, -1).mean(axis=(1, 3))


# %% gap="align" why="takes the columns of the box for its rows"
def roi_align(features, box, size, stride, samples=2):
    def weights(start, end, cells):
        steps = (np.arange(size * samples) + 0.5) / (size * samples)
        points = np.clip((start + steps * (end - start)) / stride - 0.5, 0, cells - 1)
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[0], box[2], features.shape[0]), weights(box[1], box[3], features.shape[1])
    values = np.einsum("ph,hwc,qw->pqc", rows, features, columns)
    return values.reshape(size, samples, size, samples, -1).mean(axis=(1, 3))


# %% gap="align" why="reads one point in the middle of each bin"
def roi_align(features, box, size, stride, samples=2):
    def weights(start, end, cells):
        points = (start + (np.arange(size) + 0.5) / size * (end - start)) / stride - 0.5
        return np.maximum(1 - np.abs(np.clip(points, 0, cells - 1)[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[1], box[3], features.shape[0]), weights(box[0], box[2], features.shape[1])
    return np.einsum("ph,hwc,qw->pqc", rows, features, columns)


# %% gap="targets" why="gives each RoI the mask of the same number, not of its object"
def mask_targets(masks, rois, matched, size):
    height, width = masks.shape[2:]
    own = ops.cast(masks, "float32")[:, : rois.shape[1]]
    cut = roi.roi_align(ops.reshape(own, (-1, height, width, 1)), ops.reshape(rois, (-1, 1, 4)), size, 1.0)
    return ops.reshape(cut, (-1, rois.shape[1], size, size))


# %% gap="targets" why="cuts out of the union of all masks"
def mask_targets(masks, rois, matched, size):
    union = ops.max(ops.cast(masks, "float32"), axis=1)[..., None]
    return roi.roi_align(union, rois, size, 1.0)[..., 0]


# %% gap="targets" why="shrinks the whole mask, and does not cut the box out"
def mask_targets(masks, rois, matched, size):
    height, width = masks.shape[2:]
    own = ops.take_along_axis(ops.cast(masks, "float32"), ops.cast(matched, "int32")[..., None, None], axis=1)
    maps = ops.reshape(own, (-1, height, width, 1))
    whole = ops.zeros_like(ops.reshape(rois, (-1, 1, 4))) + np.float32([0, 0, width, height])
    return ops.reshape(roi.roi_align(maps, whole, size, 1.0), (-1, rois.shape[1], size, size))


# %% gap="loss" why="lets the masks of all classes compete and count"
def mask_loss(targets, labels, logits):
    chosen = ops.one_hot(labels - 1, logits.shape[-1])[:, :, None, None]
    wanted = targets[..., None] * chosen
    entropy = ops.mean(ops.binary_crossentropy(wanted, ops.cast(logits, "float32"), from_logits=True), axis=(2, 3, 4))
    positive = ops.cast(labels > 0, "float32")
    return ops.sum(entropy * positive) / ops.maximum(ops.sum(positive), 1)


# %% gap="loss" why="takes the label for the class: one too high"
def mask_loss(targets, labels, logits):
    chosen = ops.one_hot(labels, logits.shape[-1])[:, :, None, None]
    own = ops.sum(ops.cast(logits, "float32") * chosen, axis=-1)
    entropy = ops.mean(ops.binary_crossentropy(targets, own, from_logits=True), axis=(2, 3))
    positive = ops.cast(labels > 0, "float32")
    return ops.sum(entropy * positive) / ops.maximum(ops.sum(positive), 1)


# %% gap="loss" why="divides by the number of all RoIs"
def mask_loss(targets, labels, logits):
    chosen = ops.one_hot(labels - 1, logits.shape[-1])[:, :, None, None]
    own = ops.sum(ops.cast(logits, "float32") * chosen, axis=-1)
    entropy = ops.mean(ops.binary_crossentropy(targets, own, from_logits=True), axis=(2, 3))
    return ops.mean(entropy * ops.cast(labels > 0, "float32"))


# %% gap="paste" why="cuts at .5 before it enlarges"
def paste(soft, box, height, width):
    def weights(start, end, cells, pixels):
        points = (np.arange(pixels) + 0.5 - start) / (end - start) * cells - 0.5
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[1], box[3], soft.shape[0], height), weights(box[0], box[2], soft.shape[1], width)
    return rows @ (soft >= 0.5) @ columns.T >= 0.5


# %% gap="paste" why="goes on with the border's values beyond the box"
def paste(soft, box, height, width):
    def weights(start, end, cells, pixels):
        points = np.clip((np.arange(pixels) + 0.5 - start) / (end - start) * cells - 0.5, 0, cells - 1)
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[1], box[3], soft.shape[0], height), weights(box[0], box[2], soft.shape[1], width)
    return rows @ soft @ columns.T >= 0.5


# %% gap="paste" why="looks at the pixels' corners, not at their centres"
def paste(soft, box, height, width):
    def weights(start, end, cells, pixels):
        points = (np.arange(pixels) - start) / (end - start) * cells
        return np.maximum(1 - np.abs(points[:, None] - np.arange(cells)), 0)

    rows, columns = weights(box[1], box[3], soft.shape[0], height), weights(box[0], box[2], soft.shape[1], width)
    return rows @ soft @ columns.T >= 0.5


# %% gap="iou" why="divides by the sum of the areas"
def mask_iou(a, b):
    a, b = (x.reshape(len(x), -1).astype(float) for x in (a, b))
    return a @ b.T / np.maximum(a.sum(axis=1)[:, None] + b.sum(axis=1), 1)


# %% gap="iou" why="divides by nothing where both masks are empty"
def mask_iou(a, b):
    a, b = (x.reshape(len(x), -1).astype(float) for x in (a, b))
    both = a @ b.T
    return both / (a.sum(axis=1)[:, None] + b.sum(axis=1) - both)


# %% gap="final" why="pastes the mask of the first class"
def final_masks(logits, boxes, labels, height, width):
    masks = np.zeros((len(labels), height, width), bool)
    for place in np.flatnonzero(labels >= 0):
        if (boxes[place, 2:] > boxes[place, :2]).all():
            masks[place] = paste(1 / (1 + np.exp(-logits[place, :, :, 0])), boxes[place], height, width)
    return masks


# %% gap="final" why="takes the union of the masks of all classes"
def final_masks(logits, boxes, labels, height, width):
    masks = np.zeros((len(labels), height, width), bool)
    for place in np.flatnonzero(labels >= 0):
        if (boxes[place, 2:] > boxes[place, :2]).all():
            masks[place] = paste(1 / (1 + np.exp(-logits[place].max(axis=-1))), boxes[place], height, width)
    return masks


# %% gap="final" why="pastes all masks into the first box"
def final_masks(logits, boxes, labels, height, width):
    masks = np.zeros((len(labels), height, width), bool)
    for place in np.flatnonzero(labels >= 0):
        if (boxes[place, 2:] > boxes[place, :2]).all():
            masks[place] = paste(1 / (1 + np.exp(-logits[place, :, :, labels[place]])), boxes[0], height, width)
    return masks


# %% gap="final" why="cuts the logits at 0, so that everything beyond the box belongs to the object"
def final_masks(logits, boxes, labels, height, width):
    masks = np.zeros((len(labels), height, width), bool)
    for place in np.flatnonzero(labels >= 0):
        if (boxes[place, 2:] > boxes[place, :2]).all():
            own = logits[place, :, :, labels[place]][None, None].astype("float32")
            laid = mask_rcnn.enlarge(own, boxes[place][None, None].astype("float32"), height, width)
            masks[place] = ops.convert_to_numpy(laid)[0, 0] >= 0
    return masks


# %% gap="final" why="gives padding the mask of the last class"
def final_masks(logits, boxes, labels, height, width):
    masks = np.zeros((len(labels), height, width), bool)
    for place in range(len(labels)):
        if (boxes[place, 2:] > boxes[place, :2]).all():
            soft = 1 / (1 + np.exp(-logits[place, :, :, labels[place]]))
            masks[place] = paste(soft, boxes[place], height, width)
    return masks


# %% gap="final" why="takes the logits for values from 0 to 1"
def final_masks(logits, boxes, labels, height, width):
    masks = np.zeros((len(labels), height, width), bool)
    for place in np.flatnonzero(labels >= 0):
        if (boxes[place, 2:] > boxes[place, :2]).all():
            masks[place] = paste(logits[place, :, :, labels[place]], boxes[place], height, width)
    return masks


# %% gap="keypoints" why="takes rows for x"
def keypoints_of(logits, box):
    size, count = logits.shape[1:]
    maps = logits.reshape(size * size, count)
    best, score = maps.argmax(axis=0), 1 / np.exp(maps - maps.max(axis=0)).sum(axis=0)
    x = box[0] + (best // size + 0.5) / size * (box[2] - box[0])
    y = box[1] + (best % size + 0.5) / size * (box[3] - box[1])
    return np.stack([x, y, score], axis=-1)


# %% gap="keypoints" why="takes the corner of the bin"
def keypoints_of(logits, box):
    size, count = logits.shape[1:]
    maps = logits.reshape(size * size, count)
    best, score = maps.argmax(axis=0), 1 / np.exp(maps - maps.max(axis=0)).sum(axis=0)
    x = box[0] + (best % size) / size * (box[2] - box[0])
    y = box[1] + (best // size) / size * (box[3] - box[1])
    return np.stack([x, y, score], axis=-1)


# %% gap="keypoints" why="forgets where the box begins"
def keypoints_of(logits, box):
    size, count = logits.shape[1:]
    maps = logits.reshape(size * size, count)
    best, score = maps.argmax(axis=0), 1 / np.exp(maps - maps.max(axis=0)).sum(axis=0)
    x = (best % size + 0.5) / size * (box[2] - box[0])
    y = (best // size + 0.5) / size * (box[3] - box[1])
    return np.stack([x, y, score], axis=-1)


# %% gap="keypoints" why="lets the kinds of points compete, and not the places"
def keypoints_of(logits, box):
    size, count = logits.shape[1:]
    maps = logits.reshape(size * size, count)
    best = maps.argmax(axis=0)
    chances = np.exp(maps - maps.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    x = box[0] + (best % size + 0.5) / size * (box[2] - box[0])
    y = box[1] + (best // size + 0.5) / size * (box[3] - box[1])
    return np.stack([x, y, chances[best, np.arange(count)]], axis=-1)


# %% gap="keypoints" why="gives a sigmoid of the logit as the score"
def keypoints_of(logits, box):
    size, count = logits.shape[1:]
    maps = logits.reshape(size * size, count)
    best = maps.argmax(axis=0)
    x = box[0] + (best % size + 0.5) / size * (box[2] - box[0])
    y = box[1] + (best // size + 0.5) / size * (box[3] - box[1])
    return np.stack([x, y, 1 / (1 + np.exp(-maps.max(axis=0)))], axis=-1)


# %% gap="keypoints" why="overflows with large logits"
def keypoints_of(logits, box):
    size, count = logits.shape[1:]
    maps = logits.reshape(size * size, count)
    best = maps.argmax(axis=0)
    score = np.exp(maps.max(axis=0)) / np.exp(maps).sum(axis=0)
    x = box[0] + (best % size + 0.5) / size * (box[2] - box[0])
    y = box[1] + (best // size + 0.5) / size * (box[3] - box[1])
    return np.stack([x, y, score], axis=-1)
