"""``ipp-mirror completion``."""

import click
from click.shell_completion import get_completion_class

from tasks.commands.types import Word

_USE = {
    "bash": 'To use this, add to ~/.bashrc: eval "$(ipp-mirror completion bash)"',
    "zsh": 'To use this, add to ~/.zshrc: eval "$(ipp-mirror completion zsh)"',
    "fish": "To use this: ipp-mirror completion fish > ~/.config/fish/completions/ipp-mirror.fish",
}
_EXAMPLES = """\b
Examples:
  eval "$(ipp-mirror completion bash)"
  ipp-mirror completion fish > ~/.config/fish/completions/ipp-mirror.fish
"""


@click.command(epilog=_EXAMPLES)
@click.argument("shell", metavar="SHELL", type=Word(list(_USE)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell: bash, zsh or fish.

    The last line of the script is a comment on its use.
    """
    script = get_completion_class(shell)
    assert script is not None, f"Click has no completion for {shell}"
    # Click's convention for the name of the variable that requests completion.
    source = script(context.find_root().command, {}, "ipp-mirror", "_IPP_MIRROR_COMPLETE").source()
    # Last, as the first line must be zsh's own.
    click.echo(f"{source.rstrip()}\n# {_USE[shell]}")
