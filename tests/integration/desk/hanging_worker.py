"""An engine worker whose model hangs once. Run as a program: hanging_worker.py HOW MARKER, settings in the environment.

HOW: `waiting` waits for what never comes; `holding` keeps the interpreter's lock meanwhile, as native code can.
MARKER: a file; the engine's first forward that finds it removes it and hangs.
"""

import ctypes
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from service.actions.parts import assemble
from service.settings import Settings
from workers.device import Device
from workers.model.loading import Loaded, LoadOptions, load

A_LONG_TIME_SECONDS = 600


def load_what_hangs(options: LoadOptions, how: str, marker: Path) -> Loaded:
    """The real model, with a hook on its forward."""
    torch.set_num_threads(1)
    loaded = load(options)
    # PyDLL calls without letting go of the lock.
    library: Any = ctypes.PyDLL(None) if how == "holding" else ctypes.CDLL(None)

    def hang_once(*_: Any) -> None:
        # Not the forwards that try a model while it is loaded.
        if threading.current_thread().name == "engine" and marker.exists():
            marker.unlink()
            library.sleep(A_LONG_TIME_SECONDS)

    loaded.model.register_forward_pre_hook(hang_once)
    return loaded


def main() -> None:
    """Work until somebody ends us."""
    logging.basicConfig(level=logging.INFO)
    how, marker = sys.argv[1], Path(sys.argv[2])
    device = Device(assemble(Settings()), load=lambda options: load_what_hangs(options, how, marker))
    device.start()
    while threading.main_thread().is_alive():
        time.sleep(1)


if __name__ == "__main__":
    main()
