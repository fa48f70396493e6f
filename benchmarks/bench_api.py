"""The web process under load: status polls over a million stored jobs, and hundreds of streams at once.

    python -m benchmarks.bench_api [--jobs 1000000] [--streams 200] [--tokens 100] [--pace 0.1] [--postgres]

One API process as `sluice serve` starts it, on SQLite (or the PostgreSQL of the test wheel), with a real broker. Polls
come one after the other over one connection, and then from people who look once a second; `/health`, which looks at
nothing, tells how much of that is the client's own. Chats are answered by `Talker`, not by a model: each word carries
the clock of its sender, so that its way through Redis, the web process and HTTP is timed.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from sqlalchemy import text

from benchmarks.bench_store import BODY, CHUNK_LINES, MODEL, REPLY, databases_for
from benchmarks.talker import Talker
from service.actions.parts import Parts, assemble
from service.settings import Settings
from service.store import batches, jobs
from service.store.batches import NewBatch
from service.store.database import Database
from service.store.jobs import NewLine
from sluice.launcher.options import ModelOptions, StackOptions
from sluice.launcher.ready import wait_until_answering
from sluice.launcher.stack import Stack

JOBS_IN_A_BATCH = 100_000
ANSWERED_SHARE = 0.9
NUM_POLLS = 2000
WATCHERS, SECONDS_BETWEEN_LOOKS = 50, 1.0

FINISH = text(
    "UPDATE jobs SET state = 'succeeded', finished_at = created_at WHERE batch_id = :batch AND line_no <= :last"
)
RESULTS = text(
    "INSERT INTO results (job_id, batch_id, shard, seq, attempt, body, prompt_tokens, completion_tokens, text_tokens,"
    " image_tokens, video_tokens, audio_tokens, prompt_seconds, completion_seconds, finished_at)"
    " SELECT id, batch_id, 0, line_no, 1, :body, 100, 200, 100, 0, 0, 0, 0.1, 0.2, created_at"
    " FROM jobs WHERE batch_id = :batch AND line_no <= :last"
)
PROGRESS = text(
    "INSERT INTO batch_progress (batch_id, shard, seq, succeeded, failed, dead, cancelled, expired,"
    " prompt_tokens, completion_tokens) VALUES (:batch, 0, :last, :last, 0, 0, 0, 0, :last * 100, :last * 200)"
)


def fill(database: Database, num_jobs: int) -> list[str]:
    """Store so many jobs in batches, most of them answered; the batches' ids."""
    made = []
    for first in range(0, num_jobs, JOBS_IN_A_BATCH):
        size = min(JOBS_IN_A_BATCH, num_jobs - first)
        with database.transaction() as db:
            batch_id = batches.create(db, NewBatch(tenant_id="default", manifest="bench.jsonl")).id
        for start in range(0, size, CHUNK_LINES):
            _insert(database, batch_id, start, min(start + CHUNK_LINES, size), size)
        answered = {"batch": batch_id, "last": int(size * ANSWERED_SHARE)}
        with database.transaction() as db:
            db.execute(FINISH, answered)
            db.execute(RESULTS, answered | {"body": json.dumps(REPLY).encode()})
            db.execute(PROGRESS, answered)
        made.append(batch_id)
    return made


def _insert(database: Database, batch_id: str, first: int, last: int, size: int) -> None:
    lines = [NewLine(n, f"request-{n:08d}", "elsewhere", BODY) for n in range(first + 1, last + 1)]
    with database.transaction() as db:
        batch = batches.find(db, batch_id)
        assert batch is not None
        assert batches.advance_ingest(db, batch_id, first, last, num_lines=len(lines), done=last == size)
        jobs.insert_lines(db, batch, lines)


