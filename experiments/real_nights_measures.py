"""Measures of vectors on real nights: recall@10, stages, apnea and decoding by linear models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from sleepfm.contract import BODY
from sleepfm.stages import SCORED
from sleepfm.training.clipcache import CachedRecording

try:
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.metrics import roc_auc_score
except ImportError:
    sys.exit("real nights are measured with scikit-learn: pip install 'sleepfm-index[eval]'")

Floats = NDArray[np.floating]

FOLDS = 4
K = 10


@dataclass(frozen=True)
class Clips:
    """All clips of all people: one row per clip.

    Parameters
    ----------
    recordings : list of CachedRecording
        Recordings, in the order of the rows.
    person : ndarray of str, shape [n]
        Person of each clip.
    stage : ndarray of str, shape [n]
        AASM stage of each clip.
    apnea : ndarray of bool, shape [n]
        Whether apnea and hypopnea cover 10 s or more.
    fold : mapping of str to int
        Fold of each person.
    known : mapping of str to ndarray of float, shape [n]
        Measured heart and breathing rates by column; NaN where unknown, empty without measurements.
    """

    recordings: list[CachedRecording]
    person: NDArray[np.str_]
    stage: NDArray[np.str_]
    apnea: NDArray[np.bool_]
    fold: Mapping[str, int]
    known: Mapping[str, Floats]


Similarity = Callable[[str, str, str, NDArray[np.bool_]], Floats]


def retrieve(clips: Clips, similar: Similarity) -> dict[str, list[float]]:
    """Return recall@10 per person for every ordered pair of modalities."""
    recalls: dict[str, list[float]] = {}
    for a, b in permutations(BODY.modalities, 2):
        for person in clips.fold:
            selected = clips.person == person
            scores = similar(person, a, b, selected)
            rank = (scores >= scores.diagonal()[:, None]).sum(axis=1)
            recalls.setdefault(f"{a}->{b}", []).append(float((rank <= K).mean()))
    return recalls


def folded(
    clips: Clips,
    vectors: Sequence[Floats],
    truth: NDArray[Any],
    known: NDArray[np.bool_],
    model: Callable[[], Any],
) -> Iterator[tuple[NDArray[np.bool_], Any, Floats]]:
    """Yield for each fold its test clips, a model fitted to the others, and the test vectors.

    ``vectors`` are those of all clips: one array for all folds, or one per fold if each fold has
    its own weights. ``model`` makes a model of scikit-learn.
    """
    fold = np.array([clips.fold[p] for p in clips.person])
    for number in range(FOLDS):
        x = vectors[number % len(vectors)]
        train, test = known & (fold != number), fold == number
        mean, spread = x[train].mean(axis=0), x[train].std(axis=0) + 1e-6
        fitted = model().fit((x[train] - mean) / spread, truth[train])
        yield test, fitted, (x[test] - mean) / spread


def classifier() -> LogisticRegression:
    """Return the linear probe of stages and apnea."""
    return LogisticRegression(class_weight="balanced", C=0.01, max_iter=2000)


def probe_apnea(clips: Clips, *vectors: Floats) -> list[float]:
    """Return the AUROC of apnea per person, NaN where a person has clips of one class only."""
    score = np.zeros(len(clips.person))
    known = np.any([np.abs(x).max(axis=1) > 0 for x in vectors], axis=0)
    for test, model, x in folded(clips, vectors, clips.apnea, known, classifier):
        score[test] = model.decision_function(x)
    aurocs = []
    for person in clips.fold:
        selected = known & (clips.person == person)
        both = 0 < clips.apnea[selected].sum() < selected.sum()
        aurocs.append(
            float(roc_auc_score(clips.apnea[selected], score[selected])) if both else float("nan")
        )
    return aurocs


def probe(clips: Clips, *vectors: Floats) -> list[float]:
    """Return the balanced accuracy per person of a probe fitted on the other folds."""
    accuracies = []
    scored = np.isin(clips.stage, SCORED)
    predicted = np.full(len(scored), "", dtype=clips.stage.dtype)
    for test, model, x in folded(clips, vectors, clips.stage, scored, classifier):
        predicted[test] = model.predict(x)
    for person in clips.fold:
        selected = scored & (clips.person == person)
        right = predicted[selected] == clips.stage[selected]
        accuracies.append(
            float(
                np.mean(
                    [
                        right[clips.stage[selected] == s].mean()
                        for s in np.unique(clips.stage[selected])
                    ]
                )
            )
        )
    return accuracies


def ridge() -> RidgeCV:
    """Return the regression of measured values; its penalty is chosen on the training clips."""
    return RidgeCV(alphas=10.0 ** np.arange(1, 6))


def decode(clips: Clips, column: str, *vectors: Floats) -> tuple[float, list[float]]:
    """Correlate the logarithm of a measured value with a ridge regression of the other folds.

    Returns
    -------
    pooled : float
        Pearson's r over all clips: differences between people count.
    within : list of float
        Pearson's r per person; NaN with fewer than 10 clips.
    """
    values = np.log(np.maximum(clips.known[column], 1e-3))
    known = np.isfinite(values) & np.any([np.abs(x).max(axis=1) > 0 for x in vectors], axis=0)
    predicted = np.full(len(values), np.nan)
    for test, fitted, x in folded(clips, vectors, values, known, ridge):
        predicted[test] = fitted.predict(x)

    def correlation(rows: NDArray[np.bool_]) -> float:
        if rows.sum() < 10:
            return float("nan")
        return float(np.corrcoef(predicted[rows], values[rows])[0, 1])

    return correlation(known), [correlation(known & (clips.person == p)) for p in clips.fold]


@dataclass
class Figures:
    """Measures per person of every arm, by its name.

    Parameters
    ----------
    retrieval : dict of str to dict of str to list of float
        Recall@10 per ordered pair of modalities.
    staging : dict of str to list of float
        Balanced accuracy of the stages.
    apnea : dict of str to list of float
        AUROC; NaN where a person has clips of one class only.
    decoding : dict of str to dict of str to (float, list of float)
        By column, Pearson's r over all clips and per person.
    """

    retrieval: dict[str, dict[str, list[float]]]
    staging: dict[str, list[float]]
    apnea: dict[str, list[float]]
    decoding: dict[str, dict[str, tuple[float, list[float]]]]

    def add(self, name: str, clips: Clips, *vectors: Mapping[str, Floats]) -> None:
        """Measure vectors by modality: one set for all folds, or one per fold.

        The vectors of different folds lie in different spaces, so each fold has its own probe.
        """
        set_of_row = np.array([clips.fold[p] for p in clips.person]) % len(vectors)
        rows = np.arange(len(set_of_row))
        tested = {m: np.stack([v[m] for v in vectors])[set_of_row, rows] for m in BODY.modalities}
        self.retrieval[name] = retrieve(
            clips, lambda _, a, b, own: tested[a][own] @ tested[b][own].T
        )
        self.staging[name] = probe(clips, *(v["bas"] for v in vectors))
        for m in BODY.modalities:
            self.apnea[f"{name}, {m}"] = probe_apnea(clips, *(v[m] for v in vectors))
            self.add_decoding(f"{name}, {m}", clips, *(v[m] for v in vectors))

    def add_decoding(self, name: str, clips: Clips, *vectors: Floats) -> None:
        """Decode all measured values from vectors: one array for all folds, or one per fold."""
        self.decoding[name] = {column: decode(clips, column, *vectors) for column in clips.known}

    def to_json(self, people: list[str]) -> dict[str, object]:
        """Return the measures as JSON values; NaN of ``apnea`` becomes null."""
        return {
            "people": people,
            "recall_at_10": self.retrieval,
            "balanced_accuracy": self.staging,
            "apnea_auroc": {
                name: [v if np.isfinite(v) else None for v in values]
                for name, values in self.apnea.items()
            },
            "decoding": {
                name: {column: {"pooled": r, "people": own} for column, (r, own) in found.items()}
                for name, found in self.decoding.items()
            },
        }


def pooled(clips: Clips, values: list[float]) -> float:
    """Return the mean over clips of a value per person."""
    return float(np.average(values, weights=[(clips.person == p).sum() for p in clips.fold]))


def interval(values: list[float], lowest: float = 0) -> str:
    """Format mean and 95 % t interval over the people with a value."""
    values = [v for v in values if np.isfinite(v)]
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:.3f}"
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:.3f} [{max(mean - half, lowest):.3f}, {min(mean + half, 1):.3f}]"


def print_tables(clips: Clips, figures: Figures) -> None:
    """Print the tables of all arms as Markdown, with the chance of recall@10."""
    sizes = [int((clips.person == p).sum()) for p in clips.fold]
    chance = float(np.mean([min(1.0, K / n) for n in sizes]))
    print(f"{len(clips.person):,} clips of {len(sizes)} people, {min(sizes)} to {max(sizes)} each")
    over_clips = pooled(clips, [min(1.0, K / n) for n in sizes])
    print(
        "\nrecall@10 among the person's clips, mean over people [95 %] and over clips; chance "
        f"{chance:.3f} and {over_clips:.3f}\n"
    )
    pairs = [f"{a}->{b}" for a, b in permutations(BODY.modalities, 2)]
    print("| | " + " | ".join(pairs) + " |\n|---" + "|---" * len(pairs) + "|")
    for name, found in figures.retrieval.items():
        print(
            f"| {name} | "
            + " | ".join(f"{interval(found[p])} {pooled(clips, found[p]):.3f}" for p in pairs)
            + " |"
        )
    print("\nstages, balanced accuracy per person\n\n| | |\n|---|---|")
    for name, values in figures.staging.items():
        print(f"| {name} | {interval(values)} {pooled(clips, values):.3f} |")
    people = max(sum(np.isfinite(values)) for values in figures.apnea.values())
    print(
        f"\napnea or hypopnea of 10 s or more in the clip ({clips.apnea.mean():.0%} of clips): "
        f"AUROC per person, mean over {people} people with both kinds\n\n| | |\n|---|---|"
    )
    for name, values in figures.apnea.items():
        print(f"| {name} | {interval(values)} |")
    if clips.known:
        print("\nridge regression: r over all clips, then mean of r within each person\n")
        print("| | " + " | ".join(clips.known) + " |\n|---" + "|---" * len(clips.known) + "|")
        for name, found_of in figures.decoding.items():
            cells = (f"{r:.3f}, {interval(own, -1)}" for r, own in found_of.values())
            print(f"| {name} | " + " | ".join(cells) + " |")
