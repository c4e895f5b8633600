"""Convolution arithmetic drawn: matrices of numbers, moving windows, receptive fields, wiring."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from utils.plots.base import BLACK, BLUE, GREY, ORANGE, PALETTE, SKY, VERMILLION, WIDTH, bare, class_colour

_CELL = 0.42  # inches


def number_matrix(matrix, boxes=(), padding=0, title=None, shade=None, ax=None):
    """Draw a matrix as a table of numbers, with windows framed in it.

    Args:
        matrix: (rows, columns) numbers; whole ones are written without decimals, NaN leaves its cell empty.
        boxes: windows to frame, each (row, column, height, width) in cells counted from the matrix's own top left cell,
            so that a window in the padding starts at a negative row or column; the first is blue, the second
            vermillion, and so on.
        padding: rings of zeros drawn around the matrix, in grey.
        title: above the matrix.
        shade: None, or a matplotlib colour map's name: the cells are shaded by value, symmetrically about zero.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2:
        raise ValueError(f"expected a matrix, got the shape {matrix.shape}")
    rows, columns = matrix.shape
    if ax is None:
        size = min(_CELL, WIDTH / (columns + 2 * padding + 0.5))
        ax = plt.subplots(figsize=((columns + 2 * padding) * size + 0.2, (rows + 2 * padding) * size + 0.5))[1]
    scale = max(float(np.abs(matrix).max(initial=0)), 1e-12)
    colour_of = mpl.colormaps[shade] if shade else None
    longest = max((len(_number_text(value)) for value in matrix.flat), default=1)
    cell = ax.figure.get_figwidth() * 72 * ax.get_position().width / (columns + 2 * padding + 0.2)  # points
    fontsize = min(10, 1.8 * cell / max(longest, 2))
    for row in range(-padding, rows + padding):
        for column in range(-padding, columns + padding):
            inside = 0 <= row < rows and 0 <= column < columns
            value = matrix[row, column] if inside else 0
            face = colour_of(0.5 + 0.35 * float(value) / scale) if inside and shade else "white"
            ax.add_patch(
                Rectangle((column, row), 1, 1, facecolor=face, edgecolor=GREY if inside else "#CCCCCC", linewidth=0.8)
            )
            ax.text(
                column + 0.5, row + 0.53, _number_text(value), ha="center", va="center",
                fontsize=fontsize, color=BLACK if inside else "#999999",
            )  # fmt: skip
    for index, (row, column, height, width) in enumerate(boxes):
        colour = class_colour(index)
        ax.add_patch(Rectangle((column, row), width, height, facecolor=colour, alpha=0.15, linewidth=0))
        ax.add_patch(Rectangle((column, row), width, height, fill=False, edgecolor=colour, linewidth=2.6))
    ax.set_xlim(-padding - 0.1, columns + padding + 0.1)
    ax.set_ylim(rows + padding + 0.1, -padding - 0.1)
    ax.set_aspect("equal")
    bare(ax)
    if title:
        ax.set_title(title, fontsize=10, pad=4)
    return ax


def _number_text(value):
    if np.isnan(value):
        return ""
    if isinstance(value, (float, np.floating)) and not float(value).is_integer():
        text = f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    else:
        text = f"{value:.0f}"
    return text.replace("-", "−")


