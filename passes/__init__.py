"""Graph to graph, graph to loops, loops to loops: one pass a file."""
