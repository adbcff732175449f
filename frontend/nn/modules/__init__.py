"""The layers. `braze.nn` has all of their names."""
