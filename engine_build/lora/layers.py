"""Layers of a LoRA file: tensors that belong together, read as one change of a weight and its bias.

Every tensor of a layer is used by its formula, or the layer is refused by name: nothing is left out
unseen.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine_build.checkpoint.printable import printable
from engine_build.lora.alphas import CONV_ALPHA, LINEAR_ALPHA, Alphas
from engine_build.lora.endings import (
    ALPHA,
    BIAS,
    DORA_SCALE,
    MAGNITUDE_VECTOR,
    MAGNITUDES,
    RANKED,
    UP_BIAS,
    form_fault,
)
from engine_build.lora.formats import Part
from runtime.errors import SourceError
from runtime.package.pack import MAGNITUDE, Decomposition, Kind
from runtime.package.tensors import Tensor


@dataclass(frozen=True, slots=True)
class WeightChange:
    """The change of a layer's weight."""

    kind: Kind
    scale: float
    factors: Mapping[str, Tensor]
    decomposition: Decomposition | None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that a file changes, in its weight, its bias or both."""

    module: str
    """The layer's path, as the file spells it."""
    weight: WeightChange | None
    bias: Tensor | None
    bias_scale: float


def read_layer(path: Path, parts: Iterable[Part], shape: tuple[int, ...], alphas: Alphas) -> Layer:
    """The layer that parts of a file make, on a weight of this shape.

    Raises SourceError where a tensor is missing, or has no meaning beside the others.
    """
    found = _gathered(path, parts)
    form, factors = _form(found)
    scale = 1.0 if form in {None, "diff"} else _scale(found, factors, alphas, shape)
    if scale == 0:
        raise found.fault("has an alpha of 0, with which nothing of the layer would act")
    weight = None
    if form is not None:
        decomposition, magnitude = _decomposition(found, shape)
        weight = WeightChange(form, scale, {**factors, **magnitude}, decomposition)
    bias = next((found.parts[each] for each in (BIAS, UP_BIAS) if each in found.parts), None)
    return Layer(
        found.module,
        weight,
        None if bias is None else bias.tensor,
        scale if UP_BIAS in found.parts else 1.0,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The tensors of one layer, by factor."""

    path: Path
    module: str
    parts: Mapping[str, Part]

    def fault(self, reason: str) -> SourceError:
        """The error that names the layer."""
        return SourceError(f"{self.path}: the layer {printable(self.module)} {reason}")


def _gathered(path: Path, parts: Iterable[Part]) -> _Found:
    found: dict[str, Part] = {}
    for part in parts:
        other = found.setdefault(part.ending.factor, part)
        if other is not part:
            raise SourceError(
                f"{path}: {other.name} and {part.name} are the same factor of the same layer; "
                "give a file that has each layer once"
            )
    return _Found(path, next(iter(found.values())).module, found)


def _form(found: _Found) -> tuple[Kind | None, dict[str, Tensor]]:
    """The form of a layer's change, and the factors of that form; None for a bias alone."""
    formed = {key: part for key, part in found.parts.items() if part.ending.form is not None}
    forms = {part.ending.form for part in formed.values()}
    if len(forms) > 1:
        raise found.fault(f"has factors of more than one form: {', '.join(sorted(formed))}")
    form = next(iter(forms), None)
    fault = None if form is None else form_fault(form, frozenset(formed))
    if fault is not None:
        raise found.fault(f"({form}) {fault}")
    for group, most in _most(form):
        given = [found.parts[each].name for each in group if each in found.parts]
        if len(given) > most:
            raise found.fault(
                f"has {' and '.join(given)}, which mean nothing with its other tensors"
            )
    return form, {key: part.tensor for key, part in formed.items()}


def _most(form: Kind | None) -> Iterator[tuple[tuple[str, ...], int]]:
    """Groups of tensors, and the most of each group that a layer of this form may have."""
    product = int(form not in {None, "diff"})
    yield (ALPHA,), product
    yield MAGNITUDES, product
    yield (UP_BIAS,), int(form == "lora")
    yield (BIAS, UP_BIAS), 1


def _scale(
    found: _Found, factors: Mapping[str, Tensor], alphas: Alphas, shape: tuple[int, ...]
) -> float:
    rank = next((factors[each].values.shape[0] for each in RANKED if each in factors), None)
    alpha = found.parts.get(ALPHA)
    if alpha is None:
        down = found.parts.get("down")
        option = CONV_ALPHA if any(extent > 1 for extent in shape[2:]) else LINEAR_ALPHA
        kohyas = option if down is None or down.ending.kohya else None
        return alphas.scale(found.module, rank, kohyas)
    if alpha.tensor.values.size != 1:
        raise found.fault(f"has {alpha.name}, which is no single number")
    # Where no factor has a rank, LyCORIS writes an alpha and leaves it out (modules/lokr.py).
    return 1.0 if rank is None else float(alpha.tensor.fp32().reshape(())) / rank


def _decomposition(
    found: _Found, shape: tuple[int, ...]
) -> tuple[Decomposition | None, dict[str, Tensor]]:
    """DoRA's step of a layer, and its magnitudes; the spelling says whose formula holds."""
    spelling = next((each for each in MAGNITUDES if each in found.parts), None)
    if spelling is None:
        return None, {}
    part = found.parts[spelling]
    given = part.tensor.values.shape
    outputs = _over_outputs(spelling, given, shape)
    if outputs is None:
        raise found.fault(
            f"has {part.name} {list(given)}, a magnitude neither for each output nor for each "
            f"input of {list(shape)}"
        )
    axis: Literal["outputs", "inputs"] = "outputs" if outputs else "inputs"
    rule: Literal["lycoris", "peft"] = "lycoris" if spelling == DORA_SCALE else "peft"
    return Decomposition(axis, rule), {MAGNITUDE: part.tensor}


def _over_outputs(spelling: str, given: tuple[int, ...], shape: tuple[int, ...]) -> bool | None:
    """True for magnitudes of outputs, False for those of inputs, None for neither.

    LyCORIS keeps the axis: `[out, 1, ...]` or `[1, in, ...]`. PEFT's are of outputs: a vector, and
    `[1, out, 1, 1]` for a convolution.
    """
    if len(shape) < 2:
        return None
    out, inputs = shape[:2]
    if given in {(out,), (out, *[1] * (len(given) - 1))}:
        return True
    row = (1, max(given, default=0), *[1] * (len(given) - 2))
    if given != row:
        return None
    if len(given) > 2 and given[1] == out and spelling == MAGNITUDE_VECTOR:
        return True
    if given[1] == inputs:
        return False
    return True if given[1] == out else None
