"""Figures: images, filters, feature maps, curves with their baselines, confusion matrices, matrices of numbers.

Every function draws with matplotlib and shows nothing itself: a notebook shows what was drawn at the end of the cell. A
function that draws one pair of axes takes `ax` (None: a new figure) and returns the Axes; one that draws several
returns the Figure. Images are (H, W), (H, W, 1) or (H, W, 3); uint8, or float in [0, 1] or [0, 255].
"""

from utils.plots.arithmetic import (
    field_cone,
    field_map,
    moving_window,
    number_equation,
    number_matrix,
    weight_pattern,
    window_positions,
    window_sizes,
    window_strip,
    wiring,
)
from utils.plots.base import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    YELLOW,
    class_colour,
    png,
    style,
)
from utils.plots.blocks import block_diagram, block_diagrams, stage_diagram
from utils.plots.charts import (
    bars,
    confusion_matrix,
    curves,
    dots,
    embedding,
    history,
    layer_bars,
    learning_curve,
    timeline,
)
from utils.plots.detection import (
    explore_threshold,
    precision_recall_curve,
    proposal_recall,
    show_anchors,
    show_boxes,
    show_regions,
    threshold_strip,
)
from utils.plots.detectors import error_bars, show_candidates, show_cells, show_grid, speed_accuracy
from utils.plots.explorer import explore
from utils.plots.images import show_feature_maps, show_filters, show_images
from utils.plots.instances import pasting_steps, show_roi_align
from utils.plots.maps import heat_map, show_fooling, show_maps, show_occlusion, show_patches
from utils.plots.scenes import draw_objects, show_masks, show_objects, show_scenes
from utils.plots.segmentation import show_label_maps
from utils.plots.strips import image_rows, show_attention, show_codes, show_episode, spectrogram
from utils.plots.two_stage import (
    pipelines,
    show_anchor_labels,
    show_roi_pool,
    show_rois,
    stacked_times,
)

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PALETTE",
    "PURPLE",
    "SKY",
    "VERMILLION",
    "WIDTH",
    "YELLOW",
    "bars",
    "block_diagram",
    "block_diagrams",
    "class_colour",
    "confusion_matrix",
    "curves",
    "dots",
    "draw_objects",
    "embedding",
    "error_bars",
    "explore",
    "explore_threshold",
    "field_cone",
    "field_map",
    "heat_map",
    "history",
    "image_rows",
    "layer_bars",
    "learning_curve",
    "moving_window",
    "number_equation",
    "number_matrix",
    "pasting_steps",
    "pipelines",
    "png",
    "precision_recall_curve",
    "proposal_recall",
    "show_anchor_labels",
    "show_anchors",
    "show_attention",
    "show_boxes",
    "show_candidates",
    "show_cells",
    "show_codes",
    "show_episode",
    "show_feature_maps",
    "show_filters",
    "show_fooling",
    "show_grid",
    "show_images",
    "show_label_maps",
    "show_maps",
    "show_masks",
    "show_objects",
    "show_occlusion",
    "show_patches",
    "show_regions",
    "show_roi_align",
    "show_roi_pool",
    "show_rois",
    "show_scenes",
    "spectrogram",
    "speed_accuracy",
    "stacked_times",
    "stage_diagram",
    "style",
    "threshold_strip",
    "timeline",
    "weight_pattern",
    "window_positions",
    "window_sizes",
    "window_strip",
    "wiring",
]
