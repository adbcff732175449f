"""Several processes that compute together, over MPI.

In: NumPy arrays on the memory of storages.  Out: `Work`, operations under way, in which nobody is
waited for longer than the timeout says. Transport is MPI's alone; what is added is progress while
nobody waits (`progress`), and knowing who is missing (`watch`).
"""
