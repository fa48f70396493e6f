"""One thread: these tests share two cores with everything else."""

# Before transformers, which would otherwise load HQQ with torch's whole compiler.
import workers.model  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch

from models.training.checkpoint import new_processor, train_tokenizer
from models.training.corpus import corpus
from models.training.processor import MediaProcessor


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def processor() -> MediaProcessor:
    return new_processor(train_tokenizer(corpus(np.random.default_rng(0), num_scenes=150)))
