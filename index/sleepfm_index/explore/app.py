"""The ASGI application: files of the page, and endpoints behind the guard."""

from __future__ import annotations

import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sleepfm.errors import SleepFMError
from sleepfm_index.errors import QueryError, SnapshotGone, StoreLocked
from sleepfm_index.explore import embedding_map, openapi
from sleepfm_index.explore.answers import MEDIA, Document, Table, dumps, encode
from sleepfm_index.explore.endpoints import ENDPOINTS, Desk, Endpoint, from_json
from sleepfm_index.explore.guard import Guard
from sleepfm_index.explore.parameters import read_all
from sleepfm_index.explore.session import Session
from sleepfm_index.explore.signals import Signals
from sleepfm_index.explore.uploads import MAX_BYTES, UploadedFiles

Handler = Callable[[Request], Awaitable[Response]]
_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/explore.js": ("explore.js", "text/javascript; charset=utf-8"),
    "/explore.css": ("explore.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Files of the page, by path; they contain no data, so they need no token."""
_MAX_BODY: Final = 16 << 20


def application(
    session: Session,
    token: str,
    hosts: Collection[str],
    *,
    any_address: bool = False,
    framed: bool = False,
) -> Starlette:
    """Create the application.

    Parameters
    ----------
    session : Session
        Session of the store; it is closed with the application.
    token, hosts, any_address, framed
        See :class:`sleepfm_index.explore.guard.Guard`.
    """
    desk = Desk(session, Signals(), UploadedFiles())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # what the page asks for first is computed while the browser starts
        first = threading.Thread(target=_prepare, args=(desk,), name="explore-first", daemon=True)
        first.start()
        yield
        first.join()  # it reads the store
        desk.files.close()
        session.close()

    routes = [Route(path, _file(*of), methods=["GET"]) for path, of in _FILES.items()]
    routes += [Route(e.path, _handler(desk, e), methods=[e.method]) for e in ENDPOINTS]
    routes += [
        Route("/files", partial(_upload, desk), methods=["POST"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
    ]
    guard = Middleware(
        Guard, token, hosts, any_address=any_address, open_paths=tuple(_FILES), framed=framed
    )
    return Starlette(
        routes=routes,
        middleware=[guard],
        lifespan=lifespan,
        exception_handlers={HTTPException: _not_found},
    )


def _prepare(desk: Desk) -> None:
    """Compute what the page asks for first, which stays in the session's cache."""
    (about,) = (e.answer for e in ENDPOINTS if e.path == "/store")
    with suppress(SleepFMError, OSError):  # the page's own request says what is wrong
        desk.session.with_store(desk.signals.slots)
        answer = about(desk, {})
        assert isinstance(answer, Document)
        counts = answer.content["with_modality"]
        modality = next((m for m in answer.content["modalities"] if counts[m]), None)
        if modality is not None:
            drawn = (desk.session, modality, "pca", None, embedding_map.LIMIT)
            embedding_map.points(*drawn)
            embedding_map.values(*drawn, "stage")


def _file(name: str, media: str) -> Handler:
    async def respond(_: Request) -> Response:
        file = resources.files("sleepfm_index.explore").joinpath("static", name)
        return Response(file.read_bytes(), media_type=media)

    return respond


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = f"nothing answers {request.method} {request.url.path[:80]}; see /openapi.json"
    return _json({"error": text}, status)


async def _openapi(_: Request) -> Response:
    return _json(openapi.document())


def _handler(desk: Desk, endpoint: Endpoint) -> Handler:
    async def handle(request: Request) -> Response:
        texts = {k: v for k, v in request.query_params.items() if k not in ("token", "format")}
        texts |= {k: str(v) for k, v in request.path_params.items()}
        try:
            form = _format(request)
            if endpoint.body == "json":
                texts |= from_json(await _body(request))
            values = read_all(endpoint.parameters, texts)
            return await run_in_threadpool(_answer, desk, endpoint, values, form)
        except SleepFMError as error:
            return _error(error, desk.session)
        except OSError as error:
            return _disk_error(error)

    return handle


def _answer(desk: Desk, endpoint: Endpoint, values: dict[str, Any], form: str) -> Response:
    answer = endpoint.answer(desk, values)
    snapshot = str(desk.session.store().manifest.snapshot)
    headers = {"X-Store-Snapshot": snapshot}
    if isinstance(answer, Document):
        return Response(dumps(answer.content), answer.status, headers, MEDIA["json"])
    assert isinstance(answer, Table)
    return Response(encode(answer, form), 200, headers, MEDIA[form])


async def _upload(desk: Desk, request: Request) -> Response:
    try:
        path = desk.files.new_path(request.query_params.get("name", ""))
        try:
            await _save(request, path)
            content = await run_in_threadpool(
                desk.session.with_store, lambda store: desk.files.take(store, path)
            )
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        return _json(content, 201)
    except ClientDisconnect:
        return _json({"error": "the file did not arrive completely; upload it again"}, 400)
    except SleepFMError as error:
        return _error(error, desk.session)
    except OSError as error:
        return _disk_error(error)


async def _save(request: Request, path: Path) -> None:
    size = 0
    async with await anyio.open_file(path, "wb") as file:
        async for piece in request.stream():
            size += len(piece)
            if size > MAX_BYTES:
                raise QueryError(f"a file may have at most {MAX_BYTES >> 30} GiB")
            await file.write(piece)


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > _MAX_BODY:
            raise QueryError(f"a request may have at most {_MAX_BODY >> 20} MiB")
        parts.append(piece)
    return b"".join(parts)


def _format(request: Request) -> str:
    name = request.query_params.get("format")
    if name is not None:
        if name not in MEDIA:
            raise QueryError(f"unknown format {name[:80]!r}; choose from {', '.join(MEDIA)}")
        return name
    accepted = request.headers.get("accept", "")
    formats = {media.partition(";")[0]: name for name, media in MEDIA.items()}
    return next((name for media, name in formats.items() if media in accepted), "json")


def _error(error: SleepFMError, session: Session) -> Response:
    text, store = str(error).rstrip("."), session.path
    for path in {store, store.absolute(), store.resolve()}:
        if path.is_absolute():  # paths of this machine are not exposed
            text = text.replace(str(path), store.name)
    if isinstance(error, SnapshotGone | StoreLocked):
        return _json({"error": f"{text}; try again"}, 503)
    answer = _json({"error": text}, 400)
    if session.snapshot is not None:  # a clip may be missing since it was deleted
        answer.headers["X-Store-Snapshot"] = str(session.snapshot)
    return answer


def _disk_error(error: OSError) -> Response:
    return _json({"error": f"{error.strerror or 'the disk cannot be read'}".lower()}, 503)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(dumps(content), status, media_type=MEDIA["json"])
