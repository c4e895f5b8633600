"""Images with objects on them: where boxes, masks and points are drawn, in which colours, and what is written."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from utils import plots
from utils.data import shapes
from utils.plots import scenes as drawing

pytestmark = pytest.mark.once

CLASSES = ("cat", "dog", "fox")
IMAGE = np.full((20, 30, 3), 200, np.uint8)


@pytest.fixture(autouse=True)
def close_figures():
    plots.style()
    yield
    plt.close("all")


def rectangles(ax):
    """(x0, y0, x1, y1) in pixels, and colour, of the boxes drawn; each has a white one beneath."""
    patches = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [to_hex(patch.get_edgecolor()) for patch in patches[::2]] == ["#ffffff"] * (len(patches) // 2)
    return [
        ((np.array(patch.get_bbox().extents) + 0.5).tolist(), to_hex(patch.get_edgecolor()).upper())
        for patch in patches[1::2]
    ]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend_entries(figure):
    return [
        [(text.get_text(), handle) for text, handle in zip(legend.get_texts(), legend.legend_handles)]
        for legend in figure.legends
    ]


def test_boxes_stand_at_their_corners_in_the_colours_of_their_classes():
    boxes = np.array([[2, 3, 10, 12], [0, 0, 30, 20]], np.float32)
    ax = plots.draw_objects(IMAGE, boxes, [1, 0], classes=CLASSES)
    assert rectangles(ax) == [([2, 3, 10, 12], plots.class_colour(1)), ([0, 0, 30, 20], plots.class_colour(0))]
    assert texts(ax) == ["dog", "cat"]
    assert ax.get_xlim() == (-0.5, 29.5) and ax.get_ylim() == (19.5, -0.5)  # pixel 0 covers [0, 1), drawn around 0


def test_names_stand_above_their_box_or_inside_where_there_is_no_room():
    above, inside = plots.draw_objects(IMAGE, [[2, 9, 10, 12], [2, 0, 9, 9]], [0, 1], classes=CLASSES).texts
    assert above.get_va() == "bottom" and above.get_position() == (1.5, 8.5)
    assert inside.get_va() == "top" and inside.get_position() == (1.5, 0)


def test_writing_is_readable_on_every_colour():
    """Contrast of at least 3 between a name and its ground, as WCAG 2.1 counts it."""

    def light(colour):
        share = np.array(mpl.colors.to_rgb(colour))
        return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    count = 16
    ax = plots.draw_objects(IMAGE, np.tile([2.0, 9, 10, 12], (count, 1)), np.arange(count))
    for text in ax.texts:
        levels = sorted([light(text.get_color()), light(text.get_bbox_patch().get_facecolor())])
        assert (levels[1] + 0.05) / (levels[0] + 0.05) > 3


def test_many_objects_are_told_by_a_legend_and_not_by_texts():
    for count in (12, 13):
        boxes = np.tile([2.0, 9, 10, 12], (1, count + 5, 1))
        labels = np.where(np.arange(count + 5) < count, 1, -1)[None]
        figure = plots.show_objects(IMAGE[None], boxes, labels, scores=np.ones((1, count + 5)), classes=CLASSES)
        assert len(figure.axes[0].texts) == (12 if count == 12 else 0)
        told = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert told == ([] if count == 12 else [CLASSES[1]])
        assert figure.axes[0].patches[1].get_linewidth() == (1.5 if count == 12 else 0.9)
    # One crowd in a figure decides for all of its images; an image drawn alone keeps its texts.
    both = np.concatenate([labels, np.where(np.arange(18) < 2, 1, -1)[None]])
    figure = plots.show_objects([IMAGE, IMAGE], np.tile(boxes, (2, 1, 1)), both, classes=CLASSES)
    assert [len(ax.texts) for ax in figure.axes[:2]] == [0, 0]
    assert len(plots.draw_objects(IMAGE, boxes[0], labels[0], classes=CLASSES).texts) == 13


def test_padding_is_not_drawn():
    boxes, labels = np.zeros((1, 4, 4)), np.array([[2, -1, -1, -1]])
    boxes[0, 0] = 1, 2, 3, 4
    masks = np.zeros((1, 4, 20, 30), np.uint8)
    masks[0, 0, 2:4, 1:3] = 1
    (ax,) = plots.show_objects(IMAGE[None], boxes, labels, masks=masks, keypoints=np.zeros((1, 4, 2, 3))).axes
    assert len(rectangles(ax)) == 1 and texts(ax) == ["2"] and len(ax.images) == 2


def test_masks_are_filled_and_outlined():
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 4:8, 5:11] = True
    ax = plots.draw_objects(IMAGE, masks=masks, labels=[2, 1], classes=CLASSES)
    overlay = np.asarray(ax.images[1].get_array())
    assert len(ax.images) == 2 and len(ax.collections) == 1  # the empty mask draws nothing
    np.testing.assert_array_equal(overlay[..., 3] > 0, masks[0])
    assert to_hex(overlay[5, 6, :3]).upper() == plots.class_colour(2) and 0.1 < overlay[5, 6, 3] < 0.5
    (path,) = ax.collections[0].get_paths()
    assert path.get_extents().extents.tolist() == [4.5, 3.5, 10.5, 7.5]
    assert texts(ax) == ["fox"] and ax.texts[0].get_position() == (4.5, 3.5)


def test_outline_closes_at_the_edge_of_the_image():
    ax = plots.draw_objects(IMAGE, masks=np.ones((1, 20, 30)))
    assert ax.collections[0].get_paths()[0].get_extents().extents.tolist() == [-0.5, -0.5, 29.5, 19.5]


def test_keypoints_are_dots_or_circles_or_nothing():
    points = np.array([[[4.5, 6.5, 2], [8.5, 3.5, 1], [0, 0, 0], [2, 2, 2]]])
    hidden, visible = plots.draw_objects(IMAGE, keypoints=points, labels=[1]).lines
    assert visible.get_xydata().tolist() == [
        [4, 6],
        [1.5, 1.5],
    ] and visible.get_markerfacecolor() == plots.class_colour(1)
    assert hidden.get_xydata().tolist() == [[8, 3]] and hidden.get_markerfacecolor() == "white"
    assert hidden.get_markeredgecolor() == plots.class_colour(1)


def test_scores_and_a_dict_of_everything():
    found = {
        "boxes": np.array([[[2, 9, 10, 12], [1, 1, 5, 5]]]),
        "labels": [[0, 2]],
        "scores": [[0.912, 0.5]],
        "valid": [2],
    }
    assert texts(plots.show_objects(IMAGE[None], found, classes=CLASSES).axes[0]) == ["cat 0.91", "fox 0.50"]
    assert texts(plots.show_objects(IMAGE[None], found, classes=CLASSES, names=False).axes[0]) == ["0.91", "0.50"]


def test_grid_titles_and_legend():
    boxes = [[[2, 9, 10, 12]], [[2, 9, 10, 12]], np.zeros((0, 4))]
    caption = "a red star left of a blue ring and more words"
    figure = plots.show_objects(
        [IMAGE, IMAGE[:10], IMAGE],
        boxes,
        [[2], [0], []],
        classes=CLASSES,
        names=False,
        titles=["one", caption, 3],
        columns=2,
        title="All",
    )
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title().replace("\n", " ") for ax in shown] == ["one", caption, "3"]
    assert [texts(ax) for ax in shown] == [[]] * 3 and len(figure.axes) == 4
    ((first, second),) = legend_entries(figure)
    assert (first[0], second[0]) == ("cat", "fox")
    assert to_hex(second[1].get_facecolor()).upper() == plots.class_colour(2)


def test_semantic_masks_keep_the_colours_of_the_boxes():
    mask = np.zeros((20, 30), np.uint8)
    mask[:5], mask[5:9], mask[9:12] = 1, 3, 255
    figure = plots.show_masks(IMAGE[None], mask[None], mask[None] * 0, classes=("background", *CLASSES))
    _, truth, prediction = figure.axes
    assert [ax.get_ylabel() for ax in figure.axes] == ["image", "truth", "prediction"]
    drawn = np.asarray(truth.images[0].get_array())
    for row, colour in ((2, plots.class_colour(0)), (7, plots.class_colour(2))):
        assert np.abs(drawn[row, 3] - mpl.colors.to_rgb(colour)).max() < 0.13
    assert drawn[10, 3].tolist() == [1, 1, 1]
    background = np.asarray(prediction.images[0].get_array())
    assert np.ptp(background) < 1e-6 and 0.6 < background[0, 0, 0] < 0.95  # faded, grey
    (entries,) = legend_entries(figure)
    assert [text for text, _ in entries] == ["cat", "fox", "ignored"]


def test_masks_of_many_images_go_on_below():
    images = np.zeros((5, 8, 8, 1), np.uint8)
    figure = plots.show_masks(images, np.ones((5, 8, 8), int), columns=3, titles=list("abcde"))
    visible = [ax.get_visible() for ax in figure.axes]
    assert visible == [True] * 6 + [True, True, False] * 2
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == list("abcde")
    assert [text for text, _ in legend_entries(figure)[0]] == ["0"]


def test_scenes_show_all_that_they_hold():
    drawn = shapes.scenes(3, config="crowded")
    figure = plots.show_scenes(drawn, shapes.CLASSES, columns=3)
    for ax, scene in zip(figure.axes, drawn):
        assert [box for box, _ in rectangles(ax)] == scene.boxes.tolist()
        assert [colour for _, colour in rectangles(ax)] == [plots.class_colour(label) for label in scene.labels]
        assert ax.get_title().replace("\n", " ") == scene.caption and len(ax.images) == 1 + len(scene.labels)
        assert sum(len(line.get_xydata()) for line in ax.lines) == (scene.keypoints[..., 2] > 0).sum()
    assert [text for text, _ in legend_entries(figure)[0]] == ["visible keypoint", "hidden keypoint"]
    assert not plots.show_scenes(drawn, points=False).legends


def test_scenes_may_be_a_batch_of_padded_dicts():
    drawn = shapes.scenes(2, objects=(2, 2))
    batch = {
        key: np.stack([getattr(scene, key) for scene in drawn])
        for key in ("image", "boxes", "labels", "masks", "keypoints")
    }
    batch = {
        key: value if key == "image" else np.pad(value, [(0, 0), (0, 2)] + [(0, 0)] * (value.ndim - 2))
        for key, value in batch.items()
    }
    batch["labels"][:, 2:] = -1
    batch["caption"] = np.array([scene.caption.encode() for scene in drawn], object)
    figure = plots.show_scenes(batch, shapes.CLASSES)
    assert [len(rectangles(ax)) for ax in figure.axes] == [2, 2]
    assert figure.axes[1].get_title().replace("\n", " ") == drawn[1].caption


def test_figures_keep_to_the_width_of_the_page():
    drawn = shapes.scenes(5)
    for figure in (
        plots.show_scenes(drawn),
        plots.show_objects([s.image for s in drawn], [s.boxes for s in drawn], columns=2),
        plots.show_masks([s.image for s in drawn], [s.mask for s in drawn]),
    ):
        assert figure.get_figwidth() <= plots.WIDTH + 1e-6


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: plots.show_objects([]), "no images"),
        (lambda: plots.show_objects(IMAGE[None]), "give boxes, masks or keypoints"),
        (lambda: plots.show_objects(IMAGE[None], [[], []]), "1 images, but boxes for 2"),
        (lambda: plots.draw_objects(IMAGE, np.zeros((2, 4)), [1]), "2 objects, but 1 labels"),
        (lambda: plots.show_masks([], []), "no images"),
        (lambda: plots.show_masks(IMAGE[None], []), "1 images, but truth for 0"),
        (
            lambda: plots.show_masks(IMAGE[None], np.zeros((1, 5, 5), int)),
            r"image 0 is \(20, 30\), but its truth is \(5, 5\)",
        ),
        (lambda: plots.show_scenes([]), "no scenes"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_faded_images():
    grey = drawing.coloured(np.array([[0.0, 1.0]], np.float32), np.zeros((1, 2), int))
    np.testing.assert_allclose(grey[0, :, 0], [0.62, 0.92], rtol=1e-6)
