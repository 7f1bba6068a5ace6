"""Proof: blobs compared with Caffe's, and scores turned into the paper's tables."""
