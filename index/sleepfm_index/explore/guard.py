"""Access control of requests: host, origin and token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
# regl, which draws the map, generates functions at run time and needs unsafe-eval
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; worker-src 'self' blob:; font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)


class Guard:
    """Admit requests of the page and of authorised tools.

    The Host header must name the server, which prevents DNS rebinding; an Origin header must name
    it too; and every path except the files of the page needs the token, as ``Authorization:
    Bearer`` or ``?token=``.

    Parameters
    ----------
    app : ASGIApp
        Application to protect.
    token : str
        Access token.
    hosts : collection of str
        Host names of the server, without a port.
    any_address : bool
        Whether to accept every numeric address, as for a server that listens on all addresses.
    open_paths : collection of str
        Paths that need no token.
    framed : bool
        Whether pages of this machine, such as notebooks, may show the page in a frame.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        hosts: Collection[str],
        *,
        any_address: bool = False,
        open_paths: Collection[str] = (),
        framed: bool = False,
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {host.lower() for host in hosts}
        self._any_address = any_address
        self._open = frozenset(open_paths)
        ancestors = "http://127.0.0.1:* http://localhost:* 'self'" if framed else "'none'"
        self._policy = _POLICY.format(ancestors=ancestors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with status 400, 401 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Content-Security-Policy"] = self._policy
                answer["X-Content-Type-Options"] = "nosniff"
                answer["Referrer-Policy"] = "no-referrer"
                answer["Cross-Origin-Resource-Policy"] = "same-origin"
                answer.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refusal(scope, headers)
        if refused is None:
            await self._app(scope, receive, send_with_headers)
        else:
            status, text = refused
            await JSONResponse({"error": text}, status)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_server(_name(f"//{host}")):
            return 400, "unknown host name; open the address that the server printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "requests from other origins are not allowed"
        if headers.get("sec-fetch-site") == "cross-site" and scope["path"] not in self._open:
            return 403, "requests from other sites are not allowed"
        if scope["path"] in self._open:
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = QueryParams(scope["query_string"]).get("token", "")
        if not hmac.compare_digest(token.strip().encode(), self._token):
            return 401, "the token is missing or wrong; open the address that the server printed"
        return None

    def _is_server(self, name: str) -> bool:
        if name in self._hosts:
            return True
        if not self._any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
