"""Jobs that have ended, as the answer of txt2img tells them (`Processed.js` of the web UI)."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from api.a1111.body import PENULTIMATE
from api.a1111.checkpoint import Checkpoint
from api.file_content import file_content
from runtime.jobs.protocol import Job
from runtime.plan.sampling.titles import SAMPLER_TITLES


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that has ended; without a picture where it was canceled."""

    request: Mapping[str, Any]
    content: str
    """The picture file in base64; empty for none."""
    infotext: str
    warnings: Sequence[str]


def read_finished(
    job: Job, find: Callable[[str], Path | None], warnings: Sequence[str]
) -> Finished:
    """A job with the file of its picture, where it has one that was not deleted since."""
    # Pillow is loaded with the first picture: a server starts without it.
    from runtime.picture_texts import read_texts

    content = file_content(find, job.image.filename) if job.image else None
    if content is None:
        return Finished(job.request, "", "", warnings)
    texts = read_texts(BytesIO(content))
    infotext = texts.parameters if texts else ""
    return Finished(job.request, b64encode(content).decode(), infotext, warnings)


def info(finished: Sequence[Finished], checkpoint: Checkpoint) -> dict[str, Any]:
    """The account of a request's pictures. Those that were interrupted are left out, unless all
    were."""
    told = [each for each in finished if each.content] or [*finished]
    first = told[0].request
    seeds = [each.request["seed"] for each in told]
    negative = first["negative_prompt"] or ""
    return {
        "prompt": first["prompt"],
        "all_prompts": [first["prompt"]] * len(told),
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * len(told),
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": seeds[0],
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": first["width"],
        "height": first["height"],
        "sampler_name": SAMPLER_TITLES[first["sampler"]],
        "cfg_scale": first["cfg_scale"],
        "steps": first["steps"],
        "batch_size": len(told),
        "restore_faces": False,
        "sd_model_name": checkpoint.name,
        "sd_model_hash": checkpoint.short_hash,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": None,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [each.infotext for each in told],
        "styles": [],
        "clip_skip": first["clip_skip"] + PENULTIMATE if first["clip_skip"] else 1,
        "is_using_inpainting_conditioning": False,
        "warnings": list(dict.fromkeys(text for each in finished for text in each.warnings)),
    }
