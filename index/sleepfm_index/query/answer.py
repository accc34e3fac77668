"""A question becomes an answer: resolve its origin, select, search, and lay out the table."""

from __future__ import annotations

from sleepfm_index.query.answer_table import answer_note, answer_table
from sleepfm_index.query.nearest import Search, nearest
from sleepfm_index.query.origin import resolve_origin
from sleepfm_index.query.question import Question, check_question, target_of
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result


def answer(reader: Reader, question: Question) -> Result:
    """Answer a question.

    Parameters
    ----------
    reader : Reader
    question : Question

    Returns
    -------
    Result
        Columns rank, score, clip_id and all metadata of the clips found. The score is the cosine
        of two unit vectors, or for means their mean. Fewer than ``k`` rows where no more clips
        fit the question. The note says whether search was exact, else the measured recall.

    Raises
    ------
    QueryError
        If the question does not fit the store.
    """
    modalities = check_question(question)
    origin = resolve_origin(reader, question, modalities)
    search = Search(
        target_of(modalities, question.to),
        question.k,
        None if question.where is None else reader.metadata.clip_ids(question.where),
        own_runs(reader, question.exclude, origin.recording_id, origin.subject_id),
        question.spread,
        question.exact,
    )
    found = nearest(reader, origin.vector[None], search)
    ((ids, scores),) = found.hits
    table = answer_table(reader.rows(ids), scores, [len(scores)])
    return Result(table, answer_note(question, origin.text, len(scores), found.method))


def own_runs(
    reader: Reader, exclude: str, recording_id: str, subject_id: str
) -> tuple[tuple[int, int], ...]:
    """Find the runs of clip ids that a query leaves out as its own.

    Parameters
    ----------
    reader : Reader
    exclude : {"subject", "recording", "none"}
    recording_id, subject_id : str
        Of the query clip.
    """
    if exclude == "none":
        return ()
    own = subject_id if exclude == "subject" else recording_id
    return reader.runs(f"{exclude}_id", own)
