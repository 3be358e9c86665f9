"""The page of a prepared data set, reports/data/<dataset>.html: its report, and some of its rows."""

import itertools

from tunesmith.core import formatting
from tunesmith.data.prepare import NOT_BAD
from tunesmith.reports import charts, templating, vendored
from tunesmith.reports.charts import Chart, Row
from tunesmith.reports.data_set.data_report import DataReport, Distribution
from tunesmith.reports.data_set.data_rows import WITHHELD, PageRows


def page(report: DataReport, rows: PageRows) -> str:
    """The page as HTML. It holds text of rows, bounded, and is as private as they are."""
    distributions = {"turns": report["turns"]}
    if (tokens := report["tokens"]) is not None:
        distributions |= {"tokens of the prompt": tokens["prompt"], "tokens of prompt and answer": tokens["whole"]}
    charts_of = {measure: histogram(distribution, measure) for measure, distribution in distributions.items()}
    return templating.render_html(
        "data.html.j2",
        report=report,
        rows=rows,
        distributions=distributions,
        charts=charts_of,
        not_bad=NOT_BAD,
        withheld=WITHHELD,
        vega=vendored.script(*vendored.CHARTS),
    )


def histogram(distribution: Distribution, measure: str) -> Chart:
    """The number of rows by what is counted of each, such as turns."""
    edges, counts = distribution["histogram"]["edges"], distribution["histogram"]["counts"]
    bars: list[Row] = [
        {
            "start": low - 0.5,  # so that a number stands below the middle of its own bar
            "end": high - 0.5,
            "range": f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}",
            "rows": count,
        }
        for (low, high), count in zip(itertools.pairwise(edges), counts, strict=True)
    ]
    return charts.chart(
        "histogram.json",
        bars,
        title=f"Number of rows by {measure}",
        columns={"range": (measure, str), "rows": ("rows", formatting.count)},
        anchors={"<MEASURE>": measure},
    )
