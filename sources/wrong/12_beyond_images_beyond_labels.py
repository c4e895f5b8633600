# %% gap="draw" why="takes the log-variance for the deviation"
def draw(mean, log_variance, noise):
    return mean + log_variance * noise


# %% gap="draw" why="takes the variance for the deviation"
def draw(mean, log_variance, noise):
    return mean + ops.exp(log_variance) * noise


# %% gap="draw" why="draws noise of its own"
def draw(mean, log_variance, noise):
    return mean + ops.exp(log_variance / 2) * keras.random.normal(ops.shape(mean))


# %% gap="draw" why="gives the mean alone"
def draw(mean, log_variance, noise):
    return mean + 0 * noise


# %% gap="draw" why="uses NumPy, through which no gradient passes"
def draw(mean, log_variance, noise):
    return mean + np.exp(log_variance / 2) * noise


# %% gap="elbo" why="averages over the pixels, so that the KL divergence decides"
def negative_elbo(images, logits, mean, log_variance):
    error = ops.mean(ops.binary_crossentropy(images, logits, from_logits=True), axis=(1, 2, 3))
    return error + ops.sum(mean**2 + ops.exp(log_variance) - 1 - log_variance, axis=-1) / 2


# %% gap="elbo" why="forgets the KL divergence"
def negative_elbo(images, logits, mean, log_variance):
    return ops.sum(ops.binary_crossentropy(images, logits, from_logits=True), axis=(1, 2, 3))


# %% gap="elbo" why="gives the KL divergence the wrong sign"
def negative_elbo(images, logits, mean, log_variance):
    error = ops.sum(ops.binary_crossentropy(images, logits, from_logits=True), axis=(1, 2, 3))
    return error - ops.sum(mean**2 + ops.exp(log_variance) - 1 - log_variance, axis=-1) / 2


# %% gap="elbo" why="forgets the half"
def negative_elbo(images, logits, mean, log_variance):
    error = ops.sum(ops.binary_crossentropy(images, logits, from_logits=True), axis=(1, 2, 3))
    return error + ops.sum(mean**2 + ops.exp(log_variance) - 1 - log_variance, axis=-1)


# %% gap="elbo" why="takes the logits for probabilities"
def negative_elbo(images, logits, mean, log_variance):
    error = ops.sum(ops.binary_crossentropy(images, logits), axis=(1, 2, 3))
    return error + ops.sum(mean**2 + ops.exp(log_variance) - 1 - log_variance, axis=-1) / 2


# %% gap="elbo" why="gives one number for the whole batch"
def negative_elbo(images, logits, mean, log_variance):
    error = ops.sum(ops.binary_crossentropy(images, logits, from_logits=True), axis=(1, 2, 3))
    return ops.mean(error + ops.sum(mean**2 + ops.exp(log_variance) - 1 - log_variance, axis=-1) / 2)


# %% gap="elbo" why="squares the log-variance in the place of exp"
def negative_elbo(images, logits, mean, log_variance):
    error = ops.sum(ops.binary_crossentropy(images, logits, from_logits=True), axis=(1, 2, 3))
    return error + ops.sum(mean**2 + log_variance**2 - 1 - log_variance, axis=-1) / 2


# %% gap="elbo" why="uses NumPy, through which no gradient passes"
def negative_elbo(images, logits, mean, log_variance):
    images, logits, mean, log_variance = map(np.asarray, (images, logits, mean, log_variance))
    error = (np.logaddexp(0, logits) - images * logits).sum(axis=(1, 2, 3))
    return error + (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1) / 2


