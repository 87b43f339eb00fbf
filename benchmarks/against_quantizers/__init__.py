"""Our int8 beside the vendors' own default post-training quantization.

The same float engine, the same calibration frames, the same runtime, the same labels; only who quantizes differs.
"""
