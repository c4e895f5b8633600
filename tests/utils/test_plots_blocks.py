"""Diagrams of networks: what is in the boxes, where they stand, what stands on the edges, what is to scale."""

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers, ops
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from utils.layers import MaxPoolingWithIndices, MaxUnpooling
from utils.plots import block_diagram, block_diagrams, class_colour, convolution_volumes, stage_diagram

pytestmark = pytest.mark.once

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def residual():
    image = layers.Input((8, 8, 4), name="image")
    x = layers.Conv2D(6, 3, padding="same", name="stem_conv")(image)
    y = layers.ZeroPadding2D(1, name="block_pad")(x)
    y = layers.Conv2D(6, 3, name="block_conv1")(y)
    y = layers.BatchNormalization(name="block_bn")(y)
    y = layers.ReLU(name="block_relu")(y)
    y = layers.Conv2D(6, 1, activation="tanh", name="block_conv2")(y)
    x = layers.Add(name="block_add")([x, y])
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(image, layers.Dense(3, name="logits")(x))


def texts(ax):
    return {text.get_text(): text.get_position() for text in ax.texts if text.get_text()}


def boxes(ax):
    return [patch for patch in ax.patches if isinstance(patch, FancyBboxPatch) and patch.get_fill()]


def test_a_block_has_a_box_for_each_convolution_with_what_follows_it():
    found = texts(block_diagram(residual(), "block"))
    assert {"input", "3×3 conv, 6", "BN · ReLU", "1×1 conv, 6", "tanh", "+", "8×8×6"} == set(found)
    order = ["input", "3×3 conv, 6", "1×1 conv, 6", "+"]
    assert [found[name][1] for name in order] == sorted(found[name][1] for name in order)


def test_a_whole_net_is_drawn_from_image_to_logits():
    ax = block_diagram(residual(), title="a net")
    found = texts(ax)
    assert {"global average", "dense, 3", "8×8×4", "8×8×6", "6", "3"} <= set(found)
    assert ax.get_title() == "a net" and len(boxes(ax)) == 5
    assert sum(isinstance(patch, Circle) for patch in ax.patches) == 1
    assert "8×8×4" not in texts(block_diagram(residual(), shapes=False))


def test_branches_stand_side_by_side_in_the_order_of_the_concatenation():
    x = layers.Input((8, 8, 3), name="image")
    deep = layers.Conv2D(2, 3, padding="same", name="b1")(layers.Conv2D(5, 1, name="b0")(x))
    pool = layers.MaxPooling2D(3, 1, padding="same", name="pool")(x)
    joined = layers.Concatenate(name="concat")([layers.Conv2D(4, 1, name="a")(x), deep, pool])
    ax = block_diagram(keras.Model(x, joined))
    found = texts(ax)
    a, b0, b1, pool = (found[name] for name in ("1×1 conv, 4", "1×1 conv, 5", "3×3 conv, 2", "3×3 max-pool"))
    assert a[0] < b0[0] < pool[0] and a[1] == pytest.approx(b0[1]) and b1[0] == pytest.approx(b0[0]) and b1[1] > b0[1]
    assert found["concatenate"][1] > b1[1] and "8×8×9" in found
    bar = max(boxes(ax), key=lambda box: box.get_width())
    assert bar.get_x() < a[0] and bar.get_x() + bar.get_width() > pool[0]


def test_operations_are_drawn_like_layers():
    x = layers.Input((8, 8, 3), name="image")
    y = ops.relu(layers.Conv2D(2, 3, padding="same", name="conv")(x))
    joined = ops.concatenate([y, ops.max_pool(x, 3, 1, padding="same"), ops.average_pool(x, 3, 1, padding="same")], -1)
    found = texts(block_diagram(keras.Model(x, ops.max_pool(joined, 2))))
    assert {"3×3 conv, 2", "ReLU", "3×3 max-pool", "3×3 average-pool", "concatenate", "2×2 max-pool, /2"} <= set(found)
    assert "8×8×8" in found and "4×4×8" in found


def test_no_two_boxes_overlap():
    x = layers.Input((8, 8, 4), name="image")
    gate = layers.Conv2D(4, 1, activation="sigmoid", name="gate")(x)
    y = layers.Multiply(name="on")([layers.Conv2D(4, 3, padding="same", name="conv")(x), gate])
    carried = layers.Multiply(name="off")([x, layers.Rescaling(-1, 1, name="carry")(gate)])
    ax = block_diagram(keras.Model(x, layers.Add(name="add")([y, carried])))
    assert "1 − x" in texts(ax)
    areas = [(b.get_x(), b.get_y(), b.get_x() + b.get_width(), b.get_y() + b.get_height()) for b in boxes(ax)]
    for i, (x0, y0, x1, y1) in enumerate(areas):
        for a0, b0, a1, b1 in areas[:i]:
            assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0


