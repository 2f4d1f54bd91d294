"""Reports on a net in numbers (JSON), pictures (HTML) and words (Markdown)."""
