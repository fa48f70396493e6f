"""Who may come in: with no key stored, this machine alone; once one exists, only those who hold one."""

import hashlib
import ipaddress
import logging

from service.actions.parts import Parts
from service.contract.callers import Caller, Role
from service.errors import ConfigurationError, Unauthorized
from service.store import keys
from service.store.database import Database

log = logging.getLogger(__name__)


def authenticate(parts: Parts, secret: str | None, *, is_local: bool) -> Caller:
    """The caller who holds `secret`. is_local: whether the request came from this machine, by a local name.

    While no key is stored, this machine is trusted with everything: it could as well make a key for itself.
    """
    if secret is not None and (caller := _holder(parts, secret)) is not None:
        assert caller.key_id is not None
        parts.door.uses.note(caller.key_id)
        return caller
    if parts.door.has_keys():
        if secret is not None:
            log.info("Refused a key: %s", keys.shown(secret))
        raise Unauthorized(
            "Send a valid API key: Authorization: Bearer KEY.",
            code="invalid_api_key",
            hint="A key that worked before was revoked or has expired." if secret else None,
        )
    if is_local:
        return Caller(role=Role.ADMIN)
    raise Unauthorized(
        "This server has no API key yet, and without one it answers its own machine alone.",
        hint="Make a key on the server: sluice keys create --tenant NAME",
    )


def require_safe_address(host: str, database: Database) -> None:
    """Refuse to listen beyond this machine while no key opens it. host: a name, a number, or `unix:…`."""
    if is_loopback(host):
        return
    with database.reading() as db:
        if keys.any_valid(db):
            return
        were_there = keys.any_exist(db)
    why = "every API key was revoked or has expired" if were_there else "anybody could use this server"
    raise ConfigurationError(
        f"Refusing to listen on {host} without an API key, since {why}. "
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


def _holder(parts: Parts, secret: str) -> Caller | None:
    if not keys.is_secret(secret):
        return None
    digest = hashlib.sha256(secret.encode()).digest()
    return parts.door.callers.recall(digest, lambda: _looked_up(parts, secret))


def _looked_up(parts: Parts, secret: str) -> Caller | None:
    with parts.database.reading() as db:
        key = keys.authenticate(db, secret)
    return Caller(key.tenant_id, key.id, key.role) if key is not None else None