def number_equation(parts, titles=None, boxes=None, padding=None, shade=None):
    """Draw matrices of numbers in a row with signs between them, as in `input ∗ kernel = output`.

    Args:
        parts: matrices (rows, columns) and texts ("∗", "=", "+") in the order in which they are read.
        titles: dict of position in `parts` -> title.
        boxes: dict of position -> windows, as in `number_matrix`.
        padding: dict of position -> rings of zeros.
        shade: as in `number_matrix`.

    Returns:
        Figure.
    """
    titles, boxes, padding = titles or {}, boxes or {}, padding or {}
    signs = [isinstance(part, str) for part in parts]
    shapes = [(1, 1) if sign else np.shape(part) for part, sign in zip(parts, signs)]
    widths = [0.9 if sign else shape[1] + 2 * padding.get(i, 0) for i, (shape, sign) in enumerate(zip(shapes, signs))]
    height = max(shape[0] + 2 * padding.get(i, 0) for i, shape in enumerate(shapes))
    size = min(_CELL, WIDTH / (sum(widths) + 0.3 * len(parts)))
    figure, axes = plt.subplots(
        1, len(parts), width_ratios=widths, squeeze=False,
        figsize=(size * (sum(widths) + 0.3 * len(parts)), size * height + (0.45 if titles else 0.15)),
    )  # fmt: skip
    for i, (ax, part, sign) in enumerate(zip(axes[0], parts, signs)):
        if sign:
            ax.text(0.5, 0.5, part, ha="center", va="center", fontsize=15, transform=ax.transAxes)
            bare(ax)
        else:
            number_matrix(part, boxes.get(i, ()), padding.get(i, 0), titles.get(i), shade, ax)
    return figure


# Arithmetic: where a window stands, what a unit sees, which weight goes where


def _taps(n, f, s, p, d):
    """Input indices that each output reads along one axis, (outputs, f); negative or >= n in the padding. `p` is
    (before, after).
    """
    first = np.arange(-p[0], n + p[1] - d * (f - 1), s)
    return first[:, None] + d * np.arange(f)


def _both_sides(p):
    return (p, p) if np.ndim(p) == 0 else tuple(p)


def _unread(n, taps):
    return sorted(set(range(n)) - set(taps.flat))


def _sizes_text(n, f, s, p, d, outputs):
    p = f"{p[0]}" if p[0] == p[1] else f"{p[0]} before and {p[1]} after"
    text = f"n = {n}, f = {f}, s = {s}, p = {p}" + (f", d = {d}" if d != 1 else "")
    return f"{text}: " + (f"{outputs} output{'s' if outputs != 1 else ''}" if outputs else "nothing fits")


def _square(ax, column, row, **style):
    ax.add_patch(
        Rectangle((column, row), 1, 1, **({"edgecolor": GREY, "linewidth": 0.8, "facecolor": "white"} | style))
    )


_PADDED = {"facecolor": "#EEEEEE", "edgecolor": "#BBBBBB", "linestyle": (0, (2, 2))}
_UNREAD = {"facecolor": "#FBE3D6", "edgecolor": VERMILLION, "hatch": "////"}


def window_positions(n, f, s=1, p=0, d=1, title=None, ax=None):
    """Draw a filter's positions along one axis: the pixels in a row, below them one line for each output with a dot at
    every pixel read.

    Padding is grey, a pixel that no output reads is hatched.

    Args:
        n, f, s, d: input size, filter size, stride, dilation.
        p: zeros on either side, or (before, after).
        title: None: the sizes and the number of outputs.
        ax: Axes to draw into.

    Returns:
        Axes; without any output where the filter does not fit.
    """
    p = _both_sides(p)
    taps = _taps(n, f, s, p, d)
    unread = _unread(n, taps) if len(taps) else []
    width = n + sum(p)
    step = 0.5
    if ax is None:
        size = min(_CELL, WIDTH / (width + 3))
        ax = plt.subplots(
            figsize=(max(size * (width + 2.5), 2.6), size * (1.6 + step * len(taps)) + 0.4), layout="constrained"
        )[1]
    points = ax.figure.get_figwidth() * 72 * ax.get_position().width / (width + 2.5)
    for pixel in range(-p[0], n + p[1]):
        inside = 0 <= pixel < n
        _square(ax, pixel, 0, **({} if inside else _PADDED), **(_UNREAD if pixel in unread else {}))
        if points > 9:
            text = str(pixel + 1) if inside else "0"
            colour = BLACK if inside else "#888888"
            ax.text(pixel + 0.5, 0.53, text, ha="center", va="center", fontsize=min(9, points / 2.2), color=colour)
    for output, pixels in enumerate(taps):
        y = 1.4 + step * output
        colour = PALETTE[output % 2]
        ax.plot(pixels[[0, -1]] + 0.5, [y, y], color=colour, linewidth=2)
        ax.plot(pixels + 0.5, np.full(f, y), "o", color=colour, markersize=min(6, points / 4))
        ax.text(n + p[1] + 0.4, y, f"{output + 1}", color=colour, va="center", fontsize=min(9, points / 2.2))
    ax.set_xlim(-p[0] - 0.2, n + p[1] + 1.6)
    ax.set_ylim(1.2 + step * max(len(taps), 1), -0.15)
    ax.set_aspect("equal")
    bare(ax)
    if title is None:
        title = _sizes_text(n, f, s, p, d, len(taps))
        if unread:
            title += f", {len(unread)} pixel{'s' if len(unread) > 1 else ''} unread"
    ax.set_title(title, fontsize=10, pad=4)
    return ax


