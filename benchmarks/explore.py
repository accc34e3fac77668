"""Latency of the explore page: first paint, signal strips, neighbours, panning.

    python benchmarks/explore.py                          200,000 clips in 250 nights
    python benchmarks/explore.py --clips 12000000 --modalities bas --keep FOLDER
    python benchmarks/explore.py --clips 4000             a quick run
    python benchmarks/explore.py --server                 without the browser

The store has drawn vectors and is written and indexed as by a build; the recording of every night
is the same EDF file of 8 h and nine channels. The server is a process of its own. The browser is
headless Chromium with software rendering (SwiftShader), which shares the processor with the server;
with a graphics card, drawing the map takes no processor time. Clicks go to random clips, so nearly
always to another night.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import edfio
import numpy as np
import pyarrow as pa
from browser import chromium, find_chromium
from machine import machine
from memory import anonymous_mb
from store import WEIGHTS, night

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.explore.answers import Table, encode
from sleepfm_index.explore.endpoints import ENDPOINTS, Desk
from sleepfm_index.explore.parameters import read_all
from sleepfm_index.explore.session import Session
from sleepfm_index.explore.signals import Signals
from sleepfm_index.explore.uploads import UploadedFiles
from sleepfm_index.storage import private
from sleepfm_index.storage.writer import Writer

NIGHT = 800
SEGMENT = 16 * NIGHT  # the maximum number of recordings per segment of one source
RATES = {"ECG": 256, "CHEST": 32, "ABD": 32, "SaO2": 4}
CLICK = """async ([clip, places]) => {
    const start = performance.now();
    history.pushState(null, "", location.pathname + location.search + "#clip=" + clip);
    dispatchEvent(new PopStateEvent("popstate"));
    for (;;) {
        const waits = places.map(([selector, what]) => {
            const { dataset } = document.querySelector(selector);
            return dataset.clip === String(clip) ? Number(dataset[what]) - start : 0;
        });
        if (waits.every((wait) => wait > 0)) return waits;
        await new Promise((done) => setTimeout(done, 2));
    }
}"""
STRIPS, HITS, CARDS = (".lanes", "drawn"), (".columns", "hits"), (".columns", "drawn")
REST_S = 0.5
ARROW = "application/vnd.apache.arrow.stream"
CLICKED = """() => addEventListener(
    "click", () => { window.clicked = performance.now(); window.was = location.hash; },
    { capture: true })"""
STRIPS_AFTER_CLICK = """async () => {
    const { dataset } = document.querySelector(".lanes");
    while (Number(dataset.drawn) < window.clicked || location.hash === window.was)
        await new Promise((done) => setTimeout(done, 2));
    return Number(dataset.drawn) - window.clicked;
}"""
PAN = """async (seconds) => {
    const stage = document.querySelector(".stage canvas");
    const { left, top, width, height } = stage.getBoundingClientRect();
    const at = (type, x) => stage.dispatchEvent(new MouseEvent(type, {
        bubbles: true, clientX: left + x, clientY: top + height / 2, buttons: 1, view: window }));
    at("mousemove", width / 2);
    await new Promise(requestAnimationFrame);
    at("mousedown", width / 2);
    let frames = 0;
    const start = performance.now();
    while (performance.now() - start < 1000 * seconds) {
        at("mousemove", width / 2 + 60 * Math.sin(frames / 8));
        await new Promise(requestAnimationFrame);
        frames++;
    }
    at("mouseup", width / 2);
    return (1000 * frames) / (performance.now() - start);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--modalities", default="bas,ecg,resp")
    parser.add_argument("--keep", type=Path, help="keep the store in this folder, and use it again")
    parser.add_argument("--server", action="store_true", help="measure only the server")
    parser.add_argument(
        "--no-index", action="store_true", help="index nothing, and measure no neighbours"
    )
    args = parser.parse_args()
    if not args.server and not args.no_index:
        find_chromium()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        path = folder / "store"
        if not path.exists():
            folder.mkdir(exist_ok=True)
            written(folder, args.clips, args.modalities.split(","))
        with sleepfm_index.open(path) as store:
            args.clips, indexed = len(store), bool(store.manifest.indexes)
        if not indexed and not args.no_index:
            sleepfm_index.reindex(path)
        found: dict[str, Any] = {"clips": args.clips, "machine": machine()}
        found["server over HTTP"] = asked(path, args)
        if not args.no_index:
            found |= computed(path, args)
        print(json.dumps(found, indent=2), flush=True)
        if not args.server and not args.no_index:
            print(json.dumps(seen(path, args), indent=2))


def written(folder: Path, clips: int, modalities: list[str]) -> Path:
    """Write a store of drawn vectors in twenty clusters, and a recording for all its nights."""
    recording = folder / "night.edf"
    rng = np.random.default_rng(0)
    signals = []
    for slot in ROBUST.all_slots:
        rate, unit = RATES.get(slot, 128), "%" if slot == "SaO2" else "uV"
        x = rng.standard_normal(8 * 3600 * rate)
        x = 90 + np.clip(x, -5, 5) if unit == "%" else 30 * x
        signals.append(edfio.EdfSignal(x, rate, label=slot, physical_dimension=unit))
    edfio.Edf(signals).write(recording)
    slots = [(signal.label, f"alias: {signal.label}") for signal in signals]
    path = folder / "store"
    clouds = rng.standard_normal((20, 512), dtype=np.float32)
    noise = rng.standard_normal((SEGMENT, 512), dtype=np.float32)
    with Writer(path, WEIGHTS, ROBUST) as writer:
        for number, first in enumerate(range(0, clips, SEGMENT)):
            n = min(SEGMENT, clips - first)
            whole = night(number, n)  # its vectors are replaced
            names = pa.array([f"night-{(first + at) // NIGHT:06d}" for at in range(n)])
            table = whole.clips
            for name in ("recording_id", "subject_id"):
                table = table.set_column(table.schema.get_field_index(name), name, names)
            starts = pa.array(30.0 * (np.arange(first, first + n) % NIGHT))
            table = table.set_column(table.schema.get_field_index("start_s"), "start_s", starts)
            vectors = {}
            for m in ROBUST.modalities:
                name, there = f"has_{m}", pa.array(np.full(n, m in modalities))
                table = table.set_column(table.schema.get_field_index(name), name, there)
                if m in modalities:
                    x = clouds[rng.integers(0, 20, n)] + np.roll(noise, rng.integers(512), 1)[:n]
                    x /= np.linalg.norm(x, axis=1, keepdims=True)
                    vectors[m] = x.astype(np.float16)
            kind = whole.recordings.schema
            own = sorted(set(names.to_pylist()))
            rows = [
                {
                    **whole.recordings.to_pylist()[0],
                    "recording_id": name,
                    "subject_id": name,
                    "duration_s": 8 * 3600.0,
                    "slots": slots,
                }
                for name in own
            ]
            recordings = pa.Table.from_pylist(rows, schema=kind)
            writer.append(replace(whole, clips=table, recordings=recordings, vectors=vectors))
            for name in own:
                private.remember_file(path, name, recording)
    return path


@contextmanager
def serving(path: Path) -> Iterator[tuple[str, int]]:
    """Serve a store from another process; yields the address of the page and the process's id."""
    command = [sys.executable, "-u", "-m", "sleepfm_cli.main", "explore", "--port", "0"]
    with subprocess.Popen([*command, "--store", str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        try:
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGINT)


def client(url: str) -> Callable[..., bytes]:
    """Return a function that sends requests of one kind after another on one connection."""
    server, token = urlsplit(url).netloc, parse_qs(urlsplit(url).query)["token"][0]
    connection = http.client.HTTPConnection(server)

    def ask(where: str, media: str = "application/json", **parameters: object) -> bytes:
        headers = {"Authorization": f"Bearer {token}", "Accept": media}
        while True:
            try:
                connection.request("GET", f"{where}?{urlencode(parameters)}", headers=headers)
                answer = connection.getresponse()
                break
            except ConnectionRefusedError:  # the server is still starting
                connection.close()
                time.sleep(0.01)
        content = answer.read()
        if answer.status != 200:
            sys.exit(f"{where}: {content[:200]!r}")
        return content

    return ask


def asked(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure wall-clock latency over HTTP, and the memory of the server."""
    rng = np.random.default_rng(2)
    with serving(path) as (url, pid):
        ask = client(url)
        waits: dict[str, list[float]] = {"strips": [], "neighbours": [], "night": []}

        def timed(*question: str, **parameters: object) -> float:
            start = time.perf_counter()
            ask(*question, **parameters)
            return 1000 * (time.perf_counter() - start)

        start = time.perf_counter()
        note = pa.ipc.open_stream(ask("/map", ARROW, modality="bas")).schema.metadata[b"note"]
        first = time.perf_counter() - start
        again = timed("/map", ARROW, modality="bas")
        stages = timed("/map/values", ARROW, modality="bas", by="stage")
        for clip in rng.integers(0, args.clips, args.clicks):
            window = {"before": 15, "seconds": 60, "width": 1200}
            waits["strips"].append(timed("/strips", ARROW, clips=clip, **window))
            for to in () if args.no_index else args.modalities.split(","):
                waits["neighbours"].append(timed("/query", modality="bas", to=to, clip=clip, k=5))
            waits["night"].append(timed(f"/nights/night-{clip // NIGHT:06d}"))
        memory = anonymous_mb(pid)
    return {
        "map": note.decode(),
        "first answer of the map, s after the address": round(first, 2),
        "map again, ms": round(again),
        "stages of the map, ms": round(stages),
        **{f"{name}, ms": spread(times) for name, times in waits.items() if times},
        "anonymous memory of the server, MB": round(memory),
    }


def computed(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the CPU time of answers, which other work on the machine hardly affects."""
    endpoints = {e.path: e for e in ENDPOINTS if e.method == "GET"}
    rng = np.random.default_rng(2)
    with Session(path) as session:
        desk = Desk(session, Signals(), UploadedFiles())
        notes: dict[str, str] = {}

        def ask(where: str, **parameters: str) -> float:
            start = time.process_time()
            endpoint = endpoints[where]
            answer = endpoint.answer(desk, read_all(endpoint.parameters, parameters))
            notes[where] = getattr(answer, "note", "")
            if isinstance(answer, Table):
                encode(answer, "arrow")
            return 1000 * (time.process_time() - start)

        first = ask("/map"), ask("/map/values", by="stage")
        again = ask("/map"), ask("/map/values", by="subject_id")
        strips, near = [], []
        for clip in rng.integers(0, args.clips, args.clicks):
            window = {"before": "15", "seconds": "60", "width": "1200"}
            strips.append(ask("/strips", clips=str(clip), **window))
            for to in args.modalities.split(","):
                near.append(ask("/query", modality="bas", to=to, clip=str(clip), k="5"))
    return {
        "neighbours": notes["/query"],
        "processor time of the server, ms": {
            "map and stages, first": [round(t) for t in first],
            "map and subjects, again": [round(t) for t in again],
            "strips of nine channels": spread(strips),
            "neighbours in one target": spread(near),
        },
    }


def seen(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure wall-clock latency in the browser; needs an idle machine."""
    rng = np.random.default_rng(1)
    with serving(path) as (url, pid), chromium() as context:
        page = context.pages[0]
        page.set_viewport_size({"width": 1280, "height": 900})
        client(url)("/icon.svg")  # the server answers
        firsts = []
        for clip in (17, 1017, 2017):
            page.goto("about:blank")
            start = time.perf_counter()
            page.goto(f"{url}#clip={clip}")
            page.wait_for_selector(".stage[data-drawn]")
            firsts.append(time.perf_counter() - start)
        note = page.locator(".map > .note").inner_text()

        def clicks(places: list[tuple[str, str]], rest_s: float) -> list[list[float]]:
            waits = []
            for clip in rng.integers(0, args.clips, args.clicks):
                time.sleep(rest_s)
                waits.append(page.evaluate(CLICK, [int(clip), places]))
            return waits

        strips, hits, _ = zip(*clicks([STRIPS, HITS, CARDS], REST_S), strict=True)
        (busy_strips,) = zip(*clicks([STRIPS], 0), strict=True)
        (busy_hits,) = zip(*clicks([HITS], 0), strict=True)
        on_map = clicks_on_map(page, rng, args.clicks)
        whole = float(page.locator(".stage canvas").get_attribute("data-took"))
        frames = page.evaluate(PAN, 4)
        memory = anonymous_mb(pid)
    return {
        "map": note,
        "first paint with the map, s (server started, then warm)": [round(t, 2) for t in firsts],
        "click to strips, ms": spread(strips),
        "click to neighbours of all columns, ms": spread(hits),
        "click on a point of the map to strips, ms": spread(on_map),
        "click to strips, the next click at once, ms": spread(busy_strips),
        "click to neighbours, the next click at once, ms": spread(busy_hits),
        "drawing the whole map once, ms": whole,
        "frames per second while the map is panned": round(frames, 1),
        "anonymous memory of the server, MB": round(memory),
    }


def clicks_on_map(page: Any, rng: np.random.Generator, clicks: int) -> list[float]:
    """Move the mouse to points of the map and click them, as a person does."""
    box = page.locator(".stage").bounding_box()
    page.evaluate(CLICKED)
    waits: list[float] = []
    while len(waits) < clicks:
        x, y = rng.uniform(0.2, 0.8, 2)
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        time.sleep(REST_S)
        if page.locator(".stage .under").is_visible():
            page.mouse.down()
            page.mouse.up()
            waits.append(page.evaluate(STRIPS_AFTER_CLICK))
    page.mouse.move(0, 0)
    return waits


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    cut = statistics.quantiles(milliseconds, n=10)
    return {"p50": round(statistics.median(milliseconds), 1), "p90": round(cut[8], 1)}


if __name__ == "__main__":
    main()
