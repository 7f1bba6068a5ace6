"""The heads of ResNet-SRN, ResNet-SRN-att and of their second training step (figure 2, 3.2 to 3.4)."""

from __future__ import annotations

from ..builder import NetBuilder
from .config import Main, NetConfig


def srn(net: NetBuilder, config: NetConfig, main: Main) -> None:
    """The full head: A and S, U, y_sr, and y = alpha y_cls + (1 - alpha) y_sr."""
    A, S = attention(net, config, main)
    net.section("Regularization f_sr (3.3): U = sigmoid(S) * A, then y_sr", part="regularization")
    y_sr = config.profile.regularization(net, config, config.profile.weigh(net, A, S))
    weighted_sum(net, config, main.y_cls, y_sr)


def srn_att(net: NetBuilder, config: NetConfig, main: Main) -> None:
    """The same with A in place of U (4); S then only serves y_att, which trains the attention."""
    if config.step is None:
        A = config.profile.attention(net, config, config.profile.base(net, config, main.X))
    else:
        A, _ = attention(net, config, main)
    net.section("Regularization f_sr (3.3) of the attention A itself: y_sr", part="regularization")
    y_sr = config.profile.regularization(net, config, A)
    weighted_sum(net, config, main.y_cls, y_sr)


def attention(net: NetBuilder, config: NetConfig, main: Main) -> tuple[str, str]:
    """A and S (3.2), both N x C x 14 x 14; in train_val nets also y_att, N x C logits."""
    profile = config.profile
    x = profile.base(net, config, main.X)
    A = profile.attention(net, config, x)
    S = profile.confidence(net, config, x)
    if config.step is not None:
        net.section("y_att (3.2): the sum of A * S over the positions", part="attended sum")
        where = config.only_monitored("y_att")
        product = net.Eltwise("attended_confidence", A, S, operation="PROD", **where)
        net.Reduction("attended_sum", product, top="y_att", operation="SUM", axis=2, **where)
    return A, S


def weighted_sum(net: NetBuilder, config: NetConfig, y_cls: str, y_sr: str) -> str:
    """y = alpha y_cls + (1 - alpha) y_sr (3.4)."""
    alpha = config.head.alpha
    net.section(f"Output (3.4): y = {alpha} y_cls + {1 - alpha} y_sr", part="output")
    coeff = [alpha, 1 - alpha]
    where = config.only_monitored("y")
    return net.Eltwise("weighted_sum", y_cls, y_sr, top="y", operation="SUM", coeff=coeff, **where)
