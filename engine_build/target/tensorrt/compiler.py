"""Compiles one graph with TensorRT: the only file that calls its builder."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import onnx_ir as ir

from engine_build.target.precision import typed_graph
from engine_build.target.tensorrt.job import EngineJob
from engine_build.target.tensorrt.monitor import monitor
from runtime.backends.tensorrt.flavour import Flavour, installed_flavour
from runtime.backends.tensorrt.log import VendorLog
from runtime.errors import BuildError
from runtime.files import write_whole
from runtime.package.engine_record import Binding
from runtime.package.manifest import InputRecord
from runtime.package.target import Profile

if TYPE_CHECKING:
    import tensorrt_rtx as trt

    from runtime.backends.tensorrt.flavour import Api

Bindings = Mapping[str, Binding]
Report = Callable[[str, int, int], bool]
"""Told a phase's name, its step and its number of steps; False ends the compilation."""

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "UINT8": "uint8",
    "BOOL": "bool",
}


def compile_engine(job: EngineJob, report: Report) -> tuple[Bindings, Bindings]:
    """Write the job's engine; returns its inputs and its outputs.

    Raises BuildError, and BackendError where the flavour is not here.
    """
    flavour = installed_flavour(job.backend)
    api = flavour.load()
    log = VendorLog(api)
    builder = api.Builder(log.logger)
    network = builder.create_network(_network_flags(api, flavour))
    # It holds weights that the network refers to, and lives as long as that.
    parser = parse(api, network, log, job)
    inputs, outputs = _bindings(network)
    _check_inputs(job, inputs)
    config = builder.create_builder_config()
    _choose_gpu(api, flavour, config, job.compute_capability)
    config.clear_flag(api.BuilderFlag.TF32)  # The only one that is set without being asked for.
    for flag in job.flags:
        config.set_flag(getattr(api.BuilderFlag, flag))
    for name in job.refittable:
        if not network.mark_weights_refittable(name):
            raise BuildError(f"{job.role}: {job.backend} cannot make {name} refittable")
    for profile in job.profiles:
        _add_profile(api, builder, config, job, profile)
    cache = None if flavour.compiles_at_run_time else Path(job.timing_cache)
    if cache is not None:
        timings = config.create_timing_cache(cache.read_bytes() if cache.is_file() else b"")
        # A cache of another GPU or version is refused here; the file's name has both.
        config.set_timing_cache(timings, ignore_mismatch=False)
    config.progress_monitor = monitor(api, report)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"{job.role}: {job.backend} cannot compile it: {log.last_error}")
    _write(Path(job.engine), plan)
    if cache is not None:
        # All compilations for this GPU share it, and some run side by side.
        _write(cache, config.get_timing_cache().serialize())
    del parser
    return inputs, outputs


def typed_bytes(job: EngineJob) -> bytes:
    """The job's graph in the job's precision, serialized; its weights stay where they are."""
    model = typed_graph(ir.load(job.graph), job.precision, job.parameters)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def parse(
    api: "Api", network: "trt.INetworkDefinition", log: VendorLog, job: EngineJob
) -> "trt.OnnxParser":
    """Read the job's graph into an empty network; the parser must outlive it. Raises BuildError."""
    parser = api.OnnxParser(network, log.logger)
    # Its references are looked up beside this path, which need not exist.
    path = os.path.join(job.weights_folder, Path(job.graph).name)  # noqa: PTH118
    if not parser.parse(typed_bytes(job), path):
        faults = [parser.get_error(index) for index in range(parser.num_errors)]
        detail = "; ".join(" ".join(str(fault).split()) for fault in faults) or log.last_error
        raise BuildError(f"{job.role}: {job.backend} cannot read its graph: {detail}")
    return parser


def _network_flags(api: "Api", flavour: Flavour) -> int:
    """Creation flags by which the network takes the graph's own types, with every flavour."""
    return (
        1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        if flavour.typed_on_request
        else 0
    )


def _bindings(network: "trt.INetworkDefinition") -> tuple[Bindings, Bindings]:
    def named(tensor: "trt.ITensor") -> tuple[str, Binding]:
        dtype = _DTYPES.get(tensor.dtype.name, tensor.dtype.name)
        shape = tensor.shape
        return tensor.name, Binding(dtype, tuple(shape[at] for at in range(len(shape))))

    inputs = dict(named(network.get_input(index)) for index in range(network.num_inputs))
    outputs = dict(named(network.get_output(index)) for index in range(network.num_outputs))
    return inputs, outputs


def _check_inputs(job: EngineJob, found: Bindings) -> None:
    """Refuse a network whose inputs are not those of the manifest, which the runtime feeds."""
    expected = {name: _binding(record) for name, record in job.inputs.items()}
    if found != expected:
        raise BuildError(f"{job.role}: the network takes {found}, but the manifest says {expected}")


def _binding(record: InputRecord) -> Binding:
    shape = tuple(-1 if isinstance(extent, str) else extent for extent in record.shape)
    return Binding(record.dtype, shape)


def _choose_gpu(
    api: "Api", flavour: Flavour, config: "trt.IBuilderConfig", compute_capability: str
) -> None:
    if not flavour.names_gpus:
        return  # It compiles for the GPU at hand; the caller has seen that it is the one named.
    name = compute_capability.replace("sm_", "SM")
    capability = getattr(api.ComputeCapability, name, None)
    if capability is None:
        known = ", ".join(
            each.lower().replace("sm", "sm_")
            for each in sorted(api.ComputeCapability.__members__)
            if each.startswith("SM")
        )
        raise BuildError(
            f"{flavour.name} {flavour.version} does not compile for {compute_capability}; "
            f"it knows {known}"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(capability, 0)


def _add_profile(
    api: "Api",
    builder: "trt.Builder",
    config: "trt.IBuilderConfig",
    job: EngineJob,
    profile: Profile,
) -> None:
    shapes = builder.create_optimization_profile()
    for name, record in job.inputs.items():
        if any(isinstance(extent, str) for extent in record.shape):
            shapes.set_shape(
                name,
                *(
                    api.Dims(
                        tuple(
                            getattr(profile[extent], bound) if isinstance(extent, str) else extent
                            for extent in record.shape
                        )
                    )
                    for bound in ("smallest", "best", "largest")
                ),
            )
    if config.add_optimization_profile(shapes) < 0:
        raise BuildError(f"{job.role}: {job.backend} refuses the profile {profile}")


def _write(path: Path, content: "trt.IHostMemory") -> None:
    # The vendor's stub leaves out the buffer protocol, which the content has.
    write_whole(path, memoryview(cast("Any", content)))
