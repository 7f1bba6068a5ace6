"""Lines that libraries print by themselves stay off the terminal; ours come through."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_nets import conv, inputs

import port

TALK = """
import os, sys, logging, warnings
from prototxt_gen.base.quiet import libraries_quiet
def talk(word):
    os.write(2, f"library {word}\\n".encode())
    print(f"ours {word}", file=sys.stderr)
talk("before")
with libraries_quiet():
    talk("within")
    logging.getLogger("tifffile").error("tifffile within")
    try:
        with libraries_quiet():
            talk("deeper")
            raise ValueError
    except ValueError:
        talk("again")
talk("after")
logging.getLogger("tifffile").error("tifffile after")
"""


def test_only_what_python_says_comes_through():
    done = subprocess.run([sys.executable, "-c", TALK], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        *("library before", "ours before", "ours within", "ours deeper", "ours again"),
        *("library after", "ours after", "tifffile after"),
    ]


@pytest.fixture
def damaged(tmp_path):
    """A net, and TIFF files of which libtiff and tifffile have something to say."""
    net = tmp_path / "net.prototxt"
    net.write_text(inputs(data=(1, 3, 16, 16)) + conv("c", "data", "c", 4, 16))
    port.save_caffemodel(port.load_net(net), tmp_path / "net.caffemodel")
    pixels = np.random.RandomState(0).randint(0, 256, (33, 41, 3)).astype(np.uint8)
    (tmp_path / "photos").mkdir()
    for i, compression in enumerate(("tiff_lzw", "tiff_deflate", "raw")):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "TIFF", compression=compression)
        data = bytearray(file.getvalue())
        data[60:90] = bytes(30)
        (tmp_path / "photos" / f"{i}.tif").write_bytes(data if i < 2 else data[:200])
    return tmp_path


@pytest.mark.parametrize("resize", ["authors", "caffe"])
def test_scoring_says_what_is_wrong_in_its_own_words(damaged, resize):
    words = ["--prototxt", "net.prototxt", "--caffemodel", "net.caffemodel", "--output", "s.txt", "photos"]
    done = subprocess.run(
        [sys.executable, "-m", "port", "score", *words, "--resize", resize],
        cwd=damaged,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
    for word in ("TIFFReadDirectory", "tifffile.", "ZIPDecode", "not yet in table", "WARN:", "UserWarning"):
        assert word not in done.stderr, done.stderr
