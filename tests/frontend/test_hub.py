"""`braze.hub`: downloads are kept, checked, and whole or not there."""

import hashlib
import os
import threading
import urllib.error
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import braze
from braze import hub
from braze.utils import model_zoo


@pytest.fixture
def served(tmp_path):
    """A folder, and the address of a server of its files, which notes what it is asked for and cuts
    off files whose names say so."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            path = folder / self.path[1:].partition("?")[0]
            if not path.exists():
                self.send_error(404)
                return
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if "cut" in self.path else data)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_state_is_downloaded_once(served, tmp_path, monkeypatch, capfd):
    folder, address, asked = served
    monkeypatch.setenv("BRAZE_HOME", str(tmp_path / "home"))
    assert hub.get_dir() == str(tmp_path / "home" / "hub")
    braze.save({"x": braze.ones(2)}, folder / "net.pth")
    for _ in range(2):
        back = hub.load_state_dict_from_url(f"{address}/net.pth?version=1", map_location="cpu")
        assert back["x"].tolist() == [1, 1]
    assert asked == ["/net.pth?version=1"]
    assert os.listdir(tmp_path / "home" / "hub" / "checkpoints") == ["net.pth"]
    assert "Downloading" in capfd.readouterr().err
    back = model_zoo.load_url(
        (folder / "net.pth").as_uri(), str(tmp_path / "own"), file_name="a.pth"
    )
    assert back["x"].tolist() == [1, 1] and os.listdir(tmp_path / "own") == ["a.pth"]


def test_hashes_are_checked(served, tmp_path):
    folder, address, _ = served
    braze.save(braze.ones(2), folder / "x")
    digest = hashlib.sha256((folder / "x").read_bytes()).hexdigest()
    load = partial(hub.load_state_dict_from_url, model_dir=str(tmp_path / "own"), check_hash=True)
    for name in (f"net-{digest[:8]}.pth", f"net-{'0' * 8}.pth"):
        (folder / name).write_bytes((folder / "x").read_bytes())
    assert load(f"{address}/net-{digest[:8]}.pth").tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="invalid hash value"):
        load(f"{address}/net-00000000.pth")
    assert os.listdir(tmp_path / "own") == [f"net-{digest[:8]}.pth"]


def test_failed_downloads_leave_nothing(served, tmp_path):
    folder, address, _ = served
    braze.save(braze.ones(2), folder / "cut.pth")
    target = tmp_path / "target.pth"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="ended after"):
        hub.download_url_to_file(f"{address}/cut.pth", target)
    with pytest.raises(urllib.error.URLError):
        hub.download_url_to_file(f"{address}/none.pth", target)
    assert target.read_text() == "old" and sorted(os.listdir(tmp_path)) == ["served", "target.pth"]
    with pytest.raises(ValueError, match="names no file"):
        hub.load_state_dict_from_url(f"{address}/", str(tmp_path / "own"))


def test_what_is_downloaded_is_not_trusted(served, tmp_path):
    folder, address, _ = served
    braze.save(braze.nn.Linear(2, 2), folder / "module.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        hub.load_state_dict_from_url(f"{address}/module.pth", str(tmp_path / "own"))
    trusted = hub.load_state_dict_from_url(
        f"{address}/module.pth", str(tmp_path / "own"), weights_only=False
    )
    assert isinstance(trusted, braze.nn.Linear)


def test_files_in_ordinary_zip_files(served, tmp_path):
    folder, address, _ = served
    braze.save(braze.ones(2), folder / "inside.pth", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(folder / "one.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "inside.pth", "inside.pth")
    own = str(tmp_path / "own")
    assert hub.load_state_dict_from_url(f"{address}/one.zip", own).tolist() == [1, 1]
    with zipfile.ZipFile(folder / "two.zip", "w") as archive:
        archive.writestr("a", "1")
        archive.writestr("b", "2")
    with pytest.raises(RuntimeError, match="Only one file"):
        hub.load_state_dict_from_url(f"{address}/two.zip", own)


def test_the_folder(monkeypatch):
    monkeypatch.delenv("BRAZE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setattr(hub, "_folder", [])
    assert hub.get_dir() == "/cache/braze/hub"
    hub.set_dir("~/own")
    assert hub.get_dir() == os.path.expanduser("~/own")
