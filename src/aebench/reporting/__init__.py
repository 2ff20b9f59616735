"""From metrics to tables, figures and a page."""
