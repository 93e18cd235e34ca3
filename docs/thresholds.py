"""Makes the tables of thresholds in ``docs/systems`` anew from the records in ``docs/results``.

    python docs/thresholds.py

``bin/reproduce`` does so for the page of its own record; this is for records that came otherwise.
"""

import pathlib

from jaxmedgen.experiments.reproductions.record import update_page

DOCS = pathlib.Path(__file__).parent

if __name__ == "__main__":
    for record in sorted((DOCS / "results").glob("*.json")):
        update_page(record, DOCS / "systems" / record.name.replace(".json", ".md"))
