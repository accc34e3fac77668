"""A summary of a store's contents."""

from __future__ import annotations

from dataclasses import dataclass

from sleepfm_index.reader import Reader
from sleepfm_index.results import html_table
from sleepfm_index.search import kinds
from sleepfm_index.storage.manifest import Manifest, WeightsIdentity
from sleepfm_index.storage.quoting import quote_name


@dataclass(frozen=True)
class Info:
    """A summary of a store.

    Parameters
    ----------
    path : str
        The store's folder.
    clips, recordings, subjects : int
        Number of clips, recordings and subjects.
    with_modality : dict of str to int
        Number of clips with each modality.
    weights : WeightsIdentity
        The weights that produced the vectors.
    contract : str
        Name of the contract.
    contract_sha256 : str
        Hash of the contract.
    snapshot : int
        Number of the current snapshot.
    segments : int
        Number of segments.
    bytes : int
        Size of all committed files.
    indexes : dict of str to str
        Description of the index of each target: kind, number of clips, and measured recall.
    """

    path: str
    clips: int
    recordings: int
    subjects: int
    with_modality: dict[str, int]
    weights: WeightsIdentity
    contract: str
    contract_sha256: str
    snapshot: int
    segments: int
    bytes: int
    indexes: dict[str, str]

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        rows = [
            ("clips", self.clips),
            ("recordings", self.recordings),
            ("subjects", self.subjects),
            *[(f"clips with {m}", n) for m, n in self.with_modality.items()],
            ("weights", f"{self.weights.name}: {self.weights.note}"),
            ("snapshot", self.snapshot),
        ]
        return html_table(("", ""), rows, "store.explore() shows it as a page")


def describe(store: Reader) -> Info:
    """Summarise a store from its metadata, without reading vectors.

    Parameters
    ----------
    store : Reader
        The open store.

    Returns
    -------
    Info
    """
    manifest = store.manifest
    has = ", ".join(f"count(*) FILTER (has_{m}) AS {quote_name(m)}" for m in manifest.modalities)
    counts = store.sql(
        "SELECT count(*) AS clips, count(DISTINCT recording_id) AS recordings, "
        f"count(DISTINCT subject_id) AS subjects, {has} FROM clips"
    ).to_pylist()[0]
    files = [e.bytes for s in manifest.segments for e in s.files.values()]
    return Info(
        path=str(store.path),
        clips=counts["clips"],
        recordings=counts["recordings"],
        subjects=counts["subjects"],
        with_modality={m: counts[m] for m in manifest.modalities},
        weights=manifest.weights,
        contract=manifest.contract.name,
        contract_sha256=manifest.contract.sha256,
        snapshot=manifest.snapshot,
        segments=len(manifest.segments),
        bytes=sum(files) + sum(c.entry.bytes for c in manifest.caches),
        indexes={target: _index(manifest, target) for target in manifest.targets},
    )


def _index(manifest: Manifest, target: str) -> str:
    usable = (i for i in manifest.indexes if i.settings or kinds.is_exact(i.kind))
    entry = next((i for i in usable if i.target == target), None)
    if entry is None:
        return "exact search, no index"
    if kinds.is_exact(entry.kind):
        return f"{entry.kind}, {entry.rows:,} clips, exact search"
    text = f"{entry.kind}, {entry.rows:,} clips"
    if entry.recall is None:
        return f"{text}, recall not measured"
    recall = entry.recall
    estimates = (recall.at_1, recall.at_10)
    at_1, at_10 = (f"{x:.3f} [{low:.3f}, {high:.3f}]" for x, low, high in estimates)
    first, kind = entry.settings[0], kinds.find(entry.kind)
    searched = (
        "" if kind is None else f"; {kind.describe(first.parameters)}, {first.depth} compared"
    )
    return (
        f"{text}, recall@1 {at_1}, recall@10 {at_10} with {recall.queries} queries of other "
        f"modalities (goal {recall.goal:g}{searched})"
    )
