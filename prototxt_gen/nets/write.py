"""Generated nets as files: where they go, and the weights beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from ..errors import Problem, UsageError, closest
from ..files import write_text
from . import NETWORKS, build_net, configure
from .config import NetConfig
from .header import header

WEIGHTS_GROUP = "prototxt_gen.weights"

WeightsWriter = Callable[[Path, str, Path], str]


@dataclass(frozen=True)
class Written:
    """A prototxt that was written; `weights` is the writer's line about the caffemodel, empty without one."""

    path: Path
    layers: int
    weights: str = ""


def net_text(network: str, dataset: str = "coco", **options) -> str:
    """The prototxt of a net as a string; the options are those of `configure`."""
    return _text(configure(network, dataset, **options))[0]


def write_net(output: str | Path, network: str, dataset: str = "coco", *, weights: str = "", **options) -> Written:
    """Write a net's prototxt, and with `weights` ("seed:7") the .caffemodel beside it; raises UsageError.

    `output` is a `.prototxt` file, or a folder, in which the file is named as in the authors' release
    (`coco_resnet101_srn_test.prototxt`). The other options are those of `configure`.
    """
    config = configure(network, dataset, **options)
    path = output_path(output, config)
    writer, argument = weights_writer(weights) if weights else (None, "")
    text, layers = _text(config)
    write_text(path, text)
    line = writer(path, argument, path.with_suffix(".caffemodel")) if writer else ""
    return Written(path, layers, line)


def file_name(config: NetConfig) -> str:
    """A test net's file name in the authors' release."""
    return f"{config.dataset.key}_{NETWORKS[config.network].file}_test.prototxt"


def output_path(output: str | Path, config: NetConfig) -> Path:
    """The file that `--output` means: itself, or the release's name in a folder; raises UsageError."""
    path = Path(output)
    if path.is_dir() or not path.suffix:
        return path / file_name(config)
    if path.suffix != ".prototxt":
        raise UsageError(f"--output {output} is not possible; expected a folder or a name ending in .prototxt")
    return path


def weights_kinds() -> dict[str, EntryPoint]:
    """The kinds of weights that installed packages can write."""
    return {entry.name: entry for entry in entry_points(group=WEIGHTS_GROUP)}


def weights_writer(spec: str) -> tuple[WeightsWriter, str]:
    """The function and its argument that `--weights kind:argument` means; raises UsageError."""
    kind, colon, argument = spec.partition(":")
    kinds = weights_kinds()
    if not kinds:
        fix = "install this project into the environment: pip install -e ."
        raise UsageError(Problem(f"--weights {spec}: no installed package writes weights", fix=fix))
    if kind not in kinds or not colon:
        expected = "kind:argument with the kind one of: " + ", ".join(sorted(kinds))
        hint = closest(kind, kinds) if kind not in kinds else ""
        fix = hint if hint.startswith("did you mean") else ""
        raise UsageError(Problem(f"--weights {spec} is not possible", expected, fix))
    try:
        return kinds[kind].load(), argument
    except (ImportError, AttributeError) as cause:
        fix = "install this project again: pip install -e ."
        raise UsageError(Problem(f"--weights {spec}: its writer cannot be loaded: {cause}", fix=fix)) from None


def _text(config: NetConfig) -> tuple[str, int]:
    net = build_net(config)
    return net.to_text(header(config, net.outputs())), len(net.build().layer)
