"""One running server for all tests of the wire: `sluice serve` with the bundled model, and two tenants with keys."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from front_door import sluice, started, url_in, wait_for
from wire_server import Wire

from sluice.client import Client

# Every test means its request to be computed, whatever another test has asked before.
ANEW = {"x-use-cache": "false"}


# Webhooks may be sent to receivers of ours, which are on loopback, and are tried again soon.
SETTINGS = {"allow_addresses": "127.0.0.1", "allow_http": "true", "webhook_retry_seconds": "0.2"}


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    folder = tmp_path_factory.mktemp("wire")
    cats, dogs = (_key_of(tenant, folder) for tenant in ("cats", "dogs"))
    with started("serve", "-p", "0", "--data-dir", "data", cwd=folder, **SETTINGS) as process:
        url = wait_for(lambda: process.poll() is not None or url_in(folder / "data"))
        assert process.poll() is None, process.communicate()
        with Client(url) as client:
            wait_for(client.is_ready)
        yield Wire(url, folder / "data", cats, dogs)


def _key_of(tenant: str, folder: Path) -> str:
    made = sluice("keys", "create", "--tenant", tenant, "--data-dir", "data", cwd=folder)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@pytest.fixture
def client(wire: Wire) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, as the tenant `cats`."""
    with openai.OpenAI(
        base_url=f"{wire.url}/v1", api_key=wire.cats, max_retries=0, timeout=60, default_headers=ANEW
    ) as opened:
        yield opened


@pytest.fixture
def cats(wire: Wire) -> Iterator[httpx.Client]:
    """Raw HTTP as the tenant `cats`."""
    with _raw(wire, wire.cats) as opened:
        yield opened


@pytest.fixture
def dogs(wire: Wire) -> Iterator[httpx.Client]:
    """Raw HTTP as the tenant `dogs`."""
    with _raw(wire, wire.dogs) as opened:
        yield opened


def _raw(wire: Wire, secret: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {secret}", **ANEW}
    return httpx.Client(base_url=wire.url, headers=headers, timeout=60)
