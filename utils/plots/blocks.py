"""Networks drawn from the model itself: a block as a diagram of its layers, a whole net as volumes to scale."""

import math
import re
from dataclasses import dataclass, field

import keras
import matplotlib.pyplot as plt
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from utils.plots.base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    bare,
    class_colour,
)

_SLANT = 0.35  # of a box's width, to the back
# Inches at full size.
_HEIGHT, _GAP, _BETWEEN, _LETTER, _RADIUS = 0.42, 0.36, 0.22, 0.082, 0.13
_JOINS = {"Add": "+", "Multiply": "×", "Subtract": "−", "Average": "mean", "Maximum": "max"}
_INSIDE = {"ZeroPadding2D", "Identity", "Cropping2D"}  # not drawn: what they do is seen from the shapes
_BEHIND = {"BatchNormalization", "Activation", "ReLU", "LeakyReLU", "LocalResponseNormalization", "Dropout", "Softmax"}
_BEHIND |= {"Relu", "LeakyRelu"}  # as operations of `keras.ops`


def block_diagram(model, within=None, title=None, shapes=True, ax=None):
    """Draw a model, or one block of it, from its layers: input on top, branches side by side, joins as circles and
    bars.

    A convolution and the normalisation and activation behind it make one box; padding is left out. Edges carry the
    shape of what flows along them, height × width × channels.

    Args:
        model: functional `keras.Model`, flat, none of whose layers is called twice.
        within: None for the whole model; or a text, or a list of texts, with which the names of the block's layers
            begin, as "inception3a" or "stage2_block1".
        title: above the diagram.
        shapes: whether to write shapes on the edges.
        ax: Axes to draw into; its size should fit.

    Returns:
        Axes.

    Raises:
        ValueError: no layer has such a name, or a layer is called twice.
    """
    nodes = _nodes(model, within)
    ends = [node for node in nodes if not node.next]
    if len(ends) != 1:
        tail = _Node(None, "output", "", GREY, last=None)
        for node in ends:
            node.next.append(tail)
            tail.before.append(node)
        nodes.append(tail)
    starts = [node for node in nodes if not node.before]
    if len(starts) != 1:  # several inputs stand side by side, as if they came from one
        root = _Node(None, "", "", GREY, last=None, next=starts)
        for node in starts:
            node.before.append(root)
        nodes.insert(0, root)
        starts = [root]
    _place(nodes, starts[0])
    left = min(node.x - node.width / 2 for node in nodes) - 0.1
    right = max(node.x + node.width / 2 + (0.75 if shapes else 0) for node in nodes)
    lanes = [lane for node in nodes for lane in node.lanes.values()]
    left, right = min([left, *(lane - 0.1 for lane in lanes)]), max([right, *(lane + 0.1 for lane in lanes)])
    bottom = max(node.y + node.half for node in nodes) + _GAP + 0.05
    if ax is None:
        scale = min(1, WIDTH / (right - left))
        size = ((right - left) * scale, (bottom + 0.1) * scale + (0.3 if title else 0))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    else:
        scale = min(1, ax.figure.get_figwidth() * ax.get_position().width / (right - left))
    for node in nodes:
        _draw_node(ax, node, scale)
    for node in nodes:
        if node.text or node.layer is not None:
            _draw_edges(ax, node, shapes, scale)
    ax.set(xlim=(left, right), ylim=(bottom, -0.05), aspect="equal")
    bare(ax)
    if title:
        ax.set_title(title)
    return ax


def block_diagrams(blocks, shapes=True, width=WIDTH):
    """Draw several blocks side by side, all to one scale, tops aligned.

    Args:
        blocks: dict of title -> model, or pair (model, within), as in `block_diagram`.
        shapes: whether to write shapes on the edges.
        width: of the figure in inches, at most.

    Returns:
        Figure.
    """
    pairs = {title: block if isinstance(block, tuple) else (block, None) for title, block in blocks.items()}
    sizes = []
    for model, within in pairs.values():
        figure = block_diagram(model, within, shapes=shapes).figure
        sizes.append(figure.get_size_inches())
        plt.close(figure)
    wide = [max(size[0], 0.1 * len(title)) + 0.15 for title, size in zip(pairs, sizes)]
    scale, above = min(1, width / sum(wide)), 0.3
    height = scale * max(size[1] for size in sizes) + above
    figure, left = plt.figure(figsize=(scale * sum(wide), height), layout="none"), 0.0
    for (title, (model, within)), room, (own, tall) in zip(pairs.items(), wide, sizes):
        share = own / sum(wide), scale * tall / height
        ax = figure.add_axes((left + (room / sum(wide) - share[0]) / 2, 1 - above / height - share[1], *share))
        block_diagram(model, within, shapes=shapes, ax=ax)
        ax.set_anchor("N")
        middle = left + room / sum(wide) / 2
        figure.text(middle, 1 - 0.2 / height, title, ha="center", va="center", fontsize=min(11, 14 * scale))
        left += room / sum(wide)
    return figure


