"""Reads Server-Sent Events as the standard has it, strictly enough to find what breaks it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its id and its data, parsed."""

    id: str
    data: dict[str, Any]
    retry: int | None

    @property
    def status(self) -> str:
        """A job's status in it."""
        status: str = self.data["status"]
        return status


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """The events in a stream's lines; comments are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            assert name in {"id", "data", "retry"}, line
            assert name not in fields, f"two lines of {name} in one event"
            fields[name] = value
        elif fields:
            retry = int(fields["retry"]) if "retry" in fields else None
            yield Event(fields["id"], json.loads(fields["data"]), retry)
            fields = {}
