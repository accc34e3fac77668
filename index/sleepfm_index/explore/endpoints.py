"""All endpoints in one table, from which the routes and docs/http.md are derived."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sleepfm_index.errors import QueryError
from sleepfm_index.explore import embedding_map, labelling, nights, queries
from sleepfm_index.explore.answers import Document, Table
from sleepfm_index.explore.parameters import Parameter
from sleepfm_index.explore.session import Session
from sleepfm_index.explore.signals import Signals, Window
from sleepfm_index.explore.uploads import UploadedFiles
from sleepfm_index.info import describe
from sleepfm_index.query.question import EXCLUSIONS
from sleepfm_index.reader import Reader
from sleepfm_index.schema import OTHERS
from sleepfm_index.storage.labels import label_columns

Values = dict[str, Any]
Answer = Callable[["Desk", Values], Table | Document]
_SQL_ROWS: Final = 10_000


@dataclass(frozen=True)
class Desk:
    """Resources for answering requests: the open store, opened recordings, uploaded files.

    Parameters
    ----------
    session : Session
        The open store.
    signals : Signals
        Opened recordings.
    files : UploadedFiles
        Uploaded files.
    """

    session: Session
    signals: Signals
    files: UploadedFiles


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    Parameters
    ----------
    method, path : str
        HTTP method and path; parts of the path in braces are parameters.
    summary : str
        Description, one sentence.
    parameters : sequence of Parameter
        Parameters of the request.
    answer : callable
        Function that returns a table or a document.
    body : str
        Body of a POST: ``""``, ``json`` (the parameters as an object) or ``file``.
    """

    method: str
    path: str
    summary: str
    parameters: Sequence[Parameter]
    answer: Answer
    body: str = ""


def _about(desk: Desk, values: Values) -> Document:
    def run(store: Any) -> Document:
        def about() -> dict[str, Any]:
            info = asdict(describe(store))
            del info["path"]  # paths of this machine are not exposed
            return {
                "name": desk.session.path.resolve().name,
                "uuid": store.manifest.uuid,
                **info,
                "clip_seconds": store.manifest.contract.clip_seconds,
                "columns": queries.columns(store),
                "modalities": list(store.manifest.modalities),
                "modality": {name: _described(store, name) for name in store.manifest.modalities},
                "map_limit": embedding_map.LIMIT,
            }

        key = ("about", store.manifest.snapshot)
        return Document(
            {
                **desk.session.cached(key, about),
                "annotate": desk.session.annotate,
                "recordings_at_hand": nights.recordings_at_hand(store),
                "labels": label_columns(desk.session.path),
                "probes": [
                    {"name": name, "classes": list(desk.session.probe(name).classes)}
                    for name in desk.session.probes
                ],
            }
        )

    return desk.session.with_store(run)


def _described(store: Reader, name: str) -> dict[str, Any]:
    modality = store.manifest.contract.modality(name)
    return {"title": modality.title, "slots": list(modality.slots)}


def _query(desk: Desk, values: Values) -> Table:
    like = [
        *([values.pop("clip")] if values["clip"] is not None else []),
        *(values.pop("like") or []),
    ]
    values.pop("clip", None)
    unlike = values.pop("unlike") or []
    request = queries.SearchRequest(like=like, unlike=unlike, **values)
    return desk.session.with_store(lambda store: queries.search(store, request, desk.files))


def _sql(desk: Desk, values: Values) -> Table:
    return desk.session.with_store(
        lambda s: queries.sql(s, values["statement"], max(1, values["limit"]))
    )


def _clip(desk: Desk, values: Values) -> Document:
    def run(store: Any) -> Document:
        document = queries.clip(store, values["id"])
        labels_of_clip = labelling.of_clips(desk.session.path, [values["id"]])
        labels_by_column = {name: labels[0] for name, labels in labels_of_clip.items() if labels}
        return Document({**document.content, "labels": labels_by_column})

    return desk.session.with_store(run)


