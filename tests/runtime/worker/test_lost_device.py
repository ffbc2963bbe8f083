"""A device that fails ends its worker, wherever it shows, and the jobs get another attempt."""

from pathlib import Path

import pytest

from runtime.plan.model import open_model
from runtime.wire.messages import Assignment, Broken, Completed, Failed, Message, Ready
from tests.fakes.scripted_worker import ENGINES, PATIENCE, scripted_worker

# The seams at which a worker meets its device, each failing once the warm-up is over.
FAIL = """
import sys
from runtime.backends.host_denoiser import HostDenoiser
from runtime.draw.decode import NetworkDecoder
from runtime.errors import DeviceError
from runtime.draw.conditioning import Conditioner
from runtime.draw.generate import Generator
from runtime.worker.main import leave, main

where = {
    "steps": (HostDenoiser, "advance"),
    "text": (Conditioner, "of"),
    "vae": (Generator, "decode"),
    "preview": (NetworkDecoder, "decode"),
}
warm_up = Generator.warm_up

def fail_from_now_on(self):
    warm_up(self)
    self.warm_up_loras()
    kind, method = where[sys.argv[1]]

    def fail(*_):
        raise DeviceError("cudaEventSynchronize: cudaErrorIllegalAddress")

    setattr(kind, method, fail)

Generator.warm_up = fail_from_now_on
leave(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("where", ["steps", "text", "vae", "preview"])
def test_it_ends_the_worker_with_its_reason_and_fails_no_job(where: str, tmp_path: Path) -> None:
    fields = {"prompt": "x", "seed": 1, "steps": 20, "width": 64, "height": 64}
    request = open_model(ENGINES, "demo").read(fields).to_json()
    with scripted_worker(FAIL, tmp_path, where) as (worker, link):
        said: list[Message] = []
        while not (said and isinstance(said[-1], Broken | Completed | Failed)):
            said.append(link.receive())
            if isinstance(said[-1], Ready):
                link.send(Assignment("0" * 32, request))
        reason = "cudaEventSynchronize: cudaErrorIllegalAddress"
        assert said[-1] == Broken(reason, lasting=False)
        assert worker.wait(PATIENCE) == 1
