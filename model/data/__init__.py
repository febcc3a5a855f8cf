"""Event sequences as tensors: splits, batches, negatives."""
