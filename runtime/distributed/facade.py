"""What the front end asks of this package; importing it needs no MPI."""

from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.errors import DistBackendError, DistError
from braze.runtime.distributed.mpi import REDUCTIONS, library
from braze.runtime.distributed.progress import Work
from braze.runtime.distributed.world import World

__all__ = [
    "REDUCTIONS",
    "Communicator",
    "DistBackendError",
    "DistError",
    "Work",
    "World",
    "library",
]
