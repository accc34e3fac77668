"""Style and output of figures: colours, fonts, resolution, matplotlib styles.

Figures are created without pyplot, so no global state changes and no display is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sleepfm.atomic_write import write_file
from sleepfm.escaping import escaped
from sleepfm_index.errors import QueryError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGE_COLOURS: Final = {
    "W": "#e69f00",
    "N1": "#56b4e9",
    "N2": "#0072b2",
    "N3": "#1b2a6b",
    "R": "#d55e00",
    "UNS": "#bbbbbb",
}
"""Colours of Okabe and Ito, distinguishable for most colour-blind readers; N3 is a darker blue."""
PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Default colours (Okabe and Ito), without yellow, which is too light for a line."""
DPI: Final = 200
FONTS: Final[Any] = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}
"""TrueType fonts in PDF and text in SVG, so that publishers can edit and embed them."""


_NO_TEX: Final[Any] = {"text.usetex": False, "text.latex.preamble": ""}
"""Settings that keep a matplotlibrc in the current folder, which may be anyone's, from running
TeX."""
_UNITS: Final = {
    "age": "age (years)",
    "nsrr_age": "age (years)",
    "bmi": "BMI (kg/m²)",
    "nsrr_bmi": "BMI (kg/m²)",
    "nsrr_ahi_hp3r_aasm15": "AHI (events/h)",
    "rr_mean_s": "mean R-R (s)",
    "breath_hz": "breathing rate (Hz)",
}


def quantity(label: str) -> str:
    """Return the axis label of a numeric label, with its unit if known.

    Parameters
    ----------
    label : str
        Name of the label; empty if unknown.
    """
    return _UNITS.get(label, label.replace("_", " ") or "value")


def axes(ax: Axes | None = None, width: float = 6.0, height: float = 4.0) -> Axes:
    """Return the given axes, or those of a separate figure.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, optional
        Axes to draw into; by default those of a separate figure.
    width, height : float
        Size of the separate figure, in inches.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def class_colour(name: str, code: int) -> str:
    """Return the colour of a class: of the stage, or from the palette.

    Parameters
    ----------
    name : str
        Name of the class.
    code : int
        Code of the class.
    """
    return STAGE_COLOURS.get(name) or PALETTE[code % len(PALETTE)]


@contextmanager
def figure_style(style: str | None = None) -> Iterator[None]:
    """Apply the project's palette and, on top of it, a matplotlib style.

    Parameters
    ----------
    style : str, optional
        Name of a matplotlib style, or path of an ``.mplstyle`` file.

    Raises
    ------
    QueryError
        If the style does not exist.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib import style as styles

    palette: Any = {"axes.prop_cycle": cycler(color=PALETTE), **_NO_TEX}
    with matplotlib.rc_context(palette):
        if style is not None:
            try:
                styles.use(style)
            except OSError as error:
                raise QueryError(
                    f"no style {style!r}; give the path of an .mplstyle file, or one of "
                    f"{', '.join(styles.available)}"
                ) from error
        yield


def save(ax: Axes, path: str | Path, dpi: int = DPI) -> Path:
    """Write the figure of some axes to a file.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Any axes of the figure.
    path : path
        Path to write; its extension (png, svg, pdf) sets the format. Text stays editable in PDF
        (TrueType) and SVG.
    dpi : int
        Resolution of a PNG, in dots per inch.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    QueryError
        If matplotlib does not support the format.
    """
    import matplotlib

    path = Path(path)
    figure: Any = ax.get_figure(root=True)
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise QueryError(f"unsupported figure format {path.name}; use a name in .png or .svg")
    plain_text(figure)
    with matplotlib.rc_context(FONTS):
        return write_file(path, lambda temporary: figure.savefig(temporary, dpi=dpi))


def plain_text(figure: Any) -> None:
    """Draw the characters of ids and class names: no formulas, no control characters.

    A dollar sign would begin a formula, and a control character is not allowed in SVG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, changed in place.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(_escaped_lines(text.get_text()))
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            _escape_ticks(axis.get_major_formatter())


def _escape_ticks(formatter: Any) -> None:
    # Labels of ticks are formatted again when the figure is drawn.
    formatted = formatter.format_ticks
    formatter.format_ticks = lambda values: [_escaped_lines(text) for text in formatted(values)]


def _escaped_lines(text: str) -> str:
    return "\n".join(map(escaped, text.split("\n")))
