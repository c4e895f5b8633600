"""Maps over images: the values in the artists."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba

from utils import plots

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def close_figures():
    plots.style()
    yield
    plt.close("all")


def drawn(ax):
    return np.asarray(ax.images[-1].get_array())


def visible(figure):
    return [ax for ax in figure.axes if ax.get_visible() and ax.images]


def test_a_heat_map_lies_over_the_whole_image_in_grey():
    image = np.zeros((6, 8, 3), "uint8")
    image[..., 1] = 255
    ax = plots.heat_map(image, [[0, 1], [2, 3]], alpha=0.3, limits=(0, 4), title="here")
    ground, heat = ax.images
    np.testing.assert_allclose(ground.get_array(), 0.587, rtol=1e-5)
    assert ground.get_extent() == heat.get_extent() == [0, 8, 6, 0]
    assert np.asarray(heat.get_array()).tolist() == [[0, 1], [2, 3]]
    assert heat.get_clim() == (0, 4) and heat.get_alpha() == 0.3 and ax.get_title() == "here"
    with pytest.raises(ValueError, match=r"a map is \(H, W\), got the shape \(2, 2, 1\)"):
        plots.heat_map(image, np.zeros((2, 2, 1)))


def test_maps_stand_beside_their_image_method_by_method():
    images = np.random.default_rng(0).integers(0, 255, (2, 5, 5, 1)).astype("uint8")
    positive, signed = np.ones((2, 5, 5)), np.full((2, 5, 5), -2.0)
    signed[:, 0, 0] = 1
    figure = plots.show_maps(
        images,
        {"one": positive, "two": signed, "three": positive, "four": np.stack([signed] * 3, axis=-1)},
        titles=["a", "b"],
        overlay=["three"],
    )
    axes = np.reshape(visible(figure), (2, 5))
    assert [ax.get_title() for ax in axes[0]] == ["image", "one", "two", "three", "four"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["a", "b"]
    assert np.array_equal(drawn(axes[1, 0]), images[1, ..., 0])
    assert axes[0, 1].images[0].get_cmap().name == "inferno" and axes[0, 1].images[0].get_clim() == (0, 1)
    assert axes[0, 2].images[0].get_cmap().name == "RdBu_r" and axes[0, 2].images[0].get_clim() == (-2, 2)
    assert [len(ax.images) for ax in axes[0]] == [1, 1, 1, 2, 1]
    colours = drawn(axes[0, 4])
    np.testing.assert_allclose(colours[0, 0], 0.75, err_msg="half of the largest, above grey")
    np.testing.assert_allclose(colours[1, 1], 0)
    one = plots.show_maps(images[0], {"one": positive[0]})
    assert len(visible(one)) == 2
    with pytest.raises(ValueError, match="2 images, but 1 maps of one"):
        plots.show_maps(images, {"one": positive[:1]})


def test_patches_stand_in_squares_beside_their_projections():
    patches = [np.full((k, 4, 4, 1), 51, "uint8") for k in (9, 3)]
    patches[0][5] = 255
    figure = plots.show_patches(patches, titles=["channel 0", "channel 7"])
    one, two = visible(figure)
    assert [one.get_title(), two.get_title()] == ["channel 0", "channel 7"]
    mosaic = drawn(one)
    assert mosaic.shape == (14, 14)
    np.testing.assert_allclose(mosaic[5:9, 10:14], 1)
    np.testing.assert_allclose(mosaic[:4, :4], 0.2)
    np.testing.assert_allclose(mosaic[4], 1, err_msg="a white line")
    assert drawn(two).shape == (9, 9)
    projections = [np.zeros((9, 4, 4, 1)), np.full((3, 4, 4, 1), -1.0)]
    figure = plots.show_patches(patches, projections, ["a", "b"])
    assert len(visible(figure)) == 4
    np.testing.assert_allclose(drawn(visible(figure)[0]), 0.5)
    np.testing.assert_allclose(drawn(visible(figure)[2])[:4, :4], 0)
    with pytest.raises(ValueError, match="2 channels, but 1 titles"):
        plots.show_patches(patches, titles=["a"])
    with pytest.raises(ValueError, match="no patches"):
        plots.show_patches([])


def test_occlusion_shows_the_square_the_probability_and_who_wins():
    probability = np.array([[0.9, 0.8, 0.1], [0.9, 0.7, 0.9]])
    winner = np.array([[2, 2, 5], [2, 0, 2]])
    image = np.zeros((10, 14, 3), "uint8")
    classes = list("abcdef")
    figure = plots.show_occlusion(image, probability, winner, 6, [0, 4], [0, 4, 8], 2, classes, plain=0.95)
    ground, heat, wins = visible(figure)[:3]
    square = ground.patches[0]
    assert (square.get_x(), square.get_y(), square.get_width()) == (7.5, -0.5, 6)
    assert np.array_equal(drawn(heat), probability) and heat.images[0].get_clim() == (0, 1)
    assert "probability of c" in heat.get_title() and "0.95" in heat.get_title()
    texts = [text.get_text() for text in wins.get_legend().get_texts()]
    assert texts[0] == "c" and set(texts) == {"a", "c", "f"}
    colours = wins.images[0].to_rgba(drawn(wins))
    for index in (0, 2, 5):
        expected = np.round(np.array(to_rgba(plots.class_colour(index))) * 255)
        assert (np.round(colours[winner == index] * (255 if colours.dtype != np.uint8 else 1)) == expected).all()
    handles = {handle.get_label(): to_hex(handle.get_facecolor()) for handle in wins.get_legend().legend_handles}
    assert handles["f"].upper() == plots.class_colour(5)


def test_fooling_shows_both_images_the_change_and_the_way():
    image = np.full((4, 4, 1), 100.0)
    fooled = image + np.where(np.arange(4) < 2, 2.0, -2.0)[:, None, None]
    path = np.array([[0.9, 0.05, 0.05, 0.0], [0.5, 0.3, 0.1, 0.1], [0.2, 0.1, 0.3, 0.4]])
    figure = plots.show_fooling(image, fooled, path, list("abcd"))
    before, change, after, way = figure.axes
    assert before.get_title() == "a, 0.90" and after.get_title() == "d, 0.40" and "at most 2" in change.get_title()
    np.testing.assert_allclose(drawn(before), 100 / 255, rtol=1e-5)
    assert drawn(change)[0, 0] == 1 and drawn(change)[3, 0] == 0
    lines = {line.get_label(): line.get_ydata() for line in way.get_lines() if not line.get_label().startswith("_")}
    assert list(lines) == ["a", "d", "b"], "the winners of both ends first"
    np.testing.assert_allclose(lines["d"], path[:, 3])
