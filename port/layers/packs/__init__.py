"""The layer types of other forks than the two Caffes, pack by pack (prototxt_gen/schema/packs.py)."""
