"""One thread for all of torch: the machines that run the tests have few cores."""

import pytest
import torch

# Before anything from transformers, which imports torchvision where that is installed.
from workers.model import libraries as libraries


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
