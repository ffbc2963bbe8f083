"""From a package's graph to a TensorRT engine, by TensorRT or TensorRT for RTX."""
