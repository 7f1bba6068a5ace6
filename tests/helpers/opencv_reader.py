"""A mark for tests that need OpenCV's own reader of Caffe files, which 5.0 took out."""

from __future__ import annotations

import cv2
import pytest

READS_CAFFE = hasattr(cv2.dnn, "readNetFromCaffe")
caffe_reader = pytest.mark.skipif(not READS_CAFFE, reason=f"OpenCV {cv2.__version__} reads no Caffe files; 4.x does")
