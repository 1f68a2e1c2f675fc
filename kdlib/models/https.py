"""Downloads over an encrypted connection, and no other."""

import urllib.error
import urllib.request
from typing import Any


class _OnlySecure(urllib.request.HTTPRedirectHandler):
    """Follows a server to another address only where the connection stays encrypted."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # noqa: ANN001, ANN201
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"it was sent on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_secure(url: str, timeout: float) -> Any:
    """The answer of a server, over https alone. Raises URLError for another address, also for one it is sent on to."""
    if not url.startswith("https://"):
        raise urllib.error.URLError(f"{url} is not https")
    return urllib.request.build_opener(_OnlySecure).open(url, timeout=timeout)
