"""A machine with a GPU that there is not, where ONNX Runtime's CUDA provider is the fake one."""

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from runtime.backends.device.cuda import Cuda
from runtime.backends.onnxruntime.cuda import OnnxRuntimeCuda
from runtime.backends.onnxruntime.cuda_provider import PROVIDER
from runtime.backends.placing import TextWish
from runtime.draw.generate import Generator
from runtime.package.target import Target
from runtime.plan.model import Model
from tests.fakes.cuda import FakeCuda
from tests.fakes.onnxruntime import FakeProvider, fake_onnxruntime

BODY = {"prompt": "a red heart", "seed": 5, "width": 64, "height": 64, "steps": 3}


@dataclass
class Machine:
    """A machine with a GPU that there is not."""

    monkeypatch: pytest.MonkeyPatch
    cuda: FakeCuda = field(default_factory=FakeCuda)
    provider: FakeProvider = field(init=False)
    models: list[bytes] = field(default_factory=list)
    """The serialised models that sessions were opened with."""

    def __post_init__(self) -> None:
        self.provider = FakeProvider(self.cuda, PROVIDER)

    def backend(
        self, model: Model, target: Target, text_encoders: TextWish = "keep"
    ) -> OnnxRuntimeCuda:
        module = fake_onnxruntime(self.provider)
        opened = module.InferenceSession

        def noted(content: Any, *arguments: object, **named: object) -> Any:
            self.models.append(content)
            return opened(content, *arguments, **named)

        module.InferenceSession = noted
        self.monkeypatch.setitem(sys.modules, "onnxruntime", module)
        cuda = Cuda(self.cuda, self.cuda, lambda: [self.provider.runtime.last_error])
        return OnnxRuntimeCuda(
            model.package, target, cuda, "Imagined GPU", text_encoders=text_encoders
        )


def drawn(generator: Generator, **body: object) -> np.ndarray:
    plan = generator.model.plan(generator.model.read({**BODY, **body}))
    *_, last = (generator.latents(event.sample) for event in generator.steps(plan))
    return last
