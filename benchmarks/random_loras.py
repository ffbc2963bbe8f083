"""Random LoRAs for a package, which is not changed by them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from engine_build.lora.packs import LoraRequest, add_pack
from runtime.package.manifest import ModelPackage, Parameter
from runtime.package.pack import LoraPack

ROLE = "denoiser"


def matrices(package: ModelPackage) -> Mapping[str, Parameter]:
    """Matrices and kernels of the denoiser that a LoRA may lie on, by the parameter's name."""
    parameters = package.manifest.roles[ROLE].parameters
    return {name: each for name, each in parameters.items() if each.replaceable}


def random_pack(
    package: ModelPackage, folder: Path, rank: int, seed: int, *, kernels: bool = True
) -> LoraPack:
    """Random LoRA in diffusers' naming, in fp16 as most LoRAs are published.

    The LoRA lies on every matrix of the denoiser, with `kernels` on those of convolutions too.
    """
    chance = np.random.default_rng(seed)
    tensors = {}
    for name, parameter in matrices(package).items():
        module = f"unet.{name.removesuffix('.weight')}"
        out, *inputs = parameter.shape
        if len(inputs) > 1 and not kernels:
            continue
        up = (out, rank, *[1] * (len(inputs) - 1))
        for factor, shape in (("A", (rank, *inputs)), ("B", up)):
            values = 0.01 * chance.standard_normal(shape, np.float32)
            tensors[f"{module}.lora_{factor}.weight"] = values.astype(np.float16)
    path = folder / f"random{seed}.safetensors"
    save_file(tensors, path)
    link_graphs(package, folder)
    apart = ModelPackage(folder, package.manifest, package.digest)
    return add_pack(apart, LoraRequest(path, path.name))


def link_graphs(package: ModelPackage, folder: Path) -> None:
    """Give `folder` the package's graphs: with a pack come graphs that are made of them."""
    for record in package.manifest.roles.values():
        link = folder / record.graph
        if not link.exists():
            link.symlink_to(package.file(record.graph).resolve())
