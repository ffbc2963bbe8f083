"""TensorRT's code on fakes, for tests that look at what it did."""

from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.backends.device.cuda import Cuda
from runtime.backends.tensorrt.backend import TensorRt
from runtime.backends.tensorrt.flavour import Flavour
from runtime.backends.tensorrt.vendor import open_vendor
from runtime.draw.generate import Generator
from runtime.package.target import Target
from runtime.plan.model import Model
from runtime.plan.served import served_by
from tests.fakes.cuda import FakeCuda, FakeStream
from tests.fakes.tensorrt import FakeEngine, fake_api


@dataclass
class Machine:
    """A machine with a GPU that there is not."""

    cuda: FakeCuda = field(default_factory=FakeCuda)
    engines: list[FakeEngine] = field(default_factory=list)

    def backend(self, model: Model, target: Target, *, rtx: bool = False) -> TensorRt:
        name = target.record.identity.backend
        flavour = Flavour(
            name, "fake", "11.4.0", rtx, typed_on_request=False, compiles_at_run_time=rtx
        )
        vendor = open_vendor(
            flavour, fake_api(self.cuda, self.engines.append), Cuda(self.cuda, self.cuda)
        )
        return TensorRt(model.package, target, vendor, "Imagined GPU")

    def generator(self, model: Model, target: Target) -> Generator:
        served = served_by(target, model.package.manifest)
        return Generator(model, self.backend(model, target), served=served)


def streams_used(cuda: FakeCuda, run: Callable[[], object]) -> dict[int, FakeStream]:
    """The streams that something was put on while `run` ran, by their handles."""
    before = {handle: stream.enqueued for handle, stream in cuda.streams.items()}
    run()
    return {
        handle: stream
        for handle, stream in cuda.streams.items()
        if stream.enqueued != before.get(handle, 0)
    }
