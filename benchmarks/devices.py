"""What a benchmark tells of the device it ran on."""

import torch
from figures import peak_gib


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device: torch.device) -> dict[str, float]:
    """The most memory held so far, in GiB: of this process, and of tensors on a GPU if one is used.

    The process's share counts the CUDA libraries it loaded, some gigabytes, which no tensor needs.
    """
    peak = {"peak_gib": peak_gib()}
    if device.type == "cuda":
        peak["gpu_peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return peak
