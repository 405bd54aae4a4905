"""Which module defines which operators: a module is imported when a model first needs it."""

from __future__ import annotations

MODULES = {
    "attention": "Attention",
    "bits": "BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor",
    "control": "If Loop Scan",
    "conv": "Conv ConvTranspose",
    "creation": "ConstantOfShape EyeLike OneHot Range Shape Size Trilu",
    "crf": "ViterbiDecode",
    "einsum": "Einsum",
    "elementwise": "Abs Add Ceil Clip Cos Div Erf Exp Floor Log Max Mean Min Mod Mul Neg PRelu Pow"
    " Reciprocal Round Sign Sin Sqrt Sub Sum Tan",
    "indexing": "Gather GatherElements GatherND",
    "linear": "Det Gemm MatMul",
    "linear_attention": "CausalConvWithState LinearAttention",
    "logic": "And Cast CastLike Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or"
    " Where Xor",
    "movement": "Concat Expand Split Tile Transpose",
    "neural": "Celu Elu Gelu HardSigmoid HardSwish LeakyRelu Mish Relu Selu Sigmoid Softplus"
    " Softsign SwiGLU Swish Tanh ThresholdedRelu",
    "normalization": "BatchNormalization GroupNormalization InstanceNormalization"
    " LayerNormalization",
    "padding": "Pad",
    "pooling": "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool",
    "quantization": "DequantizeLinear DynamicQuantizeLinear QuantizeLinear",
    "quantized": "ConvInteger MatMulInteger QLinearConv QLinearMatMul",
    "recurrent": "GRU LSTM RNN",
    "reduction": "ArgMax ArgMin CumProd CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp"
    " ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare",
    "reshaping": "Dropout Flatten Identity Reshape Squeeze Unsqueeze",
    "rotary": "RotaryEmbedding",
    "scaling": "LRN LpNormalization RMSNormalization",
    "scatter": "ScatterElements ScatterND TensorScatter",
    "selection": "Compress NonZero ReverseSequence TopK Unique",
    "signal": "DFT MelWeightMatrix STFT",
    "slicing": "Slice",
    "softmax": "Hardmax LogSoftmax Softmax",
    "trigonometry": "Acos Acosh Asin Asinh Atan Atanh Cosh Sinh",
    "unpooling": "MaxUnpool",
}

MODULE_OF = {name: module for module, names in MODULES.items() for name in names.split()}
"""Operator name to the module of `lightrnn.ops` that defines it."""
