"""Fields of AUTOMATIC1111's txt2img that draw nothing here: ignored, or refused by name.

A field is ignored where no value of it changes the picture. One that would change the picture takes
the values by which it does not, and is refused with any other.
"""

from collections.abc import Mapping
from typing import Any

IGNORED = (
    *("do_not_save_samples", "do_not_save_grid", "save_images", "force_task_id", "comments"),
    *("override_settings_restore_afterwards", "denoising_strength", "subseed", "script_args"),
    *("firstphase_width", "firstphase_height", "hr_scale", "hr_upscaler", "hr_second_pass_steps"),
    *("hr_resize_x", "hr_resize_y", "hr_checkpoint_name", "hr_sampler_name", "hr_scheduler"),
    *("hr_prompt", "hr_negative_prompt", "hr_additional_modules", "hr_cfg", "hr_distilled_cfg"),
    *("s_tmin", "s_tmax", "refiner_switch_at"),
    # SillyTavern sends on its own address and password of the server.
    *("url", "auth"),
)
"""Of hires fix, of scripts and of a second seed, what acts only where these are on."""

IGNORED_SETTINGS = (
    *("show_progress_every_n_steps", "live_previews_enable", "show_progress_type"),
    *("live_preview_refresh_period", "live_previews_image_format", "enable_pnginfo"),
    *("save_images_add_number", "grid_save", "samples_save", "do_not_add_watermark"),
    *("return_grid", "do_not_show_images", "jpeg_quality", "webp_lossless"),
)

_OFF: tuple[object, ...] = (False, None)
_ZERO: tuple[object, ...] = (0, None)
_NOTHING: tuple[object, ...] = ("", None)

_NEUTRAL: Mapping[str, tuple[tuple[object, ...], str]] = {
    "enable_hr": (_OFF, "hires fix is not served: a picture is drawn at its size; give false"),
    "subseed_strength": (_ZERO, "variation seeds are not served; give 0"),
    "seed_resize_from_w": ((0, -1, None), "resized noise is not served; give 0"),
    "seed_resize_from_h": ((0, -1, None), "resized noise is not served; give 0"),
    "restore_faces": (_OFF, "faces are not restored; give false"),
    "tiling": (_OFF, "pictures that tile are not served; give false"),
    "script_name": (_NOTHING, "scripts are not served; leave it out"),
    "s_churn": (_ZERO, "samplers add no noise of their own choice; give 0"),
    "s_noise": ((1, None), "samplers add their noise as it is; give 1"),
    "s_min_uncond": (_ZERO, "guidance is not left out by a threshold; give 0"),
    "refiner_checkpoint": ((*_NOTHING, "None"), "the server draws with one model; leave it out"),
    "disable_extra_networks": (
        _OFF,
        "<lora:ID:WEIGHT> in a prompt acts; take it out of the prompt",
    ),
    "infotext": (_NOTHING, "send what the text says as fields"),
    "sampler_noise_scheduler_override": ((None,), "schedules are named by scheduler"),
}

_SCRIPTS = "scripts and extensions such as ControlNet and ADetailer are not served; leave it out"
_STYLES = "the server has no styles; write them into the prompt"


def neutral_fields() -> dict[str, Any]:
    """JSON Schema of these fields, by their names."""
    return {
        **{name: {"description": "Ignored."} for name in IGNORED},
        **{name: _only(values, refusal) for name, (values, refusal) in _NEUTRAL.items()},
        "styles": {"type": ["array", "null"], "maxItems": 0, "x-refusal": _STYLES},
        "alwayson_scripts": {
            "type": ["object", "null"],
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "args": {
                        "type": ["array", "null"],
                        "items": {"enum": [False, None, ""], "x-refusal": _SCRIPTS},
                        "x-refusal": _SCRIPTS,
                    }
                },
            },
            "description": "Scripts that are off: all their arguments are false.",
        },
    }


def neutral_settings() -> dict[str, Any]:
    """JSON Schema of the settings that draw nothing here, by their names."""
    png = "pictures are sent as PNG here; leave it out, or ask /api/generate for another format"
    return {
        **{name: {"description": "Ignored."} for name in IGNORED_SETTINGS},
        "samples_format": _only(("png", None), png),
        "eta_noise_seed_delta": _only(_ZERO, "noise is drawn from the seed alone; give 0"),
        "sd_vae": _only(
            ("Automatic", "None", *_NOTHING), "a model has one VAE, its own; leave it out"
        ),
        "randn_source": _only(("CPU", None), "noise is drawn on the CPU here; give CPU"),
    }


def _only(values: tuple[object, ...], refusal: str) -> dict[str, Any]:
    return {"enum": list(values), "x-refusal": refusal, "description": refusal.capitalize() + "."}
