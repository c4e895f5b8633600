"""MNIST: handwritten digits, from `keras.datasets`."""

from utils.data.catalogue import register
from utils.data.downloaded import source


@register("mnist")
def mnist():
    """Handwritten digits: 28 x 28 grey, 0 is paper and 255 is ink."""
    return source(
        "mnist",
        file="mnist.npz",
        instead="digits",
        training=60000,
        title="Handwritten digits of MNIST",
        classes=tuple("0123456789"),
        image_shape=(28, 28, 1),
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998",
    )
