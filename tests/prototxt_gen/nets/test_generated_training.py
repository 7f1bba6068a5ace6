"""The train_val nets: data layers, losses, and which layers each step moves."""

from __future__ import annotations

import pytest
from generated import DIALECTS, PROFILES, VARIANTS, in_phase, message, own_steps

from prototxt_gen.nets import NETWORKS, configure
from prototxt_gen.nets.write import net_text

SRN_2 = {
    "paper": ["att_conv1", "att_conv2", "att_conv3", "conf_conv1"],
    "released": [
        "att.BN_1", "att.Conv_3", "att.BN_4", "att.Conv_6", "att.BN_7", "att.Conv_9",
        "att.BN_11", "att.Conv_13", "att.BN_14", "att.Conv_16", "att.BN_17", "att.Conv_19", "att.BN_21",
        "att.att_Conv_1", "att.att_BN_1", "att.att_Conv_2", "att.att_BN_2", "att.att_Conv_3",
        "att.feat_Conv_1", "att.feat_BN_1", "att.feat_Conv_2",
    ],
}  # fmt: skip
SRN_3 = {
    "paper": ["sr_conv2", "sr_conv3", "sr_conv4", "sr_fc"],
    "released": [
        "comb.comb_Conv_1", "comb.comb_BN_1", "comb.comb_Conv_2", "comb.comb_BN_2",
        "comb.comb_Conv_3", "comb.comb_BN_3", "comb.comb_InnerProduct_4",
    ],
}  # fmt: skip
SEMANTIC_2 = ["semantic_fc1", "semantic_fc2", "semantic_fc3"]

# What each step trains: layers in the dialect srn; None: every layer with weights.
TRAINED = {
    **{("ResNet-101", 1, profile): None for profile in PROFILES},
    **{("ResNet-107", 1, profile): None for profile in PROFILES},
    **{("ResNet-101-semantic", 2, profile): SEMANTIC_2 for profile in PROFILES},
    **{("ResNet-101-semantic", 3, profile): None for profile in PROFILES},
    **{("ResNet-SRN", 2, profile): SRN_2.get(profile, SRN_2["paper"]) for profile in PROFILES},
    **{("ResNet-SRN", 3, profile): SRN_3.get(profile, SRN_3["paper"]) for profile in PROFILES},
    **{("ResNet-SRN-att", 3, profile): SRN_3.get(profile, SRN_3["paper"]) for profile in PROFILES},
    **{("ResNet-SRN", 4, profile): None for profile in PROFILES},
    **{("ResNet-SRN-att", 4, profile): None for profile in PROFILES},
}

# The losses of TRAIN, over the labels: (3.4) and, for the last step of the release, the authors' word.
LOSSES = {
    ("ResNet-101", 1): ["y_cls"],
    ("ResNet-107", 1): ["y_cls"],
    ("ResNet-101-semantic", 2): ["y"],
    ("ResNet-101-semantic", 3): ["y"],
    ("ResNet-SRN", 2): ["y_att"],
    ("ResNet-SRN", 3): ["y_sr"],
    ("ResNet-SRN-att", 3): ["y_sr"],
}
JOINT = {"paper": ["y", "y_att"], "postact": ["y", "y_att"], "released": ["y_att", "y_sr", "y_cls"]}

BLOBS = {"Convolution": 1, "InnerProduct": 2, "BN": 4, "BatchNorm": 3, "Scale": 2}  # convolutions: bias apart

each_net = pytest.mark.parametrize(("network", "step"), own_steps(), ids=lambda value: str(value))
each_variant = pytest.mark.parametrize(("profile", "dialect"), VARIANTS)


def weighted(net) -> dict[str, int]:
    """Layer -> number of its blobs, of the layers that have any."""
    return {
        layer.name: BLOBS[layer.type] + (layer.type == "Convolution" and layer.convolution_param.bias_term)
        for layer in net.layer
        if layer.type in BLOBS
    }


def test_the_lists_of_this_file_cover_every_step():
    assert {(network, step) for network, step, _ in TRAINED} == set(own_steps())
    assert set(LOSSES) | {("ResNet-SRN", 4), ("ResNet-SRN-att", 4)} == set(own_steps())
    assert [step.number for step in NETWORKS["ResNet-SRN"].steps] == [1, 2, 3, 4]


@each_net
@each_variant
def test_a_step_trains_exactly_its_layers(network, step, profile, dialect):
    net = message(network, profile, dialect, step)
    wanted = TRAINED[network, step, profile]
    blobs = weighted(net)
    if wanted is not None and dialect == "bvlc":
        # one more layer for the affine part of each BN
        wanted = [each for name in wanted for each in ([name, f"{name}_scale"] if "BN_" in name else [name])]
    moving = []
    for layer in net.layer:
        if layer.name not in blobs:
            assert not layer.param, layer.name
            continue
        frozen = layer.bn_param.frozen if dialect == "srn" else layer.batch_norm_param.use_global_stats
        if layer.param:
            rates = [(entry.lr_mult, entry.decay_mult) for entry in layer.param]
            assert rates == [(0, 0)] * blobs[layer.name], f"{layer.name}: every blob has its entry"
            assert frozen == (layer.type in ("BN", "BatchNorm")), f"{layer.name}: statistics must not move"
        else:
            assert not frozen, layer.name
            moving.append(layer.name)
    assert moving == (list(blobs) if wanted is None else wanted)


