"""Everything that the server can be asked, in one table: the routes and docs/http.md follow it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sleepfm_index.errors import QueryError
from sleepfm_index.explore import asking, embedding_map, labelling, nights
from sleepfm_index.explore.answers import Document, Table
from sleepfm_index.explore.own_file import OwnFiles
from sleepfm_index.explore.parameters import Parameter
from sleepfm_index.explore.session import Session
from sleepfm_index.explore.signals import Signals, Window
from sleepfm_index.info import describe
from sleepfm_index.query.question import EXCLUSIONS
from sleepfm_index.reader import Reader
from sleepfm_index.schema import OTHERS
from sleepfm_index.storage.labels import label_columns

Said = dict[str, Any]
Answer = Callable[["Desk", Said], Table | Document]
_SQL_ROWS: Final = 10_000


@dataclass(frozen=True)
class Desk:
    """What answers requests: the open store, opened recordings, files that were handed in.

    Parameters
    ----------
    session : Session
        The open store.
    signals : Signals
        Opened recordings.
    files : OwnFiles
        Files that were handed in.
    """

    session: Session
    signals: Signals
    files: OwnFiles


@dataclass(frozen=True)
class Endpoint:
    """One thing that can be asked.

    Parameters
    ----------
    method, path : str
        A part of the path in braces is a parameter.
    summary : str
        One sentence.
    parameters : sequence of Parameter
    answer : callable
        Gives a table or a document.
    body : str
        What a POST carries: ``""``, ``json`` (the parameters as an object) or ``file``.
    """

    method: str
    path: str
    summary: str
    parameters: Sequence[Parameter]
    answer: Answer
    body: str = ""


def _about(desk: Desk, said: Said) -> Document:
    def ask(store: Any) -> Document:
        def about() -> dict[str, Any]:
            info = asdict(describe(store))
            del info["path"]  # the server says no path of this machine
            return {
                "name": desk.session.path.resolve().name,
                "uuid": store.manifest.uuid,
                **info,
                "clip_seconds": store.manifest.contract.clip_seconds,
                "columns": asking.columns(store),
                "modalities": list(store.manifest.modalities),
                "modality": {name: _described(store, name) for name in store.manifest.modalities},
                "map_limit": embedding_map.LIMIT,
            }

        key = ("about", store.manifest.snapshot)
        return Document(
            {
                **desk.session.kept(key, about),
                "annotate": desk.session.annotate,
                "recordings_at_hand": nights.recordings_at_hand(store),
                "labels": label_columns(desk.session.path),
                "probes": [
                    {"name": name, "classes": list(desk.session.probe(name).classes)}
                    for name in desk.session.probes
                ],
            }
        )

    return desk.session.asked(ask)


def _described(store: Reader, name: str) -> dict[str, Any]:
    modality = store.manifest.contract.modality(name)
    return {"title": modality.title, "slots": list(modality.slots)}


def _query(desk: Desk, said: Said) -> Table:
    like = [*([said.pop("clip")] if said["clip"] is not None else []), *(said.pop("like") or [])]
    said.pop("clip", None)
    unlike = said.pop("unlike") or []
    asked = asking.Asked(like=like, unlike=unlike, **said)
    return desk.session.asked(lambda store: asking.search(store, asked, desk.files))


def _sql(desk: Desk, said: Said) -> Table:
    return desk.session.asked(lambda s: asking.sql(s, said["statement"], max(1, said["limit"])))


def _clip(desk: Desk, said: Said) -> Document:
    def ask(store: Any) -> Document:
        found = asking.clip(store, said["id"])
        own = labelling.of_clips(desk.session.path, [said["id"]])
        mine = {name: labels[0] for name, labels in own.items() if labels}
        return Document({**found.content, "labels": mine})

    return desk.session.asked(ask)


def _strips(desk: Desk, said: Said) -> Table:
    slots, width = said["slots"], said["width"]
    named = [said[name] is not None for name in ("clips", "recording", "file")]
    if sum(named) != 1:
        raise QueryError("name what to cut strips of: clips, or recording, or file")
    if said["clips"] is not None:
        return desk.session.asked(
            lambda s: desk.signals.of_clips(s, said["clips"], said["seconds"], width, slots)
        )
    window = Window(said["from_s"], said["seconds"] or 30.0, width, slots)
    if said["file"] is not None:
        return desk.signals.of_file(desk.files, said["file"], window)
    return desk.session.asked(
        lambda store: desk.signals.of_recording(store, said["recording"], window)
    )


def _vectors(desk: Desk, said: Said) -> Table:
    return desk.session.asked(lambda s: asking.vectors(s, said["clips"], said["modality"]))


def _map(desk: Desk, said: Said) -> Table:
    return embedding_map.points(desk.session, **said)


def _map_values(desk: Desk, said: Said) -> Table:
    return embedding_map.values(desk.session, **said)


def _nights(desk: Desk, said: Said) -> Table:
    return desk.session.asked(lambda store: nights.nights(store, max(1, said["limit"])))


def _night(desk: Desk, said: Said) -> Document:
    return desk.session.asked(lambda s: nights.night(desk.session, s, said["recording_id"]))


def _clips(desk: Desk, said: Said) -> Table:
    return desk.session.asked(lambda s: asking.clips(s, said["clips"], said["columns"]))


def _labels(desk: Desk, said: Said) -> Table:
    return desk.session.asked(lambda store: labelling.table(store, said["column"]))


def _label(desk: Desk, said: Said) -> Document:
    desk.session.check_annotate()
    done = desk.session.asked(
        lambda s: labelling.write(s, said["column"], said["clips"], said["value"], said["by"])
    )
    return Document(done, 201)


_CLIPS: Final = Parameter("clips", "Clip ids.", "integers", required=True)
_WHERE: Final = Parameter("where", "SQL condition over the columns of clips.")
_MODALITY: Final = Parameter("modality", "Whose vectors.", default="bas")
_MAP: Final = (
    _MODALITY,
    Parameter("method", "Principal axes, or UMAP.", default="pca", choices=embedding_map.METHODS),
    _WHERE,
    Parameter(
        "limit",
        f"Most points, at most {embedding_map.LIMIT:,}; of more clips some are drawn.",
        "integer",
        default=embedding_map.LIMIT,
    ),
)

ENDPOINTS: Final = (
    Endpoint("GET", "/store", "What the store holds and what the server may do.", (), _about),
    Endpoint(
        "GET",
        "/query",
        "The clips nearest to a clip, to several, to a stretch of a night, or to a file's clip.",
        (
            Parameter(
                "modality",
                "What to search with: a modality of the store, such as ecg, or several, by commas.",
                required=True,
            ),
            Parameter("to", "What to search in.", default=OTHERS),
            Parameter("clip", "The clip to search from.", "integer"),
            Parameter("like", "Further examples: clip ids.", "integers"),
            Parameter("unlike", "Clips to be away from: clip ids.", "integers"),
            Parameter("recording", "A recording with examples, from from_s until until_s."),
            Parameter("from_s", "Start of the stretch, in seconds from the start.", "number"),
            Parameter("until_s", "End of the stretch, in seconds from the start.", "number"),
            Parameter("file", "A file that was handed in by POST /files; its clip at from_s."),
            Parameter("k", "How many clips to give.", "integer", default=10),
            _WHERE,
            Parameter(
                "exclude",
                "Whose clips to leave out, as the question's own.",
                default="subject",
                choices=EXCLUSIONS,
            ),
            Parameter("min_gap", "At most one clip per so many seconds of a recording.", "number"),
            Parameter("exact", "Compare with every clip.", "flag", default=False),
        ),
        _query,
    ),
    Endpoint(
        "GET",
        "/sql",
        "One SELECT-like statement over clips, events and recordings.",
        (
            Parameter("statement", "DuckDB's SQL.", required=True),
            Parameter("limit", "Most rows to give.", "integer", default=_SQL_ROWS),
        ),
        _sql,
    ),
    Endpoint(
        "GET",
        "/clips/{id}",
        "All that is known of a clip, with its labels.",
        (Parameter("id", "Clip id.", "integer", required=True),),
        _clip,
    ),
    Endpoint(
        "GET",
        "/clips",
        "The metadata of some clips, in the given order.",
        (_CLIPS, Parameter("columns", "Columns to give; by default all.", "texts")),
        _clips,
    ),
    Endpoint(
        "POST",
        "/clips",
        "As GET /clips, for more ids than an address holds; nothing is written.",
        (_CLIPS, Parameter("columns", "Columns to give; by default all.", "texts")),
        _clips,
        "json",
    ),
    Endpoint(
        "GET",
        "/strips",
        "Strips of signal from the recordings: unfiltered, the least and greatest of each pixel.",
        (
            Parameter("clips", "Clip ids; strips from the start of each.", "integers"),
            Parameter("recording", "A recording; strips from from_s on."),
            Parameter("file", "A file that was handed in; strips from from_s on."),
            Parameter("from_s", "Start, in seconds from the start.", "number", default=0.0),
            Parameter("seconds", "How long; by default one clip.", "number"),
            Parameter("width", "Pixels to thin to.", "integer", default=800),
            Parameter(
                "slots",
                "Which slots, such as C4-M1|C3-M2,ECG: of a|b the first there; by default all.",
                "texts",
            ),
        ),
        _strips,
    ),
    Endpoint(
        "GET",
        "/vectors",
        "The stored vectors of some clips, float16 [n, 512].",
        (_CLIPS, _MODALITY),
        _vectors,
    ),
    Endpoint("GET", "/map", "Where clips lie in two dimensions.", _MAP, _map),
    Endpoint(
        "GET",
        "/map/values",
        "One value per point of a map, in the order of GET /map with the same parameters.",
        (
            *_MAP,
            Parameter(
                "by",
                "A column of clips, label:<own column>, or probe:<name>:<class>.",
                required=True,
            ),
        ),
        _map_values,
    ),
    Endpoint(
        "GET",
        "/nights",
        "The recordings, a row each.",
        (Parameter("limit", "Most rows to give.", "integer", default=_SQL_ROWS),),
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
        "An own column: labels with who and when, beside the scorer's stage.",
        (Parameter("column", "The own column.", required=True),),
        _labels,
    ),
    Endpoint(
        "POST",
        "/labels",
        "Label clips in an own column; only where the server was started with --allow-annotate.",
        (
            Parameter("column", "The own column: small letters, digits and _.", required=True),
            _CLIPS,
            Parameter("value", "The label; left out, the label is taken back."),
            Parameter("by", "Who says so.", required=True),
        ),
        _label,
        "json",
    ),
)


def from_json(body: bytes) -> dict[str, str]:
    """Read the parameters of a POST as they would be said in a URL.

    Parameters
    ----------
    body : bytes
        Body of the request.

    Raises
    ------
    QueryError
        If it is not an object of texts, numbers and lists of them.
    """
    try:
        content = json.loads(body or b"{}")
    except ValueError:
        raise QueryError("the body is not JSON") from None
    if not isinstance(content, dict):
        raise QueryError("the body must be a JSON object")
    said = {}
    for name, value in content.items():
        if value is None:
            continue
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if isinstance(value, bool):
            value = str(value).lower()
        if not isinstance(value, str | int | float):
            raise QueryError(f"{name[:80]} must be text, a number or a list of them")
        said[name] = str(value)
    return said
