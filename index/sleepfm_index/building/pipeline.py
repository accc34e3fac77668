"""Build a store from recordings: read, cut, encode and commit, one recording at a time.

:func:`~sleepfm_index.building.recording_task.rows_of` processes one recording, in this process or
in parallel workers. Commits are made here in the order of the files, so that a store does not
depend on the number of workers.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from sleepfm import process_pool
from sleepfm.choices import Coding, Grid
from sleepfm.encoders.backend import Options
from sleepfm.encoders.choice import choose
from sleepfm.encoders.seen import Seen
from sleepfm.errors import RecordingError
from sleepfm.progress import Notice, Progress
from sleepfm.recordings import RecordingFile, find_recordings
from sleepfm.resources import cores, free_memory
from sleepfm_index.building import dask_client
from sleepfm_index.building.annotate import differing
from sleepfm_index.building.build_report import BuildReport
from sleepfm_index.building.facts import facts_of_subjects
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.building.recording_names import plain_name, recording_name
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
from sleepfm_index.building.tables import lacking_truth
from sleepfm_index.building.training_distance import unlike_sentences
from sleepfm_index.choices import BuildEngine, Ids, StoreMode
from sleepfm_index.errors import StoreError, UncompactedError
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.reader import Reader
from sleepfm_index.runtime.dask import Cluster
from sleepfm_index.runtime.notebook import cell_line
from sleepfm_index.runtime.threads import setting
from sleepfm_index.storage import private
from sleepfm_index.storage.withdrawals import signals_mark, subject_mark
from sleepfm_index.storage.writer import Writer
from sleepfm_index.truth import Truth, read_truth

__all__ = ["BuildReport", "Outcome", "Status", "build"]

_WITHDRAWN = f"its subject was deleted from this store; {READMIT}"
_NIGHT_BYTES = 3 << 29
"""Memory per worker: 1.5 GB for the clips of 10 h, the current channels and the encoders."""
_MIN_WORKER_BYTES = 1 << 28
"""Minimum bytes of recordings per worker process, because starting a process takes seconds."""


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
    notice: Notice | None = None,
    progress: Progress | None = None,
    outcome: Callable[[Outcome], object] | None = None,
    watch: Callable[[Outcome, int, int], object] | None = None,
) -> BuildReport:
    """Add recordings to a store; create the store if needed.

    Each recording is committed on its own, so an interrupted build resumes after the last one. A
    recording that cannot be read is skipped and reported with the reason.

    Parameters
    ----------
    store : path
        The store's folder.
    paths : iterable of path
        Recordings, folders, globs or cohort lists.
    weights : str
        Name or path of the weights; ``demo`` ships with the package (trained on simulated nights).
        Also the name of an encoder that another package registers
        (:mod:`sleepfm.encoders.external`).
    subjects : path, optional
        subjects.csv.
    truth : path, optional
        Parquet file of reference values per clip (:func:`sleepfm_index.truth.read_truth`).
    ids : {"stem", "folder", "hash"}
        Whether ``recording_id`` is the file's stem, its folder's name and the stem
        (``sub1_psg``), or a keyed hash of the stem.
    substitute : bool, optional
        Whether to fill missing slots from other derivations or sensors. The store keeps this,
        ``channels``, ``coding``, ``epoch_seconds`` and ``grid`` as defaults of the next build.
    channels : path, optional
        Channel table that overrides the package's table; ``"none"`` discards an earlier one.
    strict : bool
        Whether to reject recordings whose values contradict their unit, instead of warning, and a
        subjects.csv that has rows without a recording or lacks rows of recordings.
    allow_identifying : bool
        Whether to accept columns of subjects.csv that look identifying.
    readmit : bool
        Whether to add recordings and subjects again that were deleted from this store.
    coding : {"yasa", "profusion", "rk", "ucddb", "dreams", "bdsp"}, optional
        Coding of integer stages; without it they are not stored.
    epoch_seconds : float, optional
        Length of a scored epoch if the scoring does not specify it.
    grid : {"scoring", "recording"}, optional
        Start clips on the epochs if they share one offset (default), or with the recording.
    device : str
        Device of the encoders: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    threads : int, optional
        Number of cores, shared by the workers; by default all that this process may use.
    backend : {"auto", "torch", "openvino"}
        Runtime of the encoders; ``auto`` uses the fastest that passes a check at the start.
    batch_size : int, optional
        Number of clips per batch; by default the fastest size.
    workers : int, optional
        Worker processes, one recording each; 1 uses the calling process. By default
        :func:`suitable_workers`.
    engine : {"local", "dask"}
        Whether to process recordings on this machine or on a Dask cluster (docs/cluster.md).
    scheduler : str, optional
        With Dask: address of the scheduler; by default processes are started on this machine.
    staging : str, optional
        With Dask: folder or URI (``s3://bucket/folder``) for rows until they are committed; by
        default ``staging`` in the store's folder.
    mode : {"private", "group"}, optional
        Access for the owner only, or for the owner's group as well; by default unchanged.
    notice : Notice, optional
        Called with each message: the chosen backend, and the steps of building large indexes.
    progress : Progress, optional
        Called after each file with (files done, total files).
    outcome : callable, optional
        Called with the outcome of each file, before ``progress``.
    watch : callable, optional
        Deprecated: ``outcome`` and ``progress`` in one, (outcome, files done, total files).

    Returns
    -------
    BuildReport

    Raises
    ------
    RecordingError
        If there are no recordings.
    StoreError
        If the store cannot be written, or has vectors of other weights.
    WeightsError
        If the weights cannot be loaded.
    """
    from sleepfm.encoders.load import find_weights

    threads = threads or setting()
    given_paths = [Path(path) for path in paths]
    search = find_recordings(given_paths)
    if not search.recordings and not search.left_out:
        raise RecordingError(
            f"there is no recording in {', '.join(map(str, given_paths))}; "
            "`sleepfm-index scan` shows what can be read"
        )
    loaded = find_weights(weights)
    cohort, notes = no_subjects(), []
    if subjects is not None:
        cohort = read_subjects(
            Path(subjects), loaded.contract.modalities, allow_identifying=allow_identifying
        )
        unmatched = cohort.match(plain_name(f, ids) for f in search.recordings).sentences(
            Path(subjects).name
        )
        if strict and unmatched:
            raise StoreError(f"{unmatched[0]}; correct the table, or build without --strict")
        notes = [*cohort.notes, *unmatched]
    count = workers or suitable_workers(search.recordings, threads)
    outcomes = [Outcome(f.path, "left out", f.reason) for f in search.left_out]
    with Writer(Path(store), identity_of(loaded), loaded.contract, mode=mode) as writer:
        truth_of = {} if truth is None else read_truth(Path(truth))
        jobs = [
            Job(file, recording_name(writer.path, file, ids), truth_of.get(file.stem))
            for file in search.recordings
        ]
        withdrawn = {*writer.manifest.withdrawn, *writer.manifest.withdrawals}
        marks = {
            j.recording_id: _subject_mark(writer.manifest.uuid, cohort, plain_name(j.file, ids))
            for j in jobs
        }
        if not readmit:
            refused = [j for j in jobs if marks[j.recording_id] in withdrawn]
            jobs = [j for j in jobs if marks[j.recording_id] not in withdrawn]
            outcomes += [Outcome(j.file.path, "left out", _WITHDRAWN) for j in refused]
        choices = writer.manifest.choices.updated(
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
            cohort.named({plain_name(job.file, ids): job.recording_id for job in jobs}).marked(
                Seen.of_record(loaded.record)
            ),
            present=writer.manifest.sources,
            withdrawn=frozenset() if readmit else frozenset(withdrawn),
            taken=frozenset(_recording_ids(writer.path)),
            warn_names=ids != "hash",
        )
        taken = set(plan.taken)
        line = None if outcome or progress or watch else cell_line()
        notify = notice or (line.show if line is not None else lambda _: None)
        if engine == "dask":
            shared = staging or str(writer.path / "staging")
            cluster = Cluster(scheduler, shared, writer.manifest.uuid, count)
            results: Generator[Rows] = dask_client.run_jobs(plan, jobs, cluster, notify)
        else:
            results = _local_rows(plan, jobs, count, notify)
        with closing(results):
            for done, (job, rows) in enumerate(zip(jobs, results, strict=True), start=1):
                with _uninterrupted():
                    readmitted = (marks[job.recording_id],) if readmit else None
                    outcomes.append(_commit(writer, job, rows, taken, readmitted))
                if outcome is not None:
                    outcome(outcomes[-1])
                if progress is not None:
                    progress(done, len(jobs))
                if watch is not None:
                    watch(outcomes[-1], done, len(jobs))
                if line is not None:
                    line.show(_so_far(outcomes, len(jobs)), done / len(jobs))
        update_indexes(writer, IndexRequest(notice=notify))
    if subjects is not None and any(o.status == "already there" for o in outcomes):
        notes += _differing(Path(store), plan.subjects, Path(subjects))
    present = {o.file for o in outcomes if o.status == "already there"}
    known = {j.recording_id for j in jobs if j.truth and j.file.path in present}
    if known:
        notes += _without_truth(Path(store), known, truth_of)
    notes += unlike_sentences(loaded.name, [(o.recording_id, o.distances) for o in outcomes])
    return BuildReport(Path(store), identity_of(loaded), tuple(outcomes), tuple(notes))


def _so_far(outcomes: list[Outcome], total: int) -> str:
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    clips = sum(outcome.clips for outcome in outcomes)
    failures = f", {failed} failed" if failed else ""
    return f"{len(outcomes)} of {total} recordings, {clips:,} clips{failures}"


def suitable_workers(files: Iterable[RecordingFile], threads: int | None = None) -> int:
    """Default number of workers, from cores, free memory and the size of the recordings.

    Parameters
    ----------
    files : iterable of RecordingFile
        Recordings to read.
    threads : int, optional
        Upper limit; by default the number of cores.
    """
    size = sum(f.path.stat().st_size for f in files if f.path.is_file())
    limit = min(threads or cores(), free_memory() // _NIGHT_BYTES, size // _MIN_WORKER_BYTES)
    return max(1, int(limit))


def _local_rows(plan: Plan, jobs: list[Job], count: int, notice: Notice) -> Generator[Rows]:
    """Yield the rows of every job in order, computed here or by ``count`` processes."""
    if count == 1 or len(jobs) < 2:
        notified = False
        for job in jobs:
            rows = rows_of(plan, job)
            if rows.data is not None and not notified:
                notice(encoder_of(plan).why)
                notified = True
            yield rows
        return
    # Chosen once for all workers, while the machine is idle.
    choice = choose(plan.weights, plan.running)
    notice(f"{choice.why}; {count} workers")
    threads = max(1, (plan.running.threads or cores()) // count)
    running = replace(plan.running, checked=choice.name, threads=threads)
    del choice
    with closing(
        process_pool.results(rows_of, replace(plan, running=running), jobs, count)
    ) as results:
        for job, rows in zip(jobs, results, strict=True):
            died = isinstance(rows, process_pool.Died)
            yield Rows(Outcome(job.file.path, "failed", rows.why)) if died else rows


def _commit(
    writer: Writer, job: Job, rows: Rows, taken: set[str], readmit: tuple[str, ...] | None = None
) -> Outcome:
    """Commit the rows of a job, unless another job of this build has the same content or name.

    With ``readmit``, the mark of its subject, a withdrawn recording is committed as well.
    """
    if rows.data is None:
        return rows.outcome
    manifest = writer.manifest
    withdrawn = () if readmit is not None else manifest.withdrawn
    refused = refusal(job.file.path, rows.key, job.recording_id, manifest.sources, withdrawn, taken)
    if refused is not None:
        return refused
    clock = Clock()
    try:
        with clock("commit"):
            private.remember_file(writer.path, job.recording_id, job.file.path)
            if readmit is not None:
                signals = str(rows.data.recordings["signals"][0].as_py())
                marks = (*readmit, signals_mark(signals))
                writer.append(rows.data, manifest.readmitted(rows.key, marks))
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
    """Report recordings whose values in a table differ from the store, which a build keeps."""
    with Reader(store) as opened:
        names = differing(opened, facts_of_subjects(subjects))
    if not names:
        return []
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return [
        f"{table.name} differs from the stored values of {', '.join(names[:5])}{more}; "
        f"run `sleepfm-index annotate {table.name}` to apply it"
    ]


def _without_truth(store: Path, known: set[str], truth: Mapping[str, Truth]) -> list[str]:
    """Report stored recordings without the known values of a truth file, which a build keeps."""
    with Reader(store) as opened:
        names = known.intersection(lacking_truth(opened, set().union(*truth.values())))
    why = f"{len(names):,} recordings are stored without the known values of their clips"
    return [f"{why}; to add them, delete these recordings and build again"] if names else []


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Defer Ctrl-C until a commit is complete."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[object] = []
    before = signal.signal(signal.SIGINT, lambda *_: interrupts.append(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts:
        raise KeyboardInterrupt
