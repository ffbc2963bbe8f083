"""The devices of workers, as `/metrics` shows them."""

from api.metrics import Metrics
from runtime.jobs.facts import Counters, WorkerFacts, WorkerState

NOTHING = Counters(0, 0, 0, {}, 0, 0, 0.0, 0.0, 0, 0, 0)


def test_device_memory_is_shown_by_what_it_is_used_for() -> None:
    memory = {"weights": 5_000_000_000, "free": 1_000_000}
    facts = WorkerFacts(1, WorkerState.READY, "Imagined GPU", 0, None, memory)
    page = Metrics().page(NOTHING, (facts,)).decode()
    assert 'calotype_device_memory_bytes{use="weights",worker="0"} 5e+09' in page
    assert 'calotype_device_memory_bytes{use="free",worker="0"} 1e+06' in page


def test_a_cpu_shows_none() -> None:
    facts = WorkerFacts(1, WorkerState.READY, "cpu", 0, None)
    assert "calotype_device_memory_bytes{" not in Metrics().page(NOTHING, (facts,)).decode()
