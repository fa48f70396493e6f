"""Write a run's weights as a bfloat16 checkpoint: python -m models.training.export runs/tiny models/tiny-gemma4

A run that is still going is exported as it stands.
"""

import argparse
from pathlib import Path

from models.training.checkpoint import load_processor, save
from models.training.learner import Learner, Progress
from models.training.stages import SEED


def export(run: Path, folder: Path) -> None:
    """Put weights, configuration, tokenizer, processor and chat template into `folder`."""
    progress = Progress.read(run / "progress.pt")
    if progress is None:
        raise SystemExit(f"{run} holds no progress; train first: python -m models.training.train --out {run}")
    learner = Learner(SEED, compiled=False)
    learner.restore(progress.learner)
    save(learner.model.bfloat16(), load_processor(run / "tokenizer"), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    export(options.run, options.folder)


if __name__ == "__main__":
    main()
