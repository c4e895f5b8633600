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


# %% gap="macs" why="forgets that the pointwise convolution works at every position"
def separable_macs(size, kernel, channels, filters):
    positions = size**2
    return positions * kernel**2 * channels * filters, positions * kernel**2 * channels + channels * filters


# %% gap="macs" why="counts the depthwise part alone"
def separable_macs(size, kernel, channels, filters):
    return size**2 * kernel**2 * channels * filters, size**2 * kernel**2 * channels


# %% gap="macs" why="multiplies the two parts"
def separable_macs(size, kernel, channels, filters):
    return size**2 * kernel**2 * channels * filters, size**2 * kernel**2 * channels * channels * filters


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
