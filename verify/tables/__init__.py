"""The paper's Tables 1 to 3 beside our figures."""

from .comparison import Figure, RowComparison, compare_row
from .layout import side_by_side
from .published import ROW, PublishedTable, load_table

__all__ = ["ROW", "Figure", "PublishedTable", "RowComparison", "compare_row", "load_table", "side_by_side"]
