"""Build the site of docs/: gather pages, make references, run MkDocs; a warning is an error.

    python docs/build.py [--site docs/site]

Links of the pages are valid in the repository and are converted to links of the site. The reference
of the commands is generated from the command line, and that of Python from docstrings.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from typer.main import get_command

from sleepfm_cli.main import app

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
TOP: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages next to docs/."""
BAR: Final = "&#124;"
"""A vertical bar that does not end a cell of a Markdown table."""
_STUB: Final = re.compile(r"from (\.[\w.]+) import (\w+) as \w+")
_ELSEWHERE: Final = re.compile(r"\]\((?!https?:|#|mailto:)(?:\.\./)?([\w./-]+)(#[\w-]+)?\)")


def main() -> None:
    """Build the site; exit 1 if MkDocs reports a warning."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--site", type=Path, default=HERE / "site")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "pages"
        gather(pages)
        sys.exit(0 if built(pages, args.site.resolve()) else 1)


def gather(pages: Path) -> None:
    """Write every page of the site into a folder.

    Parameters
    ----------
    pages : Path
        Folder that does not exist.
    """
    shutil.copytree(HERE, pages, ignore=shutil.ignore_patterns("site", "*.py", "*.yml", "*.ipynb"))
    shutil.copy(ROOT / "README.md", pages / "index.md")
    for name in TOP:
        shutil.copy(ROOT / name, pages / name)
    (pages / "cite.md").write_text(cite(), encoding="utf-8")
    for page in pages.glob("*.md"):
        page.write_text(for_site(page.read_text(encoding="utf-8"), pages), encoding="utf-8")
    (pages / "commands.md").write_text(commands(), encoding="utf-8")
    (pages / "api.md").write_text(python(), encoding="utf-8")


def for_site(text: str, pages: Path) -> str:
    """Convert links between files of the repository to links between pages.

    Parameters
    ----------
    text : str
        A page of the repository.
    pages : Path
        Folder of the site's pages.
    """

    def link(found: re.Match[str]) -> str:
        name = found[1].removeprefix("docs/")
        name = {"README.md": "index.md", "LICENSE": "cite.md"}.get(name, name)
        if (pages / name).exists() or name in ("cite.md", "commands.md", "api.md"):
            return f"]({name}{found[2] or ''})"
        return f"]({found[1]}{found[2] or ''})"  # MkDocs warns, and the build fails

    return _ELSEWHERE.sub(link, text)


def cite() -> str:
    """Return docs/cite.md with the citation file below it."""
    text = (HERE / "cite.md").read_text(encoding="utf-8")
    return f"{text}\n```yaml\n{(ROOT / 'CITATION.cff').read_text(encoding='utf-8')}```\n"


def commands() -> str:
    """Return the reference of every verb, in the groups of `--help`."""
    command: Any = get_command(app)
    context = command.context_class(command, info_name="sleepfm-index")
    parts = [
        "# Commands",
        "Generated from the command line; `sleepfm-index VERB --help` shows the same. "
        "`--store`, `--threads` and `--version` may precede the verb.",
    ]
    for heading, names in command.headings():
        parts.append(f"## {heading}")
        for name in names:
            verb = command.commands[name]
            if hasattr(verb, "commands"):
                for subcommand in verb.commands.values():
                    parts += of_verb(f"{name} {subcommand.name}", subcommand, context)
            else:
                parts += of_verb(name, verb, context)
    return "\n\n".join(parts) + "\n"


def of_verb(name: str, verb: Any, context: Any) -> list[str]:
    """Return the description of one verb and the table of its options.

    Parameters
    ----------
    name : str
        The verb.
    verb : typer command
        The command of the verb.
    context : typer context
        Context of ``sleepfm-index``.
    """
    text = re.sub(r"(?m)^Example: (.*)$", r"Example: `\1`", (verb.help or "").strip())
    rows = ["| option | description |", "|---|---|"]
    for parameter in verb.params:
        record = parameter.get_help_record(context)
        if record is not None and parameter.name != "help":
            names, description = record
            rows.append(f"| <code>{cell(names)}</code> | {cell(description)} |")
    return [f"### {name}", text, "\n".join(rows)]


def cell(text: str) -> str:
    """Escape text for a cell of a table."""
    return text.replace("|", BAR).replace("<", "&lt;").replace("\n", " ")


def python() -> str:
    """Return the page of the Python interface, with every public name of `sleepfm_index`."""
    stub = (ROOT / "index" / "sleepfm_index" / "__init__.pyi").read_text(encoding="utf-8")
    parts = [
        "# Python",
        "Everything here is imported from `sleepfm_index`, as in "
        "`from sleepfm_index import Store`.",
    ]
    for module, name in _STUB.findall(stub):
        options = "    options:\n      inherited_members: true\n" if name == "Store" else ""
        parts.append(f"::: sleepfm_index{module}.{name}\n{options}")
    return "\n\n".join(parts)


def built(pages: Path, site: Path) -> bool:
    """Run MkDocs on the pages.

    Parameters
    ----------
    pages, site : Path
        Folders of the pages and of the site.

    Returns
    -------
    bool
        Whether there was no warning.
    """
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import MkDocsException

    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")  # a notice of the theme, not of a page
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        config = load_config(
            str(HERE / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(site), strict=True
        )
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    except MkDocsException as error:
        sys.stderr.write(f"error: {error}\n")
        return False
    sys.stderr.write(f"{site / 'index.html'}\n")
    return True


if __name__ == "__main__":
    main()
