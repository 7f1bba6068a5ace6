"""LSTM, RNN and LSTMUnit, one step and one sequence at a time (semantics 1.22)."""

from __future__ import annotations

import math

import numpy as np

from .rules import Setting, check, clear, count, rule
from .rules_elementwise import logistic


def recurrent(s: Setting, states: int, gates: int, x, cont, rest):
    """Static input (or None), first states, and the x part of every step's gates, T x N x gates."""
    p = s.given("recurrent_param")
    hidden = p.get("num_output", 0)
    check(hidden > 0)
    exposed = states if p.get("expose_hidden", False) else 0
    check(len(rest) - exposed in (0, 1) and s.tops == 1 + exposed)
    clear(x.ndim >= 3)
    check(cont.shape == x.shape[:2])
    static = rest[0] if len(rest) > exposed else None
    if static is not None:
        clear(static.ndim >= 2)
        check(len(static) == x.shape[1])
    given = rest[len(rest) - exposed :]
    check(all(state.shape == (1, x.shape[1], hidden) for state in given))
    weight, bias = s.blob(gates * hidden, count(x.shape[2:])), s.blob(gates * hidden)
    steps = x.reshape(*x.shape[:2], -1) @ weight.T + bias
    if static is not None:
        steps = steps + static.reshape(len(static), -1) @ s.blob(gates * hidden, count(static.shape[1:])).T
    zero = np.zeros((x.shape[1], hidden))
    return hidden, steps, [state[0] for state in given] or [zero] * states


@rule("LSTM")
def lstm(s: Setting, x, cont, *rest):
    size, steps, (h, c) = recurrent(s, 2, 4, x, cont, rest)
    weight = s.blob(4 * size, size)
    top = np.zeros((*x.shape[:2], size))
    h, c = h.copy(), c.copy()
    for t in range(len(x)):
        for n in range(x.shape[1]):
            gates = steps[t, n] + weight @ (cont[t, n] * h[n])
            i, f, o = ([logistic(v) for v in gates[k * size : (k + 1) * size]] for k in range(3))
            g = [math.tanh(v) for v in gates[3 * size :]]
            for k in range(size):
                c[n, k] = cont[t, n] * f[k] * c[n, k] + i[k] * g[k]
                h[n, k] = o[k] * math.tanh(c[n, k])
        top[t] = h
    return [top, h[None], c[None]][: s.tops]


@rule("RNN")
def rnn(s: Setting, x, cont, *rest):
    size, steps, (h,) = recurrent(s, 1, 1, x, cont, rest)
    recur, output, bias = s.blob(size, size), s.blob(size, size), s.blob(size)
    top = np.zeros((*x.shape[:2], size))
    h = h.copy()
    for t in range(len(x)):
        for n in range(x.shape[1]):
            h[n] = [math.tanh(v) for v in recur @ (cont[t, n] * h[n]) + steps[t, n]]
            top[t, n] = [math.tanh(v) for v in output @ h[n] + bias]
    return [top, h[None]][: s.tops]


@rule("LSTMUnit")
def lstm_unit(s: Setting, c, gates, cont):
    clear(c.ndim == 3 and len(c) == 1 and gates.shape == (1, c.shape[1], 4 * c.shape[2]))
    clear(cont.shape == (1, c.shape[1]))
    size, memory, top = c.shape[2], np.zeros(c.shape), np.zeros(c.shape)
    for n in range(c.shape[1]):
        for k in range(size):
            i, f, o = (logistic(gates[0, n, j * size + k]) for j in range(3))
            memory[0, n, k] = cont[0, n] * f * c[0, n, k] + i * math.tanh(gates[0, n, 3 * size + k])
            top[0, n, k] = o * math.tanh(memory[0, n, k])
    return [memory, top]