@each_net
@each_variant
def test_losses(network, step, profile, dialect):
    net = message(network, profile, dialect, step)
    trained = LOSSES.get((network, step), JOINT[profile])
    losses = {phase: [x for x in in_phase(net, phase) if x.type.endswith("Loss")] for phase in ("TRAIN", "TEST")}
    assert [list(layer.bottom) for layer in losses["TRAIN"]] == [[logits, "label"] for logits in trained]
    assert {layer.type for layer in net.layer if layer.type.endswith("Loss")} == {"SigmoidCrossEntropyLoss"}
    assert not any(layer.loss_weight for layer in net.layer), "each loss counts once"
    # in TEST the losses of all logits that the net has are watched
    made = {top for layer in in_phase(net, "TEST") for top in layer.top}
    watched = [layer.bottom[0] for layer in losses["TEST"]]
    assert sorted(watched) == sorted(made & {"y_cls", "y_att", "y_sr", "y"})
    names = {"y_cls": "loss_cls", "y_att": "loss_att", "y_sr": "loss_sr", "y": "loss"}
    assert all(list(layer.top) == [names[layer.bottom[0]]] == [layer.name] for layer in losses["TEST"])


@each_net
@each_variant
def test_nothing_but_losses_is_left_unread(network, step, profile, dialect):
    """Caffe prints every output blob: N x C logits would drown the losses."""
    net = message(network, profile, dialect, step)
    for phase in ("TRAIN", "TEST"):
        layers = in_phase(net, phase)
        read = {bottom for layer in layers for bottom in layer.bottom}
        losses = {layer.top[0] for layer in layers if layer.type.endswith("Loss")}
        assert {top for layer in layers for top in layer.top} - read == losses, phase


@pytest.mark.parametrize("dialect", DIALECTS)
def test_data_layers(dialect):
    net = message("ResNet-SRN", "paper", dialect, 2)
    layers = [layer for layer in net.layer if layer.type == "Data"]
    assert [(layer.name, list(layer.top), layer.include[0].phase) for layer in layers] == [
        ("data", ["data"], 0), ("label", ["label"], 0), ("data", ["data"], 1), ("label", ["label"], 1),
    ]  # fmt: skip
    assert [layer.data_param.source for layer in layers] == [
        f"datasets/coco/coco_{split}_{content}_lmdb" for split in ("train", "test") for content in ("image", "label")
    ]
    assert all(layer.data_param.backend == layer.data_param.LMDB for layer in layers)
    assert [layer.data_param.batch_size for layer in layers] == [24, 24, 12, 12]
    train, labels, test, _ = layers
    for layer in (train, test):
        assert list(layer.transform_param.mean_value) == [104, 117, 123]  # blue, green, red
        assert layer.transform_param.crop_size == 224
    assert train.transform_param.mirror and not test.transform_param.mirror
    assert not labels.HasField("transform_param")
    if dialect == "srn":
        assert not any(layer.data_param.shuffle for layer in layers), "two databases must stay in step"


def test_augmentation_is_the_papers():
    about = message("ResNet-101", "paper", "srn", 1).layer[0].transform_param
    assert about.fix_crop and about.multi_scale and not about.more_fix_crop
    # the fork's rule: trunc(float32(256) * float32(ratio)), two sides drawn among all pairs
    assert [int(256 * ratio) for ratio in about.scale_ratios] == [256, 224, 192, 168, 128]
    pairs = [(i, j) for i in range(5) for j in range(5) if abs(i - j) <= about.max_distort]
    assert len(pairs) == 25
    stock = message("ResNet-101", "paper", "bvlc", 1).layer[0].transform_param
    assert {field.name for field, _ in stock.ListFields()} == {"mirror", "crop_size", "mean_value"}


def test_the_header_says_what_stock_caffe_loses():
    head = net_text("ResNet-SRN", dialect="bvlc", step=4).partition("\nname:")[0].replace("\n#  ", "")
    assert "Lost, as stock Caffe has no multi-scale crops: the sizes 256, 192, 168, 128, the aspect ratios" in head
    assert "Lost" not in net_text("ResNet-SRN", dialect="srn", step=4)


def test_the_header_tells_known_from_reconstructed():
    head = net_text("ResNet-SRN", profile="released", dialect="srn", step=4).partition("\nname:")[0]
    stated, _, rest = head.partition("# Known from elsewhere:")
    known, _, reconstructed = rest.partition("# Reconstructed, with the reason:")
    assert "three losses, on y_att, y_sr and y_cls" in known and "stated by the authors" in known
    assert "which number each layer has: counted" in reconstructed.replace("\n#  ", "")
    assert "3.4: step" not in stated, "the release departs from equation 10"
    assert "F(y, y) + F(y, y_att)" in net_text("ResNet-SRN", profile="paper", step=4).partition("\nname:")[0]


@pytest.mark.parametrize("network", ["ResNet-101-semantic", "ResNet-107"])
def test_the_header_says_that_a_baselines_training_is_reconstructed(network):
    head = net_text(network, step=1 if network == "ResNet-107" else 2).partition("\nname:")[0]
    reconstructed = head.partition("# Reconstructed")[2].replace("\n#  ", "")
    assert "the paper says nothing of this baseline's training" in reconstructed


def test_the_step_is_checked():
    from prototxt_gen.base.errors import UsageError

    with pytest.raises(UsageError, match=r"step 3 is not possible; expected one of the steps of ResNet-101: 1"):
        configure("ResNet-101", step=3)
    assert configure("ResNet-SRN-att", step=2).network.name == "ResNet-SRN", "whose files they are"
