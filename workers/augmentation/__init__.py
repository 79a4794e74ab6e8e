"""Transforms of training images that draw numbers, on whole batches on the device."""
