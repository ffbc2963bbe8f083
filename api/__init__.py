"""Calotype's command line and HTTP API: thin rooms over the runtime."""
