"""Tests share the machine: one thread each, and the runs that they start as well."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
