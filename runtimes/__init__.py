"""What goes on the robot: open an artifact and run it. Loads neither torch nor onnx."""

if __name__ != "edgeseg.runtimes":
    raise ImportError("the import name is edgeseg.runtimes")
