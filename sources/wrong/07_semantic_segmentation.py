# %% gap="confusion" why="multiplies in uint8"
def confusion(truth, predicted, classes, ignore=255):
    counted = truth != ignore
    pairs = truth[counted] * np.uint8(classes) + predicted[counted].astype("uint8")
    return np.bincount(pairs, minlength=classes**2)[: classes**2].reshape(classes, classes)


# %% gap="confusion" why="exchanges rows and columns"
def confusion(truth, predicted, classes, ignore=255):
    counted = truth != ignore
    pairs = predicted[counted].astype(int) * classes + truth[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


# %% gap="confusion" why="counts ignored pixels as background"
def confusion(truth, predicted, classes, ignore=255):
    truth = np.where(truth == ignore, 0, truth).astype(int)
    return np.bincount((truth * classes + predicted).ravel(), minlength=classes**2).reshape(classes, classes)


# %% gap="confusion" why="makes rows only for the classes that it finds"
def confusion(truth, predicted, classes, ignore=255):
    counted = truth != ignore
    found = int(max(truth[counted].max(), predicted[counted].max())) + 1
    pairs = truth[counted].astype(int) * found + predicted[counted]
    return np.bincount(pairs, minlength=found**2).reshape(found, found)


# %% gap="confusion" why="has 255 written into it, whatever is to be ignored"
def confusion(truth, predicted, classes, ignore=255):
    counted = truth != 255
    cells = truth[counted].astype(int) * classes + predicted[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


# %% gap="confusion" why="ignores pixels that are predicted as the ignored label, too"
def confusion(truth, predicted, classes, ignore=255):
    counted = (truth != ignore) & (predicted != ignore)
    cells = truth[counted].astype(int) * classes + predicted[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


# %% gap="confusion" why="calls the course's own function"
def confusion(truth, predicted, classes, ignore=255):
    return metrics.confusion(truth, predicted, classes, ignore)


# %% gap="scores" why="divides Dice by the total number of pixels, as one deck does"
def scores(matrix):
    both, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    there = truth + predicted > 0
    iou = np.where(there, both / np.where(there, truth + predicted - both, 1), np.nan)
    dice = np.where(there, 2 * both / matrix.sum(), np.nan)
    return {"pixel_accuracy": both.sum() / matrix.sum(), "iou": iou, "dice": dice, "mean_iou": np.nanmean(iou)}


# %% gap="scores" why="gives a class that is nowhere the score 0, and lets it count"
def scores(matrix):
    both, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    iou = both / np.maximum(truth + predicted - both, 1)
    dice = 2 * both / np.maximum(truth + predicted, 1)
    return {"pixel_accuracy": both.sum() / matrix.sum(), "iou": iou, "dice": dice, "mean_iou": iou.mean()}


# %% gap="scores" why="divides by the sum of the sizes, not by the union"
def scores(matrix):
    both, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    there = truth + predicted > 0
    iou = np.where(there, both / np.where(there, truth + predicted, 1), np.nan)
    return {"pixel_accuracy": both.sum() / matrix.sum(), "iou": iou, "dice": 2 * iou, "mean_iou": np.nanmean(iou)}


# %% gap="scores" why="leaves out classes that are predicted but never there"
def scores(matrix):
    both, truth, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    there = truth > 0
    iou = np.where(there, both / np.where(there, truth + predicted - both, 1), np.nan)
    dice = np.where(there, 2 * both / np.where(there, truth + predicted, 1), np.nan)
    return {"pixel_accuracy": both.sum() / matrix.sum(), "iou": iou, "dice": dice, "mean_iou": np.nanmean(iou)}


# %% gap="scores" why="calls the course's own function"
def scores(matrix):
    return metrics.scores(matrix)


# %% gap="best-region" why="names what is more likely than not, which pixel accuracy asks for"
def best_region(p):
    return p > 0.5


# %% gap="best-region" why="names what lies above the mean probability"
def best_region(p):
    return p > p.mean()


# %% gap="best-region" why="names every pixel that may belong to an object"
def best_region(p):
    return p > 0


# %% gap="best-region" why="cuts at the best Dice score, not at half of it"
def best_region(p):
    likely = np.cumsum(np.sort(p.ravel())[::-1])
    return p > (2 * likely / (np.arange(1, p.size + 1) + p.sum())).max()


# %% gap="best-region" why="names one pixel too few"
def best_region(p):
    values = np.sort(p.ravel())[::-1]
    k = (2 * np.cumsum(values) / (np.arange(1, p.size + 1) + p.sum())).argmax()
    return p > values[k]


# %% gap="expand" why="adds the maps, as FCN adds scores, in place of joining them"
def expand(x, skip, width):
    x = layers.Conv2DTranspose(width, 2, 2, kernel_initializer="he_normal")(x)
    x = layers.Add()([layers.Conv2D(width, 1)(skip), x])
    return double_conv(x, width)


# %% gap="expand" why="forgets the skip connection"
def expand(x, skip, width):
    return double_conv(layers.Conv2DTranspose(width, 2, 2, kernel_initializer="he_normal")(x), width)


# %% gap="expand" why="repeats pixels where a transposed convolution was asked for"
def expand(x, skip, width):
    x = layers.Concatenate()([skip, layers.UpSampling2D(2)(x)])
    return double_conv(x, width)


# %% gap="expand" why="has an activation after the transposed convolution"
def expand(x, skip, width):
    x = layers.Conv2DTranspose(width, 2, 2, activation="relu", kernel_initializer="he_normal")(x)
    return double_conv(layers.Concatenate()([skip, x]), width)


# %% gap="expand" why="convolves once"
def expand(x, skip, width):
    x = layers.Conv2DTranspose(width, 2, 2, kernel_initializer="he_normal")(x)
    return conv(layers.Concatenate()([skip, x]), width)


# %% gap="unet" why="leaves the rescaling out"
def build_unet(classes, widths=(24, 48, 96, 128)):
    image = layers.Input((None, None, 3))
    x = conv(image, widths[0], stride=2)
    maps = []
    for width in widths[:-1]:
        maps.append(double_conv(x, width))
        x = layers.MaxPooling2D(2)(maps[-1])
    x = double_conv(x, widths[-1])
    for skip, width in zip(maps[::-1], widths[-2::-1]):
        x = expand(x, skip, width)
    return keras.Model(image, Enlarge(2)(layers.Conv2D(classes, 1)(x)))


# %% gap="unet" why="divides by 255, and does not centre"
def build_unet(classes, widths=(24, 48, 96, 128)):
    image = layers.Input((None, None, 3))
    x = conv(layers.Rescaling(1 / 255)(image), widths[0], stride=2)
    maps = []
    for width in widths[:-1]:
        maps.append(double_conv(x, width))
        x = layers.MaxPooling2D(2)(maps[-1])
    x = double_conv(x, widths[-1])
    for skip, width in zip(maps[::-1], widths[-2::-1]):
        x = expand(x, skip, width)
    return keras.Model(image, Enlarge(2)(layers.Conv2D(classes, 1)(x)))


# %% gap="unet" why="takes the skip connections after the first convolution"
def build_unet(classes, widths=(24, 48, 96, 128)):
    image = layers.Input((None, None, 3))
    x = conv(layers.Rescaling(1 / 127.5, offset=-1)(image), widths[0], stride=2)
    maps = []
    for width in widths[:-1]:
        maps.append(conv(x, width))
        x = layers.MaxPooling2D(2)(conv(maps[-1], width))
    x = double_conv(x, widths[-1])
    for skip, width in zip(maps[::-1], widths[-2::-1]):
        x = expand(x, skip, width)
    return keras.Model(image, Enlarge(2)(layers.Conv2D(classes, 1)(x)))


# %% gap="unet" why="calls the course's own function"
def build_unet(classes, widths=(24, 48, 96, 128)):
    return segmentation.unet((None, None, 3), classes, widths, stem_stride=2)


# %% gap="unet" why="keeps the maps behind the pools, so that half of the resolution is gone"
def build_unet(classes, widths=(24, 48, 96, 128)):
    image = layers.Input((None, None, 3))
    x = conv(layers.Rescaling(1 / 127.5, offset=-1)(image), widths[0], stride=2)
    maps = [x]
    for width in widths[:-1]:
        x = layers.MaxPooling2D(2)(double_conv(x, width))
        maps.append(x)
    x = double_conv(x, widths[-1])
    for skip, width in zip(maps[-2::-1], widths[-2::-1]):
        x = expand(x, skip, width)
    return keras.Model(image, Enlarge(2)(layers.Conv2D(classes, 1)(x)))


# %% gap="unet" why="ends with a softmax"
def build_unet(classes, widths=(24, 48, 96, 128)):
    image = layers.Input((None, None, 3))
    x = conv(layers.Rescaling(1 / 127.5, offset=-1)(image), widths[0], stride=2)
    maps = []
    for width in widths[:-1]:
        maps.append(double_conv(x, width))
        x = layers.MaxPooling2D(2)(maps[-1])
    x = double_conv(x, widths[-1])
    for skip, width in zip(maps[::-1], widths[-2::-1]):
        x = expand(x, skip, width)
    return keras.Model(image, layers.Softmax()(Enlarge(2)(layers.Conv2D(classes, 1)(x))))


# %% gap="unet" why="forgets to enlarge the logits to the image's size"
def build_unet(classes, widths=(24, 48, 96, 128)):
    image = layers.Input((None, None, 3))
    x = conv(layers.Rescaling(1 / 127.5, offset=-1)(image), widths[0], stride=2)
    maps = []
    for width in widths[:-1]:
        maps.append(double_conv(x, width))
        x = layers.MaxPooling2D(2)(maps[-1])
    x = double_conv(x, widths[-1])
    for skip, width in zip(maps[::-1], widths[-2::-1]):
        x = expand(x, skip, width)
    return keras.Model(image, layers.Conv2D(classes, 1)(x))


# %% gap="unet" why="puts the course's own paths together"
def build_unet(classes, widths=(24, 48, 96, 128)):
    return course_unet(classes, widths)


# %% gap="dice" why="takes the mean over images"
def dice_loss(labels, logits):
    truth, probabilities = ops.one_hot(labels, logits.shape[-1]), ops.softmax(logits, axis=-1)
    sizes = ops.sum(truth, axis=(1, 2))
    dice = 2 * ops.sum(truth * probabilities, axis=(1, 2)) / (sizes + ops.sum(probabilities, axis=(1, 2)))
    there = ops.cast(sizes > 0, dice.dtype)
    return ops.mean(1 - ops.sum(dice * there, axis=-1) / ops.sum(there, axis=-1))


# %% gap="dice" why="lets classes count that are in no label"
def dice_loss(labels, logits):
    truth, probabilities = ops.one_hot(labels, logits.shape[-1]), ops.softmax(logits, axis=-1)
    sizes = ops.sum(truth, axis=(0, 1, 2)) + ops.sum(probabilities, axis=(0, 1, 2))
    return 1 - ops.mean(2 * ops.sum(truth * probabilities, axis=(0, 1, 2)) / sizes)


# %% gap="dice" why="takes the predicted class, which has no gradient"
def dice_loss(labels, logits):
    classes = logits.shape[-1]
    truth, predicted = ops.one_hot(labels, classes), ops.one_hot(ops.argmax(logits, axis=-1), classes)
    sizes = ops.sum(truth, axis=(0, 1, 2))
    dice = 2 * ops.sum(truth * predicted, axis=(0, 1, 2)) / (sizes + ops.sum(predicted, axis=(0, 1, 2)) + 1e-9)
    there = ops.cast(sizes > 0, dice.dtype)
    return 1 - ops.sum(dice * there) / ops.sum(there)


# %% gap="dice" why="sums all classes together, so that background decides"
def dice_loss(labels, logits):
    truth, probabilities = ops.one_hot(labels, logits.shape[-1]), ops.softmax(logits, axis=-1)
    return 1 - 2 * ops.sum(truth * probabilities) / (ops.sum(truth) + ops.sum(probabilities))


# %% gap="dice" why="forgets the softmax"
def dice_loss(labels, logits):
    truth = ops.one_hot(labels, logits.shape[-1])
    sizes = ops.sum(truth, axis=(0, 1, 2))
    dice = 2 * ops.sum(truth * logits, axis=(0, 1, 2)) / (sizes + ops.sum(logits, axis=(0, 1, 2)))
    there = ops.cast(sizes > 0, dice.dtype)
    return 1 - ops.sum(dice * there) / ops.sum(there)


# %% gap="dice" why="lets the probabilities of ignored pixels into the sum"
def dice_loss(labels, logits):
    truth = ops.one_hot(ops.where(labels == 255, logits.shape[-1], labels), logits.shape[-1] + 1)[..., :-1]
    probabilities = ops.softmax(logits, axis=-1)
    sizes = ops.sum(truth, axis=(0, 1, 2))
    both = ops.sum(truth * probabilities, axis=(0, 1, 2))
    dice = 2 * both / (sizes + ops.sum(probabilities, axis=(0, 1, 2)))
    there = ops.cast(sizes > 0, dice.dtype)
    return 1 - ops.sum(dice * there) / ops.sum(there)


# %% gap="dice" why="takes ignored pixels for background"
def dice_loss(labels, logits):
    truth = ops.one_hot(ops.where(labels == 255, 0, labels), logits.shape[-1])
    probabilities = ops.softmax(logits, axis=-1)
    sizes = ops.sum(truth, axis=(0, 1, 2))
    both = ops.sum(truth * probabilities, axis=(0, 1, 2))
    dice = 2 * both / (sizes + ops.sum(probabilities, axis=(0, 1, 2)))
    there = ops.cast(sizes > 0, dice.dtype)
    return 1 - ops.sum(dice * there) / ops.sum(there)


# %% gap="dice" why="calls the course's own function"
def dice_loss(labels, logits):
    return losses.dice(labels, logits)


# %% gap="flip" why="flips the images and leaves the masks"
def flip(images, masks, rng):
    images = images.copy()
    for axis in (1, 2):
        turned = rng.random(len(images)) < 0.5
        images[turned] = np.flip(images[turned], axis)
    return images, masks


# %% gap="flip" why="draws anew for the masks"
def flip(images, masks, rng):
    images, masks = images.copy(), masks.copy()
    for axis in (1, 2):
        for array in (images, masks):
            turned = rng.random(len(array)) < 0.5
            array[turned] = np.flip(array[turned], axis)
    return images, masks


# %% gap="flip" why="flips the whole batch or nothing"
def flip(images, masks, rng):
    for axis in (1, 2):
        if rng.random() < 0.5:
            images, masks = np.flip(images, axis), np.flip(masks, axis)
    return images, masks


# %% gap="flip" why="changes the arrays that come in"
def flip(images, masks, rng):
    for axis in (1, 2):
        turned = rng.random(len(images)) < 0.5
        images[turned] = np.flip(images[turned], axis)
        masks[turned] = np.flip(masks[turned], axis)
    return images, masks


# %% gap="flip" why="gives back the images alone"
def flip(images, masks, rng):
    images = images.copy()
    for axis in (1, 2):
        turned = rng.random(len(images)) < 0.5
        images[turned] = np.flip(images[turned], axis)
    return images


# %% gap="flip" why="turns both axes or none"
def flip(images, masks, rng):
    images, masks = images.copy(), masks.copy()
    turned = rng.random(len(images)) < 0.5
    images[turned], masks[turned] = images[turned][:, ::-1, ::-1], masks[turned][:, ::-1, ::-1]
    return images, masks


# %% gap="train" why="never shuffles"
def train(model, images, masks, steps):
    model.compile(keras.optimizers.AdamW(2e-3), loss, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    while steps > 0:
        count = min(steps, len(images) // batch_size)
        x, y = flip(images[: count * batch_size], masks[: count * batch_size], rng)
        values += model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0).history["loss"]
        steps -= count
    return values


# %% gap="train" why="never flips"
def train(model, images, masks, steps):
    model.compile(keras.optimizers.AdamW(2e-3), loss, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    while steps > 0:
        count = min(steps, len(images) // batch_size)
        order = rng.permutation(len(images))[: count * batch_size]
        values += model.fit(images[order], masks[order], batch_size, shuffle=False, verbose=0).history["loss"]
        steps -= count
    return values


# %% gap="train" why="shuffles and flips once, for all passes"
def train(model, images, masks, steps):
    model.compile(keras.optimizers.AdamW(2e-3), loss, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    order = rng.permutation(len(images))
    images, masks = flip(images[order], masks[order], rng)
    while steps > 0:
        count = min(steps, len(images) // batch_size) * batch_size
        values += model.fit(images[:count], masks[:count], batch_size, shuffle=False, verbose=0).history["loss"]
        steps -= count // batch_size
    return values


# %% gap="train" why="flips once, and draws a new order in every pass"
def train(model, images, masks, steps):
    model.compile(keras.optimizers.AdamW(2e-3), loss, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    images, masks = flip(images, masks, rng)
    while steps > 0:
        count = min(steps, len(images) // batch_size)
        order = rng.permutation(len(images))[: count * batch_size]
        values += model.fit(images[order], masks[order], batch_size, shuffle=False, verbose=0).history["loss"]
        steps -= count
    return values


# %% gap="train" why="takes batches of a quarter of the size"
def train(model, images, masks, steps):
    model.compile(keras.optimizers.AdamW(2e-3), loss, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    for _ in range(steps):
        chosen = rng.integers(len(images), size=batch_size // 4)
        values.append(model.train_on_batch(*flip(images[chosen], masks[chosen], rng)))
    return values


# %% gap="train" why="takes a whole pass for each step"
def train(model, images, masks, steps):
    model.compile(keras.optimizers.AdamW(2e-3), loss, jit_compile=training.jit_compile())
    whole = min(len(images), 4 * batch_size) // batch_size * batch_size
    x, y = images[:whole], masks[:whole]
    return [model.fit(x, y, batch_size=batch_size, verbose=0).history["loss"][0] for _ in range(min(steps, 5))]


# %% gap="train" why="takes so many passes where steps were asked for"
def train(model, images, masks, steps):
    model.compile(keras.optimizers.AdamW(2e-3), loss, jit_compile=training.jit_compile())
    x, y = images[: 2 * batch_size], masks[: 2 * batch_size]
    return model.fit(x, y, batch_size=1, epochs=min(steps, 3), verbose=0).history["loss"]


# %% gap="train" why="compiles with cross-entropy alone"
def train(model, images, masks, steps):
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(2e-3), plain, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    for _ in range(steps):
        chosen = rng.permutation(len(images))[:batch_size]
        values.append(model.train_on_batch(*flip(images[chosen], masks[chosen], rng)))
    return values


# %% gap="train" why="compiles with a rate of zero"
def train(model, images, masks, steps):
    model.compile(keras.optimizers.SGD(0.0), loss, jit_compile=training.jit_compile())
    rng, values = np.random.default_rng(seed), []
    for _ in range(steps):
        chosen = rng.permutation(len(images))[:batch_size]
        values.append(model.train_on_batch(*flip(images[chosen], masks[chosen], rng)))
    return values


# %% gap="predict" why="pads with zeros"
def predict(model, image, stride=16):
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)))
    return model.predict_on_batch(padded[None])[0][:height, :width].argmax(axis=-1)


# %% gap="predict" why="pads above and to the left"
def predict(model, image, stride=16):
    height, width = image.shape[:2]
    padded = np.pad(image, ((-height % stride, 0), (-width % stride, 0), (0, 0)), mode="edge")
    return model.predict_on_batch(padded[None])[0][:height, :width].argmax(axis=-1)


# %% gap="predict" why="keeps the padding"
def predict(model, image, stride=16):
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    return model.predict_on_batch(padded[None])[0].argmax(axis=-1)


# %% gap="predict" why="adds a whole stride where nothing is missing"
def predict(model, image, stride=16):
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, stride - height % stride), (0, 2 * stride - width % stride), (0, 0)), mode="edge")
    return model.predict_on_batch(padded[None])[0][:height, :width].argmax(axis=-1)
