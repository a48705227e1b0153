import hashlib
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from msrcnn.data import coco2017
from msrcnn.data.download import RemoteFile, download
from msrcnn.errors import UserError

CONTENT = bytes(range(256)) * 5000


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``, and closes every connection after ``server.limit`` bytes."""

    def do_GET(self):
        content = self.server.files[self.path]
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.server.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.limit, server.starts = {"/file.bin": CONTENT}, 10**9, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def remote(server, name="file.bin", content=CONTENT):
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    return RemoteFile(url, len(content), hashlib.md5(content).hexdigest())


def test_download(server, tmp_path):
    path = download(remote(server), tmp_path / "new")
    assert path.read_bytes() == CONTENT
    download(remote(server), tmp_path / "new")
    assert server.starts == [0]  # a complete file is not downloaded again


def test_interrupted_download_is_resumed(server, tmp_path):
    server.limit = 500_000
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.starts == [0, 500_000, 1_000_000]


def test_partial_download_is_kept(server, tmp_path):
    server.limit = 300_000
    with pytest.raises(UserError, match=r"file\.bin\.part; run the command again"):
        download(remote(server), tmp_path, tries=2)
    assert (tmp_path / "file.bin.part").stat().st_size == 600_000
    server.limit = 10**9
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.starts[-1] == 600_000


def test_damaged_file_is_rejected(server, tmp_path):
    server.files["/file.bin"] = CONTENT[::-1]
    with pytest.raises(UserError, match="damaged"):
        download(remote(server), tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_server(tmp_path):
    with pytest.raises(UserError, match="could not download"):
        download(RemoteFile("http://127.0.0.1:9/x", 1, ""), tmp_path)


@pytest.fixture
def fake_coco(server, tmp_path, monkeypatch):
    """Small versions of COCO's archives, with a split of two images."""
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)],
        "annotations": [{"id": 1}],
        "categories": [],
    }
    members = {
        "annotations": {"annotations/instances_val2017.json": json.dumps(content)},
        "val2017": {"val2017/1.jpg": "one", "val2017/2.jpg": "two"},
    }
    archives = {}
    for name, files in members.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        data = (tmp_path / f"{name}.zip").read_bytes()
        server.files[f"/{name}.zip"] = data
        archives[name] = remote(server, f"{name}.zip", data)
    monkeypatch.setattr(coco2017, "ARCHIVES", archives)
    return tmp_path / "coco"


def test_coco_is_downloaded_and_checked(server, fake_coco):
    coco2017.fetch(fake_coco, "val2017")
    assert coco2017.check_split(fake_coco, "val2017") == "val2017: 2 images, 1 instances"
    assert not list(fake_coco.glob("*.zip"))
    coco2017.fetch(fake_coco, "val2017")
    assert len(server.starts) == 2  # nothing is downloaded again


def test_incomplete_coco_is_detected_and_fixed(fake_coco):
    coco2017.fetch(fake_coco, "val2017")
    (fake_coco / "val2017" / "2.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 2 images are missing or empty \(first: 2\.jpg\)"):
        coco2017.check_split(fake_coco, "val2017")
    coco2017.fetch(fake_coco, "val2017")
    coco2017.check_split(fake_coco, "val2017")


def test_missing_annotations_are_downloaded_again(fake_coco):
    coco2017.fetch(fake_coco, "val2017")
    annotations = coco2017.annotation_file(fake_coco, "val2017")
    annotations.write_text('{"images": [')  # as an interrupted extraction leaves it
    with pytest.raises(UserError, match="is damaged"):
        coco2017.check_split(fake_coco, "val2017")
    coco2017.fetch(fake_coco, "val2017")
    coco2017.check_split(fake_coco, "val2017")
    annotations.unlink()
    coco2017.fetch(fake_coco, "val2017")
    coco2017.check_split(fake_coco, "val2017")


def test_missing_coco_is_detected(tmp_path):
    with pytest.raises(UserError, match=r"instances_val2017\.json is missing"):
        coco2017.check_split(tmp_path, "val2017")


def test_real_coco_is_complete(coco_root):
    for split in coco2017.SPLITS:
        assert coco2017.check_split(coco_root, split).startswith(split)
