"""Fashion-MNIST: clothes, from `keras.datasets`."""

from utils.data.catalogue import register
from utils.data.downloaded import source


@register("fashion_mnist")
def fashion_mnist():
    """Clothes: 28 x 28 grey, 0 is the ground."""
    return source(
        "fashion_mnist",
        file="fashion-mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz (four files)",
        instead="digits",
        training=60000,
        title="Clothes of Fashion-MNIST",
        classes=(
            "t-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        image_shape=(28, 28, 1),
        licence="MIT",
        citation="H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine "
        "Learning Algorithms, 2017",
    )
