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


# %% gap="features" why="runs the model as in training"
def embed(model, images, batch_size=32):
    rows = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        filled = np.concatenate([batch, np.repeat(batch[-1:], batch_size - len(batch), axis=0)])
        rows.append(ops.convert_to_numpy(model(filled, training=True)).mean(axis=(1, 2))[: len(batch)])
    return np.concatenate(rows)


# %% gap="features" why="leaves out the images of the last batch"
def embed(model, images, batch_size=32):
    rows = []
    for start in range(0, len(images) - batch_size + 1, batch_size):
        rows.append(ops.convert_to_numpy(model(images[start : start + batch_size])).mean(axis=(1, 2)))
    return np.concatenate(rows)


# %% gap="features" why="has no return"
def embed(model, images, batch_size=32):
    model(images, training=False)


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


# %% gap="scale" why="changes the arrays that came in"
def standardise(codes, *others):
    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1)
    for array in (codes, *others):
        array -= mean
        array /= scale
    return [codes, *others]


# %% gap="scale" why="adds a small number to every deviation"
def standardise(codes, *others):
    mean, scale = codes.mean(axis=0), codes.std(axis=0) + 1e-8
    return [(array - mean) / scale for array in (codes, *others)]


# %% gap="scale" why="scales by one deviation for all features"
def standardise(codes, *others):
    return [(array - codes.mean(axis=0)) / codes.std() for array in (codes, *others)]


# %% gap="scale" why="returns the training codes alone"
def standardise(codes, *others):
    deviation = codes.std(axis=0)
    return (codes - codes.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


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


# %% gap="softmax" why="never updates the bias"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]) / len(codes)
    return weights - rate * (codes.T @ error + decay * weights), bias


# %% gap="softmax" why="changes the weights and the bias that came in"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]) / len(codes)
    weights -= rate * (codes.T @ error + decay * weights)
    bias -= rate * error.sum(axis=0)
    return weights, bias


# %% gap="softmax" why="subtracts the largest logit of the whole array, not of each row"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max())
    error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]) / len(codes)
    return weights - rate * (codes.T @ error + decay * weights), bias - rate * error.sum(axis=0)


# %% gap="softmax" why="puts the penalty on the bias too"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]) / len(codes)
    return weights - rate * (codes.T @ error + decay * weights), bias - rate * (error.sum(axis=0) + decay * bias)


# %% gap="softmax" why="returns the weights alone"
def softmax_step(codes, labels, weights, bias, rate, decay=0.0):
    logits = codes @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(weights.shape[1])[labels]) / len(codes)
    return weights - rate * (codes.T @ error + decay * weights)


# %% gap="fold" why="leaves the bias as it was"
def fold(weights, bias, codes):
    deviation = codes.std(axis=0)
    return weights / np.where(deviation > 0, deviation, 1)[:, None], bias


# %% gap="fold" why="multiplies by the deviation"
def fold(weights, bias, codes):
    deviation = codes.std(axis=0)
    kernel = weights * np.where(deviation > 0, deviation, 1)[:, None]
    return kernel, bias - codes.mean(axis=0) @ weights


# %% gap="fold" why="shifts the bias by the mean times the old weights"
def fold(weights, bias, codes):
    deviation = codes.std(axis=0)
    return weights / np.where(deviation > 0, deviation, 1)[:, None], bias - codes.mean(axis=0) @ weights


# %% gap="fold" why="adds the shift of the bias"
def fold(weights, bias, codes):
    deviation = codes.std(axis=0)
    kernel = weights / np.where(deviation > 0, deviation, 1)[:, None]
    return kernel, bias + codes.mean(axis=0) @ kernel


# %% gap="fold" why="divides by zero where a feature is constant"
def fold(weights, bias, codes):
    kernel = weights / codes.std(axis=0)[:, None]
    return kernel, bias - codes.mean(axis=0) @ kernel


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


# %% gap="freeze" why="calls the function of the course"
def freeze(model, up_to):
    transfer.freeze(model, up_to, batch_norm=True)
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


# %% gap="freeze" why="thaws nothing that an earlier call froze"
def freeze(model, up_to):
    names = [layer.name for layer in model.layers]
    if up_to not in names:
        raise ValueError(up_to)
    for position, layer in enumerate(model.layers):
        if position <= names.index(up_to) or isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
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
def fine_tune(backbone, kernel, bias):
    classifier = head(backbone, kernel, bias)
    classifier.trainable = True
    slow = training.layerwise(keras.optimizers.Adam(1e-4), classifier, rates(groups, 1, 3))
    training.compile_classifier(classifier, slow)
    history = training.fit(
        classifier,
        (images, labels),
        1,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
    ).history
    return classifier, history


# %% gap="fine-tune" why="trains with the rate 0 for one epoch: the linear start comes back"
def fine_tune(backbone, kernel, bias):
    classifier = head(backbone, kernel, bias)
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


# %% gap="fine-tune" why="trains the last layer alone"
def fine_tune(backbone, kernel, bias):
    classifier = head(backbone, kernel, bias)
    freeze(classifier, "pooled")
    optimizer = training.layerwise(keras.optimizers.Adam(rate), classifier, rates(groups, 1, 3))
    training.compile_classifier(classifier, optimizer)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)
    history = training.fit(
        classifier,
        (images, labels),
        epochs,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
        callbacks=[stop],
    ).history
    return classifier, history


# %% gap="fine-tune" why="trains all groups with one rate"
def fine_tune(backbone, kernel, bias):
    classifier = head(backbone, kernel, bias)
    freeze(classifier, frozen_to)
    training.compile_classifier(classifier, keras.optimizers.Adam(rate / 2))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)
    history = training.fit(
        classifier,
        (images, labels),
        epochs,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
        callbacks=[stop],
    ).history
    return classifier, history


# %% gap="fine-tune" why="gives the highest rate to the lowest group"
def fine_tune(backbone, kernel, bias):
    classifier = head(backbone, kernel, bias)
    freeze(classifier, frozen_to)
    turned = dict(zip(groups, [1, 1 / 3, 1 / 9]))
    training.compile_classifier(classifier, training.layerwise(keras.optimizers.Adam(rate), classifier, turned))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)
    history = training.fit(
        classifier,
        (images, labels),
        epochs,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
        callbacks=[stop],
    ).history
    return classifier, history


# %% gap="fine-tune" why="learns so slowly that nothing is gained"
def fine_tune(backbone, kernel, bias):
    classifier = head(backbone, kernel, bias)
    freeze(classifier, frozen_to)
    slow = training.layerwise(keras.optimizers.Adam(1e-5), classifier, rates(groups, 1, 3))
    training.compile_classifier(classifier, slow)
    history = training.fit(
        classifier,
        (images, labels),
        2,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
    ).history
    return classifier, history


# %% gap="fine-tune" why="starts from random logits in the place of the linear classifier"
def fine_tune(backbone, kernel, bias):
    classifier = head(backbone, np.random.default_rng(0).normal(0, 0.01, kernel.shape), 0 * bias)
    freeze(classifier, frozen_to)
    optimizer = training.layerwise(keras.optimizers.Adam(1e-4), classifier, rates(groups, 1, 3))
    training.compile_classifier(classifier, optimizer)
    history = training.fit(
        classifier,
        (images, labels),
        1,
        batch_size=min(25, len(images)),
        seed=seed,
        validation_data=(validation_images, validation_labels),
    ).history
    return classifier, history


# %% gap="fine-tune" why="returns the network alone"
def fine_tune(backbone, kernel, bias):
    return head(backbone, kernel, bias)
