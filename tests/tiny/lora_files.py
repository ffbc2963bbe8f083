"""LoRA files as trainers write them, small and random, with what each layer's change must be."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file


@dataclass
class Spelling:
    """How a kind of file names a layer and its two factors."""

    prefix: str = "lora_unet_"
    flat: bool = True
    down: str = ".lora_down.weight"
    up: str = ".lora_up.weight"

    def module(self, path: str) -> str:
        return self.prefix + (path.replace(".", "_") if self.flat else path)


KOHYA = Spelling()
DIFFUSERS = Spelling("unet.", flat=False, down=".lora_A.weight", up=".lora_B.weight")
PEFT = Spelling("base_model.model.", flat=False, down=".lora_A.weight", up=".lora_B.weight")


@dataclass
class LoraWriter:
    """Collects a file's tensors, and the change of each layer as its formula gives it in fp64."""

    spelling: Spelling = field(default_factory=Spelling)
    dtype: torch.dtype = torch.float32
    seed: int = 0
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    changes: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def random(self, *shape: int) -> torch.Tensor:
        """Of a size at which a change of a few layers is seen in the picture."""
        values = torch.randn(shape, generator=self._generator) * 0.3
        return values.to(self.dtype)

    def lora(
        self, path: str, shape: tuple[int, ...], rank: int, alpha: float | None, name: str = ""
    ) -> None:
        """`name` is the layer's path where the file spells it otherwise than the package."""
        module = self.spelling.module(name or path)
        down, up = self.random(rank, *shape[1:]), self.random(shape[0], rank)
        if len(shape) == 4:
            up = up.reshape(shape[0], rank, 1, 1)
        self.tensors[module + self.spelling.down] = down
        self.tensors[module + self.spelling.up] = up
        scale = 1.0 if alpha is None else alpha / rank
        if alpha is not None:
            self.tensors[module + ".alpha"] = torch.tensor(alpha, dtype=self.dtype)
        product = up.double().reshape(shape[0], rank) @ down.double().reshape(rank, -1)
        self.changes[path] = scale * product.reshape(shape)

    def add(self, path: str, suffix: str, *shape: int) -> torch.Tensor:
        """One factor; returns it in fp64."""
        tensor = self.random(*shape)
        self.tensors[self.spelling.module(path) + suffix] = tensor
        return tensor.double()

    def save(self, path: Path, metadata: dict[str, str] | None = None) -> Path:
        save_file(self.tensors, path, metadata)
        return path


def plain_layers(modules: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Every layer with a rank; ranks differ from layer to layer."""
    for index, (path, shape) in enumerate(modules.items()):
        yield path, shape, 1 + index % 3
