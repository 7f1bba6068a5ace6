"""What the two Caffes do differently, each difference a named question: `habits(dialect).shares_gradients`.

The numbers are those of docs/semantics.md. Which fields, layer types and packs there are stands in the tables of
`fields.tsv`, `dialect.py` and `packs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import UsageError

_POLICIES = frozenset(["fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid"])


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How one Caffe behaves wherever another behaves otherwise; a Caffe answers every question."""

    # Nets and their files
    most_axes: int  # 0: a blob has no more axes
    legacy_losses: bool  # 0: losses ask bottoms 0 and 1 for N, C, H, W, so that these have at most 4 axes
    file_sets_level: bool  # 2.2: a net file's own level counts
    shapes_win_over_dims: bool  # 2.3: input_shape beside input_dim is taken; else both are refused
    inputs_become_layers: bool  # 2.3: input fields of a net are made an Input layer
    refuses_mixed_formats: bool  # 2.6: a file with `layer` and `layers` is refused; else `layer` is thrown away
    stills_batch_norm: bool  # 2.6: a BatchNorm with three `param` entries gets lr_mult 0, decay_mult 0
    solver_type_is_a_word: bool  # 2.6: a solver's rule is the string `type`; else the enum `solver_type`
    completes_snapshot_prefix: bool  # 2.6: a snapshot_prefix that is missing or a folder is made of the solver's path
    read_by_opencv: bool  # OpenCV's importer has its schema

    # Parameters
    statistics_must_stay: bool  # 1.6: a `param` entry of a statistic must say lr_mult 0
    layers_stop_decay: bool  # 1.8: layers take lr_mult and decay_mult of still blobs; else a statistic's rate alone
    shares_gradients: bool  # 2.7: sharers have one gradient, history and multipliers, the owner's; else each its own
    sharers_must_agree: bool  # 2.7: multipliers that several sharers write must be equal
    negative_rates_learn: bool  # 2.8: a parameter learns where lr_mult is not 0; else where it is above 0

    # Solvers and fillers
    rate_policies: frozenset[str]  # 3.3: the strings that lr_policy may be
    checks_rates: bool  # 3.3: gamma of 0 or more, and a sigmoid's stepsize above 0, or it aborts
    ranks_draw_apart: bool  # 3.6: a rank's seed is the solver's plus its number; else all draw alike
    ranks_test_together: bool  # 3.7: tests are shared out, rank 0's parameters sent around first; else rank 0 tests
    devices_by_rank: bool  # 3.7: device_id lists the GPU of every rank
    centred_bilinear_filler: bool  # 4: the bilinear kernel's centre is the blob's
    legacy_fillers: bool  # 4: xavier, msra, positive_unitball ask for num, channels: at most 4 axes; else 1 or more

    # Data
    deals_blocks: bool  # 3.7: ranks read batches in turn, of Data and of lists; else Data and HDF5Data go item by item
    data_skips_and_shuffles: bool  # 5.3: a Data layer heeds rand_skip and shuffle
    lists_split_at_all_white_space: bool  # 5.4: no path has spaces; else a line is split at the last space
    image_batch: int  # 5.4: ImageData's batch_size where none is written; 0: it must be
    hdf5_takes_integers: bool  # 5.6: HDF5Data reads datasets of integers

    # Layers
    convolves_planes_alone: bool  # 1.1: convolutions and their like take 4 axes
    half_a_pad_is_enough: bool  # 1.1: pad_h without pad_w, or the reverse, leaves the other 0
    transposes_inner_product: bool  # 1.4: InnerProduct has `transpose`
    joins_one: bool  # 1.10: Concat takes one bottom, Slice one top; else 2 or more
    concat_gradient_sticks: bool  # 1.10, a defect: behind a bottom without gradient Concat's backward does not move on
    last_slice_may_be_empty: bool  # 1.10: the last slice_point may be the end
    views_refuse_in_place: bool  # 1.11, 1.12: Reshape and Flatten want a top of their own
    exp_shift_is_a_sign: bool  # 1.13, a defect: with base e Exp multiplies by (-1)^shift
    legacy_dropout: bool  # 1.13: Dropout takes at most 4 axes
    legacy_argmax: bool  # 1.14: ArgMax takes at most 4 axes, and its top has 4
    mvn_gradient_passes: bool  # 1.17, a defect: without variance MVN's backward hands the gradient on unchanged
    pools_one_level: bool  # 1.20: SPP takes pyramid_height 1
    sigmoid_loss_is_by_item: bool  # 1.31: SigmoidCrossEntropyLoss divides by N and heeds no loss_param
    softmax_loss_has_modes: bool  # 1.32: `normalization`, a divisor of at least 1; else `normalize` alone, no floor
    infogain_takes_probabilities: bool  # 1.35: of an item as a whole; else scores, with a softmax inside
    ties_favour_larger_index: bool  # 1.39: Accuracy sorts by score, then index; else a tie counts against the label
    accuracy_of_each_class: bool  # 1.39: Accuracy may have a second top
    accuracy_of_nothing_is_nan: bool  # 1.39: where no label counts; else it is 0


