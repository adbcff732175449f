"""Read data from packages of R: Jane Austen's six novels as one text, and MovieLens's ratings.

    apt-get download r-cran-janeaustenr && dpkg --extract r-cran-janeaustenr_*.deb novels
    python examples/r_data.py novels austen.txt

    apt-get download r-cran-dslabs && dpkg --extract r-cran-dslabs_*.deb dslabs
    python examples/r_data.py dslabs movielens

The first writes a file, the second a folder with `ratings.csv` and `movies.csv` as in MovieLens's
own archives. The packages keep their objects in R's serialization format ("XDR", chapter 1.8 of
"R Internals"), compressed; of that format this reads what occurs there.
"""

import argparse
import csv
import struct
import zlib
from pathlib import Path

NIL, SYMBOL, PAIRLIST, CHARACTERS, STRINGS, LIST = 254, 1, 2, 9, 16, 19
LOGICALS, INTEGERS, REALS, REFERENCE = 10, 13, 14, 255
HAS_ATTRIBUTES, HAS_TAG = 512, 1024


class Reader:
    """Reads one object: vectors are lists, lists with names and pairlists are dictionaries.

    A factor is the list of its strings.
    """

    def __init__(self, data):
        if data[:2] != b"X\n":
            raise ValueError(f"not a file in R's format: it begins with {data[:2]!r}")
        self.data, self.at, self.symbols = data, 2, []
        version, _, _ = self.integer(), self.integer(), self.integer()
        if version == 3:  # the name of the encoding follows
            self.characters(self.integer())

    def numbers(self, kind, size):
        """The vector of numbers of struct's `kind` that follows its length."""
        count = self.integer()
        self.at += count * size
        return list(struct.unpack_from(f">{count}{kind}", self.data, self.at - count * size))

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
            value = self.numbers("i", 4)
        elif kind == REALS:
            value = self.numbers("d", 8)
        else:
            raise ValueError(f"objects of R's type {kind} are not read")
        attributes = (self.item() if flags & HAS_ATTRIBUTES else None) or {}
        if "names" in attributes:
            return dict(zip(attributes["names"], value, strict=True))
        if "levels" in attributes:
            return [attributes["levels"][number - 1] for number in value]
        return value

    def characters(self, count):
        if count < 0:  # R's NA
            return ""
        self.at += count
        return self.data[self.at - count : self.at].decode()


def packaged(folder):
    """What the extracted package `folder` holds: names to functions that read the objects."""
    (index,) = Path(folder).rglob("data/Rdata.rdx")
    places = Reader(zlib.decompress(index.read_bytes(), wbits=47)).item()["variables"]
    data = index.with_suffix(".rdb").read_bytes()

    def reader(at, length):
        # Four bytes say how long it is when it is expanded.
        return lambda: Reader(zlib.decompress(data[at + 4 : at + length])).item()

    return {name: reader(*place) for name, place in places.items()}


def write_movielens(table, folder):
    """The columns `table` as the two files of MovieLens in `folder`: how many ratings, films."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = [table[name] for name in ("movieId", "title", "year", "genres")]
    films = {}
    for number, title, year, genres in zip(*columns, strict=True):
        films[number] = (f"{title} ({year})" if year > 0 else title), genres  # R's NA is negative
    ratings = [table[name] for name in ("userId", "movieId", "rating", "timestamp")]
    files = {
        "ratings.csv": ("userId,movieId,rating,timestamp", zip(*ratings, strict=True)),
        "movies.csv": ("movieId,title,genres", [(n, *film) for n, film in sorted(films.items())]),
    }
    for name, (head, rows) in files.items():
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            file.write(head + "\n")
            csv.writer(file, lineterminator="\n").writerows(rows)
    return len(table["rating"]), len(films)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Write data of R's packages as plain files.")
    parser.add_argument("package", help="the folder where it was extracted")
    parser.add_argument("output", type=Path, help="the file or folder to write")
    args = parser.parse_args(argv)
    objects = packaged(args.package)
    if "movielens" in objects:
        number, films = write_movielens(objects["movielens"](), args.output)
        print(f"{number} ratings of {films} films")
    else:
        texts = {name: "\n".join(lines()) for name, lines in objects.items()}
        args.output.write_text("\n\n\n".join(texts.values()))
        print(", ".join(f"{name}: {len(text.split())} words" for name, text in texts.items()))


if __name__ == "__main__":
    main()
