"""Who asks: an account, somebody whom a trusted proxy names, or a browser that keeps a secret."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from core.history import NOBODY
from webapp import visitors

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Role = Literal["admin", "user", "visitor"]
MOST_LETTERS = 200
"""Of a name in a proxy's header."""


class Asked(Protocol):
    """What is read of a request; starlette's and Gradio's both have it."""

    @property
    def headers(self) -> Any: ...
    @property
    def client(self) -> Any: ...
    @property
    def cookies(self) -> Any: ...


@dataclass(frozen=True)
class Identity:
    """Whoever sent a request, as the server knows it."""

    owner: str
    """Of jobs and pictures: `account:NAME`, or `visitor:` and the digest of a secret."""
    name: str
    """For people; whatever a proxy said, so escape it. Empty for a visitor."""
    role: Role

    def sees(self, owner: str) -> bool:
        """Whether this one may look at a picture of `owner` that is not shared: its own, and an
        admin at everybody's. Nobody's are open without accounts, to whom knows their address."""
        if self.role == "visitor":
            return owner in (self.owner, NOBODY)
        return self.role == "admin" or owner == self.owner

    @property
    def manages(self) -> bool:
        """Whether this one may do what everybody feels: start and stop audits, unload models."""
        return self.role != "user"


Identify = Callable[[Asked], Identity | None]
"""None where a request comes from nobody whom this server knows."""


def account(name: str, role: Role) -> Identity:
    return Identity(f"account:{name}", name, role)


def visitor(secret: object) -> Identity:
    """Without accounts: whoever keeps this secret, see `webapp.visitors`."""
    return Identity(visitors.owner(secret), "", "visitor")


def network(text: str) -> Network:
    """An address or a CIDR range. Raises ValueError with a sentence."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        raise ValueError(
            f"A trusted proxy is an address or a range such as 10.0.0.0/8, not {text!r}."
        ) from None


@dataclass(frozen=True, kw_only=True)
class ProxyHeader:
    """An `Identify`: a proxy has asked for the password and names the user in a header.

    Believed only of a peer in `trusted`, whose own address is looked at and not one that another
    header claims. A header that comes twice names nobody: one of them is not the proxy's.
    """

    header: str
    trusted: tuple[Network, ...]
    admins: frozenset[str] = field(default_factory=frozenset)

    def __call__(self, asked: Asked) -> Identity | None:
        if asked.client is None or not self._trusts(asked.client.host):
            return None
        found = _values(asked.headers, self.header)
        name = found[0].strip(" \t") if len(found) == 1 else ""
        if not name or len(name) > MOST_LETTERS or not name.isprintable():
            return None
        return account(name, "admin" if name in self.admins else "user")

    def _trusts(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in one for one in self.trusted)


def _values(headers: Any, name: str) -> list[str]:
    """Every value of a header; a plain dictionary has one at most."""
    if hasattr(headers, "getlist"):
        return list(headers.getlist(name))
    small: Mapping[str, str] = {key.lower(): value for key, value in headers.items()}
    return [small[name.lower()]] if name.lower() in small else []