def window_sizes(n, f, s=1, p=0, d=1):
    """Draw a square input, the path of the filter over it and the output: the picture of the output-size explorer.

    The first window's pixels are blue, its path is drawn through the centres of all windows, the last window is framed;
    pixels that no output reads are hatched. Where the filter does not fit, the picture says so.

    Args:
        n, f, s, p, d: sizes of input and filter, stride, padding on every side, dilation; one int each, for both axes.

    Returns:
        Figure.
    """
    reach = d * (f - 1) + 1
    taps = _taps(n, f, s, (p, p), d)
    outputs = len(taps)
    width = n + 2 * p
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.2), width_ratios=(1.35, 1), layout="constrained")
    unread = set(_unread(n, taps)) if outputs else set()
    for row in range(-p, n + p):
        for column in range(-p, n + p):
            inside = 0 <= row < n and 0 <= column < n
            lost = inside and (row in unread or column in unread)
            _square(left, column, row, **({} if inside else _PADDED), **(_UNREAD if lost else {}))
    left.set_xlim(-p - 0.3, n + p + 0.3)
    left.set_ylim(n + p + 0.3, -p - 0.3)
    left.set_title(f"input {n} × {n}" + (f", padding {p}" if p else ""), fontsize=10, loc="left")
    if outputs:
        for row in taps[0]:
            for column in taps[0]:
                _square(left, column, row, facecolor=BLUE, alpha=0.55)
        centres = taps.mean(axis=1) + 0.5
        path = np.array([(x, y) for y in centres for x in centres])
        left.plot(*path.T, color=ORANGE, linewidth=1.5)
        left.plot(*path.T, "o", color=ORANGE, markersize=4, markeredgecolor="white")
        last = taps[-1, 0]
        left.add_patch(Rectangle((last, last), reach, reach, fill=False, edgecolor=VERMILLION, linewidth=2.4))
        for row in range(outputs):
            for column in range(outputs):
                end = row == column == outputs - 1
                colour = {"facecolor": BLUE, "alpha": 0.55} if row == column == 0 else {}
                _square(right, column, row, **colour)
                if end:
                    frame = Rectangle((column, row), 1, 1, fill=False, edgecolor=VERMILLION, linewidth=2.4)
                    right.add_patch(frame)
        note = f"output {outputs} × {outputs}"
    else:
        right.text(width / 2, width / 2, f"the filter reaches over {reach} pixels,\nthe padded input has "
                                         f"{width}:\nnothing fits",
                   ha="center", va="center", color=VERMILLION)  # fmt: skip
        note = "no output"
    right.set_xlim(-0.3, max(width, outputs) + 0.3)
    right.set_ylim(max(width, outputs) + 0.3, -0.3)
    right.set_title(note, fontsize=10, loc="left")
    for ax in (left, right):
        ax.set_aspect("equal")
        ax.set_anchor("N")
        bare(ax)
    formula = f"floor(({n} + 2·{p} − {reach}) / {s}) + 1"
    figure.suptitle(f"{_sizes_text(n, f, s, (p, p), d, outputs)}    {formula}", fontsize=11)
    return figure


