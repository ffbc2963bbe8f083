"""How far what we make may be off, wherever that is one question of several checks."""

from collections.abc import Mapping

from runtime.manifest import Precision

PICTURE_SHARE = 0.999
"""Of a picture's 8-bit values: the share whose difference counts; the rest may be anything."""

GRAPH_PICTURE = 1 / 255
"""A graph against PyTorch: one of 255 levels."""

ENGINE_PICTURE = 3 / 255
"""An engine against its graph, on a device that rounds otherwise: three levels."""

ENGINES: Mapping[Precision, float] = {"fp32": 5e-3, "fp16": 2e-2, "bf16": 5e-2}
"""An engine against its graph, relative to an output's largest magnitude. bf16 has three digits,
and TF32 is what a GPU calls fp32 in the networks that are in fp32 for its range."""
