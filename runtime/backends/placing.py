"""The place of a model's text encoders: kept on the device, put aside between prompts, or on the
CPU beside a device that has no room for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

TextPlace = Literal["keep", "aside", "cpu"]
TextWish = Literal["auto", TextPlace]
"""The place of the text encoders as a user asks for it."""
TEXT_WISHES: tuple[str, ...] = ("auto", *get_args(TextPlace))

COSTS: Mapping[TextPlace, str] = {
    "keep": "text encoders stay open",
    "aside": "text encoders are put aside, and each new prompt waits until they are opened again",
    "cpu": "text encoders run on the CPU in fp32, and each new prompt waits for them",
}
"""A sentence for each place, with its cost."""
TO_CPU = "have the text encoders on the CPU with --text-encoders cpu, "
"""The remedy where the GPU has no room for them."""


@dataclass(frozen=True, slots=True)
class Placing:
    """The place of the text encoders, and why."""

    place: TextPlace = "keep"
    note: str = ""
    """The reason with what was found, for people; empty where nothing had to be decided."""


def placed_on_cpu(wish: TextWish) -> Placing:
    """The place of the text encoders where all engines are on the CPU, which keeps them open by
    default: weights are mapped files and memory that the system can swap.
    """
    return Placing("aside", f"{COSTS['aside']} (as asked for)") if wish == "aside" else Placing()


def is_text(role: str) -> bool:
    """True for the role of a text encoder."""
    return role.startswith("text_encoder")
