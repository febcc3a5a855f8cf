"""Operating system: `.env`, ports, proxies, memory, guarded processes."""
