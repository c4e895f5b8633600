"""Autoencoders and the variational one: closed forms against draws and quadrature, and what training does."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.stats import bernoulli, norm

from utils import generative


def array(x):
    return ops.convert_to_numpy(x)


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, "float32"))


@pytest.mark.parametrize("mean, deviation", [(0, 1), (2, 1), (1, 0.5), (-0.3, 1.7)])
def test_kl_divergence_against_the_integral(mean, deviation):
    z = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 200_001)
    q, log_q, log_p = norm.pdf(z, mean, deviation), norm.logpdf(z, mean, deviation), norm.logpdf(z)
    expected = np.sum(q * (log_q - log_p)) * (z[1] - z[0])
    closed = array(generative.kl_divergence(tensor([[mean]]), tensor([[2 * np.log(deviation)]])))
    np.testing.assert_allclose(closed, [expected], atol=1e-4)


def test_kl_divergences_of_several_numbers_add_up():
    rng = np.random.default_rng(0)
    mean, log_variance = rng.normal(size=(2, 3, 4))
    each = [
        array(generative.kl_divergence(tensor(mean[:, d : d + 1]), tensor(log_variance[:, d : d + 1])))
        for d in range(4)
    ]
    together = array(generative.kl_divergence(tensor(mean), tensor(log_variance)))
    np.testing.assert_allclose(together, np.sum(each, axis=0), rtol=1e-4)
    assert (together >= 0).all()


def test_a_draw_has_the_mean_and_the_variance_asked_for():
    noise = np.random.default_rng(1).normal(size=(50_000, 1))
    draws = array(generative.reparameterise(tensor([[3.0]]), tensor([[np.log(0.25)]]), tensor(noise)))
    assert draws.mean() == pytest.approx(3, abs=0.01) and draws.std() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(draws, 3 + 0.5 * noise, rtol=1e-4, atol=1e-5)


def test_reconstruction_error_is_the_log_likelihood_of_pixels():
    rng = np.random.default_rng(2)
    ink, logits = rng.integers(0, 2, (3, 4, 4, 1)), rng.normal(0, 3, (3, 4, 4, 1))
    expected = -bernoulli.logpmf(ink, 1 / (1 + np.exp(-logits))).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(array(generative.reconstruction_error(tensor(ink), tensor(logits))), expected, rtol=1e-4)


def test_large_logits_do_not_overflow():
    error = array(generative.reconstruction_error(tensor(np.ones((1, 1, 2, 1))), tensor([[[[200.0], [-200.0]]]])))
    np.testing.assert_allclose(error, [200])


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (8, 12, 3)])
def test_encoder_and_decoder_fit_the_image(shape):
    assert generative.encoder(shape, 5).output_shape == (None, 5)
    assert generative.decoder(shape, 5).output_shape == (None, *shape)


@pytest.mark.parametrize("shape", [(10, 8, 1), (8, 9, 1), (8, 8)])
def test_an_image_that_cannot_be_halved_twice_is_told(shape):
    for make in (generative.encoder, generative.decoder):
        with pytest.raises(ValueError, match="whose sides 4 divides, got"):
            make(shape, 2)


# Each image is inked from the left up to its own column.
IMAGES = np.tile(np.arange(8) <= np.arange(64)[:, None, None] % 8, (1, 8, 1))[..., None].astype("float32")


@pytest.fixture(scope="module")
def vae():
    keras.utils.set_random_seed(0)
    model = generative.VariationalAutoencoder((8, 8, 1), latent=2, widths=(4, 8), seed=0)
    model.compile(keras.optimizers.Adam(1e-2))
    model.history_of_test = model.fit(IMAGES, batch_size=16, epochs=40, verbose=0).history["loss"]
    return model


def test_training_raises_the_bound(vae):
    assert vae.history_of_test[-1] < vae.history_of_test[0] - 10


def test_in_inference_the_loss_is_minus_the_bound_at_the_mean(vae):
    logits, mean, log_variance = vae.predict(IMAGES, verbose=0)
    expected = array(
        generative.reconstruction_error(IMAGES, tensor(logits)) + generative.kl_divergence(mean, log_variance)
    )
    assert vae.evaluate(IMAGES, verbose=0) == pytest.approx(expected.mean(), rel=1e-4)
    again, _, _ = vae.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(logits, again)  # no draw


def test_in_training_every_call_draws(vae):
    one, other = (array(vae(tensor(IMAGES), training=True)[0]) for _ in range(2))
    assert np.abs(one - other).max() > 1e-3


def test_the_divergence_counts_beta_times():
    keras.utils.set_random_seed(0)
    models = [generative.VariationalAutoencoder((8, 8, 1), beta=beta, widths=(4, 8)) for beta in (0.0, 1.0, 3.0)]
    losses = []
    for model in models:
        model.compile()
        model(tensor(IMAGES[:2]))
        model.set_weights(models[0].get_weights())
        losses.append(model.evaluate(IMAGES, verbose=0))
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-3)
    assert losses[1] > losses[0]


def test_samples_are_brightness(vae):
    images = vae.sample(np.zeros((3, 2)))
    assert images.shape == (3, 8, 8, 1) and images.min() >= 0 and images.max() <= 1
    np.testing.assert_allclose(images[0], images[1], rtol=1e-5)


def test_it_is_saved_and_loaded(vae, tmp_path):
    vae.save(tmp_path / "vae.keras")
    loaded = keras.models.load_model(tmp_path / "vae.keras")
    np.testing.assert_allclose(loaded.sample(np.ones((1, 2))), vae.sample(np.ones((1, 2))), rtol=1e-5)


def test_a_walk_has_equal_steps():
    codes = generative.walk([0, 2], [4, 0], 5)
    np.testing.assert_allclose(codes, [[0, 2], [1, 1.5], [2, 1], [3, 0.5], [4, 0]])


def test_a_plane_holds_equal_shares():
    codes = generative.plane(5, reach=0.9).reshape(5, 5, 2)
    np.testing.assert_allclose(norm.cdf(codes[0, :, 0]), np.linspace(0.05, 0.95, 5))
    np.testing.assert_allclose(norm.cdf(codes[:, 0, 1]), np.linspace(0.95, 0.05, 5))  # upwards
    for side, reach in ((1, 0.9), (5, 1.0)):
        with pytest.raises(ValueError, match="at least 2 and a share in"):
            generative.plane(side, reach)
