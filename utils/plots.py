"""Figures: images, filters, feature maps, curves with their baselines, confusion matrices, matrices of numbers.

Every function draws with matplotlib and shows nothing itself: a notebook shows what was drawn at the end of the cell. A function that
draws one pair of axes takes `ax` (None: a new figure) and returns the Axes; one that draws several returns the Figure. Images are
(H, W), (H, W, 1) or (H, W, 3); uint8, or float in [0, 1] or [0, 255].
"""

import io
import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

# Okabe and Ito, "Color Universal Design" (2008): told apart under every common form of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK, YELLOW = PALETTE
GREY = "#767676"
# Classes past the eighth: Tol's "muted" scheme (2021).
_MORE = ("#999999", "#882255", "#332288", "#999933", "#661100", "#44AA99", "#117733", "#AA4499")

WIDTH = 8.0  # inches: the width of a notebook's page


def style():
    """Set the course's matplotlib style; in a notebook, also show each figure once and print no `<Axes: >` lines."""
    mpl.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.6),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "axes.prop_cycle": mpl.cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
            "lines.linewidth": 1.8,
        }
    )
    _show_once()


def _show_once():
    # A figure that is open is shown at the end of the cell; as the cell's value it would come a second time, and an Axes,
    # a legend, a title as text.
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    from IPython.core.pylabtools import print_figure
    from IPython.display import Image, display
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

    def show(figure):
        if figure.get_axes():
            display(Image(print_figure(figure), format="png"))
        plt.close(figure)

    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type(Artist, lambda artist: None)
    formatter.for_type(Figure, show)


def png(figure):
    """A figure as the bytes of a PNG file; the figure is closed, so that a notebook does not show it again."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def class_colour(index):
    """The colour of class `index` (int), the same in every figure; repeats after 16 classes."""
    colours = PALETTE + _MORE
    return colours[int(index) % len(colours)]


# Images


def _pixels(images):
    """Images as something that imshow draws without scaling each on its own: uint8, or float in [0, 1]."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if images.dtype == bool:
        return images.astype("float32")
    images = images.astype("float32")
    if not images.size:
        return images
    if not np.isfinite(images).all():
        raise ValueError("the images hold values that are not finite")
    low, high = images.min(), images.max()
    if low < 0:  # centred images: the whole range, common to all of them
        return (images - low) / (high - low)
    return images / 255 if high > 1 else images


def _draw_image(ax, pixels, cmap="gray"):
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    if pixels.ndim != 2 and pixels.shape[-1] not in (3, 4):
        raise ValueError(f"an image has 1 or 3 channels, got the shape {pixels.shape}")
    ax.imshow(pixels, cmap=cmap, vmin=0, vmax=255 if pixels.dtype == np.uint8 else 1)
    _bare(ax)


