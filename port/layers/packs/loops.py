"""What a pack's `onnx` rule writes the body of an ONNX Loop with."""

from __future__ import annotations

from typing import Any

import numpy as np

FLOAT, INT, BOOL = 1, 7, 9  # ONNX's numbers of types


class Body:
    """The nodes of one round; its values are called by parts of their names, values outside by `outside`."""

    def __init__(self, graph: Any, title: str):
        self.graph, self.title = graph, title
        self.names: dict[str, str] = {}
        self.nodes: list[Any] = []

    def name(self, part: str) -> str:
        """The name of a value, which nothing else in the file has."""
        if part not in self.names:
            self.names[part] = self.graph.fresh(f"{self.graph.current.name}/{self.title}_{part}")
        return self.names[part]

    def outside(self, part: str, name: str) -> None:
        """Call a value from outside the loop by a part."""
        self.names[part] = name

    def add(self, result: str, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that makes a value; returns what it is called."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(map(self.name, inputs)), [self.name(result)], **attributes))
        return result

    def fixed(self, part: str, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        return self.add(part, "Constant", value=numpy_helper.from_array(np.asarray(value, dtype)))

    def made(self, given: dict[str, int], results: dict[str, int]) -> Any:
        """The body: values that go from round to round by their types, behind the round's number and whether it runs.

        `results` starts with whether another round follows.
        """
        from onnx import helper

        def info(part: str, kind: int, shape: Any = None) -> Any:
            return helper.make_tensor_value_info(self.name(part), kind, shape)

        first = [info("step", INT, []), info("go", BOOL, [])]
        values = [info(part, kind) for part, kind in given.items()]
        (going, kind), *rest = results.items()
        ends = [info(going, kind, []), *(info(part, each) for part, each in rest)]
        return helper.make_graph(self.nodes, self.title, [*first, *values], ends)
