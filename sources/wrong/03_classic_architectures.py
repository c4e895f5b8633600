# %% gap="whole-kernel" why="deals the channels out in turn, like cards"
def group_table(channels, filters, groups):
    return [list(range(k % groups, channels, groups)) for k in range(filters)]


def whole_kernel(weights, table, channels):
    f = len(weights[0])
    kernel = np.zeros((f, f, channels, len(table)))
    for k, seen in enumerate(table):
        kernel[:, :, list(seen), k] = weights[k]
    return kernel


# %% gap="whole-kernel" why="takes the channels in rising order, whatever the table says"
def group_table(channels, filters, groups):
    seen, own = channels // groups, filters // groups
    return [list(range(k // own * seen, (k // own + 1) * seen)) for k in range(filters)]


def whole_kernel(weights, table, channels):
    f = len(weights[0])
    kernel = np.zeros((f, f, channels, len(table)))
    for k, seen in enumerate(table):
        kernel[:, :, sorted(seen), k] = weights[k]
    return kernel


# %% gap="whole-kernel" why="puts the weights of every filter on the first channels"
def group_table(channels, filters, groups):
    seen, own = channels // groups, filters // groups
    return [list(range(k // own * seen, (k // own + 1) * seen)) for k in range(filters)]


def whole_kernel(weights, table, channels):
    f = len(weights[0])
    kernel = np.zeros((f, f, channels, len(table)))
    for k, seen in enumerate(table):
        kernel[:, :, : len(seen), k] = weights[k]
    return kernel


# %% gap="whole-kernel" why="every filter sees everything: ones in the place of zeros"
def group_table(channels, filters, groups):
    return [list(range(channels)) for k in range(filters)]


def whole_kernel(weights, table, channels):
    f = len(weights[0])
    kernel = np.ones((f, f, channels, len(table)))
    for k, seen in enumerate(table):
        kernel[:, :, list(seen), k] = weights[k]
    return kernel


# %% gap="whole-kernel" why="returns nothing"
def group_table(channels, filters, groups):
    seen, own = channels // groups, filters // groups
    return [list(range(k // own * seen, (k // own + 1) * seen)) for k in range(filters)]


def whole_kernel(weights, table, channels):
    kernel = np.zeros((len(weights[0]), len(weights[0]), channels, len(table)))
    for k, seen in enumerate(table):
        kernel[:, :, list(seen), k] = weights[k]


# %% gap="merge" why="turns the second filter round, as for a true convolution"
def merge(first, second):
    f, g = len(first), len(second)
    merged = np.zeros((f + g - 1, f + g - 1, first.shape[2], second.shape[3]))
    for row, column in np.ndindex(g, g):
        part = first @ second[::-1, ::-1][row, column]
        merged[row : row + f, column : column + f] += part
    return merged


# %% gap="merge" why="lays the second filter over the first in the middle: no overlap is added"
def merge(first, second):
    f, g = len(first), len(second)
    merged = np.zeros((f + g - 1, f + g - 1, first.shape[2], second.shape[3]))
    for row, column in np.ndindex(g, g):
        merged[row : row + f, column : column + f] = first @ second[row, column]
    return merged


# %% gap="merge" why="takes only one of the channels between"
def merge(first, second):
    f, g = len(first), len(second)
    merged = np.zeros((f + g - 1, f + g - 1, first.shape[2], second.shape[3]))
    for row, column in np.ndindex(g, g):
        part = first[..., :1] @ second[row, column][:1]
        merged[row : row + f, column : column + f] += part
    return merged


# %% gap="merge" why="rows and columns swapped"
def merge(first, second):
    f, g = len(first), len(second)
    merged = np.zeros((f + g - 1, f + g - 1, first.shape[2], second.shape[3]))
    for row, column in np.ndindex(g, g):
        part = first @ second[column, row]
        merged[row : row + f, column : column + f] += part
    return merged


# %% gap="merge" why="multiplies the filters place by place"
def merge(first, second):
    size = len(first) + len(second) - 1
    merged = np.zeros((size, size, first.shape[2], second.shape[3]))
    merged[: len(first), : len(first)] = np.einsum("ijab,ijbc->ijac", first, second)
    return merged


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


# %% gap="wide-view" why="the pools at the end: sees little"
def wide_view():
    return "16 16 16 16 16 M 16 M 64:1"


# %% gap="wide-view" why="wide enough, but twice the parameters"
def wide_view():
    return "16 M 16 M 16 16 16 16 16 16 64"


# %% gap="wide-view" why="three pools"
def wide_view():
    return "8 M 8 M 8 M 8 8 8 8 64:1"


# %% gap="wide-view" why="pools first, before any convolution"
def wide_view():
    return "M M 8 8 8 8 8 8 8 64:1"


# %% gap="wide-view" why="a list"
def wide_view():
    return ["8", "M", "8", "M", "16"]


# %% gap="slide" why="reads the weights of the first dense layer channel by channel"
def slide(reader):
    image = x = keras.Input((None, None, reader.input_shape[-1]))
    size = (1, 1)
    for layer in reader.layers:
        if isinstance(layer, layers.Flatten):
            size = tuple(layer.input.shape[1:3])
        elif isinstance(layer, layers.Dense):
            kernel, bias = layer.get_weights()
            filters, channels = layers.Conv2D(layer.units, size, activation=layer.activation), x.shape[-1]
            x = filters(x)
            kernel = kernel.reshape(channels, *size, layer.units).transpose(1, 2, 0, 3)
            filters.set_weights([kernel, bias])
            size = (1, 1)
        else:
            x = layer(x)
    return keras.Model(image, x)


# %% gap="slide" why="forgets the activations of the dense layers"
def slide(reader):
    image = x = keras.Input((None, None, reader.input_shape[-1]))
    size = (1, 1)
    for layer in reader.layers:
        if isinstance(layer, layers.Flatten):
            size = tuple(layer.input.shape[1:3])
        elif isinstance(layer, layers.Dense):
            kernel, bias = layer.get_weights()
            filters, channels = layers.Conv2D(layer.units, size), x.shape[-1]
            x = filters(x)
            filters.set_weights([kernel.reshape(*size, channels, layer.units), bias])
            size = (1, 1)
        else:
            x = layer(x)
    return keras.Model(image, x)


# %% gap="slide" why="forgets the biases"
def slide(reader):
    image = x = keras.Input((None, None, reader.input_shape[-1]))
    size = (1, 1)
    for layer in reader.layers:
        if isinstance(layer, layers.Flatten):
            size = tuple(layer.input.shape[1:3])
        elif isinstance(layer, layers.Dense):
            kernel, _ = layer.get_weights()
            options = {"activation": layer.activation, "use_bias": False}
            filters, channels = layers.Conv2D(layer.units, size, **options), x.shape[-1]
            x = filters(x)
            filters.set_weights([kernel.reshape(*size, channels, layer.units)])
            size = (1, 1)
        else:
            x = layer(x)
    return keras.Model(image, x)


# %% gap="slide" why="pads, so that there are places at the border where no window lies"
def slide(reader):
    image = x = keras.Input((None, None, reader.input_shape[-1]))
    size = (1, 1)
    for layer in reader.layers:
        if isinstance(layer, layers.Flatten):
            size = tuple(layer.input.shape[1:3])
        elif isinstance(layer, layers.Dense):
            kernel, bias = layer.get_weights()
            options = {"activation": layer.activation, "padding": "same"}
            filters, channels = layers.Conv2D(layer.units, size, **options), x.shape[-1]
            x = filters(x)
            filters.set_weights([kernel.reshape(*size, channels, layer.units), bias])
            size = (1, 1)
        else:
            x = layer(x)
    return keras.Model(image, x)


# %% gap="slide" why="averages the map in the place of the large filters"
def slide(reader):
    image = x = keras.Input((None, None, reader.input_shape[-1]))
    for layer in reader.layers:
        if isinstance(layer, (layers.Flatten, layers.Dense)):
            continue
        x = layer(x)
    return keras.Model(image, layers.Conv2D(reader.output_shape[-1], 1)(x))


# %% gap="slide" why="returns the reader itself"
def slide(reader):
    return reader


# %% gap="inception" why="the 5 x 5 is a 3 x 3"
def naive(x, one, three, five, unit=conv):
    pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
    return layers.Concatenate()([unit(x, one, 1), unit(x, three, 3), unit(x, five, 3), pooled])


def inception(x, one, reduce3, three, reduce5, five, projection, unit=conv):
    pooled = unit(layers.MaxPooling2D(3, 1, padding="same")(x), projection, 1)
    branches = [unit(x, one, 1), unit(unit(x, reduce3, 1), three, 3), unit(unit(x, reduce5, 1), five, 3), pooled]
    return layers.Concatenate()(branches)


# %% gap="inception" why="pools by the mean"
def naive(x, one, three, five, unit=conv):
    pooled = layers.AveragePooling2D(3, 1, padding="same")(x)
    return layers.Concatenate()([unit(x, one, 1), unit(x, three, 3), unit(x, five, 5), pooled])


def inception(x, one, reduce3, three, reduce5, five, projection, unit=conv):
    pooled = unit(layers.AveragePooling2D(3, 1, padding="same")(x), projection, 1)
    branches = [unit(x, one, 1), unit(unit(x, reduce3, 1), three, 3), unit(unit(x, reduce5, 1), five, 5), pooled]
    return layers.Concatenate()(branches)


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


# %% gap="designs" why="linear classifiers: one has no convolution, the other three modules that reach nothing"
def vgg_like(image, classes):
    return layers.Dense(classes)(layers.Flatten()(image))


def inception_like(image, classes):
    return layers.Dense(classes)(layers.Flatten()(image))


# %% gap="designs" why="twice the channels on the large maps: past the budget"
def vgg_like(image, classes):
    x = convolutions(image, "48 48 M 96 96 M 128", conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def inception_like(image, classes):
    x = convolutions(image, "16 M 32 M", conv_bn)
    for _ in range(3):
        x = inception(x, 16, 16, 32, 4, 8, 8, conv_bn)
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


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
