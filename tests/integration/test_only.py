"""weir run --only NAME: that dataset and what it reads; nothing else is written."""

import json

import lake
import language
import pytest

PIPELINE = """return pipeline "p" {
  rules = "rules", storage = delta { root = "lake" }, commit = { every = "20ms" },
  sources = {
    source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" } },
    source "bronze.stock" { files { path = "stock/*.jsonl" }, json { schema = "schemas/sale.avsc" } },
    source "bronze.shop" { files { path = "shop/*.jsonl" }, json { schema = "schemas/shop.avsc" }, into = none },
  },
}
"""
RULES = """return {
  stream "silver.shop" { from = "bronze.shop", key = "shop" },
  stream "silver.sale" { from = "bronze.sale", expectations = { expect "some" { function(e) return e.qty > 0 end } },
    join = { shop = lookup "silver.shop" { on = "shop", kind = "left" } }, columns = { town = "string" },
    map = function(e, out, j) out.town = j.shop and j.shop.town end },
  model "gold.town" { from = "silver.sale", by = { "town" }, measures = { units = sum "qty" } },
  stream "silver.stock" { from = "bronze.stock" },
  rule "alert.big" { on = "silver.sale", key = "shop", order = "arrival", emits = { ["gold.big"] = { id = "int64" } }, state = { n = counter() },
    process = function(e, s, p, emit) if e.qty > 5 then emit("gold.big", { id = e.id }) end end },
  quality "silver.sale" { expect "few" { function(e) return e.qty < 9 end } },
}"""


@pytest.fixture
def shop(project):
    project.write("pipelines/p.lua", PIPELINE)
    project.write("rules/r.lua", RULES)
    project.write("schemas/sale.avsc", language.schema({"id": "long!", "shop": "long", "qty": "int"}))
    project.write("schemas/shop.avsc", language.schema({"shop": "long!", "town": "string"}))
    feed(project, "landing/a.jsonl", range(20))
    feed(project, "stock/a.jsonl", range(3))
    project.write("shop/a.jsonl", "".join(json.dumps({"shop": n, "town": f"t{n}"}) + "\n" for n in range(2)))
    return project


def feed(project, path, ids):
    project.write(path, "".join(json.dumps({"id": n, "shop": n % 2, "qty": n % 10}) + "\n" for n in ids))


def tables(project, root="lake"):
    return sorted(str(log.parent.relative_to(project.root / root)) for log in (project.root / root).rglob("_delta_log"))


def rows(project, table, *columns):
    return sorted(lake.rows_of(lake.by_deltalake(project.root / "lake" / table), columns))


def test_only_what_it_reads_runs_and_only_it_is_written(shop):
    summary = shop.run("pipelines/p.lua", "--only", "silver.sale")
    assert set(name for name in summary["datasets"] if "quarantine" not in name) == {"bronze.sale", "bronze.shop", "silver.shop", "silver.sale"}
    assert tables(shop) == ["quarantine/silver/sale", "silver/sale"]
    assert rows(shop, "silver/sale", "id", "town") == [(n, f"t{n % 2}") for n in range(20) if 0 < n % 10 < 9]
    feed(shop, "landing/b.jsonl", range(20, 30))  # and it goes on from there
    shop.run("pipelines/p.lua", "--only", "silver.sale")
    assert rows(shop, "silver/sale", "id") == [(n,) for n in range(30) if 0 < n % 10 < 9]
    replayed = shop.weir("replay", "pipelines/p.lua", "--only", "silver.sale", "--epoch", "1")
    assert replayed.code == 0 and "the same outputs and state" in replayed.out, replayed


def test_several_and_what_a_rule_emits(shop):
    shop.run("pipelines/p.lua", "--only", "gold.big", "--only=silver.stock")
    assert tables(shop) == ["gold/big", "silver/stock"]
    assert rows(shop, "gold/big", "id") == [(n,) for n in range(20) if 5 < n % 10 < 9]


def test_a_source_alone(shop):
    summary = shop.run("pipelines/p.lua", "--only", "bronze.stock")
    assert tables(shop) == ["bronze/stock"] and "bronze.sale" not in summary["datasets"]


def test_ledgers_that_know_nothing_of_each_other_do_not_write_one_table(shop):
    shop.run("pipelines/p.lua", "--only", "gold.town")
    shop.run("pipelines/p.lua", "--only", "silver.stock")  # another table
    for arguments in ["--only", "gold.town", "--only", "silver.stock"], ["--set", "commit.every=30ms"]:
        outcome = shop.weir("run", "pipelines/p.lua", "--until-end", *arguments)
        assert outcome.code != 0 and "a run with --only has written tables here" in outcome.err, outcome
    shop.run("pipelines/p.lua", "--set", "storage.root=whole")
    assert "gold/town" in tables(shop, "whole")
    outcome = shop.weir("run", "pipelines/p.lua", "--until-end", "--only", "gold.town", "--set", "storage.root=whole")
    assert outcome.code != 0 and "the whole pipeline has run here" in outcome.err and "--set storage.root=DIR" in outcome.err, outcome
    assert rows(shop, "gold/town", "town", "units") == [(f"t{k}", sum(n % 10 for n in range(20) if n % 10 < 9 and n % 2 == k)) for k in range(2)]


@pytest.mark.parametrize("name, hint", [("silver.sales", "silver.sale"), ("quarantine.silver.sale", "it is written with --only silver.sale"), ("x", "there are: ")])
def test_a_name_nobody_has(shop, name, hint):
    outcome = shop.weir("run", "pipelines/p.lua", "--until-end", "--only", name)
    assert outcome.code == 1 and f"--only {name}: no dataset is called that" in outcome.err and hint in outcome.err, outcome
    assert not (shop.root / "lake").exists()


def test_what_is_not_needed_need_not_be_right(shop):
    shop.write("rules/wrong.lua", 'return stream "silver.wrong" { from = "bronze.stock", where = function(e) return e.nothing end }')
    outcome = shop.weir("run", "pipelines/p.lua", "--until-end")
    assert outcome.code == 1 and "nothing" in outcome.err, outcome
    shop.run("pipelines/p.lua", "--only", "silver.sale")
