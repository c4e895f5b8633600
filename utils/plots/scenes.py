"""Images with what is in them: boxes, instance masks, keypoints, semantic masks. A class has the same colour in all of
them.

Coordinates are pixels in which pixel i covers [i, i + 1), as everywhere in the course.
"""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from utils.labels import IGNORED
from utils.plots.base import GREY, WIDTH, as_pixels, bare, class_colour, draw_image

OBJECTS = ("boxes", "labels", "masks", "keypoints", "scores")
CROWD = 12  # objects of an image; names and scores of more would cover them


def show_objects(
    images,
    boxes=None,
    labels=None,
    masks=None,
    keypoints=None,
    scores=None,
    classes=None,
    names=True,
    titles=None,
    columns=4,
    title=None,
    tile=2.6,
):
    """Draw a grid of images with their objects: `show_objects(*arrays(name, split, target="boxes"))` shows a data set,
    and `show_objects(images, **model.detect(images))` what a detector found.

    Args:
        images: as for `show_images`.
        boxes: for each image (N, 4) `xyxy` pixels, an array or a list of them; or a dict of this and the following
            four, as `arrays` gives it.
        labels: for each image (N,) classes, int; objects with -1 are padding and not drawn. None: all of one class.
        masks: for each image (N, H, W), instance masks, bool or at least .5 inside; drawn as outlines with a
            translucent fill.
        keypoints: for each image (N, K, 3): x, y, visibility. Visible points (2) are dots, hidden ones (1) circles,
            absent ones (0) are left out.
        scores: for each image (N,), written behind the names.
        classes: names of the classes.
        names: whether to write the class at each object; if not, a legend below tells the colours. Where an image has
            more than 12 objects, which texts would cover, all get the legend, thinner lines, and no scores.
        titles: N texts above the images, such as captions.
        columns: images in a row.
        title: of the whole figure.
        tile: width of an image in inches, at most.

    Returns:
        Figure; a legend below tells dots from circles where there are keypoints.

    Raises:
        ValueError: no images, nothing to draw on them, or numbers that do not agree.
    """
    images = list(as_pixels(images)) if hasattr(images, "shape") else [as_pixels(image) for image in images]
    if not images:
        raise ValueError("there are no images to show")
    if isinstance(boxes, dict):
        given = {key: boxes.get(key) for key in OBJECTS}
    else:
        given = {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": keypoints, "scores": scores}
    given = {key: values for key, values in given.items() if values is not None}
    for key, values in {**given, "titles": images if titles is None else titles}.items():
        if len(values) != len(images):
            raise ValueError(f"{len(images)} images, but {key} for {len(values)}")
    columns = max(1, min(columns, len(images)))
    tile = min(tile, WIDTH / columns)
    lines = [textwrap.wrap(str(text), max(8, int(tile * 15))) for text in titles or []]  # 15 letters of size 9 an inch
    height = max(np.shape(image)[0] / np.shape(image)[1] for image in images) * tile
    rows = -(-len(images) // columns)
    room = height + 0.05 + 0.16 * max(map(len, lines), default=0)
    figure, grid = plt.subplots(
        rows, columns, figsize=(tile * columns, room * rows + 0.3), squeeze=False, layout="constrained"
    )
    axes = list(grid.flat)
    for ax in axes[len(images) :]:
        ax.set_visible(False)
    crowded = any(np.sum(np.asarray(values) >= 0) > CROWD for values in given.get("labels", ()))
    names, line = names and not crowded, 0.9 if crowded else 1.5
    if crowded:
        given.pop("scores", None)
    seen = set()
    for index, (ax, image) in enumerate(zip(axes, images)):
        objects = {key: np.asarray(values[index]) for key, values in given.items()}
        draw_objects(image, **objects, classes=classes, names=names, ax=ax, line=line)
        seen |= set(objects.get("labels", np.zeros(1)).astype(int).tolist()) - {-1}
        if titles is not None:
            ax.set_title("\n".join(lines[index]), fontsize=9, pad=3)
    handles = [] if names else class_handles(sorted(seen), classes)
    if "keypoints" in given:
        for text, face in (("visible keypoint", GREY), ("hidden keypoint", "white")):
            edge = "white" if face == GREY else GREY
            marker = Line2D(
                [], [], linestyle="none", marker="o", color=face, markeredgecolor=edge, markersize=6, label=text
            )
            handles.append(marker)
    legend(figure, handles)
    if title:
        figure.suptitle(title)
    return figure


def draw_objects(
    image, boxes=None, labels=None, masks=None, keypoints=None, scores=None, classes=None, names=True, ax=None, line=1.5
):
    """Draw one image with its objects.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3).
        boxes, labels, masks, keypoints, scores: of this image, as for `show_objects`.
        classes: names of the classes.
        names: whether to write the class at each object.
        ax: Axes to draw on; None for a new figure.
        line: points, width of the lines of boxes and masks.

    Returns:
        Axes.

    Raises:
        ValueError: neither boxes nor masks nor keypoints, or numbers that do not agree.
    """
    objects = {"boxes": boxes, "masks": masks, "keypoints": keypoints, "labels": labels, "scores": scores}
    objects = {key: np.asarray(value) for key, value in objects.items() if value is not None}
    if not objects.keys() & {"boxes", "masks", "keypoints"}:
        raise ValueError("give boxes, masks or keypoints to draw")
    count = len(next(iter(objects.values())))
    for key, value in objects.items():
        if len(value) != count:
            raise ValueError(f"{count} objects, but {len(value)} {key}")
    if ax is None:
        _, ax = plt.subplots(figsize=(4, 4))
    pixels = as_pixels(image)
    draw_image(ax, pixels)
    height, width = pixels.shape[:2]
    for index in range(count):
        label = int(objects["labels"][index]) if "labels" in objects else 0
        if label < 0:
            continue
        colour = class_colour(label)
        if "masks" in objects:
            draw_mask(ax, objects["masks"][index], colour, line)
        if "keypoints" in objects:
            draw_keypoints(ax, objects["keypoints"][index], colour)
        corner = None
        if "boxes" in objects:
            x0, y0, x1, y1 = (float(value) - 0.5 for value in objects["boxes"][index])
            # The white rim keeps the line apart from any ground.
            for thick, edge in ((1.75 * line, "white"), (line, colour)):
                ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=edge, linewidth=thick))
            corner = x0, y0, y1
        elif "masks" in objects and (objects["masks"][index] >= 0.5).any():
            rows, columns = np.nonzero(objects["masks"][index] >= 0.5)
            corner = columns.min() - 0.5, rows.min() - 0.5, rows.max() + 0.5
        text = ""
        if names and "labels" in objects:
            text = str(label if classes is None else classes[label])
        if "scores" in objects:
            text = f"{text} {objects['scores'][index]:.2f}".strip()
        if text and corner is not None:
            write(ax, text, *corner, colour, height)
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
    return ax


