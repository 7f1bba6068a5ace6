"""The built-in example: miniatures from caffemodel to table, and results that are kept until something changes."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from prototxt_gen.base.command import CHECK_FAILED, OK
from prototxt_gen.base.errors import DataError, UsageError
from prototxt_gen.nets.write import write_net
from reference_weights.miniatures import models as shipped
from reference_weights.miniatures import options as miniature
from reference_weights.miniatures import recipe
from verify.example import embedded, miniatures
from verify.metrics import evaluate

SCENES = 7


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Two nets of a 32nd of the width with seeded weights, and a few scenes."""
    monkeypatch.setattr(recipe, "TEST", SCENES)
    monkeypatch.setattr(recipe, "WIDTH_DIVISOR", 32)
    options = {name: value for name, value in miniature().items() if name != "gpus"}
    for network, seed in (("ResNet-SRN", 3), ("ResNet-101", 3)):
        folder = tmp_path / "models" / f"seed{seed}"
        written = write_net(folder, network, weights=f"seed:{seed}", **options).path
        caffemodel = written.with_suffix(".caffemodel")
        sha256 = hashlib.sha256(caffemodel.read_bytes()).hexdigest()
        about = {"network": network, "seed": seed, "seconds": {"step_1": 90, "step_2": 30}, "sha256": sha256}
        caffemodel.with_suffix(".json").write_text(json.dumps(about))
    return tmp_path


def test_the_models_are_found_in_the_papers_order(small):
    found = shipped.models(small / "models")
    assert [model.name for model in found] == ["ResNet-101, seed 3", "ResNet-SRN, seed 3"]
    assert found[0].minutes == 2


def test_a_damaged_or_missing_model_is_named(small):
    broken, absent = sorted((small / "models" / "seed3").glob("*.caffemodel"))
    broken.write_bytes(broken.read_bytes()[:-1])
    absent.unlink()
    with pytest.raises(DataError) as caught:
        shipped.models(small / "models")
    assert "sha256" in str(caught.value) and str(absent) in str(caught.value)
    with pytest.raises(DataError, match="no miniatures"):
        shipped.models(small / "elsewhere")


def test_from_caffemodels_to_a_table_and_again(small, capsys):
    models = shipped.models(small / "models")
    found, labels = miniatures.results(small / "out", models)
    assert labels.shape == (SCENES, 20) and [result.network for result in found] == ["ResNet-101", "ResNet-SRN"]
    for result in found:
        assert result.scores.shape == labels.shape and 0 < result.apart < miniatures.TOLERANCE and not result.cached
        assert result.figures["F1-O"] == evaluate(result.scores, labels)["F1-O"]
    page = miniatures.report(found, labels, {model.name: model.minutes for model in models})
    for expected in ("ResNet-101, seed 3", "Table 2 of the paper", "77.1", "does not say", "ResNet-SRN minus"):
        assert expected in page
    capsys.readouterr()

    again, _ = miniatures.results(small / "out", models)
    assert all(result.cached for result in again) and capsys.readouterr().out.count("nothing has changed") == 2
    assert all(np.array_equal(one.scores, two.scores) for one, two in zip(found, again, strict=True))

    changed = small / "out" / "seed3" / "shapes_resnet101_scores.txt"
    changed.write_text(changed.read_text().replace("1", "2", 1))
    third, _ = miniatures.results(small / "out", models)
    assert [result.cached for result in third] == [False, True]
    assert np.array_equal(third[0].scores, found[0].scores)


def test_a_runtime_that_computes_something_else_is_caught(small, monkeypatch):
    right = miniatures.run_blobs
    monkeypatch.setattr(miniatures, "run_blobs", lambda net, inputs: right(net, {"data": inputs["data"][:, ::-1]}))
    with pytest.raises(DataError, match="ONNX Runtime's logits are"):
        miniatures.results(small / "out", shipped.models(small / "models"))
    assert not list((small / "out").glob("seed3/*_scores.json")), "a result that failed is not kept"


def test_other_scenes_in_the_folder_are_refused(small, monkeypatch):
    models = shipped.models(small / "models")[:1]
    miniatures.results(small / "out", models)
    monkeypatch.setattr(recipe, "SCENES_SEED", 9)
    with pytest.raises(UsageError, match="seed"):
        miniatures.results(small / "out", models)


def test_the_gain_is_that_of_the_nets_and_its_interval_holds_it():
    random = np.random.default_rng(5)
    labels = (random.random((150, 4)) < 0.3).astype(np.int8)
    good = labels * 2.0 + random.standard_normal(labels.shape)
    bad = labels * 0.3 + random.standard_normal(labels.shape)
    one, two = (miniatures.resampled(scores, labels) for scores in (good, bad))
    gain, low, high = miniatures.paired(one, two)
    assert gain == pytest.approx(100 * (evaluate(good, labels)["mAP"] - evaluate(bad, labels)["mAP"]))
    assert 0 < low < gain < high
    assert miniatures.paired(one, one) == (0, 0, 0)
    assert miniatures.paired(two, one) == pytest.approx((-gain, -high, -low))


class Proof:
    """Counts how often it was run."""

    def __init__(self, status=OK):
        self.status, self.runs = status, 0

    def __call__(self):
        self.runs += 1
        print("proving")
        return self.status, f"proof {self.runs}"


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(b"an image")
    return path


def test_a_proof_is_kept_until_something_changes(tmp_path, image, capsys, monkeypatch):
    proof, record = Proof(), tmp_path / "proof.json"
    assert embedded.kept_or_run(record, [image], proof) == embedded.kept_or_run(record, [image], proof) == OK
    assert proof.runs == 1 and "proof 1\n(as proved before" in capsys.readouterr().out
    image.write_bytes(b"another")
    embedded.kept_or_run(record, [image], proof)
    assert proof.runs == 2
    monkeypatch.setattr(embedded, "package_digest", lambda: "other code")
    embedded.kept_or_run(record, [image], proof)
    assert proof.runs == 3
    for damage in ("", "{", "[]", json.dumps({"key": 1})):
        record.write_text(damage)
        embedded.kept_or_run(record, [image], proof)
    assert proof.runs == 7


def test_a_proof_that_failed_is_not_kept(tmp_path, image):
    proof = Proof(CHECK_FAILED)
    for _ in range(2):
        assert embedded.kept_or_run(tmp_path / "proof.json", [image], proof) == CHECK_FAILED
    assert proof.runs == 2 and not (tmp_path / "proof.json").exists()


def test_what_is_printed_is_kept_and_shown(capsys):
    copied = embedded._Copied(sys.stdout)
    print("one", file=copied, flush=True)
    assert copied.getvalue() == "one\n" == capsys.readouterr().out
