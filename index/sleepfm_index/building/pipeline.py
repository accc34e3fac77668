"""A folder of recordings becomes a store: read, cut, encode, commit, one recording at a time.

:func:`~sleepfm_index.building.recording_task.rows_of` processes one recording, in this process or
in several side by side; the commits are made here, in the order of the files, so that a store does
not depend on how many processes worked on it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sleepfm.choices import Coding, Grid
from sleepfm.encoders.backend import Options
from sleepfm.encoders.choice import choose
from sleepfm.encoders.seen import Seen
from sleepfm.errors import RecordingError
from sleepfm.recordings import RecordingFile, find_recordings
from sleepfm.resources import cores, free_memory
from sleepfm_index.building import dask_client, process_pool
from sleepfm_index.building.annotate import differing
from sleepfm_index.building.facts import facts_of_subjects
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.building.recording_names import own_name, recording_name
from sleepfm_index.building.recording_task import (
    READMIT,
    Clock,
    Job,
    Outcome,
    Plan,
    Rows,
    Status,
    encoder_of,
    identity_of,
    refusal,
    rows_of,
)
from sleepfm_index.building.subjects import Subjects, no_subjects, read_subjects
from sleepfm_index.choices import BuildEngine, Ids, StoreMode
from sleepfm_index.errors import StoreError, UncompactedError
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.reader import Reader
from sleepfm_index.runtime.dask import Cluster
from sleepfm_index.runtime.threads import setting
from sleepfm_index.storage import private
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.withdrawals import signals_mark, subject_mark
from sleepfm_index.storage.writer import Writer
from sleepfm_index.truth import read_truth

__all__ = ["BuildReport", "Outcome", "Status", "build"]

_WITHDRAWN = f"its subject was deleted from this store; {READMIT}"
_NIGHT_BYTES = 3 << 29
"""Memory of a worker: 1.5 GB hold the clips of 10 h, the channels in hand, and the encoders."""
_WORTH_BYTES = 1 << 28
"""A process of its own, which takes seconds to start, is for at least so much of recordings."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Parameters
    ----------
    store : Path
    weights : WeightsIdentity
    outcomes : tuple of Outcome
        What became of every file, in order.
    notes : tuple of str
        What there is to say about the table of subjects, one sentence each.
    """

    store: Path
    weights: WeightsIdentity
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()

    def of(self, status: Status) -> tuple[Outcome, ...]:
        """Outcomes of one status.

        Parameters
        ----------
        status : Status
            The status to select.
        """
        return tuple(o for o in self.outcomes if o.status == status)

    @property
    def clips_added(self) -> int:
        """Clips that this build added."""
        return sum(o.clips for o in self.outcomes)


def build(
    store: str | Path,
    paths: Iterable[str | Path],
    *,
    weights: str = "demo",
    subjects: str | Path | None = None,
    truth: str | Path | None = None,
    ids: Ids = "stem",
    substitute: bool | None = None,
    channels: str | Path | None = None,
    strict: bool = False,
    allow_identifying: bool = False,
    readmit: bool = False,
    coding: Coding | None = None,
    epoch_seconds: float | None = None,
    grid: Grid | None = None,
    device: str = "auto",
    threads: int | None = None,
    backend: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    engine: BuildEngine = "local",
    scheduler: str | None = None,
    staging: str | None = None,
    mode: StoreMode | None = None,
    notice: Callable[[str], None] | None = None,
    watch: Callable[[Outcome, int, int], None] | None = None,
) -> BuildReport:
    """Add recordings to a store, which is made if there is none.

    Every recording is committed by itself: what is done stays done, and a repeated or resumed
    build skips it. A recording that cannot be read is left out whole, with its reason, and the
    others go on.

    Parameters
    ----------
    store : path
        The store's folder.
    paths : iterable of path
        Recordings, folders, globs or cohort lists.
    weights : str
        Name or path of the weights; ``demo`` come with the package, trained on simulated nights.
    subjects : path, optional
        subjects.csv.
    truth : path, optional
        A Parquet file of what is known of each clip (:func:`sleepfm_index.truth.read_truth`); its
        columns become columns of the clips, with ``true_`` before a name that the store uses.
    ids : {"stem", "folder", "hash"}
        Whether ``recording_id`` is the file's stem, its folder's name and the stem
        (``sub1_psg``), or a keyed hash of the stem.
    substitute : bool, optional
        Fill slots from other derivations or sensors where their own are missing. The store
        remembers this, ``channels``, ``coding``, ``epoch_seconds`` and ``grid``; what is not given
        here is as in its last build.
    channels : path, optional
        A table of channel names that goes before the package's own; ``"none"`` takes back an
        earlier one.
    strict : bool
        Leave out a recording whose values contradict their unit, instead of warning; refuse a
        table of subjects of which a row names no recording, or that lacks one.
    allow_identifying : bool
        Take columns of subjects.csv that look as if they told who somebody is.
    readmit : bool
        Take recordings and subjects again that were deleted from this store.
    coding : {"yasa", "profusion", "rk", "ucddb", "dreams", "bdsp"}, optional
        What integer stages mean; without it they are not taken.
    epoch_seconds : float, optional
        Length of a scored epoch where the scoring does not say it.
    grid : {"scoring", "recording"}, optional
        Whether clips begin with the scorer's epochs where all share one offset (the default), or
        with the recording.
    device : str
        Where the encoders run: ``auto``, ``cpu``, ``cuda``, ``mps``.
    threads : int, optional
        Cores to keep busy, shared by the workers; by default all that this process may use.
    backend : {"auto", "torch", "openvino"}
        What runs the encoders; ``auto`` takes the fastest that passes a check at the start.
    batch_size : int, optional
        Clips encoded at a time; by default what is fastest.
    workers : int, optional
        Recordings read and encoded at once, one in memory each; more than one are processes of
        their own. By default as many as cores, memory and the recordings make worth while.
    engine : {"local", "dask"}
        Who works on the recordings: this machine, or a Dask cluster (docs/cluster.md).
    scheduler : str, optional
        For Dask: the address of the site's scheduler; without one, processes of this machine.
    staging : str, optional
        For Dask: a folder or URI (``s3://bucket/folder``) where workers leave their rows until they
        are committed; by default ``staging`` in the store's folder.
    mode : {"private", "group"}, optional
        Who may read the store: its owner, or the group too; by default as it is.
    notice : callable, optional
        Called with each sentence that a person should read: what encodes, and why; and where the
        store is large, the plan of its indexes before the work, and each step of it.
    watch : callable, optional
        Called after each file with (outcome, files done, files in all).

    Returns
    -------
    BuildReport

    Raises
    ------
    RecordingError
        If there is nothing to read.
    StoreError
        If the store cannot be written, or holds vectors of other weights.
    WeightsError
        If the weights cannot be loaded.
    """
    from sleepfm.encoders.load import load_weights

    threads = threads or setting()
    named = [Path(path) for path in paths]
    found = find_recordings(named)
    if not found.recordings and not found.left_out:
        raise RecordingError(
            f"there is no recording in {', '.join(map(str, named))}; "
            "`sleepfm-index scan` says what can be read"
        )
    loaded = load_weights(weights)
    cohort, notes = no_subjects(), []
    if subjects is not None:
        cohort = read_subjects(
            Path(subjects), loaded.contract.modalities, allow_identifying=allow_identifying
        )
        unmet = cohort.match(own_name(f, ids) for f in found.recordings).sentences(
            Path(subjects).name
        )
        if strict and unmet:
            raise StoreError(f"{unmet[0]}; correct the table, or build without --strict")
        notes = [*cohort.notes, *unmet]
    count = workers or suitable_workers(found.recordings, threads)
    outcomes = [Outcome(f.path, "left out", f.reason) for f in found.left_out]
    with Writer(Path(store), identity_of(loaded), loaded.contract, mode=mode) as writer:
        known = {} if truth is None else read_truth(Path(truth))
        jobs = [
            Job(file, recording_name(writer.path, file, ids), known.get(file.stem))
            for file in found.recordings
        ]
        gone = {*writer.manifest.withdrawn, *writer.manifest.withdrawals}
        marks = {
            j.recording_id: _subject_mark(writer.manifest.uuid, cohort, own_name(j.file, ids))
            for j in jobs
        }
        if not readmit:
            refused = [j for j in jobs if marks[j.recording_id] in gone]
            jobs = [j for j in jobs if marks[j.recording_id] not in gone]
            outcomes += [Outcome(j.file.path, "left out", _WITHDRAWN) for j in refused]
        choices = writer.manifest.choices.told(
            loaded.contract,
            substitute=substitute,
            channels=channels,
            coding=coding,
            epoch_s=epoch_seconds,
            grid=grid or (None if writer.manifest.segments else "scoring"),
        )
        preparation = Preparation(loaded.contract, choices, strict)
        writer.remember(choices)
        plan = Plan(
            loaded,
            Options(backend, device, threads, batch_size),
            preparation,
            cohort.named({own_name(job.file, ids): job.recording_id for job in jobs}).marked(
                Seen.of_record(loaded.record)
            ),
            present=writer.manifest.sources,
            withdrawn=frozenset() if readmit else frozenset(gone),
            taken=frozenset(_recording_ids(writer.path)),
            tell_names=ids != "hash",
        )
        taken = set(plan.taken)
        tell = notice or (lambda _: None)
        if engine == "dask":
            place = staging or str(writer.path / "staging")
            own = Cluster(scheduler, place, writer.manifest.uuid, count)
            work: Generator[Rows] = dask_client.run_jobs(plan, jobs, own, tell)
        else:
            work = _worked(plan, jobs, count, tell)
        with closing(work) as worked:
            for done, (job, rows) in enumerate(zip(jobs, worked, strict=True), start=1):
                with _uninterrupted():
                    readmitted = (marks[job.recording_id],) if readmit else None
                    outcomes.append(_commit(writer, job, rows, taken, readmitted))
                if watch is not None:
                    watch(outcomes[-1], done, len(jobs))
        update_indexes(writer, IndexRequest(notice=tell))
    if subjects is not None and any(o.status == "already there" for o in outcomes):
        notes += _differing(Path(store), plan.subjects, Path(subjects))
    return BuildReport(Path(store), identity_of(loaded), tuple(outcomes), tuple(notes))


def suitable_workers(files: Iterable[RecordingFile], threads: int | None = None) -> int:
    """How many recordings to work on at once: as cores, memory and the recordings allow.

    Parameters
    ----------
    files : iterable of RecordingFile
        Recordings to be read.
    threads : int, optional
        Largest number of recordings; by default one per core.
    """
    size = sum(f.path.stat().st_size for f in files if f.path.is_file())
    most = min(threads or cores(), free_memory() // _NIGHT_BYTES, size // _WORTH_BYTES)
    return max(1, int(most))


def _worked(
    plan: Plan, jobs: list[Job], count: int, notice: Callable[[str], None]
) -> Generator[Rows]:
    """Give the rows of every job in order, worked out here or by ``count`` processes."""
    if count == 1 or len(jobs) < 2:
        told = False
        for job in jobs:
            rows = rows_of(plan, job)
            if rows.data is not None and not told:
                notice(encoder_of(plan).why)
                told = True
            yield rows
        return
    # Chosen once for all, on an idle machine.
    choice = choose(plan.weights, plan.running)
    notice(f"{choice.why}; {count} workers")
    threads = max(1, (plan.running.threads or cores()) // count)
    running = replace(plan.running, checked=choice.name, threads=threads)
    del choice
    with closing(
        process_pool.answers(rows_of, replace(plan, running=running), jobs, count)
    ) as found:
        for job, rows in zip(jobs, found, strict=True):
            died = isinstance(rows, process_pool.Died)
            yield Rows(Outcome(job.file.path, "failed", rows.why)) if died else rows


def _commit(
    writer: Writer, job: Job, rows: Rows, taken: set[str], readmit: tuple[str, ...] | None = None
) -> Outcome:
    """Commit what a job gave, unless another of this build has the same content or name.

    With the mark of its subject to readmit, it is taken although it was withdrawn.
    """
    if rows.data is None:
        return rows.outcome
    held = writer.manifest
    withdrawn = () if readmit is not None else held.withdrawn
    refused = refusal(job.file.path, rows.key, job.recording_id, held.sources, withdrawn, taken)
    if refused is not None:
        return refused
    clock = Clock()
    try:
        with clock("commit"):
            private.remember_file(writer.path, job.recording_id, job.file.path)
            if readmit is not None:
                signals = str(rows.data.recordings["signals"][0].as_py())
                marks = (*readmit, signals_mark(signals))
                writer.append(rows.data, held.readmitted(rows.key, marks))
            else:
                writer.append(rows.data)
    except UncompactedError as error:
        return Outcome(job.file.path, "failed", str(error))
    taken.add(job.recording_id)
    return replace(rows.outcome, seconds=rows.outcome.seconds | clock.seconds)


def _subject_mark(store: str, cohort: Subjects, stem: str) -> str:
    return subject_mark(store, cohort.of(stem).subject_id)


def _recording_ids(store: Path) -> list[str]:
    with Reader(store) as opened:
        names: list[str] = opened.sql("SELECT recording_id FROM recordings").table[0].to_pylist()
    return names


def _differing(store: Path, subjects: Subjects, table: Path) -> list[str]:
    """Say whose facts a table has otherwise than the store, which a build does not change."""
    with Reader(store) as opened:
        names = differing(opened, facts_of_subjects(subjects))
    if not names:
        return []
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return [
        f"{table.name} differs from what is stored of {', '.join(names[:5])}{more}; "
        f"`sleepfm-index annotate {table.name}` brings it in"
    ]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until a commit, which takes a moment, is whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[object] = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
