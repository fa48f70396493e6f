"""The database, brought up to date before the processes that need it start."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.errors import ConfigurationError
from sluice.launcher.options import CONNECTIONS

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database

PREFIX = "SLUICE_"


@contextmanager
def opened(settings: "Settings") -> "Iterator[Database]":
    """The migrated database of a stack."""
    from service.store.database import Database
    from service.store.schema import migrate

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate(settings.database_url)
    database = Database(settings.database_url)
    try:
        yield database
    finally:
        database.close()


def settings_from(environment: Mapping[str, str]) -> "Settings":
    """The settings as a child with this environment will read them."""
    from pydantic import ValidationError

    from service.settings import Settings

    given = {name: environment.get(name) for name in CONNECTIONS} | {
        name.removeprefix(PREFIX).lower(): None if value == "none" else value
        for name, value in environment.items()
        if name.startswith(PREFIX)
    }
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        wrong = ", ".join(f"{PREFIX}{problem['loc'][0]}".upper() for problem in error.errors())
        raise ConfigurationError(f"A setting in the environment has a wrong value: {wrong}.") from None


def prepare(environment: Mapping[str, str], *, host: str) -> "Settings":
    """Migrate; ConfigurationError if the database is too new, or if `host` needs a key and there is none."""
    from service.actions.authenticate import require_safe_address

    settings = settings_from(environment)
    with opened(settings) as database:
        require_safe_address(host, database)
    return settings
