"""Votes of the nearest labelled neighbours, and the neighbours themselves as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sleepfm.modality import Modality
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes, has
from sleepfm_index.evaluation.labels.labels import Labels, read_labels
from sleepfm_index.evaluation.labels.splits import check_apart, check_classes, subjects_of
from sleepfm_index.evaluation.metrics.assessment import Assessment, Predictions, assess
from sleepfm_index.evaluation.metrics.bootstrap import REPLICATES
from sleepfm_index.evaluation.models.neighbour_search import nearest
from sleepfm_index.query.question import EXCLUSIONS
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.schema import OTHERS, target_name
from sleepfm_index.storage.quoting import quote_text

QUERIES: Final = 10_000
_BLOCK: Final = 16_384


@dataclass(frozen=True)
class Vote:
    """How neighbours vote.

    Parameters
    ----------
    k : int
        How many neighbours.
    weighted : bool
        Whether a vote counts as much as its similarity, max(score, 0), or all count alike.
    exclude : {"subject", "recording", "none"}
        Whose clips have no vote; the clip itself never has.
    margin : float
        Abstain where the shares of the first two classes differ by less.
    """

    k: int = 20
    weighted: bool = True
    exclude: str = "subject"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise QueryError(f"k is the number of neighbours, at least 1, not {self.k}")
        if self.exclude not in EXCLUSIONS:
            known = ", ".join(EXCLUSIONS)
            raise QueryError(f"cannot exclude {self.exclude!r}; choose from {known}")
        if not 0 <= self.margin <= 1:
            raise QueryError(f"a margin is a share of the votes, 0 to 1, not {self.margin:g}")


def knn(
    store: Reader,
    label: str,
    *,
    modality: str = "bas",
    to: str | None = None,
    vote: Vote | None = None,
    where: str | None = None,
    kind: str = "auto",
    classes: Sequence[str] | None = None,
    train_where: str | None = None,
    test_where: str | None = None,
    test_store: Reader | None = None,
    queries: int | None = QUERIES,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Assessment:
    """Measure what the nearest labelled neighbours say of a clip.

    Every labelled clip is asked about (at most ``queries`` of them, drawn at random); its
    neighbours are found by its ``modality`` vector among the ``to`` vectors of labelled clips.

    Parameters
    ----------
    label, kind, classes
        As in :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    modality : {"bas", "ecg", "resp"}
        What to search with.
    to : {"bas", "ecg", "resp", "others"}, optional
        What to search in; by default the same modality.
    vote : Vote, optional
        How many neighbours vote, and how.
    where : str, optional
        SQL condition for every clip.
    train_where, test_where : str, optional
        SQL conditions for the neighbours and for the clips asked about; subjects must differ.
    test_store : Store, optional
        Ask about the clips of this store; it must hold vectors of the same weights.
    queries : int, optional
        Ask about at most this many clips; None asks about all.
    seed : int
        Seed of that draw and of the resamples.

    Returns
    -------
    Assessment
        As from :func:`~.assess.assess`; ``answered`` is the share not abstained from.

    Raises
    ------
    QueryError
        If the question does not fit the store, or fewer than ``k`` clips may vote.
    """
    vote = vote or Vote()
    target = _target(modality, to)
    tested = test_store or store
    if tested.manifest.weights.sha256 != store.manifest.weights.sha256:
        raise QueryError(
            "the two stores hold vectors of different weights, which cannot be compared; build "
            f"the test store with the weights {store.manifest.weights.name}"
        )
    voters = read_labels(store, label, (where, train_where), kind=kind, classes=classes)
    voters = voters.take(has(store, voters.clip_ids, target))
    asked = read_labels(tested, label, (where, test_where), kind=kind, classes=classes)
    asked = asked.take(has(tested, asked.clip_ids, modality))
    if not len(asked) or not len(voters):
        raise QueryError(f"no labelled clip has {modality} to search with, or {target} to find")
    if voters.classes != asked.classes:
        raise QueryError(
            f"the two sides of {label} have different classes ({', '.join(voters.classes)} and "
            f"{', '.join(asked.classes)}); name them by --classes"
        )
    check_classes(voters)
    apart = train_where is not None or test_where is not None or test_store is not None
    if apart:
        check_apart(subjects_of(voters), subjects_of(asked))
    if queries is not None and queries < len(asked):
        drawn = np.random.default_rng(seed).choice(len(asked), queries, replace=False)
        asked = asked.take(np.sort(drawn))
    rows, scores = _search(store, voters, target, tested, asked, modality, vote)
    _enough(rows, voters, vote)
    made = _predictions(f"{modality} -> {to or modality}", voters, asked, rows, scores, vote)
    parts = [made]
    if voters.per_subject and asked.per_subject and len(subjects_of(asked)) > 1:
        parts.append(made.per_subject())
    own = "tested subjects apart" if apart else f"own {vote.exclude} left out"
    note = (
        f"votes of {vote.k} neighbours, {'by similarity' if vote.weighted else 'all alike'}, "
        f"{own}; {asked.note}; asked about {len(asked):,} clips among {len(voters):,}"
    )
    return assess(parts, note, replicates=replicates, seed=seed)


def neighbours(
    store: Reader,
    modality: str,
    to: str | None = None,
    *,
    clips: Sequence[int] | NDArray[np.int64],
    label: str = "stage",
    k: int = 10,
    where: str | None = None,
    exclude: str = "subject",
) -> Result:
    """Find the nearest neighbours of some clips, as rows.

    Parameters
    ----------
    modality, to
        As in :func:`knn`.
    clips : sequence of int
        Clip ids to ask about.
    label : str
        A column of ``clips`` to show beside each neighbour.
    where : str, optional
        SQL condition for the neighbours.
    exclude : {"subject", "recording", "none"}
        Whose clips are left out; with ``none`` the clip itself may be found.

    Returns
    -------
    Result
        Columns query, rank, neighbour (clip ids), score, label, subject_id, recording_id, start_s,
        clock.

    Raises
    ------
    QueryError
        If a clip is unknown or lacks the modality, or the question does not fit the store.
    """
    Vote(k=k, exclude=exclude)
    target = _target(modality, to)
    ids = np.asarray(clips, np.int64)
    queries, present = store.vectors.of(ids, modality)
    if not present.all():
        raise QueryError(f"clip {ids[~present][0]} has no {modality} signal to search with")
    hits: list[tuple[int, NDArray[np.int64], NDArray[np.float64]]] = []
    column = f"{exclude}_id"
    own = [None] * len(ids)
    if exclude != "none":
        own = clip_columns(store, ids, [column])[column].to_pylist()
    for name in sorted(set(own), key=str):
        # one search a subject, since each leaves out its own clips
        mine = np.array([i for i, other in enumerate(own) if other == name])
        left_out = None if name is None else f"{column} <> {quote_text(name)}"
        allowed = store.metadata.clip_ids(where, left_out) if where or left_out else None
        found = store.search(target, queries[mine], k, allowed, exact=True)
        hits += [(int(i), *pair) for i, pair in zip(mine, found, strict=True)]
    hits.sort(key=lambda hit: hit[0])
    counts = [len(found) for _, found, _ in hits]
    table = pa.table(
        {
            "query": np.repeat(ids, counts),
            "rank": np.concatenate([np.arange(1, n + 1) for n in counts]).astype(np.int64),
            "neighbour": np.concatenate([found for _, found, _ in hits]),
            "score": np.concatenate([scores for _, _, scores in hits]),
        }
    )
    names = [label, "subject_id", "recording_id", "start_s", "clock"]
    facts = clip_columns(store, table["neighbour"].to_numpy(), names)
    for name in names:
        table = table.append_column("label" if name == label else name, facts[name])
    return Result(table, f"{k} nearest by {modality} -> {to or modality}, own {exclude} left out")


def votes(
    labels: Labels, rows: NDArray[np.int64], scores: NDArray[np.float64], weighted: bool
) -> NDArray[np.float64]:
    """Shares of the votes, float64 [q, classes], or the neighbours' mean, float64 [q].

    Neighbours of no positive similarity all count alike.
    """
    weights = np.maximum(scores, 0.0) if weighted else np.ones(scores.shape)
    weights = np.where(rows >= 0, weights, 0.0)
    silent = weights.sum(axis=1) == 0
    weights[silent] = rows[silent] >= 0
    weights /= weights.sum(axis=1, keepdims=True)
    values = labels.values[np.maximum(rows, 0)]
    if not labels.classes:
        return np.asarray((weights * values).sum(axis=1))
    shares = [(weights * (values == c)).sum(axis=1) for c in range(len(labels.classes))]
    return np.stack(shares, axis=1)


def _target(modality: str, to: str | None) -> str:
    known = [m.value for m in Modality]
    if modality not in known:
        raise QueryError(f"no modality {modality!r}; choose from {', '.join(known)}")
    if to not in (None, OTHERS, *known):
        raise QueryError(f"no target {to!r}; choose from {', '.join(known)}, {OTHERS}")
    return target_name(Modality(modality), to or modality)


def _search(
    store: Reader,
    voters: Labels,
    target: str,
    tested: Reader,
    asked: Labels,
    modality: str,
    vote: Vote,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return store.vectors.of(voters.clip_ids[rows], target)[0]

    own, groups = np.full(len(asked), -1), np.zeros(len(voters), np.int64)
    if tested is store:
        own, groups = _groups(store, asked, voters, vote.exclude)
    found = [
        nearest(
            tested.vectors.of(asked.clip_ids[at : at + _BLOCK], modality)[0],
            own[at : at + _BLOCK],
            read,
            groups,
            vote.k,
        )
        for at in range(0, len(asked), _BLOCK)
    ]
    return np.concatenate([rows for rows, _ in found]), np.concatenate([s for _, s in found])


def _groups(
    store: Reader, asked: Labels, voters: Labels, exclude: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes of what a clip may not be compared with: its subject, its recording, itself."""
    if exclude == "none":
        return asked.clip_ids, voters.clip_ids
    both = np.concatenate([asked.clip_ids, voters.clip_ids])
    code, _ = codes(clip_columns(store, both, [f"{exclude}_id"])[f"{exclude}_id"])
    return code[: len(asked)], code[len(asked) :]


def _enough(rows: NDArray[np.int64], voters: Labels, vote: Vote) -> None:
    fewest = int((rows >= 0).sum(axis=1).min())
    if fewest < vote.k:
        raise QueryError(
            f"k is {vote.k}, but a clip has only {fewest} labelled neighbours to vote among the "
            f"{len(voters)} clips; ask for a smaller k or leave out less"
        )


def _predictions(
    features: str,
    voters: Labels,
    asked: Labels,
    rows: NDArray[np.int64],
    scores: NDArray[np.float64],
    vote: Vote,
) -> Predictions:
    said = votes(voters, rows, scores, vote.weighted)
    answered = None
    if voters.classes and vote.margin > 0:
        first = np.sort(said, axis=1)
        answered = first[:, -1] - first[:, -2] >= vote.margin
    return Predictions(
        features,
        voters.classes,
        asked.values,
        said,
        asked.subjects,
        asked.clip_ids,
        answered=answered,
    )
