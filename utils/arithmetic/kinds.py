"""Which layers of Keras do what, by the names of their classes."""

import keras


def kind(layer):
    """The name of the class of Keras, or of `utils.layers`, whose computation a layer runs.

    A subclass that inherits `call` counts as the class that it inherits it from. A layer that defines `call` itself
    computes something that is not known here, and gives "".
    """
    for parent in type(layer).__mro__:
        if parent.__module__.startswith(("keras.", "utils.layers")):
            name = parent.__name__
            return "Mean" if name == "Average" and not isinstance(layer, keras.Layer) else name
        if "call" in vars(parent):
            return ""
    return ""


def is_leaf(layer):
    """Whether a layer that holds others, as attention its projections and a recurrent layer its cell, has a rule."""
    return kind(layer) in (EVERYTHING | EACH_VALUE) - {"Bidirectional"}


def names(text, dims=""):
    """The words of a text, each with each of the endings."""
    return frozenset(name + dim for name in text.split() for dim in (dims.split() or [""]))


# Layers by the name of their class and operations of keras.ops by theirs; some names serve both.
CONVOLUTIONS = names("Conv DepthwiseConv SeparableConv", "1D 2D 3D") | names("Conv DepthwiseConv SeparableConv")
TRANSPOSED = names("Conv1DTranspose Conv2DTranspose Conv3DTranspose ConvTranspose")
POOLS = names("MaxPooling AveragePooling", "1D 2D 3D") | names("MaxPool AveragePool MaxPoolingWithIndices")
RECURRENT = names("RNN SimpleRNN LSTM GRU")
NORMALISATIONS = names("LayerNormalization GroupNormalization RMSNormalization")
FLAT_WEIGHTS = NORMALISATIONS | {"PReLU"}  # weights of several axes, yet no matrix product
EVERYTHING = (
    names("GlobalMaxPooling GlobalAveragePooling", "1D 2D 3D")
    | names("Attention AdditiveAttention MultiHeadAttention GroupQueryAttention GroupNormalization")
    | RECURRENT
    | names("ConvLSTM", "1D 2D 3D")
    | {"Bidirectional"}
)
EACH_VALUE = (
    names("Activation ReLU LeakyReLU ELU Softmax Identity ActivityRegularization Masking Rescaling Normalization")
    | names("BatchNormalization UnitNormalization LayerScale StochasticDepth")
    | names("Dropout AlphaDropout GaussianDropout GaussianNoise")
    | names("SpatialDropout", "1D 2D 3D")
    | frozenset(name for name in dir(keras.layers) if name.startswith("Random") and name != "RandomCrop")
    | names("Relu Relu6 Sigmoid Silu Softplus Softsign LogSigmoid LeakyRelu HardSigmoid HardSilu HardTanh HardShrink")
    | names(
        "SoftShrink TanhShrink Threshold Squareplus SparsePlus SparseSigmoid Elu Selu Celu Gelu LogSoftmax Sparsemax"
    )
    | names("Abs Absolute Negative Square Sqrt Rsqrt Exp Expm1 Log Log1p Log2 Log10 Sin Cos Tan Tanh Erf Clip Sign")
    | names("Round Floor Ceil Reciprocal Cast SaturateCast StopGradient NanToNum ZerosLike OnesLike Copy")
)
COPYING_RESHAPES = names("Permute Transpose RepeatVector")
RESHAPES = names("Reshape Flatten Squeeze ExpandDims Ravel") | COPYING_RESHAPES
MERGES = names("Add Subtract Multiply Average Maximum Minimum Concatenate CustomScaleLayer") | names(
    "Divide TrueDivide FloorDivide Power Mod Where Greater GreaterEqual Less LessEqual Equal NotEqual"
)
REDUCTIONS = names("Mean Sum Max Min Amax Amin Prod Std Var Median Logsumexp Any All Argmax Argmin")
PRODUCTS = names("Tensordot Inner Outer Vdot Kron DotProductAttention Correlate")
