"""The steps of a query: resolve its origin, select candidates, search, and build the table."""

from __future__ import annotations

from sleepfm_index.query.answer_table import answer_note, answer_table
from sleepfm_index.query.nearest import Search, nearest
from sleepfm_index.query.no_hits import why_none
from sleepfm_index.query.origin import resolve_origin
from sleepfm_index.query.question import Question, check_question, target_of
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result


def answer(reader: Reader, question: Question) -> Result:
    """Answer a question from a store.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        What is asked.

    Returns
    -------
    Result
        Columns rank, score, clip_id and all metadata of the clips found. The score is the cosine
        of two unit vectors, or a mean of cosines where the query or target is a mean. There are
        fewer than ``k`` rows if no more clips match. The note states whether the search was exact,
        or else the measured recall.

    Raises
    ------
    QueryError
        If the question is not valid for the store.
    """
    known = reader.manifest.modalities
    modalities = check_question(question, known)
    origin = resolve_origin(reader, question, modalities)
    allowed = None if question.where is None else reader.metadata.clip_ids(question.where)
    search = Search(
        target_of(modalities, question.to, known),
        question.k,
        allowed,
        own_runs(reader, question.exclude, origin.recording_id, origin.subject_id)
        if origin.known
        else (),
        question.min_gap,
        question.exact,
    )
    found = nearest(reader, origin.vector[None], search)
    ((ids, scores),) = found.hits
    table = answer_table(reader.rows(ids), scores, [len(scores)])
    note = answer_note(question, origin.text, len(scores), found.method, known=origin.known)
    if not len(scores):
        note += f"; {why_none(reader, question, allowed)}"
    return Result(table, note)


def own_runs(
    reader: Reader, exclude: str, recording_id: str, subject_id: str
) -> tuple[tuple[int, int], ...]:
    """Find the clips that a query excludes because they are its own.

    Parameters
    ----------
    reader : Reader
        The open store.
    exclude : {"subject", "recording", "none"}
        Exclude the clips of the query's subject, of its recording, or none.
    recording_id, subject_id : str
        Of the query clip.

    Returns
    -------
    tuple of (int, int)
        First and last clip id of each run.
    """
    if exclude == "none":
        return ()
    own = subject_id if exclude == "subject" else recording_id
    return reader.runs(f"{exclude}_id", own)
