"""Puts a version of a model on a loopback server as Civitai's API answers it."""

import hashlib
import json
from dataclasses import dataclass, field

from tests.engine_build.fetch.server import Content, Server

MODEL = 827184
VERSION = 2514310


@dataclass
class Published:
    """A version with one file, and what is to be different about it."""

    body: bytes
    name: str = "paper.safetensors"
    words: list[str] = field(default_factory=lambda: ["ink wash, paper", "paper"])
    files: list[dict[str, object]] = field(default_factory=list)
    """Further ones, before it."""
    token: str | None = None
    host: str = ""
    """Of the download; by default the API's own."""

    def on(self, server: Server) -> str:
        """Serve it; returns the path of its download."""
        download = f"/api/download/models/{VERSION}"
        version = {
            "id": VERSION,
            "modelId": MODEL,
            "name": "v2.0",
            "baseModel": "Illustrious",
            "trainedWords": self.words,
            "model": {"name": "Paper", "type": "Checkpoint", "nsfw": False},
            "files": [
                *self.files,
                {
                    "id": 1,
                    "name": self.name,
                    "sizeKB": len(self.body) / 1024,
                    "type": "Model",
                    "primary": True,
                    "metadata": {"format": "SafeTensor", "fp": "fp16", "size": "pruned"},
                    "hashes": {"SHA256": hashlib.sha256(self.body).hexdigest().upper()},
                    "downloadUrl": (self.host or server.url) + download,
                },
            ],
        }
        model = {"id": MODEL, "name": "Paper", "modelVersions": [{"id": VERSION}, {"id": 1}]}
        answers = {f"model-versions/{VERSION}": version, f"models/{MODEL}": model}
        for path, content in answers.items():
            server.contents[f"/api/v1/{path}"] = Content(
                json.dumps(content).encode(), content_type="application/json; charset=utf-8"
            )
        server.contents[download] = Content(self.body, token=self.token)
        return download
