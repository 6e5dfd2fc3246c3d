"""The static server: types, ranges, isolation, caching, and nothing outside its folder."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.errors import InvalidArgument, PortInUse
from insitu.serve import make_server, parse_range

DATA = bytes(range(256)) * 4
SHARD = "insitu/index/vectors-0123456789abcdef.bin"
MODEL = "insitu/model/minilm-l6-int8-0123456789abcdef/model.lock.json"


class Client:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    base = tmp_path_factory.mktemp("serve")
    root = base / "site"
    files: tuple[str, ...] = (
        "index.html",
        "sub/index.html",
        "empty/x.txt",
        "a b.html",
        SHARD,
        MODEL,
        "insitu/index.json",
    )
    files += ("x.mjs", "x.js", "x.wasm", "x.json", "x.bin", "x.css", "x.onnx", "x.whl", "x.unknown", "zero.bin")
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "zero.bin" else DATA)
    (base / "secret.txt").write_text("secret")
    (base / "site-other").mkdir()
    (base / "site-other/secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(base / "secret.txt")
    server = make_server(root, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Client(server.server_address[1])
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/sub/", "text/html; charset=utf-8"),
        ("/a%20b.html?x=1", "text/html; charset=utf-8"),
        ("/x.mjs", "text/javascript; charset=utf-8"),
        ("/x.js", "text/javascript; charset=utf-8"),
        ("/x.wasm", "application/wasm"),
        ("/x.json", "application/json"),
        ("/x.bin", "application/octet-stream"),
        ("/x.onnx", "application/octet-stream"),
        ("/x.whl", "application/octet-stream"),
        ("/x.css", "text/css; charset=utf-8"),
        ("/x.unknown", "application/octet-stream"),
    ],
)
def test_files_are_served_whole_with_their_type(client: Client, path: str, kind: str) -> None:
    status, headers, body = client.ask(path)
    assert (status, headers["content-type"], body) == (200, kind, DATA)
    assert headers["content-length"] == str(len(DATA))


@pytest.mark.parametrize("path", ["/", "/x.bin", "/nothing", "/sub"])
def test_every_answer_isolates_the_page(client: Client, path: str) -> None:
    headers = client.ask(path)[1]
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=1000-", 1000, 1024), ("bytes=-5", 1019, 1024),
     ("bytes=1020-9999", 1020, 1024), ("bytes=-9999", 0, 1024)],
)  # fmt: skip
def test_a_range_is_served_alone(client: Client, wanted: str, start: int, end: int) -> None:
    status, headers, body = client.ask("/x.bin", Range=wanted)
    assert (status, body) == (206, DATA[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/1024"
    assert headers["content-length"] == str(end - start)


@pytest.mark.parametrize("wanted", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(client: Client, wanted: str) -> None:
    status, headers, _ = client.ask("/x.bin", Range=wanted)
    assert (status, headers["content-range"]) == (416, "bytes */1024")


@pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=-", "bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "nonsense"])
def test_what_is_no_single_range_gets_the_whole(client: Client, wanted: str) -> None:
    assert client.ask("/x.bin", Range=wanted)[::2] == (200, DATA)


def test_a_range_of_a_file_that_changed_gets_the_whole(client: Client) -> None:
    tag = client.ask("/x.bin")[1]["etag"]
    assert client.ask("/x.bin", Range="bytes=0-1", If_Range=tag)[0] == 206
    assert client.ask("/x.bin", Range="bytes=0-1", If_Range='"other"')[0] == 200


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_what_slices_are(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    if first <= last:
        start, end = parse_range(f"bytes={first}-{last}", size) or (0, 0)
        assert data[start:end] == data[first : last + 1]
    start, end = parse_range(f"bytes=-{last}", size) or (0, 0)
    assert data[start:end] == (data[-last:] if last else b"")


def test_unchanged_files_are_not_sent_again(client: Client) -> None:
    status, headers, _ = client.ask("/x.bin")
    assert status == 200
    status, again, body = client.ask("/x.bin", If_None_Match=f'"a", W/{headers["etag"]}')
    assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert client.ask("/x.bin", If_None_Match='"another"')[0] == 200


def test_only_files_named_by_their_content_are_cached_for_ever(client: Client) -> None:
    def caching(path: str) -> str:
        return client.ask(path)[1]["cache-control"]

    assert "immutable" in caching(f"/{SHARD}")
    assert "immutable" in caching(f"/{MODEL}")
    for path in ("/", "/x.js", "/insitu/index.json"):
        assert caching(path) == "no-cache"


def test_head_tells_the_same_without_the_body(client: Client) -> None:
    status, headers, body = client.ask("/x.bin", method="HEAD")
    assert (status, headers["content-length"], body) == (200, "1024", b"")
    assert client.ask("/nothing", method="HEAD")[::2] == (404, b"")
    assert client.ask("/zero.bin", Range="bytes=0-")[0] == 416


def test_a_folder_is_asked_for_with_its_slash(client: Client) -> None:
    status, headers, _ = client.ask("/sub")
    assert (status, headers["location"]) == (301, "/sub/")
    status, headers, _ = client.ask("//sub")
    assert (status, headers["location"]) == (301, "/sub/")
    assert client.ask("/empty/")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/sub/../../secret.txt", "/..\\secret.txt",
        "//../secret.txt", "/../site-other/secret.txt", "/link.txt", "/%00", "/x.bin/", "/x.bin%00.html",
    ],
)  # fmt: skip
def test_nothing_outside_the_folder_is_served(client: Client, path: str) -> None:
    status, _, body = client.ask(path)
    assert status == 404
    assert b"secret" not in body


def test_other_methods_are_refused(client: Client) -> None:
    assert client.ask("/x.bin", method="POST")[0] == 501


def test_a_connection_serves_many_requests(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    for path, status in (("/x.bin", 200), ("/nothing", 404), ("/sub", 301), ("/x.js", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == status
        answer.read()
    connection.close()


def test_a_port_in_use_is_told_with_another_to_take(client: Client, tmp_path: Path) -> None:
    with pytest.raises(PortInUse, match=f"--port {client.port + 1}"):
        make_server(tmp_path, client.port)


def test_what_is_no_folder_or_no_port_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="missing"):
        make_server(tmp_path / "missing", 0)
    with pytest.raises(InvalidArgument, match="70000"):
        make_server(tmp_path, 70_000)


def test_a_second_answer_on_a_connection_does_not_wait_for_an_acknowledgement(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    took = []
    for _ in range(20):
        start = time.monotonic()
        connection.request("GET", "/" + SHARD)
        connection.getresponse().read()
        took.append(time.monotonic() - start)
    connection.close()
    assert min(took[1:]) < 0.03  # seconds; who acknowledges late does so after 0.04