def _bare(ax):
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _grid(count, columns, tile, titled):
    """A figure with `count` square tiles, `columns` a row; returns it with its axes, the surplus ones hidden."""
    columns = max(1, min(columns, count))
    rows = math.ceil(count / columns)
    tile = min(tile, WIDTH / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(tile * columns, (tile + (0.25 if titled else 0.05)) * rows),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    return figure, list(axes.flat[:count])


def _class_name(label, classes):
    return str(label) if classes is None or isinstance(label, str) else str(classes[int(label)])


def show_images(images, labels=None, predictions=None, classes=None, titles=None, columns=8, title=None, tile=1.3):
    """Draw a grid of images, each under its class, or under its prediction.

    Args:
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3), or a list of images of different sizes; uint8, or float in [0, 1] or
            [0, 255] (below 0: the whole range of values is spread over black to white).
        labels: N true classes, int or text.
        predictions: N predicted classes; a wrong one is written in red with the true class: "7, not 1".
        classes: names of the classes, for labels and predictions that are int.
        titles: N texts in place of the labels.
        columns: images in a row.
        title: of the whole figure.
        tile: width of an image in inches, at most.

    Returns:
        Figure.

    Raises:
        ValueError: no images, or labels, predictions or titles are not as many as the images.
    """
    if isinstance(images, np.ndarray) or hasattr(images, "shape"):
        images = list(_pixels(images))
    else:
        images = [_pixels(image) for image in images]
    if not images:
        raise ValueError("there are no images to show")
    for name, values in [("labels", labels), ("predictions", predictions), ("titles", titles)]:
        if values is not None and len(values) != len(images):
            raise ValueError(f"{len(images)} images, but {len(values)} {name}")
    colours = [BLACK] * len(images)
    if titles is None and predictions is not None:
        titles = [_class_name(prediction, classes) for prediction in predictions]
        if labels is not None:
            truths = [_class_name(label, classes) for label in labels]
            colours = [BLACK if a == b else VERMILLION for a, b in zip(titles, truths)]
            titles = [a if a == b else f"{a}, not {b}" for a, b in zip(titles, truths)]
    elif titles is None and labels is not None:
        titles = [_class_name(label, classes) for label in labels]
    figure, axes = _grid(len(images), columns, tile, titles is not None)
    for index, (ax, image) in enumerate(zip(axes, images)):
        _draw_image(ax, image)
        if titles is not None:
            ax.set_title(str(titles[index]), color=colours[index], fontsize=10, pad=3)
    if title:
        figure.suptitle(title)
    return figure


def show_filters(kernels, columns=8, titles=None, title=None, tile=1.0):
    """Draw the kernels of a convolution: blue below zero, white at zero, red above, one scale for all of them.

    Kernels over three channels are drawn as colours, grey at zero. Of kernels over any other number of channels, each row of the figure
    shows one filter, channel by channel.

    Args:
        kernels: (height, width, channels, filters) as Keras keeps them, or (height, width, filters).
        columns: filters in a row, or channels shown of each filter.
        titles: one text for each filter.
        title: of the whole figure.
        tile: width of a filter in inches, at most.

    Returns:
        Figure.
    """
    kernels = np.asarray(kernels, "float32")
    if kernels.ndim == 3:
        kernels = kernels[:, :, None, :]
    if kernels.ndim != 4:
        raise ValueError(f"kernels must be (height, width, channels, filters), got the shape {kernels.shape}")
    channels, filters = kernels.shape[2:]
    if titles is not None and len(titles) != filters:
        raise ValueError(f"{filters} filters, but {len(titles)} titles")
    scale = max(float(np.abs(kernels).max()), 1e-12)
    shown = 1 if channels in (1, 3) else min(channels, columns)
    figure, axes = _grid(filters * shown, columns if shown == 1 else shown, tile, titles is not None)
    for index, ax in enumerate(axes):
        number, channel = divmod(index, shown)
        if channels == 3:
            _draw_image(ax, 0.5 + kernels[..., number] / (2 * scale))
        else:
            ax.imshow(kernels[:, :, channel, number], cmap="RdBu_r", vmin=-scale, vmax=scale)
            _bare(ax)
        if titles is not None and channel == 0:
            ax.set_title(str(titles[number]), fontsize=10, pad=3)
    if title:
        figure.suptitle(title)
    return figure


def show_feature_maps(maps, count=16, columns=8, image=None, scale="shared", title=None, tile=1.0):
    """Draw the first feature maps of one image, dark = lowest, yellow = highest (viridis).

    Args:
        maps: (H, W, C) or (1, H, W, C) float.
        count: maps shown, at most.
        columns: maps in a row.
        image: the image that they come from, drawn first.
        scale: "shared": one scale for all maps, so that strong and weak ones differ; "each": every map uses the whole range.
        title: of the whole figure.
        tile: width of a map in inches, at most.

    Returns:
        Figure.
    """
    maps = np.asarray(maps, "float32")
    maps = maps[0] if maps.ndim == 4 and len(maps) == 1 else maps
    if maps.ndim != 3:
        raise ValueError(f"feature maps of one image are (H, W, C), got the shape {maps.shape}")
    if scale not in ("shared", "each"):
        raise ValueError(f"scale must be 'shared' or 'each', got {scale!r}")
    shown = maps[..., :count]
    first = image is not None
    figure, axes = _grid(shown.shape[-1] + first, columns, tile, True)
    if first:
        _draw_image(axes[0], _pixels(image))
        axes[0].set_title("image", fontsize=9, pad=3)
    for index, ax in enumerate(axes[first:]):
        one = shown[..., index]
        limits = shown if scale == "shared" else one
        ax.imshow(one, cmap="viridis", vmin=limits.min(), vmax=limits.max())
        ax.set_title(f"map {index}", fontsize=9, pad=3)
        _bare(ax)
    if title:
        figure.suptitle(title)
    return figure


# Curves


def curves(runs, x=None, xlabel="epoch", ylabel="", baselines=None, log_x=False, log_y=False, title=None, ax=None):
    """Draw one line for each run; of a run repeated over seeds, the mean with a band from the lowest to the highest.

    Args:
        runs: dict of name -> values, (points,) for a single run or (seeds, points) for repeated ones; NaN leaves a gap.
        x: the points' abscissae, for all runs, or a dict by name; None: 1, 2, 3, ...
        xlabel, ylabel: texts of the axes.
        baselines: dict of name -> height, each drawn as a dashed line: chance, the majority class, a published figure.
        log_x, log_y: logarithmic axes.
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes.

    Raises:
        ValueError: no runs, or a run's length differs from that of its abscissae.
    """
    if not runs:
        raise ValueError("there are no runs to draw")
    ax = ax or plt.subplots(layout="constrained")[1]
    for index, (name, values) in enumerate(runs.items()):
        values = np.atleast_2d(np.asarray(values, "float64"))
        at = x.get(name) if isinstance(x, dict) else x
        at = np.arange(1, values.shape[1] + 1) if at is None else np.asarray(at)
        if len(at) != values.shape[1]:
            raise ValueError(f"run {name!r} has {values.shape[1]} points, but {len(at)} abscissae")
        colour = class_colour(index)
        marker = "o" if values.shape[1] <= 12 else None
        known = ~np.isnan(values).all(axis=0)
        mean, low, high = (np.full(values.shape[1], np.nan) for _ in range(3))
        mean[known], low[known], high[known] = (f(values[:, known], axis=0) for f in (np.nanmean, np.nanmin, np.nanmax))
        ax.plot(at, mean, color=colour, label=str(name), marker=marker, markersize=4)
        if len(values) > 1:
            ax.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    for index, (name, height) in enumerate((baselines or {}).items()):
        dashes = [(0, (5, 3)), (0, (2, 2)), (0, (7, 2, 2, 2))][index % 3]
        ax.axhline(height, color=GREY, linestyle=dashes, linewidth=1.3, label=str(name))
    if log_x:
        ax.set_xscale("log")
    elif x is None:
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    if log_y:
        ax.set_yscale("log")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title)
    if len(runs) + len(baselines or {}) > 1:
        ax.legend(fontsize=9)
    return ax


