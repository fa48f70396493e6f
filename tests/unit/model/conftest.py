"""One thread for all of torch: the machines that run the tests have few cores."""

import pytest
import torch

from workers.model.libraries import HAS_TORCHVISION

needs_torchvision = pytest.mark.skipif(
    not HAS_TORCHVISION, reason="this family's processor needs torchvision"
)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
