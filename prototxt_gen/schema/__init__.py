"""Caffe's schema in both dialects: messages, text format, dialect detection, upgrades."""

from .dialect import LAYER_TYPES, detect
from .messages import DIALECTS, descriptor, is_repeated, message_class, message_names
from .printer import format_float, to_text
from .text import Parsed, parse, parse_prototxt, read_prototxt, read_tolerantly
from .upgrade import upgrade_net, upgrade_parsed, upgrade_solver

__all__ = [
    "DIALECTS",
    "LAYER_TYPES",
    "Parsed",
    "descriptor",
    "detect",
    "format_float",
    "is_repeated",
    "message_class",
    "message_names",
    "parse",
    "parse_prototxt",
    "read_prototxt",
    "read_tolerantly",
    "to_text",
    "upgrade_net",
    "upgrade_parsed",
    "upgrade_solver",
]