def print_polls(url: str, batch_ids: list[str], num_jobs: int) -> None:
    """Time polls of batches and of jobs: one poller without a pause, then many watchers."""
    chosen = random.Random(1)
    looks: dict[str, Callable[[], str]] = {
        "/health": lambda: "/health",
        "batch": lambda: f"/v1/batches/{chosen.choice(batch_ids)}",
        "job": lambda: f"/v1/jobs/job_{chosen.randint(1, num_jobs)}",
        "failed lines": lambda: f"/v1/jobs?batch_id={chosen.choice(batch_ids)}&limit=20",
    }
    for name, look in looks.items():
        paths = [look() for _ in range(NUM_POLLS)]
        print(f"poll {name:12} one after the other  {_percentiles(_polls(url, paths, 1, 0.0))}", flush=True)
        seconds = _polls(url, paths[: NUM_POLLS // 2], WATCHERS, SECONDS_BETWEEN_LOOKS)
        print(f"poll {name:12} {WATCHERS} watchers          {_percentiles(seconds)}", flush=True)


def _polls(url: str, paths: list[str], num_pollers: int, pause: float) -> list[float]:
    seconds: list[float] = []

    def poll(mine: list[str]) -> None:
        with httpx.Client(base_url=url) as client:
            client.get("/health")
            for path in mine:
                time.sleep(random.uniform(0, 2 * pause))
                began = time.perf_counter()
                client.get(path).raise_for_status()
                seconds.append(time.perf_counter() - began)

    crew = [threading.Thread(target=poll, args=(paths[n::num_pollers],)) for n in range(num_pollers)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return seconds


def print_streams(url: str, web: psutil.Process, num_streams: int, num_tokens: int) -> None:
    """Open streams at once, hear each to its end, and say what a token cost on its way."""
    cpu = _cpu_seconds(web)
    lags = asyncio.run(_hear_all(url, num_streams))
    cpu = _cpu_seconds(web) - cpu
    num_heard = sum(map(len, lags))
    whole = sum(len(each) == num_tokens for each in lags)
    print(
        f"{num_streams} streams: {whole} whole, {num_heard} tokens; memory {web.memory_info().rss / 1e6:.0f} MB"
    )
    print(f"  on its way  {_percentiles([lag for each in lags for lag in each])}")
    print(f"  web process {cpu / num_heard * 1e6:.0f} CPU-µs a token, the requests included", flush=True)
    if whole < num_streams:
        raise SystemExit("a stream lost some of its tokens")


async def _hear_all(url: str, number: int) -> list[list[float]]:
    limits = httpx.Limits(max_connections=number)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        return await asyncio.gather(*(_hear(client) for _ in range(number)))


async def _hear(client: httpx.AsyncClient) -> list[float]:
    """Seconds that each word of one stream was on its way."""
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Count."}]}
    lags = []
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            heard = time.perf_counter_ns()
            for choice in json.loads(line[6:])["choices"]:
                words = choice["delta"].get("content") or ""
                lags.extend((heard - int(word)) / 1e9 for word in words.split())
    return lags


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    at = {
        share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 for share in (0.5, 0.95, 0.99)
    }
    return "  ".join(f"p{share * 100:.0f} {ms:6.2f} ms" for share, ms in at.items())


@contextmanager
def _stack(folder: Path, database_url: str) -> Iterator[tuple[Stack, Parts]]:
    """A web process and a broker without workers, and the parts to work on what they share."""
    os.environ["DATABASE_URL"] = database_url
    options = StackOptions(
        data_dir=folder, with_workers=False, private=False, model=ModelOptions(served_name=MODEL)
    )
    with Stack(options) as stack:
        wait_until_answering(stack)
        redis_url = f"unix://{stack.data_dir.socket_dir() / 'valkey.sock'}"
        settings = Settings(data_dir=folder, database_url_setting=database_url, redis_url_setting=redis_url)
        parts = assemble(settings)
        yield stack, parts
        parts.close()


def main() -> None:
    """Measure one database."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--pace", type=float, default=0.1, help="seconds between the words of a stream")
    parser.add_argument("--postgres", action="store_true")
    args = parser.parse_args()
    with databases_for(None) as databases, tempfile.TemporaryDirectory() as folder:
        name = "postgresql" if args.postgres else "sqlite"
        with _stack(Path(folder), databases[name](args.jobs)) as (stack, parts):
            began = time.perf_counter()
            batch_ids = fill(parts.database, args.jobs)
            print(f"{name}: {args.jobs} jobs stored in {time.perf_counter() - began:.0f} s", flush=True)
            if args.jobs:
                print_polls(stack.url, batch_ids, args.jobs)
            (web,) = psutil.Process(stack.pids()["api"]).children()
            with Talker(parts, MODEL, num_tokens=args.tokens, pace_seconds=args.pace):
                asyncio.run(_hear_all(stack.url, 1))  # the first chat of a process imports what it rings with
                for number in (1, args.streams):
                    print_streams(stack.url, web, number, args.tokens)


if __name__ == "__main__":
    main()
