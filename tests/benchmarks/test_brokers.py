"""The benchmark of brokers, on a real nats-server."""

from pathlib import Path

import pytest

from benchmarks.brokers import CLUSTER, LOCAL
from tests.benchmarks.running import run
from tests.nats_server import installed


@pytest.mark.skipif(not installed(), reason="nats-server is not installed")
def test_both_brokers_are_timed_and_every_job_that_was_taken_is_there(tmp_path: Path) -> None:
    flags = ("--turns", "2", "--warm", "0", "--seconds", "1")
    result = run("brokers", tmp_path / "brokers.json", *flags)
    figures = result["figures"]
    for name in (LOCAL, CLUSTER, f"{CLUSTER}: added"):
        assert len(figures[name]["values"]) == 2
    assert figures["submissions, 2 servers"]["values"] == [result["submitted"]]
    assert result["submitted"] > 0
