"""Which validation was the best so far, and whether waiting for a better one is over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Best:
    """Kept in checkpoints, so that a resumed run stops and ends where the whole one would."""

    loss: float | None = None
    iteration: int = 0  # of that loss
    validated: int = 0  # the last iteration that was validated
    waited: int = 0  # validations since the best

    def see(self, iteration: int, loss: float) -> bool:
        """Take the validation after `iteration`; is it the best?"""
        self.validated = iteration
        if self.loss is not None and not loss < self.loss:
            self.waited += 1
            return False
        self.loss, self.iteration, self.waited = loss, iteration, 0
        return True

    def exhausted(self, patience: int) -> bool:
        return 0 < patience <= self.waited

    def metrics(self) -> dict[str, float]:
        if self.loss is None:
            return {}
        return {"best_val_loss": self.loss, "best_iteration": self.iteration}


def infinite(lines: list[int], iteration: int) -> str:
    """What TrainingDiverged says of a step on these lines of train.jsonl."""
    shown = [str(line) for line in sorted(set(lines))]
    more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
    word = "line" if len(shown) == 1 else "lines"
    return (
        f"Loss or gradient became infinite at iteration {iteration}, on train.jsonl, {word} "
        f"{', '.join(shown[:20])}{more}; lower the learning rate or look at these examples."
    )
