"""From a reference, as a person writes it, to files on this machine with known contents."""
