"""Packs: what families of forks add to Caffe, and how a net that uses one is recognised.

A net is of a base dialect (`bvlc` or `srn`) plus the packs it uses. A pack is recognised by a layer type, a field or an
enum value that the base does not have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from ..base.errors import Problems, UsageError, closest
from .community import community_rows, field_forks, value_forks


@dataclass(frozen=True)
class Pack:
    """A family of additions: what it is, the forks that have it, its layer types, LayerParameter's fields for them."""

    title: str
    forks: tuple[str, ...]
    types: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()


def _pack(title: str, forks: str, types: str = "", fields: str = "") -> Pack:
    return Pack(title, tuple(forks.split()), frozenset(types.split()), frozenset(fields.split()))


PACKS: dict[str, Pack] = {
    "ssd": _pack(
        "Single Shot MultiBox Detector",
        "nvidia intel mobilenet_yolo synopsys textboxes",
        "Permute PriorBox Normalize DetectionOutput MultiBoxLoss AnnotatedData DetectionEvaluate SmoothL1Loss",
        "permute_param prior_box_param norm_param detection_output_param multibox_loss_param annotated_data_param "
        "detection_evaluate_param",
    ),
    "faster_rcnn": _pack(
        "Fast and Faster R-CNN",
        "faster_rcnn_fpn intel happynear synopsys",
        "ROIPooling ROIAlign SmoothL1Loss Proposal",
        "roi_pooling_param roi_align_param smooth_l1_loss_param proposal_param",
    ),
    "rfcn": _pack(
        "R-FCN and its online hard example mining",
        "intel happynear",
        "PSROIPooling SmoothL1LossOHEM SoftmaxWithLossOHEM BoxAnnotatorOHEM",
        "psroi_pooling_param box_annotator_ohem_param",
    ),
    "deeplab": _pack(
        "DeepLab, PSPNet and ICNet",
        "pspnet synopsys deeplab_v1",
        "BN Interp ImageSegData SegAccuracy DenseCRF DomainTransform MatRead MatWrite UniqueLabel BiasChannel "
        "AdaptiveBiasChannel Padding DominantChannel",
        "interp_param seg_accuracy_param dense_crf_param domain_transform_param mat_read_param mat_write_param "
        "unique_label_param bias_channel_param adaptive_bias_channel_param",
    ),
    "segnet": _pack(
        "SegNet, Bayesian SegNet and ENet",
        "synopsys enet",
        "BN Upsample DenseImageData SpatialDropout",
        "dense_image_data_param spatial_dropout_param",
    ),
    "mobile": _pack(
        "MobileNet, ShuffleNet, EfficientNet and squeeze-and-excitation nets",
        "mobilenet_yolo synopsys",
        "ConvolutionDepthwise DepthwiseConvolution ShuffleChannel ReLU6 Axpy BroadcastMul HardSwish HardSigmoid",
        "shuffle_channel_param relu6_param hard_sigmoid_param",
    ),
    "yolo": _pack(
        "YOLO, versions 2 and 3",
        "mobilenet_yolo intel synopsys",
        "Reorg Upsample UpsampleDarknet Mish RegionLoss EvalDetection YoloDetectionOutput Yolov3 Yolov3DetectionOutput "
        "YoloSeg SegmentationEvaluate AssistedExcitation",
        "reorg_param upsample_darknet_param region_loss_param eval_detection_param yolo_detection_output_param "
        "yolov3_param yolov3_detection_output_param yolo_seg_param yolo_v2_loss_param yolo_v3_loss_param "
        "segmentation_evaluate_param",
    ),
    "face": _pack(
        "face nets: center, angular and margin losses",
        "happynear",
        "Flip InnerDistance CenterLoss MarginInnerProduct LabelSpecificAdd LabelSpecificMargin LabelSpecificRescale "
        "LabelSpecificAffine LargeMarginInnerProduct Normalize NormalizedLayer FocalLoss ChannelScale Truncation "
        "SoftTruncation Cosine Arccos EltwiseAffine Pairwise Gram GeneralTripletLoss GeneralContrastiveLoss",
        "flip_param inner_distance_param center_loss_param margin_inner_product_param label_specific_add_param "
        "label_specific_margin_param label_specific_rescale_param label_specific_affine_param normalize_param "
        "largemargin_inner_product_param focal_loss_param channel_scale_param truncation_param soft_truncation_param "
        "eltwise_affine_param pairwise_param general_triplet_loss_param general_contrastive_loss_param",
    ),
    "openpose": _pack("OpenPose", "openpose", "ImResize Nms CPMData", "imresize_param cpm_transform_param"),
    "flow": _pack(
        "FlowNet and FlowNet2",
        "flownet2 synopsys",
        "Accum Correlation Correlation1D FlowWarp Resample Downsample L1Loss LpqLoss Mean ChannelNorm DataAugmentation "
        "CustomData FlowAugmentation GenerateAugmentationParameters",
        "accum_param correlation_param flow_warp_param resample_param downsample_param l1_loss_param lpq_loss_param "
        "mean_param augmentation_param black_augmentation_param coeff_schedule_param reader_param writer_param",
    ),
    "c3d": _pack(
        "C3D: convolution over time",
        "c3d c3d_v1",
        "Convolution3D Deconvolution3D Pooling3D VolumeData VideoData VoxelSoftmax VoxelCustomLoss",
        "convolution3d_param pooling3d_param",
    ),
    "lrcn": _pack("LRCN's recurrent nets", "lrcn jolibrain", "ContinuationIndicator", "continuation_indicator_param"),
    "nvidia": _pack(
        "NVIDIA Caffe",
        "nvidia",
        "DetectNetTransformation TRT",
        "forward_type backward_type forward_math backward_math cudnn_math_override detectnet_augmentation_param "
        "detectnet_groundtruth_param trt_param debug",
    ),
    "intel": _pack(
        "Intel Caffe",
        "intel",
        "MnActivation MnParamGradCompress",
        "quantization_param multinode mn_activation_param mn_grad_compress_param",
    ),
    "synopsys": _pack(
        "Synopsys Caffe, with the operators of other frameworks",
        "synopsys",
        "LogSoftmax Softplus Reverse SeLU SeLUDropout SeLu SeLuDropout Pooling3D Swish SpaceToBatchND BatchToSpaceND "
        "ResizeBilinear ResizeNearestNeighbor ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 "
        "ReduceLogSumExp ReduceLogsumexp ReduceAll ReduceAny CountNonzero Stack Unstack Squeeze ExpandDimsND TileND "
        "BroadcastTo Add Sub Mul Div Maximum Minimum Pow FloorDiv FloorMod NotEqual Sin Atan Floor Ceil Round "
        "ScaledTanH ThresholdedReLU HardTanh Softsign XLU Pad MirrorPad Piece StridedSlice GatherV2 GatherND GatherNd "
        "OneHot MatMul Gemm LayerNorm LpNormalization DepthToSpace SpaceToDepth",
        "reverse_param selu_param selu_dropout_param log_softmax_param gather_param",
    ),
    "crnn": _pack(
        "text read by recurrent nets, with connectionist temporal classification",
        "crnn",
        "CtcLoss LabelsequenceAccuracy",
        "ctc_loss_param labelsequence_accuracy_param",
    ),
    "ristretto": _pack(
        "Ristretto: nets in simulated fixed-point numbers",
        "ristretto",
        "ConvolutionRistretto DeconvolutionRistretto FcRistretto LRNRistretto",
    ),
    "hed": _pack("holistically nested edge detection", "hed", "ImageLabelmapData"),
}

