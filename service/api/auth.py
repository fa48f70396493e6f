"""Before a request is handled: who asks?"""

from urllib.parse import urlsplit

from flask import Flask, g, request

from service.actions.authenticate import authenticate, is_loopback
from service.api.context import current_parts

# Probes and documents that say nothing about anybody's work.
OPEN_PATHS = frozenset({"/health", "/ready", "/openapi.json", "/docs"})
OPEN_FOLDER = "/docs/"


def know_callers(app: Flask) -> None:
    """Find out who calls before every request but those to OPEN_PATHS and OPEN_FOLDER."""
    app.before_request(_remember_caller)


def _remember_caller() -> None:
    if request.path not in OPEN_PATHS and not request.path.startswith(OPEN_FOLDER):
        g.caller = authenticate(current_parts(), _bearer(), is_local=_is_local())


def _bearer() -> str | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _is_local() -> bool:
    """Whether this machine calls, and not a web page of somebody else's that its browser shows.

    Such a page can send requests to a loopback port, and with DNS rebinding even read the answers; it cannot
    forge the Host that it believes to talk to, nor Sec-Fetch-Site.
    """
    peer = request.remote_addr
    host = urlsplit(f"//{request.host}").hostname or ""
    from_a_page = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    return (not peer or is_loopback(peer)) and is_loopback(host) and not from_a_page
