"""How long a chat waits in the engine for its first token: alone, and while bulk holds every slot and more of it waits.

    python -m benchmarks.bench_priority [--chats 200] [--rounds 4] [--set max_bulk_tokens_beside_chat=128]

One engine in this process, put together as a worker puts it together; all prompts are prepared beforehand. A chat (a
picture and a question) arrives at any moment of a step; the next one comes after its end. Idle and busy rounds take
turns, so that other work on the machine meets both. Wall clock and CPU time of this process, from `submit` to the first
token. Every answer of bulk must be what it is without chats.
"""

import argparse
import itertools
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.bench_end_to_end import ROOT, prepared_alone, repeated_lines
from service.actions.parts import assemble
from service.contract.lifecycle import JobClass
from service.settings import Settings
from workers.desk.prepare import Preparer
from workers.desk.reuse import Reuse
from workers.engine.engine import Engine
from workers.engine.protocol import Broken, EngineEvent, Finished, Progress, Sequence
from workers.media.limits import MediaLimits
from workers.media.media import Media
from workers.model.choose_model import Limits, make_slot_model
from workers.model.loading import LoadOptions, load
from workers.opening import engine_config

MANIFESTS = ROOT / "manifests"
LONGEST_PAUSE_SECONDS = 0.06
ANSWER_TOKENS = 16


@dataclass
class Waits:
    """Seconds to the first token of each chat, and how long the steps took meanwhile."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return f"wall {_milliseconds(self.wall)}  cpu {_milliseconds(self.cpu)}"


def at(share: float, seconds: list[float]) -> float:
    """What this share of them does not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, round(share * len(ordered)))]


def _milliseconds(seconds: list[float]) -> str:
    return f"p50 {1e3 * statistics.median(seconds):.1f} ms p95 {1e3 * at(0.95, seconds):.1f} ms"


class Driver:
    """Steps the engine in this thread, as the desk's stepper does, while another one sends chats."""

    def __init__(self, engine: Engine, bulk: list[Sequence], chats: list[Sequence]) -> None:
        self._engine = engine
        self._bulk = bulk
        self._chats = itertools.cycle(chats)
        self._numbers = itertools.count()
        self._wake = threading.Event()
        self._sent = (0.0, 0.0)
        self._ended = threading.Event()
        self.answers: dict[int, list[list[int]]] = {}

    def run(self, num_chats: int, *, is_busy: bool) -> Waits:
        """So many chats one after the other; bulk keeps the slots full until the last of them, then ends."""
        waits = Waits()
        bulk = self._endless_bulk() if is_busy else iter(())
        while is_busy and self._engine.num_free_slots:
            self._feed(bulk)
            self._step(Waits())
        sender = threading.Thread(target=self._send, args=(num_chats,), daemon=True)
        sender.start()
        while sender.is_alive() or self._engine.has_work:
            if sender.is_alive():
                self._feed(bulk)
            if self._engine.has_work:
                self._step(waits)
            else:
                self._wake.wait(0.1)
                self._wake.clear()
        return waits

    def answer_bulk(self) -> None:
        """Every prompt of bulk once, without chats."""
        for place in range(len(self._bulk)):
            self._engine.submit(self._bulk_sequence(place))
        while self._engine.has_work:
            self._step(Waits())

    def _endless_bulk(self) -> Iterator[Sequence]:
        for place in itertools.cycle(range(len(self._bulk))):
            yield self._bulk_sequence(place)

    def _bulk_sequence(self, place: int) -> Sequence:
        return replace(self._bulk[place], id=next(self._numbers), tokens=[], tag=place)

    def _feed(self, bulk: Iterator[Sequence]) -> None:
        engine = self._engine
        while engine.num_waiting < engine.num_running + engine.num_free_slots:
            if (sequence := next(bulk, None)) is None:
                return
            engine.submit(sequence)

    def _send(self, num_chats: int) -> None:
        for _ in range(num_chats):
            time.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))
            chat = replace(next(self._chats), id=next(self._numbers), tokens=[], tag=None)
            self._ended.clear()
            self._sent = time.perf_counter(), time.process_time()
            self._engine.submit(chat)
            self._wake.set()
            self._ended.wait()

    def _step(self, waits: Waits) -> None:
        began = time.perf_counter()
        events = self._engine.step()
        waits.steps.append(time.perf_counter() - began)
        for event in events:
            self._note(event, waits)

    def _note(self, event: EngineEvent, waits: Waits) -> None:
        sequence = event.sequence
        match event:
            case Broken():
                raise SystemExit(f"a sequence failed: {event.message}")
            case Progress() if sequence.tag is None and len(sequence.tokens) == 1:
                waits.wall.append(time.perf_counter() - self._sent[0])
                waits.cpu.append(time.process_time() - self._sent[1])
            case Finished() if isinstance(sequence.tag, int):
                self.answers.setdefault(sequence.tag, []).append(sequence.tokens)
            case Finished():
                self._ended.set()


