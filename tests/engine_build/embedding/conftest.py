"""The package that LoRAs are laid on in tests takes embeddings too."""

from tests.engine_build.lora.conftest import demo

__all__ = ["demo"]
