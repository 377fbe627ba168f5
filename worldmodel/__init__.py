"""Learned world models: sequence cores, exact likelihoods, and dreams that are environments.

The names of the package stand in `__init__.pyi`; each is imported when it is asked for.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