@dataclass(eq=False)
class _Node:
    layer: object  # the first of the layers in the box
    text: str
    small: str  # second line
    colour: str
    last: object  # the last of the layers in the box, whose output leaves it
    before: list = field(default_factory=list)
    next: list = field(default_factory=list)
    lanes: dict = field(default_factory=dict)  # x at which an edge without boxes runs, by the node it leads to
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def join(self):
        return _JOINS.get(type(self.layer).__name__)

    @property
    def bar(self):
        return type(self.layer).__name__ == "Concatenate"

    @property
    def half(self):
        """From the centre to the upper or lower edge."""
        return _RADIUS if self.join else _HEIGHT / 2


def _nodes(model, within):
    """The boxes of a diagram, connected, in the order of the computation."""
    prefixes = None if within is None else (within,) if isinstance(within, str) else tuple(within)
    layers = getattr(model, "operations", model.layers)  # the operations of `keras.ops` among them
    chosen = [
        layer
        for layer in layers
        if prefixes is None or layer.name in prefixes or layer.name.startswith(tuple(f"{p}_" for p in prefixes))
    ]
    if not chosen:
        raise ValueError(f"no layer of {model.name} has a name that begins with {within!r}")
    makers, users = {}, {}
    made = {id(x) for layer in layers for x in keras.tree.flatten(layer.output)}
    for layer in chosen:
        inputs = [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)
        for x in inputs:
            users.setdefault(id(x), []).append(layer)
        makers.update((id(x), layer) for x in keras.tree.flatten(layer.output))
    if not {*users, *map(id, model.outputs)} <= made:
        raise ValueError(f"a layer of {model.name} is called twice: this cannot be drawn")
    nodes, box_of = [], {}
    for layer in chosen:
        kind = type(layer).__name__
        inputs = [] if kind == "InputLayer" else keras.tree.flatten(layer.input)
        if any(len(x.shape) == 4 for x in inputs):  # beside images, vectors from outside only steer
            inputs = [x for x in inputs if len(x.shape) == 4 or id(x) in makers]
        for x in inputs:
            if id(x) not in makers and id(x) not in box_of:  # what comes into the block
                nodes.append(_Node(None, "input", "", GREY, last=x))
                box_of[id(x)] = nodes[-1]
        sources = [box_of[id(x)] for x in inputs]
        alone = len(sources) == 1 and len(users[id(inputs[0])]) == 1
        if kind in _INSIDE or (kind in _BEHIND and alone and sources[0].layer is not None and not sources[0].join):
            box = sources[0]
            if kind in _BEHIND:
                box.small = " · ".join(filter(None, [box.small, _words(layer)[0]]))
        elif kind == "InputLayer":
            box = _Node(None, "input", "", GREY, last=layer.output)
            nodes.append(box)
        else:
            box = _Node(layer, *_words(layer), _colour(kind), last=None, before=sources)
            for source in sources:
                source.next.append(box)
            nodes.append(box)
        for x in keras.tree.flatten(layer.output):
            box_of[id(x)] = box
            if kind not in _INSIDE:
                box.last = x
    for node in nodes:
        longest = max(len(node.text) * _LETTER, len(node.small) * _LETTER * 0.85)
        node.width = 2 * _RADIUS if node.join else longest + 0.2
    return nodes


