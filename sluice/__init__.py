"""Sluice turns piles of images, videos and audio into text, on your own machines, with nothing lost."""

__version__ = "0.1.0"
