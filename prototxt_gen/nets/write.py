"""Generated files: the text of each, where it goes, and weights beside a test net."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ..base.errors import Problem, UsageError, closest
from ..base.files import write_text
from ..base.programs import answer
from ..paper import DataSet
from ..schema.blobs import blob_count
from ..schema.messages import DIALECTS
from . import DATASETS, NETWORKS, PROFILES, at_step, build_net, configure
from .config import NetConfig
from .header import test_header, train_header
from .scripts import test_file, test_script, train_file, train_script
from .solver import solver_file, solver_text, trainval_file

# Kinds of weights, and the program that writes them: `PROGRAM KIND --prototxt FILE --output FILE ARGUMENT`.
WEIGHTS = {"seed": "reference_weights"}


@dataclass(frozen=True)
class Written:
    """A prototxt that was written; `weights` is the writer's line about the caffemodel, empty without one."""

    path: Path
    layers: int
    weights: str = ""


def net_text(network: str, dataset: str | DataSet = "coco", **options) -> str:
    """The prototxt of a net as a string; the options are those of `configure`."""
    return _text(configure(network, dataset, **options))[0]


def write_net(
    output: str | Path, network: str, dataset: str | DataSet = "coco", *, weights: str = "", **options
) -> Written:
    """Write a net's prototxt, and with `weights` ("seed:7") the .caffemodel beside it; raises UsageError.

    `output` is a `.prototxt` file, or a folder, in which the file is named as in the authors' release
    (`coco_resnet101_srn_test.prototxt`). The other options are those of `configure`.
    """
    config = configure(network, dataset, **options)
    path = output_path(output, config)
    kind, argument = weights_kind(weights) if weights else ("", "")
    text, layers = _text(config)
    write_text(path, text)
    files = ["--prototxt", str(path), "--output", str(path.with_suffix(".caffemodel"))]
    line = answer(WEIGHTS[kind], [kind, *files, "--", argument]) if kind else ""
    return Written(path, layers, line)


def training_files(network: str, dataset: str | DataSet = "coco", **options) -> dict[str, str]:
    """All files of a network and data set, name -> text; the options are those of `configure`.

    They are the test net, the train_val net and the solver of each step, and the scripts that run them.
    """
    return _files(configure(network, dataset, **options))


def write_training(folder: str | Path, network: str, dataset: str | DataSet = "coco", **options) -> list[Path]:
    """Write all files of a network and data set into a folder; returns their paths. Raises UsageError."""
    files = training_files(network, dataset, **options)
    return [_write(Path(folder) / name, text) for name, text in files.items()]


def write_all(folder: str | Path, *, classes: int | None = None, **options) -> list[Path]:
    """Write all files of all profiles, dialects, networks and data sets; returns their paths.

    They go to folder/profile/dialect/network/data set. The options are those of `configure` that do not
    choose among these.
    """
    paths = []
    for config in every_config(classes=classes, **options):
        place = Path(folder, config.profile.name, config.dialect, config.network.file, config.dataset.key)
        paths += [_write(place / name, text) for name, text in _files(config).items()]
    return paths


def every_config(**options) -> Iterator[NetConfig]:
    """The test nets of all profiles, dialects, networks and data sets, with the other options of `configure`."""
    for profile in PROFILES:
        for dialect in DIALECTS:
            for dataset in DATASETS:
                for network in NETWORKS:
                    yield configure(network, dataset, profile=profile, dialect=dialect, **options)


def file_name(config: NetConfig) -> str:
    """A net's file name in the authors' release."""
    if config.step is not None:
        return trainval_file(config.step)
    return f"{config.dataset.key}_{config.network.file}_test.prototxt"


def output_path(output: str | Path, config: NetConfig) -> Path:
    """The file that `--output` means: itself, or the release's name in a folder; raises UsageError."""
    path = Path(output)
    if path.is_dir() or not path.suffix:
        return path / file_name(config)
    if path.suffix != ".prototxt":
        raise UsageError(f"--output {output} is not possible; expected a folder or a name ending in .prototxt")
    return path


def weights_kind(spec: str) -> tuple[str, str]:
    """The kind and its argument that `--weights kind:argument` means; raises UsageError."""
    kind, colon, argument = spec.partition(":")
    if kind not in WEIGHTS or not colon:
        expected = "kind:argument with the kind one of: " + ", ".join(sorted(WEIGHTS))
        hint = closest(kind, WEIGHTS) if kind not in WEIGHTS else ""
        fix = hint if hint.startswith("did you mean") else ""
        raise UsageError(Problem(f"--weights {spec} is not possible", expected, fix))
    return kind, argument


def _files(config: NetConfig) -> dict[str, str]:
    """Name -> text of all files of a test net's configuration."""
    test = replace(config, step=None)
    steps = [at_step(config, step) for step in config.network.steps]
    files = {file_name(test): _text(test)[0]}
    for step in steps:
        assert step.step is not None
        files[trainval_file(step.step)] = _text(step)[0]
        files[solver_file(step.step)] = solver_text(step)
    files[train_file(test)] = train_script(test, steps)
    files[test_file(test)] = test_script(test, steps, file_name(test))
    return files


def _write(path: Path, text: str) -> Path:
    write_text(path, text)
    if path.suffix == ".sh":
        path.chmod(path.stat().st_mode | 0o111)
    return path


# Networks share their first steps: most of the nets of one data set are asked for again soon.
@lru_cache(maxsize=8)
def _text(config: NetConfig) -> tuple[str, int]:
    net = build_net(config)
    if config.step is None:
        header = test_header(config, net.outputs())
    else:
        parts = list(dict.fromkeys(net.parts[layer.name] for layer in net.layers() if blob_count(layer) != 0))
        moving = config.step.trained or tuple(parts)
        fixed = [part for part in parts if part not in moving]
        header = train_header(config, fixed, [part for part in parts if part in moving])
    return net.to_text(header), len(net.layers())
