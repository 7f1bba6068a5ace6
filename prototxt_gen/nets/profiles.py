"""The profiles: the paper's text, a net that takes He's published weights, the authors' release."""

from __future__ import annotations

from dataclasses import replace

from ..paper import Fact
from . import facts, head, postact, released, resnet
from .config import Profile

PAPER = Profile(
    name="paper",
    about="the text of the paper; what it leaves open is said in each file's header",
    main_net=resnet.main_net,
    classifier=resnet.classifier,
    base=head.base,
    attention=head.attention,
    confidence=head.confidence,
    weigh=head.weigh,
    regularization=head.regularization,
    joint=("y", "y_att"),
    joint_fact=Fact("the last step trains the whole net with F(y, y) + F(y, y_att)", section="3.4"),
    facts=facts.PAPER,
)

POSTACT = replace(
    PAPER,
    name="postact",
    about="the paper with He's ResNet-101 of 2015, so that its published ImageNet weights load by name",
    main_net=postact.main_net,
    facts=facts.POSTACT,
)

RELEASED = Profile(
    name="released",
    about="the authors' release, as far as its discussions tell: other names, a larger head, other losses",
    main_net=released.main_net,
    classifier=released.classifier,
    base=released.base,
    attention=released.attention,
    confidence=released.confidence,
    weigh=released.weigh,
    regularization=released.regularization,
    joint=("y_att", "y_sr", "y_cls"),
    joint_fact=Fact(
        "the last step trains with three losses, on y_att, y_sr and y_cls, instead of equation 10",
        source="stated by the authors: it performs slightly better",
    ),
    facts=facts.RELEASED,
    head_facts=facts.RELEASED_HEAD,
)

PROFILES = {profile.name: profile for profile in (PAPER, POSTACT, RELEASED)}
