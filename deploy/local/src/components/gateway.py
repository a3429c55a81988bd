"""ClickHouse's HTTP interface, as far as recwatch needs it, in front of the ClickHouse engine inside this process (chdb).

For development and tests on one machine: one statement runs at a time, every user and password is accepted, answers are
built in memory, and it listens on 127.0.0.1 only. Wherever ClickHouse itself can be had, point the configuration at that
instead; nothing else changes.

Understood: GET /ping; GET or POST / with the statement in the parameter `query`, in the body, or begun in the one and
continued in the other; `database`, `default_format`, and every other parameter as a setting of this statement; bodies with
Content-Encoding gzip, and lz4 for the data of an INSERT. Errors are ClickHouse's own text with status 500 and its number
in X-ClickHouse-Exception-Code. Every answer to a statement names its `query_id` in X-ClickHouse-Query-Id, and what the
engine itself has counted stands in X-ClickHouse-Summary, complete, as ClickHouse sends it with wait_end_of_query=1.

    python gateway.py --port 8123 --path DIRECTORY        (needs the package chdb-core)
"""

import argparse
import gzip
import http.server
import itertools
import json
import os
import re
import shutil
import signal
import sys
import threading
import urllib.parse
import uuid

from chdb.session import Session

# Parameters of the HTTP interface that are no settings of the engine and mean nothing here.
IGNORED = {
    "user", "password", "quota_key", "query_id", "session_id", "session_timeout", "session_check", "role", "stacktrace",
    "compress", "decompress", "buffer_size", "wait_end_of_query", "enable_http_compression", "client_protocol_version",
    "http_zlib_compression_level", "add_http_cors_header",
}

# An INSERT that brings its data along. chdb cuts data written inline behind the statement at the first two newline bytes,
# silently, so it is put into a file that the statement then names.
NAME = r'(?:`[^`]+`|"[^"]+"|\w+)'
COLUMNS = r"\((?:[^()`]|`[^`]*`|\([^()]*\))*\)"
INSERT = re.compile(
    rf"\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?!FUNCTION\b)(?P<target>{NAME}(?:\s*\.\s*{NAME})?(?:\s*{COLUMNS})?)"
    r"(?:\s*SETTINGS\s+(?P<settings>.+?))?\s*(?:\bFORMAT\s+(?P<format>\w+)|\b(?P<values>VALUES)\b)[ \t]*(?:;\s*$|\r?\n)?"
    .encode(),
    re.IGNORECASE | re.DOTALL,
)
CODE = re.compile(r"Code: (\d+)\.")


class Refused(Exception):
    """A request that the gateway itself cannot serve."""


class Engine:
    """The engine's databases in one folder."""

    def __init__(self, path):
        self.path = path
        self.incoming = path + ".incoming"
        self.files = itertools.count()
        self.lock = threading.Lock()
        # Left by a gateway that was killed in the middle of an INSERT.
        shutil.rmtree(self.incoming, ignore_errors=True)
        os.makedirs(self.incoming)
        self.keeper = Session(path)  # the engine stops with its last session

    def run(self, statement, data, compression, settings, database, form):
        """Runs one statement whose text may go on in `data`: what it answers, and what the engine counted.

        A session for each keeps settings apart (it costs 2 ms)."""
        insert = INSERT.match(statement)
        if insert is None and compression != "none":
            raise Refused(f"Content-Encoding {compression} is understood for the data of an INSERT given in `query` only")
        if insert is None and data:
            statement, data = statement + b"\n" + data if statement else data, b""
            insert = INSERT.match(statement)
        with self.lock:
            session = Session(self.path)
            try:
                if database:
                    session.query("USE `" + database.replace("`", "``") + "`")
                for key, value in settings:
                    session.query(f"SET {key} = '{escape(value)}'")
                if insert is None:
                    result = session.query(decoded(statement), form)
                else:
                    result = self.insert(session, insert, statement[insert.end():] + data, compression)
                return result.bytes(), summary(result)
            finally:
                session.close()

    def insert(self, session, insert, data, compression):
        file = os.path.join(self.incoming, str(next(self.files)))
        settings = insert["settings"]
        try:
            with open(file, "wb") as output:
                output.write(data)
            statement = (
                f"INSERT INTO {decoded(insert['target'])} FROM INFILE '{escape(file)}' COMPRESSION '{compression}' "
                + (f"SETTINGS {decoded(settings)} " if settings else "")
                + f"FORMAT {'Values' if insert['values'] else decoded(insert['format'])}"
            )
            return session.query(statement)
        finally:
            os.unlink(file)

    def close(self):
        with self.lock:
            self.keeper.close()