_BVLC = Habits(
    most_axes=32,  # kMaxBlobAxes
    legacy_losses=False,
    file_sets_level=False,
    shapes_win_over_dims=True,
    inputs_become_layers=True,
    refuses_mixed_formats=True,
    stills_batch_norm=True,
    solver_type_is_a_word=True,
    completes_snapshot_prefix=True,
    read_by_opencv=True,
    statistics_must_stay=True,
    layers_stop_decay=False,
    shares_gradients=True,
    sharers_must_agree=True,
    negative_rates_learn=True,
    rate_policies=_POLICIES,
    checks_rates=True,
    ranks_draw_apart=True,
    ranks_test_together=False,
    devices_by_rank=False,
    centred_bilinear_filler=True,
    legacy_fillers=False,
    deals_blocks=False,
    data_skips_and_shuffles=False,
    lists_split_at_all_white_space=False,
    image_batch=1,
    hdf5_takes_integers=True,
    convolves_planes_alone=False,
    half_a_pad_is_enough=True,
    transposes_inner_product=True,
    joins_one=True,
    concat_gradient_sticks=False,
    last_slice_may_be_empty=True,
    views_refuse_in_place=True,
    exp_shift_is_a_sign=False,
    legacy_dropout=False,
    legacy_argmax=False,
    mvn_gradient_passes=False,
    pools_one_level=True,
    sigmoid_loss_is_by_item=False,
    softmax_loss_has_modes=True,
    infogain_takes_probabilities=False,
    ties_favour_larger_index=False,
    accuracy_of_each_class=True,
    accuracy_of_nothing_is_nan=False,
)

_SRN = Habits(
    most_axes=64,  # the fork has no limit, but NumPy has
    legacy_losses=True,
    file_sets_level=True,
    shapes_win_over_dims=False,
    inputs_become_layers=False,
    refuses_mixed_formats=False,
    stills_batch_norm=False,
    solver_type_is_a_word=False,
    completes_snapshot_prefix=False,
    read_by_opencv=False,
    statistics_must_stay=False,
    layers_stop_decay=True,
    shares_gradients=False,
    sharers_must_agree=False,
    negative_rates_learn=False,
    rate_policies=_POLICIES | {"exp10"},
    checks_rates=False,
    ranks_draw_apart=False,
    ranks_test_together=True,
    devices_by_rank=True,
    centred_bilinear_filler=False,
    legacy_fillers=True,
    deals_blocks=True,
    data_skips_and_shuffles=True,
    lists_split_at_all_white_space=True,
    image_batch=0,
    hdf5_takes_integers=False,
    convolves_planes_alone=True,
    half_a_pad_is_enough=False,
    transposes_inner_product=False,
    joins_one=False,
    concat_gradient_sticks=True,
    last_slice_may_be_empty=False,
    views_refuse_in_place=False,
    exp_shift_is_a_sign=True,
    legacy_dropout=True,
    legacy_argmax=True,
    mvn_gradient_passes=True,
    pools_one_level=False,
    sigmoid_loss_is_by_item=True,
    softmax_loss_has_modes=False,
    infogain_takes_probabilities=True,
    ties_favour_larger_index=True,
    accuracy_of_each_class=False,
    accuracy_of_nothing_is_nan=True,
)

_HABITS = {"bvlc": _BVLC, "srn": _SRN}


def habits(dialect: str) -> Habits:
    """The habits of a dialect's Caffe; raises UsageError for a dialect that there is not."""
    if dialect not in _HABITS:
        raise UsageError(f"there is no dialect '{dialect}'; choose one of: {', '.join(_HABITS)}")
    return _HABITS[dialect]
