"""The errors that graphs and engines may have, where several checks share a tolerance."""

from collections.abc import Mapping

from runtime.package.manifest import Precision

PICTURE_SHARE = 0.999
"""Of a picture's 8-bit values: the share whose difference counts; the rest may be anything."""

GRAPH_PICTURE = 1 / 255
"""A graph against PyTorch: one of 255 levels."""

ENGINE_PICTURE = 3 / 255
"""An engine against its graph, on a device that rounds otherwise: three levels."""

ENGINES: Mapping[Precision, float] = {"fp32": 5e-3, "fp16": 2e-2, "bf16": 5e-2}
"""An engine against its graph: the root mean square of the differences, relative to an output's
own. bf16 has three digits, and TF32 is what a GPU calls fp32 in the networks that are in fp32 for
its range."""

ENGINE_VALUES: Mapping[Precision, float] = {"fp32": 1, "fp16": 1, "bf16": 2}
"""A single value of an engine may be off by so many times that, relative to the largest magnitude.
T5 in bf16, small and random, is 2 to 3 % from itself in fp32; in one value it is 5 % by PyTorch,
and 9 % where each value is rounded as our graphs say.
"""
