"""Parity, latency and their report: whether an engine still sees the same thing, and how fast."""

if __name__ != "edgeseg.benchmarks":
    raise ImportError("the import name is edgeseg.benchmarks")