def _window(ax, taps, row, column):
    low = (taps[column, 0], taps[row, 0])
    reach = taps[0, -1] - taps[0, 0] + 1
    ax.add_patch(Rectangle(low, reach, reach, facecolor=BLUE, alpha=0.18, linewidth=0))
    ax.add_patch(Rectangle(low, reach, reach, fill=False, edgecolor=BLUE, linewidth=2))


def window_strip(volume, output, f, s=1, p=0, title=None):
    """Draw the moving window as a strip: one column for each position, the input's channels above, the output filled so
    far below.

    Args:
        volume: (n, n, channels) input, drawn as grey levels.
        output: (outputs, outputs) numbers of one filter, in the order of the positions.
        f, s, p: filter size, stride, padding on every side.
        title: of the whole figure.

    Returns:
        Figure.
    """
    volume, output = np.asarray(volume), np.asarray(output, "float64")
    n, channels = volume.shape[0], volume.shape[2]
    taps = _taps(n, f, s, (p, p), 1)
    if output.shape != (len(taps), len(taps)):
        raise ValueError(f"{len(taps)} × {len(taps)} positions, but the output has the shape {output.shape}")
    padded = np.pad(volume, ((p, p), (p, p), (0, 0)))
    size = WIDTH / output.size
    figure, axes = plt.subplots(
        channels + 1,
        output.size,
        squeeze=False,
        figsize=(WIDTH, size * (channels + 1) + (0.5 if title else 0.1)),
        layout="constrained",
    )
    for position, column in enumerate(axes.T):
        row_, column_ = divmod(position, len(taps))
        for channel, ax in enumerate(column[:-1]):
            extent = (-p, n + p, n + p, -p)
            ax.imshow(padded[..., channel], cmap="Greys", vmin=volume.min(), vmax=volume.max() * 1.6, extent=extent)
            ax.add_patch(
                Rectangle((-p, -p), n + 2 * p, n + 2 * p, fill=False, edgecolor="#BBBBBB", linestyle=(0, (2, 2)))
            )
            _window(ax, taps, row_, column_)
            ax.set_xlim(-p - 0.3, n + p + 0.3)
            ax.set_ylim(n + p + 0.3, -p - 0.3)
            bare(ax)
            if position == 0:
                ax.set_ylabel(f"channel {channel}", fontsize=8)
        so_far = np.where(np.arange(output.size).reshape(output.shape) <= position, output, np.nan)
        number_matrix(so_far, boxes=[(row_, column_, 1, 1)], ax=column[-1])
        for text in column[-1].texts:
            text.set_fontsize(72 * size / len(taps) / 3.2)
        if position == 0:
            column[-1].set_ylabel("output", fontsize=8)
    if title:
        figure.suptitle(title)
    return figure


def moving_window(volume, kernels, biases, s=1, p=0, seconds=1.0, dpi=75):
    """Animate a convolution in numbers: the window on every input channel, the filters, and the outputs as they fill.

    Args:
        volume: (n, n, channels) whole numbers.
        kernels: (f, f, channels, filters) whole numbers.
        biases: (filters,).
        s, p: stride, padding on every side.
        seconds: that each position stays.
        dpi: of the pictures; 75 keeps a nine-position animation below 200 kB.

    Returns:
        IPython.display.HTML: one GIF, embedded.
    """
    import base64

    from IPython.display import HTML
    from PIL import Image

    volume, kernels = np.asarray(volume), np.asarray(kernels)
    n, f, (channels, filters) = len(volume), len(kernels), kernels.shape[2:]
    taps = _taps(n, f, s, (p, p), 1)
    padded = np.pad(volume, ((p, p), (p, p), (0, 0)))
    outputs = np.full((len(taps), len(taps), filters), np.nan)
    frames = []
    for row in range(len(taps)):
        for column in range(len(taps)):
            window = padded[row * s : row * s + f, column * s : column * s + f]
            outputs[row, column] = np.einsum("ijc,ijck->k", window, kernels) + biases
            figure = _moving_window_frame(
                volume, kernels, biases, outputs, p, (taps[row, 0], taps[column, 0]), (row, column)
            )
            buffer = io.BytesIO()
            figure.savefig(buffer, dpi=dpi)
            plt.close(figure)
            frames.append(Image.open(buffer).convert("RGB").quantize(32, dither=Image.Dither.NONE))
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=int(1000 * seconds), loop=0)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = f"A window of {f} by {f} moves over the {channels} input channels in steps of {s}; {filters} outputs fill"
    return HTML(f'<img alt="{alt}" style="max-width: 100%" src="data:image/gif;base64,{data}">')


