"""Feature pyramid network: Lin, Dollar, Girshick, He, Hariharan and Belongie (CVPR 2017).

A backbone's deep maps know what is there, its shallow ones know where. From the top down, each map is enlarged and
added to the next finer one, so that every level of the pyramid has both. All levels have the same number of channels,
and one head serves them all.
"""

from keras import layers

from utils.layers import CropLike


def fpn(maps, levels, channels=256, top=None, name="fpn"):
    """The pyramid P_l of the maps C_l of a backbone.

    Each C_l goes through a 1x1 convolution. From the coarsest level down, the sum so far is doubled by nearest
    neighbours, cut to the size of the finer map where that is odd, and added to it. A 3x3 convolution on each sum takes
    away the steps of the enlargement. Neither has an activation, as in the paper.

    Args:
        maps: list of tensors (B, H_l, W_l, C_l), the finest first; each next one half as large.
        levels: their levels, rising by 1: level l has a stride of 2^l pixels.
        channels: of every level of the pyramid.
        top: what comes above the coarsest level n. None: nothing. "pool": P_(n+1) is every second place of P_n (FPN's
            own, for large anchors). "convolutions": P_(n+1) is a 3x3 convolution of stride 2 on C_n, and P_(n+2)
            another on its ReLU (RetinaNet).
            "convolutions_of_p": the same, the first one on P_n (what torchvision and Detectron2 build).
        name: beginning of the names of all layers.

    Returns:
        dict of level -> tensor (B, H, W, channels), rising.

    Raises:
        ValueError: levels that do not rise by 1, as many as maps, or an unknown `top`.
    """
    levels = list(levels)
    if not levels or levels != list(range(levels[0], levels[0] + len(maps))):
        raise ValueError(f"a pyramid wants levels that rise by 1, one for each of {len(maps)} maps, got {levels}")
    if top not in (None, "pool", "convolutions", "convolutions_of_p"):
        raise ValueError(f"top is None, 'pool', 'convolutions' or 'convolutions_of_p', not {top!r}")
    pyramid, above = {}, None
    for level, x in sorted(zip(levels, maps), key=lambda pair: -pair[0]):
        x = layers.Conv2D(channels, 1, kernel_initializer="he_uniform", name=f"{name}_lateral{level}")(x)
        if above is not None:
            larger = layers.UpSampling2D(2, name=f"{name}_up{level}")(above)
            if larger.shape[1:3] != x.shape[1:3] or None in x.shape[1:3]:
                larger = CropLike(name=f"{name}_crop{level}")(larger, x)
            x = layers.Add(name=f"{name}_sum{level}")([larger, x])
        above = x
        pyramid[level] = _convolution(x, channels, 1, f"{name}_p{level}")
    last = levels[-1]
    if top == "pool":
        pyramid[last + 1] = layers.MaxPooling2D(1, 2, name=f"{name}_p{last + 1}")(pyramid[last])
    elif top is not None:
        source = maps[-1] if top == "convolutions" else pyramid[last]
        pyramid[last + 1] = _convolution(source, channels, 2, f"{name}_p{last + 1}")
        active = layers.ReLU(name=f"{name}_p{last + 1}_relu")(pyramid[last + 1])
        pyramid[last + 2] = _convolution(active, channels, 2, f"{name}_p{last + 2}")
    return dict(sorted(pyramid.items()))


def _convolution(x, channels, strides, name):
    """3x3 with one zero on every side; Keras's "same" would put both on the far side where the stride is 2."""
    if strides == 1:
        return layers.Conv2D(channels, 3, padding="same", kernel_initializer="he_uniform", name=name)(x)
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.Conv2D(channels, 3, strides, kernel_initializer="he_uniform", name=name)(x)
