"""What a model is drawn with on this machine: the backend, the target, and why.

`auto` takes the best verified target that the machine can run, and ONNX Runtime on the CPU where
there is none; what it passed over it says, each with its reason. A backend that was asked for by
name and cannot be had is an error, never a fallback.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from runtime.backends.devices import Devices, Gpu
from runtime.backends.protocol import Backend
from runtime.backends.tensorrt.flavour import gpu_fault, installed_flavour
from runtime.errors import BackendError, PackageError
from runtime.package.manifest import ModelPackage
from runtime.package.target import (
    BACKENDS,
    BackendName,
    Target,
    device_bytes,
    read_target,
    stale_parts,
    target_directories,
)

CPU = "onnxruntime-cpu"

BackendWish = Literal["auto", "tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-cpu"]
"""What a backend may be asked for as."""
WISHES: tuple[BackendWish, ...] = get_args(BackendWish)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was taken."""

    backend: str
    target: Target | None
    """None where the package's graphs are run as they are."""
    gpu: Gpu | None
    note: str
    """Why, in a line: what was taken, what was passed over."""

    @property
    def target_name(self) -> str:
        """The target's name, or the backend's where it needs none."""
        return self.target.name if self.target else self.backend

    @property
    def device(self) -> str:
        """What it runs on."""
        return self.gpu.name if self.gpu else "cpu"

    @property
    def precision(self) -> str:
        """What the denoiser computes its matrix products in."""
        if self.target is None:
            return "fp32"
        return self.target.record.identity.engines["denoiser"].precision


def choose(package: ModelPackage, wish: BackendWish, devices: Devices) -> Choice:
    """What to draw a model with. Raises BackendError where `wish` cannot be had."""
    if wish == CPU:
        return Choice(CPU, None, None, "ONNX Runtime on the CPU, as asked for")
    usable, passed_over = _targets(package, devices, wish)
    if usable:
        best = min(usable, key=_rank)
        others = [f"{target.name}: {_slower(target, best)}" for target in usable if target != best]
        note = "; ".join([f"{best.name} on {devices.first}", *_over([*others, *passed_over])])
        return Choice(best.record.identity.backend, best, devices.first, note)
    if wish != "auto":
        raise BackendError(_refusal(package, wish, devices, passed_over))
    return Choice(CPU, None, None, _cpu_note(package, devices, passed_over))


def awaiting_verification(
    package: ModelPackage, wish: BackendWish, devices: Devices
) -> Target | None:
    """The best target for this machine that only lacks a first run on its GPU, if there is one."""
    waiting = []
    for directory in target_directories(package.path):
        with suppress(PackageError):
            target = read_target(directory)
            if wish in ("auto", target.record.identity.backend) and _only_unverified(
                package, target, devices
            ):
                waiting.append(target)
    return min(waiting, key=_rank, default=None)


def open_backend(
    package: ModelPackage, choice: Choice, threads: int | None = None, *, captures: bool = True
) -> Backend:
    """The backend of a choice; a vendor is imported here. Raises BackendError.

    `threads` is for the CPU; None for as many as there are cores. Without `captures` nothing runs
    as a CUDA graph.
    """
    if choice.target is None:
        from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu

        return OnnxRuntimeCpu(package, threads)
    if choice.backend == "onnxruntime-cuda":
        from runtime.backends.device.cuda import Cuda
        from runtime.backends.onnxruntime.cuda import OnnxRuntimeCuda

        return OnnxRuntimeCuda(package, choice.target, Cuda(), choice.device, captures=captures)
    from runtime.backends.tensorrt.backend import open_tensorrt

    return open_tensorrt(package, choice.target, choice.device, captures=captures)


def compile_command(package: ModelPackage, backend: str) -> str:
    """What makes a target of this machine's GPU."""
    return f"engine-build compile {package.manifest.name} --backend {backend}"


def _targets(
    package: ModelPackage, devices: Devices, wish: BackendWish
) -> tuple[list[Target], list[str]]:
    """The targets that can serve, and a sentence for each that cannot."""
    usable, passed_over = [], []
    for directory in target_directories(package.path):
        try:
            target = read_target(directory)
        except PackageError as error:
            passed_over.append(str(error))
            continue
        if wish not in ("auto", target.record.identity.backend):
            continue
        reason = next(_faults(package, target, devices), None)
        if reason is None:
            usable.append(target)
        else:
            passed_over.append(f"{target.name}: {reason}")
    return usable, passed_over


