"""The families that can be built: one row each, by the pipeline class that diffusers gives them."""

from engine_build.checkpoint.sources import ModelSource
from engine_build.package.export.chroma import ChromaExporter
from engine_build.package.export.flux import FluxExporter
from engine_build.package.export.role import FamilyExporter
from engine_build.package.export.sdxl import SdxlExporter
from engine_build.package.export.zimage import ZImageExporter
from runtime.errors import SourceError

_EXPORTERS: dict[str, type[FamilyExporter]] = {
    "StableDiffusionXLPipeline": SdxlExporter,
    "FluxPipeline": FluxExporter,
    "ChromaPipeline": ChromaExporter,
    "ZImagePipeline": ZImageExporter,
}


def exporter_for(source: ModelSource) -> FamilyExporter:
    """The exporter of a source's family. Raises SourceError where we serve none such."""
    exporter = _EXPORTERS.get(source.pipeline_class)
    if exporter is None:
        raise SourceError(
            f"{source.path}: of class {source.pipeline_class}, expected {' or '.join(_EXPORTERS)}"
        )
    return exporter()
