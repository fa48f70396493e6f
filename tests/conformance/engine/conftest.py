"""Every family in turn, and the requests it is asked."""

from collections.abc import Iterator

# Before transformers, which would otherwise load HQQ with torch's whole compiler.
import workers.model  # noqa: F401

# isort: split
import pytest
import torch
from crowds import Crowd, crowd_of, family_of
from tiny_families import FAMILIES, VARIANTS
from tiny_families.family import Family

from workers.model.kernels import attention


@pytest.fixture(autouse=True, scope="session")
def _as_loaded() -> Iterator[None]:
    """One thread, and our attention kernels, as a CPU worker has them."""
    attention.install()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=list(FAMILIES), scope="session")
def family(request: pytest.FixtureRequest) -> Family:
    """Each family in turn."""
    return family_of(request.param)


@pytest.fixture(params=[*FAMILIES, *VARIANTS], scope="session")
def crowd(request: pytest.FixtureRequest) -> Crowd:
    """Each family's requests and answers in turn."""
    return crowd_of(request.param)
