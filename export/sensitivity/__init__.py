"""What each layer costs in int8, by the derivatives of the quantized graph."""
