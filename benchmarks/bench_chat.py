"""How long a chat waits for its first word: on an idle stack, and while a large batch keeps every slot busy.

    python -m benchmarks.bench_chat [--chats 50] [--jobs 1500] [--set SLUICE_MAX_SLOTS=32]

The whole stack with the bundled model, one after the other: the batch alone, chats alone, the batch again with chats.
A chat asks about a picture and streams; the clock runs from the request to the first piece of text at the client.
The two runs of the batch must give the same answers.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bench_end_to_end import ROOT, cpu_seconds_of, repeated_lines
from service.contract.manifest import Defaults, body_of
from sluice.client import Batch, Client
from sluice.launcher.options import StackOptions
from sluice.launcher.ready import wait_until_ready
from sluice.launcher.stack import Stack

MANIFESTS = ROOT / "manifests"
PAUSE_SECONDS = 0.2
ANSWER_TOKENS = 16
# Bulk of the manifest that has been answered before the first chat: by then every slot is taken.
WARM_SHARE = 0.05


@dataclass(frozen=True)
class Waits:
    """Seconds to the first piece of text, of each chat."""

    seconds: tuple[float, ...]

    def at(self, share: float) -> float:
        """The wait that this share of the chats does not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, round(share * len(ordered)))]

    def __str__(self) -> str:
        median = statistics.median(self.seconds)
        return f"p50 {median:.3f} s  p95 {self.at(0.95):.3f} s  longest {max(self.seconds):.3f} s"


class Bench:
    """One running stack, and a client."""

    def __init__(self, stack: Stack, client: Client) -> None:
        self._client = client
        self._processes = [psutil.Process(pid) for pid in stack.pids().values()]
        lines = [line for line in (MANIFESTS / "images.jsonl").read_bytes().splitlines() if line.strip()]
        defaults = Defaults(base_dir=str(MANIFESTS))
        self._questions = itertools.cycle([json.loads(body_of(line, 1, defaults)) for line in lines])

    def cpu_seconds(self) -> float:
        """Of the whole stack, since it started."""
        return cpu_seconds_of(self._processes)

    def chat(self) -> float:
        """One chat; seconds until its first text."""
        body = next(self._questions) | {"stream": True, "max_tokens": ANSWER_TOKENS}
        began = time.perf_counter()
        first = None
        for chunk in self._client.stream_chat(body):
            if first is None and any(choice["delta"].get("content") for choice in chunk["choices"]):
                first = time.perf_counter() - began
        assert first is not None, "the answer was empty"
        return first

    def chats(self, number: int) -> Waits:
        """Chats one after the other, with pauses, so that they meet the engine at any moment of its step."""
        waits = []
        for _ in range(number):
            time.sleep(random.uniform(0, 2 * PAUSE_SECONDS))
            waits.append(self.chat())
        return Waits(tuple(waits))

    def submit(self, lines: Path) -> str:
        """Send the batch; its id."""
        with lines.open("rb") as content:
            uploaded = self._client.upload(content, lines.name, "batch")
        return self._client.create_batch(uploaded["id"]).id

    def wait(self, batch_id: str, num_done: float = float("inf")) -> Batch:
        """Wait until the batch has ended, or has so many answers."""
        while True:
            batch = self._client.batch(batch_id)
            if batch.has_ended or batch.done >= num_done:
                return batch
            time.sleep(0.1)

    def answers(self, batch: Batch, folder: Path) -> dict[str, Any]:
        """The texts by custom id."""
        if batch.failed or not batch.output_file_id:
            raise SystemExit(f"{batch.failed} lines failed")
        output = folder / f"{batch.id}.jsonl"
        self._client.download(batch.output_file_id, output)
        return dict(_answers(output))


def _answers(output: Path) -> Iterator[tuple[str, str]]:
    for line in output.open("rb"):
        result = json.loads(line)
        yield result["custom_id"], result["response"]["body"]["choices"][0]["message"]["content"]


def measure(bench: Bench, lines: Path, num_chats: int) -> None:
    """Print what the chats waited, what everything cost, and whether the batch's answers stayed the same."""
    bench.chats(5)
    cpu, began = bench.cpu_seconds(), time.perf_counter()
    alone = bench.wait(bench.submit(lines))
    seconds, cpu = time.perf_counter() - began, bench.cpu_seconds() - cpu
    print(
        f"batch alone   {alone.completed} jobs  {alone.completed / seconds:.1f}/s  cpu {cpu:.1f} s",
        flush=True,
    )

    idle = bench.chats(num_chats)
    print(f"chats, idle   {idle}", flush=True)

    cpu, began = bench.cpu_seconds(), time.perf_counter()
    batch_id = bench.submit(lines)
    bench.wait(batch_id, WARM_SHARE * alone.completed)
    busy = bench.chats(num_chats)
    if bench.wait(batch_id, 0).has_ended:
        raise SystemExit("the batch ended before the chats; give it more --jobs")
    print(f"chats, busy   {busy}", flush=True)
    company = bench.wait(batch_id)
    seconds, cpu = time.perf_counter() - began, bench.cpu_seconds() - cpu
    print(f"batch + chats {company.completed} jobs  {company.completed / seconds:.1f}/s  cpu {cpu:.1f} s")
    ratios = [busy.at(share) / idle.at(share) for share in (0.5, 0.95)]
    print(f"busy/idle     p50 {ratios[0]:.2f}  p95 {ratios[1]:.2f}")

    first, second = (bench.answers(batch, lines.parent) for batch in (alone, company))
    num_same = sum(first[name] == second.get(name) for name in first)
    print(f"same answers  {num_same} of {len(first)}")
    if num_same < len(first):
        raise SystemExit("chats have changed the answers of the batch")


def main() -> None:
    """Start a stack and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chats", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=1500)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting")
    args = parser.parse_args()
    os.environ["SLUICE_ANSWER_CACHE_SECONDS"] = "0"  # the questions come round again
    os.environ.update(setting.split("=", 1) for setting in args.set)
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "jobs.jsonl")
        lines.write_bytes(b"".join(repeated_lines(MANIFESTS / "demo.jsonl", args.jobs)))
        options = StackOptions(data_dir=Path(folder, "data"), allow_files=(ROOT,))
        with Stack(options) as stack, Client(stack.url) as client:
            wait_until_ready(stack)
            measure(Bench(stack, client), lines, args.chats)


if __name__ == "__main__":
    main()