def _moving_window_frame(volume, kernels, biases, outputs, p, corner, position):
    n, f, (channels, filters) = len(volume), len(kernels), kernels.shape[2:]
    widths = [n + 2 * p] + [f] * filters + [max(f, len(outputs))]
    cell = WIDTH / (sum(widths) + 2)
    # Constrained layout would take most of the time here, and could move things from frame to frame.
    figure = plt.figure(figsize=(WIDTH, cell * (n + 2 * p + 1) * channels + 0.2), layout="none")
    spacing = {"left": 0.01, "right": 0.99, "top": 0.965, "bottom": 0.01, "wspace": 0.12, "hspace": 0.13}
    axes = figure.subplots(channels, len(widths), width_ratios=widths, squeeze=False, gridspec_kw=spacing)
    for channel in range(channels):
        frame = [(*corner, f, f)]
        number_matrix(volume[..., channel], frame, p, f"input, channel {channel}", ax=axes[channel, 0])
        for k in range(filters):
            title = f"filter {k}, channel {channel}"
            number_matrix(kernels[:, :, channel, k], title=title, ax=axes[channel, 1 + k])
    for ax in axes[:, -1]:
        ax.set_visible(False)
    for k in range(min(filters, channels)):
        axes[k, -1].set_visible(True)
        number_matrix(outputs[..., k], [(*position, 1, 1)], title=f"output {k}\n(bias {biases[k]})", ax=axes[k, -1])
    return figure


def field_cone(layers, title=None, of="pixels", ax=None):
    """Draw what one unit sees through a chain of layers, along one axis: the units it rests on, layer by layer down to
    the pixels.

    Filled: the unit depends on it. Empty: it lies in between and is skipped.

    Args:
        layers: (f, s) or (f, s, d) for each layer, the first one next to the pixels.
        title: None: the number of pixels from the first to the last.
        of: what lies at the bottom.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    layers = [(*layer, 1) if len(layer) == 2 else tuple(layer) for layer in layers]
    levels = [{0}]  # from the top: indices of the units that count
    for f, s, d in reversed(layers):
        levels.append({unit * s + d * tap for unit in levels[-1] for tap in range(f)})
    levels.reverse()
    jumps, starts = [1.0], [0.5]
    for f, s, d in layers:
        starts.append(starts[-1] + (d * (f - 1)) / 2 * jumps[-1])
        jumps.append(jumps[-1] * s)
    pixels = max(levels[0]) + 1
    if ax is None:
        ax = plt.subplots(figsize=(min(WIDTH, 1.8 + 0.3 * pixels), 0.55 + 0.55 * len(levels)), layout="constrained")[1]
    for level, (f, s, d) in enumerate(layers, start=1):
        for unit in levels[level]:
            x = starts[level] + unit * jumps[level]
            for tap in range(f):
                below = starts[level - 1] + (unit * s + d * tap) * jumps[level - 1]
                ax.plot([x, below], [level, level - 1], color=SKY, linewidth=0.8, zorder=1)
    size = float(np.clip(150 / pixels, 3, 8))
    for level, used in enumerate(levels):
        every = range(max(used) + 1)
        for group, face in [(used, BLUE), (set(every) - used, "white")]:
            x = [starts[level] + unit * jumps[level] for unit in sorted(group)]
            ax.plot(x, [level] * len(x), "o", color=BLUE, markerfacecolor=face, markersize=size, linestyle="none")
        name = (
            of
            if level == 0
            else "f {}, s {}".format(*layers[level - 1])
            + (f", d {layers[level - 1][2]}" if layers[level - 1][2] > 1 else "")
        )
        ax.text(-0.4, level, name, ha="right", va="center", fontsize=9)
    ax.set_xlim(-0.2, pixels + 0.2)
    ax.set_ylim(-0.4, len(layers) + 0.4)
    bare(ax)
    ax.set_title(title if title is not None else f"one unit sees {pixels} {of}", fontsize=10)
    return ax


def field_map(field, theoretical, width=None, title=None, ax=None):
    """Draw how strongly each pixel moves one unit, with the theoretical receptive field and the width that holds most
    of the sum.

    Args:
        field: (H, W) non-negative, the unit above its centre.
        theoretical: side of the theoretical field in pixels, framed in orange.
        width: side of the square that is said to hold most of the sum, framed in white.
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    field = np.asarray(field, "float64")
    ax = ax or plt.subplots(figsize=(3, 3.3), layout="constrained")[1]
    ax.imshow(field / max(field.max(), 1e-30), cmap="viridis", vmin=0, vmax=1)
    middle = [side / 2 - 0.5 for side in field.shape]
    for side, colour in [(theoretical, ORANGE), (width, "white")]:
        if side:
            corner = (middle[1] - side / 2, middle[0] - side / 2)
            ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=1.8))
    bare(ax)
    if title:
        ax.set_title(title, fontsize=10, pad=4)
    return ax


