"""ONNX Runtime, on the CPU and by its CUDA provider."""
