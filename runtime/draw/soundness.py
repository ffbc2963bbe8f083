"""Pictures that came out as none: latents that are not finite, and pixels that are all black."""

import numpy as np
from numpy.typing import NDArray

from runtime.draw.decode import Pixels
from runtime.errors import PictureError

_CAUSES = "often from a LoRA's weight or a cfg_scale that is too high, or an engine's fp16"


def check_finite(latents: NDArray[np.float32]) -> None:
    """Raises PictureError for latents of which a number is NaN or infinite."""
    wrong = latents.size - int(np.isfinite(latents).sum())
    if wrong:
        raise PictureError(
            f"the latents are not finite after the last step: {wrong} of {latents.size} numbers "
            f"are NaN or infinite, {_CAUSES}; lower these, or try another sampler or backend"
        )


def blackness(pixels: Pixels) -> str:
    """A sentence on a picture that is black all over; empty for any other."""
    if pixels.any():
        return ""
    return (
        f"The picture is black all over: its decoder may have overflown, {_CAUSES}; another seed "
        "or backend tells whether the request or the engine is the cause."
    )
