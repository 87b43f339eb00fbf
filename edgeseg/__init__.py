"""edgeseg: PyTorch segmentation and detection networks to engines on edge devices, with proof."""

__version__ = "0.1.0"
