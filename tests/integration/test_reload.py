"""Rules saved while events flow: every row is processed by exactly one version, none is lost or doubled."""

import os
import signal

import lake
from test_cli import SCHEMA, line, wait_until

RELOADS = int(os.environ.get("WEIR_RELOADS", "20"))
PIPELINE = """return pipeline "shop" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "20ms" },
  sources = {
    source "bronze.sale" { files { path = "landing/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none },
  },
}
"""
RULE = """return stream "silver.sale" {
  from    = "bronze.sale",
  columns = { version = "int32" },
  map     = function(e, out) out.version = %d end,
}
"""


def save(project, version, text=None):
    """As editors do: a new file renamed over the old."""
    fresh = project.write("rules/.sale.lua.tmp", text or RULE % version)
    os.replace(fresh, project.root / "rules/sale.lua")


def rows(project):
    table = lake.by_deltalake(project.root / "lake/silver/sale")
    return list(zip((int(text) for text in table.column("id").to_pylist()), table.column("version").to_pylist()))


def start(project):
    project.write("schemas/sale.avsc", SCHEMA)
    project.write("pipelines/shop.lua", PIPELINE)
    (project.root / "landing").mkdir()
    save(project, 1)
    return project.start("run", "pipelines/shop.lua")


def stop(process):
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    return process.returncode, out + err


def feed(project, first, count):
    fresh = project.write(f"incoming-{first}", "".join(line(n) for n in range(first, first + count)))
    os.replace(fresh, project.root / f"landing/{first:09d}.jsonl")


def test_each_row_is_processed_by_exactly_one_version_and_none_is_lost(project):
    process = start(project)
    sent = 0
    try:
        for version in range(1, RELOADS + 1):
            save(project, version)

            def live():
                nonlocal sent
                feed(project, sent, 50)
                sent += 50
                return any(v == version for _, v in rows(project))
            wait_until(live)
        wait_until(lambda: len(rows(project)) >= sent)
    finally:
        code, text = stop(process)
    assert code == 0, text
    seen = rows(project)
    assert sorted(number for number, _ in seen) == list(range(sent))
    versions = [version for _, version in sorted(seen)]
    assert versions == sorted(versions), "an older version came back"
    assert set(versions) == set(range(1, RELOADS + 1))


def test_a_mistake_leaves_the_old_rules_running_and_is_told(project):
    process = start(project)
    try:
        feed(project, 0, 10)
        wait_until(lambda: len(rows(project)) == 10)
        save(project, 0, "return stream 'silver.sale' { from = ")
        wait_until(lambda: "rules/sale.lua:1" in (project.weir("status", "pipelines/shop.lua", "--json").json()["note"] or ""))
        feed(project, 10, 10)
        wait_until(lambda: len(rows(project)) == 20)
        save(project, 3)
        sent = 20

        def live():
            nonlocal sent
            feed(project, sent, 10)
            sent += 10
            return any(version == 3 for _, version in rows(project))
        wait_until(live)
    finally:
        code, text = stop(process)
    assert code == 0, text
    assert "rules/sale.lua:1" in text
    assert {version for number, version in rows(project) if number < 20} == {1}
