"""k-nearest-neighbour classification by votes of labelled clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes, has
from sleepfm_index.evaluation.labels.labels import Labels, read_labels
from sleepfm_index.evaluation.labels.splits import Split, check_classes, check_disjoint, subjects_of
from sleepfm_index.evaluation.metrics.assessment import Assessment, Predictions, assess, at_levels
from sleepfm_index.evaluation.metrics.differences import differences
from sleepfm_index.evaluation.models.neighbour_search import nearest
from sleepfm_index.evaluation.models.train_test import TrainTest
from sleepfm_index.evaluation.models.two_stores import AGAINST, shared_labels
from sleepfm_index.query.question import EXCLUSIONS
from sleepfm_index.reader import Reader
from sleepfm_index.schema import OTHERS, check_modality, target_name

QUERIES: Final = 10_000
_BLOCK: Final = 16_384


@dataclass(frozen=True)
class Vote:
    """Settings of the vote.

    Parameters
    ----------
    k : int
        Number of neighbours.
    weighted : bool
        Whether votes are weighted by similarity, max(score, 0), or equally.
    exclude : {"subject", "recording", "none"}
        Clips without a vote: those of the query's subject, of its recording, or only the clip
        itself.
    margin : float
        Abstain if the vote shares of the first two classes differ by less, 0 to 1.
    """

    k: int = 20
    weighted: bool = True
    exclude: str = "subject"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise QueryError(f"k must be at least 1, got {self.k}")
        if self.exclude not in EXCLUSIONS:
            known = ", ".join(EXCLUSIONS)
            raise QueryError(f"cannot exclude {self.exclude!r}; choose from {known}")
        if not 0 <= self.margin <= 1:
            raise QueryError(f"margin must be from 0 to 1, got {self.margin:g}")


def knn(
    store: Reader,
    label: str,
    *,
    modality: str = "bas",
    to: str | None = None,
    vote: Vote | None = None,
    where: str | None = None,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    split: Split | None = None,
    against: Reader | None = None,
    queries: int | None = QUERIES,
    seed: int = 0,
) -> Assessment:
    """Measure how well the nearest labelled neighbours predict a label.

    Every labelled clip is a query (at most ``queries`` of them, drawn at random). Its neighbours
    are the nearest ``to`` vectors of labelled clips to its ``modality`` vector.

    Parameters
    ----------
    store, label, task, classes
        As in :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    modality : str
        Modality of the queries.
    to : str, optional
        Search target: a modality, or ``others``; by default the query's modality.
    vote : Vote, optional
        Settings of the vote.
    where : str, optional
        SQL condition for every clip.
    split : Split, optional
        Conditions for the neighbours and for the queries, or a store with the queries; subjects
        must differ. There are no folds: the vote excludes each query's subject.
    against : Reader, optional
        Another store of the same recordings, measured on the clips that both stores have, with
        paired differences.
    queries : int, optional
        Maximum number of queries; None means all clips.
    seed : int
        Random seed of the queries.

    Returns
    -------
    Assessment
        Table of :func:`~.assessment.assess`; ``answered`` is the share of queries without
        abstention.

    Raises
    ------
    QueryError
        If the arguments do not match the store, or fewer than ``k`` clips may vote.
    """
    vote = vote or Vote()
    target = search_target(store, modality, to)
    split = split or Split()
    tested = split.tested(store)
    options: Any = {"task": task, "classes": classes, "include_seen": split.include_seen}
    voters = read_labels(store, label, (where, split.train_where), **options)
    voters = voters.take(has(store, voters.clip_ids, target))
    queried = read_labels(tested, label, (where, split.test_where), **options)
    queried = queried.take(has(tested, queried.clip_ids, modality))
    if not len(queried) or not len(voters):
        raise QueryError(f"no labelled clip has {modality} to search with, or {target} to find")
    if voters.classes != queried.classes:
        raise QueryError(
            f"the two sides of {label} have different classes ({', '.join(voters.classes)} and "
            f"{', '.join(queried.classes)}); name them by --classes"
        )
    check_classes(voters)
    subjects_disjoint = split.fixed or split.train_where is not None
    if subjects_disjoint:
        check_disjoint(subjects_of(voters), subjects_of(queried))
    setup = _Setup(store, voters, tested, queried, modality, to, vote)
    pairs: list[tuple[Predictions, Predictions]] = []
    if against is None:
        setup = setup.drawn(queries, seed)
        predictions = [setup.predict()]
    else:
        setup, other = setup.on_shared_clips(against, split.include_seen)
        setup, other = setup.drawn(queries, seed), other.drawn(queries, seed)
        first, second = setup.predict(), other.predict()
        second = replace(second, features=second.features + AGAINST, clip_ids=first.clip_ids)
        predictions, pairs = [first, second], [(first, second)]
    queried = setup.queried
    per_subject = voters.per_subject and queried.per_subject and len(subjects_of(queried)) > 1
    levels = [Predictions.per_subject] if per_subject else []
    baseline = TrainTest(store, voters, tested, queried, None).baseline(predictions[0])
    exclusion = "tested subjects apart" if subjects_disjoint else f"own {vote.exclude} left out"
    note = (
        f"votes of {vote.k} neighbours, {'by similarity' if vote.weighted else 'all alike'}, "
        f"{exclusion}; {queried.note}; asked about {len(queried):,} clips among "
        f"{len(setup.voters):,}"
    )
    result = assess(at_levels(predictions, levels), note, at_levels([baseline], levels))
    if not pairs:
        return result
    pairs += [(level(a), level(b)) for a, b in pairs for level in levels]
    return replace(result, differences=differences(pairs))


@dataclass(frozen=True)
class _Setup:
    """Query clips and voting clips, each with its store."""

    store: Reader
    voters: Labels
    tested: Reader
    queried: Labels
    modality: str
    to: str | None
    vote: Vote

    @property
    def target(self) -> str:
        return search_target(self.store, self.modality, self.to)

    def drawn(self, queries: int | None, seed: int) -> _Setup:
        """Limit the query clips to a random sample."""
        if queries is None or queries >= len(self.queried):
            return self
        rows = np.random.default_rng(seed).choice(len(self.queried), queries, replace=False)
        return replace(self, queried=self.queried.take(np.sort(rows)))

    def on_shared_clips(self, other: Reader, include_seen: bool) -> tuple[_Setup, _Setup]:
        """Restrict two stores to the clips with the query and the target in both of them."""
        if self.tested is not self.store:
            raise QueryError(
                "--against compares two stores of the same recordings; omit --test-store"
            )
        voters, other_voters, _ = shared_labels(self.store, other, self.voters, include_seen)
        both = has(other, other_voters.clip_ids, self.target)
        queried, other_queried, _ = shared_labels(self.store, other, self.queried, include_seen)
        both_queried = has(other, other_queried.clip_ids, self.modality)
        if not both.any() or not both_queried.any():
            raise QueryError("the two stores share no labelled clip with these modalities")
        setup = replace(self, voters=voters.take(both), queried=queried.take(both_queried))
        other_setup = replace(
            self,
            store=other,
            tested=other,
            voters=other_voters.take(both),
            queried=other_queried.take(both_queried),
        )
        return setup, other_setup

    def predict(self) -> Predictions:
        """Compute the votes of the neighbours."""
        rows, scores = _search(
            self.store,
            self.voters,
            self.target,
            self.tested,
            self.queried,
            self.modality,
            self.vote,
        )
        _enough(rows, self.voters, self.vote)
        features = f"{self.modality} -> {self.to or self.modality}"
        return _predictions(features, self.voters, self.queried, rows, scores, self.vote)


def votes(
    labels: Labels, rows: NDArray[np.int64], scores: NDArray[np.float64], weighted: bool
) -> NDArray[np.float64]:
    """Shares of the votes, float64 [q, classes], or the neighbours' mean, float64 [q].

    If no neighbour has a positive similarity, all count equally.

    Parameters
    ----------
    labels : Labels
        Labels of the clips that vote.
    rows : ndarray of int64, shape [q, k]
        Neighbours of each query, as rows of ``labels``, padded with -1.
    scores : ndarray of float64, shape [q, k]
        Similarity of each neighbour.
    weighted : bool
        Whether votes are weighted by similarity.
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


