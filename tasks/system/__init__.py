"""The machine below: settings in `.env`, ports, processes that end with their parent."""
