"""Signs of a kind of file, in the names and shapes of its tensors."""

from collections.abc import Callable
from typing import TypeAlias

from engine_build.checkpoint.single_file.family import DENOISER_PREFIXES, Tensors

Sign: TypeAlias = Callable[[Tensors], bool]


def begins(*beginnings: str) -> Sign:
    """A denoiser's tensor has a name that begins so, after any prefix."""
    starts = tuple(prefix + beginning for prefix in DENOISER_PREFIXES for beginning in beginnings)
    return lambda tensors: any(name.startswith(starts) for name in tensors)


def has(*parts: str) -> Sign:
    """A tensor's name has one of these parts."""
    return lambda tensors: any(part in name for name in tensors for part in parts)


def ends(*endings: str) -> Sign:
    """A tensor's name ends in one of these ways."""
    return lambda tensors: any(name.endswith(endings) for name in tensors)


def only(*prefixes: str) -> Sign:
    """All tensors have names that begin so."""
    return lambda tensors: bool(tensors) and all(name.startswith(prefixes) for name in tensors)


def both(*signs: Sign) -> Sign:
    """All of these signs."""
    return lambda tensors: all(sign(tensors) for sign in signs)


def without(sign: Sign) -> Sign:
    """Everything but this sign."""
    return lambda tensors: not sign(tensors)


def reads(ending: str, width: int) -> Sign:
    """A layer whose name ends so has inputs of this width."""
    return lambda tensors: _inputs(tensors, ending) == width


def reads_other_than(ending: str, width: int) -> Sign:
    """A layer whose name ends so has inputs of another width."""
    return lambda tensors: _inputs(tensors, ending) not in {width, None}


def _inputs(tensors: Tensors, ending: str) -> int | None:
    shapes = (tensor.shape for name, tensor in tensors.items() if name.endswith(ending))
    return next((shape[1] for shape in shapes if len(shape) > 1), None)
