"""What it costs to ask whether a request was answered before, and what it spares a batch whose lines repeat.

    python -m benchmarks.bench_dedupe [--lines 400] [--answers 100000]

Look-ups run on SQLite and on the PostgreSQL of the test wheel, the batches on SQLite with the bundled model, in this
process. CPU-seconds are of all its threads.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from sqlalchemy import insert

from benchmarks.bench_store import databases_for
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts, assemble
from service.actions.read_batches import get_batch
from service.actions.submit_jobs import submit_jobs
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.chat import media_refs, parse_chat_request
from service.contract.equal_requests import digest_of
from service.contract.media import MediaKind, MediaRef
from service.settings import Settings
from service.store import answers
from service.store.database import Database
from service.store.schema import migrate
from service.store.tables import Answer, Result
from workers.device import Device
from workers.media.limits import MediaLimits
from workers.media.sources import Sources

LOOKS = 2000
DAY_SECONDS = 86400.0
QUESTION = {
    "type": "text",
    "text": "Describe in one sentence what a reader should remember of this page. " * 4,
}
PICTURE = {"type": "image_url", "image_url": {"url": "/pictures/1.png"}}
REQUEST = orjson.dumps({"messages": [{"role": "user", "content": [QUESTION, PICTURE]}], "max_tokens": 64})
REPLY = orjson.dumps({"choices": [{"index": 0, "message": {"content": "lorem ipsum " * 45}}]})


def cpu_microseconds(do: Callable[[int], object], times: int) -> float:
    """Of this process, for each time: the median of five runs."""
    runs = []
    for _ in range(5):
        began = time.process_time()
        for number in range(times // 5):
            do(number)
        runs.append((time.process_time() - began) / (times // 5) * 1e6)
    return statistics.median(runs)


def print_digests(folder: Path) -> None:
    """The part that needs no database."""
    request = parse_chat_request(REQUEST)
    media = [b"x" * 32] * len(media_refs(request))
    spent = cpu_microseconds(lambda _: digest_of(request, media, endpoint="/v1", identity="x"), LOOKS)
    print(f"digest of a request            {spent:>8,.0f} us")
    sources = Sources(MediaLimits(), [folder.resolve()], None)
    for kilobytes in (100, 4000):
        path = folder / f"{kilobytes}.png"
        path.write_bytes(os.urandom(kilobytes * 1000))
        ref = MediaRef(MediaKind.IMAGE, str(path.resolve()), "")
        spent = cpu_microseconds(lambda _, ref=ref: sources.content(ref, "default"), 100)  # type: ignore[misc]
        print(f"content of a {kilobytes:>4} kB file       {spent:>8,.0f} us")


def print_looks(name: str, url: str, num_answers: int) -> None:
    """Look-ups among so many kept answers."""
    migrate(url)
    database = Database(url)
    for first in range(1, num_answers + 1, 10_000):
        _fill(database, range(first, min(first + 10_000, num_answers + 1)))

    def look(number: int) -> None:
        with database.reading() as db:
            answers.find(db, "default", _digest(number), max_age_seconds=DAY_SECONDS)

    hit = cpu_microseconds(lambda number: look(1 + number * 7919 % num_answers), LOOKS)
    miss = cpu_microseconds(lambda number: look(-1 - number), LOOKS)
    print(f"look-up, {name:<10} hit {hit:>6,.0f} us  miss {miss:>6,.0f} us  of {num_answers:,} answers")
    database.close()


def _fill(database: Database, numbers: range) -> None:
    now = time.time()
    results = [
        {"job_id": n, "batch_id": None, "shard": 0, "seq": 0, "attempt": 1, "body": REPLY, "finished_at": now}
        for n in numbers
    ]
    kept = [{"tenant_id": "default", "digest": _digest(n), "job_id": n, "created_at": now} for n in numbers]
    with database.transaction() as db:
        db.execute(insert(Result), results)
        db.execute(insert(Answer), kept)


def _digest(number: int) -> bytes:
    return number.to_bytes(32, "big", signed=True)


def manifest(run: str, num_lines: int, num_different: int) -> Iterator[bytes]:
    """Lines of which so many differ, spread evenly. run: so that no other run has these lines."""
    for number in range(num_lines):
        prompt = f"{run}: what is number {number * 7919 % num_different} of these?"
        yield orjson.dumps({"id": str(number), "prompt": prompt, "max_tokens": 24, "min_tokens": 24}) + b"\n"


def run_batch(parts: Parts, device: Device, lines: Iterator[bytes], *, dedupe: bool) -> tuple[float, float]:
    """(seconds, CPU-seconds) from its first claim to its last result."""
    caller = Caller()
    batch_id = submit_jobs(parts, caller, lines, BatchOptions(dedupe=dedupe)).id
    ingest_manifest(parts, batch_id)
    wall, cpu = time.perf_counter(), time.process_time()
    device.ring()
    while True:
        counts = get_batch(parts, caller, batch_id).request_counts
        if counts.completed + counts.failed == counts.total:
            break
        time.sleep(0.02)
    assert not counts.failed
    return time.perf_counter() - wall, time.process_time() - cpu


def print_batches(folder: Path, num_lines: int) -> None:
    """The same lines with and without dedupe, all different and nine of ten equal to another."""
    settings = Settings(
        data_dir=folder,
        redis_url_setting=None,
        database_url_setting=None,
        blob_url_setting=None,
        num_preparers=0,
        num_torch_threads=1,
        poll_seconds=0.05,
    )
    migrate(settings.database_url)
    parts = assemble(settings)
    device = Device(parts)
    device.start()
    try:
        run_batch(parts, device, manifest("warm", 50, 50), dedupe=True)
        for share, num_different in (("0 %", num_lines), ("90 %", num_lines // 10)):
            for dedupe in (False, True):
                lines = manifest(f"{share} {dedupe}", num_lines, num_different)
                wall, cpu = run_batch(parts, device, lines, dedupe=dedupe)
                print(
                    f"{share:>4} equal, {'dedupe' if dedupe else 'plain '}  {num_lines / wall:>6,.0f} lines/s"
                    f"  {cpu / num_lines * 1e3:>6.2f} CPU-ms a line",
                    flush=True,
                )
    finally:
        device.stop()
        parts.close()


def main() -> None:
    """Print the figures, one a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=400)
    parser.add_argument("--answers", type=int, default=100_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        print_digests(Path(folder))
        with databases_for(None) as databases:
            for name, url_for in databases.items():
                print_looks(name, url_for(wanted.answers), wanted.answers)
        print_batches(Path(folder) / "batches", wanted.lines)


if __name__ == "__main__":
    main()
