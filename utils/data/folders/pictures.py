"""Pictures in files: which they are, whether they decode, and how they are read."""

import concurrent.futures
import functools
import os

import numpy as np

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
LEFT_BEHIND = (
    "thumbs.db",
    "desktop.ini",
    "__macosx",
)  # what operating systems leave behind; names that begin with a dot as well


def visible(folder):
    """What is in a folder, sorted by name, without what operating systems leave behind."""
    try:
        return sorted(
            path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in LEFT_BEHIND
        )
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from error


def subfolders(folder):
    """The folders in a folder."""
    return [path for path in visible(folder) if path.is_dir()]


def is_picture(path):
    """Whether a file's name says that it is a picture."""
    return path.suffix.lower() in ENDINGS


def inspect_all(files):
    """Decodes every file once.

    Returns:
        ({file: (height, width, channels)} of those that decode, {file: reason} of the others).
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = dict(zip(files, pool.map(inspect, files)))
    shapes = {file: shape for file, shape in found.items() if not isinstance(shape, str)}
    return shapes, {file: reason for file, reason in found.items() if isinstance(reason, str)}


def inspect(file):
    """(height, width, channels) of a picture, or words that say why it cannot be used."""
    try:
        state = os.stat(file)
    except OSError as error:
        return error.strerror
    return _inspect(file, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 16)
def _inspect(file, size, _modified):
    from PIL import Image

    if not size:
        return "empty"
    try:
        with Image.open(file, formats=FORMATS) as picture:
            width, height = picture.size
            if picture.getexif().get(ORIENTATION, 1) >= 5:  # lies on its side
                width, height = height, width
            channels = 1 if is_grey(picture) else 3
            picture.draft(None, (64, 64))  # a JPEG is read to its end, but not drawn in full
            picture.load()
    except Image.UnidentifiedImageError:
        return "not a picture (JPEG, PNG, BMP, GIF, WebP)"
    except Exception as error:  # broken files make Pillow raise errors of many kinds
        return str(error) or type(error).__name__
    return height, width, channels


ORIENTATION = 0x0112  # the EXIF tag


def is_turned(file):
    """Whether a picture's EXIF data says that it is to be turned or mirrored."""
    from PIL import Image

    with Image.open(file, formats=FORMATS) as picture:
        return picture.getexif().get(ORIENTATION, 1) in range(2, 9)


def stored_size(file):
    """(height, width) of a picture as it lies in its file, not turned upright."""
    from PIL import Image

    with Image.open(file, formats=FORMATS) as picture:
        return picture.size[::-1]


def is_grey(picture):
    """Whether a Pillow image has no colour by its mode."""
    return picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")


def read(file, channels, upright=True):
    """Reads a picture, on white where it is transparent.

    Args:
        file: path.
        channels: 1 for grey, 3 for RGB.
        upright: whether to turn it as its EXIF data says.

    Returns:
        (H, W, channels) uint8.
    """
    from PIL import Image, ImageOps

    with Image.open(file, formats=FORMATS) as picture:
        if upright:
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):
            picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        array = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array