# The pack that a field of a fork speaks for where no pack claims it.
_OF_FORK = {
    "nvidia": "nvidia",
    "intel": "intel",
    "mobilenet_yolo": "yolo",
    "synopsys": "synopsys",
    "happynear": "face",
    "pspnet": "deeplab",
    "flownet2": "flow",
    "c3d": "c3d",
    "faster_rcnn_fpn": "faster_rcnn",
    "lrcn": "lrcn",
    "hed": "hed",
    "jolibrain": "",  # a server for nets of every kind
    "deeplab_v1": "deeplab",
    "c3d_v1": "c3d",
    "enet": "segnet",
    "textboxes": "ssd",
    "openpose": "openpose",
    "crnn": "crnn",
    "ristretto": "ristretto",
}
# Fields and values of BVLC's own messages that say which pack is meant.
_OF_FIELD = {
    ("PoolingParameter", "ceil_mode"): "deeplab",
    ("BNParameter", "bn_mode"): "segnet",
    ("BNParameter.BNMode", "LEARN"): "segnet",
    ("BNParameter.BNMode", "INFERENCE"): "segnet",
    ("BNParameter", "scale_filler"): "segnet",
    ("BNParameter", "shift_filler"): "segnet",
    ("ReLUParameter", "relu6"): "mobile",
    ("UpsampleParameter", "scale"): "",
    ("UpsampleParameter", "pad_out_h"): "segnet",
    ("UpsampleParameter", "pad_out_w"): "segnet",
    ("UpsampleParameter", "upsample_h"): "segnet",
    ("UpsampleParameter", "upsample_w"): "segnet",
    ("LossParameter", "class_weighting"): "segnet",
    ("LossParameter", "weight_by_label_freqs"): "segnet",
    ("DropoutParameter", "sample_weights_test"): "segnet",
    ("LossParameter", "pre_fixed_normalizer"): "rfcn",
    ("LossParameter.NormalizationMode", "PRE_FIXED"): "rfcn",
}