def draw_mask(ax, mask, colour, line=1.5):
    """The outline of an (H, W) mask with a translucent fill."""
    inside = np.asarray(mask) >= 0.5
    if not inside.any():
        return
    overlay = np.zeros((*inside.shape, 4), np.float32)
    overlay[inside] = *to_rgb(colour), 0.25
    ax.imshow(overlay)
    height, width = inside.shape
    ring = np.pad(inside, 1).astype(float)  # so that an outline closes at the image's edge
    ax.contour(
        np.arange(-1, width + 1), np.arange(-1, height + 1), ring, levels=[0.5], colors=[colour], linewidths=line
    )


def draw_keypoints(ax, points, colour):
    """Dots for visible points of (K, 3), circles for hidden ones."""
    points = np.asarray(points, float)
    for visibility, face, edge, rim in ((1, "white", colour, 1.3), (2, colour, "white", 0.7)):
        x, y, _ = points[points[:, 2] == visibility].T - 0.5
        ax.plot(x, y, "o", markersize=5, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=rim)


def write(ax, text, x, top, bottom, colour, height):
    """A label at the upper left corner of a box: above it, or inside where there is no room above."""
    dark = np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) < 0.5
    inside = top < 0.09 * height
    ax.text(
        max(x, 0),
        max(top, 0) if inside else top,
        text,
        fontsize=8,
        color="white" if dark else "black",
        va="top" if inside else "bottom",
        ha="left",
        clip_on=True,
        bbox={"facecolor": colour, "edgecolor": "none", "boxstyle": "square,pad=0.12", "alpha": 0.9},
    )