def history(record, metrics=None, baselines=None, title=None):
    """Draw the learning curves of one training run, training beside validation, one pair of axes for each metric.

    Args:
        record: `keras.callbacks.History` or its dict, name -> values by epoch.
        metrics: names to draw; None: every one that the record holds ("val_..." goes with its own), the learning rate left out.
        baselines: dict of metric -> dict of name -> height.
        title: of the whole figure.

    Returns:
        Figure.

    Raises:
        ValueError: a metric is not in the record.
    """
    record = getattr(record, "history", record)
    if metrics is None:
        metrics = list(dict.fromkeys(name.removeprefix("val_") for name in record))
        metrics = [name for name in metrics if name != "learning_rate"]
    missing = [name for name in metrics if name not in record and f"val_{name}" not in record]
    if missing or not metrics:
        raise ValueError(f"no {missing[0] if missing else 'metric'} in the history, which holds {sorted(record)}")
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(min(WIDTH, 4 * len(metrics) + 1), 3.2), squeeze=False, layout="constrained"
    )
    for ax, metric in zip(axes[0], metrics):
        names = {"training": metric, "validation": f"val_{metric}"}
        runs = {name: record[key] for name, key in names.items() if key in record}
        curves(runs, ylabel=metric.replace("_", " "), baselines=(baselines or {}).get(metric), ax=ax)
    if title:
        figure.suptitle(title)
    return figure


