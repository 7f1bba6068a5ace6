"""A Caffe net as a graph: its layers in one state, every version of every blob, shapes, sizes, the reference."""