def show_masks(images, masks, predictions=None, classes=None, titles=None, columns=6, title=None, tile=1.6):
    """Draw images above their semantic masks, and below these the predicted ones; a legend tells the classes that
    occur.

    Masks are drawn over the faded image: background shows it, ignored pixels are white.

    Args:
        images: as for `show_images`.
        masks: for each image (H, W) int: 0 background, class c is c + 1, 255 ignored.
        predictions: likewise, or None.
        classes: names of the classes, with or without "background" in front.
        titles: N texts above the images.
        columns: images in a row; more images go on below.
        title: of the whole figure.
        tile: width of an image in inches, at most.

    Returns:
        Figure.

    Raises:
        ValueError: no images, or numbers or sizes that do not agree.
    """
    images = list(as_pixels(images)) if hasattr(images, "shape") else [as_pixels(image) for image in images]
    if not images:
        raise ValueError("there are no images to show")
    kinds = {"image": images, "truth": masks} | ({} if predictions is None else {"prediction": predictions})
    for name, values in {**kinds, "titles": images if titles is None else titles}.items():
        if len(values) != len(images):
            raise ValueError(f"{len(images)} images, but {name} for {len(values)}")
    columns = max(1, min(columns, len(images)))
    blocks = -(-len(images) // columns)
    tile = min(tile, (WIDTH - 0.3) / columns)
    figure, axes = plt.subplots(
        blocks * len(kinds),
        columns,
        figsize=(tile * columns + 0.3, (tile + (0.1 if titles is not None else 0.03)) * blocks * len(kinds) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    seen = set()
    for ax in axes.flat:
        ax.set_visible(False)
    for index, image in enumerate(images):
        block, column = divmod(index, columns)
        for row, (name, values) in enumerate(kinds.items()):
            ax = axes[block * len(kinds) + row, column]
            ax.set_visible(True)
            if name == "image":
                draw_image(ax, image)
                if titles is not None:
                    ax.set_title(str(titles[index]), fontsize=9, pad=3)
            else:
                mask = np.asarray(values[index])
                if mask.shape != image.shape[:2]:
                    raise ValueError(f"image {index} is {image.shape[:2]}, but its {name} is {mask.shape}")
                ax.imshow(coloured(image, mask))
                bare(ax)
                for spine in ax.spines.values():  # so that ignored pixels at the edge show as part of the image
                    spine.set(visible=True, color=GREY, linewidth=0.6)
                seen |= set(np.unique(mask).tolist())
            if column == 0:
                ax.set_ylabel(name, fontsize=9)
    classes = classes[1:] if classes is not None and len(classes) and classes[0] == "background" else classes
    handles = class_handles(sorted(int(value) - 1 for value in seen - {0, IGNORED}), classes)
    if IGNORED in seen:
        handles.append(Patch(facecolor="white", edgecolor=GREY, linewidth=0.6, label="ignored"))
    legend(figure, handles)
    if title:
        figure.suptitle(title)
    return figure


def coloured(image, mask):
    """The faded image with the classes of a semantic mask painted over: (H, W, 3) float."""
    pixels = image.astype("float32") / (255 if image.dtype == np.uint8 else 1)
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=-1)
    result = np.repeat((0.62 + 0.3 * grey)[..., None], 3, axis=-1)
    for value in np.unique(mask):
        if value == IGNORED:
            result[mask == value] = 1
        elif value:
            inside = mask == value
            result[inside] = 0.88 * np.array(to_rgb(class_colour(value - 1))) + 0.12 * grey[inside, None]
    return result


def class_handles(labels, classes):
    """The entries of a legend that tell the colour of each class."""
    return [
        Patch(facecolor=class_colour(label), label=str(label if classes is None else classes[label]))
        for label in labels
    ]


def legend(figure, handles):
    """A legend below a figure, if there is anything to tell."""
    if handles:
        columns = min(len(handles), max(2, int(figure.get_figwidth() * 0.8)))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, handlelength=1.2)


def show_scenes(scenes, classes=None, names=True, points=True, columns=4, title=None, tile=2.6):
    """Draw examples with everything that they hold: boxes, instance masks, keypoints, and the caption above.

    Args:
        scenes: a list of examples, each a dict as `load` gives it or anything with the same attributes, such as what
            `shapes.scene` gives; or one dict of a batch.
        classes: names of the classes.
        names: whether to write the class at each object; if not, a legend below tells the colours. Where an image has
            more than 12 objects, which texts would cover, all get the legend, thinner lines, and no scores.
        points: whether to draw keypoints, where there are any.
        columns: images in a row.
        title: of the whole figure.
        tile: width of an image in inches, at most.

    Returns:
        Figure.

    Raises:
        ValueError: no scenes, or scenes without boxes and masks.
    """
    if isinstance(scenes, dict):
        scenes = [{key: values[index] for key, values in scenes.items()} for index in range(len(scenes["image"]))]
    scenes = [example if isinstance(example, dict) else vars(example) for example in scenes]
    if not scenes:
        raise ValueError("there are no scenes to show")
    keys = [key for key in OBJECTS if key in scenes[0] and (points or key != "keypoints")]
    objects = {key: [np.asarray(example[key]) for example in scenes] for key in keys}
    titles = None
    if "caption" in scenes[0]:
        titles = [np.asarray(example["caption"]).item() for example in scenes]
        titles = [text.decode() if isinstance(text, bytes) else text for text in titles]
    images = [np.asarray(example["image"]) for example in scenes]
    return show_objects(
        images, **objects, classes=classes, names=names, titles=titles, columns=columns, title=title, tile=tile
    )
