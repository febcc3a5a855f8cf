"""The prompt templates as files, and the renderer that fills them."""
