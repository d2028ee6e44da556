"""Change data capture, whole: PostgreSQL → Debezium → Kafka → Weir → a Delta table equal, row for row, to the source, whatever dies between.

`orders` lives under random inserts, updates, deletes and key changes; its rows turn invalid and valid again. What a table that
quarantines must hold is kept by PostgreSQL itself: a trigger writes `wanted`, where an invalid update leaves the row as it was.
The short form runs in every test run; WEIR_CDC_CHANGES and WEIR_CDC_KILLS make it long.
"""

import datetime
import decimal
import json
import os
import random
import time

import debezium  # noqa: F401 - a real server is needed: the runner puts this file into the job that has them
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

CHANGES = int(os.environ.get("WEIR_CDC_CHANGES", "600"))
KILLS = int(os.environ.get("WEIR_CDC_KILLS", "2"))
SENTINEL = 1_000_000
COLUMNS = [
    {"name": "id", "type": "int"},
    {"name": "customer", "type": "string"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
    {"name": "note", "type": ["null", "string"], "default": None},
    {"name": "qty", "type": ["null", "long"], "default": None},
    {"name": "price", "type": ["null", "double"], "default": None},
    {"name": "paid", "type": ["null", "boolean"], "default": None},
    {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
    {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": None},
    {"name": "big", "type": ["null", "string"], "default": None},
]
TABLES = """
create schema @;
create table @.orders (id int primary key, customer text not null, amount numeric(12,2) not null, note text, qty bigint, price float8,
                       paid boolean, day date, at timestamptz, big text);
alter table @.orders alter column big set storage external;
create table @.wanted (like @.orders including all);
create function @.shadow() returns trigger language plpgsql as $$ begin
    if tg_op = 'TRUNCATE' then delete from @.wanted; return null; end if;
    if tg_op = 'DELETE' or (tg_op = 'UPDATE' and new.id <> old.id) then delete from @.wanted where id = old.id; end if;
    if tg_op <> 'DELETE' and new.amount >= 0 then
        delete from @.wanted where id = new.id;
        insert into @.wanted select new.*;
    end if;
    return null;
end $$;
create trigger shadow after insert or update or delete on @.orders for each row execute function @.shadow();
create trigger emptied after truncate on @.orders execute function @.shadow();
"""
PIPELINE = """return pipeline "@NAME@" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "50ms" },
  sources = { source "bronze.orders" { kafka { brokers = "@BROKERS@", topic = "@TOPIC@" },
    debezium { key = "id", schema = "schemas/orders.avsc"@OPTIONS@ } } },
}
"""
RULE = """return stream "silver.orders" {
  from = "bronze.orders",
  key  = "id",
  expectations = { expect "not owed" { function(e) return e.amount >= 0 end } },
  into = delta { mode = "merge"@PROPERTIES@ },
}
"""
MODEL = """return model "gold.customers" {
  from = "silver.orders", by = "customer",
  measures = { orders = count(), total = sum "amount", largest = max "amount" },
  into = delta { mode = "merge" },
}
"""
PROPERTIES = {"copy": "", "vectors": ', properties = { ["delta.enableDeletionVectors"] = "true" }'}


def text(value):
    return "null" if value is None else "'" + str(value).replace("'", "''") + "'"


class Orders:
    """The source table and those who change it."""

    def __init__(self, database, seed, identity="default"):
        """Some values of `big` are kept outside their row: updates of other columns leave them out, unless `identity` is "full"."""
        self.database = database
        self.identity = identity
        self.schema = f"s{time.time_ns()}"
        self.rng = random.Random(seed)
        self.changes = 0
        self.run(TABLES + f"alter table @.orders replica identity {identity};")

    def run(self, script):
        return self.database.sql(script.replace("@", self.schema))

    def alter(self, how):
        self.run(f"begin; alter table @.orders {how}; alter table @.wanted {how}; commit;")

    def values(self):
        """What an update sets, in part."""
        rng = self.rng
        moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=rng.randrange(10**15))
        return {
            "customer": text(rng.choice(["ann", "bob", "Ωmega", "o'neil", "", "\U0001f600"])),
            "amount": f"{rng.randrange(-400, 3000) / 100:.2f}",
            "note": text(rng.choice([None, "", "n", 'tab\t"q" \\ \n'])),
            "qty": rng.choice(["null", "0", "-9223372036854775808", "9223372036854775807", str(rng.randrange(10**6))]),
            "price": rng.choice(["null", "0.1", "-0.0", "5e-324", "1.7976931348623157e308", repr(rng.random())]),
            "paid": rng.choice(["null", "true", "false"]),
            "day": text(rng.choice([None, "0001-01-01", "1969-12-31", "2024-02-29", moment.date()])),
            "at": text(rng.choice([None, "1969-12-31 23:59:59.999999+00", moment.isoformat()])),
        }

    def big(self):
        return text(self.rng.choice([None, "short", "".join(self.rng.choices("abcdef", k=9)) * 400]))

    def change(self):
        rng = self.rng
        key, values = rng.randrange(200), self.values()
        kind = rng.random()
        self.changes += 1
        if kind < 0.35:
            values = {"id": str(key), **values, "big": self.big()}
            return f"insert into @.orders ({', '.join(values)}) values ({', '.join(values.values())}) on conflict do nothing;"
        if kind < 0.75:
            chosen = rng.sample(sorted(values), rng.randrange(1, 5))
            if rng.random() < 0.2:
                values["big"] = self.big()
                chosen.append("big")
            return f"update @.orders set {', '.join(f'{name} = {values[name]}' for name in chosen)} where id = {key};"
        if kind < 0.85:
            other = rng.randrange(200)
            # with the default identity a changed key comes as a new row without its long values: nobody could know them
            whole = "" if self.identity == "full" else "and coalesce(length(big), 0) < 100 "
            return f"update @.orders set id = {other} where id = {key} {whole}and not exists (select 1 from @.orders where id = {other});"
        return f"delete from @.orders where id = {key};"

    def live(self, count):
        """Random changes in transactions of random sizes."""
        script = ""
        while count > 0:
            size = min(count, self.rng.choice([1, 1, 2, 5, 20]))
            script += "begin;" + "".join(self.change() for _ in range(size)) + self.rng.choice(["commit;\n"] * 9 + ["rollback;\n"])
            count -= size
        self.run(script)

    def mark(self):
        """A row that says, when it arrives, that all before it has."""
        self.sentinel = getattr(self, "sentinel", SENTINEL) + 1
        self.run(f"insert into @.orders (id, customer, amount) values ({self.sentinel}, 'mark', 0);")
        return self.sentinel

    def rows(self, table="wanted"):
        out = self.run(f"select coalesce(json_agg(t), '[]') from @.{table} t")
        return sorted((plain(row) for row in json.loads(out, parse_float=decimal.Decimal)), key=lambda row: row["id"])


    def customers(self):
        out = self.run("select coalesce(json_agg(t), '[]') from (select customer, count(*), sum(amount), max(amount) from @.wanted group by customer) t")
        rows = json.loads(out, parse_float=decimal.Decimal)
        return sorted((one["customer"], one["count"], decimal.Decimal(one["sum"]), decimal.Decimal(one["max"])) for one in rows)


def plain(row):
    """A row of PostgreSQL's JSON, or of a Delta table, as values that compare."""
    said = {}
    for name, value in row.items():
        if value is not None and name == "amount":
            value = decimal.Decimal(value)
        elif value is not None and name == "price":
            value = repr(float(value))
        elif value is not None and name == "day":
            value = str(value)
        elif value is not None and name == "at":
            value = (datetime.datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(datetime.timezone.utc)
        said[name] = value
    return said


class Weir:
    """A project that follows the topic of the orders."""

    def __init__(self, project, kafka, topic, form, options=', decimals = "string"'):
        self.project = project
        self.process = None
        project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": COLUMNS}))
        project.write("rules/orders.lua", RULE.replace("@PROPERTIES@", PROPERTIES[form]))
        text_of = PIPELINE.replace("@NAME@", f"p{time.time_ns()}").replace("@BROKERS@", kafka.plaintext)
        project.write("pipelines/p.lua", text_of.replace("@TOPIC@", topic).replace("@OPTIONS@", options))

    def start(self):
        self.process = self.project.start("run", "pipelines/p.lua", "--json")

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def table(self, name):
        path = self.project.root / "lake" / name
        if not any(path.glob("_delta_log/*.json")):
            return []
        query = QueryBuilder().register("t", DeltaTable(str(path)))  # the reader that knows deletion vectors
        return pa.table(query.execute("select * from t").read_all()).to_pylist()

    def rows(self):
        rows = [{key: value for key, value in row.items() if not key.startswith("_")} for row in self.table("silver/orders")]
        return sorted(map(plain, rows), key=lambda row: row["id"])

    def customers(self):
        return sorted((one["customer"], one["orders"], one["total"], one["largest"]) for one in self.table("gold/customers"))

    def wait_for(self, check, seconds=90):
        give_up = time.monotonic() + seconds
        while not check():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < give_up, (f"not in {seconds} s", self.rows()[-3:], self.process.terminate(), self.process.communicate())
            time.sleep(0.05)

    def wait_for_row(self, key):
        self.wait_for(lambda: any(row["id"] == key for row in self.rows()))

    def stop(self):
        self.process.terminate()
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()


@pytest.fixture
def weir(project, kafka):
    made = []

    def make(*arguments):
        made.append(Weir(project, kafka, *arguments))
        return made[-1]

    yield make
    for each in made:
        each.end()


def assert_equal(got, wanted):
    keys = [row["id"] for row in got]
    assert len(keys) == len(set(keys)), "a key twice"
    by_key = {row["id"]: row for row in wanted}
    differing = []
    for row in got:
        other = by_key.get(row["id"], {})
        if row != other:
            differing.append({"id": row["id"], **{name: (str(row[name])[:40], str(other.get(name))[:40]) for name in row if row[name] != other.get(name, ...)}})
    missing = sorted(set(by_key) - set(keys))
    assert not differing and not missing, f"{len(got)} rows, wanted {len(wanted)}; (is, wanted) {differing[:5]}; missing: {missing[:10]}"


@pytest.mark.parametrize("form, identity", [("copy", "default"), ("vectors", "full"), ("vectors", "default")])
def test_the_table_equals_the_source_after_kills(kafka, database, connect, weir, form, identity):
    orders = Orders(database, seed=form + identity, identity=identity)
    name = orders.schema
    orders.live(CHANGES // 4)
    orders.run("delete from @.wanted where id in (select id from @.orders where amount < 0);")  # the snapshot has no row before
    connect.capture(name, database, "postgres", [f"{name}.orders"], decimal_handling_mode="string", skipped_operations="none")
    run = weir(f"{name}.{name}.orders", form)
    run.project.write("rules/customers.lua", MODEL)
    orders.live(CHANGES // 4)
    run.start()
    for kill in range(KILLS):
        if kill == 1:
            orders.run("truncate @.orders;")
        mark = orders.mark()
        orders.live(CHANGES // (2 * KILLS))
        run.wait_for_row(mark)  # in the middle: what came after the mark is on its way
        run.kill()
        run.start()
    run.wait_for_row(orders.mark())
    assert_equal(run.rows(), orders.rows("wanted"))
    run.wait_for(lambda: run.customers() == orders.customers())  # a table of its own, committed beside the other
    invalid = sum(row["amount"] < 0 for row in orders.rows("orders"))
    orders.run("update @.orders set amount = -amount where amount < 0;")
    run.wait_for_row(orders.mark())
    assert_equal(run.rows(), orders.rows("orders"))
    run.stop()
    connect.remove(name)
    refused = {one["_reasons"][0]["expectation"] for one in run.table("quarantine/silver/orders")}
    assert refused == {"not owed"}, refused
    print(f"{form}, identity {identity}: {len(run.rows())} rows equal after {orders.changes} changes and {KILLS} kills; {invalid} were invalid")


def by_id(rows):
    return {row["id"]: row for row in rows}


def test_what_a_real_connector_sends(kafka, database, connect, weir):
    """Snapshot, changed keys, values outside the row, lying deletes, transactions, a truncate, infinities, an added column: each as its rule says."""
    orders = Orders(database, seed=1)
    name = orders.schema
    big = "0123456789" * 500
    orders.run(f"insert into @.orders (id, customer, amount, big) values (1, 'snapshot', 1.50, '{big}'), (2, 'snapshot', -0.01, null);")
    connect.capture(name, database, "postgres", [f"{name}.orders"], schemas=True, provide_transaction_metadata=True, skipped_operations="none")
    run = weir(f"{name}.{name}.orders", "copy", "")
    run.start()
    orders.run("update @.orders set note = 'big stays' where id = 1;")
    txid = int(orders.run("begin; insert into @.orders (id, customer, amount) values (3, 'tx', 3), (4, 'tx', 4); update @.orders set amount = 5 where id = 3; "
                          "select txid_current(); commit;").split()[-1])
    orders.run("begin; insert into @.orders (id, customer, amount) values (99, 'never', 1); rollback;")
    orders.run("update @.orders set id = 40 where id = 4;")
    orders.run("insert into @.orders (id, customer, amount, qty, day) values (5, 'deleted', 5, 5, '2024-01-01'); delete from @.orders where id = 5;")
    orders.run("insert into @.orders (id, customer, amount, at) values (6, 'early', 6, '-infinity'), (7, 'late', 7, 'infinity');"
               "insert into @.orders (id, customer, amount, day) values (8, 'never', 8, 'infinity');")
    orders.alter("add column region text default 'EU'")
    orders.run("insert into @.orders (id, customer, amount, region) values (10, 'added', 10, 'US');")
    orders.alter("alter column amount type numeric(14,4)")
    orders.run("insert into @.orders (id, customer, amount) values (11, 'scale 4', 7.1200);")
    run.wait_for_row(orders.mark())
    rows = by_id(run.rows())
    assert rows[1]["note"] == "big stays" and rows[1]["big"] == big
    assert rows[3]["amount"] == 5 and rows[40]["customer"] == "tx"
    assert not {2, 4, 5, 6, 7, 8, 99} & set(rows), sorted(rows)
    assert rows[11]["amount"] == decimal.Decimal("7.12"), "the scale goes with the schema, also when it changes in flight"
    run.stop()
    events = run.table("bronze/orders")
    assert sorted(one["_change"] for one in events if one["id"] == 1) == [0, 2], "a row of the snapshot is an insert"
    assert {one["id"] for one in events if one["_source_txid"] == txid} == {3, 4}, "the transaction is PostgreSQL's own number"
    gone, = [one for one in events if one["id"] == 5 and one["_change"] == 3]
    assert (gone["customer"], gone["qty"], gone["day"]) == (None, None, None), "a delete's other columns are made up"
    added, = [one for one in events if one["id"] == 10]
    assert json.loads(added["_rescued"]) == {"region": "US"}
    refused = [one["_reasons"][0]["error"] for one in run.table("quarantine/bronze/orders")]
    assert len([text for text in refused if "infinity" in text]) == 3, refused

    # the column is added to the .avsc while changes go on: the next start reads and merges it
    run.project.write("schemas/orders.avsc", json.dumps({"type": "record", "name": "orders", "fields": [
        *COLUMNS, {"name": "region", "type": ["null", "string"], "default": None}]}))
    run.start()
    orders.run("insert into @.orders (id, customer, amount, region) values (12, 'known', 12, 'APAC'); update @.orders set note = 'x' where id = 10;")
    run.wait_for_row(orders.mark())
    rows = by_id(run.rows())
    assert (rows[12]["region"], rows[10]["region"], rows[3]["region"]) == ("APAC", "US", None)
    orders.run("truncate @.orders;")
    orders.run("insert into @.orders (id, customer, amount) values (1, 'after', 1);")
    run.wait_for_row(orders.mark())
    assert [(row["id"], row["customer"]) for row in run.rows()] == [(1, "after"), (orders.sentinel, "mark")]
    run.stop()
    assert sum(one["_change"] == 4 for one in run.table("bronze/orders")) == 1
    connect.remove(name)
