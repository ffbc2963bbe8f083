"""Counts in a network's configuration, held against its weights before a network is made of them.

A network of 10^9 layers would be built for days before its weights were found to lack most of them.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine_build.checkpoint.printable import printable
from runtime.errors import SourceError, quoted

_LAYERS = re.compile(r"(num|n)_(\w+_)?(layers|blocks)|approximator_layers|(\w+_)?layers_per_block")

_MOST = 2**24
"""A hundred times the largest count of a published network, a vocabulary's."""


def check_counts(path: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Refuse a configuration with more layers than the weights have tensors, or with a count that
    no network has. `path` is the configuration's. Raises SourceError."""
    for key, value in _entries(config):
        if isinstance(value, list) and len(value) > max(tensors, 1):
            raise SourceError(
                f"{path}: {printable(key)} has {len(value)} entries, and the weights have "
                f"{tensors} tensors; mend it, or fetch it again"
            )
        for count in value if isinstance(value, list) else [value]:
            if not isinstance(count, int) or isinstance(count, bool) or "theta" in key:
                continue
            if _LAYERS.fullmatch(key) and count > tensors:
                raise SourceError(
                    f"{path}: {printable(key)} is {quoted(count)}, and the weights have {tensors} "
                    "tensors; mend it, or fetch it again"
                )
            if abs(count) > _MOST:
                raise SourceError(
                    f"{path}: {printable(key)} is {quoted(count)}, expected at most {_MOST}; mend "
                    "it, or fetch it again"
                )


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings, those of a part of the network among them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _entries(value)
        else:
            yield key, value
