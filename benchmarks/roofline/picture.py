"""A whole picture's predicted time, from the predictions for its graphs."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.roofline.prediction import Prediction

STEP, _DECODER, _PREVIEW = "denoiser", "vae_decoder", "preview_decoder"

ASSUMED = (
    "steps one after another; all prompts in one call of each text encoder, and the step's "
    "preludes beside them; the VAE once; previews, if any, at every step, on the same GPU at "
    "the size that they are shown, their kernels added to those of the steps; gaps between kernels "
    "as of CUDA graphs, and the share that products take longer at full power (both fitted to "
    "measured steps), or gaps as of a session (measured); no tokenizing, no copies to the host, no "
    "sampling or encoding there."
)


@dataclass(frozen=True, slots=True)
class Picture:
    """Milliseconds of a picture by part."""

    text_ms: float
    steps_ms: float
    decoding_ms: float
    previews_ms: float

    @property
    def ms(self) -> float:
        """All but previews."""
        return self.text_ms + self.steps_ms + self.decoding_ms


def picture(
    roles: Mapping[str, Prediction], steps: int, *, graphs: bool, worst: bool = False
) -> Picture:
    """Sum of the calls of a picture of so many steps. `graphs`: as CUDA graphs; `worst`: the
    pessimistic times."""

    def ms(role: str) -> float:
        found = roles[role]
        gap = found.gap_in_graph_ms if graphs else found.gap_ms
        slower = found.sustained * found.bound_ms
        return gap + slower + (found.worst_ms if worst else found.ms)

    texts = [role for role in roles if role not in {STEP, _DECODER, _PREVIEW}]
    return Picture(
        text_ms=sum(map(ms, texts)),
        steps_ms=steps * ms(STEP),
        decoding_ms=ms(_DECODER),
        previews_ms=steps * ms(_PREVIEW) if _PREVIEW in roles else 0.0,
    )
