"""Who may do what with keys on, over a real server; and the cookie of a browser."""

import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import webuiapi
from starlette.datastructures import Headers

from api import gate
from api.gate import COOKIE, SESSION_SECONDS, caller, right_for, session_cookie
from api.keys import KeyFile, Scope
from tests.api.live import LiveServer, Options, refused, small

OPEN = ("/", "/page/start.js", "/health", "/ready", "/docs", "/docs/start.js", "/openapi.json")
NOWHERE = "0" * 32


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(tmp_path_factory.mktemp("keyed"))


@pytest.fixture(scope="module")
def callers(keys: KeyFile) -> dict[str, str]:
    return {scope.word: keys.create(scope.word, scope) for scope in Scope}


@pytest.fixture(scope="module")
def keyed(tiny_package: Path, keys: KeyFile, callers: dict[str, str]) -> Iterator[LiveServer]:
    """A server that takes nobody without a key."""
    assert callers
    options = Options(tiny_package, keys.path.parent, flags=("--keys",))
    with LiveServer(options) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_a_key_only_what_is_open_is_answered(keyed: LiveServer) -> None:
    client = keyed.api.client
    for path in OPEN:
        assert client.get(path).status_code == 200, path
    for path in ("/api/info", "/api/images", f"/api/jobs/{NOWHERE}", "/api/sse/gallery", "/x"):
        answer = client.get(path)
        assert "calotype keys create" in refused(answer, 401)["detail"]
        assert answer.headers["www-authenticate"] == "Bearer"
    refused(client.post("/api/generate", json=small()), 401)
    refused(client.delete(f"/api/images/{NOWHERE}.png"), 401)


@pytest.mark.parametrize("wrong", ["x", "calo_000000000000_" + "A" * 43, "Bearer"])
def test_a_wrong_key_is_told_from_none_and_is_not_repeated(keyed: LiveServer, wrong: str) -> None:
    answer = keyed.api.client.get("/api/info", headers=bearer(wrong))
    problem = refused(answer, 401)
    assert "none of this server's" in problem["detail"]
    assert len(wrong) < 9 or wrong not in answer.text
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_each_scope_includes_those_before_it(keyed: LiveServer, callers: dict[str, str]) -> None:
    def codes(scope: str) -> list[int]:
        client, headers = keyed.api.client, bearer(callers[scope])
        return [
            client.get("/api/images", headers=headers).status_code,
            client.post("/api/generate", json=small(steps=1), headers=headers).status_code,
            client.delete(f"/api/jobs/{NOWHERE}", headers=headers).status_code,
            client.delete(f"/api/images/{NOWHERE}.png", headers=headers).status_code,
        ]

    assert codes("read") == [200, 403, 403, 403]
    assert codes("generate") == [200, 202, 404, 403]
    assert codes("admin") == [200, 202, 404, 404]
    answer = keyed.api.client.post("/api/generate", json=small(), headers=bearer(callers["read"]))
    assert refused(answer, 403)["detail"] == (
        "the key read has the scope read; this takes generate"
    )


def test_metrics_are_for_this_machine_and_for_admins(
    keyed: LiveServer, callers: dict[str, str]
) -> None:
    client, proxied = keyed.api.client, {"X-Forwarded-For": "203.0.113.9"}
    assert client.get("/metrics").status_code == 200
    refused(client.get("/metrics", headers=proxied), 401)
    refused(client.get("/metrics", headers={**proxied, **bearer(callers["generate"])}), 403)
    admin = client.get("/metrics", headers={**proxied, **bearer(callers["admin"])})
    assert admin.status_code == 200


