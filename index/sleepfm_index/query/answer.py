"""The steps of a query: look up its examples, select candidates, search, build the table."""

from __future__ import annotations

from dataclasses import replace

from sleepfm_index.errors import QueryError
from sleepfm_index.query.answer_table import answer_note, answer_table
from sleepfm_index.query.examples import ExampleVectors, examples_of, runs_of
from sleepfm_index.query.nearest import Search, nearest
from sleepfm_index.query.no_hits import why_none
from sleepfm_index.query.question import Question, check_question, described, in_words, target_of
from sleepfm_index.query.scope import scope
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result


def answer(reader: Reader, question: Question) -> Result:
    """Run a query on a store.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        The query.

    Returns
    -------
    Result
        Columns rank, score, clip_id and all metadata of the result clips. The score is the cosine
        of two unit vectors, or a mean of cosines if the query or the target is a mean. There are
        fewer than ``k`` rows if no more clips match. The note states the query with its time,
        stage and events, the meaning of the score, and ``exact`` or the measured recall.

    Raises
    ------
    QueryError
        If the query is not valid for the store.
    """
    known = reader.manifest.modalities
    modalities = check_question(question, known)
    return answer_to(reader, question, modalities, examples_of(reader, question, modalities))


def answer_to(
    reader: Reader, question: Question, modalities: tuple[str, ...], examples: ExampleVectors
) -> Result:
    """Run a query with the given query vectors.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        The query, whose examples are ignored.
    modalities : tuple of str
        Modalities of the query vectors.
    examples : ExampleVectors
        The query vectors.

    Returns
    -------
    Result
        The same as from :func:`answer`.

    Raises
    ------
    QueryError
        If the query is not valid for the store, or all candidates belong to the excluded subjects
        or recordings of the examples.
    """
    known = reader.manifest.modalities
    target = target_of(modalities, question.to, known)
    excluded = runs_of(reader, question.exclude, examples.owners)
    candidates = scope(
        reader,
        question.where,
        question.allowed,
        question.exclude_subjects,
        [*examples.runs, *excluded],
    )
    search = Search(
        target,
        question.k,
        candidates.allowed,
        candidates.without,
        question.min_gap,
        question.exact,
        combined=len(examples.vectors) > 1,
    )
    result = nearest(reader, examples.vectors, search)
    ((ids, scores),) = result.hits
    if not len(ids) and examples.several and excluded:
        _refuse_if_all_excluded(reader, question, examples, search)
    table = answer_table(reader.rows(ids), scores, [len(scores)])
    note = answer_note(
        question,
        examples.text,
        len(scores),
        result.method,
        target=described(target, known),
        score=in_words(examples.score, target, known),
        scope=candidates.text,
        known=examples.known,
    )
    if not len(scores):
        note += f"; {why_none(reader, question, candidates.allowed)}"
    return Result(table, note)


def _refuse_if_all_excluded(
    reader: Reader, question: Question, examples: ExampleVectors, search: Search
) -> None:
    without = scope(
        reader, exclude_subjects=question.exclude_subjects, without=examples.runs
    ).without
    wider = replace(search, without=without, k=1, min_gap=None)
    if any(len(ids) for ids, _ in nearest(reader, examples.vectors, wider).hits):
        raise QueryError(
            f"the examples come from every {question.exclude} whose clips could be found, and own "
            f"{question.exclude}s are left out; with exclude none only the examples are"
        )
