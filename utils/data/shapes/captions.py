"""One line of text for a scene, in a grammar small enough to be learnt.

    caption  = object | object relation object
    object   = ("a" | "an") colour class
    relation = "left of" | "right of" | "above" | "below"

A scene of one object is named by it: "a red star". Of a scene of several, the two with the largest visible parts are
told: "a red star left of a blue ring". Which of the two is named first depends on what they are, not on where: first
the class that comes first in `CLASSES`, then the colour that comes first in `COLOURS`, then the one further to the
left. The relation is that of the middles of their boxes along the axis on which they are further apart (horizontal if
equal).
"""

from utils.data.shapes.configs import CLASSES, COLOURS

ARTICLES = ("a", "an")
RELATIONS = ("left of", "right of", "above", "below")


def vocabulary():
    """Every word that a caption can hold, 21 of them, in a fixed order.

    Returns:
        tuple of str: articles, colours, classes, words of the relations.
    """
    return (*ARTICLES, *COLOURS, *CLASSES, "left", "right", "of", "above", "below")


def name_object(label, colour):
    """ "a red star" of a class (index into `CLASSES`) and the name of a colour."""
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {CLASSES[label]}"


def describe_objects(labels, colours, boxes, areas):
    """The caption of a scene.

    Args:
        labels: (N,) int, N >= 1, indices into `CLASSES`.
        colours: N names of `COLOURS`.
        boxes: (N, 4), `xyxy` pixels.
        areas: (N,) visible pixels.

    Returns:
        str.
    """
    order = sorted(range(len(labels)), key=lambda i: (-int(areas[i]), i))[:2]
    middles = [(float(boxes[i][0] + boxes[i][2]), float(boxes[i][1] + boxes[i][3])) for i in range(len(labels))]
    order.sort(key=lambda i: (int(labels[i]), COLOURS.index(colours[i]), middles[i]))
    named = [name_object(int(labels[i]), colours[i]) for i in order]
    if len(named) == 1:
        return named[0]
    (x, y), (other_x, other_y) = (middles[i] for i in order)
    if abs(x - other_x) >= abs(y - other_y):
        relation = "left of" if x <= other_x else "right of"
    else:
        relation = "above" if y < other_y else "below"
    return f"{named[0]} {relation} {named[1]}"
