"""What can be drawn: classes, colours, styles, and the configurations by name."""

from dataclasses import dataclass

VERSION = "1.1.0"  # of the pictures: raise it whenever they change, since prepared ones are kept
SPLITS = ("train", "validation", "test")
CLASSES = ("circle", "square", "triangle", "star", "cross", "ring")
KEYPOINTS = ("centre", "top", "right", "left", "lower right", "lower left", "bottom")
REFERENCE = 96  # pixels of an image's shorter side for which radii are given

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")


@dataclass(frozen=True)
class Style:
    """How scenes look.

    Attributes:
        colours: sRGB of each of `COLOURS`.
        fills: the textures that fill objects, names of functions in `utils.data.shapes.painting`.
        ground: the texture of the ground, likewise.
        outlined: whether objects have an outline of another brightness.
        softness: pixels, at a shorter side of 96, from the inside of an edge to the outside.
    """

    colours: tuple[tuple[int, int, int], ...]
    fills: tuple[str, ...]
    ground: str
    outlined: bool
    softness: float


STYLES = {
    "clouds": Style(
        colours=(
            *((222, 62, 44), (240, 152, 32), (246, 224, 64), (28, 164, 112)),
            *((56, 128, 228), (172, 92, 196), (242, 242, 236), (36, 36, 42)),
        ),
        fills=("plain", "stripes", "checks", "dots", "shading"),
        ground="clouds",
        outlined=True,
        softness=1.0,
    ),
    "weave": Style(
        colours=(
            *((190, 88, 84), (222, 160, 112), (226, 216, 142), (96, 152, 120)),
            *((104, 136, 176), (152, 116, 160), (228, 224, 214), (58, 54, 52)),
        ),
        fills=("hatching", "ripples", "plain"),
        ground="weave",
        outlined=False,
        softness=2.6,
    ),
}

# The colours of the ground of the biased configurations, in the order of the classes.
GROUNDS = ((36, 48, 92), (178, 208, 160), (92, 36, 44), (222, 204, 152), (22, 76, 74), (206, 184, 222))


@dataclass(frozen=True)
class Config:
    """One kind of scenes.

    Attributes:
        name: the configuration; it is part of the seed.
        title: for people.
        objects: (least, most) objects in a scene; a scene has fewer when no room is found for more.
        radius: (least, most) radius of the circle around an object, in pixels of an image whose shorter side has 96.
        visible: the least share of an object's pixels that others, and the image's edge, leave visible.
        outside: the part of its radius by which an object may stand out of the image.
        style: a key of `STYLES`.
        ground: "random", or "biased": in train and validation the ground's colour tells the class of the first object,
            in test it does not.
        balanced: whether the first object of image i has the class i modulo 6.
        size: default height and width of the images, pixels.
        counts: scenes in the splits train, validation and test.
    """

    name: str
    title: str
    objects: tuple[int, int] = (1, 4)
    radius: tuple[float, float] = (9, 25)
    visible: float = 0.5
    outside: float = 0.0
    style: str = "clouds"
    ground: str = "random"
    balanced: bool = False
    size: int = 96
    counts: tuple[int, int, int] = (4000, 500, 1000)

    def __post_init__(self):
        low, high = self.objects
        if not 1 <= low <= high <= 250:
            raise ValueError(f"objects must be (least, most) with 1 <= least <= most <= 250, got {self.objects}")
        low, high = self.radius
        if not 3 <= low <= high <= REFERENCE / 2 - 2:
            raise ValueError(
                f"radius must be (least, most) between 3 and {REFERENCE // 2 - 2} pixels, got {self.radius}"
            )
        if not 0 < self.visible <= 1:
            raise ValueError(f"visible must be in (0, 1], got {self.visible}")
        if not 0 <= self.outside <= 1:
            raise ValueError(f"outside must be in [0, 1], got {self.outside}")
        if self.style not in STYLES:
            raise ValueError(f"unknown style {self.style!r}: known: {', '.join(STYLES)}")
        if self.ground not in ("random", "biased"):
            raise ValueError(f"ground must be 'random' or 'biased', got {self.ground!r}")

    @property
    def splits(self):
        """Scenes in each split, by name."""
        return dict(zip(SPLITS, self.counts))


CONFIGS = {
    config.name: config
    for config in (
        Config("default", "Scenes of one to four shapes"),
        Config("crowded", "Scenes of five to twelve shapes", (5, 12), (8, 20), visible=0.35, outside=0.5),
        Config("small", "Scenes of small shapes", (1, 6), (4, 9)),
        Config("shifted", "Scenes of one to four shapes in another style", style="weave"),
        Config("pairs", "Scenes of one or two shapes", (1, 2), (11, 25), visible=0.85),
        Config("biased", "One shape on a ground that gives it away", (1, 1), ground="biased", balanced=True),
        Config("crops", "Single shapes", (1, 1), (18, 42), balanced=True, size=48, counts=(9996, 1002, 2004)),
        Config(
            "crops_shifted",
            "Single shapes in another style",
            (1, 1),
            (18, 42),
            style="weave",
            balanced=True,
            size=48,
            counts=(9996, 1002, 2004),
        ),
        Config(
            "crops_biased",
            "Single shapes on a ground that gives them away",
            (1, 1),
            (18, 42),
            ground="biased",
            balanced=True,
            size=48,
            counts=(9996, 1002, 2004),
        ),
    )
}
