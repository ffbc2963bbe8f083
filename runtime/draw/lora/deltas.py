"""The change that a LoRA's factors make to a weight: the published formulas, in fp32.

    lora   up @ down                             Hu et al., arXiv 2106.09685
    loha   (w1_a @ w1_b) * (w2_a @ w2_b)         Hyeon-Woo et al., arXiv 2108.06098
    lokr   kron(w1, w2)                          Yeh et al., arXiv 2309.14859
    diff   diff                                  the difference itself (LyCORIS' `full`)

The weight becomes `W + weight * scale * change`, where `W` has the changes of the LoRAs earlier in
the set and `weight` is the request's; `*` is elementwise and `@` is the matrix product.

A convolution's `down` holds the kernel, `[r, in, kh, kw]`, and `up` is `[out, r, 1, 1]`. With a
core (LyCORIS' Tucker form: `mid`, `t1`, `t2`) the kernel lies in the core, `[r, r, kh, kw]`.

DoRA (Liu et al., arXiv 2402.09353) is a step behind any of them. With the package's own weight
`base`, and `|V|` the norms of V's rows (a magnitude for each output) or columns (for each input, as
LyCORIS' `wd_on_out=False` and OneTrainer have it):

    peft      V = base + weight * scale * change
              (W + weight * scale * change) * magnitude / |V|
    lycoris   V = base + scale * change
              W - base + V * (1 + weight * (magnitude / |V| - 1))

They agree at weight 1 on one LoRA (PEFT, tuners/lora/dora.py; LyCORIS, modules/locon.py). PEFT's
rescales the changes of earlier LoRAs, too: there the order of the LoRAs in a set matters.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.low_rank import Product
from runtime.errors import PackageError
from runtime.package.pack import MAGNITUDE, AdaptedParameter, Decomposition
from runtime.package.tensors import Tensor

Factors = Mapping[str, NDArray[np.float32]]
Matrix = NDArray[np.float32]


def laid(
    target: AdaptedParameter,
    factors: Factors,
    base: NDArray[np.float32],
    so_far: NDArray[np.float32],
    weight: float,
) -> NDArray[np.float32]:
    """The weight after this change: `so_far` with the change added, and DoRA's step behind it.

    `base` is the package's own weight; `so_far` has the changes of the LoRAs before this one.
    `weight` is the LoRA's in the request. Raises PackageError where the change that the factors
    give does not have the shape of `base`.
    """
    decomposition = target.decomposition
    with _fitting(factors, base.shape):
        change = _fitted(_PRODUCTS[target.kind](factors), base.shape)
        if decomposition is not None:
            magnitude = factors[MAGNITUDE].reshape(_along(decomposition, base.shape))
            change *= np.float32(target.scale)
            return _decomposed(decomposition, change, magnitude, (base, so_far), weight)
    # In place: all weights of a model pass through here, and new memory costs most of the time.
    change *= np.float32(target.scale * weight)
    change += so_far
    return change


def is_low_rank(target: AdaptedParameter) -> bool:
    """True for a change that is a product of two matrices and does not depend on the weight."""
    return target.kind == "lora" and "mid" not in target.factors and target.decomposition is None


def low_rank(factors: Mapping[str, Tensor], shape: tuple[int, ...], scale: float) -> Product:
    """`scale * up @ down`, `[outputs, rank]` and `[rank, inputs]`, of factors as they are stored.

    Raises PackageError where the product does not fit the weight's `shape`.
    """
    found = {name: factors[name].values for name in ("up", "down")}
    if not all(each.ndim for each in found.values()):
        raise _misfit(found, shape)
    up, down = (_matrix(factors[name]) for name in found)
    rank = len(down.values)
    if up.values.shape != (shape[0], rank) or down.values.shape[1] != math.prod(shape[1:]):
        raise _misfit(found, shape)
    if up.dtype != down.dtype:
        up, down = (Tensor("F32", each.fp32()) for each in (up, down))
    return Product(up, down, scale)


def _matrix(factor: Tensor) -> Tensor:
    return Tensor(factor.dtype, factor.values.reshape(len(factor.values), -1))


@contextmanager
def _fitting(factors: Factors, shape: tuple[int, ...]) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise _misfit(factors, shape) from error


def _misfit(factors: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> PackageError:
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in factors.items())
    return PackageError(f"{shapes} do not fit {list(shape)}")


def _fitted(delta: Matrix, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The change in the shape of the weight. The outputs must agree: no value changes its row."""
    if delta.ndim == 2 and delta.shape != (shape[0], math.prod(shape[1:])):
        raise ValueError("another number of inputs or outputs")
    if delta.ndim != 2 and delta.shape != shape:
        raise ValueError("another kernel")
    return delta.reshape(shape)


