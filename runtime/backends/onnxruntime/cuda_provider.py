"""A session of ONNX Runtime's CUDA provider as the vendor opens and runs it, with our settings.

The provider's own CUDA graphs are not used: they are kept until the session ends, are captured in a
mode that forbids other threads, such as that of previews, to allocate meanwhile, and are launched
unproven. During a capture of the stream, also one of ours, kernels keep the pinned tables that they
copy to the device (since 1.31); otherwise a run frees the tables at its end, after the wait for the
device.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/cuda/cuda_graph.cc
https://github.com/microsoft/onnxruntime/pull/32121
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.backends.onnxruntime.operator_library import register_operators
from runtime.errors import BackendError
from runtime.package.target import TF32, EngineIdentity

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

PROVIDER = "CUDAExecutionProvider"

_NO_GRAPH = "-1"
"""Tells the provider not to capture a run by itself."""

_ATTENTION = "15"
"""The provider's fused kernels of attention, cuDNN's (8) among them, which it takes by itself from
sm_90 on alone: on older GPUs no other kernel takes a number of keys, and attention would be three
kernels with gigabytes of scores between them. `AttentionBackend` in
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/contrib_ops/cpu/bert/attention_common.h
"""


@dataclass(frozen=True, slots=True)
class Source:
    """The serialized graph that a session is opened from, and the places of its files."""

    model: bytes
    path: Path
    """The file that the model was read from."""
    folder: Path
    """The folder of its weights."""


def open_session(
    source: Source, engine: EngineIdentity, stream: int, *, captures: bool
) -> "InferenceSession":
    """Open a graph on the device, on a stream of ours. `engine` is how the graph was compiled.

    With `captures`, only a graph whose runs can be captured is opened. Raises BackendError where
    the provider was not taken or lacks operators of ours, and ONNX Runtime's own errors.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # A compiled graph leaves its weights where the package has them.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(source.folder)
    )
    # By default, weights lie in the session's arena, which doubles whenever it is full: an arena
    # with 24 GB of weights grew to 32 GB, and then by 32 GB more for activations.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    # With memory patterns each larger shape would allocate one more piece for all activations.
    options.enable_mem_pattern = False
    register_operators(options, source.model)
    settings = {
        "user_compute_stream": str(stream),
        "enable_cuda_graph": str(int(captures)),
        "arena_extend_strategy": "kSameAsRequested",
    }
    if engine.precision == "fp32" and TF32 not in engine.flags:
        # In engines of 16 bits this would keep the products left in fp32 off the tensor cores.
        settings["use_tf32"] = "0"
    if engine.precision == "bf16":
        settings["sdpa_kernel"] = _ATTENTION
    # With the fallback, ONNX Runtime takes the CPU where the provider cannot be had, and says so in
    # a line on standard output.
    session = onnxruntime.InferenceSession(
        source.model, options, providers=[(PROVIDER, settings)], enable_fallback=0
    )
    _check_provider(session, source.path)
    return session


def run(session: "InferenceSession", binding: "IOBinding", *, capturing: bool) -> None:
    """Enqueue a run. Raises ONNX Runtime's own errors.

    Outside of a capture, a run waits for the device at its end: without the wait, the pinned memory
    of the kernels' tables would never be given back, and every run would take more.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    entry = "disable_synchronize_execution_providers"
    options.add_run_config_entry(entry, str(int(capturing)))
    options.add_run_config_entry("gpu_graph_id", _NO_GRAPH)
    session.run_with_iobinding(binding, options)


def _check_provider(session: "InferenceSession", path: Path) -> None:
    # Where the provider's libraries are missing, ONNX Runtime takes the CPU, and says nothing.
    found = session.get_providers()
    if found[0] != PROVIDER:
        raise BackendError(
            f"{path}: ONNX Runtime took {', '.join(found)}, asked for {PROVIDER}; "
            "install onnxruntime-gpu and the CUDA libraries that it names in its log"
        )
