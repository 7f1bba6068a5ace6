"""The paper's networks (4), and the steps in which each is trained (3.4)."""

from __future__ import annotations

from ..paper import Deeper, Fact, Head, MainNet, Semantic
from .config import HeadBuilder, Network, Step
from .semantic import semantic
from .srn import attention, srn, srn_att

_BY_ANALOGY = "the paper says nothing of this baseline's training; like that of the SRN"

MAIN_NET = Step(
    number=1,
    name="resnet101",
    about="the main net alone",
    start="ImageNet weights",
    network="ResNet-101",
    losses=("y_cls",),
    facts=(Fact("step 1 finetunes the main net only, with F(y, y_cls), from ImageNet weights", section="3.4"),),
)
DEEPER = Step(
    number=1,
    name="resnet107",
    about="the whole net",
    start="the ImageNet weights of ResNet-101",
    network="ResNet-107",
    losses=("y_cls",),
    facts=(Fact("one step like that of ResNet-101, the new units from fillers", reason=_BY_ANALOGY),),
)
SEMANTIC = (
    Step(
        number=2,
        name="resnet101_semantic",
        about="the new layers, with the main net fixed",
        network="ResNet-101-semantic",
        head=semantic,
        trained=("semantic",),
        losses=("y",),
        facts=(Fact("step 2 trains the new layers alone with F(y, y)", reason=_BY_ANALOGY),),
    ),
    Step(
        number=3,
        name="resnet101_semantic_finetune",
        about="the whole net",
        network="ResNet-101-semantic",
        head=semantic,
        losses=("y",),
        facts=(Fact("step 3 trains the whole net with F(y, y)", reason=_BY_ANALOGY),),
    ),
)
ATTENTION = Step(
    number=2,
    name="resnet101_att",
    about="attention and conv1, with the main net fixed",
    network="ResNet-SRN",
    head=attention,
    trained=("attention", "confidence"),
    losses=("y_att",),
    facts=(Fact("step 2 fixes f_cnn and f_cls and trains f_att and conv1 with F(y, y_att)", section="3.4"),),
)


def spatial_steps(name: str, network: str, head: HeadBuilder) -> tuple[Step, ...]:
    """All four steps (3.4) of a net with the paper's head; `name` is its part of the file names."""
    third = Step(
        number=3,
        name=name,
        about="the regularization alone",
        network=network,
        head=head,
        trained=("regularization",),
        losses=("y_sr",),
        facts=(Fact("step 3 fixes everything else and trains f_sr with F(y, y_sr)", section="3.4"),),
    )
    return MAIN_NET, ATTENTION, third, Step(4, f"{name}_finetune", "the whole net", network, head)


_ALL = (
    Network("ResNet-101", "resnet101", "baseline: the main net with C outputs", (MAIN_NET,)),
    Network(
        name="ResNet-107",
        file="resnet107",
        about="baseline: two more residual units in the main net",
        steps=(DEEPER,),
        extra_units=Deeper().extra_units,
        numbers=(MainNet(), Deeper()),
    ),
    Network(
        name="ResNet-101-semantic",
        file="resnet101_semantic",
        about="baseline: confidences and features, fully connected",
        steps=(MAIN_NET, *SEMANTIC),
        head=semantic,
        numbers=(MainNet(), Semantic()),
    ),
    Network(
        name="ResNet-SRN-att",
        file="resnet101_srn_att",
        about="the SRN fed with the attention A instead of U",
        steps=spatial_steps("resnet101_srn_att", "ResNet-SRN-att", srn_att),
        head=srn_att,
        numbers=(MainNet(), Head()),
        facts=(Fact("the regularization reads the unweighted attention maps A instead of U", section="4"),),
    ),
    Network(
        name="ResNet-SRN",
        file="resnet101_srn",
        about="the full net: main net and regularization head",
        steps=spatial_steps("resnet101_srn", "ResNet-SRN", srn),
        head=srn,
        numbers=(MainNet(), Head()),
    ),
)
NETWORKS = {network.name: network for network in _ALL}
