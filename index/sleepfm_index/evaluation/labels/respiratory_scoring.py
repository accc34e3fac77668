"""Recordings scored for respiration, in which clips without an event are negatives.

A store has the events that were scored, not what the scorer looked for: no event may mean a healthy
sleeper, or that nobody looked.
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

    A recording was scored for respiration if it has a scored apnea or hypopnea; or if anything else
    was scored in it (stages, arousals, desaturations) and either its subject's apnea-hypopnea index
    is known, or apneas or hypopneas were scored elsewhere at its site. An index under which a
    recording of this length would be without an event with a chance below 5 % (Poisson) shows that
    its events are missing. The column ``respiration_scored`` of subjects.csv decides where it is
    filled.

    Parameters
    ----------
    store : Reader
        The open store.
    columns : list of str
        Which of :data:`BREATHING` the store has.

    Returns
    -------
    dict of str to str
        The reason, by recording id; recordings with labels are not in it.
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
    there = store.clip_schema.names
    seconds = " + ".join(f"coalesce({quote_name(name)}, 0)" for name in columns)
    ahi = f"any_value({quote_name(_AHI)})" if _AHI in there else "NULL"
    declared = "NULL"
    if DECLARED in there:
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
