"""Which addresses mean this machine alone."""

import pytest

from service.actions.authenticate import is_loopback


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost", "unix:/run/api.sock"]
)
def test_loopback_is_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "192.168.1.9",
        "example.org",
        "localhost.example.org",
        "127.0.0.1.nip.io",
    ],
)
def test_everything_else_is_not(host):
    assert not is_loopback(host)