def test_words_of_special_layers():
    x = image = layers.Input((16, 16, 4), name="image")
    x = layers.DepthwiseConv2D(3, 2, padding="same", name="a")(x)
    x = layers.Conv2D(8, 3, padding="same", groups=2, dilation_rate=2, name="b")(x)
    x = layers.MaxPooling2D(1, 2, name="c")(x)
    found = texts(block_diagram(keras.Model(image, x)))
    assert {"3×3 depthwise, /2", "3×3 conv, 8, d 2, 2 groups", "subsample, /2"} <= set(found)


def test_several_blocks_stand_side_by_side_to_one_scale():
    figure = block_diagrams({"a residual block": (residual(), "block"), "the whole net": residual()})
    first, second = figure.axes
    assert {"3×3 conv, 6", "+"} <= set(texts(first)) and "dense, 3" in texts(second)
    assert [text.get_text() for text in figure.texts] == ["a residual block", "the whole net"]
    inches = [ax.get_position().width * figure.get_figwidth() / abs(np.diff(ax.get_xlim())[0]) for ax in figure.axes]
    assert inches[0] == pytest.approx(inches[1], rel=0.02) and first.get_position().x1 <= second.get_position().x0
    assert first.get_position().y1 == pytest.approx(second.get_position().y1)
    assert len(plt.get_fignums()) == 1


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="has a name that begins with 'nothing'"):
        block_diagram(residual(), "nothing")
    x = layers.Input((4, 4, 3), name="image")
    twice = layers.Conv2D(3, 1, name="twice")
    with pytest.raises(ValueError, match="is called twice"):
        block_diagram(keras.Model(x, twice(twice(x))))


def test_volumes_are_to_scale():
    image = layers.Input((32, 32, 3), name="image")
    x = layers.Conv2D(64, 3, padding="same", name="conv1_1")(image)
    x = layers.Conv2D(64, 3, padding="same", name="conv1_2")(x)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = layers.Conv2D(128, 3, padding="same", name="conv2_1")(x)
    x = layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D(name="head_pool")(x))
    ax = stage_diagram(keras.Model(image, x))
    found = texts(ax)
    assert {"image\n", "conv1\n", "conv2\n", "logits\n", "16×16\n×128"} <= set(found) and "pool1\n" not in found
    fronts = [patch.get_xy() for patch in ax.patches if isinstance(patch, Polygon) and patch.get_fill()][0:9:3]
    heights = [corners[:, 1].max() - corners[:, 1].min() for corners in fronts]
    depths = [corners[:, 0].max() - corners[:, 0].min() for corners in fronts]
    assert heights[0] == pytest.approx(heights[1]) and heights[1] == pytest.approx(2 * heights[2])
    assert depths[2] == pytest.approx(2 * depths[1])
    assert "conv1_1\n" in texts(stage_diagram(keras.Model(image, x), ["image", "conv1_1"]))


def test_a_pool_that_keeps_its_places_is_drawn_as_its_values():
    image = layers.Input((8, 8, 3), name="image")
    values, places = MaxPoolingWithIndices(2, name="pool1")(image)
    model = keras.Model(image, MaxUnpooling(2, name="unpool1")(values, places))
    assert "4×4\n×3" in texts(stage_diagram(model, ["image", "pool1", "unpool1"]))


def test_convolutions_are_drawn_with_as_many_volumes_and_to_scale():
    rows = {
        "standard": ((12, 12, 3), (6, 6, 3), 256, (8, 8, 256)),
        "depthwise": ((12, 12, 2), (6, 6, 1), 2, (8, 8, 2)),
    }
    ax = convolution_volumes(rows)
    found = texts(ax)
    assert {"standard", "12×12×3", "256 filters of 6×6×3", "8×8×256", "depthwise", "2 filters of 6×6×1"} <= set(found)
    fronts = [patch for patch in ax.patches if patch.get_fill()][::3]
    assert len(fronts) == (1 + 3 + 1) + (2 + 2 + 2)  # three of 256 filters; a slice for each channel
    boxes = [patch.get_xy() for patch in fronts]
    heights, depths = ([np.ptp(corners[:, axis]) for corners in boxes] for axis in (1, 0))
    assert heights[0] == pytest.approx(2 * heights[1])
    assert depths[4] / depths[0] == pytest.approx((256 / 3) ** 0.5)
    assert found["depthwise"][1] < found["standard"][1]
    colours = [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in fronts]
    assert set(colours[5:]) == {matplotlib.colors.to_hex(class_colour(number)) for number in (0, 1)}
    assert len(set(colours[:5])) == 2
