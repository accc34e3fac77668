"""The server: one process for one store, on the loopback address by default."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sleepfm_index.errors import QueryError, StoreError

try:
    import starlette  # noqa: F401
    import uvicorn
except ModuleNotFoundError as error:
    raise StoreError(
        "the page needs starlette and uvicorn: pip install 'sleepfm-index[explore]'"
    ) from error

from sleepfm_index.explore.app import application
from sleepfm_index.explore.guard import LOOPBACK
from sleepfm_index.explore.session import Session

HOST: Final = "127.0.0.1"
PORT: Final = 8707
_START_TIMEOUT_S: Final = 30.0


class Explorer:
    """A server for one store, started or not.

    Parameters
    ----------
    path : path
        The store's folder.
    host : str
        Address to listen on. Any other than the loopback address needs ``token``.
    port : int, optional
        Port; by default 8707, or any free port if that is in use; 0 takes any free port.
    token : str, optional
        Access token of at least 16 characters; by default random.
    annotate : bool
        Whether labels may be written.
    probes : sequence of path
        Saved probes whose probabilities can colour the map.
    view : str
        Initial view: the part of the page's address after ``#``.
    framed : bool
        Whether pages of this machine may show the page in a frame.
    threads : int, optional
        Number of threads; see :func:`sleepfm_index.open`.

    Raises
    ------
    QueryError
        If the host needs a token, or the token is too short.
    StoreError
        If the server cannot listen on the address.
    FormatError
        If the store does not exist, or this version cannot read it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        host: str = HOST,
        port: int | None = None,
        token: str | None = None,
        annotate: bool = False,
        probes: Sequence[str | Path] = (),
        view: str = "",
        framed: bool = False,
        threads: int | None = None,
    ) -> None:
        if host not in LOOPBACK and not token:
            raise QueryError(
                f"anyone who reaches {host} could read the store: set a --token of at least 16 "
                "characters, or omit --host"
            )
        if token is not None and (len(token) < 16 or not token.isascii() or " " in token):
            raise QueryError("a token must have at least 16 characters and no spaces")
        self.token = token or secrets.token_urlsafe(24)
        session = Session(path, annotate=annotate, probes=probes, threads=threads)
        self._socket = _listen(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        self._view = view.lstrip("#")
        all_addresses = _unspecified(host)
        names = {host} if host not in LOOPBACK else set(LOOPBACK)
        if all_addresses:
            names = {*LOOPBACK, socket.gethostname(), socket.getfqdn()}
        app = application(session, self.token, names, any_address=all_addresses, framed=framed)
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,  # it would log tokens
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The page's address with the token."""
        host = HOST if _unspecified(self.host) else self.host
        host = f"[{host}]" if ":" in host else host
        view = f"#{self._view}" if self._view else ""
        return f"http://{host}:{self.port}/?token={self.token}{view}"

    def run(self) -> None:
        """Serve until stopped (Ctrl-C)."""
        self._server.run(sockets=[self._socket])

    def start(self) -> Self:
        """Serve from a thread of this process until :meth:`close`."""
        self._thread = threading.Thread(target=self.run, name="explore", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started and time.monotonic() < deadline:
            if not self._thread.is_alive():
                raise StoreError("the server did not start")
            time.sleep(0.01)
        return self

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_START_TIMEOUT_S)
            self._thread = None
        self._socket.close()

    def __enter__(self) -> Self:
        return self if self._thread else self.start()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Explorer(http://{self.host}:{self.port}/)"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{self.url}" width="100%" height="860" '
            'style="border:1px solid rgba(128,128,128,.3);border-radius:12px" '
            'title="sleepfm-index explore"></iframe>'
        )


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = [PORT, 0] if port is None else [port]
    for attempt, number in enumerate(ports, 1):
        # asyncio sends at once only where the protocol is named; else a short answer takes 40 ms,
        # since its head and its body are two packets, of which the second waits
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
        except OSError as error:
            listener.close()
            if attempt == len(ports):
                raise StoreError(
                    f"cannot listen on {host}:{number}: {(error.strerror or str(error)).lower()}; "
                    "choose another --host or --port"
                ) from error
            continue
        return listener
    raise AssertionError


def _unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
