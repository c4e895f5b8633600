"""Images, filters and feature maps in grids."""

import numpy as np

from utils.plots.base import BLACK, VERMILLION, as_pixels, bare, class_name, draw_image, tiles


def show_images(images, labels=None, predictions=None, classes=None, titles=None, columns=8, title=None, tile=1.3):
    """Draw a grid of images, each under its class, or under its prediction.

    Args:
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3), or a list of images of different sizes; uint8, or float in [0,
            1] or [0, 255] (below 0: the whole range of values is spread over black to white).
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
        images = list(as_pixels(images))
    else:
        images = [as_pixels(image) for image in images]
    if not images:
        raise ValueError("there are no images to show")
    for name, values in [("labels", labels), ("predictions", predictions), ("titles", titles)]:
        if values is not None and len(values) != len(images):
            raise ValueError(f"{len(images)} images, but {len(values)} {name}")
    colours = [BLACK] * len(images)
    if titles is None and predictions is not None:
        titles = [class_name(prediction, classes) for prediction in predictions]
        if labels is not None:
            truths = [class_name(label, classes) for label in labels]
            colours = [BLACK if a == b else VERMILLION for a, b in zip(titles, truths)]
            titles = [a if a == b else f"{a}, not {b}" for a, b in zip(titles, truths)]
    elif titles is None and labels is not None:
        titles = [class_name(label, classes) for label in labels]
    figure, axes = tiles(len(images), columns, tile, titles is not None)
    for index, (ax, image) in enumerate(zip(axes, images)):
        draw_image(ax, image)
        if titles is not None:
            ax.set_title(str(titles[index]), color=colours[index], fontsize=10, pad=3)
    if title:
        figure.suptitle(title)
    return figure


def show_filters(kernels, columns=8, titles=None, title=None, tile=1.0):
    """Draw the kernels of a convolution: blue below zero, white at zero, red above, one scale for all of them.

    Kernels over three channels are drawn as colours, grey at zero. Of kernels over any other number of channels, each
    row of the figure shows one filter, channel by channel.

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
    figure, axes = tiles(filters * shown, columns if shown == 1 else shown, tile, titles is not None)
    for index, ax in enumerate(axes):
        number, channel = divmod(index, shown)
        if channels == 3:
            draw_image(ax, 0.5 + kernels[..., number] / (2 * scale))
        else:
            ax.imshow(kernels[:, :, channel, number], cmap="RdBu_r", vmin=-scale, vmax=scale)
            bare(ax)
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
        scale: "shared": one scale for all maps, so that strong and weak ones differ; "each": every map uses the whole
            range.
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
    figure, axes = tiles(shown.shape[-1] + first, columns, tile, True)
    if first:
        draw_image(axes[0], as_pixels(image))
        axes[0].set_title("image", fontsize=9, pad=3)
    for index, ax in enumerate(axes[first:]):
        one = shown[..., index]
        limits = shown if scale == "shared" else one
        ax.imshow(one, cmap="viridis", vmin=limits.min(), vmax=limits.max())
        ax.set_title(f"map {index}", fontsize=9, pad=3)
        bare(ax)
    if title:
        figure.suptitle(title)
    return figure
