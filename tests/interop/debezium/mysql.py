"""The recording of MySQL. Commit times and binlog offsets are not recorded: the test lists them as not compared."""
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import time

import engine

PORT = 25418
PREFIX = os.environ.get("ROWBRIDGE_TEST_MYSQL_PREFIX") or os.path.join(engine.ROOT, "target/servers/mysql9")
MODE = "SET sql_mode='', time_zone='+00:00', character_set_results='utf8mb4';"


class Server:
    def __init__(self, folder):
        self.socket = os.path.join(folder, "socket")
        data = os.path.join(folder, "data")
        program = os.path.join(PREFIX, "usr/sbin/mysqld")
        share = os.path.join(PREFIX, "usr/share/mysql")
        common = [program, "--no-defaults", f"--basedir={PREFIX}/usr", f"--datadir={data}", f"--lc-messages-dir={share}",
                  f"--character-sets-dir={share}/charsets", f"--plugin-dir={PREFIX}/usr/lib/mysql/plugin", "--secure-file-priv=",
                  f"--log-error={folder}/error.log"]
        if os.geteuid() == 0:
            common.append("--user=root")
        subprocess.run([*common, "--initialize-insecure"], check=True)
        self.process = subprocess.Popen([
            *common, f"--port={PORT}", "--bind-address=127.0.0.1", f"--socket={self.socket}", "--mysqlx=OFF", f"--pid-file={folder}/pid",
            "--server-id=2", "--log-bin=bin", "--binlog-row-metadata=FULL", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"])
        for _ in range(300):
            if os.path.exists(self.socket):
                break
            time.sleep(0.2)
        self.run("CREATE DATABASE shop; CREATE USER dbz@'%' IDENTIFIED BY 'dbz'; GRANT ALL ON *.* TO dbz@'%'", "mysql")

    def stop(self):
        self.run("SHUTDOWN", "mysql")
        self.process.wait(60)

    def run(self, text, database="shop"):
        command = [os.path.join(PREFIX, "usr/bin/mysql"), "--no-defaults", "-S", self.socket, "-uroot", "-N", "-B", "--raw",
                   "--default-character-set=utf8mb4", database]
        done = subprocess.run(command, input=MODE + text, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{done.stderr}\n{text}")
        return done.stdout

    def json(self, query):
        return [json.loads(line) for line in self.run(query).splitlines()]


def expression(column):
    """SQL that gives the canonical text, or nearly so: canonical() does the rest."""
    name, kind = f"`{column['name']}`", column["type"]
    base = re.split(r"[ (]", kind)[0]
    if base == "bit":
        width = int(re.search(r"\d+", kind).group())
        return f"lpad(bin({name} + 0), {width}, '0')"
    if base in ("binary", "varbinary", "blob", "geometry", "point", "linestring"):
        return f"concat('\\\\x', lower(hex({name})))" if "b" in base else f"hex({name})"
    if base == "timestamp":
        return f"concat({name}, '+00')"
    if base == "year":
        return f"lpad({name}, 4, '0')"
    if base == "float":
        return f"CAST({name} AS DOUBLE)"
    return f"CAST({name} AS CHAR)"


def single(text):
    try:
        return struct.pack("<f", float(text))
    except OverflowError:
        return None


def canonical(column, value):
    if value is None:
        return None
    kind = column["type"]
    if kind == "float":
        # The shortest text that reads back as the same 32 bits.
        value = next(text for text in (f"{float(value):.{n}g}" for n in range(1, 18)) if single(text) == single(value))
    elif kind == "double":
        value = repr(float(value))
    elif kind in ("geometry", "point", "linestring"):
        data = bytes.fromhex(value)
        srid, order, form = struct.unpack_from("<IBI", data)
        head = struct.pack("<BII", order, form | 0x20000000, srid) if srid else struct.pack("<BI", order, form)
        value = (head + data[9:]).hex().upper()
    return [str(value)]


def rows(server, table, where="true"):
    cells = ", ".join(expression(column) for column in table["columns"])
    found = server.json(f"SELECT json_array({cells}) FROM `{table['name']}` WHERE {where}")
    return [[canonical(column, cell) for column, cell in zip(table["columns"], row)] for row in found]


def tables(server):
    found = []
    for name in server.run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' ORDER BY 1").split():
        columns = server.json(f"""SELECT json_object('name', column_name, 'type', column_type, 'not_null', is_nullable = 'NO',
            'collation', collation_name) FROM information_schema.columns WHERE table_schema = 'shop' AND table_name = '{name}'
            ORDER BY ordinal_position""")
        key = server.run(f"""SELECT c.ordinal_position - 1 FROM information_schema.key_column_usage k JOIN information_schema.columns c
            USING (table_schema, table_name, column_name) WHERE k.table_schema = 'shop' AND k.table_name = '{name}'
            AND k.constraint_name = 'PRIMARY' ORDER BY k.ordinal_position""").split()
        for column in columns:
            column["not_null"] = bool(column["not_null"])
        columns = [{key: value for key, value in column.items() if value not in (None, False)} for column in columns]
        found.append({"dialect": "mysql", "schema": "shop", "name": name, "columns": columns, "key": [int(at) for at in key]})
    return found


def change(server, known, statement, number):
    """Runs a statement that changes one row, and tells it as its old and new row."""
    verb = statement.split()[0].lower()
    name = re.search(r"(?:INTO|UPDATE|FROM|TABLE)\s+(\w+)", statement).group(1)
    table = next(table for table in known if table["name"] == name)
    before = rows(server, table)
    server.run(statement)
    after = rows(server, table)
    gone = [row for row in before if row not in after]
    come = [row for row in after if row not in before]
    entry = {"op": verb, "table": name, "file": 1, "commit": number, "ordinal": 1}
    if verb == "truncate":
        return entry
    assert len(gone) + len(come) == (2 if verb == "update" else 1), statement
    if gone:
        entry.update(old_is="row", old=gone[0])
    if come:
        entry["new"] = come[0]
    return entry


def record():
    folder = tempfile.mkdtemp(prefix="rowbridge-recording-")
    server = Server(folder)
    try:
        server.run(engine.sql("mysql-tables.sql"))
        known = tables(server)
        reads = [{"op": "read", "table": table["name"], "new": row} for table in known for row in rows(server, table)]
        dbz = engine.Engine({
            "connector.class": "io.debezium.connector.mysql.MySqlConnector",
            "database.port": str(PORT), "database.user": "dbz", "database.password": "dbz", "database.server.id": "77",
            "database.include.list": "shop", "include.schema.changes": "false",
            "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
            "schema.history.internal.file.filename": os.path.join(folder, "history.dat"),
        }, folder)
        dbz.wait(lambda events: len(events) >= len(reads))
        changes = [change(server, known, statement, number)
                   for number, statement in enumerate(engine.statements(engine.sql("mysql-changes.sql")), 1)]
        dbz.wait(lambda events: any((event["value"]["after"] or {}).get("b") == "end" for event in events))
        dbz.close()
        engine.document("mysql.tables.json", known)
        engine.lines("mysql.changes.jsonl", reads + changes)
        engine.lines("mysql.events.jsonl", dbz.handler.events)
        engine.document("mysql.versions.json", {
            "debezium": dbz.handler.events[0]["value"]["source"]["version"], "server": server.run("SELECT version()").strip()})
        print(f"{len(reads)} rows read, {len(dbz.handler.events)} events")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
