"""Random sequences of everything that may be done to a table, by us and by deltalake, compared after each step with a model, with
deltalake and with ourselves. A failure prints the seed and the steps; WEIR_OPERATION_SEEDS and WEIR_OPERATIONS make it longer."""

import datetime
import decimal
import os
import random
import subprocess
import threading

import deltalake
import pyarrow as pa
import pytest

from test_maintain import by_weir, result, weir
from test_merge import AFTER, DELETE, INSERT, SCHEMA, START, build, change_file, merge  # noqa: F401 (build is a fixture)

SEEDS = int(os.environ.get("WEIR_OPERATION_SEEDS", "3"))
FIRST = int(os.environ.get("WEIR_OPERATION_FIRST_SEED", "1"))
STEPS = int(os.environ.get("WEIR_OPERATIONS", "14"))
REGIONS = ["north", "so/uth=1", "west"]
MERGE = ["key=id", "time=at", "change=_change", "txn=job"]


class Table:
    """The table on disk and what should be in it: rows by id, at every version a restore may go back to."""

    def __init__(self, binary, build, root, rng, vectors, partitioned):  # noqa: F811
        self.binary, self.build, self.root, self.rng, self.vectors = binary, build, root, rng, vectors
        self.path = root / "t"
        self.partitioned = partitioned
        self.rows, self.columns = {}, []  # by id; columns added since
        self.versions = {}                # version -> (rows, columns)
        self.vacuumed = -1                # versions up to this may be gone
        self.tick, self.files, self.done = 0, 0, []
        self.merge()

    def fresh(self, key):
        self.tick += 1
        return {"id": key, "region": self.rng.choice(REGIONS), "at": START + datetime.timedelta(seconds=self.tick),
                "amount": decimal.Decimal(self.rng.randint(-10**6, 10**6)) / 100, "note": f"note {self.rng.randrange(9)}"}

    def version(self):
        return deltalake.DeltaTable(str(self.path)).version()

    # --- steps ---

    def merge(self):
        changes = []
        for _ in range(self.rng.randint(1, 40)):
            row = self.fresh(self.rng.randrange(60))
            kind = self.rng.choice([INSERT, AFTER, AFTER, DELETE])
            changes.append({**row, "_change": kind})
            if kind == DELETE:
                self.rows.pop(row["id"], None)
            else:
                self.rows[row["id"]] = row
        self.files += 1
        options = MERGE + (["partition=region"] if self.partitioned else []) + (["property=delta.enableDeletionVectors=true"] if self.vectors else [])
        # the marker's version goes on from merge to merge
        merge(self.build, self.root, "t", [o if o != "txn=job" else f"txn=job{self.files}" for o in options], change_file(self.root / f"{self.files}.parquet", changes))

    def their_rows(self, count):
        first = 1000 + self.tick
        return [{**self.fresh(first + i), **{name: self.rng.choice(["x", None]) for name in self.columns}} for i in range(count)]

    def append_rows(self, rows):
        schema = pa.schema([SCHEMA.field(i) for i in range(5)] + [pa.field(name, pa.string()) for name in self.columns])
        deltalake.write_deltalake(str(self.path), pa.Table.from_pylist(rows, schema=schema), mode="append", schema_mode="merge")
        self.rows.update({row["id"]: row for row in rows})

    def append(self):
        self.append_rows(self.their_rows(self.rng.randint(1, 5)))

    def evolve(self):
        if len(self.columns) < 4:
            self.columns = [*self.columns, f"extra{len(self.columns)}"]
        self.append()

    def delete(self):
        limit = self.rng.randrange(60)
        deltalake.DeltaTable(str(self.path)).delete(f"id < {limit} and note = 'note 3'")
        self.rows = {key: row for key, row in self.rows.items() if not (key < limit and row["note"] == "note 3")}

    def optimize(self):
        weir(self.binary, "optimize", self.path, *self.rng.choice([[], ["--target-size", "8kb"], ["--where", "region = 'west'"] if self.partitioned else []]))

    def zorder(self):
        weir(self.binary, "optimize", self.path, "--zorder", "at,note", "--target-size", "4kb")

    def vacuum(self):
        weir(self.binary, "vacuum", self.path, "--retain", "0h", "--allow-short-retention")
        self.vacuumed = self.version()

    def checkpoint(self):
        deltalake.DeltaTable(str(self.path)).create_checkpoint()

    def restore(self):
        versions = [v for v in self.versions if v > self.vacuumed]
        if versions:
            version = self.rng.choice(versions)
            weir(self.binary, "restore", self.path, "--version", version)
            rows, columns = self.versions[version]
            self.rows, self.columns = dict(rows), list(columns)

    def layout(self):
        weir(self.binary, "optimize", self.path, "--layout", "direct_lake")

    def new_rows(self, region, count):
        """A table of its own that holds what a partition is to become, and its rows."""
        self.files += 1
        rows = [{**self.fresh(2000 + 100 * self.files + i), "region": region} for i in range(count)]
        (self.root / f"new{self.files}").mkdir()
        merge(self.build, self.root / f"new{self.files}", "t", ["key=id", "time=at", "change=_change", "partition=region"],
              change_file(self.root / f"{self.files}.parquet", [{**row, "_change": INSERT} for row in rows]))
        return self.root / f"new{self.files}/t", {row["id"]: row for row in rows}

    def replace(self):
        if self.partitioned:
            region = self.rng.choice(REGIONS)
            path, rows = self.new_rows(region, self.rng.randint(1, 9))
            weir(self.binary, "replace", self.path, "--where", f"region = '{region}'", "--from", path)
            self.rows = {**{key: row for key, row in self.rows.items() if row["region"] != region}, **rows}

    def other_merge(self):
        """A second process of ours, with keys and a marker of its own: (its rows, what runs it)."""
        self.files += 1
        rows, own = [self.fresh(100_000 + 100 * self.files + i) for i in range(5)], f"other{self.files}"
        path = change_file(self.root / f"{own}.parquet", [{**row, "_change": AFTER} for row in rows])
        options = [*MERGE[:3], f"txn={own}", *(["partition=region"] if self.partitioned else [])]
        return rows, lambda: merge(self.build, self.root, "t", options, path)

    def two_writers(self):
        """Another writer, deltalake or a second process of ours, while we rewrite, merge or replace: neither undoes the other."""
        ours = self.rng.choice([self.optimize, self.zorder, self.layout, self.merge, self.replace])
        theirs = self.rng.choice(["append", "merge"])
        chunks = [self.their_rows(2) for _ in range(4)] if theirs == "append" else []
        merged, run = self.other_merge() if theirs == "merge" else ([], None)
        before, failed, done = dict(self.rows), [], {}

        def other():
            try:
                for some in chunks:
                    schema = pa.schema([SCHEMA.field(i) for i in range(5)] + [pa.field(name, pa.string()) for name in self.columns])
                    while True:
                        try:
                            deltalake.write_deltalake(str(self.path), pa.Table.from_pylist(some, schema=schema), mode="append", schema_mode="merge")
                            break
                        except deltalake.exceptions.CommitFailedError:
                            pass  # it gives up where ours removed a file; nothing of it was done
                    done.update({row["id"]: row for row in some})
                if run:
                    run()
                    done.update({row["id"]: row for row in merged})
            except Exception as error:  # noqa: BLE001 told by the assertion below
                failed.append(error)

        writer = threading.Thread(target=other)
        writer.start()
        try:
            ours()
        except AssertionError as lost:  # of a partition that the other changed nothing is replaced
            assert ours == self.replace and "another writer changed" in str(lost), lost
            self.rows = before
        finally:
            writer.join()
        assert not failed, failed
        if ours == self.replace:  # rows that came before it are gone with their partition, those after it are there
            there = {row["id"] for row in by_weir(self.binary, self.path)}
            done = {key: row for key, row in done.items() if key in there or all(r["region"] != row["region"] for k, r in self.rows.items() if k >= 2000)}
        self.rows.update(done)

    # --- judges ---

    def check(self):
        wanted = sorted(({**row, **{name: row.get(name) for name in self.columns}} for row in self.rows.values()), key=lambda row: row["id"])
        names = ["id", "region", "at", "amount", "note", *self.columns]
        table = deltalake.DeltaTable(str(self.path))
        found = pa.table(deltalake.QueryBuilder().register("t", table).execute(f"SELECT {', '.join(names)} FROM t ORDER BY id").read_all())
        theirs = [{name: row[name] for name in names} for row in found.to_pylist()]
        assert theirs == wanted, "deltalake reads other rows"
        ours = sorted(by_weir(self.binary, self.path), key=lambda row: row["id"])
        assert [row["id"] for row in ours] == [row["id"] for row in wanted], "we read other rows"
        for mine, row in zip(ours, wanted):
            assert (mine["note"], mine["region"], decimal.Decimal(str(mine["amount"]))) == (row["note"], row["region"], row["amount"])
            assert all(mine[name] == row[name] for name in self.columns)
        self.versions[table.version()] = (dict(self.rows), list(self.columns))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_a_table_is_what_was_done_to_it(binary, build, tmp_path, seed):  # noqa: F811
    rng = random.Random(seed)
    vectors = seed % 2 == 1
    table = Table(binary, build, tmp_path, rng, vectors, partitioned=seed % 3 != 0)
    steps = ["merge", "merge", "merge", "append", "append", "evolve", "optimize", "optimize", "zorder", "vacuum", "checkpoint", "restore", "layout", "replace", "two_writers", "two_writers"]
    steps += [] if vectors else ["delete"]  # deltalake does not delete under deletion vectors
    done = []
    table.check()
    for _ in range(STEPS):
        step = rng.choice(steps)
        done.append(step)
        try:
            getattr(table, step)()
            table.check()
        except (AssertionError, subprocess.CalledProcessError, Exception) as error:
            raise AssertionError(f"seed {seed}, after {' '.join(done)}: {error}") from error
