"""Serve the built site on this machine only, compressed as a public host would send it."""

from __future__ import annotations

import argparse
import gzip
import sys
from functools import lru_cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

#: what a static host compresses
COMPRESSED = {".html", ".css", ".js", ".json", ".svg", ".inv", ".txt", ".ipynb", ".md"}


@lru_cache(maxsize=512)
def _compressed(path: str, changed_ns: int) -> bytes:
    return gzip.compress(Path(path).read_bytes(), compresslevel=6, mtime=0)


class Handler(SimpleHTTPRequestHandler):
    """Static files; text is gzipped when the browser accepts it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_args) -> None:
        pass  # the address is all that a reader of the terminal needs

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path /= "index.html"
        accepts = "gzip" in self.headers.get("Accept-Encoding", "")
        if not (path.is_file() and path.suffix in COMPRESSED and accepts):
            super().do_GET()
            return
        body = _compressed(str(path), path.stat().st_mtime_ns)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def make_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of ``folder`` on the loopback address; port 0 takes any free one.

    Raises
    ------
    FileNotFoundError
        If there is no built site.
    OSError
        If the port is taken.
    """
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"{folder}: no built site here; run `make book` first")
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("_build/html"))
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    if not 0 <= options.port <= 65535:
        print(f"serve: --port {options.port} is not between 0 and 65535", file=sys.stderr)
        return 2
    server = None
    for port in [options.port, 0]:
        try:
            server = make_server(options.folder, port)
            break
        except FileNotFoundError as error:
            print(f"serve: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"serve: port {port} cannot be used ({error.strerror}); taking a free one")
    if server is None:
        print("serve: no port of this machine can be used", file=sys.stderr)
        return 1
    print(
        f"serve: the book is at http://127.0.0.1:{server.server_port}/  (Ctrl+C stops it)",
        flush=True,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