def _lora(factors: Factors) -> Matrix:
    up, down = factors["up"], factors["down"]
    if "mid" in factors:
        return _tucker(factors["mid"], _flat(up).T, _flat(down))
    return _flat(up) @ _flat(down)


def _along(decomposition: Decomposition, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which magnitudes are multiplied with a weight."""
    axis = 0 if decomposition.axis == "outputs" else 1
    return tuple(extent if index == axis else 1 for index, extent in enumerate(shape))


def _decomposed(
    decomposition: Decomposition,
    change: NDArray[np.float32],
    magnitude: NDArray[np.float32],
    weights: tuple[NDArray[np.float32], NDArray[np.float32]],
    weight: float,
) -> NDArray[np.float32]:
    """DoRA's step: `weights` are the package's own and the one with earlier LoRAs' changes."""
    base, so_far = weights
    peft = decomposition.rule == "peft"
    if peft:
        change = change * np.float32(weight)
    moved = base + change
    axis = 0 if decomposition.axis == "outputs" else 1
    others = tuple(index for index in range(base.ndim) if index != axis)
    norms = np.sqrt(np.square(moved).sum(axis=others, keepdims=True))
    # A row of zeros stays one, whatever its magnitude.
    growth = np.divide(magnitude, norms, out=np.zeros_like(norms), where=norms > 0)
    if peft:
        return np.asarray((so_far + change) * growth, np.float32)
    grown = moved * (1 + np.float32(weight) * (growth - 1))
    return np.asarray(so_far + (grown - base), np.float32)


def _loha(factors: Factors) -> Matrix:
    halves = []
    for half in ("1", "2"):
        a, b = factors[f"w{half}_a"], factors[f"w{half}_b"]
        core = factors.get(f"t{half}")
        halves.append(_flat(a) @ _flat(b) if core is None else _tucker(core, a, b))
    if halves[0].shape != halves[1].shape:
        raise ValueError("halves of two shapes")  # NumPy would repeat the rows of one.
    return halves[0] * halves[1]


def _lokr(factors: Factors) -> Matrix:
    w1 = factors["w1"] if "w1" in factors else factors["w1_a"] @ factors["w1_b"]
    if "w2" in factors:
        w2 = factors["w2"]
    elif "t2" in factors:
        w2 = _tucker(factors["t2"], factors["w2_a"], factors["w2_b"])
    else:
        w2 = _flat(factors["w2_a"]) @ _flat(factors["w2_b"])
    return np.kron(w1.reshape(*w1.shape[:2], *[1] * (w2.ndim - 2)), w2)


def _diff(factors: Factors) -> Matrix:
    return factors["diff"].copy()


def _tucker(core: NDArray[np.float32], a: Matrix, b: Matrix) -> NDArray[np.float32]:
    """Core `[i, j, kh, kw]`, `a` `[i, out]` and `b` `[j, in]` to a kernel `[out, in, kh, kw]`."""
    kernel = np.einsum("ijkl,ip,jr->prkl", core, a, b, optimize=True)
    return np.ascontiguousarray(kernel, np.float32)


def _flat(factor: NDArray[np.float32]) -> Matrix:
    if not factor.ndim:
        raise ValueError("a number for a matrix")
    return factor.reshape(len(factor), -1)


_PRODUCTS: Mapping[str, Callable[[Factors], Matrix]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "diff": _diff,
}
