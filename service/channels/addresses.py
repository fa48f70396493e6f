"""Which addresses this server dials for strangers: hosts of the public internet, and what the operator adds."""

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias
from urllib.parse import urlsplit

from service.errors import BadRequest, ConfigurationError

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_URL_CHARACTERS = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
# Below this lie the ports of mail, shells and name servers, which understand HTTP well enough to be abused.
FIRST_FREE_PORT = 1024

# `is_global` alone lets these through, or did in some version of Python.
_NEVER_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",
            "168.63.129.16/32",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "224.0.0.0/3",
        ),
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
# Teredo and its neighbours, 6to4, documentation, the old 6bone: many carry an IPv4 address that nobody has looked at.
_NEVER_6 = tuple(map(IPv6Network, ("2001::/23", "2002::/16", "2001:db8::/32", "3ffe::/16", "3fff::/20")))
_ISATAP = 0x0000_5EFE
_ISATAP_MASK = 0xFDFF_FFFF

_HOST = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])"
)
_REFUSED_CHARACTERS = re.compile(r"[\x00-\x20\x7f\\]")


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be dialled besides public addresses. hosts: names that may lead anywhere. http: without TLS too."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    http: bool = False

    @classmethod
    def parse(cls, allowed: str, *, http: bool = False) -> "Reach":
        """allowed: addresses, networks and host names between commas, as an operator writes them."""
        networks, hosts = [], set()
        for entry in filter(None, (part.strip().lower() for part in allowed.split(","))):
            if re.fullmatch(r"[a-z0-9_.-]*[a-z][a-z0-9_.-]*", entry):
                hosts.add(entry.rstrip("."))
                continue
            try:
                networks.append(ip_network(entry))
            except ValueError:
                raise ConfigurationError(
                    f"SLUICE_ALLOW_ADDRESSES holds {entry!r}, which is no address, network or host name.",
                    hint="For example 10.0.0.0/8,hooks.internal.",
                ) from None
        return cls(tuple(networks), frozenset(hosts), http)

    def permits(self, address: Address) -> bool:
        """Whether an address may be dialled."""
        plain = _unmapped(address)
        return is_public(plain) or any(plain in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. host: lower case, without brackets. address: where the host is one. path: with its query."""

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = None

    @property
    def host_header(self) -> str:
        """The host as HTTP says it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def read_url(url: str, reach: Reach) -> Target:
    """Take a URL apart, once and for all; BadRequest for one that we would never dial. Looks up no name."""
    if not url.isascii() or _REFUSED_CHARACTERS.search(url) or len(url) > MAX_URL_CHARACTERS:
        raise _refused(
            f"A URL has at most {MAX_URL_CHARACTERS} plain characters.",
            hint="Write other letters of a host's name as xn--…, and of a path as %….",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("This is not a URL.") from None
    if parts.scheme != "https" and not (reach.http and parts.scheme == "http"):
        raise _refused("The URL must start with https://.")
    if "@" in parts.netloc:
        raise _refused("The URL must not hold a user name or a password.")
    host = (parts.hostname or "").lower().removesuffix(".")
    address = _literal(host)
    if address is None and host not in reach.hosts and not _HOST.fullmatch(host):
        raise _refused("The URL's host must be a full name or a plain address.")
    if address is not None and not reach.permits(address):
        raise _refused("The URL's address is not on the public internet.", code="address_not_allowed")
    target = Target(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], _path(url), address)
    if target.port < FIRST_FREE_PORT and target.port not in DEFAULT_PORTS.values():
        raise _refused(f"The URL's port must be 80, 443, or {FIRST_FREE_PORT} and above.")
    return target


def is_public(address: Address) -> bool:
    """Whether an address is a host's on the public internet, and holds no other address inside."""
    address = _unmapped(address)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NEVER_4)
    interface = int(address) >> 32 & 0xFFFF_FFFF
    return (
        address in _PUBLIC_6
        and not any(address in network for network in _NEVER_6)
        and interface & _ISATAP_MASK != _ISATAP
    )


def _unmapped(address: Address) -> Address:
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _literal(host: str) -> Address | None:
    if "%" in host:
        raise _refused("An address in a URL has no zone.")
    try:
        return ip_address(host)
    except ValueError:
        return None


def _path(url: str) -> str:
    # Everything behind the host as it was written: whoever signed it signed these characters.
    behind = url.partition("#")[0].partition("://")[2]
    start = min((at for at in (behind.find("/"), behind.find("?")) if at >= 0), default=len(behind))
    path = behind[start:]
    return path if path.startswith("/") else f"/{path}"


def _refused(message: str, *, code: str = "invalid_url", hint: str | None = None) -> BadRequest:
    return BadRequest(message, param="url", code=code, hint=hint)