# %% gap="causal" why="pads on both sides and looks ahead"
def causal(x, kernel, dilation=1):
    reach = (len(kernel) - 1) * dilation
    padded = np.pad(x, ((reach // 2, reach - reach // 2), (0, 0)))
    return sum(padded[i * dilation : i * dilation + len(x)] @ entry for i, entry in enumerate(kernel))


# %% gap="causal" why="turns the kernel round"
def causal(x, kernel, dilation=1):
    reach = (len(kernel) - 1) * dilation
    padded = np.concatenate([np.zeros((reach, x.shape[1])), x])
    return sum(padded[i * dilation : i * dilation + len(x)] @ entry for i, entry in enumerate(kernel[::-1]))


# %% gap="causal" why="forgets the dilation"
def causal(x, kernel, dilation=1):
    padded = np.concatenate([np.zeros((len(kernel) - 1, x.shape[1])), x])
    return sum(padded[i : i + len(x)] @ entry for i, entry in enumerate(kernel))


# %% gap="causal" why="leaves the first moments out, where the filter hangs over"
def causal(x, kernel, dilation=1):
    length = len(x) - (len(kernel) - 1) * dilation
    return sum(x[i * dilation : i * dilation + length] @ entry for i, entry in enumerate(kernel))


# %% gap="causal" why="repeats the first moment in the place of zeros"
def causal(x, kernel, dilation=1):
    reach = (len(kernel) - 1) * dilation
    padded = np.pad(x, ((reach, 0), (0, 0)), mode="edge")
    return sum(padded[i * dilation : i * dilation + len(x)] @ entry for i, entry in enumerate(kernel))


# %% gap="dilations" why="doubles, whatever the size of the filter"
def dilations_for(frames, size=3):
    dilations, field = [], 1
    while field < frames:
        dilations.append(2 ** len(dilations))
        field += (size - 1) * dilations[-1]
    return dilations


# %% gap="dilations" why="takes one layer, whose entries skip what lies between"
def dilations_for(frames, size=3):
    return [] if frames == 1 else [1] if frames <= size else [1, -(-(frames - size) // (size - 1))]


# %% gap="dilations" why="never dilates"
def dilations_for(frames, size=3):
    return [1] * -(-(frames - 1) // (size - 1))


# %% gap="dilations" why="stops one layer too late"
def dilations_for(frames, size=3):
    dilations, field = [], 1
    while field <= frames:
        dilations.append(field)
        field *= size
    return dilations


# %% gap="attend" why="takes the softmax over the maps of the batch"
def attend(cells, energies):
    weights = ops.softmax(energies, axis=0)
    return ops.sum(weights[..., None] * cells, axis=1), weights


# %% gap="attend" why="divides exp by its sum, and overflows"
def attend(cells, energies):
    weights = ops.exp(energies) / ops.sum(ops.exp(energies), axis=-1, keepdims=True)
    return ops.sum(weights[..., None] * cells, axis=1), weights


# %% gap="attend" why="averages in the place of the sum"
def attend(cells, energies):
    weights = ops.softmax(energies, axis=-1)
    return ops.mean(weights[..., None] * cells, axis=1), weights


# %% gap="attend" why="looks at the largest cell alone"
def attend(cells, energies):
    weights = ops.one_hot(ops.argmax(energies, axis=-1), energies.shape[-1])
    return ops.sum(weights[..., None] * cells, axis=1), weights


# %% gap="attend" why="returns the weights first"
def attend(cells, energies):
    weights = ops.softmax(energies, axis=-1)
    return weights, ops.sum(weights[..., None] * cells, axis=1)


# %% gap="attend" why="gives the context alone"
def attend(cells, energies):
    return ops.sum(ops.softmax(energies, axis=-1)[..., None] * cells, axis=1)


# %% gap="attend" why="uses NumPy, through which no gradient passes"
def attend(cells, energies):
    cells, energies = np.asarray(cells), np.asarray(energies)
    weights = np.exp(energies - energies.max(axis=1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=True)
    return (weights[..., None] * cells).sum(axis=1), weights


# %% gap="greedy" why="reads START at every step"
def greedy(decoder, cells, length):
    state, words = decoder.start(cells), []
    for _ in range(length):
        logits, state, _ = decoder.step(cells, state, ops.convert_to_tensor(np.full(len(cells), 1, "int32")))
        words.append(ops.convert_to_numpy(logits).argmax(axis=-1))
    return np.stack(words, axis=1)


# %% gap="greedy" why="goes on behind the END"
def greedy(decoder, cells, length):
    state, word, words = decoder.start(cells), np.full(len(cells), 1, "int32"), []
    for _ in range(length):
        logits, state, _ = decoder.step(cells, state, ops.convert_to_tensor(word))
        word = ops.convert_to_numpy(logits).argmax(axis=-1).astype("int32")
        words.append(word)
    return np.stack(words, axis=1)


# %% gap="greedy" why="stops all sentences at the first END"
def greedy(decoder, cells, length):
    state, word = decoder.start(cells), np.full(len(cells), 1, "int32")
    words = np.zeros((len(cells), length), int)
    for time in range(length):
        logits, state, _ = decoder.step(cells, state, ops.convert_to_tensor(word))
        word = ops.convert_to_numpy(logits).argmax(axis=-1).astype("int32")
        words[:, time] = word
        if (word == 2).any():
            break
    return words


# %% gap="greedy" why="keeps the first state"
def greedy(decoder, cells, length):
    state, word, words = decoder.start(cells), np.full(len(cells), 1, "int32"), []
    for _ in range(length):
        logits, _, _ = decoder.step(cells, state, ops.convert_to_tensor(word))
        word = ops.convert_to_numpy(logits).argmax(axis=-1).astype("int32")
        words.append(word)
    return np.stack(words, axis=1)


# %% gap="targets" why="lets the game go on behind its end"
def targets(rewards, following, ended, discount=0.97):
    return rewards + discount * np.asarray(following).max(axis=1)


# %% gap="targets" why="takes the mean of the next values"
def targets(rewards, following, ended, discount=0.97):
    return np.where(ended, rewards, rewards + discount * np.asarray(following).mean(axis=1))


# %% gap="targets" why="takes the largest value of the whole batch"
def targets(rewards, following, ended, discount=0.97):
    return np.where(ended, rewards, rewards + discount * np.asarray(following).max())


# %% gap="targets" why="discounts the reward too"
def targets(rewards, following, ended, discount=0.97):
    return np.where(ended, rewards, discount * (rewards + np.asarray(following).max(axis=1)))


# %% gap="targets" why="leaves the reward out at the end"
def targets(rewards, following, ended, discount=0.97):
    return np.where(ended, 0, rewards + discount * np.asarray(following).max(axis=1))


# %% gap="targets" why="counts values above zero only"
def targets(rewards, following, ended, discount=0.97):
    best = np.maximum(np.asarray(following).max(axis=1), 0)
    return np.where(ended, rewards, rewards + discount * best)
