"""What the server and the worker share: their messages, and the link that carries them."""
