"""Plans in, pictures out: conditioning, the denoising loop, previews and decoding."""
