"""The GPUs that a setting names. Read before anything else: this imports nothing."""

from typing import Literal

GpuWish = Literal["all"] | tuple[int, ...]
"""Numbers of GPUs, in CUDA's order."""


def read_gpus(text: str) -> GpuWish:
    """The GPUs of a setting: `all`, or numbers separated by commas. Raises ValueError."""
    if text == "all":
        return "all"
    numbers = [int(part) if part.strip().isdecimal() else -1 for part in text.split(",")]
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ValueError("expected all, or different numbers such as 0,2")
    return tuple(numbers)
