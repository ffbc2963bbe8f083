"""The optimizer of the training: Muon for weight matrices, AdamW for all other parameters."""

from typing import Any

import torch
from torch import Tensor, nn

from examples.demo_model.checkpoints import set_learning_rate

# At both ends of a network, and in tables, rows are no directions to be made orthogonal.
_NOT_MATRICES = ("embedding", "conv_in", "conv_out", "text_projection")


# Muon's learning rate over AdamW's.
MATRIX_RATE = 2.0


class MatrixOptimizer:
    """Muon (Jordan et al. 2024) sees each convolution as a matrix `[out, in * height * width]`.

    PyTorch's Muon takes two-dimensional parameters alone, so that it works on views that share
    their storage with the real ones. Its step is scaled to the size of AdamW's; short trainings
    bear a larger one.
    """

    def __init__(self, model: nn.Module) -> None:
        self._matrices = [p for name, p in model.named_parameters() if _is_matrix(name, p)]
        others = [p for name, p in model.named_parameters() if not _is_matrix(name, p)]
        self._views = [nn.Parameter(p.data.view(len(p), -1)) for p in self._matrices]
        self._muon = torch.optim.Muon(
            self._views, lr=1e-3, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(
            others, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )

    def set_learning_rate(self, value: float) -> None:
        """AdamW's learning rate, from which Muon's follows."""
        set_learning_rate(self._muon, MATRIX_RATE * value)
        set_learning_rate(self._adamw, value)

    def step(self) -> None:
        """Applies the gradients and clears them."""
        for view, parameter in zip(self._views, self._matrices, strict=True):
            view.grad = None if parameter.grad is None else parameter.grad.view_as(view)
        self._muon.step()
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        for view, parameter in zip(self._views, self._matrices, strict=True):
            view.grad = parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The states of both optimizers."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and not any(part in name for part in _NOT_MATRICES)
