"""Scores -> one HTML page that needs nothing else: no network, no server, readable without scripts.

    write_report("report.html", [ReportRow(question, steps, scores) for ...])
    write_report("report.html", benchmark_rows(benchmark, scores), title="Errors on gsm8k")

`rows` is what the user gives, `judged` what its scores say; `page` is the HTML around `summary` and each `solution`.
report.css and report.js go into the page as they are.
"""

from vllm_prm.report.page import write_report
from vllm_prm.report.rows import ReportRow, benchmark_rows

__all__ = ["ReportRow", "benchmark_rows", "write_report"]
