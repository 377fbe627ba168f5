"""Trained runs that come with the package, a packed file each; `worldmodel runs` lists them."""
