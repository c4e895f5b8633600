"""Printed characters, drawn: a classification source that needs no file but the fonts inside matplotlib.

A glyph is drawn in two steps. Once for each character and font, FreeType (through Pillow) draws it large, and its
signed distance field is
kept: at each pixel the distance to the outline, positive in the ink. Then, for each image, the field is sampled through
a random affine map, and a ramp on the distance turns it into ink. Moving the ramp makes strokes thicker or thinner,
widening it blurs them, and a field has nothing finer than the outline, so sampling it coarsely does not alias (Green,
"Improved alpha-tested magnification for vector textures and special effects", SIGGRAPH courses 2007).

Image `index` of a split depends on (alphabet, seed, split, index) and on nothing else: not on the machine, the number
of processes, or which other images are drawn. What is drawn at random (font, angles, noise, ...) agrees to the bit
everywhere; the pixels agree exactly for equal versions of Pillow and NumPy on one kind of processor, and otherwise to a
few grey levels along the outlines, because FreeType and floating-point libraries differ in their rounding.

The splits never share an image: every image has its own seed, and the noise alone makes equal pictures impossible in
practice. They do share fonts, except in the alphabet `new_fonts`.
"""

import functools
import math
import pathlib
import string
from dataclasses import dataclass

import numpy as np

from utils.data.catalogue import register
from utils.data.description import Description
from utils.data.prepared import Prepared, Recipe
from utils.data.sources import encoded

VERSION = "1.0.0"  # of the pictures: raise it whenever they change, since prepared ones are kept
SIZE = 32
SPLITS = ("train", "validation", "test")
CAP_HEIGHT = 64  # pixels of a capital H in the distance fields
MARGIN = 12  # pixels of field kept around the ink
OVERSAMPLING = 2

DEJAVU = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
)
STIX = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta")
COMPUTER_MODERN = ("cmr10", "cmb10", "cmti10", "cmmi10", "cmss10", "cmtt10")  # ASCII letters stand at their usual codes


@dataclass(frozen=True)
class Alphabet:
    """What one configuration of `glyphs` draws.

    Attributes:
        name: the configuration.
        title: for people.
        characters: the classes, in the order of their labels.
        fonts: file names, without `.ttf`, of the fonts in the train and validation splits.
        test_fonts: those of the test split.
        heights: (low, high), pixels of a capital in the images.
        per_class: images a class in each split.
    """

    name: str
    title: str
    characters: tuple[str, ...]
    fonts: tuple[str, ...]
    test_fonts: tuple[str, ...]
    heights: tuple[float, float] = (17, 22)
    per_class: tuple[int, int, int] = (240, 40, 40)

    @property
    def counts(self):
        """Images in each split, by name."""
        return {split: count * len(self.characters) for split, count in zip(SPLITS, self.per_class)}


GREEK = tuple("αβγδεζηθικλμνξοπρστυφχψωΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ")
CYRILLIC = tuple("абвгдежзийклмнопрстуфхцчшщъыьэюяАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ")
LATIN = tuple(string.ascii_letters)
ALL_FONTS = DEJAVU + STIX + COMPUTER_MODERN

ALPHABETS = {
    alphabet.name: alphabet
    for alphabet in (
        Alphabet("latin", "Printed letters", LATIN, ALL_FONTS, ALL_FONTS),
        Alphabet("new_fonts", "Printed letters, tested on other fonts", LATIN, DEJAVU + STIX, COMPUTER_MODERN),
        Alphabet("greek", "Printed Greek letters", GREEK, DEJAVU + STIX[:2], DEJAVU + STIX[:2]),
        Alphabet("cyrillic", "Printed Cyrillic letters", CYRILLIC, DEJAVU + STIX, DEJAVU + STIX, (14.5, 18.5)),
        Alphabet("numerals", "Printed numerals", tuple(string.digits), ALL_FONTS, ALL_FONTS),
    )
}


def labels(alphabet, split):
    """The class of every image of a split.

    Args:
        alphabet: a key of `ALPHABETS`.
        split: "train", "validation" or "test".

    Returns:
        (N,) int32: 0, 1, ..., C - 1, 0, 1, ..., so that any C images in a row hold every class once.
    """
    alphabet = ALPHABETS[alphabet]
    return np.arange(alphabet.counts[split], dtype=np.int32) % len(alphabet.characters)


