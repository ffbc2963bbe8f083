"""From a reference to a LoRA to the pack that is to be made of it."""

from engine_build.fetch.located import Fetching
from engine_build.fetch.references import parse
from engine_build.fetch.resolve import resolve
from engine_build.lora.formats import read_lora
from engine_build.lora.packs import LoraRequest
from engine_build.preset import PresetLora


def fetch_lora(lora: PresetLora, fetching: Fetching) -> LoraRequest:
    """The pack that is to be made, its file fetched and found to be a LoRA.

    A host that knows the LoRA gives the pack its name, and an id and trigger words where `lora` has
    none.
    Raises SourceError and BuildError.
    """
    located = resolve(parse(lora.reference), fetching)
    read_lora(located.path)
    identity, triggers, release = lora.id, lora.trigger, located.release
    if release is not None:
        identity = identity or f"civitai_{release.id}"
        triggers = ", ".join(release.triggers) if triggers is None else triggers
    return LoraRequest(
        path=located.path,
        reference=located.origin.reference,
        id=identity,
        name=release.name if release is not None else None,
        triggers=triggers,
        weight=lora.weight,
        trigger_weight=lora.trigger_weight,
    )
