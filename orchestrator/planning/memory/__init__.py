"""How much VRAM and host RAM a job takes: pure functions of the model section, the architecture and the tables."""
