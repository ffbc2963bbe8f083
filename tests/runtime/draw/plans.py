"""Plans of a model that exists on paper, for what is written about a picture that was drawn."""

from runtime.package.manifest import Manifest
from runtime.package.pack import LoraSet
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.plan import Plan
from runtime.plan.request import GenerateRequest
from runtime.plan.triggers import with_triggers
from tests.tiny.manifests import MANIFEST


def paper_plan(
    request: GenerateRequest, loras: LoraSet = (), manifest: Manifest = MANIFEST
) -> Plan:
    """The plan of a request, but for the tokens of its prompts."""
    return Plan(
        request=request,
        prompt=with_triggers(request, loras),
        loras=loras,
        prompts=(),
        table=Sdxl().table(request, manifest),
        mixes=(),
        latent_shape=(4, request.height // 8, request.width // 8),
    )
