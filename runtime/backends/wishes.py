"""The words by which a user says what is to draw.

They are apart from the backends, so that settings are read, and a worker's process is started,
before the packages, NumPy and the rest that backends import.
"""

from typing import Literal, get_args

from runtime.package.backend_name import BackendName

BackendWish = Literal["auto", BackendName]
"""A backend as a user asks for it; a literal type, which pydantic and mypy check."""
WISHES: tuple[BackendWish, ...] = get_args(BackendWish)

CpuPrecision = Literal["fp32", "bf16"]
"""The precision of the denoiser's matrix products on the CPU."""
