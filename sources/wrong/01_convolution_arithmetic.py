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


# %% gap="output-size" why="refuses a filter that is larger than the input before padding"
def output_size(n, f, s=1, p=0, d=1):
    if d * (f - 1) + 1 > n:
        raise ValueError("nothing fits")
    return (n + 2 * p - d * (f - 1) - 1) // s + 1


# %% gap="output-size" why="a float, on which the next gaps would stumble"
def output_size(n, f, s=1, p=0, d=1):
    room = n + 2 * p - (d * (f - 1) + 1)
    if room < 0:
        raise ValueError("nothing fits")
    return np.floor(room / s) + 1


# %% gap="output-size" why="the course's own function"
def output_size(n, f, s=1, p=0, d=1):
    return arithmetic.output_size(n, f, s, p, d)


# %% gap="conv2d" why="turns the filter round: convolution in the strict sense"
def conv2d(x, kernel, bias, s=1, p=0):
    f, filters = kernel.shape[0], kernel.shape[-1]
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    height, width = output_size(x.shape[0], f, s, p), output_size(x.shape[1], f, s, p)
    output = np.zeros((height, width, filters))
    for row, column, k in np.ndindex(*output.shape):
        window = padded[row * s : row * s + f, column * s : column * s + f]
        output[row, column, k] = np.sum(window * kernel[::-1, ::-1, :, k]) + bias[k]
    return output


# %% gap="conv2d" why="swaps rows and columns of the filter"
def conv2d(x, kernel, bias, s=1, p=0):
    f, filters = kernel.shape[0], kernel.shape[-1]
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    height, width = output_size(x.shape[0], f, s, p), output_size(x.shape[1], f, s, p)
    output = np.zeros((height, width, filters))
    for row, column, k in np.ndindex(*output.shape):
        window = padded[row * s : row * s + f, column * s : column * s + f]
        output[row, column, k] = np.sum(window * kernel[..., k].transpose(1, 0, 2)) + bias[k]
    return output


# %% gap="conv2d" why="forgets the bias"
def conv2d(x, kernel, bias, s=1, p=0):
    f, filters = kernel.shape[0], kernel.shape[-1]
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    height, width = output_size(x.shape[0], f, s, p), output_size(x.shape[1], f, s, p)
    output = np.zeros((height, width, filters))
    for row, column, k in np.ndindex(*output.shape):
        window = padded[row * s : row * s + f, column * s : column * s + f]
        output[row, column, k] = np.sum(window * kernel[..., k])
    return output


# %% gap="conv2d" why="pads at the bottom and right only"
def conv2d(x, kernel, bias, s=1, p=0):
    f, filters = kernel.shape[0], kernel.shape[-1]
    padded = np.pad(x, ((0, 2 * p), (0, 2 * p), (0, 0)))
    height, width = output_size(x.shape[0], f, s, p), output_size(x.shape[1], f, s, p)
    output = np.zeros((height, width, filters))
    for row, column, k in np.ndindex(*output.shape):
        window = padded[row * s : row * s + f, column * s : column * s + f]
        output[row, column, k] = np.sum(window * kernel[..., k]) + bias[k]
    return output


# %% gap="conv2d" why="ignores the stride"
def conv2d(x, kernel, bias, s=1, p=0):
    f, filters = kernel.shape[0], kernel.shape[-1]
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    height, width = output_size(x.shape[0], f, s, p), output_size(x.shape[1], f, s, p)
    output = np.zeros((height, width, filters))
    for row, column, k in np.ndindex(*output.shape):
        window = padded[row : row + f, column : column + f]
        output[row, column, k] = np.sum(window * kernel[..., k]) + bias[k]
    return output


# %% gap="conv2d" why="one position short in both directions"
def conv2d(x, kernel, bias, s=1, p=0):
    f, filters = kernel.shape[0], kernel.shape[-1]
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    height, width = output_size(x.shape[0], f, s, p), output_size(x.shape[1], f, s, p)
    output = np.zeros((height - 1, width - 1, filters))
    for row, column, k in np.ndindex(*output.shape):
        window = padded[row * s : row * s + f, column * s : column * s + f]
        output[row, column, k] = np.sum(window * kernel[..., k]) + bias[k]
    return output