def _faults(package: ModelPackage, target: Target, devices: Devices) -> Iterator[str]:
    """Why a target cannot serve here, the plainest first."""
    identity, gpu = target.record.identity, devices.first
    again = f"compile it again with: {target.record.command}"
    if gpu is None:
        yield devices.reason
        return
    if identity.compute_capability != gpu.compute_capability:
        yield f"it is for {identity.compute_capability}, and this machine has {gpu}"
    if fault := gpu_fault(identity.backend, gpu.compute_capability):
        yield fault
    try:
        installed = installed_version(identity.backend)
    except BackendError as error:
        yield str(error)
    else:
        if installed != identity.backend_version:
            yield (
                f"it was compiled by {identity.backend} {identity.backend_version}, and "
                f"{installed} is installed; {again}"
            )
    stale = stale_parts(target.record, package.manifest)
    if stale:
        yield f"{', '.join(stale)}; {again}"
    yield from _unverified(package, target)
    size = sum(device_bytes(target, package.manifest).values())
    if size > gpu.memory_bytes:
        yield (
            f"its engines take {size / 1e9:.1f} GB, and {gpu.name} has "
            f"{gpu.memory_bytes / 1e9:.1f} GB; compile one of a narrower --precision, or draw with "
            f"--backend {CPU}"
        )


def _only_unverified(package: ModelPackage, target: Target, devices: Devices) -> bool:
    never_ran = any(engine.check is None for engine in target.record.engines.values())
    return never_ran and len(list(_faults(package, target, devices))) == 1


def _unverified(package: ModelPackage, target: Target) -> Iterator[str]:
    verify = f"engine-build verify {package.manifest.name} {target.name}"
    for role, engine in sorted(target.record.engines.items()):
        check = engine.check
        if check is None:
            yield f"it has not run on a GPU yet; verify it with: {verify}"
            return
        if not check.passed:
            error = max(check.largest_error, check.refit_error or 0.0)
            yield f"its {role} is off by {error:.2g}, at most {check.tolerance:.2g} is allowed"


def installed_version(backend: BackendName) -> str:
    """The version of a backend here; nothing of it is loaded. Raises BackendError."""
    if backend != "onnxruntime-cuda":
        return installed_flavour(backend).version
    try:
        return version("onnxruntime-gpu")
    except PackageNotFoundError:
        raise BackendError(
            "onnxruntime-gpu is not installed; put it in the place of onnxruntime with: "
            "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        ) from None


def installed_backend(*compute_capabilities: str) -> BackendName | None:
    """The best backend that is installed here and runs on all these GPUs; None for none."""
    for name in BACKENDS:
        if any(gpu_fault(name, each) for each in compute_capabilities):
            continue
        with suppress(BackendError):
            installed_version(name)
            return name
    return None


def _rank(target: Target) -> tuple[int, float, str]:
    """The faster backend first, then the shorter step, as it was measured."""
    return BACKENDS.index(target.record.identity.backend), _step(target), target.name


def _step(target: Target) -> float:
    """Milliseconds of a step of what is served most; without a measurement, last."""
    times = target.record.engines["denoiser"].step_times
    return times[0].milliseconds if times else float("inf")


def _slower(target: Target, best: Target) -> str:
    if target.record.identity.backend != best.record.identity.backend:
        return f"{best.record.identity.backend} comes first"
    if _step(target) == _step(best):
        return "as good"
    return f"a step takes {_step(target):.1f} ms, not {_step(best):.1f}"


def _over(reasons: list[str]) -> list[str]:
    return [f"passed over {reason}" for reason in reasons]


def _refusal(
    package: ModelPackage, wish: BackendWish, devices: Devices, passed_over: list[str]
) -> str:
    start = f"--backend {wish} cannot be had for {package.manifest.name}: "
    if devices.first is None:
        return f"{start}{devices.reason}; draw with --backend {CPU}"
    if fault := gpu_fault(wish, devices.first.compute_capability):
        return start + fault
    if passed_over:
        return start + "; ".join(passed_over)
    return f"{start}it has no target for it; compile one with: {compile_command(package, wish)}"


def _cpu_note(package: ModelPackage, devices: Devices, passed_over: list[str]) -> str:
    if devices.first is None:
        return "; ".join(["ONNX Runtime on the CPU", devices.reason])
    reasons = _over(passed_over)
    if not reasons:
        gpu = devices.first.compute_capability
        command = compile_command(package, installed_backend(gpu) or BACKENDS[0])
        reasons = [f"there is no target for {devices.first}; compile one with: {command}"]
        reasons += _over([fault for name in BACKENDS if (fault := _installed_in_vain(name, gpu))])
    return "; ".join(["ONNX Runtime on the CPU", *reasons])


def _installed_in_vain(backend: BackendName, compute_capability: str) -> str | None:
    """The reason why a backend that is installed here runs nothing on this GPU."""
    with suppress(BackendError):
        installed_version(backend)
        return gpu_fault(backend, compute_capability)
    return None
