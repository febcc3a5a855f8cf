"""Model names of the dummy, available without importing it."""

CHAT_MODEL = "dummy-chat"
EMBEDDING_MODEL = "dummy-embedding"
