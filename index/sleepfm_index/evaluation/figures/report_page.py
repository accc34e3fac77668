"""One self-contained HTML page: headings with contents, tables, figures with captions."""

from __future__ import annotations

import base64
import html
import io
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sleepfm.escaping import escaped
from sleepfm.progress import Notice
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.figures.style import DPI, FONTS, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
div.scroll { overflow-x: auto } figure { margin: .5rem 0 } figcaption { color: #444 }
img { max-width: 100%; min-width: min(100%, 40rem) }
code { background: #f3f3f3; padding: .1rem .3rem; overflow-wrap: anywhere }
p.warning { background: #fff3cd; padding: .5rem 1rem } p.note { color: #444 }
nav ol { columns: 18rem; padding-left: 1.4rem }
@media (max-width: 45rem) {
  body { margin: .5rem auto } td, th { padding: .1rem .3rem } img { min-width: 36rem }
}
@media print {
  @page { size: A4 landscape; margin: 12mm }
  body { font-size: 10pt; margin: 0; max-width: none; padding: 0 }
  table { font-size: 7.5pt } td, th { padding: .1rem .25rem }
  div.scroll { overflow: visible } img { min-width: 0; max-height: 17cm }
  thead { display: table-header-group } tr, figure { break-inside: avoid }
  h2 { break-after: avoid } nav { display: none }
}
"""


LARGEST_SVG: Final = 500_000
"""Bytes of the largest figure that is embedded as SVG; a larger one is embedded as PNG."""


@dataclass
class Page:
    """Contents of a report page.

    Parameters
    ----------
    parts : list of str
        HTML of the parts.
    headings : list of (str, str)
        Anchor and text of each section.
    notice : callable, optional
        Called with the heading of each section when it begins.
    dpi : int
        Resolution of figures that are embedded as PNG, in dots per inch.
    """

    parts: list[str] = field(default_factory=list)
    headings: list[tuple[str, str]] = field(default_factory=list)
    notice: Notice | None = None
    dpi: int = DPI

    def heading(self, text: str) -> None:
        """Begin a section.

        Parameters
        ----------
        text : str
            Heading of the section.
        """
        anchor = re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
        self.headings.append((anchor, text))
        if self.notice is not None:
            self.notice(text)
        self.parts.append(f'<h2 id="{anchor}">{_as_html(text)}</h2>')

    def text(self, text: str, kind: str = "note") -> None:
        """Add a paragraph.

        Parameters
        ----------
        text : str
            Plain text.
        kind : {"note", "warning"}
            CSS class of the paragraph.
        """
        self.parts.append(f'<p class="{kind}">{_as_html(text)}</p>')

    def command(self, *words: str) -> None:
        """Add the command that reproduces the next part.

        Parameters
        ----------
        *words : str
            Arguments of ``sleepfm-index``.
        """
        self.code(shlex.join(["sleepfm-index", *words]))

    def code(self, line: str) -> None:
        """Add a line of code.

        Parameters
        ----------
        line : str
            Code to show.
        """
        self.parts.append(f"<p><code>{_as_html(line)}</code></p>")

    def table(self, rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
        """Add a table.

        Parameters
        ----------
        rows : sequence of dict
            Rows; a measure is shown with its ``_low`` and ``_high``.
        columns : dict of str to str
            Heading by column.
        """
        head = "".join(f"<th>{_as_html(title)}</th>" for title in columns.values())
        body = "".join(
            "<tr>" + "".join(f"<td>{_as_html(_cell(row, name))}</td>" for name in columns)
            + "</tr>"
            for row in rows
        )  # fmt: skip
        self.parts.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
            "</table></div>"
        )

    def figure(self, ax: Axes, caption: str) -> None:
        """Add a figure, as SVG with text, or as PNG if the SVG is larger than ``LARGEST_SVG``.

        Parameters
        ----------
        ax : matplotlib.axes.Axes
            Any axes of the figure.
        caption : str
            Caption, also the alternative text.
        """
        figure: Any = ax.get_figure(root=True)
        plain_text(figure)
        kind, content = "svg+xml", _saved(figure, "svg")
        if len(content) > LARGEST_SVG:
            kind, content = "png", _saved(figure, "png", self.dpi)
        encoded = base64.b64encode(content).decode()
        caption_html = _as_html(caption)
        self.parts.append(
            f'<figure><div class="scroll"><img alt="{caption_html}" '
            f'src="data:image/{kind};base64,{encoded}">'
            f"</div><figcaption>{caption_html}</figcaption></figure>"
        )

    def attempt(self, make: Callable[[], None]) -> None:
        """Add a part to the page, or the reason why the store cannot provide it.

        Parameters
        ----------
        make : callable
            Function that adds the part.
        """
        try:
            make()
        except QueryError as error:
            self.text(f"Not available: {error}.")

    def html(self, title: str, head: Page) -> str:
        """Return the HTML of the page.

        Parameters
        ----------
        title : str
            Title of the page.
        head : Page
            Parts above the table of contents.
        """
        items = "".join(f'<li><a href="#{a}">{_as_html(t)}</a></li>' for a, t in self.headings)
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{_as_html(title)}</title><style>{_STYLE}</style>"
            f"<h1>{_as_html(title)}</h1>{''.join(head.parts)}"
            f"<nav><h2>Contents</h2><ol>{items}</ol></nav>{''.join(self.parts)}</html>\n"
        )


def _saved(figure: Any, form: str, dpi: int = DPI) -> bytes:
    import matplotlib

    sink = io.BytesIO()
    with matplotlib.rc_context(FONTS):
        figure.savefig(sink, format=form, dpi=dpi)
    return sink.getvalue()


def _as_html(text: str) -> str:
    return html.escape(escaped(text))


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return "–"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    form = ",.1f" if name in ("median_rank", "mae") else ".3f"
    text = f"{value:{form}}"
    return text if low is None or high is None else f"{text} [{low:{form}}, {high:{form}}]"
