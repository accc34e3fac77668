"""What a store holds, said briefly."""

from __future__ import annotations

from dataclasses import dataclass

from sleepfm.modality import Modality
from sleepfm_index.reader import Reader
from sleepfm_index.schema import TARGETS
from sleepfm_index.storage.manifest import Manifest, WeightsIdentity


@dataclass(frozen=True)
class Info:
    """What a store holds.

    Parameters
    ----------
    path : str
        The store's folder.
    clips, recordings, subjects : int
    with_modality : dict of str to int
        Clips that have each modality.
    weights : WeightsIdentity
    contract : str
        Name of the contract.
    contract_sha256 : str
    snapshot, segments : int
    bytes : int
        Size of all published files.
    indexes : dict of str to str
        Target to how it is searched: exactly, or the kind of its index, the clips it covers and
        its measured recall.
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


def describe(store: Reader) -> Info:
    """Count what a store holds; only metadata is read."""
    manifest = store.manifest
    has = ", ".join(f"count(*) FILTER (has_{m}) AS {m}" for m in Modality)
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
        with_modality={str(m): counts[str(m)] for m in Modality},
        weights=manifest.weights,
        contract=manifest.contract.name,
        contract_sha256=manifest.contract.sha256,
        snapshot=manifest.snapshot,
        segments=len(manifest.segments),
        bytes=sum(files) + sum(i.entry.bytes for i in manifest.indexes),
        indexes={target: _index(manifest, target) for target in TARGETS},
    )


def _index(manifest: Manifest, target: str) -> str:
    entry = next((i for i in manifest.indexes if i.target == target and i.probing), None)
    if entry is None:
        return "exact search"
    text = f"{entry.kind}, {entry.rows:,} clips"
    if entry.recall is None:
        return f"{text}, recall not measured"
    found = entry.recall
    at_1, at_10 = (f"{x:.3f} [{low:.3f}, {high:.3f}]" for x, low, high in (found.at_1, found.at_10))
    nearest = entry.probing[0]
    return (
        f"{text}, recall@1 {at_1}, recall@10 {at_10} by {found.queries} queries of other "
        f"modalities ({found.asked:g} asked; {nearest.probes} lists, {nearest.depth} compared)"
    )
