"""Networks of diffusers as their configurations say, with and without their weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from engine_build.checkpoint.printable import printable
from engine_build.checkpoint.sources import Component
from engine_build.package.state import load_state
from runtime.errors import SourceError


def network_skeleton(network_class: Any, component: Component) -> nn.Module:
    """A network of diffusers as its configuration says, with whatever weights. Raises
    SourceError."""
    return made_of(component, network_class.from_config)


def made_of(component: Component, build: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """A network that a library builds of a component's configuration. Raises SourceError."""
    try:
        return frozen(build(dict(component.config)))
    except Exception as error:  # whatever the library's code meets in such a value
        raise SourceError(
            f"{component.path / 'config.json'}: no {printable(component.class_name)} can be made "
            f"of it ({printable(str(error) or type(error).__name__)})"
        ) from error


def load_network(network_class: Any, component: Component) -> nn.Module:
    """A network of diffusers with its weights, widened to fp32.

    diffusers loads the network where it can, so that the reference is independent of our reader.
    """
    if component.from_single_file:
        return load_state(lambda: network_skeleton(network_class, component), component.checkpoint)
    return frozen(
        network_class.from_pretrained(
            component.path,
            torch_dtype=torch.float32,
            variant=component.variant,
            use_safetensors=True,
            local_files_only=True,
        )
    )


def load_encoder(
    network_class: Any,
    component: Component,
    skeleton: Callable[[], nn.Module],
    names: Callable[[str], tuple[str, ...]],
) -> nn.Module:
    """A network of transformers with its weights, widened to fp32, loaded by that library where it
    can; `names` as `match_parameters` takes it."""
    if component.from_single_file:
        return load_state(skeleton, component.checkpoint, names)
    return frozen(
        network_class.from_pretrained(
            component.path,
            dtype=torch.float32,
            variant=component.variant,
            use_safetensors=True,
            local_files_only=True,
        )
    )


def frozen(network: nn.Module) -> nn.Module:
    """The same network, for inference alone."""
    return network.eval().requires_grad_(False)
