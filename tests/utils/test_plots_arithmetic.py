"""The figures of convolution arithmetic: what stands in the drawn artists, against positions counted by hand."""

import base64
import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from utils import plots
from utils.plots import arithmetic

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def hatched(ax):
    return [patch.get_xy() for patch in ax.patches if patch.get_hatch()]


def bars(ax):
    """The dots of each output: lists of the input pixels that it reads, counted from 0."""
    return [[float(x) - 0.5 for x in line.get_xdata()] for line in ax.lines if line.get_marker() == "o"]


# window_positions


@pytest.mark.parametrize(
    ("sizes", "expected", "unread"),
    [
        ((6, 3, 2), [[0, 1, 2], [2, 3, 4]], [5]),
        ((7, 3, 3), [[0, 1, 2], [3, 4, 5]], [6]),
        ((5, 3, 2), [[0, 1, 2], [2, 3, 4]], []),
        ((7, 3, 1, 0, 2), [[0, 2, 4], [1, 3, 5], [2, 4, 6]], []),
        ((6, 3, 2, 1), [[-1, 0, 1], [1, 2, 3], [3, 4, 5]], []),
        ((6, 3, 2, (0, 1)), [[0, 1, 2], [2, 3, 4], [4, 5, 6]], []),
        ((7, 2, 3), [[0, 1], [3, 4]], [2, 5, 6]),
    ],
)
def test_positions_are_where_the_filter_stands(sizes, expected, unread):
    ax = plots.window_positions(*sizes)
    assert bars(ax) == expected
    assert hatched(ax) == [(pixel, 0) for pixel in unread]
    assert f"{len(expected)} output" in ax.get_title()


def test_positions_name_pixels_from_one_and_padding_zero():
    ax = plots.window_positions(4, 3, 1, 1)
    assert texts(ax) == ["0", "1", "2", "3", "4", "0", "1", "2", "3", "4"]  # the pixels, then the outputs


def test_positions_without_any():
    ax = plots.window_positions(3, 5)
    assert bars(ax) == [] and hatched(ax) == []
    assert "nothing fits" in ax.get_title()


# window_sizes


def test_sizes_draw_every_window_and_every_output():
    figure = plots.window_sizes(7, 3, 2, 1)
    left, right = figure.axes
    path = left.lines[0].get_xydata()
    assert path.shape == (16, 2)
    np.testing.assert_allclose(path[[0, 1, 4, 15]], [[0.5, 0.5], [2.5, 0.5], [0.5, 2.5], [6.5, 6.5]])
    assert sum(patch.get_fill() for patch in right.patches) == 16
    assert "4 outputs" in figure.get_suptitle() and "floor((7 + 2·1 − 3) / 2) + 1" in figure.get_suptitle()
    assert right.get_title(loc="left") == "output 4 × 4"


def test_sizes_hatch_rows_and_columns_that_no_window_reads():
    left = plots.window_sizes(6, 3, 2).axes[0]
    assert sorted(hatched(left)) == sorted({(5, row) for row in range(6)} | {(column, 5) for column in range(6)})


def test_sizes_with_dilation_fill_the_taps_only():
    left = plots.window_sizes(7, 3, 1, 0, 2).axes[0]
    filled = [patch.get_xy() for patch in left.patches if patch.get_alpha()]
    assert sorted(filled) == [(x, y) for x in (0, 2, 4) for y in (0, 2, 4)]


def test_sizes_say_so_when_nothing_fits():
    figure = plots.window_sizes(4, 3, 1, 0, 3)
    left, right = figure.axes
    assert "reaches over 7 pixels" in texts(right)[0] and "padded input has 4" in texts(right)[0]
    assert "nothing fits" in figure.get_suptitle() and not left.lines


# window_strip and moving_window

VOLUME = np.arange(18).reshape(3, 3, 2)


def test_strip_has_a_column_for_each_position_and_fills_the_output():
    output = np.array([[1.0, 2], [3, 4]])
    figure = plots.window_strip(VOLUME, output, f=2)
    axes = np.array(figure.axes).reshape(3, 4)
    assert [texts(ax) for ax in axes[2]] == [
        ["1", "", "", ""],
        ["1", "2", "", ""],
        ["1", "2", "3", ""],
        ["1", "2", "3", "4"],
    ]
    windows = [ax.patches[-1].get_xy() for ax in axes[0]]
    assert [tuple(map(int, xy)) for xy in windows] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    np.testing.assert_array_equal(axes[1, 0].images[0].get_array(), VOLUME[..., 1])


def test_strip_refuses_an_output_of_another_size():
    with pytest.raises(ValueError, match="2 × 2 positions"):
        plots.window_strip(VOLUME, np.zeros((3, 3)), f=2)


def test_moving_window_is_a_small_gif_with_one_frame_a_position():
    kernels = np.ones((2, 2, 2, 1), int)
    html = plots.moving_window(VOLUME, kernels, [0], dpi=40).data
    assert 'alt="' in html
    data = base64.b64decode(html.split("base64,")[1].split('"')[0])
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "GIF" and picture.n_frames == 4 and len(data) < 100_000
    assert not plt.get_fignums()


def test_frame_shows_what_the_window_gives():
    outputs = np.full((2, 2, 1), np.nan)
    outputs[0, 1] = 36
    figure = arithmetic._moving_window_frame(VOLUME, np.ones((2, 2, 2, 1), int), [5], outputs, 0, (0, 1), (0, 1))
    last = [ax for ax in figure.axes if ax.get_title().startswith("output")]
    assert texts(last[0]) == ["", "36", "", ""] and "bias 5" in last[0].get_title()


