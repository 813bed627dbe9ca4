"""Runs packed low-bit networks (model.bst) on NumPy arrays.

    model = bitstrata.Model("model.bst", max_batch=16)
    scores = bitstrata.Session(model).run(images)    # float32 [n, C, H, W], n up to 16

A Model is immutable and may be shared by threads; give each thread its own Session. The interpreter lock is released while a network
loads or runs. Everything that fails raises bitstrata.Error, whose `code` is one of the names in bitstrata.h, as "corrupt-file".
"""

from ._runtime import Error, Layer, Model, Session, Tensor, __version__, format_version

__all__ = ["Error", "Layer", "Model", "Session", "Tensor", "__version__", "format_version"]
