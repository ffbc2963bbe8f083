"""A model's manifest as tests need it where no graph is run."""

from dataclasses import replace

from runtime.package.file_record import FileRecord
from runtime.package.manifest import (
    Defaults,
    GraphCheck,
    LatentFormat,
    Limits,
    Manifest,
    MatrixPreview,
    RoleRecord,
    Source,
)

PREVIEW = MatrixPreview(matrix=((0.1, 0.2, 0.3),) * 4, bias=(0.5, 0.5, 0.5), explained=0.9)

MANIFEST = Manifest(
    name="paper",
    family="sdxl",
    description="A model that exists on paper.",
    source=Source("diffusers", "paper"),
    roles={
        "denoiser": RoleRecord(
            graph="denoiser.onnx",
            weights="w",
            check=GraphCheck(0.0, 1e-4, {}),
            parameters={},
            inputs={},
            axes={},
            precision="fp16",
        )
    },
    tokenizers={},
    latents=LatentFormat(channels=4, scale_factor=8),
    preview=PREVIEW,
    scheduler={"prediction_type": "epsilon", "beta_start": 0.00085, "beta_end": 0.012},
    family_options={"force_zeros_for_empty_prompt": True},
    limits=Limits(
        min_size=64, max_size=1024, multiple_of=32, max_batch=4, max_evaluations=8, max_clip_skip=8
    ),
    defaults=Defaults(128, 128, 20, 7.0, "euler_a", "default"),
    built_with={},
    files={"w": FileRecord("0" * 64, 1)},
)


def with_defaults(**changes: object) -> Manifest:
    """MANIFEST with other defaults."""
    return replace(MANIFEST, defaults=replace(MANIFEST.defaults, **changes))


def with_role(**changes: object) -> Manifest:
    """MANIFEST with another denoiser."""
    return replace(MANIFEST, roles={"denoiser": replace(MANIFEST.roles["denoiser"], **changes)})
