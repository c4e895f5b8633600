"""Sizes, values and matrices of convolutions."""

import math
import operator

import numpy as np


def output_size(n, f, s=1, p=0, d=1, *, ceil=False):
    """Number of positions of a filter on an input: floor((n + 2p - d(f - 1) - 1) / s) + 1.

    Args:
        n: int, input size in pixels along one axis.
        f: int, filter (or pooling window) size.
        s: int, stride.
        p: zeros on either side, or "valid" (none), or "same" (as many as give ceil(n / s) positions, see
            `same_padding`).
        d: int, dilation: the filter's pixels lie `d` apart, so that it is d(f - 1) + 1 wide.
        ceil: round up instead, as a pooling layer may. The last window then hangs over the right edge; one that would
            start in the right padding is dropped (the rule of PyTorch's `ceil_mode`). Without effect on "same".

    Returns:
        int, at least 1.

    Raises:
        ValueError: the filter does not fit ("kernel 12 does not fit an input of 8 with padding 1"), or an argument is
            out of range.
    """
    n, f, s, d = _whole_numbers(n, f, s, d)
    if p == "same":
        return -(-n // s)
    p = whole_padding(p)
    room = n + 2 * p - d * (f - 1) - 1
    size = (-(-room // s) if ceil else room // s) + 1
    if ceil and (size - 1) * s >= n + p:
        size -= 1
    if size < 1:
        spread = f" with dilation {d}" if d > 1 else ""
        raise ValueError(f"kernel {f}{spread} does not fit an input of {n} with padding {p}")
    return size


def same_padding(n, f, s=1, d=1):
    """Zeros that padding "same" puts before and after an input of `n` pixels.

    The sum is what ceil(n / s) positions need; when it is odd, the extra zero goes to the end. So at stride 2 the same
    layer pads an even input differently from an odd one (TensorFlow's rule, which Keras follows on every backend).

    Args:
        n, f, s, d: int, as in `output_size`.

    Returns:
        (before, after), two ints.
    """
    n, f, s, d = _whole_numbers(n, f, s, d)
    total = max((-(-n // s) - 1) * s + d * (f - 1) + 1 - n, 0)
    return total // 2, total - total // 2


def transposed_output_size(n, f, s=1, p=0, d=1, output_padding=0):
    """Size that a transposed convolution gives: (n - 1)s - 2p + d(f - 1) + 1 + output_padding.

    It is the size of the inputs that a convolution with the same `f`, `s`, `p`, `d` maps to `n`. With stride s there
    are s such sizes; `output_padding` chooses among them.

    Args:
        n, f, s, d: int, as in `output_size`, with `n` the size of the transposed convolution's own input.
        p: int, pixels cropped from either side of the full result, or "valid" (none).
        output_padding: int below max(s, d), rows added at the end only.

    Returns:
        int, at least 1.

    Raises:
        ValueError: output_padding is not below max(s, d), or nothing would be left, the cases that PyTorch refuses; or
            an argument is out of range.
    """
    n, f, s, d = _whole_numbers(n, f, s, d)
    if p == "same":
        raise ValueError("under padding 'same' the size is n * s; here, pass a whole number or 'valid'")
    p, output_padding = whole_padding(p), whole_number("output padding", output_padding, 0)
    if output_padding >= max(s, d):
        raise ValueError(f"output padding {output_padding} must be smaller than the stride {s} or the dilation {d}")
    size = (n - 1) * s - 2 * p + d * (f - 1) + 1 + output_padding
    if size < 1:
        raise ValueError(f"padding {p} leaves nothing of an input of {n} with kernel {f} and stride {s}")
    return size


def whole_number(name, value, least=1):
    """The value as an int, or a ValueError that names it."""
    try:
        value = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def _whole_numbers(n, f, s, d):
    return tuple(map(whole_number, ("input", "kernel", "stride", "dilation"), (n, f, s, d)))


def whole_padding(p):
    """Zeros on either side, from an int or "valid"."""
    if isinstance(p, str):
        if p != "valid":
            raise ValueError(f"padding must be a whole number, 'valid' or 'same', got {p!r}")
        return 0
    return whole_number("padding", p, 0)


def padding_amounts(n, f, s, p, d):
    """Zeros before and after the input, from an int, "valid" or "same"."""
    if p == "same":
        return same_padding(n, f, s, d)
    return (whole_padding(p),) * 2


def conv2d(x, kernel, s=1, p=0, d=1, groups=1):
    """Two-dimensional convolution in NumPy: one matrix product for each pixel of the filter, summed.

    Exact on integers; a reference to compare with, not a fast one.

    Args:
        x: (..., H, W, C) array, or (H, W) with a two-dimensional kernel.
        kernel: (kh, kw, C / groups, K) array, Keras's layout, or (kh, kw). Not turned round.
        s, p, d: int stride, padding ("valid" and "same" too) and dilation, the same for both axes, as in `output_size`.
        groups: int; channels and filters are cut into as many parts, and each part of the filters sees one of the
            channels.

    Returns:
        (..., H', W', K) array, or (H', W'), of NumPy's common type of the two.

    Raises:
        ValueError: shapes or groups do not agree, or the filter does not fit.
    """
    x, kernel = np.asarray(x), np.asarray(kernel)
    if kernel.ndim == 2 and x.ndim == 2:
        return conv2d(x[..., None], kernel[..., None, None], s, p, d)[..., 0]
    if kernel.ndim != 4 or x.ndim < 3:
        raise ValueError(f"expected (..., H, W, C) and (kh, kw, C / groups, K), got {x.shape} and {kernel.shape}")
    kh, kw, depth, filters = kernel.shape
    if depth * groups != x.shape[-1] or filters % groups:
        raise ValueError(f"a kernel of shape {kernel.shape} in {groups} groups does not go with {x.shape[-1]} channels")
    n, m = x.shape[-3:-1]
    h, w = output_size(n, kh, s, p, d), output_size(m, kw, s, p, d)
    around = [(0, 0)] * (x.ndim - 3) + [padding_amounts(n, kh, s, p, d), padding_amounts(m, kw, s, p, d), (0, 0)]
    x = np.pad(x, around)
    x = x.reshape(*x.shape[:-1], groups, depth)
    kernel = kernel.reshape(kh, kw, depth, groups, filters // groups)
    y = 0
    for i in range(kh):
        for j in range(kw):
            seen = x[..., i * d : i * d + (h - 1) * s + 1 : s, j * d : j * d + (w - 1) * s + 1 : s, :, :]
            y = y + np.einsum("...gc,cgk->...gk", seen, kernel[i, j])
    return y.reshape(*y.shape[:-2], filters)


def conv2d_transpose(x, kernel, s=1, p=0, d=1, output_padding=0):
    """Two-dimensional transposed convolution in NumPy: each input pixel adds a multiple of the filter to the output.

    Args:
        x: (..., H, W, C) array, or (H, W) with a two-dimensional kernel.
        kernel: (kh, kw, K, C) array, Keras's layout with the output first, or (kh, kw).
        s, p, d, output_padding: int, the same for both axes, as in `transposed_output_size`: `p` pixels are cropped
            from every side of the full result, `output_padding` rows and columns added at the bottom and right.

    Returns:
        (..., H', W', K) array, or (H', W'), of NumPy's common type of the two.

    Raises:
        ValueError: shapes do not agree, or sizes that `transposed_output_size` refuses.
    """
    x, kernel = np.asarray(x), np.asarray(kernel)
    if kernel.ndim == 2 and x.ndim == 2:
        return conv2d_transpose(x[..., None], kernel[..., None, None], s, p, d, output_padding)[..., 0]
    if kernel.ndim != 4 or x.ndim < 3 or kernel.shape[3] != x.shape[-1]:
        raise ValueError(f"expected (..., H, W, C) and (kh, kw, K, C), got {x.shape} and {kernel.shape}")
    kh, kw, filters, _ = kernel.shape
    n, m = x.shape[-3:-1]
    h, w = (transposed_output_size(size, f, s, p, d, output_padding) for size, f in ((n, kh), (m, kw)))
    p = whole_padding(p)
    y = np.zeros((*x.shape[:-3], h + 2 * p, w + 2 * p, filters), np.result_type(x, kernel))
    for i in range(kh):
        for j in range(kw):
            touched = y[..., i * d : i * d + (n - 1) * s + 1 : s, j * d : j * d + (m - 1) * s + 1 : s, :]
            touched += x @ kernel[i, j].T
    return y[..., p : p + h, p : p + w, :]


def convolution_matrix(kernel, input_shape, s=1, p=0, d=1):
    """The matrix that does what a convolution does: `matrix @ x.ravel() == conv2d(x, kernel, s, p, d).ravel()`.

    Its column j is the output for the image that is 1 at pixel j and 0 elsewhere. Rows are banded: each holds the
    filter's values, shifted. Its transpose is the transposed convolution and carries gradients back.

    Args:
        kernel: (kh, kw) array with input_shape (H, W), or (kh, kw, C, K) with (H, W, C).
        input_shape: ints, the shape of one image.
        s, p, d: int stride, padding ("valid" and "same" too) and dilation, as in `output_size`.

    Returns:
        (outputs, inputs) array of the kernel's dtype; pixels in row-major order, channels fastest.

    Raises:
        ValueError: the kernel does not go with input_shape, or does not fit.
    """
    kernel, input_shape = np.asarray(kernel), tuple(input_shape)
    if (kernel.ndim, len(input_shape)) not in ((2, 2), (4, 3)):
        raise ValueError(f"a kernel of shape {kernel.shape} does not go with an input of shape {input_shape}")
    inputs = math.prod(input_shape)
    images = np.eye(inputs, dtype=kernel.dtype).reshape(inputs, *input_shape)
    if kernel.ndim == 2:
        images, kernel = images[..., None], kernel[..., None, None]
    return conv2d(images, kernel, s, p, d).reshape(inputs, -1).T
