# %% gap="anchors" why="centres the anchors on the corners of the cells"
def make_anchors(rows, columns, stride, sizes, ratios):
    found = []
    for row in range(rows):
        for column in range(columns):
            for ratio in ratios:
                for size in sizes:
                    w, h = size / np.sqrt(ratio) / 2, size * np.sqrt(ratio) / 2
                    x, y = column * stride, row * stride
                    found.append([x - w, y - h, x + w, y + h])
    return np.array(found, "float32")


# %% gap="anchors" why="takes the ratio for width / height"
def make_anchors(rows, columns, stride, sizes, ratios):
    return course_anchors.grid((rows, columns), stride, sizes, [1 / ratio for ratio in ratios])


# %% gap="anchors" why="multiplies the height by the ratio, so that the area grows"
def make_anchors(rows, columns, stride, sizes, ratios):
    found = []
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            found += [[x - s / 2, y - s * r / 2, x + s / 2, y + s * r / 2] for r in ratios for s in sizes]
    return np.array(found, "float32")


# %% gap="anchors" why="goes column by column"
def make_anchors(rows, columns, stride, sizes, ratios):
    found = course_anchors.grid((rows, columns), stride, sizes, ratios)
    return found.reshape(rows, columns, -1, 4).swapaxes(0, 1).reshape(-1, 4)


# %% gap="anchors" why="changes the size before the ratio is through"
def make_anchors(rows, columns, stride, sizes, ratios):
    found = course_anchors.grid((rows, columns), stride, sizes, ratios)
    return found.reshape(-1, len(ratios), len(sizes), 4).swapaxes(1, 2).reshape(-1, 4)


# %% gap="labels" why="forgets the best anchor of each object"
def label_anchors(iou, high=0.7, low=0.3):
    if len(iou) == 0:
        return np.full(iou.shape[1], -1)
    best = iou.max(axis=0)
    return np.where(best >= high, iou.argmax(axis=0), np.where(best < low, -1, -2))


# %% gap="labels" why="makes the best anchor of an object background again"
def label_anchors(iou, high=0.7, low=0.3):
    if len(iou) == 0:
        return np.full(iou.shape[1], -1)
    best = iou.max(axis=0)
    of_an_object = ((iou == iou.max(axis=1, keepdims=True)) & (iou > 0)).any(axis=0)
    labels = np.where((best >= high) | of_an_object, iou.argmax(axis=0), -2)
    labels[best < low] = -1
    return labels


# %% gap="labels" why="takes only the first of several best anchors"
def label_anchors(iou, high=0.7, low=0.3):
    if len(iou) == 0:
        return np.full(iou.shape[1], -1)
    best, nearest = iou.max(axis=0), iou.argmax(axis=0)
    labels = np.where(best >= high, nearest, np.where(best < low, -1, -2))
    for row in iou:
        if row.max() > 0:
            labels[row.argmax()] = nearest[row.argmax()]
    return labels


# %% gap="labels" why="gives an object that overlaps nothing all anchors"
def label_anchors(iou, high=0.7, low=0.3):
    if len(iou) == 0:
        return np.full(iou.shape[1], -1)
    best, nearest = iou.max(axis=0), iou.argmax(axis=0)
    of_an_object = (iou == iou.max(axis=1, keepdims=True)).any(axis=0)
    return np.where((best >= high) | of_an_object, nearest, np.where(best < low, -1, -2))


# %% gap="labels" why="fails without objects"
def label_anchors(iou, high=0.7, low=0.3):
    best = iou.max(axis=0, initial=0)
    of_an_object = ((iou == iou.max(axis=1, keepdims=True)) & (iou > 0)).any(axis=0)
    nearest = iou.argmax(axis=0) if len(iou) else np.zeros(iou.shape[1], int)
    return np.where((best >= high) | of_an_object, nearest, np.where(best <= low, -2, -1))


# %% gap="labels" why="lets a best anchor answer for the object whose best it is"
def label_anchors(iou, high=0.7, low=0.3):
    if len(iou) == 0:
        return np.full(iou.shape[1], -1)
    best = iou.max(axis=0)
    labels = np.where(best >= high, iou.argmax(axis=0), np.where(best < low, -1, -2))
    for index, row in enumerate(iou):
        if row.max() > 0:
            labels[row == row.max()] = index
    return labels


# %% gap="labels" why="has the limits built in"
def label_anchors(iou, high=0.7, low=0.3):
    return matching.match(iou, 0.7, 0.3)