def draw(alphabet, split, indices=None, seed=0):
    """Draws images of a split.

    Args:
        alphabet: a key of `ALPHABETS`.
        split: "train", "validation" or "test".
        indices: which images, integers from 0; the whole split if None. Indices past the split's end give further
            images of the same kind.
        seed: another seed gives another data set.

    Returns:
        (N, 32, 32, 1) uint8.
    """
    alphabet = ALPHABETS[alphabet]
    indices = range(alphabet.counts[split]) if indices is None else indices
    images = np.empty((len(indices), SIZE, SIZE, 1), np.uint8)
    for row, index in enumerate(indices):
        images[row, :, :, 0] = draw_one(alphabet, split, int(index), seed)
    return images


def draw_one(alphabet, split, index, seed=0):
    """Draws image `index` of a split of an `Alphabet`: (32, 32) uint8, of class `index % len(alphabet.characters)`."""
    from PIL import Image

    sequence = np.random.SeedSequence([seed, list(ALPHABETS).index(alphabet.name), SPLITS.index(split), index])
    random = np.random.Generator(np.random.PCG64(sequence))
    choice = random.random(16)
    fonts = alphabet.test_fonts if split == "test" else alphabet.fonts
    font = fonts[int(choice[0] * len(fonts))]
    field, origin = distance_field(font, alphabet.characters[index % len(alphabet.characters)])
    width, middle = field.shape[1] - 2 * MARGIN, vertical_middle(font, alphabet.name)

    height = between(choice[1], *alphabet.heights)
    scale = height / CAP_HEIGHT  # image pixels per field pixel
    angle = math.radians(between(choice[2], -12, 12))
    shear = between(choice[3], -0.2, 0.2)
    stretch = min(
        between(choice[4], 0.85, 1.15), 28 / (width * scale)
    )  # the widest letters are squeezed into the image
    x, y = SIZE / 2 + between(choice[5], -2, 2), SIZE / 2 + between(choice[6], -1.5, 1.5)
    weight = between(choice[7], -0.15, 0.5)  # image pixels added on each side of a stroke
    blur = between(choice[8] ** 2, 0.5, 2)  # image pixels from ground to ink

    # Field coordinates of an image point: undo the shift, the turn, the shear, and the scale.
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = np.array([[cosine + shear * -sine, sine + shear * cosine], [-sine, cosine]])
    matrix /= [[scale * stretch], [scale]]
    offset = np.array([MARGIN + width / 2, origin - middle]) - matrix @ (x, y)
    matrix /= OVERSAMPLING
    side = SIZE * OVERSAMPLING
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    distance = field.image.transform(
        (side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=-1e3
    )
    ink = np.asarray(distance) * (scale / blur) + (0.5 + weight / blur)
    ink = np.clip(ink, 0, 1).reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING).mean(axis=(1, 3))

    contrast = between(choice[9], 90, 230)
    dark = between(choice[10], 0, 255 - contrast)
    ground, colour = (dark, dark + contrast) if choice[11] < 0.5 else (dark + contrast, dark)
    coarse = Image.frombytes("L", (6, 6), random.bytes(36)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    fine = np.frombuffer(random.bytes(2 * SIZE * SIZE), np.uint8).reshape(2, SIZE, SIZE)
    clouds = (np.asarray(coarse, np.float32) / 255 - 0.5) * (between(choice[12], 0, 0.5) * contrast)
    noise = (fine[0].astype(np.float32) + fine[1] - 255) / 510 * (between(choice[13] ** 2, 0.02, 0.5) * contrast)
    return np.clip(np.rint(ground + clouds + (colour - ground - clouds) * ink + noise), 0, 255).astype(np.uint8)


def between(share, low, high):
    """The number at `share` in [0, 1) of the way from `low` to `high`."""
    return low + share * (high - low)


@dataclass(frozen=True)
class Field:
    """A signed distance field as a Pillow image of mode F."""

    image: object
    shape: tuple[int, int]


@functools.cache
def distance_field(font, character):
    """The signed distance field of a character, at `CAP_HEIGHT` pixels a capital, and the row of its baseline.

    Returns:
        (Field, float): the field reaches `MARGIN` pixels beyond the ink on every side.
    """
    from PIL import Image
    from scipy.ndimage import distance_transform_edt

    mask, (_, top) = typeface(font).getmask2(character, "L", anchor="ls")
    ink = np.array(mask, np.uint8).reshape(mask.size[::-1]) >= 128
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = np.pad(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], MARGIN)
    field = np.where(ink, distance_transform_edt(ink) - 0.5, 0.5 - distance_transform_edt(~ink))
    return Field(Image.fromarray(field.astype(np.float32)), ink.shape), MARGIN - (top + rows[0])


