"""`mlx-hub completion`: what makes a shell complete the names of commands and their options."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

_SCRIPT = """\
[ -n "$ZSH_VERSION" ] && autoload -U +X bashcompinit && bashcompinit
_mlx_hub() {
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD DJANGO_AUTO_COMPLETE=1 mlx-hub))
}
complete -F _mlx_hub -o default mlx-hub
"""


class Command(BaseCommand):
    help = 'Print what makes bash or zsh complete mlx-hub: eval "$(mlx-hub completion)".'
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(_SCRIPT)
