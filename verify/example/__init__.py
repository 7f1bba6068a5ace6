"""The built-in example: the miniatures on synthetic scenes, from caffemodel to table."""
