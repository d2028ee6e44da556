"""Debezium's change events as a changelog: events written by hand for each rule, and real ones where the samples are at hand."""

import base64
import datetime
import decimal
import json
import pathlib
import random

import lake
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

SAMPLES = pathlib.Path(__file__).resolve().parents[3] / "shared/samples/debezium"
GONE = "__debezium_unavailable_value"
ORDERS = [
    {"name": "id", "type": "int"},
    {"name": "customer", "type": "string"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 4}},
    {"name": "note", "type": ["null", "string"], "default": None},
    {"name": "big", "type": ["null", "string"], "default": None},
    {"name": "updated_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
]
AT = "2026-11-21T06:00:00.123456Z"
INSERT, AFTER, DELETE, TRUNCATE = 0, 2, 3, 4


def row(**values):
    return {"id": 1, "customer": "ann", "amount": "12.50", "note": None, "big": None, "updated_at": AT, **values}


def event(op, before=None, after=None, transaction=None, **source):
    return {"before": before, "after": after, "op": op, "ts_ms": 5, "transaction": transaction,
            "source": {"lsn": 77, "txId": 9, "ts_ms": 1000, "snapshot": "false", **source}}


def with_schema(payload, scale):
    fields = [{"type": "int32", "field": "id"}, {"type": "string", "field": "customer"},
              {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": str(scale)}, "field": "amount"}]
    return {"schema": {"type": "struct", "fields": [{"type": "struct", "fields": fields, "field": name} for name in ("before", "after")]},
            "payload": payload}


def unscaled(value):
    return base64.b64encode(value.to_bytes(max(1, (value.bit_length() + 8) // 8), "big", signed=True)).decode()


def read(project, events, fields=ORDERS, key='"id"', options=', decimals = "string"'):
    """The changelog, in the order of the events, and the reasons of what was quarantined."""
    project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": fields}))
    project.write("landing/a.jsonl", "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in events))
    project.write("rules/r.lua", 'return stream "silver.orders" { from = "bronze.orders", keep = { "id" } }')
    project.write("pipelines/p.lua", f"""return pipeline "p" {{ rules = "rules", storage = delta {{ root = "lake" }},
  sources = {{ source "bronze.orders" {{ files {{ path = "landing/*.jsonl" }},
    debezium {{ key = {key}, schema = "schemas/orders.avsc"{options} }} }} }} }}""")
    project.run("pipelines/p.lua")
    rows = lake.by_deltalake(project.root / "lake/bronze/orders").sort_by("_offset").to_pylist()
    bad = project.root / "lake/quarantine/bronze/orders"
    reasons = [one["_reasons"][0]["error"] for one in lake.by_deltalake(bad).sort_by("_offset").to_pylist()] if bad.exists() else []
    return rows, reasons


def test_each_op_is_a_change(project):
    rows, reasons = read(project, [
        event("r", after=row(), snapshot="first_in_data_collection", lsn=None),
        event("c", after=row(id=2), transaction={"id": "501:9001", "total_order": 1}),
        event("u", before=None, after=row(id=2, note="new")),
        event("d", before={"id": 2, "customer": "", "amount": "0", "note": None, "big": None, "updated_at": "1970-01-01T00:00:00Z"}),
        "null",
        event("m"),
    ])
    assert reasons == []
    assert [one["_change"] for one in rows] == [INSERT, INSERT, AFTER, DELETE]
    assert [one["_source_lsn"] for one in rows] == [None, 77, 77, 77]
    assert [one["_source_txid"] for one in rows] == [9, 501, 9, 9]
    assert rows[0]["_source_time"] == datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.timezone.utc)
    assert rows[0]["amount"] == decimal.Decimal("12.5000")
    assert rows[2]["note"] == "new"
    assert rows[3]["id"] == 2
    assert [rows[3][name] for name in ("customer", "amount", "note", "updated_at")] == [None] * 4, "only keys of a delete are true"


def test_a_key_change_deletes_and_inserts(project):
    rows, reasons = read(project, [event("d", before=row(id=1)), event("c", after=row(id=8))])
    assert reasons == []
    assert [(one["id"], one["_change"]) for one in rows] == [(1, DELETE), (8, INSERT)]


def test_what_an_update_left_outside_the_row_is_named(project):
    rows, reasons = read(project, [event("u", after=row(big=GONE, note="x")), event("u", after=row(big="there"))])
    assert reasons == []
    assert [one["_unavailable"] for one in rows] == [["big"], None]
    assert [one["big"] for one in rows] == [None, "there"]


def test_a_truncate_is_a_row_of_which_nothing_but_the_change_counts(project):
    rows, reasons = read(project, [event("c", after=row()), event("t")])
    assert reasons == []
    assert [(one["id"], one["customer"], one["amount"], one["_change"], one["_source_lsn"]) for one in rows][1] == (0, None, None, TRUNCATE, 77)


CUSTOMERS = """return model "gold.customers" { from = "silver.orders", by = "customer", measures = { orders = count(), total = sum "amount" },
  into = delta { mode = "merge" } }"""


@pytest.mark.parametrize("every", ["20ms", "10s"])
def test_a_truncate_empties_the_table_and_what_is_counted_of_it(new_project, every):
    """Before it, after it and both in one epoch; values that a refused row brought do not come back."""
    events = [*(event("c", after=row(id=n, customer=f"c{n % 7}", big="x" * 50)) for n in range(5000)),
              event("u", after=row(id=1, amount="-1", big="y" * 50)), event("t"), event("t"),
              event("c", after=row(id=1, customer="after", big=GONE)), event("c", after=row(id=2, customer="after"))]
    for count, wanted, counted in [(len(events), [(2, "after")], [("after", 1)]), (5002, [], [])]:
        project = new_project(f"p{count}")
        project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": ORDERS}))
        project.write("landing/a.jsonl", "".join(json.dumps(one) + "\n" for one in events[:count]))
        project.write("rules/r.lua", """return stream "silver.orders" { from = "bronze.orders", key = "id",
  expectations = { expect "not owed" { function(e) return e.amount >= 0 end } }, into = delta { mode = "merge" } }""")
        project.write("rules/m.lua", CUSTOMERS)
        project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" }, commit = { every = "%s" },
  sources = { source "bronze.orders" { files { path = "landing/*.jsonl" },
    debezium { key = "id", schema = "schemas/orders.avsc", decimals = "string" } } } }""" % every)
        outcome = project.run("pipelines/p.lua")
        assert [(one["id"], one["customer"]) for one in lake.by_deltalake(project.root / "lake/silver/orders").to_pylist()] == wanted
        assert [(one["customer"], one["orders"]) for one in lake.by_deltalake(project.root / "lake/gold/customers").to_pylist()] == counted
        assert outcome["datasets"]["silver.orders"]["rejected"] == {"not owed": 1, **({"unavailable": 1} if wanted else {})}


def test_a_column_added_under_a_model_is_taken_at_a_restart(project):
    """Rows that are remembered lack it; the model takes them back as they were, and lookups find them without it."""
    def land(name, fields, events):
        project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": fields}))
        project.write(f"landing/{name}.jsonl", "".join(json.dumps(one) + "\n" for one in events))
        return project.run("pipelines/p.lua")
    project.write("rules/r.lua", 'return stream "silver.orders" { from = "bronze.orders", key = "id", into = delta { mode = "merge" } }')
    project.write("rules/m.lua", CUSTOMERS)
    project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = { source "bronze.orders" { files { path = "landing/*.jsonl" },
    debezium { key = "id", schema = "schemas/orders.avsc", decimals = "string" } } } }""")
    land("a", ORDERS, [event("c", after=row(id=n, customer=f"c{n % 3}")) for n in range(30)])
    region = {"name": "region", "type": ["null", "string"], "default": None}
    wider = [*ORDERS[:2], region, *ORDERS[2:]]
    land("b", wider, [*(event("u", after=row(id=n, customer=f"c{n % 3}", amount="2", region="EU")) for n in range(10)),
                      *(event("d", before=row(id=n, region=None)) for n in range(10, 15)), event("c", after=row(id=99, customer="c9", region="US"))])
    land("c", ORDERS, [event("u", after=row(id=20, customer="c7", amount="3"))])  # and without it again
    table = lake.by_deltalake(project.root / "lake/silver/orders").to_pylist()
    assert len(table) == 26 and sum(one["region"] == "EU" for one in table) == 10
    wanted = {}
    for one in table:
        n, total = wanted.get(one["customer"], (0, 0))
        wanted[one["customer"]] = (n + 1, total + one["amount"])
    assert {one["customer"]: (one["orders"], one["total"]) for one in lake.by_deltalake(project.root / "lake/gold/customers").to_pylist()} == wanted


def test_a_decimal_without_its_scale_is_refused_with_the_way_out(project):
    rows, reasons = read(project, [event("c", after=row(amount=unscaled(1250)))], options="")
    assert rows == []
    assert "without its scale" in reasons[0] and "decimal.handling.mode=string" in reasons[0] and "schemas.enable=true" in reasons[0]


def test_a_declared_scale_is_the_columns(project):
    fields = [{**field, "type": {**field["type"], "scale": 2}} if field["name"] == "amount" else field for field in ORDERS]
    rows, _ = read(project, [event("c", after=row(amount=unscaled(-1250)))], fields, options=', decimals = "declared"')
    assert rows[0]["amount"] == decimal.Decimal("-12.50")


def test_scales_go_with_the_schema_also_when_it_changes_in_flight(project):
    rows, reasons = read(project, [
        with_schema(event("c", after=row(amount=unscaled(10000))), 2),
        with_schema(event("c", after=row(amount=unscaled(10000), added="x")), 4),
        with_schema(event("c", after={name: value for name, value in row(amount=unscaled(1)).items() if name != "note"}), 2),
        with_schema(event("c", after=row(amount=unscaled(12345))), 5),
        with_schema(None, 2),
    ], options="")
    assert [one["amount"] for one in rows] == [decimal.Decimal("100"), decimal.Decimal("1"), decimal.Decimal("0.01")]
    assert json.loads(rows[1]["_rescued"]) == {"added": "x"}
    assert rows[2]["note"] is None
    assert len(reasons) == 1 and "scale 5" in reasons[0]


def test_a_numeric_of_free_scale_says_its_own(project):
    rows, _ = read(project, [event("c", after=row(amount={"scale": 3, "value": unscaled(-1500)}))], options="")
    assert rows[0]["amount"] == decimal.Decimal("-1.5")


def test_infinities_are_refused(project):
    fields = [*ORDERS, {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None}]
    rows, reasons = read(project, [
        event("c", after=row(day=2146033979)), event("c", after=row(updated_at=9223372036825200000)),
        event("c", after=row(updated_at="infinity")), event("c", after=row(day=1)),
        event("c", after=row(amount="NaN")), event("c", after=row(amount="NAN")), event("c", after=row(day=-2146033979)),
    ], fields)
    assert len(rows) == 1 and rows[0]["day"] == datetime.date(1970, 1, 2)
    assert "infinity, which date cannot hold" in reasons[0]
    assert "infinity, which timestamp cannot hold" in reasons[1]
    assert "infinity" in reasons[2]
    assert "amount" in reasons[3] and "amount" in reasons[4] and "infinity" in reasons[5]


def test_what_is_no_change_event_is_said(project):
    rows, reasons = read(project, [{"ts_ms": 1}, {"op": "c"}, {"op": "x", "after": row()}, event("d"), "[1]", "{", event("c", after={"customer": "a"})])
    assert rows == []
    assert len(reasons) == 7
    assert "no op" in reasons[0] and "no row in after" in reasons[1] and "not known" in reasons[2] and "primary key" in reasons[3]
    assert "missing field" in reasons[6]


def test_a_key_may_have_several_columns(project):
    fields = [{"name": "id", "type": "int"}, {"name": "line", "type": "int"}, {"name": "sku", "type": "string"}]
    rows, reasons = read(project, [event("d", before={"id": 1, "line": 2, "sku": ""})], fields, key='{ "id", "line" }')
    assert reasons == []
    assert (rows[0]["id"], rows[0]["line"], rows[0]["sku"]) == (1, 2, None)


def test_an_unknown_key_is_refused(project):
    with pytest.raises(AssertionError):
        read(project, [], key='"nope"')
    assert "the key \"nope\" is no field of orders" in project.weir("check", "pipelines/p.lua").err


def final(rows, key=("id",)):
    """The table a changelog leaves."""
    table = {}
    for one in rows:
        at = tuple(one[name] for name in key)
        if one["_change"] == TRUNCATE:
            table = {}
            continue
        if one["_change"] == DELETE:
            table.pop(at, None)
            continue
        kept = {name: value for name, value in one.items() if not name.startswith("_")}
        for name in one["_unavailable"] or []:
            kept[name] = table[at][name]
        table[at] = kept
    return table


def sample(name, topic):
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [one["value"] for one in events if one["topic"].endswith(topic) and one["value"] is not None]


def test_real_events_with_schemas_and_with_texts_leave_the_same_table(new_project):
    by_schema, said = read(new_project("schema"), sample("djs.jsonl", ".public.orders"), options="")
    by_text, _ = read(new_project("text"), sample("dalt.jsonl", ".public.orders"))
    assert final(by_schema) and said == []
    assert TRUNCATE in [one["_change"] for one in by_schema]
    wanted = {key: {**one, "updated_at": None} for key, one in final(by_text).items()}
    assert {key: {**one, "updated_at": None} for key, one in final(by_schema).items()} == wanted
    assert any(one["_unavailable"] == ["big"] for one in by_schema)


def test_real_events_without_schemas_refuse_their_decimals(project):
    rows, reasons = read(project, sample("dj.jsonl", ".public.orders"), options="")
    assert all(one["_change"] in (DELETE, TRUNCATE) for one in rows)
    assert sum("without its scale" in reason for reason in reasons) >= 10


def test_changes_merge_into_a_table_equal_to_the_source(project):
    """Random inserts, updates, deletes and key changes, with rows that turn invalid and valid again."""
    rng = random.Random(11)
    source, wanted, events = {}, {}, []

    def change(op, key, values):
        if op == "d":
            events.append(event("d", before={"id": key, "customer": "", "amount": "0", "note": None, "big": None, "updated_at": 0}))
            source.pop(key)
            wanted.pop(key, None)
            return
        events.append(event(op, after=row(id=key, **values)))
        source[key] = values
        if decimal.Decimal(values["amount"]) >= 0:
            wanted[key] = values  # else the old row stays

    for _ in range(3000):
        key = rng.randrange(60)
        values = {"customer": rng.choice(["ann", "bob", "Ω"]), "amount": f"{rng.randrange(-300, 2000) / 100:.2f}", "note": rng.choice([None, "", "n"])}
        if key not in source:
            change("c", key, values)
        elif rng.random() < 0.25:
            change("d", key, None)
        elif rng.random() < 0.2 and key + 100 not in source:
            change("d", key, None)
            change("c", key + 100, values)
        else:
            change("u", key, values)
    project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": ORDERS}))
    project.write("landing/a.jsonl", "".join(json.dumps(one) + "\n" for one in events))
    project.write("rules/r.lua", """return stream "silver.orders" { from = "bronze.orders", key = "id",
  expectations = { expect "not owed" { function(e) return e.amount >= 0 end } }, into = delta { mode = "merge" } }""")
    project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = { source "bronze.orders" { files { path = "landing/*.jsonl" },
    debezium { key = "id", schema = "schemas/orders.avsc", decimals = "string" } } } }""")
    project.run("pipelines/p.lua")
    table = lake.by_deltalake(project.root / "lake/silver/orders").to_pylist()
    assert len(table) == len({one["id"] for one in table})
    got = {one["id"]: {"customer": one["customer"], "amount": f'{one["amount"]:.2f}', "note": one["note"]} for one in table}
    assert got == wanted


def test_an_expectation_keeps_rows_that_are_not_whole_out_of_the_table(project):
    project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": ORDERS}))
    project.write("landing/a.jsonl", "".join(json.dumps(one) + "\n" for one in [
        event("c", after=row(big="long")), event("u", after=row(big=GONE, note="x")), event("c", after=row(id=2))]))
    project.write("rules/r.lua", """return stream "silver.orders" { from = "bronze.orders", key = "id",
  expectations = { expect "row is whole" { function(e) return e._unavailable == nil end } }, into = delta { mode = "merge" } }""")
    project.write("pipelines/p.lua", """return pipeline "p" { rules = "rules", storage = delta { root = "lake" },
  sources = { source "bronze.orders" { files { path = "landing/*.jsonl" },
    debezium { key = "id", schema = "schemas/orders.avsc", decimals = "string" } } } }""")
    outcome = project.run("pipelines/p.lua")
    assert outcome["datasets"]["silver.orders"]["rejected"] == {"row is whole": 1}
    table = lake.by_deltalake(project.root / "lake/silver/orders").sort_by("id").to_pylist()
    assert [(one["id"], one["big"], one["note"]) for one in table] == [(1, "long", None), (2, None, None)]


TOASTED = """return stream "silver.orders" { from = "bronze.orders", key = "id",
  expectations = { expect "not owed" { function(e) return e.amount >= 0 end } }, into = delta { mode = "merge"@ } }"""
FORMS = {"copy": "", "vectors": ', properties = { ["delta.enableDeletionVectors"] = "true" }',
         "feed": ', properties = { ["delta.enableChangeDataFeed"] = "true" }', "partitioned": ', partition_by = { "customer" }'}


def merged(project, events, form, runs=1, fields=ORDERS):
    """The silver table that those events leave, read in so many runs."""
    project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": fields}))
    project.write("rules/r.lua", TOASTED.replace("@", FORMS[form]))
    project.write("pipelines/p.lua", f"""return pipeline "p" {{ rules = "rules", storage = delta {{ root = "lake" }}, commit = {{ every = "20ms" }},
  sources = {{ source "bronze.orders" {{ files {{ path = "landing/*.jsonl" }},
    debezium {{ key = "id", schema = "schemas/orders.avsc", decimals = "string" }} }} }} }}""")
    size = -(-len(events) // runs)
    for i in range(runs):
        project.write(f"landing/{i:03}.jsonl", "".join(json.dumps(one) + "\n" for one in events[i * size:(i + 1) * size]))
        project.run("pipelines/p.lua")
    table = DeltaTable(str(project.root / "lake/silver/orders"))
    query = QueryBuilder().register("t", table)
    return table, {row["id"]: row for row in pa.table(query.execute("select * from t").read_all()).to_pylist()}


@pytest.mark.parametrize("form", FORMS)
def test_what_an_update_left_outside_the_row_stays_in_the_table(project, form):
    """Rows of an epoch before, of the same epoch, of a chain of updates in one, and beside a key that is deleted and made anew."""
    first = [event("c", after=row(id=i, big=f"big {i}" * 9, note="first")) for i in range(6)]
    then = [event("u", after=row(id=0, big=GONE, note="then")),
            event("u", after=row(id=1, big=GONE, note="then")), event("u", after=row(id=1, big=GONE, note=GONE, customer="bob")),
            event("u", after=row(id=2, big="new", note="then")), event("u", after=row(id=2, big=GONE, note="x")), event("u", after=row(id=2, big=GONE, note=GONE)),
            event("d", before=row(id=3)), event("c", after=row(id=3, big="again")), event("u", after=row(id=3, big=GONE)),
            event("u", after=row(id=4, big=None)), event("u", after=row(id=4, big=GONE, note="odd")),
            event("c", after=row(id=9, big="nine")), event("u", after=row(id=9, big=GONE, note="then"))]
    table, rows = merged(project, [*first, *then], form)
    project.write("landing/z.jsonl", "".join(json.dumps(one) + "\n" for one in [event("u", after=row(id=i, big=GONE, note="last")) for i in (0, 2, 5, 9)]))
    project.run("pipelines/p.lua")
    table.update_incremental()
    rows = {one["id"]: one for one in pa.table(QueryBuilder().register("t", table).execute("select * from t").read_all()).to_pylist()}
    assert {key: (one["big"], one["note"]) for key, one in rows.items()} == {
        0: ("big 0" * 9, "last"), 1: ("big 1" * 9, "then"), 2: ("new", "last"), 3: ("again", None), 4: (None, "odd"), 5: ("big 5" * 9, "last"), 9: ("nine", "last")}
    assert {"_change", "_unavailable"}.isdisjoint(field.name for field in table.schema().fields)
    if form == "feed":
        told = pa.table(table.load_cdf(starting_version=table.version()).read_all()).to_pylist()
        assert {(one["id"], one["big"], one["note"]) for one in told if one["_change_type"] == "update_postimage"} == {
            (0, "big 0" * 9, "last"), (2, "new", "last"), (5, "big 5" * 9, "last"), (9, "nine", "last")}
        assert (2, "new", "x") in {(one["id"], one["big"], one["note"]) for one in told if one["_change_type"] == "update_preimage"}


@pytest.mark.parametrize("form", FORMS)
def test_random_updates_that_leave_columns_out_merge_into_the_source(project, form):
    """Rows turn invalid and valid again, also when what they leave out came with a row that was refused."""
    rng = random.Random(form)
    source, wanted, events = {}, {}, []
    for _ in range(4000):
        key = rng.randrange(80)
        values = {"customer": rng.choice("ab"), "amount": str(rng.randrange(-4, 10)), "note": rng.choice([None, "n" * rng.randrange(50)]),
                  "big": rng.choice([None, f"{rng.random()}" * 3])}
        if key not in source:
            events.append(event("c", after=row(id=key, **values)))
            source[key] = values
        elif rng.random() < 0.1:
            events.append(event("d", before=row(id=key)))
            del source[key]
            wanted.pop(key, None)
            continue
        else:
            left = {name: source[key][name] for name in ("note", "big")
                    if rng.random() < 0.6 and source[key][name] is not None and len(source[key][name]) > 24}
            source[key] = {**values, **left}
            events.append(event("u", after=row(id=key, **{**values, **dict.fromkeys(left, GONE)})))
        if int(values["amount"]) >= 0:
            wanted[key] = source[key]
    _, rows = merged(project, events, form, runs=8)
    got = {key: {**{name: one[name] for name in ("customer", "note", "big")}, "amount": str(int(one["amount"]))} for key, one in rows.items()}
    assert got == wanted
    bad = pa.table(QueryBuilder().register("t", DeltaTable(str(project.root / "lake/quarantine/silver/orders"))).execute("select * from t").read_all())
    assert {one["_reasons"][0]["expectation"] for one in bad.to_pylist()} == {"not owed"}, "no row is refused for what it leaves out"


def reasons_of(project):
    path = project.root / "lake/quarantine/silver/orders"
    rows = lake.by_deltalake(path).sort_by("_offset").to_pylist() if path.exists() else []
    return [(one["id"], one["note"], one["_reasons"][0]["expectation"]) for one in rows]


def test_what_came_with_a_refused_row_is_there_for_the_next(project):
    """In one batch, and from run to run: what the refused row brought waits in state; a delete ends it."""
    first = [event("c", after=row(id=1, amount="-1", big="one" * 30)), event("c", after=row(id=2, big="two" * 30)),
             event("u", after=row(id=2, amount="-2", big="newer" * 30)), event("c", after=row(id=3, amount="-3", big="three" * 30)),
             event("c", after=row(id=4, amount="-4", big="four" * 30)), event("d", before=row(id=4)),
             event("c", after=row(id=5, amount="-5", big="five" * 30)), event("u", after=row(id=5, amount="5", big=GONE, note="at once"))]
    then = [event("u", after=row(id=1, amount="1", big=GONE, note="then")), event("u", after=row(id=2, amount="-2", big=GONE, note="still")),
            event("u", after=row(id=2, amount="2", big=GONE, note="then")), event("u", after=row(id=3, amount="-3", big=GONE)),
            event("c", after=row(id=4, amount="4", big="fresh"))]
    last = [event("u", after=row(id=3, amount="3", big=GONE, note="last")), event("u", after=row(id=5, amount="6", big=GONE, note="last"))]
    padding = [event("c", after=row(id=100 + i)) for i in range(len(first) - len(then))]
    more = [event("c", after=row(id=200 + i)) for i in range(len(first) - len(last))]
    _, rows = merged(project, [*first, *then, *padding, *last, *more], "copy", runs=3)
    assert {key: (one["big"], one["note"]) for key, one in rows.items() if key < 100} == {
        1: ("one" * 30, "then"), 2: ("newer" * 30, "then"), 3: ("three" * 30, "last"), 4: ("fresh", None), 5: ("five" * 30, "last")}
    assert {reason for _, _, reason in reasons_of(project)} == {"not owed"}


def test_a_row_that_leaves_out_what_nobody_knows_is_refused_until_it_is_whole(project):
    """A changed key comes as a new row without its long values: the table never holds a made-up null."""
    _, rows = merged(project, [event("c", after=row(id=1, big="long" * 30)), event("d", before=row(id=1)), event("c", after=row(id=2, big=GONE, note="moved")),
                               event("u", after=row(id=2, big=GONE, note="later"))], "copy", runs=2)
    assert rows == {}
    assert reasons_of(project) == [(2, "moved", "unavailable"), (2, "later", "unavailable")]
    text = lake.by_deltalake(project.root / "lake/quarantine/silver/orders").to_pylist()[0]["_reasons"][0]["error"]
    assert "the value of big" in text and "REPLICA IDENTITY FULL" in text
    project.write("landing/y.jsonl", json.dumps(event("u", after=row(id=2, big="touched", note="whole"))) + "\n")
    project.run("pipelines/p.lua")
    project.write("landing/z.jsonl", json.dumps(event("u", after=row(id=2, big=GONE, note="after"))) + "\n")
    project.run("pipelines/p.lua")
    table = lake.by_deltalake(project.root / "lake/silver/orders").to_pylist()
    assert [(one["id"], one["big"], one["note"]) for one in table] == [(2, "touched", "after")]


MODEL = """return model "gold.customers" { from = "silver.orders", by = { "customer" },
  measures = { orders = count(), total = sum "amount", largest = max "amount", notes = distinct "note" }, into = delta { mode = "merge" } }"""


def test_a_model_over_a_table_takes_back_what_changed(project):
    """Inserts, updates, deletes and refused rows in any order, over runs and kills: the model is that of the table as it is."""
    rng = random.Random(5)
    table, known, events = {}, {}, []
    for _ in range(3000):
        key = rng.randrange(60)
        values = {"customer": rng.choice("abcd"), "amount": str(rng.randrange(-3, 20)), "note": rng.choice([None, "x", "y", "n" * 40])}
        if key in known and rng.random() < 0.2:
            events.append(event("d", before=row(id=key)))
            del known[key]
            table.pop(key, None)
            continue
        left = dict(values)
        if key in known and known[key]["note"] == "n" * 40 and rng.random() < 0.5:
            values["note"], left["note"] = "n" * 40, GONE
        events.append(event("u" if key in known else "c", after=row(id=key, **left)))
        known[key] = values
        if int(values["amount"]) >= 0:
            table[key] = values
    project.write("rules/gold.lua", MODEL)
    _, rows = merged(project, events, "copy", runs=6)
    assert len(rows) == len(table)
    got = {one["customer"]: (one["orders"], one["total"], one["largest"], one["notes"]) for one in lake.by_deltalake(project.root / "lake/gold/customers").to_pylist()}
    groups = {name: [one for one in table.values() if one["customer"] == name] for name in "abcd"}
    assert got == {name: (len(some), sum(int(one["amount"]) for one in some), max(int(one["amount"]) for one in some),
                          len({one["note"] for one in some if one["note"] is not None})) for name, some in groups.items() if some}


def test_models_over_a_table_follow_what_is_newest_and_what_never_came_in(project):
    """A refused row that is deleted takes nothing back; the last row of a group takes the group away."""
    project.write("rules/gold.lua", MODEL)
    merged(project, [event("c", after=row(id=1, customer="a", amount="-1")), event("d", before=row(id=1)), event("c", after=row(id=2, customer="b", amount="2")),
                     event("d", before=row(id=2)), event("c", after=row(id=3, customer="c", amount="3")), event("u", after=row(id=3, customer="d", amount="4"))], "copy")
    rows = lake.by_deltalake(project.root / "lake/gold/customers").to_pylist()
    assert [(one["customer"], one["orders"], one["total"]) for one in rows] == [("d", 1, 4)]


@pytest.mark.parametrize("form", FORMS)
def test_lists_and_bytes_left_outside_the_row_stay_too(project, form):
    fields = [*ORDERS, {"name": "tags", "type": ["null", {"type": "array", "items": "string"}], "default": None},
              {"name": "scan", "type": ["null", "bytes"], "default": None}]
    scan, gone = base64.b64encode(b"\x00scan" * 20).decode(), base64.b64encode(GONE.encode()).decode()
    first = [event("c", after=row(id=1, tags=["a", "", "b"], scan=scan)), event("c", after=row(id=2, tags=[], scan=None)),
             event("c", after=row(id=3, tags=["refused"], scan=scan, amount="-1"))]
    then = [event("u", after=row(id=1, tags=[GONE], scan=gone, note="then")), event("u", after=row(id=2, tags=[GONE], scan=gone, note="then")),
            event("u", after=row(id=3, tags=["whole"], scan=gone, amount="1", note="then"))]
    _, rows = merged(project, [*first, *then], form, runs=2, fields=fields)
    assert {key: (one["tags"], one["scan"], one["note"]) for key, one in rows.items()} == {
        1: (["a", "", "b"], b"\x00scan" * 20, "then"), 2: ([], None, "then"), 3: (["whole"], b"\x00scan" * 20, "then")}
