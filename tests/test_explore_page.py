"""The page in a browser: Chromium, headless, which can reach nothing but the server."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from explored import TOKEN, Client, explored_store

import sleepfm_index
from sleepfm.encoders.load import find_weights
from sleepfm_index.explore.server import Explorer
from sleepfm_index.storage.labels import read_labels
from sleepfm_index.storage.manifest_entries import WeightsIdentity

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
image = pytest.importorskip("PIL.Image", reason="pillow is not installed")

CHROMIUM = next((p for n in ("chromium", "chromium-browser") if (p := shutil.which(n))), None)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# regl, which draws the map, compiles functions as it runs (unsafe-eval): keep their sources.
KEEP_CODE = """
    window.compiled = [];
    window.Function = new Proxy(window.Function, {
        apply: (own, at, parts) => (compiled.push(parts.join(", ")), Reflect.apply(own, at, parts)),
    });
"""

Open = Callable[..., "playwright.Page"]


@pytest.fixture(scope="module")
def context() -> Iterator[playwright.BrowserContext]:
    with tempfile.TemporaryDirectory() as profile, playwright.sync_playwright() as started:
        made = started.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=list(FLAGS), headless=True
        )
        made.add_init_script(KEEP_CODE)
        made.set_default_timeout(60_000)  # a loaded machine
        yield made
        made.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explored_store(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def explorer(store: Path) -> Iterator[Explorer]:
    with Explorer(store, port=0, token=TOKEN, annotate=True) as served:
        yield served


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def open_page(
    context: playwright.BrowserContext, explorer: Explorer, asked: list[str]
) -> Iterator[Open]:
    pages: list[playwright.Page] = []
    errors: list[str] = []

    def go(
        view: str = "clip=50",
        *,
        at: Explorer | None = None,
        width: int = 1280,
        whole: bool = True,
        script: str = "",
    ) -> playwright.Page:
        page = context.new_page()
        if script:
            page.add_init_script(script)
        page.set_viewport_size({"width": width, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        pages.append(page)
        page.goto((at or explorer).url.partition("#")[0] + f"#{view}")
        if whole:
            page.wait_for_selector(".stage[data-drawn]")
            page.wait_for_selector(".columns .card")
        return page

    yield go
    for page in pages:
        page.close()
    assert not errors


def strips_of(page: playwright.Page, clip: int) -> None:
    page.wait_for_selector(f'.lanes[data-clip="{clip}"][data-drawn]')
    assert page.locator(".lane").count() == 6


def colours(page: playwright.Page, selector: str) -> int:
    """How many distinct colours are seen in a part of the page."""
    shot = image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")
    return len(np.unique(np.asarray(shot).reshape(-1, 3), axis=0))


def clip_of(page: playwright.Page) -> int:
    found = re.search(r"clip=(\d+)", page.url)
    assert found
    return int(found[1])


def test_it_opens_draws_and_asks_nobody_else(
    open_page: Open, explorer: Explorer, asked: list[str]
) -> None:
    page = open_page()
    assert "store" in page.title()
    assert page.locator(".counts").inner_text() == "120 clips · 3 nights · 3 subjects"
    strips_of(page, 50)
    # five stages, and all shades at the edges of points; a blank canvas has one
    assert colours(page, ".stage canvas") > 20
    for lane in page.locator(".lane canvas").all()[:2]:
        shot = image.open(io.BytesIO(lane.screenshot())).convert("L")
        assert (np.asarray(shot) < 120).sum() > 300
    code = page.evaluate("compiled")
    assert any("drawArrays" in source for source in code)
    assert not any(re.search("night|subject|stage|N2", source) for source in code)
    own = f"http://127.0.0.1:{explorer.port}/"
    assert asked and all(url.startswith((own, "data:", "blob:")) for url in asked)
    assert page.context.cookies() == []


def test_a_point_leads_to_strips_to_a_neighbour_and_back(open_page: Open) -> None:
    page = open_page()
    strips_of(page, 50)
    page.wait_for_selector(".nears i")
    box = page.locator(".stage").bounding_box()
    assert box
    spots = page.eval_on_selector_all(".nears i", "all => all.map(x => x.style.transform)")
    x, y = map(float, re.findall(r"[\d.]+(?=px)", spots[0]))
    page.mouse.move(box["x"] + x - 3, box["y"] + y)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.wait_for_function("!location.hash.includes('clip=50')")
    first = clip_of(page)
    strips_of(page, first)
    card = page.locator('.column[data-to="ecg"] .card').first
    page.wait_for_function(f"document.querySelector('.clip .where').innerText.includes({first})")
    page.wait_for_selector(".columns:not(.loading)")
    second = int(card.get_attribute("data-clip") or -1)
    card.locator(".go").click()
    page.wait_for_function(f"location.hash.includes('clip={second}')")
    strips_of(page, second)
    page.go_back()
    strips_of(page, first)
    page.go_back()
    strips_of(page, 50)


def test_a_filter_narrows_map_and_neighbours_and_a_wrong_one_says_why(
    open_page: Open, store: Path
) -> None:
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type("stag")
    page.keyboard.press("Tab")
    page.keyboard.type(" = 'N2'")
    page.keyboard.press("Enter")
    with sleepfm_index.open(store) as opened:
        fits = len(opened.metadata.clip_ids("stage = 'N2' AND has_bas"))
    page.wait_for_selector(f'.stage[data-drawn="{fits}"]')
    assert f"{fits} clips" in page.locator(".filter .note").inner_text()
    page.wait_for_function(
        "[...document.querySelectorAll('.card .chip')].every(c => c.innerText === 'N2')"
    )
    field = page.locator("#filter")
    field.fill("stagge = 1")
    field.press("Enter")
    page.wait_for_selector("#filter[aria-invalid=true]")
    assert "stagge" in page.locator(".filter .note").inner_text()
    page.locator("[aria-label='Clear the filter']").click()
    page.wait_for_selector('.stage[data-drawn="120"]')


def test_a_lasso_counts_shows_and_labels_what_it_holds(open_page: Open, store: Path) -> None:
    page = open_page()
    page.locator("[aria-label=Lasso]").click()
    box = page.locator(".stage").bounding_box()
    assert box
    corners = [(0.02, 0.02), (0.5, 0.02), (0.5, 0.98), (0.02, 0.98), (0.02, 0.03)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
        page.wait_for_timeout(30)
    page.mouse.up()
    page.wait_for_selector(".panel .big")
    said = int(page.locator(".panel .big").inner_text().split()[0])
    assert 20 < said < 100
    page.wait_for_selector(".panel tbody tr")
    assert page.locator(".panel tbody tr").count() == said
    assert page.locator(".bin").count() == 5
    with page.expect_download() as download:
        page.locator(".panel button", has_text="CSV").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == said + 1
    page.get_by_label("Own column").fill("cluster")
    page.locator(".label-form").get_by_label("Label", exact=True).fill("left")
    page.locator(".label-form").get_by_label("Who labels").fill("ak")
    page.locator(".label-form button").click()
    page.wait_for_selector("#toast:not([hidden])")
    assert len(read_labels(store, "cluster")) == said
    page.get_by_label("Colour by").select_option("label:cluster")
    page.wait_for_selector(".key >> text=left")


def test_examples_and_a_stretch_change_the_neighbours(open_page: Open, explorer: Explorer) -> None:
    page = open_page()
    column = page.locator('.column[data-to="bas"] .card')
    liked = int(column.nth(0).get_attribute("data-clip") or -1)
    column.nth(0).locator("[aria-label^=More]").click()
    page.wait_for_selector(f".example >> text={liked}")
    page.wait_for_function(
        f"!document.querySelector('.column[data-to=bas] .card[data-clip=\"{liked}\"]')"
    )
    client = Client(explorer)
    rows = client.json("/query", modality="bas", to="bas", clip=50, like=liked, k=5)["rows"]
    shown = [int(card.get_attribute("data-clip") or -1) for card in column.all()]
    assert shown == [row["clip_id"] for row in rows]
    page.locator(".examples >> text=Clear").click()
    page.evaluate("scrollTo(0, 0)")
    lane = page.locator(".lane .u-over").first.bounding_box()
    assert lane
    page.mouse.move(lane["x"] + 20, lane["y"] + 10)
    page.mouse.down()
    page.mouse.move(lane["x"] + 200, lane["y"] + 10, steps=6)
    page.mouse.up()
    page.wait_for_selector(".stretch:not([hidden])")
    assert "since=" in page.url and "until=" in page.url


def test_labels_by_keys_go_beside_the_scorers_and_on_to_the_next_clip(
    open_page: Open, store: Path
) -> None:
    page = open_page("clip=60")
    page.locator("#labels .who").fill("ak")
    page.locator("#labels .who").press("Tab")
    page.locator(".lanes").focus()
    page.keyboard.press("3")
    strips_of(page, 61)
    page.keyboard.press("a")
    page.wait_for_selector("#labels .choice[aria-pressed=true] >> text=apnea")
    with sleepfm_index.open(store) as opened:
        scored = opened.sql("SELECT stage FROM clips WHERE clip_id = 61").to_pylist()[0]["stage"]
    page.keyboard.press("c")
    strips_of(page, 62)
    stages, events = (read_labels(store, f"{what}_checked") for what in ("stage", "event"))
    assert (stages[60].value, stages[60].by, stages[61].value) == ("N3", "ak", scored)
    assert events[61].value == "apnea"


def test_the_keyboard_alone_reaches_everything(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("ArrowRight")
    strips_of(page, 51)
    page.keyboard.press("Shift+ArrowLeft")
    strips_of(page, 41)
    page.keyboard.press("-")
    page.wait_for_function("location.hash.includes('span=60')")
    page.wait_for_selector('.columns[data-clip="41"]:not(.loading) .card')
    page.keyboard.press("j")
    near = page.evaluate("document.activeElement.closest('.card').dataset.clip")
    page.keyboard.press("Enter")
    strips_of(page, int(near))
    page.keyboard.press("g")
    page.keyboard.press("ArrowUp")
    page.wait_for_function(f"!location.hash.includes('clip={near}&')")
    page.keyboard.press("s")
    page.wait_for_selector(".panel textarea")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".panel tbody tr")
    page.locator(".panel header button.icon").focus()
    page.keyboard.press("Escape")
    page.wait_for_selector(".panel", state="hidden")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    unnamed = page.eval_on_selector_all(
        "button, input, select, textarea, summary",
        "all => all.filter(x => !x.textContent.trim() && !x.getAttribute('aria-label') "
        "&& !x.closest('label')).map(x => x.outerHTML)",
    )
    assert unnamed == []


def test_without_webgl_the_map_says_so_and_the_rest_works(open_page: Open) -> None:
    refusing = """
        const own = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            return kind.includes("webgl") ? null : own.call(this, kind, ...rest);
        };
    """
    page = open_page(whole=False, script=refusing)
    page.wait_for_selector("text=The map needs WebGL, which this browser does not offer")
    page.wait_for_selector(".columns .card")
    strips_of(page, 50)
    page.keyboard.press("ArrowRight")
    strips_of(page, 51)


def test_a_step_before_the_night_is_there_is_taken_when_it_is(
    open_page: Open, context: playwright.BrowserContext
) -> None:
    def late(route: playwright.Route) -> None:
        time.sleep(1)
        route.continue_()

    context.route("**/nights/*", late)
    page = open_page(whole=False)
    strips_of(page, 50)
    page.keyboard.press("ArrowRight")
    strips_of(page, 51)


SLOW_GRAPHICS = """
    const own = CanvasRenderingContext2D.prototype.drawImage;
    globalThis.pictures = { drawn: 0, moved: 0 };
    CanvasRenderingContext2D.prototype.drawImage = function (...given) {
        const drawn = given.length === 9;  // the copy of a picture that was drawn
        if (drawn) for (const end = performance.now() + 40; performance.now() < end; );
        pictures[drawn ? "drawn" : "moved"]++;
        return own.apply(this, given);
    };
