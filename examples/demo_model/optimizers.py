"""The optimizer of the training: Muon for weight matrices, AdamW for all other parameters."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from examples.demo_model.checkpoints import set_learning_rate
from examples.demo_model.precision import fast_dtype

# At both ends of a network, and in tables, rows are no directions to be made orthogonal.
_NOT_MATRICES = ("embedding", "conv_in", "conv_out", "text_projection")

# Muon's learning rate over AdamW's.
MATRIX_RATE = 2.0
MOMENTUM = 0.95
WEIGHT_DECAY = 0.01

# Jordan et al. 2024: the quintic that pulls every singular value towards 1.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Roughly `U V^T` of a matrix `[m, n]` with the decomposition `U S V^T`."""
    tall = len(matrix) > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) over parameters that are seen as matrices `[out, rest]`.

    PyTorch has one, which computes in bfloat16 whatever the machine: on a CPU without instructions
    for it, that took three times as long as the network itself. The step is scaled to the size of
    AdamW's, 0.2 times the root of the longer side (Liu et al. 2025, arXiv 2502.16982).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float) -> None:
        super().__init__(parameters, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002 - the signature of the base
        """Applies the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._apply(parameter, group["lr"])

    def _apply(self, parameter: nn.Parameter, rate: float) -> None:
        gradient, state = parameter.grad.reshape(len(parameter), -1), self.state[parameter]
        momentum = state.setdefault("momentum", torch.zeros_like(gradient))
        momentum.lerp_(gradient, 1 - MOMENTUM)
        direction = orthogonalise(
            gradient.lerp(momentum, MOMENTUM), fast_dtype(gradient.device.type)
        )
        scale = 0.2 * max(direction.shape) ** 0.5
        parameter.mul_(1 - rate * WEIGHT_DECAY)
        parameter.add_(direction.view_as(parameter), alpha=-rate * scale)


class MatrixOptimizer:
    """Muon and AdamW over one model."""

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        self._muon = Muon([p for name, p in named if _is_matrix(name, p)], learning_rate=1e-3)
        self._adamw = torch.optim.AdamW(
            [p for name, p in named if not _is_matrix(name, p)],
            lr=1e-3,
            betas=(0.9, 0.99),
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )

    def set_learning_rate(self, value: float) -> None:
        """AdamW's learning rate, from which Muon's follows."""
        set_learning_rate(self._muon, MATRIX_RATE * value)
        set_learning_rate(self._adamw, value)

    def step(self) -> None:
        """Applies the gradients and clears them."""
        for optimizer in (self._muon, self._adamw):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The states of both optimizers."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and not any(part in name for part in _NOT_MATRICES)
