"""Reasons why a target or a backend cannot draw on this machine, in sentences with a remedy."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from runtime.backends.devices import Devices
from runtime.backends.room import target_needs
from runtime.backends.rows import CPU, TARGET_BACKENDS, BackendRow, installed_backend, row_of
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage
from runtime.package.target import Target, stale_parts


def target_faults(package: ModelPackage, target: Target, devices: Devices) -> Iterator[str]:
    """Every reason why a target cannot serve here, the plainest first."""
    identity, gpu = target.record.identity, devices.first
    again = f"compile it again with: {target.record.command}"
    if gpu is None:
        yield devices.reason
        return
    if identity.compute_capability != gpu.compute_capability:
        yield f"it is for {identity.compute_capability}, and this machine has {gpu}"
    row = row_of(identity.backend)
    if fault := row.gpu_fault(gpu.compute_capability):
        yield fault
    try:
        installed = row.installed_version()
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
    # The text encoders may be on the CPU: the room that is free decides, once the GPU is opened.
    size = target_needs(target, package.manifest).weights_at("cpu")
    if size > gpu.memory_bytes:
        yield (
            f"its engines take {size / 1e9:.1f} GB without text encoders, and {gpu.name} has "
            f"{gpu.memory_bytes / 1e9:.1f} GB; compile one of a narrower --precision, or draw with "
            f"--backend {CPU}"
        )


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


def refusal(
    package: ModelPackage, backend: BackendRow, devices: Devices, reasons: Sequence[str]
) -> str:
    """The reason why a requested backend cannot be had; `reasons` are the faults of its targets."""
    start = f"--backend {backend.name} cannot be had for {package.manifest.name}: "
    if devices.first is None:
        return f"{start}{devices.reason}; draw with --backend {CPU}"
    if fault := backend.gpu_fault(devices.first.compute_capability):
        return start + fault
    if reasons:
        return start + "; ".join(reasons)
    return f"{start}it has no target for it; compile one with: {compile_command(package, backend)}"


def cpu_notes(package: ModelPackage, devices: Devices, reasons: Sequence[str]) -> list[str]:
    """The reasons why `auto` takes the CPU; `reasons` are the faults of the package's targets."""
    if devices.first is None:
        return [devices.reason]
    notes = passed_over(reasons)
    if notes:
        return notes
    gpu = devices.first.compute_capability
    command = compile_command(package, installed_backend(gpu) or TARGET_BACKENDS[0])
    in_vain = [fault for row in TARGET_BACKENDS if (fault := _installed_in_vain(row, gpu))]
    return [
        f"there is no target for {devices.first}; compile one with: {command}",
        *passed_over(in_vain),
    ]


def passed_over(reasons: Sequence[str]) -> list[str]:
    """The reasons as parts of a choice's note: `passed over REASON`."""
    return [f"passed over {reason}" for reason in reasons]


def compile_command(package: ModelPackage, backend: BackendRow) -> str:
    """The command that compiles a target for this machine's GPU."""
    return f"engine-build compile {package.manifest.name} --backend {backend.name}"


def _installed_in_vain(backend: BackendRow, compute_capability: str) -> str | None:
    """The reason why a backend that is installed here runs nothing on this GPU."""
    with suppress(BackendError):
        backend.installed_version()
        return backend.gpu_fault(compute_capability)
    return None
