"""Training: compiling and schedules, learning rates by layer group, a fit that goes on after a break, live curves."""

from utils.training.compiling import WarmupHoldDecay, compile_classifier, drawn_batches, filled_batches, jit_compile
from utils.training.curves import LiveCurves
from utils.training.layer_rates import LayerwiseOptimizer, layer_groups, layerwise, leaf_layers
from utils.training.resuming import fit

__all__ = [
    "LayerwiseOptimizer",
    "LiveCurves",
    "WarmupHoldDecay",
    "compile_classifier",
    "drawn_batches",
    "filled_batches",
    "fit",
    "jit_compile",
    "layer_groups",
    "layerwise",
    "leaf_layers",
]
