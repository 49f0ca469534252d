"""The table that ends a run: what was asked, what the edit did to every split, and what else was measured.

Numbers are never cut or wrapped: on a terminal that is too narrow lines run over, and only sentences are wrapped.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from unlearn_cli.results import Result

MAIN = "fact_accuracy"  # shown with its intervals
SPLITS = (
    "forget",
    "edited",
    "edited_para",
    "edited_order",
    "edited_qa",
    "edited_stated",
    "forget_heldout",
    "edited_heldout",
    "dep_change",
    "dep_change_closure",
    "dep_change_isolate",
    "retain/seen",
    "retain/unseen",
    "dep_keep/unseen",
    "bridge/unseen",
    "correlated_partner/unseen",
    "correlated_partner_converted",
    "same_subject/unseen",
    "same_value_old/unseen",
    "same_value_new/unseen",
    "same_relation/unseen",
    "unrelated/unseen",
    "holdout",
)
HEADLINES = ("forget", "edited", "retain/unseen")  # of other metrics
RARE = re.compile(  # not missed where a world or a request cannot have it
    r"/(edited_(order|qa|stated|heldout)|forget_heldout|dep_change(_\w+)?|correlated_partner_converted)$"
    r"|/(dep_keep|bridge|correlated_partner)/\w+$|^ripple/|^distance_to_posterior/"
)
DETAIL = re.compile(  # what would double or drown what is shown
    r"^candidate_(entropy|mass)/|^distance_to_gold/(js|tv)/|^distance_to_posterior/tv/|^gold_agreement/share/"
    r"|^gap_average/(ua|ra|ta)$|/(layer|module)/|/energy_\d+$|(?<!restor)/(gain|recovery|start|any_chance)$"
    r"|^(logit_lens\w*|linear_probe\w*|cka)/(layer_|first_|candidate_|selectivity|biased)|^quantization_\d/collision_values$"
    r"|^negative_flips/(kept|gained|never|churn|inconsistency)/|^output_validity/(correct|type_validity)/"
    r"|^output_validity/\w+/retain|^(mia_\w+|lira|rmia)/(distance|advantage|tpr|member_rate|false_rate)|^causal_trace/ie/"
    r"|^concept_vectors/(?!intrinsic|selectivity)|^fisher_drift/(?!drift)|^activation_patching/(?!uds)"
    r"|^k_extractable/(positions|leading)$|^privleak_family/(?!score)|^model_utility/|^(hit_at|reciprocal_rank)/"
)
ROLES = ("base", "edited", "gold")
ARROWS = {"higher": "↑", "lower": "↓", "to_gold": "→gold", "descriptive": ""}
ASCII = str.maketrans({"↑": "^", "↓": "v", "→": ">", "·": "-"})
WIDE = 92  # columns from which shares have three decimals
COUNTED = ("rank", "steps", "weights")
EVIDENT = ("bytes", "flop", "kappa", "rank", "rank of O", "steps", "weights")  # told by the name or the number

Metrics = Mapping[str, Mapping[str, Any]]


def table(result: Result, width: int | None = None) -> str:
    """Render a result for `width` columns, by default those of the terminal; colours only if stdout is one."""
    from rich.console import Group

    width = width or shutil.get_terminal_size().columns
    metrics = _chosen(result)
    roles = [role for role in ROLES if role != "gold" or _has_gold(result)]
    blocks: list[RenderableType] = [_heading(result, width)]
    blocks += [block for block in (_splits(metrics, roles, width), _others(metrics, roles)) if block]
    blocks.append(_wrapped(_remarks(result, metrics), width))
    return _rendered(Group(*_spaced(blocks)))


def _rendered(content: RenderableType) -> str:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(
        width=1000,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as captured:
        console.print(content, soft_wrap=True)
    text = "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return text.translate(ASCII)
    return text


def _spaced(blocks: Sequence[RenderableType]) -> Iterator[RenderableType]:
    for index, block in enumerate(blocks):
        if index:
            yield ""
        yield block


def _chosen(result: Result) -> Metrics:
    """What is worth a line here: all splits of the main metric, the headline splits of others, no details."""
    forgetting = result.request.get("op") == "forget"  # then `edited` asks the same as `forget`
    every = {key.removeprefix(f"{MAIN}/") for key in result.metrics if key.startswith(f"{MAIN}/")}
    chosen = {}
    for key, entry in result.metrics.items():
        split = next((split for split in sorted(every, key=len, reverse=True) if key.endswith(f"/{split}")), None)
        shown = SPLITS if key.startswith(f"{MAIN}/") else HEADLINES
        missed = entry["status"] != "skipped" or not RARE.search(key)
        if (
            missed
            and not DETAIL.search(key)
            and (split is None or split in shown)
            and not (forgetting and split == "edited")
        ):
            chosen[key] = entry
    return chosen


def _has_gold(result: Result) -> bool:
    return any(entry["gold"] for entry in result.metrics.values())


def _heading(result: Result, width: int) -> Text:
    from rich.text import Text

    groups = [group for group in ("world", "edit", "model", "method") if group in result.choices]
    chosen = [*(f"{group} {result.choices[group]}" for group in groups), f"seed {result.seed}"]
    chosen += [f"replica {result.replica}"] if result.replica else []
    text = Text(_wrapped([" · ".join(chosen)], width), style="bold")
    if result.request:
        text.append("\nrequest: {op} {facts} facts".format(**result.request), style="not bold")
    return text


def _splits(metrics: Metrics, roles: Sequence[str], width: int) -> Table | None:
    """The main metric in every split, with intervals."""
    rows = {split: metrics.get(f"{MAIN}/{split}") for split in SPLITS}
    known = {split: entry for split, entry in rows.items() if entry and entry["status"] == "ok"}
    if not known:
        return None
    grid = _grid(MAIN, roles, "left")
    places = 3 if width >= WIDE else 2
    for split, entry in known.items():
        cells = [_interval(_reading(entry, role), places) for role in roles]
        grid.add_row(_label(split, entry), *cells)
    return grid


def _others(metrics: Metrics, roles: Sequence[str]) -> Table | None:
    """Every other value, under the name of its metric."""
    known = {key: entry for key, entry in metrics.items() if entry["status"] == "ok" and not key.startswith(f"{MAIN}/")}
    if not known:
        return None
    grid, before = _grid("", [*roles, ""], "right"), None
    for key, entry in known.items():
        group, _, name = key.partition("/")
        if name and group != before:
            grid.add_row(group)
        before = group
        values = [_number(_reading(entry, role), entry["unit"]) for role in roles]
        unit = "" if entry["unit"] in EVIDENT else entry["unit"]
        grid.add_row(_label(f"  {name}" if name else group, entry), *values, unit)
    return grid


def _grid(title: str, columns: Sequence[str], justify: Any) -> Table:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    grid.add_column(title, no_wrap=True)
    for column in columns:
        style = "bold" if column == "edited" else ""
        grid.add_column(column, no_wrap=True, justify=justify if column else "left", style=style)
    return grid


def _label(name: str, entry: Mapping[str, Any]) -> str:
    return f"{name} {ARROWS[entry['direction']]}".rstrip()


def _reading(entry: Mapping[str, Any], role: str) -> Mapping[str, Any] | None:
    return entry if role == "edited" else entry[role]


def _interval(reading: Mapping[str, Any] | None, places: int) -> str:
    if reading is None:
        return "-"
    text = f"{reading['value']:.{places}f}"
    if reading["ci"]:
        text += " [{:.{p}f}, {:.{p}f}]".format(*reading["ci"], p=places)
    return text


def _number(reading: Mapping[str, Any] | None, unit: str) -> str:
    """Three significant digits, and counts in full while they are short."""
    if reading is None:
        return "-"
    value = reading["value"]
    if unit == "bytes":
        return _bytes(value)
    size = abs(value)
    if size < 1e7 and value == int(value) and (size == 0 or unit in COUNTED):
        return f"{int(value):,}"
    if 1e-3 <= size < 999.5:
        return f"{value:#.3g}".rstrip(".")
    return f"{value:,.0f}" if 999.5 <= size < 1e6 else f"{value:.2e}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            break
        value, unit = value / 1000, "TB"
    return f"{value:.3g} {unit}"


def _remarks(result: Result, metrics: Metrics) -> Iterator[str]:
    """Sentences under the tables: what went wrong, what to know, what is missing, what it took."""
    if result.error:
        where = f" in {result.error['stage']}" if result.error["stage"] else ""
        yield f"{result.status}{where}: {result.error['message'] or result.error['type']}"
    yield from (f"note: {note}" for note in result.notes)
    failed = {key: entry for key, entry in result.metrics.items() if entry["status"] == "failed"}
    skipped = {key: entry for key, entry in metrics.items() if entry["status"] == "skipped"}
    for status, entries in (("failed", failed), ("skipped", skipped)):
        if entries:
            yield f"{status}: {'; '.join(_by_reason(entries, result.metrics))}"
    if others := len(result.metrics.keys() - metrics.keys() - failed.keys()):
        yield f"{others} more metrics are in result.json"
    if result.stages:
        yield "stages: " + ", ".join(_stage(name, made) for name, made in result.stages.items())


def _by_reason(entries: Metrics, all_metrics: Metrics) -> Iterator[str]:
    """`same_subject/unseen, restor (reason)`: a split that is empty is named once, a metric that has no value whole."""
    reasons: dict[str, list[str]] = {}
    metrics = [key.partition("/")[0] for key in all_metrics]
    valued = {key.partition("/")[0] for key, entry in all_metrics.items() if entry["status"] == "ok"}
    for key, entry in entries.items():
        names = reasons.setdefault(entry["reason"], [])
        metric = key.partition("/")[0]
        whole = metric not in valued and metrics.count(metric) > 1
        name = metric if whole else key.removeprefix(f"{MAIN}/")
        if not any(name == other or name.endswith(f"/{other}") for other in names):
            names.append(name)
    for reason, names in reasons.items():
        yield f"{', '.join(names)} ({reason})"


def _stage(name: str, made: Mapping[str, Any]) -> str:
    """`gold 3 x 21.3 s`, `train 14.2 s (cached)`: the time that making it took, whenever that was."""
    new = [item for item in made.get("observations", []) if not item["cached"]]
    if new:
        made = {**made, "seconds": made["seconds"] + sum(item["seconds"] for item in new), "cached": False}
    models = made.get("members", [made])
    seconds = sum(model["seconds"] for model in models) / len(models)
    cached = sum(model["cached"] for model in models)
    times = f"{len(models)} x " if len(models) > 1 else ""
    how = {0: "", len(models): " (cached)"}.get(cached, f" ({cached} cached)")
    return f"{name} {times}{seconds:.1f} s{how}"


def _wrapped(sentences: Iterable[str], width: int) -> str:
    import textwrap

    fill = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False).fill
    return "\n".join(fill(sentence) for sentence in sentences)