# %% gap="draw" why="takes the first ones, not random ones"
def draw(labels, count, share, rng):
    positive = np.flatnonzero(labels >= 0)[: int(count * share)]
    background = np.flatnonzero(labels == -1)[: count - len(positive)]
    chosen = np.zeros(len(labels), bool)
    chosen[positive] = chosen[background] = True
    return chosen


# %% gap="draw" why="draws as many backgrounds as half, so that few positives leave the batch small"
def draw(labels, count, share, rng):
    positive = rng.permutation(np.flatnonzero(labels >= 0))[: int(count * share)]
    background = rng.permutation(np.flatnonzero(labels == -1))[: count - int(count * share)]
    chosen = np.zeros(len(labels), bool)
    chosen[positive] = chosen[background] = True
    return chosen


# %% gap="draw" why="takes left-out anchors for background"
def draw(labels, count, share, rng):
    positive = rng.permutation(np.flatnonzero(labels >= 0))[: int(count * share)]
    background = rng.permutation(np.flatnonzero(labels < 0))[: count - len(positive)]
    chosen = np.zeros(len(labels), bool)
    chosen[positive] = chosen[background] = True
    return chosen


# %% gap="draw" why="draws from all alike, so that background drowns the positives"
def draw(labels, count, share, rng):
    chosen = np.zeros(len(labels), bool)
    chosen[rng.permutation(np.flatnonzero(labels >= -1))[:count]] = True
    return chosen


# %% gap="roi-pool" why="rounds down"
def roi_pool(features, box, bins, stride):
    return ops.convert_to_numpy(
        roi.roi_pool(features[None], np.floor(np.asarray(box) / stride)[None, None] * stride, bins, 1 / stride)
    )[0, 0]


# %% gap="roi-pool" why="leaves the last cell out"
def roi_pool(features, box, bins, stride):
    box = np.asarray(box, "float32") - np.array([0, 0, stride, stride])
    return ops.convert_to_numpy(roi.roi_pool(features[None], box[None, None], bins, 1 / stride))[0, 0]


# %% gap="roi-pool" why="exchanges rows and columns"
def roi_pool(features, box, bins, stride):
    given = np.asarray(box, "float32")[None, None]
    return ops.convert_to_numpy(roi.roi_pool(features[None], given, bins, 1 / stride))[0, 0].swapaxes(0, 1)


# %% gap="roi-pool" why="rounds the end of a bin down, so that bins never overlap"
def roi_pool(features, box, bins, stride):
    left, top, right, bottom = np.floor(np.asarray(box) / stride + 0.5).astype(int)
    pooled = np.zeros((bins, bins, features.shape[-1]), features.dtype)
    n, m = max(bottom - top + 1, 1), max(right - left + 1, 1)
    for row in range(bins):
        for column in range(bins):
            part = features[
                max(top + row * n // bins, 0) : max(top + (row + 1) * n // bins, 0),
                max(left + column * m // bins, 0) : max(left + (column + 1) * m // bins, 0),
            ]
            if part.size:
                pooled[row, column] = part.max(axis=(0, 1))
    return pooled


# %% gap="roi-pool" why="takes the mean of a bin"
def roi_pool(features, box, bins, stride):
    given = np.asarray(box, "float32")[None, None]
    return ops.convert_to_numpy(roi.roi_align(features[None], given, bins, 1 / stride))[0, 0]


# %% gap="roi-pool" why="cuts the box to the map before it is divided into bins"
def roi_pool(features, box, bins, stride):
    height, width = features.shape[:2]
    cells = np.floor(np.asarray(box) / stride + 0.5)
    cells = np.clip(cells, 0, [width - 1, height - 1, width - 1, height - 1])
    given = (cells * stride).astype("float32")[None, None]
    return ops.convert_to_numpy(roi.roi_pool(features[None], given, bins, 1 / stride))[0, 0]


# %% gap="objectness" why="asks all anchors"
def objectness_loss(sampled, positive, logits):
    return ops.mean(ops.binary_crossentropy(ops.cast(positive, "float32"), logits, from_logits=True))


# %% gap="objectness" why="divides by all anchors"
def objectness_loss(sampled, positive, logits):
    entropy = ops.binary_crossentropy(ops.cast(positive, "float32"), logits, from_logits=True)
    return ops.mean(ops.cast(sampled, "float32") * entropy)


# %% gap="objectness" why="takes the logits for probabilities"
def objectness_loss(sampled, positive, logits):
    asked = ops.cast(sampled, "float32")
    entropy = ops.binary_crossentropy(ops.cast(positive, "float32"), logits)
    return ops.sum(asked * entropy) / ops.maximum(ops.sum(asked), 1.0)


# %% gap="objectness" why="asks the positive anchors alone"
def objectness_loss(sampled, positive, logits):
    asked = ops.cast(positive, "float32")
    entropy = ops.binary_crossentropy(asked, logits, from_logits=True)
    return ops.sum(asked * entropy) / ops.maximum(ops.sum(asked), 1.0)


# %% gap="objectness" why="computes the logarithm of a sigmoid that has become 0"
def objectness_loss(sampled, positive, logits):
    asked, truth = ops.cast(sampled, "float32"), ops.cast(positive, "float32")
    p = ops.sigmoid(logits)
    entropy = -truth * ops.log(p + 1e-12) - (1 - truth) * ops.log(1 - p + 1e-12)
    return ops.sum(asked * entropy) / ops.maximum(ops.sum(asked), 1.0)


# %% gap="objectness" why="divides by zero where nobody is asked"
def objectness_loss(sampled, positive, logits):
    asked = ops.cast(sampled, "float32")
    entropy = ops.binary_crossentropy(ops.cast(positive, "float32"), logits, from_logits=True)
    return ops.sum(asked * entropy) / ops.sum(asked)


# %% gap="objectness" why="calls the course's own function"
def objectness_loss(sampled, positive, logits):
    nothing = ops.zeros((*ops.shape(logits), 4))
    targets = {"sampled": sampled, "positive": positive, "deltas": nothing}
    return rpn.rpn_losses(targets, logits, nothing)["objectness_loss"]


# %% gap="proposal" why="multiplies by the mask, so that NaN stays NaN"
def proposal_loss(sampled, positive, true_deltas, deltas):
    distance = ops.abs(true_deltas - deltas)
    smooth = ops.where(distance < 1 / 9, 4.5 * distance**2, distance - 1 / 18)
    each = ops.sum(smooth, axis=-1) * ops.cast(positive, "float32")
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(sampled, "float32")), 1.0)


