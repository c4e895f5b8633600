# %% gap="saliency" why="takes the gradient of the softmax, which is flat where the network is sure"
def saliency(model, images, class_index):
    gradient = introspection.gradients(lambda x: ops.softmax(model(x, training=False))[:, class_index], images)
    return np.abs(gradient).max(axis=-1)


# %% gap="saliency" why="takes the maximum before the absolute value, so large negative slopes are lost"
def saliency(model, images, class_index):
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, class_index], images)
    return np.abs(gradient.max(axis=-1))


# %% gap="saliency" why="the gradient of the sum of all logits, not of one class"
def saliency(model, images, class_index):
    gradient = introspection.gradients(lambda x: ops.sum(model(x, training=False), axis=-1), images)
    return np.abs(gradient).max(axis=-1)


# %% gap="saliency" why="leaves the channels in"
def saliency(model, images, class_index):
    return np.abs(introspection.gradients(lambda x: model(x, training=False)[:, class_index], images))


# %% gap="saliency" why="calls the model in training mode, so that the batch's own statistics count"
def saliency(model, images, class_index):
    gradient = introspection.gradients(lambda x: model(x, training=True)[:, class_index], images)
    return np.abs(gradient).max(axis=-1)


# %% gap="saliency" why="the course's own function"
def saliency(model, images, class_index):
    return introspection.saliency(model, images, class_index)


# %% gap="saliency" why="the mean over the channels in place of the maximum"
def saliency(model, images, class_index):
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, class_index], images)
    return np.abs(gradient).mean(axis=-1)


# %% gap="occlusion" why="leaves out the last position that fits"
def occlusion(model, image, class_index, size, stride, value):
    height, width = image.shape[:2]
    tops, lefts = range(0, height - size, stride), range(0, width - size, stride)
    copies = np.repeat(image[None].astype("float32"), len(tops) * len(lefts), axis=0)
    for copy, (top, left) in zip(copies, [(top, left) for top in tops for left in lefts]):
        copy[top : top + size, left : left + size] = value
    logits = model.predict(copies, batch_size=64, verbose=0)
    probability = ops.convert_to_numpy(ops.softmax(logits))[:, class_index]
    return probability.reshape(len(tops), len(lefts)), logits.argmax(axis=1).reshape(len(tops), len(lefts))


# %% gap="occlusion" why="paints on one image, so that squares add up and the image is changed"
def occlusion(model, image, class_index, size, stride, value):
    height, width = image.shape[:2]
    probability, winner = [], []
    for top in range(0, height - size + 1, stride):
        for left in range(0, width - size + 1, stride):
            image[top : top + size, left : left + size] = value
            logits = model.predict(image[None], verbose=0)
            probability.append(ops.convert_to_numpy(ops.softmax(logits))[0, class_index])
            winner.append(logits[0].argmax())
    rows = len(range(0, height - size + 1, stride))
    return np.array(probability).reshape(rows, -1), np.array(winner).reshape(rows, -1)


# %% gap="occlusion" why="gives the logit in place of the probability"
def occlusion(model, image, class_index, size, stride, value):
    height, width = image.shape[:2]
    tops, lefts = range(0, height - size + 1, stride), range(0, width - size + 1, stride)
    copies = np.repeat(image[None].astype("float32"), len(tops) * len(lefts), axis=0)
    for copy, (top, left) in zip(copies, [(top, left) for top in tops for left in lefts]):
        copy[top : top + size, left : left + size] = value
    logits = model.predict(copies, batch_size=64, verbose=0)
    return logits[:, class_index].reshape(len(tops), len(lefts)), logits.argmax(axis=1).reshape(len(tops), len(lefts))


