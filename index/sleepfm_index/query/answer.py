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
        fewer than ``k`` rows if no more clips match. The note states what was compared, what the
        score is, the query's own time, stage and events, and whether the search was exact, or else
        the measured recall.

    Raises
    ------
    QueryError
        If the question is not valid for the store.
    """
    known = reader.manifest.modalities
    modalities = check_question(question, known)
    return answer_to(reader, question, modalities, examples_of(reader, question, modalities))


def answer_to(
    reader: Reader, question: Question, modalities: tuple[str, ...], examples: ExampleVectors
) -> Result:
    """Answer a question whose examples are at hand.

    Parameters
    ----------
    reader : Reader
        The open store.
    question : Question
        What is asked; which clips ask is not looked at.
    modalities : tuple of str
        What to search with.
    examples : ExampleVectors
        What asks.

    Returns
    -------
    Result
        As from :func:`answer`.

    Raises
    ------
    QueryError
        If the question is not valid for the store, or all that could be found is left out as the
        examples' own.
    """
    known = reader.manifest.modalities
    target = target_of(modalities, question.to, known)
    own = runs_of(reader, question.exclude, examples.owners)
    within = scope(
        reader,
        question.where,
        question.allowed,
        question.exclude_subjects,
        [*examples.own, *own],
    )
    search = Search(
        target,
        question.k,
        within.allowed,
        within.without,
        question.min_gap,
        question.exact,
        together=len(examples.vectors) > 1,
    )
    found = nearest(reader, examples.vectors, search)
    ((ids, scores),) = found.hits
    if not len(ids) and examples.several and own:
        _refuse_own_alone(reader, question, examples, search)
    table = answer_table(reader.rows(ids), scores, [len(scores)])
    note = answer_note(
        question,
        examples.text,
        len(scores),
        found.method,
        target=described(target, known),
        score=in_words(examples.score, target, known),
        scope=within.text,
        known=examples.known,
    )
    if not len(scores):
        note += f"; {why_none(reader, question, within.allowed)}"
    return Result(table, note)


def _refuse_own_alone(
    reader: Reader, question: Question, examples: ExampleVectors, search: Search
) -> None:
    without = scope(
        reader, exclude_subjects=question.exclude_subjects, without=examples.own
    ).without
    wider = replace(search, without=without, k=1, min_gap=None)
    if any(len(ids) for ids, _ in nearest(reader, examples.vectors, wider).hits):
        raise QueryError(
            f"the examples come from every {question.exclude} whose clips could be found, and own "
            f"{question.exclude}s are left out; with exclude none only the examples are"
        )
