"""Counts and times the reading, hashing and opening of a package of published size.

    python -m benchmarks.opening flux-dev --work FOLDER

The weights are holes (`benchmarks.hollow_package`): hashing them costs the processor the same as
others, and the disk nothing. A *first* opening knows no hash, a *second* knows them all. Each is
done by processes of their own, one after the other as a server, its worker and a compilation do,
and every file that one of them reads for its hash is counted.

Sessions are opened on the CPU: as a worker opens them (*served*), and with ONNX Runtime's
optimisations off, where weights stay mapped (*mapped*). A session that takes more than
`--memory-gb` is left out by name: served, every weight of 16 bits becomes one of 32.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.frame import RESULTS, Figure, benchmark_parser, keep
from benchmarks.memory import held_gb
from benchmarks.serving import Server, ServerOptions
from runtime.package.file_record import FileRecord, record_file
from runtime.package.hashes import KnownHashes, forget_hashes
from runtime.package.manifest import ModelPackage, read_package
from runtime.plan.model import open_model

DEMO = Path(__file__).parents[1] / "engines"
PROCESSES = ("server", "worker", "compilation")

PAUSE = 0.01
"""Seconds between two looks at the memory."""

DISK = 6e9
"""Bytes a second of a local NVMe disk: an assumption."""
UPLOAD = 50e9
"""Bytes a second to a GPU over PCIe 5 from pinned memory: an assumption."""
PAGEABLE = 10e9
"""Bytes a second to a GPU from mapped files, which the driver copies first: an assumption."""


def main() -> None:
    """Measure what was asked for; the result is written after each part."""
    arguments = _parser().parse_args()
    if arguments.part:
        print(json.dumps(_part(arguments)))
        return
    # Here, since a part of the measurement needs no PyTorch.
    from benchmarks.hollow_package import hollow_package

    package = hollow_package(arguments.model, arguments.work)
    output = arguments.output or RESULTS / f"opening_{arguments.model}.json"
    result: dict[str, Any] = {"model": arguments.model, **_sizes(package)}

    def found(name: str, value: object) -> None:
        result[name] = value
        keep(result, output, _figures(result))
        print(f"{name}: {json.dumps(value)}", flush=True)

    forget_hashes(package.path)
    found("hash_one_thread", _hash_in_turns(package))
    for opening in ("first", "second"):
        found(f"{opening}_opening", {each: _run(arguments, "open") for each in PROCESSES})
    found("sessions", _sessions(arguments, package))
    found("start_of_the_demo", _demo(arguments.work))
    found("arithmetic", _arithmetic(result))


def _figures(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Figures of what was measured so far."""
    found = {}
    for opening in ("first_opening", "second_opening"):
        for process, one in result.get(opening, {}).items():
            if "seconds" in one:
                found[f"{opening}, {process}"] = Figure("s", (one["seconds"],))
    for name, value in result.get("start_of_the_demo", {}).items():
        found[f"start of the demo: {name.removesuffix('_seconds')}"] = Figure("s", (value,))
    return found


def _files(package: ModelPackage) -> dict[Path, FileRecord]:
    listed = {**package.manifest.files, **package.manifest.external_files}
    return {package.file(name): record for name, record in listed.items()}


def _sizes(package: ModelPackage) -> dict[str, Any]:
    sizes = {path: record.size_bytes for path, record in _files(package).items()}
    return {
        "files": len(sizes),
        "bytes": sum(sizes.values()),
        "largest_bytes": max(sizes.values()),
    }


class _Clock:
    """Seconds, and the processor's seconds of this process, since the clock was made."""

    def __init__(self) -> None:
        self._began, self._worked = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Both, rounded. On a machine with other work the second is the one to compare."""
        return {
            "seconds": round(time.perf_counter() - self._began, 2),
            "processor_seconds": round(time.process_time() - self._worked, 2),
        }


def _hash_in_turns(package: ModelPackage) -> dict[str, float]:
    clock = _Clock()
    for path in _files(package):
        record_file(path)
    return clock.read()


def _run(arguments: argparse.Namespace, part: str, *more: str) -> dict[str, Any]:
    """Figures of a part, measured in a process of its own; its last words where it failed."""
    command = [sys.executable, "-m", "benchmarks.opening", arguments.model]
    command += ["--work", str(arguments.work), "--memory-gb", str(arguments.memory_gb)]
    command += ["--part", part, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    return {"left_out": (done.stderr.strip().splitlines() or ["it was killed"])[-1][:200]}


def _part(arguments: argparse.Namespace) -> dict[str, Any]:
    engines = arguments.work / "engines"
    if arguments.part == "open":
        return _open_package(engines, arguments.model)
    package = read_package(engines, arguments.model)
    return _open_session(package, arguments.role, arguments.part, arguments.memory_gb)


def _open_package(engines: Path, name: str) -> dict[str, Any]:
    """Open a package as every process does; files read for their hash, and bytes read in all."""
    read, hashed = KnownHashes.read, Counter[str]()

    def counted(known: KnownHashes, path: Path, *rest: Any) -> str:
        hashed[str(path)] += 1
        return read(known, path, *rest)

    KnownHashes.read = counted  # type: ignore[method-assign, assignment]
    before, clock = _read_bytes(), _Clock()
    open_model(engines, name)
    return {
        **clock.read(),
        "files_hashed": hashed.total(),
        "most_often": max(hashed.values(), default=0),
        "bytes_read": _read_bytes() - before,
    }


def _read_bytes() -> int:
    """Bytes that this process has read, from the page cache or a disk."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def _sessions(arguments: argparse.Namespace, package: ModelPackage) -> dict[str, Any]:
    return {
        role: {how: _run(arguments, how, "--role", role) for how in ("mapped", "served")}
        for role in package.manifest.roles
    }


