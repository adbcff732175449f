"""Write Jane Austen's six novels as one text, from Debian's package r-cran-janeaustenr.

    apt-get download r-cran-janeaustenr && dpkg --extract r-cran-janeaustenr_*.deb novels
    python examples/gpt/novels.py novels austen.txt

The package keeps each novel as an R vector of lines, in R's serialization format ("XDR", chapter
1.8 of "R Internals"), compressed; of that format this reads what occurs there.
"""

import argparse
import struct
import zlib
from pathlib import Path

NIL, SYMBOL, PAIRLIST, CHARACTERS, STRINGS, LIST = 254, 1, 2, 9, 16, 19
LOGICALS, INTEGERS, REFERENCE = 10, 13, 255
HAS_ATTRIBUTES, HAS_TAG = 512, 1024


class Reader:
    """Reads one object: vectors are lists, lists with names and pairlists are dictionaries."""

    def __init__(self, data):
        if data[:2] != b"X\n":
            raise ValueError(f"not a file in R's format: it begins with {data[:2]!r}")
        self.data, self.at, self.symbols = data, 2, []
        version, _, _ = self.integer(), self.integer(), self.integer()
        if version == 3:  # the name of the encoding follows
            self.characters(self.integer())

    def integer(self):
        (value,) = struct.unpack_from(">i", self.data, self.at)
        self.at += 4
        return value

    def item(self):
        flags = self.integer()
        kind = flags & 255
        if kind == NIL:
            return None
        if kind == REFERENCE:
            return self.symbols[(flags >> 8 or self.integer()) - 1]
        if kind == SYMBOL:
            self.symbols.append(self.item())
            return self.symbols[-1]
        if kind == CHARACTERS:
            return self.characters(self.integer())
        if kind == PAIRLIST:
            if flags & HAS_ATTRIBUTES:
                self.item()
            name = self.item() if flags & HAS_TAG else None
            return {name: self.item(), **(self.item() or {})}
        if kind in (STRINGS, LIST):
            value = [self.item() for _ in range(self.integer())]
        elif kind in (LOGICALS, INTEGERS):
            value = [self.integer() for _ in range(self.integer())]
        else:
            raise ValueError(f"objects of R's type {kind} are not read")
        attributes = self.item() if flags & HAS_ATTRIBUTES else None
        if attributes and "names" in attributes:
            return dict(zip(attributes["names"], value, strict=True))
        return value

    def characters(self, count):
        if count < 0:  # R's NA
            return ""
        self.at += count
        return self.data[self.at - count : self.at].decode()


def novels(folder):
    """The novels in the extracted package `folder`: names to texts."""
    (index,) = Path(folder).rglob("janeaustenr/data/Rdata.rdx")
    places = Reader(zlib.decompress(index.read_bytes(), wbits=47)).item()["variables"]
    data = index.with_suffix(".rdb").read_bytes()
    # Each place is an offset and a length; four bytes say how long it is when it is expanded.
    packed = {name: data[at + 4 : at + length] for name, (at, length) in places.items()}
    return {name: "\n".join(Reader(zlib.decompress(p)).item()) for name, p in packed.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write Jane Austen's novels as one text.")
    parser.add_argument("folder", help="where the package was extracted")
    parser.add_argument("text", type=Path, help="the file to write")
    arguments = parser.parse_args()
    texts = novels(arguments.folder)
    arguments.text.write_text("\n\n\n".join(texts.values()))
    print(", ".join(f"{name}: {len(text.split())} words" for name, text in texts.items()))