# %% gap="conv2d" why="adds the bias once for every channel"
def conv2d(x, kernel, bias, s=1, p=0):
    f, filters = kernel.shape[0], kernel.shape[-1]
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    height, width = output_size(x.shape[0], f, s, p), output_size(x.shape[1], f, s, p)
    output = np.zeros((height, width, filters))
    for row, column, k in np.ndindex(*output.shape):
        window = padded[row * s : row * s + f, column * s : column * s + f]
        output[row, column, k] = np.sum(window * kernel[..., k] + bias[k] / f**2)
    return output


# %% gap="conv2d" why="takes every image for a square one"
def conv2d(x, kernel, bias, s=1, p=0):
    f, filters = kernel.shape[0], kernel.shape[-1]
    padded = np.pad(x, ((p, p), (p, p), (0, 0)))
    height, width = output_size(min(x.shape[:2]), f, s, p), output_size(min(x.shape[:2]), f, s, p)
    output = np.zeros((height, width, filters))
    for row, column, k in np.ndindex(*output.shape):
        window = padded[row * s : row * s + f, column * s : column * s + f]
        output[row, column, k] = np.sum(window * kernel[..., k]) + bias[k]
    return output


# %% gap="conv2d" why="the course's own function"
def conv2d(x, kernel, bias, s=1, p=0):
    return arithmetic.conv2d(x, kernel, s, p) + bias


# %% gap="matrix" why="counts pixels column by column"
def convolution_matrix(kernel, n, s=1, p=0):
    f, m = len(kernel), output_size(n, len(kernel), s, p)
    matrix = np.zeros((m * m, n * n))
    for row, column, a, b in np.ndindex(m, m, f, f):
        y, x = row * s + a - p, column * s + b - p
        if 0 <= y < n and 0 <= x < n:
            matrix[row * m + column, x * n + y] = kernel[a, b]
    return matrix


# %% gap="matrix" why="the transpose: inputs as rows"
def convolution_matrix(kernel, n, s=1, p=0):
    f, m = len(kernel), output_size(n, len(kernel), s, p)
    matrix = np.zeros((m * m, n * n))
    for row, column, a, b in np.ndindex(m, m, f, f):
        y, x = row * s + a - p, column * s + b - p
        if 0 <= y < n and 0 <= x < n:
            matrix[row * m + column, y * n + x] = kernel[a, b]
    return matrix.T


# %% gap="matrix" why="weights on the padding wrap round to the other side"
def convolution_matrix(kernel, n, s=1, p=0):
    f, m = len(kernel), output_size(n, len(kernel), s, p)
    matrix = np.zeros((m * m, n * n))
    for row, column, a, b in np.ndindex(m, m, f, f):
        y, x = row * s + a - p, column * s + b - p
        matrix[row * m + column, y % n * n + x % n] += kernel[a, b]
    return matrix


# %% gap="matrix" why="turns the filter round"
def convolution_matrix(kernel, n, s=1, p=0):
    f, m = len(kernel), output_size(n, len(kernel), s, p)
    matrix = np.zeros((m * m, n * n))
    for row, column, a, b in np.ndindex(m, m, f, f):
        y, x = row * s + a - p, column * s + b - p
        if 0 <= y < n and 0 <= x < n:
            matrix[row * m + column, y * n + x] = kernel[f - 1 - a, f - 1 - b]
    return matrix


# %% gap="matrix" why="the course's own function"
def convolution_matrix(kernel, n, s=1, p=0):
    return arithmetic.convolution_matrix(kernel, (n, n), s, p)


# %% gap="transposed" why="overwrites where stamps overlap"
def conv2d_transpose(y, kernel, s=1, p=0):
    f = len(kernel)
    output = np.zeros(((y.shape[0] - 1) * s + f, (y.shape[1] - 1) * s + f))
    for row, column in np.ndindex(*y.shape):
        output[row * s : row * s + f, column * s : column * s + f] = y[row, column] * kernel
    return output[p : output.shape[0] - p, p : output.shape[1] - p]


