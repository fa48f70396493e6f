"""What the tests of this folder talk to."""

from dataclasses import dataclass

from service.actions.parts import Parts


@dataclass(frozen=True)
class Served:
    """A service whose worker has the bundled model. url: without /v1."""

    url: str
    parts: Parts