@functools.cache
def vertical_middle(font, alphabet):
    """Pixels from the baseline up to the middle of the band that holds every character of an alphabet."""
    boxes = [typeface(font).getbbox(character, anchor="ls") for character in ALPHABETS[alphabet].characters]
    return -(min(box[1] for box in boxes) + max(box[3] for box in boxes)) / 2


@functools.cache
def typeface(font):
    """The font of that file name, at the size that makes a capital H `CAP_HEIGHT` pixels high."""
    import matplotlib
    from PIL import ImageFont

    path = str(pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", font + ".ttf"))
    basic = ImageFont.Layout.BASIC  # Raqm is not in every build of Pillow
    top = ImageFont.truetype(path, 1000, layout_engine=basic).getbbox("H", anchor="ls")[1]
    return ImageFont.truetype(path, CAP_HEIGHT * 1000 / -top, layout_engine=basic)


def features(tfds, alphabet):
    """The features of an example, as TensorFlow Datasets keeps it."""
    return {
        "image": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=ALPHABETS[alphabet].characters),
    }


def examples(split, alphabet):
    """(key, features) of each example of a split, in the order of their indices."""
    for index, label in enumerate(labels(alphabet, split)):
        yield index, {"image": encoded(draw(alphabet, split, [index])[0, ..., 0]), "label": int(label)}


RECIPE = Recipe(
    "glyphs",
    VERSION,
    __doc__,
    SPLITS,
    features,
    examples,
    in_order=True,
    configs={alphabet.name: alphabet.title for alphabet in ALPHABETS.values()},
)


class Glyphs(Prepared):
    """`arrays` draws the glyphs that it needs; `load` reads the prepared ones, which are the same."""

    def labels(self, split):
        return labels(self._config, split)

    def images(self, split, indices):
        return draw(self._config, split, indices)


NOTES = {
    "latin": "In fonts without serifs I and l are the same bar and cannot be told apart. c C, o O, s S, v V, w W, x X, "
    "z Z and their like "
    "differ in size alone; size is kept, and in nearly every font the largest small letter is lower than the smallest "
    "capital. A support "
    "vector machine on HOG features gets .96 of the validation split right; the one pair that it often mistakes is I "
    "and l.",
    "new_fonts": "Train and validation are drawn in DejaVu and STIX, test in Computer Modern, so that what is learnt "
    "must carry over to fonts "
    "never seen. In fonts without serifs I and l are the same bar.",
    "greek": "A capital and its small letter often differ in size alone.",
    "cyrillic": "A capital and its small letter mostly differ in size alone; in italics some letters have another "
    "shape.",
    "numerals": "One font of Computer Modern (cmmi10) has old-style numerals, whose 0, 1 and 2 are as low as small "
    "letters.",
}


@register("glyphs")
def glyphs(alphabet="latin"):
    """Printed characters in the fonts of matplotlib: 32 x 32 grey."""
    chosen = ALPHABETS[alphabet]
    name = "glyphs" if alphabet == "latin" else f"glyphs/{alphabet}"
    description = Description(
        name=name,
        title=chosen.title,
        classes=chosen.characters,
        splits=chosen.counts,
        image_shape=(SIZE, SIZE, 1),
        licence="drawn here; the fonts (DejaVu, STIX, Computer Modern) are free to draw with",
        citation="the fonts that matplotlib carries: DejaVu, STIX, BaKoMa Computer Modern",
        source="utils.data.glyphs",
        note=NOTES[alphabet],
        variants=tuple(f"glyphs/{other}" for other in ALPHABETS),
    )
    return Glyphs(description, RECIPE, alphabet)
