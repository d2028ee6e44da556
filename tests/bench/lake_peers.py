"""The lake beside its peers, one core, one run: our writer and reader (bench_delta_writer, bench_parquet), then delta-rs and
pyarrow on the very same rows, from Arrow tables in memory to files, zstd level 1. CPU time, best of the repetitions.

usage: python3 tests/bench/lake_peers.py [ROWS, default 5000000] [REPETITIONS, default 3]
Runs itself in build/venv when that is there. Every process is held to one core.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
VENV = ROOT / "build/venv/bin/python"
CORE = sorted(os.sched_getaffinity(0))[-1]
THREE = ["id", "qty", "country"]
TUNED = {"row_group_size": 1 << 20, "write_page_index": True, "use_dictionary": ["key", "sku", "qty", "country"],
         "column_encoding": {"id": "DELTA_BINARY_PACKED", "event_time": "DELTA_BINARY_PACKED", "note": "DELTA_LENGTH_BYTE_ARRAY"}}


def size_of(path):
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def best(repetitions, work):
    seconds = []
    for _ in range(repetitions):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def report(name, rows, seconds, path=None):
    print(f"peer {name:<31} {rows / seconds / 1e6:6.2f} M rows/s of CPU" + (f", {size_of(path) / 1e6:.1f} MB" if path else ""), flush=True)


def peers(plain, folder, repetitions):
    import pyarrow
    import pyarrow.parquet as parquet
    from deltalake import DeltaTable, WriterProperties, write_deltalake

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    table = parquet.read_table(plain, use_threads=False).combine_chunks()
    delta, file = folder / "delta", folder / "table.parquet"

    def append():
        shutil.rmtree(delta, ignore_errors=True)
        write_deltalake(delta, table, writer_properties=WriterProperties(compression="ZSTD", compression_level=1))

    report("delta-rs append", table.num_rows, best(repetitions, append), delta)
    for name, options in (("pyarrow append, tuned", TUNED), ("pyarrow append", {})):
        seconds = best(repetitions, lambda o=options: parquet.write_table(table, file, compression="zstd", compression_level=1, **o))
        report(name, table.num_rows, seconds, file)
    for name, columns in (("full", None), ("3 of 9", THREE)):
        report(f"delta-rs scan, {name}", table.num_rows, best(repetitions, lambda c=columns: DeltaTable(delta).to_pyarrow_table(columns=c)))
        report(f"pyarrow scan, {name}", table.num_rows, best(repetitions, lambda c=columns: parquet.read_table(file, columns=c, use_threads=False)))
        coded = ["key", "sku", "country"] if columns is None else ["country"]
        seconds = best(repetitions, lambda c=columns, d=coded: parquet.read_table(file, columns=c, use_threads=False, read_dictionary=d))
        report(f"pyarrow scan, {name}, coded", table.num_rows, seconds)


def main():
    rows, repetitions = (sys.argv[1:] + ["5000000", "3"][len(sys.argv) - 1:])[:2]
    os.sched_setaffinity(0, {CORE})
    with tempfile.TemporaryDirectory(prefix="weir-peers-") as name:
        folder = pathlib.Path(name)
        if len(sys.argv) > 3:  # the inner run, in the venv
            return peers(sys.argv[3], folder, int(repetitions))
        plain = folder / "plain.parquet"
        for bench, more in (("bench_parquet", [str(plain)]), ("bench_delta_writer", [str(folder)])):
            if subprocess.run([str(BUILD / "bench" / bench), rows, repetitions, *more], check=False).returncode != 0:
                return 1
        python = str(VENV) if VENV.exists() else sys.executable
        return subprocess.run([python, __file__, rows, repetitions, str(plain)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main() or 0)
