"""Several workers behind one server: each on its own cores, a burst shared, a loss made good."""

import os
import signal
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from api.cli import main
from tests.api.conftest import Starter
from tests.api.live import Api, Options, small


def workers_of(api: Api) -> list[dict[str, Any]]:
    """The workers, once all of them draw."""

    def all_ready() -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = api.client.get("/health").json()["workers"]
        return workers if {worker["state"] for worker in workers} == {"ready"} else []

    return api.wait_until(all_ready)


def test_a_burst_is_shared_and_a_worker_that_is_lost_is_replaced_alone(
    start: Starter, tiny_package: Path, tmp_path: Path, api: Api
) -> None:
    flags = ("--workers", "2", "--max-batch", "1")
    two = start(Options(tiny_package, tmp_path / "data", flags=flags)).api
    lost, kept = [worker["pid"] for worker in workers_of(two)]
    if len(os.sched_getaffinity(0)) > 1:
        assert not os.sched_getaffinity(lost) & os.sched_getaffinity(kept)
    burst = small(steps=60, width=256, height=256, n=2)
    jobs = [job["job_id"] for job in two.client.post("/api/generate", json=burst).json()["jobs"]]
    two.wait_until(lambda: {two.job(job)["status"] for job in jobs} == {"processing"})
    os.kill(lost, signal.SIGKILL)
    assert [two.finish(job)["status"] for job in jobs] == ["completed", "completed"]
    first, second = workers_of(two)
    assert (first["restarts"], second["restarts"]) == (1, 0)
    assert (first["pid"] == lost, second["pid"]) == (False, kept)
    alone, shared = (np.asarray(Image.open(BytesIO(each.draw(seed=5)))) for each in (api, two))
    assert np.array_equal(alone, shared)


@pytest.mark.parametrize("wish", ["all", "0,1"])
def test_gpus_that_are_not_there_are_refused_before_the_port_is_opened(
    wish: str,
    tiny_package: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The setting stays in this process's environment.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    flags = ["--engines", str(tiny_package), "--model", "tiny", "--gpus", wish]
    assert main(["serve", *flags]) == 1
    assert f"--gpus {wish}: " in capsys.readouterr().err