def learning_curve(
    table,
    x="per_class",
    y="accuracy",
    by="method",
    xlabel="training images per class",
    baselines=None,
    title=None,
    ax=None,
):
    """Draw accuracy by the number of training images, on a logarithmic axis; the band spans the seeds.

    Args:
        table: pandas DataFrame with a row for each run, as `utils.transfer.learning_curve` returns; several can be concatenated.
        x, y, by: its columns: number of images, score, name of the line. Rows that agree in `x` and `by` are repetitions.
        xlabel: text of the axis.
        baselines: dict of name -> height, dashed.
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    runs, at = {}, {}
    for name, rows in table.groupby(by, sort=False):
        groups = [group[y].to_numpy() for _, group in rows.groupby(x)]
        values = np.full((max(map(len, groups)), len(groups)), np.nan)
        for column, group in enumerate(groups):
            values[: len(group), column] = group
        runs[name], at[name] = values, np.unique(rows[x])
    ax = curves(runs, at, xlabel, y.replace("_", " "), baselines, log_x=True, title=title, ax=ax)
    sizes = np.unique(table[x])
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    return ax


def bars(values, xlabel="accuracy", baselines=None, title=None, ax=None):
    """Compare methods by one number each: a bar for the mean, and a line from the lowest to the highest where there are several.

    Args:
        values: dict of name -> number, or numbers over seeds; drawn from the top in this order.
        xlabel: what the numbers are.
        baselines: dict of name -> number, each drawn as a dashed line.
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    ax = ax or plt.subplots(figsize=(WIDTH, 0.6 + 0.36 * len(values)), layout="constrained")[1]
    for row, numbers in enumerate(values.values()):
        numbers = np.atleast_1d(np.asarray(numbers, "float64"))
        mean, low, high = numbers.mean(), numbers.min(), numbers.max()
        ax.barh(row, mean, color=class_colour(row), height=0.65)
        if len(numbers) > 1:
            ax.plot([low, high], [row, row], color=BLACK, linewidth=1.5, marker="|", markersize=9)
        ax.annotate(
            f"{mean:.3g}", (max(high, 0), row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=10
        )
    for name, height in (baselines or {}).items():
        ax.axvline(height, color=GREY, linestyle=(0, (5, 3)), linewidth=1.3)
        ax.annotate(
            name,
            (height, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, 2),
            textcoords="offset points",
            fontsize=9,
            color=GREY,
        )
    ax.set_yticks(range(len(values)), [str(name) for name in values])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.1)
    ax.set_xlabel(xlabel)
    if title:
        ax.set_title(title, pad=16 if baselines else None)
    return ax


# Classes


