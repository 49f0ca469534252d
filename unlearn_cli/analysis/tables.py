"""One table as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unlearn_cli.analysis.seeds import Summary

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: "\\" + character for character in "&%$#_{}"
}
LONGEST_NAME = 100  # characters of a file's name; file systems end at 255 bytes
SUMMARY = ("mean", "low", "high", "sd", "seeds")  # columns of `numbers`
SYMBOLS = {"·": r"$\cdot$", "→": r"$\to$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$"}


@dataclass(frozen=True)
class Text:
    """What stands in one cell, and how it is set."""

    text: str
    bold: bool = False
    mark: str = ""  # behind it, such as *


@dataclass(frozen=True)
class Table:
    """Headings and rows, with sentences below."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Text]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """As GitHub shows it."""
        lines = [f"## {self.title}", "", _line(map(_piped, self.headings)), "|---" * len(self.headings) + "|"]
        for row in self.rows:
            lines.append(_line(_piped(f"**{cell.text}**" if cell.bold else cell.text) + cell.mark for cell in row))
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)]) + "\n"

    def latex(self) -> str:
        """With booktabs."""
        columns = "l" + "r" * (len(self.headings) - 1)
        lines = [
            f"% {self.title}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(escaped, self.headings)) + r" \\",
            r"\midrule",
        ]
        for row in self.rows:
            cells = [rf"\textbf{{{escaped(c.text)}}}" if c.bold else escaped(c.text) for c in row]
            marked = [cell + (f"$^{{{c.mark}}}$" if c.mark else "") for cell, c in zip(cells, row, strict=True)]
            lines.append(" & ".join(marked) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in self.notes)]) + "\n"


def escaped(text: str) -> str:
    """Text as LaTeX sets it."""
    return re.sub(r".", lambda found: SPECIAL.get(found[0], SYMBOLS.get(found[0], found[0])), text)


def shown(summary: Summary | None) -> str:
    """A mean with the half-width of its interval, where it has one."""
    if summary is None:
        return "-"
    digits = 3 if abs(summary.mean) < 100 else 1
    mean = f"{summary.mean:.{digits}f}"
    return mean if summary.ci is None else f"{mean} ± {summary.ci[1] - summary.mean:.{digits}f}"


def number(value: float | None) -> str:
    """A value that may be unknown."""
    return "none" if value is None else f"{value:.3f}"


def numbers(summary: Summary) -> list[float | int | None]:
    """A summary in full."""
    low, high = summary.ci or (None, None)
    return [summary.mean, low, high, summary.sd, summary.n]


def slug(text: str) -> str:
    """Part of a file's name; of a long text the beginning, and a hash that tells it from others that begin alike."""
    plain = re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-")
    if len(plain) <= LONGEST_NAME:
        return plain
    return f"{plain[:LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def write_tables(tables: Sequence[Table], stem: Path) -> None:
    """All of them in one `.md` and one `.tex`."""
    stem.with_suffix(".md").write_text("\n".join(table.markdown() for table in tables))
    stem.with_suffix(".tex").write_text("\n".join(table.latex() for table in tables))


def write_csv(headings: Sequence[str], rows: Sequence[Sequence[object]], path: Path) -> None:
    """Full precision; what is not known is empty."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(headings)
        writer.writerows(["" if value is None else value for value in row] for row in rows)


def _piped(text: str) -> str:
    return text.replace("|", "\\|")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
