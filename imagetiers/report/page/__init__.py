"""The report: one HTML file that needs nothing else, of what records and verdicts say."""
