"""Asking language models: who answers, how hard they are driven, what is kept, what it costs."""