def test_a_browser_acts_for_a_key_by_a_cookie(keyed: LiveServer, callers: dict[str, str]) -> None:
    with httpx.Client(base_url=keyed.url, timeout=60) as browser:
        answer = browser.post("/api/session", json={"key": callers["generate"]})
        assert answer.status_code == 204
        cookie = answer.headers["set-cookie"]
        assert callers["generate"].rpartition("_")[2] not in cookie
        for flag in ("HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={SESSION_SECONDS}"):
            assert flag in cookie
        assert "Secure" not in cookie
        job_id = browser.post("/api/generate", json=small(steps=1)).json()["job_id"]
        with browser.stream("GET", f"/api/sse/{job_id}") as stream:
            assert stream.status_code == 200
        refused(browser.delete(f"/api/images/{NOWHERE}.png"), 403)
        ended = browser.delete("/api/session")
        assert "Max-Age=0" in ended.headers["set-cookie"]
        refused(browser.get("/api/info"), 401)


def test_behind_https_the_cookie_is_for_https_alone(
    keyed: LiveServer, callers: dict[str, str]
) -> None:
    host = keyed.url.removeprefix("http://")
    answer = keyed.api.client.post(
        "/api/session", json={"key": callers["read"]}, headers={"Origin": f"https://{host}"}
    )
    assert "Secure" in answer.headers["set-cookie"]
    keyed.api.client.cookies.clear()


@pytest.mark.parametrize("body", [{}, [], {"key": 1}, {"key": "x", "more": 1}, "calo_secret"])
def test_a_session_takes_one_key_and_never_repeats_it(keyed: LiveServer, body: object) -> None:
    answer = keyed.api.client.post("/api/session", json=body)
    assert refused(answer, 422)["errors"][0]["pointer"] == "/key"
    assert "calo_secret" not in answer.text
    refused(keyed.api.client.post("/api/session", json={"key": "calo_wrong"}), 401)


def test_a_revoked_key_and_its_session_end_at_once(keyed: LiveServer, keys: KeyFile) -> None:
    key = keys.create("brief", Scope.READ)
    with httpx.Client(base_url=keyed.url, timeout=60) as browser:
        assert browser.post("/api/session", json={"key": key}).status_code == 204
        assert browser.get("/api/info").status_code == 200
        keys.revoke("brief")
        refused(browser.get("/api/info"), 401)
        refused(browser.get("/api/info", headers=bearer(key)), 401)


def test_a_revoked_keys_streams_end_before_they_tell_more(
    keyed: LiveServer, keys: KeyFile, callers: dict[str, str]
) -> None:
    key = keys.create("listener", Scope.READ)
    with (
        httpx.Client(base_url=keyed.url, headers=bearer(key), timeout=60) as listener,
        listener.stream("GET", "/api/sse/gallery") as stream,
    ):
        lines = stream.iter_lines()
        assert "snapshot" in next(line for line in lines if line.startswith("data:"))
        keys.revoke("listener")
        painter = {**bearer(callers["generate"]), "Prefer": "wait=60"}
        drawn = keyed.api.client.post("/api/generate", json=small(steps=1), headers=painter)
        assert drawn.json()["status"] == "completed"
        assert next((line for line in lines if line.startswith("data:")), None) is None


def test_an_idempotency_key_is_its_callers_own(keyed: LiveServer, callers: dict[str, str]) -> None:
    def submit(scope: str, **body: object) -> httpx.Response:
        headers = {**bearer(callers[scope]), "Idempotency-Key": "one"}
        return keyed.api.client.post("/api/generate", json=small(steps=1, **body), headers=headers)

    first = submit("generate")
    other = submit("admin", seed=5)
    assert (first.status_code, other.status_code) == (202, 202)
    assert first.json()["job_id"] != other.json()["job_id"]
    assert submit("generate").json()["job_id"] == first.json()["job_id"]


def webui(keyed: LiveServer, key: str) -> webuiapi.WebUIApi:
    """A client of AUTOMATIC1111's API, which knows a user and a password."""
    url = f"{keyed.url}/sdapi/v1"
    return webuiapi.WebUIApi(baseurl=url, username="anybody", password=key)


