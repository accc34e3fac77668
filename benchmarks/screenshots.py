"""Take the screenshots of README and docs/explore.md, from the store of `make demo`.

python benchmarks/screenshots.py                              sleepfm-demo/store
python benchmarks/screenshots.py --store other/store --clip 17 --out pictures
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from pathlib import Path
from typing import Any

from browser import chromium
from PIL import Image

from sleepfm_index.explore.server import Explorer

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
NAMES = ("explore", "explore-dark", "explore-phone", "explore-lasso")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path, default=Path("sleepfm-demo/store"))
    parser.add_argument("--clip", type=int, default=420)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="default: all")
    args = parser.parse_args()
    if not args.store.exists():
        sys.exit(f"there is no store at {args.store}; make one: make demo")
    args.out.mkdir(exist_ok=True)
    clip = f"clip={args.clip}"
    with Explorer(args.store, port=0) as explorer, chromium() as context:

        def opened(view: str, width: int, scheme: str) -> Any:
            page = context.new_page()
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(explorer.url + f"#{view}")
            page.wait_for_selector(".stage[data-drawn]")
            page.wait_for_selector(".columns[data-drawn]")
            page.wait_for_timeout(600)
            return page

        for name in args.only:
            if name == "explore-dark":
                page = opened(f"{clip}&by=subject_id&ask=ecg&span=120&on=ecg", 1280, "dark")
            else:
                page = opened(clip, 390 if name == "explore-phone" else 1280, "light")
            if name == "explore-phone":
                page.set_viewport_size({"width": 390, "height": 1500})
                page.wait_for_timeout(600)
            elif name == "explore-lasso":
                lasso(page)
                page.wait_for_timeout(600)
            keep(page, args.out / f"{name}.png", whole=name in ("explore", "explore-dark"))
            page.close()


def lasso(page: Any) -> None:
    """Select the right half of the map."""
    page.click("[aria-label=Lasso]")
    box = page.locator(".stage").bounding_box()
    middle = box["x"] + 0.72 * box["width"], box["y"] + 0.5 * box["height"]
    radius = 0.26 * min(box["width"], box["height"])
    page.mouse.move(middle[0] + radius, middle[1])
    page.mouse.down()
    for at in range(1, 33):
        turn = 2 * math.pi * at / 32
        page.mouse.move(middle[0] + radius * math.cos(turn), middle[1] + radius * math.sin(turn))
        page.wait_for_timeout(12)
    page.mouse.up()
    page.wait_for_selector(".panel tbody tr")


def keep(page: Any, file: Path, *, whole: bool = True) -> None:
    """Write a picture with at most 128 colours, a third of the size."""
    shot = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    shot.quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
