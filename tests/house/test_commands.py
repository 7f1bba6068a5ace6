"""The commands: help with examples that parse, bad input as one clear line and status 2, never a traceback."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from small_nets import conv, fully, inputs, layer

import port
from prototxt_gen.base.command import BAD_INPUT, CHECK_FAILED, INTERRUPTED, OK, run
from prototxt_gen.base.errors import NetError, Problem, UsageError
from prototxt_gen.commands.moved import MOVED

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parents[1] / "golden" / "layers"
PROGRAMS = {
    "prototxt_gen": "prototxt_gen.__main__",
    "reference_weights": "reference_weights.__main__",
    "port": "port.__main__",
    "verify": "verify.__main__",
    "verify/reproduce_table1.py": "verify.reproduce_table1",
    "verify/reproduce_table2.py": "verify.reproduce_table2",
    "verify/reproduce_table3.py": "verify.reproduce_table3",
}
each_program = pytest.mark.parametrize("program", PROGRAMS)


@pytest.fixture
def call(capsys):
    """Program and arguments -> exit status, stdout, stderr; in this process, as `python -m` would."""

    def start(program: str, *arguments) -> tuple[int, str, str]:
        main = import_module(PROGRAMS[program]).main
        try:
            status = run(main, [str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = stop.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return start


# -- help ---------------------------------------------------------------------------------------------------
@each_program
def test_help_ends_in_examples(call, program):
    status, out, _ = call(program, "--help")
    assert status == 0 and out.startswith("usage: python ")
    examples = out.partition("\nexamples:\n")[2].replace("\\\n", " ")
    assert len(re.findall(r"^  python ", examples, re.MULTILINE)) >= 2


def subcommands(program: str, call) -> list[str]:
    out = call(program, "--help")[1]
    listed = re.search(r"\{([\w,-]+)\}", out.partition("options:")[0])
    if listed:
        return listed[1].split(",")
    return re.findall(r"^    (\w+)  ", out.partition("options:")[0], re.MULTILINE)


@pytest.mark.parametrize("program", [program for program in PROGRAMS if not program.endswith(".py")])
def test_every_command_has_help(call, program):
    names = subcommands(program, call)
    assert len(names) >= 2
    for name in set(names) - set(MOVED if program == "prototxt_gen" else ()):
        status, out, _ = call(program, name, "--help")
        assert status == 0 and out.startswith(f"usage: python -m {program} {name}")


def test_commands_that_moved_are_the_same_as_those_they_stand_for():
    for name, (program, verb) in MOVED.items():
        asked = [("prototxt_gen", name), (program, verb)]
        told = [
            subprocess.run([sys.executable, "-m", *words, "--help"], cwd=ROOT, capture_output=True, text=True)
            for words in asked
        ]
        assert told[0].returncode == 0 and told[0].stdout == told[1].stdout
        assert told[0].stdout.startswith(f"usage: python -m {program} {verb}")


@each_program
def test_the_examples_are_understood(call, program, monkeypatch):
    """Up to where the work would begin: a renamed option must not leave a stale example behind."""
    out = call(program, "--help")[1]
    examples = out.partition("\nexamples:\n")[2].replace("\\\n", " ")
    parse = argparse.ArgumentParser.parse_args

    class Understood(Exception):
        pass

    def stop(self, *args, **options):
        parse(self, *args, **options)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    main = import_module(PROGRAMS[program]).main
    for line in examples.strip().splitlines():
        words = shlex.split(line.partition("  #")[0])
        assert words[0] in ("python", "torchrun") and program in words[1:5]
        if program == "prototxt_gen" and words[3] in MOVED:
            continue  # another program's, which is asked the same
        with pytest.raises(Understood):
            main(words[words.index(program) + 1 :])


@each_program
def test_wrong_usage_is_2(call, program):
    for arguments in (["--nonsense"], ["nonsense"], [] if not program.endswith(".py") else ["--nonsense"]):
        status, out, err = call(program, *arguments)
        assert status == 2 and "usage: " in err and "error: " in err and not out


# -- bad input ----------------------------------------------------------------------------------------------
NET = inputs(data=(1, 3, 17, 19)) + conv("c", "data", "c", 4, 3) + fully("f", "c", "y", 5)


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Good and bad files by name."""
    texts = {
        "good.prototxt": NET,
        "typo.prototxt": NET.replace("num_output: 5", "num_outputs: 5"),
        "unknown.prototxt": NET + layer("q", "Quux", "y", "q") + layer("z", "Xyzzy", "y", "z"),
        "bottom.prototxt": NET.replace('bottom: "c"', 'bottom: "cc"'),
        "misfit.prototxt": NET.replace("kernel_size: 3", "kernel_size: 33"),
        "dropout.prototxt": NET + layer("d", "Dropout", "y", "d"),
        "page.caffemodel": "<!DOCTYPE html>\n<html><body>Not found</body></html>\n",
        "empty.caffemodel": "",
        "photo.jpg": "no image\n",
        "bad.npz": "no zip\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    net = port.load_net(tmp_path / "good.prototxt")
    port.save_caffemodel(net, tmp_path / "good.caffemodel")
    data = (tmp_path / "good.caffemodel").read_bytes()
    (tmp_path / "cut.caffemodel").write_bytes(data[: len(data) // 2])
    (tmp_path / "binary.prototxt").write_bytes(data)
    (tmp_path / "other.caffemodel").write_bytes((GOLDEN / "bvlc" / "inner_product_0.caffemodel").read_bytes())
    (tmp_path / "folder").mkdir()
    return {path.name: path for path in tmp_path.iterdir()} | {"absent": tmp_path / "absent"}


NETS = [
    # the net, what the error says
    (
        "typo.prototxt",
        "typo.prototxt:4:",
        "field 'inner_product_param.num_outputs'",
        "Did you mean 'num_output'?",
    ),
    (
        "unknown.prototxt",
        "unknown.prototxt:5: layer 'q': the layer type 'Quux' is unknown",
        "'Xyzzy' is unknown",
    ),
    ("bottom.prototxt", "bottom.prototxt:4: layer 'f'", "the bottom 'cc' is not made", "Did you mean 'c'?"),
    (
        "misfit.prototxt",
        "misfit.prototxt:3: layer 'c', field 'kernel_size'",
        "17x19",
        "as large as the kernel",
    ),
    ("binary.prototxt", "binary.prototxt", "text"),
    ("absent", "absent", "No such file", "Check the path"),
    ("folder", "folder", "a folder"),
]
WEIGHTS = [
    (
        "other.caffemodel",
        "layer 'c': the file has no such layer; expected blobs 4x3x3x3, 4",
        "layer 'f'",
        "another net",
    ),
    ("cut.caffemodel", "cut.caffemodel"),
    ("page.caffemodel", "page.caffemodel", "HTML"),
    ("empty.caffemodel", "empty.caffemodel", "empty"),
    ("absent", "absent", "No such file"),
]


def assert_bad_input(result: tuple[int, str, str], *says: str) -> None:
    status, out, err = result
    assert status == BAD_INPUT, out + err
    lines = [line for line in err.splitlines() if not line.startswith("running: ")]
    assert lines and lines[0].startswith("error: ")
    for text in says:
        assert text.lower() in err.lower(), err


@pytest.mark.parametrize(("name", "says"), [(name, says) for name, *says in NETS])
def test_bad_nets(call, files, tmp_path, name, says):
    output = tmp_path / "out.onnx"
    weights = ["--caffemodel", files["good.caffemodel"]]
    assert_bad_input(call("port", "export", "--prototxt", files[name], *weights, "--output", output), *says)
    assert_bad_input(call("verify", "net", "--prototxt", files[name], *weights), *says)
    assert not output.exists()


@pytest.mark.parametrize(("name", "says"), [(name, says) for name, *says in WEIGHTS])
def test_bad_weights(call, files, tmp_path, name, says):
    output = tmp_path / "out.onnx"
    net = ["--prototxt", files["good.prototxt"], "--caffemodel", files[name]]
    assert_bad_input(call("port", "export", *net, "--output", output), *says)
    assert_bad_input(call("verify", "net", *net), *says)
    assert not output.exists()


BAD = [
    ("port", ["export", "--opset", 10, "--output", "{out}", "{good}"], ["opset 10; expected 11 to 26"]),
    ("port", ["export", "--output", "{photo.jpg}/x.onnx", "{good}"], ["cannot write"]),
    (
        "port",
        ["export", "--phase", "TRAIN", "--output", "{out}", "{dropout}"],
        ["layer 'd'", "Dropout in TRAIN phase"],
    ),
    ("port", ["inspect", "{absent}"], ["No such file"]),
    ("port", ["inspect", "{folder}"], ["folder"]),
    ("port", ["inspect", "{page.caffemodel}"], ["page.caffemodel"]),
    ("port", ["inspect", "{cut.caffemodel}"], ["cut.caffemodel"]),
    ("verify", ["golden", "{absent}"], ["is not a folder"]),
    ("verify", ["golden", "{folder}"], ["no recorded case"]),
    ("verify", ["net", "--image", "{photo.jpg}", "{good}"], ["photo.jpg: cannot be read"]),
    ("verify", ["net", "--batch", 0, "{good}"], ["--batch 0; expected 1 or more"]),
    ("prototxt_gen", ["write", "--network", "ResNet-SNR"], ["did you mean 'ResNet-SRN'?"]),
    ("prototxt_gen", ["write", "--network", "resnet-srn"], ["did you mean 'ResNet-SRN'?"]),
    (
        "prototxt_gen",
        ["write", "--network", "ResNet-SRN", "--classes", 0, "--output", "{out}"],
        ["--classes 0"],
    ),
    (
        "prototxt_gen",
        ["write", "--network", "ResNet-SRN", "--output", "{out.txt}"],
        ["a name ending in .prototxt"],
    ),
    (
        "prototxt_gen",
        ["write", "--network", "ResNet-SRN", "--weights", "sed:7", "--output", "{out}"],
        ["seed"],
    ),
    ("reference_weights", ["list", "--dataset", "cocoa"], ["coco"]),
    ("verify/reproduce_table2.py", ["--scores", "{absent}", "--labels", "{absent}"], ["No such file"]),
    ("verify/reproduce_table2.py", ["--image", "{photo.jpg}"], ["photo.jpg: cannot be read"]),
]


@pytest.mark.parametrize(("program", "arguments", "says"), BAD)
def test_bad_arguments(call, files, tmp_path, monkeypatch, program, arguments, says):
    monkeypatch.chdir(tmp_path)  # whatever an example writes by default
    names = files | {"out": tmp_path / "out", "out.txt": tmp_path / "out.txt"}
    words: list[str] = []
    for word in map(str, arguments):
        if word in ("{good}", "{dropout}"):
            net = files[f"{word[1:-1]}.prototxt"]
            words += ["--prototxt", str(net), "--caffemodel", str(files["good.caffemodel"])]
        else:
            words.append(re.sub(r"\{([\w.]+)\}", lambda match: str(names[match[1]]), word))
    assert_bad_input(call(program, *words), *says)
    assert not names["out"].exists() and not names["out.txt"].exists()


# -- the shared frame ---------------------------------------------------------------------------------------
def test_all_problems_are_printed_one_a_line(capsys):
    def main(argv):
        print("so far")
        raise NetError([Problem("one", file="net.prototxt", line=3), Problem("two", "three", "four")])

    assert run(main, []) == BAD_INPUT == 2
    out, err = capsys.readouterr()
    assert out == "so far\n" and err == "error: net.prototxt:3: one\nerror: two; expected three. Four\n"


def test_statuses(capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    def misused(argv):
        raise UsageError("no")

    assert run(lambda argv: OK) == 0 and run(lambda argv: CHECK_FAILED) == 1
    assert run(misused) == 2 and run(interrupted) == INTERRUPTED == 130
    with pytest.raises(ZeroDivisionError):  # a mistake of ours is no bad input
        run(lambda argv: 1 // 0)


def test_as_programs(tmp_path):
    """The same through the interpreter's own door."""
    bad = ["-m", "prototxt_gen", "write", "--network", "ResNet-SNR", "--output", str(tmp_path)]
    script = [str(ROOT / "verify" / "reproduce_table2.py"), "--scores", "absent.txt", "--labels", "absent.txt"]
    for command in (bad, script):
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_away_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m prototxt_gen list | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


CUT = [(50, 50, "49"), (51, 51, "and 1 more problems"), (1234, 51, "and 1,184 more")]


@pytest.mark.parametrize(("count", "lines", "last"), CUT)
def test_long_lists_are_cut_and_counted(capsys, count, lines, last):
    def main(argv):
        raise NetError([Problem(str(i)) for i in range(count)])

    assert run(main, []) == BAD_INPUT
    said = capsys.readouterr().err.splitlines()
    assert len(said) == lines and last in said[-1]
