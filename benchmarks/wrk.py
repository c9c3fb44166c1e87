"""wrk as the load for plain keep-alive: absolute-form request lines, and the sums checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.load import Job, Tally
from benchmarks.process import HOST, BenchmarkError

_SCRIPT = """\
wrk.path = "http://{host}:{port}/"
wrk.headers["Host"] = "{host}:{port}"
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{{"done": %d, "microseconds": %d, "bytes": %d, "p99": %d, "errors": %d}}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
"""


def available() -> bool:
    return shutil.which("wrk") is not None


def run(job: Job, connections: int, seconds: float, answer_size: int, folder: Path) -> Tally:
    """The same as `load.run` for a plain keep-alive job. wrk sees every status and no body, so beside its own error
    counts the bytes it read must be what that many answers of `answer_size` have."""
    script = folder / "wrk.lua"
    script.write_text(_SCRIPT.format(host=job.host, port=job.port))
    whole = max(1, round(seconds))  # wrk knows no fractions
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "-s", str(script), f"http://{HOST}:{job.proxy_port}/"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    with process.stdout as output:
        printed = output.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    try:
        numbers = json.loads(printed.strip().rpartition("\n")[2])
    except ValueError:
        raise BenchmarkError(f"wrk printed no numbers:\n{printed[-1000:]}") from None
    tally = Tally(numbers["microseconds"] / 1e6, numbers["done"], generator_seconds=usage.ru_utime + usage.ru_stime)
    if numbers["errors"]:
        tally.errors.append(f"wrk counted {numbers['errors']} errors")
    unfinished = numbers["bytes"] - numbers["done"] * answer_size
    if not 0 <= unfinished <= connections * answer_size:
        tally.errors.append(f"{numbers['done']} answers of {answer_size} bytes cannot be {numbers['bytes']} bytes")
    return tally
