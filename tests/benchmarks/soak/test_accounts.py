from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import Server
from benchmarks.soak.accounts import broken_promises, order_faults, settle
from benchmarks.soak.outcome import Ground, request
from tests.places import ROOT


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("soak")


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Server]:
    with Server(Ground(ROOT / "engines", "demo", data).options()) as server:
        yield server


def drawn(server: Server, count: int = 2) -> list[Any]:
    return settle(server, [server.submit(request(number, steps=1)) for number in range(count)])


def test_kept_promises_and_each_broken_one(server: Server, data: Path) -> None:
    jobs = drawn(server)
    assert broken_promises(server, data, jobs) == []
    name = jobs[0]["image"]["filename"]
    picture, thumbnail = data / "images" / name, data / "thumbs" / name

    foreign = data / "images" / f"{'0' * 32}.png"
    foreign.write_bytes(b"")
    (fault,) = broken_promises(server, data, jobs)
    assert fault.startswith("the folder images has 1 that belong to no completed job")
    foreign.unlink()

    (fault,) = broken_promises(server, data, [{**jobs[0], "status": "processing"}, jobs[1]])[:1]
    assert fault == f"{jobs[0]['job_id']} (processing) has not ended"

    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    (fault,) = broken_promises(server, data, jobs)
    assert fault.startswith(f"/api/images/{name}: ")
    picture.write_bytes(whole)

    thumbnail.unlink()
    assert broken_promises(server, data, jobs) == [
        f"the folder thumbs lacks 1 pictures, the first {name}",
        f"/api/thumbs/{name}: 404",
    ]

    assert server.client.delete(f"/api/images/{name}").status_code == 204
    assert any(
        fault.startswith("the gallery's list lacks")
        for fault in broken_promises(server, data, jobs)
    )


def test_a_job_that_overtook_an_earlier_one_is_named() -> None:
    def job(name: str, started_at: str | None, attempt: int = 1) -> dict[str, Any]:
        return {"job_id": name, "started_at": started_at, "attempt": attempt}

    calm = [job("a", "2026-01-01T00:00:01Z"), job("b", "2026-01-01T00:00:02Z")]
    assert order_faults(calm) == []
    assert order_faults([calm[1], calm[0]]) == ["a was begun before b, which came first"]
    lost = job("b", "2026-01-01T00:00:02Z", attempt=2)
    assert order_faults([lost, calm[0], job("c", None)]) == []
