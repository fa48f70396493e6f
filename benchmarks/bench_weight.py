"""What it weighs before it does anything: `import sluice`, `sluice --help`, and the web process.

python -m benchmarks.bench_weight [--runs 9]
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from sluice.client import Client
from sluice.launcher.options import StackOptions
from sluice.launcher.ready import wait_until_answering
from sluice.launcher.stack import Stack

NUM_LOOKS = 300


def time_of(*arguments: str) -> tuple[float, float]:
    """CPU-seconds and seconds of one fresh interpreter."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, seconds


def print_times(runs: int) -> None:
    """Medians of starting the front door."""
    for name, arguments in (
        ("import sluice", ("-c", "import sluice")),
        ("sluice --help", ("-m", "sluice", "--help")),
    ):
        times = [time_of(*arguments) for _ in range(runs + 1)][1:]  # the first one compiles
        cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name}: {cpu:.3f} CPU-seconds, {wall:.3f} s")


def web_memory(use: Callable[[Client], None]) -> dict[str, float]:
    """Resident MB of the web process (the one that answers, not gunicorn's master) at first and after some use."""
    with tempfile.TemporaryDirectory() as folder:
        options = StackOptions(data_dir=Path(folder), with_workers=False)
        with Stack(options) as stack, Client(stack.url) as client:
            wait_until_answering(stack)
            (process,) = psutil.Process(stack.pids()["api"]).children()
            sizes = {"at first": process.memory_info().rss / 1e6}
            use(client)
            return sizes | {f"after {NUM_LOOKS} requests": process.memory_info().rss / 1e6}


def look_around(client: Client) -> None:
    """Requests of a person who watches."""
    for _ in range(NUM_LOOKS // 3):
        client.batches()
        client.jobs()
        client.models()


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    print_times(parser.parse_args().runs)
    for when, megabytes in web_memory(look_around).items():
        print(f"web process {when}: {megabytes:.0f} MB resident")


if __name__ == "__main__":
    main()
