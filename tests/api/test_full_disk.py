"""A disk that fills while a server runs: it says so, nothing is lost, and it goes on by itself."""

from pathlib import Path

import httpx

from tests.api.live import LiveServer, Options, refused, small
from tests.fakes.small_disk import fill, small_disk

ROOM = ("--disk-reserve-mb", "8")


def test_a_full_disk_is_said_and_survived(tiny_package: Path, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 64) as place,
        LiveServer(Options(tiny_package, place / "data", flags=ROOM)) as server,
    ):
        client = server.api.client
        kept = server.api.finish(server.api.submit())
        filler = fill(place)

        def full() -> httpx.Response | None:
            answer = client.post("/api/generate", json=small())
            return answer if answer.status_code == 507 else None

        answer = server.api.wait_until(full)
        detail = refused(answer, 507)["detail"]
        assert "free some room" in detail
        assert str(tmp_path) not in detail
        assert int(answer.headers["retry-after"]) > 0
        server.api.wait_until(lambda: client.get("/ready").status_code == 503)
        assert "kept free" in refused(client.get("/ready"), 503)["detail"]
        assert client.get("/health").status_code == 200
        assert client.delete(kept["image"]["url"]).status_code == 204
        filler.unlink()
        server.api.wait_until(lambda: client.get("/ready").status_code == 200)
        assert server.api.draw(seed=9)
