"""What is drawn: the values in the artists, not only that something is."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from nbclient import NotebookClient

from utils import plots
from utils.plots import charts

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def close_figures():
    plots.style()
    yield
    plt.close("all")


def pictures(figure):
    """The arrays drawn, in reading order, with their limits."""
    return [(np.asarray(ax.images[0].get_array()), ax.images[0].get_clim()) for ax in figure.axes if ax.images]


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.images]


# Images


def test_images_are_drawn_as_they_are():
    images = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2, 1) * 20
    drawn = pictures(plots.show_images(images))
    assert len(drawn) == 3
    for (array, limits), image in zip(drawn, images):
        assert np.array_equal(array, image[..., 0]) and limits == (0, 255)


@pytest.mark.parametrize("scale", [1, 255])
def test_floats_up_to_1_and_up_to_255_look_alike(scale):
    images = np.array([[[0.0, 0.5], [0.8, 0.25]], [[0, 0.1], [0.2, 0.3]]]) * scale
    for (array, limits), image in zip(pictures(plots.show_images(images)), images / scale):
        np.testing.assert_allclose(array, image, rtol=1e-6)
        assert limits == (0, 1)


def test_centred_images_share_one_scale():
    drawn = pictures(plots.show_images(np.array([[[-1.0, 1.0]], [[0.0, 0.5]]])))
    np.testing.assert_allclose(drawn[0][0], [[0, 1]])
    np.testing.assert_allclose(drawn[1][0], [[0.5, 0.75]])


def test_colour_images_and_images_of_different_sizes():
    images = [np.full((4, 6, 3), 7, np.uint8), np.full((2, 2), 9, np.uint8)]
    drawn = pictures(plots.show_images(images))
    assert drawn[0][0].shape == (4, 6, 3) and drawn[1][0].shape == (2, 2)
    assert (drawn[0][0] == 7).all() and (drawn[1][0] == 9).all()


def test_labels_predictions_and_titles():
    images = np.zeros((3, 2, 2), np.uint8)
    assert titles(plots.show_images(images, labels=[0, 1, 1], classes=["cat", "dog"])) == ["cat", "dog", "dog"]
    assert titles(plots.show_images(images, titles=["a", "b", 3])) == ["a", "b", "3"]
    figure = plots.show_images(
        images, labels=np.array([0, 1, 1]), predictions=np.array([0, 0, 1]), classes=["cat", "dog"]
    )
    assert titles(figure) == ["cat", "cat, not dog", "dog"]
    colours = [to_hex(ax.title.get_color()).upper() for ax in figure.axes]
    assert colours == ["#000000", plots.VERMILLION, "#000000"]


def test_columns_and_surplus_tiles():
    figure = plots.show_images(np.zeros((5, 2, 2), np.uint8), columns=3)
    assert [ax.get_visible() for ax in figure.axes] == [True] * 5 + [False]
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 3)
    assert figure.get_figwidth() <= plots.WIDTH


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (np.zeros((0, 2, 2)), {}, "no images"),
        (np.zeros((2, 2, 2)), {"labels": [1]}, "2 images, but 1 labels"),
        (np.zeros((1, 2, 2, 5)), {}, "1 or 3 channels"),
        (np.full((1, 2, 2), np.nan), {}, "not finite"),
    ],
)
def test_images_that_cannot_be_shown(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.show_images(images, **arguments)


# Filters and feature maps


def test_filters_share_one_scale_about_zero():
    kernels = np.random.default_rng(0).normal(size=(3, 3, 1, 4)) + 1
    drawn = pictures(plots.show_filters(kernels))
    limit = np.abs(kernels).max()
    for index, (array, limits) in enumerate(drawn):
        np.testing.assert_allclose(array, kernels[:, :, 0, index], rtol=1e-6)
        np.testing.assert_allclose(limits, (-limit, limit), rtol=1e-6)


def test_filters_on_colours_are_grey_at_zero():
    kernels = np.zeros((3, 3, 3, 2))
    kernels[0, 0, :, 1] = (2, -2, 1)
    first, second = (array for array, _ in pictures(plots.show_filters(kernels)))
    assert (first == 0.5).all()
    np.testing.assert_allclose(second[0, 0], (1, 0, 0.75))


def test_filters_on_many_channels_have_a_row_each():
    kernels = np.random.default_rng(0).normal(size=(3, 3, 5, 2)).astype("float32")
    figure = plots.show_filters(kernels, columns=4)
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 4)
    for index, (array, _) in enumerate(pictures(figure)):
        np.testing.assert_array_equal(array, kernels[:, :, index % 4, index // 4])


def test_feature_maps():
    maps = np.arange(2 * 2 * 3, dtype="float32").reshape(1, 2, 2, 3)
    figure = plots.show_feature_maps(maps, count=2, image=np.zeros((4, 4), np.uint8))
    assert titles(figure) == ["image", "map 0", "map 1"]
    drawn = pictures(figure)[1:]
    np.testing.assert_array_equal(drawn[1][0], maps[0, :, :, 1])
    assert all(limits == (0, 10) for _, limits in drawn)  # 10: the largest of the two maps shown
    each = pictures(plots.show_feature_maps(maps, scale="each"))
    assert [limits for _, limits in each] == [(0, 9), (1, 10), (2, 11)]
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        plots.show_feature_maps(maps[0, :, :, 0])


# Curves


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_a_legend_covers_no_curve():
    ax = plots.curves({"a": [0, 0, 0, 1], "b": [0, 0.1, 0.1, 1]})
    ax.figure.canvas.draw()
    inside = ax.get_legend().get_window_extent()
    assert inside.x1 < ax.get_window_extent().x1
    full = {name: [number / 5, 1 - number / 5] * 40 for number, name in enumerate("abcdef")}
    ax = plots.curves(full)
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1


def test_the_band_spans_the_seeds():
    runs = {"frozen": [[0.1, 0.5], [0.3, 0.9], [0.2, 0.7]], "scratch": [0.1, 0.2]}
    ax = plots.curves(runs, ylabel="accuracy", baselines={"chance": 0.1})
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["frozen"].get_ydata(), [0.2, 0.7])
    np.testing.assert_allclose(drawn["frozen"].get_xdata(), [1, 2])
    np.testing.assert_allclose(drawn["scratch"].get_ydata(), [0.1, 0.2])
    (band,) = ax.collections
    corners = {tuple(np.round(vertex, 6)) for vertex in band.get_paths()[0].vertices}
    assert {(1, 0.1), (1, 0.3), (2, 0.5), (2, 0.9)} == corners
    assert set(drawn["chance"].get_ydata()) == {0.1} and drawn["chance"].is_dashed()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["frozen", "scratch", "chance"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy")
    assert drawn["frozen"].get_color() == plots.PALETTE[0] and drawn["scratch"].get_color() == plots.PALETTE[1]


def test_curves_own_abscissae_logarithms_and_gaps():
    ax = plots.curves({"a": [[1, np.nan, 3], [3, np.nan, 5]]}, x=[10, 100, 1000], log_x=True, log_y=True)
    (line,) = ax.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [10, 100, 1000])
    np.testing.assert_allclose(line.get_ydata(), [2, np.nan, 4])
    assert ax.get_xscale() == ax.get_yscale() == "log"
    with pytest.raises(ValueError, match="'a' has 2 points, but 3 abscissae"):
        plots.curves({"a": [1, 2]}, x=[1, 2, 3])
    with pytest.raises(ValueError, match="no runs"):
        plots.curves({})


def test_history_draws_training_beside_validation():
    record = {"loss": [2, 1], "accuracy": [0.1, 0.6], "val_accuracy": [0.2, 0.5], "learning_rate": [1e-3, 1e-3]}
    figure = plots.history(record, baselines={"accuracy": {"chance": 0.1}})
    loss, accuracy = figure.axes
    assert loss.get_ylabel() == "loss" and [*lines(loss)] == ["training"]
    assert [*lines(accuracy)] == ["training", "validation", "chance"]
    np.testing.assert_allclose(lines(accuracy)["validation"].get_ydata(), [0.2, 0.5])
    with pytest.raises(ValueError, match="no iou in the history"):
        plots.history(record, ["iou"])


def test_learning_curve_groups_the_table():
    rows = [("frozen", 1, 0.2), ("frozen", 1, 0.4), ("frozen", 10, 0.8), ("scratch", 10, 0.5), ("scratch", 2, 0.1)]
    ax = plots.learning_curve(
        pd.DataFrame(rows, columns=["method", "per_class", "accuracy"]), baselines={"chance": 0.1}
    )
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["frozen"].get_xdata(), [1, 10])
    np.testing.assert_allclose(drawn["frozen"].get_ydata(), [0.3, 0.8])
    np.testing.assert_allclose(drawn["scratch"].get_xdata(), [2, 10])
    np.testing.assert_allclose(drawn["scratch"].get_ydata(), [0.1, 0.5])
    assert ax.get_xscale() == "log" and [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "10"]


def test_bars():
    ax = plots.bars({"a": [0.2, 0.4], "b": 0.9}, baselines={"chance": 0.1})
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [0.3, 0.9])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.texts] == ["0.3", "0.9", "chance"]
    spread, chance = ax.get_lines()
    np.testing.assert_allclose(spread.get_xdata(), [0.2, 0.4])
    np.testing.assert_allclose(chance.get_xdata(), [0.1, 0.1])


def test_dots_show_every_run_of_every_method():
    ax = plots.dots({"a": {"one": 2, "two": [4, 8, 6]}, "b": {"two": 3, "three": 1}}, "ms", {"goal": 5}, log_x=True)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two", "three"]
    points = [(line.get_xdata().tolist(), line.get_color()) for line in ax.get_lines() if line.get_marker() == "o"]
    first, second = plots.class_colour(0), plots.class_colour(1)
    assert points == [([2], first), ([4, 8, 6], first), ([3], second), ([1], second)]
    means = [line.get_xdata() for line in ax.get_lines() if line.get_marker() == "|"]
    assert np.ravel(means).tolist() == [6]
    rows = {tuple(line.get_xdata()): line.get_ydata()[0] for line in ax.get_lines() if line.get_marker() == "o"}
    assert rows[4, 8, 6] < 1 < rows[(3,)] and rows[4, 8, 6] > 0.5 and rows[(3,)] < 1.5  # side by side in their row
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "goal"]
    assert (ax.get_xlabel(), ax.get_xscale(), ax.yaxis_inverted()) == ("ms", "log", True)


# Classes


def test_confusion_matrix_counts_and_shares():
    ax = plots.confusion_matrix([[3, 1], [0, 2]], ["cat", "dog"])
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert {(text.get_position(), text.get_text()) for text in ax.texts} == {
        ((0, 0), "3"),
        ((1, 0), "1"),
        ((1, 1), "2"),
    }
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]


def test_confusion_matrix_of_many_classes_and_of_an_empty_one():
    assert not plots.confusion_matrix(np.eye(52, dtype=int)).texts
    np.testing.assert_array_equal(plots.confusion_matrix(np.zeros((2, 2), int)).images[0].get_array(), 0)
    with pytest.raises(ValueError, match="square"):
        plots.confusion_matrix(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="2 rows, but 1 names"):
        plots.confusion_matrix(np.eye(2), ["a"])


def test_embedding_colours_by_class():
    points = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    ax = plots.embedding(points, [2, 0, 2, 0], classes="abc", images=np.zeros((4, 3, 3), np.uint8), thumbnails=3)
    offsets = {to_hex(c.get_facecolor()[0]).upper(): c.get_offsets().tolist() for c in ax.collections}
    assert offsets == {plots.PALETTE[0]: [[1, 0], [1, 1]], plots.PALETTE[2]: [[0, 0], [0, 1]]}
    assert {text.get_text(): tuple(text.xy) for text in ax.texts} == {"a": (1, 0.5), "c": (0, 0.5)}
    boxes = [artist for artist in ax.get_children() if type(artist).__name__ == "AnnotationBbox"]
    assert [tuple(box.xy) for box in boxes] == [(0, 0), (1, 0), (0, 1)]
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        plots.embedding(np.zeros((4, 3)), [0] * 4)
    with pytest.raises(ValueError, match="4 points, 3 labels"):
        plots.embedding(points, [0] * 3)


def test_thumbnails_do_not_cover_one_another():
    points = np.array([[0, 0], [0.01, 0.01], [1, 1], [0.5, 0], [0.5, 0.001]])
    assert charts._apart(points, 10) == [0, 2, 3]
    assert charts._apart(points, 2) == [0, 2]


# Matrices


def test_number_matrix_writes_the_numbers_and_the_padding():
    ax = plots.number_matrix([[1, -2.5], [0.25, 1000]], boxes=[(-1, -1, 3, 3), (0, 1, 1, 1)], padding=1, title="x")
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert len(written) == 16
    inner = [written[column + 0.5, row + 0.53] for row in range(2) for column in range(2)]
    assert inner == ["1", "−2.50", "0.25", "1000"]
    assert {text for (x, y), text in written.items() if x in (-0.5, 2.5) or y in (-0.47, 2.53)} == {"0"}
    frames = [patch for patch in ax.patches if not patch.get_fill()]
    assert [(f.get_xy(), f.get_width(), f.get_height()) for f in frames] == [((-1, -1), 3, 3), ((1, 0), 1, 1)]
    assert [to_hex(f.get_edgecolor()).upper() for f in frames] == list(plots.PALETTE[:2])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # row 0 is at the top
    with pytest.raises(ValueError, match=r"\(2,\)"):
        plots.number_matrix([1, 2])


def test_shade_is_symmetric_about_zero():
    faces = [patch.get_facecolor() for patch in plots.number_matrix([[-1, 0, 1]], shade="RdBu_r").patches]
    assert faces[0][2] > faces[0][0] and faces[2][0] > faces[2][2]
    np.testing.assert_allclose(faces[1][:3], mpl.colormaps["RdBu_r"](0.5)[:3])


def test_number_equation_puts_the_parts_in_order():
    figure = plots.number_equation([np.eye(2), "∗", [[3]], "=", np.eye(2) * 3], titles={0: "input"}, padding={0: 1})
    texts = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert texts[1:4] == [["∗"], ["3"], ["="]] and texts[4] == ["3", "0", "0", "3"] and len(texts[0]) == 16
    assert figure.axes[0].get_title() == "input"


# Colours and notebooks


def test_the_palette_is_okabe_and_ito_and_classes_keep_their_colour():
    published = {
        (0, 0, 0),
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
    }
    assert {tuple(round(255 * part) for part in to_rgb(colour)) for colour in plots.PALETTE} == published
    colours = [plots.class_colour(index) for index in range(16)]
    assert len(set(colours)) == 16 and tuple(colours[:8]) == plots.PALETTE
    assert plots.class_colour(np.int64(18)) == colours[2]


def test_a_notebook_shows_each_figure_once_and_no_axes_as_text(tmp_path):
    cells = [
        "%matplotlib inline\nfrom utils import plots\nplots.style()",
        "plots.curves({'a': [1, 2]})",
        "figure = plots.show_images([[[0, 1]]])\nfigure",
        "figure",
        "plots.curves({'a': [1, 2]})\nplots.curves({'b': [1, 2]})",
        "plots.curves({'a': [1, 2]}).set(xlabel='x', ylim=(0, 3))",
        "plots.curves({'a': [1, 2]}).set_xticks([0, 1])",
        "plots.curves({'a': [1, 2]}).hist([1, 2])",
        "[1, 2], 'shown'",
        "[[], (3,)]",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    images = [["image/png" in output.get("data", {}) for output in cell.outputs] for cell in notebook.cells]
    assert images == [[], [True], [True], [True], [True, True], [True], [True], [True], [False], [False]]
    texts = [output["data"].get("text/plain", "") for cell in notebook.cells for output in cell.outputs]
    assert [text for text in texts if not text.startswith(("<Figure", "<IPython.core.display.Image"))] == [
        "([1, 2], 'shown')",
        "[[], (3,)]",
    ]
