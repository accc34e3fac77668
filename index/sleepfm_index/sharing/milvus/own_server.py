"""A server of milvus-lite that only this process can use.

milvus-lite listens on a port of the machine, to which every user of the machine can connect. This
server requires a token that only this process knows.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_MESSAGE_BYTES: Final = 1 << 28
_WORKERS: Final = 10
_lock = threading.Lock()


@dataclass
class _Running:
    address: str
    token: str
    server: Any
    database: Any
    users: int = 0


_running: dict[str, _Running] = {}


def serve(path: Path) -> tuple[str, str]:
    """Serve a milvus-lite file, or keep serving it; match each call by :func:`release`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple of (str, str)
        Address, and the token that every request needs.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """
    name = str(path.absolute())
    with _lock:
        running = _running.get(name) or _start(name)
        _running[name] = running
        running.users += 1
        return running.address, running.token


def release(path: Path) -> None:
    """Stop serving a file when nobody in this process uses it; others may then open it.

    Parameters
    ----------
    path : Path
        The file.
    """
    name = str(path.absolute())
    with _lock:
        running = _running[name]
        running.users -= 1
        if not running.users:
            del _running[name]
            running.server.stop(grace=2).wait()
            running.database.close()


def _start(name: str) -> _Running:
    import grpc
    from milvus_lite import MilvusLite
    from milvus_lite.adapter.grpc.server import MilvusServicer, milvus_pb2_grpc

    token = secrets.token_urlsafe(32)
    try:
        database = MilvusLite(name)
    except Exception as error:  # any exception on a file of another format
        raise OSError(f"it cannot be opened: {error}") from error
    server = grpc.server(
        futures.ThreadPoolExecutor(_WORKERS),
        interceptors=[_guard(token)],
        options=[
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ],
    )
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return _Running(f"http://127.0.0.1:{port}", token, server, database)


def _guard(token: str) -> Any:
    import grpc

    # The form in which pymilvus sends it.
    expected = base64.b64encode(token.encode()).decode()

    class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
        def intercept_service(self, continuation: Callable[[Any], Any], call: Any) -> Any:
            received = dict(call.invocation_metadata).get("authorization", "")
            if hmac.compare_digest(str(received).encode(), expected.encode()):
                return continuation(call)

            def refuse(_: Any, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "this server is of one process")

            return grpc.unary_unary_rpc_method_handler(refuse)

    return Guard()
