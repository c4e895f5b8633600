"""What is known about a data set, in a form that prints well."""

import html
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Description:
    """What a data set holds and where it comes from.

    Attributes:
        name: what `load` and `arrays` call it.
        title: for people.
        classes: names of the classes, in the order of their labels.
        splits: number of images by name of split.
        image_shape: (height, width, channels); None where images differ.
        licence: of the images.
        citation: whom to name.
        source: where the images come from.
        note: what one should know before drawing conclusions from it.
        variants: other names under which the same kind of data is found.
        targets: the keys of an example besides `image`: "label", "mask", "boxes" with "labels" (and "ignored" where
            there are crowds or difficult objects), "masks", "keypoints", "caption".
        mask_classes: what the values 0, 1, ... of a semantic mask mean: ("background", *classes) where there is one,
            else ().
        max_objects: the largest number of objects in an image, to which boxes are padded; 0 without boxes.
        keypoints: names of an object's keypoints, in order; () without.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    splits: dict[str, int]
    image_shape: tuple[int | None, int | None, int]
    licence: str
    citation: str
    source: str
    note: str = ""
    variants: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("label",)
    mask_classes: tuple[str, ...] = ()
    max_objects: int = 0
    keypoints: tuple[str, ...] = ()

    def rows(self):
        """Pairs (what, value) of text, for printing."""
        shown = self.classes if len(self.classes) <= 60 else (*self.classes[:60], "...")
        rows = [
            (count_of(len(self.classes), "class", "classes"), (" " if len(self.classes) > 20 else ", ").join(shown)),
            ("splits", ", ".join(f"{split} {count:,}" for split, count in self.splits.items())),
            ("images", " x ".join("any" if side is None else str(side) for side in self.image_shape) + ", uint8"),
            ("truth", ", ".join(self.targets)),
            ("objects", f"up to {self.max_objects} in an image" if self.max_objects else ""),
            ("keypoints", ", ".join(self.keypoints)),
            ("source", self.source),
            ("licence", self.licence),
            ("citation", self.citation),
            ("note", self.note),
            ("variants", ", ".join(self.variants)),
        ]
        return [(what, value) for what, value in rows if value]

    def __str__(self):
        lines = [f"{self.name}: {self.title}"]
        wrap = textwrap.TextWrapper(110, subsequent_indent=" " * 14, break_on_hyphens=False, break_long_words=False)
        for what, value in self.rows():
            wrap.initial_indent = f"  {what:<12}"
            lines += wrap.wrap(value)
        return "\n".join(lines)

    def _repr_html_(self):
        cells = "".join(
            f'<tr><th style="text-align:left;vertical-align:top">{html.escape(what)}</th>'
            f'<td style="text-align:left;max-width:50em">{html.escape(value)}</td></tr>'
            for what, value in self.rows()
        )
        return f"<table><caption>{html.escape(self.name)}: {html.escape(self.title)}</caption>{cells}</table>"


def count_of(count, one, many):
    """ "1 class", "2 classes"."""
    return f"{count} {one if count == 1 else many}"