# %% gap="occlusion" why="paints on copies of the image's own type: in uint8 a fraction of the colour is lost"
def occlusion(model, image, class_index, size, stride, value):
    height, width = image.shape[:2]
    tops, lefts = range(0, height - size + 1, stride), range(0, width - size + 1, stride)
    copies = np.repeat(image[None], len(tops) * len(lefts), axis=0)
    for copy, (top, left) in zip(copies, [(top, left) for top in tops for left in lefts]):
        copy[top : top + size, left : left + size] = value
    logits = model.predict(copies, batch_size=64, verbose=0)
    probability = ops.convert_to_numpy(ops.softmax(logits))[:, class_index]
    return probability.reshape(len(tops), len(lefts)), logits.argmax(axis=1).reshape(len(tops), len(lefts))


# %% gap="occlusion" why="the probability of the winner, not of the class asked for"
def occlusion(model, image, class_index, size, stride, value):
    height, width = image.shape[:2]
    tops, lefts = range(0, height - size + 1, stride), range(0, width - size + 1, stride)
    copies = np.repeat(image[None].astype("float32"), len(tops) * len(lefts), axis=0)
    for copy, (top, left) in zip(copies, [(top, left) for top in tops for left in lefts]):
        copy[top : top + size, left : left + size] = value
    logits = model.predict(copies, batch_size=64, verbose=0)
    probability = ops.convert_to_numpy(ops.softmax(logits)).max(axis=1)
    return probability.reshape(len(tops), len(lefts)), logits.argmax(axis=1).reshape(len(tops), len(lefts))


# %% gap="occlusion" why="returns the probability alone"
def occlusion(model, image, class_index, size, stride, value):
    height, width = image.shape[:2]
    tops, lefts = range(0, height - size + 1, stride), range(0, width - size + 1, stride)
    copies = np.repeat(image[None].astype("float32"), len(tops) * len(lefts), axis=0)
    for copy, (top, left) in zip(copies, [(top, left) for top in tops for left in lefts]):
        copy[top : top + size, left : left + size] = value
    logits = model.predict(copies, batch_size=64, verbose=0)
    return ops.convert_to_numpy(ops.softmax(logits))[:, class_index].reshape(len(tops), len(lefts))


# %% gap="grad-cam" why="multiplies the gradient with the maps place by place, without the mean"
def grad_cam(lower, upper, images, class_index):
    maps = lower.predict(images, verbose=0)
    slopes = introspection.gradients(lambda a: upper(a, training=False)[:, class_index], maps)
    return np.maximum((slopes * maps).sum(axis=-1), 0)


# %% gap="grad-cam" why="leaves out the ReLU"
def grad_cam(lower, upper, images, class_index):
    maps = lower.predict(images, verbose=0)
    slopes = introspection.gradients(lambda a: upper(a, training=False)[:, class_index], maps)
    return (slopes.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=-1)


# %% gap="grad-cam" why="keeps what is positive of each map before adding them up"
def grad_cam(lower, upper, images, class_index):
    maps = lower.predict(images, verbose=0)
    slopes = introspection.gradients(lambda a: upper(a, training=False)[:, class_index], maps)
    return np.maximum(slopes.mean(axis=(1, 2), keepdims=True) * maps, 0).sum(axis=-1)


# %% gap="grad-cam" why="averages the weights over the images of the batch"
def grad_cam(lower, upper, images, class_index):
    maps = lower.predict(images, verbose=0)
    slopes = introspection.gradients(lambda a: upper(a, training=False)[:, class_index], maps)
    return np.maximum((slopes.mean(axis=(0, 1, 2)) * maps).sum(axis=-1), 0)


# %% gap="grad-cam" why="sums the gradients over the places in place of their mean"
def grad_cam(lower, upper, images, class_index):
    maps = lower.predict(images, verbose=0)
    slopes = introspection.gradients(lambda a: upper(a, training=False)[:, class_index], maps)
    return np.maximum((slopes.sum(axis=(1, 2), keepdims=True) * maps).sum(axis=-1), 0)


# %% gap="grad-cam" why="scales each map to 1"
def grad_cam(lower, upper, images, class_index):
    maps = lower.predict(images, verbose=0)
    slopes = introspection.gradients(lambda a: upper(a, training=False)[:, class_index], maps)
    found = np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=-1), 0)
    return found / np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-12)


