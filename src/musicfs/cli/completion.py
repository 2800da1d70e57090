"""`musicfs completion`: the script that makes a shell complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from musicfs.errors import UsageError


@click.command(short_help="Print the script that makes a shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and the ids of origins.

    \b
    Put one of these lines into the file that your shell reads at its start:
      eval "$(musicfs completion bash)"          in ~/.bashrc
      eval "$(musicfs completion zsh)"           in ~/.zshrc
      musicfs completion fish | source           in ~/.config/fish/config.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"There is no completion for {shell}.")
    click.echo(made(context.find_root().command, {}, "musicfs", "_MUSICFS_COMPLETE").source())
