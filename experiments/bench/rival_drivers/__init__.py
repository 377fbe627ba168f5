"""Programs that `bench rivals` runs: one by the interpreter of each package that is measured."""
