"""What the dummy endpoint calls its models: known to a run also where nothing is asked."""

CHAT_MODEL = "dummy-chat"
EMBEDDING_MODEL = "dummy-embedding"