def search_target(store: Reader, modality: str, to: str | None) -> str:
    """Return the target of a search from one modality.

    Parameters
    ----------
    store : Reader
        The open store.
    modality : str
        Modality of the query.
    to : str, optional
        Search target: a modality, or ``others``; by default the query's modality.

    Returns
    -------
    str
        Name of the target: a modality, or ``others_of_<modality>``.

    Raises
    ------
    QueryError
        If the store has no such modality or target.
    """
    known = store.manifest.modalities
    check_modality(modality, known)
    if to not in (None, OTHERS, *known):
        raise QueryError(
            f"no target {to!r} in this store; choose from {', '.join((*known, OTHERS))}"
        )
    return target_name(modality, to or modality, known)


def _search(
    store: Reader,
    voters: Labels,
    target: str,
    tested: Reader,
    queried: Labels,
    modality: str,
    vote: Vote,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return store.vectors.of(voters.clip_ids[rows], target)[0]

    query_groups, groups = np.full(len(queried), -1), np.zeros(len(voters), np.int64)
    if tested is store:
        query_groups, groups = _groups(store, queried, voters, vote.exclude)
    neighbours = [
        nearest(
            tested.vectors.of(queried.clip_ids[start : start + _BLOCK], modality)[0],
            query_groups[start : start + _BLOCK],
            read,
            groups,
            vote.k,
        )
        for start in range(0, len(queried), _BLOCK)
    ]
    return np.concatenate([rows for rows, _ in neighbours]), np.concatenate(
        [s for _, s in neighbours]
    )


def _groups(
    store: Reader, queried: Labels, voters: Labels, exclude: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group codes of queries and voters; a query excludes the voters of its group."""
    if exclude == "none":
        return queried.clip_ids, voters.clip_ids
    both = np.concatenate([queried.clip_ids, voters.clip_ids])
    code, _ = codes(clip_columns(store, both, [f"{exclude}_id"])[f"{exclude}_id"])
    return code[: len(queried)], code[len(queried) :]


def _enough(rows: NDArray[np.int64], voters: Labels, vote: Vote) -> None:
    fewest = int((rows >= 0).sum(axis=1).min())
    if fewest < vote.k:
        raise QueryError(
            f"k is {vote.k}, but a clip has only {fewest} labelled neighbours to vote among the "
            f"{len(voters)} clips; use a smaller k (-k) or exclude less (--exclude)"
        )


def _predictions(
    features: str,
    voters: Labels,
    queried: Labels,
    rows: NDArray[np.int64],
    scores: NDArray[np.float64],
    vote: Vote,
) -> Predictions:
    shares = votes(voters, rows, scores, vote.weighted)
    answered = None
    if voters.classes and vote.margin > 0:
        first = np.sort(shares, axis=1)
        answered = first[:, -1] - first[:, -2] >= vote.margin
    return Predictions(
        features,
        voters.classes,
        queried.values,
        shares,
        queried.subjects,
        queried.clip_ids,
        answered=answered,
    )
