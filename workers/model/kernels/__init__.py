"""Kernels of our own, for what torch has none that is fast enough. Each has torch's own as its fallback."""
