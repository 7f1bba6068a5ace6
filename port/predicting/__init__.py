"""Photographs through a net: classes as pycaffe finds them, detections with their boxes, any blob as features."""
