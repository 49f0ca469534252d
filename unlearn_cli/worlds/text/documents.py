"""Documents of the user's own, cut into pieces: a beginning, which is given, and what goes on from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import Count, component
from unlearn_cli.worlds.text.base import TextWorld

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.files import Problems, Table
    from unlearn_cli.worlds.text.formats import Row
    from unlearn_cli.worlds.text.items import Item, Part

ALONE = (  # characters of scripts that are written without blanks: Thai, Lao, Myanmar, Khmer, kana, bopomofo, Han
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u312f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
LETTER = re.compile(rf"[{ALONE}][^\s\w]*")  # with the marks behind it
EITHER = re.compile(rf"{LETTER.pattern}|[^\s{ALONE}]+")
UNBROKEN = 4  # such characters between two blanks: where they are more on average, blanks do not part words

Span = tuple[int, int]


@component
class Documents(TextWorld):
    """Each file has a column `text`, or is a list of texts (MUSE, Shi et al. 2024, arXiv 2407.06460: raw)."""

    VERSION: ClassVar[int] = 4

    prefix: Count = 24  # words of a piece that are given
    continuation: Count = 24  # words that follow, which are asked

    def items(self, part: Part, table: Table, problems: Problems) -> Iterator[Item]:
        """The pieces of every text."""
        from unlearn_cli.worlds.text.cells import BadRow

        found: list[Item] = []
        lengths: list[int] = []
        for row in table.rows:
            try:
                written = _written(row)
                spans = words(written)
                pieces = list(self._pieces(part, written, spans, f"{problems.path}, {row.place}"))
            except BadRow as error:
                problems.add(row.place, str(error))
                continue
            lengths.append(len(spans))
            found += pieces
        if not found:
            problems.raise_any()
            raise problems.refuse(f"no text of {self.prefix + 1} words or more; lower world.prefix ({self.prefix})")
        note = self._left_out(lengths)
        for item in found:
            yield replace(item, note=f"{problems.field}: {note}" if note else "")

    def _pieces(self, part: Part, written: str, spans: Sequence[Span], name: str) -> Iterator[Item]:
        """Cut a text between words; what is left at its end is a piece if there is a word to ask."""
        from unlearn_cli.worlds.text.items import Item

        for start in range(0, len(spans), self.prefix + self.continuation):
            piece = spans[start : start + self.prefix + self.continuation]
            given, asked = piece[: self.prefix], piece[self.prefix :]
            if asked:
                prompt, answer = (_cut(written, held) for held in (given, asked))
                yield Item(part, prompt, answer, subject=name, place=name)

    def _left_out(self, lengths: Sequence[int]) -> str:
        """What gave no piece, of documents of so many words; empty if all of it did."""
        short = sum(length <= self.prefix for length in lengths)
        ends = [length % (self.prefix + self.continuation) for length in lengths if length > self.prefix]
        tails = [end for end in ends if 0 < end <= self.prefix]
        told = (
            [f"{short} of {len(lengths)} documents have no word behind world.prefix ({self.prefix})"] if short else []
        )
        told += [f"{sum(tails)} words at the ends of {len(tails)} documents are in no piece"] if tails else []
        return "; ".join(told)


def _written(row: Row) -> str:
    """The text of a row, however long: its pieces are short."""
    from unlearn_cli.worlds.text.cells import Cells

    return Cells(row.values, longest=None).text("text", "content", "document")


def _cut(written: str, held: Sequence[Span]) -> str:
    """The text from the first of these words to the last."""
    from unlearn_cli.worlds.text.cells import LONGEST, BadRow

    start, end = held[0][0], held[-1][1]
    if end - start > LONGEST:
        told = f"{len(held)} words of {end - start} characters given; expected at most {LONGEST} in a piece"
        raise BadRow(f"text: {told}")
    return written[start:end]


def words(written: str) -> list[Span]:
    """Where the words of a text begin and end: what blanks part, and each character of scripts without blanks."""
    spaced = [found.span() for found in re.finditer(r"\S+", written)]
    letters = [len(LETTER.findall(written, *span)) for span in spaced]
    runs = [count for count in letters if count]
    if sum(letters) <= max(len(spaced), UNBROKEN * len(runs)):
        return spaced
    return [found.span() for found in EITHER.finditer(written)]
