"""Waiting for a stack until a model can answer."""

import time
from collections.abc import Callable

from sluice.client import Client
from sluice.launcher.stack import Stack

ASK_SECONDS = 0.25


def wait_until_ready(stack: Stack) -> None:
    """Return when a model can answer."""
    _wait(stack, Client.is_ready)


def wait_until_answering(stack: Stack) -> None:
    """Return when the web process answers, with or without a model."""
    _wait(stack, Client.is_alive)


def _wait(stack: Stack, question: Callable[[Client], bool]) -> None:
    with Client(stack.url) as client:
        asked_at = 0.0

        def says_yes() -> bool:
            nonlocal asked_at
            if time.monotonic() - asked_at < ASK_SECONDS:
                return False
            asked_at = time.monotonic()
            return question(client)

        stack.wait_until(says_yes)
