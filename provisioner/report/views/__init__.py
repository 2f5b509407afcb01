"""Views: one module for each type of result, which says how it is shown as a report, charts and tables."""