@cache
def packs_of_type(type: str) -> list[str]:
    """The packs that have a layer type."""
    return [name for name, pack in PACKS.items() if type in pack.types]


@cache
def pack_of_field(message: str, field: str) -> str:
    """The pack that a field speaks for; "" where several could be meant, or none."""
    if (message, field) in _OF_FIELD:
        return _OF_FIELD[message, field]
    if message == "LayerParameter":
        owners = [name for name, pack in PACKS.items() if field in pack.fields]
        if owners:
            return owners[0] if len(owners) == 1 else ""
    forks = field_forks().get((message, field), ())
    holders = _holders().get(message, set())
    owned = [name for name, pack in PACKS.items() if holders & pack.fields and set(forks) & set(pack.forks)]
    if owned:
        return owned[0] if len(owned) == 1 else ""
    return _OF_FORK[forks[0]] if len(forks) == 1 else ""


@cache
def _holders() -> dict[str, set[str]]:
    """Message -> the fields of LayerParameter that hold it."""
    found: dict[str, set[str]] = {}
    for row in community_rows():
        if row["message"] == "LayerParameter":
            found.setdefault(row["type"], set()).add(row["name"])
    return found


@cache
def pack_of_value(enum: str, value: str) -> str:
    """The pack that an enum value speaks for; "" where several could be meant."""
    if (enum, value) in _OF_FIELD:
        return _OF_FIELD[enum, value]
    forks = value_forks().get((enum, value), ())
    return _OF_FORK[forks[0]] if len(forks) == 1 else ""


def forks_with(type: str) -> list[str]:
    """The forks that have a layer type, by the packs that name it."""
    return list(dict.fromkeys(fork for name in packs_of_type(type) for fork in PACKS[name].forks))


def check_packs(names: Iterable[str]) -> None:
    """Raise UsageError for names that are no packs."""
    with Problems(UsageError) as problems:
        for name in names:
            if name not in PACKS:
                own = ", ".join(pack for pack in PACKS if name in PACKS[pack].forks)
                fix = f"that is a fork; what it adds are the packs {own}" if own else closest(name, PACKS)
                problems.add(f"there is no pack '{name}'", fix=fix, field="packs")


def joined(dialect: str | None, packs: Iterable[str]) -> str | None:
    """A dialect and packs as one word, as `split` takes it apart."""
    return "+".join([dialect or "", *packs]) or None


def split(declared: str | None) -> tuple[str | None, list[str]]:
    """The dialect (None: to be detected) and the packs of `bvlc`, `bvlc+ssd` or `+ssd`; raises UsageError."""
    dialect, *packs = (declared or "").split("+")
    check_packs(packs)
    return dialect or None, packs
