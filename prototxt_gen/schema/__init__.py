"""Caffe's schema in both dialects: messages, text format, dialect detection."""

from .messages import DIALECTS, descriptor, is_repeated, message_class, message_names

__all__ = ["DIALECTS", "descriptor", "is_repeated", "message_class", "message_names"]
