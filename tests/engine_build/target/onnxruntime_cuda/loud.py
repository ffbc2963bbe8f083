"""A package whose VAE's stream is many times as large as it was, as that of SDXL's VAE is large."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from runtime.package.manifest import ModelPackage
from runtime.package.tensors import map_tensors, stored

VAE = "vae_decoder"

FEEDS = re.compile(
    r"(decoder\.conv_in|\.conv2|\.to_out\.0)\.(weight|bias)|(shortcut|rs\.0\.conv)\.bias"
)
"""Weights that bring something into the stream, and biases of products on the stream itself."""


def loud(package: ModelPackage, times: float, folder: Path) -> ModelPackage:
    """The package, its VAE's files changed and in `folder`; the manifest has the old hashes."""
    record = package.manifest.roles[VAE]
    assert record.weights is not None
    for name in (record.graph, record.weights):
        shutil.copyfile(package.file(name), folder / name)
    content = (folder / record.weights).read_bytes()
    changed = bytearray(content)
    before = memoryview(content)
    for name, tensor in map_tensors(folder / record.weights).items():
        if FEEDS.search(name):
            louder = stored((tensor.fp32() * times).astype(np.float32), tensor.dtype)
            at = content.index(tensor.values.tobytes())
            assert content.count(before[at : at + tensor.values.nbytes]) == 1, name
            changed[at : at + louder.nbytes] = louder.tobytes()
    (folder / record.weights).write_bytes(changed)
    return replace(package, path=folder)
