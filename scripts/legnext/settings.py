"""The environment: key, base URL, daily limit; which URLs may be opened."""

import contextlib
import json
import math
import os
import re
from functools import cache
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from legnext.errors import Failure

LOCAL = "localhost"
NO_KEY = {  # what cannot be a key, and why
    r"(?s).*[^ -~]": "it has control or non-ASCII characters",
    "['\"]|.*['\"]$|(?i:bearer)": "it still has quotes or Bearer around it",
    r".*\$\{": "it is a variable that was not replaced",
    r"(?i)(your.api.key.*|\.\.\.|\*\*\*|key|<.*>)$": "it is a placeholder",
}


def base_url() -> str:
    """Return LEGNEXT_BASE_URL or the default, without last slash. Raises Failure `usage`."""
    url = os.environ.get("LEGNEXT_BASE_URL", "").strip().rstrip("/") or "https://api.legnext.ai"
    why = "it has a query or a fragment" if "?" in url or "#" in url else why_url_refused(url)
    if why:
        hint = "Unset LEGNEXT_BASE_URL, or set it to an https URL."
        raise Failure("usage", f"LEGNEXT_BASE_URL is refused: {why}", hint=hint)
    return url


def api_key() -> str:
    """Return the key. Raises Failure `missing_api_key`, `invalid_api_key`."""
    key, has_file = os.environ.get("LEGNEXT_API_KEY", "").strip(), os.path.isfile(".env")
    hint = "`uv run --env-file .env scripts/…` reads the .env in this folder." if has_file else ""
    if not key:
        raise Failure("missing_api_key", "LEGNEXT_API_KEY is not set", hint=hint)
    for pattern, why in NO_KEY.items():
        if re.match(pattern, key):
            raise Failure("invalid_api_key", f"LEGNEXT_API_KEY is not a key: {why}", hint=hint)
    return key


def redact(text: str) -> str:
    """Hide the key, also as URLs and JSON write it; one of under six characters garbles all."""
    key = os.environ.get("LEGNEXT_API_KEY", "").strip()
    return text if len(key) < 6 else forms(key).sub("[key]", text)


@cache
def forms(key: str) -> re.Pattern[str]:
    written = key, quote(key, safe=""), json.dumps(key)[1:-1]
    return re.compile("|".join(map(re.escape, written)), re.IGNORECASE)


def daily_limit() -> float | None:
    """Return LEGNEXT_MAX_USD, None if it is not set. Raises Failure `usage`."""
    value = os.environ.get("LEGNEXT_MAX_USD", "").strip()
    return parse_usd(value, "LEGNEXT_MAX_USD") if value else None


def parse_usd(value: str, name: str) -> float:
    """Return an amount of money. Raises Failure `usage`."""
    with contextlib.suppress(ValueError):
        if 0 <= (amount := float(value)) < math.inf:
            return amount
    raise Failure("usage", f"{name} is not a number of USD, such as 0.40")


def host_of(url: str) -> str:
    """Return a URL's host; all names of this machine are one."""
    host = urlsplit(url).hostname or ""
    return LOCAL if is_loopback(host) else host


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine; 127.0.0.1.evil.test is not."""
    try:
        return host == LOCAL or ip_address(host).is_loopback
    except ValueError:
        return False


def why_url_refused(url: str, *, http_on_loopback: bool = True) -> str:
    """Return why a URL must not be opened, or ""."""
    if not url.isprintable() or " " in url or "\\" in url:
        return "it has white space, control characters or a backslash"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        return str(error)
    # Parsers disagree on what else may be there, such as `[::1]evil.com` or `user@`.
    plain = f"[{host}]" if ":" in host else host
    if not host or parts.netloc.lower() not in (plain, f"{plain}:{port}"):
        return "it is not an absolute URL with only a host and a port"
    is_local = parts.scheme == "http" and http_on_loopback and is_loopback(host)
    return "" if parts.scheme == "https" or is_local else "only https, or http on this machine"
