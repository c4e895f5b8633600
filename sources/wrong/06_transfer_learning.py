# %% gap="features" why="keeps the rows of the copies that fill the last batch"
def embed(model, images, batch_size=32):
    rows = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        filled = np.concatenate([batch, np.repeat(batch[-1:], batch_size - len(batch), axis=0)])
        rows.append(ops.convert_to_numpy(model(filled, training=False)).mean(axis=(1, 2)))
    return np.concatenate(rows)


# %% gap="features" why="leaves the last batch smaller, so the model is compiled again"
def embed(model, images, batch_size=32):
    rows = []
    for start in range(0, len(images), batch_size):
        rows.append(ops.convert_to_numpy(model(images[start : start + batch_size], training=False)).mean(axis=(1, 2)))
    return np.concatenate(rows)


# %% gap="features" why="takes the maximum of each map in place of its mean"
def embed(model, images, batch_size=32):
    rows = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        filled = np.concatenate([batch, np.repeat(batch[-1:], batch_size - len(batch), axis=0)])
        rows.append(ops.convert_to_numpy(model(filled, training=False)).max(axis=(1, 2))[: len(batch)])
    return np.concatenate(rows)


# %% gap="scale" why="scales the other codes by their own mean and deviation"
def standardise(codes, *others):
    return [
        (array - array.mean(axis=0)) / np.where(array.std(axis=0) > 0, array.std(axis=0), 1)
        for array in (codes, *others)
    ]


# %% gap="scale" why="takes mean and deviation over all codes, test images included"
def standardise(codes, *others):
    everything = np.concatenate([codes, *others])
    mean, deviation = everything.mean(axis=0), everything.std(axis=0)
    return [(array - mean) / np.where(deviation > 0, deviation, 1) for array in (codes, *others)]


# %% gap="scale" why="divides by zero where a feature is constant"
def standardise(codes, *others):
    with np.errstate(all="ignore"):
        return [(array - codes.mean(axis=0)) / codes.std(axis=0) for array in (codes, *others)]


# %% gap="softmax" why="climbs instead of descending"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]) / len(codes)
    return weights + rate * (codes.T @ error + decay * weights), bias + rate * error.sum(axis=0)


# %% gap="softmax" why="forgets to divide by the number of images"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]
    return weights - rate * (codes.T @ error + decay * weights), bias - rate * error.sum(axis=0)


# %% gap="softmax" why="overflows with large logits"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    with np.errstate(all="ignore"):
        exponentials = np.exp(codes @ weights + bias)
        error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]) / len(codes)
    return weights - rate * (codes.T @ error + decay * weights), bias - rate * error.sum(axis=0)


# %% gap="softmax" why="leaves the penalty out"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]) / len(codes)
    return weights - rate * (codes.T @ error), bias - rate * error.sum(axis=0)


# %% gap="freeze" why="freezes everything before the named layer, but not the layer itself"
def freeze(model, up_to):
    names = [layer.name for layer in model.layers]
    if up_to not in names:
        raise ValueError(up_to)
    for position, layer in enumerate(model.layers):
        layer.trainable = position >= names.index(up_to) and not isinstance(layer, layers.BatchNormalization)
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


# %% gap="freeze" why="lets the batch norms behind the border learn"
def freeze(model, up_to):
    names = [layer.name for layer in model.layers]
    if up_to not in names:
        raise ValueError(up_to)
    for position, layer in enumerate(model.layers):
        layer.trainable = position > names.index(up_to)
    return 221_184


# %% gap="freeze" why="counts running statistics and the parameters of frozen batch norms too"
def freeze(model, up_to):
    names = [layer.name for layer in model.layers]
    if up_to not in names:
        raise ValueError(up_to)
    for position, layer in enumerate(model.layers):
        layer.trainable = position > names.index(up_to) and not isinstance(layer, layers.BatchNormalization)
    return sum(layer.count_params() for layer in model.layers[names.index(up_to) + 1 :])


# %% gap="freeze" why="passes over a name that does not exist"
def freeze(model, up_to):
    frozen = True
    for layer in model.layers:
        layer.trainable = not frozen and not isinstance(layer, layers.BatchNormalization)
        frozen = frozen and layer.name != up_to
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


# %% gap="rates" why="gives the lowest group the highest rate"
def rates(groups, top, factor=10):
    return {name: top / factor**depth for depth, name in enumerate(groups)}


# %% gap="rates" why="divides by the factor times the depth, not by its power"
def rates(groups, top, factor=10):
    return {name: top / max(factor * depth, 1) for depth, name in zip(range(len(groups) - 1, -1, -1), groups)}


# %% gap="best-epoch" why="takes the lowest loss of the whole list, seen or not"
def best_epoch(losses, patience):
    return int(np.argmin(losses)), len(losses) - 1


# %% gap="best-epoch" why="goes on for one epoch too many"
def best_epoch(losses, patience):
    best = 0
    for epoch, value in enumerate(losses):
        if value < losses[best]:
            best = epoch
        if epoch - best > patience:
            return best, epoch
    return best, len(losses) - 1


# %% gap="best-epoch" why="of equal losses, takes the later one"
def best_epoch(losses, patience):
    best = 0
    for epoch, value in enumerate(losses):
        if value <= losses[best]:
            best = epoch
        if epoch - best >= patience:
            return best, epoch
    return best, len(losses) - 1


# %% gap="fine-tune" why="forgets to freeze, so early layers and their statistics move"
def fine_tune(backbone, weights, bias):
    classifier = head(backbone, weights, bias)
    classifier.trainable = True
    training.compile_classifier(classifier, keras.optimizers.Adam(1e-4))
    history = training.fit(
        classifier,
        (images, labels),
        epochs,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
    ).history
    return classifier, history


# %% gap="fine-tune" why="starts from random logits and trains for one step only"
def fine_tune(backbone, weights, bias):
    classifier = head(backbone, 0 * weights, 0 * bias)
    freeze(classifier, frozen_to)
    training.compile_classifier(classifier, keras.optimizers.SGD(0.0))
    history = training.fit(
        classifier,
        (images, labels),
        1,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
    ).history
    return classifier, history
