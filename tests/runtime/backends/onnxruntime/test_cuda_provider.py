"""The settings that sessions of the CUDA provider are opened with."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.backends.onnxruntime.cuda_provider import PROVIDER, Source, open_session
from runtime.package.manifest import Precision
from runtime.package.target import EngineIdentity


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of the provider for the session that is opened next."""
    found: dict[str, str] = {}

    def opened(*_: object, providers: Any, enable_fallback: int) -> SimpleNamespace:
        assert enable_fallback == 0
        found.update(providers[0][1])
        return SimpleNamespace(get_providers=lambda: [PROVIDER])

    options = SimpleNamespace(add_session_config_entry=lambda *_: None)
    module = SimpleNamespace(SessionOptions=lambda: options, InferenceSession=opened)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    return found


@pytest.mark.parametrize(("precision", "told"), [("bf16", True), ("fp16", False), ("fp32", False)])
def test_cudnn_s_attention_is_asked_for_where_transformers_count_their_keys(
    given: dict[str, str], precision: Precision, told: bool
) -> None:
    engine = EngineIdentity("", "", precision, (), (), ())
    open_session(Source(b"", Path("a.onnx"), Path()), engine, 1, captures=True)
    assert bool(int(given.get("sdpa_kernel", "0")) & 8) == told