# field_cone


def units(ax, level):
    """x of the filled and of the empty units of a level."""
    found = {}
    for line in ax.lines:
        if line.get_linestyle() == "None" and set(line.get_ydata()) == {level}:
            found[line.get_markerfacecolor() == "white"] = sorted(map(float, line.get_xdata()))
    return found.get(False, []), found.get(True, [])


def test_cone_of_three_filters_sees_seven():
    ax = plots.field_cone([(3, 1)] * 3)
    assert ax.get_title() == "one unit sees 7 pixels"
    assert [len(units(ax, level)[0]) for level in range(4)] == [7, 5, 3, 1]
    assert units(ax, 3)[0] == [3.5]


def test_cone_names_what_lies_at_the_bottom():
    ax = plots.field_cone([(3, 1)], of="frames")
    assert ax.get_title() == "one unit sees 3 frames" and ax.texts[0].get_text() == "frames"


def test_cone_through_a_pooling_keeps_places():
    ax = plots.field_cone([(3, 1), (2, 2), (3, 1)])
    assert ax.get_title() == "one unit sees 8 pixels"
    assert units(ax, 2)[0] == [2.0, 4.0, 6.0]  # centres of 4 pixels each, two apart
    assert units(ax, 3)[0] == [4.0]  # in the middle of all eight


def test_cone_with_holes_leaves_units_empty():
    ax = plots.field_cone([(3, 1, 2), (3, 1, 2)])
    used, skipped = units(ax, 0)
    assert used == [0.5, 2.5, 4.5, 6.5, 8.5] and skipped == [1.5, 3.5, 5.5, 7.5]
    assert "f 3, s 1, d 2" in texts(ax)


# The others


def test_field_map_frames_both_widths_around_the_middle():
    ax = plots.field_map(np.ones((8, 8)), theoretical=6, width=4)
    frames = {to_hex(patch.get_edgecolor()): (patch.get_x(), patch.get_width()) for patch in ax.patches}
    assert frames == {plots.ORANGE.lower(): (0.5, 6), "#ffffff": (1.5, 4)}
    assert ax.images[0].get_array().max() == 1


@pytest.mark.parametrize(("stage", "lines"), [((8, 8, 1), 64), ((8, 8, 2), 32), ((8, 8, 8), 8), ((4, 6, 2), 12)])
def test_wiring_draws_one_line_for_each_pair(stage, lines):
    ax = plots.wiring([stage])
    assert sum(line.get_marker() == "None" for line in ax.lines) == lines
    assert [len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o"] == list(stage[:2])


def test_wiring_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="remainder"):
        plots.wiring([(8, 6, 4)])


def test_weight_pattern_gives_each_weight_one_colour():
    matrix = np.array([[1, 2, 0, 5], [0, 1, 2, 5]])
    ax = plots.weight_pattern(matrix)
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 2, 0, 3], [0, 1, 2, 3]])
    image = ax.images[0]
    colours = [to_hex(image.cmap(image.norm(value))) for value in range(4)]
    assert colours == ["#ffffff", *(colour.lower() for colour in plots.PALETTE[:3])]


def test_layer_bars_hold_the_numbers_and_their_total():
    figure = plots.layer_bars(["a", "b"], {"parameters": [1_500_000, 500_000], "MACs": [10, 20]})
    first, second = figure.axes
    assert [bar.get_width() for bar in first.patches] == [1_500_000, 500_000]
    assert first.get_title() == "parameters, total 2 M" and second.get_title() == "MACs, total 30"
    assert first.yaxis_inverted()


def test_timeline_names_every_year_where_it_lies():
    ax = plots.timeline({1998: "LeNet-5", 1957: "perceptron"})
    assert texts(ax) == ["1957\nperceptron", "1998\nLeNet-5"]
    assert [text.get_position()[0] for text in ax.texts] == [1957, 1998]


# explore


def test_explore_without_a_reader_draws_once(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    calls = []
    plots.explore(lambda **values: calls.append(values), n=(8, 1, 16), f=(3, 1, 7))
    assert calls == [{"n": 8, "f": 3}]


def test_explore_with_a_reader_shows_sliders_that_draw_anew(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/student/01.ipynb")
    calls, shown = [], []
    monkeypatch.setattr("IPython.display.display", shown.append)
    plots.explore(lambda **values: calls.append(values), n=(8, 1, 16), f=(3, 1, 7))
    (box,) = shown
    sliders = {slider.description: slider for slider in box.children[0].children}
    assert {name: (s.value, s.min, s.max) for name, s in sliders.items()} == {"n": (8, 1, 16), "f": (3, 1, 7)}
    sliders["f"].value = 5
    assert calls[-1] == {"n": 8, "f": 5}


def test_explore_has_a_menu_for_choices(monkeypatch):
    calls, shown = [], []

    def draw(**values):
        calls.append(values)

    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    plots.explore(draw, kind=["tanh", "relu"], n=(8, 1, 16))
    assert calls == [{"kind": "tanh", "n": 8}]
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/student/12.ipynb")
    monkeypatch.setattr("IPython.display.display", shown.append)
    plots.explore(draw, kind=["tanh", "relu"], n=(8, 1, 16))
    menu = shown[0].children[0].children[0]
    assert menu.options == ("tanh", "relu") and menu.value == "tanh"
    menu.value = "relu"
    assert calls[-1] == {"kind": "relu", "n": 8}
