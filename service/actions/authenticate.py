"""Who may come in: with no key stored, this machine alone; once one exists, only those who hold one."""

import ipaddress

from service.actions.parts import Parts
from service.contract.callers import Caller
from service.errors import ConfigurationError, Unauthorized
from service.store import keys
from service.store.database import Database


def authenticate(parts: Parts, secret: str | None, *, is_local: bool) -> Caller:
    """The caller who holds `secret`. is_local: whether the request came from this machine, by a local name."""
    with parts.database.reading() as db:
        if not keys.any_exist(db):
            if is_local:
                return Caller()
            raise Unauthorized(
                "This server has no API key yet, and without one it answers its own machine alone.",
                hint="Make a key on the server: sluice keys create --tenant NAME",
            )
        key = keys.authenticate(db, secret) if secret else None
    if key is None:
        raise Unauthorized("Send a valid API key: Authorization: Bearer KEY.", code="invalid_api_key")
    return Caller(tenant_id=key.tenant_id, key_id=key.id)


def require_safe_address(host: str, database: Database) -> None:
    """Refuse to listen beyond this machine while no key exists. host: a name, a number, or `unix:…`."""
    if is_loopback(host):
        return
    with database.reading() as db:
        if keys.any_exist(db):
            return
    raise ConfigurationError(
        f"Refusing to listen on {host} without an API key, since anybody could use this server. "
        "Make one first: sluice keys create --tenant NAME",
        code="key_required",
    )


def is_loopback(host: str) -> bool:
    """Whether an address means this machine and nobody else."""
    if host.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
