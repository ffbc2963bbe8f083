"""Downloads over real sockets, from a server that misbehaves."""

import hashlib
import json
import random
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from engine_build.fetch.connection import Address, Patience, Token
from engine_build.fetch.download import CachedFile, RemoteFile, check_space, download
from runtime.errors import BuildError, SourceError
from tests.engine_build.fetch.server import CHUNK, Content, Server

BODY = random.Random(0).randbytes(300_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
PATH = "/model.safetensors"
QUICK = Patience(attempts=3, pause_seconds=0.0, longest_wait_seconds=5.0)


def fetch(
    server: Server, cache: Path, path: str = PATH, sha256: str | None = DIGEST, token: str = ""
) -> CachedFile:
    address = Address(server.url + path, Token("SECRET_TOKEN", token))
    return download(RemoteFile(address, sha256=sha256), cache, QUICK, show_progress=False)


def refused(server: Server, cache: Path, **options: str) -> str:
    with pytest.raises(SourceError) as raised:
        fetch(server, cache, **options)
    assert "\n" not in str(raised.value)
    assert not list(cache.rglob("*.safetensors"))
    return str(raised.value)


@pytest.mark.parametrize("sha256", [DIGEST, None], ids=["hash known", "hash unknown"])
def test_a_file_is_downloaded_once(server: Server, tmp_path: Path, sha256: str | None) -> None:
    server.contents[PATH] = Content(BODY)
    first = fetch(server, tmp_path, sha256=sha256)
    assert first.path.name == "model.safetensors"
    assert first.path.read_bytes() == BODY
    assert first.sha256 == DIGEST
    assert fetch(server, tmp_path, sha256=sha256) == first
    assert len(server.requests) == 1


@pytest.mark.parametrize("sha256", [DIGEST, None], ids=["hash known", "hash unknown"])
def test_a_dropped_connection_is_resumed(
    server: Server, tmp_path: Path, sha256: str | None
) -> None:
    # More drops than attempts: as long as bytes arrive, nothing is given up.
    server.contents[PATH] = Content(BODY, drops=[50_000, 60_000, 70_000, 80_000])
    assert fetch(server, tmp_path, sha256=sha256).path.read_bytes() == BODY
    assert [item.status for item in server.requests] == [200, 206, 206, 206, 206]
    assert sum(item.sent for item in server.requests) == len(BODY)
    assert server.requests[1].headers["range"] == "bytes=50000-"
    assert server.requests[1].headers["if-range"] == server.contents[PATH].tag


def test_a_server_that_ignores_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(BODY, ranges=False, drops=[50_000])
    assert fetch(server, tmp_path).path.read_bytes() == BODY
    assert [item.status for item in server.requests] == [200, 200]


def test_a_file_that_changed_meanwhile_starts_over(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(bytes(len(BODY)), drops=[50_000, 0, 0, 0])
    refused(server, tmp_path, sha256="")
    server.contents[PATH] = Content(BODY)
    assert fetch(server, tmp_path, sha256=None).path.read_bytes() == BODY
    assert server.requests[-1].status == 200


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_validator_or_a_hash_nothing_is_resumed(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.contents[PATH] = Content(BODY, etag=etag, drops=[50_000])
    assert fetch(server, tmp_path, sha256=None).path.read_bytes() == BODY
    assert [item.status for item in server.requests] == [200, 200]


def test_a_part_that_the_server_has_no_more_of_starts_over(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(BODY + BODY, etag=None, drops=[len(BODY), 0, 0, 0])
    refused(server, tmp_path)
    server.contents[PATH] = Content(BODY, etag=None)
    assert fetch(server, tmp_path).path.read_bytes() == BODY
    assert [item.status for item in server.requests[-2:]] == [416, 200]


def test_a_server_that_always_drops_is_given_up(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(BODY, drops=[0] * 10)
    assert "gave up after 3 attempts in a row" in refused(server, tmp_path)
    assert len(server.requests) == 3


def test_nobody_at_home(server: Server, tmp_path: Path) -> None:
    address = Address("http://127.0.0.1:1/model.safetensors")
    with pytest.raises(SourceError, match=r"refused; gave up after 3 attempts"):
        download(RemoteFile(address), tmp_path, QUICK, show_progress=False)


def test_a_lying_hash_deletes_the_file(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(BODY[:-1] + bytes([BODY[-1] ^ 1]))
    message = refused(server, tmp_path)
    assert f"expected {DIGEST}; the file was deleted" in message
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".lock"]
    server.contents[PATH] = Content(BODY)
    assert fetch(server, tmp_path).path.read_bytes() == BODY


def test_a_body_without_a_length_is_checked_by_its_hash(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(BODY, promised_length=False)
    assert fetch(server, tmp_path).path.read_bytes() == BODY
    server.contents["/short.safetensors"] = Content(BODY, promised_length=False, drops=[1000])
    message = refused(server, tmp_path / "other", path="/short.safetensors")
    assert "its SHA-256 is" in message


REFUSALS = {
    404: "there is no such thing there",
    410: "there is no such thing there",
    401: "put a token of yours into SECRET_TOKEN",
    403: "put a token of yours into SECRET_TOKEN",
    418: "an unexpected answer, 418",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_is_asked_once_and_said_plainly(
    server: Server, tmp_path: Path, status: int
) -> None:
    server.contents[PATH] = Content(BODY, refusals=[(status, {})])
    message = refused(server, tmp_path)
    assert message.startswith(f"{server.url}{PATH}: ")
    assert REFUSALS[status] in message
    assert len(server.requests) == 1


def test_a_wrong_token_is_told_from_a_missing_one(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(BODY, token="right")
    message = refused(server, tmp_path, token="wrong")
    assert "the token in SECRET_TOKEN may not read it" in message
    assert "wrong" not in message
    assert fetch(server, tmp_path, token="right").path.read_bytes() == BODY


def test_a_token_does_not_follow_a_redirect_to_another_host(server: Server, tmp_path: Path) -> None:
    server.contents["/gate.safetensors"] = Content(
        b"", token="right", redirect=f"{server.other_url}{PATH}"
    )
    server.contents[PATH] = Content(BODY, drops=[1000])
    fetch(server, tmp_path, path="/gate.safetensors", token="right")
    there = server.gets(PATH)
    assert [item.host for item in there] == [f"localhost:{server.port}"] * 2
    assert not any("authorization" in item.headers for item in there)
    assert all("authorization" in item.headers for item in server.gets("/gate.safetensors"))
    assert there[1].status == 206


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path, status: int) -> None:
    soon = format_datetime(datetime.now(UTC) - timedelta(seconds=1), usegmt=True)
    refusals = [(status, {"Retry-After": "0"}), (status, {"Retry-After": soon})]
    server.contents[PATH] = Content(BODY, refusals=refusals)
    assert fetch(server, tmp_path).path.read_bytes() == BODY
    assert [item.status for item in server.requests] == [status, status, 200]


def test_a_server_that_asks_for_too_long_a_wait_ends_it(server: Server, tmp_path: Path) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    for asked in ("3600", later):
        server.contents[PATH] = Content(BODY, refusals=[(429, {"Retry-After": asked})])
        message = refused(server, tmp_path)
        assert re.search(r"answers 429 .*, asks to wait \d{4} seconds; try later", message)
    assert len(server.requests) == 2


def test_a_web_page_is_no_file(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(b"<html>log in", content_type="text/html; charset=utf-8")
    assert "sends a web page, not a file" in refused(server, tmp_path)


def test_a_compressed_body_is_refused(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(BODY, headers={"Content-Encoding": "gzip"})
    assert "sent as gzip" in refused(server, tmp_path)


def test_the_server_may_name_the_file(server: Server, tmp_path: Path) -> None:
    named = 'attachment; filename="../../a fox.safetensors"'
    server.contents["/download/7"] = Content(BODY, disposition=named)
    path = fetch(server, tmp_path, path="/download/7").path
    assert path.name == "a fox.safetensors"
    assert path.parent.parent == tmp_path
    for name, message in (("model.ckpt", "pickle"), ("model.zip", "no .safetensors file")):
        server.contents["/download/8"] = Content(BODY, disposition=f'attachment; filename="{name}"')
        assert message in refused(server, tmp_path / "other", path="/download/8")


def test_a_full_disk_is_noticed_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"a\.safetensors: .* are needed in .* GiB are free"):
        check_space(tmp_path, 2**60, "a.safetensors")


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    server.contents[PATH] = Content(BODY, stall_after=100_000)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(fetch, server, tmp_path)
        assert server.contents[PATH].stalled.wait(timeout=60)
        others = [
            subprocess.Popen(downloader(server, tmp_path), stdout=subprocess.PIPE) for _ in range(2)
        ]
        server.contents[PATH].released.set()
        paths = {str(first.result().path)} | {
            other.communicate()[0].decode().strip() for other in others
        }
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == BODY
    assert sum(item.sent for item in server.requests) == len(BODY)


def test_a_killed_download_is_resumed_by_the_next(server: Server, tmp_path: Path) -> None:
    content = server.contents[PATH] = Content(BODY, stall_after=49 * CHUNK)
    process = subprocess.Popen(downloader(server, tmp_path))
    assert content.stalled.wait(timeout=60)
    part = tmp_path / f"sha256-{DIGEST}" / "content.part"
    had = 49 * CHUNK
    while not part.is_file() or part.stat().st_size < had:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    content.stall_after = None
    content.released.set()
    assert fetch(server, tmp_path).path.read_bytes() == BODY
    last = server.requests[-1]
    assert last.headers["range"] == f"bytes={had}-"
    assert (last.status, last.sent) == (206, len(BODY) - had)


def test_one_that_was_killed_before_its_name_needs_no_byte_more(
    server: Server, tmp_path: Path
) -> None:
    server.contents[PATH] = Content(BODY)
    whole = fetch(server, tmp_path).path
    state = whole.parent / "content.json"
    content = json.loads(state.read_bytes())
    state.write_text(json.dumps({**content, "sha256": None}))
    whole.rename(whole.parent / "content.part")
    assert fetch(server, tmp_path).path.read_bytes() == BODY
    assert len(server.requests) == 1


def downloader(server: Server, cache: Path) -> list[str]:
    """A process that downloads the file and prints its path."""
    code = (
        "import sys; from pathlib import Path; "
        "from tests.engine_build.fetch.test_download import QUICK, Address, RemoteFile, download; "
        "url, digest, cache = sys.argv[1:]; "
        "file = RemoteFile(Address(url), sha256=digest); "
        "print(download(file, Path(cache), QUICK, show_progress=False).path)"
    )
    return [sys.executable, "-c", code, server.url + PATH, DIGEST, str(cache)]
