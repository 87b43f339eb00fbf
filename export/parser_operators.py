"""The ONNX operators that each generation of TensorRT's parser knows.

"8.5", "8.6" and "rtx" were asked of the real libraries, operator by operator (``supports_operator`` of TensorRT 8.5.2,
8.6.0 and TensorRT for RTX 1.7.1; 203 operators of ONNX 1.23). "10" is read from the parser's source, its 10.1 release
(github.com/onnx/onnx-tensorrt, onnxOpImporters.cpp at 96e7811): later 10.x know as much or more. TensorRT 11 itself was
not asked: "11" is what "rtx" knows, the newest real library there was to ask, without what TensorRT 10 lacked, since no
source says that 11 has it.
"""

from __future__ import annotations

_WORDS_8_5 = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip
Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout
Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool
GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample HardSigmoid HardSwish Identity If
InstanceNormalization IsNaN LRN LSTM LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool
MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg Not OneHot Or PRelu Pad Pow QuantizeLinear RNN
RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
ReverseSequence Round Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice
Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose
Trilu Unsqueeze Upsample Where Xor
"""
_WORDS_10 = "CastLike DeformConv Gelu Hardmax Mish NonMaxSuppression NonZero RoiAlign"
_WORDS_RTX = """
Attention BlackmanWindow CausalConvWithState HammingWindow HannWindow LinearAttention RMSNormalization RotaryEmbedding
STFT Swish TensorScatter
"""

_8_5 = frozenset(_WORDS_8_5.split())
_8_6 = _8_5 | {"GroupNormalization", "IsInf", "LayerNormalization"}
_10 = _8_6 | frozenset(_WORDS_10.split())
_RTX = (_10 - {"DeformConv"}) | frozenset(_WORDS_RTX.split())

KNOWN: dict[str, frozenset[str]] = {"8.5": _8_5, "8.6": _8_6, "10": _10, "11": _10 & _RTX, "rtx": _RTX}
