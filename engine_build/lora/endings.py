"""The endings of tensors' names in files of LoRAs: the form of a layer, and the factor that a
tensor is of that form.

The names are those that kohya-ss/sd-scripts, LyCORIS, PEFT, diffusers, OneTrainer and SimpleTuner
write, and that ComfyUI reads.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtime.package.pack import Kind

ALPHA = "alpha"
BIAS = "diff_b"
"""A difference of the layer's bias, beside or without a change of its weight."""
UP_BIAS = "up.bias"
"""PEFT's bias of `lora_B`: a difference of the layer's bias that has the layer's scale."""
DORA_SCALE = "dora_scale"
MAGNITUDE_VECTOR = "lora_magnitude_vector"
MAGNITUDES = (DORA_SCALE, MAGNITUDE_VECTOR)
"""The two spellings of DoRA's magnitudes: LyCORIS' and PEFT's."""

_ADAPTER = r"(?:\.\w+)?"  # PEFT's name of the adapter, where a trainer left it in.


@dataclass(frozen=True, slots=True)
class Ending:
    """A kind of ending."""

    spelled: str
    """The ending as documentation shows it."""
    pattern: str
    factor: str
    form: Kind | None = None
    """None: a tensor that goes with a change of any form."""

    @property
    def kohya(self) -> bool:
        """True of the factors of a LoRA as kohya's scripts and LyCORIS name them."""
        return self.spelled in {".lora_down.weight", ".lora_up.weight", ".lora_mid.weight"}


ENDINGS = (
    Ending(".lora_down.weight", r"\.lora_down\.weight", "down", "lora"),
    Ending(".lora_up.weight", r"\.lora_up\.weight", "up", "lora"),
    Ending(".lora_mid.weight", r"\.lora_mid\.weight", "mid", "lora"),
    Ending(".lora_A.weight", rf"\.lora_A(?:{_ADAPTER}\.weight)?", "down", "lora"),
    Ending(".lora_B.weight", rf"\.lora_B(?:{_ADAPTER}\.weight)?", "up", "lora"),
    Ending(".lora.down.weight", r"[._]lora\.down\.weight", "down", "lora"),
    Ending(".lora.up.weight", r"[._]lora\.up\.weight", "up", "lora"),
    Ending(".lora_linear_layer.down.weight", r"\.lora_linear_layer\.down\.weight", "down", "lora"),
    Ending(".lora_linear_layer.up.weight", r"\.lora_linear_layer\.up\.weight", "up", "lora"),
    *(
        Ending(f".hada_{factor}", rf"\.hada_{factor}(?:\.default)?", factor, "loha")
        for factor in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
    ),
    *(
        Ending(f".lokr_{factor}", rf"\.lokr_{factor}(?:\.default)?", factor, "lokr")
        for factor in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
    ),
    Ending(".diff", r"\.diff", "diff", "diff"),
    Ending(".w_norm", r"\.w_norm", "diff", "diff"),
    Ending(".diff_b", r"\.diff_b", BIAS),
    Ending(".b_norm", r"\.b_norm", BIAS),
    Ending(".lora_B.bias", rf"\.lora_B{_ADAPTER}\.bias", UP_BIAS),
    Ending(".dora_scale", r"\.dora_scale", DORA_SCALE),
    Ending(".lora_magnitude_vector", r"\.lora_magnitude_vector(?:\.\w+)*", MAGNITUDE_VECTOR),
    Ending(".alpha", r"(?:[._]lora)?\.(?:lora_)?alpha", ALPHA),
)

FORMS: Mapping[Kind, tuple[frozenset[str], ...]] = {
    "lora": (frozenset({"up", "down"}), frozenset({"up", "mid", "down"})),
    "loha": (
        frozenset({"w1_a", "w1_b", "w2_a", "w2_b"}),
        frozenset({"w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"}),
    ),
    "lokr": tuple(
        frozenset({*first, *second})
        for first in (("w1",), ("w1_a", "w1_b"))
        for second in (("w2",), ("w2_a", "w2_b"), ("w2_a", "w2_b", "t2"))
    ),
    "diff": (frozenset({"diff"}),),
}
"""For each form, the sets of factors that are one change of it."""

ALONE = frozenset({"alpha", "lora_alpha", "network_alpha"})
"""The whole names of tensors that would be an alpha of all layers."""

RANKED = ("down", "w2_b", "w1_b")
"""The factors whose first extent is the rank, in the order in which they are asked."""

_COMPILED = tuple((re.compile(rf"(?P<module>.+?){each.pattern}"), each) for each in ENDINGS)


def split(name: str) -> tuple[str, Ending] | None:
    """A tensor's layer and the kind of its ending; None where the ending is not known."""
    for pattern, ending in _COMPILED:
        match = pattern.fullmatch(name)
        if match:
            return match["module"], ending
    return None


def prefixes(name: str) -> Iterator[str]:
    """The paths that a name with an unknown ending may be of, the longest first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def form_fault(form: Kind, factors: frozenset[str]) -> str | None:
    """The reason why factors are no whole change of a form: missing, or not understood together."""
    if factors in FORMS[form]:
        return None
    whole = min(FORMS[form], key=lambda each: (len(each ^ factors), -len(each), sorted(each)))
    lacking, extra = sorted(whole - factors), sorted(factors - whole)
    reasons = [f"lacks {' and '.join(lacking)}"] if lacking else []
    reasons += [f"holds {' and '.join(extra)} beside a whole change"] if extra else []
    return ", and ".join(reasons)
