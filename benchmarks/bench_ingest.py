"""How fast a manifest of text lines becomes jobs, in how much memory, and what a look at the batch costs.

python -m benchmarks.bench_ingest [--lines 100000] [--database postgresql://…]
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
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

WORDS = "Describe in one sentence what a reader of this page should remember a week from now. " * 2
POLLS = 200


def manifest(num_lines: int) -> Iterator[bytes]:
    """OpenAI lines of about 400 bytes."""
    for i in range(num_lines):
        messages = [{"role": "user", "content": f"{WORDS}{i}"}]
        body = {"model": "default", "messages": messages, "max_tokens": 32}
        line = {"custom_id": f"line-{i:08}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        yield orjson.dumps(line) + b"\n"


def measure(parts: Parts, num_lines: int) -> None:
    """Ingest a small batch to warm up, then the measured one, then poll it."""
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
    print(
        f"a look at the batch: {statistics.median(polls(parts, caller, batch.id)):.2f} ms (median of {POLLS})"
    )


def polls(parts: Parts, caller: Caller, batch_id: str) -> Iterator[float]:
    """Milliseconds of single looks at a batch."""
    for _ in range(POLLS):
        began = time.perf_counter()
        get_batch(parts, caller, batch_id)
        yield (time.perf_counter() - began) * 1000


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
        measure(parts, wanted.lines)
        parts.close()


if __name__ == "__main__":
    main()