def _words(layer):
    """(first line, second line) of a layer's box."""
    kind = type(layer).__name__

    def size(value):
        pair = (value, value) if isinstance(value, int) else tuple(value)
        return f"{pair[0]}×{pair[1]}"

    def stride():
        s = layer.strides or layer.pool_size  # None in an operation that pools: windows side by side
        s = s if isinstance(s, int) else s[0]
        return f", /{s}" if s > 1 else ""

    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    then = "" if activation == "linear" else {"relu": "ReLU"}.get(activation, activation)
    if kind == "DepthwiseConv2D":
        return f"{size(layer.kernel_size)} depthwise{stride()}", then
    if hasattr(layer, "kernel_size") and hasattr(layer, "filters"):
        named = {"Conv2D": "conv", "SeparableConv2D": "separable", "Conv2DTranspose": "transposed"}.get(kind, kind)
        groups = f", {layer.groups} groups" if getattr(layer, "groups", 1) > 1 else ""
        dilation = layer.dilation_rate[0] if not isinstance(layer.dilation_rate, int) else layer.dilation_rate
        spread = f", d {dilation}" if dilation > 1 else ""
        return f"{size(layer.kernel_size)} {named}, {layer.filters}{stride()}{spread}{groups}", then
    if kind == "MaxPooling2D" and size(layer.pool_size) == "1×1":
        return f"subsample{stride()}", ""
    if kind == "Rescaling" and (layer.scale, layer.offset) == (-1, 1):
        return "1 − x", ""
    if kind == "Rescaling" and layer.offset == 0:
        return f"× {layer.scale:g}", ""
    if kind in ("MaxPooling2D", "AveragePooling2D", "MaxPool", "AveragePool"):
        return f"{size(layer.pool_size)} {'max' if kind[0] == 'M' else 'average'}-pool{stride()}", ""
    if kind == "Dense":
        return f"dense, {layer.units}", then
    if kind == "Activation":
        return then or "linear", ""
    names = {
        "BatchNormalization": "BN",
        "Relu": "ReLU",
        "LeakyRelu": "leaky ReLU",
        "LocalResponseNormalization": "LRN",
        "GlobalAveragePooling2D": "global average",
        "Concatenate": "concatenate",
        "Dropout": f"dropout {getattr(layer, 'rate', 0):g}",
        "ChannelPadding": "zero channels",
        "ChannelShuffle": "shuffle",
        "ChannelSplit": "split in halves",
        "Join": "join",
    }
    return names.get(kind, kind if kind == kind.upper() else kind.replace("2D", "")), ""


def _colour(kind):
    for words, colour in (
        (("Depthwise", "Separable"), SKY),
        (("Conv",), BLUE),
        (("Pool",), ORANGE),
        (("Dense",), PURPLE),
        (("Concatenate",), GREEN),
    ):
        if any(word in kind for word in words):
            return colour
    return GREY


def _place(nodes, start):
    """Give every node its place: a fork's branches stand side by side, and what they meet in stands below them."""
    after = {}  # for each node all that every path from it passes, in order
    reached = {}  # and all that some path passes
    for node in reversed(nodes):
        reached[node] = {node}.union(*(reached[other] for other in node.next))
        common = None
        for other in node.next:
            paths = [other, *after[other]]
            common = paths if common is None else [n for n in common if n in paths]
        after[node] = common or []

    def lay(node, stop, x, y):
        """Place the nodes from `node` to before `stop`, centred on 0 + x; return (y below them)."""
        while node is not None and node is not stop:
            if node in done:
                return y
            done.add(node)
            node.x, node.y = x, y + node.half
            y += 2 * node.half + _GAP
            if len(node.next) < 2:
                node = node.next[0] if node.next else None
                continue
            meet = after[node][0] if after[node] else None
            y, node = fan(node, groups(node.next, meet), meet, x, y), meet
        return y

    def fan(node, branches, meet, x, y):
        """Place groups of branches side by side between a fork and the join; return y below them."""
        spans = [group_span(group, meet) for group in branches]
        identities = [group == [meet] for group in branches]
        if len(branches) == 2 and sum(identities) == 1:  # an identity beside one branch: the branch stays straight
            side = identities.index(True)
            other = spans[1 - side] / 2 + _BETWEEN + 0.15
            centres = [0, 0]
            centres[side] = other if side else -other
        else:
            total, centres = -sum(spans) / 2 - _BETWEEN * (len(spans) - 1) / 2, []
            for width in spans:
                centres.append(total + width / 2)
                total += width + _BETWEEN
        lowest = y
        for group, centre, identity in zip(branches, centres, identities):
            inner = common(group)
            if identity:
                node.lanes[meet] = x + centre
            elif len(group) > 1:
                lowest = max(
                    lowest, lay(inner, meet, x + centre, fan(node, [[b] for b in group], inner, x + centre, y))
                )
            elif group[0] in done:
                node.lanes[group[0]] = x + centre
            else:
                lowest = max(lowest, lay(group[0], meet, x + centre, y + 0.1))
        if meet is not None and meet.bar:
            reach = max(
                abs(centre) + (0.15 if one else span / 2) for centre, one, span in zip(centres, identities, spans)
            )
            meet.width = max(meet.width, 2 * reach)
        return lowest + 0.06

    def groups(branches, meet):
        """Branches in the order of the join's inputs, each alone; those that meet before the identity, together."""
        branches = sorted(dict.fromkeys(branches), key=lambda branch: position(branch, meet))
        others = [branch for branch in branches if branch is not meet]
        if len(others) == len(branches) or len(others) < 2 or common(others) in (None, meet):
            return [[branch] for branch in branches]
        inner = common(others)
        others.sort(key=lambda branch: position(branch, inner))
        return [others, [meet]]

    def common(branches):
        """The first node that all of these branches pass."""
        paths = [[branch, *after[branch]] for branch in branches]
        return next((node for node in paths[0] if all(node in path for path in paths)), None)

    def group_span(group, meet):
        if len(group) == 1:
            return span(group[0], meet)
        inner = common(group)
        return max(sum(span(branch, inner) for branch in group) + _BETWEEN * (len(group) - 1), span(inner, meet))

    def span(node, stop):
        """Width of what stands between a node and the join."""
        if node is stop:
            return 0.3
        widest, walked = 0.0, set()
        while node is not None and node is not stop and node not in walked:
            walked.add(node)
            wide = node.width + (0.5 if not node.join else 0.8)
            if len(node.next) > 1:
                meet = after[node][0] if after[node] else None
                inner = [group_span(group, meet) for group in groups(node.next, meet)]
                wide = max(wide, sum(inner) + _BETWEEN * (len(inner) - 1))
                node = meet if meet is not node else None
            else:
                node = node.next[0] if node.next else None
            widest = max(widest, wide)
        return widest

    def position(branch, meet):
        """Place of a branch among the inputs of the join."""
        order = meet.before if meet is not None else []
        ends = [i for i, end in enumerate(order) if end in reached[branch]]
        return sum(ends) / len(ends) if ends and branch is not meet else len(order)

    done = set()
    lay(start, None, 0.0, 0.0)
    for node in nodes:  # where branches feed each other, below all that it takes
        node.y = max([node.y, *(other.y + other.half + _GAP + node.half for other in node.before)])


