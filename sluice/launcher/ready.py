"""Waiting for a stack until a model can answer."""

import time
from collections.abc import Callable

from sluice.client import Client
from sluice.launcher.stack import Stack

ASK_SECONDS = 0.25


def wait_until_ready(stack: Stack, on_wait: Callable[[], None] = lambda: None) -> None:
    """Return when /ready says 200. on_wait is called several times a second meanwhile."""
    with Client(stack.url) as client:
        asked_at = 0.0

        def is_ready() -> bool:
            nonlocal asked_at
            on_wait()
            if time.monotonic() - asked_at < ASK_SECONDS:
                return False
            is_ready, _ = client.readiness()
            asked_at = time.monotonic()
            return is_ready

        stack.wait_until(is_ready)