def summary(result):
    """What ClickHouse writes into X-ClickHouse-Summary, as far as the engine reports it: numbers as text."""
    counted = {
        "read_rows": result.rows_read(),
        "read_bytes": result.bytes_read(),
        "written_rows": result.rows_written(),
        "written_bytes": result.bytes_written(),
        "elapsed_ns": int(result.elapsed() * 1e9),
    }
    return json.dumps({key: str(value) for key, value in counted.items()}, separators=(",", ":"))


def escape(text):
    return text.replace("\\", "\\\\").replace("'", "\\'")


def decoded(statement):
    try:
        return statement.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"the statement is not UTF-8 ({error})") from error


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True  # small answers go out at once
    engine = None

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        headers = {}
        try:
            body, compression = self.body()
            if url.path == "/ping":
                return self.answer(200, b"Ok.\n")
            if url.path != "/":
                return self.answer(404, f"There is nothing at {url.path}: /ping and / are served.\n".encode())
            parameters = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True, errors="strict"))
            headers["X-ClickHouse-Query-Id"] = parameters.get("query_id") or str(uuid.uuid4())
            answer, headers["X-ClickHouse-Summary"] = self.statement(parameters, body, compression)
            self.answer(200, answer, headers)
        except Refused as error:
            self.close_connection = True
            self.answer(400, f"{error}\n".encode())
        except Exception as error:  # chdb raises several types
            text = str(error)
            code = CODE.search(text)
            if code is None:
                text = f"Code: 1002. DB::Exception: {text}"  # UNKNOWN_EXCEPTION
            print(text.splitlines()[0], file=sys.stderr)
            number = code[1] if code else "1002"
            self.answer(500, f"{text}\n".encode(), {**headers, "X-ClickHouse-Exception-Code": number})

    def statement(self, parameters, body, compression):
        for switch in ("compress", "decompress"):
            if parameters.get(switch, "0") not in ("0", "false"):
                raise Refused(f"{switch}={parameters[switch]}: this gateway does not compress, switch compression off")
        statement = parameters.pop("query", "").encode()
        database = parameters.pop("database", "")
        form = parameters.pop("default_format", "TabSeparated")
        settings = [(key, value) for key, value in parameters.items() if key not in IGNORED]
        for key, _ in settings:
            if not re.fullmatch(r"\w+", key):
                raise Refused(f"{key!r} is not the name of a setting")
        if not statement and not body:
            raise Refused("there is no statement: give it as the parameter query or as the body of a POST")
        return self.engine.run(statement, body, compression, settings, database, form)

    def body(self):
        """The body, and how it is still compressed: "none", or in a way that the engine reads."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b"".join(self.chunks())
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        encoding = self.headers.get("Content-Encoding", "identity")
        if encoding == "gzip":
            return gzip.decompress(body), "none"
        if encoding == "lz4":
            return body, "lz4"
        if encoding != "identity":
            raise Refused(f"Content-Encoding {encoding}: identity, gzip and lz4 are understood")
        return body, "none"

    def chunks(self):
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            chunk = self.rfile.read(size)
            if len(chunk) < size:
                raise ConnectionError("the body broke off")  # never half a batch
            self.rfile.readline()
            if size == 0:
                return
            yield chunk

    def answer(self, status, body, headers=None):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass  # errors are logged where they happen


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8123, help="on 127.0.0.1")
    parser.add_argument("--path", required=True, help="folder of the databases")
    arguments, _ = parser.parse_known_args()  # the rest are marks for those who look for this process
    server = Server(("127.0.0.1", arguments.port), Handler)
    try:
        Handler.engine = Engine(os.path.abspath(arguments.path))
    except Exception as error:  # behind the reason come pages of addresses
        sys.exit(f"the engine does not start in {arguments.path}: {str(error).split(', Stack trace')[0]}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
    Handler.engine.close()  # waits for the statement that is running
    os._exit(0)  # connections that are kept have threads that wait for ever


main()
