"""CUDA's libraries, before ONNX Runtime looks for them.

Its provider asks the system's loader alone, which does not know where pip puts NVIDIA's packages:
without them it takes the CPU, and the reason is in its log only. cuDNN it does without until the
first convolution.
"""

import ctypes
import io
from contextlib import redirect_stdout

from runtime.errors import BackendError

_CUDNN = "libcudnn.so.9"
_REMEDY = "install them with: pip install 'onnxruntime-gpu[cuda,cudnn]'"


def load_cuda_libraries() -> None:
    """Load them, from pip's packages or the system. Raises BackendError that names a missing one.

    Does nothing for an ONNX Runtime that was built without CUDA.
    """
    import onnxruntime

    if not onnxruntime.cuda_version:
        return
    said = io.StringIO()
    with redirect_stdout(said):  # Its only way to tell.
        onnxruntime.preload_dlls()
    lines = said.getvalue().splitlines()
    missing = [line for line in lines if line.startswith("Failed to load lib")]
    try:
        ctypes.CDLL(_CUDNN)
    except OSError as error:
        missing.append(f"Failed to load {error}")
    if missing:
        raise BackendError(f"onnxruntime-cuda: {'; '.join(missing)}; {_REMEDY}")
