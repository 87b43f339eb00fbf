"""Weights tuned to what int8 makes of a network: the quantized graph in PyTorch, differentiable, brought nearer to the
float graph on the calibration frames. No labels are needed."""
