"""How fast a manifest of text lines becomes jobs, in how much memory, and what a look at the batch costs.

python -m benchmarks.bench_ingest [--lines 100000] [--database postgresql://…]
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts, assemble
from service.actions.read_batches import get_batch
from service.actions.submit_jobs import submit_jobs
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.settings import Settings
from service.store.schema import migrate
from sluice.client import Client
from sluice.launcher.options import StackOptions
from sluice.launcher.ready import wait_until_answering
from sluice.launcher.stack import Stack

WORDS = "Describe in one sentence what a reader of this page should remember a week from now. " * 2
POLLS = 200


def manifest(num_lines: int) -> Iterator[bytes]:
    """OpenAI lines of about 400 bytes."""
    for i in range(num_lines):
        messages = [{"role": "user", "content": f"{WORDS}{i}"}]
        body = {"model": "default", "messages": messages, "max_tokens": 32}
        line = {"custom_id": f"line-{i:08}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        yield orjson.dumps(line) + b"\n"


def measure(parts: Parts, num_lines: int) -> str:
    """Ingest a small batch to warm up, then the measured one, and look at it; returns its id."""
    caller = Caller()
    ingest_manifest(parts, submit_jobs(parts, caller, manifest(5_000), BatchOptions()).id)
    batch = submit_jobs(parts, caller, manifest(num_lines), BatchOptions())
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    ingest_manifest(parts, batch.id)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before
    assert get_batch(parts, caller, batch.id).request_counts.total == num_lines
    print(
        f"{num_lines} lines: {num_lines / cpu:,.0f} lines per CPU-second, {num_lines / wall:,.0f} per second"
    )
    print(f"peak memory grew by {growth / 1024:.1f} MiB beyond a batch of 5,000 lines")
    print_polls("a look at the batch", lambda: get_batch(parts, caller, batch.id))
    return batch.id


def print_polls(name: str, look: Callable[[], object]) -> None:
    """Median and p99 of single looks, in milliseconds."""
    milliseconds = []
    for _ in range(POLLS):
        began = time.perf_counter()
        look()
        milliseconds.append((time.perf_counter() - began) * 1000)
    p99 = statistics.quantiles(milliseconds, n=100)[-1]
    print(f"{name}: median {statistics.median(milliseconds):.2f} ms, p99 {p99:.2f} ms of {POLLS}")


def look_over_http(data_dir: Path, batch_id: str) -> None:
    """The same look through the web process of a stack on this database."""
    with Stack(StackOptions(data_dir=data_dir, with_workers=False)) as stack, Client(stack.url) as client:
        wait_until_answering(stack)
        print_polls("GET /v1/batches/{id}", lambda: client.batch(batch_id))


def main() -> None:
    """Run on a database of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--database", help="an empty PostgreSQL database; SQLite where none is named")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=Path(folder), redis_url_setting=None, database_url_setting=wanted.database
        )
        migrate(settings.database_url)
        parts = assemble(settings)
        batch_id = measure(parts, wanted.lines)
        parts.close()
        if wanted.database is None:
            look_over_http(Path(folder), batch_id)


if __name__ == "__main__":
    main()
