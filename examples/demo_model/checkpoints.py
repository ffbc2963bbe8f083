"""Checkpoints of a training that can be stopped at any time, and its learning-rate schedule."""

import math
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes beside the target and renames, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.rename(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The saved state, or None when the training has not begun."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def learning_rate(step: int, steps: int, peak: float, warmup: int, flat: float) -> float:
    """Linear warm-up, then constant until the share `flat` of all steps, then a cosine to 2 %."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = max(0.0, (step / steps - flat) / (1 - flat))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Gives every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value


def step_generator(seed: int, step: int) -> torch.Generator:
    """Randomness that depends on the step alone: a resumed training sees the same batches."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
