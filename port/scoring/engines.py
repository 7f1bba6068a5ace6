"""What turns a block of images into scores: a net in PyTorch, or a model in ONNX Runtime.

On a CPU a block is computed by one thread, and several blocks at once: sums then never depend on how many threads
there are, and the cores are as busy.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from prototxt_gen.base.errors import ExportError, NetError, Problem, Problems, UsageError, closest
from prototxt_gen.base.files import read_head
from prototxt_gen.base.formats import CAFFES, CHECK, refusal
from prototxt_gen.base.machine import cores

Floats = NDArray[np.float32]

_ALIVE = 5  # blobs of the largest size at a time: a residual unit's ends, its branch, a convolution's workspace
_GPU_LANES = 2  # one block is copied while the other is computed
ROWS = 8  # of a block that a core computes at once: more leave its cache, and take a third longer


class Engine(Protocol):
    """Computes blocks of images; `run` may be called by `lanes` threads at once."""

    height: int
    width: int
    output: str
    classes: int
    lanes: int
    batch: int | None  # what the net fixes the batch size to
    facts: dict[str, str]  # what the scores depend on besides the net
    footprint: int  # bytes that an image may take while it is computed; 0: unknown

    def run(self, block: Floats) -> Floats:
        """Images (n, 3, height, width) -> scores (n, classes)."""

    def using(self) -> Any:
        """A context in which blocks are computed."""


def parts(block: Floats, fixed: int | None) -> list[Floats]:
    """A block cut after every `ROWS` images; whole for a net that fixes its batch size."""
    return [block] if fixed else [block[start : start + ROWS] for start in range(0, len(block), ROWS)]


def image_input(net: Any) -> tuple[str, int, int]:
    """The image blob of a net with its height and width; raises NetError when there is not exactly one."""
    return _image_input({value.blob: value.shape for value in net.caffe.inputs})


def _image_input(inputs: dict[str, Any]) -> tuple[str, int, int]:
    if len(inputs) == 1:
        blob, shape = next(iter(inputs.items()))
        if shape is not None and len(shape) == 4 and shape[1] == 3 and all(isinstance(n, int) for n in shape[2:]):
            return blob, shape[2], shape[3]
    found = ", ".join(f"'{blob}' {shape}" for blob, shape in inputs.items()) or "none"
    raise NetError(f"the inputs of the net are {found}; expected one, of shape (N, 3, height, width)")


def score_output(net: Any, blob: str | None = None) -> tuple[str, int]:
    """The blob that holds the scores, by default the first output by name, and the number of its classes."""
    return _score_output({value.blob: value.shape for value in net.caffe.outputs}, blob)


def _score_output(outputs: dict[str, Any], blob: str | None) -> tuple[str, int]:
    if blob is not None and blob not in outputs:
        raise UsageError(f"'{blob}' is no output of the net: {closest(blob, outputs)}")
    name = blob or next(iter(outputs), None)
    shape = outputs.get(name) if name else None
    if name is None or shape is None or len(shape) < 2 or not all(isinstance(n, int) for n in shape[1:]):
        raise NetError(f"the net has no output of known shape to take scores from: {outputs or 'none'}")
    return name, prod(shape[1:])


def choose_device(name: str | None, local_rank: int = 0) -> str:
    """ "cpu" or "cuda:N": as named, else a GPU where PyTorch finds one. Raises UsageError for what is not there."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    _check_name(name)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as cause:
        fix = "use --device cpu, or install a PyTorch build for this machine's GPU"
        raise UsageError(
            Problem(f"the device '{name}' cannot be used: {str(cause).splitlines()[0]}", fix=fix)
        ) from None
    if device.type == "cuda" and device.index is None:
        return f"cuda:{local_rank % torch.cuda.device_count()}"
    return str(device)


