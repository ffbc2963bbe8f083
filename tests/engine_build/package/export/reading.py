"""Helpers for tests of sources: reading a source as a build does, and spoiling a copy."""

import json
import shutil
from pathlib import Path
from typing import Any

from engine_build.checkpoint.sources import open_folder
from engine_build.package.export.families import exporter_for
from engine_build.package.export.role import Choices, ModelExport


def read(source: Path, choices: Choices | None = None) -> ModelExport:
    folder = open_folder(source)
    return exporter_for(folder).read(folder, choices or Choices())


def spoilt(source: Path, target: Path, file: str, **changes: Any) -> Path:
    """A copy of a source with other values in one of its JSON files."""
    shutil.copytree(source, target)
    content = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps({**content, **changes}))
    return target
