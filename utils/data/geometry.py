"""Where the pixels of an image go when it is resized, and with them its masks, boxes and keypoints; in NumPy.

Coordinates are those of corners: pixel i covers [i, i + 1), an image of width W covers [0, W].
"""

from dataclasses import dataclass

import numpy as np

GREY = 114  # the border of a letterboxed image; the value is YOLOv5's
RESIZES = ("stretch", "letterbox")


@dataclass(frozen=True)
class Placement:
    """Where an image lies on a canvas.

    Attributes:
        shape: (height, width) of the image.
        size: (height, width) of the image on the canvas, in whole pixels.
        canvas: (height, width) of the canvas.
        offset: (top, left) of the image on the canvas, in whole pixels.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    canvas: tuple[int, int]
    offset: tuple[int, int] = (0, 0)

    @property
    def whole(self):
        """Whether the image fills the canvas."""
        return self.size == self.canvas

    def boxes(self, boxes):
        """Boxes (..., 4) `xyxy` in the image, on the canvas: float32."""
        return (np.asarray(boxes, np.float32) * self._scale() + self._shift()).astype(np.float32)

    def boxes_back(self, boxes):
        """Boxes (..., 4) `xyxy` on the canvas, in the image and clipped to it: float32."""
        from utils.boxes import clip  # imports Keras, which most of utils.data does without

        height, width = self.shape
        found = (np.asarray(boxes, np.float32) - self._shift()) / self._scale()
        return clip(found, height, width).astype(np.float32)

    def keypoints(self, keypoints):
        """Keypoints (..., 3) of the image on the canvas: float32. Those with visibility 0 stay at zero."""
        keypoints = np.asarray(keypoints, np.float32)
        places = keypoints[..., :2] * self._scale()[:2] + self._shift()[:2]
        visible = keypoints[..., 2:]
        return np.concatenate([places * (visible > 0), visible], axis=-1).astype(np.float32)

    def mask(self, mask, border=0):
        """Masks (..., H, W) on the canvas: each pixel takes the value at its centre, and what is around the image takes
        `border`.
        """
        if tuple(mask.shape[-2:]) != tuple(self.shape):
            raise ValueError(
                f"a mask of {tuple(mask.shape[-2:])} pixels (height, width) for an image of {tuple(self.shape)}"
            )
        if self.size != self.shape:
            rows, columns = (
                ((2 * np.arange(new) + 1) * old) // (2 * new) for new, old in zip(self.size, self.shape, strict=True)
            )
            mask = mask.take(rows, axis=-2).take(columns, axis=-1)
        return mask if self.whole else self._on_canvas(mask, border, axis=-2)

    def image(self, image):
        """An image (H, W, C) uint8 on the canvas: bilinear, with a wider kernel when it shrinks; grey around it."""
        from PIL import Image

        if self.size != self.shape:
            picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
            picture = np.asarray(picture.resize(self.size[::-1], Image.Resampling.BILINEAR))
            image = picture[..., None] if picture.ndim == 2 else picture
        return image if self.whole else self._on_canvas(image, GREY, axis=0)

    def _on_canvas(self, values, border, axis):
        axis %= values.ndim
        result = np.full((*values.shape[:axis], *self.canvas, *values.shape[axis + 2 :]), border, values.dtype)
        place = tuple(slice(start, start + side) for start, side in zip(self.offset, self.size, strict=True))
        result[(slice(None),) * axis + place] = values
        return result

    def _scale(self):
        y, x = (new / old for new, old in zip(self.size, self.shape, strict=True))
        return np.array([x, y, x, y], np.float32)

    def _shift(self):
        y, x = self.offset
        return np.array([x, y, x, y], np.float32)


def place(shape, canvas, resize):
    """How an image comes onto a canvas.

    Args:
        shape: (height, width) of the image.
        canvas: (height, width).
        resize: "stretch" to fill the canvas without regard to the aspect, "letterbox" to keep the aspect, centred, with
            a border on two sides.

    Returns:
        `Placement`.
    """
    if resize == "stretch":
        return Placement(tuple(shape), tuple(canvas), tuple(canvas))
    scale = min(new / old for new, old in zip(canvas, shape, strict=True))
    size = tuple(min(max(round(scale * old), 1), new) for old, new in zip(shape, canvas, strict=True))
    offset = tuple((new - inner) // 2 for new, inner in zip(canvas, size, strict=True))
    return Placement(tuple(shape), size, tuple(canvas), offset)


def letterbox(image, image_size):
    """Resizes one image with its aspect kept, as `load(..., resize="letterbox")` does.

    Args:
        image: (H, W, C) uint8, C 1 or 3.
        image_size: int or (height, width).

    Returns:
        (height, width, C) uint8, grey (114) where the image does not reach. `boxes_back` leads boxes found in it back
        to the image.
    """
    return place(image.shape[:2], checked_size(image_size), "letterbox").image(image)


def boxes_back(boxes, shape, image_size, resize="letterbox"):
    """Leads boxes found in a resized image back to the original, clipped to it.

    Args:
        boxes: (..., 4) `xyxy` pixels of the resized image. Padding (zero boxes) comes back without area.
        shape: (height, width) of the original image; what follows is not looked at, so that `image.shape` serves.
        image_size: int or (height, width) to which it was resized.
        resize: "letterbox" or "stretch", as given to `load`.

    Returns:
        (..., 4) float32 `xyxy` pixels of the original.
    """
    return place(tuple(shape)[:2], checked_size(image_size), checked_resize(resize)).boxes_back(boxes)


def checked_size(image_size):
    """`image_size` as (height, width) or None; ValueError if it is neither an int, nor a pair, nor None."""
    if image_size is None:
        return None
    size = tuple(image_size) if np.ndim(image_size) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size):
        raise ValueError(f"image_size must be a number of pixels or (height, width), got {image_size!r}")
    return tuple(int(side) for side in size)


def checked_resize(resize):
    """ValueError if `resize` is not a way to resize."""
    if resize not in RESIZES:
        raise ValueError(f"resize must be {' or '.join(map(repr, RESIZES))}, got {resize!r}")
    return resize