def confusion_matrix(matrix, classes=None, title=None, ax=None):
    """Draw a confusion matrix: rows are the truth, columns the prediction, shaded by the share of the row.

    Args:
        matrix: (C, C) counts, truth by prediction, as `sklearn.metrics.confusion_matrix` returns.
        classes: C names; None: 0, 1, 2, ...
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes. Up to 20 classes, each cell carries its count; past that only the shades are legible.

    Raises:
        ValueError: the matrix is not square, or the names are not as many as its rows.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is square, got the shape {matrix.shape}")
    count = len(matrix)
    classes = [str(name) for name in (range(count) if classes is None else classes)]
    if len(classes) != count:
        raise ValueError(f"{count} rows, but {len(classes)} names")
    size = min(WIDTH, max(3.2, 0.42 * count + 1.2))
    ax = ax or plt.subplots(figsize=(size, size), layout="constrained")[1]
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if count <= 20:
        for row, column in np.ndindex(count, count):
            if matrix[row, column]:
                colour = "white" if share[row, column] > 0.55 else BLACK
                ax.text(column, row, f"{matrix[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=9)
    long = max(map(len, classes)) > 3
    fontsize = 10 if count <= 20 else 7
    ax.set_xticks(range(count), classes, rotation=90 if long else 0, fontsize=fontsize)
    ax.set_yticks(range(count), classes, fontsize=fontsize)
    ax.grid(False)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    if title:
        ax.set_title(title)
    return ax


def embedding(points, labels, classes=None, images=None, thumbnails=60, title=None, ax=None):
    """Draw features brought down to two dimensions (by t-SNE or PCA), coloured by class, each class's name at its middle.

    Args:
        points: (N, 2).
        labels: (N,) int.
        classes: names of the classes; None: the numbers.
        images: (N, H, W, C); some of them are drawn at their points, in a frame of the class's colour.
        thumbnails: images drawn, at most; the first ones that do not cover one another.
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes. The axes carry no units: t-SNE's distances have none.

    Raises:
        ValueError: points are not (N, 2), or the labels or images are not N.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be (N, 2), got the shape {points.shape}")
    if len(labels) != len(points) or (images is not None and len(images) != len(points)):
        raise ValueError(
            f"{len(points)} points, {len(labels)} labels, {len(points if images is None else images)} images"
        )
    ax = ax or plt.subplots(figsize=(WIDTH, 5.6), layout="constrained")[1]
    for label in np.unique(labels):
        own = points[labels == label]
        ax.scatter(*own.T, s=14, color=class_colour(label), alpha=0.75, linewidths=0, label=_class_name(label, classes))
    if images is not None:
        pixels = _pixels(images)
        for index in _apart(points, thumbnails):
            _thumbnail(ax, points[index], pixels[index], class_colour(labels[index]))
    for label in np.unique(labels):
        ax.annotate(
            _class_name(label, classes),
            np.median(points[labels == label], axis=0),
            ha="center",
            va="center",
            zorder=10,
            bbox={"facecolor": "white", "edgecolor": class_colour(label), "linewidth": 2, "boxstyle": "round,pad=.25"},
        )
    _bare(ax)
    if title:
        ax.set_title(title)
    return ax


def _apart(points, count, distance=0.045):
    """The first `count` points, at most, that keep `distance` (as a share of the picture) from each other."""
    scaled = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-12)
    kept = []
    for index in range(len(scaled)):
        if len(kept) < count and (not kept or np.abs(scaled[kept] - scaled[index]).max(axis=1).min() >= distance):
            kept.append(index)
    return kept


def _thumbnail(ax, point, pixels, colour, inches=0.24):
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    box = OffsetImage(pixels, zoom=72 * inches / max(pixels.shape[:2]), cmap="gray")
    box.image.set_clim(0, 255 if pixels.dtype == np.uint8 else 1)
    frame = {"edgecolor": colour, "linewidth": 1.5, "boxstyle": "square,pad=0"}
    ax.add_artist(AnnotationBbox(box, point, pad=0.05, bboxprops=frame))


# Matrices

_CELL = 0.42  # inches


