"""Models to and from other programs: ONNX, bioimage.io packages."""
