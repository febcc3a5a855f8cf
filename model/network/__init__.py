"""The network: item tables, encoder, three threads, transition memory."""
