"""Where to send and with which key: the two environment variables, and which URLs may be opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from legnext.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL = "https://api.legnext.ai"
SUBMIT_PATH = "/api/v1/diffusion"
_PLACEHOLDERS = ("your-api-key", "your-api-key-here")


class Settings(NamedTuple):
    """Where to send, and the key to send along."""

    key: str
    base_url: str


def base_url(environ: Mapping[str, str]) -> str:
    """Return LEGNEXT_BASE_URL or the default, without a trailing slash. Raises Failure `usage`."""
    url = (environ.get("LEGNEXT_BASE_URL") or "").strip().rstrip("/")
    if not url:
        return DEFAULT_BASE_URL
    why = refusal(url)
    if why is None and ("?" in url or "#" in url):
        why = "it holds a query or a fragment"
    if why:
        raise Failure(
            "usage",
            f"LEGNEXT_BASE_URL is refused: {why}",
            hint=f"Nothing was sent. Unset LEGNEXT_BASE_URL to use {DEFAULT_BASE_URL}, or give an https URL.",
        )
    return url


def settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in `environ`. Raises Failure `usage`, `missing_api_key`, `invalid_api_key`."""
    url = base_url(environ)
    key = environ.get("LEGNEXT_API_KEY", "").strip()
    if not key:
        raise Failure("missing_api_key", "the environment variable LEGNEXT_API_KEY is not set")
    if not key.isascii() or not key.isprintable():
        # The key itself is never part of a message.
        raise Failure("invalid_api_key", "LEGNEXT_API_KEY holds control or non-ASCII characters")
    if key.lower().replace("_", "-") in _PLACEHOLDERS or (key[0] == "<" and key[-1] == ">"):
        raise Failure("invalid_api_key", "LEGNEXT_API_KEY is a placeholder, not a key")
    return Settings(key, url)


def refusal(url: str) -> str | None:
    """Return why `url` may not be opened, or None where it may.

    The same rule for the API, which gets the key, and for images, which the API names: a URL that two
    parsers could read differently is refused rather than guessed at.
    """
    import re
    from urllib.parse import urlsplit

    if not url.isprintable() or " " in url or "\\" in url:
        return "it holds white space, control characters or a backslash"
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        return str(error)
    # `[::1]evil.com` has the host ::1 to some parsers and evil.com to others.
    if not host or not re.fullmatch(
        r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@]+)(:[0-9]*)?", parts.netloc.rpartition("@")[2]
    ):
        return "it is not an absolute URL with a host"
    if "@" in parts.netloc:
        return "it holds a user name or a password"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return None
    return "only https is opened, or http on a loopback host (127.0.0.1, ::1, localhost)"


def is_loopback(host: str) -> bool:
    """Say whether `host` is this machine: by its whole name or address, never by how it begins."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
