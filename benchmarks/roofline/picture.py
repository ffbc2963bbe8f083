"""A whole picture's predicted time, from the predictions for its graphs."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.roofline.prediction import Prediction

STEPS = 30
"""Steps of the picture that the measured figures are about."""

STEP, _DECODER, _PREVIEW = "denoiser", "vae_decoder", "preview_decoder"

ASSUMED = (
    f"{STEPS} steps one after another; both prompts in one call of each text encoder, and the "
    "step's prelude beside them; the VAE once; previews, if any, at every step, on the same GPU at "
    "the size that they are shown, their kernels added to those of the steps; gaps between kernels "
    "as of CUDA graphs (assumed) or of a session (measured); no copies to the host, no sampling or "
    "encoding there."
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


def picture(roles: Mapping[str, Prediction], *, graphs: bool, worst: bool = False) -> Picture:
    """Sum of a picture's calls. `graphs`: as CUDA graphs; `worst`: the pessimistic times."""

    def ms(role: str) -> float:
        found = roles[role]
        gap = found.gap_in_graph_ms if graphs else found.gap_ms
        return gap + (found.worst_ms if worst else found.ms)

    texts = [role for role in roles if role not in {STEP, _DECODER, _PREVIEW}]
    return Picture(
        text_ms=sum(map(ms, texts)),
        steps_ms=STEPS * ms(STEP),
        decoding_ms=ms(_DECODER),
        previews_ms=STEPS * ms(_PREVIEW) if _PREVIEW in roles else 0.0,
    )
