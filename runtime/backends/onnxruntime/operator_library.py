"""The library of our own operators for ONNX Runtime's CUDA provider, which has none for gated sums,
modulations, and norms of heads with rotations.

`operators/` has its source: `library.c` is what ONNX Runtime sees, `operators.cu` the kernels.
`python -m scripts.compile_operators` makes it.
"""

import sys
from pathlib import Path
from platform import machine
from typing import TYPE_CHECKING

from runtime.errors import BackendError

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

LIBRARY = Path(__file__).parent / "operators" / f"operators-{sys.platform}-{machine()}.so"
"""The library for this machine; its source lies beside it."""

_IMPORT = b"\x0a\x08calotype\x10"
"""The serialized import of the operators' domain in a model: fields 1, the domain, and 2, its
version."""


def register_operators(options: "SessionOptions", model: bytes) -> None:
    """Register our operators for a session of a serialized graph, if that has any of them.

    Raises BackendError where there is no library for this machine.
    """
    if _IMPORT not in model:
        return
    if not LIBRARY.exists():
        raise BackendError(
            f"{LIBRARY}: not found; the graph has operators of ours, and their library is not "
            f"compiled for {sys.platform} on {machine()}: compile it with "
            "`python -m scripts.compile_operators`, which needs gcc"
        )
    options.register_custom_ops_library(str(LIBRARY))
