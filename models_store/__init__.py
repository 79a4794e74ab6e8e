"""Everything a model is: recipe, architecture, preprocessing, weights, and how it classifies.

Knows nothing of jobs, databases or HTTP. Only `architectures`, `checkpoints`, `classifier` and
`preprocess` import torch; `recipe` and `manifest` do not, so a server validates before it is warm.
"""
