"""INT8, decided once: calibrate the float graph, then write its scales into it as Q/DQ."""
