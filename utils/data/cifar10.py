"""CIFAR-10: small photographs, from `keras.datasets`."""

from utils.data.catalogue import register
from utils.data.downloaded import source


@register("cifar10")
def cifar10():
    """Small photographs: 32 x 32 RGB."""
    return source(
        "cifar10",
        file="cifar-10-batches-py-target_archive (cifar-10-python.tar.gz under that name)",
        instead="shapes_crops",
        training=50000,
        title="Small photographs of CIFAR-10",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        image_shape=(32, 32, 3),
        licence="not stated",
        citation="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    )
