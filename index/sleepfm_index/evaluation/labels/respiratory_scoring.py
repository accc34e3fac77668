"""Detection of recordings scored for respiration, in which clips without an event are negatives.

A store has the scored events but not the scope of the scoring: a recording without events may be
that of a healthy sleeper, or not have been scored for respiration.
"""

from __future__ import annotations

import math
from typing import Any, Final

from sleepfm_index.reader import Reader
from sleepfm_index.storage.quoting import quote_name

BREATHING: Final = (
    "apnea_obstructive_s",
    "apnea_central_s",
    "apnea_mixed_s",
    "apnea_unspecified_s",
    "hypopnea_s",
)
DECLARED: Final = "respiration_scored"
"""Column of subjects.csv (true or false) that takes precedence."""
_AHI: Final = "nsrr_ahi_hp3r_aasm15"
_RARE: Final = 0.05

UNSCORED: Final = "of recordings not scored for respiration"
AT_ODDS: Final = "of recordings without an event, contrary to their apnea-hypopnea index"


def left_out(store: Reader, columns: list[str]) -> dict[str, str]:
    """List recordings without a respiratory label, with the reason.

    A recording counts as scored for respiration if it has a scored apnea or hypopnea; or if
    anything else was scored (stages, arousals, desaturations) and either its subject's
    apnea-hypopnea index is known, or other recordings of its site have scored apneas or hypopneas.
    If, given the index, the probability of no event in a recording of this length is below 5 %
    (Poisson), its events are considered missing. The column ``respiration_scored`` of subjects.csv
    takes precedence.

    Parameters
    ----------
    store : Reader
        The open store.
    columns : list of str
        Columns of :data:`BREATHING` that the store has.

    Returns
    -------
    dict of str to str
        Reason by recording id, without recordings that have labels.
    """
    rows = _facts(store, columns)
    hours = store.manifest.contract.clip_seconds / 3600
    sites = {row["site"] for row in rows if row["breathing"]}
    reasons = {row["recording_id"]: _reason(row, row["site"] in sites, hours) for row in rows}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _reason(row: dict[str, Any], at_site: bool, hours: float) -> str | None:
    if row["declared"] is not None:
        return None if row["declared"] else UNSCORED
    if row["breathing"]:
        return None
    if not (row["staged"] or row["events"]):
        return UNSCORED
    if row["ahi"] is not None:
        expected = row["ahi"] * row["asleep"] * hours
        return AT_ODDS if math.exp(-expected) < _RARE else None
    return None if at_site else UNSCORED


def _facts(store: Reader, columns: list[str]) -> list[dict[str, Any]]:
    names_in_store = store.clip_schema.names
    seconds = " + ".join(f"coalesce({quote_name(name)}, 0)" for name in columns)
    ahi = f"any_value({quote_name(_AHI)})" if _AHI in names_in_store else "NULL"
    declared = "NULL"
    if DECLARED in names_in_store:
        declared = f"any_value(try_cast({quote_name(DECLARED)} AS BOOLEAN))"
    statement = f"""
        SELECT recording_id, any_value(site) AS site, max({seconds}) > 0 AS breathing,
               bool_or(stage NOT IN ('UNS', 'ART')) AS staged,
               count(*) FILTER (stage IN ('N1', 'N2', 'N3', 'R')) AS asleep,
               {ahi} AS ahi, {declared} AS declared,
               recording_id IN (SELECT recording_id FROM events) AS events
        FROM clips GROUP BY recording_id"""
    rows: list[dict[str, Any]] = store.metadata.select(statement).to_pylist()
    return rows
