"""Our engine against what a user would pick instead: useful tokens per CPU-second, one thread each, float32.

    python -m benchmarks.bench_engine [--peers sluice hf-loop …] [--repetitions 3]

One checkpoint for all (benchmarks/peers/checkpoint.py), pictures never seen before, 8 to 39 words, greedy.
`uniform N`: N requests at a time, 32 tokens each. `mixed N`: answers of 8, 16, 32 or 128 tokens, the workload that a
scheduler should be judged by. Every peer is a process of its own; workloads and repetitions are interleaved, and the
figure is the median of useful output tokens per CPU-second of that process, preparation of the pictures included. The
HF loop and Sluice run in this environment, the others where `benchmarks/peers/setup.sh` has built theirs.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.peers.talk import WORDS, Answers, Request

ROOT = Path(__file__).resolve().parent.parent
PEERS = {
    "sluice": (Path(sys.executable), "run_sluice"),
    "hf-loop": (Path(sys.executable), "run_hf_loop"),
    "vllm": (ROOT / ".peers/vllm/bin/python", "run_vllm"),
    "mistralrs": (ROOT / ".peers/mistralrs/bin/python", "run_mistralrs"),
    "transformers-serve": (ROOT / ".peers/transformers-serve/bin/python", "run_transformers_serve"),
}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "CANDLE_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
MIXED = (8, 16, 32, 128)


@dataclass(frozen=True)
class Workload:
    """So many requests, so many of them at once, with answers of these lengths."""

    name: str
    at_once: int
    num_requests: int
    lengths: tuple[int, ...]


WORKLOADS = (
    Workload("uniform 1", 1, 6, (32,)),
    Workload("uniform 8", 8, 32, (32,)),
    Workload("uniform 16", 16, 32, (32,)),
    Workload("uniform 32", 32, 64, (32,)),
    Workload("mixed 16", 16, 64, MIXED),
    Workload("mixed 32", 32, 64, MIXED),
)
WARM_UP = Workload("warm-up", 4, 4, (8,))


@dataclass
class Peer:
    """A running peer and what it has achieved: tokens per CPU-second by workload, and answers of the first round."""

    name: str
    process: "subprocess.Popen[str]"
    about: str
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[Any]] = field(default_factory=dict)

    def run(self, workload: Workload, requests: list[Request]) -> None:
        """Run a workload once and keep the figure."""
        assert self.process.stdin is not None
        print(
            json.dumps({"requests": requests, "at_once": workload.at_once}),
            file=self.process.stdin,
            flush=True,
        )
        told = Answers(**_read(self.process))
        self.rates[workload.name].append(told.num_tokens / told.cpu_seconds)
        self.answers.setdefault(workload.name, told.answers)

    def median(self, workload: Workload) -> float:
        """Useful tokens per CPU-second."""
        return statistics.median(self.rates[workload.name])


def make_requests(folder: Path, workload: Workload, seed: int) -> list[Request]:
    """Pictures nobody has seen before, as JPEG files, with questions of 8 to 39 words."""
    rng = random.Random(f"{workload.name} {seed}")
    # Every length equally often, in random order: a repetition must not differ from another by its mixture.
    lengths = [workload.lengths[n % len(workload.lengths)] for n in range(workload.num_requests)]
    rng.shuffle(lengths)
    requests = []
    for number, length in enumerate(lengths):
        path = folder / f"{workload.name.replace(' ', '-')}-{seed}-{number}.jpg"
        _draw(rng).save(path, "JPEG")
        requests.append(Request(str(path), " ".join(rng.choices(WORDS, k=rng.randint(8, 39))), length))
    return requests


def _draw(rng: random.Random) -> Image.Image:
    def colour() -> tuple[int, int, int]:
        return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)

    image = Image.new("RGB", (320, 240), colour())
    for _ in range(rng.randint(1, 4)):
        x, y = rng.randint(0, 240), rng.randint(0, 160)
        box = (x, y, x + rng.randint(20, 80), y + rng.randint(20, 80))
        ImageDraw.Draw(image).ellipse(box, colour())
    return image


def start(name: str, checkpoint: Path, log: Path) -> Peer:
    """Start a peer and wait until its model is loaded."""
    python, module = PEERS[name]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [str(python), "-m", f"benchmarks.peers.{module}", str(checkpoint)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        env=environment,
        cwd=ROOT,
        text=True,
    )
    return Peer(name, process, _read(process)["about"])


def _read(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        # Engines print what they like between our lines.
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise RuntimeError("the peer has ended; its log says why")


def stop(peer: Peer) -> None:
    """Let a peer end."""
    assert peer.process.stdin is not None
    peer.process.stdin.close()
    try:
        peer.process.wait(30)
    except subprocess.TimeoutExpired:
        peer.process.kill()


def report(peers: list[Peer], workloads: list[Workload], texts: Any) -> None:
    """A line for each peer, one for each ratio, and how many answers say what the HF loop says."""
    width = max(len(peer.name) for peer in peers) + 2
    print(f"\n{'useful tokens per CPU-second':{width + 14}s}" + "".join(f"{w.name:>12s}" for w in workloads))
    for peer in peers:
        print(f"{peer.name:{width + 14}s}" + "".join(f"{peer.median(w):12.0f}" for w in workloads))
    by_name = {peer.name: peer for peer in peers}
    ours = by_name.get("sluice")
    for peer in peers:
        if ours is not None and peer is not ours:
            ratios = "".join(f"{ours.median(w) / peer.median(w):11.2f}x" for w in workloads)
            print(f"{'sluice / ' + peer.name:{width + 14}s}" + ratios)
    reference = by_name.get("hf-loop")
    if reference is None:
        return
    print("answers equal to the HF loop's")
    for peer in peers:
        counts = [_num_equal(peer.answers[w.name], reference.answers[w.name], texts) for w in workloads]
        print(f"{peer.name:{width + 14}s}" + "".join(f"{count:>12s}" for count in counts))


def _num_equal(answers: list[Any], reference: list[Any], texts: Any) -> str:
    """Peers that give texts instead of token ids are compared by text."""
    same = sum(
        answer == (texts(tokens) if isinstance(answer, str) else tokens)
        for answer, tokens in zip(answers, reference, strict=True)
    )
    return f"{same}/{len(reference)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    there = [name for name, (python, _) in PEERS.items() if python.exists()]
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=there)
    parser.add_argument("--workloads", nargs="+", choices=[w.name.replace(" ", "-") for w in WORKLOADS])
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    chosen = [w for w in WORKLOADS if not options.workloads or w.name.replace(" ", "-") in options.workloads]
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), options.peers, chosen, options.repetitions)


def measure(folder: Path, names: list[str], workloads: list[Workload], repetitions: int) -> None:
    """Interleave the peers over workloads and repetitions, and report."""
    checkpoint = folder / "checkpoint"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.checkpoint", str(checkpoint)], check=True, cwd=ROOT
    )
    peers: list[Peer] = []
    try:
        for name in names:
            log = folder / f"{name}.log"
            try:
                peers.append(start(name, checkpoint, log))
                peers[-1].run(WARM_UP, make_requests(folder, WARM_UP, 0))
                print(f"{name:20s}{peers[-1].about}", flush=True)
            except (RuntimeError, BrokenPipeError):
                print(f"{name:20s}left out: it does not start\n{log.read_text()[-2000:]}", flush=True)
                peers = [peer for peer in peers if peer.name != name]
        for repetition in range(repetitions):
            for workload in workloads:
                requests = make_requests(folder, workload, repetition)
                for peer in peers:
                    peer.run(workload, requests)
        report(peers, workloads, _texts(checkpoint))
    finally:
        for peer in peers:
            stop(peer)


def _texts(checkpoint: Path) -> Any:
    """Token ids to the text that a server would show."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


if __name__ == "__main__":
    main()
