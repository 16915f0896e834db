"""The figures that decide about a version, in words: their names and how they are said."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Measure:
    """`label` names it in tables. `said` has a place for its value in a sentence. A `share` is shown
    in percent, and one that is `counted` is so many examples of all; of a figure that is not `higher`,
    less is better."""

    label: str
    said: str = ""
    share: bool = False
    counted: bool = False
    higher: bool = True

    def show(self, value: float) -> str:
        """`86 %`, `0.93`, `14.4`."""
        if self.share:
            return percent(value)
        return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2f}"

    def say(self, value: float) -> str:
        """`86 % of answers exact`."""
        return self.said.format(self.show(value))


_MEASURES = {
    "exact_match": Measure("Exact answers", "{} of answers exact", share=True, counted=True),
    "field_f1": Measure("Fields right (F1)", "{} of fields right (F1)", share=True),
    "field_precision": Measure("Field precision", "precision of fields {}", share=True),
    "field_recall": Measure("Field recall", "recall of fields {}", share=True),
    "json": Measure("Fields right by answer", "{} of fields right by answer", share=True),
    "macro_f1": Measure("Labels right (macro F1)", "{} of labels right (macro F1)", share=True),
    "accuracy": Measure("Labels right", "{} of labels right", share=True, counted=True),
    "contains": Measure(
        "Answer contained", "{} of answers contain the expected one", share=True, counted=True
    ),
    "f1": Measure("Words shared (F1)", "{} of words shared with the expected (F1)", share=True),
    "perplexity": Measure("Perplexity", "perplexity {} on held-out text", higher=False),
    "val_loss": Measure("Validation loss", higher=False),
    "best_val_loss": Measure("Best validation loss", higher=False),
    "best_iteration": Measure("Best step"),
    "test_loss": Measure("Test loss", higher=False),
    "train_loss": Measure("Train loss", higher=False),
    "tokens_per_second": Measure("Tokens/s"),
    "peak_memory_bytes": Measure("Peak memory", higher=False),
}


def measure(name: str) -> Measure:
    """A figure without words of its own is called by its name."""
    if known := _MEASURES.get(name):
        return known
    if name.startswith("base_"):
        own = measure(name.removeprefix("base_"))
        return replace(own, label=f"{own.label} of the base")
    words = name.removesuffix("_bytes").replace("_", " ")
    return Measure(words[:1].upper() + words[1:])


def percent(value: float) -> str:
    """0.8333 → `83 %`; what is not quite 0 or 100 is never shown as that."""
    shown = 100 * value
    if 0 < shown < 0.1:
        return "< 0.1 %"
    if 99.9 < shown < 100:
        return "> 99.9 %"
    return f"{shown:.1f} %" if 0 < shown < 10 or 99 < shown < 100 else f"{shown:.0f} %"
