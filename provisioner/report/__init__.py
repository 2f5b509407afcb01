"""Results to text and tables: terminal, CSV, markdown, JSON, HTML and data frames. Results in, text out."""
