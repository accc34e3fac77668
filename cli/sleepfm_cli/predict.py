"""``sleepfm-index predict``: a saved probe applied to a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm.escaping import escaped
from sleepfm_cli.options import DEFAULT_STORE, StoreOption, WhereOption
from sleepfm_cli.outputs import expect_output
from sleepfm_cli.render import answers, say


def predict(
    probe: Annotated[Path, typer.Argument(help="A probe saved by `sleepfm-index probe --save`.")],
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("predictions"),
    where: WhereOption = None,
    smooth: Annotated[
        bool,
        typer.Option(
            "--smooth",
            help="Smooth the stages of each recording by the transitions saved with the probe.",
        ),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Predict all clips with a saved probe; write Parquet, CSV and EDF+."""
    import sleepfm_index
    from sleepfm_index.evaluation.models.predict import predict as apply_probe
    from sleepfm_index.evaluation.models.predict import write_predictions
    from sleepfm_index.evaluation.models.probe_kinds import load_probe

    expect_output(out, folder=True)
    loaded = load_probe(probe)
    with sleepfm_index.open(store) as opened:
        result = apply_probe(opened, loaded, where=where, smooth=smooth)
        clip_seconds = float(opened.manifest.contract.clip_seconds)
    say(result.note)
    for path in write_predictions(result, out, loaded, clip_seconds=clip_seconds):
        answers().print(escaped(path), markup=False, soft_wrap=True)
