"""The kernels that attention takes on Hopper in bf16, by the real onnxruntime-gpu on stand-ins."""

import onnx
import onnx.parser
import pytest

from tests.rehearsal.build import build
from tests.rehearsal.stage import Stage, behind, needs_library

pytestmark = needs_library

# Z-Image's joint attention at 1024x1024, with a caption of 128 tokens.
TOKENS, WIDTH = 4224, 3840


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    stand_ins = build(tmp_path_factory.mktemp("stand_ins"))
    return Stage(stand_ins, tmp_path_factory.mktemp("graphs"), latents=128)


def graph(declared: str, given: str) -> onnx.ModelProto:
    kind = f"bfloat16[2, {TOKENS}, {WIDTH}]"
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
        agraph ({kind} q, {kind} k, {kind} v{declared}) => ({kind} y) {{
            y = com.microsoft.MultiHeadAttention <num_heads = 30> (q, k, v{given})
        }}
    """)


@pytest.mark.parametrize(
    ("name", "declared", "given", "others"),
    [
        ("whole", "", "", 0),
        # Numbers of keys, as Z-Image's: the numbers of queries are written beside them.
        ("counted", ", int32[2] keys", ", , keys", 1),
        # Chroma's bias, for all heads at once.
        ("biased", f", bfloat16[2, 1, {TOKENS}, {TOKENS}] bias", ", , , bias", 0),
    ],
)
def test_cudnn_attends(stage: Stage, name: str, declared: str, given: str, others: int) -> None:
    onnx.save(graph(declared, given), stage.folder / f"{name}.onnx")
    seen, log = stage.rehearsed(name, stage.folder, "bare")
    assert seen["captured"] == "ran"
    kernels = [line for line in behind(log, "behind") if " kernel " in line]
    assert sum("cudnnBackendExecute" in line for line in kernels) == 2
    assert sum("Fill" in line for line in kernels) == len(kernels) - 2 == 2 * others
