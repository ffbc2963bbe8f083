"""An order: one body that asks for several pictures, which differ in their seeds alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime.plan.plan import Plan
from runtime.plan.request import MAX_SEED, GenerateRequest

MAX_PICTURES = 10


@dataclass(frozen=True, slots=True)
class Order:
    """The plan of an order's first picture, and the complete request of each of its pictures."""

    plan: Plan
    requests: Sequence[GenerateRequest]

    @property
    def model(self) -> str:
        """The name of the model that draws it."""
        return self.plan.request.model

    @classmethod
    def of(cls, plan: Plan, count: int) -> "Order":
        """`count` pictures, the first of which has this plan; the seeds of the others count up."""
        first = plan.request
        seeds = ((first.seed + number) % (MAX_SEED + 1) for number in range(count))
        return cls(plan, [replace(first, seed=seed) for seed in seeds])


def for_several(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an order, from that of a request for one picture.

    The number is no property of a picture: no recipe and no job's request has it.
    """
    count = {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_PICTURES,
        "default": 1,
        "description": "Number of pictures; their seeds count up from the first one's.",
    }
    return {**parameters, "properties": {**parameters["properties"], "n": count}}
