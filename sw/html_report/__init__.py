"""A run as one page that needs nothing else: every figure of it comes from the run.

    from sw.html_report import write
    found, checked = run("fmnist-scnn")
    write("run.html", found, checked, "spiketicket run --report run.html")

`facts` computes what the page says, `pictures` draws what it shows, `page` puts both into
`page.html`, which holds the layout. docs/report.md says what each part means.
"""

from .page import check_name, write

__all__ = ["check_name", "write"]
