"""The weights that a set of LoRAs gives, and how a network is switched to them."""
