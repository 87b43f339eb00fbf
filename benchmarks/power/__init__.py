"""Energy over exactly the measured window, from the board's, the GPU's, the CPU's or an external meter."""

from edgeseg.benchmarks.power.choose import look, open_meter
from edgeseg.benchmarks.power.energy import Energy
from edgeseg.benchmarks.power.meter import Meter

__all__ = ["Energy", "Meter", "look", "open_meter"]
