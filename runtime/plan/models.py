"""The models of a server: a request names one of them, or none for the first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import RequestError, quoted
from runtime.plan.model import Model
from runtime.plan.order import Order, for_several
from runtime.plan.parameters import LoraOffer


@dataclass(frozen=True, slots=True)
class Models:
    """Models by their names, the default first."""

    by_name: Mapping[str, Model]

    @classmethod
    def of(cls, *models: Model) -> "Models":
        """These models, of which the first is the default."""
        return cls({model.name: model for model in models})

    def __iter__(self) -> Iterator[Model]:
        return iter(self.by_name.values())

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the default first."""
        return tuple(self.by_name)

    @property
    def listed(self) -> str:
        """The names in a sentence: 'demo' is, or 'demo', 'mine' are."""
        return f"{', '.join(map(repr, self.names))} {'are' if len(self.names) > 1 else 'is'}"

    @property
    def default(self) -> Model:
        """The model of requests that name none."""
        return next(iter(self))

    def named(self, name: object, pointer: str = "/model") -> Model:
        """The model of this name, which stood at `pointer`. Raises RequestError."""
        found = self.by_name.get(name) if isinstance(name, str) else None
        if found is None:
            raise RequestError(pointer, f"{quoted(name)} is not served here; {self.listed}")
        return found

    def of_body(self, body: object) -> Model:
        """The model that draws a parsed body: the default where it names none. Raises RequestError
        for a name of none.
        """
        name = body.get("model") if isinstance(body, Mapping) else None
        return self.default if name is None else self.named(name)

    def parameters(self, model: Model, loras: Sequence[LoraOffer]) -> dict[str, Any]:
        """The JSON Schema of an order for this model, which all but the default's must name."""
        schema = for_several(model.parameters(loras))
        if model is self.default:
            return schema
        named = schema["properties"]["model"]
        name = {key: rule for key, rule in named.items() if key != "default"}
        return {
            **schema,
            "required": [*schema["required"], "model"],
            "properties": {**schema["properties"], "model": name},
        }

    def order_of(self, body: object) -> Order:
        """The order of a parsed body, checked by the model that it names. Raises RequestError."""
        return self.of_body(body).order_of(body)
