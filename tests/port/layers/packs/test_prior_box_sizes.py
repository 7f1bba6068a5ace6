"""PriorBox with sizes beyond what 64 bits hold: a box like any other."""

import numpy as np
import pytest
from small_nets import inputs, layer

import port


@pytest.mark.parametrize("size", ["12", "4294967301", "1e30"])
def test_sizes_of_any_magnitude(tmp_path, size):
    text = inputs(feat=(1, 2, 3, 4), data=(1, 3, 30, 40)) + layer(
        "p",
        "PriorBox",
        "feat data",
        "p",
        f"prior_box_param {{ min_size: {size} max_size: {size}1 }}".replace("1e301", "1e31"),
    )
    (tmp_path / "net.prototxt").write_text(text)
    net = port.load_net(tmp_path / "net.prototxt")
    boxes = port.run_blobs(net, {"feat": np.zeros((1, 2, 3, 4)), "data": np.zeros((1, 3, 30, 40))})["p"]
    first = boxes[0, 0].reshape(-1, 4)[:2]
    widths = (first[:, 2] - first[:, 0]) * 40
    low = float(int(np.float32(float(size))))
    high = float(int(np.float32(float(size) * 10 if "e" in size else float(size + "1"))))
    assert np.allclose(widths, [low, (low * high) ** 0.5], rtol=1e-5)