def wiring(stages, title=None, ax=None):
    """Draw which input channel feeds which output channel, one stage after the other.

    Args:
        stages: (inputs, outputs, groups) for each stage; the outputs of one are the inputs of the next. Groups have
            colours of their own.
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    ax = ax or plt.subplots(figsize=(2.4, 2.6), layout="constrained")[1]
    most = max(max(stage[:2]) for stage in stages)
    for index, (inputs, outputs, groups) in enumerate(stages):
        if inputs % groups or outputs % groups:
            raise ValueError(f"{groups} groups divide {inputs} and {outputs} channels only with a remainder")
        for source in range(inputs):
            for target in range(outputs):
                group = source // (inputs // groups)
                if group == target // (outputs // groups):
                    colour = class_colour(group) if groups > 1 else GREY
                    ends = [source + (most - inputs) / 2, target + (most - outputs) / 2]
                    ax.plot([index, index + 1], ends, color=colour, linewidth=0.9)
    counts = [stages[0][0]] + [stage[1] for stage in stages]
    for index, count in enumerate(counts):
        ax.plot([index] * count, np.arange(count) + (most - count) / 2, "o", color=BLACK, markersize=5)
    ax.set_xlim(-0.2, len(stages) + 0.2)
    ax.set_ylim(most - 0.5, -0.5)
    bare(ax)
    if title:
        ax.set_title(title, fontsize=10, pad=4)
    return ax


def weight_pattern(matrix, title=None, ax=None):
    """Draw where each weight of a convolution stands in its matrix: every distinct number a colour of its own, zeros
    white.

    Args:
        matrix: (outputs, inputs) of whole numbers, 0 for none: the number of the weight.
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    matrix = np.asarray(matrix)
    ax = ax or plt.subplots(figsize=(WIDTH, 0.6 + WIDTH * matrix.shape[0] / matrix.shape[1]), layout="constrained")[1]
    numbers = [number for number in np.unique(matrix) if number != 0]
    colours = ["white"] + [class_colour(index) for index in range(len(numbers))]
    index = np.searchsorted(numbers, matrix) + 1
    cmap = mpl.colors.ListedColormap(colours)
    ax.imshow(np.where(matrix == 0, 0, index), cmap=cmap, vmin=-0.5, vmax=len(colours) - 0.5)
    ax.grid(False)
    ax.set_xlabel("input pixel")
    ax.set_ylabel("output pixel")
    for spine in ax.spines.values():
        spine.set_visible(True)
    if title:
        ax.set_title(title, fontsize=10, pad=4)
    return ax