def _draw_node(ax, node, scale):
    text = {"ha": "center", "va": "center", "fontsize": 9 * scale}
    if node.join:
        ax.add_patch(
            Circle((node.x, node.y), _RADIUS, facecolor="white", edgecolor=VERMILLION, linewidth=1.6, zorder=3)
        )
        ax.text(node.x, node.y, node.join, color=VERMILLION, weight="bold", zorder=4, **text | {"fontsize": 11 * scale})
        return
    if node.layer is None:
        ax.text(node.x, node.y, node.text, color=GREY, style="italic", **text)
        return
    corner = (node.x - node.width / 2 + 0.06, node.y - _HEIGHT / 2 + 0.06)
    box = FancyBboxPatch(
        corner,
        node.width - 0.12,
        _HEIGHT - 0.12,
        boxstyle="round,pad=0.06",
        facecolor=node.colour,
        alpha=0.22,
        zorder=2,
    )
    edge = FancyBboxPatch(
        corner,
        node.width - 0.12,
        _HEIGHT - 0.12,
        boxstyle="round,pad=0.06",
        fill=False,
        edgecolor=node.colour,
        zorder=3,
    )
    ax.add_patch(box)
    ax.add_patch(edge)
    ax.text(node.x, node.y - (0.075 if node.small else 0), node.text, color=BLACK, zorder=4, **text)
    if node.small:
        ax.text(node.x, node.y + 0.1, node.small, color=GREY, zorder=4, **text | {"fontsize": 7.5 * scale})


