"""Nets changed at random: what nobody writes, and what must end in an answer or in the project's own words.

As a program (`python mutations.py FIRST COUNT`) it tries COUNT mutations under limits of time and memory and prints
a line for each that ended otherwise.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from math import prod
from pathlib import Path
from random import Random

import numpy as np

from prototxt_gen.schema import DIALECTS, descriptor

GOLDEN = Path(__file__).parents[1] / "golden"
SECONDS = 10  # for one net, whatever it is made to do
MEMORY = 10 * 2**30  # bytes of addresses; PyTorch alone takes several
LARGEST = 3 * 10**6  # values of all blobs of a net that is run
WORK = 2 * 10**8  # its multiply-adds

HUGE = (1000, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**32 + 5, 2**63 - 1)
_NUMBER = re.compile(r"(?<![\w.\"])-?\d+\.?\d*(?![\w.\"])")


@cache
def seeds() -> list[tuple[str, str]]:
    """(dialect, text) of every recorded net; of other forks the pack is declared."""
    files = [*GOLDEN.glob("layers/*/*.prototxt"), *GOLDEN.glob("edges/*/*.prototxt")]
    forks = sorted(GOLDEN.glob("community/*/*.prototxt"))
    own = [(file.parent.name, file.read_text()) for file in sorted(files)]
    return own + [(f"+{file.parent.name}", file.read_text()) for file in forks]


@cache
def types() -> list[str]:
    """Every layer type that a seed has."""
    return sorted({name for _, text in seeds() for name in re.findall(r'type: "([A-Z]\w+)"', text)})


def layers(text: str) -> list[tuple[int, int]]:
    """Where the net's layers begin and end."""
    found = []
    for start in re.finditer(r"^layers? *\{", text, re.MULTILINE):
        depth, end = 0, start.start()
        for end in range(start.end() - 1, len(text)):
            depth += (text[end] == "{") - (text[end] == "}")
            if not depth:
                break
        found.append((start.start(), end + 1))
    return found


