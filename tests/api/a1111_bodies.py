"""Bodies of txt2img as known clients send them, and those that are refused."""

from typing import Any

BODIES: dict[str, dict[str, Any]] = {
    # open-webui/open-webui, backend/open_webui/routers/images.py, `image_generations`: its form,
    # IMAGE_STEPS, and AUTOMATIC1111_PARAMS of an administrator.
    "Open WebUI": {
        "prompt": "a red apple",
        "batch_size": 1,
        "width": 64,
        "height": 64,
        "steps": 2,
        "negative_prompt": "blurry",
        "sampler_name": "Euler a",
        "scheduler": "Automatic",
        "cfg_scale": 6.5,
    },
    # Without settings it sends these four alone.
    "Open WebUI, plain": {"prompt": "a red apple", "batch_size": 1, "width": 64, "height": 64},
    # SillyTavern/SillyTavern, public/scripts/extensions/stable-diffusion/index.js,
    # `generateAutoImage`; src/endpoints/stable-diffusion.js passes it on whole, address and
    # password included.
    "SillyTavern": {
        "url": "http://127.0.0.1:8000",
        "auth": "",
        "prompt": "a red apple",
        "negative_prompt": "low quality",
        "sampler_name": "DDIM",
        "scheduler": "normal",
        "steps": 2,
        "cfg_scale": 7,
        "width": 64,
        "height": 64,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 1.0,
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 0,
        "override_settings": {"CLIP_stop_at_last_layers": 1},
        "override_settings_restore_afterwards": True,
        "clip_skip": 1,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
    },
}

REFUSED: list[tuple[str, object, str, str]] = [
    ("enable_hr", True, "enable_hr", "hires fix is not served"),
    ("subseed_strength", 0.5, "subseed_strength", "variation seeds are not served"),
    ("seed_resize_from_w", 64, "seed_resize_from_w", "give 0"),
    ("restore_faces", True, "restore_faces", "faces are not restored"),
    ("tiling", True, "tiling", "pictures that tile"),
    ("styles", ["photo"], "styles", "write them into the prompt"),
    ("script_name", "x/y/z plot", "script_name", "scripts are not served"),
    ("s_churn", 1, "s_churn", "give 0"),
    ("s_noise", 1.1, "s_noise", "give 1"),
    ("refiner_checkpoint", "sd_xl_refiner", "refiner_checkpoint", "draws with one model"),
    (
        "alwayson_scripts",
        {"ControlNet": {"args": [{"enabled": True}]}},
        "alwayson_scripts.ControlNet.args.0",
        "ControlNet and ADetailer are not served",
    ),
    (
        "override_settings",
        {"sd_model_checkpoint": "other.safetensors"},
        "override_settings.sd_model_checkpoint",
        "one model, tiny",
    ),
    ("override_settings", {"sd_vae": "x.pt"}, "override_settings.sd_vae", "one VAE, its own"),
    ("override_settings", {"magic": 1}, "override_settings.magic", "is not known here"),
    ("init_images", ["x"], "init_images", "is not known here"),
    ("sampler_name", "PLMS", "sampler_name", "no sampler of this model, which has Euler, Euler a"),
    ("sampler_index", "UniPC", "sampler_index", "no sampler of this model"),
    ("scheduler", "Polyexponential", "scheduler", "no schedule of this model"),
    ("n_iter", 11, "n_iter", "11 is more than the maximum, 10"),
    ("batch_size", 0, "batch_size", "0 is less than the minimum, 1"),
    ("width", 100, "width", "100 is no multiple of 32"),
    ("steps", 101, "steps", "101 is more than the maximum, 100"),
    ("seed", "7", "seed", '"7" is not of type integer'),
    ("prompt", "a <lora:ink>", "prompt", "no LoRA packs"),
    ("prompt", "a <lora:ink:1:0.5>", "prompt", "no single weight for the whole LoRA"),
    ("prompt", "a <hypernet:ink:1>", "prompt", "hypernetworks are not served"),
]
