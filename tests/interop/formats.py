"""Reads requests as other people's libraries do, and exits with 1 if one of them does not like one.

Usage: formats.py FOLDER, with in FOLDER
  requests.jsonl     a request per line: {"name", "kind", "headers": {...}, "body": base64, "secret"}
  *.schema.json      JSON Schemas, named in a request's "schemas"
  event.xsd          the XSD
Kinds: json, cloudevents.structured, cloudevents.binary, cloudevents.batch, xml, debezium (of messages, which are bodies
of their own there).
"""

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path

from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from lxml import etree
from standardwebhooks import Webhook, WebhookVerificationError

folder = Path(sys.argv[1])
counts = {}


def count(what):
    counts[what] = counts.get(what, 0) + 1


def load_schemas():
    schemas = {}
    for path in folder.glob("*.schema.json"):
        schema = json.loads(path.read_text())
        Draft202012Validator.check_schema(schema)
        checker = Draft202012Validator.FORMAT_CHECKER
        # A checker whose library is missing checks nothing.
        missing = {"date-time", "date", "uuid", "uri-reference"} - set(checker.checkers)
        assert not missing, f"the libraries cannot check {missing}: run tests/interop/setup"
        schemas[path.name.removesuffix(".schema.json")] = Draft202012Validator(schema, format_checker=checker)
    return schemas