def choose_onnx_device(name: str | None, local_rank: int = 0) -> str:
    """The same for ONNX Runtime, which can use a GPU that PyTorch's build cannot: whether it does, its session says."""
    if name is None:
        return choose_device(None, local_rank)
    _check_name(name)
    return f"cuda:{local_rank}" if name == "cuda" else name


def _check_name(device: str) -> None:
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", device):
        raise UsageError(Problem(f"the device '{device}' is unknown", "cpu, cuda or cuda:N"))


def _footprint(graph: Any) -> int:
    """What an image may take in memory: a few of the largest blob, which is what stays alive at a time."""
    return max((4 * _ALIVE * prod(v.shape[1:]) for v in graph.values if v.shape), default=0)


def device_fact(device: str) -> str:
    """A device as what rounding depends on: the kind of processor, not which one of them."""
    if device.startswith("cuda"):
        return f"cuda ({torch.cuda.get_device_name(device) if torch.cuda.is_available() else 'not seen by PyTorch'})"
    return f"{device} ({torch.backends.cpu.get_cpu_capability()})"


class TorchEngine:
    """A net of `port.load_net`."""

    def __init__(self, net: Any, device: str, blob: str | None = None, lanes: int | None = None):
        from ..onnx.export import free_axes

        self.input, self.height, self.width = image_input(net)
        self.output, self.classes = self.outputs(net, blob)
        recurrent = [node.name for node in net.caffe.nodes if node.layer.carries_state]
        if recurrent:
            found = f"the layer '{recurrent[0]}' carries states from one batch to the next"
            raise NetError(Problem(found, "a net that scores each image by itself", file=net.caffe.file))
        value = next(v for v in net.caffe.inputs if v.blob == self.input)
        self.batch = None if free_axes(net.caffe) else int(value.shape[0])
        self.footprint = _footprint(net.caffe)
        self.device = torch.device(device)
        self.net = net.to(self.device).eval()
        self.lanes = lanes or (cores() if self.device.type == "cpu" else _GPU_LANES)
        self.facts = {"runtime": f"PyTorch {torch.__version__}", "device": device_fact(device)}
        if self.device.type == "cpu" and not self.batch:
            self.facts["images at once"] = str(ROWS)
        self._own = threading.local()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the lanes' streams do not wait for the weights' copies

    def outputs(self, net: Any, blob: str | None) -> tuple[str, int]:
        """What is computed of each image, in words, and how many values that are."""
        return score_output(net, blob)

    @contextmanager
    def using(self) -> Iterator[None]:
        """Exact products; the number of threads as it was, afterwards."""
        threads = torch.get_num_threads()
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        allowed = matmul.allow_tf32
        with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False):
            matmul.allow_tf32 = False
            try:
                yield
            finally:
                matmul.allow_tf32 = allowed
                torch.set_num_threads(threads)

    def run(self, block: Floats) -> Floats:
        """Images (n, 3, height, width) -> scores (n, classes)."""
        with torch.inference_mode(), self._lane():
            if self.device.type == "cuda":
                images = torch.from_numpy(block).pin_memory().to(self.device, non_blocking=True)
                return self._scores(images).cpu().numpy()
            return np.concatenate([self._scores(torch.from_numpy(part)).numpy() for part in parts(block, self.batch)])

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(**{self.input: images})[self.output].reshape(len(images), -1)

    def _lane(self) -> Any:
        """A thread's own stream on a GPU; on a CPU it computes alone."""
        if self.device.type == "cuda":
            if not hasattr(self._own, "stream"):
                self._own.stream = torch.cuda.Stream(self.device)
            return torch.cuda.stream(self._own.stream)
        if not hasattr(self._own, "alone"):
            torch.set_num_threads(1)
            self._own.alone = True
        return nullcontext()


