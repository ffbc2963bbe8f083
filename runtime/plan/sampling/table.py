"""The step table: all that the step graph and the denoising loop need to know of a sampler.

One row is one call of the denoiser for one sample. With x the latents, t the row's timestep and o
the (guided) output of the denoiser, a row means

    o   = denoiser(c_in * x, t)
    x0  = px * x + po * o                 the predicted picture
    d   = qx * x + qo * o                 what the sampler remembers
    x'  = a * x + b * d + c1 * h1 + c2 * h2 + c3 * h3 + n * noise
    h1, h2, h3 <- d, h1, h2

Code that runs a table needs no knowledge of the sampler that made it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from runtime.package.step_graph import COLUMNS, Coefficients

NO_NOISE: Mapping[int, float] = MappingProxyType({})


class TableRow(NamedTuple):
    """One call of the denoiser in float64, before a table rounds it.

    `weights` maps the index of a draw (0 is the first one after the initial latents) to its share
    in the row's noise. Their squares add up to 1, so that `coefficients.n` is the standard
    deviation of what is added; a row that adds nothing has none.
    """

    step: int
    timestep: float
    coefficients: Coefficients
    weights: Mapping[int, float] = NO_NOISE


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """A sampler's rows as read-only arrays: N rows, D draws of noise after the initial latents."""

    timesteps: NDArray[np.float32]
    """`[N]`: the timestep of each row, as the denoiser takes it."""
    coefficients: NDArray[np.float32]
    """`[N, 11]`, in the order of `COLUMNS`."""
    draws: NDArray[np.float32]
    """`[N, D]`: a row's noise is the sum over j of `draws[row, j]` times draw j, of unit variance;
    a row of zeros needs none. D may be 0."""
    initial_scale: float
    """The initial latents are this times the first draw."""
    step: NDArray[np.int64]
    """`[N]`: the scheduler step, counted from 0, that each row belongs to."""

    def __post_init__(self) -> None:
        """Copy the arrays, read-only. Raises ValueError for arrays that cannot be a table."""
        dtypes = {
            "timesteps": np.float32,
            "coefficients": np.float32,
            "draws": np.float32,
            "step": np.int64,
        }
        for name, dtype in dtypes.items():
            array = np.array(getattr(self, name), dtype=dtype)
            if not np.isfinite(array).all():
                raise ValueError(f"step table: {name} is not finite: {array.tolist()}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        self._check_shapes()
        if not (np.isfinite(self.initial_scale) and self.initial_scale > 0):
            raise ValueError(f"step table: initial_scale is {self.initial_scale}, expected > 0")
        if self.step[0] != 0 or not np.isin(np.diff(self.step), (0, 1)).all():
            raise ValueError(f"step table: step must rise from 0 by ones: {self.step.tolist()}")

    def _check_shapes(self) -> None:
        rows = self.timesteps.size
        if rows == 0:
            raise ValueError("step table: it has no rows, expected at least one")
        draws = self.draws.shape[-1] if self.draws.ndim else 0
        expected = {
            "timesteps": (rows,),
            "coefficients": (rows, len(COLUMNS)),
            "draws": (rows, draws),
            "step": (rows,),
        }
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"step table: {name} has shape {found}, expected {shape}")

    @property
    def rows(self) -> int:
        """Number of denoiser calls of a sample."""
        return len(self.timesteps)

    @property
    def steps(self) -> int:
        """Number of scheduler steps."""
        return int(self.step[-1]) + 1

    @classmethod
    def of(cls, rows: Sequence[TableRow], *, initial_scale: float, draws: int = 0) -> Self:
        """Round rows to float32, once; `draws` is D."""
        weights = np.zeros((len(rows), draws))
        for index, row in enumerate(rows):
            for draw, weight in row.weights.items():
                weights[index, draw] = weight
        return cls(
            timesteps=np.array([row.timestep for row in rows], dtype=np.float32),
            coefficients=np.array([row.coefficients for row in rows], dtype=np.float32),
            draws=weights.astype(np.float32),
            initial_scale=float(np.float32(initial_scale)),
            step=np.array([row.step for row in rows], dtype=np.int64),
        )
