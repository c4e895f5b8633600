"""Figures of topic 12: what stands in which row and column, and which way up."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from utils import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def pixels(ax):
    return np.asarray(ax.images[-1].get_array())


def test_rows_of_images_are_named_on_the_left():
    images = np.random.default_rng(0).random((2, 3, 4, 4, 1))
    images[0, 0, 0, 0] = -0.5  # as a linear code may give it
    axes = plots.image_rows({"clean": images[0], "noisy": images[1]}).axes
    assert [ax.get_ylabel() for ax in axes] == ["clean", "", "", "noisy", "", ""]
    for ax, image in zip(axes, images.reshape(6, 4, 4)):
        np.testing.assert_allclose(pixels(ax), np.maximum(image, 0), rtol=1e-6)
        assert ax.images[0].get_cmap()(0.0)[:3] == (1, 1, 1)  # nothing drawn is white
    with pytest.raises(ValueError, match="the same number of images"):
        plots.image_rows({"two": images[0, :2], "three": images[1]})
    with pytest.raises(ValueError, match="at least one row"):
        plots.image_rows({})


def test_each_word_stands_over_its_own_weights():
    weights = np.eye(4)[[2, 0, 1]]
    figure = plots.show_attention(np.zeros((8, 8, 3), "uint8"), ["a", "star"], weights)
    assert [ax.get_title() for ax in figure.axes if ax.images] == ["a", "star"]
    np.testing.assert_array_equal(pixels(figure.axes[0]), [[0, 0], [1, 0]])  # cell 2: second row, first column
    np.testing.assert_array_equal(pixels(figure.axes[1]), [[1, 0], [0, 0]])
    for words, looks in ((["a", "b"], weights[:1]), (["a"], np.ones((1, 5)))):
        with pytest.raises(ValueError, match="side \\* side"):
            plots.show_attention(np.zeros((8, 8, 3)), words, looks)


def test_an_episode_has_a_bar_for_each_move_and_none_below_its_end():
    pictures = np.random.default_rng(0).integers(0, 255, (3, 5, 5, 3)).astype("uint8")
    values = [[0.1, -0.2], [0.3, 0.4]]
    figure = plots.show_episode(pictures, values, ["left", "right"], "reward 1")
    above, below = figure.axes[:3], figure.axes[3:]
    for ax, picture in zip(above, pictures):
        np.testing.assert_array_equal(pixels(ax), picture)
    heights = [[bar.get_height() for bar in ax.patches] for ax in below]
    np.testing.assert_allclose(heights[:2], values, rtol=1e-6)
    assert heights[2] == [] and not below[2].get_visible() and below[1].get_visible()
    assert [text.get_text() for text in below[0].get_xticklabels()] == ["left", "right"]
    with pytest.raises(ValueError, match="as many pictures or one more, got 1"):
        plots.show_episode(pictures[:1], values, ["left", "right"])


def test_codes_lie_beside_the_mosaic_of_the_grid():
    codes, labels = np.array([[0, 1], [2, 3], [4, 5]], "float32"), np.array([7, 1, 7])
    painted = np.arange(4)[:, None, None, None] / 4 * np.ones((1, 2, 3, 1))
    figure = plots.show_codes(codes, labels, painted)
    left, right = figure.axes
    found = {dots.get_label(): dots.get_offsets().tolist() for dots in left.collections}
    assert found == {"1": [[2, 3]], "7": [[0, 1], [4, 5]]}
    expected = np.kron([[0, 0.25], [0.5, 0.75]], np.ones((2, 3)))
    np.testing.assert_allclose(pixels(right), expected)
    with pytest.raises(ValueError, match="must be a square, got 3 images"):
        plots.show_codes(codes, labels, painted[:3])


def test_a_spectrogram_has_time_to_the_right_and_low_bands_below():
    values = np.zeros((6, 3), "float32")
    values[5, 0] = 1  # last frame, lowest band
    ax = plots.spectrogram(values, title="tone")
    assert ax.images[0].origin == "lower" and pixels(ax).shape == (3, 6) and pixels(ax)[0, 5] == 1
    assert ax.get_title() == "tone"
    signed = plots.spectrogram(values, limit=2)
    assert signed.images[0].get_clim() == (-2, 2)
    with pytest.raises(ValueError, match="is \\(frames, bands\\)"):
        plots.spectrogram(np.zeros(4))
