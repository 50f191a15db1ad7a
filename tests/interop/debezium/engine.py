"""Debezium's embedded engine, and where recordings go."""
import json
import os
import threading
import time

import jpype
from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
GOLDEN = os.path.join(ROOT, "crates/schema/testdata/debezium")
HERE = os.path.dirname(os.path.abspath(__file__))


def sql(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


def statements(text):
    """Statements end with a semicolon at the end of a line; a transaction is one unit."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    found, current, inside = [], [], False
    for line in lines:
        current.append(line)
        inside = inside or line == "BEGIN;"
        if line.rstrip().endswith(";") and (not inside or line == "COMMIT;"):
            found.append("\n".join(current).strip())
            current, inside = [], False
    return [statement for statement in found if statement]


class Handler(BasePythonChangeHandler):
    def __init__(self):
        self.events = []
        self.last = time.monotonic()

    def handleJsonBatch(self, records):
        for record in records:
            # Every header has a converted JSON text as its value.
            headers = {str(header.getKey()): text(header.getValue()) for header in record.headers()}
            self.events.append({
                "topic": text(record.destination()),
                "key": parsed(text(record.key())),
                "value": parsed(text(record.value())),
                "headers": {name: parsed(value) for name, value in headers.items()},
            })
            self.last = time.monotonic()


def text(value):
    return None if value is None else str(value)


def parsed(value):
    """Numbers stay the texts that they are: JSON's numbers are kept with all digits."""
    return None if value is None else json.loads(value, parse_float=Number)


class Number(float):
    """A float that is written again as it was read."""

    def __new__(cls, literal):
        made = super().__new__(cls, literal)
        made.literal = literal
        return made

    def __repr__(self):
        return self.literal


class Engine:
    """Runs the engine in a thread of its own."""

    def __init__(self, settings, folder):
        self.handler = Handler()
        settings = {
            "name": "recording",
            "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
            "offset.storage.file.filename": os.path.join(folder, "offsets.dat"),
            "offset.flush.interval.ms": "1000",
            "topic.prefix": "rowbridge",
            "database.hostname": "127.0.0.1",
            "converter.schemas.enable": "false",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
            "header.converter": "org.apache.kafka.connect.json.JsonConverter",
            "header.converter.schemas.enable": "false",
            "tombstones.on.delete": "false",
            "skipped.operations": "none",
            **settings,
        }
        self.engine = DebeziumJsonEngine(properties=settings, handler=self.handler)
        self.failure = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self.engine.run()
        except BaseException as failure:  # noqa: BLE001, reported by wait()
            self.failure = failure

    def wait(self, done, seconds=120):
        """Waits until `done(events)` and nothing has come for two seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.failure or not self.thread.is_alive():
                raise SystemExit(f"the engine stopped: {self.failure}")
            if done(self.handler.events) and time.monotonic() - self.handler.last > 2:
                return
            time.sleep(0.2)
        raise SystemExit(f"no more than {len(self.handler.events)} events came")

    def close(self):
        self.engine.close()


def versions():
    return str(jpype.JClass("io.debezium.connector.common.DebeziumHeaders").class_.getPackage().getImplementationVersion() or "")


def lines(name, rows):
    os.makedirs(GOLDEN, exist_ok=True)
    with open(os.path.join(GOLDEN, name), "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=True) + "\n")


def document(name, value):
    os.makedirs(GOLDEN, exist_ok=True)
    with open(os.path.join(GOLDEN, name), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
