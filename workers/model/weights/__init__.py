"""Checkpoints, where they go, how they are quantized, and what their layers compute with."""
