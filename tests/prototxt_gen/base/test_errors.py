"""How problems are told."""

from prototxt_gen.base.errors import CaffeError, Problem, told


def test_many_alike_are_told_once_with_their_number():
    """Twenty layers of one unknown type are one thing that is wrong."""
    many = [Problem("unknown", fix="teach it", file="n.prototxt", line=i, layer=f"l{i}") for i in range(1, 21)]
    other = Problem("unknown", fix="another way out", file="n.prototxt", line=9, layer="l9")
    lines = told([*many, other])
    assert lines == [
        "n.prototxt:1: layer 'l1': unknown. Teach it (20 times: also 'l2', 'l3', 'l4' and 16 more)",
        "n.prototxt:9: layer 'l9': unknown. Another way out",
    ]
    assert told(many[:3]) == [str(each) for each in many[:3]]
    error = CaffeError([*many, other])
    assert str(error).splitlines() == lines and len(error.problems) == 21
