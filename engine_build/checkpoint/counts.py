"""Counts in a network's configuration, held against its weights before a network is made of it.

A network of 10^9 layers would be built for days before its weights were found to lack most of them.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from engine_build.checkpoint.printable import printable
from runtime.errors import SourceError, quoted

_LAYERS = re.compile(r"(num|n)_(\w+_)?(layers|blocks)|approximator_layers|(\w+_)?layers_per_block")

_MOST = 2**24
"""A hundred times the largest count of a published network, a vocabulary's."""


_COUNTS = frozenset(
    {
        *("in_channels", "out_channels", "latent_channels", "hidden_size", "d_model", "vocab_size"),
        *("num_layers", "num_single_layers", "num_hidden_layers", "max_position_embeddings"),
        *("projection_dim", "joint_attention_dim", "pooled_projection_dim", "cap_feat_dim"),
        *("projection_class_embeddings_input_dim", "addition_time_embed_dim"),
    }
)
"""Settings that are one integer."""

_LISTS = frozenset({"block_out_channels", "axes_dims", "axes_lens", "axes_dims_rope"})
"""Settings that are integers, one at least."""


def check_counts(path: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Refuse a configuration with more layers than the weights have tensors, with a count that no
    network has, or with something else for a count. `path` is the configuration's.

    Raises SourceError.
    """
    for key, value in _entries(config):
        _check_type(path, key, value)
        if isinstance(value, list) and len(value) > max(tensors, 1):
            raise SourceError(
                f"{path}: {printable(key)} has {len(value)} entries, and the weights have "
                f"{tensors} tensors; mend it, or fetch it again"
            )
        for count in value if isinstance(value, list) else [value]:
            if not _is_count(count) or "theta" in key:
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


def _check_type(path: Path, key: str, value: object) -> None:
    if key in _COUNTS and not (value is None or (_is_count(value) and value >= _least(key))):
        raise SourceError(f"{path}: {key} is {quoted(value)}, expected a number of layers or rows")
    if key in _LISTS and not (
        isinstance(value, list | tuple) and value and all(map(_is_count, value))
    ):
        raise SourceError(f"{path}: {key} is {quoted(value)}, expected a list of integers")


def _least(key: str) -> int:
    # A narrow model may have none of one kind of layers.
    return 0 if _LAYERS.fullmatch(key) else 1


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings, those of a part of the network among them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _entries(value)
        else:
            yield key, value
