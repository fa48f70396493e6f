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
    """The database of a stack."""
    from service.store.database import Database

    database = Database(settings.database_url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def migrated(settings: "Settings") -> "Iterator[Database]":
    """The database of a stack, brought up to date."""
    from service.store.schema import migrate

    migrate(settings.database_url)
    with opened(settings) as database:
        yield database


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
    with migrated(settings) as database:
        require_safe_address(host, database)
    return settings


def lose_workers(settings: "Settings", role: str | None, cause: str) -> None:
    """End the leases of workers whose processes are known to be dead, so that their jobs need not wait for it.

    Only where the database is the data directory's own: another may have workers on other machines.
    """
    from sqlalchemy import select

    from service.store import workers
    from service.store.tables import Worker

    if settings.database_url_setting is not None:
        return
    with opened(settings) as database, database.transaction() as session:
        alive = select(Worker.id).where(~Worker.dead)
        if role is not None:
            alive = alive.where(Worker.role == role)
        for worker_id in session.scalars(alive).all():
            workers.lose(session, worker_id, cause)
