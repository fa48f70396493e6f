"""Train the bundled model from scratch: python -m models.training.train --out runs/tiny

Kill it at any moment; the same command continues where it was.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import Parameter

from models.training.answers import AnswerTask
from models.training.checkpoint import load_processor, new_processor, save, train_tokenizer
from models.training.corpus import corpus
from models.training.learner import Learner, Progress
from models.training.optimizer import Optimizer, average, schedule
from models.training.see import SeeTask
from models.training.stages import RECIPE, SEED, SeeStage, Stage

SAVE_EVERY = 50
LOG_EVERY = 50


class Task(Protocol):
    """One stage's lesson."""

    named_parameters: list[tuple[str, Parameter]]
    errors: dict[str, float]

    @property
    def names(self) -> Sequence[str]: ...

    def backward(self, rng: np.random.Generator, step: int) -> torch.Tensor: ...

    def learn_from(self, tally: torch.Tensor) -> None: ...


class Run:
    """One process of a training run; process 0 also writes the progress."""

    def __init__(self, out: Path, recipe: Sequence[Stage], *, rank: int, world: int, compiled: bool) -> None:
        self.out, self.recipe, self.rank, self.world = out, recipe, rank, world
        self.processor = load_processor(out / "tokenizer")
        self.learner = Learner(SEED, compiled=compiled)
        self.progress_file = out / "progress.pt"

    def finish(self, *, stop_after: int | None = None) -> None:
        """Do all that is left of the recipe (or only `stop_after` steps of it), then write the checkpoint."""
        progress = Progress.read(self.progress_file)
        first, start = (progress.stage, progress.step) if progress else (0, 0)
        if progress:
            self.learner.restore(progress.learner)
        for index in range(first, len(self.recipe)):
            resumed = progress if index == first else None
            stop_after = self._run_stage(index, start if index == first else 0, resumed, stop_after)
            if stop_after == 0:
                return
        if self.rank == 0:
            save(self.learner.model, self.processor, self.out / "model")

    def _run_stage(
        self, index: int, start: int, resumed: Progress | None, stop_after: int | None
    ) -> int | None:
        stage = self.recipe[index]
        task = self._task(stage)
        optimizer = Optimizer(task.named_parameters, muon_rate=stage.muon_rate, adam_rate=stage.adam_rate)
        if resumed and resumed.optimizer:
            optimizer.restore(resumed.optimizer)
            task.errors.update(resumed.errors)
        log = Log(stage.name, task.names) if self.rank == 0 else None
        for step in range(start, stage.num_steps):
            # Every step has its own seed, so that a continued run draws what an unbroken one would have drawn.
            rng = np.random.default_rng([SEED, index, step, self.rank])
            tally = task.backward(rng, step)
            tally = average(optimizer.parameters, tally.reshape(-1), self.world).reshape(2, -1)
            task.learn_from(tally)
            optimizer.step(schedule(step, stage.num_steps, stage.warmup_steps, stage.flat))
            stop_after = None if stop_after is None else stop_after - 1
            if log:
                log.add(step, tally)
            if (step + 1) % SAVE_EVERY == 0 or stop_after == 0:
                self._save(index, step + 1, optimizer, task)
            if stop_after == 0:
                return 0
        self._save(index + 1, 0, None, task)
        return stop_after

    def _task(self, stage: Stage) -> Task:
        if isinstance(stage, SeeStage):
            return SeeTask(self.learner, stage)
        return AnswerTask(self.learner, stage, self.processor)

    def _save(self, stage: int, step: int, optimizer: Optimizer | None, task: Task) -> None:
        if self.rank == 0:
            state = optimizer.state() if optimizer else None
            Progress(stage, step, self.learner.state(), state, dict(task.errors)).write(self.progress_file)


class Log:
    """Prints what the last steps averaged."""

    def __init__(self, stage: str, names: Sequence[str]) -> None:
        self.stage, self.names = stage, names
        self.total = torch.zeros(2, len(names))
        self.began = time.monotonic()

    def add(self, step: int, tally: torch.Tensor) -> None:
        self.total += tally
        if (step + 1) % LOG_EVERY == 0 or step == 4:
            means = self.total[0] / self.total[1].clamp(min=1e-9)
            shown = (f"{n} {m:.3f}" for n, m, c in zip(self.names, means, self.total[1], strict=True) if c)
            print(f"{self.stage} {step + 1} {time.monotonic() - self.began:.0f}s |", *shown, flush=True)
            self.total.zero_()


def main() -> None:
    """Run the recipe with one thread in each of two processes, which average their gradients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meet", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out: Path = options.out
    children: list[subprocess.Popen[bytes]] = []
    if options.rank == 0:
        _prepare(out)
        meeting = Path(tempfile.mkdtemp()) / "meeting"
        children = [_start(out, rank, options.processes, meeting) for rank in range(1, options.processes)]
        pids = [os.getpid(), *(child.pid for child in children)]
        (out / "pids").write_text("\n".join(map(str, pids)) + "\n", encoding="utf-8")
    else:
        meeting = options.meet
    if options.processes > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=options.rank, world_size=options.processes
        )
    compiled = shutil.which("g++") is not None
    Run(out, RECIPE, rank=options.rank, world=options.processes, compiled=compiled).finish()
    for child in children:
        child.wait()


def _prepare(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer" / "tokenizer.json").exists():
        new_processor(train_tokenizer(corpus(np.random.default_rng(SEED)))).save_pretrained(out / "tokenizer")


def _start(out: Path, rank: int, processes: int, meeting: Path) -> "subprocess.Popen[bytes]":
    arguments = [
        "--out",
        str(out),
        "--processes",
        str(processes),
        "--rank",
        str(rank),
        "--meet",
        str(meeting),
    ]
    return subprocess.Popen([sys.executable, "-m", "models.training.train", *arguments])


if __name__ == "__main__":
    main()
