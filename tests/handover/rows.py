"""rows.py usage.db: the rows of all tables, sorted: the table and the columns, separated by tabs."""

import sqlite3
import sys

db = sqlite3.connect(sys.argv[1])
tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
for (table,) in tables:
    for row in sorted(db.execute(f"SELECT * FROM {table}")):
        print(table, *row, sep="\t")
