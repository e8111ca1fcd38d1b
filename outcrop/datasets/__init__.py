"""Datasets: lines to records, records to a report, records to a plan."""
