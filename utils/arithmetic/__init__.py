"""Convolution arithmetic: sizes, values, matrices, receptive fields, and the cost of a network.

Letters as in Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016): input size `n`, filter
size `f`, stride `s`, padding `p`, dilation `d`. "Convolution" is what the networks compute, that is correlation: the
filter is not turned round.
"""

from utils.arithmetic.convolution import (
    conv2d,
    conv2d_transpose,
    convolution_matrix,
    output_size,
    same_padding,
    transposed_output_size,
)
from utils.arithmetic.counting import layer_table, totals
from utils.arithmetic.receptive_field import (
    receptive_field_chain,
    receptive_fields,
    width_holding,
)

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "convolution_matrix",
    "layer_table",
    "output_size",
    "receptive_field_chain",
    "receptive_fields",
    "same_padding",
    "totals",
    "transposed_output_size",
    "width_holding",
]
