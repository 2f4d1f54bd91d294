"""What a net can and cannot do, as numbers (JSON), pictures (HTML) and words (Markdown)."""
