"""`manage.py quantize BASE`: a base model with fewer bits a weight, if it stays faithful."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.bases import registration
from registry.conversion import conversions
from registry.conversion.fidelity import LIMITS, Limits
from registry.errors import NotFound
from registry.management.hub_command import HubCommand
from registry.models import BaseModel, Dataset


class Command(HubCommand):
    help = "Quantize a base model into a new one. It is kept only when it still behaves like the original."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("base", help="name of the base model")
        parser.add_argument("--bits", type=int, choices=conversions.BITS, default=4)
        parser.add_argument("--group-size", type=int, choices=conversions.GROUP_SIZES, default=64)
        parser.add_argument("--name", default="", help="name of the new one; else BASE-4bit")
        parser.add_argument("--dataset", help="judge on its held-out rows; else the starter's")
        add_limits(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        made = conversions.quantize_base(
            registration.find_base(options["base"]),
            options["bits"],
            options["group_size"],
            name=options["name"],
            dataset=_dataset(options["dataset"]),
            limits=limits(options),
        )
        report(self, made)


def add_limits(parser: CommandParser) -> None:
    """The flags of the certificate's limits."""
    parser.add_argument(
        "--max-kl", type=float, default=LIMITS.most_kl, help="nats per token, at most"
    )
    parser.add_argument(
        "--min-top1", type=float, default=LIMITS.least_top1, help="share of same first tokens"
    )
    parser.add_argument(
        "--tokens", type=int, default=LIMITS.most_tokens, help="tokens that are compared"
    )


def limits(options: dict[str, Any]) -> Limits:
    """The limits that the flags say. Raises CommandError."""
    if options["tokens"] < 1:
        raise CommandError("--tokens must be at least 1.")
    return Limits(options["max_kl"], options["min_top1"], options["tokens"])


def report(command: BaseCommand, base: BaseModel) -> None:
    """What was made and how faithful it is."""
    found = base.certificate
    command.stdout.write(
        f"{base.name} is made: {base.quantization}, {base.size_bytes / 1e6:,.0f} MB. "
        f"KL {found['kl']:.4f}, same first token {found['top1']:.1%}, perplexity "
        f"{found['perplexity']:.3f} → {found['converted_perplexity']:.3f} "
        f"over {found['tokens']} tokens."
    )


def _dataset(name: str | None) -> Dataset | None:
    if name is None:
        return None
    found = Dataset.objects.filter(name__iexact=name).order_by("-revision").first()
    if found is None:
        raise NotFound(f"There is no data set {name!r}.")
    return found