# %% gap="proposal" why="divides by the number of positive anchors"
def proposal_loss(sampled, positive, true_deltas, deltas):
    distance = ops.abs(true_deltas - deltas)
    smooth = ops.where(distance < 1 / 9, 4.5 * distance**2, distance - 1 / 18)
    each = ops.where(positive, ops.sum(smooth, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(positive, "float32")), 1.0)


# %% gap="proposal" why="moves background too"
def proposal_loss(sampled, positive, true_deltas, deltas):
    distance = ops.abs(true_deltas - deltas)
    smooth = ops.where(distance < 1 / 9, 4.5 * distance**2, distance - 1 / 18)
    each = ops.where(sampled, ops.sum(smooth, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(sampled, "float32")), 1.0)


# %% gap="proposal" why="takes 1 for beta"
def proposal_loss(sampled, positive, true_deltas, deltas):
    distance = ops.abs(true_deltas - deltas)
    smooth = ops.where(distance < 1, distance**2 / 2, distance - 0.5)
    each = ops.where(positive, ops.sum(smooth, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(sampled, "float32")), 1.0)


# %% gap="proposal" why="averages over the four numbers"
def proposal_loss(sampled, positive, true_deltas, deltas):
    distance = ops.abs(true_deltas - deltas)
    smooth = ops.where(distance < 1 / 9, 4.5 * distance**2, distance - 1 / 18)
    each = ops.where(positive, ops.mean(smooth, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(sampled, "float32")), 1.0)


# %% gap="proposal" why="squares far distances too"
def proposal_loss(sampled, positive, true_deltas, deltas):
    each = ops.where(positive, ops.sum(4.5 * (true_deltas - deltas) ** 2, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(sampled, "float32")), 1.0)


# %% gap="proposal" why="calls the course's own function"
def proposal_loss(sampled, positive, true_deltas, deltas):
    targets = {"sampled": sampled, "positive": positive, "deltas": true_deltas}
    return rpn.rpn_losses(targets, deltas[..., 0], deltas)["proposal_loss"]


# %% gap="level" why="rounds to the nearest level"
def pyramid_level(boxes, levels, canonical):
    sides = np.sqrt(np.maximum(geometry.area(boxes), 1e-6))
    return np.clip(np.round(4 + np.log2(sides / canonical)), levels[0], levels[-1]).astype(int)


# %% gap="level" why="takes the longer side for the size"
def pyramid_level(boxes, levels, canonical):
    sides = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1e-6)
    return np.clip(4 + np.floor(np.log2(sides / canonical)), levels[0], levels[-1]).astype(int)


