"""The change that a LoRA's factors make to a weight: the published formulas, in fp32.

    lora   W + scale * up @ down                          Hu et al., arXiv 2106.09685
    dora   magnitude / |base + lora| * (W + lora)         Liu et al., arXiv 2402.09353
    loha   W + scale * (w1_a @ w1_b) * (w2_a @ w2_b)      Hyeon-Woo et al., arXiv 2108.06098
    lokr   W + scale * kron(w1, w2)                       Yeh et al., arXiv 2309.14859

`W` is the weight with the changes of the LoRAs earlier in the set, `base` is the package's own
weight, and `lora` is `scale * up @ down`; `*` is elementwise and `@` is the matrix product.

A convolution's `down` holds the kernel, `[r, in, kh, kw]`, and `up` is `[out, r, 1, 1]`. With a
core (LyCORIS' Tucker form: `mid`, `t1`, `t2`) the kernel lies in the core, `[r, r, kh, kw]`. DoRA's
norms are those of the rows of `base + lora`, each over all inputs of an output. As in PEFT, DoRA
rescales the changes of earlier LoRAs, too: the order of the LoRAs in a set matters.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from runtime.errors import PackageError
from runtime.package.pack import Kind

Factors = Mapping[str, NDArray[np.float32]]
Matrix = NDArray[np.float32]


def laid(
    kind: Kind,
    factors: Factors,
    base: NDArray[np.float32],
    so_far: NDArray[np.float32],
    scale: float,
) -> NDArray[np.float32]:
    """The weight after this change: `so_far` with the change added, or rescaled by DoRA.

    `base` is the package's own weight; `so_far` has the changes of the LoRAs before this one.
    `scale` is the target's scale times the LoRA's weight in the request. Raises PackageError where
    the change that the factors give does not have the shape of `base`.
    """
    with _fitting(factors, base.shape):
        if kind == "dora":
            return _dora(factors, base, so_far, scale)
        product = {"lora": _lora, "loha": _loha, "lokr": _lokr}[kind](factors)
        change = _fitted(product, base.shape)
    # In place: all weights of a model pass through here, and new memory costs most of the time.
    change *= np.float32(scale)
    change += so_far
    return change


def is_low_rank(kind: Kind, factors: Collection[str]) -> bool:
    """True for a change that is a product of two matrices and does not depend on the weight."""
    return kind == "lora" and "mid" not in factors


def low_rank(factors: Factors, shape: tuple[int, ...], scale: float) -> tuple[Matrix, Matrix]:
    """The matrices `scale * up`, `[outputs, rank]`, and `down`, `[rank, inputs]`, of a low-rank
    change. Raises PackageError where their product does not fit the weight's `shape`.
    """
    with _fitting(factors, shape):
        up, down = _flat(factors["up"]), _flat(factors["down"])
        if up.shape != (shape[0], len(down)) or down.shape[1] != math.prod(shape[1:]):
            raise ValueError("another number of inputs, outputs or ranks")
        return up * np.float32(scale), down


@contextmanager
def _fitting(factors: Factors, shape: tuple[int, ...]) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in factors.items())
        raise PackageError(f"{shapes} do not fit {list(shape)}") from error


def _fitted(delta: Matrix, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The change in the shape of the weight. The outputs must agree: no value changes its row."""
    if delta.ndim == 2 and delta.shape != (shape[0], math.prod(shape[1:])):
        raise ValueError("another number of inputs or outputs")
    if delta.ndim > 2 and delta.shape != shape:
        raise ValueError("another kernel")
    return delta.reshape(shape)


def _lora(factors: Factors) -> Matrix:
    up, down = factors["up"], factors["down"]
    if "mid" in factors:
        return _tucker(factors["mid"], _flat(up).T, _flat(down))
    return _flat(up) @ _flat(down)


def _dora(
    factors: Factors, base: NDArray[np.float32], so_far: NDArray[np.float32], scale: float
) -> NDArray[np.float32]:
    delta = _fitted(_lora(factors), base.shape) * np.float32(scale)
    norms = np.sqrt(np.square(base + delta).reshape(len(base), -1).sum(axis=1))
    growth = (factors["magnitude"].reshape(len(base)) / norms).astype(np.float32)
    grown = (so_far + delta) * growth.reshape(-1, *[1] * (base.ndim - 1))
    return np.asarray(grown, dtype=np.float32)


def _loha(factors: Factors) -> Matrix:
    halves = []
    for half in ("1", "2"):
        a, b = factors[f"w{half}_a"], factors[f"w{half}_b"]
        core = factors.get(f"t{half}")
        halves.append(_flat(a) @ _flat(b) if core is None else _tucker(core, a, b))
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


def _tucker(core: NDArray[np.float32], a: Matrix, b: Matrix) -> NDArray[np.float32]:
    """Core `[i, j, kh, kw]`, `a` `[i, out]` and `b` `[j, in]` to a kernel `[out, in, kh, kw]`."""
    kernel = np.einsum("ijkl,ip,jr->prkl", core, a, b, optimize=True)
    return np.ascontiguousarray(kernel, np.float32)


def _flat(factor: NDArray[np.float32]) -> Matrix:
    return factor.reshape(len(factor), -1)
