"""In which precision a device trains fastest."""

from contextlib import AbstractContextManager

import torch


def fast_dtype(device: str) -> torch.dtype:
    """bfloat16 on GPUs and on CPUs with instructions for it; else float32.

    A CPU without them works bfloat16 out in software: ten times as slow as float32 (measured on a
    CPU with AVX2 alone).
    """
    capability = torch.backends.cpu.get_cpu_capability()
    native = device != "cpu" or (
        capability.startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()
    )
    return torch.bfloat16 if native else torch.float32


def autocast(device: str) -> AbstractContextManager[object]:
    """Computes in `fast_dtype`."""
    dtype = fast_dtype(device)
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)
