"""Which URLs may be spoken to: https, or http on this machine."""

from __future__ import annotations


def refusal(url: str) -> str | None:
    """Return why `url` may not be opened, or None where it may.

    The same rule for the API, which gets the key, and for images, which the API names: a URL that two
    parsers could read differently is refused rather than guessed at.
    """
    from urllib.parse import urlsplit  # not needed for --help

    if not url.isprintable() or " " in url or "\\" in url:
        return "it holds white space, control characters or a backslash"
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        return str(error)
    if not host:
        return "it is not an absolute URL"
    if "@" in parts.netloc:
        return "it holds a user name or a password"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return None
    return "only https is opened, or http on a loopback host (127.0.0.1, ::1, localhost)"


def is_loopback(host: str) -> bool:
    """Say whether `host` is this machine: by its whole name or address, never by how it begins."""
    from ipaddress import ip_address  # only http needs it

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
