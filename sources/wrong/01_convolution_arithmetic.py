# %% gap="output-size" why="rounds up, as one printed formula does"
def output_size(n, f, s=1, p=0, d=1):
    room = n + 2 * p - (d * (f - 1) + 1)
    if room < 0:
        raise ValueError("nothing fits")
    return -(-room // s) + 1


# %% gap="output-size" why="forgets the filter's own size, as in 5/2 + 1"
def output_size(n, f, s=1, p=0, d=1):
    if n + 2 * p < d * (f - 1) + 1:
        raise ValueError("nothing fits")
    return (n + 2 * p) // s + 1


# %% gap="output-size" why="pads on one side only"
def output_size(n, f, s=1, p=0, d=1):
    room = n + p - (d * (f - 1) + 1)
    if room < 0:
        raise ValueError("nothing fits")
    return room // s + 1


# %% gap="output-size" why="leaves the dilation out"
def output_size(n, f, s=1, p=0, d=1):
    if n + 2 * p < f:
        raise ValueError("nothing fits")
    return (n + 2 * p - f) // s + 1


# %% gap="output-size" why="the right formula, but a filter that does not fit gives a number"
def output_size(n, f, s=1, p=0, d=1):
    return (n + 2 * p - d * (f - 1) - 1) // s + 1


# %% gap="conv2d" why="turns the filter round: convolution in the strict sense"
def conv2d(x, kernel, bias, s=1, p=0):
    return arithmetic.conv2d(x, kernel[::-1, ::-1], s, p) + bias


# %% gap="conv2d" why="forgets the bias"
def conv2d(x, kernel, bias, s=1, p=0):
    return arithmetic.conv2d(x, kernel, s, p)


# %% gap="conv2d" why="pads at the bottom and right only"
def conv2d(x, kernel, bias, s=1, p=0):
    return arithmetic.conv2d(np.pad(x, ((0, 2 * p), (0, 2 * p), (0, 0))), kernel, s) + bias


# %% gap="conv2d" why="ignores the stride"
def conv2d(x, kernel, bias, s=1, p=0):
    return arithmetic.conv2d(x, kernel, 1, p) + bias


# %% gap="conv2d" why="adds the bias once for every channel"
def conv2d(x, kernel, bias, s=1, p=0):
    return arithmetic.conv2d(x, kernel, s, p) + bias * x.shape[-1]


# %% gap="conv2d" why="takes every image for a square one"
def conv2d(x, kernel, bias, s=1, p=0):
    side = min(x.shape[:2])
    return arithmetic.conv2d(x[:side, :side], kernel, s, p) + bias


# %% gap="matrix" why="counts pixels column by column"
def convolution_matrix(kernel, n, s=1, p=0):
    matrix = arithmetic.convolution_matrix(kernel, (n, n), s, p)
    return matrix.reshape(-1, n, n).transpose(0, 2, 1).reshape(-1, n * n)


# %% gap="matrix" why="the transpose: inputs as rows"
def convolution_matrix(kernel, n, s=1, p=0):
    return arithmetic.convolution_matrix(kernel, (n, n), s, p).T


# %% gap="matrix" why="weights on the padding wrap round to the other side"
def convolution_matrix(kernel, n, s=1, p=0):
    f, m = len(kernel), output_size(n, len(kernel), s, p)
    matrix = np.zeros((m * m, n * n))
    for row, column, a, b in np.ndindex(m, m, f, f):
        matrix[row * m + column, (row * s + a - p) % n * n + (column * s + b - p) % n] += kernel[a, b]
    return matrix


# %% gap="matrix" why="turns the filter round"
def convolution_matrix(kernel, n, s=1, p=0):
    return arithmetic.convolution_matrix(kernel[::-1, ::-1], (n, n), s, p)


# %% gap="transposed" why="overwrites where stamps overlap"
def conv2d_transpose(y, kernel, s=1, p=0):
    f = len(kernel)
    output = np.zeros(((y.shape[0] - 1) * s + f, (y.shape[1] - 1) * s + f))
    for row, column in np.ndindex(*y.shape):
        output[row * s : row * s + f, column * s : column * s + f] = y[row, column] * kernel
    return output[p : output.shape[0] - p, p : output.shape[1] - p]


# %% gap="transposed" why="turns the filter round"
def conv2d_transpose(y, kernel, s=1, p=0):
    return arithmetic.conv2d_transpose(y, kernel[::-1, ::-1], s, p)


# %% gap="transposed" why="cuts the padding off at the bottom and right only"
def conv2d_transpose(y, kernel, s=1, p=0):
    full = arithmetic.conv2d_transpose(y, kernel, s)
    return full[: full.shape[0] - 2 * p, : full.shape[1] - 2 * p]


# %% gap="transposed" why="spreads y apart and forgets that the stamps are wider than s"
def conv2d_transpose(y, kernel, s=1, p=0):
    return arithmetic.conv2d_transpose(y, kernel, s, p)[: y.shape[0] * s, : y.shape[1] * s]


# %% gap="receptive-field" why="multiplies the jump before using it"
def receptive_fields(layers):
    size, jump, start = 1, 1, 0.5
    fields = []
    for f, s, p, d in layers:
        jump *= s
        size += d * (f - 1) * jump
        start += (d * (f - 1) / 2 - p) * jump
        fields.append((size, jump, start))
    return fields


# %% gap="receptive-field" why="adds filter sizes without the jump"
def receptive_fields(layers):
    size, jump, start = 1, 1, 0.5
    fields = []
    for f, s, p, d in layers:
        size += d * (f - 1)
        start += (d * (f - 1) / 2 - p) * jump
        jump *= s
        fields.append((size, jump, start))
    return fields


# %% gap="receptive-field" why="leaves the dilation out"
def receptive_fields(layers):
    return list(
        arithmetic.receptive_field_chain([(f, s, p) for f, s, p, _ in layers])[["size", "jump", "start"]].values
    )


# %% gap="receptive-field" why="takes the first pixel's corner for its centre"
def receptive_fields(layers):
    fields = arithmetic.receptive_field_chain(layers)
    return list(zip(fields["size"], fields["jump"], fields["start"] - 0.5))


# %% gap="count-convolution" why="a bias for every weight"
def count_convolution(height, width, channels, filters, f, s=1, p=0, groups=1):
    weights = f * f * (channels // groups) * filters
    return 2 * weights, output_size(height, f, s, p) * output_size(width, f, s, p) * weights


# %% gap="count-convolution" why="one bias for the whole layer"
def count_convolution(height, width, channels, filters, f, s=1, p=0, groups=1):
    weights = f * f * (channels // groups) * filters
    return weights + 1, output_size(height, f, s, p) * output_size(width, f, s, p) * weights


# %% gap="count-convolution" why="takes the output for H / s by W / s, as a printed formula does"
def count_convolution(height, width, channels, filters, f, s=1, p=0, groups=1):
    weights = f * f * (channels // groups) * filters
    return weights + filters, round(height / s * width / s * weights)


# %% gap="count-convolution" why="leaves the groups out"
def count_convolution(height, width, channels, filters, f, s=1, p=0, groups=1):
    weights = f * f * channels * filters
    return weights + filters, output_size(height, f, s, p) * output_size(width, f, s, p) * weights


# %% gap="count-net" why="pooling is given parameters like a convolution"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        if kind == "dense":
            inputs, (units,) = height * width * channels, numbers
            height, width, channels = 1, 1, units
            rows.append(((inputs + 1) * units, inputs * units, units))
            continue
        filters, f, s, p = numbers if kind == "conv" else (channels, *numbers, 0)
        parameters, macs = count_convolution(height, width, channels, filters, f, s, p)
        height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
        rows.append((parameters, macs, height * width * channels))
    return rows


# %% gap="count-net" why="the first dense layer sees one value a channel, not the whole volume"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p = numbers
            parameters, macs = count_convolution(height, width, channels, filters, f, s, p)
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            parameters, macs = (channels + 1) * numbers[0], channels * numbers[0]
            height, width, channels = 1, 1, numbers[0]
        rows.append((parameters, macs, height * width * channels))
    return rows


# %% gap="count-net" why="the dense layers have no biases"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p = numbers
            parameters, macs = count_convolution(height, width, channels, filters, f, s, p)
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            parameters = macs = height * width * channels * numbers[0]
            height, width, channels = 1, 1, numbers[0]
        rows.append((parameters, macs, height * width * channels))
    return rows
