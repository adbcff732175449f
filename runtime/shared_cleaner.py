"""A process that removes shared files once every process that used them has ended.

    python shared_cleaner.py DESCRIPTOR FOLDER

In: a listening socket.  Each process that shares files is connected to it, and says "+name" for a
file that is made and "-name" for one that is removed.  When the last connection is gone, the files
that are left over are removed, and this process ends.  It imports nothing of Braze, so that it
starts in no time and costs little.
"""

import os
import selectors
import socket
import sys


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    folder = sys.argv[2]
    names: set[str] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        connected = 0
        seen = False
        while connected or not seen:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                    connected += 1
                    seen = True
                    continue
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if not hear(connection, names):
                    selector.unregister(connection)
                    connection.close()
                    connected -= 1
    for name in names:
        try:
            os.unlink(os.path.join(folder, name))
        except FileNotFoundError:
            pass


def hear(connection: socket.socket, names: set[str]) -> bool:
    """Take one message; False if the other side is gone."""
    try:
        message = connection.recv(4096).decode()
    except OSError:
        return False
    if message.startswith("+"):
        names.add(message[1:])
    elif message.startswith("-"):
        names.discard(message[1:])
    return bool(message)


if __name__ == "__main__":
    main()