def _strips(desk: Desk, values: Values) -> Table:
    slots, width = values["slots"], values["width"]
    given = [values[name] is not None for name in ("clips", "recording", "file")]
    if sum(given) != 1:
        raise QueryError("pass one of clips, recording and file")
    if values["clips"] is not None:
        around = (values["clips"], values["seconds"], width, slots, values["before"])
        return desk.session.with_store(lambda s: desk.signals.of_clips(s, *around))
    if values["before"]:
        raise QueryError("before needs clips; with recording or file, pass an earlier from_s")
    window = Window(values["from_s"], values["seconds"] or 30.0, width, slots)
    if values["file"] is not None:
        return desk.signals.of_file(desk.files, values["file"], window)
    return desk.session.with_store(
        lambda store: desk.signals.of_recording(store, values["recording"], window)
    )


def _vectors(desk: Desk, values: Values) -> Table:
    modality = values["modality"]
    return desk.session.with_store(lambda s: queries.vectors(s, values["clips"], modality))


def _map(desk: Desk, values: Values) -> Table:
    return embedding_map.points(desk.session, **values)


def _map_values(desk: Desk, values: Values) -> Table:
    return embedding_map.values(desk.session, **values)


def _nights(desk: Desk, values: Values) -> Table:
    return desk.session.with_store(lambda store: nights.nights(store, max(1, values["limit"])))


def _night(desk: Desk, values: Values) -> Document:
    return desk.session.with_store(lambda s: nights.night(desk.session, s, values["recording_id"]))


def _clips(desk: Desk, values: Values) -> Table:
    return desk.session.with_store(lambda s: queries.clips(s, values["clips"], values["columns"]))


def _labels(desk: Desk, values: Values) -> Table:
    return desk.session.with_store(lambda store: labelling.table(store, values["column"]))


def _label(desk: Desk, values: Values) -> Document:
    desk.session.check_annotate()
    done = desk.session.with_store(
        lambda s: labelling.write(
            s, values["column"], values["clips"], values["value"], values["by"]
        )
    )
    return Document(done, 201)


_CLIPS: Final = Parameter("clips", "Clip ids.", "integers", required=True)
_WHERE: Final = Parameter("where", "SQL condition over the columns of clips.")
_MODALITY: Final = Parameter("modality", "Modality of the vectors.", default="bas")
_MAP: Final = (
    _MODALITY,
    Parameter("method", "Principal axes or UMAP.", default="pca", choices=embedding_map.METHODS),
    _WHERE,
    Parameter(
        "limit",
        f"Maximum number of points, up to {embedding_map.LIMIT:,}; larger sets are sampled.",
        "integer",
        default=embedding_map.LIMIT,
    ),
)

