"""Files on one machine: durable, locked, private."""
