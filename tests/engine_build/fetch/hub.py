"""Puts a folder on a loopback server as a repository of the Hugging Face Hub."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tests.engine_build.fetch.server import Content, Server

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def publish(
    server: Server, repository: str, files: Mapping[str, bytes], *, token: str | None = None
) -> None:
    """Serve these files at `COMMIT`, which is `main`; weights are in LFS, as on the Hub."""
    siblings = []
    for name, body in files.items():
        digest = hashlib.sha256(body).hexdigest()
        item: dict[str, object] = {"rfilename": name, "size": len(body), "blobId": digest[:40]}
        if name.endswith(".safetensors"):
            item["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 130}
        siblings.append(item)
        server.contents[f"/{repository}/resolve/{COMMIT}/{name}"] = Content(
            body, headers={"X-Repo-Commit": COMMIT}, token=token
        )
    answer = {"id": repository, "sha": COMMIT, "siblings": siblings}
    body = json.dumps(answer).encode()
    for path in ("", "/revision/main", f"/revision/{COMMIT}"):
        server.contents[f"/api/models/{repository}{path}?blobs=true"] = Content(
            body, content_type="application/json", token=token
        )


def files_of(folder: Path) -> dict[str, bytes]:
    """The files below a folder, by their paths in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
