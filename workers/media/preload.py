"""Imports all that a decode may need, before the walls go up: a confined child opens no file, not even a module."""

import copy  # noqa: F401
import importlib
import pkgutil

import av
import numpy as np  # noqa: F401
from PIL import Image

# One runs a command line, the other downloads samples.
NOT_FOR_DECODING = ("av.__main__", "av.datasets")


def preload() -> None:
    """Import what Pillow and PyAV would import on first use."""
    Image.init()
    importlib.import_module("PIL.ImageCms")
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in NOT_FOR_DECODING:
            importlib.import_module(module.name)