# %% gap="score" why="divides by the area, not by the map's sum"
def energy(maps, masks):
    return (np.maximum(maps, 0) * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))


def hits(maps, masks):
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(masks)), highest]


# %% gap="score" why="counts negative values by their size"
def energy(maps, masks):
    total = np.abs(maps).sum(axis=(1, 2))
    return (np.abs(maps) * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)


def hits(maps, masks):
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(masks)), highest]


# %% gap="score" why="gives NaN for an empty map"
def energy(maps, masks):
    positive = np.maximum(maps, 0)
    with np.errstate(all="ignore"):
        return (positive * masks).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))


def hits(maps, masks):
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(masks)), highest]


# %% gap="score" why="points to the largest absolute value"
def energy(maps, masks):
    positive = np.maximum(maps, 0)
    total = positive.sum(axis=(1, 2))
    return (positive * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)


def hits(maps, masks):
    highest = np.abs(maps).reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(masks)), highest]


# %% gap="forget" why="draws the whole network anew instead of shuffling the named kernels"
def forgetful(model, names, seed=0):
    return keras.models.clone_model(model)


# %% gap="forget" why="shuffles along the first axis only"
def forgetful(model, names, seed=0):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    random = np.random.default_rng(seed)
    for name in names:
        kernel, *others = copy.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([random.permutation(kernel), *others])
    return copy


# %% gap="forget" why="draws new values in place of shuffling the old ones"
def forgetful(model, names, seed=0):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    random = np.random.default_rng(seed)
    for name in names:
        kernel, *others = copy.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([random.normal(scale=kernel.std(), size=kernel.shape), *others])
    return copy


# %% gap="forget" why="forgets to give the copy the weights"
def forgetful(model, names, seed=0):
    copy = keras.models.clone_model(model)
    random = np.random.default_rng(seed)
    for name in names:
        kernel, *others = model.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([random.permutation(kernel.ravel()).reshape(kernel.shape), *others])
    return copy


# %% gap="forget" why="rolls the values of a kernel: they keep their neighbours"
def forgetful(model, names, seed=0):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name in names:
        kernel, *others = copy.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([np.roll(kernel, seed + 1), *others])
    return copy


# %% gap="forget" why="turns a kernel round: the values keep their neighbours"
def forgetful(model, names, seed=0):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name in names:
        kernel, *others = copy.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([np.flip(kernel), *others])
    return copy


# %% gap="forget" why="sorts the values: no chance in it, whatever the seed"
def forgetful(model, names, seed=0):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for name in names:
        kernel, *others = copy.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([np.sort(kernel.ravel()).reshape(kernel.shape), *others])
    return copy


# %% gap="forget" why="mixes the rows of every axis, but not the values by themselves"
def forgetful(model, names, seed=0):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    random = np.random.default_rng(seed)
    for name in names:
        kernel, *others = copy.get_layer(name).get_weights()
        for axis in range(kernel.ndim):
            kernel = random.permutation(kernel, axis=axis)
        copy.get_layer(name).set_weights([kernel, *others])
    return copy


# %% gap="forget" why="shuffles the model that came in"
def forgetful(model, names, seed=0):
    random = np.random.default_rng(seed)
    for name in names:
        kernel, *others = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([random.permutation(kernel.ravel()).reshape(kernel.shape), *others])
    return model


# %% gap="forget" why="shuffles the biases, too"
def forgetful(model, names, seed=0):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    random = np.random.default_rng(seed)
    for name in names:
        weights = copy.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([random.permutation(w.ravel()).reshape(w.shape) for w in weights])
    return copy


# %% gap="fooling" why="climbs: the class only becomes surer"
def fooling_step(model, image, label, size):
    pixels = image.astype("float32")
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, label], pixels[None])[0]
    return np.clip(pixels + size * np.sign(gradient), 0, 255).astype("float32")