ENDPOINTS: Final = (
    Endpoint("GET", "/store", "Contents of the store and capabilities of the server.", (), _about),
    Endpoint(
        "GET",
        "/query",
        "The clips nearest to a clip, several clips, an interval of a night, or a clip of a file.",
        (
            Parameter(
                "modality",
                "Query: a modality of the store, such as ecg, or several separated by commas.",
                required=True,
            ),
            Parameter("to", "Target of the search.", default=OTHERS),
            Parameter("clip", "Id of the query clip.", "integer"),
            Parameter("like", "Further positive examples: clip ids.", "integers"),
            Parameter("unlike", "Negative examples: clip ids.", "integers"),
            Parameter(
                "recording", "Recording whose clips from from_s to until_s are the examples."
            ),
            Parameter("from_s", "Start of the interval, in seconds from the start.", "number"),
            Parameter("until_s", "End of the interval, in seconds from the start.", "number"),
            Parameter(
                "file", "Id of a file uploaded with POST /files; its clip at from_s is the query."
            ),
            Parameter("k", "Number of clips to return.", "integer", default=10),
            _WHERE,
            Parameter(
                "exclude",
                "Exclude clips of the same subject or recording, or none.",
                default="subject",
                choices=EXCLUSIONS,
            ),
            Parameter(
                "min_gap", "Minimum time between results of one recording, in seconds.", "number"
            ),
            Parameter(
                "exact", "Compare with every clip instead of using an index.", "flag", default=False
            ),
        ),
        _query,
    ),
    Endpoint(
        "GET",
        "/sql",
        "One SELECT-like statement over clips, events and recordings.",
        (
            Parameter("statement", "SQL statement (DuckDB).", required=True),
            Parameter("limit", "Maximum number of rows.", "integer", default=_SQL_ROWS),
        ),
        _sql,
    ),
    Endpoint(
        "GET",
        "/clips/{id}",
        "All metadata of a clip, with its labels.",
        (Parameter("id", "Clip id.", "integer", required=True),),
        _clip,
    ),
    Endpoint(
        "GET",
        "/clips",
        "The metadata of clips, in the given order.",
        (_CLIPS, Parameter("columns", "Columns to return; default: all.", "texts")),
        _clips,
    ),
    Endpoint(
        "POST",
        "/clips",
        "As GET /clips, for more ids than a URL can hold; nothing is written.",
        (_CLIPS, Parameter("columns", "Columns to return; default: all.", "texts")),
        _clips,
        "json",
    ),
    Endpoint(
        "GET",
        "/strips",
        "Signals from the recordings, unfiltered: minimum and maximum per pixel.",
        (
            Parameter("clips", "Clip ids; signals from the start of each.", "integers"),
            Parameter("recording", "A recording; signals from from_s on."),
            Parameter("file", "An uploaded file; signals from from_s on."),
            Parameter("from_s", "Start, in seconds from the start.", "number", default=0.0),
            Parameter("seconds", "Duration in seconds; default: one clip.", "number"),
            Parameter(
                "before",
                "With clips: how long before its clip a strip starts; this is part of seconds.",
                "number",
                default=0.0,
            ),
            Parameter("width", "Width in pixels.", "integer", default=800),
            Parameter(
                "slots",
                "Slots, e.g. C4-M1|C3-M2,ECG, where a|b is the first one present; default: all.",
                "texts",
            ),
        ),
        _strips,
    ),
    Endpoint(
        "GET",
        "/vectors",
        "The stored vectors of clips, float16 [n, 512].",
        (_CLIPS, _MODALITY),
        _vectors,
    ),
    Endpoint("GET", "/map", "Clips in two dimensions.", _MAP, _map),
    Endpoint(
        "GET",
        "/map/values",
        "One value per point of a map, in the order of GET /map with the same parameters.",
        (
            *_MAP,
            Parameter(
                "by",
                "A column of clips, label:<label column>, or probe:<name>:<class>.",
                required=True,
            ),
        ),
        _map_values,
    ),
    Endpoint(
        "GET",
        "/nights",
        "The recordings, one row each.",
        (Parameter("limit", "Maximum number of rows.", "integer", default=_SQL_ROWS),),
        _nights,
    ),
    Endpoint(
        "GET",
        "/nights/{recording_id}",
        "One night: its clips, events, warnings and labels.",
        (Parameter("recording_id", "The recording.", required=True),),
        _night,
    ),
    Endpoint(
        "GET",
        "/labels",
        "A label column: labels with author and time, and the scorer's stage.",
        (Parameter("column", "The label column.", required=True),),
        _labels,
    ),
    Endpoint(
        "POST",
        "/labels",
        "Label clips in a label column; requires --allow-annotate.",
        (
            Parameter(
                "column", "The label column: lower-case letters, digits and _.", required=True
            ),
            _CLIPS,
            Parameter("value", "The label; omit it to remove the label."),
            Parameter("by", "Name or initials of the person.", required=True),
        ),
        _label,
        "json",
    ),
)


def from_json(body: bytes) -> dict[str, str]:
    """Read the parameters of a POST as texts, as in a URL.

    Parameters
    ----------
    body : bytes
        Body of the request.

    Raises
    ------
    QueryError
        If the body is not a JSON object of texts, numbers, flags and lists of them.
    """
    try:
        content = json.loads(body or b"{}")
    except ValueError:
        raise QueryError("the body is not JSON") from None
    if not isinstance(content, dict):
        raise QueryError("the body must be a JSON object")
    values = {}
    for name, value in content.items():
        if value is None:
            continue
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if isinstance(value, bool):
            value = str(value).lower()
        if not isinstance(value, str | int | float):
            raise QueryError(f"{name[:80]} must be text, a number or a list of them")
        values[name] = str(value)
    return values
