"""Trade-off curve of an edit's path: `python scripts/path_curves.py RUN`, for a run with `method.save_every`.

Asks the base and every model under `edited/**/path/` the run's own probes, rebuilt from `.hydra/config.yaml`, and
writes `path.csv` (one row for each model: step and every behavioural metric of the run, `fact_accuracy` in any case)
and `path.svg` (what must not change against what is requested) into the run folder. Gold is what `result.json` says.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearn_cli.errors import UnlearnError
from unlearn_cli.study import Study

SIZE, MARGIN = 420, 60  # of the drawing, pixels
KEPT = "fact_accuracy/retain/unseen"  # the vertical axis

Row = dict[str, float | str | None]


def main(run: Path) -> int:
    """Write both files and say where they are."""
    try:
        study = rebuilt(run)
        rows = [*asked(study, run), *gold(run)]
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return 1
    write(rows, run / "path.csv")
    requested = f"fact_accuracy/{'forget' if study.request.new_object is None else 'edited'}"
    (run / "path.svg").write_text(drawing(rows, requested, KEPT))
    print(run / "path.csv", run / "path.svg", sep="\n")
    return 0


def rebuilt(run: Path) -> Study:
    """The run's world, request and probes; UnlearnError if they are not those of the run."""
    from omegaconf import OmegaConf

    from unlearn_cli.experiment import Experiment

    config = run / ".hydra" / "config.yaml"
    if not config.is_file():
        raise UnlearnError(f"{run}: no .hydra/config.yaml, which runs from the command line have")
    values = OmegaConf.to_container(OmegaConf.load(config), resolve=True)
    study = Study.of(Experiment.from_config({str(key): value for key, value in dict(values).items()}))
    if study.independent:
        raise UnlearnError(f"{run}: with edit.schedule=independent every request has a path of its own")
    stored = json.loads((run / "request.json").read_text())
    if study.request.to_dict() != {key: stored.get(key) for key in study.request.to_dict()}:
        raise UnlearnError(f"{run}: this version draws another request from its configuration; ask with the run's own")
    return study


def asked(study: Study, run: Path) -> list[Row]:
    """What the base and every kept model answer, in the order of the path."""
    import torch

    from unlearn_cli.machine import require
    from unlearn_cli.models.checkpoint import load
    from unlearn_cli.predict import predict

    models = sorted((run / "edited").glob("**/path/step-*"))
    if not models:
        raise UnlearnError(f"{run}: no model under edited/path; run it with method.save_every")
    require(study.numerics)
    torch.set_num_threads(study.numerics.threads)
    rows: list[Row] = []
    for model in [run / "base", *models]:
        network = load(model, study.numerics.accelerator)
        answers = predict(network, study.world, study.probes, study.experiment.evaluate.batch_size)
        rows.append(place(model, run) | measured(study, answers))
    return rows


def place(model: Path, run: Path) -> Row:
    """Which model this is: of a sequence of requests the request's number too."""
    if model == run / "base":
        return {"model": "base", "request": None, "step": 0}
    request = model.parent.parent.name.removeprefix("request-")
    return {"model": "path", "request": int(request) if request.isdigit() else None, "step": int(model.name[5:])}


def measured(study: Study, answers: object) -> Row:
    """Every behavioural metric of the run, by its key in result.json."""
    from unlearn_cli.evaluation import Bootstrap, Evaluation
    from unlearn_cli.metrics.fact_accuracy import FactAccuracy
    from unlearn_cli.metrics.probe import ProbeMetric

    of_run = [metric for metric in study.experiment.metric.values() if isinstance(metric, ProbeMetric)]
    evaluation = Evaluation(study.probes, {"edited": (answers,)}, {}, {}, Bootstrap(samples=1))
    found: Row = {}
    for metric in [FactAccuracy(), *of_run]:
        values = metric.compute(evaluation)
        found |= {key: value.edited.value for key, value in values.items() if value.edited is not None}
    return found


def gold(run: Path) -> list[Row]:
    """The row of the retrained models, if the run had any and measured them."""
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    values = {key: entry["gold"]["value"] for key, entry in metrics.items() if entry.get("gold")}
    return [{"model": "gold", "request": None, "step": None} | values] if values else []


def write(rows: Sequence[Row], to: Path) -> None:
    """One column for each key of the first row, which is the base's."""
    with to.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def drawing(rows: Sequence[Row], across: str, up: str) -> str:
    """The path as a line from the base on, its steps beside the points, gold as a square."""
    points = [row for row in rows if row.get(across) is not None and row.get(up) is not None]
    path = [row for row in points if row["model"] != "gold"]
    line = " ".join("{:.1f},{:.1f}".format(*at(row, across, up)) for row in path)
    marks = [mark(row, across, up) for row in points]
    end, middle = MARGIN + SIZE, MARGIN + SIZE / 2
    ticks = [tick for share in (0.0, 0.25, 0.5, 0.75, 1.0) for tick in scale(share)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{end + MARGIN}" height="{end + MARGIN}"'
            ' font-family="sans-serif" font-size="11">',
            f'<rect width="{end + MARGIN}" height="{end + MARGIN}" fill="white"/>',
            f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#999"/>',
            *ticks,
            f'<text x="{middle}" y="{end + 40}" text-anchor="middle">{across}</text>',
            f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{up}</text>',
            f'<polyline points="{line}" fill="none" stroke="#1f77b4"/>',
            *marks,
            "</svg>\n",
        ]
    )


def at(row: Mapping[str, float | str | None], across: str, up: str) -> tuple[float, float]:
    """Where a row lies, both axes from 0 to 1."""
    return MARGIN + SIZE * float(row[across] or 0), MARGIN + SIZE * (1 - float(row[up] or 0))


def mark(row: Row, across: str, up: str) -> str:
    """A point and what it is."""
    x, y = at(row, across, up)
    name = row["model"] if row["model"] != "path" else row["step"]
    shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#1f77b4"/>'
    if row["model"] == "gold":
        shape = f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="#d4a017"/>'
    return f'{shape}<text x="{x + 6:.1f}" y="{y - 5:.1f}">{name}</text>'


def scale(share: float) -> list[str]:
    """The labels of both axes at a share."""
    x, y = MARGIN + SIZE * share, MARGIN + SIZE * (1 - share)
    return [
        f'<text x="{x}" y="{MARGIN + SIZE + 16}" text-anchor="middle">{share:g}</text>',
        f'<text x="{MARGIN - 6}" y="{y + 4}" text-anchor="end">{share:g}</text>',
    ]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
