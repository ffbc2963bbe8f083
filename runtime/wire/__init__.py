"""Shared by the server and the worker: their messages, the link that carries them, and options."""
