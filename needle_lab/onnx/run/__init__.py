"""What runs ONNX files as other tools do: ONNX's own test suite (`backend`), training that stands in a file (`trainer`)."""
