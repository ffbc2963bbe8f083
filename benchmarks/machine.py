"""Facts about the machine that a result was measured on, and the file of a result with them."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

DISTRIBUTIONS = (
    "calotype",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "cuda-bindings",
    "nvidia-cudnn-cu13",
    "torch",
    "diffusers",
    "transformers",
)


def machine() -> dict[str, Any]:
    """Processor, memory, system and versions of libraries, for a result's entry `machine`."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in DISTRIBUTIONS if (found := _version(name))},
    }


def stamped(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result with the time, the machine and its load now."""
    return {
        **result,
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**machine(), "gpu": gpu()},
    }


def write(result: Mapping[str, Any], path: Path) -> None:
    """Write a result, stamped, as JSON; the folder is made where that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stamped(result), indent=1) + "\n")


def gpu() -> str | None:
    """Name, memory and driver of the first GPU, as `nvidia-smi` gives them; None without a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.partition("\n")[0] or None


def _field(file: str, name: str) -> str | None:
    path = Path(file)
    if not path.is_file():
        return None
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
