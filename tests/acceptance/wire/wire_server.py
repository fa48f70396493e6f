"""A running server, as the tests of the wire see it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wire:
    """url: without /v1. cats, dogs: the secrets of two tenants' keys. data_dir: the server's own folder."""

    url: str
    data_dir: Path
    cats: str
    dogs: str