# %% gap="level" why="takes the area for the side"
def pyramid_level(boxes, levels, canonical):
    areas = np.maximum(geometry.area(boxes), 1e-6)
    return np.clip(4 + np.floor(np.log2(areas / canonical**2)), levels[0], levels[-1]).astype(int)


# %% gap="level" why="sends large boxes to fine maps"
def pyramid_level(boxes, levels, canonical):
    sides = np.sqrt(np.maximum(geometry.area(boxes), 1e-6))
    return np.clip(4 - np.floor(np.log2(sides / canonical)), levels[0], levels[-1]).astype(int)


# %% gap="level" why="gives levels that are not there"
def pyramid_level(boxes, levels, canonical):
    sides = np.sqrt(np.maximum(geometry.area(boxes), 1e-6))
    return (4 + np.floor(np.log2(sides / canonical))).astype(int)


# %% gap="level" why="has the size of ImageNet's images built in"
def pyramid_level(boxes, levels, canonical):
    return ops.convert_to_numpy(fast_rcnn.level_of(np.asarray(boxes, "float32"), levels))


# %% gap="box-loss" why="takes the label for the index of the box"
def box_loss(labels, true_deltas, deltas):
    labels = ops.cast(labels, "int32")
    at = ops.clip(labels, 0, deltas.shape[2] - 1)[..., None, None]
    distance = ops.abs(true_deltas - ops.take_along_axis(deltas, at, axis=2)[:, :, 0])
    smooth = ops.where(distance < 1, distance**2 / 2, distance - 0.5)
    each = ops.where(labels > 0, ops.sum(smooth, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(labels >= 0, "float32")), 1.0)


# %% gap="box-loss" why="asks background for the first class's box"
def box_loss(labels, true_deltas, deltas):
    labels = ops.cast(labels, "int32")
    at = ops.maximum(labels - 1, 0)[..., None, None]
    distance = ops.abs(true_deltas - ops.take_along_axis(deltas, at, axis=2)[:, :, 0])
    smooth = ops.where(distance < 1, distance**2 / 2, distance - 0.5)
    each = ops.where(labels >= 0, ops.sum(smooth, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(labels >= 0, "float32")), 1.0)


# %% gap="box-loss" why="asks the boxes of all classes"
def box_loss(labels, true_deltas, deltas):
    labels = ops.cast(labels, "int32")
    distance = ops.abs(true_deltas[:, :, None] - deltas)
    smooth = ops.where(distance < 1, distance**2 / 2, distance - 0.5)
    each = ops.where(labels > 0, ops.sum(smooth, axis=(-2, -1)), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(labels >= 0, "float32")), 1.0)


# %% gap="box-loss" why="divides by the RoIs on objects"
def box_loss(labels, true_deltas, deltas):
    labels = ops.cast(labels, "int32")
    at = ops.maximum(labels - 1, 0)[..., None, None]
    distance = ops.abs(true_deltas - ops.take_along_axis(deltas, at, axis=2)[:, :, 0])
    smooth = ops.where(distance < 1, distance**2 / 2, distance - 0.5)
    each = ops.where(labels > 0, ops.sum(smooth, axis=-1), 0.0)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(labels > 0, "float32")), 1.0)


# %% gap="box-loss" why="counts what only fills up"
def box_loss(labels, true_deltas, deltas):
    labels = ops.cast(labels, "int32")
    at = ops.maximum(labels - 1, 0)[..., None, None]
    distance = ops.abs(true_deltas - ops.take_along_axis(deltas, at, axis=2)[:, :, 0])
    smooth = ops.where(distance < 1, distance**2 / 2, distance - 0.5)
    return ops.mean(ops.where(labels > 0, ops.sum(smooth, axis=-1), 0.0))


# %% gap="box-loss" why="multiplies by a mask, so that NaN stays NaN"
def box_loss(labels, true_deltas, deltas):
    labels = ops.cast(labels, "int32")
    at = ops.maximum(labels - 1, 0)[..., None, None]
    distance = ops.abs(true_deltas - ops.take_along_axis(deltas, at, axis=2)[:, :, 0])
    smooth = ops.where(distance < 1, distance**2 / 2, distance - 0.5)
    each = ops.sum(smooth, axis=-1) * ops.cast(labels > 0, "float32")
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(labels >= 0, "float32")), 1.0)


