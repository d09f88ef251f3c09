"""What experiment.sh has seen, in a few lines: python3 tests/gpu/summary.py OUT"""

import csv
import json
import statistics
import sys
from pathlib import Path


def main() -> None:
    out = Path(sys.argv[1])
    jobs = json.loads((out / "jobs.json").read_text())
    for name in sorted({job["class"] for job in jobs}):
        of_class = [job for job in jobs if job["class"] == name]
        latency = [(job["wait_us"] + job["run_us"]) / 1e6 for job in of_class]
        run = [job["run_us"] / 1e6 for job in of_class]
        print(
            f"{name}: {len(of_class)} jobs; on a lane {statistics.median(run):.3f} s in the middle, {max(run):.3f} s at most; "
            f"from submission to end {statistics.median(latency):.3f} s, {max(latency):.3f} s"
        )
    status = json.loads((out / "status.json").read_text())
    for of_class in status["classes"]:
        partition = of_class["partition"]
        peak, cap = (partition[key] / 1e9 for key in ("peak_bytes", "cap_bytes"))
        print(f"{of_class['name']}: {peak:.2f} GB at most, as the daemon counts, of a partition of {cap:.2f} GB")
    curve = out / "nvidia-smi.csv"
    if curve.exists():
        with curve.open() as file:
            used = [int(row[1].split()[0]) * 2**20 / 1e9 for row in list(csv.reader(file, skipinitialspace=True))[1:]]
        print(f"nvidia-smi: {used[0]:.2f} GB when it began, {max(used):.2f} GB at most, {used[-1]:.2f} GB at the end")
    for line in (out / "metrics.txt").read_text().splitlines():
        if line.startswith(("gpusched_lane_device_seconds_total", "gpusched_device_info")):
            print(line)


if __name__ == "__main__":
    main()
