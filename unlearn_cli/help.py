"""`unlearn --help`, and `unlearn --help method=npo` for the fields of an option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearn_cli.config import unknown
from unlearn_cli.errors import ConfigError
from unlearn_cli.yaml_docs import Entry, defaults, groups, option_line, read_option, settings

USAGE = """\
usage: unlearn [group=option ...] [field=value ...] [flags]
       unlearn <sub-command> ...

Train a small language model on a generated world of facts, edit or unlearn some of them with a published method, and
measure everything beside a gold model that never saw them. Without arguments the options marked * are run."""

FLAGS = {
    "-m, --multirun": "one run for each combination of comma-separated values",
    "--cfg job": "print the whole configuration instead of running; with --resolve, environment variables filled in",
    "--config-dir DIR": "add a folder of your own options, as DIR/method/mine.yaml",
    "-sc install=bash": 'print the shell completion, for eval "$(unlearn -sc install=bash)"',
    "--version": "print the version",
    "--help": "print this; with an option, a group or a section: its fields",
    "--hydra-help": "print the flags and settings that Hydra adds",
}

SEARCHES = {"  tune_<method>": "search of a method's settings, one for each method"}  # listed by --help experiment

EXAMPLES = {
    "unlearn method=npo world=tabular_small": "forget 50 facts with NPO, beside the gold model",
    "unlearn method=npo method.beta=0.1 dry_run=true": "say which stages are cached and which would run",
    "unlearn -m method=npo,simnpo,graddiff 'seed=range(0,5)'": "three methods, five seeds each",
}


def text(words: Sequence[str], conf: Path, commands: Mapping[str, str]) -> str:
    """The help for a command line: of what it names, else the overview. A ConfigError names what does not exist."""
    own = _own_folders(words)
    folders = [conf, *own]
    topics = [word for word in words if not word.startswith("-") and Path(word) not in own]
    problems, blocks = [], []
    for topic in topics:
        try:
            blocks.append(_topic(topic, folders, commands))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return "\n\n".join(blocks) if topics else _overview(folders, commands)


def _own_folders(words: Sequence[str]) -> list[Path]:
    flags = [number for number, word in enumerate(words) if word in ("--config-dir", "-cd")]
    given = [Path(words[number + 1]) for number in flags if number + 1 < len(words)]
    given += [Path(word.partition("=")[2]) for word in words if word.startswith("--config-dir=")]
    missing = [f"--config-dir: {folder} given; there is no such folder" for folder in given if not folder.is_dir()]
    if missing:
        raise ConfigError(missing)
    return given


def _topic(topic: str, folders: Sequence[Path], commands: Mapping[str, str]) -> str:
    """Help for `group=option`, a group, a section, a field or a sub-command."""
    name, equals, option = topic.partition("=")
    known, fields = groups(folders), settings(folders[0])
    if name in known:
        return _option(name, option, folders) if equals else "\n".join(_group(name, known[name], folders))
    if name in commands:
        return f"{name}: {commands[name]}; see unlearn {name} --help"
    wanted = {key: entry for key, entry in fields.items() if key == name or key.startswith(name + ".")}
    if wanted:
        return _table(wanted)
    names = [*known, *commands, *{key.split(".")[0] for key in fields}]
    raise ConfigError([unknown(topic, name, names, "groups, sections and sub-commands")])


def _option(group: str, name: str, folders: Sequence[Path]) -> str:
    option = read_option(group, name, folders)
    lines = [f"{group}={name}: {option.line}"]
    if option.chooses:
        lines.append("chooses, unless you do: " + " ".join(f"{key}={value}" for key, value in option.chooses.items()))
    return "\n".join([*lines, "", _table(option.fields) if option.fields else "  no fields"])


def _group(group: str, options: Sequence[str], folders: Sequence[Path], folded: Sequence[str] = ()) -> list[str]:
    chosen = defaults(folders[0]).get(group, Entry())
    shown = [name for name in options if name not in folded]
    rows = {f"{'*' if name == chosen.value else ' '} {name}": option_line(group, name, folders) for name in shown}
    rows |= SEARCHES if folded else {}
    return [f"{group}: {chosen.comment}".rstrip(": "), *_columns(rows)]


def _overview(folders: Sequence[Path], commands: Mapping[str, str]) -> str:
    lines = [USAGE, "", "Groups; choose with group=option:"]
    known = groups(folders)
    searches = [f"tune_{method}" for method in known["method"]]
    for group, options in known.items():
        folded = [name for name in options if group == "experiment" and name in searches]
        lines += ["", *_group(group, options, folders, folded)]
    lines += ["", "Settings; change with field=value:", "", _table(settings(folders[0])), ""]
    for title, rows in (("Sub-commands", commands), ("Flags", FLAGS), ("Examples", EXAMPLES)):
        lines += [f"{title}:", "", *_columns(rows), ""]
    return "\n".join([*lines, "Fields of an option, with units and ranges: unlearn --help method=npo"])


def _table(fields: Mapping[str, Entry]) -> str:
    names = max(map(len, fields))
    values = max((len(entry.value) for entry in fields.values() if len(entry.value) <= 16), default=0)
    rows = (f"  {key:<{names}}  {entry.value:<{values}}  {entry.comment}" for key, entry in fields.items())
    return "\n".join(row.rstrip() for row in rows)


def _columns(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [f"  {name:<{width}}  {line}".rstrip() for name, line in rows.items()]
