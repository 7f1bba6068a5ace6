"""The data layers of both Caffes: databases, lists, arrays -> batches, transformed as `transform_param` says.

source = open_data(layer_message, "TRAIN", "srn", seed=7, workers=2)
for batch in source.batches():              # top -> float32 array, without end
    ...
state = source.state()                      # source.restore(state) goes on from there
"""

from .creation import create
from .database import Database, new_database
from .datum import datum_values, encoded_datum, image_datum, label_datum, parse_datum
from .opening import data_shapes, open_data
from .source import DataSource
from .transform import Transformer
from .windows import Window

__all__ = [
    "DataSource",
    "Database",
    "Transformer",
    "Window",
    "create",
    "data_shapes",
    "datum_values",
    "encoded_datum",
    "image_datum",
    "label_datum",
    "new_database",
    "open_data",
    "parse_datum",
]
