"""Every benchmark in turn, as `make bench` runs them; RESULTS.md keeps the figures."""

import subprocess
import sys

RUNS = (
    ("bench_weight",),
    ("bench_ingest",),
    ("bench_store", "--sizes", "10000,100000"),
    ("bench_linears",),
    ("bench_engine", "--workload", "bundled"),
    ("bench_engine", "--workload", "idefics3", "--requests", "64"),
    ("bench_end_to_end",),
)

for module, *arguments in RUNS:
    print(f"\n{module} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments], check=True)
