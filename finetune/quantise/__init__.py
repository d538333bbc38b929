"""INT8 models for ONNX Runtime."""