def verify(request, body):
    """The signature holds, and holds for nothing else."""
    try:
        body.decode()
    except UnicodeDecodeError:
        # The library signs texts only.
        headers, key = request["headers"], base64.b64decode(request["secret"].removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        return
    webhook = Webhook(request["secret"])
    webhook.verify(body, request["headers"], json_parse=False)
    for other_body, other_secret in [(body + b" ", request["secret"]), (body, "whsec_" + "A" * 43 + "=")]:
        try:
            Webhook(other_secret).verify(other_body, request["headers"], json_parse=False)
        except WebhookVerificationError:
            continue
        raise AssertionError("a forged request is taken for a signed one")
    count("signatures verified, and forged ones refused")


def validate(schemas, request, document):
    for name in request.get("schemas", []):
        error = best_match(schemas[name].iter_errors(document), key=lambda e: len(e.absolute_path))
        if error:
            raise AssertionError(f"{name}: {list(error.absolute_path)}: {error.message[:300]}")
        count(f"bodies valid by the schema {name}")


def attributes(event, data):
    """What the library says about an event agrees with the data that it found."""
    assert event.get_specversion() == "1.0"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_type().split(".")[1] == data["op"], event.get_type()
    assert event.get_source().startswith(f"/{event.get_extension('stream')}/")
    assert event.get_time().isoformat() == "2026-01-02T03:04:05.678901+00:00", event.get_time()
    position = event.get_extension("position")
    assert event.get_extension("sequence") == position
    assert event.get_id() == f"{event.get_extension('stream')}:{position}"
    key = data["key"]
    if key and len(key) == 1:
        assert event.get_subject() == str(next(iter(key.values()))), event.get_subject()
    return event


def cloudevent(headers, body):
    event = from_http(HTTPMessage(headers=headers, body=body), JSONFormat())
    data = event.get_data()
    if isinstance(data, (bytes, str)):
        data = json.loads(data)
    count("events parsed by the CloudEvents SDK")
    return attributes(event, data), data


def unwrap(value, encoding):
    return value if encoding is None else base64.b64decode(value, validate=True).decode(errors="replace")


def said(message):
    """What a message of the format json says: JSON, or the bytes of something else."""
    payload = message["payload"]
    if message["encoding"] == "base64":
        return base64.b64decode(payload, validate=True)
    return payload.encode() if isinstance(payload, str) else payload


def check_message(found, schemas, xsd, request, body):
    """A message in one format; what it says is kept for the comparison."""
    name, kind, headers = request["name"], request["kind"], request["headers"]
    if kind == "xml":
        document = etree.fromstring(body)
        xsd.assertValid(document)
        count("messages valid by the XSD")
        message = document.find("message")
        assert document.get("op") == document.get("type") == "message"
        payload = message.find("payload")
        found[name, kind] = payload.text if not payload.get("null") else None
        if payload.get("encoding"):
            found[name, kind] = base64.b64decode(payload.text, validate=True)
        found[name, kind, "key"] = unwrap(message.get("key"), message.get("key-encoding"))
    elif kind == "json":
        document = json.loads(body)
        validate(schemas, request, document)
        message = document["data"]["message"]
        found[name, kind] = said(message)
        found[name, kind, "key"] = message["key"]
        found[name, kind, "type"] = message["type"]
        found[name, kind, "headers"] = message["headers"]
    elif kind == "debezium":
        found[name, kind] = json.loads(body)
    else:
        if kind == "cloudevents.structured":
            validate(schemas, request, json.loads(body))
        event = from_http(HTTPMessage(headers=headers, body=body), JSONFormat())
        count("messages parsed by the CloudEvents SDK")
        assert event.get_specversion() == "1.0"
        assert event.get_id() == f"{event.get_extension('stream')}:{event.get_extension('sequence')}"
        data = event.get_data()
        content_type = event.get_datacontenttype()
        if content_type == "application/json":
            data = json.loads(data) if isinstance(data, (bytes, str)) else data
        else:
            assert content_type in ("text/plain; charset=utf-8", "application/octet-stream"), content_type
            data = data.encode() if isinstance(data, str) else data
        found[name, kind] = data
        found[name, kind, "attributes"] = event.get_attributes()


def compare_message(found, name):
    """Every format says the same of a message."""
    plain = found[name, "json"]
    for kind in ("cloudevents.structured", "cloudevents.binary"):
        assert found[name, kind] == plain, f"{name}: {kind} says {found[name, kind]!r}, json {plain!r}"
    structured, binary = (found[name, f"cloudevents.{mode}", "attributes"] for mode in ("structured", "binary"))
    assert structured == binary, f"{name}: {binary} is not {structured}"
    assert structured.get("subject") == found[name, "json", "key"], structured
    if found[name, "json", "type"] == "order.paid":
        assert structured["type"] == "order.paid"
        assert structured["traceparent"] == found[name, "json", "headers"]["Trace-Parent"]
        assert structured["aggregatetype"] == found[name, "json", "headers"]["aggregatetype"]
    router = found[name, "debezium"]
    if isinstance(plain, bytes):
        assert router in (plain.decode(errors="replace"), base64.b64encode(plain).decode()), f"{name}: {router!r}"
    else:
        assert router == plain, f"{name}: {router!r}"
    xml = found[name, "xml"]
    if isinstance(plain, bytes):
        assert (xml if isinstance(xml, bytes) else xml.encode()) == plain, f"{name}: {xml!r}"
    else:
        assert (None if xml is None else json.loads(xml)) == plain, f"{name}: {xml!r}"
    assert found[name, "xml", "key"] == found[name, "json", "key"]
    count("messages that say the same in every format")


def main():
    schemas = load_schemas()
    xsd = etree.XMLSchema(etree.parse(str(folder / "event.xsd")))
    found = {}
    for line in (folder / "requests.jsonl").read_text().splitlines():
        request = json.loads(line)
        name, kind, headers = request["name"], request["kind"], request["headers"]
        body = base64.b64decode(request["body"])
        content_type = headers["content-type"]
        try:
            verify(request, body)
            if name.startswith("message-"):
                check_message(found, schemas, xsd, request, body)
                continue
            if kind == "xml":
                assert content_type == "application/xml"
                document = etree.fromstring(body)
                xsd.assertValid(document)
                count("documents valid by the XSD")
                columns = {}
                for column in document.iterfind(".//after/column"):
                    title = unwrap(column.get("name"), column.get("name-encoding"))
                    columns[title] = None if column.get("null") else unwrap(column.text or "", column.get("encoding"))
                found[name, kind] = columns
                continue
            document = json.loads(body)
            validate(schemas, request, document)
            if kind == "json":
                assert content_type == "application/json"
                found[name, kind] = document["data"] if isinstance(document, dict) else [e["data"] for e in document]
            elif kind == "cloudevents.batch":
                # The SDK knows no batches: each item is one structured event.
                assert content_type == "application/cloudevents-batch+json"
                single = {"content-type": "application/cloudevents+json"}
                events = [cloudevent(single, json.dumps(item).encode()) for item in document]
                sequences = [event.get_extension("sequence") for event, _ in events]
                assert sequences == sorted(sequences)
                found[name, kind] = [data for _, data in events]
            else:
                binary = kind == "cloudevents.binary"
                assert content_type == ("application/json" if binary else "application/cloudevents+json")
                event, found[name, kind] = cloudevent(headers, body)
                found[name, kind, "attributes"] = event.get_attributes()
        except Exception as error:
            sys.exit(f"{name} ({kind}): {type(error).__name__}: {error}")
    for name in {key[0] for key in found}:
        if name.startswith("message-"):
            compare_message(found, name)
            continue
        plain = found[name, "json"]
        for kind in ("cloudevents.structured", "cloudevents.binary", "cloudevents.batch"):
            assert found.get((name, kind), plain) == plain, f"{name}: {kind} has other data"
        if (name, "cloudevents.binary") in found:
            binary = dict(found[name, "cloudevents.binary", "attributes"])
            structured = dict(found[name, "cloudevents.structured", "attributes"])
            # Headers are texts: the SDK does not know that this one is a boolean.
            for one in (binary, structured):
                one["replay"] = str(one.get("replay", False)).lower()
            assert binary == structured, f"{name}: {binary} is not {structured}"
            for title, value in found[name, "xml"].items():
                if isinstance(plain["after"][title], str):
                    json_value = plain["after"][title]
                    same = value == json_value or unwrap(json_value, "base64") == value
                    assert same, f"{name}: {title} is {value!r} in XML and {json_value!r} in JSON"
                    count("texts that are the same in XML and in JSON")
    for what, number in sorted(counts.items()):
        print(f"{number:5} {what}")


main()
