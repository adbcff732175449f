"""A folder for `sys.path`: the package `torch` in it is Braze."""
