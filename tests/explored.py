"""A store with recordings beside it, and a server for it, for the tests of the page."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import edfio
import numpy as np
import pyarrow as pa
from stores import WEIGHTS, drawn_segment

from sleepfm.contract import ROBUST
from sleepfm_index.explore.server import Explorer
from sleepfm_index.storage import private
from sleepfm_index.storage.manifest_entries import WeightsIdentity
from sleepfm_index.storage.writer import Writer

TOKEN = "a-token-of-the-tests"
CHANNELS = {
    "C3-M2": ("uV", 128),
    "C4-M1": ("uV", 128),
    "E1-M2": ("uV", 128),
    "ECG": ("mV", 256),
    "CHEST": ("", 32),
    "SaO2": ("%", 4),
}


def write_recording(path: Path, clips: int, seed: int) -> Path:
    """Write an EDF+ file of noise, waves, beats and a steady saturation."""
    rng = np.random.default_rng(seed)
    signals = []
    for label, (unit, rate) in CHANNELS.items():
        time = np.arange(30 * clips * rate) / rate
        if label == "ECG":
            x = np.where(np.mod(time, 0.9) < 0.03, 1.0, 0.05 * rng.standard_normal(len(time)))
        elif label == "SaO2":
            x = 95 + np.round(2 * np.sin(time / 200))
        elif label == "CHEST":
            x = np.sin(2 * np.pi * time / 4)
        else:
            x = 30 * np.sin(2 * np.pi * time * 1.5) + 15 * rng.standard_normal(len(time))
        signals.append(edfio.EdfSignal(x, rate, label=label, physical_dimension=unit))
    edfio.Edf(signals).write(path)
    return path


def explored_store(
    folder: Path,
    nights: int = 3,
    clips: int = 40,
    *,
    lacking: float = 0.0,
    weights: WeightsIdentity = WEIGHTS,
) -> Path:
    """Make a store of drawn vectors whose recordings lie beside it."""
    store = folder / "store"
    (folder / "recordings").mkdir(parents=True)
    slots = [(slot, f"alias: {slot}") for slot in CHANNELS]
    with Writer(store, weights, ROBUST) as writer:
        for at in range(nights):
            name = f"night-{at}"
            segment = drawn_segment(name, clips, at, lacking=lacking)
            rows = segment.recordings
            filled = pa.array([slots], rows.schema.field("slots").type)
            place = rows.column_names.index("slots")
            recordings = rows.set_column(place, rows.schema.field("slots"), filled)
            writer.append(replace(segment, recordings=recordings))
            file = write_recording(folder / "recordings" / f"{name}.edf", clips, at)
            private.remember_file(store, name, file)
    return store


@dataclass
class Client:
    """Asks a server as a tool would."""

    explorer: Explorer

    def ask(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        token: str | None = TOKEN,
        **query: object,
    ) -> tuple[int, bytes]:
        """Status and body of an answer."""
        said = {k: v for k, v in query.items() if v is not None}
        url = f"http://127.0.0.1:{self.explorer.port}{path}"
        url += f"?{urlencode(said)}" if said else ""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
        request = urllib.request.Request(url, data.encode() if isinstance(data, str) else data)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str, **query: object) -> Any:
        """Content of an answer that succeeds."""
        status, body = self.ask(path, **query)  # type: ignore[arg-type]
        assert status in (200, 201), (status, body)
        return json.loads(body)

    def refused(self, path: str, **query: object) -> tuple[int, str]:
        """Status and sentence of an answer that does not."""
        status, body = self.ask(path, **query)  # type: ignore[arg-type]
        assert status >= 400, body[:200]
        return status, json.loads(body)["error"]

    def arrow(self, path: str, **query: object) -> pa.Table:
        """An answer's rows by Arrow."""
        status, body = self.ask(path, format="arrow", **query)  # type: ignore[arg-type]
        assert status == 200, body
        return pa.ipc.open_stream(body).read_all()
