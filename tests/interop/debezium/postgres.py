"""The recording of PostgreSQL."""
import glob
import json
import os
import shutil
import struct
import subprocess
import tempfile

import engine

PORT = 25417
# The settings of Rowbridge's sessions, which make canonical texts.
CANONICAL = {
    "DateStyle": "ISO", "IntervalStyle": "postgres", "TimeZone": "UTC", "bytea_output": "hex", "extra_float_digits": "3",
    "search_path": "", "client_encoding": "UTF8",
}


class Server:
    def __init__(self, folder):
        found = glob.glob("/usr/lib/postgresql/*/bin")
        self.bin = os.environ.get("ROWBRIDGE_TEST_PG_BIN") or max(found, key=lambda path: int(path.split("/")[4]))
        self.data = os.path.join(folder, "data")
        self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(folder, "postgres", "postgres")
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--locale=C", "-E", "UTF8")
        options = f"-p {PORT} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c wal_level=logical -c fsync=off"
        self._run("pg_ctl", "-D", self.data, "-l", os.path.join(folder, "log"), "-w", "-o", options, "start")

    def _run(self, program, *arguments):
        subprocess.run([*self.user, os.path.join(self.bin, program), *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def stop(self):
        self._run("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")

    def psql(self, text, canonical=False):
        env = dict(os.environ, PGCLIENTENCODING="UTF8")
        if canonical:
            env["PGOPTIONS"] = " ".join(f"-c {name}={value}" for name, value in CANONICAL.items())
        command = [os.path.join(self.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
                   "-p", str(PORT), "-U", "postgres", "shop"]
        done = subprocess.run(command, input=text, env=env, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{done.stderr}\n{text}")
        return done.stdout

    def json(self, query):
        return json.loads(self.psql(f"SELECT coalesce(pg_catalog.json_agg(q), '[]') FROM ({query}) q", canonical=True))


TABLES = """
    SELECT c.relname AS name, c.relreplident AS identity,
        (SELECT json_agg(json_build_object('name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
             'not_null', a.attnotnull) ORDER BY a.attnum)
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
        (SELECT json_agg(k.n - 1 ORDER BY k.at) FROM pg_catalog.pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(n, at)
         WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END) AS key
    FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY c.oid"""
TYPES = [
    {"kind": "enum", "name": {"schema": "public", "name": "mood"}, "labels": ["sad", "so so", "happy"]},
    {"kind": "domain", "name": {"schema": "public", "name": "price"}, "base": "numeric(10,2)"},
    {"kind": "domain", "name": {"schema": "public", "name": "label"}, "base": "text"},
    {"kind": "composite", "name": {"schema": "public", "name": "address"},
     "fields": [["street", "text"], ["number", "integer"]]},
    {"kind": "range", "name": {"schema": "public", "name": "floatrange"}, "subtype": "double precision"},
]


def definition(table):
    columns = [{name: value for name, value in column.items() if value is not False} for column in table["columns"]]
    return {"dialect": "postgres", "schema": "public", "name": table["name"], "columns": columns, "key": table["key"] or [],
            "types": TYPES}


def read_rows(server, table):
    """The rows of a table as a snapshot reads them: what each type's output function prints."""
    cells = ", ".join(
        "CASE WHEN {0} IS NULL THEN NULL ELSE pg_catalog.format('%s', {0}) END".format('"' + column["name"] + '"')
        for column in table["columns"])
    query = f'SELECT pg_catalog.json_build_array({cells}) AS row FROM public."{table["name"]}" ORDER BY 1::text'
    return [found["row"] for found in server.json(query.replace(" ORDER BY 1::text", ""))]


class Reader:
    """Reads pgoutput's messages (PostgreSQL manual, "Logical Replication Message Formats", protocol version 1)."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        self.at += length
        return self.data[self.at - length:self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def name(self):
        end = self.data.index(0, self.at)
        found = self.data[self.at:end].decode()
        self.at = end + 1
        return found

    def tuple(self):
        """A list of [text], null, or "unchanged" for a value outside the row that was not touched."""
        cells = []
        for _ in range(self.number("H")):
            kind = self.take(1)
            if kind == b"n":
                cells.append(None)
            elif kind == b"u":
                cells.append("unchanged")
            else:
                cells.append([self.take(self.number("i")).decode()])
        return cells


def changes(server):
    """What the second slot saw, one entry per change."""
    query = """SELECT lsn::text, xid::text, pg_catalog.encode(data, 'hex') FROM pg_catalog.pg_logical_slot_get_binary_changes(
        'canonical', NULL, NULL, 'proto_version', '1', 'publication_names', 'recording')"""
    relations, found, transaction, ordinal = {}, [], {}, 0
    for line in server.psql(query, canonical=True).splitlines():
        lsn, _, data = line.split("|")
        reader = Reader(bytes.fromhex(data))
        kind = reader.take(1)
        high, low = lsn.split("/")
        common = lambda: {**transaction, "lsn": int(high, 16) << 32 | int(low, 16), "ordinal": ordinal}
        if kind == b"B":
            commit, microseconds, xid = reader.number("Q"), reader.number("q"), reader.number("I")
            # PostgreSQL counts from the year 2000.
            transaction, ordinal = {"commit": commit, "committed_at": microseconds + 946684800000000, "xid": xid}, 0
        elif kind == b"R":
            oid = reader.number("I")
            reader.name()
            relations[oid] = reader.name()
        elif kind == b"T":
            count, _ = reader.number("I"), reader.take(1)
            for _ in range(count):
                ordinal += 1
                found.append({"op": "truncate", "table": relations[reader.number("I")], **common()})
        elif kind in b"IUD":
            ordinal += 1
            table, part = relations[reader.number("I")], reader.take(1)
            entry = {"op": {b"I": "insert", b"U": "update", b"D": "delete"}[kind], "table": table, **common()}
            if part in b"KO":
                entry["old_is"] = "key" if part == b"K" else "row"
                entry["old"] = reader.tuple()
                part = reader.take(1) if kind == b"U" else b""
            if part == b"N":
                entry["new"] = reader.tuple()
            found.append(entry)
    return found


def record():
    folder = tempfile.mkdtemp(prefix="rowbridge-recording-")
    server = Server(folder)
    try:
        subprocess.run([os.path.join(server.bin, "createdb"), "-h", "127.0.0.1", "-p", str(PORT), "-U", "postgres", "shop"], check=True)
        server.psql(engine.sql("postgres-tables.sql"))
        server.psql("CREATE PUBLICATION recording FOR ALL TABLES")
        tables = server.json(TABLES)
        reads = [{"op": "read", "table": table["name"], "new": [cell if cell is None else [cell] for cell in row]}
                 for table in tables for row in read_rows(server, table)]
        dbz = engine.Engine({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.port": str(PORT), "database.user": "postgres", "database.password": "x", "database.dbname": "shop",
            "plugin.name": "pgoutput", "publication.name": "recording", "publication.autocreate.mode": "disabled",
        }, folder)
        dbz.wait(lambda events: len(events) >= len(reads))
        while server.psql("SELECT active FROM pg_replication_slots WHERE slot_name = 'debezium'").strip() != "t":
            pass
        server.psql("SELECT pg_create_logical_replication_slot('canonical', 'pgoutput')")
        for statement in engine.statements(engine.sql("postgres-changes.sql")):
            server.psql(statement)
        dbz.wait(lambda events: any((event["value"]["after"] or {}).get("b") == "end" for event in events))
        dbz.close()
        engine.document("postgres.tables.json", [definition(table) for table in tables])
        engine.lines("postgres.changes.jsonl", reads + changes(server))
        engine.lines("postgres.events.jsonl", dbz.handler.events)
        engine.document("postgres.versions.json", {
            "debezium": dbz.handler.events[0]["value"]["source"]["version"], "server": server.psql("SHOW server_version").strip()})
        print(f"{len(reads)} rows read, {len(dbz.handler.events)} events")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