def _draw_edges(ax, node, shapes, scale):
    line = {"color": BLACK, "linewidth": 1.0 * scale, "solid_joinstyle": "round", "zorder": 1}
    arrow = {"arrowstyle": "-|>", "color": BLACK, "linewidth": 1.0 * scale, "mutation_scale": 9 * scale}
    down = node.y + (node.half if node.layer is not None else 0.12)
    for other in dict.fromkeys(node.next):
        top = other.y - (other.half if other.layer is not None else 0.12)
        points = [(node.x, down)]
        lane = node.lanes.get(other)
        if lane is not None:
            points += [(node.x, down + 0.2), (lane, down + 0.2)]
            points += (
                [(lane, other.y)]
                if other.join
                else [(lane, top)]
                if other.bar
                else [(lane, top - 0.1), (other.x, top - 0.1)]
            )
            end = (other.x + (_RADIUS if lane > other.x else -_RADIUS), other.y) if other.join else (points[-1][0], top)
        elif abs(node.x - other.x) < 1e-6 or (other.bar and len(node.next) == 1):
            end = (node.x, top)
        elif len(node.next) > 1:  # out of a fork, then down
            points += [(node.x, down + 0.2), (other.x, down + 0.2)]
            end = (other.x, top)
        elif other.join and abs(node.x - other.x) > _RADIUS:  # into a join from the side
            points += [(node.x, other.y)]
            end = (other.x + (_RADIUS if node.x > other.x else -_RADIUS), other.y)
        else:
            points += [(node.x, top - 0.12), (other.x, top - 0.12)]
            end = (other.x, top)
        ax.plot(*zip(*points), **line)
        ax.annotate("", end, points[-1], arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0}, zorder=1)
    if not node.next and node.layer is not None:
        ax.annotate(
            "", (node.x, down + _GAP), (node.x, down), arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0}, zorder=1
        )
    if shapes and node.last is not None:
        ax.text(
            node.x + 0.05,
            down + 0.1,
            _shape(node.last),
            fontsize=7 * scale,
            color=GREY,
            va="center",
            ha="left",
            zorder=4,
        )


def _shape(x):
    return "×".join("?" if size is None else str(size) for size in x.shape[1:])


def stage_diagram(model, stages=None, title=None, ax=None):
    """Draw a whole net as its maps, one box for each stage, to scale: height the map's, thickness the number of
    channels.

    Sizes in pixels share one scale and channels another. What has no height and width, as a dense layer, is a bar: its
    length is to the channels' scale, cut off where it would pass the largest map.

    Args:
        model: `keras.Model` whose layers' names begin with their stage and "_", as those of `utils.architectures`.
        stages: names of layers whose outputs to draw; None: the image, the last map of every stage and the dense
            layers.
        title: above the drawing.
        ax: Axes to draw into.

    Returns:
        Axes.
    """
    volumes = _volumes(model, stages)
    if ax is None:
        ax = plt.subplots(figsize=(WIDTH, 2.9), layout="constrained")[1]
    largest = max(max(shape[:2]) for _, shape in volumes if len(shape) == 3)
    thick = sum(shape[2] for _, shape in volumes if len(shape) == 3) or 1
    tall, gap = 1.7, 0.28
    deep = 2.6 / thick * min(1, len(volumes) / 6)
    x, labels = 0.0, []
    for name, shape in volumes:
        if len(shape) == 3:
            height, width = (tall * side / largest for side in shape[:2])
            depth, slant = max(deep * shape[2], 0.015), _SLANT * width
            _cuboid(ax, x, 0, depth, height, width, GREY if name == volumes[0][0] else BLUE)
            centre, extent, text = x + (depth + slant) / 2, depth + slant, f"{shape[0]}×{shape[1]}\n×{shape[2]}"
        else:
            length = min(deep * shape[-1], tall)
            ax.add_patch(
                Polygon(
                    [(x, -length / 2), (x + 0.07, -length / 2), (x + 0.07, length / 2), (x, length / 2)],
                    facecolor=PURPLE,
                    alpha=0.7,
                )
            )
            centre, extent, text = x + 0.035, 0.07, f"{shape[-1]}"
        label = re.sub(r"(?<=[a-z]{6})(?=\d)", "\n", name)
        labels.append((centre, f"{label}\n", text))
        x += max(extent + gap, 0.55, 0.068 * max(map(len, label.split("\n"))))
    scale = min(1, 0.95 * ax.figure.get_figwidth() * ax.get_position().width / x * 1.1)
    below = max(label.count("\n") for _, label, _ in labels)
    for centre, label, text in labels:
        ax.text(centre, -tall / 2 - 0.1, label, ha="center", va="top", fontsize=7.5 * scale, linespacing=1.1)
        ax.text(
            centre,
            -tall / 2 - 0.16 - 0.13 * below,
            text,
            ha="center",
            va="top",
            fontsize=7 * scale,
            color=GREY,
            linespacing=1.1,
        )
    ax.set(xlim=(-0.3, x), ylim=(-tall / 2 - 0.5 - 0.13 * below, tall * 0.87), aspect="equal")
    bare(ax)
    if title:
        ax.set_title(title)
    return ax