# %% gap="fooling" why="steps along the gradient itself, not its sign"
def fooling_step(model, image, label, size):
    pixels = image.astype("float32")
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, label], pixels[None])[0]
    return np.clip(pixels - size * gradient, 0, 255).astype("float32")


# %% gap="fooling" why="leaves the range of pixels"
def fooling_step(model, image, label, size):
    pixels = image.astype("float32")
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, label], pixels[None])[0]
    return pixels - size * np.sign(gradient)


# %% gap="fooling" why="moves also where the gradient is 0"
def fooling_step(model, image, label, size):
    pixels = image.astype("float32")
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, label], pixels[None])[0]
    step = np.where(gradient > 0, -size, size)
    return np.clip(pixels + step, 0, 255).astype("float32")


# %% gap="fooling" why="computes in uint8, where values below 0 come out near 255"
def fooling_step(model, image, label, size):
    gradient = introspection.gradients(lambda x: model(x, training=False)[:, label], image[None].astype("float32"))[0]
    return (image.astype("int64") - int(size) * np.sign(gradient).astype("int64")).astype("uint8").astype("float32")


# %% gap="transplant" why="takes the ground six images on, which is of the same class: the ground still tells"
def transplant(images, masks, grounds, seed):
    return np.where(masks[..., None], images, np.roll(grounds, -6, axis=0))


# %% gap="transplant" why="takes the ground `seed` images on: each class gets the grounds of one class"
def transplant(images, masks, grounds, seed):
    return np.where(masks[..., None], images, np.roll(grounds, seed, axis=0))


# %% gap="transplant" why="draws grounds with repetition"
def transplant(images, masks, grounds, seed):
    order = np.random.default_rng(seed).integers(0, len(images), len(images))
    return np.where(masks[..., None], images, grounds[order])


# %% gap="transplant" why="keeps the ground and moves the object"
def transplant(images, masks, grounds, seed):
    order = np.random.default_rng(seed).permutation(len(images))
    return np.where(masks[..., None], images[order], grounds)


# %% gap="transplant" why="makes float images"
def transplant(images, masks, grounds, seed):
    order = np.random.default_rng(seed).permutation(len(images))
    return np.where(masks[..., None], images, grounds[order]).astype("float32")


# %% gap="transplant" why="paints into the images that came in"
def transplant(images, masks, grounds, seed):
    order = np.random.default_rng(seed).permutation(len(images))
    for image, mask, ground in zip(images, masks, grounds[order]):
        image[~mask] = ground[~mask]
    return images


# %% gap="follows" why="counts images whose shape and ground are of the same class, too"
def follows(model, images, labels, masks, grounds, seed):
    moved = transplant(images, masks, grounds, seed)
    numbers = np.zeros_like(grounds)
    numbers[:] = labels.reshape(-1, 1, 1, 1)
    of_ground = transplant(np.full_like(grounds, 255), masks, numbers, seed).min(axis=(1, 2, 3))
    said = named(model, moved)
    return (said == labels).mean(), (said == of_ground).mean()


# %% gap="follows" why="returns the two shares in the wrong order"
def follows(model, images, labels, masks, grounds, seed):
    moved = transplant(images, masks, grounds, seed)
    numbers = np.zeros_like(grounds)
    numbers[:] = labels.reshape(-1, 1, 1, 1)
    of_ground = transplant(np.full_like(grounds, 255), masks, numbers, seed).min(axis=(1, 2, 3))
    differ, said = of_ground != labels, named(model, moved)
    return (said == of_ground)[differ].mean(), (said == labels)[differ].mean()


# %% gap="follows" why="takes the rest of the answers for answers that follow the ground"
def follows(model, images, labels, masks, grounds, seed):
    moved = transplant(images, masks, grounds, seed)
    numbers = np.zeros_like(grounds)
    numbers[:] = labels.reshape(-1, 1, 1, 1)
    of_ground = transplant(np.full_like(grounds, 255), masks, numbers, seed).min(axis=(1, 2, 3))
    differ, said = of_ground != labels, named(model, moved)
    shape = (said == labels)[differ].mean()
    return shape, 1 - shape