"""
MOVE = """async (zoom) => {
    const stage = document.querySelector(".stage canvas");
    const { left, top, width, height } = stage.getBoundingClientRect();
    const at = (type, x, deltaY = 0) => {
        const place = { clientX: left + x, clientY: top + height / 2 };
        const common = { ...place, bubbles: true, buttons: 1, view: window };
        const kind = type === "wheel" ? WheelEvent : MouseEvent;
        stage.dispatchEvent(new kind(type, { ...common, deltaY }));
    };
    const before = stage.toDataURL();
    const drawn = pictures.drawn;
    pictures.moved = 0;
    at("mousemove", width / 2);
    await new Promise(requestAnimationFrame);
    if (!zoom) at("mousedown", width / 2);
    for (let step = 1; step <= 8; step++) {
        if (zoom) at("wheel", 0.4 * width, 4);
        else at("mousemove", width / 2 - 5 * step);
        await new Promise(requestAnimationFrame);
    }
    if (!zoom) at("mousemove", width / 2 - 40);
    await new Promise(requestAnimationFrame);
    const during = stage.toDataURL();
    const moved = pictures.moved;
    if (!zoom) at("mouseup", width / 2 - 40);
    await new Promise((done) => setTimeout(done, 500));
    return { moved, drawn: pictures.drawn - drawn, pictures: [before, during, stage.toDataURL()] };
}"""


def lie(picture: str) -> tuple[float, float]:
    """Where the points of a picture of the map lie along x: their mean and spread, in pixels."""
    content = base64.b64decode(picture.partition(",")[2])
    seen = np.asarray(image.open(io.BytesIO(content)).convert("RGBA"))[:, :, 3] > 100
    columns = np.nonzero(seen)[1]
    return float(columns.mean()), float(columns.std())


@pytest.mark.parametrize("zoom", [False, True], ids=["pan", "zoom"])
def test_where_drawing_takes_long_the_map_is_moved_and_drawn_at_rest(
    open_page: Open, zoom: bool
) -> None:
    page = open_page(script=SLOW_GRAPHICS)
    strips_of(page, 50)
    found = page.evaluate(MOVE, zoom)
    before, during, after = map(lie, found["pictures"])
    assert found["moved"] >= 3 and 1 <= found["drawn"] <= 3
    assert abs(after[zoom] - before[zoom]) > 5  # the mean of a pan, the spread of a zoom
    assert during == pytest.approx(after, abs=1.5)


def test_signals_and_neighbours_do_not_wait_for_the_columns_of_the_clip(
    open_page: Open, asked: list[str]
) -> None:
    page = open_page()
    strips_of(page, 50)
    held: list[playwright.Route] = []
    page.route("**/clips/100", lambda route: held.append(route))
    asked.clear()
    page.evaluate("location.hash = 'clip=100'")
    page.wait_for_selector('.columns[data-clip="100"]')  # its neighbours are drawn
    assert [url for url in asked if "/strips?clips=100&" in url]
    assert "clip 50" in page.locator(".clip .where").inner_text()
    held[0].continue_()
    strips_of(page, 100)
    assert len([url for url in asked if "/strips?clips=100&" in url]) == 1


def test_a_point_under_the_mouse_or_clicked_does_not_draw_the_map_again(open_page: Open) -> None:
    page = open_page(script=SLOW_GRAPHICS)
    strips_of(page, 50)
    spot = page.locator(".nears i").first
    spot.wait_for()
    box = spot.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = page.evaluate("pictures.drawn")
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    page.wait_for_selector(".stage .under")
    for _ in range(2):  # a point can be clicked again after another clip was on screen
        page.mouse.click(x, y)
        page.wait_for_function("!location.hash.includes('clip=50')")
        strips_of(page, clip_of(page))
        page.go_back()
        strips_of(page, 50)
    assert page.evaluate("pictures.drawn") == before
    page.locator(".legend .key").first.click()
    page.wait_for_function(f"pictures.drawn > {before}")


def brightness(page: playwright.Page) -> float:
    shot = image.open(io.BytesIO(page.screenshot())).convert("L")
    return float(np.median(np.asarray(shot)))


def test_dark_or_light_as_the_system_or_as_said(open_page: Open) -> None:
    page = open_page()
    strips_of(page, 50)
    page.emulate_media(color_scheme="light")
    light = brightness(page)
    page.emulate_media(color_scheme="dark")
    strips_of(page, 50)
    assert brightness(page) < 60 < 200 < light
    assert colours(page, ".stage canvas") > 20
    page.keyboard.press("d")
    page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    assert brightness(page) > 200
    page.reload()
    page.wait_for_selector(".columns .card")
    assert brightness(page) > 200
    page.evaluate("localStorage.removeItem('sleepfm-theme')")


@pytest.mark.parametrize("width", [390, 800])
def test_nothing_sticks_out_of_a_narrow_page(open_page: Open, width: int) -> None:
    page = open_page(width=width)
    strips_of(page, 50)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert colours(page, ".stage canvas") > 20
    page.keyboard.press("s")
    page.locator(".panel textarea").fill("SELECT * FROM clips")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".panel tbody tr")
    sides = "[...document.querySelectorAll('.panel .body, .panel .body > div')]"
    assert page.evaluate(f"{sides}.every(x => x.scrollWidth <= x.clientWidth)")


def test_the_address_is_the_whole_view(open_page: Open) -> None:
    view = "clip=33&on=ecg&by=subject_id&ask=resp&k=3&where=start_s+%3E+60&span=120&like=7"
    page = open_page(view)

    def seen() -> list[object]:
        page.wait_for_selector(".stage[data-drawn]")
        page.wait_for_selector('.columns:not(.loading) [data-to="resp"] li:nth-child(3)')
        strips_of(page, 33)
        return [
            page.get_by_label("Colour by").input_value(),
            page.locator("#filter").input_value(),
            page.locator(".key").all_inner_texts(),
            page.eval_on_selector_all(".card", "all => all.map(x => x.dataset.clip)"),
            page.locator(".example").count(),
        ]

    before = seen()
    page.reload()
    assert seen() == before
    assert before[0] == "subject_id" and before[4] == 1


def test_a_wrong_token_is_asked_for_again_and_the_view_is_kept(
    open_page: Open, explorer: Explorer, context: playwright.BrowserContext
) -> None:
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{explorer.port}/?token=wrong#clip=50")
    page.wait_for_selector("h1 >> text=token")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Token").press("Enter")
    strips_of(page, 50)
    page.close()


def test_a_page_of_another_origin_learns_nothing(
    context: playwright.BrowserContext, explorer: Explorer, store: Path
) -> None:
    # The same machine, another port: another origin to the browser.
    with Explorer(store, port=0, token=TOKEN) as other:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{other.port}/icon.svg")
        target = f"http://127.0.0.1:{explorer.port}/store?token={TOKEN}"
        ask = f"fetch({json.dumps(target)}).then(a => a.text(), e => 'refused: ' + e)"
        assert page.evaluate(ask).startswith("refused")
        page.close()


def test_a_notebook_may_frame_the_page_and_others_may_not(
    context: playwright.BrowserContext, explorer: Explorer, store: Path
) -> None:
    class Notebook(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(frame.encode())

        def log_message(self, *_: object) -> None:
            pass

    with (
        sleepfm_index.open(store) as opened,
        opened.explore(view="clip=50") as framed,
        ThreadingHTTPServer(("127.0.0.1", 0), Notebook) as notebook,
    ):
        threading.Thread(target=notebook.serve_forever, daemon=True).start()
        page = context.new_page()
        page.set_viewport_size({"width": 1280, "height": 900})
        frame = framed._repr_html_()
        page.goto(f"http://127.0.0.1:{notebook.server_port}/")
        page.frame_locator("iframe").locator('.lanes[data-clip="50"]').wait_for()
        frame = explorer._repr_html_()
        page.reload()
        page.wait_for_timeout(500)
        assert page.frame_locator("iframe").locator("#app").count() == 0
        page.close()
        notebook.shutdown()


def test_a_store_without_recordings_says_so_and_shows_the_rest(
    open_page: Open, tmp_path: Path
) -> None:
    path = explored_store(tmp_path, nights=2, clips=12)
    shutil.rmtree(tmp_path / "recordings")
    with Explorer(path, port=0, token=TOKEN) as served:
        page = open_page("clip=5", at=served)
        page.wait_for_selector(".lanes >> text=not on this machine")
        page.wait_for_selector(".counts >> text=recordings away")
        page.locator(".column[data-to=ecg] .go").first.click()
        page.wait_for_function("!location.hash.includes('clip=5&') && location.hash !== '#clip=5'")


def test_a_store_that_is_compacted_meanwhile_goes_on_and_says_so(
    open_page: Open, tmp_path: Path
) -> None:
    path = explored_store(tmp_path, nights=3, clips=12)
    with Explorer(path, port=0, token=TOKEN) as served:
        page = open_page("clip=14", at=served)
        sleepfm_index.delete(path, recording="night-0")
        sleepfm_index.compact(path, keep_snapshots=0)
        page.keyboard.press("ArrowRight")
        strips_of(page, 15)
        page.locator("#toast button").click()
        page.wait_for_selector('.stage[data-drawn="24"]')
        page.wait_for_selector(".counts >> text=24 clips · 2 nights")
        sleepfm_index.delete(path, recording="night-1")
        page.keyboard.press("ArrowRight")
        page.locator("#toast button").click()
        page.wait_for_selector(".lanes >> text=no clip 16 in this store")
        page.locator(".lanes button", has_text="Show another clip").click()
        strips_of(page, 24)
        sleepfm_index.delete(path, where="true")
        page.keyboard.press("ArrowRight")
        page.locator("#toast button").click()
        page.wait_for_selector("h1 >> text=This store holds no clips yet")


def test_what_is_missing_is_said_where_it_is_missed(open_page: Open, tmp_path: Path) -> None:
    path = explored_store(tmp_path, nights=2, clips=12)
    cut, broken = (tmp_path / "recordings" / f"night-{at}.edf" for at in (0, 1))
    cut.write_bytes(cut.read_bytes()[:40_000])
    broken.write_bytes(b"no recording")
    with Explorer(path, port=0, token=TOKEN) as served:
        page = open_page("clip=11&by=nonsense&span=-5&k=900", at=served)
        page.wait_for_selector(".lanes >> text=The file ends before this clip")
        assert page.get_by_label("Colour by").input_value() == "stage"
        assert "no column 'nonsense'" in page.locator("#toast").inner_text()
        page.locator('.column[data-to="bas"] .go').first.click()
        page.wait_for_selector(".lanes >> text=night-1.edf is not an EDF")
        field = page.locator("#filter")
        field.fill("stage = 'REM'")
        field.press("Enter")
        page.wait_for_selector(".columns >> text=no clip meets the condition; stage holds")
        assert "no clip meets the condition" in page.locator(".stage").inner_text()


def test_a_file_of_ones_own_takes_the_place_of_the_clip(open_page: Open, tmp_path: Path) -> None:
    weights = find_weights("untrained")
    identity = WeightsIdentity(weights.name, weights.sha256, weights.trained)
    path = explored_store(tmp_path, nights=2, clips=12, weights=identity)
    with Explorer(path, port=0, token=TOKEN, annotate=True) as served:
        page = open_page("clip=5", at=served)
        strips_of(page, 5)
        # tests/test_explore.py encodes and searches
        page.route(re.compile("/query"), lambda route: route.abort())
        (tmp_path / "mine.edf").write_bytes(b"no recording")
        chosen = page.locator("input[type=file]")
        chosen.set_input_files(tmp_path / "mine.edf")
        page.wait_for_selector("#toast >> text=mine.edf is not an EDF")
        for _ in range(2):  # the second takes the place of the first
            chosen.set_input_files(tmp_path / "recordings" / "night-1.edf")
            page.wait_for_selector("#toast >> text=night-1.edf: 12 clips")
        assert page.locator(".file-slider").count() == 1
        assert page.locator("#labels").is_hidden()
        page.wait_for_selector(".where >> text=your file, at +00:03:00")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(".where >> text=your file, at +00:03:30")
        page.get_by_text("Back to the store").click()
        strips_of(page, 5)
        assert page.locator(".file-slider").count() == 0
