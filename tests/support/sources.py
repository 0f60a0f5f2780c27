"""Shared by the tests of the sources: read one, to the end."""

from __future__ import annotations

import contextlib
import csv
import gzip
import http.server
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.core.recipe import DatasetSettings, SourceSettings
from toolkit.data.sources import SourceFacts, read_records
from toolkit.data.sources.records import Record


def read(name: str, *, description_language: str = "en", **source: Any) -> tuple[list[Record], SourceFacts]:
    """All records of one source, and its facts."""
    settings = DatasetSettings(sources=[SourceSettings(name=name, **source)], description_language=description_language)
    ((facts, records),) = read_records(settings)
    return list(records), facts


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], encoding: str = "utf-8") -> Path:
    """Write rows in the format that the file's name says; `.json` is an indented list."""
    kind = path.name.lower().removesuffix(".gz")
    stream = io.StringIO(newline="")
    if kind.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
        return path
    if kind.endswith(".json"):
        json.dump(list(rows), stream, ensure_ascii=False, indent=2)
    elif kind.endswith(("jsonl", "ndjson")):
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if kind.endswith(".tsv") else ",")
        writer.writeheader()
        writer.writerows(rows)
    body = stream.getvalue().encode(encoding)
    path.write_bytes(gzip.compress(body, mtime=0) if path.name.endswith(".gz") else body)
    return path


POKEAPI = {
    "pokemon_species": "id,identifier,generation_id,evolution_chain_id,color_id,shape_id,habitat_id\n"
    "1,sprout,1,1,5,1,1\n2,sproutling,1,1,5,1,\n3,moss,2,7,4,,1\n",
    "pokemon_species_names": "pokemon_species_id,local_language_id,name,genus\n1,9,Sprout,Seed Pokémon\n"
    "1,3,새싹이,씨앗포켓몬\n1,5,Pousse,\n2,9,Sproutling,\n2,3,새싹몬,\n3,9,Moss,\n3,3,이끼,\n",
    "pokemon_species_flavor_text": "species_id,version_id,language_id,flavor_text\n"
    '1,1,9,"A seed on its\nback.\x0cThis POKéMON\nnaps."\n1,2,3,등에 씨앗이 있다.\n'
    "3,2,9,It grows on Sprout.\n1,1,5,Une graine.\n",
    "pokemon_types": "pokemon_id,type_id,slot\n1,2,2\n1,1,1\n3,1,1\n9001,1,1\n",
    "types": "id,identifier\n1,grass\n2,poison\n",
    "versions": "id,identifier\n1,red\n2,gold\n",
    "pokemon_shapes": "id,identifier\n1,quadruped\n",
    "pokemon_habitats": "id,identifier\n1,forest\n",
}


def write_tables(folder: Path, tables: Mapping[str, str] = POKEAPI) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
    return folder


class _Host(http.server.BaseHTTPRequestHandler):
    """Serves `POKEAPI` below `/{revision}/data/v2/csv/`, with the faults that a test lists, one a request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faults: list[str]
    seen: list[str]
    over: threading.Event

    def do_GET(self) -> None:
        self.seen.append(self.path)
        body = POKEAPI.get(self.path.partition("?")[0].rsplit("/", 1)[-1].removesuffix(".csv"), "").encode()
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "html":
            body = b"<html>\n<title>Log in, please</title>\n</html>\n"
        if fault == "silent":
            self.over.wait()
        status = int(fault) if fault.isdecimal() else 200 if body else 404
        self.send_response(status)
        self._send(body, fault)

    def _send(self, body: bytes, fault: str) -> None:
        self.close_connection = fault in ("cut", "cut-chunks")
        if fault == "cut-chunks":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n" % (len(body) // 2, body[: len(body) // 2])
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def host(*faults: str) -> Iterator[tuple[str, list[str]]]:
    over = threading.Event()
    state = {"faults": list(faults), "seen": [], "over": over}
    handler: Any = type("Handler", (_Host,), state)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client may hang up
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.seen
        finally:
            over.set()
            server.shutdown()
            thread.join()
