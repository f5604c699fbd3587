"""Stops a run whose numbers are numbers no more, before they become a black picture."""

import torch


def require_finite(numbers: torch.Tensor, where: str) -> None:
    """Raises FloatingPointError where an element is NaN or infinite, with one sentence.

    `where` names the stage, as the beginning of that sentence.
    """
    wrong = int(numbers.numel() - torch.isfinite(numbers).sum())
    if wrong:
        dtype = str(numbers.dtype).removeprefix("torch.")
        raise FloatingPointError(
            f"{where} has {wrong} of {numbers.numel()} numbers that are not finite (NaN or "
            f"infinite) in {dtype}: choose a precision with a larger range (fp32 or bf16), or "
            "another model."
        )
