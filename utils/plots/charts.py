"""Curves and bars with their baselines, confusion matrices, embeddings, time lines."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from utils.plots.base import BLACK, BLUE, GREY, PALETTE, WIDTH, as_pixels, bare, class_colour, class_name


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
        _legend(ax)
    return ax


def _legend(ax):
    """A legend where it covers no curve: inside the axes if there is such a place, else to their right."""
    legend, figure = ax.legend(fontsize=9), ax.figure
    figure.canvas.draw()  # puts the legend in the best place
    box = legend.get_window_extent()
    curves = (line.get_transform().transform_path(line.get_path()) for line in ax.lines)
    makes_room = len(figure.axes) == 1 or figure.get_layout_engine() is not None
    if makes_room and any(curve.intersects_bbox(box, filled=False) for curve in curves):
        ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))


def history(record, metrics=None, baselines=None, title=None):
    """Draw the learning curves of one training run, training beside validation, one pair of axes for each metric.

    Args:
        record: `keras.callbacks.History` or its dict, name -> values by epoch.
        metrics: names to draw; None: every one that the record holds ("val_..." goes with its own), the learning rate
            left out.
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
        table: pandas DataFrame with a row for each run, as `utils.transfer.learning_curve` returns; several can be
            concatenated.
        x, y, by: its columns: number of images, score, name of the line. Rows that agree in `x` and `by` are
            repetitions.
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
    """Compare methods by one number each: a bar for the mean, and a line from the lowest to the highest where there are
    several.

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
        text = f"{mean:.3g}" if abs(mean) < 1000 else f"{mean:,.0f}"
        ax.annotate(
            text,
            (max(high, 0), row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # a baseline may pass behind it
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


def dots(values, xlabel="", baselines=None, log_x=False, title=None, ax=None):
    """Compare many figures at a glance: one row for each item, one colour for each method, one dot for each run.

    What a table of numbers hides: which items stand apart, how far, and whether by more than the runs differ. A line
    joins the lowest and the highest run; the mean is a vertical stroke where there are several.

    Args:
        values: dict of method -> dict of item -> number, or numbers over seeds. The items stand in the order in which
            they first appear, from the top; a method may lack some.
        xlabel: what the numbers are.
        baselines: dict of name -> number, each drawn as a dashed line.
        log_x: bool, a logarithmic axis.
        title: of the axes.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    items = list(dict.fromkeys(item for method in values.values() for item in method))
    ax = ax or plt.subplots(figsize=(WIDTH, 0.9 + 0.24 * len(items)), layout="constrained")[1]
    apart = 0.5 / max(len(values), 1)  # so that methods that agree do not hide one another
    for number, (name, method) in enumerate(values.items()):
        shift = apart * (number - (len(values) - 1) / 2)
        for item, runs in method.items():
            runs, row = np.atleast_1d(np.asarray(runs, "float64")), items.index(item) + shift
            if len(runs) > 1:
                ax.plot([runs.min(), runs.max()], [row, row], color=class_colour(number), linewidth=1)
                ax.plot(runs.mean(), row, "|", color=class_colour(number), markersize=8)
            label = name if item == next(iter(method)) else None
            ax.plot(runs, np.full(len(runs), row), "o", color=class_colour(number), markersize=4, label=label)
    for name, height in (baselines or {}).items():
        ax.axvline(height, color=GREY, linestyle=(0, (5, 3)), linewidth=1.3, zorder=0, label=name)
    if log_x:
        ax.set_xscale("log")
    ax.set_yticks(range(len(items)), [str(item) for item in items])
    ax.set_ylim(len(items) - 0.5, -0.5)  # whatever a shared axis had
    ax.set_xlabel(xlabel)
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    if title:
        ax.set_title(title)
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
    """Draw features brought down to two dimensions (by t-SNE or PCA), coloured by class, each class's name at its
    middle.

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
        ax.scatter(*own.T, s=14, color=class_colour(label), alpha=0.75, linewidths=0, label=class_name(label, classes))
    if images is not None:
        pixels = as_pixels(images)
        for index in _apart(points, thumbnails):
            _thumbnail(ax, points[index], pixels[index], class_colour(labels[index]))
    for label in np.unique(labels):
        ax.annotate(
            class_name(label, classes),
            np.median(points[labels == label], axis=0),
            ha="center",
            va="center",
            zorder=10,
            bbox={"facecolor": "white", "edgecolor": class_colour(label), "linewidth": 2, "boxstyle": "round,pad=.25"},
        )
    bare(ax)
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
        ax.barh(rows, values, color=BLUE if colours is None else list(colours), height=0.75)
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
    bare(ax)
    if title:
        ax.set_title(title)
    return ax