# %% gap="propose" why="suppresses before it moves the anchors"
def propose(logits, deltas, anchors, size, before, after, threshold=0.7):
    order = np.argsort(-logits)[:before]
    left, kept = list(order), []
    while left and len(kept) < after:
        kept.append(left.pop(0))
        left = [k for k in left if geometry.iou(anchors[kept[-1:]], anchors[[k]])[0, 0] <= threshold]
    boxes = np.clip(coding.decode(deltas[kept], anchors[kept]), 0, size)
    return boxes[geometry.area(boxes) > 0]


# %% gap="propose" why="keeps boxes without area"
def propose(logits, deltas, anchors, size, before, after, threshold=0.7):
    order = np.argsort(-logits, kind="stable")[:before]
    boxes, kept = np.clip(coding.decode(deltas[order], anchors[order]), 0, size), []
    while len(boxes) and len(kept) < after:
        kept.append(boxes[0])
        boxes = boxes[1:][geometry.iou(boxes[:1], boxes[1:])[0] <= threshold]
    return np.array(kept, "float32")


# %% gap="propose" why="takes the lowest scores"
def propose(logits, deltas, anchors, size, before, after, threshold=0.7):
    order = np.argsort(logits, kind="stable")[:before]
    boxes = np.clip(coding.decode(deltas[order], anchors[order]), 0, size)
    boxes, kept = boxes[geometry.area(boxes) > 0], []
    while len(boxes) and len(kept) < after:
        kept.append(boxes[0])
        boxes = boxes[1:][geometry.iou(boxes[:1], boxes[1:])[0] <= threshold]
    return np.array(kept, "float32")


# %% gap="propose" why="leaves the suppression out"
def propose(logits, deltas, anchors, size, before, after, threshold=0.7):
    order = np.argsort(-logits, kind="stable")[:before]
    boxes = np.clip(coding.decode(deltas[order], anchors[order]), 0, size)
    return boxes[geometry.area(boxes) > 0][:after]


# %% gap="propose" why="moves the best anchors by the deltas of the first ones"
def propose(logits, deltas, anchors, size, before, after, threshold=0.7):
    order = np.argsort(-logits, kind="stable")[:before]
    boxes = np.clip(coding.decode(deltas[: len(order)], anchors[order]), 0, size)
    boxes, kept = boxes[geometry.area(boxes) > 0], []
    while len(boxes) and len(kept) < after:
        kept.append(boxes[0])
        boxes = boxes[1:][geometry.iou(boxes[:1], boxes[1:])[0] <= threshold]
    return np.array(kept, "float32")


# %% gap="propose" why="does not cut the boxes to the image"
def propose(logits, deltas, anchors, size, before, after, threshold=0.7):
    order = np.argsort(-logits, kind="stable")[:before]
    boxes, kept = coding.decode(deltas[order], anchors[order]), []
    while len(boxes) and len(kept) < after:
        kept.append(boxes[0])
        boxes = boxes[1:][geometry.iou(boxes[:1], boxes[1:])[0] <= threshold]
    return np.array(kept, "float32")


# %% gap="recall" why="averages the recalls of images"
def recall(proposals, boxes, n, iou=0.5):
    shares = []
    for found, truth in zip(proposals, boxes):
        hit = geometry.iou(truth, found[:n]).max(axis=1, initial=0) >= iou
        shares.append(hit.mean())
    return float(np.mean(shares))


# %% gap="recall" why="counts proposals that hit, not objects that are hit"
def recall(proposals, boxes, n, iou=0.5):
    hits = sum((geometry.iou(t, f[:n]) >= iou).sum() for f, t in zip(proposals, boxes) if len(f))
    return hits / sum(map(len, boxes))


# %% gap="recall" why="leaves out the images without proposals"
def recall(proposals, boxes, n, iou=0.5):
    hits, objects = 0, 0
    for found, truth in zip(proposals, boxes):
        if len(found):
            objects += len(truth)
            hits += int((geometry.iou(truth, found[:n]).max(axis=1) >= iou).sum())
    return hits / objects


# %% gap="recall" why="looks at all proposals"
def recall(proposals, boxes, n, iou=0.5):
    hits = sum(int((geometry.iou(t, f).max(axis=1, initial=0) >= iou).sum()) for f, t in zip(proposals, boxes))
    return hits / sum(map(len, boxes))


# %% gap="recall" why="asks for more than the threshold"
def recall(proposals, boxes, n, iou=0.5):
    hits = sum(int((geometry.iou(t, f[:n]).max(axis=1, initial=0) > iou).sum()) for f, t in zip(proposals, boxes))
    return hits / sum(map(len, boxes))
