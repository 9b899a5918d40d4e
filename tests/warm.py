"""Done once by the fork server, and not by each of its forks: modules are loaded, caches filled."""

import contextlib

import requests

from legnext import cli, prompt, workflow  # noqa: F401 - for its loading

cli.Parser("", "0", cli.BUYING)
prompt.check("a cat --ar 16:9")
with contextlib.suppress(requests.ConnectionError):
    requests.get("http://127.0.0.1:1", timeout=1, proxies={"http": ""})
