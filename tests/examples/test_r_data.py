"""examples/r_data.py: novels and ratings out of R's serialization format."""

import importlib.util
import struct
import zlib
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "examples" / "r_data.py"
spec = importlib.util.spec_from_file_location("r_data", PATH)
r_data = importlib.util.module_from_spec(spec)
spec.loader.exec_module(r_data)

HEAD = b"X\n" + struct.pack(">iii", 3, 0, 0) + struct.pack(">i", 5) + b"UTF-8"
NIL = struct.pack(">i", 254)


def numbers(kind, flags, values):
    head = struct.pack(">ii", flags, len(values))
    return head + struct.pack(f">{len(values)}{kind}", *values)


def strings(texts):
    """A vector of strings as R serializes it."""
    items = b"".join(struct.pack(">ii", 9, len(t)) + t.encode() for t in texts)
    return struct.pack(">ii", 16, len(texts)) + items


def symbol(name):
    return struct.pack(">iii", 1, 9, len(name)) + name.encode()


def attribute(name, value):
    """A pairlist of one attribute."""
    return struct.pack(">i", 2 | 1024) + symbol(name) + value + NIL


def named(**values):
    """A list whose names are an attribute of it."""
    head = struct.pack(">ii", 19 | 512, len(values))
    return head + b"".join(values.values()) + attribute("names", strings(values))


def write_package(folder, **objects):
    """A folder as packages of R have it, with these serialized objects."""
    data, places = b"", {}
    for name, value in objects.items():
        packed = struct.pack(">i", 0) + zlib.compress(HEAD + value)
        places[name] = numbers("i", 13, [len(data), len(packed)])
        data += packed
    folder = folder / "site-library" / "something" / "data"
    folder.mkdir(parents=True)
    index = named(variables=named(**places))
    (folder / "Rdata.rdx").write_bytes(zlib.compress(HEAD + index))
    (folder / "Rdata.rdb").write_bytes(data)


def test_novels_become_one_text(tmp_path, capsys):
    emma, persuasion = strings(["EMMA", "", "handsome, clever"]), strings(["vain"])
    write_package(tmp_path / "package", emma=emma, persuasion=persuasion)
    text = tmp_path / "text.txt"
    r_data.main([str(tmp_path / "package"), str(text)])
    assert text.read_text() == "EMMA\n\nhandsome, clever\n\n\nvain"
    assert capsys.readouterr().out == "emma: 3 words, persuasion: 1 words\n"
    with pytest.raises(ValueError, match="not a file in R's format"):
        r_data.Reader(b"no")


def test_ratings_become_movielens_files(tmp_path, capsys):
    genres = numbers("i", 13 | 512, [2, 1, 2]) + attribute("levels", strings(["Comedy", "Drama"]))
    table = named(
        movieId=numbers("i", 13, [7, 3, 7]),
        title=strings(["Sense, and Sensibility", "Emma", "Sense, and Sensibility"]),
        year=numbers("i", 13, [1995, -(2**31), 1995]),
        genres=genres,
        userId=numbers("i", 13, [1, 1, 2]),
        rating=numbers("d", 14, [2.5, 4.0, 5.0]),
        timestamp=numbers("i", 13, [10, 20, 30]),
    )
    write_package(tmp_path / "package", movielens=table)
    r_data.main([str(tmp_path / "package"), str(tmp_path / "out")])
    assert capsys.readouterr().out == "3 ratings of 2 films\n"
    assert (tmp_path / "out" / "ratings.csv").read_text() == (
        "userId,movieId,rating,timestamp\n1,7,2.5,10\n1,3,4.0,20\n2,7,5.0,30\n"
    )
    assert (tmp_path / "out" / "movies.csv").read_text() == (
        'movieId,title,genres\n3,Emma,Comedy\n7,"Sense, and Sensibility (1995)",Drama\n'
    )
