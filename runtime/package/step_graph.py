"""The inputs and outputs of the step graph, which the build writes as the role `denoiser` and the
denoising loop calls.

One call advances B samples by one row each of their step tables. The network in the graph is
evaluated R times; each evaluation belongs to one sample, and guidance is the weighted sum of a
sample's evaluations. The conditioning of a family follows these inputs, `[R, ...]` each. Indices
are int64, everything else is fp32.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from runtime.package.manifest import BATCH, EVALUATIONS, HEIGHT, WIDTH

LATENTS = "latents"
"""`[B, C, h, w]`: the samples."""
TIMESTEP = "timestep"
"""`[B]`: the time of each sample's row, as the network was trained to read it."""
COEFFICIENTS = "coefficients"
"""`[B, 11]`: each sample's row, in the order of `Coefficients`."""
HISTORY = "history"
"""`[B, 3, C, h, w]`: what the sampler remembers of the rows before, the newest first."""
NOISE = "noise"
"""`[B, C, h, w]`: the noise that the row adds; zeros where it adds none."""
EVALUATION_SAMPLE = "evaluation_sample"
"""`[R]`: the index of the sample that each evaluation belongs to."""
MIX = "mix"
"""`[B, R]`: the weight of each evaluation in each sample."""
GUIDANCE_RESCALE = "guidance_rescale"
"""`[B]`: the strength of the guidance's rescaling, 0 to 1; 0 is off."""
POSITIVE_EVALUATION = "positive_evaluation"
"""`[B]`: the index of the evaluation of each sample's positive prompt."""

NEXT_LATENTS = "next_latents"
"""`[B, C, h, w]`: the samples one row further."""
NEXT_HISTORY = "next_history"
"""`[B, 3, C, h, w]`: their history."""
PREDICTED = "predicted"
"""`[B, C, h, w]`: the final latents, as this row predicts them."""

OUTPUTS = (NEXT_LATENTS, NEXT_HISTORY, PREDICTED)
"""In the order of the graph."""

REMEMBERED = 3
"""The number of rows that the history goes back."""


class Coefficients(NamedTuple):
    """The numbers of one row (`runtime.plan.sampling.table` has the formulas); the coefficients of
    the history (`c1`, `c2`, `c3`) and of the noise (`n`) are 0 by default."""

    c_in: float
    px: float
    po: float
    qx: float
    qo: float
    a: float
    b: float
    c1: float = 0.0
    c2: float = 0.0
    c3: float = 0.0
    n: float = 0.0


COLUMNS: tuple[str, ...] = Coefficients._fields

Shape = tuple[int | str, ...]
"""Extents, and the names of dynamic axes."""


def input_shapes(channels: int) -> dict[str, Shape]:
    """The shape of every input but the conditioning, in the order of the graph; `channels` is the
    number of channels of the model's latents."""
    latents = (channels, HEIGHT, WIDTH)
    return {
        LATENTS: (BATCH, *latents),
        TIMESTEP: (BATCH,),
        COEFFICIENTS: (BATCH, len(COLUMNS)),
        HISTORY: (BATCH, REMEMBERED, *latents),
        NOISE: (BATCH, *latents),
        EVALUATION_SAMPLE: (EVALUATIONS,),
        MIX: (BATCH, EVALUATIONS),
        GUIDANCE_RESCALE: (BATCH,),
        POSITIVE_EVALUATION: (BATCH,),
    }


def conditioning_of(names: Iterable[str]) -> frozenset[str]:
    """The inputs that are conditioning, of all the inputs of a step graph."""
    return frozenset(names) - input_shapes(channels=0).keys()


def sized(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A shape with the extents of its dynamic axes filled in from `sizes`, by the axis's name."""
    return tuple(sizes[extent] if isinstance(extent, str) else extent for extent in shape)
