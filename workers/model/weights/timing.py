"""How long a kernel takes, measured while a model loads."""

import time
from collections.abc import Callable

import torch


def fastest(call: Callable[[], torch.Tensor], budget_seconds: float) -> float:
    """Seconds of the best of several calls: noise only ever adds.

    Both are this thread's CPU time, so that a busy machine neither lengthens the search nor decides it.
    """
    call()
    best, deadline = float("inf"), time.thread_time() + budget_seconds
    while True:
        started = time.thread_time()
        call()
        ended = time.thread_time()
        best = min(best, ended - started)
        if ended >= deadline:
            return best
