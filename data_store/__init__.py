"""Data sets: what there is (`catalog`), and their decoded images (`arrays`).

Knows nothing of networks, jobs or HTTP; torchvision is imported only where a built-in set is read.
"""