def _open_session(package: ModelPackage, role: str, how: str, limit_gb: float) -> dict[str, Any]:
    import onnxruntime

    from runtime.backends.onnxruntime.cpu import open_session

    threading.Thread(target=_end_beyond, args=[limit_gb], daemon=True).start()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if how == "mapped":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = package.file(package.manifest.roles[role].graph)
    clock = _Clock()
    session = open_session(graph, options, package.weights_folder(role))
    found = clock.read()
    held = held_gb(os.getpid())
    if held > limit_gb:
        raise SystemExit(f"{role}: {held:.2f} GB, more than {limit_gb}")
    return {
        **found,
        "inputs": len(session.get_inputs()),
        "held_gb": round(held, 2),
    }


def _end_beyond(limit_gb: float) -> None:
    """End the process as soon as it holds more; a limit of the system's would count mapped files,
    which ONNX Runtime maps as if it wrote to them.
    """
    while held_gb(os.getpid()) <= limit_gb:
        time.sleep(PAUSE)
    print(f"more than {limit_gb} GB", file=sys.stderr, flush=True)
    os._exit(1)


def _demo(work: Path) -> dict[str, Any]:
    """Least seconds of three starts of `calotype serve` until the API answers and until it is
    ready, with a model of no size to speak of.
    """
    options = ServerOptions(DEMO, "demo", work / "data", "onnxruntime-cpu")
    api, ready = [], []
    for _ in range(3):
        with Server(options) as server:
            api.append(round(server.api_seconds, 2))
            ready.append(round(server.ready_seconds, 2))
    return {"api_seconds": min(api), "ready_seconds": min(ready)}


def _arithmetic(result: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds until readiness on a machine with a GPU: a prediction, from the figures measured here
    and from assumptions. Where a file has a thread to itself, hashing takes as long as that of the
    largest does.
    """
    size = result["bytes"]
    rate = size / result["first_opening"]["server"]["processor_seconds"]
    hashing = result["largest_bytes"] / rate
    opened = [each["mapped"] for each in result["sessions"].values()]
    graphs = sum(each.get("processor_seconds", 0.0) for each in opened)
    start = result["start_of_the_demo"]
    fixed = start["ready_seconds"] + graphs
    reading = size / DISK
    # Files are read ahead from about when the API answers.
    left_to_read = max(0.0, reading - (start["ready_seconds"] - start["api_seconds"]))
    found = {
        "hashed_bytes_a_second_of_one_thread": rate,
        "hash_of_the_largest_file": hashing,
        "start_and_graphs": fixed,
        "read_from_disk": reading,
        "upload_from_pinned_memory": size / UPLOAD,
        "upload_from_mapped_files": size / PAGEABLE,
        "second_opening": fixed + max(left_to_read, size / PAGEABLE),
        "second_opening_uploading_from_pinned_memory": fixed + max(left_to_read, size / UPLOAD),
        "second_opening_not_reading_ahead": fixed + max(reading, size / PAGEABLE),
        "first_opening": fixed + max(reading, hashing) + size / PAGEABLE,
        "every_opening_before": fixed + max(reading, hashing) + hashing + size / PAGEABLE,
    }
    return {
        "assumed_bytes_a_second": {"disk": DISK, "pinned": UPLOAD, "mapped": PAGEABLE},
        **{name: round(value, 2) for name, value in found.items()},
        "left_out": "CUDA's context, what ONNX Runtime optimises for the GPU, the first pictures",
    }


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("model", help="a name of benchmarks.real_size")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--memory-gb", type=float, default=6.0, help="default: 6")
    parser.add_argument("--part", choices=("open", "mapped", "served"), help=argparse.SUPPRESS)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
