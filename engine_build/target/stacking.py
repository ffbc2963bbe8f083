"""One sample's call of the step graph as a call of several: to time batches with."""

from collections.abc import Mapping

import numpy as np

from runtime.backends.protocol import Array
from runtime.package.manifest import BATCH, EVALUATIONS, RoleRecord
from runtime.package.step_graph import EVALUATION_SAMPLE, MIX, POSITIVE_EVALUATION


def stacked(role: RoleRecord, inputs: Mapping[str, Array], samples: int) -> dict[str, Array]:
    """The step graph's inputs for so many copies of the one sample in `inputs`."""
    evaluations = len(inputs[EVALUATION_SAMPLE])
    made = {
        name: np.concatenate([array] * samples)
        if role.inputs[name].shape[0] in (BATCH, EVALUATIONS)
        else array
        for name, array in inputs.items()
    }
    copies = np.arange(samples)
    return made | {
        EVALUATION_SAMPLE: np.repeat(copies, evaluations),
        MIX: np.kron(np.eye(samples), inputs[MIX]).astype(np.float32),
        POSITIVE_EVALUATION: copies * evaluations + inputs[POSITIVE_EVALUATION],
    }
