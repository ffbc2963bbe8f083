"""The names of backends in a package's files, in a module that imports nothing of ours."""

from typing import Literal

BackendName = Literal[
    "tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "openvino-cpu", "onnxruntime-cpu"
]
"""Of a compiled target or of a package's own graphs; `runtime.backends.rows` has a row for each."""
