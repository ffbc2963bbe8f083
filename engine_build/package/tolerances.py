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
"""An engine against its graph: the root mean square of the differences, relative to that of the
output. bf16 has three digits; a network that is in fp32 for its range alone computes in TF32."""

ENGINE_VALUES: Mapping[Precision, float] = {"fp32": 1, "fp16": 1, "bf16": 2}
"""The error of a single value, relative to the output's largest magnitude, may be so many times
ENGINES. A small random T5 in bf16 is off from itself in fp32 by 2 to 3 %; in a single value by 5 %
in PyTorch, and by 9 % where each value is rounded as our graphs have it."""
