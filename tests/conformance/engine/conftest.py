"""Tiny models, each built once."""

from collections.abc import Callable, Iterator
from functools import cache

# Before transformers, which would otherwise load HQQ with torch's whole compiler.
import workers.model  # noqa: F401

# isort: split
import pytest
import tiny_models
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def family_of() -> Callable[[str], tiny_models.Family]:
    """A family by its name."""
    return cache(lambda name: tiny_models.FAMILIES[name]())


@pytest.fixture(params=list(tiny_models.FAMILIES))
def family(
    request: pytest.FixtureRequest, family_of: Callable[[str], tiny_models.Family]
) -> tiny_models.Family:
    """Each family in turn."""
    return family_of(request.param)
