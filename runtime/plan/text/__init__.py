"""From a prompt to weighted chunks of tokens."""