# %% gap="follows" why="guesses the grounds with another seed than that of the transplants"
def follows(model, images, labels, masks, grounds, seed):
    moved = transplant(images, masks, grounds, seed)
    numbers = np.zeros_like(grounds)
    numbers[:] = labels.reshape(-1, 1, 1, 1)
    of_ground = transplant(np.full_like(grounds, 255), masks, numbers, seed + 1).min(axis=(1, 2, 3))
    differ, said = of_ground != labels, named(model, moved)
    return (said == labels)[differ].mean(), (said == of_ground)[differ].mean()


# %% gap="follows" why="takes what the model names on the empty grounds for the class of the ground"
def follows(model, images, labels, masks, grounds, seed):
    moved = transplant(images, masks, grounds, seed)
    of_ground = named(model, transplant(grounds, np.zeros_like(masks), grounds, seed))
    differ, said = of_ground != labels, named(model, moved)
    return (said == labels)[differ].mean(), (said == of_ground)[differ].mean()


# %% gap="follows" why="asks the model about the images as they were"
def follows(model, images, labels, masks, grounds, seed):
    numbers = np.zeros_like(grounds)
    numbers[:] = labels.reshape(-1, 1, 1, 1)
    of_ground = transplant(np.full_like(grounds, 255), masks, numbers, seed).min(axis=(1, 2, 3))
    differ, said = of_ground != labels, named(model, images)
    return (said == labels)[differ].mean(), (said == of_ground)[differ].mean()


# %% gap="follows" why="returns the share of the shape alone"
def follows(model, images, labels, masks, grounds, seed):
    return (named(model, transplant(images, masks, grounds, seed)) == labels).mean()


# %% gap="repair" why="trains on the studio images as they are, twice"
def repair(images, labels, masks):
    return trained(np.concatenate([images, images]), np.concatenate([labels, labels]), steps)


# %% gap="repair" why="repeats each label in a row, while the copies are joined one after the other"
def repair(images, labels, masks):
    grounds = emptied(images, masks)
    copies = [transplant(images, masks, grounds, seed + number) for number in range(2)]
    return trained(np.concatenate(copies), np.repeat(labels, 2), steps)


# %% gap="repair" why="shows each object on one ground only"
def repair(images, labels, masks):
    return trained(transplant(images, masks, emptied(images, masks), seed), labels, steps)


# %% gap="repair" why="lays objects on grounds that still show their own objects"
def repair(images, labels, masks):
    copies = [transplant(images, masks, images, seed + number) for number in range(2)]
    return trained(np.concatenate(copies), np.concatenate([labels, labels]), steps)


# %% gap="repair" why="trains a network and returns the biased one"
def repair(images, labels, masks):
    grounds = emptied(images, masks)
    copies = [transplant(images, masks, grounds, seed + number) for number in range(2)]
    trained(np.concatenate(copies), np.concatenate([labels, labels]), steps)
    return biased


# %% gap="repair" why="trains on the free images, too"
def repair(images, labels, masks):
    copies = [transplant(images, masks, emptied(images, masks), seed), free_images]
    return trained(np.concatenate(copies), np.concatenate([labels, free_labels]), steps)


# %% gap="repair" why="returns the sound network"
def repair(images, labels, masks):
    grounds = emptied(images, masks)
    copies = [transplant(images, masks, grounds, seed + number) for number in range(2)]
    trained(np.concatenate(copies), np.concatenate([labels, labels]), steps)
    return sound


# %% gap="repair" why="trains twice, once for each copy"
def repair(images, labels, masks):
    grounds = emptied(images, masks)
    for number in range(2):
        model = trained(transplant(images, masks, grounds, seed + number), labels, steps)
    return model
