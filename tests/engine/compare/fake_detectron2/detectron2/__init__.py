"""A thin stand-in for Detectron2: the very names that we call, with its signatures and rules, around a toy model.

It is put on the path by tests alone, and only where the real one is absent.
"""

__version__ = "0.6 (stand-in)"
