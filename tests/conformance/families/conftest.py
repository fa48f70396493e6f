"""Every family in turn."""

from collections.abc import Callable, Iterator
from pathlib import Path

# Before transformers, which would otherwise load HQQ with torch's whole compiler.
import workers.model  # noqa: F401

# isort: split
import pytest
import torch
from family_checkpoints import CHECKPOINTS, Family, families_under

from workers.model.libraries import HAS_TORCHVISION

# MiniCPM-V's processor sums tensors through numpy, which numpy will not do for ever.
_NUMPY_ON_TENSORS = "ignore:__array_wrap__ must accept context:DeprecationWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Forgive the libraries what we cannot change."""
    for item in items:
        if item.path.parent == Path(__file__).parent and "minicpmv4_6" in item.name:
            item.add_marker(pytest.mark.filterwarnings(_NUMPY_ON_TENSORS))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def family_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    """A family by its name."""
    if not HAS_TORCHVISION:
        pytest.skip("Most of these families' processors need torchvision.")
    return families_under(tmp_path_factory.mktemp("families"))


@pytest.fixture(params=list(CHECKPOINTS), scope="session")
def family(request: pytest.FixtureRequest, family_of: Callable[[str], Family]) -> Family:
    """Each family in turn."""
    return family_of(request.param)