class OnnxEngine:
    """An ONNX model, a file or bytes, in ONNX Runtime; raises ExportError where a GPU was asked for and is not used."""

    def __init__(
        self, model: bytes | Path, device: str, blob: str | None = None, lanes: int | None = None, file: Any = ""
    ):
        import onnxruntime

        self.file = model if isinstance(model, Path) else file
        self.session = _session(onnxruntime, model, device, self.file)
        inputs = {i.name: i.shape for i in self.session.get_inputs()}
        self.input, self.height, self.width = _image_input(inputs)
        outputs = {o.name: o.shape for o in sorted(self.session.get_outputs(), key=lambda o: o.name)}
        self.output, self.classes = _score_output(outputs, blob)
        self._check_types()
        fixed = inputs[self.input][0]
        self.batch = fixed if isinstance(fixed, int) else None
        self.footprint = 0
        self.lanes = lanes or (cores() if device == "cpu" else _GPU_LANES)
        self.facts = {"runtime": f"ONNX Runtime {onnxruntime.__version__}", "device": device_fact(device)}

    def using(self) -> Any:
        """Nothing to set."""
        return nullcontext()

    def run(self, block: Floats) -> Floats:
        """Images (n, 3, height, width) -> scores (n, classes); raises ExportError where the model does not."""
        try:
            scores = self.session.run([self.output], {self.input: block})[0]
        except Exception as cause:  # ONNX Runtime raises its own kinds, without a common base
            reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            if "allocate memory" in reason or "out of memory" in reason.lower():
                raise MemoryError(reason) from None
            raise ExportError(
                Problem(f"ONNX Runtime fails on a batch of {len(block)}: {reason}", fix=_ONE, file=self.file)
            ) from None
        if scores.size != len(block) * self.classes:
            found = f"output '{self.output}' has the shape {scores.shape} for a batch of {len(block)}"
            expected = f"{self.classes} scores for each image"
            raise ExportError(Problem(found, expected, "choose another --blob", file=self.file))
        return scores.reshape(len(block), -1)

    def _check_types(self) -> None:
        read, written = self.session.get_inputs()[0], self.session.get_outputs()
        ends = [(read, _FLOATS[:1]), *((end, _FLOATS) for end in written if end.name == self.output)]
        with Problems(ExportError, self.file) as problems:
            for end, known in ends:
                if end.type not in known:
                    problems.add(f"'{end.name}' is a {end.type}", expected=" or ".join(known), fix=_EXPORT)


_CAFFES = "score with --prototxt and --caffemodel, or make an ONNX model with `python -m port export`"
_ONE = "try --batch 1: the model may be made for single images"
_EXPORT = "export the model with float32 inputs and outputs"
_FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")


def _no_onnx(model: bytes | Path) -> Problem | None:
    """What a file is that ONNX Runtime does not take; None where it may be an ONNX model."""
    if isinstance(model, bytes) or not model.is_file():
        return None
    fixes = dict.fromkeys(CAFFES, _CAFFES)
    return refusal(read_head(model, ExportError), "an ONNX model", model, own=["onnx", "ort"], fixes=fixes, fix=CHECK)


def _session(onnxruntime: Any, model: bytes | Path, device: str, file: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print, it raises
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    provider: Any = "CPUExecutionProvider"
    if device.startswith("cuda"):
        # exact products; algorithms chosen by rule, not by the clock
        settings = {
            "device_id": device.partition(":")[2] or "0",
            "use_tf32": "0",
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        provider = ("CUDAExecutionProvider", settings)
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=[provider])
    except Exception as cause:  # ONNX Runtime raises its own kinds, without a common base
        reason = str(cause).strip().splitlines()[0]
        problem = Problem(f"ONNX Runtime refuses the model: {reason}", file=file)
        raise ExportError(_no_onnx(model) or problem) from None
    wanted = provider if isinstance(provider, str) else provider[0]
    if session.get_providers()[0] != wanted:
        found = f"ONNX Runtime does not run on {device} here: it uses {', '.join(session.get_providers())}"
        raise ExportError(Problem(found, fix="use --device cpu, or install the CUDA libraries it needs"))
    return session
