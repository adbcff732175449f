"""What the front end asks of this package; importing it needs neither MPI nor NCCL."""

from braze.runtime.cuda.block import Block
from braze.runtime.distributed.communicator import Communicator
from braze.runtime.distributed.device_group import DeviceGroup, Message
from braze.runtime.distributed.errors import DistBackendError, DistError
from braze.runtime.distributed.mpi import REDUCTIONS, library
from braze.runtime.distributed.nccl import nccl
from braze.runtime.distributed.progress import Work
from braze.runtime.distributed.tags import require_free
from braze.runtime.distributed.world import World

__all__ = [
    "REDUCTIONS",
    "Block",
    "Communicator",
    "DeviceGroup",
    "DistBackendError",
    "DistError",
    "Message",
    "Work",
    "World",
    "library",
    "nccl",
    "require_free",
]
