"""LSTM, RNN and LSTMUnit: sequences, time first, with a marker where a new one starts."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np
import torch

from .base import BlobSpec, Layer, Misfit, register, show

_MOST_STEPS = 4096  # in ONNX, where each has nodes of its own


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


class Recurrent(Layer):
    """What LSTM and RNN share; semantics 1.22 (recurrent_layer).

    With `expose_hidden` Caffe lets no gradient through the first and the last states; `faithful_bugs` does the same.
    Without it the last state of one torch forward starts the next, detached, as in Caffe; the
    reference and ONNX start from zero. An ONNX file has the number of steps of the net file.
    """

    param = ("recurrent_param",)
    bottom_count = (2, 5)
    top_count = (1, 3)
    no_gradient = (1,)
    fixed_batch = True
    onnx_note = "a fixed number of steps; each run starts from a zero state"
    states: ClassVar[int] = 1  # hidden states: h, or h and c

    num_output: int = 0
    weight_filler: Any = 0.0
    bias_filler: Any = 0.0
    debug_info: bool = False
    expose_hidden: bool = False

    def check(self, x, cont, rest) -> bool:
        """Whether there is a static input; raises Misfit for shapes that do not fit."""
        if not self.num_output:
            raise Misfit("no num_output, or 0", "1 or more", "num_output")
        exposed = self.states if self.expose_hidden else 0
        static = len(rest) - exposed
        if static not in (0, 1) or self.at.tops != 1 + exposed:
            found = f"{2 + len(rest)} bottoms and {self.at.tops} tops"
            raise Misfit(found, f"{2 + exposed} or {3 + exposed} bottoms and {1 + exposed} tops", "bottom")
        if len(x) < 3 or tuple(cont) != tuple(x[:2]):
            raise Misfit(f"{show(x)} and {show(cont)}", "T x N x ..., and T x N markers", "bottom")
        if static and rest[0][:1] != x[1:2]:
            raise Misfit(f"a static input of {show(rest[0])}", f"{x[1]} x ...", "bottom")
        for state in rest[static:]:
            if state != (1, x[1], self.num_output):
                raise Misfit(f"a state of {show(state)}", show((1, x[1], self.num_output)), "bottom")
        return bool(static)

    def top_shapes(self, x, cont, *rest):
        self.check(x, cont, rest)
        state = (1, x[1], self.num_output)
        return ((*x[:2], self.num_output), *[state] * (self.at.tops - 1))

    def parts(self, x, cont, rest, zero):
        """Static input (or None) and the initial states."""
        static = self.check(tuple(x.shape), tuple(cont.shape), [tuple(r.shape) for r in rest])
        given = rest[1:] if static else rest
        starts = [s[0] for s in given] if self.expose_hidden else [zero] * self.states
        return (rest[0] if static else None), starts

    def gates(self, ops, blobs, x, static, has_static: bool):
        """Everything that does not depend on the state, T x N x gates, and the blobs that are left."""
        weight, bias, *others = blobs
        flat = x.reshape(x.shape[0], x.shape[1], prod(x.shape[2:]))
        total = flat @ weight.T + bias
        if has_static:
            total = total + static.reshape(static.shape[0], prod(static.shape[1:])) @ others[0].T
            others = others[1:]
        return total, others

    def unroll(self, ops, blobs, x, cont, static, states):
        """Run all steps with `ops` (numpy or torch); returns the outputs and the last states."""
        total, others = self.gates(ops, blobs, x, static, static is not None)
        outputs = []
        for t in range(x.shape[0]):
            output, states = self.step(ops, total[t], cont[t][:, None], states, others)
            outputs.append(output)
        return ops["stack"](outputs), states

    def step(self, ops, gates, cont, states, others):
        raise NotImplementedError

    def reference(self, blobs, x, cont, *rest):
        static, states = self.parts(x, cont, rest, np.zeros((x.shape[1], self.num_output)))
        ops = {"stack": np.stack, "tanh": np.tanh, "sigmoid": sigmoid}
        output, states = self.unroll(ops, blobs, x, cont, static, states)
        return (output, *(s[None] for s in states))[: self.at.tops]

    def forward(self, module, x, cont, *rest):
        cont = cont.detach()
        kept = module.state.get("hidden") if module is not None else None
        zero = x.new_zeros(x.shape[1], self.num_output)
        static, states = self.parts(x, cont, rest, zero)
        if not self.expose_hidden and kept is not None and kept[0].shape == zero.shape:
            states = kept
        ops = {"stack": torch.stack, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
        cut = self.expose_hidden and self.at.faithful_bugs
        states = [s.detach() for s in states] if cut else states
        output, states = self.unroll(ops, module.blobs, x, cont, static, states)
        states = [s.detach() for s in states] if cut else states
        module.state["hidden"] = [s.detach() for s in states]  # gradients never cross calls
        return (output, *(s[None] for s in states))[: self.at.tops]

    def onnx(self, graph, x, cont, *rest):
        shapes = [graph.shape(b) for b in (x, cont, *rest)]
        has_static = self.check(shapes[0], shapes[1], shapes[2:])
        steps, batch = shapes[0][:2]
        if steps > _MOST_STEPS:
            raise Misfit(f"{steps} steps", f"{_MOST_STEPS} at most in ONNX", "bottom")
        flat = graph.reshape(x, (steps, batch, prod(shapes[0][2:])))
        total = graph.op("Add", graph.op("MatMul", flat, graph.transposed_blob(0)), graph.blob(1))
        if has_static:
            row = graph.reshape(rest[0], (batch, prod(shapes[2][1:])))
            total = graph.op("Add", total, graph.op("MatMul", row, graph.transposed_blob(2)))
        given = rest[1:] if has_static else rest
        zero = np.zeros((batch, self.num_output))
        states = [graph.reshape(s, zero.shape) for s in given] or [graph.constant(zero) for _ in range(self.states)]
        outputs = []
        for t in range(steps):
            gates = graph.op("Gather", total, graph.constant(t, np.int64), axis=0)
            marker = graph.op("Gather", cont, graph.constant(t, np.int64), axis=0)
            marker = graph.op("Unsqueeze", marker, graph.constant([1], np.int64))
            output, states = self.onnx_step(graph, gates, marker, states, 2 + has_static)
            outputs.append(graph.op("Unsqueeze", output, graph.constant([0], np.int64)))
        first = graph.op("Concat", *outputs, axis=0)
        last = [graph.op("Unsqueeze", s, graph.constant([0], np.int64)) for s in states]
        return (first, *last)[: self.at.tops]

    def onnx_step(self, graph, gates, cont, states, index):
        raise NotImplementedError

    def multiply_adds(self, bottoms, tops):
        """Weights times steps and sequences."""
        weights = [spec.shape for spec in self.blobs(*bottoms) if len(spec.shape) == 2]
        return sum(map(prod, weights)) * bottoms[0][0] * bottoms[0][1]

    def binds_gradient(self):
        return True


@register
class LSTM(Recurrent):
    """Long short-term memory, gates in the order i, f, o, g; semantics 1.22 (lstm_layer)."""

    type = "LSTM"
    family = "weights"
    carries_state = True
    states = 2

    def blobs(self, x, cont, *rest):
        hidden, static = self.num_output, self.check(x, cont, rest)
        specs = [
            BlobSpec("weight_x", (4 * hidden, prod(x[2:])), self.weight_filler),
            BlobSpec("bias", (4 * hidden,), self.bias_filler),
        ]
        if static:
            specs.append(BlobSpec("weight_static", (4 * hidden, prod(rest[0][1:])), self.weight_filler))
        return [*specs, BlobSpec("weight_h", (4 * hidden, hidden), self.weight_filler)]

    def step(self, ops, gates, cont, states, others):
        h, c = states
        i, f, o, g = _quarters(gates + (cont * h) @ others[0].T, self.num_output)
        c = cont * ops["sigmoid"](f) * c + ops["sigmoid"](i) * ops["tanh"](g)
        h = ops["sigmoid"](o) * ops["tanh"](c)
        return h, [h, c]

    def onnx_step(self, graph, gates, cont, states, index):
        h, c = states
        recurrent = graph.op("MatMul", graph.op("Mul", cont, h), graph.transposed_blob(index))
        sizes = graph.constant([self.num_output] * 4, np.int64)
        i, f, o, g = graph.op("Split", graph.op("Add", gates, recurrent), sizes, axis=1, outputs=4)
        i, f, o = (graph.op("Sigmoid", gate) for gate in (i, f, o))
        kept = graph.op("Mul", graph.op("Mul", cont, f), c)
        c = graph.op("Add", kept, graph.op("Mul", i, graph.op("Tanh", g)))
        h = graph.op("Mul", o, graph.op("Tanh", c))
        return h, [h, c]


def _quarters(gates, size: int):
    """Four equal parts along the last axis."""
    return [gates[..., k * size : (k + 1) * size] for k in range(4)]


@register
class RNN(Recurrent):
    """A plain recurrent net with an output layer of its own; semantics 1.22 (rnn_layer)."""

    type = "RNN"
    family = "weights"
    carries_state = True

    def blobs(self, x, cont, *rest):
        hidden, static = self.num_output, self.check(x, cont, rest)
        specs = [
            BlobSpec("weight_x", (hidden, prod(x[2:])), self.weight_filler),
            BlobSpec("bias", (hidden,), self.bias_filler),
        ]
        if static:
            specs.append(BlobSpec("weight_static", (hidden, prod(rest[0][1:])), self.weight_filler))
        specs += [BlobSpec(name, (hidden, hidden), self.weight_filler) for name in ("weight_h", "weight_o")]
        return [*specs, BlobSpec("bias_o", (hidden,), self.bias_filler)]

    def step(self, ops, gates, cont, states, others):
        h = ops["tanh"](gates + (cont * states[0]) @ others[0].T)
        return ops["tanh"](h @ others[1].T + others[2]), [h]

    def onnx_step(self, graph, gates, cont, states, index):
        recurrent = graph.op("MatMul", graph.op("Mul", cont, states[0]), graph.transposed_blob(index))
        h = graph.op("Tanh", graph.op("Add", gates, recurrent))
        o = graph.op("Add", graph.op("MatMul", h, graph.transposed_blob(index + 1)), graph.blob(index + 2))
        return graph.op("Tanh", o), [h]


@register
class LSTMUnit(Layer):
    """One step of an LSTM: previous memory, gate inputs, markers -> memory, output; semantics 1.22."""

    type = "LSTMUnit"
    family = "weights"
    bottom_count = (3, 3)
    top_count = (2, 2)
    no_gradient = (2,)

    def top_shapes(self, c, gates, cont):
        if len(c) != 3 or tuple(gates) != (*c[:2], 4 * c[2]) or prod(cont) != c[1] or c[0] != 1:
            found = ", ".join(map(show, (c, gates, cont)))
            raise Misfit(found, "1 x N x D, 1 x N x 4D and 1 x N", "bottom")
        return (c, c)

    def _unit(self, c, gates, cont, tanh, logistic):
        i, f, o, g = _quarters(gates, c.shape[2])
        c = cont.reshape(1, -1, 1) * logistic(f) * c + logistic(i) * tanh(g)
        return c, logistic(o) * tanh(c)

    def reference(self, blobs, c, gates, cont):
        return self._unit(c, gates, cont, np.tanh, sigmoid)

    def forward(self, module, c, gates, cont):
        return self._unit(c, gates, cont.detach(), torch.tanh, torch.sigmoid)

    def onnx(self, graph, c, gates, cont):
        sizes = graph.constant([graph.shape(c)[2]] * 4, np.int64)
        i, f, o, g = graph.op("Split", gates, sizes, axis=2, outputs=4)
        i, f, o = (graph.op("Sigmoid", gate) for gate in (i, f, o))
        marker = graph.reshape(cont, (1, -1, 1))
        kept = graph.op("Mul", graph.op("Mul", marker, f), c)
        memory = graph.op("Add", kept, graph.op("Mul", i, graph.op("Tanh", g)))
        return memory, graph.op("Mul", o, graph.op("Tanh", memory))
