"""The whole way through HTTP, SQL and Celery against the bare engine, on the same items.

    python -m benchmarks.bench_end_to_end [--jobs 2000] [--rounds 3] [--manifest manifests/demo.jsonl]

Bare: the same preparation, model, precision and number of threads, fed from a list in one process; nothing is stored.
Rounds are interleaved. Loading is not counted on either side. CPU-seconds are those of every process that takes part.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from service.actions.parts import Parts, assemble
from service.contract.jobs import ClaimedJob
from service.contract.lifecycle import JobClass
from service.contract.manifest import Defaults, body_of
from service.settings import Settings

if TYPE_CHECKING:
    from workers.desk.prepare import Preparer
    from workers.engine.protocol import Sequence

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Figures:
    """One run: jobs done, completion tokens, and what it cost."""

    jobs: int
    tokens: int
    wall_seconds: float
    cpu_seconds: float

    @property
    def jobs_per_second(self) -> float:
        """Jobs per second of wall clock."""
        return self.jobs / self.wall_seconds

    @property
    def jobs_per_cpu_second(self) -> float:
        """Jobs per second of processor time, all processes together."""
        return self.jobs / self.cpu_seconds


def repeated_lines(manifest: Path, num_jobs: int) -> Iterator[bytes]:
    """The manifest's lines over and over, each with an id of its own, media as absolute paths."""
    lines = [line for line in manifest.read_bytes().splitlines() if line.strip()]
    for number, line in zip(range(num_jobs), itertools.cycle(lines), strict=False):
        body = body_of(line, number + 1, Defaults(base_dir=str(manifest.parent)))
        request = {"custom_id": f"job-{number}", "method": "POST", "url": "/v1/chat/completions"}
        yield json.dumps(request | {"body": json.loads(body)}).encode() + b"\n"


def cpu_seconds_of(processes: list[psutil.Process]) -> float:
    """User and system time of these processes and of all that they started and are still there."""
    everyone = {p for root in processes for p in (root, *root.children(recursive=True))}
    return sum(times.user + times.system for times in (p.cpu_times() for p in everyone))


def run_stack(manifest: Path, data_dir: Path) -> Figures:
    """Submit over HTTP to a stack that is ready, and wait until the batch has its files."""
    from sluice.client import Client
    from sluice.launcher.options import StackOptions
    from sluice.launcher.ready import wait_until_ready
    from sluice.launcher.stack import Stack

    options = StackOptions(data_dir=data_dir, allow_files=(ROOT,))
    with Stack(options) as stack, Client(stack.url) as client:
        wait_until_ready(stack)
        processes = [psutil.Process(pid) for pid in stack.pids().values()]
        cpu, began = cpu_seconds_of(processes), time.perf_counter()
        with manifest.open("rb") as content:
            uploaded = client.upload(content, manifest.name, "batch")
        batch = client.create_batch(uploaded["id"])
        while not batch.has_ended:
            time.sleep(0.5)
            batch = client.batch(batch.id)
        seconds = time.perf_counter() - began
        if batch.failed:
            raise SystemExit(f"{batch.failed} lines failed; see {data_dir}")
        return Figures(batch.completed, batch.completion_tokens, seconds, cpu_seconds_of(processes) - cpu)


class BareRun:
    """The same rooms without the house: preparers fill a list, one loop steps the engine."""

    def __init__(self, parts: Parts) -> None:
        from workers.media.limits import MediaLimits
        from workers.media.media import Media
        from workers.opening import open_model

        settings = parts.settings
        self.media = Media(MediaLimits(), roots=settings.allowed_roots, num_decoders=settings.num_decoders)
        self.media.start()
        self._opened = open_model(parts, settings, self.media, 1, None)
        self._ahead = threading.Semaphore(2 * settings.max_slots)
        self._pool = ThreadPoolExecutor(settings.num_decoders + settings.num_preparers)

    def close(self) -> None:
        """End the processes that decode and prepare."""
        self._opened.close()
        self.media.close()

    def run(self, bodies: list[bytes]) -> tuple[int, int]:
        """Answer every body; returns (jobs, completion tokens)."""
        from workers.desk.answers import Answer
        from workers.engine.protocol import Finished, Progress

        served = self._opened.served
        ready: list[Sequence] = []

        def prepare(number: int, body: bytes) -> None:
            ready.extend(prepared_alone(served.preparer, number, body))

        def feed() -> None:
            for number, body in enumerate(bodies):
                self._ahead.acquire()
                self._pool.submit(prepare, number, body)

        threading.Thread(target=feed, daemon=True).start()
        done = tokens = 0
        while done < len(bodies):
            while ready:
                served.engine.submit(ready.pop())
            if not served.engine.has_work:
                time.sleep(0.001)
                continue
            for event in served.engine.step():
                answer = event.sequence.tag
                assert isinstance(answer, Answer)
                if isinstance(event, Progress):
                    answer.take(event.tokens, event.logprobs)
                    continue
                assert isinstance(event, Finished), event
                answer.finish()
                done, tokens = done + 1, tokens + answer.num_tokens
                self._ahead.release()
        return done, tokens


