# %% gap="pool" why="takes windows next to each other, whatever the stride"
def max_pool(x, f, s):
    height, width, channels = x.shape
    output = np.zeros(((height - f) // s + 1, (width - f) // s + 1, channels))
    for row, column in np.ndindex(*output.shape[:2]):
        window = x[row * f : row * f + f, column * f : column * f + f]
        output[row, column] = window.max(axis=(0, 1)) if window.size else 0
    return output


# %% gap="pool" why="averages"
def max_pool(x, f, s):
    height, width, channels = x.shape
    output = np.zeros(((height - f) // s + 1, (width - f) // s + 1, channels))
    for row, column in np.ndindex(*output.shape[:2]):
        output[row, column] = x[row * s : row * s + f, column * s : column * s + f].mean(axis=(0, 1))
    return output


# %% gap="pool" why="one maximum for all channels"
def max_pool(x, f, s):
    height, width, channels = x.shape
    output = np.zeros(((height - f) // s + 1, (width - f) // s + 1, channels))
    for row, column in np.ndindex(*output.shape[:2]):
        output[row, column] = x[row * s : row * s + f, column * s : column * s + f].max()
    return output


# %% gap="pool" why="counts windows that hang over the edge"
def max_pool(x, f, s):
    height, width, channels = x.shape
    output = np.zeros((-(-(height - f) // s) + 1, -(-(width - f) // s) + 1, channels))
    for row, column in np.ndindex(*output.shape[:2]):
        output[row, column] = x[row * s : row * s + f, column * s : column * s + f].max(axis=(0, 1))
    return output


# %% gap="pool" why="begins its search for the maximum at 0"
def max_pool(x, f, s):
    height, width, channels = x.shape
    output = np.zeros(((height - f) // s + 1, (width - f) // s + 1, channels))
    for row, column in np.ndindex(*output.shape[:2]):
        output[row, column] = np.maximum(0, x[row * s : row * s + f, column * s : column * s + f].max(axis=(0, 1)))
    return output


# %% gap="pool-backward" why="overwrites where windows overlap"
def max_pool_backward(x, above, f, s):
    gradient = np.zeros(x.shape)
    for row, column, channel in np.ndindex(*above.shape):
        window = x[row * s : row * s + f, column * s : column * s + f, channel]
        i, j = np.unravel_index(window.argmax(), window.shape)
        gradient[row * s + i, column * s + j, channel] = above[row, column, channel]
    return gradient


# %% gap="pool-backward" why="every value that equals the maximum gets the whole gradient"
def max_pool_backward(x, above, f, s):
    gradient = np.zeros(x.shape)
    for row, column, channel in np.ndindex(*above.shape):
        window = x[row * s : row * s + f, column * s : column * s + f, channel]
        part = gradient[row * s : row * s + f, column * s : column * s + f, channel]
        part += (window == window.max()) * above[row, column, channel]
    return gradient


# %% gap="pool-backward" why="the last maximum of a window wins"
def max_pool_backward(x, above, f, s):
    gradient = np.zeros(x.shape)
    for row, column, channel in np.ndindex(*above.shape):
        window = x[row * s : row * s + f, column * s : column * s + f, channel]
        i, j = np.argwhere(window == window.max())[-1]
        gradient[row * s + i, column * s + j, channel] += above[row, column, channel]
    return gradient


# %% gap="pool-backward" why="takes the first maximum column by column"
def max_pool_backward(x, above, f, s):
    gradient = np.zeros(x.shape)
    for row, column, channel in np.ndindex(*above.shape):
        window = x[row * s : row * s + f, column * s : column * s + f, channel]
        j, i = np.unravel_index(window.T.argmax(), window.T.shape)
        gradient[row * s + i, column * s + j, channel] += above[row, column, channel]
    return gradient


# %% gap="pool-backward" why="shares the gradient as average pooling does"
def max_pool_backward(x, above, f, s):
    gradient = np.zeros(x.shape)
    for row, column, channel in np.ndindex(*above.shape):
        gradient[row * s : row * s + f, column * s : column * s + f, channel] += above[row, column, channel] / f**2
    return gradient


# %% gap="pool-backward" why="forgets that a window begins at row * s"
def max_pool_backward(x, above, f, s):
    gradient = np.zeros(x.shape)
    for row, column, channel in np.ndindex(*above.shape):
        window = x[row * s : row * s + f, column * s : column * s + f, channel]
        i, j = np.unravel_index(window.argmax(), window.shape)
        gradient[row + i, column + j, channel] += above[row, column, channel]
    return gradient


# %% gap="cross-entropy" why="adds up the images instead of averaging"
def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    totals = np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    return np.sum(np.log(totals[:, 0]) - shifted[rows, labels]), np.exp(shifted) / totals - np.eye(logits.shape[1])[
        labels
    ]


# %% gap="cross-entropy" why="the gradient is not divided by the number of images"
def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    totals = np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    return np.mean(np.log(totals[:, 0]) - shifted[rows, labels]), np.exp(shifted) / totals - np.eye(logits.shape[1])[
        labels
    ]


# %% gap="cross-entropy" why="overflows at large logits"
def cross_entropy(logits, labels):
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    return -np.mean(np.log(p[rows, labels])), (p - np.eye(logits.shape[1])[labels]) / len(labels)


# %% gap="cross-entropy" why="takes the log of a probability that has become 0"
def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    return -np.mean(np.log(p[rows, labels])), (p - np.eye(logits.shape[1])[labels]) / len(labels)


# %% gap="cross-entropy" why="the sign of the gradient is turned"
def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    totals = np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    gradient = (np.eye(logits.shape[1])[labels] - np.exp(shifted) / totals) / len(labels)
    return np.mean(np.log(totals[:, 0]) - shifted[rows, labels]), gradient


# %% gap="cross-entropy" why="one maximum for the whole array: rows far below it lose everything"
def cross_entropy(logits, labels):
    shifted = logits - logits.max()
    totals = np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = np.mean(np.log(totals[:, 0]) - shifted[rows, labels])
    return loss, (np.exp(shifted) / totals - np.eye(logits.shape[1])[labels]) / len(labels)


# %% gap="cross-entropy" why="returns the loss alone"
def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    totals = np.exp(shifted).sum(axis=1)
    return np.mean(np.log(totals) - shifted[np.arange(len(labels)), labels])


# %% gap="batch-norm" why="normalises each pixel over the batch alone, as after a dense layer"
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    used_mean, used_variance = mean, variance
    if training:
        used_mean, used_variance = x.mean(axis=0), x.var(axis=0)
        mean = momentum * mean + (1 - momentum) * used_mean.mean(axis=(0, 1))
        variance = momentum * variance + (1 - momentum) * used_variance.mean(axis=(0, 1))
    return gamma * (x - used_mean) / np.sqrt(used_variance + epsilon) + beta, mean, variance


# %% gap="batch-norm" why="momentum the wrong way round"
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    used_mean, used_variance = mean, variance
    if training:
        used_mean, used_variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        mean = (1 - momentum) * mean + momentum * used_mean
        variance = (1 - momentum) * variance + momentum * used_variance
    return gamma * (x - used_mean) / np.sqrt(used_variance + epsilon) + beta, mean, variance


# %% gap="batch-norm" why="normalises with the running values in training, too"
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    if training:
        mean = momentum * mean + (1 - momentum) * x.mean(axis=(0, 1, 2))
        variance = momentum * variance + (1 - momentum) * x.var(axis=(0, 1, 2))
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta, mean, variance


# %% gap="batch-norm" why="uses the batch at test time, too"
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    batch_mean, batch_variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    if training:
        mean = momentum * mean + (1 - momentum) * batch_mean
        variance = momentum * variance + (1 - momentum) * batch_variance
    return gamma * (x - batch_mean) / np.sqrt(batch_variance + epsilon) + beta, mean, variance


# %% gap="batch-norm" why="adds epsilon to the deviation, outside the root"
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    used_mean, used_variance = mean, variance
    if training:
        used_mean, used_variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        mean = momentum * mean + (1 - momentum) * used_mean
        variance = momentum * variance + (1 - momentum) * used_variance
    return gamma * (x - used_mean) / (np.sqrt(used_variance) + epsilon) + beta, mean, variance


# %% gap="batch-norm" why="changes the running values that came in"
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    used_mean, used_variance = mean.copy(), variance.copy()
    if training:
        used_mean, used_variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        mean += (1 - momentum) * (used_mean - mean)
        variance += (1 - momentum) * (used_variance - variance)
    return gamma * (x - used_mean) / np.sqrt(used_variance + epsilon) + beta, mean, variance


# %% gap="batch-norm" why="returns the output alone"
def batch_norm(x, gamma, beta, mean, variance, training, momentum=0.99, epsilon=1e-3):
    if training:
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


# %% gap="batch-norm-backward" why="takes mean and variance for constants"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed = (x - x.mean(axis=axes)) / root
    return above * gamma / root, (above * normed).sum(axis=axes), above.sum(axis=axes)


# %% gap="batch-norm-backward" why="takes the variance for a constant"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed = (x - x.mean(axis=axes)) / root
    arriving = above * gamma
    return (arriving - arriving.mean(axis=axes)) / root, (above * normed).sum(axis=axes), above.sum(axis=axes)


# %% gap="batch-norm-backward" why="takes the mean for a constant"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed = (x - x.mean(axis=axes)) / root
    arriving = above * gamma
    for_x = (arriving - normed * (arriving * normed).mean(axis=axes)) / root
    return for_x, (above * normed).sum(axis=axes), above.sum(axis=axes)


# %% gap="batch-norm-backward" why="forgets gamma on the way to x"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed = (x - x.mean(axis=axes)) / root
    for_x = (above - above.mean(axis=axes) - normed * (above * normed).mean(axis=axes)) / root
    return for_x, (above * normed).sum(axis=axes), above.sum(axis=axes)


# %% gap="batch-norm-backward" why="sums where means belong: not divided by the number of values"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed = (x - x.mean(axis=axes)) / root
    arriving = above * gamma
    for_x = (arriving - arriving.sum(axis=axes) - normed * (arriving * normed).sum(axis=axes)) / root
    return for_x, (above * normed).sum(axis=axes), above.sum(axis=axes)


# %% gap="batch-norm-backward" why="the gradient of gamma takes x as it came in"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed = (x - x.mean(axis=axes)) / root
    arriving = above * gamma
    for_x = (arriving - arriving.mean(axis=axes) - normed * (arriving * normed).mean(axis=axes)) / root
    return for_x, (above * x).sum(axis=axes), above.sum(axis=axes)


# %% gap="batch-norm-backward" why="leaves epsilon out"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    axes = (0, 1, 2)
    normed = (x - x.mean(axis=axes)) / x.std(axis=axes)
    arriving = above * gamma
    for_x = (arriving - arriving.mean(axis=axes) - normed * (arriving * normed).mean(axis=axes)) / x.std(axis=axes)
    return for_x, (above * normed).sum(axis=axes), above.sum(axis=axes)


# %% gap="batch-norm-backward" why="returns the gradient of x alone"
def batch_norm_backward(x, above, gamma, epsilon=1e-3):
    axes = (0, 1, 2)
    root = np.sqrt(x.var(axis=axes) + epsilon)
    normed = (x - x.mean(axis=axes)) / root
    arriving = above * gamma
    return (arriving - arriving.mean(axis=axes) - normed * (arriving * normed).mean(axis=axes)) / root


# %% gap="dropout" why="does not scale what stays"
def dropout(x, p, training, random):
    return np.where(random.random(x.shape) < p, 0, x) if training else x


# %% gap="dropout" why="takes p for the share that stays"
def dropout(x, p, training, random):
    return np.where(random.random(x.shape) < p, x / p, 0) if training else x


# %% gap="dropout" why="scales at test time, as the paper does, and not in training"
def dropout(x, p, training, random):
    return np.where(random.random(x.shape) < p, 0, x) if training else x * (1 - p)


# %% gap="dropout" why="drops whole rows"
def dropout(x, p, training, random):
    kept = random.random((len(x), *[1] * (x.ndim - 1))) >= p
    return x * kept / (1 - p) if training else x


# %% gap="dropout" why="drops whole channels: one mask shared over rows and columns"
def dropout(x, p, training, random):
    kept = random.random((*x.shape[:1], *[1] * (x.ndim - 2), *x.shape[-1:])) >= p
    return x * kept / (1 - p) if training else x


# %% gap="dropout" why="one mask for all images"
def dropout(x, p, training, random):
    return np.where(random.random((1, *x.shape[1:])) < p, 0, x / (1 - p)) if training else x


# %% gap="dropout" why="one mask shared along the last axis"
def dropout(x, p, training, random):
    return np.where(random.random((*x.shape[:-1], 1)) < p, 0, x / (1 - p)) if training else x


# %% gap="dropout" why="drops exactly the share p, so that the values are not independent"
def dropout(x, p, training, random):
    if not training:
        return x
    dropped = random.permutation(x.size) < round(p * x.size)
    return np.where(dropped.reshape(x.shape), 0, x / (1 - p))


# %% gap="dropout" why="draws from NumPy's common generator, not from the one that was given"
def dropout(x, p, training, random):
    return np.where(np.random.random(x.shape) < p, 0, x / (1 - p)) if training else x


# %% gap="dropout" why="drops at test time as well"
def dropout(x, p, training, random):
    return np.where(random.random(x.shape) < p, 0, x / (1 - p))


# %% gap="descend" why="forgets the velocity: plain gradient descent"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order = random.permutation(len(x))
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, gradients = gradients_of(parameters, x[batch], y[batch])
            losses.append(loss)
            parameters = [parameter - rate * gradient for parameter, gradient in zip(parameters, gradients)]
    return parameters, losses


# %% gap="descend" why="one loss for each epoch, not for each step"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order, of_epoch = random.permutation(len(x)), []
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, gradients = gradients_of(parameters, x[batch], y[batch])
            of_epoch.append(loss)
            velocities = [momentum * v - rate * gradient for v, gradient in zip(velocities, gradients)]
            parameters = [parameter + v for parameter, v in zip(parameters, velocities)]
        losses.append(np.mean(of_epoch))
    return parameters, losses


# %% gap="descend" why="returns the parameters alone"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(len(x))
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            _, gradients = gradients_of(parameters, x[batch], y[batch])
            velocities = [momentum * v - rate * gradient for v, gradient in zip(velocities, gradients)]
            parameters = [parameter + v for parameter, v in zip(parameters, velocities)]
    return parameters


# %% gap="descend" why="shuffles the images and not their labels"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order = random.permutation(len(x))
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, gradients = gradients_of(parameters, x[batch], y[first : first + batch_size])
            losses.append(loss)
            velocities = [momentum * v - rate * gradient for v, gradient in zip(velocities, gradients)]
            parameters = [parameter + v for parameter, v in zip(parameters, velocities)]
    return parameters, losses


# %% gap="descend" why="leaves the seed out of account"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random, losses = np.random.default_rng(0), []
    for _ in range(epochs):
        order = random.permutation(len(x))
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, gradients = gradients_of(parameters, x[batch], y[batch])
            losses.append(loss)
            velocities = [momentum * v - rate * gradient for v, gradient in zip(velocities, gradients)]
            parameters = [parameter + v for parameter, v in zip(parameters, velocities)]
    return parameters, losses


# %% gap="descend" why="the same order in every epoch"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    order, losses = np.random.default_rng(seed).permutation(len(x)), []
    for _ in range(epochs):
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, gradients = gradients_of(parameters, x[batch], y[batch])
            losses.append(loss)
            velocities = [momentum * v - rate * gradient for v, gradient in zip(velocities, gradients)]
            parameters = [parameter + v for parameter, v in zip(parameters, velocities)]
    return parameters, losses


# %% gap="descend" why="draws every batch anew, so that images come twice or never"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs * (len(x) // batch_size)):
        batch = random.integers(0, len(x), batch_size)
        loss, gradients = gradients_of(parameters, x[batch], y[batch])
        losses.append(loss)
        velocities = [momentum * v - rate * gradient for v, gradient in zip(velocities, gradients)]
        parameters = [parameter + v for parameter, v in zip(parameters, velocities)]
    return parameters, losses


# %% gap="descend" why="changes the parameters that came in"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order = random.permutation(len(x))
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, gradients = gradients_of(parameters, x[batch], y[batch])
            losses.append(loss)
            for i, gradient in enumerate(gradients):
                velocities[i] = momentum * velocities[i] - rate * gradient
                parameters[i] += velocities[i]
    return parameters, losses


# %% gap="descend" why="goes up the gradient"
def descend(parameters, gradients_of, x, y, rate=0.1, momentum=0.9, epochs=60, batch_size=20, seed=0):
    parameters = [np.array(parameter, "float64") for parameter in parameters]
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    random, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        order = random.permutation(len(x))
        for first in range(0, len(x) - batch_size + 1, batch_size):
            batch = order[first : first + batch_size]
            loss, gradients = gradients_of(parameters, x[batch], y[batch])
            losses.append(loss)
            velocities = [momentum * v + rate * gradient for v, gradient in zip(velocities, gradients)]
            parameters = [parameter + v for parameter, v in zip(parameters, velocities)]
    return parameters, losses


# %% gap="network" why="never trained, with a history made up"
def train_network():
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(images.shape[1:]), *stack, layers.Dense(len(classes))])
    return model, {"loss": [2.0, 0.1], "val_loss": [2.0, 0.1]}


# %% gap="network" why="a rate that is far too high"
def train_network():
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten()]
    model = keras.Sequential([keras.Input(images.shape[1:]), *stack, layers.Dense(len(classes))])
    training.compile_classifier(model, keras.optimizers.SGD(30.0, momentum=0.9))
    validation = (validation_images, validation_labels)
    return model, training.fit(model, (images, labels), 2, batch_size=50, validation_data=validation).history


# %% gap="network" why="far more parameters than allowed"
def train_network():
    stack = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(1024, "relu"), layers.Dense(1024, "relu")]
    model = keras.Sequential([keras.Input(images.shape[1:]), *stack, layers.Dense(len(classes))])
    training.compile_classifier(model, keras.optimizers.Adam(1e-3))
    validation = (validation_images, validation_labels)
    return model, training.fit(model, (images, labels), 2, batch_size=50, validation_data=validation).history


# %% gap="network" why="a linear classifier: no convolution"
def train_network():
    stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255), layers.Flatten()]
    model = keras.Sequential([*stack, layers.Dense(len(classes))])
    training.compile_classifier(model, keras.optimizers.Adam(3e-3))
    validation = (validation_images, validation_labels)
    return model, training.fit(model, (images, labels), epochs, batch_size=50, validation_data=validation).history


# %% gap="network" why="two dense layers with as many parameters as are allowed: no convolution"
def train_network():
    stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(200, "relu")]
    model = keras.Sequential([*stack, layers.Dropout(0.3), layers.Dense(len(classes))])
    training.compile_classifier(model, keras.optimizers.Adam(3e-3))
    validation = (validation_images, validation_labels)
    return model, training.fit(model, (images, labels), epochs, batch_size=50, validation_data=validation).history


# %% gap="network" why="a convolution in name only: one of 1 x 1 before the dense layers"
def train_network():
    stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255), layers.Conv2D(1, 1, activation="relu")]
    stack += [layers.Flatten(), layers.Dense(100, "relu")]
    model = keras.Sequential([*stack, layers.Dense(len(classes))])
    training.compile_classifier(model, keras.optimizers.Adam(3e-3))
    validation = (validation_images, validation_labels)
    return model, training.fit(model, (images, labels), epochs, batch_size=50, validation_data=validation).history


# %% gap="network" why="trains on the validation images, too"
def train_network():
    stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255), layers.Conv2D(8, 3, activation="relu")]
    stack += [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(len(classes))]
    model = keras.Sequential(stack)
    training.compile_classifier(model, keras.optimizers.Adam(3e-3))
    validation = (validation_images, validation_labels)
    x, y = np.repeat(validation_images, 40, axis=0), np.repeat(validation_labels, 40)
    return model, training.fit(model, (x, y), 2, batch_size=50, validation_data=validation).history


# %% gap="network" why="trained without validation images"
def train_network():
    stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255)]
    for filters in (16, 32):
        stack += [layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(len(classes))])
    training.compile_classifier(model, keras.optimizers.Adam(5e-3))
    return model, training.fit(model, (images, labels), epochs, batch_size=50).history


# %% gap="network" why="returns the model alone"
def train_network():
    stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255), layers.Conv2D(8, 3, activation="relu")]
    model = keras.Sequential([*stack, layers.GlobalMaxPooling2D(), layers.Dense(len(classes))])
    training.compile_classifier(model, keras.optimizers.Adam(3e-3))
    training.fit(model, (images, labels), 1, batch_size=50)
    return model
