"""How figures look and how they are written: colours, fonts, resolution, and a style of one's own.

Figures are made without pyplot, so no global state changes and no display is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sleepfm.atomic_write import write_file
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
"""Okabe and Ito's colours for what has none of its own; yellow, too light for a line, left out."""
DPI: Final = 200
_FONTS: Final[Any] = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}
"""TrueType in PDF and text in SVG, so that a journal's tools can edit and embed it."""


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
    """Name a numeric label with its unit, where the project knows it.

    Parameters
    ----------
    label : str
        Name of the label; empty for one that is not known.
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
    """Give the colour of a class: a stage's own, or one of the palette.

    Parameters
    ----------
    name : str
        Name of the class.
    code : int
        Its place among the classes.
    """
    return STAGE_COLOURS.get(name) or PALETTE[code % len(PALETTE)]


@contextmanager
def figure_style(style: str | None = None) -> Iterator[None]:
    """Draw with the palette of the project, and with a matplotlib style on top of it.

    Parameters
    ----------
    style : str, optional
        A style that matplotlib knows by name, or the path of an ``.mplstyle`` file.

    Raises
    ------
    QueryError
        If there is no such style.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib import style as styles

    own: Any = {"axes.prop_cycle": cycler(color=PALETTE)}
    with matplotlib.rc_context(own):
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
        The file; its ending (png, svg, pdf) is the format. PDF has TrueType fonts, SVG has text.
    dpi : int
        Dots per inch of a PNG.

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
    with matplotlib.rc_context(_FONTS):
        return write_file(path, lambda aside: figure.savefig(aside, dpi=dpi))


def plain_text(figure: Any) -> None:
    """Draw every text as it is written: a dollar in an id or a class is not mathematics.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, changed in place.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
