"""Which validation was the best so far, and whether patience with the run is exhausted."""

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
        """Record the validation after `iteration`. Returns whether it is the best so far."""
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
