"""The bundled model answers on one thread, as it may in a worker."""

# Before transformers, which would otherwise load HQQ with torch's whole compiler.
import workers.model  # noqa: F401

# isort: split
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
