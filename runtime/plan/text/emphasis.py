"""Token weights applied to hidden states: the default emphasis of AUTOMATIC1111's web UI.

Multiply each token's hidden state by its weight, then scale the chunk so that its mean is what it
was (`EmphasisOriginal` there).
"""

import numpy as np
import numpy.typing as npt


def emphasise(
    hidden_states: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Apply the weights `[n, L]` to the hidden states `[n, L, C]` of n chunks, in float32.

    Each chunk is on its own, so a chunk gives the same bits in any company. A chunk whose
    weights are all 1.0 is untouched, bit for bit. Where the chunk's mean is zero before or after
    weighting, no factor could restore it or the factor would erase the chunk: then the weighted
    hidden states stand as they are. The input is not changed, and may be what is returned.

    Raises ValueError for shapes that do not belong together.
    """
    if hidden_states.ndim != 3 or weights.shape != hidden_states.shape[:2]:
        raise ValueError(
            f"weights {weights.shape} do not fit hidden states {hidden_states.shape}: "
            "expected [n, L] and [n, L, C]"
        )
    states = hidden_states.astype(np.float32, copy=False)
    emphasised = np.flatnonzero((weights != 1.0).any(axis=1))
    if emphasised.size == 0:
        return states
    result = states.copy()
    for index in emphasised:
        factors = _factors(states[index], weights[index].astype(np.float64))
        result[index] *= factors.astype(np.float32)[:, np.newaxis]
    return result


def _factors(
    states: npt.NDArray[np.float32], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Factor of each token: its weight times the scale that restores the chunk's mean."""
    token_means: npt.NDArray[np.float64] = states.mean(axis=1, dtype=np.float64)
    token_sizes: npt.NDArray[np.float64] = np.abs(states).mean(axis=1, dtype=np.float64)
    before = float(token_means.mean())
    after = float((token_means * weights).mean())
    # A mean that is only float32's rounding of what cancelled out is a mean of zero.
    rounding = np.finfo(np.float32).eps
    if (
        abs(before) <= rounding * token_sizes.mean()
        or abs(after) <= rounding * (token_sizes * np.abs(weights)).mean()
    ):
        return weights
    return weights * (before / after)
