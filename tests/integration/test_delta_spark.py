"""Spark with delta-spark as the judge of the tables we write, and of those with features that we append to. For the long tier: the packages are
half a gigabyte. WEIR_SPARK=1 asks for it; without it this says that it skips."""

import pytest
from test_delta import run, tool  # noqa: F401 (a fixture)
from test_delta_features import make, make_large


def counted(spark, table):
    """What does not depend on how a type prints: sums and counts of the columns of every kind."""
    return spark.sql(f"select count(*) n, sum(id) id, sum(medium) medium, cast(sum(price) as string) price, count(note) notes, count(distinct part) parts, "
                     f"sum(size(tags)) tags, sum(who.age) ages, sum(cast(at_ns as decimal(38,0))) ns, min(day) first, max(at) last from delta.`{table}`")[0]


FEATURES = {
    "plain": {},
    "mapped by name": {"mapping": "name"},
    "mapped by id": {"mapping": "id"},
    "row tracking": {"writers": ["rowTracking", "domainMetadata"], "configuration": {
        "delta.enableRowTracking": "true", "delta.rowTracking.materializedRowIdColumnName": "_row-id-col-1",
        "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-commit-version-col-1"}},
    "in-commit timestamps": {"writers": ["inCommitTimestamp"], "configuration": {"delta.enableInCommitTimestamps": "true"}},
    "statistics as structs": {"configuration": {"delta.checkpoint.writeStatsAsStruct": "true", "delta.checkpoint.writeStatsAsJson": "false"}},
    "v2 checkpoints": {"readers": ["v2Checkpoint"], "writers": ["v2Checkpoint"], "configuration": {"delta.checkpointPolicy": "v2"}},
    "clustering": {"writers": ["clustering", "domainMetadata"], "domains": [("delta.clustering", {"clusteringColumns": [["note"]], "domainName": "delta.clustering"})]},
}


@pytest.fixture(scope="module")
def wanted(spark, tool, tmp_path_factory):  # noqa: F811
    root = tmp_path_factory.mktemp("wanted")
    run(tool, "write", root, "t", 12)
    return counted(spark, root / "t")


@pytest.mark.parametrize("name", FEATURES)
def test_spark_reads_what_we_append(spark, tool, tmp_path, wanted, name):  # noqa: F811
    table = make(tool, tmp_path, "t", **FEATURES[name]) if name != "plain" else tmp_path / "t"
    run(tool, "write", tmp_path, "t", 12)
    for version in range(10):
        (table / "_delta_log" / f"{version:020d}.json").unlink()  # from the checkpoint on
    assert counted(spark, table) == wanted
    assert spark.sql(f"select count(*) n from delta.`{table}` where id between 120 and 180") == [{"n": 61}]
    if name == "row tracking":
        ids = spark.sql(f"select count(distinct _metadata.row_id) n, max(_metadata.row_id) m from delta.`{table}`")[0]
        assert ids == {"n": 600, "m": 599}


def test_spark_reads_checkpoints_of_several_sidecars(spark, tool, tmp_path):  # noqa: F811
    table, _, live = make_large(tool, tmp_path, 90_000, 10_000)
    for version in range(3):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    assert len(list((table / "_delta_log/_sidecars").iterdir())) == 2
    detail = spark.sql(f"describe detail delta.`{table}`")[0]
    assert detail["numFiles"] > len(live)
    assert spark.sql(f"select count(*) n from delta.`{table}` where id > 100000") == [{"n": 0}]  # by statistics: none of the files is there
