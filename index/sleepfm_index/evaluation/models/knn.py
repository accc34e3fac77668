"""Votes of the nearest labelled neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes, has
from sleepfm_index.evaluation.labels.labels import Labels, read_labels
from sleepfm_index.evaluation.labels.splits import Split, check_apart, check_classes, subjects_of
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
    """Measure what the nearest labelled neighbours say of a clip.

    Every labelled clip is asked about (at most ``queries`` of them, drawn at random); its
    neighbours are found by its ``modality`` vector among the ``to`` vectors of labelled clips.

    Parameters
    ----------
    store, label, task, classes
        As in :func:`sleepfm_index.evaluation.labels.labels.read_labels`.
    modality : str
        What to search with.
    to : str, optional
        What to search in; by default the same modality.
    vote : Vote, optional
        How many neighbours vote, and how.
    where : str, optional
        SQL condition for every clip.
    split : Split, optional
        Conditions for the neighbours and for the clips asked about, or a store of the latter;
        subjects must differ. There are no folds: each clip is asked about without its own subject.
    against : Reader, optional
        Another store of the same recordings: the same question of the clips that both have, and
        paired differences.
    queries : int, optional
        Ask about at most this many clips; None asks about all.
    seed : int
        Seed of that draw.

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
    target = search_target(store, modality, to)
    split = split or Split()
    tested = split.tested(store)
    how: Any = {"task": task, "classes": classes, "include_seen": split.include_seen}
    voters = read_labels(store, label, (where, split.train_where), **how)
    voters = voters.take(has(store, voters.clip_ids, target))
    asked = read_labels(tested, label, (where, split.test_where), **how)
    asked = asked.take(has(tested, asked.clip_ids, modality))
    if not len(asked) or not len(voters):
        raise QueryError(f"no labelled clip has {modality} to search with, or {target} to find")
    if voters.classes != asked.classes:
        raise QueryError(
            f"the two sides of {label} have different classes ({', '.join(voters.classes)} and "
            f"{', '.join(asked.classes)}); name them by --classes"
        )
    check_classes(voters)
    apart = split.fixed or split.train_where is not None
    if apart:
        check_apart(subjects_of(voters), subjects_of(asked))
    question = _Question(store, voters, tested, asked, modality, to, vote)
    pairs: list[tuple[Predictions, Predictions]] = []
    if against is None:
        question = question.drawn(queries, seed)
        made = [question.predict()]
    else:
        question, other = question.on_shared_clips(against, split.include_seen)
        question, other = question.drawn(queries, seed), other.drawn(queries, seed)
        one, two = question.predict(), other.predict()
        two = replace(two, features=two.features + AGAINST, clip_ids=one.clip_ids)
        made, pairs = [one, two], [(one, two)]
    asked = question.asked
    per_subject = voters.per_subject and asked.per_subject and len(subjects_of(asked)) > 1
    levels = [Predictions.per_subject] if per_subject else []
    baseline = TrainTest(store, voters, tested, asked, None).baseline(made[0])
    own = "tested subjects apart" if apart else f"own {vote.exclude} left out"
    note = (
        f"votes of {vote.k} neighbours, {'by similarity' if vote.weighted else 'all alike'}, "
        f"{own}; {asked.note}; asked about {len(asked):,} clips among {len(question.voters):,}"
    )
    result = assess(at_levels(made, levels), note, at_levels([baseline], levels))
    if not pairs:
        return result
    pairs += [(level(a), level(b)) for a, b in pairs for level in levels]
    return replace(result, differences=differences(pairs))


@dataclass(frozen=True)
class _Question:
    """Query clips and voting clips, each with its store."""

    store: Reader
    voters: Labels
    tested: Reader
    asked: Labels
    modality: str
    to: str | None
    vote: Vote

    @property
    def target(self) -> str:
        return search_target(self.store, self.modality, self.to)

    def drawn(self, queries: int | None, seed: int) -> _Question:
        """Limit the query clips to a random sample."""
        if queries is None or queries >= len(self.asked):
            return self
        rows = np.random.default_rng(seed).choice(len(self.asked), queries, replace=False)
        return replace(self, asked=self.asked.take(np.sort(rows)))

    def on_shared_clips(self, other: Reader, include_seen: bool) -> tuple[_Question, _Question]:
        """Ask the same of two stores: of the clips that have both sides in both."""
        if self.tested is not self.store:
            raise QueryError(
                "--against compares two stores of the same recordings; omit --test-store"
            )
        voters, voters_there, _ = shared_labels(self.store, other, self.voters, include_seen)
        both = has(other, voters_there.clip_ids, self.target)
        asked, asked_there, _ = shared_labels(self.store, other, self.asked, include_seen)
        there = has(other, asked_there.clip_ids, self.modality)
        if not both.any() or not there.any():
            raise QueryError("the two stores share no labelled clip with these modalities")
        ours = replace(self, voters=voters.take(both), asked=asked.take(there))
        theirs = replace(
            self,
            store=other,
            tested=other,
            voters=voters_there.take(both),
            asked=asked_there.take(there),
        )
        return ours, theirs

    def predict(self) -> Predictions:
        """Compute the votes of the neighbours."""
        rows, scores = _search(
            self.store, self.voters, self.target, self.tested, self.asked, self.modality, self.vote
        )
        _enough(rows, self.voters, self.vote)
        features = f"{self.modality} -> {self.to or self.modality}"
        return _predictions(features, self.voters, self.asked, rows, scores, self.vote)


def votes(
    labels: Labels, rows: NDArray[np.int64], scores: NDArray[np.float64], weighted: bool
) -> NDArray[np.float64]:
    """Shares of the votes, float64 [q, classes], or the neighbours' mean, float64 [q].

    Neighbours of no positive similarity all count alike.

    Parameters
    ----------
    labels : Labels
        Labels of the clips that vote.
    rows : ndarray of int64, shape [q, k]
        Neighbours of each query, as rows of ``labels``; -1 where there is none.
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
    """Name what a search from one modality looks in.

    Parameters
    ----------
    store : Reader
        The open store.
    modality : str
        What to search with.
    to : str, optional
        What to search in; by default the same modality.

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
            f"{len(voters)} clips; use a smaller k (-k) or exclude less (--exclude)"
        )


def _predictions(
    features: str,
    voters: Labels,
    asked: Labels,
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
        asked.values,
        shares,
        asked.subjects,
        asked.clip_ids,
        answered=answered,
    )