# %% gap="transposed" why="turns the filter round"
def conv2d_transpose(y, kernel, s=1, p=0):
    f = len(kernel)
    output = np.zeros(((y.shape[0] - 1) * s + f, (y.shape[1] - 1) * s + f))
    for row, column in np.ndindex(*y.shape):
        output[row * s : row * s + f, column * s : column * s + f] += y[row, column] * kernel[::-1, ::-1]
    return output[p : output.shape[0] - p, p : output.shape[1] - p]


# %% gap="transposed" why="cuts the padding off at the bottom and right only"
def conv2d_transpose(y, kernel, s=1, p=0):
    f = len(kernel)
    output = np.zeros(((y.shape[0] - 1) * s + f, (y.shape[1] - 1) * s + f))
    for row, column in np.ndindex(*y.shape):
        output[row * s : row * s + f, column * s : column * s + f] += y[row, column] * kernel
    return output[: output.shape[0] - 2 * p, : output.shape[1] - 2 * p]


# %% gap="transposed" why="forgets that the stamps are wider than s"
def conv2d_transpose(y, kernel, s=1, p=0):
    f = len(kernel)
    output = np.zeros(((y.shape[0] - 1) * s + f, (y.shape[1] - 1) * s + f))
    for row, column in np.ndindex(*y.shape):
        output[row * s : row * s + f, column * s : column * s + f] += y[row, column] * kernel
    return output[p : output.shape[0] - p, p : output.shape[1] - p][: y.shape[0] * s, : y.shape[1] * s]


# %% gap="transposed" why="the course's own function"
def conv2d_transpose(y, kernel, s=1, p=0):
    return arithmetic.conv2d_transpose(y, kernel, s, p)


# %% gap="filter-gradient" why="overwrites: only the last place counts"
def filter_gradient(x, above, f, s=1, p=0):
    padded, gradient = np.pad(x, p), np.zeros((f, f))
    for row, column in np.ndindex(*above.shape):
        gradient = above[row, column] * padded[row * s : row * s + f, column * s : column * s + f]
    return gradient


# %% gap="filter-gradient" why="turns the answer round"
def filter_gradient(x, above, f, s=1, p=0):
    padded, gradient = np.pad(x, p), np.zeros((f, f))
    for row, column in np.ndindex(*above.shape):
        gradient += above[row, column] * padded[row * s : row * s + f, column * s : column * s + f]
    return gradient[::-1, ::-1]


# %% gap="filter-gradient" why="averages over the places"
def filter_gradient(x, above, f, s=1, p=0):
    padded, gradient = np.pad(x, p), np.zeros((f, f))
    for row, column in np.ndindex(*above.shape):
        gradient += above[row, column] * padded[row * s : row * s + f, column * s : column * s + f]
    return gradient / above.size


# %% gap="filter-gradient" why="ignores the stride"
def filter_gradient(x, above, f, s=1, p=0):
    padded, gradient = np.pad(x, p), np.zeros((f, f))
    for row, column in np.ndindex(*above.shape):
        gradient += above[row, column] * padded[row : row + f, column : column + f]
    return gradient


# %% gap="filter-gradient" why="forgets the padding"
def filter_gradient(x, above, f, s=1, p=0):
    padded, gradient = np.pad(x, ((0, 2 * p), (0, 2 * p))), np.zeros((f, f))
    for row, column in np.ndindex(*above.shape):
        gradient += above[row, column] * padded[row * s : row * s + f, column * s : column * s + f]
    return gradient


# %% gap="filter-gradient" why="the gradient of the input, cut to the filter's size"
def filter_gradient(x, above, f, s=1, p=0):
    return np.asarray(conv2d_transpose(above, np.ones((f, f)), s, p))[:f, :f]


# %% gap="filter-gradient" why="the course's own function: the gradient is the correlation of input and output gradient"
def filter_gradient(x, above, f, s=1, p=0):
    apart = np.zeros(((above.shape[0] - 1) * s + 1, (above.shape[1] - 1) * s + 1))
    apart[::s, ::s] = above
    return arithmetic.conv2d(np.pad(x, p), apart)[:f, :f]


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
    size, jump, start = 1, 1, 0.5
    fields = []
    for f, s, p, _ in layers:
        size += (f - 1) * jump
        start += ((f - 1) / 2 - p) * jump
        jump *= s
        fields.append((size, jump, start))
    return fields


