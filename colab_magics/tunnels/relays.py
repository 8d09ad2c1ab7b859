"""Servers that forward a port back to us by ``ssh -R``, and the address that each of them tells.

Of a plain sshd ssh itself says which port it is; nothing is read there from what a server prints. Public services name
an address of their own: each says it in a line of its own form, and only names of its own domains count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidInput
from ..transport import ssh
from ..transport.forward import LOCAL
from ..units import without_controls


@dataclass(frozen=True)
class Service:
    """A public service, as its documentation describes it.

    Parameters
    ----------
    names : tuple of str
        The hosts that ssh connects to.
    domains : tuple of str
        Of the addresses that it gives out.
    web, tcp : str
        The port to ask for: for web pages, and for anything else; empty where it forwards no such thing.
    web_line, tcp_line : re.Pattern
        The line that names the address.
    port : str
        Where its sshd listens.
    tcp_user : str
        The user name that asks for a port of TCP.
    """

    names: tuple[str, ...]
    domains: tuple[str, ...]
    web: str
    web_line: re.Pattern[str]
    tcp: str = ""
    tcp_line: re.Pattern[str] = re.compile(r"(?!)")
    port: str = "22"
    tcp_user: str = ""

    def address(self, line: str, *, tcp: bool) -> str:
        """Return the address that a line names, ``https://NAME`` or ``tcp://NAME:PORT``; empty when it names none."""
        found = (self.tcp_line if tcp else self.web_line).fullmatch(without_controls(line).strip())
        if found is None:
            return ""
        scheme, _, place = found[1].rpartition("://")
        name = place.rstrip("/").partition(":")[0].lower()
        if not any(name == domain or name.endswith(f".{domain}") for domain in self.domains):
            return ""
        return f"{scheme or 'tcp'}://{place.rstrip('/')}"


_WEB = r"https?://[\w.-]+/?"
_TCP = r"(?:tcp://)?[\w.-]+:\d+"
SERVICES = (
    Service(
        names=("localhost.run", "ssh.localhost.run"),
        domains=("lhr.life", "lhr.rocks", "lhrtunnel.link", "localhost.run"),
        web="80",
        web_line=re.compile(rf"\S+ tunneled with tls termination, ({_WEB})"),
    ),
    Service(
        names=("serveo.net", "serveo"),
        domains=("serveo.net", "serveousercontent.com"),
        web="80",
        web_line=re.compile(rf"Forwarding HTTP traffic from ({_WEB})"),
        tcp="0",
        tcp_line=re.compile(rf"Forwarding TCP connections from ({_TCP})"),
    ),
    Service(
        names=("a.pinggy.io", "free.pinggy.io", "pro.pinggy.io", "pinggy.io", "pinggy"),
        domains=("pinggy.link", "pinggy.online", "pinggy-free.link"),
        web="0",
        web_line=re.compile(r"(https://[\w.-]+/?)"),
        tcp="0",
        tcp_line=re.compile(r"(tcp://[\w.-]+:\d+)"),
        port="443",
        tcp_user="tcp",
    ),
)
_REAL = {"serveo": "serveo.net", "pinggy": "a.pinggy.io", "pinggy.io": "a.pinggy.io"}
"""What users call services by, and the hosts that they mean."""

_ALLOCATED = re.compile(r"Allocated port (\d+) for remote forward to ")
_SUCCEEDED = re.compile(r"debug1: remote forward success for: listen (?:\S+:)?(\d+), connect ")


@dataclass(frozen=True)
class Relay:
    """A server that forwards a port to us.

    Parameters
    ----------
    host : str
        Its name for ssh.
    service : Service or None
        The public service that it is; None for a plain sshd.
    tcp : bool
        Whether more than web pages is to go through.
    """

    host: str
    service: Service | None
    tcp: bool

    @classmethod
    def named(cls, text: str, *, tcp: bool) -> Relay:
        """Return the relay that a user means.

        Raises
        ------
        InvalidInput
            For what is no host, and for a service that forwards web pages alone.
        """
        user, at, name = ssh.check_host(text).rpartition("@")
        of = next((one for one in SERVICES if name in one.names), None)
        host = text
        if of is None:
            real = ssh.resolved(text).get("hostname", "")
            of = next((one for one in SERVICES if real in one.names), None)
        elif ssh.resolved(name).get("hostname") == name:
            host = f"{user}{at}{_REAL.get(name, name)}"  # ssh's configuration says nothing of it
        if of is not None and tcp:
            if not of.tcp:
                others = ", ".join(one.names[0] for one in SERVICES if one.tcp)
                raise InvalidInput(
                    f"{of.names[0]} forwards web pages only, and no ssh.",
                    f"Use another relay: via=ssh:HOST with any sshd of yours, or {others}",
                )
            if of.tcp_user and not at:
                host = f"{of.tcp_user}@{host}"
        return cls(host, of, tcp)

    def words(self, port: int, there: int) -> list[str]:
        """Return ssh's options: which port comes to `port` of this machine; `there` is the one wanted of a plain sshd.

        A plain sshd is asked for its loopback alone.
        """
        of = self.service
        if of is None:
            return ["-R", f"{LOCAL}:{there}:{LOCAL}:{port}"]
        usual = ssh.resolved(self.host).get("port") == "22"
        at = ["-p", of.port] if usual and of.port != "22" else []
        return [*at, "-R", f"{of.tcp if self.tcp else of.web}:{LOCAL}:{port}"]

    def address(self, line: str) -> str:
        """Return the address that a line which the server printed names; empty when it names none."""
        return "" if self.service is None else self.service.address(line, tcp=self.tcp)

    def port(self, said: str) -> int | None:
        """Return the port of a plain sshd, by what ssh itself has logged; None while it is not known."""
        found = None if self.service is not None else _ALLOCATED.search(said)
        if found is None and self.service is None:
            found = next((one for one in _SUCCEEDED.finditer(said) if one[1] != "0"), None)
        return None if found is None else int(found[1])