def test_a_client_with_a_password_has_the_rights_of_its_key(
    keyed: LiveServer, callers: dict[str, str]
) -> None:
    reader, painter = webui(keyed, callers["read"]), webui(keyed, callers["generate"])
    assert reader.get_options()["sd_model_checkpoint"] == "tiny"
    assert reader.set_options({"sd_model_checkpoint": "tiny"}) == {}
    assert "this takes generate" in reader.interrupt()["detail"]
    with pytest.raises(RuntimeError, match="this takes generate"):
        reader.txt2img(**small())
    assert painter.txt2img(**small()).image.size == (64, 64)
    nobody = webui(keyed, "x").get_options()
    assert set(nobody) == {"error", "detail", "body", "errors"}
    client = keyed.api.client
    for wrong in ("Basic", "Basic !", "Basic " + b64encode(callers["read"].encode()).decode()):
        answer = client.get("/sdapi/v1/options", headers={"Authorization": wrong})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
    password = b64encode(f"me:{callers['read']}".encode()).decode()
    elsewhere = client.get("/api/info", headers={"Authorization": f"Basic {password}"})
    refused(elsewhere, 401)


def test_a_client_sees_and_interrupts_what_its_own_key_draws(
    keyed: LiveServer, callers: dict[str, str]
) -> None:
    mine, other = webui(keyed, callers["generate"]), webui(keyed, callers["admin"])
    with ThreadPoolExecutor(1) as threads:
        drawing = threads.submit(mine.txt2img, **small(steps=100, width=512, height=512))
        keyed.api.wait_until(lambda: mine.get_progress()["progress"] > 0)
        assert other.get_progress()["state"]["job_count"] == 0
        assert other.interrupt() == {}
        at = mine.get_progress()["progress"]
        keyed.api.wait_until(lambda: mine.get_progress()["progress"] > at)
        assert mine.skip() == {}
        assert drawing.result(timeout=240).images == []


def test_the_document_says_who_needs_a_key(keyed: LiveServer) -> None:
    document = keyed.api.client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"key", "session"}
    scopes = {
        (method, path): operation.get("x-scope")
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert scopes["get", "/health"] is None
    assert scopes["post", "/api/generate"] == "generate"
    assert scopes["delete", "/api/images/{filename}"] == "admin"
    assert scopes["get", "/api/sse/gallery"] == "read"


def test_what_is_new_is_closed() -> None:
    assert right_for("GET", "/api/tomorrow") is Scope.READ
    assert right_for("POST", "/api/tomorrow") is Scope.ADMIN
    assert right_for("GET", "/healthy") is Scope.READ
    assert right_for("HEAD", "/metrics") is Scope.ADMIN
    assert right_for("OPTIONS", "/api/generate") is None


def cookie_of(keys: KeyFile, name: str) -> str:
    key = next(key for key in keys.all() if key.name == name)
    return session_cookie(keys, key, secure=True).partition(";")[0]


def asks(keys: KeyFile, cookie: str) -> bool:
    return caller(keys, Headers({"cookie": cookie})) is not None


def test_a_cookie_that_was_changed_or_is_over_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyFile(tmp_path)
    keys.create("first", Scope.READ)
    keys.create("second", Scope.ADMIN)
    cookie, other = cookie_of(keys, "first"), cookie_of(keys, "second")
    assert asks(keys, cookie)
    name, identity, until, signature = (COOKIE, *cookie.partition("=")[2].split("."))
    wrong = (
        f"{name}={other.partition('=')[2].split('.')[0]}.{until}.{signature}",
        f"{name}={identity}.{int(until) + 1}.{signature}",
        f"{name}={identity}.{until}.{signature[:-1]}",
        f"{name}={identity}.{until}.ä",
        f"{name}={identity}.{'9' * 5000}.{signature}",
        f"{name}=",
        f"{name}",
        "\x00=;;",
    )
    for each in wrong:
        assert not asks(keys, each), each
    later = time.time() + SESSION_SECONDS + 1
    monkeypatch.setattr(gate.time, "time", lambda: later)
    assert not asks(keys, cookie)
