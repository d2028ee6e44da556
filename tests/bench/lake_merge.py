"""A merge by key beside delta-rs's, one core, one run: 100,000 changes (90 % updates of keys spread over the table, 10 % inserts) into 5 M
rows, each engine into its own copy of the very same table. CPU time of the merge alone, best of the repetitions; what is left must be equal.

usage: python3 tests/bench/lake_merge.py [ROWS, default 5000000] [KEYS, default 100000] [REPETITIONS, default 3]
Runs itself in build/venv when that is there.
"""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
VENV = ROOT / "build/venv/bin/python"
CORE = sorted(os.sched_getaffinity(0))[-1]


ROW = """id, 'sku-' || (hash(id, {salt}) % 10000) as sku, (hash(id, {salt} + 1) % 50)::int as qty, (hash(id, {salt} + 2) % 100000) / 100.0::double as amount,
['GB', 'DE', 'FR', 'ES', 'IT'][1 + (hash(id, {salt} + 3) % 5)::int] as country, make_timestamp(1700000000000000 + id * 1000) as event_time"""


def make(folder, rows, keys):
    """`keys` changes, nine in ten of keys that the table has, spread over all of it."""
    import duckdb
    import pyarrow
    import pyarrow.parquet as parquet
    from deltalake import WriterProperties, write_deltalake

    def table(ids, salt):
        made = duckdb.sql(f"select {ROW.format(salt=salt)} from ({ids}) order by id").to_arrow_table()
        at = made.schema.get_field_index("event_time")
        return made.set_column(at, "event_time", made["event_time"].cast(pyarrow.timestamp("us", "UTC")))

    write_deltalake(folder / "base", table(f"select range as id from range({rows})", 0),
                    writer_properties=WriterProperties(compression="ZSTD", compression_level=1))
    updates = keys * 9 // 10
    changes = table(f"select (range * {rows // updates})::bigint as id from range({updates}) union all select range as id from range({rows}, {rows + keys - updates})", 9)
    parquet.write_table(changes, folder / "changes.parquet")


def by_delta_rs(path, changes):
    import pyarrow.parquet as parquet
    from deltalake import DeltaTable, WriterProperties

    source = parquet.read_table(changes)
    table = DeltaTable(path)
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    table.merge(source, "t.id = s.id", source_alias="s", target_alias="t",
                writer_properties=WriterProperties(compression="ZSTD", compression_level=1)) \
        .when_matched_update_all().when_not_matched_insert_all().execute()
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_ms": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000,
                      "wall_ms": (time.monotonic() - wall) * 1000, "peak_mb": after.ru_maxrss / 1024}))


def checksum(path):
    import deltalake
    import pyarrow as pa

    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(path))
    return pa.table(query.execute("select count(*), sum(id), sum(qty), round(sum(amount)), count(distinct id) from t").read_all()).to_pylist()


def measure(name, folder, repetitions, command):
    best = None
    for _ in range(repetitions):
        shutil.rmtree(folder / "t", ignore_errors=True)
        shutil.copytree(folder / "base", folder / "t")
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        best = result if best is None or result["cpu_ms"] < best["cpu_ms"] else best
    print(f"merge {name:<24} {best['cpu_ms']:8.0f} ms of CPU, {best['wall_ms']:8.0f} ms" +
          (f", {best['peak_mb']:.0f} MB" if "peak_mb" in best else ""), flush=True)
    return best["cpu_ms"]


def main():
    rows, keys, repetitions = (int(v) for v in (sys.argv[1:] + ["5000000", "100000", "3"][len(sys.argv) - 1:])[:3])
    os.sched_setaffinity(0, {CORE})
    with tempfile.TemporaryDirectory(prefix="weir-merge-") as name:
        folder = pathlib.Path(name)
        make(folder, rows, keys)
        changes = str(folder / "changes.parquet")
        inner = [sys.executable, __file__, "delta-rs", str(folder / "t"), changes]
        theirs = measure("delta-rs", folder, repetitions, inner)
        expected = checksum(folder / "t")
        ours = measure("weir, copy-on-write", folder, repetitions, [str(BUILD / "tools/merge_tool"), name, "t", "key=id", changes])
        assert checksum(folder / "t") == expected, (checksum(folder / "t"), expected)
        subprocess.run([sys.executable, __file__, "vectors", str(folder / "base")], check=True)
        vectors = measure("weir, deletion vectors", folder, repetitions, [str(BUILD / "tools/merge_tool"), name, "t", "key=id", changes])
        assert checksum(folder / "t") == expected
        print(f"merge delta-rs / weir: {theirs / ours:.1f} times by copy-on-write, {theirs / vectors:.1f} by deletion vectors")
    return 0


def turn_on_vectors(path):
    """As an engine that turns the feature on would: a protocol and a metadata action."""
    log = pathlib.Path(path) / "_delta_log"
    actions = [json.loads(line) for line in (log / f"{0:020}.json").read_text(encoding="utf-8").splitlines()]
    metadata = next(a for a in actions if "metaData" in a)
    metadata["metaData"]["configuration"]["delta.enableDeletionVectors"] = "true"
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
                             "writerFeatures": ["deletionVectors", "appendOnly", "invariants"]}}
    (log / f"{1:020}.json").write_text("\n".join(json.dumps(a) for a in (protocol, metadata)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "delta-rs":
        by_delta_rs(*sys.argv[2:])
    elif len(sys.argv) > 2 and sys.argv[1] == "vectors":
        turn_on_vectors(sys.argv[2])
    elif VENV.exists() and not os.environ.get("WEIR_IN_VENV"):
        os.environ["WEIR_IN_VENV"] = "1"
        os.execv(VENV, [str(VENV), __file__, *sys.argv[1:]])
    else:
        sys.exit(main())
