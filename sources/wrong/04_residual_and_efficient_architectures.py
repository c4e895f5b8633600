# %% gap="residual" why="adds the shortcut behind the last ReLU"
def residual_block(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == filters else norm(conv(x, filters, 1, stride))
    y = relu(norm(conv(x, filters, 3, stride)))
    return layers.Add()([side, relu(norm(conv(y, filters, 3)))])


# %% gap="residual" why="projects in every block, as option C does"
def residual_block(x, filters, stride=1):
    side = norm(conv(x, filters, 1, stride))
    y = relu(norm(conv(x, filters, 3, stride)))
    return relu(layers.Add()([side, norm(conv(y, filters, 3))]))


# %% gap="residual" why="has the stride in the second convolution"
def residual_block(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == filters else norm(conv(x, filters, 1, stride))
    y = relu(norm(conv(x, filters, 3)))
    return relu(layers.Add()([side, norm(conv(y, filters, 3, stride))]))


# %% gap="residual" why="leaves the shortcut out: a plain block"
def residual_block(x, filters, stride=1):
    return relu(norm(conv(relu(norm(conv(x, filters, 3, stride))), filters, 3)))


# %% gap="residual" why="projects without a normalisation"
def residual_block(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == filters else conv(x, filters, 1, stride)
    y = relu(norm(conv(x, filters, 3, stride)))
    return relu(layers.Add()([side, norm(conv(y, filters, 3))]))


# %% gap="residual" why="pads as Keras's 'same' does at stride 2"
def residual_block(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == filters else norm(conv(x, filters, 1, stride))
    y = relu(norm(layers.Conv2D(filters, 3, stride, "same", use_bias=False)(x)))
    return relu(layers.Add()([side, norm(conv(y, filters, 3))]))


# %% gap="residual" why="returns nothing"
def residual_block(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == filters else norm(conv(x, filters, 1, stride))
    relu(layers.Add()([side, norm(conv(relu(norm(conv(x, filters, 3, stride))), filters, 3))]))


# %% gap="residual" why="returns both tensors"
def residual_block(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == filters else norm(conv(x, filters, 1, stride))
    return side, norm(conv(relu(norm(conv(x, filters, 3, stride))), filters, 3))


# %% gap="residual" why="calls the course's own function"
def residual_block(x, filters, stride=1):
    return resnet.basic(x, filters, stride, f"block{np.random.randint(1_000_000)}")


# %% gap="bottleneck" why="has the stride in the 3x3, as the later released code"
def bottleneck(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == 4 * filters else norm(conv(x, 4 * filters, 1, stride))
    y = relu(norm(conv(x, filters, 1)))
    y = relu(norm(conv(y, filters, 3, stride)))
    return relu(layers.Add()([side, norm(conv(y, 4 * filters, 1))]))


# %% gap="bottleneck" why="does not widen: the last convolution has as many filters as the others"
def bottleneck(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == filters else norm(conv(x, filters, 1, stride))
    y = relu(norm(conv(x, filters, 1, stride)))
    y = relu(norm(conv(y, filters, 3)))
    return relu(layers.Add()([side, norm(conv(y, filters, 1))]))


# %% gap="bottleneck" why="has a ReLU behind the last convolution, before the sum"
def bottleneck(x, filters, stride=1):
    side = x if stride == 1 and x.shape[-1] == 4 * filters else norm(conv(x, 4 * filters, 1, stride))
    y = relu(norm(conv(x, filters, 1, stride)))
    y = relu(norm(conv(y, filters, 3)))
    return relu(layers.Add()([side, relu(norm(conv(y, 4 * filters, 1)))]))


# %% gap="bottleneck" why="calls the course's own function"
def bottleneck(x, filters, stride=1):
    return resnet.bottleneck(x, filters, stride, f"block{np.random.randint(1_000_000)}")


# %% gap="dense" why="adds the new maps in place of concatenating, as a residual network"
def dense_block(x, count, growth):
    for _ in range(count):
        y = conv(relu(norm(x)), 4 * growth, 1)
        y = conv(relu(norm(y)), x.shape[-1], 3)
        x = layers.Add()([x, y])
    return x


# %% gap="dense" why="each layer reads only the one before it"
def dense_block(x, count, growth):
    maps, y = [x], x
    for _ in range(count):
        y = conv(relu(norm(conv(relu(norm(y)), 4 * growth, 1))), growth, 3)
        maps.append(y)
    return layers.Concatenate()(maps)


# %% gap="dense" why="puts the new maps in front"
def dense_block(x, count, growth):
    for _ in range(count):
        y = conv(relu(norm(x)), 4 * growth, 1)
        y = conv(relu(norm(y)), growth, 3)
        x = layers.Concatenate()([y, x])
    return x


# %% gap="dense" why="has no 1x1 bottleneck"
def dense_block(x, count, growth):
    for _ in range(count):
        x = layers.Concatenate()([x, conv(relu(norm(x)), growth, 3)])
    return x


# %% gap="dense" why="calls the course's own function"
def dense_block(x, count, growth):
    for _ in range(count):
        x = densenet.dense_layer(x, growth, True, 0.0, f"layer{np.random.randint(1_000_000)}")
    return x


# %% gap="separable" why="mixes the channels first"
def separable_block(x, filters, stride=1):
    x = relu(norm(conv(x, filters, 1)))
    return relu(norm(depthwise(x, 3, stride)))


# %% gap="separable" why="has nothing between the two convolutions, as Xception"
def separable_block(x, filters, stride=1):
    return relu(norm(conv(depthwise(x, 3, stride), filters, 1)))


# %% gap="separable" why="has the stride in the 1x1 convolution"
def separable_block(x, filters, stride=1):
    x = relu(norm(depthwise(x, 3)))
    return relu(norm(conv(x, filters, 1, stride)))


# %% gap="separable" why="has a standard 3x3 convolution"
def separable_block(x, filters, stride=1):
    x = relu(norm(conv(x, x.shape[-1], 3, stride)))
    return relu(norm(conv(x, filters, 1)))


# %% gap="separable" why="pads as Keras's 'same' does at stride 2"
def separable_block(x, filters, stride=1):
    x = relu(norm(layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(x)))
    return relu(norm(conv(x, filters, 1)))


# %% gap="separable" why="calls the course's own function"
def separable_block(x, filters, stride=1):
    return mobilenet.separable(x, filters, stride, f"block{np.random.randint(1_000_000)}")


# %% gap="squeeze" why="lets the channels compete: softmax in place of sigmoid"
def squeeze_excite(x, ratio=16):
    w = layers.GlobalAveragePooling2D(keepdims=True)(x)
    w = layers.Dense(x.shape[-1] // ratio, activation="relu")(w)
    return layers.Multiply()([x, layers.Dense(x.shape[-1], activation="softmax")(w)])


# %% gap="squeeze" why="takes the ratio for the number of units"
def squeeze_excite(x, ratio=16):
    w = layers.GlobalAveragePooling2D(keepdims=True)(x)
    w = layers.Dense(ratio, activation="relu")(w)
    return layers.Multiply()([x, layers.Dense(x.shape[-1], activation="sigmoid")(w)])


# %% gap="squeeze" why="adds the weights"
def squeeze_excite(x, ratio=16):
    w = layers.GlobalAveragePooling2D(keepdims=True)(x)
    w = layers.Dense(x.shape[-1] // ratio, activation="relu")(w)
    return layers.Add()([x, layers.Dense(x.shape[-1], activation="sigmoid")(w)])


# %% gap="squeeze" why="squeezes by the maximum"
def squeeze_excite(x, ratio=16):
    w = layers.GlobalMaxPooling2D(keepdims=True)(x)
    w = layers.Dense(x.shape[-1] // ratio, activation="relu")(w)
    return layers.Multiply()([x, layers.Dense(x.shape[-1], activation="sigmoid")(w)])


# %% gap="squeeze" why="leaves the biases out"
def squeeze_excite(x, ratio=16):
    w = layers.GlobalAveragePooling2D(keepdims=True)(x)
    w = layers.Dense(x.shape[-1] // ratio, activation="relu", use_bias=False)(w)
    return layers.Multiply()([x, layers.Dense(x.shape[-1], activation="sigmoid", use_bias=False)(w)])


# %% gap="squeeze" why="calls the course's own function"
def squeeze_excite(x, ratio=16):
    return bricks.squeeze_excite(x, x.shape[-1] // ratio, f"block{np.random.randint(1_000_000)}")


# %% gap="network" why="halves the map in the first stage too"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = relu(norm(conv(image, 16, 3)))
    for filters in (16, 32, 64):
        for number in range(count):
            x = block(x, filters, 1 if number else 2)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="strides in every block of the later stages"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = relu(norm(conv(image, 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for _ in range(count):
            x = block(x, filters, 2 if stage else 1)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="gives probabilities"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = relu(norm(conv(image, 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="ends with a flattened map, not with a global average"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = relu(norm(conv(image, 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes)(layers.Flatten()(x)))


# %% gap="network" why="has the stem at stride 2"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = relu(norm(conv(image, 16, 3, 2)))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="has a max pool behind the stem"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = layers.MaxPooling2D(2)(relu(norm(conv(image, 16, 3))))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="has a max pool that keeps the size behind the stem"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = layers.MaxPooling2D(3, 1, "same")(relu(norm(conv(image, 16, 3))))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="has no ReLU behind the stem"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = norm(conv(image, 16, 3))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="has the stem's ReLU before its norm"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = norm(relu(conv(image, 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="ends with a global maximum"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = relu(norm(conv(image, 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes)(layers.GlobalMaxPooling2D()(x)))


# %% gap="network" why="has a ReLU on the logits"
def network(block, count, shape, classes):
    image = layers.Input(shape)
    x = relu(norm(conv(image, 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return keras.Model(image, layers.Dense(classes, activation="relu")(layers.GlobalAveragePooling2D()(x)))


# %% gap="network" why="gives the tensor, no model"
def network(block, count, shape, classes):
    x = relu(norm(conv(layers.Input(shape), 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for number in range(count):
            x = block(x, filters, 2 if stage and not number else 1)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


# %% gap="train" why="takes logits for probabilities"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(peak, steps, warmup=steps // 10)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), keras.losses.SparseCategoricalCrossentropy())
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks
    portions = [(x[i * part : (i + 1) * part], y[i * part : (i + 1) * part]) for i in range(looks)]
    return training.fit(model, lambda epoch: portions[epoch], looks, batch_size=32, seed=seed).history["loss"]


# %% gap="train" why="trains on all steps in every part: looks times too long"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(peak, steps, warmup=steps // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    return training.fit(model, (x, y), looks, batch_size=32, seed=seed).history["loss"]


# %% gap="train" why="holds the learning rate constant"
def train(model, images, labels, steps, peak=0.1):
    training.compile_classifier(model, keras.optimizers.SGD(peak, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks
    portions = [(x[i * part : (i + 1) * part], y[i * part : (i + 1) * part]) for i in range(looks)]
    return training.fit(model, lambda epoch: portions[epoch], looks, batch_size=32, seed=seed).history["loss"]


# %% gap="train" why="trains one part only and repeats its loss"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(peak, steps, warmup=steps // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps // looks, 32, seed)
    return training.fit(model, (x, y), 1, batch_size=32, seed=seed).history["loss"] * looks


# %% gap="train" why="trains every part on the first images"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(peak, steps, warmup=steps // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks
    portions = [(x[i * part : (i + 1) * part], y[i * part : (i + 1) * part]) for i in range(looks)]
    fitted = training.fit(model, lambda epoch: portions[0], looks, batch_size=32, seed=seed)
    return fitted.history["loss"]


# %% gap="train" why="has a schedule of one part's steps"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(peak, steps // looks, warmup=steps // looks // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks
    portions = [(x[i * part : (i + 1) * part], y[i * part : (i + 1) * part]) for i in range(looks)]
    fitted = training.fit(model, lambda epoch: portions[epoch], looks, batch_size=32, seed=seed)
    return fitted.history["loss"]


# %% gap="train" why="has no warm-up"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(peak, steps, warmup=0)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks
    portions = [(x[i * part : (i + 1) * part], y[i * part : (i + 1) * part]) for i in range(looks)]
    fitted = training.fit(model, lambda epoch: portions[epoch], looks, batch_size=32, seed=seed)
    return fitted.history["loss"]


# %% gap="train" why="ignores the peak"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(0.1, steps, warmup=steps // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks
    portions = [(x[i * part : (i + 1) * part], y[i * part : (i + 1) * part]) for i in range(looks)]
    fitted = training.fit(model, lambda epoch: portions[epoch], looks, batch_size=32, seed=seed)
    return fitted.history["loss"]


# %% gap="train" why="returns the last loss alone"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(peak, steps, warmup=steps // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks
    portions = [(x[i * part : (i + 1) * part], y[i * part : (i + 1) * part]) for i in range(looks)]
    fitted = training.fit(model, lambda epoch: portions[epoch], looks, batch_size=32, seed=seed)
    return fitted.history["loss"][-1]


# %% gap="train" why="returns the history in place of the losses"
def train(model, images, labels, steps, peak=0.1):
    rate = training.WarmupHoldDecay(peak, steps, warmup=steps // 10)
    training.compile_classifier(model, keras.optimizers.SGD(rate, momentum=0.9))
    x, y = transfer.repeat(images, labels, steps, 32, seed)
    part = len(x) // looks
    portions = [(x[i * part : (i + 1) * part], y[i * part : (i + 1) * part]) for i in range(looks)]
    fitted = training.fit(model, lambda epoch: portions[epoch], looks, batch_size=32, seed=seed)
    return fitted.history


# %% gap="identity" why="sets only the scale of the residual branch to 0, not its offset"
def identity_residual(block):
    last = [layer for layer in block.layers if hasattr(layer, "moving_mean")][-1]
    last.gamma.assign(np.zeros(last.gamma.shape))


def identity_plain(block):
    for layer in block.layers:
        if hasattr(layer, "kernel"):
            kernel = np.zeros(layer.kernel.shape)
            kernel[1, 1] = np.eye(kernel.shape[-1])
            layer.kernel.assign(kernel)
        elif hasattr(layer, "moving_mean"):
            ones = np.ones(layer.gamma.shape)
            layer.set_weights([ones, 0 * ones, 0 * ones, ones])


# %% gap="identity" why="mixes the channels: ones in the centre, no identity matrix"
def identity_residual(block):
    last = [layer for layer in block.layers if hasattr(layer, "moving_mean")][-1]
    last.set_weights([np.zeros(n.shape) if i < 2 else np.ones(n.shape) for i, n in enumerate(last.weights)])


def identity_plain(block):
    for layer in block.layers:
        if hasattr(layer, "kernel"):
            kernel = np.zeros(layer.kernel.shape)
            kernel[1, 1] = 1
            layer.kernel.assign(kernel)
        elif hasattr(layer, "moving_mean"):
            ones = np.ones(layer.gamma.shape)
            layer.set_weights([ones, 0 * ones, 0 * ones, ones])


# %% gap="identity" why="puts the one into the corner of the filter: shifts the map"
def identity_residual(block):
    last = [layer for layer in block.layers if hasattr(layer, "moving_mean")][-1]
    last.set_weights([np.zeros(n.shape) if i < 2 else np.ones(n.shape) for i, n in enumerate(last.weights)])


def identity_plain(block):
    for layer in block.layers:
        if hasattr(layer, "kernel"):
            kernel = np.zeros(layer.kernel.shape)
            kernel[0, 0] = np.eye(kernel.shape[-1])
            layer.kernel.assign(kernel)
        elif hasattr(layer, "moving_mean"):
            ones = np.ones(layer.gamma.shape)
            layer.set_weights([ones, 0 * ones, 0 * ones, ones])


# %% gap="identity" why="leaves the running statistics as they are"
def identity_residual(block):
    last = [layer for layer in block.layers if hasattr(layer, "moving_mean")][-1]
    last.set_weights([np.zeros(n.shape) if i < 2 else np.ones(n.shape) for i, n in enumerate(last.weights)])


def identity_plain(block):
    for layer in block.layers:
        if hasattr(layer, "kernel"):
            kernel = np.zeros(layer.kernel.shape)
            kernel[1, 1] = np.eye(kernel.shape[-1])
            layer.kernel.assign(kernel)
        elif hasattr(layer, "moving_mean"):
            ones = np.ones(layer.gamma.shape)
            layer.gamma.assign(ones)
            layer.beta.assign(0 * ones)


# %% gap="identity" why="sets all scales of the plain block to 0, as in the residual one"
def identity_residual(block):
    last = [layer for layer in block.layers if hasattr(layer, "moving_mean")][-1]
    last.set_weights([np.zeros(n.shape) if i < 2 else np.ones(n.shape) for i, n in enumerate(last.weights)])


def identity_plain(block):
    for layer in block.layers:
        if hasattr(layer, "kernel"):
            kernel = np.zeros(layer.kernel.shape)
            kernel[1, 1] = np.eye(kernel.shape[-1])
            layer.kernel.assign(kernel)
        elif hasattr(layer, "moving_mean"):
            ones = np.ones(layer.gamma.shape)
            layer.set_weights([0 * ones, 0 * ones, 0 * ones, ones])


# %% gap="identity" why="leaves the filters of the plain block as they are"
def identity_residual(block):
    last = [layer for layer in block.layers if hasattr(layer, "moving_mean")][-1]
    last.set_weights([np.zeros(n.shape) if i < 2 else np.ones(n.shape) for i, n in enumerate(last.weights)])


def identity_plain(block):
    for layer in block.layers:
        if hasattr(layer, "kernel"):
            kernel = np.zeros(layer.kernel.shape)
            kernel = np.array(layer.kernel)
            layer.kernel.assign(kernel)
        elif hasattr(layer, "moving_mean"):
            ones = np.ones(layer.gamma.shape)
            layer.set_weights([ones, 0 * ones, 0 * ones, ones])
