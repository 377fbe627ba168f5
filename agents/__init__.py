"""Agents: minds and policies that face real and dreamt worlds alike.

The names of the package stand in `__init__.pyi`; each is imported when it is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
