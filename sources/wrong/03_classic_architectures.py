# %% gap="convolution" why="rounds the size up"
def convolution(n, channels, filters, f, s=1, p=0, groups=1):
    size = -(-(n + 2 * p - f) // s) + 1
    weights = f * f * (channels // groups) * filters
    return size, weights + filters, size * size * weights


# %% gap="convolution" why="lets every filter see all channels, whatever the groups"
def convolution(n, channels, filters, f, s=1, p=0, groups=1):
    size = (n + 2 * p - f) // s + 1
    weights = f * f * channels * filters
    return size, weights + filters, size * size * weights


# %% gap="convolution" why="divides by the groups twice: channels and filters"
def convolution(n, channels, filters, f, s=1, p=0, groups=1):
    size = (n + 2 * p - f) // s + 1
    weights = f * f * (channels // groups) * (filters // groups)
    return size, weights + filters, size * size * weights


# %% gap="convolution" why="counts the biases as multiplications"
def convolution(n, channels, filters, f, s=1, p=0, groups=1):
    size = (n + 2 * p - f) // s + 1
    parameters = f * f * (channels // groups) * filters + filters
    return size, parameters, size * size * parameters


# %% gap="follow" why="feeds the first dense layer with one value for each channel, as if a global average stood before it"
def follow(network, n, channels):
    rows, shape = [], (n, n, channels)
    for kind, *numbers in network:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p, groups = numbers
            size, parameters, macs = convolution(shape[0], shape[2], filters, f, s, p, groups)
            shape = (size, size, filters)
        elif kind == "pool":
            size = (shape[0] - numbers[0]) // numbers[1] + 1
            shape = (size, size, shape[2])
        else:
            macs = shape[-1] * numbers[0]
            parameters = macs + numbers[0]
            shape = (numbers[0],)
        rows.append((shape, parameters, macs))
    return rows


# %% gap="follow" why="divides the map by the stride of a pool, whatever its window"
def follow(network, n, channels):
    rows, shape = [], (n, n, channels)
    for kind, *numbers in network:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p, groups = numbers
            size, parameters, macs = convolution(shape[0], shape[2], filters, f, s, p, groups)
            shape = (size, size, filters)
        elif kind == "pool":
            size = shape[0] // numbers[1]
            shape = (size, size, shape[2])
        else:
            macs = int(np.prod(shape)) * numbers[0]
            parameters = macs + numbers[0]
            shape = (numbers[0],)
        rows.append((shape, parameters, macs))
    return rows


# %% gap="follow" why="counts pools that hang over the edge"
def follow(network, n, channels):
    rows, shape = [], (n, n, channels)
    for kind, *numbers in network:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p, groups = numbers
            size, parameters, macs = convolution(shape[0], shape[2], filters, f, s, p, groups)
            shape = (size, size, filters)
        elif kind == "pool":
            size = -(-(shape[0] - numbers[0]) // numbers[1]) + 1
            shape = (size, size, shape[2])
        else:
            macs = int(np.prod(shape)) * numbers[0]
            parameters = macs + numbers[0]
            shape = (numbers[0],)
        rows.append((shape, parameters, macs))
    return rows


# %% gap="follow" why="leaves the biases of the dense layers out"
def follow(network, n, channels):
    rows, shape = [], (n, n, channels)
    for kind, *numbers in network:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p, groups = numbers
            size, parameters, macs = convolution(shape[0], shape[2], filters, f, s, p, groups)
            shape = (size, size, filters)
        elif kind == "pool":
            size = (shape[0] - numbers[0]) // numbers[1] + 1
            shape = (size, size, shape[2])
        else:
            parameters = macs = int(np.prod(shape)) * numbers[0]
            shape = (numbers[0],)
        rows.append((shape, parameters, macs))
    return rows


# %% gap="follow" why="forgets the groups"
def follow(network, n, channels):
    rows, shape = [], (n, n, channels)
    for kind, *numbers in network:
        parameters = macs = 0
        if kind == "conv":
            size, parameters, macs = convolution(shape[0], shape[2], *numbers[:4])
            shape = (size, size, numbers[0])
        elif kind == "pool":
            size = (shape[0] - numbers[0]) // numbers[1] + 1
            shape = (size, size, shape[2])
        else:
            macs = int(np.prod(shape)) * numbers[0]
            parameters = macs + numbers[0]
            shape = (numbers[0],)
        rows.append((shape, parameters, macs))
    return rows


# %% gap="partial" why="one bias for each connection"
def partial(table, f):
    return sum((f * f + 1) * len(seen) for seen in table)


# %% gap="partial" why="no biases"
def partial(table, f):
    return sum(f * f * len(seen) for seen in table)


# %% gap="partial" why="lets every filter see all maps"
def partial(table, f):
    maps = len(set().union(*table))
    return len(table) * (maps * f * f + 1)


# %% gap="vgg" why="makes 256:1 a 3 x 3 convolution like the others"
def convolutions(x, text, unit=conv):
    for word in text.split():
        x = layers.MaxPooling2D(2, 2)(x) if word == "M" else unit(x, int(word.partition(":")[0]), 3)
    return x


# %% gap="vgg" why="pools by the mean"
def convolutions(x, text, unit=conv):
    for word in text.split():
        if word == "M":
            x = layers.AveragePooling2D(2, 2, name=f"pool_{len(x.shape)}_{id(x)}")(x)
        else:
            filters, _, f = word.partition(":")
            x = unit(x, int(filters), int(f or 3))
    return x


# %% gap="vgg" why="always takes conv, whatever unit is given"
def convolutions(x, text, unit=conv):
    for word in text.split():
        if word == "M":
            x = layers.MaxPooling2D(2, 2)(x)
        else:
            filters, _, f = word.partition(":")
            x = conv(x, int(filters), int(f or 3))
    return x


# %% gap="vgg" why="drops the ReLU of the 1 x 1"
def convolutions(x, text, unit=conv):
    for word in text.split():
        if word == "M":
            x = layers.MaxPooling2D(2, 2)(x)
        elif ":" in word:
            x = layers.Conv2D(int(word.partition(":")[0]), 1)(x)
        else:
            x = unit(x, int(word), 3)
    return x


# %% gap="inception" why="projects before the pooling instead of behind it"
def naive(x, one, three, five, unit=conv):
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    return layers.Concatenate()([unit(x, one, 1), unit(x, three, 3), unit(x, five, 5), pooled])


def inception(x, one, reduce3, three, reduce5, five, projection, unit=conv):
    branches = [
        unit(x, one, 1),
        unit(unit(x, reduce3, 1), three, 3),
        unit(unit(x, reduce5, 1), five, 5),
        layers.MaxPooling2D(3, 1, padding="same")(layers.Conv2D(projection, 1)(x)),
    ]
    return layers.Concatenate()(branches)


# %% gap="inception" why="leaves the pool's channels as they are in the reduced form too"
def naive(x, one, three, five, unit=conv):
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    return layers.Concatenate()([unit(x, one, 1), unit(x, three, 3), unit(x, five, 5), pooled])


def inception(x, one, reduce3, three, reduce5, five, projection, unit=conv):
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    branches = [unit(x, one, 1), unit(unit(x, reduce3, 1), three, 3), unit(unit(x, reduce5, 1), five, 5), pooled]
    return layers.Concatenate()(branches)


# %% gap="inception" why="stacks the pool's branch first"
def naive(x, one, three, five, unit=conv):
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    return layers.Concatenate()([pooled, unit(x, one, 1), unit(x, three, 3), unit(x, five, 5)])


def inception(x, one, reduce3, three, reduce5, five, projection, unit=conv):
    branches = [
        unit(layers.MaxPooling2D(3, 1, padding="same")(x), projection, 1),
        unit(x, one, 1),
        unit(unit(x, reduce3, 1), three, 3),
        unit(unit(x, reduce5, 1), five, 5),
    ]
    return layers.Concatenate()(branches)


# %% gap="designs" why="twice the channels on the large maps: past the budget"
def vgg_like(image, classes):
    x = convolutions(image, "48 48 M 96 96 M 128", conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def inception_like(image, classes):
    x = convolutions(image, "16 M 32 M", conv_bn)
    for _ in range(3):
        x = inception(x, 16, 16, 32, 4, 8, 8, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


# %% gap="inception" why="always takes conv, whatever unit is given"
def naive(x, one, three, five, unit=conv):
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    return layers.Concatenate()([conv(x, one, 1), conv(x, three, 3), conv(x, five, 5), pooled])


def inception(x, one, reduce3, three, reduce5, five, projection, unit=conv):
    branches = [
        conv(x, one, 1),
        conv(conv(x, reduce3, 1), three, 3),
        conv(conv(x, reduce5, 1), five, 5),
        conv(layers.MaxPooling2D(3, 1, padding="same")(x), projection, 1),
    ]
    return layers.Concatenate()(branches)


# %% gap="designs" why="a softmax where logits are asked for"
def vgg_like(image, classes):
    x = convolutions(image, "16 16 M 32 32 M 64 64 M 128", conv_bn)
    return layers.Dense(classes, "softmax")(layers.GlobalAveragePooling2D()(x))


def inception_like(image, classes):
    x = convolutions(image, "16 M 32 M", conv_bn)
    for _ in range(3):
        x = inception(x, 16, 16, 32, 4, 8, 8, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


# %% gap="designs" why="inception modules only twice"
def vgg_like(image, classes):
    x = convolutions(image, "16 16 M 32 32 M 64 64 M 128", conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def inception_like(image, classes):
    x = convolutions(image, "16 M 32 M", conv_bn)
    for _ in range(2):
        x = inception(x, 16, 16, 32, 4, 8, 8, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


# %% gap="designs" why="convolutions without normalisation"
def vgg_like(image, classes):
    x = convolutions(image, "16 16 M 32 32 M 64 64 M 128", conv)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def inception_like(image, classes):
    x = convolutions(image, "16 M 32 M", conv_bn)
    for _ in range(3):
        x = inception(x, 16, 16, 32, 4, 8, 8, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


# %% gap="designs" why="inception modules in both designs"
def vgg_like(image, classes):
    x = convolutions(image, "16 M 32 M", conv_bn)
    for _ in range(3):
        x = inception(x, 16, 16, 32, 4, 8, 8, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def inception_like(image, classes):
    x = convolutions(image, "16 M 32 M", conv_bn)
    for _ in range(3):
        x = inception(x, 16, 16, 32, 4, 8, 8, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


# %% gap="designs" why="a dense head on the flattened map in place of the global average"
def vgg_like(image, classes):
    x = layers.Flatten()(convolutions(image, "16 M 32 M 64 M", conv_bn))
    return layers.Dense(classes)(layers.Dense(64, "relu")(x))


def inception_like(image, classes):
    x = convolutions(image, "16 M 32 M", conv_bn)
    for _ in range(3):
        x = inception(x, 16, 16, 32, 4, 8, 8, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