# %% gap="receptive-field" why="takes the first pixel's corner for its centre"
def receptive_fields(layers):
    size, jump, start = 1, 1, 0.0
    fields = []
    for f, s, p, d in layers:
        size += d * (f - 1) * jump
        start += (d * (f - 1) / 2 - p) * jump
        jump *= s
        fields.append((size, jump, start))
    return fields


# %% gap="receptive-field" why="leaves the padding out of the start"
def receptive_fields(layers):
    size, jump, start = 1, 1, 0.5
    fields = []
    for f, s, _, d in layers:
        size += d * (f - 1) * jump
        start += (d * (f - 1) / 2) * jump
        jump *= s
        fields.append((size, jump, start))
    return fields


# %% gap="receptive-field" why="the course's own function"
def receptive_fields(layers):
    return arithmetic.receptive_field_chain(layers)[["size", "jump", "start"]].to_numpy()


# %% gap="count-net" why="a bias for every weight"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p = numbers
            weights = f * f * channels * filters
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
            parameters, macs = 2 * weights, height * width * weights
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            inputs, (units,) = height * width * channels, numbers
            parameters, macs = (inputs + 1) * units, inputs * units
            height, width, channels = 1, 1, units
        rows.append((parameters, macs, height * width * channels))
    return rows


# %% gap="count-net" why="one bias for the whole layer"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p = numbers
            weights = f * f * channels * filters
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
            parameters, macs = weights + 1, height * width * weights
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            inputs, (units,) = height * width * channels, numbers
            parameters, macs = (inputs + 1) * units, inputs * units
            height, width, channels = 1, 1, units
        rows.append((parameters, macs, height * width * channels))
    return rows


# %% gap="count-net" why="counts MACs on H by W inputs, not on the outputs"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p = numbers
            weights = f * f * channels * filters
            parameters, macs = weights + filters, height * width * weights
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            inputs, (units,) = height * width * channels, numbers
            parameters, macs = (inputs + 1) * units, inputs * units
            height, width, channels = 1, 1, units
        rows.append((parameters, macs, height * width * channels))
    return rows


# %% gap="count-net" why="counts the biases as MACs"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p = numbers
            weights = f * f * channels * filters
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
            parameters, macs = weights + filters, height * width * (weights + filters)
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            inputs, (units,) = height * width * channels, numbers
            parameters, macs = (inputs + 1) * units, inputs * units
            height, width, channels = 1, 1, units
        rows.append((parameters, macs, height * width * channels))
    return rows


# %% gap="count-net" why="pooling is given parameters like a convolution"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p = numbers
            weights = f * f * channels * filters
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
            parameters, macs = weights + filters, height * width * weights
        elif kind == "pool":
            parameters = numbers[0] ** 2 * channels
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            inputs, (units,) = height * width * channels, numbers
            parameters, macs = (inputs + 1) * units, inputs * units
            height, width, channels = 1, 1, units
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
            weights = f * f * channels * filters
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
            parameters, macs = weights + filters, height * width * weights
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            inputs, (units,) = channels, numbers
            parameters, macs = (inputs + 1) * units, inputs * units
            height, width, channels = 1, 1, units
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
            weights = f * f * channels * filters
            height, width, channels = output_size(height, f, s, p), output_size(width, f, s, p), filters
            parameters, macs = weights + filters, height * width * weights
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            inputs, (units,) = height * width * channels, numbers
            parameters, macs = inputs * units, inputs * units
            height, width, channels = 1, 1, units
        rows.append((parameters, macs, height * width * channels))
    return rows


# %% gap="count-net" why="takes every image for a square one"
def count_net(shape, layers):
    height, width, channels = shape
    rows = []
    for kind, *numbers in layers:
        parameters = macs = 0
        if kind == "conv":
            filters, f, s, p = numbers
            weights = f * f * channels * filters
            height, width, channels = output_size(height, f, s, p), output_size(height, f, s, p), filters
            parameters, macs = weights + filters, height * width * weights
        elif kind == "pool":
            height, width = output_size(height, *numbers), output_size(width, *numbers)
        else:
            inputs, (units,) = height * width * channels, numbers
            parameters, macs = (inputs + 1) * units, inputs * units
            height, width, channels = 1, 1, units
        rows.append((parameters, macs, height * width * channels))
    return rows