def number_matrix(matrix, boxes=(), padding=0, title=None, shade=None, ax=None):
    """Draw a matrix as a table of numbers, with windows framed in it.

    Args:
        matrix: (rows, columns) numbers; whole ones are written without decimals, NaN leaves its cell empty.
        boxes: windows to frame, each (row, column, height, width) in cells counted from the matrix's own top left cell, so that a
            window in the padding starts at a negative row or column; the first is blue, the second vermillion, and so on.
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
    _bare(ax)
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
            _bare(ax)
        else:
            number_matrix(part, boxes.get(i, ()), padding.get(i, 0), titles.get(i), shade, ax)
    return figure


# Arithmetic: where a window stands, what a unit sees, which weight goes where


def _taps(n, f, s, p, d):
    """Input indices that each output reads along one axis, (outputs, f); negative or >= n in the padding. `p` is (before, after)."""
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
    """Draw a filter's positions along one axis: the pixels in a row, below them one line for each output with a dot at every pixel read.

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
    _bare(ax)
    if title is None:
        title = _sizes_text(n, f, s, p, d, len(taps))
        if unread:
            title += f", {len(unread)} pixel{'s' if len(unread) > 1 else ''} unread"
    ax.set_title(title, fontsize=10, pad=4)
    return ax


def window_sizes(n, f, s=1, p=0, d=1):
    """Draw a square input, the path of the filter over it and the output: the picture of the output-size explorer.

    The first window's pixels are blue, its path is drawn through the centres of all windows, the last window is framed; pixels that no
    output reads are hatched. Where the filter does not fit, the picture says so.

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
        right.text(width / 2, width / 2, f"the filter reaches over {reach} pixels,\nthe padded input has {width}:\nnothing fits",
                   ha="center", va="center", color=VERMILLION)  # fmt: skip
        note = "no output"
    right.set_xlim(-0.3, max(width, outputs) + 0.3)
    right.set_ylim(max(width, outputs) + 0.3, -0.3)
    right.set_title(note, fontsize=10, loc="left")
    for ax in (left, right):
        ax.set_aspect("equal")
        ax.set_anchor("N")
        _bare(ax)
    formula = f"floor(({n} + 2·{p} − {reach}) / {s}) + 1"
    figure.suptitle(f"{_sizes_text(n, f, s, (p, p), d, outputs)}    {formula}", fontsize=11)
    return figure


def _window(ax, taps, row, column):
    low = (taps[column, 0], taps[row, 0])
    reach = taps[0, -1] - taps[0, 0] + 1
    ax.add_patch(Rectangle(low, reach, reach, facecolor=BLUE, alpha=0.18, linewidth=0))
    ax.add_patch(Rectangle(low, reach, reach, fill=False, edgecolor=BLUE, linewidth=2))


def window_strip(volume, output, f, s=1, p=0, title=None):
    """Draw the moving window as a strip: one column for each position, the input's channels above, the output filled so far below.

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
            _bare(ax)
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
    import io

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


def field_cone(layers, title=None, ax=None):
    """Draw what one unit sees through a chain of layers, along one axis: the units it rests on, layer by layer down to the pixels.

    Filled: the unit depends on it. Empty: it lies in between and is skipped.

    Args:
        layers: (f, s) or (f, s, d) for each layer, the first one next to the pixels.
        title: None: the number of pixels from the first to the last.
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
            "pixels"
            if level == 0
            else "f {}, s {}".format(*layers[level - 1])
            + (f", d {layers[level - 1][2]}" if layers[level - 1][2] > 1 else "")
        )
        ax.text(-0.4, level, name, ha="right", va="center", fontsize=9)
    ax.set_xlim(-0.2, pixels + 0.2)
    ax.set_ylim(-0.4, len(layers) + 0.4)
    _bare(ax)
    ax.set_title(title if title is not None else f"one unit sees {pixels} pixels", fontsize=10)
    return ax


def field_map(field, theoretical, width=None, title=None, ax=None):
    """Draw how strongly each pixel moves one unit, with the theoretical receptive field and the width that holds most of the sum.

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
    _bare(ax)
    if title:
        ax.set_title(title, fontsize=10, pad=4)
    return ax


def wiring(stages, title=None, ax=None):
    """Draw which input channel feeds which output channel, one stage after the other.

    Args:
        stages: (inputs, outputs, groups) for each stage; the outputs of one are the inputs of the next. Groups have colours of their own.
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
    _bare(ax)
    if title:
        ax.set_title(title, fontsize=10, pad=4)
    return ax


def weight_pattern(matrix, title=None, ax=None):
    """Draw where each weight of a convolution stands in its matrix: every distinct number a colour of its own, zeros white.

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


