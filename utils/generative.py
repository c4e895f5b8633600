"""Networks that make images: autoencoders, and the variational autoencoder (Kingma and Welling 2014)."""

import keras
import numpy as np
from keras import layers, ops


def encoder(image_shape, outputs, widths=(16, 32), name="encoder"):
    """Two convolutions of stride 2 and a dense layer: an image as a few numbers.

    Args:
        image_shape: (H, W, C); 4 divides H and W.
        outputs: numbers that come out, without activation.
        widths: filters of the two convolutions.
        name: of the model.

    Returns:
        keras.Model: (B, H, W, C) -> (B, outputs).

    Raises:
        ValueError: a side is not a multiple of 4.
    """
    _check_sides(image_shape)
    image = layers.Input(image_shape)
    x = image
    for width in widths:
        x = layers.Conv2D(width, 3, 2, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    return keras.Model(image, layers.Dense(outputs)(layers.Flatten()(x)), name=name)


def decoder(image_shape, inputs, widths=(32, 16), name="decoder"):
    """The way back: a dense layer and two transposed convolutions of stride 2.

    Args:
        image_shape: (H, W, C) of what comes out; 4 divides H and W.
        inputs: numbers that go in.
        widths: channels behind the dense layer and behind the first transposed convolution.
        name: of the model.

    Returns:
        keras.Model: (B, inputs) -> (B, H, W, C), logits of the brightness of each pixel.

    Raises:
        ValueError: a side is not a multiple of 4.
    """
    _check_sides(image_shape)
    height, width, channels = image_shape
    code = layers.Input((inputs,))
    x = layers.Dense(height // 4 * (width // 4) * widths[0], activation="relu", kernel_initializer="he_normal")(code)
    x = layers.Reshape((height // 4, width // 4, widths[0]))(x)
    x = layers.Conv2DTranspose(widths[1], 4, 2, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    return keras.Model(code, layers.Conv2DTranspose(channels, 4, 2, padding="same")(x), name=name)


def _check_sides(image_shape):
    if len(image_shape) != 3 or image_shape[0] % 4 or image_shape[1] % 4:
        raise ValueError(f"two strides of 2 need an image (H, W, C) whose sides 4 divides, got {tuple(image_shape)}")


def reparameterise(mean, log_variance, noise):
    """A draw from N(mean, exp(log_variance)) as a function of its parameters: mean + exp(log_variance / 2) * noise.

    The noise comes from N(0, 1) and depends on nothing, so that the gradient passes to mean and variance.

    Args:
        mean, log_variance, noise: (B, D) float.

    Returns:
        (B, D) tensor.
    """
    return mean + ops.exp(log_variance / 2) * noise


def kl_divergence(mean, log_variance):
    """Kullback-Leibler divergence of N(mean, diag exp(log_variance)) from N(0, I), in nats.

    sum over d of (mean^2 + variance - 1 - log variance) / 2 (Kingma and Welling 2014, appendix B).

    Args:
        mean, log_variance: (B, D) float.

    Returns:
        (B,) tensor, at least 0.
    """
    return ops.sum(ops.square(mean) + ops.exp(log_variance) - 1 - log_variance, axis=-1) / 2


def reconstruction_error(images, logits):
    """Minus the log-likelihood of the pixels, in nats: the cross-entropy of each pixel's brightness, summed over an
    image.

    Args:
        images: (B, H, W, C) float in [0, 1]; a grey pixel counts as a share of ink.
        logits: (B, H, W, C) float.

    Returns:
        (B,) tensor.
    """
    losses = ops.maximum(logits, 0) - logits * images + ops.log1p(ops.exp(-ops.abs(logits)))
    return ops.sum(losses, axis=(1, 2, 3))


@keras.saving.register_keras_serializable("convnets")
class VariationalAutoencoder(keras.Model):
    """A variational autoencoder: the encoder gives a normal distribution for each image, the decoder pixels for each
    draw from it.

    `fit(images)` with images in [0, 1] minimises minus the evidence lower bound (ELBO): reconstruction error + `beta`
    times the KL divergence from N(0, I), averaged over the batch. In inference the mean takes the place of the draw.

    Args:
        image_shape: (H, W, C); 4 divides H and W.
        latent: numbers of a code.
        beta: weight of the KL divergence; 1 is the bound (Higgins et al. 2017 for others).
        widths: filters of the encoder's convolutions; the decoder has them in reverse.
        seed: of the draws.
    """

    def __init__(self, image_shape, latent=2, beta=1.0, widths=(16, 32), seed=None, **kwargs):
        super().__init__(**kwargs)
        self.image_shape, self.latent, self.beta = tuple(image_shape), latent, beta
        self.widths, self.seed = tuple(widths), seed
        self.encoder = encoder(self.image_shape, 2 * latent, self.widths)
        self.decoder = decoder(self.image_shape, latent, self.widths[::-1])
        self.seed_generator = keras.random.SeedGenerator(seed)

    def encode(self, images):
        """Means and log-variances (B, latent) of images (B, H, W, C) in [0, 1]."""
        code = self.encoder(images)
        return code[:, : self.latent], code[:, self.latent :]

    def call(self, images, training=False):
        """Logits of the pixels (B, H, W, C), means and log-variances (B, latent)."""
        mean, log_variance = self.encode(images)
        code = mean
        if training:
            noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
            code = reparameterise(mean, log_variance, noise)
        return self.decoder(code), mean, log_variance

    def build(self, input_shape):
        self.built = True  # the two halves were built on their own

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        logits, mean, log_variance = y_pred
        error = reconstruction_error(x, logits)
        return ops.mean(error + self.beta * kl_divergence(mean, log_variance))

    def sample(self, codes):
        """Images (N, H, W, C) float in [0, 1] for codes (N, latent): the decoder's answer as brightness."""
        return np.asarray(ops.convert_to_numpy(ops.sigmoid(self.decoder(ops.convert_to_tensor(codes, "float32")))))

    def get_config(self):
        names = ("image_shape", "latent", "beta", "widths", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def walk(start, end, steps=8):
    """Codes on the straight line from one to another.

    Args:
        start, end: (D,) float.
        steps: points, both ends among them; at least 2.

    Returns:
        (steps, D) float.
    """
    shares = np.linspace(0, 1, steps)[:, None]
    return (1 - shares) * np.asarray(start) + shares * np.asarray(end)


def plane(side=9, reach=0.95):
    """Codes on a square grid whose rows and columns hold equal shares of N(0, 1): where a code of two numbers may lie.

    Args:
        side: points along each axis, at least 2.
        reach: share of the normal distribution between the first and the last of them, in (0, 1).

    Returns:
        (side * side, 2) float, row by row; the first number grows to the right, the second upwards.

    Raises:
        ValueError: the side or the share is out of its range.
    """
    from scipy.stats import norm

    if side < 2 or not 0 < reach < 1:
        raise ValueError(f"a plane has a side of at least 2 and a share in (0, 1), got {side} and {reach}")
    values = norm.ppf(np.linspace((1 - reach) / 2, (1 + reach) / 2, side))
    return np.stack(np.meshgrid(values, values[::-1]), axis=-1).reshape(-1, 2)
