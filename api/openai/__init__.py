"""OpenAI's Images API over the same requests, queue and events as `/api/generate`."""
