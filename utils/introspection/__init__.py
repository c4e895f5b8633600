"""Looking into a network: what its units answer to, and which pixels move its output.

Works on functional and Sequential models, on models nested in them, and on subclassed ones that take one batch of
images. Images go in as the model takes them, (N, H, W, C); every answer is in NumPy. The models run in inference mode,
in batches of one size, and are left as they were; what a backend compiles for a model is kept for the next call.
"""

from utils.introspection.adversarial import Fooled, fool
from utils.introspection.attribution import guided_backpropagation, integrated_gradients, saliency, smooth_grad
from utils.introspection.class_activation import grad_cam
from utils.introspection.deconvolution import deconvnet
from utils.introspection.effective_field import effective_receptive_field
from utils.introspection.features import Patches, activations, top_patches
from utils.introspection.gradient import gradients
from utils.introspection.maximisation import Maximised, maximise
from utils.introspection.occluding import Occlusion, occlusion
from utils.introspection.sanity import randomise, rank_correlation

__all__ = [
    "Fooled",
    "Maximised",
    "Occlusion",
    "Patches",
    "activations",
    "deconvnet",
    "effective_receptive_field",
    "fool",
    "grad_cam",
    "gradients",
    "guided_backpropagation",
    "integrated_gradients",
    "maximise",
    "occlusion",
    "randomise",
    "rank_correlation",
    "saliency",
    "smooth_grad",
    "top_patches",
]
