"""The course's palette and style, and what the other figures are made of."""

import io
import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

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
    # A figure that is open is shown at the end of the cell; as the cell's value it would come a second time, and an
    # Axes, a legend, the titles and ticks that were set, as text.
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
    from matplotlib.container import Container
    from matplotlib.figure import Figure

    def leave_out_artists(values):
        if not any(isinstance(value, (Artist, Container)) for value in values):
            raise NotImplementedError  # IPython's word for: show it as ever

    def show(figure):
        if figure.get_axes():
            display(Image(print_figure(figure), format="png"))
        plt.close(figure)

    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type(Artist, lambda artist: None)
    formatter.for_type(Figure, show)
    formatter.for_type(list, leave_out_artists)
    formatter.for_type(tuple, leave_out_artists)


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


def as_pixels(images):
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


def draw_image(ax, pixels, cmap="gray"):
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    if pixels.ndim != 2 and pixels.shape[-1] not in (3, 4):
        raise ValueError(f"an image has 1 or 3 channels, got the shape {pixels.shape}")
    ax.imshow(pixels, cmap=cmap, vmin=0, vmax=255 if pixels.dtype == np.uint8 else 1)
    bare(ax)


def draw_cells(ax, shape, grid):
    """The white lines between the cells of a map, over an image.

    Args:
        ax: Axes.
        shape: (height, width, ...) of the image in pixels.
        grid: (rows, columns) of the map; cells that the image cuts may be parts: 6.5 rows, say.

    Returns:
        (2,) float: width and height of a cell in pixels.
    """
    (height, width), (rows, columns) = shape[:2], grid
    for x in np.arange(1, columns) * width / columns - 0.5:  # a pixel's centre lies at a whole number
        ax.axvline(x, color="white", linewidth=0.7, alpha=0.8)
    for y in np.arange(1, rows) * height / rows - 0.5:
        ax.axhline(y, color="white", linewidth=0.7, alpha=0.8)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return np.array([width / columns, height / rows])


def bare(ax):
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def tiles(count, columns, tile, titled):
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


def class_name(label, classes):
    return str(label) if classes is None or isinstance(label, str) else str(classes[int(label)])
