"""The parts of the TensorRT runtime. None of them imports a vendor's package: they are given it."""