def layer_bars(labels, columns, colours=None):
    """Draw one horizontal bar for each layer, in one panel for each quantity: where a net's cost lies.

    Args:
        labels: names of the layers, the first at the top.
        columns: dict of quantity -> one number for each layer.
        colours: one colour for each layer; None: all blue.

    Returns:
        Figure.
    """
    figure, axes = plt.subplots(
        1, len(columns), figsize=(WIDTH, 0.6 + 0.19 * len(labels)), sharey=True, squeeze=False, layout="constrained"
    )
    rows = np.arange(len(labels))
    for ax, (name, values) in zip(axes[0], columns.items()):
        values = np.asarray(values, "float64")
        ax.barh(rows, values, color=colours or BLUE, height=0.75)
        ax.set_title(f"{name}, total {_short(values.sum())}", fontsize=10)
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        ax.xaxis.set_major_formatter(lambda value, position: _short(value))
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(rows, labels, fontsize=8)
    axes[0, 0].invert_yaxis()
    return figure


def _short(value):
    for unit, size in [("G", 1e9), ("M", 1e6), ("k", 1e3)]:
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def timeline(events, title=None):
    """Draw dated events along a line, in turn above and below it.

    Args:
        events: dict of year -> text.
        title: of the figure.

    Returns:
        Axes.
    """
    ax = plt.subplots(figsize=(WIDTH, 2.8), layout="constrained")[1]
    years = sorted(events)
    ax.plot([years[0] - 2, years[-1] + 2], [0, 0], color=BLACK, linewidth=1.5)
    for index, year in enumerate(years):
        side = 1 if index % 2 == 0 else -1
        height = side * (0.5 if index % 4 < 2 else 1.15)
        ax.plot([year, year], [0, height], color=GREY, linewidth=1)
        ax.plot([year], [0], "o", color=PALETTE[index % 2], markersize=7)
        va = "bottom" if side > 0 else "top"
        ax.text(year, height, f"{year}\n{events[year]}", ha="center", va=va, fontsize=8.5, color=PALETTE[index % 2])
    ax.set_ylim(-2.1, 2.1)
    ax.set_xlim(years[0] - 6, years[-1] + 6)
    _bare(ax)
    if title:
        ax.set_title(title)
    return ax


def explore(draw, **sliders):
    """Draw one still picture, or, where somebody can move them, sliders that draw it anew.

    Sliders appear in JupyterLab, Jupyter Notebook, VS Code and Colab. A run without a reader (papermill, nbconvert, nbval) gets the
    picture alone: a page of a finished run has no kernel that could answer a slider.

    Args:
        draw: function of the named numbers that draws with matplotlib.
        **sliders: name=(start, low, high), ints.
    """
    if not _has_reader():
        draw(**{name: start for name, (start, _, _) in sliders.items()})
        return
    import ipywidgets
    from IPython.display import display

    controls = {
        name: ipywidgets.IntSlider(value=start, min=low, max=high, description=name, continuous_update=False)
        for name, (start, low, high) in sliders.items()
    }

    def redraw(**values):
        draw(**values)
        plt.show()

    picture = ipywidgets.interactive_output(redraw, controls)
    display(
        ipywidgets.VBox(
            [ipywidgets.HBox(list(controls.values())[i : i + 3]) for i in range(0, len(controls), 3)] + [picture]
        )
    )


def _has_reader():
    import os
    import sys

    from IPython import get_ipython

    # Jupyter's server names the notebook to the kernels it starts; nbclient, which papermill, nbconvert and nbval use, does not.
    shell = get_ipython()
    in_vscode = shell is not None and "__vsc_ipynb_file__" in shell.user_ns
    return "google.colab" in sys.modules or in_vscode or bool(os.environ.get("JPY_SESSION_NAME"))
