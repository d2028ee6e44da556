"""Files and Parquet files listed from object stores: each object once, whatever is killed, replaced or away, in Azurite and versitygw."""

import gzip
import json
import signal

import azurite as azurite_service
import lake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3 as s3_service
from deltalake._internal import DeltaFileSystemHandler
from faulty_proxy import Proxy
from live import wait_until
from test_stores import through

SCHEMA = {"type": "record", "name": "sale", "fields": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}]}


@pytest.fixture(scope="module", params=["azure", "s3"])
def cloud(request):
    service = azurite_service.start() if request.param == "azure" else s3_service.start()
    (service.create_container if request.param == "azure" else service.create_bucket)("files")
    service.url = "az://files" if request.param == "azure" else "s3://files"
    yield service
    service.stop()


@pytest.fixture
def folder(cloud, request):
    """A folder of the store: what lies in it, and how to put more there."""
    class Folder:
        name = request.node.originalname
        url = f"{cloud.url}/{name}"
        store = DeltaFileSystemHandler(cloud.url, cloud.delta())

        def put(self, path, content):
            out = self.store.open_output_stream(f"{self.name}/{path}")
            out.write(content if isinstance(content, bytes) else content.encode())
            out.close()
    return Folder()


def lines(first, end):
    return "".join(json.dumps({"id": i, "text": f"é {i}"}) + "\n" for i in range(first, end))


def write(project, source):
    project.write("schemas/sale.avsc", json.dumps(SCHEMA))
    project.write("pipelines/p.lua", f"""return pipeline "p" {{ storage = delta {{ root = "lake" }}, commit = {{ every = "50ms" }},
  sources = {{ source "bronze.sale" {{ {source} }} }} }}""")


def read(project):
    return lake.by_deltalake(project.root / "lake/bronze/sale") if any((project.root / "lake/bronze/sale").glob("_delta_log/*.json")) else pa.table({"id": []})


def ids(project):
    return sorted(read(project).column("id").to_pylist())


def test_each_object_once_by_patterns_of_folders(project, cloud, folder):
    folder.put("day=1/a.jsonl", lines(0, 100_000))  # more than one request
    folder.put("day=1/b.jsonl.gz", gzip.compress(lines(100_000, 100_100).encode()))
    folder.put("day=2/c.jsonl", lines(200_000, 200_010)[:-1])
    folder.put("day=2/deeper/not.jsonl", lines(0, 10))
    folder.put("day=2/c.csv", "no")
    folder.put("other/d.jsonl", lines(0, 10))
    write(project, f'files {{ path = "{folder.url}/day=*/*.jsonl*" }}, json {{ schema = "schemas/sale.avsc" }}')
    project.run("pipelines/p.lua", env=cloud.environment())
    wanted = [*range(100_100), *range(200_000, 200_010)]
    assert ids(project) == wanted
    assert set(read(project).column("_topic").to_pylist()) == {f"{folder.url}/day=1/a.jsonl", f"{folder.url}/day=1/b.jsonl.gz", f"{folder.url}/day=2/c.jsonl"}
    folder.put("day=3/e.jsonl", lines(300_000, 300_005))
    project.run("pipelines/p.lua", env=cloud.environment())
    assert ids(project) == [*wanted, *range(300_000, 300_005)]


@pytest.mark.parametrize("partitions", ["", ', partitions = "file", open = 3'])
def test_followed_through_kills_and_a_store_that_stammers(new_project, cloud, folder, partitions):
    project = new_project("followed")
    prefix = "side" if partitions else "one"
    proxy = Proxy(cloud.port, seed=7)
    environment = through(cloud, proxy)
    write(project, f'files {{ path = "{folder.url}/{prefix}/*.jsonl", poll = "100ms"{partitions} }}, json {{ schema = "schemas/sale.avsc" }}')
    total = 0
    try:
        for number in range(4):
            folder.put(f"{prefix}/{number:03}.jsonl", lines(number * 10_000, number * 10_000 + 5000))
            total += 5000
            process = project.start("run", "pipelines/p.lua", env=environment)
            wait_until(lambda least=total - 5000 * (number % 2): read(project).num_rows >= least, 60)
            process.send_signal(signal.SIGTERM if number == 2 else signal.SIGKILL)
            process.communicate()
    finally:
        proxy.stop()
    project.run("pipelines/p.lua", env=cloud.environment())
    assert ids(project) == [number * 10_000 + i for number in range(4) for i in range(5000)]


def test_parquet_objects(project, cloud, folder):
    for number in range(3):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": range(number * 100, number * 100 + 50), "text": ["x"] * 50}), sink)
        folder.put(f"in/{number}.parquet", sink.getvalue().to_pybytes())
    write(project, f'parquet {{ path = "{folder.url}/in/*.parquet" }}')
    project.run("pipelines/p.lua", env=cloud.environment())
    project.run("pipelines/p.lua", env=cloud.environment())
    assert ids(project) == [number * 100 + i for number in range(3) for i in range(50)]


def test_what_cannot_be_listed_is_refused_by_name(project, cloud, folder):
    for path, said in [(f"{folder.url}/{{a,b}}.jsonl", "names no objects"), (f"{cloud.url.split('//')[0]}//f*/a.jsonl", "names no objects"),
                       (f"{folder.url}/absent.jsonl", "there is no file")]:
        write(project, f'files {{ path = "{path}" }}, json {{ schema = "schemas/sale.avsc" }}')
        outcome = project.weir("run", "pipelines/p.lua", "--until-end", env=cloud.environment())
        assert outcome.code != 0 and said in outcome.err, outcome


def test_an_object_replaced_while_it_was_read_is_refused(project, cloud, folder):
    folder.put("a.jsonl", lines(0, 20_000))
    write(project, f'files {{ path = "{folder.url}/*.jsonl" }}, json {{ schema = "schemas/sale.avsc" }}')
    stopped = project.weir("run", "pipelines/p.lua", "--until-end", env={**cloud.environment(), "WEIR_FAULT": "ledger_after_sync:1:kill"})
    assert stopped.code == -9
    folder.put("a.jsonl", "replaced\n" * 1000)
    outcome = project.weir("run", "pipelines/p.lua", "--until-end", env=cloud.environment())
    assert (outcome.code == 0) == (read(project).num_rows == 20_000), outcome
    if outcome.code != 0:
        assert "is not the file that was being read" in outcome.err