def prepared_alone(
    preparer: "Preparer", number: int, body: bytes, job_class: JobClass = JobClass.BULK
) -> "list[Sequence]":
    """What the engine would get of a job that was never stored."""
    from workers.desk.seats import Seat

    return preparer.prepare(Seat(_job(number, body, job_class)))


def _job(number: int, body: bytes, job_class: JobClass = JobClass.BULK) -> ClaimedJob:
    return ClaimedJob(
        id=number,
        attempt=1,
        owner="bench",
        batch_id="bench",
        tenant_id="default",
        key_id=None,
        model="default",
        endpoint="/v1/chat/completions",
        job_class=job_class,
        priority=10,
        custom_id=None,
        line_no=number + 1,
        solo=False,
        crashes=0,
        body=body,
        payload=None,
    )


def run_bare(manifest: Path, data_dir: Path) -> Figures:
    """Answer the manifest in this process."""
    parts = assemble(Settings(data_dir=data_dir, allow_files=str(ROOT)))
    bodies = [json.dumps(json.loads(line)["body"]).encode() for line in manifest.open("rb")]
    bare = BareRun(parts)
    me = [psutil.Process()]
    cpu, began = cpu_seconds_of(me), time.perf_counter()
    done, tokens = bare.run(bodies)
    figures = Figures(done, tokens, time.perf_counter() - began, cpu_seconds_of(me) - cpu)
    bare.close()
    return figures


def in_a_process(side: str, manifest: Path, data_dir: Path) -> Figures:
    """One side in a fresh interpreter, so that neither inherits the other's memory or threads."""
    argv = [sys.executable, "-m", "benchmarks.bench_end_to_end", "--side", side]
    argv += ["--manifest", str(manifest), "--data-dir", str(data_dir)]
    printed = subprocess.run(argv, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    return Figures(**json.loads(printed.splitlines()[-1]))


def compare(manifest: Path, num_jobs: int, rounds: int) -> None:
    """Interleaved rounds, and the medians of both sides."""
    figures: dict[str, list[Figures]] = {"bare": [], "stack": []}
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "jobs.jsonl")
        lines.write_bytes(b"".join(repeated_lines(manifest, num_jobs)))
        for number, side in itertools.product(range(rounds), figures):
            run = in_a_process(side, lines, Path(folder, f"{side}-{number}"))
            figures[side].append(run)
            print(
                f"round {number} {side:5s} {run.jobs} jobs {run.tokens} tokens  wall {run.wall_seconds:.1f} s"
                f" ({run.jobs_per_second:.1f}/s)  cpu {run.cpu_seconds:.1f} s ({run.jobs_per_cpu_second:.1f}/s)",
                flush=True,
            )
    for name in ("jobs_per_second", "jobs_per_cpu_second"):
        medians = {
            side: statistics.median(getattr(run, name) for run in runs) for side, runs in figures.items()
        }
        ratio = medians["stack"] / medians["bare"]
        print(f"{name}: bare {medians['bare']:.1f}  stack {medians['stack']:.1f}  stack/bare {ratio:.3f}")


def main() -> None:
    """Compare the sides, or run one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--manifest", type=Path, default=ROOT / "manifests" / "demo.jsonl")
    parser.add_argument("--side", choices=["bare", "stack"], help="run one side and print its figures")
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    if args.side is None:
        compare(args.manifest, args.jobs, args.rounds)
        return
    run = {"bare": run_bare, "stack": run_stack}[args.side]
    print(json.dumps(asdict(run(args.manifest, args.data_dir))))


if __name__ == "__main__":
    main()
