"""Proof that a net, a data layer, a solver compute what Caffe computes."""