def prepare(preparer: Preparer, manifest: Path, kind: JobClass) -> list[Sequence]:
    """One sequence for each line, in greedy float32 as the worker would draw it."""
    num_lines = sum(1 for line in manifest.open("rb") if line.strip())
    prepared: list[Sequence] = []
    for number, line in enumerate(repeated_lines(manifest, num_lines)):
        body = json.loads(line)["body"]
        if kind is JobClass.CHAT:
            body |= {"max_tokens": ANSWER_TOKENS}
        prepared += prepared_alone(preparer, number, json.dumps(body).encode(), kind)
    return prepared


def measure(driver: Driver, num_chats: int, rounds: int) -> None:
    """Idle and busy rounds in turn, then the figures of all rounds together."""
    driver.answer_bulk()
    alone = {place: answers[0] for place, answers in driver.answers.items()}
    driver.answers.clear()
    driver.run(5, is_busy=False)
    idle, busy = Waits(), Waits()
    for _ in range(rounds):
        for total, is_busy in ((idle, False), (busy, True)):
            waits = driver.run(num_chats // rounds, is_busy=is_busy)
            total.wall += waits.wall
            total.cpu += waits.cpu
            total.steps += waits.steps
    print(f"idle       {idle}")
    print(f"busy       {busy}")
    print(f"busy/idle  {_ratios('wall', idle.wall, busy.wall)}  {_ratios('cpu', idle.cpu, busy.cpu)}")
    print(f"steps      {_milliseconds(busy.steps)}")
    answers = [(place, tokens) for place, given in driver.answers.items() for tokens in given]
    num_same = sum(tokens == alone[place] for place, tokens in answers)
    print(f"bulk       {num_same} of {len(answers)} answers are what they are without chats")
    if num_same < len(answers):
        raise SystemExit("chats have changed the answers of bulk")


def _ratios(name: str, idle: list[float], busy: list[float]) -> str:
    median = statistics.median(busy) / statistics.median(idle)
    return f"{name} p50 {median:.2f} p95 {at(0.95, busy) / at(0.95, idle):.2f}"


def main() -> None:
    """Open the bundled model and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chats", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of EngineConfig")
    args = parser.parse_args()
    random.seed(1)
    changes = {name: json.loads(value) for name, value in (each.split("=", 1) for each in args.set)}
    with tempfile.TemporaryDirectory() as folder:
        parts = assemble(Settings(data_dir=Path(folder), allow_files=str(ROOT)))
        settings = parts.settings
        loaded = load(LoadOptions.from_settings(settings))
        config = replace(engine_config(loaded.model.device.type), **changes)
        # No caches: every picture counts as new.
        serving = make_slot_model(loaded, Limits(settings.max_slots, settings.max_context_tokens), config)
        with Media(MediaLimits(), roots=settings.allowed_roots, num_decoders=1) as media:
            reuse = Reuse(parts, media.content, identity="measured")
            preparer = Preparer(parts, media, loaded.prompter, serving.model.max_context_tokens, reuse)
            bulk = prepare(preparer, MANIFESTS / "demo.jsonl", JobClass.BULK)
            chats = prepare(preparer, MANIFESTS / "images.jsonl", JobClass.CHAT)
        measure(Driver(Engine(serving.model, serving.config), bulk, chats), args.chats, args.rounds)


if __name__ == "__main__":
    main()