def _replaced(text: str, span: tuple[int, int], new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


def number(text: str, random: Random) -> str:
    """One number made 0, 1, negative, huge, or another one of the net's."""
    spans = [m.span() for m in _NUMBER.finditer(text)]
    if not spans:
        return text
    span, other = random.choice(spans), random.choice(spans)
    return _replaced(text, span, random.choice([_number(random), text[slice(*other)]]))


def _number(random: Random) -> str:
    return random.choice(["0", "1", "-1", "2", "3", "7", "12", "0.5", "1e38", "nan", "inf", str(random.choice(HUGE))])


def added(text: str, random: Random) -> str:
    """A field more for a layer, of those that its kind has."""
    spans = list(re.finditer(r"(\w+_param) *\{", text))
    if not spans:
        return text
    block = random.choice(spans)
    fields = descriptor("LayerParameter", random.choice(DIALECTS)).fields_by_name
    message = fields[block[1]].message_type if block[1] in fields else None
    if message is None:
        return text
    field = random.choice(list(message.fields))
    if field.enum_type is not None:
        value = random.choice(sorted(field.enum_type.values_by_name))
    elif field.message_type is not None:
        return text
    elif field.cpp_type in (field.CPPTYPE_BOOL, field.CPPTYPE_STRING):
        value = random.choice(["true", "false"]) if field.cpp_type == field.CPPTYPE_BOOL else '"x"'
    else:
        value = _number(random)
    return _replaced(text, (block.end(), block.end()), f" {field.name}: {value} ")


def dropped(text: str, random: Random) -> str:
    """A layer less."""
    found = layers(text)
    return _replaced(text, random.choice(found), "") if found else text


def doubled(text: str, random: Random) -> str:
    """A layer twice, perhaps with another name and another top."""
    found = layers(text)
    if not found:
        return text
    span = random.choice(found)
    again = text[slice(*span)]
    if random.random() < 0.7:
        again = re.sub(r'\b(name|top): "([^"]*)"', r'\1: "\2_2"', again)
    return _replaced(text, (span[1], span[1]), "\n" + again)


def retyped(text: str, random: Random) -> str:
    """A layer of another type."""
    spans = [m.span(1) for m in re.finditer(r'type: "([A-Z]\w+)"', text)]
    return _replaced(text, random.choice(spans), random.choice(types())) if spans else text


def rewired(text: str, random: Random) -> str:
    """A bottom, a top or a name that is another one."""
    spans = [m.span(1) for m in re.finditer(r'(?:bottom|top|name|input): "([^"]*)"', text)]
    if not spans:
        return text
    names = [text[slice(*span)] for span in spans] + ["new", "", "a.b", "class", "data@x"]
    return _replaced(text, random.choice(spans), random.choice(names))


def reshaped(text: str, random: Random) -> str:
    """A shape with an axis more, one less, an empty or a huge one."""
    spans = [m.span() for m in re.finditer(r"dim: *-?\d+", text)]
    if not spans:
        return text
    span = random.choice(spans)
    new = random.choice(["", "dim: 0", "dim: 1", f"dim: {random.choice(HUGE)}", text[slice(*span)] + " dim: 2"])
    return _replaced(text, span, new)


def grown(text: str, random: Random) -> str:
    """A bottom or a top more."""
    spans = [m.span() for m in re.finditer(r'(bottom|top): "([^"]*)"', text)]
    if not spans:
        return text
    line = text[slice(*random.choice(spans))]
    end = random.choice(spans)[1]
    return _replaced(text, (end, end), " " + line.replace("top: ", random.choice(["top: ", "bottom: "])))


MUTATIONS: tuple[Callable[[str, Random], str], ...] = (
    *(number, number, number, added, added, added, reshaped, reshaped),
    *(dropped, doubled, retyped, rewired, grown),
)


def mutated(index: int) -> tuple[str, str]:
    """The dialect and the text of a mutation; the same one every time."""
    random = Random(index)
    dialect, text = random.choice(seeds())
    for _ in range(random.choice([1, 1, 2, 3])):
        text = random.choice(MUTATIONS)(text, random)
    return dialect, text


def try_net(dialect: str, text: str) -> str:
    """Load a net, run it in PyTorch and in the reference, export it; how far it came. Raises what is no CaffeError."""
    import port
    from port.graph.build import build_graph
    from port.graph.reference import run_reference
    from port.graph.sizes import parameter_bytes
    from port.graph.state import NetState
    from port.net import param_arrays
    from port.onnx.export import build_onnx
    from prototxt_gen.base.errors import CaffeError
    from prototxt_gen.schema.text import parse_prototxt

    phase = "TRAIN" if "# phase: TRAIN" in text or len(text) % 7 == 0 else "TEST"
    try:
        parsed = parse_prototxt(text, dialect=dialect)
        graph = build_graph(parsed, NetState(phase))
        if LARGEST < parameter_bytes(graph) // 4 <= MEMORY // 4:
            return "refused or large"  # to draw so many numbers takes a while
        net = port.load_net(parsed, phase=phase)
    except CaffeError:
        return "refused or large"
    graph, ends = net.caffe, []
    shapes = {v.blob: v.shape or () for v in graph.inputs}
    inputs = _inputs(shapes, whole=len(text) % 2 == 0)
    values = sum(prod(v.shape or ()) for v in graph.values)
    runs = 4 * values > MEMORY or (values <= LARGEST and _work(graph) <= WORK)  # what is between would take its time
    steps = {"torch": lambda: port.run_blobs(net, inputs), "onnx": lambda: build_onnx(net)}
    steps["reference"] = lambda: run_reference(graph, param_arrays(net), inputs)
    for name, step in steps.items():
        try:
            if runs or name == "onnx":
                step()
            ends.append(name)
        except CaffeError as error:
            assert str(error).strip()
    return ", ".join(ends) or "refused later"


def _inputs(shapes: dict[str, tuple[int, ...]], whole: bool) -> dict[str, np.ndarray]:
    """Normal numbers, or 0 and 1, which are labels and indices as well; without memory where they are many."""
    random = np.random.default_rng(0)
    arrays = {}
    for blob, shape in shapes.items():
        if prod(shape) > LARGEST:
            arrays[blob] = np.broadcast_to(np.float32(0.5), shape)
        else:
            normal = random.standard_normal(shape)
            arrays[blob] = np.asarray(normal > 1 if whole else normal, np.float32)
    return arrays


def _work(graph) -> int:
    return sum(
        node.layer.multiply_adds([v.shape for v in node.bottoms], [v.shape for v in node.tops])
        for node in graph.nodes
        if node.layer.kind != "data"
    )


class _TooLong(BaseException):
    """More than SECONDS."""


def _late(*_) -> None:
    raise _TooLong


def _main(first: int, count: int) -> None:
    import torch  # before the limit: its libraries are no part of a net

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    signal.signal(signal.SIGALRM, _late)
    for index in range(first, first + count):
        print(f"{index} begins", flush=True)
        signal.alarm(SECONDS)
        try:
            print(f"{index} {try_net(*mutated(index))}")
        except BaseException as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "/port/" in f.filename]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            print(f"{index} FOUND {type(error).__name__} at {place}: {str(error).splitlines()[:1]}", flush=True)
        finally:
            signal.alarm(0)


def findings(first: int, count: int) -> tuple[list[str], list[str]]:
    """What a process of its own found among mutations, and how each of the others ended."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, __file__, str(first), str(count)]
    found, ends = [], []
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60 + 2 * SECONDS * count, env=environment
        )
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"").decode(), -1
    lines = output.splitlines()
    for line in lines:
        if " FOUND " in line:
            found.append(line)
        elif not line.endswith(" begins"):
            ends.append(line.partition(" ")[2])
    if code or len(found) + len(ends) != count:
        found.append(f"the process ended with {code} after '{lines[-1] if lines else ''}'")
    return found, ends


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
