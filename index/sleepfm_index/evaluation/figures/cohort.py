"""Tables of a store's cohort and of the user's columns."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from sleepfm.stages import SCORED
from sleepfm_index.number_display import four_digits
from sleepfm_index.reader import Reader
from sleepfm_index.schema import SUBJECT_COLUMNS, WEIGHTS_SPLIT, is_reserved
from sleepfm_index.storage.quoting import quote_name

_FEW: Final = 10
"""Maximum number of values of a text column that are listed and probed."""
_IDENTITY: Final = ("recording_id", "subject_id", "site", "clip_id", "stage_share")


def cohort_table(store: Reader) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Describe the subjects by site: one row per site, and a total if there are several.

    Parameters
    ----------
    store : Reader
        The open store.

    Returns
    -------
    rows : list of dict
        Subjects, recordings, hours of clips, age, sex, BMI and AHI, each as mean (SD) over
        subjects, and the shares of the stages.
    columns : dict of str to str
        Heading by column.
    """
    hours = store.manifest.contract.clip_seconds / 3600
    present = store.clip_schema.names
    known = [n for n in ("nsrr_age", "nsrr_bmi", "nsrr_ahi_hp3r_aasm15") if n in present]
    facts = ", ".join(f"any_value({quote_name(n)}) AS {quote_name(n)}" for n in known)
    sex = "any_value(nsrr_sex)" if "nsrr_sex" in present else "NULL"
    per_subject = (
        f"SELECT coalesce(site, '') AS site, subject_id, count(*) AS clips, {sex} AS sex, "
        "count(DISTINCT recording_id) AS recordings, "
        + "".join(f"count(*) FILTER (stage = '{s}') AS {s}, " for s in SCORED)
        + (facts or "NULL AS none")
        + " FROM clips GROUP BY ALL"
    )
    means = "".join(
        f", printf('%.1f (%.1f)', avg({n}), coalesce(stddev({n}), 0)) AS {n}" for n in known
    )
    scored = "nullif(sum(W + N1 + N2 + N3 + R), 0)"
    shares = "".join(
        f", round(100.0 * sum({s}) / {scored}) AS {s}" for s in ("W", "N1", "N2", "N3", "R")
    )
    selected = (
        f"count(*) AS subjects, sum(recordings)::BIGINT AS recordings, sum(clips) * {hours} AS "
        "hours, count(*) FILTER (sex ILIKE 'f%') AS women, count(*) FILTER (sex ILIKE 'm%') AS men"
        f"{means}{shares}"
    )
    rows = store.metadata.select(
        f"SELECT site, {selected} FROM ({per_subject}) GROUP BY site ORDER BY site"
    ).to_pylist()
    if len(rows) > 1:
        rows += store.metadata.select(
            f"SELECT 'all' AS site, {selected} FROM ({per_subject})"
        ).to_pylist()
    for row in rows:
        row["hours"] = f"{float(row['hours']):,.1f}"
        row["sex"] = f"{row['women']} / {row['men']}"
        shares_of_stages = [row[s] for s in SCORED]
        row["stages"] = (
            "–" if None in shares_of_stages else " / ".join(f"{s:.0f}" for s in shares_of_stages)
        )
        row.update({n: "–" for n in known if row[n] is None})
    titles = {
        "nsrr_age": "age (years)", "nsrr_bmi": "BMI (kg/m²)", "nsrr_ahi_hp3r_aasm15": "AHI (/h)",
    }  # fmt: skip
    columns = {"site": "site", "subjects": "subjects", "recordings": "recordings"}
    columns |= {"hours": "hours", "sex": "female / male", **{n: titles[n] for n in known}}
    return rows, columns | {"stages": "W / N1 / N2 / N3 / R (% of scored)"}


def user_columns(store: Reader) -> list[dict[str, Any]]:
    """Describe the columns that neither the project nor NSRR defines.

    Parameters
    ----------
    store : Reader
        The open store.

    Returns
    -------
    list of dict
        column, clips (with a value), values (their range or list), label (whether it can be the
        label of a probe).
    """
    modalities = store.manifest.modalities
    defined = (*SUBJECT_COLUMNS.names, WEIGHTS_SPLIT, *_IDENTITY)
    rows = []
    for field in store.clip_schema:
        if field.name in defined or is_reserved(field.name, modalities):
            continue
        name = quote_name(field.name)
        numeric = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        (row,) = store.metadata.select(
            f"SELECT count({name}) AS clips, count(DISTINCT {name}) AS distinct_values, "
            f"min({name}) AS low, max({name}) AS high, "
            f"string_agg(DISTINCT {name}::VARCHAR, ', ') AS listed FROM clips"
        ).to_pylist()
        count = row["distinct_values"]
        low, high = (
            four_digits(row[end]) if isinstance(row[end], float) else row[end]
            for end in ("low", "high")
        )
        values = f"{low} to {high}" if numeric and count else f"{count} values"
        if not numeric and count <= _FEW:
            values = row["listed"] or "none"
        label = count > 1 and (numeric or count <= _FEW)
        rows.append({"column": field.name, "clips": row["clips"], "values": values, "label": label})
    return rows