def _cuboid(ax, x, y, depth, height, width, colour):
    """A box seen from the left and above, its left edge at x, its middle at y, depth to the right, width backwards."""
    slant, low, high = _SLANT * width, y - height / 2, y + height / 2
    front = [(x, low), (x + depth, low), (x + depth, high), (x, high)]
    top = [(x, high), (x + depth, high), (x + depth + slant, high + slant), (x + slant, high + slant)]
    side = [(x + depth, low), (x + depth + slant, low + slant), top[2], top[1]]
    for corners, alpha in ((front, 0.55), (top, 0.35), (side, 0.2)):
        ax.add_patch(Polygon(corners, facecolor=colour, alpha=alpha, edgecolor="none"))
        ax.add_patch(Polygon(corners, fill=False, edgecolor=colour, linewidth=0.6))


def convolution_volumes(convolutions):
    """Draw convolutions as volumes, one a row: the input, the filters and the output, heights to one scale.

    Depth stands for channels, by its square root: 3 and 256 would not fit beside each other. Of many filters three are
    drawn. Where each filter sees one channel, the channels of input, filters and output have colours of their own.

    Args:
        convolutions: dict of title -> (input (H, W, C), filter (h, w, c), number of filters, output (H, W, K)).

    Returns:
        Axes.
    """
    largest = max(max(given[0], got[0]) for given, _, _, got in convolutions.values())
    tall, apart = 1.0, 2.0
    size = (WIDTH, apart * len(convolutions) * WIDTH / 8.4)
    ax = plt.subplots(figsize=size, layout="constrained")[1]

    def volume(x, y, shape, slices):
        """Draw one volume with its left edge at x; where its right edge is."""
        height, width = (max(tall * side / largest, 0.06) for side in shape[:2])
        colours = [class_colour(number) for number in range(slices)] or [BLUE]
        depth = 0.11 * math.sqrt(shape[2]) / len(colours)
        for number in reversed(range(len(colours))):  # the nearest last
            _cuboid(ax, x + number * depth, y, depth, height, width, colours[number])
        return x + depth * len(colours) + _SLANT * width

    for row, (title, (given, kernel, count, got)) in enumerate(convolutions.items()):
        y, each = -apart * row, kernel[2] == 1 and count == given[2] > 1
        text = {"ha": "center", "va": "top", "fontsize": 9}
        ax.text(0, y + 1.05, title, fontsize=11, va="center")
        right = volume(0.0, y, given, given[2] if each else 0)
        ax.text(right / 2, y - 0.56, "×".join(map(str, given)), **text)
        ax.text(2.1, y, "∗", ha="center", va="center", fontsize=14)
        x = left = 2.6
        for number in range(min(count, 3)):
            colour = class_colour(number) if each else ORANGE
            height, width = (max(tall * side / largest, 0.06) for side in kernel[:2])
            _cuboid(ax, x, y, 0.11 * math.sqrt(kernel[2]), height, width, colour)
            x += 0.11 * math.sqrt(kernel[2]) + _SLANT * width + 0.18
        more = " …" if count > 3 else ""
        ax.text(x, y, more, va="center", fontsize=14)
        ax.text((left + x) / 2, y - 0.56, f"{count} filters of {'×'.join(map(str, kernel))}", **text)
        ax.text(5.0, y, "=", ha="center", va="center", fontsize=14)
        right = volume(5.5, y, got, got[2] if each else 0)
        ax.text((5.5 + right) / 2, y - 0.56, "×".join(map(str, got)), **text)
    ax.set(xlim=(-0.1, 8.3), ylim=(-apart * (len(convolutions) - 1) - 0.85, 1.2), aspect="equal")
    bare(ax)
    return ax


def _volumes(model, stages):
    if stages is not None:
        return [(name, tuple(keras.tree.flatten(model.get_layer(name).output)[0].shape[1:])) for name in stages]
    found = {}
    for layer in model.layers:
        outputs = keras.tree.flatten(layer.output)
        if len(outputs) == 1 and len(outputs[0].shape) in (2, 4) and type(layer).__name__ not in ("Flatten", "Dropout"):
            flat = len(outputs[0].shape) == 2
            stage = layer.name.removeprefix("head_") if flat else layer.name.partition("_")[0]
            if stage != "head":
                found[stage] = tuple(outputs[0].shape[1:])
    volumes = list(found.items())
    # A pool alone is left out where the next stage has maps of its size.
    return [
        (name, shape)
        for (name, shape), (_, after) in zip(volumes, [*volumes[1:], ("", ())])
        if not (name.startswith("pool") and len(shape) == 3 and shape[:2] == after[:2])
    ]
