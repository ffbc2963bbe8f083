"""Loads CUDA's libraries before ONNX Runtime looks for them.

The CUDA provider asks the system's loader alone, which does not know where pip puts NVIDIA's
packages. Without its libraries ONNX Runtime takes the CPU, and only its log has the reason; without
cuDNN it fails at the first convolution.
"""

import ctypes
import io
from contextlib import redirect_stdout

from runtime.errors import BackendError

_CUDNN = "libcudnn.so.9"
_REMEDY = "install them with: pip install 'onnxruntime-gpu[cuda,cudnn]'"


def load_cuda_libraries() -> None:
    """Load CUDA's libraries from pip's packages or the system.

    Does nothing for an ONNX Runtime that was built without CUDA. Raises BackendError that names
    each missing library.
    """
    import onnxruntime

    if not onnxruntime.cuda_version:
        return
    said = io.StringIO()
    with redirect_stdout(said):  # `preload_dlls` prints its failures, and raises none.
        onnxruntime.preload_dlls()
    lines = said.getvalue().splitlines()
    missing = [line for line in lines if line.startswith("Failed to load lib")]
    try:
        ctypes.CDLL(_CUDNN)
    except OSError as error:
        missing.append(f"Failed to load {error}")
    if missing:
        raise BackendError(f"onnxruntime-cuda: {'; '.join(missing)}; {_REMEDY}")
